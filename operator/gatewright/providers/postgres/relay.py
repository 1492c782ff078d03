"""A way to a server that ends when more comes back than was allowed.

    driver <-- loopback --> Relay <-- network --> a checked address

A driver that reads a message whole allocates what the message says, and that is for the server to
say: in a value, an error, a notice or a setting. So what comes back is counted here, below the
driver, and the connection is cut where it is too much. Before the two sides hear each other, an
opening speaks with both: TLS and the login are its part, since a driver does in a login what the
server asks for, however long that takes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from gatewright.ports import Permanent, Retryable

_LOOPBACK = "127.0.0.1"
_LINGER_S = 1.0
"""Seconds that the last words have on a connection whose other side has ended."""

Opening = Callable[["Side", "Side"], Awaitable[None]]
"""What is spoken with the driver and with the server, before each hears the other. Raises
Retryable, Permanent."""


@dataclass(frozen=True, slots=True)
class RelayRoute:
    """Where a loopback port leads."""

    address: str
    port: int
    timeout: float
    """Seconds for connecting and for the opening."""
    opening: Opening


class Relay:
    """A loopback port that leads to one address; one allowance for all that comes back."""

    def __init__(self, allowance: int) -> None:
        self.is_cut = False
        """Whether more came back than was allowed; nothing passes any more."""
        self.refused = False
        """Whether the address has refused the connection."""
        self.problem: Retryable | Permanent | None = None
        """Why the opening failed."""
        self.received = 0
        """Bytes that came back in all."""
        self.charged = 0
        """What the opening cost besides, in bytes that could have been read instead."""
        self.allowance = allowance
        """Bytes that may come back of what was asked last."""
        self._limit = allowance
        self._server: asyncio.Server | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._sides: set[Side] = set()

    async def lead_to(self, route: RelayRoute) -> tuple[str, int]:
        """Open the loopback port; whoever connects to it is led to the address."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _DriverSide(self, route), _LOOPBACK, 0, backlog=2
        )
        return _LOOPBACK, int(self._server.sockets[0].getsockname()[1])

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

    def charge(self, size: int) -> None:
        """Count what the opening costs."""
        self.charged += size

    def close(self) -> None:
        """Take no more connections; what is open ends with the driver's side."""
        if self._server is not None:
            self._server.close()
        for task in self._connecting:
            task.cancel()

    def abort(self) -> None:
        """End what is open at once."""
        for side in tuple(self._sides):
            side.abort()

    def connect(self, driver: Side, route: RelayRoute) -> None:
        """Connect one connection of the driver to the address; it is aborted where that cannot
        be."""
        task = asyncio.create_task(self._connect_server(driver, route), name="connect a relay")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def opened(self, side: Side) -> None:
        """Note that a side was opened."""
        self._sides.add(side)

    def closed(self, side: Side) -> None:
        """Note that a side was closed."""
        self._sides.discard(side)

    async def _connect_server(self, driver: Side, route: RelayRoute) -> None:
        server = Side(self, self.take)
        joined = False
        try:
            async with asyncio.timeout(route.timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: server, route.address, route.port
                )
                await route.opening(driver, server)

            joined = join_sides(driver, server)
        except (Retryable, Permanent) as error:
            self.problem = error
        except OSError as error:
            # TimeoutError is one: an address that is silent has not refused.
            self.refused = self.refused or isinstance(error, ConnectionRefusedError)
        finally:
            if not joined:
                server.abort()
                driver.abort()


class Side(asyncio.Protocol):
    """One side of a connection: read by the opening at first, passed on to the other side once they
    are joined.

    What one side sends is small or counted, so nothing ever waits for the other.
    """

    def __init__(self, relay: Relay, takes: Callable[[int], bool] = lambda size: True) -> None:
        """`takes`: counts what comes from here, and says whether it may pass."""
        self.other: Side | None = None
        self._relay = relay
        self._takes = takes

        self._transport: asyncio.Transport | None = None
        self._heard = bytearray()
        self._more: asyncio.Future[None] | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        # Not an isinstance: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._relay.opened(self)

    def data_received(self, data: bytes) -> None:
        """Pass on what is said, as long as it is allowed."""
        if not self._takes(len(data)):
            return
        if self.other is not None:
            self.other.write(data)
        else:
            self._heard += data
            self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side too, once what it was given is written."""
        self._ended = True
        self._relay.closed(self)
        self._wake_reader()
        if self.other is not None and self.other.is_open:
            self.other.close()
            asyncio.get_running_loop().call_later(_LINGER_S, self.other.abort)

    @property
    def is_open(self) -> bool:
        """Return whether something can be written to it."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def secured(self) -> ssl.SSLObject | None:
        """Return TLS with the other end; None where there is none."""
        return self._transport.get_extra_info("ssl_object") if self._transport is not None else None

    async def read(self, size: int) -> bytes:
        """Return so many bytes of what was said. Raises ConnectionError where it ends before."""
        while len(self._heard) < size:
            if self._ended:
                raise ConnectionResetError("the connection ended")
            self._more = asyncio.get_running_loop().create_future()
            await self._more

        data = bytes(self._heard[:size])
        del self._heard[:size]
        return data

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Go on by TLS, as the client. Raises OSError, of which ssl.SSLError is one."""
        if self._heard or self._transport is None:
            # Whoever is in between could have put it there.
            raise ConnectionResetError("something was said before TLS began")
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(self._transport, self, context, server_hostname=host)
        if secured is None:
            raise ConnectionResetError("the connection ended")
        self._transport = secured

    def write(self, data: bytes) -> None:
        """Send something to it."""
        if self._transport is not None and self.is_open:
            self._transport.write(data)

    def pass_on(self, other: Side) -> None:
        """Let the other side hear what is said here from now on, and what was not read yet."""
        self.other = other
        other.write(bytes(self._heard))
        self._heard.clear()

    def close(self) -> None:
        """End it once everything is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _wake_reader(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)


class _DriverSide(Side):
    """The driver's side, which begins."""

    def __init__(self, relay: Relay, route: RelayRoute) -> None:
        super().__init__(relay)
        self._route = route

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look for the server."""
        super().connection_made(transport)
        self._relay.connect(self, self._route)


def join_sides(driver: Side, server: Side) -> bool:
    """Let each hear the other; False where one of them is gone."""
    if not (driver.is_open and server.is_open):
        return False
    driver.pass_on(server)
    server.pass_on(driver)
    return True
