"""What the flags allow: ranges, flags that go together, defaults that depend on others."""

import ctypes
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from train.errors import ConfigError
from train.flags.config import Machines, R, flags, replaced

AUGMENTATIONS = ("flip", "shift", "cutout")


def hidden_widths(hidden: str) -> tuple[int, ...]:
    """Parse the widths of hidden layers, "500-100" or "3x1000".

    Returns:
        The widths, or () where the text is not understood, or names a width of 0 or above a
        million, or more than a thousand layers.
    """
    widths: list[int] = []
    for part in hidden.split("-"):
        match = re.fullmatch(r"(?:([0-9]{1,4})x)?([0-9]{1,7})", part)
        if match is None:
            return ()
        widths += [int(match[2])] * int(match[1] or 1) or [0]
    allowed = len(widths) <= 1000 and all(1 <= width <= 1_000_000 for width in widths)
    return tuple(widths) if allowed else ()


def augmentations(augment: str) -> tuple[str, ...] | None:
    """Parse the random changes of an image, "none" or "flip-shift".

    Returns:
        Their names, in the order in which they are made; None where the text is not understood.
    """
    names = [] if augment == "none" else augment.split("-")
    if len(set(names)) < len(names) or not set(names) <= set(AUGMENTATIONS):
        return None
    return tuple(name for name in AUGMENTATIONS if name in names)


# --- what is allowed -----------------------------------------------------------------------------


class Allowed(NamedTuple):
    """What one value of a flag must be, as a test and in words."""

    test: Callable[[Any], bool]
    words: str


_AT_LEAST_1 = Allowed(lambda n: 1 <= n < 2**31, "a whole number from 1 on, below 2^31")
_POSITIVE = Allowed(lambda x: 0 < x < math.inf, "positive and finite in float32")
_NOT_NEGATIVE = Allowed(lambda x: 0 <= x < math.inf, "not negative and finite in float32")
_FINITE = Allowed(lambda x: -math.inf < x < math.inf, "finite in float32")
_BELOW_1 = Allowed(lambda x: 0 <= x < 1, "at least 0 and below 1 in float32")

# Comparisons with NaN are false, so none of these lets it through.
ALLOWED = {
    "hidden": Allowed(
        lambda text: bool(hidden_widths(text)),
        "1 to 1000 widths, each from 1 to 1000000, joined by -, such as 100, 500-100 or 3x1000",
    ),
    "dropout": _BELOW_1,
    "initial_std": _POSITIVE,
    "negative_slope": _FINITE,
    "alpha": _POSITIVE,
    "validation": Allowed(
        lambda x: 0 <= x < 1 or (1 <= x < 2**31 and x == int(x)),
        "0 for none, a share below 1, or a whole number",
    ),
    "train_examples": _AT_LEAST_1,
    "test_examples": _AT_LEAST_1,
    "folds": Allowed(lambda n: 2 <= n <= 1000, "a whole number from 2 to 1000"),
    "augment": Allowed(
        lambda text: augmentations(text) is not None,
        f"none, or some of {', '.join(AUGMENTATIONS)}, joined by -",
    ),
    "learning_rate": _POSITIVE,
    "decay": Allowed(lambda x: 0 < x <= 1, "above 0 and at most 1 in float32"),
    "decay_epochs": _AT_LEAST_1,
    "warmup_steps": Allowed(lambda n: 0 <= n < 2**31, "a whole number from 0 on, below 2^31"),
    "momentum": _BELOW_1,
    "weight_decay": _NOT_NEGATIVE,
    "clip_norm": _POSITIVE,
    "l2": _NOT_NEGATIVE,
    "label_smoothing": Allowed(lambda x: 0 <= x <= 1, "from 0 to 1"),
    "steps": _AT_LEAST_1,
    "epochs": _AT_LEAST_1,
    "batch_size": _AT_LEAST_1,
    "patience": _AT_LEAST_1,
    "eval_every": _AT_LEAST_1,
    "seeds": Allowed(lambda n: 1 <= n <= 10_000, "a whole number from 1 to 10000"),
    "search": Allowed(
        lambda text: bool(re.fullmatch(r"random:[1-9][0-9]{0,4}", text)),
        "random: and how many configurations, such as random:40",
    ),
    "lockstep": Allowed(
        lambda n: n == "auto" or 1 <= n < 2**31, "auto, or a whole number from 1 on, below 2^31"
    ),
    "seed": Allowed(lambda n: 0 <= n < 2**32, "a whole number from 0 on, below 2^32"),
    "coordinator": Allowed(
        lambda text: bool(re.fullmatch(r".+:[1-9][0-9]{0,4}", text)),
        "a machine and a free port of it, such as 10.0.0.1:7000",
    ),
    "processes": _AT_LEAST_1,
    "process_id": Allowed(lambda n: 0 <= n < 2**31, "a whole number from 0 on, below 2^31"),
}


