"""Numbers as data, keys, and what is kept: the small parts of the engine."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import nets
from jaxnets.layers import Layer
from train.custom_network import run_kind
from train.engine import compiled, dry_run, memory
from train.engine.hyperparameters import hyperparameters, of_run, stack
from train.engine.input_pipeline import Data
from train.engine.memory import Fitting
from train.engine.optimizers import Schedule
from train.engine.program import make_program
from train.flags.config import MlpRun, replaced


def test_a_number_without_effect_is_none():
    flags = {"learning_rate": 0.5, "l2": 0.0, "clip_norm": math.inf, "dropout": 0.25}
    found = hyperparameters(flags)
    assert (found.learning_rate, found.dropout) == (0.5, 0.25)
    assert found.learning_rate.dtype == jnp.float32
    assert found.l2 is found.clip_norm is found.momentum is found.own is None


def test_a_run_without_a_number_takes_the_one_that_changes_nothing():
    """Beside a run that has it: no penalty, and no limit to the norm."""
    several = [{}, {"l2": 0.5, "clip_norm": 2.0, "momentum": 0.9}]
    found = stack([hyperparameters({"learning_rate": 0.1, **flags}) for flags in several])
    np.testing.assert_array_equal(found.learning_rate, np.float32([0.1, 0.1]))
    np.testing.assert_array_equal(found.l2, [0, 0.5])
    np.testing.assert_array_equal(found.clip_norm, [math.inf, 2])
    np.testing.assert_array_equal(found.momentum, np.float32([0, 0.9]))
    assert found.dropout is found.decay is None


def own(classes, *, width: int = 4, rate: float = 0.5, other: float | None = None):
    """A network of one's own."""


def test_of_a_network_of_ones_own_the_real_numbers_are_data():
    kind = run_kind(own).kind
    found = of_run(replaced(kind(), {"rate": 0.25, "learning_rate": 0.5}))
    assert found.own == {"rate": 0.25}
    assert found.learning_rate == 0.5
    together = stack([of_run(replaced(kind(), {"rate": rate})) for rate in (0.25, 0.75)])
    np.testing.assert_array_equal(together.own["rate"], [0.25, 0.75])
    np.testing.assert_array_equal(stack([of_run(kind())]).own["rate"], [0.5])
    assert of_run(replaced(MlpRun(), {"learning_rate": 0.5})).own is None
    assert stack([hyperparameters({"learning_rate": 0.5})]).own is None


def test_the_weights_and_the_steps_have_keys_of_their_own():
    """The first of two that are split from that of the run, and the second."""
    net = nets.mlp((3,))
    program = make_program(lambda hyper: net, (2,), "sgd")
    key = jax.random.key(7)
    first, second = jax.random.split(key)
    state = program.initialise(hyperparameters({"learning_rate": 0.1}), key)
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(second))
    weight = net.init(first, (2,))[0]
    for a, b in zip(*map(jax.tree.leaves, (state.params, weight)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert state.step == 0


def data(count):
    x = jnp.arange(4.0 * count).reshape(count, 2, 2, 1) / 8
    labels = jnp.arange(count, dtype=jnp.int32) % 2
    return Data(x, labels, jnp.zeros((2, 2, 1)), jnp.float32(1))


@pytest.mark.slow
def test_a_step_has_the_learning_rate_of_its_number(promotion):
    """Of a schedule that falls to a millionth, the first step alone counts."""
    schedule = Schedule("step", period=1)
    program = make_program(lambda hyper: nets.mlp((2,)), (2, 2, 1), "sgd", schedule=schedule)
    hyper = hyperparameters({"learning_rate": 0.5, "decay": 1e-6})
    start = program.initialise(hyper, jax.random.key(0))
    train = jax.jit(program.train_segment)
    states = [start]
    for _ in range(3):
        states.append(train(states[-1], hyper, data(4), jnp.arange(4)[None])[0])
    _, one, _, three = states
    assert (one.step, three.step) == (1, 3)
    for before, after, later in zip(
        *(jax.tree.leaves(state.params) for state in (start, one, three)), strict=True
    ):
        assert np.abs(after - before).max() > 1e-2
        np.testing.assert_allclose(later, after, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [(), ("flip",)])
def test_a_step_has_a_key_and_what_changes_the_images_another(promotion, changes):
    """The network draws from the key of the step, or from the first of two split from it."""

    def apply(params, state, x, *, key=None, training=False):
        drawn = jax.random.normal(key, (len(x),)) if training else jnp.zeros(len(x))
        return jnp.stack([drawn, jnp.zeros(len(x))], 1) + params["weight"], state

    noise = Layer("Noise", lambda key, shape: ({"weight": jnp.zeros(2)}, {}, (2,)), apply)
    program = make_program(lambda hyper: noise, (2, 2, 1), "sgd", changes=changes)
    hyper = hyperparameters({"learning_rate": 1e-30})
    state = program.initialise(hyper, jax.random.key(3))
    _, trace = jax.jit(program.train_segment)(state, hyper, data(4), jnp.zeros((3, 4), jnp.int32))
    for step, loss in enumerate(trace["loss"]):
        key = jax.random.fold_in(state.key, step)
        if changes:
            key, _ = jax.random.split(key)
        expected = jnp.log1p(jnp.exp(-jax.random.normal(key, (4,)))).mean()  # Of class 0.
        assert loss == pytest.approx(float(expected), rel=1e-5)


# --- what is kept --------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_goes_first(monkeypatch):
    monkeypatch.setattr(compiled, "MOST", 2)
    monkeypatch.setattr(compiled, "_kept", type(compiled._kept)())
    made = []

    def kept(key):
        return compiled.kept(key, lambda: made.append(key) or key)

    assert [kept(key) for key in "abab"] == list("abab")
    assert made == ["a", "b"]
    kept("a")
    kept("c")  # Now "b" has not been used for longest.
    kept("a")
    assert made == ["a", "b", "c"]
    kept("b")
    assert made == ["a", "b", "c", "b"]
    compiled.forget_all()
    kept("a")
    assert made[-1] == "a"


def test_a_function_remembers_the_most_that_a_call_allocates(monkeypatch):
    sizes = {2: 200, 3: 300}
    monkeypatch.setattr(memory, "_needed", lambda found: sizes[found.in_avals[0][0].shape[0]])
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    function = Fitting(lambda lockstep: jax.jit(lambda x: x + 1), 1, choose=False)
    assert function.bytes == 0
    for length, most in ((2, 200), (3, 300), (2, 300)):
        function(jnp.zeros(length))
        assert function.bytes == most
    function.begin_anew(function.compiling)
    assert function.bytes == 0


def test_three_segments_are_measured(monkeypatch):
    """The first compiles, the last ends the run; the quicker of the other two counts."""
    now = [0.0]
    monkeypatch.setattr(dry_run, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    class Trainer:
        seconds_in_steps = 0.0

        def train(self, ends, advance):
            assert ends == [12]
            # What passes until each evaluation, and how much of it is steps.
            for seconds, steps in ((100.0, 0.0), (27.0, 5.0), (6.0, 4.0), (12.0, 7.0)):
                yield []
                now[0] += seconds
                self.seconds_in_steps += steps
                yield ["evaluated"]

    found = dry_run._measured(Trainer(), 4)
    assert found == dry_run._Measured(
        segment=4.0, evaluation=2.0, end=3.0, compilation=20.0, others=98.0
    )
