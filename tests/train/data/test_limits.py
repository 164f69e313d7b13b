"""Where a label ends to be one, a column to be one of numbers, and a pixel to be white."""

import dataclasses
import io
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from train.data import arrays, load, table, table_file
from train.data.arrays import examples, finite, read_npy, read_npz, white_of
from train.data.dataset import Dataset, draw_synth, load_digits, sealed
from train.data.image_file import size_of
from train.data.image_folder import parsed_size
from train.data.labels import read_labels
from train.data.limits import MOST_CLASSES
from train.data.schema import Schema
from train.data.sources import PREPARED, SOURCES, archives
from train.data.table import MOST_WORDS, encoded, learned_columns
from train.errors import DataError


def test_there_are_from_two_to_a_thousand_classes():
    assert MOST_CLASSES == 1000
    found = read_labels(np.arange(1000)[::-1], "y")
    assert (found.classes[0], found.classes[-1]) == ("0", "999")
    assert found.y.tolist() == list(range(1000))[::-1]
    with pytest.raises(DataError, match="holds 1001 different labels; must be at most 1000"):
        read_labels(np.arange(1001), "y")
    assert read_labels([3, 3, 4], "y").classes == ("3", "4")
    with pytest.raises(DataError, match="holds one class only, 3"):
        read_labels([3, 3], "y")


def test_a_real_number_is_a_label_where_it_is_whole_and_exact():
    most = 2.0**53 - 1
    assert read_labels([most, -1.0], "y").classes == ("-1", "9007199254740991")
    for bad, row in (([1.0, 2.0, 2.0**53], 1), ([1.0, 0.5], 2)):
        with pytest.raises(DataError, match=f"row {row} has "):
            read_labels(bad, "y")
    with pytest.raises(DataError, match="2 labels are missing, the first in row 2"):
        read_labels([1.0, np.nan, np.nan], "y")


def test_a_class_has_a_name_of_up_to_a_hundred_letters():
    assert read_labels(["a" * 100, "b"], "y").classes == ("a" * 100, "b")
    for bad in ("a" * 101, "a\x1b"):
        with pytest.raises(DataError, match="y: holds a label that cannot be printed: "):
            read_labels([bad, "b"], "y")


@pytest.mark.parametrize("bad", [["a", 1], [1, 1.5], [True, 1], [{}, {}]])
def test_labels_of_several_kinds_are_none(bad):
    with pytest.raises(DataError, match=r"y: .*must be "):
        read_labels(np.array(bad, object), "y")


def test_labels_to_test_on_are_those_to_train_on():
    known = read_labels(["b", "a", " b "], "y")
    assert known.classes == ("a", "b")
    assert read_labels(["b", "b"], "y_test", known).y.tolist() == [1, 1]
    with pytest.raises(DataError, match="holds the class c, which is not among"):
        read_labels(["c"], "y_test", known)


def test_eight_classes_or_columns_are_listed(tmp_path):
    listed = ", ".join(f"c{number}" for number in range(8))
    for count, more in ((8, ""), (9, ", ...")):
        with pytest.raises(DataError) as error:
            read_labels(["x"], "y", read_labels([f"c{number}" for number in range(count)], "y"))
        assert str(error.value).endswith(f"to train on: {listed}{more}")
        path = tmp_path / "a.csv"
        path.write_text(
            ",".join(f"c{number}" for number in range(count)) + "\n" + ",".join("1" * count) + "\n"
        )
        with pytest.raises(DataError) as error:
            load(str(path), label="none")
        assert str(error.value).endswith(f"which has {listed}{more}")


@pytest.mark.parametrize(
    ("largest", "white"),
    [(0.5, 1), (1.0, 1), (1.5, 255), (254.0, 255), (255.0, 255), (255.5, 256), (3e9, 2**31)],
)
def test_white_is_what_the_pixels_tell(largest, white):
    assert white_of(np.float32([0.0, largest])) == white
    assert white_of(np.uint8([0, 1])) == 255


