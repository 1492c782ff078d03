"""The gates of a stage: asked once its steps are done, and watched through its bake."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.status import GateStatus, StageStatus
from gatewright.core.checks import judge
from gatewright.core.checks.active import gate_set
from gatewright.core.run import clocks, states
from gatewright.core.run.check_evaluation import evaluate_checks
from gatewright.core.run.check_operations import measure_of_check, operation_of_check
from gatewright.core.run.context import Context
from gatewright.core.run.holds import are_guards_calm
from gatewright.core.run.journal import fold_journal
from gatewright.core.run.stage_end import fail_stage


def begin_gates(ctx: Context, index: int, stage: StageStatus) -> bool:
    """Ask the gates of a stage whose steps are done; pass it where it has none."""
    spec_stage = ctx.body.spec.stages[index]
    if not spec_stage.gates and seconds(spec_stage.bake) == 0:
        return pass_stage(ctx, index, stage)

    # A reference that names nothing fails here, not later.
    gates = gate_set(ctx.body, ctx.run, index)
    for check, row in gates.pairs():
        measure_of_check(ctx.body, ctx.run, "gates", check, row, index)
        operation_of_check(ctx.view, ctx.body, ctx.run, "gates", check, index)

    states.move(stage, "Gating")
    if any("job" in check.provider for check in spec_stage.gates):
        ctx.write_now()

    evaluate_checks(ctx, gates)
    return True


def advance_gates(ctx: Context, index: int, stage: StageStatus) -> bool:
    """Judge the gates of a stage, through its bake; return whether anything changed."""
    run, bake = ctx.run, seconds(ctx.body.spec.stages[index].bake)
    failed = judge.first_in_state(stage.gates, "Failed")
    # Also while it bakes: gates are watched to the end of that.
    if failed is not None:
        return fail_stage(ctx, index, "Gate", f"gate {judge.describe(failed)}", failed.name)

    expired = _gate_to_decide(ctx, index)
    if expired is not None:
        reason = f"gate {judge.describe(expired)}"
        return fail_stage(ctx, index, "Gate", reason, expired.name, pause=True)

    # Silence is not good: while clocks stand still, nothing passes.
    if run.holdReason is not None or not judge.all_passing(stage.gates):
        return False

    if stage.state == "Gating" and bake > 0:
        states.move(stage, "Baking")
        clocks.start(run, "bake", bake, ctx.now)
        return True

    if stage.state == "Baking" and not clocks.expired(run, "bake", ctx.now):
        return False

    return pass_stage(ctx, index, stage)


def _gate_to_decide(ctx: Context, index: int) -> GateStatus | None:
    """Return a gate whose silence has lasted too long, where a person is to decide.

    That is so by `onHoldExpired: Pause`.
    """
    for check, row in gate_set(ctx.body, ctx.run, index).pairs():
        if row.state == "Expired" and check.onHoldExpired == "Pause":
            return row
    return None


def pass_stage(ctx: Context, index: int, stage: StageStatus) -> bool:
    """End a stage well; False where a guard does not pass."""
    # What breaches now may undo the stage.
    if not are_guards_calm(ctx):
        return False

    states.move(stage, "Passed")
    stage.finishedAt = clocks.format_time(ctx.now)
    clocks.stop(ctx.run, "bake", "overdue")
    fold_journal(ctx.run, stage)

    place = f"stage {index + 1}/{len(ctx.run.stages)} {stage.name}"
    ctx.record_event("StagePassed", f"{ctx.run.version}: {place} passed")
    return True
