"""Rotary position embedding.

Symbols: x, y and dy [..., T, heads, D], positions p [..., T]; x is split into halves u and v of
D / 2 entries, of which the pair (u_j, v_j) turns by the angle p theta_j, theta_j = base^(-2 j / D).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import (
    accumulation_dtype,
    as_array,
    floating,
    positive,
    varying_together,
)


def rotary(x: ArrayLike, positions: ArrayLike, *, base: float = 10000.0) -> jax.Array:
    """Turn pairs of entries by angles that grow with the position.

    y = (u cos - v sin, v cos + u sin) of the angles p theta_j, so that the product of a turned
    query and a turned key depends on the difference of their positions alone.

    Args:
        x: [..., T, heads, D], floating; D is even, and entry j is paired with entry j + D / 2, as
            in GPT-NeoX and Llama as Hugging Face stores it (the paper pairs neighbours).
        positions: [..., T], integer; x's leading axes.
        base: positive; pair j turns by base^(-2 j / D) radians a position.

    Returns:
        [..., T, heads, D], x's dtype. Angles are float32 at least: their error grows with the
        position, to about 0.009 radians at position 100,000.

    Raises:
        TypeError: x is not floating, positions are not integers, or base is not a number or is
            traced.
        ValueError: the shapes do not fit, D is odd, or base is not positive.

    Example:
        `ops.rotary(queries, jnp.broadcast_to(jnp.arange(length), (batch, length)))`

    Source: Su et al., RoFormer: enhanced transformer with rotary position embedding (2021),
    equations 15 and 34.
    """
    x, positions = floating("x", x), as_array("positions", positions)
    base = positive("rotary: base", base)
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise TypeError(
            f"positions must have an integer dtype; got {positions.dtype}{list(positions.shape)}"
        )
    if x.ndim < 3 or x.shape[-1] % 2 or x.shape[-1] == 0:
        raise ValueError(
            f"rotary: x must be [..., length, heads, an even head size]; got shape {list(x.shape)}"
        )
    if positions.shape != x.shape[:-2]:
        raise ValueError(
            f"rotary: positions must be {list(x.shape[:-2])}, as x without its last two axes; "
            f"got {list(positions.shape)}"
        )
    return _rotary(*varying_together([x, positions]), base)


# Each pair is turned by an orthogonal matrix, whose transpose turns back:
#
#   du = dus cos + dvs sin,   dv = dvs cos - dus sin        where dy = (dus, dvs)
#
# the same rotation by the opposite angles. It takes their cosines and sines, which all heads share,
# and nothing of x; to compute these again takes as long as the rest.


def _cosines_and_sines(positions, half, base, dtype):
    """Return both, [..., T, 1, D / 2]."""
    exponents = jnp.arange(half, dtype=dtype) / half
    thetas = jax.lax.expand_dims(base**-exponents, range(positions.ndim + 1))
    angles = positions.astype(dtype)[..., None, None] * thetas
    return jnp.cos(angles), jnp.sin(angles)


def _turned(x, cosines, sines):
    wide, half = x.astype(cosines.dtype), cosines.shape[-1]
    u, v = wide[..., :half], wide[..., half:]
    y = jnp.concatenate([u * cosines - v * sines, v * cosines + u * sines], -1)
    return y.astype(x.dtype)


def _plain_rotary(x, positions, base):
    half, dtype = x.shape[-1] // 2, accumulation_dtype(x.dtype)
    return _turned(x, *_cosines_and_sines(positions, half, base, dtype))


_rotary = jax.custom_vjp(_plain_rotary, nondiff_argnums=(2,))


def _rotary_fwd(x, positions, base):
    half, dtype = x.shape[-1] // 2, accumulation_dtype(x.dtype)
    cosines, sines = _cosines_and_sines(positions, half, base, dtype)
    return _turned(x, cosines, sines), (cosines, sines)


def _rotary_bwd(base, res, dy):
    cosines, sines = res
    return _turned(dy, cosines, -sines), None


_rotary.defvjp(_rotary_fwd, _rotary_bwd)
