"""The confusion matrix of a network, and precision, recall and F1 of each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from train.report.console import output


def counted(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many examples of each class, by row, were predicted as each, by column."""
    from sklearn.metrics import confusion_matrix

    found: np.ndarray = confusion_matrix(labels, predicted, labels=range(classes))
    return found


SCORES = ("precision", "recall", "f1")


def per_class(
    labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return for each class its name, number of examples, precision, recall and F1.

    A score that has no value, such as the recall of a class without examples, is None. The recall
    is also there as "accuracy", its name in earlier versions.

    Args:
        labels: int [N].
        predicted: int [N].
        names: of the classes.
    """
    from sklearn.metrics import precision_recall_fscore_support

    classes = range(len(names))
    *scores, counts = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    return [
        {
            "name": name,
            "examples": int(counts[i]),
            "accuracy": _known(scores[SCORES.index("recall")][i]),
            **{score: _known(of[i]) for score, of in zip(SCORES, scores, strict=True)},
        }
        for i, name in enumerate(names)
    ]


def macro(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float | None]:
    """Return precision, recall and F1 as means over the classes that have a value."""
    from sklearn.metrics import precision_recall_fscore_support

    *scores, _ = precision_recall_fscore_support(
        labels, predicted, labels=range(classes), average="macro", zero_division=np.nan
    )
    return {name: _known(score) for name, score in zip(SCORES, scores, strict=True)}


def show(
    matrix: np.ndarray, classes: Sequence[dict[str, Any]], average: dict[str, float | None]
) -> None:
    """Print the scores of the classes with their averages, see `per_class`, and the matrix."""
    console = output()
    print(
        "\nPrecision: of the examples predicted as a class, the share that belongs to it.\n"
        "Recall: of the examples of a class, the share that is predicted as it.\n"
        "F1: the harmonic mean of the two. Macro average: the mean over the classes."
    )
    console.print(_class_table(classes, average))
    print("\nConfusion matrix: a row for each true class, a column for each predicted class.")
    console.print(_confusion_table(matrix, [row["name"] for row in classes]))


def _known(score: float) -> float | None:
    return None if np.isnan(score) else float(score)


def _class_table(classes: Sequence[dict[str, Any]], average: dict[str, float | None]) -> Table:
    table = Table()
    for heading in ("class", "examples", "precision", "recall", "F1"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in classes:
        table.add_row(Text(row["name"]), str(row["examples"]), *_shown(row))
    table.add_section()
    table.add_row("macro average", str(sum(row["examples"] for row in classes)), *_shown(average))
    return table


def _shown(scores: Mapping[str, Any]) -> list[str]:
    return ["-" if scores[name] is None else f"{scores[name]:.4f}" for name in SCORES]


def _confusion_table(matrix: np.ndarray, names: Sequence[str]) -> Table:
    """The confusion matrix; its columns are headed by the numbers of the classes."""
    table = Table(padding=0)
    table.add_column("")
    for number in range(len(names)):
        table.add_column(str(number), justify="right")
    for number, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        head = name if name == str(number) else f"{number} {name}"
        cells = [
            Text(str(count) if count else "·", style="bold" if i == number else "")
            for i, count in enumerate(counts)
        ]
        table.add_row(Text(head), *cells)
    return table
