"""The console that tables are printed to."""

from rich.console import Console


class _Output(Console):
    def on_broken_pipe(self) -> None:
        # As after a plain `print`; Rich would end the process with status 1 and no word.
        raise BrokenPipeError


def output(wide: int = 100) -> Console:
    """Return the console of standard output; a file or a pipe has no width, and takes `wide`."""
    console = _Output()
    return console if console.is_terminal else _Output(width=wide)
