"""What a check found, and how a report reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Check:
    """One property of a gradient in one dtype.

    Attributes:
        name: which property.
        dtype: the dtype it was checked in.
        status: "skipped" says in `message` why the property could not be looked at.
        message: what was found; empty for a plain pass.
        ulps: the largest error, in units in the last place of the largest expected entry of its
            array; 0 where nothing was compared.
    """

    name: str
    dtype: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    ulps: float = 0.0


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
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def raise_if_failed(self) -> None:
        """Raise AssertionError with the report as its message if a check failed."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        """Return a line of counts, then a line per dtype, then one per failed or skipped check."""
        count = {
            s: sum(c.status == s for c in self.checks) for s in ("passed", "failed", "skipped")
        }
        verdict = "ok" if self.ok else "FAILED"
        lines = [
            f"gradcheck {self.function}: {verdict}"
            + f" ({', '.join(f'{n} {status}' for status, n in count.items() if n)})"
        ]
        for dtype in dict.fromkeys(check.dtype for check in self.checks):
            names = [c.name for c in self.checks if c.dtype == dtype and c.status == "passed"]
            lines.append(f"  passed in {dtype}: {', '.join(dict.fromkeys(names)) or 'none'}")
        for check in self.checks:
            if check.status != "passed":
                lines.append(f"  {check.status} in {check.dtype}: {check.name}: {check.message}")
        return "\n".join(lines)


def compare(
    name: str,
    dtype: str,
    labels: Sequence[str],
    got: Sequence,
    expected: Sequence[np.ndarray],
    allowed: Sequence[np.ndarray | float],
) -> Check:
    """Compare arrays entry by entry and describe the worst one.

    Args:
        name: the check's.
        dtype: the dtype it runs in.
        labels: one a pair of arrays, such as "gradient of weight".
        got: the results.
        expected: float64, of the same shapes. An entry that is not finite is not compared.
        allowed: the largest allowed difference of each entry, or one for all.
    """
    ulps, worst, message = 0.0, 1.0, ""
    for label, raw, reference, limit in zip(labels, got, expected, allowed, strict=True):
        value = np.asarray(raw).astype(np.float64)
        if value.shape != reference.shape:
            message = f"{label} has shape {value.shape}, expected {reference.shape}"
            return Check(name, dtype, "failed", message, np.inf)
        finite = np.isfinite(reference)
        if not finite.any():
            continue
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.where(finite, np.abs(value - reference), 0.0)
            error = np.where(np.isnan(error), np.inf, error)
            ratio = np.where(error == 0.0, 0.0, error / limit)
            largest = np.abs(reference[finite]).max()
            ulps = max(ulps, float(error.max() / _ulp(largest, np.asarray(raw).dtype)))
        index = np.unravel_index(np.argmax(ratio), ratio.shape)
        if ratio[index] > worst:
            worst = ratio[index]
            off = error[index] / _ulp(reference[index], np.asarray(raw).dtype)
            limit_here = np.broadcast_to(limit, reference.shape)[index]
            message = (
                f"{label} at {[int(i) for i in index]}: got {value[index]:.9g}, expected "
                f"{reference[index]:.9g}, {off:.3g} ULPs apart "
                f"(rounding explains {limit_here:.2g})"
            )
    return Check(name, dtype, "failed" if message else "passed", message, ulps)


def _ulp(value: float, dtype: np.dtype) -> float:
    """Return the distance between `value` and the next number of `dtype`."""
    information = jnp.finfo(dtype)
    return max(
        float(information.eps) * 2.0 ** np.floor(np.log2(max(abs(value), 1e-300))),
        float(information.tiny),
    )
