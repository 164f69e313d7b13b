"""Layers: functions of parameters and an input, built from the ops.

A layer is a `Layer`, two pure functions over pytrees: `init` draws its parameters and `apply`
computes with them. Parameters and state are plain dicts of arrays (`serial` makes tuples of them),
float32, empty where a layer has none. State is what changes without a gradient: the running
statistics of batch norm.

The numbers of a layer (a dropout rate, a slope) may be traced values. A layer is a closure that
costs nothing to build, so a function that is to be vmapped over rates builds its net inside.

Long: a layer for each op, a few lines of code and its docstring each.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets import ops
from jaxnets.initializers import Initializer, he
from jaxnets.ops._arguments import (
    before_last,
    check_fraction,
    flag,
    floating_scalar,
    known_number,
    one_dtype,
    positive,
    whole_number,
    widened,
)
from jaxnets.ops._windows import Padding, pair
from jaxnets.ops.activations import approximates

Params = Any  # A pytree of arrays.
State = Any  # Likewise.
Shape = tuple[int, ...]


class Layer(NamedTuple):
    """A layer, or a whole net.

    Attributes:
        name: what `summary` calls it.
        init: `init(key, input_shape) -> (params, state, output_shape)`; shapes are those of one
            example, without the batch axis.
        apply: `apply(params, state, x, *, key=None, training=False) -> (y, state)` with x
            [batch, *input_shape] and y [batch, *output_shape]. The key is needed by dropout alone,
            and only when training.
        parts: the layers that this one is made of.
    """

    name: str
    init: Callable[[jax.Array, Shape], tuple[Params, State, Shape]]
    apply: Callable[..., tuple[jax.Array, State]]
    parts: tuple[Any, ...] = ()  # Of layers: a tuple's own name means nothing to what reads types.


def Linear(features: int, *, initializer: Initializer = he, use_bias: bool = True) -> Layer:
    """Linear map of the last axis, [..., in] to [..., features], by `ops.linear`.

    Args:
        features: the number of outputs, at least 1.
        initializer: draws the weight [in, features] and the bias [features].
        use_bias: whether there is a bias.

    Returns:
        A layer with parameters {"weight", "bias"} or {"weight"}.

    Raises:
        TypeError: features is not a whole number, the initializer is no function, or use_bias is
            not a truth value.
        ValueError: there are no features; or, from `init`, the input has no axis or an empty one.
    """
    features = _checked_weights("Linear", features, initializer)
    use_bias = flag("Linear: use_bias", use_bias)

    def init(key, input_shape):
        _need_features(f"Linear({features})", input_shape)
        weight, bias = initializer(key, (input_shape[-1], features), jnp.float32)
        params = {"weight": weight, "bias": bias} if use_bias else {"weight": weight}
        return params, {}, (*input_shape[:-1], features)

    def apply(params, state, x, *, key=None, training=False):
        return ops.linear(x, params["weight"], params.get("bias")), state

    return Layer("Linear", init, apply)


def Embedding(rows: int, features: int) -> Layer:
    """Rows of a table, looked up by number, [...] to [..., features], by `ops.embedding`.

    Args:
        rows: how many different ids there are, at least 1; ids are integers in [0, rows).
        features: the size of a row, at least 1.

    Returns:
        A layer with parameters {"weight"}, the table [rows, features], drawn from the standard
        normal distribution, as PyTorch does.

    Raises:
        TypeError: a number is not a whole one.
        ValueError: there are no rows or no features.
    """
    rows = whole_number("Embedding: rows", rows)
    features = whole_number("Embedding: features", features)
    if rows < 1 or features < 1:
        raise ValueError(
            f"Embedding: rows and features must be at least 1; got {rows} and {features}"
        )

    def init(key, input_shape):
        params = {"weight": jax.random.normal(key, (rows, features), jnp.float32)}
        return params, {}, (*input_shape, features)

    def apply(params, state, x, *, key=None, training=False):
        return ops.embedding(params["weight"], x), state

    return Layer("Embedding", init, apply)


def Conv2d(
    features: int,
    window: int | Sequence[int] = 3,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    initializer: Initializer = he,
    use_bias: bool = True,
) -> Layer:
    """Convolution, [rows, columns, channels] to [rows, columns, features], by `ops.conv2d`.

    Args:
        features: the number of outputs at a position, at least 1.
        window: the kernel's rows and columns; a number for both.
        stride: as of `ops.conv2d`, like the next three.
        padding: likewise.
        dilation: likewise.
        groups: likewise; channels and features are divisible by it.
        initializer: draws the kernel [rows, columns, channels / groups, features] and the bias.
        use_bias: whether there is a bias.

    Returns:
        A layer with parameters {"weight", "bias"} or {"weight"}: the kernel is called as the weight
        of a linear layer is, so that L2 regularisation covers it.

    Raises:
        TypeError: a number is not a whole one, the initializer is no function, or use_bias is not a
            truth value.
        ValueError: there are no features; or, from `init`, the input is not such an image or the
            op does not take it.
    """
    features = _checked_weights("Conv2d", features, initializer)
    groups = whole_number("Conv2d: groups", groups)
    use_bias = flag("Conv2d: use_bias", use_bias)
    size = pair("Conv2d", "window", window)

    def convolve(x, weight, bias):
        return ops.conv2d(
            x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
        )

    def init(key, input_shape):
        _need_image(f"Conv2d({features})", input_shape)
        # The op refuses fewer groups than 1.
        shape = (*size, max(input_shape[2] // max(groups, 1), 1), features)
        weight, bias = initializer(key, shape, jnp.float32)
        params = {"weight": weight, "bias": bias} if use_bias else {"weight": weight}
        return params, {}, _output_shape(lambda x: convolve(x, weight, bias), input_shape)

    def apply(params, state, x, *, key=None, training=False):
        return convolve(x, params["weight"], params.get("bias")), state

    return Layer("Conv2d", init, apply)


def _checked_weights(name: str, features: int, initializer: Initializer) -> int:
    """Return the number of features, at least 1; TypeError for what cannot draw weights."""
    features = whole_number(f"{name}: features", features)
    if features < 1:
        raise ValueError(f"{name}: features must be at least 1; got {features}")
    if not callable(initializer):
        raise TypeError(
            f"{name}: initializer must be a function, such as initializers.he; got {initializer!r}"
        )
    return features


def _need_image(name: str, input_shape: Shape) -> None:
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"{name}: the input must be an image, [rows, columns, channels]; "
            f"got {list(input_shape)}"
        )


def _output_shape(function: Callable[[jax.Array], jax.Array], input_shape: Shape) -> Shape:
    """The shape that `function` of a batch gives an example, without computing anything."""
    batch = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(function, batch).shape[1:]


def _pooling(name: str, function: Callable[[jax.Array], jax.Array]) -> Layer:
    """A layer that applies `function` to images, and has no parameters."""

    def init(key, input_shape):
        _need_image(name, input_shape)
        return {}, {}, _output_shape(function, input_shape)

    def apply(params, state, x, *, key=None, training=False):
        return function(x), state

    return Layer(name, init, apply)


def MaxPool2d(
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Maximum over windows, `ops.max_pool2d`."""
    return _pooling(
        "MaxPool2d", lambda x: ops.max_pool2d(x, window, stride=stride, padding=padding)
    )


