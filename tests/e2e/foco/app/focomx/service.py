"""The web service.

    GET  /                   version and flags
    GET  /api/health         {"status": "ok", "version": ..., "database": "ok"}, or 503
    GET  /api/metrics        Prometheus text
    GET  /api/organizations  the workspace's organizations, cached for CACHE_SECONDS
    GET  /api/tasks          the workspace's newest tasks
    POST /api/tasks          {"title": ...} -> 201
    GET  /api/features       flags; with ?user= what that user sees
    GET  /livez, /readyz     for the kubelet: the process answers; it takes traffic

The workspace is the header `X-Workspace` (foco.mx takes it from the session). The admin port serves
`/faults` (GET, PUT, DELETE). Readiness does not ask the database: a shared dependency in every
pod's readiness turns a slow database into an outage. `/api/health` does ask, and is what a release
watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
from aiohttp import web

from focomx.database import Pool, UnavailableError
from focomx.faults import Fault, Faults, Share
from focomx.flags import Flags
from focomx.metrics import USER_ROUTES, Metrics

log = logging.getLogger("focomx")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ORGANIZATIONS = """
    SELECT o.id, o.slug, o.name FROM foco.organizations o
    JOIN foco.workspaces w ON w.organization_id = o.id
    WHERE w.id = current_setting('foco.workspace', true) ORDER BY o.id
"""
_TASKS = """
    SELECT id, title, status, created_at FROM foco.tasks
    WHERE workspace_id = current_setting('foco.workspace', true) ORDER BY id DESC LIMIT 50
"""
_CREATE = """
    INSERT INTO foco.tasks (workspace_id, title, status)
    VALUES (current_setting('foco.workspace', true), %s, 'open') RETURNING id
"""


class Cache:
    """Answers by key, for a while; the stand-in of the runbook's caching layer."""

    def __init__(self, seconds: float, metrics: Metrics) -> None:
        self._seconds = seconds
        self._metrics = metrics
        self._kept: dict[str, tuple[float, Any]] = {}

    async def get(self, key: str, load: Callable[[], Awaitable[Any]]) -> Any:
        until, value = self._kept.get(key, (0.0, None))
        hit = time.monotonic() < until
        self._metrics.cache(hit)
        if not hit:
            value = await load()
            self._kept[key] = (time.monotonic() + self._seconds, value)
        return value


