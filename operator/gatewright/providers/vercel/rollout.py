"""How a version gets to Vercel's production: what a target and flags have in common.

Nothing is remembered here: each look reads Vercel afresh, and the state it finds says what comes
next.

    (no deployment whose meta carries the key)
      --create, without domains--> QUEUED | INITIALIZING | BUILDING
      --> ERROR | CANCELED | BLOCKED | DELETED    failed, with the end of the build log
      --> READY, its checks concluded --smoke on its own URL--> promote --alias job--> production

It has succeeded only while production is this deployment. What was promoted once and is not
production any more was moved elsewhere by somebody: that is said, and it is not promoted again,
because two who move production would never end.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gatewright.core.model.operation import Operation, Progress
from gatewright.core.text import masking
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import replies, rest
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel import logs
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
)
from gatewright.providers.vercel.smoke import Smoke, run_smoke

BUILDING_STATES = frozenset({"QUEUED", "INITIALIZING", "BUILDING"})
FAILED_STATES = frozenset({"ERROR", "CANCELED", "BLOCKED", "DELETED"})


async def create_deployment(
    link: OpenConnection,
    project: Mapping[str, Any],
    operation: Operation,
    source: Mapping[str, Any],
    **meta: str | None,
) -> dict[str, Any]:
    """Create a production deployment without domains, marked with the operation's key.

    Raises Retryable, Permanent.
    """
    body = {
        "name": project.get("name"),
        "project": project["id"],
        "target": "production",
        "meta": {
            KEY: operation.key,
            RUN: operation.run,
            **{name: value for name, value in meta.items() if value},
        },
        "autoAssignCustomDomains": False,
        **source,
    }
    query = {"forceNew": 1, "skipAutoDetectionConfirmation": 1}
    reply = await vercel.call(
        link, "POST", "/v13/deployments", query=query, body=body, bucket="deployments"
    )
    deployment = as_object(replies.json_of(reply))
    if not isinstance(deployment.get("id"), str):
        raise Permanent(f"{reply.where}: the answer names no deployment")

    vercel.require_id(link, deployment["id"], reply.where)

    return deployment


async def advance_deployment(
    link: OpenConnection,
    project: Mapping[str, Any],
    deployment: Mapping[str, Any],
    smoke: Smoke | None,
    *,
    plainly: bool = False,
) -> Progress:
    """Take a deployment of ours one step further, and return how far it is.

    With `plainly`, of the smoke answer only the status matters. Raises Retryable, Permanent.
    """
    waiting = await _progress_of_build(link, deployment) or (
        _progress_of_checks(link, deployment)
        or await _progress_of_rolling(link, project, deployment)
        or await progress_of_aliasing(link, project, deployment["id"])
    )
    if waiting is not None:
        return waiting

    return await _switch_production(link, project, deployment, smoke, plainly)


async def _progress_of_build(
    link: OpenConnection, deployment: Mapping[str, Any]
) -> Progress | None:
    """Return what its build means for a deployment; None where it is built."""
    identity, state = deployment["id"], deployment.get("readyState") or deployment.get("status")
    if state == "READY":
        return None
    if state in BUILDING_STATES:
        return Progress("Running", f"{identity} is {'queued' if state == 'QUEUED' else 'building'}")
    if state in FAILED_STATES:
        return Progress("Failed", await _explain_failure(link, deployment))

    # A state that Vercel has added since may be good or bad: a person must look.
    word = _repeatable_word(link, state)
    message = f"{identity} is {word}, which is no state that is known here"
    return Progress("Running", message, stuck=True)


async def _switch_production(
    link: OpenConnection,
    project: Mapping[str, Any],
    deployment: Mapping[str, Any],
    smoke: Smoke | None,
    plainly: bool,
) -> Progress:
    """Promote what is built and in nobody's way, once its smoke request is answered well."""
    identity = deployment["id"]
    is_live = production_id(project) == identity

    # Promoting it again would begin a tug-of-war with whoever has moved production.
    if not is_live and deployment.get("readySubstate") == "PROMOTED":
        return await fail_moved_away(link, project, f"{identity} was promoted")
    if is_live and request_to(project, identity):
        return _progress_of_done(link, deployment, f"{identity} is production")

    problem = await run_smoke(link, deployment, smoke, plainly)
    if problem is not None:
        return problem

    if is_live:
        message = f"{identity} is production; Vercel assigned the domains before the smoke request"
        return replace(_progress_of_done(link, deployment, message), notable=True)

    return await promote_deployment(link, project, identity)


