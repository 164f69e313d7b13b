import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.engine.hyperparameters import Hyper, hyperparameters, stack
from train.engine.optimizers import OPTIMIZERS, Schedule, optimizer
from train.flags.config import Training

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


CONSTANT = Schedule()

# As a person writes them, with numbers where `OPTIMIZERS` has tracers.
BY_HAND = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.8),
    "nesterov": optax.sgd(0.1, momentum=0.8, nesterov=True),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.3),
    "nadam": optax.nadam(0.1),
    "nadamw": optax.nadamw(0.1, weight_decay=0.3),
    "adamax": optax.adamax(0.1),
    "amsgrad": optax.amsgrad(0.1),
    "radam": optax.radam(0.1),
    "adabelief": optax.adabelief(0.1),
    "yogi": optax.yogi(0.1),
    "novograd": optax.novograd(0.1),
    "rmsprop": optax.rmsprop(0.1, decay=0.9),
    "adadelta": optax.adadelta(0.1),
    "adagrad": optax.adagrad(0.1),
    "adafactor": optax.adafactor(0.1),
    "lion": optax.lion(0.1, weight_decay=0.3),
    "muon": optax.contrib.muon(0.1, weight_decay=0.3, adam_weight_decay=0.3),
    "lamb": optax.lamb(0.1, weight_decay=0.3),
    "lars": optax.lars(0.1, weight_decay=0.3, momentum=0.8),
    "sign_sgd": optax.sign_sgd(0.1),
}


def tree(seed):
    rng = np.random.default_rng(seed)
    return {"weight": jnp.float32(rng.normal(size=(3, 4))), "bias": jnp.float32(rng.normal(size=4))}


def trained(rule, steps=3):
    """The parameters after some steps with the gradients of trees 1, 2, 3, ..."""
    params = tree(0)
    moments = rule(0).init(params)
    for step in range(steps):
        updates, moments = rule(step).update(tree(step + 1), moments, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_rule_takes_its_numbers_as_data(name):
    """Two runs in lockstep, the second of which must be the rule with numbers written by hand."""
    numbers = {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.3}
    hypers = [hyperparameters({**numbers, "learning_rate": rate}) for rate in (0.02, 0.1)]

    @jax.jit
    @jax.vmap
    def run(hyper):
        return trained(lambda step: optimizer(name, CONSTANT, hyper, jnp.int32(step)))

    found = jax.tree.map(lambda a: a[1], run(stack(hypers)))
    expected = jax.jit(lambda: trained(lambda step: BY_HAND[name]))()
    for leaf, other, start in zip(*map(jax.tree.leaves, (found, expected, tree(0))), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=2e-4, atol=1e-6)
        assert np.abs(leaf - start).max() > 1e-6


def factors(schedule, steps, decay=None):
    decay = None if decay is None else jnp.float32(decay)

    def factor(step):
        return jnp.float32(schedule.factor(step, decay))

    return np.asarray(jax.vmap(factor)(jnp.arange(steps, dtype=jnp.int32)))


def test_schedules():
    np.testing.assert_array_equal(factors(CONSTANT, 3), 1)
    for kind in ("exponential", "step"):
        found = factors(Schedule(kind, period=2), 6, 0.5)
        np.testing.assert_allclose(found, [1, 1, 0.5, 0.5, 0.25, 0.25])
    cosine = factors(Schedule("cosine", steps=4), 5)
    np.testing.assert_allclose(cosine, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0], atol=1e-7)
    cycle = factors(Schedule("one-cycle", steps=100), 101)
    assert cycle.argmax() == 30
    np.testing.assert_allclose(cycle[[0, 30, 100]], [1 / 25, 1, 1 / 25e4], rtol=1e-3)
    assert (np.diff(cycle[:31]) > 0).all()
    assert (np.diff(cycle[30:]) < 0).all()


def expected_factors(schedule, steps):
    return jax.vmap(lambda step: jnp.float32(schedule(step)))(jnp.arange(steps))


@pytest.mark.parametrize("warmup", [1, 2, 7, 29])
@pytest.mark.parametrize("kind", ["constant", "exponential", "step", "cosine"])
def test_the_decay_follows_the_warm_up(kind, warmup):
    """As optax joins the two; the first step has a rate above 0."""
    steps, period, decay = 31, 3, 0.5
    decays = {
        "constant": optax.constant_schedule(1.0),
        "exponential": optax.exponential_decay(1.0, period, decay, staircase=True),
        "step": optax.exponential_decay(1.0, period, decay, staircase=True),
        "cosine": optax.cosine_decay_schedule(1.0, steps - warmup),
    }
    rise = optax.linear_schedule(1 / warmup, 1.0, warmup - 1) if warmup > 1 else lambda step: 1.0
    expected = optax.join_schedules([rise, decays[kind]], [warmup])
    found = factors(Schedule(kind, period, steps, warmup), steps, decay)
    np.testing.assert_allclose(found, expected_factors(expected, steps), rtol=1e-5)
    assert found[warmup] == found.max() == 1


