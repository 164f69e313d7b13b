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
from train.engine.optimizers import CONSTANT, Rule, Schedule, optimizer
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


# What a program minimises, of each example.
LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "softmax_cross_entropy": ops.softmax_cross_entropy,
    "squared_error": ops.squared_error,
}


def metrics(logits: jax.Array, labels: jax.Array, loss: str = "softmax_cross_entropy") -> Metrics:
    """Return the metrics of logits [N, classes] with labels, int32 [N].

    Of "squared_error" there is the loss alone, of predictions and targets [N, outputs].
    """
    if loss == "squared_error":
        return {"loss": jnp.mean(ops.squared_error(logits, labels))}
    return {name: _METRICS[name](logits, labels) for name in METRICS}


class Program(NamedTuple):
    """The functions of a run, pure and not compiled.

    Attributes:
        initialise: `initialise(hyper, key) -> State`.
        train_segment: `train_segment(state, hyper, data, batches) -> (State, Metrics)`, with
            batches int32 [steps, batch size], the examples of each step (see
            `input_pipeline.batches`), and each metric [steps], of the batch before its update.
        train_batches: `train_batches(state, hyper, data, batches, count) -> (State, sums)`, an
            epoch that uses all examples: takes the first count, int32 [], of batches, int32
            [steps, batch size]. Where the examples do not fill a batch, entry ~i (-1 - i) repeats
            example i: batch norm sees it, the loss does not. A batch minimises the mean of its
            examples' losses, weighted by `Data.weight`, plus `l2` times the sum of squares of all
            weights, divided by the sum of the batch's `Data.weight`. The loss of an example is
            the sum over its outputs, where labels have further axes; squared error is half the
            mean over them. sums, [2], are those two terms, each summed over the batches times their
            numbers of examples. At step 0 the optimizer starts anew, whatever `State.moments`
            holds.
        value_and_gradient: `value_and_gradient(state, hyper, data) -> (terms, gradient)` of the
            loss of `train_batches` with one batch of all examples of data, with their weights; its
            two terms, [2], and its gradient with respect to `State.params`.
        predict: `predict(state, hyper, data) -> logits` of all images of data, in inference mode,
            float32 [N, classes].
        evaluate: `evaluate(state, hyper, data) -> Metrics`, of what `predict` returns.
        gradient_norms: `gradient_norms(state, hyper, data, batch) -> norms`: for each example of
            batch, int32 [batch size], the norm of the gradient of its cross-entropy with respect to
            all parameters, in inference mode, float32 [batch size].
    """

    initialise: Callable[[Hyper, jax.Array], State]
    train_segment: Callable[[State, Hyper, Data, jax.Array], tuple[State, Metrics]]
    train_batches: Callable[[State, Hyper, Data, jax.Array, jax.Array], tuple[State, jax.Array]]
    value_and_gradient: Callable[[State, Hyper, Data], tuple[jax.Array, Any]]
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
    rule: str | Rule = "adam",
    *,
    loss: str = "softmax_cross_entropy",
    schedule: Schedule = CONSTANT,
    changes: Sequence[str] = (),
    precision: str = "float32",
    gradient: str = "explicit",
) -> Program:
    """Put a program together.

    Args:
        network: the network from images to logits, for hyperparameters that may be traced.
        input_shape: the shape of an image, [H, W, C].
        rule: the name of the optimizer, of `optimizers.OPTIMIZERS`, or one of your own.
        loss: what is minimised, one of `LOSSES`; of "squared_error" the network's outputs are no
            logits but predictions, and the labels are floating [N, outputs].
        schedule: of the learning rate.
        changes: the augmentations of training images, see `augment.augment`.
        precision: "float32" or "bfloat16", in which the network computes; parameters, running
            statistics, logits, loss and optimizer are float32 in any case. "float64", where JAX has
            it enabled and the caller's state is float64, is that of all of them.
        gradient: "explicit" for the hand-written gradients, "autodiff" to forget them.

    Returns:
        The program.
    """
    # Long: pure functions that share what the program is made of.
    dtype = jnp.dtype(precision)
    wide = jnp.promote_types(dtype, jnp.float32)

    def logits_of(params, statistics, hyper, x, *, key=None, training=False):
        params = jax.tree.map(lambda p: p.astype(dtype), params)
        x = x.astype(dtype)
        apply = network(hyper).apply
        logits, statistics = apply(params, statistics, x, key=key, training=training)
        return logits.astype(wide), statistics

    def loss_of_batch(params, statistics, hyper, x, labels, key):
        """What is minimised, and beside it what is reported and the new statistics."""
        logits, statistics = logits_of(params, statistics, hyper, x, key=key, training=True)
        reported = metrics(logits, labels, loss)
        minimised = reported["loss"]
        if hyper.label_smoothing is not None:
            smoothing = hyper.label_smoothing
            minimised = jnp.mean(
                ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
            )
        if hyper.l2 is not None:
            minimised = minimised + hyper.l2 * ops.l2_penalty(weights(params))
        return minimised, (reported, statistics)

    def loss_of_weighted(params, statistics, hyper, x, labels, weight, key):
        """What `train_batches` minimises, and beside it its two terms and the new statistics."""
        logits, statistics = logits_of(params, statistics, hyper, x, key=key, training=True)
        losses = LOSSES[loss](logits, labels)
        losses = losses.reshape(len(x), -1).sum(-1) * (0.5 if loss == "squared_error" else 1.0)
        total = weight.sum()
        # Divided as sums: where all weights are 0 the loss is NaN, as a mean of nothing is.
        terms = [jnp.vdot(weight, losses) / total, jnp.zeros_like(total)]
        if hyper.l2 is not None:
            terms[1] = hyper.l2 * ops.l2_penalty(weights(params)) / total
        return terms[0] + terms[1], (jnp.stack(terms), statistics)

    def loss_of_one(params, statistics, hyper, image, label):
        """The cross-entropy of one example."""
        logits, _ = logits_of(params, statistics, hyper, image[None])
        return LOSSES[loss](logits, label[None])[0]

    if gradient == "autodiff":
        loss_of_batch, loss_of_one = autodiff(loss_of_batch), autodiff(loss_of_one)
        loss_of_weighted = autodiff(loss_of_weighted)

    def initialise(hyper, key):
        init_key, step_key = jax.random.split(key)
        params, statistics, _ = network(hyper).init(init_key, input_shape)
        step = jnp.int32(0)
        moments = optimizer(rule, schedule, hyper, step).init(params)
        return State(step, step_key, params, statistics, moments)

    def updated(state, hyper, objective, x, *rest):
        """Take a step; return also what the objective, of x and the rest and a key, reports."""
        key = jax.random.fold_in(state.key, state.step)
        if changes:
            key, augment_key = jax.random.split(key)
            x = augment(changes, augment_key, x)
        gradient_of = jax.grad(objective, has_aux=True)
        grads, (reported, statistics) = gradient_of(
            state.params, state.statistics, hyper, x, *rest, key
        )
        update = optimizer(rule, schedule, hyper, state.step).update
        updates, moments = update(grads, state.moments, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, state.key, params, statistics, moments), reported

    def train_segment(state, hyper, data, batches):
        def step(state, batch):
            x = _prepared(data, data.x[batch], wide)
            return updated(state, hyper, loss_of_batch, x, data.y[batch])

        return jax.lax.scan(step, state, batches)

    def train_batches(state, hyper, data, batches, count):
        def step(index, carry):
            state, sums = carry
            batch = batches[index]
            counts = batch >= 0
            batch = jnp.where(counts, batch, ~batch)
            weight = counts.astype(wide)
            if data.weight is not None:
                weight = weight * data.weight[batch]
            x = _prepared(data, data.x[batch], wide)
            state, terms = updated(state, hyper, loss_of_weighted, x, data.y[batch], weight)
            return state, sums + terms * counts.sum(dtype=wide)

        fresh = optimizer(rule, schedule, hyper, state.step).init(state.params)
        moments = jax.tree.map(
            lambda new, old: jnp.where(state.step == 0, new, old), fresh, state.moments
        )
        # Each run of a spread has sums of its own; a constant would be the same for all.
        sums = jnp.zeros(2, wide) + (0 * count).astype(wide)
        start = state._replace(moments=moments), sums
        return jax.lax.fori_loop(0, count, step, start)

    def value_and_gradient(state, hyper, data):
        gradient_of = jax.grad(loss_of_weighted, has_aux=True)
        gradient, (terms, _) = gradient_of(
            state.params,
            state.statistics,
            hyper,
            _prepared(data, data.x, wide),
            data.y,
            data.weight,
            state.key,
        )
        return terms, gradient

    def predict(state, hyper, data):
        def logits(images):
            return logits_of(state.params, state.statistics, hyper, _prepared(data, images, wide))[
                0
            ]

        whole = len(data.x) - len(data.x) % _CHUNK
        found = logits(data.x[whole:])
        if whole:
            several = jax.lax.map(logits, data.x[:whole].reshape(-1, _CHUNK, *input_shape))
            found = jnp.concatenate([several.reshape(whole, *found.shape[1:]), found])
        return found

    def evaluate(state, hyper, data):
        return metrics(predict(state, hyper, data), data.y, loss)

    def gradient_norms(state, hyper, data, batch):
        def norm(example):
            image, label = example
            own = jax.grad(loss_of_one)(state.params, state.statistics, hyper, image, label)
            return optax.tree.norm(own)

        examples = (_prepared(data, data.x[batch], wide), data.y[batch])
        return jax.lax.map(norm, examples, batch_size=_GRADIENTS)

    return Program(
        initialise,
        train_segment,
        train_batches,
        value_and_gradient,
        predict,
        evaluate,
        gradient_norms,
    )


def _prepared(data: Data, x: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """Return examples as the network sees them."""
    return (x.astype(dtype) - data.shift) * data.scale
