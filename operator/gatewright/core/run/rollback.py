"""The way back: undo what ran, look at it once more, verify, say what is served.

The order of the lines has two halves: `rollback_plan` says in which order they stand, and
`rollback_lines` which of them wait for one another.

A rollback's critical path is two requests: the write that holds the plan as intents, and the first
restore. Restores do not wait for each other; a compensation waits until everything before it has
ended. One line that fails does not keep the others from being undone, but the run then ends
RollbackFailed.

    what happens      what follows
    ----------------  --------------------------------------------------------------------------
    refused           tried again with back-off until the line's own time is over; said at once
    not done in time  a Job is stopped, and only then has its line failed; a restore that only is
                      not ready yet is looked at once more when everything else is done (old pods
                      may need the database first)
    does not end      nothing that comes after it is started: it might still be at work on the
                      same thing
    over budget       said loudly, and nothing else: budgets page, they never drop the order
"""

from __future__ import annotations

from typing import Any

from gatewright.api.base import seconds
from gatewright.api.status import Outcome, Rollback, Run, Undo
from gatewright.core.run import clocks, states
from gatewright.core.run.check_evaluation import fresh_statuses
from gatewright.core.run.context import Context
from gatewright.core.run.late_restores import recheck_late_restores
from gatewright.core.run.rollback_budgets import (
    report_exceeded_budgets,
    restart_budgets,
    stage_budgets,
)
from gatewright.core.run.rollback_end import fail_rollback
from gatewright.core.run.rollback_lines import advance_lines, describe_broken
from gatewright.core.run.rollback_plan import are_finished, plan_rollback
from gatewright.core.run.rollback_repeat import stop_unended_jobs
from gatewright.core.run.run_end import finish_run
from gatewright.core.run.undo_lines import (
    give_keys,
    repeat_compensations,
)


def begin_rollback(
    ctx: Context,
    cause: Any,
    reason: str,
    failed: str | None = None,
    gate: str | None = None,
    then: Outcome = "RolledBack",
) -> None:
    """Turn around: the whole release is undone, the stage under way included."""
    run = ctx.run
    if run.observe:
        _finish_observed(ctx, reason)
        return

    # What this very pass would have started has not been started.
    ctx.decision.operations.clear()
    leave_way_forward(ctx, reason)

    failures = {stage.name for stage in run.stages if stage.state == "Failed"}
    failures |= {name for name in (failed, run.stage_undone) if name is not None}

    undo, fresh = _take_over(run, plan_rollback(ctx.body, run, failures))
    run.rollback = Rollback(
        cause=cause,
        reason=reason[:1000],
        gate=gate,
        startedAt=clocks.format_time(ctx.now),
        then=then,
        undo=undo,
        verify=fresh_statuses(ctx.body.spec.rollback.verify),
    )
    give_keys(ctx, fresh)
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)

    ctx.decision.rolls_back = True
    ctx.record_event("RollingBack", f"{run.version}: {reason}", warning=True)
    ctx.write_now()


def _take_over(run: Run, planned: list[Undo]) -> tuple[list[Undo], list[Undo]]:
    """Return the plan, and of it what gets keys, where a stage was being undone alone.

    What compensations of that have done, or are at, is not done twice: they stand first, because
    they have begun before the rest.
    """
    begun = {
        (line.stage, line.subject): line
        for line in (run.rollback.undo if run.rollback is not None else ())
        if line.kind == "Compensate" and line.state in ("Running", "Succeeded", "Failed")
    }
    taken, rest, unended = [], [], []
    for line in planned:
        old = begun.get((line.stage, line.subject)) if line.kind == "Compensate" else None
        if old is None:
            rest.append(line)
        elif old.state != "Failed":
            taken.append(old)
        elif old.unended:
            # What may still be going on is stopped first, by the key that it was started with.
            line.key, line.unended = old.key, True
            unended.append(line)
            rest.append(line)
        else:
            rest.append(line)

    fresh = [line for line in rest if not any(line is other for other in unended)]
    return [*taken, *rest], fresh


def _finish_observed(ctx: Context, reason: str) -> None:
    """End a run that only observes: it has changed nothing, so that nothing is undone."""
    if ctx.run.phase == "Progressing":
        states.move(ctx.run, "Guarding")
    finish_run(ctx, "Observed", f"would roll back: {reason}")


def leave_way_forward(ctx: Context, reason: str) -> None:
    """Fail the stage under way, and forget what only concerns the way forward."""
    run = ctx.run
    for stage in run.stages:
        if stage.state in ("Running", "Gating", "Baking"):
            states.move(stage, "Failed")
            stage.finishedAt, stage.message = clocks.format_time(ctx.now), reason[:1000]
            break

    # A stage may have been on its way back alone.
    if run.phase != "RollingBack":
        states.move(run, "RollingBack")
    run.timers.clear()
    run.holdReason = None
    run.paused = None
    run.pausedStage = None
    run.stopping = []
    run.differences = []
    run.availability = []


def roll_back(ctx: Context) -> None:
    """Undo line by line, as far as lines may go side by side."""
    rollback = ctx.run.rollback
    assert rollback is not None
    ctx.decision.rolls_back = True

    stop_unended_jobs(ctx)
    if rollback.setAgain:
        rollback.setAgain = False
        restart_budgets(ctx)
        repeat_compensations(ctx, rollback.undo, before=True)

    # On the way back from rest nothing has waited for it.
    if not ctx.view.finalized and not ctx.view.deleting:
        ctx.decision.add_finalizer_beside = True

    if are_lines_done(ctx):
        _begin_verification(ctx)


def are_lines_done(ctx: Context) -> bool:
    """Take the lines further; return whether all of them have ended, well or not."""
    assert ctx.run.rollback is not None
    advance_lines(ctx, ctx.run.rollback.undo)
    report_exceeded_budgets(ctx)
    return are_finished(ctx.run.rollback.undo) and not recheck_late_restores(ctx)


def _begin_verification(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None

    # There is nothing to verify where not everything was undone.
    broken = describe_broken(run.rollback.undo)
    if broken:
        fail_rollback(ctx, broken)
        return

    states.move(run, "Verifying")
    clocks.stop(run, *stage_budgets(run))
    # Verification has the whole time of `rollback.within` for itself.
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)
    if any("job" in check.provider for check in ctx.body.spec.rollback.verify):
        ctx.write_now()
