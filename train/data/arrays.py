"""Arrays of one's own: .npz and .npy files, and the values that examples may have."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.data.limits import MOST_VALUES, regular_file
from train.errors import DataError, reason
from train.flags.suggestions import near

# By what is read, the names that an array may have; the second is Keras's.
_NAMES = {
    "x": ("x", "x_train"),
    "y": ("y", "y_train"),
    "x_test": ("x_test",),
    "y_test": ("y_test",),
}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays x and y, and x_test and y_test where both are there.

    Raises:
        DataError: the file is missing or damaged, an array is missing, holds Python objects, which
            are never unpickled, or is too large.
    """
    arrays = _members(path)
    found = {}
    for name, names in _NAMES.items():
        present = [alias for alias in names if alias in arrays]
        if len(present) > 1:
            raise DataError(f"{path}: holds both {present[0]} and {present[1]}; keep one of them")
        if present:
            found[name] = _array(path, present[0], arrays[present[0]])
    for name in ("x", "y"):
        if name not in found:
            raise DataError(
                f"{path}: holds no array {name}, only {_listed(list(arrays))}"
                f"{near(name, list(arrays), cutoff=0.9).replace('did you mean', 'rename')}"
            )
    for one, other in (("x_test", "y_test"), ("y_test", "x_test")):
        if one in found and other not in found:
            raise DataError(f"{path}: holds {one} without {other}; add it, or leave both out")
    return found


def read_inputs(path: Path) -> np.ndarray:
    """Read the examples of a .npz file to predict: its array x, or the only one.

    Raises:
        DataError: see `read_npz`.
    """
    arrays = _members(path)
    name = "x" if "x" in arrays else next(iter(arrays)) if len(arrays) == 1 else None
    if name is None:
        raise DataError(f"{path}: holds no array x, only {_listed(list(arrays))}")
    return _array(path, name, arrays[name])


def read_npy(path: Path) -> np.ndarray:
    """Read a .npy file of numbers.

    Raises:
        DataError: it is missing, damaged, too large, or holds Python objects.
    """
    regular_file(path)
    try:
        # Only its header is read, so that no size that it claims is allocated; and no pickle is.
        mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.size > MOST_VALUES:
            raise DataError(f"{path}: has {mapped.size} values; must have at most {MOST_VALUES}")
        return np.array(mapped)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # NumPy raises whatever its parser of headers stumbles over.
        raise DataError(f"{path}: is not a .npy file of numbers: {reason(error)}") from error


def _members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays of a .npz file by name."""
    regular_file(path)
    try:
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
    except Exception as error:  # zipfile raises whatever a damaged directory makes it stumble over.
        raise DataError(f"{path}: is not a .npz file: {reason(error)}") from error
    found = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(found) < len(infos):
        raise DataError(f"{path}: holds two arrays of one name")
    if not found:
        raise DataError(f"{path}: holds no arrays")
    return found


def _array(path: Path, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of a .npz file; what it claims is checked before memory is taken for it."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        with zipfile.ZipFile(path) as file, file.open(info) as member:
            version = np.lib.format.read_magic(member)
            shape, _, dtype = read_header[version](member)
            if dtype.hasobject:
                raise DataError(
                    f"{path}: {name} holds Python objects, which are never unpickled; save numbers "
                    f"or words, such as {name}.astype(str)"
                )
            count = math.prod(shape)
            if count > MOST_VALUES or count * dtype.itemsize > 8 * MOST_VALUES:
                raise DataError(
                    f"{path}: {name} claims shape {list(shape)}; must have at most {MOST_VALUES} "
                    f"values"
                )
            if count * dtype.itemsize > info.file_size - member.tell():
                raise DataError(f"{path}: {name} is cut short")
        with zipfile.ZipFile(path) as file, file.open(info) as member:
            found: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
            return found
    except (DataError, MemoryError):
        raise
    except Exception as error:  # NumPy and zlib raise whatever they stumble over.
        raise DataError(f"{path}: {name} is damaged: {reason(error)}") from error


def _listed(names: Sequence[str]) -> str:
    few = ", ".join(name if name.isprintable() else repr(name) for name in names[:8])
    return few if len(names) <= 8 else f"{few} and {len(names) - 8} more"


# --- examples ------------------------------------------------------------------------------------


def as_array(given: Any, where: str) -> np.ndarray:
    """Return an array or lists as an array; raise a `DataError` where rows differ in length."""
    try:
        return np.asarray(given)
    except ValueError as error:
        raise DataError(
            f"{where}: is no array: {reason(error)}; all rows must have the same length"
        ) from error


def examples(given: Any, where: str) -> np.ndarray:
    """Return arrays as examples to train on.

    Args:
        given: [N, features], [N, H, W] or [N, H, W, C]; uint8 or floating, of features any real
            numbers.
        where: what they are called in an error.

    Returns:
        float32 [N, features], or uint8 or float32 [N, H, W, C].

    Raises:
        DataError: they are of another dtype or shape, or a value is not finite in float32.
    """
    x = as_array(given, where)
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(
            f"{where}: has shape {list(x.shape)}; must be [N, features], [N, H, W] or "
            f"[N, H, W, C], none of them 0"
        )
    if x.dtype.kind not in ("biuf" if x.ndim == 2 else "f") and x.dtype != np.uint8:
        advice = (
            "; of integers from 0 to 255 take x.astype(np.uint8)" if x.dtype.kind in "iu" else ""
        )
        wanted = "numbers" if x.ndim == 2 else "uint8 or floating"
        raise DataError(f"{where}: is {reason(x.dtype)}; must be {wanted}{advice}")
    if x.size > MOST_VALUES:
        raise DataError(f"{where}: has {x.size} values; must have at most {MOST_VALUES}")
    if x.ndim == 3:
        x = x[..., None]
    return x.copy() if x.dtype == np.uint8 and x.ndim == 4 else finite(x, where)


def finite(x: np.ndarray, where: str) -> np.ndarray:
    """Return numbers as float32; raise a `DataError` unless they are finite in it."""
    with np.errstate(over="ignore"):
        found = np.array(x, np.float32)
    if not np.isfinite(found).all():
        place = np.unravel_index(int(np.argmin(np.isfinite(found))), found.shape)
        raise DataError(
            f"{where}: row {place[0] + 1} holds {x[place]:g}; must be finite numbers in float32"
        )
    return found


def white_of(x: np.ndarray) -> int:
    """Return the value of a white pixel, as far as the pixels tell: 1, 255, or their largest."""
    if x.dtype == np.uint8:
        return 255
    largest = float(x.max())
    return 1 if largest <= 1 else 255 if largest <= 255 else min(math.ceil(largest), 2**31)
