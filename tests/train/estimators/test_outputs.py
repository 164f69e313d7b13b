"""What an estimator makes of its network's outputs, and draws before it trains."""

import math

import jax
import numpy as np
import pytest
from scipy import sparse

import train.estimators as ours
from train.engine.optimizers import CONSTANT
from train.estimators import prediction


def fitted(classes, head, outputs, cls=ours.MLPClassifier):
    """An estimator whose network gives these outputs."""
    estimator = cls()
    estimator.classes_, estimator.out_activation_ = np.array(classes), head
    estimator.n_outputs_ = len(outputs[0])
    estimator._outputs = lambda X: np.array(outputs, float)
    return estimator


def test_of_several_classes_the_largest_output_counts():
    estimator = fitted(["a", "b", "c"], "softmax", [[0.0, 1.0, 0.5], [2.0, 1.0, 2.0]])
    assert estimator.predict(None).tolist() == ["b", "a"]
    odds = estimator.predict_proba(None)
    np.testing.assert_allclose(odds.sum(1), 1)
    np.testing.assert_allclose(odds[0, 1] / odds[0, 2], math.exp(0.5))


def test_of_two_classes_the_sign_of_the_output_counts():
    estimator = fitted(["a", "b"], "logistic", [[0.5], [-0.5], [0.0]])
    assert estimator.predict(None).tolist() == ["b", "a", "a"]
    odds = estimator.predict_proba(None)
    np.testing.assert_allclose(odds[:, 1], 1 / (1 + np.exp([-0.5, 0.5, 0])))
    np.testing.assert_allclose(odds.sum(1), 1)
    np.testing.assert_allclose(np.exp(estimator.predict_log_proba(None)), odds)
    only = fitted(["a"], "logistic", [[0.5], [-0.5]])
    assert only.predict(None).tolist() == ["a", "a"]


def test_each_label_is_there_or_not():
    estimator = fitted([0, 1], "logistic", [[0.5, -0.5], [0.0, 0.1]])
    assert estimator.predict(None).tolist() == [[1, 0], [0, 1]]
    expected = 1 / (1 + np.exp([[-0.5, 0.5], [0, -0.1]]))
    np.testing.assert_allclose(estimator.predict_proba(None), expected)


def test_one_number_is_no_column():
    assert fitted([], "identity", [[1.5], [2.5]], ours.MLPRegressor).predict(None).tolist() == [
        1.5, 2.5,
    ]  # fmt: skip
    several = fitted([], "identity", [[1.5, 2.5]], ours.MLPRegressor)
    assert several.predict(None).tolist() == [[1.5, 2.5]]


def test_scores_are_accuracy_and_r2():
    score = ours.MLPClassifier()._score_of_outputs
    assert score(np.array([[0, 1.0], [1.0, 0]]), np.array([1, 1]), None) == 0.5
    assert score(np.array([[0, 1.0], [1.0, 0]]), np.array([1, 1]), [3.0, 1.0]) == 0.75
    assert score(np.array([[1.0], [-1.0], [0.0]]), np.array([[1], [0], [0]]), None) == 1
    both = np.array([[1.0, -1.0], [1.0, 1.0]])
    assert score(both, np.array([[1, 0], [1, 0]]), None) == 0.5  # All labels of an example.
    assert math.isnan(score(np.array([[math.nan], [0]]), np.array([[1], [0]]), None))
    score = ours.MLPRegressor()._score_of_outputs
    targets = np.array([[[0.0]], [[2.0]]])
    assert score(np.array([[0.0], [2.0]]), targets, None) == 1
    assert score(np.array([[1.0], [1.0]]), targets, None) == 0
    assert math.isnan(score(np.array([[math.inf], [0]]), targets, None))


def test_targets_are_places_among_the_classes():
    estimator = ours.MLPClassifier()
    places, classes, head = estimator._targets(np.array(["b", "c", "a", "b"]), False)
    assert (places.tolist(), classes.tolist(), head) == ([1, 2, 0, 1], ["a", "b", "c"], "softmax")
    places, classes, head = estimator._targets(np.array([7, 5, 7]), False)
    assert (places.tolist(), classes.tolist(), head) == ([[1], [0], [1]], [5, 7], "logistic")
    labels = np.array([[0, 1], [1, 1]])
    places, classes, head = estimator._targets(labels, False)
    assert (places.tolist(), classes.tolist(), head) == (labels.tolist(), [0, 1], "logistic")
    with pytest.raises(ValueError, match="got several columns of classes"):
        estimator._targets(np.array([[0, 1], [2, 1]]), False)
    estimator = ours.MLPClassifier(warm_start=True)
    estimator.classes_, estimator.coefs_ = np.array([0, 1, 2]), []
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        estimator._targets(np.array([0, 1]), True)
    assert estimator._targets(np.array([0, 1, 3]), False)[1].tolist() == [0, 1, 3]
    numbers, classes, head = ours.MLPRegressor()._targets(np.array([1, 2]), False)
    assert (numbers.tolist(), classes, head) == ([[[1]], [[2]]], None, "identity")


