"""Stand-ins that only the runbook needs: foco.mx, OpenAI, a registry of npm packages, and a store
of backups."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
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
        return web.json_response(
            {"error": {**said, "param": None, "code": "invalid_api_key"}}, status=401
        )


@dataclass
class Site:
    """foco.mx."""

    vercel: Vercel
    token: str
    down: bool = False
    metrics: dict[str, Any] = field(
        default_factory=lambda: {
            "uptimeRatio": 0.9999,
            "auth": {
                "loginSuccessRatio": 0.99,
                "signupSuccessRatio": 0.98,
                "unauthorizedAccesses": 0,
            },
            "rateLimit": {"requestsPerMinute": 100, "loginsPer15Minutes": 5},
            "workspaces": {"crossings": 0},
            "features": {"betaUses": 12, "betaErrorRatio": 0.0},
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
        if (
            request.path != "/api/health"
            and request.headers.get("Authorization") != f"Bearer {self.token}"
        ):
            return web.json_response({"error": "unauthorized"}, status=401)
        return await handler(request)  # type: ignore[no-any-return]

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": self.version()})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.json_response(self.metrics)

    async def _organizations(self, request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "organizations": []})


# As the registry of npm tells them: GHSA-pxg6-pf52-xhx8 and GHSA-xvch-5gv4-984h.
ADVISORIES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "cookie": [
        {
            "id": 1103907,
            "url": "https://github.com/advisories/GHSA-pxg6-pf52-xhx8",
            "title": "cookie accepts cookie name, path, and domain with out of bounds characters",
            "severity": "low",
            "vulnerable_versions": "<0.7.0",
            "cwe": ["CWE-74"],
            "cvss": {"score": 0, "vectorString": None},
        }
    ],
    "minimist": [
        {
            "id": 1097678,
            "url": "https://github.com/advisories/GHSA-xvch-5gv4-984h",
            "title": "Prototype Pollution in minimist",
            "severity": "critical",
            "vulnerable_versions": ">=1.0.0 <1.2.6",
            "cwe": ["CWE-1321"],
            "cvss": {"score": 9.8, "vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
        }
    ],
}
PUBLISHED: Mapping[str, Sequence[str]] = {
    "cookie": ("0.6.0", "0.7.0"),
    "minimist": ("1.2.5", "1.2.6", "1.2.8"),
}
"""Versions that the registry knows, oldest first."""
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip


class Registry:
    """What `npm audit` asks of a registry of packages: the advisories for a list of versions, and
    what is published."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Sequence[str]]] = []
        """Versions by package, for each time."""

    def app(self) -> web.Application:
        """The application."""
        found = web.Application()
        found.router.add_post("/-/npm/v1/security/advisories/bulk", self._advisories)
        found.router.add_get("/{name}", self._package)
        return found

    async def _advisories(self, request: web.Request) -> web.Response:
        asked: dict[str, list[str]] = await request.json()  # it comes gzipped
        self.asked.append(asked)
        found = {name: _of(name, versions) for name, versions in asked.items()}
        return web.json_response(
            {name: advisories for name, advisories in found.items() if advisories}
        )

    async def _package(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in PUBLISHED:
            return web.json_response({"error": "Not found"}, status=404)
        versions = {
            version: {
                "name": name,
                "version": version,
                "dist": {"tarball": f"{request.url}/-/{name}-{version}.tgz"},
            }
            for version in PUBLISHED[name]
        }
        return web.json_response(
            {"name": name, "dist-tags": {"latest": PUBLISHED[name][-1]}, "versions": versions}
        )


def _of(name: str, versions: Sequence[str]) -> list[Mapping[str, Any]]:
    """Advisories on any of these versions of a package."""
    known = ADVISORIES.get(name, ())
    return [
        item
        for item in known
        if any(_within(version, item["vulnerable_versions"]) for version in versions)
    ]


def _within(version: str, wanted: str) -> bool:
    """Whether a version is in a range of comparators that all have to hold."""
    parts = [re.fullmatch(r"([<>]=?)(.+)", word) for word in wanted.split()]
    return all(
        part is not None and _COMPARED[part[1]](_numbers(version), _numbers(part[2]))
        for part in parts
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@dataclass
class Backups:
    """A store of objects. What is kept is not replaced: a Job that runs again must not put a later
    state in its place."""

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
