"""Flag systems: OFREP, Unleash's admin API and LaunchDarkly's REST API, as much of them as is asked
of them.

Unleash's answers are those of unleash-server 6.10, LaunchDarkly's those of its API reference.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Ofrep:
    """Flags by key: what each targeting key gets, and `*` for everybody else."""

    token: str
    flags: dict[str, dict[str, Any]]
    contexts: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_post("/ofrep/v1/evaluate/flags/{key}", self._evaluate)
        return app

    async def _evaluate(self, request: web.Request) -> web.Response:
        if self.token not in (
            request.headers.get("Authorization", "")[7:],
            request.headers.get("X-API-Key"),
        ):
            return web.json_response({"error": "unauthorized"}, status=401)
        key, context = request.match_info["key"], (await request.json())["context"]
        self.contexts.append(context)
        if "targetingKey" not in context:
            return web.json_response({"key": key, "errorCode": "TARGETING_KEY_MISSING"}, status=400)
        if key not in self.flags:
            body = {
                "key": key,
                "errorCode": "FLAG_NOT_FOUND",
                "errorDetails": f"no flag {key} {self.token}",
            }
            return web.json_response(body, status=404)
        found = self.flags[key].get(context["targetingKey"], self.flags[key].get("*"))
        if isinstance(found, web.Response):
            return found
        body = (
            found
            if isinstance(found, dict)
            else {"value": found, "reason": "TARGETING_MATCH", "variant": "a"}
        )
        return web.json_response({"key": key, **body})


@dataclass
class Unleash:
    """One project, with environments by flag: (enabled, number of strategies)."""

    token: str
    project: str = "default"
    flags: dict[str, dict[str, tuple[bool, int]]] = field(default_factory=dict)
    refuse: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """Flags whose switch answers something else."""
    switched: list[str] = field(default_factory=list)
    deaf: bool = False
    """It answers 200 to a switch and does nothing."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What has been switched, the newest first."""

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._opened])
        app.router.add_get("/api/admin/projects", self._projects)
        app.router.add_get("/api/admin/search/events", self._events)
        base = "/api/admin/projects/{project}/features/{flag}"
        app.router.add_get(base, self._feature)
        app.router.add_post(base + "/environments/{environment}/{state:on|off}", self._switch_flag)
        return app

    @web.middleware
    async def _opened(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if given.startswith("client:"):
            message = "invalid token: expected a different token type for this endpoint"
            return web.json_response({"message": message}, status=403)
        if given != self.token:
            return _error(401, "UnauthorizedError", "You must log in to use Unleash.")
        return await handler(request)  # type: ignore[no-any-return]

    async def _projects(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"version": 1, "projects": [{"id": self.project, "name": "Default", "mode": "open"}]}
        )

    def _missing(self, request: web.Request) -> web.Response | None:
        project, flag = request.match_info["project"], request.match_info["flag"]
        if project != self.project or flag not in self.flags:
            return _error(
                404, "NotFoundError", f'There\'s no feature named "{flag}" in project "{project}".'
            )
        return None

    async def _feature(self, request: web.Request) -> web.Response:
        flag = request.match_info["flag"]
        environments = [
            {
                "name": name,
                "enabled": on,
                "type": name,
                "strategies": [{"name": "flexibleRollout"}] * count,
            }
            for name, (on, count) in self.flags.get(flag, {}).items()
        ]
        return self._missing(request) or web.json_response(
            {
                "name": flag,
                "project": self.project,
                "archived": False,
                "stale": False,
                "environments": environments,
            }
        )

    def by_hand(self, flag: str, environment: str, on: bool, by: str) -> None:
        """Somebody switches a flag in the user interface."""
        self.flags[flag][environment] = (on, self.flags[flag][environment][1])
        self._note(flag, environment, on, by)

    def _note(self, flag: str, environment: str, on: bool, by: str) -> None:
        kind = "feature-environment-enabled" if on else "feature-environment-disabled"
        at = f"2026-11-22T08:30:{len(self.events):02d}.000Z"
        event = {
            "id": len(self.events),
            "type": kind,
            "createdBy": by,
            "createdAt": at,
            "project": self.project,
        }
        self.events.insert(0, {**event, "featureName": flag, "environment": environment})

    async def _events(self, request: web.Request) -> web.Response:
        wanted = request.query["feature"].removeprefix("IS:")
        found = [event for event in self.events if event["featureName"] == wanted]
        return web.json_response(
            {"events": found[: int(request.query.get("limit", 50))], "total": len(found)}
        )

    async def _switch_flag(self, request: web.Request) -> web.Response:
        flag, environment = request.match_info["flag"], request.match_info["environment"]
        missing = self._missing(request)
        if missing is not None:
            return missing
        if flag in self.refuse:
            status, body = self.refuse[flag]
            return web.json_response(body, status=status)
        on, count = self.flags[flag][environment]
        self.switched.append(f"{flag} {request.match_info['state']}")
        if not self.deaf:
            on = request.match_info["state"] == "on"
            self.flags[flag][environment] = (on, max(count, 1) if on else count)
            self._note(flag, environment, on, "gatewright")
        return web.Response()


