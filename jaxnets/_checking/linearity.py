"""Cotangents whose gradients have to add up, because a gradient is linear in its cotangent."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case
from jaxnets._checking.verdict import Check


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


def derivative_to_cotangents(
    function: Callable,
    floats: Sequence,
    cotangents: Sequence,
    directions: Sequence,
    others: Sequence,
) -> tuple[Any, Any, Any]:
    """Return <directions, gradient of `others`> twice, and the size of its terms.

    First as the derivative of <directions, gradient> to the cotangent along `others`. Because a
    gradient is linear in the cotangent both are the same, unless the backward hides the cotangent
    from JAX: then the second derivative of every program around the function is wrong.
    """
    _, pullback = jax.vjp(function, *floats)

    def slope(cotangents):
        return _product(directions, pullback(list(cotangents)))[0]

    by_derivative, size = _product(others, jax.grad(slope)(list(cotangents)))
    by_value, other_size = _product(directions, pullback(list(others)))
    return by_derivative, by_value, size + other_size


def _product(arrays: Sequence, others: Sequence) -> tuple[Any, Any]:
    """Return the inner product of two lists of arrays, and the sum of its terms' sizes."""
    wide = jnp.result_type(float)  # float64 where that is enabled.
    terms = [a.astype(wide) * b.astype(wide) for a, b in zip(arrays, others, strict=True)]
    return sum(map(jnp.sum, terms)), sum(jnp.sum(jnp.abs(part)) for part in terms)


def hidden_cotangent(name: str, case: Case, found: tuple[Any, Any, Any]) -> Check | None:
    """Return a failure if the results of `derivative_to_cotangents` differ, None otherwise."""
    by_derivative, by_value, size = (float(part) for part in found)
    # Rounding differs by far less, and an entry that is hidden by more.
    share = 1e-3 if case.dtype in ("float32", "float64") else 0.1
    if not abs(by_derivative - by_value) > share * size:
        return None
    message = (
        f"the gradient's derivative to its cotangent is {by_derivative:.6g} along a direction, "
        f"and {by_value:.6g} by the gradient, which is linear: does the backward stop the gradient "
        "of the cotangent?"
    )
    return Check(name, case.dtype, "failed", message)
