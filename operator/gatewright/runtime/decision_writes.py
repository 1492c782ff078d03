"""Write what a decision says: the status, the finalizer, and the revisions that it names."""

from __future__ import annotations

import logging
import time
from typing import Any

from gatewright.api import API_VERSION, FINALIZER
from gatewright.core.model.decision import Decision, Revision
from gatewright.core.model.view import View
from gatewright.core.run.check_operations import has_jobs
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime.cluster import revisions
from gatewright.runtime.cluster.finalizers import foreign_finalizers
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution import jobs
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import TrackedRelease
from gatewright.runtime.tracking import Tracking

log = logging.getLogger("gatewright.decision_writes")


class DecisionWriter:
    """Writes to Releases, each time on the edition that was decided upon."""

    def __init__(self, runtime: Runtime, tracking: Tracking) -> None:
        self._kube = runtime.kube
        self._sampler = runtime.sampler
        self._tracking = tracking

    async def write_status(self, entry: TrackedRelease, view: View, decision: Decision) -> None:
        """Write the status that was decided. Raises Conflict, Retryable, Permanent."""
        if decision.rolls_back and view.run is not None:
            self._record_reaction_time(entry, view.run.phase)

        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": entry.status.basis},
            {"op": "add", "path": "/status", "value": entry.working},
        ]
        path = api_path(API_VERSION, "releases", *entry.key, "status")
        try:
            metadata = await self._kube.patch_for_metadata(path, body, "json")
            entry.record_write(metadata, entry.working)
        except Exception:
            metrics.status_writes.labels("failed").inc()

            # Whether it was written is not known: the next pass decides anew upon what was read.
            entry.status.settle()
            raise

        metrics.status_writes.labels("written").inc()
        entry.status.settle()
        self._tracking.count_state(entry.key, decision.status.state)

    def _record_reaction_time(self, entry: TrackedRelease, phase: str) -> None:
        """Measure from the answer that condemns a run to the write that says so."""
        # A run on the way back has been condemned already.
        if phase in ("RollingBack", "Verifying"):
            return

        answered = self._sampler.answered(entry.key)
        if answered:
            metrics.decision_to_write_s.observe(time.monotonic() - answered)

    async def keep_revision(
        self, view: View, decision: Decision, revision: Revision, copies: list[dict[str, Any]]
    ) -> None:
        """Write a revision, after the copies of objects that it names."""
        named = revisions.copies_in(revision.data)
        for copy in copies:
            if copy["metadata"]["name"] in named:
                await self._keep_copy(copy)

        number = decision.status.run.id if decision.status.run is not None else 0
        await revisions.keep_revision(self._kube, view, revision, number)

    async def keep_procedure(self, view: View, revision: Revision) -> None:
        """Write what a procedure pins. It belongs to no run, and goes when the procedure has
        ended."""
        await revisions.keep_revision(self._kube, view, revision, 0)

    async def _keep_copy(self, copy: dict[str, Any]) -> None:
        try:
            await self._kube.create(api_path("v1", "secrets", copy["metadata"]["namespace"]), copy)
        except Conflict:
            # Its name holds the hash of its content and our UID; whoever restores it compares both.
            return

    async def add_finalizer(self, entry: TrackedRelease, view: View) -> None:
        """Keep the Release until its last words are written. Raises Conflict, Retryable."""
        meta = entry.obj["metadata"]
        finalizers = [*await foreign_finalizers(self._kube, entry), FINALIZER]
        body = {
            "metadata": {"finalizers": finalizers, "resourceVersion": meta["resourceVersion"]},
        }
        path = api_path(API_VERSION, "releases", *entry.key)
        entry.record_write(await self._kube.patch_for_metadata(path, body, "merge"))

    async def remove_finalizer(self, entry: TrackedRelease) -> None:
        """Let go: first of the Jobs, whose results are all written, then of the Release."""
        procedures = entry.persisted.get("procedures")
        if entry.body is None or has_jobs(entry.body) or procedures:
            await jobs.release_jobs(self._kube, entry.view())

        rest = await foreign_finalizers(self._kube, entry)
        body = {"metadata": {"finalizers": rest, "resourceVersion": entry.status.basis}}
        path = api_path(API_VERSION, "releases", *entry.key)
        try:
            entry.record_write(await self._kube.patch_for_metadata(path, body, "merge"))
        except NotFound:
            # Somebody took our finalizer away: there is nothing left to let go of.
            self._tracking.forget(entry)

    async def prune_revisions(self, entry: TrackedRelease) -> None:
        """Delete the revisions that nothing in the status needs any more.

        That happens when a run begins, in one request.
        """
        status = entry.persisted
        names = [(status.get(name) or {}).get("snapshot") for name in ("lastGood", "live")]
        names += [(status.get("run") or {}).get("revision")]
        kept = status.get("kept", ())
        rows = (*status.get("followUps", ()), *status.get("history", ()), *kept)
        rows += (*status.get("atRest", ()), *status.get("procedures", ()))
        names += [row.get("revision") for row in rows]
        # What was promoted can be undone for as long as all that it needs is there.
        names += [row["record"] for row in kept]
        names += [row["before"].get("snapshot") for row in kept]
        needed = {name for name in names if name}

        runs = {int(past["id"]) for past in status.get("history", ())}

        try:
            await revisions.prune_revisions(self._kube, entry.view(), needed, runs)
        except (Retryable, Permanent) as error:
            # They only take room: the next run tries again.
            log.info(
                "%s/%s: old revisions stay for now: %s", *entry.key, error, extra=about(*entry.key)
            )
