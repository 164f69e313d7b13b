import io
import itertools
import time

import matplotlib.colors
import matplotlib.figure
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from train.report import figures, notes, panels, style, tables
from train.report import progress as progress_module
from train.report.progress import Progress
from train.run_directory import summary as summaries
from train.run_directory.summary import row_of

NOTE = "CIFAR-10, from a JPEG-compressed copy [same labels]: pixels differ by about 30 dB."


def record(step, loss, accuracy):
    return {
        "step": step,
        "train_loss": None if step == 0 else loss / 2,
        "train_accuracy": None if step == 0 else accuracy + 0.05,
        "test_loss": loss,
        "test_accuracy": accuracy,
        "seconds": step / 100,
    }


RECORDS = [record(0, 2.3, 0.1), record(100, 1.0, 0.7), record(200, 1.2, 0.65)]


def printed(thing, width=100):
    file = io.StringIO()
    Console(file=file, width=width).print(thing)
    return file.getvalue()


def summary(*rows):
    return {"dataset": {"name": "cifar10", "description": NOTE}, "rows": list(rows)}


def test_the_table_shows_final_and_best_of_both_sets():
    text = printed(tables.table(summary(row_of({}, [0], 17, [RECORDS]))))
    # Columns: loss, best loss, accuracy, best accuracy.
    cells = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["train", "0.6000", "0.5000", "0.7000", "0.7500"] in cells
    assert ["test", "1.2000", "1.0000", "0.6500", "0.7000"] in cells
    assert "nats" in text


def test_the_table_says_where_the_data_come_from():
    text = " ".join(printed(tables.table(summary(row_of({}, [0], 17, [RECORDS])))).split())
    assert f"cifar10: {NOTE}" in text  # Square brackets and all.


def test_the_table_shows_the_deviation_over_seeds():
    other = [record(0, 2.3, 0.1), record(200, 1.4, 0.75)]
    text = printed(tables.table(summary(row_of({}, [0, 1], 17, [RECORDS, other]))))
    assert "1.3000 ± 0.1414" in text
    assert "0.7000 ± 0.0707" in text
    assert "over 2 seeds" in text


def sweep(count, **extra):
    """Configurations of two seeds that differ in five flags, the best first."""
    rows = []
    for i in range(count):
        config = {
            "hidden": f"{100 + i}", "dropout": 0.1 * (i % 3), "learning_rate": 0.001 * (i + 1),
            "batch_size": 32 + i, "optimizer": "momentum" if i else "adam", "l2": 0.0,
        }  # fmt: skip
        records = [record(100, 0.2 + i / 100, 0.97 - i / 100)]
        for r in records:
            r |= {"validation_loss": 0.3 + i / 100, "validation_accuracy": 0.95 - i / 100}
        rows.append(row_of(config | extra, [0, 1], 17, [records, records]))
    return rows


@pytest.mark.parametrize("count", [2, 20, 23])
def test_five_flags_fit_into_80_columns(count):
    lines = printed(tables.table(summary(*sweep(count))), 80).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if "±0" in line]
    assert len(rows) == min(count, 20)
    assert rows[0][:6] == ["1", "100", "0", "0.001", "32", "adam"]
    assert rows[1][6:] == ["0.310±0.000", "0.940±0.000", "0.960±0.000"]
    assert ("3 more configurations: see summary.json." in lines) == (count == 23)
    assert any("more configuration" in line for line in lines) == (count == 23)
    assert not any("l2" in line for line in lines)
    assert "learning" in " ".join(lines)
    assert "Mean ± standard deviation over 2 seeds." in lines


def test_more_flags_than_five_share_a_column():
    rows = sweep(3)
    for i, row in enumerate(rows):
        row["config"] |= {"l2": i / 100, "momentum": None if i == 0 else 0.9}
    text = " ".join(printed(tables.table(summary(*rows)), 80).split())
    assert "configuration" in text
    assert "optimizer momentum, l2 0.01, momentum 0.9" in text


def test_a_note_says_what_diverged_and_what_stopped():
    rows = sweep(3)
    rows[1] |= {"diverged": [4, None], "stopped": [None, 30]}
    rows[2] |= {"stopped": [20, 30]}
    lines = printed(tables.table(summary(*rows)), 80).splitlines()
    assert [line.split()[0] for line in lines[-9:] if "±0" in line] == ["1", "2*", "3*"]
    text = " ".join(" ".join(lines).split())
    assert "* diverged, and not in the means: row 2, 1 of 2 runs at step 4." in text
    assert "row 2, 1 of 2 runs at step 30; row 3, 2 of 2 runs at step 20 to 30." in text


