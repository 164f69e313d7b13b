"""The settings of the checker, and how its reports read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import gradcheck

pytestmark = pytest.mark.slow

POINT = jnp.asarray([0.5, -1.0, 2.0])


def product(x, w):
    return x * w


def wrong_in(argument, factor=1.1):
    factors = [factor if name == argument else 1.0 for name in ("x", "w")]
    wrapped = jax.custom_vjp(product)
    wrapped.defvjp(
        lambda x, w: (x * w, (x, w)),
        lambda res, dy: (factors[0] * res[1] * dy, factors[1] * res[0] * dy),
    )
    return wrapped


def names(report):
    return {check.name for check in report.checks}


def gradients(report):
    return {check.gradient for check in report.checks if check.gradient}


first_order = gradcheck.replace(only=("vjp", "finite differences"))


def test_wrt_names_the_gradients_that_count():
    assert not first_order(wrong_in("w"), POINT, POINT + 1).ok
    report = first_order.replace(wrt=("x",))(wrong_in("w"), POINT, POINT + 1)
    assert report.ok
    assert gradients(report) == {"x"}
    assert report.held == ("w (float32[3])",)
    nested = first_order.replace(wrt=("p['a']",))
    assert gradients(nested(lambda p: p["a"] * p["b"], {"a": POINT, "b": POINT})) == {"p['a']"}
    with pytest.raises(ValueError, match="no array is called y; there are x, w"):
        first_order.replace(wrt=("y",))(product, POINT, POINT)


def test_skip_and_only_name_checks():
    assert names(gradcheck.replace(only=("vjp", "dtype"))(jnp.sin, POINT)) == {"vjp", "dtype"}
    report = gradcheck.replace(skip=("vmap", "hessian", "linear"))(jnp.sin, POINT)
    assert not names(report) & {"vmap of x", "hessian", "linear"}
    assert {"vjp", "repeat", "second order"} <= names(report)
    with pytest.raises(ValueError, match="only: no check is called 'vjb'; there are vjp, forward"):
        gradcheck.replace(only=("vjb",))


def test_tolerances_add_to_what_rounding_explains():
    wrong = wrong_in("w", 1.001)
    assert not first_order(wrong, POINT, POINT).ok
    assert first_order.replace(rtol=2e-3)(wrong, POINT, POINT).ok
    assert not first_order.replace(rtol=2e-4)(wrong, POINT, POINT).ok
    assert first_order.replace(atol={"w": 5e-4})(wrong, POINT, POINT).ok
    assert not first_order.replace(atol={"x": 5e-4})(wrong, POINT, POINT).ok


def test_a_tolerance_as_large_as_the_gradient_is_inconclusive():
    report = first_order.replace(rtol=0.5)(product, POINT, POINT)
    assert not report.ok
    assert not report.failures
    assert "nothing was checked" in str(report)


def off_in_a_batch(function):
    """Return a function whose results are a little off under vmap, as those of a solver are."""

    @jax.custom_batching.custom_vmap
    def alone(x):
        return function(x)

    @alone.def_vmap
    def _(size, mapped, x):
        return 1.0001 * function(x), mapped[0]

    return alone


def test_a_declared_tolerance_holds_for_values_in_a_batch():
    """As of a solver, which takes more steps where another example of the batch needs them."""
    solved = off_in_a_batch(jnp.sin)
    rule = jax.custom_vjp(solved)
    rule.defvjp(lambda x: (solved(x), x), lambda x, dy: (dy * jnp.cos(x),))
    in_a_batch = gradcheck.replace(only=("vmap",), dtypes=("float32",))
    assert [check.name for check in in_a_batch(rule, POINT).failures] == ["vmap of x"]
    assert not in_a_batch.replace(rtol=1e-3)(rule, POINT).failures
    assert in_a_batch.replace(rtol=1e-6)(rule, POINT).failures


def test_another_function_may_say_what_the_gradient_is():
    rounded = jax.custom_vjp(jnp.rint)
    rounded.defvjp(lambda x: (jnp.rint(x), None), lambda _, dy: (dy,))
    check = first_order.replace(reference=lambda x: x)
    assert check(rounded, POINT).ok
    doubled = jax.custom_vjp(jnp.rint)
    doubled.defvjp(lambda x: (jnp.rint(x), None), lambda _, dy: (2.0 * dy,))
    assert {check.name for check in check(doubled, POINT).failures} == {"vjp"}


@pytest.mark.parametrize("linear", [True, False])
def test_a_gradient_that_differs_on_purpose_keeps_the_contract(linear):
    straight = jax.custom_vjp(jnp.rint)
    straight.defvjp(
        lambda x: (jnp.rint(x), None), lambda _, dy: (dy if linear else jnp.clip(dy, -0.1, 0.1),)
    )
    check = gradcheck.replace(only=("vjp", "linear", "finite differences"))
    assert not check(straight, POINT).ok
    report = check.replace(expect="straight-through")(straight, POINT)
    assert report.ok == linear
    assert {check.name for check in report.failures} == (set() if linear else {"linear"})
    assert "straight-through: gradient of x" in str(report)
    with pytest.raises(ValueError, match="'on purpose' is none of straight-through, approximate"):
        gradcheck.replace(expect="on purpose")


def test_dtypes():
    report = first_order.replace(dtypes=("float32",))(jnp.sin, POINT)
    assert {c.dtype for c in report.checks if c.name == "vjp"} == {"float32"}
    report = first_order.replace(dtypes=("float64",))(jnp.sin, POINT)
    assert {c.dtype for c in report.checks} == {"float64"}


def test_points_are_drawn_by_the_sampler():
    """A rule that is wrong for large arguments alone."""
    square = jax.custom_vjp(jnp.square)
    square.defvjp(
        lambda x: (jnp.square(x), x), lambda x, dy: (jnp.where(x > 10.0, 3.0, 2.0) * x * dy,)
    )
    check = gradcheck.replace(only=("vjp",), points=2)
    assert check(square, POINT).ok
    drawn = []

    def sampler(rng, name, array):
        drawn.append(name)
        return 20.0 + rng.random(array.shape)

    report = check.replace(sampler=sampler)(square, POINT)
    assert drawn == ["x"]
    assert all(c.message.startswith("at point 2 of 2: ") for c in report.failures)
    assert len(report.failures) == 2
    with pytest.raises(ValueError, match="points must be at least 1; got 0"):
        gradcheck.replace(points=0)


def test_directions_are_projected():
    """A rule that is right for arguments that sum to 1, whose gradient's mean is no matter."""
    normalised = jax.custom_vjp(lambda p: (p / p.sum()) ** 2)
    normalised.defvjp(lambda p: ((p / p.sum()) ** 2, p), lambda p, dy: (2.0 * p * dy,))
    p = jnp.asarray([0.125, 0.5, 0.375])
    assert not first_order(normalised, p).ok
    check = first_order.replace(project=lambda name, d: d - d.mean())
    assert check(normalised, p).ok
    wrong = jax.custom_vjp(lambda p: (p / p.sum()) ** 2)
    wrong.defvjp(lambda p: ((p / p.sum()) ** 2, p), lambda p, dy: (2.02 * p * dy,))
    assert {c.name for c in check(wrong, p).failures} == {"vjp", "finite differences"}


