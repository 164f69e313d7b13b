"""Learning rate schedules of any length against the formulas of PyTorch's and Optax's docs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import few
from train.engine.optimizers import Schedule

STEPS = 64  # As many are looked at, whatever the length, so that each is compiled once.

pytestmark = pytest.mark.usefixtures("promotion")


def factors(schedule, decay=None):
    steps = jnp.arange(STEPS, dtype=jnp.int32)
    decay = None if decay is None else jnp.float32(decay)

    def factor(step):
        return jnp.float32(schedule.factor(step, decay))

    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.vmap(factor)(steps))


def cosine(start, end, share):
    """`_annealing_cos` of torch.optim.lr_scheduler.OneCycleLR."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def warmed(after, warmup):
    """LinearLR from 1 / warmup to 1, then another schedule, as SequentialLR joins them."""
    return [(t + 1) / warmup if t < warmup else after(t - warmup) for t in range(STEPS)]


@few
@given(st.sampled_from(("exponential", "step")), st.integers(1, 70), st.floats(0.05, 1.0),
       st.integers(0, 40))  # fmt: skip
def test_a_decay_is_that_of_step_lr(kind, period, decay, warmup):
    """StepLR: gamma to the power of the whole periods that are done."""
    expected = warmed(lambda t: decay ** (t // period), warmup)
    found = factors(Schedule(kind, period, warmup=warmup), decay)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-30)
    if warmup == 0:
        with jax.numpy_dtype_promotion("standard"):
            other = optax.exponential_decay(1.0, period, decay, staircase=True)(jnp.arange(STEPS))
        np.testing.assert_allclose(found, other, rtol=2e-5, atol=1e-30)


@few
@given(st.data())
def test_a_cosine_is_that_of_cosine_annealing_lr(data):
    """CosineAnnealingLR to 0: (1 + cos(pi t / T)) / 2, and 0 after T."""
    steps = data.draw(st.integers(1, 80))
    warmup = data.draw(st.integers(0, steps - 1))
    length = steps - warmup
    expected = warmed(lambda t: cosine(1, 0, min(t, length) / length), warmup)
    found = factors(Schedule("cosine", steps=steps, warmup=warmup))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found[min(steps, STEPS - 1)] < found[min(warmup, STEPS - 1)] or steps >= STEPS


@pytest.mark.slow
@few
@given(st.data())
def test_one_cycle_is_that_of_one_cycle_lr(data):
    """OneCycleLR from 1/25 to 1 to 1/250000; its steps are counted with both ends."""
    steps = data.draw(st.integers(2, 80))
    warmup = data.draw(st.integers(0, steps - 1))
    rise = warmup or int(0.3 * steps)
    expected = [
        cosine(1 / 25, 1, t / rise)
        if t < rise
        else cosine(1, 1 / 25e4, min(1, (t - rise) / (steps - rise)))
        for t in range(STEPS)
    ]
    found = factors(Schedule("one-cycle", steps=steps, warmup=warmup))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)


@few
@given(
    st.sampled_from(("constant", "exponential", "step", "cosine", "one-cycle")),
    st.integers(1, 80), st.integers(0, 79), st.integers(1, 90),
)  # fmt: skip
def test_a_factor_is_above_0_while_the_run_lasts_and_at_most_1(kind, steps, warmup, period):
    """The rate of the flag is the highest; no step but the one after the last stands still."""
    warmup = min(warmup, steps - 1)
    found = factors(Schedule(kind, period, steps, warmup), 0.5)[:steps]
    assert (found > 0).all()
    assert (found <= 1 + 1e-6).all()
    rising, falling = found[:warmup], found[warmup:]
    assert (np.diff(rising) > 0).all()
    if kind != "one-cycle" or warmup:
        assert (np.diff(falling) <= 1e-6).all()
