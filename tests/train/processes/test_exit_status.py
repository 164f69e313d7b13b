"""How a command ends: its status and its last line, without a process of its own."""

import io
import json
import os
import signal
import sys
import time
import types

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from train.errors import ConfigError, DataError
from train.flags import terminal
from train.flags.config import Machines
from train.processes import cluster, collectives, launch, signals
from train.processes.exit_status import answer, exit_status
from train.processes.signals import Interruption, Signals, Stopped


def noted(error, *notes):
    for note in notes:
        error.add_note(note)
    return error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("a"), 2, "error: a"),
        (FloatingPointError("a"), 1, "error: a"),
        (noted(MemoryError("a"), "b", "c"), 1, "error: a; b; c"),
        (OSError(5, "a"), 1, "error: [Errno 5] a"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Stopped(signal.SIGINT), 130, "interrupted"),
        (noted(Stopped(signal.SIGTERM, " after step 5"), "b"), 143, "terminated after step 5; b"),
        (ModuleNotFoundError("a", name="optax.contrib"), 2,
         "error: optax is not installed, and is needed: pip install 'jaxnets[train]'"),
        (DataError("a\nb\x1b"), 2, r"error: a\nb\x1b"),
        (DataError("give python -m train.mlp"), 2, "error: give jaxnets mlp"),
    ],
)  # fmt: skip
def test_an_error_is_a_status_and_a_line(error, status, line, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/jaxnets"])

    def work(_):
        raise error

    assert exit_status(work) == status
    assert capsys.readouterr() == ("", f"{line}\n")


@pytest.mark.parametrize("name", ["jaxnets.ops", "train.mlp"])
def test_a_module_of_our_own_that_is_missing_is_a_bug(name):
    def work(_):
        raise ModuleNotFoundError("a", name=name)

    with pytest.raises(ModuleNotFoundError):
        exit_status(work)


def test_another_error_is_a_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda _: 1 // 0)


@pytest.mark.parametrize(("notes", "line"), [
    ((), ""), (("b",), "the reader of standard output has left; b\n"),
])  # fmt: skip
def test_a_reader_that_has_left(notes, line, capsys, monkeypatch):
    left = []
    monkeypatch.setattr(terminal, "leave_closed_pipe", lambda: left.append(True))

    def work(_):
        raise noted(BrokenPipeError(32, "a"), *notes)

    assert exit_status(work) == 141
    assert capsys.readouterr().err == line
    assert left == [True]


def test_work_has_a_status_of_its_own(capsys):
    given = []
    assert exit_status(lambda signals: given.append(signals)) == 0
    assert isinstance(given[0], Signals)
    assert exit_status(lambda _: 3) == 3
    assert capsys.readouterr() == ("", "")

    def kind(*, steps: int = 5):
        return steps

    assert answer(kind, lambda steps: steps, ["--steps", "7"], "prog", None) == 7
    assert answer(kind, lambda steps: steps, ["--step=x"], "prog", None) == 2


def test_words_are_those_of_the_process(monkeypatch):
    def kind(*, steps: int = 5):
        return steps

    monkeypatch.setattr(sys, "argv", ["prog", "--steps", "9"])
    assert answer(kind, lambda steps: steps, None, "prog", None) == 9


# --- signals -------------------------------------------------------------------------------------


def test_a_signal_is_raised_or_noted_and_the_handlers_come_back():
    before = [signal.getsignal(number) for number in signals.NAMES]
    hook = sys.unraisablehook
    with pytest.raises(Stopped, match=r"^terminated$") as stopped, Signals() as received:
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.status == 143
    assert received.received == signal.SIGTERM
    assert [signal.getsignal(number) for number in signals.NAMES] == before
    assert sys.unraisablehook is hook
    with Signals() as received, received.held():
        assert received.received is None
        signal.raise_signal(signal.SIGINT)
        assert received.received == signal.SIGINT


def test_an_error_that_a_library_makes_of_it_is_it():
    def library():
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise ValueError("broken") from error

    with pytest.raises(Stopped), Signals():
        library()
    with pytest.raises(ValueError, match="broken"), Signals():
        raise ValueError("broken")


def test_a_second_interruption_is_one_of_python():
    handler = signal.getsignal(signal.SIGINT)
    with Interruption() as received:
        with pytest.raises(Stopped, match="interrupted"):
            signal.raise_signal(signal.SIGINT)
        assert received.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler
    with Interruption() as received, received.held():
        signal.raise_signal(signal.SIGINT)
        assert received.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_in_the_midst_of_an_import_is_not_raised_there(tmp_path, monkeypatch):
    (tmp_path / "raises_a_signal.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGTERM)\nx = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    received = Signals()
    handler = signal.signal(signal.SIGTERM, received._receive)
    try:
        import raises_a_signal
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert raises_a_signal.x == 5
    assert received._dropped


# --- several processes ---------------------------------------------------------------------------


class Processes:
    """Two processes, of which this is one; the other says `other`."""

    def __init__(self, monkeypatch, other, own=0):
        self._text = np.frombuffer(json.dumps(other).encode(), np.uint8)
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(jax, "process_index", lambda: own)
        monkeypatch.setattr(multihost_utils, "process_allgather", self._gathered)

    def _gathered(self, x):
        if x.ndim == 0:
            return np.stack([x, np.int32(len(self._text))])
        return np.stack([x, np.pad(self._text, (0, len(x) - len(self._text)))])


@pytest.mark.parametrize("other", [{"a": "longer than mine"}, None, []])
def test_each_process_says_something_of_its_own_length(monkeypatch, other):
    assert collectives.gathered({"a": 1}) == [{"a": 1}]
    Processes(monkeypatch, other)
    assert collectives.gathered({"a": 1}) == [{"a": 1}, other]


@pytest.mark.parametrize("own", [0, 1])
def test_what_has_to_be_the_same_is_named_where_it_is_not(monkeypatch, own):
    replaced, copied = [], []
    monkeypatch.setattr(os, "open", lambda *a: 5)
    monkeypatch.setattr(os, "dup", lambda *a: copied.append(a) or 7)
    monkeypatch.setattr(os, "dup2", lambda *a: replaced.append(a))
    monkeypatch.setattr(os, "fdopen", lambda *a: "shown")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    Processes(monkeypatch, {"seed": 1, "steps": 6}, own)
    with pytest.raises(ConfigError, match=r"^steps: is 6 of process 1, and 5 of process 0; start"):
        collectives.meet({"seed": 1, "steps": 5})
    assert copied == [(1,)]
    assert replaced == [(5, 1)]  # The standard output, and no other.
    assert (sys.stdout == "shown") == collectives.is_first() == (own == 0)


def test_one_process_alone_keeps_its_output(monkeypatch):
    before = sys.stdout
    monkeypatch.setattr(multihost_utils, "process_allgather", None)  # It costs nothing.
    collectives.meet({"seed": 1})
    collectives.wait()
    assert sys.stdout is before
    assert collectives.is_first()


def test_a_partner_that_is_lost_is_one_line(monkeypatch):
    with pytest.raises(jax.errors.JaxRuntimeError), cluster.explained("a"):
        raise jax.errors.JaxRuntimeError("Gloo")  # Of one process alone it is something else.
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def lost():
        assert cluster._Ending.message == f"{cluster._LOST}; a"
        raise jax.errors.JaxRuntimeError("Gloo context")

    with pytest.raises(ConnectionError, match=f"^{cluster._LOST}$"), cluster.explained("a"):
        lost()
    assert cluster._Ending.message == cluster._LOST
    with pytest.raises(jax.errors.JaxRuntimeError), cluster.explained("a"):
        raise jax.errors.JaxRuntimeError("something else")


def roll(monkeypatch, missing, strangers=0):
    def called_until(address, until):
        assert 30 < until - time.monotonic() <= cluster.JOIN_SECONDS
        return missing

    called = types.SimpleNamespace(missing=called_until, strangers=strangers)
    monkeypatch.setattr(cluster.roll_call, "RollCall", lambda count, secret: called)
    monkeypatch.setattr(cluster.roll_call, "bind_address", lambda c: (c.rpartition(":")[0], 5))
    asked = []
    monkeypatch.setattr(
        cluster.roll_call, "answer", lambda *given: asked.append(given[:3]) or (missing, " found")
    )
    return asked


def test_the_first_process_listens_and_the_others_answer(monkeypatch):
    asked = roll(monkeypatch, [])
    assert cluster._call_the_roll("a:5", 3, 0, b"") == "a:5"
    assert cluster._call_the_roll("::1:5", 3, 0, b"") == "[::1]:5"
    assert not asked
    assert cluster._call_the_roll("[::1]:5", 3, 2, b"s") is None
    assert asked == [(("::1", 5), 2, b"s")]


def test_an_address_that_cannot_be_is_one_line(monkeypatch):
    def raising(error):
        def called(*given):
            raise error

        return called

    monkeypatch.setattr(cluster.roll_call, "answer", raising(OverflowError("port")))
    with pytest.raises(ConfigError, match=r"^--coordinator a:99999: cannot be reached: port$"):
        cluster._call_the_roll("a:99999", 3, 1, b"")
    monkeypatch.setattr(cluster.roll_call, "bind_address", raising(OSError("taken")))
    with pytest.raises(ConfigError, match=r"^--coordinator a:1: cannot be opened: taken$"):
        cluster._call_the_roll("a:1", 3, 0, b"")


def test_last_words_are_said_at_once(monkeypatch):
    written = []
    monkeypatch.setattr("builtins.print", lambda *a, **k: written.append((a, k)))
    assert cluster.end(0) == 0
    assert cluster.end(2, "words") == 2
    assert written == [(("words",), {"file": sys.stderr, "flush": True})]


@pytest.mark.parametrize(
    ("missing", "strangers", "own", "line"),
    [
        ([2], 0, 0, "process 2 of 3 (0 to 2) did not join within 40 s at a:5; see"),
        ([1, 2], 4, 0, "processes 1, 2 of 3 (0 to 2) did not join within 40 s at a:5, where others "
                       "connected that do not know the run (4); see"),
        ([0], 0, 1, "process 0 of 3 (0 to 2) did not join within 40 s at a:5 found; see"),
    ],
)  # fmt: skip
def test_who_did_not_come_is_named(monkeypatch, missing, strangers, own, line):
    roll(monkeypatch, missing, strangers)
    with pytest.raises(ConfigError) as error:
        cluster._call_the_roll("a:5", 3, own, b"")
    assert str(error.value).startswith(f"--distributed: {line}")


def test_without_a_cluster_the_flags_are_asked_for(monkeypatch):
    monkeypatch.setattr(cluster, "_on_abort", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda *a: None)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "4")
    with pytest.raises(ConfigError, match="--distributed: JAX finds no cluster that it knows here"):
        cluster.join(Machines(True), [])


@pytest.mark.parametrize("known", [(None, 2, 0), ("a:1", None, 0), ("a:1", 2, None)])
def test_a_cluster_that_is_known_in_part_is_none(monkeypatch, known):
    found = types.SimpleNamespace(
        auto_detect_unset_distributed_params=lambda *given: (*known, None)
    )
    monkeypatch.setattr("jax._src.clusters.ClusterEnv", found)
    monkeypatch.setattr(cluster, "_on_abort", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda *a: None)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "4")
    with pytest.raises(ConfigError, match="--distributed: JAX finds no cluster that it knows here"):
        cluster.join(Machines(True), [])


