import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import initializers, layers, nets
from train.engine import program
from train.engine.hyperparameters import Hyper, hyperparameters, stack
from train.engine.input_pipeline import Data, batches, on_device
from train.engine.program import make_program

pytestmark = pytest.mark.slow

KEY = jax.random.key(3)
EXAMPLES, SHAPE, CLASSES, BATCH = 50, (4, 4, 1), 3, 16


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def dataset():
    """Images whose class can be learned: a bright row for each."""
    rng = np.random.default_rng(0)

    def split(count):
        labels = rng.integers(CLASSES, size=count).astype(np.int32)
        images = rng.integers(0, 150, (count, *SHAPE))
        images[np.arange(count), labels] += 60
        return images.astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = split(EXAMPLES), split(2037)
    return SimpleNamespace(
        name="stripes",
        white=255,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
    )


@pytest.fixture(scope="module")
def train_data(dataset):
    return on_device(dataset, "standardize").train


@pytest.fixture(scope="module")
def test_data(dataset):
    return on_device(dataset, "standardize").test


def network(**options):
    def build(hyper):
        dropout = 0.0 if hyper.dropout is None else hyper.dropout
        return nets.mlp((8, CLASSES), dropout=dropout, initializer=initializers.pytorch, **options)

    return build


def order(steps, seed=0, start=0):
    return np.stack(list(itertools.islice(batches(seed, EXAMPLES, BATCH, start), steps)))


def train(functions, hyper, data, steps, key=KEY, seed=0):
    state = jax.jit(functions.initialise)(hyper, key)
    return jax.jit(functions.train_segment)(state, hyper, data, order(steps, seed))


def assert_same(tree, expected, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        jax.tree.map(np.asarray, tree),
        jax.tree.map(np.asarray, expected),
    )


# --- one step, written again ---------------------------------------------------------------------


