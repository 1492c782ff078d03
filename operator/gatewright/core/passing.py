"""One pass over one Release: what the action functions share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gatewright.api.release import Check
from gatewright.api.status import Entry, GateStatus, Outcome, Past, ReleaseStatus, Run, Served
from gatewright.core import judge, states, times
from gatewright.core.model import Body, Decision, Note, Observation, Operation, Progress, View
from gatewright.core.operations import of_check, path_of
from gatewright.core.window import Verdict

UNKNOWN = Progress("Unknown")
HISTORY = 10
REJECTED = 10


class Refused(Exception):
    """Why an Intervention does nothing."""


@dataclass(slots=True)
class Pass:
    """What came in, and the decision that is being made."""

    view: View
    seen: Observation
    decision: Decision
    body_: Body | None

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
    def body(self) -> Body:
        assert self.body_ is not None
        return self.body_

    def note(self, reason: str, message: str, warning: bool = False) -> None:
        """An Event for this transition."""
        self.decision.notes.append(Note(reason, message[:1000], warning))

    def firmly(self) -> None:
        """The write of this pass must not wait."""
        self.decision.lazy = False

    def progress(self, operation: Operation) -> Progress:
        """How far an operation is, as observed."""
        return self.seen.progress.get(operation.id, UNKNOWN)

    def perform(self, operation: Operation, stage: str, step: str) -> None:
        """Ask for an effect; its intent stands in the journal with the same write."""
        self.decision.effects.append(operation)
        self.firmly()
        kinds = ("target/", "configmap/", "secret/", "job/", "flags/", "action/")
        if operation.subject.startswith(kinds) and stage:
            entry = Entry(key=operation.key, stage=stage, step=step, subject=operation.subject)
            if entry not in self.run.journal:
                self.run.journal.append(entry)


def lines(checks: Sequence[Check]) -> list[GateStatus]:
    """Fresh status lines."""
    return [GateStatus(name=check.name, state="Unknown") for check in checks]


def look(p: Pass, place: str, checks: Sequence[Check], rows: Sequence[GateStatus], stage: int | None = None) -> None:
    """Bring the status lines of measured checks, jobs and approvals up to what was observed; start jobs that are due."""
    attempt = p.run.stages[stage].attempt if stage is not None else 0
    for check, row in zip(checks, rows, strict=True):
        operation = of_check(p.view, p.body, p.run, place, check, stage)
        if operation is None:
            seen = p.seen.verdicts.get(path_of(p.run, place, check, attempt))
            judge.line(check, row, seen or Verdict("Unknown", 0.0), p.now)
        elif row.state not in ("Passing", "Failed"):
            progress = p.progress(operation)
            if progress.state == "Absent":
                p.perform(operation, p.run.stages[stage].name if stage is not None else "", f"gates/{check.name}")
            if operation.kind != "ask":  # people answer those, not operations
                judge.by_progress(row, progress, p.now)


def finish(p: Pass, outcome: Outcome, reason: str) -> None:
    """End the run: history, finalizer, clocks."""
    run = p.run
    states.end(run, outcome)
    run.finishedAt = times.stamp(p.now)
    run.took = times.words((p.now - times.parse(run.startedAt)).total_seconds())
    run.reason = reason[:1000]
    run.timers.clear()
    run.held = None
    past = Past(
        id=run.id,
        version=run.version,
        attempt=run.attempt,
        outcome=outcome,
        startedAt=run.startedAt,
        finishedAt=run.finishedAt,
        reason=run.reason,
        people=run.people,
    )
    p.status.history = [past, *p.status.history][:HISTORY]
    p.decision.release = True
    p.note(outcome, f"{run.version}: {reason}", warning=outcome in ("RolledBack", "RollbackFailed"))
    p.firmly()


def serve(p: Pass, served: Served | None) -> None:
    """Say what is live; the time moves only when the version does."""
    now = times.stamp(p.now)
    p.status.live = served.model_copy(update={"since": now}) if served is not None else None
