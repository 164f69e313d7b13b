"""On the four virtual devices that tests/conftest.py asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import nets
from train.engine import sharding
from train.engine.hyperparameters import hyperparameters
from train.engine.input_pipeline import Data, Sets
from train.engine.program import make_program
from train.engine.trainer import Trainer
from train.flags.config import Training
from train.mlp import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        len(jax.devices()) < 4, reason="needs four devices; a CPU has as many as are asked for"
    ),
]

TRAINING = Training(batch_size=16, eval_every=5, gradient_norms=False)


def make(shard, runs, lockstep=2, training=TRAINING, examples=52):
    """A trainer of nets with batch norm and dropout on random images."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(256, size=(examples, 3, 3, 1)), jnp.uint8)
    labels = jnp.asarray(rng.integers(4, size=examples), jnp.int32)
    data = Data(images, labels, jnp.full((3, 3, 1), 128.0), jnp.float32(0.01))

    def network(hyper):
        norm = None if training.gradient_norms else "batch"
        return nets.mlp((8, 4), norm=norm, dropout=hyper.dropout)

    functions = make_program(network, (3, 3, 1), "momentum")
    hypers = [
        hyperparameters({"learning_rate": 0.02 * (1 + run), "momentum": 0.5, "dropout": 0.1 * run})
        for run in range(1, runs + 1)
    ]
    seeds = list(range(runs))
    return Trainer(functions, hypers, seeds, training, Sets(data, data, data), lockstep, shard)


def trained(*arguments, **options):
    """The trainer after 10 steps, and its evaluations without the time."""
    subject = make(*arguments, **options)
    records = list(subject.train([10], lambda step, rate: None))
    for record in (record for evaluation in records for record in evaluation):
        del record["seconds"]
    return subject, records


def assert_close(records, expected):
    for several, others in zip(records, expected, strict=True):
        for record, other in zip(several, others, strict=True):
            assert record.keys() == other.keys()
            for name, value in record.items():
                assert value is other[name] is None or value == pytest.approx(
                    other[name], rel=2e-5, abs=2e-6
                )


def devices_of(state):
    return [len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.params)]


@pytest.mark.parametrize(("runs", "devices"), [(6, 4), (2, 2), (1, 1)])
def test_runs_over_devices_are_those_of_one_device(monkeypatch, runs, devices):
    subject, records = trained("runs", runs)
    assert set(devices_of(subject.state)) == {devices}
    assert len(records[-1]) == subject.runs == runs
    monkeypatch.setattr(sharding, "_mesh", lambda shard, runs: None)
    alone, expected = trained("runs", runs)
    assert set(devices_of(alone.state)) == {1}
    assert_close(records, expected)
    for leaf, other in zip(*map(jax.tree.leaves, (subject.state, alone.state)), strict=True):
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(leaf[:runs], other, rtol=1e-4, atol=1e-5)


def test_a_batch_over_devices_is_that_of_one_device(monkeypatch):
    """Batch norm among it: its statistics are those of all 16 examples, not of 4 devices' 4."""
    subject, records = trained("batch", 2)
    assert set(devices_of(subject.state)) == {4}
    indices = jax.device_put(np.zeros((2, 5, 16), np.int32), subject._spread.indices)
    assert indices.sharding.shard_shape(indices.shape) == (2, 5, 4)
    arguments = (subject.state, subject._hypers, indices, subject._sets.train)
    text = subject._train_segment.compile(*arguments).as_text()
    assert "all-reduce" in text
    # No device computes the hidden layer of the whole batch, of the two runs in lockstep.
    assert "f32[2,4,8]" in text
    assert "f32[2,16,8]" not in text
    monkeypatch.setattr(sharding, "_mesh", lambda shard, runs: None)
    _, expected = trained("batch", 2)
    assert_close(records, expected)


@pytest.mark.parametrize(("examples", "part"), [(52, 13), (50, 50)])
def test_an_evaluation_over_devices_is_that_of_one_device(monkeypatch, examples, part):
    """Of as many examples as can be divided, each device computes its part."""
    subject, records = trained("batch", 2, examples=examples)
    arguments = (subject.state, subject._hypers, subject._sets.test)
    images = subject._sets.test.x
    assert images.sharding.shard_shape(images.shape)[0] == part
    text = subject._evaluate.compile(*arguments).as_text()
    assert f"f32[2,{part},8]" in text
    assert part == examples or f"f32[2,{examples},8]" not in text
    monkeypatch.setattr(sharding, "_mesh", lambda shard, runs: None)
    _, expected = trained("batch", 2, examples=examples)
    assert_close(records, expected)


@pytest.mark.parametrize("shard", ["runs", "batch"])
def test_gradient_norms_over_devices(monkeypatch, shard):
    training = Training(batch_size=16, eval_every=10, gradient_norms=True)
    _, records = trained(shard, 3, training=training)
    monkeypatch.setattr(sharding, "_mesh", lambda shard, runs: None)
    _, expected = trained(shard, 3, training=training)
    assert_close(records, expected)
    assert records[-1][0]["gradient_norm_max"] > records[-1][0]["gradient_norm_mean"] > 0


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["--shard", "batch", "--batch-size", "198", "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        "error: --batch-size 198: must be a multiple of the 4 devices with --shard batch, such as "
        "196 or 200\n"
    )
    assert not out.exists()
