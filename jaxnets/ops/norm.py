"""Batch, layer and RMS normalisation.

Symbols: x, y and dy [..., C]; scale (gamma) and bias (beta) [C]; the statistics are taken over a
set of N entries: all axes but the last for batch norm (one set a feature), the last axis for layer
and RMS norm (one set a row). mu and v are a set's mean and variance, rstd = 1 / sqrt(v + eps),
x_hat = (x - mu) rstd, and <.> is the mean over the set.

Half precision computes in float32. The variance is the mean of squared differences: <x^2> - <x>^2
cancels, and for a large mean turns negative. The mean is rounded, too, by more than the standard
deviation where the set is constant or nearly so. Hence x_0, the first entry of a set, is taken off
first: with c = <x - x_0>, mu = x_0 + c, and x - mu is computed as (x - x_0) - c. All of it is 0 for
a constant set, which gives the bias. x_0 is within sqrt(N) standard deviations of mu, so that an
outlier in its place costs x_hat no more than rounding costs the outlier's own.

The squares of entries beyond 1e19 overflow in float32. A set whose variance (or mean square)
overflows gives NaN. To divide each set by its largest entry first would take a pass over x more.

A backward keeps x and the statistics, and computes x_hat again, which costs less than an array that
it would have to write and read. In one program XLA would find that the forward has computed it
already, and keep it after all: a barrier hides that where it would, and on a CPU a layer norm of
[4096, 1024] takes a third of the memory.

Long: each op stands here whole, with its docstring, derivation and rules.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import (
    before_last,
    floating,
    positive,
    sharding_of,
    varying_together,
    widened,
)


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
        are differentiable. A constant feature gives its bias, one whose variance overflows NaN. The
        statistics of an empty batch are 0.

    Raises:
        TypeError: an argument is not floating, or eps is not a number or is traced.
        ValueError: the shapes do not fit, or eps is not positive.

    Under `jax.shard_map` the statistics are those of the shard; under `jax.jit` with the batch
    sharded, those of the whole batch.

    Source: Ioffe and Szegedy, Batch normalization (2015), algorithm 1 and the equations that
    follow it in section 3.
    """
    eps = positive("batch_norm: eps", eps)
    return _batch_norm(*_checked("batch_norm", x, scale=scale, bias=bias), eps)


def layer_norm(x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, eps: float = 1e-5) -> jax.Array:
    """Layer normalisation, y = scale x_hat + bias with the statistics of each row.

    Args:
        x: [..., C], floating; normalised over the last axis.
        scale: [C], floating.
        bias: [C], floating.
        eps: positive; added to the variance.

    Returns:
        [..., C], x's dtype. A constant row gives bias; one whose variance overflows gives NaN, in
        float32 where an entry is some 1e19 from the mean.

    Raises:
        TypeError: an argument is not floating, or eps is not a number or is traced.
        ValueError: the shapes do not fit, or eps is not positive.

    Source: Ba, Kiros and Hinton, Layer normalization (2016), equation 3.
    """
    eps = positive("layer_norm: eps", eps)
    return _layer_norm(*_checked("layer_norm", x, scale=scale, bias=bias), eps)


def rms_norm(x: ArrayLike, scale: ArrayLike, *, eps: float = 1e-5) -> jax.Array:
    """Root mean square normalisation, y = scale x / sqrt(<x^2> + eps).

    Args:
        x: [..., C], floating; normalised over the last axis.
        scale: [C], floating.
        eps: positive; added to the mean square.

    Returns:
        [..., C], x's dtype. A row of zeros gives zeros; one whose mean square overflows gives NaN,
        in float32 where an entry is beyond some 1e19.

    Raises:
        TypeError: an argument is not floating, or eps is not a number or is traced.
        ValueError: the shapes do not fit, or eps is not positive.

    Source: Zhang and Sennrich, Root mean square layer normalization (2019), equation 4, with eps
    inside the root.
    """
    eps = positive("rms_norm: eps", eps)
    return _rms_norm(*_checked("rms_norm", x, scale=scale), eps)


