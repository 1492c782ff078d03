"""One thin layer over HTTP for everything that is asked by it.

    ask(link, method, path)            one request within the link's time, one bounded answer
      └─ Client, one per identity      base URL, headers from Secrets, a small pool of connections
           └─ Backend                  connects to addresses that `addresses.resolve` has checked, to no others

httpx2 builds requests, and its transport (httpcore2) carries them; its AsyncClient stays out on purpose: cookies would
pin a check to one replica, proxies from the environment would connect past the address rules, and it logs whole URLs.

What goes wrong becomes an error in one place: nobody knows (time-outs, broken connections, 429, 5xx) is Retryable,
the rest Permanent. Messages name scheme, host and path; no query, no user, and no value of a Secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpcore2
import httpx2

from gatewright.api.base import SecretSource
from gatewright.core import foreign
from gatewright.ports import Link, Permanent, Retryable
from gatewright.providers.connections import addresses
from gatewright.providers.connections.secrets import hide, said, secret
from gatewright.providers.connections.shelf import Shelf

LARGEST = 1024 * 1024
"""Bytes of the largest answer that is read."""
_CONNECTIONS = 8
_KEEP_ALIVE = 60.0
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer"})
"""Headers that say where a request ends or goes: never a user's."""
# at DEBUG it logs the headers of answers, which may hold what nobody should read in a log
logging.getLogger("httpcore2").setLevel(logging.INFO)
_SAFE = frozenset({"GET", "HEAD"})
_BROKEN = (httpcore2.NetworkError, httpcore2.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in full, whatever its status; `seconds` is from sending the request to the end of the body."""

    where: str
    status: int
    headers: httpx2.Headers
    location: str
    """Where a redirect leads, without its query and without any secret."""
    body: bytes
    seconds: float


class Access(Protocol):
    """Configuration of a Connection that is reached over HTTP."""

    url: str
    """Base URL without credentials."""

    def opening(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """The headers that open it; `value` reads a Secret. Raises Permanent."""
        ...


@dataclass(frozen=True, slots=True)
class Wish:
    """A request, before it knows where it goes."""

    method: str
    path: str
    form: Mapping[str, str] | None
    body: Any
    headers: Mapping[str, str]
    enough: float = 0.0


async def ask(
    link: Link,
    method: str,
    path: str,
    *,
    form: Mapping[str, str] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    enough: float = 0.0,
) -> Reply:
    """Send one request below the link's URL, with a form or a JSON body, and read its answer. Raises Retryable, Permanent.

    `enough`: seconds after which a body that does not end (a log that is followed) is taken as far as it has come.
    """
    problem: Retryable | Permanent
    try:
        # asyncio's own limit counts everything: looking up, waiting for a connection, and an answer that drips
        async with asyncio.timeout(link.timeout), _shelf.lend(link.identity, lambda: Client(link)) as client:
            return await client.ask(Wish(method, path, form, body, headers or {}, enough))
    except (Retryable, Permanent) as error:
        problem = error
    except TimeoutError:
        problem = Retryable(f"{_place(link)}: no answer within {link.timeout:g}s")
    # raised out here, so that no traceback leads from it to an error that holds a request
    raise said(problem, link)


async def aclose() -> None:
    """Close every client."""
    await _shelf.aclose()


def require_ok(reply: Reply) -> Reply:
    """The answer, if its status says that it is one. Raises Retryable, Permanent."""
    if 200 <= reply.status < 300:
        return reply
    if reply.status == 429:
        raise Retryable(f"{reply.where}: too many requests (429)")
    if reply.status >= 500 or reply.status in (408, 425):
        raise Retryable(f"{reply.where}: answered {reply.status}")
    refuse_redirect(reply)
    texts = {401: "the credentials are refused", 403: "the credentials may not do this", 404: "no such path"}
    raise Permanent(f"{reply.where}: {texts.get(reply.status, 'answered')} ({reply.status})")


def refuse_redirect(reply: Reply) -> None:
    """Raise Permanent if the answer sends elsewhere: following it would carry the credentials to another host."""
    if not 300 <= reply.status < 400:
        return
    raise Permanent(
        f"{reply.where}: answered {reply.status}, a redirect to {reply.location or 'nowhere'}; it is not followed, "
        "put the final address into the Connection"
    )


def json_of(reply: Reply) -> Any:
    """The body as JSON. Raises Permanent."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise Permanent(f"{reply.where}: answered HTML where JSON is expected (a login page, or a wrong address?)")
    problem = ""
    try:
        return foreign.parsed(reply.body)
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError:
        problem = "is not JSON" if reply.body.strip() else "is empty"
    raise Permanent(f"{reply.where}: the answer {problem}")


class Client:
    """The way to one system: its base URL, the headers that open it, and a few connections."""

    def __init__(self, link: Link) -> None:
        access: Access = link.config
        self._link = link
        self._base = addresses.check_url(access.url)
        self._headers = _headers(link, access)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_trust(),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE,
            network_backend=_Backend(),
        )

    async def ask(self, wish: Wish) -> Reply:
        """One request; asked once more if a kept connection turns out to be dead, unless that might do something twice."""
        request = self._request(wish)
        try:
            once = wish.method not in _SAFE and wish.form is None
            return await self._exchange(request, _Course(again=once, enough=wish.enough))
        except _Stale:
            return await self._exchange(request, _Course(again=True, enough=wish.enough))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    def _request(self, wish: Wish) -> httpx2.Request:
        url = f"{str(self._base).rstrip('/')}{wish.path}"
        # the answer is counted as it comes, so it must not be one that unpacks to a thousand times its size
        own = {"Accept-Encoding": "identity", "User-Agent": "gatewright"}
        headers = {**own, **wish.headers, **self._headers}
        if isinstance(wish.body, bytes):  # made up already, as a signed body is; its type stands in the headers
            return httpx2.Request(wish.method, url, headers=headers, content=wish.body)
        if wish.body is None:
            return httpx2.Request(wish.method, url, headers=headers, data=wish.form)
        return httpx2.Request(wish.method, url, headers=headers, json=wish.body)

    async def _exchange(self, request: httpx2.Request, course: _Course) -> Reply:
        where = _without_query(str(request.url))
        problem: Exception
        try:
            return await self._carry(request, course, where)
        except _BROKEN as error:
            problem = _Stale() if course.reused and not course.again else _converted(error, where)
        except (httpcore2.TimeoutException, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
            problem = _converted(error, where)
        raise problem

    async def _carry(self, request: httpx2.Request, course: _Course, where: str) -> Reply:
        wire = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions={"trace": course.note, "timeout": {"connect": self._link.timeout}},
        )
        answer = await self._pool.handle_async_request(wire)
        try:
            course.answered = True
            assert isinstance(answer.stream, AsyncIterable)
            headers = httpx2.Headers(answer.headers)
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise Permanent(f"{where}: the answer is compressed though that was not asked for")
            body = await _read(answer.stream, where, course.enough)
            took = time.monotonic() - course.sent
            location = hide(_without_query(headers.get("location", "")), self._link)
            return Reply(where, answer.status, headers, location, body, took)
        finally:
            await answer.aclose()


