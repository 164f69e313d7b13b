import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import gradcheck, ops
from jaxnets._catalog import CATALOG
from tests.benchmarks.mutants import MUTANTS, edited_source, planted
from tests.benchmarks.mutations import points

pytestmark = pytest.mark.slow


def failed(report, dtype=None):
    """The names of the checks that failed, each once."""
    return {c.name for c in report.failures if dtype in (None, c.dtype)}


def messages(report, name):
    return [c.message for c in report.failures if c.name == name]


def with_rule(function, backward, forward=None):
    """A function whose backward is `backward(arguments, cotangent)`."""
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(forward or (lambda *args: (function(*args), args)), backward)
    return wrapped


def cube(x):
    return x * x * x


def cube_gradient(res, dy):
    (x,) = res
    return (3.0 * x * x * dy,)


POINT = jnp.asarray([0.5, -1.0, 2.0])


# --- planted bugs and correct cases --------------------------------------------------------------


@pytest.mark.parametrize("module", sorted({mutant.module for mutant in MUTANTS}))
def test_every_bug_can_be_planted(module):
    for mutant in MUTANTS:
        if mutant.module == module:
            compile(edited_source(mutant), module, "exec")


def test_the_table_has_every_op():
    assert {mutant.op for mutant in MUTANTS} == {entry.op for entry in CATALOG}
    assert len(set(MUTANTS)) == len(MUTANTS) >= 110


def test_a_bug_whose_place_is_gone_is_an_error():
    with pytest.raises(LookupError, match="0 times"):
        edited_source(MUTANTS[0]._replace(before="no such text"))
    with pytest.raises(LookupError, match="no such function"):
        edited_source(MUTANTS[0]._replace(function="no_such_function"))


def test_planting_changes_the_op_and_puts_it_back():
    sign = next(m for m in MUTANTS if (m.op, m.kind) == ("relu", "sign"))
    slope = jax.grad(ops.relu)
    assert slope(1.0) == 1.0
    with planted(sign):
        assert slope(1.0) == -1.0
    assert slope(1.0) == 1.0
    assert "detached" not in vars(ops.relu.__globals__["_relu_bwd"]) | ops.relu.__globals__


def sample_of_mutants():
    """One for each op, of as many kinds as there are ops."""
    shuffled = random.Random(7).sample(MUTANTS, len(MUTANTS))
    chosen = {}
    for op in dict.fromkeys(mutant.op for mutant in shuffled):
        kinds = [mutant.kind for mutant in chosen.values()]
        candidates = [mutant for mutant in shuffled if mutant.op == op]
        chosen[op] = min(candidates, key=lambda mutant: kinds.count(mutant.kind))
    return list(chosen.values())


def precision(op):
    """Half of the ops are tried in float32, and with it in float64, the others in float64 alone."""
    ops = sorted({entry.op for entry in CATALOG})
    return ("float64", "float32")[ops.index(op) % 2]


@pytest.mark.parametrize("mutant", sample_of_mutants(), ids=lambda m: f"{m.op}-{m.kind}")
def test_planted_bug_is_found(mutant):
    dtype = precision(mutant.op)
    killed = set()
    with planted(mutant), jax.enable_x64(dtype == "float64"):
        for point in points(mutant.op, dtype):
            report = gradcheck(point.entry.function, *point.arguments)
            killed |= {check.dtype for check in (*report.failures, *report.warnings)}
            if killed == {dtype, "float64"}:
                break
    assert killed == {dtype, "float64"}


@pytest.mark.parametrize("draw", range(2))
@pytest.mark.parametrize("op", sorted({entry.op for entry in CATALOG}))
def test_no_false_alarm(op, draw, rng):
    # At the shape and in the dtype of the planted bug, whose compiled primitives serve again.
    dtype = precision(op)
    with jax.enable_x64(dtype == "float64"):
        point = next(points(op, dtype, rng=rng))
        gradcheck(point.entry.function, *point.arguments).raise_if_failed()


def test_a_rule_whose_second_order_cancels_where_autodiffs_does_not():
    # One feature, whose norm is its sign: nothing but rounding is left of the second derivative.
    entry = next(entry for entry in CATALOG if entry.op == "rms_norm")
    x = jnp.asarray([[1.7734375], [-1.5234375], [-2.25], [1.171875], [2.484375]], jnp.bfloat16)
    gradcheck(entry.function, x, jnp.asarray([1.5625], jnp.bfloat16)).raise_if_failed()


