import collections
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxnets import autodiff, ops
from jaxnets._autodiff import _forget
from tests.support import assert_close, assert_trees_close, cube, entries, primitives_in, wrong_rule

# Whoever uses its rule is found out.
wrong_cube = wrong_rule(cube)


# --- a wrong rule, at several depths --------------------------------------------------------------


def in_scan(f, x):
    return jax.lax.scan(lambda total, row: (total + f(row).sum(), f(row)), 0.0, x)[0]


def in_fori_loop(f, x):
    return jax.lax.fori_loop(0, 3, lambda i, y: jnp.tanh(f(y)) + i, x)


def in_cond(f, x):
    return jax.lax.cond(x[0, 0] > -100.0, lambda x: f(x) * 2.0, lambda x: x, x)


def in_switch(f, x):
    branches = [lambda x: x, lambda x: f(x), lambda x: f(x) + 1.0]
    return jax.lax.switch(jnp.asarray(1), branches, x)


def in_everything(f, x):
    """Inside jit inside cond inside scan inside remat inside vmap inside jit."""

    @jax.checkpoint
    def row(x):
        def choose(y):
            return jax.lax.cond(y > -100.0, jax.jit(f), jnp.sin, y)

        return jax.lax.scan(lambda carry, y: (carry + choose(y), None), 0.0, x)[0]

    return jax.jit(jax.vmap(row))(x)


def in_a_rule(f, x):
    """Inside of a function with a rule of its own."""
    outer = jax.custom_vjp(lambda x: jnp.sin(f(x)))
    outer.defvjp(lambda x: (jnp.sin(f(x)), None), lambda _, dy: (dy * 7.0,))
    return outer(x)


def in_shard_map(f, x):
    devices = jax.devices("cpu")[:2]
    mesh = jax.make_mesh((2,), ("rows",), (jax.sharding.AxisType.Auto,), devices=devices)
    spec = PartitionSpec("rows")

    def shard(x):
        return jax.lax.psum(f(x).sum(), "rows") + f(x)

    return jax.shard_map(shard, mesh=mesh, in_specs=spec, out_specs=spec)(x)


def in_a_linear_solve(f, x):
    def solve(_, b):
        return b / 2.0

    return jax.lax.custom_linear_solve(lambda v: 2.0 * v, f(x), solve, symmetric=True)


def in_static_arguments(f, x):
    @functools.partial(jax.jit, static_argnames=("shape", "how", "g"))
    def reshaped(x, shape, *, how, g):
        y = g(x.reshape(shape))
        return y.sum(0) if how == "sum" else y

    return reshaped(x, (4, 1), how="sum", g=f)


DEPTHS = {
    "alone": lambda f, x: f(x),
    "jit": lambda f, x: jax.jit(f)(x) + f(x),
    "vmap": lambda f, x: jax.vmap(jax.vmap(f))(x),
    "remat": lambda f, x: jax.checkpoint(lambda x: jnp.sin(f(x)))(x),
    "map": lambda f, x: jax.lax.map(f, x),
    "associative_scan": lambda f, x: jax.lax.associative_scan(lambda a, b: f(a) + b, x),
    "linearize": lambda f, x: f(jax.linearize(jnp.sin, x)[0]),
    "scan": in_scan,
    "fori_loop": in_fori_loop,
    "cond": in_cond,
    "switch": in_switch,
    "everything": in_everything,
    "a rule": in_a_rule,
    "shard_map": in_shard_map,
    "custom_linear_solve": in_a_linear_solve,
    "static arguments": in_static_arguments,
}


@pytest.mark.slow
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_wrong_rule_is_forgotten(depth, x64):
    place = DEPTHS[depth]
    x = jnp.array([[0.3, -0.4], [0.5, 0.2]])

    def total(f, x):
        return jnp.sum(place(f, x) * 1.5)

    forgetful = autodiff(functools.partial(total, wrong_cube))
    true, wrong = functools.partial(total, cube), functools.partial(total, wrong_cube)
    evaluate = jax.jit(lambda x: [jax.value_and_grad(f)(x) for f in (forgetful, true, wrong)])
    got, expected, misled = evaluate(x)
    if depth == "a rule":  # Which differs from the plain function, whatever is in it.
        expected = expected[0], 1.5 * jnp.cos(x**3) * 3 * x**2
    assert_trees_close(got, expected, 10)
    assert_close(misled[0], expected[0], jnp.float64, 10)
    assert not np.allclose(misled[1], expected[1])
    assert not any(name.startswith("custom_vjp") for name in primitives_in(forgetful, x))
    assert any(name.startswith("custom_vjp") for name in primitives_in(wrong, x))


