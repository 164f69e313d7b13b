"""Batch, layer and RMS normalisation.

Symbols: x, y and dy [..., C]; scale (gamma) and bias (beta) [C]; the statistics are taken over a
set of N entries: all axes but the last for batch norm (one set a feature), the last axis for layer
and RMS norm (one set a row). mu and v are a set's mean and variance, rstd = 1 / sqrt(v + eps),
x_hat = (x - mu) rstd, and <.> is the mean over the set.

Half precision computes in float32. The variance is the mean of squared differences: <x^2> - <x>^2
cancels, and for a large mean turns negative. A backward keeps x and the statistics, and computes
x_hat again, which is one product and one difference for an array that it need not write. In one
program XLA would find that the forward has computed it already, and keep it after all: a barrier
hides that where it would, and on a CPU a layer norm of [4096, 1024] takes a third of the memory.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops.arguments import floating, varying_together, widened


def batch_norm(
    x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, eps: float = 1e-5
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch normalisation with the statistics of this batch, y = scale x_hat + bias.

    Args:
        x: [..., C], floating; each feature is normalised over all axes but the last.
        scale: [C], floating.
        bias: [C], floating.
        eps: positive; added to the variance.

    Returns:
        y [..., C] in x's dtype; mean [C] and the biased variance [C], float32 at least. All three
        are differentiable. The statistics of an empty batch are 0.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the shapes do not fit, or eps is not positive.

    Under `jax.shard_map` the statistics are those of the shard; under `jax.jit` with the batch
    sharded, those of the whole batch.

    Source: Ioffe and Szegedy, Batch normalization (2015), algorithm 1 and the equations that
    follow it in section 3.
    """
    return _batch_norm(*_checked("batch_norm", eps, x, scale=scale, bias=bias), eps)


def layer_norm(x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, eps: float = 1e-5) -> jax.Array:
    """Layer normalisation, y = scale x_hat + bias with the statistics of each row.

    Args:
        x: [..., C], floating; normalised over the last axis.
        scale: [C], floating.
        bias: [C], floating.
        eps: positive; added to the variance.

    Returns:
        [..., C], x's dtype. A constant row gives bias.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the shapes do not fit, or eps is not positive.

    Source: Ba, Kiros and Hinton, Layer normalization (2016), equation 3.
    """
    return _layer_norm(*_checked("layer_norm", eps, x, scale=scale, bias=bias), eps)


def rms_norm(x: ArrayLike, scale: ArrayLike, *, eps: float = 1e-5) -> jax.Array:
    """Root mean square normalisation, y = scale x / sqrt(<x^2> + eps).

    Args:
        x: [..., C], floating; normalised over the last axis.
        scale: [C], floating.
        eps: positive; added to the mean square.

    Returns:
        [..., C], x's dtype. A row of zeros gives zeros.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the shapes do not fit, or eps is not positive.

    Source: Zhang and Sennrich, Root mean square layer normalization (2019), equation 4, with eps
    inside the root.
    """
    return _rms_norm(*_checked("rms_norm", eps, x, scale=scale), eps)


def _checked(op, eps, x, **parameters):
    x = floating("x", x)
    arrays = [x] + [floating(name, value) for name, value in parameters.items()]
    if x.ndim < 1 or x.shape[-1] == 0:
        raise ValueError(f"{op}: x must be [..., features]; got shape {list(x.shape)}")
    for name, array in zip(parameters, arrays[1:], strict=True):
        if array.shape != x.shape[-1:]:
            raise ValueError(
                f"{op}: {name} must have the shape of x's last axis, {list(x.shape[-1:])}; "
                f"got {list(array.shape)}"
            )
    if not eps > 0:
        raise ValueError(f"{op}: eps must be positive; got {eps}")
    return varying_together(arrays)


def _sum_rows(array):
    return jnp.sum(array, tuple(range(array.ndim - 1)))


# dmu/dx_j = 1 / N, and dv/dx_j = 2 (x_j - mu) / N, because sum_i (x_i - mu) = 0. Hence
#
#   dx_hat_i/dx_j = rstd ([i = j] - 1 / N - x_hat_i x_hat_j / N)
#
# and, with g = scale dy the cotangent of x_hat,
#
#   dx_j = sum_i g_i dx_hat_i/dx_j = rstd (g_j - <g> - x_hat_j <g x_hat>)
#   dscale = sum dy x_hat, dbias = sum dy                   over the sets that share a scale


def _statistics(x, axes, eps):
    """Return x's mean, variance and rstd over `axes`, kept; for an empty set, of zeros."""
    count = max(math.prod(x.shape[axis] for axis in axes), 1)
    mean = jnp.sum(x, axes, keepdims=True) / count
    variance = jnp.sum(jnp.square(x - mean), axes, keepdims=True) / count
    return mean, variance, jax.lax.rsqrt(variance + eps)


