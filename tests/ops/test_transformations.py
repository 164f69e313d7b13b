"""What every op of the catalog does under JAX's transformations, and with no or wrong arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec

from jaxnets import autodiff, ops
from jaxnets._catalog import CATALOG
from tests.support import (
    assert_close,
    assert_trees_close,
    gradient,
    is_floating,
    name_of,
    normal_like,
    random_cotangents,
)

pytestmark = pytest.mark.slow

EACH = pytest.mark.parametrize("entry", CATALOG, ids=name_of)
SHAPE = (3, 4)
# Size of the terms of sums: cotangents of size 1 times derivatives, some of them 1 / p.
TERMS = 20.0


def test_the_catalog_holds_every_op():
    assert {entry.op for entry in CATALOG} == set(ops.__all__)
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)


# --- vmap, scan and remat, against a loop in Python -----------------------------------------------


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def examples_of(arguments, axes, count):
    """The arguments of each example, where axis 0 of a mapped one counts examples."""
    for i in range(count):
        yield tuple(
            a if axis is None else jax.tree.map(lambda leaf: leaf[i], a)  # noqa: B023
            for a, axis in zip(arguments, axes, strict=True)
        )


def loop(function, arguments, axes, cotangents, count):
    """Stacked outputs and gradients of one example after the other, and the gradients' sums."""
    each = [
        gradient(function, example, jax.tree.map(lambda leaf: leaf[i], cotangents))  # noqa: B023
        for i, example in enumerate(examples_of(arguments, axes, count))
    ]
    outputs, per_example = stack([out for out, _ in each]), stack([g for _, g in each])
    mapped = [
        axis is not None
        for a, axis in zip(arguments, axes, strict=True)
        for leaf in jax.tree.leaves(a)
        if is_floating(leaf)
    ]
    total = [g if m else g.sum(0) for g, m in zip(per_example, mapped, strict=True)]
    return outputs, per_example, total


def draw(entry, rng, count=3):
    samples = [entry.sample(rng, SHAPE, jnp.float64) for _ in range(count)]
    return samples[0], stack(samples)


def mixed(single, stacked, axes):
    pairs = zip(single, stacked, axes, strict=True)
    return tuple(one if axis is None else many for one, many, axis in pairs)


@EACH
def test_vmap(entry, rng, x64):
    """Of each argument alone and of all together: vjp of vmap, and vmap of vjp."""
    single, stacked = draw(entry, rng)
    number = len(single)
    alone = [tuple(0 if i == j else None for j in range(number)) for i in range(number)]
    for axes in dict.fromkeys([*alone, (0,) * number]):
        arguments = mixed(single, stacked, axes)
        mapped = jax.vmap(entry.function, axes)
        cotangents = random_cotangents(rng, mapped, arguments)
        outputs, per_example, total = loop(entry.function, arguments, axes, cotangents, 3)
        check = functools.partial(assert_trees_close, length=50, terms=TERMS)
        got = gradient(mapped, arguments, cotangents)
        check(got, (outputs, total), what=f"vjp of vmap {axes}")
        one = functools.partial(gradient, entry.function)
        got = jax.jit(jax.vmap(one, (axes, 0)))(arguments, cotangents)
        check(got, (outputs, per_example), what=f"vmap of vjp {axes}")


@EACH
@pytest.mark.parametrize("remat", [False, True], ids=["scan", "remat_in_scan"])
def test_scan(entry, remat, rng, x64):
    single, stacked = draw(entry, rng)
    axes = (0,) + (None,) * (len(single) - 1)
    arguments = mixed(single, stacked, axes)
    body = jax.checkpoint(entry.function) if remat else entry.function

    def scanned(xs, *rest):
        return jax.lax.scan(lambda carry, x: (carry, body(x, *rest)), None, xs)[1]

    cotangents = random_cotangents(rng, scanned, arguments)
    outputs, _, total = loop(entry.function, arguments, axes, cotangents, 3)
    got = gradient(scanned, arguments, cotangents)
    assert_trees_close(got, (outputs, total), 50, terms=TERMS)


# --- second order ---------------------------------------------------------------------------------


