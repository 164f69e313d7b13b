"""What the rows of the table draw: shapes, and values that no term of a gradient is small at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import _catalog
from jaxnets._catalog import CATALOG

# Of x [2, 6], or two images [4, 3, 6]: arguments and result, by the formulas of the ops.
X, Y, KEY = (2, 6), (2, 6), ()
SHAPES = {
    "linear": ([X, (6, 5), (5,)], (2, 5)),
    "linear (no bias)": ([X, (6, 5)], (2, 5)),
    "conv2d": ([(2, 4, 3, 6), (3, 2, 6, 5), (5,)], (2, 4, 3, 5)),
    "conv2d (3x3)": ([(2, 4, 3, 6), (3, 3, 6, 5)], (2, 4, 3, 5)),
    # 4 + 2 rows, windows of 3 with stride 2; 3 + 4 columns, windows of 2 that span 3.
    "conv2d (stride, dilation)": ([(2, 4, 3, 6), (3, 2, 6, 5)], (2, 2, 5, 5)),
    "conv2d (depthwise)": ([(2, 4, 3, 6), (3, 2, 1, 12)], (2, 2, 2, 12)),
    "max_pool2d": ([(2, 4, 3, 6)], (2, 2, 2, 6)),
    "avg_pool2d": ([(2, 4, 3, 6)], (2, 2, 2, 6)),
    "global_avg_pool": ([(2, 4, 3, 6)], (2, 6)),
    "leaky_relu": ([X, ()], Y),
    "elu": ([X, ()], Y),
    "cross_entropy": ([X, (2,)], (2,)),
    "cross_entropy (distributions)": ([X, X], (2,)),
    "softmax_cross_entropy": ([X, (2,)], (2,)),
    "softmax_cross_entropy (smoothing)": ([X, (2,), ()], (2,)),
    "softmax_cross_entropy (distributions)": ([X, X], (2,)),
    "softmax_cross_entropy (distributions, smoothing)": ([X, X, ()], (2,)),
    "squared_error": ([X, X], (2,)),
    "huber": ([X, X, ()], (2,)),
    "sigmoid_cross_entropy": ([X, X], Y),
    "sigmoid_cross_entropy (weight)": ([X, X, ()], Y),
    "swiglu": ([X, X], Y),
    "geglu": ([X, X], Y),
    "batch_norm": ([X, (6,), (6,)], Y),
    "layer_norm": ([X, (6,), (6,)], Y),
    "rms_norm": ([X, (6,)], Y),
    "embedding": ([(6, 6), (2,)], Y),
    "rotary": ([(2, 3, 2, 12), (2, 3)], (2, 3, 2, 12)),
    "dropout": ([X, KEY], Y),
}


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_shapes_are_those_of_the_formulas(entry):
    arguments = entry.sample(np.random.default_rng(0), X, jnp.dtype("float32"))
    result = jax.tree.leaves(jax.eval_shape(entry.function, *arguments))[0]
    assert result.dtype == jnp.float32
    if entry.op == "l2_penalty":
        assert {name: leaf.shape for name, leaf in arguments[0].items()} == {
            "weight": X, "bias": (6,)
        }  # fmt: skip
        assert result.shape == ()
    else:
        found = [argument.shape for argument in arguments]
        # A row that is not listed here has x before its other arguments.
        assert (found, result.shape) == SHAPES.get(entry.name, ([X, *found[1:]], result.shape))


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_axes_before_the_last_are_as_many_rows(entry):
    """Or images."""
    two, three = (
        jax.tree.leaves(jax.eval_shape(
            entry.function, *entry.sample(np.random.default_rng(0), shape, jnp.dtype("float32"))
        ))[0].size
        for shape in ((10, 6), (5, 2, 6))
    )  # fmt: skip
    assert two == three


def test_every_op_has_a_plain_row():
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)
    assert {entry.op for entry in CATALOG if not entry.variant} == {e.op for e in CATALOG}


def drawn(draw, *shape, **options):
    return np.float64(draw(np.random.default_rng(0), shape, jnp.dtype("float32"), **options))


def test_normal_numbers_have_their_mean_and_spread():
    for options, mean, std in (({}, 0, 1), ({"mean": 0.5, "std": 2.0}, 0.5, 2)):
        x = drawn(_catalog._normal, 20_000, **options)
        assert x.mean() == pytest.approx(mean, abs=0.05)
        assert x.std() == pytest.approx(std, rel=0.03)
    x, scale, bias = (np.float64(array) for array in _catalog._x_scale_and_bias(
        np.random.default_rng(0), (2, 20_000), jnp.dtype("float32")))  # fmt: skip
    for array, mean, std in ((x, 0.7, 2), (scale, 1, 0.5), (bias, 0, 1)):
        assert array.mean() == pytest.approx(mean, abs=0.05)
        assert array.std() == pytest.approx(std, rel=0.03)
    for draw in (_catalog._logits_and_classes, _catalog._logits_and_distributions):
        logits, _ = draw(np.random.default_rng(0), (1000, 20), jnp.dtype("float32"))
        assert np.mean(logits) == pytest.approx(0, abs=0.05)
        assert np.std(logits) == pytest.approx(2, rel=0.03)
    _, gate = _catalog._x_and_gate(np.random.default_rng(0), (1000, 20), jnp.dtype("float32"))
    assert np.mean(gate) == pytest.approx(0.3, abs=0.05)
    assert np.std(gate) == pytest.approx(1.5, rel=0.03)
    predictions, targets = _catalog._predictions_and_targets(
        np.random.default_rng(0), (1000, 20), jnp.dtype("float32")
    )
    for array, mean, std in ((predictions, 0, 1), (targets, 0.5, 2)):
        assert np.mean(array) == pytest.approx(mean, abs=0.05)
        assert np.std(array) == pytest.approx(std, rel=0.03)


def test_probabilities_add_up_to_1_and_stay_away_from_0():
    p = drawn(_catalog._probs, 50, 4, 3)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    # Of logits from -2 to 2: the least is 1 beside two of e^4.
    assert 1 / (1 + 2 * np.exp(4)) < p.min() < 0.03
    assert np.exp(4) / (np.exp(4) + 2) > p.max() > 0.9
    p = drawn(_catalog._distributions, 50, 4, 3)
    assert p.shape == (50, 4, 3)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)


def test_classes_are_all_that_there_are():
    found = np.asarray(_catalog._classes(np.random.default_rng(0), (50, 4)))
    assert set(found) == set(range(4))
    assert found.dtype == np.int32


def test_numbers_beside_x_are_positive_and_may_exceed_1():
    draws = [
        float(_catalog._x_and_number(np.random.default_rng(seed), (1,), jnp.dtype("float32"))[1])
        for seed in range(300)
    ]
    assert 0.1 <= min(draws) < 0.2
    assert 1.4 < max(draws) <= 1.5


def test_labels_of_a_sigmoid_are_probabilities():
    logits, labels, weight = _catalog._logits_probabilities_and_weight(
        np.random.default_rng(0), (1000, 20), jnp.dtype("float32")
    )
    assert np.mean(logits) == pytest.approx(0, abs=0.05)
    assert np.std(logits) == pytest.approx(2, rel=0.03)
    assert np.min(labels) == pytest.approx(0, abs=0.001)
    assert np.max(labels) == pytest.approx(1, abs=0.001)
    assert np.mean(labels) == pytest.approx(0.5, abs=0.02)
    assert float(weight) > 1
    delta = _catalog._predictions_targets_and_delta(np.random.default_rng(0), X, np.float32)[2]
    assert 0 < float(delta) < 1  # So that differences lie on either side of it.


def test_smoothing_is_a_tenth():
    for draw in (_catalog._logits_classes_and_smoothing,
                 _catalog._logits_distributions_and_smoothing):  # fmt: skip
        smoothing = draw(np.random.default_rng(0), X, jnp.dtype("float32"))[2]
        assert float(smoothing) == pytest.approx(0.1)


def test_no_two_pixels_of_a_window_tie_in_half_precision():
    """The twelve of a channel are their ranks, less than a third away from a quarter of each."""
    (images,) = _catalog._image_without_ties(
        np.random.default_rng(0), (7, 6), jnp.dtype("bfloat16")
    )
    assert images.shape == (7, 4, 3, 6)
    pixels = np.sort(np.float64(images).swapaxes(1, 3).reshape(7 * 6, 12), axis=1)
    assert np.diff(pixels, axis=1).min() > 0.05
    ranks = 4 * (pixels + 1.5)
    assert np.abs(ranks - np.arange(12)).max() <= 0.3 + 0.03
    assert np.abs(ranks - np.arange(12)).max() > 0.25


def test_dropout_drops_three_tenths():
    (entry,) = [entry for entry in CATALOG if entry.op == "dropout"]
    x, key = entry.sample(np.random.default_rng(0), (100, 100), jnp.dtype("float32"))
    assert np.mean(entry.function(x, key) == 0) == pytest.approx(0.3, abs=0.02)


def test_variants_are_other_calls():
    rows = {entry.name: entry for entry in CATALOG}
    x = jnp.asarray([[0.5, -1.0], [2.0, 0.25]])
    for name in ("softmax", "log_softmax"):
        rows_, columns = rows[name].function(x), rows[f"{name} (axis 0)"].function(x)
        exact = jnp.exp if name == "log_softmax" else lambda y: y
        np.testing.assert_allclose(exact(rows_).sum(1), 1, rtol=1e-6)
        np.testing.assert_allclose(exact(columns).sum(0), 1, rtol=1e-6)
    exact, rough = rows["gelu"].function(x), rows["gelu (approximate)"].function(x)
    np.testing.assert_allclose(exact, jax.nn.gelu(x, approximate=False), rtol=1e-5)
    np.testing.assert_allclose(rough, jax.nn.gelu(x, approximate=True), rtol=1e-5)
    assert np.abs(exact - rough).max() > 1e-5
