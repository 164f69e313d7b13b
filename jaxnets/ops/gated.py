"""Gated linear units: a value times an activation of its gate.

Symbols: x, gate, y and dy [...], all of one shape; h is the activation of the gate. Both rules keep
x and gate, and compute h(gate) again.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import one_dtype, varying_together, widened

# Beyond -_FAR and _FAR, h is 0 and the gate itself to the last digit, also in float64, and has
# slopes of 0 and 1. Its factors are not: gate Phi(gate) at -inf is inf 0.
_FAR = 1000.0


def swiglu(x: ArrayLike, gate: ArrayLike) -> jax.Array:
    """Value gated by SiLU, y = x silu(gate) with silu(g) = g / (1 + exp(-g)).

    Args:
        x: [...], floating; the value.
        gate: [...], floating, of x's shape.

    Returns:
        [...], the promoted dtype of the arguments; half precision computes in float32.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the shapes differ.

    A gate of -inf closes for every finite x, with gradients of 0.

    Example:
        `ops.linear(ops.swiglu(x @ up, x @ gate), down)` is the feed-forward block of Llama.

    Source: Shazeer, GLU variants improve transformer (2020), equation 5 with beta = 1.
    """
    return _swiglu(*_checked("swiglu", x, gate))


def geglu(x: ArrayLike, gate: ArrayLike) -> jax.Array:
    """Value gated by GELU, y = x gate Phi(gate), Phi the standard normal distribution function.

    Args:
        x: [...], floating; the value.
        gate: [...], floating, of x's shape.

    Returns:
        [...], the promoted dtype of the arguments; half precision computes in float32. Phi is
        exact, as in `gelu`.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the shapes differ.

    A gate of -inf closes for every finite x, with gradients of 0.

    Example:
        `ops.linear(ops.geglu(x @ up, x @ gate), down)` is a gated feed-forward block.

    Source: Shazeer, GLU variants improve transformer (2020), equation 5.
    """
    return _geglu(*_checked("geglu", x, gate))


def _checked(op, x, gate):
    x, gate = one_dtype(x=x, gate=gate)
    if x.shape != gate.shape:
        raise ValueError(f"{op}: gate must have x's shape, {list(x.shape)}; got {list(gate.shape)}")
    return varying_together([x, gate])


# y = x h(gate), entry by entry, so that
#
#   dx = dy h(gate),   dgate = dy x h'(gate)
#
# silu: h(g) = g sigma(g),   h'(g) = sigma(g) (1 + g (1 - sigma(g)))
# gelu: h(g) = g Phi(g),     h'(g) = Phi(g) + g phi(g) with phi(g) = exp(-g^2 / 2) / sqrt(2 pi)


def _near(gate):
    return jnp.clip(gate, -_FAR, _FAR)


def _activation(gate, share):
    """Return h(gate) = gate share, where share is sigma(gate) or Phi(gate)."""
    return jnp.where(gate > _FAR, gate, _near(gate) * share)


def _normal_cdf(gate):
    # erfc keeps the digits of the left tail, which 1 + erf would lose.
    return 0.5 * jax.lax.erfc(-gate * math.sqrt(0.5))


# --- swiglu --------------------------------------------------------------------------------------


def _plain_swiglu(x, gate):
    wide_x, wide_gate = widened(x, gate)
    return (wide_x * _activation(wide_gate, jax.lax.logistic(_near(wide_gate)))).astype(x.dtype)


_swiglu = jax.custom_vjp(_plain_swiglu)


def _swiglu_fwd(x, gate):
    return _plain_swiglu(x, gate), (x, gate)


def _swiglu_bwd(res, dy):
    # Otherwise XLA takes sigma for the forward's, and keeps it from there to here.
    x, gate = jax.lax.optimization_barrier(res)
    wide_x, wide_gate, wide_dy = widened(x, gate, dy)
    near = _near(wide_gate)
    sigma = jax.lax.logistic(near)
    slope = sigma * (1.0 + near * (1.0 - sigma))
    dx = wide_dy * _activation(wide_gate, sigma)
    dgate = wide_dy * wide_x * slope
    return dx.astype(x.dtype), dgate.astype(gate.dtype)


_swiglu.defvjp(_swiglu_fwd, _swiglu_bwd)


# --- geglu ---------------------------------------------------------------------------------------


def _plain_geglu(x, gate):
    wide_x, wide_gate = widened(x, gate)
    return (wide_x * _activation(wide_gate, _normal_cdf(_near(wide_gate)))).astype(x.dtype)


_geglu = jax.custom_vjp(_plain_geglu)


def _geglu_fwd(x, gate):
    return _plain_geglu(x, gate), (x, gate)


def _geglu_bwd(res, dy):
    # Otherwise XLA takes Phi for the forward's, and keeps it from there to here.
    x, gate = jax.lax.optimization_barrier(res)
    wide_x, wide_gate, wide_dy = widened(x, gate, dy)
    near = _near(wide_gate)
    cdf = _normal_cdf(near)
    density = jnp.exp(-0.5 * near * near) / math.sqrt(2.0 * math.pi)
    slope = cdf + near * density
    dx = wide_dy * _activation(wide_gate, cdf)
    dgate = wide_dy * wide_x * slope
    return dx.astype(x.dtype), dgate.astype(gate.dtype)


_geglu.defvjp(_geglu_fwd, _geglu_bwd)
