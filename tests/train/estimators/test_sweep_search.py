"""A search that trains all at once, beside scikit-learn's over the same estimators."""

import time

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_regression
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.support import compilations
from train.estimators import MLPClassifier, MLPRegressor, SweepSearchCV, training

X, Y = load_iris(return_X_y=True)
X32 = X.astype(np.float32)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("here"),
]


@pytest.fixture
def trainings(monkeypatch):
    """How many runs each training had."""
    found = []
    train = training.train

    def counted(runs, *arguments, **options):
        found.append(len(runs))
        return train(runs, *arguments, **options)

    monkeypatch.setattr(training, "train", counted)
    monkeypatch.setattr("train.estimators.sweep_search.train", counted)
    return found


def net(**parameters):
    given = {"hidden_layer_sizes": (4,), "max_iter": 4, "random_state": 0, "batch_size": 40}
    return MLPClassifier(**given | parameters)


def assert_same_search(got, expected, x):
    assert set(got.cv_results_) == set(expected.cv_results_)
    for name, values in expected.cv_results_.items():
        if "time" not in name:
            if values.dtype.kind == "f" if hasattr(values, "dtype") else False:
                np.testing.assert_allclose(got.cv_results_[name], values, atol=1e-5, err_msg=name)
            elif "rank" not in name:
                assert list(got.cv_results_[name]) == list(values), name
    assert got.n_splits_ == expected.n_splits_
    assert got.multimetric_ == expected.multimetric_
    if expected.refit:
        assert got.best_index_ == expected.best_index_
        assert got.best_params_ == expected.best_params_
        np.testing.assert_allclose(got.best_score_, expected.best_score_, atol=1e-5)
        np.testing.assert_allclose(
            got.best_estimator_.loss_curve_, expected.best_estimator_.loss_curve_, rtol=1e-4
        )
        np.testing.assert_allclose(got.predict(x), expected.predict(x), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "grid", "options", "runs"),
    [
        # Two widths share a program; early stopping ends runs at different epochs.
        (
            net(early_stopping=True, n_iter_no_change=1, max_iter=8),
            {"hidden_layer_sizes": [(3,), (4,)], "learning_rate_init": [1e-3, 0.05]},
            {"cv": 3, "return_train_score": True},
            12,
        ),
        (
            net(),
            [{"alpha": [0.0, 1.0], "beta_1": [0.5]}, {"solver": ["sgd"], "momentum": [0.5, 0.9]}],
            {"cv": ShuffleSplit(2, random_state=0), "scoring": ["accuracy", "neg_log_loss"],
             "refit": "neg_log_loss"},
            8,
        ),
    ],
)  # fmt: skip
def test_it_finds_what_grid_search_finds(estimator, grid, options, runs, trainings):
    search = SweepSearchCV(estimator, grid, **options).fit(X32, Y)
    assert trainings == [runs, 1]
    assert_same_search(search, GridSearchCV(estimator, grid, **options).fit(X32, Y), X32)


def test_a_regression_and_weights_are_searched(trainings):
    x, y = make_regression(60, 5, random_state=0)
    weight = np.random.default_rng(0).uniform(0.5, 2, 60)
    estimator = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0)
    options = {"cv": 2, "refit": lambda results: 1}
    grid, started = {"learning_rate_init": [0.1, 0.2]}, time.perf_counter()
    search = SweepSearchCV(estimator, grid, **options).fit(x, y, sample_weight=weight)
    # What each of the four fits took is its share of the whole.
    assert 0 < 2 * search.cv_results_["mean_fit_time"].sum() <= time.perf_counter() - started
    expected = GridSearchCV(estimator, grid, **options).fit(x, y, sample_weight=weight)
    assert search.best_index_ == 1
    np.testing.assert_allclose(
        search.cv_results_["split1_test_score"], expected.cv_results_["split1_test_score"], 1e-5
    )
    assert trainings[0] == 4


def test_the_steps_of_a_pipeline_are_fitted_for_each_fold(trainings):
    pipeline = make_pipeline(StandardScaler(), PCA(), net())
    grid = {"pca__n_components": [2, 3], "mlpclassifier__alpha": [0.1, 1.0]}
    search = SweepSearchCV(pipeline, grid, cv=2, refit=False).fit(X32, Y)
    assert sorted(trainings) == [4, 4]
    expected = GridSearchCV(pipeline, grid, cv=2, refit=False).fit(X32, Y)
    assert_same_search(search, expected, X32)


def test_what_fails_is_scored_as_error_score_says(trainings):
    grid = {"alpha": [-1.0, 1.0]}
    with pytest.warns(match="2 fits failed"):
        search = SweepSearchCV(net(), grid, cv=2, error_score=-7.0).fit(X32, Y)
    assert search.cv_results_["mean_test_score"][0] == -7.0
    assert trainings == [2, 1]
    with pytest.raises(ValueError, match="alpha must be"):
        SweepSearchCV(net(), grid, cv=2, error_score="raise").fit(X32, Y)


def test_numbers_are_traced_and_the_second_fit_of_a_shape_compiles_nothing():
    grid = {"alpha": [0.1, 1.0], "learning_rate_init": [0.1, 0.2], "momentum": [0.1]}
    SweepSearchCV(net(), grid, cv=3).fit(X32, Y)
    with compilations() as found:
        search = SweepSearchCV(net(beta_2=0.9), {**grid, "alpha": [0.2, 3.0]}, cv=3).fit(X32, Y)
        search.predict(X32[:7])
    assert found == []
    net().fit(X32, Y)
    with compilations() as found:
        net(alpha=0.3, epsilon=1e-3, max_iter=9, tol=0.5).fit(X32[:130], Y[:130]).predict(X32)
        net(random_state=3).partial_fit(X32, Y, classes=[0, 1, 2])
    assert found == []


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), Pipeline([("scale", StandardScaler()), ("last", LogisticRegression())])],
)
def test_another_estimator_is_refused_in_one_line(estimator):
    with pytest.raises(
        ValueError, match=r"^SweepSearchCV: estimator must be .* take GridSearchCV$"
    ):
        SweepSearchCV(estimator, {}).fit(X, Y)