def test_where_jax_ends_the_process_that_is_one_line(monkeypatch, capsys):
    ended, waited, handlers = [], [], []
    library = types.SimpleNamespace(signal=lambda *given: handlers.append(given))
    monkeypatch.setattr(cluster.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(cluster._Ending, "handler", None)
    monkeypatch.setattr(cluster._Ending, "status", None)
    monkeypatch.setattr(cluster.os, "_exit", ended.append)
    monkeypatch.setattr(cluster.time, "sleep", waited.append)
    cluster._on_abort()
    ((number, handler),) = handlers
    assert number == signal.SIGABRT
    handler(number)
    assert (ended, waited) == ([1], [])
    assert capsys.readouterr().err == f"error: {cluster._LOST}\n"
    monkeypatch.setattr(cluster._Ending, "status", 3)  # It is ending already.
    handler(number)
    assert (ended, len(waited)) == ([1, 3], 1)
    assert capsys.readouterr().err == ""


# --- commands ------------------------------------------------------------------------------------


def test_a_command_is_run_by_its_name(monkeypatch):
    run = []
    found = types.SimpleNamespace(main=lambda words: run.append(words) or 7)
    seen = []
    monkeypatch.setattr(launch.importlib, "import_module", lambda name: seen.append(name) or found)
    assert launch.run_command([]) is None
    assert launch.run_command(["none", "a"]) is None
    assert launch.run_command(["mlp", "a", "b"]) == 7
    assert launch.run_command(["data"]) == 7
    assert run == [["a", "b"], []]
    assert seen == ["train.mlp", "train.data.__main__"]
