"""The way back: undo what ran, look at it once more, verify, say what is served.

A rollback's critical path is two requests: the write that holds the plan as intents, and the first
restore. Restores do not wait for each other; a compensation waits until everything before it has
ended. One line that fails does not keep the others from being undone, but the run then ends
RollbackFailed.

    refused            tried again with back-off until the line's own time is over; said at once
    not done in time   a Job is stopped, and only then has its line failed; a restore that only is not ready yet is looked
                       at once more when everything else is done (old pods may need the database first)
    does not end       nothing that comes after it is started: it might still be at work on the same thing
    over budget        said loudly, and nothing else: budgets page, they never drop the order
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.status import Outcome, Rollback, Undo
from gatewright.core.run import clocks, states
from gatewright.core.run.context import (
    Context,
    finish_run,
    fresh_statuses,
)
from gatewright.core.run.operations import compensation_of, compensations_around, operations_of_undo
from gatewright.core.run.rollback_end import fail_rollback, remaining_unverified
from gatewright.core.run.rollback_plan import plan_rollback
from gatewright.core.run.undo_lines import (
    KEPT_BACK_PREFIX,
    STAGE_BUDGET_PREFIX,
    advance_line,
    give_keys,
    is_job,
    is_kept_back,
    limit_of_line,
    repeat_compensations,
    reset_line,
)
from gatewright.core.run.verification import reset_verification
from gatewright.core.spec.pinned_spec import produced_artifacts

FINISHED_STATES = ("Succeeded", "Failed", "Skipped")
LAST_CHECK_S = 5.0
"""Seconds that a restore gets when it is looked at once more and nothing was compensated since."""


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
        states.move(run, "Guarding") if run.phase == "Walking" else None
        finish_run(ctx, "Observed", f"would roll back: {reason}")
        return

    ctx.decision.operations.clear()  # what this very pass would have started has not been started
    under_way = next(
        (stage for stage in run.stages if stage.state in ("Running", "Gating", "Baking")), None
    )
    if under_way is not None:
        states.move(under_way, "Failed")
        under_way.finishedAt, under_way.message = clocks.format_time(ctx.now), reason[:1000]
    states.move(run, "RollingBack")
    run.timers.clear()
    run.held = None
    run.paused = None
    run.pausedStage = None
    run.stopping = []
    run.differences = []
    run.availability = []

    failures = {stage.name for stage in run.stages if stage.state == "Failed"} | (
        {failed} if failed else set()
    )
    undo = plan_rollback(ctx.body, run, failures)
    run.rollback = Rollback(
        cause=cause,
        reason=reason[:1000],
        gate=gate,
        startedAt=clocks.format_time(ctx.now),
        then=then,
        undo=undo,
        verify=fresh_statuses(ctx.body.spec.rollback.verify),
    )
    give_keys(ctx, undo)
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)
    ctx.decision.urgent = True
    ctx.record_event("RollingBack", f"{run.version}: {reason}", warning=True)
    ctx.write_now()


def repeat_rollback(ctx: Context) -> None:
    """Once more what a failed rollback has not undone; what it has undone is looked at again."""
    run = ctx.run
    states.reopen(run)
    assert run.rollback is not None
    run.finishedAt = run.took = run.reason = None
    run.rollback.attempt += 1
    # To return something twice is to return it once, and others may have taken away what was
    # returned.
    left = [
        item
        for item in run.rollback.undo
        if item.state == "Failed" or is_kept_back(item) or item.kind == "Restore"
    ]
    for line in left:
        reset_line(line)
        line.stopping = line.again = False
        line.unended = line.unended and line.kind == "Compensate"
    give_keys(ctx, [line for line in left if not line.unended])
    run.rollback.setAgain = True
    reset_verification(run.rollback)
    ctx.status.unverified = remaining_unverified(ctx)
    ctx.decision.add_finalizer = True
    ctx.decision.urgent = True
    ctx.record_event(
        "RollingBack", f"{run.version}: what was not undone is undone once more", warning=True
    )
    ctx.write_now()


def _stop_unended_jobs(ctx: Context) -> None:
    """Jobs of compensations that may still be going on are stopped before these are started once
    more."""
    rollback = ctx.run.rollback
    assert rollback is not None
    for line in [item for item in rollback.undo if item.state == "Pending" and item.unended]:
        jobs = (
            operations_of_undo(
                ctx.view, ctx.body, ctx.run, line.model_copy(update={"stopping": True})
            )
            if is_job(ctx, line)
            else []
        )
        stops = [
            Undo(kind="Stop", stage=line.stage, subject=job.subject, state="Pending", key=job.key)
            for job in jobs
        ]
        line.unended = False
        rollback.undo = [*stops, *rollback.undo]
        give_keys(ctx, [line])


def roll_back(ctx: Context) -> None:
    """Undo line by line, as far as lines may go side by side."""
    run = ctx.run
    assert run.rollback is not None
    ctx.decision.urgent = True
    _stop_unended_jobs(ctx)
    if run.rollback.setAgain:
        run.rollback.setAgain = False
        repeat_compensations(ctx, run.rollback.undo, before=True)
    waiting, unended = False, ""
    for line in run.rollback.undo:
        if line.kind == "Compensate" and line.state == "Pending" and unended:
            states.move(
                line, "Skipped"
            ).message = f"{KEPT_BACK_PREFIX}: {unended} may still be going on"
        if line.kind == "Compensate" and line.state not in FINISHED_STATES and waiting:
            break
        if (
            line.kind == "Compensate"
            and line.state == "Pending"
            and (unmet := _unmet_requirements(ctx, line))
        ):
            states.move(
                line, "Skipped"
            ).message = f"{KEPT_BACK_PREFIX}: nothing has produced {', '.join(unmet)}"
        if line.state not in FINISHED_STATES:
            advance_line(ctx, line)
        unended = unended or (line.subject if line.unended else "")
        if line.state not in FINISHED_STATES:
            waiting = True
            if line.kind == "Compensate":
                break
    _report_exceeded_budgets(ctx)
    if all(
        line.state in FINISHED_STATES for line in run.rollback.undo
    ) and not _recheck_late_restores(ctx):
        _begin_verification(ctx)


def _unmet_requirements(ctx: Context, line: Undo) -> list[str]:
    """What a compensation requires and one before it in its stage should have produced, but has
    not."""
    assert ctx.run.rollback is not None
    stage, step = compensation_of(ctx.body, line)
    if not step.requires:
        return []
    good = {
        item.subject
        for item in ctx.run.rollback.undo
        if item.stage == line.stage and item.state == "Succeeded"
    }
    own = {
        item.produces
        for item in ctx.body.spec.stages[stage].rollback.steps
        if f"step/{item.name}" in good
    }
    return sorted(
        set(step.requires) - produced_artifacts(ctx.body, ctx.run) - {name for name in own if name}
    )


def _recheck_late_restores(ctx: Context) -> bool:
    """Restores that were not ready in time, when everything else is done: compensations may have
    mended what they need."""
    run = ctx.run
    assert run.rollback is not None
    lines_ = run.rollback.undo
    late = [
        line
        for line in lines_
        if line.kind == "Restore" and line.state == "Failed" and not line.again
    ]
    for line in late:
        # It has rolled out with that; verification compares both.
        if compensations_around(ctx.body, run, line)[1]:
            states.move(states.move(line, "Running"), "Succeeded").message = None
            continue
        after = lines_[[item is line for item in lines_].index(True) :]
        done = any(item.kind == "Compensate" and item.state == "Succeeded" for item in after)
        mended = done and line.subject.startswith("target/")
        states.move(line, "Running")
        line.again = True
        line.startedAt = clocks.format_time(ctx.now)
        line.due = clocks.format_time(
            ctx.now + timedelta(seconds=limit_of_line(ctx, line) if mended else LAST_CHECK_S)
        )
    if late:
        ctx.write_now()
    return bool(late)


def _report_exceeded_budgets(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None
    for name in [name for name in run.timers if name.startswith(STAGE_BUDGET_PREFIX)]:
        stage = name.removeprefix(STAGE_BUDGET_PREFIX)
        if all(line.state in FINISHED_STATES for line in run.rollback.undo if line.stage == stage):
            clocks.stop(run, name)
        elif clocks.expired(run, name, ctx.now):
            clocks.stop(run, name)
            ctx.record_event(
                "RollbackOverdue",
                f"{run.version}: undoing stage {stage} exceeds its budget",
                warning=True,
            )
    if clocks.expired(run, "rollback", ctx.now):
        clocks.stop(run, "rollback")
        ctx.record_event(
            "RollbackOverdue", f"{run.version}: the rollback exceeds its budget", warning=True
        )


def _begin_verification(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None
    broken = [line for line in run.rollback.undo if line.state == "Failed" or is_kept_back(line)]
    if broken:
        fail_rollback(ctx, "; ".join(f"{line.subject}: {line.message}" for line in broken))
        return
    states.move(run, "Verifying")
    clocks.stop(run, *[name for name in run.timers if name.startswith(STAGE_BUDGET_PREFIX)])
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)
    if any("job" in check.provider for check in ctx.body.spec.rollback.verify):
        ctx.write_now()
