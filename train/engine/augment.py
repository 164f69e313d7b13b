"""Random changes of training images, inside of the compiled step."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def augment(names: Sequence[str], key: jax.Array, x: jax.Array) -> jax.Array:
    """Change each image at random; what enters is 0.

    Args:
        names: of `flip`, `shift` and `cutout`, in the order in which they are made.
        key: a random key.
        x: [batch, H, W, C].

    Returns:
        [batch, H, W, C], of the dtype of x.
    """
    for i, name in enumerate(names):
        x = _CHANGES[name](jax.random.fold_in(key, i), x)
    return x


def flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Each image left to right, with probability 1/2."""
    flipped = jax.random.bernoulli(key, shape=(x.shape[0], 1, 1, 1))
    return jnp.where(flipped, x[:, :, ::-1], x)


def shift(key: jax.Array, x: jax.Array) -> jax.Array:
    """Each image by up to an eighth of its height and of its width, evenly among all shifts."""
    batch, height, width, channels = x.shape
    most = jnp.asarray([height // 8, width // 8])
    pads = ((0, 0), (height // 8,) * 2, (width // 8,) * 2, (0, 0))
    offsets = jax.random.randint(key, (batch, 2), 0, 2 * most + 1)

    def crop(image, offset):
        return jax.lax.dynamic_slice(image, (*offset, 0), (height, width, channels))

    return jax.vmap(crop)(jnp.pad(x, pads), offsets)


def cutout(key: jax.Array, x: jax.Array) -> jax.Array:
    """A square of half the image's height in each, whose centre is anywhere in the image.

    Source: DeVries and Taylor, Improved regularization of convolutional neural networks with cutout
    (2017).
    """
    batch, height, width, _ = x.shape
    side = height // 2
    corner = jax.random.randint(key, (batch, 2), 0, jnp.asarray([height, width])) - side // 2

    def inside(size, start):
        position = jnp.arange(size) - start[:, None]
        return (position >= 0) & (position < side)

    erased = inside(height, corner[:, 0])[:, :, None] & inside(width, corner[:, 1])[:, None, :]
    return jnp.where(erased[..., None], jnp.zeros((), x.dtype), x)


_CHANGES = {"flip": flip, "shift": shift, "cutout": cutout}
