"""Modules of Flax and Equinox as layers: their numbers, their state, and many at once."""

import functools
import subprocess
import sys

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.adapters import (
    _call_equinox,
    _kind,
    _mode,
    _name,
    _plain,
    from_equinox,
    from_linen,
    from_nnx,
)
from jaxnets.layers import adapted, serial

pytestmark = pytest.mark.slow

KEY, OTHER = jax.random.key(3), jax.random.key(4)
X = jax.random.normal(jax.random.key(5), (6, 5))


class Linen(nn.Module):
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(4)(x))
        return nn.Dense(3)(nn.Dropout(self.rate, deterministic=not train)(nn.relu(x)))


class Nnx(nnx.Module):
    def __init__(self, rate=0.5, *, rngs):
        self.first = nnx.Linear(5, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.last = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


class Equinox(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, rate=0.5, *, key):
        first, last = jax.random.split(key)
        self.first = eqx.nn.Linear(5, 4, key=first)
        self.norm = eqx.nn.BatchNorm(4, axis_name="batch", momentum=0.5, mode="ema")
        self.dropout = eqx.nn.Dropout(rate)
        self.last = eqx.nn.Linear(4, 3, key=last)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.first(x), state)
        return self.last(self.dropout(jax.nn.relu(x), key=key)), state


LAYERS = {
    "linen": lambda *rate: from_linen(Linen(*rate)),
    "nnx": lambda *rate: from_nnx(Nnx, *rate),
    "equinox": lambda *rate: from_equinox(Equinox, *rate),
}
all_libraries = pytest.mark.parametrize("library", LAYERS)


def long_linen(module):
    """The adapter that a user of `adapted` writes."""

    def init(key, x):
        variables = module.init(key, x, False)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def apply(params, state, x, key, training):
        y, state = module.apply(
            {"params": params, **state}, x, training,
            rngs={"dropout": key} if training else {}, mutable="batch_stats",
        )  # fmt: skip
        return y, state

    return adapted("Linen", init, apply)


def long_nnx(*rate):
    def split(key):
        return nnx.split(Nnx(*rate, rngs=nnx.Rngs(key)), nnx.Param, ...)

    def apply(params, state, x, key, training):
        model = nnx.merge(split(jax.random.key(0))[0], params, state, copy=True)
        model.train() if training else model.eval()
        return model(x), nnx.state(model, nnx.Not(nnx.Param))

    return adapted("NNX", lambda key, x: split(key)[1:], apply)


def long_equinox(*rate):
    """By Equinox's own examples."""

    def init(key, x):
        model, state = eqx.nn.make_with_state(Equinox)(*rate, key=key)
        return eqx.filter(model, eqx.is_inexact_array), jax.tree.leaves(state)

    def apply(params, state, x, key, training):
        model, fresh = eqx.nn.make_with_state(Equinox)(*rate, key=KEY)
        model = eqx.combine(params, model)
        state = jax.tree.unflatten(jax.tree.structure(fresh), state)
        if training:
            keys = jax.random.split(key, len(x))
            y, state = jax.vmap(
                lambda x, key, state: model(x, state, key=key),
                in_axes=(0, 0, None), out_axes=(0, None), axis_name="batch",
            )(x, keys, state)  # fmt: skip
        else:
            model = eqx.nn.inference_mode(model)
            y, state = jax.vmap(
                model, in_axes=(0, None), out_axes=(0, None), axis_name="batch"
            )(x, state)  # fmt: skip
        return y, jax.tree.leaves(state)

    return adapted("Equinox", init, apply)


LONG = {"linen": lambda: long_linen(Linen()), "nnx": long_nnx, "equinox": long_equinox}


def trained(layer, key=KEY, steps=3):
    """Train a layer a few steps; return what it learned, and its outputs in evaluation."""
    params, state, shape = layer.init(key, (5,))
    assert shape == (3,)

    @jax.jit
    def step(params, state, key):
        def loss(params):
            y, after = layer.apply(params, state, X, key=key, training=True)
            return jnp.mean((y - 1) ** 2), after

        gradient, after = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), after

    for number in range(steps):
        params, state = step(params, state, jax.random.fold_in(OTHER, number))
    return params, state, layer.apply(params, state, X)[0]


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


