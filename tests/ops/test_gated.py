import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from tests.support import Reference, check_op, entries, gradient, name_of, residual_bytes

pytestmark = pytest.mark.slow


def swiglu(library, x, gate):
    return x * gate * library.special.expit(gate)


def geglu(library, x, gate):
    return x * gate * library.special.ndtr(gate)


REFERENCES = {"swiglu": Reference(swiglu, terms=4.0), "geglu": Reference(geglu, terms=4.0)}
BOTH = pytest.mark.parametrize("name", ["swiglu", "geglu"])


@pytest.mark.parametrize("entry", entries("swiglu", "geglu"), ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.op], dtype, rng)


@BOTH
def test_gates_that_are_wide_open_or_closed(name, dtype):
    gate = jnp.asarray([-jnp.inf, -1e4, 1e4, jnp.inf], dtype)
    x, dy = jnp.full(4, 2.0, dtype), jnp.full(4, 3.0, dtype)
    y, (dx, dgate) = gradient(getattr(ops, name), (x, gate), dy)
    open_gate = np.asarray(gate)[2]
    np.testing.assert_array_equal(np.asarray(y), np.asarray([0, 0, 2 * open_gate, np.inf], dtype))
    np.testing.assert_array_equal(np.asarray(dx), np.asarray([0, 0, 3 * open_gate, np.inf], dtype))
    np.testing.assert_array_equal(np.asarray(dgate), np.asarray([0, 0, 6, 6], dtype))


@BOTH
def test_nan_stays_in_its_entry(name, dtype):
    x, gate = jnp.asarray([jnp.nan, 1.0, 1.0], dtype), jnp.asarray([1.0, jnp.nan, 1.0], dtype)
    y, gradients = gradient(getattr(ops, name), (x, gate), jnp.ones(3, dtype))
    assert jnp.isnan(y).tolist() == [True, True, False]
    assert jnp.isnan(gradients[0]).tolist() == [False, True, False]
    assert jnp.isnan(gradients[1]).tolist() == [True, True, False]


@BOTH
def test_residuals_are_the_arguments(name, dtype, rng):
    x = jnp.asarray(rng.standard_normal((6, 10)), dtype)
    assert residual_bytes(getattr(ops, name), x, 2 * x) == 2 * x.nbytes


@BOTH
def test_dtypes_promote_and_each_gradient_has_its_own(name):
    x, gate = jnp.ones(3, jnp.bfloat16), jnp.ones(3, jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        y, (dx, dgate) = gradient(getattr(ops, name), (x, gate), jnp.ones(3))
    assert (y.dtype, dx.dtype, dgate.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)


@BOTH
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=rf"{name}: gate must have x's shape, \[2, 3\]; got \[3\]"):
        getattr(ops, name)(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(TypeError, match="gate must have a floating dtype"):
        getattr(ops, name)(jnp.ones(3), jnp.ones(3, int))
