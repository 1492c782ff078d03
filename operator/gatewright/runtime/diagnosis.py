"""Why an operation does not end, or has vanished: asked seldom, and only while it does not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from gatewright.core.model import (
    Holding,
    Operation,
    Progress,
    View,
)
from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster.cached import CachedCluster, UncachedReader
from gatewright.runtime.execution import handlers, jobs
from gatewright.runtime.operation_state import OperationState

HOPELESS_TIMEOUT_S = 30.0
"""Seconds after which an operation has failed that is kept by something that cannot heal by itself
(an invalid name)."""

UNREAD_REPORT_TIMEOUT_S = 600.0
"""Seconds after which a Job has failed that has ended, and whose report nobody can read: a check
has no time-out of its own."""

INSPECTION_DELAYS_S = (3.0, 5.0, 10.0, 20.0, 30.0)
"""When to look at the pods of an operation that does not end; the last one repeats."""

TRUSTED_INSPECTIONS = 2
"""Looks for which the watch is believed to have told everything; from then on the object is read as
well."""


def due_at(known: OperationState) -> float:
    """When an operation that does not end should be looked at once more (monotonic)."""
    return known.looked + INSPECTION_DELAYS_S[min(known.looks, len(INSPECTION_DELAYS_S) - 1)]


def is_restore(operation: Operation) -> bool:
    return operation.kind == "restore"


async def judge_vanished(
    lens: CachedCluster, view: View, operation: Operation, found: Progress, snapshot: Any
) -> Progress:
    """We have seen it run, and now there is no trace of it."""
    if operation.kind == "job":
        return await jobs.judge_vanished(UncachedReader(lens), view, operation)
    if operation.kind == "stop":
        return Progress("Succeeded")
    if operation.subject.startswith("target/"):
        # `kubectl rollout undo` takes our mark away with our change: that is not to be done once
        # more, but to be said.
        holding = Holding(operation.subject, handlers.config_of(operation), (operation,))
        standing = await handlers.compare_holding(lens, view, holding, snapshot)
        if standing.difference:
            return Progress("Running", standing.difference, stuck=True, overwritten=True)
    return found


async def diagnose(
    lens: CachedCluster,
    view: View,
    operation: Operation,
    known: OperationState,
    found: Progress,
    snapshot: Any,
) -> Progress:
    """Look at the pods of what does not end: seldom, and only while it does not. What waits for
    room, a pull or a node is said and waited for; only what cannot heal by itself fails before its
    time is over, and nothing on the way back."""
    undoing = is_rolling_back(view)
    if found.state == "Failed" and operation.subject.startswith("target/"):
        return await _add_reason(lens, view, operation, known, found)
    if found.state != "Running":
        return found
    now = time.monotonic()
    if found.stuck and (found.overwritten or not operation.subject.startswith("target/")):
        # It says itself what keeps it; what has no hope has failed, and on the way back it is
        # stopped first.
        known.stuck_since = known.stuck_since or now
        known.looked, known.looks, known.ended = now, known.looks + 1, operation.kind == "job"
        unread = operation.kind == "job" and now - known.stuck_since >= UNREAD_REPORT_TIMEOUT_S
        return (
            Progress("Failed", found.message)
            if (found.hopeless or unread) and not undoing
            else found
        )
    if now >= due_at(known):
        known.looked, known.looks = now, known.looks + 1
        try:
            if known.looks > TRUSTED_INSPECTIONS:
                found = await handlers.follow_operation(
                    UncachedReader(lens), view, operation, snapshot
                )
                if found.state != "Running":
                    return found
            why = await handlers.find_trouble(lens, view, operation)
        except (Retryable, Permanent):
            why = None
        known.stuck_since = (known.stuck_since or now) if why is not None or found.stuck else None
        known.hopeless_since = (
            (known.hopeless_since or now) if why is not None and why.hopeless else None
        )
        if why is not None:
            known.words = why.message
            told = (found.stuck or found.notable) and found.message not in why.message
            words = f"{why.message}; {found.message}"[:1000] if told else why.message
            found = Progress(
                "Running", words, stuck=True, hopeless=why.hopeless, notable=found.notable
            )
    elif known.stuck_since is not None:
        found = known.progress
    hopeless = known.hopeless_since is not None and now - known.hopeless_since >= HOPELESS_TIMEOUT_S
    if hopeless and not undoing:
        return Progress("Failed", found.message)
    # It ran for a moment: why it did not before is not forgotten.
    if known.words and known.words not in found.message:
        found = replace(found, message=f"{found.message}; before: {known.words}"[:1000])
    return replace(found, hopeless=hopeless and not is_restore(operation))


async def _add_reason(
    lens: CachedCluster, view: View, operation: Operation, known: OperationState, found: Progress
) -> Progress:
    """What has failed with what its pods say: that its time is over is no reason."""
    try:
        why = await handlers.find_trouble(lens, view, operation)
    except (Retryable, Permanent):
        why = None
    words = why.message if why is not None else known.words
    return (
        replace(found, message=f"{found.message}; {words}"[:1000])
        if words and words not in found.message
        else found
    )


def is_rolling_back(view: View) -> bool:
    return view.run is not None and view.run.phase == "RollingBack"
