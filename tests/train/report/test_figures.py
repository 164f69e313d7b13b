"""What the figures show: each point, its band, and the words around it."""

import matplotlib.figure
import numpy as np
import pytest

from train.metrics import METRICS
from train.report import figures, panels, style
from train.run_directory.summary import row_of


def record(step, loss, accuracy=0.5):
    return {"step": step, "test_loss": loss, "test_accuracy": accuracy}


def configuration(runs, **config):
    return row_of(config, list(range(len(runs))), 17, runs), runs


@pytest.fixture
def saved(monkeypatch):
    """The figures that are written, without the time that this takes."""
    found = []
    monkeypatch.setattr(style, "write", lambda figure, path: found.append(figure))
    monkeypatch.setattr(figures, "write", lambda figure, path: found.append(figure))
    return found


def all_axes(figure):
    return [axes for part in figure.subfigs for axes in part.axes]


def test_a_line_goes_through_the_means_of_the_runs():
    runs = [[record(0, 4.0), record(10, 2.0)], [record(0, 2.0), record(10, 1.0), record(20, 0.5)]]
    figure = figures.curves(runs, None, "title", "note")
    loss, accuracy = all_axes(figure)
    (line,) = loss.lines
    assert line.get_xydata().tolist() == [[0, 3.0], [10, 1.5], [20, 0.5]]
    (band,) = loss.collections
    low, high = band.get_paths()[0].get_extents().intervaly
    assert low == pytest.approx(min(3 - 2**0.5, 0.5))
    assert high == pytest.approx(3 + 2**0.5)
    assert (loss.get_title(), loss.get_xlabel()) == ("loss", "step")
    assert loss.get_ylabel() == METRICS["loss"].axis
    assert accuracy.lines[0].get_xydata()[:, 1].tolist() == [0.5] * 3
    (legend,) = figure.subfigs[0].legends
    assert legend.get_title().get_text() == "note Bands: ± standard deviation over the runs."


def test_a_single_run_has_no_band():
    figure = figures.curves([[record(0, 4.0), record(10, 2.0)]], None, "title", "note")
    loss, _ = all_axes(figure)
    assert not loss.collections
    assert figure.subfigs[0].legends[0].get_title().get_text() == "note"
    assert figure.get_suptitle() == "title"
    assert figures.curves([], None, "title", "note").get_suptitle() == "title"  # Nothing is known.


@pytest.mark.parametrize(("points", "every"), [(1, 1), (15, 1), (16, 2), (80, 10)])
def test_a_line_has_up_to_sixteen_markers(points, every):
    runs = [[record(step, 1.0) for step in range(points)]]
    loss, _ = all_axes(figures.curves(runs, None, "title", "note"))
    assert loss.lines[0].get_markevery() == every


def test_steps_are_whole_numbers():
    loss, _ = all_axes(figures.curves([[record(0, 1.0), record(1, 0.5)]], None, "t", "n"))
    assert all(tick == round(tick) for tick in loss.get_xticks())


def test_the_axis_fits_what_comes_after_the_first_evaluation():
    loss, _ = all_axes(
        figures.curves([[record(0, 50.0), record(5, 2.0), record(9, 1.0)]], None, "t", "n")
    )
    assert loss.get_ylim()[1] < 3
    loss, _ = all_axes(figures.curves([[record(0, 50.0)]], None, "t", "n"))
    assert loss.get_ylim()[1] > 50


def test_eight_configurations_are_drawn_and_panels_below_them():
    found = [
        configuration([[record(0, 1.0), record(9, 0.5, 0.9 - i / 100)]], l2=10.0**-i, hidden="5")
        for i in range(9)
    ]
    figure = figures.bands(found, None, "title", "note")
    assert figure.get_suptitle() == "title, the best 8 of 9 configurations"
    above, below = figure.subfigs
    assert len(above.axes[0].lines) == 8
    assert above.axes[0].get_title() == "test loss"
    assert [text.get_text() for text in above.legends[0].get_texts()][:2] == ["l2 1", "l2 0.1"]
    (axes,) = below.axes
    assert axes.get_xlabel() == "l2"
    assert figures.bands(found[:2], None, "title", "note").get_suptitle() == "title"


