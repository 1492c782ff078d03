"""One stage: its steps in order, its gates, its bake; and what its failure does."""

from __future__ import annotations

from gatewright.api.base import seconds
from gatewright.api.release import Step
from gatewright.api.status import GateStatus, JournalEntry, Run, StageStatus, StepStatus
from gatewright.core.checks import guards, judge, proof
from gatewright.core.checks.active import gate_set
from gatewright.core.interventions import approvals
from gatewright.core.model import Operation, Progress
from gatewright.core.run import clocks, observed, states
from gatewright.core.run.context import Context, evaluate_checks
from gatewright.core.run.operations import (
    describe_progress,
    measure_of_check,
    operation_of_check,
    operations_of_step,
    step_key,
    stops_of_step,
)
from gatewright.core.run.pinning import record_snapshots
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.spec import outputs
from gatewright.core.spec.pinned_spec import produced_artifacts
from gatewright.core.steps import changed_by, kind_of

STOP_LIMIT_S = 120.0
"""Seconds within which the Job of a step that somebody skips must have stopped."""


def current_stage_index(run: Run) -> int | None:
    """Index of the stage the walk is at; None past the last. While Paused: the one whose failure a
    person decides about."""
    if run.phase == "Paused" and run.pausedStage is not None:
        return next(
            (n for n, stage in enumerate(run.stages) if stage.name == run.pausedStage), None
        )
    over = ("Passed", "Skipped", "RolledBack", "Failed")
    return next((n for n, stage in enumerate(run.stages) if stage.state not in over), None)


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


def stops_of(run: Run) -> list[Operation]:
    """What stops the Jobs of failed stages that may still run."""
    return [Operation(entry.key, "stop", entry.subject) for entry in run.stopping]


def settle_stopping(ctx: Context) -> bool:
    """See to it that Jobs of failed stages stop; True while one may still run, and nothing else may
    start."""
    for operation in stops_of(ctx.run):
        progress = ctx.progress(operation)
        if progress.state == "Absent":
            ctx.perform(operation, "", "")
        elif progress.state == "Succeeded":
            ctx.run.stopping = [
                entry for entry in ctx.run.stopping if entry.subject != operation.subject
            ]
    return bool(ctx.run.stopping)


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
    if stage.state == "Running":
        return _advance_steps(ctx, index, stage)
    return _advance_gates(ctx, index, stage)


def _advance_steps(ctx: Context, index: int, stage: StageStatus) -> bool:
    number = next(
        (n for n, step in enumerate(stage.steps) if step.state not in ("Succeeded", "Skipped")),
        None,
    )
    if number is None:
        return (
            _finish_skipped_stage(ctx, stage)
            if stage.skippedBy is not None
            else _begin_gates(ctx, index, stage)
        )
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
        _finish_skipped_stage(ctx, stage)


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


def _finish_skipped_stage(ctx: Context, stage: StageStatus) -> bool:
    ctx.run.stopping += _jobs_still_running(ctx.run, stage)
    states.move(stage, "Skipped")
    stage.finishedAt = clocks.format_time(ctx.now)
    clocks.stop(ctx.run, "bake", "overdue", "step")
    return True


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
