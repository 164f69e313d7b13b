"""The examples of a run: in which order they are taken, and as what the network sees them."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from train.data import Dataset


class Data(NamedTuple):
    """Examples on the device; the network sees (x - shift) * scale.

    Attributes:
        x: uint8 or float32 [N, H, W, C] of images, float32 [N, features] of tables.
        y: int32 [N], labels in [0, classes); or of a regression, floating [N, outputs].
        shift: float32, of the shape of an input.
        scale: float32 []; of tables [features].
        weight: floating [N], how much each example counts; None for all alike. Only
            `Program.train_batches` reads it.
    """

    x: jax.Array
    y: jax.Array
    shift: jax.Array
    scale: jax.Array
    weight: jax.Array | None = None


def batches(seed: int, examples: int, batch_size: int, start: int = 0) -> Iterator[np.ndarray]:
    """Yield the examples of each step, without end.

    The first epoch takes the examples in the order in which they are stored, every later one in a
    new random order; the remainder that fills no batch is dropped.

    Args:
        seed: the seed of the order.
        examples: how many there are.
        batch_size: how many a step takes; at most `examples`.
        start: the step to begin with.

    Yields:
        int32 [batch_size]: a function of the seed and the number of the step alone.
    """
    # By NumPy on the host: a permutation of 50 000 takes it 0.5 ms, and jax.random.permutation
    # 22 ms on a CPU (443 ms for twenty under vmap), as much as fifteen steps of a small network.
    per_epoch = examples // batch_size
    for epoch in itertools.count(start // per_epoch):
        order = np.arange(examples, dtype=np.int32)
        if epoch > 0:
            np.random.default_rng([seed, epoch]).shuffle(order)
        yield from order[: per_epoch * batch_size].reshape(per_epoch, batch_size)[
            start % per_epoch if epoch == start // per_epoch else 0 :
        ]


# --- what the network sees -----------------------------------------------------------------------


class Sets(NamedTuple):
    """What a run is trained and evaluated on; no validation set where nothing is held out."""

    train: Data
    validation: Data | None
    test: Data


# Images that are computed with in float32 at a time: 12 MB of CIFAR-10's.
_CHUNK = 1000


class Affine(NamedTuple):
    """What the network sees of inputs x: (x - shift) * scale.

    Attributes:
        shift: float32, of the shape of an input.
        scale: float32 []; of rows of a table [features].
    """

    shift: np.ndarray
    scale: np.ndarray


def learned(dataset: Dataset, preprocessing: str, held: range = range(0)) -> Affine:
    """Return the preprocessing, as the training examples that are not held out make it.

    Args:
        dataset: the inputs.
        preprocessing: of images "standardize", for pixels minus the mean training image, divided by
            the standard deviation of that difference over all pixels; "mean-image", for pixels as
            stored minus the mean training image; "unit", for pixels in [0, 1]. Of the rows of a
            table "standardize", for each number minus its mean, divided by its standard deviation;
            one that is always the same becomes 0, and words stay 0 or 1.
        held: the training examples that are held out to validate on.
    """
    x = dataset.x_train[_kept(dataset, held)]
    if x.ndim == 2:
        return _of_columns(x, dataset.schema.is_number)
    shift, scale = np.zeros(x.shape[1:], np.float32), 1.0
    if preprocessing == "unit":
        scale = 1.0 / dataset.white
    else:
        shift = x.mean(0, dtype=np.float64).astype(np.float32)
    if preprocessing == "standardize":
        squares = 0.0
        for chunk in np.array_split(x, len(x) // _CHUNK + 1):
            difference = (chunk - shift).ravel()
            squares += float(difference @ difference)
        # Images that are all the same leave nothing to scale.
        scale = math.sqrt(x.size / squares) if squares else 1.0
    return Affine(shift, np.array(scale, np.float32))


def _of_columns(x: np.ndarray, is_number: np.ndarray) -> Affine:
    """Return what standardises each column of numbers."""
    shift = np.where(is_number, x.mean(0, dtype=np.float64), 0.0).astype(np.float32)
    # From the shift as it is subtracted, so that a large mean leaves no part of itself.
    deviation = np.sqrt(np.mean(np.square(x - shift, dtype=np.float64), 0))
    constant = is_number & (x == x[0]).all(0)
    with np.errstate(divide="ignore", over="ignore"):
        scale = np.where(is_number, 1 / deviation, 1.0).astype(np.float32)
    return Affine(shift, np.where(constant | ~np.isfinite(scale), np.float32(0), scale))


def _kept(dataset: Dataset, held: range) -> np.ndarray:
    return np.r_[: held.start, held.stop : len(dataset.y_train)]


def on_device(
    dataset: Dataset,
    preprocessing: str,
    held: range = range(0),
    affine: Affine | None = None,
) -> Sets:
    """Put the training, validation and test sets on the device.

    Args:
        dataset: the inputs and labels.
        preprocessing: see `learned`.
        held: the training examples that are held out to validate on.
        affine: the preprocessing, where it is known; None to learn it.
    """
    affine = learned(dataset, preprocessing, held) if affine is None else affine
    placed = jax.device_put(tuple(affine))

    def data(x: np.ndarray, y: np.ndarray) -> Data:
        return Data(jax.device_put(x), jax.device_put(y), *placed)

    kept, part = _kept(dataset, held), slice(held.start, held.stop)
    validation = data(dataset.x_train[part], dataset.y_train[part]) if held else None
    return Sets(
        data(dataset.x_train[kept], dataset.y_train[kept]),
        validation,
        data(dataset.x_test, dataset.y_test),
    )
