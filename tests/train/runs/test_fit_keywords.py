"""The keywords of `fit` as the words of a command line."""

import numpy as np
import pytest

from train.errors import ConfigError
from train.runs.fitting import _in_python, _name, _words


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("patience", None, []),
        ("test_curve", False, []),
        ("test_curve", True, ["--test-curve"]),
        ("learning_rate", 0.1, ["--learning-rate", "0.1"]),
        ("learning_rate", [0.1, 1e-05], ["--learning-rate", "0.1", "1e-05"]),
        ("hidden", ("5", 6), ["--hidden", "5", "6"]),
        ("seed", np.int64(3), ["--seed", "3"]),
        ("steps", range(1, 3), ["--steps", "1", "2"]),
        ("dropout", np.array([0.0, 0.5]), ["--dropout", "0.0", "0.5"]),
        ("negative_slope", -0.5, ["--negative-slope", "-0.5"]),
        ("negative_slope", float("-inf"), ["--negative-slope", "-inf"]),
        ("label_smoothing", 0, ["--label-smoothing", "0"]),
    ],
)
def test_a_keyword_is_a_flag(name, value, words):
    assert _words(name, value) == words


@pytest.mark.parametrize("value", ["--steps", "-v", "--5", ["5", "--steps"]])
def test_no_value_is_taken_for_a_flag(value):
    with pytest.raises(ConfigError, match="begins with a dash"):
        _words("hidden", value)


@pytest.mark.parametrize("value", [object(), [None], [[1]], {"a": 1}.items()])
def test_a_value_is_a_number_or_a_text(value):
    with pytest.raises(TypeError, match="must be a number or a text"):
        _words("hidden", value)


def test_flags_are_called_as_keywords_in_python():
    assert (
        _in_python("--train-examples 3: give --l2, not -v") == "train_examples 3: give l2, not -v"
    )


def test_data_have_a_name():
    assert _name((1, 2)) == _name((1, 2, 3, 4)) == "arrays"
    assert _name("digits") == "digits"
    assert _name(None) is None
    for bad in ((1, 2, 3), 5, [1, 2]):
        with pytest.raises(TypeError, match="data: must be arrays"):
            _name(bad)
