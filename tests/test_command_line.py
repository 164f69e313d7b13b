"""`python -m jaxnets check | costs`, as a person calls it."""

import os
import subprocess
import sys

import pytest

from jaxnets.__main__ import _progress, main
from jaxnets._catalog import CATALOG

pytestmark = pytest.mark.slow

USER_MODULE = """
import jax
import jax.numpy as jnp


def plain(x, scale):
    return scale * x * x


right = jax.custom_vjp(plain)
wrong = jax.custom_vjp(plain)


def forward(x, scale):
    return plain(x, scale), (x, scale)


def right_backward(res, dy):
    x, scale = res
    return 2 * scale * x * dy, (x * x * dy).sum(0)


def wrong_backward(res, dy):
    x, scale = res
    return scale * x * dy, (x * x * dy).sum(0)


right.defvjp(forward, right_backward)
wrong.defvjp(forward, wrong_backward)
number = 3
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "somebodys_ops.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "somebodys_ops"


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxnets", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return run


def test_check_of_an_op_has_a_row_a_variant(run):
    status, out, _ = run("check", "gelu")
    assert status == 0
    assert "gelu (approximate)" in out
    rows = [line for line in out.splitlines() if line.strip().startswith("gelu")]
    assert len(rows) == sum(entry.op == "gelu" for entry in CATALOG) == 2
    assert all("1.00 |" in row for row in rows)


def test_check_finds_a_users_bug(run, user_module):
    shapes = ["--shapes", "4,3", "3"]
    status, out, _ = run("check", f"{user_module}:right", *shapes)
    assert status == 0
    assert "FAILED" not in out
    status, out, _ = run("check", f"{user_module}:wrong", *shapes, "--dtype", "float64")
    assert status == 1
    assert "failed in float64: vjp: gradient of x" in out


def test_check_of_what_is_asked_for_alone(run, user_module, tmp_path):
    file, shapes = str(tmp_path / "somebodys_ops.py"), ("--shapes", "4,3", "3")
    status, out, _ = run("check", f"{file}:wrong", *shapes, "--wrt", "scale", "--fast")
    assert status == 0
    assert " 7/7 " in out
    status, out, _ = run("check", f"{file}:wrong", *shapes, "--only", "vjp", "--points", "2")
    assert status == 1
    assert " 4/8 " in out
    assert "got / expected = 0.500 everywhere" in out
    assert "linear" not in out


def test_audit(run, user_module):
    shapes = ("--shapes", "4,3", "3")
    status, out, _ = run("audit", f"{user_module}:right", *shapes)
    assert status == 0
    assert out.startswith("audit right: 1 rule, all ok")
    status, out, _ = run("audit", f"{user_module}:wrong", *shapes)
    assert status == 1
    assert "failed in float32: vjp: gradient of args[0]" in out


def test_costs(run, user_module):
    status, out, _ = run("costs", "rms_norm")
    assert status == 0
    assert "saved between forward and backward" in out
    status, out, _ = run("costs", "linear", "--shapes", "4,3", "3,2", "--dtype", "bfloat16")
    assert status == 0
    assert "saved between forward and backward (bytes)            36" in out
    status, out, _ = run("costs", "cross_entropy")
    assert status == 0
    assert "cross_entropy (distributions)" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "layernorm"], ["'layernorm'", "layer_norm", "PACKAGE.MODULE:FUNCTION"]),
        (["check", "layernorm", "--shapes", "3"], ["'layernorm'", "layer_norm"]),
        (["check", "relu", "--only", "vjb"], ["--only", "'vjb'", "did you mean vjp"]),
        (["check", "relu", "--wrt", "y"], ["no array is called y", "there are x"]),
        (["check", "relu", "--points", "0"], ["points must be at least 1"]),
        (["audit", "somebodys_ops:right"], ["needs --shapes"]),
        (["check", "nowhere.py:f", "--shapes", "3"], ["cannot import", "nowhere.py"]),
        (["check", "--shapes", "3"], ["--shapes goes with"]),
        (["check", "somebodys_ops:right"], ["needs --shapes"]),
        (["check", "somebodys_ops:right", "--shapes", "4,x"], ["--shapes", "'4,x'"]),
        (["check", "somebodys_ops:right", "--shapes", "4,-3"], ["--shapes", "'4,-3'"]),
        (["check", "somebodys_ops:right", "--shapes", "4,3"], ["shapes 4,3", "scale"]),
        (["costs", "somebodys_ops:right", "--shapes", "4,3", "2"], ["shapes 4,3 2", "(2,)"]),
        (["costs", "somebodys_ops:nothing", "--shapes", "3"], ["cannot import", "nothing"]),
        (["costs", "no_such_module:f", "--shapes", "3"], ["cannot import", "no_such_module"]),
        (["check", "somebodys_ops:number", "--shapes", "3"], ["int, not a function"]),
        (["chekc"], ["chekc", "check, costs, audit"]),
        (["check", "--dtype", "int8"], ["int8", "float64", "bfloat16"]),
        (["check", "relu", "--dtypes", "float64"], ["--dtypes", "--dtype"]),
        ([], ["check", "costs"]),
    ],
)
def test_nonsense_is_refused_in_one_line(run, user_module, arguments, said):
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    for words in said:
        assert words in err


def test_a_module_in_the_working_folder_is_found(tmp_path):
    (tmp_path / "somebodys_ops.py").write_text(USER_MODULE)
    done = subprocess.run(
        [sys.executable, "-m", "jaxnets", "costs", "somebodys_ops:right", "--shapes", "4,3", "3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "gradient of right " in done.stdout


def test_without_a_terminal_a_line_says_which_row_is_done(capsys):
    rows = _progress([("relu",), ("gelu",)], "checked")
    next(rows)
    assert capsys.readouterr().err == ""
    next(rows)
    assert capsys.readouterr().err == "checked relu (1/2)\n"
    assert list(rows) == []
    assert capsys.readouterr().err == "checked gelu (2/2)\n"
