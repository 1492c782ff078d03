"""How far operations in the cluster are, and when to look again."""

from __future__ import annotations

import asyncio
import time

from gatewright.core.model import (
    Needs,
    Operation,
    Progress,
    View,
)
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.diagnosis import (
    diagnose,
    due_at,
    is_restore,
    is_rolling_back,
    judge_vanished,
)
from gatewright.runtime.execution import handlers
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.recall import snapshot_of, snapshots_of
from gatewright.runtime.tracked import TrackedRelease

OVERWRITTEN_RETRY_DELAYS_S = (5.0, 15.0, 30.0, 60.0)
"""Seconds after which a restore is made once more that others have overwritten; the last one
repeats. Whoever does that by machine does it again, so there is no hurry."""

JOB_READ_PATIENCE_S = 0.5
"""Seconds that a pass waits for what a Job has left."""


async def progress_by_operation(
    cluster: Cluster,
    lens: CachedCluster,
    outside: Externals,
    entry: TrackedRelease,
    view: View,
    needs: Needs,
) -> dict[str, Progress]:
    wanted = {operation.id: operation for operation in needs.operations}
    for gone in [known for known in entry.operations if known not in wanted]:
        forgotten = entry.operations.pop(gone)
        outside.leave_operation(entry, forgotten)
    inside = []
    for operation in wanted.values():
        if is_external(operation.subject, operation.config):
            outside.follow(entry, view, operation, snapshot_of(cluster, entry, view, operation))
        elif operation.kind == "job":
            inside.append(_refresh_beside(cluster, lens, outside, entry, view, operation))
        else:
            inside.append(_refresh_progress(cluster, lens, entry, view, operation))
    await asyncio.gather(*inside)
    return {name: entry.operations[name].progress for name in wanted if name in entry.operations}


async def _refresh_beside(
    cluster: Cluster,
    lens: CachedCluster,
    outside: Externals,
    entry: TrackedRelease,
    view: View,
    operation: Operation,
) -> None:
    """How far a Job is. What it has left is read from a kubelet, which may take its time: then the
    pass goes on without."""
    known = entry.operations.setdefault(
        operation.id, OperationState(Progress("Unknown"), time.monotonic())
    )
    if known.progress.state in ("Succeeded", "Failed"):
        return
    if known.poller is None:
        known.poller = outside.run_beside(_refresh_progress(cluster, lens, entry, view, operation))
    reading = known.poller
    await asyncio.wait({reading}, timeout=JOB_READ_PATIENCE_S)
    if reading.done():
        known.poller = None
        reading.result()
    else:
        reading.add_done_callback(lambda _: outside.changed(entry.key))


async def _refresh_progress(
    cluster: Cluster, lens: CachedCluster, entry: TrackedRelease, view: View, operation: Operation
) -> None:
    known = entry.operations.get(operation.id)
    if known is not None and known.progress.state in ("Succeeded", "Failed"):
        return
    if known is not None and known.refusals and time.monotonic() < known.retry_at:
        return
    if (
        known is not None
        and operation.kind == "job"
        and known.ended
        and time.monotonic() < due_at(known)
    ):
        return  # it has ended, and what it left cannot be read yet: that is asked for now and then
    snapshot = (
        (await snapshots_of(cluster, entry, view)).get(operation.subject)
        if is_restore(operation)
        else None
    )
    try:
        found = await handlers.follow_operation(lens, view, operation, snapshot)
        again = is_restore(operation) or (found.missing and is_rolling_back(view))
        if again and found.state == "Failed" and not view.deleting:
            # It is gone: whoever makes it again, it is restored then.
            found = Progress("Absent", found.message)
    except Permanent as error:
        found = Progress("Failed", str(error))
    except Retryable as error:
        found = known.progress if known else Progress("Unknown", str(error))
    if known is None:
        entry.operations[operation.id] = OperationState(found, time.monotonic())
        return
    found = known.add_refusal(await diagnose(lens, view, operation, known, found, snapshot))
    if found.state == "Absent" and known.progress.state == "Running":
        found = await judge_vanished(lens, view, operation, found, snapshot)
    known.progress = _restore_again(known, found) if is_restore(operation) else found


def _restore_again(known: OperationState, found: Progress) -> Progress:
    """What others have put in the place of what was restored is restored once more, a little later
    each time."""
    if not found.overwritten:
        known.again_at = None
        return found
    now = time.monotonic()
    if known.again_at is None:
        known.again_at = (
            now
            + OVERWRITTEN_RETRY_DELAYS_S[
                min(known.overwritten, len(OVERWRITTEN_RETRY_DELAYS_S) - 1)
            ]
        )
    if now < known.again_at:
        return found
    known.overwritten, known.again_at = known.overwritten + 1, None
    return Progress("Absent", found.message)


def seconds_until_look(entry: TrackedRelease) -> float | None:
    """Seconds until an operation that does not end should be looked at once more; None where none
    runs."""
    now = time.monotonic()
    due = [
        due_at(known)
        for known in entry.operations.values()
        if known.poller is None
        and known.progress.state in ("Running", "Unknown")
        and not known.refusals
    ]
    tries = [
        known.retry_at
        for known in entry.operations.values()
        if known.poller is None and known.refusals and known.retry_at > now
    ]
    tries += [known.again_at for known in entry.operations.values() if known.again_at is not None]
    if tries:
        return max(0.05, min(tries) - now)
    return max(0.2, min(due) - now) if due else None
