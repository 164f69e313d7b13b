"""Cotangents whose gradients have to add up, because a gradient is linear in its cotangent."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case


class Combination(NamedTuple):
    """The gradients of a combination of cotangents, got and expected.

    Attributes:
        cotangent: what it is.
        got: its gradients.
        expected: the same combination of the gradients of its parts.
        sizes: the largest entry in the parts of each gradient.
    """

    cotangent: str
    got: list[np.ndarray]
    expected: list[np.ndarray]
    sizes: list[float]


def combinations(case: Case, pullback: Callable) -> Iterator[Combination]:
    """Combine cotangents that differ in all that a rule could look at by mistake.

    These are their order, sum, norm and largest entry, how many of them are negative (some, none,
    one, all), and whether they are small or large beside 1.
    """

    def pull(cotangents):
        dtyped = [jnp.asarray(a, c.dtype) for a, c in zip(cotangents, case.cotangents, strict=True)]
        return [np.asarray(gradient).astype(np.float64) for gradient in pullback(dtyped)]

    def combined(name, cotangents, *parts):
        with np.errstate(invalid="ignore"):  # Some gradients are infinite.
            scaled = [[factor * gradient for gradient in gradients] for factor, gradients in parts]
            expected = [sum(terms) for terms in zip(*scaled, strict=True)]
        sizes = [
            max(float(np.abs(t[np.isfinite(t)]).max(initial=0.0)) for t in terms)
            for terms in zip(*scaled, strict=True)
        ]
        return Combination(name, pull(cotangents), expected, sizes)

    random, other = (
        [np.asarray(c).astype(np.float64) for c in cotangents]
        for cotangents in (case.cotangents, case.others)
    )
    base = pull(random)
    mixed = [2.0 * a - 0.5 * b for a, b in zip(random, other, strict=True)]
    yield combined("2a - b/2", mixed, (2.0, base), (-0.5, pull(other)))

    dtypes = [array.dtype for array in [*case.cotangents, *case.floats]]
    large = 2.0 ** (20 if all(jnp.finfo(dtype).maxexp > 100 for dtype in dtypes) else 3)
    for name, factor in (("-a", -1.0), ("large a", large), ("small a", 1.0 / large), ("0", 0.0)):
        yield combined(name, [factor * a for a in random], (factor, base))

    positive = [np.abs(a) for a in random]
    halves = [[np.maximum(sign * a, 0.0) for a in random] for sign in (1.0, -1.0)]
    yield combined("|a|", positive, *((1.0, pull(half)) for half in halves))
    magnitudes = pull(positive)
    yield combined("-|a|", [-a for a in positive], (-1.0, magnitudes))
    # The first entry of each output.
    negative = [-a * (np.arange(a.size) == 0).reshape(a.shape) for a in positive]
    flipped = [a + 2.0 * b for a, b in zip(positive, negative, strict=True)]
    parts = (1.0, magnitudes), (2.0, pull(negative))
    yield combined("|a| with one sign changed", flipped, *parts)
