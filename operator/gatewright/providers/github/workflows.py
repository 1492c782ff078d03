"""Workflows: one is started, and found again by the key of the operation.

A workflow run has no field for a key. The workflow takes it as an input and shows it in its own
`run-name`. A workflow that does not show its input could be started twice after a crash, so it is
refused before anything is done.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from gatewright.api.base import Key, Model, Text
from gatewright.api.rules import NoKeyOf, Rule
from gatewright.core.fair_memory import FairMemory
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import NotFound, OpenConnection, Permanent
from gatewright.providers.common import replies, rest, words
from gatewright.providers.common.context import ContextPart
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.github.connection import (
    ListUnfinished,
    Ref,
    call,
    fetch,
    list_pages,
    repository_path,
    require_id,
    require_objects,
)

_RUN_NAME = re.compile(r"^run-name:[ \t]*+(.+)$", re.MULTILINE)
_PAGE = re.compile(
    r"https?://[A-Za-z0-9.:-]{1,100}"
    r"/[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}/actions/runs/[0-9]{1,18}"
)
_MAX_RUN_AGE = timedelta(days=3)
"""No operation is under way for longer; runs from before are not looked at."""
_FAILED_CONCLUSIONS = frozenset(
    {"failure", "cancelled", "timed_out", "action_required", "startup_failure", "stale"}
)
_NEUTRAL_CONCLUSIONS = frozenset({"neutral", "skipped"})

_MAX_RUNS_REMEMBERED = 256
"""Runs that are remembered; no namespace drives out those of another."""
_begun_runs = ContextPart(lambda: FairMemory[tuple[str, str], int](_MAX_RUNS_REMEMBERED))
"""Runs that this process has started: the list of runs may lag behind, and what it does not show
must not start twice."""

File = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+\.ya?ml$")
]


class Workflow(Model):
    """A workflow that is started by `workflow_dispatch`; the step lasts until it has ended, and
    passes by `success` alone."""

    rules: ClassVar[tuple[Rule, ...]] = (
        NoKeyOf(
            "keyInput",
            "inputs",
            "the input named by keyInput gets the operation's key; name another",
        ),
    )

    file: File
    """Name of the workflow's file in `.github/workflows`."""
    ref: Ref
    """Branch or tag whose version of the workflow runs."""
    inputs: Annotated[dict[Key, Text], Field(max_length=24)] = {}
    """Inputs of the workflow."""
    keyInput: Key = "operation"
    """Input that gets the operation's key; the workflow must show it in its `run-name`, by which a
    run is found again."""


async def dispatch_workflow(
    repository: str, config: Workflow, link: OpenConnection, operation: Operation
) -> Progress:
    """Start the workflow, unless an earlier try has. Raises Retryable, Permanent."""
    run = await _find_run(repository, config, link, operation)
    # An earlier try has started it.
    if run is not None:
        return _progress_of_run(run, link)

    await require_usable(repository, config, link)
    body = {
        "ref": config.ref,
        "inputs": {**config.inputs, config.keyInput: operation.key},
        "return_run_details": True,
    }
    path = repository_path(repository, "actions", "workflows", config.file, "dispatches")
    reply = await call(link, "POST", path, body=body)

    # An Enterprise server may not tell which run it has started; the key finds it later.
    started = replies.json_of(reply) if reply.status != 204 else None
    number = started.get("workflow_run_id") if isinstance(started, dict) else None
    if not isinstance(started, dict) or not isinstance(number, int):
        return Progress("Running", f"{config.file} is started")

    _begun_runs().put(link.namespace, (link.identity, operation.id), number)
    message = f"{config.file} runs: {_page_of_run(started, 'workflow_run_id')}"
    return Progress("Running", hide_secrets(message, link), {"run": str(number)})


async def follow_workflow(
    repository: str, config: Workflow, link: OpenConnection, operation: Operation
) -> Progress:
    """Return how far the workflow is. Raises Retryable, Permanent."""
    run = await _find_run(repository, config, link, operation)
    return _progress_of_run(run, link) if run is not None else Progress("Absent")


async def find_failed_jobs(
    repository: str, config: Workflow, link: OpenConnection, operation: Operation
) -> str | None:
    """Return the jobs and steps of the workflow that failed. Raises Retryable, Permanent."""
    run = await _find_run(repository, config, link, operation)
    if run is None:
        return None

    jobs: list[str] = []
    path = repository_path(repository, "actions", "runs", str(run["id"]), "jobs")
    async for page in list_pages(link, path, {"filter": "latest"}, "jobs", 3):
        jobs += [_describe_job(link, job) for job in page if _has_failed(job)]

    return hide_secrets(f"{'; '.join(jobs)} ({_page_of_run(run)})", link) if jobs else None


async def _find_run(
    repository: str, config: Workflow, link: OpenConnection, operation: Operation
) -> dict[str, Any] | None:
    """Return the run that carries the key of an operation: the one that was started first."""
    # The list of runs may lag behind what this process has started.
    number = _begun_runs().get((link.identity, operation.id))
    if number is not None:
        return await fetch(link, repository_path(repository, "actions", "runs", str(number)))

    path = repository_path(repository, "actions", "workflows", config.file, "runs")
    query = {"event": "workflow_dispatch", "exclude_pull_requests": "true"}
    oldest = (datetime.now(UTC) - _MAX_RUN_AGE).strftime("%Y-%m-%dT%H:%M:%SZ")
    runs: list[dict[str, Any]] = []
    try:
        async for page in list_pages(link, path, query, "workflow_runs"):
            runs += [run for run in page if _has_key(run, operation.key)]
            # Newest first: no operation is under way for longer.
            if any(str(run.get("created_at", "")) < oldest for run in page):
                break
    except ListUnfinished as error:
        if not runs:
            raise Permanent(
                f"{config.file}: {error}, so nobody can tell whether this one has been started"
            ) from None

    return min(runs, key=lambda run: require_id(run, path), default=None)


