"""How Vercel's production gets back to what was recorded: what a target and flags have in common.

One of two ways, chosen by what production's variables are now:

    none has changed since the recorded deployment was created     instant rollback to it
    one has (a rotated key), or the recorded deployment is gone    its source again, with the
                                                                   current variables

because a deployment keeps the variables it was built with: an instant rollback would bring revoked
keys back. Flags that this run has set, or that were set back to what they were, do not count: the
recorded deployment has them as they were.

First what this run has built and not promoted is withdrawn (`withdrawing`).

A target and flags of one project go back side by side, and each by what it recorded. So restores
take turns (`take_turn`): what one of them has read of production still holds when it acts. And what
was brought back and is not production any more was moved elsewhere by somebody: that is said, and
nothing is moved again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from gatewright.core.model.operation import Operation, Progress
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Retryable
from gatewright.providers.common import rest
from gatewright.providers.common.context import ContextPart
from gatewright.providers.vercel import connection as vercel
from gatewright.providers.vercel.connection import as_object
from gatewright.providers.vercel.production import (
    FLAGS,
    KEY,
    SOURCE,
    VERSION,
    began_at,
    find_deployment,
    moving_to,
    production_id,
    request_to,
)
from gatewright.providers.vercel.rollout import (
    FAILED_STATES,
    advance_deployment,
    create_deployment,
    describe_refusal,
    fail_moved_away,
    fetch_rolling_release,
    progress_of_aliasing,
    promote_deployment,
)
from gatewright.providers.vercel.smoke import Smoke
from gatewright.providers.vercel.variable_marks import (
    VariableChanges,
    compare_variables,
    list_names,
)
from gatewright.providers.vercel.withdrawing import list_unpromoted, withdraw_deployment

_MAX_DESCRIPTION_LENGTH = 250
_RETRY_S = 2.0
"""Seconds after which what was refused for a moment is asked for again."""
RESTORE_HINT = (
    "instantly to {}; where a variable of production has changed by then, as a rotated key has, "
    "its source is built again with the current variables"
)
"""What is said of it before anything has happened."""
_WHY = "no variable of production has changed since it was built"


_turns = ContextPart(WeakValueDictionary[tuple[str, str], asyncio.Lock])


@asynccontextmanager
async def take_turn(link: OpenConnection, project: str) -> AsyncIterator[None]:
    """Let one restore of a project go at a time.

    Whoever has the turn reads the project afresh, and acts on what it has read.
    """
    lock = _turns().setdefault((link.identity, project), asyncio.Lock())
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
    unpromoted = await list_unpromoted(link, project, operation.runs)
    if unpromoted and not act:
        return Progress("Absent")

    problems = [await withdraw_deployment(link, deployment) for deployment in unpromoted]
    # What was promoted before that is seen now.
    if unpromoted:
        project = await vercel.fetch_project(link, project["id"])

    stays = await enough(project) if enough is not None else ""
    if stays:
        progress = Progress("Succeeded", stays, {"deployment": str(production_id(project))})
    else:
        progress = await _follow_restore(link, project, snapshot, operation, smoke, act)

    # People read which way is taken, and what it leaves behind.
    message = "; ".join(part for part in (progress.message, *problems) if part)
    return replace(progress, message=message, notable=True)


async def _follow_restore(
    link: OpenConnection,
    project: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    operation: Operation,
    smoke: Smoke | None,
    act: bool,
) -> Progress:
    recorded, runs = str(snapshot["deployment"]), operation.runs
    variables = await vercel.fetch_variables(link, project["id"])
    if await _is_untouched(link, project, variables, snapshot, runs):
        message = f"production is {recorded}, as recorded"
        if _is_described_by(project, operation):
            message = f"{_say_rolled_back(recorded)}{_explain_unassigned(project)}"
        return Progress("Succeeded", message, {"deployment": recorded})

    deployment = await vercel.fetch_deployment(link, recorded)
    is_gone = deployment is None or deployment.get("readyState") in FAILED_STATES
    changes = compare_variables(link, variables, snapshot, float(snapshot["createdAt"]), runs)
    reason = changes.reason or (f"{recorded} is gone" if is_gone else "")
    if not reason:
        return await _restore_instantly(link, project, recorded, operation, act)

    return await _rebuild_production(
        link, project, snapshot, operation, smoke, act, reason, changes
    )


def _say_rolled_back(recorded: str) -> str:
    return f"rolled back to {recorded} instantly ({_WHY})"


async def _is_untouched(
    link: OpenConnection,
    project: Mapping[str, Any],
    variables: vercel.Variables,
    snapshot: Mapping[str, Any],
    runs: Collection[str],
) -> bool:
    """Return whether production is what was recorded, and stays that, with the same variables."""
    recorded = str(snapshot["deployment"])
    if production_id(project) != snapshot["deployment"] or moving_to(project) is not None:
        return False
    if await _is_rolling_away(link, project, recorded):
        return False

    # What had changed before the snapshot was taken was so when production was good.
    changed_at = [foreign.to_number(at) or 0.0 for _, _, at in snapshot.get("env") or []]
    since = max([float(snapshot["createdAt"]), *changed_at])
    return not compare_variables(link, variables, snapshot, since, runs).reason


async def _is_rolling_away(link: OpenConnection, project: Mapping[str, Any], recorded: str) -> bool:
    rolling = await fetch_rolling_release(link, project)
    return rolling is not None and as_object(rolling.get("canaryDeployment")).get("id") != recorded


async def _restore_instantly(
    link: OpenConnection, project: Mapping[str, Any], recorded: str, operation: Operation, act: bool
) -> Progress:
    to = moving_to(project)
    if to == recorded:
        message = f"rolling back to {recorded} instantly ({_WHY}): the domains are moving"
        return Progress("Running", message)

    is_live = production_id(project) == recorded and to is None
    if is_live and not await _is_rolling_away(link, project, recorded):
        message = f"{_say_rolled_back(recorded)}{_explain_unassigned(project)}"
        return Progress("Succeeded", message, {"deployment": recorded})

    # Asking for it again would begin a tug-of-war with whoever has moved production.
    if to is None and _was_rolled_back(project, recorded, operation):
        return await fail_moved_away(link, project, f"rolled back to {recorded}")

    if not act:
        return await _progress_of_rollback(link, project, recorded, operation)
    return await _roll_back(link, project, recorded, operation)


async def _progress_of_rollback(
    link: OpenConnection, project: Mapping[str, Any], recorded: str, operation: Operation
) -> Progress:
    """Return what the last request to move the domains says of this rollback, if it is its own."""
    last = request_to(project, recorded)
    description = as_object(project.get("rollbackDescription")).get("description")
    could_be_ours = (
        last.get("type") == "promote" or not description or _is_described_by(project, operation)
    )
    # What a failed rollback has asked for says nothing of the one that repeats it.
    is_old = (foreign.to_number(last.get("requestedAt")) or 0.0) < began_at(operation)
    has_failed = last.get("jobStatus") in ("failed", "skipped")
    if is_old and has_failed:
        return Progress("Absent")
    if last and could_be_ours and last.get("jobStatus") not in ("succeeded", None):
        progress = await progress_of_aliasing(link, project, recorded)
        if progress is not None:
            return progress

    return Progress("Absent")


def _was_rolled_back(project: Mapping[str, Any], recorded: str, operation: Operation) -> bool:
    """Return whether this operation has brought production back, and it was moved since."""
    last = request_to(project, recorded)
    if not _is_described_by(project, operation) or production_id(project) == recorded:
        return False
    return not last or last.get("jobStatus") == "succeeded"


async def _roll_back(
    link: OpenConnection, project: Mapping[str, Any], recorded: str, operation: Operation
) -> Progress:
    path = f"/v1/projects/{rest.path_segment(project['id'])}/rollback/{rest.path_segment(recorded)}"
    query = {"description": f"Gatewright {operation.key}"[:_MAX_DESCRIPTION_LENGTH]}
    accepted = frozenset({402, 409})
    reply = await vercel.call(
        link, "POST", path, query=query, body={}, accepted=accepted, bucket="aliases"
    )

    # This plan rolls back to the previous deployment only; an older one is promoted instead, as by
    # hand.
    if reply.status == 402:
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
    changes: VariableChanges,
) -> Progress:
    recorded = str(snapshot["deployment"])
    name = snapshot.get("version") or recorded
    explanation = (
        f"redeploying {name} ({recorded}) with the current variables, "
        f"because since it was built: {reason}; "
        "an instant rollback would bring the old values back"
    )

    deployment = await find_deployment(link, project, **{KEY: operation.key})
    if deployment is None:
        deployment = await _find_same_build(link, project, operation, recorded, changes)
    if deployment is not None:
        progress = await advance_deployment(link, project, deployment, smoke, plainly=True)
        message = f"{explanation}: {progress.message}"
        return Progress(progress.state, message, progress.outputs, progress.stuck)

    if not act:
        return Progress("Absent")

    # What is built now would keep the flags that are still to be set back.
    if changes.pending:
        pending = list_names(link, list(changes.pending))
        raise _retry_later(f"{explanation}: waits until {pending} is set back")

    made = await _build_recorded(link, project, snapshot, operation, changes)
    return Progress("Running", f"{explanation}: {made['id']} is made", {"deployment": made["id"]})


async def _build_recorded(
    link: OpenConnection,
    project: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    operation: Operation,
    changes: VariableChanges,
) -> dict[str, Any]:
    recorded, git = str(snapshot["deployment"]), snapshot.get("git")
    source: dict[str, Any] = {"gitSource": git} if git else {"deploymentId": recorded}

    marks = {
        VERSION: snapshot.get("version"),
        SOURCE: recorded,
        FLAGS: ",".join(changes.had),
    }
    return await create_deployment(link, project, operation, source, **marks)


async def _find_same_build(
    link: OpenConnection,
    project: Mapping[str, Any],
    operation: Operation,
    recorded: str,
    changes: VariableChanges,
) -> dict[str, Any] | None:
    """Return a deployment that another operation made for the same end, with today's variables."""
    deployment = await find_deployment(link, project, **{SOURCE: recorded})
    if deployment is None or deployment.get("readyState") in FAILED_STATES:
        return None
    if vercel.created_at(deployment) < changes.newest:
        return None

    # What became of the build of an earlier try says nothing of this one, unless it is production.
    is_earlier = vercel.created_at(deployment) < began_at(operation)
    if is_earlier and deployment["id"] not in (production_id(project), moving_to(project)):
        return None
    return deployment
