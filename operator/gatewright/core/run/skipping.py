"""Skip: past a step or a whole stage, whatever it says, or because it has nothing to do."""

from __future__ import annotations

from gatewright.api.status import StageStatus
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.driving import STOP_LIMIT_S, drive
from gatewright.core.run.operations import stops_of_step
from gatewright.core.run.stage_end import jobs_still_running
from gatewright.core.run.step_end import fail_step, skip_step
from gatewright.core.steps import kind_of


def skip_stage(ctx: Context, index: int, by: str, message: str) -> None:
    """Pass a stage over whatever its steps and gates say.

    A Job of it is stopped first. What it did stays in the journal.
    """
    stage = ctx.run.stages[index]
    stage.skippedBy, stage.message = by, message

    for number, step in enumerate(stage.steps):
        if step.state == "Pending":
            states.move(step, "Skipped")
            step.message = message
        elif step.state in ("Running", "Failed"):
            skip_current(ctx, index, number, by, message)

    # A Job is still being stopped: the stage ends with it.
    if any(step.state == "Running" for step in stage.steps):
        if stage.state == "Failed":
            states.move(stage, "Running")
        return

    finish_skipped_stage(ctx, stage)


def pass_stage_by(ctx: Context, stage: StageStatus, reason: str) -> None:
    """Skip a stage that has not begun, because its `when` is not met.

    It does nothing, so that nothing of it is undone.
    """
    stage.unmet = reason[:1000]
    stage.message = f"skipped: {reason}"[:1000]
    for step in stage.steps:
        states.move(step, "Skipped")
    states.move(stage, "Skipped")
    stage.finishedAt = clocks.format_time(ctx.now)


def skip_current(ctx: Context, index: int, number: int, by: str, message: str) -> None:
    """Pass over a step that runs or has failed: at once, or once its Job has stopped."""
    step = ctx.run.stages[index].steps[number]
    step.skippedBy, step.message = by, message

    # Only a Job goes on by itself, and only one that was started.
    kind = kind_of(ctx.body.spec.stages[index].steps[number])
    if not kind.stoppable or step.key is None:
        skip_step(ctx, step)
        return

    if step.state == "Failed":
        states.move(step, "Running")
    clocks.start(ctx.run, "step", STOP_LIMIT_S, ctx.now)


def await_stop(ctx: Context, index: int, number: int) -> bool:
    """Somebody skips the step: the walk goes on when the Job it had started has stopped."""
    step = ctx.run.stages[index].steps[number]
    late = clocks.expired(ctx.run, "step", ctx.now)
    driven = drive(
        ctx,
        stops_of_step(ctx.view, ctx.body, ctx.run, index, number),
        may_start=lambda driven: not late and driven.first_in("Failed") is None,
    )

    if late or driven.first_in("Failed") is not None:
        why = driven.any_reason
        return fail_step(ctx, index, step, f"skipped by {step.skippedBy}, but not stopped: {why}")

    if not driven.succeeded:
        return False

    skip_step(ctx, step)
    return True


def finish_skipped_stage(ctx: Context, stage: StageStatus) -> bool:
    """End a stage that somebody skips; what it has started is stopped."""
    ctx.run.stopping += jobs_still_running(ctx.run, stage)
    states.move(stage, "Skipped")
    stage.finishedAt = clocks.format_time(ctx.now)
    clocks.stop(ctx.run, "bake", "overdue", "step")
    return True
