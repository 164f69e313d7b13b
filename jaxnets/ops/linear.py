"""The linear map y = x W + b.

Symbols: x [..., in], W = weight [in, out], b = bias [out], y and dy [..., out]; s runs over all
the leading axes of x taken together. A prefix d marks the derivative of a scalar loss L.
"""

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


def _strided_badly(x):
    """Whether a CPU's product x^T dy should go over a transposed copy of x [batch, in].

    It goes down the columns of x. Entries a multiple of 2 KB apart fall on the same few sets of the
    cache: with batch 200 and 100 outputs, 3072 inputs took two cores 970 us, and 335 us after the
    transposition. Where they do not, as with 784, the copy is wasted.
    """
    strided = x.ndim == 2 and x.shape[0] > 1 and x.shape[1] * x.dtype.itemsize % 2048 == 0
    return strided and jax.default_backend() == "cpu"


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
    if _strided_badly(x):
        columns = jax.lax.optimization_barrier(x.T)  # Else XLA folds it into the product again.
        dweight = _contract(columns, dy, ((1,), (0,)), sharding_of(weight))
    else:
        dweight = _contract(x, dy, (leading, leading), sharding_of(weight))
    (wide_dy,) = widened(dy)
    dbias = None if bias is None else wide_dy.sum(leading).astype(bias.dtype)
    return dx, dweight, dbias


_linear.defvjp(_linear_fwd, _linear_bwd)