def _has_key(run: Mapping[str, Any], key: str) -> bool:
    """Return whether the name of a run holds the key.

    A longer one that begins or ends like it is another.
    """
    title = f"{run.get('display_title') or ''} {run.get('name') or ''}"
    return re.search(rf"(?<![A-Za-z0-9._-]){re.escape(key)}(?![A-Za-z0-9_-])", title) is not None


def _progress_of_run(run: Mapping[str, Any], link: OpenConnection) -> Progress:
    status, url = run.get("status"), _page_of_run(run)
    outputs = {"run": str(run.get("id")), "url": hide_secrets(url, link)}
    if status == "completed":
        return _progress_of_ended(run, url, outputs, link)

    waiting = status in ("waiting", "action_required")
    state = words.to_plain_word(status) or "in a status that is no word"
    if waiting:
        state = "waits for somebody to allow it"
    return Progress("Running", hide_secrets(f"{state}: {url}", link), outputs, stuck=waiting)


def _progress_of_ended(
    run: Mapping[str, Any], url: str, outputs: dict[str, str], link: OpenConnection
) -> Progress:
    conclusion = run.get("conclusion") or ""
    if conclusion == "success":
        return Progress("Succeeded", hide_secrets(f"success: {url}", link), outputs)

    # A workflow that was skipped has checked nothing, so it is no success either.
    beginning = "did nothing: " if str(conclusion) in _NEUTRAL_CONCLUSIONS else ""
    shown = words.to_plain_word(conclusion) or "without a conclusion"
    message = f"{beginning}{shown}: {url}"
    return Progress("Failed", hide_secrets(message, link), outputs)


async def require_usable(repository: str, config: Workflow, link: OpenConnection) -> None:
    """Raise NotFound unless the workflow can be started and its runs can be found again."""
    path = repository_path(repository, "actions", "workflows", config.file)
    missing = f"there is no workflow {config.file} in {repository}"
    workflow = await fetch_existing(link, path, missing)
    if workflow.get("state") != "active":
        state = words.to_plain_word(workflow.get("state")) or "not active"
        raise NotFound(hide_secrets(f"the workflow {config.file} is {state}; enable it", link))

    # A run that cannot be found again could be started twice after a crash.
    if not await _shows_key(repository, config, workflow, link):
        problem = f"{config.file} does not show its input in its name"
        remedy = f"add to it: run-name: ${{{{ inputs.{config.keyInput} }}}}"
        raise NotFound(f"{problem}, so a run could not be found again; {remedy}")


async def _shows_key(
    repository: str, config: Workflow, workflow: Mapping[str, Any], link: OpenConnection
) -> bool:
    file = str(workflow.get("path") or f".github/workflows/{config.file}")
    path = repository_path(repository, "contents", file)
    missing = f"{config.file} is not in {repository} at {config.ref}"
    content = await fetch_existing(link, path, missing, {"ref": config.ref})
    return _shows_input(_decode_content(content), config.keyInput)


def _shows_input(workflow: str, key_input: str) -> bool:
    """Return whether a workflow's file shows an input in the name of its runs."""
    name = _RUN_NAME.search(workflow)
    key = re.escape(key_input)
    inputs = rf"\binputs\s*+(\.\s*+{key}\b|\[\s*+['\"]{key}['\"]\s*+\])"
    return name is not None and re.search(inputs, name[1]) is not None


def _decode_content(content: Mapping[str, Any]) -> str:
    try:
        return base64.b64decode(str(content.get("content", ""))).decode(errors="replace")
    except ValueError:
        return ""


async def fetch_existing(
    link: OpenConnection, path: str, problem: str, query: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Get an object. Raises NotFound with `problem`, Retryable, Permanent."""
    reply = await call(link, "GET", path, query=query, accepted=frozenset({404}))
    if reply.status == 404:
        raise NotFound(hide_secrets(f"{problem}, or the token may not see it (404)", link))

    answer = replies.json_of(reply)
    if not isinstance(answer, dict):
        raise Permanent(f"{reply.where}: this is not the GitHub API")
    return answer


def _page_of_run(run: Mapping[str, Any], key: str = "id") -> str:
    """Return where people see a run; its number, where what is given is no such address."""
    url, number = str(run.get("html_url"))[:300], run.get(key)
    if _PAGE.fullmatch(url) and f"/runs/{number}" in url:
        return url
    return f"run {words.to_plain_word(number) or '?'}"


def _describe_job(link: OpenConnection, job: Mapping[str, Any]) -> str:
    steps = require_objects(job.get("steps") or [], "jobs")
    failed = [rest.repeatable_text(link, step.get("name")) for step in steps if _has_failed(step)]
    where = f", step {failed[0]}" if failed and failed[0] else ""
    name = rest.repeatable_text(link, job.get("name")) or "?"
    return f"job {name}{where}: {words.to_plain_word(job.get('conclusion'))}"


def _has_failed(job: Mapping[str, Any]) -> bool:
    return str(job.get("conclusion")) in _FAILED_CONCLUSIONS
