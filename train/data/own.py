"""Data of one's own: a file, a folder of images, or arrays, as a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from train.data import arrays, image_folder, table
from train.data.dataset import Dataset
from train.data.hold_out import divided, held_out_to_test, with_parts, with_test
from train.data.labels import read_labels
from train.data.schema import TABLES, Schema
from train.data.table import Column
from train.data.table_file import checked_frame, read_table
from train.errors import ConfigError, DataError
from train.flags.constraints import option
from train.flags.suggestions import near


class Options(NamedTuple):
    """How data are read that do not say so themselves; see `loading.load`."""

    label: str | None = None
    missing: str | None = None
    test: float | None = None
    image_size: str | None = None


# By flag, the data that it is used with.
_USED_WITH = {
    "label": "a .csv or .parquet file",
    "missing": "a .csv or .parquet file or a data frame",
    "test": "data that hold no examples to test on",
    "image_size": "images of several sizes, such as those of a folder",
}


def check_unused(options: Options, names: tuple[str, ...], data: str) -> None:
    """Raise a `ConfigError` where one of these flags is given, which mean nothing for the data."""
    for name in names:
        if (value := getattr(options, name)) is not None:
            shown = f"{value:g}" if isinstance(value, float) else value
            raise ConfigError(
                f"{option(name)} {shown}: is used with {_USED_WITH[name]} alone; got {data}"
            )


def load(path: Path, options: Options) -> Dataset:
    """Load a file or a folder of one's own.

    Raises:
        DataError: it is missing or damaged, or nothing to train on.
        ConfigError: an option means nothing for it.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        check_unused(options, ("label", "missing"), f"the folder {path}")
        return _folder(path, options)
    if suffix == ".npz":
        check_unused(options, ("label", "missing", "image_size"), str(path))
        return _npz(path, options)
    if suffix in TABLES:
        check_unused(options, ("image_size",), str(path))
        return _table(path, options)
    if not path.exists() and not path.is_symlink():
        raise DataError(f"{path}: is not there; name a file, a folder of images or a data set")
    raise DataError(
        f"{path}: must be a .npz, .csv or .parquet file, or a folder with a folder of images for "
        f"each class"
    )


def from_arrays(
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    test: float | None = None,
    missing: str | None = None,
    name: str = "arrays",
) -> Dataset:
    """Return arrays as a data set.

    Args:
        x: [N, features], [N, H, W] or [N, H, W, C], uint8 or floating, of features any numbers; or
            a data frame of pandas, whose columns are numbers or words.
        y: [N] labels: integers, words or bools.
        x_test: examples to test on, likewise; None to hold some of x out.
        y_test: their labels.
        test: the share, below 1, or the number of examples that are held out; by default 0.2.
        missing: "mean" to fill missing values of a data frame, see `table.learned_columns`.
        name: of the data set.

    Returns:
        The data set; its training examples are in a random order, the same each time.

    Raises:
        DataError: they are of other shapes or dtypes, a value is missing or not finite, or a class
            has too few examples.
    """
    if (x_test is None) != (y_test is None):
        one, other = ("x_test", "y_test") if y_test is None else ("y_test", "x_test")
        raise DataError(f"{one}: is given without {other}; give both, or leave both out")
    if x_test is not None and test is not None:
        raise DataError(f"test {test:g}: must be left out where x_test is given")
    given = {"x": x, "y": y} | ({} if x_test is None else {"x_test": x_test, "y_test": y_test})
    if hasattr(x, "columns"):
        return _frames(given, test, missing, name)
    check_unused(Options(missing=missing), ("missing",), "arrays")
    return _arrays(given, test, name, "", "arrays")


# --- kinds of data -------------------------------------------------------------------------------


def _npz(path: Path, options: Options) -> Dataset:
    found = arrays.read_npz(path)
    if "x_test" in found:
        check_unused(options, ("test",), str(path))
    return _arrays(found, options.test, path.stem, f"{path}: ", path.name)


def _arrays(
    given: dict[str, Any], test: float | None, name: str, where: str, source: str
) -> Dataset:
    """Return arrays x and y, and perhaps x_test and y_test, as a data set."""
    x, labels = arrays.examples(given["x"], f"{where}x"), read_labels(given["y"], f"{where}y")
    _check_lengths(len(x), len(labels.y), f"{where}x", f"{where}y")
    values = labels.classes if where else tuple(labels.values.tolist())
    schema = Schema(x.shape[1:], x.dtype.name, arrays.white_of(x), labels=values)
    about = _described(x, labels.classes, source)
    if "x_test" not in given:
        return divided(name, about, (x, labels.y), labels.classes, test, schema)
    x_test = arrays.examples(given["x_test"], f"{where}x_test")
    if x_test.shape[1:] != x.shape[1:] or x_test.dtype != x.dtype:
        raise DataError(
            f"{where}x_test: is {x_test.dtype} of shape {list(x_test.shape)}; must be {x.dtype} "
            f"of shape [N, {', '.join(map(str, x.shape[1:]))}], as x"
        )
    y_test = read_labels(given["y_test"], f"{where}y_test", labels).y
    _check_lengths(len(x_test), len(y_test), f"{where}x_test", f"{where}y_test")
    return with_test(name, about, (x, labels.y), (x_test, y_test), labels.classes, schema)


