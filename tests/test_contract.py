"""Each check of a gradient, on results that are written down."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets._checking import contract
from jaxnets._checking.case import draw_case
from jaxnets._checking.contract import Contract, Main
from jaxnets._checking.linearity import Combination
from jaxnets._checking.reference import Expectation, Expected
from jaxnets._checking.verdict import Check


def case_of(floats, cotangents=((2.0,),), dtype="float32", **more):
    names = ["x", "w", "b"][: len(floats)]
    return types.SimpleNamespace(
        floats=[np.asarray(x, dtype) for x in floats], float_names=names, dtype=dtype,
        cotangents=[np.asarray(c, dtype) for c in cotangents], directions=[], eager=False,
        explicit=None, **more,
    )  # fmt: skip


def expected_of(gradients, allowed=1e-6, values=((3.0,),), second=None, relative=(), probes=None):
    wide = [np.asarray(g, float) for g in gradients] if gradients is not None else None
    value = [np.asarray(v, float) for v in values]
    count = len(wide or ())
    return Expectation(
        Expected(value, [np.full(v.shape, 1e-6) for v in value]),
        None if wide is None else Expected(wide, [np.full(g.shape, allowed) for g in wide]),
        second,
        list(relative) or [1e-6] * (len(value) + count),
        probes or [None] * count,
    )


def main_of(gradients, values=((3.0,),), primal=None, combinations=()):
    """The first row of each stack is the gradient."""
    arrays = [np.float32(v) for v in values]
    return Main(
        arrays if primal is None else [np.float32(v) for v in primal], arrays,
        [np.float32(stack) for stack in gradients], list(combinations),
    )  # fmt: skip


# --- the gradient --------------------------------------------------------------------------------


@pytest.fixture
def missing(monkeypatch):
    asked = []
    monkeypatch.setattr(
        contract, "missing_term", lambda case, k: asked.append(k) or "; a term is missing"
    )
    return asked


def vjp(case, expected, main, project=None):
    return list(contract._check_vjp("vjp", case, expected, main, project))


def test_the_gradient_of_each_argument_is_compared(missing):
    case = case_of([[1.0, 2.0], [[3.0]]])
    expected = expected_of([[4.0, 5.0], [[6.0]]])
    fine = vjp(case, expected, main_of([[[4.0, 5.0]], [[[6.0]]]]))
    assert [(c.status, c.gradient) for c in fine] == [("passed", "x"), ("passed", "w")]
    _, bad = vjp(case, expected, main_of([[[4.0, 5.0]], [[[7.0]]]]))
    assert bad.message.startswith("gradient of w at [0, 0]: got 7, expected 6")
    assert bad.message.endswith("; a term is missing")
    assert missing == [1]


def test_what_is_wrong_with_the_whole_array_says_more_than_a_term(missing):
    case = case_of([[[1.0, 2.0], [3.0, 4.0]]])
    expected = expected_of([[[1.0, 2.0], [3.0, 4.0]]])
    for got, said in (
        ([[2.0, 4.0], [6.0, 8.0]], "= 2.000 everywhere"),
        ([[1.0, 3.0], [2.0, 4.0]], "it is the transpose of the expected array"),
    ):
        (bad,) = vjp(case, expected, main_of([[got]]))
        assert bad.message.endswith(said)
    assert missing == []


def test_a_gradient_without_entries_cannot_be_wrong(missing):
    (found,) = vjp(case_of([np.zeros(0)]), expected_of([np.zeros(0)]), main_of([np.zeros((1, 0))]))
    assert found.gradient == ""


@pytest.mark.parametrize(
    ("x", "allowed", "status"),
    [
        # A slope that changes the values of size 3, times a cotangent of 2, by their own size.
        (100.0, 0.0005, "passed"),
        (100.0, 0.0007, "inconclusive"),
        (0.5, 0.11, "passed"),
        (0.5, 0.13, "inconclusive"),
        (0.0, 0.05, "passed"),
        (0.0, 0.07, "inconclusive"),
    ],
)
def test_a_gradient_of_0_is_compared_beside_its_terms(missing, x, allowed, status):
    expected = expected_of([[0.0]], allowed=allowed)
    (found,) = vjp(case_of([[x]]), expected, main_of([[[1e-7]]]))
    assert found.status == status


def test_a_gradient_is_compared_with_its_structure(missing):
    case, expected = case_of([[[1.0, 2.0], [2.0, 3.0]]]), expected_of([[[1.0, 2.0], [4.0, 8.0]]])

    def symmetric(name, array):
        assert name == "x"
        return (array + array.T) / 2

    (found,) = vjp(case, expected, main_of([[[[1.0, 6.0], [0.0, 8.0]]]]), symmetric)
    assert found.status == "passed"
    (found,) = vjp(case, expected, main_of([[[[1.0, 6.0], [0.5, 8.0]]]]), symmetric)
    assert found.message.startswith("gradient of x at [0, 1]: got 3.25, expected 3")


def test_a_large_gradient_is_compared_along_directions(missing):
    probes = [np.array([[1.0, 1.0], [1.0, -1.0]])]
    case, expected = case_of([[5.0, 5.0]]), expected_of([[7.0, -1.0]], probes=probes)
    (found,) = vjp(case, expected, main_of([[[3.0, 4.0]]]))
    assert found.status == "passed"
    (found,) = vjp(case, expected, main_of([[[3.0, 5.0]]]))
    assert found.message.startswith(
        "product of a random direction and the gradient of x at [0]: got 8, expected 7"
    )


# --- what any gradient keeps ---------------------------------------------------------------------


def test_the_values_and_those_of_the_forward_rule_are_compared():
    case, expected = case_of([[1.0]]), expected_of([[1.0]])

    def said(values, primal):
        main = main_of([[[1.0]]], values, primal)
        return contract._check_forward("forward", case, expected, main)

    assert said([[3.0]], [[3.0]]).status == "passed"
    assert said([[3.0]], [[4.0]]).message.startswith("value at [0]: got 4, expected 3")
    assert said([[4.0]], [[3.0]]).message.startswith("value of the forward rule at [0]: got 4, ex")


def test_a_gradient_has_the_shape_and_dtype_of_its_argument():
    case, expected = case_of([[1.0, 2.0], [3.0]]), None
    fine = main_of([[[1.0, 2.0]] * 3, [[3.0]] * 3])
    assert contract._check_dtype("dtype", case, expected, fine).status == "passed"
    for stack, said in (
        (np.ones((3, 1), np.float32), "gradient of x is float32[1], the argument float32[2]"),
        (np.ones((3, 2)), "gradient of x is float64[2], the argument float32[2]"),
    ):
        main = fine._replace(gradients=[stack, fine.gradients[1]])
        found = contract._check_dtype("dtype", case, expected, main)
        assert (found.status, found.message[: len(said)]) == ("failed", said)


def test_a_gradient_is_finite_where_the_references_is():
    case, nan = case_of([[1.0, 2.0]]), np.nan

    def said(got, wanted, values=((3.0,),), **more):
        expected = expected_of(wanted, **more)
        found = contract._check_finite("finite", case, expected, main_of([[got]], values))
        return found.status, found.message

    assert said([1.0, 2.0], [[1.0, 2.0]]) == ("passed", "")
    assert said([1.0, nan], [[1.0, nan]]) == ("passed", "")
    failed = ("failed", "gradient of x at [1] is nan where the reference's is finite")
    assert said([1.0, nan], [[1.0, 2.0]]) == failed
    failed = ("failed", "value at [0] is inf where the reference's is finite")
    assert said([1.0, 2.0], [[1.0, 2.0]], values=[[np.inf]]) == failed
    assert said([1.0, nan], None) == ("skipped", "gradient of x at [1] is nan")
    probes = [np.ones((3, 2))]  # Products with directions tell of no entry.
    assert said([1.0, nan], [[1.0, 2.0, 3.0]], probes=probes)[0] == "failed"


# --- linearity -----------------------------------------------------------------------------------

TWICE = Combination("2a", 1, ((2.0, 0),))
THRICE = Combination("3a", 2, ((3.0, 0),))


def linear(monkeypatch, rows, twin=None, relative=1e-3):
    """The verdict on rows for a, 2a and 3a; `twin` is what autodiff gives, or None if it raises."""

    def run(case):
        if twin is None:
            raise TypeError("no derivative")
        return main_of([twin], combinations=[TWICE, THRICE])

    monkeypatch.setattr(contract, "_run_main", run)
    case = case_of([[1.0]], without_rules=lambda: None)
    expected = expected_of([[1.0]], relative=[7.0, relative])
    main = main_of([rows], combinations=[TWICE, THRICE])
    return contract._check_linear("linear", case, expected, main)


def test_a_gradient_of_twice_the_cotangent_is_twice_the_gradient(monkeypatch):
    assert linear(monkeypatch, [[1.0], [2.0], [3.0]]).status == "passed"
    bad = linear(monkeypatch, [[1.0], [2.0], [4.0]])
    assert bad.status == "failed"
    assert bad.message.startswith(
        "not linear in the cotangent: gradient of x for the cotangent 3a at [0]: got 4, expected 3"
    )
    assert bad.ulps == 2.0**22
    # Four times what rounding does beside the largest part.
    assert linear(monkeypatch, [[1.0], [2.0], [3.0 + 3 * 3.9e-3]]).status == "passed"
    assert linear(monkeypatch, [[1.0], [2.0], [3.0 + 3 * 4.1e-3]]).status == "failed"
    assert linear(monkeypatch, [[1.0], [2.0], [3.0]], relative=0.01).status == "inconclusive"


def test_where_autodiffs_gradient_is_not_linear_nothing_is_asked(monkeypatch):
    wrong = [[1.0], [2.0], [4.0]]
    found = linear(monkeypatch, wrong, twin=[[1.0], [2.0], [5.0]])
    assert (found.status, found.message) == ("passed", "")  # Of the others.
    found = linear(monkeypatch, wrong, twin=[[1.0], [3.0], [3.0]])
    assert found.status == "failed"
    found = linear(monkeypatch, wrong, twin=[[1.0], [3.0], [5.0]])
    assert (found.status, found.message) == ("skipped", "autodiff's gradient is not linear either")
    assert found.ulps == 0


# --- once more -----------------------------------------------------------------------------------


def test_the_same_program_gives_the_same_bits(monkeypatch):
    case = case_of([[1.0]])
    monkeypatch.setattr(contract, "signed", lambda case: case)

    def said(again):
        def run(case):
            if isinstance(again, Exception):
                raise again
            return again

        monkeypatch.setattr(contract, "_run_main", run)
        return contract._check_repeat("repeat", case, main_of([[[1.0]]]))

    assert said(main_of([[[1.0]]])).status == "passed"
    unit = 1 + 2.0**-23
    assert said(main_of([[[unit]]])).message == "gradient of x differs between two equal runs"
    assert said(main_of([[[1.0]]], [[4.0]], [[3.0]])).message.startswith("value differs between")
    assert said(main_of([[[1.0]]], primal=[[4.0]])).status == "failed"
    raised = said(ValueError("used up"))
    assert (raised.status, raised.message[:40]) == (
        "failed",
        "runs once and then raises ValueError: us",
    )


@pytest.mark.parametrize(("twin", "status"), [(True, "failed"), (False, "skipped")])
def test_what_raises_is_wrong_unless_autodiff_raises_too(twin, status):
    def check(case):
        assert case == "plain"
        if not twin:
            raise TypeError

    case = case_of([[1.0]], without_rules=lambda: "plain")
    found = contract.unless_twin_raises("vjp", case, "raises X", check)
    assert (found.status, found.name) == (status, "vjp")
    assert found.message == ("raises X" if twin else "raises X, and so does autodiff(f)")


# --- second order --------------------------------------------------------------------------------


def second(monkeypatch, got, wanted=((3.0,),), dtype="float32", spread=0.0, eager=False, x=(1.0,),
           twin=True, along=()):  # fmt: skip
    """The verdict on a second derivative, or on what is raised instead."""

    def run(program, *arguments, name=None):
        if isinstance(got, Exception):
            raise got
        arrays = [np.asarray(part, dtype) for part in got]
        if name != ("second order", "along"):
            return arrays
        if isinstance(along, Exception):
            raise along
        return arrays, along

    def twin_run(*arguments):
        if not twin:
            raise TypeError

    plain = types.SimpleNamespace(run=twin_run, explicit=None)
    case = case_of([x], dtype=dtype, run=run, key=lambda name: None, without_rules=lambda: plain)
    case.eager = eager
    wide = None if wanted is None else [np.asarray(part, float) for part in wanted]
    expected = expected_of([[1.0]], second=None if wide is None else Expected(
        wide, [np.full(part.shape, 1e-3) for part in wide]))  # fmt: skip
    rounded = types.SimpleNamespace(
        spreads=[np.full(np.shape(part), spread) for part in wide or ()]
    )
    monkeypatch.setattr(contract, "rounding_spread", lambda *a, **k: rounded)
    hidden = {"hides": Check("second order", dtype, "failed", "the cotangent is hidden")}
    monkeypatch.setattr(
        contract.linearity, "hidden_cotangent", lambda name, case, found: hidden.get(found)
    )
    order = contract.gradient_of_gradient
    return contract._check_second("second order", case, case, expected, order)


def test_second_derivatives_are_compared(monkeypatch):
    assert second(monkeypatch, [[3.0]]).status == "passed"
    bad = second(monkeypatch, [[4.0]])
    assert bad.message.startswith("second derivative to x at [0]: got 4, expected 3")
    # What rounding does in the program of the rule itself counts, 16 times.
    for off, status in ((0.99, "passed"), (1.01, "failed")):
        spread = 2.0**-10
        found = second(monkeypatch, [[3.0 + 1e-3 + off * 16 * spread]], spread=spread)
        assert found.status == status
    assert second(monkeypatch, [[3.002]], spread=1.0, eager=True).status == "failed"


def test_a_backward_that_hides_its_cotangent_is_wrong(monkeypatch):
    """Whatever the second derivative is; where that cannot be asked, it is not."""
    assert second(monkeypatch, [[3.0]], along="hides").message == "the cotangent is hidden"
    assert second(monkeypatch, [[3.0]], along="is linear").status == "passed"
    error = TypeError("of a callback")
    assert second(monkeypatch, [[3.0]], along=error).status == "passed"
    assert second(monkeypatch, [[4.0]], along=error).status == "failed"


def test_of_a_symmetric_matrix_the_symmetric_part_counts(monkeypatch):
    got, wanted = [[[1.0, 6.0], [0.0, 8.0]]], [[[1.0, 2.0], [4.0, 8.0]]]
    symmetric = second(monkeypatch, got, wanted, x=[[1.0, 2.0], [2.0, 3.0]])
    assert symmetric.status == "passed"
    assert second(monkeypatch, got, wanted, x=[[1.0, 2.0], [5.0, 3.0]]).status == "failed"


def test_what_raises_in_second_order_is_told(monkeypatch):
    forward = TypeError("can't apply forward-mode differentiation (jvp) to a custom_vjp function.")
    found = second(monkeypatch, forward)
    assert found.status == "warning"
    assert found.message.startswith("jax.jvp of the gradient does not work, nor does jax.hessian")
    other = ValueError("no shape")
    assert second(monkeypatch, other).status == "failed"
    assert second(monkeypatch, other).message.startswith("raises ValueError: no shape")
    assert second(monkeypatch, other, twin=False).status == "skipped"
    found = second(monkeypatch, other, wanted=None)
    assert (found.status, found.message[:26]) == ("skipped", "raises ValueError: no shap")
    assert second(monkeypatch, ValueError("forward-mode")).status == "failed"
    reverse = ValueError("Reverse-mode differentiation does not work for lax.while_loop")
    found = second(monkeypatch, reverse)
    assert (found.status, found.message[:44]) == (
        "warning", "jax.grad of the gradient does not work: a fo"
    )  # fmt: skip
    assert second(monkeypatch, reverse, wanted=None).status == "skipped"


def against(monkeypatch, got, derivatives, errors, dtype="float64", x=(1.0,)):
    def differences(case):
        if isinstance(derivatives, Exception):
            raise derivatives
        return [np.array(d, float) for d in derivatives], [np.array(e, float) for e in errors]

    monkeypatch.setattr(contract, "second_differences", differences)
    arrays = [np.asarray(part, dtype) for part in got]
    case = case_of([x], dtype=dtype, run=lambda *a, **k: arrays)
    found = contract._against_differences("second", case, ["second derivative to x"], arrays)
    assert contract.check_second_differences("second", case).status == found.status
    return found


def test_second_derivatives_are_compared_with_differences(monkeypatch):
    assert against(monkeypatch, [[3.0]], [[3.0]], [[0.0]]).status == "passed"
    for off, status in ((2.9e-5, "passed"), (3.1e-5, "failed")):  # 1e-5 of the largest, 3.
        assert against(monkeypatch, [[3.0 + off]], [[3.0]], [[0.0]]).status == status
    for off, status in ((2.1e-3, "passed"), (2.2e-3, "failed")):  # Twice what the step does.
        found = against(monkeypatch, [[3.0, 1.0 + off]], [[3.0, 1.0]], [[0.0, 1.04e-3]], x=[1.0, 1])
        assert found.status == status
    kink = against(monkeypatch, [[3.0]], [[3.0]], [[3.1e-3]])
    assert (kink.status, kink.message[:15]) == ("skipped", "no smooth point")
    assert against(monkeypatch, [[3.0]], [[3.0]], [[2.9e-3]]).status == "passed"
    narrow = against(monkeypatch, [[3.0]], [[3.0]], [[0.0]], dtype="float32")
    assert narrow.message == "differences of the gradient tell nothing in this dtype"
    raised = against(monkeypatch, [[3.0]], TypeError("no rule"), None)
    assert raised.message.startswith("no reference: TypeError: no rule")
    assert raised.status == "skipped"
    half = against(
        monkeypatch, [[[1.0, 6.0], [0.0, 8.0]]], [[[1.0, 2.0], [4.0, 8.0]]], [np.zeros((2, 2))],
        x=[[1.0, 2.0], [2.0, 3.0]],
    )  # fmt: skip
    assert half.status == "passed"


def test_a_second_order_that_raises_has_nothing_to_compare():
    def run(*arguments, **named):
        raise ValueError("no shape")

    found = contract.check_second_differences("second", case_of([[1.0]], run=run))
    assert (found.status, found.message[:26]) == ("skipped", "raises ValueError: no shap")


def test_a_rule_may_call_a_function_with_a_rule():
    """Seen in the program of both, or where there is none, by a trace."""
    ruled = jax.custom_vjp(jnp.sin)
    ruled.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    calling = jax.custom_vjp(jnp.sin)
    calling.defvjp(lambda x: (ruled(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    for function, expected in ((ruled, False), (calling, True)):
        case = draw_case(function, (jnp.ones(2),), {}, np.random.default_rng(0))
        assert contract._calls_a_rule(case) == expected
        others = jax.make_jaxpr(jnp.sin if expected else ruled)(1.0)
        other = dataclasses.replace(case, rules=others)
        assert contract._calls_a_rule(other) == (not expected)

    def fails(*arguments):
        raise TypeError

    case = types.SimpleNamespace(rules=None, key=lambda name: None, explicit=fails,
                                 floats=[1.0], cotangents=[1.0])  # fmt: skip
    assert not contract._calls_a_rule(case)


# --- vmap ----------------------------------------------------------------------------------------


@pytest.fixture
def mapped(monkeypatch):
    """What is mapped over, and a stand-in for the judgement."""
    asked = []
    monkeypatch.setattr(contract.mapping, "sets_of", lambda case: [(0,), (1,), (0, 1)])
    monkeypatch.setattr(contract.mapping, "name_of_set", lambda case, of: "".join(map(str, of)))
    monkeypatch.setattr(
        contract.mapping, "refusal", lambda case, of: "keys of kind rbg" if of == (1,) else ""
    )
    monkeypatch.setattr(
        contract.mapping, "judge",
        lambda name, case, of, got, loose: Check(name, "float32", "passed", f"{got} {loose}"),
    )  # fmt: skip

    def run(case, sets):
        asked.append(sets)
        if (0, 1) in sets and case.raises:
            raise TypeError("no batching rule")
        return [f"rows of {of}" for of in sets]

    monkeypatch.setattr(contract.mapping, "run_mapped", run)
    return asked


def vmap(raises=False, size=1, twin_raises=False):
    twin = types.SimpleNamespace(raises=twin_raises)
    leaf = np.zeros(size)
    case = case_of([[1.0]], leaves=[leaf, leaf], raises=raises, without_rules=lambda: twin)
    expected = types.SimpleNamespace(relative="loose")
    return [(c.name, c.status, c.message) for c in contract._check_vmap(case, expected)]


def test_all_sets_are_mapped_over_in_one_program(mapped):
    assert vmap() == [
        ("vmap of 1", "skipped", "keys of kind rbg"),
        ("vmap of 0", "passed", "rows of (0,) loose"),
        ("vmap of 01", "passed", "rows of (0, 1) loose"),
    ]
    assert mapped == [[(0,), (0, 1)]]


def test_where_one_raises_or_is_large_each_has_its_own(mapped, monkeypatch):
    found = vmap(raises=True)
    assert found[1] == ("vmap of 0", "passed", "rows of (0,) loose")
    assert found[2][:2] == ("vmap of 01", "failed")
    assert found[2][2].startswith("raises TypeError: no batching rule")
    assert vmap(raises=True, twin_raises=True)[2][1] == "skipped"
    mapped.clear()
    monkeypatch.setattr(contract, "LARGE", 6)
    vmap(size=3)
    assert mapped == [[(0,)], [(0, 1)]]
    mapped.clear()
    vmap(size=2)
    assert mapped == [[(0,), (0, 1)]]


def test_the_largest_entry_is_a_finite_one():
    assert contract._largest(np.array([1.0, -3.0, np.inf, np.nan])) == 3
    assert contract._largest(np.zeros(0)) == 0


# --- all of them ---------------------------------------------------------------------------------


def checked(monkeypatch, fails, *, eager=False, wanted=("jit",)):
    """The checks of a case whose main program fails where `fails(case)` is true."""
    asked = []

    def run(case):
        asked.append(case.eager)
        if fails(case):
            raise TypeError("it looks at concrete values")
        return main_of([[[1.0]]])

    monkeypatch.setattr(contract, "_run_main", run)
    case = draw_case(lambda x: x, (jnp.ones(1),), {}, np.random.default_rng(0))
    case = dataclasses.replace(case, eager=eager)
    several = Contract(case, expected_of([[1.0]]), lambda name: name in wanted, None).checks()
    return [(c.name, c.status, c.message[:33]) for c in several], asked


def test_what_does_not_compile_is_run_operation_by_operation(monkeypatch):
    assert checked(monkeypatch, lambda case: False) == ([("jit", "passed", "")], [False])
    said = "raises TypeError: it looks at con"
    found, asked = checked(monkeypatch, lambda case: not case.eager)
    assert (found, asked) == ([("jit", "failed", said)], [False, True])
    found, _ = checked(monkeypatch, lambda case: False, eager=True)
    assert found == [("jit", "skipped", "f itself looks at concrete values")]
    found, _ = checked(monkeypatch, lambda case: True)
    assert found == [("vjp", "skipped", said)]  # Autodiff raises, too.


def test_checks_that_are_wanted_run_in_their_order(monkeypatch):
    names = ("forward", "dtype", "finite", "vjp", "jit")
    found, _ = checked(monkeypatch, lambda case: False, wanted=names)
    assert [name for name, *_ in found] == ["vjp", "forward", "dtype", "finite", "jit"]
    assert checked(monkeypatch, lambda case: False, wanted=()) == ([], [False])


def test_what_follows_is_run_operation_by_operation_as_well(monkeypatch):
    seen = []

    def check(name, case, *others):
        seen.append((name, case.eager, case.rules))
        return Check(name, case.dtype, "passed")

    monkeypatch.setattr(contract, "_check_forward", check)
    monkeypatch.setattr(contract, "_check_second", check)
    several = ("forward", "second order", "hessian")
    checked(monkeypatch, lambda case: not case.eager, wanted=several)
    assert seen == [(name, True, None) for name in several]


def test_a_case_that_is_signed_again_is_known_by_the_same():
    """By its body and its values, and by its rules as they are traced now."""
    ruled = jax.custom_vjp(jnp.sin)
    ruled.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    case = draw_case(ruled, (jnp.ones(2),), {}, np.random.default_rng(0))
    assert contract.signed(case) is case  # It has no body that is known.
    case = contract.signed_by_body(case)
    once = contract.signed(case)
    assert once.rules is not None
    assert len(once.signature) > len(case.signature)
    assert contract.signed(once).signature == once.signature
    ruled.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (2.0 * jnp.cos(x) * dy,))
    assert contract.signed(once).signature != once.signature
