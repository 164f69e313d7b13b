"""Folders of images of one's own: DIR/CLASS/*, or DIR/train/CLASS/* and DIR/test/CLASS/*."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np

from train.data.image_file import picture, quiet, size_of
from train.data.limits import MOST_CLASSES, MOST_VALUES, regular_file
from train.errors import DataError

T = TypeVar("T")

# What systems leave beside the images.
_LEFT_ASIDE = ("Thumbs.db", "desktop.ini")

_MOST_FILES = 2_000_000


class Folder(NamedTuple):
    """Images by class.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: the name of the class of each, [N].
        test: the images and labels to test on; None where the folder has no such part.
        words: what was done to them.
    """

    images: np.ndarray
    labels: np.ndarray
    test: tuple[np.ndarray, np.ndarray] | None
    words: str


def read_folder(path: Path, size: tuple[int, int] | None) -> Folder:
    """Read a folder of images by class.

    Images are grey where all are, and coloured otherwise.

    Args:
        path: the folder.
        size: the height and width that each is brought to; None where all have the same.

    Raises:
        DataError: there are no images by class, one is damaged, their sizes differ, or they are
            too large together.
    """
    parts = {name: path / name for name in ("train", "test") if _holds_folders(path / name)}
    if "train" in parts:
        files = {name: _by_class(part) for name, part in parts.items()}
    else:
        files = {"train": _by_class(path)}
    several = [file for part in files.values() for file, _ in part]
    shape, words = common_shape(several, size)
    images = decoded(several, shape)
    count = len(files["train"])
    labels = np.array([label for part in files.values() for _, label in part])
    test = (images[count:], labels[count:]) if "test" in files else None
    return Folder(images[:count], labels[:count], test, words)


def read_flat(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """Read all images of a folder and of the folders in it, each brought to a shape.

    Returns:
        uint8 [N, H, W, C], and the path of each below the folder; sorted by path.

    Raises:
        DataError: there are none, or one is damaged.
    """
    files = [
        Path(folder, name)
        for folder, folders, names in os.walk(path)
        for name in names
        if not (name.startswith(".") or name in _LEFT_ASIDE)
    ]
    if not files:
        raise DataError(f"{path}: holds no images")
    files.sort()
    return decoded(files, shape), [str(file.relative_to(path)) for file in files]


def _holds_folders(path: Path) -> bool:
    return path.is_dir() and any(entry.is_dir() for entry in _entries(path))


def _entries(path: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, sorted by name."""
    try:
        with os.scandir(path) as entries:
            found = [e for e in entries if not (e.name.startswith(".") or e.name in _LEFT_ASIDE)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda entry: entry.name)


def _by_class(path: Path) -> list[tuple[Path, str]]:
    """Return the files below a folder, each with the name of its class."""
    classes = [entry for entry in _entries(path) if entry.is_dir()]
    if not classes:
        raise DataError(f"{path}: holds no folders; must hold one of images for each class")
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{path}: holds {len(classes)} folders; must be at most {MOST_CLASSES}")
    found = []
    for folder in classes:
        files = _entries(Path(folder.path))
        for entry in files:
            if entry.is_dir():
                raise DataError(
                    f"{entry.path}: is a folder in that of a class; {folder.path} must hold images "
                    f"alone"
                )
        if not files:
            raise DataError(f"{folder.path}: holds no images; remove this folder, or fill it")
        found += [(Path(entry.path), folder.name) for entry in files]
        if len(found) > _MOST_FILES:
            raise DataError(f"{path}: holds more than {_MOST_FILES} files")
    return found


def parsed_size(text: str) -> tuple[int, int]:
    """Return the height and width of --image-size, such as 32 or 32x48."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


# --- images --------------------------------------------------------------------------------------


def common_shape(
    files: Sequence[Path],
    size: tuple[int, int] | None,
    contents: Sequence[bytes] | None = None,
) -> tuple[tuple[int, int, int], str]:
    """Return the shape [H, W, C] of all images, and what is to be done to them, in words."""
    sizes = _each(lambda file, path: size_of(path, file), files, contents)
    channels = 1 if all(grey for *_, grey in sizes) else 3
    if size is None:
        counts = Counter((height, width) for height, width, _ in sizes)
        ((height, width), _) = counts.most_common(1)[0]
        for path, (*other, _) in zip(files, sizes, strict=True):
            if tuple(other) != (height, width):
                raise DataError(
                    f"{path}: has {other[0]}x{other[1]} pixels, other images {height}x{width}; "
                    f"--image-size {height}x{width} brings all to one size"
                )
        words = ""
    else:
        height, width = size
        words = ", brought to one size"
    if channels == 3 and any(grey for *_, grey in sizes):
        words += ", the grey ones made colour"
    return (height, width, channels), words


def decoded(
    files: Sequence[Path], shape: tuple[int, ...], contents: Sequence[bytes] | None = None
) -> np.ndarray:
    """Decode images, each brought to a shape.

    Args:
        files: their paths.
        shape: [H, W, C].
        contents: of the files; None to read them.

    Returns:
        uint8 [N, H, W, C].

    Raises:
        DataError: one is no image or damaged, or they are too large together.
    """
    if len(files) * int(np.prod(shape)) > MOST_VALUES:
        raise DataError(
            f"{files[0].parent}: {len(files)} images of {'x'.join(map(str, shape))} have more than "
            f"{MOST_VALUES} values; a smaller --image-size helps"
        )
    images = np.empty((len(files), *shape), np.uint8)
    rows = {path: row for row, path in enumerate(files)}

    def decode(file: IO[bytes], path: Path) -> None:
        images[rows[path]] = picture(path, file, shape, 255)[0][0]

    _each(decode, files, contents)
    return images


def _each(
    work: Callable[[IO[bytes], Path], T],
    files: Sequence[Path],
    contents: Sequence[bytes] | None = None,
) -> list[T]:
    """Return what `work` makes of each file; the error of the first one that has one."""

    def one(number: int) -> T:
        path = files[number]
        if contents is not None:
            return work(io.BytesIO(contents[number]), path)
        regular_file(path)
        with path.open("rb") as file:
            return work(file, path)

    # Pillow decodes outside of Python's lock.
    with quiet(), warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # What matters of them is checked.
        return list(pool.map(one, range(len(files))))
