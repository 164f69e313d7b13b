import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import initializers, layers, ops
from jaxnets.layers import serial

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def run(layer, x, **kwargs):
    """Initialise a layer for x, and apply it."""
    params, state, _ = layer.init(KEY, x.shape[1:])
    return layer.apply(params, state, x, **kwargs)[0]


# --- initialisers --------------------------------------------------------------------------------

# fan_in 3 * 3 * 64 = 576, fan_out 3 * 3 * 96 = 864; a linear layer has the last two axes alone.
KERNEL = (3, 3, 64, 96)
LINEAR = (576, 96)


@pytest.mark.parametrize(
    ("initializer", "shape", "std", "bound"),
    [
        (initializers.normal(0.02), KERNEL, 0.02, math.inf),
        (initializers.he, KERNEL, math.sqrt(2 / 576), math.inf),
        (initializers.he, LINEAR, math.sqrt(2 / 576), math.inf),
        (initializers.glorot, KERNEL, math.sqrt(2 / (576 + 864)), math.sqrt(6 / (576 + 864))),
        (initializers.glorot, LINEAR, math.sqrt(2 / (576 + 96)), math.sqrt(6 / (576 + 96))),
        (initializers.pytorch, KERNEL, math.sqrt(1 / 3 / 576), math.sqrt(1 / 576)),
    ],
)
def test_weights_have_the_variance_of_the_formula(initializer, shape, std, bound):
    weight, bias = initializer(KEY, shape, jnp.float32)
    assert weight.shape == shape
    assert bias.shape == (96,)
    assert weight.dtype == bias.dtype == jnp.float32
    # 55 296 draws: the standard deviation of the estimate is 0.3 % for a normal distribution.
    assert np.std(weight) == pytest.approx(std, rel=0.015)
    assert abs(np.mean(weight)) < 4 * std / math.sqrt(weight.size)
    assert np.abs(weight).max() <= bound
    if math.isfinite(bound):
        assert np.abs(weight).max() > 0.999 * bound
    else:
        assert np.abs(weight).max() > 3.5 * std  # Not truncated.


def test_biases_are_zero_except_for_those_of_pytorch():
    for initializer in (initializers.normal(1.0), initializers.he, initializers.glorot):
        assert not initializer(KEY, (4, 1000), jnp.float32)[1].any()
    weight, bias = initializers.pytorch(KEY, (4, 1000), jnp.float32)
    assert np.abs(bias).max() == pytest.approx(0.5, rel=0.01)
    assert np.std(bias) == pytest.approx(0.5 / math.sqrt(3), rel=0.06)
    assert not np.isclose(weight[0], bias).any()


# --- layers --------------------------------------------------------------------------------------


def test_linear_is_the_op_on_its_parameters(rng):
    x = jnp.asarray(rng.standard_normal((5, 2, 3)), jnp.float32)
    layer = layers.Linear(4, initializer=initializers.pytorch)
    params, state, output_shape = layer.init(KEY, (2, 3))
    assert output_shape == (2, 4)
    assert {name: p.shape for name, p in params.items()} == {"weight": (3, 4), "bias": (4,)}
    y, state_after = layer.apply(params, state, x)
    np.testing.assert_allclose(y, x @ params["weight"] + params["bias"], rtol=1e-5, atol=1e-6)
    assert state == state_after == {}

    bare = layers.Linear(4, use_bias=False)
    params, _, _ = bare.init(KEY, (3,))
    assert list(params) == ["weight"]
    np.testing.assert_allclose(
        bare.apply(params, {}, x)[0], x @ params["weight"], rtol=1e-5, atol=1e-6
    )


def test_embedding():
    layer = layers.Embedding(50, 40)
    params, state, output_shape = layer.init(KEY, (3,))
    assert output_shape == (3, 40)
    assert {name: (w.shape, w.dtype) for name, w in params.items()} == {
        "weight": ((50, 40), jnp.float32)
    }
    assert abs(float(params["weight"].mean())) < 0.1
    assert abs(float(params["weight"].std()) - 1.0) < 0.1
    ids = jnp.array([[0, 49, 7], [7, 7, 1]])
    y, state_after = layer.apply(params, state, ids, training=True)
    np.testing.assert_array_equal(y, params["weight"][ids])
    assert state_after == state == {}


