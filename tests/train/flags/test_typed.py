"""Messages and help say the words that the user types."""

import sys

import pytest

from train import mlp
from train.flags.typed import as_typed

TEXT = "python -m train.mlp, python -m train --help and python -m jaxnets check"


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("/usr/bin/jaxnets", "jaxnets mlp, jaxnets --help and jaxnets check"),
        (
            "/lib/jaxnets/__main__.py",
            "python -m jaxnets mlp, python -m jaxnets --help and python -m jaxnets check",
        ),
        ("/lib/train/mlp.py", TEXT),
        ("", TEXT),
    ],
)
def test_a_command_is_written_as_it_was_started(monkeypatch, program, text):
    monkeypatch.setattr(sys, "argv", [program])
    assert as_typed(TEXT) == text


def test_help_and_errors_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/jaxnets"])
    with pytest.raises(SystemExit):
        mlp.main(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: jaxnets mlp [FLAGS]\n")
    assert "\n  jaxnets mlp --dataset mnist" in text
    assert "python -m" not in text
    assert mlp.main(["--architecture", "small"]) == 2
    assert capsys.readouterr().err.endswith("there is no such flag; jaxnets convnet has it\n")
