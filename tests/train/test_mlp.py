import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data import load, split
from train.engine import assembly
from train.engine.hyperparameters import Hyper, hyperparameters
from train.engine.optimizers import Schedule
from train.flags.config import MlpRun, flags
from train.mlp import main, network
from train.training.command import parse

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def started(folder, *arguments):
    """A command of its own, as a person starts it in a folder of theirs."""
    return subprocess.Popen(
        [sys.executable, "-m", "train.mlp", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read(path):
    return json.loads(path.read_text())


def metrics(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_without_a_flag_it_learns_the_digits(tmp_path):
    command = started(tmp_path)
    output, progress = command.communicate(timeout=120)
    assert command.returncode == 0
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name.startswith("digits-mlp-")
    assert sorted(path.name for path in directory.iterdir()) == [
        "config.json",
        "curves.png",
        "data.json",
        "manifest.sha256",
        "metrics.jsonl",
        "parameters",
        "states",
        "summary.json",
    ]

    # What a person sees: the data, the net, a line per evaluation, the results, the files.
    dataset = load("digits")
    assert output.startswith(f"digits: {dataset.description}\n")
    assert "Linear   [100]           6,500" in output
    lines = [line for line in progress.splitlines() if line != "compiling…"]
    assert len(lines) == 16
    assert lines[-1].startswith("step 1500/1500  train loss ")
    assert "best accuracy" in output
    relative = directory.relative_to(tmp_path)
    assert output.splitlines()[-5:] == [
        f"run directory {relative}",
        f"figure        {relative / 'curves.png'}",
        "",
        f"next  python -m train.evaluate {relative}",
        f"      python -m train.compare {relative} RUN_DIR",
    ]

    # What it leaves.
    config = read(directory / "config.json")
    assert config["command"] == "train.mlp"
    assert config["learning_rate"] == 0.001
    assert config["seed"] == 0
    records = metrics(directory)
    assert [record["step"] for record in records] == list(range(0, 1501, 100))
    assert records[-1]["epoch"] == pytest.approx(1500 / 6)
    summary = read(directory / "summary.json")
    assert summary["dataset"]["fingerprint"] == dataset.fingerprint
    assert summary["dataset"]["train_examples"] == 1437
    assert summary["device"]["platform"] == "cpu"
    assert summary["versions"]["jax"] == jax.__version__
    assert summary["steps_per_second"] > 0
    assert summary["seconds"] == records[-1]["seconds"]
    (row,) = summary["rows"]
    assert row["config"]["hidden"] == "100"
    assert not {"seed", "out", "data_dir"} & set(row["config"])
    assert row["seeds"] == [0]
    assert row["parameters"] == 64 * 100 + 100 + 100 * 10 + 10
    # The test set is seen at the end alone, the validation set at every evaluation.
    assert [record["test_loss"] is None for record in records] == [True] * 15 + [False]
    for metric, best in (("validation_loss", min), ("validation_accuracy", max)):
        values = [record[metric] for record in records]
        assert row[metric]["final"]["values"] == values[-1:]
        assert row[metric]["best"]["values"] == [best(values)]
    assert row["test_accuracy"]["final"]["mean"] >= 0.96


NORMAL = ["--initializer", "normal"]


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ([], ["--hidden", "50"]),
        ([], ["--hidden", "2x100"]),
        ([], ["--activation", "tanh"]),
        ([], ["--norm", "layer"]),
        ([], ["--dropout", "0.5"]),
        ([], ["--initializer", "glorot"]),
        ([], ["--initializer", "pytorch"]),
        ([], NORMAL),
        (NORMAL, [*NORMAL, "--initial-std", "0.1"]),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_the_flags_of_the_network_reach_it(base, change):
    def logits(arguments):
        (run,) = parse(MlpRun, arguments, "prog", "description").runs
        hyper = hyperparameters(flags(run))
        net, key = network(run, hyper, 10), jax.random.key(0)
        params, state, _ = net.init(key, (8, 8, 1))
        return net.apply(params, state, jnp.ones((2, 8, 8, 1)), key=key, training=True)[0]

    assert not np.allclose(logits(base), logits(change), rtol=1e-3, atol=1e-6)


def test_the_numbers_among_the_flags_reach_the_program():
    values = {
        "--learning-rate": "0.125",
        "--l2": "0.25",
        "--label-smoothing": "0.375",
        "--dropout": "0.5",
        "--momentum": "0.625",
    }
    arguments = [word for pair in values.items() for word in pair]
    momentum = ["--optimizer", "momentum", *arguments]
    (run,) = parse(MlpRun, momentum, "prog", "description").runs
    assert hyperparameters(flags(run)) == Hyper(
        0.125, momentum=0.625, l2=0.25, label_smoothing=0.375, dropout=0.5
    )
    adamw = ["--optimizer", "adamw", "--weight-decay", "0.75"]
    (run,) = parse(MlpRun, adamw, "prog", "description").runs
    assert hyperparameters(flags(run)) == Hyper(np.float32(0.001), weight_decay=0.75)


def test_the_flags_of_the_training_reach_it(here, monkeypatch, capsys):
    seen, original = {}, assembly.make_program

    def make_program(network, input_shape, optimizer, **options):
        seen.update(input_shape=input_shape, optimizer=optimizer, **options)
        return original(network, input_shape, optimizer, **options)

    def stop(functions, hypers, seeds, training, sets, lockstep, shard, compiling):
        (hyper,), (seed,) = hypers, seeds
        seen.update(training=training, hyper=hyper, seed=seed, lockstep=lockstep, shard=shard)
        seen.update(sets._asdict())
        raise FloatingPointError("seen enough")

    monkeypatch.setattr(assembly, "make_program", make_program)
    monkeypatch.setattr(assembly, "Trainer", stop)
    arguments = ["--optimizer", "rmsprop", "--gradient", "autodiff", "--preprocessing", "unit"]
    assert (
        main(
            [
                *arguments,
                "--batch-size",
                "400",
                "--seed",
                "7",
                "--l2",
                "0.5",
                "--lockstep",
                "3",
                "--validation",
                "237",
                "--schedule",
                "step",
                "--decay-epochs",
                "5",
                "--steps",
                "70",
                "--warmup-steps",
                "9",
                "--augment",
                "cutout-flip",
                "--precision",
                "bfloat16",
                "--shard",
                "batch",
            ]
        )
        == 1
    )
    assert capsys.readouterr().err == "error: seen enough\n"
    assert seen["input_shape"] == (8, 8, 1)
    assert seen["optimizer"] == "rmsprop"
    assert seen["gradient"] == "autodiff"
    assert seen["training"].batch_size == 400
    assert seen["seed"] == 7
    assert seen["lockstep"] == 3
    assert seen["hyper"].l2 == 0.5
    assert seen["train"].scale == 1 / 16
    assert len(seen["train"].y) == 1200
    assert len(seen["validation"].y) == 237
    assert seen["schedule"] == Schedule("step", 5 * 3, 70, 9)  # 1200 // 400 = 3 steps an epoch.
    assert seen["changes"] == ("flip", "cutout")
    assert seen["precision"] == "bfloat16"
    assert seen["shard"] == "batch"
    assert len(seen["test"].y) == 360


@pytest.mark.parametrize(("length", "steps"), [(["--steps", "100"], 100), (["--epochs", "14"], 84)])
def test_a_warm_up_ends_before_the_run(here, capsys, length, steps):
    """Of 1293 examples an epoch takes six batches of 200."""
    assert main([*length, "--warmup-steps", str(steps), "--out", "run"]) == 2
    assert capsys.readouterr().err == (
        f"error: --warmup-steps {steps}: must be below {steps}, the number of steps of the run\n"
    )
    assert not os.listdir(here)


@pytest.mark.parametrize("words", [["--patience", "1"], [], ["--train-examples", "400"]])
def test_a_validation_set_without_an_image_is_refused(here, capsys, words):
    assert main([*words, "--validation", "0.0003", "--out", "run"]) == 2
    examples = 400 if "400" in words else 1437
    least = {400: "0.0025", 1437: "0.0007"}[examples]
    assert capsys.readouterr().err == (
        f"error: --validation 0.0003: holds out none of the {examples} training examples of "
        f"digits; must be 0 for none, or at least {least}, a number from 1 on among them\n"
    )
    assert not os.listdir(here)


@pytest.mark.parametrize(
    ("patience", "every", "said"),
    [
        ("2", "2", ""),
        ("3", "2", "below 3 it can\n"),
        ("1", "5", "a smaller one helps\n"),
    ],
)
def test_a_patience_that_cannot_stop_a_run_is_said(here, capsys, patience, every, said):
    """Of five steps; nothing is learned, so that it stops where it can."""
    arguments = ["--steps", "5", "--patience", patience, "--eval-every", every]
    arguments += ["--hidden", "4", "--learning-rate", "1e-30", "--out", "run"]
    assert main(arguments) == 0
    error = capsys.readouterr().err
    (row,) = json.loads((here / "run" / "summary.json").read_text())["rows"]
    start = f"warning: --patience {patience}: cannot stop a run of 5 steps with "
    if said:
        assert error.startswith(f"{start}--eval-every {every}; {said}")
        assert row["stopped"] == [None]
    else:
        assert "warning" not in error
        assert row["stopped"] == [int(patience) * int(every)]


def test_a_patience_that_stops_the_longest_run_of_a_sweep_is_not_spoken_of():
    words = [
        "--patience",
        "1",
        "3",
        "4",
        "--steps",
        "9",
        "20",
        "--eval-every",
        "5",
        "--learning-rate",
        "0.1",
        "0.2",
    ]
    runs = parse(MlpRun, words, "python -m train.mlp", "").runs
    assert list(split.idle_patience(runs, [run.training.steps for run in runs])) == [
        "--patience 4: cannot stop a run of 20 steps with --eval-every 5; below 4 it can"
    ]


def test_epochs_are_passes_through_the_data(here, capsys):
    assert (
        main(
            [
                "--epochs",
                "2",
                "--batch-size",
                "600",
                "--validation",
                "0",
                "--eval-every",
                "3",
                "--out",
                "run",
            ]
        )
        == 0
    )
    records = metrics(here / "run")
    assert [record["step"] for record in records] == [0, 3, 4]  # 1437 // 600 = 2 batches.
    assert records[-1]["epoch"] == 2
    assert read(here / "run" / "config.json")["epochs"] == 2


def test_a_run_repeats_itself_and_autodiff_agrees(here):
    runs = {}
    for name, gradient in [("a", "explicit"), ("b", "explicit"), ("c", "autodiff")]:
        arguments = ["--steps", "60", "--eval-every", "20", "--gradient", gradient, "--out", name]
        assert main(arguments) == 0
        runs[name] = [
            [
                r[m]
                for m in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
            ]
            for r in metrics(here / name)[1:]
        ]
    assert runs["a"] == runs["b"]
    np.testing.assert_allclose(runs["a"], runs["c"], rtol=1e-5)


def test_a_run_that_diverges_ends_with_status_1_and_the_step(here, capsys):
    arguments = ["--optimizer", "sgd", "--learning-rate", "1e30", "--eval-every", "10"]
    assert main([*arguments, "--out", "run"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the training loss is nan at step 2; ")
    assert [record["step"] for record in metrics(here / "run")] == [0]
    assert not (here / "run" / "summary.json").exists()


def test_a_folder_that_holds_something_is_left_alone(here, capsys):
    (here / "run").mkdir()
    (here / "run" / "notes").write_text("mine")
    digest = hashlib.sha256(b"mine").digest()
    assert main(["--out", "run"]) == 2
    output = capsys.readouterr()
    assert output.err == "error: --out run: must be absent or an empty folder; it holds a file\n"
    assert output.out == ""
    assert [path.name for path in (here / "run").iterdir()] == ["notes"]
    assert hashlib.sha256((here / "run" / "notes").read_bytes()).digest() == digest


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    command = started(tmp_path, "--steps", "1000000000", "--eval-every", "10", "--out", "run")
    lines = itertools.dropwhile(lambda line: "step         20/" not in line, command.stderr)
    assert next(lines).startswith("step         20/1000000000  train loss ")
    command.send_signal(signal.SIGINT)
    _, rest = command.communicate(timeout=60)
    assert command.returncode == 130
    last = rest.splitlines()[-1]
    assert last.startswith("interrupted after step ")
    assert last.endswith("; resume with: python -m train.mlp --resume run")
    assert "Traceback" not in rest
    step = int(last.split()[3].rstrip(";"))
    records = metrics(tmp_path / "run")
    assert [record["step"] for record in records] == list(range(0, step + 1, 10))
    *_, newest = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert newest.name == f"group-0001-step-{step:010d}"


def test_a_gradient_norm_that_overflows_ends_its_own_run_alone(here, capsys):
    """The first update takes the weights to where the loss is finite, and no norm is."""
    command = [*("--hidden", "6-6", "--optimizer", "sgd", "--steps", "2", "--eval-every", "1")]
    command += ["--gradient-norms", "--learning-rate", "0.001"]
    assert main([*command, "1e10", "--out", "both"]) == 0
    assert main([*command, "--out", "alone"]) == 0

    def lines(folder, run):
        text = Path(folder, "metrics.jsonl").read_text()
        records = [json.loads(line) for line in text.splitlines()]
        return [
            {name: value for name, value in record.items() if name != "seconds"}
            for record in records
            if record["run"] == run
        ]

    for found, expected in zip(lines("both", 0), lines("alone", 0), strict=True):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value is expected[name] is None or value == pytest.approx(
                expected[name], rel=1e-4
            )
    assert lines("both", 0)[-1]["gradient_norm_max"] > 0
    overflown = lines("both", 1)[1]
    assert overflown["train_loss"] is overflown["gradient_norm_max"] is None
    rows = json.loads(Path("both/summary.json").read_text())["rows"]
    assert [row["diverged"] for row in rows] == [[None], [1]]
    capsys.readouterr()
    assert main(["--resume", "both"]) == 0
    assert "* diverged, and not in the means: row 2, at step 1." in capsys.readouterr().out
    # A run alone says why.
    assert main([*command[:-1], "1e10", "--out", "one"]) == 1
    assert "the largest gradient norm is inf after step 1" in capsys.readouterr().err
