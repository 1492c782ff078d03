"""A person repeats what a failed rollback has not undone."""

from __future__ import annotations

from gatewright.api.status import Undo
from gatewright.core.checks import at_rest
from gatewright.core.model.operation import Operation
from gatewright.core.run import states
from gatewright.core.run.context import Context
from gatewright.core.run.operations import operations_of_undo
from gatewright.core.run.rollback_end import remaining_unverified
from gatewright.core.run.undo_lines import give_keys, is_job, is_kept_back, reset_line
from gatewright.core.run.verification import reset_verification


def repeat_rollback(ctx: Context) -> None:
    """Undo once more what a failed rollback has not undone; what it has is looked at again."""
    run = ctx.run
    states.reopen(run)
    # As when it began: what is returned is judged when it has been.
    at_rest.stand_by(ctx)
    assert run.rollback is not None
    run.finishedAt = run.duration = run.reason = None
    run.rollback.attempt += 1

    # To return something twice is to return it once, and others may have taken away what was
    # returned.
    lines = [
        line
        for line in run.rollback.undo
        if line.state == "Failed" or is_kept_back(line) or line.kind == "Restore"
    ]
    for line in lines:
        reset_line(line)
        line.stopping = line.again = False
        line.unended = line.unended and line.kind == "Compensate"

    # What may still be going on is stopped first, by the key that it was started with.
    give_keys(ctx, [line for line in lines if not line.unended])
    run.rollback.setAgain = True
    reset_verification(run.rollback)
    ctx.status.unverified = remaining_unverified(ctx)

    ctx.decision.add_finalizer = ctx.decision.begins = True
    ctx.decision.rolls_back = True
    message = f"{run.version}: what was not undone is undone once more"
    ctx.record_event("RollingBack", message, warning=True)
    ctx.write_now()


def stop_unended_jobs(ctx: Context) -> None:
    """Stop Jobs of compensations that may still be going on, before these are started once more."""
    rollback = ctx.run.rollback
    assert rollback is not None

    unended = [line for line in rollback.undo if line.state == "Pending" and line.unended]
    for line in unended:
        stops = [
            Undo(kind="Stop", stage=line.stage, subject=stop.subject, state="Pending", key=stop.key)
            for stop in _stops_of_line(ctx, line)
        ]
        line.unended = False
        rollback.undo = [*stops, *rollback.undo]
        give_keys(ctx, [line])


def _stops_of_line(ctx: Context, line: Undo) -> list[Operation]:
    """Return what stops the Job that a line has started; nothing where it has none."""
    if not is_job(ctx, line):
        return []
    stopping = line.model_copy(update={"stopping": True})
    return operations_of_undo(ctx.view, ctx.body, ctx.run, stopping)
