"""The words of a command line as values, and what is wrong with them in one line.

The flags of a command are a class or a function with type hints. Tyro prints its help and makes its
values; `check` reads the words before, so that each mistake has a line of its own.
"""

import contextlib
import importlib.metadata
import inspect
import itertools
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from train import terminal
from train.allowed import ALLOWED, ConfigError, Refusal, option
from train.signals import Signals, Stopped
from train.suggestions import near, separated
from train.terminal import shortened

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Read a path; a shell leaves the ~ of --out=~/run as it is."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]).expanduser(),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def answer(
    kind: Any,
    work: Callable[[Any], int | None],
    arguments: Sequence[str] | None,
    prog: str,
    about: str | None,
) -> int:
    """Run a command: read its words, do what they ask for, and answer for what goes wrong.

    Args:
        kind: what the flags are made of, see `read`.
        work: takes what `kind` becomes, and returns an exit status; None is 0.
        arguments: the words after the command; None for those of this process.
        prog: the command, as the help shows it.
        about: what it does, and examples; see `read`.

    Returns:
        The exit status: that of `work`; 1 where a file cannot be read or written, or memory is
        short; 2 after wrong words, or another `Refusal`; 130 after Ctrl-C, 143 after SIGTERM; 141
        where the reader of the output has left. Each but that of `work` and 141 comes with one
        line on stderr.
    """
    words = sys.argv[1:] if arguments is None else arguments
    terminal.set_up()
    try:
        with Signals():
            status = work(read(kind, words, prog, about)) or 0
            sys.stdout.flush()
            return status
    except Refusal as error:
        message, status = f"error: {error}", 2
    except BrokenPipeError:
        terminal.leave_closed_pipe()
        return terminal.CLOSED_PIPE
    except (MemoryError, OSError) as error:
        message, status = f"error: {error}", 1
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    except Stopped as stopped:
        message, status = str(stopped), stopped.status
    print(terminal.one_line(message), file=sys.stderr)
    return status


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
            _help_or_version(words, lambda: menu(prog, about, kind))
            if not words:
                raise ConfigError(f"needs one of {', '.join(kind)} first; {prog} --help says more")
            meant = near(f"--{first}", [*kind, "--help", "--version"])
            raise ConfigError(f"{shortened(first)}: must be one of {', '.join(kind)}{meant}")
        kind, prog, words = kind[first], f"{prog} {first}", words[1:]
        about = inspect.getdoc(kind)
    _help_or_version(words, lambda: _help(kind, prog, about))
    check(declared(kind), words, prog)
    try:
        with contextlib.redirect_stderr(terminal.Help()):
            return _made(kind, words, prog)
    except SystemExit:
        raise ConfigError(f"the flags are not understood; {prog} --help explains them") from None


def _made(kind: Any, words: Sequence[str], prog: str) -> Any:
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
    return tyro.cli(kind, args=words, prog=prog, description="", config=config, registry=REGISTRY)


# --- the flags of a command ----------------------------------------------------------------------


class Flag(NamedTuple):
    """A flag of a command, or a positional argument.

    Attributes:
        field: the name of the field that it sets.
        name: such as --learning-rate; of a positional argument its name in the help.
        types: what its value may be.
        choices: words that its value may be.
        several: whether it takes several values.
        positional: whether it is a positional argument.
        required: whether it has no default.
    """

    field: str
    name: str
    types: tuple[type, ...]
    choices: tuple[Any, ...]
    several: bool
    positional: bool
    required: bool

    @property
    def switch(self) -> bool:
        """Whether it takes no value."""
        return bool in self.types

    @property
    def numeric(self) -> bool:
        """Whether its value is a number."""
        return bool({int, float} & {*self.types})