def softmax(z):
    exp = np.exp(z - z.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def numpy_gradients(params, x, labels, l2, smoothing):
    """Loss (plain), number right, and gradients of a two-layer ReLU net, in float64."""
    w1, b1, w2, b2 = params
    h = x @ w1 + b1
    a = np.maximum(h, 0)
    p = softmax(a @ w2 + b2)
    one_hot = np.eye(CLASSES)[labels]
    loss = -np.log(p[np.arange(len(x)), labels]).mean()
    dz = (p - (1 - smoothing) * one_hot - smoothing / CLASSES) / len(x)
    dh = (dz @ w2.T) * (h > 0)
    grads = [x.T @ dh + 2 * l2 * w1, dh.sum(0), a.T @ dz + 2 * l2 * w2, dz.sum(0)]
    return loss, (p.argmax(-1) == labels).sum(), grads


def numpy_update(name, t, w, g, memory, learning_rate):
    """One step of an optimizer, after the papers and PyTorch's documentation."""
    memory.setdefault("m", np.zeros_like(w))
    memory.setdefault("v", np.zeros_like(w))
    if name == "sgd":
        return w - learning_rate * g
    if name in ("momentum", "nesterov"):
        memory["m"] = 0.8 * memory["m"] + g
        return w - learning_rate * (memory["m"] if name == "momentum" else g + 0.8 * memory["m"])
    if name == "rmsprop":
        memory["v"] = 0.9 * memory["v"] + 0.1 * g**2
        return w - learning_rate * g / np.sqrt(memory["v"] + 1e-8)
    memory["m"] = 0.9 * memory["m"] + 0.1 * g
    memory["v"] = 0.999 * memory["v"] + 0.001 * g**2
    m_hat, v_hat = memory["m"] / (1 - 0.9**t), memory["v"] / (1 - 0.999**t)
    decay = 0.05 * w if name == "adamw" else 0
    return w - learning_rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize(("l2", "smoothing"), [(0.0, 0.0), (0.02, 0.1)])
def test_training_is_what_numpy_does(dataset, train_data, name, l2, smoothing):
    steps, learning_rate = 8, 0.1 if name in ("sgd", "momentum", "nesterov") else 0.01
    hyper = hyperparameters(
        {
            "learning_rate": learning_rate,
            "l2": l2,
            "label_smoothing": smoothing,
            "momentum": 0.8,
            "weight_decay": 0.05,
        }
    )
    functions = make_program(network(), SHAPE, name)
    start = jax.jit(functions.initialise)(hyper, KEY)
    flat = [leaf for layer in start.params for leaf in jax.tree.leaves(layer)]
    b1, w1, b2, w2 = (np.asarray(leaf, np.float64) for leaf in flat)
    params = [w1, b1, w2, b2]

    images = dataset.x_train.reshape(EXAMPLES, -1).astype(np.float64)
    x = images - images.mean(0)
    x /= np.sqrt((x**2).mean())
    losses, corrects, memories = [], [], [{} for _ in params]
    for t, batch in enumerate(order(steps), 1):
        labels = dataset.y_train[batch]
        loss, correct, grads = numpy_gradients(params, x[batch], labels, l2, smoothing)
        params = [
            numpy_update(name, t, w, g, memory, learning_rate)
            for w, g, memory in zip(params, grads, memories, strict=True)
        ]
        losses.append(loss)
        corrects.append(correct)

    state, trace = train(functions, hyper, train_data, steps)
    w1, b1, w2, b2 = params
    # A first step of Adam is the sign of a gradient, whose rounding then counts in full.
    expected = ({}, ({"weight": w1, "bias": b1}, {}), {"weight": w2, "bias": b2})
    assert_same(state.params, expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(trace["loss"], losses, rtol=1e-4)
    np.testing.assert_array_equal(trace["accuracy"], corrects)
    assert state.step == steps


# --- the properties that sweeps rest on ----------------------------------------------------------


def everything(**values):
    return hyperparameters(
        {"learning_rate": 0.05, "l2": 0.01, "label_smoothing": 0.1, "dropout": 0.3, **values}
    )


@pytest.mark.parametrize("norm", [None, "batch"])
def test_explicit_gradients_and_autodiff_give_the_same_losses(train_data, norm):
    traces = [
        train(
            make_program(network(norm=norm), SHAPE, "sgd", gradient=g), everything(), train_data, 40
        )[1]
        for g in ("explicit", "autodiff")
    ]
    np.testing.assert_allclose(traces[0]["loss"], traces[1]["loss"], rtol=2e-6)
    assert traces[0]["loss"][-1] < 0.8 * traces[0]["loss"][0]


def test_the_two_gradients_are_two_programs(train_data):
    def rules(gradient):
        functions = make_program(network(), SHAPE, "sgd", gradient=gradient)
        state = jax.eval_shape(functions.initialise, everything(), KEY)

        def loss_of(state):
            return functions.train_segment(state, everything(), train_data, order(1))[1]["loss"]

        # JAX names the inner call of a hand-written forward after it.
        return jax.jit(loss_of).lower(state).as_text(debug_info=True).count("_fwd")

    assert rules("explicit") > 0
    assert rules("autodiff") == 0


# Not adam on batch norm, before which a bias has the gradient 0 up to rounding: adam makes steps of
# full size out of it.
@pytest.mark.parametrize(("optimizer", "norm"), [("adam", "layer"), ("momentum", "batch")])
def test_vmap_over_seeds_and_numbers_is_single_runs(train_data, test_data, optimizer, norm):
    functions = make_program(network(norm=norm), SHAPE, optimizer)
    singles = [
        (seed, everything(learning_rate=rate, momentum=0.5 + rate, dropout=dropout, l2=l2))
        for seed, rate, dropout, l2 in [
            (0, 0.01, 0.1, 0.2),
            (1, 0.03, 0.5, 0.1),
            (2, 0.01, 0.3, 0.3),
        ]
    ]
    keys = jnp.stack([jax.random.key(seed) for seed, _ in singles])
    hypers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(hyper for _, hyper in singles))
    orders = np.stack([order(7, seed) for seed, _ in singles])

    states = jax.jit(jax.vmap(functions.initialise))(hypers, keys)
    train_all = jax.vmap(functions.train_segment, in_axes=(0, 0, None, 0))
    states, traces = jax.jit(train_all)(states, hypers, train_data, orders)
    evaluate_all = jax.vmap(functions.evaluate, in_axes=(0, 0, None))
    evaluated = jax.jit(evaluate_all)(states, hypers, test_data)
    losses, corrects = evaluated["loss"], evaluated["accuracy"]

    parts = (functions.initialise, functions.train_segment, functions.evaluate)
    initialise, train_one, evaluate = map(jax.jit, parts)
    for i, (seed, hyper) in enumerate(singles):
        start = initialise(hyper, jax.random.key(seed))
        state, trace = train_one(start, hyper, train_data, orders[i])
        np.testing.assert_allclose(traces["loss"][i], trace["loss"], rtol=1e-5)
        assert_same(jax.tree.map(lambda a, i=i: a[i], states.params), state.params, atol=1e-5)
        alone = evaluate(state, hyper, test_data)
        loss, correct = alone["loss"], alone["accuracy"]
        np.testing.assert_allclose(losses[i], loss, rtol=1e-5)
        assert abs(int(corrects[i]) - int(correct)) <= 1
    assert len(np.unique(np.round(losses, 3))) == 3


def test_other_numbers_need_no_other_program(train_data):
    traced = []

    def build(hyper):
        traced.append(hyper)
        return network()(hyper)

    functions = make_program(build, SHAPE, "momentum")
    state = functions.initialise(everything(momentum=0.5), KEY)
    train_segment = jax.jit(functions.train_segment)
    results, traces = [], []
    for rate in (0.1, 0.2):
        hyper = everything(learning_rate=rate, momentum=rate, dropout=rate)
        results.append(train_segment(state, hyper, train_data, order(2))[0])
        traces.append(len(traced))
    assert traces[0] == traces[1]
    weight = [np.asarray(layers.weights(result.params)[0]) for result in results]
    assert not np.allclose(*weight)


def test_a_run_in_segments_is_the_run_in_one(train_data):
    functions = make_program(network(), SHAPE, "adam")
    hyper = everything()
    whole, trace = train(functions, hyper, train_data, 10)
    state, parts = jax.jit(functions.initialise)(hyper, KEY), []
    for start in (0, 5):
        state, part = jax.jit(functions.train_segment)(
            state, hyper, train_data, order(5, start=start)
        )
        parts.append(part["loss"])
    np.testing.assert_array_equal(np.concatenate(parts), trace["loss"])
    assert_same(state.params, whole.params, rtol=0, atol=0)


def test_numbers_that_add_nothing_are_left_out():
    hyper = hyperparameters({"learning_rate": 0.1, "l2": 0.0, "dropout": 0.0, "momentum": 0.0})
    assert hyper == Hyper(jnp.float32(0.1), momentum=jnp.float32(0.0))


def test_zero_as_a_number_is_as_good_as_none(train_data):
    """So that a sweep can hold runs with and without."""
    functions = make_program(network(), SHAPE, "sgd")
    none = hyperparameters({"learning_rate": 0.1})
    some = hyperparameters(
        {"learning_rate": 0.1, "l2": 1, "label_smoothing": 0.5, "dropout": 0.5, "clip_norm": 1e-3}
    )
    zero = jax.tree.map(lambda a: a[0], stack([none, some]))
    assert None not in (zero.l2, zero.label_smoothing, zero.dropout, zero.clip_norm)
    traces = [train(functions, hyper, train_data, 6)[1]["loss"] for hyper in (none, zero)]
    np.testing.assert_allclose(traces[0], traces[1], rtol=1e-6)


# --- what is reported ----------------------------------------------------------------------------


def test_evaluation_takes_every_example_in_inference_mode(dataset, test_data, monkeypatch):
    def make():  # Anew for each size of chunk, so that jax.jit does not take it for the same.
        return make_program(network(norm="batch"), SHAPE)

    hyper = everything(dropout=0.9)
    state = jax.jit(make().initialise)(hyper, KEY)
    state = state._replace(
        statistics=jax.tree.map(lambda a: a + jnp.float32(0.5), state.statistics)
    )
    _, ((dense, norm, _, _)), output = state.params
    images = (dataset.x_test - np.asarray(test_data.shift, np.float64)) * float(test_data.scale)
    h = images.reshape(2037, -1) @ np.asarray(dense["weight"], np.float64) + dense["bias"]
    h = (h - 0.5) / np.sqrt(1.5 + 1e-5) * norm["scale"] + norm["bias"]
    p = softmax(np.maximum(h, 0) @ np.asarray(output["weight"], np.float64) + output["bias"])
    right = p[np.arange(2037), dataset.y_test]
    # Two chunks and a rest, no rest, and one chunk that is not full.
    for chunk in (1000, 97 * 7, 5000):
        monkeypatch.setattr(program, "_CHUNK", chunk)
        found = jax.jit(make().evaluate)(state, hyper, test_data)
        loss, correct = found["loss"], found["accuracy"]
        np.testing.assert_allclose(loss, -np.log(right).mean(), rtol=1e-5)
        assert correct == (right == p.max(-1)).sum()


def test_the_reported_loss_is_without_penalty_and_smoothing(train_data):
    functions = make_program(network(), SHAPE, "sgd")
    plain = hyperparameters({"learning_rate": 0.1})
    other = hyperparameters({"learning_rate": 0.1, "l2": 1.0, "label_smoothing": 0.5})
    first = [train(functions, hyper, train_data, 1) for hyper in (plain, other)]
    np.testing.assert_allclose(first[0][1]["loss"], first[1][1]["loss"], rtol=1e-6)
    assert not np.allclose(*(layers.weights(state.params)[0] for state, _ in first))


def test_dropout_differs_from_step_to_step(train_data):
    functions = make_program(network(), SHAPE, "sgd")
    hyper = hyperparameters({"learning_rate": 1e-30, "dropout": 0.5})
    state = functions.initialise(hyper, KEY)
    same_batch = np.repeat(order(1), 4, 0)
    losses = jax.jit(functions.train_segment)(state, hyper, train_data, same_batch)[1]["loss"]
    assert len(np.unique(losses)) == 4


@pytest.mark.parametrize("norm", [None, "batch"])
def test_bfloat16_computes_in_it_and_keeps_float32(train_data, test_data, norm):
    hyper = hyperparameters({"learning_rate": 0.05, "l2": 0.01})
    found = {}
    for precision in ("float32", "bfloat16"):
        functions = make_program(network(norm=norm), SHAPE, "sgd", precision=precision)
        state, trace = train(functions, hyper, train_data, 20)
        assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.statistics))} == {
            jnp.dtype("float32")
        }
        loss = jax.jit(functions.evaluate)(state, hyper, test_data)["loss"]
        found[precision] = np.append(trace["loss"], loss)
        products = [
            line
            for line in jax.jit(functions.train_segment)
            .lower(state, hyper, train_data, order(1))
            .as_text()
            .splitlines()
            if "dot_general" in line
        ]
        assert products
        assert all(("bf16>" in line) == (precision == "bfloat16") for line in products)
    # Rounded to 8 bits, and no more than that: each step's loss moves by a few 2^-8 at most.
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.05)
    assert np.abs(found["bfloat16"] / found["float32"] - 1).max() > 1e-5


