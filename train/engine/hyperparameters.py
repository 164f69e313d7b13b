"""The numbers that tell runs of one shape apart: data to the compiled program."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Hyper(NamedTuple):
    """The numbers of a run, scalars float32; None where the run does without.

    An array and None are different programs (None costs nothing), two arrays are the same one.
    """

    learning_rate: jax.Array
    decay: jax.Array | None = None
    momentum: jax.Array | None = None
    weight_decay: jax.Array | None = None
    clip_norm: jax.Array | None = None
    l2: jax.Array | None = None
    label_smoothing: jax.Array | None = None
    dropout: jax.Array | None = None
    negative_slope: jax.Array | None = None
    alpha: jax.Array | None = None


# What changes nothing in a run that is stacked with others which do not do without: a gradient
# below an infinite norm is not clipped.
_WITHOUT = {"clip_norm": jnp.inf}


def hyperparameters(flags: Mapping[str, Any]) -> Hyper:
    """Return the numbers among the flags of a run as arrays, None where they have no effect."""
    values: dict[str, Any] = {name: flags.get(name) for name in Hyper._fields}
    for name in ("l2", "label_smoothing", "dropout"):
        values[name] = values[name] or None  # 0 adds nothing and costs time.
    arrays = [None if value is None else jnp.float32(value) for value in values.values()]
    return Hyper._make(arrays)


def stack(hypers: Sequence[Hyper]) -> Hyper:
    """Return the numbers of several runs as arrays [runs]; some may do without what others have."""
    columns = []
    for name, column in zip(Hyper._fields, zip(*hypers, strict=True), strict=True):
        none = all(value is None for value in column)
        numbers = [_WITHOUT.get(name, 0.0) if value is None else value for value in column]
        columns.append(None if none else jnp.asarray(numbers, jnp.float32))
    return Hyper._make(columns)
