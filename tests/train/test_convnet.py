import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import nets
from train.convnet import main, network
from train.engine.hyperparameters import hyperparameters
from train.flags.config import ConvnetRun, flags
from train.training.command import parse

ROOT = Path(__file__).parents[2]


def run_of(*arguments):
    (run,) = parse(ConvnetRun, list(arguments), "prog", "description").runs
    return run


def logits(*arguments):
    run = run_of(*arguments)
    net, key = network(run, hyperparameters(flags(run)), 10), jax.random.key(0)
    params, state, shape = net.init(key, (8, 8, 1))
    assert shape == (10,)
    return net.apply(params, state, jnp.ones((2, 8, 8, 1)) * jnp.arange(1.0, 9.0)[:, None])[0]


@pytest.mark.slow
def test_without_a_flag_it_learns_the_digits(here):
    # As users compile: here computing takes longer than compiling.
    command = [sys.executable, "-m", "train.convnet", "--out", "run"]
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}, check=True)
    (row,) = json.loads((here / "run" / "summary.json").read_text())["rows"]
    assert row["test_accuracy"]["final"]["mean"] >= 0.98
    assert row["config"]["architecture"] == "small"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        ["--activation", "elu"],
        ["--activation", "leaky_relu"],
        ["--activation", "leaky_relu", "--negative-slope", "0.5"],
        ["--initializer", "glorot"],
        ["--initializer", "pytorch"],
        ["--initializer", "normal", "--initial-std", "0.1"],
    ],
    ids=" ".join,
)
def test_the_flags_of_the_network_reach_it(change):
    plain, *others = (
        logits(*words) for words in ([], change, *([change[:2]] if len(change) > 2 else []))
    )
    for i, other in enumerate(others):
        rest = [plain, *others[:i]] if "normal" not in change else [plain]
        assert not any(np.allclose(other, another, rtol=1e-3, atol=1e-6) for another in rest)


@pytest.mark.parametrize(
    ("architecture", "build"),
    [
        ("small", nets.small_convnet),
        ("convnet", nets.convnet),
        ("preact", nets.preact_convnet),
    ],
)
def test_architectures(architecture, build):
    run = run_of("--architecture", architecture)
    key, shape = jax.random.key(0), (32, 32, 3)

    def shapes(net):
        return jax.eval_shape(lambda key: net.init(key, shape)[:2], key)

    built = shapes(network(run, hyperparameters(flags(run)), 7))
    expected = shapes(build(classes=7))
    assert jax.tree.structure(built) == jax.tree.structure(expected)
    assert jax.tree.leaves(built) == jax.tree.leaves(expected)


@pytest.mark.slow
def test_a_sweep_of_convnets_is_each_alone(here):
    common = ["--steps", "4", "--eval-every", "2", "--train-examples", "200", "--batch-size", "20"]
    # Adam would make a step of whatever rounding leaves of a gradient of zero.
    common += ["--optimizer", "momentum"]
    rates = ["--learning-rate", "0.001", "0.01"]
    assert main([*common, *rates, "--seeds", "2", "--lockstep", "2", "--out", "all"]) == 0
    assert main([*common, "--learning-rate", "0.01", "--seed", "1", "--out", "one"]) == 0
    lines = {
        name: list(map(json.loads, (here / name / "metrics.jsonl").read_text().splitlines()))
        for name in ("all", "one")
    }
    several = [line for line in lines["all"] if line["run"] == 3]
    for record, alone in zip(several, lines["one"], strict=True):
        assert record["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-4)
        if record["step"]:
            assert record["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-4)
