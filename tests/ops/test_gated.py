import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from tests.support import (
    Reference,
    assert_close,
    check_op,
    entries,
    gradient,
    name_of,
    residual_bytes,
)

pytestmark = pytest.mark.slow


def swiglu(library, x, gate):
    return x * gate / (1.0 + library.np.exp(-gate))


def geglu(library, x, gate):
    return x * gate * 0.5 * library.special.erfc(-gate / np.sqrt(2.0))


REFERENCES = {"swiglu": Reference(swiglu, terms=4.0), "geglu": Reference(geglu, terms=4.0)}
GATED = entries("swiglu", "geglu")


@pytest.mark.parametrize("entry", GATED, ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


@pytest.mark.parametrize(("op", "activation"), [("swiglu", "silu"), ("geglu", "gelu")])
def test_they_are_the_activation_of_the_gate_times_x(op, activation, dtype, rng):
    x, gate, dy = (jnp.asarray(rng.standard_normal((4, 7)), dtype) for _ in range(3))
    y, gradients = gradient(getattr(ops, op), (x, gate), dy)
    h = getattr(ops, activation)
    expected, expected_gradients = gradient(lambda x, gate: x * h(gate), (x, gate), dy)
    # The activation alone is rounded once more.
    for got, wanted in zip((y, *gradients), (expected, *expected_gradients), strict=True):
        assert_close(got, np.asarray(wanted, np.float64), dtype, 1, terms=4.0, rounded=4.0)


@pytest.mark.parametrize("entry", GATED, ids=name_of)
def test_a_gate_far_from_zero(entry, dtype):
    """0 or x; slopes of 0, and 0 or 1; nothing is infinity times 0."""
    gate = jnp.asarray([-jnp.inf, -1e4, 1e4], dtype)
    x = jnp.full(3, 2.0, dtype)
    y, (dx, dgate) = gradient(entry.function, (x, gate), jnp.ones(3, dtype))
    np.testing.assert_array_equal(y, jnp.asarray([0.0, 0.0, 2e4], dtype))
    np.testing.assert_array_equal(dx, jnp.asarray([0.0, 0.0, 1e4], dtype))
    np.testing.assert_array_equal(dgate, jnp.asarray([0.0, 0.0, 2.0], dtype))


@pytest.mark.parametrize("entry", GATED, ids=name_of)
def test_nan_stays_nan(entry, dtype):
    one, nan = jnp.ones(1, dtype), jnp.full(1, jnp.nan, dtype)
    assert jnp.isnan(entry.function(one, nan)).all()
    assert jnp.isnan(entry.function(nan, one)).all()


@pytest.mark.parametrize("entry", GATED, ids=name_of)
def test_residuals_are_the_inputs(entry, dtype):
    x = jnp.ones((4, 5), dtype)
    assert residual_bytes(entry.function, x, x + 1) == 2 * x.nbytes


@pytest.mark.parametrize("entry", GATED, ids=name_of)
def test_arguments_of_no_use(entry):
    with pytest.raises(ValueError, match=rf"{entry.op}: gate must have .*\[2, 3\]; got \[3\]"):
        entry.function(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(TypeError, match="gate must have a floating dtype"):
        entry.function(jnp.ones(3), jnp.ones(3, jnp.int32))
