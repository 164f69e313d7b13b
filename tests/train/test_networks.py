"""What the flags of a run say to the network that it trains, and what ends a command."""

import types

import pytest

from jaxnets import initializers, nets
from train import convnet, mlp
from train.__main__ import main as menu
from train.errors import Refusal, reason
from train.flags.config import ConvnetRun, MlpRun, replaced


@pytest.fixture
def made(monkeypatch):
    """The arguments of the networks that are made."""
    found = []
    for name in ("mlp", "convnet", "small_convnet", "preact_convnet"):
        monkeypatch.setattr(
            nets, name, lambda *a, name=name, **k: found.append((name, a, k)), raising=False
        )
    return found


def hyper(**numbers):
    return types.SimpleNamespace(
        **{"dropout": None, "negative_slope": None, "alpha": None} | numbers
    )


def test_a_perceptron_is_what_its_flags_say(made):
    run = replaced(MlpRun(), {"hidden": "2x7-5", "activation": "elu", "norm": "rms",
                              "initializer": "normal", "initial_std": 0.5})  # fmt: skip
    mlp.network(run, hyper(dropout="traced", negative_slope=0.25, alpha=0.5), 3)
    mlp.network(MlpRun(), hyper(), 3)
    (_, (sizes,), first), (_, (plain,), second) = made
    assert (sizes, plain) == ([7, 7, 5, 3], [100, 3])
    assert (first["activation"], first["norm"], first["dropout"]) == ("elu", "rms", "traced")
    assert (first["negative_slope"], first["alpha"]) == (0.25, 0.5)
    assert first["initializer"].__qualname__ == initializers.normal(0.5).__qualname__
    assert (second["norm"], second["dropout"]) == (None, 0.0)
    assert (second["negative_slope"], second["alpha"]) == (0.01, 1.0)
    assert second["initializer"] is initializers.he


@pytest.mark.parametrize("architecture", ["small", "convnet", "preact"])
def test_a_convolutional_network_is_what_its_flags_say(made, architecture):
    run = replaced(ConvnetRun(), {"architecture": architecture, "activation": "gelu"})
    for numbers in ({}, {"negative_slope": 0.25, "alpha": 0.5}):
        convnet.network(run, hyper(**numbers), 3)
    (name, _, first), (_, _, second) = made
    assert architecture in name
    assert first["classes"] == 3
    assert first["activation"] == "gelu"
    assert (first["negative_slope"], first["alpha"]) == (0.01, 1.0)
    assert (second["negative_slope"], second["alpha"]) == (0.25, 0.5)


def test_an_error_is_one_line_and_not_too_long():
    assert str(Refusal("a\nb\x1bé")) == r"a\nb\x1bé"
    assert reason(" a\n  b ") == "a b"
    assert reason(KeyError()) == "KeyError"
    assert reason("a" * 300) == "a" * 300
    assert reason("a" * 301) == "a" * 297 + "..."


def test_without_a_command_the_menu_is_shown(capsys, monkeypatch):
    monkeypatch.setattr("train.__main__.run_command", lambda words: 7 if words else None)
    assert menu(["mlp"]) == 7
    with pytest.raises(SystemExit) as end:
        menu([])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m train {mlp,convnet,")
    monkeypatch.setattr("sys.argv", ["prog", "mlp"])
    assert menu() == 7
