"""What all figures share: colours and lines, sizes of text, scales, how they are written."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.metrics import Metric
from train.run_directory import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, which colour-blind people tell apart, from dark to light, so that a
# grey printer does too; without their yellow, which a projector does not show on white. Neighbours
# differ in dashes and marker too: they are often as good, and lie on one another.
STYLES = [
    {"color": colour, "linestyle": dashes, "marker": marker}
    for colour, dashes, marker in zip(
        (
            "#000000",  # black
            "#0072B2",  # blue
            "#D55E00",  # vermillion
            "#009E73",  # bluish green
            "#CC79A7",  # reddish purple
            "#E69F00",  # orange
            "#56B4E9",  # sky blue
            "#999999",  # grey
        ),
        ("-", "--", "-.", ":", "--", "-", ":", "-."),
        "os^DvxP*",
        strict=True,
    )
]

MAP = "cividis"  # From dark to light, and the same to colour-blind people.

WIDTH = 9  # Inches; a line of text in the smaller sizes below has room for these letters.
LETTERS = {"large": 68, "small": 105, "x-small": 150}


def wrapped(text: str, size: str, columns: int = 1) -> str:
    """Return the text in lines that fit the figure, or a column of it."""
    return "\n".join(textwrap.wrap(text, LETTERS[size] // columns))


def write(figure: "Figure", path: Path) -> None:
    """Write a figure in the format that the suffix of its path names."""
    with files.replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)


def legend(figure: Any, entries: tuple[Any, Any], note: str, columns: int) -> None:
    """Add a legend below a figure, or a part of one, with a note above the entries."""
    figure.legend(
        *entries,
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        title=wrapped(note, "x-small"),
        title_fontsize="x-small",
    )


def scale(axes: "Axes", metric: Metric, lines: Sequence[Sequence[float]]) -> None:
    """Fit the vertical axis to the values of a metric, so that good values lie apart.

    A metric of which the lowest value is the best has a logarithmic axis. Lines that end far from
    the best one do not count: those that diverged would flatten all others.

    Args:
        axes: the panel.
        metric: what is drawn.
        lines: the values of each line that the axis should show.
    """
    lines = [line for line in lines if len(line)]
    if not lines:
        return
    best = metric.best(line[-1] for line in lines)
    if metric.best is max:
        values = [value for line in lines if line[-1] >= best / 2 for value in line]
        low, high = min(values), max(values)
        if metric.largest == 1.0 and best >= 0.9 and high - low > 0.1:
            _towards_1(axes, values)
            return
        margin = 0.06 * (high - low) or 0.01
        axes.set_ylim(low - margin, min(high + margin, metric.largest + margin / 3))
        return
    middle = sorted(line[-1] for line in lines)[(len(lines) - 1) // 2]
    # Training losses may fall to 1e-7, and those of a run that diverges rise to 1e30.
    values = [value for line in lines for value in line if middle / 99 <= value <= middle * 99]
    if not values or min(values) <= 0:
        return
    margin = (max(values) / min(values)) ** 0.06 or 1.1
    margin = max(margin, 1.02)
    axes.set_yscale("log")
    axes.set_ylim(min(values) / margin, max(values) * margin)
    plain_ticks(axes.yaxis, values)


# Of an axis that is logarithmic in what is missing from 1.
_TICKS = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)


def _towards_1(axes: "Axes", values: Sequence[float]) -> None:
    """Make the vertical axis logarithmic in 1 - value, so that 0.96 and 0.98 lie apart."""
    import numpy as np

    smallest = min((1 - value for value in values if value < 1), default=0.1) / 2

    def forward(value: Any) -> Any:
        return -np.log(np.maximum(1 - np.asarray(value, float), smallest))

    def inverse(value: Any) -> Any:
        return 1 - np.exp(-np.asarray(value, float))

    axes.set_yscale("function", functions=(forward, inverse))
    high = 1 - smallest if max(values) == 1 else max(values)
    low, high = 1 - (1 - min(values)) * 1.1, 1 - max((1 - high) / 1.1, smallest)
    axes.set_ylim(low, high)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def plain_ticks(axis: Any, values: Iterable[float]) -> None:
    """Label a logarithmic axis with plain numbers, at least two of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    found = list(values)
    decades = math.log10(max(found) / min(found))
    if decades < 0.5:
        axis.set_major_locator(MaxNLocator(5))
    else:
        subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
