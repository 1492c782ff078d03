"""The way back: undo what ran, look at it once more, verify, say what is served.

A rollback's critical path is two requests: the write that holds the plan as intents, and the first
restore. Restores do not wait for each other; a compensation waits until everything before it has
ended. One line that fails does not keep the others from being undone, but the run then ends
RollbackFailed.

    refused            tried again with back-off until the line's own time is over; said at once
    not done in time   a Job is stopped, and only then has its line failed; a restore that only is not ready yet is looked
                       at once more when everything else is done (old pods may need the database first)
    does not end       nothing that comes after it is started: it might still be at work on the same thing
    over budget        said loudly, and nothing else: budgets page, they never drop the order
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from gatewright.api.base import seconds
from gatewright.api.status import Outcome, Rejected, Rollback, Run, Served, Undo, Unverified
from gatewright.core.checks import judge
from gatewright.core.checks.active import verification_set
from gatewright.core.model import Operation, Progress, Revision
from gatewright.core.run import clocks, states
from gatewright.core.run.context import (
    MOST_REJECTED,
    Context,
    evaluate_checks,
    finish_run,
    fresh_statuses,
    set_live,
)
from gatewright.core.run.observed import TROUBLE_RECHECK_INTERVAL
from gatewright.core.run.operations import (
    compensated_alone,
    compensation_of,
    compensations_around,
    describe_progress,
    limit_of_restore,
    operation_key,
    operation_of_check,
    operations_of_undo,
    restores_done,
    subjects_of,
)
from gatewright.core.run.pinning import STAYED_MARK
from gatewright.core.run.rollback_plan import plan_rollback
from gatewright.core.spec import outputs
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import produced_artifacts
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import kind_of

FINISHED_STATES = ("Succeeded", "Failed", "Skipped")
STAGE_BUDGET_PREFIX = "within/"
"""How the names of the clocks begin that are budgets of single stages."""
STOP_LIMIT_S = 120.0
"""Seconds within which a Job must have stopped."""
KEPT_BACK_PREFIX = "not started"
"""How the message of a line begins that waited for something that did not end."""
SETTLE_TIME = timedelta(seconds=30)
"""What has crashed runs again once it has done so for this long, or for as long as its target's
`availability` says."""
FRESH_TIME = timedelta(seconds=5)
"""What was restored has to have run for this long: what crashes as it starts is ready for a moment,
too."""
CLOCK_SKEW = timedelta(seconds=-2)
"""How far the API server's clock may be ahead of ours, its times being whole seconds."""
VERIFICATION_SUBJECT = "rollback.verify"
"""What has not passed, as a thing that a failed rollback has left."""
TOO_MANY_SUBJECTS = "more things than are kept"
MOST_SUBJECTS_CHARS = 8_000
"""Characters that the names of what a failed rollback has left may take in the status."""
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
        states.move(run, "Guarding") if run.phase == "Walking" else None
        finish_run(ctx, "Observed", f"would roll back: {reason}")
        return

    ctx.decision.operations.clear()  # what this very pass would have started has not been started
    under_way = next(
        (stage for stage in run.stages if stage.state in ("Running", "Gating", "Baking")), None
    )
    if under_way is not None:
        states.move(under_way, "Failed")
        under_way.finishedAt, under_way.message = clocks.format_time(ctx.now), reason[:1000]
    states.move(run, "RollingBack")
    run.timers.clear()
    run.held = None
    run.paused = None
    run.pausedStage = None
    run.stopping = []
    run.differences = []
    run.availability = []

    failures = {stage.name for stage in run.stages if stage.state == "Failed"} | (
        {failed} if failed else set()
    )
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
    _give_keys(ctx, undo)
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)
    ctx.decision.urgent = True
    ctx.record_event("RollingBack", f"{run.version}: {reason}", warning=True)
    ctx.write_now()


