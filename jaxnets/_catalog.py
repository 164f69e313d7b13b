"""Every op with arguments to try it on: the table that the command line and the tests walk.

A new op is checked, measured and mutated once it has its row here.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import ops

Shape = tuple[int, ...]


class Entry(NamedTuple):
    """One way to call one op.

    Attributes:
        op: the op's name in `jaxnets.ops`.
        variant: what this call adds to the plain one, in a few words; empty for the plain one.
        function: the call, a function of arrays.
        sample: `sample(rng, shape, dtype)` draws its arguments, x having the given shape [..., C].
            Ops on images put rows and columns before the last axis, and one for all those before.
    """

    op: str
    variant: str
    function: Callable
    sample: Callable[[np.random.Generator, Shape, jnp.dtype], tuple]

    @property
    def name(self) -> str:
        """The op and the variant, as tables show them."""
        return f"{self.op} ({self.variant})" if self.variant else self.op


def _normal(rng, shape, dtype, mean=0.0, std=1.0):
    return jnp.asarray(mean + std * rng.standard_normal(shape), dtype)


def _x(rng, shape, dtype):
    return (_normal(rng, shape, dtype),)


def _x_and_number(rng, shape, dtype):
    return _normal(rng, shape, dtype), jnp.asarray(rng.uniform(0.1, 1.5), dtype)


def _x_and_key(rng, shape, dtype):
    return _normal(rng, shape, dtype), jax.random.key(int(rng.integers(2**31)))


def _x_and_weight(rng, shape, dtype, out=5):
    return _normal(rng, shape, dtype), _normal(rng, (shape[-1], out), dtype)


def _x_weight_and_bias(rng, shape, dtype):
    x, weight = _x_and_weight(rng, shape, dtype)
    return x, weight, _normal(rng, weight.shape[1:], dtype)


def _x_and_scale(rng, shape, dtype):
    # A mean and a spread of their own, so that no term of a norm's gradient is small.
    return _normal(rng, shape, dtype, 0.7, 2.0), _normal(rng, shape[-1:], dtype, 1.0, 0.5)


def _x_scale_and_bias(rng, shape, dtype):
    return *_x_and_scale(rng, shape, dtype), _normal(rng, shape[-1:], dtype)


def _classes(rng, shape):
    return jnp.asarray(rng.integers(shape[-1], size=shape[:-1]), jnp.int32)


def _distributions(rng, shape, dtype):
    return jnp.asarray(rng.dirichlet(np.ones(shape[-1]), shape[:-1]), dtype)


def _logits_and_classes(rng, shape, dtype):
    return _normal(rng, shape, dtype, 0.0, 2.0), _classes(rng, shape)


def _logits_and_distributions(rng, shape, dtype):
    return _normal(rng, shape, dtype, 0.0, 2.0), _distributions(rng, shape, dtype)


def _logits_classes_and_smoothing(rng, shape, dtype):
    return *_logits_and_classes(rng, shape, dtype), jnp.asarray(0.1, dtype)


def _logits_distributions_and_smoothing(rng, shape, dtype):
    return *_logits_and_distributions(rng, shape, dtype), jnp.asarray(0.1, dtype)


def _probs(rng, shape, dtype):
    # Away from 0, where the loss is infinite: gradients of 1 / p need no probability below 0.01.
    logits = rng.uniform(-2.0, 2.0, shape)
    return jnp.asarray(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), dtype)


def _probs_and_classes(rng, shape, dtype):
    return _probs(rng, shape, dtype), _classes(rng, shape)


def _probs_and_distributions(rng, shape, dtype):
    return _probs(rng, shape, dtype), _distributions(rng, shape, dtype)


def _predictions_and_targets(rng, shape, dtype):
    return _normal(rng, shape, dtype), _normal(rng, shape, dtype, 0.5, 2.0)


def _predictions_targets_and_delta(rng, shape, dtype):
    return *_predictions_and_targets(rng, shape, dtype), jnp.asarray(0.8, dtype)


def _x_and_gate(rng, shape, dtype):
    return _normal(rng, shape, dtype), _normal(rng, shape, dtype, 0.3, 1.5)


def _logits_and_probabilities(rng, shape, dtype):
    return _normal(rng, shape, dtype, 0.0, 2.0), jnp.asarray(rng.uniform(size=shape), dtype)


def _logits_probabilities_and_weight(rng, shape, dtype):
    return *_logits_and_probabilities(rng, shape, dtype), jnp.asarray(2.5, dtype)


def _params(rng, shape, dtype):
    return ({"weight": _normal(rng, shape, dtype), "bias": _normal(rng, shape[-1:], dtype)},)


def _images(rng, shape, dtype):
    # Neither square nor a multiple of the strides below, so that no axis passes for another.
    return _normal(rng, (math.prod(shape[:-1]), 4, 3, shape[-1]), dtype)


def _image(rng, shape, dtype):
    return (_images(rng, shape, dtype),)


def _image_without_ties(rng, shape, dtype):
    # Where numbers tie in half precision, the derivative of their maximum is a convention.
    images = np.zeros((math.prod(shape[:-1]), shape[-1], 12))
    ranks = rng.permuted(images + np.arange(12), axis=-1) + rng.uniform(-0.3, 0.3, images.shape)
    x = (ranks / 4.0 - 1.5).swapaxes(1, 2).reshape(images.shape[0], 4, 3, shape[-1])
    return (jnp.asarray(x, dtype),)


def _images_and_kernel(rng, shape, dtype, out=5):
    return _images(rng, shape, dtype), _normal(rng, (3, 2, shape[-1], out), dtype)


def _images_and_kernel_3x3(rng, shape, dtype, out=5):
    return _images(rng, shape, dtype), _normal(rng, (3, 3, shape[-1], out), dtype)


def _images_kernel_and_bias(rng, shape, dtype):
    x, kernel = _images_and_kernel(rng, shape, dtype)
    return x, kernel, _normal(rng, kernel.shape[3:], dtype)


def _images_and_depthwise_kernel(rng, shape, dtype):
    return _images(rng, shape, dtype), _normal(rng, (3, 2, 1, 2 * shape[-1]), dtype)


def _table_and_ids(rng, shape, dtype, rows=6):
    ids = rng.integers(rows, size=shape[:-1])
    return _normal(rng, (rows, shape[-1]), dtype), jnp.asarray(ids, jnp.int32)


def _heads_and_positions(rng, shape, dtype, length=3, heads=2):
    positions = jnp.asarray(rng.integers(20, size=(*shape[:-1], length)), jnp.int32)
    return _normal(rng, (*shape[:-1], length, heads, 2 * shape[-1]), dtype), positions


CATALOG: tuple[Entry, ...] = (
    Entry("linear", "", ops.linear, _x_weight_and_bias),
    Entry("linear", "no bias", ops.linear, _x_and_weight),
    Entry("conv2d", "", ops.conv2d, _images_kernel_and_bias),
    Entry(
        "conv2d", "3x3", lambda x, kernel: ops.conv2d(x, kernel, padding=1), _images_and_kernel_3x3
    ),
    Entry(
        "conv2d",
        "stride, dilation",
        lambda x, kernel: ops.conv2d(
            x, kernel, stride=(2, 1), dilation=(1, 2), padding=((2, 0), (1, 3))
        ),
        _images_and_kernel,
    ),
    Entry(
        "conv2d",
        "depthwise",
        lambda x, kernel: ops.conv2d(x, kernel, stride=2, padding=1, groups=jnp.shape(x)[-1]),
        _images_and_depthwise_kernel,
    ),
    Entry(
        "max_pool2d", "", lambda x: ops.max_pool2d(x, 3, stride=2, padding=1), _image_without_ties
    ),
    Entry("avg_pool2d", "", lambda x: ops.avg_pool2d(x, 3, stride=2, padding=1), _image),
    Entry("global_avg_pool", "", ops.global_avg_pool, _image),
    Entry("relu", "", ops.relu, _x),
    Entry("leaky_relu", "", ops.leaky_relu, _x_and_number),
    Entry("elu", "", ops.elu, _x_and_number),
    Entry("gelu", "", lambda x: ops.gelu(x, approximate=False), _x),
    Entry("gelu", "approximate", lambda x: ops.gelu(x, approximate=True), _x),
    Entry("silu", "", ops.silu, _x),
    Entry("tanh", "", ops.tanh, _x),
    Entry("sigmoid", "", ops.sigmoid, _x),
    Entry("softplus", "", ops.softplus, _x),
    Entry("swiglu", "", ops.swiglu, _x_and_gate),
    Entry("geglu", "", ops.geglu, _x_and_gate),
    Entry("softmax", "", ops.softmax, _x),
    Entry("softmax", "axis 0", lambda x: ops.softmax(x, axis=0), _x),
    Entry("log_softmax", "", ops.log_softmax, _x),
    Entry("log_softmax", "axis 0", lambda x: ops.log_softmax(x, axis=0), _x),
    Entry("cross_entropy", "", ops.cross_entropy, _probs_and_classes),
    Entry("cross_entropy", "distributions", ops.cross_entropy, _probs_and_distributions),
    Entry("softmax_cross_entropy", "", ops.softmax_cross_entropy, _logits_and_classes),
    Entry(
        "softmax_cross_entropy",
        "smoothing",
        lambda z, labels, s: ops.softmax_cross_entropy(z, labels, label_smoothing=s),
        _logits_classes_and_smoothing,
    ),
    Entry(
        "softmax_cross_entropy",
        "distributions",
        ops.softmax_cross_entropy,
        _logits_and_distributions,
    ),
    Entry(
        "softmax_cross_entropy",
        "distributions, smoothing",
        lambda z, labels, s: ops.softmax_cross_entropy(z, labels, label_smoothing=s),
        _logits_distributions_and_smoothing,
    ),
    Entry("squared_error", "", ops.squared_error, _predictions_and_targets),
    Entry("huber", "", ops.huber, _predictions_targets_and_delta),
    Entry("sigmoid_cross_entropy", "", ops.sigmoid_cross_entropy, _logits_and_probabilities),
    Entry(
        "sigmoid_cross_entropy",
        "weight",
        lambda z, labels, w: ops.sigmoid_cross_entropy(z, labels, positive_weight=w),
        _logits_probabilities_and_weight,
    ),
    Entry("l2_penalty", "", ops.l2_penalty, _params),
    Entry("batch_norm", "", ops.batch_norm, _x_scale_and_bias),
    Entry("layer_norm", "", ops.layer_norm, _x_scale_and_bias),
    Entry("rms_norm", "", ops.rms_norm, _x_and_scale),
    Entry("embedding", "", ops.embedding, _table_and_ids),
    Entry("rotary", "", ops.rotary, _heads_and_positions),
    Entry("dropout", "", lambda x, key: ops.dropout(x, key, 0.3), _x_and_key),
)
