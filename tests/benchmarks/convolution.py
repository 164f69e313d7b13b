"""Measures convolutional networks: `python -m tests.benchmarks.convolution [PART ...]`.

Every figure is a ratio of medians of rounds in which all contestants take turns, so that a busy
moment hits all of them. jaxnets runs as in `train`, a scan over steps in one program. What uses
XLA's convolution runs a compiled step at a time, which is faster for it. PyTorch is measured if it
is installed (`pip install torch`); it is no requirement of the tests.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from jaxnets import autodiff, layers, nets, ops
from jaxnets._costs import residual_bytes
from jaxnets.ops import _matrix_forms, _winograd
from jaxnets.ops._windows import window_on
from train.engine import devices
from train.engine.hyperparameters import hyperparameters
from train.engine.input_pipeline import Data, Sets
from train.engine.program import make_program
from train.engine.trainer import Trainer
from train.flags.config import Training

Part = Literal["step", "ops", "bytes", "sweep", "forms"]
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
BATCH, STEPS = 32, 4

# --- the contestants: each a function that trains STEPS steps, and returns when they are done ---


def batches(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((STEPS, BATCH, 32, 32, 3)).astype(np.float32)
    return x, rng.integers(10, size=(STEPS, BATCH)).astype(np.int32)


def of_jaxnets(
    transform: Callable = lambda f: f, net: layers.Layer | None = None, *, scan: bool = True
) -> Callable:
    """The net, with its loss transformed before it is differentiated."""
    net = net or nets.convnet(STAGES)
    params, state, _ = net.init(jax.random.key(0), (32, 32, 3))

    def loss(params, state, x, labels):
        logits, state = net.apply(params, state, x, training=True)
        return ops.softmax_cross_entropy(logits, labels).mean(), state

    return _trained(transform(loss), params, state, scan=scan)


def _trained(loss: Callable, params, state, *, scan: bool = True) -> Callable:
    """Train by a scan over steps, or by a compiled step, in which XLA's convolutions are faster."""
    optimizer = optax.adam(1e-4)

    def step(carry, batch):
        params, state, moments = carry
        grads, state = jax.grad(loss, has_aux=True)(params, state, *batch)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), state, moments), None

    data = jax.tree.map(jnp.asarray, batches(np.random.default_rng(0)))
    if scan:
        train = jax.jit(lambda carry, data: jax.lax.scan(step, carry, data)[0], donate_argnums=0)
    else:
        one = jax.jit(lambda carry, batch: step(carry, batch)[0], donate_argnums=0)

        def train(carry, data):
            for i in range(STEPS):
                carry = one(carry, jax.tree.map(lambda a: a[i], data))  # noqa: B023
            return carry

    carry = jax.tree.map(jnp.array, (params, state, optimizer.init(params)))

    def run():
        nonlocal carry
        carry = jax.block_until_ready(train(carry, data))

    return run


def xla_net() -> layers.Layer:
    """The net of XLA's convolution and pooling, whose gradients autodiff has to find."""

    def conv(features):
        init = layers.Conv2d(features, initializer=nets.initializers.pytorch).init

        def apply(params, state, x, *, key=None, training=False):
            y = jax.lax.conv_general_dilated(
                x, params["weight"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return y + params["bias"], state

        return layers.Layer("conv", init, apply)

    def pool():
        window = ((1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
        layer = layers.MaxPool2d(3, stride=2, padding=1)

        def apply(params, state, x, *, key=None, training=False):
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window), state

        return layer._replace(apply=apply)

    parts = []
    for stage in STAGES:
        for features in stage:
            parts += [conv(features), layers.BatchNorm(), layers.Relu()]
        parts.append(pool())
    return layers.serial(*parts, layers.GlobalAvgPool(), layers.Linear(10))


def of_flax() -> Callable:
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            blocks, channels = [], 3
            for stage in STAGES:
                for features in stage:
                    blocks += [
                        nnx.Conv(channels, features, (3, 3), rngs=rngs),
                        nnx.BatchNorm(features, rngs=rngs),
                        nnx.relu,
                    ]
                    channels = features
                blocks.append(
                    functools.partial(
                        nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
                    )
                )
            self.blocks = nnx.List(blocks)
            self.head = nnx.Linear(channels, 10, rngs=rngs)

        def __call__(self, x):
            for block in self.blocks:
                x = block(x)
            return self.head(x.reshape(x.shape[0], -1))

    graph, params, state = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, state, x, labels):
        net = nnx.merge(graph, params, state, copy=True)
        logits = net(x)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, nnx.split(net, nnx.Param, ...)[2]

    return _trained(loss, params, state, scan=False)


def of_equinox() -> Callable:
    import equinox as eqx

    keys = iter(jax.random.split(jax.random.key(0), 16))
    blocks, channels = [], 3
    for stage in STAGES:
        for features in stage:
            blocks += [
                eqx.nn.Conv2d(channels, features, 3, padding=1, key=next(keys)),
                eqx.nn.BatchNorm(features, axis_name="batch", mode="batch"),
                eqx.nn.Lambda(jax.nn.relu),
            ]
            channels = features
        blocks.append(eqx.nn.MaxPool2d(3, 2, padding=1))
    blocks += [eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(channels, 10, key=next(keys))]
    net, state = eqx.nn.make_with_state(eqx.nn.Sequential)(blocks)
    params, static = eqx.partition(net, eqx.is_inexact_array)

    def loss(params, state, x, labels):
        net = eqx.combine(params, static)
        apply = jax.vmap(net, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        logits, state = apply(x.transpose(0, 3, 1, 2), state)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), state

    return _trained(loss, params, state, scan=False)


def of_pytorch(memory_format: str, runs: int = 1, device: str | None = None) -> Callable:
    import torch

    torch.set_num_threads(2)
    layout = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}[memory_format]

    def one(seed):
        torch.manual_seed(seed)
        parts, channels = [], 3
        for stage in STAGES:
            for features in stage:
                parts += [
                    torch.nn.Conv2d(channels, features, 3, padding=1),
                    torch.nn.BatchNorm2d(features),
                    torch.nn.ReLU(),
                ]
                channels = features
            parts.append(torch.nn.MaxPool2d(3, stride=2, padding=1))
        parts += [torch.nn.Flatten(), torch.nn.Linear(channels, 10)]
        net = torch.nn.Sequential(*parts).to(device, memory_format=layout)
        return net, torch.optim.Adam(net.parameters(), lr=1e-4)

    trained = [one(seed) for seed in range(runs)]
    x, labels = batches(np.random.default_rng(0))
    images = [
        torch.tensor(a.transpose(0, 3, 1, 2), device=device).to(memory_format=layout) for a in x
    ]
    targets = [torch.tensor(a, dtype=torch.int64, device=device) for a in labels]

    def run():
        for net, optimizer in trained:
            for image, target in zip(images, targets, strict=True):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(image), target).backward()
                optimizer.step()
        if images[0].is_cuda:
            torch.cuda.synchronize()

    return run


