"""Functions with rules of their own in public packages: what `gradcheck` is to judge rightly."""

# Long: a table of functions, each imported where it is called.

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Function(NamedTuple):
    """One function of a package.

    Attributes:
        package: as the package index has it.
        name: the function's.
        kind: how its derivative is made.
        make: imports it; returns a function of arrays, and its arguments.
        settings: of `gradcheck`; what the function's documentation says of its gradient.
        wrong: what is wrong with the gradient; empty if it is right.
    """

    package: str
    name: str
    kind: str
    make: Callable[[], tuple]
    settings: dict[str, Any]
    wrong: str


FUNCTIONS: list[Function] = []


def _function(package: str, name: str, kind: str, wrong: str = "", **settings: Any) -> Callable:
    def add(make):
        FUNCTIONS.append(Function(package, name, kind, make, settings, wrong))
        return make

    return add


def _x(*shape, seed=0, low=None, high=None, dtype=jnp.float32):
    rng = np.random.default_rng([seed, *shape])
    drawn = rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)
    return jnp.asarray(drawn, dtype)


def _positive(n):
    a = np.random.default_rng(n).standard_normal((n, n))
    return jnp.asarray(a @ a.T + n * np.eye(n), jnp.float32)


def _symmetrized(_, direction):
    return (direction + np.swapaxes(direction, -1, -2)) / 2 if np.ndim(direction) > 1 else direction


# --- JAX's own -----------------------------------------------------------------------------------


@_function("jax", "experimental.ode.odeint", "custom_vjp, while_loop", rtol=1e-3, atol=1e-4)
def _():
    from jax.experimental.ode import odeint

    times = jnp.asarray([0.0, 0.5, 1.0])

    def solve(y, a):
        return odeint(lambda y, t, a: -a * y + jnp.sin(t), y, times, a, rtol=1e-6, atol=1e-6)

    return solve, (_x(3), jnp.float32(1.3))


@_function("jax", "lax.custom_root", "implicit, while_loop", rtol=1e-4)
def _():
    def root(a):
        def newton(f, x):
            return jax.lax.fori_loop(0, 30, lambda _, x: x - f(x) / (3 * x**2), x)

        return jax.lax.custom_root(
            lambda x: x**3 - a, jnp.ones_like(a), newton, lambda g, y: y / g(jnp.ones_like(y))
        )

    return root, (_x(5, low=0.5, high=3.0),)


@_function("jax", "lax.custom_linear_solve", "implicit")
def _():
    def solve(a, b):
        return jax.lax.custom_linear_solve(
            lambda x: a @ x, b, lambda _, b: jnp.linalg.solve(a, b), symmetric=True
        )

    return solve, (_positive(4), _x(4))


@_function("jax", "scipy.sparse.linalg.cg", "implicit, while_loop", rtol=1e-3, atol=1e-5)
def _():
    def solve(a, b):
        return jax.scipy.sparse.linalg.cg(lambda x: a @ x, b, tol=1e-7, maxiter=50)[0]

    return solve, (_positive(4), _x(4))


for _name, _arguments in {
    "nn.relu": (_x(4, 5),),
    "nn.relu6": (_x(4, 5),),
    "nn.log1mexp": (_x(6, low=0.3, high=3.0),),
    "numpy.logaddexp": (_x(6), _x(6, seed=1)),
    "numpy.sinc": (_x(6),),
    "numpy.linalg.eigh": (_positive(4),),
    "scipy.special.xlogy": (_x(6, low=0.5, high=2.0), _x(6, seed=1, low=0.5, high=2.0)),
    "scipy.special.expi": (_x(6, low=0.5, high=3.0),),
    "scipy.special.i0e": (_x(6),),
    "scipy.special.ndtri": (_x(6, low=0.1, high=0.9),),
    "scipy.special.log_ndtr": (_x(6),),
}.items():

    def _make(name=_name, arguments=_arguments):
        found = jax
        for part in name.split("."):
            found = getattr(found, part)
        if name.endswith("eigh"):
            return lambda a: found(a)[0], arguments
        return found, arguments

    _kind = "primitive" if _name.split(".")[-1] in ("eigh", "i0e", "ndtri") else "custom_jvp"
    FUNCTIONS.append(Function("jax", _name, _kind, _make, {}, ""))


