import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from jaxnets.ops._windows import window_on
from tests.support import (
    JAX,
    NUMPY,
    Reference,
    check_op,
    entries,
    gradient,
    gradients,
    name_of,
    residual_bytes,
)

pytestmark = pytest.mark.slow


def pool(library, x, size, stride, padding, reduce):
    """One window after the other; padding is NaN, which `reduce` leaves out."""
    x = library.np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=np.nan)
    starts = [range(0, n - k + 1, s) for n, k, s in zip(x.shape[1:3], size, stride, strict=True)]
    windows = [
        reduce(x[:, top : top + size[0], left : left + size[1]], axis=(1, 2))
        for top, left in itertools.product(*starts)
    ]
    y = library.np.stack(windows, 1)
    return y.reshape(x.shape[0], len(starts[0]), len(starts[1]), x.shape[3])


def max_pool(library, x):
    return pool(library, x, (3, 3), (2, 2), ((1, 1), (1, 1)), library.np.nanmax)


def avg_pool(library, x):
    return pool(library, x, (3, 3), (2, 2), ((1, 1), (1, 1)), library.np.nanmean)


def global_avg_pool(library, x):
    return x.mean((1, 2))


REFERENCES = {
    "max_pool2d": Reference(max_pool),
    "avg_pool2d": Reference(avg_pool),
    "global_avg_pool": Reference(global_avg_pool),
}
POOLS = pytest.mark.parametrize("op", [ops.max_pool2d, ops.avg_pool2d], ids=["max", "avg"])


@pytest.mark.parametrize("entry", entries(*REFERENCES), ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


# Rows and columns of the image, the window, stride and padding.
GEOMETRIES = [
    ((4, 4), 2, None, "VALID"),
    ((5, 7), 2, None, "VALID"),  # Leaves inputs out.
    ((5, 7), 2, None, "SAME"),
    ((6, 5), (3, 2), (1, 2), ((1, 0), (0, 1))),
    ((7, 8), 2, 3, "VALID"),
    ((4, 3), 1, 2, "VALID"),
    ((4, 3), (4, 3), None, "VALID"),
    ((2, 2), 3, 2, 1),
    ((1, 1), 3, 2, 1),
    ((1, 6), (1, 3), 1, "SAME"),
    ((3, 4), 5, 2, 2),
]


@pytest.mark.parametrize(("shape", "size", "stride", "padding"), GEOMETRIES)
def test_geometry(shape, size, stride, padding, rng, x64):
    """Values as by the loop over windows, gradients as by autodiff of it."""
    x = jnp.asarray(rng.standard_normal((2, *shape, 3)))
    size = (size, size) if isinstance(size, int) else size
    window = window_on("pool", x, size, size if stride is None else stride, padding)
    dy = jnp.asarray(rng.standard_normal((2, *window.outputs, 3)))
    for op, name in ((ops.max_pool2d, "nanmax"), (ops.avg_pool2d, "nanmean")):

        def reference(library, x, name=name):
            reduce = getattr(library.np, name)
            return pool(library, x, size, window.stride, window.padding, reduce)

        def pooled(x, op=op):
            return op(x, size, stride=stride, padding=padding)

        ((value, y, (dx,)),) = gradients(pooled, [((x,), dy)])
        _, (expected_dx,) = gradient(lambda x, f=reference: f(JAX, x), (x,), dy)
        for got in (value, y):
            np.testing.assert_allclose(got, reference(NUMPY, np.asarray(x)), rtol=0, atol=1e-12)
        np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=1e-12)


def pooled_gradient(x, dtype=jnp.float32, **options):
    """Value and gradient of one window over rows of numbers, by hand and by autodiff."""
    x = jnp.asarray(x, dtype)[None, ..., None]
    results = []
    for function in (ops.max_pool2d, autodiff(ops.max_pool2d)):
        y, pull_back = jax.vjp(lambda x, f=function: f(x, **options), x)
        results.append((y[0, ..., 0], pull_back(jnp.ones_like(y))[0][0, ..., 0]))
    return results


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([[1, 1], [1, 1]], [[1, 0], [0, 0]]),
        ([[0, 1], [1, 1]], [[0, 1], [0, 0]]),
        ([[0, 0], [1, 1]], [[0, 0], [1, 0]]),
        ([[0.0, -0.0], [-1, -1]], [[1, 0], [0, 0]]),
    ],
)
def test_the_first_maximum_takes_the_gradient(x, expected, dtype):
    for _, dx in pooled_gradient(x, dtype, window=2):
        np.testing.assert_array_equal(dx, expected)


