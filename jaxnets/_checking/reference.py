"""What a gradient should be, and how far rounding may carry it off: the first way that works."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case, both_gradients, vjp
from jaxnets._checking.programs import one_line
from jaxnets._checking.rounding import ALLOWANCE, Rounded, rounding_spread
from jaxnets._checking.verdict import CONCLUSIVE

# Up to so many entries forward mode is run for each; beyond, along random directions.
_ENTRIES, _DIRECTIONS = 256, 32


class Results(NamedTuple):
    """What the reference computed.

    Attributes:
        first: values, then gradients.
        second: the gradient of <directions, gradient>; None if the reference has no second order.
    """

    first: Rounded
    second: Rounded | None


class Expected(NamedTuple):
    """Arrays, and the largest allowed difference of each entry."""

    values: list[np.ndarray]
    allowed: list[np.ndarray]


class Tolerance(NamedTuple):
    """What is allowed beside rounding, as `GradCheck` has it."""

    rtol: float | Mapping[str, float]
    atol: float | Mapping[str, float]
    project: Callable | None

    def beside(self, name: str, largest: float) -> float:
        """Return the allowed difference in the gradient of an argument with this largest entry."""
        return _of_argument(self.rtol, name) * largest + _of_argument(self.atol, name)

    @property
    def of_values(self) -> float:
        """What is allowed between values of f in a batch and alone: as much as in any gradient.

        A solver that stops at a tolerance takes more steps for one example where another in the
        batch needs them.
        """
        rtol = self.rtol
        return float(max(rtol.values(), default=0.0) if isinstance(rtol, Mapping) else rtol)


def _of_argument(setting: float | Mapping[str, float], name: str) -> float:
    if not isinstance(setting, Mapping):
        return float(setting)
    named = [key for key in setting if name == key or name.startswith((f"{key}[", f"{key}."))]
    return float(setting[max(named, key=len)]) if named else 0.0


class Expectation(NamedTuple):
    """What a case's results should be.

    Attributes:
        values: of the outputs.
        gradients: entry by entry, or, where `probes` has directions, along these; None if only
            differences of the function can tell.
        second: as in `Results`.
        relative: for each value and gradient, what rounding may do beside its largest entry, at
            other points as well.
        probes: for each gradient None or directions, stacked.
    """

    values: Expected
    gradients: Expected | None
    second: Expected | None
    relative: list[float]
    probes: list


def along(probes, gradient) -> np.ndarray:
    """Return a gradient's entries, or its products with `probes`."""
    array = np.asarray(gradient)
    if probes is None:
        return array
    return np.tensordot(probes, array.astype(np.float64), array.ndim).astype(array.dtype)


def by_autodiff(case: Case, rng: np.random.Generator, narrow: Results | None) -> Results:
    """Differentiate the case without its rules, twice if that works."""
    arguments = case.floats, case.cotangents, case.directions
    count = len(case.cotangents) + len(case.floats)

    def both(floats, cts, ds):
        first, second = both_gradients(case.twin, floats, cts, ds)
        return [*first, *second]

    try:
        rounded = rounding_spread(both, arguments, rng, _joined(narrow), case.key("both orders"))
    except Exception:
        first = rounding_spread(
            lambda *a: vjp(case.twin, *a),
            arguments[:2],
            rng,
            narrow and narrow.first,
            case.key("first order"),
        )
        return Results(first, None)
    values, spreads, epsilons = rounded
    return Results(
        Rounded(values[:count], spreads[:count], epsilons[:count]),
        Rounded(values[count:], spreads[count:], epsilons[count:]),
    )


def _joined(results: Results | None) -> Rounded | None:
    if results is None or results.second is None:
        return None
    first, second = results.first, results.second
    return Rounded(
        first.values + second.values,
        first.spreads + second.spreads,
        first.epsilons + second.epsilons,
    )


def by_forward_mode(case: Case, rng: np.random.Generator, narrow: Results | None) -> Results:
    """Push the columns of the Jacobian, or random directions, through the body."""
    probes = probes_of(case)

    def program(floats, cts):
        values = case.twin(*floats)
        products = []
        for k, value in enumerate(floats):

            def product(direction, k=k):
                tangents = [
                    direction if i == k else jnp.zeros_like(v) for i, v in enumerate(floats)
                ]
                tangent = jax.jvp(case.twin, tuple(floats), tuple(tangents))[1]
                return sum(jnp.sum(c * t) for c, t in zip(cts, tangent, strict=True))

            basis = probes[k] is None
            size = math.prod(value.shape)
            rows = np.eye(size).reshape(size, *value.shape) if basis else probes[k]
            column = jax.vmap(product)(jnp.asarray(rows, value.dtype))
            products.append(column.reshape(value.shape) if basis else column)
        return [*values, *products]

    arguments = case.floats, case.cotangents
    return Results(rounding_spread(program, arguments, rng, narrow and narrow.first), None)


def probes_of(case: Case) -> list:
    """Return for each argument None if it is small, otherwise random directions."""
    rng = np.random.default_rng(5)
    return [
        None
        if math.prod(value.shape) <= _ENTRIES
        else rng.choice([-1.0, 1.0], (_DIRECTIONS, *value.shape))
        for value in case.floats
    ]


