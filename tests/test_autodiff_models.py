"""What `autodiff` makes of a whole training loss, and of models that are not ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from tests.support import assert_trees_close, cube, primitives_in, wrong_rule

wrong_cube = wrong_rule(cube)


def training_loss(params, x, labels, key):
    h = ops.relu(ops.linear(x, params["w1"], params["b1"]))
    h, _, _ = ops.batch_norm(h, params["scale"], params["shift"])
    h = ops.dropout(h, key, 0.2)
    h = ops.layer_norm(ops.gelu(h), params["scale"], params["shift"])
    logits = ops.linear(h, params["w2"])
    losses = ops.softmax_cross_entropy(logits, labels, label_smoothing=0.1)
    return losses.mean() + 1e-2 * ops.l2_penalty(params), logits


@pytest.mark.slow
def test_a_training_loss(rng, x64):
    shapes = {"w1": (6, 5), "b1": (5,), "scale": (5,), "shift": (5,), "w2": (5, 3)}
    params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
    x, labels = jnp.asarray(rng.standard_normal((8, 6))), jnp.asarray(rng.integers(3, size=8))
    arguments = params, x, labels, jax.random.key(0)
    plain = autodiff(training_loss)
    explicit, forgotten = (
        jax.jit(jax.value_and_grad(f, has_aux=True))(*arguments) for f in (training_loss, plain)
    )
    assert_trees_close(explicit, forgotten, 64, terms=3.0)
    assert "custom_vjp_call" in primitives_in(training_loss, *arguments)
    assert "custom_vjp_call" not in primitives_in(plain, *arguments)
    # A direction of it, by central differences.
    direction = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)

    @jax.jit
    def moved(t):
        there = jax.tree.map(lambda p, d: p + t * d, params, direction)
        return training_loss(there, *arguments[1:])[0]

    slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
    products = jax.tree.map(jnp.vdot, explicit[1], direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-7)


@pytest.mark.slow
def test_flax_model(rng):
    linen = pytest.importorskip("flax.linen")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(wrong_cube(linen.Dense(4)(x)))

    class TrueModel(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(cube(linen.Dense(4)(x)))

    x = jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)
    params = Model().init(jax.random.key(0), x)

    def grad(model):
        return jax.jit(jax.grad(lambda p: (model(p) ** 2).sum()))(params)

    got = grad(autodiff(lambda p: Model().apply(p, x)))
    expected = grad(lambda p: TrueModel().apply(p, x))
    assert_trees_close(got, expected, 60, terms=10.0)
    misled = grad(lambda p: Model().apply(p, x))["params"]
    inner = "Dense_1"  # Flax counts in the order of construction.
    assert not np.allclose(misled[inner]["bias"], expected["params"][inner]["bias"], rtol=1e-2)


@pytest.mark.slow
def test_equinox_model(rng):
    equinox = pytest.importorskip("equinox")

    class Model(equinox.Module):
        linear: equinox.nn.Linear
        activation: object = equinox.field(static=True)

        def __call__(self, x):
            return self.activation(self.linear(x))

    def loss(model, xs):
        return (jax.vmap(model)(xs) ** 2).sum()

    def grad(loss, activation):
        model = Model(equinox.nn.Linear(5, 2, key=jax.random.key(0)), activation)
        return equinox.filter_grad(loss)(model, xs).linear

    xs = jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)
    expected = grad(loss, cube)
    assert_trees_close(grad(autodiff(loss), wrong_cube), expected, 30, terms=10.0)
    assert not np.allclose(grad(loss, wrong_cube).weight, expected.weight, rtol=1e-2)
    gelu = grad(loss, ops.gelu)
    assert_trees_close(grad(autodiff(loss), ops.gelu), gelu, 30, terms=10.0)


@pytest.mark.slow
def test_an_nnx_module_whose_state_a_call_updates(rng):
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.standard_normal((6, 3)), jnp.float32)

    def loss(model, x):
        return (wrong_cube(model(x)) * x).sum()

    def true_loss(model, x):
        return (cube(model(x)) * x).sum()

    got = jax.grad(autodiff(loss), 1)(model, x)
    # A state may be updated only where its module was made.
    leaves, structure = jax.tree.flatten(model)
    expected = jax.grad(lambda x: true_loss(jax.tree.unflatten(structure, leaves), x))(x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    of_a_module = jax.grad(lambda x: (autodiff(model)(x) ** 3 * x).sum())(x)
    np.testing.assert_allclose(of_a_module, expected, rtol=1e-4, atol=1e-5)
    # The caller's keeps its own, as with jax.jit.
    np.testing.assert_array_equal(model.mean[...], np.zeros(3))