@EACH
def test_hessian(entry, rng, x64):
    """Forward over reverse, also under vmap, and reverse over reverse: autodiff's."""
    sample = entry.sample(rng, SHAPE, jnp.float64)
    leaves, structure = jax.tree.flatten(sample)
    flat, unravel = ravel_pytree([leaf for leaf in leaves if is_floating(leaf)])
    weights = random_cotangents(rng, entry.function, sample)

    def scalar(function, flat):
        floating = iter(unravel(flat))
        arguments = [next(floating) if is_floating(leaf) else leaf for leaf in leaves]
        outputs = function(*structure.unflatten(arguments))
        # The square makes a linear op's second derivative another than 0.
        terms = jax.tree.map(lambda w, y: jnp.sum(w * y + y**2 / 2), weights, outputs)
        return sum(jax.tree.leaves(terms))

    explicit = functools.partial(scalar, entry.function)
    plain = functools.partial(scalar, autodiff(entry.function))
    direction = jnp.asarray(rng.standard_normal(flat.shape))

    @jax.jit
    def second_order(points):
        return (
            jax.vmap(jax.hessian(explicit))(points),
            jax.vmap(jax.hessian(plain))(points),
            jax.grad(lambda v: jnp.vdot(jax.grad(explicit)(v), direction))(points[0]),
        )

    points = jnp.stack([flat, flat * 1.01])
    hessian, expected, product = second_order(points)
    size = float(jnp.abs(expected).max())
    if entry.op != "dropout":
        assert size > 0.0
    assert_close(hessian, expected, jnp.float64, flat.size, terms=10 * size + TERMS)
    expected = np.asarray(expected[0]) @ np.asarray(direction)
    assert_close(product, expected, jnp.float64, flat.size, terms=10 * size + TERMS)


# --- rank promotion -------------------------------------------------------------------------------


@EACH
def test_no_rank_is_promoted(entry, rng, x64):
    """Forward, backward, second order and vmap, also where all but [C] has several axes."""

    def everything(arguments, cotangents):
        positions = [i for i, a in enumerate(arguments) if is_floating(jax.tree.leaves(a)[0])]

        def pull_back(*floats):
            filled = list(arguments)
            for i, value in zip(positions, floats, strict=True):
                filled[i] = value
            outputs, pull = jax.vjp(entry.function, *filled)
            gradients = pull(cotangents)
            return outputs, [gradients[i] for i in positions]

        floats = [arguments[i] for i in positions]
        _, second = jax.vjp(pull_back, *floats)
        once = pull_back(*floats)
        return once, second(once)

    arguments = entry.sample(rng, (2, 3, 4), jnp.float64)
    cotangents = random_cotangents(rng, entry.function, arguments)
    expected = jax.jit(everything)(arguments, cotangents)
    batch = jax.tree.map(lambda a: a[None], (arguments, cotangents))
    with jax.numpy_rank_promotion("raise"):
        got = jax.jit(everything)(arguments, cotangents)
        mapped = jax.jit(jax.vmap(everything))(*batch)
    assert_trees_close(got, expected, 50, terms=TERMS**2)
    assert_trees_close(jax.tree.map(lambda a: a[0], mapped), expected, 50, terms=TERMS**2)


# --- sharding -------------------------------------------------------------------------------------

DEVICES = 4
BATCH = 2 * DEVICES


def spec_of(leaf):
    """The batch is sharded, and all that has none lies whole on each device."""
    sharded = leaf.ndim > 0 and leaf.shape[0] == BATCH
    return PartitionSpec("batch") if sharded else PartitionSpec()


def place(tree, mesh):
    return jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec_of(a))), tree)


@EACH
def test_explicit_mesh(entry, explicit_mesh, rng, x64):
    """A gradient lies where its input lies, and is that of one device."""
    arguments = entry.sample(rng, (BATCH, 3), jnp.float64)
    cotangents = random_cotangents(rng, entry.function, arguments)
    expected = gradient(entry.function, arguments, cotangents)
    with jax.set_mesh(explicit_mesh):
        placed, placed_cotangents = place((arguments, cotangents), explicit_mesh)
        got = gradient(entry.function, placed, placed_cotangents)
    assert_trees_close(got, expected, 50, terms=TERMS)
    inputs = [leaf for leaf in jax.tree.leaves(placed) if is_floating(leaf)]
    for dx, x in zip(got[1], inputs, strict=True):
        assert dx.sharding.is_equivalent_to(x.sharding, x.ndim)


