"""What the numbers of summary.json mean, and which numbers no run can have."""

import json
import math
from pathlib import Path

import pytest

from train.errors import ConfigError, StoreError
from train.flags.config import MlpRun
from train.run_directory import reader, summary
from train.run_directory.directory import RunDirectory
from train.run_directory.manifest import identities_before, notes_before
from train.run_directory.reader import Results, _check_record
from train.run_directory.stored_config import Config, _check_legs
from train.run_directory.summary import by_configuration, is_number, judge, row_of


def record(step, train=None, validation=None, test=None):
    """An evaluation whose accuracies are tenths of the losses."""
    found = {"step": step}
    for of, loss in (("train", train), ("validation", validation), ("test", test)):
        found[f"{of}_loss"] = loss
        found[f"{of}_accuracy"] = None if loss is None else loss / 10
    return found


RECORDS = [
    record(0, None, 5.0), record(10, 4.0, 2.0), record(20, 3.0, 3.0), record(30, 1.0, 4.0, 2.5)
]  # fmt: skip


def test_final_is_of_the_parameters_that_are_kept():
    """Those of step 10; the test set is evaluated on with them at the end."""
    row = row_of({}, [0], 17, [RECORDS], kept=[10])
    finals = {of: row[f"{of}_loss"]["final"]["mean"] for of in ("train", "validation", "test")}
    assert finals == {"train": 4.0, "validation": 2.0, "test": 2.5}
    row = row_of({}, [0], 17, [RECORDS])
    finals = {of: row[f"{of}_loss"]["final"]["mean"] for of in ("train", "validation", "test")}
    assert finals == {"train": 1.0, "validation": 4.0, "test": 2.5}
    # The best of all evaluations, in any case; of step 0 there is no training loss.
    assert row["validation_loss"]["best"]["mean"] == 2.0
    assert row["validation_accuracy"]["best"]["mean"] == 0.5
    kept = row_of({}, [0], 17, [RECORDS], kept=[0])
    assert kept["train_loss"]["final"]["mean"] is None


def test_what_diverged_is_in_no_mean():
    row = row_of({}, [0, 1, 2], 17, [RECORDS] * 3, diverged=[None, 20, None], stopped=[None, 5, 7])
    assert row["test_loss"]["final"] == {"mean": 2.5, "std": 0.0, "values": [2.5, None, 2.5]}
    assert (row["diverged"], row["stopped"]) == ([None, 20, None], [None, 5, 7])


def test_rows_are_judged_by_the_validation_set_where_all_have_one():
    with_, without = {"validation_accuracy": 1}, {"test_accuracy": 1}
    assert judge(with_, with_) == "validation"
    assert judge(with_, without) == judge(without) == "test"


def test_seed_and_fold_are_not_of_the_configuration():
    runs = [{"hidden": h, "seed": s, "fold": f} for h in "56" for s in (0, 1) for f in (0, 1)]
    assert list(by_configuration(runs).values()) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("value", "largest", "expected"),
    [
        (0, 1.0, True), (1, 1.0, True), (1.0, 1.0, True), (1.0001, 1.0, False),
        (-1e-9, 1.0, False), (None, 1.0, True), (True, 1.0, False), ("0", 1.0, False),
        (math.nan, 1.0, False), (1e300, math.inf, True),
    ],
)  # fmt: skip
def test_what_a_number_of_a_file_may_be(value, largest, expected):
    assert is_number(value, largest) == expected


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        ({}, True),
        ({"mean": 2.0 + 1e-12}, True),
        ({"mean": 2.0 + 1e-6}, False),
        ({"std": -0.1}, False),
        ({"std": None}, False),
        ({"mean": None, "std": None}, False),
        ({"values": [1.0, 3.0]}, False),
        ({"values": [1.0, 3.0, 4.0]}, False),
        ({"values": [None, None, None]}, False),
        ({"values": [None, None, None], "mean": None, "std": None}, True),
        ({"more": 1}, False),
    ],
)
def test_a_mean_is_that_of_its_values(change, whole):
    value = {"mean": 2.0, "std": 1.0, "values": [1.0, 3.0, None]} | change
    assert summary._is_spread(value, 3, 4.0) == whole
    assert not summary._is_spread(value, 3, 2.5) or None in value["values"][:2]


# --- lines of metrics.jsonl ----------------------------------------------------------------------

FLAGS = [{"hidden": hidden, "seed": seed} for hidden in ("5", "6") for seed in (0, 1)]
CONFIG = Config("train.mlp", "f", {}, FLAGS, ())


