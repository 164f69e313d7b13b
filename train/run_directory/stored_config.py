"""config.json of a run directory: read, and held to what the command line allows."""

import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from train.data import Dataset
from train.data.sources import may_be_data
from train.errors import ConfigError, StoreError
from train.flags.config import ConvnetRun, Lockstep, MlpRun, Run, Source, declared, flags, parts
from train.flags.constraints import check_value
from train.flags.declaration import Flag
from train.flags.sweep import varying
from train.run_directory import files
from train.run_directory.directory import check_links
from train.run_directory.manifest import CONFIG, identities, identity, read_manifest
from train.run_directory.summary import End, is_number

# The commands that train networks of this project, with the dataclass of their flags. No other is
# ever imported because a run directory names it.
COMMANDS: dict[str, type[Run]] = {kind.command: kind for kind in (MlpRun, ConvnetRun)}

# Trains a network of one's own, whose code a run directory names, and whose keywords are flags.
CUSTOM = "train.custom"


class NoConfig(StoreError):
    """One line: there is no config.json, or it is that of something other than a run."""


class Config(NamedTuple):
    """What config.json says.

    Attributes:
        command: the module that trained, such as train.mlp.
        fingerprint: that of the data set.
        given: the flags as they were given, by name: a value, or a list of several.
        runs: the flags of each run, by name.
        identities: what a checkpoint of it may be marked with.
        source: the code of its network, where that is not of this project.
    """

    command: str
    fingerprint: str
    given: dict[str, Any]
    runs: list[dict[str, Any]]
    identities: tuple[str, ...]
    source: Source | None = None


def read_config(path: Path) -> Config:
    """Read config.json of a run directory.

    Raises:
        NoConfig: it is not that of a run.
        StoreError: it is damaged, or a flag in it is not what the command line allows.
        OSError: it cannot be read.
    """
    check_links(path)
    file = path / CONFIG
    try:
        content = files.parsed_json(file.read_bytes())
    except ValueError as error:
        raise NoConfig(f"{file} is damaged: {error}") from error
    manifest = read_manifest(path)
    if manifest is not None and identity(content) != manifest.identity:
        raise StoreError(
            f"{file} does not say what it said when {files.MANIFEST} was written: put it back from "
            f"a copy, or train again with another --out"
        )
    known = identities(content)
    command, fingerprint = content.pop("command", None), content.pop("fingerprint", None)
    given, differing = content.pop("flags", None), content.pop("runs", [{}])
    legs = content.pop("before", [])
    if not (isinstance(command, str) and isinstance(given, dict) and isinstance(fingerprint, str)):
        raise NoConfig(f"{file} is not that of a training command")
    if command not in {*COMMANDS, CUSTOM}:
        raise StoreError(f"{path}: there is no command {shown(command)} here")
    kind, source = COMMANDS.get(command, Run), None
    hints, known_flags = _hints(kind), declared(kind)
    on_command_line = hints | typing.get_type_hints(Lockstep, include_extras=True)
    try:
        if command == CUSTOM:
            source, keywords = _own(content.pop("network", None), set(on_command_line))
            hints, on_command_line = hints | keywords, on_command_line | keywords
        if not isinstance(differing, list) or not all(isinstance(run, dict) for run in differing):
            raise ConfigError('"runs" is not a list of objects')
        if not differing or any(run.keys() != differing[0].keys() for run in differing):
            raise ConfigError('"runs" do not differ in the same flags')
        _check_flags(
            ((name, v) for part in (content, *differing) for name, v in part.items()),
            hints,
            known_flags,
        )
        runs = [{**content, **values} for values in differing]
        for name in {"dataset", "seed"} - runs[0].keys():
            raise ConfigError(f"{name}: is missing")
        _check_legs(legs, len(runs))
        several = [(name, value) for name, v in given.items() for value in _listed(v)]
        for name, value in several:
            if name in ("out", "resume") or str(value).startswith("--"):
                raise ConfigError(f"{name} {shown(value)}: does not belong there")
        _check_flags(several, on_command_line, known_flags)
    except ConfigError as error:
        raise StoreError(f"{file} is damaged: {error}") from error
    return Config(command, fingerprint, given, runs, known, source)


def _own(network: Any, taken: set[str]) -> tuple[Source, dict[str, Any]]:
    """Return the code of a network of one's own, and the hint of each keyword.

    Args:
        network: what config.json says of it.
        taken: the names of other flags.

    Raises:
        ConfigError: it does not say where the code is and which keywords it has.
    """
    named: dict[str, Any] = network if isinstance(network, dict) else {}
    name, digest = named.get("function"), named.get("sha256")
    keywords: Any = named.get("keywords")
    if not (isinstance(name, str) and isinstance(digest, str) and isinstance(keywords, list)):
        raise ConfigError('"network" does not name a function and its keywords')
    if not all(isinstance(word, str) and word not in taken for word in keywords):
        raise ConfigError('"network" names a keyword that cannot be one')
    hint: Any = float | str | int | None
    return Source(name, digest), dict.fromkeys(keywords, hint)


