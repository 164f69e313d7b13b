"""A sweep of two groups that is saved, stopped and resumed, by a trainer that only counts."""

import jax
import numpy as np
import pytest

from train.errors import StoreError
from train.flags.config import MlpRun, replaced
from train.flags.sweep import Group
from train.run_directory import checkpoint_manager, group_folders
from train.run_directory.checkpoint_manager import Saver
from train.run_directory.directory import RunDirectory
from train.run_directory.summary import Result

CONFIG = {"command": "train.mlp", "seed": 0}


class Trainer:
    """Two runs, of which the arrays are the number of steps."""

    runs, seconds, seconds_in_steps = 2, 3.0, 2.0

    def __init__(self, step=0):
        self.step, self.restored = step, None

    @property
    def state(self):
        return {"weight": np.full(2, float(self.step)), "step": np.full(2, self.step)}

    @property
    def learned(self):
        return {"weight": np.full(2, float(self.step))}

    def on_host(self, tree):
        return tree

    def like(self, tree, runs):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape[1:]), x.dtype), tree)

    def snapshot(self):
        return {"state": self.state}, {"step": self.step, "seconds": self.seconds}

    def restore(self, state, tree, notes):
        self.step, self.restored = notes["step"], state


def group(schedule="constant"):
    runs = [replaced(MlpRun(), {"seed": seed, "schedule": schedule}) for seed in (0, 1)]
    return Group(runs[0], {run: {seed: 9} for seed, run in enumerate(runs)})


@pytest.fixture
def directory(tmp_path):
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as found:
        found.write_config(CONFIG)
        yield found


def saver_of(directory):
    saver = Saver(directory, [Result(MlpRun(), []), Result(MlpRun(), [])])
    saver._saved_at = -1e9  # It is time to save.
    return saver


def evaluated(directory, step):
    for run in (0, 1):
        directory.append({"run": run, "step": step})


def names(directory, folder):
    return sorted(path.name for path in (directory.path / folder).glob("*"))


def test_the_last_two_checkpoints_stay(directory):
    saver = saver_of(directory)
    saver.offer(1, Trainer(0), group(), now=True)
    assert names(directory, "checkpoints") == []  # At step 0 there is nothing to save.
    for step in (5, 6, 7):
        saver._saved_at = -1e9
        saver.offer(1, Trainer(step), group())
        assert not saver.learned  # Nothing has ended.
    assert names(directory, "checkpoints") == [
        "group-0001-step-0000000006", "group-0001-step-0000000007",
    ]  # fmt: skip
    saver.offer(1, Trainer(8), group())  # It has just been saved.
    assert names(directory, "checkpoints")[-1].endswith("7")
    saver.offer(1, Trainer(8), group(), now=True)
    assert names(directory, "checkpoints")[-1].endswith("8")
    assert sorted(saver.learned) == [0, 1]
    saver.close()
    assert names(directory, ".") == ["config.json", "manifest.sha256", "metrics.jsonl"]


def test_a_twentieth_of_the_time_goes_into_checkpoints(directory, monkeypatch):
    saver, clock = Saver(directory, []), [100.0]
    monkeypatch.setattr(checkpoint_manager.time, "perf_counter", lambda: clock[0])
    saver._saved_at, saver._took = 0.0, 6.0
    saver.offer(1, Trainer(5), group())
    assert names(directory, "checkpoints") == []
    clock[0] = 121.0  # 6 seconds are a twentieth of 120.
    saver.offer(1, Trainer(5), group())
    assert len(names(directory, "checkpoints")) == 1
    assert (saver._saved_at, saver._took) == (121.0, 0.0)


def stopped_in_the_second_group(directory):
    """A sweep whose first group is trained, and the second at step 6 of 9."""
    saver = saver_of(directory)
    evaluated(directory, 0)
    saver.finish(1, Trainer(9), group())
    evaluated(directory, 5)
    for step in (5, 6):
        saver._saved_at = -1e9
        saver.offer(2, Trainer(step), group(), now=step == 6)
    evaluated(directory, 7)


