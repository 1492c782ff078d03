"""One stage is undone alone, and the run goes on without it (`action: RollbackStage` of a guard).

It is the rollback of a run, narrowed to what one stage has changed: the same phase, the same lines,
written as intents before the first of them begins. What differs:

    what                     a whole run                     one stage
    -----------------------  ------------------------------  -------------------------------------
    a restore returns to     what was before the run         what was before the stage, where an
                                                             earlier one has changed it, too
    guards                   over                            go on: one that undoes the run does
    afterwards               it is verified, and ends        the stage is RolledBack, the walk goes
                                                             on; guarding begins anew
    a line fails             RollbackFailed                  the whole run is undone

Which stage: the latest that has begun. It is undone alone only where the release is one without it:
a stage that alone brings a target to the version takes the whole run with it. Where the latest is
undone already it was not that stage, and a person decides.
"""

from __future__ import annotations

from gatewright.api.status import GateStatus, Rollback, Run, StageStatus
from gatewright.core.checks import guards, judge
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.rollback import (
    are_lines_done,
    begin_rollback,
    leave_way_forward,
)
from gatewright.core.run.rollback_budgets import stage_budgets
from gatewright.core.run.rollback_lines import describe_broken
from gatewright.core.run.rollback_plan import plan_stage_rollback, stages_undone
from gatewright.core.run.undo_lines import give_keys


def begin_stage_rollback(ctx: Context, failed: GateStatus) -> bool:
    """Undo the stage that a failed guard is about; return whether the run has turned."""
    run, reason = ctx.run, f"guard {judge.describe(failed)}"
    # One after the other: what is under way may make the guard good.
    if run.stage_undone is not None:
        return False

    stage = _latest_begun(run)
    if stage is None or stage.state == "RolledBack":
        guards.notify_or_pause(ctx, failed, "Pause")
        return False

    target = _target_brought_by(ctx, stage.name)
    if target:
        alone = f"stage {stage.name} alone brings target {target} to the version"
        begin_rollback(ctx, "Guard", f"{reason} ({alone})", gate=failed.name)
        return True

    _turn_stage(ctx, stage, failed.name, reason)
    return True


def _latest_begun(run: Run) -> StageStatus | None:
    begun = [stage for stage in run.stages if stage.startedAt is not None]
    return begun[-1] if begun else None


def _target_brought_by(ctx: Context, name: str) -> str:
    """Return a target that only this stage deploys; empty where others do as well, or will."""
    undone = (name, *stages_undone(ctx.run))
    own: list[str] = []
    others: set[str] = set()
    for stage in ctx.body.spec.stages:
        for step in stage.steps:
            targets = step.deploy.targets if step.deploy is not None else []
            if stage.name == name:
                own += targets
            elif stage.name not in undone:
                others.update(targets)
    return next((target for target in own if target not in others), "")


def _turn_stage(ctx: Context, stage: StageStatus, guard: str, reason: str) -> None:
    """Write down what undoes the stage, as intents."""
    run = ctx.run
    # What this very pass would have started has not been started.
    ctx.decision.operations.clear()
    for step in stage.steps:
        if step.state == "Running":
            states.move(step, "Failed")
            step.finishedAt = clocks.format_time(ctx.now)

    paused = run.paused
    stopping = [entry for entry in run.stopping if entry.stage != stage.name]
    leave_way_forward(ctx, reason)
    # Who has paused the run has paused what comes after this, too.
    run.paused, run.stopping = paused, stopping

    undo = plan_stage_rollback(ctx.body, run, stage.name)
    run.rollback = Rollback(
        cause="Guard",
        reason=reason[:1000],
        gate=guard,
        stage=stage.name,
        startedAt=clocks.format_time(ctx.now),
        undo=undo,
    )
    give_keys(ctx, undo)

    ctx.decision.rolls_back = True
    message = f"{run.version}: stage {stage.name} is undone alone: {reason}"
    ctx.record_event("StageRollingBack", message, warning=True, guard=guard)
    ctx.write_now()


def advance_stage_rollback(ctx: Context) -> None:
    """Undo line by line; when all of it is undone the run goes on."""
    rollback = ctx.run.rollback
    assert rollback is not None
    ctx.decision.rolls_back = True
    if not are_lines_done(ctx):
        return

    broken = describe_broken(rollback.undo)
    if broken:
        reason = f"stage {rollback.stage} could not be undone alone: {broken} ({rollback.reason})"
        begin_rollback(ctx, "Guard", reason, gate=rollback.gate)
        return

    _go_on_without(ctx, rollback)


def _go_on_without(ctx: Context, rollback: Rollback) -> None:
    run = ctx.run
    stage = next(stage for stage in run.stages if stage.name == rollback.stage)
    states.move(stage, "RolledBack")
    stage.message = f"undone alone: {rollback.reason}"[:1000]
    stage.finishedAt = clocks.format_time(ctx.now)

    clocks.stop(run, *stage_budgets(run))
    run.rollback = None
    # What is left of the release is watched anew, by a new row of samples.
    guards.rearm_guard(ctx, rollback.gate or "")
    states.move(run, "Progressing")

    message = f"{run.version}: stage {stage.name} is undone, and the run goes on without it"
    ctx.record_event("StageRolledBack", message, warning=True)
    ctx.write_now()


def describe_undone(run: Run) -> str:
    """Return which stages the run goes on without; empty for none."""
    return "; ".join(
        f"without stage {stage.name} ({stage.message})"
        for stage in run.stages
        if stage.state == "RolledBack"
    )
