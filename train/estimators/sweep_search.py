"""A grid search that trains all candidates on all folds as one sweep."""

import contextlib
import time
import warnings
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable

from train.errors import ConfigError
from train.estimators.classifier import MLPClassifier
from train.estimators.parameters import check
from train.estimators.regressor import MLPRegressor
from train.estimators.sweep import Done, Fit, done
from train.estimators.training import train


class SweepSearchCV(GridSearchCV):
    """`sklearn.model_selection.GridSearchCV` whose candidates and folds train together.

    Parameters, attributes and methods are those of `GridSearchCV`, and so are the scores, to
    rounding in float32: candidates that differ in numbers alone (alpha, learning_rate_init,
    dropout, momentum, beta_1 …) train on all folds in one compiled program; those of other shapes
    take a program each, or share one where that takes less time. The estimator is one of
    `train.estimators`, or a `Pipeline` whose last step is one; the steps before it are fitted for
    each fold, and n_jobs is theirs and the scorers' alone: all devices train in any case.

    mean_fit_time is a candidate's share of the whole; early_stopping and random_state are those of
    each fit alone. solver="lbfgs" trains one fit after the other.

    Raises:
        ValueError: from `fit`, for another estimator; or as `GridSearchCV`.
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> "SweepSearchCV":
        """Train all candidates on all folds, and the best on all examples if refit says so.

        Args:
            X: the examples, as the estimator takes them.
            y: what they are to be predicted as.
            **params: of the estimator's fit, such as sample_weight, or groups of the folds.

        Returns:
            The search itself.

        Raises:
            ValueError: the estimator is none of ours, or as `GridSearchCV`.
        """
        _last_step(self.estimator)
        X, y = indexable(X, y)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        # Drawn once, because folds may be drawn at random.
        folds = list(cv.split(X, y, params.get("groups")))
        started = time.perf_counter()
        with warnings.catch_warnings():
            # What is to be said of a fit is said where the search takes it over.
            warnings.simplefilter("ignore")
            found = _Fits(self.estimator, X, y, params).trained(self.param_grid, folds)
        seconds = (time.perf_counter() - started) / max(1, len(found.fits))
        search = GridSearchCV(**self.get_params(deep=False) | {"cv": folds, "n_jobs": None})
        with done(found):
            search.fit(X, y, **params)
        search.cv_results_["mean_fit_time"] += seconds
        for name, value in vars(search).items():
            if name.endswith("_") and not name.startswith("_"):
                setattr(self, name, value)
        return self


def _last_step(estimator: Any) -> Any:
    """Return the network of an estimator; ValueError where it is none of ours."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(last, MLPClassifier | MLPRegressor):
        raise ConfigError(
            f"SweepSearchCV: estimator must be an MLPClassifier or MLPRegressor of "
            f"train.estimators, or a Pipeline that ends in one; got {type(last).__name__}: take "
            f"GridSearchCV"
        )
    return last


class _Fits:
    """The fits of a search: each network, and the matrix and the rows that it is trained on."""

    def __init__(self, estimator: Any, X: Any, y: Any, params: dict[str, Any]):
        self._estimator, self._x, self._y = estimator, X, y
        given = {name: value for name, value in params.items() if name != "groups"}
        own = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
        self._weight = given.pop(f"{own}sample_weight", None)
        self._others = given  # Of the steps before.
        self._matrices: dict[Any, tuple[np.ndarray, np.ndarray, np.ndarray | None]] = {}

    def trained(self, grid: Any, folds: list[tuple[Any, Any]]) -> Done:
        """Train all that can be; what cannot is left to the search, which gets the error again."""
        found: list[tuple[Any, Fit]] = []
        for candidate in ParameterGrid(grid):
            for number, (rows, _) in enumerate(folds):
                with contextlib.suppress(Exception):
                    whole = clone(self._estimator).set_params(**clone(candidate, safe=False))
                    found += self._prepared(whole, number, np.asarray(rows))
        by_features: dict[int, list[tuple[Any, Fit]]] = {}
        for key, fit in found:
            by_features.setdefault(fit.x.shape[1], []).append((key, fit))
        compiled: dict[Any, Any] = {}
        for fits in by_features.values():
            compiled |= self._train(fits)
        return Done([fit for _, fit in found], compiled)

    def _prepared(self, whole: Any, number: int, rows: np.ndarray) -> list[tuple[Any, Fit]]:
        """Return the fit of a candidate on a fold with the key of its matrix; none of "lbfgs"."""
        network = _last_step(whole)
        check(type(network).__name__, network.get_params(deep=False))
        if network.solver == "lbfgs" or self._others:
            return []
        key = None
        if isinstance(whole, Pipeline) and len(whole.steps) > 1:
            key = (repr(whole[:-1].get_params()), number)
        if key not in self._matrices:
            x, y, weight = self._x, self._y, self._weight
            if key is not None:
                x, y = _taken(x, rows), _taken(y, rows)
                weight = None if weight is None else _taken(weight, rows)
                x = whole[:-1].fit_transform(x, y)
            self._matrices[key] = network._validated(x, y, weight, reset=True)
        x, y, weight = self._matrices[key]
        if key is not None:
            rows = np.arange(len(x))
        elif rows.dtype == bool:
            rows = np.flatnonzero(rows)
        run = network._run(x, y[rows], rows, None if weight is None else weight[rows])
        return [(key, Fit(network.get_params(deep=False), run, x, y, weight, rows))]

    def _train(self, fits: list[tuple[Any, Fit]]) -> Any:
        """Train the networks of so many features, on all their matrices one below the other."""
        offsets, stacked = dict[Any, int](), list[np.ndarray]()
        for key, fit in fits:
            if key not in offsets:
                offsets[key] = sum(map(len, stacked))
                stacked.append(fit.x)
            run, offset = fit.run, offsets[key]
            run.rows = run.rows + offset
            if run.held is not None:
                run.held = (run.held[0] + offset, *run.held[1:])
        x = stacked[0] if len(stacked) == 1 else np.concatenate(stacked)
        return train([fit.run for _, fit in fits], x, longest=len(self._y))


def _taken(array: Any, rows: np.ndarray) -> Any:
    """Return rows of an array, a table or a list."""
    if hasattr(array, "iloc"):
        return array.iloc[rows]
    return array[rows] if hasattr(array, "shape") else [array[row] for row in rows]
