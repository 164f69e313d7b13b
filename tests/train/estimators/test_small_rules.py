"""Where the parameters of an estimator end, and how many examples a program is compiled for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import few
from train.estimators.grouping import rounded
from train.estimators.parameters import ALLOWED, widths
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
    ],
)
def test_a_parameter_takes_its_last_value_and_no_other(name, last, refused):
    assert ALLOWED[name].test(last)
    assert not ALLOWED[name].test(refused)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, (5,)), ((5, 6), (5, 6)), ([], ()), (0, None), ((5, 0), None), ("56", None), (5.0, None)],
)
def test_widths_are_whole_numbers_from_1_on(value, expected):
    assert widths(value) == expected


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
