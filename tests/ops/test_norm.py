import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from tests.support import (
    JAX,
    Reference,
    assert_close,
    assert_trees_close,
    check_op,
    entries,
    gradient,
    name_of,
    normal_like,
    residual_bytes,
)

pytestmark = pytest.mark.slow

NORMS = entries("batch_norm", "layer_norm", "rms_norm")
EACH = pytest.mark.parametrize("entry", NORMS, ids=name_of)


def batch_norm(library, x, scale, bias, eps=1e-5):
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    return (x - mean) / library.np.sqrt(variance + eps) * scale + bias, mean, variance


def layer_norm(library, x, scale, bias, eps=1e-5):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / library.np.sqrt(variance + eps) * scale + bias


def rms_norm(library, x, scale, eps=1e-5):
    return x / library.np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale


def spread(axes):
    """Size of the terms: a rounding of x, or of g, times |scale| / sqrt(variance + eps)."""

    def terms(x, scale, *_):
        within = axes(x)
        rstd = 1.0 / np.sqrt(x.var(within) + 1e-5)
        return float(np.abs(scale).max() * max(1.0, rstd.max()) * max(1.0, np.abs(x).max()))

    return terms


REFERENCES = {
    "batch_norm": Reference(batch_norm, terms=spread(lambda x: tuple(range(x.ndim - 1)))),
    "layer_norm": Reference(layer_norm, terms=spread(lambda x: -1)),
    "rms_norm": Reference(
        rms_norm,
        terms=lambda x, scale: float(
            np.abs(scale).max() * (1.0 / np.sqrt((x**2).mean(-1) + 1e-5)).max()
        ),
    ),
}


@EACH
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


@EACH
@pytest.mark.parametrize("eps", [1e-3, 0.5])
def test_eps(entry, eps, rng, x64):
    arguments = entry.sample(rng, (4, 3), jnp.float64)
    function = functools.partial(getattr(ops, entry.op), eps=eps)
    formula = functools.partial(REFERENCES[entry.name].formula, JAX, eps=eps)
    cotangents = normal_like(rng, jax.eval_shape(function, *arguments))
    got, expected = (gradient(f, arguments, cotangents) for f in (function, formula))
    assert_trees_close(got, expected, 12, terms=10.0)


@pytest.mark.parametrize("output", [0, 1, 2])
def test_each_output_of_batch_norm_has_its_gradient(output, rng, x64):
    arguments = entries("batch_norm")[0].sample(rng, (6, 3), jnp.float64)
    cotangent = normal_like(rng, jnp.ones([(6, 3), (3,), (3,)][output]))
    got = gradient(lambda *a: ops.batch_norm(*a)[output], arguments, cotangent)
    expected = gradient(lambda *a: batch_norm(JAX, *a)[output], arguments, cotangent)
    assert_trees_close(got, expected, 6, terms=10.0)


@EACH
def test_constant_sets(entry, dtype):
    """No variance: y is the bias, and the gradient stays finite, with 1 / sqrt(eps) for a slope."""
    parameters = entry.sample(np.random.default_rng(0), (4, 3), dtype)[1:]
    constant = 0.0 if entry.op == "rms_norm" else 3.0
    x = jnp.full((4, 3), constant, dtype)
    outputs, (dx, dscale, *_) = gradient(
        entry.function,
        (x, *parameters),
        jax.tree.map(jnp.ones_like, jax.eval_shape(entry.function, x, *parameters)),
    )
    y = outputs[0] if entry.op == "batch_norm" else outputs
    expected = jnp.zeros((4, 3)) if entry.op == "rms_norm" else jnp.tile(parameters[1], (4, 1))
    np.testing.assert_array_equal(y, expected.astype(dtype))
    assert (dscale == 0).all()
    assert jnp.isfinite(dx).all()
    if entry.op == "batch_norm":
        assert (outputs[1] == 3.0).all()
        assert (outputs[2] == 0.0).all()
        assert_close(dx, np.full((4, 3), 0.25), dtype, 4, terms=1000.0)  # The mean's alone.


