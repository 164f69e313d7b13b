"""What the tests share: formulas in two libraries, random cotangents, comparison by rounding."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import scipy.special
from jax.extend import core

from jaxnets import autodiff
from jaxnets._catalog import CATALOG, Entry

# A textbook formula is written once, as a function of one of these and of its arguments: through
# NumPy and SciPy it is the reference of a forward, through JAX's autodiff that of a backward.
NUMPY = SimpleNamespace(np=np, special=scipy.special)
JAX = SimpleNamespace(np=jnp, special=jax.scipy.special)

# Three axes, one long row, a long batch; in float64 a vector and a class or feature alone, too.
# The empty batch has its own tests.
SHAPES = ((2, 3, 5), (1, 301), (301, 3), (7,), (5, 1))


class Reference(NamedTuple):
    """What an op is held against.

    Attributes:
        formula: `formula(library, *arguments)`, the textbook's.
        terms: size of the terms that the sums of the op add up, where the cotangents are of size 1;
            a number, or a function of the arguments.
        rounded: size of what the forward rounds before its last operation; likewise.
        saved: size of what the backward reads from an array that was rounded to be kept.
    """

    formula: Callable
    terms: float | Callable = 1.0
    rounded: float | Callable = 0.0
    saved: float = 0.0


def entries(*ops: str) -> list[Entry]:
    """Rows of the catalog."""
    return [entry for entry in CATALOG if entry.op in ops]


def name_of(entry: Entry) -> str:
    """A row's name as part of a test's."""
    return entry.name.replace(" ", "_")


def is_floating(array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def exact(tree):
    """The same numbers in float64, as NumPy arrays; integers and keys as they are."""
    return jax.tree.map(lambda a: np.asarray(a).astype(np.float64) if is_floating(a) else a, tree)


def normal_like(rng: np.random.Generator, tree):
    """Standard normal numbers in the shapes and dtypes of a tree of arrays or of their types."""
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), tree)


def random_cotangents(rng: np.random.Generator, function: Callable, arguments: tuple):
    return normal_like(rng, jax.eval_shape(function, *arguments))


@functools.partial(jax.jit, static_argnums=0)
def gradient(function: Callable, arguments: tuple, cotangents):
    """The outputs, and the gradient to each floating array among the arguments.

    In one compilation, which is what these tests spend their time on.
    """
    outputs, pull_back = jax.vjp(function, *arguments)
    leaves = jax.tree.leaves(pull_back(cotangents))
    return outputs, [leaf for leaf in leaves if leaf.dtype != jax.dtypes.float0]


@functools.partial(jax.jit, static_argnums=0)
def gradients(function: Callable, cases: Sequence[tuple]):
    """Values, outputs under differentiation and gradients of cases (arguments, cotangents)."""
    return [(function(*case[0]), *gradient(function, *case)) for case in cases]


# One function object per formula and per op, so that `gradients` compiles once for each.
@functools.cache
def _through(library_is_jax: bool, formula: Callable) -> Callable:
    return functools.partial(formula, JAX if library_is_jax else NUMPY)


_autodiff = functools.cache(autodiff)


def cube(x):
    return x**3


def wrong_rule(function: Callable) -> Callable:
    """The function with a hand-written gradient that is wrong on purpose."""
    ruled = jax.custom_vjp(function)
    ruled.defvjp(lambda x: (function(x), None), lambda _, dy: (1000.0 * dy,))
    return ruled


def primitives_in(function: Callable, *arguments) -> set[str]:
    """Names of the primitives that the function calls, at any depth."""
    return set(_primitives(jax.make_jaxpr(function)(*arguments).jaxpr))


def _is_jaxpr(value) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from _primitives(getattr(value, "jaxpr", value))


def residual_bytes(function: Callable, *arguments) -> int:
    """Bytes that the forward leaves for the backward."""
    # Traced alone: op by op, each operation would be compiled.
    residuals = jax.eval_shape(lambda *of: jax.tree.leaves(jax.vjp(function, *of)[1]), *arguments)
    return sum(residual.size * residual.dtype.itemsize for residual in residuals)


def check_op(entry: Entry, reference: Reference, dtype, rng: np.random.Generator):
    """Hold an op's values and gradients against the formula, and in float64 against autodiff."""
    shapes = SHAPES if dtype == np.float64 else SHAPES[:3]
    arguments = [entry.sample(rng, shape, dtype) for shape in shapes]
    cases = [(a, random_cotangents(rng, entry.function, a)) for a in arguments]
    got = gradients(entry.function, cases)
    values = [_through(False, reference.formula)(*exact(a)) for a in arguments]
    with jax.enable_x64(True):
        expected = gradients(_through(True, reference.formula), exact(cases))
        if dtype == np.float64:
            plain = gradients(_autodiff(entry.function), exact(cases))
        else:
            plain = expected

    for case, value, ours, formulas, autodiffs in zip(
        cases, values, got, expected, plain, strict=True
    ):
        arguments = [a for a in jax.tree.leaves(case[0]) if is_floating(a)]
        shape = arguments[0].shape
        most = max(a.size for a in jax.tree.leaves(case))
        terms, rounded = (
            size(*exact(case[0])) if callable(size) else size
            for size in (reference.terms, reference.rounded)
        )
        for what, outputs in (("value", ours[0]), ("value under vjp", ours[1])):
            for i, (y, reference_y) in enumerate(
                zip(jax.tree.leaves(outputs), jax.tree.leaves(value), strict=True)
            ):
                # Statistics and sums over parameters are float32 at least.
                wide = i > 0 or entry.op == "l2_penalty"
                y_dtype = min(dtype, jnp.dtype(np.float32), key=epsilon) if wide else dtype
                assert_close(
                    y, reference_y, y_dtype, most, terms=terms, rounded=rounded,
                    what=f"{what} {i} {shape}",
                )  # fmt: skip
        for i, (x, dx, *references) in enumerate(
            zip(arguments, ours[2], formulas[2], autodiffs[2], strict=True)
        ):
            # A gradient that is summed over the batch sums what was rounded, too.
            saved = reference.saved * np.sqrt(most / x.size)
            for what, reference_dx in zip(("formula", "autodiff"), references, strict=True):
                assert_close(
                    dx, reference_dx, x.dtype, most, terms=3.0 * terms, rounded=saved,
                    what=f"gradient {i} {shape} against {what}",
                )  # fmt: skip


