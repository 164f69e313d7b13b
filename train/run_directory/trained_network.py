"""A trained network, put together again from its run directory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets import ops
from train.data import Dataset
from train.data.split import held_out
from train.engine import input_pipeline
from train.engine.compiled import kept
from train.engine.hyperparameters import Hyper, of_run
from train.engine.input_pipeline import Affine, Data, Sets
from train.engine.program import Program, State, make_program
from train.errors import StoreError
from train.flags.config import Run
from train.flags.sweep import shape_of
from train.run_directory import checkpoint, group_folders
from train.run_directory.reader import Results


class Trained(NamedTuple):
    """A trained network, which computes as the evaluations of its training do.

    Attributes:
        program: the functions of its run.
        hyper: the numbers of its run.
        state: its parameters and statistics, and nothing else.
        sets: what it was trained and evaluated on, with its preprocessing.
    """

    program: Program
    hyper: Hyper
    state: State
    sets: Sets

    def logits(self, data: Data) -> np.ndarray:
        """Return what it makes of the images of `data`, float32 [N, classes]."""
        return np.asarray(jax.jit(self.program.predict)(self.state, self.hyper, data))

    def examples(self, inputs: np.ndarray) -> Data:
        """Return inputs, see `Schema.inputs`, with the preprocessing; there are no labels."""
        labels = np.zeros(len(inputs), np.int32)
        return self.sets.test._replace(x=jax.device_put(inputs), y=jax.device_put(labels))


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each class, float32 [N, classes]."""
    return np.asarray(jax.jit(ops.softmax)(logits))


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each example in nats, float32 [N]."""
    return np.asarray(jax.jit(ops.softmax_cross_entropy)(logits, labels))


def load(
    stored: Results,
    index: int,
    network: Any,
    run: Run,
    dataset: Dataset,
    affine: Affine | None = None,
) -> Trained:
    """Put the network of a run together.

    Args:
        stored: the run directory.
        index: which run.
        network: that of its command.
        run: its flags.
        dataset: what it was trained on; without examples where `affine` is given.
        affine: its preprocessing; None to learn it from the data.

    Raises:
        StoreError: its parameters are not there.
        CheckpointError: its parameters are damaged, or those of another network.
    """
    return put_together(
        network, run, dataset, lambda shapes: _parameters(stored, index, shapes), affine
    )


def put_together(
    network: Any,
    run: Run,
    dataset: Dataset,
    learned: Callable[[State], tuple[Any, Any]],
    affine: Affine | None = None,
) -> Trained:
    """Put the network of a run together.

    Args:
        network: that of its command.
        run: its flags.
        dataset: what it was trained on.
        learned: returns its parameters and statistics, whose shapes and dtypes it is given.
        affine: its preprocessing; None to learn it from the data.
    """
    (run,) = run.settled([run], dataset.x_train.shape[1:], len(dataset.classes))
    program = _program(network, run, dataset.x_train.shape[1:], len(dataset.classes))
    hyper = of_run(run)
    shapes = jax.eval_shape(program.initialise, hyper, jax.random.key(0))
    params, statistics = learned(shapes)
    state = shapes._replace(params=params, statistics=statistics, step=None, key=None, moments=None)
    held = held_out(run, dataset) if affine is None else range(0)
    sets = input_pipeline.on_device(dataset, run.data.preprocessing, held, affine)
    return Trained(program, hyper, state, sets)


def _program(network: Any, run: Run, inputs: tuple[int, ...], classes: int) -> Program:
    """Return what a run computes; made once in a process, as is what it compiles to."""
    shape, precision = shape_of(run), run.training.precision

    def made() -> Program:
        return make_program(
            lambda hyper: network(shape, hyper, classes), inputs, precision=precision
        )

    of = (network, type(shape), shape.network)
    return kept(("trained network", *of, inputs, classes, precision), made)


def _parameters(stored: Results, index: int, shapes: State) -> tuple[Any, Any]:
    """The parameters and statistics of a run, out of those of its group."""
    path = stored.path
    for folder in group_folders.trained(path):
        notes = checkpoint.load_notes(folder)
        if notes.get("run") not in stored.config.identities:
            raise StoreError(f"{folder} is of another run: put it back from a copy")
        runs = notes["runs"]
        if index in runs:
            like = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((len(runs), *leaf.shape), leaf.dtype),  # noqa: B023
                {"params": shapes.params, "statistics": shapes.statistics},
            )
            tree, _ = checkpoint.load(folder, like)
            own = jax.tree.map(lambda leaf: leaf[runs.index(index)], tree)  # noqa: B023
            return own["params"], own["statistics"]
    raise StoreError(f"{path} holds no parameters of run {index}: train it again")
