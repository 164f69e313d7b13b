import functools
import importlib
import json
import typing

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxnets import nets
from train import data
from train.data import Dataset, split
from train.flags.config import Run
from train.flags.declaration import hidden_widths
from train.report import figures, panels
from train.reproduce import __main__ as reproduce
from train.reproduce import quick
from train.reproduce.experiments import EXPERIMENTS
from train.run_directory import summary
from train.training.command import parse

pytestmark = pytest.mark.slow

COMMANDS = [(e, command) for e in EXPERIMENTS for command in e.commands]
IDS = [f"{e.name}-{number}" for e in EXPERIMENTS for number, _ in enumerate(e.commands, 1)]


def runs_of(command):
    module, *words = command.split()
    network = importlib.import_module(f"train.{module}").network
    kind = typing.get_type_hints(network, {"Layer": object, "Hyper": object}, {})["run"]
    assert issubclass(kind, Run)
    return parse(kind, words, module, "description").runs


@pytest.mark.parametrize(("experiment", "command"), COMMANDS, ids=IDS)
def test_every_command_is_one_that_a_person_can_give(experiment, command):
    runs = runs_of(command)
    less = runs_of(quick.reduced(command, experiment))
    assert len(less) == len(runs) or experiment.quick
    assert max(run.training.steps for run in less) <= quick.QUICK_STEPS
    for run in less:
        assert run.data.train_examples == quick.QUICK_TRAIN
        assert run.training.epochs is None
        assert (run.data.validation == 0) == (runs[0].data.validation == 0)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_every_number_of_a_report_has_a_configuration(experiment):
    """And one alone: what the flags say tells it from the others."""
    runs = [run for command in experiment.commands for run in runs_of(command)]
    for less in (False, True):
        commands = [quick.reduced(c, experiment) if less else c for c in experiment.commands]
        runs = [run for command in commands for run in runs_of(command)]
        configs = [
            {name: value for part in vars(run).values() for name, value in vars(part).items()}
            for run in runs
        ]
        for reported in experiment.reported:
            matching = [
                config
                for config in configs
                if reproduce._matches(config, reported, experiment, less)
            ]
            assert len(matching) == 1, reported


def test_names():
    assert [e.name for e in reproduce.select(["e6", "A1", "e6"])] == ["E6", "A1"]
    assert reproduce.select(["all"]) == list(EXPERIMENTS)
    assert len({e.name for e in EXPERIMENTS}) == len(EXPERIMENTS)


def test_wrong_arguments_are_one_line(capsys):
    for arguments, message in [
        (["grid468"], "experiment grid468: must be all, or one of A1, "),
        (["A1", "--seeds", "0"], "--seeds 0: must be a whole number from 1 to 10000"),
        (["A1", "--seds", "3"], "--seds: there is no such flag; did you mean --seeds?"),
    ]:
        assert reproduce.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {message}")
        assert error.count("\n") == 1
    assert reproduce.main(["grid468"]) == 2
    assert capsys.readouterr().err.endswith("did you mean grid486?\n")


def test_the_list_names_source_settings_and_numbers(capsys):
    assert reproduce.main([]) == 0
    text = capsys.readouterr().out
    for experiment in EXPERIMENTS:
        assert f"{experiment.name}  {experiment.title}\n" in text
        assert experiment.source in text
        for command in experiment.commands:
            assert f"python -m train.{command}\n" in text
    assert "the report: learning-rate 0.03: final validation loss 0.1287 ± 0.0060\n" in text


