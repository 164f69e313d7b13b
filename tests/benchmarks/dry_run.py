"""How right --dry-run is: `python -m tests.benchmarks.dry_run [EXPERIMENT ...]`.

Each command of the experiments first says what it would take, and then does it, with nothing
compiled before; the ratio is the time it said over the time it took, from the first step to the
last evaluation. Needs the data sets of the experiments.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from train.reproduce.experiments import EXPERIMENTS

SHORT = ("A1", "B1", "B3", "C1", "C4", "D3", "D4")
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def said(command: list[str]) -> float:
    """The seconds that the first line of --dry-run says."""
    words, _, _ = _output([*command, "--dry-run"]).strip().partition(" on ")
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+) (\w+)", words))


def taken(command: list[str]) -> float:
    """The seconds that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        _output([*command, "--out", f"{folder}/run"])
        summary = json.loads(Path(folder, "run", "summary.json").read_text(encoding="utf-8"))
    seconds: float = summary["seconds"]
    return seconds


def _output(command: list[str]) -> str:
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    words = [sys.executable, "-m", f"train.{command[0]}", *command[1:]]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def main(names: list[str]) -> int:
    if unknown := set(names) - {experiment.name for experiment in EXPERIMENTS}:
        print(f"no experiment is called {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    table = Table("experiment", "said", "taken", "said / taken")
    for experiment in EXPERIMENTS:
        if experiment.name not in (names or SHORT):
            continue
        for words in experiment.commands:
            command = [*words.split(), "--seeds", "2"]
            before, after = said(command), taken(command)
            ratio = f"{before / after:.2f}"
            table.add_row(experiment.name, f"{before:.1f} s", f"{after:.1f} s", ratio)
            print(experiment.name, ratio, flush=True)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