@pytest.mark.parametrize(("rows", "features"), [(0, 3), (3, 0), (-1, 1)])
def test_embedding_without_rows_or_features(rows, features):
    with pytest.raises(ValueError, match=r"Embedding: rows and features must be at least 1; got"):
        layers.Embedding(rows, features)
    with pytest.raises(TypeError, match=r"Embedding: rows must be a whole number; got 2\.5"):
        layers.Embedding(2.5, 1)


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (layers.Relu(), ops.relu),
        (layers.LeakyRelu(0.2), lambda x: ops.leaky_relu(x, 0.2)),
        (layers.Elu(0.7), lambda x: ops.elu(x, 0.7)),
        (layers.Gelu(), ops.gelu),
        (layers.Gelu(approximate=True), lambda x: ops.gelu(x, approximate=True)),
        (layers.Silu(), ops.silu),
        (layers.Tanh(), ops.tanh),
        (layers.Sigmoid(), ops.sigmoid),
        (layers.Softplus(), ops.softplus),
        (layers.LayerNorm(1e-3), lambda x: ops.layer_norm(x, jnp.ones(3), jnp.zeros(3), eps=1e-3)),
        (layers.RMSNorm(1e-3), lambda x: ops.rms_norm(x, jnp.ones(3), eps=1e-3)),
    ],
    ids=lambda value: value.name if isinstance(value, layers.Layer) else "",
)
def test_layers_that_are_one_op(rng, layer, function):
    x = jnp.asarray(rng.standard_normal((4, 2, 3)), jnp.float32)
    params, state, output_shape = layer.init(KEY, (2, 3))
    assert output_shape == (2, 3)
    y, state_after = layer.apply(params, state, x, training=True)
    np.testing.assert_allclose(y, function(x), rtol=1e-6)
    assert state_after == state == {}


def test_slopes_may_be_traced_and_have_gradients(rng):
    x = jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)
    for constructor in (layers.LeakyRelu, layers.Elu):
        slopes = jnp.asarray([0.0, 0.3, 1.5], jnp.float32)

        def total(slope, constructor=constructor):
            return run(constructor(slope), x).sum()

        values, slopes_gradients = jax.vmap(jax.value_and_grad(total))(slopes)
        np.testing.assert_allclose(values, [total(float(s)) for s in slopes], rtol=1e-6)
        assert (slopes_gradients < 0).all()


def test_flatten_keeps_the_batch():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    assert layers.Flatten().init(KEY, (3, 4))[2] == (12,)
    np.testing.assert_array_equal(run(layers.Flatten(), x), np.arange(24.0).reshape(2, 12))
    assert run(layers.Flatten(), jnp.zeros((0, 3, 4))).shape == (0, 12)


def test_convolution_is_the_op_on_its_parameters(rng):
    x = jnp.asarray(rng.standard_normal((2, 6, 5, 4)), jnp.float32)
    options = {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "groups": 2}
    layer = layers.Conv2d(6, (3, 2), initializer=initializers.pytorch, **options)
    params, state, output_shape = layer.init(KEY, (6, 5, 4))
    assert {name: p.shape for name, p in params.items()} == {"weight": (3, 2, 2, 6), "bias": (6,)}
    y, state_after = layer.apply(params, state, x)
    assert y.shape[1:] == output_shape
    np.testing.assert_array_equal(y, ops.conv2d(x, params["weight"], params["bias"], **options))
    assert state == state_after == {}
    # fan_in is what an output sums over: 3 x 2 positions of 2 channels.
    assert 0.9 < np.abs(params["weight"]).max() * math.sqrt(12) <= 1.0
    assert [w.shape for w in layers.weights(params)] == [(3, 2, 2, 6)]
    assert list(layers.Conv2d(6, use_bias=False).init(KEY, (6, 5, 4))[0]) == ["weight"]


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (layers.MaxPool2d(3, stride=2, padding=1),
         lambda x: ops.max_pool2d(x, 3, stride=2, padding=1)),
        (layers.MaxPool2d(2), lambda x: ops.max_pool2d(x, 2)),
        (layers.AvgPool2d((2, 3), stride=1, padding="SAME"),
         lambda x: ops.avg_pool2d(x, (2, 3), stride=1, padding="SAME")),
        (layers.GlobalAvgPool(), ops.global_avg_pool),
    ],
)  # fmt: skip
def test_pooling_is_the_op(layer, function, rng):
    x = jnp.asarray(rng.standard_normal((2, 6, 5, 3)), jnp.float32)
    params, state, output_shape = layer.init(KEY, (6, 5, 3))
    assert params == state == {}
    y, _ = layer.apply(params, state, x)
    assert y.shape[1:] == output_shape
    np.testing.assert_array_equal(y, function(x))


