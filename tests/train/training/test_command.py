"""A training command from its words to its results, on a table of a few rows."""

import io
import json
import signal
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from train import mlp
from train.data import Dataset
from train.data.schema import Schema
from train.errors import ConfigError, StoreError
from train.flags.config import Machines, MlpRun
from train.flags.sweep import Group
from train.processes.signals import Stopped
from train.training import command
from train.training import job as jobs
from train.training import loop as loops
from train.training import sweep as sweeps
from train.training.command import _run, parse
from train.training.sweep import so_far

WORDS = "--hidden 2 --steps 4 --eval-every 2 --batch-size 5 --validation 0.25 --dataset"


@pytest.fixture
def data(here):
    x = np.random.default_rng(0).standard_normal((24, 2))
    np.savez(here / "a.npz", x=x, y=(x[:, 0] > 0).astype(int))
    return "./a.npz"


def trained(capsys, *words):
    status = mlp.main(list(words))
    return status, *capsys.readouterr()


def lines_of(here):
    return [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_sweep_is_trained_resumed_and_trained_on(here, data, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        sweeps.figures, "results",
        lambda found, path, *_: drawn.append(path) or path.write_bytes(b"a figure"),
    )  # fmt: skip
    words = [*WORDS.split(), data, "--seeds", "2"]
    status, output, errors = trained(capsys, *words, "--out", "run")
    assert status == 0
    said = output.splitlines()
    assert said[0].startswith("a: 24 rows of 2 numbers in 2 classes, from a.npz.")
    assert "run directory run" in said[5:]
    assert said.index("run directory run") < said.index("parameters    of the last step")
    assert "figure        run/curves.png" in said
    assert said[-2:] == [
        "next  python -m train.evaluate run", "      python -m train.compare run RUN_DIR",
    ]  # fmt: skip
    assert "group 1/1  step 4/4 of 2 runs" in errors
    steps = [(line["run"], line["step"], line["seed"]) for line in lines_of(here)]
    assert steps == [(run, step, run) for step in (0, 2, 4) for run in (0, 1)]
    summary = json.loads((here / "run" / "summary.json").read_text())
    assert summary["rows"][0]["seeds"] == [0, 1]
    assert summary["dataset"]["train_examples"] == 19
    config = json.loads((here / "run" / "config.json").read_text())
    assert config["command"] == "train.mlp"
    assert config["flags"]["steps"] == 4
    assert not (here / "run" / "checkpoints").exists()

    # Resumed, it is whole already, and says the same again.
    before = (here / "run" / "summary.json").read_bytes()
    status, again, _ = trained(capsys, "--resume", "run")
    assert status == 0
    assert again.splitlines()[-4:] == said[-4:]
    assert (here / "run" / "summary.json").read_bytes() == before
    assert len(drawn) == 1
    (here / "run" / "summary.json").unlink()
    assert trained(capsys, "--resume", "run")[0] == 0
    assert json.loads((here / "run" / "summary.json").read_text())["rows"] == summary["rows"]

    assert trained(capsys, "--resume", "run", "--steps", "4")[0] == 0
    status, _, errors = trained(capsys, "--resume", "run", "--steps", "3")
    assert status == 2
    assert errors.startswith("error: --resume run: its runs have 4 steps; to train them on, take")
    assert trained(capsys, "--resume", "run", "--steps", "6")[0] == 0
    assert [line["step"] for line in lines_of(here)] == [0, 0, 2, 2, 4, 4, 6, 6]


def test_what_goes_wrong_before_a_step_is_one_line(here, data, capsys):
    words = [*WORDS.split(), data]
    (here / "run").mkdir()
    (here / "run" / "config.json").write_text("{}")
    status, output, errors = trained(capsys, *words, "--out", "run")
    assert (status, output) == (2, "")
    assert errors.startswith("error: --out run: must be a run directory; config.json is damaged")
    status, _, errors = trained(capsys, *words, "--batch-size", "20", "--out", "new")
    assert errors.startswith("error: --batch-size 20: must be at most 14")
    status, _, errors = trained(capsys, *words, "--lockstep", "0")
    assert errors.startswith("error: --lockstep 0: must be auto, or a whole number from 1 on")
    assert not (here / "new").exists()


# --- parts ---------------------------------------------------------------------------------------


def test_flags_of_a_sweep_are_no_flags_of_its_runs():
    def parsed(*words):
        return parse(MlpRun, list(words), "prog", None)

    plain = parsed()
    assert (plain.lockstep, plain.shard, plain.directory, plain.dry_run) == (
        None,
        "runs",
        None,
        False,
    )
    assert (plain.machines, plain.longer) == (Machines(), False)
    found = parsed(
        "--lockstep", "5", "--shard", "batch", "--dry-run", "--seed", "3", "--seeds", "2"
    )
    assert (found.lockstep, found.shard, found.dry_run) == (5, "batch", True)
    assert [run.training.seed for run in found.runs] == [3, 4]
    assert found.given["seed"] == 3
    drawn = parsed("--learning-rate", "0.1", "0.2", "--search", "random:3")
    assert len(drawn.runs) == 3
    with pytest.raises(ConfigError, match="--process-id 1: is used with --distributed alone"):
        parsed("--process-id", "1")


def test_words_are_those_of_the_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "--seed", "7"])
    assert parse(MlpRun, None, "prog", None).runs[0].training.seed == 7
    assert parse(MlpRun, [], "prog", None).runs[0].training.seed == 0


