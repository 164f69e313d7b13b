"""How fast training is, as ratios to other ways of doing the same work in the same minutes.

python -m tests.benchmarks.training

The others are PyTorch on the CPU (not installed: no ratio), a loop in Flax NNX and Optax, and our
own program with all hand-written gradients forgotten. Each has the images as bytes in memory, and
per step gathers a batch, brings it into the form that the network sees, goes forward and backward,
and updates. All take turns, round after round; a ratio is the median over the rounds of the ratio
within a round, with the quartiles behind it, because the speed of a machine drifts.

PyTorch runs eagerly, and its fastest form counts: with its fused or its plain optimizer, with a
thread for each core or, for batches of one, also a single thread. Twenty of its networks are
trained one after the other. Flax's step is an `nnx.jit` function called from a Python loop, its
graph cached. Ours is the trainer of the commands, the loop on the host included, evaluation not.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

from jaxnets import nets
from train import data
from train.engine import devices
from train.engine.hyperparameters import hyperparameters
from train.engine.input_pipeline import Data, Sets, batches, on_device
from train.engine.program import make_program
from train.engine.trainer import Trainer
from train.errors import DataError
from train.flags.config import Training

TORCH = importlib.util.find_spec("torch") is not None

ROUNDS = 7  # And one before them that is not counted.


class Work(NamedTuple):
    """What everyone does in a round: `steps` steps of each of len(rates) * seeds networks."""

    sets: Sets
    hidden: tuple[int, ...]
    activation: str
    optimizer: str  # "adam" or "sgd".
    rates: tuple[float, ...]
    seeds: int
    batch_size: int
    steps: int


# --- the contestants: each makes a function that does a round ------------------------------------


def ours(work: Work, gradient: str = "explicit") -> Callable[[], Any]:
    def network(hyper):
        return nets.mlp([*work.hidden, 10], activation=work.activation)

    train = work.sets.train
    trainer = Trainer(
        make_program(network, train.x.shape[1:], work.optimizer, gradient=gradient),
        [
            hyperparameters({"learning_rate": rate})
            for rate in work.rates
            for _ in range(work.seeds)
        ],
        list(range(work.seeds)) * len(work.rates),
        Training(batch_size=work.batch_size, eval_every=work.steps),
        work.sets,
    )
    evaluations = trainer.train([work.steps * 1000], lambda step, steps_per_second: None)
    next(evaluations)
    return lambda: next(evaluations)


def flattened(train: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Images [N, features], labels, shift and scale."""
    images, labels, shift = map(np.array, train[:3])
    return images.reshape(len(images), -1), labels, shift.reshape(-1), float(train.scale)


def in_pytorch(
    work: Work, fused: bool, threads: int, device: str | None = None
) -> Callable[[], Any]:
    import torch

    *arrays, scale = flattened(work.sets.train)
    images, labels, shift = (torch.from_numpy(array).to(device) for array in arrays)
    labels = labels.long()
    order = batches(0, len(labels), work.batch_size)
    activation = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[work.activation]
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[work.optimizer]

    def run(rate: float) -> Callable[[], Any]:
        parts, inputs = [], images.shape[1]
        for width in work.hidden:
            parts += [torch.nn.Linear(inputs, width), activation()]
            inputs = width
        model = torch.nn.Sequential(*parts, torch.nn.Linear(inputs, 10)).to(device)
        update = optimizer(model.parameters(), rate, fused=fused)

        def train():
            losses = []
            for _ in range(work.steps):
                batch = torch.from_numpy(next(order)).to(device)
                x = (images[batch].float() - shift) * scale
                loss = torch.nn.functional.cross_entropy(model(x), labels[batch])
                update.zero_grad()
                loss.backward()
                update.step()
                losses.append(loss.detach())
            return torch.stack(losses).cpu().numpy()

        return train

    runs = [run(rate) for rate in work.rates for _ in range(work.seeds)]

    def one_after_the_other():
        torch.set_num_threads(threads)
        return [train() for train in runs]

    return one_after_the_other


def in_flax(work: Work) -> Callable[[], Any]:
    *arrays, scale = flattened(work.sets.train)
    images, labels, shift = jax.device_put(arrays)
    order = batches(0, len(labels), work.batch_size)

    class Mlp(nnx.Module):
        def __init__(self, rngs):
            (width,) = work.hidden
            self.hidden = nnx.Linear(images.shape[1], width, rngs=rngs)
            self.output = nnx.Linear(width, 10, rngs=rngs)

        def __call__(self, x):
            return self.output(nnx.relu(self.hidden(x)))

    @nnx.jit
    def step(model, update, images, labels, shift, batch):
        def loss(model):
            logits = model((images[batch].astype(np.float32) - shift) * scale)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        update.update(model, gradients)
        return value

    model = Mlp(nnx.Rngs(0))
    update = nnx.Optimizer(model, optax.adam(work.rates[0]), wrt=nnx.Param)
    cached = nnx.cached_partial(step, model, update)

    def train():
        losses = [cached(images, labels, shift, next(order)) for _ in range(work.steps)]
        return jax.device_get(losses)

    return train


# --- taking turns --------------------------------------------------------------------------------