def test_dropout_drops_in_training_alone():
    x = jnp.ones((100, 50))
    layer = layers.Dropout(0.4)
    np.testing.assert_array_equal(run(layer, x), x)
    np.testing.assert_array_equal(run(layer, x, key=KEY), x)
    y = run(layer, x, key=KEY, training=True)
    np.testing.assert_array_equal(y, ops.dropout(x, KEY, 0.4))
    assert 0.35 < np.mean(y == 0) < 0.45
    with pytest.raises(ValueError, match=r"^Dropout: .* needs a key"):
        run(layer, x, training=True)


def test_dropout_takes_a_traced_rate():
    x = jnp.ones((100, 50))
    rates = jnp.asarray([0.0, 0.5], jnp.float32)
    y = jax.vmap(lambda rate: run(layers.Dropout(rate), x, key=KEY, training=True))(rates)
    np.testing.assert_array_equal(y[0], x)
    assert 0.45 < np.mean(y[1] == 0) < 0.55


def test_batch_norm_keeps_running_statistics(rng):
    batches = rng.normal(3.0, 2.0, (4, 6, 2, 5))  # Four batches [6, 2, 5].
    layer = layers.BatchNorm(momentum=0.3, eps=1e-3)
    params, state, output_shape = layer.init(KEY, (2, 5))
    assert output_shape == (2, 5)
    params = {
        name: jnp.asarray(rng.uniform(0.5, 1.5, 5), jnp.float32) for name in ("scale", "bias")
    }
    mean, variance = np.zeros(5), np.ones(5)
    for batch in batches:
        y, state = layer.apply(params, state, jnp.asarray(batch, jnp.float32), training=True)
        values = batch.reshape(-1, 5)
        x_hat = (batch - values.mean(0)) / np.sqrt(values.var(0) + 1e-3)
        np.testing.assert_allclose(y, x_hat * params["scale"] + params["bias"], atol=1e-5)
        mean = 0.7 * mean + 0.3 * values.mean(0)
        variance = 0.7 * variance + 0.3 * values.var(0, ddof=1)
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(state["variance"], variance, rtol=1e-5)

    x = jnp.asarray(batches[0], jnp.float32)
    y, state_after = layer.apply(params, state, x)
    x_hat = (batches[0] - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(y, x_hat * params["scale"] + params["bias"], atol=1e-5)
    assert state_after is state


@pytest.mark.parametrize("shape", [(0, 2), (0, 4, 2), (4, 0, 2)])
def test_batch_norm_of_an_empty_batch_changes_nothing(shape):
    layer = layers.BatchNorm()
    params, _, _ = layer.init(jax.random.key(0), (2,))
    state = {"mean": jnp.array([5.0, -5.0]), "variance": jnp.array([3.0, 2.0])}
    apply = jax.jit(lambda x: layer.apply(params, state, x, training=True))
    y, after = apply(jnp.zeros(shape))
    assert y.shape == shape
    for name, values in state.items():
        np.testing.assert_array_equal(after[name], values)


EVERY = [
    layers.Linear(4),
    layers.Conv2d(4),
    layers.MaxPool2d(2),
    layers.AvgPool2d(3, stride=2, padding=1),
    layers.GlobalAvgPool(),
    layers.LeakyRelu(),
    layers.Elu(),
    layers.Gelu(approximate="tanh"),
    layers.Dropout(0.3),
    layers.BatchNorm(),
    layers.LayerNorm(),
    layers.RMSNorm(),
    layers.residual(serial(layers.BatchNorm(), layers.Conv2d(2))),
]


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: layer.name)
def test_parameters_and_state_are_float32(layer, x64):
    params, state, _ = layer.init(jax.random.key(0), (4, 4, 2))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} <= {jnp.dtype("float32")}


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: layer.name)
@pytest.mark.parametrize("training", [False, True])
def test_no_layer_promotes_a_rank(layer, training, rng):
    params, state, _ = layer.init(jax.random.key(0), (4, 4, 2))
    x = jnp.asarray(rng.standard_normal((3, 4, 4, 2)), jnp.float32)

    @jax.jit
    def outputs_and_gradients(params, x):
        def outputs(params, x):
            return layer.apply(params, state, x, key=jax.random.key(1), training=training)

        y, pull_back = jax.vjp(outputs, params, x)
        return y, pull_back(y)

    expected = outputs_and_gradients(params, x)
    with jax.numpy_rank_promotion("raise"):
        got = outputs_and_gradients(params, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("word", "same"), [("none", False), ("tanh", True)])
