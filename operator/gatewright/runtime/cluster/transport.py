"""Requests to the API server: connections, turns, the fence, and what an answer means.

Connections are of three kinds, and none waits for another: streams (watches, logs) last long, and
there are as many as somebody needs; requests take turns by namespace; the Lease has its own. Every
foreign exception is converted here, or by `refusals.error_of_refusal`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import aiohttp
from kubernetes.aio import client as kubernetes_client

from gatewright import __version__
from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster import wire
from gatewright.runtime.cluster.paths import whose
from gatewright.runtime.cluster.refusals import (
    TimedOut,
    TooLarge,
    error_of_refusal,
    without_query,
)
from gatewright.runtime.cluster.turnstile import Turnstile
from gatewright.runtime.telling import metrics

REQUEST_TIMEOUT_S = 8.0
READ_RETRY_DELAYS_S = (0.05, 0.2)
"""Seconds after which a read that was refused for now is tried again."""
TURN_TIMEOUT_S = 8.0
"""Seconds that a request waits at most for others of its namespace."""
REQUESTS = 64
"""Requests at a time, besides those of the Lease; one namespace has half of them at most."""
LEASES = 2
"""Connections for the Lease: one may hang."""
Kind = Literal["streams", "requests", "lease"]
CONNECTIONS: dict[Kind, int] = {"streams": 0, "requests": REQUESTS, "lease": LEASES}
"""How many there are of each kind at most; 0: as many as are needed."""

_LEASE_ROOT = "/apis/coordination.k8s.io/"
_REQUEST_COUNTERS = {
    method: metrics.api_requests.labels(method)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
}


class Transport:
    """The way to the API server; one instance a process."""

    def __init__(self, api: kubernetes_client.ApiClient) -> None:
        self._api = api
        self.base: str = api.configuration.host.rstrip("/")
        """URL of the API server."""
        self._sessions: dict[Kind, aiohttp.ClientSession] = {}
        self._turns = Turnstile(REQUESTS)
        self._closed = False
        self.fence: Callable[[], None] | None = None
        """Called before every write but those of Leases; raises where this instance may not write
        any more."""
        self._proxy = api.configuration.proxy or None

    async def close(self) -> None:
        """Close all connections; whoever asks from then on gets Retryable."""
        # What is still under way must not open a session again.
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        await self._api.close()

    async def read_patiently(
        self, path: str, accept: str = "application/json", most: int | None = None
    ) -> bytes:
        """Read a path, and try again at once where it is refused for a moment.

        A pass needs all of its reads to get anywhere.
        """
        for delay in READ_RETRY_DELAYS_S:
            try:
                return await self.request("GET", path, accept=accept, most=most)
            except Retryable as error:
                # It has waited long enough already, or the API server has said when to come back.
                if isinstance(error, TimedOut) or error.after:
                    raise
            await asyncio.sleep(delay)

        return await self.request("GET", path, accept=accept, most=most)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content: str = "application/json",
        accept: str = "application/json",
        most: int | None = None,
    ) -> bytes:
        """Return the text of an answer; TooLarge where it has more than so many bytes."""
        # The Lease waits for no turn, and the fence depends on it.
        if path.startswith(_LEASE_ROOT):
            return await self._send("lease", method, path, body, content, accept, most)

        async with self._turn(method, path, whose(path, body)):
            # After the wait, in which the Lease may have been lost.
            if method != "GET" and self.fence is not None:
                self.fence()
            return await self._send("requests", method, path, body, content, accept, most)

    @asynccontextmanager
    async def _turn(self, method: str, path: str, namespace: str) -> AsyncGenerator[None]:
        """Have one of the requests of a namespace. Raises Retryable where that takes too long."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(TURN_TIMEOUT_S):
                    await stack.enter_async_context(self._turns.turn(namespace))
            except TimeoutError:
                owner = f"namespace {namespace}" if namespace else "the operator itself"
                raise Retryable(
                    f"{method} {without_query(path)}: {owner} has too many requests under "
                    f"way ({self._turns.inside[namespace]})"
                ) from None

            yield

    async def _send(
        self,
        kind: Kind,
        method: str,
        path: str,
        body: Any,
        content: str,
        accept: str,
        most: int | None,
    ) -> bytes:
        """Send one request over a connection of its kind; return the text of the answer.

        Raises NotFound, Retryable, Permanent, TooLarge.
        """
        headers = await self._headers_for(method, path, accept)
        headers["Content-Type"] = content

        try:
            data = None if body is None else wire.as_json(body)
        except TypeError:
            # Too deep, or a number or text that JSON has no place for.
            raise Permanent(
                f"{method} {without_query(path)}: what is to be sent cannot be written as JSON"
            ) from None

        _REQUEST_COUNTERS[method].inc()

        try:
            async with self._current_session(kind).request(
                method, self.base + path, data=data, headers=headers, proxy=self._proxy
            ) as response:
                text = await (response.read() if most is None else _read_at_most(response, most))
        except TimeoutError:
            raise TimedOut(
                f"{method} {without_query(path)}: no answer from the API server in "
                f"{REQUEST_TIMEOUT_S:.0f}s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"{method} {without_query(path)}: {type(error).__name__}") from None

        if text is None:
            raise TooLarge(f"{method} {without_query(path)}: more than {most} bytes")
        if response.status >= 400:
            raise error_of_refusal(
                method, path, response.status, text, response.headers.get("Retry-After", "")
            )

        return text

    async def stream(
        self,
        path: str,
        silence: float,
        opened: Callable[[], None],
        verb: str = "WATCH",
        accept: str = "application/json",
    ) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of an answer that does not end, such as a watch.

        Raises Retryable, also after `silence` seconds without a byte, NotFound, Permanent; a stream
        that the API server ends just ends.
        """
        headers = await self._headers_for("GET", path, accept)
        limit = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=silence)
        metrics.api_requests.labels(verb).inc()

        try:
            async with self._current_session("streams").request(
                "GET", self.base + path, headers=headers, proxy=self._proxy, timeout=limit
            ) as response:
                if response.status >= 400:
                    raise error_of_refusal("GET", path, response.status, await response.read(), "")
                opened()

                async for chunk in response.content.iter_any():
                    yield chunk
        except TimeoutError:
            raise Retryable(f"GET {without_query(path)}: nothing came for {silence:.0f}s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"GET {without_query(path)}: {type(error).__name__}") from None

    def _open_session(self, most: int) -> aiohttp.ClientSession:
        """Open a session of so many connections at most (0: any number).

        It is the library's without `trust_env`, which would read ~/.netrc in a thread on every
        request.
        """
        connector = aiohttp.TCPConnector(limit=most, ssl=self._api.rest_client.ssl_context)

        # No cookies: they would be looked up for each request, and an API server has none.
        return aiohttp.ClientSession(
            connector=connector,
            read_bufsize=2**20,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )

    def _current_session(self, kind: Kind) -> aiohttp.ClientSession:
        if self._closed:
            raise Retryable("this instance has stopped")
        if kind not in self._sessions:
            self._sessions[kind] = self._open_session(CONNECTIONS[kind])
        return self._sessions[kind]

    async def _headers_for(
        self, method: str, path: str, accept: str = "application/json"
    ) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"gatewright/{__version__}"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        return headers


async def _read_at_most(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """Return the text of an answer.

    None, and its connection is closed, where it has more than so many bytes.
    """
    text = bytearray()
    async for chunk in response.content.iter_any():
        text += chunk
        if len(text) > most:
            response.close()
            return None
    return bytes(text)
