"""Ops: pure functions on arrays, each with its gradient written out by hand beside it."""

from jaxnets.ops.activations import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh
from jaxnets.ops.dropout import dropout
from jaxnets.ops.linear import linear
from jaxnets.ops.losses import cross_entropy, l2_penalty, softmax_cross_entropy
from jaxnets.ops.norm import batch_norm, layer_norm, rms_norm
from jaxnets.ops.softmax import log_softmax, softmax

__all__ = [
    "batch_norm",
    "cross_entropy",
    "dropout",
    "elu",
    "gelu",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "tanh",
]
