"""How small an error the checker finds, and which of its numbers the command line shows."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import __main__ as command
from jaxnets import _audit, _costs, _gradcheck, audit, gradcheck
from jaxnets._audit import Audit, Rule
from jaxnets._checking.case import Case
from jaxnets._checking.reference import ALLOWANCE, Tolerance, _expected, _widened
from jaxnets._checking.report import Report
from jaxnets._checking.rounding import Rounded
from jaxnets._checking.verdict import Check
from jaxnets._costs import Cost, Costs
from jaxnets._gradcheck import GradCheck
from train.errors import Refusal

POINT = jnp.asarray([0.5, -1.0, 2.0])


def square(x):
    return x * x


def off_by(share, beside=0.0):
    """A square plus a number, whose gradient is too large by a share of itself.

    Central differences of a square are exact but for rounding.
    """

    def function(x):
        return x * x + beside

    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda x: (function(x), x), lambda x, dy: ((1.0 + share) * 2.0 * x * dy,))
    return wrapped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "dtype", "share", "beside"),
    [
        # 16 times what rounding does, about an ULP here, and not 100 times that.
        ("vjp", "float32", 2e-5, 0.0),
        ("vjp", "float64", 5e-14, 0.0),
        # A ten-millionth of the slope's size, and 16 times the rounding of the values over a step.
        ("finite differences", "float64", 1e-6, 0.0),
        ("finite differences", "float64", 1e-5, 1e5),
    ],
)
def test_an_error_is_found_as_soon_as_rounding_does_not_explain_it(check, dtype, share, beside):
    settings = gradcheck.replace(only=(check,), dtypes=(dtype,))
    report = settings(off_by(share, beside), POINT)
    assert [found.name for found in report.failures] == [check]
    right = settings(off_by(0.0, beside), POINT)
    assert [(found.name, found.status) for found in right.checks] == [(check, "passed")]


def test_a_kink_is_no_error():
    """At 0 central differences of relu give 1/2, and its rule 0: another point is taken."""
    ramp = jax.custom_vjp(lambda x: jnp.where(x > 0, x, 0.0))
    ramp.defvjp(lambda x: (jnp.where(x > 0, x, 0.0), x), lambda x, dy: (jnp.where(x > 0, dy, 0),))
    report = gradcheck.replace(only=("finite differences",))(ramp, jnp.zeros(3))
    assert report.checks
    assert not report.failures


def test_what_is_allowed_is_sixteen_times_what_was_measured():
    assert ALLOWANCE == 16
    value, spread, eps = np.array([1.0, -4.0]), np.array([0.25, 0.0]), 2.0**-20
    (allowed,) = _expected(Rounded([value], [spread], [eps]), None).allowed
    np.testing.assert_allclose(allowed, [16 * (0.25 + eps) + 4 * eps, 16 * 4 * eps + 4 * eps])
    # Against float64 the error of this dtype itself counts, where it is more than the spread.
    exact = Rounded([value + np.array([0.0, 0.01])], [spread], [eps])
    found = _expected(Rounded([value], [spread], [eps]), exact)
    np.testing.assert_array_equal(found.values[0], exact.values[0])
    np.testing.assert_allclose(found.allowed[0][1], 16 * 0.01, rtol=1e-2)


def test_a_declared_tolerance_is_added_and_is_of_the_largest_entry():
    case = types.SimpleNamespace(float_names=["x", "w['a']"])
    expected = _expected(
        Rounded([np.array([1.0, -4.0]), np.array([2.0])], [np.zeros(2), np.zeros(1)], [0.0, 0.0]),
        None,
    )
    tolerance = Tolerance({"x": 0.5, "w": 0.25}, {"w['a']": 3.0}, None)
    wide = _widened(case, expected, tolerance)
    np.testing.assert_allclose(wide.allowed[0], [2.0, 2.0])
    np.testing.assert_allclose(wide.allowed[1], [0.5 + 3.0])


# --- the command ---------------------------------------------------------------------------------


def cost(scale):
    return Cost(64.0 * scale, 1e6 * scale, 2e6 * scale, 3e6 * scale, 4e-6 * scale)


@pytest.fixture
def shown(monkeypatch, capsys):
    """The cells of the table of one op, whose gradient costs twice what autodiff's does."""
    measured = Costs("f", 32, cost(2.0), cost(1.0))
    monkeypatch.setattr(command, "costs", lambda function, *arguments: measured)
    rows = [("f", square, lambda shape, dtype: []), ("g", square, lambda shape, dtype: [])]
    monkeypatch.setattr(command, "_chosen", lambda target, shapes: rows)

    def cells():
        lines = [line.split() for line in capsys.readouterr().out.replace("|", " ").splitlines()]
        return next(line for line in lines if line[:1] == ["f"])

    return cells


