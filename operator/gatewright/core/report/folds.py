"""What a status loses where it is too large, what is read least first.

Each fold changes a status in place and leaves what decisions are made of: states, attempts, outputs
that something names, the journal, the order of a rollback.
"""

from __future__ import annotations

from collections.abc import Callable

from gatewright.api.status import (
    OPEN_PROCEDURES,
    GateStatus,
    ReleaseStatus,
    Run,
    StageStatus,
    Undo,
)
from gatewright.core.spec import edits

Fold = Callable[[ReleaseStatus], None]
FOLDED_STAGE_STATES = ("Passed", "Skipped", "RolledBack")
"""States of a stage whose details may go; one that has failed keeps them."""


def rows_of(status: ReleaseStatus) -> list[GateStatus]:
    """Return every row that a check has, of the run and at rest."""
    run = status.run
    if run is None:
        return []

    rows: list[GateStatus] = [*status.atRest]
    rows += [*run.preflight, *run.guards, *run.availability]
    if run.rollback is not None:
        rows += run.rollback.verify
    for stage in run.stages:
        rows += stage.gates
    return rows


def undo_lines(status: ReleaseStatus) -> list[Undo]:
    """Return the lines of the rollback plan."""
    run = status.run
    return run.rollback.undo if run is not None and run.rollback is not None else []


def _stages_of(status: ReleaseStatus) -> list[StageStatus]:
    return status.run.stages if status.run is not None else []


def _cut_bytes(text: str | None, longest: int) -> str | None:
    """Return the beginning of a text, in at most so many bytes; None where nothing is left."""
    # A character has at most four bytes.
    if not text or 4 * len(text) <= longest:
        return text or None
    return text.encode()[:longest].decode(errors="ignore") or None


def _cut_lines(lines: list[str], longest: int) -> list[str]:
    return [_cut_bytes(line, longest) or "" for line in lines]


# --- what is over


def _fold_history(people: int, reason: int) -> Fold:
    """Keep the latest so many acts of people in old runs, and why those ended in so many bytes."""

    def fold(status: ReleaseStatus) -> None:
        for past in status.history:
            past.people = _cut_lines(past.people[-people:], 80) if people else []
            past.reason = _cut_bytes(past.reason, reason)

    return fold


def _fold_reports(notices: int, messages: int, reasons: int) -> Fold:
    """Keep what somebody was or is to be told, in so many bytes each."""

    def fold(status: ReleaseStatus) -> None:
        status.notices = [
            notice.model_copy(update={"text": _cut_bytes(notice.text, notices) or ""})
            for notice in status.notices
        ]
        for answered in status.interventions:
            answered.message = _cut_bytes(answered.message, messages) or ""
        for row in status.followUps:
            row.message = _cut_bytes(row.message, messages)
        for rejected in status.rejected:
            rejected.reason = _cut_bytes(rejected.reason, reasons) or ""

    return fold


def _fold_procedures(status: ReleaseStatus) -> None:
    """Keep of procedures that are over who ran them, and what came of them."""
    for row in status.procedures:
        if row.state in OPEN_PROCEDURES:
            continue
        row.steps, row.failure = [], None
        row.reason, row.message = _cut_bytes(row.reason, 80), _cut_bytes(row.message, 80)


def _fold_reports_further(status: ReleaseStatus) -> None:
    _fold_history(0, 80)(status)
    _fold_reports(0, 40, 80)(status)


def _fold_finished_stages(status: ReleaseStatus) -> None:
    """Keep only the states of stages that are over."""
    for stage in _stages_of(status):
        if stage.state not in FOLDED_STAGE_STATES:
            continue

        for row in stage.gates:
            row.message = row.value = row.limit = row.margin = row.since = None
        for step in stage.steps:
            step.message = step.startedAt = step.finishedAt = step.key = None


def _fold_undone_lines(status: ReleaseStatus) -> None:
    for line in undo_lines(status):
        if line.state == "Succeeded":
            line.message = line.startedAt = None


# --- messages


def _fold_messages(longest: int) -> Fold:
    """Cut the message of every row to so many bytes; what tells of more may be longer."""

    def fold(status: ReleaseStatus) -> None:
        for row in rows_of(status):
            row.message = _cut_bytes(row.message, longest)
        for stage in _stages_of(status):
            stage.message = _cut_bytes(stage.message, 2 * longest)
            for step in stage.steps:
                step.message = _cut_bytes(step.message, longest)
        for line in undo_lines(status):
            line.message = _cut_bytes(line.message, longest)

        for condition in status.conditions:
            condition.message = _cut_bytes(condition.message, 4 * longest) or ""
        status.message = _cut_bytes(status.message, 4 * longest)
        if status.waitingFor is not None:
            status.waitingFor.message = _cut_bytes(status.waitingFor.message, 4 * longest) or ""

        if status.run is not None:
            _fold_run_messages(status.run, longest)

    return fold


def _fold_run_messages(run: Run, longest: int) -> None:
    run.reason = _cut_bytes(run.reason, 4 * longest)
    run.people = _cut_lines(run.people, 2 * longest)
    run.plan = _cut_lines(run.plan, 2 * longest)

    run.differences = [
        row.model_copy(update={"message": _cut_bytes(row.message, 2 * longest) or ""})
        for row in run.differences
    ]
    if run.rollback is not None:
        run.rollback.reason = _cut_bytes(run.rollback.reason, 4 * longest) or ""


# --- details of what is under way


def _fold_plan(status: ReleaseStatus) -> None:
    if status.run is not None:
        status.run.plan = status.run.plan[:20]
        status.run.people = status.run.people[-5:]
        status.run.edits = edits.merge_edits(status.run.edits, (), most=6)
        status.run.changes = edits.merge_edits(status.run.changes, (), most=6)


def _drop_limits(status: ReleaseStatus) -> None:
    for row in rows_of(status):
        row.limit = row.margin = None


def _drop_passing_values(status: ReleaseStatus) -> None:
    for row in rows_of(status):
        if row.state == "Passing":
            row.since = row.value = None


def _drop_gate_details(status: ReleaseStatus) -> None:
    """Keep only where the stage under way stands; last of all."""
    for stage in _stages_of(status):
        for row in stage.gates:
            row.value = row.limit = row.margin = row.message = None
    for row in rows_of(status):
        if row.state == "Passing":
            row.approvedBy, row.approvedAt = row.approvedBy[:3], row.approvedAt[:3]


FOLDS: tuple[Fold, ...] = (
    _fold_history(2, 200),
    _fold_procedures,
    _fold_reports(120, 120, 200),
    _fold_finished_stages,
    _fold_undone_lines,
    _fold_messages(200),
    _fold_plan,
    _fold_messages(80),
    _drop_limits,
    _drop_passing_values,
    _fold_messages(20),
    _fold_reports_further,
    _drop_gate_details,
)
"""In the order in which they are made, until the status fits."""