# --- what it takes and what it says --------------------------------------------------------------


def test_trees_keywords_integers_keys_and_constants():
    seen = []

    def loss(params, counts, key, factor, *, target):
        seen.append((counts.dtype, factor))
        seed = jnp.max(jax.random.key_data(key))
        return factor * params["pair"][1] * (counts + seed).astype(target.dtype) - target

    params, counts = {"pair": (None, POINT)}, jnp.asarray([2, 0, 1], jnp.uint32)
    report = gradcheck(loss, params, counts, jax.random.key(3), 0.5, target=POINT)
    assert report.ok, report
    assert set(seen) == {(jnp.dtype("uint32"), 0.5)}
    assert {check.dtype for check in report.checks} == {"float32", "float64"}
    mapped = {check.name for check in report.checks if check.name.startswith("vmap")}
    leaves = ("params['pair'][1]", "counts", "key", "target", "all")
    assert mapped == {f"vmap of {leaf}" for leaf in leaves}


def test_a_failure_says_what_and_where():
    def scaled(params, x):
        return x * params["weight"]

    def backward(res, dy):
        params, x = res
        return {"weight": (dy * x).at[1, 2].add(1.0)}, dy * params["weight"]

    x = jnp.arange(1.0, 7.0).reshape(2, 3)
    report = gradcheck(with_rule(scaled, backward), {"weight": x + 1.0}, x)
    check = next(c for c in report.failures if c.name == "vjp" and c.dtype == "float32")
    assert check.message.startswith("gradient of params['weight'] at [1, 2]: got ")
    assert "expected" in check.message
    got, expected = (
        float(check.message.split(word)[1].split(",")[0]) for word in ("got ", "expected ")
    )
    assert got - expected == pytest.approx(1.0, abs=1e-5)
    # The error, in parts of the largest entry, and in units of its last place.
    off = float(check.message.split("off by ")[1].split(" of the array's largest entry")[0])
    largest = 1.0 / off
    assert abs(expected) <= largest * 1.1
    assert check.ulps == pytest.approx(1.0 / np.spacing(np.float32(largest)), rel=1.1)
    assert check.message.endswith("; 1 of 6 entries are wrong")
    assert "failed in float32: vjp: gradient of params['weight'] at [1, 2]" in str(report)


def test_report():
    good = gradcheck(with_rule(cube, cube_gradient), POINT)
    assert good.ok
    assert not good.failures
    assert good.raise_if_failed() is None
    assert "ok" in str(good).splitlines()[0]

    bad = gradcheck(with_rule(cube, lambda res, dy: (-cube_gradient(res, dy)[0],)), POINT)
    assert not bad.ok
    assert failed(bad, "float32") == {"vjp", "second order", "hessian"}
    assert failed(bad, "float64") == {"vjp", "second order", "hessian", "finite differences"}
    assert "FAILED" in str(bad).splitlines()[0]
    with pytest.raises(AssertionError) as raised:
        bad.raise_if_failed()
    assert str(raised.value) == str(bad)


def test_arguments_that_it_refuses():
    with pytest.raises(ValueError, match="floating"):
        gradcheck(lambda n: n + 1, jnp.asarray([1, 2]))
    with pytest.raises(ValueError, match="floating"):
        gradcheck(lambda x: x, 1.0)
    with pytest.raises(ValueError, match="output"):
        gradcheck(jnp.isnan, POINT)


# --- functions that are right --------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [lambda x: jnp.where(x > 0, x, 0.0), lambda x: jnp.maximum(x, 0.0), jnp.abs],
    ids=["where", "maximum", "abs"],
)
def test_a_kink_at_the_very_point_is_no_failure(function):
    report = gradcheck(function, jnp.asarray([0.0, 1.5, -0.5]))
    assert report.ok, report


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def powers(x, exponent):
    return x**exponent


powers.defvjp(lambda x, exponent: (x**exponent, x), lambda n, x, dy: (n * x ** (n - 1) * dy,))


def softplus_in_numbers(x):
    return jnp.log(1.0 + jnp.exp(x))


@pytest.mark.parametrize(
    "function",
    [softplus_in_numbers, jax.nn.gelu, lambda x: powers(x, 3)],
    ids=["softplus", "gelu", "powers"],
)
def test_functions_of_others(function):
    gradcheck(function, POINT).raise_if_failed()