@pytest.mark.parametrize(
    ("number", "count"),
    [
        (12345.678, 7),
        (100000.3, 100),
        (3e10, 3),
        (-1e-3, 1000),
        (0.1, 32768),
        (1e18, 37),
        (-3.4e38, 5),
    ],
)
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_constant_sets_whose_mean_is_rounded(name, number, count):
    """The mean as summed is off by some units in the last place, the variance is 0 all the same."""
    axis = 0 if name == "batch_norm" else 1
    shape = (count, 3) if name == "batch_norm" else (3, count)
    parameters = jnp.full(shape[1], 2.0), jnp.full(shape[1], 0.5)
    x = jnp.full(shape, number, jnp.float32)
    function = getattr(ops, name)
    for f in (function, jax.jit(function), jax.jit(autodiff(function))):
        outputs, pull_back = jax.vjp(f, x, *parameters)
        cotangents = jax.tree.map(jnp.zeros_like, outputs)
        dy = jnp.asarray(np.linspace(-1.0, 1.0, x.size).reshape(shape), jnp.float32)
        if name == "batch_norm":
            y, mean, variance = outputs
            np.testing.assert_array_equal(mean, x[0])
            assert (variance == 0).all()
            cotangents = (dy, *cotangents[1:])
        else:
            y, cotangents = outputs, dy
        np.testing.assert_array_equal(y, np.full(shape, 0.5))
        dx, dscale, _ = pull_back(cotangents)
        assert (dscale == 0).all()
        # g - <g> times 1 / sqrt(eps).
        expected = 2.0 * (dy - dy.mean(axis, keepdims=True)) / np.sqrt(1e-5)
        np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("count", [3, 7, 100, 1000])
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_constant_sets_of_any_size(name, count, rng):
    """Also where XLA fuses a product into a difference, and so does not round the mean."""
    numbers = np.concatenate([10.0 ** rng.uniform(-30.0, 38.5, 200), [1e-45, 1e-38, 3.4e38]])
    sets = jnp.asarray(np.tile(numbers, (count, 1)) * rng.choice([-1, 1], 203), jnp.float32)
    x = sets if name == "batch_norm" else sets.T

    @jax.jit
    def y(x):
        zeros = jnp.zeros(x.shape[1])
        return jax.tree.leaves(getattr(ops, name)(x, zeros + 1.0, zeros))[0]

    np.testing.assert_array_equal(y(x), np.zeros(x.shape))


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_outlier_in_the_first_place(name):
    """It is what is taken off before the mean, and costs the others no more than its own digits."""
    numbers = np.linspace(-1.0, 1.0, 500)
    numbers[0] = 1e4
    x = jnp.asarray(numbers, jnp.float32)[:, None]
    x = x if name == "batch_norm" else x.T
    parameters = jnp.ones(x.shape[1]), jnp.zeros(x.shape[1])
    y = np.ravel(jax.tree.leaves(getattr(ops, name)(x, *parameters))[0])
    exact = np.asarray(x, np.float64).ravel()
    expected = (exact - exact.mean()) / np.sqrt(exact.var() + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=0, atol=np.abs(expected).max() * 2e-7)


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_little_noise_on_a_large_mean(name, rng):
    """The mean is rounded by nearly half a standard deviation, which enters no result."""
    shape, axis = ((512, 4), 0) if name == "batch_norm" else ((4, 512), 1)
    x = jnp.asarray(1e5 + 0.01 * rng.standard_normal(shape), jnp.float32)
    parameters = jnp.ones(shape[1]), jnp.zeros(shape[1])
    dy = jnp.asarray(rng.standard_normal(shape), jnp.float32)

    def first(*arguments):
        return jax.tree.leaves(getattr(ops, name)(*arguments))[0]

    y, (dx, dscale, _) = gradient(first, (x, *parameters), dy)
    exact_x, exact_dy = (np.asarray(a, np.float64) for a in (x, dy))
    mean = functools.partial(np.mean, axis=axis, keepdims=True)
    rstd = 1.0 / np.sqrt(exact_x.var(axis, keepdims=True) + 1e-5)
    x_hat = (exact_x - mean(exact_x)) * rstd
    exact_dx = rstd * (exact_dy - mean(exact_dy) - x_hat * mean(exact_dy * x_hat))
    np.testing.assert_allclose(y, x_hat, rtol=0, atol=2e-6)
    np.testing.assert_allclose(dx, exact_dx, rtol=0, atol=2e-6 * np.abs(exact_dx).max())
    np.testing.assert_allclose(dscale, (exact_dy * x_hat).sum(0), rtol=0, atol=1e-4)