def test_a_seed_draws_other_cotangents():
    seen = []

    def backward(x, dy):
        jax.debug.callback(lambda dy: seen.append(float(dy[0])), dy)
        return (jnp.cos(x) * dy,)

    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), backward)
    firsts = []
    for seed in (0, 0, 1):
        seen.clear()
        gradcheck.replace(only=("dtype",), seed=seed, dtypes=("float32",))(sine, POINT)
        jax.effects_barrier()
        firsts.append(seen[0])
    assert firsts[0] == firsts[1] != firsts[2]


def test_no_check_starts_once_the_budget_is_spent():
    report = gradcheck.replace(budget_s=0.0)(jnp.sin, POINT)
    assert not report.ok
    assert "the budget of 0 s was spent" in str(report)


# --- reports --------------------------------------------------------------------------------------


def wrong_by(change):
    wrapped = jax.custom_vjp(jnp.tanh)
    wrapped.defvjp(
        lambda x: (jnp.tanh(x), x), lambda x, dy: (change((1.0 - jnp.tanh(x) ** 2) * dy),)
    )
    return wrapped


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: 2.0 * g, "; got / expected = 2.000 everywhere"),
        (lambda g: -g, "; got / expected = -1.000 everywhere"),
        (lambda g: 0.0 * g, "; got / expected = 0 everywhere"),
        (lambda g: g.T, "; it is the transpose of the expected array"),
        (lambda g: g.at[1, 2].add(1.0), "; 1 of 9 entries are wrong"),
    ],
    ids=["twice", "sign", "zero", "transpose", "entry"],
)
def test_a_failure_says_in_what_way_the_array_is_wrong(change, said):
    x = jnp.asarray(np.random.default_rng(3).standard_normal((3, 3)), jnp.float32)
    report = gradcheck.replace(only=("vjp",))(wrong_by(change), x)
    assert all(said in check.message for check in report.failures)
    assert len(report.failures) == 2


