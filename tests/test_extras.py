"""What works with the base dependencies alone, and what is said where an extra is missing."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnets

ROOT = Path(__file__).parents[1]

# Python imports it first: what the base does not bring is not there.
WITHOUT = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Finder())
"""
EXTRAS = {
    "optax", "orbax", "matplotlib", "psutil", "sklearn", "tensorboardX", "tensorflow_datasets",
    "array_record", "importlib_resources", "PIL", "tqdm", "absl", "pandas",
}  # fmt: skip


def run(folder, *words):
    (folder / "sitecustomize.py").write_text(WITHOUT.format(names=EXTRAS))
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_library_and_its_command_need_the_base_alone(tmp_path):
    done = run(tmp_path, "-m", "jaxnets", "check", "relu", "--shapes", "3")
    assert done.returncode == 0, done.stderr
    assert "relu" in done.stdout


def test_a_command_says_which_extra_it_lacks(tmp_path):
    done = run(tmp_path, "-m", "train.mlp")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: sklearn is not installed, and is needed: pip install 'jaxnets[train]'\n"
    )
    assert list(tmp_path.glob("runs")) == []


def test_the_base_dependencies_are_five():
    needed = importlib.metadata.requires("jaxnets") or []
    base = {re.split(r"[^\w-]", line)[0].lower() for line in needed if "extra ==" not in line}
    assert base == {"jax", "jaxlib", "numpy", "rich", "tyro"}
    assert jaxnets.__version__ == importlib.metadata.version("jaxnets")
