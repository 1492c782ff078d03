"""A way to a server that ends when more comes back than was allowed.

    driver <-- loopback --> Relay <-- network --> a checked address

A driver that reads a message whole allocates what the message says, and that is for the server to say: in a value, an
error, a notice or a setting, before the login as after it. So what comes back is counted here, below the driver and
below its TLS, and the connection is cut where it is too much. Nothing is read of what passes.
"""

from __future__ import annotations

import asyncio
from typing import cast

_LOOPBACK = "127.0.0.1"
_LINGER_S = 1.0
"""Seconds that the last words have on a connection whose other side has ended."""


class Relay:
    """Loopback ports, each of which leads to one address; one allowance for all that comes back."""

    def __init__(self, allowance: int) -> None:
        self.is_cut = False
        """Whether more came back than was allowed; nothing passes any more."""
        self.refused = False
        """Whether an address has refused the connection."""
        self.received = 0
        """Bytes that came back in all."""
        self.allowance = allowance
        """Bytes that may come back of what was asked last."""
        self._limit = allowance
        self._servers: list[asyncio.Server] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.Transport] = set()

    async def lead_to(self, address: str, port: int, timeout: float) -> tuple[str, int]:
        """Open a loopback port whose connections lead to an address; `timeout` is for connecting, in seconds."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Inner(self, address, port, timeout), _LOOPBACK, 0, backlog=2)
        self._servers.append(server)
        return _LOOPBACK, int(server.sockets[0].getsockname()[1])

    def allow(self, size: int) -> None:
        """Let so many bytes come back from now on."""
        self.allowance, self._limit = size, self.received + size

    def take(self, size: int) -> bool:
        """Count what has come back; False where it was too much, and everything is cut."""
        self.received += size
        if self.received <= self._limit:
            return True
        self.is_cut = True
        self.abort()
        return False

    def close(self) -> None:
        """Take no more connections; what is open ends with the driver's side."""
        for server in self._servers:
            server.close()
        for task in self._connecting:
            task.cancel()

    def abort(self) -> None:
        """End what is open at once."""
        for transport in tuple(self._transports):
            transport.abort()

    def connect(self, inner: _Inner, address: str, port: int, timeout: float) -> None:
        """Connect one connection of the driver to the address; it is aborted where that cannot be."""
        task = asyncio.create_task(self._connect(inner, address, port, timeout), name="connect a relay")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def opened(self, transport: asyncio.Transport) -> None:
        """A side was opened."""
        self._transports.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """A side was closed."""
        self._transports.discard(transport)

    async def _connect(self, inner: _Inner, address: str, port: int, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().create_connection(lambda: _Outer(self, inner), address, port)
        except OSError as error:  # TimeoutError is one
            self.refused = self.refused or isinstance(error, ConnectionRefusedError)
            inner.abort()
        except asyncio.CancelledError:
            inner.abort()
            raise


class _Side(asyncio.Protocol):
    """One side of a connection. What one side sends is small or counted, so nothing ever waits for the other."""

    transport: asyncio.Transport | None = None
    other: _Side | None = None

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        # not an isinstance: uvloop's transports are no subclasses of asyncio's
        self.transport = cast(asyncio.Transport, transport)
        self._relay.opened(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side too, once what it was given is written."""
        if self.transport is not None:
            self._relay.closed(self.transport)
        if self.other is not None and self.other.transport is not None and self.other.is_open:
            self.other.transport.close()
            asyncio.get_running_loop().call_later(_LINGER_S, self.other.abort)

    @property
    def is_open(self) -> bool:
        """Whether something can be written to it."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send something to it."""
        if self.transport is not None and self.is_open:
            self.transport.write(data)

    def abort(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abort()


class _Inner(_Side):
    """The driver's side."""

    def __init__(self, relay: Relay, address: str, port: int, timeout: float) -> None:
        super().__init__(relay)
        self._target = address, port, timeout
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look for the server."""
        super().connection_made(transport)
        self._relay.connect(self, *self._target)

    def data_received(self, data: bytes) -> None:
        """Pass on what the driver says, once there is somewhere to send it."""
        if self.other is None:
            self._early.append(data)
        else:
            self.other.write(data)

    def join(self, other: _Side) -> None:
        """The server is there."""
        self.other = other
        other.write(b"".join(self._early))
        self._early.clear()


class _Outer(_Side):
    """The server's side."""

    def __init__(self, relay: Relay, inner: _Inner) -> None:
        super().__init__(relay)
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the driver speak, if it still wants to."""
        super().connection_made(transport)
        if self._inner.is_open:
            self.other = self._inner
            self._inner.join(self)
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Pass on what the server says, as long as it is allowed."""
        if self._relay.take(len(data)):
            self._inner.write(data)