def test_equinox():
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.Linear(3, 2, key=jax.random.key(0))
    report = gradcheck(lambda model, x: model(x), model, POINT)
    assert report.ok, report
    assert any("model.weight" in check.name for check in report.checks)


def test_flax():
    linen = pytest.importorskip("flax.linen")
    model = linen.Dense(2)
    params = model.init(jax.random.key(0), POINT)
    gradcheck(model.apply, params, POINT).raise_if_failed()


def test_products_have_all_digits_whatever_the_device_does_by_default():
    seen = set()

    def product(x, weight):
        seen.add(jax.config.jax_default_matmul_precision)
        return x @ weight

    with jax.default_matmul_precision("bfloat16"):
        gradcheck(product, POINT, jnp.ones((3, 2))).raise_if_failed()
        assert jax.config.jax_default_matmul_precision == "bfloat16"
    assert seen == {"highest"}


def test_a_loop_of_fixed_dtype_is_not_checked_in_float64():
    def loop(x):
        start = jnp.zeros((), jnp.float32)
        return jax.lax.scan(lambda total, a: (total + a * a, None), start, x)[0]

    report = gradcheck(loop, POINT)
    assert report.ok, report
    (skipped,) = [c for c in report.checks if c.status == "skipped"]
    assert skipped.dtype == "float64"
    assert "does not run in float64" in skipped.message
    assert "float32" in skipped.message
    assert "vjp" in {c.name for c in report.checks if c.status == "passed"}


# --- functions that are wrong --------------------------------------------------------------------


def test_a_gradient_that_ignores_a_dependence_fails_finite_differences():
    # Autodiff agrees with itself here: only the function's own values tell.
    report = gradcheck(lambda x: x * jax.lax.stop_gradient(x), POINT)
    assert failed(report) == {"finite differences"}
    assert "gradient of x: along a random direction it gives" in report.failures[0].message


def test_a_gradient_of_another_dtype():
    report = gradcheck(
        with_rule(cube, lambda res, dy: (cube_gradient(res, dy)[0].astype(jnp.float16),)), POINT
    )
    assert failed(report, "float32") >= {"dtype"}
    assert messages(report, "dtype")[0] == "gradient of x is float16[3], the argument float32[3]"


def test_a_backward_that_is_wrong_under_vmap_alone():
    @jax.custom_batching.custom_vmap
    def one(x):
        return jnp.ones_like(x)

    @one.def_vmap
    def _(axis_size, mapped, x):
        return 2.0 * jnp.ones_like(x), mapped[0]

    def backward(res, dy):
        return (cube_gradient(res, dy)[0] * one(jax.lax.stop_gradient(dy)),)

    report = gradcheck(with_rule(cube, backward), POINT)
    assert failed(report) == {"vmap of x"}


def test_a_callback_that_sums_over_the_mapped_axis():
    def total(a):
        return np.full(a.shape[:-1], a.sum(), a.dtype)

    def backward(res, dy):
        dy = jax.lax.stop_gradient(dy)
        shape = jax.ShapeDtypeStruct((), dy.dtype)
        summed = jax.pure_callback(total, shape, dy, vmap_method="expand_dims")
        return (summed * jnp.ones_like(res[0]),)

    report = gradcheck(with_rule(lambda x: jnp.flip(x.sum() * jnp.ones_like(x)), backward), POINT)
    # JAX cannot differentiate the callback, and so the backward hides the cotangent from it.
    assert failed(report) == {"vmap of x", "second order"}


def test_a_forward_rule_that_calls_the_wrapped_function():
    wrapped = jax.custom_vjp(cube)
    wrapped.defvjp(lambda x: (wrapped(x), (x,)), cube_gradient)
    report = gradcheck(wrapped, POINT)
    # As JAX's own tutorial writes it: the gradient is right, and forward over reverse is not there.
    assert report.ok
    assert [check.name for check in report.warnings] == ["hessian", "hessian"]
    assert all("let it call the function's plain body" in c.message for c in report.warnings)
    assert "warning in float32: hessian" in str(report)


