"""Central finite differences of a function, which know nothing of any rule of differentiation."""

import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case, vjp
from jaxnets._checking.rounding import rounding_spread
from jaxnets._checking.verdict import CONCLUSIVE, Check

_STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-6, 1e-6)


def finite_differences(name: str, case: Case, rng: np.random.Generator) -> Check:
    """Compare the gradient with central differences along a random direction in each argument.

    Args:
        name: the check's.
        case: in float64; call under `jax.enable_x64(True)`.
        rng: the source of directions.

    Each argument is tried at its own value first. Where the function is not smooth along the line,
    which its differences at two step sizes tell, or rounding hides its slope, another point nearby
    is drawn, and a smaller step, which is less likely to straddle a kink; a disagreement where it
    is smooth is a failure.
    """
    verdicts: dict[str, list[str]] = {"rough": [], "hidden": []}
    for position, argument in enumerate(case.float_names):
        for attempt, step in enumerate(_STEPS):
            floats = list(case.floats)
            if attempt:
                floats = [jnp.asarray(_moved(value, 0.1, rng)) for value in floats]
            direction = _moved(np.zeros(floats[position].shape), 1.0, rng, floats[position])
            verdict, message = _along(case, floats, position, direction, step, rng)
            if verdict == "failed":
                return Check(name, case.dtype, "failed", f"gradient of {argument}: {message}")
            if verdict == "agrees":
                break
        else:
            verdicts[verdict].append(argument)
    if verdicts["hidden"]:
        message = f"rounding hides the slope in {', '.join(verdicts['hidden'])}"
        return Check(name, case.dtype, "inconclusive", message)
    if verdicts["rough"]:
        message = f"no smooth point found near {', '.join(verdicts['rough'])}"
        return Check(name, case.dtype, "skipped", message)
    return Check(name, case.dtype, "passed")


def _moved(value, amount, rng, like=None):
    """Return `value` moved by a random `amount` of its (or of `like`'s) size, entry by entry."""
    value = np.asarray(value)
    scale = np.abs(value if like is None else np.asarray(like))
    # An entry of 0 moves too, by a tenth of the others' size.
    typical = np.sqrt(np.mean(np.square(scale))) if scale.size else 0.0
    scale = scale + 0.1 * (typical if typical > 0 else 1.0)
    return value + amount * scale * rng.uniform(-1.0, 1.0, value.shape)


@np.errstate(invalid="ignore", over="ignore")  # Infinite values are rough, not an error.
def _along(case, floats, position, direction, step, rng):
    """Compare the slope of <cotangents, f> along `direction` with <gradient, direction>."""
    gradient = vjp(case.explicit, floats, case.cotangents)[len(case.cotangents) + position]
    terms = np.asarray(gradient) * direction
    expected, typical = terms.sum(), np.sqrt(np.square(terms).sum())
    origin = np.asarray(floats[position])

    def products(t):
        moved = list(floats)
        moved[position] = jnp.asarray(origin + t * direction)
        outputs = case.function(*case.filled(moved))
        pairs = zip(case.cotangents, outputs, strict=True)
        return [np.asarray(c).astype(float) * np.asarray(out).astype(float) for c, out in pairs]

    def scalar(t):
        return sum(float(product.sum()) for product in products(t))

    def value(*floats):
        outputs = case.function(*case.filled(floats))
        return [jnp.sum(c * out) for c, out in zip(case.cotangents, outputs, strict=True)]

    noise = sum(float(s) for s in rounding_spread(value, floats, rng).spreads)
    centre = scalar(0.0)
    right, left = scalar(step), scalar(-step)
    half_right, half_left = scalar(step / 2), scalar(-step / 2)
    whole = (right - left) / (2 * step)
    half = (half_right - half_left) / step
    # Halving the step quarters a smooth function's error; extrapolated, it is of fourth order.
    slope = (4 * half - whole) / 3
    rounding = 16 * noise / step
    allowed = rounding + abs(half - whole) + 1e-7 * typical
    # The one-sided slopes of a smooth function close in on each other as the step halves. At a kink
    # they stay apart.
    gap = abs(right - 2 * centre + left) / step
    half_gap = abs(half_right - 2 * centre + half_left) / (step / 2)
    smooth = (
        np.isfinite([slope, gap, half_gap]).all()
        and abs(half - whole) <= 1e-5 * typical + rounding
        and half_gap <= 0.75 * gap + rounding + 1e-7 * typical
    )
    if not smooth:
        return "rough", ""
    if abs(slope - expected) <= allowed:
        # Where the slope is 0, the values themselves are what rounding is small beside.
        sizes = [float(np.abs(product).sum()) for product in products(0.0)]
        scale = sum(sizes) if typical <= allowed else typical
        return ("agrees" if allowed <= CONCLUSIVE * scale else "hidden"), ""
    return "failed", (
        f"along a random direction it gives {expected:.9g}, central differences {slope:.9g} "
        f"(allowed difference {allowed:.2g}, step {step:g})"
    )