def test_a_note_says_from_which_step_to_which_and_of_how_many():
    assert notes._where([30, 10, 20], 4) == "3 of 4 runs at step 10 to 30"
    assert notes._where([10, 10], 2) == "2 of 2 runs at step 10"
    assert notes._where([7], 1) == "at step 7"
    row = {"seeds": [0, 1, 0, 1], "folds": [0, 0, 1, 1]}
    assert notes.deviation([row]) == ["Mean ± standard deviation over 2 seeds and 2 folds."]
    one = {"seeds": [0], "folds": None}
    assert notes.deviation([one]) == []
    assert notes.deviation([one, row]) == [
        "Mean ± standard deviation over 1 to 2 seeds and 1 to 2 folds."
    ]
    more = {"seeds": [0, 1, 2, 3], "folds": None}
    assert notes.deviation([more, one, row]) == [
        "Mean ± standard deviation over 1 to 4 seeds and 1 to 2 folds."
    ]
    assert notes.ranking([one], "no two are alike") == ["No two are alike."]
    several = {"seeds": [0, 0], "folds": [0, 1]}
    assert notes.deviation([several]) == ["Mean ± standard deviation over 1 seed and 2 folds."]


def test_unequal_numbers_of_seeds_are_counted():
    rows = sweep(2)
    rows[1] = row_of(rows[1]["config"], [0, 1, 2], 17, 3 * [[record(100, 0.3, 0.9)]])
    lines = printed(tables.table(summary(*rows)), 80).splitlines()
    assert "over 2 to 3 seeds" in lines[-1]
    assert [line.split()[6] for line in lines if line.split()[0] in "12"] == ["2", "3"]


def test_the_last_lines_repeat_the_best_and_name_what_comes_next():
    found = summary(*sweep(3))
    assert tables.closing(found, ["a", "b"]).splitlines() == [
        "best  hidden 100, dropout 0, learning-rate 0.001, batch-size 32, optimizer adam",
        "      validation accuracy 0.9500 ± 0.0000, test accuracy 0.9700 ± 0.0000",
        "next  a",
        "      b",
    ]
    assert tables.closing(found, ["a"], "the data differ") == "next  a"
    bad = [
        row_of(row["config"], [0, 1], 17, [[record(100, 1, 0)]] * 2, diverged=[1, 1])
        for row in found["rows"]
    ]
    assert tables.closing(summary(*bad), ["a"]) == ""


def test_the_same_words_for_any_place_that_shows_them():
    found = tables.cells(summary(*sweep(2)))
    assert all(len(row) == len(found.headings) for row in found.rows)
    assert found.rows[0][-1] == "0.9700 ± 0.0000"
    assert found.headings[found.numbers :] == [
        "validation\nloss", "validation\naccuracy", "test\naccuracy",
    ]  # fmt: skip
    assert found.best == 0
    assert tables.cells(summary(*sweep(2)), caution="the data differ").best is None


def test_where_all_runs_diverged_no_row_is_the_best():
    """One that did is never bold, whatever stands above it."""
    rows = sweep(3)
    bad = [
        row_of(row["config"], [0, 1], 17, [[record(100, 1, 0)]] * 2, diverged=[1, 1])
        for row in rows
    ]
    assert tables.cells(summary(*rows[:2], bad[2])).best == 0
    assert tables.cells(summary(*bad)).best is None
    (table,) = (part for part in tables.table(summary(*bad)).renderables if hasattr(part, "rows"))
    assert [row.style for row in table.rows] == [None] * 3
    (table,) = (part for part in tables.table(summary(*rows)).renderables if hasattr(part, "rows"))
    assert [row.style for row in table.rows] == ["bold", None, None]


def test_the_figure_shows_both_metrics_of_both_sets(tmp_path, monkeypatch):
    drawn = []
    save = matplotlib.figure.Figure.savefig

    def savefig(figure, *args, **kwargs):
        drawn.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    figures.curves([RECORDS], tmp_path / "curves.png", "mlp on cifar10", NOTE)
    (figure,) = drawn
    loss, accuracy = figure.axes
    assert figure.get_suptitle() == "mlp on cifar10"
    (legend,) = figure.subfigs[0].legends
    assert "JPEG-compressed copy" in legend.get_title().get_text()
    assert [text.get_text() for text in legend.get_texts()] == ["train batches", "test set"]
    assert "nats" in loss.get_ylabel()
    assert "accuracy" in accuracy.get_ylabel()
    for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
        assert axes.get_xlabel() == "step"
        train, test = axes.get_lines()
        np.testing.assert_array_equal(test.get_xdata(), [0, 100, 200])
        np.testing.assert_array_equal(train.get_xdata(), [100, 200])
        np.testing.assert_array_equal(test.get_ydata(), [r[f"test_{metric}"] for r in RECORDS])
        np.testing.assert_array_equal(
            train.get_ydata(), [r[f"train_{metric}"] for r in RECORDS[1:]]
        )
        assert train.get_linestyle() != test.get_linestyle()  # Told apart without colour.
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 1000
        assert (np.asarray(image.convert("L"), int) < 100).any()


