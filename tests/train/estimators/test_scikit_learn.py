"""The estimators beside scikit-learn's own, which draw the same weights and orders."""

import copy
import pickle

import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import train.estimators as ours

X, Y = load_iris(return_X_y=True)
LABELLED = make_multilabel_classification(60, n_features=5, n_classes=3, random_state=0)
NUMBERS = make_regression(60, 5, n_targets=1, random_state=0)
SEVERAL = make_regression(60, 5, n_targets=3, random_state=0)
WEIGHT = np.random.default_rng(0).uniform(0, 2, len(X))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("here"),
]


def both(name, data, weight=None, **parameters):
    given = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | parameters
    fitted = [getattr(of, name)(**given).fit(*data, weight) for of in (theirs, ours)]
    return [*fitted, data[0]]


def assert_alike(expected, got, x, places):
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(got, name, None) == getattr(expected, name, None), name
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "classes_"):
        if getattr(expected, name, None) is None:
            assert getattr(got, name, None) is None
        else:
            np.testing.assert_allclose(
                getattr(got, name), getattr(expected, name), rtol=places, err_msg=name
            )
    for mine, other in zip(
        got.coefs_ + got.intercepts_, expected.coefs_ + expected.intercepts_, strict=True
    ):
        np.testing.assert_allclose(mine, other, atol=places)
    np.testing.assert_allclose(got.predict(x), expected.predict(x), rtol=places, atol=places)
    if hasattr(expected, "predict_proba"):
        np.testing.assert_allclose(got.predict_proba(x), expected.predict_proba(x), atol=places)


@pytest.mark.parametrize(
    ("name", "data", "weight", "parameters", "places"),
    [
        # A set that one batch holds is computed with in float64.
        ("MLPClassifier", (X, Y), None, {"alpha": 3.0}, 1e-10),
        ("MLPClassifier", (X[:100], Y[:100]), None, {"beta_1": 0.5, "epsilon": 1e-3}, 1e-10),
        ("MLPClassifier", LABELLED, None, {"activation": "tanh"}, 1e-10),
        ("MLPClassifier", (X, Y), WEIGHT, {"batch_size": 40, "activation": "logistic"}, 1e-5),
        ("MLPClassifier", (X, Y), None, {"early_stopping": True, "max_iter": 6}, 1e-10),
        (
            "MLPClassifier",
            (X, Y),
            None,
            {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
            1e-10,
        ),
        (
            "MLPClassifier",
            (X, Y),
            None,
            {"solver": "sgd", "learning_rate": "adaptive", "nesterovs_momentum": False,
             "tol": 1.0, "n_iter_no_change": 1, "max_iter": 30},
            1e-10,
        ),
        ("MLPClassifier", (X, Y), None, {"tol": 1.0, "n_iter_no_change": 2, "max_iter": 9}, 1e-10),
        ("MLPClassifier", (X, Y), WEIGHT, {"solver": "lbfgs", "max_iter": 4}, 1e-6),
        ("MLPRegressor", NUMBERS, None, {"shuffle": False, "batch_size": 7}, 1e-5),
        ("MLPRegressor", SEVERAL, None, {"activation": "identity"}, 1e-10),
        ("MLPRegressor", NUMBERS, None, {"early_stopping": True}, 1e-10),
    ],
)  # fmt: skip
def test_it_is_trained_as_scikit_learn_trains(name, data, weight, parameters, places):
    assert_alike(*both(name, data, weight, **parameters), places)


def test_a_warm_start_and_partial_fits_go_on_as_in_scikit_learn():
    for name, data in (("MLPClassifier", (X, Y)), ("MLPRegressor", NUMBERS)):
        expected, got, x = both(name, data, warm_start=True)
        assert_alike(expected.fit(*data), got.fit(*data), x, 1e-10)
        expected, got, x = both(name, data)
        for estimator in (expected, got):  # With the state of the optimizer.
            estimator.partial_fit(*data)
        assert_alike(expected, got, x, 1e-10)
        expected, got = clone(expected), clone(got)
        more = {"classes": np.unique(Y)} if name == "MLPClassifier" else {}
        for estimator in (expected, got):
            for _ in range(3):
                estimator.partial_fit(*data, **more)
        assert_alike(expected, got, x, 1e-10)


@pytest.mark.parametrize("cls", [ours.MLPClassifier, ours.MLPRegressor])
def test_check_estimator(cls):
    """All checks of scikit-learn, on a net that learns in few epochs."""
    estimator = cls(hidden_layer_sizes=(8,), max_iter=50, learning_rate_init=0.05)
    found = check_estimator(estimator, on_fail="raise", on_skip=None)
    assert len(found) > 50


def test_it_is_copied_pickled_and_cross_validated_in_a_pipeline():
    estimator = ours.MLPClassifier((8,), max_iter=30, learning_rate_init=0.05, random_state=0)
    assert clone(estimator).get_params() == estimator.get_params()
    pipeline = make_pipeline(StandardScaler(), estimator)
    assert cross_val_score(pipeline, X, Y, cv=3).min() > 0.9
    fitted = pipeline.fit(X, Y)
    expected = fitted.predict_proba(X)
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.predict_proba(X), expected)
    more = pickle.loads(pickle.dumps(fitted[-1])).partial_fit(X, Y)
    np.testing.assert_array_equal(more.predict(X), fitted[-1].partial_fit(X, Y).predict(X))