_WAYS: tuple[tuple[str, Callable], ...] = (
    ("autodiff", by_autodiff),
    ("forward mode of the body", by_forward_mode),
)


def _results_by(
    way: Callable, case: Case, rng: np.random.Generator, narrow: Results | None = None
) -> Results | str:
    """Return the results of one way, or what it raises."""
    try:
        return way(case, rng, narrow)
    except Exception as error:
        return one_line(error)


def first_that_works(
    given: Case, exact: Case | None, rng: np.random.Generator
) -> tuple[str, Results | str, Results | str]:
    """Return the first way to a reference that works, and its results in either dtype."""
    exact_results: Results | str = ""
    given_results: Results | str = ""
    for name, way in _WAYS:
        narrow = None
        if given.dtype != "float64" or exact is None:
            given_results = _results_by(way, given, rng)
            narrow = given_results if isinstance(given_results, Results) else None
        if exact is not None:
            with jax.enable_x64(True):
                exact_results = _results_by(way, exact, rng, narrow)
        if isinstance(exact_results, Results):
            return f"{name} in float64", exact_results, given_results
        if isinstance(given_results, Results):
            return f"{name} in {given.dtype}", exact_results, given_results
    return "central differences", exact_results, given_results


def values_alone(case: Case, rng: np.random.Generator) -> Expectation:
    """Return the expectation of a case whose gradient only differences can tell."""
    try:
        rounded = rounding_spread(lambda *floats: case.explicit(*floats), case.floats, rng)
    except Exception:
        arrays = case.run(lambda *floats: case.explicit(*floats), *case.floats)
        wide = [np.asarray(array).astype(np.float64) for array in arrays]
        epsilons = [float(jnp.finfo(array.dtype).eps) for array in arrays]
        spreads = [
            np.full(value.shape, 8.0 * epsilon * np.abs(value).max(initial=0.0))
            for value, epsilon in zip(wide, epsilons, strict=True)
        ]
        rounded = Rounded(wide, spreads, epsilons)
    values = _expected(rounded, None)
    floor = 64.0 * max(rounded.epsilons)
    relative = [max(part, floor) for part in _relative(values, rounded.epsilons)]
    relative += [max(relative)] * len(case.floats)
    return Expectation(values, None, None, relative, [None] * len(case.floats))


def expectation(
    case: Case,
    given: Results,
    exact: Results | None,
    probes: list | None,
    tolerance: Tolerance,
) -> Expectation:
    """Return what a case's results should be, by the reference in its dtype and in float64."""
    count = len(case.cotangents)
    first = _expected(given.first, exact.first if exact else None)
    second = None
    if given.second:
        second = _expected(given.second, exact.second if exact else None)
    gradients = Expected(first.values[count:], first.allowed[count:])
    relative = _relative(first, given.first.epsilons)
    relative[:count] = [part + tolerance.of_values for part in relative[:count]]
    for k, (name, values) in enumerate(zip(case.float_names, gradients.values, strict=True)):
        # What a declared tolerance allows, it allows under vmap and for other cotangents as well.
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        relative[count + k] += tolerance.beside(name, largest) / (largest or 1.0)
    return Expectation(
        Expected(first.values[:count], first.allowed[:count]),
        _widened(case, gradients, tolerance),
        second and _widened(case, second, tolerance),
        relative,
        probes or [None] * len(case.floats),
    )


def _widened(case: Case, expected: Expected, tolerance: Tolerance) -> Expected:
    allowed = []
    for name, values, limit in zip(case.float_names, *expected, strict=True):
        largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
        allowed.append(limit + tolerance.beside(name, float(largest)))
    return Expected(expected.values, allowed)


def _relative(expected: Expected, epsilons: list[float]) -> list[float]:
    relative = []
    for values, allowed in zip(*expected, strict=True):
        finite = np.isfinite(values)
        relative.append(0.0)
        if finite.any() and np.abs(values[finite]).max() > 0:
            share = np.broadcast_to(allowed, values.shape)[finite].max()
            relative[-1] = float(share / np.abs(values[finite]).max())
    # One array's share may be another's elsewhere, unless it is nothing but rounding itself.
    usual = max((part for part in relative if part <= CONCLUSIVE), default=0.0)
    usual = max(usual, ALLOWANCE * max(epsilons))
    return [max(usual, part) for part in relative]


def _expected(given: Rounded, exact: Rounded | None) -> Expected:
    values, allowances = [], []
    for k, (rounded, spread, epsilon) in enumerate(zip(*given, strict=True)):
        value = rounded if exact is None else exact.values[k]
        with np.errstate(invalid="ignore"):
            systematic = np.nan_to_num(np.abs(rounded - value), posinf=0.0)
        largest = np.abs(value[np.isfinite(value)]).max(initial=0.0)
        if (systematic > 0.05 * largest + 1e3 * spread).any():
            # The function draws or branches by dtype: float64 is no reference for it.
            value, systematic = rounded, np.zeros_like(rounded)
            largest = np.abs(value[np.isfinite(value)]).max(initial=0.0)
        magnitude = np.nan_to_num(np.abs(value), posinf=0.0)
        unit = np.maximum(spread, systematic) + epsilon * magnitude
        values.append(value)
        allowances.append(ALLOWANCE * unit + epsilon * largest + np.finfo(np.float32).tiny)
    return Expected(values, allowances)
