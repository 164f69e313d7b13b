"""How far rounding alone may carry a program's results: the tolerance of `gradcheck`, measured.

A fixed tolerance is a guess: too wide for a sum of ten terms, too narrow for one of a million, and
wrong wherever terms cancel. Monte Carlo arithmetic measures it instead: run the program a few times
with every rounded result nudged at random by one unit in the last place of its own dtype, and the
spread of the outputs is what rounding does to them, entry by entry.

Source: Parker, Monte Carlo arithmetic: exploiting randomness in floating-point arithmetic (1997).
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxnets._checking.interpreter import bind, body, equations, evaluate
from jaxnets._checking.programs import remembered, run, shapes_of
from jaxnets._checking.verdict import CONCLUSIVE

# How many times the measured effect of rounding (the root mean square of a few samples) an entry
# may be off. A rule that adds in another order, or keeps a rounded residual where autodiff keeps an
# exact one, stays within a few times that.
ALLOWANCE = 16.0
_SAMPLES = 8
# Nudges of an equation start at one of so many places of the pool.
_STARTS = 4096
# Primitives by which a small change may become a large one, or that count.
_DISCRETE = frozenset(
    """
    argmax argmin ceil clamp cond floor ge gt iota le lt ne reduce_and reduce_or rem round scan
    sign sort top_k while
    """.split()  # noqa: SIM905
)
# Others that choose between numbers.
_CHOICES = frozenset(("eq", "max", "min", "reduce_max", "reduce_min", "reduce_window_max"))
# How many steps a while loop is taken to have.
_UNKNOWN_LENGTH = 100

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


def rounding_spread(
    function: Callable,
    arguments: Sequence,
    rng: np.random.Generator,
    narrow: Rounded | None = None,
    key: Hashable | None = None,
) -> Rounded:
    """Evaluate a program, and measure how far rounding carries each entry of its outputs.

    Args:
        function: traced with `arguments`; returns a pytree of floating arrays.
        arguments: pytrees of arrays.
        rng: the source of the nudges.
        narrow: what was measured of the same program in one narrower dtype. What rounding does is
            proportional to the spacing of the numbers, and so need not be measured again.
        key: as `programs.run` has it.
    """
    shapes = key and (key, shapes_of(arguments))
    jaxpr, dtypes, nudged = remembered(shapes, lambda: _read(function, arguments))
    flat = jax.tree.leaves(arguments)
    # A program of half precision is mostly one of float32 inside, and so of another proportion.
    single = float(jnp.finfo(jnp.float32).eps)
    if narrow is not None and len(dtypes) == 1 and set(narrow.epsilons) == {single}:
        exact = run(core.jaxpr_as_fun(jaxpr), *flat, key=key and (key, "exact"))
        values = [_float64(value) for value in exact]
        eps = float(jnp.finfo(min(dtypes, key=str)).eps)
        as_finite = all(
            (np.isfinite(value) == np.isfinite(other)).all()
            for value, other in zip(values, narrow.values, strict=True)
        )
        if as_finite:
            factor = eps / single
            return Rounded(values, [factor * s for s in narrow.spreads], [eps] * len(values))
    pools = pools_for(nudged, rng)
    rounded = _measured(jaxpr, flat, pools, key, inputs=True)
    if not any(map(_is_hidden, rounded.values, rounded.spreads)) or not _chooses(jaxpr):
        return rounded
    # Arguments are exact. Nudged, two that are equal, or one that stands at a bound, are another
    # case of a choice.
    exact = _measured(jaxpr, flat, pools, key, inputs=False)
    spreads = [
        np.minimum(spread, other) if _is_hidden(value, spread) else spread
        for value, spread, other in zip(*rounded[:2], exact.spreads, strict=True)
    ]
    return rounded._replace(spreads=spreads)


def _measured(jaxpr, flat, pools, key, inputs) -> Rounded:
    stacks = run(
        lambda flat, pools: nudged_runs(jaxpr, flat, pools, inputs),
        flat,
        pools,
        key=key and (key, "nudged", inputs),
    )
    values, spreads = [], []
    for stack in stacks:
        value, square = _float64(stack[0]), np.zeros(stack.shape[1:])
        with np.errstate(invalid="ignore", over="ignore"):
            for row in stack[1:]:
                square += np.nan_to_num((_float64(row) - value) ** 2, posinf=0.0)
        values.append(value)
        spreads.append(np.sqrt(square / _SAMPLES))
    return Rounded(values, spreads, [float(jnp.finfo(stack.dtype).eps) for stack in stacks])


def _is_hidden(value: np.ndarray, spread: np.ndarray) -> bool:
    """Return whether rounding explains so much that the array tells nothing."""
    largest = np.abs(value[np.isfinite(value)]).max(initial=0.0)
    return bool(ALLOWANCE * spread.max(initial=0.0) > CONCLUSIVE * largest)


def _chooses(jaxpr) -> bool:
    """Return whether a program compares numbers, on which it may depend what it does with them."""
    return any(equation.primitive.name in _DISCRETE | _CHOICES for equation in equations(jaxpr))


def _read(function, arguments):
    jaxpr = jax.make_jaxpr(function)(*arguments)
    return jaxpr, dtypes_of(jaxpr), largest_size(jaxpr.jaxpr)


def pools_for(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the nudges of each sample, a pool of which each equation takes a stretch; none first.

    `size` is that of the largest array in the program.
    """
    pools = rng.integers(-1, 2, (1 + _SAMPLES, size + _STARTS), np.int8)
    pools[0] = 0
    return pools


