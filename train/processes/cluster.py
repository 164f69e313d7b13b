"""The processes that train together, on one machine or many: how they find and lose each other.

JAX does the distributing. Here is what a command of --distributed needs beside that: to say which
process does not come, and in one line that one is lost. What they do together is in
`train.collective`.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from train.errors import ConfigError
from train.flags.config import Machines
from train.processes import roll_call, signals

# JAX is imported where it is used: what it logs must be settled before.

JOIN_SECONDS = 40  # In which all have to be there.
LOST_SECONDS = 15  # After which one that is not heard of is taken for dead.

_LOST = "another process ended, or cannot be reached"


class _Ending:
    """What is said, and with which status, where JAX ends the process."""

    message = _LOST
    status: int | None = None  # Once the process is ending by itself.
    handler: Any = None  # Kept, or it would be freed.


def join(machines: Machines, known: Sequence[str | None]) -> None:
    """Find the other processes; to be called before JAX is imported.

    Args:
        machines: the flags of several processes.
        known: what the processes of the run know, and no other: a secret is made of it.

    Raises:
        ConfigError: one of them did not come in time, or there is no cluster that JAX knows.
    """
    # JAX ends a process whose partners are lost by a signal, with a page of addresses.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "4"
    _on_abort()

    import jax
    from jax._src.clusters import ClusterEnv

    # Its handler of SIGTERM would take the place of the command's own.
    jax.config.update("jax_enable_preemption_service", False)
    # So JAX finds in the environment of a cluster what it is not given. It has no public name, and
    # what JAX itself says of a process that does not come does not name it.
    asked = machines.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    coordinator, count, own, _ = ClusterEnv.auto_detect_unset_distributed_params(
        asked, machines.processes, machines.process_id, None, None, JOIN_SECONDS
    )
    if coordinator is None or count is None or own is None:
        raise ConfigError(
            "--distributed: JAX finds no cluster that it knows here; name --coordinator, "
            "--processes and --process-id"
        )
    secret = hashlib.sha256(json.dumps([*known, count]).encode()).digest()
    bind = _call_the_roll(coordinator, count, own, secret)
    _Ending.message = f"not all processes joined within {JOIN_SECONDS} s; see what they printed"
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            own,
            initialization_timeout=JOIN_SECONDS,
            coordinator_bind_address=bind,
            heartbeat_timeout_seconds=LOST_SECONDS,
            shutdown_timeout_seconds=60,
        )
    except RuntimeError as error:
        raise ConfigError(f"--coordinator {coordinator}: {' '.join(str(error).split())}") from error
    _Ending.message = _LOST


def _call_the_roll(coordinator: str, count: int, own: int, secret: bytes) -> str | None:
    """Wait until all processes are there; return where the service of JAX is to listen."""
    until, bind, found = time.monotonic() + JOIN_SECONDS, None, ""
    if own == 0:
        called = roll_call.RollCall(count, secret)
        try:
            host, port = roll_call.bind_address(coordinator)
            missing = called.missing((host, port), until)
        except OSError as error:
            raise ConfigError(f"--coordinator {coordinator}: cannot be opened: {error}") from error
        bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if called.strangers:
            found = f", where others connected that do not know the run ({called.strangers})"
    else:
        name, _, number = coordinator.rpartition(":")
        try:
            missing, found = roll_call.answer((name.strip("[]"), int(number)), own, secret, until)
        except OverflowError as error:
            raise ConfigError(f"--coordinator {coordinator}: cannot be reached: {error}") from error
    if missing:
        names = ", ".join(map(str, missing))
        raise ConfigError(
            f"--distributed: process{'es' * (len(missing) > 1)} {names} of {count} (0 to "
            f"{count - 1}) did not join within {JOIN_SECONDS} s at {coordinator}{found}; see what "
            f"it printed, and start all of them again"
        )
    return bind


def _on_abort() -> None:
    """Answer the signal by which JAX ends a process in one line."""

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def ended(number: int) -> None:
        if _Ending.status is None:
            print(f"error: {_Ending.message}", file=sys.stderr, flush=True)
        else:
            time.sleep(5)  # It is about to end by itself.
        os._exit(1 if _Ending.status is None else _Ending.status)

    # Python's own handlers wait for the next instruction of Python, and there is none.
    _Ending.handler = ended
    ctypes.CDLL(None).signal(signal.SIGABRT, ended)


@contextlib.contextmanager
def explained(note: str) -> Iterator[None]:
    """A context in which the loss of another process raises a `ConnectionError` in one line.

    Args:
        note: is added where JAX ends this process.
    """
    import jax

    if jax.process_count() == 1:
        yield
        return
    _Ending.message = f"{_LOST}; {note}"
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not re.search("gloo|nccl|connect|coordination|heartbeat", str(error), re.IGNORECASE):
            raise
        raise ConnectionError(_LOST) from error
    finally:
        _Ending.message = _LOST


def end(status: int, message: str = "") -> int:
    """Say the last words on stderr, end this process among several, and return the exit status."""
    if status:
        _Ending.status = status
    if message:
        print(message, file=sys.stderr, flush=True)
    if _Ending.handler is None:
        return signals.leave(status)

    import jax

    if status:
        os._exit(status)  # Without the shutdown barrier, on which the others would block.
    jax.distributed.shutdown()
    return status
