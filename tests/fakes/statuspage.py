"""A stand-in for Atlassian Statuspage: incidents and maintenances of one page, one request a
second.

`unresolved` lists what is not resolved and is no maintenance, `active_maintenance` maintenances
under way, both by pages that begin at 1. https://developer.statuspage.io
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

REALTIME = ("investigating", "identified", "monitoring", "resolved")
SCHEDULED = ("scheduled", "in_progress", "verifying", "completed")
COMPONENTS = (
    "operational",
    "under_maintenance",
    "degraded_performance",
    "partial_outage",
    "major_outage",
    "",
)


@dataclass
class Statuspage:
    """One page."""

    key: str
    page: str = "gytm4qzbx9t6"
    incidents: dict[str, dict[str, Any]] = field(default_factory=dict)
    components: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[float, str]] = field(default_factory=list)
    """When each request came, and what it asked."""
    told: list[str] = field(default_factory=list)
    """Updates that subscribers got."""
    fail_next_reply: bool = False
    """The next creation is done, but its answer is lost."""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def app(self) -> web.Application:
        """The application."""
        found = web.Application(middlewares=[self._guard])
        base = "/v1/pages/{page}/incidents"
        found.router.add_get("/v1/pages", self._pages)
        found.router.add_post(base, self._create)
        found.router.add_get(f"{base}/unresolved", self._unresolved)
        found.router.add_get(f"{base}/active_maintenance", self._active)
        found.router.add_patch(f"{base}/{{id}}", self._change)
        return found

    def of(self, status: str) -> list[dict[str, Any]]:
        """Incidents with a status."""
        return [item for item in self.incidents.values() if item["status"] == status]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append((time.monotonic(), f"{request.method} {request.path}"))
        if request.headers.get("Authorization") != f"OAuth {self.key}":
            return _error(401, "Could not authenticate")
        if request.match_info.get("page", self.page) != self.page:
            return _error(404, "Not found")
        return await handler(request)  # type: ignore[no-any-return]

    async def _pages(self, request: web.Request) -> web.Response:
        return web.json_response([{"id": self.page, "name": "Shop"}])

    async def _create(self, request: web.Request) -> web.Response:
        incident = (await request.json()).get("incident") or {}
        if not incident.get("name") or len(incident["name"]) > 255:
            return _error(422, "Name can't be blank or longer than 255 characters")
        if any(not isinstance(value, dict) for value in incident.get("metadata", {}).values()):
            return _error(422, "Metadata: all top-level values must be objects")
        number = next(self._numbers)
        kept = {
            "id": f"inc{number}",
            "page_id": self.page,
            "updates": [],
            "metadata": {},
            "scheduled_for": None,
        }
        kept |= {"status": "investigating", "impact": "none"}
        self.incidents[kept["id"]] = kept
        problem = self._apply(kept, incident)
        if problem is not None:
            del self.incidents[kept["id"]]
            return problem
        if self.fail_next_reply:
            self.fail_next_reply = False
            assert request.transport is not None
            request.transport.close()
        return web.json_response(_shown(kept), status=201)

    async def _change(self, request: web.Request) -> web.Response:
        kept = self.incidents.get(request.match_info["id"])
        if kept is None:
            return _error(404, "Not found")
        return self._apply(kept, (await request.json()).get("incident") or {}) or web.json_response(
            _shown(kept)
        )

    def _apply(self, kept: dict[str, Any], changes: dict[str, Any]) -> web.Response | None:
        planned = bool(changes.get("scheduled_for") or kept["scheduled_for"])
        status = changes.get("status", kept["status"])
        if status not in (SCHEDULED if planned else REALTIME):
            return _error(422, f"Status {status} is not valid for this incident")
        if any(value not in COMPONENTS for value in changes.get("components", {}).values()):
            return _error(422, "Component status is not valid")
        for name in ("name", "status", "metadata", "scheduled_for", "scheduled_until"):
            kept[name] = changes.get(name, kept.get(name))
        kept["impact"] = changes.get("impact_override", kept["impact"])
        kept["updates"].append({"status": status, "body": changes.get("body", "")})
        self.components |= changes.get("components", {})
        if changes.get("deliver_notifications", True):
            self.told.append(changes.get("body", ""))
        return None

    async def _unresolved(self, request: web.Request) -> web.Response:
        found = [
            item
            for item in self.incidents.values()
            if not item["scheduled_for"] and item["status"] != "resolved"
        ]
        return _paged(request, found)

    async def _active(self, request: web.Request) -> web.Response:
        return _paged(
            request,
            [
                item
                for item in self.incidents.values()
                if item["status"] in ("in_progress", "verifying")
            ],
        )


def _shown(kept: dict[str, Any]) -> dict[str, Any]:
    updates = [{"id": f"u{number}", **item} for number, item in enumerate(kept["updates"])]
    return {name: value for name, value in kept.items() if name != "updates"} | {
        "incident_updates": updates
    }


def _paged(request: web.Request, found: list[dict[str, Any]]) -> web.Response:
    size, number = int(request.query.get("per_page", 100)), int(request.query.get("page", 1))
    newest = list(reversed(found))
    return web.json_response([_shown(item) for item in newest[(number - 1) * size : number * size]])


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
