"""Gated linear units: x times an activation of a gate, entry by entry.

Symbols: h an activation and h' its derivative, x and gate g [...] of one shape, y = x h(g), and dy
the cotangent of y.
"""

import jax
from jax.typing import ArrayLike

from jaxnets.ops._arguments import one_dtype, varying_together, widened
from jaxnets.ops.activations import gelu_slope, plain_gelu, plain_silu, silu_slope


def swiglu(x: ArrayLike, gate: ArrayLike) -> jax.Array:
    """Swish-gated linear unit, y = x silu(gate), without the linear maps before it.

    Args:
        x: [...], floating.
        gate: [...], floating, of x's shape.

    Returns:
        [...], the promoted dtype of x and gate. Half precision computes in float32.

    Raises:
        TypeError: x or gate is not floating.
        ValueError: their shapes differ.

    Example:
        ``swiglu(linear(x, weight), linear(x, gate_weight))``

    Source: Shazeer, GLU variants improve transformer (2020), equation 5.
    """
    return _swiglu(*_checked("swiglu", x, gate))


def geglu(x: ArrayLike, gate: ArrayLike) -> jax.Array:
    """GELU-gated linear unit, y = x gelu(gate) with the exact GELU, without the linear maps.

    Args:
        x: [...], floating.
        gate: [...], floating, of x's shape.

    Returns:
        [...], the promoted dtype of x and gate. Half precision computes in float32.

    Raises:
        TypeError: x or gate is not floating.
        ValueError: their shapes differ.

    Example:
        ``geglu(linear(x, weight), linear(x, gate_weight))``

    Source: Shazeer, GLU variants improve transformer (2020), equation 5.
    """
    return _geglu(*_checked("geglu", x, gate))


def _checked(op: str, x: ArrayLike, gate: ArrayLike) -> list[jax.Array]:
    x, gate = one_dtype(x=x, gate=gate)
    if gate.shape != x.shape:
        raise ValueError(
            f"{op}: gate must have the shape of x, {list(x.shape)}; got {list(gate.shape)}"
        )
    return varying_together([x, gate])


# y = x h(g), so dx = dy h(g) and dg = dy x h'(g). Both inputs are kept, and h(g) is computed again:
# to keep it would be a third array.


def _plain_swiglu(x, gate):
    wide_x, wide_gate = widened(x, gate)
    return (wide_x * plain_silu(wide_gate)).astype(x.dtype)


_swiglu = jax.custom_vjp(_plain_swiglu)


def _swiglu_fwd(x, gate):
    return _plain_swiglu(x, gate), (x, gate)


def _swiglu_bwd(res, dy):
    x, gate, wide_dy = widened(*res, dy)
    dx, dgate = wide_dy * plain_silu(gate), wide_dy * x * silu_slope(gate)
    return dx.astype(dy.dtype), dgate.astype(dy.dtype)


_swiglu.defvjp(_swiglu_fwd, _swiglu_bwd)


def _plain_geglu(x, gate):
    wide_x, wide_gate = widened(x, gate)
    return (wide_x * plain_gelu(wide_gate)).astype(x.dtype)


_geglu = jax.custom_vjp(_plain_geglu)


def _geglu_fwd(x, gate):
    return _plain_geglu(x, gate), (x, gate)


def _geglu_bwd(res, dy):
    x, gate, wide_dy = widened(*res, dy)
    dx, dgate = wide_dy * plain_gelu(gate), wide_dy * x * gelu_slope(gate)
    return dx.astype(dy.dtype), dgate.astype(dy.dtype)


_geglu.defvjp(_geglu_fwd, _geglu_bwd)
