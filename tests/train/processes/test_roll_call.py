"""Process 0 and others as threads, and strangers between them."""

import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

from train.errors import ConfigError
from train.flags.config import Machines
from train.processes import cluster
from train.processes.roll_call import RollCall, answer, bind_address

SECRET = b"of the run"


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as several:
        yield several


def connected(address):
    until = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(address, timeout=5)
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.01)


def called(pool, address, count, seconds=20.0):
    """The roll call, and what comes of it."""
    call = RollCall(count, SECRET)
    return call, pool.submit(call.missing, address, time.monotonic() + seconds)


def answered(pool, address, own, secret=SECRET, seconds=20.0):
    return pool.submit(answer, address, own, secret, time.monotonic() + seconds)


STRANGERS = [
    b"99",
    b"1",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    bytes(range(256)) * 4,
    struct.pack("!i", 2**31 - 1) + b"x" * 10_000,  # As a message of two gigabytes.
    struct.pack("!i", 8) + (1).to_bytes(8, "big"),  # As the number of process 1.
    struct.pack("!i", 20) + os.urandom(20),
    b"",
]


def test_strangers_hold_up_nobody_and_are_not_counted(pool, address):
    """Those that stay, silent or not, and one that leaves."""
    call, missing = called(pool, address, 3)
    strangers = [connected(address) for _ in STRANGERS]
    for stranger, text in zip(strangers, STRANGERS, strict=True):
        stranger.sendall(text)
    connected(address).close()
    others = [answered(pool, address, own) for own in (2, 1)]
    started = time.monotonic()
    assert missing.result() == []
    assert [other.result() for other in others] == [([], ""), ([], "")]
    assert time.monotonic() - started < 4  # A silent one has five seconds of its own.
    assert call.strangers >= 5
    for stranger in strangers:
        stranger.close()


def test_a_stranger_does_not_end_the_call(pool, address):
    _, missing = called(pool, address, 2, seconds=1.5)
    with connected(address) as stranger:
        stranger.sendall(b"99")
        started = time.monotonic()
        assert missing.result() == [1]
        assert time.monotonic() - started > 0.8


def test_all_are_told_who_is_missing(pool, address):
    _, missing = called(pool, address, 4, seconds=1.5)
    others = [answered(pool, address, own, seconds=1.5) for own in (1, 3)]
    assert missing.result() == [2]
    assert [other.result() for other in others] == [([2], ""), ([2], "")]


def test_a_process_of_another_run_is_told_so(pool, address):
    call, missing = called(pool, address, 2, seconds=1.5)
    other = answered(pool, address, 1, b"of another run", seconds=1.2)
    assert other.result() == ([0], ", where another run answers")
    assert missing.result() == [1]
    assert call.strangers >= 1


@pytest.mark.parametrize("said", [b"HTTP/1.1 400\r\n\r\n", b'{"missing": []}', b"", b"\0" * 100])
def test_another_program_at_the_address_is_not_believed(pool, said):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(said)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        found = answer(server.getsockname(), 1, SECRET, time.monotonic() + 0.7)
        server.shutdown(socket.SHUT_RDWR)
    assert found[0] == [0]
    assert found[1].startswith(", where another ")


def test_nobody_listens(address):
    assert answer(address, 1, SECRET, time.monotonic() + 0.5) == ([0], "")


@pytest.mark.parametrize("number", [1, 7, 0])
def test_a_number_that_is_taken_or_of_no_process(pool, address, number):
    call, missing = called(pool, address, 3)
    first = answered(pool, address, 1)
    until = time.monotonic() + 5
    while not call._came and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(ConfigError, match=f"--process-id {number}: must be another of each"):
        answered(pool, address, number).result()
    last = answered(pool, address, 2)
    assert missing.result() == []
    assert first.result() == last.result() == ([], "")
    assert call.strangers == 0


def test_a_process_that_ended_can_come_again(pool, address, monkeypatch):
    _, missing = called(pool, address, 3)
    with monkeypatch.context() as patch:
        patch.setattr("train.processes.roll_call._SECONDS", 0)  # It leaves as soon as it was heard.
        assert answer(address, 1, SECRET, time.monotonic() + 0.3) == ([0], "")
    others = [answered(pool, address, own) for own in (1, 2)]
    assert missing.result() == []
    assert [other.result() for other in others] == [([], ""), ([], "")]


def test_it_listens_at_the_address_that_is_named(pool, address):
    """127.0.0.2 is another address of this machine."""
    _, missing = called(pool, address, 2, seconds=0.8)
    connected(address).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", address[1]), timeout=5)
    assert missing.result() == [1]


def test_a_port_that_is_in_use(address):
    with socket.create_server(address), pytest.raises(OSError, match="in use"):
        RollCall(2, SECRET).missing(address, time.monotonic() + 1)


@pytest.mark.parametrize(
    ("coordinator", "expected"),
    [
        ("127.0.0.1:70", ("127.0.0.1", 70)),
        ("127.0.1.1:70", ("127.0.1.1", 70)),
        ("10.1.2.3:9000", ("10.1.2.3", 9000)),
        ("[::1]:70", ("::1", 70)),
        ("node:70", ("10.0.0.7", 70)),
    ],
)
def test_where_it_listens(monkeypatch, coordinator, expected):
    look_up = socket.getaddrinfo

    def found(name, *arguments, **named):
        name = {"node": "10.0.0.7", "debian": "127.0.1.1"}.get(name, name)
        return look_up(name, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    assert bind_address(coordinator) == expected
    # A name that is a loopback address on its own machine alone.
    assert bind_address("debian:70")[0] in ("::", "0.0.0.0")
    assert bind_address("localhost:70")[0] in ("127.0.0.1", "::1")
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "127.0.0.9:71")
    assert bind_address(coordinator) == ("127.0.0.9", 71)


@pytest.mark.parametrize(
    ("coordinator", "bind"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")]
)
def test_the_service_of_jax_listens_there_too(monkeypatch, address, coordinator, bind):
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **named: given.update(named))
    monkeypatch.setattr(cluster, "_on_abort", lambda: None)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    named = f"{coordinator}:{address[1]}"
    cluster.join(Machines(True, named, processes=1, process_id=0), ["train.mlp", "run"])
    assert given["coordinator_bind_address"] == f"{bind}:{address[1]}"


def test_what_cannot_be_listened_at_is_one_line(monkeypatch, address):
    monkeypatch.setattr(cluster, "_on_abort", lambda: None)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    for named in (f"192.0.2.1:{address[1]}", "no-such-machine.invalid:7000", "127.0.0.1:99999"):
        with pytest.raises(
            ConfigError, match=f"--coordinator {named}: cannot be opened: "
        ) as error:
            cluster.join(Machines(True, named, processes=1, process_id=0), ["train.mlp", None])
        assert str(error.value).startswith(f"--coordinator {named}: cannot be opened: ")
        assert "\n" not in str(error.value)
