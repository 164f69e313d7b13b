"""Every way to divide examples takes each of them once, whatever their number."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import few
from train.data import Dataset
from train.data.hold_out import held_out_to_test, with_test
from train.data.schema import Schema
from train.data.split import first, number_of_steps, steps_per_epoch, validation_part
from train.engine.input_pipeline import batches
from train.errors import ConfigError
from train.flags.config import MlpRun, replaced
from train.flags.constraints import completed


@few
@given(st.integers(2, 400), st.integers(2, 50))
def test_folds_are_parts_of_one_size_without_a_common_example(examples, folds):
    """They leave out fewer examples than there are folds, at the end."""
    parts = [validation_part(examples, None, folds, fold) for fold in range(folds)]
    assert {len(part) for part in parts} == {examples // folds}
    taken = [*itertools.chain(*parts)]
    assert taken == list(range(len(taken)))
    assert 0 <= examples - len(taken) < folds


@few
@given(st.integers(1, 1000), st.floats(0, 0.999), st.integers(1, 1000))
def test_the_last_examples_are_validated_on(examples, share, number):
    part = validation_part(examples, share)
    assert abs(len(part) - share * examples) <= 0.5
    assert [*part] == [*range(examples)][examples - len(part) :]
    part = validation_part(examples, float(number))
    assert len(part) == number
    assert part.stop == examples


@few
@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.floats(0.05, 0.95))
def test_what_is_held_out_to_test_has_the_same_share_of_each_class(counts, share):
    y = np.repeat(np.arange(len(counts)), counts)
    y = np.random.default_rng(sum(counts)).permutation(y)
    classes = tuple("abcdef"[: len(counts)])
    total, present = len(y), len(counts)
    count = round(share * total)
    if not present <= count <= total - present:
        with pytest.raises(ConfigError, match=f"holds out {count} of {total} examples"):
            held_out_to_test(y, classes, share, "data")
        return
    train, held = held_out_to_test(y, classes, share, "data")
    assert len(held) == count
    assert sorted([*train, *held]) == list(range(total))
    for label, number in enumerate(counts):
        here = (y[held] == label).sum()
        assert abs(here - number * count / total) <= 1
    again = held_out_to_test(y, classes, share, "data")
    np.testing.assert_array_equal(again[1], held)


@few
@given(st.integers(2, 60), st.integers(1, 5))
def test_a_training_set_with_a_test_set_is_shuffled_alone(train, test):
    x = np.arange(train + test, dtype=np.float32)[:, None]
    y = np.arange(train + test, dtype=np.int32)
    dataset = with_test(
        "data", "Noise.", (x[:train], y[:train]), (x[train:], y[train:]), tuple(map(str, y)),
        Schema((1,), "float32"),
    )  # fmt: skip
    assert sorted(dataset.y_train) == list(range(train))
    np.testing.assert_array_equal(dataset.x_train[:, 0], dataset.y_train)
    np.testing.assert_array_equal(dataset.y_test, y[train:])
    np.testing.assert_array_equal(dataset.x_test[:, 0], dataset.y_test)
    few_of = first(dataset, 2, 1)
    assert few_of.y_train.tolist() == dataset.y_train[:2].tolist()
    assert few_of.x_train[:, 0].tolist() == few_of.y_train.tolist()
    assert (len(few_of.y_test), len(few_of.x_test)) == (1, 1)


@few
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.data())
def test_an_epoch_takes_each_example_at_most_once(seed, examples, data):
    """But for the remainder that fills no batch; the first one takes them in their order."""
    batch = data.draw(st.integers(1, examples))
    per_epoch = examples // batch
    taken = list(itertools.islice(batches(seed, examples, batch), 3 * per_epoch))
    assert {b.shape for b in taken} == {(batch,)}
    for epoch in range(3):
        seen = np.concatenate(taken[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert len(set(seen.tolist())) == len(seen) == per_epoch * batch
        assert set(seen.tolist()) <= set(range(examples))
    first_epoch = np.concatenate(taken[:per_epoch])
    np.testing.assert_array_equal(first_epoch, np.arange(per_epoch * batch))
    start = data.draw(st.integers(0, 3 * per_epoch - 1))
    again = list(itertools.islice(batches(seed, examples, batch, start), 3 * per_epoch - start))
    np.testing.assert_array_equal(np.array(again), np.array(taken[start:]))


def test_another_epoch_and_another_seed_are_another_order():
    orders = [
        tuple(np.concatenate(list(itertools.islice(batches(seed, 40, 8), 5, 15))))
        for seed in (0, 1)
    ]
    halves = {order[:40] for order in orders} | {order[40:] for order in orders}
    assert len(halves) == 4


@few
@given(st.integers(2, 500), st.integers(1, 60), st.data())
def test_the_steps_of_a_run_are_those_of_its_data(examples, batch, data):
    held = data.draw(st.integers(0, examples - 1))
    epochs = data.draw(st.integers(1, 9))
    x = np.zeros((examples, 1, 1, 1), np.uint8)
    y = np.zeros(examples, np.int32)
    dataset = Dataset("noise", "Noise.", x, y, x[:1], y[:1], ("a", "b"), "fingerprint")
    flags = {"batch_size": batch, "validation": held, "epochs": epochs}
    run = completed(replaced(MlpRun(), flags))
    if batch > examples - held:
        with pytest.raises(ConfigError, match=f"--batch-size {batch}: must be at most"):
            steps_per_epoch(run, dataset)
        return
    assert steps_per_epoch(run, dataset) == math.floor((examples - held) / batch)
    assert number_of_steps(run, dataset) == epochs * math.floor((examples - held) / batch)
