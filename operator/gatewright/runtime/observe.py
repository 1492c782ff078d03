"""From needs to an observation: reads what is needed; failures become values, nothing raises but a lost API server."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from gatewright.core.body import pin, unpin
from gatewright.core.classify import asked_again, broken
from gatewright.core.model import Body, Needs, Observation, Operation, Progress, Sight, View
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.runtime import actions, revisions
from gatewright.runtime.chosen import is_outside
from gatewright.runtime.entries import Entry, Known
from gatewright.runtime.lens import Fresh, Lens
from gatewright.runtime.outside import Outside, Snapshot
from gatewright.runtime.sampler import Sampler

STUCK_FOR = 30.0
"""Seconds after which an operation that cannot get on (an image that cannot be pulled) has failed."""
LOOKS = (3.0, 5.0, 10.0, 20.0, 30.0)
"""When to look at the pods of an operation that does not end; the last one repeats."""
TRUSTED = 2
"""Looks for which the watch is believed to have told everything; from then on the object is read as well."""


async def body_of(cluster: Cluster, entry: Entry, view: View) -> Body:
    """The pinned body of the run under way. Raises Retryable, Permanent."""
    run = view.run
    assert run is not None
    if view.spec is not None and view.generation == run.generation:
        body = pin(view.spec, run.id, _last_good(view))
        if body.hash() == run.bodyHash:
            return body
    data = await revisions.read_revision(cluster, view, run.revision)
    return unpin(data["body"])


def _last_good(view: View) -> str | None:
    return view.status.lastGood.version if view.status.lastGood is not None else None


async def observe(
    cluster: Cluster,
    lens: Lens,
    outside: Outside,
    sampler: Sampler,
    entry: Entry,
    view: View,
    needs: Needs,
    rival: str | None,
) -> tuple[Observation, list[dict[str, Any]]]:
    """Everything the core asked for, and the Secret copies that a snapshot needs. Raises Retryable."""
    lens.follow(entry.key, _of_interest(entry, view, needs))
    sights, copies = await _sights(Fresh(lens), outside, view, needs)
    progress = await _progress(cluster, lens, outside, entry, view, needs)
    after_failure = bool(sights) and view.run is None and broken(view.status)
    repinned = view.run is not None and view.run.phase == "Paused" and asked_again(view)
    inherited = None
    if (after_failure or repinned) and view.status.run is not None:
        inherited = (await revisions.read_revision(cluster, view, view.status.run.revision))["snapshots"]
    seen = Observation(
        now=datetime.now(UTC),
        body=entry.body,
        sights=sights,
        progress=progress,
        verdicts=sampler.verdicts(entry.key),
        rival=rival,
        unwatched=entry.unwatched if view.run is not None else 0.0,
        delivered=entry.deliveries,
        inherited=inherited,
        kept=entry.kept,
    )
    return seen, copies


def _of_interest(entry: Entry, view: View, needs: Needs) -> set[str]:
    """Paths to follow: what operations work on, what is looked at, and the targets for as long as the run has them."""
    found = {path for path in entry.claims or () if path.startswith("/")}
    for operation in needs.operations:
        found |= actions.paths_or_none(view.namespace, operation.subject, actions.config_of(operation))
    for subject, config in needs.sights.items():
        found |= actions.paths_or_none(view.namespace, subject, config)
    return found


async def _sights(
    cluster: Cluster, outside: Outside, view: View, needs: Needs
) -> tuple[dict[str, Sight], list[dict[str, Any]]]:
    sights: dict[str, Sight] = {}
    copies: list[dict[str, Any]] = []
    for subject, config in needs.sights.items():
        copy = None
        try:
            if is_outside(subject, config):
                sights[subject] = await outside.look(view, subject, config)
            else:
                sights[subject], copy = await actions.look(cluster, view, subject, config)
        except Permanent as error:
            sights[subject] = Sight(None, problem=str(error))
        if copy is not None:
            copies.append(copy)
    return sights, copies


async def _progress(
    cluster: Cluster, lens: Lens, outside: Outside, entry: Entry, view: View, needs: Needs
) -> dict[str, Progress]:
    wanted = {operation.id: operation for operation in needs.operations}
    for gone in [known for known in entry.operations if known not in wanted]:
        forgotten = entry.operations.pop(gone)
        if forgotten.poller is not None:  # what it was about to do over there is not wanted any more
            forgotten.poller.cancel()
    inside = []
    for operation in wanted.values():
        if is_outside(operation.subject, operation.config):
            outside.follow(entry, view, operation, _snapshot(cluster, entry, view, operation))
        else:
            inside.append(_refresh(lens, entry, view, operation))
    await asyncio.gather(*inside)
    return {name: entry.operations[name].progress for name in wanted if name in entry.operations}


def _snapshot(cluster: Cluster, entry: Entry, view: View, operation: Operation) -> Snapshot:
    async def read() -> Any:
        return (await snapshots_of(cluster, entry, view)).get(operation.subject)

    return read


async def snapshots_of(cluster: Cluster, entry: Entry, view: View) -> Any:
    """The state of everything from before the first change. Raises Retryable, Permanent."""
    if entry.snapshots is None:
        run = view.status.run
        assert run is not None
        entry.snapshots = (await revisions.read_revision(cluster, view, run.revision))["snapshots"]
    return entry.snapshots


async def _refresh(lens: Lens, entry: Entry, view: View, operation: Operation) -> None:
    known = entry.operations.get(operation.id)
    if known is not None and known.progress.state in ("Succeeded", "Failed"):
        return
    try:
        found = await actions.follow(lens, view, operation)
    except Permanent as error:
        found = Progress("Failed", str(error))
    except Retryable as error:
        found = known.progress if known else Progress("Unknown", str(error))
    if known is None:
        entry.operations[operation.id] = Known(found, time.monotonic())
        return
    found = await _diagnosed(lens, view, operation, known, found)
    if found.state == "Absent" and known.progress.state == "Running":
        found = _vanished(operation, found)
    known.progress = found


def _vanished(operation: Operation, found: Progress) -> Progress:
    """We have seen it run, and now there is no trace of it."""
    if operation.kind == "job":
        return Progress(
            "Failed", f"the Job {operation.subject.partition('/')[2]} was deleted before its result was read"
        )
    return Progress("Succeeded") if operation.kind == "stop" else found


async def _diagnosed(lens: Lens, view: View, operation: Operation, known: Known, found: Progress) -> Progress:
    """Look at the pods of what does not end: seldom, and only while it does not."""
    if found.state != "Running":
        return found
    now = time.monotonic()
    if now - known.looked >= LOOKS[min(known.looks, len(LOOKS) - 1)]:
        known.looked, known.looks = now, known.looks + 1
        try:
            if known.looks > TRUSTED:
                found = await actions.follow(Fresh(lens), view, operation)
                if found.state != "Running":
                    return found
            words = await actions.trouble(lens, view, operation)
        except (Retryable, Permanent):
            words = None
        if words is None:
            known.stuck_since = None
        else:
            known.stuck_since = known.stuck_since or now
            found = Progress("Running", words, stuck=True)
    elif known.stuck_since is not None:
        found = known.progress
    if known.stuck_since is not None and now - known.stuck_since >= STUCK_FOR:
        return Progress("Failed", found.message)
    return found


def look_again(entry: Entry) -> float | None:
    """Seconds until an operation that does not end should be looked at once more; None where none runs."""
    now = time.monotonic()
    due = [
        known.looked + LOOKS[min(known.looks, len(LOOKS) - 1)]
        for known in entry.operations.values()
        if known.poller is None and known.progress.state in ("Running", "Unknown")
    ]
    return max(0.2, min(due) - now) if due else None


def until(moment: datetime) -> float:
    """Seconds until a point in time; a little more, so that a timer is not met a moment early."""
    return (moment - datetime.now(UTC)) / timedelta(seconds=1) + 0.002
