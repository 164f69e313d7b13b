import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from tests.support import (
    JAX,
    Reference,
    assert_trees_close,
    check_op,
    entries,
    gradient,
    name_of,
    residual_bytes,
)

pytestmark = pytest.mark.slow


def relu(library, x):
    return library.np.where(x > 0, x, 0.0)


def leaky_relu(library, x, slope):
    return library.np.where(x > 0, x, slope * x)


def elu(library, x, alpha):
    left = library.np.where(x > 0, 0.0, x)
    return library.np.where(x > 0, x, alpha * (library.np.exp(left) - 1.0))


def gelu(library, x):
    return x * library.special.ndtr(x)


def gelu_approximate(library, x):
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + library.np.tanh(inner))


def silu(library, x):
    return x * library.special.expit(x)


def tanh(library, x):
    growing, falling = library.np.exp(x), library.np.exp(-x)
    return (growing - falling) / (growing + falling)


def sigmoid(library, x):
    return 1.0 / (1.0 + library.np.exp(-x))


def softplus(library, x):
    return library.np.log(1.0 + library.np.exp(x))


def gelu_approximate_left(library, x):
    """The same where 1 + tanh(u) cancels: (1 + tanh(u)) / 2 = e^2u / (1 + e^2u)."""
    growing = library.np.exp(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
    return x * growing / (1.0 + growing)


LEFT_TAIL = {"gelu (approximate)": gelu_approximate_left}

# Rules that read the output read it rounded; from y, tanh's 1 - y^2 errs by 2 y times its rounding
# and sigmoid's y (1 - y) by 1 - 2 y times.
REFERENCES = {
    "relu": Reference(relu),
    "leaky_relu": Reference(leaky_relu),
    "elu": Reference(elu),
    "gelu": Reference(gelu),
    "gelu (approximate)": Reference(gelu_approximate),
    "silu": Reference(silu),
    "tanh": Reference(tanh, saved=2.0),
    "sigmoid": Reference(sigmoid, saved=1.0),
    "softplus": Reference(softplus),
}
ACTIVATIONS = entries(*(name.split()[0] for name in REFERENCES))


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


@pytest.mark.parametrize(
    ("activation", "derivative"),
    [
        (ops.relu, 0.0),
        (lambda x: ops.leaky_relu(x, 0.3), 0.3),
        (lambda x: ops.leaky_relu(x, 0.0), 0.0),
        (lambda x: ops.leaky_relu(x, -2.0), -2.0),
        (lambda x: ops.elu(x, 0.7), 0.7),
        (lambda x: ops.elu(x, 0.0), 0.0),
        (lambda x: ops.elu(x), 1.0),
    ],
)
def test_derivative_at_the_kink_is_the_left_one(activation, derivative, dtype):
    zeros, ones = jnp.asarray([0.0, -0.0], dtype), jnp.ones(2, dtype)
    for function in (activation, autodiff(activation)):
        _, (dx,) = gradient(function, (zeros,), ones)
        assert (dx == jnp.asarray(derivative, dtype)).all()


def test_parameter_of_a_branch_not_taken_has_gradient_0():
    x = jnp.array([0.0, 1.0, 200.0])
    for activation in (ops.leaky_relu, ops.elu):
        _, (_, dparameter) = gradient(activation, (x, jnp.float32(0.3)), jnp.ones(3))
        assert dparameter == 0.0


@pytest.mark.parametrize("parameter", [0.0, -0.5, 2.0])
@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_zero_and_negative_parameters(name, parameter, rng, x64):
    x, dy = jnp.asarray(rng.standard_normal((2, 17)))
    arguments = x, jnp.asarray(parameter)
    got = gradient(getattr(ops, name), arguments, dy)
    expected = gradient(functools.partial(REFERENCES[name].formula, JAX), arguments, dy)
    assert_trees_close(got, expected, 17, terms=3.0)


def test_parameter_may_be_any_python_number():
    x = jnp.array([-2.0, 3.0], jnp.bfloat16)
    for half in (np.float64(0.5), jnp.float32(0.5), 0.5):
        assert ops.leaky_relu(x, half).tolist() == [-1.0, 3.0]
    assert ops.leaky_relu(x, 0).tolist() == [0.0, 3.0]
    assert ops.elu(x, 2).dtype == jnp.bfloat16


RNG = np.random.default_rng(0)

# Value and derivative at -1e4 and at 1e4, a parameter being 0.5.
FAR = {
    "relu": ((0.0, 0.0), (1e4, 1.0)),
    "leaky_relu": ((-5e3, 0.5), (1e4, 1.0)),
    "elu": ((-0.5, 0.0), (1e4, 1.0)),
    "gelu": ((0.0, 0.0), (1e4, 1.0)),
    "gelu (approximate)": ((0.0, 0.0), (1e4, 1.0)),
    "silu": ((0.0, 0.0), (1e4, 1.0)),
    "tanh": ((-1.0, 0.0), (1.0, 0.0)),
    "sigmoid": ((0.0, 0.0), (1.0, 0.0)),
    "softplus": ((0.0, 0.0), (1e4, 1.0)),
}


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=name_of)
def test_far_from_zero(entry, dtype):
    _, *parameters = entry.sample(RNG, (1,), dtype)
    halves = [jnp.asarray(0.5, dtype) for _ in parameters]
    for x, (value, derivative) in zip((-1e4, 1e4), FAR[entry.name], strict=True):
        arguments = jnp.asarray(x, dtype), *halves
        got, (dx, *dparameters) = gradient(entry.function, arguments, jnp.ones((), dtype))
        assert got == jnp.asarray(value, dtype)
        assert dx == derivative
        assert all(jnp.isfinite(d) for d in dparameters)
        # Nor does autodiff's gradient of the plain function meet an overflow in a branch not taken.
        _, (dx, *_) = gradient(autodiff(entry.function), arguments, jnp.ones((), dtype))
        assert dx == derivative


