"""Data sets as arrays: digits, synth, MNIST and CIFAR-10.

    python -m train.data show digits
    python -m train.data prepare mnist --from ~/Downloads
    python -m train.data prepare cifar10 --from ~/Downloads --data-dir ~/datasets

`digits` comes with scikit-learn, `synth` is drawn at random. `mnist` and `cifar10` are read from a
folder that TensorFlow Datasets (TFDS) prepared as array_record files, or that the command `prepare`
wrote; neither TensorFlow nor a network is needed, and nothing is ever downloaded.
"""

import dataclasses
import hashlib
import os
import re
import struct
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from train.command_line import answer
from train.prepare import DataError, check_name, data_folder, how_to_prepare, prepare

__all__ = ["NAMES", "DataError", "Dataset", "first", "held_out", "largest_pixel", "load", "main"]

NAMES = ("digits", "synth", "mnist", "cifar10")

_IMAGE_SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}

_Examples = tuple[np.ndarray, np.ndarray]  # Images and labels.


@dataclass(frozen=True)
class Dataset:
    """Images and labels in memory; the arrays are read-only.

    Attributes:
        name: one of `NAMES`.
        description: one line about where the data come from.
        train_images: uint8 [N, H, W, C]; float32 of synth.
        train_labels: int32 [N], indices into `classes`.
        test_images: uint8 [M, H, W, C]; float32 of synth.
        test_labels: int32 [M].
        classes: the name of each class.
        fingerprint: sha256 (hexadecimal) over name, shape, dtype and bytes of the four arrays.
    """

    name: str
    description: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a data set into memory.

    The examples keep the order that they are stored in, except that those with an `id`
    (CIFAR-10) are sorted by it, which is the order of the original files.

    Args:
        name: one of `NAMES`.
        data_dir: the folder of TFDS data sets; by default $TFDS_DATA_DIR, else
            ~/tensorflow_datasets. `digits` and `synth` need none.

    Returns:
        The images, the labels, and what is known about them.

    Raises:
        DataError: the name is unknown, or the data are missing, incomplete or damaged.
    """
    check_name(name, NAMES)
    if name in ("digits", "synth"):
        return _load_digits() if name == "digits" else _draw_synth()
    return _load_prepared(name, data_folder(data_dir))


def first(dataset: Dataset, train: int | None, test: int | None) -> Dataset:
    """Return the data set with its first examples alone; None for all of a split."""
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:train],
        train_labels=dataset.train_labels[:train],
        test_images=dataset.test_images[:test],
        test_labels=dataset.test_labels[:test],
    )


def largest_pixel(name: str) -> int:
    """Return the value of a white pixel in a data set."""
    return {"digits": 16, "synth": 1}.get(name, 255)


def held_out(
    examples: int, validation: float | None, folds: int | None = None, fold: int | None = None
) -> range:
    """Return which training images are held out to validate on.

    Args:
        examples: how many training images there are.
        validation: a share of them below 1, or a number; the last ones are taken.
        folds: into how many parts of equal size they are divided instead; up to `folds` - 1 are
            left over at the end, and are never held out.
        fold: which of the parts is held out, from 0 on.

    Returns:
        Their indices.
    """
    if folds is not None and fold is not None:
        size = examples // folds
        return range(fold * size, (fold + 1) * size)
    assert validation is not None  # One of the two is given in a complete run.
    count = round(validation * examples) if validation < 1 else int(validation)
    return range(examples - count, examples)


def _load_digits() -> Dataset:
    """The 1797 digits of scikit-learn, 8x8 pixels from 0 to 16; 360 of them are for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images.astype(np.uint8)[..., None],
        digits.target.astype(np.int32),
        test_size=360,
        random_state=0,
        stratify=digits.target,
    )
    description = "Handwritten digits of 8x8 pixels with values 0 to 16, from scikit-learn."
    classes = tuple(str(digit) for digit in digits.target_names)
    train, test = (train_images, train_labels), (test_images, test_labels)
    return _dataset("digits", description, train, test, classes)


def _draw_synth() -> Dataset:
    """70000 points of the plane, x ~ N(0, I), as images of 1x2 pixels; 60000 are for training.

    The class is whether x^T Q x > 0.6 with Q = [[1, -0.05], [1, 0.4]], an ellipse's outside.
    """
    points = np.random.default_rng(0).standard_normal((70_000, 2))
    form = np.array([[1.0, -0.05], [1.0, 0.4]])
    labels = (np.einsum("ni,ij,nj->n", points, form, points) > 0.6).astype(np.int32)
    images = points.astype(np.float32).reshape(-1, 1, 2, 1)
    description = "Random points of the plane, inside or outside an ellipse."
    train, test = (images[:60_000], labels[:60_000]), (images[60_000:], labels[60_000:])
    return _dataset("synth", description, train, test, ("inside", "outside"))


