"""What a command is given, what comes of its status, and which of our numbers stands where."""

import types

import pytest

from train.reproduce import __main__ as reproduce
from train.reproduce.experiments import Experiment, Reported


def experiment(**options):
    commands = ("mlp --hidden 8 --steps 500 1000", "convnet --steps 1000")
    return Experiment("Z1", "A report", "A title", commands, **options)


@pytest.fixture
def called(monkeypatch):
    """The commands that are called, and the status that each ends with."""
    found, statuses = [], {}

    def module(name):
        def main(words):
            found.append((name, words))
            return statuses.get(name, 0)

        return types.SimpleNamespace(main=main)

    monkeypatch.setattr(reproduce, "importlib", types.SimpleNamespace(import_module=module))
    monkeypatch.setattr("train.reproduce.gradient_tables.show", lambda name, console: [])
    return found, statuses


@pytest.mark.parametrize("status", [1, 2, 130])
@pytest.mark.parametrize("which", ["train.mlp", "train.convnet"])
def test_the_status_of_a_command_that_fails_is_that_of_all(
    monkeypatch, tmp_path, called, status, which
):
    found, statuses = called
    statuses[which] = status
    read = types.SimpleNamespace(summary={"dataset": {"description": "Noise."}})
    monkeypatch.setattr(reproduce.reader, "read", lambda directory: read)
    monkeypatch.setattr(reproduce.reader, "configurations", lambda read: [])
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (experiment(), experiment()._replace(name="Z2")))
    assert reproduce.main(["Z1", "Z2", "--out", str(tmp_path)]) == status
    assert [name for name, _ in found] == ["train.mlp", "train.convnet"][: len(found)]
    assert found[-1][0] == which  # Nothing is done after it, nor of the next experiment.
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize("quick", [False, True])
def test_a_command_is_given_seeds_and_folders(tmp_path, called, quick):
    found, statuses = called
    statuses["train.mlp"] = 1
    options = reproduce.Options(("Z1",), 7, quick, tmp_path / "data", tmp_path)
    assert reproduce.reproduce(experiment(), options) == 1
    ((_, words),) = found
    given = {flag: words[words.index(flag) + 1] for flag in ("--seeds", "--out", "--data-dir")}
    folder = tmp_path / ("quick" if quick else "full") / "Z1" / "1"
    assert given == {
        "--seeds": "1" if quick else "7", "--out": str(folder), "--data-dir": str(tmp_path / "data")
    }  # fmt: skip
    steps = words[words.index("--steps") + 1 : words.index("--steps") + 3]
    assert steps == (["30", "60"] if quick else ["500", "1000"])


def spread(values):
    known = [value for value in values if value is not None]
    return {"mean": sum(known) / len(known), "std": 0.25, "values": values}


def row(number, **config):
    """A configuration each of whose numbers tells what it is."""
    found = {"config": config}
    for place, metric in enumerate(("test_accuracy", "validation_accuracy", "test_loss")):
        base = 100 * number + 10 * place
        found[metric] = {"final": spread([base, base + 1]), "best": spread([base + 5, None])}
    return found


@pytest.mark.parametrize("quick", [False, True])
def test_beside_a_number_stands_ours_of_the_same_metric(quick):
    reported = (
        Reported({"steps": 1000, "hidden": "8"}, "test_accuracy", 0.5),
        Reported({"steps": 500, "hidden": "8"}, "validation_accuracy", 0.6, deviation=0.1),
        Reported({"steps": 1000, "hidden": "9"}, "test_loss", 0.7, "best"),
    )
    short, long = (30, 60) if quick else (500, 1000)
    rows = [
        row(1, steps=short, hidden="8"), row(2, steps=long, hidden="8"),
        row(3, steps=long, hidden="9"),
    ]  # fmt: skip
    found = reproduce.compared(experiment(reported=reported), rows, quick)
    assert [(line["reported"], line["mean"], line["runs"]) for line in found] == [
        (0.5, 200.5, 2),
        (0.6, 110.5, 2),
        (0.7, 325.0, 1),
    ]
    assert [(line["metric"], line["which"]) for line in found] == [
        ("test_accuracy", "final"), ("validation_accuracy", "final"), ("test_loss", "best"),
    ]  # fmt: skip
    assert [line["reported_std"] for line in found] == [None, 0.1, None]
    assert [line["std"] for line in found] == [0.25] * 3
