"""Which fits a search prepares, on which rows of which matrix, and what it takes over."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from train.estimators import MLPClassifier, sweep, sweep_search
from train.estimators.sweep import Done, done
from train.estimators.sweep_search import _Fits, _taken

X = np.random.default_rng(0).normal(5.0, 3.0, (20, 3))
Y = np.arange(20) % 2
FOLDS = [(np.arange(0, 16), np.arange(16, 20)), (np.arange(4, 20), np.arange(0, 4))]
WEIGHT = np.arange(1.0, 21.0)


@pytest.fixture
def trained(monkeypatch):
    """The runs and the matrix of each training, instead of training."""
    found = []

    def train(runs, x, longest):
        found.append((runs, x, longest))
        return {len(found): "compiled"}

    monkeypatch.setattr(sweep_search, "train", train)
    return found


def net(**parameters):
    return MLPClassifier(**{"hidden_layer_sizes": (4,), "random_state": 0} | parameters)


def test_all_candidates_train_on_the_rows_of_one_matrix(trained):
    found = _Fits(net(), X, Y, {"sample_weight": WEIGHT}).trained({"alpha": [0.5, 2.0]}, FOLDS)
    ((runs, x, longest),) = trained
    np.testing.assert_array_equal(x, X)
    assert longest == 20
    assert [run.numbers["l2"] for run in runs] == [0.25, 0.25, 1.0, 1.0]
    for run, (rows, _) in zip(runs, FOLDS * 2, strict=True):
        np.testing.assert_array_equal(run.rows, rows)
        np.testing.assert_array_equal(run.weight, WEIGHT[rows])
        np.testing.assert_array_equal(run.targets[:, 0], Y[rows])
    assert [fit.run for fit in found.fits] == runs
    assert found.compiled == {1: "compiled"}
    assert found.fits[0].is_of(net(alpha=0.5).get_params(), X[:16], Y[:16], WEIGHT[:16])


def test_rows_may_be_a_mask(trained):
    mask = np.arange(20) % 4 < 3
    _Fits(net(), X, Y, {}).trained({}, [(mask, ~mask)])
    np.testing.assert_array_equal(trained[0][0][0].rows, np.flatnonzero(mask))


def test_the_steps_before_are_fitted_for_each_fold_and_their_matrices_stacked(trained):
    """Also where there is one step; the rows that a run validates on move with the others."""
    pipeline = make_pipeline(StandardScaler(), net(early_stopping=True, validation_fraction=0.25))
    weights = {"mlpclassifier__sample_weight": WEIGHT}
    _Fits(pipeline, X, Y, weights).trained({"mlpclassifier__alpha": [0.5, 1.0]}, FOLDS)
    ((runs, x, _),) = trained
    assert x.shape == (32, 3)
    assert len(runs) == 4
    for number, (run, first) in enumerate(zip(runs, [0, 16] * 2, strict=True)):
        rows, _ = FOLDS[number % 2]
        np.testing.assert_allclose(x[first : first + 16].mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(x[first : first + 16].std(0), 1)
        own = np.concatenate([run.rows, run.held[0]])
        assert sorted(own) == list(range(first, first + 16))
        assert len(run.held[0]) == 4
        np.testing.assert_array_equal(run.weight, WEIGHT[rows[run.rows - first]])
        np.testing.assert_array_equal(run.held[2], WEIGHT[rows[run.held[0] - first]])
        np.testing.assert_array_equal(run.targets[:, 0], Y[rows[run.rows - first]])


@pytest.mark.parametrize(
    ("estimator", "params", "grid"),
    [
        (net(), {}, {"solver": ["lbfgs"]}),
        (net(), {}, {"alpha": [-1.0]}),
        # What other steps are given for a fit is left to the search.
        (make_pipeline(StandardScaler(), net()), {"standardscaler__sample_weight": WEIGHT}, {}),
    ],
)
def test_what_cannot_be_trained_together_is_left_to_the_search(trained, estimator, params, grid):
    assert _Fits(estimator, X, Y, params).trained(grid, FOLDS) == Done([], {})
    assert trained == []


def test_groups_are_for_the_folds_alone(trained):
    _Fits(net(), X, Y, {"groups": Y}).trained({}, FOLDS)
    assert len(trained[0][0]) == 2


def test_rows_are_taken_of_arrays_tables_and_lists():
    rows = np.array([2, 0])
    for given in (Y, pd.Series(Y), Y.tolist(), pd.DataFrame({"y": Y}, index=Y + 7)["y"]):
        assert list(_taken(given, rows)) == [Y[2], Y[0]]


# --- what is taken over --------------------------------------------------------------------------


def prepared():
    """What a search did: one fit on the first rows."""
    fits = _Fits(net(), X, Y, {"sample_weight": WEIGHT})
    ((_, fit),) = fits._prepared(net(), 0, FOLDS[0][0])
    return Done([fit], {"shape": "compiled"})


@pytest.mark.parametrize(
    ("parameters", "x", "y", "weight", "same"),
    [
        ({}, X[:16], Y[:16], WEIGHT[:16], True),
        ({"alpha": 0.5}, X[:16], Y[:16], WEIGHT[:16], False),
        ({"max_iter": 200.0}, X[:16], Y[:16], WEIGHT[:16], False),
        ({"random_state": np.random.RandomState(0)}, X[:16], Y[:16], WEIGHT[:16], False),
        ({}, X[:15], Y[:15], WEIGHT[:15], False),
        ({}, X[:16, :2], Y[:16], WEIGHT[:16], False),
        ({}, X[:16] + 1, Y[:16], WEIGHT[:16], False),
        ({}, X[:16], 1 - Y[:16], WEIGHT[:16], False),
        ({}, X[:16], Y[:16], WEIGHT[:16] + 1, False),
        ({}, X[:16], Y[:16], None, False),
    ],
)
def test_a_fit_is_taken_over_once_where_all_is_the_same(parameters, x, y, weight, same):
    assert sweep.taken(net(), X, Y, None) is None
    assert sweep.compiled() == {}
    fits = prepared()
    (fit,) = fits.fits
    with done(fits):
        assert sweep.compiled() == {"shape": "compiled"}
        found = sweep.taken(net(**parameters), x, y, weight)
        assert (found is fit.run) == same
        assert fits.fits == ([] if same else [fit])
        assert sweep.taken(net(**parameters), x, y, weight) is None
    with contextlib.suppress(RuntimeError), done(fits):
        raise RuntimeError
    assert sweep.compiled() == {}


def test_generators_stand_for_each_other():
    """The search clones them before each fit; other parameters than a fit has are another's."""
    (fit,) = prepared().fits
    given = fit.parameters | {"random_state": np.random.RandomState(0)}
    fit.parameters = given | {"random_state": np.random.RandomState(1)}
    assert fit.is_of(given, X[:16], Y[:16], WEIGHT[:16])
    assert not fit.is_of(given | {"more": 1}, X[:16], Y[:16], WEIGHT[:16])
