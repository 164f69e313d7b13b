"""The networks, as functions of their sizes."""

from collections.abc import Callable, Sequence

from jax.typing import ArrayLike

from jaxnets import initializers, layers
from jaxnets.initializers import Initializer
from jaxnets.layers import Layer, serial

NORMS: dict[str, Callable[[], Layer]] = {
    "batch": layers.BatchNorm,
    "layer": layers.LayerNorm,
    "rms": layers.RMSNorm,
}


def mlp(
    widths: Sequence[int],
    *,
    activation: str = "relu",
    norm: str | None = None,
    dropout: ArrayLike = 0.0,
    initializer: Initializer = initializers.he,
    negative_slope: ArrayLike = 0.01,
    alpha: ArrayLike = 1.0,
) -> Layer:
    """Multilayer perceptron.

    Args:
        widths: the number of outputs of each linear layer; the last is the number of classes.
        activation: what follows each linear layer but the last.
        norm: what stands between a hidden linear layer and its activation, if anything.
        dropout: the probability to drop an activation when training; it may be traced. The number
            0 leaves the layer out.
        initializer: draws the weights and biases.
        negative_slope: the slope of "leaky_relu"; it may be traced.
        alpha: the alpha of "elu"; it may be traced.

    Returns:
        A layer from images [batch, ...] to logits [batch, widths[-1]].

    Raises:
        ValueError: there are no widths, one is below 1, or a name is unknown.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"mlp: widths must be one or more numbers from 1 on; got {list(widths)}")
    activations = {
        "relu": layers.Relu(),
        "leaky_relu": layers.LeakyRelu(negative_slope),
        "elu": layers.Elu(alpha),
        "gelu": layers.Gelu(),
        "silu": layers.Silu(),
        "tanh": layers.Tanh(),
        "sigmoid": layers.Sigmoid(),
        "softplus": layers.Softplus(),
    }
    if activation not in activations:
        raise ValueError(f"mlp: activation must be one of {list(activations)}; got {activation!r}")
    if norm is not None and norm not in NORMS:
        raise ValueError(f"mlp: norm must be one of {[None, *NORMS]}; got {norm!r}")
    drops = not (isinstance(dropout, int | float) and dropout == 0)

    def hidden(width: int) -> Layer:
        # A block of its own: what a layer draws at random does not depend on whether the blocks
        # before it have a norm or dropout.
        parts = [layers.Linear(width, initializer=initializer)]
        if norm is not None:
            parts.append(NORMS[norm]())
        parts.append(activations[activation])
        if drops:
            parts.append(layers.Dropout(dropout))
        return serial(*parts)

    *hidden_widths, classes = widths
    output = layers.Linear(classes, initializer=initializer)
    return serial(layers.Flatten(), *map(hidden, hidden_widths), output)
