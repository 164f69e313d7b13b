"""What several processes do together: every one of them calls these functions, in the same order.

Each process runs the same program, and computes its own part of arrays that lie on the devices of
all. Where there is one process alone, all of this costs nothing.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from train.allowed import ConfigError

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


def on_host(tree: Any) -> Any:
    """Return arrays of JAX as NumPy's, wherever they lie; of typed random keys, the data."""
    import jax
    from jax.experimental.multihost_utils import process_allgather

    def fetched(leaf: Any) -> Any:
        leaf = key_data(leaf)
        if here(leaf) or leaf.is_fully_replicated:
            return np.asarray(leaf)
        return np.asarray(process_allgather(leaf, tiled=True))

    return jax.tree.map(fetched, tree)


def here(leaf: Any) -> bool:
    """Whether an array lies on the devices of this process alone, or is one of NumPy."""
    return getattr(leaf, "is_fully_addressable", True)


def key_data(leaf: Any) -> Any:
    """Return an array, or of typed random keys, the data."""
    import jax

    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def is_key(leaf: Any) -> bool:
    """Whether an array is one of typed random keys."""
    import jax

    return jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key)


def placed(tree: Any, sharding: Any) -> Any:
    """Put arrays that each process has on the devices; each moves what its own devices hold."""
    import jax

    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> Any:
        data = np.asarray(key_data(leaf))
        found = assembled(data.shape, sharding, data.__getitem__)
        return jax.random.wrap_key_data(found) if is_key(leaf) else found

    return jax.tree.map(put, tree)


def assembled(shape: tuple[int, ...], sharding: Any, part: Callable[[Any], np.ndarray]) -> Any:
    """Return an array on the devices; `part(index)` is called for what those of this process hold.

    Args:
        shape: of the whole.
        sharding: where its parts lie; None for the one device.
        part: a tuple of slices to the array there.
    """
    import jax

    if sharding is None:
        return jax.device_put(part((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, sharding, part)
