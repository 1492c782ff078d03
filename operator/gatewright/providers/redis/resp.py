"""RESP2 on one connection (https://redis.io/docs/latest/develop/reference/protocol-spec).

The protocol is spoken here and not by redis-py: its client may be sent to another address by the
server ("moving" notifications), reads answers of any length, and takes half a second of CPU and 28
MB to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatewright.ports import Permanent, Retryable
from gatewright.providers.common import addresses, tls

MAX_ANSWER_BYTES = 1024 * 1024
"""Bytes of the largest answer that is read."""
_ELEMENT_BYTES = 64
"""Bytes that an element of a list counts for at least: that is what it costs here, and reading it
takes time."""
_LINE_COST_BYTES = 128
"""Bytes that could be received in the time that an element takes here."""
_ELEMENTS_PER_TURN = 128
"""Elements that are read before everything else has its turn."""
_MAX_DEPTH = 4
"""Lists within lists."""
_INTEGER = re.compile(rb"-?\d{1,19}")


class Broken(Exception):
    """The connection ended, or could not be made."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An error of the server."""

    text: str


class _Reader(asyncio.StreamReader):
    """Counts what comes in, as it comes."""

    def __init__(self, charge: Callable[[int], None]) -> None:
        super().__init__()
        self.charge = charge

    def feed_data(self, data: Any) -> None:
        """Take what comes in."""
        self.charge(len(data))
        super().feed_data(data)


class RespConnection:
    """A connection, and the protocol on it. After any exception it is of no more use."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self._left = 0
        self._lines = 0

    async def ask(self, command: tuple[str | bytes, ...]) -> Any:
        """Send a command and read its answer, which may be a `Refused`."""
        self._left = MAX_ANSWER_BYTES
        try:
            self._writer.write(_pack_command(command))
            await self._writer.drain()
            return await self._read_answer(0)
        except (OSError, asyncio.IncompleteReadError):
            pass
        raise Broken("the connection to the Redis broke off")

    async def aclose(self) -> None:
        """Say goodbye."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Drop it, whatever it was doing."""
        self._writer.transport.abort()

    async def _read_answer(self, depth: int) -> Any:
        line = await self._read_line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refused(rest.decode(errors="replace"))
        if kind not in (b":", b"$", b"*") or not _INTEGER.fullmatch(rest) or depth > _MAX_DEPTH:
            raise Permanent("what answers is not a Redis: it does not keep to the protocol")

        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        if kind == b"$":
            return (await self._read_exactly(number + 2))[:-2]

        self._count_bytes(_ELEMENT_BYTES * number)

        return [await self._read_answer(depth + 1) for _ in range(number)]

    async def _read_line(self) -> bytes:
        try:
            line = await self.reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError:
            line = b""

        if not line:
            raise Permanent("what answers is not a Redis: it does not keep to the protocol")

        self._count_bytes(len(line))
        self._lines += 1

        if not self._lines % _ELEMENTS_PER_TURN:
            self.reader.charge(_LINE_COST_BYTES * _ELEMENTS_PER_TURN)
            # What has come already is read without a pause otherwise.
            await asyncio.sleep(0)

        return line[:-2]

    async def _read_exactly(self, length: int) -> bytes:
        self._count_bytes(length)
        return await self.reader.readexactly(length)

    def _count_bytes(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise Permanent(
                f"the Redis: the answer is larger than {MAX_ANSWER_BYTES // 1024 // 1024} MiB"
            )


async def connect_first(
    host: str,
    port: int,
    tls_name: str | None,
    namespace: str,
    timeout: float,
    charge: Callable[[int], None],
) -> RespConnection:
    """Connect to one of the checked addresses; a name goes on only into TLS, None: without TLS.

    Raises Retryable, Permanent.
    """
    trust = tls.client_context() if tls_name is not None else None
    options = {"ssl": trust, "server_hostname": tls_name}
    problem: Retryable | Permanent = Retryable("cannot connect to the Redis")
    resolved = await addresses.resolve_host(host, namespace, port)
    for address in resolved:
        try:
            # One silent address of several must not use up the time of the others.
            async with asyncio.timeout(timeout / len(resolved)):
                return await _opened(address, port, charge, **options)
        except OSError as error:
            problem = _error_of_connecting(error)

    raise problem


async def _opened(
    address: str, port: int, charge: Callable[[int], None], **options: Any
) -> RespConnection:
    loop = asyncio.get_running_loop()
    reader = _Reader(charge)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, address, port, **options)
    return RespConnection(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


def _error_of_connecting(error: Exception) -> Retryable | Permanent:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Permanent(f"the Redis: its certificate is not trusted ({error.verify_message})")
    if isinstance(error, ssl.SSLError):
        return Retryable("the Redis: TLS failed (does it speak TLS? redis:// goes without)")
    if isinstance(error, ConnectionRefusedError):
        return Retryable("the Redis: the connection was refused")
    return Retryable("cannot connect to the Redis")


def _pack_command(command: tuple[str | bytes, ...]) -> bytes:
    packed = [b"*%d\r\n" % len(command)]
    for part in command:
        encoded = part.encode() if isinstance(part, str) else part
        packed.append(b"$%d\r\n%b\r\n" % (len(encoded), encoded))
    return b"".join(packed)
