"""What the flags ask of the data, where that ends, and what is said beyond."""

import numpy as np
import pytest

from train.data import Dataset, split
from train.data.schema import Schema
from train.data.split import check_batches, check_inputs, idle_patience, load_for, number_of_steps
from train.errors import ConfigError
from train.flags.config import ConvnetRun, MlpRun, replaced
from train.flags.constraints import completed

X, Y = np.zeros((70, 2, 2, 1), np.uint8), np.zeros(70, np.int32)
DATA = Dataset("noise", "Noise.", X, Y, X[:30], Y[:30], ("a", "b"), "fingerprint")
TABLE = Dataset(
    "table", "Rows.", np.zeros((70, 3), np.float32), Y, np.zeros((30, 3), np.float32), Y[:30],
    ("a", "b"), "fingerprint", schema=Schema((3,), "float32"),
)  # fmt: skip


def run_of(kind=MlpRun, **flags):
    return completed(replaced(kind(), {"batch_size": 10, **flags}))


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({"steps": 5}, 5),
        ({"epochs": 3}, 18),  # Six batches of the 63 that are not held out.
        ({"epochs": 3, "validation": 0.0}, 21),
        ({"epochs": 3, "validation": 60.0}, 3),
        ({"epochs": 3, "folds": 7, "fold": 6}, 18),
        ({"epochs": 3, "folds": 70, "fold": 0}, 18),
        ({"batch_size": 63, "epochs": 2}, 2),
        ({"warmup_steps": 4, "steps": 5}, 5),
        ({"epochs": 2**31 // 6}, 2**31 // 6 * 6),
    ],
)
def test_so_many_steps(flags, steps):
    assert number_of_steps(run_of(**flags), DATA) == steps


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"batch_size": 64}, "--batch-size 64: must be at most 63, the number of training examples "
                             "of noise, without the 7 to validate on"),
        ({"batch_size": 71, "validation": 0.0}, "--batch-size 71: must be at most 70, the number "
                                                "of training examples of noise"),
        ({"folds": 71, "fold": 0}, "--folds 71: must be at most 70"),
        ({"validation": 0.001}, "--validation 0.001: holds out none of the 70"),
        ({"validation": 70.0}, "--validation 70: must be below 70"),
        ({"warmup_steps": 5, "steps": 5}, "--warmup-steps 5: must be below 5"),
        ({"epochs": 2**31 // 6 + 1}, f"--epochs {2**31 // 6 + 1}: must make fewer than 2^31"),
        ({"epochs": 2**28, "batch_size": 7, "validation": 14.0}, "--epochs 268435456: must make"),
    ],
)  # fmt: skip
def test_what_the_data_do_not_allow_is_said(flags, line):
    with pytest.raises(ConfigError) as error:
        number_of_steps(run_of(**flags), DATA)
    assert str(error.value).startswith(line)
    assert ("without the" in str(error.value)) == ("without the" in line)


def test_as_many_examples_are_taken_as_are_asked_for():
    found = load_for(run_of(train_examples=70, test_examples=30), DATA)
    assert (len(found.y_train), len(found.y_test)) == (70, 30)
    found = load_for(run_of(train_examples=8), DATA)
    assert (len(found.x_train), len(found.y_train), len(found.y_test)) == (8, 8, 30)
    for name, count in (("train", 71), ("test", 31)):
        with pytest.raises(ConfigError, match=f"--{name}-examples {count}: must be at most"):
            load_for(run_of(**{f"{name}_examples": count}), DATA)


def test_a_data_set_that_is_not_there_is_named_beside_those_that_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = {"data_dir": tmp_path}
    with pytest.raises(ConfigError, match=r"minst: must be one of .*; did you mean mnist\?$"):
        load_for(run_of(dataset="minst", **folder))
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match=r"photos: must be one of .*; did you mean ./photos\?$"):
        load_for(run_of(dataset="photos", **folder))
    with pytest.raises(ConfigError, match=r"or the path of a \.npz, \.csv, \.parquet file"):
        load_for(run_of(dataset="qqq", **folder))


def test_data_are_read_as_the_flags_say(monkeypatch):
    """And by their own defaults where a flag is not given."""
    seen = []
    monkeypatch.setattr(split, "load", lambda *of, **options: seen.append((of, options)) or DATA)
    load_for(run_of(dataset="./a.csv", label="kind", test=0.25))
    load_for(run_of(dataset="./images", image_size="8x8", missing="mean"))
    load_for(run_of(dataset="digits"))
    assert seen == [
        (("./a.csv", None), {"label": "kind", "test": 0.25}),
        (("./images", None), {"image_size": "8x8", "missing": "mean"}),
        (("digits", None), {}),
    ]


@pytest.mark.parametrize(
    ("kind", "flags", "line"),
    [
        (MlpRun, {}, None),
        (ConvnetRun, {}, "--dataset table: is a table, and a convolutional network takes images"),
        (MlpRun, {"augment": "flip"}, "--augment flip: is for images"),
        (MlpRun, {"preprocessing": "unit"}, "--preprocessing unit: is for images"),
    ],
)
def test_a_table_is_no_image(kind, flags, line):
    check_inputs(run_of(kind, **flags), DATA)
    if line is None:
        check_inputs(run_of(kind, **flags), TABLE)
    else:
        with pytest.raises(ConfigError) as error:
            check_inputs(run_of(kind, **flags), TABLE)
        assert str(error.value).startswith(line)


def test_a_patience_that_cannot_stop_a_run_is_said_once():
    """Of all runs that have it, by the longest."""
    runs = [run_of(patience=p, eval_every=10) for p in (3, 3, 2, 1, None)]
    assert list(idle_patience(runs, [30, 21, 20, 10, 50])) == [
        "--patience 3: cannot stop a run of 30 steps with --eval-every 10; below 3 it can",
        "--patience 2: cannot stop a run of 20 steps with --eval-every 10; below 2 it can",
        "--patience 1: cannot stop a run of 10 steps with --eval-every 10; a smaller one helps",
    ]
    assert list(idle_patience(runs, [30, 31, 21, 11, 50])) == []
    assert list(idle_patience(runs[:2], [31, 9])) == []


@pytest.mark.parametrize(
    ("size", "devices", "near"),
    [(8, 4, None), (4, 4, None), (9, 1, None), (10, 4, "8 or 12"), (3, 4, "4"), (5, 4, "4 or 8")],
)
def test_a_batch_is_divided_over_the_devices(size, devices, near):
    if near is None:
        check_batches([run_of(batch_size=size)], devices)
        return
    with pytest.raises(ConfigError) as error:
        check_batches([run_of(batch_size=devices), run_of(batch_size=size)], devices)
    assert str(error.value) == (
        f"--batch-size {size}: must be a multiple of the {devices} devices with --shard batch, "
        f"such as {near}"
    )
