"""Figures worth printing: curves of a run, bands of configurations, images with their classes.

All are read in greyscale: lines are told apart by shade, dashes and marker.
"""

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from train.metrics import METRICS, RANKED_BY, Record, is_known
from train.report import tables
from train.run_directory import files, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Neighbours differ in everything: they are often as good, and lie on one another.
_STYLES = [
    {"color": shade, "linestyle": dashes, "marker": marker}
    for shade, dashes, marker in zip(
        2 * ("0.0", "0.35", "0.55", "0.7"),
        ("-", "--", "-.", ":", "--", "-", ":", "-."),
        "os^DvxP*",
        strict=True,
    )
]

# What a single run shows, the sets that it has.
_SPLITS = {
    "train": ("train batches", {"color": "0.55", "linestyle": "--", "marker": "s"}),
    "validation": ("validation set", {"color": "0.3", "linestyle": "-.", "marker": "^"}),
    "test": ("test set", {"color": "0.0", "linestyle": "-", "marker": "o"}),
}

_BANDS = " Bands: ± standard deviation over the runs."
_WIDTH = 9  # Inches; a line of text in the smaller sizes below has room for these letters.
_LETTERS = {"large": 68, "small": 105, "x-small": 150}


class _Line(NamedTuple):
    """The mean over some runs of the metrics of a set of examples, with a band of ± std."""

    label: str
    runs: Sequence[Sequence[Record]]
    split: str
    style: dict[str, Any]


def curves(
    runs: Sequence[Sequence[Record]],
    path: Path,
    title: str,
    note: str,
    across: Literal["step", "epoch"] = "step",
) -> None:
    """Draw loss and accuracy of a configuration on each set.

    Args:
        runs: the evaluations of each run; of several, the mean and a band of ± std are drawn.
        path: a file; its suffix is the format.
        title: what ran.
        note: where the data come from.
        across: what the horizontal axis counts.
    """
    lines = [
        _Line(label, runs, split, style)
        for split, (label, style) in _SPLITS.items()
        if any(is_known(record, split) for records in runs for record in records)
    ]
    _draw(lines, path, title, note + (_BANDS if len(runs) > 1 else ""), across=across)


def bands(
    results: Sequence[tuple[dict[str, Any], Sequence[Sequence[Record]]]],
    path: Path,
    title: str,
    note: str,
) -> None:
    """Draw loss and accuracy of configurations, means over seeds with bands of ± std.

    They are those of the validation set where all configurations have one, else of the test set.

    Args:
        results: per configuration, best first, its row of summary.json and the evaluations of each
            of its runs; the first eight are drawn.
        path: a file; its suffix is the format.
        title: what ran.
        note: where the data come from.
    """
    rows = [row for row, _ in results]
    split, names = summary.judge(*rows), tables.varying(rows)
    lines = [
        _Line(", ".join(tables.label(row, names)), runs, split, style)
        for (row, runs), style in zip(results, _STYLES, strict=False)
    ]
    if len(lines) < len(results):
        title += f", the best {len(lines)} of {len(results)} configurations"
    if any(len(line.runs) > 1 for line in lines):
        note += _BANDS
    _draw(lines, path, title, note, f"{split} ")