class Needs(NamedTuple):
    """A flag that has an effect only with some values of another, and its default with each."""

    flag: str
    other: str
    defaults: dict[str, Any]


NEEDS = (
    Needs("initial_std", "initializer", {"normal": 1e-4}),
    Needs("negative_slope", "activation", {"leaky_relu": 0.01}),
    Needs("alpha", "activation", {"elu": 1.0}),
    Needs("momentum", "optimizer", dict.fromkeys(("momentum", "nesterov", "lars"), 0.9)),
    Needs(
        "weight_decay",
        "optimizer",
        dict.fromkeys(("adamw", "nadamw", "lion", "lamb", "lars", "muon"), 0.01),
    ),
    Needs("decay", "schedule", {"exponential": 0.95, "step": 0.1}),
    Needs("decay_epochs", "schedule", {"step": 10}),
)

DEFAULT_STEPS = 1500
DEFAULT_VALIDATION = 0.1

# Of each two, one at most is given.
_EITHER = (("steps", "epochs"), ("validation", "folds"))


def option(name: str) -> str:
    """Return the flag of a field: `learning_rate` is --learning-rate."""
    return "--" + name.replace("_", "-")


def check_value(name: str, value: Any) -> None:
    """Raise a `ConfigError` where a value of a flag is out of range; None stands for a default."""
    allowed = ALLOWED.get(name)
    # In float32, as the run computes: 1e-50 is not positive there, nor 0.999999999 below 1.
    seen = ctypes.c_float(value).value if isinstance(value, float) else value
    if allowed is not None and value is not None and not allowed.test(seen):
        raise ConfigError(f"{option(name)} {value}: must be {allowed.words}")


def check_together(values: Mapping[str, Sequence[Any]]) -> None:
    """Raise a `ConfigError` where flags, each with its values, do not go together."""
    for need in NEEDS:
        given = values.get(need.flag, (None,))
        if given != (None,) and not set(values[need.other]) & set(need.defaults):
            raise ConfigError(
                f"{option(need.flag)} {_words(given)}: is used with {option(need.other)} "
                f"{' or '.join(need.defaults)} alone; got {_words(values[need.other])}"
            )
    for one, other in _EITHER:
        if values[one] != (None,) and values[other] != (None,):
            raise ConfigError(
                f"{option(other)} {_words(values[other])}: must be left out where {option(one)} "
                f"is given; got {option(one)} {_words(values[one])}"
            )
    if values["patience"] != (None,) and values["validation"] == (0,):
        raise ConfigError(
            f"--patience {_words(values['patience'])}: needs images to validate on; "
            f"got --validation 0"
        )
    norms = set(values.get("norm", ())) & {"batch"}
    if values["gradient_norms"] == (True,) and norms:
        raise ConfigError(
            "--gradient-norms: single examples have no gradient of their own with --norm batch; "
            "leave one of the two out"
        )


def check_machines(machines: Machines, dry_run: bool) -> None:
    """Raise a `ConfigError` where the flags of several machines do not go together."""
    named = {name: getattr(machines, name) for name in ("coordinator", "processes", "process_id")}
    for name, value in named.items():
        check_value(name, value)
        if value is not None and not machines.distributed:
            raise ConfigError(f"{option(name)} {value}: is used with --distributed alone")
    absent = [option(name) for name, value in named.items() if value is None]
    if 0 < len(absent) < len(named):
        raise ConfigError(f"{absent[0]}: is missing; it goes with the others of several machines")
    processes, process_id = machines.processes, machines.process_id
    if processes is not None and process_id is not None and process_id >= processes:
        raise ConfigError(
            f"--process-id {process_id}: must be below {processes}, the number of --processes"
        )
    if machines.distributed and dry_run:
        raise ConfigError(
            "--dry-run: measures on this machine, and says what more devices would take; leave "
            "--distributed out"
        )


def _words(values: Sequence[Any]) -> str:
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def completed(run: R) -> R:
    """Return the run with the defaults that depend on others, and None where there is no effect."""
    values = flags(run)
    found: dict[str, Any] = {}
    for need in NEEDS:
        default = need.defaults.get(str(values.get(need.other)))
        given = values.get(need.flag)
        found[need.flag] = default if default is None or given is None else given
    if values["steps"] is None and values["epochs"] is None:
        found["steps"] = DEFAULT_STEPS
    if values["validation"] is None and values["folds"] is None:
        found["validation"] = DEFAULT_VALIDATION
    return replaced(run, found)
