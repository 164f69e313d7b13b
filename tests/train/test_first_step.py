"""What a command imports, compiles and reads before its first step is what it needs for that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train import data

REPOSITORY = Path(__file__).parents[2]

# Results need them, other data, or a checkpoint; each takes 0.1 to 1 CPU second.
LATER = {
    *("sklearn", "scipy", "pandas", "matplotlib", "orbax", "PIL"),
    *("tensorflow", "tensorflow_datasets", "array_record", "google"),
    *("tensorboard", "flax", "torch"),
}

# Prints what is imported where the first segment ends, and ends there.
PROGRAM = """
import importlib, os, sys
from train.report.progress import Progress
def advance(self, *arguments):
    print("imported", *{name.partition(".")[0] for name in sys.modules}, flush=True)
    os._exit(0)
Progress.advance = advance
importlib.import_module(f"train.{sys.argv[1]}").main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["mlp --hidden 4", "convnet"])
def test_what_the_first_step_does_not_need_is_not_imported(tmp_path, command):
    data.load("digits")  # They are decoded once.
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command.split(), "--steps", "1", "--batch-size", "4"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(process.stdout.splitlines()[-1].split())
    assert {"imported", "jax", "optax", "train"} <= imported
    assert not imported & LATER
