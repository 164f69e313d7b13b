"""What the flags of a run become on its data."""

import numpy as np
import pytest

from jaxnets import layers
from train.data import Dataset
from train.engine import assembly
from train.engine.assembly import Assembly, schedule
from train.engine.hyperparameters import of_run
from train.flags.config import MlpRun
from train.flags.sweep import groups
from train.mlp import network
from train.training.command import parse


@pytest.fixture(scope="module")
def dataset():
    """70 examples to train on: 63 without those to validate on, 7 batches of 9."""
    x, y = np.zeros((70, 2, 2, 1), np.uint8), np.zeros(70, np.int32)
    return Dataset("noise", "Noise.", x, y, x, y, ("a", "b"), "fingerprint")


@pytest.mark.parametrize(
    ("words", "period", "steps"),
    [
        ("--schedule exponential --steps 50", 7, 50),
        ("--schedule step --steps 50", 70, 50),
        ("--schedule step --decay-epochs 3 --epochs 4", 21, 28),
        ("--schedule cosine --epochs 2 --warmup-steps 5", 7, 14),
    ],
)
def test_a_schedule_counts_in_epochs_of_the_data(dataset, words, period, steps):
    """Every epoch is a decay of exponential, and every tenth of step unless told otherwise."""
    (run,) = parse(MlpRun, ["--batch-size", "9", *words.split()], "prog", None).runs
    found = schedule(run, dataset)
    assert (found.kind, found.period, found.steps) == (words.split()[1], period, steps)
    assert found.warmup == (5 if "--warmup-steps" in words else 0)


def made(dataset, words):
    """What makes the trainers of a command, and its groups of runs."""
    sweep = parse(MlpRun, ["--batch-size", "9", "--hidden", "4", *words.split()], "prog", None)
    steps = [run.training.steps for run in sweep.runs]
    return Assembly(sweep, network, dataset), groups(sweep.runs, steps)


def test_the_network_is_described_as_it_sees_an_example(dataset):
    subject, ((run, _),) = made(dataset, "--steps 5")
    net = network(run, of_run(run), 2)
    assert subject.described(run) == layers.summary(net, (2, 2, 1))


def test_images_lie_on_the_device_once(dataset, monkeypatch):
    """Those of the groups that follow one another; of several preprocessings one at a time."""
    placed = []
    monkeypatch.setattr(assembly.input_pipeline, "on_device", lambda *a: placed.append(a))
    subject, _ = made(dataset, "--steps 5")
    for preprocessing, count in (("unit", 1), ("unit", 1), ("mean-image", 2), ("unit", 3)):
        subject._sets(preprocessing, range(0))
        assert len(placed) == count
    data, preprocessing, held, affine = placed[1]
    assert (data, preprocessing, held) == (dataset, "mean-image", range(0))
    assert affine.scale == 1
    (run,) = subject._sweep.runs
    assert subject.preprocessing(run) is subject.preprocessing(run)


def test_a_trainer_has_the_numbers_and_seeds_of_its_runs(dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(assembly, "Trainer", lambda *arguments: asked.append(arguments))
    words = "--steps 5 --learning-rate 0.25 0.5 --seeds 2 --lockstep 2 --preprocessing unit"
    subject, (group,) = made(dataset, words)
    subject.trainer(group, "compiling")
    ((program, hypers, seeds, training, sets, *rest),) = asked
    assert [float(hyper.learning_rate) for hyper in hypers] == [0.25, 0.25, 0.5, 0.5]
    assert seeds == [0, 1, 0, 1]
    assert rest == [2, "runs", "compiling"]
    assert training == group.shape.training
    assert (len(sets.train.y), len(sets.validation.y)) == (63, 7)
    assert subject._program(group.shape) is program  # Made once.


def test_a_program_is_what_the_flags_say(dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(
        assembly, "make_program", lambda *words, **named: asked.append((words, named)) or asked[-1]
    )
    for words, changes in (
        ("--augment flip-shift", ("flip", "shift")),
        ("--precision bfloat16", ()),
    ):
        subject, (group,) = made(dataset, f"--steps 5 --optimizer lion --gradient autodiff {words}")
        (_, inputs, rule), named = subject._program(group.shape)
        assert (inputs, rule) == ((2, 2, 1), "lion")
        assert named["changes"] == changes
        assert named["precision"] == ("float32" if changes else "bfloat16")
        assert named["gradient"] == "autodiff"
        assert named["schedule"].kind == "constant"


@pytest.mark.parametrize(
    ("words", "runs", "last"),
    [("--steps 3 7 --seeds 2", 2, 7), ("--steps 7 --seeds 3", 3, 7), ("--steps 7 --dry-run", 1, 7)],
)
def test_memory_is_that_of_all_runs_to_their_last_step(dataset, monkeypatch, words, runs, last):
    """--dry-run says what more would take."""
    asked, spread = [], []
    monkeypatch.setattr(
        assembly, "run_bytes", lambda state, training, last: asked.append(last) or 1000
    )
    monkeypatch.setattr(
        assembly, "Spread", lambda shard, runs, lockstep: spread.append((shard, runs, lockstep))
    )
    checked = []
    monkeypatch.setattr(assembly, "check_memory", lambda run, *rest: checked.append(run))
    subject, made_groups = made(dataset, words)
    subject.check_memory(made_groups)
    assert (asked, spread, checked) == ([last], [("runs", runs, None)], [1000])


@pytest.mark.parametrize(("shard", "over"), [("runs", 3), ("batch", 1)])
def test_what_a_dry_run_measures_and_shows(dataset, monkeypatch, shard, over):
    measured, shown, tracked, settings = [], [], [], []
    monkeypatch.setattr(assembly, "devices", lambda: [None] * 3)
    monkeypatch.setattr(assembly.jax.config, "update", lambda *words: settings.append(words))
    monkeypatch.setattr(assembly.dry_run, "all_expected", lambda *a: measured.append(a) or "found")
    monkeypatch.setattr(assembly.costs_shown, "show", lambda *a: shown.append(a))
    monkeypatch.setattr(
        assembly, "track", lambda *words, **named: tracked.append((words, named)) or words[0]
    )
    subject, made_groups = made(dataset, f"--steps 5 --shard {shard} --dry-run")
    subject.show_expected(made_groups, "console")
    # What is compiled for a few steps is not kept for a training.
    assert settings == [("jax_enable_compilation_cache", False)]
    ((of, trainer_of, size_of, lockstep, count, follow),) = measured
    assert (of, lockstep, count) == (made_groups, None, over)
    # Of Adam: parameters and two moments of each, two counts, and a key.
    learned = 5 * 4 + 5 * 2
    assert size_of(made_groups[0]) == pytest.approx(3 * 4 * learned, abs=20)
    assert shown == [(made_groups, "found", 3, "console", shard)]
    assert follow([2, 1]) == [2, 1]
    ((words, named),) = tracked
    assert words == ([2, 1], "measuring…")
    assert named["console"].stderr
    assert named["transient"]  # It leaves nothing on the terminal.
    forgotten = []
    monkeypatch.setattr(assembly, "forget_all", lambda: forgotten.append(1))
    monkeypatch.setattr(Assembly, "trainer", lambda self, group: group)
    assert trainer_of("group") == "group"
    assert forgotten == [1]
