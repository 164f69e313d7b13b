"""The words of a command line as values, and what is wrong with them in one line."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tyro

from train.allowed import ALLOWED, ConfigError, Refusal, option
from train.signals import Signals, Stopped


def answer(
    kind: Any,
    work: Callable[[Any], int | None],
    arguments: Sequence[str] | None,
    prog: str,
    description: str,
) -> int:
    """Run a command: read its words, do what they ask for, and answer for what goes wrong.

    Args:
        kind: what tyro makes the flags of.
        work: takes what `kind` becomes, and returns an exit status; None is 0.
        arguments: the words after the command; None for those of this process.
        prog: the command, as the help shows it.
        description: what it does.

    Returns:
        The exit status: that of `work`; 1 where a file cannot be read or written, or memory is
        short; 2 after wrong words, or another `Refusal`; 130 after Ctrl-C, 143 after SIGTERM. Each
        but that of `work` comes with one line on stderr.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with Signals():
            with _one_line_errors(words):
                asked = tyro.cli(kind, args=words, prog=prog, description=description)
            return work(asked) or 0
    except Refusal as error:
        message, status = f"error: {error}", 2
    except (MemoryError, OSError) as error:
        message, status = f"error: {error}", 1
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    except Stopped as stopped:
        message, status = str(stopped), stopped.status
    print(message, file=sys.stderr)
    return status


def read(kind: Any, arguments: Sequence[str], prog: str, description: str) -> Any:
    """Parse a command line.

    Args:
        kind: a dataclass of dataclasses, whose fields are the flags.
        arguments: the words after the command.
        prog: the command, as the help shows it.
        description: what it does.

    Raises:
        ConfigError: a flag is unknown, or its value is no number or no choice.
        SystemExit: after printing the help.
    """
    with _one_line_errors(arguments):
        parsed, unknown = tyro.cli(
            kind,
            args=arguments,
            prog=prog,
            description=description,
            config=(tyro.conf.OmitArgPrefixes,),
            return_unknown_args=True,
        )
    for word in unknown:
        if not word.startswith("--"):
            raise ConfigError(f"{word}: is neither a flag, nor a value of the flag before it")
        parts = [getattr(parsed, part.name) for part in dataclasses.fields(parsed)]
        names = [option(field.name) for part in parts for field in dataclasses.fields(part)]
        names = [name for name in names if name != word]  # One that is not for the command line.
        raise ConfigError(f"{word}: there is no such flag{_near(word, names)}")
    return parsed


@contextlib.contextmanager
def _one_line_errors(words: Sequence[str]) -> Iterator[None]:
    """A context in which tyro raises a `ConfigError` instead of drawing a box and ending all."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            yield
    except SystemExit as stop:
        if stop.code:
            raise ConfigError(_one_line(errors.getvalue(), words)) from None
        raise


def _one_line(box: str, arguments: Sequence[str]) -> str:
    """What tyro says in a box, as one line: the flag, its value, and what is allowed."""
    text = " ".join(line.strip("│ ") for line in box.splitlines())
    if choice := re.search(
        r"invalid choice '(.*?)' for argument '(.*?)'.*? one of \((.*?)\)", text
    ):
        value, flag, allowed = choice.groups()
        names = re.findall(r"'(.*?)'", allowed)
        return f"{flag} {value}: must be one of {', '.join(names)}{_near(value, names)}"
    if missing := re.search(r"Missing value for argument '(.*?)'", text):
        return f"{missing[1]}: needs a value"
    if unknown := re.search(r"Unrecognized options: (\S+?),? ", text):
        meant = re.search(r"Perhaps you meant: ─* *(--[a-z-]+)", text)
        near = f"; did you mean {meant[1]}?" if meant else ""
        return f"{unknown[1]}: there is no such {'flag' if unknown[1][0] == '-' else 'thing'}{near}"
    if subcommands := re.search(r"Missing subcommand.*? one of \{(.*?)\}", text):
        return f"needs one of {subcommands[1]} first"
    if absent := re.search(r"Missing from (.*?): ─* *(\S+)", text):
        return f"{absent[2]}: is missing; {absent[1]} --help says what it is"
    flag = re.search(r"Error parsing (--[a-z0-9-]+)", text)
    name = flag[1].removeprefix("--").replace("-", "_") if flag else ""
    if flag and name in ALLOWED:
        words = [part for word in arguments for part in word.split("=", 1)]
        after = words[words.index(flag[1]) + 1 :] if flag[1] in words else []
        values = itertools.takewhile(lambda word: not word.startswith("--"), after)
        return f"{flag[1]} {' '.join(values)}: must be {ALLOWED[name].words}"
    return " ".join(re.sub("[─-╿]", " ", text).split())


def _near(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""
