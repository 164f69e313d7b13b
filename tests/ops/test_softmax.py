import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from tests.support import (
    JAX,
    Reference,
    assert_close,
    assert_trees_close,
    check_op,
    entries,
    gradient,
    name_of,
    residual_bytes,
)

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


def softmax(library, x, axis=-1):
    exponentials = library.np.exp(x)
    return exponentials / exponentials.sum(axis, keepdims=True)


def log_softmax(library, x, axis=-1):
    return x - library.np.log(library.np.exp(x).sum(axis, keepdims=True))


# Both rules read their output, rounded: softmax's error is y |dy| times it at most, that of
# log_softmax p |log p| |sum dy|.
REFERENCES = {
    "softmax": Reference(softmax, saved=2.0),
    "softmax (axis 0)": Reference(lambda m, x: softmax(m, x, 0), saved=2.0),
    "log_softmax": Reference(log_softmax, terms=8.0, saved=2.0),
    "log_softmax (axis 0)": Reference(lambda m, x: log_softmax(m, x, 0), terms=8.0, saved=2.0),
}


@pytest.mark.parametrize("entry", entries("softmax", "log_softmax"), ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


@BOTH
@pytest.mark.parametrize("axis", [-3, -2, 0, 1, 2])
def test_every_axis(name, axis, rng, x64):
    x, dy = jnp.asarray(rng.standard_normal((2, 3, 4, 5)))
    got = gradient(lambda x: getattr(ops, name)(x, axis=axis), (x,), dy)
    formula = REFERENCES[name].formula
    expected = gradient(lambda x: formula(JAX, x, axis), (x,), dy)
    assert_trees_close(got, expected, 5, terms=5.0)


@BOTH
def test_large_logits(name, dtype):
    x, dy = jnp.asarray([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4]], dtype), jnp.ones((2, 3), dtype)
    y, (dx,) = gradient(getattr(ops, name), (x,), dy.at[:, 1].set(3.0))
    p = np.array([[0.5, 0.0, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    if name == "softmax":
        assert_close(y, p, dtype, 3)
        assert_close(dx, [[0, 0, 0], [-2 / 9, 4 / 9, -2 / 9]], dtype, 3, rounded=3.0)
    else:
        far = float(jnp.asarray(-2e4 - np.log(2), dtype))
        assert_close(y, [[-np.log(2), far, -np.log(2)], [-np.log(3)] * 3], dtype, 3)
        # The rule reads p from log p, rounded: p errs by p |log p| times it, 5 of them summed.
        assert_close(dx, np.array([[1.0, 3.0, 1.0]] * 2) - 5 * p, dtype, 3, rounded=5.0)


@BOTH
def test_minus_infinity_is_probability_0(name, dtype):
    x = jnp.asarray([[0.3, -jnp.inf, -0.4]], dtype)
    function = getattr(ops, name)
    y, (dx,) = gradient(function, (x,), jnp.asarray([[0.5, 2.0, -1.0]], dtype))
    y_without, _ = gradient(function, (x[:, ::2],), jnp.asarray([[0.5, -1.0]], dtype))
    assert_close(y[:, ::2], np.asarray(y_without), dtype)
    assert y[0, 1] == (0.0 if name == "softmax" else -jnp.inf)
    # dx = y (dy - ...) = 0 there for softmax, dy - p ... = dy for its logarithm.
    assert dx[0, 1] == (0.0 if name == "softmax" else 2.0)
    assert jnp.isfinite(dx).all()


@BOTH
def test_rows_that_have_no_softmax(name):
    function = getattr(ops, name)
    assert jnp.isnan(function(jnp.full(3, -jnp.inf))).all()
    assert jnp.isnan(function(jnp.array([0.0, jnp.nan, 1.0]))).all()


@BOTH
@pytest.mark.parametrize("axis", [0, 1])
def test_one_class(name, axis, dtype, rng):
    shape = (1, 4) if axis == 0 else (4, 1)
    x, dy = (jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    y, (dx,) = gradient(lambda x: getattr(ops, name)(x, axis=axis), (x,), dy)
    assert (y == (1.0 if name == "softmax" else 0.0)).all()
    assert (dx == 0.0).all()


@BOTH
@pytest.mark.parametrize("ties", [[1.0, 1.0, 1.0], [2.0, -1.0, 2.0]])
def test_ties_share_the_gradient(name, ties, x64):
    """Not split as the derivative of a maximum would be, in the second derivative either."""
    x, formula = jnp.asarray(ties), REFERENCES[name].formula
    weights = jnp.array([0.3, -1.0, 2.0])
    for derivative in (jax.grad, jax.hessian):
        got = derivative(lambda x: jnp.vdot(weights, getattr(ops, name)(x)))(x)
        expected = derivative(lambda x: jnp.vdot(weights, formula(JAX, x)))(x)
        assert_close(got, expected, jnp.float64, 3, terms=3.0)


@BOTH
def test_a_shift_changes_nothing(name):
    x = jnp.array([1.0, 2.0, 4.0])
    function = getattr(ops, name)
    np.testing.assert_array_equal(function(x + 1024.0), function(x))


def test_rows_sum_to_1(dtype, rng):
    x = jnp.asarray(rng.normal(0.0, 5.0, (50, 40)), dtype)
    sums = np.asarray(ops.softmax(x)).astype(np.float64).sum(-1)
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=40 * float(jnp.finfo(dtype).eps))


@BOTH
def test_residual_is_the_output(name, dtype, rng):
    x = jnp.asarray(rng.standard_normal((6, 10)), dtype)
    y, pull_back = jax.vjp(getattr(ops, name), x)
    (residual,) = jax.tree.leaves(pull_back)
    np.testing.assert_array_equal(residual, y)
    assert residual_bytes(getattr(ops, name), x) == x.nbytes


@BOTH
@pytest.mark.parametrize("axis", [-3, 2, 5])
def test_axis_that_x_has_not(name, axis):
    with pytest.raises(ValueError, match=rf"{name}: axis must be one of x's 2; got {axis} for"):
        getattr(ops, name)(jnp.ones((2, 3)), axis=axis)


@BOTH
def test_nothing_to_normalise(name):
    with pytest.raises(ValueError, match=rf"{name}: axis must be one of x's 0; got -1"):
        getattr(ops, name)(jnp.float32(1.0))
    with pytest.raises(ValueError, match=rf"{name}: x must not be empty along axis 1; got \[2, 0"):
        getattr(ops, name)(jnp.ones((2, 0, 3)), axis=1)