@EACH
def test_squares_that_overflow_are_not_hidden(entry):
    """Not the bias, or 0, as 1 / sqrt(inf) would make of it; and the sets beside are unharmed."""
    x = jnp.array([[1.0, -1.0, 2.0, -2.0]]) * jnp.array([[2e19], [1.0]])
    if entry.op == "batch_norm":
        x = x.T
    parameters = [jnp.ones(x.shape[1]), jnp.zeros(x.shape[1])][: 1 + (entry.op != "rms_norm")]
    y = jax.tree.leaves(entry.function(x, *parameters))[0]
    large, small = y if entry.op != "batch_norm" else y.T
    assert jnp.isnan(large).all()
    np.testing.assert_allclose(small, np.array([1, -1, 2, -2]) / np.sqrt(2.5), rtol=1e-5)


@EACH
@pytest.mark.parametrize("eps", ["1e-5", None, 1j, [1e-5, 1e-5]])
def test_eps_that_is_no_number(entry, eps):
    arguments = entry.sample(np.random.default_rng(0), (4, 3), jnp.float32)
    with pytest.raises((TypeError, ValueError), match=rf"^{entry.op}: eps must be a "):
        getattr(ops, entry.op)(*arguments, eps=eps)
    with pytest.raises(TypeError, match=rf"^{entry.op}: eps must be a number that is known"):
        jax.jit(lambda eps: getattr(ops, entry.op)(*arguments, eps=eps))(1e-5)


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("mean", [1e4, 1e6])
def test_large_mean(name, mean, rng):
    """The variance is that of the given numbers; as <x^2> - <x>^2 it would be negative or NaN."""
    shape = (512, 4) if name == "batch_norm" else (4, 512)
    x = jnp.asarray(mean + rng.standard_normal(shape), jnp.float32)
    parameters = jnp.ones(shape[-1]), jnp.zeros(shape[-1])
    outputs, pull_back = jax.vjp(getattr(ops, name), x, *parameters)
    exact_x = np.asarray(x, np.float64)
    axis = 0 if name == "batch_norm" else 1
    if name == "batch_norm":
        outputs, _, variance = outputs
        no_statistics = jnp.zeros(4), jnp.zeros(4)
        pull_back = functools.partial(lambda pull, dy: pull((dy, *no_statistics)), pull_back)
        # A mean off by 2 epsilon times itself adds its square to the mean of squared differences.
        excess = variance - exact_x.var(0)
        assert (np.abs(excess) < 1e-5 + (2.0 * np.finfo(np.float32).eps * mean) ** 2).all()
    std = exact_x.std(axis, keepdims=True)
    expected = (exact_x - exact_x.mean(axis, keepdims=True)) / std
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=2.0**-22 * mean)
    dx, dscale, dbias = pull_back(jnp.asarray(rng.standard_normal(shape), jnp.float32))
    assert all(jnp.isfinite(d).all() for d in (dx, dscale, dbias))


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_the_backward_keeps_no_normalised_input(name, rng):
    """Compiled into one program too, where XLA would find that it was computed already."""
    x, *parameters = entries(name)[0].sample(rng, (4096, 64), jnp.float32)

    def both(x, dy, *parameters):
        y, pull_back = jax.vjp(getattr(ops, name), x, *parameters)
        return y, pull_back(dy)

    compiled = jax.jit(both).lower(x, jnp.ones_like(x), *parameters).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1.2 * x.nbytes


