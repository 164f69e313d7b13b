"""What must hold whatever happens to the process, the disk, or the folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from train import checkpoint, report, saver, trainer
from train.mlp import main

ROOT = Path(__file__).parents[2]

# Two groups, whose runs end at three steps; with all that has a state: running statistics, random
# keys, an optimizer, patience, a mean training loss since the last evaluation.
SWEEP = [
    *("--hidden", "6", "5", "--norm", "batch", "--dropout", "0.3", "--optimizer", "momentum"),
    *("--learning-rate", "0.003", "0.03", "0.3", "--steps", "20", "45", "60", "--patience", "2"),
    *("--eval-every", "20", "--batch-size", "64"),
]


# Each program is compiled once, however often the command begins anew.
CACHE = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of compiled programs."""
    folder = str(tmp_path_factory.mktemp("cache"))
    options = {"jax_compilation_cache_dir": folder, **CACHE}
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module", autouse=True)
def surroundings(cache):
    """What the commands need of JAX's defaults; short segments, and no time spent on figures."""
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(report, "curves", lambda *arguments: None)
        patch.setattr(report, "bands", lambda *arguments: None)
        patch.setattr(trainer, "LONGEST_SEGMENT", 10)
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The sweep without an interruption."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert main([*SWEEP, "--out", str(folder)]) == 0
    return folder


def stop_at(monkeypatch, number, *moments):
    """Send a signal to this process at so many segments from its start."""
    advance, seen = report.Progress.advance, []

    def advanced(self, *arguments):
        seen.append(arguments)
        if len(seen) in moments:
            os.kill(os.getpid(), number)
        return advance(self, *arguments)

    monkeypatch.setattr(report.Progress, "advance", advanced)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """The sweep, stopped in its second group; every segment was saved."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saver, "SHARE", float("inf"))
        stop_at(patch, signal.SIGTERM, 12)
        assert main([*SWEEP, "--out", str(folder)]) == 143
    assert names(folder / "checkpoints") == [
        "group-0002-step-0000000040",
        "group-0002-step-0000000045",
    ]
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    return shutil.copytree(stopped_once, tmp_path / "run")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def learned(folder):
    """The bits of all parameters and statistics, by group, name and run."""
    found = {}
    for path in sorted((folder / "parameters").iterdir()):
        tree, notes = checkpoint.load(path)
        for name, leaf in jax.tree.leaves_with_path(tree):
            for run, row in zip(notes["runs"], leaf, strict=True):
                found[path.name, jax.tree_util.keystr(name), run] = (row.dtype, row.tobytes())
    return found


def assert_same(folder, straight):
    assert metrics(folder) == metrics(straight)
    assert learned(folder) == learned(straight)
    rows, expected = (
        json.loads((path / "summary.json").read_text())["rows"] for path in (folder, straight)
    )
    assert rows == expected
    assert not (folder / "checkpoints").exists()


def one_line(capsys, message):
    """That the last command had this to say, and nothing else on stderr."""
    assert capsys.readouterr().err == f"error: {message}\n"


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", [(1,), (2, 3), (7,), (9, 3), (14,)])
def test_stopped_and_resumed_it_is_the_straight_run_bit_for_bit(
    straight, tmp_path, monkeypatch, capsys, moments
):
    monkeypatch.chdir(tmp_path)
    command = [*SWEEP, "--out", "run"]
    for moment in moments:
        with monkeypatch.context() as patch:
            stop_at(patch, signal.SIGTERM, moment)
            assert main(command) == 143
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("terminated after step ")
        assert last.endswith("; resume with: python -m train.mlp --resume run")
        command = last.partition("train.mlp ")[2].split()
    assert main(command) == 0
    assert "warning" not in capsys.readouterr().err
    assert_same(tmp_path / "run", straight)


# --- killed --------------------------------------------------------------------------------------

# A process that has imported everything and started nothing; its children begin where a command
# is after its imports, which saves two seconds each.
KILLER = """
import json, os, pathlib, random, signal, sys, time
import jax, matplotlib.figure, optax, orbax.checkpoint, sklearn.datasets
from train import program, saver, trainer
from train.mlp import main

folder, command = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
trainer.LONGEST_SEGMENT = 10

def life(*words):
    child = os.fork()
    if child == 0:
        with open(folder / "log", "a") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        os._exit(main([*words]))
    return child

def status(child, wait=True):
    done, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None

assert status(life(*command, "--out", str(folder / "straight"))) == 0
saver.SHARE = float("inf")  # Saves after each segment.
run, chance, where = folder / "run", random.Random(0), []
for number in range(50):
    def saves():
        return {path.name for path in run.glob("*/group-*")}
    before, child = saves(), life(*command, "--out", str(run))
    if number % 5 == 0:
        time.sleep(chance.random())
    else:
        while saves() == before and status(child, wait=False) is None:
            time.sleep(0.001)
        time.sleep(0.05 * chance.random())
    os.kill(child, signal.SIGKILL)
    assert status(child) == -signal.SIGKILL, f"the sweep was over after {number} kills"
    where.append((bool([*run.glob("*/.partial")]), len(saves() - before)))
saver.SHARE = 0.05
assert status(life("--resume", str(run))) == 0
print(json.dumps(where))
"""


def test_killed_fifty_times_it_is_the_straight_run_bit_for_bit(tmp_path, cache):
    command = [
        *(
            "--hidden",
            "6",
            "5",
            "--dropout",
            "0.3",
            "--optimizer",
            "momentum",
            "--batch-size",
            "16",
        ),
        *("--learning-rate", "0.01", "0.1", "--steps", "1000", "1500", "--eval-every", "50"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": cache}
    environment |= {name.upper(): str(value) for name, value in CACHE.items()}
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), json.dumps(command)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    where = json.loads(done.stdout)
    assert sum(while_saving for while_saving, _ in where) >= 5
    assert sum(saved for _, saved in where) >= 40
    assert_same(tmp_path / "run", tmp_path / "straight")