def test_elsewhere_than_on_a_terminal_each_evaluation_is_a_line():
    file = io.StringIO()
    with Progress(200, Console(file=file, width=40)) as progress:
        for r in RECORDS:
            progress.advance(r["step"], 123.4)
            progress.evaluated([r])
    assert file.getvalue().splitlines() == [
        "step   0/200  test loss 2.3000 accuracy 0.1000  0.0 s",
        "step 100/200  train loss 0.5000 accuracy 0.7500  test loss 1.0000 accuracy 0.7000  1.0 s",
        "step 200/200  train loss 0.6000 accuracy 0.7000  test loss 1.2000 accuracy 0.6500  2.0 s",
    ]


def test_on_a_terminal_a_bar_moves():
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    with Progress(200, console) as progress:
        for r in RECORDS:
            progress.advance(r["step"], 1234.5)
            progress.evaluated([r])
    shown = [line for line in file.getvalue().replace("\x1b", "\n").splitlines() if line[2:]]
    last = [line for line in shown if "200/200" in line][-1]
    assert "1,234 steps/s" in last
    assert [line for line in shown if "loss" in line][-2:] == [
        "train loss 0.6000 accuracy 0.7000",
        "test loss 1.2000 accuracy 0.6500",
    ]


def test_elsewhere_a_long_compilation_is_a_line_at_its_beginning(monkeypatch):
    monkeypatch.setattr(progress_module, "_LONG", 0.01)
    file = io.StringIO()
    with Progress(200, Console(file=file, width=40), 2) as progress:
        progress.begin("group 1/1", 2, 100)
        for _ in range(2):  # Of programs in a row there is one line.
            with progress.compiling():
                time.sleep(0.1)
                assert file.getvalue() == "group 1/1  compiling…\n"
    monkeypatch.setattr(progress_module, "_LONG", 60)
    with progress.compiling():
        pass
    assert file.getvalue() == "group 1/1  compiling…\n"


