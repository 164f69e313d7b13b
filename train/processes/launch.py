"""What happens while Python looks for the module of `python -m PACKAGE.MODULE`."""

import re
import sys
from collections.abc import Sequence

from train.processes.signals import answer_at_once


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
