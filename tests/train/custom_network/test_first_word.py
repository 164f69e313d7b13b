"""The command that trains a network of one's own, up to where it is trained."""

import sys

import pytest

from jaxnets import nets
from train import custom

CODE = '''
from jaxnets import nets

def described(classes, *, width: int = 8):
    """A net with a hidden layer.

    Args:
        width: of it.
    """
    return nets.mlp((width, classes))

def net(classes, *, width: int = 8):
    return nets.mlp((width, classes))
'''


@pytest.fixture
def trained(here, monkeypatch):
    """What is trained, instead of training it; and what is called before the code is imported."""
    (here / "net_of_mine.py").write_text(CODE)
    found = []
    monkeypatch.setattr("train.engine.devices.set_up", lambda: found.append("set up"))
    monkeypatch.setattr(custom, "trained", lambda *arguments: found.append(arguments))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return found


@pytest.mark.parametrize("function", ["net", "described"])
def test_the_first_word_names_the_network_and_the_others_are_its_flags(here, trained, function):
    assert custom.main([f"net_of_mine.py:{function}", "--width", "4", "8"]) == 0
    before, (kind, network, name, words, about, signals) = trained
    assert before == "set up"
    assert words == ["--width", "4", "8"]
    assert kind().network.width == 8
    assert name == function
    assert str(here / "net_of_mine.py") in repr(network)
    if function == "described":
        assert about.startswith("A net with a hidden layer.")
    else:
        assert about == "Train the network net."
    assert callable(network)
    assert signals is not None


def test_without_arguments_they_are_those_of_the_command_line(trained, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["custom.py", "net_of_mine.py:net", "--steps", "5"])
    assert custom.main() == 0
    assert trained[-1][3] == ["--steps", "5"]


@pytest.mark.parametrize("words", [[], ["--steps", "3"], ["-x"]])
def test_a_network_must_be_named(trained, capsys, words):
    assert custom.main(words) == 2
    assert capsys.readouterr().err == (
        "error: name the network first, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION: python -m "
        "train.custom net.py:net; python -m train.custom --help\n"
    )
    assert trained == []


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--steps", "5", "--help"]])
def test_help_needs_no_network(trained, capsys, words):
    with pytest.raises(SystemExit) as ended:
        custom.main(words)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "python -m train.custom FILE.py:FUNCTION" in said
    assert "Train a network of your own" in said
    assert "FUNCTION or" not in said.split("Train a network")[0]
    assert trained == []


def test_the_network_is_made_of_its_keywords(trained):
    custom.main(["net_of_mine.py:net"])
    kind, network, *_ = trained[-1]
    from train.engine.hyperparameters import of_run

    run = kind()
    layer = network(run, of_run(run), 3)
    assert [part.name for part in layer.parts] == [part.name for part in nets.mlp((8, 3)).parts]
