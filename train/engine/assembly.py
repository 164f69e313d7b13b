"""Programs and trainers, made from the flags of runs and their data."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, cast

import jax
from rich.console import Console
from rich.progress import track

from jaxnets import layers
from train.data import Dataset, split
from train.engine import costs_shown, dry_run, input_pipeline
from train.engine.compiled import forget_all, kept
from train.engine.devices import devices
from train.engine.hyperparameters import Hyper, of_run
from train.engine.input_pipeline import Affine, Sets
from train.engine.memory import Compiling, check_memory, nbytes, run_bytes
from train.engine.optimizers import Schedule
from train.engine.program import Program, make_program
from train.engine.sharding import Spread
from train.engine.trainer import Trainer
from train.flags.config import R, Run
from train.flags.declaration import augmentations
from train.flags.sweep import Group, Sweep, shape_of

# The network of a command: `network(run, hyper, classes)`.
Network = Callable[[R, Hyper, int], layers.Layer]


class Assembly(Generic[R]):
    """Makes what trains the runs of a sweep on a data set."""

    def __init__(self, sweep: Sweep[R], network: Network[R], dataset: Dataset):
        self._sweep, self._network, self._dataset = sweep, network, dataset
        # Groups that follow one another see the same images, which are on the device once.
        self._sets = functools.lru_cache(1)(self._on_device)
        self._affine = functools.cache(functools.partial(input_pipeline.learned, dataset))

    def described(self, run: R) -> str:
        """Return the layers of the network of a run, with the shapes and numbers of parameters."""
        net = self._network(run, of_run(run), len(self._dataset.classes))
        return layers.summary(net, self._dataset.x_train.shape[1:])

    def trainer(self, group: Group, compiling: Compiling = contextlib.nullcontext) -> Trainer:
        """Return what trains the runs of a group; `compiling` is entered while it compiles."""
        shape, trained = cast(R, group.shape), list(group.readers)
        return Trainer(
            self._program(shape),
            [of_run(run) for run in trained],
            [run.training.seed for run in trained],
            shape.training,
            self._sets(shape.data.preprocessing, split.held_out(shape, self._dataset)),
            self._sweep.lockstep,
            self._sweep.shard,
            compiling,
        )

    def _on_device(self, preprocessing: str, held: range) -> Sets:
        affine = self._affine(preprocessing, held)
        return input_pipeline.on_device(self._dataset, preprocessing, held, affine)

    def preprocessing(self, run: R) -> Affine:
        """Return what the network of a run sees of its inputs."""
        held = split.held_out(run, self._dataset)
        return self._affine(run.data.preprocessing, held)

    def check_memory(self, groups: Sequence[Group]) -> None:
        """Raise a `MemoryError` where a group cannot fit into memory; nothing is compiled."""
        states: dict[Any, Any] = {}
        for group in groups:
            shape = cast(R, group.shape)
            training = shape.training
            of = shape.network, training.optimizer
            if of not in states:
                states[of] = self._state(shape)
            # --dry-run says what more would take.
            runs = 1 if self._sweep.dry_run else len(group.readers)
            spread = Spread(self._sweep.shard, runs, self._sweep.lockstep)
            run = run_bytes(states[of], training, group.ends[-1])
            check_memory(run, states[of].params, spread)

    def show_expected(self, groups: Sequence[Group], console: Console) -> None:
        """Measure a few steps of each group, and print what all would take."""
        # What is compiled for a few steps is not what a training compiles.
        jax.config.update("jax_enable_compilation_cache", False)
        count = len(devices())
        over = 1 if self._sweep.shard == "batch" else count
        stderr = Console(stderr=True)
        found = dry_run.all_expected(
            groups,
            self._new_trainer,
            lambda group: nbytes(self._state(cast(R, group.shape))),
            self._sweep.lockstep,
            over,
            lambda order: track(order, "measuring…", console=stderr, transient=True),
        )
        costs_shown.show(groups, found, count, console, self._sweep.shard)

    def _new_trainer(self, group: Group) -> Trainer:
        """Return what trains the runs of a group, with nothing compiled."""
        forget_all()
        return self.trainer(group)

    def _state(self, shape: R) -> Any:
        """The shapes and dtypes of what a run keeps from step to step."""
        return jax.eval_shape(self._program(shape).initialise, of_run(shape), jax.random.key(0))

    def _program(self, shape: R) -> Program:
        """What all runs of a shape share; made once in a process, as is what it compiles to."""
        # Of the data set it holds nothing but these, and of the run no number that is traced.
        network, classes = self._network, len(self._dataset.classes)
        inputs, decays = self._dataset.x_train.shape[1:], schedule(shape, self._dataset)
        shape = shape_of(shape)
        training, augment = shape.training, shape.data.augment
        rest = (training.optimizer, training.precision, training.gradient)

        def made() -> Program:
            return make_program(
                lambda hyper: network(shape, hyper, classes),
                inputs,
                training.optimizer,
                schedule=decays,
                changes=augmentations(augment) or (),
                precision=training.precision,
                gradient=training.gradient,
            )

        of = (network, type(shape), shape.network, augment, *rest)
        return kept((*of, inputs, classes, decays), made)


def schedule(run: Run, dataset: Dataset) -> Schedule:
    """Return the schedule of the learning rate of a run."""
    training = run.training
    period = split.steps_per_epoch(run, dataset) * (training.decay_epochs or 1)
    steps = split.number_of_steps(run, dataset)
    return Schedule(training.schedule, period, steps, training.warmup_steps)