def repeat_rollback(ctx: Context) -> None:
    """Once more what a failed rollback has not undone; what it has undone is looked at again."""
    run = ctx.run
    states.reopen(run)
    assert run.rollback is not None
    run.finishedAt = run.took = run.reason = None
    run.rollback.attempt += 1
    # To return something twice is to return it once, and others may have taken away what was
    # returned.
    left = [
        item
        for item in run.rollback.undo
        if item.state == "Failed" or _is_kept_back(item) or item.kind == "Restore"
    ]
    for line in left:
        _reset_line(line)
        line.stopping = line.again = False
        line.unended = line.unended and line.kind == "Compensate"
    _give_keys(ctx, [line for line in left if not line.unended])
    run.rollback.setAgain = True
    _reset_verification(run.rollback)
    ctx.status.unverified = _remaining_unverified(ctx)
    ctx.decision.add_finalizer = True
    ctx.decision.urgent = True
    ctx.record_event(
        "RollingBack", f"{run.version}: what was not undone is undone once more", warning=True
    )
    ctx.write_now()


def _reset_line(line: Undo) -> None:
    """As one that was never begun."""
    states.move(line, "Pending")
    line.message = line.due = line.startedAt = None


def _reset_verification(rollback: Rollback) -> None:
    """What passed or failed was asked of something else: each check begins with nothing."""
    fresh = {"state": "Unknown", "message": None, "since": None, "value": None}
    rollback.verify = [
        row.model_copy(update={**fresh, "window": row.window + 1}) for row in rollback.verify
    ]


def _is_kept_back(line: Undo) -> bool:
    """Whether it was not started because of others; what had nothing to undo is skipped for
    good."""
    return line.state == "Skipped" and (line.message or "").startswith(KEPT_BACK_PREFIX)


def _repeat_compensations(ctx: Context, lines_: list[Undo], before: bool) -> None:
    """What is returned once more loses what compensations have set in it: that is set again, which
    is no second migration; a Job is not run twice for it. `before`: also what was set before it was
    returned, and others may have taken away."""
    for line in [item for item in lines_ if item.kind == "Restore"]:
        earlier, since = compensations_around(ctx.body, ctx.run, line)
        for done in (*(earlier if before else ()), *since):
            if done.state == "Succeeded":
                _reset_line(done)
                done.tries += 1
                _give_keys(ctx, [done])


def _stop_unended_jobs(ctx: Context) -> None:
    """Jobs of compensations that may still be going on are stopped before these are started once
    more."""
    rollback = ctx.run.rollback
    assert rollback is not None
    for line in [item for item in rollback.undo if item.state == "Pending" and item.unended]:
        jobs = (
            operations_of_undo(
                ctx.view, ctx.body, ctx.run, line.model_copy(update={"stopping": True})
            )
            if _is_job(ctx, line)
            else []
        )
        stops = [
            Undo(kind="Stop", stage=line.stage, subject=job.subject, state="Pending", key=job.key)
            for job in jobs
        ]
        line.unended = False
        rollback.undo = [*stops, *rollback.undo]
        _give_keys(ctx, [line])


def roll_back(ctx: Context) -> None:
    """Undo line by line, as far as lines may go side by side."""
    run = ctx.run
    assert run.rollback is not None
    ctx.decision.urgent = True
    _stop_unended_jobs(ctx)
    if run.rollback.setAgain:
        run.rollback.setAgain = False
        _repeat_compensations(ctx, run.rollback.undo, before=True)
    waiting, unended = False, ""
    for line in run.rollback.undo:
        if line.kind == "Compensate" and line.state == "Pending" and unended:
            states.move(
                line, "Skipped"
            ).message = f"{KEPT_BACK_PREFIX}: {unended} may still be going on"
        if line.kind == "Compensate" and line.state not in FINISHED_STATES and waiting:
            break
        if (
            line.kind == "Compensate"
            and line.state == "Pending"
            and (unmet := _unmet_requirements(ctx, line))
        ):
            states.move(
                line, "Skipped"
            ).message = f"{KEPT_BACK_PREFIX}: nothing has produced {', '.join(unmet)}"
        if line.state not in FINISHED_STATES:
            _advance_line(ctx, line)
        unended = unended or (line.subject if line.unended else "")
        if line.state not in FINISHED_STATES:
            waiting = True
            if line.kind == "Compensate":
                break
    _report_exceeded_budgets(ctx)
    if all(
        line.state in FINISHED_STATES for line in run.rollback.undo
    ) and not _recheck_late_restores(ctx):
        _begin_verification(ctx)


