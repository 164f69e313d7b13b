"""Multilayer perceptron that predicts numbers."""

import math
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from train.estimators.mlp import MLP


class MLPRegressor(RegressorMixin, MLP):
    """A multilayer perceptron that predicts numbers, with scikit-learn's interface.

    Parameters and attributes are those of `sklearn.neural_network.MLPRegressor` with
    loss="squared_error"; what stands beside them is that of `MLPClassifier`.
    """

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        dropout=0.0,
        norm=None,
        schedule="constant",
        weight_decay=0.01,
    ):
        # Long: scikit-learn reads the parameters from this signature.
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.norm = norm
        self.schedule = schedule
        self.weight_decay = weight_decay

    @available_if(lambda self: self._takes_steps())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train for an epoch more; arguments and errors are those of `fit`."""
        return self._fit(X, y, sample_weight, incremental=True)

    def _targets(self, y: np.ndarray, kept: bool) -> tuple[np.ndarray, None, str]:
        y = y[:, None] if y.ndim == 1 else y
        return y.astype(np.float64)[..., None], None, "identity"

    def _score_of_outputs(self, found: Any, targets: Any, weight: Any) -> float:
        """R²."""
        if not np.isfinite(found).all():
            return math.nan
        return float(r2_score(targets[..., 0], found, sample_weight=weight))

    def predict(self, X: Any) -> np.ndarray:
        """Return the numbers of each example, [examples], or [examples, outputs] with several."""
        found = self._outputs(X)
        return found[:, 0] if self.n_outputs_ == 1 else found
