"""Convolutions as matrix products: one a kernel position, or one of what each output sees."""

import functools
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnets.ops._windows import every_tap, into_inputs, into_outputs, seeing, seen, taps


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


# --- shifted products ----------------------------------------------------------------------------
#
# One matrix product a kernel position, of what it sees. Nothing is multiplied with padding, which
# in images of 2x2 under a kernel of 3x3 is 20 of 36 products.


def _shifted_outputs(x, kernel, window):
    return added(
        into_outputs(contract(seen(x, tap), kernel[tap.row, tap.column], (3,), (0,)), tap, window)
        for tap in taps(window)
    )


def _shifted_input_gradient(dy, kernel, window):
    return added(
        into_inputs(contract(seeing(dy, tap), kernel[tap.row, tap.column], (3,), (1,)), tap, window)
        for tap in taps(window)
    )


def _shifted_kernel_gradient(x, dy, window, sharding):
    matrices = [
        correlate(seen(x, tap), seeing(dy, tap), of_matrix(sharding)) for tap in every_tap(window)
    ]
    return stacked(matrices, window)


def contract(a, b, a_axes, b_axes):
    return jax.lax.dot_general(a, b, ((a_axes, b_axes), ((), ())))


def correlate(a, b, sharding):
    """Return the product [C, O] of a [N, m, m, C] and b [N, m, m, O], summed over all the rest."""
    # As matrices: XLA would transpose an array of which several axes are summed over in memory.
    a, b = (array.reshape(math.prod(array.shape[:3]), array.shape[3]) for array in (a, b))
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), out_sharding=sharding)


def of_matrix(sharding):
    """Return the placement of one kernel position, [C, O], for that of the kernel."""
    if sharding is None:
        return None
    return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*sharding.spec[2:]))


def stacked(matrices, window):
    """Return [k, k, C, O] of the matrices [C, O] of all kernel positions."""
    return jnp.stack(matrices).reshape(*window.size, *matrices[0].shape)


def added(parts):
    return functools.reduce(operator.add, parts)


SHIFTED = Form(_shifted_outputs, _shifted_input_gradient, _shifted_kernel_gradient)


# --- patches -------------------------------------------------------------------------------------
#
# What each output sees, side by side, times the kernel as one matrix: for few channels, of which a
# product a kernel position would be too thin.


def _patches_outputs(x, kernel, window):
    return contract(_patches(x, window), kernel, (3, 4, 5), (0, 1, 2))


def _patches_input_gradient(dy, kernel, window):
    parts = contract(dy, kernel, (3,), (3,))
    return added(
        into_inputs(seeing(parts[:, :, :, tap.row, tap.column], tap), tap, window)
        for tap in taps(window)
    )


def _patches_kernel_gradient(x, dy, window, sharding):
    patches = _patches(x, window)
    flat = patches.reshape(*patches.shape[:3], math.prod(patches.shape[3:]))
    product = correlate(flat, dy, of_matrix(sharding))
    return product.reshape(*window.size, x.shape[3], dy.shape[3])


def _patches(x, window):
    """Return [N, m, m, k, k, C]."""
    parts = [into_outputs(seen(x, tap), tap, window) for tap in every_tap(window)]
    patches = jnp.concatenate(parts, 3)
    return patches.reshape(*patches.shape[:3], *window.size, x.shape[3])


PATCHES = Form(_patches_outputs, _patches_input_gradient, _patches_kernel_gradient)
