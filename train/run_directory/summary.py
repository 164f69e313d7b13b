"""The results of runs: the parts of summary.json, made of the evaluations in metrics.jsonl."""

import importlib.metadata
import itertools
import json
import math
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from train.data import Dataset
from train.flags.config import Run, flags, replaced
from train.metrics import METRICS, RANKED_BY, SETS, THEN_BY, Record

# Flags that tell runs of one configuration apart, or that do not change what a run comes to.
_NOT_OF_CONFIGURATION = ("seed", "fold", "data_dir", "out", "resume", "tensorboard")


R = TypeVar("R")


class End(NamedTuple):
    """How a run ended.

    Attributes:
        diverged: the step at which its loss was not finite.
        stopped: the step at which it ran out of patience.
        parameters: how many numbers its network learns; None where nobody counted.
        kept: the step whose parameters were kept; None for the last one.
    """

    diverged: int | None = None
    stopped: int | None = None
    parameters: int | None = None
    kept: int | None = None


@dataclass
class Result:
    """The result of a run of a sweep.

    Attributes:
        run: its flags.
        records: its evaluations.
        end: how it ended, as far as is known.
    """

    run: Run
    records: list[Record]
    end: End = field(default_factory=End)


def row_of(
    config: dict[str, Any],
    seeds: Sequence[int],
    parameters: int | None,
    runs: Sequence[Sequence[Record]],
    *,
    folds: Sequence[int | None] | None = None,
    diverged: Sequence[int | None] | None = None,
    stopped: Sequence[int | None] | None = None,
    kept: Sequence[int | None] | None = None,
) -> dict[str, Any]:
    """Return the results of one configuration.

    Args:
        config: the flags that make it, by name.
        seeds: the seed of each run.
        parameters: how many numbers the network learns; None where nobody counted.
        runs: the evaluations of each run.
        folds: the part of the training set that each run held out, with k-fold cross-validation.
        diverged: the step at which the loss of each run was not finite; None where it always was.
        stopped: the step at which each run ran out of patience; None where it did not.
        kept: the step whose parameters each run kept; None for the last one.

    Returns:
        `config`, `seeds`, `folds`, `parameters`, `diverged`, `stopped`, `kept` and, per metric (the
        loss and accuracy of train, validation and test, as far as there are any), "final", of the
        parameters that were kept, and "best" (the lowest loss, the highest accuracy of the
        evaluations), each with mean, standard deviation and values over the runs; None for runs
        that diverged, which the mean leaves out.
    """
    steps = list(diverged or [None] * len(seeds))
    result = {
        "config": config,
        "seeds": list(seeds),
        "folds": None if folds is None else list(folds),
        "parameters": parameters,
        "diverged": steps,
        "stopped": list(stopped or [None] * len(seeds)),
        "kept": list(kept or [None] * len(seeds)),
    }
    for name, (kind, declared) in itertools.product(SETS, METRICS.items()):
        metric, best = f"{name}_{kind}", declared.best
        if not any(metric in record for records in runs for record in records):
            continue
        seen = [
            {r["step"]: r[metric] for r in records if r[metric] is not None} if step is None else {}
            for records, step in zip(runs, steps, strict=True)
        ]
        # What is evaluated on the test set at the end is what was kept; it was seen before on the
        # other sets.
        at = [None if name == "test" else step for step in kept or [None] * len(seeds)]
        last = zip(seen, at, strict=True)
        result[metric] = {
            "final": spread([_at(values, step) if values else None for values, step in last]),
            "best": spread([best(values.values()) if values else None for values in seen]),
        }
    return result


def _at(values: dict[int, float], step: int | None) -> float | None:
    """Return the value at a step, None for the last; of a batch there is none before the first."""
    return values.get(max(values) if step is None else step)


def configuration(flags: dict[str, Any]) -> dict[str, Any]:
    """Return those flags of a run that make its configuration."""
    return {name: v for name, v in flags.items() if name not in _NOT_OF_CONFIGURATION}


def by_configuration(runs: Iterable[dict[str, Any]]) -> dict[str, list[int]]:
    """Return the runs of each configuration, by its `key_of`, from the flags of each run."""
    found: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        found.setdefault(key_of(configuration(run)), []).append(index)
    return found


