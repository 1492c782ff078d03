"""What people read: a notice, put into words from the status.

Nothing else is looked at, and a status holds no Secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from gatewright.api.status import GateStatus, Notification, ReleaseStatus, Run, StageStatus
from gatewright.core.model.view import View
from gatewright.core.report.notifications import ENDINGS
from gatewright.core.report.notify_test import is_test
from gatewright.core.report.severities import severity_of
from gatewright.core.run import clocks
from gatewright.ports import Message

_WORDS_BY_EVENT: Mapping[str, str] = {
    "Started": "has started",
    "StageStarted": "a stage has started",
    "StagePassed": "a stage has passed",
    "StageFailed": "a stage has failed",
    "StageOverdue": "a stage is overdue",
    "ApprovalNeeded": "waits for a person",
    "GuardFailed": "a guard has failed",
    "GuardRecovered": "a guard is good again",
    "RollingBack": "is being rolled back",
    "Verifying": "is undone",
    "RollbackOverdue": "the rollback takes too long",
    "RollbackHindered": "the rollback does not get on",
    "Hindered": "something is not as the run wants it",
    "StageRolledBack": "goes on without a stage",
    "RolledBack": "is rolled back",
    "RollbackFailed": "the rollback has FAILED",
    "Completed": "is live",
    "Promoted": "is promoted",
    "Superseded": "is superseded",
    "Aborted": "is aborted",
    "Observed": "is observed",
    "Downtime": "users are not served",
    "Restored": "users are served again",
    "FollowUpDue": "a follow-up is overdue",
    "FollowUpFailed": "a follow-up has failed",
    "ProcedureStarted": "a procedure has begun",
    "ProcedureEnded": "a procedure is done",
    "ProcedureFailed": "a procedure has failed",
}
_SIGN_BY_STATE: Mapping[str, str] = {
    "Passed": "✓",
    "Failed": "✗",
    "RolledBack": "↩",
    "Skipped": "-",
    "Pending": " ",
}
_RETURNING: Mapping[str, Literal["RollingBack", "Verifying"]] = {
    "RollingBack": "RollingBack",
    "Verifying": "Verifying",
}
MAX_TEXT_LENGTH = 2000
MAX_LINE_LENGTH = 200


def message_of(view: View, notice: Notification, now: datetime, again: bool = False) -> Message:
    """Return the message for a notice of this Release."""
    if is_test(notice):
        return _test_message(view, notice, again)

    status = view.status
    run = status.run if status.run is not None and status.run.id == notice.run else None
    known = notice.event in _WORDS_BY_EVENT
    words = _WORDS_BY_EVENT[notice.event] if known else notice.event
    is_returning = run is not None and run.outcome is None and run.is_returning

    lines: tuple[str, ...] = ()
    if run is not None:
        lines = tuple(_stage_line(number, stage) for number, stage in enumerate(run.stages, 1))

    return Message(
        key=f"{view.uid}/{notice.id}",
        thread=f"{view.namespace}/{view.name}/{view.uid}/{notice.run}",
        event=notice.event,
        severity=severity_of(notice.event, notice.severity),
        title=f"{view.name} {version_of(view, notice)} {words}"[:200],
        text=_text_of(status, run, notice),
        lines=lines,
        over=notice.event in ENDINGS,
        downtime=_downtime_seconds(status, notice, now),
        returning=_RETURNING.get(run.phase, "") if run is not None and is_returning else "",
        check=notice.check or "",
        failing=_failing_at_rest(status, notice.run),
        at=notice.at,
        again=again,
    )


def _test_message(view: View, notice: Notification, again: bool) -> Message:
    """Return a message that nobody can take for one of a run."""
    return Message(
        key=f"{view.uid}/{notice.id}",
        thread=f"{view.namespace}/{view.name}/{view.uid}/{notice.run}",
        event=notice.event,
        severity="info",
        title=f"TEST, nothing has happened: {view.namespace}/{view.name}"[:200],
        text=notice.text,
        at=notice.at,
        again=again,
    )


def _failing_at_rest(status: ReleaseStatus, run: int) -> tuple[str, ...]:
    """Return the guards of a run that go on failing now that it is over."""
    return tuple(row.name for row in status.atRest if row.run == run and row.faultSince is not None)


def version_of(view: View, notice: Notification) -> str:
    """Return the version that the notice's run brings or brought; empty where nobody remembers."""
    run = view.status.run
    if run is not None and run.id == notice.run:
        return run.version
    return next((past.version for past in view.status.history if past.id == notice.run), "")


def _text_of(status: ReleaseStatus, run: Run | None, notice: Notification) -> str:
    parts = [notice.text]
    is_under_way = run is not None and run.outcome is None

    # That a person is needed is what such a notice says itself.
    if is_under_way and notice.event != "ApprovalNeeded" and status.waitingFor is not None:
        parts.append(f"Waiting for {status.waitingFor.message}")
    return "\n".join(part for part in parts if part)[:MAX_TEXT_LENGTH]


def _stage_line(number: int, stage: StageStatus) -> str:
    """Return `✓ 1 migrate  Passed in 4m10s`, or what keeps the stage."""
    took = ""
    if stage.startedAt and stage.finishedAt:
        elapsed = clocks.parse_time(stage.finishedAt) - clocks.parse_time(stage.startedAt)
        took = f" in {clocks.format_duration(elapsed.total_seconds())}"

    worst = _worst_gate(stage.gates)
    reason = stage.message or (_describe_gate(worst) if worst is not None else "")
    sign = _SIGN_BY_STATE.get(stage.state, "▸")
    line = f"{sign} {number} {stage.name}  {stage.state}{took}"
    if reason:
        line += f": {reason}"

    return line if len(line) <= MAX_LINE_LENGTH else f"{line[: MAX_LINE_LENGTH - 1]}…"


def _worst_gate(gates: Iterable[GateStatus]) -> GateStatus | None:
    """Return the gate that keeps a stage most: one that has failed before one that only holds."""
    for state in ("Failed", "Breaching", "Holding"):
        for gate in gates:
            if gate.state == state:
                return gate
    return None


def _describe_gate(row: GateStatus) -> str:
    return f"gate {row.name}: {row.message or row.value or row.state}"


def _downtime_seconds(status: ReleaseStatus, notice: Notification, now: datetime) -> float:
    if status.downtime is None or notice.event == "Restored":
        return 0.0
    return max(0.0, (now - clocks.parse_time(status.downtime.since)).total_seconds())
