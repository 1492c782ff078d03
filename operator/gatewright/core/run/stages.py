"""One stage: its steps in order, its gates, its bake; and what its failure does."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.status import GateStatus, StageStatus
from gatewright.core.checks import judge
from gatewright.core.checks.active import gate_set
from gatewright.core.interventions import approvals, expiry
from gatewright.core.run import clocks, states
from gatewright.core.run.check_evaluation import evaluate_checks
from gatewright.core.run.check_operations import measure_of_check, operation_of_check
from gatewright.core.run.context import Context
from gatewright.core.run.holds import are_guards_calm
from gatewright.core.run.journal import fold_journal
from gatewright.core.run.position import current_stage_index, unfinished_step_index
from gatewright.core.run.running_step import advance_step
from gatewright.core.run.skipping import finish_skipped_stage, pass_stage_by
from gatewright.core.run.stage_end import fail_stage, settle_stopping
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
        return _advance_gates(ctx, index, stage)

    number = unfinished_step_index(stage)
    # Gates are asked when all steps have ended.
    if number is not None:
        return advance_step(ctx, index, number)
    # Its Job was stopped before: only now the stage ends.
    if stage.skippedBy is not None:
        return finish_skipped_stage(ctx, stage)

    return _begin_gates(ctx, index, stage)


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


def _begin_gates(ctx: Context, index: int, stage: StageStatus) -> bool:
    spec_stage = ctx.body.spec.stages[index]
    if not spec_stage.gates and seconds(spec_stage.bake) == 0:
        return _pass_stage(ctx, index, stage)

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


def _advance_gates(ctx: Context, index: int, stage: StageStatus) -> bool:
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

    return _pass_stage(ctx, index, stage)


def _gate_to_decide(ctx: Context, index: int) -> GateStatus | None:
    """Return a gate whose silence has lasted too long, where a person is to decide.

    That is so by `onHoldExpired: Pause`.
    """
    for check, row in gate_set(ctx.body, ctx.run, index).pairs():
        if row.state == "Expired" and check.onHoldExpired == "Pause":
            return row
    return None


def _pass_stage(ctx: Context, index: int, stage: StageStatus) -> bool:
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
