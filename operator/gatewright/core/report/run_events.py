"""What happened to a run between the status before a decision and the one after it.

A comparison of two statuses, so that no transition has to remember to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gatewright.api.checks import SEVERITIES, Severity
from gatewright.api.status import GateStatus, ReleaseStatus, RestingGuard, Run, StageStatus
from gatewright.core.checks import at_rest, judge
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.interventions import approvals
from gatewright.core.run.context import Context
from gatewright.core.run.position import current_stage_index

_ASKING_STATES = ("WaitingForPerson", "Paused")
_BEGUN_STATES = ("Running", "Gating", "Baking", "Passed", "Failed")
_HINDRANCES = ("Different", "Unavailable", "GuardSilent", "PausedByGuard", "RollbackRefused")
"""Reasons of Kubernetes Events that tell why a run does not go on."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something happened; `about` makes it unique within its run."""

    name: str
    text: str = ""
    about: str = ""
    severity: Severity | None = None
    """How grave the guard says it is, where one is what it tells of."""
    check: str = ""
    """The check that it is about."""


def find_events(ctx: Context, run: Run) -> Iterator[RunEvent]:
    """Yield what happened between the status before this pass and the one decided in it, in order.

    An observed run tells only of its end: it acts on nothing.
    """
    before = ctx.view.status
    old = before.run if before.run is not None and before.run.id == run.id else None

    if not run.observe:
        yield from _events_of_stages(run, old)
        yield from _events_of_question(ctx, before if old is not None else None)
        if _has_completed(run) and not (old is not None and _has_completed(old)):
            yield RunEvent("Completed", f"serving {run.version}")
        yield from _events_of_guards(ctx, run, old)
        yield from _events_of_rollback(ctx, run, old)
        yield from _events_of_hindrances(ctx, run)

    has_ended = run.outcome is not None and (old is None or old.outcome is None)
    if has_ended:
        check = (run.rollback.gate or "") if run.rollback is not None else ""
        yield RunEvent(run.outcome or "", run.reason or "", _repetition(run), check=check)


def _events_of_stages(run: Run, old: Run | None) -> Iterator[RunEvent]:
    if old is None:
        yield RunEvent("Started", f"{len(run.stages)} stages")

    old_stages = old.stages if old is not None else []
    for index, stage in enumerate(run.stages):
        # A Retry may have pinned an edit with more stages.
        old_stage = old_stages[index] if index < len(old_stages) else None
        place = f"stage {index + 1}/{len(run.stages)} {stage.name}"
        yield from _events_of_stage(stage, old_stage, place, is_alone=run.rollback is None)


def _events_of_stage(
    stage: StageStatus, old: StageStatus | None, place: str, is_alone: bool
) -> Iterator[RunEvent]:
    """`is_alone`: one that is undone is undone without its run."""
    old_state = old.state if old is not None else "Pending"
    is_repeated = old is not None and stage.attempt > old.attempt
    about = f"{stage.name}.{stage.attempt}"

    if is_repeated or (old_state == "Pending" and stage.state in _BEGUN_STATES):
        yield RunEvent("StageStarted", place, about)
    if _is_overdue(stage) and not (old is not None and _is_overdue(old)):
        yield RunEvent("StageOverdue", f"{place} is {stage.message}", about)
    if stage.state == "Passed" and old_state != "Passed":
        yield RunEvent("StagePassed", f"{place} passed", about)
    if stage.state == "Failed" and (old_state != "Failed" or is_repeated):
        yield RunEvent("StageFailed", f"{place}: {stage.message or 'failed'}", about)
    if stage.state == "RolledBack" and old_state != "RolledBack" and is_alone:
        yield RunEvent("StageRolledBack", f"{place}: {stage.message}", about)


def _is_overdue(stage: StageStatus) -> bool:
    return (stage.message or "").startswith("overdue")


def _has_completed(run: Run) -> bool:
    return run.phase == "Guarding" or run.outcome == "Promoted"


def _events_of_guards(ctx: Context, run: Run, old: Run | None) -> Iterator[RunEvent]:
    """Yield which guards have failed, and which are good again."""
    old_rows = {row.name: row for row in old.guards} if old is not None else {}
    for row in run.guards:
        yield from _events_of_guard(row, old_rows.get(row.name), _severity_of(ctx, row.name))


def find_events_at_rest(ctx: Context) -> Iterator[tuple[int, RunEvent]]:
    """Yield what happened to guards at rest, each with the number of the run that they are of."""
    old_rows = {(row.run, row.name): row for row in ctx.view.status.atRest}
    rows = {(row.run, row.name): row for row in ctx.status.atRest}
    for place, row in rows.items():
        for event in _events_of_guard(row, old_rows.get(place), _known_severity(row)):
            yield row.run, event
        yield from ((row.run, event) for event in _silences_at_rest(ctx, row))

    for place, old in old_rows.items():
        # What it watched is not served any more; what was opened for it is closed.
        if place not in rows and old.faultSince is not None:
            about = f"{old.name}.{short_fingerprint(old.faultSince)[:6]}"
            text = f"guard {old.name}: what it has watched is not served any more"
            event = RunEvent("GuardRecovered", text, about, _known_severity(old), old.name)
            yield old.run, event


