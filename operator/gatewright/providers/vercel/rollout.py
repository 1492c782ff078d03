"""How a version gets to Vercel's production: what a target and flags have in common.

Nothing is remembered here: each look reads Vercel afresh, and the state it finds says what comes
next.

    (no deployment whose meta carries the key) --create, without domains--> QUEUED | INITIALIZING | BUILDING
      --> ERROR | CANCELED | BLOCKED | DELETED    failed, with the end of the build log
      --> READY, its checks concluded --smoke on its own URL--> promote --alias job--> production

It has succeeded only while production is this deployment. What was promoted once and is not
production any more was moved elsewhere by somebody: that is said, and it is not promoted again,
because two who move production would never end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from gatewright.api.base import Duration, Model, Text, seconds
from gatewright.api.connection import HttpAccess
from gatewright.core.model import Operation, Progress
from gatewright.core.text import foreign, masking
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import client, rest
from gatewright.providers.common.jsonpath import JsonPath
from gatewright.providers.http.gate import HttpCheck, HttpGate, Path, Status
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object
from gatewright.providers.vercel.production import (
    KEY,
    RUN,
    describe_deployment,
    describe_makers,
    find_deployment,
    moving_to,
    production_id,
    request_to,
    run_of,
)

BUILDING_STATES = frozenset({"QUEUED", "INITIALIZING", "BUILDING"})
FAILED_STATES = frozenset({"ERROR", "CANCELED", "BLOCKED", "DELETED"})
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")
_BYPASS_HEADER = "x-vercel-protection-bypass"


class Smoke(Model):
    """One request to a new deployment's own URL; it must be answered as expected before production
    is switched to it."""

    path: Path
    """What is asked for, as `/api/health`."""
    status: Annotated[list[Status], Field(min_length=1, max_length=10)] = [200]
    """Statuses that are good. Redirects are not followed."""
    jsonPath: JsonPath | None = None
    """JSONPath (RFC 9535) of one value in the body: a boolean, or what `equals` says."""
    equals: Text | None = None
    """What the value must be, compared as text. A rollback looks at the status only: it brings
    another version."""
    within: Duration = "1m"
    """How long after the build an unexpected answer is asked for again, before the deployment is
    given up."""

    @model_validator(mode="after")
    def _fits(self) -> Smoke:
        if self.equals is not None and self.jsonPath is None:
            raise ValueError("equals needs jsonPath, which says what must be equal")
        return self


async def create_deployment(
    link: OpenConnection,
    project: Mapping[str, Any],
    operation: Operation,
    source: Mapping[str, Any],
    **meta: str | None,
) -> dict[str, Any]:
    """A production deployment without domains, marked with the operation's key. Raises Retryable,
    Permanent."""
    body = {
        "name": project.get("name"),
        "project": project["id"],
        "target": "production",
        "meta": {
            KEY: operation.key,
            RUN: run_of(operation.key),
            **{name: value for name, value in meta.items() if value},
        },
        "autoAssignCustomDomains": False,
        **source,
    }
    query = {"forceNew": 1, "skipAutoDetectionConfirmation": 1}
    reply = await vercel.call(
        link, "POST", "/v13/deployments", query=query, body=body, bucket="deployments"
    )
    found = as_object(client.json_of(reply))
    if not isinstance(found.get("id"), str):
        raise Permanent(f"{reply.where}: the answer names no deployment")
    vercel.require_id(link, found["id"], reply.where)
    return found


async def advance_deployment(
    link: OpenConnection,
    project: Mapping[str, Any],
    found: Mapping[str, Any],
    smoke: Smoke | None,
    *,
    plainly: bool = False,
) -> Progress:
    """One step further for a deployment of ours; `plainly`: of the smoke answer only the status
    matters.

    Raises Retryable, Permanent.
    """
    identity, state = found["id"], found.get("readyState") or found.get("status")
    if state in BUILDING_STATES:
        return Progress("Running", f"{identity} is {'queued' if state == 'QUEUED' else 'building'}")
    if state in FAILED_STATES:
        return Progress("Failed", await _explain_failure(link, found))
    if state != "READY":
        return Progress(
            "Running",
            f"{identity} is {_repeatable_word(link, state)}, which is no state that is known here",
            stuck=True,
        )
    waiting = (
        _progress_of_checks(link, found)
        or await _progress_of_rolling(link, project, found)
        or await progress_of_aliasing(link, project, identity)
    )
    if waiting is not None:
        return waiting
    live, ours = production_id(project) == identity, request_to(project, identity)
    if not live and found.get("readySubstate") == "PROMOTED":
        return await fail_moved_away(link, project, f"{identity} was promoted")
    if live and ours:
        return _progress_of_done(link, found, f"{identity} is production")
    problem = await _run_smoke(link, found, smoke, plainly)
    if problem is not None:
        return problem
    if live:
        text = f"{identity} is production; Vercel assigned the domains before the smoke request"
        return replace(_progress_of_done(link, found, text), notable=True)
    return await promote_deployment(link, project, identity)


def _progress_of_done(link: OpenConnection, found: Mapping[str, Any], message: str) -> Progress:
    url = rest.repeatable_text(link, found.get("url", ""))
    return Progress("Succeeded", message, {"deployment": str(found["id"]), "url": f"https://{url}"})


def _progress_of_checks(link: OpenConnection, found: Mapping[str, Any]) -> Progress | None:
    state, conclusion = found.get("checksState"), found.get("checksConclusion")
    if state in ("registered", "running"):
        return Progress("Running", f"checks of {found['id']} are {state}")
    if conclusion in ("failed", "canceled"):
        return Progress("Failed", f"checks of {found['id']} have {conclusion}")
    if state in (None, "completed") and conclusion in (None, "succeeded", "skipped"):
        return None
    told = f"{_repeatable_word(link, state)}, {_repeatable_word(link, conclusion)}"
    return Progress("Running", f"checks of {found['id']}: {told}: not known here", stuck=True)


async def _progress_of_rolling(
    link: OpenConnection, project: Mapping[str, Any], found: Mapping[str, Any]
) -> Progress | None:
    """What a rolling release that is under way means for a deployment."""
    rolling = await fetch_rolling_release(link, project, found.get("readySubstate") == "ROLLING")
    if rolling is None:
        return None
    canary, stage = (
        as_object(rolling.get("canaryDeployment")).get("id"),
        as_object(rolling.get("activeStage")),
    )
    share = rest.repeatable_text(
        link, rolling.get("currentCanaryPercentage", stage.get("targetPercentage"))
    )
    if canary == found["id"]:
        if stage.get("requireApproval"):
            text = (
                f"the rolling release of {canary} stands at {share}% until somebody approves "
                "its stage at Vercel"
            )
            return Progress("Running", text, stuck=True)
        return Progress("Running", f"the rolling release of {canary} is at {share}%", notable=True)
    text = f"waits for the rolling release of {canary} (at {share}%) to end"
    queued = rolling.get("queuedDeploymentId") == found["id"]
    return Progress(
        "Running",
        f"its promotion is queued: {text}" if queued else text,
        stuck=not queued,
        notable=queued,
    )


async def fetch_rolling_release(
    link: OpenConnection, project: Mapping[str, Any], sure: bool = False
) -> dict[str, Any] | None:
    """The rolling release under way, if the project has such a thing. Raises Retryable,
    Permanent."""
    if not project.get("rollingRelease") and not sure:
        return None
    found = await vercel.fetch(
        link, f"/v1/projects/{rest.path_segment(project['id'])}/rolling-release"
    )
    rolling = as_object(found.get("rollingRelease"))
    if rolling.get("state") != "ACTIVE":
        return None
    canary = as_object(rolling.get("canaryDeployment")).get("id")
    if canary is not None:
        vercel.require_id(
            link, canary, f"{link.config.url}/v1/projects/{project['id']}/rolling-release"
        )
    return rolling


async def progress_of_aliasing(
    link: OpenConnection, project: Mapping[str, Any], identity: str
) -> Progress | None:
    """What the last request to move the domains means for a deployment; None where it is not in the
    way."""
    to = moving_to(project)
    if to is not None:
        return Progress("Running", f"the domains are moving to {to}")
    last = request_to(project, identity)
    status = last.get("jobStatus")
    if not last:
        return None
    if status == "failed":
        return Progress("Failed", await describe_failed_aliases(link, project, identity))
    live, kind = production_id(project), _repeatable_word(link, last.get("type"))
    if live == identity and status in ("succeeded", "skipped"):
        return None
    if status == "skipped":
        return Progress("Failed", f"Vercel skipped the {kind} of {identity}; production is {live}")
    if status == "succeeded":
        return await fail_moved_away(link, project, f"{identity} was promoted")
    return Progress(
        "Running",
        f"the {kind} of {identity} is {_repeatable_word(link, status)}: not known here",
        stuck=True,
    )


async def fail_moved_away(link: OpenConnection, project: Mapping[str, Any], what: str) -> Progress:
    """Production was ours, and is something else by now: what, and who has made it so. Raises
    Retryable, Permanent."""
    live = production_id(project)
    found = await vercel.fetch_deployment(link, live) if live else None
    if found is None:
        return Progress(
            "Running", f"{what}, but production is {live or 'nothing'} by now", stuck=True
        )
    text = (
        f"{what}, but production is {describe_deployment(link, found)} by now: "
        f"{describe_makers(link, project, found)}"
    )
    return Progress("Running", text, stuck=True)


async def describe_failed_aliases(
    link: OpenConnection, project: Mapping[str, Any], identity: str
) -> str:
    names: list[str] = []
    with suppress(Retryable, Permanent):
        path = f"/v1/projects/{rest.path_segment(project['id'])}/promote/aliases"
        answer = await vercel.fetch(link, path, {"failedOnly": "true", "limit": 20}, bucket="logs")
        for item in answer.get("aliases") or []:
            alias = as_object(item).get("alias")
            names.append(rest.repeatable_text(link, as_object(alias).get("alias") or alias))
    names = [name for name in names if name]
    return f"the domains could not be moved to {identity}" + (
        f": {', '.join(names[:3])}" if names else ""
    )


async def promote_deployment(
    link: OpenConnection, project: Mapping[str, Any], identity: str
) -> Progress:
    path = f"/v10/projects/{rest.path_segment(project['id'])}/promote/{rest.path_segment(identity)}"
    reply = await vercel.call(
        link, "POST", path, body={}, accepted=frozenset({409}), bucket="aliases"
    )
    if reply.status == 409:
        return Progress(
            "Running", describe_refusal(link, reply, f"the promotion of {identity}"), stuck=True
        )
    if reply.status == 202:
        return Progress(
            "Running",
            f"the promotion of {identity} is queued behind a rolling release",
            notable=True,
        )
    return Progress("Running", f"{identity} is being promoted")


def describe_refusal(link: OpenConnection, reply: Any, what: str) -> str:
    words = rest.message_of(link, reply)
    return f"{what} is refused for now ({reply.status})" + (f": {words}" if words else "")


async def _run_smoke(
    link: OpenConnection, found: Mapping[str, Any], smoke: Smoke | None, plainly: bool
) -> Progress | None:
    """None where the deployment answers as it should."""
    if smoke is None:
        return None
    limits: dict[str, Any] = {} if plainly else {"jsonPath": smoke.jsonPath, "equals": smoke.equals}
    check = HttpCheck(path=smoke.path, status=smoke.status, **limits)
    problem: str
    try:
        answer = await HttpGate().measure(check, _link_to_deployment(link, found))
        if answer.value is True:
            return None
        problem = (
            answer.message
            or f"{smoke.jsonPath} is {answer.value}, neither true nor what equals says"
        )
        if problem.startswith("answered 401") and link.config.protectionBypass is None:
            problem += " (is the deployment protected? give the Connection its protectionBypass)"
    except (Retryable, Permanent) as error:
        problem = str(error)
    ready = foreign.to_number(found.get("ready") or found.get("readyAt")) or vercel.created_at(
        found
    )
    text = f"smoke request to {found['id']}{smoke.path}: {problem}"
    if time.time() * 1000 - ready < seconds(smoke.within) * 1000:
        return Progress("Running", text, stuck=True)
    logged = ""
    with suppress(Retryable, Permanent):
        logged = await vercel.fetch_runtime_log(
            link, str(found.get("projectId") or ""), found["id"]
        )
    return Progress("Failed", text + (f"; {masking.LOG_END_MARK}{logged}" if logged else ""))


def _link_to_deployment(link: OpenConnection, found: Mapping[str, Any]) -> OpenConnection:
    """A link to a deployment's own URL, which gets the bypass secret and never the token."""
    host = str(found.get("url") or "")
    if not _HOST.fullmatch(host):
        raise Permanent(f"Vercel names no URL for {found['id']}")
    scheme = link.config.url.partition("://")[0]
    bypass = link.config.protectionBypass
    access = HttpAccess(
        url=f"{scheme}://{host}", headers={_BYPASS_HEADER: bypass} if bypass else {}
    )
    return OpenConnection(
        link.name,
        f"{link.identity}/smoke/{found['id']}",
        access,
        link.timeout,
        link.secrets,
        link.namespace,
    )


