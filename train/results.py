"""Run directories read back: of finished runs, and of those that were interrupted."""

import importlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from train import outcome
from train.config import Run, replaced
from train.outcome import Record
from train.prepare import data_folder
from train.store import StoreError


class Results(NamedTuple):
    """What a run directory holds.

    Attributes:
        path: the folder.
        command: the module that trained, such as train.mlp.
        fingerprint: that of the data set.
        runs: the flags of each run, by name.
        records: the evaluations of each run.
        summary: what summary.json holds; None of a run that did not finish.
    """

    path: Path
    command: str
    fingerprint: str
    runs: list[dict[str, Any]]
    records: list[list[Record]]
    summary: dict[str, Any] | None

    def indices(self, config: dict[str, Any]) -> list[int]:
        """The runs of a configuration."""
        return [
            index for index, flags in enumerate(self.runs) if outcome.configuration(flags) == config
        ]


def read(path: Path) -> Results:
    """Read a run directory.

    Raises:
        StoreError: it is none, or a file of it is damaged.
    """
    if not (path / "config.json").is_file():
        problem = "holds no config.json" if path.is_dir() else "is not a folder"
        raise StoreError(f"{path} {problem}: name a run directory, which a training command made")
    config = _parsed(path / "config.json", (path / "config.json").read_text(encoding="utf-8"))
    command, differing = config.pop("command", None), config.pop("runs", [{}])
    fingerprint, given = config.pop("fingerprint", None), config.pop("flags", None)
    if not isinstance(command, str) or not isinstance(given, dict):
        raise StoreError(f"{path}/config.json is not that of a training command")
    runs = [{**config, **values} for values in differing]
    summary = path / "summary.json"
    return Results(
        path,
        command,
        fingerprint,
        runs,
        _records(path / "metrics.jsonl", len(runs)),
        _parsed(summary, summary.read_text(encoding="utf-8")) if summary.exists() else None,
    )


def run(results: Results, index: int) -> tuple[Any, Run]:
    """Return the network of the command that trained a run, and the run.

    Raises:
        StoreError: there is no such command here.
    """
    try:
        network = importlib.import_module(results.command).network
    except (ImportError, AttributeError) as error:
        raise StoreError(f"{results.path}: there is no command {results.command} here") from error
    # The flags of a command are what its network is a function of.
    base: Run = network.__annotations__["run"]()
    flags = results.runs[index]
    # The folder may be one of another machine; the fingerprint tells whether the data are others.
    folder = data_folder(flags["data_dir"])
    return network, replaced(base, {**flags, "data_dir": folder if folder.is_dir() else None})


def _records(path: Path, runs: int) -> list[list[Record]]:
    """The evaluations by run, without a last line that a killed process left cut off."""
    found: list[list[Record]] = [[] for _ in range(runs)]
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for line in text.split("\n")[:-1]:
        record = _parsed(path, line)
        if record.get("run") not in range(runs):
            raise StoreError(f"{path} is damaged: it names a run that config.json does not")
        found[record["run"]].append(record)
    return found


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged: {text[:20]!r} is not an object")
    return value


def configurations(results: Results) -> Iterator[tuple[dict[str, Any], list[list[Record]]]]:
    """Yield for each configuration its row, as in summary.json, and the evaluations of its runs.

    A row of a run that did not finish is made of the evaluations so far. It says the last step that
    all runs of the configuration were evaluated after as "unfinished"; a run diverged, as far as
    is known, at the first evaluation without metrics; and nobody counted the parameters.
    """
    if results.summary is not None:
        for row in results.summary["rows"]:
            yield row, [results.records[index] for index in results.indices(row["config"])]
        return
    found: list[dict[str, Any]] = []
    for flags in results.runs:
        config = outcome.configuration(flags)
        if config not in found:
            found.append(config)
    for config in found:
        indices = results.indices(config)
        records = [results.records[index] for index in indices]
        runs = [results.runs[index] for index in indices]
        row = outcome.row(
            config,
            [run["seed"] for run in runs],
            0,
            records,
            folds=[run["fold"] for run in runs] if config.get("folds") else None,
            diverged=[_divergence(lines) for lines in records],
        )
        if not any(records):
            nothing = outcome.spread([None] * len(indices))
            for name, kind in itertools.product(outcome.SETS, outcome.BEST):
                row[f"{name}_{kind}"] = {"final": nothing, "best": nothing}
        last = min(lines[-1]["step"] if lines else 0 for lines in records)
        yield row | {"parameters": None, "unfinished": last}, records


def _divergence(records: list[Record]) -> int | None:
    """The first evaluation without a loss of any set; before the first step there need be none."""
    losses = [f"{name}_loss" for name in outcome.SETS]
    steps = (r["step"] for r in records if all(r.get(loss) is None for loss in losses))
    return next(filter(None, steps), None)
