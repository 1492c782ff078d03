"""A name server on this machine, for UDP and TCP: answers, is silent, and counts who asked it
what."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

A, CNAME, AAAA = 1, 5, 28
TTL = 3600
"""Long, as where nobody thinks of a failover."""


@dataclass
class Zone:
    """What the server says. A name that stands nowhere does not exist."""

    addresses: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    """Names whose answer by UDP is cut: the rest comes by TCP."""
    failing: set[str] = field(default_factory=set)
    silent: Callable[[str], bool] = lambda name: False
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    """Name, type and transport of each question."""
    port: int = 0

    @property
    def server(self) -> str:
        """Address and port."""
        return f"127.0.0.1:{self.port}"

    def names(self) -> list[str]:
        """The names that were asked for, each as often as it was."""
        return [name for name, _, _ in self.asked]

    def answer(self, question: bytes, transport: str) -> bytes | None:
        """The answer to a message; None: silence."""
        (number,) = struct.unpack("!H", question[:2])
        name, end = _name(question)
        (kind,) = struct.unpack("!H", question[end : end + 2])
        asked = question[12 : end + 4]
        self.asked.append((name, kind, transport))
        if self.silent(name):
            return None
        if name in self.failing:
            return struct.pack("!HHHHHH", number, 0x8182, 1, 0, 0, 0) + asked
        if name in self.cut and transport == "udp":
            return struct.pack("!HHHHHH", number, 0x8380, 1, 0, 0, 0) + asked
        records: list[bytes] = []
        while name in self.aliases:
            records.append(_record(name, CNAME, _packed(self.aliases[name])))
            name = self.aliases[name]
        known = name in self.addresses
        for text in self.addresses.get(name, []):
            family = socket.AF_INET6 if ":" in text else socket.AF_INET
            if kind == (AAAA if ":" in text else A):
                records.append(_record(name, kind, socket.inet_pton(family, text)))
        code = 0x8180 if known else 0x8183
        return (
            struct.pack("!HHHHHH", number, code, 1, len(records), 0, 0) + asked + b"".join(records)
        )


@asynccontextmanager
async def serving(zone: Zone) -> AsyncIterator[Zone]:
    """The server, on a port of its own."""

    class Datagrams(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            found = zone.answer(data, "udp")
            if found is not None:
                self.transport.sendto(found, addr)

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                found = zone.answer(await reader.readexactly(length), "tcp")
                if found is not None:
                    writer.write(struct.pack("!H", len(found)) + found)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    server = await asyncio.start_server(stream, "127.0.0.1", 0)
    zone.port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", zone.port)
    )
    try:
        yield zone
    finally:
        transport.close()
        server.close()


def _name(message: bytes) -> tuple[str, int]:
    labels, place = [], 12
    while message[place]:
        length = message[place]
        labels.append(message[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels).lower(), place + 1


def _packed(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _record(name: str, kind: int, data: bytes) -> bytes:
    return _packed(name) + struct.pack("!HHIH", kind, 1, TTL, len(data)) + data