@EACH
def test_shard_map(entry, auto_mesh, rng, x64):
    """Each shard is a batch of its own; what all shards share gets the sum of their gradients."""
    arguments = entry.sample(rng, (BATCH, 3), jnp.float64)
    specs = jax.tree.map(spec_of, arguments)
    axes = jax.tree.map(lambda leaf: 0 if spec_of(leaf) else None, arguments)
    rows = jax.tree.map(
        lambda a: a.reshape(DEVICES, -1, *a.shape[1:]) if spec_of(a) else a, arguments
    )
    cotangents = random_cotangents(rng, jax.vmap(entry.function, axes), rows)
    outputs, gradients = gradient(autodiff(jax.vmap(entry.function, axes)), rows, cotangents)
    inputs = [leaf for leaf in jax.tree.leaves(arguments) if is_floating(leaf)]
    gradients = [g.reshape(x.shape) for g, x in zip(gradients, inputs, strict=True)]

    def on_a_shard(*arguments):
        return jax.tree.map(lambda y: y[None], entry.function(*arguments))

    shard_map = functools.partial(jax.shard_map, mesh=auto_mesh)
    batch = PartitionSpec("batch")
    outside = shard_map(on_a_shard, in_specs=specs, out_specs=batch)
    inside = shard_map(
        functools.partial(gradient, on_a_shard),
        in_specs=(specs, batch),
        out_specs=(batch, [spec_of(x) for x in inputs]),
    )
    placed, placed_cotangents = place(arguments, auto_mesh), place(cotangents, auto_mesh)
    got = gradient(outside, placed, placed_cotangents)
    assert_trees_close(got, (outputs, gradients), 50, terms=TERMS, what="vjp of shard_map")
    for dx, x in zip(got[1], inputs, strict=True):
        assert dx.sharding.is_equivalent_to(NamedSharding(auto_mesh, spec_of(x)), x.ndim)
    got = jax.jit(inside)(placed, placed_cotangents)
    assert_trees_close(got, (outputs, gradients), 50, terms=TERMS, what="vjp in shard_map")


# --- no and wrong arguments -----------------------------------------------------------------------


@pytest.mark.parametrize("entry", [e for e in CATALOG if e.variant != "axis 0"], ids=name_of)
def test_empty_batch(entry, dtype, rng):
    """No example, no loss, and no gradient to the parameters."""
    arguments = entry.sample(rng, (0, 3), dtype)
    cotangents = random_cotangents(rng, entry.function, arguments)
    outputs, gradients = gradient(entry.function, arguments, cotangents)
    inputs = [leaf for leaf in jax.tree.leaves(arguments) if is_floating(leaf)]
    for x, dx in zip(inputs, gradients, strict=True):
        assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
        if entry.op != "l2_penalty":  # The gradient of its bias is another than 0.
            assert (dx == 0).all()
    first = jax.tree.leaves(outputs)[0]
    assert first.shape[:1] == (() if entry.op == "l2_penalty" else (0,))
    assert all(jnp.isfinite(y).all() for y in jax.tree.leaves(outputs))


# What an op calls its first argument, where that is not x.
FIRST = {
    "cross_entropy": "probs",
    "huber": "predictions",
    "embedding": "table",
    "l2_penalty": "params",
    "sigmoid_cross_entropy": "logits",
    "softmax_cross_entropy": "logits",
    "squared_error": "predictions",
}


@EACH
@pytest.mark.parametrize("wrong", ["int32", "bool", "complex64", "uint32"])
def test_dtype_that_is_not_floating(entry, wrong):
    first, *rest = entry.sample(np.random.default_rng(0), SHAPE, jnp.float32)
    first = jax.tree.map(lambda a: jnp.zeros(a.shape, wrong), first)
    match = rf"^{FIRST.get(entry.op, 'x')}.* must have a floating dtype.*; got {wrong}\["
    with pytest.raises(TypeError, match=match):
        entry.function(first, *rest)


@EACH
def test_eager_jit_and_numpy_agree(entry, rng):
    """Outside of jit each primitive rounds by itself: a few roundings, of the terms of sums."""
    arguments = entry.sample(rng, SHAPE, jnp.float32)
    eager, compiled = entry.function(*arguments), jax.jit(entry.function)(*arguments)
    others = [compiled]
    if entry.op != "dropout":  # A key is no NumPy array.
        others.append(entry.function(*jax.tree.map(np.asarray, arguments)))
    for other in others:
        for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(other), strict=True):
            assert_close(a, b, b.dtype, 12, terms=3.0, rounded=3.0)


def test_normal_like_draws_what_it_is_asked_for(rng):
    drawn = normal_like(rng, {"a": jax.ShapeDtypeStruct((1000,), jnp.bfloat16)})["a"]
    assert (drawn.shape, drawn.dtype) == ((1000,), jnp.bfloat16)
    assert 0.9 < float(drawn.astype(jnp.float32).std()) < 1.1
