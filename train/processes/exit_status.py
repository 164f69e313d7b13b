"""How every command ends: the exit status and, after an error, one line on stderr."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from train.errors import Refusal
from train.flags import terminal
from train.flags.command_line import read
from train.flags.typed import as_typed
from train.processes import cluster
from train.processes.signals import Signals, Stopped


def exit_status(work: Callable[[Signals], int | None]) -> int:
    """Do the work of a command, and answer for what goes wrong.

    Args:
        work: gets the signals that reach the process; returns an exit status, None for 0.

    Returns:
        The exit status: that of `work`; 1 where a file cannot be read or written, memory is short,
        or every loss is not finite; 2 after a `Refusal`, such as wrong words, or without a package;
        130 after Ctrl-C, 143 after SIGTERM; 141 where the reader of the output has left. Each but
        that of `work` comes with one line on stderr, which ends with the notes of the exception;
        141 without notes comes with none.
    """
    terminal.set_up()
    try:
        with Signals() as signals:
            status = work(signals) or 0
            sys.stdout.flush()
            return cluster.end(status)
    except BrokenPipeError as error:
        terminal.leave_closed_pipe()
        line = ["the reader of standard output has left"] * bool(_notes(error))
        message, status = "; ".join([*line, *_notes(error)]), terminal.CLOSED_PIPE
    except Refusal as error:
        message, status = f"error: {error}", 2
    except ModuleNotFoundError as error:
        package = (error.name or "jaxnets").partition(".")[0]
        if package in ("jaxnets", "train"):
            raise
        message = f"error: {package} is not installed, and is needed: pip install 'jaxnets[train]'"
        status = 2
    except (FloatingPointError, MemoryError, OSError) as error:
        message, status = "; ".join([f"error: {error}", *_notes(error)]), 1
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    except Stopped as stopped:
        message, status = "; ".join([str(stopped), *_notes(stopped)]), stopped.status
    return cluster.end(status, terminal.one_line(as_typed(message)))


def answer(
    kind: Any,
    work: Callable[[Any], int | None],
    arguments: Sequence[str] | None,
    prog: str,
    about: str | None,
) -> int:
    """Run a command that needs its flags alone; return its exit status.

    Args:
        kind: what the flags are made of, see `command_line.read`.
        work: takes what `kind` becomes, and returns an exit status; None is 0.
        arguments: the words after the command; None for those of this process.
        prog: the command, as the help shows it.
        about: what it does, and examples; see `command_line.read`.
    """
    words = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda _: work(read(kind, words, prog, about)))


def _notes(error: BaseException) -> list[str]:
    """What was added to an exception on its way."""
    return getattr(error, "__notes__", [])
