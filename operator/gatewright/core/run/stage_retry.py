"""Retry: the failed stage once more, by the body that counts by then."""

from __future__ import annotations

from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.run import clocks, states
from gatewright.core.run.check_evaluation import fresh_statuses
from gatewright.core.run.context import Context
from gatewright.core.run.pinned_edits import pin_again, steps_done_otherwise
from gatewright.core.run.position import current_stage_index, spec_step
from gatewright.core.steps import changed_by


def retry_stage(ctx: Context) -> str:
    """Lead out of Paused, with the failed stage once more.

    Return why an edit does not count; empty where it does, or where there is none.
    """
    run = ctx.run
    index = current_stage_index(run)
    assert index is not None

    before = ctx.body
    ignored = pin_again(ctx, index)
    if ignored:
        message = f"the edit does not count before the next run: {ignored}"
        ctx.record_event("EditIgnored", message, warning=True)

    stage = run.stages[index]
    stage.attempt += 1
    stage.message = None
    states.move(run, "Progressing")
    states.move(stage, "Running")
    run.pausedStage = None
    stage.gates = fresh_statuses(ctx.body.spec.stages[index].gates)
    _reopen_steps(ctx, before, index)

    # What is different now is found anew, by the body that counts from here on.
    run.availability = []
    run.differences = []
    clocks.stop(run, clocks.DIFFERENCE_CLOCK)
    clocks.resume(run, ctx.now)

    ctx.record_event("Retried", f"stage {stage.name}: attempt {stage.attempt}")
    ctx.write_now()
    return ignored


def _reopen_steps(ctx: Context, before: PinnedSpec, index: int) -> None:
    """Do once more what others have changed since, and what an edit changes."""
    edited = steps_done_otherwise(ctx, before, ctx.body, index) if ctx.body is not before else []

    for step in ctx.run.stages[index].steps:
        if step.state != "Succeeded":
            continue
        if step.name in edited or _is_changed_by_others(ctx, index, step.name):
            states.move(step, "Pending")


def _is_changed_by_others(ctx: Context, index: int, name: str) -> bool:
    step = spec_step(ctx, index, name)
    stage = ctx.body.spec.stages[index]
    different = {row.subject for row in ctx.run.differences}
    return bool(different & set(changed_by(stage, step)))
