"""Convolutions of 3x3 kernels by Winograd's F(2x2, 3x3): sixteen products in the place of 36."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.ops._matrix_forms import Form, contract, correlate, of_matrix, stacked
from jaxnets.ops._windows import Window

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


def suits(window: Window) -> bool:
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
    placed = of_matrix(sharding)
    du = [[correlate(v[a][b], dm[a][b], placed) for b in range(4)] for a in range(4)]
    dkernel = _sandwich(_G.T, du)
    return stacked([matrix for row in dkernel for matrix in row], window)


def _winograd(x, u, axis, padding, outputs):
    """Return Y for U whose `axis` is summed over."""
    tiles = [-(-m // 2) for m in outputs]
    v = _tiles(x, padding, tiles)
    m = [[contract(v[a][b], u[a][b], (3,), (axis,)) for b in range(4)] for a in range(4)]
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
        [_combined(row, column) for column in zip(*grid, strict=True)] for row in matrix.tolist()
    ]


def _combined(numbers: Sequence[float], arrays: Sequence[jax.Array]) -> jax.Array:
    """Return the sum of numbers times arrays, without the products with 0, 1 and -1.

    XLA would drop these as well. But JAX transforms each by itself, and they are most of a program.
    """
    terms = [(n, x) for n, x in zip(numbers, arrays, strict=True) if n]
    if terms[0][0] < 0:
        terms.sort(key=lambda term: term[0] < 0)  # What comes first is not subtracted.
    sizes = {abs(n) for n, _ in terms}
    common = sizes.pop() if len(sizes) == 1 else 1  # 1/2, by which a product is exact.
    parts = [_scaled(x, abs(n) / common) for n, x in terms]
    total = parts[0] if terms[0][0] > 0 else jax.lax.neg(parts[0])
    for (number, _), part in zip(terms[1:], parts[1:], strict=True):
        total = (jax.lax.add if number > 0 else jax.lax.sub)(total, part)
    return _scaled(total, common)


def _scaled(array: jax.Array, factor: float) -> jax.Array:
    return array if factor == 1 else jax.lax.mul(array, array.dtype.type(factor))


def _transposed(grid: Grid) -> Grid:
    return [list(column) for column in zip(*grid, strict=True)]


WINOGRAD = Form(_winograd_outputs, _winograd_input_gradient, _winograd_kernel_gradient)
