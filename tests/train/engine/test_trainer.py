import itertools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import nets
from train.engine import segments
from train.engine.hyperparameters import hyperparameters
from train.engine.input_pipeline import Data, Sets, batches
from train.engine.program import make_program
from train.engine.trainer import Trainer
from train.flags.config import Training

pytestmark = pytest.mark.slow

EXAMPLES, BATCH = 50, 16


def make(training, labels=None, scale=0.01, validation=None, seeds=None):
    """A trainer on random images."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(256, size=(EXAMPLES, 3, 3, 1)), jnp.uint8)
    labels = jnp.asarray(rng.integers(4, size=EXAMPLES) if labels is None else labels, jnp.int32)
    data = Data(images, labels, jnp.full((3, 3, 1), 128.0), jnp.float32(scale))
    functions = make_program(lambda hyper: nets.mlp((8, 4)), (3, 3, 1), "sgd")
    hyper = hyperparameters({"learning_rate": training.learning_rate})
    seeds = seeds or [training.seed]
    return (
        Trainer(functions, [hyper] * len(seeds), seeds, training, Sets(data, validation, data)),
        functions,
        hyper,
        data,
    )


def settings(**values):
    return Training(**{"batch_size": BATCH, "learning_rate": 0.1, "seed": 5, **values})


def losses_and_corrects(functions, hyper, data, steps):
    """The whole run as one segment, with the seed of the settings."""
    state = jax.jit(functions.initialise)(hyper, jax.random.key(5))
    order = np.stack(list(itertools.islice(batches(5, EXAMPLES, BATCH), steps)))
    state, trace = jax.jit(functions.train_segment)(state, hyper, data, order)
    return state, np.asarray(trace["loss"], np.float64), np.asarray(trace["accuracy"])


@pytest.mark.parametrize("longest", [500, 3])
def test_records_are_means_since_the_one_before(monkeypatch, longest):
    monkeypatch.setattr(segments, "LONGEST_SEGMENT", longest)
    subject, functions, hyper, data = make(settings(eval_every=4, test_curve=True))
    progress = []
    evaluations = subject.train([10], lambda step, rate: progress.append((step, rate)))
    records = list(itertools.chain.from_iterable(evaluations))
    state, loss, correct = losses_and_corrects(functions, hyper, data, 10)

    assert [record["step"] for record in records] == [0, 4, 8, 10]
    np.testing.assert_allclose([record["epoch"] for record in records], [0, 4 / 3, 8 / 3, 10 / 3])
    assert records[0]["train_loss"] is None
    assert records[0]["train_accuracy"] is None
    for record, span in zip(records[1:], (slice(0, 4), slice(4, 8), slice(8, 10)), strict=True):
        assert record["train_loss"] == pytest.approx(loss[span].mean(), rel=1e-6)
        assert record["train_accuracy"] == correct[span].mean() / BATCH
    on_test = jax.jit(functions.evaluate)(state, hyper, data)
    assert records[-1]["test_loss"] == pytest.approx(float(on_test["loss"]), rel=1e-6)
    assert records[-1]["test_accuracy"] == int(on_test["accuracy"]) / EXAMPLES
    seconds = [record["seconds"] for record in records]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < seconds[3]
    json.dumps(records, allow_nan=False)

    assert subject.step == 10
    assert subject.parameters == 9 * 8 + 8 + 8 * 4 + 4
    assert [step for step, _ in progress] == ([4, 8, 10] if longest == 500 else [2, 4, 6, 8, 10])
    assert progress[-1][1] == subject.steps_per_second > 0


@pytest.mark.parametrize(
    ("steps", "eval_every", "expected"),
    [
        (300, 100, [[100], [100], [100]]),
        (250, 100, [[100], [100], [50]]),
        (50, 100, [[50]]),
        (1200, 1200, [[400, 400, 400]]),
        (1000, 2**30, [[500, 500]]),
        (1501, 1500, [[500, 500, 500], [1]]),
        (3, 1, [[1], [1], [1]]),
    ],
)
def test_segments_have_few_lengths(steps, eval_every, expected):
    assert list(segments.segments([steps], eval_every)) == expected


def test_segments_end_where_a_run_ends_too():
    assert list(segments.segments([250, 120], 100)) == [[100], [20], [80], [50]]


def test_the_first_loss_that_is_not_finite_ends_the_run(monkeypatch):
    """Whatever the segments are; the step is that of the run in one piece."""
    rate = 3e4
    _, functions, hyper, data = make(settings(learning_rate=rate))
    _, loss, _ = losses_and_corrects(functions, hyper, data, 60)
    first = int(np.flatnonzero(~np.isfinite(loss))[0]) + 1
    assert 3 < first < 60
    for longest in (3, 500):
        monkeypatch.setattr(segments, "LONGEST_SEGMENT", longest)
        subject, *_ = make(settings(learning_rate=rate, eval_every=60))
        *_, (last,) = subject.train([60], lambda step, rate: None)
        step, message = subject.diverged[0]
        assert step == first
        assert message.startswith(f"the training loss is {loss[first - 1]} at step {first};")
        assert last["train_loss"] is last["test_loss"] is last["test_accuracy"] is None
        assert subject.step < 60 or longest == 500


def test_a_loss_that_is_not_finite_after_the_last_step_ends_the_run():
    subject, *_ = make(settings(learning_rate=1e38, eval_every=1))
    *_, (last,) = subject.train([1], lambda step, rate: None)
    step, message = subject.diverged[0]
    assert step == 1
    assert re.match(r"the test loss is (nan|inf) after step 1;", message)
    assert last["train_loss"] is last["test_loss"] is None


# --- validation, patience and the test set -------------------------------------------------------


def random_data(count, seed=1):
    """Random labels: the more is learned of others, the higher the loss."""
    rng = np.random.default_rng(seed)
    return Data(
        jnp.asarray(rng.integers(256, size=(count, 3, 3, 1)), jnp.uint8),
        jnp.asarray(rng.integers(4, size=count), jnp.int32),
        jnp.full((3, 3, 1), 128.0),
        jnp.float32(0.01),
    )


def nothing(step, rate):
    pass


def test_the_test_set_is_seen_where_a_run_ends_alone():
    subject, *_ = make(settings(eval_every=2), validation=random_data(30))
    records = [record for (record,) in subject.train([3, 6], nothing)]
    assert [r["step"] for r in records] == [0, 2, 3, 4, 6]
    assert [r["test_loss"] is None for r in records] == [True, True, False, True, False]
    assert [r["test_accuracy"] is None for r in records] == [True, True, False, True, False]
    assert all(r["validation_loss"] > 0 for r in records)
    asked, *_ = make(settings(eval_every=3, test_curve=True))
    records = [record for (record,) in asked.train([6], nothing)]
    assert all(r["test_loss"] > 0 for r in records)
    assert "validation_loss" not in records[0]


def test_a_run_out_of_patience_stops_and_leaves_the_others():
    """It is over after so many evaluations without a new lowest validation loss."""
    data = random_data(30)
    long, *_ = make(settings(eval_every=1), validation=data, seeds=[5, 6, 7])
    evaluations = list(long.train([40], nothing))
    expected = []
    for run in range(3):
        losses = [records[run]["validation_loss"] for records in evaluations]
        lowest = [min(losses[: step + 1]) for step in range(len(losses))]
        expected.append(next(step for step in range(3, 41) if lowest[step] == lowest[step - 3]))
    assert len(set(expected)) > 1  # They stop at different steps.
    subject, *_ = make(settings(eval_every=1, patience=3), validation=data, seeds=[5, 6, 7])
    found = list(subject.train([40], nothing))
    assert subject.stopped == dict(enumerate(expected))
    assert subject.step == max(expected)
    assert long.stopped == {}
    for step, records in enumerate(found):
        for run, record in enumerate(records):
            same = evaluations[step][run]
            assert record["validation_loss"] == pytest.approx(same["validation_loss"], rel=1e-5)
            # Evaluated on the test set when it stops, as a run that ends.
            assert step != expected[run] or record["test_loss"] > 0


def test_the_end_of_another_run_does_not_count_as_an_evaluation():
    data = random_data(30)
    stops = []
    for ends in ([40], [1, 3, 5, 7, 9, 11, 40]):
        subject, *_ = make(settings(eval_every=2, patience=2), validation=data)
        list(subject.train(ends, nothing))
        stops.append(subject.stopped)
    assert stops[0] == stops[1] != {}


def test_a_checkpoint_of_an_earlier_version_goes_on(monkeypatch):
    """It called the metrics of the steps since the last evaluation otherwise."""
    monkeypatch.setattr(segments, "LONGEST_SEGMENT", 3)
    straight, *_ = make(settings(eval_every=8))
    records = list(itertools.chain.from_iterable(straight.train([8], lambda *_: None)))
    subject, *_ = make(settings(eval_every=8))
    training = subject.train([8], lambda *_: None)
    while subject.step < 6:
        next(training)
    tree, notes = subject.snapshot()
    tree["seen"] = {"losses": tree["seen"]["loss"], "corrects": tree["seen"]["accuracy"]}
    again, *_ = make(settings(eval_every=8))
    again.restore(tree["state"], tree, notes)
    (last,) = itertools.chain.from_iterable(again.train([8], lambda *_: None))
    assert last["train_loss"] == records[-1]["train_loss"]
    assert last["train_accuracy"] == records[-1]["train_accuracy"]
