"""The loop on the host around a program: compiles it, feeds it, reads its metrics."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.config import Training
from train.device import Fitting
from train.program import Data, Hyper, Program, State, batches, over_runs, stack
from train.store import Record
from train.sweep import choose_lockstep

# Steps from one sign of life to the next, where evaluations are rarer.
LONGEST_SEGMENT = 500


class Trainer:
    """Trains networks of one shape in one compiled program.

    Attributes:
        state: the state after the last segment, with a leading axis of runs.
        step: the number of steps done.
        parameters: how many numbers the network of a run learns.
        seconds: from the start of training to the last evaluation.
        seconds_in_steps: the time that training took, without evaluation and compilation.
        diverged: for each run whose loss was not finite, by its number: the step, and what to say.
    """

    def __init__(
        self,
        program: Program,
        hypers: Sequence[Hyper],
        seeds: Sequence[int],
        training: Training,
        train: Data,
        test: Data,
        lockstep: int | None = None,
    ):
        """Draw the initial states.

        Args:
            program: what all runs share.
            hypers: the numbers of each run.
            seeds: the seed of each run.
            training: the batch size, and how often to evaluate.
            train: the training set, on the device.
            test: the test set, on the device.
            lockstep: how many runs to compute at a time; None to choose.
        """
        self._hypers, self._seeds, self._training = stack(hypers), seeds, training
        self._train, self._test = train, test

        shapes = jax.eval_shape(program.initialise, hypers[0], jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
        choose = lockstep is None
        if lockstep is None:
            platform = jax.devices()[0].platform
            lockstep = choose_lockstep(platform, len(seeds), training.batch_size, self.parameters)

        def initialise(key, hyper, _):
            return program.initialise(hyper, key)

        def train_segment(state, hyper, indices, data):
            return program.train_segment(state, hyper, data, indices)

        def compiled(function: Callable[..., Any], **options: Any) -> Fitting:
            def make(runs: int) -> Any:
                return jax.jit(over_runs(function, runs), **options)

            return Fitting(make, lockstep, choose)

        self._train_segment = compiled(train_segment, donate_argnums=0)
        self._evaluate = compiled(program.evaluate)
        self._examples = len(train.labels)
        self.seconds = self.seconds_in_steps = 0.0
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        self.state: State = compiled(initialise)(keys, self._hypers, None)
        self.step = 0
        self.diverged: dict[int, tuple[int, str]] = {}

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self._seeds)

    @property
    def steps_per_second(self) -> float:
        """Steps of all runs in a second of training; 0 before the first."""
        return self.step * self.runs / self.seconds_in_steps if self.step else 0.0

    def forget(self) -> None:
        """Free the memory of the state, and of what was compiled."""
        del self.state, self._train_segment, self._evaluate

    def train(
        self, ends: Sequence[int], advance: Callable[[int, float], None]
    ) -> Iterator[list[Record]]:
        """Train, and yield each evaluation of all runs, the first before any step.

        A run whose loss is not finite has None for its metrics from there on; once all runs have,
        it is over.

        Args:
            ends: train up to the largest of these steps, and evaluate after each of them too.
            advance: is called with the step and the steps per second after each segment.
        """
        started = time.perf_counter()
        orders = {
            seed: batches(seed, self._examples, self._training.batch_size)
            for seed in dict.fromkeys(self._seeds)
        }
        compiled = {}

        def records(train_loss: list[Any], train_accuracy: list[Any]) -> list[Record]:
            metrics = list(zip(train_loss, train_accuracy, *self._evaluated(), strict=True))
            self.seconds = time.perf_counter() - started
            names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
            return [
                {
                    "step": self.step,
                    "epoch": self.step / (self._examples // self._training.batch_size),
                    **dict(zip(names, [None] * 4 if run in self.diverged else row, strict=True)),
                    "seconds": self.seconds,
                }
                for run, row in enumerate(metrics)
            ]

        yield records([None] * self.runs, [None] * self.runs)
        traces: list[tuple[np.ndarray, np.ndarray]] = []
        for lengths in _segments(ends, self._training.eval_every):
            if (self.step % self._training.eval_every) == 0:
                traces = []  # An end between two evaluations does not cut their mean in two.
            for length in lengths:
                taken = {
                    seed: np.stack(list(itertools.islice(order, length)))
                    for seed, order in orders.items()
                }
                indices = np.stack([taken[seed] for seed in self._seeds])
                arguments = (self.state, self._hypers, indices, self._train)
                if length not in compiled:
                    compiled[length] = self._train_segment.compile(*arguments)
                before = time.perf_counter()
                self.state, trace = compiled[length](*arguments)
                traces.append((np.asarray(trace.loss, np.float64), np.asarray(trace.correct)))
                self.seconds_in_steps += time.perf_counter() - before
                self._check(traces[-1][0])
                self.step += length
                advance(self.step, self.steps_per_second)
                if len(self.diverged) == self.runs:
                    break
            losses, correct = (np.concatenate(part, axis=1) for part in zip(*traces, strict=True))
            accuracies = correct.mean(1) / self._training.batch_size
            yield records(losses.mean(1).tolist(), accuracies.tolist())
            if len(self.diverged) == self.runs:
                return

    def _check(self, losses: np.ndarray) -> None:
        """Note the runs whose training loss, [runs, steps], is not finite."""
        for run, step in np.argwhere(~np.isfinite(losses)):
            self._diverge(run, self.step + step + 1, f"training loss is {losses[run, step]} at")

    def _diverge(self, run: int, step: int, what: str) -> None:
        """Note that a run is not finite, unless it was not before."""
        message = f"the {what} step {step}; a smaller --learning-rate may help"
        self.diverged.setdefault(int(run), (int(step), message))

    def _evaluated(self) -> tuple[list[float], list[float]]:
        """Loss and accuracy of each run on the test set."""
        losses, correct = self._evaluate(self.state, self._hypers, self._test)
        for run, loss in enumerate(losses.tolist()):
            if not math.isfinite(loss):
                self._diverge(run, self.step, f"test loss is {loss} after")
        return losses.tolist(), (np.asarray(correct, np.float64) / len(self._test.labels)).tolist()


def _segments(ends: Sequence[int], eval_every: int) -> Iterator[list[int]]:
    """Yield the lengths of the segments from each evaluation or end to the next.

    They are as equal as can be: each length is compiled once.
    """
    pieces = math.ceil(eval_every / LONGEST_SEGMENT)
    longest = math.ceil(eval_every / pieces)
    step = 0
    for end in sorted(ends):
        while step < end:
            count = min(eval_every - step % eval_every, end - step)
            yield [min(longest, count - done) for done in range(0, count, longest)]
            step += count
