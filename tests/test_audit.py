import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxnets import audit, gradcheck, ops

X = jnp.asarray(np.random.default_rng(3).standard_normal((5, 4)), jnp.float32)
FAST = gradcheck.replace(only=("vjp",), dtypes=("float64",))


def with_factor(factor):
    def cube(x):
        return x**3

    wrapped = jax.custom_vjp(cube)
    wrapped.defvjp(lambda x: (cube(x), x), lambda x, dy: (factor * 3.0 * x**2 * dy,))
    return wrapped


right, wrong = with_factor(1.0), with_factor(1.01)


def in_everything(f, x):
    """Inside of vmap inside of remat inside of scan inside of jit."""

    def layer(h, _):
        row = jax.checkpoint(lambda h: jax.vmap(f)(h))
        return 0.1 * row(h) + h, None

    return jax.jit(lambda x: jax.lax.scan(layer, x, None, 3)[0])(x)


def in_a_rule(f, x):
    outer = jax.custom_vjp(lambda x: jnp.sin(f(x)))
    outer.defvjp(lambda x: (jnp.sin(f(x)), x), lambda x, dy: (dy * jnp.cos(x**3) * 3 * x**2,))
    return outer(x)


DEPTHS = {
    "alone": lambda f, x: f(x),
    "jit": lambda f, x: jax.jit(f)(x),
    "everything": in_everything,
    "while": lambda f, x: jax.lax.while_loop(
        lambda s: s[0] < 2, lambda s: (s[0] + 1, f(s[1])), (0, x)
    ),
    "branch taken": lambda f, x: jax.lax.cond(x[0, 0] < 99.0, f, jnp.sin, x),
    "branch not taken": lambda f, x: jax.lax.cond(x[0, 0] > 99.0, f, jnp.sin, x),
    "a rule": in_a_rule,
    "reverse scan": lambda f, x: jax.lax.scan(lambda c, row: (c, f(row)), 0.0, x, reverse=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_wrong_rule_is_named_at_any_depth(depth):
    def program(f, x):
        return jax.tree.map(jnp.sum, DEPTHS[depth](f, x))

    assert audit(lambda x: program(right, x), X, check=FAST).ok
    found = audit(lambda x: program(wrong, x), X, check=FAST)
    assert not found.ok
    (bad,) = [rule for rule in found.rules if rule.verdict == "FAILED"]
    assert bad.name == "cube"
    assert "test_audit.py:" in bad.place
    assert "got / expected = 1.010 everywhere" in str(found)


@pytest.mark.slow
def test_a_training_loss():
    def loss(params, x, labels):
        h = ops.relu(ops.linear(x, params["w"]))
        h = ops.relu(ops.layer_norm(h, params["s"], params["b"]))
        return ops.softmax_cross_entropy(h, labels).mean()

    params = {"w": jnp.eye(4), "s": jnp.ones(4), "b": jnp.zeros(4)}
    found = audit(loss, params, X, jnp.zeros(5, jnp.int32), check=FAST)
    assert found.ok, found
    # The same rule at the same shapes is one line.
    relu = [rule for rule in found.rules if "relu" in rule.name]
    assert [rule.calls for rule in relu] == [2]
    assert len(found.rules) == 4
    table = [line for line in str(found).splitlines() if ".py:" not in line]
    assert max(map(len, table)) <= 80
    assert all(rule.costs is not None and rule.costs.explicit.seconds > 0 for rule in relu)
    content = json.loads(found.to_json())
    assert [rule["name"] for rule in content["rules"]] == [rule.name for rule in found.rules]
    assert content["rules"][0]["shapes"] == ["float32[5,4]", "float32[4,4]"]


@pytest.mark.slow
def test_the_values_that_reach_a_rule_are_those_it_is_checked_at():
    """Wrong for negative arguments alone, of which there are none after the exponential."""
    halved = jax.custom_vjp(jnp.square)
    halved.defvjp(
        lambda x: (jnp.square(x), x), lambda x, dy: (jnp.where(x < 0, 1.0, 2.0) * x * dy,)
    )
    assert audit(lambda x: halved(jnp.exp(x)), X, check=FAST).ok
    assert not audit(lambda x: halved(x), X, check=FAST).ok


def test_a_program_without_rules():
    found = audit(jnp.sin, X)
    assert found.ok
    assert not found.rules
    assert str(found).startswith("audit sin: no hand-written gradient")


def test_a_rule_inside_of_shard_map_is_named_and_not_passed():
    mesh = jax.make_mesh(
        (1,), ("i",), (jax.sharding.AxisType.Auto,), devices=jax.devices("cpu")[:1]
    )
    spec = PartitionSpec("i")
    found = audit(
        lambda x: jax.shard_map(right, mesh=mesh, in_specs=spec, out_specs=spec)(x), X, check=FAST
    )
    assert not found.ok
    assert [(rule.name, rule.verdict) for rule in found.rules] == [("cube", "not checked")]
    assert "inside of shard_map" in str(found)


def test_a_module_is_a_program():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return wrong(self.norm(x))

    assert [rule.verdict for rule in audit(Model(), X, check=FAST).rules] == ["FAILED"]


def test_the_callers_arrays_live():
    x = X + 1.0
    audit(jax.jit(right, donate_argnums=0), x, check=FAST)
    assert not x.is_deleted()


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_rule_that_was_traced_for_one_dtype_is_checked_in_it(factor):
    """The backward casts to the dtype that x had when f was traced."""

    def f(x):
        dtype = x.dtype
        g = jax.custom_vjp(jnp.sin)
        g.defvjp(
            lambda x: (jnp.sin(x), x), lambda x, dy: ((factor * jnp.cos(x) * dy).astype(dtype),)
        )
        return g(x)

    (rule,) = audit(f, X).rules
    assert (rule.verdict == "ok") == (factor == 1.0)
    assert rule.shapes == ("float32[5,4]",)
    assert rule.calls == 1
    assert {check.dtype for check in rule.report.checks if check.status != "skipped"} == {"float32"}