@dataclass
class LaunchDarkly:
    """One project, with environments by flag."""

    token: str
    project: str = "shop"
    flags: dict[str, dict[str, bool]] = field(default_factory=dict)
    archived: set[str] = field(default_factory=set)
    scheduled: set[str] = field(default_factory=set)
    """Flags with a pending change: a patch is refused unless conflicts are ignored."""
    busy: int = 0
    """So many patches are answered by 409."""
    limit: float | None = None
    """Seconds until the rate limit's window ends: every request is refused."""
    patches: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    """The audit log, the newest entry first."""

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._opened])
        app.router.add_get("/api/v2/caller-identity", self._caller)
        app.router.add_get("/api/v2/auditlog", self._audit)
        app.router.add_get("/api/v2/flags/{project}/{flag}", self._flag)
        app.router.add_patch("/api/v2/flags/{project}/{flag}", self._patch)
        return app

    @web.middleware
    async def _opened(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != self.token:
            return web.json_response(
                {"code": "unauthorized", "message": "Invalid access token"}, status=401
            )
        if self.limit is not None:
            headers = {
                "X-Ratelimit-Reset": str(int((time.time() + self.limit) * 1000)),
                "X-Ratelimit-Route-Remaining": "0",
            }
            return web.json_response(
                {"code": "rate_limited", "message": "slow down"}, status=429, headers=headers
            )
        return await handler(request)  # type: ignore[no-any-return]

    async def _caller(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"accountId": "507f1f77bcf86cd799439011", "tokenName": "gatewright"}
        )

    def _missing(self, request: web.Request) -> web.Response | None:
        if (
            request.match_info["project"] != self.project
            or request.match_info["flag"] not in self.flags
        ):
            return web.json_response(
                {"code": "not_found", "message": "Unknown flag key"}, status=404
            )
        return None

    def _shown(self, flag: str, environment: str | None) -> web.Response:
        environments = {
            name: {"on": on, "_version": 1}
            for name, on in self.flags[flag].items()
            if environment is None or name == environment
        }
        return web.json_response(
            {"key": flag, "archived": flag in self.archived, "environments": environments}
        )

    async def _flag(self, request: web.Request) -> web.Response:
        missing = self._missing(request)
        return missing or self._shown(request.match_info["flag"], request.query.get("env"))

    def by_hand(self, flag: str, environment: str, on: bool, by: str) -> None:
        """Somebody switches a flag in the user interface."""
        self.flags[flag][environment] = on
        entry = {
            "_id": str(len(self.log)),
            "date": 1_795_336_200_000,
            "kind": "flag",
            "member": {"email": by},
        }
        self.log.insert(0, {**entry, "spec": f"proj/{self.project}:env/{environment}:flag/{flag}"})

    async def _audit(self, request: web.Request) -> web.Response:
        found = [entry for entry in self.log if entry["spec"] == request.query.get("spec")]
        limit = int(request.query.get("limit", 10))
        if not 1 <= limit <= 20:
            return web.json_response({"code": "invalid_request", "message": "limit"}, status=400)
        return web.json_response({"items": found[:limit]})

    async def _patch(self, request: web.Request) -> web.Response:
        flag = request.match_info["flag"]
        missing = self._missing(request)
        if missing is not None:
            return missing
        if (
            request.headers["Content-Type"]
            != "application/json; domain-model=launchdarkly.semanticpatch"
        ):
            return web.json_response(
                {"code": "invalid_request", "message": "not a JSON patch"}, status=400
            )
        if self.busy:
            self.busy -= 1
            return web.json_response(
                {"code": "optimistic_locking_error", "message": "conflict"}, status=409
            )
        if flag in self.scheduled and request.query.get("ignoreConflicts") != "true":
            return web.json_response(
                {"code": "invalid_request", "message": "conflicts with a change"}, status=400
            )
        body = json.loads(await request.read())
        self.patches.append(body)
        for instruction in body["instructions"]:
            self.flags[flag][body["environmentKey"]] = {"turnFlagOn": True, "turnFlagOff": False}[
                instruction["kind"]
            ]
        return self._shown(flag, None)


def _error(status: int, name: str, message: str) -> web.Response:
    return web.json_response(
        {"id": "1", "name": name, "message": message, "details": []}, status=status
    )
