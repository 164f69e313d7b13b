"""The checks of one case: a gradient against its reference and against what any gradient keeps.

Long: a function for each part of the contract, beside one another to be compared.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jax.extend import core

from jaxnets._checking import linearity, mapping
from jaxnets._checking.case import Case, gradient_of_gradient, hessian_product, structured, vjp
from jaxnets._checking.causes import missing_term
from jaxnets._checking.differences import second_differences
from jaxnets._checking.interpreter import RULE, equations
from jaxnets._checking.mapping import output_labels
from jaxnets._checking.programs import (
    LARGE,
    contents_of,
    each,
    one_line,
    remembered,
    run_eagerly,
    text_of,
)
from jaxnets._checking.reference import Expectation, along
from jaxnets._checking.rounding import ALLOWANCE, rounding_spread
from jaxnets._checking.verdict import Check, compare

CHECKS = (
    *("vjp", "forward", "dtype", "finite", "linear", "repeat", "jit"),
    *("second order", "hessian", "vmap"),
)


class Main(NamedTuple):
    """The results of the program that most checks look at.

    Attributes:
        primal: the function's own values.
        values: those of its forward rule.
        gradients: a stack for each argument, a row for each cotangent.
        combinations: what the rows are.
    """

    primal: list
    values: list
    gradients: list
    combinations: list


class Contract(NamedTuple):
    """The checks of one case.

    Attributes:
        case: the case.
        expected: what its results should be.
        wanted: whether to run the check of a name.
        project: as `GradCheck` has it.
    """

    case: Case
    expected: Expectation
    wanted: Callable[[str], bool]
    project: Callable | None

    def checks(self) -> Iterator[Check]:
        """Run the checks that are wanted."""
        case, expected, wanted, _ = self
        case = signed(case)
        try:
            main = _run_main(case)
            compiles = Check("jit", case.dtype, "passed")
            if case.eager:
                reason = "f itself looks at concrete values"
                compiles = Check("jit", case.dtype, "skipped", reason)
        except Exception as error:
            raised = f"raises {one_line(error)}"
            try:
                main = _run_main(replace(case, eager=True, rules=None))
            except Exception:
                yield unless_twin_raises("vjp", case, raised, _run_main)
                return
            case = replace(case, eager=True, rules=None)
            compiles = Check("jit", case.dtype, "failed", raised)
        if wanted("vjp") and expected.gradients is not None:
            yield from _check_vjp("vjp", case, expected, main, self.project)
        for name, check in (
            ("forward", _check_forward),
            ("dtype", _check_dtype),
            ("finite", _check_finite),
            ("linear", _check_linear),
        ):
            if wanted(name):
                yield check(name, case, expected, main)
        # Of a large case the stacks are large.
        main = main._replace(gradients=[stack[:1].copy() for stack in main.gradients])
        if wanted("repeat"):
            yield _check_repeat("repeat", case, main)
        del main
        raw, case = case, case.traced_once()
        if wanted("jit"):
            yield compiles
        for name, second in (("second order", gradient_of_gradient), ("hessian", hessian_product)):
            if wanted(name):
                yield _check_second(name, case, raw, expected, second)
        if wanted("vmap"):
            yield from _check_vmap(case, expected)


def unless_twin_raises(name: str, case: Case, raised: str, check: Callable) -> Check:
    """Return a failure, unless the function without its rules raises as well."""
    try:
        check(case.without_rules())
    except Exception:
        return Check(name, case.dtype, "skipped", f"{raised}, and so does autodiff(f)")
    return Check(name, case.dtype, "failed", raised)


def signed_by_body(case: Case) -> Case:
    """Return the case with the signature of its function without rules."""
    if case.eager:
        return case
    try:
        body = jax.jit(lambda *leaves: case.plain(*leaves)).trace(*case.leaves).jaxpr
        text = text_of(body.jaxpr, body.consts)
    except Exception:  # Whoever runs it says so.
        return case
    held = [x for k, x in enumerate(case.leaves) if k not in case.differentiated]
    arrays = [*held, *case.cotangents, *case.others, *case.directions]
    contents = tuple(map(contents_of, arrays))
    return replace(case, signature=(text, contents, tuple(case.differentiated), case.dtype))


def signed(case: Case) -> Case:
    """Return the case with a signature that counts its rules as well, as they are traced now."""
    if case.signature is None:
        return case
    body, stacks = case.signature[:4], _shapes_of_stacks(case)
    try:
        program = jax.jit(lambda *a: _values_and_gradients(case, *a))
        rules = program.trace(case.floats, stacks).jaxpr
        signature = *body, text_of(rules.jaxpr, rules.consts)
    except Exception:
        return replace(case, signature=None, rules=None)
    return replace(case, signature=signature, rules=rules)


def _shapes_of_stacks(case):
    empty = [np.zeros(0, np.asarray(cotangent).dtype) for cotangent in case.cotangents]
    none, _ = linearity.cotangents(replace(case, cotangents=empty, others=empty))
    pairs = zip(none, case.cotangents, strict=True)
    return [jax.ShapeDtypeStruct((len(a), *np.shape(b)), a.dtype) for a, b in pairs]


def _values_and_gradients(case, floats, stacks):
    values, pullback = jax.vjp(case.explicit, *floats)
    return [*values, *each(lambda cotangents: pullback(list(cotangents)), stacks)]


def _run_main(case: Case) -> Main:
    stacks, combinations = linearity.cotangents(case)
    count = len(case.cotangents)

    def program(floats, stacks):
        primal = case.explicit(*floats)
        if case.rules is None:
            results = _values_and_gradients(case, floats, stacks)
        else:
            results = core.jaxpr_as_fun(case.rules)(*floats, *stacks)
        return primal, results[:count], results[count:]

    primal, values, gradients = case.run(program, case.floats, stacks, name="main")
    return Main(list(primal), list(values), list(gradients), combinations)


def _labels(case: Case) -> list[str]:
    return [f"gradient of {name}" for name in case.float_names]


def _check_vjp(name, case, expected, main, project):
    size = max(
        _largest(c) * _largest(v)
        for c, v in zip(case.cotangents, expected.values.values, strict=True)
    )
    for k, (argument, value) in enumerate(zip(case.float_names, case.floats, strict=True)):
        want, allowed = (part[k] for part in expected.gradients)
        # The slope of a function that changes by its own size where x does.
        terms = size / (_largest(value) or 1.0)
        label, probes = f"gradient of {argument}", expected.probes[k]
        got = along(probes, main.gradients[k][0])
        if probes is not None:
            label = f"product of a random direction and the {label}"
        elif project is not None:
            got = np.asarray(project(argument, got), got.dtype)
            want = np.asarray(project(argument, want), np.float64)
            allowed = np.full_like(want, np.max(allowed, initial=0.0))
        check = compare(name, case.dtype, [label], [got], [want], [allowed], [terms])
        # A pattern of the whole array says more.
        if (
            check.status == "failed"
            and "everywhere" not in check.message
            and "transpose" not in (check.message)
        ):
            check = replace(check, message=check.message + missing_term(case, k))
        # A gradient without entries cannot be wrong.
        yield replace(check, gradient=argument if value.size else "")


def _check_forward(name, case, expected, main):
    """Hold the function's values, and those of its forward rule, against the reference's."""
    labels = output_labels(case)
    check = compare(name, case.dtype, labels, main.primal, *expected.values)
    if check.status == "failed":
        return check
    labels = [f"{label} of the forward rule" for label in labels]
    return compare(name, case.dtype, labels, main.values, *expected.values)


def _check_dtype(name, case, expected, main):
    for argument, value, stack in zip(case.float_names, case.floats, main.gradients, strict=True):
        if (stack.shape[1:], stack.dtype) != (value.shape, value.dtype):
            message = (
                f"gradient of {argument} is {stack.dtype}{list(stack.shape[1:])}, "
                f"the argument {value.dtype}{list(value.shape)}"
            )
            return Check(name, case.dtype, "failed", message)
    return Check(name, case.dtype, "passed")


def _check_finite(name, case, expected, main):
    labels = [*output_labels(case), *_labels(case)]
    wanted = list(expected.values.values)
    whole = [None] * len(case.floats) if expected.gradients is None else expected.gradients.values
    for k, value in enumerate(case.floats):
        dense = whole[k] is not None and expected.probes[k] is None
        wanted.append(whole[k] if dense else np.zeros(value.shape))
    got = [*main.values, *(stack[0] for stack in main.gradients)]
    for label, value, reference in zip(labels, got, wanted, strict=True):
        bad = np.isfinite(reference) & ~np.isfinite(value.astype(np.float64))
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            message = f"{label} at {list(index)} is {value[index]}"
            if expected.gradients is None:
                # It may be infinite for good reason.
                return Check(name, case.dtype, "skipped", message)
            return Check(name, case.dtype, "failed", f"{message} where the reference's is finite")
    return Check(name, case.dtype, "passed")


def _check_linear(name, case, expected, main):
    labels, relative = _labels(case), expected.relative[len(case.cotangents) :]

    def checks_of(stacks):
        for combination in main.combinations:
            names = [f"{label} for the cotangent {combination.cotangent}" for label in labels]
            parts = [linearity.expected(combination, stack) for stack in stacks]
            got = [stack[combination.row] for stack in stacks]
            wanted, sizes = [a for a, _ in parts], [b for _, b in parts]
            yield _compare_loosely(name, case, names, got, wanted, sizes, relative)

    checks = list(checks_of(main.gradients))
    if any(check.status == "failed" for check in checks):
        # Where a large cotangent overflows inside of f, autodiff's gradient is not linear either.
        try:
            twin = _run_main(case.without_rules())
        except Exception:
            twin = None
        if twin is not None:
            pairs = zip(checks, checks_of(twin.gradients), strict=True)
            checks = [check for check, other in pairs if other.status != "failed"]
    statuses = "passed", "skipped", "inconclusive", "failed"
    nothing = Check(name, case.dtype, "skipped", "autodiff's gradient is not linear either")
    worst = max(checks, key=lambda check: statuses.index(check.status), default=nothing)
    if worst.status == "failed":
        worst = replace(worst, message=f"not linear in the cotangent: {worst.message}")
    return replace(worst, ulps=max((check.ulps for check in checks), default=0.0))


def _check_repeat(name, case, main):
    """Trace and run it once more: the same program gives the same bits."""
    try:
        # The program of another trace; of the same text it is the one that was compiled.
        again = _run_main(signed(case))
    except Exception as error:
        message = f"runs once and then raises {one_line(error)}"
        return Check(name, case.dtype, "failed", message)
    labels = [*output_labels(case), *output_labels(case), *_labels(case)]
    once, twice = (
        [*run.primal, *run.values, *(stack[0] for stack in run.gradients)] for run in (main, again)
    )
    for label, a, b in zip(labels, once, twice, strict=True):
        if a.tobytes() != b.tobytes():
            return Check(name, case.dtype, "failed", f"{label} differs between two equal runs")
    return Check(name, case.dtype, "passed")


def _check_second(name, case, raw, expected, second):
    labels = [f"second derivative to {argument}" for argument in case.float_names]
    arguments = case.floats, case.cotangents, case.directions

    def program(*arguments):
        return second(case.explicit, *arguments)

    try:
        if second is hessian_product and _calls_a_rule(case):
            # Forward over reverse works under jit, and not without.
            run_eagerly(lambda *arguments: second(raw.explicit, *arguments), *arguments)
        got, along = _second_and_along(name, case, program, arguments, second)
    except Exception as error:
        if isinstance(error, TypeError) and "forward-mode" in str(error):
            message = (
                "jax.jvp of the gradient does not work, nor does jax.hessian: a forward or "
                "backward rule calls a custom_vjp function; let it call the function's plain body"
            )
            return Check(name, case.dtype, "warning", message)
        raised = f"raises {one_line(error)}"
        if expected.second is None:
            return Check(name, case.dtype, "skipped", raised)
        if "reverse-mode" in str(error).lower():
            message = (
                "jax.grad of the gradient does not work: a forward or backward rule calls what JAX "
                "does not differentiate in reverse mode, such as a while loop"
            )
            return Check(name, case.dtype, "warning", message)
        return unless_twin_raises(
            name,
            case,
            raised,
            lambda twin: twin.run(lambda *a: second(twin.explicit, *a), *arguments),
        )
    if along and (hidden := linearity.hidden_cotangent(name, case, along)):
        return hidden
    if expected.second is None:
        return _against_differences(name, case, labels, got)
    check = compare(name, case.dtype, labels, got, *expected.second)
    if check.status == "passed" or case.eager:
        return check
    # The derivative of a rule is another program than that of autodiff's gradient: terms may cancel
    # in the one that do not occur in the other. Whether the rule itself is as stable as autodiff's
    # gradient is for the first order to say; here rounding counts in either program.
    rounded = rounding_spread(
        program, arguments, np.random.default_rng(0), key=case.key(f"{name}, rounded")
    )
    allowed = [
        limit + ALLOWANCE * spread
        for limit, spread in zip(expected.second.allowed, rounded.spreads, strict=True)
    ]
    # Where a function reads half of a symmetric matrix, only the symmetric part means something.
    got, wanted, allowed = (
        [structured(value, part) for value, part in zip(case.floats, parts, strict=True)]
        for parts in (got, expected.second.values, allowed)
    )
    return compare(name, case.dtype, labels, got, wanted, allowed)


def _second_and_along(name, case, program, arguments, second):
    """Return the second derivative, and what `linearity` asks of the cotangent if that runs."""

    def both(*arguments):
        along = linearity.derivative_to_cotangents(case.explicit, *arguments, case.others)
        return program(*arguments), along

    if second is gradient_of_gradient:
        with contextlib.suppress(Exception):  # Such as of a callback that is given the cotangent.
            return case.run(both, *arguments, name=(name, "along"))
    return case.run(program, *arguments, name=name), None


def _calls_a_rule(case):
    """Return whether a forward or backward rule calls a function with a rule of its own."""

    def look():
        if case.rules is not None:
            return any(equation.primitive.name == RULE for equation in equations(case.rules))
        try:
            jaxpr = jax.make_jaxpr(lambda *a: vjp(case.explicit, *a))(case.floats, case.cotangents)
        except Exception:
            return False
        return any(equation.primitive.name == RULE for equation in equations(jaxpr))

    return remembered(case.key("calls a rule"), look)


def _against_differences(name, case, labels, got):
    """Compare with differences of the gradient, where the second order has no other reference."""
    if case.dtype != "float64":
        reason = "differences of the gradient tell nothing in this dtype"
        return Check(name, case.dtype, "skipped", reason)
    try:
        derivatives, errors = second_differences(case)
    except Exception as error:
        return Check(name, case.dtype, "skipped", f"no reference: {one_line(error)}")
    got, derivatives = (
        [
            structured(value, np.asarray(part))
            for value, part in zip(case.floats, parts, strict=True)
        ]
        for parts in (got, derivatives)
    )
    sizes = [max(_largest(a), _largest(b)) for a, b in zip(derivatives, got, strict=True)]
    if any(e.max(initial=0.0) > 1e-3 * size for e, size in zip(errors, sizes, strict=True)):
        return Check(name, case.dtype, "skipped", "no smooth point: the gradient has a kink nearby")
    allowed = [2.0 * e + 1e-5 * size + 1e-9 for e, size in zip(errors, sizes, strict=True)]
    return compare(name, case.dtype, labels, got, derivatives, allowed, sizes)


def check_second_differences(name: str, case: Case) -> Check:
    """Hold the second order of a rule that autodiff keeps against differences of the gradient."""
    labels = [f"second derivative to {argument}" for argument in case.float_names]
    arguments = case.floats, case.cotangents, case.directions
    try:
        got = case.run(
            lambda *a: gradient_of_gradient(case.explicit, *a), *arguments, name="second order"
        )
    except Exception as error:
        return Check(name, case.dtype, "skipped", f"raises {one_line(error)}")
    return _against_differences(name, case, labels, got)


def _check_vmap(case, expected):
    sets = {}
    for mapped in mapping.sets_of(case):
        name = f"vmap of {mapping.name_of_set(case, mapped)}"
        if reason := mapping.refusal(case, mapped):
            yield Check(name, case.dtype, "skipped", reason)
        else:
            sets[name] = mapped
    results = {}
    if sum(leaf.size for leaf in case.leaves) < LARGE:  # Otherwise memory counts for more.
        with contextlib.suppress(Exception):  # One of them raises.
            results = dict(zip(sets, mapping.run_mapped(case, list(sets.values())), strict=True))
    for name, mapped in sets.items():
        try:
            got = results[name] if results else mapping.run_mapped(case, [mapped])[0]
        except Exception as error:
            raised = f"raises {one_line(error)}"
            yield unless_twin_raises(
                name, case, raised, lambda twin, mapped=mapped: mapping.run_mapped(twin, [mapped])
            )
        else:
            yield mapping.judge(name, case, mapped, got, expected.relative)


def _compare_loosely(name, case, labels, got, wanted, sizes, relative):
    """Compare with what rounding does to the worst entry, for values it was not measured on."""
    tiny = np.finfo(np.float32).tiny
    allowed = [4.0 * part * size + tiny for part, size in zip(relative, sizes, strict=True)]
    return compare(name, case.dtype, labels, got, wanted, allowed)


def _largest(array) -> float:
    value = np.abs(np.asarray(array).astype(np.float64))
    return float(value[np.isfinite(value)].max(initial=0.0))