def _silences_at_rest(ctx: Context, row: RestingGuard) -> Iterator[RunEvent]:
    for event in ctx.decision.events:
        is_own = event.guard == f"{at_rest.EVENT_PREFIX}{row.name}"
        if is_own and event.reason in _HINDRANCES:
            about = short_fingerprint([event.message, row.since])[:6]
            yield RunEvent("Hindered", event.message, about, _known_severity(row), row.name)


def _known_severity(row: RestingGuard) -> Severity | None:
    return next((one for one in SEVERITIES if one == row.severity), None)


def _events_of_guard(
    row: GateStatus, old: GateStatus | None, severity: Severity | None
) -> Iterator[RunEvent]:
    """Yield that a guard has failed, or is good again; one that does not count yet has not."""
    text = f"guard {judge.describe(row)}"
    if _has_failed(row) and _is_new_fault(old):
        about = f"{row.name}.{short_fingerprint(row.since)[:6]}"
        yield RunEvent("GuardFailed", text, about, severity, row.name)

    fault = old.faultSince if old is not None else None
    if fault is not None and row.faultSince is None:
        about = f"{row.name}.{short_fingerprint(fault)[:6]}"
        yield RunEvent("GuardRecovered", text, about, severity, row.name)


def _is_new_fault(old: GateStatus | None) -> bool:
    """Return whether people do not know of a failure yet; of a silence they may.

    One that has not passed since is the same fault, also after a restart or a promotion.
    """
    if old is None or old.faultSince is None:
        return old is None or not _has_failed(old)
    return old.state in ("Holding", "Expired")


def _has_failed(row: GateStatus) -> bool:
    return row.state == "Failed" and not row.early


def _severity_of(ctx: Context, guard: str) -> Severity | None:
    """Return how grave a guard says its fault is; None where there is no such guard."""
    body = ctx.body_if_read
    guards = body.spec.guards if body is not None else []
    return next((one.severity for one in guards if one.name == guard), None)


def _events_of_rollback(ctx: Context, run: Run, old: Run | None) -> Iterator[RunEvent]:
    rollback = run.rollback
    if rollback is None:
        return

    # That a stage was undone alone is told when it is.
    if not run.is_returning:
        return

    if old is None or not old.is_returning:
        # It is as grave as an error by itself.
        by_guard = rollback.gate if rollback.cause == "Guard" else None
        is_critical = by_guard is not None and _severity_of(ctx, by_guard) == "critical"
        severity: Severity | None = "critical" if is_critical else None
        yield RunEvent("RollingBack", rollback.reason, "", severity, rollback.gate or "")
    was_verifying = old is not None and old.phase == "Verifying"
    if run.phase == "Verifying" and rollback.verify and not was_verifying:
        text = "everything is undone; it is being verified"
        yield RunEvent("Verifying", text, _repetition(run), check=rollback.gate or "")


def _repetition(run: Run) -> str:
    """Return what tells an event of a repeated rollback from that of the first; empty for that.

    Who was told of the one is told of the other as well.
    """
    attempt = run.rollback.attempt if run.rollback is not None else 1
    return str(attempt) if attempt > 1 else ""


def _events_of_hindrances(ctx: Context, run: Run) -> Iterator[RunEvent]:
    cause = (run.rollback.gate or "") if run.rollback is not None else ""
    for event in ctx.decision.events:
        if event.reason == "RollbackOverdue":
            # A run has several budgets, and each of them pages.
            about = short_fingerprint([event.message, _repetition(run)])[:6]
            yield RunEvent(event.reason, event.message, about, check=cause)
        if event.reason == "RollbackHindered":
            about = short_fingerprint(event.message)[:6]
            yield RunEvent(event.reason, event.message, about, check=cause)
        if event.reason in _HINDRANCES and not event.guard.startswith(at_rest.EVENT_PREFIX):
            about = short_fingerprint([event.message, run.startedAt])[:6]
            severity = _severity_of(ctx, event.guard)
            yield RunEvent("Hindered", event.message, about, severity, event.guard)


# --- questions


def _events_of_question(ctx: Context, before: ReleaseStatus | None) -> Iterator[RunEvent]:
    """Yield that a person is asked something; each question is told once."""
    question = _open_question(ctx.status)
    old_question = _open_question(before) if before is not None else None
    if question is None or question == old_question:
        return

    waiting = ctx.status.waitingFor
    yield RunEvent("ApprovalNeeded", waiting.message if waiting else "", question)


def _open_question(status: ReleaseStatus) -> str | None:
    """Return a name for what a person is asked, unique within the run; None for nothing."""
    run = status.run
    if run is None or run.outcome is not None or status.state not in _ASKING_STATES:
        return None

    if run.phase == "Preflight":
        row = next((row for row in run.preflight if row.state != "Passing"), None)
        # One that has expired is asked again.
        return f"preflight.{_name_of_question(row)}" if row is not None else "preflight."

    index = current_stage_index(run)
    awaited = next(approvals.awaited_answers(run, index), None)
    if awaited is not None:
        # It may be asked again after each Retry.
        attempts = sum(stage.attempt for stage in run.stages)
        return f"again.{awaited[0].replace(' ', '-')}.{attempts}"
    if index is None:
        return status.state

    stage = run.stages[index]
    for step in stage.steps:
        if step.state == "Running":
            return f"{stage.name}.{step.name}.{step.attempt}"
    return f"{stage.name}.{stage.attempt}"


def _name_of_question(row: GateStatus) -> str:
    return f"{row.name}.{row.window}" if row.window else row.name
