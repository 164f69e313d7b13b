"""What a person sees of a run or a sweep: progress, a table, a figure."""

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

from train.store import SETS, Record, judge, spread


class Progress:
    """Live progress on a terminal, a plain line per evaluation elsewhere; a context.

    On a terminal, "train 1.434 50.6%" is loss and accuracy at the last evaluation.
    """

    def __init__(self, steps: int, console: Console):
        """Prepare to show `steps` steps on `console`."""
        self._console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}{task.fields[metrics]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("step", total=steps, rate="", metrics="")
        self._steps = steps
        self._group, self._runs, self._before = "", 1, 0

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

    def begin(self, group: str, runs: int, steps: int) -> None:
        """Show that a group of a sweep begins, which takes its runs so many steps each."""
        self._before += self._runs * self._steps if self._group else 0
        self._group, self._runs, self._steps = group, runs, steps
        words = f"{group}: {runs} run{'s' * (runs > 1)}, steps of all"
        self._bar.update(self._task, description=words, completed=self._before)

    def advance(self, step: int, steps_per_second: float) -> None:
        """Show that each run of the group has done `step` steps."""
        completed = self._before + self._runs * step
        self._bar.update(self._task, completed=completed, rate=f"{steps_per_second:,.0f}/s  ")

    def evaluated(self, records: Sequence[Record]) -> None:
        """Show an evaluation of each run of the group."""
        if self._group:
            self._evaluated_group(records)
        else:
            self._evaluated_run(records[0])

    def _evaluated_group(self, records: Sequence[Record]) -> None:
        words = ""
        for name in ("validation", "test", "train"):
            known = [r[f"{name}_accuracy"] for r in records if _has(r, name)]
            if known:
                words = f"{name} accuracy {min(known):.4f} to {max(known):.4f}"
                break
        diverged = sum(not any(_has(r, name) for name in SETS) for r in records if r["step"])
        if diverged:
            words += f"  {diverged} diverged"
        if self._console.is_terminal:
            self._bar.update(self._task, metrics=words.strip())
        elif records:
            step = f"step {records[0]['step']:>{len(str(self._steps))}}/{self._steps}"
            parts = [self._group, f"{step} of {self._runs} run{'s' * (self._runs > 1)}", words]
            line = "  ".join([*(p.strip() for p in parts), f"{records[0]['seconds']:.1f} s"])
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _evaluated_run(self, record: Record) -> None:
        splits = [split for split in SETS if _has(record, split)]
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


def _has(record: Record, name: str) -> bool:
    return record.get(f"{name}_loss") is not None


def table(summary: dict[str, Any]) -> Table:
    """Return the results of a run or a sweep as a table, two lines or more per configuration.

    Args:
        summary: what summary.json holds.

    Returns:
        Loss (nats) and accuracy at the end and at the best evaluation, on the training batches
        and the test set; mean and standard deviation where there are several seeds. Where there
        are several configurations, the flags that tell them apart; the first is marked as the best.
    """
    dataset, rows = summary["dataset"], summary["rows"]
    several = len(rows) > 1
    title = Text(f"{dataset['name']}: {dataset['description']}")  # Not markup.
    result = Table(title=title, title_justify="left", padding=(0, 0 if several else 1))
    headings = ["loss (nats)", "best loss", "accuracy", "best accuracy"]
    names = _varying(rows)
    if several:
        result.add_column("configuration", overflow="fold")
        result.caption = Text(
            f"* the best: highest mean final {judge(rows[0])} accuracy, which sorts the table"
            + ("; ± standard deviation over seeds" if len(rows[0]["seeds"]) > 1 else "")
            + (" and folds" if rows[0]["folds"] else "")
        )
    result.add_column("")
    for heading in headings:
        result.add_column(heading, justify="right", no_wrap=several)
    for number, row in enumerate(rows):
        lines = []
        for split in (name for name in SETS if f"{name}_loss" in row):
            loss, accuracy = row[f"{split}_loss"], row[f"{split}_accuracy"]
            cells = (loss["final"], loss["best"], accuracy["final"], accuracy["best"])
            lines.append([split, *map(_number, cells)])
        if several:
            best = number == 0 and row[f"{judge(row)}_accuracy"]["final"]["mean"] is not None
            parts = [*_flags(row, names), *_ended(row)]
            parts[0] = ("* " if best else "  ") + parts[0]
            label = Text("\n  ".join(parts), style="bold" if best else "")
            columns = zip(*lines, strict=True)
            result.add_row(label, *("\n".join(column) for column in columns))
        else:
            for line in lines:
                result.add_row(*line)
            for words in _ended(row):
                result.caption = Text(words)
        result.add_section()
    return result


def _number(of: dict[str, Any]) -> str:
    if of["mean"] is None:
        return "-"
    known = [value for value in of["values"] if value is not None]
    # The loss of a run that is about to diverge may have twenty digits.
    form = ".4f" if abs(of["mean"]) < 1e4 else ".3g"
    deviation = f" ± {of['std']:{form}}" if len(known) > 1 else ""
    return f"{of['mean']:{form}}{deviation}"


def _varying(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The flags in which configurations differ."""
    return [name for name in rows[0]["config"] if len({row["config"][name] for row in rows}) > 1]


def _flags(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Those flags of a configuration that have an effect in it."""
    values = {name: row["config"][name] for name in names}
    return [
        f"{name.replace('_', '-')} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in values.items()
        if value is not None
    ]


def _ended(row: dict[str, Any]) -> list[str]:
    """Which runs of a configuration diverged, or ran out of patience, if any."""
    found = []
    folds = row["folds"] or [None] * len(row["seeds"])
    runs = list(zip(row["seeds"], folds, row["diverged"], row["stopped"], strict=True))
    for words, which in (("diverged", 2), ("stopped early", 3)):
        steps = [
            f"{run[which]} (seed {run[0]}{'' if run[1] is None else f', fold {run[1]}'})"
            for run in runs
            if run[which] is not None
        ]
        if steps and len(runs) == 1:
            found.append(f"{words} at step {runs[0][which]}")
        elif steps:
            found.append(f"{len(steps)} of {len(runs)} {words} at step {', '.join(steps)}")
    return found


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
        for name, label_of_set, style in _SETS_DRAWN:
            steps, values = _points(records, f"{name}_{metric}")
            if values:  # A single point is the test set's at the end.
                marker = "o" if len(values) == 1 else ""
                axes.plot(steps, values, label=label_of_set, marker=marker, **style)
        axes.set(xlabel="step", ylabel=label, title=metric)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)


_SETS_DRAWN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("train", "train batches", {"linestyle": "--", "color": "0.55"}),
    ("validation", "validation set", {"linestyle": "-", "color": "0.35"}),
    ("test", "test set", {"linestyle": "-", "color": "black"}),
)


