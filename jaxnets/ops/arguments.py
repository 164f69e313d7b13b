"""What every op asks of its arguments, so that each rule sees one dtype and one placement."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def floating(name: str, value: ArrayLike) -> jax.Array:
    """Return `value` as an array; TypeError unless its dtype is a real floating one."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} must have a floating dtype (bfloat16, float16, float32, float64); "
            f"got {array.dtype}{list(array.shape)}"
        )
    return array


def floating_scalar(name: str, value: ArrayLike, dtype: jnp.dtype) -> jax.Array:
    """Return `value`, a number that may be traced, as a `dtype` scalar; ValueError for a shape."""
    array = jnp.asarray(value)
    if array.shape != ():
        raise ValueError(f"{name} must be a scalar; got shape {list(array.shape)}")
    return floating(name, array.astype(dtype) if array.dtype.kind in "biu" else array).astype(dtype)


def concrete(value: ArrayLike) -> np.ndarray | None:
    """Return `value` as a NumPy array where it is known, None where it is traced."""
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def one_dtype(**arrays: ArrayLike) -> list[jax.Array]:
    """Return the named arrays promoted to their common floating dtype."""
    values = [floating(name, value) for name, value in arrays.items()]
    dtype = jnp.result_type(*values) if len({v.dtype for v in values}) > 1 else values[0].dtype
    return [value.astype(dtype) for value in values]


def varying_together(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Return `arrays`, each varying over every manual mesh axis over which any of them does.

    Inside `jax.shard_map` a replicated weight meets a sharded batch, and its gradient is the sum
    over the shards. Casting the weight *outside* of the rule leaves that sum to the transpose of
    the cast, so that a backward needs no collective. Elsewhere this returns its argument.
    """
    axes = [_varying_axes(array) for array in arrays]
    union = frozenset().union(*axes)
    return [
        jax.lax.pcast(array, tuple(sorted(union - own, key=str)), to="varying")
        if union - own
        else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def _varying_axes(array: jax.Array) -> frozenset:
    aval = jax.typeof(array)
    # The attribute was called `vma` up to jax 0.9.
    return aval.vma if hasattr(aval, "vma") else aval.manual_axis_type.varying


def sharding_of(array: jax.Array):
    """Return the sharding in `array`'s type under a mesh with explicit axes, else None.

    A product contracted over a sharded axis has no one sharding of its result: a backward says
    that a gradient lies where its input lies.
    """
    sharding = jax.typeof(array).sharding
    explicit = jax.sharding.AxisType.Explicit
    return sharding if explicit in sharding.mesh.axis_types else None


def accumulation_dtype(*dtypes: jnp.dtype) -> jnp.dtype:
    """Return the widest of `dtypes`, float32 at least: sums of 8-bit mantissas lose their terms."""
    return max((jnp.dtype(jnp.float32), *dtypes), key=lambda dtype: jnp.finfo(dtype).bits)


def widened(*arrays: jax.Array) -> list[jax.Array]:
    """Return `arrays` in the dtype in which a rule computes: their widest, float32 at least."""
    dtype = accumulation_dtype(*(array.dtype for array in arrays))
    return [array.astype(dtype) for array in arrays]
