"""How the commands of `jaxnets` start: at once, and whatever the working folder holds.

`python -m jaxnets` imports JAX, which takes a second: signals and mistakes are answered meanwhile.
"""

import importlib.util
import sys
from pathlib import Path


def _find_train() -> None:
    """Import `train` from beside this package: a train.py of the user may be found before it."""
    package = Path(__file__).parents[1] / "train"
    if "train" in sys.modules or not (package / "__init__.py").is_file():
        return
    spec = importlib.util.spec_from_file_location(
        "train", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["train"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> None:
    """Run the command that the command line names, and end with its exit status."""
    _find_train()
    from train.processes.launch import run_command
    from train.processes.signals import answer_at_once

    answer_at_once()
    if (status := run_command(sys.argv[1:])) is not None:
        raise SystemExit(status)

    from jaxnets.__main__ import main as library  # Slow: it needs JAX.

    library()


if sys.argv[:1] == ["-m"]:  # While Python looks for the module.
    _find_train()
    from train.processes.launch import launched

    launched("jaxnets", ())
