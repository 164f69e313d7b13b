import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from jaxnets.ops import _conv_forms, _matrix_forms, _winograd
from jaxnets.ops._windows import window_on
from tests.support import (
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


def convolution(library, x, kernel, bias=0.0, *, stride=(1, 1), dilation=(1, 1), padding, groups=1):
    """The sum over what each output position sees, which is copied out: [N, m, m, k, k, C]."""
    np_ = library.np
    x = np_.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (
        np.arange(0, n - d * (k - 1), s)[:, None] + d * np.arange(k)
        for n, k, s, d in zip(x.shape[1:3], kernel.shape[:2], stride, dilation, strict=True)
    )
    seen = x[:, rows[:, None, :, None], columns[None, :, None, :]]
    seen = seen.reshape(*seen.shape[:5], groups, kernel.shape[2])
    kernel = kernel.reshape(*kernel.shape[:3], groups, kernel.shape[3] // groups)
    y = np_.einsum("nyxabgc,abcgo->nyxgo", seen, kernel)
    return y.reshape(*y.shape[:3], -1) + bias


def plain(library, x, kernel, bias):
    return convolution(library, x, kernel, bias, padding=((1, 1), (0, 1)))


def plain_3x3(library, x, kernel):
    return convolution(library, x, kernel, padding=((1, 1), (1, 1)))


def strided(library, x, kernel):
    return convolution(library, x, kernel, stride=(2, 1), dilation=(1, 2), padding=((2, 0), (1, 3)))


def depthwise(library, x, kernel):
    return convolution(
        library, x, kernel, stride=(2, 2), padding=((1, 1), (1, 1)), groups=x.shape[-1]
    )


REFERENCES = {
    "conv2d": Reference(plain, terms=10.0, rounded=10.0),
    "conv2d (3x3)": Reference(plain_3x3, terms=20.0),
    "conv2d (stride, dilation)": Reference(strided, terms=10.0),
    "conv2d (depthwise)": Reference(depthwise, terms=10.0),
}


@pytest.mark.parametrize("entry", entries("conv2d"), ids=name_of)
def test_values_and_gradients(entry, dtype, rng):
    check_op(entry, REFERENCES[entry.name], dtype, rng)


# Input, kernel, and the rest.
GEOMETRIES = {
    "even": ((2, 4, 4, 3), (3, 3, 3, 4), {}),
    "odd, kernel even": ((2, 5, 7, 3), (2, 4, 3, 4), {}),
    "stride does not divide": ((2, 8, 7, 2), (3, 3, 2, 3), {"stride": 3, "padding": "SAME"}),
    "stride leaves inputs out": (
        (2, 8, 7, 2), (2, 1, 2, 3), {"stride": (4, 3), "padding": "VALID"}
    ),
    "more padding than kernel": ((2, 3, 2, 2), (2, 2, 2, 3), {"padding": ((3, 5), (0, 4))}),
    "padding, stride, dilation": (
        (2, 7, 9, 2), (3, 2, 2, 3), {"padding": 4, "stride": (2, 3), "dilation": (3, 2)}
    ),
    "kernel of 1x1": ((2, 5, 3, 4), (1, 1, 4, 3), {"stride": (1, 2)}),
    "kernel of the whole image": ((2, 4, 5, 3), (4, 5, 3, 2), {"padding": "VALID"}),
    "kernel larger than the image": ((2, 2, 2, 3), (5, 3, 3, 2), {}),
    "images of 2x2": ((3, 2, 2, 4), (3, 3, 4, 4), {"padding": 1}),
    "images of 1x1": ((3, 1, 1, 4), (3, 3, 4, 2), {"padding": 1}),
    "one channel, one feature, one image": ((1, 5, 4, 1), (3, 3, 1, 1), {}),
    "one row": ((2, 1, 6, 3), (1, 3, 3, 2), {"stride": (1, 2)}),
    "two groups": ((2, 5, 4, 6), (3, 2, 3, 4), {"groups": 2, "stride": (1, 2)}),
    "depthwise": ((2, 5, 4, 3), (3, 3, 1, 3), {"groups": 3, "dilation": (1, 2)}),
    # Windows see the positions -2 and 3 of an image of one.
    "nothing but padding": ((2, 1, 1, 3), (1, 1, 3, 2), {"stride": 5, "padding": 3}),
}  # fmt: skip


@pytest.fixture(params=GEOMETRIES.values(), ids=[name.replace(" ", "_") for name in GEOMETRIES])
def geometry(request, rng, x64):
    """x, kernel, cotangent, window and groups of a convolution."""
    shape, kernel_shape, options = request.param
    options = {"stride": 1, "padding": "SAME", "dilation": 1, "groups": 1, **options}
    x, kernel = (jnp.asarray(rng.standard_normal(s)) for s in (shape, kernel_shape))
    groups = options.pop("groups")
    window = window_on("conv2d", x, kernel_shape[:2], **options)
    dy = jnp.asarray(rng.standard_normal((shape[0], *window.outputs, kernel_shape[3])))
    return (x, kernel), dy, window, groups, options


def test_geometry(geometry):
    """Values as by the loop over positions, gradients as by autodiff of XLA's convolution."""
    arguments, dy, window, groups, options = geometry

    def conv2d(x, kernel):
        return ops.conv2d(x, kernel, groups=groups, **options)

    def xla(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, window.stride, window.padding, rhs_dilation=window.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip

    ((value, y, (dx, dkernel)),) = gradients(conv2d, [(arguments, dy)])
    _, (expected_dx, expected_dkernel) = gradient(xla, arguments, dy)
    expected_y = convolution(
        NUMPY, *map(np.asarray, arguments), stride=window.stride, dilation=window.dilation,
        padding=window.padding, groups=groups,
    )  # fmt: skip
    for got in (value, y):
        np.testing.assert_allclose(got, expected_y, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dkernel, expected_dkernel, rtol=0, atol=1e-10)


def test_forms(geometry):
    """All of them agree, also those that this machine would not choose for the shape."""
    (x, kernel), dy, window, groups, _ = geometry

    def xla(x, kernel, dy):
        return (
            _conv_forms.xla_outputs(x, kernel, window, groups),
            _conv_forms.xla_input_gradient(dy, kernel, window, groups),
            _conv_forms.xla_kernel_gradient(x, dy, window, groups, None),
        )

    def of_a_cpu(form, x, kernel, dy):
        return (
            form.outputs(x, kernel, window),
            form.input_gradient(dy, kernel, window),
            form.kernel_gradient(x, dy, window, None),
        )

    forms = {"xla": xla}
    if groups == 1:
        forms["shifted"] = functools.partial(of_a_cpu, _matrix_forms.SHIFTED)
        forms["patches"] = functools.partial(of_a_cpu, _matrix_forms.PATCHES)
        if _winograd.suits(window):
            forms["winograd"] = functools.partial(of_a_cpu, _winograd.WINOGRAD)
    y, gradients = gradient(lambda *a: _conv_forms.xla_outputs(*a, window, groups), (x, kernel), dy)
    for name, form in forms.items():
        for got, wanted in zip(jax.jit(form)(x, kernel, dy), (y, *gradients), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10, err_msg=name)


def test_worked_example():
    """A kernel of 2x2 on an input of 3x3, by hand; there the kernel is flipped."""
    x, k = np.arange(1.0, 10.0).reshape(3, 3), np.array([[2.0, 3.0], [5.0, 7.0]])
    dy = np.array([[1.0, 10.0], [100.0, 1000.0]])

    def flipped(x, k):
        return ops.conv2d(x[None, :, :, None], k[::-1, ::-1, None, None], padding="VALID")[
            0, :, :, 0
        ]

    y, (dx, dk) = gradient(flipped, (jnp.asarray(x), jnp.asarray(k)), jnp.asarray(dy))
    assert y[1, 0] == k[0, 0] * x[2, 1] + k[0, 1] * x[2, 0] + k[1, 0] * x[1, 1] + k[1, 1] * x[1, 0]
    assert dk[0, 0] == np.sum(dy * x[1:, 1:])
    assert dx[0, 1] == dy[0, 0] * k[1, 0] + dy[0, 1] * k[1, 1]


def test_half_precision_sums_in_float32():
    """576 ones: in bfloat16, 256 + 1 is 256."""
    x, kernel = jnp.ones((1, 3, 3, 64), jnp.bfloat16), jnp.ones((3, 3, 64, 2), jnp.bfloat16)
    assert (ops.conv2d(x, kernel, padding="VALID") == 576).all()
    many = jnp.ones((64, 5, 5, 1), jnp.bfloat16)
    _, (dx, dkernel, dbias) = gradient(
        lambda *a: ops.conv2d(*a, padding="VALID"),
        (many, jnp.ones((3, 3, 1, 64), jnp.bfloat16), jnp.zeros(64, jnp.bfloat16)),
        jnp.ones((64, 3, 3, 64), jnp.bfloat16),
    )
    assert dx[0, 2, 2, 0] == 576
    assert (dkernel == 576).all()
    assert (dbias == 576).all()


def test_keeps_its_factors_and_nothing_else(rng):
    x, kernel, bias = entries("conv2d")[0].sample(rng, (2, 3), jnp.float32)
    assert residual_bytes(ops.conv2d, x, kernel, bias) == x.nbytes + kernel.nbytes + bias.nbytes
    assert residual_bytes(ops.conv2d, x, kernel) == x.nbytes + kernel.nbytes


def test_a_gradient_that_nobody_asks_for_is_not_computed():
    """The first layer's to its input."""
    x, kernel, dy = jnp.ones((8, 8, 8, 4)), jnp.ones((3, 3, 4, 4)), jnp.ones((8, 8, 8, 4))

    def flops(*wanted):
        def gradients(x, kernel):
            return jax.grad(lambda *a: jnp.vdot(ops.conv2d(*a), dy), wanted)(x, kernel)

        return jax.jit(gradients).lower(x, kernel).compile().cost_analysis()["flops"]

    assert flops(1) < 0.6 * flops(0, 1)


def test_padding_same_is_that_of_xla():
    for n, k, s, d in itertools.product((1, 4, 7), (1, 2, 3), (1, 2, 3), (1, 2)):
        window = window_on("conv2d", jnp.ones((1, n, n, 1)), (k, k), s, "SAME", d)
        (pads,) = set(jax.lax.padtype_to_pads((n,), (d * (k - 1) + 1,), (s,), "SAME"))
        assert window.padding == (pads, pads)


X, KERNEL = jnp.ones((2, 5, 5, 4)), jnp.ones((3, 3, 4, 6))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X[0], KERNEL), {}, ValueError, r"x must be \[N, .*; got shape \[5, 5, 4\]"),
        ((X, KERNEL[0]), {}, ValueError, r"kernel must be \[rows.*; got shape \[3, 4, 6\]"),
        ((X, KERNEL[:, :, :3]), {}, ValueError, r"kernel must .*; got x .* kernel \[3, 3, 3, 6\]"),
        ((X, KERNEL), {"groups": 2}, ValueError, r"kernel must .* and groups 2"),
        ((X, KERNEL[:, :, :1]), {"groups": 4}, ValueError, r"kernel must .* and groups 4"),
        ((X, KERNEL), {"groups": 0}, ValueError, r"kernel must .* and groups 0"),
        ((X, KERNEL), {"groups": 1.0}, TypeError, r"groups must be a whole number; got 1.0"),
        ((X, KERNEL[:0]), {}, ValueError, r"the kernel's window must be .*; got \(0, 3\)"),
        ((X, KERNEL, jnp.ones(5)), {}, ValueError, r"bias must be \[O\] = \[6\]; got \[5\]"),
        ((X, KERNEL), {"stride": 0}, ValueError, r"stride must be a number from 1 on, .*; got 0"),
        ((X, KERNEL), {"stride": (1, 2, 3)}, ValueError, r"stride must .*; got \(1, 2, 3\)"),
        ((X, KERNEL), {"dilation": (1, -1)}, ValueError, r"dilation must .*; got \(1, -1\)"),
        ((X, KERNEL), {"stride": 1.5}, TypeError, r"stride must be of whole numbers; got 1.5"),
        ((X, KERNEL), {"padding": "FULL"}, ValueError, r"padding must be \"SAME\".*; got 'FULL'"),
        ((X, KERNEL), {"padding": -1}, ValueError, r"padding must .*; got -1"),
        ((X, KERNEL), {"padding": (1, 2)}, ValueError, r"padding must .*; got \(1, 2\)"),
        ((X, KERNEL), {"padding": ((1, 2), 3)}, ValueError, r"padding .*; got \(\(1, 2\), 3\)"),
        ((X, KERNEL), {"padding": 0.5}, TypeError, r"padding must be of whole numbers; got 0.5"),
        (
            (X, KERNEL),
            {"padding": "VALID", "dilation": 3},
            ValueError,
            r"the window \[3, 3\] with dilation \[3, 3\] does not fit in images \[5, 5\] with",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, options, error, message):
    with pytest.raises(error, match=f"^conv2d: {message}"):
        ops.conv2d(*arguments, **options)
