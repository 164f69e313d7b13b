"""A program of one linear layer, beside NumPy: what is minimised, reported, and left out."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import nets
from train.engine import program as module
from train.engine.hyperparameters import hyperparameters
from train.engine.input_pipeline import Data
from train.engine.program import make_program, metrics

CLASSES, RATE = 3, 0.5


def made(loss="softmax_cross_entropy", weight=None, rule="sgd", **numbers):
    """A program by a rule, the numbers of a run, five examples, and the first state."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 2], np.int32)
    y = rng.normal(size=(5, CLASSES)).astype(np.float32) if loss == "squared_error" else labels
    program = make_program(lambda hyper: nets.mlp((CLASSES,)), (2,), rule, loss=loss)
    hyper = hyperparameters({"learning_rate": RATE, **numbers})
    data = Data(x, y, jnp.float32([1.0, -2.0]), jnp.float32([0.5, 3.0]), weight)
    data = jax.tree.map(jnp.asarray, data)
    state = program.initialise(hyper, jax.random.key(0))
    return program, hyper, data, state


def linear(state):
    """The weights and biases of a state, float64."""
    leaves = [np.float64(leaf) for leaf in jax.tree.leaves(state.params)]
    (weights,) = [leaf for leaf in leaves if leaf.ndim == 2]
    (biases,) = [leaf for leaf in leaves if leaf.ndim == 1]
    return weights, biases


def seen(data):
    return (np.float64(data.x) - np.float64(data.shift)) * np.float64(data.scale)


def losses(weights, biases, x, y, smoothing=0.0):
    """The loss of each example, and its gradient with respect to what the network computes."""
    z = x @ weights + biases
    if np.asarray(y).dtype != np.int32:
        return 0.5 * np.square(z - y).mean(1), (z - y) / CLASSES
    targets = (1 - smoothing) * np.eye(CLASSES)[y] + smoothing / CLASSES
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    return -(targets * log_p).sum(1), np.exp(log_p) - targets


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "squared_error"])
@pytest.mark.parametrize("l2", [None, 0.25])
def test_a_weighted_loss_and_its_gradient(loss, l2):
    counts = np.float32([1.0, 0.0, 2.0, 0.5, 1.0])
    program, hyper, data, state = made(loss, counts, **({} if l2 is None else {"l2": l2}))
    terms, gradient = jax.jit(program.value_and_gradient)(state, hyper, data)
    weights, biases = linear(state)
    each, of_outputs = losses(weights, biases, seen(data), data.y)
    total, penalty = counts.sum(), l2 or 0.0
    expected = [counts @ each / total, penalty * np.square(weights).sum() / total]
    np.testing.assert_allclose(terms, expected, rtol=1e-5)
    of_outputs = of_outputs * counts[:, None] / total
    found = linear(types.SimpleNamespace(params=gradient))
    of_weights = seen(data).T @ of_outputs + 2 * penalty * weights / total
    np.testing.assert_allclose(found[0], of_weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], of_outputs.sum(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighted", [True, False])
def test_an_epoch_of_batches_of_which_the_last_is_filled_up(weighted):
    """An entry ~i repeats the example i, and counts for nothing; a third batch is not taken."""
    counts = np.float32([1.0, 2.0, 3.0, 0.5, 1.0]) if weighted else None
    program, hyper, data, state = made(weight=counts, l2=0.25)
    batches = jnp.int32([[4, 0, 2], [1, 3, ~0], [0, 1, 2]])
    after, sums = jax.jit(program.train_batches)(state, hyper, data, batches, jnp.int32(2))
    weights, biases = linear(state)
    expected = np.zeros(2)
    for batch in ([4, 0, 2], [1, 3]):
        x, y = seen(data)[batch], np.asarray(data.y)[batch]
        of = np.ones(len(batch)) if counts is None else np.float64(counts)[batch]
        each, of_outputs = losses(weights, biases, x, y)
        total = of.sum()
        terms = np.array([of @ each, 0.25 * np.square(weights).sum()]) / total
        expected += len(batch) * terms
        of_outputs = of_outputs * of[:, None] / total
        weights = weights - RATE * (x.T @ of_outputs + 2 * 0.25 * weights / total)
        biases = biases - RATE * of_outputs.sum(0)
    assert after.step == 2
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    for leaf, other in zip(linear(after), (weights, biases), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-6)


def test_the_optimizer_starts_anew_at_step_0_alone():
    program, hyper, data, state = made(rule="adagrad")
    epoch, batches = jax.jit(program.train_batches), jnp.int32([[0, 1, 2]])

    def after(step, moments):
        begun = state._replace(step=jnp.int32(step), moments=moments)
        return linear(epoch(begun, hyper, data, batches, jnp.int32(1))[0])

    others = jax.tree.map(lambda leaf: leaf + jnp.asarray(7, leaf.dtype), state.moments)
    for step, same in ((0, True), (1, False)):
        pairs = zip(after(step, state.moments), after(step, others), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs) == same


@pytest.mark.parametrize("numbers", [{}, {"l2": 0.25, "label_smoothing": 0.3}])
def test_a_step_minimises_more_than_it_reports(numbers):
    program, hyper, data, state = made(**numbers)
    batch = [3, 0, 1]
    after, trace = jax.jit(program.train_segment)(state, hyper, data, jnp.int32([batch]))
    weights, biases = linear(state)
    x, y = seen(data)[batch], np.asarray(data.y)[batch]
    plain, _ = losses(weights, biases, x, y)
    np.testing.assert_allclose(trace["loss"], [plain.mean()], rtol=1e-5)
    right = (x @ weights + biases).argmax(1) == y
    assert trace["accuracy"].tolist() == [right.sum()]
    _, of_outputs = losses(weights, biases, x, y, numbers.get("label_smoothing", 0.0))
    of_weights = x.T @ of_outputs / 3 + 2 * numbers.get("l2", 0.0) * weights
    found = linear(after)
    np.testing.assert_allclose(found[0], weights - RATE * of_weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], biases - RATE * of_outputs.mean(0), rtol=1e-4, atol=1e-6)


