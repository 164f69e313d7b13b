"""Measures jaxnets on a GPU, or whatever JAX computes on: `python -m tests.benchmarks.accelerator`.

Three tables, printed and written as Markdown, which begins with the name of the device:

- ops: the time of forward and backward together, beside those of autodiff, of jax.nn and Optax, and
  of PyTorch, eager and compiled, in float32 and bfloat16; and which share of the device's bandwidth
  that is. Numbers such as a slope are constants.
  The bandwidth is what negating an array reaches. The bytes are those that no forward followed by a
  backward can do without: arguments, outputs, cotangents and gradients, and once more what this op
  saves between the two. On a CPU, whose caches hold much of it and whose bandwidth varied fourfold
  from one run to the next, the share says little.
- sweeps: 20, 200 and 2,000 perceptrons, per step of one, against one after the other in PyTorch, of
  which 20 tell the time of one.
- convnet: a training step of the ConvNet of 2018 against PyTorch, channels-last.

A ratio is the median time of jaxnets over that of the other, all taking turns, but for the ops that
PyTorch compiles, which follow the others. On Linux all reuse their memory: a new array of 16 MB is
4,096 new pages, which can take longer to get than to fill. An accelerator is given several calls of
an op in a row, so that it does not wait for the next. Products of float32 have the digits that JAX
gives them by default, on a GPU those of TF32, and in PyTorch as many. PyTorch is left out where it
is not installed, or does not see the GPU that JAX computes on.
"""

import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.progress import track

from jaxnets import autodiff, ops
from jaxnets._catalog import CATALOG, Entry
from jaxnets._costs import residual_bytes
from tests.benchmarks.convolution import (
    BATCH,
    STEPS,
    compiled_call,
    medians,
    of_jaxnets,
    of_pytorch,
)
from tests.benchmarks.mutations import Point
from tests.benchmarks.training import Work, in_pytorch, ours
from train.engine import devices
from train.engine.input_pipeline import Data, Sets

Part = Literal["ops", "sweeps", "convnet"]
Rows = list[list[str]]

TABLES = Path(__file__).parent / "tables"
DTYPES = ("float32", "bfloat16")
IN_A_ROW = 10  # Calls of an op on an accelerator.


def device_in_words() -> str:
    """The device in words."""
    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"CPU, {len(jax.devices())} cores (JAX finds no accelerator)"
    return f"{first.device_kind}, {len(jax.devices())} of them"


# --- ops -----------------------------------------------------------------------------------------


class Peers(NamedTuple):
    """The same function of others, of the arguments of the catalog."""

    jax: Callable[..., Any]
    torch: Callable[..., Any]  # `torch(functional)` is the function.


def _norm(axis: int) -> Callable[..., Any]:
    return lambda x, scale, bias: jax.nn.standardize(x, axis, epsilon=1e-5) * scale + bias


