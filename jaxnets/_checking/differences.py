"""Central finite differences of a function, which know nothing of any rule of differentiation."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case, gradients, structured
from jaxnets._checking.programs import compiled, each, remembered
from jaxnets._checking.reference import Tolerance
from jaxnets._checking.rounding import largest_size, nudged_runs, pools_for
from jaxnets._checking.verdict import CONCLUSIVE, Check

# Relative steps, one an attempt, by the dtype.
_STEPS = {
    "float64": (1e-3, 1e-4, 1e-5, 1e-6, 1e-6, 1e-6),
    "float32": (3e-2, 1e-2, 1e-2, 3e-3, 3e-3, 3e-3),
}
# Times the step: the centre, then to the right and to the left of it.
_TIMES = np.asarray([0.0, 1.0, -1.0, 0.5, -0.5])
# How many directions stand for a gradient that nothing else can be compared with.
_ALONE = 3
# Up to so many entries are tried alone to say which is wrong.
_ENTRIES = 64

Project = Callable[[str, np.ndarray], np.ndarray]


class _Slope(NamedTuple):
    verdict: str  # "agrees", "failed", "hidden" or "rough"
    message: str = ""


def finite_differences(
    name: str,
    case: Case,
    rng: np.random.Generator,
    *,
    alone: bool = False,
    project: Project | None = None,
    judged: bool = False,
    tolerance: Tolerance | None = None,
) -> list[Check]:
    """Compare the gradient with central differences along random directions in each argument.

    Each argument is tried at its own value first. Where the function is not smooth along the line,
    which its differences at two step sizes tell, or rounding hides its slope, another point nearby
    is drawn, and a smaller step, which is less likely to straddle a kink; a disagreement where it
    is smooth is a failure, unless autodiff's own gradient disagrees there as well because the
    function reads half of a symmetric matrix.

    Args:
        name: the check's.
        case: in float64 if it runs in float64; call under `jax.enable_x64(True)`, then.
        rng: the source of directions.
        alone: whether nothing else tells what the gradient should be. Then each argument has a
            check of its own.
        project: maps an argument's name and a direction to one that keeps its structure.
        judged: whether the function has no rule that could be wrong.
        tolerance: what is allowed beside rounding.
    """
    lines = _Lines(case, case.explicit)
    lines.tolerance = tolerance
    found: dict[str, _Slope] = {}
    for position, argument in enumerate(case.float_names):
        for _ in range(_ALONE if alone else 1):
            found[argument] = _judge(lines, position, rng, project, judged)
            if found[argument].verdict != "agrees":
                break
        if found[argument].verdict == "failed" and not alone:
            break
    checks = [
        _as_check(name, case, argument, slope, argument if alone else "")
        for argument, slope in found.items()
    ]
    if alone:
        return checks
    order = "passed", "skipped", "inconclusive", "failed"
    return [max(checks, key=lambda check: order.index(check.status))]


def _as_check(name, case, argument, slope, gradient) -> Check:
    if slope.verdict == "failed":
        return Check(
            name, case.dtype, "failed", f"gradient of {argument}: {slope.message}", 0.0, gradient
        )
    if slope.verdict == "hidden":
        message = f"rounding hides the slope in {argument}"
        return Check(name, case.dtype, "inconclusive", message, 0.0, gradient)
    message = f"no smooth point found near {argument}" if slope.verdict == "rough" else ""
    if slope.verdict == "own":
        message = (
            f"autodiff's own gradient of {argument} differs from central differences as well: if f "
            "assumes a structure of it, let project= keep it"
        )
    return Check(name, case.dtype, "skipped" if message else "passed", message, 0.0, gradient)


def _judge(lines, position, rng, project, judged) -> _Slope:
    case = lines.case
    argument = case.float_names[position]
    slope = _Slope("rough")
    for attempt, step in enumerate(_STEPS.get(case.dtype, _STEPS["float32"])):
        floats = [np.asarray(value) for value in case.floats]
        if attempt:
            floats = [
                _kept(project, name, value, _moved(value, 0.1, rng))
                for name, value in zip(case.float_names, floats, strict=True)
            ]
        direction = _moved(np.zeros(floats[position].shape), 1.0, rng, floats[position])
        if project is not None:
            direction = np.asarray(project(argument, direction))
        slope = lines.along(floats, position, direction, step)
        if slope.verdict == "failed":
            return _blamed(lines, floats, position, direction, step, slope, judged)
        if slope.verdict == "agrees":
            break
    return slope


def _kept(project, name, value, moved):
    return value + np.asarray(project(name, moved - value)) if project is not None else moved


def _blamed(lines, floats, position, direction, step, slope, judged) -> _Slope:
    """Return the disagreement, unless it is autodiff's as well; and say in which entry it is."""
    case = lines.case
    try:
        own = _Lines(case, case.twin).along(floats, position, direction, step)
    except Exception:
        own = None  # Only the function's values tell.
    value = floats[position]
    if own is not None and own.verdict == "failed":
        even = structured(value, direction)
        if even is not direction:
            return lines.along(floats, position, even, step)
        return _Slope("own") if judged else slope
    if own is None and value.size <= _ENTRIES:
        for index in np.ndindex(value.shape):
            entry = np.zeros(value.shape)
            entry[index] = np.abs(value[index]) or 1.0
            one = lines.along(floats, position, entry, step)
            if one.verdict == "failed" and index:
                there = one.message.replace("a random direction", f"entry {list(index)}")
                return _Slope("failed", there)
    return slope


