"""Data sets as arrays: digits, synth, MNIST and CIFAR-10; nothing is ever downloaded."""

import hashlib
import os
from dataclasses import dataclass

import numpy as np

from train.data import tfds_reader
from train.data.sources import SOURCES, check_name, data_folder
from train.data.tfds_reader import Examples


@dataclass(frozen=True)
class Dataset:
    """Images and labels in memory; the arrays are read-only.

    Attributes:
        name: one of `sources.SOURCES`.
        description: one line about where the data come from.
        x_train: uint8 [N, H, W, C]; float32 of synth.
        y_train: int32 [N], indices into `classes`.
        x_test: uint8 [M, H, W, C]; float32 of synth.
        y_test: int32 [M].
        classes: the name of each class.
        fingerprint: sha256 (hexadecimal) over name, shape, dtype and bytes of the four arrays.
        white: the value of a white pixel.
    """

    name: str
    description: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str
    white: int = 255


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a data set into memory.

    The examples keep the order that they are stored in, except that those with an `id`
    (CIFAR-10) are sorted by it, which is the order of the original files.

    Args:
        name: one of `sources.SOURCES`.
        data_dir: the folder of TFDS data sets; by default $TFDS_DATA_DIR, else
            ~/tensorflow_datasets. `digits` and `synth` need none.

    Returns:
        The images, the labels, and what is known about them.

    Raises:
        DataError: the name is unknown, or the data are missing, incomplete or damaged.
    """
    check_name(name, tuple(SOURCES))
    match SOURCES[name].reader:
        case "digits":
            return _load_digits()
        case "synth":
            return _draw_synth()
        case "tfds":
            return _dataset(name, *tfds_reader.read(name, data_folder(data_dir)))


def _load_digits() -> Dataset:
    """The 1797 digits of scikit-learn, 8x8 pixels from 0 to 16; 360 of them are for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images.astype(np.uint8)[..., None],
        digits.target.astype(np.int32),
        test_size=360,
        random_state=0,
        stratify=digits.target,
    )
    description = "Handwritten digits of 8x8 pixels with values 0 to 16, from scikit-learn."
    classes = tuple(str(digit) for digit in digits.target_names)
    train, test = (x_train, y_train), (x_test, y_test)
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


# How the arrays are called in the fingerprint, as in earlier versions.
_DIGESTED = ("train_images", "train_labels", "test_images", "test_labels")


def _dataset(
    name: str, description: str, train: Examples, test: Examples, classes: tuple[str, ...]
) -> Dataset:
    """Puts a data set together: seals its arrays, and computes their fingerprint."""
    arrays = dict(x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    digest = hashlib.sha256()
    for key, array in zip(_DIGESTED, arrays.values(), strict=True):
        array.flags.writeable = False
        digest.update(f"{key} {array.shape} {array.dtype.str} ".encode())
        digest.update(array.data)
    white, fingerprint = SOURCES[name].white, digest.hexdigest()
    return Dataset(
        name, description, **arrays, classes=classes, fingerprint=fingerprint, white=white
    )
