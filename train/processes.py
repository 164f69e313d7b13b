"""The processes that train together, on one machine or many: --distributed.

JAX does the distributing: each process runs the same program, and computes its own part of arrays
that lie on the devices of all. Here is what a command needs beside that: to find the others, to
agree with them, to bring what was computed to the host, and to say in one line that one is lost.
Where there is one process alone, all of it costs nothing.
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
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

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

    # Its handler of SIGTERM would take the place of the command's own.
    jax.config.update("jax_enable_preemption_service", False)
    asked = machines.coordinator, machines.processes, machines.process_id
    if machines.coordinator and machines.processes and machines.process_id is not None:
        _call_the_roll(machines.coordinator, machines.processes, machines.process_id)
    _Ending.message = f"not all processes joined within {JOIN_SECONDS} s; see what they printed"
    try:
        jax.distributed.initialize(
            *asked,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=LOST_SECONDS,
            shutdown_timeout_seconds=60,
        )
    except ValueError as error:
        raise ConfigError(
            "--distributed: JAX finds no cluster that it knows here; name --coordinator, "
            "--processes and --process-id"
        ) from error
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
            f"--processes {count}: process{'es' * (len(missing) > 1)} {names} did not join within "
            f"{JOIN_SECONDS} s at {coordinator}; start all of them again, each with its own "
            f"--process-id"
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
                connection.settimeout(left)
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
        return status

    import jax

    if status:
        os._exit(status)  # To wait for the others would be to let them wait.
    jax.distributed.shutdown()
    return status


# --- what they do together: every process calls these ---------------------------------------------


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    import jax

    return jax.process_index() == 0


def gathered(value: Any) -> list[Any]:
    """Return what each process has, in their order; it is what JSON can hold."""
    import jax
    from jax.experimental.multihost_utils import process_allgather

    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = process_allgather(np.int32(len(text)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    rows = process_allgather(padded)
    return [
        json.loads(bytes(row[:length])) for row, length in zip(rows, lengths.ravel(), strict=True)
    ]


def wait() -> None:
    """Wait until all are here."""
    gathered(None)


def meet(values: dict[str, Any]) -> None:
    """Begin to work together, after which the first process alone has a standard output.

    Args:
        values: what has to be the same in all of them, by name.

    Raises:
        ConfigError: something is not; it names it.
    """
    import jax

    if jax.process_count() == 1:
        return
    # Gloo says on the standard output whom it has met. There is none, but for what Python prints.
    sys.stdout.flush()
    shown = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if is_first():
        sys.stdout = os.fdopen(shown, "w")
    first, *others = gathered(values)
    for number, found in enumerate(others, 1):
        for name in first:
            if first[name] != found.get(name):
                raise ConfigError(
                    f"{name}: is {found.get(name)} of process {number}, and {first[name]} of "
                    f"process 0; start the same command everywhere"
                )


def on_host(tree: Any) -> Any:
    """Return arrays of JAX as NumPy's, wherever they lie; of typed random keys, the data."""
    import jax
    from jax.experimental.multihost_utils import process_allgather

    def fetched(leaf: Any) -> Any:
        leaf = key_data(leaf)
        if here(leaf) or leaf.is_fully_replicated:
            return np.asarray(leaf)
        return np.asarray(process_allgather(leaf, tiled=True))

    return jax.tree.map(fetched, tree)


def here(leaf: Any) -> bool:
    """Whether an array lies on the devices of this process alone, or is one of NumPy."""
    return getattr(leaf, "is_fully_addressable", True)


def key_data(leaf: Any) -> Any:
    """Return an array, or of typed random keys, the data."""
    import jax

    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    import jax

    return jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key)


def placed(tree: Any, sharding: Any) -> Any:
    """Put arrays that each process has on the devices; each moves what its own devices hold."""
    import jax

    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> Any:
        data = np.asarray(key_data(leaf))
        found = assembled(data.shape, sharding, data.__getitem__)
        return jax.random.wrap_key_data(found) if _is_key(leaf) else found

    return jax.tree.map(put, tree)


def assembled(shape: tuple[int, ...], sharding: Any, part: Callable[[Any], np.ndarray]) -> Any:
    """Return an array on the devices; `part(index)` is called for what those of this process hold.

    Args:
        shape: of the whole.
        sharding: where its parts lie; None for the one device.
        part: a tuple of slices to the array there.
    """
    import jax

    if sharding is None:
        return jax.device_put(part((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, sharding, part)
