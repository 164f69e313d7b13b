import io

import matplotlib.figure
import numpy as np
from PIL import Image
from rich.console import Console

from train.report import figures, tables
from train.report.progress import Progress
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
    (legend,) = figure.legends
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
        pixels = np.asarray(image.convert("RGB"), int)
    assert np.ptp(pixels, axis=-1).max() == 0  # Nothing is lost in greyscale.
    assert (pixels < 100).any()


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
    (legend,) = figure.legends
    for thing in (legend, figure._suptitle):
        box = thing.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    for text in legend.get_texts():
        assert text.get_text().replace("\n", "").count("500") == 50
    assert all(axes.get_window_extent().height > 300 for axes in figure.axes)


def test_one_that_diverges_does_not_flatten_the_others(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda figure, *a, **k: drawn.append(figure)
    )
    for loss in (3.0, 3e5):
        records = [*RECORDS, record(300, loss, 0.1)]
        figures.curves([records], tmp_path / "curves.png", "mlp", NOTE)
    assert [figure.axes[0].get_yscale() for figure in drawn] == ["linear", "log"]
    assert [figure.axes[1].get_yscale() for figure in drawn] == ["linear", "linear"]


def test_a_huge_loss_leaves_the_table_readable():
    assert tables._number({"mean": 1.25, "std": 0.5, "values": [0.9, 1.6]}) == "1.2500 ± 0.5000"
    assert tables._number({"mean": 3.21e19, "std": 4e18, "values": [3e19, 4e19]}) == (
        "3.21e+19 ± 4e+18"
    )
