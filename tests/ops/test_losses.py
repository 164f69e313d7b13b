import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from tests.support import (
    JAX,
    Reference,
    assert_close,
    assert_trees_close,
    check_op,
    entries,
    gradient,
    name_of,
    residual_bytes,
)

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("name", ["cross_entropy", "softmax_cross_entropy"])


def cross_entropy(library, probs, labels):
    if labels.ndim == probs.ndim:
        return -library.special.xlogy(labels, probs).sum(-1)
    return -library.np.log(library.np.take_along_axis(probs, labels[..., None], -1))[..., 0]


def softmax_cross_entropy(library, logits, labels, smoothing=0.0):
    if labels.ndim < logits.ndim:
        labels = library.np.eye(logits.shape[-1])[labels]
    labels = (1.0 - smoothing) * labels + smoothing / logits.shape[-1]
    log_probs = logits - library.special.logsumexp(logits, axis=-1, keepdims=True)
    return -(labels * log_probs).sum(-1)


def l2_penalty(library, params):
    return sum(library.np.sum(w**2) for w in params.values())


# Gradients are 1 / p in size, and -log p; a class's log-probability is kept, rounded, and enters
# the gradient as p, whose error is p |log p| times its own, and the gradient to the smoothing.
REFERENCES = {
    "cross_entropy": Reference(cross_entropy, terms=10.0),
    "cross_entropy (distributions)": Reference(cross_entropy, terms=10.0),
    "softmax_cross_entropy": Reference(softmax_cross_entropy, terms=10.0),
    "softmax_cross_entropy (smoothing)": Reference(softmax_cross_entropy, terms=10.0),
    "softmax_cross_entropy (distributions)": Reference(
        softmax_cross_entropy, terms=10.0, saved=1.0
    ),
    "softmax_cross_entropy (distributions, smoothing)": Reference(
        softmax_cross_entropy, terms=10.0, saved=1.0
    ),
    "l2_penalty": Reference(l2_penalty),
}
LOSSES = entries("cross_entropy", "softmax_cross_entropy", "l2_penalty")


