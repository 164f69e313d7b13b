"""Trains the runs of a group into a run directory: evaluations, progress, checkpoints, signals."""

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from train.flags.config import R
from train.flags.sweep import Group, Sweep
from train.metrics import names_on
from train.processes import collectives
from train.processes.signals import Interruption, Signals, Stopped
from train.report.progress import Progress
from train.run_directory.directory import RunDirectory
from train.run_directory.keeper import Keeper
from train.run_directory.summary import End, Result

if TYPE_CHECKING:  # It needs JAX, which is slow to import.
    from train.engine.trainer import Trainer


class Loop(NamedTuple):
    """What trains the groups of a sweep, one after the other.

    Attributes:
        directory: where the evaluations are written; None to write nothing.
        known: what is known of each run of the sweep.
        saver: keeps or saves what the groups learn.
        signals: end the training where it can be resumed.
    """

    directory: RunDirectory | None
    known: Sequence[Result]
    saver: Keeper
    signals: Signals | Interruption

    def train(
        self, trainer: "Trainer", group: Group, number: int, words: str, progress: Progress
    ) -> None:
        """Train a group and save it: from time to time, at its end, and where a signal comes.

        Args:
            trainer: trains it, from where it stands on.
            group: the runs.
            number: of the group, from 1 on.
            words: what to call the group; empty for the only one.
            progress: shows how far it is.

        Raises:
            Stopped: a signal came; says after which step.
            FloatingPointError: the loss of the only run is not finite.
        """
        with self.signals.held():
            for _ in _stoppable(self._evaluated(trainer, group, progress)):
                received = self._received()
                self.saver.offer(number, trainer, group, now=received is not None)
                if received is not None:
                    within = f" of {words}" if words else ""
                    raise Stopped(received, f" after step {trainer.step}{within}")
            self.saver.finish(number, trainer, group)
        if (received := self._received()) is not None:
            raise Stopped(received, f" after {words or 'the last step'}")
        trainer.forget()  # The next group needs the memory.

    def _received(self) -> int | None:
        """Return the signal that any of several processes has received."""
        received = collectives.gathered(self.signals.received)
        return next((number for number in received if number), None)

    def _evaluated(self, trainer: "Trainer", group: Group, progress: Progress) -> Iterator[None]:
        """Train a group, and give each run its evaluations, those that it would have alone.

        Wherever there is a yield, all can be saved.
        """
        training = group.shape.training
        for evaluated in trainer.train(group.ends, progress.advance):
            if not evaluated:
                yield
                continue
            shown, ended = [], {}
            for trained, readers in enumerate(group.readers.values()):
                record, divergence = evaluated[trained], trainer.diverged.get(trained)
                step, stopped = record["step"], trainer.stopped.get(trained)
                if divergence and len(self.known) == 1:
                    raise FloatingPointError(divergence[1])
                for index, end in readers.items():
                    result = self.known[index]
                    result.end = End(
                        divergence[0] if divergence and divergence[0] <= end else None,
                        stopped if stopped is not None and stopped < end else None,
                        trainer.parameters,
                        trainer.kept.get(trained) if step <= end else result.end.kept,
                    )
                    end = min(end, result.end.stopped or end)
                    if step == end:
                        ended[index] = trained
                    if step == end or (step < end and step % training.eval_every == 0):
                        line = {"run": index, "seed": result.run.training.seed, **record}
                        if step < end and not training.test_curve:
                            line.update(dict.fromkeys(names_on("test")))  # Another run ends here.
                        result.records.append(line)
                        if self.directory is not None:
                            self.directory.append(line)
                        shown.append(line)
            self.saver.keep(trainer, ended)
            progress.evaluated(shown)
            yield


def _stoppable(training: Iterator[None]) -> Iterator[None]:
    """Yield also where a signal ends a compilation: what is trained can be saved there too."""
    try:
        yield from training
    except Stopped:
        yield


def directory_of(sweep: Sweep[R], name: str) -> RunDirectory:
    """Return the run directory to resume or a new one; the first of several processes writes."""
    if not collectives.is_first():
        return RunDirectory(Path(collectives.gathered("")[0]), False)
    if sweep.directory is None:
        directory = RunDirectory.create(sweep.runs[0].output.out, name)
    else:
        directory = RunDirectory(sweep.directory)
    collectives.gathered(str(directory.path.absolute()))
    return directory


@contextlib.contextmanager
def resumable(directory: RunDirectory, started: str, new: bool) -> Iterator[str]:
    """Add "resume with: ..." to any error that stops the run, and yield that text.

    A new run that does not fit into memory is removed.

    Args:
        directory: the run directory.
        started: the words that start the command.
        new: whether it is a new run.
    """
    path = shlex.quote(str(directory.path))
    advice = f"resume with: {started} --resume {path}"
    try:
        yield advice
    except MemoryError:
        if new:
            directory.discard()
        raise
    except (OSError, Stopped) as error:
        error.add_note(advice)
        raise