@pytest.mark.parametrize("gradient", ["explicit", "autodiff"])
def test_gradient_norms_are_those_of_single_examples(dataset, train_data, gradient):
    """Written again in NumPy; more examples than are computed at a time, penalty left out."""
    functions = make_program(network(), SHAPE, gradient=gradient)
    hyper = everything(l2=5.0)
    state = jax.jit(functions.initialise)(hyper, KEY)
    batch = np.arange(37, dtype=np.int32)
    norms = jax.jit(functions.gradient_norms)(state, hyper, train_data, batch)
    flat = [leaf for layer in state.params for leaf in jax.tree.leaves(layer)]
    b1, w1, b2, w2 = (np.asarray(leaf, np.float64) for leaf in flat)
    x = np.asarray(program._prepared(train_data, train_data.x[:37]), np.float64)
    for i, norm in enumerate(norms):
        one, label = x[i].reshape(1, -1), dataset.y_train[[i]]
        _, _, grads = numpy_gradients((w1, b1, w2, b2), one, label, l2=0, smoothing=0)
        assert norm == pytest.approx(np.sqrt(sum((g**2).sum() for g in grads)), rel=1e-4)


def test_augmentation_changes_training_and_not_evaluation(train_data, test_data):
    hyper = hyperparameters({"learning_rate": 1e-30})
    losses = []
    for changes in ((), ("flip",), ("flip", "cutout")):
        functions = make_program(network(), SHAPE, "sgd", changes=changes)
        state = jax.jit(functions.initialise)(hyper, KEY)
        same_batch = np.repeat(order(1), 3, 0)
        _, trace = jax.jit(functions.train_segment)(state, hyper, train_data, same_batch)
        losses.append(np.asarray(trace["loss"]))
        assert len(np.unique(losses[-1])) == (3 if changes else 1)  # Other ones in each step.
        evaluated = jax.jit(functions.evaluate)(state, hyper, test_data)
        losses[-1] = np.append(losses[-1], evaluated["loss"])
    assert losses[0][-1] == losses[1][-1] == losses[2][-1]
    assert len(np.unique([loss[0] for loss in losses])) == 3


