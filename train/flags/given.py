"""The flags as they were given: read, written to config.json, and compared when a run resumes."""

import dataclasses
import inspect
import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from train.errors import ConfigError
from train.flags.command_line import read
from train.flags.config import FLAGS, ONE_VALUE, Lockstep, Machines, Run
from train.flags.constraints import option
from train.flags.declaration import data_path
from train.flags.sweep import TO_THE_END
from train.flags.typed import as_typed

# What may differ when a run is resumed: where the files are.
PLACES = ("out", "resume", "data_dir")

# How long a run is: what may be more when a finished one is trained on.
LENGTHS = ("steps", "epochs")


def words(flags: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that gives these flags; None stands for a default."""
    found = []
    for name, value in flags.items():
        several = value if isinstance(value, list) else [value]
        if value is True:
            found.append(option(name))
        elif value is not False and several != [None]:
            found += [option(name), *map(str, several)]
    return found


def of_the_runs(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that make the runs what they are, not where their files lie."""
    return {name: value for name, value in flags.items() if name not in PLACES}


def run_directory(resume: Path | None, out: Path | None) -> Path | None:
    """Return the run directory to resume; None for a new run.

    Raises:
        ConfigError: --out names another folder than --resume does.
    """
    if resume is None:
        return out if out is not None and (out / "config.json").is_file() else None
    if out is not None and out.absolute() != resume.absolute():
        raise ConfigError(f"--out {out}: must be left out where --resume is given")
    return resume


def asks_for_more(before: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Return whether a run is to be trained on: its number of steps was and is one, and another.

    Args:
        before: the flags as they were given to the run.
        values: those that are given to resume it, see `read_values`.

    Raises:
        ConfigError: its schedule leads to its end.
    """
    now = {name: v[0] for name in LENGTHS if len(v := values[name]) == 1 and v != (None,)}
    once = {name: before.get(name) for name in LENGTHS if before.get(name) is not None}
    if not now or now == once or any(isinstance(value, list) for value in once.values()):
        return False
    schedules = before.get("schedule", [])
    to_the_end = set(TO_THE_END) & {*(schedules if isinstance(schedules, list) else [schedules])}
    if to_the_end:
        name, value = next(iter(now.items()))
        raise ConfigError(
            f"{option(name)} {value}: the run has --schedule {min(to_the_end)}, which ends with "
            f"its last step, and cannot be trained on; train a longer one with another --out"
        )
    return True


def without_length(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags without those that say how long a run is."""
    return {name: value for name, value in flags.items() if name not in LENGTHS}


def check_same(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], longer: bool = False
) -> None:
    """Raise a `ConfigError` with the flags that are not the same, unless they name a place.

    Args:
        folder: the run directory.
        before: the flags as they were given to the run.
        now: the flags that are given to resume it.
        longer: whether it is trained on, and its number of steps may be another.
    """
    if longer:
        before, now = without_length(before), without_length(now)
    if data_path(str(before.get("dataset"))) and data_path(str(now.get("dataset"))):
        before = {**before, "dataset": now["dataset"]}  # Moved; the fingerprint tells others.
    different = [
        f"{option(name)} {_value(before.get(name))} (here {_value(now.get(name))})"
        for name in of_the_runs({**before, **now})
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ConfigError(
            f"{folder} is a run with {', '.join(different)}: to resume it, give these flags as "
            f"they were; for another run, name another folder with --out"
        )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not given" if value is None else str(value)


# Flags that change nothing in the runs, and may differ when they are resumed.
NOT_OF_THE_RUNS = (
    "out", "resume", "dry_run", "distributed", "coordinator", "processes", "process_id",
)  # fmt: skip


def read_values(
    kind: type[Run], arguments: Sequence[str], prog: str, about: str | None
) -> dict[str, Any]:
    """Return the values of all flags: tuples, except those of `ONE_VALUE`, sweep and machines.

    The path of data of one's own is absolute, so that a run finds them from another folder.
    """
    parsed = read(with_several_values(kind), arguments, prog, about)
    values = {
        name: value
        for part in dataclasses.fields(parsed)
        for name, value in vars(getattr(parsed, part.name)).items()
    }
    if (path := data_path(values["dataset"])) is not None:
        values["dataset"] = os.path.abspath(path)
    return values


def completed_from(before: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Give flags that are younger than a run directory the value that they had in it.

    Args:
        before: the flags as they were given to the run.
        values: all flags; those that are not given are None.
    """
    for name, flag in FLAGS.items():
        if flag.before is not ... and name not in before and values.get(name) is None:
            values[name] = flag.before


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags as config.json holds them, with absolute paths."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return value[0] if len(value) == 1 else list(value)
        return str(value.absolute()) if isinstance(value, Path) else value

    return {name: plain(v) for name, v in values.items() if name not in NOT_OF_THE_RUNS}


def with_several_values(kind: type[Run]) -> Any:
    """Return the dataclass of a run in which a flag is a tuple of values, but for `ONE_VALUE`."""

    def remade(part: type) -> type:
        fields = []
        for field in dataclasses.fields(part):
            hint = typing.get_type_hints(part, include_extras=True)[field.name]
            default: Any = field.default
            if part not in (Lockstep, Machines) and field.name not in ONE_VALUE:
                default = (default,)
                if typing.get_origin(hint) is Annotated:
                    one, *notes = typing.get_args(hint)
                    hint = Annotated[tuple[one, ...], *notes]  # type: ignore[valid-type]
                else:
                    hint = tuple[hint, ...]  # type: ignore[valid-type]
            fields.append((field.name, hint, dataclasses.field(default=default)))
        # Tyro leaves a line of its own to what begins with a digit or a dash.
        names = {"__doc__": as_typed(re.sub(r"\n {8,}", " ", inspect.getdoc(part) or ""))}
        return dataclasses.make_dataclass(part.__name__, fields, namespace=names, frozen=True)

    parts = {f.name: typing.get_type_hints(kind)[f.name] for f in dataclasses.fields(kind)}
    parts |= {"sweep": Lockstep, "machines": Machines}
    parts = {name: remade(part) for name, part in parts.items()}
    return dataclasses.make_dataclass(
        kind.__name__,
        [(name, part, dataclasses.field(default=part())) for name, part in parts.items()],
        frozen=True,
    )