@_function("jax", "pallas.ops.gpu.attention.mha", "custom_vjp, Pallas", rtol=1e-3, atol=1e-4)
def _():
    from jax.experimental.pallas.ops.gpu import attention

    def mha(q, k, v):
        sizes = attention.BlockSizes(16, 16, 16, 16, 16, 16)
        return attention.mha(q, k, v, None, block_sizes=sizes, interpret=True)

    return mha, tuple(_x(1, 16, 1, 16, seed=k) for k in range(3))


@_function("jax", "pallas.ops.gpu.attention.mha_reference", "plain")
def _():
    from jax.experimental.pallas.ops.gpu import attention

    return (
        lambda q, k, v: attention.mha_reference(q, k, v, None),
        tuple(_x(1, 8, 2, 4, seed=k) for k in range(3)),
    )


@_function("jax", "pallas.ops.gpu.layer_norm", "custom_vjp, Pallas", rtol=1e-3, atol=1e-4)
def _():
    from jax.experimental.pallas.ops.gpu.layer_norm import layer_norm

    return (
        lambda x, w, b: layer_norm(x, w, b, backward_pass_impl="triton", interpret=True),
        (_x(2, 4, 32), _x(32), _x(32, seed=1)),
    )


@_function("jax", "pallas.ops.gpu.rms_norm", "custom_vjp, Pallas", rtol=1e-3, atol=1e-4)
def _():
    from jax.experimental.pallas.ops.gpu.rms_norm import rms_norm

    return (
        lambda x, w, b: rms_norm(x, w, b, backward_pass_impl="triton", interpret=True),
        (_x(2, 4, 32), _x(32), _x(32, seed=1)),
    )


# --- Optax, Equinox, Flax ------------------------------------------------------------------------


@_function("optax", "projections.projection_simplex", "custom_jvp")
def _():
    import optax

    return optax.projections.projection_simplex, (_x(6),)


@_function("optax", "projections.projection_l1_ball", "custom_jvp")
def _():
    import optax

    return optax.projections.projection_l1_ball, (_x(6),)


@_function("optax", "scale_gradient", "custom_vjp", expect="approximate")
def _():
    import optax

    return lambda x: optax.scale_gradient(x, 0.5), (_x(6),)


@_function("optax", "losses.poly_loss_cross_entropy", "plain")
def _():
    import optax

    return lambda z: optax.losses.poly_loss_cross_entropy(z, jnp.eye(4)), (_x(4, 4),)


@_function("optax", "losses.sparsemax_loss", "custom_jvp")
def _():
    import optax

    labels = jnp.asarray([0.0, 1.0, 1.0, 0.0, 1.0])
    return lambda z: optax.losses.sparsemax_loss(z, labels), (_x(5),)


@_function("equinox", "internal.while_loop (checkpointed)", "custom_vjp, while_loop")
def _():
    import equinox.internal as eqxi

    def loop(x):
        def step(carry):
            return jnp.sin(carry[0]) + 0.5 * carry[0], carry[1] + 1

        return eqxi.while_loop(
            lambda c: c[1] < 5, step, (x, 0), max_steps=8, kind="checkpointed", checkpoints=3
        )[0]

    return loop, (_x(4),)


@_function("equinox", "filter_custom_vjp", "custom_vjp")
def _():
    import equinox as eqx

    @eqx.filter_custom_vjp
    def square(x):
        return x * x

    square.def_fwd(lambda perturbed, x: (x * x, x))
    square.def_bwd(lambda residuals, g, perturbed, x: 2 * residuals * g)
    return square, (_x(4),)


@_function("equinox", "debug.backward_nan", "custom_vjp")
def _():
    import equinox as eqx

    return lambda x: jnp.sin(eqx.debug.backward_nan(x, terminate=False)), (_x(4),)


@_function("flax", "nnx.custom_vjp", "custom_vjp")
def _():
    from flax import nnx

    @functools.partial(nnx.custom_vjp, graph_updates=False)
    def product(x, y):
        return jnp.sin(x) * y

    product.defvjp(
        lambda x, y: (product(x, y), (jnp.cos(x), jnp.sin(x), y)),
        lambda res, g: (res[0] * g * res[2], res[1] * g),
    )
    return product, (_x(4), _x(4, seed=1))


@_function("flax", "linen.fp8_ops.in_qdq", "custom_vjp", expect="straight-through")
def _():
    from flax.linen import fp8_ops

    history = jnp.ones(4, jnp.float32)
    return (
        lambda x: fp8_ops.in_qdq(jnp.float32, jnp.float8_e4m3fn, x, jnp.ones(1), history),
        (_x(6),),
    )
