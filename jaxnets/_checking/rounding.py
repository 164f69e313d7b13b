"""How far rounding alone may carry a program's results: the tolerance of `gradcheck`, measured.

A fixed tolerance is a guess: too wide for a sum of ten terms, too narrow for one of a million, and
wrong wherever terms cancel. Monte Carlo arithmetic measures it instead: run the program a few times
with every rounded result nudged at random by one unit in the last place of its own dtype, and the
spread of the outputs is what rounding does to them, entry by entry.

Source: Parker, Monte Carlo arithmetic: exploiting randomness in floating-point arithmetic (1997).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

_SAMPLES = 8

# Primitives that move, choose, negate or compare values, or return integers or a remainder, and
# round nothing.
_EXACT = frozenset(
    """
    abs argmax argmin bitcast_convert_type broadcast_in_dim ceil clamp concatenate copy copy_p
    cummax cummin device_put dynamic_slice dynamic_update_slice expand_dims floor gather iota max
    min name neg nextafter optimization_barrier pad pcast pvary reduce_max reduce_min
    reduce_precision reduce_window_max reduce_window_min rem reshape rev round scatter scatter-max
    scatter-min select_and_gather_add select_n sharding_constraint sign slice sort split squeeze
    stop_gradient tile top_k transpose unstack
    """.split()  # noqa: SIM905
)
# Calls whose body is walked in place, and the parameter that holds it.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


class Rounded(NamedTuple):
    """The outputs of a program, and what rounding does to them.

    Attributes:
        values: the outputs' leaves, in float64.
        spreads: as many arrays of the same shapes, the root mean square of the nudges' effect.
        epsilons: the relative spacing of each leaf's own dtype.
    """

    values: list[np.ndarray]
    spreads: list[np.ndarray]
    epsilons: list[float]


def rounding_spread(function: Callable, arguments: Sequence, rng: np.random.Generator) -> Rounded:
    """Evaluate a program, and measure how far rounding carries each entry of its outputs.

    Args:
        function: traced with `arguments`; returns a pytree of floating arrays.
        arguments: pytrees of arrays.
        rng: the source of the nudges.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments)
    flat = jax.tree.leaves(arguments)
    outputs = _evaluate(jaxpr.jaxpr, jaxpr.consts, flat, None)
    values = [_float64(out) for out in outputs]
    squares = [np.zeros(value.shape) for value in values]
    for _ in range(_SAMPLES):
        noisy = _evaluate(jaxpr.jaxpr, jaxpr.consts, flat, rng)
        for square, out, value in zip(squares, noisy, values, strict=True):
            with np.errstate(invalid="ignore"):
                square += np.nan_to_num((_float64(out) - value) ** 2, posinf=0.0)
    epsilons = [float(jnp.finfo(jnp.result_type(out)).eps) for out in outputs]
    return Rounded(values, [np.sqrt(square / _SAMPLES) for square in squares], epsilons)


def _float64(array) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


def _evaluate(jaxpr, consts, arguments, rng):
    """Evaluate `jaxpr` equation by equation, with each result nudged unless `rng` is None."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in _CALLS:
            body = equation.params[_CALLS[name]]
            closed = isinstance(body, core.ClosedJaxpr)
            outputs = _evaluate(
                body.jaxpr if closed else body, body.consts if closed else (), inputs, rng
            )
        else:
            terms, length = _summed(equation)
            if rng is not None and terms > 1:
                # The partial sums of n terms of either sign grow as sqrt(n), and each is rounded.
                inputs = [_nudged(value, math.sqrt(terms), rng) for value in inputs]
            outputs = _bind(jaxpr, equation, inputs)
            if rng is not None and name not in _EXACT:
                outputs = [_nudged(value, length, rng) for value in outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _bind(jaxpr, equation, inputs):
    """Return the outputs of one of jaxpr's equations."""
    if any(isinstance(value, core.Jaxpr | core.ClosedJaxpr) for value in equation.params.values()):
        # A loop or a map over a mesh, whose own way to be called depends on the version of JAX.
        values = {
            atom: value
            for atom, value in zip(equation.invars, inputs, strict=True)
            if not isinstance(atom, core.Literal)
        }
        alone = jaxpr.replace(
            constvars=[],
            invars=list(values),
            outvars=equation.outvars,
            eqns=[equation],
            effects=equation.effects,
        )
        return core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))(*values.values())
    outputs = equation.primitive.bind(*inputs, **equation.params)
    return outputs if equation.primitive.multiple_results else [outputs]


def _summed(equation) -> tuple[int, int]:
    """Return how many terms an equation adds up to one entry, and how many steps it loops."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return math.prod(equation.invars[0].aval.shape[axis] for axis in contracted), 1
    if name in ("cumsum", "cumlogsumexp"):
        return equation.invars[0].aval.shape[params["axis"]], 1
    if name == "reduce_sum":
        entries = max(math.prod(equation.outvars[0].aval.shape), 1)
        return math.prod(equation.invars[0].aval.shape) // entries, 1
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        return math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]], 1
    return 1, params["length"] if name == "scan" else 1


def _nudged(value, units: float, rng):
    """Return `value` with each entry moved by -1, 0 or 1 times `units` units in the last place.

    An integer stays as it is. It comes from counting and from floor and its like, in a loop or
    followed by sums of integers, all of which are exact, and to nudge it would select another cell
    of a table. By chance few results are integers as long as 16 numbers of the dtype, or more, lie
    between one and the next.
    """
    dtype = jnp.result_type(value)
    if not jnp.issubdtype(dtype, jnp.floating):
        return value
    eps = float(jnp.finfo(dtype).eps)
    given = np.asarray(value)
    factors = 1.0 + min(units * eps, 0.25) * rng.integers(-1, 2, given.shape)
    integer = (given == np.round(given)) & (np.abs(given) <= 1.0 / (16.0 * eps))
    return jnp.asarray(np.where(integer, given, given * factors.astype(dtype)), dtype)
