"""Files that are whole or not there, and their checksums.

A file is written under another name, handed to the disk, and then takes its own name. No symbolic
link is followed on the way: a link that lies where the file belongs is replaced.
"""

import contextlib
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

# The checksums of the files beside it, as `sha256sum --check` reads them.
MANIFEST = "manifest.sha256"

# What a kill leaves of a file that was being written.
PARTIAL = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` at the end: a reader never sees a part of it.

    Raises:
        OSError: it cannot be written. What `path` held before is still there.
    """
    # A name that nobody knows, since two commands may write the same file at the same time.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(partial, flags, 0o666), "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        synchronise(path.absolute().parent)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; a number that is not finite becomes null."""
    with replacing(path) as file:
        file.write(rendered_json(_finite(value)))


def rendered_json(value: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parsed_json(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object as the standard has it.

    Raises:
        ValueError: it is none, a key is there twice, or a number is not finite.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is there twice")
        return found

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError(f"{digits[:20]} is not finite")
        return number

    text = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=finite, parse_float=finite
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{text[:20]!r} is not an object")
    return value


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rendered(digests: Mapping[str, str]) -> str:
    """Return the lines of a manifest: of each file by its name, the sha256."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def odd_below(path: Path) -> Path | None:
    """Return what is at `path` or below it and neither file nor folder: a link, a pipe, a device.

    None where there is nothing of the kind.
    """
    for found in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            mode = found.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return found
    return None


def synchronise(path: Path) -> None:
    """Hand a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
