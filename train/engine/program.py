"""A run as pure functions: initialise, train a segment, evaluate.

`Program` holds them for one network, optimizer, schedule and precision. Everything else that tells
one run from another, the learning rate, the dropout rate, the seed, the order of the batches, is
data to them and not a constant: other values need no other compilation, and `jax.vmap` over states
and hyperparameters trains many runs at once.

The images stay uint8 on the device. A segment is one `jax.lax.scan` over its steps, which gathers
each batch and brings it into the form that the network sees.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnets import autodiff, ops
from jaxnets.layers import Layer, weights
from train.engine.augment import augment
from train.engine.hyperparameters import Hyper
from train.engine.input_pipeline import Data
from train.engine.optimizers import CONSTANT, Schedule, optimizer
from train.metrics import METRICS


class State(NamedTuple):
    """What a step changes.

    Attributes:
        step: int32 [], the number of steps done.
        key: the random key that the steps' own keys are folded from; it stays the same.
        params: the parameters of the network.
        statistics: the state of the network, such as running means.
        moments: the state of the optimizer.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    statistics: Any
    moments: Any


# The metrics of some examples, by name: a mean over them, float32, or for how many it holds, int32.
Metrics = dict[str, jax.Array]

# How each metric of `train.metrics` is computed from logits [N, classes] and labels [N].
_METRICS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "loss": lambda logits, labels: jnp.mean(ops.softmax_cross_entropy(logits, labels)),
    "accuracy": lambda logits, labels: jnp.sum(jnp.argmax(logits, -1) == labels, dtype=jnp.int32),
}


def metrics(logits: jax.Array, labels: jax.Array) -> Metrics:
    """Return the metrics of logits [N, classes] with labels, int32 [N]."""
    return {name: _METRICS[name](logits, labels) for name in METRICS}


class Program(NamedTuple):
    """The functions of a run, pure and not compiled.

    Attributes:
        initialise: `initialise(hyper, key) -> State`.
        train_segment: `train_segment(state, hyper, data, batches) -> (State, Metrics)`, with
            batches int32 [steps, batch size], the examples of each step (see
            `input_pipeline.batches`), and each metric [steps], of the batch before its update.
        predict: `predict(state, hyper, data) -> logits` of all images of data, in inference mode,
            float32 [N, classes].
        evaluate: `evaluate(state, hyper, data) -> Metrics`, of what `predict` returns.
        gradient_norms: `gradient_norms(state, hyper, data, batch) -> norms`: for each example of
            batch, int32 [batch size], the norm of the gradient of its cross-entropy with respect to
            all parameters, in inference mode, float32 [batch size].
    """

    initialise: Callable[[Hyper, jax.Array], State]
    train_segment: Callable[[State, Hyper, Data, jax.Array], tuple[State, Metrics]]
    predict: Callable[[State, Hyper, Data], jax.Array]
    evaluate: Callable[[State, Hyper, Data], Metrics]
    gradient_norms: Callable[[State, Hyper, Data, jax.Array], jax.Array]


# Examples that are evaluated at a time: 12 MB of CIFAR-10's images as float32.
_CHUNK = 1000

# Examples whose gradients are in memory at a time: a gradient is as large as the network.
_GRADIENTS = 16


def make_program(
    network: Callable[[Hyper], Layer],
    input_shape: tuple[int, ...],
    rule: str = "adam",
    *,
    schedule: Schedule = CONSTANT,
    changes: Sequence[str] = (),
    precision: str = "float32",
    gradient: str = "explicit",
) -> Program:
    """Put a program together.

    Args:
        network: the network from images to logits, for hyperparameters that may be traced.
        input_shape: the shape of an image, [H, W, C].
        rule: the name of the optimizer, of `optimizers.OPTIMIZERS`.
        schedule: of the learning rate.
        changes: the augmentations of training images, see `augment.augment`.
        precision: "float32" or "bfloat16", in which the network computes; parameters, running
            statistics, logits, loss and optimizer are float32 in any case.
        gradient: "explicit" for the hand-written gradients, "autodiff" to forget them.

    Returns:
        The program.
    """
    # Long: pure functions that share what the program is made of.
    dtype = jnp.dtype(precision)

    def logits_of(params, statistics, hyper, x, *, key=None, training=False):
        params = jax.tree.map(lambda p: p.astype(dtype), params)
        x = x.astype(dtype)
        apply = network(hyper).apply
        logits, statistics = apply(params, statistics, x, key=key, training=training)
        return logits.astype(jnp.float32), statistics

    def loss(params, statistics, hyper, x, labels, key):
        """What is minimised, and beside it what is reported and the new statistics."""
        logits, statistics = logits_of(params, statistics, hyper, x, key=key, training=True)
        reported = metrics(logits, labels)
        minimised = reported["loss"]
        if hyper.label_smoothing is not None:
            smoothing = hyper.label_smoothing
            minimised = jnp.mean(
                ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
            )
        if hyper.l2 is not None:
            minimised = minimised + hyper.l2 * ops.l2_penalty(weights(params))
        return minimised, (reported, statistics)

    def loss_of_one(params, statistics, hyper, image, label):
        """The cross-entropy of one example."""
        logits, _ = logits_of(params, statistics, hyper, image[None])
        return ops.softmax_cross_entropy(logits, label[None])[0]

    if gradient == "autodiff":
        loss, loss_of_one = autodiff(loss), autodiff(loss_of_one)

    def initialise(hyper, key):
        init_key, step_key = jax.random.split(key)
        params, statistics, _ = network(hyper).init(init_key, input_shape)
        step = jnp.int32(0)
        moments = optimizer(rule, schedule, hyper, step).init(params)
        return State(step, step_key, params, statistics, moments)

    def train_segment(state, hyper, data, batches):
        def step(state, batch):
            x, labels = _prepared(data, data.x[batch]), data.y[batch]
            key = jax.random.fold_in(state.key, state.step)
            if changes:
                key, augment_key = jax.random.split(key)
                x = augment(changes, augment_key, x)
            gradient_of = jax.grad(loss, has_aux=True)
            grads, (reported, statistics) = gradient_of(
                state.params, state.statistics, hyper, x, labels, key
            )
            update = optimizer(rule, schedule, hyper, state.step).update
            updates, moments = update(grads, state.moments, state.params)
            params = optax.apply_updates(state.params, updates)
            return State(state.step + 1, state.key, params, statistics, moments), reported

        return jax.lax.scan(step, state, batches)

    def predict(state, hyper, data):
        def logits(images):
            return logits_of(state.params, state.statistics, hyper, _prepared(data, images))[0]

        whole = len(data.x) - len(data.x) % _CHUNK
        found = logits(data.x[whole:])
        if whole:
            several = jax.lax.map(logits, data.x[:whole].reshape(-1, _CHUNK, *input_shape))
            found = jnp.concatenate([several.reshape(whole, -1), found])
        return found

    def evaluate(state, hyper, data):
        return metrics(predict(state, hyper, data), data.y)

    def gradient_norms(state, hyper, data, batch):
        def norm(example):
            image, label = example
            own = jax.grad(loss_of_one)(state.params, state.statistics, hyper, image, label)
            return optax.tree.norm(own)

        examples = (_prepared(data, data.x[batch]), data.y[batch])
        return jax.lax.map(norm, examples, batch_size=_GRADIENTS)

    return Program(initialise, train_segment, predict, evaluate, gradient_norms)


def _prepared(data: Data, images: jax.Array) -> jax.Array:
    return (images.astype(jnp.float32) - data.shift) * data.scale