def _load_prepared(name: str, folder: Path) -> Dataset:
    """Reads the TFDS data set `name` below `folder`."""
    version = _find_version(name, folder)  # Before the import, so that an error comes at once.

    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(version)
    except Exception as error:  # Damaged files surface as whatever TFDS stumbles over.
        raise _damaged(name, version, error) from error
    info = builder.info
    if info.file_format.value != "array_record":
        raise DataError(
            f"{version} is stored as {info.file_format.value}, which cannot be read without "
            f"TensorFlow; {how_to_prepare(name, folder / 'array_record')}"
        )
    train = _read_split(name, version, info, "train")
    test = _read_split(name, version, info, "test")
    description = " ".join(info.description.split())
    return _dataset(name, description, train, test, tuple(info.features["label"].names))


def _dataset(
    name: str, description: str, train: _Examples, test: _Examples, classes: tuple[str, ...]
) -> Dataset:
    """Puts a data set together: seals its arrays, and computes their fingerprint."""
    arrays = dict(
        train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1]
    )
    digest = hashlib.sha256()
    for key, array in arrays.items():
        array.flags.writeable = False
        digest.update(f"{key} {array.shape} {array.dtype.str} ".encode())
        digest.update(array.data)
    return Dataset(name, description, **arrays, classes=classes, fingerprint=digest.hexdigest())


def _find_version(name: str, folder: Path) -> Path:
    """The folder of the newest version of `name`; raises a `DataError` where there is none."""
    versions = [
        path for path in folder.glob(f"{name}/*") if re.fullmatch(r"\d+(\.\d+)*", path.name)
    ]
    if not versions:
        problem = f"holds no {name}" if folder.is_dir() else "is not a folder"
        raise DataError(
            f"{folder} {problem}; name another as data_dir or in TFDS_DATA_DIR, or "
            f"{how_to_prepare(name, folder)}"
        )
    version = max(versions, key=lambda path: [int(number) for number in path.name.split(".")])
    for file_name in ("dataset_info.json", "features.json"):
        if not (version / file_name).is_file():
            raise _damaged(name, version, f"{file_name} is missing")
    return version


def _damaged(name: str, version: Path, problem: object) -> DataError:
    """The error that `version` is incomplete or damaged, in one line."""
    return DataError(
        f"{version} is incomplete or damaged: {' '.join(str(problem).split())}; delete that folder "
        f"and {how_to_prepare(name, version.parent.parent)}"
    )


def _read_split(name: str, version: Path, info: Any, split: str) -> _Examples:
    """Images, uint8 [N, H, W, C], and labels, int32 [N], of one split, checked."""
    # TFDS's own `as_data_source` takes 120 µs for an example of CIFAR-10 (two cores, one of them
    # busy), 7 s for all 60000: 30 µs to unpack it and 90 µs in Pillow's `Image.open`. The records
    # (12 µs) are therefore parsed (14 µs) and decoded (50 µs, in threads) here: 3.4 s for all.
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from tensorflow_datasets.proto import tf_example_pb2

    if split not in info.splits:
        raise _damaged(name, version, f"it has no split {split!r}, only {', '.join(info.splits)}")
    expected = info.splits[split].num_examples
    if expected == 0:
        raise _damaged(name, version, f"the split {split!r} is empty")
    try:
        source = ArrayRecordDataSource([os.fspath(path) for path in info.splits[split].filepaths])
        records = source.__getitems__(range(len(source)))
    except RuntimeError as error:
        raise _damaged(name, version, error) from error
    if len(records) != expected:
        problem = f"{split!r} holds {len(records)} examples, dataset_info.json says {expected}"
        raise _damaged(name, version, problem)

    with_id = "id" in info.features
    examples = []
    for record in records:
        feature = tf_example_pb2.Example.FromString(record).features.feature
        label = feature["label"].int64_list.value[0]
        png = feature["image"].bytes_list.value[0]
        examples.append((feature["id"].bytes_list.value[0] if with_id else b"", label, png))
    examples.sort(key=lambda example: example[0])  # Without ids the order stays as it is.
    labels = np.array([label for _, label, _ in examples])
    number_of_classes = len(info.features["label"].names)
    if labels.min() < 0 or labels.max() >= number_of_classes:
        problem = f"labels of {split!r} go from {labels.min()} to {labels.max()}"
        raise _damaged(name, version, f"{problem} instead of 0 to {number_of_classes - 1}")
    try:
        images = _decode([png for _, _, png in examples], _IMAGE_SHAPES[name])
    except (ValueError, zlib.error) as error:
        raise _damaged(name, version, f"in {split!r}, {error}") from error
    return images, labels.astype(np.int32)


