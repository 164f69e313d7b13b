import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.engine.augment import augment, cutout, flip, shift

KEY = jax.random.key(2)


def images(batch=600, height=16, width=24, channels=2):
    rng = np.random.default_rng(0)
    return rng.uniform(1, 2, (batch, height, width, channels)).astype(np.float32)


def test_flip_mirrors_every_second_image():
    x = images()
    y = np.asarray(jax.jit(flip)(KEY, x))
    flipped = (y == x[:, :, ::-1]).all((1, 2, 3))
    assert ((y == x).all((1, 2, 3)) | flipped).all()
    assert 240 < flipped.sum() < 360


@pytest.mark.parametrize(
    ("height", "width", "most"), [(16, 24, (2, 3)), (14, 8, (1, 1)), (8, 14, (1, 1))]
)
def test_shift_moves_by_up_to_an_eighth_and_fills_with_0(height, width, most):
    rows, columns = most
    x = images(height=height, width=width)
    y = np.asarray(jax.jit(shift)(KEY, x))
    padded = np.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    counts = np.zeros((2 * rows + 1, 2 * columns + 1), int)
    for i in range(len(x)):
        (found,) = (
            (row, column)
            for row in range(2 * rows + 1)
            for column in range(2 * columns + 1)
            if (padded[i, row : row + height, column : column + width] == y[i]).all()
        )
        counts[found] += 1
    average = len(x) / counts.size  # 17 or 67 times each shift.
    assert counts.min() > average - 17.1
    assert counts.max() < average + 28


def test_cutout_erases_a_square_that_may_leave_the_image():
    x = images(2000)
    erased = np.asarray(jax.jit(cutout)(KEY, x)) == 0
    assert (erased.all(-1) == erased.any(-1)).all()
    rows, columns = erased.any((2, 3)), erased.any((1, 3))
    np.testing.assert_array_equal(erased[..., 0], rows[:, :, None] & columns[:, None, :])
    for edge, size in ((rows, 16), (columns, 24)):
        assert (np.abs(np.diff(edge.astype(int), axis=1)).sum(1) <= 2).all()  # One stretch.
        lengths = edge.sum(1)
        assert lengths.min() >= 4
        assert lengths.max() == 8
        # The centre is anywhere, so a pixel in the middle is erased 8 times in `size`.
        np.testing.assert_allclose(edge[:, size // 2].mean(), 8 / size, atol=0.05)
    kept = ~erased
    np.testing.assert_array_equal(np.asarray(jax.jit(cutout)(KEY, x))[kept], x[kept])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_changes_are_made_one_after_the_other_with_keys_of_their_own(dtype):
    x = jnp.asarray(images(8), dtype)
    y = augment(("flip", "cutout"), KEY, x)
    expected = cutout(jax.random.fold_in(KEY, 1), flip(jax.random.fold_in(KEY, 0), x))
    assert y.dtype == dtype
    np.testing.assert_array_equal(np.asarray(y), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(augment((), KEY, x)), np.asarray(x))


@pytest.mark.slow
def test_many_runs_in_lockstep_change_images_as_each_alone():
    x = images(4)
    keys = jax.random.split(KEY, 3)
    names = ("flip", "shift", "cutout")
    together = jax.jit(jax.vmap(lambda key: augment(names, key, x)))(keys)
    for key, y in zip(keys, together, strict=True):
        np.testing.assert_array_equal(y, augment(names, key, x))
