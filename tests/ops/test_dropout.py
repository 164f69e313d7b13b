import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from tests.support import assert_close, gradient, residual_bytes

pytestmark = pytest.mark.slow

KEY = jax.random.key


def test_each_entry_is_dropped_or_divided(dtype, rng):
    x, key = jnp.asarray(rng.standard_normal((40, 30)), dtype), KEY(1)
    y = ops.dropout(x, key, 0.3)
    kept = np.asarray(ops.dropout(jnp.ones((40, 30), dtype), key, 0.3) != 0)
    assert 0.65 < kept.mean() < 0.75
    # The rate is a float32 in every dtype.
    rate = float(np.float32(0.3))
    assert_close(y, np.where(kept, np.asarray(x).astype(np.float64) / (1.0 - rate), 0.0), dtype)


def test_mask_is_the_same_in_every_dtype(x64):
    single, double, half = (
        ops.dropout(jnp.ones(100, dtype), KEY(0), 0.3) != 0
        for dtype in (jnp.float32, jnp.float64, jnp.bfloat16)
    )
    np.testing.assert_array_equal(single, double)
    np.testing.assert_array_equal(single, half)


@pytest.mark.parametrize("key", [KEY(3), jax.random.PRNGKey(3)], ids=["typed", "raw"])
def test_backward_has_the_mask_of_the_forward(key, dtype, rng):
    x, dy = (jnp.asarray(rng.standard_normal((50, 20)), dtype) for _ in range(2))
    y, pull_back = jax.vjp(lambda x: ops.dropout(x, key, 0.4), x)
    np.testing.assert_array_equal(y != 0, pull_back(dy)[0] != 0)
    expected = jax.vjp(lambda x: autodiff(ops.dropout)(x, key, 0.4), x)[1](dy)[0]
    assert_close(pull_back(dy)[0], expected, dtype)
    # Linear: of ones, forward and backward are one array.
    ones = jnp.ones_like(x)
    y, pull_back = jax.vjp(lambda x: ops.dropout(x, key, 0.4), ones)
    np.testing.assert_array_equal(y, pull_back(ones)[0])


def test_backward_under_jit_has_the_mask_of_the_forward(rng):
    x = jnp.ones((50, 20))
    y, (dx,) = gradient(lambda x, key: ops.dropout(x, key, 0.4), (x, KEY(3)), x)
    np.testing.assert_array_equal(y, dx)
    np.testing.assert_array_equal(y, ops.dropout(x, KEY(3), 0.4))


def test_mask_depends_on_the_key_alone(rng):
    x = jnp.ones((30, 20))
    y = ops.dropout(x, KEY(0), 0.5)
    np.testing.assert_array_equal(y, ops.dropout(x, KEY(0), 0.5))
    np.testing.assert_array_equal(y, ops.dropout(3 * x, KEY(0), 0.5) / 3)
    assert (y != ops.dropout(x, KEY(1), 0.5)).any()
    np.testing.assert_array_equal(
        ops.dropout(x, jax.random.PRNGKey(0), 0.5), ops.dropout(x, KEY(0), 0.5)
    )


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_expectation_is_x(rate, dtype):
    count = 40_000
    y = np.asarray(ops.dropout(jnp.ones(count, dtype), KEY(5), rate)).astype(np.float64)
    # The mean of `count` entries, each 1 / (1 - rate) with probability 1 - rate, within 5 sigma
    # and the rounding of 1 / (1 - rate).
    sigma = np.sqrt(rate / (1.0 - rate) / count)
    assert abs(y.mean() - 1.0) < 5.0 * sigma + float(jnp.finfo(dtype).eps)
    assert abs((y == 0).mean() - rate) < 5.0 * np.sqrt(rate * (1.0 - rate) / count)


def test_entries_are_dropped_independently():
    dropped = np.asarray(ops.dropout(jnp.ones((200, 100)), KEY(6), 0.5) == 0)
    for axis, size in ((0, 100), (1, 200)):
        spread = dropped.mean(axis).std()
        assert 0.8 < spread / np.sqrt(0.25 / (20_000 / size)) < 1.2


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0), False])
def test_rate_0_is_the_identity_bitwise(rate, dtype, rng):
    special = [0.0, -0.0, jnp.nan, jnp.inf, -jnp.inf, 1e-37]
    x = jnp.asarray([*special, *rng.standard_normal(100)], dtype)
    y, (dx,) = gradient(lambda x: ops.dropout(x, KEY(0), rate), (x,), x)
    assert (np.asarray(y).tobytes(), np.asarray(dx).tobytes()) == (np.asarray(x).tobytes(),) * 2


def test_rate_may_be_swept(rng):
    x, rates = jnp.ones(1000), jnp.array([0.0, 0.25, 0.5, 0.99])
    sweep = jax.jit(jax.vmap(lambda rate: ops.dropout(x, KEY(2), rate)))
    for y, rate in zip(sweep(rates), rates, strict=True):
        np.testing.assert_allclose(y, ops.dropout(x, KEY(2), float(rate)), rtol=1e-6)
    kept = (sweep(rates) != 0).sum(1)
    assert (kept[1:] < kept[:-1]).all()


def test_rate_is_held_constant():
    for function in (ops.dropout, autodiff(ops.dropout)):
        arguments = jnp.ones(50), KEY(0), jnp.float32(0.3)
        _, (dx, drate) = gradient(function, arguments, jnp.ones(50))
        assert dx.any()
        assert drate == 0.0


def test_saves_nothing_of_the_size_of_x(dtype):
    x = jnp.ones((100, 100), dtype)
    for key in (KEY(0), jax.random.PRNGKey(0)):
        assert residual_bytes(ops.dropout, x, key, 0.5) <= 64


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1, 1.5, float("nan"), float("inf"), True])
def test_rate_out_of_range(rate):
    for value in (rate, np.float32(rate), jnp.float32(rate)):
        with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\); got"):
            ops.dropout(jnp.ones(3), KEY(0), value)


def test_rate_must_be_a_scalar():
    with pytest.raises(ValueError, match=r"rate must be a scalar; got shape \[3\]"):
        ops.dropout(jnp.ones(3), KEY(0), jnp.zeros(3))


@pytest.mark.parametrize(
    ("key", "got"),
    [
        (0, "int"),
        (None, "NoneType"),
        (np.zeros(2, np.int32), r"int32\[2\]"),
        (np.zeros((3, 2), np.uint32), r"uint32\[3, 2\]"),
        (jax.random.split(KEY(0), 3), r"key<fry>\[3\]"),
    ],
)
def test_key_that_is_none(key, got):
    with pytest.raises(TypeError, match=rf"key must be one random key.*got {got}"):
        ops.dropout(jnp.ones(3), key, 0.5)
