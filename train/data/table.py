"""Columns of a table as inputs: numbers, and words of which each becomes 0 or 1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data.limits import MOST_VALUES
from train.errors import DataError
from train.flags.suggestions import near

if TYPE_CHECKING:
    import pandas as pd

# Words that a column may have to become one input each.
MOST_WORDS = 100


@dataclass(frozen=True)
class Column:
    """A column of a table, and how it becomes inputs.

    Attributes:
        name: as the header has it.
        words: the words of a column of words, each of which becomes an input of 0 or 1; none for
            a column of numbers, which becomes one input.
        fill: what stands for a missing value; None where a missing value is refused.
    """

    name: str
    words: tuple[str, ...] = ()
    fill: float | str | None = None

    @property
    def width(self) -> int:
        """How many inputs the column becomes."""
        return len(self.words) or 1


def learned_columns(
    frame: "pd.DataFrame", training: np.ndarray, fill: bool, where: str
) -> tuple[Column, ...]:
    """Return how each column of a table becomes inputs.

    A column in which at least half of the values are numbers is one of numbers.

    Args:
        frame: all rows, without the labels.
        training: the indices of the rows to train on.
        fill: whether missing values are filled, by the mean of a column of numbers, and by the
            most frequent word of one of words, of the rows to train on.
        where: what the rows are called in an error.

    Raises:
        DataError: a column has missing values that are not to be filled, a text among numbers, too
            many words, or values that are neither.
    """
    found = []
    missing = {}
    for name in frame.columns:
        numbers, words = _cells(frame[name], name, where)
        absent = np.isnan(numbers) if words is None else _absent(words)
        if absent.all():
            raise DataError(f"{where}: column {name!r} has no values; remove it")
        if absent.any():
            missing[name] = int(absent.sum())
        if words is None:
            values = numbers[training]
            mean = float(np.nanmean(values)) if not np.isnan(values).all() else 0.0
            found.append(Column(name, fill=mean if fill else None))
            continue
        several, counts = np.unique(words[~absent].astype(str), return_counts=True)
        if len(several) > MOST_WORDS:
            raise DataError(
                f"{where}: column {name!r} has {len(several)} different words, such as "
                f"{_shown(several[0])}; at most {MOST_WORDS} become inputs, so remove it or put "
                f"some together"
            )
        if fill:
            own = words[training][~absent[training]].astype(str)
            several_own, counts = np.unique(own, return_counts=True)
            most = str(several_own[counts.argmax()]) if len(own) else str(several[0])
        found.append(Column(name, tuple(several.tolist()), most if fill else None))
    if missing and not fill:
        counted = ", ".join(f"{name!r} ({count})" for name, count in missing.items())
        raise DataError(
            f"{where}: values are missing in column{'s' * (len(missing) > 1)} {counted} of "
            f"{len(frame)} rows; --missing mean fills them"
        )
    return tuple(found)


def encoded(frame: "pd.DataFrame", columns: Sequence[Column], where: str) -> np.ndarray:
    """Return rows as inputs, float32 [N, inputs].

    Args:
        frame: the rows; other columns are left aside.
        columns: how each becomes inputs.
        where: what the rows are called in an error.

    Raises:
        DataError: a column is missing, or a value is missing, no number, or no known word.
    """
    total = sum(column.width for column in columns)
    if len(frame) * total > MOST_VALUES:
        raise DataError(
            f"{where}: {len(frame)} rows become {total} inputs each; must be at most {MOST_VALUES} "
            f"values"
        )
    inputs = np.zeros((len(frame), total), np.float32)
    position = 0
    for column in columns:
        if column.name not in frame.columns:
            needed = {column.name for column in columns}
            meant = near(column.name, [n for n in map(str, frame.columns) if n not in needed])
            raise DataError(
                f"{where}: has no column {column.name!r}, which the network needs"
                + meant.replace("did you mean", "is it called")
            )
        part = inputs[:, position : position + column.width]
        if column.words:
            _encode_words(frame[column.name], column, part, where)
        else:
            _encode_numbers(frame[column.name], column, part, where)
        position += column.width
    return inputs


def _encode_numbers(values: "pd.Series", column: Column, part: np.ndarray, where: str) -> None:
    numbers, words = _cells(values, column.name, where, numeric=True)
    assert words is None  # As a column of numbers is asked for.
    absent = np.isnan(numbers)
    if absent.any():
        _check_filled(absent, column, where)
        numbers = np.where(absent, float(column.fill or 0), numbers)
    with np.errstate(over="ignore"):
        part[:, 0] = numbers
    if not (finite := np.isfinite(part[:, 0])).all():
        row = int(np.argmin(finite))
        raise DataError(
            f"{where}: row {row + 1} has {numbers[row]:g} in column {column.name!r}; must be finite"
            f" in float32"
        )


def _encode_words(values: "pd.Series", column: Column, part: np.ndarray, where: str) -> None:
    words = _as_words(values, column.name, where)
    absent = _absent(words)
    if absent.any():
        _check_filled(absent, column, where)
        words = np.where(absent, str(column.fill), words)
    # In the order of the words, which is sorted.
    known = np.array(column.words)
    words = words.astype(str)
    place = np.minimum(np.searchsorted(known, words), len(known) - 1)
    if not (right := known[place] == words).all():
        row = int(np.argmin(right))
        raise DataError(
            f"{where}: row {row + 1} has {_shown(words[row])} in column {column.name!r}, which was "
            f"not there to train on; must be {_listed(column.words)}"
            f"{near(str(words[row]), column.words)}"
        )
    part[np.arange(len(place)), place] = 1.0


def _check_filled(absent: np.ndarray, column: Column, where: str) -> None:
    if column.fill is None:
        raise DataError(
            f"{where}: {int(absent.sum())} of {len(absent)} values are missing in column "
            f"{column.name!r}, the first in row {int(np.argmax(absent)) + 1}; train with --missing "
            f"mean to have them filled"
        )


# --- values --------------------------------------------------------------------------------------


def _cells(
    values: "pd.Series", name: str, where: str, numeric: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a column as numbers, float64 with NaN where one is missing, or as words.

    Args:
        values: the column.
        name: of the column.
        where: what the rows are called in an error.
        numeric: whether it must be numbers.

    Returns:
        The numbers, and None; or of a column of words nothing, and the words.
    """
    import pandas as pd

    kind = values.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
        if pd.api.types.is_complex_dtype(kind):
            raise DataError(f"{where}: column {name!r} holds complex numbers; must be real")
        numbers = values.to_numpy(np.float64, na_value=math.nan)
    elif isinstance(kind, pd.StringDtype) and (parsed := _parsed(values)) is not None:
        numbers = parsed
    else:
        words = _as_words(values, name, where)
        numbers = pd.to_numeric(pd.Series(words, dtype=object), errors="coerce").to_numpy(
            np.float64, na_value=math.nan
        )
        absent = _absent(words)
        texts = np.isnan(numbers) & ~absent
        if texts.any():
            share = 1 - texts.sum() / max((~absent).sum(), 1)
            if numeric or share >= 0.5:
                row = int(np.argmax(texts))
                raise DataError(
                    f"{where}: row {row + 1} has {_shown(words[row])} in column {name!r}, which "
                    f"holds numbers; correct it, or leave it empty"
                )
            return numbers, words
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise DataError(f"{where}: row {row + 1} has infinity in column {name!r}; must be finite")
    return numbers, None


