"""From needs to an observation: reads what is needed; failures become values, nothing raises but a
lost API server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from gatewright.core.model.holding import Holding, Standing
from gatewright.core.model.needs import Needs
from gatewright.core.model.observation import Observation
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.rest_checks import has_unverified
from gatewright.core.spec.pinned_spec import pin_spec, unpin_spec
from gatewright.ports import Cluster, NotFound, Permanent, Retryable
from gatewright.runtime import clock
from gatewright.runtime.cluster import revisions
from gatewright.runtime.cluster.cached import CachedCluster, UncachedReader
from gatewright.runtime.execution import handlers, jobs, live_states, standings
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.externals import Externals, ReadSnapshot
from gatewright.runtime.sampler import Sampler
from gatewright.runtime.tracked import LeftState, OperationState, TrackedRelease, left_state_of

HOPELESS_TIMEOUT_S = 30.0
"""Seconds after which an operation has failed that is kept by something that cannot heal by itself
(an invalid name)."""
UNREAD_REPORT_TIMEOUT_S = 600.0
"""Seconds after which a Job has failed that has ended, and whose report nobody can read: a check
has no time-out of its own."""
OVERWRITTEN_RETRY_DELAYS_S = (5.0, 15.0, 30.0, 60.0)
"""Seconds after which a restore is made once more that others have overwritten; the last one
repeats. Whoever does that by machine does it again, so there is no hurry."""
JOB_READ_PATIENCE_S = 0.5
"""Seconds that a pass waits for what a Job has left."""
INSPECTION_DELAYS_S = (3.0, 5.0, 10.0, 20.0, 30.0)
"""When to look at the pods of an operation that does not end; the last one repeats."""
TRUSTED_INSPECTIONS = 2
"""Looks for which the watch is believed to have told everything; from then on the object is read as
well."""


async def read_body(cluster: Cluster, entry: TrackedRelease, view: View) -> PinnedSpec:
    """The pinned body of the run under way. Raises Retryable, Permanent."""
    run = view.run
    assert run is not None
    same = _body_from_spec(view)
    try:
        data = await _read_run_revision(cluster, entry, view)
    except Permanent:
        if same is None:
            raise
        return same  # what was there before the first change is lost; where the run goes to is not
    if same is not None:
        return same
    try:
        body = unpin_spec(data["body"])
    except (ValidationError, KeyError) as error:
        raise Permanent(
            f"what run {run.id} has pinned cannot be read: {type(error).__name__}"
        ) from None
    if body.hash() != run.bodyHash:
        raise Permanent(
            f"what run {run.id} has pinned is not what its status stands for; somebody "
            "else has written one of them"
        )
    return body


def _body_from_spec(view: View) -> PinnedSpec | None:
    """The pinned body where it is what the spec says: the spec that was parsed is shared."""
    run = view.run
    assert run is not None
    # A Retry may have pinned more than the spec says.
    repeated = any(stage.attempt > 1 for stage in run.stages)
    if view.spec is None or view.generation != run.generation or repeated:
        return None
    body = pin_spec(view.spec, run.id, _last_good_version(view))
    return body if body.hash() == run.bodyHash else None


async def _read_run_revision(
    cluster: Cluster, entry: TrackedRelease, view: View
) -> Mapping[str, Any]:
    """What the run has pinned and recorded. Raises Retryable, Permanent."""
    run = view.status.run
    assert run is not None
    data = await revisions.read_revision(cluster, view, run.revision)
    entry.snapshots, entry.connections = data["snapshots"], data.get("connections", {})
    return data


def _last_good_version(view: View) -> str | None:
    return view.status.lastGood.version if view.status.lastGood is not None else None


async def observe(
    cluster: Cluster,
    lens: CachedCluster,
    outside: Externals,
    sampler: Sampler,
    entry: TrackedRelease,
    view: View,
    needs: Needs,
    rival: str | None,
) -> tuple[Observation, live_states.LiveStates]:
    """Everything the core asked for, and what was looked at. Raises Retryable where the API server
    does not answer."""
    lens.follow(entry.key, _paths_of_interest(entry, view, needs))
    # Before a run and before a promotion everything is read afresh; else the watch has told of what
    # is about to be changed.
    fresh = view.run is None or view.run.phase == "Guarding"
    looked = await live_states.inspect_subjects(
        UncachedReader(lens) if fresh else lens, outside, entry, view, needs
    )
    progress = await _progress_by_operation(cluster, lens, outside, entry, view, needs)
    snapshots = await _snapshots_of_holdings(cluster, entry, view, needs)
    starts = bool(looked.live_states) and view.run is None
    inherited, lost = None, ""
    if starts and has_unverified(view.status) and view.status.run is not None:
        try:
            inherited = (await revisions.read_revision(cluster, view, view.status.run.revision))[
                "snapshots"
            ]
        except Permanent as error:
            lost = str(error)
    compared = await standings.compare_holdings(lens, outside, entry, view, needs, snapshots)
    compared |= {name: Standing(unknown=item["lost"]) for name, item in _lost_targets(entry)}
    seen = Observation(
        now=clock.now(),
        body=entry.body if view.run is not None else None,
        live_states=looked.live_states,
        looking=looked.looking,
        progress=progress,
        verdicts=sampler.verdicts(entry.key),
        standings=compared,
        resting=entry.left.known if entry.left is not None else None,
        snapshots=await snapshots_of(cluster, entry, view) if needs.snapshots else None,
        promoted=await _promoted_snapshots(cluster, entry, view, needs),
        stayed=entry.left.stayed if entry.left is not None else (),
        connections=entry.connections if view.run is not None else {},
        rival=rival,
        unwatched=entry.unwatched if view.run is not None else 0.0,
        delivered=entry.deliveries,
        inherited=inherited,
        lost=lost,
        kept=entry.kept,
    )
    return seen, looked


async def recall_live_state(cluster: Cluster, entry: TrackedRelease, view: View) -> None:
    """At rest: what was promoted, or what a rollback has left; read once a process. Raises
    Retryable."""
    live = view.status.live
    name = live.snapshot if live is not None else None
    if view.run is not None or view.deleting:
        entry.left = None
        return
    if name is None:
        entry.left = LeftState("", {})
    elif entry.left is None or entry.left.name != name:
        entry.left = await _read_left(cluster, entry, view, name)


async def _read_left(cluster: Cluster, entry: TrackedRelease, view: View, name: str) -> LeftState:
    last = view.status.run
    if (
        entry.body is not None
        and entry.snapshots is not None
        and last is not None
        and last.revision == name
    ):
        data: Mapping[str, Any] = {"body": entry.body.pinned(), "snapshots": entry.snapshots}
    else:
        try:
            data = await revisions.read_revision(cluster, view, name)
        except Permanent as error:
            return LeftState(name, {f"ControllerRevision {name}": {"lost": str(error)}})
    try:
        left = left_state_of(name, data)
    except (ValidationError, KeyError, TypeError) as error:
        return LeftState(
            name,
            {f"ControllerRevision {name}": {"lost": f"it cannot be read ({type(error).__name__})"}},
        )
    # Nothing outside the cluster is looked at while nothing is being released: no watch tells of
    # it.
    inside = {
        subject: item
        for subject, item in left.known.items()
        if not is_external(subject, item["config"])
    }
    return left._replace(known=inside)


def _lost_targets(entry: TrackedRelease) -> list[tuple[str, Any]]:
    """What was promoted, where nobody can read any more what that was."""
    return [
        (name, item)
        for name, item in (entry.left.known if entry.left is not None else {}).items()
        if "lost" in item
    ]


async def _promoted_snapshots(
    cluster: Cluster, entry: TrackedRelease, view: View, needs: Needs
) -> Mapping[str, Any]:
    """The last promotion's snapshots, where configuration that was captured returns to them. Raises
    Retryable."""
    captured = any(
        isinstance(config, Mapping) and config.get("captured")
        for config in needs.live_states.values()
    )
    good = view.status.lastGood
    if not captured or good is None or good.snapshot is None:
        return {}
    if entry.promoted is None or entry.promoted[0] != good.snapshot:
        try:
            data = await revisions.read_revision(cluster, view, good.snapshot)
        except Permanent:
            return {}
        entry.promoted = (good.snapshot, data["snapshots"])
    return entry.promoted[1]


async def _snapshots_of_holdings(
    cluster: Cluster, entry: TrackedRelease, view: View, needs: Needs
) -> Mapping[str, Any]:
    """The snapshots that restores among the holdings stand for. Raises Retryable."""
    if view.run is None:
        return {
            name: item.get("snapshot")
            for name, item in (entry.left.known if entry.left is not None else {}).items()
        }
    restores = any(
        item.kind == "restore" for holding in needs.holdings for item in holding.operations
    )
    watched = any(holding.window is not None for holding in needs.holdings)
    return await snapshots_of(cluster, entry, view) if restores or watched else {}


def _paths_of_interest(entry: TrackedRelease, view: View, needs: Needs) -> set[str]:
    """Paths to follow: what operations work on, what is looked at or held, and the targets while
    the run has them."""
    found = {path for path in entry.claims or () if path.startswith("/")}
    for operation in needs.operations:
        found |= handlers.paths_or_none(
            view.namespace, operation.subject, handlers.config_of(operation)
        )
    for subject, config in needs.live_states.items():
        found |= handlers.paths_or_none(view.namespace, subject, config)
    for holding in needs.holdings:
        found |= handlers.held_paths(view.namespace, holding.subject, holding.config)
    return found


async def _progress_by_operation(
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


def snapshot_of(
    cluster: Cluster, entry: TrackedRelease, view: View, operation: Operation
) -> ReadSnapshot:
    """How the state of an operation's subject from before the first change is read, when it is
    needed."""

    async def read() -> Any:
        return (await snapshots_of(cluster, entry, view)).get(operation.subject)

    return read


async def snapshots_of(cluster: Cluster, entry: TrackedRelease, view: View) -> Any:
    """The state of everything from before the first change. Raises Retryable, Permanent."""
    if entry.snapshots is None:
        await _read_run_revision(cluster, entry, view)
    return entry.snapshots


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
        and time.monotonic() < _due_at(known)
    ):
        return  # it has ended, and what it left cannot be read yet: that is asked for now and then
    snapshot = (
        (await snapshots_of(cluster, entry, view)).get(operation.subject)
        if _is_restore(operation)
        else None
    )
    try:
        found = await handlers.follow_operation(lens, view, operation, snapshot)
        again = _is_restore(operation) or (found.missing and _is_rolling_back(view))
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
    found = known.add_refusal(await _diagnose(lens, view, operation, known, found, snapshot))
    if found.state == "Absent" and known.progress.state == "Running":
        found = await _judge_vanished(lens, view, operation, found, snapshot)
    known.progress = _restore_again(known, found) if _is_restore(operation) else found


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


def _due_at(known: OperationState) -> float:
    """When an operation that does not end should be looked at once more (monotonic)."""
    return known.looked + INSPECTION_DELAYS_S[min(known.looks, len(INSPECTION_DELAYS_S) - 1)]


def _is_restore(operation: Operation) -> bool:
    return operation.kind == "restore"


async def _judge_vanished(
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


async def _diagnose(
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
    undoing = _is_rolling_back(view)
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
    if now >= _due_at(known):
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
    return replace(found, hopeless=hopeless and not _is_restore(operation))


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


def _is_rolling_back(view: View) -> bool:
    return view.run is not None and view.run.phase == "RollingBack"


def is_final(entry: TrackedRelease, error: Exception) -> bool:
    """Whether a refusal on the way back is the last word: a Release that is deleted with its
    namespace waits for nothing."""
    entry.terminating = entry.terminating or "being terminated" in str(error)
    deleting = "deletionTimestamp" in entry.obj["metadata"]
    return deleting and (isinstance(error, NotFound) or entry.terminating)


def seconds_until_look(entry: TrackedRelease) -> float | None:
    """Seconds until an operation that does not end should be looked at once more; None where none
    runs."""
    now = time.monotonic()
    due = [
        _due_at(known)
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


def seconds_until(moment: datetime) -> float:
    """Seconds until a point in time; a little more, so that a timer is not met a moment early."""
    return (moment - clock.now()) / timedelta(seconds=1) + 0.002
