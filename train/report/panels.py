"""Panels that show configurations by the numbers in which they differ: heat maps and scatters."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.flags.config import FLAGS
from train.metrics import METRICS, RANKED_BY
from train.report import labels, style
from train.run_directory import summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 4
_FEWEST_VALUES = 3  # Of a number, for a scatter over it to say something.

Panel = Callable[["Figure", "Axes"], None]


def panels(rows: Sequence[dict[str, Any]]) -> list[Panel]:
    """Return what draws the panels that suit some configurations; none where there is no number.

    A grid over two numbers has a heat map. Otherwise the metric that ranks the configurations is
    drawn over each number that has several values, as of a random search.

    Args:
        rows: of summary.json.
    """
    names = labels.varying(rows)
    values = {name: {row["config"].get(name) for row in rows} for name in names}
    numbers = [name for name in names if all(_is_number(value) for value in values[name])]
    if len(names) == len(numbers) == 2:
        down, across = sorted(numbers, key=lambda name: len(values[name]))
        if len(rows) == len(values[down]) * len(values[across]):
            return [lambda figure, axes: _heat_map(figure, axes, rows, across, down)]
    real = [
        name
        for name in names
        if name in FLAGS and len(_values(rows, name)) == len(rows)
        if len(set(_values(rows, name))) >= _FEWEST_VALUES
    ]
    return [
        lambda figure, axes, name=name: _scatter(axes, rows, name, name == real[0])  # type: ignore[misc]
        for name in real[:_MOST_PANELS]
    ]


def _is_number(value: Any) -> bool:
    """Whether a value of a flag is a number, such as the width of a single hidden layer."""
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _values(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    """The values of a flag that are numbers and not text."""
    values = [row["config"].get(name) for row in rows]
    return [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]


def _final(row: dict[str, Any], split: str) -> dict[str, Any]:
    found: dict[str, Any] = row[f"{split}_{RANKED_BY}"]["final"]
    return found


def _scatter(axes: "Axes", rows: Sequence[dict[str, Any]], name: str, legend: bool) -> None:
    """Draw the final accuracy of each configuration over a number, the best as a star."""
    split = summary.judge(*rows)
    points = [
        (row["config"][name], final["mean"], final["std"])
        for row in rows
        if (final := _final(row, split))["mean"] is not None
    ]
    words = name.replace("_", " ")
    law = FLAGS[name].law
    if law == "log from 1" and all(value < 1 for value, _, _ in points):
        points = [(1 - value, mean, std) for value, mean, std in points]
        words = f"1 - {words}"
    axes.set(xlabel=words, ylabel=f"final {split}\n{METRICS[RANKED_BY].axis}")
    axes.grid(alpha=0.3)
    if not points:
        return
    where, mean, std = np.array(points, float).T
    colour = style.STYLES[1]["color"]
    bars = std if std.any() else None
    axes.errorbar(where, mean, bars, fmt="o", color=colour, markersize=5, capsize=2, alpha=0.8)
    best: dict[str, Any] = {"color": style.STYLES[2]["color"], "markeredgecolor": "black"}
    axes.plot(where[:1], mean[:1], "*", markersize=15, zorder=5, label="best", **best)
    style.scale(
        axes, METRICS[RANKED_BY], [[m - s, m + s, m] for m, s in zip(mean, std, strict=True)]
    )
    if legend:
        axes.legend(loc="best", fontsize="small")
    # A number without a law, such as a batch size, mostly has values that are multiples.
    several = law is None and max(where) >= 8 * min(where)
    if min(where) > 0 and max(where) > min(where) and (law in ("log", "log from 1") or several):
        axes.set_xscale("log")
        style.plain_ticks(axes.xaxis, where)


def _heat_map(
    figure: "Figure", axes: "Axes", rows: Sequence[dict[str, Any]], across: str, down: str
) -> None:
    """Draw the final accuracy for each pair of values of two flags, as colour and as a number."""
    split = summary.judge(*rows)
    columns, lines = (
        sorted({row["config"][flag] for row in rows}, key=_by_numbers) for flag in (across, down)
    )
    best = np.full((len(lines), len(columns)), np.nan)
    for row in rows:
        mean = _final(row, split)["mean"]
        cell = lines.index(row["config"][down]), columns.index(row["config"][across])
        best[cell] = np.fmax(best[cell], np.nan if mean is None else mean)
    axes.set_xticks(range(len(columns)), list(map(labels.value_of, columns)))
    axes.set_yticks(range(len(lines)), list(map(labels.value_of, lines)))
    axes.set(xlabel=across.replace("_", " "), ylabel=down.replace("_", " "))
    known = best[~np.isnan(best)]
    if not len(known):
        return
    # Values that are far from the best would leave all good ones in one colour.
    low = min(known[known >= known.max() / 2])
    image = axes.imshow(best, cmap=style.MAP, aspect="auto", vmin=low)
    middle = (low + known.max()) / 2
    for (i, j), value in np.ndenumerate(best):
        words = "-" if np.isnan(value) else f"{value:.3f}"
        colour = "k" if value > middle or math.isnan(value) else "w"
        axes.text(j, i, words, ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, label=f"final {split}\n{METRICS[RANKED_BY].axis}")


def heat_map(
    rows: Sequence[dict[str, Any]], across: str, down: str, path: Path, title: str, note: str
) -> None:
    """Draw the final accuracy for each pair of values of two flags, as a figure of its own.

    Args:
        rows: of summary.json; of those with the same pair, the best is drawn.
        across: the flag of the horizontal axis.
        down: the flag of the vertical axis.
        path: a file; its suffix is the format.
        title: what ran.
        note: where it comes from.
    """
    from matplotlib.figure import Figure

    width, height = (len({row["config"][flag] for row in rows}) for flag in (across, down))
    figure = Figure(figsize=(2 + 1.1 * width, 2 + 0.5 * height), layout="constrained")
    figure.suptitle(style.wrapped(title, "large", 2), fontsize="medium")
    _heat_map(figure, figure.subplots(), rows, across, down)
    figure.supxlabel(style.wrapped(note, "x-small", 2), fontsize="x-small")
    style.write(figure, path)


def _by_numbers(value: Any) -> tuple[Any, ...]:
    """What sorts values of a flag: widths such as 1x100 by their numbers."""
    if isinstance(value, str):
        return (0, *map(int, re.findall(r"\d+", value)), value)
    return (0, value)
