"""What works with the base dependencies alone, and what is said where an extra is missing."""

import importlib.metadata
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnets
import train

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


# --- what is imported where it is used -----------------------------------------------------------


@pytest.mark.parametrize("name", jaxnets.__all__)
def test_what_the_library_offers_is_there(name):
    found = getattr(jaxnets, name)
    assert found is jaxnets.__getattr__(name)
    if name in ("adapters", "initializers", "layers", "nets", "ops"):
        assert found is sys.modules[f"jaxnets.{name}"]
    else:
        assert callable(found)
        assert found.__module__.startswith("jaxnets._") or name == "gradcheck"
    assert name in dir(jaxnets)


def test_fit_and_load_are_there_from_python():
    from train import runs

    for name in ("fit", "load", "Runs"):
        assert getattr(train, name) is getattr(runs, name)
        assert name in dir(train)


@pytest.mark.parametrize("package", [jaxnets, train])
def test_what_there_is_not_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"^module '{package.__name__}' has no attribute 'no'"):
        package.no  # noqa: B018


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert runpy.run_path(jaxnets.__file__)["__version__"] == "0+unknown"
