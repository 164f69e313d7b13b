"""Labels of one's own: integers, words or bools, and the classes that they make."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from train.data.arrays import as_array
from train.data.limits import MOST_CLASSES
from train.errors import DataError


class Labels(NamedTuple):
    """Labels as indices into classes.

    Attributes:
        y: int32 [N].
        values: the label of each class as it was given, sorted.
    """

    y: np.ndarray
    values: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class."""
        return tuple(str(value) for value in self.values.tolist())


def read_labels(given: Any, where: str, known: Labels | None = None) -> Labels:
    """Return labels as indices into classes.

    Args:
        given: integers, words, bools, or real numbers that are whole; [N] or [N, 1].
        where: what they are called in an error.
        known: the labels to train on, whose classes these must be of.

    Raises:
        DataError: they are of another kind or shape, one is missing, there are fewer than 2 or
            more than 1000 classes, or one is not known.
    """
    labels = as_array(given, where)
    if labels.ndim == 2 and labels.shape[1] == 1:  # As Keras keeps those of CIFAR-10.
        labels = labels[:, 0]
    if labels.ndim != 1:
        advice = "; of one-hot rows take y.argmax(1)" if labels.ndim == 2 else ""
        raise DataError(f"{where}: has shape {list(labels.shape)}; must be [N]{advice}")
    if not len(labels):
        raise DataError(f"{where}: holds no labels")
    values, y = np.unique(_plain(labels, where), return_inverse=True)
    if known is not None:
        return Labels(_places(values, where, known)[y], known.values)
    if len(values) < 2:
        raise DataError(f"{where}: holds one class only, {values[0]}; must hold two or more")
    if len(values) > MOST_CLASSES:
        raise DataError(
            f"{where}: holds {len(values)} different labels; must be at most {MOST_CLASSES} classes"
        )
    for value in values.tolist():
        if isinstance(value, str) and not (value.isprintable() and len(value) <= 100):
            raise DataError(f"{where}: holds a label that cannot be printed: {value[:40]!r}")
    return Labels(y.astype(np.int32), values)


def _places(values: np.ndarray, where: str, known: Labels) -> np.ndarray:
    """Return which of the known classes some labels are."""
    names = {value: place for place, value in enumerate(known.values.tolist())}
    for value in values.tolist():
        if value not in names:
            raise DataError(
                f"{where}: holds the class {value}, which is not among those to train on: "
                f"{', '.join(known.classes[:8])}{', ...' if len(names) > 8 else ''}"
            )
    return np.array([names[value] for value in values.tolist()], np.int32)


def _plain(labels: np.ndarray, where: str) -> np.ndarray:
    """Return labels as integers, bools or texts."""
    kind = labels.dtype.kind
    if kind == "O":
        missing = [value is None or value != value for value in labels.tolist()]
        if any(missing):
            raise _absent(missing, where)
        kinds = {type(value) for value in labels.tolist()}
        if kinds != {str}:
            labels = np.array(labels.tolist())
            kind = labels.dtype.kind if len(kinds) == 1 or kinds <= {int, np.int64} else "O"
        else:
            labels, kind = labels.astype(str), "U"
    if kind == "f":
        if not np.isfinite(labels).all():
            raise _absent((~np.isfinite(labels)).tolist(), where)
        whole = labels == np.round(labels)
        if not whole.all() or np.abs(labels).max() >= 2**53:
            row = int(np.argmin(whole))
            raise DataError(
                f"{where}: row {row + 1} has {labels[row]:g}, which is no class; must be whole "
                f"numbers or words"
            )
        labels, kind = labels.astype(np.int64), "i"
    if kind == "S":
        try:
            labels, kind = np.char.decode(labels, "utf-8"), "U"
        except UnicodeDecodeError:
            raise DataError(f"{where}: holds bytes that are no text in UTF-8") from None
    if kind not in "iubU":
        raise DataError(f"{where}: is {labels.dtype}; must be integers, words or bools")
    if kind == "U":
        labels = np.char.strip(labels)
        if (empty := labels == "").any():
            raise _absent(empty.tolist(), where)
    return labels


def _absent(missing: Sequence[bool], where: str) -> DataError:
    count, row = sum(missing), missing.index(True) + 1
    words = "s are" if count > 1 else " is"
    return DataError(
        f"{where}: {count} label{words} missing, the first in row {row}; remove such rows"
    )
