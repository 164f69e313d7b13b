import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from tests.support import (
    NUMPY,
    Reference,
    assert_close,
    check_op,
    entries,
    gradient,
    residual_bytes,
)

pytestmark = pytest.mark.slow


def rotation(library, x, positions, base=10000.0):
    """A matrix [[cos, -sin], [sin, cos]] for each pair."""
    half = x.shape[-1] // 2
    thetas = np.exp(-np.log(base) * np.arange(half) / half)
    angles = library.np.asarray(positions, x.dtype)[..., None, None] * thetas
    cosines, sines = library.np.cos(angles), library.np.sin(angles)
    matrices = library.np.stack([cosines, -sines, sines, cosines], -1)
    matrices = matrices.reshape(*matrices.shape[:-1], 2, 2)
    pairs = library.np.stack([x[..., :half], x[..., half:]], -1)
    turned = (matrices * pairs[..., None, :]).sum(-1)
    return library.np.concatenate([turned[..., 0], turned[..., 1]], -1)


def test_values_and_gradients(dtype, rng):
    # Angles up to 20 are rounded to the dtype of the sums: some 20 roundings of terms.
    (entry,) = entries("rotary")
    check_op(entry, Reference(rotation, terms=20.0), dtype, rng)


def test_base(x64, rng):
    x, positions = rng.standard_normal((5, 2, 8)), np.arange(5)
    expected = rotation(NUMPY, x, positions, 50.0)
    assert_close(ops.rotary(x, positions, base=50.0), expected, jnp.float64, 8, terms=5.0)


def test_position_0_changes_nothing(dtype, rng):
    x = jnp.asarray(rng.standard_normal((3, 2, 4)), dtype)
    np.testing.assert_array_equal(ops.rotary(x, np.zeros(3, int)), x)


def test_products_depend_on_the_distance_alone(x64, rng):
    q, k = rng.standard_normal((2, 1, 1, 8))

    def product(i, j):
        turned = ops.rotary(q, np.array([i])), ops.rotary(k, np.array([j]))
        return float(jnp.vdot(*turned))

    assert abs(product(9, 4) - product(105, 100)) < 1e-11
    assert abs(product(9, 4) - product(4, 9)) > 1e-3


def test_backward_turns_back(x64, rng):
    """Negative positions, too; lengths stay."""
    x, positions = jnp.asarray(rng.standard_normal((4, 2, 6))), jnp.array([-3, 0, 1, 70])
    y = ops.rotary(x, positions)
    _, (back,) = gradient(ops.rotary, (x, positions), y)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-14)
    np.testing.assert_allclose(jnp.linalg.norm(y), jnp.linalg.norm(x), rtol=1e-14)


def test_residuals_are_a_cosine_and_a_sine_a_pair():
    """Which all heads share."""
    positions = jnp.zeros((2, 5), jnp.int32)
    assert residual_bytes(ops.rotary, jnp.ones((2, 5, 3, 8)), positions) == 2 * 5 * 8 * 4


def test_empty_and_single():
    assert ops.rotary(jnp.ones((0, 2, 4)), jnp.zeros(0, int)).shape == (0, 2, 4)
    assert ops.rotary(jnp.ones((1, 0, 2)), jnp.zeros(1, int)).shape == (1, 0, 2)


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 3), (4, 2, 0)])
def test_shapes_that_have_no_pairs(shape):
    with pytest.raises(
        ValueError, match=r"rotary: x must be \[\.\.\., length, heads, an even head"
    ):
        ops.rotary(jnp.ones(shape), jnp.zeros(4, int))


def test_bad_arguments():
    x, positions = jnp.ones((5, 2, 4)), jnp.arange(5)
    with pytest.raises(ValueError, match=r"rotary: positions must be \[5\], as x .*; got \[4\]"):
        ops.rotary(x, jnp.arange(4))
    with pytest.raises(TypeError, match=r"positions must have an integer dtype; got float32\[5\]"):
        ops.rotary(x, jnp.ones(5))
    with pytest.raises(ValueError, match="rotary: base must be positive; got -1"):
        ops.rotary(x, positions, base=-1)