def _checked(op, x, **parameters):
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


def _mean(x, axes):
    """Return the mean over `axes`, kept; 0 for an empty set."""
    count = max(math.prod(x.shape[axis] for axis in axes), 1)
    return jnp.sum(x, axes, keepdims=True) / count


def _first(x, axes):
    """Return each set's first entry, as `_mean` returns the mean; 0 for an empty set."""
    if any(x.shape[axis] == 0 for axis in axes):
        return jnp.sum(x, axes, keepdims=True)
    placed = sharding_of(x)
    if placed is None:
        first = x[tuple(slice(1 if axis in axes else None) for axis in range(x.ndim))]
    else:
        # JAX slices no axis that is sharded in the type, but gathers along it.
        zeros = jnp.zeros([1] * len(axes), int)
        index = tuple(zeros if axis in axes else slice(None) for axis in range(x.ndim))
        spec = [None if axis in axes else name for axis, name in enumerate(placed.spec)]
        whole = jax.sharding.NamedSharding(placed.mesh, jax.sharding.PartitionSpec(*spec))
        first = x.at[index].get(mode="promise_in_bounds", out_sharding=whole)
    # Constant as far as derivatives go: x - mu does not depend on it.
    return jax.lax.stop_gradient(first)


def _statistics(x, axes):
    """Return x - mu, x_0, c and the variance over `axes`, kept."""
    first = _first(x, axes)
    shifted = x - first
    mean_shifted = _mean(shifted, axes)
    centred = shifted - mean_shifted
    return centred, first, mean_shifted, _mean(jnp.square(centred), axes)


def _rstd(variance, eps):
    """Return 1 / sqrt(variance + eps); NaN where the variance has overflowed, and not 0."""
    return jax.lax.rsqrt(jnp.where(jnp.isinf(variance), jnp.nan, variance) + eps)


# --- batch norm: the set is a column, in which scale is constant ---------------------------------
#
# <g> = scale dbias / N and <g x_hat> = scale dscale / N: the sums that the parameters need anyway.
# The statistics are outputs too: dx_j gains dmean / N + 2 (x_j - mu) dv / N. With the slope
# a = scale rstd, and ordered by what varies along the set,
#
#   dx_j = a dy_j + (2 dv - a rstd dscale) / N (x_j - mu) + (dmean - a dbias) / N
#   dscale = rstd sum dy (x - mu)


def _plain_batch_norm(x, scale, bias, eps):
    return _batch_norm_and_shift(x, scale, bias, eps)[0]


def _batch_norm_and_shift(x, scale, bias, eps):
    wide_x, *parameters = widened(x, scale, bias)
    wide_scale, wide_bias = (before_last(p, x.ndim) for p in parameters)
    centred, first, mean_shifted, variance = _statistics(wide_x, tuple(range(x.ndim - 1)))
    y = centred * (_rstd(variance, eps) * wide_scale) + wide_bias
    # The statistics do not depend on scale and bias, but must be mapped where these are: vmap of a
    # custom_vjp function gives wrong gradients, in silence, if only some of its outputs are mapped.
    # Either branch of the choice is the same, so that nothing is computed.
    mapped = before_last((scale == scale) | (bias == bias), x.ndim)
    mean, variance = (
        jnp.where(mapped, m, m).reshape(scale.shape) for m in (first + mean_shifted, variance)
    )
    return (y.astype(x.dtype), mean, variance), mean_shifted


_batch_norm = jax.custom_vjp(_plain_batch_norm, nondiff_argnums=(3,))


def _batch_norm_fwd(x, scale, bias, eps):
    outputs, mean_shifted = _batch_norm_and_shift(x, scale, bias, eps)
    # c and not mu, which is rounded; of the bias its dtype is all that is needed.
    return outputs, (x, scale, bias[:0], mean_shifted, outputs[2])


