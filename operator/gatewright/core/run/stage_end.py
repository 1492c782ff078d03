"""Where the walk is, and how a stage ends other than well: it fails, or people pass it over."""

from __future__ import annotations

from gatewright.api.status import JournalEntry, Run, StageStatus
from gatewright.core.model import Operation
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.driving import drive
from gatewright.core.run.rollback import begin_rollback


def current_stage_index(run: Run) -> int | None:
    """Index of the stage the walk is at; None past the last. While Paused: the one whose failure a
    person decides about."""
    if run.phase == "Paused" and run.pausedStage is not None:
        return next(
            (n for n, stage in enumerate(run.stages) if stage.name == run.pausedStage), None
        )
    over = ("Passed", "Skipped", "RolledBack", "Failed")
    return next((n for n, stage in enumerate(run.stages) if stage.state not in over), None)


def stops_of(run: Run) -> list[Operation]:
    """What stops the Jobs of failed stages that may still run."""
    return [Operation(entry.key, "stop", entry.subject) for entry in run.stopping]


def settle_stopping(ctx: Context) -> bool:
    """See to it that Jobs of failed stages stop; True while one may still run, and nothing else may
    start."""
    stops = stops_of(ctx.run)
    driven = drive(ctx, stops, may_start=lambda driven: True)
    stopped = {
        operation.subject
        for operation, progress in zip(stops, driven.progress, strict=True)
        if progress.state == "Succeeded"
    }
    if stopped:
        left = [entry for entry in ctx.run.stopping if entry.subject not in stopped]
        ctx.run.stopping = left
    return bool(ctx.run.stopping)


def finish_skipped_stage(ctx: Context, stage: StageStatus) -> bool:
    ctx.run.stopping += _jobs_still_running(ctx.run, stage)
    states.move(stage, "Skipped")
    stage.finishedAt = clocks.format_time(ctx.now)
    clocks.stop(ctx.run, "bake", "overdue", "step")
    return True


def fail_stage(
    ctx: Context, index: int, cause: str, reason: str, gate: str | None = None, pause: bool = False
) -> bool:
    """A stage has failed: what its `onFailure` says. `pause`: a person decides in any case, but
    where it goes on."""
    run = ctx.run
    stage, wanted = run.stages[index], ctx.body.spec.stages[index]
    for step in stage.steps:  # what it was doing has failed with it
        if step.state == "Running":
            states.move(step, "Failed")
            step.finishedAt = clocks.format_time(ctx.now)
    states.move(stage, "Failed")
    stage.finishedAt, stage.skippedBy = clocks.format_time(ctx.now), None
    stage.message = reason[:1000]
    clocks.stop(run, "bake", "overdue", "step", clocks.DIFFERENCE_CLOCK)
    ctx.write_now()
    if wanted.onFailure == "Continue" and not pause:
        run.stopping += _jobs_still_running(run, stage)
        ctx.record_event(
            "StageFailed", f"stage {stage.name}: {reason} (onFailure: Continue)", warning=True
        )
        return True
    if (wanted.onFailure == "Pause" or pause) and not run.observe:
        run.stopping += _jobs_still_running(run, stage)
        states.move(run, "Paused")
        run.pausedStage = stage.name
        clocks.hold(run, "a person decides", ctx.now)
        ctx.record_event("Paused", f"stage {stage.name}: {reason}; a person decides", warning=True)
        return False
    begin_rollback(ctx, cause, f"stage {stage.name}: {reason}", failed=stage.name, gate=gate)
    return False


def fail_current(ctx: Context, cause: str, reason: str) -> None:
    """The stage under way has failed, begun or not; past the last one the whole run has."""
    index = current_stage_index(ctx.run)
    if index is None:
        begin_rollback(ctx, cause, reason)
        return
    stage = ctx.run.stages[index]
    if stage.state == "Pending":
        states.move(stage, "Running")
        stage.startedAt = clocks.format_time(ctx.now)
    fail_stage(ctx, index, cause, reason)


def _jobs_still_running(run: Run, stage: StageStatus) -> list[JournalEntry]:
    """Jobs of a stage that has failed, unless it is known that they have ended: by their step, or
    by their gate."""
    over = {step.key for step in stage.steps if step.state in ("Succeeded", "Skipped")}
    # A gate that cannot pass has failed before its Job has ended.
    judged = {f"gates/{row.name}" for row in stage.gates if row.state == "Passing"}
    known = {entry.subject for entry in run.stopping}
    return [
        entry
        for entry in run.journal
        if entry.stage == stage.name
        and entry.subject.startswith("job/")
        and entry.key not in over
        and entry.step not in judged
        and entry.subject not in known
    ]
