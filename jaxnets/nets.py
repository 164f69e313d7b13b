"""The networks, as functions of their sizes."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.typing import ArrayLike

from jaxnets import initializers, layers
from jaxnets.initializers import Initializer
from jaxnets.layers import Layer, serial
from jaxnets.ops._arguments import whole_number

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
        TypeError: a number is not one, or a width not a whole one.
        ValueError: there are no widths, one is below 1, or a name is unknown.
    """
    widths = [whole_number("mlp: a width", width) for width in widths]
    if not widths or min(widths) < 1:
        raise ValueError(f"mlp: widths must be one or more numbers from 1 on; got {list(widths)}")
    activate = _activation("mlp", activation, negative_slope, alpha)
    if norm is not None and not (isinstance(norm, str) and norm in NORMS):
        raise ValueError(f"mlp: norm must be one of {[None, *NORMS]}; got {norm!r}")
    drops = not (isinstance(dropout, int | float) and dropout == 0)

    def hidden(width: int) -> Layer:
        # A block of its own: what a layer draws at random does not depend on whether the blocks
        # before it have a norm or dropout.
        parts = [layers.Linear(width, initializer=initializer)]
        if norm is not None:
            parts.append(NORMS[norm]())
        parts.append(activate)
        if drops:
            parts.append(layers.Dropout(dropout))
        return serial(*parts)

    *hidden_widths, classes = widths
    output = layers.Linear(classes, initializer=initializer)
    return serial(layers.Flatten(), *map(hidden, hidden_widths), output)


def convnet(
    stages: Sequence[Sequence[int]] = ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    *,
    classes: int = 10,
    activation: str = "relu",
    initializer: Initializer = initializers.pytorch,
    negative_slope: ArrayLike = 0.02,
    alpha: ArrayLike = 1.0,
) -> Layer:
    """Convolutional network of the VGG kind, by default that of the UvA course in 2018 and 2019.

    A stage is convolutions 3x3, each with batch norm and an activation, then a maximum over windows
    3x3 with stride 2, which halves rows and columns. The mean over what is left of the image (one
    position of the 32x32 of CIFAR-10) goes through a linear layer.

    Args:
        stages: the number of features of each convolution of each stage.
        classes: the number of outputs.
        activation: what follows each batch norm; "relu" in 2018, "leaky_relu" in 2019.
        initializer: draws the weights and biases.
        negative_slope: the slope of "leaky_relu"; it may be traced.
        alpha: the alpha of "elu"; it may be traced.

    Returns:
        A layer from images [batch, rows, columns, channels] to logits [batch, classes].

    Raises:
        ValueError: there are no stages, a stage is empty, a number is below 1, or the activation is
            unknown.
    """
    _need_stages("convnet", stages, classes)
    activate = _activation("convnet", activation, negative_slope, alpha)

    def block(features: int) -> Layer:
        return serial(
            layers.Conv2d(features, initializer=initializer), layers.BatchNorm(), activate
        )

    return serial(
        *(serial(*map(block, stage), _halved()) for stage in stages),
        layers.GlobalAvgPool(),
        layers.Linear(classes, initializer=initializer),
    )


def small_convnet(**options: Any) -> Layer:
    """`convnet` with two stages of one convolution, for images as small as 8x8 digits."""
    return convnet(((32,), (64,)), **options)


def preact_convnet(
    stages: Sequence[tuple[int, int]] = ((64, 1), (128, 2), (256, 2), (512, 2), (512, 2)),
    *,
    classes: int = 10,
    activation: str = "relu",
    initializer: Initializer = initializers.pytorch,
    negative_slope: ArrayLike = 0.02,
    alpha: ArrayLike = 1.0,
) -> Layer:
    """Residual network with pre-activation, by default that of the UvA course in 2020.

    A convolution 3x3 leads to the features of the first stage. A stage is residual blocks
    x + conv3x3(activation(batch norm(x))), a convolution 1x1 to the features of the next stage
    where these are others, and a maximum over windows 3x3 with stride 2. Batch norm, the
    activation and the mean over what is left of the image lead to a linear layer.

    Args:
        stages: the number of features and of residual blocks of each stage.
        classes: as of `convnet`, like the rest.
        activation: likewise.
        initializer: likewise.
        negative_slope: likewise.
        alpha: likewise.

    Returns:
        A layer from images [batch, rows, columns, channels] to logits [batch, classes].

    Raises:
        ValueError: there are no stages, a number is below 1, or the activation is unknown.

    Source: He et al., Identity mappings in deep residual networks (2016), figure 1b, with one
    convolution a block.
    """
    _need_stages("preact_convnet", stages, classes)
    activate = _activation("preact_convnet", activation, negative_slope, alpha)

    def conv(features: int, window: int) -> Layer:
        return layers.Conv2d(features, window, initializer=initializer)

    def stage(features: int, blocks: int, following: int) -> Layer:
        block = layers.residual(serial(layers.BatchNorm(), activate, conv(features, 3)))
        widened = [] if following == features else [conv(following, 1)]
        return serial(*[block] * blocks, *widened, _halved())

    features = [number for number, _ in stages]
    return serial(
        conv(features[0], 3),
        *(
            stage(number, blocks, following)
            for (number, blocks), following in zip(
                stages, [*features[1:], features[-1]], strict=True
            )
        ),
        layers.BatchNorm(),
        activate,
        layers.GlobalAvgPool(),
        layers.Linear(classes, initializer=initializer),
    )


def _halved() -> Layer:
    return layers.MaxPool2d(3, stride=2, padding=1)


def _need_stages(name: str, stages: Sequence[Sequence[int]], classes: int) -> None:
    numbers = [[whole_number(f"{name}: a number of stages", n) for n in stage] for stage in stages]
    if not numbers or not all(numbers) or min(map(min, numbers)) < 1:
        raise ValueError(
            f"{name}: stages must be one or more of one or more numbers from 1 on; got {stages}"
        )
    if whole_number(f"{name}: classes", classes) < 1:
        raise ValueError(f"{name}: classes must be at least 1; got {classes}")


def _activation(name: str, activation: str, negative_slope: ArrayLike, alpha: ArrayLike) -> Layer:
    activations = {
        "relu": layers.Relu(),
        "leaky_relu": layers.LeakyRelu(negative_slope),
        "elu": layers.Elu(alpha),
        "gelu": layers.Gelu(),
        "silu": layers.Silu(),
        "tanh": layers.Tanh(),
        "sigmoid": layers.Sigmoid(),
        "softplus": layers.Softplus(),
        "identity": layers.Identity(),
    }
    if not isinstance(activation, str) or activation not in activations:
        raise ValueError(
            f"{name}: activation must be one of {list(activations)}; got {activation!r}"
        )
    return activations[activation]
