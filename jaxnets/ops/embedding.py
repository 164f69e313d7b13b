"""Rows of a table, looked up by number.

Symbols: table [R, C], ids [...] whole numbers, y and dy [..., C]; n runs over all entries of ids.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import (
    accumulation_dtype,
    as_array,
    floating,
    sharding_of,
    varying_together,
)


def embedding(table: ArrayLike, ids: ArrayLike) -> jax.Array:
    """Look up rows of a table, y_n = table[ids_n].

    Args:
        table: [R, C], floating.
        ids: [...], integer, in [0, R).

    Returns:
        [..., C], the table's dtype. An id outside [0, R) gives a row of NaN and adds nothing to the
        gradient, a negative one too: compiled code cannot raise, as PyTorch does, and `jnp.take`
        would count a negative one from the end.

    Raises:
        TypeError: the table is not floating, or ids are not integers.
        ValueError: the table is not [R, C].

    Example:
        `ops.embedding(table, jnp.array([3, 0, 3]))` is [3, C]; row 3 gets the gradients of both.

    Source: Bengio et al., A neural probabilistic language model (2003), section 2, the mapping C.
    """
    table = floating("table", table)
    ids = as_array("ids", ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"ids must have an integer dtype; got {ids.dtype}{list(ids.shape)}")
    if table.ndim != 2:
        raise ValueError(f"embedding: table must be [rows, features]; got {list(table.shape)}")
    table, ids = varying_together([table, ids])
    return _embedding(table, ids, table.shape[0], sharding_of(table))


# y_nc = sum_r [ids_n = r] table_rc, so
#
#   dtable_rc = sum_n [ids_n = r] dy_nc
#
# the sum of the cotangent's rows by id, float32 at least, because a row that is looked up often
# would lose the terms of its sum in half precision. It takes the ids, and nothing of the table.


def _plain_embedding(table, ids, rows, sharding):
    placed = sharding_of(ids)
    out_sharding = None
    if placed is not None:
        spec = jax.sharding.PartitionSpec(
            *placed.spec, None if sharding is None else sharding.spec[1]
        )
        out_sharding = jax.sharding.NamedSharding(placed.mesh, spec)
    return table.at[ids].get(
        mode="fill",
        fill_value=jnp.nan,
        wrap_negative_indices=False,
        out_sharding=out_sharding,
    )


_embedding = jax.custom_vjp(_plain_embedding, nondiff_argnums=(2, 3))


def _embedding_fwd(table, ids, rows, sharding):
    # Of the table its dtype is all that is needed.
    return _plain_embedding(table, ids, rows, sharding), ids


def _embedding_bwd(rows, sharding, ids, dy):
    wide = dy.astype(accumulation_dtype(dy.dtype))
    zeros = jnp.zeros((rows, dy.shape[-1]), wide.dtype)
    dtable = zeros.at[ids].add(
        wide, mode="drop", wrap_negative_indices=False, out_sharding=sharding
    )
    return dtable.astype(dy.dtype), None


_embedding.defvjp(_embedding_fwd, _embedding_bwd)
