"""A run as pure functions: initialise, train a segment, evaluate.

`Program` holds them for one network and one optimizer. Everything else that tells one run from
another, the learning rate, the dropout rate, the seed, the order of the batches, is data to them
and not a constant: other values need no other compilation, and `jax.vmap` over states and
hyperparameters trains many runs at once.

The images stay uint8 on the device. A segment is one `jax.lax.scan` over its steps, which gathers
each batch and brings it into the form that the network sees.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets import autodiff, ops
from jaxnets.layers import Layer, weights
from train.data import Dataset


class Hyper(NamedTuple):
    """The numbers of a run, scalars float32; None where the run does without.

    An array and None are different programs (None costs nothing), two arrays are the same one.
    """

    learning_rate: jax.Array
    momentum: jax.Array | None
    weight_decay: jax.Array | None
    l2: jax.Array | None
    label_smoothing: jax.Array | None
    dropout: jax.Array | None


class Data(NamedTuple):
    """Images and labels on the device; the network sees (image - shift) * scale.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: int32 [N], in [0, classes).
        shift: float32 [H, W, C].
        scale: float32 [].
    """

    images: jax.Array
    labels: jax.Array
    shift: jax.Array
    scale: jax.Array


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


class Trace(NamedTuple):
    """What the steps of a segment saw, each before its update.

    Attributes:
        loss: float32 [steps], the mean cross-entropy of the batch in nats, without penalties.
        correct: int32 [steps], how many examples of the batch were classified right.
    """

    loss: jax.Array
    correct: jax.Array


class Program(NamedTuple):
    """The functions of a run, pure and not compiled.

    Attributes:
        initialise: `initialise(hyper, key) -> State`.
        train_segment: `train_segment(state, hyper, data, batches) -> (State, Trace)`, with batches
            int32 [steps, batch size], the examples of each step (see `batches`).
        predict: `predict(state, hyper, data) -> logits` of all images of data, in inference mode,
            float32 [N, classes].
        evaluate: `evaluate(state, hyper, data) -> (loss, correct)`, what `predict` comes to: the
            mean cross-entropy in nats, float32 [], and the number classified right,
            int32 [].
    """

    initialise: Callable[[Hyper, jax.Array], State]
    train_segment: Callable[[State, Hyper, Data, jax.Array], tuple[State, Trace]]
    predict: Callable[[State, Hyper, Data], jax.Array]
    evaluate: Callable[[State, Hyper, Data], tuple[jax.Array, jax.Array]]


# Examples that are evaluated at a time: 12 MB of CIFAR-10's images as float32.
_CHUNK = 1000


def make_program(
    network: Callable[[Hyper], Layer],
    image_shape: tuple[int, ...],
    optimizer: str = "adam",
    gradient: str = "explicit",
) -> Program:
    """Put a program together.

    Args:
        network: the network from images to logits, for hyperparameters that may be traced.
        image_shape: the shape of an image, [H, W, C].
        optimizer: a name of `OPTIMIZERS`.
        gradient: "explicit" for the hand-written gradients, "autodiff" to forget them.

    Returns:
        The program.
    """

    def loss(params, statistics, hyper, x, labels, key):
        """What is minimised, and beside it what is reported and the new statistics."""
        logits, statistics = network(hyper).apply(params, statistics, x, key=key, training=True)
        reported = jnp.mean(ops.softmax_cross_entropy(logits, labels))
        minimised = reported
        if hyper.label_smoothing is not None:
            smoothing = hyper.label_smoothing
            minimised = jnp.mean(
                ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
            )
        if hyper.l2 is not None:
            minimised = minimised + hyper.l2 * ops.l2_penalty(weights(params))
        return minimised, (Trace(reported, _correct(logits, labels)), statistics)

    if gradient == "autodiff":
        loss = autodiff(loss)

    def initialise(hyper, key):
        init_key, step_key = jax.random.split(key)
        params, statistics, _ = network(hyper).init(init_key, image_shape)
        moments = OPTIMIZERS[optimizer](hyper).init(params)
        return State(jnp.int32(0), step_key, params, statistics, moments)

    def train_segment(state, hyper, data, batches):
        def step(state, batch):
            x, labels = _prepared(data, data.images[batch]), data.labels[batch]
            key = jax.random.fold_in(state.key, state.step)
            gradient_of = jax.grad(loss, has_aux=True)
            grads, (trace, statistics) = gradient_of(
                state.params, state.statistics, hyper, x, labels, key
            )
            updates, moments = OPTIMIZERS[optimizer](hyper).update(
                grads, state.moments, state.params
            )
            params = optax.apply_updates(state.params, updates)
            return State(state.step + 1, state.key, params, statistics, moments), trace

        return jax.lax.scan(step, state, batches)

    def predict(state, hyper, data):
        def logits(images):
            x = _prepared(data, images)
            return network(hyper).apply(state.params, state.statistics, x)[0]

        whole = len(data.images) - len(data.images) % _CHUNK
        found = logits(data.images[whole:])
        if whole:
            chunks = data.images[:whole].reshape(-1, _CHUNK, *image_shape)
            several = jax.lax.map(logits, chunks)
            found = jnp.concatenate([several.reshape(whole, -1), found])
        return found

    def evaluate(state, hyper, data):
        logits = predict(state, hyper, data)
        loss = jnp.mean(ops.softmax_cross_entropy(logits, data.labels))
        return loss, _correct(logits, data.labels)

    return Program(initialise, train_segment, predict, evaluate)


def _prepared(data: Data, images: jax.Array) -> jax.Array:
    return (images.astype(jnp.float32) - data.shift) * data.scale


def _correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.sum(jnp.argmax(logits, -1) == labels, dtype=jnp.int32)


# An optimizer is made inside of the traced step, where its numbers may be tracers.
OPTIMIZERS: dict[str, Callable[[Hyper], optax.GradientTransformation]] = {
    "sgd": lambda h: optax.sgd(h.learning_rate),
    "momentum": lambda h: optax.sgd(h.learning_rate, h.momentum),
    "nesterov": lambda h: optax.sgd(h.learning_rate, h.momentum, nesterov=True),
    "adam": lambda h: optax.adam(h.learning_rate),
    "adamw": lambda h: optax.adamw(h.learning_rate, weight_decay=h.weight_decay),
    "rmsprop": lambda h: optax.rmsprop(h.learning_rate),
}


def hyperparameters(flags: Mapping[str, Any]) -> Hyper:
    """Return the numbers among the flags of a run as arrays, None where they have no effect."""
    values: dict[str, Any] = {name: flags.get(name) for name in Hyper._fields}
    for name in ("l2", "label_smoothing", "dropout"):
        values[name] = values[name] or None  # 0 adds nothing and costs time.
    arrays = [None if value is None else jnp.float32(value) for value in values.values()]
    return Hyper._make(arrays)


def stack(hypers: Sequence[Hyper]) -> Hyper:
    """Return the numbers of several runs as arrays [runs]; 0 where only some do without."""
    columns = []
    for column in zip(*hypers, strict=True):
        none = all(value is None for value in column)
        numbers = [0.0 if value is None else value for value in column]
        columns.append(None if none else jnp.asarray(numbers, jnp.float32))
    return Hyper._make(columns)


def over_runs(function: Callable[..., Any], lockstep: int) -> Callable[..., Any]:
    """Return `function` of one run as a function of many, all in one program.

    Args:
        function: takes trees of arrays, and what the runs share as a last argument.
        lockstep: how many runs are computed at a time, by `jax.vmap`; these go one after the other.

    Returns:
        A function of the same trees, whose arrays have a leading axis of runs.
    """

    def mapped(*arguments):
        *own, shared = arguments

        def one(own):
            return function(*own, shared)

        if lockstep == 1:  # A batch of one would cost more than none.
            return jax.lax.map(one, tuple(own))
        return jax.lax.map(one, tuple(own), batch_size=lockstep)

    return mapped


# --- the order of the examples -------------------------------------------------------------------


def batches(seed: int, examples: int, batch_size: int, start: int = 0) -> Iterator[np.ndarray]:
    """Yield the examples of each step, without end.

    The first epoch takes the examples in the order in which they are stored, every later one in a
    new random order; the remainder that fills no batch is dropped.

    Args:
        seed: the seed of the order.
        examples: how many there are.
        batch_size: how many a step takes; at most `examples`.
        start: the step to begin with.

    Yields:
        int32 [batch_size]: a function of the seed and the number of the step alone.
    """
    # By NumPy on the host: a permutation of 50 000 takes it 0.5 ms, and jax.random.permutation
    # 22 ms on a CPU (443 ms for twenty under vmap), as much as fifteen steps of a small network.
    per_epoch = examples // batch_size
    for epoch in itertools.count(start // per_epoch):
        order = np.arange(examples, dtype=np.int32)
        if epoch > 0:
            np.random.default_rng([seed, epoch]).shuffle(order)
        yield from order[: per_epoch * batch_size].reshape(per_epoch, batch_size)[
            start % per_epoch if epoch == start // per_epoch else 0 :
        ]


# --- what the network sees -----------------------------------------------------------------------

# The largest value that a pixel can have, where it is not 255.
_LARGEST_PIXEL = {"digits": 16}


def on_device(dataset: Dataset, preprocessing: str) -> tuple[Data, Data]:
    """Put the training and the test set on the device.

    Args:
        dataset: the images and labels.
        preprocessing: "standardize", for pixels minus the mean training image, divided by the
            standard deviation of that difference over all pixels; "mean-image", for pixels as
            stored minus the mean training image; "unit", for pixels in [0, 1].

    Returns:
        Both sets, with the shift and scale of the training images.
    """
    images = dataset.train_images
    shift, scale = np.zeros(images.shape[1:], np.float32), 1.0
    if preprocessing == "unit":
        scale = 1.0 / _LARGEST_PIXEL.get(dataset.name, 255)
    else:
        shift = images.mean(0, dtype=np.float64).astype(np.float32)
    if preprocessing == "standardize":
        squares = 0.0
        for chunk in np.array_split(images, len(images) // _CHUNK + 1):
            difference = (chunk - shift).ravel()
            squares += float(difference @ difference)
        # Images that are all the same leave nothing to scale.
        scale = math.sqrt(images.size / squares) if squares else 1.0
    affine = jax.device_put((shift, np.float32(scale)))
    return (
        Data(jax.device_put(images), jax.device_put(dataset.train_labels), *affine),
        Data(jax.device_put(dataset.test_images), jax.device_put(dataset.test_labels), *affine),
    )