LEFT_TAILS = entries("gelu", "silu", "sigmoid", "softplus")


@pytest.mark.parametrize("entry", LEFT_TAILS, ids=name_of)
def test_left_tail_keeps_its_digits(entry, rng):
    """Relative to the tail, and not to 1: exp(-x^2) alone errs by x^2 epsilon."""
    x = jnp.asarray(rng.uniform(-9.0, -2.0, 200), jnp.float32)
    y, (dx,) = gradient(entry.function, (x,), jnp.ones(200))
    with jax.enable_x64(True):
        exact_x = jnp.asarray(x, jnp.float64)
        formula = functools.partial(LEFT_TAIL.get(entry.name, REFERENCES[entry.name].formula), JAX)
        exact_y, (exact_dx,) = gradient(formula, (exact_x,), jnp.ones(200, jnp.float64))
    bound = np.finfo(np.float32).eps * (8.0 + np.asarray(x, np.float64) ** 2)
    for got, expected in ((y, exact_y), (dx, exact_dx)):
        assert (np.abs(got / np.asarray(expected) - 1.0) < bound).all()


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=name_of)
def test_nan_stays_nan(entry, dtype):
    _, *parameters = entry.sample(RNG, (1,), dtype)
    assert jnp.isnan(entry.function(jnp.asarray(jnp.nan, dtype), *parameters))


@pytest.mark.parametrize("entry", [e for e in ACTIVATIONS if e.op != "leaky_relu"], ids=name_of)
def test_limits(entry, dtype):
    """Value and slope, by hand and by autodiff, compiled or not, and a second derivative of 0."""
    halves = [jnp.asarray(0.5, dtype)] * (entry.op == "elu")
    far = jnp.asarray([1e4, 1e20, 3e38, jnp.inf], dtype)
    (left, left_slope), (right, slope) = FAR[entry.name]
    values = jnp.full(4, left, dtype), far if right == 1e4 else jnp.full(4, right, dtype)

    def mapped(f):
        return jax.vmap(lambda x: f(x, *halves))

    second = mapped(jax.grad(jax.grad(entry.function)))
    both = [mapped(jax.value_and_grad(f)) for f in (entry.function, autodiff(entry.function))]
    for value_and_slope in (*both, *map(jax.jit, both)):
        for x, value, derivative in zip((-far, far), values, (left_slope, slope), strict=True):
            got, got_slope = value_and_slope(x)
            np.testing.assert_array_equal(got, value)
            np.testing.assert_array_equal(got_slope, np.full(4, derivative))
    for f in (second, jax.jit(second)):
        np.testing.assert_array_equal(f(jnp.concatenate([-far, far])), np.zeros(8))


