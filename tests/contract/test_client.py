"""The client layer: what is sent, what is kept, what is closed, and what is never said."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gatewright.api.base import SecretKeyRef, SecretSource
from gatewright.api.connection import HttpAccess
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import client, meter, permit, replies, tls
from gatewright.providers.common.address_rules import AddressRules
from gatewright.providers.common.client_pool import ClientPool
from gatewright.providers.common.context import current
from gatewright.providers.common.secrets import hide_secrets, secret_value
from gatewright.providers.registry import GATES
from tests.cluster.certs import Authority
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


async def test_an_ipv6_address_is_asked_as_any_other() -> None:
    current().rules = AddressRules.of("::1")
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "::1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        reply = await client.ask(world.http_link(f"http://[::1]:{port}/base"), "GET", "/x?y=1")

    assert reply.status == 200
    assert heads[0].startswith(b"GET /base/x?y=1 HTTP/1.1\r\n")
    assert f"Host: [::1]:{port}".encode() in heads[0]


async def test_a_query_goes_as_a_form_with_a_time_limit_below_ours(server: world.Server) -> None:
    sent: dict[str, str] = {}
    gate = GATES["prometheus"]
    link = world.http_link(server.url("ok"), timeout=4.0)
    original = client.ask

    async def note(*args: object, form: dict[str, str], **kwargs: object) -> replies.Reply:
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


async def test_what_is_read_is_counted_also_where_it_is_too_much() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"/large" not in (head := await reader.readuntil(b"\r\n\r\n")):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        assert head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        link = world.http_link(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        with meter.count_received() as received:
            await client.ask(link, "GET", "/")
            await client.ask(link, "GET", "/")
        assert 200_000 < received.size < 210_000, "heads are counted as well"
        with meter.count_received() as received, pytest.raises(Permanent, match="larger than"):
            await client.ask(link, "GET", "/large")
        assert received.size > client.MAX_BODY_BYTES


async def test_nothing_is_sent_by_a_process_that_may_not_act_any_more(server: world.Server) -> None:
    class NotOurs(Exception):
        pass

    def lost() -> None:
        raise NotOurs

    link = world.http_link(server.url("ok"))
    server.requests.clear()
    with permit.require_within(lost), pytest.raises(NotOurs):
        await client.ask(link, "POST", "/", body={})
    assert server.requests == []
    await client.ask(link, "POST", "/", body={})
    assert len(server.requests) == 1


async def test_a_dead_kept_connection_is_no_error(server: world.Server) -> None:
    """The other side closes an idle connection: the next question opens another, and nobody hears
    of it."""
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


@pytest.mark.parametrize(
    "method, sent", [("GET", 2), ("HEAD", 2), ("POST", 1), ("PUT", 1), ("PATCH", 1), ("DELETE", 1)]
)
async def test_what_may_do_something_twice_is_sent_once(method: str, sent: int) -> None:
    """The kept connection dies after it has taken the second request, and nobody knows what became
    of that."""
    taken: list[str] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readuntil(b"\r\n\r\n")
        taken.append(first.split()[0].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        taken.append((await reader.readuntil(b"\r\n\r\n")).split()[0].decode())
        writer.transport.abort()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as listening:
        link = world.http_link(
            f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=10.0
        )
        await client.ask(link, "GET", "/")
        if sent == 2:
            assert (await client.ask(link, method, "/")).status == 200
        else:
            with pytest.raises(Retryable):
                await client.ask(link, method, "/", body={"n": 1})
    assert taken[1:].count(method) == sent


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
async def test_a_body_where_there_may_be_none_is_no_answer(late: bool) -> None:
    """HEAD that is answered as GET would be: what comes after the head is neither an error nor the
    next answer."""
    opened = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            first = await reader.readuntil(b"\r\n\r\n")
            status = b"401 Unauthorized" if first.startswith(b"HEAD") or opened == 1 else b"200 OK"
            body = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
            if late:
                await writer.drain()
                await asyncio.sleep(0.05)
            writer.write(body)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        link = world.http_link(
            f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=10.0
        )
        assert (await client.ask(link, "HEAD", "/")).status in (200, 401)
        await asyncio.sleep(0.2)
        for _ in range(2):
            assert (
                b"wrong" in (reply := await client.ask(link, "POST", "/", body={})).body[-5:]
                and len(reply.body) > 5
            )
        await current().close()
    assert opened == 2, "the connection that was out of order was used again"


async def test_what_nobody_asked_for_is_no_answer() -> None:
    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        await writer.drain()
        await reader.read()

    async with await asyncio.start_server(talkative, "127.0.0.1", 0) as listening:
        link = world.http_link(
            f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=10.0
        )
        for method in ("GET", "POST", "PUT"):
            assert (await client.ask(link, method, "/")).body == b"right"
            await asyncio.sleep(0.2)
        await current().close()


async def test_a_form_is_a_question_and_asked_again(server: world.Server) -> None:
    taken: list[bytes] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.readuntil(b"a=1+%26"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as listening:
        link = world.http_link(
            f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=10.0
        )
        for _ in range(2):
            assert (await client.ask(link, "POST", "/", form={"a": "1 &"})).status == 200
    assert len(taken) == 2 and b"Content-Type: application/x-www-form-urlencoded\r\n" in taken[0]


@pytest.mark.parametrize(
    "base, path, target",
    [
        ("", "/x?deep=true", "/x?deep=true"),
        ("", "", "/"),
        ("/base/", "/x", "/base/x"),
        ("/base/", "", "/base"),
        ("", "/a b?q=c d+e%20f&g=é", "/a%20b?q=c%20d+e%20f&g=%C3%A9"),
        ("", "/%41%2f%7e;v=1", "/%41%2f%7e;v=1"),
        ("", "/a\r\nHost: evil", "/a%0D%0AHost:%20evil"),
        ("", "//evil.example/x", "//evil.example/x"),
        ("", "/#x?y#z", "/%23x?y%23z"),
        ("", "/a?b?c=/../d", "/a?b?c=/../d"),
    ],
)
async def test_a_path_goes_as_it_is_written(base: str, path: str, target: str) -> None:
    first: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        await client.ask(
            world.http_link(f"http://127.0.0.1:{port}{base}", timeout=10.0), "GET", path
        )
    line, *headers = first[0].decode().split("\r\n")
    assert line == f"GET {target} HTTP/1.1"
    assert [name for name in headers if name.lower().startswith("host:")] == [
        f"Host: 127.0.0.1:{port}"
    ]


@pytest.mark.parametrize("path", ["@evil.example/", ":81/", ".evil.example/", "x"])
async def test_a_path_that_would_be_part_of_the_host_is_refused(
    server: world.Server, path: str
) -> None:
    with pytest.raises(Permanent, match="a path begins with /"):
        await client.ask(world.http_link(f"http://127.0.0.1:{server.port}"), "GET", path)


@pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: b"}, {"X-A\r\nX-B": "b"}, {"X-A": "a\x00"}])
async def test_a_header_that_would_be_two_is_not_sent(
    server: world.Server, headers: dict[str, str]
) -> None:
    server.requests.clear()
    with pytest.raises(Permanent, match="cannot be sent by HTTP"):
        await client.ask(world.http_link(server.url("ok")), "GET", "/", headers=headers)
    assert server.requests == []


async def test_proxies_and_passwords_of_the_environment_are_not_used(
    server: world.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ana password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    link = dataclasses.replace(
        _one("value"), config=HttpAccess(url=server.url("ok")), identity="plain"
    )
    assert (await client.ask(link, "GET", "/")).status == 200
    assert "authorization" not in server.requests[-1][1]


async def test_bytes_of_a_header_that_are_no_text_can_be_written_on() -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /\xff\xe9?x\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with await asyncio.start_server(odd, "127.0.0.1", 0) as listening:
        link = world.http_link(
            f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=10.0
        )
        reply = await client.ask(link, "GET", "/")
    assert reply.headers["location"] == "/\ufffd\ufffd?x"
    assert reply.location == "another path of the same host"
    json.dumps([reply.location, dict(reply.headers)], ensure_ascii=False).encode()


@pytest.mark.parametrize("size, good", [(30_000, True), (100_000, False)])
async def test_headers_are_bounded(size: int, good: bool) -> None:
    async def wide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nX-Policy: %b\r\nContent-Length: 0\r\n\r\n" % (b"x" * size)
        )
        await writer.drain()

    async with await asyncio.start_server(wide, "127.0.0.1", 0) as listening:
        link = world.http_link(
            f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=10.0
        )
        if good:
            assert len((await client.ask(link, "GET", "/")).headers["x-policy"]) == size
            return
        with pytest.raises(Permanent, match="the headers are longer than 64 KiB"):
            await client.ask(link, "GET", "/")


@pytest.mark.parametrize("host, good", [("shop.example", True), ("blog.example", False)])
async def test_a_certificate_is_for_the_name_and_not_for_the_address(
    host: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.create()
    pair = authority.issue("server", hosts=["shop.example", "127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with world.stored(pair.certificate + pair.key) as path:
        context.load_cert_chain(path)
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    with world.stored(authority.certificate) as path:
        trusted = ssl.create_default_context(cafile=path)

    async def lookup(host: str, namespace: str) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(current().resolver, "find", lookup)
    monkeypatch.setattr(tls, "client_context", lambda *protocols: trusted)
    with world.faulty(context) as serving:
        link = world.http_link(f"https://{host}:{serving.port}/ok", timeout=10.0)
        if good:
            assert (await client.ask(link, "GET", "/")).status == 200
        else:
            with pytest.raises(Permanent, match="the certificate is not trusted"):
                await client.ask(link, "GET", "/")
        assert asked == [host]
        assert len(serving.requests) == int(good), "credentials went to somebody else"


@pytest.mark.parametrize("name", ["time-out", "drip", "drip-head"])
async def test_the_time_is_a_total(server: world.Server, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(Retryable, match=r"no answer within 0\.3s"):
        await client.ask(world.http_link(server.url(name), timeout=0.3), "GET", "/")
    assert time.monotonic() - started < 5, "each read may have had its own time"


async def test_waiting_for_a_connection_counts(server: world.Server) -> None:
    link = world.http_link(server.url("time-out"), timeout=0.3)
    started = time.monotonic()
    found = await asyncio.gather(
        *(client.ask(link, "GET", "/") for _ in range(30)), return_exceptions=True
    )
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
        await current().close()
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
        port = listening.sockets[0].getsockname()[1]
        link = world.http_link(f"http://slow.example:{port}", timeout=60.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gatewright.providers.common.addresses.resolve_host", _slow_lookup)
            answer = await gate.measure(gate.config(path="/", measure="Latency"), link)
        await current().close()
    # The look-up took three seconds, and what was asked a moment.
    assert isinstance(answer.value, float) and 0.2 <= answer.value < 3.0


async def _slow_lookup(host: str, namespace: str, port: int) -> list[str]:
    await asyncio.sleep(3.0)
    return ["127.0.0.1"]


async def test_a_silent_address_does_not_use_up_the_time_of_the_next(
    server: world.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with two addresses, the first of which nobody answers at."""
    original = asyncio.SelectorEventLoop.sock_connect

    async def two(host: str, namespace: str, port: int) -> list[str]:
        return ["10.255.255.1", "127.0.0.1"]

    async def connect(self: Any, sock: Any, place: tuple[str, int]) -> None:
        if place[0] != "127.0.0.1":
            await asyncio.sleep(60)
        await original(self, sock, place)

    monkeypatch.setattr("gatewright.providers.common.addresses.resolve_host", two)
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    link = world.http_link(f"http://two.example:{server.port}", timeout=2.0)
    assert (await client.ask(link, "GET", "/ok/")).status == 200