def nudged_runs(jaxpr, flat: Sequence, pools, inputs: bool = True) -> list:
    """Return the outputs of a program under each pool of nudges, stacked; `inputs` nudged too."""
    discrete = _is_discrete(jaxpr)

    def sample(pool):
        nudges = _Nudges(pool, discrete)
        arguments = [nudges.apply(value, 1) if inputs else value for value in flat]
        outputs = _evaluate(jaxpr.jaxpr, jaxpr.consts, arguments, nudges)
        return [jnp.asarray(output) for output in outputs]

    return jax.lax.map(sample, pools)


def _float64(array) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


def largest_size(jaxpr) -> int:
    """Return how many entries the largest array in a program has."""
    atoms = [*jaxpr.constvars, *jaxpr.invars]
    for equation in jaxpr.eqns:
        atoms += equation.outvars
    sizes = [math.prod(getattr(atom.aval, "shape", ())) for atom in atoms]
    for equation in jaxpr.eqns:
        if called := body(equation):
            sizes.append(largest_size(called[0]))
    return max(sizes, default=1)


class _Nudges:
    """The nudges of one sample, of which every result takes others."""

    def __init__(self, pool, discrete: bool):
        self.pool = pool
        self.discrete = discrete
        self.taken = 0
        self.factors: dict = {}

    def apply(self, value, units: float):
        """Return `value` with each entry moved by -1, 0 or 1 times `units` units in the last place.

        In a program with discrete steps an integer stays as it is. It comes from counting and from
        floor and its like, in a loop or followed by sums of integers, all of which are exact, and
        to nudge it would select another cell of a table. By chance few results are integers as long
        as 16 numbers of the dtype, or more, lie between one and the next.
        """
        aval = jax.typeof(value)
        if not isinstance(aval, jax.core.ShapedArray) or not _is_float(aval.dtype):
            return value
        eps = float(jnp.finfo(aval.dtype).eps)
        unit = min(units * eps, 0.25)
        if (unit, aval.dtype) not in self.factors:
            moved = 1 + np.asarray(unit, aval.dtype) * self.pool.astype(aval.dtype)
            self.factors[unit, aval.dtype] = moved
        start = (self.taken * 7919) % _STARTS
        self.taken += 1
        factors = jax.lax.slice(self.factors[unit, aval.dtype], (start,), (start + value.size,))
        moved = jax.lax.mul(value, jax.lax.reshape(factors, aval.shape))
        return _but_integers(value, moved) if self.discrete else moved


@jax.jit  # Traced and lowered once for each shape.
def _but_integers(value, moved):
    eps = float(jnp.finfo(value.dtype).eps)
    integer = (value == jnp.round(value)) & (jnp.abs(value) <= 1.0 / (16.0 * eps))
    return jnp.where(integer, value, moved)


def _is_float(dtype) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def _is_discrete(jaxpr) -> bool:
    """Return whether the program rounds, compares, counts or loops."""
    for equation in equations(jaxpr):
        if equation.primitive.name in _DISCRETE:
            return True
        if equation.primitive.name == "convert_element_type":
            into, of = (a[0].aval.dtype for a in (equation.outvars, equation.invars))
            if _is_float(into) != _is_float(of):
                return True
    return False


def dtypes_of(jaxpr) -> set:
    """Return the floating dtypes of all results in a program."""
    found = set()
    for equation in equations(jaxpr):
        for atom in equation.outvars:
            dtype = getattr(atom.aval, "dtype", None)
            if dtype is not None and _is_float(dtype):
                found.add(dtype)
    return found


def _evaluate(jaxpr, consts, arguments, nudges):
    """Evaluate `jaxpr` equation by equation, with each result nudged."""

    def step(jaxpr, equation, inputs):
        if called := body(equation):
            return evaluate(*called, inputs, step)
        terms, length = _summed(equation)
        if terms > 1:
            # The partial sums of n terms of either sign grow as sqrt(n), and each is rounded.
            inputs = [nudges.apply(jnp.asarray(value), math.sqrt(terms)) for value in inputs]
        outputs = bind(jaxpr, equation, inputs)
        if equation.primitive.name in _EXACT:
            return outputs
        return [nudges.apply(value, length) for value in outputs]

    return evaluate(jaxpr, consts, arguments, step)


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
    if name == "while":
        return 1, _UNKNOWN_LENGTH
    return 1, params["length"] if name == "scan" else 1
