"""Move arrays between host and devices."""

from collections.abc import Callable
from typing import Any

import numpy as np


def on_host(tree: Any) -> Any:
    """Return arrays of JAX as NumPy's, wherever they lie; of typed random keys, the data."""
    import jax
    from jax.experimental.multihost_utils import process_allgather

    def fetched(leaf: Any) -> Any:
        leaf = key_data(leaf)
        if here(leaf) or leaf.is_fully_replicated:
            return np.asarray(leaf)
        return np.asarray(process_allgather(leaf, tiled=True))

    return jax.tree.map(fetched, tree)


def here(leaf: Any) -> bool:
    """Whether an array lies on the devices of this process alone, or is one of NumPy."""
    return getattr(leaf, "is_fully_addressable", True)


def key_data(leaf: Any) -> Any:
    """Return an array, or of typed random keys, the data."""
    import jax

    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def is_key(leaf: Any) -> bool:
    """Whether an array is one of typed random keys."""
    import jax

    return jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key)


def placed(tree: Any, sharding: Any) -> Any:
    """Put arrays that each process has on the devices; each moves what its own devices hold."""
    import jax

    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> Any:
        data = np.asarray(key_data(leaf))
        found = assembled(data.shape, sharding, data.__getitem__)
        return jax.random.wrap_key_data(found) if is_key(leaf) else found

    return jax.tree.map(put, tree)


def assembled(shape: tuple[int, ...], sharding: Any, part: Callable[[Any], np.ndarray]) -> Any:
    """Return an array on the devices; `part(index)` is called for what those of this process hold.

    Args:
        shape: of the whole.
        sharding: where its parts lie; None for the one device.
        part: a tuple of slices to the array there.
    """
    import jax

    if sharding is None:
        return jax.device_put(part((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, sharding, part)
