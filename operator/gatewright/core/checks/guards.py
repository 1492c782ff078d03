"""Guards: when they count, what their silence does, and which of them ends the run.

before the first change   measured and said, so that whoever approves knows; nothing follows
breaching by then         `early`: it counts from the first completed deploy on, with a new row of
samples; a hotfix
                          is rolled out because something breaches
silent for too long       `onHoldExpired`: Fail undoes the run; Pause lets a person decide; Notify
says so, and the
                          clocks stand until there is an answer
"""

from __future__ import annotations

from gatewright.api.release import Guard
from gatewright.api.status import GateStatus
from gatewright.core.checks import judge
from gatewright.core.checks.active import guard_set
from gatewright.core.run.context import Context, evaluate_checks

BREACH_STATES = ("Breaching", "Failed")


def preview_guards(ctx: Context) -> None:
    """Before anything is touched guards are only said."""
    evaluate_checks(ctx, guard_set(ctx.body, ctx.run))
    for row in ctx.run.guards:
        row.early = row.state in BREACH_STATES


def have_guards_answered(ctx: Context) -> bool:
    """Whether every guard has had an answer, or has been silent for long enough to hold: only then
    is it known which of them breach already before the run changes anything."""
    return ctx.run.observe or all(row.state != "Unknown" for row in ctx.run.guards)


def update_guards(ctx: Context) -> None:
    """Which guards do not count yet; and tell of those that only tell."""
    run = ctx.run
    for row in run.guards:
        if not run.journal:
            row.early = row.state in BREACH_STATES
        elif row.early and row.state not in BREACH_STATES:
            row.early = False
    for guard, row in _guards_with_status(ctx):
        if row.early:
            continue
        if row.state == "Failed" and guard.action == "Notify" and _has_just_failed(ctx, row):
            ctx.record_event(
                "GuardFailed", f"guard {judge.describe(row)} (action: Notify)", warning=True
            )
        if row.state == "Expired" and not row.acknowledged:
            notify_or_pause(ctx, row, _action_on_silence(ctx, guard))


def failed_guard(ctx: Context) -> GateStatus | None:
    """The first guard that undoes the run: by a breach, or by its silence where that is to count as
    a failure."""
    return next(
        (
            row
            for guard, row in _guards_with_status(ctx)
            if row.state == "Failed" and guard.action == "Rollback" and not row.early
        ),
        None,
    )


def expired_guard(ctx: Context) -> GateStatus | None:
    """A guard that has been silent for longer than it may, while nothing follows from that by
    itself."""
    return next(
        (
            row
            for guard, row in _guards_with_status(ctx)
            if row.state == "Expired" and guard.action == "Rollback"
        ),
        None,
    )


def is_waived(ctx: Context, guard: Guard, row: GateStatus) -> bool:
    """Whether a person has resumed the run although this guard is silent: it keeps nothing from
    going on until it answers."""
    return (
        row.state == "Expired"
        and row.acknowledged
        and ctx.run.paused is None
        and _action_on_silence(ctx, guard) == "Pause"
    )


def rearm_guards(ctx: Context) -> None:
    """All stages have passed: what was let go in them is decided anew, by what counts from now
    on."""
    for guard, row in _guards_with_status(ctx):
        if row.acknowledged and _action_on_silence(ctx, guard) == "Notify":
            row.acknowledged = False


def notify_or_pause(ctx: Context, row: GateStatus, action: str) -> None:
    """A person decides, or is only told; either once."""
    if action == "Pause" and ctx.run.paused is None and ctx.run.phase in ("Walking", "Guarding"):
        ctx.run.paused = f"guard {judge.describe(row)}"[:1000]
        row.acknowledged = True  # once it was resumed it is not paused again for the same
        ctx.record_event(
            "PausedByGuard",
            f"{ctx.run.version}: guard {judge.describe(row)}; a person decides",
            warning=True,
        )
        ctx.write_now()
    elif action == "Notify":
        row.acknowledged = True
        text = "nothing is promoted and nothing undone until there is an answer"
        ctx.record_event(
            "GuardSilent", f"{ctx.run.version}: guard {judge.describe(row)}; {text}", warning=True
        )
        ctx.write_now()


def _action_on_silence(ctx: Context, guard: Guard) -> str:
    if guard.action == "Notify":
        return "Notify"
    return guard.onHoldExpired or ("Notify" if ctx.run.phase == "Guarding" else "Pause")


def _has_just_failed(ctx: Context, row: GateStatus) -> bool:
    """Whether a guard has failed in this very pass."""
    before = ctx.view.status.run
    return (
        before is not None
        and next((g.state for g in before.guards if g.name == row.name), "") != "Failed"
    )


def _guards_with_status(ctx: Context) -> list[tuple[Guard, GateStatus]]:
    return list(zip(ctx.body.spec.guards, ctx.run.guards, strict=True))