def test_a_text_is_in_lines_on_a_terminal_alone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    command._print_wrapped("word " * 60)
    assert capsys.readouterr().out.count("\n") == 1
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    command._print_wrapped("word 5 " * 60)
    assert "\x1b" not in stream.getvalue()  # Numbers are not coloured.
    lines = stream.getvalue().splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize(
    ("words", "name"), [((), None), (("--out", "a/run"), "run"), (("--shard", "batch"), None)]
)
def test_the_processes_of_a_run_meet(monkeypatch, capsys, words, name):
    joined, met, checked = [], [], []
    monkeypatch.setattr(jobs.cluster, "join", lambda machines, known: joined.append(known))
    monkeypatch.setattr("train.engine.devices.set_up", lambda: None)
    monkeypatch.setattr("train.engine.devices.devices", lambda: [1, 2, 3])
    monkeypatch.setattr(jobs.split, "check_batches", lambda runs, count: checked.append(count))
    monkeypatch.setattr(jobs.split, "idle_patience", lambda runs, steps: ["some patience"])
    monkeypatch.setattr(jobs.collectives, "meet", met.append)
    several = ("--distributed", "--coordinator", "a:1", "--processes", "2", "--process-id", "0")
    dataset = types.SimpleNamespace(fingerprint="f")
    for more in ((), several):
        sweep = parse(MlpRun, [*words, *more], "prog", None)
        jobs.set_up(jobs.Job("mlp", sweep, dataset, [], [], None))
    assert joined == [[MlpRun.started(), name]]
    assert checked == ([3, 3] if "batch" in words else [])
    assert met[0]["fingerprint of the data"] == "f"
    assert met[0]["run directory"] is None
    assert "out" not in met[0]  # Machines may see the folder at different places.
    assert capsys.readouterr().err == "warning: some patience\n" * 2


def test_a_run_is_resumed_on_its_own_data(monkeypatch, tmp_path):
    x, y = np.zeros((30, 2), np.float32), np.zeros(30, np.int32)
    data = Dataset("noise", "N.", x, y, x, y, ("a",), "f", schema=Schema((2,), "float32"))
    checked = []
    monkeypatch.setattr(jobs.split, "load_for", lambda run, dataset: data)
    monkeypatch.setattr(jobs, "check_out", lambda out: checked.append(("out", out)))
    monkeypatch.setattr(jobs.stored_config, "check_data", lambda *a: checked.append(a))
    monkeypatch.setattr(jobs.reader, "finished", lambda folder: "finished")
    sweep = parse(MlpRun, ["--batch-size", "5", "--steps", "3", "--out", "new"], "prog", None)
    job = jobs.check(sweep, "mlp")
    assert checked.pop() == ("out", Path("new"))
    assert (job.before, job.steps, len(job.groups)) == (None, [3], 1)
    job = jobs.check(sweep._replace(directory=tmp_path), "mlp")
    assert checked == [(tmp_path, MlpRun, data)]
    assert job.before == "finished"