# --- batch norm: the set is a column, in which scale is constant ---------------------------------
#
# <g> = scale dbias / N and <g x_hat> = scale dscale / N: the sums that the parameters need anyway.
# The statistics are outputs too: dx_j gains dmean / N + 2 (x_j - mu) dv / N.


def _plain_batch_norm(x, scale, bias, eps):
    wide_x, wide_scale, wide_bias = widened(x, scale, bias)
    mean, variance, rstd = _statistics(wide_x, tuple(range(x.ndim - 1)), eps)
    y = (wide_x - mean) * rstd * wide_scale + wide_bias
    # The statistics do not depend on scale and bias, but must be mapped where these are: vmap of a
    # custom_vjp function gives wrong gradients, in silence, if only some of its outputs are mapped.
    # Either branch of the choice is the same, so that nothing is computed.
    mapped = (scale == scale) | (bias == bias)
    mean, variance = (jnp.where(mapped, m, m).reshape(scale.shape) for m in (mean, variance))
    return y.astype(x.dtype), mean, variance


_batch_norm = jax.custom_vjp(_plain_batch_norm, nondiff_argnums=(3,))


def _batch_norm_fwd(x, scale, bias, eps):
    y, mean, variance = _plain_batch_norm(x, scale, bias, eps)
    return (y, mean, variance), (x, scale, bias, mean, variance)


def _batch_norm_bwd(eps, res, cotangents):
    x, scale, bias, mean, variance = res
    wide_x, wide_scale, dy, dmean, dvariance = widened(x, scale, *cotangents)
    count = max(math.prod(x.shape[:-1]), 1)
    rstd = jax.lax.rsqrt(variance + eps)
    x_hat = (wide_x - mean) * rstd
    dbias = _sum_rows(dy)
    dscale = _sum_rows(dy * x_hat)
    dx = wide_scale * rstd * (dy - dbias / count - x_hat * (dscale / count))
    dx = dx + dmean / count + (2.0 / count) * dvariance * (wide_x - mean)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


_batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


# --- layer norm: the set is a row, along which scale varies --------------------------------------


def _plain_layer_norm(x, scale, bias, eps):
    return _layer_norm_and_statistics(x, scale, bias, eps)[0]


def _layer_norm_and_statistics(x, scale, bias, eps):
    wide_x, wide_scale, wide_bias = widened(x, scale, bias)
    mean, _, rstd = _statistics(wide_x, (x.ndim - 1,), eps)
    y = (wide_x - mean) * rstd * wide_scale + wide_bias
    return y.astype(x.dtype), mean, rstd


_layer_norm = jax.custom_vjp(_plain_layer_norm, nondiff_argnums=(3,))


def _layer_norm_fwd(x, scale, bias, eps):
    y, mean, rstd = _layer_norm_and_statistics(x, scale, bias, eps)
    return y, (x, scale, bias, mean, rstd)


def _layer_norm_bwd(eps, res, dy):
    x, scale, bias, mean, rstd = jax.lax.optimization_barrier(res)
    wide_x, wide_scale, wide_dy = widened(x, scale, dy)
    x_hat = (wide_x - mean) * rstd
    g = wide_scale * wide_dy
    mean_g = jnp.mean(g, -1, keepdims=True)
    mean_g_x_hat = jnp.mean(g * x_hat, -1, keepdims=True)
    dx = rstd * (g - mean_g - x_hat * mean_g_x_hat)
    dscale = _sum_rows(wide_dy * x_hat)
    dbias = _sum_rows(wide_dy)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


_layer_norm.defvjp(_layer_norm_fwd, _layer_norm_bwd)


# --- RMS norm: no mean is taken away, so its term drops out --------------------------------------
#
# x_hat = x rrms with rrms = 1 / sqrt(<x^2> + eps), and dx_j = rrms (g_j - x_hat_j <g x_hat>).


def _plain_rms_norm(x, scale, eps):
    return _rms_norm_and_statistics(x, scale, eps)[0]


def _rms_norm_and_statistics(x, scale, eps):
    wide_x, wide_scale = widened(x, scale)
    rrms = jax.lax.rsqrt(jnp.mean(jnp.square(wide_x), -1, keepdims=True) + eps)
    return (wide_x * rrms * wide_scale).astype(x.dtype), rrms


_rms_norm = jax.custom_vjp(_plain_rms_norm, nondiff_argnums=(2,))


def _rms_norm_fwd(x, scale, eps):
    y, rrms = _rms_norm_and_statistics(x, scale, eps)
    return y, (x, scale, rrms)


def _rms_norm_bwd(eps, res, dy):
    x, scale, rrms = jax.lax.optimization_barrier(res)
    wide_x, wide_scale, wide_dy = widened(x, scale, dy)
    x_hat = wide_x * rrms
    g = wide_scale * wide_dy
    dx = rrms * (g - x_hat * jnp.mean(g * x_hat, -1, keepdims=True))
    dscale = _sum_rows(wide_dy * x_hat)
    return dx.astype(x.dtype), dscale.astype(scale.dtype)


_rms_norm.defvjp(_rms_norm_fwd, _rms_norm_bwd)