def key_of(config: dict[str, Any]) -> str:
    """Return a configuration as JSON, by which equal ones are equal."""
    return json.dumps(config, sort_keys=True)


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation (divided by n - 1; 0 for one value) of some values.

    None counts for nothing, and where there is nothing else, both are None.
    """
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    std = (statistics.stdev(known) if len(known) > 1 else 0.0) if known else None
    return {"mean": mean, "std": std, "values": list(values)}


def is_number(value: Any, largest: float) -> bool:
    """Whether a value of a file is a number from 0 to `largest`, or None, which is not known."""
    return value is None or (type(value) in (int, float) and 0 <= value <= largest)


def judge(*rows: dict[str, Any]) -> str:
    """Return the set by which configurations are told apart: validation where all have one."""
    return "validation" if all(f"validation_{RANKED_BY}" in row for row in rows) else "test"


def rank(row: dict[str, Any], name: str) -> tuple[float, float]:
    """Return what sorts configurations: by mean final accuracy on a set, the best first.

    Where that is the same, by loss; those of which every run diverged come last.
    """
    means = []
    for metric in (RANKED_BY, THEN_BY):
        mean = row[f"{name}_{metric}"]["final"]["mean"]
        if mean is None:
            return math.inf, math.inf
        means.append(mean if METRICS[metric].best is min else -mean)
    return means[0], means[1]


def configurations(results: Sequence[Result]) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Yield for each configuration its row of summary.json, and the evaluations of its runs."""
    found: dict[Run, list[Result]] = {}
    for result in results:
        found.setdefault(replaced(result.run, {"seed": None, "fold": None}), []).append(result)
    for several in found.values():
        config = configuration(flags(several[0].run))
        records = [result.records for result in several]
        folds = [result.run.data.fold or 0 for result in several]
        ends = [result.end for result in several]
        yield (
            row_of(
                config,
                [result.run.training.seed for result in several],
                ends[0].parameters,
                records,
                folds=None if several[0].run.data.fold is None else folds,
                diverged=[end.diverged for end in ends],
                stopped=[end.stopped for end in ends],
                kept=[end.kept for end in ends],
            ),
            records,
        )


def ranked(found: Iterable[tuple[dict[str, Any], R]]) -> list[tuple[dict[str, Any], R]]:
    """Return configurations, each a row and what goes with it, the best first."""
    pairs = list(found)
    name = judge(*(row for row, _ in pairs))
    return sorted(pairs, key=lambda pair: rank(pair[0], name))


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what tells a data set from another."""
    return {
        "name": dataset.name,
        "description": dataset.description,
        "fingerprint": dataset.fingerprint,
        "train_examples": len(dataset.y_train),
        "test_examples": len(dataset.y_test),
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


_LISTS = ("seeds", "diverged", "stopped")
_LATER = ("folds", "kept")  # Of some rows; the second is younger than the others.


def check_rows(summary: dict[str, Any], count: Callable[[dict[str, Any]], int]) -> None:
    """Raise a `ValueError` unless these are the data and the results of runs.

    Args:
        summary: what summary.json holds.
        count: how many runs a configuration has, by config.json.
    """
    dataset, rows = summary.get("dataset"), summary.get("rows")
    texts = ("name", "description", "fingerprint")
    if not isinstance(dataset, dict) or not all(isinstance(dataset.get(t), str) for t in texts):
        raise ValueError("it does not name the data set")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it holds no results")
    for number, row in enumerate(rows):
        config = row.get("config")
        runs = count(config) if isinstance(config, dict) else 0
        if not runs or rows.index(row) < number:
            raise ValueError(f"row {number} has a configuration that config.json does not")
        for name in (*_LISTS, *(name for name in _LATER if row.get(name) is not None)):
            if not _is_list(row.get(name), runs, math.inf):
                raise ValueError(f"{name} of row {number} are not those of {runs} runs")
        _check_metrics(row, number, runs)


def _check_metrics(row: dict[str, Any], number: int, runs: int) -> None:
    """Raise a `ValueError` unless a row has the same metrics on all its sets."""
    found = {of: [name for name in METRICS if f"{of}_{name}" in row] for of in SETS}
    # A run that was made before a metric was declared has it on no set.
    for of, names in found.items():
        if names and names != found["test"]:
            raise ValueError(f"row {number} has other metrics of {of} than of test")
    if not {RANKED_BY, THEN_BY} <= set(found["test"]):
        raise ValueError(f"row {number} lacks metrics of test")
    for of, names in found.items():
        unknown = []
        for name in names:
            both, largest = row[f"{of}_{name}"], METRICS[name].largest
            if not isinstance(both, dict) or not all(
                _is_spread(both.get(part), runs, largest) for part in ("final", "best")
            ):
                raise ValueError(f"{of}_{name} of row {number} is none")
            unknown.append([value is None for value in both["final"]["values"]])
        if any(missing != unknown[0] for missing in unknown):
            words = " and ".join(f"{of}_{name}" for name in names)
            raise ValueError(f"row {number} lacks one of {words} of a run")


def _is_spread(value: Any, runs: int, largest: float) -> bool:
    """Whether this is mean, standard deviation and values over the runs."""
    if not isinstance(value, dict) or value.keys() != {"mean", "std", "values"}:
        return False
    if not _is_list(value["values"], runs, largest):
        return False
    known = [number for number in value["values"] if number is not None]
    mean, std = value["mean"], value["std"]
    if not known:
        return mean is None and std is None
    if mean is None or std is None or not is_number(mean, largest):
        return False
    middle = math.fsum(number / len(known) for number in known)
    return is_number(std, math.inf) and math.isclose(mean, middle, rel_tol=1e-9, abs_tol=1e-12)


def _is_list(value: Any, runs: int, largest: float) -> bool:
    return (
        isinstance(value, list)
        and len(value) == runs
        and all(is_number(number, largest) for number in value)
    )
