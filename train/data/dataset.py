"""A data set as arrays, and the two that are made here: digits and synth."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from train.data.schema import Schema
from train.data.sources import SOURCES

Examples = tuple[np.ndarray, np.ndarray]  # Inputs and labels.


@dataclass(frozen=True)
class Dataset:
    """Inputs and labels in memory; the arrays are read-only.

    Attributes:
        name: one of `sources.SOURCES`, that of prepared data, or of a file without its suffix.
        description: one line about where the data come from.
        x_train: uint8 or float32 [N, H, W, C] of images, float32 [N, features] of tables.
        y_train: int32 [N], indices into `classes`.
        x_test: [M, ...], likewise.
        y_test: int32 [M].
        classes: the name of each class.
        fingerprint: sha256 (hexadecimal) over name, shape, dtype and bytes of the four arrays.
        white: the value of a white pixel.
        schema: how examples of one's own become inputs.
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
    schema: Schema = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.schema is None:
            x = self.x_train
            schema = Schema(x.shape[1:], x.dtype.name, self.white)
            object.__setattr__(self, "schema", schema)


def load_digits() -> Dataset:
    """Return the 1797 digits of scikit-learn, 8x8 pixels from 0 to 16; 360 are for testing."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
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
    return sealed("digits", description, train, test, classes)


def draw_synth() -> Dataset:
    """Return 70000 points of the plane, x ~ N(0, I), as images of 1x2 pixels; 60000 to train on.

    The class is whether x^T Q x > 0.6 with Q = [[1, -0.05], [1, 0.4]], an ellipse's outside.
    """
    points = np.random.default_rng(0).standard_normal((70_000, 2))
    form = np.array([[1.0, -0.05], [1.0, 0.4]])
    labels = (np.einsum("ni,ij,nj->n", points, form, points) > 0.6).astype(np.int32)
    images = points.astype(np.float32).reshape(-1, 1, 2, 1)
    description = "Random points of the plane, inside or outside an ellipse."
    train, test = (images[:60_000], labels[:60_000]), (images[60_000:], labels[60_000:])
    return sealed("synth", description, train, test, ("inside", "outside"))


# How the arrays are called in the fingerprint, as in earlier versions.
_DIGESTED = ("train_images", "train_labels", "test_images", "test_labels")


def sealed(
    name: str,
    description: str,
    train: Examples,
    test: Examples,
    classes: tuple[str, ...],
    schema: Schema | None = None,
) -> Dataset:
    """Put a data set together: seal its arrays, and compute their fingerprint."""
    arrays = dict(x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    digest = hashlib.sha256()
    for key, array in zip(_DIGESTED, arrays.values(), strict=True):
        array.flags.writeable = False
        digest.update(f"{key} {array.shape} {array.dtype.str} ".encode())
        digest.update(array.data)
    if schema is None:
        white = SOURCES[name].white if name in SOURCES else 255
        schema = Schema(train[0].shape[1:], train[0].dtype.name, white)
    fingerprint = digest.hexdigest()
    return Dataset(
        name,
        description,
        **arrays,
        classes=classes,
        fingerprint=fingerprint,
        white=schema.white,
        schema=schema,
    )
