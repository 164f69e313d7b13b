"""How a command starts: by its name, and while Python looks for the module of `python -m`."""

import ast
import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from train.processes.signals import answer_at_once

# The modules of `train` that are commands.
COMMANDS = ("mlp", "convnet", "custom", "evaluate", "compare", "data", "reproduce")


def run_command(words: Sequence[str]) -> int | None:
    """Run the command of `train` that the first word names; return its status, None without one."""
    if not words or words[0] not in COMMANDS:
        return None
    main = ".__main__" if (Path(__file__).parents[1] / words[0]).is_dir() else ""
    status: int = importlib.import_module(f"train.{words[0]}{main}").main(words[1:])
    return status


def described() -> dict[str, str]:
    """Return the docstring of each command of `train`; to import them would be slow."""
    folder = Path(__file__).parents[1]
    found = {}
    for name in COMMANDS:
        module = folder / f"{name}.py"
        source = module if module.exists() else folder / name / "__main__.py"
        found[name] = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return found


def launched(package: str, commands: Sequence[str]) -> None:
    """Answer signals if `python -m` runs a command of a package; refuse any other module of it.

    Python imports the package first, and puts "-m" where the path of the module will be.

    Args:
        package: the package that is being imported.
        commands: those of its modules that are commands.
    """
    if sys.argv[:1] != ["-m"]:
        return
    word = sys.orig_argv[-len(sys.argv)]  # Such as train.mlp, -mtrain.mlp or -Bmtrain.mlp.
    name, _, module = re.sub(r"^-[A-Za-z]*?m", "", word).partition(".")
    if name != package:
        return
    answer_at_once()
    if module in ("", "__main__", *commands):
        return

    from train.flags.suggestions import near
    from train.flags.terminal import one_line

    meant = near(f"--{module}", commands)
    line = f"error: python -m {name}.{module}: is no command; python -m {name} --help lists those"
    print(one_line(f"{line} there are{meant}"), file=sys.stderr)
    sys.exit(2)