def test_a_weight_is_a_number_for_each_example():
    estimator = ours.MLPClassifier()
    assert estimator._weights(2, 3).tolist() == [2, 2, 2]
    assert estimator._weights([0, 1, 2], 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="sample_weight must not be zero for all examples"):
        estimator._weights([0, 0], 2)
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(3,\), .*got \(2,\)"):
        estimator._weights([1, 1], 3)


@pytest.mark.parametrize(("activation", "factor"), [("relu", 6), ("logistic", 2), ("sigmoid", 2)])
def test_weights_and_biases_are_drawn_by_glorot(activation, factor):
    estimator = ours.MLPClassifier(activation=activation)
    coefs, intercepts = estimator._drawn([30, 40, 5], np.random.RandomState(0))
    assert [w.shape for w in coefs] == [(30, 40), (40, 5)]
    assert [b.shape for b in intercepts] == [(40,), (5,)]
    for weights, total in zip(coefs, (70, 45), strict=True):
        bound = math.sqrt(factor / total)
        assert 0.95 * bound < weights.max() <= bound
        assert -bound <= weights.min() < -0.95 * bound


def test_what_is_held_out_has_all_classes_in_their_shares():
    y = np.repeat([0, 1], [30, 10])[:, None]
    estimator = ours.MLPClassifier(validation_fraction=0.2)
    picked, held = estimator._split(y, np.array([0, 1]), np.random.RandomState(0))
    assert sorted([*picked, *held]) == list(range(40))
    assert np.bincount(y[held, 0]).tolist() == [6, 2]
    estimator.validation_fraction = 0.03
    with pytest.raises(ValueError, match="The validation set is too small"):
        estimator._split(np.zeros((30, 2)), None, np.random.RandomState(0))
    estimator.validation_fraction = 2 / 30
    assert len(estimator._split(np.zeros((30, 2)), None, np.random.RandomState(0))[1]) == 2


def test_numbers_and_schedules():
    estimator = ours.MLPClassifier(alpha=0.5, schedule="step", max_iter=7)
    numbers = estimator._numbers()
    assert numbers["l2"] == 0.25
    assert numbers["decay"] == 0.1  # The default of --schedule step.
    schedule = estimator._schedule(3)
    assert schedule[:3] == ("step", 3 * 10, 3 * 7)
    estimator.schedule = "cosine"
    assert estimator._schedule(3)[:3] == ("cosine", 3, 3 * 7)
    assert "decay" not in estimator._numbers()
    assert ours.MLPClassifier()._schedule(3) == CONSTANT


def test_parameters_go_to_a_training():
    x, y = np.zeros((300, 3)), np.arange(300) % 3
    estimator = ours.MLPClassifier((4,), random_state=0)
    run = estimator._run(x, y, np.arange(300), None)
    assert (run.batch_size, run.steps, run.shape.dtype) == (200, 2, "float32")
    assert run.sizes == [3, 4, 3]
    assert run.shape.head == "softmax"
    assert (run.key, run.shape.drops, run.shape.nesterov) == (0, False, False)
    small = estimator._run(x[:200], y[:200], np.arange(200), None)
    assert (small.batch_size, small.shape.dtype) == (200, "float64")
    single = estimator._run(x[:200].astype(np.float32), y[:200], np.arange(200), None)
    assert single.shape.dtype == "float32"
    dropped = ours.MLPClassifier((4,), dropout=0.5, solver="sgd", random_state=0)
    run = dropped._run(x, y, np.arange(300), None)
    assert run.shape.drops
    assert run.shape.nesterov
    assert run.key > 0
    held = ours.MLPClassifier((4,), early_stopping=True, random_state=0)
    run = held._run(x, y, np.arange(300), np.arange(300.0))
    assert len(run.held[0]) == 30
    assert len(run.rows) == 270
    np.testing.assert_array_equal(run.weight, run.rows)  # Each example has its own.
    np.testing.assert_array_equal(run.held[2], run.held[0])
    np.testing.assert_array_equal(run.targets, y[run.rows])
    np.testing.assert_array_equal(run.held[1], y[run.held[0]])
    larger = ours.MLPClassifier((4,), batch_size=301)
    with pytest.warns(UserWarning, match="batch_size=301 is larger than the 300 examples"):
        assert larger._run(x, y, np.arange(300), None).batch_size == 300
    assert ours.MLPClassifier((4,), batch_size=300)._run(x, y, np.arange(300), None).steps == 1


def adopted(score, **parameters):
    """An estimator that took over a training of no epoch; its validation had this score."""
    estimator = ours.MLPClassifier((4,), random_state=0, **parameters)
    x, y = np.zeros((30, 3)), np.arange(30) % 3
    estimator._validated(x, y, None, reset=True)
    run = estimator._run(x, y, np.arange(30), None)
    run.state = run.start(run.shape.state)
    run.best_score, run.best_loss, run.loss_curve, run.scores = score, 0.25, [0.5, 0.25], [score]
    run.n_iter, run.seen, run.waited = 2, 60, 1
    estimator._adopt(run)
    return estimator, run


