"""Figures worth printing: curves of a run, bands of configurations, images with their classes.

All are read in greyscale: lines are told apart by shade, dashes and marker.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from train import report, store
from train.store import Record

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

_PANELS = (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy (fraction right)"))

_WIDTH = 9  # Inches; a line of text in the smaller sizes below has room for these letters.
_LETTERS = {"large": 68, "small": 105, "x-small": 150}


class _Line(NamedTuple):
    """The mean over some runs of the metrics of a set of examples, with a band of ± std."""

    label: str
    runs: Sequence[Sequence[Record]]
    split: str
    style: dict[str, Any]


def curves(records: Sequence[Record], path: Path, title: str, note: str) -> None:
    """Draw loss and accuracy of a run against the step, and write the figure to `path`.

    Args:
        records: the evaluations.
        path: a file; its suffix is the format.
        title: what ran.
        note: where the data come from.
    """
    lines = [
        _Line(label, [records], split, style)
        for split, (label, style) in _SPLITS.items()
        if any(record.get(f"{split}_loss") is not None for record in records)
    ]
    _draw(lines, path, title, note)


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
    split, names = store.judge(*rows), report.varying(rows)
    lines = [
        _Line(", ".join(report.label(row, names)), runs, split, style)
        for (row, runs), style in zip(results, _STYLES, strict=False)
    ]
    if len(lines) < len(results):
        title += f", the best {len(lines)} of {len(results)} configurations"
    if any(len(line.runs) > 1 for line in lines):
        folds = " and folds" if any(row["folds"] for row in rows) else ""
        note += f" Bands: ± standard deviation over seeds{folds}."
    _draw(lines, path, title, note, f"{split} ")


def _draw(lines: Sequence[_Line], path: Path, title: str, note: str, of: str = "") -> None:
    """Draw the lines in a panel for the loss and one for the accuracy, above a legend."""
    # Without pyplot, which would look for a window.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    longest = max((len(line.label) for line in lines), default=1)
    columns = max(1, min(3, len(lines), _LETTERS["small"] // (longest + 8)))
    labels = [_wrapped(line.label, "small", columns) for line in lines]
    text_lines = sum(label.count("\n") + 1 for label in labels) / columns
    figure = Figure(figsize=(_WIDTH, 4.6 + 0.2 * text_lines), layout="constrained")
    figure.suptitle(_wrapped(title, "large"))
    axes_of_metric = figure.subplots(1, 2)
    for axes, (metric, unit) in zip(axes_of_metric, _PANELS, strict=True):
        extremes = [math.inf, -math.inf]
        for line, label in zip(lines, labels, strict=True):
            steps, mean, std = _mean_and_std(line.runs, f"{line.split}_{metric}")
            every = max(1, len(steps) // 8)
            axes.plot(steps, mean, label=label, markevery=every, markersize=4, **line.style)
            if len(line.runs) > 1:
                axes.fill_between(
                    steps, mean - std, mean + std, color=line.style["color"], alpha=0.15, lw=0
                )
            extremes = [min([extremes[0], *mean]), max([extremes[1], *mean])]
        if metric == "loss" and 0 < 100 * extremes[0] < extremes[1]:
            axes.set_yscale("log")  # Else one that diverges flattens all others.
        axes.set(xlabel="step", ylabel=unit, title=f"{of}{metric}")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(alpha=0.3)
    _legend(figure, axes_of_metric[0].get_legend_handles_labels(), note, columns)
    figure.savefig(path, dpi=150)


def _mean_and_std(
    runs: Sequence[Sequence[Record]], metric: str
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Steps, mean and standard deviation over the runs that have the metric at the step."""
    by_step: dict[int, list[float]] = {}
    for records in runs:
        for record in records:
            if record.get(metric) is not None:
                by_step.setdefault(record["step"], []).append(record[metric])
    steps = sorted(by_step)
    spreads = [store.spread(by_step[step]) for step in steps]
    mean, std = (np.array([s[part] for s in spreads], float) for part in ("mean", "std"))
    return steps, mean, std


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
    """The text in lines that fit into the figure, or a column of its legend."""
    return "\n".join(textwrap.wrap(text, _LETTERS[size] // columns))


class Mistake(NamedTuple):
    """An image that was classified wrong.

    Attributes:
        image: uint8 [H, W, C].
        caption: its true class and the predicted one, in two lines or three.
    """

    image: np.ndarray
    caption: str


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
    figure.savefig(path, dpi=150)
