"""Tables and arrays of one's own: what becomes of them, and what is refused in one line."""

import io
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from train import mlp
from train.data import from_arrays, load
from train.data.__main__ import main as show_main
from train.data.schema import Schema
from train.errors import DataError, Refusal

HEADER = "age,sex,fare,survived\n"


def row(i: int) -> str:
    return f"{20 + i},{'female' if i % 2 else 'male'},{i / 4},{'yes' if i % 3 else 'no'}\n"


def table(rows: int = 30, *, header: str = HEADER, more: str = "") -> str:
    return header + "".join(map(row, range(rows))) + more


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(table())
    return path


def refused(path, content=None, **options) -> str:
    """The line that a file is refused with; it names the file."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Refusal) as error:
        load(str(path), **options)
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


# --- tables --------------------------------------------------------------------------------------


def rows_of(dataset, columns) -> set:
    """The rows of a data set with their labels, in no order."""
    x, y = (np.concatenate([getattr(dataset, f"{a}_{s}") for s in ("train", "test")]) for a in "xy")
    assert x.shape[1] == columns
    return {(*values, dataset.classes[label]) for values, label in zip(x.tolist(), y, strict=True)}


def test_numbers_stay_and_words_become_one_input_each(csv):
    dataset = load(str(csv))
    assert dataset.classes == ("no", "yes")
    assert dataset.x_train.dtype == np.float32
    # age, female, male, fare
    expected = {(20 + i, i % 2, 1 - i % 2, i / 4, "yes" if i % 3 else "no") for i in range(30)}
    assert rows_of(dataset, 4) == expected
    assert "30 rows of 3 columns, which become 4 inputs, in 2 classes, from p.csv" in (
        dataset.description
    )
    assert "6 of them, 20% of each class, are held out to test on" in dataset.description
    assert dataset.name == "p"


def test_the_description_says_what_becomes_of_the_columns(tmp_path):
    numbers, y = pd.DataFrame({"a": [1.0, 2, 3, 4]}), ["u", "u", "v", "v"]
    about = from_arrays(numbers, y).description
    assert about.startswith("4 rows of 1 column in 2 classes, from a data frame.")
    about = from_arrays(numbers.assign(b=[1, 2, 3, 5]), y).description
    assert about.startswith("4 rows of 2 columns in 2 classes, from a data frame.")
    found = from_arrays(numbers.assign(b=["s", "t", "s", "t"]), y)
    assert found.schema.shape == found.x_train.shape[1:] == (3,)
    about = found.description
    assert about.startswith("4 rows of 2 columns, which become 3 inputs, in 2 classes, from ")
    about = from_arrays(np.zeros((4, 1)), y).description
    assert about.startswith("4 rows of 1 number in 2 classes, from arrays.")
    about = from_arrays(np.zeros((4, 2, 3, 1)), y).description
    assert about.startswith("4 images of 2x3x1 in 2 classes, from arrays.")


def test_arrays_are_given_by_name_too():
    x, y = np.arange(8.0)[:, None], [0, 1] * 4
    found = from_arrays(x=x[:6], y=y[:6], x_test=x[6:], y_test=y[6:])
    assert found.x_test[:, 0].tolist() == [6, 7]
    assert len(load(name="digits", data_dir=None).x_train) == 1437
    with pytest.raises(DataError, match=r"test 0\.5: must be left out where x_test is given"):
        from_arrays(x, y, x, y, test=0.5)
    assert len(from_arrays(x, y, test=0.5).x_test) == 4


def test_labels_are_remembered_as_they_were_given(tmp_path):
    x, y = np.arange(8.0)[:, None], np.array([0, 1] * 4)
    assert from_arrays(x, y).schema.labels == (0, 1)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    assert load(str(tmp_path / "a.npz")).schema.labels == ("0", "1")


def test_a_table_has_two_columns_at_least(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"a": [1, 2] * 3})
    frame.to_parquet(path)
    assert "has one column only; needs one to learn from beside the label" in refused(path)
    frame.assign(b=frame["a"]).to_parquet(path)
    assert load(str(path)).x_train.shape == (4, 1)


def test_the_same_share_of_each_class_is_held_out_and_the_same_each_time(csv):
    dataset, again = load(str(csv), test=0.3), load(str(csv), test=0.3)
    assert np.bincount(dataset.y_test).tolist() == [3, 6]
    assert dataset.fingerprint == again.fingerprint
    assert len(load(str(csv), test=12).y_test) == 12
    labels = dataset.y_train.tolist()  # Not sorted: the last ones are held out to validate on.
    assert labels != sorted(labels)


def test_another_column_may_hold_the_labels(csv):
    dataset = load(str(csv), label="sex")
    assert dataset.classes == ("female", "male")
    assert [column.name for column in dataset.schema.columns] == ["age", "fare", "survived"]


def test_whole_numbers_are_classes_in_their_order(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i},{10 - i % 3}\n" for i in range(30)))
    assert load(str(tmp_path / "a.csv")).classes == ("8", "9", "10")


def test_a_table_is_the_same_in_every_format(csv, tmp_path):
    frame = pd.read_csv(csv)
    frame.to_parquet(tmp_path / "p.parquet")
    dataset = load(str(csv))
    assert load(str(tmp_path / "p.parquet")).fingerprint == dataset.fingerprint
    labels = frame.pop("survived")
    assert from_arrays(frame, labels).fingerprint == dataset.fingerprint
    spaced = table().replace(",", ", ").replace("yes\n", "yes \r\n")
    csv.write_bytes(b"\xef\xbb\xbf" + spaced.encode())
    assert load(str(csv)).fingerprint == dataset.fingerprint


def test_missing_values_are_refused_or_filled_from_the_training_rows(csv):
    csv.write_text(table(more=",female,1,yes\n30,,NA,no\n"))
    assert refused(csv) == (
        f"{csv}: values are missing in columns 'age' (1), 'sex' (1), 'fare' (1) of 32 rows; "
        f"--missing mean fills them"
    )
    dataset = load(str(csv), missing="mean")
    age, sex, fare = dataset.schema.columns
    train = dataset.x_train
    known = train[np.isin(train[:, 0], 20 + np.arange(31))]  # Ages that are written somewhere.
    assert age.fill == pytest.approx(known[:, 0].mean(), rel=1e-6)
    assert sex.fill == ("female" if train[:, 1].sum() > len(train) / 2 else "male")
    found = dataset.schema.inputs([{"age": None, "sex": None, "fare": 1.0}])
    assert found[0, 0] == np.float32(age.fill)
    assert found[0, 1:3].tolist() == [sex.fill == "female", sex.fill == "male"]
    assert fare.fill is not None


def many(column):
    return "w,n,y\n" + "".join(f"{column(i)},{i},{i % 2}\n" for i in range(202))


TABLES = {
    "empty": ("", "needs at least two columns, in its first line"),
    "header alone": (HEADER, "holds no rows"),
    "one column": ("y\n1\n2\n", "needs at least two columns"),
    "semicolons": (table().replace(",", ";"), "separate values by commas, not ';'"),
    "no header": ("1,2,3\n4,5,6\n", "the first line must name the columns; it holds numbers: 1, 2"),
    "a name twice": (table(header="age,sex,age,survived\n"), "columns 1 and 3 are both"),
    "no name": (table(header=",sex,fare,survived\n"), "column 1 has no name"),
    "short row": (table(more="1,male\n"), "row 31 (line 32) has 2 values; the first line names 4"),
    "long row": (table(more="1,male,2,no,x\n"), "row 31 (line 32) has 5 values"),
    "long first row": (HEADER + "1,male,2,no,x\n" + row(1), "row 1 (line 2) has 5 values"),
    "text": (table(more="old,male,2,no\n"), "row 31 has 'old' in column 'age', which holds"),
    "infinity": (table(more="inf,male,2,no\n"), "row 31 has infinity in column 'age'"),
    "beyond float32": (table(more="1e39,male,2,no\n"), "row 31 has 1e+39 in column 'age'; must be"),
    "no label": (table(more="1,male,2,\n"), "column 'survived': 1 label is missing, the first in"),
    "one class": ("x,y\n1,a\n2,a\n", "column 'y': holds one class only, a"),
    "one of a class": (table(more="1,male,2,perhaps\n"), "class perhaps has one example only"),
    "numbers that are no classes": ("x,y\n1,0.5\n2,1\n", "row 1 has 0.5, which is no class"),
    "no values": ("x,e,y\n" + "1,,a\n2,,b\n" * 4, "column 'e' has no values; remove it"),
    "many words": (many(lambda i: f"w{i}"), "column 'w' has 202 different words, such as 'w0'"),
    "bytes": (b"x,y\n\xff\xfe,a\n", "is not text in UTF-8"),
    "quote": (table(more='"1,male,2,no\n'), "cannot be read: unexpected end of data"),
    "zeros": (table().encode() + b"\0\0", "row 31 (line 32) has 1 value; the first"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_cannot_be_taken_is_refused_in_one_line(tmp_path, kind):
    content, message = TABLES[kind]
    assert message in refused(tmp_path / "a.csv", content)


def test_the_label_column_may_be_misspelt(csv):
    assert refused(csv, label="survive").endswith("; did you mean survived?")


def test_too_many_or_too_few_to_test_on(csv):
    for test in (0.01, 0.99, 1, 29):
        assert "must be from 2 to 28 examples" in refused(csv, test=test)


def test_what_is_not_a_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zeros.npz").symlink_to("/dev/zero")
    (tmp_path / "lost.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "table.txt").write_text(table())
    for name, words in {
        "pipe.csv": "is a pipe, socket or device, not a file",
        "zeros.npz": "is a pipe, socket or device, not a file",
        "lost.csv": "is a link that leads nowhere",
        "none.csv": "is not there",
        "none": "is not there",
        "table.txt": "must be a .npz, .csv or .parquet file, or a folder",
    }.items():
        assert words in refused(tmp_path / name)


PARQUET = {
    "damaged": (b"PAR1" + bytes(40) + b"PAR1", "is not a .parquet file"),
    "text": (table().encode(), "is not a .parquet file"),
    "empty": (b"", "is not a .parquet file"),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_a_file_that_is_no_parquet(tmp_path, kind):
    content, message = PARQUET[kind]
    assert message in refused(tmp_path / "a.parquet", content)


def test_columns_of_parquet_that_are_neither_numbers_nor_words(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"x": [[1], [2], [3], [4]], "y": [0, 1, 0, 1]})
    frame.to_parquet(path)
    assert "row 1 has a ndarray in column 'x'; must be numbers or words" in refused(path)
    frame.assign(x=pd.date_range("2020-01-01", periods=4)).to_parquet(path)
    assert "row 1 has a Timestamp in column 'x'" in refused(path)


def test_what_a_parquet_file_claims_is_checked_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"x": np.zeros(20_000), "y": np.arange(20_000) % 2}).to_parquet(path)
    monkeypatch.setattr("train.data.table_file.MOST_VALUES", 30_000)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.read", None)
    assert "claims 20000 rows of 2 columns" in refused(path)


# --- arrays --------------------------------------------------------------------------------------

X, Y = np.arange(60.0).reshape(20, 3), np.arange(20) % 2


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (X, (3,), np.float32),
        (X.astype(np.int64), (3,), np.float32),
        (X.astype(np.uint8), (3,), np.float32),
        (np.zeros((20, 4, 5), np.uint8), (4, 5, 1), np.uint8),
        (np.zeros((20, 4, 5, 2), np.float64), (4, 5, 2), np.float32),
    ],
)
def test_arrays_of_features_and_of_images(tmp_path, x, shape, dtype):
    dataset = load(str(saved(tmp_path / "a.npz", x=x, y=Y)))
    assert dataset.x_train.shape == (16, *shape)
    assert dataset.x_test.shape == (4, *shape)
    assert dataset.x_train.dtype == dataset.x_test.dtype == dtype
    assert from_arrays(x, Y).fingerprint == dataset.fingerprint


def test_arrays_as_keras_saves_them_keep_their_test_set(tmp_path):
    x = np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2)
    path = saved(tmp_path / "a.npz", x_train=x, y_train=Y[:, None], x_test=x[:5], y_test=Y[:5])
    dataset = load(str(path))
    np.testing.assert_array_equal(dataset.x_test[..., 0], x[:5])
    np.testing.assert_array_equal(dataset.y_test, Y[:5])
    order = dataset.x_train[:, 0, 0, 0] // 4  # Which example each is.
    assert sorted(order) == list(range(20))
    assert order.tolist() != list(range(20))
    np.testing.assert_array_equal(dataset.y_train, Y[order])
    assert "5 more are to test on" in dataset.description


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.where(Y, "b", "a"), ("a", "b")),
        (np.where(Y, "b", "a").astype(object), ("a", "b")),
        (Y == 1, ("False", "True")),
        (Y * 5.0 - 3, ("-3", "2")),
        (np.where(Y, b"b", b"a"), ("a", "b")),
        ((Y + 7).tolist(), ("7", "8")),
        ((3 * Y + 7).astype(object), ("7", "10")),
        (np.array([7, np.int64(10)] * 10, object), ("7", "10")),
        ((Y == 1).astype(object), ("False", "True")),
        (pd.Series(Y).map({0: "x", 1: "w"}), ("w", "x")),
    ],
)
def test_labels_of_every_kind(y, classes):
    dataset = from_arrays(X, y)
    assert dataset.classes == classes
    place = {tuple(x): i for i, x in enumerate(X.tolist())}
    labels = np.unique(np.asarray(y), return_inverse=True)[1]
    for x, label in zip(dataset.x_train.tolist(), dataset.y_train, strict=True):
        assert label == labels[place[tuple(x)]]


def damaged(change):
    """A .npz file whose array x is changed, as bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in {"x": X, "y": Y}.items():
            content = io.BytesIO()
            np.save(content, array)
            data = content.getvalue()
            archive.writestr(f"{name}.npy", change(data) if name == "x" else data)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def nan(x):
    x = x.copy()
    x[7, 1] = np.nan
    return x


