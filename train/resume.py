"""Which run directory a command goes on with, and that its flags are those of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train import stored_config
from train.allowed import ConfigError, option
from train.data import Dataset
from train.store import CONFIG, StoreError
from train.stored_config import Config, NoConfig

# What may be another when a run goes on: where the files are.
PLACES = ("out", "resume", "data_dir")


def run_directory(resume: Path | None, out: Path | None) -> Path | None:
    """Return the run directory to go on with; None for a new run.

    Raises:
        ConfigError: --out names another folder than --resume does.
    """
    if resume is None:
        return out if out is not None and (out / "config.json").is_file() else None
    if out is not None and out.absolute() != resume.absolute():
        raise ConfigError(f"--out {out}: must be left out where --resume is given")
    return resume


def stored(folder: Path, command: str, flag: str = "--resume") -> Config:
    """Return what config.json says of a run.

    Args:
        folder: the run directory.
        command: such as "train.mlp".
        flag: the one that names the folder.

    Raises:
        StoreError: it is no run directory, or that of another command.
    """
    try:
        config = stored_config.read_config(folder)
    except OSError as error:
        raise StoreError(
            f"{flag} {folder}: must be a run directory; {CONFIG} cannot be read: {error.strerror}"
        ) from error
    except NoConfig as error:
        raise StoreError(
            f"{flag} {folder}: must be a run directory; {CONFIG} is damaged or another's"
        ) from error
    if config.command != command:
        raise StoreError(
            f"{flag} {folder}: is a run of python -m {config.command}, not of {command}"
        )
    return config


def check_data(folder: Path, command: str, dataset: Dataset) -> None:
    """Raise a `StoreError` unless a run was begun on these data."""
    before = stored(folder, command).fingerprint
    if before != dataset.fingerprint:
        raise StoreError(
            f"{folder} is a run on {dataset.name} with fingerprint {before}, not "
            f"{dataset.fingerprint}: name the folder of those data with --data-dir"
        )


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


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` with the flags that are not the same, unless they name a place."""
    different = [
        f"{option(name)} {_value(before.get(name))} (here {_value(now.get(name))})"
        for name in of_the_runs({**before, **now})
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ConfigError(
            f"{folder} is a run with {', '.join(different)}: to go on with it, give these flags as "
            f"they were; for another run, name another folder with --out"
        )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not given" if value is None else str(value)