def test_tail_of_approximate_gelu_by_numbers():
    """Computed with 50 decimal digits from the formula."""
    x = jnp.array([-4.0, -5.0], jnp.float32)
    gelu = functools.partial(ops.gelu, approximate=True)
    y, dx = jax.vmap(jax.value_and_grad(gelu))(x)
    np.testing.assert_allclose(y, [-7.024594819237268e-05, -2.291796196629506e-07], rtol=2e-6)
    np.testing.assert_allclose(dx, [-0.0003351231971226708, -1.5463619875325946e-06], rtol=2e-6)


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=name_of)
def test_gradient_at_nan_is_autodiffs(entry, dtype):
    _, *parameters = entry.sample(RNG, (1,), dtype)
    arguments = jnp.asarray(jnp.nan, dtype), *parameters
    positions = tuple(range(len(arguments)))
    got = jax.grad(entry.function, positions)(*arguments)
    expected = jax.grad(autodiff(entry.function), positions)(*arguments)
    for ours, theirs in zip(got, expected, strict=True):
        # NumPy takes no two NaN of bfloat16 for equal.
        np.testing.assert_array_equal(np.float64(ours), np.float64(theirs))
    assert got[0] != 0.0


@pytest.mark.parametrize(
    ("approximate", "same"),
    [("none", False), ("tanh", True), (np.True_, True), (np.False_, False), (jnp.bool_(1), True)],
)
def test_words_of_gelu(approximate, same):
    x = jnp.array([-1.0, 2.0])
    expected = ops.gelu(x, approximate=same)
    np.testing.assert_array_equal(ops.gelu(x, approximate=approximate), expected)
    assert (expected != ops.gelu(x, approximate=not same)).all()


@pytest.mark.parametrize("approximate", ["None", "", "false", "erf", 1, 0.0, None, [True]])
def test_other_words_of_gelu_are_refused(approximate):
    with pytest.raises((TypeError, ValueError), match=r"^gelu: approximate must be True"):
        ops.gelu(jnp.ones(2), approximate=approximate)


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=name_of)
@pytest.mark.parametrize("x", ["1.0", None, [[1.0], [1.0, 2.0]]])
def test_input_that_is_no_array(entry, x):
    with pytest.raises(TypeError, match=r"^x must be an array or a number; got"):
        getattr(ops, entry.op)(x)


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_parameter_that_is_a_word(name):
    with pytest.raises(TypeError, match=r" must be an array or a number; got '0.1'"):
        getattr(ops, name)(jnp.ones(3), "0.1")


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=name_of)
def test_residuals_are_one_array(entry, dtype):
    x, *parameters = entry.sample(RNG, (8, 16), dtype)
    scalars = len(parameters) * x.dtype.itemsize
    assert residual_bytes(entry.function, x, *parameters) == x.nbytes + scalars


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softplus"])
def test_residual_is_the_output(name, rng):
    """The next layer keeps it anyway."""
    y, pull_back = jax.vjp(getattr(ops, name), jnp.asarray(rng.standard_normal(9), jnp.float32))
    (residual,) = jax.tree.leaves(pull_back)
    np.testing.assert_array_equal(residual, y)


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_parameter_must_be_a_scalar(name):
    parameter = {"leaky_relu": "negative_slope", "elu": "alpha"}[name]
    with pytest.raises(ValueError, match=rf"{parameter} must be a scalar; got shape \[3\]"):
        getattr(ops, name)(jnp.ones(3), jnp.ones(3))
    with pytest.raises(TypeError, match=rf"{parameter} must have a floating dtype.*complex64"):
        getattr(ops, name)(jnp.ones(3), 1j)


def test_the_backward_of_gelu_keeps_its_input_alone(rng):
    """Compiled into one program too, where XLA would find that Phi(x) was computed already."""
    x = jnp.asarray(rng.standard_normal((256, 256)), jnp.float32)

    def both(x, dy):
        y, pull_back = jax.vjp(ops.gelu, x)
        return y, pull_back(dy)

    compiled = jax.jit(both).lower(x, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.2 * x.nbytes