def line(**change):
    found = {"run": 1, "seed": 1, "step": 20, "test_loss": 1.0, "test_accuracy": 0.5, "seconds": 3}
    return found | change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"step": 11}, None),
        ({"step": 10}, "step 10 of run 1 does not follow step 10"),
        ({"step": 20.0}, "step 20.0 of run 1 does not follow"),
        ({"seed": 0}, "step 20 of run 1 does not follow"),
        ({"run": 4}, "it names a run that config.json does not"),
        ({"run": -1}, "it names a run that config.json does not"),
        ({"run": True}, "it names a run that config.json does not"),
        ({"test_accuracy": 1.01}, "test_accuracy of run 1 at step 20 is 1.01"),
        ({"test_loss": None}, None),
        ({"test_loss": -1}, "test_loss of run 1 at step 20 is -1"),
        ({"more": 1}, "step 20 of run 1 has other metrics"),
    ],
)
def test_an_evaluation_follows_the_one_before(change, said):
    record, before = line(**change), [[], [{"step": 10}], [], []]
    if said is None:
        _check_record(record, before, CONFIG, line().keys())
    else:
        with pytest.raises(ValueError, match=said.replace(".", r"\.")):
            _check_record(record, before, CONFIG, line().keys())


def test_a_run_that_did_not_finish_is_as_far_as_its_last_run():
    """One diverged, as far as is known, where no set has a loss after the first step."""
    lost = record(20)
    records = [RECORDS, [RECORDS[0], RECORDS[1]], [record(0), RECORDS[1], lost], []]
    found = list(
        reader.configurations(Results(Path("run"), CONFIG, records, by_configuration(FLAGS)))
    )
    (first, _), (second, lines) = found
    assert first["unfinished"] == 10
    assert first["diverged"] == [None, None]
    assert second["unfinished"] == 0
    assert second["diverged"] == [20, None]
    assert lines == records[2:]
    assert first["parameters"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"results": [[None, None, 17, None]]}, "does not say how 2 runs ended"),
        ({"results": [[None, None, 17]] * 2}, "the end .* of a run is none"),
        ({"results": [[None, None, -1, None]] * 2}, "the end .* of a run is none"),
        ({"runs": "a"}, "does not name a run"),
        ({"metrics": {"bytes": -1, "sha256": "a"}}, "does not name a run"),
        ({"metrics": {"bytes": True, "sha256": "a"}}, "does not name a run"),
    ],
)
def test_what_a_longer_run_says_of_the_shorter_one(change, said):
    leg = {"runs": ["a"], "metrics": {"bytes": 0, "sha256": "a"},
           "results": [[None, 3, 17, None]] * 2} | change  # fmt: skip
    if said is None:
        _check_legs([leg], 2)
    else:
        with pytest.raises(ConfigError, match=said):
            _check_legs([leg], 2)


# --- the folder ----------------------------------------------------------------------------------


def test_a_config_is_written_once(tmp_path):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        directory.write_config({"command": "train.mlp"})
        with pytest.raises(StoreError, match="another process trained there meanwhile"):
            directory.write_config({"command": "train.mlp"})


def test_what_is_set_aside_stays_there_under_names_of_its_own(tmp_path):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        for content in "abc":
            folder = directory.path / "parameters" / "group-0001"
            folder.mkdir(parents=True)
            (folder / "notes").write_text(content)
            directory.set_aside(folder)
        aside = directory.path / "set-aside" / "parameters"
        found = {path.name: (path / "notes").read_text() for path in aside.iterdir()}
        assert found == {"group-0001": "a", "group-0001-2": "b", "group-0001-3": "c"}


def test_going_back_cuts_the_file_off(tmp_path):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        directory.append({"step": 0})
        mark = directory.mark()
        directory.append({"step": 1})
        assert directory.go_back(mark["bytes"]) == [{"step": 0}]
        assert directory.size == mark["bytes"]
        directory.append({"step": 2})
        text = (directory.path / "metrics.jsonl").read_text()
        assert [json.loads(line)["step"] for line in text.splitlines()] == [0, 2]


def test_a_longer_run_names_all_before_it(tmp_path):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        directory.write_config({"steps": 10})
        directory.append({"step": 10})
        for steps in (20, 30):
            directory.finish({"rows": []})
            directory.extend({"steps": steps}, [[None] * 4])
            assert not (directory.path / "summary.json").exists()
            directory.append({"step": steps})
        config = directory.config
        assert config["steps"] == 30
        assert len(config["before"]) == 2
        first, second = config["before"]
        assert first["metrics"]["bytes"] < second["metrics"]["bytes"] < directory.size
        assert directory.reaches(first["metrics"])
        assert directory.reaches(second["metrics"])
        assert notes_before(config) == {**second, "times": []}
        assert notes_before({"steps": 10}) is None
        assert identities_before(config) == [*first["runs"], *second["runs"]]


def test_a_single_run_is_a_configuration():
    records = [{"step": 5, "test_loss": 0.5, "test_accuracy": 0.75}]
    ((row, runs),) = summary.configurations([summary.Result(MlpRun(), records)])
    assert runs == [records]
    assert (row["seeds"], row["folds"], row["parameters"]) == ([0], None, None)
    assert row["test_loss"]["final"] == {"mean": 0.5, "std": 0.0, "values": [0.5]}
    assert row == summary.row_of(row["config"], [0], None, [records], diverged=[None])


@pytest.mark.parametrize(("mean", "std"), [(None, 0.0), (0.0, None)])
def test_of_no_value_there_is_neither_mean_nor_deviation(mean, std):
    assert summary._is_spread({"mean": None, "std": None, "values": [None]}, 1, 1.0)
    assert not summary._is_spread({"mean": mean, "std": std, "values": [None]}, 1, 1.0)