def declared(kind: Any) -> list[Flag]:
    """Return the flags of a class or a function, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for name, parameter in inspect.signature(kind).parameters.items():
        hint, notes = hints[name], list[Any]()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *notes = typing.get_args(hint)
        if hasattr(hint, "__dataclass_fields__"):
            found += declared(hint)
        elif tyro.conf.Suppress not in notes:
            found.append(_flag(name, hint, notes, parameter.default is inspect.Parameter.empty))
    return found


def _flag(field: str, hint: Any, notes: Sequence[Any], required: bool) -> Flag:
    def noted(what: str) -> str | None:
        return next((v for v in (getattr(note, what, None) for note in notes) if v), None)

    positional = tyro.conf.Positional in notes
    several = typing.get_origin(hint) is tuple
    if several:
        hint = typing.get_args(hint)[0]
    parts = [hint] if isinstance(hint, type) else [*typing.get_args(hint)]
    if typing.get_origin(hint) is Literal:
        parts = [hint]
    choices = [c for part in parts if typing.get_origin(part) is Literal for c in _choices(part)]
    types = tuple(part for part in parts if isinstance(part, type) and part is not NoneType)
    name = (noted("metavar") or field.upper()) if positional else option(noted("name") or field)
    return Flag(field, name, types, tuple(choices), several, positional, required)


def _choices(literal: Any) -> tuple[Any, ...]:
    return typing.get_args(literal)


# --- what is wrong with the words ----------------------------------------------------------------


def check(flags: Sequence[Flag], words: Sequence[str], prog: str) -> None:
    """Raise a `ConfigError` for the first word that is no flag, or no value of its flag."""
    named = {flag.name: flag for flag in flags if not flag.positional}
    seen: set[str] = set()
    free: list[tuple[str, Flag | None]] = []  # Words that are no flag's, and the flag before each.
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
    flag: Flag, values: Sequence[str], attached: bool, flags: Sequence[Flag]
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
    free: Sequence[tuple[str, Flag | None]],
    positional: Sequence[Flag],
    named: Mapping[str, Flag],
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


def _check_value(flag: Flag, value: str, beside: Sequence[str] = ()) -> None:
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
    meant = near(value, map(str, flag.choices)) if flag.choices else ""
    if flag.numeric and _is_number(value, (float,)) and abs(float(value)) < 2**53:
        whole = float(value)
        meant = f"; did you mean {int(whole)}?" if whole == int(whole) else ""
    raise ConfigError(f"{said}: must be {words}{meant}")


def _commas(flag: Flag, value: str, beside: Sequence[str]) -> str:
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


def _allowed(flag: Flag) -> str:
    """Return in words what a value may be."""
    if flag.field in ALLOWED:
        return ALLOWED[flag.field].words
    if flag.choices:
        return f"one of {', '.join(map(str, flag.choices))}"
    return "a whole number" if float not in flag.types else "a number"


def _is_number(value: str, types: Sequence[type]) -> bool:
    try:
        (float if float in types else int)(value)
    except ValueError:
        return False
    return value.isascii()


# --- help ----------------------------------------------------------------------------------------


def _help_or_version(words: Sequence[str], text: Callable[[], str]) -> None:
    """Print the help or the version, and end, where the words ask for it."""
    flags = [word for word, _, _ in _grouped(words)]
    if "--help" in flags or "-h" in flags:
        terminal.show(text())
    elif "--version" in flags:
        terminal.show(_version())
    else:
        return
    raise SystemExit(0)


def _version() -> str:
    try:
        return f"jaxnets {importlib.metadata.version('jaxnets')}"
    except importlib.metadata.PackageNotFoundError:
        return "jaxnets, a checkout that is not installed"


def _help(kind: Any, prog: str, about: str | None) -> str:
    """Return the help of a command: usage, what it does, its flags by tyro, and examples."""
    page = terminal.Help()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        _made(kind, ["--help"], prog)
    _, _, boxes = page.getvalue().partition("\n\n")
    boxes = "\n".join(line.rstrip() for line in boxes.splitlines())
    positional = []
    for flag in declared(kind):
        if flag.positional:
            several = " ..." if flag.several else ""
            positional.append(
                f"{flag.name}{several}" if flag.required else f"[{flag.name}{several}]"
            )
    return _page(" ".join([prog, *positional, "[FLAGS]"]), about, boxes)


def menu(prog: str, about: str | None, commands: Mapping[str, Any]) -> str:
    """Return a page that lists commands: a name, and what it is or the text that describes it."""
    wide = max(map(len, commands))
    lines = []
    for name, command in commands.items():
        text = command if isinstance(command, str) else inspect.getdoc(command)
        described = _summary(text).partition("\n")[0]
        lines.append(_wrapped(f"  {name:{wide}}  {described}", " " * (wide + 4)))
    return _page(f"{prog} {{{','.join(commands)}}}", about, "\n".join(lines))


def _page(usage: str, about: str | None, middle: str) -> str:
    summary = "\n\n".join(_wrapped(" ".join(p.split())) for p in _summary(about).split("\n\n"))
    examples = [line.strip() for line in (about or "").splitlines() if _is_example(line)]
    shown = "\n".join(["Examples:", *(f"  {line}" for line in examples)])
    more = _wrapped("-h or --help shows this page, --version the version of jaxnets.")
    usage = _wrapped(f"usage: {usage}", " " * 7)
    return "\n\n".join(
        [usage, *filter(None, [summary]), middle.strip("\n"), more, *[shown] * bool(examples)]
    )


def _summary(about: str | None) -> str:
    """Return a text without its examples."""
    lines = inspect.cleandoc(about or "").splitlines()
    return "\n".join(line for line in lines if not _is_example(line)).strip()


def _is_example(line: str) -> bool:
    return line.strip().startswith("python -m ")


def _wrapped(text: str, indent: str = "") -> str:
    width = max(40, min(100, shutil.get_terminal_size().columns))
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
