"""Finds every hand-written gradient in a program and checks each on the values that reach it.

Long: what is found in a program and how it is measured read each other.
"""

import json
import textwrap
import types
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxnets._checking import interpreter, programs
from jaxnets._checking.case import name_of
from jaxnets._checking.interpreter import RULE, equations
from jaxnets._checking.report import Report
from jaxnets._costs import Costs, costs
from jaxnets._gradcheck import GradCheck, gradcheck


@dataclass(frozen=True)
class Rule:
    """One hand-written gradient, at one set of shapes.

    Attributes:
        name: the function's, as its author wrote it.
        place: the file and line where it is defined.
        calls: how many equations of the program call it with these shapes; one in a loop counts
            once.
        shapes: of its array arguments, such as "float32[8,16]".
        report: what `gradcheck` found; None if no value reached it.
        costs: what the rule costs beside autodiff; None where one of the two does not run.
        reason: why no value reached it.
    """

    name: str
    place: str
    calls: int
    shapes: tuple[str, ...]
    report: Report | None
    costs: Costs | None = None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """Return "ok", "FAILED" or "not checked"."""
        if self.report is None:
            return "not checked"
        return "ok" if self.report.ok else "FAILED" if self.report.failures else "not checked"


@dataclass(frozen=True)
class Audit:
    """All hand-written gradients of a program.

    Attributes:
        function: the program's name.
        rules: one for each rule and set of shapes, in the order in which they are called.
    """

    function: str
    rules: tuple[Rule, ...]

    @property
    def ok(self) -> bool:
        """Whether every rule was checked and none failed."""
        return all(rule.verdict == "ok" for rule in self.rules)

    def raise_if_failed(self) -> None:
        """Raise AssertionError with the table as its message unless the audit is ok."""
        if not self.ok:
            raise AssertionError(str(self))

    def to_json(self) -> str:
        """Return the audit as JSON: each rule with its report."""
        rules = [
            {
                "name": rule.name,
                "place": rule.place,
                "calls": rule.calls,
                "shapes": rule.shapes,
                "verdict": rule.verdict,
                "reason": rule.reason,
                "report": json.loads(rule.report.to_json()) if rule.report else None,
            }
            for rule in self.rules
        ]
        return json.dumps({"function": self.function, "ok": self.ok, "rules": rules}, indent=2)

    def __repr__(self) -> str:
        """Return what `print` shows."""
        return str(self)

    def __str__(self) -> str:
        """Return a table of the rules, then the reports of those that are not ok."""
        if not self.rules:
            hidden = "a gradient that it takes itself hides its rules"
            return f"audit {self.function}: no hand-written gradient ({hidden})"
        rows = [("rule", "verdict", "error", "saved", "time", "calls")]
        rows += [
            (
                rule.name,
                rule.verdict,
                _error(rule),
                _ratio(rule, "residual_bytes"),
                _ratio(rule, "seconds"),
                str(rule.calls),
            )
            for rule in self.rules
        ]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        count = f"{len(self.rules)} rule{'s' if len(self.rules) > 1 else ''}"
        bad = sum(rule.verdict != "ok" for rule in self.rules)
        verdict = f"{bad} not ok" if bad else "all ok"
        lines = [f"audit {self.function}: {count}, {verdict}"]
        for k, row in enumerate(rows):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  " + "  ".join(cells).rstrip())
            if k:
                lines += _indented(" ".join(self.rules[k - 1].shapes))
                lines.append(f"    {self.rules[k - 1].place}")
        lines.append("  error: beside the largest entry; saved, time: beside autodiff's")
        for rule in self.rules:
            if rule.verdict != "ok":
                said = str(rule.report) if rule.report else f"{rule.name}: {rule.reason}"
                lines += ["", said]
        return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent="    ", subsequent_indent="    ")


def _error(rule: Rule) -> str:
    """Return the gradient's largest error beside its array's largest entry, in the first dtype."""
    compared = [check for check in rule.report.checks if check.gradient] if rule.report else []
    if not compared:
        return "-"
    eps = float(jnp.finfo(compared[0].dtype).eps)
    return f"{eps * max(c.ulps for c in compared if c.dtype == compared[0].dtype):.1e}"


