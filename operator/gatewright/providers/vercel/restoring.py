"""How Vercel's production gets back to what was recorded: what a target and flags have in common.

One of two ways, chosen by what production's variables are now:

    none has changed since the recorded deployment was created             instant rollback to it
    one has (a rotated key), or the recorded deployment is gone            its source again, with the current variables

because a deployment keeps the variables it was built with: an instant rollback would bring revoked
keys back. Flags that this run has set, or that were set back to what they were, do not count: the
recorded deployment has them as they were.

First what this run has built and not promoted is withdrawn: a promotion of it that is still on its
way, from an operator that was paused or replaced, must not go through after the rollback.

A target and flags of one project go back side by side, and each by what it recorded. So restores
take turns (`turn`): what one of them has read of production still holds when it acts. And what was
brought back and is not production any more was moved elsewhere by somebody: that is said, and
nothing is moved again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from gatewright.core.model import Operation, Progress
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import rest
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object
from gatewright.providers.vercel.production import (
    FLAGS,
    KEY,
    RUN,
    SOURCE,
    VERSION,
    find_deployment,
    list_made_by,
    moving_to,
    production_id,
    request_to,
    run_of,
)
from gatewright.providers.vercel.rollout import (
    BUILDING_STATES,
    FAILED_STATES,
    Smoke,
    advance_deployment,
    create_deployment,
    describe_refusal,
    fail_moved_away,
    fetch_rolling_release,
    progress_of_aliasing,
    promote_deployment,
)
from gatewright.providers.vercel.variable_marks import (
    VariableChanges,
    compare_variables,
    list_names,
)

_RETRY_S = 2.0
"""Seconds after which what was refused for a moment is asked for again."""
RESTORE_HINT = (
    "instantly to {}; where a variable of production has changed by then, as a rotated key "
    "has, its source is built again "
    "with the current variables"
)
"""What is said of it before anything has happened."""
_WHY = "no variable of production has changed since it was built"


_turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()


@asynccontextmanager
async def take_turn(link: OpenConnection, project: str) -> AsyncIterator[None]:
    """One restore of a project at a time.

    Whoever has the turn reads the project afresh, and acts on what it has read.
    """
    lock = _turns.setdefault((link.identity, project), asyncio.Lock())
    async with lock:
        yield


async def restore_production(
    link: OpenConnection,
    project: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    operation: Operation,
    smoke: Smoke | None,
    act: bool,
    enough: Callable[[Mapping[str, Any]], Awaitable[str]] | None = None,
) -> Progress:
    """Return production to what was recorded; without `act` only look how far that is.

    `enough` says why production may stay what it is, once nothing of this run can be promoted any
    more; empty: it may not.

    Raises Retryable, Permanent.
    """
    loose = await _list_unpromoted(link, project, run_of(operation.key))
    if loose and not act:
        return Progress("Absent")

    left = [await _withdraw_deployment(link, deployment) for deployment in loose]

    if loose:
        # What was promoted before that is seen now.
        project = await vercel.fetch_project(link, project["id"])

    stays = await enough(project) if enough is not None else ""
    if stays:
        progress = Progress("Succeeded", stays, {"deployment": str(production_id(project))})
    else:
        progress = await _follow_restore(link, project, snapshot, operation, smoke, act)

    message = "; ".join(part for part in (progress.message, *left) if part)
    # Which way is taken, and what it leaves behind.
    return replace(progress, message=message, notable=True)


async def _list_unpromoted(
    link: OpenConnection, project: Mapping[str, Any], run: str
) -> list[dict[str, Any]]:
    """Deployments that this run made on its way forward, and that never were production."""
    loose: list[dict[str, Any]] = []
    for listed in await list_made_by(link, project, **{RUN: run}):
        meta = as_object(listed.get("meta"))
        if (
            SOURCE in meta
            or _is_of_rollback(str(meta.get(KEY)))
            or listed.get("readySubstate") == "PROMOTED"
        ):
            continue

        if listed["id"] in (production_id(project), moving_to(project)):
            continue

        deployment = as_object(await vercel.fetch_deployment(link, listed["id"]))
        if deployment.get("readyState") in BUILDING_STATES or (
            deployment.get("readyState") == "READY" and deployment.get("readySubstate") == "STAGED"
        ):
            loose.append(deployment)

    return loose


def _is_of_rollback(key: str) -> bool:
    """Return whether an operation is part of a rollback: `RUN.rollback.STAGE.SUBJECT.NUMBER-NONCE`."""
    parts = key.split(".")
    return len(parts) > 4 and parts[1] == "rollback"


async def _withdraw_deployment(link: OpenConnection, deployment: Mapping[str, Any]) -> str:
    """Cancel a build, delete what was built and never promoted.

    The text says why that could not be.

    Raises Retryable.
    """
    identity = rest.path_segment(deployment["id"])
    building = deployment.get("readyState") in BUILDING_STATES
    if building:
        method, path = ("PATCH", f"/v12/deployments/{identity}/cancel")
    else:
        method, path = ("DELETE", f"/v13/deployments/{identity}")

    try:
        await vercel.call(link, method, path, accepted=frozenset({404}), bucket="aliases")
    except Permanent as error:
        return f"{deployment['id']} could not be withdrawn: {error}"

    return ""


async def _follow_restore(
    link: OpenConnection,
    project: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    operation: Operation,
    smoke: Smoke | None,
    act: bool,
) -> Progress:
    recorded, run = str(snapshot["deployment"]), run_of(operation.key)
    variables = await vercel.fetch_variables(link, project["id"])
    if await _is_untouched(link, project, variables, snapshot, run):
        message = f"production is {recorded}, as recorded"
        if _is_described_by(project, operation):
            message = f"rolled back to {recorded} instantly ({_WHY}){_explain_unassigned(project)}"
        return Progress("Succeeded", message, {"deployment": recorded})

    deployment = await vercel.fetch_deployment(link, recorded)
    gone = deployment is None or deployment.get("readyState") in FAILED_STATES
    since = compare_variables(link, variables, snapshot, float(snapshot["createdAt"]), run)
    reason = since.reason or (f"{recorded} is gone" if gone else "")
    if not reason:
        return await _restore_instantly(link, project, recorded, operation, act)

    return await _rebuild_production(link, project, snapshot, operation, smoke, act, reason, since)


async def _is_untouched(
    link: OpenConnection,
    project: Mapping[str, Any],
    variables: vercel.Variables,
    snapshot: Mapping[str, Any],
    run: str,
) -> bool:
    """Return whether production is what was recorded, nothing is about to change that, and no
    variable changed since.
    """
    if production_id(project) != snapshot["deployment"] or moving_to(project) is not None:
        return False
    if await _is_rolling_away(link, project, str(snapshot["deployment"])):
        return False
    changed_at = {identity: at for _, identity, at in snapshot.get("env") or []}
    newest = max((foreign.to_number(at) or 0.0 for at in changed_at.values()), default=0.0)
    return not compare_variables(
        link, variables, snapshot, max(newest, float(snapshot["createdAt"])), run
    ).reason


async def _is_rolling_away(link: OpenConnection, project: Mapping[str, Any], recorded: str) -> bool:
    rolling = await fetch_rolling_release(link, project)
    return rolling is not None and as_object(rolling.get("canaryDeployment")).get("id") != recorded


async def _restore_instantly(
    link: OpenConnection, project: Mapping[str, Any], recorded: str, operation: Operation, act: bool
) -> Progress:
    to = moving_to(project)
    if to == recorded:
        return Progress(
            "Running", f"rolling back to {recorded} instantly ({_WHY}): the domains are moving"
        )

    if (
        production_id(project) == recorded
        and to is None
        and not await _is_rolling_away(link, project, recorded)
    ):
        message = f"rolled back to {recorded} instantly ({_WHY}){_explain_unassigned(project)}"
        return Progress("Succeeded", message, {"deployment": recorded})

    if to is None and _was_rolled_back(project, recorded, operation):
        return await fail_moved_away(link, project, f"rolled back to {recorded}")

    last = request_to(project, recorded)
    description = as_object(project.get("rollbackDescription")).get("description")
    ours = bool(last) and (
        last.get("type") == "promote" or not description or _is_described_by(project, operation)
    )
    if ours and not act and last.get("jobStatus") not in ("succeeded", None):
        progress = await progress_of_aliasing(link, project, recorded)
        if progress is not None:
            return progress

    if not act:
        return Progress("Absent")

    return await _roll_back(link, project, recorded, operation)


def _was_rolled_back(project: Mapping[str, Any], recorded: str, operation: Operation) -> bool:
    """Return whether this operation has brought production back, and it was moved elsewhere since."""
    last = request_to(project, recorded)
    if not _is_described_by(project, operation) or production_id(project) == recorded:
        return False
    return not last or last.get("jobStatus") == "succeeded"


async def _roll_back(
    link: OpenConnection, project: Mapping[str, Any], recorded: str, operation: Operation
) -> Progress:
    path = f"/v1/projects/{rest.path_segment(project['id'])}/rollback/{rest.path_segment(recorded)}"
    query = {"description": f"Gatewright {operation.key}"[:250]}
    accepted = frozenset({402, 409})
    reply = await vercel.call(
        link, "POST", path, query=query, body={}, accepted=accepted, bucket="aliases"
    )
    if reply.status == 402:
        # this plan rolls back to the previous deployment only; an older one is promoted instead, as
        # by hand
        promoted = await promote_deployment(link, project, recorded)
        message = f"{promoted.message} (the plan refuses a rollback to it)"
        return Progress("Running", message, stuck=promoted.stuck)

    if reply.status == 409:
        raise _retry_later(describe_refusal(link, reply, f"the rollback to {recorded}"))

    return Progress("Running", f"rolling back to {recorded} instantly ({_WHY})")


def _retry_later(message: str) -> Retryable:
    error = Retryable(message)
    error.after = _RETRY_S
    return error


def _is_described_by(project: Mapping[str, Any], operation: Operation) -> bool:
    """Return whether the last rollback was asked for by this operation."""
    description = as_object(project.get("rollbackDescription")).get("description")
    return operation.key in str(description or "")


def _explain_unassigned(project: Mapping[str, Any]) -> str:
    if project.get("autoAssignCustomDomains") is not False:
        return ""
    return "; Vercel assigns no domains to new deployments by itself until one is promoted"


async def _rebuild_production(
    link: OpenConnection,
    project: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    operation: Operation,
    smoke: Smoke | None,
    act: bool,
    reason: str,
    since: VariableChanges,
) -> Progress:
    recorded = str(snapshot["deployment"])
    name = snapshot.get("version") or recorded
    explanation = (
        f"redeploying {name} ({recorded}) with the current variables, because since it was "
        f"built: {reason}; "
        "an instant rollback would bring the old values back"
    )
    deployment = await find_deployment(
        link, project, **{KEY: operation.key}
    ) or await _find_same_build(link, project, recorded, since)
    if deployment is not None:
        progress = await advance_deployment(link, project, deployment, smoke, plainly=True)
        return Progress(
            progress.state, f"{explanation}: {progress.message}", progress.outputs, progress.stuck
        )

    if not act:
        return Progress("Absent")
    if since.pending:
        raise _retry_later(
            f"{explanation}: waits until {list_names(link, list(since.pending))} is set back"
        )

    git = snapshot.get("git")
    source: dict[str, Any] = {"gitSource": git} if git else {"deploymentId": recorded}
    version = snapshot.get("version")
    marks = {VERSION: version, SOURCE: recorded, FLAGS: ",".join(since.had)}
    made = await create_deployment(link, project, operation, source, **marks)
    return Progress("Running", f"{explanation}: {made['id']} is made", {"deployment": made["id"]})


async def _find_same_build(
    link: OpenConnection, project: Mapping[str, Any], recorded: str, since: VariableChanges
) -> dict[str, Any] | None:
    """Return a deployment that another operation made for the same end, with all variables as they
    are now.
    """
    deployment = await find_deployment(link, project, **{SOURCE: recorded})
    if (
        deployment is None
        or deployment.get("readyState") in FAILED_STATES
        or vercel.created_at(deployment) < since.newest
    ):
        return None
    return deployment