# --- the order of the examples -------------------------------------------------------------------


def test_the_first_epoch_is_in_order_and_later_ones_are_permutations():
    taken = np.stack(list(itertools.islice(batches(7, 50, 16), 3 * 5)))
    assert taken.dtype == np.int32
    epochs = taken.reshape(5, 48)
    np.testing.assert_array_equal(epochs[0], np.arange(48))  # The last two are dropped.
    for epoch in epochs[1:]:
        assert len(set(epoch)) == 48
        assert set(epoch) <= set(range(50))
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert set(range(48, 50)) & set(epochs[1:].ravel())  # Dropped in one epoch, taken in another.


def test_the_order_depends_on_the_seed_and_the_step_alone():
    def taken(seed, start, count):
        return np.stack(list(itertools.islice(batches(seed, 50, 16, start), count)))

    np.testing.assert_array_equal(taken(1, 0, 12)[7:], taken(1, 7, 5))
    np.testing.assert_array_equal(taken(1, 0, 12)[6:], taken(1, 6, 6))
    np.testing.assert_array_equal(taken(1, 0, 3), taken(2, 0, 3))
    assert (taken(1, 3, 3) != taken(2, 3, 3)).mean() > 0.9


def test_later_orders_are_uniform():
    """How often each example comes first, over 3000 epochs of 6 examples: 500 ± 20."""
    first = [
        next(batches(seed, 6, 6, start=epoch))[0] for seed in range(60) for epoch in range(1, 51)
    ]
    assert np.bincount(first, minlength=6) == pytest.approx(500, abs=100)