def test_inputs_are_finite_in_float32():
    assert finite(np.float64([[3.4e38]]), "x").dtype == np.float32
    for bad in (np.inf, np.nan, 3.5e38):
        with pytest.raises(DataError, match="x: row 2 holds "):
            finite(np.array([[1.0], [bad]]), "x")
    assert examples(np.zeros((2, 3, 4), np.uint8), "x").shape == (2, 3, 4, 1)
    assert examples(np.zeros((2, 3), int), "x").dtype == np.float32
    with pytest.raises(DataError, match=r"of integers from 0 to 255 take x.astype"):
        examples(np.zeros((2, 3, 4), int), "x")


def test_an_array_has_so_many_values(tmp_path, monkeypatch):
    assert np.float32().nbytes * arrays.MOST_VALUES == 4 * 1024**3  # 4 GB as float32.
    monkeypatch.setattr(arrays, "MOST_VALUES", 6)
    given = {"x": np.ones((2, 3), np.uint8), "y": np.arange(2)}
    np.save(tmp_path / "a.npy", given["x"])
    np.savez(tmp_path / "a.npz", **given)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), given["x"])
    np.testing.assert_equal(read_npz(tmp_path / "a.npz"), given)
    assert examples(given["x"], "x").shape == (2, 3)
    monkeypatch.setattr(arrays, "MOST_VALUES", 5)
    with pytest.raises(DataError, match="has 6 values; must have at most 5"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"x claims shape \[2, 3\]; must have at most 5 values"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match="has 6 values; must have at most 5"):
        examples(given["x"], "x")


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_array_of_either_version_is_read_and_a_damaged_one_refused(tmp_path, version):
    written = io.BytesIO()
    np.lib.format.write_array(written, np.arange(3), version)
    for name, content in (("a", written.getvalue()), ("b", written.getvalue()[:-1])):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as file:
            file.writestr("x.npy", content)
            file.writestr("y.npy", written.getvalue())
        (tmp_path / f"{name}.npy").write_bytes(content)
    assert read_npz(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2]
    assert read_npy(tmp_path / "a.npy").tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="x is cut short"):
        read_npz(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"is not a \.npy file of numbers"):
        read_npy(tmp_path / "b.npy")