def _unmet_requirements(ctx: Context, line: Undo) -> list[str]:
    """What a compensation requires and one before it in its stage should have produced, but has
    not."""
    assert ctx.run.rollback is not None
    stage, step = compensation_of(ctx.body, line)
    if not step.requires:
        return []
    good = {
        item.subject
        for item in ctx.run.rollback.undo
        if item.stage == line.stage and item.state == "Succeeded"
    }
    own = {
        item.produces
        for item in ctx.body.spec.stages[stage].rollback.steps
        if f"step/{item.name}" in good
    }
    return sorted(
        set(step.requires) - produced_artifacts(ctx.body, ctx.run) - {name for name in own if name}
    )


def verify_rollback(ctx: Context) -> None:
    """Everything that was returned is there, and all checks pass, before the rollback is called
    done."""
    run = ctx.run
    assert run.rollback is not None
    checks = verification_set(ctx.body, run)
    evaluate_checks(ctx, checks)
    jobs = checks.job_rows()
    broken = judge.first_in_state(jobs, "Failed")
    taken = [line for line in _overwritten_lines(ctx) if not line.again]
    if taken:
        _return_overwritten(ctx, taken)
        return
    problem = _return_problem(ctx)
    if judge.all_passing(run.rollback.verify) and problem == "":
        _finish_rollback(ctx)
    elif broken is not None:
        _stop_verification_jobs(ctx)
        fail_rollback(ctx, f"verification failed: {judge.describe(broken)}")
    elif clocks.expired(run, "rollback", ctx.now):
        row = next((row for row in run.rollback.verify if row.state != "Passing"), None)
        open_ = (
            judge.describe(row)
            if row is not None and (row.message or row.state != "Unknown")
            else ""
        )
        if row is not None and not open_:
            open_ = f"{row.name} has not {'ended' if row in jobs else 'answered'}"
        _stop_verification_jobs(ctx)
        fail_rollback(
            ctx,
            (
                f"not verified within {ctx.body.spec.rollback.within}: "
                f"{open_ or problem or 'nobody has looked'}"
            ),
        )


def _stop_verification_jobs(ctx: Context) -> None:
    """Jobs of a verification that have not ended are stopped: it has failed, or is made anew. A
    line says so, too, so that a rollback which is repeated waits for their end."""
    assert ctx.run.rollback is not None
    for check, row in verification_set(ctx.body, ctx.run).pairs():
        job = operation_of_check(ctx.view, ctx.body, ctx.run, "verify", check)
        if job is None or job.kind != "job" or row.state in ("Passing", "Failed"):
            continue
        # This very pass would have started it.
        if any(one.id == job.id for one in ctx.decision.operations):
            ctx.decision.operations = [one for one in ctx.decision.operations if one.id != job.id]
            continue
        stop = Undo(kind="Stop", stage="verify", subject=job.subject, state="Pending", key=job.key)
        ctx.run.rollback.undo = [stop, *ctx.run.rollback.undo]
        ctx.perform(Operation(job.key, "stop", job.subject), "", "")


def _overwritten_lines(ctx: Context) -> list[Undo]:
    """What others have put something else in the place of, since it was returned."""
    before = ctx.view.run
    if before is None or before.phase != "Verifying":
        return []
    different = {subject for subject, standing in ctx.seen.standings.items() if standing.difference}
    found = [line for line in restores_done(ctx.body, ctx.run) if line.subject in different]
    for subject, lines_ in compensated_alone(ctx.body, ctx.run).items():
        found += [line for line in lines_ if subject in different and line not in found]
    return found


def _return_overwritten(ctx: Context, taken: list[Undo]) -> None:
    """Once, before anybody calls the rollback failed: whoever did it may not have known of the
    rollback."""
    run = ctx.run
    assert run.rollback is not None
    said = "; ".join(
        standing.difference for standing in ctx.seen.standings.values() if standing.difference
    )
    _stop_verification_jobs(ctx)
    states.move(run, "RollingBack")
    run.rollback.attempt += 1
    for line in taken:
        _reset_line(line)
        line.again = True
    _give_keys(ctx, taken)
    _repeat_compensations(ctx, taken, before=True)
    _reset_verification(run.rollback)
    ctx.record_event(
        "RollbackHindered", f"{run.version}: {said}; it is returned once more"[:1000], warning=True
    )
    ctx.write_now()