def seconds(contestants: dict[str, Callable[[], Any]]) -> dict[str, np.ndarray]:
    """The time that each takes for each round, [ROUNDS]."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS + 1):
        for name, go in contestants.items():
            started = time.perf_counter()
            go()
            found[name].append(time.perf_counter() - started)
    return {name: np.array(times[1:]) for name, times in found.items()}


def compare(table: Table, what: str, work: Work, targets: dict[str, float]) -> None:
    """Add rows: the time of a step of one network, and our share of each other's."""
    contestants = {"ours": ours(work), "ours, autodiff": ours(work, "autodiff")}
    if "Flax" in targets:
        contestants["Flax"] = in_flax(work)
    forms = [(fused, cores()) for fused in (True, False)] if TORCH else []
    if TORCH and work.batch_size == 1:
        forms += [(fused, 1) for fused in (True, False)]
    contestants |= {f"PyTorch {form}": in_pytorch(work, *form) for form in forms}
    times = seconds(contestants)
    if TORCH:
        times["PyTorch"] = min((times.pop(f"PyTorch {form}") for form in forms), key=np.median)
    steps = work.steps * len(work.rates) * work.seeds
    for name, taken in times.items():
        cells = [what if name == "ours" else "", name, f"{np.median(taken) / steps * 1e6:,.0f} us"]
        if name != "ours":
            low, ratio, high = np.quantile(times["ours"] / taken, [0.25, 0.5, 0.75])
            cells.append(f"{ratio:.3f} [{low:.3f}, {high:.3f}]")
            if name in targets:
                cells += [f"{targets[name]:g}", "yes" if ratio <= targets[name] else "NO"]
        table.add_row(*cells)
    table.add_section()


# --- from the command to the first step ----------------------------------------------------------

# What a command does before it trains, in a process of its own.
STAGES = """
import sys, time
def stage(name, since):
    print(f"{name} {time.perf_counter() - since:.2f} s", flush=True)
    return time.perf_counter()
since = time.perf_counter()
from train import mlp, data
since = stage("flags", since)
data.load(sys.argv[1])
since = stage("data", since)
from train import trainer
stage("JAX and Optax", since)
"""


def first_step(table: Table, dataset: str, target: float) -> None:
    """Add a row: the seconds from the command to the evaluation after its first step."""
    flags = f"--dataset {dataset} --hidden 100 --batch-size 200 --steps 1 --eval-every 1".split()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        taken = []
        for attempt in range(4):
            command = [sys.executable, "-m", "train.mlp", *flags, "--out", f"{folder}/{attempt}"]
            started = time.perf_counter()
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as process:
                for line in process.stderr:
                    if b"1/1" in line:
                        taken.append(time.perf_counter() - started)
                process.stderr.close()
        stages = subprocess.run(
            [sys.executable, "-c", STAGES, dataset], env=environment, capture_output=True, text=True
        )
    cold, *warm = taken
    found = float(np.median(warm))
    told = f"[{min(warm):.2f}, {max(warm):.2f}]; {cold:.2f} s with an empty cache"
    table.add_row(
        f"the first step of {dataset}", "ours", f"{found:.2f} s", told, f"{target:g} s",
        "yes" if found <= target else "NO",
    )  # fmt: skip
    table.add_row("", "", "of it", ", ".join(stages.stdout.split("\n")[:-1]))
    table.add_section()


# --- the command ---------------------------------------------------------------------------------


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def load(name: str, input_shape: tuple[int, int, int], count: int) -> tuple[Sets, bool]:
    """The data set, or else random images of its shape; and whether it is the real one."""
    try:
        dataset: Any = data.load(name)
    except DataError as error:
        print(f"{name} is random images: {error}")
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(count, *input_shape), dtype=np.uint8)
        labels = rng.integers(10, size=count, dtype=np.int32)
        dataset = SimpleNamespace(
            name=name,
            x_train=images,
            y_train=labels,
            x_test=images[:10],
            y_test=labels[:10],
        )
        return on_device(dataset, "standardize"), False
    return on_device(dataset, "standardize"), True


def main() -> None:
    devices.set_up()
    if not TORCH:
        print("PyTorch is not installed: its ratios are left out; pip install -e '.[benchmarks]'")
    cifar10, real = load("cifar10", (32, 32, 3), 50_000)
    mnist, _ = load("mnist", (28, 28, 1), 60_000)
    table = Table("work", "by", "per step and network", "ours / it", "at most", "met")
    rates = (0.001, 0.003, 0.01, 0.03)
    one = Work(cifar10, (100,), "relu", "adam", (1e-3,), 1, 200, 100)
    compare(table, "CIFAR-10 3072-100-10, Adam, batch 200", one, {"PyTorch": 0.6, "Flax": 0.8})
    twenty = one._replace(seeds=20, steps=20)
    compare(table, "twenty of them", twenty, {"PyTorch": 0.55})
    rate_table = Work(mnist, (300,), "sigmoid", "sgd", rates, 5, 1, 100)
    compare(
        table, "MNIST 784-300-10, SGD, batch 1, 4 rates x 5 seeds", rate_table, {"PyTorch": 0.1}
    )
    grid = Work(cifar10, (100, 100), "relu", "adam", (2e-2, 2e-3, 2e-4), 1, 200, 50)
    compare(table, "of grid486: 2x100, Adam, batch 200, 3 rates", grid, {"PyTorch": 1.0})
    deepest = grid._replace(hidden=(400, 400, 400), steps=20)
    compare(table, "of grid486: 3x400, Adam, batch 200, 3 rates", deepest, {"PyTorch": 1.0})
    first_step(table, "digits", 6.0)
    if real:
        first_step(table, "cifar10", 6.0)
    Console(width=120).print(table)
    print(f"{cores()} cores, float32; ratios: median of {ROUNDS} rounds [quartiles]")


if __name__ == "__main__":
    main()
