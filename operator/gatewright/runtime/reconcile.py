"""One pass over one Release.

    needs (pure) -> observe -> decide (pure) -> finalizer, revision -> ONE status write
    -> operations -> again

until a decision changes nothing. The order is the safety: an operation is started only when the
status that intends it is what the API server holds. A write that fails by conflict, or whose answer
is lost, ends the pass: the object is read afresh and decided upon anew. A status that nothing
depends on may wait `LAZY_WRITE_DELAY_S` seconds for the next one, so that "steps done", "gates
passed" and "next stage begun" are one write where they follow each other at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gatewright.api import API_VERSION, FINALIZER
from gatewright.core.model import Decision, Holding, Needs, Operation, Progress, Revision, View
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
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.connections import Connections
from gatewright.runtime.execution import handlers, jobs
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.config_watch import ConfigWatches
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.followups import recall_followups
from gatewright.runtime.interventions import Interventions
from gatewright.runtime.observe import observe
from gatewright.runtime.pinned import find_connections
from gatewright.runtime.progress import seconds_until_look
from gatewright.runtime.queue import WorkQueue
from gatewright.runtime.recall import read_body, recall_live_state, snapshot_of, snapshots_of
from gatewright.runtime.rescue import Rescue
from gatewright.runtime.run_memory import RunMemory
from gatewright.runtime.sampler import Sampler
from gatewright.runtime.starting import _finality_of, _raise_if_pass_ends, _record_result
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.events import EventSender
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import Key, TrackedRelease

LAZY_WRITE_DELAY_S = 0.4
MAX_ROUNDS = 100
"""Decisions of one pass; then others have their turn, and the next pass goes on."""

log = logging.getLogger("gatewright.reconcile")


class Restless(Exception):
    """A pass has ended, and its last decision asks for another one.

    A long walk does that, and one that goes in circles.
    """


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
    run_memory: RunMemory
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
        """Decide and act until nothing changes any more.

        Raises Restless, Retryable, Permanent, LeaseLost.
        """
        decision: Decision | None = None
        entry.turn += 1
        generation = entry.generation

        for _ in range(MAX_ROUNDS):
            # One spec is read in a pass; whoever edits it meanwhile waits for his turn.
            if entry.generation != generation:
                self.queue.add(entry.key)
                break

            view = replace(entry.view(), open_interventions=self.people.pending(entry.key))
            entry.tried = tuple(act.uid for act in view.open_interventions)
            if entry.tampered:
                # Nothing can be decided upon a status that cannot be read.
                await self.rescue.unreadable(entry, view)
                return

            await self._recall(entry, view)
            self.claims.take(entry, view)
            self._follow_memory(entry, view)
            needs = self._needs_of(entry, view)
            self._watch_needs(entry, view, needs)

            decision, again = await self._observe_and_act(entry, view, needs)
            entry.unwatched = 0.0
            self.people.tell(entry.key, entry.persisted)

            if not again:
                break
        else:
            raise Restless

        await self._requeue_later(entry, decision)

    async def _recall(self, entry: TrackedRelease, view: View) -> None:
        """Read what this process does not remember of a run, its follow-ups and its rest."""
        if view.run is not None and entry.body is None:
            entry.body = await read_body(self.kube, entry, view)
        await recall_followups(self.kube, entry, view)
        await recall_live_state(self.kube, entry, view)

    def _watch_needs(self, entry: TrackedRelease, view: View, needs: Needs) -> None:
        """Measure and follow what the next decision needs, and nothing else."""
        self.sampler.watch(entry.key, needs.measures, rebuild=entry.resumed or view.run is None)
        holds_config = any(_is_config(holding) for holding in needs.holdings)
        self.configs.follow(entry.key, entry.key[0], holds_config)
        entry.resumed = entry.resumed and view.run is not None and entry.body is None

    async def _observe_and_act(
        self, entry: TrackedRelease, view: View, needs: Needs
    ) -> tuple[Decision, bool]:
        """Return the decision upon what is seen now, and whether another one may follow."""
        rival = self.claims.rival(entry, view) if needs.live_states else None
        seen, looked = await observe(
            self.kube, self.lens, self.outside, self.sampler, entry, view, needs, rival
        )
        if looked.wake is not None:
            self.queue.add_after(entry.key, looked.wake)
        if needs.connections:
            seen = replace(seen, **find_connections(self.links, entry, view))
            if view.spec is not None:
                seen = replace(seen, no_room=self.run_memory.refusal(entry.key, view.spec))
        if needs.author:
            seen = replace(seen, doubt=await self.probe.releases(*entry.key))

        decision = decide(view, seen)
        return decision, await self._carry_out(entry, view, decision, looked.copies)

    def _follow_memory(self, entry: TrackedRelease, view: View) -> None:
        if view.run is None:
            self.run_memory.follow(entry.key, None)
        elif entry.body is not None:
            self.run_memory.follow(entry.key, entry.body.spec)

    def _needs_of(self, entry: TrackedRelease, view: View) -> Needs:
        body = entry.body if view.run is not None else None
        left = entry.left.known if entry.left is not None else None
        return find_needs(view, body, clock.now(), entry.kept, left)

    async def _carry_out(
        self, entry: TrackedRelease, view: View, decision: Decision, copies: list[dict[str, Any]]
    ) -> bool:
        """Do what was decided, in its order; return whether another decision may follow."""
        if decision.add_finalizer and view.run is None:
            self._claim_targets(entry, view, decision)

        self._claim_more(entry, view, decision)

        if decision.add_finalizer and not view.finalized:
            await self._add_finalizer(entry, view)
        # It has to be there before a status names it.
        if decision.revision is not None:
            await self._keep_revision(view, decision, decision.revision, copies)

        changed = entry.take_decided(decision.status)

        if not decision.deferrable and entry.has_unwritten_status:
            await self._write_status(entry, view, decision)
            self._remember_decision(entry, view, decision)
        elif entry.has_unwritten_status and entry.flush_at is None:
            entry.flush_at = time.monotonic() + LAZY_WRITE_DELAY_S

        for event in decision.events:
            metrics.transitions.labels(event.reason).inc()
            self.outbox.put(view, event)

        # Guards begin with the first change, however long that takes.
        if decision.operations and entry.body is not None:
            self.sampler.watch(entry.key, self._needs_of(entry, entry.view()).measures)

        performed = await self._start_operations(entry, view, decision.operations)

        # Our finalizer is what keeps the object until its last words are written.
        if decision.remove_finalizer and view.finalized and not entry.has_unwritten_status:
            await self._remove_finalizer(entry)
        if decision.prune_revisions:
            await self._prune_revisions(entry)

        return changed or performed

    def _claim_targets(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """Claim the targets of a run that begins. Raises Retryable where another one has one."""
        rival = self.claims.rival(entry, view)
        if rival is not None:
            raise Retryable(f"release {rival} has taken a target first")

        if decision.revision is not None:
            body = unpin_spec(decision.revision.data["body"])
            self.run_memory.follow(entry.key, body.spec)
            entry.claims = self.claims.of(entry.key, body)

    async def _keep_revision(
        self, view: View, decision: Decision, revision: Revision, copies: list[dict[str, Any]]
    ) -> None:
        """Write a revision, after the copies of objects that it names."""
        named = revisions.copies_in(revision.data)
        for copy in copies:
            if copy["metadata"]["name"] in named:
                await self._keep_copy(copy)

        number = decision.status.run.id if decision.status.run is not None else 0
        await revisions.keep_revision(self.kube, view, revision, number)

    def _claim_more(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """Claim the targets that a Retry adds, before its run touches them. Raises Retryable."""
        if view.run is None or decision.revision is None or "body" not in decision.revision.data:
            return

        body = unpin_spec(decision.revision.data["body"])

        # The run has claimed all of it already.
        if entry.body is not None and body.spec == entry.body.spec:
            return

        rival = self.claims.extend_claims(entry, view, body)
        if rival is not None:
            raise Retryable(
                f"release {rival} has a target that the edit adds; the Retry waits for its run "
                "to end"
            )

    def _remember_decision(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """Take over into memory what the write that has just succeeded makes true."""
        if decision.add_finalizer:
            entry.operations.clear()
        if decision.revision is None:
            return
        if "body" in decision.revision.data:
            entry.begins(decision.revision.data)
        else:
            entry.remember_promotion(decision.revision.name, decision.revision.data)

    async def _write_status(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        if decision.urgent and view.run is not None:
            self._record_reaction_time(entry, view.run.phase)

        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": entry.basis},
            {"op": "add", "path": "/status", "value": entry.working},
        ]
        path = api_path(API_VERSION, "releases", *entry.key, "status")
        try:
            metadata = await self.kube.patch_for_metadata(path, body, "json")
            entry.record_write(metadata, entry.working)
        except Exception:
            metrics.status_writes.labels("failed").inc()

            # Whether it was written is not known: the next pass decides anew upon what was read.
            entry.working = entry.persisted
            entry.flush_at = None
            raise

        metrics.status_writes.labels("written").inc()
        entry.working = entry.persisted
        entry.flush_at = None
        self.count(entry.key, decision.status.state)

    def _record_reaction_time(self, entry: TrackedRelease, phase: str) -> None:
        """Measure from the answer that condemns a run to the write that says so."""
        # A run on the way back has been condemned already.
        if phase in ("RollingBack", "Verifying"):
            return

        answered = self.sampler.answered(entry.key)
        if answered:
            metrics.decision_to_write_s.observe(time.monotonic() - answered)

    async def _start_operations(
        self, entry: TrackedRelease, view: View, operations: list[Operation]
    ) -> bool:
        """Start operations; return whether the next decision may be another one at once."""
        if not operations:
            return False
        if entry.has_unwritten_status:
            raise Retryable(
                "an effect was decided whose intent is not written; the pass is repeated"
            )

        undoing = entry.phase == "RollingBack"

        in_cluster = []

        for operation in operations:
            if is_external(operation.subject, operation.config):
                snapshot = snapshot_of(self.kube, entry, view, operation)
                final = _finality_of(entry, undoing)
                self.outside.begin(entry, view, operation, snapshot, final)
            else:
                in_cluster.append(operation)

        # What is outside the cluster goes on by itself, and wakes the Release when it has news.
        if not in_cluster:
            return False

        results = await self._perform_operations(entry, view, in_cluster)
        for operation, result in zip(in_cluster, results, strict=True):
            _record_result(entry, operation, result, undoing)

        for result in results:
            _raise_if_pass_ends(result, undoing)

        return True

    async def _perform_operations(
        self, entry: TrackedRelease, view: View, operations: list[Operation]
    ) -> list[Progress | BaseException]:
        """Perform operations in the cluster, all at once; return what became of each."""
        snapshots: Mapping[str, Any] = {}

        if any(operation.kind == "restore" for operation in operations):
            snapshots = await snapshots_of(self.kube, entry, view)

        for operation in operations:
            config = handlers.config_of(operation)
            paths = handlers.paths_or_none(view.namespace, operation.subject, config)
            self.lens.follow_too(entry.key, paths)

        return await asyncio.gather(
            *(
                handlers.perform_operation(
                    self.lens, view, operation, snapshots.get(operation.subject)
                )
                for operation in operations
            ),
            return_exceptions=True,
        )

    async def _keep_copy(self, copy: dict[str, Any]) -> None:
        try:
            await self.kube.create(api_path("v1", "secrets", copy["metadata"]["namespace"]), copy)
        except Conflict:
            # Its name holds the hash of its content and our UID; whoever restores it compares both.
            return

    async def _add_finalizer(self, entry: TrackedRelease, view: View) -> None:
        meta = entry.obj["metadata"]
        finalizers = [*await foreign_finalizers(self.kube, entry), FINALIZER]
        body = {
            "metadata": {"finalizers": finalizers, "resourceVersion": meta["resourceVersion"]},
        }
        path = api_path(API_VERSION, "releases", *entry.key)
        entry.record_write(await self.kube.patch_for_metadata(path, body, "merge"))

    async def _remove_finalizer(self, entry: TrackedRelease) -> None:
        """Let go: first of the Jobs, whose results are all written, then of the Release."""
        if entry.body is None or has_jobs(entry.body):
            await jobs.release_jobs(self.kube, entry.view())

        rest = await foreign_finalizers(self.kube, entry)
        body = {"metadata": {"finalizers": rest, "resourceVersion": entry.basis}}
        path = api_path(API_VERSION, "releases", *entry.key)
        try:
            entry.record_write(await self.kube.patch_for_metadata(path, body, "merge"))
        except NotFound:
            # Somebody took our finalizer away: there is nothing left to let go of.
            self.forget(entry)

    async def _prune_revisions(self, entry: TrackedRelease) -> None:
        """Delete the revisions that nothing in the status needs any more.

        That happens when a run begins, in one request.
        """
        status = entry.persisted
        names = [(status.get(name) or {}).get("snapshot") for name in ("lastGood", "live")]
        names += [(status.get("run") or {}).get("revision")]
        rows = (*status.get("followUps", ()), *status.get("history", ()))
        names += [row.get("revision") for row in rows]
        needed = {name for name in names if name}

        runs = {int(past["id"]) for past in status.get("history", ())}

        try:
            await revisions.prune_revisions(self.kube, entry.view(), needed, runs)
        except (Retryable, Permanent) as error:
            # They only take room: the next run tries again.
            log.info(
                "%s/%s: old revisions stay for now: %s", *entry.key, error, extra=about(*entry.key)
            )

    async def _requeue_later(self, entry: TrackedRelease, decision: Decision | None) -> None:
        """Write what has waited long enough, and say when to look again."""
        is_due = entry.flush_at is not None and time.monotonic() >= entry.flush_at
        if entry.has_unwritten_status and is_due and decision is not None:
            await self._write_status(entry, entry.view(), decision)
            # What had to wait for the write (taking the finalizer away) can be done now.
            self.queue.add(entry.key)

        if decision is None:
            return

        delays = [delay for delay in self._delays_of(entry, decision) if delay is not None]
        if delays:
            self.queue.add_after(entry.key, max(entry.pace(), min(delays)))

    def _delays_of(self, entry: TrackedRelease, decision: Decision) -> Iterator[float | None]:
        """Yield after how many seconds each thing asks for a pass; None where it does not."""
        if decision.requeue_at is not None:
            yield clock.seconds_until(decision.requeue_at)
        if entry.flush_at is not None and entry.has_unwritten_status:
            yield entry.flush_at - time.monotonic()

        yield seconds_until_look(entry)

        # Nothing tells when what it waits for (a right, a lock, a Connection) is there.
        if decision.status.state == "Waiting":
            yield RECHECK_INTERVAL.total_seconds()
            yield self.probe.again(entry.key[0], "releases")


def _is_config(holding: Holding) -> bool:
    return holding.subject.startswith("configmap/")
