"""One thin layer over HTTP for everything that is asked by it.

    ask(link, method, path)         one request within the link's time, one bounded answer
      └─ Client, one per identity   base URL, headers from Secrets, a small pool of connections
           └─ transport             connects to addresses that `addresses` has judged, to no others

What goes wrong becomes an error in one place: nobody knows (time-outs, broken connections, 429,
5xx) is Retryable, the rest Permanent. Messages name scheme, host and path; no query, no user, and
no value of a Secret.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gatewright.api.base import SecretSource
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import addresses, context, meter, permit, transport, words
from gatewright.providers.common.client_pool import ClientPool
from gatewright.providers.common.intake import Intake
from gatewright.providers.common.replies import Reply, target_of
from gatewright.providers.common.secrets import hide_in_error, hide_secrets, secret_value

MAX_BODY_BYTES = 1024 * 1024
"""Bytes of the largest answer that is read."""
_FRAMING = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer"}
)
"""Headers that say where a request ends or goes: never a user's."""
_SAFE = frozenset({"GET", "HEAD"})
_UNQUOTED = "!$%&'()*+,/:;=?@[]|~"
"""What a path or a query may hold as it is, beside letters, digits and `-._`; the rest is written
as %XX."""
_PLAIN = re.compile(rf"[A-Za-z0-9._\-{re.escape(_UNQUOTED)}]*")


class HttpAccessConfig(Protocol):
    """Configuration of a Connection that is reached over HTTP."""

    url: str
    """Base URL without credentials."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret. Raises Permanent."""
        ...


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request, before it knows where it goes."""

    method: str
    path: str
    form: Mapping[str, str] | None
    body: Any
    headers: Mapping[str, str]
    enough: float = 0.0


async def ask(
    link: OpenConnection,
    method: str,
    path: str,
    *,
    form: Mapping[str, str] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    enough: float = 0.0,
) -> Reply:
    """Send one request below the link's URL, with a form or a JSON body, and read its answer.
    Raises Retryable, Permanent.

    `enough`: seconds after which a body that does not end (a log that is followed) is taken as far
    as it has come.
    """
    with await context.current().pace.admit(link.namespace) as account:
        permit.require_permit()
        count = meter.counter()

        def charge(size: int) -> None:
            count(size)
            account.spend(size)

        return await _ask(
            link, PendingRequest(method, path, form, body, headers or {}, enough), charge
        )


async def _ask(link: OpenConnection, wish: PendingRequest, charge: Callable[[int], None]) -> Reply:
    problem: Retryable | Permanent
    try:
        # asyncio's own limit counts everything: looking up, waiting for a connection, and an answer
        # that drips.
        async with (
            asyncio.timeout(link.timeout),
            _client_pool().lend_client(
                link.identity, lambda: Client(link), link.namespace
            ) as client,
        ):
            return await client.ask(wish, charge)
    except (Retryable, Permanent) as error:
        problem = error
    except TimeoutError:
        problem = Retryable(f"{_place_of(link)}: no answer within {link.timeout:g}s")

    # Raised out here, so that no traceback leads from it to an error that holds a request.
    raise hide_in_error(problem, link)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is sent."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    content: bytes | None = None
    bodiless: bool = False
    """Only the head of its answer is read."""


class Client:
    """The way to one system: its base URL, the headers that open it, and a few connections."""

    def __init__(self, link: OpenConnection) -> None:
        access: HttpAccessConfig = link.config
        self._link = link
        self._base = addresses.check_url(access.url, link.namespace)
        self._host = self._base.raw_host or ""
        self._headers = _headers_for(link, access)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def ask(self, wish: PendingRequest, charge: Callable[[int], None]) -> Reply:
        """Send one request.

        It is sent once more if a kept connection turns out to be dead, unless that might do
        something twice.

        `charge`: counts what comes in.
        """
        request = self._build_request(wish)
        again = wish.method not in _SAFE and wish.form is None

        for _ in range(transport.MAX_CONNECTIONS + 2):
            try:
                return await self._exchange_once(
                    request, transport.RequestCourse(Intake(charge), again), wish.enough
                )
            except transport.NothingSent:
                continue
            except _Stale:
                again = True
            except _Bodied:
                # Some answer HEAD with a body, which no client can tell from the next answer; GET
                # asks the same.
                request = replace(request, method="GET", bodiless=True)

        raise Retryable(f"{_place_of(self._link)}: the connections are not in order")

    async def aclose(self) -> None:
        """Close every connection; who has this client on loan gets Retryable from then on."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _build_request(self, wish: PendingRequest) -> Request:
        if wish.path and not wish.path.startswith("/"):
            raise Permanent(f"{_place_of(self._link)}: a path begins with /")

        path, _, query = wish.path.partition("?")
        url = URL.build(
            scheme=self._base.scheme,
            # yarl is told that all of it is encoded already, brackets of IPv6 included.
            host=f"[{self._host}]" if ":" in self._host else self._host,
            port=self._base.explicit_port,
            path=f"{self._base.raw_path.rstrip('/')}{_quote_url(path)}" or "/",
            query_string=_quote_url(query),
            encoded=True,
        )

        # The answer is counted as it comes, so it must not be one that unpacks to a thousand times
        # its size.
        own = {"Accept-Encoding": "identity", "User-Agent": "gatewright"}
        headers, content = CIMultiDict({**own, **wish.headers, **self._headers}), wish.body
        if content is None and wish.form is not None:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            content = urlencode(wish.form).encode()
        elif content is not None and not isinstance(content, bytes):
            headers.setdefault("Content-Type", "application/json")
            content = _json_bytes(content)

        # Bytes are made up already, as a signed body is; their type stands in the headers.
        return Request(wish.method, url, headers, content)

    async def _exchange_once(
        self, request: Request, course: transport.RequestCourse, enough: float
    ) -> Reply:
        where = _without_query(str(request.url))
        problem: Exception
        try:
            return await self._carry_request(request, course, enough, where)
        except transport.CarryFailed as error:
            problem = transport.convert_error(error.problem, where)
            is_no_answer = isinstance(error.problem, aiohttp.ClientResponseError)
            if course.is_stale(error.problem):
                problem = _Stale()
            elif request.method == "HEAD" and is_no_answer:
                problem = _Bodied()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = transport.convert_error(error, where)

        if course.intake.cut and not isinstance(problem, _Bodied):
            problem = Permanent(f"{where}: {course.intake.cut}")

        raise problem

    async def _send(
        self, request: Request, course: transport.RequestCourse, where: str
    ) -> aiohttp.ClientResponse:
        if self._closed:
            raise Retryable(f"{where}: its connections were closed meanwhile")
        if self._session is None:
            self._session = transport.open_session(self._host, self._link.namespace)

        answer: aiohttp.ClientResponse = await transport.send_request(
            self._session,
            course,
            request.method,
            request.url,
            headers=request.headers,
            data=request.content,
        )
        return answer

    async def _carry_request(
        self, request: Request, course: transport.RequestCourse, enough: float, where: str
    ) -> Reply:
        answer = await self._send(request, course, where)
        try:
            headers = _plain_headers(answer.headers)
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise Permanent(f"{where}: the answer is compressed though that was not asked for")

            body = b""
            if not request.bodiless:
                body = await _read_body(answer.content, where, course.intake, enough)

            # A body without a length ends where the connection does, also where that was cut off.
            has_body = request.method != "HEAD" and not request.bodiless
            if course.intake.cut and has_body and not enough:
                raise Permanent(f"{where}: {course.intake.cut}")

            took = time.monotonic() - course.sent
            target = words.redirect_target(target_of(headers.get("location", "")), where)
            location = hide_secrets(target, self._link)
            return Reply(where, answer.status, headers, location, body, took, course.intake.charge)
        finally:
            # Where its body was read to the end, the connection is back in the pool already.
            answer.close()


