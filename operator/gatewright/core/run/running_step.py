"""One step of a stage: it begins, is followed, and ends."""

from __future__ import annotations

from gatewright.api.steps import Step
from gatewright.core.checks import proof
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.driving import Driven, drive
from gatewright.core.run.operations import operations_of_step, step_key
from gatewright.core.run.pinning import record_snapshots
from gatewright.core.run.skipping import await_stop
from gatewright.core.run.step_end import brings_version, end_step, fail_step
from gatewright.core.spec import outputs
from gatewright.core.spec.pinned_spec import produced_artifacts
from gatewright.core.steps import changed_by, kind_of

FAILED_STATES = ("Failed", "Refused")
"""Progress that fails a step: on the way forward nothing is tried again by itself."""


def advance_step(ctx: Context, index: int, number: int) -> bool:
    """Take a step one transition further; return whether anything changed."""
    stage = ctx.run.stages[index]
    step, spec = stage.steps[number], ctx.body.spec.stages[index].steps[number]
    # A failed one is the current one only after a Retry.
    if step.state in ("Pending", "Failed"):
        return _begin_step(ctx, index, number)
    if step.skippedBy is not None:
        return await_stop(ctx, index, number)

    late = clocks.expired(ctx.run, "step", ctx.now)

    # A wait has nothing that could be driven.
    if kind_of(spec).ends_with_clock:
        return late and end_step(ctx, step, {})

    driven = drive(
        ctx,
        operations_of_step(ctx.view, ctx.body, ctx.run, index, number),
        may_start=lambda driven: not late and driven.first_in(*FAILED_STATES) is None,
        stage=stage.name,
        step=step.name,
    )

    # What has succeeded has succeeded, also when its time was over a moment before.
    if driven.succeeded:
        return _complete_step(ctx, index, number, driven)

    failed = driven.first_in(*FAILED_STATES)
    if failed is not None:
        return fail_step(ctx, index, step, failed.message)

    # Its Job may go on. What follows the failure stops it first.
    if late:
        limit = kind_of(spec).clock(spec) or 0
        return fail_step(ctx, index, step, f"not done in {limit:.0f}s: {driven.reason}")

    step.message = driven.message
    return False


def _complete_step(ctx: Context, index: int, number: int, driven: Driven) -> bool:
    """Every operation of a step has ended well; what it left behind must be there, too."""
    step, spec = ctx.run.stages[index].steps[number], ctx.body.spec.stages[index].steps[number]
    published = driven.outputs
    problem = outputs.find_problem(ctx.body.spec, ctx.run, index, spec, published, driven.unread)

    # A Job says that it has succeeded; a backup must also show that it is worth relying on.
    if problem is None and spec.proof is not None:
        lacking = proof.find_missing_proof(spec.proof, published, ctx.now)
        problem = f"no proof: {lacking}" if lacking else None

    if problem is not None:
        return fail_step(ctx, index, step, problem)

    shown = outputs.select_kept(ctx.body.spec, ctx.run, index, spec, published)
    return end_step(ctx, step, shown, driven.message, deployed=brings_version(ctx, spec))


def _begin_step(ctx: Context, index: int, number: int) -> bool:
    """Begin an attempt, if what it needs is there; return whether anything changed."""
    run, stage = ctx.run, ctx.run.stages[index]
    step, spec = stage.steps[number], ctx.body.spec.stages[index].steps[number]

    if not run.observe:
        problem = _missing_requirement(ctx, spec)
        if problem:
            return fail_step(ctx, index, step, problem)
        # Nothing new begins on top of what others have changed, unless it sets that anew.
        changes = set(changed_by(ctx.body.spec.stages[index], spec))
        if any(row.subject not in changes for row in run.differences):
            return False

        # Nothing returns what a procedure has done, so nothing is recorded for that.
        if run.kind != "Procedure":
            recorded = record_snapshots(ctx, index, number)
            if recorded.problem:
                return fail_step(ctx, index, step, recorded.problem)
            # What is to be changed is looked at before the next decision.
            if not recorded.done:
                return False

    step.attempt += 1
    step.key = step_key(ctx.view, run, index, number, step.attempt)
    step.startedAt = clocks.format_time(ctx.now)
    step.message, step.skippedBy, step.approvedBy, step.approvedAt = None, None, [], []
    states.move(step, "Running")
    operations = operations_of_step(ctx.view, ctx.body, run, index, number)

    # It evaluates everything, and acts on nothing.
    if run.observe:
        states.move(step, "Skipped")
        subjects = ", ".join(operation.subject for operation in operations)
        step.message = f"would {spec.kind} {subjects}".strip()
        return True

    limit = kind_of(spec).clock(spec)
    clocks.stop(run, "step")

    if limit is not None:
        clocks.start(run, "step", limit, ctx.now)

    for operation in operations:
        ctx.perform(operation, stage.name, step.name)

    ctx.write_now()
    # A wait of no time ends in this very pass.
    return kind_of(spec).ends_with_clock and limit == 0.0


def _missing_requirement(ctx: Context, spec: Step) -> str:
    """Return what a step requires and no earlier one has produced; empty where all is there."""
    missing = sorted(set(spec.requires) - produced_artifacts(ctx.body, ctx.run))
    if not missing:
        return ""
    return f"requires {', '.join(missing)}, which no earlier step of this run has produced"