def _parsed(values: "pd.Series") -> np.ndarray | None:
    """Return texts as numbers, where all that are not missing are some; quick."""
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce")
    if not (numbers.isna() == values.isna()).all():
        return None
    return numbers.to_numpy(np.float64, na_value=math.nan)


def _as_words(values: "pd.Series", name: str, where: str) -> np.ndarray:
    """Return a column as texts, without spaces around them; None where one is missing."""
    import pandas as pd

    if isinstance(values.dtype, pd.StringDtype):
        texts = values.str.strip().replace("", None)
        stripped: np.ndarray = texts.to_numpy(object, na_value=None)
        return stripped
    found = values.astype(object).to_numpy()
    absent = np.asarray(pd.isna(values))
    words = np.empty(len(found), object)
    for row in np.flatnonzero(~absent):
        value = found[row]
        if not isinstance(value, (str, bool, int, float, np.bool_, np.integer, np.floating)):
            raise DataError(
                f"{where}: row {row + 1} has a {type(value).__name__} in column {name!r}; must be "
                f"numbers or words"
            )
        words[row] = str(value).strip() or None
    return words


def _absent(words: np.ndarray) -> np.ndarray:
    return np.array([word is None for word in words.tolist()], bool)


def _shown(value: Any) -> str:
    text = repr(str(value))
    return text if len(text) <= 40 else f"{text[:37]}..."


def _listed(words: Sequence[str]) -> str:
    few = ", ".join(map(_shown, words[:8]))
    return few if len(words) <= 8 else f"{few} or another of {len(words)}"
