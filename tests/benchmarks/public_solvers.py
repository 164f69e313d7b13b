"""Further public functions: solvers, transport, attention, transforms."""

# Long: a table of functions, each imported where it is called.

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.public_functions import (
    FUNCTIONS,
    Function,
    _function,
    _positive,
    _symmetrized,
    _x,
)


def _decay(adjoint):
    import diffrax

    def solve(y, a):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, a: -a * y),
            diffrax.Tsit5(),
            0.0,
            1.0,
            0.1,
            y,
            args=a,
            adjoint=adjoint(diffrax),
            stepsize_controller=diffrax.ConstantStepSize(),
        ).ys

    return solve, (_x(3), jnp.float32(1.3))


@_function("diffrax", "RecursiveCheckpointAdjoint", "custom_vjp, while_loop")
def _():
    return _decay(lambda diffrax: diffrax.RecursiveCheckpointAdjoint())


@_function("diffrax", "BacksolveAdjoint", "custom_vjp, while_loop", rtol=1e-3, atol=1e-4)
def _():
    return _decay(lambda diffrax: diffrax.BacksolveAdjoint())


@_function("lineax", "linear_solve", "primitive")
def _():
    import lineax

    return (
        lambda a, b: lineax.linear_solve(lineax.MatrixLinearOperator(a), b).value,
        (_positive(4), _x(4)),
    )


@_function("lineax", "linear_solve (CG)", "primitive", rtol=1e-3, atol=1e-4)
def _():
    import lineax

    def solve(a, b):
        operator = lineax.MatrixLinearOperator(a, lineax.positive_semidefinite_tag)
        return lineax.linear_solve(operator, b, lineax.CG(rtol=1e-6, atol=1e-6)).value

    return solve, (_positive(4), _x(4))


for _name in ("two_norm", "rms_norm", "max_norm"):

    def _make(name=_name):
        import lineax.internal as internal

        return getattr(internal, name), (_x(6),)

    FUNCTIONS.append(Function("lineax", f"internal.{_name}", "custom_jvp", _make, {}, ""))


@_function("optimistix", "root_find (Newton)", "implicit", rtol=1e-3, atol=1e-5)
def _():
    import optimistix

    def root(a):
        solver = optimistix.Newton(rtol=1e-6, atol=1e-6)
        return optimistix.root_find(lambda y, a: y**3 + y - a, solver, jnp.ones(3), args=a).value

    return root, (_x(3),)


@_function("optimistix", "fixed_point", "implicit", rtol=1e-3, atol=1e-5)
def _():
    import optimistix

    def point(a):
        solver = optimistix.FixedPointIteration(rtol=1e-6, atol=1e-6)
        return optimistix.fixed_point(
            lambda y, a: jnp.cos(y) * a, solver, jnp.ones(3), args=a
        ).value

    return point, (_x(3, low=0.2, high=0.6),)


@_function("jaxopt", "projection.projection_simplex", "custom_jvp")
def _():
    from jaxopt.projection import projection_simplex

    return projection_simplex, (_x(6),)


@_function("jaxopt", "isotonic.isotonic_l2_pav", "custom_jvp, callback")
def _():
    from jaxopt.isotonic import isotonic_l2_pav

    return isotonic_l2_pav, (_x(6),)


@_function("jaxopt", "FixedPointIteration", "implicit", rtol=1e-3, atol=1e-4)
def _():
    import jaxopt

    def point(a):
        solver = jaxopt.FixedPointIteration(lambda y, a: jnp.cos(y) * a, maxiter=100, tol=1e-6)
        return solver.run(jnp.ones(3), a).params

    return point, (_x(3, low=0.2, high=0.6),)


@_function("ott-jax", "math.utils.softmin", "custom_vjp", wrong="the gradient of gamma is 0")
def _():
    from ott.math import utils

    return utils.softmin, (_x(5), jnp.float32(0.7))


@_function("ott-jax", "math.utils.logsumexp", "custom_jvp")
def _():
    from ott.math import utils

    return utils.logsumexp, (_x(5),)


@_function("ott-jax", "math.utils.norm", "custom_jvp")
def _():
    from ott.math import utils

    return utils.norm, (_x(5),)


@_function("ott-jax", "math.utils.lambertw", "custom_jvp, while_loop", rtol=1e-3)
def _():
    from ott.math import utils

    return utils.lambertw, (_x(5, low=0.2, high=3.0),)


@_function(
    "ott-jax",
    "matrix_square_root.sqrtm_only",
    "custom_vjp, loop",
    rtol=1e-3,
    atol=1e-4,
    project=_symmetrized,
)
def _():
    from ott.math import matrix_square_root

    return lambda a: matrix_square_root.sqrtm_only(a, threshold=1e-8), (_positive(3),)


@_function("tokamax", "layer_norm", "custom_vjp")
def _():
    import tokamax

    return (
        lambda x, w, b: tokamax.layer_norm(x, w, b, implementation="xla"),
        (_x(4, 8), _x(8), _x(8, seed=1)),
    )


