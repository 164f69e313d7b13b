"""Trains the runs of one or of many estimators, those of a shape in one compiled program."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from train.engine.compiled import kept, quick
from train.engine.devices import set_up
from train.engine.input_pipeline import Data
from train.engine.placement import on_host, placed
from train.engine.program import State
from train.engine.sharding import Spread
from train.estimators.architecture import Numbers, Shape, precision
from train.estimators.grouping import COMPILATION, LITTLE, grouped, operations, rounded
from train.estimators.run import Run


class Sizes(NamedTuple):
    """What was compiled for runs of a program; other runs may use it.

    Attributes:
        shape: of the program.
        batch: entries of a batch.
        rows: how many runs it takes.
        steps: how many steps an epoch has at most.
        examples: how many there are.
        little: whether it was compiled at once instead of to be fast.
    """

    shape: Shape
    batch: int
    rows: int
    steps: int
    examples: int
    little: bool

    def hold(self, others: "Sizes") -> bool:
        """Whether runs of other sizes fit."""
        same = self.batch == others.batch
        pairs = zip(self[2:5], others[2:5], strict=True)
        return same and all(mine >= least for mine, least in pairs)


NONE: Mapping[Shape, Sizes] = MappingProxyType({})


def train(
    runs: Sequence[Run], x: np.ndarray, known: Mapping[Shape, Sizes] = NONE, longest: int = 0
) -> dict[Shape, Sizes]:
    """Train runs to their ends.

    Args:
        runs: what to train; their attributes are set.
        x: the examples of all runs, [N, features].
        known: what was compiled for runs of such shapes before, to be used again.
        longest: for how many examples of a run to compile, where these runs have fewer.

    Returns:
        What was compiled for each shape.
    """
    set_up()
    examples, compiled = _Examples(x), {}
    for (shape, batch, held, _), group in grouped(runs).items():
        started = time.perf_counter()
        work = sum(operations(shape, run) for run in group)
        most = max(max(run.steps, -(-longest // run.batch_size)) for run in group)
        steps = 2 ** (most - 1).bit_length()
        sizes = Sizes(shape, batch, len(group), steps, rounded(len(x)), work < LITTLE)
        like = known.get(group[0].shape)
        # A program of many runs trains a single one on one core.
        if like is not None and like.hold(sizes) and work < 3 * COMPILATION:
            sizes = like
        with precision(shape.dtype):
            _Group(sizes, held, group, examples).train()
        for run in group:
            run.seconds = (time.perf_counter() - started) / len(group)
            compiled[run.shape] = sizes
    return compiled


class _Examples:
    """A matrix of examples; on the devices once for each dtype."""

    def __init__(self, x: np.ndarray):
        self._x, self._placed = x, dict[Any, Any]()

    def placed(self, sizes: Sizes, sharding: Any) -> Any:
        """Return them on the devices, [examples, features of the program], filled up with 0."""
        key = (sizes.examples, sizes.shape.features, sizes.shape.dtype, sharding)
        if key not in self._placed:
            filled = np.zeros(key[:2], sizes.shape.dtype)
            filled[: len(self._x), : self._x.shape[1]] = self._x
            self._placed[key] = placed(filled, sharding)
        return self._placed[key]


class _Group:
    """Runs of one program; each row of its arrays is a run, the last repeated at the end."""

    def __init__(self, sizes: Sizes, held: int | None, runs: list[Run], examples: _Examples):
        self._sizes, self._held, self._runs = sizes, held, runs
        self._shape = shape = sizes.shape
        self._spread = spread = Spread("runs", sizes.rows, None)
        self._rows = [min(row, len(runs) - 1) for row in spread.rows]
        self._data = self._placed_data(examples)
        self._orders = _orders(runs)
        self._values: list[tuple[float, ...]] = []
        self._placed_numbers: Any = None
        program, little = shape.program, sizes.little

        def train_batches(state, numbers, batches, count, data):
            return program.train_batches(state, numbers, data, batches, count)

        def predict(state, numbers, held, data):
            return program.predict(state, numbers, data._replace(x=data.x[held]))

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
        size, dtype = self._sizes.examples, self._shape.dtype
        sharding = self._spread.shared
        first = self._runs[0].targets
        kind = dtype if first.dtype.kind == "f" else first.dtype
        y, weight = np.zeros((size, *first.shape[1:]), kind), np.ones(size, dtype)
        for run in self._runs:
            y[run.rows] = run.targets
            if run.weight is not None:
                weight[run.rows] = run.weight
        affine = np.zeros((), dtype), np.ones((), dtype)
        x = examples.placed(self._sizes, sharding)
        return Data(x, *placed((y, *affine, weight), sharding))

    def _numbers(self) -> Any:
        """The numbers of each run, [rows]; of an epoch, because the learning rate may change."""
        values = [tuple(self._runs[row].numbers.values()) for row in self._rows]
        if values != self._values:
            columns = np.array(values, self._shape.dtype).T
            numbers = Numbers(**dict(zip(self._runs[0].numbers, columns, strict=True)))
            self._values, self._placed_numbers = values, placed(numbers, self._spread.own)
        return self._placed_numbers

    def _next_batches(self) -> tuple[Any, Any]:
        """The examples of each run's next epoch, [rows, steps, batch], and how many steps it has.

        What is over, or a row that repeats a run, takes none.
        """
        batches = np.zeros((len(self._rows), self._sizes.steps, self._sizes.batch), np.int32)
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
            state: Any = run.random.get_state()
            key = (state[1].tobytes(), state[2], len(run.rows), run.options["shuffle"])
        if key not in known:
            known[key] = _order(len(run.rows), run.random, run.options["shuffle"])
        orders.append(known[key])
    return orders


def _order(examples: int, random: np.random.RandomState, shuffled: bool) -> Iterator[np.ndarray]:
    order = np.arange(examples)
    while True:
        if shuffled:
            # What sklearn.utils.shuffle does, in a tenth of its time for few examples.
            indices = np.arange(examples)
            random.shuffle(indices)
            order = order[indices]
        yield order
