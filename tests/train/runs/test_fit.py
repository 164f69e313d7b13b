"""`train.fit` and `train.load`: the runs of the commands, from Python."""

import json
import signal

import numpy as np
import pytest

from jaxnets.layers import Dropout, Flatten, Layer, LeakyRelu, Linear, serial
from tests.support import compilations
from train import data, fit, load
from train.mlp import main
from train.report.progress import Progress

FLAGS = {"hidden": ["8", "6-4"], "learning_rate": [0.003, 0.03], "seeds": 2, "steps": 30}
WORDS = "--hidden 8 6-4 --learning-rate 0.003 0.03 --seeds 2 --steps 30 --eval-every 10".split()  # noqa: SIM905


pytestmark = [pytest.mark.usefixtures("promotion"), pytest.mark.slow]


@pytest.fixture(scope="module")
def runs():
    return fit("digits", eval_every=10, **FLAGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("command") / "run"
    assert main([*WORDS, "--out", str(out)]) == 0
    return out


def test_fit_trains_what_the_command_trains(runs, folder):
    written = json.loads((folder / "summary.json").read_text())
    assert runs.summary["rows"] == written["rows"]
    assert runs.summary["dataset"] == written["dataset"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    history = runs.history().drop(columns="seconds").to_dict("records")
    for line in lines:
        line.pop("seconds")
    key = "run", "step"
    found, wanted = (
        {tuple(row[name] for name in key): row for row in rows} for rows in (history, lines)
    )
    assert found.keys() == wanted.keys()
    for place, row in wanted.items():
        assert {n: v for n, v in found[place].items() if v == v} == {
            n: v for n, v in row.items() if v is not None
        }


def test_load_gives_the_same_object_back(runs, folder):
    again = load(folder)
    assert len(again) == len(runs) == 8
    assert again.path == folder
    assert runs.path is None
    assert again.frame().equals(runs.frame())
    x = data.load("digits").x_test
    for index in (0, 7):
        np.testing.assert_array_equal(again[index].predict_proba(x), runs[index].predict_proba(x))


def test_a_frame_has_a_row_for_each_run_or_configuration(runs):
    frame = runs.frame()
    assert frame[["hidden", "learning_rate", "seed"]].values.tolist() == [
        [hidden, rate, seed] for hidden in ("8", "6-4") for rate in (0.003, 0.03) for seed in (0, 1)
    ]
    by_configuration = runs.frame("configuration")
    assert by_configuration["validation_accuracy"].is_monotonic_decreasing
    grouped = frame.groupby(["hidden", "learning_rate"])["test_accuracy"]
    for _, row in by_configuration.iterrows():
        group = row["hidden"], row["learning_rate"]
        assert row["test_accuracy"] == pytest.approx(grouped.mean()[group], abs=1e-12)
        assert row["test_accuracy_std"] == pytest.approx(grouped.std(ddof=1)[group], abs=1e-12)
        assert row["runs"] == 2
    with pytest.raises(ValueError, match="must be 'run' or 'configuration'"):
        runs.frame("runs")


def test_in_a_notebook_it_shows_as_its_table(runs):
    shown = runs._repr_html_()
    assert shown.count("<tr") == 5
    assert "<td>6-4</td>" in shown
    assert "digits: Handwritten" in shown
    assert "± standard deviation over 2 seeds" in shown
    assert "6-4" in repr(runs)
    assert max(map(len, repr(runs).splitlines())) <= 80


def test_in_a_notebook_it_prints_as_to_a_file(runs, monkeypatch, capsys):
    plain = repr(runs)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # As ipykernel does.
    assert repr(runs) == plain
    fit("digits", hidden=4, steps=2)
    printed = capsys.readouterr().err
    assert "step 2/2" in printed
    assert "\x1b" not in printed


def test_the_best_network_predicts_as_its_evaluation_says(runs):
    digits = data.load("digits")
    row = runs.summary["rows"][0]
    best = runs.best
    right = np.mean(best.predict(digits.x_test) == digits.y_test)
    assert right == row["test_accuracy"]["final"]["values"][0]
    assert (best.flags["hidden"], best.flags["learning_rate"]) == (
        row["config"]["hidden"],
        row["config"]["learning_rate"],
    )
    shares = best.predict_proba(digits.x_test)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(shares.argmax(-1), best.predict(digits.x_test))
    with pytest.raises(IndexError, match="no run 8 among 8"):
        runs[8]


def test_nothing_is_written_without_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit("digits", hidden=4, steps=2)
    assert list(tmp_path.iterdir()) == []
    found = fit("digits", hidden=4, steps=2, out=tmp_path / "run")
    assert found.path == tmp_path / "run"
    assert load(found.path).frame().equals(found.frame())


@pytest.mark.parametrize(
    ("flags", "kind", "line"),
    [
        ({"lr": 1}, ValueError, "lr: there is no such flag; did you mean learning_rate?"),
        ({"learning_rate": 0}, ValueError, "learning_rate 0.0: must be positive"),
        ({"learning_rate": []}, ValueError, "learning_rate: needs a value"),
        ({"learning_rate": "fast"}, ValueError, "learning_rate fast: must be positive"),
        ({"steps": 1.5}, ValueError, "steps 1.5: must be a whole number"),
        ({"keep": "best", "validation": 0}, ValueError, "keep best: needs images to validate on"),
        ({"hidden": "--steps"}, ValueError, "hidden '--steps': begins with a dash"),
        ({"dropout": object()}, TypeError, "dropout: must be a number or a text, or a list"),
        ({"network": "cnn"}, ValueError, "a Layer or a function; did you mean convnet?"),
        ({"dry_run": True}, ValueError, "dry_run: is a flag of the commands alone"),
        ({"data": 3}, TypeError, "data: must be arrays (x, y)"),
        ({"data": (1, 2, 3)}, TypeError, "or a name or path; got tuple of 3"),
        ({"batch_size": 9999}, ValueError, "batch_size 9999: must be at most 1293"),
        ({"out": __file__}, ValueError, "out /"),
        ({"data": "digit"}, ValueError, "did you mean digits?"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_trained(flags, kind, line, monkeypatch):
    monkeypatch.setattr("train.runs.fitting.train", None)
    with pytest.raises(kind) as raised:
        fit(flags.pop("data", "digits"), **flags)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def interrupting(monkeypatch, times: int) -> None:
    """Let Ctrl-C come after step 20, so many times."""
    evaluated = Progress.evaluated

    def interrupted(self, records):
        evaluated(self, records)
        if records[0]["step"] == 20:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "evaluated", interrupted)


def test_an_interrupted_fit_returns_what_was_trained(monkeypatch, tmp_path):
    """Of two groups the second is interrupted; its networks are those of the step before."""
    before = signal.getsignal(signal.SIGINT)
    interrupting(monkeypatch, 1)
    flags = {"steps": 20, "eval_every": 20, "hidden": "8", "validation": 0.2}
    first = fit("digits", **flags)
    flags = {"steps": 40, "eval_every": 20, "hidden": ["8", "4"], "validation": 0.2}
    for out in (None, tmp_path / "run"):
        runs = fit("digits", **flags, out=out)
        assert len(runs) == 1
        frame = runs.history()
        assert frame["step"].tolist() == [0, 20]
        x = data.load("digits").x_test
        np.testing.assert_array_equal(runs[0].predict_proba(x), first[0].predict_proba(x))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interruption_is_one_of_python(monkeypatch):
    interrupting(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit("digits", hidden=4, steps=40, eval_every=20)


def test_an_interruption_before_the_first_step_is_one_of_python(monkeypatch):
    monkeypatch.setattr(Progress, "begin", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit("digits", hidden=[4, 8], steps=4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Other numbers, seeds and examples; validation and test sets of the same sizes.
        (
            {"learning_rate": [0.01, 0.03], "dropout": 0.1, "l2": 0.1},
            {"learning_rate": [0.02, 0.1], "dropout": 0.3, "seed": 5, "l2": 0.001},
        ),
        # Groups, the parameters of the lowest validation loss, and gradient norms.
        (
            {"hidden": ["4", "8"], "keep": "best", "gradient_norms": True, "norm": "layer"},
            {"hidden": ["8", "4"], "keep": "best", "gradient_norms": True, "norm": "layer"},
        ),
    ],
)
def test_a_second_fit_of_the_same_shapes_compiles_nothing(first, second):
    """Neither its training, nor what its networks predict."""
    digits = data.load("digits")
    steps = {"steps": 30, "eval_every": 10, "batch_size": 100}
    for number, flags in enumerate((first, second)):
        x, y = digits.x_train[number:1400], digits.y_train[number:1400]
        if number:
            x, y = np.concatenate([x, x[:1]]), np.concatenate([y, y[:1]])
        with compilations() as found:
            runs = fit((x, y, digits.x_test, digits.y_test), **steps, **flags)
            for index in range(len(runs)):
                runs[index].predict(digits.x_test)
        assert bool(found) == (number == 0)


def test_a_second_fit_of_a_network_of_ones_own_compiles_nothing():
    """Of two numbers one is traced; the other decides about a layer."""

    def net(classes, *, width: int = 4, rate: float = 0.1, slope: float = 0.1) -> Layer:
        layers = [LeakyRelu(slope)] if slope > 0.05 else []
        return serial(Flatten(), Linear(width), Dropout(rate), *layers, Linear(classes))

    x = data.load("digits").x_test
    for number, rates in enumerate([[0.1, 0.2], [0.3, 0.4]]):
        with compilations() as found:
            fit("digits", network=net, rate=rates, steps=20, eval_every=10).best.predict(x)
        assert bool(found) == (number == 0)