def report_of(*checks):
    """A report of checks (dtype, status, ulps)."""
    found = [types.SimpleNamespace(dtype=d, status=s, ulps=u) for d, s, u in checks]
    failures = [check for check in found if check.status == "failed"]
    return types.SimpleNamespace(checks=found, failures=failures, ok=not failures)


def test_check_shows_the_worst_error_and_the_ratio_to_autodiff(monkeypatch, shown):
    report = report_of(
        ("float32", "passed", 1.5), ("float32", "passed", 7.25), ("float32", "passed", 3.0),
        ("float64", "passed", 99.0), ("float32", "skipped", 500.0),
    )  # fmt: skip
    monkeypatch.setattr(command, "GradCheck", lambda **options: lambda *arguments: report)
    assert command._check(command.Check()) == 0
    # Checks, worst error in ULP, residuals of both in inputs, FLOPs and time over autodiff's.
    assert shown() == ["f", "4/4", "7.2", "4.00", "2.00", "2.00", "2.00"]


def test_check_ends_with_status_1_where_one_failed(monkeypatch, shown):
    report = report_of(("float32", "passed", 1.5), ("float32", "failed", 8.0))
    monkeypatch.setattr(command, "GradCheck", lambda **options: lambda *arguments: report)
    assert command._check(command.Check()) == 1
    assert shown()[1] == "1/2"


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("8,16", (8, 16)), ("(8,)", (8,)), ("()", ()), ("8,16,", (8, 16)),
        ("2147483648", (2**31,)), ("65536,32768", (65536, 32768)),
    ],
)  # fmt: skip
def test_a_shape_is_its_axes(text, shape):
    assert command._parsed_shape(text) == shape


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a shape"), ("4,x", "is not a shape"), ("4,-3", "is not a shape"),
        ("4,0", "has no entries"), ("65536,32769", "has more than 2^31 entries"),
    ],
)  # fmt: skip
def test_a_shape_has_entries_and_not_too_many(text, said):
    with pytest.raises(Refusal) as error:
        command._parsed_shape(text)
    assert said in str(error.value)


def test_costs_shows_both_ways_in_millions(shown):
    assert command._measure(None, (), "float32") == 0
    assert shown() == [
        "f", "4.00", "2.00", "2", "1", "4.0", "2.0", "6.0", "3.0", "8", "4", "2.00"
    ]  # fmt: skip


@pytest.mark.parametrize("explicit", [0.5, 2.0])
def test_a_ratio_is_ours_over_autodiffs(explicit):
    found = Costs("f", 32, cost(explicit), cost(1.0))
    assert found.time_ratio == explicit
    lines = str(found).splitlines()[1:]
    assert [line.split()[-1] for line in lines] == [f"{explicit:.2f}"] * 5


def test_there_is_no_ratio_to_nothing():
    found = str(Costs("f", 32, cost(1.0), cost(0.0)))
    assert [line.split()[-1] for line in found.splitlines()[1:]] == ["-"] * 5


