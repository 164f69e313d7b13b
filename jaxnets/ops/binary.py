"""Binary cross-entropy of logits.

Symbols: logits z and labels t [...], the weight w of the positive class, sigma(z) = 1 / (1 + e^-z)
the probability of the positive class; the loss l [...] is in nats, one per label, and dl its
cotangent.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import (
    as_array,
    concrete,
    floating,
    floating_scalar,
    known_number,
    one_dtype,
    varying_together,
    widened,
)
from jaxnets.ops.activations import softplus_of_minus_size


def sigmoid_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, positive_weight: ArrayLike = 1.0
) -> jax.Array:
    """Cross-entropy of a label with sigmoid(logit), l = -w t log sigma(z) - (1 - t) log sigma(-z).

    Args:
        logits: [...], floating.
        labels: [...] of logits's shape: 0 or 1, of any integer dtype or bool; or probabilities,
            floating in [0, 1].
        positive_weight: scalar w >= 0, by which positive labels count more or less, as PyTorch's
            `pos_weight`; it may be traced, and has a gradient.

    Returns:
        [...], nats per label, the promoted dtype of logits and floating labels. Finite for finite
        logits; a label of 0 or 1 costs nothing at the infinite logit that predicts it. Half
        precision computes in float32.

    Raises:
        TypeError: logits is not floating, or labels is no array of numbers.
        ValueError: the shapes differ, a concrete label lies outside [0, 1], or positive_weight is
            negative or no scalar.

    Example:
        >>> sigmoid_cross_entropy(jnp.array([0.0, 2.0]), jnp.array([1, 0]))
        Array([0.6931472, 2.126928 ], dtype=float32)

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.90.
    """
    given, logits, labels = labels, floating("logits", logits), as_array("labels", labels)
    if labels.shape != logits.shape:
        raise ValueError(
            f"sigmoid_cross_entropy: labels must have the shape of logits, {list(logits.shape)}; "
            f"got {list(labels.shape)}"
        )
    if labels.dtype == bool or jnp.issubdtype(labels.dtype, jnp.integer):
        labels = labels.astype(logits.dtype)
    logits, labels = one_dtype(logits=logits, labels=labels)
    known = concrete(given)  # Of the array, nothing is known under `jit`.
    if known is not None and not ((known >= 0) & (known <= 1)).all():
        raise ValueError(
            f"sigmoid_cross_entropy: labels must lie in [0, 1]; got {known.min()} to {known.max()}"
        )
    number = known_number("sigmoid_cross_entropy: positive_weight", positive_weight)
    if number is not None and not number >= 0:
        raise ValueError(
            f"sigmoid_cross_entropy: positive_weight must be at least 0; got {positive_weight}"
        )
    weight = floating_scalar(
        "sigmoid_cross_entropy: positive_weight", positive_weight, logits.dtype
    )
    return _sigmoid_cross_entropy(*varying_together([logits, labels, weight]))


# -log sigma(z) = softplus(-z) = max(-z, 0) + s, and -log sigma(-z) = softplus(z) = max(z, 0) + s,
# with s = log(1 + e^-|z|), of which nothing overflows or cancels. As softplus' = sigma,
#
#   l = w t softplus(-z) + (1 - t) softplus(z)
#   dl/dz = -w t (1 - sigma(z)) + (1 - t) sigma(z)
#   dl/dt = w softplus(-z) - softplus(z),    dl/dw = t softplus(-z)


def _losses(z):
    """Return softplus(-z) and softplus(z)."""
    positive = z > 0
    zero, rest = jnp.zeros_like(z), softplus_of_minus_size(z)
    return jnp.where(positive, zero, -z) + rest, jnp.where(positive, z, zero) + rest


def _counted(share, loss):
    """Return a loss where something of it counts: 0 times infinity is to be 0."""
    return jnp.where((share == 0) & (loss == jnp.inf), 0.0, loss)


def _both_losses(z, t, w):
    if_positive, if_negative = _losses(z)
    return _counted(w * t, if_positive), _counted(1.0 - t, if_negative)


def _plain_sigmoid_cross_entropy(logits, labels, weight):
    z, t, w = widened(logits, labels, weight)
    if_positive, if_negative = _both_losses(z, t, w)
    return (w * t * if_positive + (1.0 - t) * if_negative).astype(logits.dtype)


_sigmoid_cross_entropy = jax.custom_vjp(_plain_sigmoid_cross_entropy)


def _sigmoid_cross_entropy_fwd(logits, labels, weight):
    return _plain_sigmoid_cross_entropy(logits, labels, weight), (logits, labels, weight)


def _sigmoid_cross_entropy_bwd(res, dl):
    z, t, w, wide_dl = widened(*res, dl)
    if_positive, if_negative = _both_losses(z, t, w)
    # 1 - sigma(z) as sigma(-z), which keeps the digits of the tail.
    dz = (1.0 - t) * jax.lax.logistic(z) - w * t * jax.lax.logistic(-z)
    dt = w * if_positive - if_negative
    dw = jnp.sum(wide_dl * t * if_positive)
    return tuple(part.astype(dl.dtype) for part in (wide_dl * dz, wide_dl * dt, dw))


_sigmoid_cross_entropy.defvjp(_sigmoid_cross_entropy_fwd, _sigmoid_cross_entropy_bwd)