class _Stale(Exception):
    """A connection that was kept had been closed by the other side before it answered anything."""


class _Course:
    """How a request goes: when it was sent, and on which connection."""

    def __init__(self, again: bool = False, enough: float = 0.0) -> None:
        self.again = again
        self.enough = enough
        self.sent = time.monotonic()
        self.answered = False
        self._connected = False

    @property
    def reused(self) -> bool:
        return not self._connected and not self.answered

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._connected = True
        elif event.endswith(".send_request_headers.started"):
            self.sent = time.monotonic()


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses; the name goes on only into TLS and the Host header."""

    def __init__(self) -> None:
        self._tcp = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        found = await addresses.resolve(host, port)
        # one silent address of several must not use up the time of the others
        share = timeout / len(found) if timeout is not None else None
        for address in found[:-1]:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._tcp.connect_tcp(address, port, timeout=share, socket_options=socket_options)
        return await self._tcp.connect_tcp(found[-1], port, timeout=timeout, socket_options=socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise Permanent("sockets of this machine are not to be reached")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _read(stream: AsyncIterable[bytes], where: str, enough: float = 0.0) -> bytes:
    body = bytearray()
    until = asyncio.timeout(enough or None)
    try:
        async with until:
            async for part in stream:
                body += part
                if len(body) > LARGEST:
                    if enough:
                        break
                    raise Permanent(f"{where}: the answer is larger than {LARGEST // 1024 // 1024} MiB")
    except TimeoutError:
        if not until.expired():
            raise
    return bytes(body)


def _headers(link: Link, access: Access) -> dict[str, str]:
    headers = access.opening(lambda source: secret(link, source))
    for name in headers:
        if name.lower() in _FRAMING:
            raise Permanent(f'the header "{name}" is not a Connection\'s to set')
    for name, value in headers.items():
        if not value.isascii():
            raise Permanent(f'the value of the header "{name}" holds characters outside of ASCII')
    return headers


@functools.cache
def _trust() -> ssl.SSLContext:
    """The system's certificates, read once: that takes tens of milliseconds."""
    return httpcore2.default_ssl_context()


def _converted(error: Exception, where: str) -> Retryable | Permanent:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Permanent(f"{where}: the certificate is not trusted ({cause.verify_message})")
        if isinstance(cause, ssl.SSLError):
            return Retryable(f"{where}: TLS failed ({cause.reason or 'handshake'})")
        if isinstance(cause, ConnectionRefusedError):
            return Retryable(f"{where}: the connection was refused")
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, socket.gaierror):
            return Retryable(f"{where}: cannot connect ({(cause.strerror or 'unreachable').lower()})")
    if isinstance(error, httpcore2.TimeoutException):
        return Retryable(f"{where}: no connection in time")
    if isinstance(error, httpcore2.LocalProtocolError):
        return Permanent(f"{where}: this cannot be sent by HTTP")
    if isinstance(error, httpcore2.RemoteProtocolError):
        return Retryable(f"{where}: the answer broke off, or is not HTTP")
    return Retryable(f"{where}: the connection broke")


def _causes(error: BaseException) -> Iterator[BaseException]:
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop(0)
        if current is None:
            continue
        yield current
        if isinstance(current, BaseExceptionGroup):
            todo.extend(current.exceptions)
        todo.append(current.__cause__ or current.__context__)


def _place(link: Link) -> str:
    return _without_query(link.config.url)


def _without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]


_shelf: Shelf[Client] = Shelf()


__all__ = ["LARGEST", "Access", "Client", "Reply", "aclose", "ask", "json_of", "refuse_redirect", "require_ok"]
