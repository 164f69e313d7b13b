"""`load`: read a run directory from Python."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from train.data import Dataset
from train.data.split import load_for
from train.errors import StoreError
from train.run_directory import data_file, reader, rebuilt, trained_network
from train.run_directory.reader import Results
from train.runs.results import RunRecords, Runs
from train.runs.trained import Network


def load(directory: str | os.PathLike[str], *, network: Any = None) -> Runs:
    """Read the directory of a finished run or sweep.

    Args:
        directory: the run directory, which a training command or `train.fit` with `out` made.
        network: of runs with a network of your own, the function that they were trained with, or
            "FILE.py:FUNCTION". No code is run that only the run directory names.

    Returns:
        The runs, as `train.fit` returns them. The networks of a run directory without data.json,
        of an earlier version, need the data that they were trained on.

    Raises:
        StoreError: (a `ValueError`) it is no directory of a finished run, or a file of it is
            damaged.

    Example:
        >>> from train import load
        >>> load("runs/none")
        Traceback (most recent call last):
        train.errors.StoreError: runs/none is not a folder: name a run directory, which a training
        command made
    """
    stored = reader.read(Path(directory).expanduser())
    if stored.summary is None:
        raise StoreError(f"{stored.path} is not finished: it holds no summary.json")
    runs = [
        RunRecords(index, flags, records)
        for index, (flags, records) in enumerate(zip(stored.runs, stored.records, strict=True))
    ]
    name = stored.config.command.removeprefix("train.")
    return Runs(
        stored.summary, runs, lambda index: _network(stored, index, own=network), name, stored.path
    )


def of_directory(path: Path, index: int, dataset: Dataset, own: Any = None) -> Network:
    """Return the network of a run in a run directory, which need not be finished."""
    return _network(reader.read(path), index, dataset, own)


def _network(
    stored: Results, index: int, dataset: Dataset | None = None, own: Any = None
) -> Network:
    kind, made = rebuilt.made(stored, own)
    run = rebuilt.run(stored, index, kind)
    known = data_file.read(stored) if dataset is None else None
    affine = known and known.affine(run)
    dataset = known.dataset if known else dataset or load_for(run)
    if dataset.fingerprint != stored.config.fingerprint:
        raise StoreError(
            f"{stored.path} was trained on another {dataset.name}, with fingerprint "
            f"{stored.config.fingerprint}, not {dataset.fingerprint}"
        )
    trained = trained_network.load(stored, index, made, run, dataset, affine)
    return Network(index, stored.runs[index], trained, dataset, labels_of(dataset))


def labels_of(dataset: Dataset) -> np.ndarray:
    """Return what `predict` returns for each class, see `Network.predict`."""
    return np.array(dataset.schema.labels or range(len(dataset.classes)))
