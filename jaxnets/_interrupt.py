"""Ctrl-C while `python -m jaxnets` imports JAX, which takes a second, and after: one line."""

import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    # An exception might be taken for its own by what is imported; there is nothing to clean up.
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


if sys.argv[:1] == ["-m"]:  # While Python looks for the module of `python -m jaxnets`.
    signal.signal(signal.SIGINT, _end)
