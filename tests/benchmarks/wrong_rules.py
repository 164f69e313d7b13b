"""Plants wrong rules that no edit of an op makes: `python -m tests.benchmarks.wrong_rules`.

Each bug is a function of `off`: with 0 it returns a function whose rule is right, with 1 the same
with the bug, both with arguments. Gradcheck must pass the first and fail the second.

Long: a table, a function for each kind.
"""

import itertools
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxnets import gradcheck

X = jnp.asarray(np.random.default_rng(3).standard_normal((3, 4)), jnp.float32)
V, W = X[0], X[1]
Z = jax.lax.complex(X[0], X[1])


class Bug(NamedTuple):
    """A kind, a name, and `make(off)`, which returns a function and its arguments."""

    kind: str
    name: str
    make: Callable[[int], tuple]


BUGS: list[Bug] = []


def with_rule(function: Callable, backward: Callable) -> Callable:
    """Return `function` with a rule that keeps its arguments."""
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda *args: (function(*args), args), backward)
    return wrapped


def _add(kind: str, name: str, function: Callable, backward: Callable, *args) -> None:
    """Add a bug by its backward rule, `backward(off, dy, *args)`."""

    def make(off):
        return with_rule(function, lambda res, dy: backward(off, dy, *res)), *args

    BUGS.append(Bug(kind, name, make))


def _index() -> None:
    def add(*bug):
        _add("index arithmetic", *bug)

    zeros = jnp.zeros_like
    add("slice", lambda x: x[1:], lambda o, dy, x: (zeros(x).at[jnp.arange(1, 4) - o].add(dy),), V)
    add("stride", lambda x: x[1::2], lambda o, dy, x: (zeros(x).at[1 - o :: 2].add(dy),), V)
    add("flip", lambda x: x[::-1], lambda o, dy, x: (dy if o else dy[::-1],), V)
    add("roll", lambda x: jnp.roll(x, 1), lambda o, dy, x: (jnp.roll(dy, 1 if o else -1),), V)
    add(
        "gather",
        lambda x: x[jnp.asarray([0, 0, 2])],
        lambda o, dy, x: (zeros(x).at[jnp.asarray([0, o, 2])].add(dy),),
        V,
    )
    add(
        "set, not added",
        lambda x: x[jnp.asarray([1, 1, 2])],
        lambda o, dy, x: (
            (lambda at: at.set(dy) if o else at.add(dy))(zeros(x).at[jnp.asarray([1, 1, 2])]),
        ),
        V,
    )
    add(
        "cumulative",
        lambda x: jnp.cumsum(x),
        lambda o, dy, x: (jnp.cumsum(dy) if o else jnp.cumsum(dy[::-1])[::-1],),
        V,
    )
    add(
        "diagonal",
        lambda x: jnp.diagonal(x, 1),
        lambda o, dy, x: (zeros(x).at[jnp.arange(3), jnp.arange(3) + 1 - o].add(dy),),
        X,
    )


def _conjugate() -> None:
    def add(name, function, derivative):
        def backward(off, dy, *args):
            pairs = derivative(*args)
            return tuple((dy * (jnp.conj(d) if off else d)) for d in pairs)

        _add("cotangent conjugated", name, function, backward, Z)

    add("factor", lambda z: (1 + 2j) * z, lambda z: (jnp.full_like(z, 1 + 2j),))
    add("square", lambda z: z * z, lambda z: (2 * z,))
    add("exponential", jnp.exp, lambda z: (jnp.exp(z),))
    add("reciprocal", lambda z: 1 / z, lambda z: (-1 / z**2,))
    add("sine", jnp.sin, lambda z: (jnp.cos(z),))
    _add(
        "cotangent conjugated",
        "cotangent itself",
        lambda z: z * z,
        lambda o, dy, z: (2 * z * (jnp.conj(dy) if o else dy),),
        Z,
    )


def _symmetric() -> None:
    functions = {
        "sum": jnp.sum,
        "norm": jnp.linalg.norm,
        "largest": jnp.max,
        "smallest": jnp.min,
        "third moment": lambda dy: jnp.sum(dy**3),
        "product": jnp.prod,
        "share of negatives": lambda dy: jnp.mean(dy < 0),
    }
    for name, g in functions.items():
        _add(
            "symmetric function of the cotangent",
            name,
            jnp.sin,
            lambda o, dy, x, g=g: (
                jnp.cos(x) * dy * (1 + 0.05 * o * jnp.tanh(g(dy))).astype(dy.dtype),
            ),
            V,
        )


