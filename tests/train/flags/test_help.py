"""How a page of the help is laid out."""

import importlib.metadata
import itertools
from typing import NamedTuple

import pytest
import tyro

from train.flags import help as pages

LONG = " ".join(["word"] * 90)


class Command:
    """Does it.

    And more of it.
    """


@pytest.mark.parametrize(("columns", "width"), [("10", 40), ("63", 63), ("300", 100)])
def test_a_page_is_as_wide_as_the_terminal_from_40_to_100_columns(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    full, short = "a" * (width - 2), "b" * (width - 1)  # With " c" there is no place behind b.
    about = f"{full} c {short} c"
    lines = pages.menu("prog", about, {"one": LONG}).splitlines()
    assert lines[2:5] == [f"{full} c", short, "c"]
    assert max(map(len, lines)) <= width


def test_a_word_is_not_broken_at_its_hyphens(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    page = pages.menu("prog", f"{'a' * 36} --learning-rate {'b' * 60}", {"one": "1."})
    assert page.splitlines()[2:5] == ["a" * 36, "--learning-rate", "b" * 60]


class Given(NamedTuple):
    """Do it."""

    folders: tyro.conf.Positional[tuple[str, ...]]
    name: tyro.conf.Positional[str] = "a"


def test_positional_arguments_stand_in_the_usage():
    assert pages.page(Given, "prog", None).startswith("usage: prog FOLDERS ... [NAME] [FLAGS]\n")


def test_what_a_command_does_stands_in_a_column_of_its_own(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = pages.menu("prog", None, {"a": LONG, "longer": LONG, "own": Command})
    usage, listed, *_ = text.split("\n\n")
    assert usage == "usage: prog {a,longer,own}"
    lines = listed.splitlines()
    assert {line[:10] for line in lines} == {"  a       ", "  longer  ", "  own     ", " " * 10}
    assert lines[-1] == "  own     Does it."  # The first line of what describes it.


def test_a_long_usage_goes_on_under_its_first_word(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    usage = pages.menu(" ".join(["prog"] * 20), None, {"a": "A."}).partition("\n\n")[0]
    first, *more = usage.splitlines()
    assert first.startswith("usage: prog")
    assert more
    assert all(line[:8] == " " * 7 + "p" for line in more[:-1])


def test_examples_come_last_and_only_where_there_are_some():
    page = pages.menu("prog", "Does it.\n\npython -m train.mlp --steps 5\n", {"a": "A."})
    assert page.endswith("\n\nExamples:\n  python -m train.mlp --steps 5")
    assert page.count("train.mlp") == 1
    assert "Examples" not in pages.menu("prog", "Does it.", {"a": "A."})
    paragraphs = pages.menu("prog", "One\ntwo.\n\nThree.", {"a": "A."}).split("\n\n")
    assert paragraphs[1:3] == ["One two.", "Three."]
    for one, other in itertools.pairwise(paragraphs):
        assert one.strip("\n") == one
        assert other.strip("\n") == other


def test_only_the_help_or_the_version_end_a_command(capsys, monkeypatch):
    assert pages.help_or_version(["--out", "-v"], lambda: "page") is None
    assert capsys.readouterr().out == ""
    for flag in ("-h", "--help"):
        with pytest.raises(SystemExit) as end:
            pages.help_or_version(["--out", flag], lambda: "page")
        assert end.value.code == 0
        assert capsys.readouterr().out == "page\n"

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(SystemExit):
        pages.help_or_version(["--version"], lambda: "page")
    assert capsys.readouterr().out == "jaxnets, a checkout that is not installed\n"
