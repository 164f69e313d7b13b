"""What must hold whatever happens to the process, the disk, or the folder."""

import dataclasses
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from train import convnet, data
from train.data import split
from train.engine import assembly, compiled, segments
from train.flags import given as resume
from train.flags.config import MlpRun
from train.mlp import main
from train.report import figures, progress
from train.run_directory import checkpoint, checkpoint_manager
from train.run_directory.directory import RunDirectory
from train.training.command import parse

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

# Two groups, whose runs end at three steps; with all that has a state: running statistics, random
# keys, an optimizer, a run that loses patience, one that diverges, a mean loss since the last
# evaluation; and five runs on four devices, which are padded.
SWEEP = [
    *("--hidden", "6", "5", "--norm", "batch", "--dropout", "0.3", "--optimizer", "momentum"),
    *("--learning-rate", "0.003", "0.03", "0.3", "30", "1e30", "--steps", "20", "45", "60"),
    *("--eval-every", "20", "--batch-size", "64", "--patience", "1"),
]


# Each program is compiled once, however often the command begins anew, in this process and others.
CACHE = {
    "jax_enable_compilation_cache": True,
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
        patch.setattr(figures, "curves", lambda *arguments: None)
        patch.setattr(figures, "bands", lambda *arguments: None)
        patch.setattr(segments, "LONGEST_SEGMENT", 10)
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The sweep without an interruption."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert main([*SWEEP, "--out", str(folder)]) == 0
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    assert any(row["stopped"] != [None] for row in rows)
    assert any(row["diverged"] != [None] for row in rows)
    return folder


def stop_at(monkeypatch, number, *moments):
    """Send a signal to this process at so many segments from its start."""
    advance, seen = progress.Progress.advance, []

    def advanced(self, *arguments):
        seen.append(arguments)
        if len(seen) in moments:
            os.kill(os.getpid(), number)
        return advance(self, *arguments)

    monkeypatch.setattr(progress.Progress, "advance", advanced)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """The sweep, stopped in its second group; every segment was saved."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_manager, "SHARE", float("inf"))
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


def test_a_run_has_its_parameters_at_its_own_end(straight, tmp_path):
    """Of three lengths, and stopped early: those of the run alone with as many steps."""
    groups = sorted((straight / "parameters").iterdir())
    runs = json.loads((straight / "config.json").read_text())["runs"]
    ends = {line["run"]: line["step"] for line in metrics(straight)}
    assert [checkpoint.load_notes(path)["runs"] for path in groups] == [
        [i for i, run in enumerate(runs) if run["hidden"] == hidden] for hidden in ("6", "5")
    ]
    tree, notes = checkpoint.load(groups[0])
    at = SWEEP.index("--steps")
    for steps in (20, 45):
        out = tmp_path / str(steps)
        few = ["--hidden", "6", *SWEEP[3:at], "--steps", str(steps), *SWEEP[at + 4 :]]
        assert main([*few, "--out", str(out)]) == 0
        alone, _ = checkpoint.load(out / "parameters" / "group-0001")
        indices = [index for index in notes["runs"] if runs[index]["steps"] == steps]
        last = {line["run"]: line["step"] for line in metrics(out)}
        assert [ends[index] for index in indices] == list(last.values())
        assert set(last.values()) == {20, steps}  # One is stopped early.
        rows = [notes["runs"].index(index) for index in indices]
        for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(a[rows], b)


def test_a_finished_run_shows_its_table_again(straight, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(straight, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    summary = json.loads((folder / "summary.json").read_text())
    monkeypatch.setattr(assembly, "Trainer", None)
    monkeypatch.chdir(tmp_path)
    for command in (["--resume", "run"], [*SWEEP, "--out", "run"]):
        assert main(command) == 0
        output = capsys.readouterr()
        assert output.err == ""
        assert output.out.count("\nbest  hidden") == 1
        best = summary["rows"][0]["test_accuracy"]["final"]["mean"]
        assert f"{best:.4f}" in output.out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_run_that_was_killed_before_it_saved_begins_anew(straight, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").touch()  # Killed between its first two files.
    (folder / "config.json.partial").write_text("{")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, signal.SIGTERM, 1)
        assert main([*SWEEP, "--out", str(folder)]) == 143
    shutil.rmtree(folder / "checkpoints")
    capsys.readouterr()
    assert main(["--resume", str(folder)]) == 0
    assert capsys.readouterr().err.startswith("warning: going on from step 0 of group 1 of 2\n")
    assert_same(folder, straight)


# --- refused -------------------------------------------------------------------------------------


def test_other_flags_are_refused_by_name(stopped, capsys):
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    changed = ["--dropout", "0.2", "--learning-rate", "0.003", "0.03"]
    words = "--dropout 0.3 (here 0.2), --learning-rate 0.003 0.03 0.3 30.0 1e+30 (here 0.003 0.03)"
    rest = (
        ": to resume it, give these flags as they were; for another run, name another folder "
        "with --out"
    )
    for command in (["--resume", str(stopped)], [*SWEEP, "--out", str(stopped)]):
        assert main([*command, *changed]) == 2
        one_line(capsys, f"{stopped} is a run with {words}{rest}")
    assert main(["--resume", str(stopped), "--l2", "0.5", "--seeds", "2", "--test-curve"]) == 2
    words = "--l2 0.0 (here 0.5), --test-curve False (here True), --seeds 1 (here 2)"
    one_line(capsys, f"{stopped} is a run with {words}{rest}")
    assert main(["--resume", str(stopped), "--out", "elsewhere"]) == 2
    one_line(capsys, "--out elsewhere: must be left out where --resume is given")
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_any_flags_can_be_rebuilt_from_what_is_stored():
    momentum = ["--optimizer", "momentum", "--momentum", "0.1", "1e-05"]
    search = ["--search", "random:3", "--l2", "0.1", "1", "--seed", "7", "--lockstep", "2"]
    slope = ["--activation", "leaky_relu", "--negative-slope", "-1e-06"]
    commands = [
        SWEEP,
        [*momentum, "--test-curve", "--folds", "3"],
        [*search, "--data-dir", "some folder"],
        [*slope, "--validation", "0"],
    ]
    for command in commands:
        given = parse(MlpRun, command, "python -m train.mlp", "").given
        as_stored = json.loads(json.dumps(given))
        again = parse(MlpRun, resume.words(as_stored), "python -m train.mlp", "").given
        assert again == as_stored == given


def test_other_data_are_refused(stopped, monkeypatch, capsys):
    digits = data.load("digits")
    other = dataclasses.replace(digits, fingerprint="f" * 64)
    monkeypatch.setattr(split, "load", lambda *arguments: other)
    assert main(["--resume", str(stopped)]) == 2
    one_line(
        capsys,
        f"{stopped} is a run on digits with fingerprint {digits.fingerprint}, not {'f' * 64}: name "
        f"the folder of those data with --data-dir",
    )


@pytest.fixture
def nothing_kept():
    """As in another process: no programs of another version of the code."""
    compiled.forget_all()
    yield
    compiled.forget_all()


def test_another_network_is_refused(stopped, nothing_kept, monkeypatch, capsys):
    """Whose flags are the same: that of another version of the program, say."""
    monkeypatch.setattr("train.mlp.hidden_widths", lambda hidden: (int(hidden) + 1,))
    assert main(["--resume", str(stopped)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {stopped / 'checkpoints' / 'group-0002-step-0000000045'}: ")
    assert re.search(r"state/params/.* is float32 \[5, .*\] instead of float32 \[5, ", error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json cannot be read: No such file or directory"),
        ("", "config.json is damaged or another's"),
        ("[]", "config.json is damaged or another's"),
        ('{"learning_rate": 1}', "config.json is damaged or another's"),
    ],
)
def test_what_is_no_run_directory_is_refused(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert main(["--resume", str(tmp_path)]) == 2
    one_line(capsys, f"--resume {tmp_path}: must be a run directory; {message}")
    assert main(["--resume", str(tmp_path / "absent")]) == 2
    assert not (tmp_path / "absent").exists()


def test_a_run_of_another_command_is_refused(stopped, capsys):
    assert convnet.main(["--resume", str(stopped)]) == 2
    one_line(capsys, f"--resume {stopped}: is a run of python -m train.mlp, not of train.convnet")
    (stopped / "manifest.sha256").unlink()
    path = stopped / "config.json"
    path.write_text(path.read_text().replace("train.mlp", "train.other"))
    assert main(["--resume", str(stopped)]) == 2
    one_line(capsys, f"{stopped}: there is no command 'train.other' here")


def test_a_second_process_is_refused(stopped, capsys):
    with RunDirectory(stopped):
        assert main(["--resume", str(stopped)]) == 2
    one_line(
        capsys,
        f"{stopped}: another process trains there; wait for its end, or name another folder with "
        f"--out",
    )


# --- damaged -------------------------------------------------------------------------------------


def recovered(folder, capsys):
    """Where a run is gone on with: the group, the checkpoint, and what is said."""
    sweep = parse(MlpRun, ["--resume", str(folder)], "python -m train.mlp", "")
    with RunDirectory(folder) as directory:
        subject = checkpoint_manager.Saver(
            directory, [checkpoint_manager.Result(run, []) for run in sweep.runs]
        )
        number = subject.recover(2)
    name = None if subject._found is None else subject._found[0].name
    return number, name, capsys.readouterr().err


NEWEST, BEFORE = "group-0002-step-0000000045", "group-0002-step-0000000040"


def test_whole_it_is_gone_on_with_in_silence(stopped, capsys):
    assert recovered(stopped, capsys) == (2, NEWEST, "")
    assert names(stopped / "checkpoints") == [BEFORE, NEWEST]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "removed"])
def test_a_damaged_checkpoint_is_said_aloud_and_the_one_before_used(
    stopped_once, tmp_path, capsys, damage
):
    """Each of its files in turn."""
    files = [path for path in (stopped_once / "checkpoints" / NEWEST).rglob("*") if path.is_file()]
    for number, original in enumerate(files):
        folder = shutil.copytree(stopped_once, tmp_path / str(number))
        path = folder / original.relative_to(stopped_once)
        content = bytearray(path.read_bytes())
        if damage == "removed":
            path.unlink()
        elif damage == "flipped":
            content[len(content) // 2] ^= 16
            path.write_bytes(content)
        else:
            path.write_bytes(content[: 0 if damage == "emptied" else -1])
        group, name, said = recovered(folder, capsys)
        assert (group, name) == (2, BEFORE)
        first, second = said.splitlines()
        assert first.startswith(f"warning: {folder / 'checkpoints' / NEWEST}")
        assert second == "warning: going on from step 40 of group 2 of 2"
        assert names(folder / "checkpoints") == [BEFORE]


def test_a_foreign_checkpoint_is_not_used(stopped, straight, tmp_path, capsys):
    newest = stopped / "checkpoints" / NEWEST
    shutil.rmtree(newest)
    newest.mkdir()  # Empty.
    assert recovered(stopped, capsys)[:2] == (2, BEFORE)

    shutil.copytree(straight / "parameters" / "group-0002", newest)  # Not of the group in training.
    group, name, said = recovered(stopped, capsys)
    assert (group, name) == (2, BEFORE)
    assert f"{newest}: is not of this run, or has another name" in said

    other = tmp_path / "other"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, signal.SIGTERM, 12)
        assert main([*SWEEP, "--seed", "1", "--out", str(other)]) == 143
    shutil.copytree(other / "checkpoints" / NEWEST, newest)
    group, name, said = recovered(stopped, capsys)
    assert (group, name) == (2, BEFORE)
    assert f"{newest}: is not of this run, or has another name" in said


def test_without_a_whole_checkpoint_the_group_begins_anew(stopped, straight, capsys):
    for path in (stopped / "checkpoints").glob("*/notes.json"):
        path.write_text("")
    group, name, said = recovered(stopped, capsys)
    assert (group, name) == (2, None)
    assert said.count("'notes.json' does not have the checksum") == 2
    assert said.splitlines()[-1] == "warning: going on from step 0 of group 2 of 2"
    (stopped / "parameters" / "group-0001" / "notes.json").write_text("")
    group, name, said = recovered(stopped, capsys)
    assert (group, name) == (1, None)
    assert said.splitlines()[-1] == "warning: going on from step 0 of group 1 of 2"
    assert main(["--resume", str(stopped)]) == 0
    assert_same(stopped, straight)


def test_damaged_metrics_are_found_and_made_again(stopped, straight, capsys):
    path = stopped / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    assert main(["--resume", str(stopped)]) == 0
    assert "goes with other lines than those in metrics.jsonl" in capsys.readouterr().err
    assert_same(stopped, straight)


def test_damaged_parameters_of_a_finished_run_are_made_again(straight, tmp_path, capsys):
    folder = shutil.copytree(straight, tmp_path / "run")
    (folder / "parameters" / "group-0002" / "notes.json").write_text("")
    assert main(["--resume", str(folder)]) == 0
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("; group 2 is not complete without it")
    assert second == "warning: going on from step 0 of group 2 of 2"
    assert_same(folder, straight)


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("manifest", [True, False])
def test_other_white_space_in_its_config_is_the_same_run(stopped, straight, capsys, manifest):
    path = stopped / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config, sort_keys=True, indent=None if manifest else 7))
    if not manifest:
        (stopped / "manifest.sha256").unlink()
    assert main(["--resume", str(stopped)]) == 0
    assert "warning" not in capsys.readouterr().err
    assert_same(stopped, straight)
    assert not (stopped / "set-aside").exists()


@pytest.mark.parametrize("manifest", [True, False])
def test_another_config_is_refused_and_nothing_is_deleted(stopped, capsys, manifest):
    path = stopped / "config.json"
    path.write_text(path.read_text().replace("0.03", "0.02"))
    words = "config.json does not say what it said"
    if not manifest:
        (stopped / "manifest.sha256").unlink()
        words = "is not of this run, or has another name"
    before = everything(stopped)
    assert main(["--resume", str(stopped)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error
    assert everything(stopped) == before


def test_what_cannot_be_gone_on_with_is_kept(straight, tmp_path, capsys):
    """The second group is whole, but its evaluations come after those that are made again."""
    folder = shutil.copytree(straight, tmp_path / "run")
    (folder / "parameters" / "group-0001" / "notes.json").write_text("")
    before = everything(folder / "parameters")
    lines = (folder / "metrics.jsonl").read_bytes()
    for name in ("set-aside/parameters", "set-aside/parameters"):  # And once more.
        assert main(["--resume", str(folder)]) == 0
        assert_same(folder, straight)
        kept = {
            folder / "parameters" / path.relative_to(folder / name): content
            for path, content in everything(folder / name).items()
        }
        assert kept == before
    assert (folder / "set-aside" / "metrics.jsonl").read_bytes() == lines


def test_checkpoints_behind_a_link_are_refused_and_left_alone(stopped, tmp_path, capsys):
    """They may be those of another run, or something else altogether."""
    (stopped / "checkpoints").rename(tmp_path / "elsewhere")
    (stopped / "checkpoints").symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path / "elsewhere")
    assert main(["--resume", str(stopped)]) == 2
    one_line(
        capsys,
        f"{stopped / 'checkpoints'} is a symbolic link: a run directory must hold its files "
        f"itself; put a copy there",
    )
    assert everything(tmp_path / "elsewhere") == before
    (tmp_path / "through").symlink_to(stopped)  # To the folder itself there may be one.
    (stopped / "checkpoints").unlink()
    (tmp_path / "elsewhere").rename(stopped / "checkpoints")
    assert main(["--resume", str(tmp_path / "through")]) == 0


# --- no space ------------------------------------------------------------------------------------


def test_a_full_disk_ends_it_with_the_last_checkpoint_intact(
    stopped, straight, monkeypatch, capsys
):
    """A limit on the size of a file takes the place of a full disk."""
    before = {path: path.read_bytes() for path in (stopped / "checkpoints").rglob("*.json")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = stopped / "checkpoints" / "group-0002-step-0000000055"

    def save(*arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            checkpoint.save(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # What it was, afterwards.
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_manager, "save", save)
        status = main(["--resume", str(stopped)])
    assert status == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {path} cannot be written: File too large; resume with: python -m train.mlp "
        f"--resume {stopped}"
    )
    assert {path: path.read_bytes() for path in (stopped / "checkpoints").rglob("*.json")} == before
    assert main(["--resume", str(stopped)]) == 0
    assert "warning" not in capsys.readouterr().err
    assert_same(stopped, straight)


# --- stopped -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_before_training_begins_ends_it_at_once(
    tmp_path, monkeypatch, capsys, number, status, word
):
    monkeypatch.setattr(split, "load", lambda *arguments: os.kill(os.getpid(), number))
    handler = signal.getsignal(number)
    assert main(["--out", str(tmp_path / "run")]) == status
    assert capsys.readouterr().err == f"{word}\n"
    assert not (tmp_path / "run").exists()
    assert signal.getsignal(number) is handler


def test_a_second_signal_ends_it_at_once():
    """Even where Python has no say, such as in a compilation."""
    script = """
import hashlib, os, signal, threading, time
from train.processes.signals import Signals
with Signals() as signals, signals.held():
    me = os.getpid()
    threading.Timer(0.2, os.kill, (me, signal.SIGINT)).start()
    threading.Timer(0.4, os.kill, (me, signal.SIGTERM)).start()
    while not signals.received:
        time.sleep(0.01)
    print(signals.received, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (143, f"{int(signal.SIGINT)}\n")
    assert done.stderr == "Saving… press Ctrl-C again to quit without saving.\n"


# --- killed --------------------------------------------------------------------------------------

# A process that has imported everything and started nothing; its children begin where a command
# is after its imports, which saves two seconds each.
KILLER = """
import json, os, pathlib, random, signal, sys, time
import jax, matplotlib.figure, optax, orbax.checkpoint, sklearn.datasets
from train.engine import program, segments
from train.run_directory import checkpoint_manager as saver
from train.mlp import main

folder, command = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
segments.LONGEST_SEGMENT = 10

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
