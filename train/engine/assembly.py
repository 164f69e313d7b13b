"""Programs and trainers, made from the flags of runs and their data."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, cast

import jax
from rich.console import Console
from rich.progress import track

from jaxnets import layers
from train.data import Dataset, split
from train.engine import dry_run, input_pipeline
from train.engine.compiled import kept
from train.engine.devices import devices
from train.engine.hyperparameters import Hyper, hyperparameters
from train.engine.memory import check_memory
from train.engine.optimizers import Schedule
from train.engine.program import Program, make_program
from train.engine.segments import LONGEST_SEGMENT
from train.engine.sharding import Spread
from train.engine.trainer import Trainer
from train.flags.config import R, Run, flags
from train.flags.declaration import augmentations
from train.flags.sweep import Group, Sweep

# The network of a command: `network(run, hyper, classes)`.
Network = Callable[[R, Hyper, int], layers.Layer]


class Assembly(Generic[R]):
    """Makes what trains the runs of a sweep on a data set."""

    def __init__(self, sweep: Sweep[R], network: Network[R], dataset: Dataset):
        self._sweep, self._network, self._dataset = sweep, network, dataset
        # Groups that follow one another see the same images, which are on the device once.
        self._sets = functools.lru_cache(1)(functools.partial(input_pipeline.on_device, dataset))

    def described(self, run: R) -> str:
        """Return the layers of the network of a run, with the shapes and numbers of parameters."""
        net = self._network(run, hyperparameters(flags(run)), len(self._dataset.classes))
        return layers.summary(net, self._dataset.x_train.shape[1:])

    def trainer(self, group: Group) -> Trainer:
        """Return what trains the runs of a group."""
        shape, trained = cast(R, group.shape), list(group.readers)
        return Trainer(
            self._program(shape),
            [hyperparameters(flags(run)) for run in trained],
            [run.training.seed for run in trained],
            shape.training,
            self._sets(shape.data.preprocessing, split.held_out(shape, self._dataset)),
            self._sweep.lockstep,
            self._sweep.shard,
        )

    def check_memory(self, groups: Sequence[Group]) -> None:
        """Raise a `MemoryError` where a group cannot fit into memory; nothing is compiled."""
        states: dict[Any, Any] = {}
        for group in groups:
            shape = cast(R, group.shape)
            training, hyper = shape.training, hyperparameters(flags(shape))
            of = shape.network, training.optimizer
            if of not in states:
                program = self._program(shape)
                states[of] = jax.eval_shape(program.initialise, hyper, jax.random.key(0))
            steps = min(training.eval_every, group.ends[-1], LONGEST_SEGMENT)
            # --dry-run says what more would take.
            runs = 1 if self._sweep.dry_run else len(group.readers)
            spread = Spread(self._sweep.shard, runs, self._sweep.lockstep)
            check_memory(states[of], states[of].params, 4 * steps * training.batch_size, spread)

    def show_expected(self, groups: Sequence[Group], console: Console) -> None:
        """Measure a few steps of each group, and print what all would take."""
        # What is compiled for a few steps is not what a training compiles.
        jax.config.update("jax_enable_compilation_cache", False)
        count = len(devices())
        over = 1 if self._sweep.shard == "batch" else count
        stderr = Console(stderr=True)
        found = [
            dry_run.expected(group, self.trainer, self._sweep.lockstep, over)
            for group in track(groups, "measuring", console=stderr, transient=True)
        ]
        dry_run.show(groups, found, count, console)

    def _program(self, shape: R) -> Program:
        """What all runs of a shape share; made once in a process, as is what it compiles to."""
        # Of the data set it holds nothing but these.
        network, classes = self._network, len(self._dataset.classes)
        images, decays = self._dataset.x_train.shape[1:], schedule(shape, self._dataset)
        training = shape.training

        def made() -> Program:
            return make_program(
                lambda hyper: network(shape, hyper, classes),
                images,
                training.optimizer,
                schedule=decays,
                changes=augmentations(shape.data.augment) or (),
                precision=training.precision,
                gradient=training.gradient,
            )

        return kept((network, shape, images, classes, decays), made)


def schedule(run: Run, dataset: Dataset) -> Schedule:
    """Return the schedule of the learning rate of a run."""
    training = run.training
    period = split.steps_per_epoch(run, dataset) * (training.decay_epochs or 1)
    steps = split.number_of_steps(run, dataset)
    return Schedule(training.schedule, period, steps, training.warmup_steps)
