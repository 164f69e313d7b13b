"""The three products of a convolution, y, dx and dK, in the form that suits shapes and machine.

On GPUs and TPUs each is the convolution that `conv` derives, for which XLA has kernels. On a CPU,
XLA's are as fast as the machine for some shapes and up to 200 times slower for others, and under
vmap of the kernels for all. Matrix products are fast for all shapes: each form below is a
convolution as a few of them, and `_form` says which is taken when.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.ops._arguments import sharding_of, widened
from jaxnets.ops._windows import Window, every_tap, into_inputs, into_outputs, seeing, seen, taps


class Form(NamedTuple):
    """One way to compute the three products, of one group.

    Attributes:
        outputs: (x [N, n, n, C], kernel [k, k, C, O], window) -> y [N, m, m, O].
        input_gradient: (dy, kernel, window) -> dx.
        kernel_gradient: (x, dy, window, sharding) -> dK, placed as `sharding` says if it is not
            None.
    """

    outputs: Callable
    input_gradient: Callable
    kernel_gradient: Callable


def _form(window: Window, channels: int) -> Form:
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
        return PATCHES
    return WINOGRAD if suits_winograd(window) and max(window.outputs) > 2 else SHIFTED


def outputs(x, kernel, window, groups):
    """Return y [N, m, m, O] for x [N, n, n, C] and kernel [k, k, C / groups, O]."""

    def on_cpu(x, kernel):
        return _form(window, kernel.shape[2]).outputs(x, kernel, window)

    def elsewhere(x, kernel):
        return xla_outputs(x, kernel, window, groups)

    return _by_platform(on_cpu, elsewhere, groups, x, kernel)


def input_gradient(dy, kernel, window, groups):
    """Return dx [N, n, n, C] for dy [N, m, m, O] and kernel [k, k, C / groups, O]."""

    def on_cpu(dy, kernel):
        return _form(window, kernel.shape[2]).input_gradient(dy, kernel, window)

    def elsewhere(dy, kernel):
        return xla_input_gradient(dy, kernel, window, groups)

    return _by_platform(on_cpu, elsewhere, groups, dy, kernel)


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
        _correlate(seen(x, tap), seeing(dy, tap), _of_matrix(sharding)) for tap in every_tap(window)
    ]
    return _kernel(matrices, window)


def _contract(a, b, a_axes, b_axes):
    return jax.lax.dot_general(a, b, ((a_axes, b_axes), ((), ())))


def _correlate(a, b, sharding):
    """Return the product [C, O] of a [N, m, m, C] and b [N, m, m, O], summed over all the rest."""
    # As matrices: XLA would transpose an array of which several axes are summed over in memory.
    a, b = (array.reshape(math.prod(array.shape[:3]), array.shape[3]) for array in (a, b))
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), out_sharding=sharding)


def _of_matrix(sharding):
    """Return the placement of one kernel position, [C, O], for that of the kernel."""
    if sharding is None:
        return None
    return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*sharding.spec[2:]))


def _kernel(matrices, window):
    """Return [k, k, C, O] of the matrices [C, O] of all kernel positions."""
    return jnp.stack(matrices).reshape(*window.size, *matrices[0].shape)


def _sum(parts):
    return functools.reduce(operator.add, parts)


SHIFTED = Form(_shifted_outputs, _shifted_input_gradient, _shifted_kernel_gradient)


# --- patches -------------------------------------------------------------------------------------
#
# What each output sees, side by side, times the kernel as one matrix: for few channels, of which a
# product a kernel position would be too thin.


def _patches_outputs(x, kernel, window):
    return _contract(_patches(x, window), kernel, (3, 4, 5), (0, 1, 2))


def _patches_input_gradient(dy, kernel, window):
    parts = _contract(dy, kernel, (3,), (3,))
    return _sum(
        into_inputs(seeing(parts[:, :, :, tap.row, tap.column], tap), tap, window)
        for tap in taps(window)
    )


def _patches_kernel_gradient(x, dy, window, sharding):
    patches = _patches(x, window)
    flat = patches.reshape(*patches.shape[:3], math.prod(patches.shape[3:]))
    product = _correlate(flat, dy, _of_matrix(sharding))
    return product.reshape(*window.size, x.shape[3], dy.shape[3])


def _patches(x, window):
    """Return [N, m, m, k, k, C]."""
    parts = [into_outputs(seen(x, tap), tap, window) for tap in every_tap(window)]
    patches = jnp.concatenate(parts, 3)
    return patches.reshape(*patches.shape[:3], *window.size, x.shape[3])


PATCHES = Form(_patches_outputs, _patches_input_gradient, _patches_kernel_gradient)


# --- Winograd's F(2x2, 3x3) ----------------------------------------------------------------------
#
# Two outputs along an axis, y_i = sum_a d_(i + a) g_a for i = 0 and 1, take four products, not six:
#
#   y = A^T [(G g) * (B^T d)]    with d of four inputs, g of three and y of two numbers
#
# and along both axes, four outputs take sixteen products, not 36:
#
#   Y = A^T [U * V] A,    U = G K G^T,    V = B^T D B    for each tile D of 4x4 inputs
#
# where the sums over channels make of the sixteen products matrix products U_ab V_ab of all tiles.
# The tiles begin at every second input. Transposed, the same sixteen give the gradients:
#
#   dM = A dY A^T,    dU_ab = sum of V_ab^T dM_ab over the tiles,    dK = G^T dU G
#
# and dx is a convolution of the same kind, of the flipped kernel, whose U is this one's with the
# first and the last row and column exchanged.
#
# Source: Lavin and Gray, Fast algorithms for convolutional neural networks (2016), equations 5-8.


def suits_winograd(window: Window) -> bool:
    """Return whether F(2x2, 3x3) can compute the convolution."""
    return window.size == (3, 3) and window.stride == window.dilation == (1, 1)


_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])
_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

Grid = list[list[jax.Array]]


def _winograd_outputs(x, kernel, window):
    return _winograd(x, _kernel_transform(kernel), 0, window.padding, window.outputs)


def _winograd_input_gradient(dy, kernel, window):
    flipped = [[row[b] for b in (3, 1, 2, 0)] for row in _kernel_transform(kernel)]
    flipped = [flipped[a] for a in (3, 1, 2, 0)]
    padding = [(2 - p, 2 - q) for p, q in window.padding]
    return _winograd(dy, flipped, 1, padding, window.inputs)


def _winograd_kernel_gradient(x, dy, window, sharding):
    tiles = [-(-m // 2) for m in window.outputs]
    v = _tiles(x, window.padding, tiles)
    dy = jax.lax.pad(
        dy,
        dy.dtype.type(0),
        _spans((0, 2 * t - m) for t, m in zip(tiles, window.outputs, strict=True)),
    )
    dm = _sandwich(_A, [[dy[:, p::2, q::2] for q in range(2)] for p in range(2)])
    placed = _of_matrix(sharding)
    du = [[_correlate(v[a][b], dm[a][b], placed) for b in range(4)] for a in range(4)]
    dkernel = _sandwich(_G.T, du)
    return _kernel([matrix for row in dkernel for matrix in row], window)


def _winograd(x, u, axis, padding, outputs):
    """Return Y for U whose `axis` is summed over."""
    tiles = [-(-m // 2) for m in outputs]
    v = _tiles(x, padding, tiles)
    m = [[_contract(v[a][b], u[a][b], (3,), (axis,)) for b in range(4)] for a in range(4)]
    y = jnp.stack([jnp.stack(row, 3) for row in _sandwich(_A.T, m)], 2)
    y = y.reshape(y.shape[0], 2 * tiles[0], 2 * tiles[1], y.shape[5])
    return y[:, : outputs[0], : outputs[1]]


def _tiles(x, padding, tiles) -> Grid:
    """Return V, [N, tiles, tiles, C] each."""
    spans = [
        (p, 2 * t + 2 - n - p) for (p, _), t, n in zip(padding, tiles, x.shape[1:3], strict=True)
    ]
    x = jax.lax.pad(x, x.dtype.type(0), _spans(spans))
    rows, columns = (2 * t - 1 for t in tiles)
    return _sandwich(
        _B.T, [[x[:, a : a + rows : 2, b : b + columns : 2] for b in range(4)] for a in range(4)]
    )


def _spans(spans):
    return [(0, 0, 0), *((p, q, 0) for p, q in spans), (0, 0, 0)]


def _kernel_transform(kernel) -> Grid:
    return _sandwich(_G, [[kernel[a, b] for b in range(3)] for a in range(3)])


def _sandwich(matrix: np.ndarray, grid: Grid) -> Grid:
    """Return M X M^T for a grid X of arrays, without the products with 0."""
    return _transposed(_times(matrix, _transposed(_times(matrix, grid))))


def _times(matrix: np.ndarray, grid: Grid) -> Grid:
    return [
        [
            _sum(number * entry for number, entry in zip(row, column, strict=True) if number)
            for column in zip(*grid, strict=True)
        ]
        for row in matrix.tolist()
    ]


def _transposed(grid: Grid) -> Grid:
    return [list(column) for column in zip(*grid, strict=True)]


WINOGRAD = Form(_winograd_outputs, _winograd_input_gradient, _winograd_kernel_gradient)

FORMS = {"shifted": SHIFTED, "patches": PATCHES, "winograd": WINOGRAD}
