"""The numbers that tell runs of one shape apart: data to the compiled program."""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax.numpy as jnp

from train.flags.config import FLAGS, TRACED, Own, Run, declared, flags

_Numbers: Any = cast(Any, namedtuple)("_Numbers", [*TRACED, "own"], defaults=[None] * len(TRACED))


class Hyper(_Numbers):  # type: ignore[misc]  # It is known when `config` is read.
    """The traced flags of a run by name, scalars float32; None where the run does without.

    An array and None are different programs (None costs nothing), two arrays are the same one.
    `own` are the numbers of a network of one's own by name; None of any other network.
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


def of_run(run: Run) -> Hyper:
    """Return the numbers of a run as `hyperparameters` does, with those of a network of one's own.

    One of these that is None is left out.
    """
    if not isinstance(run.network, Own):
        return hyperparameters(flags(run))
    known, values = declared(type(run)), vars(run.network)
    numbers = {
        name: jnp.float32(value)
        for name, value in values.items()
        if known[name].traced and value is not None
    }
    return hyperparameters(vars(run.training))._replace(own=numbers)


def stack(hypers: Sequence[Hyper]) -> Hyper:
    """Return the numbers of several runs as arrays [runs]; some may do without what others have."""
    columns: dict[str, Any] = {}
    for name, column in zip(TRACED, zip(*hypers, strict=True), strict=False):
        off = FLAGS[name].off or 0.0
        numbers = [off if value is None else value for value in column]
        none = all(value is None for value in column)
        columns[name] = None if none else jnp.asarray(numbers, jnp.float32)
    own = [hyper.own for hyper in hypers]
    if own[0] is not None:
        columns["own"] = {
            name: jnp.asarray([numbers[name] for numbers in own], jnp.float32) for name in own[0]
        }
    return Hyper(**columns)
