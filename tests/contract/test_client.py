"""The client layer: what is sent, what is kept, what is closed, and what is never said."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import Any

import httpcore2
import pytest

from gatewright.api.base import SecretKeyRef, SecretSource
from gatewright.api.connection import HttpAccess
from gatewright.ports import Link, Permanent, Retryable
from gatewright.providers.connections import client
from gatewright.providers.connections.secrets import hide, secret
from gatewright.providers.connections.shelf import Shelf
from gatewright.providers.registry import GATES
from tests.cluster.processes import free_port
from tests.contract import world


async def test_credentials_are_sent_and_trimmed(server: world.Server) -> None:
    server.requests.clear()
    await client.ask(world.http_link(server.url("ok")), "GET", "/x?deep=true")
    first, headers = server.requests[-1]
    assert first == "GET /ok/x?deep=true HTTP/1.1"
    assert headers["authorization"] == f"Bearer {world.TOKEN}"
    assert headers["x-scope-orgid"] == world.HEADER
    assert headers["accept-encoding"] == "identity"


async def test_a_query_goes_as_a_form_with_a_time_limit_below_ours(server: world.Server) -> None:
    sent: dict[str, str] = {}
    gate = GATES["prometheus"]
    link = world.http_link(server.url("ok"), timeout=4.0)
    original = client.ask

    async def note(*args: object, form: dict[str, str], **kwargs: object) -> client.Reply:
        sent.update(form)
        return await original(*args, form=form, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "ask", note)
        await gate.measure(gate.config(query="sum(up)"), link)
    assert sent == {"query": "sum(up)", "timeout": "3600ms"}


async def test_one_connection_is_used_again(server: world.Server) -> None:
    link = world.http_link(server.url("ok"))
    server.connections.clear()
    for _ in range(5):
        await client.ask(link, "GET", "/")
    assert len(server.connections) == 1


async def test_another_identity_gets_another_client(server: world.Server) -> None:
    link = world.http_link(server.url("ok"))
    await client.ask(link, "GET", "/")
    rotated = dataclasses.replace(
        link, identity="rotated", secrets={**link.secrets, ("access", "token"): "new-token-1"}
    )
    server.requests.clear()
    await client.ask(rotated, "GET", "/")
    assert server.requests[-1][1]["authorization"] == "Bearer new-token-1"
    await client.ask(link, "GET", "/")
    assert server.requests[-1][1]["authorization"] == f"Bearer {world.TOKEN}"


async def test_a_dead_kept_connection_is_no_error(server: world.Server) -> None:
    """The other side closes an idle connection: the next question opens another, and nobody hears of it."""
    closing = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closing
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        # reads the next request before it closes: the client cannot know when it sends it
        await reader.read(1)
        closing += 1
        writer.transport.abort()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as listening:
        link = world.http_link(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        for _ in range(3):
            assert (await client.ask(link, "GET", "/")).status == 200
    assert closing >= 2


async def test_a_new_connection_that_dies_is_not_asked_again() -> None:
    asked = 0

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with await asyncio.start_server(die, "127.0.0.1", 0) as listening:
        link = world.http_link(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        with pytest.raises(Retryable):
            await client.ask(link, "GET", "/")
    assert asked == 1


@pytest.mark.parametrize("name", ["time-out", "drip", "drip-head"])
async def test_the_time_is_a_total(server: world.Server, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(Retryable, match=r"no answer within 0\.3s"):
        await client.ask(world.http_link(server.url(name), timeout=0.3), "GET", "/")
    assert time.monotonic() - started < 5, "each read may have had its own time"


async def test_waiting_for_a_connection_counts(server: world.Server) -> None:
    link = world.http_link(server.url("time-out"), timeout=0.3)
    started = time.monotonic()
    found = await asyncio.gather(*(client.ask(link, "GET", "/") for _ in range(30)), return_exceptions=True)
    assert all(isinstance(error, Retryable) for error in found)
    assert time.monotonic() - started < 5, "one after the other they would take nine seconds"


async def test_a_cancelled_question_leaves_the_client_usable(server: world.Server) -> None:
    link = world.http_link(f"http://127.0.0.1:{server.port}", timeout=5.0)
    tasks = [asyncio.create_task(client.ask(link, "GET", "/drip/")) for _ in range(20)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in found)
    assert (await client.ask(link, "GET", "/ok/")).status == 200


async def test_cookies_are_not_kept(server: world.Server) -> None:
    """A session cookie would pin a check to one replica, which may be the only good one."""
    seen: list[bytes] = []

    async def with_cookie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: replica=1\r\nContent-Length: 0\r\n\r\n")

    async with await asyncio.start_server(with_cookie, "127.0.0.1", 0) as listening:
        link = world.http_link(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        for _ in range(2):
            await client.ask(link, "GET", "/")
        await client.aclose()
    assert len(seen) == 2 and b"ookie" not in seen[1]


async def test_latency_leaves_out_connecting() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(b"}")
        await writer.drain()
        await reader.read()
        writer.close()

    gate = GATES["http"]
    async with await asyncio.start_server(slow, "127.0.0.1", 0) as listening:
        link = world.http_link(f"http://slow.example:{listening.sockets[0].getsockname()[1]}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gatewright.providers.connections.addresses.resolve", _slow_lookup)
            answer = await gate.measure(gate.config(path="/", measure="Latency"), link)
        await client.aclose()
    assert isinstance(answer.value, float) and 0.2 <= answer.value < 0.3


async def _slow_lookup(host: str, port: int) -> list[str]:
    await asyncio.sleep(0.3)
    return ["127.0.0.1"]


async def test_a_silent_address_does_not_use_up_the_time_of_the_next(
    server: world.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with two addresses, the first of which nobody answers at."""
    original = httpcore2.AnyIOBackend.connect_tcp

    async def two(host: str, port: int) -> list[str]:
        return ["10.255.255.1", "127.0.0.1"]

    async def connect(self: Any, host: str, port: int, timeout: float | None = None, **rest: Any) -> Any:
        if host != "127.0.0.1":
            await asyncio.sleep(60 if timeout is None else timeout)
            raise httpcore2.ConnectTimeout
        return await original(self, host, port, timeout, **rest)

    monkeypatch.setattr("gatewright.providers.connections.addresses.resolve", two)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    link = world.http_link(f"http://two.example:{server.port}", timeout=2.0)
    assert (await client.ask(link, "GET", "/ok/")).status == 200


