"""The small parts of the checker, on numbers that are written down."""

import dataclasses
import importlib
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from jaxnets._checking import causes, interpreter, linearity, mapping, programs
from jaxnets._checking.case import draw_case, name_of, structured
from jaxnets._checking.report import Report
from jaxnets._checking.verdict import Check

# --- cotangents that have to add up --------------------------------------------------------------


def case_of(cotangents, others, dtype=np.float32):
    """What `linearity` reads of a case."""
    arrays = [[np.asarray(array, dtype) for array in given] for given in (cotangents, others)]
    return types.SimpleNamespace(cotangents=arrays[0], others=arrays[1], floats=arrays[0])


def combined(dtype=np.float32):
    case = case_of([[[1.0, -2.0]], [-3.0, 0.5]], [[[5.0, 7.0]], [11.0, -13.0]], dtype)
    stacks, combinations = linearity.cotangents(case)
    return case, stacks, {found.cotangent: found for found in combinations}


@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 2.0**20), (np.float16, 8.0)])
def test_cotangents_differ_in_all_that_a_rule_could_look_at(dtype, large):
    case, stacks, found = combined(dtype)
    a, b = ([[1.0, -2.0], [-3.0, 0.5]], [[5.0, 7.0], [11.0, -13.0]])
    expected = {
        "2a - b/2": 2 * np.array(a) - 0.5 * np.array(b),
        "-a": [[-1, 2], [3, -0.5]],
        "large a": large * np.array(a),
        "small a": np.array(a) / large,
        "0": [[0, 0], [0, 0]],
        "|a|": [[1, 2], [3, 0.5]],
        "-|a|": [[-1, -2], [-3, -0.5]],
        "|a| with one sign changed": [[-1, 2], [-3, 0.5]],
    }
    assert list(found) == list(expected)
    assert [stack.shape[1:] for stack in stacks] == [(1, 2), (2,)]
    assert {stack.dtype for stack in stacks} == {np.dtype(dtype)}
    for place, array in enumerate((case.cotangents, case.others)):
        for stack, given in zip(stacks, array, strict=True):
            np.testing.assert_array_equal(stack[place], given)
    for name, (one, two) in expected.items():
        row = found[name].row
        np.testing.assert_allclose(stacks[0][row], [one], rtol=1e-3)
        np.testing.assert_allclose(stacks[1][row], two, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_a_cotangent_is_made_of_adds_up_to_it(dtype):
    """So does any gradient that is linear."""
    _, stacks, found = combined(dtype)
    for combination in found.values():
        for stack in stacks:
            total, largest = linearity.expected(combination, stack)
            np.testing.assert_allclose(total, stack[combination.row], rtol=2e-3, atol=1e-6)
            parts = [np.abs(factor * np.float64(stack[row])) for factor, row in combination.parts]
            assert largest == max(part.max() for part in parts)
            assert total.dtype == np.float64
    assert {len(combination.parts) for combination in found.values()} == {1, 2}
    # What is the sum of two is made of others than itself.
    assert all(c.row not in [row for _, row in c.parts] for c in found.values())


def test_gradients_that_are_infinite_have_the_size_of_the_others():
    combination = linearity.Combination("a", 1, ((2.0, 0),))
    total, largest = linearity.expected(combination, np.array([[np.inf, 3.0], [0.0, 0.0]]))
    assert total.tolist() == [np.inf, 6.0]
    assert largest == 6.0


def test_the_derivative_of_a_gradient_to_its_cotangent():
    """Of x * w, whose gradients are w and x times the cotangent."""
    arrays = [jnp.asarray([2.0, 3.0]), jnp.asarray([5.0, 7.0])]
    others, directions = [jnp.asarray([1.0, -1.0])], [jnp.ones(2), 2 * jnp.ones(2)]
    by_value = (5 * 1 + 7 * -1) + 2 * (2 * 1 + 3 * -1)
    sizes = (5 + 7) + 2 * (2 + 3), (5 + 2 * 2) + (7 + 2 * 3)

    def found(function):
        return tuple(map(float, linearity.derivative_to_cotangents(
            lambda x, w: [function(x, w)], arrays, [jnp.asarray([4.0, 9.0])], directions, others,
        )))  # fmt: skip

    assert found(jnp.multiply) == (by_value, by_value, sum(sizes))
    hiding = jax.custom_vjp(jnp.multiply)
    hiding.defvjp(
        lambda x, w: (x * w, (x, w)),
        lambda kept, dy: (kept[1] * jax.lax.stop_gradient(dy), kept[0] * dy),
    )
    by_derivative = 2 * (2 * 1 + 3 * -1)
    assert found(hiding)[:2] == (by_derivative, by_value)


@pytest.mark.parametrize(
    ("dtype", "share"), [("float64", 1e-3), ("float32", 1e-3), ("float16", 0.1)]
)
def test_a_cotangent_is_hidden_where_the_derivatives_differ(dtype, share):
    case = types.SimpleNamespace(dtype=dtype)
    for off, said in ((0.99, False), (1.01, True), (-1.01, True)):
        found = linearity.hidden_cotangent("second order", case, (3.0 + 8 * share * off, 3.0, 8.0))
        assert (found is not None) == said
    assert found.status == "failed"
    assert found.message.startswith("the gradient's derivative to its cotangent is ")
    assert ", and 3 by the gradient, which is linear: does the backward stop" in found.message
    assert linearity.hidden_cotangent("second order", case, (np.nan, 3.0, 8.0)) is None


# --- what a gradient that is wrong lacks ---------------------------------------------------------


def ruled(gradient):
    """x * w + 0 * v, and a rule that gives these gradients of x, w and v."""

    def product(x, w, v):
        return x * w + 0.0 * v

    rule = jax.custom_vjp(product)
    rule.defvjp(lambda x, w, v: (product(x, w, v), (x, w, v)), gradient)
    return rule


X, W, V = jnp.asarray([1.0, -2.0]), jnp.asarray([3.0, 0.5]), jnp.asarray([0.25, 4.0])

RULES = {
    # The gradient of x, which is w times dy, and what is said of it.
    "right": (lambda x, w, v, dy: w * dy, ""),
    "no w": (lambda x, w, v, dy: 0 * w * dy, "; a term is missing that depends on w"),
    "a factor": (lambda x, w, v, dy: 1.5 * w * dy, "; no error where w is 0"),
    "too much of v": (lambda x, w, v, dy: w * dy + v, "; no error where v is 0"),
    "v for w": (lambda x, w, v, dy: v * dy, "; a term is missing that depends on w"),
    "an addition": (lambda x, w, v, dy: w * dy + 5.0, ""),
    "a product": (lambda x, w, v, dy: w * dy + w * v, "; no error where w or v is 0"),
    "its own": (lambda x, w, v, dy: w * dy + x, ""),
}


@pytest.mark.parametrize("scale", [1.0, 2.0**-10])
@pytest.mark.parametrize("rule", RULES)
def test_a_missing_term_is_named_by_what_it_depends_on(rule, scale):
    """Beside the gradient's own size, whatever it is."""
    gradient, said = RULES[rule]
    function = ruled(lambda kept, dy: (gradient(*kept, dy), kept[0] * dy, jnp.zeros_like(kept[2])))
    scaled = scale * X, scale * W, scale * V
    case = draw_case(function, scaled, {}, np.random.default_rng(0))
    found = causes.missing_term(case, 0)
    if rule == "right":  # There is no error anywhere.
        assert found == "; no error where w or v is 0"
    else:
        assert found == said


def test_of_a_large_case_nothing_is_asked(monkeypatch):
    gradient, said = RULES["no w"]
    function = ruled(lambda kept, dy: (gradient(*kept, dy), kept[0] * dy, jnp.zeros_like(kept[2])))
    case = draw_case(function, (X, W, V), {}, np.random.default_rng(0))
    monkeypatch.setattr(causes, "LARGE", 7)
    assert causes.missing_term(case, 0) == said
    monkeypatch.setattr(causes, "LARGE", 6)
    assert causes.missing_term(case, 0) == ""
    monkeypatch.setattr(causes, "LARGE", 7)
    eager = types.SimpleNamespace(floats=case.floats, eager=True)
    assert causes.missing_term(eager, 0) == ""

    def refused(*arguments):
        raise TypeError("it has no derivative")

    other = types.SimpleNamespace(
        floats=case.floats, eager=False, run=refused, explicit=None, twin=None
    )
    assert causes.missing_term(other, 0) == ""


def test_each_argument_is_moved_and_set_to_0_alone():
    """By a quarter towards 0, and a tenth of its largest entry besides."""
    seen = []

    def run(program, stacks):
        seen.extend(stacks)
        raise TypeError

    floats = [np.float32([2.0, -4.0]), np.float32([[0.0]])]
    case = types.SimpleNamespace(floats=floats, eager=False, run=run)
    causes.missing_term(case, 0)
    first, second = seen
    np.testing.assert_allclose(first, [[2, -4], [1.9, -2.6], [0, 0], [2, -4], [2, -4]], rtol=1e-6)
    np.testing.assert_allclose(second[:, 0, 0], [0, 0, 0, 0.1, 0], rtol=1e-6)
    assert first.dtype == second.dtype == np.float32


# --- programs, equation by equation --------------------------------------------------------------


def test_equations_are_found_at_any_depth():
    def f(x):
        y = jax.lax.cond(x > 0, lambda x: jnp.sin(x), lambda x: jax.jit(jnp.cos)(x), x)
        return jax.lax.scan(lambda c, _: (jnp.tanh(c), None), y, None, 3)[0]

    names = [e.primitive.name for e in interpreter.equations(jax.make_jaxpr(f)(1.0))]
    for name in ("cond", "sin", "cos", "scan", "tanh"):
        assert names.count(name) == 1
    assert list(interpreter.equations(5)) == []
    closed = jax.make_jaxpr(jnp.sin)(1.0)
    assert len(list(interpreter.equations([closed, (closed, "text")]))) == 2


def test_a_call_has_a_body_and_other_equations_have_none():
    table = jnp.arange(3.0)
    jaxpr = jax.make_jaxpr(lambda x: jax.jit(lambda x: x + table)(jnp.sin(x)))(jnp.ones(3)).jaxpr
    by_name = {equation.primitive.name: equation for equation in jaxpr.eqns}
    assert interpreter.body(by_name["sin"]) is None
    (call,) = [equation for name, equation in by_name.items() if name in ("jit", "pjit")]
    inner, consts = interpreter.body(call)
    assert isinstance(inner, core.Jaxpr)
    assert [equation.primitive.name for equation in inner.eqns] == ["add"]
    assert len(inner.constvars) == len(consts)
    remat = jax.make_jaxpr(jax.checkpoint(jnp.sin))(1.0).jaxpr.eqns[0]
    inner, consts = interpreter.body(remat)
    assert [equation.primitive.name for equation in inner.eqns] == ["sin"]
    assert len(consts) == 0


def test_a_program_is_evaluated_equation_by_equation():
    table, seen = jnp.arange(3.0), []

    def f(x):
        low, high = jnp.split(x, 2)
        total = jax.lax.fori_loop(0, 3, lambda i, y: y * 2.0, low)
        return jnp.sin(total) + table, high, 5.0

    closed = jax.make_jaxpr(f)(jnp.arange(6.0))

    def step(jaxpr, equation, inputs):
        seen.append(equation.primitive.name)
        return interpreter.bind(jaxpr, equation, inputs)

    found = interpreter.evaluate(closed.jaxpr, closed.consts, [jnp.arange(6.0)], step)
    for one, other in zip(found, f(jnp.arange(6.0)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert {"sin", "add"} <= {*seen}
    assert {"scan", "while"} & {*seen}
    with pytest.raises(ValueError, match="zip"):
        interpreter.evaluate(closed.jaxpr, closed.consts, [], step)
    with pytest.raises(ValueError, match="zip"):
        interpreter.evaluate(closed.jaxpr, closed.consts, [1.0], lambda *_: [1.0, 2.0, 3.0, 4.0])


# --- mapping -------------------------------------------------------------------------------------


def mapped_case(*leaves, function=None, names=("a", "b", "c")):
    return types.SimpleNamespace(
        leaves=[jnp.asarray(leaf) for leaf in leaves], names=names, function=function,
        cotangents=[1], differentiated=[0], float_names=["a"], dtype="float32",
    )  # fmt: skip


def test_each_leaf_is_mapped_over_alone_and_all_together():
    assert mapping.sets_of(mapped_case(1.0)) == [(0,)]
    assert mapping.sets_of(mapped_case(1.0, 2.0, 3.0)) == [(0,), (1,), (2,), (0, 1, 2)]
    case = mapped_case(1.0, 2.0)
    assert [mapping.name_of_set(case, several) for several in ((0,), (1,), (0, 1))] == [
        "a", "b", "all"
    ]  # fmt: skip


def test_other_values_are_of_the_same_kind():
    assert mapping._another(np.float32([1.0, 2.0, 3.0])).tolist() == [3, 1, 2]
    assert mapping._another(np.int32([1, 2])).tolist() == [2, 1]
    assert mapping._another(np.float32([4.0])).tolist() == [3.0]
    assert mapping._another(np.float32(4.0)).dtype == np.float32
    assert mapping._another(np.int32([4])).tolist() == [4]
    key = jax.random.key(0)
    assert mapping._another(key) is key


def test_the_largest_finite_entry_has_no_sign():
    assert mapping._largest(np.array([1.0, -3.0, np.inf, np.nan])) == 3.0
    assert mapping._largest(np.array([np.inf])) == mapping._largest(np.zeros(0)) == 0.0


def test_what_a_message_calls_an_output():
    assert mapping.output_labels(types.SimpleNamespace(cotangents=[1])) == ["value"]
    several = types.SimpleNamespace(cotangents=[1, 2])
    assert mapping.output_labels(several) == ["value 0", "value 1"]


def test_keys_that_draw_other_numbers_under_vmap_are_not_mapped():
    said = "keys of kind rbg draw other numbers under vmap"

    def draws(x, key):
        return x + jax.random.normal(jax.random.wrap_key_data(key, impl="rbg"))

    plain = mapped_case(1.0, jax.random.key(0), function=lambda x, key: x)
    assert mapping.refusal(plain, (0, 1)) == ""
    typed = mapped_case(1.0, jax.random.key(0, impl="rbg"), function=lambda x, key: x)
    assert mapping.refusal(typed, (0,)) == ""
    assert mapping.refusal(typed, (0, 1)) == said
    raw = np.zeros(4, np.uint32)
    assert mapping.refusal(mapped_case(1.0, raw, function=draws), (1,)) == said
    assert mapping.refusal(mapped_case(1.0, raw, function=lambda x, key: x), (1,)) == ""
    numbers = np.zeros(4, np.float32)
    assert mapping.refusal(mapped_case(numbers, raw, function=lambda x, key: x), (0,)) == ""
    assert mapping.refusal(mapped_case(numbers, raw, function=draws), (0,)) == ""


def judged(inside, outside, mapped=(0,), loose=0.0):
    """The verdict on the gradient of a and b for two rows, of f = a * b at a = 2, b = 3."""
    case = types.SimpleNamespace(
        cotangents=[1], differentiated=[0, 1], float_names=["a", "b"], dtype="float32"
    )
    singles = [np.float32([6.0, 9.0]), np.float32([3.0, 3.0]), np.float32([2.0, 3.0])]
    got = mapping.Mapped(singles, *[[np.float32(part) for part in of] for of in (inside, outside)])
    return mapping.judge("vmap", case, mapped, got, [loose] * 3)


def test_rows_are_those_of_single_calls_and_what_is_not_mapped_adds_up():
    inside, outside = [[6, 9], [3, 3], [2, 3]], [[6, 9], [3, 3], 5]
    assert judged(inside, outside).status == "passed"
    assert judged(inside, inside, mapped=(0, 1)).status == "passed"
    wrong = judged([[6, 9], [3, 4], [2, 3]], outside)
    assert wrong.status == "failed"
    assert wrong.message.startswith("per-example gradient of a at [1]: got 4, expected 3")
    wrong = judged(inside, [[6, 9], [3, 3], 6])
    assert wrong.message.startswith("gradient of b of the mapped function: got 6, expected 5")
    wrong = judged([[6, 8], [3, 3], [2, 3]], outside)
    assert wrong.message.startswith("per-example value at [1]: got 8, expected 9")


@pytest.mark.parametrize(("loose", "status"), [(0.0011, "passed"), (0.0009, "failed")])
def test_four_times_what_rounding_does_is_allowed_beside_the_largest(loose, status):
    inside, outside = [[6, 9], [3, 3], [2.012, 3]], [[6, 9], [3, 3], 5]
    assert judged(inside, outside, loose=loose).status == status
    inside, outside = [[6, 9], [3, 3], [2, 3]], [[6, 9], [3, 3], 5.02]
    assert judged(inside, outside, loose=loose).status == status


# --- programs that are kept ----------------------------------------------------------------------


def test_what_was_not_asked_for_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(programs, "_kept", {})
    monkeypatch.setattr(programs, "_KEPT", 2)
    made = []

    def get(key):
        return programs.remembered(key, lambda: made.append(key) or len(made))

    assert [get(key) for key in "abaca"] == [1, 2, 1, 3, 1]
    assert get("b") == 4
    assert [get(None), get(None)] == [5, 6]
    assert len(programs._kept) == 2


def raised(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return programs.one_line(error)
    raise AssertionError("nothing was raised")


def test_an_error_is_one_line_with_the_place():
    def fails(x):
        raise KeyError(x)

    said = raised(fails, "x\ny")
    assert said.startswith("KeyError: 'x\\ny' (test_checking_parts.py:")
    assert said.endswith(" in fails)")
    assert raised(jnp.dot, jnp.ones(2), jnp.ones(3)).count("(test_checking_parts.py:") == 1
    assert raised(jnp.dot, jnp.ones(2), jnp.ones(3)).endswith(" in raised)")
    assert programs.one_line(ValueError("one\ntwo")) == "ValueError: one"
    assert programs.one_line(ValueError()) == "ValueError"
    text = "Traceback (most recent call last):\n  File\nZeroDivisionError: by 0"
    assert programs.one_line(RuntimeError(text)) == "RuntimeError: ZeroDivisionError: by 0"


def test_rows_are_computed_one_by_one_and_stacked():
    rows = {"x": jnp.arange(6.0).reshape(3, 2), "n": jnp.arange(3)}

    def function(row):
        return row["x"] * row["n"].astype(row["x"].dtype), row["n"] + 1

    products, numbers = programs.each(function, rows)
    assert products.tolist() == [[0, 0], [2, 3], [8, 10]]
    assert numbers.tolist() == [1, 2, 3]
    text = str(jax.make_jaxpr(lambda rows: programs.each(function, rows))(rows))
    assert "scan" in text  # One after the other where it is traced, too.


def key_of(function, *arguments):
    closed = jax.make_jaxpr(function)(*arguments)
    return programs.text_of(closed.jaxpr, closed.consts)


def test_equal_programs_have_equal_keys():
    x = jnp.arange(3.0)

    def program(factor, table):
        return lambda x: jax.jit(lambda x: jnp.sin(x) * factor + table)(x)

    table = jnp.ones(3)
    key = key_of(program(2.0, table), x)
    assert key == key_of(program(2.0, jnp.ones(3)), x)
    assert hash(key) == hash(key_of(program(2.0, jnp.ones(3)), x))
    for other in (
        key_of(program(3.0, table), x),
        key_of(program(2.0, 2 * table), x),
        key_of(program(2.0, jnp.ones(())), x),
        key_of(lambda x: jnp.cos(x) * 2.0 + table, x),
    ):
        assert key != other


def test_parameters_of_an_equation_count_by_what_they_hold():
    """What cannot be compared is equal to itself alone."""

    def key(**params):
        equation = types.SimpleNamespace(primitive="p", invars=[], outvars=[], params=params)
        jaxpr = types.SimpleNamespace(constvars=[], invars=[], outvars=[], eqns=[equation])
        return programs.text_of(jaxpr, ())

    several = {1, 2}
    for params in ({"n": 3}, {"table": np.ones(2)}, {"of": (np.ones(2), {"b": 1})}, {"s": several}):
        assert key(**params) == key(**params)
        assert hash(key(**params)) == hash(key(**params))
    assert key(table=np.ones(2)) == key(table=np.ones(2)) != key(table=np.zeros(2))
    assert key(of=[np.ones(2)]) != key(of=[np.zeros(2)])
    assert key(s=several) != key(s={1, 2})
    assert key(n=3) != key(n=3.0)
    assert key(n=3) != key(m=3)


def test_equal_arrays_have_equal_contents():
    x = np.float32([1.0, 2.0])
    assert programs.contents_of(x) == programs.contents_of(jnp.asarray(x))
    for other in (x[:1], x.reshape(2, 1), x.astype(np.float64), np.float32([1.0, 3.0])):
        assert programs.contents_of(x) != programs.contents_of(other)
    keys = [programs.contents_of(jax.random.key(seed)) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    one, other = object(), object()
    assert programs.contents_of(one) == programs.contents_of(one)
    assert programs.contents_of(one) != programs.contents_of(other)
    assert programs.contents_of(one) != one


def test_what_runs_once_is_compiled_without_passes():
    assert programs._QUICK.get("xla_backend_optimization_level", 0) == 0
    assert programs._QUICK.get("xla_cpu_parallel_codegen_split_count", 1) == 1
    assert not programs._QUICK.get("xla_cpu_use_fusion_emitters", False)
    assert programs._QUICK.get("xla_llvm_disable_expensive_passes", True)


@pytest.mark.parametrize(("large", "given_back"), [(3, 1), (4, 0)])
def test_memory_is_given_back_before_a_large_program_runs(monkeypatch, large, given_back):
    freed = []
    monkeypatch.setattr(programs, "LARGE", large)
    monkeypatch.setattr(programs, "_give_back_memory", lambda: freed.append(1))
    assert programs.run(lambda x: x + 1.0, np.zeros(3, np.float32)).tolist() == [1, 1, 1]
    assert len(freed) == given_back


def test_what_was_freed_is_given_back_where_the_system_can(monkeypatch):
    asked = []
    library = types.SimpleNamespace(malloc_trim=asked.append)
    monkeypatch.setattr(programs.ctypes, "CDLL", lambda name: library)
    programs._give_back_memory()
    assert asked == [0]  # Nothing is kept.
    monkeypatch.setattr(programs.ctypes, "CDLL", lambda name: types.SimpleNamespace())
    programs._give_back_memory()


def test_the_place_of_an_error_is_outside_of_the_checker():
    modules = [importlib.import_module(f"jaxnets.{name}") for name in ("_audit", "_gradcheck")]
    assert {module.__file__ for module in modules} == {*programs._DOORS}
    assert programs.__file__.startswith(programs._HERE)
    assert jax.__file__.startswith(programs._JAX)


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    known = {"xla_a": 1, "xla_b": 2}
    monkeypatch.setattr(programs, "_QUICK", dict(known))
    monkeypatch.setattr(programs.jax, "default_backend", lambda: "cpu")
    asked = []

    def compile_it(compiler_options):
        asked.append(compiler_options)
        if "xla_b" in compiler_options:
            raise RuntimeError("No such compile option: 'xla_b'")
        return "compiled"

    lowered = types.SimpleNamespace(compile=compile_it)
    assert programs._compile(lowered, [np.zeros(3)]) == "compiled"
    assert asked == [known, {"xla_a": 1}]
    asked.clear()
    monkeypatch.setattr(programs, "LARGE", 3)
    assert programs._compile(lowered, [np.zeros(3)]) == "compiled"
    assert programs._compile(lowered, [np.zeros(2)]) == "compiled"
    assert asked == [{}, {"xla_a": 1}]  # What is large is compiled to be fast.
    monkeypatch.setattr(programs.jax, "default_backend", lambda: "gpu")
    programs._compile(lowered, [np.zeros(2)])
    assert asked[-1] == {}

    def fails(compiler_options):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        programs._compile(types.SimpleNamespace(compile=fails), [np.zeros(2)])


# --- cases ---------------------------------------------------------------------------------------


def test_a_direction_keeps_the_symmetry_of_a_matrix():
    direction = np.float32([[1.0, 2.0], [4.0, 8.0]])
    for value, expected in (
        ([[1.0, 2.0], [2.0, 3.0]], [[1, 3], [3, 8]]),
        ([[0.0, 2.0], [-2.0, 0.0]], [[0, -1], [1, 0]]),
        ([[1.0, 2.0], [3.0, 4.0]], direction),
    ):
        found = structured(np.float32(value), direction)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
    vector = np.float32([1.0, 2.0])
    assert structured(vector, vector) is vector
    single = np.float32([[3.0]])
    assert structured(single, single) is single
    wide = np.ones((2, 3), np.float32)
    assert structured(wide, wide) is wide


def test_arguments_have_the_names_that_a_user_would_write():
    def f(x, tree, *rest, scale):
        return x * tree["w"][0] * scale + sum(rest)

    one = jnp.ones(2)
    case = draw_case(f, (one, {"w": [one]}, one, one), {"scale": one}, np.random.default_rng(0))
    assert case.names == ["x", "tree['w'][0]", "args[2]", "args[3]", "scale"]
    assert case.differentiated == [0, 1, 2, 3, 4]
    named = draw_case(f, (one, {"w": [one]}), {"scale": 2.0}, np.random.default_rng(0),
                      wrt=("tree",))  # fmt: skip
    assert named.float_names == ["tree['w'][0]"]
    assert named.unchecked == ("scale (a Python float)", "x (float32[2])")
    with pytest.raises(ValueError, match=r"wrt: no array is called tre; there are x, tree\['w'\]"):
        draw_case(f, (one, {"w": [one]}), {"scale": 2.0}, np.random.default_rng(0), wrt=("tre",))
    assert name_of(f) == "f"


def test_what_is_no_array_stands_between_those_that_are():
    def f(x, power, w, count):
        return x**power * w + count.astype(x.dtype)

    x, w, count = jnp.ones(2), jnp.ones(2, jnp.float16), jnp.arange(2)
    case = draw_case(
        lambda x, power, w, count: f(x, power, w.astype(jnp.float32), count),
        (x, 2, w, count), {}, np.random.default_rng(0),
    )  # fmt: skip
    assert case.names == ["x", "w", "count"]
    assert case.float_names == ["x", "w"]
    assert case.dtype == "float32"  # That of the first.
    assert case.unchecked == ("power (a Python int)", "count (int32[2])")
    (y,) = case.explicit(3 * x, 2 * w)
    assert y.tolist() == [18, 19]
    assert [d.dtype for d in case.directions] == [np.float32, np.float16]
    assert [cotangent.shape for cotangent in (*case.cotangents, *case.others)] == [(2,), (2,)]
    with pytest.raises(ValueError, match="gradcheck needs an argument that is an array of a flo"):
        draw_case(lambda n: n * 1.0, (count,), {}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="gradcheck needs a function with an output of a floating"):
        draw_case(lambda x: x > 0, (x,), {}, np.random.default_rng(0))


def test_a_function_that_looks_at_values_is_run_operation_by_operation(monkeypatch):
    def branching(x):
        return x * 2.0 if x[0] > 0 else x

    case = draw_case(branching, (jnp.ones(2),), {}, np.random.default_rng(0))
    assert case.eager
    assert case.run(lambda x: case.explicit(x)[0], 3.0 * jnp.ones(2)).tolist() == [6, 6]
    assert not hasattr(case.plain, "lower")
    assert case.traced_once() is case
    plain = draw_case(lambda x: x * 2.0, (jnp.ones(2),), {}, np.random.default_rng(0))
    assert not plain.eager
    assert hasattr(plain.plain, "lower")  # It is compiled.
    asked = []
    monkeypatch.setattr(programs, "run", lambda program, *arguments, key: asked.append(key) or 5)
    assert plain.run(lambda x: x, jnp.ones(2), name="main") == 5
    signed = dataclasses.replace(plain, signature=("a body",))
    signed.run(lambda x: x, jnp.ones(2), name="main")
    signed.run(lambda x: x, jnp.ones(2))
    assert asked == [None, (("a body",), "main"), None]
    assert signed.without_rules().signature is None


def test_a_complex_array_is_two_leaves():
    case = draw_case(lambda z: z * z, (jnp.asarray([1.0 + 2.0j]),), {}, np.random.default_rng(0))
    assert case.names == ["z.real", "z.imag"]
    real, imaginary = case.explicit(jnp.ones(1), 2 * jnp.ones(1))
    assert (real.tolist(), imaginary.tolist()) == ([-3], [4])


# --- reports -------------------------------------------------------------------------------------


def check(name, status="passed", dtype="float32", message="", gradient=""):
    return Check(name, dtype, status, message, 1.5, gradient)


def test_a_report_is_ok_where_each_gradient_passed_in_some_dtype():
    passed = check("vjp", gradient="x")
    doubtful = check("vjp", "inconclusive", message="too loose", gradient="x")
    wide = check("vjp", dtype="float64", gradient="x")
    assert Report("f", (passed,)).ok
    assert Report("f", (doubtful, wide)).ok
    assert not Report("f", (doubtful,)).ok
    skipped = check("vmap", "skipped", message="no rows")
    assert Report("f", (doubtful, skipped)).unchecked == "nothing was checked: too loose"
    assert Report("f", (skipped,)).unchecked == "nothing was checked: no rows"
    other = check("vjp", "inconclusive", message="no reference", gradient="w")
    found = Report("f", (passed, other))
    assert found.unchecked == "gradient of w was not checked: no reference"
    assert Report("f", (passed, other), expect="clipped").unchecked == ""
    assert Report("f", ()).unchecked == "nothing was checked: no check"
    later = check("vjp", "inconclusive", "float64", message="still too loose", gradient="x")
    assert Report("f", (doubtful, later)).unchecked == "nothing was checked: still too loose"
    failed = check("vjp", "failed", gradient="x", message="wrong")
    assert not Report("f", (wide, failed)).ok
    Report("f", (passed,)).raise_if_failed()
    with pytest.raises(AssertionError, match=r"^gradcheck f: FAILED"):
        Report("f", (failed,)).raise_if_failed()


def test_a_report_says_causes_before_symptoms():
    checks = (
        check("value"),
        check("vjp", "failed", message="got 2, expected 1", gradient="x"),
        check("vjp", "failed", message="got 3, expected 1", gradient="w"),
        check("second order", "failed", message="twice", gradient="x"),
        check("jit", "warning", message="it raises under jit"),
        check("vmap", "skipped", message="no rows"),
        check("vjp", "failed", "float64", message="got 2.0, expected 1", gradient="x"),
        check("finite differences", "failed", "float64", message="off", gradient="x"),
        check("hessian", "inconclusive", "float64", message="too loose"),
    )
    found = Report("f", checks, "autodiff", ("n (int32[])",))
    assert str(found).splitlines() == [
        "gradcheck f: FAILED (1 passed, 5 failed, 1 warning, 1 inconclusive, 1 skipped)",
        "  compared with autodiff",
        "  held constant or not compared: n (int32[])",
        "  passed in float32: value",
        "  passed in float64: none",
        "  inconclusive in float64: hessian",
        "  failed in float32: vjp: got 2, expected 1",
        "  failed in float32: vjp: got 3, expected 1",
        "  warning in float32: jit: it raises under jit",
        "  skipped in float32: vmap: no rows",
        "  failed as well, probably because of it: second order in float32, vjp in float64, "
        "finite differences in float64",
    ]
    assert repr(found) == f"{str(found).splitlines()[0]}: vjp: got 2, expected 1"
    assert [c.name for c in found.warnings] == ["jit"]
    assert len(found.failures) == 5
    fine = Report("f", checks[:1])
    assert repr(fine).startswith("gradcheck f: nothing was checked")


def test_a_report_as_json_has_no_number_that_json_lacks():
    infinite = Check("vjp", "float32", "failed", "wrong", float("inf"), "x")
    text = Report("f", (check("value"), infinite), "autodiff", ("n",)).to_json()
    assert text.startswith('{\n  "function": "f",\n')
    found = json.loads(text)
    assert found == {
        "function": "f", "ok": False, "unchecked": "nothing was checked: wrong",
        "reference": "autodiff", "held": ["n"], "expect": "",
        "checks": [
            {"name": "value", "dtype": "float32", "status": "passed", "message": "", "ulps": 1.5,
             "gradient": ""},
            {"name": "vjp", "dtype": "float32", "status": "failed", "message": "wrong",
             "ulps": None, "gradient": "x"},
        ],
    }  # fmt: skip
