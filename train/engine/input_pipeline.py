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
        x: uint8 [N, H, W, C], or float32.
        y: int32 [N], labels in [0, classes); or of a regression, floating [N, outputs].
        shift: float32 [H, W, C].
        scale: float32 [].
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


def on_device(dataset: Dataset, preprocessing: str, held: range = range(0)) -> Sets:
    """Put the training, validation and test sets on the device.

    Args:
        dataset: the images and labels.
        preprocessing: "standardize", for pixels minus the mean training image, divided by the
            standard deviation of that difference over all pixels; "mean-image", for pixels as
            stored minus the mean training image; "unit", for pixels in [0, 1].
        held: the training images that are held out to validate on.

    Returns:
        The sets, with the shift and scale of those training images that are not held out.
    """
    kept = np.r_[: held.start, held.stop : len(dataset.y_train)]
    images, labels = dataset.x_train[kept], dataset.y_train[kept]
    shift, scale = np.zeros(images.shape[1:], np.float32), 1.0
    if preprocessing == "unit":
        scale = 1.0 / dataset.white
    else:
        shift = images.mean(0, dtype=np.float64).astype(np.float32)
    if preprocessing == "standardize":
        squares = 0.0
        for chunk in np.array_split(images, len(images) // _CHUNK + 1):
            difference = (chunk - shift).ravel()
            squares += float(difference @ difference)
        # Images that are all the same leave nothing to scale.
        scale = math.sqrt(images.size / squares) if squares else 1.0
    affine = jax.device_put((shift, np.float32(scale)))

    def data(images: np.ndarray, labels: np.ndarray) -> Data:
        return Data(jax.device_put(images), jax.device_put(labels), *affine)

    part = slice(held.start, held.stop)
    validation = data(dataset.x_train[part], dataset.y_train[part]) if held else None
    return Sets(data(images, labels), validation, data(dataset.x_test, dataset.y_test))
