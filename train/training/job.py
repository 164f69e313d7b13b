"""A sweep that was checked and can begin.

Nothing slow is imported before the flags, the run directory and the data are found to be in order.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from train.data import Dataset, split
from train.errors import ConfigError, StoreError
from train.flags import given
from train.flags.sweep import Group, Sweep, groups
from train.processes import cluster, collectives
from train.run_directory import reader, rebuilt, stored_config
from train.run_directory.directory import check_out
from train.run_directory.reader import Results


class Job(NamedTuple):
    """A sweep that was checked and can begin.

    Attributes:
        name: of the network, such as mlp.
        sweep: its flags.
        dataset: its data.
        steps: how many steps each run takes.
        groups: its runs by their shape.
        before: what its run directory holds, if a sweep has finished there.
    """

    name: str
    sweep: Sweep[Any]
    dataset: Dataset
    steps: list[int]
    groups: list[Group]
    before: Results | None


def check(sweep: Sweep[Any], name: str, dataset: Dataset | None = None) -> Job:
    """Return a sweep as a job that can begin.

    Args:
        sweep: the flags.
        name: of the network, such as mlp.
        dataset: the data; None to load those that the flags name.

    Raises:
        Refusal: the flags or the network do not go with the data or with the run directory.
    """
    runs = sweep.runs
    if sweep.directory is None:
        check_out(runs[0].output.out)
    dataset = split.load_for(runs[0], dataset)
    before = None
    if sweep.directory is not None:
        stored_config.check_data(sweep.directory, type(runs[0]), dataset)
        before = reader.finished(sweep.directory)
    settled = type(runs[0]).settled(runs, dataset.x_train.shape[1:], len(dataset.classes))
    sweep = sweep._replace(runs=settled)
    steps = [split.number_of_steps(run, dataset) for run in runs]
    if sweep.longer:
        _check_longer(sweep, dataset, steps, before)
    return Job(name, sweep, dataset, steps, groups(settled, steps), before)


def _check_longer(
    sweep: Sweep[Any], dataset: Dataset, steps: Sequence[int], before: Results | None
) -> None:
    """Refuse to train on what is not finished, or has as many steps already."""
    if before is None:
        raise StoreError(
            f"{sweep.directory} is not finished: resume it without --steps or --epochs first"
        )
    for index, wanted in enumerate(steps):
        run = rebuilt.run(before, index, type(sweep.runs[0]))
        done = split.number_of_steps(run, dataset)
        if wanted <= done:
            raise ConfigError(
                f"--resume {sweep.directory}: its runs have {done} steps; to train them on, take "
                f"more than these with --steps, not {wanted}"
            )


def set_up(job: Job) -> None:
    """Set up JAX and find the other processes; refuse a device or a process that does not fit."""
    sweep, runs = job.sweep, job.sweep.runs
    if sweep.machines.distributed:
        # Machines may see the folder at different places, and are told which other flags differ.
        folder = sweep.directory or runs[0].output.out
        cluster.join(
            sweep.machines, [runs[0].started(), folder.absolute().name if folder else None]
        )

    from train.engine.devices import devices, set_up  # They need JAX, which is slow to import.

    set_up()
    if sweep.shard == "batch":
        split.check_batches(runs, len(devices()))
    devices()
    collectives.meet(
        {
            **stored_config.trained_by(type(runs[0])),
            "run directory": sweep.directory and str(sweep.directory.absolute()),
            **given.of_the_runs(sweep.given),
            "fingerprint of the data": job.dataset.fingerprint,
        }
    )
    if collectives.is_first():
        for warning in split.idle_patience(runs, job.steps):
            print(f"warning: {warning}", file=sys.stderr)
