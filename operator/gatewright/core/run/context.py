"""One decision about one Release: what the action functions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gatewright.api.status import JournalEntry, ReleaseStatus, Run
from gatewright.core.model.decision import Decision, KubernetesEvent
from gatewright.core.model.holding import Holding
from gatewright.core.model.observation import Observation
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.holdings import find_holdings
from gatewright.core.subject import traits_of

UNKNOWN_PROGRESS = Progress("Unknown")
MOST_REJECTED = 10


class Refused(Exception):
    """Why an Intervention does nothing."""


class NotYet(Exception):
    """An Intervention waits for the end of something that was ended for it; it is answered then."""


@dataclass(slots=True)
class Context:
    """What came in, and the decision that is being made."""

    view: View
    seen: Observation
    decision: Decision
    body_if_read: PinnedSpec | None
    requeue_times: list[datetime] = field(default_factory=list)
    """When it has to be looked at again, besides the clocks of the run."""
    begun_procedure: PinnedSpec | None = None
    """What the procedure pins that begins in this very pass."""
    derived_holdings: Sequence[Holding] | None = None

    @property
    def status(self) -> ReleaseStatus:
        return self.decision.status

    @property
    def now(self) -> datetime:
        return self.seen.now

    @property
    def run(self) -> Run:
        assert self.status.run is not None
        return self.status.run

    @property
    def body(self) -> PinnedSpec:
        assert self.body_if_read is not None
        return self.body_if_read

    def record_event(
        self, reason: str, message: str, warning: bool = False, guard: str = ""
    ) -> None:
        """Record an Event for this transition; `guard`: the one that it tells of."""
        self.decision.events.append(KubernetesEvent(reason, message[:1000], warning, guard))

    def write_now(self) -> None:
        """Let the write of this pass not wait."""
        self.decision.deferrable = False

    def holdings(self) -> Sequence[Holding]:
        """Return what the run had changed when it was looked at.

        What a pass does itself is looked at in the next. Raises UnknownReference.
        """
        if self.derived_holdings is None:
            run, body = self.view.run, self.seen.body
            self.derived_holdings = (
                find_holdings(self.view, body, run) if run is not None and body is not None else []
            )

        return self.derived_holdings

    def snapshots(self) -> Mapping[str, Any]:
        """Return what the run has recorded so far; what this very pass records counts.

        Raises LookupError where that was not read: it is never taken for nothing.
        """
        # Only what a run keeps has a body; what is promoted or left has none.
        if self.decision.revision is not None and "body" in self.decision.revision.data:
            return dict(self.decision.revision.data["snapshots"])
        if self.seen.snapshots is None:
            raise LookupError("what the run has recorded was not read")
        return self.seen.snapshots

    def pinned_connections(self) -> Mapping[str, Any]:
        """Return the Connections that the run has pinned."""
        return self.seen.connections

    def progress(self, operation: Operation) -> Progress:
        """Return how far an operation is, as observed."""
        return self.seen.progress.get(operation.id, UNKNOWN_PROGRESS)

    def perform(self, operation: Operation, stage: str, step: str) -> None:
        """Ask for an effect; its intent stands in the journal with the same write."""
        if all(other.id != operation.id for other in self.decision.operations):
            self.decision.operations.append(operation)
        self.write_now()

        # Only what changes something can be undone; what stops a Job belongs to no stage.
        if not stage or not traits_of(operation.subject).journaled:
            return
        entry = JournalEntry(key=operation.key, stage=stage, step=step, subject=operation.subject)
        if entry not in self.run.journal:
            self.run.journal.append(entry)
