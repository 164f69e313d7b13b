"""A trained network in Python."""

from typing import Any

import numpy as np

from train.data import Dataset
from train.run_directory.trained_network import Trained, probabilities


class Network:
    """A trained network; it computes as the evaluations of its training do.

    Attributes:
        index: which run it is of.
        flags: the flags of the run, by name.
        classes: the name of each class.
        params: the parameters, a pytree of arrays of NumPy.
        statistics: the running statistics of its norms, likewise.
    """

    def __init__(
        self,
        index: int,
        flags: dict[str, Any],
        trained: Trained,
        dataset: Dataset,
        labels: np.ndarray,
    ):
        """Hold a network.

        Args:
            index: which run it is of.
            flags: of the run.
            trained: what computes.
            dataset: what is known of the data.
            labels: what `predict` returns for each class.
        """
        self.index, self.flags, self.classes = index, flags, dataset.classes
        self.params, self.statistics = trained.state.params, trained.state.statistics
        self._trained, self._schema, self._labels = trained, dataset.schema, labels

    def __repr__(self) -> str:
        return f"Network(run {self.index}, {len(self.classes)} classes)"

    def predict(self, x: Any) -> np.ndarray:
        """Return the most probable label of each example.

        Args:
            x: examples as those of the training data, [N, ...], or one of them; of a table with
                named columns also a data frame of pandas, or dictionaries.

        Returns:
            [N]: labels as they were given to `fit`: values of y for arrays, names of classes for
            a file, and otherwise integers, indices into `classes`. The first of several that are
            equally probable.

        Raises:
            DataError: x is not as the training data are.
        """
        found: np.ndarray = self._labels[self._logits(x).argmax(-1)]
        return found

    def predict_proba(self, x: Any) -> np.ndarray:
        """Return the probability of each class, float32 [N, classes]; see `predict`."""
        return probabilities(self._logits(x))

    def _logits(self, x: Any) -> np.ndarray:
        inputs = self._schema.inputs(x)
        return self._trained.logits(self._trained.examples(inputs))
