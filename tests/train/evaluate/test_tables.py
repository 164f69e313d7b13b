"""What is printed and written of predictions, and of right and wrong by class."""

import csv
import json

import numpy as np
import pytest

from train.data import Dataset
from train.data.schema import Schema
from train.evaluate import __main__ as evaluation
from train.evaluate import confusion_matrix, predictions

CLASSES = ("cat", "dog", "fox")


def dataset(shape):
    x, y = np.zeros((0, *shape), np.float32), np.zeros(0, np.int32)
    schema = Schema(shape, "float32")
    return Dataset("data", "Data.", x, y, x, y, CLASSES, "fingerprint", schema=schema)


def shares(count):
    return np.tile(np.float32([[0.25, 0.625, 0.125], [0.125, 0.375, 0.5]]), (count, 1))[:count]


@pytest.mark.parametrize(("shape", "kind", "first"), [((3,), "row", 1), ((2, 2, 1), "image", 0)])
def test_the_most_probable_class_stands_first(tmp_path, capsys, shape, kind, first):
    predictions.write(shares(2), dataset(shape), None, tmp_path, {"run": 7})
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert [str(first), "dog", "0.6250", "cat", "0.2500,", "fox", "0.1250"] in lines
    assert [str(first + 1), "fox", "0.5000", "dog", "0.3750,", "cat", "0.1250"] in lines
    assert any(kind in line for line in lines)
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert found["run"] == 7
    assert [row["class"] for row in found["predictions"]] == ["dog", "fox"]
    assert found["predictions"][0]["probabilities"] == {"cat": 0.25, "dog": 0.625, "fox": 0.125}
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(first), str(first + 1)]
    assert rows[1]["p(fox)"] == "0.5"


@pytest.mark.parametrize(("count", "more"), [(20, None), (21, "and 1 more"), (23, "and 3 more")])
def test_so_many_are_printed_and_all_are_written(tmp_path, capsys, count, more):
    names = [f"image {number}.png" for number in range(count)]
    predictions.write(shares(count), dataset((2, 2, 1)), names, tmp_path, {})
    said = capsys.readouterr().out
    assert said.count(".png") == min(count, 20)
    assert ("more" in said) == (more is not None)
    assert more is None or more in said
    found = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert [row["file"] for row in found] == names


def test_of_a_single_image_there_is_no_table_of_rows(tmp_path, capsys):
    (tmp_path / "predictions.csv").write_text("of others")
    predictions.write(shares(1), dataset((2, 2, 1)), None, tmp_path, {})
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line[:1] and line[0] in CLASSES]
    assert rows == [["dog", "0.6250"], ["cat", "0.2500"], ["fox", "0.1250"]]
    assert not (tmp_path / "predictions.csv").exists()
    predictions.write(shares(1), dataset((3,)), None, tmp_path, {})
    assert (tmp_path / "predictions.csv").exists()


def test_rows_of_the_matrix_are_true_classes():
    """Two cats taken for dogs, and one dog for a fox; no fox is there."""
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 2])
    matrix = confusion_matrix.counted(labels, predicted, 3)
    assert matrix.tolist() == [[1, 2, 0], [0, 1, 1], [0, 0, 0]]
    cat, dog, fox = confusion_matrix.per_class(labels, predicted, CLASSES)
    assert (cat["precision"], cat["recall"], cat["f1"]) == (1.0, pytest.approx(1 / 3), 0.5)
    assert (dog["precision"], dog["recall"]) == (pytest.approx(1 / 3), 0.5)
    assert (fox["precision"], fox["recall"], fox["examples"]) == (0.0, None, 0)
    assert cat["accuracy"] == cat["recall"]
    average = confusion_matrix.macro(labels, predicted, 3)
    assert average["precision"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert average["recall"] == pytest.approx((1 / 3 + 1 / 2) / 2)  # Of those that have one.


def test_the_scores_and_the_matrix_are_printed(capsys):
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 2])
    names = ("cat", "dog", "2")
    matrix = confusion_matrix.counted(labels, predicted, 3)
    rows = confusion_matrix.per_class(labels, predicted, names)
    confusion_matrix.show(matrix, rows, confusion_matrix.macro(labels, predicted, 3))
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["cat", "3", "1.0000", "0.3333", "0.5000"] in lines
    assert ["2", "0", "0.0000", "-", "0.0000"] in lines
    assert ["macro", "average", "5", "0.4444", "0.4167", "0.3000"] in lines
    assert ["0", "cat", "1", "2", "·"] in lines
    assert ["2", "·", "·", "·"] in lines  # A class that is called by its number.


def test_scores_are_aligned_to_the_right():
    table = confusion_matrix._class_table([], dict.fromkeys(confusion_matrix.SCORES))
    assert [column.justify for column in table.columns] == ["left"] + ["right"] * 4
    assert [list(column.cells) for column in table.columns] == [
        ["macro average"], ["0"], ["-"], ["-"], ["-"],
    ]  # fmt: skip


def test_of_the_matrix_the_diagonal_is_bold():
    table = confusion_matrix._confusion_table(np.array([[5, 1], [0, 7]]), ["a", "b"])
    cells = [[(cell.plain, cell.style) for cell in column.cells] for column in table.columns[1:]]
    assert cells == [[("5", "bold"), ("·", "")], [("1", ""), ("7", "bold")]]
    assert [column.justify for column in table.columns] == ["left", "right", "right"]


def test_mistakes_are_drawn_and_those_of_another_evaluation_removed(tmp_path, capsys, monkeypatch):
    drawn, path = [], tmp_path / "mistakes.png"
    monkeypatch.setattr(evaluation.figures, "mistakes", lambda *given: drawn.append(given))
    for _ in range(2):
        evaluation._draw([], np.zeros((0, 2, 2, 1)), 16, path, "title")
        assert capsys.readouterr().out == "\nmistakes none\n"
        assert not path.exists()
        path.write_bytes(b"of another")
    found = evaluation._mistake(3, np.array([0.25, 0.75]), 0, 1, 1.5, ("cat", "dog"))
    assert found == {
        "index": 3, "true": "cat", "true_probability": 0.25, "predicted": "dog",
        "probability": 0.75, "loss": 1.5,
    }  # fmt: skip
    evaluation._draw([found], np.ones((1, 2, 2, 1)), 16, path, "title")
    ((mistake,), white, where, title) = drawn[0]
    assert mistake.caption == "true cat, 25.0%\npredicted dog, 75.0%"
    assert (white, where, title) == (16, path, "title")
    assert capsys.readouterr().out == f"\nmistakes {path}\n"