def _ratio(rule: Rule, field: str) -> str:
    if rule.costs is None:
        return "-"
    ours, theirs = (getattr(way, field) for way in (rule.costs.explicit, rule.costs.autodiff))
    return f"{ours / theirs:.2f}" if theirs > 0 else "-"  # NaN where autodiff does not run.


def audit(f: Callable, /, *args: Any, check: GradCheck = gradcheck, **kwargs: Any) -> Audit:
    """Check every `jax.custom_vjp` rule that `f(*args, **kwargs)` reaches, at the values it gets.

    Rules are found at any depth: in jit, remat, vmap, inside of other rules, in the bodies of scan
    and while (at their first iteration's values) and in all branches of cond (those not taken at
    the same values). The same rule at the same shapes is checked once, where it is called first;
    rules that one function made with other numbers are several. A gradient that f takes inside has
    used its rules already: hand over the function that is to be differentiated.

    Args:
        f: any function that JAX can trace: a loss, a model, an op.
        *args: its arguments, pytrees.
        check: a `gradcheck` with settings, for every rule.
        **kwargs: further arguments of f.

    Returns:
        An audit: `audit.ok`, `print(audit)`, `audit.rules`, `audit.to_json()`.
    """
    leaves, structure = jax.tree.flatten((f, args, kwargs))
    arrays = {k: jnp.array(leaf, copy=True) for k, leaf in enumerate(leaves) if _is_array(leaf)}

    def rebuilt(*given):
        filled = list(leaves)
        for k, value in zip(arrays, given, strict=True):
            filled[k] = value
        # A module whose state a call updates may be updated only where it was made.
        f, args, kwargs = jax.tree.unflatten(structure, filled)
        return f(*args, **kwargs)

    jaxpr = jax.make_jaxpr(rebuilt)(*arrays.values())
    walk = _Walk()

    def values(*given):
        walk.sites.clear()
        walk.enter(jaxpr.jaxpr, jaxpr.consts, given)
        return [site.values for site in walk.sites if site.values is not None]

    reached = programs.run(values, *arrays.values())
    groups: dict[Hashable, list[_Site]] = {}
    for site in walk.sites:
        groups.setdefault((site.name, site.place, site.shapes, site.rule), []).append(site)
    rules = []
    for sites in groups.values():
        first = next((site for site in sites if site.values is not None), sites[0])
        report, measured, reason = None, None, first.reason
        if first.values is not None:
            at = [site for site in walk.sites if site.values is not None].index(first)
            values_there = list(map(jnp.asarray, reached[at]))
            try:
                report = _checked(check, _named(first), values_there)
            except ValueError as error:  # Such as a rule of integers alone.
                reason = str(error)
            measured = _costs(_named(first), values_there)
        rules.append(
            Rule(first.name, first.place, len(sites), first.shapes, report, measured, reason)
        )
    return Audit(name_of(f), tuple(rules))


def _checked(check: GradCheck, rule: Callable, values: list) -> Report:
    """Return the report of one call; in the dtypes given alone if it was traced for these alone.

    A backward rule may have read the dtype of its argument while f was traced, and cast to it.
    """
    report = check(rule, *values)
    dtypes = {str(x.dtype) for x in values if jnp.issubdtype(x.dtype, jnp.floating)}
    wide = {failure.name for failure in report.failures if failure.dtype == "float64"}
    if "float64" in dtypes or not wide & {"dtype", "jit"}:
        return report
    return check.replace(dtypes=tuple(sorted(dtypes)))(rule, *values)


def _costs(rule: Callable, values: list) -> Costs | None:
    try:
        return costs(rule, *values)
    except Exception:  # Autodiff, or the rule itself, does not run.
        return None


@dataclass(eq=False)
class _Site:
    """One equation that calls a rule, alone as a jaxpr, and the values that reach it."""

    name: str
    place: str
    shapes: tuple[str, ...]
    rule: Hashable
    call: Callable
    values: list | None
    reason: str


