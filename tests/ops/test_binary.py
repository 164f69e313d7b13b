import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from tests.support import Reference, check_op, entries, gradient, name_of, residual_bytes

pytestmark = pytest.mark.slow


def sigmoid_cross_entropy(library, logits, labels, weight=1.0):
    zero = 0.0 * logits
    positive, negative = (library.np.logaddexp(zero, z) for z in (-logits, logits))
    return weight * labels * positive + (1.0 - labels) * negative


# Losses of logits as large as 8, times a weight of 2.5.
REFERENCES = {
    "sigmoid_cross_entropy": Reference(sigmoid_cross_entropy, terms=10.0),
    "sigmoid_cross_entropy (weight)": Reference(sigmoid_cross_entropy, terms=25.0),
}
ENTRIES = entries("sigmoid_cross_entropy")


@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


def test_it_is_the_loss_of_two_classes(rng, x64):
    """softmax of (0, z), of which the second is sigmoid(z)."""
    z = jnp.asarray(rng.standard_normal(20))
    labels = jnp.asarray(rng.integers(2, size=20))
    two = jnp.stack([jnp.zeros(20), z], -1)
    expected = ops.softmax_cross_entropy(two, labels)
    np.testing.assert_allclose(ops.sigmoid_cross_entropy(z, labels), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["bool", "int8", "uint32", "float32"])
def test_labels_of_every_kind(kind):
    labels = np.array([0, 1, 1, 0], kind)
    logits = jnp.float32([-2.0, -1.0, 3.0, 0.5])
    probability = 1.0 / (1.0 + np.exp(-np.float64(logits)))
    expected = -np.log(np.where(labels == 1, probability, 1.0 - probability))
    for given in (labels, labels.tolist(), jnp.asarray(labels)):
        np.testing.assert_allclose(
            ops.sigmoid_cross_entropy(logits, given), expected, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize(
    "function", [ops.sigmoid_cross_entropy, autodiff(ops.sigmoid_cross_entropy)]
)
@pytest.mark.parametrize("far", [50.0, 1e4, jnp.inf])
def test_far_from_zero(function, far, dtype):
    """Nothing, or the logit itself; slopes of 0, -1 and 1; nothing is infinity times 0."""
    far = jnp.asarray(far, dtype)
    logits, labels = jnp.stack([far, far, -far, -far]), jnp.asarray([1.0, 0.0, 1.0, 0.0], dtype)
    with jax.debug_nans(False):
        loss, (dlogits, dlabels) = gradient(function, (logits, labels), jnp.ones(4, dtype))
    np.testing.assert_allclose(
        np.float64(loss),
        np.float64([0.0, far, far, 0.0]),
        rtol=1e-2 if dtype == "bfloat16" else 1e-6,
        atol=1e-20,
    )
    np.testing.assert_allclose(np.float64(dlogits), [0.0, 1.0, -1.0, 0.0], atol=1e-20)
    assert not jnp.isnan(dlabels).any()


def test_the_tails_keep_their_digits():
    """The loss of a right prediction, and its slope, are exp(-|z|), and not the 0 of 1 - 1."""
    z = jnp.float32([30.0, 80.0])
    loss, (dz, _) = gradient(ops.sigmoid_cross_entropy, (z, jnp.ones(2)), jnp.ones(2))
    np.testing.assert_allclose(loss, np.exp(-np.float64(z)), rtol=1e-5)
    np.testing.assert_allclose(dz, -np.exp(-np.float64(z)), rtol=1e-5)


def test_nan_stays_nan(dtype):
    loss, (dlogits, _) = gradient(
        ops.sigmoid_cross_entropy,
        (jnp.full(2, jnp.nan, dtype), jnp.asarray([0.0, 1.0], dtype)),
        jnp.ones(2, dtype),
    )
    assert jnp.isnan(loss).all()
    assert jnp.isnan(dlogits).all()


def test_weight_of_the_positive_class(rng):
    logits = jnp.asarray(rng.standard_normal(6), jnp.float32)
    labels = jnp.asarray([0, 1, 1, 0, 1, 0])
    plain = ops.sigmoid_cross_entropy(logits, labels)
    weighted = ops.sigmoid_cross_entropy(logits, labels, positive_weight=3)
    np.testing.assert_allclose(weighted, jnp.where(labels == 1, 3.0, 1.0) * plain, rtol=1e-6)
    nothing = ops.sigmoid_cross_entropy(logits, labels, positive_weight=0.0)
    np.testing.assert_array_equal(nothing[labels == 1], 0.0)


def test_residuals_are_the_inputs(dtype):
    x = jnp.full((16, 10), 0.5, dtype)
    weighted = functools.partial(ops.sigmoid_cross_entropy, positive_weight=2.0)
    assert residual_bytes(weighted, x, x + 0) <= 2 * x.nbytes + x.itemsize


@pytest.mark.parametrize(
    ("labels", "weight", "match"),
    [
        (jnp.ones(3), 1.0, r"labels must have the shape of logits, \[2\]; got \[3\]"),
        (jnp.float32([0.0, 1.5]), 1.0, r"labels must lie in \[0, 1\]; got 0.0 to 1.5"),
        (jnp.float32([0.0, jnp.nan]), 1.0, r"labels must lie in \[0, 1\]; got nan"),
        (jnp.array([-1, 1]), 1.0, r"labels must lie in \[0, 1\]; got -1 to 1"),
        (jnp.ones(2), -1.0, "positive_weight must be at least 0; got -1.0"),
        (jnp.ones(2), jnp.ones(2), "positive_weight must be a scalar"),
    ],
)
def test_arguments_of_no_use(labels, weight, match):
    with pytest.raises(ValueError, match=match):
        ops.sigmoid_cross_entropy(jnp.zeros(2), labels, positive_weight=weight)


def test_labels_that_are_no_numbers():
    with pytest.raises(TypeError, match="labels must be an array"):
        ops.sigmoid_cross_entropy(jnp.zeros(2), [1, None])
    with pytest.raises(TypeError, match="labels must have a floating dtype"):
        ops.sigmoid_cross_entropy(jnp.zeros(2), jnp.ones(2, jnp.complex64))