@pytest.mark.parametrize("depth", DEPTHS)
def test_no_rule_is_left_at_any_depth(depth):
    x, place = jnp.ones((2, 2)), DEPTHS[depth]
    assert any(n.startswith("custom_vjp") for n in primitives_in(lambda x: place(wrong_cube, x), x))
    forgetful = autodiff(lambda x: place(wrong_cube, x))
    assert not any(name.startswith("custom_vjp") for name in primitives_in(forgetful, x))


def test_only_what_holds_a_rule_is_made_anew():
    """Of a tuple without one the same object stays; one with names keeps its kind."""
    body = jax.make_jaxpr(wrong_cube)(1.0)
    pair = collections.namedtuple("pair", "a b")
    assert _forget((1, "two")) == (1, "two")
    kept = (1, (2, None))
    assert _forget(kept) is kept
    found = _forget(pair(body, 2))
    assert isinstance(found, pair)
    assert found.b == 2
    assert not any(e.primitive.name.startswith("custom_vjp") for e in found.a.eqns)


def test_while_loop_in_forward_mode(x64):
    """Which has no reverse mode, and which a rule for reverse mode forbids."""

    def thrice(f, x):
        def body(state):
            return state[0] + 1, jnp.tanh(f(state[1]))

        return jax.lax.while_loop(lambda state: state[0] < 3, body, (0, x))[1]

    x = jnp.asarray(0.9)
    wrong = functools.partial(thrice, wrong_cube)
    got = jax.jvp(autodiff(wrong), (x,), (x,))
    assert_trees_close(got, jax.jvp(functools.partial(thrice, cube), (x,), (x,)), 3)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(wrong, (x,), (x,))


def test_rules_in_other_forms(x64):
    x = jnp.asarray(0.7)
    with_static = functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))(
        lambda f, n, x: f(x) ** n
    )
    with_static.defvjp(lambda f, n, x: (f(x) ** n, None), lambda f, n, _, dy: (dy * 1000.0,))
    symbolic = jax.custom_vjp(cube)
    symbolic.defvjp(lambda x: (x.value**3, None), lambda _, dy: (dy * 1000.0,), symbolic_zeros=True)
    remat = jax.custom_vjp(cube)
    remat.defvjp(lambda x: (x**3, None), lambda _, dy: (dy * 1000.0,), optimize_remat=True)
    gradient = jax.custom_gradient(lambda x: (x**3, lambda dy: dy * 1000.0))
    for wrong in (lambda x: with_static(jnp.sin, 3, jnp.arcsin(x)), symbolic, remat, gradient):
        assert jax.grad(wrong)(x) >= 1000.0
        assert_close(jax.grad(autodiff(wrong))(x), 3 * x**2, jnp.float64, terms=1.0)


# --- rules that stay ------------------------------------------------------------------------------


def test_custom_jvp_rules_stay(x64):
    odd = jax.custom_jvp(jnp.sin)
    odd.defjvps(lambda dx, y, x: 1000.0 * dx)
    x = jnp.asarray(0.3)

    def both(x):
        return jax.jit(odd)(x) + wrong_cube(x)

    assert_close(jax.grad(autodiff(both))(x), 1000.0 + 3 * x**2, jnp.float64)
    assert_close(jax.jvp(autodiff(both), (x,), (x,))[1], (1000.0 + 3 * x**2) * x, jnp.float64)
    assert jax.grad(autodiff(jax.nn.relu))(0.0) == 0.0
    assert jax.grad(lambda x: jnp.maximum(x, 0.0))(0.0) == 0.5


def test_rule_inside_of_a_custom_jvp_function(x64):
    """Its value, and not its gradient, passes through the other's rule."""
    outer = jax.custom_jvp(lambda x: 2.0 * wrong_cube(x))
    outer.defjvps(lambda dx, y, x: 6.0 * x**2 * dx)
    x = jnp.asarray(0.7)
    value, slope = jax.value_and_grad(autodiff(outer))(x)
    assert_close(jnp.stack([value, slope]), jnp.stack([2 * x**3, 6 * x**2]), jnp.float64)


# --- a transformation like any other --------------------------------------------------------------


