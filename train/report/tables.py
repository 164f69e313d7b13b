"""Tables of results: a row per configuration, or the metrics of a single one."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from train.metrics import METRICS, RANKED_BY, SETS, THEN_BY
from train.report import notes
from train.report.labels import labels, value_of, varying, words
from train.run_directory.summary import judge

MOST_ROWS = 20
_MOST_FLAGS = 5  # With a column each; more share one.
_WIDTH = 80  # Letters in which a table is readable; a wider terminal shows long values whole.


class Cells(NamedTuple):
    """A table in words, for any place that shows it.

    Attributes:
        title: what the results are of.
        headings: one per column; a line end is where a heading may be broken.
        rows: the cells of each row, as many as there are headings.
        numbers: the first column of numbers; it and those after it are aligned to the right.
        best: the index of the best row, None where none is the best.
        notes: what is to be known below the table, a sentence or two each.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]
    numbers: int
    best: int | None
    notes: list[str]


class _Form(NamedTuple):
    """How numbers are written: their decimals, and what stands between mean and deviation."""

    decimals: int
    between: str
    gap: int  # Between columns.


# From the most readable to the narrowest.
_FORMS = (_Form(4, " ± ", 2), _Form(4, "±", 2), _Form(3, "±", 2), _Form(3, "±", 1))


def cells(
    summary: dict[str, Any], caution: str = "", form: _Form = _FORMS[0], rest: str = "summary.json"
) -> Cells:
    """Return the results of a run or a sweep in words.

    Several configurations have a row each, the best first and at most `MOST_ROWS`: the flags that
    differ, and the final loss and accuracy of the set that ranks them, and the test accuracy. A
    single one has a row for each set, with all metrics at the end and at the best evaluation.

    Args:
        summary: what summary.json holds; a row may also name its "run_directory" and say at which
            step it is "unfinished".
        caution: why no configuration is marked as the best.
        form: how numbers are written.
        rest: the file that holds the rows that are left out.

    Returns:
        The cells; a number is a mean, with ± the standard deviation over several seeds or folds.
    """
    dataset, rows = summary["dataset"], summary["rows"]
    title = f"{dataset['name']}: {dataset['description']}"
    if len(rows) == 1:
        return _single(title, rows[0], form)
    names, metrics = varying(rows), _deciding(rows)
    shown = rows[:MOST_ROWS]
    flags = [[value_of(row["config"].get(name)) for name in names] for row in shown]
    headings = [name.replace("_", "\n") for name in names]
    if len(names) > _MOST_FLAGS:
        headings = ["configuration"]
        flags = [[", ".join(words(row, names))] for row in shown]
    counts = {len(row["seeds"]) for row in rows}
    kinds = {
        "run directory": [row.get("run_directory", "") for row in shown],
        "seeds": [str(len(set(row["seeds"]))) for row in shown],
    }
    before = ["run directory"] * (len({row.get("run_directory") for row in rows}) > 1)
    after = ["seeds"] * (len(counts) > 1)
    marks = notes.endings(shown)
    body = []
    for number, row in enumerate(shown):
        first = f"{number + 1}{'*' * any(number in of for of in marks.values())}"
        values = [_number(row.get(name, {}).get("final"), form) for name in metrics]
        cell = {name: kinds[name][number] for name in (*before, *after)}
        parts = [[cell[n] for n in before], flags[number], [cell[n] for n in after], values]
        body.append([first, *itertools.chain(*parts)])
    known = rows[0][metrics[1]]["final"]["mean"] is not None
    best = 0 if known and not caution else None
    below = [*notes.ranking(rows, caution), *notes.said(marks)]
    if len(rows) > len(shown):
        others = len(rows) - len(shown)
        below.insert(0, f"{others} more configuration{'s' * (others > 1)}: see {rest}.")
    wide = [name.replace("_", "\n") for name in metrics]
    left = ["", *(name.replace(" ", "\n") for name in before), *headings]
    return Cells(title, [*left, *after, *wide], body, len(left), best, below)


