"""Commands in messages and help, written as the user starts them."""

import re
import sys
from pathlib import Path


def as_typed(text: str) -> str:
    """Return a text in which a command is written as the user starts commands.

    The text says `python -m train.mlp` and `python -m jaxnets check`; who types `jaxnets mlp` or
    `python -m jaxnets mlp` reads that.
    """
    program = Path(sys.argv[0]) if sys.argv else Path()
    if program.stem == "jaxnets":
        own = "jaxnets"
    elif program.parts[-2:] == ("jaxnets", "__main__.py"):
        own = "python -m jaxnets"
    else:
        return text
    text = re.sub(r"\bpython -m train\.([a-z]+)\b", rf"{own} \1", text)
    return re.sub(r"\bpython -m (train|jaxnets)\b", own, text)
