"""What happened to procedures between the status before a decision and the one after it."""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.status import OPEN_PROCEDURES, ProcedureStatus, ReleaseStatus
from gatewright.core.report.run_events import RunEvent
from gatewright.core.run.holds import PERSON_HOLD_ENDING


def find_procedure_events(before: ReleaseStatus, after: ReleaseStatus) -> Iterator[RunEvent]:
    """Yield that a procedure has begun, waits for people, or has ended."""
    old_rows = {row.id: row for row in before.procedures}
    for row in after.procedures:
        old = old_rows.get(row.id)
        if old is None and row.id <= before.procedureRuns:
            continue
        yield from _events_of(row, old)


def _events_of(row: ProcedureStatus, old: ProcedureStatus | None) -> Iterator[RunEvent]:
    about = f"{row.name}.{row.id}"
    what = f"procedure {row.name}{' is taken back' if row.undo else ''} by {row.by}"
    if old is None:
        yield RunEvent("ProcedureStarted", f"{what}: {row.reason}", about)

    question = _open_question(row)
    if question and question != (_open_question(old) if old is not None else ""):
        yield RunEvent("ApprovalNeeded", f"{what}: {row.message}", f"{about}.{question}")

    is_open, was_open = row.state in OPEN_PROCEDURES, old is None or old.state in OPEN_PROCEDURES
    if was_open and not is_open:
        name = "ProcedureEnded" if row.state == "Succeeded" else "ProcedureFailed"
        reason = f": {row.message}" if row.message else ""
        yield RunEvent(name, f"{what} has {row.state.lower()}{reason}", about)


def _open_question(row: ProcedureStatus) -> str:
    """Return the step in which people are waited for; empty where they are not."""
    if row.state != "Running" or PERSON_HOLD_ENDING not in (row.message or ""):
        return ""
    return next((step.name for step in row.steps if step.state == "Running"), "")
