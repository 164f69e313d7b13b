"""What is kept of runs, how long they took, and which folder counts as empty."""

import types

import numpy as np
import pytest

from train.errors import StoreError
from train.flags.config import MlpRun, replaced
from train.flags.sweep import Group
from train.run_directory.checkpoint_manager import Saver
from train.run_directory.directory import RunDirectory, check_out
from train.run_directory.keeper import Keeper, row, stacked
from train.run_directory.summary import End, Result


def trainer(runs, step, seconds, in_steps):
    learned = {"weight": np.arange(runs) + 10 * step}
    return types.SimpleNamespace(
        runs=runs, step=step, seconds=seconds, seconds_in_steps=in_steps,
        learned=learned, on_host=lambda tree: tree,
    )  # fmt: skip


def group_of(*ends):
    """Runs that are each read at these steps, two in the sweep for each."""
    runs = [replaced(MlpRun(), {"seed": seed}) for seed in (0, 1)]
    readers = [{2 * i + seed: end for i, end in enumerate(ends)} for seed in (0, 1)]
    return Group(runs[0], dict(zip(runs, readers, strict=True)))


def test_the_time_of_a_sweep_is_that_of_its_groups():
    keeper = Keeper()
    assert keeper.time() == {"seconds": 0.0, "steps_per_second": 0.0}
    keeper.finish(1, trainer(2, 30, seconds=10.0, in_steps=4.0), group_of(30))
    keeper.finish(2, trainer(3, 20, seconds=20.0, in_steps=8.0), group_of(20))
    assert keeper.time() == {"seconds": 30.0, "steps_per_second": (2 * 30 + 3 * 20) / 12.0}


def test_a_sweep_that_is_not_interrupted_keeps_nothing_in_between():
    keeper = Keeper()
    keeper.offer(1, trainer(2, 30, 3.0, 2.0), group_of(40))
    assert not keeper.learned
    keeper.finish(1, trainer(2, 0, seconds=3.0, in_steps=0.0), group_of(0))
    assert keeper.time() == {"seconds": 3.0, "steps_per_second": 0.0}  # None were made.


def test_each_run_keeps_what_it_had_learned_at_its_own_end():
    keeper, group = Keeper(), group_of(20, 30)
    keeper.keep(trainer(2, 20, 1.0, 1.0), {0: 0, 1: 1})
    keeper.finish(1, trainer(2, 30, 1.0, 1.0), group)
    assert {index: int(of["weight"]) for index, of in keeper.learned.items()} == {
        0: 200, 1: 201, 2: 300, 3: 301,
    }  # fmt: skip
    together = stacked(keeper.learned)
    assert together["weight"].tolist() == [200, 201, 300, 301]
    assert row(together, 2)["weight"] == 300


@pytest.mark.parametrize(("now", "step", "kept"), [(False, 30, 0), (True, 0, 0), (True, 30, 2)])
def test_what_is_interrupted_is_kept_once_it_has_begun(now, step, kept):
    keeper = Keeper()
    keeper.offer(1, trainer(2, step, 3.0, 2.0), group_of(40), now)
    assert len(keeper.learned) == kept
    assert keeper.time()["seconds"] == (3.0 if kept else 0.0)


def test_what_was_known_of_the_runs_and_their_groups_is_restored(tmp_path):
    """The evaluations until then, how runs ended, and the time of the groups before."""
    results = [Result(MlpRun(), []), Result(MlpRun(), [])]
    lines = [{"run": run, "step": step} for step in (0, 9) for run in (0, 1)]
    times = [{"steps": 60, "seconds": 10.0, "seconds_in_steps": 4.0}]
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        for line in lines[:3]:
            directory.append(line)
        mark = directory.mark()
        directory.append(lines[3])
        saver = Saver(directory, results)
        ends = [[9, None, 17, None], [None, None, 17, 5]]
        saver._go_back({"metrics": mark, "times": times, "results": ends})
    assert [result.records for result in results] == [[lines[0], lines[2]], [lines[1]]]
    assert [result.end for result in results] == [End(9, None, 17, None), End(None, None, 17, 5)]
    Keeper.finish(saver, 2, trainer(3, 20, seconds=20.0, in_steps=8.0), group_of(20))
    assert saver.time() == {"seconds": 30.0, "steps_per_second": (60 + 60) / 12.0}


