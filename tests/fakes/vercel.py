"""Vercel's REST API, as far as a deployment pipeline needs it: one team, one project, its
deployments.

Nothing moves by the clock: a deployment gets one phase further each time it is read, an alias job
each time the project is. A deployment keeps the variables it was built with (`baked`) and is served
on a port of its own, so that a test can ask what users would see. Bodies with fields that Vercel
does not know are refused, as Vercel does. `vercel` itself, the vendor's CLI, and the vendor's SDK
are driven against this in `test_vercel_cli.py`.

    python -m tests.fakes.vercel --port 4100          a stand-in for whoever wants to look at it
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BODY = {
    "name",
    "project",
    "target",
    "meta",
    "gitSource",
    "deploymentId",
    "files",
    "autoAssignCustomDomains",
    "customEnvironmentSlugOrId",
    "gitMetadata",
    "monorepoManager",
    "projectSettings",
    "withLatestCommit",
}
_ENV = {"key", "value", "type", "target", "gitBranch", "comment", "customEnvironmentIds"}
_GIT = {"github": {"repoId"}, "gitlab": {"projectId"}, "bitbucket": {"repoUuid"}}
_AGGREGATIONS = {
    "sum",
    "persecond",
    "percent",
    "unique",
    "avg",
    "min",
    "max",
    "p50",
    "p75",
    "p90",
    "p95",
    "p99",
}


def refused(status: int, code: str, message: str, **more: Any) -> web.Response:
    """An error as Vercel words it."""
    return web.json_response({"error": {"code": code, "message": message, **more}}, status=status)


def _sha(ref: str) -> str:
    return hashlib.sha1(ref.encode()).hexdigest()


@dataclass
class Deployment:
    """A deployment, with what it was built from."""

    id: str
    target: str
    created: int
    meta: dict[str, str]
    git: dict[str, Any] | None
    baked: dict[str, str]
    phases: list[str]
    url: str = ""
    assign: bool = True
    substate: str | None = "STAGED"
    ready: int | None = None
    assigned: int | None = None
    """When it got the production domains."""
    extra: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    runtime: list[dict[str, Any]] = field(default_factory=list)
    answer: tuple[int, Any] | None = None
    """What it answers to a smoke request, in place of its health."""

    @property
    def state(self) -> str:
        """`readyState`."""
        return self.phases[0]


@dataclass
class Vercel:
    """Everything there is; tests look at it and change it."""

    token: str = "vercel-token-for-tests"
    bypass: str = ""
    """The secret of "Protection Bypass for Automation"; deployments are protected where there is
    one."""
    team: str | None = "team_foco"
    slug: str = "foco-inc"
    deployments: dict[str, Deployment] = field(default_factory=dict)
    env: dict[str, dict[str, Any]] = field(default_factory=dict)
    shared: list[dict[str, Any]] = field(default_factory=list)
    hidden: int = 0
    phases: list[str] = field(default_factory=lambda: ["QUEUED", "BUILDING", "READY"])
    """The phases that the next deployment goes through."""
    jobs: list[str] = field(default_factory=lambda: ["pending", "in-progress", "succeeded"])
    """The phases that the next alias job goes through."""
    job: list[str] = field(default_factory=list)
    project: dict[str, Any] = field(default_factory=dict)
    rolling: dict[str, Any] | None = None
    queue: str | None = None
    metrics: dict[tuple[str, str], Any] = field(default_factory=dict)
    """Value by metric and aggregation, or by metric, aggregation and a part of the filter joined as
    `agg|part`."""
    faults: list[tuple[str, str, Handler]] = field(default_factory=list)
    """Requests answered otherwise: method, regular expression for the path, handler."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The same with their queries."""
    bodies: list[tuple[str, str, Any]] = field(default_factory=list)
    served: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Requests to deployments: id, path, headers."""
    hold: asyncio.Event | None = None
    """What deployments wait for before they answer."""
    host: str = "127.0.0.1"
    _runners: list[web.AppRunner] = field(default_factory=list)
    _last: int = 0
    _number: int = 0

    def __post_init__(self) -> None:
        self.project = {
            "id": "prj_foco",
            "name": "foco",
            "accountId": self.team or "user_1",
            "link": {
                "type": "github",
                "repoId": 4711,
                "org": "foco",
                "repo": "foco",
                "productionBranch": "main",
            },
            "autoAssignCustomDomains": True,
            "targets": {},
            "framework": "nextjs",
            "protectionBypass": {self.bypass: {"scope": "automation-bypass", "createdAt": 1}}
            if self.bypass
            else {},
        }

    # --- what tests do

    def now(self) -> int:
        """Milliseconds, never the same twice."""
        self._last = max(int(time.time() * 1000), self._last + 1)
        return self._last

    async def add(self, version: str, **fields: Any) -> Deployment:
        """A production deployment that was built from Git an hour ago and is live now."""
        git = {"type": "github", "repoId": 4711, "ref": f"v{version}", "sha": _sha(version)}
        made = await self._make(
            "production",
            {"githubCommitRef": f"v{version}", "githubCommitSha": git["sha"]},
            git,
            ["READY"],
        )
        for name, value in fields.items():
            setattr(made, name, value)
        made.created -= 3_600_000
        made.ready = made.created + 60_000
        self._serve(made)
        return made

    async def push(self, ref: str, by: str, promoted: bool = True) -> Deployment:
        """Somebody pushes to the production branch: Vercel builds it, and gives it the production
        domains by itself."""
        git = {"type": "github", "repoId": 4711, "ref": ref, "sha": _sha(ref)}
        meta = {
            "githubCommitRef": ref,
            "githubCommitSha": _sha(ref),
            "githubCommitAuthorLogin": f"{by}-at-github",
        }
        made = await self._make("production", meta, git, ["READY"])
        made.extra, made.ready = {"creator": {"uid": "user_2", "username": by}}, self.now()
        if promoted:
            self._serve(made)
        return made

    async def redeploy(self, origin: Deployment, by: str) -> Deployment:
        """Somebody presses Redeploy in the dashboard: a copy with the same meta gets the production
        domains."""
        meta = {**origin.meta, "action": "redeploy", "originalDeploymentId": origin.id}
        made = await self._make("production", meta, origin.git, ["READY"])
        made.extra, made.ready = {"creator": {"uid": "user_2", "username": by}}, self.now()
        self._serve(made)
        return made

    def move(self, kind: str, made: Deployment, by: str = "", why: str = "") -> None:
        """Somebody promotes a deployment, or rolls back to it, in the dashboard."""
        self._request(kind, made.id)
        self.job = []
        self.project["lastAliasRequest"]["jobStatus"] = "succeeded"
        if kind == "rollback":
            told = {"createdAt": self.now(), "userId": "user_2", "username": by, "description": why}
            self.project["rollbackDescription"] = told
        self._serve(made)

    def set(
        self, key: str, value: str, kind: str = "plain", age: int = 7_200_000, **more: Any
    ) -> dict[str, Any]:
        """A variable of production, changed `age` milliseconds ago."""
        at = self.now() - age
        found = next((item for item in self.env.values() if item["key"] == key), None)
        item = {
            "id": found["id"] if found else f"env_{len(self.env) + 1}",
            "key": key,
            "value": value,
            "type": kind,
            "target": ["production"],
            "createdAt": at,
            "updatedAt": at,
            **more,
        }
        self.env[item["id"]] = item
        return item

    def variable(self, key: str) -> dict[str, Any]:
        """A variable by its name."""
        return next(item for item in self.env.values() if item["key"] == key)

    @property
    def live(self) -> Deployment | None:
        """What the production domains lead to."""
        target = self.project["targets"].get("production")
        return self.deployments[target["id"]] if target else None

    def made(self, key: str) -> list[Deployment]:
        """Deployments that an operation made."""
        return [item for item in self.deployments.values() if item.meta.get("gatewrightKey") == key]

    def posts(self) -> list[str]:
        """What has been asked to change something."""
        return [
            f"{method} {path}" for method, path in self.requests if method not in ("GET", "HEAD")
        ]

    # --- the application

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._gatekeeper])
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/v2/user", self._user),
            ("GET", "/v{version:[12]}/teams", self._teams),
            ("GET", "/v2/teams/{team}", self._team),
            ("GET", "/v9/projects/{project}", self._project),
            ("GET", "/v{version:[67]}/deployments", self._list),
            ("GET", "/v13/deployments/{id}", self._deployment),
            ("POST", "/v13/deployments", self._create),
            ("PATCH", "/v12/deployments/{id}/cancel", self._cancel),
            ("DELETE", "/v13/deployments/{id}", self._delete),
            ("GET", "/v{version:[23]}/deployments/{id}/events", self._events),
            ("GET", "/v3/now/deployments/{id}/events", self._events),
            ("GET", "/v1/projects/{project}/deployments/{id}/runtime-logs", self._runtime),
            ("POST", "/v10/projects/{project}/promote/{id}", self._promote),
            ("POST", "/v{version:[19]}/projects/{project}/rollback/{id}", self._rollback),
            (
                "GET",
                "/v{version:[19]}/projects/{project}/{kind:promote|rollback}/aliases",
                self._aliases,
            ),
            ("GET", "/v1/projects/{project}/rolling-release", self._rolling),
            ("GET", "/v10/projects/{project}/env", self._env_list),
            ("POST", "/v10/projects/{project}/env", self._env_create),
            ("GET", "/v1/projects/{project}/env/{id}", self._env_get),
            ("PATCH", "/v9/projects/{project}/env/{id}", self._env_edit),
            ("DELETE", "/v9/projects/{project}/env/{id}", self._env_delete),
            ("GET", "/v1/env", self._env_shared),
            ("GET", "/v2/observability/schema/{metric}", self._schema),
            ("POST", "/v2/observability/query", self._query),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
        app.on_cleanup.append(self._close)
        return app

    @web.middleware
    async def _gatekeeper(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        self.asked.append(request.path_qs)
        for method, pattern, fault in self.faults:
            if request.method == method and re.search(pattern, request.path):
                return await fault(request)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return refused(403, "forbidden", "Not authorized", invalidToken=True)
        named = request.query.get("teamId") or request.query.get("slug")
        if named and named not in (self.team, self.slug):
            return refused(
                403, "forbidden", "Not authorized: Trying to access resource under another scope"
            )
        if "project" in request.match_info and request.match_info["project"] not in (
            "foco",
            "prj_foco",
        ):
            return refused(404, "not_found", "Project not found.")
        if "project" in request.match_info and self.team and not named:
            return refused(404, "not_found", "Project not found.")
        if request.can_read_body:
            self.bodies.append((request.method, request.path, await request.json()))
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return refused(
                404, "not_found", f"The requested API endpoint was not found: {request.path}"
            )

    async def _close(self, app: web.Application) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _user(self, request: web.Request) -> web.StreamResponse:
        user = {
            "id": "user_1",
            "username": "deploy",
            "email": "deploy@foco.mx",
            "name": "Deploy",
            "version": "northstar",
        }
        return web.json_response({"user": {**user, "defaultTeamId": self.team}})

    def _as_team(self) -> dict[str, Any]:
        return {
            "id": self.team,
            "slug": self.slug,
            "name": "Foco",
            "membership": {"role": "MEMBER"},
            "createdAt": 1,
        }

    async def _teams(self, request: web.Request) -> web.StreamResponse:
        teams = [self._as_team()] if self.team else []
        return web.json_response(
            {"teams": teams, "pagination": {"count": len(teams), "next": None, "prev": None}}
        )

    async def _team(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["team"] not in (self.team, self.slug):
            return refused(403, "forbidden", "Not authorized")
        return web.json_response(self._as_team())

    # --- the project and its alias job

    async def _project(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("rollbackInfo") == "true":
            self._work()
        live = self.live
        if live is not None:
            self.project["targets"]["production"] = self._brief(live)
        return web.json_response(self.project)

    def _work(self) -> None:
        """One step of the alias job."""
        last = self.project.get("lastAliasRequest")
        if not self.job or last is None:
            return
        last["jobStatus"] = self.job.pop(0)
        if last["jobStatus"] == "succeeded":
            self._serve(self.deployments[last["toDeploymentId"]])
            self.project["autoAssignCustomDomains"] = last["type"] == "promote"

    def _serve(self, made: Deployment) -> None:
        made.substate = "PROMOTED"
        made.assigned = self.now()
        self.project["targets"]["production"] = self._brief(made)

    def _request(self, kind: str, identity: str) -> None:
        live = self.live
        self.job = list(self.jobs)
        self.project["lastAliasRequest"] = {
            "fromDeploymentId": live.id if live else None,
            "toDeploymentId": identity,
            "jobStatus": self.job.pop(0),
            "requestedAt": self.now(),
            "type": kind,
        }

    def _busy(self) -> bool:
        return (self.project.get("lastAliasRequest") or {}).get("jobStatus") in (
            "pending",
            "in-progress",
        )

    async def _promote(self, request: web.Request) -> web.StreamResponse:
        made = self.deployments.get(request.match_info["id"])
        if made is None or made.target != "production":
            return refused(404, "not_found", "Deployment not found")
        if made.state != "READY":
            return refused(422, "unprocessable_entity", "Deployment is not ready")
        if self._busy():
            return refused(409, "conflict", "Another request is in progress")
        if self.project.get("rollingRelease"):
            if self.rolling is not None:
                self.queue = made.id
                return web.json_response({}, status=202)
            made.substate = "ROLLING"
            self.rolling = {"canary": made.id, "share": 10}
            return web.Response(status=201)
        self._request("promote", made.id)
        return web.Response(status=201)

    async def _rollback(self, request: web.Request) -> web.StreamResponse:
        made = self.deployments.get(request.match_info["id"])
        if made is None:
            return refused(404, "not_found", "Deployment not found")
        if made.substate != "PROMOTED":
            return refused(422, "unprocessable_entity", "Deployment was never promoted")
        if self._busy():
            return refused(409, "conflict", "Another request is in progress")
        if request.query.get("description"):
            described = {
                "description": request.query["description"],
                "createdAt": self.now(),
                "userId": "user_1",
            }
            self.project["rollbackDescription"] = described
        self.rolling = self.queue = None
        self._request("rollback", made.id)
        return web.json_response({}, status=201)

    async def _aliases(self, request: web.Request) -> web.StreamResponse:
        last = self.project.get("lastAliasRequest") or {}
        failed = last.get("jobStatus") == "failed"
        to = last.get("toDeploymentId")
        item = {"id": "1", "status": "failed", "alias": {"alias": "foco.mx", "deploymentId": to}}
        return web.json_response(
            {"aliases": [item] if failed else [], "pagination": {"next": None}}
        )

    async def _rolling(self, request: web.Request) -> web.StreamResponse:
        if self.rolling is None:
            return web.json_response({"rollingRelease": None})
        live = self.live
        stage = {
            "index": 0,
            "isFinalStage": False,
            "targetPercentage": self.rolling["share"],
            "duration": 5,
        }
        return web.json_response(
            {
                "rollingRelease": {
                    "state": "ACTIVE",
                    "substate": None,
                    "currentDeployment": self._brief(live) if live else None,
                    "canaryDeployment": self._brief(self.deployments[self.rolling["canary"]]),
                    "queuedDeploymentId": self.queue,
                    "activeStage": {
                        **stage,
                        "requireApproval": self.rolling.get("approval", False),
                    },
                    "nextStage": None,
                    "currentCanaryPercentage": self.rolling["share"],
                }
            }
        )

    def roll_out(self) -> None:
        """The rolling release ends well; what was queued behind it begins."""
        assert self.rolling is not None
        self._serve(self.deployments[self.rolling["canary"]])
        self.rolling = None
        if self.queue is not None:
            self.deployments[self.queue].substate = "ROLLING"
            self.rolling, self.queue = {"canary": self.queue, "share": 10}, None

    # --- deployments

    def _brief(self, made: Deployment) -> dict[str, Any]:
        return {
            "id": made.id,
            "url": made.url,
            "createdAt": made.created,
            "readyState": made.state,
            "readySubstate": made.substate if made.state == "READY" else None,
            "meta": made.meta,
            "target": made.target,
            "ready": made.ready,
            "aliasAssigned": made.assigned,
        }

    def _full(self, made: Deployment) -> dict[str, Any]:
        more = {
            "uid": made.id,
            "name": "foco",
            "projectId": "prj_foco",
            "ownerId": self.project["accountId"],
            "status": made.state,
            "inspectorUrl": f"https://vercel.invalid/foco/{made.id}",
            "gitSource": made.git,
            "aliasAssigned": made.substate == "PROMOTED",
            "autoAssignCustomDomains": made.assign,
            "env": sorted(made.baked),
            "build": {"env": []},
            "creator": {"uid": "user_1", "username": "deploy"},
            "regions": ["iad1"],
            "public": False,
            "version": 2,
            "team": {"id": self.team, "slug": self.slug, "name": "Foco"} if self.team else None,
        }
        return {
            name: value
            for name, value in {**self._brief(made), **more, **made.extra}.items()
            if value is not None
        }

    def _advance(self, made: Deployment) -> None:
        if len(made.phases) > 1:
            made.phases.pop(0)
        if made.state == "READY" and made.ready is None:
            made.ready = self.now()
            if (
                made.target == "production"
                and made.assign
                and self.project["autoAssignCustomDomains"]
            ):
                self._serve(made)

    async def _deployment(self, request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["id"]
        found = next(
            (item for item in self.deployments.values() if wanted in (item.id, item.url)), None
        )
        if found is None:
            return refused(404, "not_found", "The deployment could not be found", id=wanted)
        self._advance(found)
        return web.json_response(self._full(found))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        wanted = {
            name.removeprefix("meta-"): value
            for name, value in query.items()
            if name.startswith("meta-")
        }
        found = [item for item in self.deployments.values() if wanted.items() <= item.meta.items()]
        if "target" in query:
            found = [item for item in found if item.target == query["target"]]
        if "projectId" in query and query["projectId"] != "prj_foco":
            found = []
        found.sort(key=lambda item: item.created, reverse=True)
        if "until" in query:
            found = [item for item in found if item.created < int(query["until"])]
        limit = int(query.get("limit", 20))
        page, rest = found[:limit], found[limit:]
        creator = {"uid": "user_1", "username": "deploy"}
        same = {"name": "foco", "type": "LAMBDAS", "projectId": "prj_foco", "creator": creator}
        items = [
            {**self._brief(item), "uid": item.id, "created": item.created, **same} for item in page
        ]
        for item in items:
            item.pop("id")
        following = page[-1].created if rest else None
        pagination = {"count": len(page), "next": following, "prev": None}
        return web.json_response({"deployments": items, "pagination": pagination})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        strange = sorted(body.keys() - _BODY)
        if strange:
            text = f"Invalid request: should NOT have additional property `{strange[0]}`."
            return refused(400, "bad_request", text)
        if not isinstance(body.get("name"), str):
            return refused(400, "bad_request", "Invalid request: missing required property `name`.")
        if body.get("project", "prj_foco") not in ("foco", "prj_foco"):
            return refused(404, "not_found", "Project not found.")
        if any(not isinstance(value, str) for value in (body.get("meta") or {}).values()):
            return refused(400, "bad_request", "Invalid request: `meta` should be strings.")
        git, baked = body.get("gitSource"), self._environment()
        if git is not None:
            needed = {"type", "ref"} | _GIT.get(git.get("type"), {"repoUuid"})
            if not needed <= git.keys() or "files" in body or "deploymentId" in body:
                return refused(400, "bad_request", "Invalid request: `gitSource` is not valid.")
            if git.get("repoId", 4711) != 4711 or "missing" in git["ref"]:
                return refused(
                    400,
                    "incorrect_git_source_info",
                    "The provided GitHub repository can't be found",
                )
            git = {**git, "sha": git.get("sha") or _sha(git["ref"])}
        elif "deploymentId" in body:
            origin = self.deployments.get(body["deploymentId"])
            if origin is None:
                return refused(404, "not_found", "Deployment not found")
            # Inherited, unless the request says otherwise.
            git, baked = origin.git, dict(origin.baked)
        else:
            return refused(400, "missing_files", "Missing files")
        made = await self._make(
            body.get("target", "preview"), dict(body.get("meta") or {}), git, list(self.phases)
        )
        made.baked, made.assign = baked, body.get("autoAssignCustomDomains", True)
        return web.json_response(self._full(made))

    def _environment(self) -> dict[str, str]:
        own = {
            item["key"]: item["value"]
            for item in self.env.values()
            if "production" in item["target"]
        }
        return {item["key"]: item["value"] for item in self.shared} | own

    async def _make(
        self, target: str, meta: dict[str, str], git: dict[str, Any] | None, phases: list[str]
    ) -> Deployment:
        self._number += 1
        made = Deployment(
            f"dpl_{self._number}", target, self.now(), meta, git, self._environment(), phases
        )
        made.url = await self._open(made)
        self.deployments[made.id] = made
        return made

    async def _open(self, made: Deployment) -> str:
        """Serve a deployment on a port of its own."""

        async def answer(request: web.Request) -> web.StreamResponse:
            self.served.append((made.id, request.path, dict(request.headers)))
            if self.hold is not None:
                await self.hold.wait()
            if self.bypass and request.headers.get("x-vercel-protection-bypass") != self.bypass:
                return web.Response(
                    status=401,
                    text="<!doctype html>Authentication Required",
                    content_type="text/html",
                )
            if made.answer is not None:
                return web.json_response(made.answer[1], status=made.answer[0])
            version = made.meta.get("gatewrightVersion") or (made.git or {}).get(
                "ref", ""
            ).removeprefix("v")
            return web.json_response(
                {"status": "ok", "version": version, "ready": True, "env": sorted(made.baked)}
            )

        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, self.host, 0).start()
        self._runners.append(runner)
        return f"{self.host}:{runner.addresses[0][1]}"

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        made = self.deployments.get(request.match_info["id"])
        if made is None:
            return refused(404, "not_found", "Deployment not found")
        if made.state == "READY":
            return refused(400, "bad_request", "Deployment is already done")
        made.phases = ["CANCELED"]
        return web.json_response(self._full(made))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if self.deployments.pop(request.match_info["id"], None) is None:
            return refused(404, "not_found", "Deployment not found")
        return web.json_response({"uid": request.match_info["id"], "state": "DELETED"})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        made = self.deployments.get(request.match_info["id"])
        if made is None:
            return refused(404, "not_found", "Deployment not found")
        base = {"deploymentId": made.id, "info": {"type": "build", "name": "bld_1"}}
        events = [
            {
                "type": "stderr" if "rror" in line else "stdout",
                "created": index,
                "text": line,
                **base,
            }
            for index, line in enumerate(made.log)
        ]
        events.append({"type": "deployment-state", "created": len(events), **base})
        if request.query.get("direction") == "backward":
            events.reverse()
        if request.query.get("format") == "lines":
            lines = "".join(json.dumps(event) + "\n" for event in events)
            return web.Response(text=lines, content_type="application/stream+json")
        limit = int(request.query.get("limit", 100))
        return web.json_response(events[:limit] if limit >= 0 else events)

    async def _runtime(self, request: web.Request) -> web.StreamResponse:
        made = self.deployments.get(request.match_info["id"])
        if made is None:
            return refused(404, "not_found", "Deployment not found")
        stream = web.StreamResponse(headers={"Content-Type": "application/stream+json"})
        await stream.prepare(request)
        for line in made.runtime:
            await stream.write(
                json.dumps({"source": "serverless", "rowId": "1", **line}).encode() + b"\n"
            )
        # A line that is still being written; then nothing, and no end.
        await stream.write(b'{"level":"err')
        try:
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass
        return stream

    # --- variables

    def _shown(self, item: Mapping[str, Any], decrypt: bool = False) -> dict[str, Any]:
        readable = item["type"] == "plain" or (decrypt and item["type"] == "encrypted")
        return {
            **item,
            "value": item["value"] if readable else "",
            "decrypted": readable,
            "securityIssues": [],
        }

    async def _env_list(self, request: web.Request) -> web.StreamResponse:
        decrypt = request.query.get("decrypt") == "true"
        shown = [self._shown(item, decrypt) for item in self.env.values()]
        return web.json_response({"envs": shown, "hiddenProductionEnvCount": self.hidden})

    async def _env_get(self, request: web.Request) -> web.StreamResponse:
        found = self.env.get(request.match_info["id"])
        return (
            web.json_response(self._shown(found, True))
            if found
            else refused(404, "not_found", "not found")
        )

    async def _env_create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        items = body if isinstance(body, list) else [body]
        for item in items:
            if item.keys() - _ENV or not {"key", "value", "type", "target"} <= item.keys():
                return refused(400, "bad_request", "Invalid request: not an environment variable")
            if len(item.get("comment", "")) > 500:
                return refused(
                    400,
                    "bad_request",
                    "Invalid request: `comment` should NOT be longer than 500 characters",
                )
            known = any(item["key"] == other["key"] for other in self.env.values())
            if known and request.query.get("upsert") != "true":
                return refused(409, "ENV_CONFLICT", f"The variable {item['key']} exists already")
            fields = {
                name: value for name, value in item.items() if name not in ("key", "value", "type")
            }
            self.set(item["key"], item["value"], item["type"], age=0, **fields)
        created = [self._shown(self.variable(item["key"])) for item in items]
        return web.json_response({"created": created, "failed": []}, status=201)

    async def _env_edit(self, request: web.Request) -> web.StreamResponse:
        found = self.env.get(request.match_info["id"])
        body = await request.json()
        if found is None:
            return refused(404, "not_found", "not found")
        if body.keys() - _ENV or len(body.get("comment", "")) > 500:
            return refused(400, "bad_request", "Invalid request")
        found |= {**body, "updatedAt": self.now(), "updatedBy": "user_1"}
        return web.json_response(self._shown(found))

    async def _env_delete(self, request: web.Request) -> web.StreamResponse:
        found = self.env.pop(request.match_info["id"], None)
        return (
            web.json_response(self._shown(found))
            if found
            else refused(404, "not_found", "not found")
        )

    async def _env_shared(self, request: web.Request) -> web.StreamResponse:
        shown = [
            {"type": "encrypted", "securityIssues": [], **item, "value": ""} for item in self.shared
        ]
        return web.json_response(
            {"data": shown, "pagination": {"count": len(shown), "next": None, "prev": None}}
        )

    # --- observability

    async def _schema(self, request: web.Request) -> web.StreamResponse:
        metric = request.match_info["metric"]
        known = sorted(
            {aggregation.partition("|")[0] for name, aggregation in self.metrics if name == metric}
        )
        if not known:
            return refused(400, "unknown_metric", f'Unknown metric "{metric}".')
        names = [{"name": name, "label": name} for name in ("environment", "http_status", "route")]
        about = {"id": metric, "description": metric, "dimensions": names, "unit": "count"}
        return web.json_response([{**about, "aggregations": known, "defaultAggregation": known[0]}])

    async def _query(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        scope = body.get("scope") or {}
        if scope.get("ownerId") != self.project["accountId"] or scope.get("projectIds") != [
            "prj_foco"
        ]:
            return refused(403, "forbidden", "Not authorized")
        metric, aggregation = body.get("metric"), body.get("aggregation", "sum")
        if aggregation not in _AGGREGATIONS or not any(name == metric for name, _ in self.metrics):
            return refused(400, "unknown_metric", f'Unknown metric "{metric}".')
        if not body["startTime"] < body["endTime"] or "environment eq 'production'" not in body.get(
            "filter", ""
        ):
            return web.json_response({"data": [], "summary": [], "statistics": {}})
        special = [
            value
            for (name, key), value in self.metrics.items()
            if name == metric
            and key.startswith(f"{aggregation}|")
            and key.partition("|")[2] in body["filter"]
        ]
        plain = [] if "http_status" in body["filter"] else [self.metrics.get((metric, aggregation))]
        value = next((item for item in [*special, *plain] if item is not None), None)
        column = f"{metric}_{aggregation}".replace(".", "_").replace("/", "_")
        rows = [] if value is None else [{column: value}]
        data = [{"timestamp": body["startTime"], **row} for row in rows]
        return web.json_response({"data": data, "summary": rows, "statistics": {"rowsRead": 1}})


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for Vercel's API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4100)
    parser.add_argument("--version", default="2.3.1", help="what production is at the start")
    arguments = parser.parse_args()
    fake = Vercel(host=arguments.host)
    runner = web.AppRunner(fake.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, arguments.host, arguments.port).start()
    await fake.add(arguments.version)
    print(
        f"http://{arguments.host}:{arguments.port} token {fake.token} team {fake.team} project foco"
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
