"""Which programs are compiled in less time: those that compute as fast then, or compute little."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import nets
from train.engine import trainer
from train.engine.hyperparameters import hyperparameters
from train.engine.input_pipeline import Data, Sets
from train.engine.program import make_program
from train.engine.sharding import Spread
from train.flags.config import Training


@pytest.fixture
def options(monkeypatch):
    """The options of each function that a trainer compiles."""
    found = {}

    def compiled(self, function, compiler=None, **_):
        found[function.__name__] = compiler
        return CALLS

    monkeypatch.setattr(trainer, "quick", lambda little: {"little": little})
    monkeypatch.setattr(Spread, "compiled", compiled)
    return found


class _Calls:
    """Stands for what is compiled."""

    def begin_anew(self, compiling):
        pass

    def __call__(self, *arguments):
        pass


CALLS = _Calls()
SOON, AT_ONCE = {"little": False}, {"little": True}


def make(network, batch_size):
    images = jnp.zeros((300, 8, 8, 1), jnp.uint8)
    data = Data(images, jnp.zeros(300, jnp.int32), jnp.float32(0.0), jnp.float32(1.0))
    program = make_program(lambda hyper: network, (8, 8, 1), "sgd")
    training = Training(batch_size=batch_size, gradient_norms=True)
    numbers = hyperparameters({"learning_rate": 0.1})
    trainer.Trainer(program, [numbers], [0], training, Sets(data, None, data))


CASES = {
    "a perceptron": (nets.mlp((8, 4)), 200, {}),
    "a ConvNet": (nets.small_convnet(classes=10), 32, SOON),
    "a ConvNet at batch size 1": (nets.small_convnet(classes=10), 31, {}),
    "a large ConvNet": (nets.convnet(classes=10), 200, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_not_made_slower(options, case):
    network, batch_size, expected = CASES[case]
    make(network, batch_size)
    assert options["train_segment"] == options["evaluate"] == expected
    assert options["gradient_norms"] == {}


@pytest.mark.parametrize("case", CASES)
def test_what_computes_little_is_compiled_at_once(options, case):
    make(*CASES[case][:2])
    assert options["initialise"] == options["select"] == AT_ONCE


@pytest.mark.parametrize(
    ("kernels", "others", "batch_size", "expected"),
    [
        (1_000_000, 0, 32, True),
        (1_000_000, 1, 32, False),  # Updating so many takes longer.
        (1_000_000, 0, 31, False),
        (300, 299, 32, True),
        (300, 300, 32, False),  # Not most of them are of convolutions.
    ],
)
def test_where_a_step_is_as_fast(kernels, others, batch_size, expected):
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((kernels, 1, 1, 1), (others,))]
    assert trainer._as_fast(leaves, Training(batch_size=batch_size)) is expected


def test_initial_parameters_do_not_depend_on_the_options(monkeypatch):
    """Up to rounding: a network from before is the one that its seed gives."""
    found = []
    quick = trainer.quick
    for chosen in (quick, lambda little: {}):
        monkeypatch.setattr(trainer, "quick", chosen)
        images = jnp.zeros((4, 8, 8, 1), jnp.uint8)
        data = Data(images, jnp.zeros(4, jnp.int32), jnp.float32(0.0), jnp.float32(1.0))
        program = make_program(lambda hyper: nets.mlp((8, 4)), (8, 8, 1), "sgd")
        numbers = hyperparameters({"learning_rate": 0.1})
        training = Training(batch_size=4)
        subject = trainer.Trainer(program, [numbers], [7], training, Sets(data, None, data))
        found.append(subject.on_host(subject.state.params))
    one, other = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in found
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
