"""One of each system for all contract tests, and the address rules opened for this machine."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from gatewright.providers.common import vendor_hosts
from gatewright.providers.common.address_rules import AddressRules
from gatewright.providers.common.context import ProviderContext
from tests.contract import vendors, world
from tests.fakes.redis_server import RedisServer, redis_server


@pytest.fixture(autouse=True)
async def _open_and_close(provider_context: ProviderContext) -> AsyncIterator[None]:
    provider_context.rules = AddressRules.of("127.0.0.1")
    yield
    await provider_context.close()
    left = [task for task in asyncio.all_tasks() if _ours(task)]
    assert not left, f"closing leaves tasks behind: {left}"


@pytest.fixture(autouse=True)
def _as_the_vendors_describe_it() -> Iterator[None]:
    """Every request of every test in here is one that the vendor's own file describes."""
    with vendors.checked():
        yield


@pytest.fixture(autouse=True)
def vendors_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins are taken for the vendors, whose sentences are repeated."""
    monkeypatch.setattr(vendor_hosts, "is_vendor_host", lambda link: True)


def _ours(task: asyncio.Task[object]) -> bool:
    return "gatewright/providers" in getattr(task.get_coro(), "cr_code", _ours.__code__).co_filename


@pytest.fixture(scope="session")
def server() -> Iterator[world.Server]:
    """The server that does everything wrong."""
    with world.faulty() as running:
        yield running


@pytest.fixture(scope="session")
def database() -> Iterator[world.Postgres]:
    """A real PostgreSQL."""
    with world.postgres() as running:
        yield running


@pytest.fixture(scope="session")
def cache() -> Iterator[RedisServer]:
    """A real Redis."""
    with redis_server() as running:
        yield running


@pytest.fixture(scope="session")
def monitoring() -> Iterator[str]:
    """A real Prometheus that scrapes a small exporter; its URL."""

    class Exporter(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (
                b'requests_total 1000\nerrors_total 5\nlatency_seconds{pod="a"} '
                b'0.1\nlatency_seconds{pod="b"} 0.2\n'
            )
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    exporter = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    thread = threading.Thread(target=exporter.serve_forever, daemon=True)
    thread.start()
    try:
        with world.prometheus(f"127.0.0.1:{exporter.server_address[1]}") as url:
            yield url
    finally:
        exporter.shutdown()
        exporter.server_close()
        thread.join(5)
