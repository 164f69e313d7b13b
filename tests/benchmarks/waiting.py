"""How long one waits, in CPU seconds of fresh processes: python -m tests.benchmarks.waiting.

The training commands run without a flag until their first step begins: "cold" with nothing kept
from an earlier command, "warm" with what the cold one kept. Of the whole, "importing"
is the start of Python and all imports, and "compiling" is XLA, or loading what it compiled before;
the rest is mostly reading data and tracing. The two commands of the library go through all ops,
with nothing kept. CPU seconds depend little on what else the machine does.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]

# CPU seconds to the first step, warm and cold, and of the commands over all ops.
AT_MOST = {("mlp", "warm"): 2, ("convnet", "cold"): 7, ("convnet", "warm"): 2}
LIBRARY = {"check": 75, "costs": 60}

# Runs a command until its first step, and prints what it spent on what.
PROGRAM = """
import builtins, json, os, sys, time

spent, inside = {"importing": time.process_time(), "compiling": 0.0}, False

def timed(function, what):
    def inner(*arguments, **keywords):
        global inside
        if inside:
            return function(*arguments, **keywords)
        inside, before = True, time.process_time()
        try:
            return function(*arguments, **keywords)
        finally:
            inside = False
            spent[what] += time.process_time() - before
    return inner

builtins.__import__ = timed(builtins.__import__, "importing")
import jax
from train import convnet, mlp
from train.engine.memory import Fitting
from train.report.progress import Progress

jax.stages.Lowered.compile = timed(jax.stages.Lowered.compile, "compiling")

# The last program that is compiled or loaded before the first segment ends is that of the segment.
prepare = Fitting.prepare

def prepared(*arguments):
    found = prepare(*arguments)
    spent["whole"] = time.process_time()
    return found

def end(*arguments):
    print(json.dumps(spent), flush=True)
    os._exit(0)

Fitting.prepare, Progress.advance = prepared, end
{"mlp": mlp, "convnet": convnet}[sys.argv[1]].main([])
"""


def environment(folder: str) -> dict[str, str]:
    """Return the variables of a process that keeps what it compiles in a folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE", "XLA_FLAGS"))
    }
    return {**kept, "XDG_CACHE_HOME": folder, "PYTHONPATH": str(ROOT)}


def first_step(command: str, cache: str) -> dict[str, float]:
    """Return the CPU seconds of a training command to its first step, whole and in parts."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, command],
            cwd=folder,
            env=environment(cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    found: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return found


def whole_command(words: list[str]) -> float:
    """Return the CPU seconds of a command of the library, with nothing kept."""
    before = sum(os.times()[2:4])
    with tempfile.TemporaryDirectory() as cache:
        subprocess.run(
            [sys.executable, "-m", "jaxnets", *words],
            env=environment(cache),
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return sum(os.times()[2:4]) - before


def cells(found: float, most: float | None) -> list[str]:
    """Return what a row ends in: the bound, and whether it is kept."""
    return ["", ""] if most is None else [f"{most:g}", "yes" if found <= most else "NO"]


def main() -> None:
    """Measure, and print the table."""
    headings = ("command", "kept", "CPU seconds", "importing", "compiling", "at most", "met")
    table = Table(*headings, title="to the first step, or to the end over all ops")
    for command in ("mlp", "convnet"):
        with tempfile.TemporaryDirectory() as cache:
            for kept in ("cold", "warm"):
                found = first_step(command, cache)
                numbers = [f"{found[name]:.1f}" for name in ("whole", "importing", "compiling")]
                end = cells(found["whole"], AT_MOST.get((command, kept)))
                table.add_row(f"train.{command}", kept, *numbers, *end)
    for name, most in LIBRARY.items():
        taken = whole_command([name])
        table.add_row(f"jaxnets {name}", "cold", f"{taken:.0f}", "", "", *cells(taken, most))
    options: dict[str, Any] = {} if sys.stdout.isatty() else {"width": 120}
    Console(**options).print(table)


if __name__ == "__main__":
    main()
