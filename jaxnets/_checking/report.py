"""How a report reads."""

import json
from dataclasses import asdict, dataclass
from typing import get_args

from jaxnets._checking.verdict import Check, Status

# What is wrong as well wherever a gradient is.
_SYMPTOMS = ("vjp", "second order", "hessian", "finite differences", "second differences")


@dataclass(frozen=True)
class Report:
    """All checks of one function.

    A test may ask for all at once, `assert gradcheck(f, x).ok`, or have a subtest for each::

        def test_gradient(subtests):
            for check in gradcheck(f, x).checks:
                with subtests.test(check.name, dtype=check.dtype):
                    assert check.status != "failed", check.message

    Attributes:
        function: its name.
        checks: in the order in which they ran.
        reference: what its gradient was compared with.
        held: the arguments that were held constant and the outputs that were not compared.
        expect: how the gradient differs on purpose; empty if it should not.
    """

    function: str
    checks: tuple[Check, ...]
    reference: str = ""
    held: tuple[str, ...] = ()
    expect: str = ""

    @property
    def ok(self) -> bool:
        """Whether no check failed, and each gradient passed its comparison in some dtype."""
        return not self.failures and not self.unchecked

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that found what does not work with a gradient that is right."""
        return tuple(check for check in self.checks if check.status == "warning")

    @property
    def unchecked(self) -> str:
        """Which gradients passed no comparison, and why, in one line; empty if all passed one."""
        compared = [check for check in self.checks if check.gradient]
        gradients = dict.fromkeys(check.gradient for check in compared)
        passed = {check.gradient for check in compared if check.status == "passed"}
        missing = [gradient for gradient in gradients if gradient not in passed]
        if self.expect:
            missing = []
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

    def to_json(self) -> str:
        """Return the report as JSON: function, verdict, and every check with its attributes."""
        content = {
            "function": self.function,
            "ok": self.ok,
            "unchecked": self.unchecked,
            "reference": self.reference,
            "held": self.held,
            "expect": self.expect,
            "checks": [asdict(check) for check in self.checks],
        }
        return json.dumps(_finite(content), indent=2)

    def __repr__(self) -> str:
        """Return the verdict and the first cause in one line, which pytest shows."""
        first, *_ = str(self).splitlines()
        causes, _ = self._sorted()
        failed = [c for c in causes if c.status == "failed"]
        return f"{first}: {failed[0].name}: {failed[0].message}" if failed else first

    def __str__(self) -> str:
        """Return the verdict and counts, what passed in each dtype, and what did not pass."""
        count = {s: sum(c.status == s for c in self.checks) for s in get_args(Status)}
        verdict = "FAILED" if self.failures else self.unchecked or "ok"
        counts = ", ".join(f"{n} {status}" for status, n in count.items() if n)
        lines = [f"gradcheck {self.function}: {verdict} ({counts or 'no checks'})"]
        if self.reference:
            lines.append(f"  compared with {self.reference}")
        if self.held:
            lines.append(f"  held constant or not compared: {', '.join(self.held)}")
        for dtype in dict.fromkeys(check.dtype for check in self.checks):
            here = [check for check in self.checks if check.dtype == dtype]
            failed = {check.name for check in here if check.status == "failed"}  # Of another array.
            for status in ("passed", "inconclusive"):
                names = [c.name for c in here if c.status == status and c.name not in failed]
                if names or status == "passed":
                    listed = ", ".join(dict.fromkeys(names)) or "none"
                    lines.append(f"  {status} in {dtype}: {listed}")
        causes, symptoms = self._sorted()
        for check in causes:
            lines.append(f"  {check.status} in {check.dtype}: {check.name}: {check.message}")
        if symptoms:
            places = dict.fromkeys(f"{check.name} in {check.dtype}" for check in symptoms)
            lines.append(f"  failed as well, probably because of it: {', '.join(places)}")
        return "\n".join(lines)

    def _sorted(self) -> tuple[list[Check], list[Check]]:
        """Part what did not pass into causes and what a wrong gradient makes fail as well."""
        shown = [c for c in self.checks if c.status in ("failed", "warning", "skipped")]
        wrong = [c for c in shown if c.status == "failed" and c.gradient]
        if not wrong:
            return shown, []
        first = wrong[0]
        causes, symptoms = [], []
        seen: set[str] = set()
        for check in shown:
            another = check.dtype == first.dtype and check.gradient not in {"", *seen}
            follows = check.status == "failed" and check.name in _SYMPTOMS
            if follows and check is not first and not another:
                symptoms.append(check)
            else:
                causes.append(check)
            if check.gradient:
                seen.add(check.gradient)
        return causes, symptoms


def _finite(value):
    """Return `value` with numbers that JSON has no word for as None."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