@pytest.mark.parametrize(
    "parameters",
    [
        {"norm": "batch", "batch_size": 40},
        {"norm": "layer", "dropout": 0.2},
        {"norm": "rms", "activation": "gelu", "solver": "lion", "learning_rate_init": 0.01},
        {"solver": "muon", "schedule": "cosine"},
        {"solver": "adamw", "schedule": "step", "activation": "elu"},
    ],
)
def test_what_scikit_learn_does_not_have_learns(parameters):
    given = {"learning_rate_init": 0.05, "max_iter": 40, "random_state": 0} | parameters
    estimator = ours.MLPClassifier((16,), **given).fit(X, Y)
    assert estimator.loss_curve_[-1] < 0.5 * estimator.loss_curve_[0]
    assert estimator.score(X, Y) > 0.8
    again = ours.MLPClassifier((16,), **given).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), estimator.predict_proba(X))
    other = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(other.predict_proba(X), estimator.predict_proba(X))


def test_it_warns_where_it_did_not_converge():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        ours.MLPClassifier((4,), max_iter=2).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must be whole numbers from 1 on"),
        ({"activation": "softplus2"}, "activation must be one of 'identity', 'logistic'"),
        ({"solver": "momentum"}, "solver must be one of 'lbfgs', 'sgd', 'adam'"),
        ({"alpha": -1.0}, "alpha must be a finite number, not negative; got -1.0"),
        ({"beta_2": 1.0}, r"beta_2 must be a number in \[0, 1\); got 1.0"),
        ({"max_iter": 0}, "max_iter must be a whole number from 1 on; got 0"),
        ({"dropout": True}, "dropout must be a number"),
        ({"solver": "lbfgs", "dropout": 0.1}, "dropout=0.1 needs a solver that takes batches"),
        ({"solver": "lbfgs", "norm": "batch"}, "norm='batch' needs a solver"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(parameters, line):
    with pytest.raises(ValueError, match=f"^MLPClassifier: {line}") as raised:
        ours.MLPClassifier(**parameters).fit(X, Y)
    assert "\n" not in str(raised.value)


def test_targets_and_weights_that_do_not_fit_are_refused():
    for weight, line in (
        (np.zeros(len(X)), "must not be zero for all"),
        (np.ones(3), r"sample_weight must have shape \(150,\)"),
    ):
        with pytest.raises(ValueError, match=line):
            ours.MLPClassifier((4,)).fit(X, Y, weight)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        ours.MLPClassifier((4,)).partial_fit(X, Y)
    with pytest.raises(ValueError, match="classes not in"):
        ours.MLPClassifier((4,)).partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        ours.MLPRegressor(solver="sgd", learning_rate_init=1e30).fit(*NUMBERS)
