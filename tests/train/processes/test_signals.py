"""SIGTERM and Ctrl-C, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from train.mlp import main

ROOT = Path(__file__).parents[3]
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def run(*words, path=ROOT):
    """A process of Python, ended."""
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", WORDS)
@pytest.mark.parametrize(
    "command", ["mlp", "convnet", "compare", "evaluate", "data", "reproduce", "jaxnets"]
)
def test_while_a_command_is_imported(tmp_path, command, number):
    """What is imported takes an exception for its own."""
    if command == "jaxnets" and number == signal.SIGTERM:
        pytest.skip("nothing is written: the system ends it, without a word")
    module, imported = f"train.{command}", "tyro"
    if command == "jaxnets":
        module, imported = command, "jax"
    (tmp_path / f"{imported}.py").write_text(
        f"""
import os, time
try:
    os.kill(os.getpid(), {int(number)})
    time.sleep(3)
except BaseException:
    pass
raise ImportError("this library is broken")
"""
    )
    started = time.monotonic()
    done = run("-m", module, path=tmp_path)
    assert time.monotonic() - started < 20
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == f"{WORDS[number]}\n"


def test_an_import_of_the_package_leaves_signals_alone():
    done = run("-c", "import signal, train, jaxnets; print(signal.getsignal(signal.SIGINT))")
    assert "default_int_handler" in done.stdout
    assert "train" not in done.stdout


BEGIN = """
import gc, hashlib, os, signal, sys, time
from train.processes.signals import Signals, Stopped
def send():
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        # Ten minutes of C; Python handles no signal meanwhile.
        'import threading; threading.Timer(0.1, send).start()\n'
        '    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)',
        # Somebody drops the exception.
        "try: send(); time.sleep(9)\n    except BaseException: time.sleep(60)",
    ],
)  # fmt: skip
def test_a_command_that_does_not_answer_is_ended(work):
    started = time.monotonic()
    done = run("-c", f"{BEGIN}with Signals():\n    {work}")
    assert time.monotonic() - started < 20
    assert (done.returncode, done.stderr) == (143, "terminated\n")


def test_an_exception_that_python_drops_is_raised_again():
    """In a callback of the garbage collector; JAX has one."""
    script = """
calls = []
def callback(phase, info):
    if not calls:
        calls.append(phase)
        send()
        for _ in range(1000): pass
gc.callbacks.append(callback)
try:
    with Signals():
        gc.collect()
        time.sleep(60)
except Stopped as stopped:
    print(stopped, calls)
"""
    done = run("-c", BEGIN + script)
    assert (done.stdout, done.stderr) == ("terminated ['start']\n", "")


def test_an_import_comes_to_its_end(tmp_path):
    """An exception in the midst of jaxlib's kills the process."""
    (tmp_path / "fragile.py").write_text(
        f"{BEGIN}send()\nfor _ in range(10**6): pass\nprint('imported')\n"
    )
    script = """
try:
    with Signals():
        import fragile
        time.sleep(60)
except Stopped as stopped:
    print(stopped)
"""
    done = run("-c", BEGIN + script, path=tmp_path)
    assert (done.stdout, done.stderr) == ("imported\nterminated\n", "")


def test_another_error_that_is_made_of_it_is_it():
    script = """
try:
    with Signals():
        try: send(); time.sleep(60)
        except BaseException as error: raise ImportError("broken") from error
except Stopped as stopped:
    print(stopped)
"""
    done = run("-c", BEGIN + script)
    assert (done.stdout, done.stderr) == ("terminated\n", "")


# A mutex that is locked: nothing but the end of the process frees who waits for it.
COMPILING = """
import ctypes, os, signal, sys, threading
import jax
from train import mlp
from train.engine import compiled as options
from train.processes import signals
options.quick = lambda little: {}  # Which options XLA knows is found out by compiling, too.
compiled, which = [], int(sys.argv[1])
compile_it = jax.stages.Lowered.compile
def compile(*arguments, **named):
    compiled.append(1)
    if len(compiled) == which:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        mutex, c = ctypes.create_string_buffer(256), ctypes.CDLL(None)
        c.pthread_mutex_lock(mutex)
        c.pthread_mutex_lock(mutex)
    return compile_it(*arguments, **named)
jax.stages.Lowered.compile = compile
sys.exit(mlp.main(sys.argv[2:]))
"""
STEPS = ["--hidden", "4", "--steps", "30", "--eval-every", "20", "--batch-size", "50"]


def evaluations(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{**line, "seconds": None} for line in lines]


# The states, two evaluations, twenty steps, ten steps.
@pytest.mark.slow
@pytest.mark.parametrize(("which", "step"), [(1, None), (3, 0), (4, 0), (5, 20)])
def test_while_a_program_is_compiled(here, which, step):
    """All that was trained is saved, and goes on to the same end."""
    started = time.monotonic()
    done = run("-c", COMPILING, str(which), *STEPS, "--out", str(here / "run"))
    assert time.monotonic() - started < 60
    where = "" if step is None else f" after step {step}"
    advice = f"resume with: python -m train.mlp --resume {here / 'run'}"
    assert done.returncode == 143
    assert done.stderr.splitlines()[-1] == f"terminated{where}; {advice}"
    assert "Traceback" not in done.stderr
    if which < 5:
        return
    assert main(["--resume", "run"]) == 0
    assert main([*STEPS, "--out", "straight"]) == 0
    assert evaluations(here / "run") == evaluations(here / "straight")
    assert [line["step"] for line in evaluations(here / "run")] == [0, 20, 30]


def test_what_is_compiled_aside_fails_as_it_does_otherwise():
    from train.processes.signals import aside

    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0)
    assert aside(lambda: jax.numpy.float32(2) + 1) == 3
