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
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro

from train import tfds_reader
from train.command_line import answer
from train.prepare import DataError, check_name, data_folder, prepare
from train.tfds_reader import Examples

__all__ = ["NAMES", "DataError", "Dataset", "first", "held_out", "largest_pixel", "load", "main"]

NAMES = ("digits", "synth", "mnist", "cifar10")


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
    return _dataset(name, *tfds_reader.read(name, data_folder(data_dir)))


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


def validation_part(
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


def _dataset(
    name: str, description: str, train: Examples, test: Examples, classes: tuple[str, ...]
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
