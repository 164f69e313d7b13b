"""A training command, from its flags to its run directory.

What the commands share; each has flags and a network of its own. Nothing slow is imported before
the flags and the run directory are found to be in order, and nothing is written before the data
are.
"""

import contextlib
import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import track

from train import (
    collective,
    data,
    figures,
    outcome,
    plan,
    processes,
    report,
    results,
    resume,
    store,
    terminal,
)
from train.allowed import Refusal, augmentations
from train.config import R, Run, flags
from train.outcome import Result
from train.saver import Saver
from train.signals import Signals, Stopped
from train.sweep import Group, Sweep, groups, parse, varying

if TYPE_CHECKING:
    from jaxnets.layers import Layer
    from train.examples import Sets
    from train.hyper import Hyper
    from train.program import Program
    from train.trainer import Trainer

# The network of a command: `network(run, hyper, classes)`.
Network = Callable[[R, "Hyper", int], "Layer"]


def command(
    kind: type[R],
    network: Network[R],
    name: str,
    arguments: Sequence[str] | None,
    about: str | None,
) -> int:
    """Run a training command.

    Args:
        kind: the dataclass of its flags.
        network: its network.
        name: the command is `python -m train.NAME`.
        arguments: the words after the command; None for those of this process.
        about: what it does, and examples, see `command_line.read`.

    Returns:
        The exit status: 0; 1 after a loss that is not finite, out of memory, or where a file cannot
        be written; 2 after wrong flags, or without the data or a device; 130 after Ctrl-C, 143
        after SIGTERM; 141 where the reader of the output has left. Each but 0 comes with one line
        on stderr.
    """
    terminal.set_up()
    try:
        with Signals() as signals:
            sweep = parse(kind, arguments, f"python -m train.{name}", about)
            _run(sweep, network, name, signals)
            return processes.end(0)
    except Refusal as error:
        message, status = f"error: {error}", 2
    except BrokenPipeError as error:
        terminal.leave_closed_pipe()
        line = "the reader of standard output has left"
        message, status = "; ".join([line, *notes(error)]), terminal.CLOSED_PIPE
    except (FloatingPointError, MemoryError, OSError) as error:
        message, status = "; ".join([f"error: {error}", *notes(error)]), 1
    except Stopped as stopped:
        message, status = "; ".join([str(stopped), *notes(stopped)]), stopped.status
    return processes.end(status, terminal.one_line(message))


def notes(error: BaseException) -> list[str]:
    """Return what was added to an exception on its way."""
    return getattr(error, "__notes__", [])


