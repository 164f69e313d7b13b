"""The three products of a convolution, y, dx and dK, in the form that suits shapes and machine.

On GPUs and TPUs each is the convolution that `conv` derives, for which XLA has kernels. On a CPU,
XLA's are as fast as the machine for some shapes and up to 200 times slower for others, and under
vmap of the kernels for all. Matrix products are fast for all shapes: each form in `_matrix_forms`
and `_winograd` is a convolution as a few of them, and `_form` says which is taken when.
"""

import functools

import jax
import jax.numpy as jnp

from jaxnets.ops import _matrix_forms, _winograd
from jaxnets.ops._arguments import sharding_of, widened
from jaxnets.ops._windows import Window

# JAX then traces, differentiates and lowers it once for each shape, however many layers have it.
_traced_once = functools.partial(jax.jit, static_argnames=("window", "groups"))


def _form(window: Window, channels: int) -> _matrix_forms.Form:
    """Return the form for a CPU; `python -m tests.benchmarks.convolution forms` measures them all.

    CPU milliseconds of the three products together, on one core of a Zen 5, batch 32:

        channels, image, kernel       shifted   patches   Winograd
        3 -> 64, 32x32, 3x3              74.9      11.2       36.1
        64 -> 128, 16x16, 3x3            56.6      42.4       33.6
        256 -> 256, 8x8, 3x3             48.0      52.3       21.7
        256 -> 512, 4x4, 3x3             13.3      16.9       10.8
        512 -> 512, 2x2, 3x3              5.6      10.4        8.7
        128 -> 256, 16x16, 1x1            8.7       8.5

    Images of 2x2 are one tile, for which Winograd's products are as many as the shifted ones. Under
    a kernel of 1x1 the shifted products are the one product that it is.
    """
    if window.size[0] * window.size[1] * channels <= 32:
        return _matrix_forms.PATCHES
    if _winograd.suits(window) and max(window.outputs) > 2:
        return _winograd.WINOGRAD
    return _matrix_forms.SHIFTED


@_traced_once
def outputs(x, kernel, window, groups):
    """Return y [N, m, m, O] for x [N, n, n, C] and kernel [k, k, C / groups, O]."""

    def on_cpu(x, kernel):
        return _form(window, kernel.shape[2]).outputs(x, kernel, window)

    def elsewhere(x, kernel):
        return xla_outputs(x, kernel, window, groups)

    return _by_platform(on_cpu, elsewhere, groups, x, kernel)


@_traced_once
def input_gradient(dy, kernel, window, groups):
    """Return dx [N, n, n, C] for dy [N, m, m, O] and kernel [k, k, C / groups, O]."""

    def on_cpu(dy, kernel):
        return _form(window, kernel.shape[2]).input_gradient(dy, kernel, window)

    def elsewhere(dy, kernel):
        return xla_input_gradient(dy, kernel, window, groups)

    return _by_platform(on_cpu, elsewhere, groups, dy, kernel)


@_traced_once
def kernel_gradient(x, dy, kernel, window, groups):
    """Return dK, of the kernel's shape and placement, for x [N, n, n, C] and dy [N, m, m, O]."""
    sharding = sharding_of(kernel)

    def on_cpu(x, dy):
        return _form(window, x.shape[3]).kernel_gradient(x, dy, window, sharding)

    def elsewhere(x, dy):
        return xla_kernel_gradient(x, dy, window, groups, sharding)

    return _by_platform(on_cpu, elsewhere, groups, x, dy)


def _by_platform(on_cpu, elsewhere, groups, a, b):
    """Return `on_cpu(a, b)` in float32 at least, each group by itself, or `elsewhere(a, b)`."""

    def cpu(a, b):
        dtype = a.dtype
        a, b = widened(a, b)
        if groups == 1:
            return on_cpu(a, b).astype(dtype)
        a, b = (_split_last_axis(array, groups) for array in (a, b))
        split = jax.vmap(on_cpu, (3, 3), 3)(a, b)
        return split.reshape(*split.shape[:3], groups * split.shape[4]).astype(dtype)

    return jax.lax.platform_dependent(a, b, cpu=cpu, default=elsewhere)


def _split_last_axis(array, groups):
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


# --- XLA's convolution ---------------------------------------------------------------------------


def xla_outputs(x, kernel, window, groups):
    """Return y."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=window.stride,
        padding=window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def xla_input_gradient(dy, kernel, window, groups):
    """Return dx, a convolution of the dilated cotangent with the flipped kernel."""
    # K' [k, k, C, O / groups], of whose last two axes the first is the output's.
    rows, columns, channels, features = kernel.shape
    flipped = _split_last_axis(jax.lax.rev(kernel, (0, 1)), groups)
    flipped = jnp.moveaxis(flipped, 3, 2).reshape(
        rows, columns, groups * channels, features // groups
    )
    padding = [
        (d * (k - 1) - p, n - 1 + p - s * (m - 1))
        for n, k, s, d, (p, _), m in zip(*window, window.outputs, strict=True)
    ]
    return jax.lax.conv_general_dilated(
        dy,
        flipped,
        window_strides=(1, 1),
        padding=padding,
        lhs_dilation=window.stride,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
        feature_group_count=groups,
    )


def xla_kernel_gradient(x, dy, window, groups, sharding):
    """Return dK, a correlation of the input with the cotangent."""
    padding = [
        (p, d * (k - 1) + s * (m - 1) + 1 - n - p)
        for n, k, s, d, (p, _), m in zip(*window, window.outputs, strict=True)
    ]
    return jax.lax.conv_general_dilated(
        x,
        dy,
        window_strides=window.dilation,
        padding=padding,
        rhs_dilation=window.stride,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=groups,
        out_sharding=sharding,
    )
