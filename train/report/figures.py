"""Figures worth printing: curves of a run, bands of configurations, images with their classes.

Colour-blind people and grey printers tell all lines apart, see `style`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from train.metrics import METRICS, RANKED_BY, Record, is_known
from train.report import labels as called
from train.report.panels import Panel, panels
from train.report.style import LETTERS, STYLES, WIDTH, legend, scale, wrapped, write
from train.run_directory import summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What a single run shows, the sets that it has.
_SPLITS = {
    "train": ("train batches", {"color": "#E69F00", "linestyle": "--", "marker": "s"}),
    "validation": ("validation set", {"color": "#0072B2", "linestyle": "-.", "marker": "^"}),
    "test": ("test set", {"color": "#000000", "linestyle": "-", "marker": "o"}),
}

FORMATS = (".png", ".pdf", ".svg")

_BANDS = " Bands: ± standard deviation over the runs."


class _Line(NamedTuple):
    """The mean over some runs of the metrics of a set of examples, with a band of ± std."""

    label: str
    runs: Sequence[Sequence[Record]]
    split: str
    style: dict[str, Any]


def results(
    found: Sequence[tuple[dict[str, Any], Sequence[Sequence[Record]]]],
    path: Path | None,
    name: str,
    dataset: dict[str, Any],
) -> "Figure":
    """Draw the curves of the only configuration, or compare several.

    Args:
        found: per configuration, best first, its row of summary.json and the evaluations of each
            of its runs.
        path: a file; its suffix is the format. None to write none.
        name: of the network.
        dataset: what summary.json says of the data.
    """
    title, note = f"{name} on {dataset['name']}", dataset["description"]
    if len(found) > 1:
        return bands(found, path, title, note)
    ((row, records),) = found
    config = row["config"]
    title += (
        f": {config['optimizer']}, learning rate {config['learning_rate']:g}, "
        f"batch size {config['batch_size']}"
    )
    return curves(records, path, title, note)


def curves(
    runs: Sequence[Sequence[Record]],
    path: Path | None,
    title: str,
    note: str,
    across: Literal["step", "epoch"] = "step",
) -> "Figure":
    """Draw loss and accuracy of a configuration on each set.

    Args:
        runs: the evaluations of each run; of several, the mean and a band of ± std are drawn.
        path: a file; its suffix is the format. None to write none.
        title: what ran.
        note: where the data come from.
        across: what the horizontal axis counts.
    """
    lines = [
        _Line(label, runs, split, style)
        for split, (label, style) in _SPLITS.items()
        if any(is_known(record, split) for records in runs for record in records)
    ]
    return _draw(lines, path, title, note + (_BANDS if len(runs) > 1 else ""), across=across)


def bands(
    results: Sequence[tuple[dict[str, Any], Sequence[Sequence[Record]]]],
    path: Path | None,
    title: str,
    note: str,
) -> "Figure":
    """Draw loss and accuracy of configurations, means over seeds with bands of ± std.

    They are those of the validation set where all configurations have one, else of the test set.

    Args:
        results: per configuration, best first, its row of summary.json and the evaluations of each
            of its runs; the first eight are drawn.
        path: a file; its suffix is the format. None to write none.
        title: what ran.
        note: where the data come from.
    """
    rows = [row for row, _ in results]
    split, names = summary.judge(*rows), called.labels(rows)
    lines = [
        _Line(name, runs, split, style)
        for (_, runs), name, style in zip(results, names, STYLES, strict=False)
    ]
    if len(lines) < len(results):
        title += f", the best {len(lines)} of {len(results)} configurations"
    if any(len(line.runs) > 1 for line in lines):
        note += _BANDS
    return _draw(lines, path, title, note, f"{split} ", below=panels(rows))


def _draw(
    lines: Sequence[_Line],
    path: Path | None,
    title: str,
    note: str,
    of: str = "",
    across: str = "step",
    below: Sequence[Panel] = (),
) -> "Figure":
    """Draw the lines in a panel for each metric, above a legend, and other panels below it."""
    # Without pyplot, which would look for a window.
    from matplotlib.figure import Figure

    longest = max((len(line.label) for line in lines), default=1)
    columns = max(1, min(3, len(lines), LETTERS["small"] // (longest + 8)))
    labels = [wrapped(line.label, "small", columns) for line in lines]
    text_lines = sum(label.count("\n") + 1 for label in labels) / columns
    heights = [4.6 + 0.2 * text_lines, 3.4][: 1 + bool(below)]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    figure.suptitle(wrapped(title, "large"))
    axes_of_metric = parts[0].subplots(1, len(METRICS), squeeze=False)[0]
    for axes, metric in zip(axes_of_metric, METRICS, strict=True):
        _curve(axes, lines, labels, metric, across)
        axes.set(xlabel=across, ylabel=METRICS[metric].axis, title=f"{of}{metric}")
    legend(parts[0], axes_of_metric[0].get_legend_handles_labels(), note, columns)
    if below:
        for axes, panel in zip(
            parts[1].subplots(1, len(below), squeeze=False)[0], below, strict=True
        ):
            panel(parts[1], axes)
    if path is not None:
        write(figure, path)
    return figure


def _curve(
    axes: "Axes", lines: Sequence[_Line], labels: Sequence[str], metric: str, across: str
) -> None:
    """Draw a metric along the training; the axis fits what comes after the first evaluation."""
    from matplotlib.ticker import MaxNLocator

    curves = [_mean_and_std(line.runs, f"{line.split}_{metric}", across) for line in lines]
    for (where, mean, std), line, label in zip(curves, lines, labels, strict=True):
        every = max(1, len(where) // 8)
        axes.plot(where, mean, label=label, markevery=every, markersize=4, **line.style)
        if len(line.runs) > 1:
            axes.fill_between(
                where, mean - std, mean + std, color=line.style["color"], alpha=0.15, lw=0
            )
    first = min((where[0] for where, _, _ in curves if where), default=0)
    later = [
        [value for place, value in zip(where, mean, strict=True) if place > first]
        for where, mean, _ in curves
    ]
    scale(axes, METRICS[metric], later if any(later) else [list(mean) for _, mean, _ in curves])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(alpha=0.3)


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

    figure = Figure(figsize=(WIDTH * 0.7, 4.6), layout="constrained")
    figure.suptitle(wrapped(title, "large", 1))
    axes = figure.subplots()
    split = summary.judge(*rows)
    values = dict.fromkeys(row["config"][line] for row in rows)
    for value, style in zip(values, STYLES, strict=False):
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
    legend(figure, axes.get_legend_handles_labels(), note, len(values))
    write(figure, path)


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
    figure.suptitle(wrapped(title, "large", max(1, 5 // (columns + 1))))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, mistake in zip(grid, found, strict=False):
        image = mistake.image / largest_pixel
        grey = image.shape[-1] == 1
        axes.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(mistake.caption, fontsize="small")
    write(figure, path)