@pytest.mark.parametrize("entry", LOSSES, ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


@BOTH
def test_classes_are_one_hot_distributions(name, rng, x64):
    function = getattr(ops, name)
    scores = jax.nn.softmax(jnp.asarray(rng.standard_normal((4, 5))))
    labels, dl = jnp.asarray(rng.integers(5, size=4)), jnp.asarray(rng.standard_normal(4))
    by_class, (dscores,) = gradient(lambda p: function(p, labels), (scores,), dl)
    one_hot = jax.nn.one_hot(labels, 5, dtype=scores.dtype)
    by_distribution = gradient(lambda p: function(p, one_hot), (scores,), dl)
    assert_trees_close((by_class, [dscores]), by_distribution, 5, terms=3.0)


def test_the_fused_loss_is_the_composed_one(rng, x64):
    logits, labels = jnp.asarray(rng.standard_normal((2, 6, 5)))
    labels, dl = jax.nn.softmax(labels), jnp.asarray(rng.standard_normal(6))

    def composed(logits, labels):
        return ops.cross_entropy(ops.softmax(logits), labels)

    fused = gradient(ops.softmax_cross_entropy, (logits, labels), dl)
    assert_trees_close(fused, gradient(composed, (logits, labels), dl), 5, terms=10.0)


@BOTH
@pytest.mark.parametrize("label_dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
def test_label_dtypes(name, label_dtype, rng, x64):
    """More classes than the dtype counts, too: a label of 3 is not class 3 + 256."""
    function = getattr(ops, name)
    scores = jax.nn.softmax(jnp.asarray(rng.standard_normal((3, 300))))
    labels, dl = np.array([0, 3, 127]), jnp.asarray(rng.standard_normal(3))
    got = gradient(lambda p: function(p, jnp.asarray(labels, label_dtype)), (scores,), dl)
    expected = gradient(lambda p: REFERENCES[name].formula(JAX, p, labels), (scores,), dl)
    assert_trees_close(got, expected, 300, terms=float(1 / scores.min()))


@BOTH
def test_labels_may_be_lists_and_numpy_arrays(name):
    function, scores = getattr(ops, name), jnp.array([[0.2, 0.8], [0.6, 0.4]])
    expected = function(scores, jnp.array([1, 0]))
    np.testing.assert_array_equal(function(scores, [1, 0]), expected)
    np.testing.assert_array_equal(function(scores, np.array([1, 0])), expected)
    np.testing.assert_array_equal(function(scores[0], 1), expected[0])


def test_labels_need_not_sum_to_1(rng, x64):
    """The gradient is p sum t - t; p - t would be the gradient for labels that sum to 1."""
    logits, dl = jnp.asarray(rng.standard_normal((3, 4))), jnp.asarray(rng.standard_normal(3))
    for labels in (jnp.zeros((3, 4)), jnp.asarray(rng.uniform(0, 3, (3, 4)))):
        _, (dlogits, _) = gradient(ops.softmax_cross_entropy, (logits, labels), dl)
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected = dl[:, None] * (p * labels.sum(-1, keepdims=True) - labels)
        assert_close(dlogits, expected, jnp.float64, 4, terms=10.0)


def test_zero_label_on_zero_probability_costs_nothing(dtype):
    probs = jnp.asarray([[0.0, 0.25, 0.75]], dtype)
    labels = jnp.asarray([[0.0, 1.0, 0.0]], dtype)
    for t in (labels, jnp.array([1])):
        loss, (dprobs, *_) = gradient(ops.cross_entropy, (probs, t), jnp.ones(1, dtype))
        assert_close(loss, [np.log(4.0)], dtype)
        assert dprobs.tolist() == [[0.0, -4.0, 0.0]]


def test_positive_label_on_zero_probability_costs_infinity(dtype):
    probs = jnp.asarray([[0.0, 0.25, 0.75]], dtype)
    for t in (jnp.asarray([[0.5, 0.5, 0.0]], dtype), jnp.array([0])):
        loss, (dprobs, *_) = gradient(ops.cross_entropy, (probs, t), jnp.ones(1, dtype))
        assert loss.tolist() == [jnp.inf]
        assert dprobs.tolist() in ([[-jnp.inf, -2.0, 0.0]], [[-jnp.inf, 0.0, 0.0]])


@pytest.mark.parametrize("as_distribution", [False, True])
def test_logits_far_apart(as_distribution, dtype):
    logits = jnp.asarray([[1e4, -1e4], [1e4, -1e4], [-1e4, -1e4]], dtype)
    labels = jnp.array([0, 1, 1])
    t = jax.nn.one_hot(labels, 2, dtype=dtype)
    loss, (dlogits, *_) = gradient(
        ops.softmax_cross_entropy,
        (logits, t if as_distribution else labels),
        jnp.asarray([1.0, 2.0, 4.0], dtype),
    )
    far = 2.0 * float(logits[0, 0])
    assert_close(loss, [0.0, far, np.log(2.0)], dtype)
    assert_close(dlogits, [[0, 0], [2, -2], [2, -2]], dtype, rounded=4.0)


@pytest.mark.parametrize("as_distribution", [False, True])
def test_logits_of_minus_infinity(as_distribution, dtype):
    """A class of probability 0: free where it is not the label, infinitely wrong where it is."""
    logits = jnp.asarray([[-jnp.inf, 0.0, 0.0]] * 2, dtype)
    labels = jnp.array([1, 0])
    t = jax.nn.one_hot(labels, 3, dtype=dtype)
    loss, (dlogits, *dlabels) = gradient(
        ops.softmax_cross_entropy, (logits, t if as_distribution else labels), jnp.ones(2, dtype)
    )
    assert_close(loss, [np.log(2.0), np.inf], dtype)
    assert_close(dlogits, [[0.0, -0.5, 0.5], [-1.0, 0.5, 0.5]], dtype, rounded=1.0)
    if as_distribution:
        half = np.log(2.0)
        assert_close(dlabels[0], [[0.0, half, half], [np.inf, half, half]], dtype)


def test_smoothing_spreads_over_impossible_classes():
    logits = jnp.array([-jnp.inf, 0.0])

    def loss(logits, smoothing):
        return ops.softmax_cross_entropy(logits, 1, label_smoothing=smoothing)

    assert loss(logits, 0.0) == 0.0
    assert loss(logits, jnp.float32(0.0)) == 0.0
    assert loss(logits, 0.5) == jnp.inf
    np.testing.assert_array_equal(jax.grad(loss)(logits, 0.5), [-0.25, 0.25])


@pytest.mark.parametrize("as_distribution", [False, True])
def test_smoothing_is_data(as_distribution, rng, x64):
    """A sweep's values, traced, give what each of them gives alone, and their gradients."""
    logits, labels = jnp.asarray(rng.standard_normal((4, 5))), jnp.asarray(rng.integers(5, size=4))
    t = jnp.asarray(rng.dirichlet(np.ones(5), 4)) if as_distribution else labels

    def loss(smoothing):
        return ops.softmax_cross_entropy(logits, t, label_smoothing=smoothing).sum()

    values = jnp.array([0.0, 0.1, 0.5, 1.0])
    losses, slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(values)
    assert_close(losses, np.array([loss(s) for s in (0, 0.1, np.float64(0.5), 1)]), jnp.float64, 20)
    # The loss is linear in the smoothing.
    assert_close(slopes, np.full(4, loss(1.0) - loss(0.0)), jnp.float64, 20, terms=10.0)
    assert_close(losses[-1], -jax.nn.log_softmax(logits).mean(-1).sum(), jnp.float64, 20)


def test_smoothing_zero_is_none_bitwise(dtype, rng):
    logits, labels = jnp.asarray(rng.standard_normal((4, 5)), dtype), jnp.array([0, 1, 2, 3])
    expected = ops.softmax_cross_entropy(logits, labels)
    for zero in (0, 0.0, np.float32(0.0), jnp.float32(0.0)):
        got = ops.softmax_cross_entropy(logits, labels, label_smoothing=zero)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_labels_wider_than_logits(label_smoothing, x64):
    logits, labels = jnp.zeros((2, 4), jnp.float32), jnp.full((2, 4), 0.25, jnp.float64)
    function = functools.partial(ops.softmax_cross_entropy, label_smoothing=label_smoothing)
    loss, (dlogits, dlabels) = gradient(function, (logits, labels), jnp.ones(2, jnp.float32))
    assert (loss.dtype, dlogits.dtype, dlabels.dtype) == (jnp.float32, jnp.float32, jnp.float64)
    assert_close(loss, np.full(2, np.log(4.0)), jnp.float32)


def test_weights_of_examples_are_the_callers(rng, x64):
    """A cotangent per example: the gradient of one example is not spread over the batch."""
    logits, labels = jnp.asarray(rng.standard_normal((3, 4))), jnp.array([0, 3, 1])
    for function in (ops.softmax_cross_entropy, ops.cross_entropy):
        _, (dscores,) = gradient(function, (jnp.exp(logits), labels), jnp.eye(3)[1])
        assert (dscores[1] != 0).any()
        assert (dscores[::2] == 0).all()


def test_penalty_by_hand():
    params = {"a": jnp.array([3.0, 4.0]), "b": [jnp.array(2.0), None]}
    assert ops.l2_penalty(params) == 29.0
    gradients = jax.grad(ops.l2_penalty)(params)
    assert jax.tree.map(lambda g: g.tolist(), gradients) == {"a": [6.0, 8.0], "b": [4.0, None]}
    assert ops.l2_penalty({}) == 0.0
    assert jax.grad(ops.l2_penalty)({}) == {}
    assert ops.l2_penalty(jnp.zeros((0, 3))) == 0.0


def test_penalty_of_half_precision_is_float32():
    params = {"half": jnp.ones(4096, jnp.bfloat16), "single": jnp.ones(3)}
    penalty, gradients = jax.value_and_grad(ops.l2_penalty)(params)
    assert (penalty.dtype, penalty) == (jnp.float32, 4099.0)
    assert gradients["half"].dtype == jnp.bfloat16
    assert (gradients["half"] == 2.0).all()


def test_penalty_inside_a_loss_of_one_example(rng, x64):
    weight, xs = jnp.asarray(rng.standard_normal(4)), jnp.asarray(rng.standard_normal((3, 4)))

    def loss(w):
        return jax.vmap(lambda x: jnp.vdot(w, x) + ops.l2_penalty({"w": w}))(xs).sum()

    assert_close(jax.grad(loss)(weight), xs.sum(0) + 3 * 2 * weight, jnp.float64, 3, terms=10.0)


def test_residuals(dtype, rng):
    scores = jnp.asarray(rng.uniform(0.1, 1.0, (16, 10)), dtype)
    classes, labels = jnp.asarray(rng.integers(10, size=16)), jnp.ones((16, 10), dtype)
    per_example = 16 * 8  # The labels, or one number an example.

    def fused(logits, smoothing):
        return ops.softmax_cross_entropy(logits, classes, label_smoothing=smoothing)

    assert residual_bytes(ops.softmax_cross_entropy, scores, classes) == scores.nbytes
    smoothed = residual_bytes(fused, scores, jnp.asarray(0.1, dtype))
    assert scores.nbytes <= smoothed <= scores.nbytes + per_example
    assert residual_bytes(ops.softmax_cross_entropy, scores, labels) <= 2 * scores.nbytes
    assert residual_bytes(ops.cross_entropy, scores, classes) <= 2 * per_example
    assert residual_bytes(ops.cross_entropy, scores, labels) <= 2 * scores.nbytes
    assert residual_bytes(ops.l2_penalty, {"w": scores}) == scores.nbytes


@BOTH
def test_shapes_that_do_not_fit(name):
    function = getattr(ops, name)
    scores = {"cross_entropy": "probs", "softmax_cross_entropy": "logits"}[name]
    for labels, match in (
        (jnp.zeros(3, jnp.int32), rf"integer labels must be {scores}'s shape.*\[2\]; got \[3\]"),
        (jnp.zeros((2, 4), jnp.int32), r"integer labels must be .*\[2\]; got \[2, 4\]"),
        (jnp.zeros(2), rf"distributions must have {scores}'s shape \[2, 4\]; got \[2\]"),
        (jnp.zeros((2, 5)), r"distributions must have .*\[2, 4\]; got \[2, 5\]"),
    ):
        with pytest.raises(ValueError, match=match):
            function(jnp.ones((2, 4)), labels)
    for empty in (jnp.ones((2, 0)), jnp.float32(1.0)):
        with pytest.raises(ValueError, match=rf"{name}: {scores} must be \[..., classes\]; got"):
            function(empty, jnp.zeros(2, jnp.int32))


@BOTH
@pytest.mark.parametrize("labels", [[0, 4], [-1, 0], np.array([200, 0], np.uint8)])
def test_classes_out_of_range(name, labels):
    low, high = min(labels), max(labels)
    with pytest.raises(ValueError, match=rf"labels must lie in \[0, 4\); got {low} to {high}"):
        getattr(ops, name)(jnp.ones((2, 4)), jnp.asarray(labels))


@pytest.mark.parametrize("label_dtype", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize(
    ("name", "smoothing"),
    [("cross_entropy", None), *(("softmax_cross_entropy", share) for share in (None, 0.0, 0.1))],
)
def test_traced_class_out_of_range_is_nan(name, smoothing, label_dtype, dtype, rng):
    """Loss and gradient of that example alone, by hand and by autodiff; first and second order."""
    function, classes = getattr(ops, name), 5
    if smoothing is not None:
        function = functools.partial(function, label_smoothing=smoothing)
    # Without 64 bits JAX cuts the labels to 32, of which the op sees nothing.
    bound = np.iinfo(jax.dtypes.canonicalize_dtype(label_dtype))
    wrong = [c for c in (-100, -1, classes, classes + 256, bound.min, bound.max)
             if bound.min <= c <= bound.max and not 0 <= c < classes]  # fmt: skip
    labels = np.array([0, *wrong, classes - 1], label_dtype)
    right = np.array([0, *[1] * len(wrong), classes - 1], label_dtype)
    bad = np.isin(np.arange(len(labels)), range(1, len(labels) - 1))
    scores = jnp.asarray(rng.dirichlet(np.ones(classes), len(labels)), dtype)

    def value_and_gradients(f, scores, labels):
        def slope(scores):
            return jax.grad(lambda s: jnp.sum(f(s, labels)))(scores)

        second = jax.jvp(slope, (scores,), (jnp.ones_like(scores),))[1]
        return f(scores, labels), slope(scores), second

    def whole_and_mapped(f):
        each = functools.partial(value_and_gradients, f)
        return jax.jit(lambda *arguments: (each(*arguments), jax.vmap(each)(*arguments)))

    by_hand = whole_and_mapped(function)
    expected, _ = by_hand(scores, right)
    for compiled in (by_hand, whole_and_mapped(autodiff(function))):
        for results in compiled(scores, labels):
            for a, b in zip(results, expected, strict=True):
                assert jnp.isnan(a[bad]).all()
                assert_close(a[~bad], np.asarray(b)[~bad], dtype, 5, terms=50.0, rounded=50.0)


@BOTH
def test_class_that_the_label_dtype_cannot_count(name):
    """Of 300 classes 127 is one for int8, and -1 none: not class 255."""
    scores = jnp.full((3, 300), 1 / 300)
    labels = np.array([127, -1, -128], np.int8)
    loss = jax.jit(getattr(ops, name))(scores, labels)
    assert jnp.isnan(loss).tolist() == [False, True, True]
    # And 256 classes are as many as uint8 counts.
    loss = jax.jit(getattr(ops, name))(scores[:, :256], np.array([0, 128, 255], np.uint8))
    assert jnp.isfinite(loss).all()


@pytest.mark.parametrize("label", [-1, 3])
def test_traced_smoothing_and_a_class_out_of_range(label):
    def loss(smoothing, logits, label):
        return ops.softmax_cross_entropy(logits, label, label_smoothing=smoothing)

    arguments = jnp.float32(0.1), jnp.array([1.0, 2.0, 3.0]), jnp.int32(label)
    for f in (loss, autodiff(loss)):
        slope, dlogits = jax.jit(jax.grad(f, (0, 1)))(*arguments)
        assert jnp.isnan(slope)
        assert jnp.isnan(dlogits).all()


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, jnp.nan])
@pytest.mark.parametrize("as_distribution", [False, True])
def test_traced_smoothing_out_of_range_is_nan(as_distribution, smoothing):
    logits = jnp.array([1.0, 2.0, 3.0])
    t = jnp.array([0.0, 1.0, 0.0]) if as_distribution else jnp.int32(1)

    def loss(logits, smoothing):
        return ops.softmax_cross_entropy(logits, t, label_smoothing=smoothing)

    value, slope = jax.jit(jax.value_and_grad(loss))(logits, jnp.float32(smoothing))
    assert jnp.isnan(value)
    assert jnp.isnan(slope).all()


@BOTH
@pytest.mark.parametrize("labels", ["ab", None, [[0], [1, 2]]])
def test_labels_that_are_no_array(name, labels):
    with pytest.raises(TypeError, match=r"^labels must be an array or a number; got"):
        getattr(ops, name)(jnp.ones((2, 4)), labels)


@BOTH
@pytest.mark.parametrize("label_dtype", ["bool", "complex64"])
def test_labels_of_no_use(name, label_dtype):
    labels = jnp.zeros((2, 4), label_dtype)
    with pytest.raises(TypeError, match=rf"labels must be integer classes or .*{label_dtype}"):
        getattr(ops, name)(jnp.ones((2, 4)), labels)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan"), np.float32(2.0)])
def test_smoothing_out_of_range(smoothing):
    for value in (smoothing, jnp.float32(smoothing)):
        with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\]; got"):
            ops.softmax_cross_entropy(jnp.ones((2, 4)), jnp.array([0, 1]), label_smoothing=value)
    with pytest.raises(ValueError, match=r"label_smoothing must be a scalar; got shape \[2\]"):
        ops.softmax_cross_entropy(jnp.ones((2, 4)), [0, 1], label_smoothing=jnp.zeros(2))


def test_penalty_names_the_leaf():
    with pytest.raises(TypeError, match=r"params\['layers'\]\[1\] must .*got int32\[3\]"):
        ops.l2_penalty({"layers": [jnp.ones(2), jnp.arange(3)]})