def _progress_of_done(
    link: OpenConnection, deployment: Mapping[str, Any], message: str
) -> Progress:
    url = rest.repeatable_text(link, deployment.get("url", ""))
    outputs = {"deployment": str(deployment["id"]), "url": f"https://{url}"}
    return Progress("Succeeded", message, outputs)


def _progress_of_checks(link: OpenConnection, deployment: Mapping[str, Any]) -> Progress | None:
    state, conclusion = deployment.get("checksState"), deployment.get("checksConclusion")
    if state in ("registered", "running"):
        return Progress("Running", f"checks of {deployment['id']} are {state}")
    if conclusion in ("failed", "canceled"):
        return Progress("Failed", f"checks of {deployment['id']} have {conclusion}")
    if state in (None, "completed") and conclusion in (None, "succeeded", "skipped"):
        return None

    outcome = f"{_repeatable_word(link, state)}, {_repeatable_word(link, conclusion)}"
    return Progress(
        "Running", f"checks of {deployment['id']}: {outcome}: not known here", stuck=True
    )


async def _progress_of_rolling(
    link: OpenConnection, project: Mapping[str, Any], deployment: Mapping[str, Any]
) -> Progress | None:
    """Return what a rolling release that is under way means for a deployment."""
    is_rolling = deployment.get("readySubstate") == "ROLLING"
    rolling = await fetch_rolling_release(link, project, is_rolling)
    if rolling is None:
        return None

    canary = as_object(rolling.get("canaryDeployment")).get("id")
    stage = as_object(rolling.get("activeStage"))
    percentage = rolling.get("currentCanaryPercentage", stage.get("targetPercentage"))
    share = rest.repeatable_text(link, percentage)

    if canary == deployment["id"] and stage.get("requireApproval"):
        standing = f"the rolling release of {canary} stands at {share}%"
        message = f"{standing} until somebody approves its stage at Vercel"
        return Progress("Running", message, stuck=True)
    if canary == deployment["id"]:
        return Progress("Running", f"the rolling release of {canary} is at {share}%", notable=True)

    message = f"waits for the rolling release of {canary} (at {share}%) to end"
    if rolling.get("queuedDeploymentId") == deployment["id"]:
        return Progress("Running", f"its promotion is queued: {message}", notable=True)
    return Progress("Running", message, stuck=True)


async def fetch_rolling_release(
    link: OpenConnection, project: Mapping[str, Any], sure: bool = False
) -> dict[str, Any] | None:
    """Return the rolling release under way, if the project has such a thing.

    Raises Retryable, Permanent.
    """
    # Most projects have no such thing, and each question counts against a limit.
    if not project.get("rollingRelease") and not sure:
        return None

    path = f"/v1/projects/{rest.path_segment(project['id'])}/rolling-release"
    answer = await vercel.fetch(link, path)
    rolling = as_object(answer.get("rollingRelease"))
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
    """Return what the last request to move the domains means for a deployment.

    None where it is not in the way.
    """
    to = moving_to(project)
    if to is not None:
        return Progress("Running", f"the domains are moving to {to}")

    last = request_to(project, identity)
    status = last.get("jobStatus")

    # Nobody has asked for the domains to move to it.
    if not last:
        return None
    if status == "failed":
        return Progress("Failed", await describe_failed_aliases(link, project, identity))

    live, kind = production_id(project), _repeatable_word(link, last.get("type"))
    # It is production: nothing is left to be moved.
    if live == identity and status in ("succeeded", "skipped"):
        return None
    if status == "skipped":
        return Progress("Failed", f"Vercel skipped the {kind} of {identity}; production is {live}")
    if status == "succeeded":
        return await fail_moved_away(link, project, f"{identity} was promoted")

    message = f"the {kind} of {identity} is {_repeatable_word(link, status)}: not known here"
    return Progress("Running", message, stuck=True)


async def fail_moved_away(link: OpenConnection, project: Mapping[str, Any], done: str) -> Progress:
    """Say what production is by now, which was ours, and who has made it so.

    Raises Retryable, Permanent.
    """
    live = production_id(project)
    deployment = await vercel.fetch_deployment(link, live) if live else None
    if deployment is None:
        message = f"{done}, but production is {live or 'nothing'} by now"
        return Progress("Running", message, stuck=True)

    description = describe_deployment(link, deployment)
    makers = describe_makers(link, project, deployment)
    message = f"{done}, but production is {description} by now: {makers}"
    return Progress("Running", message, stuck=True)


