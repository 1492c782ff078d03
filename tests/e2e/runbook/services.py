"""Stand-ins that only the runbook needs: foco.mx, OpenAI, and a store of backups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.vercel import Vercel


@dataclass
class OpenAI:
    """Which keys work."""

    keys: set[str]

    def app(self) -> web.Application:
        """The application."""
        found = web.Application()
        found.router.add_get("/v1/models", self._models)
        return found

    async def _models(self, request: web.Request) -> web.Response:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key in self.keys:
            models = [{"id": "gpt-5", "object": "model", "created": 1, "owned_by": "openai"}]
            return web.json_response({"object": "list", "data": models})
        said = {"message": f"Incorrect API key provided: {key}", "type": "invalid_request_error"}
        return web.json_response({"error": {**said, "param": None, "code": "invalid_api_key"}}, status=401)


@dataclass
class Site:
    """foco.mx."""

    vercel: Vercel
    token: str
    down: bool = False
    metrics: dict[str, Any] = field(
        default_factory=lambda: {
            "uptimeRatio": 0.9999,
            "auth": {"loginSuccessRatio": 0.99, "signupSuccessRatio": 0.98, "unauthorizedAccesses": 0},
            "rateLimit": {"requestsPerMinute": 100, "loginsPer15Minutes": 5},
            "workspaces": {"crossings": 0},
            "features": {"betaUses": 12},
        }
    )

    def version(self) -> str:
        """What is served."""
        live = self.vercel.live
        assert live is not None and live.git is not None
        return str(live.git["ref"]).removeprefix("v")

    def app(self) -> web.Application:
        """The application."""
        found = web.Application(middlewares=[self._opened])
        found.router.add_get("/api/health", self._health)
        found.router.add_get("/api/metrics", self._metrics)
        found.router.add_get("/api/organizations", self._organizations)
        return found

    @web.middleware
    async def _opened(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.down:
            return web.json_response({"status": "down"}, status=503)
        if request.path != "/api/health" and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "unauthorized"}, status=401)
        return await handler(request)  # type: ignore[no-any-return]

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": self.version()})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.json_response(self.metrics)

    async def _organizations(self, request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "organizations": []})


@dataclass
class Backups:
    """A store of objects. What is kept is not replaced: a Job that runs again must not put a later state in its place."""

    token: str
    kept: dict[str, bytes] = field(default_factory=dict)

    def app(self) -> web.Application:
        """The application."""
        found = web.Application(client_max_size=2**26)
        found.router.add_put("/{name:.*}", self._put)
        found.router.add_get("/{name:.*}", self._get)
        return found

    def _authorized(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    async def _put(self, request: web.Request) -> web.Response:
        if not self._authorized(request):
            return web.Response(status=401)
        self.kept.setdefault(request.match_info["name"], await request.read())
        return web.Response(status=201)

    async def _get(self, request: web.Request) -> web.Response:
        if not self._authorized(request):
            return web.Response(status=401)
        found = self.kept.get(request.match_info["name"])
        return web.Response(status=404) if found is None else web.Response(body=found)
