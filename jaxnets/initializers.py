"""Initialisers: how the weight and the bias of a layer are drawn.

An initialiser is `initializer(key, shape, dtype) -> (weight, bias)` with the weight
[..., in, out] of the given shape and the bias [out]. fan_in is the number of inputs that one output
sums over, the product of all axes of the weight but the last; fan_out is the number of outputs that
one input reaches, the product of all axes but the last but one.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnets.ops._arguments import floating_scalar, known_number

Initializer = Callable[[jax.Array, tuple[int, ...], jnp.dtype], tuple[jax.Array, jax.Array]]


def _fan_in(shape: tuple[int, ...]) -> int:
    return max(math.prod(shape[:-1]), 1)


def normal(std: float) -> Initializer:
    """Weight from N(0, std^2), bias zero.

    Args:
        std: the standard deviation, not negative.

    Returns:
        The initialiser.

    Raises:
        TypeError: std is not a number.
        ValueError: std is negative or NaN.
    """
    known = known_number("normal: std", std)
    if known is not None and not known >= 0:
        raise ValueError(f"normal: std must not be negative; got {std}")

    def initializer(key, shape, dtype):
        factor = floating_scalar("normal: std", std, dtype)
        return factor * jax.random.normal(key, shape, dtype), jnp.zeros(shape[-1:], dtype)

    return initializer


def named(name: str, std: float | None = None) -> Initializer:
    """Return an initialiser by its name: "he", "glorot", "pytorch", or "normal" with its `std`.

    Raises:
        ValueError: the name is unknown, or there is no `std` where one is needed.
    """
    known = {"he": he, "glorot": glorot, "pytorch": pytorch}
    if name == "normal" and std is not None:
        return normal(std)
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"initializer must be one of {[*known, 'normal']}, normal with a std; got {name!r}"
        )
    return known[name]


def he(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Weight from N(0, 2 / fan_in), which keeps the variance through relu; bias zero.

    Source: He et al., Delving deep into rectifiers (2015), equation 10. Not truncated.
    """
    return normal(math.sqrt(2.0 / _fan_in(shape)))(key, shape, dtype)


def glorot(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Weight from U(-a, a) with a^2 = 6 / (fan_in + fan_out); bias zero.

    The variance, a^2 / 3 = 2 / (fan_in + fan_out), is a compromise between keeping that of the
    outputs and that of the gradients.

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
    networks (2010), equation 16.
    """
    fan_out = math.prod(shape[:-2]) * shape[-1]
    limit = math.sqrt(6.0 / (_fan_in(shape) + fan_out))
    weight = jax.random.uniform(key, shape, dtype, -limit, limit)
    return weight, jnp.zeros(shape[-1:], dtype)


def pytorch(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """Weight and bias from U(-a, a) with a = 1 / sqrt(fan_in): PyTorch's default.

    Source: `torch.nn.Linear` and `torch.nn.Conv2d`; the weight is LeCun et al., Efficient BackProp
    (1998), section 4.6, with a third of the variance.
    """
    limit = 1.0 / math.sqrt(_fan_in(shape))
    weight_key, bias_key = jax.random.split(key)
    weight = jax.random.uniform(weight_key, shape, dtype, -limit, limit)
    return weight, jax.random.uniform(bias_key, shape[-1:], dtype, -limit, limit)
