"""The processes that train together, on one machine or many: how they find and lose each other.

JAX does the distributing. Here is what a command of --distributed needs beside that: to say which
process does not come, and in one line that one is lost. What they do together is in
`train.collective`.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from train import signals
from train.allowed import ConfigError
from train.config import Machines

# JAX is imported where it is used: what it logs must be settled before.

JOIN_SECONDS = 40  # In which all have to be there.
LOST_SECONDS = 15  # After which one that is not heard of is taken for dead.

_LOST = "another process ended, or cannot be reached"


class _Ending:
    """What is said, and with which status, where JAX ends the process."""

    message = _LOST
    status: int | None = None  # Once the process is ending by itself.
    handler: Any = None  # Kept, or it would be freed.


def join(machines: Machines) -> None:
    """Find the other processes; to be called before JAX is imported.

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
    # So JAX finds in the environment of a cluster what it is not given; it has no public name.
    asked = machines.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    coordinator, count, own, _ = ClusterEnv.auto_detect_unset_distributed_params(
        asked, machines.processes, machines.process_id, None, None, JOIN_SECONDS
    )
    if coordinator is None or count is None or own is None:
        raise ConfigError(
            "--distributed: JAX finds no cluster that it knows here; name --coordinator, "
            "--processes and --process-id"
        )
    _call_the_roll(coordinator, count, own)
    _Ending.message = f"not all processes joined within {JOIN_SECONDS} s; see what they printed"
    jax.distributed.initialize(
        coordinator,
        count,
        own,
        initialization_timeout=JOIN_SECONDS,
        heartbeat_timeout_seconds=LOST_SECONDS,
        shutdown_timeout_seconds=60,
    )
    _Ending.message = _LOST


def _call_the_roll(coordinator: str, count: int, own: int) -> None:
    """Wait until all processes are there; JAX would say that one is missing, but not which.

    Each of the others tells process 0 its number, and is told which are missing.
    """
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + JOIN_SECONDS
    if own == 0:
        missing = _called(coordinator, int(port), count, until)
    else:
        missing = _answered(host.strip("[]"), int(port), own, until)
    if missing:
        names = ", ".join(map(str, missing))
        raise ConfigError(
            f"--distributed: process{'es' * (len(missing) > 1)} {names} of {count} (0 to "
            f"{count - 1}) did not join within {JOIN_SECONDS} s at {coordinator}; see what it "
            f"printed, and start all of them again"
        )


def _called(coordinator: str, port: int, count: int, until: float) -> list[int]:
    """The processes that did not come, as process 0 finds."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--coordinator {coordinator}: cannot be opened: {error}") from error
    came: dict[int, socket.socket] = {}
    with server, contextlib.ExitStack() as connections:
        while len(came) < count - 1 and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(OSError, ValueError):  # Of others who try the port.
                server.settimeout(left)
                connection = connections.enter_context(server.accept()[0])
                connection.settimeout(min(left, 5))
                came[int(connection.recv(100))] = connection
        missing = sorted(set(range(1, count)) - came.keys())
        for connection in came.values():
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(missing).encode())
    return missing


def _answered(host: str, port: int, own: int, until: float) -> list[int]:
    """The processes that did not come, as process 0 says; process 0 itself if it says nothing."""
    while (left := until - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=left) as connection:
                connection.sendall(str(own).encode())
                connection.settimeout(left + 5)
                with connection.makefile() as answer:
                    missing: list[int] = json.loads(answer.read())
                    return missing
        except (OSError, ValueError):
            time.sleep(0.2)
    return [0]


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
        print(message, file=sys.stderr, flush=True)
    if _Ending.handler is None:
        return signals.leave(status)

    import jax

    if status:
        os._exit(status)  # To wait for the others would be to let them wait.
    jax.distributed.shutdown()
    return status