def _draw(
    lines: Sequence[_Line], path: Path, title: str, note: str, of: str = "", across: str = "step"
) -> None:
    """Draw the lines in a panel for each metric, above a legend."""
    # Without pyplot, which would look for a window.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    longest = max((len(line.label) for line in lines), default=1)
    columns = max(1, min(3, len(lines), _LETTERS["small"] // (longest + 8)))
    labels = [_wrapped(line.label, "small", columns) for line in lines]
    text_lines = sum(label.count("\n") + 1 for label in labels) / columns
    figure = Figure(figsize=(_WIDTH, 4.6 + 0.2 * text_lines), layout="constrained")
    figure.suptitle(_wrapped(title, "large"))
    axes_of_metric = figure.subplots(1, len(METRICS), squeeze=False)[0]
    for axes, (metric, declared) in zip(axes_of_metric, METRICS.items(), strict=True):
        extremes = [math.inf, -math.inf]
        for line, label in zip(lines, labels, strict=True):
            where, mean, std = _mean_and_std(line.runs, f"{line.split}_{metric}", across)
            every = max(1, len(where) // 8)
            axes.plot(where, mean, label=label, markevery=every, markersize=4, **line.style)
            if len(line.runs) > 1:
                axes.fill_between(
                    where, mean - std, mean + std, color=line.style["color"], alpha=0.15, lw=0
                )
            extremes = [min([extremes[0], *mean]), max([extremes[1], *mean])]
        if declared.best is min and 0 < 100 * extremes[0] < extremes[1]:
            axes.set_yscale("log")  # Else one that diverges flattens all others.
        axes.set(xlabel=across, ylabel=declared.axis, title=f"{of}{metric}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(alpha=0.3)
    _legend(figure, axes_of_metric[0].get_legend_handles_labels(), note, columns)
    _write(figure, path)


def _write(figure: "Figure", path: Path) -> None:
    """Write a figure in the format that the suffix of its path names."""
    with files.replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)


def _mean_and_std(
    runs: Sequence[Sequence[Record]], metric: str, across: str
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Steps or epochs, mean and standard deviation over the runs that have the metric there."""
    found: dict[float, list[float]] = {}
    for records in runs:
        for record in records:
            if record.get(metric) is not None:
                found.setdefault(record[across], []).append(record[metric])
    where = sorted(found)
    spreads = [summary.spread(found[place]) for place in where]
    mean, std = (np.array([s[part] for s in spreads], float) for part in ("mean", "std"))
    return where, mean, std


def _legend(figure: "Figure", entries: tuple[Any, Any], note: str, columns: int) -> None:
    figure.legend(
        *entries,
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        title=_wrapped(note, "x-small"),
        title_fontsize="x-small",
    )


def _wrapped(text: str, size: str, columns: int = 1) -> str:
    """The text in lines that fit the figure, or a column of it."""
    return "\n".join(textwrap.wrap(text, _LETTERS[size] // columns))


def against(
    rows: Sequence[dict[str, Any]], across: str, line: str, path: Path, title: str, note: str
) -> None:
    """Draw the final accuracy of configurations against a flag, with bars of ± std over the runs.

    Args:
        rows: of summary.json.
        across: the flag of the horizontal axis, of positive numbers.
        line: the flag that has a line for each of its values.
        path: a file; its suffix is the format.
        title: what ran.
        note: where it comes from.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH * 0.7, 4.6), layout="constrained")
    figure.suptitle(_wrapped(title, "large", 1))
    axes = figure.subplots()
    split = summary.judge(*rows)
    values = dict.fromkeys(row["config"][line] for row in rows)
    for value, style in zip(values, _STYLES, strict=False):
        points = sorted(
            (row["config"][across], final["mean"], final["std"])
            for row in rows
            if row["config"][line] == value
            and (final := row[f"{split}_{RANKED_BY}"]["final"])["mean"] is not None
        )
        where, mean, std = np.array(points, float).T
        look: dict[str, Any] = {**style, "label": f"{line} {value}", "capsize": 3}
        axes.errorbar(where, mean, std, **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks := sorted({row["config"][across] for row in rows}), list(map(str, ticks)))
    axes.set(xlabel=across.replace("_", " "), ylabel=f"final {split} {METRICS[RANKED_BY].axis}")
    axes.grid(alpha=0.3)
    _legend(figure, axes.get_legend_handles_labels(), note, len(values))
    _write(figure, path)


def heat_map(
    rows: Sequence[dict[str, Any]], across: str, down: str, path: Path, title: str, note: str
) -> None:
    """Draw the final accuracy for each pair of values of two flags, as shade and as a number.

    Args:
        rows: of summary.json; of those with the same pair, the best is drawn.
        across: the flag of the horizontal axis.
        down: the flag of the vertical axis.
        path: a file; its suffix is the format.
        title: what ran.
        note: where it comes from.
    """
    from matplotlib.figure import Figure

    split = summary.judge(*rows)
    columns, lines = (
        sorted({row["config"][flag] for row in rows}, key=_by_numbers) for flag in (across, down)
    )
    best = np.full((len(lines), len(columns)), np.nan)
    for row in rows:
        mean = row[f"{split}_{RANKED_BY}"]["final"]["mean"]
        cell = lines.index(row["config"][down]), columns.index(row["config"][across])
        best[cell] = np.fmax(best[cell], np.nan if mean is None else mean)
    figure = Figure(figsize=(2 + 1.1 * len(columns), 2 + 0.5 * len(lines)), layout="constrained")
    figure.suptitle(_wrapped(title, "large", 2), fontsize="medium")
    axes = figure.subplots()
    image = axes.imshow(best, cmap="gray", aspect="auto")
    middle = (np.nanmin(best) + np.nanmax(best)) / 2
    for (i, j), value in np.ndenumerate(best):
        words = "-" if np.isnan(value) else f"{value:.3f}"
        axes.text(j, i, words, ha="center", va="center", color="k" if value > middle else "w")
    axes.set_xticks(range(len(columns)), [f"{value}" for value in columns])
    axes.set_yticks(range(len(lines)), [f"{value}" for value in lines])
    axes.set(xlabel=across.replace("_", " "), ylabel=down.replace("_", " "))
    figure.colorbar(image, label=f"final {split} {METRICS[RANKED_BY].axis}")
    figure.supxlabel(_wrapped(note, "x-small", 2), fontsize="x-small")
    _write(figure, path)


def _by_numbers(value: Any) -> tuple[Any, ...]:
    """What sorts values of a flag: widths such as 1x100 by their numbers."""
    if isinstance(value, str):
        return (0, *map(int, re.findall(r"\d+", value)), value)
    return (0, value)


class Mistake(NamedTuple):
    """An image that was classified wrong.

    Attributes:
        image: uint8 [H, W, C].
        caption: its true class and the predicted one, in two lines or three.
    """

    image: np.ndarray
    caption: str


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an input of a shape is drawn: a grey or coloured image, [H, W, C]."""
    return len(shape) == 3 and shape[-1] in (1, 3)


def mistakes(found: Sequence[Mistake], largest_pixel: int, path: Path, title: str) -> None:
    """Draw images with their captions, row by row, and write the figure to `path`.

    Args:
        found: the images, at least one.
        largest_pixel: the value of a white pixel.
        path: a file; its suffix is the format.
        title: what they are.
    """
    from matplotlib.figure import Figure

    columns = min(5, len(found))
    rows = math.ceil(len(found) / columns)
    figure = Figure(figsize=(max(1.9 * columns, 6), 0.7 + 2.3 * rows), layout="constrained")
    figure.suptitle(_wrapped(title, "large", max(1, 5 // (columns + 1))))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, mistake in zip(grid, found, strict=False):
        image = mistake.image / largest_pixel
        grey = image.shape[-1] == 1
        axes.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(mistake.caption, fontsize="small")
    _write(figure, path)