def test_a_row_of_a_single_configuration_is_called_by_its_flags():
    row, runs = configuration(
        [[record(0, 1.0)]], optimizer="adam", learning_rate=0.001, batch_size=32
    )
    data = {"name": "digits", "description": "note"}
    figure = figures.results([(row, runs)], None, "mlp", data)
    title = "mlp on digits: adam, learning rate 0.001, batch size 32"
    assert figure.get_suptitle() == title
    pair = [configuration([[record(0, 1.0)]], l2=l2) for l2 in (0.1, 0.2)]
    assert figures.results(pair, None, "mlp", data).get_suptitle() == "mlp on digits"


def test_accuracy_against_a_flag_has_a_line_for_each_value_of_another(saved):
    rows = [
        configuration([[record(9, 1.0, 0.5 + n / 10)]], batch_size=2**n, norm=norm)[0]
        for norm in ("none", "batch") for n in (3, 1, 2)
    ]  # fmt: skip
    rows[0]["test_accuracy"]["final"]["mean"] = None  # It diverged.
    figures.against(rows, "batch_size", "norm", "a.png", "title", "note")
    (figure,) = saved
    (axes,) = figure.axes
    none, batch = axes.containers
    assert none.lines[0].get_xydata().tolist() == [[2, 0.6], [4, 0.7]]
    assert batch.lines[0].get_xydata().tolist() == [[2, 0.6], [4, 0.7], [8, 0.8]]
    assert [none.get_label(), batch.get_label()] == ["norm none", "norm batch"]
    assert axes.get_xlabel() == "batch size"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "4", "8"]
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [((8, 8, 1), True), ((8, 8, 3), True), ((8, 8, 2), False), ((8, 8), False), ((3,), False),
     ((8, 8, 0), False), ((8, 8, 4), False), ((1, 2, 8, 3), False)],
)  # fmt: skip
def test_a_picture_is_grey_or_coloured(shape, drawn):
    assert figures.is_picture(shape) == drawn


@pytest.mark.parametrize(
    ("count", "grid", "lines"), [(1, (1, 1), 2), (4, (1, 4), 1), (5, (1, 5), 1), (6, (2, 5), 1)]
)
def test_mistakes_stand_row_by_row(saved, count, grid, lines):
    found = [figures.Mistake(np.full((2, 2, 1), 8, np.uint8), f"is {n}") for n in range(count)]
    figures.mistakes(found, 16, "a.png", "word " * 12)
    (figure,) = saved
    assert len(figure.axes) == grid[0] * grid[1]
    assert figure.axes[0].get_gridspec().get_geometry() == grid
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == [f"is {n}" for n in range(count)]
    (image,) = shown[-1].images
    assert image.get_array().tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert image.get_clim() == (0, 1)
    assert not any(axes.axison for axes in figure.axes)
    assert figure.get_suptitle().count("\n") + 1 == lines


def test_a_coloured_mistake_keeps_its_colours(saved):
    colour = np.zeros((2, 2, 3), np.uint8)
    colour[..., 1] = 255
    figures.mistakes([figures.Mistake(colour, "a")], 255, "a.png", "title")
    (image,) = saved[0].axes[0].images
    assert image.get_array()[0, 0].tolist() == [0, 1, 0]


# --- panels --------------------------------------------------------------------------------------


def rows_of(*configs, accuracies=None):
    accuracies = accuracies or [0.9 - n / 20 for n in range(len(configs))]
    return [
        configuration([[record(9, 1.0, accuracy)]], **config)[0]
        for config, accuracy in zip(configs, accuracies, strict=True)
    ]


def drawn(rows):
    """The axes of the panels of some configurations."""
    figure = matplotlib.figure.Figure()
    found = []
    for panel in panels.panels(rows):
        axes = figure.add_subplot()
        panel(figure, axes)
        found.append(axes)
    return found


