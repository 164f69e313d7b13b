"""A finished run that is trained on with more steps: it is the run that it would have been."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from train import fit, load
from train.mlp import main
from train.run_directory import checkpoint_manager
from train.run_directory.checkpoint_manager import Saver

# Two groups; running statistics, an optimizer, random keys and the best parameters have a state;
# the first end, 50, is between two evaluations.
WORDS = [
    *("--hidden", "6", "5", "--norm", "batch", "--dropout", "0.2", "--optimizer", "momentum"),
    *("--learning-rate", "0.01", "0.1", "--eval-every", "20", "--keep", "best"),
]


pytestmark = [pytest.mark.usefixtures("promotion"), pytest.mark.slow]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The run of 50 steps, and that of 120."""
    found = []
    for steps in ("50", "120"):
        found.append(tmp_path_factory.mktemp("runs") / steps)
        assert main([*WORDS, "--steps", steps, "--out", str(found[-1])]) == 0
    return found


@pytest.fixture
def short(folders, tmp_path):
    return Path(shutil.copytree(folders[0], tmp_path / "run"))


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(line["run"], line["step"]): {**line, "seconds": None} for line in found}


def check_same(folder, whole):
    """The evaluations, results and networks are those of the run that had its steps at once."""
    found, wanted = lines(folder), lines(whole)
    assert found.keys() - wanted.keys() == {(run, 50) for run in range(4)}
    for place, line in wanted.items():
        assert found[place] == line
    rows = (json.loads((path / "summary.json").read_text())["rows"] for path in (folder, whole))
    for row, other in zip(*rows, strict=True):
        for name in other.keys() - {"test_loss", "test_accuracy"}:
            assert row[name] == other[name], name
        for name in ("test_loss", "test_accuracy"):
            assert row[name]["final"] == other[name]["final"]
    for one, other in zip(load(folder), load(whole), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )


def test_it_is_the_longer_run_bit_for_bit(short, folders, capsys):
    assert main(["--resume", str(short), "--steps", "120"]) == 0
    assert "warning" not in capsys.readouterr().err
    check_same(short, folders[1])
    assert main(["--resume", str(short)]) == 0
    check_same(short, folders[1])


def test_it_can_be_trained_on_again_and_from_python(short, folders):
    assert main(["--resume", str(short), "--steps", "80"]) == 0
    runs = fit(resume=short, steps=120)
    assert runs.path == short
    assert lines(short).keys() - lines(folders[1]).keys() == {(r, 50) for r in range(4)}
    for one, other in zip(runs, load(folders[1]), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.mark.parametrize("group", [1, 2])
def test_stopped_meanwhile_it_resumes(short, folders, monkeypatch, group):
    finish = Saver.finish

    def fails(self, number, trainer, of):
        if number == group:
            raise OSError(28, "No space left on device")
        finish(self, number, trainer, of)

    with monkeypatch.context() as patched:
        patched.setattr(Saver, "finish", fails)
        patched.setattr(checkpoint_manager, "SHARE", 1e9)  # Checkpoints after each segment.
        assert main(["--resume", str(short), "--steps", "120"]) == 1
    assert not (short / "summary.json").exists()
    assert main(["--resume", str(short)]) == 0
    check_same(short, folders[1])


@pytest.mark.parametrize("after", ["manifest.sha256", "summary.json"])
def test_killed_as_it_begins_the_shorter_run_is_still_there(short, folders, after):
    """The files go in this order before config.json is written."""
    (short / "manifest.sha256").unlink()
    if after == "summary.json":
        (short / "summary.json").unlink()
        assert main(["--resume", str(short), "--steps", "120"]) == 2
        assert main(["--resume", str(short)]) == 0
    assert main(["--resume", str(short), "--steps", "120"]) == 0
    check_same(short, folders[1])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--steps", "50", "--epochs", "3"], "must be left out"),
        (["--steps", "49"], "its runs have 50 steps; to train them on, take more than these"),
        (["--epochs", "8"], "its runs have 50 steps; to train them on, take more than these"),
        (["--steps", "80", "90"], "is a run with --steps 50 (here 80 90)"),
        (["--steps", "80", "--dropout", "0.1"], "is a run with --dropout 0.2 (here 0.1)"),
    ],
)
def test_what_it_cannot_become_is_refused_and_nothing_changes(short, capsys, words, line):
    before = {path: path.read_bytes() for path in short.rglob("*") if path.is_file()}
    assert main(["--resume", str(short), *words]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in short.rglob("*") if path.is_file()} == before


def test_a_schedule_with_an_end_is_refused(tmp_path, capsys):
    words = ["--hidden", "4", "--steps", "4", "--schedule", "cosine"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run/states").exists()
    capsys.readouterr()
    assert main(["--resume", str(tmp_path / "run"), "--steps", "8"]) == 2
    assert "--steps 8: the run has --schedule cosine" in capsys.readouterr().err


def test_without_its_state_it_is_refused(short, capsys):
    shutil.rmtree(short / "states/group-0002-step-0000000050")
    assert main(["--resume", str(short), "--steps", "120"]) == 2
    assert "holds no state of its last step" in capsys.readouterr().err
    assert (short / "summary.json").exists()


def test_a_damaged_state_is_refused(short, capsys):
    notes = short / "states/group-0001-step-0000000050/notes.json"
    notes.write_text(notes.read_text().replace("0", "1", 1))
    assert main(["--resume", str(short), "--steps", "120"]) == 2
    assert "does not have the checksum" in capsys.readouterr().err
    assert (short / "summary.json").exists()
