"""The loop on the host around a program: compiles it, feeds it, reads its metrics."""

import itertools
import math
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from train.config import Training
from train.program import Data, Hyper, Program, State, batches
from train.store import Record

# Steps from one sign of life to the next, where evaluations are rarer.
LONGEST_SEGMENT = 500


class Trainer:
    """Trains one network.

    Attributes:
        state: the state after the last segment.
        step: the number of steps done.
    """

    def __init__(self, program: Program, hyper: Hyper, training: Training, train: Data, test: Data):
        """Draw the initial state; `train` and `test` are the data, on the device."""
        self._hyper, self._training, self._train, self._test = hyper, training, train, test
        self._train_segment = jax.jit(program.train_segment, donate_argnums=0)
        self._evaluate = jax.jit(program.evaluate)
        self._examples = len(train.labels)
        self._seconds_in_steps = 0.0
        self.state: State = jax.jit(program.initialise)(hyper, jax.random.key(training.seed))
        self.step = 0

    @property
    def parameters(self) -> int:
        """How many numbers the network learns."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.state.params))

    @property
    def steps_per_second(self) -> float:
        """Steps in a second of training, without evaluation and compilation; 0 before the first."""
        return self.step / self._seconds_in_steps if self.step else 0.0

    def train(self, steps: int, advance: Callable[[int, float], None]) -> Iterator[Record]:
        """Train up to `steps` steps, and yield each evaluation, the first before any step.

        Args:
            steps: how many steps to take.
            advance: is called with the step and the steps per second after each segment.

        Raises:
            FloatingPointError: a loss is not finite; the message, one line, says at which step.
        """
        started = time.perf_counter()
        order = batches(self._training.seed, self._examples, self._training.batch_size)
        compiled = {}

        def record(train_loss: float | None, train_accuracy: float | None) -> Record:
            test_loss, test_accuracy = self._evaluated()
            return {
                "step": self.step,
                "epoch": self.step / (self._examples // self._training.batch_size),
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
                "seconds": time.perf_counter() - started,
            }

        yield record(None, None)
        for lengths in _segments(steps, self._training.eval_every):
            losses, correct = [], 0
            for length in lengths:
                indices = np.stack(list(itertools.islice(order, length)))
                arguments = (self.state, self._hyper, self._train, indices)
                if length not in compiled:
                    compiled[length] = self._train_segment.lower(*arguments).compile()
                before = time.perf_counter()
                self.state, trace = compiled[length](*arguments)
                losses.append(np.asarray(trace.loss, np.float64))
                correct += int(np.sum(trace.correct))
                self._seconds_in_steps += time.perf_counter() - before
                self._check(losses[-1])
                self.step += length
                advance(self.step, self.steps_per_second)
            seen = sum(lengths) * self._training.batch_size
            yield record(float(np.concatenate(losses).mean()), correct / seen)

    def _check(self, losses: np.ndarray) -> None:
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            raise FloatingPointError(
                f"the training loss is {losses[bad[0]]} at step {self.step + bad[0] + 1}; "
                "a smaller --learning-rate may help"
            )

    def _evaluated(self) -> tuple[float, float]:
        """Loss and accuracy on the test set."""
        loss, correct = self._evaluate(self.state, self._hyper, self._test)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the test loss is {float(loss)} after step {self.step}; "
                "a smaller --learning-rate may help"
            )
        return float(loss), int(correct) / len(self._test.labels)


def _segments(steps: int, eval_every: int) -> Iterator[list[int]]:
    """Yield the lengths of the segments from each evaluation to the next.

    They are as equal as can be: each length is compiled once.
    """
    pieces = math.ceil(eval_every / LONGEST_SEGMENT)
    longest = math.ceil(eval_every / pieces)
    for start in range(0, steps, eval_every):
        count = min(eval_every, steps - start)
        yield [min(longest, count - done) for done in range(0, count, longest)]
