"""The command `jaxnets`, from a folder that holds a train.py and a jax.py of the user's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnets import _launch
from train import COMMANDS
from train.processes import launch, signals

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


# --- without a process of its own ----------------------------------------------------------------


def test_train_is_found_beside_the_package(monkeypatch, tmp_path):
    beside = sys.modules["train"]
    (tmp_path / "train.py").write_text("raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    _launch._find_train()
    assert sys.modules["train"] is beside
    monkeypatch.delitem(sys.modules, "train")
    _launch._find_train()
    found = sys.modules["train"]
    assert found is not beside
    assert found.__file__ == beside.__file__
    monkeypatch.delitem(sys.modules, "train")
    monkeypatch.setattr(_launch, "__file__", str(tmp_path / "jaxnets" / "_launch.py"))
    _launch._find_train()  # Nothing lies beside it.
    assert "train" not in sys.modules


def test_a_command_of_train_is_run_before_jax_is_imported(monkeypatch):
    calls = []
    monkeypatch.setattr(signals, "answer_at_once", lambda: calls.append("signals"))
    monkeypatch.setattr("jaxnets.__main__.main", lambda: calls.append("library"))
    monkeypatch.setattr(sys, "argv", ["jaxnets", "mlp", "--steps", "5"])
    for status, expected in ((3, ["signals", ["mlp", "--steps", "5"]]), (0, None), (None, None)):
        calls.clear()
        monkeypatch.setattr(
            launch, "run_command", lambda words, status=status: calls.append(words) or status
        )
        if status is None:
            _launch.main()
            assert calls[-1] == "library"
        else:
            with pytest.raises(SystemExit) as end:
                _launch.main()
            assert end.value.code == status
            assert expected is None or calls == expected