ARRAYS = {
    "empty": (b"", "is not a .npz file"),
    "text": (b"hello", "is not a .npz file"),
    "no arrays": (npz(), "holds no arrays"),
    "no x": (npz(X=X, y=Y), "holds no array x, only X, y; rename X?"),
    "no y": (npz(x=X), "holds no array y, only x"),
    "x twice": (npz(x=X, x_train=X, y=Y), "holds both x and x_train; keep one of them"),
    "half a test set": (npz(x=X, y=Y, x_test=X), "holds x_test without y_test"),
    "objects": (npz(x=X, y=np.array([{}] * 20)), "y holds Python objects, which are never"),
    "lengths": (npz(x=X, y=Y[:9]), "x: has 20 examples, "),
    "shape": (npz(x=X[:, 0], y=Y), "x: has shape [20]; must be [N, features], [N, H, W] or"),
    "no examples": (npz(x=X[:0], y=Y[:0]), "x: has shape [0, 3]; must be"),
    "NaN": (npz(x=nan(X), y=Y), "x: row 8 holds nan; must be finite numbers in float32"),
    "infinity": (npz(x=X + 1e39, y=Y), "x: row 1 holds 1e+39; must be finite"),
    "words": (npz(x=X.astype(str), y=Y), "x: is <U32; must be numbers"),
    "large integers": (npz(x=np.zeros((20, 4, 4), int), y=Y), "of integers from 0 to 255 take"),
    "one-hot": (npz(x=X, y=np.eye(20)), "y: has shape [20, 20]; must be [N]; of one-hot rows take"),
    "one class": (npz(x=X, y=Y * 0), "y: holds one class only, 0"),
    "numbers": (npz(x=X, y=Y + 0.5), "y: row 1 has 0.5, which is no class"),
    "many classes": (
        npz(x=np.zeros((2002, 1)), y=np.arange(2002) // 2), "holds 1001 different labels; must be"
    ),
    "missing": (npz(x=X, y=np.where(Y, np.nan, 1.0)), "y: 10 labels are missing, the first in"),
    "test of another shape": (
        npz(x=X, y=Y, x_test=X[:, :2], y_test=Y), "x_test: is float32 of shape [20, 2]; must be"
    ),
    "class only in test": (
        npz(x=X, y=Y, x_test=X, y_test=Y + 1), "y_test: holds the class 2, which is not among"
    ),
    "cut": (damaged(lambda data: data[:-8]), "x is cut short"),
    "10^12 claimed": (
        damaged(lambda data: data.replace(b"(20, 3), }", b"(10**12,)}")), "x is damaged"
    ),
    "shape claimed": (
        damaged(lambda data: data.replace(b"(20, 3), }    ", b"(20000, 30), }")), "x is cut short"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_cannot_be_taken_are_refused_in_one_line(tmp_path, kind):
    content, message = ARRAYS[kind]
    assert message in refused(tmp_path / "a.npz", content)


def test_an_archive_that_inflates_to_more_than_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr("train.data.arrays.MOST_VALUES", 100_000)
    monkeypatch.setattr("numpy.lib.format.read_array", None)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 101)), y=np.arange(1000) % 2)
    assert (tmp_path / "a.npz").stat().st_size < 5_000
    assert "x claims shape [1000, 101]; must have at most 100000" in refused(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"label": "y"}, "--label y: is used with a .csv or .parquet file alone; got"),
        (
            {"missing": "mean"},
            "--missing mean: is used with a .csv or .parquet file or a data frame",
        ),
        ({"image_size": "8"}, "--image-size 8: is used with images of several sizes"),
        ({"test": 0.1}, "--test 0.1: is used with data that hold no examples to test on alone"),
    ],
)
def test_a_flag_that_means_nothing_for_the_data_is_refused(tmp_path, options, line):
    path = saved(tmp_path / "a.npz", x=X, y=Y, x_test=X, y_test=Y)
    assert refused(path, **options).startswith(line)
    with pytest.raises(Refusal, match=r"; got digits$"):
        load("digits", **options)


