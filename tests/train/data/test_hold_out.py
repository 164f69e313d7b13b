"""How many examples are held out to test on, and of which classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import few
from train.data.hold_out import divided, held_out_to_test, with_test
from train.data.schema import Schema
from train.errors import ConfigError, DataError

Y = np.repeat(np.int32([0, 1, 2]), [10, 20, 10])
CLASSES = ("a", "b", "c")


def held(y, classes, test=None):
    train, found = held_out_to_test(y, classes, test, "rows")
    assert sorted([*train, *found]) == list(range(len(y)))
    return np.bincount(y[found], minlength=len(classes)).tolist()


def test_a_fifth_of_each_class_is_held_out_or_what_is_asked_for():
    assert held(Y, CLASSES) == [2, 4, 2]
    assert held(Y, CLASSES, 0.5) == [5, 10, 5]
    assert held(Y, CLASSES, 4.0) == [1, 2, 1]
    # A fifth of 6 is 1, and each class is there.
    assert held(np.int32([0, 0, 0, 1, 1, 1]), CLASSES[:2]) == [1, 1]
    assert held(np.int32([0, 0, 1, 1]), CLASSES[:2]) == [1, 1]
    assert held(np.int32([0, 0, 2, 2]), CLASSES, 2.0) == [1, 0, 1]  # None of b are there.


@few
@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), st.data())
def test_of_each_class_some_are_on_both_sides(counts, data):
    examples = sum(counts)
    count = data.draw(st.integers(len(counts), examples - len(counts)))
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    found = held(y, tuple(map(str, range(len(counts)))), float(count))
    assert sum(found) == count
    assert all(0 < n < whole for n, whole in zip(found, counts, strict=True))


def test_a_share_of_a_small_class_is_some_of_it():
    assert held(np.repeat(np.int32([0, 1]), [10, 2]), CLASSES[:2]) == [1, 1]
    assert held(np.repeat(np.int32([0, 1]), [1000, 3]), CLASSES[:2], 10.0) == [9, 1]


def test_each_class_is_on_both_sides():
    for count in (3.0, 37.0):
        assert sum(held(Y, CLASSES, count)) == count
    for count in (1.0, 2.0, 38.0):
        line = f"--test {count:g}: holds out {count:g} of 40 .* must be from 3 to 37 examples"
        with pytest.raises(ConfigError, match=line):
            held(Y, CLASSES, count)
    with pytest.raises(DataError, match="rows: class b has one example only"):
        held(np.int32([0, 0, 1, 2]), CLASSES)


def test_the_description_says_what_is_held_out():
    x = np.arange(len(Y), dtype=np.float32)[:, None]
    found = divided("rows", "Rows.", (x, Y), CLASSES, 0.25)
    assert found.description == "Rows. 10 of them, 25% of each class, are held out to test on."
    assert sorted(np.concatenate([found.x_train, found.x_test])[:, 0]) == list(range(len(Y)))
    for part, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        np.testing.assert_array_equal(Y[part[:, 0].astype(int)], y)  # Each has its own label.


def test_those_to_train_on_are_in_no_order():
    """The last of them are held out to validate on."""
    x = np.arange(len(Y), dtype=np.float32)[:, None]
    found = with_test("rows", "Rows.", (x, Y), (x[:3], Y[:3]), CLASSES, Schema((1,), "float32"))
    assert found.description == "Rows. 3 more are to test on."
    assert (np.diff(found.x_train[:, 0]) < 0).any()
    np.testing.assert_array_equal(Y[found.x_train[:, 0].astype(int)], found.y_train)
    np.testing.assert_array_equal(found.x_test, x[:3])