def test_of_several_windows_each_has_its_own_maximum():
    for y, dx in pooled_gradient([[3, 1, 3, 2, 3]], window=(1, 3), stride=1):
        np.testing.assert_array_equal(y, [[3, 3, 3]])
        np.testing.assert_array_equal(dx, [[1, 0, 2, 0, 0]])


def test_nan_stays_and_takes_the_gradient():
    nan = jnp.nan
    (y, dx), (plain_y, _) = pooled_gradient([[1, nan, 5, 7], [2, 3, nan, nan]], window=2)
    np.testing.assert_array_equal(y, [[nan, nan]])
    np.testing.assert_array_equal(plain_y, y)
    np.testing.assert_array_equal(dx, [[0, 1, 0, 0], [0, 0, 1, 0]])


def test_padding_is_never_the_maximum():
    y, dx = pooled_gradient([[-1024, -jnp.inf], [-1024, -jnp.inf]], window=2, padding=1)[0]
    np.testing.assert_array_equal(y, [[-1024, -jnp.inf]] * 2)
    np.testing.assert_array_equal(dx, np.ones((2, 2)))


def test_a_window_of_padding_alone():
    x = jnp.ones((1, 1, 1, 1))
    options = {"stride": 1, "padding": ((0, 0), (2, 0))}
    y, (dx,) = gradient(lambda x: ops.max_pool2d(x, 1, **options), (x,), jnp.ones((1, 1, 3, 1)))
    np.testing.assert_array_equal(y.ravel(), [-np.inf, -np.inf, 1])
    assert dx.item() == 1
    y, (dx,) = gradient(lambda x: ops.avg_pool2d(x, 1, **options), (x,), jnp.ones((1, 1, 3, 1)))
    np.testing.assert_array_equal(y.ravel(), [0, 0, 1])
    assert dx.item() == 1


def test_avg_pool_does_not_count_padding():
    y = ops.avg_pool2d(jnp.ones((1, 4, 5, 1)), 3, stride=2, padding=1)
    np.testing.assert_allclose(y, np.ones((1, 2, 3, 1)), rtol=1e-6)


def test_residuals():
    """A byte for each output of the maximum, two from 129 window positions on; else nothing."""
    x = jnp.ones((2, 13, 13, 3))
    assert residual_bytes(lambda x: ops.max_pool2d(x, 3, stride=2), x) == 2 * 6 * 6 * 3
    assert residual_bytes(lambda x: ops.max_pool2d(x, 12, stride=1), x) == 2 * 2 * 2 * 3 * 2
    assert residual_bytes(lambda x: ops.avg_pool2d(x, 3), x) == 0
    assert residual_bytes(ops.global_avg_pool, x) == 0


def test_more_window_positions_than_a_byte_counts():
    x = jnp.arange(13.0 * 13.0)
    (_, dx), (_, expected) = pooled_gradient(x.reshape(13, 13), window=12, stride=1)
    np.testing.assert_array_equal(dx, expected)
    assert dx[11, 11] == 1


@POOLS
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((jnp.ones((4, 4, 1)), 2), {}, ValueError, r"x must be \[N, .*; got shape \[4, 4, 1\]"),
        ((jnp.ones((1, 4, 4, 1)), 0), {}, ValueError, r"window must be a number from 1 .*; got 0"),
        ((jnp.ones((1, 4, 4, 1)), 2.0), {}, TypeError, r"window must be of whole .*; got 2.0"),
        ((jnp.ones((1, 4, 4, 1)), 2), {"stride": 0}, ValueError, r"stride must .*; got 0"),
        ((jnp.ones((1, 4, 4, 1)), 2), {"padding": "same"}, ValueError, r"padding .*; got 'same'"),
        ((jnp.ones((1, 4, 4, 1)), 5), {}, ValueError, r"the window \[5, 5\] .* does not fit"),
    ],
)
def test_wrong_arguments(op, arguments, options, error, message):
    with pytest.raises(error, match=f"^{op.__name__}: {message}"):
        op(*arguments, **options)


@pytest.mark.parametrize("shape", [(4, 4, 1), (2, 0, 4, 1)])
def test_global_avg_pool_needs_images(shape):
    with pytest.raises(ValueError, match=r"^global_avg_pool: x must be .*; got shape \["):
        ops.global_avg_pool(jnp.ones(shape))
