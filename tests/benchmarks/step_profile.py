"""Where the time of a training step goes: `python -m tests.benchmarks.step_profile`.

A step of a network with Adam runs under JAX's profiler, which says how long each instruction of the
compiled program takes. The program's text says which line of which file an instruction comes from,
and so of which kind it is. A fusion counts for the line of its last operation. The shares are of
one thread's work; instructions that run at the same time on several cores count each.
"""

import collections
import glob
import gzip
import json
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.table import Table

from jaxnets import layers, nets, ops
from tests.benchmarks.convolution import STAGES

Net = Literal["convnet", "mlp"]

STEPS = 10
# By the end of the file that an instruction comes from; the first that fits.
KINDS = {
    "_winograd.py": "transforms of Winograd's tiles",
    "_matrix_forms.py": "shifted inputs, patches",
    "_windows.py": "shifted inputs, patches",
    "_conv_forms.py": "shifted inputs, patches",
    "norm.py": "norms",
    "pool.py": "pools",
    "activations.py": "activations",
    "losses.py": "loss",
    "softmax.py": "loss",
    "optax/": "optimizer",
}


def net_of(name: Net) -> tuple[layers.Layer, tuple[int, ...], int]:
    """Return a network, the shape of its input and the size of a batch."""
    if name == "convnet":
        return nets.convnet(STAGES), (32, 32, 3), 32
    return nets.mlp((100,)), (3072,), 200


def compiled_step(name: Net) -> tuple[jax.stages.Compiled, tuple, tuple]:
    """Return a compiled step with Adam, what it carries on, and a batch."""
    net, shape, batch = net_of(name)
    params, state, _ = net.init(jax.random.key(0), shape)
    optimizer = optax.adam(1e-4)

    def loss(params, state, x, labels):
        logits, state = net.apply(params, state, x, training=True)
        return ops.softmax_cross_entropy(logits, labels).mean(), state

    def step(carry, batch):
        params, state, moments = carry
        grads, state = jax.grad(loss, has_aux=True)(params, state, *batch)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), state, moments

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((batch, *shape)), jnp.float32)
    labels = jnp.asarray(rng.integers(10, size=batch), jnp.int32)
    # Copied, because one array may not be donated twice.
    carry = jax.tree.map(lambda a: jnp.array(a, copy=True), (params, state, optimizer.init(params)))
    compiled = jax.jit(step, donate_argnums=0).lower(carry, (x, labels)).compile()
    return compiled, carry, (x, labels)


def microseconds(step: Callable, carry: tuple, batch: tuple) -> dict[str, float]:
    """Return how long each instruction of the program takes in a step."""
    for _ in range(3):
        carry = step(carry, batch)
    jax.block_until_ready(carry)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                carry = jax.block_until_ready(step(carry, batch))
        (name,) = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
        with gzip.open(name) as file:
            events = json.load(file)["traceEvents"]
    found: dict[str, float] = collections.defaultdict(float)
    for event in events:
        if event.get("ph") == "X":
            found[event["name"]] += event["dur"] / STEPS
    return found


def kinds_of(text: str) -> dict[str, str]:
    """Return the kind of each instruction of a compiled program, by its text."""
    tables = {
        name: dict(re.findall(r"^(\d+) (.*)$", rows, re.M))
        for name, rows in re.findall(
            r"^(FileNames|FileLocations|StackFrames)\n(.*?)\n\n", text, re.M | re.S
        )
    }

    def files(frame: str):
        """Yield the files of a stack, the innermost first."""
        while frame in tables["StackFrames"]:
            location, parent = re.findall(r"_id=(\d+)", tables["StackFrames"][frame])
            (number,) = re.findall(r"file_name_id=(\d+)", tables["FileLocations"][location])
            yield tables["FileNames"][number].strip('"')
            if parent == frame:
                return
            frame = parent

    bodies = dict(re.findall(r"^%(\S+) .*?\{\n(.*?)^\}", text, re.M | re.S))
    found = {}
    for name, rest in re.findall(r"^ +(?:ROOT )?%(\S+) = (.*)$", text, re.M):
        called = re.search(r"calls=%([\w.\-]+)", rest)
        inside = bodies.get(called[1], "") if called else ""
        frame = re.search(r"stack_frame_id=(\d+)", rest)
        if re.search(r"\bdot\(", rest + inside):
            found[name] = "matrix products"
            continue
        stack = list(files(frame[1])) if frame else []
        fits = (kind for file in stack for end, kind in KINDS.items() if end in file)
        found[name] = next(fits, "other")
    return found


def main(net: Net = "convnet") -> int:
    """Profile a training step.

    Args:
        net: "convnet", of five stages at batch 32, or "mlp", 3072-100-10 at batch 200.
    """
    step, carry, batch = compiled_step(net)
    spent = microseconds(step, carry, batch)
    kinds = kinds_of(step.as_text())
    sums: dict[str, float] = collections.defaultdict(float)
    counts: dict[str, int] = collections.defaultdict(int)
    for name in kinds.keys() & spent.keys():
        sums[kinds[name]] += spent[name]
        counts[kinds[name]] += 1
    table = Table("", "instructions", "ms a step", "share", title=f"a training step of {net}, Adam")
    whole = sum(sums.values())
    for kind, value in sorted(sums.items(), key=lambda pair: -pair[1]):
        table.add_row(kind, str(counts[kind]), f"{value / 1e3:.2f}", f"{value / whole:.0%}")
    table.add_section()
    table.add_row("all", str(sum(counts.values())), f"{whole / 1e3:.2f}", "")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
