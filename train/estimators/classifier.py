"""Multilayer perceptron that predicts classes."""

import math
from typing import Any

import numpy as np
from scipy import special
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from train.estimators.mlp import MLP


class MLPClassifier(ClassifierMixin, MLP):
    """A multilayer perceptron that predicts classes, with scikit-learn's interface.

    Parameters and attributes have the names and meanings of
    `sklearn.neural_network.MLPClassifier`; weights and the order of examples are drawn as there.
    Listed here are the values and parameters that scikit-learn does not have.

    Args:
        activation: scikit-learn's, or "leaky_relu", "elu", "gelu", "silu", "softplus"; "sigmoid" is
            another name for "logistic".
        solver: scikit-learn's, or an optimizer of `train.mlp --optimizer`, such as "adamw", "lion"
            or "muon". beta_1, beta_2 and epsilon are used by "adam" only, momentum by "sgd" and
            "lars", and learning_rate_init by all but "lbfgs".
        dropout: the probability to drop an activation while training, in [0, 1).
        norm: what stands before each activation: None, "batch", "layer" or "rms".
        schedule: what the learning rate is multiplied by over max_iter epochs, as `train.mlp
            --schedule` has it: "constant", "exponential", "step", "cosine" or "one-cycle".
        weight_decay: decoupled, of "adamw", "nadamw", "lion", "lamb", "lars" and "muon".

    It computes in float32, and in float64 where X is float64 and one batch holds all examples, or
    with "lbfgs". The last batch of an epoch is smaller than the others where fewer examples are
    left, as in scikit-learn.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from train.estimators import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> MLPClassifier(random_state=0).fit(X, y).predict(X[:3])
        array([0, 0, 0])
    """

    def __init__(
        self,
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
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> "MLPClassifier":
        """Train for an epoch more.

        Args:
            X: as of `fit`, like y and sample_weight.
            y: likewise.
            sample_weight: likewise.
            classes: all classes that any call will have; needed by the first.

        Returns:
            The estimator itself.

        Raises:
            ValueError: classes are missing, or others than before; or as of `fit`.
        """
        known = getattr(self, "classes_", None)
        if classes is None and known is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            classes = unique_labels(classes)
            if known is None:
                # Where the call fails, nothing stays behind.
                self.classes_ = classes
            elif not np.array_equal(known, classes):
                raise ValueError(
                    f"`classes={classes}` is not the same as on last call to partial_fit, was: "
                    f"{known}"
                )
        try:
            return self._fit(X, y, sample_weight, incremental=True)
        except Exception:
            if known is None:
                del self.classes_
            raise

    def _targets(self, y: np.ndarray, kept: bool) -> tuple[np.ndarray, np.ndarray, str]:
        """Return the targets, the classes, and what the outputs are."""
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError(
                "y must be classes, or a matrix of 0 and 1 for several labels an example; got "
                "several columns of classes"
            )
        if kind == "multilabel-indicator":
            return y.astype(np.int32), np.arange(y.shape[1]), "logistic"
        found, known = np.unique(y), getattr(self, "classes_", None)
        if known is not None and kept and self.warm_start and set(found) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {known}, `y` has {found}"
            )
        # The first partial_fit has its classes, and no weights that would be kept.
        classes = known if known is not None and (kept or not hasattr(self, "coefs_")) else found
        if len(np.setdiff1d(found, classes)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {classes}. 'y' has "
                f"{found}."
            )
        places = np.searchsorted(classes, y).astype(np.int32)
        if len(classes) > 2:
            return places, classes, "softmax"
        return places[:, None], classes, "logistic"

    def _score_of_outputs(self, found: Any, targets: Any, weight: Any) -> float:
        """The accuracy."""
        if not np.isfinite(found).all():
            return math.nan
        if targets.ndim == 1:
            return float(np.average(found.argmax(1) == targets, weights=weight))
        return float(np.average(((found > 0) == (targets == 1)).all(1), weights=weight))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each example, [examples], or its labels."""
        found = self._outputs(X)
        if self.out_activation_ == "softmax":
            return self.classes_[found.argmax(1)]
        if self.n_outputs_ > 1:
            return (found > 0).astype(int)
        return self.classes_[np.minimum(found[:, 0] > 0, len(self.classes_) - 1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, [examples, classes]; of each label with several."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithms of what `predict_proba` returns."""
        found = self._outputs(X)
        if self.out_activation_ == "softmax":
            return special.log_softmax(found, axis=1)
        if self.n_outputs_ > 1:
            return special.log_expit(found)
        return special.log_expit(np.hstack([-found, found]))

    def __sklearn_tags__(self) -> Any:
        """Say what the estimator takes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