class _Bodied(Exception):
    """What came after the head of an answer to HEAD is no answer."""


class _Stale(Exception):
    """A connection that was kept had been closed by the other side before it answered anything."""


async def _read_body(
    stream: aiohttp.StreamReader, where: str, intake: Intake, enough: float = 0.0
) -> bytes:
    body = bytearray()
    until = asyncio.timeout(enough or None)
    try:
        async with until:
            async for part in stream.iter_any():
                body += part
                if len(body) <= MAX_BODY_BYTES:
                    continue
                # A log that is followed is taken as far as it has come.
                if enough:
                    break
                limit = f"{MAX_BODY_BYTES // 1024 // 1024} MiB"
                raise Permanent(f"{where}: the answer is larger than {limit}")
    except TimeoutError:
        if not until.expired():
            raise
    except aiohttp.ClientPayloadError:
        if not (enough and intake.cut):
            raise

    return bytes(body)


def _json_bytes(content: Any) -> bytes:
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return written.encode()


def _quote_url(part: str) -> str:
    """Return a path or query as it may be sent; what is escaped already stays so."""
    return part if _PLAIN.fullmatch(part) else quote(part, safe=_UNQUOTED)


def _plain_headers(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """Return headers of an answer as text that can be written on: bytes that are no UTF-8 would be
    half of a character."""
    if all(map(str.isascii, headers.values())):
        return headers
    clean = (
        (name, value.encode(errors="surrogateescape").decode(errors="replace"))
        for name, value in headers.items()
    )
    return CIMultiDictProxy(CIMultiDict(clean))


def _headers_for(link: OpenConnection, access: HttpAccessConfig) -> dict[str, str]:
    headers = access.auth_headers(lambda source: secret_value(link, source))
    for name in headers:
        if name.lower() in _FRAMING:
            raise Permanent(f'the header "{name}" is not a Connection\'s to set')
    for name, value in headers.items():
        if not value.isascii():
            raise Permanent(f'the value of the header "{name}" holds characters outside of ASCII')
    return headers


def _place_of(link: OpenConnection) -> str:
    return _without_query(link.config.url)


def _without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]


_client_pool = context.ContextPart(ClientPool[Client], ClientPool.aclose)


__all__ = [
    "MAX_BODY_BYTES",
    "Client",
    "HttpAccessConfig",
    "Request",
    "ask",
]
