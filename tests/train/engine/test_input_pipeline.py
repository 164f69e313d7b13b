"""What the network sees of images and of the columns of a table."""

import numpy as np
import pytest

from train.data import Dataset
from train.data.schema import Schema
from train.data.table import Column
from train.engine.input_pipeline import _kept, _of_columns, learned, on_device


def test_each_column_of_numbers_is_standardised_by_itself():
    rng = np.random.default_rng(0)
    numbers = rng.normal([5.0, -300.0], [0.5, 40.0], (200, 2))
    words = rng.integers(2, size=(200, 1))
    constant = np.full((200, 1), 7.0)
    x = np.concatenate([numbers, words, constant], 1).astype(np.float32)
    shift, scale = _of_columns(x, np.array([True, True, False, True]))
    seen = (x - shift) * scale
    np.testing.assert_allclose(seen[:, :2].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen[:, :2].std(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(seen[:, 2], words[:, 0])  # 0 or 1, as they were.
    np.testing.assert_array_equal(seen[:, 3], 0)
    assert scale[3] == 0  # Also where an example to test on is another number.
    assert (shift.dtype, scale.dtype) == (np.float32, np.float32)


def images(white=255):
    x = np.arange(8 * 2 * 2, dtype=np.uint8).reshape(8, 2, 2, 1) * 3
    x[:, 0, 0] = np.arange(8, dtype=np.uint8)[:, None] ** 2
    y = np.zeros(8, np.int32)
    return Dataset("noise", "Noise.", x, y, x, y, ("a", "b"), "fingerprint", white)


@pytest.mark.parametrize("held", [range(0), range(2, 4), range(6, 8)])
def test_images_are_standardised_by_what_is_not_held_out(held):
    """Minus the mean image; divided by one number for all pixels."""
    dataset = images()
    kept = [n for n in range(8) if n not in held]
    assert _kept(dataset, held).tolist() == kept
    x = dataset.x_train[kept].astype(float)
    shift, scale = learned(dataset, "standardize", held)
    np.testing.assert_allclose(shift, x.mean(0), rtol=1e-6)
    assert scale == pytest.approx(1 / (x - x.mean(0)).std(), rel=1e-6)
    assert ((x - shift) * scale).std() == pytest.approx(1, rel=1e-6)
    shift, scale = learned(dataset, "mean-image", held)
    np.testing.assert_allclose(shift, x.mean(0), rtol=1e-6)
    assert scale == 1


def test_where_nothing_is_held_out_every_example_counts_once():
    dataset = images()
    shift, _ = learned(dataset, "mean-image")
    np.testing.assert_allclose(shift, dataset.x_train.mean(0), rtol=1e-6)
    sets = on_device(dataset, "unit")
    np.testing.assert_array_equal(sets.train.x, dataset.x_train)
    assert sets.validation is None


@pytest.mark.parametrize("white", [1, 16, 255])
def test_unit_is_from_black_to_white(white):
    shift, scale = learned(images(white), "unit")
    assert not shift.any()
    assert scale == np.float32(1 / white)


def test_the_rows_of_a_table_are_standardised_whatever_is_asked():
    columns = (Column("a"), Column("b", ("u", "v")))
    x = np.float32([[1, 0, 1], [3, 1, 0], [100, 0, 1]])
    y = np.zeros(3, np.int32)
    schema = Schema((3,), "float32", columns=columns)
    dataset = Dataset("t", "T.", x, y, x, y, ("a", "b"), "f", schema=schema)
    shift, scale = learned(dataset, "standardize", range(2, 3))
    np.testing.assert_array_equal(shift, [2, 0, 0])
    np.testing.assert_array_equal(scale, [1, 1, 1])
