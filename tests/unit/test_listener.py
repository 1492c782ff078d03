"""What strangers do to the operator's ports reaches neither its health nor its memory. Real
servers, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from aiohttp import web

from gatewright.__main__ import main
from gatewright.runtime.telling import listener
from tests.cluster.paths import CHECKOUT
from tests.cluster.processes import free_port

PROGRAM = """
import asyncio, resource, sys, uvloop
from gatewright.runtime.telling import listener
from gatewright.runtime.telling.server import ProbeServer

async def serve():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    listener.CONNECTION_TIMEOUT_S = float(sys.argv[3])
    server = ProbeServer(lambda: None, lambda: None)
    server.start(int(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    await asyncio.Event().wait()

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(serve())
"""
CROWD = 2_000
CLOSING = 3 * listener.ACCEPTS_AT_ONCE
"""Connections that were dropped, or accepted, a moment ago."""


@dataclass(frozen=True)
class Served:
    """A process of its own, which may have 256 files open."""

    health: int
    metrics: int
    pid: int

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def metric(self, name: str) -> float:
        found = re.search(
            rf"^{re.escape(name)} (\S+)$",
            ask(self.metrics, "/metrics", source="127.0.0.9"),
            re.MULTILINE,
        )
        return float(found[1]) if found else 0.0


@contextlib.contextmanager
def serving(lasts: float = 60.0) -> Iterator[Served]:
    ports = free_port(), free_port()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT / "operator"), str(CHECKOUT)])
    }
    command = [sys.executable, "-c", PROGRAM, *map(str, ports), str(lasts)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield Served(*ports, process.pid)
        finally:
            process.kill()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def everything(connection: socket.socket) -> bytes:
    """Until the other side closes; a reset is an end, too."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def ask(
    port: int, path: str, method: str = "GET", more: str = "", source: str = "127.0.0.1"
) -> str:
    with connect(port, source) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
        return everything(connection).decode()


@contextlib.contextmanager
def crowd(port: int, size: int, *sources: str) -> Iterator[list[socket.socket]]:
    """Connections that say nothing, opened without waiting for one another."""
    found = []
    try:
        for number in range(size):
            one = socket.socket()
            found.append(one)
            one.bind((sources[number % len(sources)] if sources else "127.0.0.1", 0))
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield found
    finally:
        for one in found:
            one.close()


def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came about")


def test_a_crowd_at_the_port_of_metrics_keeps_nobody_from_health(served: Served) -> None:
    before = served.files()
    with crowd(served.metrics, CROWD):
        for _ in range(20):
            assert ask(served.health, "/healthz").startswith("HTTP/1.1 200")
        assert ask(served.health, "/readyz").endswith("ok\n")
        until(lambda: served.files() >= before + listener.MAX_OPEN_PER_ADDRESS)
        assert served.files() <= before + listener.MAX_OPEN_PER_ADDRESS + CLOSING
        until(
            lambda: (
                served.metric(
                    'gatewright_http_connections_dropped_total{port="metrics",reason="source"}'
                )
                > 100
            )
        )


@pytest.mark.parametrize("port", ["health", "metrics"])
def test_who_holds_a_port_of_many_addresses_keeps_no_other_one_out(
    served: Served, port: str
) -> None:
    number, path = (served.health, "/healthz") if port == "health" else (served.metrics, "/metrics")
    before = served.files()
    sources = [f"127.0.1.{number}" for number in range(1, 101)]
    with crowd(number, 300, *sources):
        until(lambda: served.files() >= before + listener.MAX_OPEN_CONNECTIONS)
        for _ in range(20):
            assert ask(number, path).startswith("HTTP/1.1 200")
        assert served.files() <= before + listener.MAX_OPEN_CONNECTIONS + CLOSING
    assert (
        served.metric(f'gatewright_http_connections_dropped_total{{port="{port}",reason="port"}}')
        > 0
    )


def test_one_address_takes_nothing_from_another(served: Served) -> None:
    with connect(served.metrics, "127.0.0.2") as patient, crowd(served.metrics, 300, "127.0.0.3"):
        until(
            lambda: (
                served.metric(
                    'gatewright_http_connections_dropped_total{port="metrics",reason="source"}'
                )
                > 100
            )
        )
        patient.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"gatewright_http_connections{" in everything(patient)


def test_headers_that_never_end_are_cut() -> None:
    with serving(lasts=1.0) as served:
        slow = connect(served.health)
        sent = 0
        with slow, contextlib.suppress(ConnectionError):
            slow.sendall(b"GET /healthz HTTP/1.1\r\n")
            slow.settimeout(0.05)
            for sent in range(400):  # each line sooner than any time-out between two of them
                slow.sendall(f"X-{sent}: y\r\n".encode())
                with contextlib.suppress(TimeoutError):
                    assert slow.recv(1) == b""
                    break
        assert 0 < sent < 399
        assert (
            served.metric('gatewright_http_connections_dropped_total{port="health",reason="time"}')
            == 1
        )


def test_an_answer_that_is_not_taken_is_cut() -> None:
    with serving(lasts=1.0) as served, connect(served.metrics) as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                greedy.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: served.metric('gatewright_http_connections{port="metrics"}') == 1)


