"""Dropout, whose backward draws the forward's mask again instead of keeping it."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import floating, fraction, sharding_of, varying_together, widened


def dropout(x: ArrayLike, key: jax.Array, rate: ArrayLike) -> jax.Array:
    """Inverted dropout: each entry is 0 with probability `rate`, else divided by 1 - rate.

    Args:
        x: [...], floating.
        key: a random key, `jax.random.key(seed)`; the same key drops the same entries.
        rate: scalar in [0, 1), the probability to drop; it may be traced. It is held constant: its
            gradient is 0, because the mask is a step function of it. A traced rate outside of
            [0, 1) gives NaN.

    Returns:
        [...], x's dtype, with x as its expectation.

    Raises:
        TypeError: x is not floating, or key is not a random key.
        ValueError: a concrete rate lies outside [0, 1), or is not a scalar.

    Under `jax.shard_map` equal keys drop equal entries on every shard; fold `jax.lax.axis_index`
    into the key for independent ones.

    Source: Srivastava et al., Dropout (2014), section 4, scaled at training time as in section 10.
    """
    x = floating("x", x)
    _check_key(key)
    # float32 whatever x is, so that a key drops the same entries in every dtype.
    rate = fraction("rate", rate, jnp.dtype(jnp.float32), one=False)
    x, key, rate = varying_together([x, key, jax.lax.stop_gradient(rate)])
    return _dropout(x, key, rate)


def _check_key(key):
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and key.shape == ()
    raw = dtype == jnp.uint32 and key.ndim == 1
    if not (typed or raw):
        got = type(key).__name__ if dtype is None else f"{dtype}{list(key.shape)}"
        raise TypeError(f"key must be one random key, as jax.random.key(seed) makes; got {got}")


# y_i = m_i x_i / (1 - rate) with m_i in {0, 1}, so dx_i = m_i dy_i / (1 - rate): the op itself,
# applied to the cotangent under the same key.


def _plain_dropout(x, key, rate):
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape, out_sharding=sharding_of(x))
    wide_x, wide_rate = widened(x, rate)
    # A rate of NaN drops everything, and is not to be hidden by it.
    return jnp.where(kept, wide_x / (1.0 - wide_rate), 0.0 * wide_rate).astype(x.dtype)


_dropout = jax.custom_vjp(_plain_dropout)


def _dropout_fwd(x, key, rate):
    return _plain_dropout(x, key, rate), (key, rate)


def _dropout_bwd(res, dy):
    key, rate = res
    return _plain_dropout(dy, key, rate), None, jnp.zeros_like(rate)


_dropout.defvjp(_dropout_fwd, _dropout_bwd)
