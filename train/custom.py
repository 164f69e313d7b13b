"""Train a network of your own: a function of the number of classes, whose keywords become flags.

The function stands in a file or in a module of the working folder, and returns a
jaxnets.layers.Layer: def net(classes, *, width: int = 64, rate: float = 0.1). Its code is run, so
name none that you would not run yourself.

python -m train.custom net.py:net
python -m train.custom net.py:net --width 32 64 --rate 0 0.3 --out runs/mine
python -m train.custom net.py:net --resume runs/mine
"""

import inspect
import sys
from collections.abc import Sequence

from train.custom_network import OwnNetwork, named, run_kind
from train.custom_network.keywords import described
from train.errors import ConfigError
from train.flags.config import Run
from train.flags.given import read_values
from train.processes.exit_status import exit_status
from train.processes.signals import Signals
from train.training.command import trained

_WHERE = "FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments

    def work(signals: Signals) -> None:
        own, about = _made(words)
        trained(own.kind, own.network, own.name, words[1:], about, signals)

    return exit_status(work)


def _made(words: Sequence[str]) -> tuple[OwnNetwork, str]:
    """Return the network that the first word names, and what the help says of it."""
    prog = "python -m train.custom"
    if not words or words[0].startswith("-"):
        if {"--help", "-h", "--version"} & {*words}:
            read_values(Run, words, f"{prog} {_WHERE.split()[0]}", __doc__)
        raise ConfigError(f"name the network first, {_WHERE}: {prog} net.py:net; {prog} --help")

    from train.engine.devices import set_up  # It needs JAX, which is slow to import.

    set_up()  # The code may compute while it is imported.
    source, function = named(words[0])
    text, _ = described(inspect.getdoc(function) or "")
    return run_kind(function, source), text or f"Train the network {source.function}."


if __name__ == "__main__":
    sys.exit(main())
