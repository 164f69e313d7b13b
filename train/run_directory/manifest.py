"""manifest.sha256 of a run directory, and what tells one run from another."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from train.errors import StoreError
from train.run_directory import files
from train.run_directory.files import MANIFEST

CONFIG, METRICS, SUMMARY, CURVES = "config.json", "metrics.jsonl", "summary.json", "curves.png"
DATA = "data.json"


def identity(config: Mapping[str, Any]) -> str:
    """Return what tells one run from another: the sha256 of what config.json says."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def identities_before(config: Mapping[str, Any]) -> list[str]:
    """Return the identities that a run had before it was trained on with more steps."""
    return [run for leg in config.get("before", []) for run in leg["runs"]]


def notes_before(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was known when the run ended that this one trains on; None for any other."""
    legs = config.get("before", [])
    return {**legs[-1], "times": []} if legs else None


def identities(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the identity of a run, and the one that earlier versions gave it."""
    return identity(config), hashlib.sha256(files.rendered_json(config)).hexdigest()


class Manifest(NamedTuple):
    """What manifest.sha256 holds.

    Attributes:
        digests: the sha256 of files by name.
        identity: that of the run. config.json is held to this instead of its own digest, so that
            another program may write it with other white space.
    """

    digests: dict[str, str]
    identity: str

    def rendered(self) -> str:
        """Return the lines; `sha256sum --check` skips the last one."""
        return f"{files.rendered(self.digests)}{_SAYS}{self.identity}\n"


_NAMES = (CONFIG, DATA, METRICS, SUMMARY, CURVES)
_SAYS = "# sha256 of what config.json says, in one line with sorted keys: "


def read_manifest(folder: Path) -> Manifest | None:
    """Read manifest.sha256; None where there is none, as of a run of an earlier version.

    Raises:
        StoreError: it is damaged.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    *lines, last = text.splitlines() or [""]
    pairs = [line.partition("  ") for line in lines]
    found = Manifest(
        {name: digest for digest, _, name in pairs if name in _NAMES},
        last.removeprefix(_SAYS),
    )
    sums = (found.identity, *found.digests.values())
    if text != found.rendered() or not all(re.fullmatch("[0-9a-f]{64}", sum_) for sum_ in sums):
        raise StoreError(
            f"{path} is damaged; without it the other files are read without their checksums, so "
            f"compare them with a copy, if there is one, and remove it"
        )
    return found


def whole(folder: Path, manifest: Manifest | None, name: str) -> bool:
    """Whether a file is as the manifest says; one that it does not name is not."""
    try:
        return manifest is not None and files.digest(folder / name) == manifest.digests.get(name)
    except OSError:
        return False


def reaches(metrics: bytes, mark: Mapping[str, Any]) -> bool:
    """Whether metrics.jsonl begins with what it held when `mark` was made."""
    return hashlib.sha256(metrics[: mark["bytes"]]).hexdigest() == mark["sha256"]