def _check_legs(legs: Any, runs: int) -> None:
    """Raise a `ConfigError` unless these are what `RunDirectory.extend` writes of earlier ends."""
    if not isinstance(legs, list) or not all(isinstance(leg, dict) for leg in legs):
        raise ConfigError('"before" is not a list of objects')
    for leg in legs:
        names, mark, ends = leg.get("runs"), leg.get("metrics"), leg.get("results")
        texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
        marks = isinstance(mark, dict) and isinstance(mark.get("sha256"), str)
        if not texts or not marks or not _is_count(mark.get("bytes")):
            raise ConfigError('"before" does not name a run and its metrics')
        if not isinstance(ends, list) or len(ends) != runs:
            raise ConfigError(f'"before" does not say how {runs} runs ended')
        for end in ends:
            counts = isinstance(end, list) and len(end) == len(End._fields)
            if not counts or not all(is_number(value, 2**63) for value in end):
                raise ConfigError(f"the end {shown(end)} of a run is none")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _hints(kind: type[Run]) -> dict[str, Any]:
    """The types of all flags of a run, by name."""
    return {
        name: hint
        for part in parts(kind).values()
        for name, hint in typing.get_type_hints(part, include_extras=True).items()
    }


def check_flags(values: Iterable[tuple[str, Any]], kind: type[Run]) -> None:
    """Raise a `ConfigError` unless these are flags of a run, with values that they may have."""
    _check_flags(values, _hints(kind), declared(kind))


def _check_flags(
    values: Iterable[tuple[str, Any]], hints: Mapping[str, Any], known: Mapping[str, Flag]
) -> None:
    """Raise a `ConfigError` unless these are flags, with values that the command line allows."""
    # Each once, since a sweep may have 100,000 runs; ascii() tells 1 from 1.0 and True.
    for name, value in {(name, ascii(value)): (name, value) for name, value in values}.values():
        if name not in hints:
            raise ConfigError(f"{shown(name)}: there is no such flag")
        if not _is(value, hints[name]) or (name == "dataset" and not may_be_data(value)):
            raise ConfigError(f"{name} {shown(value)}: is no value of this flag")
        check_value(name, value, known)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a type of a flag."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _is(value, parts[0])
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, part) for part in parts)
    if hint is Path:
        return isinstance(value, str) and "\0" not in value
    if hint is float:
        return type(value) in (int, float) and abs(value) < sys.float_info.max
    return value is None if hint is type(None) else type(value) is hint


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def shown(value: Any) -> str:
    """Return what a file says as a part of a line."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def stored(folder: Path, kind: type[Run], flag: str = "--resume") -> Config:
    """Return what config.json says of a run.

    Args:
        folder: the run directory.
        kind: the dataclass of a run of the command that is to resume it.
        flag: the one that names the folder.

    Raises:
        StoreError: it is no run directory, or that of another command or network.
    """
    try:
        config = read_config(folder)
    except OSError as error:
        raise StoreError(
            f"{flag} {folder}: must be a run directory; {CONFIG} cannot be read: {error.strerror}"
        ) from error
    except NoConfig as error:
        raise StoreError(
            f"{flag} {folder}: must be a run directory; {CONFIG} is damaged or another's"
        ) from error
    if config.command != kind.command:
        raise StoreError(
            f"{flag} {folder}: is a run of python -m {config.command}, not of {kind.command}"
        )
    check_source(folder, config.source, kind.source)
    return config


def check_source(folder: Path, before: Source | None, now: Source | None) -> None:
    """Raise a `StoreError` unless a network is made by the code that a run was begun with."""
    if before is None or now is None:
        return
    if before.function != now.function:
        raise StoreError(f"{folder} is a run of {before.name}, not of {now.name}")
    if before.sha256 != now.sha256:
        raise StoreError(
            f"{folder} is a run of {before.name}, whose source has changed since: put it back as "
            f"it was (sha256 {before.sha256[:12]}...), or train again with another --out"
        )


def check_data(folder: Path, kind: type[Run], dataset: Dataset) -> None:
    """Raise a `StoreError` unless a run was begun on these data."""
    before = stored(folder, kind).fingerprint
    if before != dataset.fingerprint:
        raise StoreError(
            f"{folder} is a run on {dataset.name} with fingerprint {before}, not "
            f"{dataset.fingerprint}: name the folder of those data with --data-dir"
        )


def trained_by(kind: type[Run]) -> dict[str, Any]:
    """Return what config.json says of the command, and of the code of the network."""
    if kind.source is None:
        return {"command": kind.command}
    keywords = [field.name for field in dataclasses.fields(parts(kind)["network"])]
    network = {"function": kind.source.name, "sha256": kind.source.sha256, "keywords": keywords}
    return {"command": kind.command, "network": network}


def configuration(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what config.json says: the flags, and under "runs" what differs from run to run."""
    differing, values = varying(runs), [flags(run) for run in runs]
    names = [name for name in values[0] if name not in differing and name != "resume"]
    config = {name: values[0][name] for name in names}
    if differing:
        config["runs"] = [{name: run[name] for name in differing} for run in values]
    return config