def test_on_a_terminal_a_clock_shows_that_something_is_compiled(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    with Progress(200, console) as progress:
        with progress.compiling():
            later = time.monotonic() + 12
            monkeypatch.setattr(progress_module.time, "monotonic", lambda: later)
            shown = [str(part) for part in progress._bar.get_renderables()]
        after = [str(part) for part in progress._bar.get_renderables()]
    assert "compiling… 12 s" in shown
    assert not any("compiling" in part for part in after)


def test_what_a_figure_says_fits_into_it(tmp_path, monkeypatch):
    """However long the labels: nothing reaches over the edge, and the panels keep their size."""
    drawn = []
    save = matplotlib.figure.Figure.savefig

    def savefig(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        drawn.append(figure)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    results = []
    for i in range(8):
        row = row_of({"hidden": f"{i}-" + "-".join(["500"] * 50)}, [0], 17, [RECORDS])
        results.append((row | {"run_directory": "runs/" + "long" * 12}, [RECORDS]))
    figures.bands(results, tmp_path / "bands.png", "a title of many words " * 9, NOTE * 5)
    (figure,) = drawn
    (legend,) = figure.subfigs[0].legends
    for thing in (legend, figure._suptitle):
        box = thing.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    for text in legend.get_texts():
        assert text.get_text().replace("\n", "").count("500") == 50
    assert all(axes.get_window_extent().height > 300 for axes in figure.axes)


def test_one_that_diverges_does_not_flatten_the_others(tmp_path, drawn):
    good = [record(0, 2.3, 0.1), record(100, 0.3, 0.94), record(200, 0.2, 0.96)]
    other = [record(0, 2.3, 0.1), record(100, 0.3, 0.95), record(200, 0.1, 0.98)]
    bad = [record(0, 2.3, 0.1), record(100, 3e5, 0.1), record(200, 3e7, 0.1)]
    rows = [
        row_of({"hidden": name}, [0], 17, [runs])
        for name, runs in (("a", good), ("b", other), ("c", bad))
    ]
    figures.bands(
        list(zip(rows, ([good], [other], [bad]), strict=True)), tmp_path / "f.png", "mlp", NOTE
    )
    loss, accuracy = drawn[0].axes
    assert loss.get_yscale() == "log"
    assert 0.05 < loss.get_ylim()[0] < 0.1 < 0.3 < loss.get_ylim()[1] < 1
    low, high = accuracy.get_ylim()
    assert 0.9 < low < 0.94  # Neither the first evaluation, nor the one that diverged.
    assert 0.98 < high < 1


def test_accuracies_of_96_and_98_percent_lie_apart(tmp_path, drawn):
    """Even where the second evaluation was at half of that."""
    values = [(0, 0.1), (100, 0.5), (200, 0.9), (300, 0.96), (400, 0.98)]
    records = [record(step, 1 - accuracy, accuracy - 0.05) for step, accuracy in values]
    figures.curves([records], tmp_path / "f.png", "mlp", NOTE)
    accuracy = drawn[0].axes[1]
    box = accuracy.get_window_extent()
    low, high = (accuracy.transData.transform((0, value))[1] for value in (0.96, 0.98))
    assert high - low > 0.15 * box.height
    assert {"0.95", "0.98"} <= {label.get_text() for label in accuracy.get_yticklabels()}


def luminance(colour):
    """How light a printer without colours makes a colour: relative luminance of sRGB."""
    red, green, blue = matplotlib.colors.to_rgb(colour)
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


def test_lines_are_told_apart_without_colour():
    styles = [(look["linestyle"], look["marker"]) for look in style.STYLES]
    assert len(set(styles)) == len(style.STYLES) == 8
    assert len({look["color"] for look in style.STYLES}) == 8
    shades = [luminance(look["color"]) for look in style.STYLES[:6]]
    assert shades == sorted(shades)
    three = [luminance(look["color"]) for _, look in figures._SPLITS.values()]
    assert min(a - b for a, b in itertools.pairwise(three)) > 0.1


def configurations(**values):
    """A row for each combination of values, of which the last are the best."""
    found = []
    for number, chosen in enumerate(itertools.product(*values.values())):
        records = [record(0, 2.3, 0.1), record(100, 1.0, 0.6 + number / 100)]
        found.append(
            (row_of(dict(zip(values, chosen, strict=True)), [0], 17, [records]), [records])
        )
    return summaries.ranked(found)


def test_a_grid_over_two_numbers_has_a_heat_map(tmp_path, drawn):
    found = configurations(hidden=["20", "100"], learning_rate=[0.001, 0.01, 0.1])
    figures.bands(found, tmp_path / "f.png", "mlp", NOTE)
    axes = drawn[0].axes[2]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["20", "100"]
    assert [text.get_text() for text in axes.texts] == [
        "0.600", "0.610", "0.620", "0.630", "0.640", "0.650",
    ]  # fmt: skip


def test_a_random_search_has_a_scatter_over_each_number(tmp_path, drawn):
    numbers = [(0.001, 0.3, 0.9), (0.01, 0.1, 0.99), (0.1, 0.2, 0.95), (0.03, 0.5, 0.8)]
    found = []
    for number, (rate, dropout, momentum) in enumerate(numbers):
        records = [record(0, 2.3, 0.1), record(100, 1.0, 0.6 + number / 100)]
        config = {"learning_rate": rate, "dropout": dropout, "momentum": momentum}
        config["norm"] = "batch" if number % 2 else "layer"
        found.append((row_of(config, [0], 17, [records]), [records]))
    figures.bands(summaries.ranked(found), tmp_path / "f.png", "mlp", NOTE)
    rate, dropout, momentum = drawn[0].axes[2:]
    labels = [axes.get_xlabel() for axes in (rate, dropout, momentum)]
    assert labels == ["learning rate", "dropout", "1 - momentum"]
    scales = [axes.get_xscale() for axes in (rate, dropout, momentum)]
    assert scales == ["log", "linear", "log"]
    points, star = dropout.get_lines()
    assert set(zip(points.get_xdata(), points.get_ydata(), strict=True)) == {
        (0.3, 0.6), (0.1, 0.61), (0.2, 0.62), (0.5, 0.63),
    }  # fmt: skip
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0.5, 0.63)


def test_a_huge_loss_leaves_the_table_readable():
    assert tables._number({"mean": 1.25, "std": 0.5, "values": [0.9, 1.6]}) == "1.2500 ± 0.5000"
    assert tables._number({"mean": 3.21e19, "std": 4e18, "values": [3e19, 4e19]}) == (
        "3.21e+19 ± 4e+18"
    )


def test_a_scatter_shows_all_points():
    """A search whose worst runs are far below half of the best."""
    found = [0.95, 0.9, 0.4, 0.1]
    rows = [
        {
            "config": {"learning_rate": 10.0**-place, "dropout": place / 10},
            **{
                f"{of}_accuracy": {"final": {"mean": mean, "std": 0.0, "values": [mean]}}
                for of in ("validation", "test")
            },
        }
        for place, mean in enumerate(found, 1)
    ]
    figure = matplotlib.figure.Figure()
    for panel in panels.panels(rows):
        axes = figure.subplots()
        panel(figure, axes)
        low, high = axes.get_ylim()
        assert low < 0.1
        assert high > 0.95
