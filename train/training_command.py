"""What the training commands share: from the flags to a trained network in its run directory.

Each command has flags and a network of its own. Nothing slow is imported before the flags and the
run directory are found to be in order, and nothing is written before the data are.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rich.console import Console

from train.data import Dataset, split
from train.flags import given
from train.flags.command_line import overridden
from train.flags.config import ONE_VALUE, Lockstep, Machines, R, flags
from train.flags.constraints import check_machines, check_value
from train.flags.sweep import Group, Sweep, expand, groups
from train.processes import cluster, collectives
from train.processes.exit_status import exit_status
from train.processes.signals import Signals
from train.report import figures, tables
from train.report.console import output
from train.report.progress import Progress
from train.run_directory import reader, stored_config, summary
from train.run_directory.checkpoint_manager import Saver
from train.run_directory.directory import RunDirectory, check_out
from train.run_directory.manifest import CURVES, SUMMARY
from train.run_directory.reader import Results
from train.run_directory.summary import Result
from train.training_loop import Loop, directory_of, resumable

if TYPE_CHECKING:  # What needs JAX is slow to import.
    from train.engine.assembly import Assembly, Network

P = TypeVar("P", Lockstep, Machines)


def command(
    kind: type[R],
    network: "Network[R]",
    name: str,
    arguments: Sequence[str] | None,
    about: str | None,
) -> int:
    """Run a training command; return its exit status, see `exit_status`.

    Args:
        kind: the dataclass of its flags.
        network: its network.
        name: the command is `python -m train.NAME`.
        arguments: the words after the command; None for those of this process.
        about: what it does, and examples, see `command_line.read`.
    """

    def work(signals: Signals) -> None:
        _run(parse(kind, arguments, f"python -m train.{name}", about), network, name, signals)

    return exit_status(work)


def parse(kind: type[R], arguments: Sequence[str] | None, prog: str, about: str | None) -> Sweep[R]:
    """Parse a command line; when it resumes a run, that run's own flags complete it.

    Args:
        kind: the dataclass of a run of the command.
        arguments: the words after the command; None for those of this process.
        prog: the command, as the help shows it.
        about: what it does, and examples, see `command_line.read`.

    Returns:
        The runs.

    Raises:
        ConfigError: a flag is unknown, a value is out of range, two flags do not go together, or
            they are not those of the run to resume.
        StoreError: what is named as a run directory is none.
        SystemExit: after printing the help.
    """
    words = sys.argv[1:] if arguments is None else arguments
    values = given.read_values(kind, words, prog, about)
    directory = stored_config.run_directory(values["resume"], values["out"])
    if directory is not None:
        flag = "--out" if values["resume"] is None else "--resume"
        before = stored_config.stored(directory, prog.removeprefix("python -m "), flag).given
        if values["resume"] is not None:
            values = given.read_values(kind, overridden(given.words(before), words), prog, about)
        given.check_same(directory, before, given.as_json(values))
    as_given = given.as_json(values)
    sweep, machines = _taken(values, Lockstep), _taken(values, Machines)
    for name, value in vars(sweep).items():
        check_value(name, value)
    check_machines(machines, sweep.dry_run)
    for name in ONE_VALUE & set(values):
        values[name] = (values[name],)
    count = None if sweep.search is None else int(sweep.search.removeprefix("random:"))
    runs = expand(kind(), values, sweep.seeds, count)
    lockstep = None if sweep.lockstep == "auto" else sweep.lockstep
    return Sweep(runs, lockstep, sweep.shard, as_given, directory, sweep.dry_run, machines)


def _taken(values: dict[str, Any], part: type[P]) -> P:
    """Take the flags of a dataclass out of those of the command."""
    return part(**{field.name: values.pop(field.name) for field in dataclasses.fields(part)})


class _Work(NamedTuple):
    """A sweep that was checked and can begin.

    Attributes:
        name: the command is `python -m train.NAME`.
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


def _run(sweep: Sweep[R], network: "Network[R]", name: str, signals: Signals) -> None:
    """Check what is asked for, train it, and show the results."""
    work = _check(sweep, name)
    _set_up(work)

    from train.engine.assembly import Assembly  # Slow; from here on all is in order.
    from train.engine.memory import explained

    assembly = Assembly(sweep, network, work.dataset)
    assembly.check_memory(work.groups)
    print(f"{work.dataset.name}: {work.dataset.description}\n")
    if len(work.groups) == 1:
        print(f"{assembly.described(sweep.runs[0])}\n")
    with explained():
        if sweep.dry_run:
            assembly.show_expected(work.groups, output())
        else:
            _train_all(work, assembly, signals)


# --- checks --------------------------------------------------------------------------------------


def _check(sweep: Sweep[R], name: str) -> _Work:
    """Load the data, and refuse what does not go with them or with the run directory."""
    runs = sweep.runs
    if sweep.directory is None:
        check_out(runs[0].output.out)
    dataset = split.load_for(runs[0])
    before = None
    if sweep.directory is not None:
        stored_config.check_data(sweep.directory, f"train.{name}", dataset)
        before = reader.finished(sweep.directory)
    steps = [split.number_of_steps(run, dataset) for run in runs]
    return _Work(name, sweep, dataset, steps, groups(runs, steps), before)


