import errno
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import jax
import pytest

from train.data import load
from train.errors import StoreError
from train.run_directory import files, manifest, summary
from train.run_directory.directory import RunDirectory


def record(step, loss, accuracy):
    """An evaluation; at step 0 there is nothing of training to report."""
    return {
        "step": step,
        "train_loss": None if step == 0 else loss - 0.25,
        "train_accuracy": None if step == 0 else accuracy + 0.25,
        "test_loss": loss,
        "test_accuracy": accuracy,
    }


def test_the_named_folder_is_the_run_directory(tmp_path):
    out = tmp_path / "a" / "b"
    with RunDirectory.create(out, "digits-mlp") as directory:
        assert directory.path == out
    (tmp_path / "empty").mkdir()
    with RunDirectory.create(tmp_path / "empty", "digits-mlp") as directory:
        assert directory.curves == tmp_path / "empty" / "curves.png"


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out, words in [
        (tmp_path, "holds 2 files"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "link", "is a file"),
        (tmp_path / "file" / "below", "cannot be written"),
    ]:
        with pytest.raises(StoreError, match=words) as error:
            RunDirectory.create(out, "digits-mlp")
        assert str(error.value).startswith(f"--out {out}: ")
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]
    assert (tmp_path / "file").read_text() == "mine"


def test_without_a_name_it_is_called_after_what_runs_and_the_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: form.replace("%Y%m%d-%H%M%S", "NOW"))
    paths = []
    for _ in range(3):  # In one second.
        with RunDirectory.create(None, "digits-mlp") as directory:
            paths.append(directory.path)
    assert paths == [Path("runs", f"digits-mlp-NOW{suffix}") for suffix in ("", "-2", "-3")]


def test_metrics_are_there_as_soon_as_they_are_made(tmp_path):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        for step in (0, 100):
            directory.append(record(step, 1 / 3, 0.5))
            lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
            assert json.loads(lines[-1]) == record(step, 1 / 3, 0.5)
        with pytest.raises(ValueError, match="JSON"):
            directory.append({"test_loss": float("nan")})
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_summary_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        directory.write_config({"command": "train.mlp"})
        directory.finish({"rows": [1]})
        with pytest.raises(TypeError):
            directory.finish({"rows": [1, 2], "unknown": object()})
        path = tmp_path / "run" / "summary.json"
        assert json.loads(path.read_text()) == {"rows": [1]}

        def unplugged(source, target):
            assert json.loads(Path(source).read_text()) == {"rows": [3]}
            raise OSError("unplugged")

        monkeypatch.setattr(os, "replace", unplugged)
        with pytest.raises(OSError, match="unplugged"):
            directory.finish({"rows": [3]})
        assert json.loads(path.read_text()) == {"rows": [1]}


def finished(folder, config=None):
    """A run directory with all its files, in which nothing ran."""
    with RunDirectory.create(folder, "digits-mlp") as directory:
        directory.write_config(config or {"command": "train.mlp", "seed": 1, "rate": 0.1})
        directory.append(record(0, 1.0, 0.5))
        directory.curves.write_bytes(b"a figure")
        directory.finish({"rows": []})
    return folder


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_the_manifest(tmp_path):
    folder = finished(tmp_path / "run")
    command = ["sha256sum", "--check", "--strict", "manifest.sha256"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{name}: OK" for name in ("config.json", "metrics.jsonl", "summary.json", "curves.png")
    ]
    (folder / "summary.json").write_text("{}")
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1


def test_a_manifest_that_is_cut_off_anywhere_is_refused(tmp_path):
    path = finished(tmp_path / "run") / "manifest.sha256"
    content = path.read_bytes()
    assert manifest.read_manifest(path.parent).digests.keys() >= {"summary.json"}
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(StoreError, match=r"manifest.sha256 is damaged"):
            manifest.read_manifest(path.parent)


def test_a_run_is_known_by_what_its_config_says():
    config = {"command": "train.mlp", "learning_rate": 0.1, "runs": [{"seed": 1}, {"seed": 2}]}
    other_order = dict(reversed(config.items()))
    assert manifest.identity(config) == manifest.identity(other_order)
    assert manifest.identity(config) != manifest.identity(config | {"learning_rate": 0.2})
    # Earlier versions took the bytes that they wrote.
    written = (json.dumps(config, indent=2) + "\n").encode()
    assert hashlib.sha256(written).hexdigest() in manifest.identities(config)


def test_a_number_that_is_not_finite_becomes_null(tmp_path):
    value = {"a": float("nan"), "b": [1.5, float("-inf")], "c": ({"d": float("inf")},)}
    files.write_json(tmp_path / "x.json", value)
    assert files.parsed_json((tmp_path / "x.json").read_text()) == {
        "a": None,
        "b": [1.5, None],
        "c": [{"d": None}],
    }