@pytest.mark.slow
def test_composes(x64):
    x = jnp.array([0.5, -0.3])
    forgetful = autodiff(wrong_cube)
    slope = 3 * x**2
    for got, expected in (
        (forgetful(x), x**3),
        (jax.jit(forgetful)(x), x**3),
        (jax.vmap(forgetful)(x), x**3),
        (jax.jvp(forgetful, (x,), (x,))[1], slope * x),
        (jax.vjp(forgetful, x)[1](x)[0], slope * x),
        (jax.vmap(jax.grad(forgetful))(x), slope),
        (jax.jit(jax.vmap(jax.grad(jax.checkpoint(forgetful))))(x), slope),
        (jax.vmap(jax.hessian(forgetful))(x), 6 * x),
        (jax.vmap(jax.grad(autodiff(forgetful)))(x), slope),
        (jax.jacfwd(forgetful)(x), jnp.diag(slope)),
        (jax.lax.map(jax.grad(forgetful), x), slope),
    ):
        assert_close(got, expected, jnp.float64, terms=1.0)
    slope = jax.grad(lambda y: forgetful(y * x).sum())(jnp.asarray(2.0))
    assert_close(slope, 12 * (x**3).sum(), jnp.float64, terms=1.0)


def test_value_and_grad_with_auxiliary_output(x64):
    def f(x):
        return wrong_cube(x), {"twice": 2 * x, "none": None}

    (value, auxiliary), slope = jax.value_and_grad(autodiff(f), has_aux=True)(0.5)
    assert (value, slope, auxiliary) == (0.125, 0.75, {"twice": 1.0, "none": None})


def test_closed_over_tracers(x64):
    """A variable of an outer transformation, used inside."""

    def outer(w):
        return autodiff(lambda x: wrong_cube(w * x))(jnp.asarray(2.0))

    assert_close(jax.grad(outer)(jnp.asarray(0.5)), jnp.asarray(6.0), jnp.float64)

    def scanned(w):
        return jax.lax.scan(lambda total, _: (total + outer(w), None), 0.0, None, 3)[0]

    assert_close(jax.grad(scanned)(jnp.asarray(0.5)), jnp.asarray(18.0), jnp.float64)


def test_arguments_of_all_kinds(x64):
    def f(tree, shape, *, how, function=None, flag=True):
        y = wrong_cube(tree["x"][0]).reshape(shape)
        assert flag
        return {"y": (function(y) if how == "apply" else y), "shape": y.shape[0]}

    tree = {"x": [jnp.array([0.5, 2.0])], "unused": None}
    out = autodiff(f)(tree, (2, 1), how="apply", function=jnp.sum)
    assert (out["y"], out["shape"]) == (8.125, 2)
    grad = jax.grad(lambda t: autodiff(f)(t, (2, 1), how="apply", function=jnp.sum)["y"])(tree)
    assert_trees_close(grad, {"x": [jnp.array([0.75, 12.0])], "unused": None}, what="grad")


def test_outputs_are_what_f_gives(x64):
    def f(x):
        return x, 1.0, jnp.int32(2), jnp.zeros((0, 2)), jax.random.key(0), [], np.float32(3)

    for got, expected in zip(
        jax.tree.leaves(autodiff(f)(jnp.ones(2))),
        jax.tree.leaves(jax.jit(f)(jnp.ones(2))),
        strict=True,
    ):
        assert isinstance(got, jax.Array)
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)


def test_effects_happen_once():
    seen = []

    def f(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        return wrong_cube(x)

    autodiff(f)(jnp.float32(2.0)).block_until_ready()
    jax.effects_barrier()
    assert seen == [2.0]


def test_name_and_signature():
    forgetful = autodiff(ops.layer_norm)
    assert forgetful.__name__ == "layer_norm"
    assert forgetful.__doc__ == ops.layer_norm.__doc__
    assert inspect.signature(forgetful) == inspect.signature(ops.layer_norm)


def test_errors_of_f_are_those_of_f():
    with pytest.raises(TypeError, match=r"x must have a floating dtype.*int32\[3\]"):
        autodiff(ops.relu)(jnp.arange(3))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 2\); got 5 to 5"):
        autodiff(ops.softmax_cross_entropy)(jnp.ones((1, 2)), jnp.array([5]))


@pytest.mark.parametrize("name", sorted(ops.__all__))
def test_every_op_loses_its_rule(name, rng):
    for entry in entries(name):
        arguments = entry.sample(rng, (3, 4), jnp.float32)
        assert "custom_vjp_call" in primitives_in(entry.function, *arguments)
        assert "custom_vjp_call" not in primitives_in(autodiff(entry.function), *arguments)
