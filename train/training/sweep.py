"""A sweep is trained: with a run directory, or in memory alone.

Here the run directory, the live progress and the results meet.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from train.flags.config import flags
from train.processes import cluster, collectives
from train.processes.signals import Interruption, Signals, Stopped
from train.report import figures
from train.report.console import standard_error
from train.report.progress import Progress
from train.run_directory import data_file, reader, stored_config, summary
from train.run_directory.checkpoint_manager import Saver
from train.run_directory.directory import RunDirectory
from train.run_directory.keeper import Keeper
from train.run_directory.manifest import CURVES, SUMMARY
from train.run_directory.summary import Result
from train.training.job import Job
from train.training.loop import Loop, directory_of, resumable

if TYPE_CHECKING:  # It needs JAX, which is slow to import.
    from train.engine.assembly import Assembly


class Trained(NamedTuple):
    """The results of a sweep.

    Attributes:
        summary: what summary.json holds.
        results: of each run.
        keeper: holds what the runs have learned, where the run directory does not.
        directory: where the results were written, if anywhere.
    """

    summary: dict[str, Any]
    results: Sequence[Result]
    keeper: Keeper
    directory: RunDirectory | None


# --- training ------------------------------------------------------------------------------------


def train(
    job: Job,
    assembly: "Assembly[Any]",
    signals: Signals | Interruption,
    *,
    write: bool = True,
    announce: Callable[[RunDirectory], None] = lambda directory: None,
) -> Trained:
    """Train the groups that are not trained yet, and summarise all runs.

    Args:
        job: what to train.
        assembly: makes what trains it.
        signals: end the training where it can be resumed.
        write: write a run directory; otherwise nothing is written.
        announce: is called with the run directory before the first step.

    Raises:
        Stopped: a signal came; `so_far` has the results until then.
    """
    runs = job.sweep.runs
    known = [Result(run, []) for run in runs]
    if not write:
        keeper = Keeper()
        _train_groups(job, assembly, Loop(None, known, keeper, signals), 1)
        return Trained(_content(job, known, keeper), known, keeper, None)
    with _directory(job) as directory:
        announce(directory)
        directory.write_data(data_file.content(job.dataset, runs, assembly.preprocessing))
        saver = Saver(directory, known)
        if job.sweep.longer:
            saver.check_states(len(job.groups))
            assert job.before is not None  # `check` saw to that.
            directory.extend(_config(job), reader.ends(job.before))
        first_group = saver.recover(len(job.groups))
        _train_groups(job, assembly, Loop(directory, known, saver, signals), first_group)
        found = _summarise(job, directory, saver, known, first_group > len(job.groups))
        saver.close()
    return Trained(found, known, saver, directory)


@contextlib.contextmanager
def _directory(job: Job) -> Iterator[RunDirectory]:
    """Open the run directory, with its config.json and its followers."""
    sweep, runs = job.sweep, job.sweep.runs
    with (
        directory_of(sweep, f"{job.dataset.name}-{job.name}") as directory,
        resumable(directory, runs[0].started(), sweep.directory is None) as advice,
        cluster.explained(advice),
    ):
        if sweep.directory is None:
            directory.write_config(_config(job))
        if runs[0].output.tensorboard and collectives.is_first():
            from train.run_directory.tensorboard import Events

            events = Events(directory.path / "tensorboard", [flags(run) for run in runs])
            directory.followers.append(events.append)
        yield directory


def _config(job: Job) -> dict[str, Any]:
    """Return what config.json is to say."""
    return {
        **stored_config.trained_by(type(job.sweep.runs[0])),
        **stored_config.configuration(job.sweep.runs),
        "flags": job.sweep.given,
        "fingerprint": job.dataset.fingerprint,
    }


def _train_groups(job: Job, assembly: "Assembly[Any]", loop: Loop, first: int) -> None:
    """Train the groups from the one with the number `first` on, with live progress."""
    total = sum(len(group.readers) * group.ends[-1] for group in job.groups)
    several = sum(len(group.readers) for group in job.groups)
    console = standard_error(quiet=not collectives.is_first())
    with Progress(total, console, several) as progress:
        for number, group in enumerate(job.groups, 1):
            words = f"group {number}/{len(job.groups)}"
            if len(job.sweep.runs) > 1:
                progress.begin(words, len(group.readers), group.ends[-1])
            if number >= first:
                trainer = assembly.trainer(group, progress.compiling)
                loop.saver.restore(number, trainer)
                try:
                    loop.train(
                        trainer, group, number, words if len(job.groups) > 1 else "", progress
                    )
                except Stopped as stopped:
                    stopped.found = loop
                    raise


# --- results -------------------------------------------------------------------------------------


def _summarise(
    job: Job, directory: RunDirectory, saver: Saver, known: Sequence[Result], trained: bool
) -> dict[str, Any]:
    """Write summary.json and curves.png, and return the first.

    Where all was trained before, only what is damaged is made anew.
    """
    before = job.before if trained else None
    content = before.summary if before else None
    damaged = before.damaged if before and content else {SUMMARY, CURVES}
    found = summary.ranked(summary.configurations(known))
    if damaged and collectives.is_first():
        figures.results(found, directory.curves, job.name, summary.describe(job.dataset))
    if content is None or SUMMARY in damaged:
        content = _content(job, known, saver)
    if damaged:
        directory.finish(content)
    return content


def so_far(job: Job, stopped: Stopped) -> Trained | None:
    """Return the results until a signal came; None where nothing was trained."""
    loop: Loop | None = stopped.found
    if loop is None or not loop.saver.learned:
        return None
    known = [result for result in loop.known if result.records]
    return Trained(_content(job, known, loop.saver), known, loop.saver, loop.directory)


def _content(job: Job, known: Sequence[Result], keeper: Keeper) -> dict[str, Any]:
    """Return what summary.json is to hold."""
    from train.engine.devices import devices

    device = devices()[0]
    return {
        "versions": summary.versions(),
        "device": {"platform": device.platform, "kind": device.device_kind},
        "dataset": summary.describe(job.dataset),
        **keeper.time(),
        "rows": [row for row, _ in summary.ranked(summary.configurations(known))],
    }