@pytest.fixture
def little_data(monkeypatch):
    """MNIST and CIFAR-10 as a few random images."""
    rng = np.random.default_rng(0)

    def images(count, shape):
        labels = rng.integers(10, size=count).astype(np.int32)
        return rng.integers(256, size=(count, *shape)).astype(np.uint8), labels

    read = data.load

    def load(name, folder):
        if name == "synth":
            return read(name)
        shape = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[name]
        classes = tuple("0123456789")
        return Dataset(
            name, "Noise.", *images(2000, shape), *images(500, shape), classes, "fingerprint"
        )

    monkeypatch.setattr(split, "load", load)
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_an_experiment_ends_in_a_table_a_figure_and_a_file(tmp_path, capsys, little_data):
    arguments = ["E6", "--quick", "--out", str(tmp_path)]
    assert reproduce.main(arguments) == 0
    output = capsys.readouterr().out
    assert "REDUCED by --quick" in output
    folder = tmp_path / "quick" / "E6"
    result = json.loads((folder / "result.json").read_text())
    assert result["reduced"]
    assert len(result["configurations"]) == 4
    assert len(result["compared"]) == 8
    last = result["compared"][-1]
    assert (last["reported"], last["reported_std"], last["runs"]) == (0.9667, 0.0023, 1)
    (row,) = [r for r in result["configurations"] if r["config"]["learning_rate"] == 0.03]
    assert last["mean"] == row["validation_accuracy"]["final"]["mean"]
    assert f"{last['mean']:.4f}" in output
    assert (folder / "figure.png").stat().st_size > 10_000

    # What is trained is not trained again.
    (folder / "result.json").unlink()
    before = (folder / "1" / "metrics.jsonl").read_bytes()
    assert reproduce.main(arguments) == 0
    assert json.loads((folder / "result.json").read_text()) == result
    assert (folder / "1" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "experiment", [e for e in EXPERIMENTS if e.commands], ids=lambda experiment: experiment.name
)
def test_every_experiment_in_little(experiment, tmp_path, monkeypatch, little_data):
    """From its own commands to the numbers beside the report's, on noise, with narrow networks."""
    monkeypatch.setattr(
        "train.mlp.hidden_widths", lambda text: [width % 7 + 3 for width in hidden_widths(text)]
    )
    for name, stages in (("convnet", ((4,), (5,))), ("preact_convnet", ((4, 1), (5, 1)))):
        monkeypatch.setattr(nets, name, functools.partial(getattr(nets, name), stages))
    monkeypatch.setattr(quick, "QUICK_STEPS", 2)
    monkeypatch.setattr(quick, "QUICK_TRAIN", 440)
    monkeypatch.setattr(quick, "QUICK_TEST", 20)
    assert reproduce.main([experiment.name, "--quick", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "quick" / experiment.name
    result = json.loads((folder / "result.json").read_text())
    assert len(result["compared"]) == len(experiment.reported)
    for compared, reported in zip(result["compared"], experiment.reported, strict=True):
        assert compared["reported"] == reported.value
        assert np.isfinite(compared["mean"])
    for row in result["configurations"]:
        assert 0 <= row["test_accuracy"]["final"]["mean"] <= 1
        assert ("validation_accuracy" in row) == (row["config"]["validation"] > 0)
    assert (folder / "figure.png").stat().st_size > 10_000


def configuration(steps, accuracy, **config):
    return row(accuracy, steps=steps, **config), [[{"step": steps}]]


def test_a_figure_shows_a_run_once_that_is_read_at_several_steps():
    short, long = (configuration(steps, 0.5, hidden="100", seed=0) for steps in (5, 9))
    other = configuration(5, 0.4, hidden="200", seed=0)
    assert reproduce._longest([long, other, short]) == [other, long]
    assert reproduce._longest([short, long]) == [long]
    in_epochs = [configuration(None, 0.5, hidden=hidden, epochs=3) for hidden in ("100", "200")]
    assert reproduce._longest(in_epochs) == in_epochs


def test_a_derivation_shows_gradients_and_the_mistake_of_the_report(tmp_path, capsys):
    assert reproduce.main(["C0", "--out", str(tmp_path)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "loss 1.30378789133, report 1.30378789133" in output
    assert "The report errs in question 2c" in output
    result = json.loads((tmp_path / "full" / "C0" / "result.json").read_text())
    names = [gradient["name"] for gradient in result["gradients"]]
    assert names == ["W1", "b1", "W2", "b2"]
    by_hand, automatic = (result["gradients"][0][way] for way in ("by_hand", "autodiff"))
    np.testing.assert_allclose(by_hand, automatic, rtol=1e-10)


def row(accuracy, **config):
    runs = [[{"step": 9, "test_loss": 1.0, "test_accuracy": accuracy + d}] for d in (-0.1, 0.1)]
    return summary.row_of(config, [0, 1], 17, runs)


def test_accuracy_against_a_flag(tmp_path, drawn):
    rows = [row(0.1 * n + (norm == "layer") / 2, batch_size=n, norm=norm)
            for n in (4, 1, 2) for norm in ("batch", "layer")]  # fmt: skip
    figures.against(rows, "batch_size", "norm", tmp_path / "f.png", "title", "note")
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "batch size"
    lines = {c.get_label(): c for c in axes.containers}
    assert list(lines) == ["norm batch", "norm layer"]
    line, _, (bars,) = lines["norm layer"].lines
    np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [1, 2, 4])
    np.testing.assert_allclose(line.get_ydata(), [0.6, 0.7, 0.9])
    low, high = bars.get_segments()[0][:, 1]
    np.testing.assert_allclose((high - low) / 2, np.std([-0.1, 0.1], ddof=1))


def test_curves_against_the_epoch(tmp_path, drawn):
    runs = [
        [
            {"step": 7 * n, "epoch": n / 2, "test_loss": loss * n, "test_accuracy": 0.5}
            for n in (0, 1, 2)
        ]
        for loss in (1.0, 3.0)
    ]
    figures.curves(runs, tmp_path / "f.png", "title", "note", "epoch")
    axes = drawn[0].axes[0]
    assert axes.get_xlabel() == "epoch"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0, 2, 4])


def test_a_heat_map_has_its_flags_in_order(tmp_path, drawn):
    rows = [
        row(accuracy, learning_rate=rate, hidden=hidden, steps=steps)
        for accuracy, rate, hidden, steps in [
            (0.5, 0.1, "10x100", 5),
            (0.6, 0.1, "2x100", 5),
            (0.7, 0.01, "2x100", 5),
            (0.4, 0.01, "2x100", 9),
        ]
    ]
    panels.heat_map(rows, "learning_rate", "hidden", tmp_path / "f.png", "title", "note")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.01", "0.1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2x100", "10x100"]
    assert [text.get_text() for text in axes.texts] == ["0.700", "0.600", "-", "0.500"]


def test_the_console_is_wide_enough_for_every_title():
    console = Console(width=100, record=True)
    reproduce.listing(console)
    assert "…" not in console.export_text()