def test_a_time_is_the_median_of_calls_that_take_turns(monkeypatch):
    """So that a busy moment hits all, and counts for none."""
    now, calls = [0.0], []
    monkeypatch.setattr(_costs, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def call(name, seconds):
        def called():
            calls.append(name)
            # A tenth of the calls are much slower, and one is quicker.
            now[0] += {5: 100.0, 11: 100.0, 7: 0.5}.get(calls.count(name), seconds)
            return jnp.zeros(())

        return called

    assert _costs._times([call("a", 1.0), call("b", 3.0)]) == [1.0, 3.0]
    assert calls[4:10] == ["a", "b"] * 3


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (1.0, 2 + 5),  # What is slow is timed five times,
        (2.0**-4, 2 + 8),  # what is quicker for half a second,
        (2.0**-10, 2 + 15 * 5),  # and at most fifteen times so many calls as take 5 ms.
        (2.0**-11, 2 + 15 * 10),
    ],
)
def test_a_time_is_taken_over_as_many_calls_as_there_is_time_for(monkeypatch, seconds, calls):
    now, made = [0.0], []
    monkeypatch.setattr(_costs, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def call():
        made.append(1)
        now[0] += seconds
        return jnp.zeros(())

    (found,) = _costs._times([call])
    assert found == seconds
    assert len(made) == calls


@pytest.mark.parametrize("frozen", [Cost, Costs, Check, Report, Rule, Audit, GradCheck, Case])
def test_what_was_found_cannot_be_changed(frozen):
    assert frozen.__dataclass_params__.frozen


def test_columns_are_called_by_what_they_hold():
    columns = command._table("op", "checks", "ULP").columns
    assert [column.header for column in columns] == ["op", "checks", "ULP"]
    assert [column.justify for column in columns] == ["left", "right", "right"]
    assert (columns[0].min_width, columns[0].overflow) == (24, "fold")
    assert [column.no_wrap for column in columns[1:]] == [True, True]

    assert command._table("op").padding == (0, 1, 0, 1)  # No line between the rows.


def test_which_row_is_worked_on_is_shown_beside_the_output(monkeypatch):
    asked = []
    terminal = types.SimpleNamespace(is_terminal=False)
    monkeypatch.setattr(command, "Console", lambda **options: asked.append(options) or terminal)
    list(command._progress([("f",)], "done"))
    assert asked == [{"stderr": True}]


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_audit_ends_with_status_1_where_a_rule_is_not_ok(monkeypatch, capsys, ok, status):
    found = types.SimpleNamespace(ok=ok)
    rows = [("f", square, lambda shape, dtype: ["x"])]
    monkeypatch.setattr(command, "_chosen", lambda target, shapes: rows)
    monkeypatch.setattr(command, "audit", lambda function, *arguments: found)
    assert command._audit(command.Audit("f", ("8",))) == status
    assert capsys.readouterr().out == f"{found}\n"
    with pytest.raises(Refusal, match=r"^audit f needs --shapes, one an argument"):
        command._audit(command.Audit("f"))


def test_flags_that_are_not_given():
    assert command.Check() == command.Check(None, (), "float32", (), 1, (), False)
    assert command.Measure() == command.Measure(None, (), "float32")


def test_each_property_is_checked_once_unless_more_points_are_asked_for():
    settings = gradcheck.replace(only=("vjp",), dtypes=("float32",))
    assert [check.name for check in settings(jnp.sin, POINT).checks] == ["vjp"]
    assert len(settings.replace(points=2)(jnp.sin, POINT).checks) == 2
    for points in (0, -1):
        with pytest.raises(ValueError, match=f"^points must be at least 1; got {points}$"):
            gradcheck.replace(points=points)


def test_a_function_that_raises_has_no_gradient_to_check():
    def fails(x):
        raise KeyError("width")

    (check,) = gradcheck(fails, POINT).checks
    assert (check.name, check.status) == ("forward", "failed")
    assert check.message.startswith("f itself raises KeyError: 'width' (test_reach.py:")


def test_differences_that_raise_fail_unless_autodiff_raises_too(monkeypatch):
    failing = []

    def raises(name, case, rng, **options):
        if case in failing:
            raise KeyError("no differences")
        return ["checked"]

    plain = types.SimpleNamespace(dtype="float64")
    case = types.SimpleNamespace(dtype="float64", without_rules=lambda: plain)
    monkeypatch.setattr(_gradcheck, "finite_differences", raises)
    monkeypatch.setattr(_gradcheck, "has_rules", lambda case, names: False)
    for several, expected in (([], None), ([case], "failed"), ([case, plain], "skipped")):
        failing[:] = several
        (found,) = gradcheck._differences(case, None, alone=False)
        assert found == "checked" if expected is None else found.status == expected


def test_programs_are_known_by_a_body_that_is_the_functions_own(monkeypatch):
    """With another function for a reference they are not."""
    signed, sign = [], _gradcheck.signed_by_body
    monkeypatch.setattr(
        _gradcheck, "signed_by_body", lambda case: signed.append(case.dtype) or sign(case)
    )
    settings = gradcheck.replace(only=("vjp",), dtypes=("float32",))
    assert settings(jnp.sin, POINT).ok
    assert signed == ["float32"]
    assert settings.replace(reference=jnp.sin)(jnp.sin, POINT).ok
    assert signed == ["float32"]


def test_one_row_needs_no_line(capsys):
    for rows, lines in (([("f",)], []), ([("f",), ("g",)], ["done f (1/2)", "done g (2/2)"])):
        assert list(command._progress(rows, "done")) == rows
        assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("layer_nrm", "; did you mean layer_norm?"),
        ("package.module.f", "; did you mean package.module:f?"),
        (".gelu", "; did you mean gelu?"),
        ("gelu.", "; did you mean gelu?"),
        (None, ""),
    ],
)
def test_what_is_no_op_is_told_what_may_be_meant(target, meant):
    said = str(command._no_op(target, ["gelu", "layer_norm"]))
    assert said.startswith(f"no op is called {target or ''!r}: must be PACKAGE.MODULE:FUNCTION, or")
    assert said.endswith(f"one of gelu, layer_norm{meant}")


