import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, ops
from jaxnets.ops import convolution_forms as forms
from jaxnets.ops.windows import every_tap, taps, window_on
from tests.support import (
    Reference,
    assert_close,
    check_op,
    entries,
    gradient,
    gradients,
    name_of,
    normal_like,
    residual_bytes,
)


def convolution(library, x, kernel, bias=0.0, *, stride=(1, 1), dilation=(1, 1), padding, groups=1):
    """The sum over positions, one output position after the other."""
    np_ = library.np
    x = np_.pad(x, ((0, 0), *padding, (0, 0)))
    size = [d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[:2], strict=True)]
    starts = [range(0, n - w + 1, s) for n, w, s in zip(x.shape[1:3], size, stride, strict=True)]
    features = kernel.shape[3] // groups
    channels = kernel.shape[2]
    rows = []
    for top, left in itertools.product(*starts):
        patch = x[:, top : top + size[0] : dilation[0], left : left + size[1] : dilation[1]]
        outputs = [
            np_.einsum(
                "nabc,abco->no",
                patch[..., g * channels : (g + 1) * channels],
                kernel[..., g * features : (g + 1) * features],
            )
            for g in range(groups)
        ]
        rows.append(np_.concatenate(outputs, -1))
    y = np_.stack(rows, 1)
    return y.reshape(x.shape[0], len(starts[0]), len(starts[1]), kernel.shape[3]) + bias


def plain(library, x, kernel, bias):
    return convolution(library, x, kernel, bias, padding=((1, 1), (0, 1)))


def strided(library, x, kernel):
    return convolution(
        library, x, kernel, stride=(2, 1), dilation=(1, 2), padding=((2, 0), (1, 3))
    )


def depthwise(library, x, kernel):
    return convolution(
        library, x, kernel, stride=(2, 2), padding=((1, 1), (1, 1)), groups=x.shape[-1]
    )


REFERENCES = {
    "conv2d": Reference(plain, terms=10.0, rounded=10.0),
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
    "stride leaves inputs out": ((2, 8, 7, 2), (2, 1, 2, 3), {"stride": (4, 3), "padding": "VALID"}),
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

    (value, y, (dx, dkernel)), = gradients(conv2d, [(arguments, dy)])
    _, (expected_dx, expected_dkernel) = gradient(xla, arguments, dy)
    expected_y = convolution(
        SimpleLibrary, *map(np.asarray, arguments), stride=window.stride, dilation=window.dilation,
        padding=window.padding, groups=groups,
    )  # fmt: skip
    for got in (value, y):
        np.testing.assert_allclose(got, expected_y, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dkernel, expected_dkernel, rtol=0, atol=1e-10)


class SimpleLibrary:
    np = np


def test_forms_for_accelerators(geometry):
    """The convolutions that the derivation ends in, which a CPU has other forms for."""
    (x, kernel), dy, window, groups, _ = geometry
    y, (dx, dkernel) = gradient(autodiff(forms.outputs_for_tests), (x, kernel), dy)


def test_worked_example():
    """A kernel of 2x2 on an input of 3x3, by hand; there the kernel is flipped."""
    x, k, dy = jnp.arange(1.0, 10.0), jnp.array([2.0, 3.0, 5.0, 7.0]), jnp.array([1.0, 10.0, 100.0, 1000.0])
    X, K, dY = np.asarray(x).reshape(3, 3), np.asarray(k).reshape(2, 2), np.asarray(dy).reshape(2, 2)

    def flipped(x, k):
        return ops.conv2d(
            x.reshape(1, 3, 3, 1), k.reshape(2, 2)[::-1, ::-1, None, None], padding="VALID"
        ).reshape(4)

    y, (dx, dk) = gradient(flipped, (x, k), dy)
    assert y[2] == K[0, 0] * X[2, 1] + K[0, 1] * X[2, 0] + K[1, 0] * X[1, 1] + K[1, 1] * X[1, 0]
    assert dk[0] == dY[0, 0] * X[1, 1] + dY[0, 1] * X[1, 2] + dY[1, 0] * X[2, 1] + dY[1, 1] * X[2, 2]
    assert dx[1] == dY[0, 0] * K[1, 0] + dY[0, 1] * K[1, 1]