def test_words_of_the_gelu_layer(word, same):
    x = jnp.array([[-1.0, 2.0]])
    y, _ = layers.Gelu(approximate=word).apply({}, {}, x)
    np.testing.assert_array_equal(y, ops.gelu(x, approximate=same))
    with pytest.raises(
        ValueError, match=r'^gelu: approximate must be True, False, "tanh" or "none"'
    ):
        layers.Gelu(approximate="erf")


def test_batch_norm_takes_a_batch_of_one():
    layer = layers.BatchNorm()
    params, state, _ = layer.init(KEY, (3,))
    y, state = layer.apply(params, state, jnp.ones((1, 3)), training=True)
    np.testing.assert_array_equal(y, np.zeros((1, 3)))
    np.testing.assert_allclose(state["mean"], 0.1 * np.ones(3), rtol=1e-6)
    np.testing.assert_allclose(state["variance"], 0.9 * np.ones(3), rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (layers.Linear(7), (), r"^Linear\(7\): .*; got \[\]$"),
        (layers.Linear(7), (3, 0), r"^Linear\(7\): .*; got \[3, 0\]$"),
        (layers.BatchNorm(), (), r"^BatchNorm: .*; got \[\]$"),
        (layers.LayerNorm(), (0,), r"^LayerNorm: .*; got \[0\]$"),
        (layers.RMSNorm(), (), r"^RMSNorm: .*; got \[\]$"),
        (layers.Conv2d(7), (3, 3), r"^Conv2d\(7\): .* an image, .*; got \[3, 3\]$"),
        (layers.Conv2d(7), (3, 0, 1), r"^Conv2d\(7\): .*; got \[3, 0, 1\]$"),
        (layers.Conv2d(7, groups=2), (3, 3, 3), r"^conv2d: kernel must be .* groups 2"),
        (layers.MaxPool2d(2), (4,), r"^MaxPool2d: .*; got \[4\]$"),
        (layers.MaxPool2d(5), (4, 4, 1), r"^max_pool2d: the window .* does not fit"),
        (layers.GlobalAvgPool(), (4, 4), r"^GlobalAvgPool: .*; got \[4, 4\]$"),
        (
            layers.residual(layers.Linear(4)),
            (3,),
            r"^residual: .*; Linear takes \[3\] to \[4\]$",
        ),
    ],
)
def test_a_shape_that_does_not_fit_is_named(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, shape)


def test_a_linear_layer_has_features():
    with pytest.raises(ValueError, match=r"^Linear: features .* got 0$"):
        layers.Linear(0)
    with pytest.raises(ValueError, match=r"^Conv2d: features .* got 0$"):
        layers.Conv2d(0)


# --- layers made of layers -----------------------------------------------------------------------


def test_serial_chains_shapes_states_and_outputs(rng):
    net = serial(layers.Flatten(), layers.Linear(5), layers.BatchNorm(), layers.Tanh())
    params, state, output_shape = net.init(KEY, (2, 3))
    assert output_shape == (5,)
    assert [set(p) for p in params] == [set(), {"weight", "bias"}, {"scale", "bias"}, set()]
    assert [set(s) for s in state] == [set(), set(), {"mean", "variance"}, set()]

    x = jnp.asarray(rng.standard_normal((8, 2, 3)), jnp.float32)
    y, state_after = net.apply(params, state, x, training=True)
    hidden = np.asarray(x.reshape(8, 6) @ params[1]["weight"] + params[1]["bias"], np.float64)
    x_hat = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    np.testing.assert_allclose(y, np.tanh(x_hat), atol=1e-5)
    np.testing.assert_allclose(state_after[2]["mean"], 0.1 * hidden.mean(0), atol=1e-6)
    assert jax.tree.structure(state_after) == jax.tree.structure(state)


