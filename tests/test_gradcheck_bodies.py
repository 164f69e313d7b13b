"""What the checker says of bodies without reverse mode, and of arguments of other kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec

from jaxnets import gradcheck

pytestmark = pytest.mark.slow

POINT = jnp.asarray([0.5, -1.0, 2.0])
FIRST_ORDER = gradcheck.replace(skip=("second order", "hessian", "vmap"))


def with_rule(function, gradient, factor=1.0):
    """A function of one array whose backward is `factor` times the right one."""
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda x: (function(x), x), lambda x, dy: (factor * gradient(x) * dy,))
    return wrapped


def failed(report):
    return {check.name for check in report.failures}


# --- bodies ---------------------------------------------------------------------------------------


def loop(x):
    def body(state):
        return state[0] + 1, 1.5 * jnp.sin(state[1])

    return jax.lax.while_loop(lambda state: state[0] < 2, body, (0, x))[1]


def loop_slope(x):
    return 1.5 * jnp.cos(x) * 1.5 * jnp.cos(1.5 * jnp.sin(x))


def of_a_callback(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda a: np.sin(a).astype(a.dtype), shape, x)


def of_a_kernel(x):
    def kernel(x_ref, out_ref):
        out_ref[...] = jnp.sin(x_ref[...])

    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pl.pallas_call(kernel, out_shape=shape, interpret=True)(x)


@jax.custom_batching.custom_vmap
def of_custom_vmap(x):
    return jnp.sin(x)


@of_custom_vmap.def_vmap
def _(size, mapped, x):
    return jnp.sin(x), mapped[0]


def exported():
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    return jax.export.export(jax.jit(jnp.sin))(shape).call


def of_an_effect(x):
    io_callback(lambda a: None, None, x, ordered=True)
    return jnp.sin(x)


def of_a_reference(x):
    cell = jax.new_ref(jnp.zeros_like(x))
    cell[...] = jnp.sin(x)
    return cell[...]


def of_a_mesh(x):
    mesh = jax.make_mesh(
        (1,), ("i",), (jax.sharding.AxisType.Auto,), devices=jax.devices("cpu")[:1]
    )
    spec = PartitionSpec("i")
    return jax.shard_map(jnp.sin, mesh=mesh, in_specs=spec, out_specs=spec)(x)


BODIES = {
    "while_loop": (loop, loop_slope, "forward mode of the body in float64"),
    "pure_callback": (of_a_callback, jnp.cos, "central differences"),
    "pallas_call": (of_a_kernel, jnp.cos, "forward mode of the body in float64"),
    "custom_vmap": (lambda x: of_custom_vmap(x), jnp.cos, "autodiff in float64"),
    "exported": (lambda x: exported()(x), jnp.cos, "central differences"),
    "io_callback": (of_an_effect, jnp.cos, "central differences"),
    "reference": (of_a_reference, jnp.cos, "autodiff in float64"),
    "shard_map": (of_a_mesh, jnp.cos, "autodiff in float64"),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_judged_by_the_first_reference_that_works(body):
    function, slope, reference = BODIES[body]
    good = FIRST_ORDER(with_rule(function, slope), POINT)
    assert good.ok, good
    assert good.reference == reference
    wrong = FIRST_ORDER(with_rule(function, slope, 1.001), POINT)
    assert failed(wrong) <= {"vjp", "finite differences"}
    assert failed(wrong), wrong


def test_one_entry_of_many_that_is_wrong_by_a_thousandth():
    x = jnp.asarray(np.random.default_rng(5).standard_normal(30_000), jnp.float32)

    def slope(x):
        return loop_slope(x).at[777].multiply(1.001)

    check = gradcheck.replace(only=("vjp",), dtypes=("float64",))
    assert check(with_rule(loop, loop_slope), x).ok
    assert failed(check(with_rule(loop, slope), x)) == {"vjp"}


def test_second_order_of_a_body_without_reverse_mode():
    def stopped(x):
        return loop_slope(jax.lax.stop_gradient(x))

    check = gradcheck.replace(only=("vjp", "second order", "hessian"))
    good = check(with_rule(loop, loop_slope), POINT)
    assert good.ok
    done = {(c.name, c.dtype) for c in good.checks if c.status == "passed"}
    assert {("second order", "float64"), ("hessian", "float64")} <= done
    assert failed(check(with_rule(loop, stopped), POINT)) == {"second order", "hessian"}


@pytest.mark.parametrize("stop", [lambda x: x, jax.lax.stop_gradient], ids=["right", "wrong"])
def test_second_order_of_a_custom_jvp_rule(stop):
    cube = jax.custom_jvp(lambda x: x**3)
    cube.defjvp(lambda xs, dxs: (xs[0] ** 3, 3.0 * stop(xs[0]) ** 2 * dxs[0]))
    report = gradcheck.replace(only=("vjp", "second differences"))(cube, POINT)
    assert failed(report) == ({"second differences"} if stop is jax.lax.stop_gradient else set())


def test_a_function_that_looks_at_concrete_values_is_reported():
    report = gradcheck(lambda x: x**2 if float(x[0]) > 0 else -x, POINT)
    assert not report.ok
    assert not report.failures
    assert "ConcretizationTypeError" in str(report)


def test_a_function_that_raises_is_reported_with_the_place():
    def product(x):
        return x @ jnp.ones((7, 2))

    report = gradcheck(product, POINT)
    assert not report.ok
    assert "f itself raises TypeError" in str(report)
    assert "test_gradcheck_bodies.py:" in str(report)
    assert " in product)" in str(report)


# --- arguments ------------------------------------------------------------------------------------


def test_a_scalar_of_numpy_is_differentiated():
    def scaled(x, s):
        return s * x

    wrapped = jax.custom_vjp(scaled)
    wrapped.defvjp(
        lambda x, s: (s * x, (x, s)), lambda res, dy: (res[1] * dy, 1.01 * jnp.sum(res[0] * dy))
    )
    report = gradcheck.replace(only=("vjp",))(wrapped, POINT, np.float32(2.0))
    assert {check.gradient for check in report.failures} == {"s"}


def test_what_is_held_constant_is_named():
    def function(x, n, factor):
        return factor * x * n.astype(x.dtype), n

    report = gradcheck.replace(only=("vjp",))(function, POINT, jnp.asarray(2, jnp.int32), 0.5)
    assert report.ok
    assert set(report.held) == {"n (int32[])", "factor (a Python float)", "output[1] (int32)"}
    assert "held constant or not compared: " in str(report)


@pytest.mark.parametrize(
    ("backward", "right"),
    [
        (lambda z, dy: (2.0 * z * dy,), True),
        (lambda z, dy: (2.0 * jnp.conj(z) * dy,), False),
        (lambda z, dy: (2.0 * z * jnp.conj(dy),), False),
        (lambda z, dy: (2.0 * z * jnp.real(dy).astype(dy.dtype),), False),
    ],
    ids=["right", "residual conjugated", "cotangent conjugated", "imaginary part lost"],
)
def test_complex_arrays_are_checked_as_pairs(backward, right):
    square = jax.custom_vjp(lambda z: z * z)
    square.defvjp(lambda z: (z * z, z), backward)
    z = jnp.asarray([1.0 + 2.0j, 0.5 - 1.0j], jnp.complex64)
    report = gradcheck.replace(only=("vjp", "linear"))(square, z)
    assert report.ok == right
    assert {check.gradient for check in report.checks} >= {"z.real", "z.imag"}


def test_a_complex_output_beside_a_real_one():
    def both(x):
        return x**2, jnp.exp(1j * x.astype(jnp.complex64))

    def backward(x, dys):
        dx = 2.0 * x * dys[0] + jnp.real(1j * jnp.exp(1j * x) * dys[1])
        return ((1.0 + 0.01 * (jnp.abs(dys[1]).sum() > 0)) * dx,)

    wrapped = jax.custom_vjp(both)
    wrapped.defvjp(lambda x: (both(x), x), backward)
    with jax.numpy_dtype_promotion("standard"):
        assert "vjp" in failed(gradcheck.replace(only=("vjp",))(wrapped, POINT))
        assert gradcheck.replace(only=("vjp",))(both, POINT).ok


def log_determinant(a):
    factor = jax.lax.linalg.cholesky(a, symmetrize_input=False)
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor)))


@pytest.mark.parametrize("factor", [None, 1.0, 1.1])
def test_a_function_of_half_of_a_symmetric_matrix(factor):
    a = jnp.asarray([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    function = log_determinant
    if factor is not None:
        function = with_rule(log_determinant, jnp.linalg.inv, factor)
    report = gradcheck.replace(skip=("vmap",))(function, a)
    assert report.ok == (factor != 1.1), report


def test_keys_of_kind_rbg_are_not_mapped():
    def dropped(x, key):
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2.0 * x, 0.0)

    report = gradcheck.replace(only=("vjp", "vmap"))(
        dropped, jnp.ones((4, 5)), jax.random.key(0, impl="rbg")
    )
    assert report.ok, report
    skipped = {check.name for check in report.checks if check.status == "skipped"}
    assert skipped == {"vmap of key", "vmap of all"}


def test_a_keyword_called_f():
    report = gradcheck.replace(only=("vjp",))(lambda x, f: f * x, POINT, f=POINT)
    assert {check.gradient for check in report.checks} == {"x", "f"}


def test_an_nnx_module_whose_state_a_call_updates():
    nnx = pytest.importorskip("flax.nnx")
    module = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(5).standard_normal((6, 3)), jnp.float32)
    check = gradcheck.replace(only=("vjp",), wrt=("x",), dtypes=("float32",))
    assert check(lambda module, x: module(x), module, x).ok
    assert check.replace(wrt=())(module, x).ok


def test_second_order_of_a_rule_that_reads_half_of_a_symmetric_matrix():
    """Its derivatives mean something in their symmetric part alone."""

    @jax.custom_jvp
    def determinant(a):
        return a[0, 0] * a[1, 1] - a[1, 0] ** 2

    @determinant.defjvp
    def _(primals, tangents):
        (a,), (t,) = primals, tangents
        slope = t[0, 0] * a[1, 1] + t[1, 1] * a[0, 0] - a[1, 0] * (t[0, 1] + t[1, 0])
        return determinant(a), slope

    report = gradcheck(determinant, jnp.asarray([[2.0, 0.5], [0.5, 1.5]]))
    assert report.ok, report
    assert "second differences" in [c.name for c in report.checks if c.status == "passed"]


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_library_that_takes_single_precision_alone(factor):
    """In float64 it is traced, and raises when it runs."""

    def host(x):
        if x.dtype != np.float32:
            raise TypeError("float32 alone")
        return np.sin(x)

    def sine(x):
        return jax.pure_callback(host, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    report = FIRST_ORDER(with_rule(sine, jnp.cos, factor), POINT.astype(np.float32))
    assert failed(report) == (set() if factor == 1.0 else {"finite differences"})
    (skipped,) = [check for check in report.checks if check.name == "all"]
    assert (skipped.status, skipped.dtype) == ("skipped", "float64")
    assert "float32 alone" in str(report)


def test_a_backward_that_cannot_be_differentiated_is_a_warning():
    """The body can, and so there is a second order; only the rule does not have it."""

    def slope(x):
        return jax.lax.while_loop(lambda s: s[0] < 1, lambda s: (1, jnp.cos(x)), (0, x))[1]

    report = gradcheck.replace(only=("vjp", "second order"))(with_rule(jnp.sin, slope), POINT)
    assert report.ok
    assert {check.name for check in report.warnings} == {"second order"}
    assert "such as a while loop" in report.warnings[0].message


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_backward_that_hides_its_cotangent(hidden, dtype):
    """The gradient and its derivative to x are right, alone: not inside of another function."""
    reverse = jax.custom_vjp(lambda x: x[::-1])
    stop = jax.lax.stop_gradient if hidden else lambda x: x
    reverse.defvjp(lambda x: (x[::-1], None), lambda _, dy: (stop(dy)[::-1],))
    report = gradcheck.replace(dtypes=(dtype,))(reverse, POINT.astype("float32"))
    assert failed(report) == ({"second order"} if hidden else set())
    assert ("does the backward stop the gradient of the cotangent?" in str(report)) == hidden
