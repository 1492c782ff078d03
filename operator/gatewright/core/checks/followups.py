"""What is left to do when a run has ended: people confirm it, or a gate is watched for a time.

    Pending --- confirmed, or its gate passes when the time is over --------> Done
    Pending --- rejected, or its gate has failed ---------------------------> Failed
    Pending --- the time is over, and nobody can say that it is done -------> Overdue
    Overdue --- a person says ----------------------------------------------> Done, Failed

A follow-up belongs to a run that is over: it holds up nothing, rolls nothing back, and stays
through the next run. Its time is that of the wall, because what people have promised is: it also
ticks while no operator is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from gatewright.api.base import seconds
from gatewright.api.checks import FollowUp
from gatewright.api.status import (
    OPEN_FOLLOW_UPS,
    FollowUpState,
    FollowUpStatus,
    GateStatus,
    ReleaseStatus,
    Run,
)
from gatewright.core.checks import judge
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.needs import Measure
from gatewright.core.model.pinned_spec import PinnedSpec
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


def measures(status: ReleaseStatus, pinned: Pinned) -> Iterator[Measure]:
    """Yield what is measured after earlier runs."""
    for row in status.followUps:
        measure = _measure_of(row, pinned)
        if measure is not None:
            yield measure


def update_rows(ctx: Context) -> datetime | None:
    """Take up those of a run that has just ended, and bring all up to date.

    Return when the next one is due.
    """
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
    """Close a follow-up as a person says; return the number of its run, and what was done.

    Raises Refused.
    """
    row = _find_named(ctx.status, act)
    if row.state not in OPEN_FOLLOW_UPS:
        raise Refused(f"{describe(row)} already: {row.message or row.state}")

    # While it is measured, its gate says whether it is done.
    is_measured = row.gate is not None and row.state == "Pending"
    if is_measured and act.action == "Confirm":
        until = f"{row.dueAt[:19]}Z"
        raise Refused(f"{_title_of(row)} is measured until {until}; nobody has to confirm it")

    state, verb = ANSWERS[act.action]
    row.by = act.by
    _close_row(ctx, row, state, f"{verb} by {act.attribution}")
    return row.run, f"{_title_of(row)} is {verb}"


def newly_overdue_or_failed(before: ReleaseStatus, after: ReleaseStatus) -> list[FollowUpStatus]:
    """Return those that have become Overdue or Failed, and must be told of."""
    old_states = {_row_id(row): row.state for row in before.followUps}
    return [row for row in _unmet(after) if old_states.get(_row_id(row)) != row.state]


def describe_unmet(status: ReleaseStatus) -> str:
    """Return what is to be said of follow-ups beside everything else.

    Only what is overdue or has failed.
    """
    rows = _unmet(status)
    if not rows:
        return ""
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"; {describe(rows[0])}{more}"


def _unmet(status: ReleaseStatus) -> list[FollowUpStatus]:
    return [row for row in status.followUps if row.state in ("Overdue", "Failed")]


def describe(row: FollowUpStatus) -> str:
    """Name a follow-up and its state, as messages do."""
    return f"{_title_of(row)} is {row.state.lower()}"


# --- when a run ends


def _has_just_ended(ctx: Context) -> bool:
    run, before = ctx.status.run, ctx.view.status.run
    if run is None or run.outcome is None or run.observe:
        return False
    return before is None or before.id != run.id or before.outcome is None


def _open_rows(ctx: Context) -> None:
    """Open those of the run that has ended.

    Closed ones of earlier runs go, and the oldest where there are too many.
    """
    run = ctx.run
    fresh = [
        _make_row(ctx, run, follow_up)
        for follow_up in ctx.body.spec.followUps
        if _applies_to(follow_up, run)
    ]
    still_open = [row for row in ctx.status.followUps if row.state in OPEN_FOLLOW_UPS]
    rows = [*fresh, *still_open]

    ctx.status.followUps, dropped = rows[:MOST_FOLLOW_UPS], rows[MOST_FOLLOW_UPS:]
    if dropped:
        names = ", ".join(_title_of(row) for row in dropped)
        message = f"no more than {MOST_FOLLOW_UPS} are kept; nobody watches {names}"
        ctx.record_event("FollowUpsDropped", message, warning=True)


def _applies_to(follow_up: FollowUp, run: Run) -> bool:
    if follow_up.when == "Always":
        # Of a run that has touched nothing, nothing is left to do.
        return any(stage.state != "Pending" for stage in run.stages)
    if follow_up.when == "Promoted":
        return run.outcome == "Promoted"
    return run.outcome in ("RolledBack", "RollbackFailed")


def _make_row(ctx: Context, run: Run, follow_up: FollowUp) -> FollowUpStatus:
    due = ctx.now + timedelta(seconds=seconds(follow_up.within))
    row = FollowUpStatus(
        run=run.id,
        version=run.version,
        name=follow_up.name,
        state="Pending",
        dueAt=clocks.format_time(due),
        since=clocks.format_time(ctx.now),
    )

    if follow_up.confirm is not None:
        instructions = _expand_instructions(follow_up.confirm.instructions, ctx.body)
        row.message = instructions[:MOST_MESSAGE_CHARS]
    else:
        row.gate = GateStatus(name=follow_up.name, state="Unknown")
        row.revision = run.revision
    return row


def _expand_instructions(instructions: str, body: PinnedSpec) -> str:
    try:
        return str(expand_references(instructions, body.names))
    except UnknownReference:
        return instructions


# --- while it is open


def _advance_row(ctx: Context, row: FollowUpStatus) -> None:
    is_over = clocks.parse_time(row.dueAt) <= ctx.now
    if row.gate is None:
        if is_over:
            _close_row(ctx, row, "Overdue", row.message or "")
        return

    measure = _measure_of(row, ctx.seen.kept)
    if measure is not None:
        _judge_row(ctx, row, row.gate, measure, is_over)
    elif is_over and row.revision in ctx.seen.kept:
        # The revision was looked for, and does not say it.
        _close_row(ctx, row, "Overdue", "what was to be measured cannot be told any more")


def _judge_row(
    ctx: Context, row: FollowUpStatus, gate: GateStatus, measure: Measure, is_over: bool
) -> None:
    """Bring a measured row up to its verdict.

    It is Failed as soon as the gate says so, and Done only by an answer that passes when the time
    is over.
    """
    verdict = ctx.seen.verdicts.get(measure.path)
    if verdict is None or verdict.state == "Unknown":
        return  # no answer yet: what was known before a restart stays until there is one

    judge.update_status(measure.check, gate, verdict, ctx.now)
    if is_over or verdict.state == "Failed":
        judge.fill_details(measure.check, gate, verdict)
    gate.message = (gate.message or "")[:MOST_MESSAGE_CHARS] or None

    details = gate.message or gate.value or gate.state
    if verdict.state == "Failed":
        _close_row(ctx, row, "Failed", details)
    elif is_over and verdict.state == "Passing":
        _close_row(ctx, row, "Done", f"its gate passed when its time was over: {details}")
    elif is_over:
        _close_row(ctx, row, "Overdue", f"{gate.state} when its time was over: {details}")


def _close_row(ctx: Context, row: FollowUpStatus, state: FollowUpState, message: str) -> None:
    """Set a new state, in the write of this pass."""
    row.state = state
    row.since = clocks.format_time(ctx.now)
    row.message = message[:MOST_MESSAGE_CHARS] or None
    # What was pinned for it is not needed any more.
    row.revision = None

    reason = {"Done": "FollowUpDone", "Failed": "FollowUpFailed", "Overdue": "FollowUpDue"}[state]
    ctx.record_event(reason, f"{row.version}: {describe(row)}: {message}", warning=state != "Done")
    ctx.write_now()


# --- which one


def _find_named(status: ReleaseStatus, act: Intervention) -> FollowUpStatus:
    """Return the one that is named; of several the latest that is open. Raises Refused."""
    named = [
        row for row in status.followUps if row.name == act.follow_up and act.run in (None, row.run)
    ]
    for row in named:
        if row.state in OPEN_FOLLOW_UPS:
            return row
    if named:
        # The caller refuses it in words of its own: it is closed already.
        return named[0]

    of_run = f" of run {act.run}" if act.run is not None else ""
    titles = [_title_of(row) for row in status.followUps if row.state in OPEN_FOLLOW_UPS]
    choice = ", ".join(titles) or "none"
    raise Refused(f"there is no follow-up {act.follow_up}{of_run}; open are: {choice}")


def _measure_of(row: FollowUpStatus, pinned: Pinned) -> Measure | None:
    """Return what a follow-up measures.

    None for one that people confirm, and where it is not known.
    """
    body = pinned.get(row.revision or "")
    follow_up = _follow_up_named(body, row.name) if body is not None else None
    if body is None or follow_up is None or follow_up.confirm is not None:
        return None

    try:
        return measure_at(f"{row.run}/followUps/{row.name}", follow_up, row.gate, body.names)
    except UnknownReference:
        return None


def _follow_up_named(body: PinnedSpec, name: str) -> FollowUp | None:
    for follow_up in body.spec.followUps:
        if follow_up.name == name:
            return follow_up
    return None


def _row_id(row: FollowUpStatus) -> tuple[int, str]:
    return row.run, row.name


def _title_of(row: FollowUpStatus) -> str:
    return f"follow-up {row.name} of run {row.run}"