def _run(sweep: Sweep[R], network: Network[R], name: str, signals: Signals) -> None:
    runs, first = sweep.runs, sweep.runs[0]
    if sweep.directory is None:
        store.check_out(first.output.out)
    dataset = plan.load(first)
    if sweep.directory is not None:
        resume.check_data(sweep.directory, f"train.{name}", dataset)
    before = None if sweep.directory is None else results.finished(sweep.directory)
    steps = [plan.number_of_steps(run, dataset) for run in runs]
    parts = groups(runs, steps)
    if sweep.machines.distributed:
        # Machines may see the folder at different places, and are told which other flags differ.
        folder = sweep.directory or first.output.out
        processes.join(
            sweep.machines, [f"train.{name}", folder.absolute().name if folder else None]
        )

    from jaxnets import layers  # Slow; from here on all is in order, but perhaps for the device.
    from train import backend, examples, hyper
    from train.device import devices, explained

    backend.set_up()
    if sweep.shard == "batch":
        plan.check_batches(runs, len(devices()))
    device, first_process = devices()[0], collective.is_first()
    collective.meet(
        {
            "command": f"train.{name}",
            "run directory": sweep.directory and str(sweep.directory.absolute()),
            **resume.of_the_runs(sweep.given),
            "fingerprint of the data": dataset.fingerprint,
        }
    )
    _check_memory(parts, sweep, network, dataset)
    if first_process:
        for warning in plan.idle_patience(runs, steps):
            print(f"warning: {warning}", file=sys.stderr)
    sets = functools.lru_cache(1)(functools.partial(examples.on_device, dataset))
    known = [Result(run, []) for run in runs]
    print(f"{dataset.name}: {dataset.description}\n")
    if len(parts) == 1:
        net = network(first, hyper.hyperparameters(flags(first)), len(dataset.classes))
        print(f"{layers.summary(net, dataset.train_images.shape[1:])}\n")
    if sweep.dry_run:
        with explained():
            _show_expected(parts, sweep, network, dataset, sets)
        return
    with (
        explained(),
        _directory(sweep, f"{dataset.name}-{name}") as directory,
        _resumable(directory, name, sweep.directory is None) as advice,
        processes.explained(advice),
    ):
        print(f"run directory {directory.path}", flush=True)
        if sweep.directory is None:
            as_given = {"flags": sweep.given, "fingerprint": dataset.fingerprint}
            directory.write_config({"command": f"train.{name}", **configuration(runs), **as_given})
        if first.output.tensorboard and first_process:
            from train.tensorboard import Events

            events = Events(directory.path / "tensorboard", [flags(run) for run in runs])
            directory.followers.append(events.append)
        saver = Saver(directory, known)
        first_group = saver.recover(len(parts))
        total = sum(len(group.readers) * group.ends[-1] for group in parts)
        several = sum(len(group.readers) for group in parts)
        console = Console(stderr=True, quiet=not first_process)
        with report.Progress(total, console, several) as progress:
            for number, group in enumerate(parts, 1):
                words = f"group {number}/{len(parts)}"
                if len(runs) > 1:
                    progress.begin(words, len(group.readers), group.ends[-1])
                if number < first_group:
                    continue
                which = group.shape.data.preprocessing, plan.held_out(group.shape, dataset)
                trainer = _trainer(group, sweep, network, dataset, sets(*which))
                saver.restore(trainer)
                with signals.held():
                    training = _train(trainer, group, known, directory, progress, saver)
                    for _ in _stoppable(training):
                        received = _received(signals)
                        saver.offer(number, trainer, now=received is not None)
                        if received is not None:
                            where = f" of {words}" if len(parts) > 1 else ""
                            raise Stopped(received, f" after step {trainer.step}{where}")
                    saver.finish(number, trainer, group)
                if (received := _received(signals)) is not None:
                    raise Stopped(received, f" after {words}")
                trainer.forget()  # The next group needs the memory.
        summary = before.summary if before and first_group > len(parts) else None
        damaged = before.damaged if before and summary else {store.SUMMARY, store.CURVES}
        found = outcome.ranked(outcome.configurations(known))
        if damaged and first_process:
            _draw(found, first, name, dataset, directory.curves)
        if summary is None or store.SUMMARY in damaged:
            summary = {
                "versions": outcome.versions(),
                "device": {"platform": device.platform, "kind": device.device_kind},
                "dataset": outcome.describe(dataset),
                **saver.time(),
                "rows": [row for row, _ in found],
            }
        if damaged:
            directory.finish(summary)
        saver.close()
    print()
    report.output().print(report.table(summary))
    print(f"\nrun directory {directory.path}\nfigure        {directory.curves}")
    if all(result.diverged for result in known):
        raise FloatingPointError(
            f"all {len(runs)} runs diverged; a smaller --learning-rate may help"
        )


def _program(shape: R, network: Network[R], dataset: data.Dataset) -> "Program":
    """What all runs of a shape share."""
    from train.program import make_program

    training, classes = shape.training, len(dataset.classes)
    return make_program(
        lambda hyper: network(shape, hyper, classes),
        dataset.train_images.shape[1:],
        training.optimizer,
        schedule=plan.schedule(shape, dataset),
        changes=augmentations(shape.data.augment) or (),
        precision=training.precision,
        gradient=training.gradient,
    )


def _trainer(
    group: Group, sweep: Sweep[R], network: Network[R], dataset: data.Dataset, sets: "Sets"
) -> "Trainer":
    """What trains the runs of a group."""
    from train.hyper import hyperparameters
    from train.trainer import Trainer

    shape, trained = cast(R, group.shape), list(group.readers)
    program = _program(shape, network, dataset)
    hypers = [hyperparameters(flags(run)) for run in trained]
    seeds = [run.training.seed for run in trained]
    return Trainer(program, hypers, seeds, shape.training, sets, sweep.lockstep, sweep.shard)


def _check_memory(
    parts: Sequence[Group], sweep: Sweep[R], network: Network[R], dataset: data.Dataset
) -> None:
    """Raise a `MemoryError` where a group cannot fit into memory, before anything is compiled."""
    import jax

    from train.device import check_memory
    from train.hyper import hyperparameters
    from train.spread import Spread
    from train.trainer import LONGEST_SEGMENT

    states: dict[Any, Any] = {}
    for group in parts:
        shape, hyper = cast(R, group.shape), hyperparameters(flags(group.shape))
        training = shape.training
        of = shape.network, training.optimizer
        if of not in states:
            program = _program(shape, network, dataset)
            states[of] = jax.eval_shape(program.initialise, hyper, jax.random.key(0))
        steps = min(training.eval_every, group.ends[-1], LONGEST_SEGMENT)
        # --dry-run says what more would take.
        runs = 1 if sweep.dry_run else len(group.readers)
        spread = Spread(sweep.shard, runs, sweep.lockstep)
        check_memory(states[of], states[of].params, 4 * steps * training.batch_size, spread)


