"""How far operations in the cluster are, and when to look again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gatewright.core.model.needs import Needs
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.diagnosis import Followed, diagnose, due_at, judge_vanished
from gatewright.runtime.execution import handlers
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.recall import snapshot_of, snapshots_of
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.tracked import TrackedRelease

OVERWRITTEN_RETRY_DELAYS_S = (5.0, 15.0, 30.0, 60.0)
"""Seconds after which a restore is made once more that others have overwritten; the last one
repeats. Whoever does that by machine does it again, so there is no hurry."""
JOB_READ_PATIENCE_S = 0.5
"""Seconds that a pass waits for what a Job has left."""


async def progress_by_operation(
    runtime: Runtime, entry: TrackedRelease, view: View, needs: Needs
) -> dict[str, Progress]:
    """Return how far each operation is that is asked for, and leave all others.

    Raises Retryable, Permanent.
    """
    wanted = {operation.id: operation for operation in needs.operations}

    for gone in [name for name in entry.operations if name not in wanted]:
        forgotten = entry.operations.pop(gone)
        runtime.externals.leave_operation(entry, forgotten)

    inside = []

    for operation in wanted.values():
        if is_external(operation.subject, operation.config):
            snapshot = snapshot_of(runtime.kube, entry, view, operation)
            runtime.externals.follow(entry, view, operation, snapshot)
        elif operation.kind == "job":
            inside.append(_refresh_beside(runtime, entry, view, operation))
        else:
            inside.append(_refresh_progress(runtime.kube, runtime.cached, entry, view, operation))

    await asyncio.gather(*inside)

    return {name: entry.operations[name].progress for name in wanted if name in entry.operations}


def seconds_until_look(entry: TrackedRelease) -> float | None:
    """Return the seconds until an operation that does not end should be looked at once more.

    None where none runs.
    """
    now = time.monotonic()
    operations = list(entry.operations.values())
    followed = [known for known in operations if known.poller is None]

    tries = [known.retry_at for known in followed if known.refusals and known.retry_at > now]
    tries += [known.again_at for known in operations if known.again_at is not None]
    if tries:
        return max(0.05, min(tries) - now)

    due = [
        due_at(known)
        for known in followed
        if known.progress.state in ("Running", "Unknown") and not known.refusals
    ]
    return max(0.2, min(due) - now) if due else None


async def _refresh_beside(
    runtime: Runtime, entry: TrackedRelease, view: View, operation: Operation
) -> None:
    """Find out how far a Job is.

    What it has left is read from a kubelet, which may take its time: then the pass goes on without.
    """
    known = entry.operations.setdefault(
        operation.id, OperationState(Progress("Unknown"), time.monotonic())
    )
    if known.progress.state in ("Succeeded", "Failed"):
        return

    if known.poller is None:
        known.poller = runtime.externals.run_beside(
            _refresh_progress(runtime.kube, runtime.cached, entry, view, operation)
        )

    reading = known.poller
    await asyncio.wait({reading}, timeout=JOB_READ_PATIENCE_S)
    if reading.done():
        known.poller = None
        reading.result()
    else:
        reading.add_done_callback(lambda _: runtime.externals.changed(entry.key))


async def _refresh_progress(
    cluster: Cluster, cached: CachedCluster, entry: TrackedRelease, view: View, operation: Operation
) -> None:
    """Find out how far an operation is, unless that is known, or it is not its time yet."""
    known = entry.operations.get(operation.id)
    if known is not None and _is_left_alone(known, operation):
        return

    snapshot: Any = None
    if operation.kind == "restore":
        snapshot = (await snapshots_of(cluster, entry, view)).get(operation.snapshot_name)
    followed = Followed(view, operation, snapshot)

    progress = await _follow(cached, followed, known)
    if known is None:
        entry.operations[operation.id] = OperationState(progress, time.monotonic())
        return

    progress = known.add_refusal(await diagnose(cached, followed, known, progress))
    if progress.state == "Absent" and known.progress.state == "Running":
        progress = await judge_vanished(cached, followed, progress)

    known.progress = _restore_again(known, progress) if followed.is_restore else progress


def _is_left_alone(known: OperationState, operation: Operation) -> bool:
    """Return whether an operation has ended, or is not to be looked at yet."""
    if known.progress.state in ("Succeeded", "Failed"):
        return True

    now = time.monotonic()
    # Whoever refused is asked again with back-off.
    if known.refusals and now < known.retry_at:
        return True

    # It has ended, and what it left cannot be read yet: that is asked for now and then.
    return operation.kind == "job" and known.ended and now < due_at(known)


async def _follow(
    cached: CachedCluster, followed: Followed, known: OperationState | None
) -> Progress:
    """Return how far an operation is by what is known of its subject."""
    try:
        progress = await handlers.follow_operation(cached, *followed)
    except Permanent as error:
        return Progress("Failed", str(error))
    except Retryable as error:
        return known.progress if known is not None else Progress("Unknown", str(error))

    again = followed.is_restore or (progress.missing and followed.is_rolling_back)
    if again and progress.state == "Failed" and not followed.view.deleting:
        # It is gone: whoever makes it again, it is restored then.
        return Progress("Absent", progress.message)

    return progress


def _restore_again(known: OperationState, progress: Progress) -> Progress:
    """Return the progress of a restore that is made once more where others have overwritten it.

    Each time that is a little later.
    """
    if not progress.overwritten:
        known.again_at = None
        return progress

    now = time.monotonic()

    if known.again_at is None:
        number = min(known.overwritten, len(OVERWRITTEN_RETRY_DELAYS_S) - 1)
        known.again_at = now + OVERWRITTEN_RETRY_DELAYS_S[number]

    if now < known.again_at:
        return progress

    known.overwritten, known.again_at = known.overwritten + 1, None
    return Progress("Absent", progress.message)
