"""The derivations of a report as a person reads them: gradients side by side, and its mistakes."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from train.reproduce.derivations import DERIVATIONS, Derivation, Gradient, Shape, compare, shapes
from train.reproduce.errata import ERRATA

# Entries that are shown of a gradient.
_MOST = 8


def show(name: str, console: Console) -> list[dict[str, Any]]:
    """Print the gradients of an experiment, computed in three ways, and where its report errs.

    Args:
        name: the experiment.
        console: where to.

    Returns:
        The gradients, as JSON can hold them; none where the experiment derives nothing.
    """
    found = []
    for derivation in DERIVATIONS.get(name, list)():
        loss, gradients = compare(derivation)
        console.print(_table(derivation, loss, gradients))
        for gradient in gradients:
            values = {
                field: value.tolist() if isinstance(value, np.ndarray) else value
                for field, value in gradient._asdict().items()
            }
            found.append({"derivation": derivation.title, "loss": loss, **values})
    if name == "E3":
        console.print(_shapes(shapes()))
    for erratum in ERRATA.get(name, ()):
        says, right, automatic = erratum.numbers()
        console.print(
            Text(
                f"The report errs in {erratum.where}. It says: {erratum.says}. Right is: "
                f"{erratum.right}. Its formula is {_distance(says, automatic)} from autodiff's "
                f"gradient, the right one {_distance(right, automatic)}.\n"
            )
        )
    return found


def _table(derivation: Derivation, loss: float, gradients: list[Gradient]) -> Table:
    """The gradients entry by entry; of a large one the first, and the largest difference of all."""
    said = derivation.reported_loss
    title = f"{derivation.title}: loss {loss:.12g}" + ("" if said is None else f", report {said}")
    table = Table(title=title, title_justify="left")
    headings = ["gradient", "by hand", "autodiff", "finite differences"]
    if derivation.reported:
        headings.append("report")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "gradient" else "right")
    for gradient in gradients:
        ways: list[np.ndarray | None] = [gradient.by_hand, gradient.autodiff, gradient.differences]
        if derivation.reported:
            ways.append(gradient.reported)
        indices = list(np.ndindex(gradient.by_hand.shape))
        for index in indices[:_MOST]:
            cells = ["-" if way is None else f"{way[index]:z.10f}" for way in ways]
            table.add_row(f"{gradient.name}{list(index)}", *cells)
        if len(indices) > _MOST:
            cells = [
                "-" if w is None else f"{np.abs(w - gradient.by_hand).max():.1e}" for w in ways[1:]
            ]
            table.add_row(f"{gradient.name}, {len(indices)} entries", "off by", *cells)
        table.add_section()
    return table


def _shapes(found: list[Shape]) -> Table:
    """The shapes of one example and of a batch, beside the report's."""
    table = Table(title="Shapes for one example, and for a batch by vmap", title_justify="left")
    for heading in ("quantity", "one example", "report", "batch", "report"):
        table.add_column(heading)
    for shape in found:
        cells = (shape.one, shape.reported_one, shape.batch, shape.reported_batch)
        table.add_row(shape.name, *map(str, cells))
    return table


def _distance(values: np.ndarray, automatic: np.ndarray) -> str:
    if values.shape != automatic.shape:
        return f"of shape {list(values.shape)}, far"
    return f"{np.abs(values - automatic).max():.2g}"
