"""Budgets of a rollback: they are reported, and nothing else follows."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.status import Run, Undo
from gatewright.core.run import clocks
from gatewright.core.run.context import Context
from gatewright.core.run.rollback_plan import FINISHED_LINE_STATES, are_finished

STAGE_BUDGET_PREFIX = "within/"
"""How the names of the clocks begin that are budgets of single stages."""


def start_budget(ctx: Context, line: Undo) -> None:
    """Start the budget of a stage's rollback with its first line."""
    assert ctx.run.rollback is not None
    if not any(other.startedAt for other in ctx.run.rollback.undo if other.stage == line.stage):
        _start_budget_of_stage(ctx, line.stage)


def restart_budgets(ctx: Context) -> None:
    """Start the budgets of a rollback that is repeated.

    Those are of the whole, and of stages of which something was undone before; those of all others
    begin with their first line.
    """
    assert ctx.run.rollback is not None
    clocks.start(ctx.run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)

    undo = ctx.run.rollback.undo
    begun = {line.stage for line in undo if line.startedAt}
    unfinished = {line.stage for line in undo if line.state not in FINISHED_LINE_STATES}
    for stage in sorted(begun & unfinished):
        _start_budget_of_stage(ctx, stage)


def _start_budget_of_stage(ctx: Context, name: str) -> None:
    for stage in ctx.body.spec.stages:
        if stage.name == name and stage.rollback.within:
            budget = seconds(stage.rollback.within)
            clocks.start(ctx.run, f"{STAGE_BUDGET_PREFIX}{stage.name}", budget, ctx.now)


def report_exceeded_budgets(ctx: Context) -> None:
    """Say of each budget once that it is exceeded; nothing else follows from it."""
    run = ctx.run
    assert run.rollback is not None

    for clock in stage_budgets(run):
        stage = clock.removeprefix(STAGE_BUDGET_PREFIX)
        if are_finished([line for line in run.rollback.undo if line.stage == stage]):
            clocks.stop(run, clock)
        else:
            _report_if_expired(ctx, clock, f"undoing stage {stage} exceeds its budget")

    _report_if_expired(ctx, "rollback", "the rollback exceeds its budget")


def stage_budgets(run: Run) -> list[str]:
    """Return the names of the clocks that are budgets of single stages."""
    return [clock for clock in run.timers if clock.startswith(STAGE_BUDGET_PREFIX)]


def _report_if_expired(ctx: Context, clock: str, message: str) -> None:
    if not clocks.expired(ctx.run, clock, ctx.now):
        return
    clocks.stop(ctx.run, clock)
    ctx.record_event("RollbackOverdue", f"{ctx.run.version}: {message}", warning=True)