def _batch_norm_bwd(eps, res, cotangents):
    x, scale, bias, mean_shifted, variance = res
    wide_x, wide_scale, dy, dmean, dvariance = widened(x, scale, *cotangents)
    count = max(math.prod(x.shape[:-1]), 1)
    rstd = _rstd(variance, eps)
    centred = wide_x - _first(wide_x, tuple(range(x.ndim - 1))) - mean_shifted
    dbias = _sum_rows(dy)
    dscale = rstd * _sum_rows(dy * centred)
    slope = wide_scale * rstd
    along_centred = (2.0 * dvariance - slope * rstd * dscale) / count
    constant = (dmean - slope * dbias) / count
    slope, along_centred, constant = (
        before_last(vector, x.ndim) for vector in (slope, along_centred, constant)
    )
    dx = slope * dy + along_centred * centred + constant
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


_batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


# --- layer norm: the set is a row, along which scale varies --------------------------------------


def _plain_layer_norm(x, scale, bias, eps):
    return _normalised_rows(x, scale, bias, *_row_statistics(x, eps))


def _row_statistics(x, eps):
    (wide_x,) = widened(x)
    _, _, mean_shifted, variance = _statistics(wide_x, (x.ndim - 1,))
    return mean_shifted, _rstd(variance, eps)


def _centred_rows(wide_x, mean_shifted):
    return wide_x - _first(wide_x, (wide_x.ndim - 1,)) - mean_shifted


def _normalised_rows(x, scale, bias, mean_shifted, rstd):
    wide_x, *parameters = widened(x, scale, bias)
    wide_scale, wide_bias = (before_last(p, x.ndim) for p in parameters)
    y = _centred_rows(wide_x, mean_shifted) * rstd * wide_scale + wide_bias
    return y.astype(x.dtype)


_layer_norm = jax.custom_vjp(_plain_layer_norm, nondiff_argnums=(3,))


def _layer_norm_fwd(x, scale, bias, eps):
    mean_shifted, rstd = _row_statistics(x, eps)
    # Otherwise XLA keeps x - mu, from where the variance needs it to here.
    again, mean_shifted = jax.lax.optimization_barrier((x, mean_shifted))
    y = _normalised_rows(again, scale, bias, mean_shifted, rstd)
    return y, (x, scale, bias, mean_shifted, rstd)


def _layer_norm_bwd(eps, res, dy):
    x, scale, bias, mean_shifted, rstd = jax.lax.optimization_barrier(res)
    wide_x, wide_scale, wide_dy = widened(x, scale, dy)
    x_hat = _centred_rows(wide_x, mean_shifted) * rstd
    g = before_last(wide_scale, x.ndim) * wide_dy
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
    rrms = _rstd(jnp.mean(jnp.square(wide_x), -1, keepdims=True), eps)
    return (wide_x * rrms * before_last(wide_scale, x.ndim)).astype(x.dtype), rrms


_rms_norm = jax.custom_vjp(_plain_rms_norm, nondiff_argnums=(2,))


def _rms_norm_fwd(x, scale, eps):
    y, rrms = _rms_norm_and_statistics(x, scale, eps)
    return y, (x, scale, rrms)


def _rms_norm_bwd(eps, res, dy):
    x, scale, rrms = jax.lax.optimization_barrier(res)
    wide_x, wide_scale, wide_dy = widened(x, scale, dy)
    x_hat = wide_x * rrms
    g = before_last(wide_scale, x.ndim) * wide_dy
    dx = rrms * (g - x_hat * jnp.mean(g * x_hat, -1, keepdims=True))
    dscale = _sum_rows(wide_dy * x_hat)
    return dx.astype(x.dtype), dscale.astype(scale.dtype)


_rms_norm.defvjp(_rms_norm_fwd, _rms_norm_bwd)