def medians(
    contestants: dict[str, Callable], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of a call of each, the calls taking turns."""
    for call in contestants.values():
        call()
        call()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


# --- the parts -----------------------------------------------------------------------------------


def step(rounds: int) -> None:
    """A training step of the ConvNet."""
    quick = {"jaxnets": of_jaxnets()}
    quick |= {f"PyTorch, {f}": of_pytorch(f) for f in _pytorch_formats()}
    _report("training step, ConvNet 2018, batch 32, Adam", medians(quick, rounds), STEPS)
    slow = {
        "jaxnets": quick["jaxnets"],
        "autodiff of jaxnets": of_jaxnets(autodiff),
        "autodiff of XLA's ops": of_jaxnets(autodiff, xla_net(), scan=False),
        "Flax NNX": of_flax(),
        "Equinox": of_equinox(),
    }
    _report("the same", medians(slow, max(rounds // 4, 3)), STEPS)


def _pytorch_formats() -> Sequence[str]:
    try:
        import torch  # noqa: F401
    except ImportError:
        print("PyTorch is not installed: left out")
        return ()
    return "NCHW", "channels-last"


def _report(title: str, seconds: dict[str, float], steps: int = 1) -> None:
    print(f"{title}:", flush=True)
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:<24}{value / steps * 1e3:9.2f} ms   jaxnets / it {first / value:6.2f}")


CONVOLUTIONS = {
    # Of both ConvNets: channels, features, rows and columns, kernel.
    (3, 64, 32, 3), (64, 64, 32, 3), (64, 128, 32, 1), (64, 128, 16, 3), (128, 128, 16, 3),
    (128, 256, 16, 1), (128, 256, 8, 3), (256, 256, 8, 3), (256, 512, 8, 1), (256, 512, 4, 3),
    (512, 512, 4, 3), (512, 512, 2, 3),
}  # fmt: skip
POOLS = ((64, 32), (128, 32), (128, 16), (256, 16), (256, 8), (512, 8), (512, 4), (512, 2))


def each_op(rounds: int) -> None:
    """Forward and backward of each op at each shape, in a loop as in training."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    for channels, features, n, k in sorted(CONVOLUTIONS, key=lambda c: (-c[2], c)):
        x, kernel, bias = (
            normal(BATCH, n, n, channels),
            normal(k, k, channels, features),
            normal(features),
        )

        def xla(x, kernel, bias):
            return bias + jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        name = f"conv2d {channels} -> {features}, {n}x{n}, kernel {k}x{k}"
        _one_op(name, ops.conv2d, xla, (x, kernel, bias), rounds)
    pool = functools.partial(ops.max_pool2d, window=3, stride=2, padding=1)
    for channels, n in POOLS:
        _one_op(
            f"max_pool2d {channels}, {n}x{n}", pool, None, (normal(BATCH, n, n, channels),), rounds
        )
    _one_op(
        "avg_pool2d 512, 1x1",
        lambda x: ops.avg_pool2d(x, 1),
        None,
        (normal(BATCH, 1, 1, 512),),
        rounds,
    )
    _one_op(
        "global_avg_pool 512, 1x1", ops.global_avg_pool, None, (normal(BATCH, 1, 1, 512),), rounds
    )


def _one_op(name, function, xla, arguments, rounds):
    dy = jnp.ones_like(jax.eval_shape(function, *arguments), jnp.float32)

    def both(function):
        def run(arguments, dy):
            y, pull_back = jax.vjp(function, *arguments)
            return y, pull_back(dy)

        return compiled_call(run, (arguments, dy))

    contestants = {"jaxnets": both(function), "autodiff": both(autodiff(function))}
    if xla:
        contestants["autodiff of XLA's"] = both(xla)
    _report(name, medians(contestants, rounds))


def compiled_call(function: Callable, arguments: tuple, times: int = 1) -> Callable:
    compiled = jax.jit(function).lower(*arguments).compile()

    def call():
        for _ in range(times):
            results = compiled(*arguments)
        jax.block_until_ready(results)

    return call


def saved_bytes(rounds: int) -> None:
    """What a step of the ConvNet keeps from forward to backward."""
    saved = {}
    for name, net, transform in (
        ("jaxnets", nets.convnet(STAGES), lambda f: f),
        ("autodiff of jaxnets", nets.convnet(STAGES), autodiff),
        ("autodiff of XLA's ops", xla_net(), autodiff),
    ):
        params, state, _ = net.init(jax.random.key(0), (32, 32, 3))
        x, labels = (a[0] for a in batches(np.random.default_rng(0)))

        def loss(params, net=net, state=state, x=x, labels=labels):
            logits, _ = net.apply(params, state, x, training=True)
            return ops.softmax_cross_entropy(logits, labels).mean()

        saved[name] = residual_bytes(transform(loss), params)
    print("saved from forward to backward:")
    for name, value in saved.items():
        print(f"  {name:<24}{value / 1e6:9.1f} MB   jaxnets / it {saved['jaxnets'] / value:6.2f}")


def sweep(rounds: int) -> None:
    """Ten ConvNets, that is seeds, as `train.convnet` trains them, against PyTorch."""
    runs = 10
    x, labels = (np.concatenate(a) for a in batches(np.random.default_rng(0)))
    shift, scale = np.zeros(x.shape[1:], np.float32), np.float32(1)
    examples = Data(*map(jnp.asarray, (x, labels, shift, scale)))
    trainer = Trainer(
        make_program(lambda hyper: nets.convnet(STAGES), x.shape[1:], "adam"),
        [hyperparameters({"learning_rate": 1e-4})] * runs,
        list(range(runs)),
        Training(batch_size=BATCH, eval_every=STEPS),
        Sets(examples, None, examples),
    )
    evaluations = trainer.train([STEPS * 1000], lambda step, steps_per_second: None)
    next(evaluations)
    contestants = {"jaxnets": lambda: next(evaluations)}
    contestants |= {f"PyTorch, {f}": of_pytorch(f, runs) for f in _pytorch_formats()}
    _report("ten ConvNets, a step of all", medians(contestants, max(rounds // 2, 3)), STEPS)


def each_form(rounds: int) -> None:
    """What `_conv_forms` chooses among: the three products of each form, in CPU time."""
    rng = np.random.default_rng(0)
    for channels, features, n, k in sorted(CONVOLUTIONS, key=lambda c: (-c[2], c)):
        shapes = (BATCH, n, n, channels), (k, k, channels, features), (BATCH, n, n, features)
        x, kernel, dy = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes)
        window = window_on("conv2d", x, (k, k), 1, "SAME")
        contestants = {}
        forms = {
            "shifted": _matrix_forms.SHIFTED,
            "patches": _matrix_forms.PATCHES,
            "winograd": _winograd.WINOGRAD,
        }
        for name, form in forms.items():
            if name == "winograd" and not _winograd.suits(window):
                continue

            def all_three(x, kernel, dy, form=form, window=window):
                return (
                    form.outputs(x, kernel, window),
                    form.input_gradient(dy, kernel, window),
                    form.kernel_gradient(x, dy, window, None),
                )

            contestants[name] = compiled_call(all_three, (x, kernel, dy))
        seconds = medians(contestants, rounds, time.process_time)
        figures = "".join(f"{name:>10}{value * 1e3:9.2f}" for name, value in seconds.items())
        print(
            f"{channels:>4} -> {features:<4}{n:>3}x{n:<3}kernel {k}x{k} {figures}  (ms)", flush=True
        )


PARTS: dict[Part, Callable[[int], None]] = {
    "step": step, "ops": each_op, "bytes": saved_bytes, "sweep": sweep, "forms": each_form,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Measure convolutional networks against autodiff, XLA's ops, Flax, Equinox and PyTorch."""

    parts: Annotated[tuple[Part, ...], tyro.conf.Positional] = tuple(PARTS)
    """What to measure; everything if nothing is named."""
    rounds: int = 12
    """How many times each contestant is measured."""


def main(options: Options) -> int:
    devices.set_up()
    for part in options.parts:
        PARTS[part](options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=Options.__doc__)))
