"""How examples of one's own become inputs of a network: what data.json of a run remembers."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from train.data import arrays, table
from train.data.image_file import read_images
from train.data.image_folder import read_flat
from train.data.table import Column
from train.data.table_file import checked_frame, read_table
from train.errors import DataError, reason

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".parquet")


class Read(NamedTuple):
    """Examples to predict, as inputs.

    Attributes:
        inputs: [N, ...], of the shape and dtype of the data.
        done: what was done to them, in words.
        names: what each is called: its file in a folder; None for its number.
    """

    inputs: np.ndarray
    done: str
    names: list[str] | None = None


@dataclass(frozen=True)
class Schema:
    """How examples become inputs.

    Attributes:
        shape: of one input: [features], or [H, W, C] of an image.
        dtype: of the inputs, "uint8" or "float32".
        white: the value of a white pixel.
        columns: those of a table with names, in their order; none of other data.
        label: the column of the labels, which need not be there to predict.
        labels: of data of one's own the label of each class, as it was given.
    """

    shape: tuple[int, ...]
    dtype: str
    white: int = 255
    columns: tuple[Column, ...] = ()
    label: str = ""
    labels: tuple[int | bool | str, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether an input is a row of numbers, not an image."""
        return len(self.shape) == 1

    @property
    def is_number(self) -> np.ndarray:
        """Which inputs of a row are numbers, not words: bool [features]."""
        if not self.columns:
            return np.ones(self.shape, bool)
        return np.concatenate([[not column.words] * column.width for column in self.columns])

    def read(self, path: str | os.PathLike[str]) -> Read:
        """Read examples to predict.

        Args:
            path: a .csv or .parquet file with the columns of the training data; a .npz (its array
                x, or the only one) or .npy file of examples as the training data are; an image
                file, or a folder of images.

        Raises:
            DataError: the file is missing or damaged, or its examples are not as the data are.
        """
        path = Path(os.path.expanduser(path))
        suffix = path.suffix.lower()
        if self.columns and suffix in TABLES:
            return self._read_table(path)
        if suffix in TABLES or (self.is_table and suffix not in (".npy", ".npz")):
            wanted = f"a {' or '.join(TABLES)} file" if self.columns else "a .npy or .npz file"
            raise DataError(f"{path}: must be {wanted}, as the network was trained on")
        if path.is_dir():
            if self.dtype != "uint8":
                raise DataError(f"{path}: must be a .npy or .npz file; the data are no images")
            inputs, names = read_flat(path, self.shape)
            if self.white != 255:
                inputs = np.round(inputs * (self.white / 255)).astype(np.uint8)
            size = "x".join(map(str, self.shape[:2]))
            return Read(inputs, f"{len(inputs)} images, brought to {size}", names)
        if suffix == ".npz":
            return self._taken(arrays.read_inputs(path), path)
        if suffix == ".npy" and self.is_table:
            return self._taken(arrays.read_npy(path), path)
        return Read(*read_images(path, np.empty(self.shape, self.dtype), self.white))

    def _taken(self, found: np.ndarray, path: Path) -> Read:
        inputs = self.inputs(found, str(path))
        what = "row" if self.is_table else "image"
        return Read(inputs, f"{len(inputs)} {what}{'s' * (len(inputs) > 1)}, taken as they are")

    def _read_table(self, path: Path) -> Read:
        frame = read_table(path)
        inputs = table.encoded(frame, self.columns, str(path))
        done = f"{len(inputs)} row{'s' * (len(inputs) > 1)}"
        known = {column.name for column in self.columns}
        others = [name for name in frame.columns if name not in known]
        if others:
            few = ", ".join(map(repr, others[:5])) + (", ..." if len(others) > 5 else "")
            done += f", without the column{'s' * (len(others) > 1)} {few}"
        return Read(inputs, done)

    def inputs(self, x: Any, where: str = "x") -> np.ndarray:
        """Return examples as inputs, [N, ...].

        Args:
            x: an array, rows as lists, or, of a table with named columns, a data frame of pandas or
                dictionaries; or a single example.
            where: what they are called in an error.

        Raises:
            DataError: they are not as the training data are.
        """
        if self.columns:
            try:
                frame = self._framed(x, where)
            except ValueError as error:  # Of pandas or NumPy.
                if isinstance(error, DataError):
                    raise
                raise DataError(f"{where}: is no table: {reason(error)}") from error
            return table.encoded(frame, self.columns, where)
        given = arrays.as_array(x, where)
        if given.shape == self.shape:
            given = given[None]
        if not self.is_table and self.shape[-1] == 1:
            if given.shape == self.shape[:-1]:
                given = given[None, ..., None]
            elif given.ndim == 3 and given.shape[1:] == self.shape[:-1]:
                given = given[..., None]
        wanted = f"[N, {', '.join(map(str, self.shape))}]"
        if given.shape[1:] != self.shape or not given.ndim or not len(given):
            raise DataError(f"{where}: has shape {list(given.shape)}; must be {wanted}")
        if given.dtype.kind not in "biuf":
            raise DataError(f"{where}: is {given.dtype}; must be numbers of shape {wanted}")
        if self.dtype == "float32":
            return arrays.finite(given, where)
        if given.dtype.kind == "f" and not (given == np.round(given)).all():
            raise DataError(
                f"{where}: holds numbers that are not whole; must be pixels from 0 to "
                f"{self.white}, as in the data"
            )
        if given.min() < 0 or given.max() > self.white:
            raise DataError(
                f"{where}: has pixels from {given.min():g} to {given.max():g}; must be from 0 to "
                f"{self.white}, as in the data"
            )
        return given.astype(np.uint8)

    def _framed(self, x: Any, where: str) -> "pd.DataFrame":
        import pandas as pd

        if isinstance(x, pd.DataFrame):
            return checked_frame(x, where)
        if isinstance(x, pd.Series):
            x = x.to_dict()
        if isinstance(x, Mapping):
            single = all(np.ndim(value) == 0 for value in x.values())
            return checked_frame(pd.DataFrame([x] if single else dict(x)), where)
        if isinstance(x, (list, tuple)) and x and all(isinstance(row, Mapping) for row in x):
            return checked_frame(pd.DataFrame(list(x)), where)
        rows = x if isinstance(x, np.ndarray) else np.array(x, dtype=object)
        rows = rows[None] if rows.ndim == 1 and len(rows) == len(self.columns) else rows
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise DataError(
                f"{where}: has shape {list(rows.shape)}; must be rows of {len(self.columns)} "
                f"values, one for each column"
            )
        names = [column.name for column in self.columns]
        return checked_frame(pd.DataFrame(rows, columns=names), where)

    # --- JSON ------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        found: dict[str, Any] = {
            "kind": "table" if self.columns else "rows" if self.is_table else "images",
            "shape": list(self.shape),
            "dtype": self.dtype,
            "white": self.white,
        }
        if self.labels:
            found["labels"] = list(self.labels)
        if self.columns:
            found["label"] = self.label
            found["columns"] = [
                {"name": column.name}
                | ({"words": list(column.words)} if column.words else {})
                | ({} if column.fill is None else {"fill": column.fill})
                for column in self.columns
            ]
        return found

    @classmethod
    def from_json(cls, found: Any) -> "Schema":
        """Return the schema that `to_json` wrote.

        Raises:
            ValueError: it is not what `to_json` writes.
        """
        if not isinstance(found, dict):
            raise ValueError("the schema is no object")
        shape, dtype, white = found.get("shape"), found.get("dtype"), found.get("white")
        if (
            not isinstance(shape, list)
            or len(shape) not in (1, 3)
            or not all(type(size) is int and size > 0 for size in shape)
            or math.prod(shape) > arrays.MOST_VALUES
        ):
            raise ValueError("the schema has no shape")
        if dtype not in ("uint8", "float32") or type(white) is not int or not 0 < white < 2**32:
            raise ValueError("the schema has no dtype or no white")
        named = found.get("columns", [])
        if not isinstance(named, list):
            raise ValueError("the columns of the schema are no list")
        columns = tuple(map(_column, named))
        label, labels = found.get("label", ""), found.get("labels", [])
        if not isinstance(label, str) or not isinstance(labels, list):
            raise ValueError("the labels of the schema are none")
        if not all(type(value) in (int, bool, str) for value in labels):
            raise ValueError("the labels of the schema are neither integers, words nor bools")
        if columns and sum(column.width for column in columns) != math.prod(shape):
            raise ValueError("the columns of the schema do not make its shape")
        if len({column.name for column in columns}) < len(columns):
            raise ValueError("two columns of the schema have one name")
        return cls(tuple(shape), dtype, white, columns, label, tuple(labels))


def _column(found: Any) -> Column:
    """Return a column of a schema; raise a `ValueError` where it is none."""
    name = found.get("name") if isinstance(found, dict) else None
    words, fill = (found.get("words", []), found.get("fill")) if name else ([], None)
    if not isinstance(name, str) or not isinstance(words, list):
        raise ValueError("a column of the schema has no name")
    if not all(isinstance(word, str) for word in words) or words != sorted(set(words)):
        raise ValueError(f"the words of the column {name!r} are not sorted")
    right = fill in words if words else type(fill) in (int, float)
    if fill is not None and not right:
        raise ValueError(f"the column {name!r} is filled with {fill!r}")
    return Column(name, tuple(words), fill)