def _folder(path: Path, options: Options) -> Dataset:
    size = None if options.image_size is None else image_folder.parsed_size(options.image_size)
    found = image_folder.read_folder(path, size)
    labels = read_labels(found.labels, str(path))
    schema = Schema(found.images.shape[1:], "uint8", labels=labels.classes)
    name = path.absolute().name
    about = _described(found.images, labels.classes, f"the folder {name}{found.words}")
    train = found.images, labels.y
    if found.test is None:
        return divided(name, about, train, labels.classes, options.test, schema)
    check_unused(options, ("test",), f"the folder {path}")
    test = found.test[0], read_labels(found.test[1], str(path / "test"), labels).y
    return with_test(name, about, train, test, labels.classes, schema)


def _table(path: Path, options: Options) -> Dataset:
    frame = read_table(path)
    names = list(frame.columns)
    label = names[-1] if options.label is None else options.label
    if label not in names:
        raise DataError(
            f"--label {label}: is no column of {path}, which has {', '.join(names[:8])}"
            f"{', ...' if len(names) > 8 else ''}{near(label, names)}"
        )
    if len(names) < 2:
        raise DataError(f"{path}: has one column only; needs one to learn from beside the label")
    labels = read_labels(_label_values(frame.pop(label), path), f"{path}: column {label!r}")
    parts = held_out_to_test(labels.y, labels.classes, options.test, str(path))
    columns = table.learned_columns(frame, parts[0], options.missing is not None, str(path))
    inputs = table.encoded(frame, columns, str(path))
    schema = Schema(inputs.shape[1:], "float32", 1, columns, label, labels.classes)
    about = _described(inputs, labels.classes, path.name, columns)
    return with_parts(path.stem, about, (inputs, labels.y), parts, labels.classes, schema)


def _label_values(values: Any, path: Path) -> np.ndarray:
    """Return a column of labels: whole numbers where all are, and otherwise texts."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(values.dtype):
        return values.astype(str).to_numpy(object)
    numbers = pd.to_numeric(values.astype(object), errors="coerce")
    if (numbers.isna() == values.isna()).all():
        return numbers.to_numpy(np.float64)
    return values.astype(object).where(values.notna(), None).to_numpy()


def _frames(given: dict[str, Any], test: float | None, missing: str | None, name: str) -> Dataset:
    """Return data frames with their labels as a data set."""
    frame = checked_frame(given["x"], "x")
    labels = read_labels(given["y"], "y")
    _check_lengths(len(frame), len(labels.y), "x", "y")
    train, parts = np.arange(len(frame)), None
    if "x_test" not in given:
        parts = held_out_to_test(labels.y, labels.classes, test, name)
        train = parts[0]
    columns = table.learned_columns(frame, train, missing is not None, "x")
    inputs = table.encoded(frame, columns, "x")
    values = tuple(labels.values.tolist())
    schema = Schema(inputs.shape[1:], "float32", 1, columns, labels=values)
    about = _described(inputs, labels.classes, "a data frame", columns)
    whole = inputs, labels.y
    if parts is not None:
        return with_parts(name, about, whole, parts, labels.classes, schema)
    x_test = schema.inputs(given["x_test"], "x_test")
    y_test = read_labels(given["y_test"], "y_test", labels).y
    _check_lengths(len(x_test), len(y_test), "x_test", "y_test")
    return with_test(name, about, whole, (x_test, y_test), labels.classes, schema)


def _check_lengths(one: int, other: int, what: str, beside: str) -> None:
    if one != other:
        raise DataError(f"{what}: has {one} examples, {beside} {other} labels; must be as many")


def _described(
    x: np.ndarray, classes: tuple[str, ...], source: str, columns: Sequence[Column] = ()
) -> str:
    """Return one line about examples."""
    if columns:
        what = f"rows of {len(columns)} column{'s' * (len(columns) > 1)}"
        if x.shape[1] > len(columns):
            what += f", which become {x.shape[1]} inputs,"
    elif x.ndim == 2:
        what = f"rows of {x.shape[1]} number{'s' * (x.shape[1] > 1)}"
    else:
        what = f"images of {'x'.join(map(str, x.shape[1:]))}"
    return f"{len(x)} {what} in {len(classes)} classes, from {source}."
