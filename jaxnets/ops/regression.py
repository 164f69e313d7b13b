"""Losses of regression: squared error and Huber's.

Symbols: predictions p and targets t [..., D], their difference e = p - t; the loss l [...] is a
mean over the last axis, one per example, and dl its cotangent.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import (
    concrete,
    floating_scalar,
    known_number,
    one_dtype,
    varying_together,
    widened,
)


def squared_error(predictions: ArrayLike, targets: ArrayLike) -> jax.Array:
    """Mean of squared differences over the last axis, l = 1/D sum_d (p_d - t_d)^2, without 1/2.

    Args:
        predictions: [..., D], floating.
        targets: [..., D], floating.

    Returns:
        [...], one per example, in the promoted dtype of predictions and targets. Half precision
        squares and sums in float32.

    Raises:
        TypeError: predictions or targets is not floating.
        ValueError: the shapes differ, or have no last axis or an empty one.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 1.2, times 2 / D.
    """
    predictions, targets = _checked("squared_error", predictions, targets)
    return _squared_error(*varying_together([predictions, targets]))


def huber(predictions: ArrayLike, targets: ArrayLike, delta: ArrayLike = 1.0) -> jax.Array:
    """Huber's loss, l = 1/D sum_d h(p_d - t_d): a square near 0, a line far from it.

        h(e) = e^2 / 2 where |e| <= delta, and delta (|e| - delta / 2) elsewhere

    As in PyTorch and Optax; `squared_error` has no 1/2.

    Args:
        predictions: [..., D], floating.
        targets: [..., D], floating.
        delta: positive scalar, where the square ends; it may be traced, and has a gradient.

    Returns:
        [...], one per example, in the promoted dtype of predictions and targets. Half precision
        computes in float32. NaN where a traced delta is not positive.

    Raises:
        TypeError: predictions or targets is not floating, or delta is no number.
        ValueError: the shapes differ, or have no last axis or an empty one; or delta is no scalar,
            or known and not positive.

    Example:
        >>> huber(jnp.array([0.5, 3.0]), jnp.zeros(2))  # (0.125 + 2.5) / 2
        Array(1.3125, dtype=float32)

    Source: Huber, Robust estimation of a location parameter (1964), section 4.
    """
    predictions, targets = _checked("huber", predictions, targets)
    known = known_number("huber: delta", delta)
    if known is not None and not known > 0:
        raise ValueError(f"huber: delta must be positive; got {delta}")
    number = floating_scalar("huber: delta", delta, predictions.dtype)
    if concrete(delta) is None:
        # Added as a constant, so that the backward need not keep anything for it.
        nan = jnp.where(number > 0, 0.0, jnp.nan).astype(number.dtype)
        number = number + jax.lax.stop_gradient(nan)
    return _huber(*varying_together([predictions, targets, number]))


def _checked(op: str, predictions: ArrayLike, targets: ArrayLike) -> list[jax.Array]:
    predictions, targets = one_dtype(predictions=predictions, targets=targets)
    if predictions.ndim < 1 or predictions.shape[-1] == 0:
        raise ValueError(f"{op}: predictions must be [..., outputs]; got {list(predictions.shape)}")
    if targets.shape != predictions.shape:
        raise ValueError(
            f"{op}: targets must have the shape of predictions, {list(predictions.shape)}; "
            f"got {list(targets.shape)}"
        )
    return [predictions, targets]


# dl/dp_d = 2 / D (p_d - t_d), and dl/dt_d is minus that. The difference alone is kept.


def _plain_squared_error(predictions, targets):
    wide_predictions, wide_targets = widened(predictions, targets)
    squares = jnp.square(wide_predictions - wide_targets)
    return jnp.mean(squares, -1).astype(predictions.dtype)


_squared_error = jax.custom_vjp(_plain_squared_error)


def _squared_error_fwd(predictions, targets):
    wide_predictions, wide_targets = widened(predictions, targets)
    difference = (wide_predictions - wide_targets).astype(predictions.dtype)
    return _plain_squared_error(predictions, targets), difference


def _squared_error_bwd(difference, dl):
    wide_difference, wide_dl = widened(difference, dl)
    slope = wide_dl[..., None] * (2.0 / difference.shape[-1]) * wide_difference
    dpredictions = slope.astype(difference.dtype)
    return dpredictions, -dpredictions


_squared_error.defvjp(_squared_error_fwd, _squared_error_bwd)


# h is e^2 / 2 or delta (|e| - delta / 2), whose slopes e and delta sign(e) meet at |e| = delta, and
# that point counts as near:
#
#   dl/dp_d = 1 / D (e_d if |e_d| <= delta else delta sign(e_d)),    dl/dt_d is minus that,
#   dl/ddelta = 1 / D sum_d max(|e_d| - delta, 0)
#
# The difference alone is kept.


def _difference(predictions, targets):
    wide_predictions, wide_targets = widened(predictions, targets)
    return wide_predictions - wide_targets


def _plain_huber(predictions, targets, delta):
    difference, (wide_delta,) = _difference(predictions, targets), widened(delta)
    size = jnp.abs(difference)
    near = size <= wide_delta
    # The square of a large difference may overflow, and its derivative with it.
    square = jnp.square(jnp.where(near, difference, 0.0))
    losses = jnp.where(near, 0.5 * square, wide_delta * (size - 0.5 * wide_delta))
    return jnp.mean(losses, -1).astype(predictions.dtype)


_huber = jax.custom_vjp(_plain_huber)


def _huber_fwd(predictions, targets, delta):
    difference = _difference(predictions, targets).astype(predictions.dtype)
    return _plain_huber(predictions, targets, delta), (difference, delta)


def _huber_bwd(res, dl):
    difference, delta, wide_dl = widened(*res, dl)
    share, size = wide_dl / difference.shape[-1], jnp.abs(difference)
    slope = jnp.where(size <= delta, difference, delta * jnp.sign(difference))
    dpredictions = (share[..., None] * slope).astype(dl.dtype)
    # Row by row, for which the shares need not be as large as the differences.
    ddelta = jnp.sum(share * jnp.sum(jnp.maximum(size - delta, 0.0), -1))
    return dpredictions, -dpredictions, ddelta.astype(dl.dtype)


_huber.defvjp(_huber_fwd, _huber_bwd)