# --- examples to predict -------------------------------------------------------------------------


def test_a_schema_comes_back_from_json(csv, tmp_path):
    for path in (csv, saved(tmp_path / "a.npz", x=X, y=Y)):
        for missing in (None, "mean") if path == csv else (None,):
            schema = load(str(path), missing=missing).schema
            assert Schema.from_json(schema.to_json()) == schema
            assert schema.to_json()["kind"] == ("table" if path == csv else "rows")
    assert Schema((4, 4, 3), "uint8").to_json()["kind"] == "images"


def test_pixels_of_a_folder_are_brought_to_the_white_of_the_data(tmp_path):
    """In whole numbers: 16 v / 255, with a half or more going up."""
    for value in (0, 7, 8, 136, 247, 248, 255):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / f"{value:03}.png")
    inputs, done, names = Schema((8, 8, 1), "uint8", 16).read(tmp_path)
    assert inputs[:, 0, 0, 0].tolist() == [0, 0, 1, 9, 15, 16, 16]
    assert done == "7 images, brought to 8x8"
    assert names[3] == "136.png"


def test_rows_to_predict_are_read_by_the_names_of_their_columns(csv, tmp_path):
    schema = load(str(csv)).schema
    new = tmp_path / "new.csv"
    new.write_text("fare,note,sex,age\n2.5,hello,male,31\n")
    inputs, done, names = schema.read(new)
    assert inputs.tolist() == [[31, 0, 1, 2.5]]
    assert done == "1 row, without the column 'note'"
    assert names is None
    frame = pd.read_csv(new)
    for x in (frame, frame.iloc[0], [[31, "male", 2.5]], [31, "male", 2.5], frame.to_dict("list")):
        assert schema.inputs(x).tolist() == inputs.tolist()


