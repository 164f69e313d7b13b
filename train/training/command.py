"""What the training commands share: from the flags to a trained network in its run directory.

Each command has flags and a network of its own. Nothing slow is imported before the flags and the
run directory are found to be in order, and nothing is written before the data are.
"""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from train.flags import given
from train.flags.command_line import overridden
from train.flags.config import ONE_VALUE, Lockstep, Machines, R
from train.flags.constraints import check_machines, check_value
from train.flags.sweep import Sweep, expand
from train.flags.typed import as_typed
from train.processes.exit_status import exit_status
from train.processes.signals import Signals

if TYPE_CHECKING:  # What needs JAX is slow to import.
    from train.engine.assembly import Network

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
        name: what the network is called in figures and names of folders.
        arguments: the words after the command; None for those of this process.
        about: what it does, and examples, see `command_line.read`.
    """
    return exit_status(lambda signals: trained(kind, network, name, arguments, about, signals))


def trained(
    kind: type[R],
    network: "Network[R]",
    name: str,
    arguments: Sequence[str] | None,
    about: str | None,
    signals: Signals,
) -> None:
    """Train as a command line says; see `command`. The signals end the training."""
    _run(parse(kind, arguments, kind.started(), about), network, name, signals)


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
    longer = False
    directory = given.run_directory(values["resume"], values["out"])
    if directory is not None:
        from train.run_directory import stored_config

        flag = "--out" if values["resume"] is None else "--resume"
        before = stored_config.stored(directory, kind, flag).given
        if values["resume"] is not None:
            longer = given.asks_for_more(before, values)
            old = given.without_length(before) if longer else before
            values = given.read_values(kind, overridden(given.words(old), words), prog, about)
        given.check_same(directory, before, given.as_json(values), longer)
    as_given = given.as_json(values)
    if directory is not None:
        given.completed_from(before, values)
    sweep, machines = _taken(values, Lockstep), _taken(values, Machines)
    for name, value in vars(sweep).items():
        check_value(name, value)
    check_machines(machines, sweep.dry_run)
    for name in ONE_VALUE & set(values):
        values[name] = (values[name],)
    count = None if sweep.search is None else int(sweep.search.removeprefix("random:"))
    runs = expand(kind(), values, sweep.seeds, count)
    lockstep = None if sweep.lockstep == "auto" else sweep.lockstep
    return Sweep(runs, lockstep, sweep.shard, as_given, directory, sweep.dry_run, machines, longer)


def _print_wrapped(text: str) -> None:
    """Print a text, on a terminal in lines of its width."""
    from train.report.console import output

    console = output()
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _taken(values: dict[str, Any], part: type[P]) -> P:
    """Take the flags of a dataclass out of those of the command."""
    return part(**{field.name: values.pop(field.name) for field in dataclasses.fields(part)})


def _run(sweep: Sweep[R], network: "Network[R]", name: str, signals: Signals) -> None:
    """Check what is asked for, train it, and show the results."""
    # NumPy and what needs it are imported when the flags are in order.
    from train.report import tables
    from train.report.console import output
    from train.training.job import check, set_up
    from train.training.sweep import train

    job = check(sweep, name)
    sweep = job.sweep
    set_up(job)

    from train.engine.assembly import Assembly  # Slow; from here on all is in order.
    from train.engine.memory import explained

    assembly = Assembly(sweep, network, job.dataset)
    assembly.check_memory(job.groups)
    about = f"{job.dataset.name}: {job.dataset.description}\n"
    if len(job.groups) == 1:
        about += f"\n{assembly.described(sweep.runs[0])}\n"
    with explained():
        if sweep.dry_run:
            assembly.show_expected(job.groups, output())
            _print_wrapped(f"\n{about}".rstrip())
            return
        _print_wrapped(about)
        found = train(
            job,
            assembly,
            signals,
            announce=lambda directory: print(f"run directory {directory.path}", flush=True),
        )
    assert found.directory is not None  # It was written.
    print()
    output().print(tables.table(found.summary))
    print(f"\n{tables.kept(sweep.runs[0].training.keep, found.summary)}")
    print(f"run directory {found.directory.path}\nfigure        {found.directory.curves}")
    path = shlex.quote(str(found.directory.path))
    source = type(sweep.runs[0]).source
    own = "" if source is None else f" --network {shlex.quote(source.name)}"
    commands = [f"python -m train.evaluate {path}{own}", f"python -m train.compare {path} RUN_DIR"]
    print(f"\n{as_typed(tables.closing(found.summary, commands))}".rstrip())
    if all(result.end.diverged for result in found.results):
        raise FloatingPointError(
            f"all {len(sweep.runs)} runs diverged; a smaller --learning-rate may help"
        )