def test_a_run_that_is_not_finished_is_not_trained_on():
    sweep = types.SimpleNamespace(directory="run")
    with pytest.raises(StoreError, match="run is not finished: resume it without --steps or --ep"):
        jobs._check_longer(sweep, None, [9], None)


@pytest.mark.parametrize(("wanted", "refused"), [(4, True), (5, True), (6, False)])
def test_a_run_is_trained_on_to_more_steps(monkeypatch, wanted, refused):
    sweep = types.SimpleNamespace(directory="run", runs=[MlpRun()])
    monkeypatch.setattr(jobs.rebuilt, "run", lambda before, index, kind: index)
    monkeypatch.setattr(jobs.split, "number_of_steps", lambda run, data: 5)
    if refused:
        with pytest.raises(ConfigError, match=r"--resume run: its runs have 5 steps; .* not "):
            jobs._check_longer(sweep, None, [9, wanted], types.SimpleNamespace())
    else:
        jobs._check_longer(sweep, None, [9, wanted], types.SimpleNamespace())


class Directory:
    path = "a run"

    def __init__(self):
        self.discarded = False

    def discard(self):
        self.discarded = True


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("error", [MemoryError, OSError, Stopped, ValueError])
def test_what_stops_a_run_says_how_to_go_on(error, new):
    directory = Directory()
    raised = error(signal.SIGTERM) if error is Stopped else error("why")
    with (
        pytest.raises(error) as found,
        loops.resumable(directory, "python -m train.mlp", new) as advice,
    ):
        raise raised
    assert advice == "resume with: python -m train.mlp --resume 'a run'"
    notes = getattr(found.value, "__notes__", [])
    assert notes == ([advice] if error in (OSError, Stopped) else [])
    assert directory.discarded == (new and error is MemoryError)


def loop_of(learned, records):
    known = [types.SimpleNamespace(records=r) for r in records]
    saver = types.SimpleNamespace(learned=learned)
    return types.SimpleNamespace(saver=saver, known=known, directory="run")


def test_what_was_trained_until_a_signal_is_a_result(monkeypatch):
    monkeypatch.setattr(sweeps, "_content", lambda job, known, keeper: len(known))
    stopped = Stopped(signal.SIGINT)
    assert so_far(None, stopped) is None
    stopped.found = loop_of({}, [[1]])
    assert so_far(None, stopped) is None
    stopped.found = loop_of({0: "learned"}, [[1], []])
    found = so_far(None, stopped)
    assert (found.summary, len(found.results), found.directory) == (1, 1, "run")


def test_where_all_runs_diverged_that_is_the_end(monkeypatch, capsys):
    def result(diverged):
        return types.SimpleNamespace(end=types.SimpleNamespace(diverged=diverged))

    found = types.SimpleNamespace(
        directory=types.SimpleNamespace(path="run", curves="run/curves.png"),
        summary={}, results=[result(3), result(5)],
    )  # fmt: skip
    sweep = parse(MlpRun, ["--seeds", "2"], "prog", None)
    dataset = types.SimpleNamespace(name="noise", description="Noise.")
    job = jobs.Job("mlp", sweep, dataset, [], [1, 2], None)
    monkeypatch.setattr(jobs, "check", lambda sweep, name: job)
    monkeypatch.setattr(jobs, "set_up", lambda job: None)
    monkeypatch.setattr(sweeps, "train", lambda *a, **k: found)
    assembly = types.SimpleNamespace(
        check_memory=lambda groups: None, described=lambda run: "DESCRIBED"
    )
    monkeypatch.setattr("train.engine.assembly.Assembly", lambda *a: assembly)
    for name, text in (("table", "TABLE"), ("kept", "KEPT"), ("closing", "CLOSING")):
        monkeypatch.setattr(f"train.report.tables.{name}", lambda *a, text=text: text)
    with pytest.raises(FloatingPointError, match="all 2 runs diverged; a smaller --learning-rate"):
        _run(sweep, None, "mlp", None)
    said = capsys.readouterr().out
    assert said.startswith("noise: Noise.\n\n")
    assert "TABLE" in said
    assert "DESCRIBED" not in said  # Of two groups there are two networks.
    found.results[0] = result(None)
    _run(sweep, None, "mlp", None)
    said = capsys.readouterr().out
    assert said.endswith("\nCLOSING\n")
    _run(parse(MlpRun, [], "prog", None), None, "mlp", None)
    assert capsys.readouterr().out.endswith("\nCLOSING\n")
    job = job._replace(sweep=parse(MlpRun, [], "prog", None), groups=[1])
    found.results.pop()
    _run(job.sweep, None, "mlp", None)
    said = capsys.readouterr().out
    assert said.startswith("noise: Noise.\n\nDESCRIBED\n")
    assert said.endswith("\nCLOSING\n")
    assert "\nKEPT\nrun directory run\nfigure        run/curves.png\n" in said


