"""The words of a command line as values, and what is wrong with them in one line."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
from collections.abc import Sequence
from typing import Any

import tyro

from train.allowed import ALLOWED, ConfigError, option


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
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed, unknown = tyro.cli(
                kind,
                args=arguments,
                prog=prog,
                description=description,
                config=(tyro.conf.OmitArgPrefixes,),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code:
            raise ConfigError(_one_line(errors.getvalue(), arguments)) from None
        raise
    for word in unknown:
        if not word.startswith("--"):
            raise ConfigError(f"{word}: is neither a flag, nor a value of the flag before it")
        parts = [getattr(parsed, part.name) for part in dataclasses.fields(parsed)]
        names = [option(field.name) for part in parts for field in dataclasses.fields(part)]
        raise ConfigError(f"{word}: there is no such flag{_near(word, names)}")
    return parsed


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
    flag = re.search(r"Error parsing (--[a-z0-9-]+)", text)
    name = flag[1].removeprefix("--").replace("-", "_") if flag else ""
    if flag and name in ALLOWED:
        given = itertools.dropwhile(lambda word: word.partition("=")[0] != flag[1], arguments)
        values = itertools.takewhile(lambda word: not word.startswith("--"), list(given)[1:])
        return f"{flag[1]} {' '.join(values)}: must be {ALLOWED[name].words}"
    return " ".join(re.sub("[─-╿]", " ", text).split())


def _near(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""
