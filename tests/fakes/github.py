"""GitHub's REST API, as much of it as is asked of it: checks, issues, deployments and workflows of
one repository.

Answers hold what the API's description requires of the fields that are read. What it does not know
goes `beyond`, to a server behind it, where there is one.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

SHA = "8f3c2e1d0b9a8f7e6d5c4b3a291807f6e5d4c3b2"
REPOSITORY = "acme/shop"
_ROOT = f"/repos/{REPOSITORY}"
WORKFLOW = """name: smoke
run-name: smoke ${{ inputs.operation }}
on:
  workflow_dispatch:
    inputs:
      operation: {type: string}
"""


@dataclass
class Github:
    """One repository. Refs are names of its only commit."""

    token: str
    sha: str = SHA
    refs: set[str] = field(default_factory=lambda: {SHA, SHA[:7], "main", "v2.4.0"})
    statuses: list[dict[str, Any]] = field(default_factory=list)
    check_runs: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    states: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    workflows: dict[str, str] = field(default_factory=lambda: {"smoke.yml": WORKFLOW})
    """Files by name."""
    state: str = "active"
    """State of every workflow."""
    tells_run: bool = True
    """Whether a dispatch tells which run it has started, as Enterprise servers of old do not."""
    lags: int = 0
    """How many times the list of runs does not yet show those that were dispatched."""
    sorts: bool = True
    """Whether the list of runs is of the commit that was asked for; emulate's is not."""
    loses: list[str] = field(default_factory=list)
    """Methods whose next answer gets lost after it was carried out."""
    refuse: web.Response | None = None
    """What everything is answered."""
    beyond: str = ""
    """Base URL of the server behind this one."""
    seen: list[str] = field(default_factory=list)
    """Method and path of each request."""
    _last: int = 1000

    def check(
        self,
        name: str,
        conclusion: str | None,
        suite: int = 1,
        status: str = "completed",
        **more: Any,
    ) -> None:
        """Add a check run; a later one is a newer attempt."""
        run = {
            "id": self._next(),
            "name": name,
            "head_sha": SHA,
            "status": status,
            "conclusion": conclusion,
        }
        self.check_runs.append(
            {**run, "check_suite": {"id": suite}, "app": {"slug": "github-actions"}, **more}
        )

    def run(
        self,
        name: str,
        conclusion: str | None,
        workflow: int = 1,
        suite: int = 1,
        status: str = "completed",
        **more: Any,
    ) -> dict[str, Any]:
        """Add a workflow run."""
        number = self._next()
        run = {
            "id": number,
            "name": name,
            "display_title": name,
            "head_sha": SHA,
            "status": status,
            "conclusion": conclusion,
            "workflow_id": workflow,
            "check_suite_id": suite,
            "run_number": number,
            "run_attempt": 1,
            "event": "push",
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "html_url": f"https://github.com/{REPOSITORY}/actions/runs/{number}",
            **more,
        }
        self.runs.append(run)
        return run

    def issue(self, *labels: str, pull: bool = False, state: str = "open") -> None:
        """Add an issue, or a pull request, which to GitHub is one too."""
        self.labels |= set(labels)
        number = self._next()
        item = {
            "id": number,
            "number": number,
            "state": state,
            "labels": [{"name": label} for label in labels],
        }
        self.issues.append(
            {**item, **({"pull_request": {"url": "https://api.github.com/x"}} if pull else {})}
        )

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._guarded])
        get, post = app.router.add_get, app.router.add_post
        get("/rate_limit", self._rate_limit)
        get(_ROOT, self._repository)
        get(_ROOT + "/commits/{ref}/status", self._status)
        get(_ROOT + "/issues", self._issues)
        get(_ROOT + "/labels/{name}", self._label)
        get(_ROOT + "/commits/{ref}/check-runs", self._check_runs)
        get(_ROOT + "/actions/runs", self._runs)
        get(_ROOT + "/actions/runs/{id}", self._run)
        get(_ROOT + "/actions/runs/{id}/jobs", self._jobs)
        get(_ROOT + "/actions/workflows/{file}", self._workflow)
        get(_ROOT + "/actions/workflows/{file}/runs", self._workflow_runs)
        post(_ROOT + "/actions/workflows/{file}/dispatches", self._dispatch)
        get(_ROOT + "/contents/{path:.+}", self._contents)
        get(_ROOT + "/deployments", self._deployments)
        post(_ROOT + "/deployments", self._deploy)
        get(_ROOT + "/deployments/{id}/statuses", self._states)
        post(_ROOT + "/deployments/{id}/statuses", self._set_state)
        return app

    def _next(self) -> int:
        self._last += 1
        return self._last

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        if self.refuse is not None:
            return web.Response(
                status=self.refuse.status, text=self.refuse.text, headers=self.refuse.headers
            )
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _message("Bad credentials", 401)
        try:
            reply: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            reply = await self._passed_on(request) if self.beyond else _message("Not Found", 404)
        if request.method in self.loses:
            self.loses.remove(request.method)
            assert request.transport is not None
            request.transport.abort()
        return reply

    async def _passed_on(self, request: web.Request) -> web.Response:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.token}"}) as session,
            session.request(
                request.method, self.beyond + request.path_qs, data=await request.read()
            ) as reply,
        ):
            headers = {name: reply.headers[name] for name in ("Link",) if name in reply.headers}
            kind = reply.content_type
            return web.Response(
                body=await reply.read(), status=reply.status, content_type=kind, headers=headers
            )

    async def _rate_limit(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"resources": {"core": {"limit": 5000, "remaining": 4999, "reset": 1}}, "rate": {}}
        )

    async def _repository(self, request: web.Request) -> web.Response:
        return web.json_response({"id": 1, "full_name": REPOSITORY})

    # --- checks

    async def _status(self, request: web.Request) -> web.Response:
        if request.match_info["ref"] not in self.refs:
            return _message(f"No commit found for SHA: {request.match_info['ref']}", 422)
        shown, _ = _paged(request, self.statuses)
        return web.json_response(
            {
                "state": "pending",
                "statuses": shown,
                "sha": self.sha,
                "total_count": len(self.statuses),
            }
        )

    async def _check_runs(self, request: web.Request) -> web.Response:
        if self.beyond:
            raise web.HTTPNotFound
        newest = {(run["name"], run["check_suite"]["id"]): run for run in self.check_runs}
        wanted = (
            list(newest.values())
            if request.query.get("filter", "latest") == "latest"
            else self.check_runs
        )
        return _list(request, wanted, "check_runs")

    async def _runs(self, request: web.Request) -> web.Response:
        if self.beyond:
            raise web.HTTPNotFound
        sha = request.query.get("head_sha")
        return _list(
            request,
            [
                run
                for run in reversed(self.runs)
                if not self.sorts or sha in (None, run["head_sha"])
            ],
            "workflow_runs",
        )

    # --- issues

    async def _issues(self, request: web.Request) -> web.Response:
        if self.beyond:
            raise web.HTTPNotFound
        wanted = set(request.query["labels"].split(","))
        found = [
            item for item in self.issues if item["state"] == request.query.get("state", "open")
        ]
        return _list(
            request,
            [item for item in found if wanted <= {label["name"] for label in item["labels"]}],
        )

    async def _label(self, request: web.Request) -> web.Response:
        if self.beyond or request.match_info["name"] not in self.labels:
            raise web.HTTPNotFound
        return web.json_response({"id": 1, "name": request.match_info["name"]})

    # --- workflows

    async def _run(self, request: web.Request) -> web.Response:
        run = next((run for run in self.runs if str(run["id"]) == request.match_info["id"]), None)
        return web.json_response(run) if run else _message("Not Found", 404)

    async def _jobs(self, request: web.Request) -> web.Response:
        steps = [
            {"name": "Set up", "conclusion": "success"},
            {"name": "Run smoke", "conclusion": "failure"},
        ]
        jobs = [
            {"id": 1, "name": "lint", "conclusion": "success", "steps": []},
            {"id": 2, "name": "e2e", "conclusion": "failure", "steps": steps},
        ]
        return _list(request, jobs, "jobs")

    async def _workflow(self, request: web.Request) -> web.Response:
        file = request.match_info["file"]
        if file not in self.workflows:
            return _message("Not Found", 404)
        return web.json_response(
            {"id": 7, "name": "smoke", "path": f".github/workflows/{file}", "state": self.state}
        )

    async def _contents(self, request: web.Request) -> web.Response:
        text = self.workflows.get(request.match_info["path"].removeprefix(".github/workflows/"))
        if text is None or request.query.get("ref") not in self.refs:
            return _message("Not Found", 404)
        # GitHub breaks the lines of its base64
        return web.json_response(
            {
                "type": "file",
                "encoding": "base64",
                "content": base64.encodebytes(text.encode()).decode(),
            }
        )

    async def _workflow_runs(self, request: web.Request) -> web.Response:
        found = [
            run
            for run in reversed(self.runs)
            if run["event"] == request.query.get("event", run["event"])
        ]
        if self.lags:
            self.lags -= 1
            found = []
        return _list(request, found, "workflow_runs")

    async def _dispatch(self, request: web.Request) -> web.Response:
        body = await request.json()
        strange = [
            name
            for name in body.get("inputs", {})
            if name not in self.workflows[request.match_info["file"]]
        ]
        if strange or body["ref"] not in self.refs:
            return _message(f"Unexpected inputs provided: {strange}", 422)
        title = f"smoke {body['inputs'].get('operation', '')}"
        run = self.run(
            "smoke", None, status="queued", event="workflow_dispatch", display_title=title
        )
        if not body.get("return_run_details") or not self.tells_run:
            return web.Response(status=204)
        urls = {
            "run_url": f"https://api.github.com{_ROOT}/actions/runs/{run['id']}",
            "html_url": run["html_url"],
        }
        return web.json_response({"workflow_run_id": run["id"], **urls})

    # --- deployments

    async def _deployments(self, request: web.Request) -> web.Response:
        wanted = {
            name: request.query[name] for name in ("environment", "ref") if name in request.query
        }
        return _list(
            request, [item for item in reversed(self.deployments) if wanted.items() <= item.items()]
        )

    async def _deploy(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["ref"] not in self.refs:
            return _message(f"No ref found for: {body['ref']}", 422)
        if body.get("required_contexts") != [] or body.get("auto_merge", True):
            return _message("Conflict: Commit status checks failed", 409)
        self.deployments.append({"id": self._next(), "sha": SHA, "task": "deploy", **body})
        return web.json_response(self.deployments[-1], status=201)

    async def _states(self, request: web.Request) -> web.Response:
        return _list(request, list(reversed(self.states.get(int(request.match_info["id"]), []))))

    async def _set_state(self, request: web.Request) -> web.Response:
        body, number = await request.json(), int(request.match_info["id"])
        if number not in {item["id"] for item in self.deployments}:
            return _message("Not Found", 404)
        if len(body.get("description", "")) > 140:
            return _message("description is too long (maximum is 140 characters)", 422)
        self.states.setdefault(number, []).append({"id": self._next(), **body})
        return web.json_response(self.states[number][-1], status=201)


def limited(
    status: int, headers: Mapping[str, str], text: str = "API rate limit exceeded for user ID 1."
) -> web.Response:
    """A limit as GitHub has it."""
    return web.json_response({"message": text}, status=status, headers=dict(headers))


def _message(text: str, status: int) -> web.Response:
    return web.json_response(
        {"message": text, "documentation_url": "https://docs.github.com/rest"}, status=status
    )


def _paged(request: web.Request, items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    page, size = int(request.query.get("page", "1")), int(request.query.get("per_page", "30"))
    return items[(page - 1) * size : page * size], page * size < len(items)


def _list(request: web.Request, items: list[dict[str, Any]], key: str = "") -> web.Response:
    shown, more = _paged(request, items)
    body: Any = {"total_count": len(items), key: shown} if key else shown
    page = int(request.query.get("page", "1"))
    link = (
        f'<https://elsewhere.invalid/?page={page + 1}>; rel="next", '
        '<https://elsewhere.invalid/?page=9>; rel="last"'
    )
    return web.json_response(body, headers={"Link": link} if more else {})
