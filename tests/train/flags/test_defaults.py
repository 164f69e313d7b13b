"""Defaults that depend on other flags, and how a search draws from a range."""

import math
import typing

import pytest

from train.errors import ConfigError
from train.flags.config import FLAGS, ConvnetRun, MlpRun, Training, flags, parts
from train.flags.sweep import drawn
from train.training.command import parse

# What the help says: the flag that is given, and what another one then is.
DEFAULTS = [
    ("--schedule exponential", "decay", 0.95),
    ("--schedule step", "decay", 0.1),
    ("--schedule step", "decay_epochs", 10),
    ("--schedule exponential", "decay_epochs", None),
    ("--schedule cosine", "decay", None),
    ("--optimizer momentum", "momentum", 0.9),
    ("--optimizer nesterov", "momentum", 0.9),
    ("--optimizer lars", "momentum", 0.9),
    ("--optimizer sgd", "momentum", None),
    *(
        (f"--optimizer {name}", "weight_decay", 0.01)
        for name in ("adamw", "nadamw", "lion", "lamb", "lars", "muon")
    ),
    ("--optimizer adam", "weight_decay", None),
    ("--activation leaky_relu", "negative_slope", 0.01),
    ("--activation elu", "alpha", 1.0),
    ("--initializer normal", "initial_std", 1e-4),
    ("--steps 7", "epochs", None),
    ("--epochs 7", "steps", None),
    ("--seed 1", "steps", 1500),
    ("--seed 1", "validation", 0.1),
    ("--folds 3", "validation", None),
    ("--seed 1", "keep", "last"),
    ("--patience 3", "keep", "best"),
    ("--patience 3 --keep last", "keep", "last"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "name", "value"), DEFAULTS)
def test_what_is_not_given_depends_on_what_is(words, name, value):
    run = parse(MlpRun, words.split(), "prog", None).runs[0]
    assert flags(run)[name] == value


def test_the_help_says_these_defaults():
    assert "adamw, nadamw, lion, lamb, lars and muon" in " ".join((Training.__doc__ or "").split())
    for name in ("decay", "decay_epochs", "momentum", "weight_decay", "steps", "validation"):
        hint = typing.get_args(
            typing.get_type_hints(parts(MlpRun)[_part(name)], include_extras=True)[name]
        )[1]
        said = hint.help_behavior_hint
        values = {value for _, of, value in DEFAULTS if of == name and value is not None}
        for value in values:
            assert str(value) in said, (name, said)


def _part(name):
    return next(of for of, kind in parts(MlpRun).items() if hasattr(kind(), name))


RANGES = [
    ("learning_rate", 1e-4, 1e-1, "log"),
    ("weight_decay", 1e-4, 1e-1, "log"),
    ("l2", 1e-6, 1e-2, "log"),
    ("clip_norm", 0.1, 10.0, "log"),
    ("initial_std", 1e-5, 1e-1, "log"),
    ("momentum", 0.5, 0.999, "log from 1"),
    ("decay", 0.1, 0.99, "log from 1"),
    ("dropout", 0.0, 0.5, "uniform"),
    ("label_smoothing", 0.0, 0.2, "uniform"),
    ("negative_slope", -0.1, 0.3, "uniform"),
    ("alpha", 0.5, 2.0, "uniform"),
]


def test_every_real_number_that_varies_is_drawn_from_a_range():
    """One without a law would be drawn as two values."""
    real = {
        name
        for kind in (MlpRun, ConvnetRun)
        for part in parts(kind).values()
        for name, hint in typing.get_type_hints(part).items()
        if hint in (float, float | None) and not FLAGS[name].one
    }
    assert real == {name for name, *_ in RANGES}


@pytest.mark.parametrize(("name", "low", "high", "law"), RANGES)
def test_a_range_is_drawn_evenly_by_its_law(name, low, high, law):
    straight = {
        "log": math.log,
        "log from 1": lambda x: -math.log(1 - x),
        "uniform": lambda x: x,
    }[law]
    several = {"seed": (3,), name: (high, low)}  # In either order.
    values = [value for _, value in drawn(several, 2000)]
    assert low <= min(values) <= max(values) <= high
    places = [
        (straight(value) - straight(low)) / (straight(high) - straight(low)) for value in values
    ]
    for quarter in range(4):
        share = sum(quarter / 4 <= place < (quarter + 1) / 4 for place in places) / 2000
        assert abs(share - 0.25) < 0.05


def test_draws_depend_on_the_seed_and_other_values_are_chosen_among():
    hidden = ("4", "5", "6")
    several = {"seed": (3,), "learning_rate": (0.1, 0.2, 0.4), "hidden": hidden}
    first = list(drawn(several, 50))
    assert first == list(drawn(several, 50))
    assert first != list(drawn({**several, "seed": (4,)}, 50))
    for place, values in ((1, (0.1, 0.2, 0.4)), (2, hidden)):  # Three numbers are no range.
        assert {row[place] for row in first} == set(values)
    with pytest.raises(ConfigError, match="needs a flag with several values"):
        next(drawn({"seed": (3,), "hidden": ("4",)}, 1))
    # Two that are not told apart by numbers of a range.
    two = {row[1] for row in drawn({"seed": (0,), "batch_size": (8, 64)}, 50)}
    assert two == {8, 64}
