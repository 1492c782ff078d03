"""Servers that speak PostgreSQL's login, each as one coroutine says it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.fakes.postgres_server import ANSWERED, BEGUN, LOGGED_IN, POWERLESS, message

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SALT = base64.b64encode(b"s" * 16).decode()


@contextlib.asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[int]:
    """A port where a server has read the startup, and then talks as it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            await reader.readexactly(size - 4)
            await talk(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


def wants(code: int, data: bytes = b"") -> bytes:
    """A request for a kind of login."""
    return message(b"R", struct.pack("!i", code) + data)


async def password_of(reader: asyncio.StreamReader) -> bytes:
    """What a client says to a request."""
    kind, size = struct.unpack("!ci", await reader.readexactly(5))
    assert kind == b"p"
    return await reader.readexactly(size - 4)


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the role in, and answer one question honestly."""
    writer.write(LOGGED_IN)
    for part, syncs in ((POWERLESS, 1), (BEGUN, 1), (ANSWERED, 2)):
        while syncs:
            kind, size = struct.unpack("!ci", await reader.readexactly(5))
            await reader.readexactly(size - 4)
            syncs -= kind == b"S"
        writer.write(part)
        await writer.drain()


def scram(
    iterations: int, salt: str = SALT, final: bytes | None = b"v=" + b"A" * 44, later: bool = False
) -> Talk:
    """A server that asks for so many iterations, and knows the password as little as we know it.
    Where it says `later` in the end, everybody asks again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wants(10, b"SCRAM-SHA-256\0\0"))
        said = (await password_of(reader)).decode("latin-1")
        nonce = re.search(r"r=([0-9a-zA-Z+/]+)", said)
        assert nonce is not None
        writer.write(wants(11, f"r={nonce[1]}x,s={salt},i={iterations}".encode()))
        await password_of(reader)
        if later:
            writer.write(message(b"E", b"SFATAL\0C57P03\0Mx\0\0"))
            return
        if final is not None:
            writer.write(wants(12, final))
        await serve_one(reader, writer)

    return talk