def _show_expected(
    parts: Sequence[Group],
    sweep: Sweep[R],
    network: Network[R],
    dataset: data.Dataset,
    sets: Callable[..., "Sets"],
) -> None:
    """Say what the groups would take."""
    import jax

    from train import dry_run
    from train.device import devices

    def trainer_of(group: Group) -> "Trainer":
        which = group.shape.data.preprocessing, plan.held_out(group.shape, dataset)
        return _trainer(group, sweep, network, dataset, sets(*which))

    # What is compiled for a few steps is not what a training compiles.
    jax.config.update("jax_enable_compilation_cache", False)
    count = len(devices())
    found = [
        dry_run.expected(group, trainer_of, sweep.lockstep, 1 if sweep.shard == "batch" else count)
        for group in track(parts, "measuring", console=Console(stderr=True), transient=True)
    ]
    dry_run.show(parts, found, count, report.output())


def _draw(
    found: Sequence[tuple[dict[str, Any], list[Any]]],
    first: Run,
    name: str,
    dataset: data.Dataset,
    path: Path,
) -> None:
    """Draw the curves of the only configuration, or compare several."""
    title, note = f"{name} on {dataset.name}", dataset.description
    if len(found) > 1:
        figures.bands(found, path, title, note)
        return
    training = first.training
    title += (
        f": {training.optimizer}, learning rate {training.learning_rate:g}, "
        f"batch size {training.batch_size}"
    )
    figures.curves(found[0][1], path, title, note)


def _directory(sweep: Sweep[R], name: str) -> store.RunDirectory:
    """The run directory to go on with, or a new one; the first of several processes writes it."""
    if not collective.is_first():
        return store.Follower(Path(collective.gathered("")[0]))
    if sweep.directory is None:
        directory = store.RunDirectory.create(sweep.runs[0].output.out, name)
    else:
        directory = store.RunDirectory(sweep.directory)
    collective.gathered(str(directory.path.absolute()))
    return directory


@contextlib.contextmanager
def _resumable(directory: store.RunDirectory, name: str, new: bool) -> Iterator[str]:
    """Add to what stops a run how to go on with it, which the context returns.

    Of a new run that does not fit into memory nothing is left.
    """
    path = shlex.quote(str(directory.path))
    advice = f"resume with: python -m train.{name} --resume {path}"
    try:
        yield advice
    except MemoryError:
        if new:
            directory.discard()
        raise
    except (OSError, Stopped) as error:
        error.add_note(advice)
        raise


def _received(signals: Signals) -> int | None:
    """The signal that came, to whichever of several processes."""
    return next((number for number in collective.gathered(signals.received) if number), None)


def _stoppable(training: Iterator[None]) -> Iterator[None]:
    """Yield also where a signal ends a compilation: what is trained can be saved there too."""
    try:
        yield from training
    except Stopped:
        yield


def _train(
    trainer: "Trainer",
    group: Group,
    known: list[Result],
    directory: store.RunDirectory,
    progress: report.Progress,
    saver: Saver,
) -> Iterator[None]:
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
            if divergence and len(known) == 1:
                raise FloatingPointError(divergence[1])
            for index, end in readers.items():
                result = known[index]
                result.parameters = trainer.parameters
                if divergence and divergence[0] <= end:
                    result.diverged = divergence[0]
                if stopped is not None and stopped < end:
                    result.stopped = end = stopped
                if step == end:
                    ended[index] = trained
                if step == end or (step < end and step % training.eval_every == 0):
                    line = {"run": index, "seed": result.run.training.seed, **record}
                    if step < end and not training.test_curve:
                        line.update(test_loss=None, test_accuracy=None)  # Another run ends here.
                    result.records.append(line)
                    directory.append(line)
                    shown.append(line)
        saver.keep(trainer, ended)
        progress.evaluated(shown)
        yield


def configuration(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what config.json says: the flags, and under "runs" what differs from run to run."""
    differing, values = varying(runs), [flags(run) for run in runs]
    names = [name for name in values[0] if name not in differing and name != "resume"]
    config = {name: values[0][name] for name in names}
    if differing:
        config["runs"] = [{name: run[name] for name in differing} for run in values]
    return config
