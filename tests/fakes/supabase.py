"""Supabase's Management API for one project: backups, restore points, restores with their downtime,
secrets, advisors.

A restore leads the project through the statuses of `course`, one with each look at it, as the
vendor describes it; what the database held since is gone, its server has been started anew, and
what lies outside of it (secrets) is untouched.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PROJECT = "abcdefghijklmnopqrst"
COURSE = ("ACTIVE_HEALTHY", "RESTORING", "RESTORING", "COMING_UP", "ACTIVE_HEALTHY")
"""What is seen of a project after a restore was asked for."""
Rows = list[dict[str, Any]]


def stamp(at: float) -> str:
    """A time as the API writes it."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Supabase:
    """One project, and everything that was asked of it."""

    token: str
    status: str = "ACTIVE_HEALTHY"
    course: tuple[str, ...] = COURSE
    started: float = field(default_factory=lambda: time.time() - 86_400)
    """When the server of the database was started."""
    pitr: bool = True
    window: dict[str, int] = field(default_factory=dict)
    backups: Rows = field(default_factory=list)
    lints: Rows = field(default_factory=list)
    services: Rows = field(default_factory=list)
    keys: Rows = field(default_factory=list)
    secrets: dict[str, float] = field(default_factory=dict)
    """Names, and when they were set."""
    points: dict[str, str] = field(default_factory=dict)
    """Restore points and their status."""
    restores: list[dict[str, Any]] = field(default_factory=list)
    """Restores that were accepted."""
    calls: list[tuple[str, str]] = field(default_factory=list)
    faults: dict[tuple[str, str], list[web.Response]] = field(default_factory=dict)
    """Answers by method and last segment of the path that come, one after the other, before the
    real ones."""
    sql: Callable[[str, list[Any]], Rows] | None = None
    """What answers statements, but for the start of the server."""
    left: list[str] = field(default_factory=list)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._guard])
        base = f"/v1/projects/{PROJECT}"
        backups = f"{base}/database/backups"
        app.router.add_get("/v1/projects", self._projects)
        app.router.add_get(base, self._project)
        app.router.add_get(f"{base}/health", self._health)
        app.router.add_get(f"{base}/advisors/security", self._advisors)
        app.router.add_get(f"{base}/api-keys", self._keys)
        app.router.add_get(f"{base}/secrets", self._secrets)
        app.router.add_post(f"{base}/secrets", self._put_secrets)
        app.router.add_delete(f"{base}/secrets", self._drop_secrets)
        app.router.add_post(f"{base}/database/query/read-only", self._query)
        app.router.add_get(backups, self._backups)
        app.router.add_get(f"{backups}/restore-point", self._point)
        app.router.add_post(f"{backups}/restore-point", self._make_point)
        app.router.add_post(f"{backups}/undo", self._undo)
        app.router.add_post(f"{backups}/restore-pitr", self._restore_pitr)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            said = request.headers.get("Authorization", "nothing")
            return web.json_response({"message": f"Unauthorized: {said}"}, status=401)
        waiting = self.faults.get((request.method, request.path.rpartition("/")[2]))
        if waiting:
            return waiting.pop(0)
        response: web.StreamResponse = await handler(request)
        return response

    def _about(self) -> dict[str, Any]:
        return {
            "id": PROJECT,
            "ref": PROJECT,
            "organization_id": "acme",
            "organization_slug": "acme",
            "name": "shop",
            "region": "eu-central-1",
            "created_at": stamp(0),
            "status": self.status,
            "database": {
                "host": "db",
                "version": "15",
                "postgres_engine": "15",
                "release_channel": "ga",
            },
        }

    async def _projects(self, request: web.Request) -> web.Response:
        return web.json_response([self._about()])

    async def _project(self, request: web.Request) -> web.Response:
        if self.left:
            self.status = self.left.pop(0)
            if self.status == "COMING_UP":
                self.started = time.time()
        return web.json_response(self._about())

    async def _health(self, request: web.Request) -> web.Response:
        wanted = request.query.getall("services", [])
        if not wanted:
            return web.json_response({"message": "services: required"}, status=400)
        return web.json_response([item for item in self.services if item["name"] in wanted])

    async def _advisors(self, request: web.Request) -> web.Response:
        return web.json_response({"lints": self.lints})

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response(self.keys)

    async def _secrets(self, request: web.Request) -> web.Response:
        digest = hashlib.sha256(b"1").hexdigest()
        found = [
            {"name": name, "value": digest, "updated_at": stamp(at)}
            for name, at in self.secrets.items()
        ]
        return web.json_response(found)

    async def _put_secrets(self, request: web.Request) -> web.Response:
        self.secrets |= {item["name"]: time.time() for item in await request.json()}
        return web.Response(status=201)

    async def _drop_secrets(self, request: web.Request) -> web.Response:
        for name in await request.json():
            self.secrets.pop(name, None)
        return web.Response(status=200)

    async def _query(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "pg_postmaster_start_time" in body["query"]:
            return web.json_response([{"started": self.started}], status=201)
        assert self.sql is not None, "nothing answers statements"
        try:
            return web.json_response(
                self.sql(body["query"], body.get("parameters", [])), status=201
            )
        except ValueError as refused:
            return web.json_response({"message": f"Failed to run sql query: {refused}"}, status=400)

    async def _backups(self, request: web.Request) -> web.Response:
        found = {
            "region": "eu-central-1",
            "walg_enabled": True,
            "pitr_enabled": self.pitr,
            "backups": self.backups,
        }
        return web.json_response({**found, "physical_backup_data": self.window})

    def _of_point(self, name: str, status: int) -> web.Response:
        state = self.points[name]
        done = stamp(1_700_000_000) if state == "AVAILABLE" else None
        return web.json_response(
            {"name": name, "status": state, "completed_on": done}, status=status
        )

    async def _point(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        if name not in self.points:
            return web.json_response({"message": "Restore point not found"}, status=404)
        found = self._of_point(name, 200)
        if self.points[name] == "PENDING":
            self.points[name] = "AVAILABLE"
        return found

    async def _make_point(self, request: web.Request) -> web.Response:
        name = (await request.json())["name"]
        if len(name) > 20 or name in self.points:
            return web.json_response({"message": "name: too long, or taken"}, status=400)
        self.points[name] = "PENDING"
        return self._of_point(name, 201)

    async def _undo(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.points.get(body["name"]) != "AVAILABLE":
            return web.json_response({"message": "no such restore point"}, status=404)
        return self._begin(body)

    async def _restore_pitr(self, request: web.Request) -> web.Response:
        return self._begin(await request.json())

    def _begin(self, body: dict[str, Any]) -> web.Response:
        self.restores.append(body)
        self.left = list(self.course)
        return web.Response(status=201)
