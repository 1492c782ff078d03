"""One pass over one Release.

needs (pure) -> observe -> decide (pure) -> finalizer, revision -> ONE status write -> effects ->
again

until a decision changes nothing. The order is the safety: an effect is started only when the status
that intends it is what the API server holds. A write that fails by conflict, or whose answer is
lost, ends the pass: the object is read afresh and decided upon anew. A status that nothing depends
on may wait `LAZY_WRITE_DELAY_S` seconds for the next one, so that "steps done", "gates passed" and
"next stage begun" are one write where they follow each other at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gatewright.api import API_VERSION, FINALIZER
from gatewright.core.model import Decision, Holding, Needs, Operation, Progress, View
from gatewright.core.run.check_operations import has_jobs
from gatewright.core.run.decide import RECHECK_INTERVAL, decide
from gatewright.core.run.needs import find_needs
from gatewright.core.spec.pinned_spec import unpin_spec
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime import clock
from gatewright.runtime.admission_probe import AdmissionProbe
from gatewright.runtime.claims import Claims
from gatewright.runtime.cluster import revisions
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.finalizers import foreign_finalizers
from gatewright.runtime.cluster.kube import Kube, api_path
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.connections import Connections
from gatewright.runtime.execution import handlers, jobs
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.config_watch import ConfigWatches
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.followups import recall_followups
from gatewright.runtime.interventions import Interventions
from gatewright.runtime.observe import (
    is_final,
    observe,
    read_body,
    recall_live_state,
    seconds_until,
    seconds_until_look,
    snapshot_of,
    snapshots_of,
)  # fmt: skip
from gatewright.runtime.pinned import find_connections
from gatewright.runtime.queue import WorkQueue
from gatewright.runtime.rescue import Rescue
from gatewright.runtime.sampler import Sampler
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.events import EventSender
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import Key, OperationState, TrackedRelease

LAZY_WRITE_DELAY_S = 0.4
MAX_ROUNDS = 100
"""Decisions of one pass; then others have their turn, and the next pass goes on."""

log = logging.getLogger("gatewright.passes")


class Restless(Exception):
    """A pass has ended, and its last decision asks for another one. A long walk does that, and one
    that goes in circles."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """What passes are made with."""

    kube: Kube
    lens: CachedCluster
    links: Connections
    outside: Externals
    sampler: Sampler
    people: Interventions
    outbox: EventSender
    claims: Claims
    configs: ConfigWatches
    probe: AdmissionProbe
    queue: WorkQueue[Key]
    forget: Callable[[TrackedRelease], None]
    """The Release is gone."""
    count: Callable[[Key, str | None], None]
    """Told of its state when that was written."""
    rescue: Rescue
    """For what cannot be decided upon."""

    async def make(self, entry: TrackedRelease) -> None:
        """Decide and act until nothing changes any more. Raises Restless, Retryable, Permanent,
        LeaseLost."""
        decision: Decision | None = None
        entry.turn += 1
        generation = entry.generation
        for _ in range(MAX_ROUNDS):
            if (
                entry.generation != generation
            ):  # one spec is read in a pass; whoever edits it meanwhile waits for his turn
                self.queue.add(entry.key)
                break
            view = replace(entry.view(), open_interventions=self.people.pending(entry.key))
            entry.tried = tuple(act.uid for act in view.open_interventions)
            if entry.tampered:
                await self.rescue.unreadable(entry, view)
                return
            if view.run is not None and entry.body is None:
                entry.body = await read_body(self.kube, entry, view)
            await recall_followups(self.kube, entry, view)
            await recall_live_state(self.kube, entry, view)
            self.claims.take(entry, view)
            wants = self._needs_of(entry, view)
            self.sampler.watch(entry.key, wants.measures, rebuild=entry.resumed or view.run is None)
            self.configs.follow(
                entry.key, entry.key[0], any(_is_config(holding) for holding in wants.holdings)
            )
            entry.resumed = entry.resumed and view.run is not None and entry.body is None
            rival = self.claims.rival(entry, view) if wants.live_states else None
            seen, looked = await observe(
                self.kube, self.lens, self.outside, self.sampler, entry, view, wants, rival
            )
            if looked.wake is not None:
                self.queue.add_after(entry.key, looked.wake)
            if wants.connections:
                seen = replace(seen, **find_connections(self.links, entry, view))
            if wants.author:
                seen = replace(seen, doubt=await self.probe.releases(*entry.key))
            decision = decide(view, seen)
            again = await self._carry_out(entry, view, decision, looked.copies)
            entry.unwatched = 0.0
            self.people.tell(entry.key, entry.persisted)
            if not again:
                break
        else:
            raise Restless
        await self._requeue_later(entry, decision)

    def _needs_of(self, entry: TrackedRelease, view: View) -> Needs:
        left = entry.left.known if entry.left is not None else None
        return find_needs(
            view, entry.body if view.run is not None else None, clock.now(), entry.kept, left
        )

    async def _carry_out(
        self, entry: TrackedRelease, view: View, decision: Decision, copies: list[dict[str, Any]]
    ) -> bool:
        """Do what was decided, in its order; True if the next decision may be another one."""
        if decision.add_finalizer and view.run is None:
            rival = self.claims.rival(entry, view)
            if rival is not None:
                raise Retryable(f"release {rival} has taken a target first")
            if decision.revision is not None:
                entry.claims = self.claims.of(entry.key, unpin_spec(decision.revision.data["body"]))
        self._claim_more(entry, view, decision)
        if decision.add_finalizer and not view.finalized:
            await self._add_finalizer(entry, view)
        named = (
            revisions.copies_in(decision.revision.data) if decision.revision is not None else set()
        )
        for copy in copies:
            if copy["metadata"]["name"] in named:
                await self._keep_copy(copy)
        if decision.revision is not None:
            number = decision.status.run.id if decision.status.run is not None else 0
            await revisions.keep_revision(self.kube, view, decision.revision, number)
        changed = entry.take_decided(decision.status)
        if not decision.deferrable and entry.has_unwritten_status:
            await self._write_status(entry, view, decision)
            self._remember_decision(entry, view, decision)
        elif entry.has_unwritten_status and entry.flush_at is None:
            entry.flush_at = time.monotonic() + LAZY_WRITE_DELAY_S
        for note in decision.events:
            metrics.transitions.labels(note.reason).inc()
            self.outbox.put(view, note)
        if (
            decision.operations and entry.body is not None
        ):  # guards begin with the first change, however long that takes
            self.sampler.watch(entry.key, self._needs_of(entry, entry.view()).measures)
        performed = await self._start_operations(entry, view, decision.operations)
        if decision.remove_finalizer and view.finalized and not entry.has_unwritten_status:
            await self._remove_finalizer(entry)
        if decision.prune_revisions:
            await self._prune_revisions(entry)
        return changed or performed

    def _claim_more(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """A Retry may add targets: they belong to the run before it touches them. Raises
        Retryable."""
        if view.run is None or decision.revision is None or "body" not in decision.revision.data:
            return
        body = unpin_spec(decision.revision.data["body"])
        if entry.body is not None and body.spec == entry.body.spec:
            return
        rival = self.claims.extend_claims(entry, view, body)
        if rival is not None:
            raise Retryable(
                f"release {rival} has a target that the edit adds; the Retry waits for its "
                "run to end"
            )

    def _remember_decision(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """What the write that has just succeeded makes true in memory."""
        if decision.add_finalizer:
            entry.operations.clear()
        if decision.revision is None:
            return
        if "body" in decision.revision.data:
            entry.begins(decision.revision.data)
        else:
            entry.remember_promotion(decision.revision.name, decision.revision.data)

    async def _write_status(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        if (
            decision.urgent
            and view.run is not None
            and view.run.phase not in ("RollingBack", "Verifying")
        ):
            answered = self.sampler.answered(entry.key)
            if answered:
                metrics.decision_to_write_s.observe(time.monotonic() - answered)
        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": entry.basis},
            {"op": "add", "path": "/status", "value": entry.working},
        ]
        try:
            where = api_path(API_VERSION, "releases", *entry.key, "status")
            entry.record_write(
                await self.kube.patch_for_metadata(where, body, "json"), entry.working
            )
        except Exception:
            metrics.status_writes.labels("failed").inc()
            entry.working = entry.persisted
            entry.flush_at = None
            raise
        metrics.status_writes.labels("written").inc()
        entry.working = entry.persisted
        entry.flush_at = None
        self.count(entry.key, decision.status.state)

    async def _start_operations(
        self, entry: TrackedRelease, view: View, effects: list[Operation]
    ) -> bool:
        """Start effects; True if the next decision may be another one at once."""
        if not effects:
            return False
        if entry.has_unwritten_status:
            raise Retryable(
                "an effect was decided whose intent is not written; the pass is repeated"
            )
        undoing = entry.phase == "RollingBack"
        inside = [item for item in effects if not is_external(item.subject, item.config)]
        for item in effects:
            if item not in inside:
                snapshot = snapshot_of(self.kube, entry, view, item)
                self.outside.begin(entry, view, item, snapshot, _finality_of(entry, undoing))
        if not inside:
            return False
        snapshots = (
            await snapshots_of(self.kube, entry, view)
            if any(item.kind == "restore" for item in inside)
            else {}
        )
        for item in inside:
            self.lens.follow_too(
                entry.key,
                handlers.paths_or_none(view.namespace, item.subject, handlers.config_of(item)),
            )
        results = await asyncio.gather(
            *(
                handlers.perform_operation(self.lens, view, item, snapshots.get(item.subject))
                for item in inside
            ),
            return_exceptions=True,
        )
        for operation, result in zip(inside, results, strict=True):
            if isinstance(result, Progress):
                before = entry.operations.get(operation.id)
                overwritten = before.overwritten if before is not None else 0
                entry.operations[operation.id] = OperationState(
                    result, time.monotonic(), overwritten=overwritten
                )
            elif isinstance(result, LeaseLost | Conflict) or not isinstance(
                result, Permanent | Retryable
            ):
                # Nobody knows: the next pass looks before it tries again.
                entry.operations.pop(operation.id, None)
            elif undoing and not is_final(entry, result):
                refusals = (
                    entry.operations[operation.id].refusals
                    if operation.id in entry.operations
                    else 0
                )
                known = entry.operations[operation.id] = OperationState(
                    Progress("Unknown"), refusals=refusals
                )
                known.refused(str(result))
            elif isinstance(result, Permanent):
                entry.operations[operation.id] = OperationState(
                    Progress("Failed", str(result)), time.monotonic()
                )
            else:
                entry.operations.pop(operation.id, None)
        for result in results:
            tried_again = (
                undoing
                and isinstance(result, Retryable)
                and not isinstance(result, LeaseLost | Conflict)
            )
            if (
                isinstance(result, BaseException)
                and not isinstance(result, Permanent)
                and not tried_again
            ):
                raise result
        return True

    async def _keep_copy(self, copy: dict[str, Any]) -> None:
        try:
            await self.kube.create(api_path("v1", "secrets", copy["metadata"]["namespace"]), copy)
        except Conflict:
            # Its name holds the hash of its content and our UID; whoever restores it compares both.
            return

    async def _add_finalizer(self, entry: TrackedRelease, view: View) -> None:
        meta = entry.obj["metadata"]
        body = {
            "metadata": {
                "finalizers": [*await foreign_finalizers(self.kube, entry), FINALIZER],
                "resourceVersion": meta["resourceVersion"],
            }
        }
        entry.record_write(
            await self.kube.patch_for_metadata(
                api_path(API_VERSION, "releases", *entry.key), body, "merge"
            )
        )

    async def _remove_finalizer(self, entry: TrackedRelease) -> None:
        """Let go: first of the Jobs, whose results are all written, then of the Release."""
        if entry.body is None or has_jobs(entry.body):
            await jobs.release_jobs(self.kube, entry.view())
        rest = await foreign_finalizers(self.kube, entry)
        body = {"metadata": {"finalizers": rest, "resourceVersion": entry.basis}}
        try:
            entry.record_write(
                await self.kube.patch_for_metadata(
                    api_path(API_VERSION, "releases", *entry.key), body, "merge"
                )
            )
        except NotFound:
            self.forget(entry)

    async def _prune_revisions(self, entry: TrackedRelease) -> None:
        """When a run begins, in one request, revisions go that nothing in the status needs any
        more."""
        status = entry.persisted
        names = [(status.get(name) or {}).get("snapshot") for name in ("lastGood", "live")]
        names += [(status.get("run") or {}).get("revision")]
        names += [
            row.get("revision")
            for row in (*status.get("followUps", ()), *status.get("history", ()))
        ]
        runs = {int(past["id"]) for past in status.get("history", ())}
        try:
            await revisions.prune_revisions(
                self.kube, entry.view(), {name for name in names if name}, runs
            )
        except (Retryable, Permanent) as error:
            log.info(
                "%s/%s: old revisions stay for now: %s", *entry.key, error, extra=about(*entry.key)
            )

    async def _requeue_later(self, entry: TrackedRelease, decision: Decision | None) -> None:
        """Nothing more to do now: write what has waited long enough, and say when to look again."""
        if (
            entry.has_unwritten_status
            and entry.flush_at is not None
            and time.monotonic() >= entry.flush_at
            and decision is not None
        ):
            await self._write_status(entry, entry.view(), decision)
            # What had to wait for the write (taking the finalizer away) can be done now.
            self.queue.add(entry.key)
        if decision is None:
            return
        delays = [seconds_until(decision.requeue_at)] if decision.requeue_at is not None else []
        delays += (
            [entry.flush_at - time.monotonic()]
            if entry.flush_at is not None and entry.has_unwritten_status
            else []
        )
        again = seconds_until_look(entry)
        delays += [again] if again is not None else []
        if decision.status.state == "Waiting":
            delays.append(RECHECK_INTERVAL.total_seconds())
            doubtful = self.probe.again(entry.key[0], "releases")
            delays += [doubtful] if doubtful is not None else []
        if delays:
            self.queue.add_after(entry.key, max(entry.pace(), min(delays)))


def _finality_of(entry: TrackedRelease, undoing: bool) -> Callable[[Exception], bool]:
    """Whether a refusal outside the cluster ends an operation: not on the way back, as long as
    there is one."""

    def final(error: Exception) -> bool:
        return isinstance(error, Permanent) and (not undoing or is_final(entry, error))

    return final


def _is_config(holding: Holding) -> bool:
    return holding.subject.startswith("configmap/")
