"""--keep best: which parameters a run keeps, and what it is tested with."""

import json

import jax
import numpy as np
import pytest

from train import fit
from train.evaluate.__main__ import main as evaluate
from train.mlp import main

# Rates at which the validation loss falls, and rises again.
FLAGS = {"hidden": "20", "learning_rate": [0.02, 0.1], "eval_every": 10, "seeds": 2}
WORDS = "--hidden 20 --learning-rate 0.1 --eval-every 10 --keep best".split()  # noqa: SIM905


pytestmark = [pytest.mark.usefixtures("promotion"), pytest.mark.slow]


@pytest.fixture(scope="module")
def best():
    return fit("digits", keep="best", steps=[55, 80], **FLAGS)


def kept(runs):
    found = {}
    for row in runs.summary["rows"]:
        config = row["config"]
        for position, seed in enumerate(row["seeds"]):
            key = config["learning_rate"], config["steps"], seed
            found[key] = (
                row["kept"][position],
                {
                    name: row[name]["final"]["values"][position]
                    for name in row
                    if name.startswith(("validation_", "test_"))
                },
            )
    return found


def test_the_step_of_the_lowest_validation_loss_is_kept(best):
    """Of each run that of its own evaluations: 0, 10, ... and its end, 55 or 80."""
    found, history = kept(best), best.history()
    steps = set()
    for number, ((rate, end, seed), (step, metrics)) in enumerate(sorted(found.items())):
        assert number < 8
        own = (
            best.frame()
            .query(f"learning_rate == {rate} and seed == {seed} and steps == {end}")
            .index[0]
        )
        seen = history[history["run"] == own].set_index("step")["validation_loss"]
        assert seen.index.tolist() == sorted({*range(0, end, 10), end})
        assert step == seen.idxmin()
        assert metrics["validation_loss"] == seen.min()
        steps.add(step)
    assert len(steps) > 2
    assert steps - {55, 80}  # Some were better before their end.


def test_it_is_tested_with_what_a_run_of_so_many_steps_learns(best):
    (rate, _, seed), (step, metrics) = min(kept(best).items(), key=lambda item: item[1][0])
    short = fit("digits", steps=step, **{**FLAGS, "learning_rate": rate, "seed": seed, "seeds": 1})
    (row,) = short.summary["rows"]
    assert row["kept"] == [None]
    for name in ("validation_accuracy", "test_loss", "test_accuracy"):
        assert metrics[name] == pytest.approx(row[name]["final"]["mean"], rel=1e-5)
    whole = best.frame().query(f"learning_rate == {rate} and seed == {seed}").index[0]
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5),
        best[whole].params,
        short[0].params,
    )


def test_the_last_is_kept_unless_patience_is_given():
    (row,) = fit("digits", steps=60, hidden="20", learning_rate=0.1, eval_every=10).summary["rows"]
    assert row["kept"] == [None]
    flags = {"steps": 200, "hidden": "20", "learning_rate": 0.1, "eval_every": 10, "patience": 2}
    (row,) = fit("digits", **flags).summary["rows"]
    assert row["kept"] == [row["stopped"][0] - 20]
    (row,) = fit("digits", keep="last", **flags).summary["rows"]
    assert row["kept"] == [None]
    assert row["stopped"] is not None


def test_the_command_says_what_is_kept_and_evaluate_sees_it(tmp_path, capsys):
    words = [*WORDS, "--steps", "60"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    (row,) = summary["rows"]
    said = f"parameters    of the lowest validation loss, step {row['kept'][0]}\n"
    assert said in capsys.readouterr().out
    for split in ("test", "validation"):
        assert evaluate([str(tmp_path / "run"), "--split", split]) == 0
        accuracy = row[f"{split}_accuracy"]["final"]["mean"]
        out = capsys.readouterr().out
        assert f"{split} set: accuracy {accuracy:.4f} " in out
        assert "summary.json says" not in out


def test_a_run_that_resumes_keeps_what_it_would_have(tmp_path, monkeypatch):
    """Stopped after its best evaluation, it still has the parameters of that."""
    words = [*WORDS, "--steps", "80"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    whole = json.loads((tmp_path / "whole/summary.json").read_text())
    (row,) = whole["rows"]
    assert row["kept"][0] < 60

    def stops(self, trainer, ended):
        if trainer.step == 70:
            raise OSError(28, "No space left on device")

    from train.run_directory.checkpoint_manager import Saver

    with monkeypatch.context() as patched:
        patched.setattr(Saver, "keep", stops)
        patched.setattr("train.run_directory.checkpoint_manager.SHARE", 1e9)
        assert main([*words, "--out", str(tmp_path / "run")]) == 1
    assert main(["--resume", str(tmp_path / "run")]) == 0
    again = json.loads((tmp_path / "run/summary.json").read_text())
    assert again["rows"] == whole["rows"]
