"""Wrong rules of kinds that no planted bug of the ops has, each found; and their right twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import gradcheck
from tests.benchmarks.wrong_rules import BUGS as BUGS_OF_OTHERS

X = jnp.asarray(np.random.default_rng(3).standard_normal((3, 4)), jnp.float32)
CHECK = gradcheck.replace(skip=("second order", "hessian", "vmap"))


def with_rule(function, backward):
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda *args: (function(*args), args), backward)
    return wrapped


def shifted(off):
    """Index arithmetic."""

    def backward(res, dy):
        (x,) = res
        return (jnp.zeros_like(x).at[:, jnp.arange(1, 4) - off].add(dy),)

    return with_rule(lambda x: x[:, 1:], backward), X


def branched(off):
    """Wrong in one branch of a cond."""

    def backward(res, dy):
        (x,) = res
        return (jax.lax.cond(x.sum() < 99.0, lambda: (2.0 + off) * x * dy, lambda: 2.0 * x * dy),)

    return with_rule(jnp.square, backward), X


def at_size_one(off):
    def backward(res, dy):
        (x,) = res
        return (2.0 * x * dy * (1.0 + off * (x.shape[0] == 1)),)

    return with_rule(jnp.square, backward), X[:1]


def of_ties(off):
    """The largest of equal entries: autodiff shares the cotangent between them."""

    def backward(res, dy):
        (x,) = res
        first = jnp.arange(4) == jnp.argmax(x, -1, keepdims=True)
        tied = x == x.max(-1, keepdims=True)
        chosen = first if off else tied / tied.sum(-1, keepdims=True)
        return (chosen.astype(x.dtype) * dy[:, None],)

    return with_rule(lambda x: x.max(-1), backward), jnp.asarray([[1.5, 2.5, 2.5, 0.5]])


def narrow_residual(off):
    """A residual kept in half precision."""

    def backward(res, dy):
        (x,) = res
        kept = x.astype(jnp.bfloat16).astype(x.dtype) if off else x
        return (jnp.cos(kept) * dy,)

    return with_rule(jnp.sin, backward), X


def left_out(off):
    """None for a gradient."""

    def backward(res, dy):
        x, w = res
        return w * dy, None if off else (x * dy).sum(0)

    return with_rule(lambda x, w: x * w, backward), X, X[0]


def from_the_second_call_on(off):
    calls = []

    def backward(res, dy):
        calls.append(1)
        return (jnp.cos(res[0]) * dy * (1.0 + off * (len(calls) > 1)),)

    return with_rule(jnp.sin, backward), X


def of_an_earlier_call(off):
    """A value kept in a closure, that of the first call."""
    kept = []

    def forward(x):
        kept.append(np.asarray(x.shape[0] + 0.01 * off * len(kept)))
        return jnp.sin(x), x

    wrapped = jax.custom_vjp(jnp.sin)
    wrapped.defvjp(
        forward, lambda x, dy: (jnp.cos(x) * dy * (kept[-1] / x.shape[0]).astype(x.dtype),)
    )
    return wrapped, X


def of_one_sign(off):
    def backward(res, dy):
        return (jnp.cos(res[0]) * jnp.where(dy < 0, 1.0 + 0.001 * off, 1.0).astype(dy.dtype) * dy,)

    return with_rule(jnp.sin, backward), X


def summed_over_a_shorter_axis(off):
    def backward(res, dy):
        return dy, dy[:-1].sum(0) if off else dy.sum(0)

    return with_rule(lambda x, b: x + b, backward), X, X[0]


BUGS = (
    *(shifted, branched, at_size_one, of_ties, narrow_residual, left_out),
    *(from_the_second_call_on, of_an_earlier_call, of_one_sign, summed_over_a_shorter_axis),
)


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_the_bug_is_found_and_its_right_twin_passes(bug):
    with jax.numpy_dtype_promotion("standard"):
        right = CHECK(*bug(0))
        wrong = CHECK(*bug(1))
    assert right.ok, right
    assert wrong.failures, wrong


TIED = [bug for bug in BUGS_OF_OTHERS if bug.kind == "tied entries"]


@pytest.mark.slow
@pytest.mark.parametrize("bug", TIED, ids=lambda bug: bug.name)
def test_tied_entries_are_judged_in_float64_alone(bug):
    check = gradcheck.replace(only="vjp")
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(True):
        reports = []
        for off in (0, 1):
            function, *args = bug.make(off)
            reports.append(check(function, *(jnp.asarray(x, jnp.float64) for x in args)))
    right, wrong = reports
    assert right.ok, right
    assert wrong.failures, wrong


def test_further_wrong_rules_differ_from_their_right_twins_in_the_rule_alone():
    """`python -m tests.benchmarks.wrong_rules` checks them all; here one of each kind is called."""
    assert len({(bug.kind, bug.name) for bug in BUGS_OF_OTHERS}) >= 60
    for bug in {bug.kind: bug for bug in BUGS_OF_OTHERS}.values():
        with jax.numpy_dtype_promotion("standard"):
            (right, *args), (wrong, *_) = bug.make(0), bug.make(1)
            pairs = zip(*(jax.tree.leaves(f(*args)) for f in (right, wrong)), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)