@pytest.mark.parametrize(("text", "size"), [("32", (32, 32)), ("32x48", (32, 48))])
def test_a_size_is_height_and_width(text, size):
    assert parsed_size(text) == size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_photo_is_that_after_it_is_turned(tmp_path, orientation):
    """As Pillow turns it, which is asked for every image of a folder before one is decoded."""
    image = Image.fromarray(np.zeros((4, 6), np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    with (tmp_path / "a.png").open("rb") as file:
        found = size_of(tmp_path / "a.png", file)
    with Image.open(tmp_path / "a.png") as opened:
        turned = ImageOps.exif_transpose(opened)
    assert found == (turned.height, turned.width, True)


def test_sources_are_declared_as_they_are():
    for name, shape in (("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))):
        assert SOURCES[name].shape == shape
        assert SOURCES[name].white == np.iinfo(np.uint8).max
    for found in (load_digits(), draw_synth()):
        assert SOURCES[found.name].shape == found.x_train.shape[1:]
        assert SOURCES[found.name].white == found.schema.white


def test_data_without_a_schema_have_that_of_their_arrays():
    x, y = np.zeros((5, 2, 3, 1), np.uint8), np.zeros(5, np.int32)
    found = Dataset("noise", "Noise.", x, y, x, y, ("a",), "fingerprint", white=16)
    assert found.schema == Schema((2, 3, 1), "uint8", 16)
    found = sealed("noise", "Noise.", (x, y), (x, y), ("a",))
    assert found.schema == Schema((2, 3, 1), "uint8", 255)
    assert found.white == 255


def test_a_white_pixel_of_the_digits_is_16():
    digits = load_digits()
    assert digits.white == digits.schema.white == digits.x_train.max() == 16
    assert digits.schema.shape == digits.x_train.shape[1:] == (8, 8, 1)
    assert (len(digits.x_train), len(digits.x_test)) == (1797 - 360, 360)


# --- tables --------------------------------------------------------------------------------------


def learned(values, training=None, fill=True):
    frame = pd.DataFrame({"a": values})
    rows = np.arange(len(values)) if training is None else np.asarray(training)
    (column,) = learned_columns(frame, rows, fill, "table")
    return column


def test_a_column_of_which_half_are_numbers_is_one_of_numbers():
    """Then a text among them is a mistake."""
    with pytest.raises(DataError, match="row 3 has 'x' in column 'a', which holds numbers"):
        learned(["1", "2", "x", "y"])
    assert learned(["1", "x", "y"]).words == ("1", "x", "y")
    assert learned(["1", "2", None]).words == ()


def test_what_is_missing_is_filled_from_the_rows_to_train_on():
    assert learned([1.0, 3.0, None, 50.0], [0, 1, 2]).fill == 2.0
    assert learned(["u", "v", "v", "u", "u"], [0, 1, 2]).fill == "v"
    assert learned(["u", "v", None, "u"], [1, 2]).fill == "v"
    assert learned([None, 1.0], [0]).fill == 0.0
    assert learned([None, "v", "u"], [0]).fill == "u"  # The first, where none is known.
    assert learned([1.0, 2.0], fill=False).fill is None


def test_so_many_words_become_inputs():
    words = [f"w{number:03}" for number in range(MOST_WORDS)]
    column = learned(words)
    assert (column.words, column.width) == (tuple(words), MOST_WORDS)
    with pytest.raises(DataError, match=f"has {MOST_WORDS + 1} different words"):
        learned([*words, "more"])
    found = encoded(pd.DataFrame({"a": ["w001", "w000"]}), [column], "table")
    assert found[:, :2].tolist() == [[0, 1], [1, 0]]
    assert found.sum() == 2


def test_so_many_inputs_fit(monkeypatch):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]})
    columns = learned_columns(frame, np.arange(2), False, "table")
    monkeypatch.setattr(table, "MOST_VALUES", 6)
    assert encoded(frame, columns, "table").tolist() == [[1, 1, 0], [2, 0, 1]]
    monkeypatch.setattr(table, "MOST_VALUES", 5)
    with pytest.raises(DataError, match="table: 2 rows become 3 inputs each; must be at most 5"):
        encoded(frame, columns, "table")


@pytest.mark.parametrize(
    ("text", "shown"), [("x" * 38, f"'{'x' * 38}'"), ("x" * 39, f"'{'x' * 36}...")]
)
def test_a_long_text_is_cut_in_a_message(text, shown):
    with pytest.raises(DataError, match=f"row 3 has {re.escape(shown)} in column 'a'"):
        learned(["1", "2", text])


def test_a_table_has_so_many_values(tmp_path, monkeypatch):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [1, 2, 3]})
    monkeypatch.setattr(table_file, "MOST_VALUES", 6)
    assert table_file.checked_frame(frame, "x").shape == (3, 2)
    monkeypatch.setattr(table_file, "MOST_VALUES", 5)
    with pytest.raises(DataError, match="x: has 3 rows of 2 columns; must have at most 5"):
        table_file.checked_frame(frame, "x")
    values = np.random.default_rng(0).random((2000, 2), np.float32)  # 16 kB.
    pd.DataFrame(values, columns=["a", "b"]).to_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr(table_file, "MOST_VALUES", 4000)
    assert table_file.read_table(tmp_path / "a.parquet").shape == (2000, 2)
    monkeypatch.setattr(table_file, "MOST_VALUES", 3999)
    with pytest.raises(DataError, match="claims 2000 rows of 2 columns"):
        table_file.read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("header", ["a,a,b", "a,b,b", "a,b,a"])
def test_columns_have_names_of_their_own(tmp_path, header):
    (tmp_path / "a.csv").write_text(f"{header}\n1,2,3\n")
    name = "b" if header.count("b") > 1 else "a"
    one, other = (n for n, part in enumerate(header.split(","), 1) if part == name)
    with pytest.raises(DataError, match=f"columns {one} and {other} are both called '{name}'"):
        table_file.read_table(tmp_path / "a.csv")


# --- archives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PREPARED)
def test_the_archives_are_registered_with_their_digests(name):
    for archive in archives(name):
        with pytest.raises(dataclasses.FrozenInstanceError):
            archive.size = 0
        assert archive.url.endswith(f"/{archive.file_name}")
        assert archive.size > 1000
        assert re.fullmatch("[0-9a-f]{64}", archive.sha256)
