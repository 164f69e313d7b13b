"""What a person sees of a run or a sweep: progress and a table."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from train.metrics import METRICS, RANKED_BY, SETS
from train.run_directory.summary import judge


def table(summary: dict[str, Any], caution: str = "") -> Table:
    """Return the results of a run or a sweep as a table, two lines or more per configuration.

    Args:
        summary: what summary.json holds; a row may also name its "run_directory" and say at which
            step it is "unfinished".
        caution: why no configuration is marked as the best.

    Returns:
        The metrics at the end and at the best evaluation, on the training batches and
        the other sets; mean and standard deviation where there are several seeds or folds. Where
        there are several configurations, what tells them apart; the first is marked as the best.
    """
    dataset, rows = summary["dataset"], summary["rows"]
    several = len(rows) > 1 or "run_directory" in rows[0]
    title = Text(f"{dataset['name']}: {dataset['description']}")  # Not markup.
    result = Table(title=title, title_justify="left", padding=(0, 0 if several else 1))
    metrics = METRICS.items()
    headings = [heading for name, of in metrics for heading in (of.heading, f"best {name}")]
    names, judging = varying(rows), judge(*rows)
    if several:
        result.add_column("configuration", overflow="fold")
        repeated = any(len(row["seeds"]) > 1 for row in rows)
        spread_over = "seeds and folds" if any(row["folds"] for row in rows) else "seeds"
        result.caption = Text(
            (
                caution
                or f"* the best: highest mean final {judging} {RANKED_BY}, which sorts the table"
            )
            + (f"; ± standard deviation over {spread_over}" if repeated else "")
        )
    result.add_column("")
    for heading in headings:
        result.add_column(heading, justify="right", no_wrap=several)
    for number, row in enumerate(rows):
        lines = []
        for split in (name for name in SETS if f"{name}_{RANKED_BY}" in row):
            several_of = [row.get(f"{split}_{name}") for name in METRICS]
            parts_of = [(of, part) for of in several_of for part in ("final", "best")]
            lines.append([split, *(_number(of and of[part]) for of, part in parts_of)])
        if several:
            mean = row[f"{judging}_{RANKED_BY}"]["final"]["mean"]
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


def kept(which: str | None, summary: dict[str, Any]) -> str:
    """Return a line that says which parameters the runs keep, and are tested with."""
    if which != "best":
        return "parameters    of the last step"
    steps = sorted({step for row in summary["rows"] for step in row["kept"] if step is not None})
    where = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    return "parameters    of the lowest validation loss" + (f", {where}" if steps else "")


def _number(of: dict[str, Any] | None) -> str:
    if of is None or of["mean"] is None:
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
