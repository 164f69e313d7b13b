"""Where the parameters of an estimator end, and how many examples a program is compiled for."""

import inspect
import math

import numpy as np
import pytest
import sklearn.neural_network as theirs
from hypothesis import given
from hypothesis import strategies as st

import train.estimators as ours
from tests.properties import few
from train.estimators.grouping import rounded
from train.estimators.parameters import ALLOWED, check, widths
from train.estimators.training import _fill


@pytest.mark.parametrize(
    ("name", "last", "refused"),
    [
        ("momentum", 1.0, 1.0001),
        ("momentum", 0, -1e-9),
        ("alpha", 0.0, -1e-9),
        ("alpha", 1e300, math.inf),
        ("learning_rate_init", 1e-300, 0.0),
        ("max_iter", 1, 0),
        ("max_iter", np.int64(3), 3.0),
        ("n_iter_no_change", math.inf, 1.5),
        ("n_iter_no_change", 1, 0),
        ("batch_size", "auto", "all"),
        ("batch_size", 1, 0),
        ("beta_1", 0, 1),
        ("validation_fraction", 0.999, 1.0),
        ("dropout", 0.0, 1.0),
        ("shuffle", np.bool_(True), 1),
        ("verbose", 2, -1),
        ("norm", None, "none"),
        ("epsilon", 1e-300, 0.0),
        ("tol", 0, math.nan),
        ("max_fun", 1, True),
        ("learning_rate_init", 1e300, math.inf),
        ("learning_rate_init", 0.5, -0.5),
        ("epsilon", 0.5, math.inf),
        ("alpha", 0.5, -0.5),
        ("beta_2", 0.0, -0.5),
        ("beta_2", 0.5, math.nan),
        ("validation_fraction", 0.0, -1e-9),
        ("batch_size", np.int32(7), "1"),
        ("verbose", 0, 0.5),
        ("verbose", False, "yes"),
        ("nesterovs_momentum", False, 0),
        ("norm", "batch", False),
        ("schedule", "one-cycle", "invscaling"),
        ("learning_rate", "adaptive", "cosine"),
        ("loss", "squared_error", "log_loss"),
        ("solver", "lion", "momentum"),
        ("activation", "gelu", "softmax"),
        ("hidden_layer_sizes", (1,), (True,)),
    ],
)
def test_a_parameter_takes_its_last_value_and_no_other(name, last, refused):
    assert ALLOWED[name].test(last)
    assert not ALLOWED[name].test(refused)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, (5,)),
        (1, (1,)),
        ((5, 6), (5, 6)),
        ([], ()),
        (None, None),
        (0, None),
        ((5, 0), None),
        ("56", None),
        (5.0, None),
    ],
)
def test_widths_are_whole_numbers_from_1_on(value, expected):
    assert widths(value) == expected


PARAMETERS = {"solver": "lbfgs", "dropout": 0.0, "norm": None, "schedule": "constant"}


@pytest.mark.parametrize("norm", [None, "layer", "rms"])
def test_lbfgs_takes_all_examples_at_once(norm):
    check("Net", PARAMETERS | {"norm": norm, "other": 5})
    batches = {"dropout": 0.5, "norm": "batch", "schedule": "cosine"}
    check("Net", batches | {"solver": "adam"})
    for parameter, value in batches.items():
        line = f"^Net: {parameter}={value!r} needs a solver that takes batches; solver='lbfgs' take"
        with pytest.raises(ValueError, match=line):
            check("Net", PARAMETERS | {parameter: value})


def test_what_a_parameter_must_be_is_said():
    for parameter, value, words in (
        ("verbose", "yes", "True or False or a whole number from 0 on"),
        ("batch_size", 0, "one of 'auto' or a whole number from 1 on"),
        ("momentum", 2, r"a number in \[0, 1\]"),
        ("hidden_layer_sizes", 0, "whole numbers from 1 on, one for each hidden layer"),
    ):
        with pytest.raises(ValueError, match=f"^Net: {parameter} must be {words}; got {value!r}$"):
            check("Net", PARAMETERS | {parameter: value})


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_defaults_are_those_of_scikit_learn(name):
    """What it does not have is off; the weight decay is that of --optimizer adamw."""
    expected = getattr(theirs, name)().get_params()
    got = getattr(ours, name)().get_params()
    more = {"dropout": 0.0, "norm": None, "schedule": "constant", "weight_decay": 0.01}
    assert got == {name: expected[name] for name in got.keys() - more.keys()} | more
    positional = list(inspect.signature(getattr(theirs, name)).parameters.values())
    mine = inspect.signature(getattr(ours, name)).parameters
    for parameter in positional:
        if parameter.name in mine and parameter.kind is parameter.KEYWORD_ONLY:
            assert mine[parameter.name].kind is parameter.KEYWORD_ONLY


@few
@given(st.integers(1, 10**7))
def test_a_program_has_an_eighth_more_examples_at_most(examples):
    found = rounded(examples)
    assert examples <= found <= max(256, 1.125 * examples)
    assert rounded(found) == found


@few
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 8))
def test_a_batch_is_filled_up_with_its_own_examples(examples, batch, more):
    """Each counts once: what is repeated is marked."""
    batch = min(batch, examples)
    steps = math.ceil(examples / batch)
    order = np.random.default_rng(examples).permutation(examples)
    found = np.zeros((steps, batch + more), np.int32)
    _fill(found, order, batch)
    for step, row in enumerate(found):
        own = order[step * batch : (step + 1) * batch]
        assert row[row >= 0].tolist() == own.tolist()
        assert set((~row[row < 0]).tolist()) <= set(own.tolist())