def test_a_rule_that_raises():
    def backward(res, dy):
        raise ValueError("no gradient here")

    report = gradcheck(with_rule(cube, backward), POINT)
    assert failed(report, "float32") == {"vjp"}
    assert failed(report, "float64") == {"vjp", "finite differences"}
    said = messages(report, "vjp")[0]
    assert said.startswith("raises ValueError: no gradient here (test_gradcheck.py:")
    assert said.endswith(" in backward)")
    assert "no gradient here" in str(report)


def test_a_rule_that_needs_concrete_values():
    def backward(res, dy):
        (x,) = res
        return (3.0 * x * x * dy if bool((x != 0).all()) else dy,)

    report = gradcheck(with_rule(cube, backward), POINT)
    assert {"jit", "vmap of x"} <= failed(report, "float32")
    assert "vjp" not in failed(report)


@pytest.mark.parametrize(
    ("name", "backward", "forward"),
    [
        ("linear", lambda res, dy: (cube_gradient(res, jnp.clip(dy, -0.1, 0.1))[0],), None),
        ("finite", lambda res, dy: (cube_gradient(res, dy)[0] / jnp.sign(res[0] + 1.0),), None),
        ("forward", cube_gradient, lambda x: (1.01 * cube(x), (x,))),
        ("second order", lambda res, dy: cube_gradient(jax.lax.stop_gradient(res), dy), None),
    ],
    ids=["linear", "finite", "forward", "second order"],
)
def test_each_part_of_the_contract(name, backward, forward):
    report = gradcheck(with_rule(cube, backward, forward), POINT)
    assert name in failed(report, "float32")
    assert name in failed(report, "float64")


def test_a_gradient_that_differs_from_run_to_run():
    runs = iter(range(1000))

    def backward(res, dy):
        # By one unit in the last place: too little for any comparison but that of the bits.
        shake = 1.0 + (next(runs) % 2) * float(jnp.finfo(dy.dtype).eps)
        return (cube_gradient(res, dy)[0] * shake,)

    report = gradcheck(with_rule(cube, backward), POINT)
    assert failed(report) == {"repeat"}


# --- what may not pass for checked ----------------------------------------------------------------


def scaled_by(factor, backward):
    return lambda res, dy: tuple(factor * gradient for gradient in backward(res, dy))


DONATIONS = {
    "by the function": lambda bad: jax.jit(bad, donate_argnums=0),
    "inside of it": lambda bad: lambda x: jax.jit(bad, donate_argnums=0)(x),
    "of both of its parts": lambda bad: jax.jit(jax.jit(bad, donate_argnums=0), donate_argnums=0),
    "by its backward": lambda bad: with_rule(
        bad, jax.jit(scaled_by(1.1, cube_gradient), donate_argnums=(0, 1))
    ),
}


@pytest.mark.parametrize("place", DONATIONS)
def test_a_donated_argument_lives_and_its_wrong_rule_is_found(place):
    x = jnp.asarray([0.5, -1.0, 2.0])
    report = gradcheck(DONATIONS[place](with_rule(cube, scaled_by(1.1, cube_gradient))), x)
    assert not x.is_deleted()
    assert {"vjp"} <= failed(report, "float32") & failed(report, "float64")


def test_a_right_rule_that_donates_passes_every_check():
    donating = jax.jit(with_rule(cube, cube_gradient), donate_argnums=0)
    report = gradcheck(donating, jnp.asarray([0.5, -1.0, 2.0]))
    assert {check.status for check in report.checks} == {"passed"}


def test_a_gradient_without_a_finite_entry_is_not_ok():
    report = gradcheck(jnp.sqrt, jnp.zeros(2))
    assert not report.failures
    assert not report.ok
    assert "nothing was checked: gradient of x" in str(report).splitlines()[0]
    with pytest.raises(AssertionError, match="nothing was checked"):
        report.raise_if_failed()


def test_one_gradient_of_two_that_cannot_be_compared_is_named():
    report = gradcheck(lambda a, b: a * jnp.sqrt(b), POINT, jnp.zeros(3))
    assert not report.failures
    assert not report.ok
    assert "gradient of b was not checked" in str(report).splitlines()[0]


def test_a_tolerance_as_large_as_the_array_is_inconclusive():
    # Of a number so large that neither dtype has the digits of its remainder.
    wrong = with_rule(lambda x: jnp.sin(1e20 * x), lambda res, dy: (1e20 * dy,))
    report = gradcheck(wrong, POINT)
    assert not report.ok
    assert {c.status for c in report.checks if c.gradient} == {"inconclusive"}


