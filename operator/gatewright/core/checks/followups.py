"""What is left to do when a run has ended: people confirm it, or a gate is watched until its time
is over.

    Pending --- confirmed, or its gate passes when the time is over ---> Done
    Pending --- rejected, or its gate has failed ----------------------> Failed
    Pending --- the time is over, and nobody can say that it is done --> Overdue --- a person says ---> Done, Failed

A follow-up belongs to a run that is over: it holds up nothing, rolls nothing back, and stays
through the next run. Its time is that of the wall, because what people have promised is: it also
ticks while no operator is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from gatewright.api.base import seconds
from gatewright.api.release import FollowUp
from gatewright.api.status import (
    OPEN_FOLLOW_UPS,
    FollowUpState,
    FollowUpStatus,
    GateStatus,
    ReleaseStatus,
    Run,
)
from gatewright.core.checks import judge
from gatewright.core.model import Intervention, Measure, PinnedSpec
from gatewright.core.run import clocks
from gatewright.core.run.check_operations import measure_at
from gatewright.core.run.context import Context, Refused
from gatewright.core.spec.expand import UnknownReference, expand_references

MOST_FOLLOW_UPS = 20
ANSWERS: Mapping[str, tuple[FollowUpState, str]] = {
    "Confirm": ("Done", "confirmed"),
    "Reject": ("Failed", "rejected"),
}
MOST_MESSAGE_CHARS = 300
"""Characters of a message: twenty of these stand beside a whole run in one status."""
FIRST_ANSWER_WAIT = timedelta(minutes=1)
"""When to look again at one whose time is over and whose first answer is on its way (after a
restart)."""

Pinned = Mapping[str, PinnedSpec | None]
"""What ControllerRevisions keep, by name; None for one that is gone."""


def revisions_in_use(status: ReleaseStatus) -> set[str]:
    """ControllerRevisions that say what is still measured."""
    return {row.revision for row in status.followUps if row.revision is not None}


def measures(status: ReleaseStatus, kept: Pinned) -> Iterator[Measure]:
    """What is measured after earlier runs."""
    found = (_measure_of(row, kept) for row in status.followUps)
    return (item for item in found if item is not None)


def update_rows(ctx: Context) -> datetime | None:
    """Take up those of a run that has just ended, and bring all up to date; when the next one is
    due."""
    if ctx.view.deleting:
        return None
    if _has_just_ended(ctx):
        _open_rows(ctx)
    waits = []
    for row in ctx.status.followUps:
        if row.state == "Pending":
            _advance_row(ctx, row)
        if row.state == "Pending":
            due = clocks.parse_time(row.dueAt)
            waits.append(due if due > ctx.now else ctx.now + FIRST_ANSWER_WAIT)
    return min(waits, default=None)


def answer(ctx: Context, act: Intervention) -> tuple[int, str]:
    """What a person says of a follow-up; number of its run, and what was done. Raises Refused."""
    row = _find_named(ctx.status, act)
    if row.state not in OPEN_FOLLOW_UPS:
        raise Refused(f"{describe(row)} already: {row.message or row.state}")
    if row.gate is not None and row.state == "Pending" and act.action == "Confirm":
        raise Refused(
            f"{_title_of(row)} is measured until {row.dueAt[:19]}Z; nobody has to confirm it"
        )
    state, verb = ANSWERS[act.action]
    row.by = act.by
    _close_row(ctx, row, state, f"{verb} by {act.attribution}")
    return row.run, f"{_title_of(row)} is {verb}"


def newly_overdue_or_failed(before: ReleaseStatus, after: ReleaseStatus) -> list[FollowUpStatus]:
    """Those that have become Overdue or Failed, and must be told of."""
    known = {(row.run, row.name): row.state for row in before.followUps}
    return [
        row
        for row in after.followUps
        if row.state in ("Overdue", "Failed") and known.get(_row_id(row)) != row.state
    ]


def describe_unmet(status: ReleaseStatus) -> str:
    """What is to be said of follow-ups beside everything else: only what is overdue or has
    failed."""
    rows = [row for row in status.followUps if row.state in ("Overdue", "Failed")]
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"; {describe(rows[0])}{more}" if rows else ""


def describe(row: FollowUpStatus) -> str:
    """A follow-up and its state, as messages have it."""
    return f"{_title_of(row)} is {row.state.lower()}"


# --- when a run ends


def _has_just_ended(ctx: Context) -> bool:
    run, before = ctx.status.run, ctx.view.status.run
    if run is None or run.outcome is None or run.observe:
        return False
    return before is None or before.id != run.id or before.outcome is None


def _open_rows(ctx: Context) -> None:
    """Open those of the run that has ended; closed ones of earlier runs go, and the oldest where
    there are too many."""
    run = ctx.run
    fresh = [
        _make_row(ctx, run, wanted)
        for wanted in ctx.body.spec.followUps
        if _applies_to(wanted, run)
    ]
    left = [row for row in ctx.status.followUps if row.state in OPEN_FOLLOW_UPS]
    ctx.status.followUps = [*fresh, *left][:MOST_FOLLOW_UPS]
    lost = [*fresh, *left][MOST_FOLLOW_UPS:]
    if lost:
        names = ", ".join(_title_of(row) for row in lost)
        ctx.record_event(
            "FollowUpsDropped",
            f"no more than {MOST_FOLLOW_UPS} are kept; nobody watches {names}",
            warning=True,
        )


def _applies_to(wanted: FollowUp, run: Run) -> bool:
    if wanted.when == "Always":
        return any(stage.state != "Pending" for stage in run.stages)
    ends = {"Promoted": ("Promoted",), "RolledBack": ("RolledBack", "RollbackFailed")}[wanted.when]
    return run.outcome in ends


def _make_row(ctx: Context, run: Run, wanted: FollowUp) -> FollowUpStatus:
    return FollowUpStatus(
        run=run.id,
        version=run.version,
        name=wanted.name,
        state="Pending",
        dueAt=clocks.format_time(ctx.now + timedelta(seconds=seconds(wanted.within))),
        since=clocks.format_time(ctx.now),
        message=_expand_instructions(wanted, ctx.body)[:MOST_MESSAGE_CHARS]
        if wanted.confirm is not None
        else None,
        gate=GateStatus(name=wanted.name, state="Unknown") if wanted.confirm is None else None,
        revision=run.revision if wanted.confirm is None else None,
    )


def _expand_instructions(wanted: FollowUp, body: PinnedSpec) -> str:
    text = wanted.confirm.instructions if wanted.confirm is not None else ""
    try:
        return str(expand_references(text, body.names))
    except UnknownReference:
        return text


# --- while it is open


def _advance_row(ctx: Context, row: FollowUpStatus) -> None:
    over = clocks.parse_time(row.dueAt) <= ctx.now
    if row.gate is None:
        if over:
            _close_row(ctx, row, "Overdue", row.message or "")
        return
    measure = _measure_of(row, ctx.seen.kept)
    if measure is not None:
        _judge_row(ctx, row, row.gate, measure, over)
    elif over and row.revision in ctx.seen.kept:
        _close_row(ctx, row, "Overdue", "what was to be measured cannot be told any more")


def _judge_row(
    ctx: Context, row: FollowUpStatus, gate: GateStatus, measure: Measure, over: bool
) -> None:
    """Failed as soon as the gate says so; Done only by an answer that passes when the time is
    over."""
    seen = ctx.seen.verdicts.get(measure.path)
    if seen is None or seen.state == "Unknown":
        return  # no answer yet: what was known before a restart stays until there is one
    judge.update_status(measure.check, gate, seen, ctx.now)
    if over or seen.state == "Failed":
        judge.fill_details(measure.check, gate, seen)
    gate.message = (gate.message or "")[:MOST_MESSAGE_CHARS] or None
    said = gate.message or gate.value or gate.state
    if seen.state == "Failed":
        _close_row(ctx, row, "Failed", said)
    elif over and seen.state == "Passing":
        _close_row(ctx, row, "Done", f"its gate passed when its time was over: {said}")
    elif over:
        _close_row(ctx, row, "Overdue", f"{gate.state} when its time was over: {said}")


def _close_row(ctx: Context, row: FollowUpStatus, state: FollowUpState, message: str) -> None:
    """A new state, in the write of this pass; what was pinned for it is not needed any more."""
    row.state, row.since, row.message = (
        state,
        clocks.format_time(ctx.now),
        message[:MOST_MESSAGE_CHARS] or None,
    )
    row.revision = None
    reason = {"Done": "FollowUpDone", "Failed": "FollowUpFailed", "Overdue": "FollowUpDue"}[state]
    ctx.record_event(reason, f"{row.version}: {describe(row)}: {message}", warning=state != "Done")
    ctx.write_now()


# --- which one


def _find_named(status: ReleaseStatus, act: Intervention) -> FollowUpStatus:
    """The one that is named; of several the latest that is open. Raises Refused."""
    named = [
        row for row in status.followUps if row.name == act.follow_up and act.run in (None, row.run)
    ]
    found = next(
        (row for row in named if row.state in OPEN_FOLLOW_UPS), named[0] if named else None
    )
    if found is not None:
        return found
    of = f" of run {act.run}" if act.run is not None else ""
    there = ", ".join(_title_of(row) for row in status.followUps if row.state in OPEN_FOLLOW_UPS)
    raise Refused(f"there is no follow-up {act.follow_up}{of}; open are: {there or 'none'}")


def _measure_of(row: FollowUpStatus, kept: Pinned) -> Measure | None:
    """What a follow-up measures; None for one that people confirm, and where it is not known."""
    body = kept.get(row.revision or "")
    wanted = (
        next((item for item in body.spec.followUps if item.name == row.name), None)
        if body is not None
        else None
    )
    if body is None or wanted is None or wanted.confirm is not None:
        return None
    try:
        return measure_at(f"{row.run}/followUps/{row.name}", wanted, row.gate, body.names)
    except UnknownReference:
        return None


def _row_id(row: FollowUpStatus) -> tuple[int, str]:
    return row.run, row.name


def _title_of(row: FollowUpStatus) -> str:
    return f"follow-up {row.name} of run {row.run}"