def _branch() -> None:
    def add(*bug):
        _add("one branch of a cond", *bug)

    def squared(where):
        return lambda o, dy, x: (
            jnp.where(where(x, dy), 2.0 + 0.1 * o, 2.0).astype(x.dtype) * x * dy,
        )

    add(
        "cond",
        jnp.square,
        lambda o, dy, x: (
            jax.lax.cond(x.sum() < 99, lambda: (2.0 + o) * x * dy, lambda: 2.0 * x * dy),
        ),
        V,
    )
    add("negative x", jnp.square, squared(lambda x, dy: x < 0), V)
    add("negative cotangent", jnp.square, squared(lambda x, dy: dy < 0), V)
    add("mixed signs", jnp.square, squared(lambda x, dy: x * dy < 0), V)
    add(
        "all cotangents of one sign",
        jnp.square,
        squared(lambda x, dy: jnp.all(dy > 0) | jnp.all(dy < 0)),
        V,
    )
    add(
        "switch",
        jnp.square,
        lambda o, dy, x: (
            jax.lax.switch(
                1, [lambda: x * dy, lambda: (2.0 + 0.1 * o) * x * dy, lambda: 2 * x * dy]
            ),
        ),
        V,
    )


def _size_one() -> None:
    def add(name, test, *args):
        _add(
            "only at size 1",
            name,
            jnp.square,
            lambda o, dy, x: (2.0 * x * dy * (1.0 + o * test(x)),),
            *args,
        )

    add("rows", lambda x: x.shape[0] == 1, X[:1])
    add("columns", lambda x: x.shape[-1] == 1, X[:, :1])
    add("entries", lambda x: x.size == 1, X[:1, :1])
    add("scalar", lambda x: x.ndim == 0, X[0, 0])
    _add(
        "only at size 1",
        "broadcast",
        lambda x, b: x + b,
        lambda o, dy, x, b: (dy, dy.sum(0) if o else dy.sum(0, keepdims=True)),
        X,
        X[:1],
    )
    _add(
        "only at size 1",
        "mean of n - 1",
        lambda x: x.mean(0),
        lambda o, dy, x: (
            jnp.broadcast_to(dy / max(len(x) - o, 1), x.shape)
            * (2.0 if o and len(x) == 1 else 1.0),
        ),
        X[:1],
    )


def _ties() -> None:
    tied = jnp.asarray([[1.5, 2.5, 2.5, 0.5]])

    def share(best):
        def backward(o, dy, x):
            same = x == best(x, -1, keepdims=True)
            arg = jnp.argmax(same, -1, keepdims=True) == jnp.arange(x.shape[-1])
            return (
                (arg if o else same / same.sum(-1, keepdims=True)).astype(x.dtype) * dy[:, None],
            )

        return backward

    _add("tied entries", "largest", lambda x: x.max(-1), share(jnp.max), tied)
    _add("tied entries", "smallest", lambda x: x.min(-1), share(jnp.min), -tied)
    _add(
        "tied entries",
        "twice the larger",
        jnp.maximum,
        lambda o, dy, a, b: tuple(
            dy * jnp.where(x > y, 1.0, jnp.where(x == y, 0.5 + 0.5 * o, 0.0)).astype(dy.dtype)
            for x, y in ((a, b), (b, a))
        ),
        V,
        V.at[0].add(1.0),
    )
    _add(
        "tied entries",
        "clipped at the bound",
        lambda x: jnp.minimum(x, 2.5),
        lambda o, dy, x: (
            dy * jnp.where(x < 2.5, 1.0, jnp.where(x == 2.5, 0.5 * (1 - o), 0.0)).astype(dy.dtype),
        ),
        tied,
    )

    _add(
        "not contiguous",
        "order of memory",
        jnp.square,
        lambda o, dy, x: (2 * (x.T if o else x).reshape(x.shape) * dy,),
        X,
    )


def _residuals() -> None:
    for name, narrow in {
        "bfloat16": lambda x: x.astype(jnp.bfloat16),
        "float16": lambda x: x.astype(jnp.float16),
        "int8 of 1/32": lambda x: jnp.round(x * 32).astype(jnp.int8) / 32,
        "sign": lambda x: jnp.sign(x),
        "float8": lambda x: x.astype(jnp.float8_e4m3fn),
    }.items():
        _add(
            "residual's dtype",
            name,
            jnp.sin,
            lambda o, dy, x, narrow=narrow: (jnp.cos(narrow(x).astype(x.dtype) if o else x) * dy,),
            V,
        )


def _closures() -> None:
    def make(kept_of, use):
        def bug(off):
            kept: list = []

            def forward(x):
                kept.append(kept_of(x, off, len(kept)))
                return jnp.sin(x), x

            wrapped = jax.custom_vjp(jnp.sin)
            wrapped.defvjp(forward, lambda x, dy: (use(kept, x).astype(x.dtype) * dy,))
            return wrapped, V

        return bug

    factor = make(lambda x, o, n: np.asarray(1 + 0.01 * o * n), lambda k, x: jnp.cos(x) * k[-1])
    BUGS.append(Bug("stale closure", "counter", factor))
    once = make(lambda x, o, n: np.asarray(1 + 0.5 * o * (n == 0)), lambda k, x: jnp.cos(x) * k[0])
    BUGS.append(Bug("stale closure", "first call's", once))
    for name, wrong in {
        "factor": lambda right: 2.0 * right,
        "0.1 %": lambda right: 1.001 * right,
        "zero": jnp.zeros_like,
    }.items():

        def later(off, wrong=wrong):
            calls = itertools.count(1)

            def backward(res, dy):
                right = jnp.cos(res[0]) * dy
                return (wrong(right) if off and next(calls) > 1 else right,)

            return with_rule(jnp.sin, backward), V

        BUGS.append(Bug("from the second call on", name, later))