# --- what the network sees -----------------------------------------------------------------------


@pytest.mark.parametrize("preprocessing", ["standardize", "mean-image", "unit"])
def test_preprocessing(dataset, preprocessing):
    for data, images in zip(
        on_device(dataset, preprocessing)[::2],
        (dataset.x_train, dataset.x_test),
        strict=True,
    ):
        assert data.x.dtype == jnp.uint8
        np.testing.assert_array_equal(data.x, images)
        difference = dataset.x_train - dataset.x_train.mean(0)
        expected = {
            "standardize": (images - dataset.x_train.mean(0)) / difference.std(),
            "mean-image": images - dataset.x_train.mean(0),
            "unit": images / 255,
        }[preprocessing]
        seen = program._prepared(data, data.x)
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5)


def test_preprocessing_of_other_pixels_and_of_blank_images(dataset):
    dataset = SimpleNamespace(**vars(dataset))
    dataset.white = 16
    assert on_device(dataset, "unit").train.scale == 1 / 16
    dataset.x_train = np.full_like(dataset.x_train, 7)
    data, *_ = on_device(dataset, "standardize")
    assert not program._prepared(data, data.x).any()
    assert isinstance(data, Data)


@pytest.mark.parametrize(("held", "kept"), [(range(40, 50), range(40)), (range(3, 9), None)])
def test_what_is_held_out_has_no_part_in_training(dataset, held, kept):
    kept = [i for i in range(EXAMPLES) if i not in held] if kept is None else list(kept)
    sets = on_device(dataset, "standardize", held)
    images = dataset.x_train
    np.testing.assert_array_equal(sets.train.x, images[kept])
    np.testing.assert_array_equal(sets.train.y, dataset.y_train[kept])
    np.testing.assert_array_equal(sets.validation.x, images[list(held)])
    np.testing.assert_array_equal(sets.validation.y, dataset.y_train[list(held)])
    for data in sets:  # The mean image is that of what is trained on, for all sets.
        np.testing.assert_allclose(data.shift, images[kept].mean(0), rtol=1e-6)
        difference = images[kept] - images[kept].mean(0)
        assert data.scale == pytest.approx(1 / difference.std(), rel=1e-5)
    assert on_device(dataset, "unit").validation is None
