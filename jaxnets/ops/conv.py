"""Convolution of images.

Symbols: x [N, rows, columns, C] and K = kernel [rows, columns, C / groups, O], b = bias [O], y and
dy [N, rows, columns, O]. Along each spatial axis n, m and k count the positions of x, y and K, and
s, d, p and q are the stride, the dilation and the padding before and after; the formulas are
written for one spatial axis, and the other one works alike. A prefix d marks the derivative of a
scalar loss L.
"""

from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from jaxnets.ops import _conv_forms
from jaxnets.ops._arguments import before_last, one_dtype, varying_together, whole_number, widened
from jaxnets.ops._windows import Padding, pair, window_on


def conv2d(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolution over rows and columns, y_nio = sum_ac x_n,(s i + d a - p),c K_aco + b_o.

    As in all libraries for neural networks the kernel is not flipped: a signal processor calls it
    cross-correlation.

    Args:
        x: [N, rows, columns, C], floating.
        kernel: [rows, columns, C / groups, O], floating.
        bias: [O], floating, or None for none.
        stride: input positions from one output to the next; a number, or (along rows, along
            columns).
        padding: how many zeros surround x: "SAME" for ceil(n / s) outputs (where the number is odd,
            one more after x than before), "VALID" for none, a number for all four sides, or
            ((top, bottom), (left, right)).
        dilation: input positions from one kernel position to the next, likewise.
        groups: into how many groups the channels are split; the outputs of a group see the inputs
            of the same group alone.

    Returns:
        [N, rows, columns, O] in the promoted dtype of the arguments, with
        (n + p + q - d (k - 1) - 1) // s + 1 positions along an axis; half precision accumulates in
        float32.

    Raises:
        TypeError: an array is not floating, or a number is not a whole one.
        ValueError: the shapes do not fit, or a number is out of range.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), chapters
    2, 4 and 5; the gradients: Goodfellow, Bengio and Courville, Deep Learning (2016), equations
    9.11 and 9.13.
    """
    # Long: two thirds are the docstring.
    if bias is None:
        x, kernel = one_dtype(x=x, kernel=kernel)
    else:
        x, kernel, bias = one_dtype(x=x, kernel=kernel, bias=bias)
    if kernel.ndim != 4:
        raise ValueError(
            f"conv2d: kernel must be [rows, columns, C / groups, O]; got shape {list(kernel.shape)}"
        )
    size = pair("conv2d", "the kernel's window", kernel.shape[:2])
    window = window_on("conv2d", x, size, stride, padding, dilation)
    groups = whole_number("conv2d: groups", groups)
    channels, features = x.shape[3], kernel.shape[3]
    if groups < 1 or channels != kernel.shape[2] * groups or features % groups:
        raise ValueError(
            "conv2d: kernel must be [rows, columns, C / groups, O] with C the last axis of x, and "
            f"O divisible by groups; got x {list(x.shape)}, kernel {list(kernel.shape)} and groups "
            f"{groups}"
        )
    if bias is None:
        return _conv2d(*varying_together([x, kernel]), None, window, groups)
    if bias.shape != (features,):
        raise ValueError(f"conv2d: bias must be [O] = {[features]}; got {list(bias.shape)}")
    return _conv2d(*varying_together([x, kernel, bias]), window, groups)


# y_nio = b_o + sum of x_nuc K_aco over c, and over all a and u with u = s i + d a - p, so that
#
#   dL/dx_nuc = sum_io dy_nio dy_nio/dx_nuc = sum_ao dy_nio K_aco   over i with s i = u + p - d a
#   dL/dK_aco = sum_nio dy_nio dy_nio/dK_aco = sum_ni x_n,(s i + d a - p),c dy_nio
#   dL/db_o   = sum_ni dy_nio
#
# In the first, put s - 1 zeros between the outputs, D_n,(s i),o = dy_nio, and count a from the end,
# a = k - 1 - a': u + p - d a = u + d a' - (d (k - 1) - p). Both are then convolutions themselves:
#
#   dx = conv(D, K') with K'_a'oc = K_(k - 1 - a'),c,o, stride 1, dilation d, padding d (k - 1) - p
#   dK = conv(x, dy) with the roles (N, s, d) -> (C, d, s) of the axis to sum over, the stride and
#        the dilation: a correlation of the input with the cotangent
#   db = sum over n and i of dy
#
# Groups are as many convolutions side by side. The three products, y, dx and dK, are computed in
# the form that suits their shapes and the machine: see `_conv_forms`.


def _plain_conv2d(x, kernel, bias, window, groups):
    y = _conv_forms.outputs(x, kernel, window, groups)
    if bias is None:
        return y
    wide_y, wide_bias = widened(y, bias)
    return (wide_y + before_last(wide_bias, y.ndim)).astype(x.dtype)


_conv2d = jax.custom_vjp(_plain_conv2d, nondiff_argnums=(3, 4))


def _conv2d_fwd(x, kernel, bias, window, groups):
    # Both factors: each is the other's gradient. The bias says whether there is one.
    return _plain_conv2d(x, kernel, bias, window, groups), (x, kernel, bias)


def _conv2d_bwd(window, groups, res, dy):
    x, kernel, bias = res
    dx = _conv_forms.input_gradient(dy, kernel, window, groups)
    dkernel = _conv_forms.kernel_gradient(x, dy, kernel, window, groups)
    (wide_dy,) = widened(dy)
    dbias = None if bias is None else wide_dy.sum((0, 1, 2)).astype(bias.dtype)
    return dx, dkernel, dbias


_conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)
