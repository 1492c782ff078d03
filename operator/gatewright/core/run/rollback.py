"""The way back: undo what ran, look at it once more, verify, say what is served.

A rollback's critical path is two requests: the write that holds the plan as intents, and the first
restore. Restores do not wait for each other; a compensation waits until everything before it has
ended. One line that fails does not keep the others from being undone, but the run then ends
RollbackFailed.

    what happens      what follows
    ----------------  --------------------------------------------------------------------------
    refused           tried again with back-off until the line's own time is over; said at once
    not done in time  a Job is stopped, and only then has its line failed; a restore that only is
                      not ready yet is looked at once more when everything else is done (old pods
                      may need the database first)
    does not end      nothing that comes after it is started: it might still be at work on the
                      same thing
    over budget       said loudly, and nothing else: budgets page, they never drop the order
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.status import Outcome, Rollback, Run, Undo
from gatewright.core.model.operation import Operation
from gatewright.core.run import clocks, states
from gatewright.core.run.check_evaluation import fresh_statuses
from gatewright.core.run.context import Context
from gatewright.core.run.operations import (
    compensation_of,
    compensations_around,
    has_compensated,
    operations_of_undo,
)
from gatewright.core.run.rollback_end import fail_rollback, remaining_unverified
from gatewright.core.run.rollback_plan import plan_rollback
from gatewright.core.run.run_end import finish_run
from gatewright.core.run.undo_lines import (
    KEPT_BACK_PREFIX,
    STAGE_BUDGET_PREFIX,
    advance_line,
    give_keys,
    is_job,
    is_kept_back,
    limit_of_line,
    repeat_compensations,
    reset_line,
)
from gatewright.core.run.verification import reset_verification
from gatewright.core.spec.pinned_spec import produced_artifacts

FINISHED_STATES = ("Succeeded", "Failed", "Skipped")
LAST_CHECK_S = 5.0
"""Seconds that a restore gets when it is looked at once more and nothing was compensated since."""


def begin_rollback(
    ctx: Context,
    cause: Any,
    reason: str,
    failed: str | None = None,
    gate: str | None = None,
    then: Outcome = "RolledBack",
) -> None:
    """Turn around: the whole release is undone, the stage under way included."""
    run = ctx.run
    if run.observe:
        _finish_observed(ctx, reason)
        return

    # What this very pass would have started has not been started.
    ctx.decision.operations.clear()
    _leave_way_forward(ctx, reason)

    failures = {stage.name for stage in run.stages if stage.state == "Failed"}
    if failed:
        failures.add(failed)

    undo = plan_rollback(ctx.body, run, failures)
    run.rollback = Rollback(
        cause=cause,
        reason=reason[:1000],
        gate=gate,
        startedAt=clocks.format_time(ctx.now),
        then=then,
        undo=undo,
        verify=fresh_statuses(ctx.body.spec.rollback.verify),
    )
    give_keys(ctx, undo)
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)

    ctx.decision.urgent = True
    ctx.record_event("RollingBack", f"{run.version}: {reason}", warning=True)
    ctx.write_now()


def _finish_observed(ctx: Context, reason: str) -> None:
    """End a run that only observes: it has changed nothing, so that nothing is undone."""
    if ctx.run.phase == "Walking":
        states.move(ctx.run, "Guarding")
    finish_run(ctx, "Observed", f"would roll back: {reason}")


def _leave_way_forward(ctx: Context, reason: str) -> None:
    """Fail the stage under way, and forget what only concerns the way forward."""
    run = ctx.run
    for stage in run.stages:
        if stage.state in ("Running", "Gating", "Baking"):
            states.move(stage, "Failed")
            stage.finishedAt, stage.message = clocks.format_time(ctx.now), reason[:1000]
            break

    states.move(run, "RollingBack")
    run.timers.clear()
    run.held = None
    run.paused = None
    run.pausedStage = None
    run.stopping = []
    run.differences = []
    run.availability = []


def repeat_rollback(ctx: Context) -> None:
    """Undo once more what a failed rollback has not undone; what it has is looked at again."""
    run = ctx.run
    states.reopen(run)
    assert run.rollback is not None
    run.finishedAt = run.took = run.reason = None
    run.rollback.attempt += 1

    # To return something twice is to return it once, and others may have taken away what was
    # returned.
    lines = [
        line
        for line in run.rollback.undo
        if line.state == "Failed" or is_kept_back(line) or line.kind == "Restore"
    ]
    for line in lines:
        reset_line(line)
        line.stopping = line.again = False
        line.unended = line.unended and line.kind == "Compensate"

    # What may still be going on is stopped first, by the key that it was started with.
    give_keys(ctx, [line for line in lines if not line.unended])
    run.rollback.setAgain = True
    reset_verification(run.rollback)
    ctx.status.unverified = remaining_unverified(ctx)

    ctx.decision.add_finalizer = True
    ctx.decision.urgent = True
    message = f"{run.version}: what was not undone is undone once more"
    ctx.record_event("RollingBack", message, warning=True)
    ctx.write_now()


def _stop_unended_jobs(ctx: Context) -> None:
    """Stop Jobs of compensations that may still be going on, before these are started once more."""
    rollback = ctx.run.rollback
    assert rollback is not None

    unended = [line for line in rollback.undo if line.state == "Pending" and line.unended]
    for line in unended:
        stops = [
            Undo(kind="Stop", stage=line.stage, subject=stop.subject, state="Pending", key=stop.key)
            for stop in _stops_of_line(ctx, line)
        ]
        line.unended = False
        rollback.undo = [*stops, *rollback.undo]
        give_keys(ctx, [line])


def _stops_of_line(ctx: Context, line: Undo) -> list[Operation]:
    """Return what stops the Job that a line has started; nothing where it has none."""
    if not is_job(ctx, line):
        return []
    stopping = line.model_copy(update={"stopping": True})
    return operations_of_undo(ctx.view, ctx.body, ctx.run, stopping)


def roll_back(ctx: Context) -> None:
    """Undo line by line, as far as lines may go side by side."""
    rollback = ctx.run.rollback
    assert rollback is not None
    ctx.decision.urgent = True

    _stop_unended_jobs(ctx)
    if rollback.setAgain:
        rollback.setAgain = False
        repeat_compensations(ctx, rollback.undo, before=True)

    _advance_lines(ctx, rollback.undo)
    _report_exceeded_budgets(ctx)

    if not _are_finished(rollback.undo) or _recheck_late_restores(ctx):
        return
    _begin_verification(ctx)


def _advance_lines(ctx: Context, undo: list[Undo]) -> None:
    """Take each line one transition further, up to the first compensation that has to wait."""
    waiting, unended = False, ""
    for line in undo:
        compensates = line.kind == "Compensate"
        if compensates and line.state == "Pending" and unended:
            _keep_back(line, f"{unended} may still be going on")

        # A compensation waits until everything before it has ended.
        if compensates and line.state not in FINISHED_STATES and waiting:
            break

        unmet = _unmet_requirements(ctx, line) if compensates and line.state == "Pending" else []
        if unmet:
            _keep_back(line, f"nothing has produced {', '.join(unmet)}")

        if line.state not in FINISHED_STATES:
            advance_line(ctx, line)
        if line.unended and not unended:
            unended = line.subject
        if line.state in FINISHED_STATES:
            continue

        # Restores do not wait for each other; a compensation may be at work on the same thing.
        waiting = True
        if compensates:
            break


def _are_finished(lines: list[Undo]) -> bool:
    return all(line.state in FINISHED_STATES for line in lines)


def _keep_back(line: Undo, reason: str) -> None:
    states.move(line, "Skipped")
    line.message = f"{KEPT_BACK_PREFIX}: {reason}"


def _unmet_requirements(ctx: Context, line: Undo) -> list[str]:
    """Return what a compensation requires, and nothing has produced.

    A step of the run may have, or a compensation before it in its stage.
    """
    assert ctx.run.rollback is not None
    stage, step = compensation_of(ctx.body, line)
    if not step.requires:
        return []

    succeeded = {
        other.subject
        for other in ctx.run.rollback.undo
        if other.stage == line.stage and other.state == "Succeeded"
    }
    compensations = ctx.body.spec.stages[stage].rollback.steps
    produced = produced_artifacts(ctx.body, ctx.run) | {
        compensation.produces
        for compensation in compensations
        if compensation.produces and f"step/{compensation.name}" in succeeded
    }
    return sorted(set(step.requires) - produced)


def _recheck_late_restores(ctx: Context) -> bool:
    """Look once more at restores that were not ready in time, when everything else is done.

    Compensations may have mended what they need. Return whether there are any.
    """
    run = ctx.run
    assert run.rollback is not None
    undo = run.rollback.undo

    late = [(place, line) for place, line in enumerate(undo) if _is_late_restore(line)]
    for place, line in late:
        # It has rolled out with that; verification compares both.
        if compensations_around(ctx.body, run, line)[1]:
            states.move(line, "Running")
            states.move(line, "Succeeded")
            line.message = None
            continue

        # Old pods may need the database that was restored since: then they get their whole time.
        mended = line.subject.startswith("target/") and any(map(has_compensated, undo[place:]))
        limit = limit_of_line(ctx, line) if mended else LAST_CHECK_S
        states.move(line, "Running")
        line.again = True
        line.startedAt = clocks.format_time(ctx.now)
        line.due = clocks.format_time(ctx.now + timedelta(seconds=limit))

    if late:
        ctx.write_now()
    return bool(late)


def _is_late_restore(line: Undo) -> bool:
    return line.kind == "Restore" and line.state == "Failed" and not line.again


def _report_exceeded_budgets(ctx: Context) -> None:
    """Say of each budget once that it is exceeded; nothing else follows from it."""
    run = ctx.run
    assert run.rollback is not None

    for clock in _stage_budgets(run):
        stage = clock.removeprefix(STAGE_BUDGET_PREFIX)
        if _are_finished([line for line in run.rollback.undo if line.stage == stage]):
            clocks.stop(run, clock)
        else:
            _report_if_expired(ctx, clock, f"undoing stage {stage} exceeds its budget")

    _report_if_expired(ctx, "rollback", "the rollback exceeds its budget")


def _stage_budgets(run: Run) -> list[str]:
    """Return the names of the clocks that are budgets of single stages."""
    return [clock for clock in run.timers if clock.startswith(STAGE_BUDGET_PREFIX)]


def _report_if_expired(ctx: Context, clock: str, message: str) -> None:
    if not clocks.expired(ctx.run, clock, ctx.now):
        return
    clocks.stop(ctx.run, clock)
    ctx.record_event("RollbackOverdue", f"{ctx.run.version}: {message}", warning=True)


def _begin_verification(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None

    # There is nothing to verify where not everything was undone.
    broken = [line for line in run.rollback.undo if line.state == "Failed" or is_kept_back(line)]
    if broken:
        fail_rollback(ctx, "; ".join(f"{line.subject}: {line.message}" for line in broken))
        return

    states.move(run, "Verifying")
    clocks.stop(run, *_stage_budgets(run))
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)
    if any("job" in check.provider for check in ctx.body.spec.rollback.verify):
        ctx.write_now()
