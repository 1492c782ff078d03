"""One step of a stage: it begins, is followed, and ends."""

from __future__ import annotations

from gatewright.api.release import Step
from gatewright.api.status import StepStatus
from gatewright.core.checks import proof
from gatewright.core.model import Progress
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.operations import (
    describe_progress,
    operations_of_step,
    step_key,
    stops_of_step,
)
from gatewright.core.run.pinning import record_snapshots
from gatewright.core.run.stage_end import fail_stage
from gatewright.core.spec import outputs
from gatewright.core.spec.pinned_spec import produced_artifacts
from gatewright.core.steps import changed_by, kind_of


def advance_step(ctx: Context, index: int, number: int) -> bool:
    stage = ctx.run.stages[index]
    step = stage.steps[number]
    if step.state in ("Pending", "Failed"):
        return _begin_step(ctx, index, number, step)
    if step.skippedBy is not None:
        return _await_stop(ctx, index, number, step)
    wanted = ctx.body.spec.stages[index].steps[number]
    if kind_of(wanted).ends_with_clock:
        return clocks.expired(ctx.run, "step", ctx.now) and end_step(ctx, step, {})
    operations = operations_of_step(ctx.view, ctx.body, ctx.run, index, number)
    found = [ctx.progress(operation) for operation in operations]

    # What has succeeded has succeeded, also when its time was over a moment before.
    if all(item.state == "Succeeded" for item in found):
        return _complete_step(ctx, index, number, found)
    failed = next((item for item in found if item.state in ("Failed", "Refused")), None)
    if failed is not None:
        return fail_step(ctx, index, step, failed.message)
    if clocks.expired(ctx.run, "step", ctx.now):
        stuck = next(
            (item.message for item in found if item.message and item.state != "Succeeded"),
            "it is still under way",
        )
        return fail_step(
            ctx, index, step, f"not done in {kind_of(wanted).clock(wanted) or 0:.0f}s: {stuck}"
        )

    for operation, item in zip(operations, found, strict=True):
        if item.state == "Absent":
            ctx.perform(operation, stage.name, step.name)
    step.message = describe_progress(found)
    return False


def _complete_step(ctx: Context, index: int, number: int, found: list[Progress]) -> bool:
    """Every operation of a step has ended well; what it left behind must be there, too."""
    step, wanted = ctx.run.stages[index].steps[number], ctx.body.spec.stages[index].steps[number]
    published = {name: value for item in found for name, value in item.outputs.items()}
    unread = next((item.unread for item in found if item.unread), "")
    problem = outputs.find_problem(ctx.body.spec, ctx.run, index, wanted, published, unread)
    if problem is None and wanted.proof is not None:
        lacking = proof.find_missing_proof(wanted.proof, published, ctx.now)
        problem = f"no proof: {lacking}" if lacking else None
    if problem is not None:
        return fail_step(ctx, index, step, problem)

    kept = outputs.select_kept(ctx.body.spec, ctx.run, index, wanted, published)
    return end_step(
        ctx, step, kept, describe_progress(found), deployed=_brings_version(ctx, wanted)
    )


def _begin_step(ctx: Context, index: int, number: int, step: StepStatus) -> bool:
    run, wanted = ctx.run, ctx.body.spec.stages[index].steps[number]
    missing = sorted(set(wanted.requires) - produced_artifacts(ctx.body, run))
    if missing and not run.observe:
        return fail_step(
            ctx,
            index,
            step,
            f"requires {', '.join(missing)}, which no earlier step of this run has produced",
        )
    if not run.observe:
        changes = set(changed_by(ctx.body.spec.stages[index], wanted))
        if any(row.subject not in changes for row in run.differences):
            return False  # nothing new begins on top of what others have changed
        recorded = record_snapshots(ctx, index, number)
        if recorded.problem:
            return fail_step(ctx, index, step, recorded.problem)
        if not recorded.done:  # it is looked at before the next decision
            return False

    step.attempt += 1
    step.key = step_key(ctx.view, run, index, number, step.attempt)
    step.startedAt = clocks.format_time(ctx.now)
    step.message, step.skippedBy, step.approvedBy = None, None, []
    states.move(step, "Running")
    operations = operations_of_step(ctx.view, ctx.body, run, index, number)
    if run.observe:
        states.move(step, "Skipped")
        step.message = (
            f"would {wanted.kind} {', '.join(operation.subject for operation in operations)}"
        ).strip()
        return True

    limit = kind_of(wanted).clock(wanted)
    clocks.stop(run, "step")
    if limit is not None:
        clocks.start(run, "step", limit, ctx.now)
    for operation in operations:
        ctx.perform(operation, run.stages[index].name, step.name)
    ctx.write_now()
    return kind_of(wanted).ends_with_clock and limit == 0.0


def _await_stop(ctx: Context, index: int, number: int, step: StepStatus) -> bool:
    """Somebody skips the step: the walk goes on when the Job it had started has stopped."""
    operations = stops_of_step(ctx.view, ctx.body, ctx.run, index, number)
    found = [ctx.progress(operation) for operation in operations]
    if any(item.state == "Failed" for item in found) or clocks.expired(ctx.run, "step", ctx.now):
        why = next((item.message for item in found if item.message), "it is still under way")
        return fail_step(ctx, index, step, f"skipped by {step.skippedBy}, but not stopped: {why}")
    for operation, item in zip(operations, found, strict=True):
        if item.state == "Absent":
            ctx.perform(operation, "", "")
    if not all(item.state == "Succeeded" for item in found):
        return False
    skip_step(ctx, step)
    return True


def skip_step(ctx: Context, step: StepStatus) -> None:
    """Past it, without what it was for; `requires` still misses it."""
    states.move(step, "Skipped")
    step.finishedAt = clocks.format_time(ctx.now)
    clocks.stop(ctx.run, "step")


def end_step(
    ctx: Context,
    step: StepStatus,
    published: dict[str, str],
    message: str | None = None,
    deployed: bool = False,
) -> bool:
    """A step is done."""
    states.move(step, "Succeeded")
    step.finishedAt = clocks.format_time(ctx.now)
    step.message = message
    step.outputs = published
    clocks.stop(ctx.run, "step")
    if deployed and not ctx.run.deployed:
        _arm_early_guards(ctx)
    return True


def _brings_version(ctx: Context, step: Step) -> bool:
    """Whether a step brings the version: a deploy; in a Release without one, whatever changes
    something."""
    steps = [step for stage in ctx.body.spec.stages for step in stage.steps]
    if any(kind_of(one).deploys for one in steps):
        return kind_of(step).deploys
    return kind_of(step).acts


def _arm_early_guards(ctx: Context) -> None:
    """The first deploy is done: guards that breached before the run changed anything count from now
    on, by their own rule."""
    ctx.run.deployed = True
    for row in ctx.run.guards:
        if row.early:
            row.early, row.state, row.since, row.message = (
                False,
                "Unknown",
                clocks.format_time(ctx.now),
                None,
            )
            row.window += 1
    ctx.write_now()


def fail_step(ctx: Context, index: int, step: StepStatus, message: str) -> bool:
    """A step has failed, and its stage with it."""
    if step.state != "Failed":
        states.move(step, "Failed")
    step.finishedAt = clocks.format_time(ctx.now)
    step.message = message[:1000]
    clocks.stop(ctx.run, "step")
    return fail_stage(ctx, index, "Step", f"step {step.name}: {message}")
