"""What the flags allow: ranges, flags that go together, defaults that depend on others."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from train.errors import ConfigError
from train.flags.config import FLAGS, Machines, R, declared, flags, replaced
from train.flags.declaration import Flag

DEFAULT_STEPS = 1500
DEFAULT_VALIDATION = 0.1

# Of each two, one at most is given.
_EITHER = (("steps", "epochs"), ("validation", "folds"))


def option(name: str) -> str:
    """Return the flag of a field: `learning_rate` is --learning-rate."""
    return "--" + name.replace("_", "-")


def check_value(name: str, value: Any, known: Mapping[str, Flag] = FLAGS) -> None:
    """Raise a `ConfigError` where a value of a flag is out of range; None stands for a default."""
    allowed = known[name].allowed if name in known else None
    # In float32, as the run computes: 1e-50 is not positive there, nor 0.999999999 below 1.
    seen = ctypes.c_float(value).value if isinstance(value, float) else value
    if allowed is not None and value is not None and not allowed.test(seen):
        raise ConfigError(f"{option(name)} {value}: must be {allowed.words}")


def check_together(values: Mapping[str, Sequence[Any]], known: Mapping[str, Flag] = FLAGS) -> None:
    """Raise a `ConfigError` where flags, each with its values, do not go together."""
    for name, other, defaults in _needs(known):
        given = values.get(name, (None,))
        if given != (None,) and not set(values[other]) & set(defaults):
            raise ConfigError(
                f"{option(name)} {_words(given)}: is used with {option(other)} "
                f"{' or '.join(defaults)} alone; got {_words(values[other])}"
            )
    for one, other in _EITHER:
        if values[one] != (None,) and values[other] != (None,):
            raise ConfigError(
                f"{option(other)} {_words(values[other])}: must be left out where {option(one)} "
                f"is given; got {option(one)} {_words(values[one])}"
            )
    for name in ("patience", "keep"):
        if values[name] not in ((None,), ("last",)) and values["validation"] == (0,):
            raise ConfigError(
                f"{option(name)} {_words(values[name])}: needs images to validate on; "
                f"got --validation 0"
            )
    norms = set(values.get("norm", ())) & {"batch"}
    if values["gradient_norms"] == (True,) and norms:
        raise ConfigError(
            "--gradient-norms: single examples have no gradient of their own with --norm batch; "
            "leave one of the two out"
        )


def _needs(known: Mapping[str, Flag]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the flags that need another, with it and the default with each of its values."""
    for name, flag in known.items():
        if flag.needs is not None:
            yield name, *flag.needs


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
    for name, other, defaults in _needs(declared(type(run))):
        default, given = defaults.get(str(values.get(other))), values.get(name)
        found[name] = default if default is None or given is None else given
    if values["steps"] is None and values["epochs"] is None:
        found["steps"] = DEFAULT_STEPS
    if values["validation"] is None and values["folds"] is None:
        found["validation"] = DEFAULT_VALIDATION
    if values["keep"] is None:
        found["keep"] = "last" if values["patience"] is None else "best"
    return replaced(run, found)