@all_libraries
def test_it_trains_as_the_long_adapter_of_its_library_does(library):
    same(trained(LAYERS[library]()), trained(LONG[library]()))


@all_libraries
def test_training_moves_the_statistics_and_drops_and_evaluation_does_neither(library):
    layer = LAYERS[library]()
    params, state, _ = layer.init(KEY, (5,))
    y, after = layer.apply(params, state, X)
    again, _ = layer.apply(params, state, X)
    same((y, after), (again, state))
    dropped, moved = layer.apply(params, state, X, key=KEY, training=True)
    assert not np.allclose(dropped, y)
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True)
        if jnp.issubdtype(a.dtype, jnp.floating)
    ]
    assert changed
    assert all(changed[-2:])  # Mean and variance.
    without = LAYERS[library](0.0)
    kept, _ = without.apply(params, state, X, key=KEY, training=True)
    assert not np.allclose(dropped, kept)


@all_libraries
def test_many_networks_train_as_each_alone(library):
    keys = jax.random.split(KEY, 3)
    layer = LAYERS[library]()
    train = jax.jit(functools.partial(trained, layer))
    together = jax.jit(jax.vmap(train))(keys)
    for number, key in enumerate(keys):
        alone = train(key)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(a[number], b, rtol=2e-5, atol=2e-6)


def test_a_number_of_an_equinox_module_is_no_parameter_where_it_is_traced():
    """As an array it would be learned, or shrunk by weight decay."""

    class Scaled(eqx.Module):
        linear: eqx.nn.Linear
        dropout: eqx.nn.Dropout
        kept: float

        def __init__(self, width, *, rate, key):
            self.linear = eqx.nn.Linear(5, width, key=key)
            self.dropout = eqx.nn.Dropout(rate)
            self.kept = 1 - rate

        def __call__(self, x, *, key=None):
            return self.kept * self.dropout(self.linear(x), key=key)

    def learned(rate):
        layer = from_equinox(Scaled, 3, rate=rate)
        params, state, _ = layer.init(KEY, (5,))
        return params, layer.apply(params, state, X, key=KEY, training=True)[0]

    plain = learned(0.25)
    assert [leaf.shape for leaf in jax.tree.leaves(plain[0])] == [(3, 5), (3,)]
    same(plain, learned(jnp.float32(0.25)))
    traced = jax.jit(learned)(0.25)
    same(plain[0], traced[0])
    np.testing.assert_allclose(plain[1], traced[1], rtol=1e-6)


def test_streams_and_collections_of_linen_of_other_names():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic):
            count = self.variable("counts", "calls", lambda: jnp.zeros((), jnp.int32))
            if not deterministic:
                count.value += 1
                x += jax.random.normal(self.make_rng("noise"), x.shape)
            return nn.Dense(2)(x)

    layer = from_linen(Noisy())
    params, state, _ = layer.init(KEY, (5,))
    y, after = layer.apply(params, state, X, key=KEY, training=True)
    assert (state["counts"]["calls"], after["counts"]["calls"]) == (0, 1)
    same(layer.apply(params, after, X)[1], after)
    assert not np.allclose(y, layer.apply(params, after, X)[0])


def test_they_are_parts_of_larger_networks():
    net = serial(
        from_linen(nn.Dense(4)), from_equinox(eqx.nn.Linear, 4, 3), from_nnx(nnx.Linear, 3, 2)
    )
    params, state, shape = net.init(KEY, (5,))
    assert shape == (2,)
    assert net.apply(params, state, X)[0].shape == (6, 2)