def epsilon(dtype) -> float:
    return float(jnp.finfo(dtype).eps)


def assert_close(got, expected, dtype, length=1, *, terms=0.0, rounded=0.0, what=""):
    """Assert that each element is as near as the dtype allows.

    Three sources of rounding, whose bounds add up:

    * an element's own: epsilon, relative to it;
    * its sum of `length` terms, which errs like a random walk, in the dtype in which sums are taken
      (float32 at least): 4 epsilon sqrt(length), relative to the largest of the elements and
      `terms`, the size of the terms;
    * what was rounded on the way, to be kept or added: 2 epsilon, relative to its size `rounded`.
    """
    assert got.dtype == dtype, f"{what}: dtype {got.dtype}, expected {dtype}"
    assert got.shape == np.shape(expected), f"{what}: {got.shape}, expected {np.shape(expected)}"
    got, expected = np.asarray(got).astype(np.float64), np.asarray(expected).astype(np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite], err_msg=what)
    if not finite.any():
        return
    size = np.where(finite, np.abs(expected), 0.0)
    wide = min(epsilon(dtype), epsilon(np.float32))
    bound = epsilon(dtype) * (size + 2.0 * rounded)
    bound += wide * 4.0 * np.sqrt(max(length, 1)) * max(size.max(), terms)
    error = np.abs(np.where(finite, got, 0.0) - np.where(finite, expected, 0.0))
    error = np.where(np.isnan(error), np.inf, error)
    tiny = 1e-300
    excess = error / np.maximum(bound, tiny)
    worst = np.unravel_index(np.argmax(excess), excess.shape)
    with np.errstate(over="ignore"):
        ulps = error[worst] / (epsilon(dtype) * max(size[worst], tiny))
    assert excess[worst] <= 1.0, (
        f"{what}: {np.sum(excess > 1)} of {excess.size} elements are off; the worst, at "
        f"{tuple(map(int, worst))}: got {got[worst]!r}, expected {expected[worst]!r}, "
        f"{ulps:.3g} ULPs, {excess[worst]:.3g} times the bound"
    )


def assert_trees_close(got, expected, length=1, *, terms=0.0, what=""):
    """`assert_close` for each leaf, in the dtype of what was expected."""
    assert jax.tree.structure(got) == jax.tree.structure(expected), what
    pairs = zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        where = f"{what}{jax.tree_util.keystr(path)}"
        assert_close(a, b, b.dtype, length, terms=terms, what=where)


@contextlib.contextmanager
def compilations():
    """Yield a list that each program compiled by XLA adds to."""
    found = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
