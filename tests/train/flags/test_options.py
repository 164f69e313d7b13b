"""The flags of a command as its type hints declare them."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

from train.flags.declaration import AT_LEAST_1, Flag
from train.flags.options import declared, make


class Command(NamedTuple):
    folder: tyro.conf.Positional[Path]
    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = ()
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    batch_size: Annotated[int, Flag(AT_LEAST_1)] = 1
    rates: tuple[float, ...] = ()
    norm: Literal["none", "batch"] = "none"
    lockstep: int | Literal["auto"] = "auto"
    quick: bool = False
    kept: Annotated[int, tyro.conf.Suppress] = 0


FOLDER, NAMES, SOURCE, BATCH, RATES, NORM, LOCKSTEP, QUICK = declared(Command)


def test_names_are_those_that_are_typed():
    names = [flag.name for flag in declared(Command)]
    assert names == [
        "FOLDER", "NAME", "--from", "--batch-size", "--rates", "--norm", "--lockstep", "--quick",
    ]  # fmt: skip
    assert SOURCE.field == "source"


def test_what_a_value_may_be():
    assert FOLDER.types == SOURCE.types == (Path,)
    assert BATCH.types == LOCKSTEP.types == (int,)
    assert RATES.types == (float,)
    assert NORM.types == ()
    assert NORM.choices == ("none", "batch")
    assert LOCKSTEP.choices == ("auto",)
    assert BATCH.allowed is AT_LEAST_1
    assert RATES.allowed is None
    assert [flag.numeric for flag in (BATCH, RATES, LOCKSTEP)] == [True] * 3
    assert not any(flag.numeric for flag in (FOLDER, NORM, QUICK))
    assert [flag for flag in declared(Command) if flag.switch] == [QUICK]
    assert [flag for flag in declared(Command) if flag.several] == [NAMES, RATES]
    assert [flag for flag in declared(Command) if flag.positional] == [FOLDER, NAMES]
    assert [flag for flag in declared(Command) if flag.required] == [FOLDER]


def test_words_become_values(monkeypatch):
    monkeypatch.setenv("HOME", "/home/one")
    words = "a b c --from ~/d --batch-size 3 --rates 0.1 1 --norm batch --quick"
    made = make(Command, words.split(), "prog")
    assert made == Command(
        Path("a"), ("b", "c"), Path("/home/one/d"), 3, (0.1, 1.0), "batch", quick=True
    )
