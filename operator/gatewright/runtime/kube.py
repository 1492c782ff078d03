"""The API server in plain dicts, over the connection pool and the credentials of `kubernetes.aio`.

The generated API classes are passed over on purpose: a status write through them costs several times the CPU of the
same request with a plain dict. Every foreign exception is converted here, in `_error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from gatewright import __version__
from gatewright.core import foreign
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime import metrics

TIMEOUT = 8.0
AGAIN = (0.05, 0.2)
"""Seconds after which a read that was refused for now is tried again."""
LONG_TIMEOUT = 30.0
"""For a text that may be long, such as a log."""
PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
JUST_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


_COUNTED = {method: metrics.requests.labels(method) for method in ("GET", "POST", "PUT", "PATCH", "DELETE")}


class TimedOut(Retryable):
    """The API server has not answered in time."""


class Kube:
    """`ports.Cluster` over HTTP; one instance a process."""

    def __init__(self, api: kubernetes_client.ApiClient) -> None:
        self._api = api
        self._base = api.configuration.host.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self.fence: Callable[[], None] | None = None
        """Called before every write but those of Leases; raises where this instance may not write any more."""
        self._proxy = api.configuration.proxy or None

    def _open(self) -> aiohttp.ClientSession:
        """The library's connector without its `trust_env`, which would read ~/.netrc in a thread on every request."""
        connector = self._api.rest_client._create_connector()
        # no cookies: they would be looked up for each request, and an API server has none
        return aiohttp.ClientSession(
            connector=connector,
            read_bufsize=2**20,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        )

    @classmethod
    async def connect(cls) -> Kube:
        """From KUBECONFIG or ~/.kube/config, else from the pod's ServiceAccount."""
        configuration = kubernetes_client.Configuration()
        try:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        except kubernetes_config.ConfigException:
            await kubernetes_config.load_kube_config(client_configuration=configuration)
        configuration.connection_pool_maxsize = 64
        return cls(kubernetes_client.ApiClient(configuration))

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()
        await self._api.close()

    async def get(self, path: str) -> dict[str, Any]:
        return await self._read(path)

    async def managed(self, path: str) -> dict[str, Any]:
        return await self._request("GET", path, managers=True)

    async def list(
        self, path: str, selector: str = "", fields: str = "", accept: str = "application/json"
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"limit": "500"} | ({"labelSelector": selector} if selector else {})
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self._read(f"{path}?{urlencode(query)}", accept)
            found += page.get("items") or []  # null where a list of metadata alone is empty
            token = page.get("metadata", {}).get("continue")
            if not token:
                return found
            query["continue"] = token

    async def tail(self, path: str, limit: int) -> str:
        """The whole text is read (the API server knows no last bytes), but never more than twice the limit is kept."""
        kept = bytearray()
        try:
            async with asyncio.timeout(LONG_TIMEOUT), aclosing(self.stream(path, TIMEOUT, _nothing, "GET")) as chunks:
                async for chunk in chunks:
                    kept += chunk
                    if len(kept) > 2 * limit:
                        del kept[:-limit]
        except TimeoutError:
            raise Retryable(f"GET {_plain(path)}: not all of it came in {LONG_TIMEOUT:.0f}s") from None
        return kept[-limit:].decode(errors="replace")

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._request("POST", path, body)

    async def create_for_metadata(self, path: str, body: Mapping[str, Any]) -> None:
        """The same for what nobody asks about afterwards: answered by the object's metadata alone."""
        await self._request("POST", path, body, accept=JUST_METADATA)

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; its `metadata.resourceVersion` is the precondition."""
        return await self._request("PUT", path, body)

    async def patch(self, path: str, body: Any, kind: Literal["json", "merge", "strategic"]) -> dict[str, Any]:
        return await self._request("PATCH", path, body, content=PATCHES[kind])

    async def patch_for_metadata(self, path: str, body: Any, kind: Literal["json", "merge"]) -> dict[str, Any]:
        """The same, answered by the object's metadata alone: what was written is known."""
        found = await self._request("PATCH", path, body, content=PATCHES[kind], accept=JUST_METADATA)
        metadata: dict[str, Any] = found["metadata"]
        return metadata

    async def delete(self, path: str, selector: str = "", uid: str = "") -> None:
        target = f"{path}?{urlencode({'labelSelector': selector})}" if selector else path
        precondition = {"preconditions": {"uid": uid}} if uid else {}
        try:
            await self._request("DELETE", target, {"propagationPolicy": "Background", **precondition})
        except NotFound:
            return

    async def stream(
        self, path: str, silence: float, opened: Callable[[], None], verb: str = "WATCH"
    ) -> AsyncGenerator[bytes, None]:
        """The chunks of an answer that does not end, such as a watch. Raises Retryable, also after `silence` seconds
        without a byte, NotFound, Permanent; a stream that the API server ends just ends."""
        headers = await self._headers("GET", path)
        limit = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=silence)
        metrics.requests.labels(verb).inc()
        try:
            async with self._opened().request(
                "GET", self._base + path, headers=headers, proxy=self._proxy, timeout=limit
            ) as response:
                if response.status >= 400:
                    raise _error("GET", path, response.status, await response.read(), "")
                opened()
                async for chunk in response.content.iter_any():
                    yield chunk
        except TimeoutError:
            raise Retryable(f"GET {_plain(path)}: nothing came for {silence:.0f}s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"GET {_plain(path)}: {type(error).__name__}") from None

    async def _read(self, path: str, accept: str = "application/json") -> dict[str, Any]:
        """A read that is refused for a moment is tried again at once: a pass needs all of its reads to get anywhere."""
        for delay in AGAIN:
            try:
                return await self._request("GET", path, accept=accept)
            except Retryable as error:
                if isinstance(error, TimedOut) or error.after:
                    raise
            await asyncio.sleep(delay)
        return await self._request("GET", path, accept=accept)

    async def _headers(self, method: str, path: str, accept: str = "application/json") -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"gatewright/{__version__}"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        return headers

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._open()
        return self._session

    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content: str = "application/json",
        accept: str = "application/json",
        managers: bool = False,
    ) -> dict[str, Any]:
        if method != "GET" and self.fence is not None and "/leases" not in path:
            self.fence()
        headers = await self._headers(method, path, accept)
        headers["Content-Type"] = content
        data = None if body is None else as_json(body)
        _COUNTED[method].inc()
        try:
            async with self._opened().request(
                method, self._base + path, data=data, headers=headers, proxy=self._proxy
            ) as response:
                text = await response.read()
        except TimeoutError:
            raise TimedOut(f"{method} {_plain(path)}: no answer from the API server in {TIMEOUT:.0f}s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"{method} {_plain(path)}: {type(error).__name__}") from None
        if response.status >= 400:
            raise _error(method, path, response.status, text, response.headers.get("Retry-After", ""))
        found: dict[str, Any] = orjson.loads(text)
        if "metadata" in found and not managers:
            found["metadata"].pop("managedFields", None)  # only `managed` asks who wrote which field
        return found


def _error(method: str, path: str, status: int, text: bytes, after: str) -> Exception:
    """The one place where an API server's refusal becomes one of our exceptions."""
    try:
        message = str(orjson.loads(text).get("message", ""))[:500]
    except ValueError:
        message = text[:200].decode(errors="replace")
    words = f"{method} {_plain(path)}: {status} {message}"
    if status == 404:
        return NotFound(words)
    if status == 409:
        return Conflict(words)
    if status in (401, 408, 429) or status >= 500:
        error = Retryable(words)
        error.after = foreign.decimal(after.strip()) or 0.0
        return error
    return Permanent(words)


_ESCAPED = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def as_json(value: Any) -> bytes:
    """JSON as the API server's own encoder writes it: what is escaped stands only within strings."""
    text = orjson.dumps(value)
    for plain, escaped in _ESCAPED:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


def _nothing() -> None:
    """Nobody has to know that a stream was opened."""


def _plain(path: str) -> str:
    return path.partition("?")[0]


def _segment(name: str) -> str:
    if name in (".", ".."):
        raise Permanent(f'"{name}" is no name of an object')
    return quote(name, safe="")


def path(api: str, plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """An API path: `path("apps/v1", "deployments", "shop", "web")`. Raises Permanent where a name would lead elsewhere."""
    root = f"/api/{api}" if "/" not in api else f"/apis/{api}"
    parts = [f"namespaces/{_segment(namespace)}"] if namespace else []
    parts += [plural, *([_segment(name)] if name else []), *([sub] if sub else [])]
    return "/".join([root, *parts])
