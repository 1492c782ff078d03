"""/healthz and /readyz on one port, /metrics on another: what happens to the one never reaches the
other.

Healthy: the loop answers, no worker, watch or list has ended, and no Release's change has gone
untold by the watch. Ready: this instance acts, or waits for the Lease behind one that does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.listener import Listener, Page

Probe = Callable[[], str | None]
"""Returns what is wrong, or None."""
METRICS_MAX_AGE_S = 0.25
"""Seconds for which written metrics are handed out: to write them costs more than all the rest of
an answer."""


class ProbeServer:
    """The two ports; one that is 0 is not opened."""

    def __init__(self, alive: Probe, ready: Probe) -> None:
        self._health = Listener("health", {"/healthz": _page_of(alive), "/readyz": _page_of(ready)})
        self._metrics = Listener("metrics", {"/metrics": _MetricsPage().show})

    def start(self, health_port: int, metrics_port: int, host: str = "") -> None:
        """Listen; no host: on every address. Raises OSError."""
        if health_port:
            self._health.start(host, health_port)
        if metrics_port:
            self._metrics.start(host, metrics_port)

    async def close(self) -> None:
        """Close both."""
        await self._metrics.close()
        await self._health.close()


def _page_of(probe: Probe) -> Page:
    def show() -> web.Response:
        wrong = probe()
        return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")

    return show


class _MetricsPage:
    """The metrics as they were written last."""

    def __init__(self) -> None:
        self._text = b""
        self._written = float("-inf")

    def show(self) -> web.Response:
        now = asyncio.get_running_loop().time()
        # To write them costs more than all the rest of an answer.
        if now - self._written > METRICS_MAX_AGE_S:
            self._text, self._written = generate_latest(metrics.registry), now
        return web.Response(body=self._text, headers={"Content-Type": CONTENT_TYPE_LATEST})
