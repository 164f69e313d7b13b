"""The consoles that tables and progress are printed to."""

from rich.console import Console


class _Output(Console):
    def on_broken_pipe(self) -> None:
        # As after a plain `print`; Rich would end the process with status 1 and no word.
        raise BrokenPipeError


def output(wide: int = 100) -> Console:
    """Return the console of standard output; a file or a pipe has no width, and takes `wide`."""
    console = _Output()
    return console if console.is_terminal else _Output(width=wide)


def standard_error(quiet: bool = False) -> Console:
    """Return the console of standard error; in a notebook it prints as to a file.

    Rich would show progress by widgets there, and ipykernel sets FORCE_COLOR, by which Rich takes
    its stderr for a terminal.
    """
    if Console().is_jupyter:
        return Console(stderr=True, quiet=quiet, force_jupyter=False, force_terminal=False)
    return Console(stderr=True, quiet=quiet)