def test_commands_of_train_are_run_before_those_of_jaxnets(monkeypatch):
    words = []
    monkeypatch.setattr(command.sys, "argv", ["jaxnets", "mlp", "--steps", "5"])
    monkeypatch.setattr(command, "run_command", lambda given: words.append(given) or 3)
    with pytest.raises(SystemExit) as end:
        command.main()
    assert (end.value.code, words) == (3, [["mlp", "--steps", "5"]])


# --- audits --------------------------------------------------------------------------------------


def rule_of(name, *checks, calls=1, costs=None, reason="", length=16):
    """A rule whose report has these checks: dtype, status, error in ULP."""
    report = Report(name, tuple(Check("vjp", d, s, "why", u, "x") for d, s, u in checks))
    shapes = (f"float32[8,{length}]", f"float32[{length}]")
    place = f"nets.py:{length}"
    return Rule(name, place, calls, shapes, report if checks else None, costs, reason)


RIGHT = rule_of("relu", ("float32", "passed", 8.0), ("float64", "passed", 1e6), calls=2,
                costs=Costs("relu", 32, cost(0.5), cost(1.0)))  # fmt: skip
WRONG = rule_of("layer_norm", ("float32", "failed", 2.0**21), ("float32", "passed", 4.0), length=9)
UNSEEN = rule_of("gelu", reason="it is called inside of pmap, whose values are not seen")
VAGUE = rule_of("silu", ("float32", "inconclusive", 0.0))


def test_an_audit_is_ok_where_every_rule_was_checked_and_is_right():
    assert [rule.verdict for rule in (RIGHT, WRONG, UNSEEN, VAGUE)] == [
        "ok", "FAILED", "not checked", "not checked"
    ]  # fmt: skip
    assert Audit("loss", (RIGHT, RIGHT)).ok
    Audit("loss", (RIGHT,)).raise_if_failed()
    for bad in (WRONG, UNSEEN, VAGUE):
        assert not Audit("loss", (RIGHT, bad)).ok
        with pytest.raises(AssertionError, match=r"^audit loss: 2 rules, 1 not ok"):
            Audit("loss", (RIGHT, bad)).raise_if_failed()


def test_an_audit_is_a_table_and_the_reports_of_what_is_not_ok():
    lines = str(Audit("loss", (RIGHT, WRONG, UNSEEN))).splitlines()
    assert lines[:12] == [
        "audit loss: 3 rules, 2 not ok",
        "  rule        verdict      error    saved  time  calls",
        "  relu        ok           9.5e-07  0.50   0.50  2",
        "    float32[8,16] float32[16]",
        "    nets.py:16",
        "  layer_norm  FAILED       2.5e-01  -      -     1",
        "    float32[8,9] float32[9]",
        "    nets.py:9",
        "  gelu        not checked  -        -      -     1",
        "    float32[8,16] float32[16]",
        "    nets.py:16",
        "  error: beside the largest entry; saved, time: beside autodiff's",
    ]
    assert lines[12] == ""
    assert lines[13].startswith("gradcheck layer_norm: FAILED")
    assert lines[-2:] == ["", "gelu: it is called inside of pmap, whose values are not seen"]
    assert str(Audit("loss", (RIGHT,))).splitlines()[0] == "audit loss: 1 rule, all ok"
    assert "gradcheck" not in str(Audit("loss", (RIGHT,)))


