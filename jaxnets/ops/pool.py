"""Pooling of images: the maximum or the mean over windows.

Symbols: x [N, rows, columns, C], y and dy [N, rows, columns, C]; u is a position of the input, i of
the output, and W_i the input positions that window i covers (see `windows`). Channels do not mix,
and half precision computes in float32. A mean is a sum, divided: where the sum of finite numbers
overflows, at about 3e38 in float32, it is infinite.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnets.ops._arguments import floating, sharding_of, widened
from jaxnets.ops._windows import (
    Padding,
    Window,
    into_inputs,
    into_outputs,
    pair,
    seeing,
    seen,
    taps,
    window_on,
)


def max_pool2d(
    x: ArrayLike,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Maximum over windows, y_i = max of x_u over u in W_i.

    Args:
        x: [N, rows, columns, C], floating.
        window: the window's rows and columns; a number for both.
        stride: input positions from one window to the next, likewise; None for the window's size.
        padding: as of `conv2d`. Padding is never the maximum.

    Returns:
        [N, rows, columns, C], x's dtype. NaN stays NaN; a window of padding alone gives -inf.

    Raises:
        TypeError: x is not floating, or a number is not a whole one.
        ValueError: the shapes do not fit, or a number is out of range.

    Of several equal maxima the first takes the gradient, row by row; of several NaN likewise.

    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 9.3. Ties are
    PyTorch's.
    """
    return _max_pool2d(*_checked("max_pool2d", x, window, stride, padding))


