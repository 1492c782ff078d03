"""Sentry's web API, as much of it as is asked of it: releases, deploys, events, time series and
issues of one organization.

What it does with releases and deploys is proved by Sentry's own command-line program, which the
tests drive against it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_ROOT = "/api/0/organizations/acme"


@dataclass
class Sentry:
    """The organization `acme` with the projects web and api."""

    token: str
    projects: set[str] = field(default_factory=lambda: {"web", "api"})
    scopes: set[str] = field(
        default_factory=lambda: {"org:read", "event:read", "project:releases", "project:read"}
    )
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    deploys: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    errors: Callable[[int], float] = lambda minutes: 0
    """Error events of a minute, by how many minutes ago it began."""
    transactions: int = 100
    failures: int = 0
    p95: float | None = 250.0
    """Milliseconds."""
    issues: list[dict[str, Any]] = field(default_factory=list)
    incomplete: int = 1
    """How many of the newest buckets are not complete."""
    series: Callable[[dict[str, Any]], Any] = lambda body: body
    """What is made of the answer about a time series."""
    table: Callable[[dict[str, Any]], Any] = lambda body: body
    """What is made of the answer about events."""
    no_failure_rate: bool = False
    """failure_rate() is answered with a 500, as by some self-hosted versions."""
    loses: list[str] = field(default_factory=list)
    """Methods whose next answer gets lost after it was carried out."""
    refuse: web.Response | None = None
    """What everything is answered."""
    seen: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    """Method, path and query of each request."""
    page: int = 25
    """Entries a page."""

    def issue(self, release: str, level: str = "error", **more: Any) -> None:
        """Add an unresolved issue that was first seen in a release."""
        number = len(self.issues) + 1
        self.issues.append(
            {
                "id": str(number),
                "shortId": f"WEB-{number}",
                "level": level,
                "release": release,
                **more,
            }
        )

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._guarded])
        get, post, put = app.router.add_get, app.router.add_post, app.router.add_put
        get("/api/0/", self._root)
        get("/api/0/projects/acme/{project}/", self._project)
        get(_ROOT + "/", self._organization)
        get(_ROOT + "/releases/", self._list_releases)
        post(_ROOT + "/releases/", self._release)
        get(_ROOT + "/releases/{version}/", self._shown)
        put(_ROOT + "/releases/{version}/", self._changed)
        get(_ROOT + "/releases/{version}/deploys/", self._list_deploys)
        post(_ROOT + "/releases/{version}/deploys/", self._deploy)
        get(_ROOT + "/events/", self._events)
        get(_ROOT + "/events-timeseries/", self._series)
        get(_ROOT + "/issues/", self._list_issues)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        query = {name: request.query.getall(name) for name in request.query}
        self.seen.append((request.method, request.path, query))
        if self.refuse is not None:
            return web.Response(
                status=self.refuse.status, text=self.refuse.text, headers=self.refuse.headers
            )
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _detail("Invalid token", 401)
        try:
            reply: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            reply = _detail("The requested resource does not exist", 404)
        if request.method in self.loses:
            self.loses.remove(request.method)
            assert request.transport is not None
            request.transport.abort()
        return reply

    def _may(self, *scopes: str) -> None:
        if not self.scopes & set(scopes):
            raise web.HTTPForbidden(
                text='{"detail": "You do not have permission to perform this action."}',
                content_type="application/json",
            )

    async def _root(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"version": "0", "auth": {"scopes": sorted(self.scopes)}, "user": None}
        )

    async def _organization(self, request: web.Request) -> web.Response:
        self._may("org:read")
        return web.json_response({"id": "1", "slug": "acme", "name": "Acme"})

    async def _project(self, request: web.Request) -> web.Response:
        self._may("project:read")
        if request.match_info["project"] not in self.projects:
            raise web.HTTPNotFound
        return web.json_response({"id": "1", "slug": request.match_info["project"]})

    # --- releases

    async def _list_releases(self, request: web.Request) -> web.Response:
        self._may("project:read", "project:releases")
        return self._paged(request, list(self.releases.values()))

    async def _release(self, request: web.Request) -> web.Response:
        self._may("project:releases")
        body = await request.json()
        if not body.get("version") or not body.get("projects"):
            return web.json_response({"projects": ["This field is required."]}, status=400)
        if set(body["projects"]) - self.projects:
            return web.json_response({"projects": ["Invalid project ids or slugs"]}, status=400)
        known = body["version"] in self.releases
        release = self.releases.setdefault(body["version"], _new(body["version"]))
        slugs = {item["slug"] for item in release["projects"]} | set(body["projects"])
        release["projects"] = [{"id": 1, "slug": slug, "name": slug} for slug in sorted(slugs)]
        release |= {
            name: body[name]
            for name in ("url", "dateReleased", "dateStarted", "ref")
            if body.get(name)
        }
        return web.json_response(release, status=208 if known else 201)

    async def _shown(self, request: web.Request) -> web.Response:
        return web.json_response(self._found(request))

    async def _changed(self, request: web.Request) -> web.Response:
        self._may("project:releases")
        release, body = self._found(request), await request.json()
        release |= {name: body[name] for name in ("url", "dateReleased", "ref") if name in body}
        return web.json_response(release)

    def _found(self, request: web.Request) -> dict[str, Any]:
        release = self.releases.get(request.match_info["version"])
        if release is None:
            raise web.HTTPNotFound
        return release

    async def _list_deploys(self, request: web.Request) -> web.Response:
        self._found(request)
        return self._paged(request, self.deploys.get(request.match_info["version"], []))

    async def _deploy(self, request: web.Request) -> web.Response:
        self._may("project:releases")
        version, body = self._found(request)["version"], await request.json()
        if (
            not body.get("environment")
            or len(body["environment"]) > 64
            or len(body.get("name") or "") > 64
        ):
            return web.json_response(
                {"name": ["Ensure this field has no more than 64 characters."]}, status=400
            )
        deploys = self.deploys.setdefault(version, [])
        own = {name: body.get(name) for name in ("environment", "name", "url", "dateStarted")}
        finished = body.get("dateFinished") or _now()
        deploys.append({"id": str(len(deploys) + 1), **own, "dateFinished": finished})
        return web.json_response(deploys[-1], status=201)

    # --- what the release has sent

    async def _series(self, request: web.Request) -> web.Response:
        self._may("org:read")
        query = request.query
        if (
            query["dataset"] != "errors"
            or query["yAxis"] != "count()"
            or not _of_release(query["query"])
        ):
            return _detail("Invalid query", 400)
        interval, period = int(query["interval"]), int(query["statsPeriod"].removesuffix("s"))
        newest = int(time.time()) // interval * interval
        starts = range(newest - period + interval, newest + 1, interval)
        values = [
            {
                "timestamp": start * 1000,
                "value": sum(
                    self.errors((newest - start) // 60 + minute) for minute in range(interval // 60)
                ),
                "incomplete": newest - start < self.incomplete * interval,
            }
            for start in starts
        ]
        meta = {
            "interval": interval * 1000,
            "valueType": "integer",
            "valueUnit": None,
            "dataScanned": "full",
        }
        span = {"dataset": "errors", "start": starts[0] * 1000, "end": newest * 1000}
        return web.json_response(
            self.series(
                {"timeSeries": [{"values": values, "yAxis": "count()", "meta": meta}], "meta": span}
            )
        )

    async def _events(self, request: web.Request) -> web.Response:
        self._may("org:read")
        query, fields = request.query, request.query.getall("field")
        if (
            query["dataset"] != "spans"
            or "is_transaction:true" not in query["query"]
            or not _of_release(query["query"])
        ):
            return _detail("Invalid query", 400)
        if self.no_failure_rate and "failure_rate()" in fields:
            return _detail("Internal error", 500)
        known = {
            "count()": (self.transactions, "integer", None),
            "failure_count()": (self.failures, "integer", None),
            "failure_rate()": (
                self.failures / self.transactions if self.transactions else 0.0,
                "percentage",
                None,
            ),
            "p95(span.duration)": (self.p95, "duration", "millisecond"),
        }
        row = {name: known[name][0] for name in fields}
        kinds, units = (
            {name: known[name][1] for name in fields},
            {name: known[name][2] for name in fields},
        )
        meta = {"fields": kinds, "units": units, "dataset": "spans", "dataScanned": "full"}
        return web.json_response(self.table({"data": [row], "meta": meta}))

    async def _list_issues(self, request: web.Request) -> web.Response:
        self._may("event:read")
        query = request.query["query"]
        levels = re.search(r"level:\[([a-z, ]+)\]", query)
        release = re.search(r'first-release:"([^"]+)"', query)
        if "is:unresolved" not in query or levels is None or release is None:
            return _detail("Invalid query", 400)
        wanted = levels[1].split(", ")
        found = [
            item
            for item in self.issues
            if item["level"] in wanted and item["release"] == release[1]
        ]
        return self._paged(request, found)

    def _paged(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        start = int(request.query.get("cursor", "0:0:0").split(":")[1])
        end = start + self.page
        link = '<https://elsewhere.invalid/>; rel="{}"; results="{}"; cursor="{}"'
        links = [
            link.format("previous", "false", "0:0:1"),
            link.format("next", str(end < len(items)).lower(), f"0:{end}:0"),
        ]
        return web.json_response(items[start:end], headers={"Link": ", ".join(links)})


def _of_release(query: str) -> bool:
    return re.search(r'(^| )release:"[^"]+"', query) is not None


def _new(version: str) -> dict[str, Any]:
    return {
        "version": version,
        "shortVersion": version,
        "dateCreated": _now(),
        "dateReleased": None,
        "url": None,
        "projects": [],
        "newGroups": 0,
        "lastEvent": None,
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _detail(text: str, status: int) -> web.Response:
    return web.json_response({"detail": text}, status=status)
