import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import initializers, layers, nets

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def names(layer):
    """The names of the layers in a net, in order."""
    parts = [name for part in layer.parts for name in names(part)]
    return parts or [layer.name]


@pytest.mark.parametrize(
    ("options", "block"),
    [
        ({}, ["Linear", "Relu"]),
        ({"activation": "elu", "norm": "batch"}, ["Linear", "BatchNorm", "Elu"]),
        ({"norm": "layer", "dropout": 0.2}, ["Linear", "LayerNorm", "Relu", "Dropout"]),
        ({"norm": "rms", "dropout": 0}, ["Linear", "RMSNorm", "Relu"]),
        ({"dropout": jnp.float32(0)}, ["Linear", "Relu", "Dropout"]),
    ],
)
def test_mlp_is_made_of_blocks(options, block):
    net = nets.mlp((7, 5, 3), **options)
    assert names(net) == ["Flatten", *block, *block, "Linear"]
    params, state, output_shape = net.init(KEY, (4, 2, 1))
    assert output_shape == (3,)
    x = jnp.ones((6, 4, 2, 1))
    logits, _ = net.apply(params, state, x, key=KEY, training=True)
    assert logits.shape == (6, 3)


def test_mlp_computes_what_numpy_does(rng):
    net = nets.mlp(
        (7, 3), activation="leaky_relu", negative_slope=0.25, initializer=initializers.pytorch
    )
    params, state, _ = net.init(KEY, (4, 2))
    x = rng.standard_normal((6, 4, 2))
    _, (hidden, _), output = params
    h = x.reshape(6, 8) @ np.asarray(hidden["weight"], np.float64) + hidden["bias"]
    h = np.where(h > 0, h, 0.25 * h)
    expected = h @ np.asarray(output["weight"], np.float64) + output["bias"]
    logits, _ = net.apply(params, state, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "silu"])
def test_mlp_passes_the_activation_on(name, rng):
    net = nets.mlp((5, 5), activation=name, negative_slope=0.3, alpha=0.6)
    _, state, _ = net.init(KEY, (5,))
    eye = {"weight": jnp.eye(5), "bias": jnp.zeros(5)}
    x = jnp.asarray(rng.standard_normal((4, 5)), jnp.float32)
    expected = {
        "relu": jax.nn.relu,
        "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.3),
        "elu": lambda x: jax.nn.elu(x, 0.6),
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "silu": jax.nn.silu,
    }[name](x)
    y, _ = net.apply(({}, (eye, {}), eye), state, x)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_the_weights_do_not_depend_on_norm_and_dropout():
    plain = layers.weights(nets.mlp((7, 5, 3)).init(KEY, (4,))[0])
    other = layers.weights(nets.mlp((7, 5, 3), norm="layer", dropout=0.5).init(KEY, (4,))[0])
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_initializer_draws_all_weights_and_biases():
    def sevens(key, shape, dtype):
        return jnp.full(shape, 7, dtype), jnp.full(shape[-1:], 3, dtype)

    params = nets.mlp((7, 5, 3), initializer=sevens).init(KEY, (4,))[0]
    assert {float(leaf.max()) for leaf in jax.tree.leaves(params)} == {3, 7}
    assert {float(leaf.min()) for leaf in jax.tree.leaves(params)} == {3, 7}
    assert all((weight == 7).all() for weight in layers.weights(params))


@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ((), {}, r"^mlp: widths .* got \[\]$"),
        ((5, 0, 3), {}, r"^mlp: widths .* got \[5, 0, 3\]$"),
        ((5, 3), {"activation": "rely"}, r"^mlp: activation .* got 'rely'$"),
        ((5, 3), {"norm": "none"}, r"^mlp: norm .* got 'none'$"),
    ],
)
def test_mlp_refuses_what_it_does_not_know(widths, options, message):
    with pytest.raises(ValueError, match=message):
        nets.mlp(widths, **options)


# --- convolutional networks ----------------------------------------------------------------------


def layers_of(net, shape):
    """(name, output shape) of each layer."""
    rows = []
    for part in net.parts:
        if part.parts and part.name == "serial":
            inner, shape = layers_of(part, shape)
            rows += inner
        else:
            shape = part.init(KEY, shape)[2]
            rows.append((part.name, shape))
    return rows, shape


