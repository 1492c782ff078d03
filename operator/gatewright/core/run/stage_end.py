"""How a stage fails, and what follows; how its Jobs are stopped."""

from __future__ import annotations

from gatewright.api.status import JournalEntry, Run, StageStatus
from gatewright.core.model.operation import Operation
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.driving import drive
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.subject import traits_of

DECIDING_HOLD = "a person decides"
"""What a paused run holds on."""


def stops_of(run: Run) -> list[Operation]:
    """Return what stops the Jobs of failed stages that may still run."""
    return [Operation(entry.key, "stop", entry.subject) for entry in run.stopping]


def settle_stopping(ctx: Context) -> bool:
    """See to it that Jobs of failed stages stop.

    Return True while one may still run: nothing else may start then.
    """
    stops = stops_of(ctx.run)
    driven = drive(ctx, stops, may_start=lambda driven: True)

    stopped = {
        operation.subject
        for operation, progress in zip(stops, driven.progress, strict=True)
        if progress.state == "Succeeded"
    }
    if stopped:
        run = ctx.run
        run.stopping = [entry for entry in run.stopping if entry.subject not in stopped]

    return bool(ctx.run.stopping)


def fail_stage(
    ctx: Context, index: int, cause: str, reason: str, gate: str | None = None, pause: bool = False
) -> bool:
    """Fail a stage and do what its `onFailure` says; return whether the walk goes on.

    `pause`: a person decides in any case, but where it goes on.
    """
    run = ctx.run
    stage, on_failure = run.stages[index], ctx.body.spec.stages[index].onFailure
    _mark_failed(ctx, stage, reason)

    if on_failure == "Continue" and not pause:
        run.stopping += jobs_still_running(run, stage)
        message = f"stage {stage.name}: {reason} (onFailure: Continue)"
        ctx.record_event("StageFailed", message, warning=True)
        return True

    # Nobody decides about a run that changes nothing.
    if (on_failure == "Pause" or pause) and not run.observe:
        run.stopping += jobs_still_running(run, stage)
        states.move(run, "Paused")
        run.pausedStage = stage.name
        clocks.hold(run, DECIDING_HOLD, ctx.now)
        ctx.record_event("Paused", f"stage {stage.name}: {reason}; a person decides", warning=True)
        return False

    begin_rollback(ctx, cause, f"stage {stage.name}: {reason}", failed=stage.name, gate=gate)
    return False


def _mark_failed(ctx: Context, stage: StageStatus, reason: str) -> None:
    """Record that a stage has failed, and with it what it was doing."""
    for step in stage.steps:
        if step.state == "Running":
            states.move(step, "Failed")
            step.finishedAt = clocks.format_time(ctx.now)

    states.move(stage, "Failed")
    stage.finishedAt, stage.skippedBy = clocks.format_time(ctx.now), None
    stage.message = reason[:1000]
    clocks.stop(ctx.run, "bake", "overdue", "step", clocks.DIFFERENCE_CLOCK)
    ctx.write_now()


def fail_current(ctx: Context, cause: str, reason: str) -> None:
    """Fail the stage under way, begun or not; past the last one the whole run has failed."""
    index = current_stage_index(ctx.run)
    if index is None:
        begin_rollback(ctx, cause, reason)
        return

    stage = ctx.run.stages[index]
    if stage.state == "Pending":
        states.move(stage, "Running")
        stage.startedAt = clocks.format_time(ctx.now)

    fail_stage(ctx, index, cause, reason)


def jobs_still_running(run: Run, stage: StageStatus) -> list[JournalEntry]:
    """Return the Jobs of a stage that has failed and may still run.

    Of some it is known that they have ended: by their step, or by their gate.
    """
    over = {step.key for step in stage.steps if step.state in ("Succeeded", "Skipped")}
    # A gate that cannot pass has failed before its Job has ended.
    judged = {f"gates/{row.name}" for row in stage.gates if row.state == "Passing"}
    stopping = {entry.subject for entry in run.stopping}

    return [
        entry
        for entry in run.journal
        if entry.stage == stage.name
        and traits_of(entry.subject).stopped
        and entry.key not in over
        and entry.step not in judged
        and entry.subject not in stopping
    ]
