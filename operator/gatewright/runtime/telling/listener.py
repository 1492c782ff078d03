"""One port that answers within bounds, whoever asks and however often.

    accepted, a few at a time -> too many are open? one is dropped
        -> one request -> one answer -> closed

Whoever reaches the port may open connections and say nothing. So a connection has
`CONNECTION_TIMEOUT_S` seconds for everything, its headers and taking the answer included; few are
open at a time; and it is not the newest that is dropped, but the oldest of the address that holds
the most: an honest client says at once what it wants, and is served before it is the oldest.
Connections are accepted a few at a time, with a pause after each full batch: what waits, waits in
the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gatewright.runtime.telling import metrics

MAX_OPEN_CONNECTIONS = 64
"""Connections of one port."""
MAX_OPEN_PER_ADDRESS = 16
"""Connections of one port that one address may hold."""
CONNECTION_TIMEOUT_S = 10.0
"""Seconds that a connection lasts, whatever is done with it."""
ACCEPT_BACKLOG = 128
"""Connections that the kernel keeps until they are accepted."""
ACCEPTS_AT_ONCE = 8
"""Connections that are accepted before the loop goes on with its other work."""
ACCEPT_PAUSE_S = 0.02
"""Seconds without accepting after so many at once."""
EXHAUSTED_PAUSE_S = 1.0
"""The same where the process has no file descriptor left."""
HTTP_LIMITS: dict[str, Any] = {
    "max_line_size": 1024,
    "max_field_size": 4096,
    "max_headers": 32,
    "read_bufsize": 4096,
    "lingering_time": 0.0,  # no page reads a body
    "auto_decompress": False,
}
"""Bytes of the request line and of one header, how many headers, bytes of a body that are held."""
REPEAT_LOG_S = 600.0
"""Seconds between two lines of the log about too many connections."""

log = logging.getLogger("gatewright.http")
_requests = logging.getLogger("gatewright.http.requests")
# A request that cannot be read is its client's fault, and answered with 400.
_requests.disabled = True

Page = Callable[[], web.Response]


@dataclass(slots=True, eq=False)
class _OpenSocket:
    """A connection."""

    source: str
    since: float
    transport: asyncio.Transport | None = None
    dropped: bool = False

    def drop(self) -> None:
        """Close it now; what it has not taken is thrown away, since it may never take it."""
        self.dropped = True
        if self.transport is not None:
            self.transport.abort()


class _Server(web.Server):
    """aiohttp's server, which tells who comes and goes."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        super().__init__(
            self._answer_request,
            keepalive_timeout=0,
            access_log=None,
            logger=_requests,
            **HTTP_LIMITS,
        )
        self._pages = pages
        self.coming: dict[web.RequestHandler, _OpenSocket] = {}
        self.gone: Callable[[_OpenSocket], None] = _OpenSocket.drop

    def protocol(self, connection: _OpenSocket) -> web.RequestHandler:
        """Return what speaks HTTP on a connection."""
        handler = self()
        self.coming[handler] = connection
        return handler

    def forget_unmade(self, connection: _OpenSocket) -> None:
        """Forget a connection that has ended before it was one."""
        self.coming = {
            handler: other for handler, other in self.coming.items() if other is not connection
        }

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        connection = self.coming[handler]
        connection.transport = transport

        # It was dropped before its transport was there.
        if connection.dropped:
            transport.abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self.gone(self.coming.pop(handler))

    async def _answer_request(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            response = web.Response(status=404, text="no such page\n")
        elif request.method not in ("GET", "HEAD"):
            response = web.Response(
                status=405, text="GET or HEAD\n", headers={"Allow": "GET, HEAD"}
            )
        else:
            response = _show_page(request.path, page)

        response.force_close()
        return response


class Listener:
    """One port."""

    def __init__(self, name: str, pages: Mapping[str, Page]) -> None:
        self._name = name
        self._server = _Server(pages)
        self._server.gone = self._forget_connection
        self._open: dict[_OpenSocket, None] = {}
        """The oldest first."""
        self._sources: Counter[str] = Counter()
        self._beginning: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._listening: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._said = float("-inf")

    def start(self, host: str, port: int) -> int:
        """Listen; no host: on every address. Returns the port. Raises OSError."""
        self._socket = _open_socket(host, port)
        self._resume_accepting()
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        """Close the port and every connection."""
        for timer in (self._listening, self._ending):
            if timer is not None:
                timer.cancel()

        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

        await asyncio.gather(*self._beginning, return_exceptions=True)

        for connection in list(self._open):
            self._forget_connection(connection)
            connection.drop()

        await self._server.shutdown(1.0)

    # Accepting

    def _resume_accepting(self) -> None:
        self._listening = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept_waiting)

    def _pause_accepting(self, seconds: float) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._listening = loop.call_later(seconds, self._resume_accepting)

    def _accept_waiting(self) -> None:
        assert self._socket is not None

        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # The process has no file descriptor left: the reader would be called for ever.
                metrics.dropped_connections.labels(self._name, "descriptors").inc()
                self._warn_seldom(
                    f"no connection to the port of {self._name} can be accepted now: {error}"
                )
                self._pause_accepting(EXHAUSTED_PAUSE_S)
                return

            self._take_connection(accepted, str(address[0]).removeprefix("::ffff:"))

        self._pause_accepting(ACCEPT_PAUSE_S)

    def _take_connection(self, accepted: socket.socket, source: str) -> None:
        self._make_room(source)
        loop = asyncio.get_running_loop()

        connection = _OpenSocket(source, loop.time())
        self._open[connection] = None
        self._sources[source] += 1
        self._count_connections()

        task = loop.create_task(self._begin_connection(accepted, connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        self._arm_timer()

    async def _begin_connection(self, accepted: socket.socket, connection: _OpenSocket) -> None:
        accepted.setblocking(False)

        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: self._server.protocol(connection), accepted)
        except OSError:
            # It has gone already.
            accepted.close()
            self._server.forget_unmade(connection)
            self._forget_connection(connection)

    # Dropping

    def _make_room(self, source: str) -> None:
        """Make room for one more connection of an address."""
        # Whoever holds the most loses the oldest: an honest client is served before it is that.
        if self._sources[source] >= MAX_OPEN_PER_ADDRESS:
            self._drop_oldest(source, "source")
        elif len(self._open) >= MAX_OPEN_CONNECTIONS:
            self._drop_oldest(self._sources.most_common(1)[0][0], "port")

    def _drop_oldest(self, source: str, reason: str) -> None:
        oldest = next(connection for connection in self._open if connection.source == source)
        self._drop_connection(oldest, reason)
        self._warn_seldom(
            f"more connections to the port of {self._name} are opened than it keeps "
            f"({MAX_OPEN_PER_ADDRESS} of one address, {MAX_OPEN_CONNECTIONS} in all), now by "
            f"{source}; the oldest are dropped. Let a NetworkPolicy admit only who should reach "
            "that port"
        )

    def _drop_connection(self, connection: _OpenSocket, reason: str) -> None:
        metrics.dropped_connections.labels(self._name, reason).inc()
        self._forget_connection(connection)
        connection.drop()

    def _forget_connection(self, connection: _OpenSocket) -> None:
        # Dropped already: aiohttp tells that it is gone a moment later.
        if connection not in self._open:
            return
        del self._open[connection]

        self._sources[connection.source] -= 1
        if not self._sources[connection.source]:
            del self._sources[connection.source]
        self._count_connections()

    def _arm_timer(self) -> None:
        """Wake when the oldest connection has lasted long enough."""
        if self._ending is None and self._open:
            due = next(iter(self._open)).since + CONNECTION_TIMEOUT_S
            self._ending = asyncio.get_running_loop().call_at(due, self._end_overdue)

    def _end_overdue(self) -> None:
        self._ending = None
        now = asyncio.get_running_loop().time()

        for connection in list(self._open):
            # They are in the order in which they came.
            if connection.since + CONNECTION_TIMEOUT_S > now:
                break
            self._drop_connection(connection, "time")

        self._arm_timer()

    # Telling

    def _count_connections(self) -> None:
        metrics.open_connections.labels(self._name).set(len(self._open))

    def _warn_seldom(self, message: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said >= REPEAT_LOG_S:
            self._said = now
            log.warning("%s", message)


def _show_page(path: str, page: Page) -> web.Response:
    try:
        return page()
    except Exception:
        metrics.pass_errors.inc()
        log.exception("%s cannot be shown", path)
        return web.Response(status=500, text="a fault of the operator; its log says more\n")


def _open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises OSError."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=ACCEPT_BACKLOG)
    elif socket.has_dualstack_ipv6():
        listening = socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=ACCEPT_BACKLOG
        )
    else:
        listening = socket.create_server(("", port), backlog=ACCEPT_BACKLOG)

    listening.setblocking(False)
    return listening
