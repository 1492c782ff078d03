"""The one thing that the API server asks of a kubelet in these tests: the log of a container, over
HTTPS.

The API server passes a request for a pod's log on to the node of the pod, so there is a node, and a
pod whose log somebody may read is bound to it. Nothing runs there.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.cluster.certs import Authority
from tests.harness.api import Api, ApiError
from tests.harness.loop import Background

NODE = "fake-node"


class Logs:
    """What containers have printed. Nothing is opened before the first of them."""

    def __init__(self, background: Background, api: Api) -> None:
        self._background, self._api = background, api
        self._texts: dict[tuple[str, str], str] = {}
        self._runner: web.AppRunner | None = None
        self.refusals = 0
        """So many requests are answered 500, as by a node that cannot be reached."""
        self.asked: list[str] = []
        """Namespaces whose logs were read, one entry a request."""

    async def print(self, pod: Mapping[str, Any], text: str) -> None:
        """Put a pod on the node; from now on its log is this text. Before its containers end."""
        if self._runner is None:
            self._runner = await self._open()
        meta = pod["metadata"]
        self._texts[meta["namespace"], meta["name"]] = text
        target = {
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            "metadata": {"name": meta["name"]},
        }
        await self._api.call(
            "POST", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding", target
        )

    def close(self) -> None:
        """Stop answering."""
        if self._runner is not None:
            self._background.run(self._runner.cleanup())

    async def _open(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_tls())
        await site.start()
        (port,) = {address[1] for address in runner.addresses}
        await self._register(port)
        return runner

    async def _register(self, port: int) -> None:
        try:
            await self._api.call("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        except ApiError as error:
            if error.status != 409:
                raise
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        merge = "application/merge-patch+json"
        await self._api.call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, merge)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]
        self.asked.append(namespace)
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=500, text="the node is not well")
        text = self._texts.get((namespace, pod))
        return web.Response(status=404) if text is None else web.Response(text=text)


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        Authority.create().issue(NODE, hosts=["127.0.0.1"]).write(Path(directory), "kubelet")
        context.load_cert_chain(f"{directory}/kubelet.crt", f"{directory}/kubelet.key")
    return context
