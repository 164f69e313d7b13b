"""How layers, networks and initialisers are called, and where their arguments end."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import initializers, layers, nets

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("function", "positional"),
    [
        (layers.Linear, ["features"]),
        (layers.Conv2d, ["features", "window"]),
        (layers.MaxPool2d, ["window"]),
        (layers.AvgPool2d, ["window"]),
        (layers.Gelu, []),
        (layers.BatchNorm, ["momentum", "eps"]),
        (nets.mlp, ["widths"]),
        (nets.convnet, ["stages"]),
        (nets.preact_convnet, ["stages"]),
    ],
)
def test_options_are_given_by_name(function, positional):
    """What comes first may be given by name, too."""
    kinds = {name: of.kind for name, of in inspect.signature(function).parameters.items()}
    for name, kind in kinds.items():
        first = name in positional
        assert kind is (
            inspect.Parameter.POSITIONAL_OR_KEYWORD if first else inspect.Parameter.KEYWORD_ONLY
        ), name


EVERY = [
    layers.Linear(2), layers.Conv2d(2), layers.MaxPool2d(2), layers.AvgPool2d(2),
    layers.GlobalAvgPool(), layers.Identity(), layers.Relu(), layers.LeakyRelu(), layers.Elu(),
    layers.Gelu(), layers.Silu(), layers.Tanh(), layers.Sigmoid(), layers.Softplus(),
    layers.Flatten(), layers.Dropout(0.5), layers.BatchNorm(), layers.LayerNorm(),
    layers.RMSNorm(), layers.serial(), layers.residual(layers.Relu()),
    layers.Embedding(3, 2), layers.adapted("other", None, None),
]  # fmt: skip


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: layer.name)
def test_every_layer_is_applied_alike(layer):
    """Without a word more it evaluates; the key and the mode are given by name."""
    parameters = inspect.signature(layer.apply).parameters
    assert list(parameters) == ["params", "state", "x", "key", "training"]
    named = [name for name, of in parameters.items() if of.kind is of.KEYWORD_ONLY]
    assert named == ["key", "training"]
    assert parameters["key"].default is None
    assert parameters["training"].default is False


def shapes(net, input_shape):
    """The shapes of the weights of a net, without computing any."""
    params = jax.eval_shape(lambda key: net.init(key, input_shape)[0], KEY)
    return [leaf.shape for leaf in layers.weights(params)]


def test_the_small_network_has_32_and_64_features():
    expected = [(3, 3, 1, 32), (3, 3, 32, 64), (64, 5)]
    assert shapes(nets.small_convnet(classes=5), (8, 8, 1)) == expected


def test_ten_classes_are_the_default():
    for make, stages in ((nets.convnet, ((4,),)), (nets.preact_convnet, ((4, 1),))):
        assert shapes(make(stages), (8, 8, 1))[-1] == (4, 10)
        assert shapes(make(stages, classes=1), (8, 8, 1))[-1] == (4, 1)


def test_a_network_may_be_as_small_as_one_of_each():
    assert shapes(nets.mlp((1,)), (1,)) == [(1, 1)]
    assert shapes(nets.convnet(((1,),), classes=1), (2, 2, 1)) == [(3, 3, 1, 1), (1, 1)]
    assert layers.Linear(1).init(KEY, (1,))[2] == (1,)


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        (((4, 0),), r"^preact_convnet: stages must be one or more .* got \(\(4, 0\),\)$"),
        (((0, 4),), r"^preact_convnet: stages must be one or more .* got \(\(0, 4\),\)$"),
        (((4, 1), (-1, 4)), r"^preact_convnet: stages must be one or more .* from 1 on"),
    ],
)
def test_a_stage_has_features_and_blocks(stages, line):
    with pytest.raises(ValueError, match=line):
        nets.preact_convnet(stages)


@pytest.mark.parametrize("activation", ["relu6", 5, None])
def test_an_activation_is_one_of_a_list(activation):
    for make in (nets.convnet, nets.preact_convnet):
        with pytest.raises(ValueError, match=r"activation must be one of \['relu', 'leaky_relu'"):
            make(activation=activation)
    with pytest.raises(ValueError, match=r"norm must be one of \[None, 'batch', 'layer', 'rms'\]"):
        nets.mlp((3,), norm=activation or 5)


def test_the_standard_deviation_may_be_0_and_not_less():
    weight, bias = initializers.normal(0.0)(KEY, (3, 2), jnp.float32)
    assert not weight.any()
    assert not bias.any()
    for std in (-0.5, float("nan")):
        with pytest.raises(ValueError, match=r"^normal: std must not be negative; got "):
            initializers.normal(std)
    traced = jax.jit(lambda std: initializers.normal(std)(KEY, (3, 2), jnp.float32)[0])
    np.testing.assert_allclose(traced(2.0), 2 * traced(1.0), rtol=1e-6)


def test_an_initializer_has_a_name():
    for name in ("he", "glorot", "pytorch"):
        assert initializers.named(name) is getattr(initializers, name)
    weight, _ = initializers.named("normal", 0.0)(KEY, (3, 2), jnp.float32)
    assert not weight.any()
    for name in ("normal", "xavier", 5):
        with pytest.raises(ValueError, match=r"^initializer must be one of \['he', 'glorot', 'p"):
            initializers.named(name)


def test_a_weight_of_no_inputs_has_a_finite_scale():
    """Its bias alone is left."""
    assert initializers._fan_in((0, 5)) == 1
    assert initializers._fan_in((5,)) == 1
    assert initializers._fan_in((3, 4, 5)) == 12


@pytest.mark.parametrize("groups", [0, -1])
def test_fewer_groups_than_one_are_refused_by_the_op(groups):
    with pytest.raises(ValueError, match=rf"^conv2d: kernel must be .* and groups {groups}(\n|$)"):
        layers.Conv2d(7, groups=groups).init(KEY, (3, 3, 1))


def test_an_image_has_three_axes_with_something_along_each():
    for layer in (layers.Conv2d(2, 1), layers.MaxPool2d(1), layers.GlobalAvgPool()):
        assert layer.init(KEY, (1, 1, 1))[2][-1] in (1, 2)
        for shape in ((1, 1), (1, 1, 1, 1), (0, 1, 1)):
            with pytest.raises(ValueError, match="the input must be an image"):
                layer.init(KEY, shape)


def test_a_batch_without_examples_leaves_the_running_statistics():
    layer = layers.BatchNorm()
    params, state, _ = layer.init(KEY, (2,))
    state = {"mean": jnp.ones(2), "variance": jnp.full(2, 3.0)}
    assert layer.apply(params, state, jnp.zeros((0, 2)), training=True)[1] is state