def _return_problem(ctx: Context) -> str | None:
    """What is not as it was returned: empty where everything is; None where nobody has looked
    yet."""
    run, before = ctx.run, ctx.view.run
    assert run.rollback is not None
    restored = [
        *(line.subject for line in restores_done(ctx.body, run)),
        *compensated_alone(ctx.body, run),
    ]
    if restored and (before is None or before.phase != "Verifying"):
        return None
    for subject in restored:
        standing = ctx.seen.standings.get(subject)
        if standing is None:
            return None
        if standing.unknown or standing.difference:
            return (
                standing.difference or f"nobody can tell what {subject} is now: {standing.unknown}"
            )
        if standing.troubled_at is not None and ctx.now - standing.troubled_at < SETTLE_TIME:
            ctx.requeue_times.append(ctx.now + TROUBLE_RECHECK_INTERVAL)
            return f"{subject}: {standing.trouble}"
        if (
            standing.rolled_out is not None
            and CLOCK_SKEW < ctx.now - standing.rolled_out < FRESH_TIME
        ):
            ctx.requeue_times.append(standing.rolled_out + FRESH_TIME)
            return f"{subject} has only just rolled out"
    return ""


def _give_keys(ctx: Context, undo: list[Undo]) -> None:
    assert ctx.run.rollback is not None
    attempt = (ctx.run.rollback.attempt,) if ctx.run.rollback.attempt > 1 else ()
    for number, line in enumerate(ctx.run.rollback.undo):
        again = (*attempt, "restart") if line.restart else attempt
        again = (*again, f"again{line.tries}") if line.tries else again
        if line.kind != "Stop" and any(line is item for item in undo):
            line.key = operation_key(
                ctx.view,
                ctx.run,
                "rollback",
                line.stage,
                line.subject.partition("/")[2],
                number,
                *again,
            )


def _start_budget(ctx: Context, line: Undo) -> None:
    """The budget of a stage's rollback begins with its first line."""
    assert ctx.run.rollback is not None
    stage = next((item for item in ctx.body.spec.stages if item.name == line.stage), None)
    first = not any(item.startedAt for item in ctx.run.rollback.undo if item.stage == line.stage)
    if stage is not None and stage.rollback.within and first:
        clocks.start(
            ctx.run, f"{STAGE_BUDGET_PREFIX}{stage.name}", seconds(stage.rollback.within), ctx.now
        )


def _limit_of_line(ctx: Context, line: Undo) -> float:
    """Seconds that one try of a line may take."""
    if line.kind == "Stop":
        return STOP_LIMIT_S
    if line.kind == "Restore":
        return limit_of_restore(ctx.body, line.subject)
    return _clock_of_compensation(ctx, line) or STOP_LIMIT_S


def _clock_of_compensation(ctx: Context, line: Undo) -> float | None:
    _, step = compensation_of(ctx.body, line)
    return kind_of(step).clock(step)


def _advance_line(ctx: Context, line: Undo) -> None:
    begins = line.state == "Pending"
    if begins:
        _start_budget(ctx, line)
        states.move(line, "Running")
        line.startedAt = clocks.format_time(ctx.now)
        line.due = clocks.format_time(ctx.now + timedelta(seconds=_limit_of_line(ctx, line)))
    try:
        operations = operations_of_undo(ctx.view, ctx.body, ctx.run, line)
    except (
        UnknownReference
        # An output that its step never published: this line cannot be undone, the others can.
    ) as error:
        _fail_line(ctx, line, str(error))
        return

    # What begins in this very pass was not looked at: it is performed, and looked at in the next
    # one.
    found = [Progress("Absent") if begins else ctx.progress(operation) for operation in operations]
    failed = next((item for item in found if item.state == "Failed"), None)
    if all(item.state == "Succeeded" for item in found):
        line.outputs = outputs.select_shown(ctx.run, outputs.merge_loud(operations, found))
        _complete_line(ctx, line, describe_progress(found))
    elif failed is not None:
        _fail_line(ctx, line, failed.message)
    elif _is_line_late(ctx, line) or (any(item.hopeless for item in found) and not line.stopping):
        words = next((item.message for item in found if item.message), "it is still under way")
        _end_late_line(
            ctx, line, words, begun=any(item.state not in ("Absent", "Refused") for item in found)
        )
    else:
        for operation, item in zip(operations, found, strict=True):
            if item.state == "Absent":
                ctx.perform(operation, "", "")
        _report_hindrance(ctx, line, found)


