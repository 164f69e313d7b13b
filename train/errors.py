"""Exceptions that end a command with one line."""


class Refusal(ValueError):
    """One line: what was wrong, and what is allowed or to be done. A command ends with status 2.

    What cannot be printed, such as a newline in the name of a file, is written as its escape.
    """

    def __init__(self, line: str):
        super().__init__("".join(c if c.isprintable() else repr(c).strip("'") for c in line))


def reason(error: object) -> str:
    """Return what a library says of an error: on one line, and cut where that is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


class ConfigError(Refusal):
    """One line: the flag, its value, and what is allowed."""


class StoreError(Refusal):
    """One line: why a folder cannot become a run directory, or which file of one is damaged."""


class DataError(Refusal):
    """One line: what is wrong with data, or with a request for them, and what to do about it."""