class Service:
    def __init__(
        self, version: str, pool: Pool, faults: Faults, flags: Flags, cache_seconds: float = 10.0
    ) -> None:
        self.version = version
        self.pool = pool
        self.faults = faults
        self.flags = flags
        self.metrics = Metrics(version)
        self.cache = Cache(cache_seconds, self.metrics)
        self.draining = False
        self._started = time.monotonic()
        self._share = Share()

    # -- what is wrong with this version just now
    # -------------------------------------------------------------
    def fault(self) -> Fault:
        fault = self.faults.current()
        return (
            fault if fault.active(time.monotonic() - self._started, self.flags.all()) else Fault()
        )

    async def _suffer(self, request: web.Request, route: str) -> None:
        fault = self.fault()
        if route not in (fault.routes or USER_ROUTES):
            return
        if fault.latency_ms:
            await asyncio.sleep(fault.latency_ms / 1000)
        if self._share.hit(fault.error_rate) or (
            fault.fail_task_creation and (request.method, route) == ("POST", "/api/tasks")
        ):
            raise RuntimeError(f"{request.method} {route} failed in {self.version}")

    # -- around every request
    # -----------------------------------------------------------------------------------
    @web.middleware
    async def measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "other"
        response = await self._answer(request, handler, route)
        self.metrics.answered(route, response.status, time.perf_counter() - started)
        return response

    async def _answer(
        self, request: web.Request, handler: Handler, route: str
    ) -> web.StreamResponse:
        try:
            await self._suffer(request, route)
            return await handler(request)
        except web.HTTPException as refusal:
            return _error(refusal.status, refusal.text or refusal.reason)
        except UnavailableError as error:
            log.error("%s %s: %s", request.method, route, error)
            return _error(503, "the database is busy")
        except psycopg.Error as error:
            log.error(
                "%s %s: database: %s %s",
                request.method,
                route,
                error.sqlstate,
                type(error).__name__,
            )
            return _error(500, "the database refused")
        except Exception as error:
            log.error("%s %s: %s", request.method, route, error)
            return _error(500, "internal error")

    # -- routes
    # -------------------------------------------------------------------------------------------------------
    async def home(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"service": "foco", "version": self.version, "flags": self.flags.all()}
        )

    async def health(self, _: web.Request) -> web.Response:
        database = await self._database_health()
        ok = database == "ok" and not self.fault().fail_health
        body = {"status": "ok" if ok else "failing", "version": self.version, "database": database}
        return web.json_response(body, status=200 if ok else 503)

    async def _database_health(self) -> str:
        try:
            async with asyncio.timeout(4), self.pool.transaction("") as connection:
                await connection.execute("SELECT 1")
            return "ok"
        except (psycopg.Error, UnavailableError, TimeoutError) as error:
            return type(error).__name__

    async def exposition(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    async def organizations(self, request: web.Request) -> web.Response:
        workspace = _workspace(request)

        async def load() -> list[dict[str, Any]]:
            async with self.pool.transaction(workspace) as connection:
                rows = await (await connection.execute(_ORGANIZATIONS)).fetchall()
            return [{"id": key, "slug": slug, "name": name} for key, slug, name in rows]

        return web.json_response({"organizations": await self.cache.get(workspace, load)})

    async def tasks(self, request: web.Request) -> web.Response:
        async with self.pool.transaction(_workspace(request)) as connection:
            rows = await (await connection.execute(_TASKS)).fetchall()
        tasks = [
            {"id": r[0], "title": r[1], "status": r[2], "createdAt": r[3].isoformat()} for r in rows
        ]
        return web.json_response({"tasks": tasks})

    async def create_task(self, request: web.Request) -> web.Response:
        title = await _title(request)
        async with self.pool.transaction(_workspace(request)) as connection:
            row = await (await connection.execute(_CREATE, (title,))).fetchone()
        assert row is not None
        return web.json_response({"id": row[0], "title": title, "status": "open"}, status=201)

    async def features(self, request: web.Request) -> web.Response:
        flags = self.flags.for_user(request.query.get("user"))
        return web.json_response({"version": self.version, "flags": flags})

    async def live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(self, _: web.Request) -> web.Response:
        return (
            web.Response(text="draining\n", status=503)
            if self.draining
            else web.Response(text="ok\n")
        )

    # -- the admin port
    # ---------------------------------------------------------------------------------------------
    async def read_faults(self, _: web.Request) -> web.Response:
        return web.json_response(self.faults.describe())

    async def write_faults(self, request: web.Request) -> web.Response:
        try:
            self.faults.override(None if request.method == "DELETE" else await request.text())
        except (ValueError, TypeError) as error:
            return _error(422, str(error))
        return web.json_response(self.faults.describe())

    # -- assembly
    # -----------------------------------------------------------------------------------------------------
    def application(self) -> web.Application:
        application = web.Application(middlewares=[self.measured])
        application.add_routes(
            [
                web.get("/", self.home),
                web.get("/api/health", self.health),
                web.get("/api/metrics", self.exposition),
                web.get("/api/organizations", self.organizations),
                web.get("/api/tasks", self.tasks),
                web.post("/api/tasks", self.create_task),
                web.get("/api/features", self.features),
                web.get("/livez", self.live),
                web.get("/readyz", self.ready),
            ]
        )
        return application

    def admin(self) -> web.Application:
        application = web.Application()
        for method in (web.put, web.delete):
            application.add_routes([method("/faults", self.write_faults)])
        application.add_routes([web.get("/faults", self.read_faults)])
        return application


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _workspace(request: web.Request) -> str:
    return request.headers.get("X-Workspace", "acme")


async def _title(request: web.Request) -> str:
    try:
        body = await request.json()
    except ValueError as error:
        raise web.HTTPBadRequest(text="the body is not JSON") from error
    title = body.get("title") if isinstance(body, dict) else None
    if not isinstance(title, str) or not 0 < len(title) <= 200:
        raise web.HTTPUnprocessableEntity(text="title must be a text of 1 to 200 characters")
    return title


async def _watch_faults(faults: Faults) -> None:
    while True:
        await asyncio.sleep(1)
        faults.reload()


def from_environment() -> Service:
    env = os.environ
    version = env["APP_VERSION"]
    faults_file, flags_dir = env.get("FAULTS_FILE"), env.get("FLAGS_DIR")
    return Service(
        version,
        Pool(env["DATABASE_URL"], int(env.get("POOL_SIZE", "4")), f"foco-{version}"),
        Faults(version, Path(faults_file) if faults_file else None, env.get("FAULTS", "")),
        Flags(Path(flags_dir) if flags_dir else None, env),
        float(env.get("CACHE_SECONDS", "10")),
    )


async def serve(service: Service) -> None:
    """Serve until SIGTERM; then stay for DRAIN_SECONDS, until no Service sends traffic here any
    more."""
    env = os.environ
    host = env.get("HOST", "0.0.0.0")  # a pod's only address is not known before it starts
    runners = []
    for application, port in (
        (service.application(), int(env.get("PORT", "8080"))),
        (service.admin(), int(env.get("ADMIN_PORT", "8081"))),
    ):
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        runners.append(runner)
    watcher = asyncio.create_task(_watch_faults(service.faults))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log.info("foco %s serves", service.version)
    await stop.wait()
    service.draining = True
    await asyncio.sleep(float(env.get("DRAIN_SECONDS", "5")))
    watcher.cancel()
    # Prometheus keeps its connection open; waiting for it to go would take a minute.
    for runner in runners:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runner.cleanup(), 2)
    await service.pool.close()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(from_environment()))


if __name__ == "__main__":
    main()
