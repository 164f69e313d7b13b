"""Elementwise activations y = h(x), whose gradient is dx = dy h'(x).

Symbols: x, y and dy have one shape [...] and one dtype; half precision computes in float32. A rule
saves one array of x's size: the output y where h' is a function of y (the next layer keeps y
anyway, so that it costs no memory of its own), else the input x. At a kink the derivative is that
of the branch on the left, so that relu is leaky_relu with a slope of 0 and both are Keras's,
PyTorch's and the textbook's.

Source of dx = dy h'(x): Goodfellow, Bengio and Courville, Deep Learning (2016), equation 6.53 for
one component, whose Jacobian is diagonal here.

Long: each op stands here whole, with its docstring, derivation and rules.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.ops._arguments import flag, floating, floating_scalar, varying_together, widened

# --- relu ----------------------------------------------------------------------------------------


def relu(x: ArrayLike) -> jax.Array:
    """Rectified linear unit, y = max(0, x).

    Args:
        x: [...], floating.

    Returns:
        [...], x's dtype. NaN stays NaN.

    Raises:
        TypeError: x is not floating.

    At the kink x = 0 the derivative is 0.

    Source: Nair and Hinton, Rectified linear units improve restricted Boltzmann machines (2010),
    section 2.
    """
    return _relu(floating("x", x))


# h'(x) = 0 for x <= 0, else 1; and x <= 0 exactly where y <= 0. NaN is not <= 0: it takes the
# gradient on, as in the forward it takes the branch of x.


def _plain_relu(x):
    # Not jnp.maximum, whose derivative at 0 is 0.5.
    return jnp.where(x <= 0, jnp.zeros_like(x), x)


_relu = jax.custom_vjp(_plain_relu)


def _relu_fwd(x):
    y = _plain_relu(x)
    return y, y


def _relu_bwd(y, dy):
    return (jnp.where(y <= 0, jnp.zeros_like(dy), dy),)


_relu.defvjp(_relu_fwd, _relu_bwd)


# --- leaky relu ----------------------------------------------------------------------------------


def leaky_relu(x: ArrayLike, negative_slope: ArrayLike = 0.01) -> jax.Array:
    """Leaky rectified linear unit, y = x for x > 0, else negative_slope x.

    Args:
        x: [...], floating.
        negative_slope: scalar; it may be traced, and has its own gradient.

    Returns:
        [...], x's dtype.

    Raises:
        TypeError: x is not floating.
        ValueError: negative_slope is not a scalar.

    At the kink x = 0 the derivative is negative_slope.

    Source: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models
    (2013), equation 2; the gradient to the slope: He et al., Delving deep into rectifiers (2015),
    equation 3.
    """
    x = floating("x", x)
    slope = floating_scalar("negative_slope", negative_slope, x.dtype)
    return _leaky_relu(*varying_together([x, slope]))


# h'(x) = 1 for x > 0, else a; dL/da = sum of dy x over x <= 0. Neither can be read from y once
# a <= 0, so x is kept.


def _plain_leaky_relu(x, slope):
    return jnp.where(x > 0, x, slope * x)


_leaky_relu = jax.custom_vjp(_plain_leaky_relu)


def _leaky_relu_fwd(x, slope):
    return _plain_leaky_relu(x, slope), (x, slope)


def _leaky_relu_bwd(res, dy):
    x, slope = res
    dx = jnp.where(x > 0, dy, slope * dy)
    wide_dy, wide_x = widened(dy, x)
    dslope = jnp.sum(jnp.where(x > 0, jnp.zeros_like(wide_x), wide_dy * wide_x))
    return dx, dslope.astype(slope.dtype)


_leaky_relu.defvjp(_leaky_relu_fwd, _leaky_relu_bwd)


# --- two functions that XLA computes slowly ------------------------------------------------------
#
# For 4096 x 1024 numbers of float32 on a core, XLA's expm1 took 4.1 ms, log1p 4.5 and exp 1.8.


def _expm1(x):
    """Return e^x - 1 for x <= 0, in half the time of `jnp.expm1` and with its 5 ULPs in float32.

    With tau = tanh(x / 2) = (e^x - 1) / (e^x + 1), it is 2 tau / (1 - tau). Near 0, x / 2 could
    underflow: there it is x + x^2 / 2.
    """
    tau = jnp.tanh(0.5 * x)
    near = x > -math.sqrt(jnp.finfo(x.dtype).eps)
    little = jnp.where(near, x, jnp.zeros_like(x))  # So that no derivative is 0 times infinity.
    return jnp.where(near, little * (1.0 + 0.5 * little), 2.0 * tau / (1.0 - tau))


def _log1p(t):
    """Return log(1 + t) for t in [0, 1], in half the time of `jnp.log1p`, to 3 ULPs in float32.

    It is 2 artanh(s), s = t / (2 + t), that is 2 s (1 + s^2 / 3 + s^4 / 5 + ...). Since s <= 1 / 3,
    each term is less than a ninth of the one before.
    """
    terms = 17 if t.dtype == jnp.float64 else 8
    twice_s = 2.0 * t / (2.0 + t)
    square = 0.25 * twice_s * twice_s
    series = jnp.full_like(t, 1.0 / (2 * terms - 1))
    for k in range(terms - 2, -1, -1):
        series = series * square + 1.0 / (2 * k + 1)
    return twice_s * series


# --- elu -----------------------------------------------------------------------------------------


def elu(x: ArrayLike, alpha: ArrayLike = 1.0) -> jax.Array:
    """Exponential linear unit, y = x for x > 0, else alpha (exp(x) - 1).

    Args:
        x: [...], floating.
        alpha: scalar; it may be traced, and has its own gradient.

    Returns:
        [...], x's dtype.

    Raises:
        TypeError: x is not floating.
        ValueError: alpha is not a scalar.

    At x = 0 (a kink unless alpha is 1) the derivative is alpha.

    Source: Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by
    exponential linear units (2016), equation 1.
    """
    x = floating("x", x)
    return _elu(*varying_together([x, floating_scalar("alpha", alpha, x.dtype)]))


# h'(x) = 1 for x > 0, else alpha e^x; dL/dalpha = sum of dy (e^x - 1) over x <= 0. From the output,
# h' is y + alpha, which cancels for x far below 0, and e^x - 1 is y / alpha, which alpha = 0
# forbids: x is kept.


def _plain_elu(x, alpha):
    # exp overflows where the other branch is taken, and its derivative, inf * 0, would be NaN.
    left = jnp.where(x > 0, jnp.zeros_like(x), x)
    wide_left, wide_alpha = widened(left, alpha)
    return jnp.where(x > 0, x, (wide_alpha * _expm1(wide_left)).astype(x.dtype))


_elu = jax.custom_vjp(_plain_elu)


def _elu_fwd(x, alpha):
    return _plain_elu(x, alpha), (x, alpha)


def _elu_bwd(res, dy):
    x, alpha = res
    wide_x, wide_alpha, wide_dy = widened(jnp.where(x > 0, jnp.zeros_like(x), x), alpha, dy)
    dx = jnp.where(x > 0, dy, (wide_dy * wide_alpha * jnp.exp(wide_x)).astype(dy.dtype))
    # expm1(0) = 0 leaves the right branch out of the sum.
    dalpha = jnp.sum(wide_dy * _expm1(wide_x))
    return dx, dalpha.astype(alpha.dtype)


_elu.defvjp(_elu_fwd, _elu_bwd)


# --- gelu ----------------------------------------------------------------------------------------

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715


def gelu(x: ArrayLike, *, approximate: bool | str = False) -> jax.Array:
    """Gaussian error linear unit, y = x Phi(x), Phi the standard normal distribution function.

    Args:
        x: [...], floating.
        approximate: True, or PyTorch's "tanh", to replace Phi(x) by
            (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2; False, or "none", for the exact form.
            The default is exact, as in PyTorch and Keras (`jax.nn.gelu` approximates by default).

    Returns:
        [...], x's dtype.

    Raises:
        TypeError: x is not floating, or approximate is neither a truth value nor a word.
        ValueError: approximate is another word.

    Source: Hendrycks and Gimpel, Gaussian error linear units (2016), section 2.
    """
    x = floating("x", x)
    return _gelu_tanh(x) if approximates(approximate) else _gelu_exact(x)


def approximates(approximate: bool | str) -> bool:
    """Return what `gelu`'s argument of this name says, a truth value or one of PyTorch's words."""
    if isinstance(approximate, str):
        if approximate not in ("none", "tanh"):
            raise ValueError(
                f'gelu: approximate must be True, False, "tanh" or "none"; got {approximate!r}'
            )
        return approximate == "tanh"
    return flag("gelu: approximate", approximate)


# Beyond -_FAR and _FAR, gelu and silu are 0 and x to the last digit, also in float64, and have
# slopes of 0 and 1. Their factors are not: x Phi(x) at -inf is inf 0. There, x is taken as _FAR.

_FAR = 1000.0


def _near(x):
    return jnp.clip(x, -_FAR, _FAR)


def _times_cdf(cdf, x):
    """Return x cdf(x)."""
    near = _near(x)
    return jnp.where(x > _FAR, x, near * cdf(near))


# Exact: h(x) = x Phi(x), so h'(x) = Phi(x) + x phi(x) with phi(x) = exp(-x^2 / 2) / sqrt(2 pi).


def _normal_cdf(x):
    # erfc keeps the digits of the left tail, which 1 + erf(x) would lose.
    return 0.5 * jax.lax.erfc(-x * _SQRT_HALF)


def gelu_slope(x):
    """Return h'(x) of the exact GELU, in x's dtype."""
    wide = _near(x)
    density = jnp.exp(-0.5 * wide * wide) / math.sqrt(2.0 * math.pi)
    return _normal_cdf(wide) + wide * density


def plain_gelu(x):
    """Return the exact GELU, without a rule."""
    (wide,) = widened(x)
    return _times_cdf(_normal_cdf, wide).astype(x.dtype)


_gelu_exact = jax.custom_vjp(plain_gelu)


def _gelu_exact_fwd(x):
    return plain_gelu(x), x


def _gelu_exact_bwd(x, dy):
    # Else XLA takes Phi(x) for the forward's, and on a CPU keeps two arrays from there to here.
    wide, wide_dy = widened(jax.lax.optimization_barrier(x), dy)
    return ((wide_dy * gelu_slope(wide)).astype(dy.dtype),)


_gelu_exact.defvjp(_gelu_exact_fwd, _gelu_exact_bwd)


# Approximate: with u = c (x + k x^3), (1 + tanh(u)) / 2 = sigma(2 u), which keeps the digits of the
# left tail. With s = sigma(2 u) and d(2 u)/dx = 2 c (1 + 3 k x^2), h(x) = x s, so
#
#   h'(x) = s + x s (1 - s) d(2 u)/dx = s (1 + x (1 - s) 2 c (1 + 3 k x^2))


def _tanh_cdf(x):
    return jax.lax.logistic(2.0 * _SQRT_2_OVER_PI * x * (1.0 + _CUBIC * x * x))


def _plain_gelu_tanh(x):
    (wide,) = widened(x)
    return _times_cdf(_tanh_cdf, wide).astype(x.dtype)


_gelu_tanh = jax.custom_vjp(_plain_gelu_tanh)


def _gelu_tanh_fwd(x):
    return _plain_gelu_tanh(x), x


def _gelu_tanh_bwd(x, dy):
    wide, wide_dy = widened(x, dy)
    wide = _near(wide)
    s = _tanh_cdf(wide)
    inner = 2.0 * _SQRT_2_OVER_PI * (1.0 + 3.0 * _CUBIC * wide * wide)
    derivative = s * (1.0 + wide * (1.0 - s) * inner)
    return ((wide_dy * derivative).astype(dy.dtype),)


_gelu_tanh.defvjp(_gelu_tanh_fwd, _gelu_tanh_bwd)


# --- silu ----------------------------------------------------------------------------------------


def silu(x: ArrayLike) -> jax.Array:
    """Sigmoid linear unit (swish), y = x sigma(x) with sigma(x) = 1 / (1 + exp(-x)).

    Args:
        x: [...], floating.

    Returns:
        [...], x's dtype.

    Raises:
        TypeError: x is not floating.

    Source: Elfwing, Uchibe and Doya, Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning (2018), equations 3 and 5.
    """
    return _silu(floating("x", x))


# h'(x) = sigma(x) + x sigma(x) (1 - sigma(x)).


def silu_slope(x):
    """Return h'(x) of SiLU, in x's dtype."""
    wide = _near(x)
    sigma = jax.lax.logistic(wide)
    return sigma * (1.0 + wide * (1.0 - sigma))


def plain_silu(x):
    """Return SiLU, without a rule."""
    (wide,) = widened(x)
    return _times_cdf(jax.lax.logistic, wide).astype(x.dtype)


_silu = jax.custom_vjp(plain_silu)


def _silu_fwd(x):
    return plain_silu(x), x


def _silu_bwd(x, dy):
    wide, wide_dy = widened(x, dy)
    return ((wide_dy * silu_slope(wide)).astype(dy.dtype),)


_silu.defvjp(_silu_fwd, _silu_bwd)


# --- tanh ----------------------------------------------------------------------------------------


def tanh(x: ArrayLike) -> jax.Array:
    """Hyperbolic tangent.

    Args:
        x: [...], floating.

    Returns:
        [...], x's dtype.

    Raises:
        TypeError: x is not floating.

    The derivative is that of the rounded y, and 0 where y is rounded to 1 or -1: beyond 9 in
    float32, 3.5 in bfloat16.

    Source: LeCun, Bottou, Orr and Muller, Efficient backprop (1998), section 4.4.
    """
    return _tanh(floating("x", x))


# h'(x) = 1 - tanh(x)^2 = (1 - y)(1 + y), the product because the difference cancels near |y| = 1.


_tanh = jax.custom_vjp(jnp.tanh)


def _tanh_fwd(x):
    y = jnp.tanh(x)
    return y, y


def _tanh_bwd(y, dy):
    wide_y, wide_dy = widened(y, dy)
    return ((wide_dy * (1.0 - wide_y) * (1.0 + wide_y)).astype(dy.dtype),)


_tanh.defvjp(_tanh_fwd, _tanh_bwd)


# --- sigmoid -------------------------------------------------------------------------------------


def sigmoid(x: ArrayLike) -> jax.Array:
    """Logistic sigmoid, y = 1 / (1 + exp(-x)).

    Args:
        x: [...], floating.

    Returns:
        [...], x's dtype.

    Raises:
        TypeError: x is not floating.

    The derivative is that of the rounded y, and 0 where y is rounded to 1: beyond 17 in float32,
    6 in bfloat16.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equations 4.59 and 4.88.
    """
    return _sigmoid(floating("x", x))


# h'(x) = y (1 - y).


def _plain_sigmoid(x):
    (wide,) = widened(x)
    return jax.lax.logistic(wide).astype(x.dtype)


_sigmoid = jax.custom_vjp(_plain_sigmoid)


def _sigmoid_fwd(x):
    y = _plain_sigmoid(x)
    return y, y


def _sigmoid_bwd(y, dy):
    # Otherwise XLA keeps y in float32 where x is bfloat16, and takes twice as long.
    wide_y, wide_dy = widened(jax.lax.optimization_barrier(y), dy)
    return ((wide_dy * wide_y * (1.0 - wide_y)).astype(dy.dtype),)


_sigmoid.defvjp(_sigmoid_fwd, _sigmoid_bwd)


# --- softplus ------------------------------------------------------------------------------------


def softplus(x: ArrayLike) -> jax.Array:
    """Softplus, y = log(1 + exp(x)).

    Args:
        x: [...], floating.

    Returns:
        [...], x's dtype.

    Raises:
        TypeError: x is not floating.

    Source: Dugas et al., Incorporating second-order functional knowledge for better option pricing
    (2001), section 3.
    """
    return _softplus(floating("x", x))


# log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which does not overflow.
# h'(x) = sigma(x) = 1 - 1 / (1 + e^x) = 1 - e^(-y), exact to the last digits as -expm1(-y).


def _plain_softplus(x):
    (wide,) = widened(x)
    # By x > 0, and not max(x, 0) and |x|: where x is 0 the derivative is then 1/2, and not 1.
    right = jnp.where(wide > 0, wide, jnp.zeros_like(wide))
    return (right + softplus_of_minus_size(wide)).astype(x.dtype)


def softplus_of_minus_size(x):
    """Return log(1 + e^-|x|), in x's dtype."""
    return _log1p(jnp.exp(jnp.where(x > 0, -x, x)))


_softplus = jax.custom_vjp(_plain_softplus)


def _softplus_fwd(x):
    y = _plain_softplus(x)
    return y, y


def _softplus_bwd(y, dy):
    wide_y, wide_dy = widened(y, dy)
    return ((-wide_dy * _expm1(-wide_y)).astype(dy.dtype),)


_softplus.defvjp(_softplus_fwd, _softplus_bwd)