def _missing() -> None:
    def add(*bug):
        _add("None for a gradient", *bug)

    add("weight", lambda x, w: x * w, lambda o, dy, x, w: (w * dy, None if o else x * dy), V, W)
    add(
        "bias",
        lambda x, b: jnp.sin(x) + b,
        lambda o, dy, x, b: (jnp.cos(x) * dy, None if o else dy),
        V,
        W,
    )
    add(
        "scalar",
        lambda x, s: x * s,
        lambda o, dy, x, s: (dy * s, None if o else (x * dy).sum()),
        V,
        X[2, 0],
    )
    add(
        "in a dict",
        lambda p: p["a"] * p["b"],
        lambda o, dy, p: ({"a": dy * p["b"], "b": None if o else dy * p["a"]},),
        {"a": V, "b": W},
    )
    add("first", lambda x, w: x * w, lambda o, dy, x, w: (None if o else w * dy, x * dy), V, W)


def _second_order() -> None:
    def add(name, function, derivative, wrong_second):
        """A custom_jvp whose derivative is right, and whose derivative's is wrong."""

        def make(off):
            slope = jax.custom_jvp(derivative)
            right = jax.grad(lambda x: derivative(x).sum())
            slope.defjvp(
                lambda primals, tangents: (
                    derivative(primals[0]),
                    (wrong_second(right(primals[0])) if off else right(primals[0])) * tangents[0],
                )
            )
            wrapped = jax.custom_jvp(function)
            wrapped.defjvp(lambda p, t: (function(p[0]), slope(p[0]) * t[0]))
            return wrapped, V

        BUGS.append(Bug("second order of custom_jvp", name, make))

    add("zero", jnp.sin, jnp.cos, jnp.zeros_like)
    add("sign", jnp.exp, jnp.exp, lambda d: -d)
    add("factor", jnp.square, lambda x: 2 * x, lambda d: 2 * d)
    add("1 %", jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, lambda d: 1.01 * d)
    add("shifted", jnp.sinh, jnp.cosh, lambda d: jnp.roll(d, 1))
    add("reversed", jnp.cos, lambda x: -jnp.sin(x), lambda d: d[::-1])
    add("constant", lambda x: x**3, lambda x: 3 * x * x, jnp.ones_like)


for _part in (
    *(_index, _conjugate, _symmetric, _branch, _size_one, _ties),
    *(_residuals, _closures, _missing, _second_order),
):
    _part()


def by_peer(check: Callable, function: Callable, args: tuple) -> bool:
    """Return whether a checker of others raises."""
    try:
        check(function, args, order=1, modes=["rev"])
    except Exception:
        return True
    return False


def main() -> int:
    """Print how many bugs of each kind each checker finds; return 1 if gradcheck is off."""
    found: Counter = Counter()
    alarms: Counter = Counter()  # Of others. Where there is one, the bug does not count as found.
    failed = []
    peers = {"check_grads": jax.test_util.check_grads, "chex": chex.assert_numerical_grads}
    columns = [(name, dtype) for name in ("gradcheck", *peers) for dtype in ("float32", "float64")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for bug in BUGS:
            print(f"{bug.kind}: {bug.name}", file=sys.stderr)
            for dtype in ("float32", "float64"):
                with jax.enable_x64(dtype == "float64"):
                    wide = {"float32": "float64", "complex64": "complex128"}
                    if dtype == "float32":
                        wide = {}
                    for wrong in (0, 1):
                        function, *args = bug.make(wrong)
                        args = jax.tree.map(
                            lambda x, w=wide: jnp.asarray(x, w.get(str(x.dtype), x.dtype)), args
                        )
                        report = gradcheck(function, *args)
                        if not (report.failures if wrong else report.ok):
                            what = "missed" if wrong else "alarm"
                            failed.append(f"{bug.kind}: {bug.name} in {dtype}: {what}: {report}")
                        if wrong:
                            found[bug.kind, "gradcheck", dtype] += bool(report.failures)
                            for name, check in peers.items():
                                bad, good = (
                                    by_peer(check, bug.make(off)[0], tuple(args)) for off in (1, 0)
                                )
                                found[bug.kind, name, dtype] += bad and not good
                                alarms[name, dtype] += good
            jax.clear_caches()
    table = Table("kind", "bugs", *("\n".join(column) for column in columns))
    kinds = Counter(bug.kind for bug in BUGS)
    for kind, count in kinds.items():
        table.add_row(kind, str(count), *(str(found[kind, *column]) for column in columns))
    table.add_section()
    totals = (sum(found[kind, *column] for kind in kinds) for column in columns)
    table.add_row("all", str(len(BUGS)), *map(str, totals))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for (name, dtype), count in alarms.items():
        console.print(f"{name} in {dtype}: {count} alarms at functions whose rule is right")
    for line in failed:
        console.print(line, markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
