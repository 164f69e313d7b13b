"""What a check found, and how a report reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np

_Status = Literal["passed", "failed", "inconclusive", "skipped"]

# A tolerance of more than this part of an array would let a wrong array pass.
CONCLUSIVE = 0.01


@dataclass(frozen=True)
class Check:
    """One property of a gradient in one dtype.

    Attributes:
        name: which property.
        dtype: the dtype it was checked in.
        status: "inconclusive" if no difference was found, but rounding explains so much that a
            wrong result might pass as well; "skipped" if the property could not be looked at.
        message: what was found, and why a check is inconclusive or skipped; empty for a pass.
        ulps: the largest error, in units in the last place of the largest expected entry of its
            array; 0 where nothing was compared.
        gradient: the argument whose gradient is compared with the reference; empty for a check of
            anything else.
    """

    name: str
    dtype: str
    status: _Status
    message: str = ""
    ulps: float = 0.0
    gradient: str = ""


@dataclass(frozen=True)
class Report:
    """All checks of one function.

    Attributes:
        function: its name.
        checks: in the order in which they ran.
    """

    function: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed, and each gradient passed its comparison in some dtype."""
        return not self.failures and not self.unchecked

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def unchecked(self) -> str:
        """Which gradients passed no comparison, and why, in one line; empty if all passed one."""
        compared = [check for check in self.checks if check.gradient]
        gradients = dict.fromkeys(check.gradient for check in compared)
        passed = {check.gradient for check in compared if check.status == "passed"}
        missing = [gradient for gradient in gradients if gradient not in passed]
        if gradients and not missing:
            return ""
        reasons = [check for check in compared if check.gradient in missing] or self.checks
        # A later comparison is one in float64, where there are the fewest reasons.
        reason = next((check.message for check in reversed(reasons) if check.message), "no check")
        if passed:
            return f"gradient of {', '.join(missing)} was not checked: {reason}"
        return f"nothing was checked: {reason}"

    def raise_if_failed(self) -> None:
        """Raise AssertionError with the report as its message unless the report is ok."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        """Return the verdict and counts, what passed in each dtype, and what did not pass."""
        count = {s: sum(c.status == s for c in self.checks) for s in get_args(_Status)}
        verdict = "FAILED" if self.failures else self.unchecked or "ok"
        counts = ", ".join(f"{n} {status}" for status, n in count.items() if n)
        lines = [f"gradcheck {self.function}: {verdict} ({counts or 'no checks'})"]
        for dtype in dict.fromkeys(check.dtype for check in self.checks):
            for status in ("passed", "inconclusive"):
                names = [c.name for c in self.checks if (c.dtype, c.status) == (dtype, status)]
                if names or status == "passed":
                    listed = ", ".join(dict.fromkeys(names)) or "none"
                    lines.append(f"  {status} in {dtype}: {listed}")
        for check in self.checks:
            if check.status in ("failed", "skipped"):
                lines.append(f"  {check.status} in {check.dtype}: {check.name}: {check.message}")
        return "\n".join(lines)


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
        is large beside its largest entry, and "skipped" if there was no entry to compare.
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
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.where(finite, np.abs(value - reference), 0.0)
            error = np.where(np.isnan(error), np.inf, error)
            ratio = np.where(error == 0.0, 0.0, error / limit)
        largest, tolerance = np.abs(reference[finite]).max(), limit[finite].max()
        ulps = max(ulps, float(error.max() / _ulp(largest, np.asarray(raw).dtype)))
        size = max(largest, terms[k]) if terms and largest <= tolerance else largest
        if not doubt and tolerance > max(CONCLUSIVE * size, np.finfo(np.float32).tiny):
            doubt = (
                f"{label}: rounding explains differences of up to {tolerance:.2g}, more than "
                f"{CONCLUSIVE:.0%} of its largest entry ({largest:.2g})"
            )
        index = np.unravel_index(np.argmax(ratio), ratio.shape)
        if ratio[index] > worst:
            worst = ratio[index]
            off = error[index] / _ulp(reference[index], np.asarray(raw).dtype)
            failure = (
                f"{label} at {[int(i) for i in index]}: got {value[index]:.9g}, expected "
                f"{reference[index]:.9g}, {off:.3g} ULPs apart "
                f"(rounding explains {limit[index]:.2g})"
            )
    if failure:
        return Check(name, dtype, "failed", failure, ulps)
    if not compared:
        nothing = f"{', '.join(labels)}: autodiff's has no finite entry to compare with"
        return Check(name, dtype, "skipped", nothing)
    return Check(name, dtype, "inconclusive" if doubt else "passed", doubt, ulps)


def _ulp(value: float, dtype: np.dtype) -> float:
    """Return the distance between `value` and the next number of `dtype`."""
    information = jnp.finfo(dtype)
    return max(
        float(information.eps) * 2.0 ** np.floor(np.log2(max(abs(value), 1e-300))),
        float(information.tiny),
    )
