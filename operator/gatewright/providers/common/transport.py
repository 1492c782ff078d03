"""How aiohttp carries requests for `client`: to judged addresses alone, and without anything that
it does of its own.

Cookies would pin a check to one replica, proxies and credentials from the environment would lead
past the address rules, redirects elsewhere, an answer that unpacks to a thousand times its size
past the limit; and what may not be done twice would be sent again. Every error of aiohttp becomes
one of ours here.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextvars import ContextVar
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gatewright.ports import Permanent, Retryable
from gatewright.providers.common import addresses, tls
from gatewright.providers.common.intake import HEAD, CountedHandler, Intake

MAX_CONNECTIONS = 8
_KEEP_ALIVE_S = 60.0
_MAX_HEADERS = 256
_BUFFER = 64 * 1024
"""Bytes of a body that wait to be read, before nothing more of it is received; there may be twice
as many."""
_BROKEN = (
    aiohttp.ClientOSError,
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientConnectionResetError,
)
_NO_ANSWER = (
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
    aiohttp.ServerDisconnectedError,
)


class RequestCourse:
    """How a request goes: when it was sent, and on which connection."""

    def __init__(self, intake: Intake, again: bool = False) -> None:
        self.intake = intake
        """What comes back."""
        self.again = again
        """It was sent before, or may not be sent twice."""
        self.sent = time.monotonic()
        self.answered = False
        self.connected = False
        """A connection was made for it."""

    def is_stale(self, error: Exception) -> bool:
        """Return whether a connection that was kept had been closed by the other side before it
        answered anything."""
        return not (self.again or self.connected or self.answered) and isinstance(error, _BROKEN)


class CarryFailed(Exception):
    """What went wrong while a request was carried, out of the reach of whoever would send it
    again."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem


class NothingSent(Exception):
    """Nothing was sent: the kept connection holds something that nobody has asked for."""


class _Request(aiohttp.ClientRequest):
    """aiohttp would take for the answer what a server has said on a connection before it was
    asked."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or conn.protocol.should_close:
            raise NothingSent
        assert isinstance(conn.protocol, CountedHandler)
        conn.protocol.begin(_COURSE.get().intake)
        return await super().send(conn)


class _Connector(aiohttp.TCPConnector):
    """Connections on which everything is counted that comes in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_counted, loop=self._loop)  # type: ignore[assignment]


def _counted(loop: asyncio.AbstractEventLoop) -> CountedHandler:
    return CountedHandler(loop, _COURSE.get().intake)


_COURSE: ContextVar[RequestCourse] = ContextVar("course")


def open_session(host: str, namespace: str) -> aiohttp.ClientSession:
    """Open a session of a few connections to one host, for the Connections of a namespace."""

    def judged(target: tuple[Any, ...]) -> socket.socket:
        """Return a socket for one address.

        This is the last place where it is judged, and the only one for an address in a URL.
        """
        family, kind, protocol, _, place = target
        addresses.check_address(ip_address(place[0]), host, namespace, place[1])
        _COURSE.get().connected = True
        return socket.socket(family, kind, protocol)

    connector = _Connector(
        resolver=_Resolver(namespace),
        use_dns_cache=False,
        socket_factory=judged,
        ssl=tls.client_context("http/1.1"),
        limit=MAX_CONNECTIONS,
        keepalive_timeout=_KEEP_ALIVE_S,
    )

    sent = aiohttp.TraceConfig()
    sent.on_request_headers_sent.append(_note_sent)

    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        # A Connection's time is one for everything, and counted by `client.ask`.
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=("Accept", "Content-Type"),
        max_line_size=HEAD,
        max_field_size=HEAD,
        max_headers=_MAX_HEADERS,
        read_bufsize=_BUFFER,
        trace_configs=[sent],
        middlewares=[_send_once],
        request_class=_Request,
    )


async def send_request(
    session: aiohttp.ClientSession, course: RequestCourse, method: str, url: Any, **options: Any
) -> Any:
    """Return the beginning of an answer, its body unread.

    Raises CarryFailed, NothingSent, Retryable, Permanent, ValueError.
    """
    _COURSE.set(course)
    answer = await session.request(
        method, url, allow_redirects=False, trace_request_ctx=course, **options
    )
    course.answered = True
    return answer


async def _note_sent(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: object
) -> None:
    context.trace_request_ctx.sent = time.monotonic()


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request once. aiohttp repeats what is idempotent, also what it has sent on a new
    connection; `ask` decides that here."""
    problem: Exception
    try:
        return await handler(request)
    except (aiohttp.ClientError, OSError) as error:
        problem = error
    raise CarryFailed(problem)


class _Resolver(AbstractResolver):
    """Addresses that have been judged; the name goes on only into TLS and the Host header."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await addresses.resolve_host(host, self._namespace, port)
        ]

    async def close(self) -> None:
        """Do nothing: nothing is held."""


def convert_error(error: Exception, where: str) -> Retryable | Permanent:
    """Return what an error means. `where`: scheme, host and path."""
    for cause in _causes_of(error):
        if isinstance(cause, (Retryable, Permanent)):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Permanent(f"{where}: the certificate is not trusted ({cause.verify_message})")
        if isinstance(cause, ssl.SSLError):
            return Retryable(f"{where}: TLS failed ({cause.reason or 'handshake'})")
        if isinstance(cause, ConnectionRefusedError):
            return Retryable(f"{where}: the connection was refused")
        if isinstance(cause, OSError) and cause.errno:
            return Retryable(f"{where}: cannot connect ({os.strerror(cause.errno).lower()})")

    if isinstance(error, _NO_ANSWER):
        return Retryable(f"{where}: the answer broke off, or is not HTTP")

    # A header or an address would break out of its line.
    if isinstance(error, ValueError):
        return Permanent(f"{where}: this cannot be sent by HTTP")

    return Retryable(f"{where}: the connection broke")


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield what lies behind an error, the first cause first."""
    causes: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop(0)
        if current is None or current in causes:
            continue

        causes.append(current)

        if isinstance(current, BaseExceptionGroup):
            todo.extend(current.exceptions)

        todo.append(current.__cause__ or current.__context__)

    return reversed(causes)