def test_an_audit_as_json_has_a_report_for_each_rule_that_was_checked():
    text = Audit("loss", (RIGHT, UNSEEN)).to_json()
    assert text.startswith('{\n  "function": "loss",\n')
    found = json.loads(text)
    assert (found["function"], found["ok"]) == ("loss", False)
    right, unseen = found["rules"]
    assert right["report"]["function"] == "relu"
    assert unseen.pop("report") is None
    assert unseen == {
        "name": "gelu", "place": "nets.py:16", "calls": 1,
        "shapes": ["float32[8,16]", "float32[16]"], "verdict": "not checked",
        "reason": UNSEEN.reason,
    }  # fmt: skip


def test_costs_are_beside_autodiffs_where_these_are_known():
    for theirs, said in ((cost(0.25), "4.00"), (cost(0.0), "-"), (Cost(*[np.nan] * 5), "-")):
        rule = dataclasses.replace(RIGHT, costs=Costs("relu", 32, cost(1.0), theirs))
        row = str(Audit("loss", (rule,))).splitlines()[2].split()
        assert row[3:] == [said, said, "2"]


def test_a_long_list_of_shapes_is_wrapped():
    rule = dataclasses.replace(RIGHT, shapes=("float32[8,16]",) * 9)
    shapes = [line for line in str(Audit("loss", (rule,))).splitlines() if "float32[" in line]
    assert len(shapes) == 2
    assert all(line.startswith("    float32") and len(line) <= 80 for line in shapes)


def test_rules_are_listed_in_the_order_in_which_they_are_called(monkeypatch):
    """The same one at the same shapes once."""
    monkeypatch.setattr(_audit, "costs", lambda *arguments: None)

    def another(x):
        return jnp.sin(x)

    sine = jax.custom_vjp(another)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    ramp = off_by(0.0)

    def program(x):
        return sine(ramp(sine(ramp(x)[:2])))

    found = audit(program, POINT, check=lambda rule, *values: Report(rule.__name__, ()))
    shapes = [("function", 1, 3), ("another", 2, 2), ("function", 1, 2)]
    assert [(r.name.split(".")[-1], r.calls, int(r.shapes[0][8:-1])) for r in found.rules] == shapes
    assert {rule.report.function for rule in found.rules} == {rule.name for rule in found.rules}


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (jnp.ones(2), True), (np.ones(2, np.float32), True), (np.int32(3), True),
        (jax.random.key(0), True), (np.array([True]), False), ("text", False), (5, False),
    ],
)  # fmt: skip
def test_arrays_are_what_a_program_is_traced_with(leaf, expected):
    assert _audit._is_array(leaf) is expected


def reached(monkeypatch, program, *arguments):
    """The values that reach each rule, in the order of the rules."""
    monkeypatch.setattr(_audit, "costs", lambda *arguments: None)
    seen = []

    def check(rule, *values):
        seen.append([np.asarray(value).tolist() for value in values])
        return Report("rule", ())

    audit(program, *map(jnp.asarray, arguments), check=check)
    return seen


def test_values_are_those_of_the_first_turn_of_a_loop(monkeypatch):
    rule, factor = off_by(0.0), jnp.float32(5.0)

    def scanned(x, rows, **options):
        def body(carry, row):
            return carry + 1.0, rule(row * factor)

        return jax.lax.scan(body, x, rows, **options)

    rows = np.float32([1.0, 2.0, 3.0])
    assert reached(monkeypatch, scanned, 10.0, rows) == [[5.0]]
    backwards = reached(monkeypatch, lambda *a: scanned(*a, reverse=True), 10.0, rows)
    assert backwards == [[15.0]]
    carried = reached(
        monkeypatch,
        lambda x, rows: jax.lax.scan(lambda c, row: (rule(c) + row * factor, None), x, rows),
        10.0, rows,
    )  # fmt: skip
    assert carried == [[10.0]]

    def looped(x, limit):
        return jax.lax.while_loop(
            lambda state: rule(state[1] * 2.0) < limit,
            lambda state: (state[0] + 1, off_by(0.0, 1.0)(state[1] * 3.0)),
            (0, x),
        )

    assert sorted(reached(monkeypatch, looped, 7.0, 1.0)) == [[14.0], [21.0]]


def test_values_are_the_same_in_all_branches(monkeypatch):
    one, two = off_by(0.0), off_by(0.0, 1.0)

    def branched(x, y):
        return jax.lax.cond(x > 0, lambda y: one(y + 1.0), lambda y: two(y + 2.0), y)

    for x in (1.0, -1.0):
        assert sorted(reached(monkeypatch, branched, x, 7.0)) == [[8.0], [9.0]]
