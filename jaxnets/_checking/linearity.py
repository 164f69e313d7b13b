"""Cotangents whose gradients have to add up, because a gradient is linear in its cotangent."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case


class Combination(NamedTuple):
    """A cotangent that is a combination of others.

    Attributes:
        cotangent: what it is.
        row: its row in the stack of cotangents.
        parts: the factors and rows of its parts.
    """

    cotangent: str
    row: int
    parts: tuple[tuple[float, int], ...]


def cotangents(case: Case) -> tuple[list[np.ndarray], list[Combination]]:
    """Stack cotangents, the case's own first, that differ in all a rule could look at by mistake.

    These are their order, sum, norm and largest entry, how many of them are negative (some, none,
    one, all), and whether they are small or large beside 1.
    """
    dtypes = [np.asarray(cotangent).dtype for cotangent in case.cotangents]
    rows: list[list[np.ndarray]] = []
    combinations = []

    def row(arrays) -> int:
        rows.append([a.astype(dtype) for a, dtype in zip(arrays, dtypes, strict=True)])
        return len(rows) - 1

    def combine(name, arrays, *parts):
        combinations.append(Combination(name, row(arrays), parts))

    random, other = (
        [np.asarray(c).astype(np.float64) for c in arrays]
        for arrays in (case.cotangents, case.others)
    )
    base, second = row(random), row(other)
    mixed = [2.0 * a - 0.5 * b for a, b in zip(random, other, strict=True)]
    combine("2a - b/2", mixed, (2.0, base), (-0.5, second))

    narrowest = min(jnp.finfo(array.dtype).maxexp for array in [*case.cotangents, *case.floats])
    large = 2.0 ** (20 if narrowest > 100 else 3)
    for name, factor in (("-a", -1.0), ("large a", large), ("small a", 1.0 / large), ("0", 0.0)):
        combine(name, [factor * a for a in random], (factor, base))

    positive = [np.abs(a) for a in random]
    halves = [row([np.maximum(sign * a, 0.0) for a in random]) for sign in (1.0, -1.0)]
    combine("|a|", positive, *((1.0, half) for half in halves))
    magnitudes = len(rows) - 1
    combine("-|a|", [-a for a in positive], (-1.0, magnitudes))
    # The first entry of each output.
    first = [-a * (np.arange(a.size) == 0).reshape(a.shape) for a in positive]
    flipped = [a + 2.0 * b for a, b in zip(positive, first, strict=True)]
    combine("|a| with one sign changed", flipped, (1.0, magnitudes), (2.0, row(first)))

    return [np.stack(arrays) for arrays in zip(*rows, strict=True)], combinations


def expected(combination: Combination, stack: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a gradient by its parts in `stack`, and the parts' largest entry."""
    with np.errstate(invalid="ignore", over="ignore"):  # Some gradients are infinite.
        terms = [factor * stack[row].astype(np.float64) for factor, row in combination.parts]
        total = np.sum(terms, axis=0)
    return total, max(float(np.abs(t[np.isfinite(t)]).max(initial=0.0)) for t in terms)
