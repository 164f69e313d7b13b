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
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from train.allowed import Refusal
from train.data import Dataset

SETS = ("train", "validation", "test")

# How to tell the best of several evaluations.
BEST: dict[str, Callable[[Iterable[float]], float]] = {"loss": min, "accuracy": max}

# Flags that tell runs of one configuration apart, or that do not change what a run comes to.
_NOT_OF_CONFIGURATION = ("seed", "fold", "data_dir", "out", "resume", "tensorboard")

Record = dict[str, Any]  # A line of metrics.jsonl.


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """There is nothing to close."""

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


# --- the parts of summary.json -------------------------------------------------------------------


def row(
    config: dict[str, Any],
    seeds: Sequence[int],
    parameters: int,
    runs: Sequence[Sequence[Record]],
    *,
    folds: Sequence[int] | None = None,
    diverged: Sequence[int | None] | None = None,
    stopped: Sequence[int | None] | None = None,
) -> dict[str, Any]:
    """Return the results of one configuration.

    Args:
        config: the flags that make it, by name.
        seeds: the seed of each run.
        parameters: how many numbers the network learns.
        runs: the evaluations of each run.
        folds: the part of the training set that each run held out, with k-fold cross-validation.
        diverged: the step at which the loss of each run was not finite; None where it always was.
        stopped: the step at which each run ran out of patience; None where it did not.

    Returns:
        `config`, `seeds`, `folds`, `parameters`, `diverged`, `stopped` and, per metric (the loss
        and accuracy of train, validation and test, as far as there are any), "final" and "best"
        (the lowest loss, the highest accuracy of the evaluations), each with mean, standard
        deviation and values over the runs; None for runs that diverged, which the mean leaves out.
    """
    steps = list(diverged or [None] * len(seeds))
    result = {
        "config": config,
        "seeds": list(seeds),
        "folds": None if folds is None else list(folds),
        "parameters": parameters,
        "diverged": steps,
        "stopped": list(stopped or [None] * len(seeds)),
    }
    for name, (kind, best) in itertools.product(SETS, BEST.items()):
        metric = f"{name}_{kind}"
        if not any(metric in record for records in runs for record in records):
            continue
        seen = [
            [r[metric] for r in records if r[metric] is not None] if step is None else None
            for records, step in zip(runs, steps, strict=True)
        ]
        result[metric] = {
            "final": spread([values[-1] if values else None for values in seen]),
            "best": spread([best(values) if values else None for values in seen]),
        }
    return result


def configuration(flags: dict[str, Any]) -> dict[str, Any]:
    """Return those flags of a run that make its configuration."""
    return {name: v for name, v in flags.items() if name not in _NOT_OF_CONFIGURATION}


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation (divided by n - 1; 0 for one value) of some values.

    None counts for nothing, and where there is nothing else, both are None.
    """
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    std = (statistics.stdev(known) if len(known) > 1 else 0.0) if known else None
    return {"mean": mean, "std": std, "values": list(values)}


def judge(*rows: dict[str, Any]) -> str:
    """Return the set by which configurations are told apart: validation where all have one."""
    return "validation" if all("validation_accuracy" in row for row in rows) else "test"


def rank(row: dict[str, Any], name: str) -> tuple[float, float]:
    """Return what sorts configurations: by mean final accuracy on a set, the best first.

    Where that is the same, by loss; those of which every run diverged come last.
    """
    accuracy, loss = (row[f"{name}_{kind}"]["final"]["mean"] for kind in ("accuracy", "loss"))
    return (math.inf, math.inf) if accuracy is None else (-accuracy, loss)


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what tells a data set from another."""
    return {
        "name": dataset.name,
        "description": dataset.description,
        "fingerprint": dataset.fingerprint,
        "train_examples": len(dataset.train_labels),
        "test_examples": len(dataset.test_labels),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of what the results depend on."""
    found = {"python": platform.python_version()}
    for package in ("jaxnets", "jax", "jaxlib", "optax", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"  # jaxnets in a checkout.
    return found
