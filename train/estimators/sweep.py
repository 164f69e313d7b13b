"""Fits that a search has done already, of many estimators in one program."""

import contextvars
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.estimators.architecture import Shape
from train.estimators.run import Run


@dataclass(eq=False)
class Fit:
    """A fit that is done.

    Attributes:
        parameters: of the estimator.
        run: what was trained.
        x: the matrix that the run has its rows in; likewise y and weight, of all its rows.
        rows: int [n], all examples of the fit, in their order.
    """

    parameters: dict[str, Any]
    run: Run
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    rows: np.ndarray

    def is_of(self, parameters: dict[str, Any], x: Any, y: Any, weight: Any) -> bool:
        """Whether an estimator with these parameters and arrays would be fitted as this one was."""
        if self.parameters.keys() != parameters.keys() or len(self.rows) != len(x):
            return False
        for name, value in parameters.items():
            mine = self.parameters[name]
            generators = isinstance(value, np.random.RandomState) and isinstance(mine, type(value))
            if not generators and (type(mine) is not type(value) or mine != value):
                return False
        if (self.weight is None) != (weight is None):
            return False
        same = self.weight is None or np.array_equal(self.weight[self.rows], weight)
        return bool(
            same
            and x.shape[1] == self.x.shape[1]
            and np.array_equal(self.y[self.rows], y)
            and np.array_equal(self.x[self.rows], x)
        )


@dataclass
class Done:
    """The fits of a search.

    Attributes:
        fits: in the order in which the search will ask for them.
        compiled: what was compiled for them.
    """

    fits: list[Fit]
    compiled: Mapping[Shape, Any]


_DONE: contextvars.ContextVar[Done | None] = contextvars.ContextVar("done", default=None)


@contextmanager
def done(fits: Done) -> Iterator[None]:
    """A context in which estimators take over these fits instead of training."""
    token = _DONE.set(fits)
    try:
        yield
    finally:
        _DONE.reset(token)


def taken(estimator: Any, x: np.ndarray, y: np.ndarray, weight: Any) -> Run | None:
    """Return what was trained for a fit, once; None where it was not."""
    found = _DONE.get()
    if found is None:
        return None
    parameters = estimator.get_params(deep=False)
    for number, fit in enumerate(found.fits):
        if fit.is_of(parameters, x, y, weight):
            return found.fits.pop(number).run
    return None


def compiled() -> Mapping[Shape, Any]:
    """Return what a search around this fit has compiled."""
    found = _DONE.get()
    return {} if found is None else found.compiled
