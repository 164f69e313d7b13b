"""What a check found, and how arrays are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np

Status = Literal["passed", "failed", "warning", "inconclusive", "skipped"]

# A tolerance of more than this part of an array would let a wrong array pass.
CONCLUSIVE = 0.01


@dataclass(frozen=True)
class Check:
    """One property of a gradient in one dtype.

    Attributes:
        name: which property.
        dtype: the dtype it was checked in.
        status: "warning" if the gradient is right, but a use of it that some programs make does not
            work; "inconclusive" if no difference was found, but rounding explains so much that a
            wrong result might pass as well; "skipped" if the property could not be looked at.
        message: what was found, and why a check is inconclusive or skipped; empty for a pass.
        ulps: the largest error, in units in the last place of the largest expected entry of its
            array; 0 where nothing was compared.
        gradient: the argument whose gradient is compared with the reference; empty for a check of
            anything else.
    """

    name: str
    dtype: str
    status: Status
    message: str = ""
    ulps: float = 0.0
    gradient: str = ""


def compare(
    name: str,
    dtype: str,
    labels: Sequence[str],
    got: Sequence,
    expected: Sequence[np.ndarray],
    allowed: Sequence[np.ndarray | float],
    terms: Sequence[float] | None = None,
) -> Check:
    """Compare arrays entry by entry and describe the worst one.

    Args:
        name: the check's.
        dtype: the dtype it runs in.
        labels: one a pair of arrays, such as "gradient of weight".
        got: the results.
        expected: float64, of the same shapes. An entry that is not finite is not compared.
        allowed: the largest allowed difference of each entry, or one for all.
        terms: of what size the terms of each array are; for one that is zero up to rounding, whose
            own size says nothing about its tolerance.

    Returns:
        "failed" if an entry is too far off; otherwise "inconclusive" if the tolerance of an array
        is large beside its largest entry, unless both are 0, and "skipped" if there was no entry
        to compare.
    """
    ulps, worst, failure, doubt, compared = 0.0, 1.0, "", "", False
    for k, (label, raw, reference, limit) in enumerate(
        zip(labels, got, expected, allowed, strict=True)
    ):
        value = np.asarray(raw).astype(np.float64)
        if value.shape != reference.shape:
            message = f"{label} has shape {value.shape}, expected {reference.shape}"
            return Check(name, dtype, "failed", message, np.inf)
        finite = np.isfinite(reference)
        if not finite.any():
            continue
        compared = True
        limit = np.broadcast_to(limit, reference.shape)
        error, ratio = _error(value, reference, limit)
        largest, tolerance = np.abs(reference[finite]).max(), limit[finite].max()
        ulps = max(ulps, float(error.max() / _ulp(largest, np.asarray(raw).dtype)))
        size = max(largest, terms[k]) if terms and largest <= tolerance else largest
        # Such as the gradient of a softmax over a single class: 0, of terms that cancel.
        both_zero = not (value[finite].any() or largest)
        doubt = doubt or ("" if both_zero else _doubt(label, tolerance, size, largest))
        index = np.unravel_index(np.argmax(ratio), ratio.shape)
        if ratio[index] > worst:
            worst = ratio[index]
            place = f" at {[int(i) for i in index]}" if index else ""
            failure = (
                f"{label}{place}: got {value[index]:.9g}, expected {reference[index]:.9g}"
                f"{_off(error[index], limit[index], largest)}{_pattern(value, reference, limit)}"
            )
    if failure:
        return Check(name, dtype, "failed", failure, ulps)
    if not compared:
        return Check(name, dtype, "skipped", f"{', '.join(labels)}: no finite reference")
    return Check(name, dtype, "inconclusive" if doubt else "passed", doubt, ulps)


def _doubt(label: str, tolerance: float, size: float, largest: float) -> str:
    """Return why a comparison with this tolerance says nothing; empty where it does."""
    if tolerance <= max(CONCLUSIVE * size, float(np.finfo(np.float32).tiny)):
        return ""
    return (
        f"{label}: differences of up to {tolerance:.2g} have to be allowed, more than "
        f"{CONCLUSIVE:.0%} of its largest entry ({largest:.2g})"
    )


def _error(value: np.ndarray, reference: np.ndarray, limit: np.ndarray) -> tuple:
    """Return the error of each entry that has a finite reference, and its part of the limit."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.where(np.isfinite(reference), np.abs(value - reference), 0.0)
        error = np.where(np.isnan(error), np.inf, error)
        return error, np.where(error == 0.0, 0.0, error / limit)


def _off(error: float, limit: float, largest: float) -> str:
    """Return an error, beside the array's largest entry where that has a size."""
    if largest == 0.0 or not np.isfinite(error):
        return f" (rounding explains {limit:.2g})"
    return (
        f", off by {error / largest:.2g} of the array's largest entry "
        f"(rounding explains {limit / largest:.2g})"
    )


def _pattern(value: np.ndarray, reference: np.ndarray, limit: np.ndarray) -> str:
    """Return in what simple way the whole array is wrong, if it is in one."""
    both = np.isfinite(value) & np.isfinite(reference)
    if not both.any():
        return ""
    largest = np.abs(reference[both]).max()
    large = both & (np.abs(reference) > 0.01 * largest)
    with np.errstate(over="ignore", invalid="ignore"):
        if large.sum() > 1:
            ratios = value[large] / reference[large]
            factor = float(np.median(ratios))
            close = np.abs(value - factor * reference) <= limit * (2.0 + abs(factor))
            if close[both].all():
                return f"; got / expected = {_short(factor)} everywhere"
        if value.ndim == 2 and value.shape[0] == value.shape[1] > 1:
            flipped = reference.T
            if (
                np.abs(value - flipped)[both & both.T] <= np.maximum(limit, limit.T)[both & both.T]
            ).all():
                return "; it is the transpose of the expected array"
    wrong = both & (np.abs(value - reference) > limit)
    if 0 < wrong.sum() <= max(0.1 * both.sum(), 1) and both.sum() > 1:
        return f"; {wrong.sum()} of {both.sum()} entries are wrong"
    return ""


def _short(factor: float) -> str:
    return "0" if factor == 0 else f"{factor:.3f}" if 0.01 < abs(factor) < 1000 else f"{factor:.3g}"


def _ulp(value: float, dtype: np.dtype) -> float:
    """Return the distance between `value` and the next number of `dtype`."""
    information = jnp.finfo(dtype)
    return max(
        float(information.eps) * 2.0 ** np.floor(np.log2(max(abs(value), 1e-300))),
        float(information.tiny),
    )
