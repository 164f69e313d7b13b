import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from tests.support import Reference, check_op, entries, gradient, residual_bytes

pytestmark = pytest.mark.slow


def one_hot_product(library, table, ids):
    rows = library.np.asarray(
        library.np.arange(table.shape[0], dtype=ids.dtype) == ids[..., None], table.dtype
    )
    return library.np.tensordot(rows, table, 1)


def test_values_and_gradients(dtype, rng):
    (entry,) = entries("embedding")
    check_op(entry, Reference(one_hot_product), dtype, rng)


def test_rows_are_those_of_the_table(dtype, rng):
    table = jnp.asarray(rng.standard_normal((5, 3)), dtype)
    ids = np.array([[4, 0], [4, 2]])
    np.testing.assert_array_equal(ops.embedding(table, ids), np.asarray(table)[ids])
    np.testing.assert_array_equal(ops.embedding(table, 3), table[3])


@pytest.mark.parametrize("outside", [-1, -5, 5, 100, 2**31 - 1, -(2**31)])
def test_an_id_outside_is_nan_and_has_no_gradient(outside, dtype):
    table, ids = jnp.ones((5, 2), dtype), jnp.array([1, outside, 1], jnp.int32)
    y, (dtable,) = gradient(ops.embedding, (table, ids), jnp.full((3, 2), 2.0, dtype))
    assert jnp.isnan(y[:, 0]).tolist() == [False, True, False]
    np.testing.assert_array_equal(dtable.sum(1), [0.0, 8.0, 0.0, 0.0, 0.0])


def test_ids_of_a_byte():
    table = jnp.arange(300.0)[:, None]
    for ids in (jnp.array([200, 255], jnp.uint8), jnp.array([100, 127], jnp.int8)):
        y, (dtable,) = gradient(ops.embedding, (table, ids), jnp.ones((2, 1)))
        np.testing.assert_array_equal(y[:, 0], ids)
        np.testing.assert_array_equal(np.flatnonzero(dtable), ids)


def test_sums_in_half_precision_keep_their_terms():
    """In bfloat16, 256 + 1 is 256."""
    table, ids = jnp.zeros((2, 1), jnp.bfloat16), jnp.zeros(1024, jnp.int32)
    _, (dtable,) = gradient(ops.embedding, (table, ids), jnp.ones((1024, 1), jnp.bfloat16))
    np.testing.assert_array_equal(dtable[:, 0], [1024.0, 0.0])


@pytest.mark.parametrize(
    ("rows", "features", "count"), [(0, 3, 0), (4, 0, 2), (1, 1, 1), (4, 2, 0)]
)
def test_small_and_empty(rows, features, count):
    table, ids = jnp.ones((rows, features)), jnp.zeros(count, jnp.int32)
    y, (dtable,) = gradient(ops.embedding, (table, ids), jnp.ones((count, features)))
    assert y.shape == (count, features)
    assert dtable.shape == table.shape
    assert dtable.sum() == count * features


def test_residual_is_the_ids(rng):
    table, ids = jnp.ones((50, 20)), jnp.asarray(rng.integers(50, size=(4, 3)), jnp.int32)
    assert residual_bytes(ops.embedding, table, ids) == ids.nbytes


def test_bad_arguments():
    ids = jnp.zeros(2, jnp.int32)
    with pytest.raises(TypeError, match=r"ids must have an integer dtype; got float32\[2\]"):
        ops.embedding(jnp.ones((3, 2)), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"embedding: table must be \[rows, features\]; got \[3\]"):
        ops.embedding(jnp.ones(3), ids)


def test_jit_of_traced_ids():
    table, ids = jnp.arange(6.0).reshape(3, 2), jnp.array([2, 0])
    np.testing.assert_array_equal(jax.jit(ops.embedding)(table, ids), table[ids])