# --- what is missing


@pytest.mark.parametrize(
    "ci, outcome", [("true", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_nothing_is_skipped_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="PostgreSQL is not installed"):
        world.missing("PostgreSQL is not installed")


# --- secrets


def _one(value: str, **access: object) -> OpenConnection:
    ref = SecretSource(secretRef=SecretKeyRef(name="access", key="token"))
    config = HttpAccess(url="http://127.0.0.1:1", **{"bearerToken": ref, **access})
    return OpenConnection(
        "system", f"one {value!r} {access}", config, 1.0, {("access", "token"): value}
    )


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
    world.assert_silent(
        world.http_link("http://a"), world.sql_link(f"postgresql://u:{world.PASSWORD_QUOTED}@h/d")
    )


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
    secrets = {
        ("a", "b"): f"{world.TOKEN}\n",
        ("c", "d"): f"postgresql://u:{world.PASSWORD_QUOTED}@h:5432/d",
    }
    assert hide_secrets(text, OpenConnection("n", "i", None, 1.0, secrets)) == shown


async def test_a_secret_in_the_url_is_not_said() -> None:
    """It does not belong there; then at least it goes no further."""
    link = world.http_link(f"http://127.0.0.1:{free_port()}/hook/{world.TOKEN}")
    with pytest.raises(Retryable, match=r"/hook/\*\*\*") as caught:
        await client.ask(link, "GET", "/")
    world.assert_silent(caught.value)


def test_a_short_value_does_not_turn_messages_into_dots() -> None:
    assert (
        hide_secrets("answered 503", OpenConnection("n", "i", None, 1.0, {("a", "b"): "5"}))
        == "answered 503"
    )


def test_trimming() -> None:
    link = _one(f"  {world.TOKEN}\n")
    assert secret_value(link, link.config.bearerToken) == world.TOKEN


# --- the shelf


class _Thing:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def test_what_is_idle_is_closed_and_what_is_lent_is_not() -> None:
    shelf: ClientPool[_Thing] = ClientPool(idle=0.1)
    idle, lent = _Thing(), _Thing()
    async with shelf.lend_client("idle", lambda: idle):
        pass
    async with shelf.lend_client("lent", lambda: lent):
        await asyncio.sleep(0.4)
        assert (idle.closed, lent.closed, len(shelf)) == (True, False, 1)
    await asyncio.sleep(0.4)
    assert (lent.closed, len(shelf)) == (True, 0)
    again = _Thing()
    async with shelf.lend_client("idle", lambda: again) as item:
        assert item is again
    await shelf.aclose()
    assert again.closed


async def test_many_clients_are_not_kept() -> None:
    """Those that were used longest ago go, whatever they take for it; and none that is lent."""
    shelf: ClientPool[_Thing] = ClientPool(most=3)
    things = [_Thing() for _ in range(6)]
    async with shelf.lend_client("0", lambda: things[0]):
        for number in range(1, 6):
            async with shelf.lend_client(str(number), lambda number=number: things[number]):
                pass
        await asyncio.sleep(0)
        assert [thing.closed for thing in things] == [False, True, True, True, False, False]
        assert len(shelf) == 3
    await shelf.aclose()
    assert all(thing.closed for thing in things)


async def test_a_client_that_cannot_be_made_is_not_kept() -> None:
    shelf: ClientPool[_Thing] = ClientPool()

    def fail() -> _Thing:
        raise Permanent("no")

    with pytest.raises(Permanent):
        async with shelf.lend_client("a", fail):
            pass
    assert len(shelf) == 0


def test_clients_do_not_outlive_their_loop(server: world.Server) -> None:
    link = world.http_link(server.url("ok"))
    for _ in range(2):
        reply = asyncio.run(client.ask(link, "GET", "/"))
        assert json.loads(reply.body)["ready"] is True


# --- what it costs to read a text that somebody else wrote


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from([*'[]{}:,"\\0e-.tn aé', "://", "@", "%", "://a@", "\r\n", world.TOKEN]),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([16 * 1024, 1024 * 1024]),
)
def test_any_text_is_read_in_linear_time(pieces: list[str], size: int) -> None:
    piece = "".join(pieces)
    text = piece * (size // len(piece.encode()))
    # five times what it takes, since a machine with other work to do counts more
    limit = 0.1 if size == 16 * 1024 else 5.0
    link = world.http_link("http://a")
    reply = replies.Reply("http://a", 200, CIMultiDictProxy(CIMultiDict()), "", text.encode(), 0.0)
    readers = [
        lambda: replies.json_of(reply),
        lambda: hide_secrets(text, link),
        lambda: client._quote_url(text),
    ]
    for read in readers:
        assert min(_spent(read) for _ in range(2)) < limit


def _spent(work: Callable[[], object]) -> float:
    began = time.thread_time()
    try:
        work()
    except Permanent as error:
        assert len(str(error)) < 500
    return time.thread_time() - began