@EACH
def test_one_feature_and_one_row(entry, dtype, rng):
    """One entry to a set: it is its own mean, and has no gradient through y."""
    shape = (1, 4) if entry.op == "batch_norm" else (4, 1)
    arguments = entry.sample(rng, shape, dtype)
    function = (lambda *a: ops.batch_norm(*a)[0]) if entry.op == "batch_norm" else entry.function
    y, (dx, *_) = gradient(function, arguments, jnp.ones(shape, dtype))
    if entry.op == "rms_norm":
        np.testing.assert_allclose(np.abs(y), np.abs(arguments[1][0] + 0 * y), rtol=2e-2)
        return
    np.testing.assert_array_equal(y, arguments[2] + jnp.zeros(shape, dtype))
    assert (dx == 0).all()


def test_statistics_of_half_precision_are_float32(rng):
    x = jnp.asarray(100.0 + rng.standard_normal((1000, 2)), jnp.bfloat16)
    y, mean, variance = ops.batch_norm(x, jnp.ones(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16))
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    exact_x = np.asarray(x, np.float64)
    assert_close(mean, exact_x.mean(0), jnp.float32, 1000)
    assert_close(variance, exact_x.var(0), jnp.float32, 1000)


def test_statistics_of_an_empty_batch():
    y, mean, variance = ops.batch_norm(jnp.zeros((0, 3)), jnp.ones(3), jnp.zeros(3))
    assert (y.shape, mean.tolist(), variance.tolist()) == ((0, 3), [0.0] * 3, [0.0] * 3)


@EACH
def test_parameters_of_another_dtype(entry, rng):
    """Float32 parameters with half precision activations, as mixed precision has them."""
    x, *parameters = entry.sample(rng, (6, 4), jnp.float32)
    x = x.astype(jnp.bfloat16)

    def function(*arguments):
        return jax.tree.leaves(entry.function(*arguments))[0]

    y, gradients = gradient(function, (x, *parameters), jnp.ones((6, 4), jnp.bfloat16))
    assert [g.dtype for g in gradients] == [jnp.bfloat16] + [jnp.float32] * len(parameters)
    wide, _ = gradient(function, (x.astype(jnp.float32), *parameters), jnp.ones((6, 4)))
    assert_close(y, wide, jnp.bfloat16)


@EACH
def test_residuals_are_x_and_a_number_a_set_and_a_feature(entry, dtype):
    rows, features = 64, 32
    arguments = entry.sample(np.random.default_rng(0), (rows, features), dtype)
    sets = features if entry.op == "batch_norm" else rows
    # Scale and bias; mean and variance of each set, in float32 at least.
    small = 2 * features * dtype.itemsize + 2 * sets * max(dtype.itemsize, 4)
    size = residual_bytes(entry.function, *arguments)
    assert arguments[0].nbytes <= size <= arguments[0].nbytes + small


@EACH
@pytest.mark.parametrize("eps", [0.0, -1e-5, float("nan")])
def test_eps_that_is_not_positive(entry, eps):
    arguments = entry.sample(np.random.default_rng(0), (4, 3), jnp.float32)
    with pytest.raises(ValueError, match=rf"{entry.op}: eps must be positive; got {eps}"):
        getattr(ops, entry.op)(*arguments, eps=eps)


@EACH
def test_shapes_that_do_not_fit(entry):
    arguments = list(entry.sample(np.random.default_rng(0), (4, 3), jnp.float32))
    names = ("x", "scale", "bias")[: len(arguments)]
    for position, name in enumerate(names[1:], 1):
        for shape in ((4,), (), (1,), (4, 3)):
            wrong = [*arguments]
            wrong[position] = jnp.ones(shape)
            match = rf"{entry.op}: {name} must have the shape of x's last axis, \[3\]; got \["
            with pytest.raises(ValueError, match=match):
                entry.function(*wrong)
    for shape in ((), (4, 0)):
        with pytest.raises(ValueError, match=rf"{entry.op}: x must be \[..., features\]; got"):
            entry.function(jnp.ones(shape), *arguments[1:])


@EACH
def test_dtypes_that_are_not_floating(entry):
    arguments = entry.sample(np.random.default_rng(0), (4, 3), jnp.float32)
    for position, name in enumerate(("x", "scale", "bias")[: len(arguments)]):
        wrong = [*arguments]
        wrong[position] = wrong[position].astype(jnp.int32)
        with pytest.raises(TypeError, match=rf"{name} must have a floating dtype.*got int32\["):
            entry.function(*wrong)