@pytest.mark.parametrize(
    "text", ["[]", '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', '{"a": ' + "[" * 100_000, "\0"]
)
def test_what_the_standard_of_json_does_not_have_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        files.parsed_json(text)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("name", ["open", "fsync", "replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, code, name):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})

    def fails(*arguments, **options):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(OSError, match=f"x.json cannot be written: {os.strerror(code)}$"):
            files.write_json(path, {"a": 2})
    assert os.listdir(tmp_path) == ["x.json"]
    assert files.parsed_json(path.read_text()) == {"a": 1}


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    for name in ("x.json", "x.json.partial"):
        (tmp_path / name).symlink_to("precious")
    files.write_json(tmp_path / "x.json", {"a": 1})
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "x.json").is_symlink()
    assert files.parsed_json((tmp_path / "x.json").read_text()) == {"a": 1}


def test_a_row_holds_final_and_best_of_each_metric():
    records = [record(0, 2.5, 0.125), record(100, 0.5, 0.5), record(200, 0.75, 0.375)]
    row = summary.row_of({"l2": 0.1}, [3], 17, [records])
    assert row["config"] == {"l2": 0.1}
    assert row["seeds"] == [3]
    assert row["parameters"] == 17
    for metric, final, best in [
        ("train_loss", 0.5, 0.25),
        ("train_accuracy", 0.625, 0.75),
        ("test_loss", 0.75, 0.5),
        ("test_accuracy", 0.375, 0.5),
    ]:
        assert row[metric]["final"] == {"mean": final, "std": 0.0, "values": [final]}
        assert row[metric]["best"] == {"mean": best, "std": 0.0, "values": [best]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("train_loss"), "row 0 has other metrics of train than of test"),
        (lambda row: row.pop("test_accuracy"), "row 0 has other metrics of train than of test"),
        (
            lambda row: [row.pop(name) for name in list(row) if name.endswith("_loss")],
            "row 0 lacks metrics of test",
        ),
        (
            lambda row: row["test_loss"].update(
                final={"mean": None, "std": None, "values": [None]}
            ),
            "row 0 lacks one of test_loss and test_accuracy of a run",
        ),
        (lambda row: row["test_accuracy"].pop("best"), "test_accuracy of row 0 is none"),
    ],
)
def test_a_row_has_the_same_metrics_on_all_its_sets(change, message):
    row = summary.row_of({"l2": 0.1}, [3], 17, [[record(0, 2.5, 0.125), record(100, 0.5, 0.5)]])
    found = {"dataset": dict.fromkeys(("name", "description", "fingerprint"), ""), "rows": [row]}
    summary.check_rows(found, lambda config: 1)
    change(row)
    with pytest.raises(ValueError, match=message):
        summary.check_rows(found, lambda config: 1)


def test_a_row_of_several_seeds_has_their_mean_and_sample_deviation():
    runs = [[record(0, 2.5, 0.1), record(100, loss, 0.5)] for loss in (0.5, 0.7, 1.2)]
    spread = summary.row_of({}, [0, 1, 2], 17, runs)["test_loss"]["final"]
    assert spread["values"] == [0.5, 0.7, 1.2]
    assert spread["mean"] == pytest.approx(0.8)
    assert spread["std"] == pytest.approx(statistics.stdev([0.5, 0.7, 1.2]))
    assert json.loads(json.dumps(spread)) == spread


def test_what_ran_where_is_told():
    versions = summary.versions()
    assert set(versions) == {"python", "jaxnets", "jax", "jaxlib", "optax", "numpy"}
    assert versions["jax"] == jax.__version__
    dataset = load("digits")
    assert summary.describe(dataset) == {
        "name": "digits",
        "description": dataset.description,
        "fingerprint": dataset.fingerprint,
        "train_examples": 1437,
        "test_examples": 360,
    }


def test_configurations_rank_by_final_accuracy_then_loss_and_diverged_ones_last():
    finals = {"a": (0.5, 0.9), "b": (0.1, 0.7), "c": (0.4, 0.9)}
    rows = [summary.row_of({"name": n}, [0], 17, [[record(9, *v)]]) for n, v in finals.items()]
    rows.insert(0, summary.row_of({"name": "d"}, [0], 17, [[record(0, 1.0, 1.0)]], diverged=[3]))
    ranked = sorted(rows, key=lambda row: summary.rank(row, "test"))
    assert [row["config"]["name"] for row in ranked] == ["c", "a", "b", "d"]


def test_what_is_no_object_is_shown_in_part():
    with pytest.raises(ValueError, match=f"^'{chr(34)}{'a' * 19}' is not an object$"):
        files.parsed_json(f'"{"a" * 30}"')


def test_a_process_that_does_not_write_leaves_all_as_it_is(tmp_path):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        directory.write_config({"command": "train.mlp"})
        before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        directory.writes = False
        directory.finish({"rows": []})
        directory.append({"step": 0})
        directory.discard()
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_folder_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    def full(self, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StoreError, match=r"^runs/digits-mlp-.*: cannot be written: No space left"):
        RunDirectory.create(None, "digits-mlp")