TABLE = jnp.asarray([1.0, 3.0, -2.0, 5.0, 4.0])


def looked_up(rounding):
    def function(x, w):
        return TABLE.astype(w.dtype)[rounding(x).astype(int) % 5] * w

    def backward(res, dy):
        x, w = res
        return jnp.zeros_like(x), function(x, jnp.ones_like(w)) * dy

    return function, backward


ROUNDINGS = {
    "round": jnp.round,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "trunc": jnp.trunc,
    "floor_divide": lambda x: x // 1.0,
    "less a remainder": lambda x: x - x % 1.0,
    "sum of comparisons": lambda x: (x[:, None] > jnp.arange(4.0, dtype=x.dtype)).sum(1),
    "floor and one": lambda x: jnp.floor(x) * 2.0 + 1.0,
}


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_an_index_that_was_rounded_is_not_nudged(rounding):
    function, backward = looked_up(ROUNDINGS[rounding])
    x, w = jnp.asarray([0.2, 1.4, 2.7, 3.1]), jnp.asarray([1.0, 2.0, 3.0, 0.5])
    report = gradcheck(with_rule(function, scaled_by(1.001, backward)), x, w)
    assert {"vjp"} <= failed(report, "float32") & failed(report, "float64")


def test_a_right_rule_that_rounds_to_an_index_passes():
    function, backward = looked_up(jnp.floor)
    x, w = jnp.asarray([0.2, 1.4, 2.7, 3.1]), jnp.asarray([1.0, 2.0, 3.0, 0.5])
    gradcheck(with_rule(function, backward), x, w).raise_if_failed()


def test_linear_interpolation_in_a_table():
    def cells(x):
        cell = jnp.floor(x)
        return cell.astype(int), x - cell

    def interpolated(x, table):
        cell, t = cells(x)
        return (1.0 - t) * table[cell] + t * table[cell + 1]

    def backward(res, dy):
        x, table = res
        cell, t = cells(x)
        zeros = jnp.zeros_like(table)
        return (
            1.1 * (table[cell + 1] - table[cell]) * dy,
            zeros.at[cell].add((1.0 - t) * dy).at[cell + 1].add(t * dy),
        )

    report = gradcheck(with_rule(interpolated, backward), jnp.asarray([0.2, 1.4, 2.7]), TABLE)
    assert any("gradient of x" in message for message in messages(report, "vjp"))


SYMMETRIC = {
    "sign of the sum": lambda dy: dy.sum() > 0,
    "sign of the product": lambda dy: jnp.prod(dy) > 0,
    "a negative entry": lambda dy: (dy < 0).any(),
    "a positive entry": lambda dy: (dy > 0).any(),
    "one negative entry": lambda dy: (dy < 0).sum() == 1,
    "a large entry": lambda dy: jnp.abs(dy).max() > 100.0,
    "a small norm": lambda dy: dy @ dy < 1e-4,
    "no entry": lambda dy: jnp.all(dy == 0),
}


@pytest.mark.parametrize("property_", SYMMETRIC)
def test_a_symmetric_function_of_the_cotangent_does_not_hide(property_):
    """A rule that is 0.1 % off where the cotangent, in whatever order, has the property."""
    holds = SYMMETRIC[property_]

    def backward(res, dy):
        off = jnp.where(holds(dy), jnp.asarray(1e-3, dy.dtype), jnp.zeros((), dy.dtype))
        return (cube_gradient(res, dy)[0] * (1.0 + off) + (off if property_ == "no entry" else 0),)

    report = gradcheck(with_rule(cube, backward), POINT)
    assert "linear" in failed(report, "float32") & failed(report, "float64")


# --- cost -----------------------------------------------------------------------------------------


def compilations(function):
    """Count the programs that XLA compiles while `function` runs."""
    names = []
    listen = lambda name, seconds, **_: names.append(name)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        function()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return sum(name.endswith("backend_compile_duration") for name in names)


def test_few_programs_are_compiled_and_none_twice():
    x, weight = jnp.linspace(-1.0, 2.0, 21).reshape(3, 7), jnp.linspace(0.5, 1.5, 7)
    check = functools.partial(gradcheck, ops.layer_norm, x, weight, weight - 1.0)
    assert 0 < compilations(check) <= 25
    assert compilations(check) == 0
