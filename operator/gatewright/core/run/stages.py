"""One stage: its steps in order, its gates, its bake; and what its failure does."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.status import StageStatus
from gatewright.core.interventions import approvals, expiry
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.position import current_stage_index, unfinished_step_index
from gatewright.core.run.running_step import advance_step
from gatewright.core.run.skipping import finish_skipped_stage, pass_stage_by
from gatewright.core.run.stage_end import settle_stopping
from gatewright.core.run.stage_gates import advance_gates, begin_gates
from gatewright.core.spec import stage_conditions
from gatewright.core.spec.pinned_spec import names_at


def advance_stage(ctx: Context) -> bool:
    """Take the current stage one transition further; False where something has to be waited for."""
    run = ctx.run
    index = current_stage_index(run)
    # The transition before may have led elsewhere, by `onFailure`.
    if run.phase != "Progressing" or index is None:
        return False
    # A Job of a stage that was passed over may still be at work on the same thing.
    if settle_stopping(ctx):
        return False
    expiry.expire_in_stages(ctx, index)
    # What people have answered belonged to another body.
    if approvals.must_wait(run, index):
        return False

    stage = run.stages[index]
    if stage.state == "Pending" and _pass_by_if_unmet(ctx, index, stage):
        return True
    if stage.state == "Pending":
        _begin_stage(ctx, index, stage)
        return True
    if stage.state != "Running":
        return advance_gates(ctx, index, stage)

    number = unfinished_step_index(stage)
    # Gates are asked when all steps have ended.
    if number is not None:
        return advance_step(ctx, index, number)
    # Its Job was stopped before: only now the stage ends.
    if stage.skippedBy is not None:
        return finish_skipped_stage(ctx, stage)

    return begin_gates(ctx, index, stage)


def _pass_by_if_unmet(ctx: Context, index: int, stage: StageStatus) -> bool:
    """Skip a stage whose `when` is not met; return whether it was. Raises UnknownReference."""
    when = ctx.body.spec.stages[index].when
    if when is None:
        return False

    names = names_at(ctx.body, ctx.run, index)
    judged = stage_conditions.judge_condition(ctx.body.spec, when, names)
    place = f"stage {index + 1}/{len(ctx.run.stages)} {stage.name}"
    # What is not known skips nothing: it is said why the stage runs.
    if judged.state == "Unknown":
        stage.message = f"it runs, as {judged.reason}"[:1000]
        ctx.record_event("StageConditionUnknown", f"{place} runs, as {judged.reason}", warning=True)
    if judged.state != "Unmet":
        return False

    pass_stage_by(ctx, stage, judged.reason)
    ctx.record_event("StageSkipped", f"{ctx.run.version}: {place} is skipped: {judged.reason}")
    return True


def _begin_stage(ctx: Context, index: int, stage: StageStatus) -> None:
    states.move(stage, "Running")
    stage.startedAt = clocks.format_time(ctx.now)

    expected = ctx.body.spec.stages[index].expectedDuration
    if expected:
        clocks.start(ctx.run, "overdue", seconds(expected), ctx.now)
