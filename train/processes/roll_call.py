"""The roll call of several processes: process 0 hears who is there, and tells all who is not.

JAX would say that a process is missing, but not which; and its service counts whoever connects.
Here a process is known by a secret that only those of the run have. Each side shows the other that
it has it, by the challenges of `multiprocessing.connection`; the secret is never sent. Whoever else
connects holds up nobody, and is not counted.
"""

import contextlib
import ipaddress
import json
import os
import socket
import struct
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from train.errors import ConfigError

_SECONDS = 5  # In which the other side has to show that it knows the run.
_LONGEST = 100_000  # Bytes of the answer of process 0.


def bind_address(coordinator: str) -> tuple[str, int]:
    """Return the address to listen at as the coordinator that is named.

    Raises:
        OSError: there is no such machine, or port.
    """
    coordinator = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or coordinator
    name, _, port = coordinator.rpartition(":")
    name = name.strip("[]")
    if int(port) >= 2**16:
        raise OSError("a port is below 65536")
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    address = str(found[0][4][0])
    # Many machines know themselves by a loopback address, at which the others do not find them.
    named = name == "localhost" or name == address
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback and not named:
        address = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    return address, int(port)


class RollCall:
    """What process 0 hears.

    Attributes:
        strangers: how many connections did not know the run.
    """

    def __init__(self, count: int, secret: bytes):
        """Begin with process 0 alone.

        Args:
            count: the number of processes.
            secret: what those of the run know.
        """
        self.strangers = 0
        self._count, self._secret = count, secret
        self._came: dict[int, Connection] = {}
        self._lock = threading.Lock()

    def missing(self, address: tuple[str, int], until: float) -> list[int]:
        """Wait for the others; return those that did not come, and tell the ones that did.

        Args:
            address: where to listen.
            until: when the wait is over, by `time.monotonic`.

        Raises:
            OSError: it is no address of this machine, or in use.
        """
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        everywhere = address[0] == "::"
        with socket.create_server(address, family=family, dualstack_ipv6=everywhere) as server:
            server.settimeout(0.1)
            while len(self._came) < self._count - 1 and time.monotonic() < until:
                with contextlib.suppress(OSError):  # A timeout, or one that left again.
                    heard = _connection(server.accept()[0])
                    threading.Thread(target=self._hear, args=(heard,), daemon=True).start()
        with self._lock:
            missing = sorted(set(range(1, self._count)) - self._came.keys())
            for connection in self._came.values():
                _tell(connection, {"missing": missing})
        return missing

    def _hear(self, connection: Connection) -> None:
        try:
            deliver_challenge(connection, self._secret)
            answer_challenge(connection, self._secret)
            number = int.from_bytes(connection.recv_bytes(8), "big")
        except Exception:  # Whatever a stranger sends, or does not.
            connection.close()
            self.strangers += 1
            return
        with self._lock:
            before = self._came.get(number)
            # Nothing more is sent by one that is there; one that ended and came again is welcome.
            if not 0 < number < self._count or (before is not None and not before.poll()):
                _tell(
                    connection,
                    {
                        "refused": f"--process-id {number}: must be another of each process, from "
                        f"0 to {self._count - 1}"
                    },
                )
            else:
                self._came[number] = connection


def answer(
    address: tuple[str, int], own: int, secret: bytes, until: float
) -> tuple[list[int], str]:
    """Tell process 0 that this one is there, as soon as it listens.

    Args:
        address: of process 0.
        own: the number of this process.
        secret: what those of the run know.
        until: when the wait is over, by `time.monotonic`.

    Returns:
        The processes that did not come, as process 0 says, or process 0 itself; and what else can
        be said of it.

    Raises:
        ConfigError: process 0 does not take this number, such as that of another process.
    """
    found = ""
    while (left := until - time.monotonic()) > 0:
        try:
            with _connection(socket.create_connection(address, timeout=left)) as connection:
                answer_challenge(connection, secret)
                deliver_challenge(connection, secret)
                connection.send_bytes(own.to_bytes(8, "big"))
                if connection.poll(until - time.monotonic() + _SECONDS):
                    said = json.loads(connection.recv_bytes(_LONGEST))
                    break
        except ConnectionRefusedError:
            pass  # It does not listen yet.
        except AuthenticationError:
            found = ", where another run answers"
        except (OSError, EOFError, AssertionError, ValueError):
            found = found or ", where another program answers"
        time.sleep(0.2)
    else:
        return [0], found
    if "refused" in said:
        raise ConfigError(said["refused"])
    return said["missing"], ""


def _connection(opened: socket.socket) -> Connection:
    opened.setblocking(True)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        opened.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _SECONDS, 0))
    return Connection(opened.detach())


def _tell(connection: Connection, said: dict[str, Any]) -> None:
    with contextlib.suppress(OSError), connection:
        connection.send_bytes(json.dumps(said).encode())
