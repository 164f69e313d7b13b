"""Holds the gradient of a function against autodiff, against finite differences and its contract.

`jax.test_util.check_grads` probes one direction at a fixed tolerance. Here every entry of every
gradient is compared, under random cotangents, with the gradient that JAX derives by itself from the
same function in float64 (`jaxnets.autodiff`), and the tolerance of each entry is what rounding was
measured to do to it (`jaxnets._checking.rounding`).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case, Raised, draw_case, name_of, redrawn
from jaxnets._checking.contract import (
    CHECKS,
    Contract,
    check_second_differences,
    signed,
    signed_by_body,
    unless_twin_raises,
)
from jaxnets._checking.differences import finite_differences
from jaxnets._checking.interpreter import RULE
from jaxnets._checking.mapping import has_rules
from jaxnets._checking.programs import one_line
from jaxnets._checking.reference import (
    Results,
    Tolerance,
    expectation,
    first_that_works,
    probes_of,
    values_alone,
)
from jaxnets._checking.report import Report
from jaxnets._checking.verdict import Check

Expect = Literal["", "straight-through", "approximate", "projected"]
# The checks that hold a gradient against another one.
_COMPARISONS = ("vjp", "second order", "hessian", "finite differences", "second differences")


@dataclass(frozen=True)
class GradCheck:
    """Check the gradient of `f` at `(*args, **kwargs)` with respect to each floating array.

    Checked in the dtype given, and again in float64:

    - *forward*: the value that the forward rule returns is the function's own;
    - *dtype*: each gradient has its argument's shape and dtype;
    - *vjp*: under random cotangents it equals the reference's, entry by entry;
    - *finite*: it is finite wherever the reference is;
    - *linear*: it is linear in the cotangent, and zero for zero;
    - *repeat*: it is the same, bit for bit, when it is traced and run twice;
    - *jit*: it compiles; all checks run it compiled if it does;
    - *vmap*: it is the same under `jax.vmap` of each array argument alone and of all, inside and
      outside of the gradient;
    - *second order*: the gradient of the gradient; *hessian*: forward over reverse, a warning where
      JAX cannot;
    - *finite differences*, in float64 alone: central ones of `f`, along a random direction in each
      argument; where `f` has a kink, at a random point nearby;
    - *second differences*, likewise, of the gradient, for rules made with `jax.custom_jvp`.

    The reference is the first that works: autodiff in float64, autodiff in the dtype given, forward
    mode of the body, central differences. The report names it. A complex array is checked as two
    real ones. Integers, random keys, Python numbers and everything else are held constant, and
    named in the report.

    A rule is taken for a function of its arguments and of what it closes over: JAX traces it once
    for each program. Here it is traced at least twice in each dtype, and once more for the finite
    differences; one that counts its calls is found if it is wrong in one of these. The programs of
    second order and vmap are taken over from an earlier check whose body, first order and values
    are the same.

    A GPU or TPU by default computes products of float32 with fewer digits than float32 has. Here
    they are computed with all of them, unless `f` itself says otherwise: it is the rule that is
    checked.

    `gradcheck` is the one with the settings below at their defaults; `gradcheck.replace(points=5)`
    is another.

    Attributes:
        wrt: the arguments, or leaves of them such as "params['weight']", whose gradient is checked;
            all of a floating dtype if none is named.
        skip: checks to leave out.
        only: the checks to run; all if none is named.
        rtol: allowed beside what rounding explains, relative to an array's largest entry; one
            number, or one for each argument by name.
        atol: likewise, absolute.
        reference: a function of the same arguments whose gradient is the right one.
        expect: how the gradient differs on purpose: "straight-through", "approximate" or
            "projected". Differences are then reported without a failure; the rest of the contract
            holds.
        dtypes: the dtypes to check in; the one given and float64 if none is named.
        points: how many points to check at: the one given and others by `sampler`.
        sampler: `sampler(rng, name, array)` draws another value of an argument; by default normal
            with the array's own mean and standard deviation.
        project: `project(name, direction)` maps a direction of an argument to one that keeps the
            argument's structure, such as `(d + d.T) / 2`. Gradients are compared along such.
        seed: of everything random.
        budget_s: no check starts after so many seconds; the rest is reported as skipped.
    """

    wrt: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    rtol: float | Mapping[str, float] = 0.0
    atol: float | Mapping[str, float] = 0.0
    reference: Callable | None = None
    expect: Expect = ""
    dtypes: tuple[str, ...] = ()
    points: int = 1
    sampler: Callable | None = None
    project: Callable | None = None
    seed: int = 0
    budget_s: float = float("inf")

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ValueError: a setting names no check, no kind of expectation, or no number of points.
        """
        for setting in ("wrt", "skip", "only", "dtypes"):
            value = getattr(self, setting)
            if isinstance(value, str):
                object.__setattr__(self, setting, (value,))
        for setting in ("skip", "only"):
            for name in getattr(self, setting):
                if name not in (*CHECKS, *_COMPARISONS):
                    names = ", ".join(dict.fromkeys((*CHECKS, *_COMPARISONS)))
                    raise ValueError(f"{setting}: no check is called {name!r}; there are {names}")
        if self.expect not in get_args(Expect):
            known = ", ".join(filter(None, get_args(Expect)))
            raise ValueError(f"expect: {self.expect!r} is none of {known}")
        if self.points < 1:
            raise ValueError(f"points must be at least 1; got {self.points}")

    def replace(self, **settings: Any) -> "GradCheck":
        """Return a `gradcheck` with some settings replaced."""
        return replace(self, **settings)

    def __call__(self, f: Callable, /, *args: Any, **kwargs: Any) -> Report:
        """Check the gradient of `f` at `(*args, **kwargs)`.

        Args:
            f: any function of JAX; it need not be jaxnets's.
            *args: its arguments, pytrees.
            **kwargs: likewise.

        Returns:
            A report: `report.ok`, `print(report)`, `report.raise_if_failed()`, `report.to_json()`.

        Raises:
            ValueError: no argument, or no output, is a floating array; `wrt` names no argument.
        """
        # A seed of its own, lest a cotangent be the argument that somebody drew with a common one.
        rng = np.random.default_rng([self.seed, 0x6A6E])
        stop = time.monotonic() + self.budget_s
        checks: list[Check] = []
        reference = ""
        with jax.default_matmul_precision("highest"):
            try:
                given = draw_case(f, args, kwargs, rng, wrt=self.wrt, reference=self.reference)
            except Raised as error:
                said = Check("forward", "dtype given", "failed", f"f itself raises {error}")
                return Report(name_of(f), (said,))
            for point in range(self.points):
                case = given if point == 0 else redrawn(given, self.sampler, rng)
                found, named = self._at(case, rng, stop)
                reference = reference or named
                place = f"at point {point + 1} of {self.points}: " if point else ""
                checks += [
                    replace(check, message=place + check.message) if check.message else check
                    for check in found
                ]
        if self.expect:
            checks = [self._as_expected(check) for check in checks]
        return Report(name_of(f), tuple(checks), reference, given.unchecked, self.expect)

    def _as_expected(self, check: Check) -> Check:
        if check.status != "failed" or check.name not in _COMPARISONS:
            return check
        return replace(check, status="skipped", message=f"{self.expect}: {check.message}")

    def _wants(self, name: str, stop: float) -> bool:
        if time.monotonic() > stop:
            return False
        return name not in self.skip and (not self.only or name in self.only)

    def _at(self, given: Case, rng: np.random.Generator, stop: float) -> tuple[list[Check], str]:
        """Check at one point; return the checks and what the reference is."""
        checks: list[Check] = []

        def wanted(name):
            return self._wants(name, stop)

        narrow_too = given.dtype != "float64"
        if self.dtypes:
            narrow_too = narrow_too and given.dtype in self.dtypes
        wide_too = not self.dtypes or "float64" in self.dtypes or not narrow_too
        exact, refused = _in_float64(given) if wide_too else (None, [])
        checks += refused
        if self.reference is None:
            given = signed_by_body(given)
            if exact is not None:
                with jax.enable_x64(True):
                    exact = signed_by_body(exact)
        reference, exact_results, given_results = first_that_works(given, exact, rng)
        found = any(isinstance(r, Results) for r in (exact_results, given_results))
        if exact is not None and found and not isinstance(exact_results, Results):
            # Autodiff in the dtype given is then the best reference there is.
            checks.append(_no_float64(str(exact_results)))
            exact = None
        probes = probes_of(given) if reference.startswith("forward") else None
        tolerance = Tolerance(self.rtol, self.atol, self.project)

        def contract(case, results, better):
            if isinstance(results, Results):
                expected = expectation(case, results, better, probes, tolerance)
            else:
                expected = values_alone(case, rng)
            return list(Contract(case, expected, wanted, self.project).checks())

        if narrow_too or exact is None:
            better = exact_results if isinstance(exact_results, Results) else None
            checks += contract(given, given_results, better)
            del better
        del given_results  # Of a large case results are large.
        if exact is not None:
            with jax.enable_x64(True):
                try:
                    checks += contract(exact, exact_results, None)
                except Exception as error:
                    # It traces in float64, and then does not compile or run.
                    checks.append(_no_float64(one_line(error)))
                    exact = None
        del exact_results
        with jax.enable_x64(exact is not None or jnp.result_type(float) == jnp.float64):
            last = signed(exact or given).traced_once()
            alone = self.reference is None and (exact is not None or not found)
            if alone and wanted("finite differences"):
                checks += self._differences(last, rng, alone=not found)
            rules_kept = exact is not None and has_rules(last, ("custom_jvp_call",))
            if rules_kept and wanted("second differences"):
                checks.append(check_second_differences("second differences", last))
        if time.monotonic() > stop:
            spent = f"the budget of {self.budget_s:g} s was spent"
            checks.append(Check("the rest", given.dtype, "skipped", spent))
        return checks, reference

    def _differences(self, case: Case, rng: np.random.Generator, alone: bool) -> list[Check]:
        name = "finite differences"
        judged = not has_rules(case, (RULE, "custom_jvp_call", "stop_gradient"))

        def differences(case):
            tolerance = Tolerance(self.rtol, self.atol, None)
            return finite_differences(
                name,
                case,
                rng,
                alone=alone,
                project=self.project,
                judged=judged,
                tolerance=tolerance,
            )

        try:
            return differences(case)
        except Exception as error:
            return [unless_twin_raises(name, case, f"raises {one_line(error)}", differences)]


gradcheck = GradCheck()
"""Check the gradient of a function: `GradCheck` with its settings at their defaults."""


def _in_float64(given: Case) -> tuple[Case | None, list[Check]]:
    """Return the case in float64; or None, and a check that says why."""
    with jax.enable_x64(True):
        try:
            return given.in_float64(), []
        except Exception as error:  # Such as of a loop whose carry is float32 by name.
            return None, [_no_float64(one_line(error))]


def _no_float64(reason: str) -> Check:
    return Check("all", "float64", "skipped", f"autodiff(f) does not run in float64: {reason}")
