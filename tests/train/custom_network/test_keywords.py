"""Which keywords of a function become flags, and what is said of the others."""

from typing import Literal

import pytest

from jaxnets.layers import Flatten, Linear, serial
from train.custom_network import run_kind
from train.errors import Refusal
from train.flags.config import declared
from train.training.command import parse


def net(
    classes,
    *,
    width: int = 64,
    rate: float = 1,
    act: Literal["relu", "tanh"] = "relu",
    bias: bool = True,
    slope: float | None = None,
    title: str = "x",
):
    """Two layers.

    Args:
        width: of the hidden layer, which
            is one.
        rate (float): to drop.

    Returns:
        A layer.
    """
    return serial(Flatten(), Linear(classes))


def runs(*words):
    kind = run_kind(net).kind
    return parse(kind, list(words), kind.started(), None).runs


def test_each_keyword_is_a_flag_with_its_default():
    (run,) = runs()
    assert vars(run.network) == {
        "width": 64, "rate": 1.0, "act": "relu", "bias": "true", "slope": None, "title": "x",
    }  # fmt: skip
    assert type(run.network.rate) is float


def test_they_are_swept_as_all_others_are():
    found = runs("--width", "3", "4", "--bias", "true", "false", "--seeds", "2")
    seen = [(r.network.width, r.network.bias, r.training.seed) for r in found]
    assert seen == [(w, b, s) for w in (3, 4) for b in ("true", "false") for s in (0, 1)]
    drawn = runs("--rate", "2", "4", "--search", "random:5")
    assert len({run.network.rate for run in drawn}) == 5
    assert all(2 <= run.network.rate <= 4 for run in drawn)


def test_real_numbers_alone_are_traced():
    flags = declared(run_kind(net).kind)
    assert {name for name in vars(runs()[0].network) if flags[name].traced} == {"rate", "slope"}


def test_whole_numbers_have_less_than_64_bits():
    for value in (2**63 - 1, -(2**63 - 1), 200):
        assert runs("--width", str(value))[0].network.width == value
    for value in (2**63, -(2**63)):
        with pytest.raises(Refusal, match="must be a whole number of less than 64 bits"):
            runs("--width", str(value))


def test_the_help_shows_the_docstring(capsys):
    with pytest.raises(SystemExit):
        runs("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Two layers." in text
    assert "--width [INT [INT ...]] of the hidden layer, which is one. (default: 64)" in text
    assert "to drop. (default: 1.0)" in text
    assert "{true,false}" in text
    assert "A layer" not in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--width", "2.5"], "--width 2.5: must be a whole number of less than 64 bits"),
        (["--rate", "x"], "--rate x: must be a finite number"),
        (["--rate", "nan"], "--rate nan: must be a finite number"),
        (["--act", "rleu"], "--act rleu: must be one of relu, tanh; did you mean relu?"),
        (["--bias"], "--bias: needs a value"),
        (["--widht", "2"], "--widht: there is no such flag; did you mean --width?"),
    ],
)
def test_values_are_refused_as_those_of_other_flags(words, line):
    with pytest.raises(Refusal) as refused:
        runs(*words)
    assert str(refused.value) == line


def nothing(): ...
def keyword(*, classes): ...
def star(classes, *rest: int): ...
def double(classes, **rest: int): ...
def required(classes, *, width: int): ...
def untyped(classes, *, width=3): ...
def seed(classes, *, seed: int = 3): ...
def runs_(classes, *, runs: int = 3): ...
def seeds(classes, *, seeds: int = 3): ...
def listed(classes, *, width: list = []): ...  # noqa: B006
def either(classes, *, width: int | str = 3): ...
def real(classes, *, width: int = 2.5): ...
def choice(classes, *, act: Literal["a", "b"] = "c"): ...
def truth(classes, *, act: Literal["a", True] = "a"): ...
def dashed(classes, *, name: str = "--x"): ...
def infinite(classes, *, rate: float = float("inf")): ...
def hidden_name(classes, *, _width: int = 3): ...
def unknown(classes, *, width: "Nowhere" = 3): ...  # noqa: F821


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (nothing, "must take the number of classes first"),
        (keyword, "must take the number of classes first"),
        (star, "*rest: int: must be a keyword with a name, a type and a default"),
        (double, "**rest: int: must be a keyword with a name, a type and a default"),
        (required, "width: int: needs a default, which its flag has"),
        (untyped, "width=3: needs a type, such as width: int = 64"),
        (seed, "--seed is taken; call the keyword otherwise"),
        (seeds, "--seeds is taken; call the keyword otherwise"),
        (runs_, "--runs is taken; call the keyword otherwise"),
        (listed, "width: list = []: its type must be int, float, str, bool, Literal"),
        (either, "width: int | str = 3: its type must be int"),
        (real, "width: int = 2.5: the default is not of that type"),
        (choice, "= 'c': the default is not of that type"),
        (truth, "its type must be int"),
        (dashed, "the default must not begin with a dash"),
        (infinite, "--rate inf: must be a finite number"),
        (hidden_name, "must have a name of a-z, A-Z, 0-9 and single _ inside"),
        (unknown, "NameError: name 'Nowhere' is not defined"),
    ],
)
def test_what_cannot_be_a_flag_is_refused_by_its_name(function, line):
    with pytest.raises(Refusal) as refused:
        run_kind(function)
    assert line in str(refused.value)
    assert f":{function.__name__}" in str(refused.value)


def test_a_keyword_may_have_the_name_of_another_networks_flag():
    def own(classes, *, dropout: str = "no", alpha: float = -3.0, hidden: int = 7): ...

    kind = run_kind(own).kind
    (run,) = parse(kind, ["--dropout", "much", "--alpha", "-0.5"], "prog", None).runs
    assert vars(run.network) == {"dropout": "much", "alpha": -0.5, "hidden": 7}
