"""What the flags of a run become on its data."""

import numpy as np
import pytest

from train.data import Dataset
from train.engine.assembly import schedule
from train.flags.config import MlpRun
from train.training.command import parse


@pytest.fixture(scope="module")
def dataset():
    """70 examples to train on: 63 without those to validate on, 7 batches of 9."""
    x, y = np.zeros((70, 2, 2, 1), np.uint8), np.zeros(70, np.int32)
    return Dataset("noise", "Noise.", x, y, x, y, ("a", "b"), "fingerprint")


@pytest.mark.parametrize(
    ("words", "period", "steps"),
    [
        ("--schedule exponential --steps 50", 7, 50),
        ("--schedule step --steps 50", 70, 50),
        ("--schedule step --decay-epochs 3 --epochs 4", 21, 28),
        ("--schedule cosine --epochs 2 --warmup-steps 5", 7, 14),
    ],
)
def test_a_schedule_counts_in_epochs_of_the_data(dataset, words, period, steps):
    """Every epoch is a decay of exponential, and every tenth of step unless told otherwise."""
    (run,) = parse(MlpRun, ["--batch-size", "9", *words.split()], "prog", None).runs
    found = schedule(run, dataset)
    assert (found.kind, found.period, found.steps) == (words.split()[1], period, steps)
    assert found.warmup == (5 if "--warmup-steps" in words else 0)
