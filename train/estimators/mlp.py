"""What classifier and regressor share: parameters, arrays and weights, as scikit-learn has them."""

import itertools
import math
import numbers
import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from train.engine.optimizers import CONSTANT, Schedule
from train.estimators import lbfgs, parameters, sweep, training
from train.estimators.architecture import Shape, lists_of
from train.estimators.prediction import outputs
from train.estimators.run import Run
from train.flags.config import FLAGS


class MLP(BaseEstimator):
    """What both estimators share. The parameters are those of the subclasses."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLP":
        """Train.

        Args:
            X: [examples, features], numbers; a sparse matrix is made dense.
            y: the labels, or numbers to predict, [examples] or [examples, outputs].
            sample_weight: how much each example counts, [examples]; None for all alike.

        Returns:
            The estimator itself.

        Raises:
            ValueError: a parameter or an array is not what it must be, or training diverges.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _takes_steps(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit needs a solver that takes batches; got 'lbfgs'")
        return True

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> "MLP":
        parameters.check(type(self).__name__, self.get_params(deep=False))
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        kept = hasattr(self, "coefs_") and (self.warm_start or incremental)
        X, y, sample_weight = self._validated(X, y, sample_weight, reset=not kept)
        run = None if kept or incremental else sweep.taken(self, X, y, sample_weight)
        if run is None:
            run = self._run(X, y, np.arange(len(X)), sample_weight, kept, incremental)
            if self.solver == "lbfgs":
                lbfgs.train(run, X)
            else:
                training.train([run], X, sweep.compiled())
        self._adopt(run)
        return self

    def _validated(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, Any, Any]:
        """Return dense X, y and the weights as arrays, checked."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=isinstance(self, RegressorMixin),
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        X, y = (part.toarray() if sparse.issparse(part) else part for part in (X, y))
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = self._weights(sample_weight, len(X))
        return X, y, sample_weight

    def _weights(self, sample_weight: Any, examples: int) -> np.ndarray:
        if isinstance(sample_weight, numbers.Real):
            return np.full(examples, float(sample_weight))
        weight = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
        if not weight.any():
            raise ValueError("sample_weight must not be zero for all examples")
        if weight.shape != (examples,):
            raise ValueError(
                f"sample_weight must have shape ({examples},), a number for each example; "
                f"got {weight.shape}"
            )
        return weight

    def _run(
        self,
        X: np.ndarray,
        y: np.ndarray,
        rows: np.ndarray,
        weight: np.ndarray | None,
        kept: bool = False,
        incremental: bool = False,
    ) -> Run:
        """Return the training of a network on some rows of X, with their y and weights."""
        # Long: the random numbers are drawn in scikit-learn's order.
        targets, classes, head = self._targets(y, kept)
        hidden = parameters.widths(self.hidden_layer_sizes) or ()
        outputs = targets.shape[1] if head != "softmax" else len(classes)
        sizes = [X.shape[1], *hidden, outputs]
        random = check_random_state(self.random_state)
        if kept:
            coefs, intercepts = self.coefs_, self.intercepts_
        else:
            coefs, intercepts = self._drawn(sizes, random)
        held = None
        if self.early_stopping and self.solver != "lbfgs":
            picked, held_out = self._split(targets, classes, random)
            held = (rows[held_out], targets[held_out], None if weight is None else weight[held_out])
            rows, targets = rows[picked], targets[picked]
            weight = None if weight is None else weight[picked]
        most = 200 if self.batch_size == "auto" else self.batch_size
        if self.batch_size != "auto" and most > len(rows):
            warnings.warn(
                f"batch_size={most} is larger than the {len(rows)} examples; it is taken to be "
                f"that many",
                stacklevel=4,
            )
        batch_size = min(most, len(rows))
        # One batch holds all of a small set: in the precision of the data it takes no longer.
        exact = X.dtype == np.float64 and (len(y) <= most or self.solver == "lbfgs")
        run = Run(
            Shape(
                features=X.shape[1],
                hidden=hidden,
                outputs=outputs,
                head=head,
                activation=self.activation,
                norm=self.norm,
                drops=self.dropout > 0,
                solver=self.solver,
                nesterov=self.solver == "sgd" and bool(self.nesterovs_momentum),
                schedule=self._schedule(math.ceil(len(rows) / batch_size)),
                dtype="float64" if exact else "float32",
            ),
            numbers=self._numbers(),
            rows=rows,
            targets=targets,
            weight=weight,
            batch_size=batch_size,
            random=random,
            options=self.get_params(deep=False),
            coefs=coefs,
            intercepts=intercepts,
            labels=classes,
            held=held,
            score=self._score_of_outputs,
            incremental=incremental,
        )
        # Drawn last: without dropout all else is as scikit-learn draws it.
        run.key = int(random.randint(2**31 - 1)) if self.dropout > 0 else 0
        if kept:
            run.resume(self, with_moments=incremental)
        return run

    def _drawn(self, sizes: list[int], random: np.random.RandomState) -> tuple[list, list]:
        """Draw weights and biases by Glorot and Bengio (2010), equation 16."""
        factor = 2.0 if self.activation in ("logistic", "sigmoid") else 6.0
        coefs, intercepts = [], []
        for inputs, features in itertools.pairwise(sizes):
            bound = math.sqrt(factor / (inputs + features))
            coefs.append(random.uniform(-bound, bound, (inputs, features)))
            intercepts.append(random.uniform(-bound, bound, features))
        return coefs, intercepts

    def _split(self, targets: np.ndarray, classes: Any, random: Any) -> tuple[Any, Any]:
        """Return which examples to train on, and which to validate on."""
        alike = isinstance(self, ClassifierMixin) and classes is not None and targets.ndim == 2
        stratify = targets if alike and targets.shape[1] == 1 else None
        picked, held = train_test_split(
            np.arange(len(targets)),
            random_state=random,
            test_size=self.validation_fraction,
            stratify=stratify,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return picked, held

    def _numbers(self) -> dict[str, float]:
        found = {
            "learning_rate": self.learning_rate_init,
            "l2": self.alpha / 2,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
        }
        decay = _needed("decay", self.schedule)
        return found if decay is None else found | {"decay": decay}

    def _schedule(self, steps: int) -> Schedule:
        if self.schedule == "constant":
            return CONSTANT
        period = steps * (_needed("decay_epochs", self.schedule) or 1)
        return Schedule(self.schedule, period, steps * self.max_iter)

    def _adopt(self, run: Run) -> None:
        """Take over what was trained."""
        sizes = run.sizes
        self.coefs_, self.intercepts_, norms = lists_of(run.state.params, sizes)
        self._others = (norms, lists_of(run.state.statistics, sizes)[2])
        if not all(np.isfinite(w).all() for w in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        self._moments = (run.state.moments, int(run.state.step))  # A partial_fit goes on.
        self._shape = run.shape
        self.n_layers_, self.n_outputs_ = len(sizes), run.shape.outputs
        self.out_activation_ = run.shape.head
        self.n_iter_, self.t_ = run.n_iter, run.seen
        self._no_improvement_count = run.waited
        if run.labels is not None:
            self.classes_ = run.labels
        if run.shape.solver == "lbfgs":
            self.loss_ = run.loss_curve[-1]
            return
        self.loss_curve_ = run.loss_curve
        self.loss_ = run.loss_curve[-1] if run.loss_curve else math.inf
        scored = run.held is not None
        self.best_loss_ = None if scored else run.best_loss
        self.validation_scores_ = run.scores if scored else None
        self.best_validation_score_ = run.best_score if scored else None
        run.warn()

    def _outputs(self, X: Any) -> np.ndarray:
        """What the last linear layer gives, float64 [examples, outputs]."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        X = X.toarray() if sparse.issparse(X) else X
        return outputs(self._shape, self.coefs_, self.intercepts_, self._others, X)

    def __sklearn_tags__(self) -> Any:
        """Say what the estimator takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _needed(flag: str, schedule: str) -> Any:
    """The default of a flag with a schedule; None where it has no effect."""
    needs = FLAGS[flag].needs
    return None if needs is None else needs[1].get(schedule)
