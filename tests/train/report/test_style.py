"""What an axis shows: the values that it is for, with some room, and ticks in plain numbers."""

import math

import pytest
from matplotlib.figure import Figure

from train.metrics import METRICS
from train.report import style

LOSS, ACCURACY = METRICS["loss"], METRICS["accuracy"]


@pytest.fixture
def axes():
    return Figure().subplots()


def test_a_text_is_cut_to_the_figure_or_to_a_column():
    words = "a" * 34
    for columns, lines in ((1, 1), (2, 2)):
        assert style.wrapped(f"{words[:33]} {words}", "large", columns).count("\n") == lines - 1
    assert style.wrapped(f"{words} {words}", "large") == f"{words}\n{words}"  # 69 letters.


@pytest.mark.parametrize("lines", [[[0.5, 0.25]], [[0.5], [0.3125, 0.75]], [[0.5, 0.5]]])
def test_all_accuracies_are_shown_with_a_margin(axes, lines):
    style.scale(axes, ACCURACY, lines)
    low, high = axes.get_ylim()
    values = [value for line in lines for value in line]
    margin = 0.06 * (max(values) - min(values)) or 0.01
    assert low == pytest.approx(min(values) - margin)
    assert high == pytest.approx(max(values) + margin)
    assert axes.get_yscale() == "linear"


def test_an_axis_of_accuracies_ends_a_little_above_1(axes):
    style.scale(axes, ACCURACY, [[0.96, 1.0]])
    low, high = axes.get_ylim()
    assert low < 0.96
    assert 1 < high < 1.0025


def test_a_line_that_ends_below_half_of_the_best_does_not_count(axes):
    style.scale(axes, ACCURACY, [[0.5, 0.75], [0.0, 0.375], [0.0, 0.25], []])
    low, _ = axes.get_ylim()
    assert low < 0
    style.scale(axes, ACCURACY, [[0.5, 0.75], [0.0, 0.25]])
    low, _ = axes.get_ylim()
    assert 0.4 < low < 0.5


@pytest.mark.parametrize(
    ("values", "stretched"),
    [([0.5, 0.9], True), ([0.5, 0.89], False), ([0.85, 0.94], False), ([0.5, 1.0], True)],
)
def test_good_accuracies_are_stretched(axes, values, stretched):
    style.scale(axes, ACCURACY, [values])
    assert (axes.get_yscale() == "function") == stretched
    low, high = axes.get_ylim()
    assert low < min(values)
    assert high > max(values) or values[-1] == 1.0
    if stretched:
        forward = axes.yaxis.get_transform().transform
        # Half of what is missing from 1 is the same way everywhere.
        first, second, third = forward([0.0, 0.5, 0.75])
        assert second - first == pytest.approx(third - second) == pytest.approx(math.log(2))
        inverse = axes.yaxis.get_transform().inverted().transform
        assert inverse(forward([0.5, 0.75])) == pytest.approx([0.5, 0.75])
        ticks = axes.get_yticks()
        assert all(low <= tick <= high for tick in ticks)
        assert {0.5, 0.7} <= set(ticks)
        assert [label.get_text() for label in axes.get_yticklabels()] == [f"{t:g}" for t in ticks]


def test_losses_have_a_logarithmic_axis(axes):
    style.scale(axes, LOSS, [[2.0, 0.5], [4.0, 0.25]])
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert (0.25 / low) == pytest.approx(high / 4) == pytest.approx(16**0.06)
    style.scale(axes, LOSS, [[2.0, 2.0]])
    low, high = axes.get_ylim()
    assert 2 / low == pytest.approx(high / 2) == pytest.approx(1.02)


def test_losses_of_a_run_that_diverged_are_left_out(axes):
    style.scale(axes, LOSS, [[1.0, 0.5], [1.0, 1e30], [1e-7, 0.25]])
    low, high = axes.get_ylim()
    assert 0.01 < low < 0.25
    assert 1 < high < 2


@pytest.mark.parametrize("lines", [[], [[]]])
def test_without_a_value_an_axis_stays_as_it_is(axes, lines):
    before = axes.get_ylim()
    for metric in (LOSS, ACCURACY):
        style.scale(axes, metric, lines)
    assert axes.get_ylim() == before
    style.scale(axes, LOSS, [[0.0, 0.0]])  # Of which there is no logarithm.
    assert axes.get_ylim() == before
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 2, None),
        (1, 20, {1, 2, 5, 10, 20}),
        (1, 100, {1, 3, 10, 30, 100}),
        (1, 1e4, {1, 10, 100, 1e3, 1e4}),
    ],
)
def test_ticks_are_plain_numbers(axes, low, high, expected):
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    style.plain_ticks(axes.yaxis, [low, high])
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(ticks) >= 2
    assert expected is None or set(map(round, ticks)) == expected
    assert not len(axes.get_yticks(minor=True))
    shown = axes.yaxis.get_major_formatter()
    assert [shown(tick) for tick in (0.001, 20.0)] == ["0.001", "20"]


def test_neighbours_differ_in_all_that_a_line_has():
    assert len(style.STYLES) == 8
    for one, other in zip(style.STYLES, style.STYLES[1:], strict=False):
        assert all(one[name] != other[name] for name in ("color", "linestyle", "marker"))


def test_a_figure_is_written_in_the_format_of_its_suffix(tmp_path):
    for suffix, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        figure = Figure(figsize=(2, 1))
        style.write(figure, tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
    header = (tmp_path / "a.png").read_bytes()[16:24]
    assert int.from_bytes(header[:4]) == 300  # 2 inches of 150 points.


def test_a_legend_has_its_note_above_it():
    figure = Figure()
    (line,) = figure.subplots().plot([1], [1])
    style.legend(figure, ([line] * 3, ["a", "b", "c"]), "b " * 100, 3)
    (legend,) = figure.legends
    assert legend.get_title().get_text() == style.wrapped("b " * 100, "x-small")
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]
    assert legend._ncols == 3
