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
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gatewright.core.model.decision import Decision
from gatewright.core.model.needs import Needs
from gatewright.core.model.view import View
from gatewright.core.run.decide import RECHECK_INTERVAL, decide
from gatewright.core.run.needs import find_needs
from gatewright.core.spec.pinned_spec import unpin_spec
from gatewright.ports import Retryable
from gatewright.runtime import clock
from gatewright.runtime.decision_writes import DecisionWriter
from gatewright.runtime.execution.resting_configs import is_config, resting_paths
from gatewright.runtime.followups import recall_followups
from gatewright.runtime.observe import observe
from gatewright.runtime.pinned import find_connections
from gatewright.runtime.progress import seconds_until_look
from gatewright.runtime.recall import recall_body, recall_live_state
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.starting import start_operations
from gatewright.runtime.telling import metrics
from gatewright.runtime.tracked import TrackedRelease
from gatewright.runtime.tracking import Tracking

LAZY_WRITE_DELAY_S = 0.4
MAX_ROUNDS = 100
"""Decisions of one pass; then others have their turn, and the next pass goes on."""


class Restless(Exception):
    """A pass has ended, and its last decision asks for another one.

    A long walk does that, and one that goes in circles.
    """


class Reconciler:
    """Makes passes."""

    def __init__(self, runtime: Runtime, tracking: Tracking) -> None:
        self.runtime = runtime
        self.writer = DecisionWriter(runtime, tracking)

    async def reconcile(self, entry: TrackedRelease) -> None:
        """Decide and act until nothing changes any more.

        Raises Restless, Retryable, Permanent, LeaseLost.
        """
        runtime = self.runtime
        decision: Decision | None = None
        entry.passes.turn += 1
        generation = entry.generation

        for _ in range(MAX_ROUNDS):
            # One spec is read in a pass; whoever edits it meanwhile waits for his turn.
            if entry.generation != generation:
                runtime.queue.add(entry.key)
                break

            view = replace(
                entry.view(), open_interventions=runtime.interventions.pending(entry.key)
            )
            entry.passes.tried = tuple(act.uid for act in view.open_interventions)
            if entry.tampered:
                # Nothing can be decided upon a status that cannot be read.
                await runtime.rescue.unreadable(entry, view)
                return

            await self._recall(entry, view)
            runtime.claims.take(entry, view)
            self._follow_memory(entry, view)
            needs = self._needs_of(entry, view)
            self._watch_needs(entry, view, needs)

            decision, again = await self._observe_and_act(entry, view, needs)
            entry.passes.unwatched = 0.0
            runtime.interventions.tell(entry.key, entry.persisted)

            if not again:
                break
        else:
            raise Restless

        await self._requeue_later(entry, decision)

    async def _recall(self, entry: TrackedRelease, view: View) -> None:
        """Read what this process does not remember of a run, its follow-ups and its rest."""
        if view.run is not None and entry.body is None:
            await recall_body(self.runtime.kube, entry, view)
        await recall_followups(self.runtime.kube, entry, view)
        await recall_live_state(self.runtime.kube, entry, view)

    def _watch_needs(self, entry: TrackedRelease, view: View, needs: Needs) -> None:
        """Measure and follow what the next decision needs, and nothing else."""
        passes = entry.passes
        rebuild = passes.resumed or view.run is None
        self.runtime.sampler.watch(entry.key, needs.measures, rebuild)
        under_way = view.run is not None
        changes_config = under_way and any(is_config(holding) for holding in needs.holdings)
        self.runtime.configs.follow(entry.key, entry.key[0], changes_config)
        self.runtime.config_changes.follow(entry.key, resting_paths(view, needs.holdings))
        passes.resumed = passes.resumed and view.run is not None and entry.body is None

    async def _observe_and_act(
        self, entry: TrackedRelease, view: View, needs: Needs
    ) -> tuple[Decision, bool]:
        """Return the decision upon what is seen now, and whether another one may follow."""
        rival = self.runtime.claims.rival(entry, view) if needs.live_states else None
        seen, looked = await observe(self.runtime, entry, view, needs, rival)

        if looked.wake is not None:
            self.runtime.queue.add_after(entry.key, looked.wake)

        if needs.connections:
            seen = replace(seen, **find_connections(self.runtime.connections, entry, view))
            if view.spec is not None:
                seen = replace(seen, no_room=self.runtime.run_memory.refusal(entry.key, view.spec))

        if self.runtime.claims.is_procedure_at_work(entry, view):
            seen = replace(seen, procedure_at_work=True)
        if needs.procedure is not None:
            rival = self.runtime.claims.rival_of_procedure(entry, needs.procedure)
            seen = replace(seen, procedure_rival=rival)

        if needs.author:
            runbook = view.runbook.name if view.runbook is not None else ""
            doubt = await self.runtime.probe.releases(*entry.key, runbook)
            seen = replace(seen, doubt=doubt)

        decision = decide(view, seen)
        return decision, await self._carry_out(entry, view, decision, looked.copies)

    def _follow_memory(self, entry: TrackedRelease, view: View) -> None:
        if view.run is None:
            self.runtime.run_memory.follow(entry.key, None)
        elif entry.body is not None:
            self.runtime.run_memory.follow(entry.key, entry.body.spec)

    def _needs_of(self, entry: TrackedRelease, view: View) -> Needs:
        body = entry.body if view.run is not None else None
        left = entry.left.known if entry.left is not None else None
        return find_needs(view, body, clock.now(), entry.kept, left)

    async def _carry_out(
        self, entry: TrackedRelease, view: View, decision: Decision, copies: list[dict[str, Any]]
    ) -> bool:
        """Do what was decided, in its order; return whether another decision may follow."""
        if decision.begins and view.run is None:
            self._claim_targets(entry, view, decision)

        self._claim_more(entry, view, decision)
        self._claim_for_procedure(entry, decision)

        if decision.add_finalizer and not view.finalized:
            await self.writer.add_finalizer(entry, view)
        # It has to be there before a status names it.
        if decision.revision is not None:
            await self.writer.keep_revision(view, decision, decision.revision, copies)

        procedure = decision.procedure_revision
        if procedure is not None:
            await self.writer.keep_procedure(view, procedure)
            entry.kept[procedure.name] = unpin_spec(procedure.data["body"])

        changed = entry.take_decided(decision.status)

        if not decision.deferrable and entry.status.is_unwritten:
            await self.writer.write_status(entry, view, decision)
            self._remember_decision(entry, view, decision)
        elif entry.status.is_unwritten:
            entry.status.defer(LAZY_WRITE_DELAY_S)

        for event in decision.events:
            metrics.transitions.labels(event.reason).inc()
            self.runtime.events.put(view, event)

        # Guards begin with the first change, however long that takes.
        if decision.operations and entry.body is not None:
            self.runtime.sampler.watch(entry.key, self._needs_of(entry, entry.view()).measures)

        performed = await self._start_operations(entry, view, decision)

        # Our finalizer is what keeps the object until its last words are written.
        if decision.remove_finalizer and view.finalized and not entry.status.is_unwritten:
            await self.writer.remove_finalizer(entry)
        if decision.prune_revisions:
            await self.writer.prune_revisions(entry)

        return changed or performed

    async def _start_operations(
        self, entry: TrackedRelease, view: View, decision: Decision
    ) -> bool:
        """Start operations, and beside them what nothing on the way back waits for."""
        starting = start_operations(self.runtime, entry, view, decision.operations)
        if not decision.add_finalizer_beside or view.finalized or entry.status.is_unwritten:
            return await starting

        performed, finalized = await asyncio.gather(
            starting, self.writer.add_finalizer(entry, view), return_exceptions=True
        )
        for result in (performed, finalized):
            if isinstance(result, BaseException):
                raise result
        return bool(performed)

    def _claim_targets(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """Claim the targets of a run that begins. Raises Retryable where another one has one."""
        rival = self.runtime.claims.rival(entry, view)
        if rival is not None:
            raise Retryable(f"release {rival} has taken a target first")

        revision = decision.run_revision
        if revision is not None:
            body = unpin_spec(revision.data["body"])
            self.runtime.run_memory.follow(entry.key, body.spec)
            self.runtime.claims.begin(entry, body)

    def _claim_more(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """Claim the targets that a Retry adds, before its run touches them. Raises Retryable."""
        if view.run is None or decision.revision is None or "body" not in decision.revision.data:
            return

        body = unpin_spec(decision.revision.data["body"])

        # The run has claimed all of it already.
        if entry.body is not None and body.spec == entry.body.spec:
            return

        rival = self.runtime.claims.extend_claims(entry, view, body)
        if rival is not None:
            raise Retryable(
                f"release {rival} has a target that the edit adds; the Retry waits for its run "
                "to end"
            )

    def _claim_for_procedure(self, entry: TrackedRelease, decision: Decision) -> None:
        """Claim what a procedure that begins changes. Raises Retryable where it is taken by now."""
        procedure = decision.procedure_revision
        if procedure is None:
            return
        rival = self.runtime.claims.begin_procedure(entry, unpin_spec(procedure.data["body"]))
        if rival is not None:
            raise Retryable(f"{rival} has taken what the procedure changes first")

    def _remember_decision(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """Take over into memory what the write that has just succeeded makes true."""
        if decision.begins:
            entry.operations.clear()
        revision = decision.run_revision
        if revision is None:
            return
        if "body" in revision.data:
            entry.begin_run(revision.data)
        else:
            entry.recalled.take_promotion(revision.name, revision.data)

    async def _requeue_later(self, entry: TrackedRelease, decision: Decision | None) -> None:
        """Write what has waited long enough, and say when to look again."""
        if entry.status.is_unwritten and entry.status.is_due and decision is not None:
            await self.writer.write_status(entry, entry.view(), decision)
            # What had to wait for the write (taking the finalizer away) can be done now.
            self.runtime.queue.add(entry.key)

        if decision is None:
            return

        delays = [delay for delay in self._delays_of(entry, decision) if delay is not None]
        if delays:
            self.runtime.queue.add_after(entry.key, max(entry.pace(), min(delays)))

    def _delays_of(self, entry: TrackedRelease, decision: Decision) -> Iterator[float | None]:
        """Yield after how many seconds each thing asks for a pass; None where it does not."""
        if decision.requeue_at is not None:
            yield clock.seconds_until(decision.requeue_at)
        if entry.status.flush_at is not None and entry.status.is_unwritten:
            yield entry.status.flush_at - time.monotonic()

        yield seconds_until_look(entry)

        # Nothing tells when what it waits for (a right, a lock, a Connection) is there.
        if decision.status.state == "Waiting":
            yield RECHECK_INTERVAL.total_seconds()
            yield self.runtime.probe.again(entry.key[0], "releases")
            yield self.runtime.probe.again(entry.key[0], "runbooks")
