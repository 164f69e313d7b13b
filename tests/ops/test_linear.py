import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnets import gradcheck, ops
from tests.support import (
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


def formula(library, x, weight, bias=None):
    y = library.np.einsum("...i,io->...o", x, weight)
    return y if bias is None else y + bias


def product(x, weight, bias=None):
    """On a CPU, JAX rounds the product to half precision before the bias is added."""
    return 0.0 if bias is None else float(np.abs(x @ weight).max())


@pytest.mark.slow
@pytest.mark.parametrize("entry", entries("linear"), ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, Reference(formula, terms=2.0, rounded=product), dtype, rng)


def test_by_hand():
    x, weight, bias = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.array([5.0])
    y, pull_back = jax.vjp(ops.linear, x, weight, bias)
    dx, dweight, dbias = pull_back(jnp.array([[10.0]]))
    assert y.tolist() == [[16.0]]
    assert (dx.tolist(), dweight.tolist(), dbias.tolist()) == ([[30, 40]], [[10], [20]], [10])


def test_half_precision_accumulates_in_float32(rng):
    # 4096 ones sum to 4096; in bfloat16, where 256 + 1 = 256, to 256.
    x, weight = jnp.ones((1, 4096), jnp.bfloat16), jnp.ones((4096, 1), jnp.bfloat16)
    assert ops.linear(x, weight).item() == 4096.0
    _, (dweight, dbias) = gradient(
        lambda weight, bias: ops.linear(x.T, weight, bias),
        (jnp.ones((1, 1), jnp.bfloat16), jnp.zeros(1, jnp.bfloat16)),
        jnp.ones((4096, 1), jnp.bfloat16),
    )
    assert (dweight.item(), dbias.item()) == (4096.0, 4096.0)


def test_arguments_are_promoted():
    x = jnp.ones((2, 3), jnp.bfloat16)
    weight = jnp.full((3, 1), 1.0 + 2.0**-20, jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        y, (dx, dweight) = gradient(ops.linear, (x, weight), jnp.ones((2, 1), jnp.float32))
    assert (y.dtype, dx.dtype, dweight.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    assert y[0, 0] == 3.0 * (1.0 + 2.0**-20)


def test_no_features_give_the_bias():
    x, weight, bias = jnp.zeros((2, 0)), jnp.zeros((0, 3)), jnp.arange(3.0)
    y, (dx, dweight, dbias) = gradient(ops.linear, (x, weight, bias), jnp.ones((2, 3)))
    np.testing.assert_array_equal(y, jnp.tile(bias, (2, 1)))
    assert (dx.shape, dweight.shape, dbias.tolist()) == ((2, 0), (0, 3), [2, 2, 2])


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "features"), [(3, 512), (16, 512), (4, 5)])
def test_rows_a_multiple_of_2_kb_apart_and_narrow_outputs(batch, features, rng):
    """Whose gradient goes another way."""
    arguments = normal_like(
        rng, (jnp.ones((batch, features)), jnp.ones((features, 2)), jnp.ones(2))
    )
    lowered = jax.jit(jax.grad(lambda *a: ops.linear(*a).sum(), 1)).lower(*arguments)
    assert "optimization_barrier" in lowered.as_text()
    report = gradcheck(ops.linear, *arguments)
    assert report.ok, report


@pytest.mark.slow
@pytest.mark.parametrize("features", [6, 256])
@pytest.mark.parametrize("weight_spec", [(None, "model"), ("model", None), (None, None)])
def test_sharded_weight(weight_spec, features, rng, x64):
    """A gradient lies where its input lies, whatever axes the products contract."""
    axis_types, devices = (AxisType.Explicit,) * 2, jax.devices("cpu")
    mesh = jax.make_mesh((2, 2), ("batch", "model"), axis_types, devices=devices)
    in_axis, out_axis = weight_spec
    # A product contracted over sharded features has no one sharding: these lie whole.
    gather = PartitionSpec(None, None) if in_axis else PartitionSpec(*weight_spec)
    arguments = normal_like(rng, (jnp.ones((4, features)), jnp.ones((features, 2)), jnp.ones(2)))
    dy = normal_like(rng, jnp.ones((4, 2)))

    def function(x, weight, bias):
        return ops.linear(x, jax.sharding.reshard(weight, gather), bias)

    def put(array, *spec):
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))

    expected = gradient(ops.linear, arguments, dy)
    x, weight, bias = arguments
    with jax.set_mesh(mesh):
        placed = put(x, "batch", None), put(weight, *weight_spec), put(bias, out_axis)
        y, got = gradient(function, placed, put(dy, "batch", out_axis))
    for dx, x in zip(got, placed, strict=True):
        assert dx.sharding.is_equivalent_to(x.sharding, x.ndim)
    assert_trees_close((y, got), expected, features, terms=1.0)


def test_residuals_are_the_factors():
    x, weight, bias = jnp.ones((8, 6)), jnp.ones((6, 4)), jnp.ones(4)
    assert residual_bytes(ops.linear, x, weight) == x.nbytes + weight.nbytes
    assert residual_bytes(ops.linear, x, weight, bias) <= x.nbytes + weight.nbytes + bias.nbytes


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        (((2, 3), (4, 5)), r"weight must be \[in, out\].*x \[2, 3\] and weight \[4, 5\]"),
        (((2, 3), (3,)), r"weight must be \[in, out\].*weight \[3\]"),
        (((2, 3), (1, 3, 5)), r"weight must be \[in, out\].*weight \[1, 3, 5\]"),
        (((), (3, 5)), r"x \[\] and weight \[3, 5\]"),
        (((2, 3), (3, 5), (3,)), r"bias must be \[out\] = \[5\]; got \[3\]"),
        (((2, 3), (3, 5), ()), r"bias must be \[out\] = \[5\]; got \[\]"),
        (((2, 3), (3, 5), (1, 5)), r"bias must be \[out\] = \[5\]; got \[1, 5\]"),
    ],
)
def test_shapes_that_do_not_fit(shapes, match):
    with pytest.raises(ValueError, match=match):
        ops.linear(*map(jnp.zeros, shapes))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_dtypes_that_are_not_floating(position):
    arguments = [jnp.zeros((2, 3)), jnp.zeros((3, 5)), jnp.zeros(5)]
    arguments[position] = arguments[position].astype(jnp.int32)
    name = ("x", "weight", "bias")[position]
    with pytest.raises(TypeError, match=rf"{name} must have a floating dtype.*got int32\["):
        ops.linear(*arguments)


def test_long_products(rng):
    x = rng.standard_normal((3, 2000)).astype(np.float32)
    weight = rng.standard_normal((2000, 2)).astype(np.float32)
    expected = x.astype(np.float64) @ weight.astype(np.float64)
    assert_close(ops.linear(x, weight), expected, jnp.float32, 2000)
