import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from tests.support import Reference, check_op, entries, gradient, name_of, residual_bytes

pytestmark = pytest.mark.slow


def squared_error(library, predictions, targets):
    return library.np.mean((predictions - targets) ** 2, axis=-1)


def huber(library, predictions, targets, delta):
    size = library.np.abs(predictions - targets)
    near, far = 0.5 * size**2, delta * (size - 0.5 * delta)
    return library.np.mean(library.np.where(size > delta, far, near), axis=-1)


REFERENCES = {
    "squared_error": Reference(squared_error, terms=4.0, saved=1.0),
    "huber": Reference(huber, terms=4.0, saved=1.0),
}
LOSSES = entries("squared_error", "huber")


@pytest.mark.parametrize("entry", LOSSES, ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


def test_squared_error_is_a_mean_over_outputs_for_each_example():
    loss = ops.squared_error([[1.0, 2.0], [0.0, -3.0]], [[0.0, 2.0], [0.0, 1.0]])
    assert loss.tolist() == [0.5, 8.0]
    # The sum of both squares, 125000, is above the largest float16, their mean is not.
    assert ops.squared_error(jnp.full(2, 250, "float16"), jnp.zeros(2, "float16")) == 62496.0


@pytest.mark.parametrize("op", ["squared_error", "huber"])
def test_two_arrays_of_one_shape_are_needed(op):
    function = getattr(ops, op)
    with pytest.raises(ValueError, match=r"targets must have the shape .*\[2, 1\]; got \[2\]"):
        function(jnp.ones((2, 1)), jnp.ones(2))
    for empty in (jnp.ones((2, 0)), jnp.float32(1.0)):
        with pytest.raises(ValueError, match=rf"{op}: predictions must be \[..., outputs\]"):
            function(empty, empty)
    with pytest.raises(TypeError, match="targets must have a floating dtype"):
        function(jnp.ones(2), jnp.ones(2, jnp.int32))


def test_huber_by_hand():
    """0.5^2 / 2, and 2 (3 - 2 / 2), halved; where the size is delta, square and line agree."""
    loss, (dp, dt, ddelta) = gradient(
        ops.huber, (jnp.float32([0.5, -3.0]), jnp.zeros(2), jnp.float32(2.0)), jnp.float32(1.0)
    )
    assert loss == (0.125 + 4.0) / 2
    np.testing.assert_array_equal(dp, [0.25, -1.0])
    np.testing.assert_array_equal(dt, [-0.25, 1.0])
    assert ddelta == 0.5
    assert ops.huber(jnp.float32([2.0]), jnp.zeros(1), 2.0) == 2.0


@pytest.mark.parametrize("far", [1e30, jnp.inf])
def test_huber_far_away(far, dtype):
    """The square of 1e30 is infinite in single precision, and so is its slope."""
    difference = jnp.asarray([far, -far], dtype)
    loss, (dp, _) = gradient(ops.huber, (difference, jnp.zeros(2, dtype)), jnp.ones((), dtype))
    assert loss == jnp.asarray(far, dtype)
    np.testing.assert_array_equal(dp, jnp.asarray([0.5, -0.5], dtype))


def test_nan_stays_nan(dtype):
    x = jnp.asarray([jnp.nan, 1.0], dtype)
    loss, (dp, _) = gradient(ops.huber, (x, jnp.zeros(2, dtype)), jnp.ones((), dtype))
    assert jnp.isnan(loss)
    assert jnp.isnan(dp[0])
    assert dp[1] == 0.5


@pytest.mark.parametrize("delta", [0.0, -1.0, jnp.nan])
def test_a_delta_that_is_not_positive(delta):
    x = jnp.ones(2)
    with pytest.raises(ValueError, match=f"huber: delta must be positive; got {delta}"):
        ops.huber(x, x, delta)
    assert jnp.isnan(jax.jit(ops.huber)(x, x, delta))
    with pytest.raises(ValueError, match=r"huber: delta must be a scalar; got shape \[1\]"):
        jax.jit(ops.huber)(x, x, jnp.ones(1))


def test_residuals(dtype, rng):
    x, y = (jnp.asarray(rng.standard_normal((16, 10)), dtype) for _ in range(2))
    assert residual_bytes(ops.squared_error, x, y) == x.nbytes
    assert residual_bytes(ops.huber, x, y) <= x.nbytes + x.itemsize