def avg_pool2d(
    x: ArrayLike,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Mean over windows, y_i = sum of x_u over u in W_i / |W_i|.

    Args:
        x: [N, rows, columns, C], floating.
        window: the window's rows and columns; a number for both.
        stride: input positions from one window to the next, likewise; None for the window's size.
        padding: as of `conv2d`. Padding does not count, so that an image of ones stays one: |W_i|
            is the number of real positions, as in Keras; PyTorch, by default, counts zeros too.

    Returns:
        [N, rows, columns, C], x's dtype; a window of padding alone gives 0.

    Raises:
        TypeError: x is not floating, or a number is not a whole one.
        ValueError: the shapes do not fit, or a number is out of range.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section
    II.B, without its trainable coefficient.
    """
    return _avg_pool2d(*_checked("avg_pool2d", x, window, stride, padding))


def global_avg_pool(x: ArrayLike) -> jax.Array:
    """Mean over rows and columns, y = sum of x_u / (rows columns).

    Args:
        x: [N, rows, columns, C], floating.

    Returns:
        [N, C], x's dtype.

    Raises:
        TypeError: x is not floating.
        ValueError: x has other axes, or no rows or columns.

    Source: Lin, Chen and Yan, Network in network (2014), section 3.2.
    """
    x = floating("x", x)
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(
            f"global_avg_pool: x must be [N, rows, columns, C]; got shape {list(x.shape)}"
        )
    return _global_avg_pool(x, x.shape[1:3])


def _checked(op, x, window, stride, padding) -> tuple[jax.Array, Window]:
    x = floating("x", x)
    size = pair(op, "window", window)
    return x, window_on(op, x, size, size if stride is None else stride, padding)


# --- maximum -------------------------------------------------------------------------------------
#
# y_i = x_u for u = argmax_i, the first of the largest, so dy_i/dx_u = [u = argmax_i] and
#
#   dx_u = sum over i with u in W_i of dy_i [u = argmax_i]
#
# which each input position gathers: at window position a it asks the one window that sees it there
# whether a was its choice. Nothing is scattered.


def _plain_max_pool2d(x, window):
    # XLA's own, which need not know where the maximum is.
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, *window.size, 1),
        (1, *window.stride, 1),
        ((0, 0), *window.padding, (0, 0)),
    )


_max_pool2d = jax.custom_vjp(_plain_max_pool2d, nondiff_argnums=(1,))


def _max_pool2d_fwd(x, window):
    # The number of the window position that was the maximum: a byte for each output, and no x.
    maximum, argmax = _maximum_and_argmax(x, window)
    return maximum, _computed_once(argmax)


def _maximum_and_argmax(x, window):
    spans = [(0, 0, 0), *((p, q, 0) for p, q in window.padding), (0, 0, 0)]
    padded = jax.lax.pad(x, x.dtype.type(-jnp.inf), spans)
    unpadded = window._replace(inputs=padded.shape[1:3], padding=((0, 0), (0, 0)))
    first = _first_taps(window)
    maximum = argmax = None
    for number, tap in _numbered(taps(unpadded), window):
        value = seen(padded, tap)
        if maximum is None:
            maximum, argmax = value, jnp.broadcast_to(first, value.shape)
        else:
            better = (value > maximum) | ((value != value) & (maximum == maximum))
            maximum = jnp.where(better, value, maximum)
            argmax = jnp.where(better, first.dtype.type(number), argmax)
    return maximum, argmax


def _computed_once(argmax):
    """Return `argmax`. On a CPU, XLA would compute all of it again in each of its uses.

    The backward uses it once a window position, which would make its time grow ninefold for 3x3.
    XLA takes no notice of `optimization_barrier` there, but a choice that it cannot foresee is not
    fused: no number is below -1.
    """
    if argmax.size == 0 or sharding_of(argmax) is not None:
        return argmax

    def on_cpu(argmax):
        return jax.lax.cond(argmax[0, 0, 0, 0] > -2, lambda a: a, lambda a: -a, argmax)

    return jax.lax.platform_dependent(argmax, cpu=on_cpu, default=lambda a: a)


def _numbered(some_taps, window):
    """Return (number, tap) for each: the position in the window, counted row by row."""
    return [(tap.row * window.size[1] + tap.column, tap) for tap in some_taps]


def _first_taps(window):
    """Return [1, rows, columns, 1]: the first window position that sees a real input; -1 for none.

    It is the argmax of a window full of -inf, which padding must not win.
    """
    numbers = window.size[0] * window.size[1]
    first = np.full((1, *window.outputs), -1, np.min_scalar_type(-numbers))
    for number, tap in reversed(_numbered(taps(window), window)):
        seeing(first, tap)[...] = number
    return first[..., None]


def _max_pool2d_bwd(window, argmax, dy):
    (wide_dy,) = widened(dy)
    dx = sum(
        into_inputs(jnp.where(seeing(argmax, tap) == number, seeing(wide_dy, tap), 0), tap, window)
        for number, tap in _numbered(taps(window), window)
    )
    return (dx.astype(dy.dtype),)


_max_pool2d.defvjp(_max_pool2d_fwd, _max_pool2d_bwd)


# --- mean ----------------------------------------------------------------------------------------
#
# dy_i/dx_u = [u in W_i] / |W_i|, so
#
#   dx_u = sum over i with u in W_i of dy_i / |W_i|


def _plain_avg_pool2d(x, window):
    (wide,) = widened(x)
    total = sum(into_outputs(seen(wide, tap), tap, window) for tap in taps(window))
    return (total / _counts(window, wide.dtype)).astype(x.dtype)


def _counts(window, dtype):
    """Return |W_i| [1, rows, columns, 1], and 1 where it is 0."""
    counts = np.zeros((1, *window.outputs), dtype)
    for tap in taps(window):
        seeing(counts, tap)[...] += 1
    return np.maximum(counts, 1)[..., None]


_avg_pool2d = jax.custom_vjp(_plain_avg_pool2d, nondiff_argnums=(1,))


def _avg_pool2d_fwd(x, window):
    # Nothing but x's dtype, which dy has: the map is linear.
    return _plain_avg_pool2d(x, window), None


def _avg_pool2d_bwd(window, _, dy):
    (wide_dy,) = widened(dy)
    share = wide_dy / _counts(window, wide_dy.dtype)
    dx = sum(into_inputs(seeing(share, tap), tap, window) for tap in taps(window))
    return (dx.astype(dy.dtype),)


_avg_pool2d.defvjp(_avg_pool2d_fwd, _avg_pool2d_bwd)


# --- mean over the whole image -------------------------------------------------------------------
#
# One window, which covers all positions: dx_u = dy / (rows columns).


def _plain_global_avg_pool(x, size):
    (wide,) = widened(x)
    return wide.mean((1, 2)).astype(x.dtype)


_global_avg_pool = jax.custom_vjp(_plain_global_avg_pool, nondiff_argnums=(1,))


def _global_avg_pool_fwd(x, size):
    return _plain_global_avg_pool(x, size), None


def _global_avg_pool_bwd(size, _, dy):
    (wide_dy,) = widened(dy)
    share = (wide_dy / (size[0] * size[1])).astype(dy.dtype)
    return (jnp.broadcast_to(share[:, None, None], (dy.shape[0], *size, dy.shape[1])),)


_global_avg_pool.defvjp(_global_avg_pool_fwd, _global_avg_pool_bwd)
