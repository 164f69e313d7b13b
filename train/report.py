"""What a person sees of a run or a sweep: progress and a table."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from train.outcome import SETS, Record, judge


class _Output(Console):
    def on_broken_pipe(self) -> None:
        # As after a plain `print`; Rich would end the process with status 1 and no word.
        raise BrokenPipeError


def output(wide: int = 100) -> Console:
    """Return the console of standard output; a file or a pipe has no width, and takes `wide`."""
    console = _Output()
    return console if console.is_terminal else _Output(width=wide)


class _Bar(Bar):
    """A bar with text below it."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.below)


class Progress:
    """Live progress on a terminal, a plain line per evaluation elsewhere; a context.

    On a terminal a bar says how many steps of all runs are done, the time left, and the steps in a
    second; below it stands what the last evaluation said, and where the runs of a sweep are.
    """

    def __init__(self, steps: int, console: Console, runs: int = 1):
        """Prepare to show `steps` steps, those of all `runs` together, on `console`."""
        self._console = console
        self._bar = _Bar(
            MofNCompleteColumn(),
            TextColumn("steps"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("left  {task.fields[rate]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, rate="")
        self._all_runs, self._done, self._diverged = runs, 0, set[int]()
        self._steps, self._before = steps, 0
        self._group, self._runs = "", 0

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
        self._done += self._runs
        self._before += self._runs * self._steps
        self._group, self._runs, self._steps = group, runs, steps
        self._bar.update(self._task, completed=self._before)
        self._bar.below = self._where(0)

    def advance(self, step: int, steps_per_second: float) -> None:
        """Show that each run of the group has done `step` steps."""
        completed = self._before + max(1, self._runs) * step
        self._bar.update(self._task, completed=completed, rate=f"{steps_per_second:,.0f} steps/s")

    def evaluated(self, records: Sequence[Record]) -> None:
        """Show an evaluation of each run of the group."""
        if not records:
            return
        step, seconds = records[0]["step"], f"{records[0]['seconds']:.1f} s"
        if self._group:
            # Before the first step there may be nothing to evaluate on.
            self._diverged |= {
                r["run"] for r in records if step and not any(_has(r, name) for name in SETS)
            }
            metrics, where = [_ranges(records)], self._where(step)
        else:
            metrics, where = _metrics(records[0]), ""
        if self._console.is_terminal:
            self._bar.below = "\n".join(filter(None, [where, *metrics]))
            return
        parts = [f"step {step:>{len(str(self._steps))}}/{self._steps}", *metrics]
        if self._group:
            parts[0] = f"{self._group}  {parts[0]} of {self._runs} run{'s' * (self._runs > 1)}"
            parts += [f"{len(self._diverged)} diverged"] * bool(self._diverged)
        line = "  ".join([*filter(None, parts), seconds])
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _where(self, step: int) -> str:
        """Where the runs of a sweep are."""
        counts = {
            f"in training ({self._group}, step {step}/{self._steps})": self._runs,
            "done": self._done,
            "waiting": self._all_runs - self._done - self._runs,
            "diverged": len(self._diverged),
        }
        return "runs: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _metrics(record: Record) -> list[str]:
    """Loss and accuracy of each set that a run was evaluated on."""
    return [
        f"{name} loss {record[f'{name}_loss']:.4f} accuracy {record[f'{name}_accuracy']:.4f}"
        for name in SETS
        if _has(record, name)
    ]


def _ranges(records: Sequence[Record]) -> str:
    """Loss and accuracy from the lowest run to the highest, on the set that tells the most."""
    for name in ("validation", "test", "train"):
        seen = [record for record in records if _has(record, name)]
        if seen:
            loss, accuracy = ([r[f"{name}_{kind}"] for r in seen] for kind in ("loss", "accuracy"))
            return (
                f"{name} loss {min(loss):.4g} to {max(loss):.4g} "
                f"accuracy {min(accuracy):.4f} to {max(accuracy):.4f}"
            )
    return ""


def _has(record: Record, name: str) -> bool:
    return record.get(f"{name}_loss") is not None


def table(summary: dict[str, Any], caution: str = "") -> Table:
    """Return the results of a run or a sweep as a table, two lines or more per configuration.

    Args:
        summary: what summary.json holds; a row may also name its "run_directory" and say at which
            step it is "unfinished".
        caution: why no configuration is marked as the best.

    Returns:
        Loss (nats) and accuracy at the end and at the best evaluation, on the training batches and
        the other sets; mean and standard deviation where there are several seeds or folds. Where
        there are several configurations, what tells them apart; the first is marked as the best.
    """
    dataset, rows = summary["dataset"], summary["rows"]
    several = len(rows) > 1 or "run_directory" in rows[0]
    title = Text(f"{dataset['name']}: {dataset['description']}")  # Not markup.
    result = Table(title=title, title_justify="left", padding=(0, 0 if several else 1))
    headings = ["loss (nats)", "best loss", "accuracy", "best accuracy"]
    names, judging = varying(rows), judge(*rows)
    if several:
        result.add_column("configuration", overflow="fold")
        repeated = any(len(row["seeds"]) > 1 for row in rows)
        spread_over = "seeds and folds" if any(row["folds"] for row in rows) else "seeds"
        result.caption = Text(
            (caution or f"* the best: highest mean final {judging} accuracy, which sorts the table")
            + (f"; ± standard deviation over {spread_over}" if repeated else "")
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
            mean = row[f"{judging}_accuracy"]["final"]["mean"]
            best = number == 0 and mean is not None and not caution
            parts = label(row, names)
            parts[0] = ("* " if best else "  ") + parts[0]
            configuration = Text("\n  ".join(parts), style="bold" if best else "")
            columns = zip(*lines, strict=True)
            result.add_row(configuration, *("\n".join(column) for column in columns))
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


def varying(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the flags in which configurations differ; one that some lack is None in those."""
    names = dict.fromkeys(name for row in rows for name in row["config"])
    return [name for name in names if len({row["config"].get(name) for row in rows}) > 1]


def label(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return what to call a configuration, part by part, by the flags in which it differs."""
    parts = [row["run_directory"]] if "run_directory" in row else []
    parts += [*_flags(row, names), *_ended(row)]
    if row.get("unfinished") is not None:
        parts.append(f"unfinished, at step {row['unfinished']}")
    return parts or ["all runs"]


def _flags(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Those flags of a configuration that have an effect in it."""
    values = {name: row["config"].get(name) for name in names}
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