def test_what_follows_a_layer_changes_nothing_for_it():
    short = serial(layers.Linear(5)).init(KEY, (3,))[0]
    long = serial(layers.Linear(5), layers.Linear(5), layers.Relu()).init(KEY, (3,))[0]
    np.testing.assert_array_equal(short[0]["weight"], long[0]["weight"])


def test_layers_of_a_serial_draw_different_numbers():
    params = serial(layers.Linear(3), layers.Linear(3)).init(KEY, (3,))[0]
    assert not np.isclose(params[0]["weight"], params[1]["weight"]).any()
    x = jnp.ones((1000, 1))
    both = run(serial(layers.Dropout(0.5), layers.Dropout(0.5)), x, key=KEY, training=True)
    assert 0.2 < np.mean(both != 0) < 0.3  # One mask twice would leave a half.


def test_residual_adds_its_input(rng):
    x = jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)
    inside = serial(layers.BatchNorm(), layers.Linear(3))
    params, state, output_shape = layers.residual(inside).init(KEY, (3,))
    assert output_shape == (3,)
    y, state_after = layers.residual(inside).apply(params, state, x, training=True)
    expected, expected_state = inside.apply(params, state, x, training=True)
    np.testing.assert_allclose(y, x + expected, rtol=1e-6)
    np.testing.assert_array_equal(state_after[0]["mean"], expected_state[0]["mean"])
    dropped = run(layers.residual(layers.Dropout(0.5)), jnp.ones((99, 3)), key=KEY, training=True)
    assert set(np.unique(dropped)) == {1.0, 3.0}


# --- what a net consists of ----------------------------------------------------------------------


def test_a_module_of_another_library_is_told_what_a_layer_is_told():
    calls = []

    def init(key, x):
        calls.append(("init", x.shape, x.dtype))
        return {"weight": jnp.ones(3)}, {"count": jnp.int32(0)}

    def apply(params, state, x, key, training):
        calls.append(("apply", x.shape, key, training))
        return x * params["weight"], {"count": state["count"] + 1}

    layer = layers.adapted("Other", init, apply)
    params, state, shape = layer.init(KEY, (2, 3))
    assert shape == (2, 3)
    assert calls == [("init", (1, 2, 3), jnp.float32), ("apply", (1, 2, 3), None, False)]
    calls.clear()
    y, after = layer.apply(params, state, jnp.ones((4, 2, 3)), key=KEY, training=True)
    layer.apply(params, state, jnp.ones((4, 2, 3)))
    assert calls == [("apply", (4, 2, 3), KEY, True), ("apply", (4, 2, 3), None, False)]
    assert (y.shape, after["count"]) == ((4, 2, 3), 1)


def test_weights_are_neither_biases_nor_scales():
    net = serial(layers.Linear(5), layers.BatchNorm(), layers.residual(layers.Linear(5)))
    params = net.init(KEY, (3,))[0]
    assert [w.shape for w in layers.weights(params)] == [(3, 5), (5, 5)]
    assert layers.weights({}) == []


def test_summary_lists_layers_shapes_and_parameters():
    block = layers.residual(serial(layers.BatchNorm(), layers.Linear(100), layers.Relu()))
    net = serial(layers.Flatten(), serial(layers.Linear(100)), block, layers.Linear(10))
    assert layers.summary(net, (32, 32, 3)) == "\n".join(
        [
            "layer        output       parameters",
            "------------------------------------",
            "Input        [32, 32, 3]",
            "Flatten      [3072]",
            "Linear       [100]           307,300",
            "residual     [100]",
            "  BatchNorm  [100]               200",
            "  Linear     [100]            10,100",
            "  Relu       [100]",
            "Linear       [10]              1,010",
            "------------------------------------",
            "total                        318,610",
        ]
    )


def test_summary_needs_no_memory():
    text = layers.summary(layers.Linear(10**6), (10**6,))  # 4 TB of weights.
    assert text.splitlines()[-1].split() == ["total", "1,000,001,000,000"]
