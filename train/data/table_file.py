"""Files of tables: .csv and .parquet, with a name for each column."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.data.limits import MOST_VALUES, regular_file
from train.errors import DataError, reason

if TYPE_CHECKING:
    import pandas as pd

# Bytes of a .csv file.
_LARGEST = 2**31


def read_table(path: Path) -> "pd.DataFrame":
    """Read a .csv or .parquet file with named columns.

    Returns:
        The rows; the values of a .csv file are texts, and missing where nothing is written or a
        word of pandas for it, such as NA.

    Raises:
        DataError: the file is missing, damaged, too large or empty, a line has more or fewer
            values than there are columns, or the columns do not have a name each.
    """
    regular_file(path)
    frame = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    return checked_frame(frame, str(path))


def checked_frame(frame: "pd.DataFrame", where: str) -> "pd.DataFrame":
    """Return the rows of a data frame of pandas; raise a `DataError` unless they are a table."""
    frame = frame.set_axis([str(name).strip() for name in frame.columns], axis="columns")
    _check_names(list(frame.columns), where)
    if not len(frame):
        raise DataError(f"{where}: holds no rows")
    if frame.shape[0] * frame.shape[1] > MOST_VALUES:
        raise DataError(
            f"{where}: has {frame.shape[0]} rows of {frame.shape[1]} columns; must have at most "
            f"{MOST_VALUES} values"
        )
    return frame.reset_index(drop=True)


def _check_names(names: Sequence[str], where: str) -> None:
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"{where}: column {number} has no name; name it in the first line, or save the "
                f"table without its index"
            )
        if names.index(name) < number - 1:
            raise DataError(
                f"{where}: columns {names.index(name) + 1} and {number} are both called {name!r}; "
                f"each needs a name of its own"
            )


def _read_csv(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path}: has more than {_LARGEST} bytes; save it as .parquet")
    names = _check_lines(path)
    try:
        return pd.read_csv(
            path,
            dtype=str,
            names=names,
            header=0,
            index_col=False,
            skipinitialspace=True,
            encoding="utf-8-sig",
        )
    except MemoryError:
        raise
    except Exception as error:  # pandas raises whatever its parser stumbles over.
        raise DataError(f"{path}: cannot be read: {reason(error)}") from error


def _check_lines(path: Path) -> list[str]:
    """Return the header; raise a `DataError` unless each line has a value for each column.

    pandas fills a line that is too short, and takes the first column of one that is too long for
    an index.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True, strict=True)
            names = [name.strip() for name in next(lines, [])]
            if len(names) < 2:
                other = next((sign for sign in ";\t|" if sign in "".join(names)), None)
                meant = f"; separate values by commas, not {other!r}" if other else ""
                raise DataError(f"{path}: needs at least two columns, in its first line{meant}")
            if all(_is_number(name) for name in names):
                raise DataError(
                    f"{path}: the first line must name the columns; it holds numbers: "
                    f"{', '.join(names[:3])}"
                )
            _check_names(names, str(path))
            for number, line in enumerate(filter(None, lines), 1):
                if len(line) != len(names):
                    raise DataError(
                        f"{path}: row {number} (line {lines.line_num}) has {len(line)} "
                        f"value{'s' * (len(line) > 1)}; the first line names {len(names)} columns"
                    )
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8: {reason(error)}") from error
    except csv.Error as error:
        raise DataError(f"{path}: line {lines.line_num} cannot be read: {error}") from error
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            about = file.metadata
            # Before anything is unpacked: what is compressed may be much larger.
            claimed = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            if max(about.num_rows * about.num_columns, claimed // 8) > MOST_VALUES:
                raise DataError(
                    f"{path}: claims {about.num_rows} rows of {about.num_columns} columns; must "
                    f"have at most {MOST_VALUES} values"
                )
            # Not what pandas wrote about its index: a file names no types here.
            return file.read().to_pandas(ignore_metadata=True)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # pyarrow raises whatever its parser stumbles over.
        raise DataError(f"{path}: is not a .parquet file: {reason(error)}") from error