@_function("tokamax", "dot_product_attention", "custom_vjp")
def _():
    import tokamax

    return (
        lambda q, k, v: tokamax.dot_product_attention(q, k, v, implementation="xla"),
        tuple(_x(1, 4, 2, 8, seed=k) for k in range(3)),
    )


@_function("tokamax", "gated_linear_unit", "custom_vjp")
def _():
    import tokamax

    return (
        lambda x, w: tokamax.gated_linear_unit(x, w, activation=jax.nn.silu, implementation="xla"),
        (_x(4, 8), _x(8, 2, 6)),
    )


@_function("qwix", "dot_general_qt", "custom_vjp", expect="straight-through")
def _():
    from qwix._src.core import dot_general_qt

    config = dot_general_qt.DotGeneralQtConfig(lhs_qtype=jnp.int8, rhs_qtype=jnp.int8)
    return (
        lambda a, b: dot_general_qt.dot_general_qt(a, b, (((1,), (0,)), ((), ())), config),
        (_x(4, 8), _x(8, 3)),
    )


@_function("numpyro", "distributions.util.log1mexp", "custom_jvp")
def _():
    from numpyro.distributions.util import log1mexp

    return log1mexp, (_x(5, low=-3.0, high=-0.3),)


@_function("distrax", "multiply_no_nan", "custom_jvp")
def _():
    from distrax._src.utils import math

    return math.multiply_no_nan, (_x(5), _x(5, seed=1))


@_function("distrax", "power_no_nan", "custom_jvp")
def _():
    from distrax._src.utils import math

    return math.power_no_nan, (_x(5, low=0.5, high=2.0), _x(5, seed=1, low=0.5, high=2.0))


@_function("rlax", "clip_gradient", "custom_vjp", expect="approximate")
def _():
    import rlax

    return lambda x: rlax.clip_gradient(x, -0.5, 0.5), (_x(6),)


@_function("jaxoplanet", "core.kepler", "custom_jvp", rtol=1e-4, atol=1e-5)
def _():
    from jaxoplanet.core import kepler

    return kepler, (_x(5, low=0.3, high=2.5), _x(5, seed=1, low=0.1, high=0.6))


def _attention(name, mask):
    import flash_attention_jax

    function = getattr(flash_attention_jax, name)
    ones = jnp.ones((1, 8), bool)
    arguments = tuple(_x(1, 2, 8, 4, seed=k) for k in range(3))
    return (lambda q, k, v: function(q, k, v, ones)) if mask else function, arguments


for _name, _mask in (("flash_attention", True), ("causal_flash_attention", False)):
    # Its EPSILON of 1e-10 is added to what the softmax is divided by.
    FUNCTIONS.append(
        Function(
            "flash-attention-jax",
            _name,
            "custom_vjp, scan",
            lambda name=_name, mask=_mask: _attention(name, mask),
            {"rtol": 1e-9, "atol": 1e-9},
            "",
        )
    )


def _strengths(n):
    rng = np.random.default_rng(n)
    return jnp.asarray(rng.standard_normal(n) + 1j * rng.standard_normal(n), jnp.complex64)


@_function("nufftax", "nufft1d1", "custom_vjp", rtol=1e-3, atol=1e-3)
def _():
    import nufftax

    return lambda x, c: nufftax.nufft1d1(x, c, 8, eps=1e-6), (_x(5), _strengths(5))


@_function("nufftax", "nufft1d2", "custom_vjp", rtol=1e-3, atol=1e-3)
def _():
    import nufftax

    return lambda x, f: nufftax.nufft1d2(x, f, eps=1e-6), (_x(5), _strengths(8))


@_function("jax-finufft", "nufft1", "primitive", rtol=1e-3, atol=1e-3)
def _():
    from jax_finufft import nufft1

    return lambda c, x: nufft1(8, c, x, eps=1e-6), (_strengths(5), _x(5))


@_function("jax-finufft", "nufft2", "primitive", rtol=1e-3, atol=1e-3)
def _():
    from jax_finufft import nufft2

    return lambda f, x: nufft2(f, x, eps=1e-6), (_strengths(8), _x(5))


@_function("klujax", "solve", "primitive")
def _():
    import klujax

    rows = jnp.asarray([0, 1, 2, 0], jnp.int32)
    columns = jnp.asarray([0, 1, 2, 1], jnp.int32)
    return lambda a, b: klujax.solve(rows, columns, a, b), (_x(4, low=1.0, high=2.0), _x(3))


for _name, _arguments in {
    "lambertw": (_x(5, low=0.3, high=2.0),),
    "bessel_ive": (_x(5, low=0.5, high=2.0), _x(5, seed=1, low=0.5, high=2.0)),
    "log_gamma_difference": (_x(5, low=1.0, high=2.0), _x(5, seed=1, low=9.0, high=12.0)),
    "owens_t": (_x(5), _x(5, seed=1)),
    "log1psquare": (_x(5),),
}.items():

    def _make(name=_name, arguments=_arguments):
        from tensorflow_probability.substrates import jax as tfp

        return getattr(tfp.math, name), arguments

    FUNCTIONS.append(
        Function("tensorflow-probability", f"math.{_name}", "custom_gradient", _make, {}, "")
    )
