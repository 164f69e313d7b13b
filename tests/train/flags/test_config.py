import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from jaxnets import nets
from train.engine.hyperparameters import Hyper
from train.engine.optimizers import OPTIMIZERS
from train.errors import ConfigError
from train.flags.config import FLAGS, TRACED, Data, Lockstep, Machines, Mlp, MlpRun, Training, flags
from train.flags.declaration import hidden_widths
from train.training.command import parse

ROOT = Path(__file__).parents[3]


def parsed(*arguments):
    (run,) = parse(MlpRun, list(arguments), "prog", "description").runs
    return run


# Flags, and what the one line about them says.
REFUSED = [
    (["--hidden", "0"], "--hidden 0: "),
    (["--hidden", "100-"], "--hidden 100-: "),
    (["--hidden", "3x"], "--hidden 3x: "),
    (["--hidden", "0x100"], "--hidden 0x100: "),
    (["--hidden", "1001x1"], "--hidden 1001x1: "),
    (["--hidden", "1000001"], "--hidden 1000001: "),
    (["--hidden", ""], "--hidden : "),
    (["--dropout", "1"], "--dropout 1.0: must be at least 0 and below 1"),
    (["--dropout", "0.999999999"], "--dropout 0.999999999: must be at least 0 and below 1"),
    (["--dropout", "-0.1"], "--dropout -0.1: "),
    (["--learning-rate", "0"], "--learning-rate 0.0: must be positive"),
    (["--learning-rate", "-1"], "--learning-rate -1.0: must be positive"),
    (["--learning-rate", "nan"], "--learning-rate nan: must be positive"),
    (["--learning-rate", "inf"], "--learning-rate inf: must be positive"),
    (["--learning-rate", "1e-50"], "--learning-rate 1e-50: must be positive"),
    (["--learning-rate", "1e300"], "--learning-rate 1e+300: must be positive and finite"),
    (["--optimizer", "momentum", "--momentum", "1"], "--momentum 1.0: must be at least 0"),
    (["--optimizer", "adamw", "--weight-decay", "-1"], "--weight-decay -1.0: must be not negative"),
    (["--l2", "-1"], "--l2 -1.0: must be not negative"),
    (["--l2", "nan"], "--l2 nan: must be not negative"),
    (["--clip-norm", "0"], "--clip-norm 0.0: must be positive"),
    (["--schedule", "step", "--decay", "1.5"], "--decay 1.5: must be above 0 and at most 1"),
    (["--schedule", "step", "--decay-epochs", "0"], "--decay-epochs 0: "),
    (["--warmup-steps", "-1"], "--warmup-steps -1: must be a whole number from 0 on"),
    (["--patience", "0"], "--patience 0: must be a whole number from 1 on"),
    (["--validation", "-1"], "--validation -1.0: must be 0 for none, a share below 1, or a whole"),
    (["--validation", "1.5"], "--validation 1.5: must be 0 for none, a share below 1, or a whole"),
    (["--validation", "nan"], "--validation nan: "),
    (["--folds", "1"], "--folds 1: must be a whole number from 2 to 1000"),
    (["--augment", "flip-flop"], "--augment flip-flop: must be none, or some of flip, shift, cut"),
    (["--augment", "flip-flip"], "--augment flip-flip: "),
    (["--activation", "elu", "--alpha", "0"], "--alpha 0.0: must be positive"),
    (["--activation", "leaky_relu", "--negative-slope", "inf"], "--negative-slope inf: "),
    (["--search", "random"], "--search random: must be random: and how many configurations"),
    (["--search", "random:3"], "--search random:3: needs a flag with several values to draw from"),
    (["--train-examples", "0"], "--train-examples 0: must be a whole number from 1 on"),
    (["--search", "random:0"], "--search random:0: "),
    (["--label-smoothing", "1.1"], "--label-smoothing 1.1: must be from 0 to 1"),
    (["--initializer", "normal", "--initial-std", "0"], "--initial-std 0.0: must be positive"),
    (["--steps", "0"], "--steps 0: must be a whole number from 1 on"),
    (["--steps", str(2**31)], f"--steps {2**31}: must be a whole number from 1 on, below 2^31"),
    (["--epochs", "-1"], "--epochs -1: "),
    (["--batch-size", "0"], "--batch-size 0: "),
    (["--eval-every", "0"], "--eval-every 0: "),
    (["--seed", "-1"], "--seed -1: "),
    (["--seed", str(2**32)], f"--seed {2**32}: "),
    # Flags that do not go together.
    (["--steps", "5", "--epochs", "1"], "--epochs 1: must be left out where --steps is given"),
    (["--momentum", "0.5"], "--momentum 0.5: is used with --optimizer momentum or nesterov"),
    (["--weight-decay", "0.5"], "--weight-decay 0.5: is used with --optimizer adamw or nadamw or"),
    (["--decay", "0.5"], "--decay 0.5: is used with --schedule exponential or step alone"),
    (["--validation", "5", "--folds", "3"], "--folds 3: must be left out where --validation is"),
    (["--patience", "5", "--validation", "0"], "--patience 5: needs images to validate on"),
    (["--gradient-norms", "--norm", "batch"], "--gradient-norms: single examples have no"),
    (["--initial-std", "0.5"], "--initial-std 0.5: is used with --initializer normal alone"),
]


