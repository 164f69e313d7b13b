"""The three products of a convolution, y, dx and dK, in the form that suits shapes and machine.

On GPUs and TPUs each is the convolution that `conv` derives, for which XLA has kernels. On a CPU:
TODO
"""

import functools
import operator

import jax
import jax.numpy as jnp

from jaxnets.ops.arguments import sharding_of, widened
from jaxnets.ops.windows import every_tap, into_inputs, into_outputs, seeing, seen, taps

_IMAGES = "NHWC"


def outputs(x, kernel, window, groups):
    """Return y [N, m, m, O] for x [N, n, n, C] and kernel [k, k, C / groups, O]."""

    def on_cpu(x, kernel):
        return _shifted_outputs(x, kernel, window)

    def elsewhere(x, kernel):
        return _xla_outputs(x, kernel, window, groups)

    return _by_platform(on_cpu, elsewhere, groups, x, kernel)


def input_gradient(dy, kernel, window, groups):
    """Return dx [N, n, n, C] for dy [N, m, m, O] and kernel [k, k, C / groups, O]."""

    def on_cpu(dy, kernel):
        return _shifted_input_gradient(dy, kernel, window)

    def elsewhere(dy, kernel):
        return _xla_input_gradient(dy, kernel, window, groups)

    return _by_platform(on_cpu, elsewhere, groups, dy, kernel)


def kernel_gradient(x, dy, kernel, window, groups):
    """Return dK, of the kernel's shape and placement, for x [N, n, n, C] and dy [N, m, m, O]."""
    sharding = sharding_of(kernel)

    def on_cpu(x, dy):
        return _shifted_kernel_gradient(x, dy, window, sharding)

    def elsewhere(x, dy):
        return _xla_kernel_gradient(x, dy, window, groups, sharding)

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


def _xla_outputs(x, kernel, window, groups):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=window.stride,
        padding=window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=(_IMAGES, "HWIO", _IMAGES),
        feature_group_count=groups,
    )


def _xla_input_gradient(dy, kernel, window, groups):
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
        dimension_numbers=(_IMAGES, "HWOI", _IMAGES),
        feature_group_count=groups,
    )


def _xla_kernel_gradient(x, dy, window, groups, sharding):
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


# --- shifted products ----------------------------------------------------------------------------
#
# One matrix product a kernel position, of what it sees. Nothing is multiplied with padding, which
# in images of 2x2 under a kernel of 3x3 is 20 of 36 products.


def _shifted_outputs(x, kernel, window):
    return _sum(
        into_outputs(_contract(seen(x, tap), kernel[tap.row, tap.column], (3,), (0,)), tap, window)
        for tap in taps(window)
    )


def _shifted_input_gradient(dy, kernel, window):
    return _sum(
        into_inputs(
            _contract(seeing(dy, tap), kernel[tap.row, tap.column], (3,), (1,)), tap, window
        )
        for tap in taps(window)
    )


def _shifted_kernel_gradient(x, dy, window, sharding):
    matrices = [
        _contract(seen(x, tap), seeing(dy, tap), (0, 1, 2), (0, 1, 2), _of_matrix(sharding))
        for tap in every_tap(window)
    ]
    return jnp.stack(matrices).reshape(*window.size, *matrices[0].shape)


def _sum(parts):
    return functools.reduce(operator.add, parts)


def _contract(a, b, a_axes, b_axes, sharding=None):
    return jax.lax.dot_general(a, b, ((a_axes, b_axes), ((), ())), out_sharding=sharding)


def _of_matrix(sharding):
    """Return the placement of one kernel position, [C, O], for that of the kernel."""
    if sharding is None:
        return None
    return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*sharding.spec[2:]))
