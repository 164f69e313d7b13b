"""How a step changes the parameters: the update rules and learning rate schedules of optax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from train.engine.hyperparameters import Hyper

# Made inside of the traced step, where the numbers may be tracers.
OPTIMIZERS: dict[str, Callable[[Hyper], optax.GradientTransformation]] = {
    "sgd": lambda h: optax.sgd(h.learning_rate),
    "momentum": lambda h: optax.sgd(h.learning_rate, h.momentum),
    "nesterov": lambda h: optax.sgd(h.learning_rate, h.momentum, nesterov=True),
    "adam": lambda h: optax.adam(h.learning_rate),
    "adamw": lambda h: optax.adamw(h.learning_rate, weight_decay=h.weight_decay),
    "nadam": lambda h: optax.nadam(h.learning_rate),
    "nadamw": lambda h: optax.nadamw(h.learning_rate, weight_decay=h.weight_decay),
    "adamax": lambda h: optax.adamax(h.learning_rate),
    "amsgrad": lambda h: optax.amsgrad(h.learning_rate),
    "radam": lambda h: optax.radam(h.learning_rate),
    "adabelief": lambda h: optax.adabelief(h.learning_rate),
    "yogi": lambda h: optax.yogi(h.learning_rate),
    "novograd": lambda h: optax.novograd(h.learning_rate),
    "rmsprop": lambda h: optax.rmsprop(h.learning_rate),
    "adadelta": lambda h: optax.adadelta(h.learning_rate),
    "adagrad": lambda h: optax.adagrad(h.learning_rate),
    "adafactor": lambda h: optax.adafactor(h.learning_rate),
    "lion": lambda h: optax.lion(h.learning_rate, weight_decay=h.weight_decay),
    "muon": lambda h: optax.contrib.muon(
        h.learning_rate, weight_decay=h.weight_decay, adam_weight_decay=h.weight_decay
    ),
    "lamb": lambda h: optax.lamb(h.learning_rate, weight_decay=h.weight_decay),
    "lars": lambda h: optax.lars(h.learning_rate, weight_decay=h.weight_decay, momentum=h.momentum),
    "sign_sgd": lambda h: optax.sign_sgd(h.learning_rate),
}


class Schedule(NamedTuple):
    """What the learning rate is multiplied by, from step to step.

    Attributes:
        kind: "constant"; "exponential" and "step", a number (`Hyper.decay`) to the power of how
            many times `period` steps are done; "cosine", from 1 to 0; "one-cycle", up to 1 and down
            again (Smith and Topin, 2018, with cosines as in PyTorch). What follows the last step
            would have the lowest factor, as in optax.
        period: steps, of "exponential" and "step".
        steps: how many steps there are, of "cosine" and "one-cycle"; more than `warmup`.
        warmup: steps in which the factor grows evenly to 1, from 1 / warmup of the first step; the
            decay runs over the steps after them. "one-cycle" has a rise of its own, which takes so
            many steps instead of 0.3 of them.
    """

    kind: str = "constant"
    period: int = 1
    steps: int = 1
    warmup: int = 0

    def factor(self, step: jax.Array, decay: jax.Array | None) -> Any:
        """The factor of a step, int32 [], the first being 0."""
        if self.kind == "one-cycle":
            # Half a step more, because optax rounds the end of the rise down.
            rise = (self.warmup + 0.5) / self.steps if self.warmup else 0.3
            return optax.cosine_onecycle_schedule(self.steps, 1.0, rise)(step)
        factor: Any = 1.0
        after = jnp.maximum(0, step - self.warmup)
        if self.kind in ("exponential", "step"):
            # Not by optax, whose schedules do not take a traced decay.
            assert decay is not None  # It is given with these.
            factor = decay ** (after // self.period).astype(jnp.float32)
        elif self.kind == "cosine":
            factor = optax.cosine_decay_schedule(1.0, self.steps - self.warmup)(after)
        if self.warmup:
            factor = factor * jnp.minimum(1.0, (step + 1) / self.warmup)
        return factor


CONSTANT = Schedule()


# A rule that is none of `OPTIMIZERS`: `rule(hyper, step)`, with the learning rate of the step.
Rule = Callable[[Any, jax.Array], optax.GradientTransformation]


def optimizer(
    rule: str | Rule, schedule: Schedule, hyper: Hyper, step: jax.Array
) -> optax.GradientTransformation:
    """Return the update rule of a step.

    Args:
        rule: the name of one of `OPTIMIZERS`, or another rule.
        schedule: of the learning rate.
        hyper: the numbers of the run, which may be traced.
        step: int32 [], the number of steps done.
    """
    factor = schedule.factor(step, hyper.decay)
    hyper = hyper._replace(learning_rate=hyper.learning_rate * factor)
    update = OPTIMIZERS[rule](hyper) if isinstance(rule, str) else rule(hyper, step)
    if hyper.clip_norm is None:
        return update
    return optax.chain(optax.clip_by_global_norm(hyper.clip_norm), update)
