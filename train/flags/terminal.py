"""What a terminal, a file or a pipe can show: signs, colours, and a reader who leaves."""

import codecs
import io
import os
import sys

# Signs that the commands print, for a stream that cannot encode them; "?" for others.
_REPLACED = {
    "±": "+-", "·": ".", "µ": "u", "—": "-", "…": "...", "•": "*",
    "→": "->", "≤": "<=", "≥": ">=", "²": "2", "─": "-", "━": "-", "╸": "-", "╺": "-", "│": "|",
    "╭": "+", "╮": "+", "╯": "+", "╰": "+",
}  # fmt: skip

# Of a reader who closes the pipe, as of `| head`; a shell says so of those that SIGPIPE ends.
CLOSED_PIPE = 141


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    # A lone surrogate is a byte of a file name.
    written = (_REPLACED.get(s, _escaped(s) if "\ud800" <= s <= "\udfff" else "?") for s in signs)
    return "".join(written), error.end


codecs.register_error("jaxnets.replace", _replace)


def set_up() -> None:
    """Let standard output and errors replace the signs that they cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="jaxnets.replace")


def show(text: str) -> None:
    """Print a text to standard output, quietly where its reader has left."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        leave_closed_pipe()


def leave_closed_pipe() -> None:
    """Let what remains in the buffer of standard output go nowhere; Python writes it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(text: str) -> str:
    """Return a text in which what controls a terminal is escaped, line ends too."""
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def shortened(value: str) -> str:
    """Return a value as a message shows it: all of it, or its beginning and its length."""
    return value if len(value) <= 200 else f"{value[:40]}... ({len(value)} characters)"


def _escaped(sign: str) -> str:
    return repr(sign)[1:-1]


class Help(io.StringIO):
    """A text to be shown on standard output later, in colours only where that shows them."""

    def __init__(self) -> None:
        super().__init__()
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def isatty(self) -> bool:
        """Return whether colours may be written."""
        return self._coloured