def test_a_connection_gets_one_answer(served: Served) -> None:
    twice = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2
    with connect(served.health) as connection:
        connection.sendall(twice.encode())
        answer = everything(connection).decode()
    assert answer.count("HTTP/1.1 200") == 1 and "Connection: close" in answer


@pytest.mark.parametrize(
    ("path", "method", "more", "status"),
    [
        ("/healthz", "GET", f"X: {'y' * 5000}\r\n", "400"),
        (f"/{'x' * 2000}", "GET", "", "400"),
        ("/healthz", "GET", "".join(f"X-{number}: y\r\n" for number in range(200)), "400"),
        ("/metrics", "GET", "", "404"),
        ("/healthz", "POST", "Content-Length: 1000000000\r\n", "405"),
        ("/healthz", "GET", "Content-Length: 1000000000\r\n", "200"),
        ("/healthz", "HEAD", "", "200"),
    ],
    ids=["long-header", "long-line", "many-headers", "other-page", "post", "body", "head"],
)
def test_what_is_asked_is_bounded(
    served: Served, path: str, method: str, more: str, status: str
) -> None:
    assert ask(served.health, path, method, more).split(" ", 2)[1] == status
    assert ask(served.health, "/healthz").startswith("HTTP/1.1 200")


def test_health_is_not_on_the_port_of_metrics(served: Served) -> None:
    assert ask(served.metrics, "/healthz").startswith("HTTP/1.1 404")
    assert "gatewright_leader" in ask(served.metrics, "/metrics")


async def test_no_more_than_a_batch_is_accepted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = listener.Listener("health", {"/healthz": web.Response})
    port = found.start("127.0.0.1", 0)
    with crowd(port, 100):
        found._accept_waiting()
        assert len(found._open) == listener.ACCEPTS_AT_ONCE
        assert found._listening is not None, "it pauses, and goes on by itself"
    await found.close()


async def test_without_a_file_descriptor_it_waits_instead_of_turning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "EXHAUSTED_PAUSE_S", 0.01)
    found = listener.Listener("health", {"/healthz": web.Response})
    found.start("127.0.0.1", 0)
    real, asked = found._socket, []
    assert real is not None

    number_of = real.fileno

    class Exhausted:
        fileno = number_of

        def accept(self) -> None:
            asked.append(1)
            raise OSError(errno.EMFILE, "Too many open files")

    found._socket = cast(Any, Exhausted())
    with crowd(real.getsockname()[1], 1):
        for _ in range(3):
            before = len(asked)
            found._accept_waiting()
            assert len(asked) == before + 1 and found._listening is not None
        found._socket = real
        while not found._open:
            await asyncio.sleep(0.01)
    await found.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "9000", "--health-port", "9000"], "--port and --health-port are both 9000"),
        (["--health-port", "x"], "x is no port"),
        (["--port", "70000"], "70000 is no port"),
    ],
)
def test_ports_that_cannot_be_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--all-namespaces", *arguments])
    assert words in capsys.readouterr().err


def test_ports_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWRIGHT_HEALTH_PORT", "8080")
    with pytest.raises(SystemExit):
        main(["run", "--all-namespaces"])
    assert "both 8080" in capsys.readouterr().err
