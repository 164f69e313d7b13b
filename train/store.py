"""The run directory: what a run leaves behind.

config.json     the command and all flags; what differs from run to run of a sweep in a list
metrics.jsonl   a line per evaluation of a run, written as it is made
summary.json    what ran where and on which data, and the results, a row per configuration
curves.png      loss and accuracy against the step

and, of `train.saver`, parameters/ and, until the end, checkpoints/.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from train.allowed import Refusal
from train.outcome import Record


class StoreError(Refusal):
    """One line: why a folder cannot become a run directory."""


def check_out(out: Path | None) -> None:
    """Raise a `StoreError` unless `out` is absent or an empty folder, or None."""
    if out is None or not os.path.lexists(out):
        return
    if not out.is_dir():
        raise StoreError(f"--out {out}: must be absent or an empty folder; it is a file")
    count = sum(1 for path in out.iterdir() if not _left_over(path))
    if count:
        things = "a file" if count == 1 else f"{count} files"
        raise StoreError(f"--out {out}: must be absent or an empty folder; it holds {things}")


def _left_over(path: Path) -> bool:
    """Whether a run that was killed as it began may have left it; there is nothing in it."""
    if path.name == "metrics.jsonl":
        return path.stat().st_size == 0
    return path.name == "config.json.partial"


class RunDirectory:
    """The files of one run; a context, which closes them.

    Attributes:
        path: the folder.
        curves: where the figure belongs.
        followers: are told of each line of metrics.jsonl.
    """

    def __init__(self, path: Path):
        """Open a folder, and keep other processes out of it.

        Raises:
            StoreError: there is one in it already.
        """
        self.path = path
        self.curves = path / "curves.png"
        self.followers: list[Callable[[Record], None]] = []
        self._metrics = (path / "metrics.jsonl").open("ab", buffering=0)
        try:
            fcntl.flock(self._metrics, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._metrics.close()
            raise StoreError(
                f"{path}: another process trains there; wait for its end, or name another folder "
                f"with --out"
            ) from None
        self._digest, self._length = hashlib.sha256(), 0

    @classmethod
    def create(cls, out: Path | None, name: str) -> "RunDirectory":
        """Make the folder `out`, or a new one that is called after `name` and the time.

        Raises:
            StoreError: `out` is neither absent nor empty, or cannot be made.
        """
        if out is not None:
            check_out(out)
            try:
                out.mkdir(parents=True, exist_ok=True)
                return cls(out)
            except OSError as error:
                raise StoreError(f"--out {out}: cannot be written: {error.strerror}") from error
        stem = time.strftime(f"{name}-%Y%m%d-%H%M%S")
        for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
            path = Path("runs", stem + suffix)
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:
                continue
            except OSError as error:
                raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
        raise StoreError(f"runs/{stem}: taken; name another folder with --out")

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._metrics.close()

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json; raise a `StoreError` where another process did meanwhile."""
        if (self.path / "config.json").exists():
            raise StoreError(f"{self.path}: another process trained there meanwhile")
        write_json(self.path / "config.json", config)

    @property
    def identity(self) -> str:
        """The sha256 of config.json, which tells one run from another."""
        return hashlib.sha256((self.path / "config.json").read_bytes()).hexdigest()

    def append(self, record: Record) -> None:
        """Add a line to metrics.jsonl, and hand it to the system."""
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            if self._metrics.write(line) < len(line):  # The next byte would not be written.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            path = self.path / "metrics.jsonl"
            raise OSError(f"{path} cannot be written: {error.strerror}") from error
        self._digest.update(line)
        self._length += len(line)
        for follow in self.followers:
            follow(record)

    def mark(self) -> dict[str, Any]:
        """Hand metrics.jsonl to the disk, and return how many bytes it has, with their sha256."""
        os.fsync(self._metrics.fileno())
        return {"bytes": self._length, "sha256": self._digest.hexdigest()}

    def reaches(self, mark: Mapping[str, Any]) -> bool:
        """Whether metrics.jsonl begins with what it held when `mark` was made."""
        content = (self.path / "metrics.jsonl").read_bytes()[: mark["bytes"]]
        return hashlib.sha256(content).hexdigest() == mark["sha256"]

    @property
    def size(self) -> int:
        """How many bytes metrics.jsonl has."""
        return (self.path / "metrics.jsonl").stat().st_size

    def go_back(self, size: int) -> list[Record]:
        """Cut metrics.jsonl off at so many bytes; return the lines that it has then."""
        self._metrics.truncate(size)
        content = (self.path / "metrics.jsonl").read_bytes()
        self._digest, self._length = hashlib.sha256(content), len(content)
        return [json.loads(line) for line in content.splitlines()]

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        write_json(self.path / "summary.json", summary)

    def remove_summary(self) -> None:
        """Remove summary.json, if it is there."""
        (self.path / "summary.json").unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what a run left that did not come to its first step."""
        if (self.path / "checkpoints").exists() or (self.path / "parameters").exists():
            return
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        for name in ("config.json", "metrics.jsonl"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # The user's own folder may hold other things.
            self.path.rmdir()

    def read_summary(self) -> dict[str, Any] | None:
        """Return what summary.json holds; None before the end of the run."""
        path = self.path / "summary.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


class Follower(RunDirectory):
    """A run directory that another process writes: this one reads it."""

    def __init__(self, path: Path):
        self.path, self.followers = path, []
        self.curves = path / "curves.png"
        self._metrics = (path / "metrics.jsonl").open("rb", buffering=0)

    def write_config(self, config: dict[str, Any]) -> None:
        """Leave it to the other process, as all that follows."""

    def append(self, record: Record) -> None:
        """Write nothing."""

    def mark(self) -> dict[str, Any]:
        """Return a mark of nothing."""
        return {}

    def go_back(self, size: int) -> list[Record]:
        """Return the lines that metrics.jsonl has; the other process cut it off."""
        content = (self.path / "metrics.jsonl").read_bytes()[:size]
        return [json.loads(line) for line in content.splitlines()]

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write nothing."""

    def remove_summary(self) -> None:
        """Remove nothing."""

    def discard(self) -> None:
        """Remove nothing."""


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write the whole file or nothing: a reader never sees a part of it."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