async def describe_failed_aliases(
    link: OpenConnection, project: Mapping[str, Any], identity: str
) -> str:
    """Say that the domains could not be moved to a deployment, and which."""
    names: list[str] = []
    # That they could not be moved is known without the list of them.
    with suppress(Retryable, Permanent):
        path = f"/v1/projects/{rest.path_segment(project['id'])}/promote/aliases"
        answer = await vercel.fetch(link, path, {"failedOnly": "true", "limit": 20}, bucket="logs")
        for entry in answer.get("aliases") or []:
            alias = as_object(entry).get("alias")
            names.append(rest.repeatable_text(link, as_object(alias).get("alias") or alias))

    shown = ", ".join([name for name in names if name][:3])
    problem = f"the domains could not be moved to {identity}"
    return f"{problem}: {shown}" if shown else problem


async def promote_deployment(
    link: OpenConnection, project: Mapping[str, Any], identity: str
) -> Progress:
    """Ask for the production domains to be moved to a deployment. Raises Retryable, Permanent."""
    path = f"/v10/projects/{rest.path_segment(project['id'])}/promote/{rest.path_segment(identity)}"
    accepted = frozenset({409})
    reply = await vercel.call(link, "POST", path, body={}, accepted=accepted, bucket="aliases")

    if reply.status == 409:
        refusal = describe_refusal(link, reply, f"the promotion of {identity}")
        return Progress("Running", refusal, stuck=True)
    if reply.status == 202:
        message = f"the promotion of {identity} is queued behind a rolling release"
        return Progress("Running", message, notable=True)

    return Progress("Running", f"{identity} is being promoted")


def describe_refusal(link: OpenConnection, reply: Any, request: str) -> str:
    """Say that a request is refused for now, and why, as far as Vercel tells."""
    explanation = rest.message_of(link, reply)
    refusal = f"{request} is refused for now ({reply.status})"
    return f"{refusal}: {explanation}" if explanation else refusal


async def _explain_failure(link: OpenConnection, deployment: Mapping[str, Any]) -> str:
    """Return why a deployment failed: what Vercel says, and the end of its build log."""
    state = deployment.get("readyState") or deployment.get("status")
    reasons = [
        deployment.get("readyStateReason"),
        deployment.get("errorMessage") or deployment.get("errorCode"),
        as_object(deployment.get("seatBlock")).get("blockCode"),
    ]
    sentences = [logs.repeatable_sentence(link, reason) for reason in reasons if reason]

    logged = ""
    # The log explains a failure; that there is none is no reason not to tell of it.
    with suppress(Retryable, Permanent):
        if state != "DELETED":
            logged = await logs.fetch_build_log(link, deployment["id"])

    message = f"{deployment['id']} is {_repeatable_word(link, state)}"
    explanation = "; ".join(sentences)
    if explanation:
        message = f"{message}: {explanation}"
    return f"{message}; {masking.LOG_END_MARK}{logged}" if logged else message


def _repeatable_word(link: OpenConnection, word: Any) -> str:
    """Return a state or a kind, as Vercel names it."""
    return str(word) if word is None else rest.repeatable_text(link, word) or "something else"


async def find_trouble(
    link: OpenConnection, project: Mapping[str, Any], operation: Operation
) -> str | None:
    """Return why an operation's deployment does not get on. Raises Retryable, Permanent."""
    deployment = await find_deployment(link, project, **{KEY: operation.key})
    # An instant rollback makes no deployment: only the domains can be in trouble.
    if deployment is None:
        request = as_object(project.get("lastAliasRequest"))
        if request.get("jobStatus") != "failed":
            return None
        return await describe_failed_aliases(link, project, str(request.get("toDeploymentId")))

    if deployment.get("readyState") in FAILED_STATES:
        return await _explain_failure(link, deployment)

    if deployment.get("readyState") == "READY":
        logged = await logs.fetch_runtime_log(link, project["id"], deployment["id"])
    else:
        logged = await logs.fetch_build_log(link, deployment["id"])
    return f"{deployment['id']}: {masking.LOG_END_MARK}{logged}" if logged else None