def _likeness(value: Any, around: tuple = ()) -> Hashable:
    """Return a key by which functions of equal code and equal variables around it are equal."""
    if not isinstance(value, types.FunctionType):
        if isinstance(value, jax.Array | np.ndarray):
            return programs.contents_of(value)
        simple = isinstance(value, bool | int | float | complex | str | None)
        return (type(value), value) if simple else id(value)
    if value in around:  # It calls itself.
        return around.index(value)
    cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]
    variables = [cell.cell_contents for cell in cells] + list(value.__defaults__ or ())
    return value.__code__, tuple(_likeness(one, (*around, value)) for one in variables)


def _numbers_of(body: Any) -> Hashable:
    """Return what a body computes, as far as two that one function made may differ in it."""
    found = []
    for equation in interpreter.equations(body):
        literals = [str(a) for a in equation.invars if isinstance(a, core.Literal)]
        params = sorted(
            (name, value)
            for name, value in equation.params.items()
            if isinstance(value, bool | int | float | str)
        )
        found.append((equation.primitive.name, tuple(literals), tuple(params)))
    return tuple(found), tuple(map(programs.contents_of, body.consts))


def _named(site: _Site) -> Callable:
    def rule(*args):
        return site.call(*args)

    rule.__name__ = site.name
    return rule


def _is_array(leaf) -> bool:
    return isinstance(leaf, jax.Array) or (
        hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.number)
    )


class _Walk:
    """An evaluation of a jaxpr that notes every rule it meets."""

    def __init__(self):
        self.sites: list[_Site] = []

    def enter(self, jaxpr, consts: Sequence, arguments: Sequence) -> list:
        """Evaluate `jaxpr` equation by equation."""
        return interpreter.evaluate(jaxpr, consts, arguments, self.step)

    def step(self, jaxpr, equation, inputs: list) -> list:
        """Evaluate one equation, after a look at what is inside of it."""
        name, params = equation.primitive.name, equation.params
        if name == RULE:
            self.note(equation, inputs)
        if called := interpreter.body(equation):
            return self.enter(*called, inputs)
        if name == "scan":
            consts, carry = params["num_consts"], params["num_carry"]
            last = params["length"] - 1 if params["reverse"] else 0
            if params["length"]:
                rows = [x[last] for x in inputs[consts + carry :]]
                self.look(params["jaxpr"], [*inputs[: consts + carry], *rows])
        elif name == "while":
            test, body = params["cond_nconsts"], params["body_nconsts"]
            start = inputs[test + body :]
            self.look(params["cond_jaxpr"], [*inputs[:test], *start])
            self.look(params["body_jaxpr"], [*inputs[test : test + body], *start])
        elif name == "cond":
            for branch in params["branches"]:
                self.look(branch, inputs[1:])
        else:
            for inner in equations(tuple(params.values())):
                if inner.primitive.name == RULE:
                    reason = f"it is called inside of {name}, whose values are not seen"
                    self.note(inner, None, reason)
        return interpreter.bind(jaxpr, equation, inputs)

    def look(self, closed, inputs: list) -> None:
        """Walk a body for its rules alone."""
        if any(inner.primitive.name == RULE for inner in equations(closed)):
            self.enter(closed.jaxpr, closed.consts, inputs)

    def note(self, equation, inputs: list | None, reason: str = "") -> None:
        """Note a rule, and what reaches it."""
        body = equation.params["call_jaxpr"]
        text = getattr(body.jaxpr.debug_info, "func_src_info", "") or "a function"
        name, _, place = text.partition(" at ")
        atoms = list(dict.fromkeys(a for a in equation.invars if not isinstance(a, core.Literal)))
        shapes = tuple(
            f"{atom.aval.dtype}[{','.join(map(str, atom.aval.shape))}]" for atom in atoms
        )
        call = interpreter.alone(body.jaxpr, equation, atoms)
        given = None
        if inputs is not None:
            pairs = dict(zip(equation.invars, inputs, strict=False)) if atoms else {}
            given = [pairs[atom] for atom in atoms]
        # Of one function that makes rules come several, of which one may be wrong.
        backward = getattr(equation.params.get("bwd"), "f", None)
        rule = _likeness(backward), _numbers_of(body)
        self.sites.append(_Site(name, place, shapes, rule, call, given, reason))
