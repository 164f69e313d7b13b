"""`fit`: train networks from Python."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.layers import Layer
from train import convnet, mlp
from train.custom_network import run_kind
from train.data import Dataset, from_arrays
from train.data.own import Options, check_unused
from train.errors import ConfigError, Refusal
from train.flags.config import ConvnetRun, Data, MlpRun, Run, flags
from train.flags.constraints import option
from train.flags.suggestions import near
from train.processes.signals import Interruption, Stopped
from train.run_directory.trained_network import put_together
from train.runs.reading import labels_of, of_directory
from train.runs.results import RunRecords, Runs
from train.runs.trained import Network
from train.training.command import parse
from train.training.job import Job, check, set_up
from train.training.sweep import Trained, so_far, train

# By name: the dataclass of a run, and what makes its network.
NETWORKS: dict[str, tuple[type[Run], Callable[..., Any]]] = {
    "mlp": (MlpRun, mlp.network),
    "convnet": (ConvnetRun, convnet.network),
}


def fit(data: Any = None, *, network: Any = "mlp", **flags: Any) -> Runs:
    """Train networks on data, all runs of a shape at once in one compiled program.

    Every flag of the training commands is a keyword by its name (`python -m train.mlp --help` lists
    them), with one value, or a list of several: the runs are the product of all lists, times
    `seeds`. Without `out` nothing is written.

    An interrupted fit (Ctrl-C) returns what was trained until then.

    Args:
        data: arrays (x, y) or (x, y, x_test, y_test); a `train.data.Dataset`; or what --dataset
            takes, such as "mnist" or "table.csv". None for "digits", or with `resume` for the data
            of that run.
        network: "mlp" or "convnet"; a `jaxnets.layers.Layer`; or a function
            `(classes, *, width: int = 64, rate: float = 0.1) -> Layer`, whose keywords become
            flags.
        **flags: such as hidden=["100", "256-64"], learning_rate=[1e-3, 3e-3], seeds=5, epochs=20.

    Returns:
        The runs: a table, data frames, figures and the trained networks.

    Raises:
        ConfigError: (a `ValueError`) a flag is unknown, or a value is not allowed.
        DataError: (a `ValueError`) the data cannot be used.
        StoreError: (a `ValueError`) `out` cannot become a run directory.
        FloatingPointError: the loss of the only run is not finite.
        MemoryError: the runs do not fit into memory.

    Example:
        >>> from train import fit
        >>> runs = fit("digits", hidden=[16, 32], steps=20, eval_every=20)
        >>> runs.frame()[["hidden", "test_accuracy"]].shape
        (2, 2)
        >>> runs.best.predict_proba(np.zeros((1, 8, 8, 1), np.uint8)).shape
        (1, 10)
    """
    name, kind, made = _network(network)
    sweep = _parsed(kind, {**flags, "dataset": _name(data)}, name)
    with _flags_as_keywords():
        job = check(sweep, name, _dataset(data, sweep.runs[0].data))
        set_up(job)

    from train.engine.assembly import Assembly
    from train.engine.memory import explained

    assembly = Assembly(sweep, made, job.dataset)
    assembly.check_memory(job.groups)
    writes = sweep.directory is not None or sweep.runs[0].output.out is not None
    with explained(), Interruption() as signals:
        try:
            found = train(job, assembly, signals, write=writes)
        except Stopped as stopped:
            kept = so_far(job, stopped)
            if kept is None:
                raise KeyboardInterrupt from stopped
            found = kept
    return _runs(job, found, made, network)


def _network(network: Any) -> tuple[str, type[Run], Callable[..., Any]]:
    """Return the command of a network, the dataclass of its runs, and what makes it."""
    if isinstance(network, str):
        if network not in NETWORKS:
            raise ConfigError(
                f"network={network!r}: must be one of {', '.join(NETWORKS)}, a Layer or a function"
                f"{near(network, NETWORKS)}"
            )
        return network, *NETWORKS[network]
    if not callable(network) and not isinstance(network, Layer):
        raise TypeError(
            f"network: must be one of {', '.join(NETWORKS)}, a Layer or a function; got "
            f"{type(network).__name__}"
        )
    own = run_kind(network)
    return own.name, own.kind, own.network


def _runs(job: Job, found: Trained, made: Callable[..., Any], network: Any) -> Runs:
    """Return the results, whose networks come from memory, or from the run directory."""
    labels = labels_of(job.dataset)
    path = None if found.directory is None else found.directory.path
    own = None if isinstance(network, str) else network

    def trained_network(index: int) -> Network:
        run = job.sweep.runs[index]
        learned = found.keeper.learned.get(index)
        if learned is None:
            assert path is not None  # What is not in memory was written.
            return of_directory(path, index, job.dataset, own)
        trained = put_together(
            made, run, job.dataset, lambda shapes: (learned["params"], learned["statistics"])
        )
        return Network(index, flags(run), trained, job.dataset, labels)

    indices = {run: index for index, run in enumerate(job.sweep.runs)}
    runs = [
        RunRecords(indices[result.run], flags(result.run), result.records)
        for result in found.results
    ]
    return Runs(found.summary, runs, trained_network, job.name, path)


def _name(data: Any) -> str | Path | None:
    """Return what --dataset is for some data: what loads them, or what they are called."""
    if data is None or isinstance(data, (str, Path)):
        return data
    if isinstance(data, Dataset):
        return data.name
    if isinstance(data, tuple) and len(data) in (2, 4):
        return "arrays"
    raise TypeError(
        f"data: must be arrays (x, y) or (x, y, x_test, y_test), a Dataset, or a name or path; got "
        f"{type(data).__name__}{f' of {len(data)}' if isinstance(data, tuple) else ''}"
    )


def _dataset(data: Any, which: Data) -> Dataset | None:
    """Return the data set; None for one that is loaded by its name or path."""
    options = Options(which.label, which.missing, which.test, which.image_size)
    if isinstance(data, Dataset):
        check_unused(options, options._fields, "a Dataset")
        return data
    if not isinstance(data, tuple):
        return None
    check_unused(options, ("label", "image_size"), "arrays")
    return from_arrays(*data, test=which.test, missing=which.missing)


# --- flags ---------------------------------------------------------------------------------------


def _parsed(kind: type[Run], values: dict[str, Any], network: str) -> Any:
    """Return the sweep that the keywords describe."""
    words = [word for name, value in values.items() for word in _words(name, value)]
    with _flags_as_keywords():
        sweep = parse(kind, words, f"python -m train.{network}", None)
    if sweep.dry_run:
        raise ConfigError("dry_run: is a flag of the commands alone")
    return sweep


def _words(name: str, value: Any) -> Sequence[str]:
    """Return a keyword as the words of a command line."""
    if value is None or value is False:
        return []
    if value is True:
        return [option(name)]
    several = value if isinstance(value, (list, tuple, set, range, np.ndarray)) else [value]
    words = [str(one) for one in several]
    for one, word in zip(several, words, strict=True):
        if not isinstance(one, (str, Path, int, float, np.integer, np.floating)):
            raise TypeError(f"{name}: must be a number or a text, or a list; got {one!r}")
        if re.match(r"--?[^\W\d]|--", word) and word != "-inf":
            raise ConfigError(f"{name} {word!r}: begins with a dash")
    return [option(name), *words]


@contextlib.contextmanager
def _flags_as_keywords() -> Iterator[None]:
    """A context in which a refusal calls the flags as the keywords of Python are."""
    try:
        yield
    except Refusal as error:
        line = str(error)
        if _in_python(line) == line:
            raise
        raise type(error)(_in_python(line)) from None


def _in_python(line: str) -> str:
    """Return a line in which flags are called as the keywords of Python are."""
    return re.sub(
        r"--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)", lambda found: found[1].replace("-", "_"), line
    )
