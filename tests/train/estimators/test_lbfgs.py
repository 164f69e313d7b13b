"""What SciPy's L-BFGS is given, and what becomes of what it finds."""

import types

import jax
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import train.estimators as ours
from train.estimators import lbfgs

X = np.random.default_rng(0).normal(size=(300, 3))

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def minimised(monkeypatch):
    """What was asked; the end is told by the test: status, iterations."""
    asked = types.SimpleNamespace(calls=[], ends=(0, 3))

    def function(state, numbers, data):
        asked.calls.append((state, numbers, data))
        gradient = jax.tree.map(lambda leaf: 2 * np.asarray(leaf), state.params)
        return np.array([1.5, 0.25]), gradient

    def minimize(value_and_gradient, start, **options):
        asked.start, asked.options = start, options
        asked.value, asked.gradient = value_and_gradient(start + 1)
        status, nit = asked.ends
        return types.SimpleNamespace(
            x=start + 2, nit=nit, fun=np.float64(0.125), status=status, message="The end"
        )

    kept = lbfgs.kept
    monkeypatch.setattr(
        lbfgs, "kept", lambda key, make: function if key[1:] == ("lbfgs",) else kept(key, make)
    )
    monkeypatch.setattr(lbfgs.scipy.optimize, "minimize", minimize)
    return asked


def run_of(cls=ours.MLPClassifier, y=None, weight=None, rows=None, **parameters):
    rows = np.arange(len(X)) if rows is None else rows
    y = np.arange(len(rows)) % 2 if y is None else y
    estimator = cls((4,), solver="lbfgs", random_state=0, **parameters)
    return estimator._run(X, y, rows, weight)


def test_it_starts_from_the_weights_and_ends_with_those_that_were_found(minimised):
    run = run_of(max_iter=7, max_fun=11, tol=0.5)
    before = run.start(run.shape.state)
    lbfgs.train(run, X)
    assert minimised.start.dtype == np.float64
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(before.params)]
    assert len(minimised.start) >= sum(w.size for w in run.coefs)
    assert np.sum(minimised.start) == pytest.approx(np.sum(np.concatenate(leaves)))
    assert minimised.options == {
        "method": "L-BFGS-B",
        "jac": True,
        "options": {"maxfun": 11, "maxiter": 7, "gtol": 0.5},
    }
    assert minimised.value == 1.75  # Both terms.
    assert minimised.gradient.dtype == np.float64
    np.testing.assert_allclose(minimised.gradient, 2 * (minimised.start + 1))
    found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run.state.params)])
    assert np.sum(found) == pytest.approx(np.sum(minimised.start + 2))
    assert (run.n_iter, run.loss_curve) == (3, [0.125])


@pytest.mark.parametrize("weight", [None, np.linspace(0.0, 2.0, 100)])
def test_only_the_rows_of_the_run_count(minimised, weight):
    rows = np.arange(100, 200)
    run = run_of(rows=rows, weight=weight)
    lbfgs.train(run, X)
    ((_, numbers, data),) = minimised.calls
    assert data.x.shape == (320, 16)
    np.testing.assert_array_equal(data.x[:300, :3], X)
    assert not np.any(data.x[300:])
    assert not np.any(data.x[:, 3:])
    np.testing.assert_array_equal(data.weight[rows], np.ones(100) if weight is None else weight)
    assert not np.any(np.delete(data.weight, rows))
    np.testing.assert_array_equal(data.y[rows, 0], np.arange(100) % 2)
    assert (data.y.dtype, data.x.dtype, numbers.l2.dtype) == (np.int32, np.float64, np.float64)
    assert (float(data.shift), float(data.scale)) == (0, 1)


def test_numbers_to_predict_are_of_the_dtype_that_is_computed_in(minimised):
    lbfgs.train(run_of(ours.MLPRegressor, y=np.ones((300, 2), np.float32)), X)
    ((_, _, data),) = minimised.calls
    assert (data.y.shape, data.y.dtype) == ((320, 2, 1), np.float64)


def test_it_says_how_it_ended(minimised, capsys):
    lbfgs.train(run_of(), X)
    assert capsys.readouterr().out == ""
    lbfgs.train(run_of(verbose=True), X)
    assert capsys.readouterr().out == "The end; 3 iterations, loss = 0.12500000\n"
    minimised.ends = (1, 8)
    run = run_of(max_iter=7)
    line = r"^lbfgs failed to converge after 7 iteration\(s\) \(status=1\): The end; take a larger"
    with pytest.warns(ConvergenceWarning, match=line):
        lbfgs.train(run, X)
    assert run.n_iter == 7  # No more than were asked for.
    estimator = ours.MLPClassifier((4,), solver="lbfgs", max_iter=7)
    with pytest.warns(ConvergenceWarning) as found:
        estimator.fit(X, np.arange(300) % 2)
    assert found[0].filename == __file__
