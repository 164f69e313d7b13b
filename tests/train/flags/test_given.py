"""Which flags may differ when a run is resumed, and when it is trained on."""

from pathlib import Path

import pytest

from train.errors import ConfigError
from train.flags.given import (
    as_json,
    asks_for_more,
    check_same,
    completed_from,
    of_the_runs,
    run_directory,
    without_length,
    words,
)


def values(steps=(None,), epochs=(None,)):
    return {"steps": steps, "epochs": epochs}


@pytest.mark.parametrize(
    ("before", "now", "more"),
    [
        ({"steps": 10}, values((20,)), True),
        ({"steps": 10}, values((5,)), True),  # That it is less is said later.
        ({"steps": 10}, values((10,)), False),
        ({"steps": 10}, values(), False),
        ({"steps": 10}, values((20, 30)), False),
        ({"steps": [10, 20]}, values((30,)), False),
        ({"epochs": 2}, values(epochs=(3,)), True),
        ({"epochs": 2}, values(epochs=(2,)), False),
        ({"epochs": 2}, values((30,)), True),
        ({}, values((1500,)), True),
        ({"steps": 10, "schedule": "step"}, values((20,)), True),
        ({"steps": 10, "schedule": "cosine"}, values((10,)), False),
    ],
)
def test_a_run_is_trained_on_where_its_one_length_is_another(before, now, more):
    assert asks_for_more(before, now) == more


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", ["constant", "cosine"]])
def test_a_schedule_that_leads_to_the_end_cannot_go_on(schedule):
    with pytest.raises(ConfigError, match=r"^--steps 20: the run has --schedule (cosine|one-cy)"):
        asks_for_more({"steps": 10, "schedule": schedule}, values((20,)))


BEFORE = {"dataset": "digits", "hidden": ["5", "6"], "steps": 10, "l2": 0.1, "data_dir": "/a"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data_dir": "/b", "out": "x", "resume": "y"}, None),
        ({"l2": 0.2}, "--l2 0.1 (here 0.2)"),
        ({"hidden": "5"}, "--hidden 5 6 (here 5)"),
        ({"seeds": 2}, "--seeds not given (here 2)"),
        ({"steps": 20}, "--steps 10 (here 20)"),
        ({"dataset": "/data/a.csv"}, "--dataset digits (here /data/a.csv)"),
    ],
)
def test_what_differs_is_named_unless_it_is_a_place(change, said):
    now = BEFORE | change
    if said is None:
        check_same(Path("run"), BEFORE, now)
        return
    with pytest.raises(ConfigError) as error:
        check_same(Path("run"), BEFORE, now)
    assert str(error.value).startswith(f"run is a run with {said}: to resume it")
    if "steps" in change:
        check_same(Path("run"), BEFORE, now, longer=True)
        check_same(Path("run"), BEFORE, without_length(BEFORE) | {"epochs": 3}, longer=True)


def test_data_of_ones_own_may_have_moved():
    """Whether they are the same is told by their fingerprint."""
    check_same(Path("run"), BEFORE | {"dataset": "/a/x.csv"}, BEFORE | {"dataset": "/b/x.csv"})
    assert of_the_runs(BEFORE) == {k: v for k, v in BEFORE.items() if k != "data_dir"}


def test_a_flag_younger_than_the_run_has_the_value_that_it_had_then():
    found = {"keep": None, "label": None, "steps": (None,)}
    completed_from({"steps": 10}, found)
    assert found["keep"] == "last"
    assert found["steps"] == (None,)  # Every run directory has it.
    given = {"keep": "best"}
    completed_from({}, given)
    assert given["keep"] == "best"
    known = {"keep": None}
    completed_from({"keep": "best"}, known)
    assert known["keep"] is None


def test_the_folder_to_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    assert run_directory(None, None) is None
    assert run_directory(None, run) is None  # Nothing is in it.
    (run / "config.json").touch()
    assert run_directory(None, run) == run
    assert run_directory(run, None) == run
    assert run_directory(run, Path("run")) == run
    with pytest.raises(ConfigError, match="--out other: must be left out"):
        run_directory(run, Path("other"))


def test_flags_as_words():
    flags = {"hidden": ["5", "6"], "test_curve": True, "tensorboard": False, "out": None,
             "momentum": [None], "learning_rate": 0.1}  # fmt: skip
    assert words(flags) == ["--hidden", "5", "6", "--test-curve", "--learning-rate", "0.1"]


def test_flags_are_stored_as_one_value_or_a_list_and_not_what_may_differ(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {"hidden": ("5",), "l2": (0.1, 0.2), "data_dir": Path("a"), "dry_run": True, "seeds": 3}
    stored = {"hidden": "5", "l2": [0.1, 0.2], "data_dir": str(tmp_path / "a"), "seeds": 3}
    assert as_json(given) == stored