def _report_hindrance(ctx: Context, line: Undo, found: list[Progress]) -> None:
    """What keeps a line from ending; the first time somebody is told."""
    refused = next((item.message for item in found if item.state == "Refused"), "")
    message = f"refused, and tried again: {refused}"[:1000] if refused else describe_progress(found)
    hindered = bool(refused) or any(item.stuck for item in found)
    if hindered and line.message is None:
        ctx.record_event(
            "RollbackHindered", f"{ctx.run.version}: {line.subject}: {message}", warning=True
        )
        ctx.write_now()
    if message is not None or line.kind != "Restore":
        line.message = message if message is not None else line.message


def _complete_line(ctx: Context, line: Undo, message: str | None) -> None:
    if line.stopping:
        _fail_line(ctx, line, line.message or "not done in time; it was stopped")
        return
    late = line.message is not None or line.again  # it was something else meanwhile
    states.move(line, "Succeeded").message = message
    line.due = None
    if line.kind == "Restore" and late:
        _restart_targets_with(ctx, line.subject)


def _restart_targets_with(ctx: Context, subject: str) -> None:
    """Configuration that was refused for a while is back: pods that have started meanwhile have
    read what was there."""
    assert ctx.run.rollback is not None
    for line in ctx.run.rollback.undo:
        name = line.subject.removeprefix("target/")
        if (
            line.kind != "Restore"
            or name == line.subject
            or subject not in captured_configs(ctx.body, name)
        ):
            continue
        if line.state == "Succeeded":
            states.move(line, "Pending")
            _repeat_compensations(ctx, [line], before=False)
        if line.state in ("Running", "Pending"):
            line.restart = True
            _give_keys(ctx, [line])


def _fail_line(ctx: Context, line: Undo, message: str) -> None:
    states.move(line, "Failed").message = message[:1000]
    line.due = None
    ctx.write_now()


def _end_late_line(ctx: Context, line: Undo, words: str, begun: bool) -> None:
    """A line's own time is over: a Job is stopped first, whatever may still be going on keeps what
    comes after it. What was refused all the time has not `begun`."""
    lead = (
        f"not done within {clocks.format_duration(_limit_of_line(ctx, line))}"
        if _is_line_late(ctx, line)
        else "it cannot end well"
    )
    message = f"{lead}: {words}"
    if begun and line.kind == "Compensate" and not line.stopping and _is_job(ctx, line):
        line.stopping, line.message = True, f"{message}; it was stopped"[:1000]
        line.due = clocks.format_time(ctx.now + timedelta(seconds=STOP_LIMIT_S))
        _advance_line(ctx, line)
        return
    line.unended = (begun or line.stopping) and line.kind != "Restore"
    if line.stopping:
        message = (
            f"{(line.message or '').removesuffix('; it was stopped')}; it could not be "
            f"stopped: {words}"
        )
    _fail_line(ctx, line, message)


def _is_line_late(ctx: Context, line: Undo) -> bool:
    return line.due is not None and ctx.now >= clocks.parse_time(line.due)


def _is_job(ctx: Context, line: Undo) -> bool:
    operations = operations_of_undo(ctx.view, ctx.body, ctx.run, line)
    return any(operation.kind == "job" for operation in operations)


def _recheck_late_restores(ctx: Context) -> bool:
    """Restores that were not ready in time, when everything else is done: compensations may have
    mended what they need."""
    run = ctx.run
    assert run.rollback is not None
    lines_ = run.rollback.undo
    late = [
        line
        for line in lines_
        if line.kind == "Restore" and line.state == "Failed" and not line.again
    ]
    for line in late:
        # It has rolled out with that; verification compares both.
        if compensations_around(ctx.body, run, line)[1]:
            states.move(states.move(line, "Running"), "Succeeded").message = None
            continue
        after = lines_[[item is line for item in lines_].index(True) :]
        done = any(item.kind == "Compensate" and item.state == "Succeeded" for item in after)
        mended = done and line.subject.startswith("target/")
        states.move(line, "Running")
        line.again = True
        line.startedAt = clocks.format_time(ctx.now)
        line.due = clocks.format_time(
            ctx.now + timedelta(seconds=_limit_of_line(ctx, line) if mended else LAST_CHECK_S)
        )
    if late:
        ctx.write_now()
    return bool(late)


