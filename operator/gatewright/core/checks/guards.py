"""Guards: when they count, what their silence does, and which of them ends the run.

before the first change   measured and said, so that whoever approves knows; nothing follows
breaching by then         `early`: it counts from the first completed deploy on, with a new row
                          of samples; a hotfix is rolled out because something breaches
failed                    `action`: `run.interruptions` has one function for each that does more
                          than to say so
silent for too long       `onHoldExpired`: Fail is a failure; Pause lets a person decide;
                          Notify says so, and the clocks stand until there is an answer
"""

from __future__ import annotations

from gatewright.api.checks import Guard
from gatewright.api.status import GateStatus
from gatewright.core.checks import judge
from gatewright.core.checks.active import guard_set
from gatewright.core.run import clocks
from gatewright.core.run.check_evaluation import evaluate_checks
from gatewright.core.run.context import Context

BREACH_STATES = ("Breaching", "Failed")
PERSON_DECIDES = ("Pause", "RollbackStage")
"""Actions after which a person may let the run go on although the guard fails.

RollbackStage is one where the stage is undone, and the guard fails all the same."""


def preview_guards(ctx: Context) -> None:
    """Measure guards before anything is touched: nothing follows from what they say."""
    evaluate_checks(ctx, guard_set(ctx.body, ctx.run))
    for row in ctx.run.guards:
        row.early = row.state in BREACH_STATES


def have_guards_answered(ctx: Context) -> bool:
    """Return whether every guard has had an answer, or was silent for long enough to hold.

    Only then is it known which of them breach already before the run changes anything.
    """
    return ctx.run.observe or all(row.state != "Unknown" for row in ctx.run.guards)


def update_guards(ctx: Context) -> None:
    """Mark which guards do not count yet, and tell of those that only tell."""
    has_changed_anything = bool(ctx.run.journal)
    for row in ctx.run.guards:
        is_breaching = row.state in BREACH_STATES
        # Once something was changed, a guard that was good for a moment counts for good.
        row.early = is_breaching if not has_changed_anything else row.early and is_breaching

    for guard, row in guard_set(ctx.body, ctx.run).pairs():
        # It was bad before the run changed anything: nothing follows from it yet.
        if row.early:
            continue
        note_fault(ctx, row)
        acts = guard.action == "Rollback"
        if row.state == "Failed" and not acts and _has_just_failed(ctx, row):
            message = f"guard {judge.describe(row)} (action: {guard.action})"
            ctx.record_event("GuardFailed", message, warning=True, guard=row.name)
        if row.state == "Expired" and not row.acknowledged:
            notify_or_pause(ctx, row, _action_on_silence(ctx, guard))


def note_fault(ctx: Context, row: GateStatus) -> None:
    """Note since when people know that a guard fails; say that it is good again when it passes."""
    if row.state == "Failed" and row.faultSince is None:
        row.faultSince = clocks.format_time(ctx.now)
    if row.state == "Passing" and row.faultSince is not None:
        since = row.faultSince
        row.faultSince = None
        message = f"guard {row.name} is good again; people know of its fault since {since[:19]}Z"
        ctx.record_event("GuardRecovered", message, guard=row.name)


def failed_guard(ctx: Context, action: str) -> GateStatus | None:
    """Return the first guard with this action that has failed, and that nobody has let pass.

    By a breach, or by its silence where that is to count as a failure.
    """
    for guard, row in guard_set(ctx.body, ctx.run).pairs():
        is_let_pass = action in PERSON_DECIDES and row.acknowledged
        counts = not row.early and not is_let_pass
        if row.state == "Failed" and guard.action == action and counts:
            return row
    return None


def describe_waived(ctx: Context) -> str:
    """Return which guards fail although a person has let the run go on; empty for none."""
    rows = [
        row
        for guard, row in guard_set(ctx.body, ctx.run).pairs()
        if row.state == "Failed" and is_waived(ctx, guard, row)
    ]
    return "; ".join(f"guard {judge.describe(row)} (a person has let it pass)" for row in rows)