def test_norms_are_those_of_single_examples():
    program, hyper, data, state = made()
    batch = [3, 0]
    found = jax.jit(program.gradient_norms)(state, hyper, data, jnp.int32(batch))
    x = seen(data)[batch]
    _, of_outputs = losses(*linear(state), x, np.asarray(data.y)[batch])
    expected = np.sqrt(np.square(of_outputs).sum(1) * (np.square(x).sum(1) + 1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 6])
def test_examples_are_predicted_in_chunks_in_their_order(monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    program, hyper, data, state = made()
    weights, biases = linear(state)
    found = program.predict(state, hyper, data)
    np.testing.assert_allclose(found, seen(data) @ weights + biases, rtol=1e-4, atol=1e-5)


def test_metrics_of_predictions_are_the_loss_alone():
    found = metrics(jnp.float32([[1.0, 2.0]]), jnp.float32([[3.0, 5.0]]), "squared_error")
    assert found == {"loss": (4 + 9) / 2}
    logits = jnp.float32([[0.0, 1.0], [2.0, 0.0]])
    assert metrics(logits, jnp.int32([1, 1]))["accuracy"] == 1


@pytest.mark.parametrize(("gradient", "calls"), [("explicit", 0), ("autodiff", 3)])
def test_rules_are_forgotten_where_that_is_asked_for(monkeypatch, gradient, calls):
    forgotten = []
    monkeypatch.setattr(module, "autodiff", lambda f: forgotten.append(f) or f)
    make_program(lambda hyper: nets.mlp((CLASSES,)), (2,), "sgd", gradient=gradient)
    assert len(forgotten) == calls
