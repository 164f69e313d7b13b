"""A function that is checked again is not traced anew, unless it has become another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import gradcheck
from jaxnets._checking import programs

pytestmark = pytest.mark.slow

X = jnp.asarray([0.5, -1.0, 2.0])


def forward(x, w):
    return jnp.sin(x) * w, (x, w)


def right(res, dy):
    x, w = res
    return jnp.cos(x) * w * dy, jnp.sin(x) * dy


def without_w(res, dy):
    x, _ = res
    return jnp.cos(x) * dy, jnp.sin(x) * dy


@pytest.fixture
def product():
    wrapped = jax.custom_vjp(lambda x, w: jnp.sin(x) * w)
    wrapped.defvjp(forward, right)
    return wrapped


def test_a_second_check_compiles_and_lowers_nothing(product, monkeypatch):
    assert gradcheck(product, X, X + 3).ok

    def forbidden(*_):
        raise AssertionError("lowered again")

    monkeypatch.setattr(programs, "compiled", forbidden)
    assert gradcheck(product, X, X + 3).ok


def test_a_rule_that_was_defined_again_is_checked_again(product):
    assert gradcheck(product, X, X + 3).ok
    product.defvjp(forward, without_w)
    assert not gradcheck(product, X, X + 3).ok
    product.defvjp(forward, right)
    assert gradcheck(product, X, X + 3).ok


def test_other_labels_are_another_program():
    wrong_for_two = jax.custom_vjp(lambda x, k: x[k])
    wrong_for_two.defvjp(
        lambda x, k: (x[k], (x, k)),
        lambda res, dy: (
            jnp.zeros_like(res[0]).at[jnp.where(res[1] == 2, 0, res[1])].add(dy),
            None,
        ),
    )
    assert gradcheck(wrong_for_two, X, jnp.asarray(1)).ok
    assert not gradcheck(wrong_for_two, X, jnp.asarray(2)).ok


def test_a_program_that_ignores_its_arguments_is_not_that_of_other_shapes():
    """The second derivative of a bend is 0, whatever the cotangent's shape."""
    check = gradcheck.replace(only="second order")
    for bend in (lambda x: jnp.minimum(x, 1.5), lambda x: jnp.minimum(x, 1.5).sum()):
        report = check(bend, X)
        assert {one.status for one in report.checks} == {"passed"}, report


def test_a_value_that_f_closes_over_is_another_program():
    scale = [1.0]
    wrapped = jax.custom_vjp(jnp.sin)
    wrapped.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (scale[0] * jnp.cos(x) * dy,))
    assert gradcheck(wrapped, X).ok
    scale[0] = 1.01
    assert not gradcheck(wrapped, X).ok


def test_a_missing_term_is_said_to_depend_on_its_argument(product):
    product.defvjp(forward, without_w)
    report = str(gradcheck.replace(only="vjp")(product, X, X + 3))
    assert "a term is missing that depends on w" in report


def test_an_error_is_said_to_vanish_with_its_argument():
    wrapped = jax.custom_vjp(lambda x, w: jnp.sin(x) + x * x * w)
    wrapped.defvjp(
        lambda x, w: (jnp.sin(x) + x * x * w, (x, w)),
        lambda res, dy: ((jnp.cos(res[0]) + res[0] * res[1]) * dy, res[0] ** 2 * dy),
    )
    report = str(gradcheck.replace(only="vjp")(wrapped, X, X + 3))
    assert "no error where w is 0" in report
    assert "a term is missing" not in report


def counted(first_wrong):
    """Return a function whose rule is wrong from its n-th call on, and the list of the calls."""
    calls = []

    def backward(res, dy):
        calls.append(1)
        (x,) = res
        return (jnp.cos(x) * dy * (1.01 if len(calls) >= first_wrong else 1.0),)

    wrapped = jax.custom_vjp(jnp.sin)
    wrapped.defvjp(lambda x: (jnp.sin(x), (x,)), backward)
    return wrapped, calls


def test_a_rule_that_is_checked_again_is_traced_twice_in_each_dtype_and_for_the_differences():
    assert gradcheck(counted(99)[0], X).ok
    again, calls = counted(99)
    assert gradcheck(again, X).ok
    assert len(calls) == 5


@pytest.mark.parametrize("first_wrong", range(1, 6))
def test_a_rule_that_becomes_wrong_in_any_of_its_traces_is_found(first_wrong):
    assert gradcheck(counted(99)[0], X).ok
    assert not gradcheck(counted(first_wrong)[0], X).ok


def test_programs_that_differ_in_a_callback_alone():
    """Their texts are the same."""

    def of(host):
        def f(x):
            return jax.pure_callback(host, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

        return f

    x = jnp.asarray([0.5, -1.0, 2.0])
    for host in (np.sin, np.cos):
        rule = jax.custom_vjp(of(host))
        rule.defvjp(lambda x, host=host: (of(host)(x), x), lambda x, dy: (jnp.cos(x) * dy,))
        report = gradcheck.replace(skip=("second order", "hessian", "vmap"))(rule, x)
        assert report.ok == (host is np.sin), report
