"""What lasts too long: a target that does not run, what others have changed, a stage."""

from __future__ import annotations

from gatewright.api.status import Difference
from gatewright.core.checks import guards
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import Context
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.stage_end import fail_current


def roll_back_on_failure(ctx: Context) -> bool:
    """Roll back where the built-in guard of a target has failed; return whether one has.

    Once all stages have passed, what others have changed for too long does the same.
    """
    if _roll_back_if_unavailable(ctx):
        return True

    # While a stage is under way its own `onFailure` decides about that.
    lasting = observed.expired_difference(ctx)
    if lasting is None or ctx.run.phase != "Guarding":
        return False

    begin_rollback(ctx, "Difference", _describe_lasting(ctx, lasting))
    return True


def _roll_back_if_unavailable(ctx: Context) -> bool:
    """Do what the built-in guard of a target says that has not run for too long."""
    failed = observed.failed_target(ctx)
    if failed is None:
        return False

    row, availability = failed
    # Nothing is undone by that, so that what comes after it still counts.
    if availability.action != "Rollback":
        guards.notify_or_pause(ctx, row, availability.action)
        return False

    reason = f"{row.message} for {availability.for_}"
    begin_rollback(ctx, "Guard", reason, gate=f"availability/{row.name}")
    return True


def fail_on_lasting_difference(ctx: Context) -> bool:
    """Fail the stage under way where what others have changed was not put back in time."""
    lasting = observed.expired_difference(ctx)
    if lasting is None:
        return False

    fail_current(ctx, "Difference", _describe_lasting(ctx, lasting))
    return True


def _describe_lasting(ctx: Context, lasting: Difference) -> str:
    limit = clocks.format_duration(observed.hold_for(ctx, lasting.subject))
    return f"{lasting.message}, longer than {limit}"


def announce_overdue(ctx: Context) -> None:
    """Say once that the stage under way takes longer than expected; nothing else follows."""
    index = current_stage_index(ctx.run)
    if index is None or not clocks.expired(ctx.run, "overdue", ctx.now):
        return

    clocks.stop(ctx.run, "overdue")
    stage, expected = ctx.run.stages[index], ctx.body.spec.stages[index].expectedDuration
    stage.message = f"overdue: expected to take {expected}"
    message = f"stage {stage.name} is taking longer than {expected}"
    ctx.record_event("Overdue", message, warning=True)
