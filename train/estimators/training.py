"""Trains the runs of one or of many estimators, those of a shape in one compiled program."""

import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from sklearn.utils import shuffle

from train.engine.compiled import kept, quick
from train.engine.devices import set_up
from train.engine.input_pipeline import Data
from train.engine.placement import on_host, placed
from train.engine.program import State
from train.engine.sharding import Spread
from train.estimators.architecture import Numbers, Shape, precision
from train.estimators.grouping import LITTLE, grouped, operations, rounded
from train.estimators.run import Run


def train(runs: Sequence[Run], x: np.ndarray, as_many: int = 0, longest: int = 0) -> None:
    """Train runs to their ends.

    Args:
        runs: what to train; their attributes are set.
        x: the examples of all runs, [N, features].
        as_many: how many runs a program is compiled for, where they are fewer.
        longest: likewise, the steps of an epoch.
    """
    set_up()
    examples = _Examples(x)
    for (shape, batch, held, _), group in grouped(runs).items():
        started = time.perf_counter()
        with precision(shape.dtype):
            _Group(shape, batch, held, group, examples, as_many, longest).train()
        for run in group:
            run.seconds = (time.perf_counter() - started) / len(group)


class _Examples:
    """A matrix of examples; on the devices once for each dtype."""

    def __init__(self, x: np.ndarray):
        self._x, self._placed = x, dict[Any, Any]()
        self.size = rounded(len(x))

    def placed(self, shape: Shape, sharding: Any) -> Any:
        """Return them on the devices, [size, features of the shape], filled up with 0."""
        key = (shape.features, shape.dtype, sharding)
        if key not in self._placed:
            filled = np.zeros((self.size, shape.features), shape.dtype)
            filled[: len(self._x), : self._x.shape[1]] = self._x
            self._placed[key] = placed(filled, sharding)
        return self._placed[key]


