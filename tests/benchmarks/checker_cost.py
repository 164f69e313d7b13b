"""What `gradcheck` costs beside `check_grads`: `python -m tests.benchmarks.checker_cost`.

Each row is measured in processes of its own: the first call, cold, then the same once more. CPU
seconds count all threads, so that other programs on the machine matter little.
"""

import json
import resource
import subprocess
import sys
import time
from typing import Literal

import jax
import jax.monitoring
import jax.numpy as jnp
import jax.test_util
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxnets import gradcheck
from jaxnets._catalog import CATALOG

Checker = Literal["gradcheck", "check_grads"]
ROWS = ("layer_norm", "relu", "softmax", "softmax_cross_entropy", "linear", "dropout")
SHAPE = (8, 16)
MILLION = (1000, 1000)
_COMPILED = "/jax/core/compile/backend_compile_duration"


def measure(checker: Checker, op: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Run a checker twice in this process; return compilations, CPU seconds and memory."""
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: event == _COMPILED and compilations.append(seconds)
    )
    entry = next(entry for entry in CATALOG if entry.name == op)
    arguments = entry.sample(np.random.default_rng(0), shape, jnp.dtype("float32"))
    jax.block_until_ready(arguments)
    floats = [x for x in arguments if jnp.issubdtype(x.dtype, jnp.floating)]
    rest = arguments[len(floats) :]

    def run():
        if checker == "gradcheck":
            return gradcheck(entry.function, *arguments)
        return jax.test_util.check_grads(
            lambda *floats: entry.function(*floats, *rest), floats, order=1, modes=["rev"]
        )

    compilations.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, counts = [], []
    for _ in range(2):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
        counts.append(len(compilations))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    return {"compilations": counts[0], "cold": seconds[0], "warm": seconds[1], "GB": memory}


def measured(checker: Checker, op: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Return `measure` of a process of its own."""
    words = [checker, op, json.dumps(shape)]
    command = [sys.executable, "-m", "tests.benchmarks.checker_cost", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Print the table."""
    table = Table("op", "shape", title="gradcheck | check_grads = ratio")
    for column in ("compilations", "CPU s, cold", "CPU s, warm", "memory (GB)"):
        table.add_column(column, justify="right", no_wrap=True)
    for op, shape in [*((op, SHAPE) for op in ROWS), ("layer_norm", MILLION)]:
        ours, theirs = (measured(checker, op, shape) for checker in ("gradcheck", "check_grads"))
        cells = [
            f"{ours[k]:.2f} | {theirs[k]:.2f} = {ours[k] / theirs[k]:.1f}" for k in ("cold", "warm")
        ]
        counts = [int(one["compilations"]) for one in (ours, theirs)]
        table.add_row(
            op,
            "x".join(map(str, shape)),
            f"{counts[0]} | {counts[1]} = {counts[0] / counts[1]:.1f}",
            *cells,
            f"{ours['GB']:.2f} | {theirs['GB']:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], tuple(json.loads(sys.argv[3])))))
    else:
        sys.exit(main())