def _single(title: str, row: dict[str, Any], form: _Form) -> Cells:
    """The cells of a single configuration."""
    headings = [heading for name, of in METRICS.items() for heading in (of.heading, f"best {name}")]
    body = [
        [of]
        + [
            _number(row.get(f"{of}_{name}", {}).get(part), form)
            for name in METRICS
            for part in ("final", "best")
        ]
        for of in SETS
        if f"{of}_{RANKED_BY}" in row
    ]
    below = [
        *notes.deviation([row]),
        *(f"{ending[0].upper()}{ending[1:]}." for ending in notes.ended(row)),
    ]
    return Cells(title, ["", *headings], body, 1, None, below)


def table(summary: dict[str, Any], caution: str = "", rest: str = "summary.json") -> Group:
    """Return the results of a run or a sweep as a table that fits into 80 columns.

    Args:
        summary: see `cells`.
        caution: why no configuration is marked as the best.
        rest: the file that holds the rows that are left out.
    """
    for form in _FORMS:
        found = cells(summary, caution, form, rest)
        if _natural_width(found, form.gap) <= _WIDTH:
            break
    result = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, form.gap - 1, 0, 0),
    )
    for number, heading in enumerate(found.headings):
        right = number >= found.numbers or number == 0 < len(found.rows[0][0].rstrip("*")) < 3
        result.add_column(
            Text(heading),
            justify="right" if right else "left",
            vertical="top",
            no_wrap=number >= found.numbers or number == 0,
            overflow="fold",
        )
    for number, row in enumerate(found.rows):
        result.add_row(*map(Text, row), style="bold" if number == found.best else None)
    # As texts of their own, they are not cut to the width of the table; nor are they markup.
    return Group(Text(found.title), result, *map(Text, found.notes))


def _natural_width(found: Cells, gap: int) -> int:
    lines = [found.headings, *found.rows]
    columns = zip(*lines, strict=True)
    widths = [max(len(part) for cell in column for part in cell.split("\n")) for column in columns]
    return sum(widths) + gap * (len(widths) - 1)


def closing(summary: dict[str, Any], commands: Sequence[str], caution: str = "") -> str:
    """Return the last lines: the best of several configurations, and the commands that come next.

    Args:
        summary: see `cells`.
        commands: what can be done with the results.
        caution: why no configuration is the best.

    Returns:
        The lines; none where all runs of the best configuration diverged.
    """
    rows = summary["rows"]
    metrics = _deciding(rows)
    if rows[0][metrics[1]]["final"]["mean"] is None:
        return ""
    lines = []
    if len(rows) > 1 and not caution:
        results = (
            f"{name.replace('_', ' ')} {_number(rows[0][name]['final'])}" for name in metrics[1:]
        )
        lines += [f"best  {labels(rows)[0]}", f"      {', '.join(results)}"]
    starts = ["next", *[""] * len(commands)]
    return "\n".join([*lines, *(f"{a:4}  {b}" for a, b in zip(starts, commands, strict=False))])


def _deciding(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The metrics that decide: those that rank the configurations, and the test accuracy."""
    of = judge(*rows)
    return list(dict.fromkeys([f"{of}_{THEN_BY}", f"{of}_{RANKED_BY}", f"test_{RANKED_BY}"]))


def kept(which: str | None, summary: dict[str, Any]) -> str:
    """Return a line that says which parameters the runs keep, and are tested with."""
    if which != "best":
        return "parameters    of the last step"
    steps = sorted({step for row in summary["rows"] for step in row["kept"] if step is not None})
    line = "parameters    of the lowest validation loss"
    if not steps:  # All runs diverged.
        return line
    several = f"steps {steps[0]} to {steps[-1]}"
    return f"{line}, {several if len(steps) > 1 else f'step {steps[0]}'}"


def _number(of: dict[str, Any] | None, form: _Form = _FORMS[0]) -> str:
    if of is None or of["mean"] is None:
        return "-"
    known = [value for value in of["values"] if value is not None]
    # The loss of a run that is about to diverge may have twenty digits.
    digits = f".{form.decimals}f" if abs(of["mean"]) < 1e4 else ".3g"
    deviation = f"{form.between}{of['std']:{digits}}" if len(known) > 1 else ""
    return f"{of['mean']:{digits}}{deviation}"