async def _explain_failure(link: OpenConnection, found: Mapping[str, Any]) -> str:
    """Why a deployment failed: what Vercel says, and the end of its build log."""
    state = found.get("readyState") or found.get("status")
    said = [found.get("readyStateReason"), found.get("errorMessage") or found.get("errorCode")]
    block = as_object(found.get("seatBlock")).get("blockCode")
    text = "; ".join(vercel.repeatable_sentence(link, part) for part in (*said, block) if part)
    logged = ""
    with suppress(Retryable, Permanent):
        logged = await vercel.fetch_build_log(link, found["id"]) if state != "DELETED" else ""
    return (
        f"{found['id']} is {_repeatable_word(link, state)}"
        + (f": {text}" if text else "")
        + (f"; {masking.LOG_END_MARK}{logged}" if logged else "")
    )


def _repeatable_word(link: OpenConnection, word: Any) -> str:
    """A state or a kind, as Vercel names it."""
    return str(word) if word is None else rest.repeatable_text(link, word) or "something else"


async def find_trouble(
    link: OpenConnection, project: Mapping[str, Any], operation: Operation
) -> str | None:
    """Why an operation's deployment does not get on. Raises Retryable, Permanent."""
    found = await find_deployment(link, project, **{KEY: operation.key})
    if found is None:
        request = as_object(project.get("lastAliasRequest"))
        failed = request.get("jobStatus") == "failed"
        return (
            await describe_failed_aliases(link, project, str(request.get("toDeploymentId")))
            if failed
            else None
        )
    if found.get("readyState") in FAILED_STATES:
        return await _explain_failure(link, found)
    if found.get("readyState") == "READY":
        logged = await vercel.fetch_runtime_log(link, project["id"], found["id"])
    else:
        logged = await vercel.fetch_build_log(link, found["id"])
    return f"{found['id']}: {masking.LOG_END_MARK}{logged}" if logged else None
