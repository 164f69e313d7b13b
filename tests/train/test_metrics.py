"""What the declaration of the metrics says, and how they are put into files."""

import math

import numpy as np
import pytest

from train import metrics
from train.metrics import GRADIENT_NORMS, LARGEST, METRICS, is_known, known, names_on, share, wide


def test_less_loss_and_more_accuracy_are_better():
    assert {name: metric.best((0.25, 0.5, 0.125)) for name, metric in METRICS.items()} == {
        "loss": 0.125, "accuracy": 0.5,
    }  # fmt: skip
    assert (metrics.RANKED_BY, metrics.THEN_BY) == ("accuracy", "loss")
    assert {metrics.RANKED_BY, metrics.THEN_BY} <= METRICS.keys()


def test_no_value_is_larger_than_float32_or_all_examples():
    largest = float(np.finfo(np.float32).max)
    for of in ("train", "validation", "test"):
        assert largest <= LARGEST[f"{of}_loss"] < 1.05 * largest
        assert LARGEST[f"{of}_accuracy"] == 1
    assert {LARGEST[name] for name in GRADIENT_NORMS} == {LARGEST["test_loss"]}
    assert LARGEST["epoch"] == LARGEST["seconds"] == math.inf
    assert len(LARGEST) == 3 * len(METRICS) + 4


def test_a_metric_is_called_after_its_set():
    assert names_on("validation") == ["validation_loss", "validation_accuracy"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [({"test_loss": 0.0}, True), ({"test_loss": None}, False), ({"train_loss": 1.0}, False)],
)
def test_a_run_was_evaluated_where_its_loss_is_known(record, expected):
    assert is_known(record, "test") == expected


def test_means_are_taken_of_float64_and_shares_of_numbers():
    losses, right = np.float32([0.1, 0.2]), np.int32([3, 5])
    assert wide(losses).dtype == np.float64
    assert wide(right) is right
    np.testing.assert_array_equal(share(right, right.dtype, 10), [0.3, 0.5])
    np.testing.assert_array_equal(share(wide(losses), losses.dtype, 10), wide(losses))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_no_file_holds_a_number_that_is_not_finite(value):
    assert known(value) is None
    assert known(0.0) == 0.0
    assert known(-1.5) == -1.5