def test_a_group_that_is_trained_has_its_parameters_and_its_end(directory):
    stopped_in_the_second_group(directory)
    assert names(directory, "parameters") == ["group-0001"]
    assert names(directory, "states") == ["group-0001-step-0000000009"]
    saver = saver_of(directory)
    saver.finish(1, Trainer(12), group())  # Trained on.
    assert names(directory, "states") == ["group-0001-step-0000000012"]
    saver.finish(2, Trainer(9), group("cosine"))  # Its schedule has an end.
    assert names(directory, "states") == ["group-0001-step-0000000012"]
    saver.check_states(1)
    with pytest.raises(StoreError, match="holds no state of its last step"):
        saver.check_states(2)


def test_it_goes_on_where_it_stood(directory, capsys):
    stopped_in_the_second_group(directory)
    saver = saver_of(directory)
    assert saver.recover(2) == 2
    assert capsys.readouterr().err == ""
    # The evaluation that came after the checkpoint is made anew.
    assert [[r["step"] for r in of.records] for of in saver._results] == [[0, 5], [0, 5]]
    assert len(saver.times) == 1
    trainer = Trainer()
    saver.restore(2, trainer)
    assert trainer.step == 6
    assert trainer.restored["weight"].tolist() == [6, 6]
    other = Trainer()
    saver.restore(3, other)  # A group after it begins anew.
    assert other.restored is None


def test_a_new_sweep_begins_at_the_beginning(directory, capsys):
    saver = saver_of(directory)
    assert saver.recover(2) == 1
    assert capsys.readouterr().err == ""
    evaluated(directory, 0)
    assert saver_of(directory).recover(2) == 1
    said = capsys.readouterr().err
    assert said == "warning: going on from step 0 of group 1 of 2\n"


def test_a_sweep_that_is_trained_has_nothing_to_resume(directory):
    saver = saver_of(directory)
    for number in (1, 2):
        saver.finish(number, Trainer(9), group())
    assert saver_of(directory).recover(2) == 3


def damage(directory, path):
    (path / checkpoint_manager.__name__).write_text("a file too many")


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(directory, capsys):
    stopped_in_the_second_group(directory)
    last = group_folders.checkpoints(directory.path)[-1]
    damage(directory, last)
    saver = saver_of(directory)
    assert saver.recover(2) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"warning: {last}: ")
    assert said[1] == "warning: going on from step 5 of group 2 of 2"
    trainer = Trainer()
    saver.restore(2, trainer)
    assert trainer.step == 5
    assert names(directory, "checkpoints") == ["group-0002-step-0000000005"]
    aside = [path.name for path in (directory.path / "set-aside").rglob("group-*")]
    assert aside == [last.name]


def test_parameters_that_are_damaged_are_trained_anew(directory, capsys):
    stopped_in_the_second_group(directory)
    damage(directory, group_folders.parameters(directory.path, 1))
    saver = saver_of(directory)
    assert saver.recover(2) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("; group 1 is not complete without it")
    assert said[-1] == "warning: going on from step 0 of group 1 of 2"
    assert names(directory, "parameters") == names(directory, "checkpoints") == []


def test_what_is_of_another_run_is_refused(directory, tmp_path):
    stopped_in_the_second_group(directory)
    with RunDirectory.create(tmp_path / "other", "digits-mlp") as other:
        other.write_config({**CONFIG, "seed": 1})
        (directory.path / "parameters").rename(other.path / "parameters")
        with pytest.raises(StoreError, match="put back what was there, or train in another folder"):
            saver_of(other).recover(2)


def test_a_checkpoint_goes_with_its_evaluations(directory, capsys):
    stopped_in_the_second_group(directory)
    metrics = directory.path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"step": 5', '"step": 4'))
    assert saver_of(directory).recover(2) == 2
    said = capsys.readouterr().err
    assert said.count("goes with other lines than those in metrics.jsonl") == 2
    assert said.endswith("warning: going on from step 0 of group 2 of 2\n")
