"""What a person sees of a run: progress, a table, a figure."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from train.store import Record


class Progress:
    """Live progress on a terminal, a plain line per evaluation elsewhere; a context.

    On a terminal, "train 1.434 50.6%" is loss and accuracy at the last evaluation.
    """

    def __init__(self, steps: int, console: Console):
        """Prepare to show `steps` steps on `console`."""
        self._console = console
        self._bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}{task.fields[metrics]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, rate="", metrics="")
        self._steps = steps

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, step: int, steps_per_second: float) -> None:
        """Show that `step` steps are done."""
        self._bar.update(self._task, completed=step, rate=f"{steps_per_second:,.0f}/s  ")

    def evaluated(self, record: Record) -> None:
        """Show an evaluation."""
        splits = [split for split in ("train", "test") if record[f"{split}_loss"] is not None]
        if self._console.is_terminal:
            metrics = ", ".join(
                f"{split} {record[f'{split}_loss']:.3f} {record[f'{split}_accuracy']:.1%}"
                for split in splits
            )
            self._bar.update(self._task, metrics=metrics)
            return
        parts = [f"step {record['step']:>{len(str(self._steps))}}/{self._steps}"]
        for split in splits:
            loss, accuracy = record[f"{split}_loss"], record[f"{split}_accuracy"]
            parts.append(f"{split} loss {loss:.4f} accuracy {accuracy:.4f}")
        line = "  ".join([*parts, f"{record['seconds']:.1f} s"])
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def table(summary: dict[str, Any]) -> Table:
    """Return the results of a run as a table, two lines per configuration.

    Args:
        summary: what summary.json holds.

    Returns:
        Loss (nats) and accuracy at the end and at the best evaluation, on the training batches
        and the test set; mean and standard deviation where there are several seeds.
    """
    dataset = summary["dataset"]
    title = Text(f"{dataset['name']}: {dataset['description']}")  # Not markup.
    result = Table(title=title, title_justify="left")
    result.add_column("")
    for heading in ("loss (nats)", "best loss", "accuracy", "best accuracy"):
        result.add_column(heading, justify="right")
    for row in summary["rows"]:
        for split in ("train", "test"):
            loss, accuracy = row[f"{split}_loss"], row[f"{split}_accuracy"]
            cells = (loss["final"], loss["best"], accuracy["final"], accuracy["best"])
            result.add_row(split, *map(_number, cells))
        result.add_section()
    return result


def _number(spread: dict[str, Any]) -> str:
    deviation = f" ± {spread['std']:.4f}" if len(spread["values"]) > 1 else ""
    return f"{spread['mean']:.4f}{deviation}"


def curves(records: Sequence[Record], path: Path, title: str, note: str) -> None:
    """Draw loss and accuracy against the step, and write the figure to `path`.

    Args:
        records: the evaluations.
        path: a file; its suffix is the format.
        title: what ran.
        note: where the data come from.
    """
    # Without pyplot, which would look for a window.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    figure.suptitle(title)
    figure.supxlabel("\n".join(textwrap.wrap(note, 150)), fontsize="x-small")
    panels = (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy (fraction right)"))
    for axes, (metric, label) in zip(figure.subplots(1, 2), panels, strict=True):
        axes.plot(*_points(records, f"train_{metric}"), "--", color="0.55", label="train batches")
        axes.plot(*_points(records, f"test_{metric}"), "-", color="black", label="test set")
        axes.set(xlabel="step", ylabel=label, title=metric)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)


def _points(records: Iterable[Record], metric: str) -> tuple[list[int], list[float]]:
    seen = [record for record in records if record[metric] is not None]
    return [record["step"] for record in seen], [record[metric] for record in seen]
