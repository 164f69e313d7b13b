"""Networks with the interface of scikit-learn, trained by the compiled programs of the engine.

`MLPClassifier` and `MLPRegressor` stand in for scikit-learn's, `SweepSearchCV` for `GridSearchCV`:
it trains all candidates on all folds together.
"""

from train.estimators.classifier import MLPClassifier
from train.estimators.regressor import MLPRegressor
from train.estimators.sweep_search import SweepSearchCV

__all__ = ["MLPClassifier", "MLPRegressor", "SweepSearchCV"]