# --- what is missing


@pytest.mark.parametrize("ci, outcome", [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_nothing_is_skipped_in_ci(ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="PostgreSQL is not installed"):
        world.missing("PostgreSQL is not installed")


# --- secrets


def _one(value: str, **access: object) -> Link:
    ref = SecretSource(secretRef=SecretKeyRef(name="access", key="token"))
    config = HttpAccess(url="http://127.0.0.1:1", **{"bearerToken": ref, **access})
    return Link("system", f"one {value!r} {access}", config, 1.0, {("access", "token"): value})


@pytest.mark.parametrize(
    "value, words",
    [
        (f"{world.TOKEN}\r\nHost: evil", "holds a line break"),
        (f"{world.TOKEN}\x00", "holds a line break"),
        ("  \n", "is empty"),
        (f"{world.TOKEN}é", "outside of ASCII"),
    ],
)
async def test_values_that_cannot_be_headers(value: str, words: str) -> None:
    with pytest.raises(Permanent, match=words) as caught:
        await client.ask(_one(value), "GET", "/")
    world.assert_silent(caught.value)


async def test_a_secret_that_is_not_there() -> None:
    link = dataclasses.replace(_one("x"), secrets={})
    with pytest.raises(Permanent, match='the Secret "access" with the key "token" is not there'):
        await client.ask(link, "GET", "/")


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection"])
async def test_headers_that_frame_a_request_are_refused(name: str) -> None:
    ref = SecretSource(secretRef=SecretKeyRef(name="access", key="token"))
    with pytest.raises(Permanent, match="not a Connection's to set"):
        await client.ask(_one("value", headers={name: ref}), "GET", "/")


def test_a_link_shows_no_secret() -> None:
    world.assert_silent(world.http_link("http://a"), world.sql_link(f"postgresql://u:{world.PASSWORD_QUOTED}@h/d"))


@pytest.mark.parametrize(
    "text, shown",
    [
        (f"no access with {world.TOKEN}", "no access with ***"),
        (f"password {world.PASSWORD} is wrong", "password *** is wrong"),
        (f"cannot parse {world.PASSWORD_QUOTED}@", "cannot parse ***@"),
        ("see https://user:word@example.com/x", "see https://example.com/x"),
        ("a\r\nb", "a b"),
        ("x" * 400, "x" * 300 + "…"),
    ],
)
def test_hiding(text: str, shown: str) -> None:
    secrets = {("a", "b"): f"{world.TOKEN}\n", ("c", "d"): f"postgresql://u:{world.PASSWORD_QUOTED}@h:5432/d"}
    assert hide(text, Link("n", "i", None, 1.0, secrets)) == shown


async def test_a_secret_in_the_url_is_not_said() -> None:
    """It does not belong there; then at least it goes no further."""
    link = world.http_link(f"http://127.0.0.1:{free_port()}/hook/{world.TOKEN}")
    with pytest.raises(Retryable, match=r"/hook/\*\*\*") as caught:
        await client.ask(link, "GET", "/")
    world.assert_silent(caught.value)


def test_a_short_value_does_not_turn_messages_into_dots() -> None:
    assert hide("answered 503", Link("n", "i", None, 1.0, {("a", "b"): "5"})) == "answered 503"


def test_trimming() -> None:
    link = _one(f"  {world.TOKEN}\n")
    assert secret(link, link.config.bearerToken) == world.TOKEN


# --- the shelf


class _Thing:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def test_what_is_idle_is_closed_and_what_is_lent_is_not() -> None:
    shelf: Shelf[_Thing] = Shelf(idle=0.1)
    idle, lent = _Thing(), _Thing()
    async with shelf.lend("idle", lambda: idle):
        pass
    async with shelf.lend("lent", lambda: lent):
        await asyncio.sleep(0.4)
        assert (idle.closed, lent.closed, len(shelf)) == (True, False, 1)
    await asyncio.sleep(0.4)
    assert (lent.closed, len(shelf)) == (True, 0)
    again = _Thing()
    async with shelf.lend("idle", lambda: again) as item:
        assert item is again
    await shelf.aclose()
    assert again.closed


async def test_a_client_that_cannot_be_made_is_not_kept() -> None:
    shelf: Shelf[_Thing] = Shelf()

    def fail() -> _Thing:
        raise Permanent("no")

    with pytest.raises(Permanent):
        async with shelf.lend("a", fail):
            pass
    assert len(shelf) == 0


def test_clients_do_not_outlive_their_loop(server: world.Server) -> None:
    link = world.http_link(server.url("ok"))
    for _ in range(2):
        reply = asyncio.run(client.ask(link, "GET", "/"))
        assert json.loads(reply.body)["ready"] is True