WRONG = [
    (lambda: from_linen(Linen), "from_linen: must be a module of flax.linen, such as from_linen("
     "Net(width, classes)); got the class Linen itself"),
    (lambda: from_linen(3), "got an int"),
    (lambda: from_linen(eqx.nn.Linear(1, 1, key=KEY)), "got a Linear, which is for from_equinox"),
    (lambda: from_nnx(Nnx(rngs=nnx.Rngs(0))), "from_nnx: must be a class, such as in from_nnx(Net, "
     "width, classes); got a Nnx, whose parameters are drawn already, the same ones for every "
     "seed"),
    (lambda: from_nnx(Linen()), "got a Linen, which is for from_linen"),
    (lambda: from_nnx(None), "got a NoneType"),
    (lambda: from_nnx(lambda rngs: 3).init(KEY, (5,)), "from_nnx: must make a module of flax.nnx; "
     "got an int"),
    (lambda: from_equinox(eqx.nn.Linear(1, 1, key=KEY)), "got a Linear, whose "),
    (lambda: from_equinox(lambda key: Linen()).init(KEY, (5,)), "from_equinox: must make a module "
     "of Equinox; got a Linen, which is for from_linen"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_is_no_module_is_refused_in_one_line(make, said):
    with pytest.raises(TypeError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_library_is_imported_before_it_is_needed():
    code = "import sys, jaxnets.adapters; print({'flax', 'equinox'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- small parts ---------------------------------------------------------------------------------


def test_a_number_that_is_traced_is_no_parameter():
    """Nor is one that is a scalar array; arrays with axes, and whole numbers, stay."""
    weights, count = jnp.ones(3), jnp.int32(7)
    found = _plain({"rate": jnp.float32(0.25), "weights": weights, "count": count, "width": 8})
    assert isinstance(found["rate"], float)
    assert found["weights"] is weights
    assert found["count"] is count
    assert found["width"] == 8


def calls(**parameters):
    """A module whose call has these parameters beside x; it returns what it was given."""
    scope = {}
    listed = ", ".join(f"{n}={d}" if d else n for n, d in parameters.items())
    exec(f"def __call__(self, x, {listed}): return 'y', dict(locals())", scope)
    return type("Module", (), {"__call__": scope["__call__"]})()


def test_a_module_of_equinox_is_given_what_its_call_has():
    y, after = _call_equinox(calls(state="", key=""), "x", "key", ["state"])
    assert (y, after["state"], after["key"]) == ("y", ["state"], "key")
    # A module such as a sequence has a default for no state: it is given where there is some.
    optional = calls(state="None", key="None")
    assert _call_equinox(optional, "x", "key", [1])[1]["state"] == [1]
    (y, given), after = _call_equinox(optional, "x", "key", [])
    assert (given["state"], given["key"], after) == (None, "key", [])
    # One without either is given neither.
    (y, given), after = _call_equinox(calls(other="5"), "x", "key", [1])
    assert (given["other"], after) == (5, [1])
    assert "key" not in given


@pytest.mark.parametrize(
    ("listed", "training", "expected"),
    [
        ({"train": ""}, True, {"train": True}),
        ({"training": ""}, False, {"training": False}),
        ({"is_training": ""}, True, {"is_training": True}),
        ({"deterministic": ""}, True, {"deterministic": False}),
        ({"use_running_average": ""}, False, {"use_running_average": True}),
        ({"train": "", "deterministic": ""}, True, {"train": True, "deterministic": False}),
        ({"mode": ""}, True, {}),
    ],
)
def test_a_module_is_told_whether_it_trains_by_the_name_it_has_for_it(listed, training, expected):
    assert _mode(type(calls(**listed)).__call__, training) == expected


def test_what_something_is_has_an_article():
    assert [_kind(of) for of in (5, 0.5, int, [], nnx)] == [
        "an int", "a float", "the class int itself", "a list", "a module"
    ]  # fmt: skip
    assert [_name(of) for of in (nnx.Linear, lambda: 5, functools.partial(int))] == [
        "Linear", "module", "module"
    ]  # fmt: skip


def test_a_module_of_linen_has_random_streams_in_training_with_a_key_alone():
    class Streams(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return x + sum(self.has_rng(name) for name in ("dropout", "params"))

    layer = from_linen(Streams())
    params, state, _ = layer.init(KEY, (5,))
    for key, training, streams in ((KEY, True, 2), (KEY, False, 0), (None, True, 0)):
        y, _ = layer.apply(params, state, jnp.zeros((2, 5)), key=key, training=training)
        np.testing.assert_array_equal(y, streams)
