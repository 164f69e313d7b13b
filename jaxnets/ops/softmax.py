"""Softmax and its logarithm along one axis.

Symbols: x [...], y the output, dy its cotangent, all of one shape; i, j and k run along `axis`.
Both rules keep the output alone. A row whose entries are all -inf has no softmax: it gives NaN.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import accumulation_dtype, floating, whole_number


def softmax(x: ArrayLike, *, axis: int = -1) -> jax.Array:
    """Softmax, y_i = exp(x_i) / sum_k exp(x_k) along `axis`.

    Args:
        x: [...], floating; -inf is an entry of probability 0.
        axis: the axis along which y sums to 1.

    Returns:
        [...], x's dtype, in [0, 1].

    Raises:
        TypeError: x is not floating, or axis is not a whole number.
        ValueError: x has no such axis, or has size 0 along it.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equations 4.62 and 4.106.
    """
    x = floating("x", x)
    return _softmax(x, _checked_axis("softmax", x, axis))


def log_softmax(x: ArrayLike, *, axis: int = -1) -> jax.Array:
    """Logarithm of the softmax, y_i = x_i - log sum_k exp(x_k) along `axis`, in nats.

    Args:
        x: [...], floating; -inf is an entry of probability 0.
        axis: the axis along which exp(y) sums to 1.

    Returns:
        [...], x's dtype, at most 0.

    Raises:
        TypeError: x is not floating, or axis is not a whole number.
        ValueError: x has no such axis, or has size 0 along it.

    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), equation 6.30.
    """
    x = floating("x", x)
    return _log_softmax(x, _checked_axis("log_softmax", x, axis))


def _checked_axis(op, x, axis):
    axis = whole_number(f"{op}: axis", axis)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{op}: axis must be one of x's {x.ndim}; got {axis} for {list(x.shape)}")
    if x.shape[axis] == 0:
        raise ValueError(f"{op}: x must not be empty along axis {axis}; got {list(x.shape)}")
    return axis % x.ndim


# dy_i/dx_j = y_i ([i = j] - y_j), by the quotient rule, so
#
#   dx_j = sum_i dy_i y_i ([i = j] - y_j) = y_j (dy_j - sum_i dy_i y_i)


def _exponentials(x, axis):
    # Shifted by the largest entry, which changes nothing and keeps exp from overflowing; it is
    # constant as far as derivatives go, because the sum does not depend on it.
    wide = x.astype(accumulation_dtype(x.dtype))
    shifted = wide - jax.lax.stop_gradient(jnp.max(wide, axis, keepdims=True))
    exponentials = jnp.exp(shifted)
    return shifted, exponentials, jnp.sum(exponentials, axis, keepdims=True)


def _plain_softmax(x, axis):
    _, exponentials, total = _exponentials(x, axis)
    return (exponentials / total).astype(x.dtype)


_softmax = jax.custom_vjp(_plain_softmax, nondiff_argnums=(1,))


def _softmax_fwd(x, axis):
    y = _plain_softmax(x, axis)
    return y, y


def _softmax_bwd(axis, y, dy):
    wide = accumulation_dtype(y.dtype)
    y, wide_dy = y.astype(wide), dy.astype(wide)
    dx = y * (wide_dy - jnp.sum(wide_dy * y, axis, keepdims=True))
    return (dx.astype(dy.dtype),)


_softmax.defvjp(_softmax_fwd, _softmax_bwd)


# dy_i/dx_j = [i = j] - p_j with p = exp(y), so
#
#   dx_j = sum_i dy_i ([i = j] - p_j) = dy_j - p_j sum_i dy_i


def _plain_log_softmax(x, axis):
    shifted, _, total = _exponentials(x, axis)
    return (shifted - jnp.log(total)).astype(x.dtype)


_log_softmax = jax.custom_vjp(_plain_log_softmax, nondiff_argnums=(1,))


def _log_softmax_fwd(x, axis):
    y = _plain_log_softmax(x, axis)
    return y, y


def _log_softmax_bwd(axis, y, dy):
    wide = accumulation_dtype(y.dtype)
    wide_dy = dy.astype(wide)
    dx = wide_dy - jnp.exp(y.astype(wide)) * jnp.sum(wide_dy, axis, keepdims=True)
    return (dx.astype(dy.dtype),)


_log_softmax.defvjp(_log_softmax_fwd, _log_softmax_bwd)
