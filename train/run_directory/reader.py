"""Run directories read back: of finished runs, and of those that were interrupted.

Nothing in them is believed before it is checked: by the checksums in manifest.sha256 and in the
checkpoints, and where there are none, as of runs of earlier versions, by what is possible at all.
"""

import contextlib
import itertools
import json
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from train.errors import StoreError
from train.metrics import LARGEST, SETS, Record, is_known, names_on
from train.run_directory import files, group_folders
from train.run_directory.checkpoint import CheckpointError, load_notes
from train.run_directory.manifest import (
    CONFIG,
    CURVES,
    METRICS,
    SUMMARY,
    Manifest,
    reaches,
    read_manifest,
    whole,
)
from train.run_directory.stored_config import Config, read_config, shown
from train.run_directory.summary import (
    End,
    check_rows,
    configuration,
    is_number,
    ranked,
    row_of,
    spread,
)


class Results(NamedTuple):
    """What a run directory holds.

    Attributes:
        path: the folder.
        config: what its config.json says.
        records: the evaluations of each run.
        by_configuration: the runs of each configuration, which stands there as JSON.
        summary: what summary.json holds; None of a run that did not finish.
        damaged: the files of a run that finished which are to be made anew from the others.
    """

    path: Path
    config: Config
    records: list[list[Record]]
    by_configuration: dict[str, list[int]]
    summary: dict[str, Any] | None = None
    damaged: frozenset[str] = frozenset()

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The flags of each run, by name."""
        return self.config.runs

    def indices(self, config: dict[str, Any]) -> list[int]:
        """The runs of a configuration."""
        return self.by_configuration.get(json.dumps(config, sort_keys=True), [])


def read(path: Path) -> Results:
    """Read a run directory; say on stderr which file had to be made anew.

    Raises:
        StoreError: it is none, or a file of it is damaged.
    """
    if not (path / CONFIG).is_file():
        problem = f"holds no {CONFIG}" if path.is_dir() else "is not a folder"
        raise StoreError(f"{path} {problem}: name a run directory, which a training command made")
    config, manifest = read_config(path), read_manifest(path)
    finished = is_finished(path, manifest)
    if manifest is not None and finished:
        check_metrics(path, manifest)
    else:
        _check_marks(path, config)
    by_configuration: dict[str, list[int]] = {}
    for index, found in enumerate(config.runs):
        key = json.dumps(configuration(found), sort_keys=True)
        by_configuration.setdefault(key, []).append(index)
    results = Results(path, config, _records(path, config), by_configuration)
    if not finished:
        return results
    names = {SUMMARY, CURVES} & (manifest.digests.keys() if manifest else set())
    damaged = frozenset(name for name in names if not whole(path, manifest, name))
    return results._replace(summary=_summary(results, SUMMARY in damaged), damaged=damaged)


def finished(path: Path) -> Results | None:
    """Read the directory of a run that finished; None of one that did not.

    Raises:
        StoreError: a file of it is damaged.
    """
    return read(path) if is_finished(path, read_manifest(path)) else None


def is_finished(path: Path, manifest: Manifest | None) -> bool:
    """Return whether a run finished: it wrote its summary.json, and then its manifest."""
    return (path / SUMMARY).exists() if manifest is None else SUMMARY in manifest.digests


def check_metrics(path: Path, manifest: Manifest) -> None:
    """Raise a `StoreError` unless metrics.jsonl of a finished run is as it was written."""
    if not whole(path, manifest, METRICS):
        raise StoreError(
            f"{path / METRICS} does not have the checksum in {files.MANIFEST}: put it back from a "
            f"copy, or train again with another --out"
        )


# --- metrics.jsonl -------------------------------------------------------------------------------


def _records(path: Path, config: Config) -> list[list[Record]]:
    """The evaluations by run, without a last line that a killed process left cut off."""
    file = path / METRICS
    found: list[list[Record]] = [[] for _ in config.runs]
    try:
        *lines, rest = file.read_bytes().split(b"\n") if file.exists() else [b""]
        if not rest.startswith(_BEGINNING[: len(rest)]):
            raise ValueError("its end is no part of a line")
        names = None
        for line in lines:
            record = files.parsed_json(line)
            names = names or record.keys()
            _check_record(record, found, config, names)
            found[record["run"]].append(record)
    except (ValueError, OSError) as error:
        raise StoreError(f"{file} is damaged: {error}") from error
    return found


_BEGINNING = b'{"run": '


def _check_record(
    record: Record, before: Sequence[Sequence[Record]], config: Config, names: typing.KeysView[str]
) -> None:
    """Raise a `ValueError` unless this may be the next evaluation of a run."""
    run, step = record.get("run"), record.get("step")
    if type(run) is not int or run not in range(len(config.runs)):
        raise ValueError("it names a run that config.json does not")
    last = before[run][-1]["step"] if before[run] else -1
    if record.get("seed") != config.runs[run]["seed"] or type(step) is not int or step <= last:
        raise ValueError(f"step {shown(step)} of run {run} does not follow step {last}")
    if record.keys() != names or not names - {"run", "seed", "step"} <= LARGEST.keys():
        raise ValueError(f"step {step} of run {run} has other metrics than there are")
    for name in names - {"run", "seed", "step"}:
        if not is_number(record[name], LARGEST[name]):
            raise ValueError(f"{name} of run {run} at step {step} is {shown(record[name])}")


def _check_marks(path: Path, config: Config) -> None:
    """Raise a `StoreError` unless metrics.jsonl begins as its checkpoints say."""
    marks = {}
    for folder in (*group_folders.trained(path), *group_folders.checkpoints(path)):
        # One that is damaged says nothing; nor one that a training removes meanwhile.
        with contextlib.suppress(CheckpointError):
            notes = load_notes(folder)
            if notes.get("run") in config.identities:
                marks[folder] = notes["metrics"]
    content = (path / METRICS).read_bytes() if marks and (path / METRICS).is_file() else b""
    for folder, mark in marks.items():
        if not reaches(content, mark):
            raise StoreError(f"{path / METRICS} is damaged: {folder} goes with other lines")


# --- summary.json --------------------------------------------------------------------------------


def _summary(results: Results, damaged: bool) -> dict[str, Any]:
    """What summary.json of a finished run holds, or would."""
    path = results.path / SUMMARY
    if not damaged:
        try:
            summary = files.parsed_json(path.read_bytes())
            check_rows(summary, lambda config: len(results.indices(config)))
        except (ValueError, OSError) as error:
            raise StoreError(
                f"{path} is damaged: {error}; remove it, and --resume makes it anew"
            ) from error
        return summary
    print(
        f"warning: {path} does not have the checksum in {files.MANIFEST}: made anew from {METRICS}",
        file=sys.stderr,
    )
    rows = [row for row, _ in ranked(_from_records(results, ends(results)))]
    return {"dataset": _dataset(results), "rows": rows}


def ends(results: Results) -> list[End]:
    """How each run ended."""
    folders = group_folders.trained(results.path)
    if not folders:
        raise StoreError(f"{results.path} holds no parameters: train it again with another --out")
    notes = load_notes(folders[-1])  # What was known when the last group was trained.
    if notes.get("run") not in results.config.identities:
        raise StoreError(f"{folders[-1]} is of another run: put it back from a copy")
    return [End(*found) for found in notes["results"]]


def dataset_of(results: Results) -> dict[str, Any]:
    """Return what tells the data of a run from others, as in summary.json."""
    return _dataset(results) if results.summary is None else results.summary["dataset"]


def _dataset(results: Results) -> dict[str, Any]:
    # Without summary.json, nobody has described the data.
    name, fingerprint = results.runs[0]["dataset"], results.config.fingerprint
    return {"name": name, "description": "", "fingerprint": fingerprint}


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
    for row, records in _from_records(results):
        if not any(records):
            nothing = spread([None] * len(records))
            for name in itertools.chain(*map(names_on, SETS)):
                row[name] = {"final": nothing, "best": nothing}
        last = min(lines[-1]["step"] if lines else 0 for lines in records)
        yield row | {"unfinished": last}, records


def _from_records(
    results: Results, ends: Sequence[End] | None = None
) -> Iterator[tuple[dict[str, Any], list[list[Record]]]]:
    """The configurations, made of their evaluations; `ends` is known of a run that finished."""
    for indices in results.by_configuration.values():
        config = configuration(results.runs[indices[0]])
        records = [results.records[index] for index in indices]
        runs = [results.runs[index] for index in indices]
        known = [
            ends[index] if ends else End(_divergence(results.records[index])) for index in indices
        ]
        row = row_of(
            config,
            [run["seed"] for run in runs],
            known[0].parameters,
            records,
            folds=[run.get("fold") for run in runs] if config.get("folds") else None,
            diverged=[end.diverged for end in known],
            stopped=[end.stopped for end in known],
            kept=[end.kept for end in known],
        )
        yield row, records


def _divergence(records: list[Record]) -> int | None:
    """The first evaluation without a loss of any set; before the first step there need be none."""
    steps = (r["step"] for r in records if not any(is_known(r, name) for name in SETS))
    return next(filter(None, steps), None)
