"""/healthz, /readyz and /metrics on one port.

Healthy: the loop answers, no worker, watch or list has ended, and no Release's change has gone untold by the watch.
Ready: this instance acts, or waits for the Lease behind one that does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from gatewright.runtime import metrics

Probe = Callable[[], str | None]


async def serve(port: int, alive: Probe, ready: Probe, host: str = "") -> web.AppRunner:
    """Serve until the runner is cleaned up. A probe returns what is wrong, or None."""

    def answer(probe: Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(_: web.Request) -> web.Response:
            wrong = probe()
            return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")

        return handle

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", answer(alive))
    app.router.add_get("/readyz", answer(ready))
    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host or None, port).start()
    return runner
