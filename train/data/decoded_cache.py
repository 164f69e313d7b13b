"""Keeps decoded data sets, because decoding takes longer than reading the result."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from train.cache import cache_folder
from train.data.dataset import Dataset, sealed

# Raise it when the same files are to become other arrays, or are stored in another way.
_FORMAT = 1

# Their versions may change what is decoded, or which examples are held out.
_DECODERS = ("numpy", "pillow", "scikit-learn")

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_PARTIAL = ".partial"
_STALE = 3600.0  # Seconds after which nobody still writes to such a file.


def kept(make: Callable[[], Dataset], name: str, files: Sequence[Path], options: object) -> Dataset:
    """Return a data set as it was decoded before; decode and keep it where it was not.

    Args:
        make: decodes it; its schema is that of images without columns.
        name: of the data set.
        files: what is decoded, with different names. Where one is not a file, nothing is kept.
        options: what else determines the result; JSON can hold it.

    Raises:
        ConfigError: other users can write to the folder that XDG_CACHE_HOME names.
    """
    folder = cache_folder("decoded")
    key = None if folder is None else _key(name, files, options)
    if folder is None or key is None:
        return make()
    path = folder / f"{key}.npz"
    found = _read(path)
    if found is None:
        found = make()
        with contextlib.suppress(OSError):  # The disk is full, or may not be written.
            _write(path, found)
    return found


def _key(name: str, files: Sequence[Path], options: object) -> str | None:
    """Return the sha256 of all that determines the result; None where a file cannot be read."""
    try:
        contents = {path.name: _digest(path) for path in files}
    except OSError:
        return None
    versions = {package: _version(package) for package in _DECODERS}
    determined = [_FORMAT, name, contents, options, versions]
    return hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    if not path.is_file():  # A pipe would not end.
        raise OSError(f"{path} is not a file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # To decode may not need it.
        return ""


def _read(path: Path) -> Dataset | None:
    """Return what was written; None where it is missing, or is damaged and therefore deleted."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            text = stored["about"].tobytes()
            if stored["digest"].tobytes() != hashlib.sha256(text).digest():
                raise ValueError("about is damaged")
            about = json.loads(text)
            x_train, y_train, x_test, y_test = (stored[array] for array in _ARRAYS)
        found = sealed(
            about["name"],
            about["description"],
            (x_train, y_train),
            (x_test, y_test),
            tuple(about["classes"]),
        )
        if found.fingerprint != about["fingerprint"]:
            raise ValueError("an array is damaged")
    except FileNotFoundError:
        return None
    except Exception:  # A damaged file surfaces as whatever a library stumbles over.
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return found


def _write(path: Path, dataset: Dataset) -> None:
    """Write a data set; other processes see all of the file or nothing."""
    about = {name: getattr(dataset, name) for name in ("name", "description", "classes")}
    text = json.dumps({**about, "fingerprint": dataset.fingerprint}).encode()
    arrays = {name: getattr(dataset, name) for name in _ARRAYS}
    for other in path.parent.glob(f"*{_PARTIAL}"):  # Its process was killed.
        if time.time() - other.stat().st_mtime > _STALE:
            other.unlink()
    handle, partial = tempfile.mkstemp(_PARTIAL, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            np.savez(
                file,
                about=np.frombuffer(text, np.uint8),
                digest=np.frombuffer(hashlib.sha256(text).digest(), np.uint8),
                **arrays,
            )
        os.replace(partial, path)
    except BaseException:  # A signal, too.
        Path(partial).unlink(missing_ok=True)
        raise
