"""What the parameters of an estimator may be; a wrong one is a ValueError of one line."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets.nets import NORMS
from train.errors import ConfigError
from train.estimators.architecture import ACTIVATIONS, SOLVERS
from train.flags.declaration import Allowed

SCHEDULES = ("constant", "exponential", "step", "cosine", "one-cycle")


def _one_of(*names: Any) -> Allowed:
    words = ", ".join(repr(name) for name in names)
    return Allowed(lambda v: any(type(v) is type(n) and v == n for n in names), f"one of {words}")


def _whole(least: int) -> Allowed:
    def test(value):
        return isinstance(value, numbers.Integral) and not _is_flag(value) and value >= least

    return Allowed(test, f"a whole number from {least} on")


def _real(test: Any, words: str) -> Allowed:
    def passes(value):
        return isinstance(value, numbers.Real) and not _is_flag(value) and bool(test(value))

    return Allowed(passes, words)


def _either(*several: Allowed) -> Allowed:
    return Allowed(
        lambda value: any(allowed.test(value) for allowed in several),
        " or ".join(allowed.words for allowed in several),
    )


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


_FLAG = Allowed(_is_flag, "True or False")
_NOT_NEGATIVE = _real(lambda x: 0 <= x < math.inf, "a finite number, not negative")
_POSITIVE = _real(lambda x: 0 < x < math.inf, "a finite number above 0")
_BELOW_1 = _real(lambda x: 0 <= x < 1, "a number in [0, 1)")

ALLOWED = {
    "hidden_layer_sizes": Allowed(
        lambda value: widths(value) is not None,
        "whole numbers from 1 on, one for each hidden layer",
    ),
    "activation": _one_of(*ACTIVATIONS),
    "solver": _one_of(*SOLVERS),
    "alpha": _NOT_NEGATIVE,
    "batch_size": _either(_one_of("auto"), _whole(1)),
    "learning_rate": _one_of("constant", "invscaling", "adaptive"),
    "learning_rate_init": _POSITIVE,
    "power_t": _NOT_NEGATIVE,
    "max_iter": _whole(1),
    "shuffle": _FLAG,
    "tol": _NOT_NEGATIVE,
    "verbose": _either(_FLAG, _whole(0)),
    "warm_start": _FLAG,
    "momentum": _real(lambda x: 0 <= x <= 1, "a number in [0, 1]"),
    "nesterovs_momentum": _FLAG,
    "early_stopping": _FLAG,
    "validation_fraction": _BELOW_1,
    "beta_1": _BELOW_1,
    "beta_2": _BELOW_1,
    "epsilon": _POSITIVE,
    "n_iter_no_change": _either(_whole(1), _real(lambda x: x == math.inf, "inf")),
    "max_fun": _whole(1),
    "dropout": _BELOW_1,
    "norm": _one_of(None, *NORMS),
    "schedule": _one_of(*SCHEDULES),
    "weight_decay": _NOT_NEGATIVE,
    "loss": _one_of("squared_error"),
}


def widths(value: Any) -> tuple[int, ...] | None:
    """Return the widths of hidden layers, a number or several; None for anything else."""
    try:
        found = [value] if isinstance(value, numbers.Integral) else list(value)
    except TypeError:
        return None
    whole = all(_whole(1).test(n) for n in found)
    return tuple(map(int, found)) if whole and not isinstance(value, str) else None


def check(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise a ValueError where a parameter is not allowed, or has no effect with another.

    Args:
        name: of the estimator.
        parameters: as `get_params` returns them.
    """
    for parameter, value in parameters.items():
        allowed = ALLOWED.get(parameter)
        if allowed is not None and not allowed.test(value):
            raise ConfigError(f"{name}: {parameter} must be {allowed.words}; got {value!r}")
    if parameters["solver"] == "lbfgs":
        for parameter, off in (("dropout", 0.0), ("norm", None), ("schedule", "constant")):
            if parameters[parameter] not in (off, "layer", "rms"):
                raise ConfigError(
                    f"{name}: {parameter}={parameters[parameter]!r} needs a solver that takes "
                    f"batches; solver='lbfgs' takes all examples at once"
                )