def test_a_grid_over_two_numbers_is_a_heat_map():
    grid = [{"l2": a, "hidden": b} for a in (0.1, 0.2, 0.3) for b in ("5", "10")]
    (axes,) = drawn(rows_of(*grid, accuracies=[0.9, 0.8, 0.7, 0.6, 0.5, 0.25]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("l2", "hidden")  # Across the longer one.
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "0.2", "0.3"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["5", "10"]
    (image,) = axes.images
    assert image.get_array().tolist() == [[0.9, 0.7, 0.5], [0.8, 0.6, 0.25]]
    assert image.get_clim() == (0.5, 0.9)  # Not from the one that is far from the best.
    words = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert words[0, 0] == ("0.900", "k")
    assert words[2, 0] == ("0.500", "w")
    assert len(words) == 6


def test_what_diverged_has_a_dash_in_a_heat_map():
    rows = rows_of(*[{"l2": a, "dropout": b} for a in (0.1, 0.2) for b in (0.0, 0.5)])
    rows[3]["test_accuracy"]["final"]["mean"] = None
    (axes,) = drawn(rows)
    words = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert words[1, 1] == ("-", "k")
    for row in rows:
        row["test_accuracy"]["final"]["mean"] = None
    (axes,) = drawn(rows)
    assert not axes.images


def test_three_values_of_a_number_are_a_scatter():
    assert not drawn(rows_of({"l2": 0.1}, {"l2": 0.2}))
    assert not drawn(rows_of({"norm": "none"}, {"norm": "batch"}, {"norm": "rms"}))
    assert not drawn(rows_of({"own": 1}, {"own": 2}, {"own": 4}))  # No flag of ours.
    assert not drawn(rows_of({"l2": 0.1}, {"l2": 0.2}, {"l2": 0.4}, {"l2": None}))
    (axes,) = drawn(rows_of({"l2": 0.2}, {"l2": 0.1}, {"l2": 0.4}))
    assert axes.get_xlabel() == "l2"
    best = next(line for line in axes.lines if line.get_marker() == "*")
    assert best.get_xydata().tolist() == [[0.2, 0.9]]
    assert axes.get_xscale() == "log"
    assert axes.get_legend() is not None
    several = [{n: 0.1 * i + j / 50 for j, n in enumerate(NUMBERS)} for i in range(1, 4)]
    found = drawn(rows_of(*several))
    assert len(found) == 4
    assert [axes.get_legend() is not None for axes in found] == [True, False, False, False]


NUMBERS = ("l2", "dropout", "learning_rate", "label_smoothing", "clip_norm")


@pytest.mark.parametrize(
    ("name", "values", "label", "scale"),
    [
        ("momentum", [0.5, 0.9, 0.99], "1 - momentum", "log"),
        ("decay", [0.5, 0.9, 1.0], "decay", "log"),
        ("dropout", [0.1, 0.2, 0.5], "dropout", "linear"),
        ("batch_size", [8, 16, 64], "batch size", "log"),
        ("batch_size", [8, 16, 63], "batch size", "linear"),
        ("l2", [0.0, 0.1, 0.2], "l2", "linear"),
    ],
)
def test_a_scatter_has_the_scale_that_its_number_is_drawn_by(name, values, label, scale):
    (axes,) = drawn(rows_of(*[{name: value} for value in values]))
    assert axes.get_xlabel() == label
    assert axes.get_xscale() == scale
    points = axes.containers[0].lines[0].get_xdata()
    assert points.tolist() == [1 - v if label.startswith("1 -") else v for v in values]


def test_a_single_point_has_a_linear_axis():
    rows = rows_of({"l2": 0.1}, {"l2": 0.2}, {"l2": 0.4})
    for row in rows[1:]:
        row["test_accuracy"]["final"]["mean"] = None
    (axes,) = drawn(rows)
    assert axes.get_xscale() == "linear"
    rows[0]["test_accuracy"]["final"]["mean"] = None
    (axes,) = drawn(rows)
    assert not axes.containers  # There is nothing to show.


def test_a_scatter_shows_the_deviations_too():
    rows = [
        configuration([[record(9, 1.0, mean - 0.05)], [record(9, 1.0, mean + 0.05)]], l2=l2)[0]
        for l2, mean in ((0.1, 0.6), (0.2, 0.5), (0.3, 0.45))
    ]
    (axes,) = drawn(rows)
    low, high = axes.get_ylim()
    deviation = 0.05 * 2**0.5
    assert low < 0.45 - deviation
    assert high > 0.6 + deviation
    (bars,) = axes.containers
    ends = bars.lines[2][0].get_segments()
    assert ends[0][:, 1].tolist() == pytest.approx([0.6 - deviation, 0.6 + deviation])


def test_widths_are_sorted_as_numbers(saved):
    rows = rows_of(*[{"hidden": h, "l2": a} for h in ("10", "5", "1x5") for a in (0.1, 0.2)])
    panels.heat_map(rows, "hidden", "l2", "a.png", "title", "note")
    axes = saved[0].axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1x5", "5", "10"]
    width, height = saved[0].get_size_inches()
    assert (width, height) == pytest.approx((2 + 1.1 * 3, 2 + 0.5 * 2))
    assert saved[0].get_supxlabel() == "note"
