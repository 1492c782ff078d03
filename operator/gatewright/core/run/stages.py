"""One stage: its steps in order, its gates, its bake; and what its failure does."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.status import GateStatus, JournalEntry, Run, StageStatus
from gatewright.core.checks import guards, judge
from gatewright.core.checks.active import gate_set
from gatewright.core.interventions import approvals
from gatewright.core.run import clocks, observed, states
from gatewright.core.run.check_operations import measure_of_check, operation_of_check
from gatewright.core.run.context import Context, evaluate_checks
from gatewright.core.run.running_step import advance_step, skip_step
from gatewright.core.run.stage_end import (
    current_stage_index,
    fail_stage,
    finish_skipped_stage,
    settle_stopping,
)
from gatewright.core.steps import kind_of

STOP_LIMIT_S = 120.0
"""Seconds within which the Job of a step that somebody skips must have stopped."""


def next_step_index(run: Run) -> tuple[int, int] | None:
    """Stage and step that will begin next, if one can: indices; None while one runs, and in a
    bake."""
    index = current_stage_index(run) if run.phase == "Walking" else None
    if (
        index is None
        or run.stages[index].state not in ("Pending", "Running")
        or approvals.must_wait(run, index)
    ):
        return None
    steps = run.stages[index].steps
    number = next(
        (n for n, step in enumerate(steps) if step.state not in ("Succeeded", "Skipped")), None
    )
    if number is None or steps[number].state == "Running":
        return None
    return index, number


def advance_stage(ctx: Context) -> bool:
    """One transition of the current stage; False when something has to be waited for."""
    run = ctx.run
    index = current_stage_index(run)
    if run.phase != "Walking" or index is None:
        return False
    if settle_stopping(ctx):
        return False
    stage = run.stages[index]
    if approvals.must_wait(run, index):
        return False
    if stage.state == "Pending":
        states.move(stage, "Running")
        stage.startedAt = clocks.format_time(ctx.now)
        expected = ctx.body.spec.stages[index].expectedDuration
        if expected:
            clocks.start(run, "overdue", seconds(expected), ctx.now)
        return True
    if stage.state != "Running":
        return _advance_gates(ctx, index, stage)

    number = _unfinished_step_index(stage)
    if number is not None:
        return advance_step(ctx, index, number)
    if stage.skippedBy is not None:
        return finish_skipped_stage(ctx, stage)
    return _begin_gates(ctx, index, stage)


def _unfinished_step_index(stage: StageStatus) -> int | None:
    """Index of the first step that has neither ended well nor was skipped."""
    over = ("Succeeded", "Skipped")
    return next((n for n, step in enumerate(stage.steps) if step.state not in over), None)


def skip_stage(ctx: Context, index: int, by: str, message: str) -> None:
    """Past a stage whatever its steps and gates say; a Job of it is stopped first. What it did
    stays in the journal."""
    stage = ctx.run.stages[index]
    stage.skippedBy, stage.message = by, message
    for number, step in enumerate(stage.steps):
        if step.state == "Pending":
            states.move(step, "Skipped")
            step.message = message
        elif step.state in ("Running", "Failed"):
            skip_current(ctx, index, number, by, message)
    if any(step.state == "Running" for step in stage.steps):
        if stage.state == "Failed":
            states.move(stage, "Running")
    else:
        finish_skipped_stage(ctx, stage)


def skip_current(ctx: Context, index: int, number: int, by: str, message: str) -> None:
    """Past a step that runs or has failed: at once, or once its Job has stopped."""
    step = ctx.run.stages[index].steps[number]
    step.skippedBy, step.message = by, message
    kind = kind_of(ctx.body.spec.stages[index].steps[number])
    if not kind.stoppable or step.key is None:
        skip_step(ctx, step)
        return
    if step.state == "Failed":
        states.move(step, "Running")
    clocks.start(ctx.run, "step", STOP_LIMIT_S, ctx.now)


def _begin_gates(ctx: Context, index: int, stage: StageStatus) -> bool:
    wanted = ctx.body.spec.stages[index]
    if not wanted.gates and seconds(wanted.bake) == 0:
        return _pass_stage(ctx, index, stage)
    for check, row in zip(wanted.gates, stage.gates, strict=True):
        # A reference that names nothing fails here, not later.
        measure_of_check(ctx.body, ctx.run, "gates", check, row, index)
        operation_of_check(ctx.view, ctx.body, ctx.run, "gates", check, index)
    states.move(stage, "Gating")
    if any("job" in check.provider for check in wanted.gates):
        ctx.write_now()
    evaluate_checks(ctx, gate_set(ctx.body, ctx.run, index))
    return True


def _advance_gates(ctx: Context, index: int, stage: StageStatus) -> bool:
    run, wanted = ctx.run, ctx.body.spec.stages[index]
    failed = judge.first_in_state(stage.gates, "Failed")
    if failed is not None:
        return fail_stage(ctx, index, "Gate", f"gate {judge.describe(failed)}", failed.name)
    expired = _gate_to_decide(ctx, index, stage)
    if expired is not None:
        return fail_stage(
            ctx, index, "Gate", f"gate {judge.describe(expired)}", expired.name, pause=True
        )
    if run.held is not None or not judge.all_passing(stage.gates):
        return False
    if stage.state == "Gating" and seconds(wanted.bake) > 0:
        states.move(stage, "Baking")
        clocks.start(run, "bake", seconds(wanted.bake), ctx.now)
        return True
    if stage.state == "Baking" and not clocks.expired(run, "bake", ctx.now):
        return False
    return _pass_stage(ctx, index, stage)


def _gate_to_decide(ctx: Context, index: int, stage: StageStatus) -> GateStatus | None:
    """A gate whose silence has lasted too long, where a person is to decide (`onHoldExpired:
    Pause`)."""
    rows = zip(ctx.body.spec.stages[index].gates, stage.gates, strict=True)
    return next(
        (row for check, row in rows if row.state == "Expired" and check.onHoldExpired == "Pause"),
        None,
    )


def are_guards_calm(ctx: Context) -> bool:
    """Whether nothing that is watched keeps the run from going on.

    A guard that breaches or holds does, and one that has not answered yet; so does something that
    is not as wanted, does not run, or cannot be looked at. A guard that breached before the run
    changed anything counts later.
    """
    rows = zip(ctx.run.guards, ctx.body.spec.guards, strict=True)
    passing = all(
        row.state == "Passing" or row.early or guards.is_waived(ctx, guard, row)
        for row, guard in rows
        if guard.action == "Rollback"
    )
    return passing and (ctx.run.observe or observed.all_as_wanted(ctx))


def _pass_stage(ctx: Context, index: int, stage: StageStatus) -> bool:
    if not are_guards_calm(ctx):
        return False
    states.move(stage, "Passed")
    stage.finishedAt = clocks.format_time(ctx.now)
    clocks.stop(ctx.run, "bake", "overdue")
    _fold_journal(ctx.run, stage)
    ctx.record_event(
        "StagePassed",
        f"{ctx.run.version}: stage {index + 1}/{len(ctx.run.stages)} {stage.name} passed",
    )
    return True


def _fold_journal(run: Run, stage: StageStatus) -> None:
    """A passed stage needs one line for each thing it changed: none of its Jobs can still run."""
    kept: dict[str, JournalEntry] = {}
    jobs: list[JournalEntry] = []
    for entry in run.journal:
        if entry.stage == stage.name:
            (
                jobs.append(entry)
                if entry.subject.startswith("job/")
                else kept.update({entry.subject: entry})
            )
    rest = [entry for entry in run.journal if entry.stage != stage.name]
    run.journal = rest + (list(kept.values()) or jobs[-1:])
