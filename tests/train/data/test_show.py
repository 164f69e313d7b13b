"""What `python -m train.data show` prints."""

import dataclasses
import io
import sys

import numpy as np
import pytest

from train.data import Dataset
from train.data.__main__ import _show, main
from train.data.schema import Column, Schema

Y = np.array([0, 1, 1], np.int32)
TABLE = Dataset(
    "table", "Rows.", np.zeros((3, 3), np.float32), Y, np.zeros((2, 3), np.float32), Y[:2],
    ("no", "yes"), "a fingerprint",
    schema=Schema((3,), "float32", columns=(Column("age"), Column("sex", words=("f", "m")))),
)  # fmt: skip


def test_columns_and_classes_are_listed(capsys):
    _show(TABLE)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "table"],
        ["description", "Rows."],
        ["train", "float32", "[3,", "3]"],
        ["test", "float32", "[2,", "3]"],
        ["fingerprint", "a", "fingerprint"],
        ["columns", "age"],
        ["sex", "(one", "of", "f,", "m)"],
        [],
        ["class", "train", "test"],
        ["no", "1", "1"],
        ["yes", "2", "1"],
    ]


def test_a_long_description_stands_in_a_column_of_its_own(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "21")
    _show(dataclasses.replace(TABLE, description="of ones-own rows"))
    assert stream.getvalue().splitlines()[1:4] == [
        "description  of",
        " " * 13 + "ones-own",
        " " * 13 + "rows",
    ]


@pytest.mark.parametrize("words", ["--test 0", "--image-size 0"])
def test_flags_are_checked_before_anything_is_read(words, capsys):
    assert main(["show", "absent.csv", *words.split()]) == 2
    flag, value = words.split()
    assert capsys.readouterr().err.startswith(f"error: {flag} {value}")
