"""The words of a command line as values, and what is wrong with them in one line.

The flags of a command are a class or a function with type hints. Tyro prints its help and makes its
values; `check` reads the words before, so that each mistake has a line of its own.
"""

import contextlib
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.errors import ConfigError
from train.flags import terminal
from train.flags.help import help_or_version, menu, page
from train.flags.options import Option, declared, make
from train.flags.suggestions import near, separated
from train.flags.terminal import shortened


def read(kind: Any, words: Sequence[str], prog: str, about: str | None) -> Any:
    """Parse a command line.

    Args:
        kind: a class or a function, whose fields or arguments are the flags; a dataclass of
            dataclasses, whose fields are; or a dictionary of such by the name of a subcommand.
        words: those after the command.
        prog: the command, as the help shows it.
        about: what it does; the lines that begin with "python -m" are examples, the last of the
            help. A subcommand has its own in its docstring.

    Raises:
        ConfigError: a flag is unknown, or its value is no number or no choice.
        SystemExit: after printing the help or the version.
    """
    if isinstance(kind, Mapping):
        first = words[0] if words else ""
        if first not in kind:
            help_or_version(_names(words), lambda: menu(prog, about, kind))
            if not words:
                raise ConfigError(f"needs one of {', '.join(kind)} first; {prog} --help says more")
            meant = near(f"--{first}", [*kind, "--help", "--version"])
            raise ConfigError(f"{shortened(first)}: must be one of {', '.join(kind)}{meant}")
        kind, prog, words = kind[first], f"{prog} {first}", words[1:]
        about = inspect.getdoc(kind)
    help_or_version(_names(words), lambda: page(kind, prog, about))
    check(declared(kind), words, prog)
    try:
        with contextlib.redirect_stderr(terminal.Help()):
            return make(kind, words, prog)
    except SystemExit:
        raise ConfigError(f"the flags are not understood; {prog} --help explains them") from None


# --- the flags of a command ----------------------------------------------------------------------


# --- what is wrong with the words ----------------------------------------------------------------


def check(flags: Sequence[Option], words: Sequence[str], prog: str) -> None:
    """Raise a `ConfigError` for the first word that is no flag, or no value of its flag."""
    named = {flag.name: flag for flag in flags if not flag.positional}
    seen: set[str] = set()
    free: list[
        tuple[str, Option | None]
    ] = []  # Words that are no flag's, and the flag before each.
    for word, values, attached in _grouped(words):
        if not word:
            free += [(value, None) for value in values]
            continue
        name = word.replace("_", "-")
        if name not in named:
            known = [*named, "--help", "--version"]
            raise ConfigError(f"{shortened(word)}: there is no such flag{near(word, known)}")
        flag = named[name]
        seen.add(name)
        left = _check_values(flag, values, attached, flags)
        free += [(value, None if flag.switch else flag) for value in left]
    positional = [flag for flag in flags if flag.positional]
    if len(free) > len(positional) and not any(flag.several for flag in positional):
        raise ConfigError(_left_over(free, positional, named))
    for flag, (word, _) in zip(positional, free, strict=False):
        for value in [value for value, _ in free] if flag.several else [word]:
            _check_value(flag, value)
    for flag in [*positional[len(free) :], *named.values()]:
        if flag.required and not flag.several and flag.name not in seen:
            raise ConfigError(f"{flag.name}: is missing; {prog} --help says what it is")


