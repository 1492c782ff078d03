"""Why an operation does not end, or has vanished: asked seldom, and only while it does not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

from gatewright.core.model.holding import Holding
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.core.subject import traits_of
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


class Followed(NamedTuple):
    """An operation in the cluster that is followed."""

    view: View
    operation: Operation
    snapshot: Any
    """Of a restore: what its subject was before the first change."""

    @property
    def is_restore(self) -> bool:
        """Whether it returns something to what it was."""
        return self.operation.kind == "restore"

    @property
    def rolls_out(self) -> bool:
        """Whether it goes on after it was written, as pods start."""
        return traits_of(self.operation.subject).rolls_out

    @property
    def is_rolling_back(self) -> bool:
        """Whether its run is on the way back."""
        return self.view.run is not None and self.view.run.phase == "RollingBack"


def due_at(known: OperationState) -> float:
    """Return when an operation that does not end should be looked at once more (monotonic)."""
    return known.looked + INSPECTION_DELAYS_S[min(known.looks, len(INSPECTION_DELAYS_S) - 1)]


async def judge_vanished(cached: CachedCluster, followed: Followed, progress: Progress) -> Progress:
    """Return what has become of an operation that was seen to run, and has left no trace."""
    view, operation, snapshot = followed

    # It carries a finalizer until its run has ended: somebody has taken that, or its label.
    if operation.kind == "job":
        return await jobs.judge_vanished(UncachedReader(cached), view, operation)
    # What is not there does not run.
    if operation.kind == "stop":
        return Progress("Succeeded")

    # `kubectl rollout undo` takes our mark away with our change: that is not to be done once more,
    # but to be said.
    if followed.rolls_out:
        holding = Holding(operation.subject, handlers.config_of(operation), (operation,))
        standing = await handlers.compare_holding(cached, view, holding, snapshot)
        if standing.difference:
            return Progress("Running", standing.difference, stuck=True, overwritten=True)

    return progress


async def diagnose(
    cached: CachedCluster, followed: Followed, known: OperationState, progress: Progress
) -> Progress:
    """Return the progress of what does not end, with what keeps it.

    What waits for room, a pull or a node is said and waited for; only what cannot heal by itself
    fails before its time is over, and nothing on the way back.
    """
    if progress.state == "Failed" and followed.rolls_out:
        return await _add_reason(cached, followed, known, progress)
    if progress.state != "Running":
        return progress

    now = time.monotonic()

    # It says itself what keeps it.
    if progress.stuck and (progress.overwritten or not followed.rolls_out):
        return _judge_stuck(followed, known, progress, now)

    if now >= due_at(known):
        progress = await _inspect(cached, followed, known, progress)
        if progress.state != "Running":
            return progress
    elif known.stuck_since is not None:
        progress = known.progress

    return _judge_time(followed, known, progress, now)


def _judge_stuck(
    followed: Followed, known: OperationState, progress: Progress, now: float
) -> Progress:
    """Fail what has no hope; on the way back it is stopped first."""
    is_job = followed.operation.kind == "job"
    known.stuck_since = known.stuck_since or now
    known.looked, known.looks, known.ended = now, known.looks + 1, is_job

    is_unread = is_job and now - known.stuck_since >= UNREAD_REPORT_TIMEOUT_S
    if (progress.hopeless or is_unread) and not followed.is_rolling_back:
        return Progress("Failed", progress.message)
    return progress


async def _inspect(
    cached: CachedCluster, followed: Followed, known: OperationState, progress: Progress
) -> Progress:
    """Look at the pods of an operation, and return its progress with what they say."""
    now = time.monotonic()
    known.looked, known.looks = now, known.looks + 1

    try:
        if known.looks > TRUSTED_INSPECTIONS:
            progress = await handlers.follow_operation(UncachedReader(cached), *followed)
            if progress.state != "Running":
                return progress
        trouble = await handlers.find_trouble(cached, followed.view, followed.operation)
    except (Retryable, Permanent):
        trouble = None

    is_stuck = trouble is not None or progress.stuck
    is_hopeless = trouble is not None and trouble.hopeless
    known.stuck_since = (known.stuck_since or now) if is_stuck else None
    known.hopeless_since = (known.hopeless_since or now) if is_hopeless else None

    if trouble is None:
        return progress

    known.words = trouble.message
    is_news = (progress.stuck or progress.notable) and progress.message not in trouble.message
    words = f"{trouble.message}; {progress.message}"[:1000] if is_news else trouble.message
    return Progress(
        "Running", words, stuck=True, hopeless=trouble.hopeless, notable=progress.notable
    )


def _judge_time(
    followed: Followed, known: OperationState, progress: Progress, now: float
) -> Progress:
    """Fail what has been without hope for long enough, and keep in mind what kept it."""
    since = known.hopeless_since
    is_hopeless = since is not None and now - since >= HOPELESS_TIMEOUT_S
    if is_hopeless and not followed.is_rolling_back:
        return Progress("Failed", progress.message)

    # It ran for a moment: why it did not before is not forgotten.
    if known.words and known.words not in progress.message:
        message = f"{progress.message}; before: {known.words}"[:1000]
        progress = replace(progress, message=message)

    return replace(progress, hopeless=is_hopeless and not followed.is_restore)


async def _add_reason(
    cached: CachedCluster, followed: Followed, known: OperationState, progress: Progress
) -> Progress:
    """Return what has failed with what its pods say: that its time is over is no reason."""
    try:
        trouble = await handlers.find_trouble(cached, followed.view, followed.operation)
    except (Retryable, Permanent):
        trouble = None

    words = trouble.message if trouble is not None else known.words
    if not words or words in progress.message:
        return progress
    return replace(progress, message=f"{progress.message}; {words}"[:1000])
