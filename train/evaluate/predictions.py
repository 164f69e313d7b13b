"""What a network makes of other examples: on the screen, predictions.json and predictions.csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from train.data import Dataset
from train.report.console import output
from train.run_directory import files

# Examples that are printed; the files hold all.
MOST_PRINTED = 20


def write(
    shares: np.ndarray,
    dataset: Dataset,
    names: Sequence[str] | None,
    out: Path,
    of: dict[str, Any],
) -> None:
    """Print and write what the network takes examples for.

    predictions.csv is written for a table, and for several examples.

    Args:
        shares: the probability of each class, [N, classes].
        dataset: what is known of the data.
        names: what the examples are called; None for their numbers.
        out: the folder of the files.
        of: what else predictions.json is to say.
    """
    classes, first = dataset.classes, int(dataset.schema.is_table)  # A table has a row 1.
    order = np.argsort(-shares, axis=-1, kind="stable")
    if len(shares) == 1:
        table = Table("class", "probability")
        for label in order[0]:
            table.add_row(Text(classes[label]), f"{shares[0, label]:.4f}")
    else:
        kind = "file" if names else "row" if dataset.schema.is_table else "image"
        table = Table(kind, "class", "probability", "then")
        for number, (share, labels) in enumerate(
            zip(shares[:MOST_PRINTED], order[:MOST_PRINTED], strict=True)
        ):
            others = ", ".join(f"{classes[i]} {share[i]:.4f}" for i in labels[1:3])
            name, best = names[number] if names else str(number + first), labels[0]
            table.add_row(Text(name), Text(classes[best]), f"{share[best]:.4f}", Text(others))
    output().print(table)
    if len(shares) > max(MOST_PRINTED, 1):
        print(f"and {len(shares) - MOST_PRINTED} more")
    predictions: list[dict[str, Any]] = [
        {"class": classes[labels[0]], "probabilities": dict(zip(classes, share, strict=True))}
        for share, labels in zip(shares.tolist(), order.tolist(), strict=True)
    ]
    for prediction, name in zip(predictions, names or (), strict=False):
        prediction["file"] = name
    path, rows = out / "predictions.json", out / "predictions.csv"
    files.write_json(path, {**of, "predictions": predictions})
    if len(shares) > 1 or dataset.schema.is_table:
        _write_csv(shares, order, classes, names, first, rows)
        print(f"\nrows    {rows}\nnumbers {path}")
    else:
        rows.unlink(missing_ok=True)  # It would be that of other examples.
        print(f"\nnumbers {path}")


def _write_csv(
    shares: np.ndarray,
    order: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str] | None,
    first: int,
    path: Path,
) -> None:
    """Write a row for each example: its number or file, its class, and all probabilities."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file" if names else "row", "class", *(f"p({name})" for name in classes)])
    for number, (share, labels) in enumerate(zip(shares, order, strict=True)):
        name = names[number] if names else number + first
        writer.writerow([name, classes[labels[0]], *(f"{value:.6g}" for value in share)])
    with files.replacing(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))