def _moved(value, amount, rng, like=None):
    """Return `value` moved by a random `amount` of its (or of `like`'s) size, entry by entry."""
    value = np.asarray(value)
    scale = np.abs(value if like is None else np.asarray(like))
    # An entry of 0 moves too, by a tenth of the others' size.
    typical = np.sqrt(np.mean(np.square(scale))) if scale.size else 0.0
    scale = scale + 0.1 * (typical if typical > 0 else 1.0)
    return np.asarray(value + amount * scale * rng.uniform(-1.0, 1.0, value.shape), value.dtype)


class _Lines:
    """One compiled program for the function's values and slopes along any line."""

    def __init__(self, case: Case, differentiated: Callable):
        self.case = case
        self.differentiated = differentiated
        self.pools = np.zeros((1, 1), np.int8)
        self.jaxpr = None
        if not case.eager:
            with contextlib.suppress(Exception):
                self.jaxpr, size = remembered(self._key("rounded"), self._read)
                self.pools = pools_for(size, np.random.default_rng(0))
        self.call: Callable | None = None
        self.tolerance: Tolerance | None = None

    def _key(self, name):
        return self.case.key(("line", name, self.differentiated == self.case.twin))

    def _read(self):
        return (jaxpr := jax.make_jaxpr(self._summed)(*self.case.floats)), largest_size(jaxpr.jaxpr)

    def _products(self, floats):
        outputs = self.case.function(*self.case.filled(floats))
        return [
            _widest(c) * _widest(out) for c, out in zip(self.case.cotangents, outputs, strict=True)
        ]

    def _summed(self, *floats):
        outputs = self.case.function(*self.case.filled(floats))
        return [jnp.sum(c * out) for c, out in zip(self.case.cotangents, outputs, strict=True)]

    def _program(self, floats, directions, times, pools):
        def at(time):
            moved = [
                x + (_widest(time) * _widest(d)).astype(jnp.result_type(x))
                for x, d in zip(floats, directions, strict=True)
            ]
            products = self._products(moved)
            return sum(map(jnp.sum, products)), sum(jnp.sum(jnp.abs(p)) for p in products)

        sums, sizes = each(at, times)
        slopes = gradients(self.differentiated, floats, self.case.cotangents)
        terms = [_widest(g) * _widest(d) for g, d in zip(slopes, directions, strict=True)]
        expected = sum(map(jnp.sum, terms))
        typical = jnp.sqrt(sum(jnp.sum(jnp.square(term)) for term in terms))
        noise = _widest(0.0) * expected
        if self.jaxpr is None:
            noise = sizes[0] * (8.0 * float(jnp.finfo(jnp.result_type(floats[0])).eps))
        else:
            for stack in map(_widest, nudged_runs(self.jaxpr, floats, pools)):
                noise = noise + jnp.sqrt(jnp.mean((stack[1:] - stack[0]) ** 2))
        largest = jnp.max(jnp.abs(_widest(slopes[0])), initial=0.0)
        for slope in slopes[1:]:
            largest = jnp.maximum(largest, jnp.max(jnp.abs(_widest(slope)), initial=0.0))
        return sums, sizes[0], expected, typical, noise, largest

    @np.errstate(invalid="ignore", over="ignore")  # Infinite values are rough, not an error.
    def along(self, floats, position, direction, step) -> _Slope:
        """Compare the slope of <cotangents, f> along `direction` with <gradient, direction>."""
        directions = [np.zeros(np.shape(value)) for value in floats]
        directions[position] = np.asarray(direction, np.float64)
        wide = np.dtype(jnp.result_type(float))
        dtyped = [np.asarray(x, v.dtype) for x, v in zip(floats, self.case.floats, strict=True)]
        arguments = (
            dtyped,
            [d.astype(wide) for d in directions],
            (step * _TIMES).astype(wide),
            self.pools,
        )
        if self.call is None:
            self.call = self._program
            if not self.case.eager:
                key = self._key("slope")
                self.call = remembered(key, lambda: compiled(self._program, *arguments))
        if self.case.eager:
            arguments = jax.tree.map(jnp.asarray, arguments)
        sums, size, expected, typical, noise, largest = (
            np.asarray(part).astype(float) for part in self.call(*arguments)
        )
        centre, right, left, half_right, half_left = sums
        whole = (right - left) / (2 * step)
        half = (half_right - half_left) / step
        # Halving the step quarters a smooth function's error; extrapolated, it is of fourth order.
        slope = (4 * half - whole) / 3
        rounding = 16 * noise / step
        allowed = rounding + abs(half - whole) + 1e-7 * typical
        asked = 0.0
        if self.tolerance is not None:
            # Each entry may be off by so much, whichever its sign.
            name = self.case.float_names[position]
            asked = self.tolerance.beside(name, float(largest)) * float(np.abs(direction).sum())
        # The one-sided slopes of a smooth function close in on each other as the step halves. At a
        # kink they stay apart.
        gap = abs(right - 2 * centre + left) / step
        half_gap = abs(half_right - 2 * centre + half_left) / (step / 2)
        smooth = (
            np.isfinite([slope, gap, half_gap]).all()
            and abs(half - whole) <= max(1e-5, step**2) * typical + rounding
            and half_gap <= 0.75 * gap + rounding + 1e-7 * typical
        )
        if not smooth:
            return _Slope("rough")
        if abs(slope - expected) <= allowed + asked:
            # Where the slope is 0, the values themselves are what rounding is small beside.
            scale = size if typical <= allowed else typical
            return _Slope("agrees" if allowed <= CONCLUSIVE * scale else "hidden")
        return _Slope(
            "failed",
            f"along a random direction it gives {expected:.9g}, central differences {slope:.9g} "
            f"(allowed difference {allowed:.2g}, step {step:g})",
        )


def _widest(array):
    return jnp.asarray(array).astype(jnp.result_type(float))


def second_differences(case: Case, step: float = 1e-4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Differentiate the gradient along the case's directions, by central differences in float64.

    Returns:
        The derivatives, and how far halving the step moves each of them.
    """

    def program(floats, directions, times):
        def at(time):
            moved = [x + time * d for x, d in zip(floats, directions, strict=True)]
            return gradients(case.explicit, moved, case.cotangents)

        return each(at, times)

    stacks = case.run(program, case.floats, case.directions, step * _TIMES)
    derivatives, errors = [], []
    for stack in stacks:
        _, right, left, half_right, half_left = np.asarray(stack).astype(np.float64)
        whole, half = (right - left) / (2 * step), (half_right - half_left) / step
        derivatives.append((4 * half - whole) / 3)
        errors.append(np.abs(half - whole))
    return derivatives, errors