def _report_exceeded_budgets(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None
    for name in [name for name in run.timers if name.startswith(STAGE_BUDGET_PREFIX)]:
        stage = name.removeprefix(STAGE_BUDGET_PREFIX)
        if all(line.state in FINISHED_STATES for line in run.rollback.undo if line.stage == stage):
            clocks.stop(run, name)
        elif clocks.expired(run, name, ctx.now):
            clocks.stop(run, name)
            ctx.record_event(
                "RollbackOverdue",
                f"{run.version}: undoing stage {stage} exceeds its budget",
                warning=True,
            )
    if clocks.expired(run, "rollback", ctx.now):
        clocks.stop(run, "rollback")
        ctx.record_event(
            "RollbackOverdue", f"{run.version}: the rollback exceeds its budget", warning=True
        )


def _begin_verification(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None
    broken = [line for line in run.rollback.undo if line.state == "Failed" or _is_kept_back(line)]
    if broken:
        fail_rollback(ctx, "; ".join(f"{line.subject}: {line.message}" for line in broken))
        return
    states.move(run, "Verifying")
    clocks.stop(run, *[name for name in run.timers if name.startswith(STAGE_BUDGET_PREFIX)])
    clocks.start(run, "rollback", seconds(ctx.body.spec.rollback.within), ctx.now)
    if any("job" in check.provider for check in ctx.body.spec.rollback.verify):
        ctx.write_now()


def _finish_rollback(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None
    for stage in run.stages:
        if stage.state == "Passed":
            states.move(stage, "RolledBack")
    _set_live_restored(ctx)
    ctx.status.unverified = _remaining_unverified(ctx)
    # An earlier run has left what this one does not know: nothing starts on it.
    if ctx.status.unverified is not None:
        ctx.status.unverified.generation = ctx.view.generation
        set_live(ctx, None)
    _reject_version(ctx)
    finish_run(ctx, run.rollback.then, run.rollback.reason)


def _remaining_unverified(ctx: Context) -> Unverified | None:
    """What an earlier run has left that the rollback of this one does not return; None where there
    is nothing.

    A verification that passes says that what is there is sound, not that it is what was to be
    there.
    """
    left, rollback = ctx.status.unverified, ctx.run.rollback
    if left is None or rollback is None:
        return left
    returned = {line.subject for line in rollback.undo if line.kind == "Restore"}
    others = [
        item
        for item in left.subjects
        if item not in returned and not item.startswith(_run_prefix(ctx.run))
    ]
    if rollback.verify:
        others = [item for item in others if not item.endswith(VERIFICATION_SUBJECT)]
    return left.model_copy(update={"subjects": others}) if others else None


def _set_live_restored(ctx: Context) -> None:
    """What was found is what is restored: where that was not the last good version, it is said."""
    run, good = ctx.run, ctx.status.lastGood
    assert run.rollback is not None
    snapshot = _left_revision(ctx)
    if not any(line.subject.startswith("target/") for line in run.rollback.undo):
        if ctx.status.live is not None and snapshot != run.revision:
            ctx.status.live.snapshot = snapshot
        return  # the run has touched no target: what was live before it still is
    if run.found is None:
        set_live(ctx, Served(version=good.version if good is not None else "", snapshot=snapshot))
        return
    caveat = f"it was live before run {run.id}, and was not promoted"
    caveat += f"; {good.version} is last good" if good is not None and good.version else ""
    set_live(ctx, Served(version=run.found, snapshot=snapshot, caveat=caveat))


def _left_revision(ctx: Context) -> str | None:
    """The ControllerRevision that tells what the targets are to be from now on: the run's own,
    unless compensations have set something in them since, or what somebody has changed during the
    run has stayed so."""
    compensated_ = _compensated_targets(ctx)
    stayed = {subject for subject, standing in ctx.seen.standings.items() if standing.stays}
    if ctx.seen.snapshots is not None:
        stayed |= {
            subject for subject, taken in ctx.seen.snapshots.items() if STAYED_MARK in (taken or {})
        }
    if not compensated_ and not stayed:
        return ctx.run.revision
    known = {
        name: config for name, config in subjects_of(ctx.body).items() if name.startswith("target/")
    }
    data = {
        "subjects": {
            name: {"config": config, "changes": [], **compensated_.get(name, {})}
            for name, config in known.items()
        },
        "snapshots": {name: taken for name, taken in ctx.snapshots().items() if name in known},
        "stayed": sorted(stayed),
    }
    revision = Revision.named(ctx.view, f"{ctx.run.id}-left", data)
    ctx.decision.revision = revision
    return revision.name


def _compensated_targets(ctx: Context) -> dict[str, dict[str, Any]]:
    """What compensations have set in targets, before and since these were returned, by target."""
    assert ctx.run.rollback is not None
    found: dict[str, tuple[list[Undo], list[Undo]]] = {
        subject: ([], since) for subject, since in compensated_alone(ctx.body, ctx.run).items()
    }
    found |= {
        line.subject: compensations_around(ctx.body, ctx.run, line)
        for line in ctx.run.rollback.undo
        if line.kind == "Restore"
    }
    return {
        name: {
            "before": [_operation_record(ctx, line, name) for line in before],
            "since": [_operation_record(ctx, line, name) for line in since],
        }
        for name, (before, since) in found.items()
        if name.startswith("target/") and (before or since)
    }


def _operation_record(ctx: Context, line: Undo, subject: str) -> dict[str, Any]:
    done = next(
        item
        for item in operations_of_undo(ctx.view, ctx.body, ctx.run, line)
        if item.subject == subject
    )
    return {"kind": done.kind, "config": done.config}


def fail_rollback(ctx: Context, reason: str) -> None:
    """The rollback has failed: nobody knows what is served."""
    run = ctx.run
    assert run.rollback is not None
    set_live(ctx, None)
    _reject_version(ctx)
    text = f"{reason} (rolling back because of {run.rollback.reason})"
    set_unverified(ctx, reason)
    finish_run(ctx, "RollbackFailed", text)


def set_unverified(ctx: Context, reason: str) -> None:
    """Nobody knows whether what is served is sound: nothing starts on it by itself."""
    before = ctx.status.unverified
    ctx.status.unverified = Unverified(
        run=ctx.run.id,
        version=ctx.run.version,
        reason=reason[:1000],
        subjects=_bound_subjects(
            ctx.run,
            before.subjects if before is not None else [],
            list(_subjects_to_verify(ctx.run)),
        ),
        generation=ctx.view.generation,
        since=clocks.format_time(ctx.now),
    )


def _subjects_to_verify(run: Run) -> Iterator[str]:
    """What another rollback has to return before what this run has left counts as sound, and what
    none can."""
    if run.rollback is None:
        yield f"{_run_prefix(run)}its rollback, which was not planned"
        return
    yield from (line.subject for line in run.rollback.undo if line.kind == "Restore")
    for line in run.rollback.undo:
        over = line.state == "Succeeded" or (line.state == "Skipped" and not _is_kept_back(line))
        if line.kind != "Restore" and not over:
            yield f"{_run_prefix(run)}{line.subject}"
    if any(row.state == "Failed" for row in run.rollback.verify):
        yield f"{_run_prefix(run)}{VERIFICATION_SUBJECT}"


def _bound_subjects(run: Run, earlier: list[str], own: list[str]) -> list[str]:
    """All of it, each once. Where there is too much to keep only this run itself ends what it has
    left, and what earlier ones have left only a person or a promotion."""
    everything = list(dict.fromkeys([*earlier, *own]))
    if sum(map(len, everything)) <= MOST_SUBJECTS_CHARS:
        return everything
    kept = earlier if sum(map(len, earlier)) <= MOST_SUBJECTS_CHARS / 2 else [TOO_MANY_SUBJECTS]
    return [*kept, f"{_run_prefix(run)}{TOO_MANY_SUBJECTS}"]


def _run_prefix(run: Run) -> str:
    """Before what only that very run can undo, or verify."""
    return f"run {run.id}: "


def _reject_version(ctx: Context) -> None:
    run = ctx.run
    assert run.rollback is not None
    if run.rollback.cause in ("Superseded", "Aborted"):
        return
    rejected = Rejected(
        version=run.version,
        reason=run.rollback.reason,
        gate=run.rollback.gate,
        at=clocks.format_time(ctx.now),
    )
    others = [item for item in ctx.status.rejected if item.version != run.version]
    ctx.status.rejected = [rejected, *others][:MOST_REJECTED]