class Shown:
    """Progress that notes which groups begin."""

    begun: ClassVar[list] = []

    def __init__(self, steps, console, runs):
        self.begun.clear()
        self.begun.append((steps, runs))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def begin(self, words, runs, steps):
        self.begun.append((words, runs, steps))

    compiling = None


def group_of(*ends):
    run = MlpRun()
    return Group(run, {run: dict(enumerate(ends))})


@pytest.mark.parametrize(
    ("runs", "groups", "first", "begun", "trained"),
    [
        (1, [group_of(9)], 1, [(9, 1)], [(1, "")]),
        (2, [group_of(9, 5)], 1, [(9, 1), ("group 1/1", 1, 9)], [(1, "")]),
        (2, [group_of(9), group_of(5)], 2,
         [(14, 2), ("group 1/2", 1, 9), ("group 2/2", 1, 5)], [(2, "group 2/2")]),
    ],
)  # fmt: skip
def test_groups_are_called_by_their_number(monkeypatch, runs, groups, first, begun, trained):
    monkeypatch.setattr(sweeps, "Progress", Shown)
    sweep = types.SimpleNamespace(runs=[MlpRun()] * runs)
    job = jobs.Job("mlp", sweep, None, [], groups, None)
    restored, found = [], []
    loop = types.SimpleNamespace(
        saver=types.SimpleNamespace(restore=lambda number, trainer: restored.append(number)),
        train=lambda trainer, group, number, words, progress: found.append((number, words)),
    )
    assembly = types.SimpleNamespace(trainer=lambda group, compiling: "a trainer")
    sweeps._train_groups(job, assembly, loop, first)
    assert Shown.begun == begun
    assert found == trained
    assert restored == [number for number, _ in trained]


@pytest.mark.parametrize(
    ("finished", "damaged", "figure", "written"),
    [
        (False, None, True, True), (True, set(), False, False), (True, {"curves.png"}, True, True),
        (True, {"summary.json"}, True, True),
    ],
)  # fmt: skip
def test_what_is_whole_is_not_made_anew(monkeypatch, finished, damaged, figure, written):
    drawn, sealed = [], []
    monkeypatch.setattr(sweeps.figures, "results", lambda *a: drawn.append(a))
    monkeypatch.setattr(sweeps.summary, "configurations", lambda known: [])
    monkeypatch.setattr(sweeps.summary, "ranked", lambda found: found)
    monkeypatch.setattr(sweeps.summary, "describe", lambda data: data)
    monkeypatch.setattr(sweeps, "_content", lambda job, known, saver: "made anew")
    before = types.SimpleNamespace(summary="as it was", damaged=damaged) if finished else None
    job = jobs.Job("mlp", None, None, [], [], before)
    directory = types.SimpleNamespace(curves="curves.png", finish=sealed.append)
    found = sweeps._summarise(job, directory, None, [], True)
    anew = not finished or damaged == {"summary.json"}
    assert found == ("made anew" if anew else "as it was")
    assert bool(drawn) == figure
    assert sealed == [found] * written
    if finished:  # Where it was trained on, it is another.
        assert sweeps._summarise(job, directory, None, [], False) == "made anew"


@pytest.mark.parametrize("shown", [True, False])
def test_a_single_run_is_shown_in_tensorboard_where_that_is_asked_for(here, shown):
    sweep = parse(MlpRun, ["--out", "run", *["--tensorboard"] * shown], "prog", None)
    dataset = types.SimpleNamespace(name="noise", fingerprint="f")
    job = jobs.Job("mlp", sweep, dataset, [], [], None)
    with sweeps._directory(job) as directory:
        assert len(directory.followers) == shown
    config = json.loads((here / "run" / "config.json").read_text())
    assert config["fingerprint"] == "f"
    assert config["flags"]["seed"] == 0
