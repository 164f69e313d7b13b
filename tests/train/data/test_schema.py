"""What a schema in a file may say, and what is done with the columns of a table."""

import numpy as np
import pytest

from train.data.schema import Column, Schema
from train.errors import DataError

COLUMNS = (Column("age", fill=2.5), Column("sex", ("f", "m"), "f"), Column("fare"))
TABLE = Schema((4,), "float32", 1, COLUMNS, "survived", (True, False))
JSON = TABLE.to_json()


def test_it_comes_back():
    assert Schema.from_json(JSON) == TABLE
    assert Schema.from_json({"shape": [3], "dtype": "uint8", "white": 1}) == Schema(
        (3,), "uint8", 1
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"shape": None}, "no shape"),
        ({"shape": [2, 2]}, "no shape"),
        ({"shape": [0]}, "no shape"),
        ({"shape": [4.0]}, "no shape"),
        ({"shape": [True]}, "no shape"),
        ({"shape": [2**15, 2**15, 2]}, "no shape"),
        ({"dtype": "float64"}, "no dtype or no white"),
        ({"white": 0}, "no dtype or no white"),
        ({"white": 2**32}, "no dtype or no white"),
        ({"white": 1.0}, "no dtype or no white"),
        ({"columns": {}}, "are no list"),
        ({"columns": [5]}, "a column of the schema has no name"),
        ({"columns": [{"name": "a", "words": "b"}]}, "a column of the schema has no name"),
        ({"columns": [{"name": "a", "words": ["c", "b"]}]}, "the words of the column 'a' are not"),
        ({"columns": [{"name": "a", "words": ["b", "b"]}]}, "the words of the column 'a' are not"),
        ({"columns": [{"name": "a", "words": [5]}]}, "the words of the column 'a' are not"),
        ({"columns": [{"name": "a", "words": ["b"], "fill": "c"}]}, "'a' is filled with 'c'"),
        ({"columns": [{"name": "a", "fill": "c"}]}, "'a' is filled with 'c'"),
        ({"columns": [{"name": "a", "fill": True}]}, "'a' is filled with True"),
        ({"columns": [{"name": "a"}]}, "do not make its shape"),
        ({"columns": [{"name": "a"}] * 4}, "two columns of the schema have one name"),
        ({"label": 5}, "the labels of the schema are none"),
        ({"labels": "a"}, "the labels of the schema are none"),
        ({"labels": [1.5]}, "are neither integers, words nor bools"),
    ],
)
def test_what_a_file_must_not_say(change, line):
    with pytest.raises(ValueError, match=line):
        Schema.from_json(JSON | change)
    with pytest.raises(ValueError, match="the schema is no object"):
        Schema.from_json([])


def test_the_largest_that_it_may_say():
    for change in ({"white": 2**32 - 1}, {"white": 1}, {"labels": [1, "a", False]}):
        assert Schema.from_json(JSON | change).to_json() == JSON | change
    images = {"kind": "images", "shape": [2**15, 2**15, 1], "dtype": "uint8", "white": 255}
    assert Schema.from_json(images).to_json() == images


def test_which_inputs_are_numbers():
    assert TABLE.is_number.tolist() == [True, False, False, True]
    assert Schema((3,), "float32").is_number.tolist() == [True] * 3
    assert TABLE.is_table
    assert not Schema((2, 2, 1), "uint8").is_table


def test_five_columns_that_are_left_aside_are_listed(tmp_path):
    schema = Schema((1,), "float32", 1, (Column("a"),))
    for count, more in ((1, ""), (5, ""), (6, ", ...")):
        names = [f"b{number}" for number in range(count)]
        path = tmp_path / "a.csv"
        path.write_text(",".join(["a", *names]) + "\n" + ",".join("1" * (count + 1)) + "\n")
        inputs, done, _ = schema.read(path)
        assert inputs.tolist() == [[1]]
        listed = ", ".join(map(repr, names[:5]))
        assert done.endswith(f"{listed}{more}")
        assert ("columns" in done) == (count > 1)


def test_rows_have_a_value_for_each_column():
    rows = [[30, "m", 7], [31, "f", 8]]
    expected = [[30, 0, 1, 7], [31, 1, 0, 8]]
    dictionaries = [dict(zip(("age", "sex", "fare"), row, strict=True)) for row in rows]
    for given in (rows, np.array(rows, object), tuple(map(tuple, rows)), dictionaries):
        assert TABLE.inputs(given).tolist() == expected
    for given in (rows[0], dictionaries[0]):
        assert TABLE.inputs(given).tolist() == expected[:1]
    for bad in ([[30, "m"]], [30, "m"], [[[30, "m", 7]]]):
        with pytest.raises(
            ValueError, match=r"x: has shape .* must be rows of 3 values, one for ea"
        ):
            TABLE.inputs(bad, "x")


def test_each_kind_of_file_is_read_as_the_data_are(tmp_path):
    rows, images = Schema((2,), "float32"), Schema((2, 2, 1), "uint8")
    np.save(tmp_path / "rows.npy", np.arange(6.0).reshape(3, 2))
    np.savez(tmp_path / "rows.npz", x=np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "images.npy", np.full((2, 2, 2), 7, np.uint8))
    (tmp_path / "rows.csv").write_text("age,sex,fare\n30,m,7\n")
    for name in ("rows.npy", "rows.npz"):
        inputs, done, names = rows.read(tmp_path / name)
        assert inputs.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert (done, names) == ("3 rows, taken as they are", None)
    inputs, done, _ = images.read(tmp_path / "images.npy")
    assert inputs.tolist() == [[[[7]] * 2] * 2] * 2
    assert done == "2 images, taken as they are"
    assert TABLE.read(tmp_path / "rows.csv").inputs.tolist() == [[30, 0, 1, 7]]
    for schema, name, kind in (
        (rows, "rows.csv", "a .npy or .npz file"),
        (images, "rows.csv", "a .npy or .npz file"),
        (TABLE, "rows.txt", "a .csv or .parquet file"),
        (rows, "rows.png", "a .npy or .npz file"),
    ):
        with pytest.raises(DataError) as error:
            schema.read(tmp_path / name)
        assert str(error.value).endswith(f"{name}: must be {kind}, as the network was trained on")
    with pytest.raises(DataError, match=r"x: has shape .3, 2.; must be rows of 3 values"):
        TABLE.inputs(np.zeros((3, 2)), "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="the data are no images"):
        Schema((2, 2, 1), "float32").read(tmp_path / "folder")
