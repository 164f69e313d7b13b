"""What every op asks of its arguments, so that each rule sees one dtype and one placement."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def floating(name: str, value: ArrayLike) -> jax.Array:
    """Return `value` as an array; TypeError unless its dtype is a real floating one."""
    array = as_array(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} must have a floating dtype (bfloat16, float16, float32, float64); "
            f"got {array.dtype}{list(array.shape)}"
        )
    return array


def as_array(name: str, value: ArrayLike) -> jax.Array:
    """Return `value` as an array; TypeError for what is none."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):  # Words, None, rows of different lengths.
        raise TypeError(f"{name} must be an array or a number; got {value!r}") from None


def floating_scalar(name: str, value: ArrayLike, dtype: jnp.dtype) -> jax.Array:
    """Return `value`, a number that may be traced, as a `dtype` scalar; ValueError for a shape."""
    array = as_array(name, value)
    if array.shape != ():
        raise ValueError(f"{name} must be a scalar; got shape {list(array.shape)}")
    return floating(name, array.astype(dtype) if array.dtype.kind in "biu" else array).astype(dtype)


def concrete(value: ArrayLike) -> np.ndarray | None:
    """Return `value` as a NumPy array where it is known, None where it is traced."""
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def known_number(name: str, value: Any) -> float | None:
    """Return a real number as a float, None where it is traced.

    Raises:
        TypeError: `value` is something else, such as a word.
        ValueError: it has a shape.
    """
    try:
        known = concrete(value)
    except (TypeError, ValueError):  # A random key, rows of different lengths.
        known = np.asarray(None)
    if known is None:
        return None
    if not (jnp.issubdtype(known.dtype, jnp.floating) or known.dtype.kind in "biu"):
        raise TypeError(f"{name} must be a number; got {value!r}")
    if known.shape != ():
        raise ValueError(f"{name} must be a scalar; got shape {list(known.shape)}")
    return float(known)


def positive(name: str, value: Any) -> float:
    """Return a positive number as a float; ValueError for another, TypeError for a traced one."""
    known = known_number(name, value)
    if known is None:
        raise TypeError(f"{name} must be a number that is known before tracing; got {value}")
    if not known > 0:
        raise ValueError(f"{name} must be positive; got {value}")
    return known


def check_fraction(name: str, value: Any, *, one: bool = True) -> None:
    """Raise ValueError unless a number lies in [0, 1], or in [0, 1) without `one`, or is traced."""
    known = known_number(name, value)
    if known is not None and not (0 <= known <= 1 and (one or known < 1)):
        raise ValueError(f"{name} must lie in [0, {'1]' if one else '1)'}; got {value}")


def fraction(name: str, value: ArrayLike, dtype: jnp.dtype, *, one: bool = True) -> jax.Array:
    """Return a number as `check_fraction` allows it; a traced one outside of the range as NaN."""
    check_fraction(name, value, one=one)
    number = floating_scalar(name, value, dtype)
    if concrete(value) is not None:
        return number
    inside = (number >= 0) & ((number <= 1) if one else (number < 1))
    # Added as a constant, so that a backward need not keep anything for it.
    return number + jax.lax.stop_gradient(jnp.where(inside, 0.0, jnp.nan).astype(dtype))


def whole_number(name: str, value: Any) -> int:
    """Return a whole number as an int; TypeError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {value!r}") from None


def flag(name: str, value: Any) -> bool:
    """Return True or False as such, NumPy's and JAX's too; TypeError for what is merely truthy."""
    known = concrete(value)
    if known is None or known.dtype != bool or known.shape != ():
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return bool(known)


def before_last(vector: jax.Array, ndim: int) -> jax.Array:
    """Return `vector` [C] with axes of size 1 before it, `ndim` axes in all.

    So that it can be added to an array of as many axes where `jax_numpy_rank_promotion` forbids the
    vector itself.
    """
    return jax.lax.expand_dims(vector, range(ndim - vector.ndim))


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