class _Group:
    """Runs of one program; each row of its arrays is a run, the last repeated at the end."""

    def __init__(
        self,
        shape: Shape,
        batch: int,
        held: int | None,
        runs: list[Run],
        examples: _Examples,
        as_many: int,
        longest: int,
    ):
        self._shape, self._batch, self._held, self._runs = shape, batch, held, runs
        self._spread = spread = Spread("runs", max(len(runs), as_many), None)
        self._rows = [min(row, len(runs) - 1) for row in spread.rows]
        self._steps = 2 ** (max(longest, *(run.steps for run in runs)) - 1).bit_length()
        self._data = self._placed_data(examples)
        self._orders = _orders(runs)
        program = shape.program

        def train_batches(state, numbers, batches, count, data):
            return program.train_batches(state, numbers, data, batches, count)

        def predict(state, numbers, held, data):
            return program.predict(state, numbers, data._replace(x=data.x[held]))

        little = sum(operations(shape, run) for run in runs) < LITTLE
        key = (shape, spread.key, little)
        self._train = kept((key, "train"), lambda: spread.compiled(train_batches, quick(little)))
        self._predict = kept((key, "predict"), lambda: spread.compiled(predict, quick(True)))

    def train(self) -> None:
        """Train until all runs are over."""
        starts = [run.start(self._shape.state) for run in self._runs]
        rows = [starts[row] for row in self._rows]
        state = placed(jax.tree.map(lambda *leaves: np.stack(leaves), *rows), self._spread.own)
        held = None if self._held is None else self._held_rows()
        try:
            while not all(run.over for run in self._runs):
                # Nothing is donated: an interrupt leaves the state of the epoch before.
                state = self._epoch(state, held)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        final = on_host(state)
        for row, run in enumerate(self._runs):
            run.state = State(*_row(tuple(final), row))
            if run.best is not None:
                params, statistics = run.best
                run.state = run.state._replace(params=params, statistics=statistics)

    def _epoch(self, state: State, held: Any) -> State:
        numbers, active = self._numbers(), [not run.over for run in self._runs]
        batches, counts = self._next_batches()
        state, sums = self._train(state, numbers, batches, counts, self._data)
        outputs = None
        if held is not None:
            outputs = on_host(self._predict(state, numbers, held, self._data))
        sums = on_host(sums)
        for row, run in enumerate(self._runs):
            if active[row]:

                def learned(row=row, state=state):
                    return on_host(_row((state.params, state.statistics), row))

                run.end_epoch(sums[row], None if outputs is None else outputs[row], learned)
        return state

    def _placed_data(self, examples: _Examples) -> Data:
        size, dtype, sharding = examples.size, self._shape.dtype, self._spread.shared
        first = self._runs[0].targets
        kind = dtype if first.dtype.kind == "f" else first.dtype
        y, weight = np.zeros((size, *first.shape[1:]), kind), np.ones(size, dtype)
        for run in self._runs:
            y[run.rows] = run.targets
            if run.weight is not None:
                weight[run.rows] = run.weight
        affine = np.zeros((), dtype), np.ones((), dtype)
        x = examples.placed(self._shape, sharding)
        return Data(x, *placed((y, *affine, weight), sharding))

    def _numbers(self) -> Any:
        """The numbers of each run, [rows]; of an epoch, because the learning rate may change."""
        columns = {
            name: np.array([self._runs[row].numbers[name] for row in self._rows], self._shape.dtype)
            for name in self._runs[0].numbers
        }
        return placed(Numbers(**columns), self._spread.own)

    def _next_batches(self) -> tuple[Any, Any]:
        """The examples of each run's next epoch, [rows, steps, batch], and how many steps it has.

        What is over, or a row that repeats a run, takes none.
        """
        batches = np.zeros((len(self._rows), self._steps, self._batch), np.int32)
        counts = np.zeros(len(self._rows), np.int32)
        drawn: dict[int, np.ndarray] = {}
        for row, (run, order) in enumerate(zip(self._runs, self._orders, strict=True)):
            if not run.over:
                if id(order) not in drawn:
                    drawn[id(order)] = next(order)
                counts[row] = run.steps
                _fill(batches[row], run.rows[drawn[id(order)]], run.batch_size)
        return placed((batches, counts), self._spread.own)

    def _held_rows(self) -> Any:
        held = np.zeros((len(self._rows), self._held or 0), np.int32)
        for row, run in enumerate(self._runs):
            assert run.held is not None  # So it is in all of a group, or in none.
            held[row, : len(run.held[0])] = run.held[0]
        return placed(held, self._spread.own)


def _row(tree: Any, row: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[row], tree)


def _fill(batches: np.ndarray, order: np.ndarray, batch_size: int) -> None:
    """Write an epoch's examples into the batches of a program, [steps, entries].

    The entries that are over repeat the batch's own examples, marked as `Program.train_batches`
    has it.
    """
    entries = batches.shape[1]
    for step, start in enumerate(range(0, len(order), batch_size)):
        batch = order[start : start + batch_size]
        batches[step, : len(batch)] = batch
        if len(batch) < entries:
            batches[step, len(batch) :] = ~np.resize(batch, entries - len(batch))


def _orders(runs: Sequence[Run]) -> list[Iterator[np.ndarray]]:
    """Return what draws the order of each run's epochs: one for all that draw the same."""
    known: dict[Any, Iterator[np.ndarray]] = {}
    orders = []
    for number, run in enumerate(runs):
        # What has no seed of its own goes on with a generator that others may use, too.
        key: Any = number
        if isinstance(run.options["random_state"], int | np.integer):
            _, keys, position, *_ = run.random.get_state()
            key = (keys.tobytes(), position, len(run.rows), run.options["shuffle"])
        if key not in known:
            known[key] = _order(len(run.rows), run.random, run.options["shuffle"])
        orders.append(known[key])
    return orders


def _order(examples: int, random: np.random.RandomState, shuffled: bool) -> Iterator[np.ndarray]:
    order = np.arange(examples)
    while True:
        if shuffled:
            order = shuffle(order, random_state=random)
        yield order