def test_an_expected_zero_has_a_finite_error():
    wrapped = jax.custom_vjp(lambda x: x * jnp.asarray([1.0, 0.0, 1.0], x.dtype))
    wrapped.defvjp(lambda x: (x * jnp.asarray([1.0, 0.0, 1.0], x.dtype), None), lambda _, dy: (dy,))
    report = gradcheck.replace(only=("vjp",))(wrapped, POINT)
    (single, _) = report.failures
    assert "expected 0, off by " in single.message
    assert "ULP" not in str(report)
    assert single.ulps < 1e8


def test_causes_come_before_their_symptoms():
    report = gradcheck.replace(skip=("vmap",))(wrong_in("w"), POINT, POINT + 1)
    lines = [line for line in str(report).splitlines() if "failed" in line][1:]
    assert lines[0].startswith("  failed in float32: vjp: gradient of w at ")
    assert lines[1].startswith("  failed as well, probably because of it: ")
    assert "finite differences in float64" in lines[1]
    assert len(lines) == 2


def test_json():
    report = gradcheck.replace(only=("vjp",))(wrong_in("w"), POINT, POINT)
    content = json.loads(report.to_json())
    assert content["ok"] is False
    assert content["reference"] == "autodiff in float64"
    statuses = {(c["gradient"], c["dtype"]): c["status"] for c in content["checks"]}
    assert statuses["x", "float32"] == "passed"
    assert statuses["w", "float32"] == "failed"


def test_a_failed_assertion_shows_the_report():
    report = gradcheck.replace(only=("vjp",))(wrong_in("w"), POINT, POINT)
    with pytest.raises(AssertionError) as raised:
        assert report.ok
    shown = str(raised.value)
    assert "gradcheck product: FAILED (2 passed, 2 failed): vjp: gradient of w at [" in shown
    assert "everywhere" in shown


def plain_softplus(x):
    return jnp.log1p(jnp.exp(x))


softplus = jax.custom_vjp(plain_softplus)
softplus.defvjp(lambda x: (plain_softplus(x), x), lambda x, dy: (jax.nn.sigmoid(x) * dy,))


def test_a_function_has_the_name_that_its_author_gave_it():
    assert first_order(softplus, POINT).function == "softplus"
    assert first_order(plain_softplus, POINT).function == "plain_softplus"


def test_a_declared_tolerance_holds_under_vmap_as_well():
    """The gradient of a mapped function is a little off, as that of a solver is."""
    one = off_in_a_batch(jnp.ones_like)
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy * one(x),))
    check = gradcheck.replace(only="vmap")
    assert check(sine, POINT).failures
    assert not check.replace(rtol=1e-3)(sine, POINT).failures
