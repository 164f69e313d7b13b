"""The numbers that tell runs of one shape apart: data to the compiled program."""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax.numpy as jnp

from train.flags.config import FLAGS, TRACED

_Numbers: Any = cast(Any, namedtuple)("_Numbers", TRACED, defaults=[None] * (len(TRACED) - 1))


class Hyper(_Numbers):  # type: ignore[misc]  # It is known when `config` is read.
    """The traced flags of a run by name, scalars float32; None where the run does without.

    An array and None are different programs (None costs nothing), two arrays are the same one.
    """

    __slots__ = ()


def hyperparameters(flags: Mapping[str, Any]) -> Hyper:
    """Return the numbers among the flags of a run as arrays, None where they have no effect."""
    values = {name: flags.get(name) for name in TRACED}
    return Hyper(
        **{
            name: None if value is None or value == FLAGS[name].off else jnp.float32(value)
            for name, value in values.items()
        }
    )


def stack(hypers: Sequence[Hyper]) -> Hyper:
    """Return the numbers of several runs as arrays [runs]; some may do without what others have."""
    columns: dict[str, Any] = {}
    for name, column in zip(TRACED, zip(*hypers, strict=True), strict=True):
        off = FLAGS[name].off or 0.0
        numbers = [off if value is None else value for value in column]
        none = all(value is None for value in column)
        columns[name] = None if none else jnp.asarray(numbers, jnp.float32)
    return Hyper(**columns)
