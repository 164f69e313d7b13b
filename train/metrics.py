"""What a run is measured by: each metric is declared here, once.

`engine.program` computes them; the trainer, summary.json, tables, figures, progress and TensorBoard
read this declaration.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

SETS = ("train", "validation", "test")

Record = dict[str, Any]  # A line of metrics.jsonl.


class Metric(NamedTuple):
    """A number that a run has on a set of examples, such as test_loss: a mean over the examples.

    Attributes:
        heading: of its column in a table.
        axis: of its panel in a figure.
        best: how to tell the best of several, min or max.
        largest: the largest value that there can be.
        form: how it is printed where the values of many runs are.
    """

    heading: str
    axis: str
    best: Callable[[Iterable[float]], float]
    largest: float
    form: str


_FLOAT32 = 3.5e38  # Losses and norms are computed in it.

METRICS = {
    "loss": Metric("loss (nats)", "cross-entropy (nats)", min, _FLOAT32, ".4g"),
    "accuracy": Metric("accuracy", "accuracy (fraction right)", max, 1.0, ".4f"),
}

# What configurations are ranked by, and where that is the same.
RANKED_BY, THEN_BY = "accuracy", "loss"

GRADIENT_NORMS = ("gradient_norm_mean", "gradient_norm_max")

# The largest value of each number of an evaluation but its step.
LARGEST = {
    **{f"{of}_{name}": metric.largest for of in SETS for name, metric in METRICS.items()},
    **dict.fromkeys(GRADIENT_NORMS, _FLOAT32),
    **dict.fromkeys(("epoch", "seconds"), math.inf),
}


def names_on(of: str) -> list[str]:
    """Return the names of all metrics on a set, such as test_loss."""
    return [f"{of}_{name}" for name in METRICS]


def is_known(record: Record, of: str) -> bool:
    """Return whether a run was evaluated on a set."""
    return record.get(f"{of}_{THEN_BY}") is not None


# --- on the host, as arrays of NumPy -------------------------------------------------------------


def wide(values: Any) -> Any:
    """Return the values of a metric for a mean to be taken of: float64, or integers."""
    return values if values.dtype.kind == "i" else values.astype("float64")


def share(values: Any, dtype: Any, examples: int) -> Any:
    """Return a metric of so many examples: a mean over them, or of a number of them the share."""
    return values / examples if dtype.kind == "i" else values


def known(value: float | None) -> float | None:
    """Return the value of a metric; None where it is not finite: no file holds such a number."""
    return None if value is None or not math.isfinite(value) else value
