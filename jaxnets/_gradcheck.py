"""Holds the gradient of a function against autodiff, against finite differences and its contract.

`jax.test_util.check_grads` probes one direction at a fixed tolerance. Here every entry of every
gradient is compared, under random cotangents, with the gradient that JAX derives by itself from the
same function in float64 (`jaxnets.autodiff`), and the tolerance of each entry is what rounding was
measured to do to it (`jaxnets._checking.rounding`).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets._autodiff import autodiff
from jaxnets._checking.case import Case, draw_case, gradient_of_gradient, hessian_product, vjp
from jaxnets._checking.differences import finite_differences
from jaxnets._checking.linearity import combinations
from jaxnets._checking.rounding import Rounded, rounding_spread
from jaxnets._checking.verdict import Check, Report, compare

# How many times the measured effect of rounding (the root mean square of a few samples) an entry
# may be off. A rule that adds in another order, or keeps a rounded residual where autodiff keeps an
# exact one, stays within a few times that.
_ALLOWANCE = 16.0


def gradcheck(f: Callable, *args: Any, **kwargs: Any) -> Report:
    """Check the gradient of `f` at `(*args, **kwargs)` with respect to each floating array.

    Checked in the dtype given, and again in float64:

    - *forward*: the value that the forward rule returns is the function's own;
    - *dtype*: each gradient has its argument's shape and dtype;
    - *vjp*: under random cotangents it equals that of `autodiff(f)` in float64, entry by entry;
    - *finite*: it is finite wherever autodiff's is;
    - *linear*: it is linear in the cotangent, and zero for zero;
    - *repeat*, *jit*, *vmap*: it is the same when run twice (bit for bit), under `jax.jit`, and
      under `jax.vmap` of each array argument alone and of all, inside and outside of the gradient;
    - *second order*: the gradient of the gradient; *hessian*: forward over reverse;
    - *finite differences*, in float64 alone: central ones of `f`, along a random direction in each
      argument; where `f` has a kink, at a random point nearby.

    A GPU or TPU by default computes products of float32 with fewer digits than float32 has. Here
    they are computed with all of them, unless `f` itself says otherwise: it is the rule that is
    checked.

    Args:
        f: any function that JAX can differentiate; it need not be jaxnets's.
        *args: its arguments, pytrees. Arrays of a floating dtype are differentiated; integers,
            random keys, Python numbers and everything else are held constant.
        **kwargs: likewise.

    Returns:
        A report: `report.ok`, `print(report)`, `report.raise_if_failed()`.

    Raises:
        TypeError: an array is complex.
        ValueError: no argument, or no output, is a floating array.
    """
    with jax.default_matmul_precision("highest"):
        return _gradcheck(f, args, kwargs)


def _gradcheck(f: Callable, args: tuple, kwargs: dict[str, Any]) -> Report:
    rng = np.random.default_rng(0)
    given = draw_case(f, args, kwargs, rng)
    checks: list[Check] = []
    with jax.enable_x64(True):
        try:
            exact = given.in_float64()
            exact_results = _autodiff_results(exact, rng)
        except Exception as error:
            # Such as a loop whose carry is float32 by name. Autodiff in the dtype given is then the
            # best reference there is.
            exact_results = None
            message = f"autodiff(f) does not run in float64: {_one_line(error)}"
            checks.append(Check("all", "float64", "skipped", message))
    if given.dtype != "float64" or exact_results is None:
        try:
            expectation = _expectation(_autodiff_results(given, rng), exact_results)
        except Exception as error:
            message = f"there is no reference: autodiff(f) raises {_one_line(error)}"
            checks.append(Check("all", given.dtype, "skipped", message))
        else:
            checks += _run(given, expectation)
    if exact_results is not None:
        with jax.enable_x64(True):
            checks += _run(exact, _expectation(exact_results, None))
            checks += _guarded("finite differences", exact, finite_differences, rng)
    return Report(getattr(f, "__name__", repr(f)), tuple(checks))


# --- what the results should be ------------------------------------------------------------------


class _Results(NamedTuple):
    first: Rounded  # values, then gradients
    second: Rounded  # the gradient of <directions, gradient>


class _Expected(NamedTuple):
    values: list[np.ndarray]
    allowed: list[np.ndarray]


class _Expectation(NamedTuple):
    first: _Expected
    second: _Expected
    relative: float  # of an array's largest entry: what rounding may do, whichever entry it is


def _autodiff_results(case: Case, rng: np.random.Generator) -> _Results:
    first = rounding_spread(
        lambda floats, cts: vjp(case.twin, floats, cts), (case.floats, case.cotangents), rng
    )
    second = rounding_spread(
        lambda floats, cts, ds: gradient_of_gradient(case.twin, floats, cts, ds),
        (case.floats, case.cotangents, case.directions),
        rng,
    )
    return _Results(first, second)


def _expectation(given: _Results, exact: _Results | None) -> _Expectation:
    first = _expected(given.first, exact.first if exact else None)
    second = _expected(given.second, exact.second if exact else None)
    relative = 0.0
    for values, allowed in zip(first.values, first.allowed, strict=True):
        finite = np.isfinite(values)
        if finite.any() and np.abs(values[finite]).max() > 0:
            share = np.broadcast_to(allowed, values.shape)[finite].max()
            relative = max(relative, float(share / np.abs(values[finite]).max()))
    return _Expectation(first, second, relative)


def _expected(given: Rounded, exact: Rounded | None) -> _Expected:
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
        allowances.append(_ALLOWANCE * unit + epsilon * largest + np.finfo(np.float32).tiny)
    return _Expected(values, allowances)


# --- the checks ----------------------------------------------------------------------------------


def _run(case: Case, expectation: _Expectation) -> Iterator[Check]:
    gradients = _guarded("vjp", case, _check_vjp, expectation)
    yield from gradients
    if not any(check.gradient for check in gradients):
        return  # It raises.
    for name, check in (
        ("forward", _check_forward),
        ("dtype", _check_dtype),
        ("finite", _check_finite),
        ("linear", _check_linear),
        ("repeat", _check_repeat),
        ("jit", _check_jit),
        ("second order", _check_second_order),
        ("hessian", _check_hessian),
    ):
        yield from _guarded(name, case, check, expectation)
    arrays = tuple(range(len(case.leaves)))
    for mapped in [(k,) for k in arrays] + ([arrays] if len(arrays) > 1 else []):
        over = "all" if len(mapped) > 1 else case.names[mapped[0]]
        yield from _guarded(f"vmap of {over}", case, _check_vmap, expectation, mapped)


def _guarded(name: str, case: Case, check: Callable, *args) -> list[Check]:
    """Run a check; an exception fails it, unless autodiff raises there as well."""
    try:
        found = check(name, case, *args)
        return found if isinstance(found, list) else [found]
    except Exception as error:
        message = f"raises {_one_line(error)}"
    try:
        check(name, replace(case, function=autodiff(case.function)), *args)
    except Exception:
        return [Check(name, case.dtype, "skipped", f"{message}, and so does autodiff(f)")]
    return [Check(name, case.dtype, "failed", message)]


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


def _labels(case: Case) -> list[str]:
    values = (
        ["value"]
        if len(case.cotangents) == 1
        else [f"value {k}" for k in range(len(case.cotangents))]
    )
    return [*values, *(f"gradient of {name}" for name in case.float_names)]


def _check_vjp(name, case, expectation):
    outputs = len(case.cotangents)
    gradients = vjp(case.explicit, case.floats, case.cotangents)[outputs:]
    size = max(
        _largest(c) * _largest(v)
        for c, v in zip(case.cotangents, expectation.first.values[:outputs], strict=True)
    )
    checks = []
    for k, (argument, value) in enumerate(zip(case.float_names, case.floats, strict=True)):
        expected, allowed = (part[outputs + k] for part in expectation.first)
        # The slope of a function that changes by its own size where x does.
        terms = size / (_largest(value) or 1.0)
        label = f"gradient of {argument}"
        check = compare(name, case.dtype, [label], [gradients[k]], [expected], [allowed], [terms])
        # A gradient without entries cannot be wrong.
        checks.append(replace(check, gradient=argument if value.size else ""))
    return checks


def _check_forward(name, case, expectation):
    """Hold the function's values, and those of its forward rule, against autodiff's."""
    outputs = len(case.cotangents)
    labels = _labels(case)[:outputs]
    expected, allowed = (part[:outputs] for part in expectation.first)
    values = case.explicit(*case.floats)
    check = compare(name, case.dtype, labels, values, expected, allowed)
    if check.status == "failed":
        return check
    values = vjp(case.explicit, case.floats, case.cotangents)[:outputs]
    labels = [f"{label} of the forward rule" for label in labels]
    return compare(name, case.dtype, labels, values, expected, allowed)


def _check_dtype(name, case, expectation):
    gradients = vjp(case.explicit, case.floats, case.cotangents)[len(case.cotangents) :]
    for argument, value, gradient in zip(case.float_names, case.floats, gradients, strict=True):
        if (gradient.shape, gradient.dtype) != (value.shape, value.dtype):
            message = (
                f"gradient of {argument} is {gradient.dtype}{list(gradient.shape)}, "
                f"the argument {value.dtype}{list(value.shape)}"
            )
            return Check(name, case.dtype, "failed", message)
    return Check(name, case.dtype, "passed")


def _check_finite(name, case, expectation):
    got = vjp(case.explicit, case.floats, case.cotangents)
    for label, value, expected in zip(_labels(case), got, expectation.first.values, strict=True):
        bad = np.isfinite(expected) & ~np.isfinite(np.asarray(value).astype(np.float64))
        if bad.any():
            index = [int(i) for i in np.argwhere(bad)[0]]
            message = f"{label} at {index} is {np.asarray(value)[tuple(index)]}"
            return Check(name, case.dtype, "failed", f"{message} where autodiff's is finite")
    return Check(name, case.dtype, "passed")


def _check_linear(name, case, expectation):
    labels = _labels(case)[len(case.cotangents) :]

    def checks_of(function):
        _, pullback = jax.vjp(function, *case.floats)
        for cotangent, *gradients in combinations(case, pullback):
            names = [f"{label} for the cotangent {cotangent}" for label in labels]
            yield _compare_loosely(name, case, names, *gradients, expectation)

    checks = list(checks_of(case.explicit))
    if any(check.status == "failed" for check in checks):
        # Where a large cotangent overflows inside of f, autodiff's gradient is not linear either.
        pairs = zip(checks, checks_of(case.twin), strict=True)
        checks = [check for check, twin in pairs if twin.status != "failed"]
    statuses = "passed", "skipped", "inconclusive", "failed"
    nothing = Check(name, case.dtype, "skipped", "autodiff's gradient is not linear either")
    worst = max(checks, key=lambda check: statuses.index(check.status), default=nothing)
    if worst.status == "failed":
        worst = replace(worst, message=f"not linear in the cotangent: {worst.message}")
    return replace(worst, ulps=max((check.ulps for check in checks), default=0.0))


def _check_repeat(name, case, expectation):
    once = vjp(case.explicit, case.floats, case.cotangents)
    again = vjp(case.explicit, case.floats, case.cotangents)
    for label, a, b in zip(_labels(case), once, again, strict=True):
        if np.asarray(a).tobytes() != np.asarray(b).tobytes():
            return Check(name, case.dtype, "failed", f"{label} differs between two equal runs")
    return Check(name, case.dtype, "passed")


def _check_jit(name, case, expectation):
    arguments = case.floats, case.cotangents
    expected = [_float64(value) for value in vjp(case.explicit, *arguments)]
    got = jax.jit(lambda floats, cts: vjp(case.explicit, floats, cts))(*arguments)
    sizes = [_largest(value) for value in expected]
    return _compare_loosely(name, case, _labels(case), got, expected, sizes, expectation)


def _check_second_order(name, case, expectation):
    return _compare_second(name, case, gradient_of_gradient, expectation)


def _check_hessian(name, case, expectation):
    try:
        return _compare_second(name, case, hessian_product, expectation)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "jax.jvp of the gradient does not work, nor does jax.hessian: a forward or backward "
            "rule calls a custom_vjp function; let it call the function's plain body"
        ) from error


def _compare_second(name, case, second, expectation):
    labels = [f"second derivative to {argument}" for argument in case.float_names]
    arguments = case.floats, case.cotangents, case.directions
    got = second(case.explicit, *arguments)
    check = compare(name, case.dtype, labels, got, *expectation.second)
    if check.status == "passed":
        return check
    # The derivative of a rule is another program than that of autodiff's gradient: terms may cancel
    # in the one that do not occur in the other. Whether the rule itself is as stable as autodiff's
    # gradient is for the first order to say; here rounding counts in either program.
    rounded = rounding_spread(
        lambda *arguments: second(case.explicit, *arguments), arguments, np.random.default_rng(0)
    )
    allowed = [
        limit + _ALLOWANCE * spread
        for limit, spread in zip(expectation.second.allowed, rounded.spreads, strict=True)
    ]
    return compare(name, case.dtype, labels, got, expectation.second.values, allowed)


def _check_vmap(name, case, expectation, mapped):
    """Map over two values of the leaves `mapped`, inside and outside of the gradient."""
    outputs = len(case.cotangents)
    rows = [list(case.leaves), list(case.leaves)]
    for k in mapped:
        rows[1][k] = _another(case.leaves[k])
    cotangents = [case.cotangents, case.others]

    def row_vjp(leaves, cts):
        row = replace(case, leaves=list(leaves))
        return vjp(row.explicit, row.floats, cts)

    singles = [row_vjp(row, cts) for row, cts in zip(rows, cotangents, strict=True)]
    expected = [np.stack([_float64(a), _float64(b)]) for a, b in zip(*singles, strict=True)]
    both = [
        jnp.stack([a, b]) if k in mapped else a for k, (a, b) in enumerate(zip(*rows, strict=True))
    ]
    both_cotangents = [jnp.stack(pair) for pair in zip(*cotangents, strict=True)]
    axes = [0 if k in mapped else None for k in range(len(both))]

    inside = jax.vmap(row_vjp, in_axes=(axes, 0))(both, both_cotangents)
    labels = [f"per-example {label}" for label in _labels(case)]
    sizes = [_largest(value) for value in expected]
    check = _compare_loosely(name, case, labels, inside, expected, sizes, expectation)
    if check.status == "failed":
        return check
    # Outside, an argument that is not mapped collects the gradients of all rows.
    for position, k in enumerate(case.differentiated):
        if k not in mapped:
            expected[outputs + position] = expected[outputs + position].sum(0)
    batched = replace(case, leaves=both, function=jax.vmap(case.function, in_axes=axes))
    outside = vjp(batched.explicit, batched.floats, both_cotangents)
    labels = [f"{label} of the mapped function" for label in _labels(case)]
    return _compare_loosely(name, case, labels, outside, expected, sizes, expectation)


def _another(leaf):
    """Return other values of the same kind: the entries moved on by one, a single one shrunk."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    if leaf.size == 1 and jnp.issubdtype(leaf.dtype, jnp.floating):
        return 0.75 * leaf
    return jnp.roll(leaf, 1)


def _compare_loosely(name, case, labels, got, expected, sizes, expectation):
    """Compare with what rounding does to the worst entry, for values it was not measured on."""
    allowed = [4.0 * expectation.relative * size + np.finfo(np.float32).tiny for size in sizes]
    return compare(name, case.dtype, labels, got, expected, allowed)


def _largest(array) -> float:
    value = np.abs(_float64(array))
    return float(value[np.isfinite(value)].max(initial=0.0))


def _float64(array) -> np.ndarray:
    return np.asarray(array).astype(np.float64)
