"""What summary.json may hold: checked before it is believed."""

import itertools
import math
from collections.abc import Callable
from typing import Any

from train.outcome import BEST, SETS, is_number

_LISTS = ("seeds", "diverged", "stopped")


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
        for name in (*_LISTS, *["folds"] * (row.get("folds") is not None)):
            if not _is_list(row.get(name), runs, math.inf):
                raise ValueError(f"{name} of row {number} are not those of {runs} runs")
        for name, kind in itertools.product(SETS, BEST):
            metric = f"{name}_{kind}"
            largest = 1.0 if kind == "accuracy" else math.inf
            if metric not in row and name != "test":
                continue
            both = row.get(metric)
            if not isinstance(both, dict) or not all(
                _is_spread(both.get(part), runs, largest) for part in ("final", "best")
            ):
                raise ValueError(f"{metric} of row {number} is none")
        for name in SETS:
            loss, accuracy = (row.get(f"{name}_{kind}") for kind in ("loss", "accuracy"))
            if _unknown(loss) != _unknown(accuracy):
                raise ValueError(f"row {number} has one of {name}_loss and {name}_accuracy alone")


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


def _unknown(metric: dict[str, Any] | None) -> list[bool] | None:
    """Of which runs there is no final value; None where the metric is none of theirs."""
    return None if metric is None else [value is None for value in metric["final"]["values"]]
