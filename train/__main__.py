"""Train networks on images, and see what they learned.

python -m train.mlp
python -m train.convnet --dataset cifar10 --epochs 5
python -m train.evaluate runs/a
"""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from train import COMMANDS
from train.processes.exit_status import answer


def main(arguments: Sequence[str] | None = None) -> int:
    """List the commands, or run the one that is named; return the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in COMMANDS:
        status: int = importlib.import_module(f"train.{words[0]}").main(words[1:])
        return status
    commands = {name: _described(name) for name in COMMANDS}
    return answer(commands, lambda _: None, words or ["--help"], "python -m train", __doc__)


def _described(name: str) -> str:
    """Return the docstring of a command; to import it would be slow."""
    module = Path(__file__).with_name(f"{name}.py")
    source = module if module.exists() else Path(__file__).with_name(name) / "__main__.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


if __name__ == "__main__":
    sys.exit(main())
