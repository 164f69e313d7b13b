"""The training of one network: what it needs, how far it is, and when it is over."""

import math
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from train.engine.program import State
from train.estimators.architecture import Shape, scores, tree_of


@dataclass(eq=False)
class Run:
    """The training of one network.

    Attributes:
        shape: of its program.
        numbers: the traced numbers by name; "learning_rate" changes from epoch to epoch.
        rows: int [n], its examples among those of the matrix; without those it validates on.
        targets: as the program reads them, [n, ...].
        weight: how much each of them counts, [n]; None for all alike.
        batch_size: examples per step; at most n.
        random: draws the order of the examples.
        options: the parameters of the estimator.
        coefs: the weights, [inputs, outputs] each.
        intercepts: the biases, [outputs] each.
        labels: the classes of the targets; None where they are numbers.
        held: the examples that it validates on, int [v], and their targets and weights.
        score: of outputs [v, outputs], held targets and weights; the higher the better.
        incremental: whether this is one epoch of `partial_fit`.
        others: what else the network learns, and its statistics; None at the start.
        moments: the state of the optimizer; None at the start.
        step: the number of steps that the optimizer took.
        key: the seed of dropout.
        seen: the number of examples of all epochs.
        loss_curve: the loss of each epoch.
        scores: on the examples that it validates on, of each epoch.
        best_loss: the lowest loss.
        best_score: the highest score.
        best: the parameters and statistics that had it.
        waited: epochs in a row without an improvement.
        n_iter: epochs of this training.
        over: whether it is.
        state: at the end.
        seconds: what it took.
    """

    shape: Shape
    numbers: dict[str, float]
    rows: np.ndarray
    targets: np.ndarray
    weight: np.ndarray | None
    batch_size: int
    random: np.random.RandomState
    options: dict[str, Any]
    coefs: list[np.ndarray]
    intercepts: list[np.ndarray]
    labels: np.ndarray | None = None
    held: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None
    score: Callable[..., float] | None = None
    incremental: bool = False
    others: tuple[Any, Any] = (None, None)
    moments: Any = None
    step: int = 0
    key: int = 0
    seen: int = 0
    loss_curve: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    best_score: float = -math.inf
    best: Any = None
    waited: int = 0
    n_iter: int = 0
    over: bool = False
    state: Any = None
    seconds: float = 0.0

    @property
    def sizes(self) -> list[int]:
        """Features, hidden widths and outputs, without what a program fills them up with."""
        return [len(self.coefs[0]), *(len(bias) for bias in self.intercepts)]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.rows) / self.batch_size)

    @property
    def classes(self) -> Hashable:
        """What runs have in common whose targets mean the same."""
        return None if self.labels is None else tuple(self.labels.tolist())

    def resume(self, estimator: Any, with_moments: bool) -> None:
        """Go on where an estimator is, with the state of its optimizer or anew."""
        self.others, self.seen = estimator._others, estimator.t_
        self.waited = estimator._no_improvement_count
        if hasattr(estimator, "loss_curve_"):
            self.loss_curve = list(estimator.loss_curve_)
            self.scores = list(estimator.validation_scores_ or [])
            best_loss, best_score = estimator.best_loss_, estimator.best_validation_score_
            self.best_loss = math.inf if best_loss is None else best_loss
            self.best_score = -math.inf if best_score is None else best_score
        if with_moments:
            self.moments, self.step = estimator._moments

    def start(self, like: State) -> State:
        """Return the state before the first step, in the shapes of a program."""
        # A network that was trained before has its state in shapes that may be others.
        moments = _fitted(self.moments, like.moments)
        if moments is None:
            self.step = 0
            moments = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like.moments)
        params = tree_of(like.params, self.coefs, self.intercepts, self.others[0])
        statistics = tree_of(like.statistics, [], [], self.others[1])
        if self.held is not None:
            self.best = (params, statistics)
        step: Any = np.int32(self.step)
        key: Any = np.array([0, self.key], np.uint32)
        return State(step, key, params, statistics, moments)

    def end_epoch(
        self, sums: np.ndarray, outputs: np.ndarray | None, learned: Callable[[], Any]
    ) -> None:
        """Note the loss of an epoch, and whether the training is over: as scikit-learn does.

        Args:
            sums: of the epoch, as of `Program.train_batches`.
            outputs: of the held examples and more; None where there are none.
            learned: returns the parameters and statistics, arrays of NumPy.
        """
        # The gradient is that of the sum over the outputs, the loss that is reported their mean.
        loss = sums[0] / (self.shape.outputs if self.shape.head == "identity" else 1) + sums[1]
        self.n_iter += 1
        self.seen += len(self.rows)
        self.loss_curve.append(float(loss) / len(self.rows))
        if self.options["verbose"]:
            print(f"Iteration {self.n_iter}, loss = {self.loss_curve[-1]:.8f}")
        tol = self.options["tol"]
        if outputs is None:
            latest = self.loss_curve[-1]
            self.waited = self.waited + 1 if latest > self.best_loss - tol else 0
            self.best_loss = min(self.best_loss, latest)
        else:
            score = self._scored(outputs)
            self.waited = self.waited + 1 if score < self.best_score + tol else 0
            if score > self.best_score:
                self.best_score, self.best = score, learned()
        if self.shape.solver == "sgd" and self.options["learning_rate"] == "invscaling":
            first, power = self.options["learning_rate_init"], self.options["power_t"]
            self.numbers["learning_rate"] = first / (self.seen + 1) ** power
        if self.waited > self.options["n_iter_no_change"]:
            self._give_up()
        if self.n_iter == self.options["max_iter"] or self.incremental:
            self.over = True

    def _scored(self, outputs: np.ndarray) -> float:
        assert self.held is not None  # It has outputs of theirs.
        assert self.score is not None
        rows, targets, weight = self.held
        score = self.score(scores(self.shape.head, outputs[: len(rows)]), targets, weight)
        self.scores.append(score)
        if self.options["verbose"]:
            print(f"Validation score: {score:f}")
        return score

    def _give_up(self) -> None:
        """Stop, or where the learning rate is adaptive and not too small, divide it by 5."""
        what = "Training loss" if self.held is None else "Validation score"
        adaptive = self.shape.solver == "sgd" and self.options["learning_rate"] == "adaptive"
        if not adaptive:
            self.over, ending = True, "Stopping."
        elif self.numbers["learning_rate"] <= 1e-6:
            self.over, ending = True, "Learning rate too small. Stopping."
        else:
            self.numbers["learning_rate"] /= 5.0
            self.waited = 0
            ending = f"Setting learning rate to {self.numbers['learning_rate']:f}"
        if self.options["verbose"]:
            print(
                f"{what} did not improve more than tol={self.options['tol']:f} for "
                f"{self.options['n_iter_no_change']} consecutive epochs. {ending}"
            )

    def warn(self) -> None:
        """Warn where training ended because there were no more epochs."""
        patient = self.waited <= self.options["n_iter_no_change"]
        if self.n_iter == self.options["max_iter"] and patient and not self.incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.n_iter}) reached and the "
                f"optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )


def _fitted(tree: Any, like: Any) -> Any:
    """Return the arrays of a tree in the dtypes of another; None where the shapes are others."""
    mine: Any = jax.tree.structure(tree)
    if mine != jax.tree.structure(like):
        return None
    pairs = list(zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True))
    if any(np.shape(a) != b.shape for a, b in pairs):
        return None
    return jax.tree.unflatten(jax.tree.structure(like), [np.asarray(a, b.dtype) for a, b in pairs])
