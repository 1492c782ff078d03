"""One pass over one Release: what the action functions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gatewright.api.release import Check
from gatewright.api.status import (
    GateStatus,
    JournalEntry,
    Outcome,
    Past,
    ReleaseStatus,
    Run,
    Served,
)
from gatewright.core.checks import judge
from gatewright.core.checks.active import CheckSet
from gatewright.core.checks.window import Verdict
from gatewright.core.model.decision import Decision, KubernetesEvent
from gatewright.core.model.needs import Holding
from gatewright.core.model.observation import Observation
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run import clocks, states
from gatewright.core.run.check_operations import operation_of_check, path_of, window_of
from gatewright.core.run.holdings import find_holdings
from gatewright.core.spec.expand import UnknownReference

UNKNOWN_PROGRESS = Progress("Unknown")
MOST_PAST_RUNS = 10
MOST_REJECTED = 10
JOURNALED_KINDS = ("target/", "configmap/", "secret/", "job/", "flags/", "action/")
"""How subjects begin whose changes stand in the journal, which a rollback reads backwards."""


class Refused(Exception):
    """Why an Intervention does nothing."""


@dataclass(slots=True)
class Context:
    """What came in, and the decision that is being made."""

    view: View
    seen: Observation
    decision: Decision
    body_if_read: PinnedSpec | None
    requeue_times: list[datetime] = field(default_factory=list)
    """When it has to be looked at again, besides the clocks of the run."""
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

    def record_event(self, reason: str, message: str, warning: bool = False) -> None:
        """Record an Event for this transition."""
        self.decision.events.append(KubernetesEvent(reason, message[:1000], warning))

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
        if not stage or not operation.subject.startswith(JOURNALED_KINDS):
            return
        entry = JournalEntry(key=operation.key, stage=stage, step=step, subject=operation.subject)
        if entry not in self.run.journal:
            self.run.journal.append(entry)


def fresh_statuses(checks: Sequence[Check]) -> list[GateStatus]:
    """Return a status line for each check, nothing known yet."""
    return [GateStatus(name=check.name, state="Unknown") for check in checks]


def evaluate_checks(ctx: Context, checks: CheckSet) -> None:
    """Bring the status lines of checks up to what was observed; start jobs that are due."""
    for check, row in checks.pairs():
        try:
            _evaluate_check(ctx, checks.place, check, row, checks.stage)
        except UnknownReference as error:
            # What it names is not there, and never will be in this run.
            row.state, row.message = "Failed", str(error)[:1000]
            row.since = clocks.format_time(ctx.now)


def _evaluate_check(
    ctx: Context, place: str, check: Check, row: GateStatus, stage: int | None
) -> None:
    operation = operation_of_check(ctx.view, ctx.body, ctx.run, place, check, stage)
    if operation is None:
        _evaluate_measured(ctx, place, check, row, stage)
        return
    # A Job and people answer once.
    if row.state in ("Passing", "Failed"):
        return

    # Nothing is acted on, and a Job is an act.
    if ctx.run.observe:
        row.state, row.message = "Passing", f"would run {operation.subject}"[:1000]
        row.since = clocks.format_time(ctx.now)
        return

    progress = ctx.progress(operation)
    if progress.state == "Absent":
        stage_name = ctx.run.stages[stage].name if stage is not None else ""
        ctx.perform(operation, stage_name, f"gates/{check.name}")

    # People answer those, not operations.
    if operation.kind != "ask":
        judge.update_from_progress(row, progress, ctx.now)


def _evaluate_measured(
    ctx: Context, place: str, check: Check, row: GateStatus, stage: int | None
) -> None:
    path = path_of(ctx.run, place, check, window_of(ctx.run, row, stage))
    verdict = ctx.seen.verdicts.get(path) or Verdict("Unknown", 0.0)

    # A guard that falls silent does not fail by itself, unless the spec says so.
    on_expiry = check.onHoldExpired or ("Guarding" if place == "guards" else "Fail")
    judge.update_status(check, row, verdict, ctx.now, silence_fails=on_expiry == "Fail")


def finish_run(ctx: Context, outcome: Outcome, reason: str) -> None:
    """End the run: history, finalizer, clocks."""
    run = ctx.run
    states.end(run, outcome)
    lasted = (ctx.now - clocks.parse_time(run.startedAt)).total_seconds()
    run.finishedAt = clocks.format_time(ctx.now)
    run.took = clocks.format_duration(lasted)
    run.reason = reason[:1000]
    run.timers.clear()
    run.held = None
    run.paused = None
    run.stopping = []

    others = [past for past in ctx.status.history if past.id != run.id]
    ctx.status.history = [_past_of(run, outcome), *others][:MOST_PAST_RUNS]

    ctx.decision.remove_finalizer = True
    bad = outcome in ("RolledBack", "RollbackFailed")
    ctx.record_event(outcome, f"{run.version}: {reason}", warning=bad)
    ctx.write_now()


def _past_of(run: Run, outcome: Outcome) -> Past:
    """Return what the history keeps of a run."""
    failed = [stage.name for stage in run.stages if stage.state == "Failed"]
    return Past(
        id=run.id,
        version=run.version,
        attempt=run.attempt,
        outcome=outcome,
        startedAt=run.startedAt,
        finishedAt=run.finishedAt,
        reason=run.reason,
        passedOver=failed if outcome == "Promoted" else [],
        revision=run.revision,
        people=run.people,
    )


def set_live(ctx: Context, served: Served | None) -> None:
    """Say what is live, from now on; None where nobody knows."""
    now = clocks.format_time(ctx.now)
    ctx.status.live = served.model_copy(update={"since": now}) if served is not None else None
