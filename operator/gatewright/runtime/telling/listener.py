"""One port that answers within bounds, whoever asks and however often.

    accepted, a few at a time -> too many are open? one is dropped -> one request -> one answer -> closed

Whoever reaches the port may open connections and say nothing. So a connection has `LASTS_S` seconds for everything, its
headers and taking the answer included; few are open at a time; and it is not the newest that is dropped, but the oldest
of the address that holds the most: an honest client says at once what it wants, and is served before it is the oldest.
Connections are accepted a few at a time, with a pause after each full batch: what waits, waits in the kernel.
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

MOST_OPEN = 64
"""Connections of one port."""
MOST_OF_ONE = 16
"""Connections of one port that one address may hold."""
LASTS_S = 10.0
"""Seconds that a connection lasts, whatever is done with it."""
BACKLOG = 128
"""Connections that the kernel keeps until they are accepted."""
AT_ONCE = 8
"""Connections that are accepted before the loop goes on with its other work."""
PAUSE_S = 0.02
"""Seconds without accepting after so many at once."""
EXHAUSTED_S = 1.0
"""The same where the process has no file descriptor left."""
LIMITS: dict[str, Any] = {
    "max_line_size": 1024,
    "max_field_size": 4096,
    "max_headers": 32,
    "read_bufsize": 4096,
    "lingering_time": 0.0,  # no page reads a body
    "auto_decompress": False,
}
"""Bytes of the request line and of one header, how many headers, bytes of a body that are held."""
SAY_AGAIN_S = 600.0
"""Seconds between two lines of the log about too many connections."""

log = logging.getLogger("gatewright.http")
_requests = logging.getLogger("gatewright.http.requests")
_requests.disabled = True  # a request that cannot be read is its client's fault, and answered with 400

Page = Callable[[], web.Response]


@dataclass(slots=True, eq=False)
class _Open:
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
        super().__init__(self._answer, keepalive_timeout=0, access_log=None, logger=_requests, **LIMITS)
        self._pages = pages
        self.coming: dict[web.RequestHandler, _Open] = {}
        self.gone: Callable[[_Open], None] = _Open.drop

    def protocol(self, connection: _Open) -> web.RequestHandler:
        """What speaks HTTP on a connection."""
        handler = self()
        self.coming[handler] = connection
        return handler

    def never_came(self, connection: _Open) -> None:
        """A connection has ended before it was one."""
        self.coming = {handler: one for handler, one in self.coming.items() if one is not connection}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        connection = self.coming[handler]
        connection.transport = transport
        if connection.dropped:
            transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.gone(self.coming.pop(handler))

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            answer = web.Response(status=404, text="no such page\n")
        elif request.method not in ("GET", "HEAD"):
            answer = web.Response(status=405, text="GET or HEAD\n", headers={"Allow": "GET, HEAD"})
        else:
            answer = _shown(request.path, page)
        answer.force_close()
        return answer


class Listener:
    """One port."""

    def __init__(self, name: str, pages: Mapping[str, Page]) -> None:
        self._name = name
        self._server = _Server(pages)
        self._server.gone = self._forget
        self._open: dict[_Open, None] = {}
        """The oldest first."""
        self._sources: Counter[str] = Counter()
        self._beginning: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._listening: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._said = float("-inf")

    def start(self, host: str, port: int) -> int:
        """Listen; no host: on every address. Returns the port. Raises OSError."""
        self._socket = _listening(host, port)
        self._listen()
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
            self._forget(connection)
            connection.drop()
        await self._server.shutdown(1.0)

    # Accepting

    def _listen(self) -> None:
        self._listening = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _pause(self, seconds: float) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._listening = loop.call_later(seconds, self._listen)

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(AT_ONCE):
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # the process has no file descriptor left: the reader would be called for ever
                metrics.dropped_connections.labels(self._name, "descriptors").inc()
                self._say(f"no connection to the port of {self._name} can be accepted now: {error}")
                self._pause(EXHAUSTED_S)
                return
            self._take(accepted, str(address[0]).removeprefix("::ffff:"))

        self._pause(PAUSE_S)

    def _take(self, accepted: socket.socket, source: str) -> None:
        self._make_room(source)
        loop = asyncio.get_running_loop()
        connection = _Open(source, loop.time())
        self._open[connection] = None
        self._sources[source] += 1
        self._count()
        task = loop.create_task(self._begin(accepted, connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        self._arm()

    async def _begin(self, accepted: socket.socket, connection: _Open) -> None:
        accepted.setblocking(False)
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: self._server.protocol(connection), accepted)
        except OSError:  # it has gone already
            accepted.close()
            self._server.never_came(connection)
            self._forget(connection)

    # Dropping

    def _make_room(self, source: str) -> None:
        """For one more connection of an address."""
        if self._sources[source] >= MOST_OF_ONE:
            self._drop_oldest(source, "source")
        elif len(self._open) >= MOST_OPEN:
            self._drop_oldest(self._sources.most_common(1)[0][0], "port")

    def _drop_oldest(self, source: str, reason: str) -> None:
        oldest = next(connection for connection in self._open if connection.source == source)
        self._drop(oldest, reason)
        self._say(
            f"more connections to the port of {self._name} are opened than it keeps ({MOST_OF_ONE} of one address, "
            f"{MOST_OPEN} in all), now by {source}; the oldest are dropped. "
            "Let a NetworkPolicy admit only who should reach that port"
        )

    def _drop(self, connection: _Open, reason: str) -> None:
        metrics.dropped_connections.labels(self._name, reason).inc()
        self._forget(connection)
        connection.drop()

    def _forget(self, connection: _Open) -> None:
        if connection not in self._open:
            return
        del self._open[connection]
        self._sources[connection.source] -= 1
        if not self._sources[connection.source]:
            del self._sources[connection.source]
        self._count()

    def _arm(self) -> None:
        """Wake when the oldest connection has lasted long enough."""
        if self._ending is None and self._open:
            due = next(iter(self._open)).since + LASTS_S
            self._ending = asyncio.get_running_loop().call_at(due, self._end)

    def _end(self) -> None:
        self._ending = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            if connection.since + LASTS_S > now:
                break
            self._drop(connection, "time")
        self._arm()

    # Telling

    def _count(self) -> None:
        metrics.connections.labels(self._name).set(len(self._open))

    def _say(self, words: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said >= SAY_AGAIN_S:
            self._said = now
            log.warning("%s", words)


def _shown(path: str, page: Page) -> web.Response:
    try:
        return page()
    except Exception:
        metrics.errors.inc()
        log.exception("%s cannot be shown", path)
        return web.Response(status=500, text="a fault of the operator; its log says more\n")


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.create_server((host, port), family=family, backlog=BACKLOG)
    elif socket.has_dualstack_ipv6():
        found = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    else:
        found = socket.create_server(("", port), backlog=BACKLOG)
    found.setblocking(False)
    return found
