"""Which run of a sweep is the best one: never one that diverged."""

from pathlib import Path

import pytest

from train.errors import StoreError
from train.evaluate.__main__ import _chosen, _recorded
from train.run_directory.reader import Results
from train.run_directory.stored_config import Config
from train.run_directory.summary import by_configuration, configuration
from train.runs.results import RunRecords, Runs

# Two configurations of three seeds, the second the better one.
FLAGS = [{"hidden": hidden, "seed": seed} for hidden in ("8", "16") for seed in (0, 1, 2)]


def summary_of(diverged):
    return {
        "rows": [
            {"config": configuration(FLAGS[3]), "diverged": diverged},
            {"config": configuration(FLAGS[0]), "diverged": [None, None, 7]},
        ]
    }


def stored(diverged):
    config = Config("train.mlp", "fingerprint", {}, FLAGS, ())
    records = [[] for _ in FLAGS]
    return Results(Path("run"), config, records, by_configuration(FLAGS), summary_of(diverged))


@pytest.mark.parametrize(
    ("diverged", "best"), [([None] * 3, 3), ([4, None, None], 4), ([4, 0, None], 5)]
)
def test_the_best_run_is_the_first_that_did_not_diverge(diverged, best):
    index, why = _chosen(stored(diverged), None)
    assert index == best
    assert why == (
        f"run {best} of 6 (hidden 16, seed {best - 3}), the first of the best configuration"
    )
    runs = [RunRecords(index, flags, []) for index, flags in enumerate(FLAGS)]
    assert Runs(summary_of(diverged), runs, lambda index: index, "mlp").best == best


def test_there_is_no_best_run_where_all_diverged():
    with pytest.raises(StoreError, match="all runs diverged"):
        _chosen(stored([1, 2, 3]), None)
    runs = [RunRecords(index, flags, []) for index, flags in enumerate(FLAGS)]
    with pytest.raises(FloatingPointError, match="all runs diverged"):
        _ = Runs(summary_of([1, 2, 3]), runs, lambda index: index, "mlp").best


@pytest.mark.parametrize("index", range(6))
def test_one_that_is_named_is_looked_at_unless_it_diverged(index):
    found = stored([None, 4, None])
    if index in (2, 4):
        with pytest.raises(StoreError, match=f"--run {index}: diverged; leave out --run"):
            _chosen(found, index)
    else:
        hidden, seed = FLAGS[index].values()
        assert _chosen(found, index) == (index, f"run {index} of 6 (hidden {hidden}, seed {seed})")


def test_what_training_recorded_is_that_of_the_run_and_never_of_batches():
    found = stored([None, 4, None])
    values = {"final": {"values": [0.25, None, 0.75]}}
    found.summary["rows"][0] |= {"test_accuracy": values, "train_accuracy": values}
    assert [_recorded(found, index, "test") for index in (3, 5)] == [0.25, 0.75]
    assert _recorded(found, 3, "train") is None  # That of batches, before their updates.
    assert _recorded(found, 3, "validation") is None  # There is none.


@pytest.mark.parametrize("index", [-1, 6])
def test_one_that_is_not_there_is_refused(index):
    with pytest.raises(StoreError, match=f"--run {index}: must be from 0 to 5 here"):
        _chosen(stored([None] * 3), index)