# --- the folder ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "empty"),
    [
        ("metrics.jsonl", "", True),
        ("metrics.jsonl", '{"run": 0}\n', False),
        ("config.json.1234.partial", "{", True),
        ("data.json.1234.partial", "{", True),
        ("manifest.sha256.1234.partial", "a", True),
        ("summary.json.1234.partial", "{", False),
        ("config.json", "{}", False),
        ("notes.partial", "mine", False),
    ],
)
def test_what_a_killed_run_left_as_it_began_is_nothing(tmp_path, name, content, empty):
    (tmp_path / name).write_text(content)
    if empty:
        check_out(tmp_path)
    else:
        with pytest.raises(StoreError, match=r"it holds a file$"):
            check_out(tmp_path)
    assert (tmp_path / name).read_text() == content


class Short:
    """A file to which fewer bytes are written than are given."""

    def __init__(self, file, missing):
        self._file, self._missing = file, missing

    def write(self, line):
        return self._file.write(line[: len(line) - self._missing])

    def close(self):
        self._file.close()


@pytest.mark.parametrize("missing", [1, 5])
def test_a_line_that_is_written_in_part_is_an_error(tmp_path, missing):
    followed = []
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        directory.followers.append(followed.append)
        directory.append({"step": 0})
        directory._metrics = Short(directory._metrics, missing)
        with pytest.raises(OSError, match=r"metrics.jsonl cannot be written: No space left"):
            directory.append({"step": 1})
    assert followed == [{"step": 0}]


@pytest.mark.parametrize("saved", ["checkpoints", "parameters", None])
def test_what_was_saved_of_a_run_is_not_discarded(tmp_path, saved):
    """Out of memory in the second group leaves the first as it is."""
    folder = tmp_path / "run"
    with RunDirectory.create(folder, "digits-mlp") as directory:
        directory.write_config({"command": "train.mlp"})
        directory.append({"step": 0})
        (folder / "tensorboard").mkdir()
        if saved:
            (folder / saved).mkdir()
        before = sorted(path.name for path in folder.iterdir())
        directory.discard()
    assert folder.exists() == (saved is not None)
    if saved:
        assert sorted(path.name for path in folder.iterdir()) == before
        assert (folder / "metrics.jsonl").read_text() == '{"step": 0}\n'


def test_what_is_not_of_the_run_is_not_discarded(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    with RunDirectory.create(folder, "digits-mlp") as directory:
        directory.write_config({"command": "train.mlp"})
        (folder / "notes").write_text("mine")
        directory.discard()
    assert [path.name for path in folder.iterdir()] == ["notes"]


def test_a_run_that_goes_on_has_no_summary(tmp_path):
    """Nor a manifest of one; half written files are gone, those of others are not."""
    with RunDirectory.create(tmp_path / "run", "digits-mlp") as directory:
        directory.write_config({"command": "train.mlp"})
        directory.append({"step": 0})
        directory.curves.write_bytes(b"a figure")
        directory.finish({"rows": [1]})
        (directory.path / "summary.json.1.partial").write_text("{")
        (directory.path / "notes.partial").write_text("mine")
        directory.reopen()
        names = sorted(path.name for path in directory.path.iterdir())
        assert names == ["config.json", "curves.png", "manifest.sha256", "metrics.jsonl",
                         "notes.partial"]  # fmt: skip
        sealed = (directory.path / "manifest.sha256").read_text().splitlines()
        assert [line.split()[1] for line in sealed[:-1]] == ["config.json"]