def _set_up(work: _Work) -> None:
    """Set up JAX and find the other processes; refuse a device or a process that does not fit."""
    sweep, runs = work.sweep, work.sweep.runs
    if sweep.machines.distributed:
        # Machines may see the folder at different places, and are told which other flags differ.
        folder = sweep.directory or runs[0].output.out
        cluster.join(
            sweep.machines, [f"train.{work.name}", folder.absolute().name if folder else None]
        )

    from train.engine.devices import devices, set_up  # They need JAX, which is slow to import.

    set_up()
    if sweep.shard == "batch":
        split.check_batches(runs, len(devices()))
    devices()
    collectives.meet(
        {
            "command": f"train.{work.name}",
            "run directory": sweep.directory and str(sweep.directory.absolute()),
            **given.of_the_runs(sweep.given),
            "fingerprint of the data": work.dataset.fingerprint,
        }
    )
    if collectives.is_first():
        for warning in split.idle_patience(runs, work.steps):
            print(f"warning: {warning}", file=sys.stderr)


# --- training ------------------------------------------------------------------------------------


def _train_all(work: _Work, assembly: "Assembly[Any]", signals: Signals) -> None:
    """Train the groups that are not trained yet; write, draw and print the results."""
    sweep, runs = work.sweep, work.sweep.runs
    known = [Result(run, []) for run in runs]
    with (
        directory_of(sweep, f"{work.dataset.name}-{work.name}") as directory,
        resumable(directory, work.name, sweep.directory is None) as advice,
        cluster.explained(advice),
    ):
        print(f"run directory {directory.path}", flush=True)
        if sweep.directory is None:
            as_given = {"flags": sweep.given, "fingerprint": work.dataset.fingerprint}
            configuration = stored_config.configuration(runs)
            directory.write_config({"command": f"train.{work.name}", **configuration, **as_given})
        if runs[0].output.tensorboard and collectives.is_first():
            from train.run_directory.tensorboard import Events

            events = Events(directory.path / "tensorboard", [flags(run) for run in runs])
            directory.followers.append(events.append)
        saver = Saver(directory, known)
        first_group = saver.recover(len(work.groups))
        total = sum(len(group.readers) * group.ends[-1] for group in work.groups)
        several = sum(len(group.readers) for group in work.groups)
        console = Console(stderr=True, quiet=not collectives.is_first())
        with Progress(total, console, several) as progress:
            loop = Loop(directory, known, saver, progress, signals)
            for number, group in enumerate(work.groups, 1):
                words = f"group {number}/{len(work.groups)}"
                if len(runs) > 1:
                    progress.begin(words, len(group.readers), group.ends[-1])
                if number >= first_group:
                    trainer = assembly.trainer(group)
                    saver.restore(trainer)
                    loop.train(trainer, group, number, words if len(work.groups) > 1 else "")
        found = _summarise(work, directory, saver, known, first_group > len(work.groups))
        saver.close()
    print()
    output().print(tables.table(found))
    print(f"\nrun directory {directory.path}\nfigure        {directory.curves}")
    if all(result.diverged for result in known):
        raise FloatingPointError(
            f"all {len(runs)} runs diverged; a smaller --learning-rate may help"
        )


# --- results -------------------------------------------------------------------------------------


def _summarise(
    work: _Work, directory: RunDirectory, saver: Saver, known: Sequence[Result], trained: bool
) -> dict[str, Any]:
    """Write summary.json and curves.png, and return the first.

    Where all was trained before, only what is damaged is made anew.
    """
    before = work.before if trained else None
    content = before.summary if before else None
    damaged = before.damaged if before and content else {SUMMARY, CURVES}
    found = summary.ranked(summary.configurations(known))
    if damaged and collectives.is_first():
        _draw(found, work, directory.curves)
    if content is None or SUMMARY in damaged:
        from train.engine.devices import devices

        device = devices()[0]
        content = {
            "versions": summary.versions(),
            "device": {"platform": device.platform, "kind": device.device_kind},
            "dataset": summary.describe(work.dataset),
            **saver.time(),
            "rows": [row for row, _ in found],
        }
    if damaged:
        directory.finish(content)
    return content


def _draw(found: Sequence[tuple[dict[str, Any], list[Any]]], work: _Work, path: Path) -> None:
    """Draw the curves of the only configuration, or compare several."""
    title, note = f"{work.name} on {work.dataset.name}", work.dataset.description
    if len(found) > 1:
        figures.bands(found, path, title, note)
        return
    training = work.sweep.runs[0].training
    title += (
        f": {training.optimizer}, learning rate {training.learning_rate:g}, "
        f"batch size {training.batch_size}"
    )
    figures.curves(found[0][1], path, title, note)
