"""Cross-entropy, of probabilities and of logits, and the L2 penalty.

Symbols: C classes on the last axis; logits z and probabilities p [..., C]; labels are classes
(integers [...]) or distributions t (floating [..., C]), and a class y is the distribution
t_c = [c = y]; the loss l [...] is in nats, one per example, and dl its cotangent: none of the rules
takes a mean over examples, so that any weighting of them is the caller's.

A traced class outside [0, C) cannot raise, and stands for the distribution t_c = NaN: the loss and
all gradients of its example are NaN. To leave an example out, give it a class in [0, C) and its
loss a weight of 0.

Long: each op stands here whole, with its docstring, derivation and rules.
"""

import numbers

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import (
    accumulation_dtype,
    as_array,
    before_last,
    concrete,
    floating,
    fraction,
    varying_together,
    widened,
)


def cross_entropy(probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Cross-entropy of probabilities, l = -sum_c t_c log p_c.

    Args:
        probs: [..., C], floating, in [0, 1]; usually the output of `softmax`. For training use
            `softmax_cross_entropy`, which stays finite where a probability underflows to 0.
        labels: classes, integer [...], each in [0, C); or distributions, floating [..., C].

    Returns:
        [...], nats per example, the dtype of probs. A class of probability 0 costs inf if its label
        is positive and nothing if it is 0 (0 log 0 = 0), and its gradient likewise is -inf or 0.
        NaN where a traced class lies outside [0, C).

    Raises:
        TypeError: probs is not floating, or labels is neither integer nor floating.
        ValueError: the shapes do not fit, or a concrete class lies outside [0, C).

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108.
    """
    probs, labels = _checked("cross_entropy", "probs", probs, labels)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return _class_cross_entropy(*varying_together([probs, labels]), probs.shape[-1])
    return _distribution_cross_entropy(*varying_together([probs, labels]))


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, label_smoothing: ArrayLike = 0.0
) -> jax.Array:
    """Cross-entropy of the softmax of logits, l = -sum_c t_c log softmax(z)_c, in one piece.

    Args:
        logits: [..., C], floating; -inf is a class of probability 0.
        labels: classes, integer [...], each in [0, C); or distributions, floating [..., C].
        label_smoothing: scalar s in [0, 1]; the label is (1 - s) t + s / C. It may be traced, and
            has its own gradient.

    Returns:
        [...], nats per example, the dtype of logits. Finite for any logits whose differences are
        finite. NaN where a traced class lies outside [0, C) or traced smoothing outside [0, 1].

    Raises:
        TypeError: logits is not floating, or labels is neither integer nor floating.
        ValueError: the shapes do not fit, a concrete class lies outside [0, C), or a concrete
            label_smoothing outside [0, 1].

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equations 4.108 and 4.109;
    smoothing: Szegedy et al., Rethinking the Inception architecture (2016), section 7.
    """
    logits, labels = _checked("softmax_cross_entropy", "logits", logits, labels)
    classes = jnp.issubdtype(labels.dtype, jnp.integer)
    smoothing = None
    if not (isinstance(label_smoothing, numbers.Real) and label_smoothing == 0):
        wide = accumulation_dtype(logits.dtype, *([] if classes else [labels.dtype]))
        smoothing = fraction("label_smoothing", label_smoothing, wide)
    op = _class_softmax_cross_entropy if classes else _distribution_softmax_cross_entropy
    if smoothing is None:
        return op(*varying_together([logits, labels]), None)
    return op(*varying_together([logits, labels, smoothing]))


def _checked(
    op: str, name: str, scores: ArrayLike, labels: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    given, scores, labels = labels, floating(name, scores), as_array("labels", labels)
    classes = concrete(given)  # Of the array, nothing is known under `jit`.
    if scores.ndim < 1 or scores.shape[-1] == 0:
        raise ValueError(f"{op}: {name} must be [..., classes]; got shape {list(scores.shape)}")
    if jnp.issubdtype(labels.dtype, jnp.integer):
        if labels.shape != scores.shape[:-1]:
            raise ValueError(
                f"{op}: integer labels must be {name}'s shape less its last axis, "
                f"{list(scores.shape[:-1])}; got {list(labels.shape)}"
            )
        if classes is not None and ((classes < 0) | (classes >= scores.shape[-1])).any():
            raise ValueError(
                f"{op}: labels must lie in [0, {scores.shape[-1]}); "
                f"got {classes.min()} to {classes.max()}"
            )
    elif jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != scores.shape:
            raise ValueError(
                f"{op}: labels that are distributions must have {name}'s shape "
                f"{list(scores.shape)}; got {list(labels.shape)}"
            )
    else:
        raise TypeError(
            f"{op}: labels must be integer classes or floating distributions; got {labels.dtype}"
        )
    return scores, labels


def _one_hot(labels, classes, dtype):
    """Return t [..., C], 1 at the label and 0 elsewhere, and the sum of t [..., 1], which is 1.

    Both are NaN for a label outside [0, C). By comparison: a gather neither fuses nor shards.
    """
    # An 8-bit label cannot count 300 classes: class 259 would wrap around to 3.
    wide = labels.dtype if classes - 1 <= jnp.iinfo(labels.dtype).max else jnp.dtype(jnp.int32)
    label = labels.astype(wide)[..., None]
    inside = (label >= 0) & (label <= classes - 1)
    total = jnp.where(inside, 1.0, jnp.nan).astype(dtype)
    is_label = label == before_last(jnp.arange(classes, dtype=wide), label.ndim)
    # Chosen: XLA makes a choice of a product with a truth value, too, of 0 where NaN is due.
    return jnp.where(inside, is_label.astype(dtype), total), total


# --- cross-entropy of probabilities --------------------------------------------------------------
#
# dl/dp_c = -t_c / p_c and dl/dt_c = -log p_c. For classes the sum has one term, l = -log p_y.


def _label_probs(probs, labels):
    t, _ = _one_hot(labels, probs.shape[-1], probs.dtype)
    return jnp.sum(jnp.where(t == 0, jnp.zeros_like(probs), t * probs), -1)


def _plain_class_cross_entropy(probs, labels, classes):
    (wide_probs,) = widened(_label_probs(probs, labels))
    return -jnp.log(wide_probs).astype(probs.dtype)


_class_cross_entropy = jax.custom_vjp(_plain_class_cross_entropy, nondiff_argnums=(2,))


def _class_cross_entropy_fwd(probs, labels, classes):
    # p_y alone, one number an example: no other probability is in the gradient.
    return _plain_class_cross_entropy(probs, labels, classes), (_label_probs(probs, labels), labels)


def _class_cross_entropy_bwd(classes, res, dl):
    label_probs, labels = res
    wide_probs, wide_dl = widened(label_probs, dl)
    quotient = (-wide_dl / wide_probs).astype(dl.dtype)[..., None]
    t, _ = _one_hot(labels, classes, dl.dtype)
    return jnp.where(t == 0, jnp.zeros_like(t), t * quotient), None


_class_cross_entropy.defvjp(_class_cross_entropy_fwd, _class_cross_entropy_bwd)


def _plain_distribution_cross_entropy(probs, labels):
    wide = accumulation_dtype(probs.dtype, labels.dtype)
    impossible = (probs == 0) & (labels == 0)
    log_probs = jnp.log(jnp.where(impossible, jnp.ones_like(probs), probs).astype(wide))
    return -jnp.sum(labels.astype(wide) * log_probs, -1).astype(probs.dtype)


_distribution_cross_entropy = jax.custom_vjp(_plain_distribution_cross_entropy)


def _distribution_cross_entropy_fwd(probs, labels):
    return _plain_distribution_cross_entropy(probs, labels), (probs, labels)


def _distribution_cross_entropy_bwd(res, dl):
    probs, labels = res
    wide = accumulation_dtype(probs.dtype, labels.dtype)
    impossible = (probs == 0) & (labels == 0)
    safe_probs = jnp.where(impossible, jnp.ones_like(probs), probs).astype(wide)
    dl = dl.astype(wide)[..., None]
    dprobs = -dl * labels.astype(wide) / safe_probs
    dlabels = -dl * jnp.log(safe_probs)
    return dprobs.astype(probs.dtype), dlabels.astype(labels.dtype)


_distribution_cross_entropy.defvjp(_distribution_cross_entropy_fwd, _distribution_cross_entropy_bwd)


# --- softmax and cross-entropy in one ------------------------------------------------------------
#
# With log p_c = z_c - log sum_k exp(z_k) and smoothed labels q_c = (1 - s) t_c + s / C,
# l = -sum_c q_c log p_c. From d log p_c / dz_k = [c = k] - p_k:
#
#   dl/dz_k = -sum_c q_c ([c = k] - p_k) = p_k sum_c q_c - q_k        (p - q where q sums to 1)
#   dl/dt_c = -(1 - s) log p_c
#   dl/ds   = sum_c (t_c - 1 / C) log p_c
#
# The softmax's Jacobian and the logarithm's 1 / p_c have cancelled: nothing is left to divide by.


def _log_probs(logits, dtype):
    wide = logits.astype(dtype)
    # A constant shift as in softmax.py; a row of -inf stays -inf, and gives NaN.
    shifted = wide - jax.lax.stop_gradient(jnp.max(wide, -1, keepdims=True))
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), -1, keepdims=True))


def _smoothed(labels, smoothing):
    if smoothing is None:
        return labels
    return (1.0 - smoothing) * labels + smoothing / labels.shape[-1]


def _expectation(weights, log_probs):
    """sum_c weights_c log p_c, where a weight of 0 and a probability of 0 make 0."""
    impossible = (weights == 0) & jnp.isneginf(log_probs)
    return jnp.sum(weights * jnp.where(impossible, jnp.zeros_like(log_probs), log_probs), -1)


def _plain_class_softmax_cross_entropy(logits, labels, smoothing):
    log_probs = _log_probs(logits, accumulation_dtype(logits.dtype))
    one_hot, _ = _one_hot(labels, logits.shape[-1], log_probs.dtype)
    return -_expectation(_smoothed(one_hot, smoothing), log_probs).astype(logits.dtype)


_class_softmax_cross_entropy = jax.custom_vjp(_plain_class_softmax_cross_entropy)


def _class_softmax_cross_entropy_fwd(logits, labels, smoothing):
    # p sum_c q_c - q, for an integer label p - q or NaN, is all that the backward needs, and it is
    # one array of the logits' size and dtype.
    log_probs = _log_probs(logits, accumulation_dtype(logits.dtype))
    one_hot, total = _one_hot(labels, logits.shape[-1], log_probs.dtype)
    q = _smoothed(one_hot, smoothing)
    difference = (jnp.exp(log_probs) * total - q).astype(logits.dtype)
    loss = -_expectation(q, log_probs).astype(logits.dtype)
    if smoothing is None:
        return loss, (difference, None)
    return loss, (difference, _expectation(one_hot - 1.0 / logits.shape[-1], log_probs))


def _class_softmax_cross_entropy_bwd(res, dl):
    difference, loss_slope = res
    wide_difference, wide_dl = widened(difference, dl)
    dlogits = (wide_dl[..., None] * wide_difference).astype(dl.dtype)
    dsmoothing = None if loss_slope is None else jnp.sum(wide_dl * loss_slope)
    return dlogits, None, dsmoothing


_class_softmax_cross_entropy.defvjp(
    _class_softmax_cross_entropy_fwd, _class_softmax_cross_entropy_bwd
)


def _plain_distribution_softmax_cross_entropy(logits, labels, smoothing):
    return _distribution_loss(logits, labels, smoothing)[0]


def _distribution_loss(logits, labels, smoothing):
    wide = accumulation_dtype(logits.dtype, labels.dtype)
    log_probs = _log_probs(logits, wide)
    q = _smoothed(labels.astype(wide), smoothing)
    return -_expectation(q, log_probs).astype(logits.dtype), log_probs


_distribution_softmax_cross_entropy = jax.custom_vjp(_plain_distribution_softmax_cross_entropy)


def _distribution_softmax_cross_entropy_fwd(logits, labels, smoothing):
    loss, log_probs = _distribution_loss(logits, labels, smoothing)
    return loss, (log_probs.astype(logits.dtype), labels, smoothing)


def _distribution_softmax_cross_entropy_bwd(res, dl):
    log_probs, labels, smoothing = res
    dtype = log_probs.dtype
    wide = accumulation_dtype(dtype, labels.dtype)
    log_probs, t, wide_dl = log_probs.astype(wide), labels.astype(wide), dl.astype(wide)[..., None]
    q = _smoothed(t, smoothing)
    dlogits = wide_dl * (jnp.exp(log_probs) * jnp.sum(q, -1, keepdims=True) - q)
    kept = 1.0 if smoothing is None else 1.0 - smoothing
    # As in the forward, a label of 0 on a class of probability 0 takes no part.
    impossible = (q == 0) & jnp.isneginf(log_probs)
    log_probs = jnp.where(impossible, jnp.zeros_like(log_probs), log_probs)
    dlabels = -wide_dl * kept * log_probs
    dsmoothing = None
    if smoothing is not None:
        slope = jnp.sum((t - 1.0 / t.shape[-1]) * log_probs, -1, keepdims=True)
        dsmoothing = jnp.sum(wide_dl * slope).astype(smoothing.dtype)
    return dlogits.astype(dtype), dlabels.astype(labels.dtype), dsmoothing


_distribution_softmax_cross_entropy.defvjp(
    _distribution_softmax_cross_entropy_fwd, _distribution_softmax_cross_entropy_bwd
)


# --- squared error -------------------------------------------------------------------------------


# --- L2 penalty ----------------------------------------------------------------------------------


def l2_penalty(params) -> jax.Array:
    """Sum of squares of all the entries of a pytree, without a factor of 1/2.

    Args:
        params: a pytree of floating arrays; an empty one has penalty 0.

    Returns:
        [], in the leaves' promoted dtype, float32 at least. Take it once, outside of a loss that
        is vmapped over examples: it does not depend on the example.

    Raises:
        TypeError: a leaf is not floating.

    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), equation 7.1, with alpha = 2.
    """
    leaves, structure = jax.tree.flatten_with_path(params)
    arrays = [floating(f"params{jax.tree_util.keystr(path)}", leaf) for path, leaf in leaves]
    return _l2_penalty(jax.tree.unflatten(structure, varying_together(arrays)))


# dl/dw_i = 2 w_i for each entry w_i of each leaf.


def _plain_l2_penalty(params):
    leaves = widened(*jax.tree.leaves(params))
    dtype = leaves[0].dtype if leaves else jnp.float32
    return sum((jnp.sum(jnp.square(leaf)) for leaf in leaves), jnp.zeros((), dtype))


_l2_penalty = jax.custom_vjp(_plain_l2_penalty)


def _l2_penalty_fwd(params):
    return _plain_l2_penalty(params), params


def _l2_penalty_bwd(params, dl):
    dparams = jax.tree.map(lambda w: (2.0 * dl * w.astype(dl.dtype)).astype(w.dtype), params)
    return (dparams,)


_l2_penalty.defvjp(_l2_penalty_fwd, _l2_penalty_bwd)
