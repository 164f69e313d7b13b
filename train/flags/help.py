"""The pages that --help prints."""

import contextlib
import importlib.metadata
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from train.flags import terminal
from train.flags.options import declared, make
from train.flags.typed import as_typed


def help_or_version(flags: Sequence[str], text: Callable[[], str]) -> None:
    """Print the help or the version, and end, where one of the flags asks for it."""
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


def page(kind: Any, prog: str, about: str | None) -> str:
    """Return the help of a command: usage, what it does, its flags by tyro, and examples."""
    page = terminal.Help()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        make(kind, ["--help"], prog)
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
    text = as_typed(about or "")
    summary = "\n\n".join(_wrapped(" ".join(p.split())) for p in _summary(text).split("\n\n"))
    examples = [line.strip() for line in text.splitlines() if _is_example(line)]
    shown = "\n".join(["Examples:", *(f"  {line}" for line in examples)])
    more = _wrapped("-h or --help shows this page, --version the version of jaxnets.")
    usage = _wrapped(f"usage: {as_typed(usage)}", " " * 7)
    return "\n\n".join(
        [usage, *filter(None, [summary]), middle.strip("\n"), more, *[shown] * bool(examples)]
    )


def _summary(about: str | None) -> str:
    """Return a text without its examples."""
    lines = inspect.cleandoc(about or "").splitlines()
    return "\n".join(line for line in lines if not _is_example(line)).strip()


def _is_example(line: str) -> bool:
    return bool(re.match(r" *(python -m|jaxnets) ", line))


def _wrapped(text: str, indent: str = "") -> str:
    width = max(40, min(100, shutil.get_terminal_size().columns))
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
