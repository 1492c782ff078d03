"""What a server sends is counted as it comes, head and framing included, and cut off where it is
too much."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gatewright.ports import Permanent, Retryable
from gatewright.providers.common import client, meter, replies
from gatewright.providers.common.context import current
from gatewright.providers.redis import connection as redis
from tests.contract import world
from tests.contract.test_redis import link as redis_link

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def saying(say: Say) -> AsyncIterator[str]:
    """The URL of a server that says this once it was asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await say(reader, writer)
        writer.transport.abort()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        await current().close()


def piece(head: bytes, part: bytes = b"", most: int = 16 * MIB) -> Say:
    """A head, and a part again and again."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        block = part * max(1, 65536 // max(1, len(part)))
        for _ in range(most // len(block) if part else 0):
            writer.write(block)
            await writer.drain()
        await reader.read()

    return say


FLOODS = {
    "100 Continue": (piece(b"", CONTINUE), "more than 8 answers"),
    "103 Early Hints": (
        piece(b"", b"HTTP/1.1 103 E\r\n" + b"a: 1\r\n" * 200 + b"\r\n"),
        "more than 8 answers",
    ),
    "long headers": (
        piece(
            b"HTTP/1.1 200 OK\r\n"
            + b"".join(b"h%d: %b\r\n" % (n, b"x" * 5000) for n in range(250))
            + OK[17:]
        ),
        "headers are longer than 64 KiB",
    ),
    "a long head in interim answers": (
        piece(
            b"".join(b"HTTP/1.1 103 E\r\na: %b\r\n\r\n" % (b"x" * 20_000) for _ in range(4)) + OK
        ),
        "headers are longer than 64 KiB",
    ),
    "small chunks": (piece(CHUNKED, b"1\r\na\r\n"), "too many pieces"),
    "chunk extensions": (piece(CHUNKED, b"1;a=" + b"x" * 15_000 + b"\r\na\r\n"), "too many pieces"),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_is_cut_off_and_counted(flood: str) -> None:
    say, words = FLOODS[flood]
    async with saying(say) as url:
        with meter.count_received() as received, pytest.raises(Permanent, match=words):
            await client.ask(world.http_link(url, timeout=20.0), "GET", "/")
    assert 10_000 < received.size < 2.5 * MIB


@pytest.mark.parametrize(
    "answer, body",
    [
        (CONTINUE * 3 + OK, b"{}"),
        (CHUNKED + (b"64\r\n" + b"x" * 100 + b"\r\n") * 9_000 + b"0\r\n\r\n", b"x" * 900_000),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + b"x" * MIB, b"x" * MIB),
        (b"HTTP/1.1 200 OK\r\na: %b\r\n" % (b"x" * 60_000) + OK[17:], b"{}"),
    ],
    ids=["a few interim answers", "many chunks", "the longest body", "a long header"],
)
async def test_what_is_within_measure_is_an_answer(answer: bytes, body: bytes) -> None:
    async with saying(piece(answer)) as url:
        for _ in range(2):
            with meter.count_received() as received:
                assert (
                    await client.ask(world.http_link(url, timeout=20.0), "GET", "/")
                ).body == body
            assert received.size >= len(answer)
            await current().close()


async def test_what_came_before_the_time_was_over_is_counted() -> None:
    async with saying(piece(CHUNKED + b"5;a=" + b"x" * 10_000)) as url:
        with meter.count_received() as received, pytest.raises(Retryable, match="no answer within"):
            await client.ask(world.http_link(url, timeout=0.5), "GET", "/")
    assert received.size > 10_000


async def test_a_body_without_a_length_that_was_cut_off_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end is that of the connection, whoever has ended it."""
    monkeypatch.setattr("gatewright.providers.common.intake.READ_COST", MIB)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n1")
        while not writer.is_closing():
            writer.write(b"0")
            await asyncio.sleep(0.02)

    async with saying(say) as url:
        with pytest.raises(Permanent, match="too many pieces"):
            await client.ask(world.http_link(url, timeout=20.0), "GET", "/")
        reply = await client.ask(world.http_link(url, timeout=20.0), "GET", "/", enough=20.0)
    assert reply.body.startswith(b"10"), "what is taken as far as it has come"


async def test_a_connection_ends_that_speaks_without_being_asked() -> None:
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(CONTINUE)
        with contextlib.suppress(OSError):
            ended.set_result(await reader.read() == b"")
        if not ended.done():
            ended.set_result(True)

    async with saying(say) as url:
        assert (await client.ask(world.http_link(url, timeout=20.0), "GET", "/")).status == 200
        assert await asyncio.wait_for(ended, 5)


async def test_objects_and_lists_of_a_body_cost_more_than_text() -> None:
    sizes = []
    for body in (b'"' + b"x" * 19_998 + b'"', b"[" + b",".join([b"{}"] * 6_666) + b"]"):
        async with saying(
            piece(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        ) as url:
            with meter.count_received() as received:
                replies.json_of(await client.ask(world.http_link(url, timeout=20.0), "GET", "/"))
        sizes.append(received.size)
    assert sizes[1] > 5 * sizes[0]


@pytest.mark.parametrize(
    "answer, least",
    [
        (b"$500000\r\n" + b"x" * 500_000 + b"\r\n", 500_000),
        (b"*4000\r\n" + b"+\r\n" * 4_000, 400_000),
        (b"*60000\r\n" + b":1\r\n" * 60_000, 60_000),
        (b"-ERR no\r\n", 9),
    ],
    ids=["bytes", "elements", "too many", "an error"],
)
async def test_answers_of_a_redis_are_counted(answer: bytes, least: int) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(answer)
        await reader.read()
        writer.transport.abort()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with meter.count_received() as received, contextlib.suppress(Permanent):
            await redis.run_command(redis_link(f"redis://127.0.0.1:{port}", 20.0), "PING")
        await current().close()
    assert received.size >= least