def _grouped(words: Sequence[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each flag with the values behind it, and whether the first is attached by "="."""
    flag, values, attached, ended = "", list[str](), False, False
    for word in words:
        if ended or not re.match(r"--?[^\W\d]|--|-[?]", word) or _is_number(word, (float,)):
            values.append(word)
            continue
        yield flag, values, attached
        flag, sign, value = ("", "", "") if word == "--" else word.partition("=")
        values, attached, ended = [value] * bool(sign), bool(sign), word == "--"
    yield flag, values, attached


def _names(words: Sequence[str]) -> list[str]:
    return [flag for flag, _, _ in _grouped(words)]


def overridden(words: Sequence[str], later: Sequence[str]) -> list[str]:
    """Return the words of two command lines as one; a flag of the later one replaces the other."""
    replaced = {flag.replace("_", "-") for flag, _, _ in _grouped(later)}
    kept = [
        [flag, *values] if flag else values
        for flag, values, _ in _grouped(words)
        if not flag or flag.replace("_", "-") not in replaced
    ]
    return [*itertools.chain(*kept), *later]


def _check_values(
    flag: Option, values: Sequence[str], attached: bool, flags: Sequence[Option]
) -> Sequence[str]:
    """Check the values of a flag; return the words behind it that are not its own."""
    free = any(other.positional for other in flags)
    if flag.switch:
        if attached or (values and values[0].lower() in ("true", "false", "yes", "no", "1", "0")):
            raise ConfigError(
                f"{flag.name} {shortened(values[0])}: takes no value; give {flag.name} alone, or "
                f"leave it out"
            )
        if values and not free:
            raise ConfigError(f"{shortened(values[0])}: {_NEITHER}")
        return values
    if not values:
        raise ConfigError(f"{flag.name}: needs a value")
    own = values if flag.several else values[:1]
    for value in own:
        _check_value(flag, value, own)
    if len(values) > len(own) and not free:
        raise ConfigError(f"{flag.name} takes one value; {shortened(values[1])}: {_NEITHER}")
    return values[len(own) :]


_NEITHER = "is neither a flag, nor a value of the flag before it"


def _left_over(
    free: Sequence[tuple[str, Option | None]],
    positional: Sequence[Option],
    named: Mapping[str, Option],
) -> str:
    """Return what to say where there are more words than positional arguments."""
    if positional:
        behind = [(word, flag.name) for word, flag in free if flag is not None]
        names = " and ".join(flag.name for flag in positional)
        word, name = behind[0] if behind else (free[len(positional)][0], "the command")
        takes = "value" if behind else names
        return (
            f"{shortened(word)}: is one word too many; {name} takes one {takes}: run the command "
            f"once for each"
        )
    word = free[0][0]
    for flag in named.values():
        if word in flag.choices:
            return f"{word}: is no flag; did you mean {flag.name} {word}?"
    meant = near(f"--{word}", [*named, "--help", "--version"])
    return f"{shortened(word)}: {_NEITHER}{meant}"


def _check_value(flag: Option, value: str, beside: Sequence[str] = ()) -> None:
    """Raise a `ConfigError` where a value is no number, no choice, or no path.

    Args:
        flag: what the value is of.
        value: what was written.
        beside: all that was written behind the flag.
    """
    said, words = f"{flag.name} {shortened(value)}", _allowed(flag)
    if Path in flag.types:
        if not value.strip():
            raise ConfigError(f"{flag.name}: is empty; name a file or folder")
        try:
            Path(value).expanduser()
        except RuntimeError:
            raise ConfigError(
                f"{said}: there is no such user; write ./~ for a name with ~"
            ) from None
    if value in flag.choices or not (flag.numeric or flag.choices):
        return
    if flag.numeric and _is_number(value, flag.types):
        return
    if advice := _commas(flag, value, beside or [value]):
        raise ConfigError(f"{said}: {advice}")
    meant = near(value, map(str, flag.choices)) if len(flag.choices) > 1 else ""
    if flag.numeric and _is_number(value, (float,)) and abs(float(value)) < 2**53:
        whole = float(value)
        meant = f"; did you mean {int(whole)}?" if whole == int(whole) else ""
    raise ConfigError(f"{said}: must be {words}{meant}")


def _commas(flag: Option, value: str, beside: Sequence[str]) -> str:
    """Return what to write for a value with commas, brackets or spaces; "" for another."""
    parts = separated(beside)
    if not separated([value]) or separated([value]) == [value]:
        return ""
    several = f"several values are separated by spaces: {flag.name} {shortened(' '.join(parts))}"
    if not flag.several:
        several = "takes one value"
    if float in flag.types and re.fullmatch(r"-?[0-9]+,[0-9]+", value):
        decimals = " ".join(word.replace(",", ".") for word in beside)
        point = f"a decimal has a point: {flag.name} {shortened(decimals)}"
        return f"{point}; {several}" if flag.several else point
    if int in flag.types and re.fullmatch(r"[1-9][0-9]{0,2}(,[0-9]{3})+", value):
        whole = f"a number has no commas: {flag.name} {value.replace(',', '')}"
        return f"{whole}; {several}" if flag.several else whole
    return several


def _allowed(flag: Option) -> str:
    """Return in words what a value may be."""
    if flag.allowed:
        return flag.allowed.words
    if flag.choices:
        one_of = "one of " if len(flag.choices) > 1 else ""
        return one_of + ", ".join(map(str, flag.choices))
    return "a whole number" if float not in flag.types else "a number"


def _is_number(value: str, types: Sequence[type]) -> bool:
    try:
        (float if float in types else int)(value)
    except ValueError:
        return False
    return value.isascii()


# --- help ----------------------------------------------------------------------------------------