def test_convnet_is_the_course_s():
    convolutions = [64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"]
    expected, size, features = [], 32, 3
    for item in convolutions:
        if item == "pool":
            size //= 2
            expected.append(("MaxPool2d", (size, size, features)))
        else:
            features = item
            shape = (size, size, features)
            expected += [("Conv2d", shape), ("BatchNorm", shape), ("Relu", shape)]
    assert size == 1
    expected += [("GlobalAvgPool", (512,)), ("Linear", (10,))]

    def shapes():
        return layers_of(nets.convnet(), (32, 32, 3))[0]

    got = []
    jax.eval_shape(lambda: got.extend(shapes()))
    assert got == expected
    params = jax.eval_shape(lambda key: nets.convnet().init(key, (32, 32, 3))[0], KEY)
    # Counted by torch.nn for the same layers.
    assert sum(p.size for p in jax.tree.leaves(params)) == 9_231_114


def test_preact_convnet_is_the_course_s():
    net = nets.preact_convnet()
    got = []
    jax.eval_shape(lambda: got.extend(layers_of(net, (32, 32, 3))[0]))
    expected, size = [("Conv2d", (32, 32, 64))], 32
    for features, blocks, following in [
        (64, 1, 128), (128, 2, 256), (256, 2, 512), (512, 2, None), (512, 2, None)
    ]:  # fmt: skip
        expected += [("residual", (size, size, features))] * blocks
        if following:
            expected.append(("Conv2d", (size, size, following)))
        size //= 2
        expected.append(("MaxPool2d", (size, size, following or features)))
    expected += [("BatchNorm", (1, 1, 512)), ("Relu", (1, 1, 512))]
    assert got == [*expected, ("GlobalAvgPool", (512,)), ("Linear", (10,))]
    block = net.parts[1].parts[0]
    assert names(block) == ["BatchNorm", "Relu", "Conv2d"]
    # As the text has it: 3x3 throughout, but for the 1x1 that widens between stages.
    params = jax.eval_shape(lambda key: net.init(key, (32, 32, 3))[0], KEY)
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if len(leaf.shape) == 4]
    wide = [(3, 3, 3, 64)]
    for features, blocks, following in [
        (64, 1, 128), (128, 2, 256), (256, 2, 512), (512, 2, None), (512, 2, None)
    ]:  # fmt: skip
        wide += [(3, 3, features, features)] * blocks
        wide += [(1, 1, features, following)] if following else []
    assert sorted(kernels) == sorted(wide)


@pytest.mark.parametrize("make", [nets.convnet, nets.preact_convnet])
def test_convolutional_networks_pass_the_activation_on(make):
    stages = ((4,),) if make is nets.convnet else ((4, 1),)
    net = make(stages, classes=3, activation="leaky_relu", negative_slope=0.1)
    assert "LeakyRelu" in names(net)

    def everything(key, x):
        params, state, shape = net.init(key, x.shape[1:])
        assert shape == (3,)
        return state, net.apply(params, state, x, training=True)

    state, (logits, new_state) = jax.eval_shape(everything, KEY, jnp.ones((2, 4, 4, 2)))
    assert logits.shape == (2, 3)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)


def test_small_convnet_takes_digits():
    assert nets.small_convnet(classes=7).init(KEY, (8, 8, 1))[2] == (7,)


@pytest.mark.parametrize(
    ("make", "arguments", "options", "message"),
    [
        (nets.convnet, ((),), {}, r"^convnet: stages .* got \(\)$"),
        (nets.convnet, (((4,), ()),), {}, r"^convnet: stages .* got \(\(4,\), \(\)\)$"),
        (nets.convnet, (((4, 0),),), {}, r"^convnet: stages .* got \(\(4, 0\),\)$"),
        (nets.convnet, (), {"classes": 0}, r"^convnet: classes .* got 0$"),
        (nets.convnet, (), {"activation": "rely"}, r"^convnet: activation .* got 'rely'$"),
        (nets.preact_convnet, ((),), {}, r"^preact_convnet: stages .* got \(\)$"),
    ],
)
def test_convolutional_networks_refuse_what_they_do_not_know(make, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments, **options)


@pytest.mark.parametrize("make", [nets.convnet, nets.preact_convnet])
def test_the_initializer_draws_the_weights_of_convolutions_too(make):
    def sevens(key, shape, dtype):
        return jnp.full(shape, 7, dtype), jnp.full(shape[-1:], 3, dtype)

    stages = ((4,), (5,)) if make is nets.convnet else ((4, 1), (5, 1))
    params = make(stages, classes=2, initializer=sevens).init(KEY, (4, 4, 2))[0]
    leaves = layers.weights(params)
    assert len(leaves) >= 3
    assert all((weight == 7).all() for weight in leaves)


def test_the_slopes_are_those_of_the_courses():
    """0.02 in the ConvNet of 2019; 0.01, as PyTorch has it, in the MLP."""
    x = jnp.full((1, 2, 2, 1), -1.0)
    for make, slope in ((lambda: nets.convnet(((1,),), activation="leaky_relu"), 0.02),
                        (lambda: nets.preact_convnet(((1, 1),), activation="leaky_relu"), 0.02),
                        (lambda: nets.mlp((1, 1), activation="leaky_relu"), 0.01)):  # fmt: skip
        found = [part for part in parts_of(make()) if part.name == "LeakyRelu"]
        assert found
        for part in found:
            np.testing.assert_allclose(part.apply({}, {}, x)[0], -slope, rtol=1e-6)


@pytest.mark.parametrize("make", [nets.convnet, nets.preact_convnet])
def test_a_stage_ends_in_a_maximum_over_windows_that_overlap(make):
    """3x3 with stride 2: the second row and column are in two windows each."""
    net = make(((1,),) if make is nets.convnet else ((1, 1),))
    (pool,) = [part for part in parts_of(net) if part.name == "MaxPool2d"]
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(1.0)
    np.testing.assert_array_equal(pool.apply({}, {}, x)[0][0, ..., 0], [[1, 1], [1, 1]])
    x = jnp.zeros((1, 4, 4, 1)).at[0, 2, 2, 0].set(1.0)
    np.testing.assert_array_equal(pool.apply({}, {}, x)[0][0, ..., 0], [[0, 0], [0, 1]])


def parts_of(layer):
    """All layers of a net, at any depth."""
    return [layer, *(inner for part in layer.parts for inner in parts_of(part))]
