"""The run directory: what a run leaves behind.

config.json      the command and all flags; what differs from run to run of a sweep in a list
data.json        how the data are read, and what the network sees of them
metrics.jsonl    a line per evaluation of a run, written as it is made
summary.json     what ran where and on which data, and the results, a row per configuration
curves.png       loss and accuracy against the step
manifest.sha256  the checksums of the files above, as `sha256sum --check` reads them; of a run that
                 is not finished, those of config.json and data.json, because the others change
set-aside/       what was saved, but could not be used when the run was resumed

and, of `checkpoint_manager`, parameters/, states/ and, until the end, checkpoints/.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from train.errors import StoreError
from train.metrics import Record
from train.run_directory import files
from train.run_directory.files import MANIFEST, PARTIAL
from train.run_directory.manifest import (
    CONFIG,
    CURVES,
    DATA,
    METRICS,
    SUMMARY,
    Manifest,
    identities,
    identity,
    reaches,
    read_manifest,
)

_FOLDERS = ("parameters", "states", "checkpoints", "tensorboard", "set-aside")


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
    if path.name == METRICS:
        return path.stat().st_size == 0
    return path.suffix == PARTIAL and path.name.startswith((CONFIG, DATA, MANIFEST))


def check_links(folder: Path) -> None:
    """Raise a `StoreError` where a part of a run directory is a link, which may lead out of it.

    The folder itself may be reached through one.
    """
    for name in (CONFIG, DATA, METRICS, SUMMARY, CURVES, MANIFEST, *_FOLDERS):
        if (odd := files.odd_below(folder / name)) is not None:
            what = "a symbolic link" if odd.is_symlink() else "neither a file nor a folder"
            raise StoreError(
                f"{odd} is {what}: a run directory must hold its files itself; put a copy there"
            )


def _of_the_writer(method: Callable[..., None]) -> Callable[..., None]:
    """Let a method do nothing where another process writes the directory."""

    @functools.wraps(method)
    def written(self: "RunDirectory", *arguments: Any) -> None:
        if self.writes:
            method(self, *arguments)

    return written


class RunDirectory:
    """The files of one run; a context, which closes them.

    Attributes:
        path: the folder.
        curves: where the figure belongs.
        followers: are told of each line of metrics.jsonl.
        writes: whether this process writes the files; of several processes, one does.
    """

    def __init__(self, path: Path, writes: bool = True):
        """Open a folder, and keep other processes that would write out of it.

        Raises:
            StoreError: there is one in it already, or the folder is not as one was left.
        """
        self.path, self.writes = path, writes
        self.curves = path / CURVES
        self.followers: list[Callable[[Record], None]] = []
        self._digest, self._length = hashlib.sha256(), 0
        if not writes:
            self._metrics = (path / METRICS).open("rb", buffering=0)
            return
        check_links(path)
        self._metrics = (path / METRICS).open("ab", buffering=0)
        try:
            fcntl.flock(self._metrics, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._metrics.close()
            raise StoreError(
                f"{path}: another process trains there; wait for its end, or name another folder "
                f"with --out"
            ) from None

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

    def __exit__(self, *error: object) -> None:
        self._metrics.close()

    @_of_the_writer
    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json; raise a `StoreError` where another process did meanwhile."""
        if (self.path / CONFIG).exists():
            raise StoreError(f"{self.path}: another process trained there meanwhile")
        files.write_json(self.path / CONFIG, config)
        self._seal(CONFIG, DATA)

    @_of_the_writer
    def write_data(self, content: dict[str, Any]) -> None:
        """Write data.json, unless it says so already, or the run is finished."""
        manifest = read_manifest(self.path)
        if manifest is not None and SUMMARY in manifest.digests:
            return
        if (self.path / DATA).is_file():
            with contextlib.suppress(OSError, ValueError):
                if files.parsed_json((self.path / DATA).read_bytes()) == content:
                    return
        files.write_json(self.path / DATA, content)
        self._seal(CONFIG, DATA)

    @_of_the_writer
    def extend(self, config: dict[str, Any], results: list[Any]) -> None:
        """Make a run with more steps of a finished one: config.json says so, and of what run.

        Args:
            config: what config.json is to say.
            results: how the runs ended.
        """
        before = self.config
        content = (self.path / METRICS).read_bytes()
        mark = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        leg = {"runs": list(identities(before)), "metrics": mark, "results": results}
        # At each moment the directory is that of the one run or of the other.
        (self.path / MANIFEST).unlink(missing_ok=True)
        (self.path / SUMMARY).unlink(missing_ok=True)
        files.write_json(self.path / CONFIG, {**config, "before": [*before.get("before", []), leg]})
        self._seal(CONFIG, DATA)

    @property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        return files.parsed_json((self.path / CONFIG).read_bytes())

    @_of_the_writer
    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json and the manifest of a finished run; curves.png is there already."""
        files.write_json(self.path / SUMMARY, summary)
        self._seal(CONFIG, DATA, METRICS, SUMMARY, CURVES)

    @_of_the_writer
    def reopen(self) -> None:
        """Make an unfinished run of a finished one, before anything in it changes."""
        for path in self.path.glob(f"*{PARTIAL}"):
            if path.name.startswith((CONFIG, DATA, SUMMARY, CURVES, MANIFEST)):
                path.unlink()
        self._seal(CONFIG, DATA)
        (self.path / SUMMARY).unlink(missing_ok=True)

    def _seal(self, *names: str) -> None:
        """Write the manifest of those of these files that are there."""
        found = (name for name in names if (self.path / name).is_file())
        digests = {name: files.digest(self.path / name) for name in found}
        with files.replacing(self.path / MANIFEST) as file:
            file.write(Manifest(digests, identity(self.config)).rendered().encode())

    @_of_the_writer
    def set_aside(self, path: Path) -> None:
        """Move a folder of the run directory to set-aside/."""
        path.rename(self._aside(path))

    @_of_the_writer
    def keep_metrics(self) -> None:
        """Copy metrics.jsonl to set-aside/, before it is cut off."""
        with files.replacing(self._aside(self.path / METRICS)) as file:
            file.write((self.path / METRICS).read_bytes())

    def _aside(self, path: Path) -> Path:
        """A free path in set-aside/."""
        kept = self.path / "set-aside" / path.relative_to(self.path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        free = kept
        for number in itertools.count(2):
            if not free.exists():
                break
            free = kept.with_name(f"{kept.name}-{number}")
        return free

    @_of_the_writer
    def append(self, record: Record) -> None:
        """Add a line to metrics.jsonl, and hand it to the system."""
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            if self._metrics.write(line) < len(line):  # The next byte would not be written.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            path = self.path / METRICS
            raise OSError(f"{path} cannot be written: {error.strerror}") from error
        self._digest.update(line)
        self._length += len(line)
        for follow in self.followers:
            follow(record)

    def mark(self) -> dict[str, Any]:
        """Hand metrics.jsonl to the disk, and return how many bytes it has, with their sha256."""
        if self.writes:
            os.fsync(self._metrics.fileno())
        return {"bytes": self._length, "sha256": self._digest.hexdigest()}

    def reaches(self, mark: Mapping[str, Any]) -> bool:
        """Whether metrics.jsonl begins with what it held when `mark` was made."""
        return reaches((self.path / METRICS).read_bytes(), mark)

    @property
    def size(self) -> int:
        """How many bytes metrics.jsonl has."""
        return (self.path / METRICS).stat().st_size

    def go_back(self, size: int) -> list[Record]:
        """Cut metrics.jsonl off at so many bytes; return the lines that it has then."""
        if self.writes:
            self._metrics.truncate(size)
        content = (self.path / METRICS).read_bytes()[:size]
        self._digest, self._length = hashlib.sha256(content), len(content)
        return [json.loads(line) for line in content.splitlines()]

    @_of_the_writer
    def discard(self) -> None:
        """Remove what a run left that did not come to its first step."""
        if (self.path / "checkpoints").exists() or (self.path / "parameters").exists():
            return
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        for name in (CONFIG, DATA, METRICS, MANIFEST):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # The user's own folder may hold other things.
            self.path.rmdir()