NEW = {
    "unknown word": ("age,sex,fare\n1,mael,2\n", "row 1 has 'mael' in column 'sex', which was not"),
    "column": ("age,gender,fare\n1,male,2\n", "has no column 'sex', which the network needs"),
    "missing": ("age,sex,fare\n1,male,2\n,male,2\n", "1 of 2 values are missing in column 'age'"),
    "text": ("age,sex,fare\nold,male,2\n", "row 1 has 'old' in column 'age', which holds numbers"),
    "ragged": ("age,sex,fare\n1,male\n", "row 1 (line 2) has 2 values"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NEW)
def test_rows_that_cannot_be_predicted(csv, tmp_path, kind):
    schema = load(str(csv)).schema
    content, message = NEW[kind]
    (tmp_path / "new.csv").write_text(content)
    with pytest.raises(DataError) as error:
        schema.read(tmp_path / "new.csv")
    assert message in str(error.value)
    assert "mael" not in content or str(error.value).endswith("; did you mean male?")


def test_a_column_that_the_network_needs_itself_is_not_suggested(tmp_path):
    (tmp_path / "p.csv").write_text("length_a,length_b,kind\n" + "1,2,x\n3,4,y\n" * 9)
    schema = load(str(tmp_path / "p.csv")).schema
    for header, end in (("length_a,other", "needs"), ("length_a,length_c", "called length_c?")):
        (tmp_path / "new.csv").write_text(f"{header}\n1,2\n")
        with pytest.raises(DataError, match="has no column 'length_b'") as error:
            schema.read(tmp_path / "new.csv")
        assert str(error.value).endswith(end)


def test_a_file_of_that_name_is_suggested(csv, monkeypatch, capsys):
    monkeypatch.chdir(csv.parent)
    assert mlp.main(["--dataset", "p"]) == 2
    assert capsys.readouterr().err.endswith("did you mean ./p.csv?\n")


def test_a_terminal_shows_the_description_in_lines_of_its_width(csv, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert show_main(["show", str(csv)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:4])) <= 40
    assert lines[2].startswith(" " * 13)


def test_there_is_something_to_predict():
    for schema in (Schema((3,), "float32"), Schema((2, 2, 1), "uint8")):
        assert schema.inputs(np.zeros(schema.shape)).shape == (1, *schema.shape)
        with pytest.raises(DataError, match=r"x: has shape .* must be "):
            schema.inputs(np.zeros((0, *schema.shape)), "x")
    assert Schema((2, 2, 1), "uint8").inputs(np.zeros((5, 2, 2))).shape == (5, 2, 2, 1)
    assert Schema((2, 2, 1), "uint8").inputs(np.zeros((2, 2))).shape == (1, 2, 2, 1)


def test_arrays_to_predict_must_be_as_the_data_are():
    schema = Schema((4, 4, 1), "uint8", 16)
    for x in (np.full((4, 4), 3), np.full((1, 4, 4), 3.0), np.full((1, 4, 4, 1), 3, np.uint8)):
        found = schema.inputs(x)
        assert found.dtype == np.uint8
        assert found.tolist() == np.full((1, 4, 4, 1), 3).tolist()
    for x, words in (
        (np.full((4, 4), 17), "has pixels from 17 to 17; must be from 0 to 16"),
        (np.full((4, 4), 0.5), "holds numbers that are not whole"),
        (np.zeros((5, 5)), "has shape [5, 5]; must be [N, 4, 4, 1]"),
        ([["a"] * 4] * 4, "must be numbers of shape [N, 4, 4, 1]"),
    ):
        with pytest.raises(DataError) as error:
            schema.inputs(x)
        assert words in str(error.value)
    with pytest.raises(DataError, match="row 2 holds nan"):
        Schema((2,), "float32").inputs([[1, 2], [np.nan, 0]])


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([[1, 2], [3]], [0, 1], "x: is no array: "),
        (X, [[0], [1, 2]], "y: is no array: "),
        (None, Y, "x: has shape []"),
        (X, None, "y: has shape []"),
        (X, Y[:5], "x: has 20 examples, y 5 labels; must be as many"),
        (X, [None, "a"] * 10, "y: 10 labels are missing, the first in row 1"),
        (X, Y + 0j, "y: is complex128; must be integers, words or bools"),
        (pd.DataFrame(X).assign(t=pd.Timestamp(0)), Y, "row 1 has a Timestamp in column 't'"),
        (pd.DataFrame({"a": [None, 1] * 10}), Y, "values are missing in column 'a' (10) of 20"),
    ],
)
def test_arrays_in_python_that_cannot_be_taken(x, y, words):
    with pytest.raises(DataError) as error:
        from_arrays(x, y)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_data_frame_is_filled_where_that_is_asked_for():
    frame = pd.DataFrame({"a": [None, *range(19)], "w": ["u", "v", None, "v"] * 5})
    dataset = from_arrays(frame, Y, missing="mean")
    assert dataset.schema.columns[1].fill == "v"
    with pytest.raises(DataError, match="is no table: All arrays must be of the same length"):
        dataset.schema.inputs({"a": [1], "w": ["u", "v"]})
    with pytest.raises(Refusal, match="missing mean: is used with a"):
        from_arrays(X, Y, missing="mean")


def test_files_changed_at_random_are_taken_or_refused_in_one_line(csv, tmp_path):
    random = np.random.default_rng(0)
    pd.read_csv(csv).to_parquet(tmp_path / "a.parquet")
    files = [csv, tmp_path / "a.parquet", saved(tmp_path / "a.npz", x=X, y=Y)]
    refusals = 0
    for number in range(300):
        content = bytearray(files[number % 3].read_bytes())
        for _ in range(random.integers(1, 4)):
            at = random.integers(len(content))
            more = random.choice([b"nan", b"1e999", b",", b"\n", b'"', b"\xff\xff"])
            content[at : at + random.integers(20)] = more
        path = tmp_path / f"m{files[number % 3].suffix}"
        path.write_bytes(content)
        try:
            assert np.isfinite(load(str(path)).x_train).all()
        except Refusal as error:
            refusals += 1
            assert str(error).isprintable()  # noqa: PT017
    assert 200 < refusals < 300