def test_cosine_after_a_warm_up_is_that_of_optax():
    steps, warmup = 50, 20
    found = factors(Schedule("cosine", steps=steps, warmup=warmup), steps)
    expected = expected_factors(optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps), steps)
    assert found[warmup] == 1
    np.testing.assert_allclose(found[warmup:], expected[warmup:], rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
def test_one_cycle_is_that_of_optax(steps):
    expected = optax.cosine_onecycle_schedule(steps, 1.0)
    found = factors(Schedule("one-cycle", steps=steps), steps)
    np.testing.assert_allclose(found, expected_factors(expected, steps), rtol=1e-5)


def test_one_cycle_rises_in_its_warm_up():
    """At every length that could be rounded to another."""
    for steps in (2, 7, 30):
        for warmup in range(1, steps):
            found = factors(Schedule("one-cycle", steps=steps, warmup=warmup), steps)
            assert found[0] == pytest.approx(1 / 25)
            assert found.argmax() == warmup
            assert found[warmup] == 1
    falling = [0.5 * (1 + np.cos(np.pi * step / 60)) for step in range(60)]
    found = factors(Schedule("one-cycle", steps=100, warmup=40), 100)[40:]
    np.testing.assert_allclose(found, falling, atol=5e-6)


@pytest.mark.parametrize("steps", [100, 1500])
def test_the_help_says_what_the_last_step_has(steps):
    text = " ".join((Training.__doc__ or "").split())
    cosine = re.search(r"cosine, from 1 towards 0, the last of N steps has about ([\d.]+)/N", text)
    cycle = re.search(
        r"one-cycle, from ([\d.]+) to 1 in the first ([\d.]+) of the steps, then towards "
        r"([\d.]+), the last of N steps has about ([\d.]+) \+ (\d+)/N",
        text,
    )
    found = {kind: factors(Schedule(kind, steps=steps), steps) for kind in ("cosine", "one-cycle")}
    assert found["cosine"][0] == 1
    assert found["cosine"][-1] == pytest.approx(float(cosine[1]) / steps**2, rel=0.03)
    first, rise, lowest, last, over = map(float, cycle.groups())
    assert found["one-cycle"][0] == pytest.approx(first)
    assert found["one-cycle"].argmax() == rise * steps
    assert lowest == last
    assert found["one-cycle"][-1] == pytest.approx(last + over / steps**2, rel=0.03)
    after = Schedule("one-cycle", steps=steps).factor(jnp.int32(steps), None)
    assert float(after) == pytest.approx(lowest)


def test_the_schedule_multiplies_the_learning_rate():
    hyper = hyperparameters({"learning_rate": 0.5, "decay": 0.1})
    schedule = Schedule("step", period=1)
    moments = optimizer("sgd", schedule, hyper, jnp.int32(0)).init(tree(0))
    for step, rate in enumerate((0.5, 0.05, 0.005)):
        updates, _ = optimizer("sgd", schedule, hyper, jnp.int32(step)).update(tree(1), moments)
        np.testing.assert_allclose(updates["bias"], -rate * tree(1)["bias"], rtol=1e-5)


@pytest.mark.parametrize(("limit", "expected"), [(0.5, 0.5), (1e3, 3.0), (np.inf, 3.0)])
def test_clipping_shortens_what_is_longer(limit, expected):
    """The norm is that of all parameters together, the direction is kept."""
    gradient = {"weight": jnp.float32([[2.0, 1.0]]), "bias": jnp.float32([2.0])}
    rule = optimizer("sgd", CONSTANT, Hyper(1.0, clip_norm=jnp.float32(limit)), jnp.int32(0))
    update, _ = rule.update(gradient, rule.init(gradient))
    for name, leaf in gradient.items():
        np.testing.assert_allclose(update[name], -leaf * expected / 3, rtol=1e-6)


def test_it_is_the_gradient_that_is_clipped():
    """Before the rule: the velocity adds up clipped gradients, and the rate is not clipped."""
    gradient = {"weight": jnp.float32([[30.0]]), "bias": jnp.float32([40.0])}
    numbers = {"learning_rate": 0.25, "momentum": 0.5, "clip_norm": 2.0}
    rule = optimizer("momentum", CONSTANT, hyperparameters(numbers), jnp.int32(0))
    moments = rule.init(gradient)
    for velocity in (2.0, 3.0, 3.5):
        update, moments = rule.update(gradient, moments)
        np.testing.assert_allclose(update["weight"], [[-0.25 * velocity * 0.6]], rtol=1e-5)
        np.testing.assert_allclose(update["bias"], [-0.25 * velocity * 0.8], rtol=1e-5)
