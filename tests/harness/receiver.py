"""Takes webhooks: whoever a Release tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.harness.loop import Background

if TYPE_CHECKING:
    from tests.harness.lab import Site


@dataclass
class Receiver:
    """Takes webhooks, and does to them what a test wants done."""

    background: Background
    got: list[tuple[str, str, float]] = field(default_factory=list)
    """Path, id and time (monotonic) of each."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    on_event: Callable[[str, str], None] = lambda path, event: None
    hanging: set[str] = field(default_factory=set)
    url: str = ""

    def __post_init__(self) -> None:
        self.url = self.background.run(self._start())

    async def _start(self) -> str:
        self._runner = web.ServerRunner(web.Server(self._receive), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        self.background.run(self._runner.cleanup())

    async def _receive(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=405)
        body = await request.json()
        while request.path in self.hanging:
            await asyncio.sleep(0.02)
        self.got.append((request.path, request.headers["webhook-id"], time.monotonic()))
        self.bodies.append(body)
        self.on_event(request.path, body["data"]["event"])
        return web.Response()

    def ids(self, site: Site) -> list[str]:
        return [identity for path, identity, _ in self.got if path == f"/{site.name}"]

    def events(self, site: Site) -> list[str]:
        return [identity.split("_")[2] for identity in self.ids(site)]
