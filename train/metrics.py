"""The metrics: names, sets, which way is better."""

from collections.abc import Callable, Iterable
from typing import Any

SETS = ("train", "validation", "test")


# How to tell the best of several evaluations.
BEST: dict[str, Callable[[Iterable[float]], float]] = {"loss": min, "accuracy": max}


Record = dict[str, Any]  # A line of metrics.jsonl.
