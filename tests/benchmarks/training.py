"""How fast training is, as ratios to other ways of doing the same work in the same minutes.

python -m tests.benchmarks.training

The others are PyTorch on the CPU (not installed: those rows stay empty), a Flax NNX and Optax loop,
and our own program with all hand-written gradients forgotten. Each has the images as bytes in
memory, and per step gathers a batch, brings it into the form that the network sees, goes forward
and backward and updates. All take turns, round after round, and a ratio is the median over the
rounds of the ratio within a round, in brackets the quartiles: the speed of a machine drifts.

PyTorch runs eagerly, with as many threads as there are processors, and with the faster of its fused
and plain Adam. Flax's step is an `nnx.jit` function called from a Python loop, its graph cached.
Ours is what the commands run, with the loop on the host around it.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

from jaxnets import initializers, nets
from train import data
from train.config import Training
from train.program import batches, hyperparameters, make_program, on_device
from train.trainer import Trainer

try:
    import torch
except ModuleNotFoundError:
    torch = None

SHAPES = {"cifar10": (32, 32, 3), "mnist": (28, 28, 1)}
EXAMPLES = {"cifar10": 50_000, "mnist": 60_000}
ROUNDS = 9

Round = Callable[[], None]  # Takes all steps of a round.


def load(name: str) -> Any:
    """The data set, or random bytes in its shape where it is not there."""
    try:
        return data.load(name)
    except data.DataError as error:
        print(f"random images for {name}: {error}\n")
        rng = np.random.default_rng(0)
        found = {}
        for split, count in (("train", EXAMPLES[name]), ("test", 10_000)):
            found[f"{split}_images"] = rng.integers(
                256, size=(count, *SHAPES[name]), dtype=np.uint8
            )
            found[f"{split}_labels"] = rng.integers(10, size=count, dtype=np.int32)
        return SimpleNamespace(name=name, **found)


# --- the contestants -----------------------------------------------------------------------------


def ours(dataset, hidden, activation, optimizer, rates, seeds, batch_size, steps, gradient):
    """Train len(rates) * seeds networks as a sweep does."""

    def network(hyper):
        return nets.mlp([hidden, 10], activation=activation, initializer=initializers.he)

    train, test = on_device(dataset, "standardize")
    few = test._replace(images=test.images[:1], labels=test.labels[:1])  # Evaluation takes no time.
    program = make_program(network, dataset.train_images.shape[1:], optimizer, gradient)
    trainer = Trainer(
        program,
        [hyperparameters({"learning_rate": rate}) for rate in rates for _ in range(seeds)],
        list(range(seeds)) * len(rates),
        Training(batch_size=batch_size, eval_every=steps, optimizer=optimizer),
        train,
        few,
    )
    evaluations = trainer.train([steps * 1000], lambda step, rate: None)
    next(evaluations)
    return lambda: next(evaluations)


def in_pytorch(dataset, hidden, activation, optimizer, rates, seeds, batch_size, steps):
    """Train one network after the other, each for steps / (len(rates) * seeds) of the round."""
    size = dataset.train_images[0].size
    images = torch.from_numpy(dataset.train_images.reshape(-1, size).copy())
    labels = torch.from_numpy(dataset.train_labels.astype(np.int64))
    mean = dataset.train_images.mean(0, dtype=np.float64).astype(np.float32).reshape(size)
    mean, scale = torch.from_numpy(mean), 1 / 64
    order = batches(0, len(labels), batch_size)

    def one(rate):
        model = torch.nn.Sequential(
            torch.nn.Linear(size, hidden),
            {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[activation](),
            torch.nn.Linear(hidden, 10),
        )
        update = optimizer(model.parameters(), rate)

        def train():
            losses = []
            for _ in range(steps):
                batch = torch.from_numpy(next(order))
                x = (images[batch].float() - mean) * scale
                loss = torch.nn.functional.cross_entropy(model(x), labels[batch])
                update.zero_grad()
                loss.backward()
                update.step()
                losses.append(loss.detach())
            return float(losses[-1])

        return train

    runs = [one(rate) for rate in rates for _ in range(seeds)]
    return lambda: [run() for run in runs]


def in_flax(dataset, hidden, activation, rate, batch_size, steps):
    size = dataset.train_images[0].size
    images = jax.device_put(dataset.train_images.reshape(-1, size))
    labels = jax.device_put(dataset.train_labels)
    mean = dataset.train_images.mean(0, dtype=np.float64).astype(np.float32).reshape(size)
    mean, scale = jax.device_put(mean), 1 / 64
    order = batches(0, len(labels), batch_size)

    class Mlp(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(size, hidden, rngs=rngs)
            self.output = nnx.Linear(hidden, 10, rngs=rngs)

        def __call__(self, x):
            return self.output({"relu": nnx.relu}[activation](self.hidden(x)))

    @nnx.jit
    def step(model, update, images, labels, mean, batch):
        def loss(model):
            logits = model((images[batch].astype(np.float32) - mean) * scale)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        update.update(model, gradients)
        return value

    model = Mlp(nnx.Rngs(0))
    update = nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)
    cached = nnx.cached_partial(step, model, update)

    def train():
        for _ in range(steps):
            value = cached(images, labels, mean, next(order))
        value.block_until_ready()

    return train


# --- taking turns --------------------------------------------------------------------------------


def seconds(rounds: dict[str, Round]) -> dict[str, np.ndarray]:
    """The time of each round of each contestant, [ROUNDS]; one round to warm up is not counted."""
    found: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(ROUNDS + 1):
        for name, go in rounds.items():
            started = time.perf_counter()
            go()
            found[name].append(time.perf_counter() - started)
    return {name: np.array(times[1:]) for name, times in found.items()}