def _decode(pngs: list[bytes], shape: tuple[int, int, int]) -> np.ndarray:
    """Decodes PNG files of `shape` [H, W, C] to uint8 [N, H, W, C]; else raises a `ValueError`."""
    from PIL import Image

    height, width, channels = shape
    mode, color_type = {1: ("L", 0), 3: ("RGB", 2)}[channels]
    # The signature, then the header: length, type, width, height, 8 bits, colours, not interlaced.
    header = struct.pack(
        ">8sI4sIIBBBBB", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", width, height, 8, color_type, 0, 0, 0
    )

    def filtered_rows(png: bytes) -> bytes:
        if not png.startswith(header):
            raise ValueError(f"an image is not a PNG of {height}x{width} pixels in mode {mode}")
        compressed = b""
        start = 8
        while start < len(png):  # The chunks: length, type, data, checksum.
            (length,) = struct.unpack_from(">I", png, start)
            if png[start + 4 : start + 8] == b"IDAT":
                compressed += png[start + 8 : start + 8 + length]
            start += 12 + length
        return zlib.decompress(compressed)

    images = np.empty((len(pngs), *shape), np.uint8)

    def decode(start: int) -> None:
        batch = pngs[start : start + 500]
        # One tall image. PNG's filters look at the row above, which for the first row is zero:
        # so a row of zeros parts the images.
        rows = np.zeros((len(batch), 1 + height, 1 + width * channels), np.uint8)
        filtered = np.frombuffer(b"".join(map(filtered_rows, batch)), np.uint8)
        rows[:, 1:] = filtered.reshape(len(batch), height, -1)
        size = (width, len(batch) * (1 + height))
        tall = Image.frombytes(mode, size, zlib.compress(rows.tobytes(), level=0), "zip", mode)
        images[start : start + 500] = np.asarray(tall).reshape(-1, 1 + height, *shape[1:])[:, 1:]

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(0, len(pngs), 500)))
    return images


_Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="The data set.")]
_Archives = Annotated[
    Path, tyro.conf.arg(name="from", metavar="DIR", help="Folder that holds the archives.")
]
_DataDir = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help="Folder of data sets.",
        help_behavior_hint="(default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    ),
]


class _Show(NamedTuple):
    """Print what is known about a data set: digits, synth, mnist or cifar10.

    python -m train.data show digits
    python -m train.data show mnist
    python -m train.data show cifar10 --data-dir ~/datasets
    """

    name: _Name
    data_dir: _DataDir = None


class _Prepare(NamedTuple):
    """Prepare a data set, mnist or cifar10, from its original archives.

    python -m train.data prepare mnist --from ~/Downloads
    python -m train.data prepare cifar10 --from .
    python -m train.data prepare cifar10 --from ~/Downloads --data-dir ~/datasets
    """

    name: _Name
    source: _Archives
    data_dir: _DataDir = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit status, see `command_line.answer`."""

    def work(asked: _Show | _Prepare) -> None:
        if isinstance(asked, _Prepare):
            print(prepare(*asked))
        else:
            _show(load(*asked))

    return answer(
        {"prepare": _Prepare, "show": _Show},
        work,
        arguments,
        "python -m train.data",
        __doc__,
    )


def _show(dataset: Dataset) -> None:
    print(f"name         {dataset.name}")
    print(f"description  {dataset.description}")
    for split, images in (("train", dataset.train_images), ("test", dataset.test_images)):
        print(f"{split:12} {images.dtype} {list(images.shape)}")
    print(f"fingerprint  {dataset.fingerprint}")
    print(f"\n{'class':12} {'train':>6} {'test':>6}")
    for label, class_name in enumerate(dataset.classes):
        train, test = (dataset.train_labels == label).sum(), (dataset.test_labels == label).sum()
        print(f"{class_name:12} {train:6} {test:6}")


if __name__ == "__main__":
    sys.exit(main())
