"""The linear map y = x W + b.

Symbols: x [..., in], W = weight [in, out], b = bias [out], y and dy [..., out]; s runs over all
the leading axes of x taken together. A prefix d marks the derivative of a scalar loss L.
"""

import functools

import jax
from jax.typing import ArrayLike

from jaxnets.ops._arguments import before_last, one_dtype, sharding_of, varying_together, widened


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> jax.Array:
    """Linear map, y = x W + b.

    Args:
        x: [..., in], floating; any number of leading axes, the batch among them.
        weight: [in, out], floating.
        bias: [out], floating, or None for none.

    Returns:
        [..., out] in the promoted dtype of the arguments; half precision accumulates in float32.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the shapes do not fit.

    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.5.6. Keras and Flax
    lay the weight out as here, PyTorch transposed.
    """
    if bias is None:
        x, weight = one_dtype(x=x, weight=weight)
    else:
        x, weight, bias = one_dtype(x=x, weight=weight, bias=bias)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[0]:
        raise ValueError(
            "linear: weight must be [in, out] with in equal to the last axis of x; "
            f"got x {list(x.shape)} and weight {list(weight.shape)}"
        )
    if bias is None:
        return _linear(*varying_together([x, weight]), None)
    if bias.shape != weight.shape[1:]:
        raise ValueError(
            f"linear: bias must be [out] = {list(weight.shape[1:])}; got {list(bias.shape)}"
        )
    return _linear(*varying_together([x, weight, bias]))


# y_so = sum_k x_sk W_ko + b_o, so for a scalar loss L
#
#   dL/dx_si = sum_o dy_so dy_so/dx_si = sum_o dy_so W_io        dx = dy W^T
#   dL/dW_io = sum_s dy_so x_si                                  dW = x^T dy
#   dL/db_o  = sum_s dy_so                                       db = 1^T dy


def _contract(a, b, axes, out_sharding=None):
    # No preferred_element_type: XLA sums the products of half precision in float32 anyway, and its
    # CPU backend lacks the batched product of two bfloat16 arrays into a float32 one.
    return jax.lax.dot_general(a, b, (axes, ((), ())), out_sharding=out_sharding)


def _weight_gradient(x, dy, sharding):
    """Return x^T dy, in the form that is fastest on a CPU; XLA would make one of all of them.

    CPU milliseconds on one core of a Zen 5, batch 200, with an update by Adam:

        in, out         x^T dy    a copy of x^T    (dy^T x)^T
        784, 40           0.25             0.24          0.17
        784, 100          0.56             0.47          0.42
        3072, 10          2.41             0.66          0.28
        3072, 100         3.82             3.00          3.45

    A product goes down the columns of its first factor, and these are best few: dy's, if it is much
    narrower than the batch is long. Columns of x a multiple of 2 KB apart fall on the same few sets
    of the cache. A copy of x^T then costs less than they do, and the transposition of a wide
    dy^T x costs as much.
    """
    leading = tuple(range(x.ndim - 1))
    product = functools.partial(_contract, axes=(leading, leading))
    if x.ndim != 2 or sharding is not None or jax.default_backend() != "cpu":
        return product(x, dy, out_sharding=sharding)
    strided = x.shape[0] > 1 and x.shape[1] * x.dtype.itemsize % 2048 == 0
    if (8 if strided else 2) * dy.shape[1] <= x.shape[0]:
        return jax.lax.optimization_barrier(product(dy, x)).T  # Else XLA folds it in again.
    if strided:
        return _contract(jax.lax.optimization_barrier(x.T), dy, ((1,), (0,)))
    return product(x, dy)


def _plain_linear(x, weight, bias):
    y = _contract(x, weight, ((x.ndim - 1,), (0,)))
    if bias is None:
        return y
    wide_y, wide_bias = widened(y, bias)
    return (wide_y + before_last(wide_bias, y.ndim)).astype(x.dtype)


_linear = jax.custom_vjp(_plain_linear)


def _linear_fwd(x, weight, bias):
    # Both factors: each is the other's gradient. The bias (no larger than a row of y) says
    # whether there is one.
    return _plain_linear(x, weight, bias), (x, weight, bias)


def _linear_bwd(res, dy):
    x, weight, bias = res
    leading = tuple(range(x.ndim - 1))
    dx = _contract(dy, weight, ((x.ndim - 1,), (1,)), sharding_of(x))
    dweight = _weight_gradient(x, dy, sharding_of(weight))
    (wide_dy,) = widened(dy)
    dbias = None if bias is None else wide_dy.sum(leading).astype(bias.dtype)
    return dx, dweight, dbias


_linear.defvjp(_linear_fwd, _linear_bwd)