def AvgPool2d(
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Mean over windows, in which padding does not count, `ops.avg_pool2d`."""
    return _pooling(
        "AvgPool2d", lambda x: ops.avg_pool2d(x, window, stride=stride, padding=padding)
    )


def GlobalAvgPool() -> Layer:
    """Mean over the image, [rows, columns, channels] to [channels], `ops.global_avg_pool`."""
    return _pooling("GlobalAvgPool", ops.global_avg_pool)


def _need_features(name: str, input_shape: Shape) -> None:
    if not input_shape or input_shape[-1] < 1:
        raise ValueError(
            f"{name}: the input must have features on its last axis; got {list(input_shape)}"
        )


def _elementwise(name: str, function: Callable[[jax.Array], jax.Array]) -> Layer:
    """A layer that applies `function`, which keeps the shape, and has no parameters."""

    def init(key, input_shape):
        return {}, {}, input_shape

    def apply(params, state, x, *, key=None, training=False):
        return function(x), state

    return Layer(name, init, apply)


def Identity() -> Layer:
    """The input as it is."""
    return _elementwise("Identity", lambda x: x)


def Relu() -> Layer:
    """Rectified linear unit, `ops.relu`."""
    return _elementwise("Relu", ops.relu)


def LeakyRelu(negative_slope: ArrayLike = 0.01) -> Layer:
    """Leaky rectified linear unit with a slope that may be traced, `ops.leaky_relu`."""
    known_number("LeakyRelu: negative_slope", negative_slope)
    return _elementwise("LeakyRelu", lambda x: ops.leaky_relu(x, negative_slope))


def Elu(alpha: ArrayLike = 1.0) -> Layer:
    """Exponential linear unit with an alpha that may be traced, `ops.elu`."""
    known_number("Elu: alpha", alpha)
    return _elementwise("Elu", lambda x: ops.elu(x, alpha))


def Gelu(*, approximate: bool | str = False) -> Layer:
    """Gaussian error linear unit, `ops.gelu`."""
    approximate = approximates(approximate)
    return _elementwise("Gelu", lambda x: ops.gelu(x, approximate=approximate))


def Silu() -> Layer:
    """Sigmoid linear unit, `ops.silu`."""
    return _elementwise("Silu", ops.silu)


def Tanh() -> Layer:
    """Hyperbolic tangent, `ops.tanh`."""
    return _elementwise("Tanh", ops.tanh)


def Sigmoid() -> Layer:
    """Logistic sigmoid, `ops.sigmoid`."""
    return _elementwise("Sigmoid", ops.sigmoid)


def Softplus() -> Layer:
    """Softplus, `ops.softplus`."""
    return _elementwise("Softplus", ops.softplus)


def Flatten() -> Layer:
    """All axes of an example as one, [batch, ...] to [batch, features]."""

    def init(key, input_shape):
        return {}, {}, (math.prod(input_shape),)

    def apply(params, state, x, *, key=None, training=False):
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), state

    return Layer("Flatten", init, apply)


def Dropout(rate: ArrayLike) -> Layer:
    """Inverted dropout when training, `ops.dropout`; the identity otherwise.

    Args:
        rate: scalar in [0, 1), the probability to drop; it may be traced.

    Returns:
        A layer without parameters, whose `apply` raises a ValueError when training without a key.

    Raises:
        TypeError: rate is not a number.
        ValueError: a concrete rate lies outside [0, 1).
    """
    check_fraction("Dropout: rate", rate, one=False)

    def init(key, input_shape):
        return {}, {}, input_shape

    def apply(params, state, x, *, key=None, training=False):
        if not flag("Dropout: training", training):
            return x, state
        if key is None:
            raise ValueError("Dropout: apply(..., training=True) needs a key; got None")
        return ops.dropout(x, key, rate), state

    return Layer("Dropout", init, apply)


def BatchNorm(momentum: ArrayLike = 0.1, eps: float = 1e-5) -> Layer:
    """Batch normalisation over all axes but the last, `ops.batch_norm`.

    Training uses the statistics of the batch, and moves the running ones towards them:
    running <- (1 - momentum) running + momentum batch, where the batch's variance is the unbiased
    one (divided by N - 1), as in PyTorch. An empty batch leaves them as they are. Inference uses
    the running ones.

    Args:
        momentum: the weight of the newest batch, in [0, 1]; other libraries call 1 - momentum so.
            It may be traced.
        eps: positive; added to the variance.

    Returns:
        A layer with parameters {"scale", "bias"} and state {"mean", "variance"}, all [features].

    Raises:
        TypeError: momentum or eps is not a number, or eps is traced.
        ValueError: a concrete momentum lies outside [0, 1], or eps is not positive.
    """
    check_fraction("BatchNorm: momentum", momentum)
    eps = positive("BatchNorm: eps", eps)

    def init(key, input_shape):
        _need_features("BatchNorm", input_shape)
        zeros, ones = _zeros_and_ones(input_shape)
        return {"scale": ones, "bias": zeros}, {"mean": zeros, "variance": ones}, input_shape

    def apply(params, state, x, *, key=None, training=False):
        scale, bias = params["scale"], params["bias"]
        if not flag("BatchNorm: training", training):
            wide_x, *vectors = widened(x, state["mean"], state["variance"], scale, bias)
            mean, variance, scale, bias = (before_last(vector, x.ndim) for vector in vectors)
            y = (wide_x - mean) * jax.lax.rsqrt(variance + eps) * scale + bias
            return y.astype(x.dtype), state
        y, mean, variance = ops.batch_norm(x, scale, bias, eps=eps)
        count = math.prod(x.shape[:-1])
        if count == 0:
            return y, state
        batch = {"mean": mean, "variance": variance * (count / max(count - 1, 1))}

        def moved(old, new):
            weight = floating_scalar("BatchNorm: momentum", momentum, old.dtype)
            return old + weight * (new.astype(old.dtype) - old)

        return y, jax.tree.map(moved, state, batch)

    return Layer("BatchNorm", init, apply)


def _zeros_and_ones(input_shape: Shape) -> tuple[jax.Array, jax.Array]:
    features = input_shape[-1:]
    return jnp.zeros(features, jnp.float32), jnp.ones(features, jnp.float32)


def LayerNorm(eps: float = 1e-5) -> Layer:
    """Layer normalisation over the last axis, `ops.layer_norm`; parameters {"scale", "bias"}."""
    eps = positive("LayerNorm: eps", eps)

    def init(key, input_shape):
        _need_features("LayerNorm", input_shape)
        zeros, ones = _zeros_and_ones(input_shape)
        return {"scale": ones, "bias": zeros}, {}, input_shape

    def apply(params, state, x, *, key=None, training=False):
        return ops.layer_norm(x, params["scale"], params["bias"], eps=eps), state

    return Layer("LayerNorm", init, apply)


def RMSNorm(eps: float = 1e-5) -> Layer:
    """Root mean square normalisation over the last axis, `ops.rms_norm`; parameters {"scale"}."""
    eps = positive("RMSNorm: eps", eps)

    def init(key, input_shape):
        _need_features("RMSNorm", input_shape)
        return {"scale": _zeros_and_ones(input_shape)[1]}, {}, input_shape

    def apply(params, state, x, *, key=None, training=False):
        return ops.rms_norm(x, params["scale"], eps=eps), state

    return Layer("RMSNorm", init, apply)


# --- layers made of layers -----------------------------------------------------------------------


def serial(*layers: Layer) -> Layer:
    """One layer after the other; parameters and state are tuples of the layers' own.

    Layer i draws from `jax.random.fold_in(key, i)`, so that what follows it changes nothing for it.
    """

    def init(key, input_shape):
        params, states, shape = [], [], input_shape
        for i, layer in enumerate(layers):
            layer_params, layer_state, shape = layer.init(jax.random.fold_in(key, i), shape)
            params.append(layer_params)
            states.append(layer_state)
        return tuple(params), tuple(states), shape

    def apply(params, state, x, *, key=None, training=False):
        states = []
        for i, (layer, own_params, own_state) in enumerate(zip(layers, params, state, strict=True)):
            layer_key = None if key is None else jax.random.fold_in(key, i)
            x, own_state = layer.apply(own_params, own_state, x, key=layer_key, training=training)
            states.append(own_state)
        return x, tuple(states)

    return Layer("serial", init, apply, layers)


def residual(layer: Layer) -> Layer:
    """The layer's output added to its input, y = x + layer(x).

    Returns:
        A layer with the parameters and state of the one inside.

    Source: He et al., Deep residual learning for image recognition (2016), equation 1.
    """

    def init(key, input_shape):
        params, state, output_shape = layer.init(key, input_shape)
        if output_shape != input_shape:
            raise ValueError(
                f"residual: the layer inside must keep the shape; {layer.name} takes "
                f"{list(input_shape)} to {list(output_shape)}"
            )
        return params, state, output_shape

    def apply(params, state, x, *, key=None, training=False):
        y, state = layer.apply(params, state, x, key=key, training=training)
        x, y = one_dtype(x=x, y=y)
        return x + y, state

    return Layer("residual", init, apply, (layer,))


def adapted(name: str, init: Callable[..., Any], apply: Callable[..., Any]) -> Layer:
    """Return a layer made of a module of another library, such as Flax or Equinox.

    Args:
        name: what `summary` calls it.
        init: `init(key, x) -> (params, state)`, with x [1, *input_shape], float32 zeros; params is
            a pytree of real arrays, state one of any arrays, empty where there is none.
        apply: `apply(params, state, x, key, training) -> (y, state)`, with x [batch, *input_shape];
            the key is None where it is not training.

    Returns:
        The layer; its output shape is that of y.
    """

    def init_layer(key, input_shape):
        x = jnp.zeros((1, *input_shape), jnp.float32)
        params, state = init(key, x)
        y = jax.eval_shape(lambda *of: apply(*of, None, False)[0], params, state, x)
        return params, state, y.shape[1:]

    def apply_layer(params, state, x, *, key=None, training=False):
        return apply(params, state, x, key, training)

    return Layer(name, init_layer, apply_layer)


# --- what a net consists of ----------------------------------------------------------------------


def weights(params: Params) -> list[jax.Array]:
    """Return the leaves of `params` that are called "weight": neither biases nor scales."""
    leaves, _ = jax.tree.flatten_with_path(params)
    return [leaf for path, leaf in leaves if getattr(path[-1], "key", None) == "weight"]


def summary(layer: Layer, input_shape: Shape) -> str:
    """Describe a net as a table of its layers, the shapes of their outputs and their parameters.

    Args:
        layer: the net.
        input_shape: the shape of one example, without the batch axis.

    Returns:
        Lines of text. Nothing is allocated: the shapes come from `jax.eval_shape`.
    """
    rows = [("layer", "output", "parameters"), ("Input", str(list(input_shape)), "")]
    for name, shape, count in _rows(layer, tuple(input_shape), indent=""):
        rows.append((name, str(list(shape)), f"{count:,}" if count else ""))
    rows.append(("total", "", f"{_init_shapes(layer, input_shape)[1]:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}".rstrip()
        for name, shape, count in rows
    ]
    rule = "-" * (sum(widths) + 4)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _rows(layer: Layer, shape: Shape, indent: str) -> Iterator[tuple[str, Shape, int]]:
    """Name, output shape and number of parameters of each layer; `serial` is not shown itself."""
    if layer.name != "serial":
        output_shape, count = _init_shapes(layer, shape)
        yield indent + layer.name, output_shape, 0 if layer.parts else count
        indent += "  "
    for part in layer.parts:
        yield from _rows(part, shape, indent)
        shape, _ = _init_shapes(part, shape)


def _init_shapes(layer: Layer, input_shape: Shape) -> tuple[Shape, int]:
    """The output shape, and the number of parameters, without computing any."""
    output_shape: Shape = ()

    def params(key):
        nonlocal output_shape
        layer_params, _, output_shape = layer.init(key, input_shape)
        return layer_params

    leaves = jax.tree.leaves(jax.eval_shape(params, jax.random.key(0)))
    return output_shape, sum(math.prod(leaf.shape) for leaf in leaves)
