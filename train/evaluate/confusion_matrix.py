"""The confusion matrix of a network: how often each class was taken for each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from train.report.console import output


def counted(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many examples of each class, by row, were taken for each, by column."""
    from sklearn.metrics import confusion_matrix

    found: np.ndarray = confusion_matrix(labels, predicted, labels=range(classes))
    return found


def per_class(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return of each class its name, the number of its examples, accuracy and precision."""
    return [
        {
            "name": name,
            "examples": int(matrix[i].sum()),
            "accuracy": _share(matrix[i, i], matrix[i].sum()),
            "precision": _share(matrix[i, i], matrix[:, i].sum()),
        }
        for i, name in enumerate(names)
    ]


def show(matrix: np.ndarray, classes: Sequence[dict[str, Any]]) -> None:
    """Print the matrix, and what `per_class` returns of it."""
    console = output()
    print(
        "\nAccuracy: the share of a class that is found; precision: of those taken for it, right."
    )
    console.print(_class_table(classes))
    print("\nConfusion: a row for each true class, a column for each predicted one.")
    console.print(_confusion_table(matrix, [row["name"] for row in classes]))


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _class_table(classes: Sequence[dict[str, Any]]) -> Table:
    table = Table()
    for heading in ("class", "examples", "accuracy", "precision"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in classes:
        shares = ("-" if row[k] is None else f"{row[k]:.4f}" for k in ("accuracy", "precision"))
        table.add_row(Text(row["name"]), str(row["examples"]), *shares)
    return table


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