def _images_last(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of PyTorch's on images [N, rows, columns, channels], which stay where they lie."""
    return lambda x, *rest: function(x.permute(0, 3, 1, 2), *rest).permute(0, 2, 3, 1)


def _convolution(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return bias + jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


def _pool(x: jax.Array) -> jax.Array:
    window = ((1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)


PEERS = {
    "linear": Peers(
        lambda x, w, b: x @ w + b, lambda f: lambda x, w, b: f.linear(x, w.T, b)
    ),
    "conv2d": Peers(
        _convolution,
        lambda f: _images_last(
            lambda x, kernel, bias: f.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1)
        ),
    ),
    "max_pool2d": Peers(
        _pool, lambda f: _images_last(lambda x: f.max_pool2d(x, 3, stride=2, padding=1))
    ),
    "relu": Peers(jax.nn.relu, lambda f: f.relu),
    "leaky_relu": Peers(jax.nn.leaky_relu, lambda f: f.leaky_relu),
    "elu": Peers(jax.nn.elu, lambda f: f.elu),
    "gelu": Peers(lambda x: jax.nn.gelu(x, approximate=False), lambda f: f.gelu),
    "gelu (approximate)": Peers(jax.nn.gelu, lambda f: lambda x: f.gelu(x, approximate="tanh")),
    "silu": Peers(jax.nn.silu, lambda f: f.silu),
    "tanh": Peers(jnp.tanh, lambda f: f.tanh),
    "sigmoid": Peers(jax.nn.sigmoid, lambda f: f.sigmoid),
    "softplus": Peers(jax.nn.softplus, lambda f: f.softplus),
    "softmax": Peers(jax.nn.softmax, lambda f: lambda x: f.softmax(x, -1)),
    "log_softmax": Peers(jax.nn.log_softmax, lambda f: lambda x: f.log_softmax(x, -1)),
    "softmax_cross_entropy": Peers(
        optax.softmax_cross_entropy_with_integer_labels,
        lambda f: lambda x, labels: f.cross_entropy(x, labels.long(), reduction="none"),
    ),
    "softmax_cross_entropy (distributions)": Peers(
        optax.softmax_cross_entropy,
        lambda f: lambda x, labels: f.cross_entropy(x, labels, reduction="none"),
    ),
    "batch_norm": Peers(
        _norm(0), lambda f: lambda x, s, b: f.batch_norm(x, None, None, s, b, training=True)
    ),
    "layer_norm": Peers(_norm(-1), lambda f: lambda x, s, b: f.layer_norm(x, s.shape, s, b)),
    "rms_norm": Peers(
        lambda x, s: x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * s,
        lambda f: lambda x, s: f.rms_norm(x, s.shape, s, 1e-5),
    ),
    "dropout": Peers(
        lambda x, key: jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0),
        lambda f: lambda x, key: f.dropout(x, 0.3),
    ),
}  # fmt: skip


# Of a batch of feature maps, 32 x 32 x 32 positions and 64 channels, besides the size of all.
MAPS = {"batch_norm": (32 * 32 * 32, 64)}


def arguments_of(
    name: str, sample: Callable, dtype: str, large: bool, shape: tuple[int, ...] | None = None
) -> tuple:
    """The arguments of an op at the size that is measured, or in a shape."""
    rng, kind = np.random.default_rng(0), jnp.dtype(dtype)
    if shape is not None:
        return sample(rng, shape, kind)
    shape = (16384, 4096) if large else (4096, 1024)
    if name == "linear":
        shape = (4096, 4096) if large else (512, 1024)
        return *(jnp.asarray(rng.standard_normal(s), kind) for s in (shape, shape[1:] * 2)), (
            jnp.zeros(shape[1:], kind)
        )
    if "2d" in name or "global" in name:
        batch, channels = (256, 128) if large else (32, 64)
        shapes = [(batch, 32, 32, channels)]
        if name == "conv2d":
            shapes += [(3, 3, channels, channels), (channels,)]
        return tuple(jnp.asarray(rng.standard_normal(s), kind) for s in shapes)
    return sample(rng, shape, kind)


def each_op(rounds: int, large: bool) -> Rows:
    """Rows of the table of ops."""
    rows = [
        [
            *("op", "x", "dtype", "ms", "of bandwidth"),
            *("autodiff", "jax.nn, Optax", "PyTorch", "torch.compile"),
        ]
    ]
    bandwidth = _bandwidth(rounds, large)
    skipped = ("axis 0", "smoothing", "no bias", "3x3", "stride", "depthwise")
    entries = [entry for entry in CATALOG if not any(word in entry.variant for word in skipped)]
    for entry in track(entries, "ops", disable=not sys.stderr.isatty()):
        function = ops.conv2d if entry.op == "conv2d" else entry.function
        shapes = (None, MAPS[entry.name]) if entry.name in MAPS else (None,)
        for own_shape, dtype in itertools.product(shapes, DTYPES):
            arguments = arguments_of(entry.name, entry.sample, dtype, large, own_shape)
            peers = PEERS.get(entry.name)
            functions = {"ours": function, "autodiff": autodiff(function)}
            if peers:
                functions["jax.nn, Optax"] = peers.jax
            points = {
                name: _of_arrays(entry._replace(function=f), arguments)
                for name, f in functions.items()
            }
            times = IN_A_ROW if large else 1
            contestants = {name: _jax_call(point, times) for name, point in points.items()}
            if peers and _torch_device():
                contestants["PyTorch"] = _torch_call(peers.torch, arguments, times, False)
            found = medians(contestants, rounds)
            if peers and _torch_device():
                # Not in turns: its threads spin on for a while where another's begin.
                compiled = {"torch.compile": _torch_call(peers.torch, arguments, times, True)}
                found |= medians(compiled, rounds)
            ratios = [f"{found['ours'] / found[c]:.2f}" if c in found else "" for c in rows[0][5:]]
            seconds = found["ours"] / times
            share = _least_bytes(points["ours"]) / seconds / bandwidth
            largest = max(jax.tree.leaves(arguments), key=lambda leaf: leaf.size)
            shape = "x".join(map(str, largest.shape))
            milliseconds = f"{seconds * 1e3:.3f}"
            rows.append([entry.name, shape, dtype, milliseconds, f"{share:.2f}", *ratios])
            print("  ".join(rows[-1]), flush=True)
    return rows


def _of_arrays(entry: Entry, arguments: tuple) -> Point:
    """Return an op of its arrays alone; numbers are constants, as PyTorch has them."""
    places = [k for k, leaf in enumerate(arguments) if leaf.ndim]

    def function(*arrays: jax.Array) -> Any:
        whole = list(arguments)
        for k, array in zip(places, arrays, strict=True):
            whole[k] = array
        return entry.function(*whole)

    arrays = tuple(arguments[k] for k in places)
    return Point(entry._replace(function=function), arrays, entry.name)


def _jax_call(point: Point, times: int) -> Callable[[], Any]:
    """Forward and backward, compiled."""
    function, floats = point.differentiable()
    cotangents = jax.tree.map(jnp.ones_like, jax.eval_shape(function, *floats))

    def both(floats, cotangents):
        y, pull_back = jax.vjp(function, *floats)
        return y, pull_back(cotangents)

    return compiled_call(both, (floats, cotangents), times)


def _torch_device() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    if jax.devices()[0].platform == "cpu":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else None


def _torch_call(
    function: Callable, arguments: tuple, times: int, compiled: bool
) -> Callable[[], Any]:
    """Forward and backward of PyTorch, eager or compiled."""
    import torch

    def tensor(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return None
        if leaf.ndim == 0:
            return float(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return torch.tensor(np.asarray(leaf), device=_torch_device())
        dtype = getattr(torch, leaf.dtype.name)
        found = torch.tensor(np.asarray(leaf, np.float32), dtype=dtype, device=_torch_device())
        return found.requires_grad_()

    tensors = [tensor(leaf) for leaf in arguments]
    floats = [t for t in tensors if getattr(t, "requires_grad", False)]
    forward = function(torch.nn.functional)
    if compiled:
        torch.compiler.reset()  # It compiles one function anew only so often.
        forward = torch.compile(forward, dynamic=False)
    cotangent = torch.ones_like(forward(*tensors))

    def call():
        for _ in range(times):
            torch.autograd.grad(forward(*tensors), floats, cotangent)
        if tensors[0].is_cuda:
            torch.cuda.synchronize()

    return call


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _least_bytes(point: Point) -> int:
    function, floats = point.differentiable()
    outputs = jax.eval_shape(function, *floats)
    return 2 * _bytes(floats) + 2 * _bytes(outputs) + residual_bytes(function, *floats)


def _bandwidth(rounds: int, large: bool) -> float:
    """Bytes read and written in a second."""
    x = jnp.ones((16384, 4096) if large else (4096, 1024), jnp.float32)
    times = IN_A_ROW if large else 1
    seconds = medians({"": compiled_call(jnp.negative, (x,), times)}, rounds)[""] / times
    return 2 * x.nbytes / seconds


# --- sweeps and networks -------------------------------------------------------------------------


def sweeps(rounds: int, large: bool) -> Rows:
    """Rows of the table of sweeps: 784-100-10, batch 200, Adam, on random images."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(2000, 28, 28, 1), dtype=np.uint8)
    labels = rng.integers(10, size=2000, dtype=np.int32)
    data = Data(*map(jnp.asarray, (images, labels, np.zeros((28, 28, 1), np.float32))), 0.01)
    data = data._replace(scale=jnp.float32(0.01))
    rows = [["networks", "us per step of one", "PyTorch, one after the other"]]
    for runs in (20, 200, 2000):
        work = Work(Sets(data, None, data), (100,), "relu", "adam", (1e-3,), runs, 200, 10)
        contestants = {"ours": ours(work)}
        measured = work._replace(seeds=min(runs, 20))  # As many as tell the time of one.
        if _torch_device():
            contestants["PyTorch"] = in_pytorch(measured, True, 2, _torch_device())
        found = medians(contestants, max(3, rounds // 4))
        one = {
            name: found[name] / work.steps / n
            for name, n in (("ours", runs), ("PyTorch", measured.seeds))
            if name in found
        }
        ratio = f"{one['ours'] / one['PyTorch']:.3f}" if "PyTorch" in one else ""
        rows.append([f"{runs:,}", f"{one['ours'] * 1e6:.1f}", ratio])
        print("  ".join(rows[-1]), flush=True)
    return rows


def convnet(rounds: int, large: bool) -> Rows:
    """Rows of the table of the ConvNet of 2018: a step, batch 32, Adam, float32."""
    contestants = {"ours": of_jaxnets()}
    if _torch_device():
        contestants["PyTorch"] = of_pytorch("channels-last", device=_torch_device())
    found = medians(contestants, rounds)
    ratio = f"{found['ours'] / found['PyTorch']:.2f}" if "PyTorch" in found else ""
    row = [str(BATCH), f"{found['ours'] / STEPS * 1e3:.2f}", ratio]
    print("  ".join(row), flush=True)
    return [["batch", "ms per step", "PyTorch, channels-last"], row]


# --- the command ---------------------------------------------------------------------------------

PARTS: dict[Part, Callable[[int, bool], Rows]] = {
    "ops": each_op, "sweeps": sweeps, "convnet": convnet,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Measure on the device that JAX computes on, and write tables of ratios."""

    parts: Annotated[tuple[Part, ...], tyro.conf.Positional] = tuple(PARTS)
    """What to measure; everything if nothing is named."""
    rounds: int = 20
    """How many times each contestant is measured."""


def markdown(rows: Rows) -> str:
    """Return rows, the first of them the head, as a table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


# So that the C library keeps what is freed, of all threads in one place; and threads that wait
# leave the cores to others.
REUSED = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**30),
    "OMP_WAIT_POLICY": "PASSIVE",
}


def main(options: Options) -> int:
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        command = [sys.executable, "-m", "tests.benchmarks.accelerator", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | REUSED)
    devices.set_up()
    large = jax.devices()[0].platform != "cpu"
    print(device := device_in_words(), flush=True)
    if _torch_device() is None:
        print("PyTorch is left out")
    else:
        import torch

        torch.set_float32_matmul_precision("high")  # TF32 where there is one, as in JAX.
    tables = [f"# {device}", __doc__.split("\n\n", 2)[2] if __doc__ else ""]
    for part in options.parts:
        tables += [f"## {part}", markdown(PARTS[part](options.rounds, large))]
    TABLES.mkdir(exist_ok=True)
    path = TABLES / (re.sub(r"\W+", "-", jax.devices()[0].device_kind).lower() + ".md")
    path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=Options.__doc__)))
