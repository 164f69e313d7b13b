"""The command `jaxnets`, from a folder that holds a train.py and a jax.py of the user's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train import COMMANDS

ROOT = Path(__file__).parents[1]
SCRIPT = "import sys\nfrom jaxnets._launch import main\nsys.exit(main())\n"  # As pip writes it.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("of_a_user")
    (folder / "train.py").write_text("raise SystemExit('the train.py of the user was run')")
    (folder / "bin").mkdir()
    (folder / "bin" / "jaxnets").write_text(SCRIPT)
    return folder


@pytest.fixture(params=[["bin/jaxnets"], ["-m", "jaxnets"]], ids=["script", "module"])
def jaxnets(request, folder):
    def run(*words):
        return subprocess.run(
            [sys.executable, *request.param, *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
        )

    run.name = "python -m jaxnets" if request.param[0] == "-m" else "jaxnets"
    return run


@pytest.mark.slow
def test_a_train_py_of_the_user_is_not_run_and_all_commands_are_listed(jaxnets):
    listed = jaxnets("--help")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.startswith(f"usage: {jaxnets.name}")
    for name in ("check", "costs", "audit", *COMMANDS):
        assert f"\n  {name} " in listed.stdout
    refused = jaxnets("convnet", "--hidden", "3")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: --hidden: there is no such flag; {jaxnets.name} mlp has it\n"
    )


@pytest.mark.slow
def test_commands_in_folders_of_their_own_are_found(jaxnets):
    if jaxnets.name == "jaxnets":
        refused = jaxnets("evaluate", "runs/none")
        assert refused.stderr.startswith("error: runs/none is not a folder")
    else:
        assert jaxnets("data", "--version").stdout.startswith("jaxnets")


def test_a_mistake_is_answered_before_jax_is_imported(folder):
    (folder / "jax.py").write_text("raise SystemExit('jax was imported')")
    program = "import sys; sys.argv = ['jaxnets', 'mlp', '--lr', '1']\n" + SCRIPT
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / "jax.py").unlink()
    assert done.stderr == "error: --lr: there is no such flag; did you mean --learning-rate?\n"