def expired_guard(ctx: Context) -> GateStatus | None:
    """Return the first guard that has been silent for longer than it may.

    Nothing follows from that by itself.
    """
    for guard, row in guard_set(ctx.body, ctx.run).pairs():
        if row.state == "Expired" and guard.action != "Notify":
            return row
    return None


def is_waived(ctx: Context, guard: Guard, row: GateStatus) -> bool:
    """Return whether a person has resumed the run although this guard is silent, or has failed.

    It keeps nothing from going on until it answers.
    """
    if not row.acknowledged or ctx.run.paused is not None:
        return False
    if row.state == "Failed":
        return guard.action in PERSON_DECIDES
    return row.state == "Expired" and _action_on_silence(ctx, guard) == "Pause"


def counting_rows(ctx: Context) -> list[GateStatus]:
    """Return the lines of guards that would do more than say so, and count by now.

    One that breached before the run changed anything counts later, one that is waived not at all.
    """
    return [
        row
        for guard, row in guard_set(ctx.body, ctx.run).pairs()
        if guard.action != "Notify" and not row.early and not is_waived(ctx, guard, row)
    ]


def rearm_guards(ctx: Context) -> None:
    """Decide anew, when all stages have passed, about what was let go in them.

    What counts from now on is what a guard does while it watches.
    """
    for guard, row in guard_set(ctx.body, ctx.run).pairs():
        is_silent = row.state != "Failed"
        if row.acknowledged and is_silent and _action_on_silence(ctx, guard) == "Notify":
            row.acknowledged = False


def notify_or_pause(ctx: Context, row: GateStatus, action: str) -> None:
    """Let a person decide about a guard that is silent or has failed, or only tell; either once."""
    run = ctx.run
    name = f"guard {judge.describe(row)}"
    # The built-in guard of a target is called as the target is.
    guard = row.name if any(row is other for other in run.guards) else ""

    if action == "Pause" and run.paused is None and run.phase in ("Progressing", "Guarding"):
        run.paused = name[:1000]
        row.acknowledged = True  # once it was resumed it is not paused again for the same
        row.faultSince = row.faultSince or clocks.format_time(ctx.now)
        message = f"{run.version}: {name}; a person decides"
        ctx.record_event("PausedByGuard", message, warning=True, guard=guard)
        ctx.write_now()
    elif action == "Notify":
        row.acknowledged = True
        row.faultSince = row.faultSince or clocks.format_time(ctx.now)
        consequence = "nothing is promoted and nothing undone until there is an answer"
        message = f"{run.version}: {name}; {consequence}"
        ctx.record_event("GuardSilent", message, warning=True, guard=guard)
        ctx.write_now()


def _action_on_silence(ctx: Context, guard: Guard) -> str:
    # A guard that only tells of a breach only tells of its silence.
    if guard.action == "Notify":
        return "Notify"
    return guard.onHoldExpired or ("Notify" if ctx.run.phase == "Guarding" else "Pause")


def _has_just_failed(ctx: Context, row: GateStatus) -> bool:
    """Return whether a guard has failed in this very pass."""
    before = ctx.view.status.run
    if before is None:
        return False
    return not any(guard.name == row.name and guard.state == "Failed" for guard in before.guards)


def arm_early_guards(ctx: Context) -> None:
    """Let guards count, by their own rule, that breached before the run changed anything.

    The first deploy is done.
    """
    ctx.run.deployed = True
    for row in ctx.run.guards:
        if row.early:
            row.early = False
            rearm_guard(ctx, row.name)

    ctx.write_now()


def rearm_guard(ctx: Context, name: str) -> None:
    """Let a guard begin anew, with a new row of samples."""
    for row in ctx.run.guards:
        if row.name == name:
            row.state, row.message, row.acknowledged = "Unknown", None, False
            row.since = clocks.format_time(ctx.now)
            row.window += 1