def _points(records: Iterable[Record], metric: str) -> tuple[list[int], list[float]]:
    seen = [record for record in records if record.get(metric) is not None]
    return [record["step"] for record in seen], [record[metric] for record in seen]


# Lines told apart without colour: shade, dashes and marker.
_STYLES = [
    {"color": shade, "linestyle": dashes, "marker": marker}
    for (shade, dashes), marker in zip(
        [(shade, dashes) for dashes in ("-", "--") for shade in ("0.0", "0.35", "0.55", "0.7")],
        "os^DvxP*",
        strict=True,
    )
]


def bands(
    results: Sequence[tuple[dict[str, Any], Sequence[Sequence[Record]]]],
    path: Path,
    title: str,
    note: str,
) -> None:
    """Draw loss and accuracy of configurations on `judge`, means over seeds with bands of ± std.

    Args:
        results: per configuration, best first, its row of summary.json and the evaluations of each
            of its runs; the first eight are drawn.
        path: a file; its suffix is the format.
        title: what ran.
        note: where the data come from.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = results[: len(_STYLES)]
    names = _varying([row for row, _ in results])
    name = judge(results[0][0])
    if len(shown) < len(results):
        title += f", the best {len(shown)} of {len(results)} configurations"
    if any(len(runs) > 1 for _, runs in shown):
        note += " Bands: ± standard deviation over seeds."
    figure = Figure(figsize=(9, 4.6 + 0.22 * len(shown)), layout="constrained")
    figure.suptitle(title)
    panels = (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy (fraction right)"))
    axes_of_metric = figure.subplots(1, 2)
    for axes, (metric, label) in zip(axes_of_metric, panels, strict=True):
        for (row, runs), style in zip(shown, _STYLES, strict=False):
            by_step: dict[int, list[float]] = {}
            for records in runs:
                for step, value in zip(*_points(records, f"{name}_{metric}"), strict=True):
                    by_step.setdefault(step, []).append(value)
            spreads = [spread(values) for values in by_step.values()]
            mean, std = ([s[part] for s in spreads] for part in ("mean", "std"))
            words = ", ".join([*_flags(row, names), *_ended(row)]) or "all seeds"
            every = max(1, len(by_step) // 8)
            axes.plot(list(by_step), mean, label=words, markevery=every, markersize=4, **style)
            if len(runs) > 1:
                low, high = ([m + k * s for m, s in zip(mean, std, strict=True)] for k in (-1, 1))
                axes.fill_between(
                    list(by_step), low, high, color=style["color"], alpha=0.15, linewidth=0
                )
        axes.set(xlabel="step", ylabel=label, title=f"{name} {metric}")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(alpha=0.3)
    handles, words = axes_of_metric[0].get_legend_handles_labels()
    figure.legend(
        handles,
        words,
        loc="outside lower center",
        ncols=1 + (len(shown) > 4),
        fontsize="small",
        title="\n".join(textwrap.wrap(note, 150)),
        title_fontsize="x-small",
    )
    figure.savefig(path, dpi=150)
