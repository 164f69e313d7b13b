"""Which runs one compiled program trains: few programs, because compiling takes a second."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from train.estimators.architecture import Shape
from train.estimators.run import Run

# Features of small data, and examples of a batch that is all of a small training set.
_FEATURES, _BATCHES = (16, 64), (32, 256)

# Floating-point operations that take as long as compiling a program does; and as long as compiling
# it to be fast instead of at once.
COMPILATION, LITTLE = 5e10, 3e9


def grouped(runs: Sequence[Run]) -> dict[Any, list[Run]]:
    """Return the runs by their program: its shape, its batch, and the examples it validates on.

    Targets that mean something else are a group of their own.
    """
    groups: dict[Any, list[Run]] = {}
    for run, shape in zip(runs, _widened([program_shape(run.shape) for run in runs], runs),
                          strict=True):  # fmt: skip
        held = None if run.held is None else rounded(len(run.held[0]))
        groups.setdefault((shape, _batch(run), held, run.classes), []).append(run)
    return groups


def program_shape(shape: Shape) -> Shape:
    """Return the shape of the program, with features filled up where that changes nothing."""
    if not shape.takes_more_features:
        return shape
    features = next((n for n in _FEATURES if shape.features <= n), shape.features)
    return shape._replace(features=features)


def rounded(examples: int) -> int:
    """Return how many examples a program has: an eighth more than there are at most, or 256."""
    unit = 2 ** (max(256, examples).bit_length() - 4)
    return max(256, -(-examples // unit) * unit)


def _batch(run: Run) -> int:
    """Entries of a batch of the program; those over are left out of the loss."""
    if run.batch_size < len(run.rows) or run.shape.norm == "batch":
        return run.batch_size
    return next((n for n in _BATCHES if run.batch_size <= n), run.batch_size)


def _widened(shapes: Sequence[Shape], runs: Sequence[Run]) -> list[Shape]:
    """Fill networks up to the widths of others, with units that change nothing.

    So it is where computing with them takes less time than compiling another program.
    """
    widest: dict[Any, tuple[int, ...]] = {}
    for shape in shapes:
        hidden = widest.get(_but_widths(shape), shape.hidden)
        widest[_but_widths(shape)] = tuple(map(max, shape.hidden, hidden))
    extra: dict[Shape, float] = {}
    for run, shape in zip(runs, shapes, strict=True):
        wide = shape._replace(hidden=widest[_but_widths(shape)])
        more = operations(wide, run) - operations(shape, run) if shape.widens else math.inf
        extra[shape] = extra.get(shape, 0.0) + (0.0 if wide == shape else more)
    return [
        shape._replace(hidden=widest[_but_widths(shape)]) if extra[shape] < COMPILATION else shape
        for shape in shapes
    ]


def _but_widths(shape: Shape) -> Any:
    return shape._replace(hidden=()), len(shape.hidden)


def operations(shape: Shape, run: Run) -> float:
    """Return the floating-point operations of a training, of its products alone, at most."""
    sizes = [shape.features, *shape.hidden, shape.outputs]
    examples = run.batch_size * run.steps * (1 if run.incremental else run.options["max_iter"])
    return 6.0 * examples * sum(a * b for a, b in itertools.pairwise(sizes))
