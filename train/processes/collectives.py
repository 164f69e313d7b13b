"""What several processes do together: every one of them calls these functions, in the same order.

Each process runs the same program, and computes its own part of arrays that lie on the devices of
all. Where there is one process alone, all of this costs nothing.
"""

import json
import os
import sys
from typing import Any

import numpy as np

from train.errors import ConfigError

# JAX is imported where it is used: `processes.join` comes before.


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    import jax

    return jax.process_index() == 0


def gathered(value: Any) -> list[Any]:
    """Return what each process has, in their order; it is what JSON can hold."""
    import jax
    from jax.experimental.multihost_utils import process_allgather

    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = process_allgather(np.int32(len(text)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    rows = process_allgather(padded)
    return [
        json.loads(bytes(row[:length])) for row, length in zip(rows, lengths.ravel(), strict=True)
    ]


def wait() -> None:
    """Wait until all are here."""
    gathered(None)


def meet(values: dict[str, Any]) -> None:
    """Begin to work together, after which the first process alone has a standard output.

    Args:
        values: what has to be the same in all of them, by name.

    Raises:
        ConfigError: something is not; it names it.
    """
    import jax

    if jax.process_count() == 1:
        return
    # Gloo says on the standard output whom it has met. There is none, but for what Python prints.
    sys.stdout.flush()
    shown = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if is_first():
        sys.stdout = os.fdopen(shown, "w")
    first, *others = gathered(values)
    for number, found in enumerate(others, 1):
        for name in first:
            if first[name] != found.get(name):
                raise ConfigError(
                    f"{name}: is {found.get(name)} of process {number}, and {first[name]} of "
                    f"process 0; start the same command everywhere"
                )
