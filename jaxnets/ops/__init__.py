"""Ops: pure functions on arrays, each with its gradient written out by hand beside it."""

from jaxnets.ops.activations import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh
from jaxnets.ops.binary import sigmoid_cross_entropy
from jaxnets.ops.conv import conv2d
from jaxnets.ops.dropout import dropout
from jaxnets.ops.embedding import embedding
from jaxnets.ops.gated import geglu, swiglu
from jaxnets.ops.linear import linear
from jaxnets.ops.losses import cross_entropy, l2_penalty, softmax_cross_entropy
from jaxnets.ops.norm import batch_norm, layer_norm, rms_norm
from jaxnets.ops.pool import avg_pool2d, global_avg_pool, max_pool2d
from jaxnets.ops.regression import huber, squared_error
from jaxnets.ops.rotary import rotary
from jaxnets.ops.softmax import log_softmax, softmax

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "geglu",
    "gelu",
    "global_avg_pool",
    "huber",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "relu",
    "rms_norm",
    "rotary",
    "sigmoid",
    "sigmoid_cross_entropy",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "squared_error",
    "swiglu",
    "tanh",
]