@pytest.mark.usefixtures("here")
def test_what_was_trained_is_taken_over():
    estimator, run = adopted(0.75)
    assert [w.shape for w in estimator.coefs_] == [(3, 4), (4, 3)]
    np.testing.assert_allclose(estimator.coefs_[0], run.coefs[0], rtol=1e-6)
    assert (estimator.n_layers_, estimator.n_outputs_, estimator.out_activation_) == (
        3,
        3,
        "softmax",
    )
    assert (estimator.n_iter_, estimator.t_, estimator._no_improvement_count) == (2, 60, 1)
    assert (estimator.loss_, estimator.loss_curve_) == (0.25, [0.5, 0.25])
    assert estimator.best_loss_ == 0.25
    assert estimator.validation_scores_ is estimator.best_validation_score_ is None
    assert estimator.classes_.tolist() == [0, 1, 2]
    held, _ = adopted(0.75, early_stopping=True)
    assert held.best_loss_ is None
    assert (held.validation_scores_, held.best_validation_score_) == ([0.75], 0.75)
    lbfgs, _ = adopted(0.75, solver="lbfgs")
    assert lbfgs.loss_ == 0.25
    assert not hasattr(lbfgs, "loss_curve_")
    run.state = run.state._replace(
        params=jax.tree.map(lambda leaf: leaf * np.float32(math.nan), run.state.params)
    )
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        estimator._adopt(run)


@pytest.mark.usefixtures("here")
def test_examples_have_the_features_of_those_to_train_on(monkeypatch):
    estimator, _ = adopted(0.75)
    monkeypatch.setattr("train.estimators.mlp.outputs", lambda *a: a[-1])
    x = np.ones((2, 3))
    for given in (x, x.tolist(), sparse.csr_array(x)):
        assert estimator._outputs(given).tolist() == x.tolist()
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3"):
        estimator.predict(np.ones((2, 2)))


def test_a_warning_names_the_line_that_calls(monkeypatch):
    monkeypatch.setattr("train.estimators.mlp.training.train", lambda *a: 1 / 0)
    estimator = ours.MLPClassifier((4,), batch_size=31)
    with (
        pytest.warns(UserWarning, match="batch_size=31 is larger") as found,
        pytest.raises(ZeroDivisionError),
    ):
        estimator.fit(np.zeros((30, 3)), np.arange(30) % 3)
    assert [warning.filename for warning in found] == [__file__]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("examples", "chunks"), [(1, [256]), (256, [256]), (257, [1000]), (1001, [1000, 1000])]
)
def test_few_or_many_examples_are_computed_at_a_time(monkeypatch, examples, chunks):
    """So that there are two programs, whatever is asked for."""
    seen = []

    def predict(state, filled):
        seen.append(len(filled))
        assert filled.shape[1] == 16
        return filled[:, :1, None] * np.ones(2)

    kept = prediction.kept
    monkeypatch.setattr(
        prediction,
        "kept",
        lambda key, make: predict if key[1:] == ("outputs",) else kept(key, make),
    )
    shape = ours.MLPClassifier((4,))._run(
        np.zeros((examples, 3)), np.arange(examples) % 2, np.arange(examples), None
    ).shape  # fmt: skip
    x = np.arange(3.0 * examples).reshape(examples, 3)
    found = prediction.outputs(
        shape, [np.zeros((3, 4)), np.zeros((4, 1))], [np.zeros(4), np.zeros(1)], (None, None), x
    )
    assert seen == chunks
    assert found.dtype == np.float64
    assert found.tolist() == x[:, :1].tolist()


@pytest.mark.usefixtures("here")
def test_a_norm_is_given_its_scales_and_its_statistics(monkeypatch):
    seen, kept = [], prediction.kept
    monkeypatch.setattr(
        prediction,
        "kept",
        lambda key, make: (
            (lambda state, x: seen.append(state) or np.zeros((256, 1, 2)))
            if key[1:] == ("outputs",)
            else kept(key, make)
        ),
    )
    shape = ours.MLPClassifier((4,), norm="batch")._run(
        np.zeros((6, 3)), np.arange(6) % 2, np.arange(6), None
    ).shape  # fmt: skip
    coefs, biases = [np.zeros((3, 4)), np.zeros((4, 1))], [np.zeros(4), np.zeros(1)]
    learned, statistics = (
        [np.full(4, value) for value in values] for values in ((2.0, 3.0), (5.0, 6.0))
    )
    prediction.outputs(shape, coefs, biases, (learned, statistics), np.zeros((6, 3)))
    for tree, expected in ((seen[0].params, {2, 3}), (seen[0].statistics, {5, 6})):
        values = {value for leaf in jax.tree.leaves(tree) for value in np.unique(leaf)}
        assert values - {0} == expected