# What is no flag, no number or no choice, and all that is said of it.
UNKNOWN = [
    (["--learning-rat", "1"], "there is no such flag; did you mean --learning-rate?"),
    (["--qqq"], "there is no such flag"),
    (["--fold", "1"], "there is no such flag; did you mean --folds?"),
    (["--seed", "1", "2"], "is neither a flag, nor a value of the flag before it"),
    (["--norm", "qqq"], "must be one of none, batch, layer, rms"),
    (["--norm", "none", "lauer"], "must be one of none, batch, layer, rms; did you mean layer?"),
    (["--missing", "median"], "--missing median: must be mean"),
    (["--dataset", "minst"], "must be one of digits, synth, mnist, cifar10; did you mean mnist?"),
    (["--steps", "1.5"], "must be a whole number from 1 on, below 2^31"),
    (["--steps=x"], "must be a whole number from 1 on, below 2^31"),
    (["--seed", "x"], "must be a whole number from 0 on, below 2^32"),
    (["--lockstep", "x"], "must be auto, or a whole number from 1 on, below 2^31"),
    (["--learning-rate", "0.1", "fast"], "must be positive and finite in float32"),
    (["--seed"], "needs a value"),
    (["--steps", "--seed", "1"], "needs a value"),
]


def test_a_mistake_is_answered_in_under_a_second_of_processor_time(tmp_path):
    for arguments in (["--learning-rat", "0.1"], ["--hidden", "0"], ["--seeds", "0"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "train.mlp", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {arguments[0]}")
        assert done.stderr.count("\n") == 1
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=lambda a: " ".join(a)[:40])
def test_a_value_out_of_range_is_refused(arguments, message):
    with pytest.raises(ConfigError) as error:
        parsed(*arguments)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_every_number_has_a_range():
    numbers = {
        field.name
        for part in (Mlp, Data, Training, Lockstep, Machines)
        for field in dataclasses.fields(part)
        if typing.get_type_hints(part)[field.name] in (int, float, int | None, float | None)
        and field.name != "fold"  # Not a flag.
    }
    texts = {"hidden", "augment", "image_size", "lockstep", "search", "coordinator"}
    assert numbers | texts == {name for name, flag in FLAGS.items() if flag.allowed}
    for name in numbers:
        assert not FLAGS[name].allowed.test(math.nan)


@pytest.mark.slow
def test_refusals_come_with_status_2_before_jax_is_imported(tmp_path):
    """One fresh interpreter for all: what a command line answers, and what it had imported."""
    cases = [arguments for arguments, _ in REFUSED]
    unknown = [arguments for arguments, _ in UNKNOWN]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    data_and_files = [
        ["--batch-size", "1294"],
        ["--validation", "1437"],
        ["--test-examples", "361"],
        ["--epochs", str(2**31 - 1)],
        ["--out", "full"],
        ["--out", "full/file"],
        ["--dataset", "mnist", "--data-dir", "full"],
    ]
    script = """
import contextlib, io, json, sys
from train.mlp import main
answers = []
for arguments in json.loads(sys.argv[1]):
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
    answers.append([status, output.getvalue(), errors.getvalue(), "jax" in sys.modules])
print(json.dumps(answers))
"""
    answers = json.loads(
        subprocess.run(
            [sys.executable, "-c", script, json.dumps(cases + unknown + data_and_files)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    for status, output, _errors, jax_imported in answers:
        assert status == 2
        assert output == ""
        assert not jax_imported
    for (_, message), (_, _, errors, _) in zip(REFUSED, answers, strict=False):
        assert errors.startswith(f"error: {message}")
        assert errors.count("\n") == 1
    for (words, message), (_, _, errors, _) in zip(UNKNOWN, answers[len(cases) :], strict=False):
        assert errors.startswith("error: ")
        assert errors.endswith(f": {message}\n")
        flag, *values = words[0].split("=") + words[1:]  # The line names the flag or the value.
        assert errors.startswith(f"error: {flag}") or errors.startswith(f"error: {values[-1]}: ")
        if message.startswith("must"):
            assert values[-1] in errors
    last = [errors for _, _, errors, _ in answers[-len(data_and_files) :]]
    assert last[0] == (
        "error: --batch-size 1294: must be at most 1293, the number of training examples of "
        "digits, without the 144 to validate on\n"
    )
    assert last.pop(2) == (
        "error: --test-examples 361: must be at most 360, the number of test examples of digits\n"
    )
    assert last.pop(1).startswith("error: --validation 1437: must be below 1437")
    assert last[1].startswith("error: --epochs 2147483647: must make fewer than 2^31 steps")
    assert last[2] == "error: --out full: must be absent or an empty folder; it holds a file\n"
    assert last[3].startswith("error: --out full/file: must be absent or an empty folder; it is a")
    assert "full holds no mnist" in last[4]
    assert all(errors.count("\n") == 1 for errors in last)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]  # Nothing written.


def test_defaults_that_depend_on_others_are_filled_in():
    plain = flags(parsed())
    assert plain["steps"] == 1500
    for name in ("momentum", "weight_decay", "initial_std", "epochs", "out", "data_dir"):
        assert plain[name] is None
    assert flags(parsed("--optimizer", "nesterov"))["momentum"] == 0.9
    assert flags(parsed("--optimizer", "momentum", "--momentum", "0"))["momentum"] == 0
    assert flags(parsed("--optimizer", "adamw"))["weight_decay"] == 0.01
    assert flags(parsed("--initializer", "normal"))["initial_std"] == 1e-4
    assert flags(parsed("--epochs", "3"))["steps"] is None
    assert flags(parsed("--out", "some/where"))["out"] == "some/where"


@pytest.mark.parametrize(
    ("hidden", "widths"),
    [("100", (100,)), ("500-100", (500, 100)), ("2x30-5", (30, 30, 5)), ("1000x1", (1,) * 1000)],
)
def test_hidden_widths(hidden, widths):
    assert hidden_widths(hidden) == widths
    assert parsed("--hidden", hidden).network.hidden == hidden


def choices(kind, name):
    return typing.get_args(typing.get_type_hints(kind)[name])


def test_the_choices_are_those_of_the_modules_that_cannot_be_imported_there():
    for activation in choices(Mlp, "activation"):
        nets.mlp((3, 2), activation=activation)
    with pytest.raises(ValueError, match=r"one of \['relu'.*'identity'\]") as error:
        nets.mlp((3, 2), activation="none")
    assert str(list(choices(Mlp, "activation"))) in str(error.value)
    assert set(choices(Mlp, "norm")) == {"none", *nets.NORMS}
    assert set(choices(Training, "optimizer")) == set(OPTIMIZERS)
    assert Hyper._fields == (*TRACED, "own")


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        parsed("--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in {*flags(MlpRun()), *vars(Lockstep()), *vars(Machines())} - {"fold"}:
        _, _, rest = text.partition(f"--{name.replace('_', '-')} ")
        described, _, default = rest.partition("(default: ")
        assert len(described) > 20, name
        assert "--hidden" not in described, name
        assert default, name
