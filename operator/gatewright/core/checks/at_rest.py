"""Guards that go on being watched when no run is under way (`atRest: true`).

    a run is promoted      its guards begin at rest, with samples of their own
    nothing is under way   asked at their interval; the status is written when a state changes
    preflight of the next  as before: nothing was touched, and what is live is what they watch
    the run changes        they stand by; its own guards watch. When it ends without promotion they
    something              begin anew, and only tell: what they would undo is not the latest change
    what they watch is     those of the version that is served again take their place
    undone

A failure is told, and undoes the promotion within `rollbackFor` after it (`run.undo`). Silence is
not health, and no failure either: it is told, and undoes nothing. What is measured is what the run
has pinned: an edit counts from the next run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from gatewright.api.base import seconds
from gatewright.api.checks import Guard
from gatewright.api.status import GateStatus, Kept, ReleaseStatus, RestingGuard
from gatewright.core.checks import judge
from gatewright.core.checks.active import guard_set
from gatewright.core.checks.followups import Pinned
from gatewright.core.checks.guards import note_fault
from gatewright.core.model.needs import Measure
from gatewright.core.model.view import View
from gatewright.core.run import clocks
from gatewright.core.run.check_operations import measure_at
from gatewright.core.run.context import Context
from gatewright.core.spec.expand import UnknownReference

EVENT_PREFIX = "atRest/"
"""How the guard of an Event is called that tells of one at rest."""


def is_watched(status: ReleaseStatus) -> bool:
    """Return whether guards at rest are watched: no run is under way that changes anything."""
    run = status.run
    if run is None or run.outcome is not None:
        return True
    return run.phase == "Preflight" or run.observe


def revisions_in_use(status: ReleaseStatus) -> set[str]:
    """Return the ControllerRevisions that say what is measured now."""
    return {row.revision for row in status.atRest} if is_watched(status) else set()


def measures(status: ReleaseStatus, pinned: Pinned) -> Iterator[Measure]:
    """Yield what is measured at rest."""
    if not is_watched(status):
        return
    for row in status.atRest:
        measure = _measure_of(row, pinned)
        if measure is not None:
            yield measure


def update_rows(ctx: Context) -> None:
    """Bring all lines up to their verdicts, and tell of what is new."""
    if ctx.view.deleting or not is_watched(ctx.status):
        return

    for row in ctx.status.atRest:
        measure = _measure_of(row, ctx.seen.kept)
        if measure is None and row.revision in ctx.seen.kept and row.state != "Expired":
            # It was looked for, and does not say it: nobody watches, and that is said.
            row.state, row.since = "Expired", clocks.format_time(ctx.now)
            row.message = "what is to be measured cannot be told any more"
            _tell_change(ctx, row)
        verdict = ctx.seen.verdicts.get(measure.path) if measure is not None else None
        if measure is None or verdict is None:
            continue
        if judge.update_status(measure.check, row, verdict, ctx.now, silence_fails=False):
            _tell_change(ctx, row)


def _tell_change(ctx: Context, row: RestingGuard) -> None:
    guard = f"{EVENT_PREFIX}{row.name}"
    if row.state == "Failed" and row.faultSince is None:
        message = f"guard {judge.describe(row)} (at rest)"
        ctx.record_event("GuardFailed", message, warning=True, guard=guard)
    if row.state == "Expired" and not row.acknowledged:
        row.acknowledged = True
        row.faultSince = row.faultSince or clocks.format_time(ctx.now)
        message = f"guard {judge.describe(row)} (at rest); nothing is undone for that"
        ctx.record_event("GuardSilent", message, warning=True, guard=guard)
    note_fault(ctx, row)


# --- which are watched


def begin_promoted(ctx: Context) -> None:
    """Let the guards of a run that is being promoted begin at rest."""
    run = ctx.run
    ctx.status.atRest = [
        RestingGuard(
            name=guard.name,
            state="Unknown",
            since=clocks.format_time(ctx.now),
            run=run.id,
            revision=run.revision,
            severity=guard.severity,
            rollbackUntil=_rollback_until(ctx, guard),
            # What people know of stays one fault, until it is good again.
            faultSince=row.faultSince,
        )
        for guard, row in guard_set(ctx.body, run).pairs()
        if guard.atRest
    ]


def _rollback_until(ctx: Context, guard: Guard) -> str | None:
    if guard.action != "Rollback" or guard.rollbackFor is None:
        return None
    return clocks.format_time(ctx.now + timedelta(seconds=seconds(guard.rollbackFor)))


def names_to_keep(ctx: Context) -> list[str]:
    """Return what a kept run says of its guards at rest."""
    return [f"{guard.severity} {guard.name}" for guard in ctx.body.spec.guards if guard.atRest]


def begin_kept(ctx: Context, kept: Kept | None) -> None:
    """Watch what is served again once later runs are undone; nothing where that is not kept."""
    ctx.status.atRest = []
    for line in kept.atRest if kept is not None else ():
        severity, _, name = line.partition(" ")
        ctx.status.atRest.append(
            RestingGuard(
                name=name,
                state="Unknown",
                since=clocks.format_time(ctx.now),
                run=kept.run if kept is not None else 0,
                revision=kept.revision if kept is not None else "",
                severity=severity,
            )
        )


def stand_by(ctx: Context) -> None:
    """Let them rest while a run changes something; what it leaves is watched anew.

    What failed before is a fault for as long as it was not seen to be good again.
    """
    for row in ctx.status.atRest:
        row.state, row.since = "Unknown", clocks.format_time(ctx.now)
        row.message, row.acknowledged, row.rollbackUntil = None, False, None
        row.window += 1


# --- what follows


def guard_to_roll_back(view: View, rows: list[RestingGuard]) -> RestingGuard | None:
    """Return a guard whose failure undoes the promotion that it is of.

    `rows`: as they stand now. Only where that promotion is the latest change, and nobody has a
    failed rollback to decide about.
    """
    status, spec = view.status, view.spec
    is_at_rest = view.run is None and not view.deleting and status.unverified is None
    observes = spec is not None and spec.mode == "Observe"
    if not is_at_rest or observes or not status.kept:
        return None

    for row in rows:
        if row.state == "Failed" and row.run == status.kept[0].run and _is_in_time(row):
            return row
    return None


def _is_in_time(row: RestingGuard) -> bool:
    if row.rollbackUntil is None or row.since is None:
        return False
    return clocks.parse_time(row.since) <= clocks.parse_time(row.rollbackUntil)


def describe_faults(status: ReleaseStatus) -> str:
    """Return what is to be said of guards at rest beside everything else; empty where all pass."""
    if not is_watched(status):
        return ""
    rows: list[GateStatus] = [row for row in status.atRest if row.state in ("Failed", "Expired")]
    if not rows:
        return ""
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"; guard {judge.describe(rows[0])}{more}"


def _measure_of(row: RestingGuard, pinned: Pinned) -> Measure | None:
    """Return what a guard measures; None where that cannot be known."""
    body = pinned.get(row.revision)
    guards = body.spec.guards if body is not None else []
    guard = next((one for one in guards if one.name == row.name), None)
    if body is None or guard is None:
        return None

    try:
        return measure_at(f"{row.run}/atRest/{row.name}/{row.window}", guard, row, body.names)
    except UnknownReference:
        return None
