"""The API server in plain dicts, with the TLS and the credentials of `kubernetes.aio`.

Connections are of three kinds, and none waits for another: streams (watches, logs) last long, and
there are as many as somebody needs; requests take turns by namespace; the Lease has its own.

The generated API classes are passed over on purpose: a status write through them costs several
times the CPU of the same request with a plain dict. Every foreign exception is converted here, or
by `refusals.refusal`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Literal
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from gatewright import __version__
from gatewright.core.hash_key import HashKey
from gatewright.ports import Keep, NotFound, Permanent, Retryable, keep_whole_object
from gatewright.runtime.cluster import outline, wire
from gatewright.runtime.cluster.pages import ListReader
from gatewright.runtime.cluster.refusals import (
    TimedOut,
    TooLarge,
    error_of_refusal,
    without_query,
)
from gatewright.runtime.cluster.turnstile import Turnstile
from gatewright.runtime.cluster.wire import JUST_METADATA, drop_unused_fields
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
LIST_TIMEOUT_S = 30.0
"""For a text that may be long, such as a log."""
PATCH_CONTENT_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
Kind = Literal["streams", "requests", "lease"]
CONNECTIONS: dict[Kind, int] = {"streams": 0, "requests": REQUESTS, "lease": LEASES}
"""How many there are of each kind at most; 0: as many as are needed."""

_LEASE_ROOT = "/apis/coordination.k8s.io/"
_NAMESPACED = re.compile(r"/(?:api/[^/]+|apis/[^/]+/[^/]+)/namespaces/([^/?]+)")
_REQUEST_COUNTERS = {
    method: metrics.api_requests.labels(method)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
}


class Kube:
    """`ports.Cluster` over HTTP; one instance a process."""

    def __init__(self, api: kubernetes_client.ApiClient) -> None:
        self._api = api
        self._base: str = api.configuration.host.rstrip("/")
        self._sessions: dict[Kind, aiohttp.ClientSession] = {}
        self._turns = Turnstile(REQUESTS)
        self._closed = False
        self.fence: Callable[[], None] | None = None
        """Called before every write but those of Leases; raises where this instance may not write
        any more."""
        self.read_hash_key: Callable[[], Awaitable[HashKey]] | None = None
        """Reads the key of the hashes of captured Secrets, in whichever namespace it lies."""
        self._lists = ListReader(self._read_patiently)
        self._proxy = api.configuration.proxy or None

    @property
    def host(self) -> str:
        """URL of the API server."""
        return self._base

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

    @classmethod
    async def connect(cls) -> Kube:
        """Log in by the pod's ServiceAccount, else by KUBECONFIG or ~/.kube/config."""
        configuration = kubernetes_client.Configuration()
        try:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        except kubernetes_config.ConfigException:
            await kubernetes_config.load_kube_config(client_configuration=configuration)
        return cls(kubernetes_client.ApiClient(configuration))

    async def close(self) -> None:
        """Close all connections; whoever asks from then on gets Retryable."""
        # What is still under way must not open a session again.
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        await self._api.close()

    async def get(self, path: str) -> dict[str, Any]:
        return await self._read_object(path)

    async def managed(self, path: str) -> dict[str, Any]:
        return await self._request_object("GET", path, managers=True)

    async def hash_key(self) -> HashKey:
        if self.read_hash_key is None:
            raise Permanent("nobody has said where the key of the hashes of Secrets lies")
        return await self.read_hash_key()

    async def metadata(self, path: str) -> dict[str, Any]:
        """Return the metadata of an object, all finalizers included.

        Raises NotFound, Retryable, Permanent.
        """
        text = outline.metadata_alone(await self._read_patiently(path, JUST_METADATA))
        metadata: dict[str, Any] = wire.decode_json(text)["metadata"]
        return metadata

    async def list(
        self,
        path: str,
        selector: str = "",
        fields: str = "",
        accept: str = "application/json",
        *,
        keep: Keep = keep_whole_object,
        most: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return all at once: for what is few, such as the pods of a Job.

        Anybody may give his own objects a label; so what `keep` does not want is dropped as it
        comes, and what is left is bounded, as is what is read (`most`, else `MAX_LIST_READ_BYTES`
        bytes). Raises Retryable, Permanent.
        """
        return await self._lists.all(path, selector, fields, accept, keep, most)

    def each(
        self,
        path: str,
        selector: str = "",
        fields: str = "",
        accept: str = "application/json",
        most: int | None = None,
    ) -> AsyncGenerator[dict[str, Any]]:
        """Return one object after the other, of which no more than a page is in memory.

        One may come twice where the list was forgotten on the way, and one that cannot be read is
        passed over. Raises Retryable, Permanent, also after `most` bytes.
        """
        return self._lists.each(path, selector, fields, accept, most)

    async def tail(self, path: str, limit: int) -> str:
        """Return the end of a text: twice the limit is kept at most.

        All of it is read, as the API server knows no last bytes.
        """
        end = bytearray()
        try:
            async with (
                asyncio.timeout(LIST_TIMEOUT_S),
                aclosing(self.stream(path, REQUEST_TIMEOUT_S, _do_nothing, "GET")) as chunks,
            ):
                async for chunk in chunks:
                    end += chunk
                    if len(end) > 2 * limit:
                        del end[:-limit]
        except TimeoutError:
            raise Retryable(
                f"GET {without_query(path)}: not all of it came in {LIST_TIMEOUT_S:.0f}s"
            ) from None

        return end[-limit:].decode(errors="replace")

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._request_object("POST", path, body)

    async def create_for_metadata(self, path: str, body: Mapping[str, Any]) -> None:
        """Create what nobody asks about afterwards: answered by the object's metadata alone."""
        await self._request_object("POST", path, body, accept=JUST_METADATA)

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; its `metadata.resourceVersion` is the precondition."""
        return await self._request_object("PUT", path, body)

    async def patch(
        self, path: str, body: Any, kind: Literal["json", "merge", "strategic"]
    ) -> dict[str, Any]:
        return await self._request_object("PATCH", path, body, content=PATCH_CONTENT_TYPES[kind])

    async def patch_for_metadata(
        self, path: str, body: Any, kind: Literal["json", "merge"]
    ) -> dict[str, Any]:
        """Patch an object, answered by its metadata alone: what was written is known."""
        answer = await self._request_object(
            "PATCH", path, body, content=PATCH_CONTENT_TYPES[kind], accept=JUST_METADATA
        )
        metadata: dict[str, Any] = answer["metadata"]
        return metadata

    async def delete(self, path: str, selector: str = "", uid: str = "") -> None:
        target = f"{path}?{urlencode({'labelSelector': selector})}" if selector else path
        precondition = {"preconditions": {"uid": uid}} if uid else {}
        try:
            await self._request_object(
                "DELETE", target, {"propagationPolicy": "Background", **precondition}
            )
        except NotFound:
            # It is gone, as it was to be.
            return

    async def stream(
        self, path: str, silence: float, opened: Callable[[], None], verb: str = "WATCH"
    ) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of an answer that does not end, such as a watch.

        Raises Retryable, also after `silence` seconds without a byte, NotFound, Permanent; a stream
        that the API server ends just ends.
        """
        headers = await self._headers_for("GET", path)
        limit = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=silence)
        metrics.api_requests.labels(verb).inc()

        try:
            async with self._current_session("streams").request(
                "GET", self._base + path, headers=headers, proxy=self._proxy, timeout=limit
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

    async def _read_object(self, path: str) -> dict[str, Any]:
        obj: dict[str, Any] = wire.decode_object(await self._read_patiently(path))
        if "metadata" in obj:
            drop_unused_fields(obj)
        return obj

    async def _read_patiently(
        self, path: str, accept: str = "application/json", most: int | None = None
    ) -> bytes:
        """Read a path, and try again at once where it is refused for a moment.

        A pass needs all of its reads to get anywhere.
        """
        for delay in READ_RETRY_DELAYS_S:
            try:
                return await self._request_text("GET", path, accept=accept, most=most)
            except Retryable as error:
                # It has waited long enough already, or the API server has said when to come back.
                if isinstance(error, TimedOut) or error.after:
                    raise
            await asyncio.sleep(delay)

        return await self._request_text("GET", path, accept=accept, most=most)

    async def _headers_for(
        self, method: str, path: str, accept: str = "application/json"
    ) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"gatewright/{__version__}"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        return headers

    def _current_session(self, kind: Kind) -> aiohttp.ClientSession:
        if self._closed:
            raise Retryable("this instance has stopped")
        if kind not in self._sessions:
            self._sessions[kind] = self._open_session(CONNECTIONS[kind])
        return self._sessions[kind]

    async def _request_object(
        self,
        method: str,
        path: str,
        body: Any = None,
        content: str = "application/json",
        accept: str = "application/json",
        managers: bool = False,
    ) -> dict[str, Any]:
        text = await self._request_text(method, path, body, content, accept)
        obj: dict[str, Any] = wire.decode_object(outline.metadata_alone(text), whole=managers)

        # Only `managed` asks who wrote which field.
        if "metadata" in obj and not managers:
            drop_unused_fields(obj)
        return obj

    async def _request_text(
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
                method, self._base + path, data=data, headers=headers, proxy=self._proxy
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


def _do_nothing() -> None:
    """Nobody has to know that a stream was opened."""


def whose(path: str, body: Any) -> str:
    """Return the namespace that a request is made for; empty where it is for all.

    A review names it in its body.
    """
    namespaced = _NAMESPACED.match(path)
    if namespaced is not None:
        return namespaced[1]
    if path.endswith("accessreviews"):
        return str(body["spec"]["resourceAttributes"].get("namespace", ""))
    return ""


def _path_segment(name: str) -> str:
    if name in (".", ".."):
        raise Permanent(f'"{name}" is no name of an object')
    return quote(name, safe="")


def api_path(api: str, plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """Return an API path: `path("apps/v1", "deployments", "shop", "web")`.

    Raises Permanent where a name would lead elsewhere.
    """
    root = f"/api/{api}" if "/" not in api else f"/apis/{api}"

    parts = [f"namespaces/{_path_segment(namespace)}"] if namespace else []
    parts += [plural, *([_path_segment(name)] if name else []), *([sub] if sub else [])]
    return "/".join([root, *parts])
