"""The API server in plain dicts, with the TLS and the credentials of `kubernetes.aio`.

The generated API classes are passed over on purpose: a status write through them costs several
times the CPU of the same request with a plain dict. How a request gets there is
`runtime.cluster.transport`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import urlencode

from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from gatewright.core.hash_key import HashKey
from gatewright.ports import Keep, NotFound, Permanent, Retryable, keep_whole_object
from gatewright.runtime.cluster import outline, wire
from gatewright.runtime.cluster.pages import ListReader
from gatewright.runtime.cluster.refusals import without_query
from gatewright.runtime.cluster.transport import REQUEST_TIMEOUT_S, Transport
from gatewright.runtime.cluster.wire import JUST_METADATA, drop_unused_fields

LIST_TIMEOUT_S = 30.0
"""For a text that may be long, such as a log."""
PATCH_CONTENT_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class Kube:
    """`ports.Cluster` over HTTP; one instance a process."""

    def __init__(self, api: kubernetes_client.ApiClient) -> None:
        self._transport = Transport(api)
        self.read_hash_key: Callable[[], Awaitable[HashKey]] | None = None
        """Reads the key of the hashes of captured Secrets, in whichever namespace it lies."""
        self._lists = ListReader(self._transport.read_patiently)

    @property
    def host(self) -> str:
        """URL of the API server."""
        return self._transport.base

    def set_fence(self, fence: Callable[[], None]) -> None:
        """Set what is called before every write but those of Leases.

        It raises where this instance may not write any more.
        """
        self._transport.fence = fence

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
        await self._transport.close()

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
        text = outline.metadata_alone(await self._transport.read_patiently(path, JUST_METADATA))
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

    def stream(
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
        return self._transport.stream(path, silence, opened, verb, accept)

    async def _read_object(self, path: str) -> dict[str, Any]:
        obj: dict[str, Any] = wire.decode_object(await self._transport.read_patiently(path))
        if "metadata" in obj:
            drop_unused_fields(obj)
        return obj

    async def _request_object(
        self,
        method: str,
        path: str,
        body: Any = None,
        content: str = "application/json",
        accept: str = "application/json",
        managers: bool = False,
    ) -> dict[str, Any]:
        text = await self._transport.request(method, path, body, content, accept)
        obj: dict[str, Any] = wire.decode_object(outline.metadata_alone(text), whole=managers)

        # Only `managed` asks who wrote which field.
        if "metadata" in obj and not managers:
            drop_unused_fields(obj)
        return obj


def _do_nothing() -> None:
    """Nobody has to know that a stream was opened."""
