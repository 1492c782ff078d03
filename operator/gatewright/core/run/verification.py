"""After a rollback: what was returned is there, and all checks pass, before it is called done."""

from __future__ import annotations

from datetime import timedelta

from gatewright.api.checks import Check
from gatewright.api.status import Rollback, Undo
from gatewright.core.checks import judge
from gatewright.core.checks.active import CheckSet, verification_set
from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.core.run import clocks, states
from gatewright.core.run.check_evaluation import evaluate_checks
from gatewright.core.run.check_operations import operation_of_check
from gatewright.core.run.context import Context
from gatewright.core.run.observed import TROUBLE_RECHECK_INTERVAL
from gatewright.core.run.operations import compensated_alone, restores_done
from gatewright.core.run.rollback_end import fail_rollback, finish_rollback
from gatewright.core.run.undo_lines import give_keys, repeat_compensations, reset_line

SETTLE_TIME = timedelta(seconds=30)
"""How long what has crashed must have run since, or as long as its target's `availability` says."""
FRESH_TIME = timedelta(seconds=5)
"""How long what was restored must have run: what crashes at once is ready for a moment, too."""
CLOCK_SKEW = timedelta(seconds=-2)
"""How far the API server's clock may be ahead of ours, its times being whole seconds."""


def reset_verification(rollback: Rollback) -> None:
    """Let each check begin with nothing: what passed or failed was asked of something else."""
    fresh = {"state": "Unknown", "message": None, "since": None, "value": None}
    rollback.verify = [
        row.model_copy(update={**fresh, "window": row.window + 1}) for row in rollback.verify
    ]


def verify_rollback(ctx: Context) -> None:
    """Wait until everything that was returned is there, and all checks pass."""
    run = ctx.run
    assert run.rollback is not None

    checks = verification_set(ctx.body, run)
    evaluate_checks(ctx, checks)

    # Once: whoever overwrites it again means it.
    overwritten = [line for line in _overwritten_lines(ctx) if not line.again]
    if overwritten:
        _return_overwritten(ctx, overwritten)
        return

    problem = _return_problem(ctx)
    if judge.all_passing(run.rollback.verify) and problem == "":
        finish_rollback(ctx)
        return

    # What is measured may still become good; a Job that has failed has ended.
    failed_job = judge.first_in_state(checks.job_rows(), "Failed")
    if failed_job is not None:
        _stop_verification_jobs(ctx)
        fail_rollback(ctx, f"verification failed: {judge.describe(failed_job)}")
        return

    if clocks.expired(run, "rollback", ctx.now):
        missing = _describe_unverified(checks) or problem or "nobody has looked"
        _stop_verification_jobs(ctx)
        fail_rollback(ctx, f"not verified within {ctx.body.spec.rollback.within}: {missing}")


def _describe_unverified(checks: CheckSet[Check]) -> str:
    """Return what the first check says that does not pass; empty where all pass."""
    row = next((row for row in checks.rows if row.state != "Passing"), None)
    if row is None:
        return ""
    if row.message or row.state != "Unknown":
        return judge.describe(row)

    answer = "ended" if row in checks.job_rows() else "answered"
    return f"{row.name} has not {answer}"


def _stop_verification_jobs(ctx: Context) -> None:
    """Stop Jobs of a verification that have not ended: it has failed, or is made anew.

    A line says so, too, so that a rollback which is repeated waits for their end.
    """
    assert ctx.run.rollback is not None
    for check, row in verification_set(ctx.body, ctx.run).pairs():
        job = operation_of_check(ctx.view, ctx.body, ctx.run, "verify", check)
        # What has ended cannot be stopped, and what is measured or asked of people runs nowhere.
        if job is None or job.kind != "job" or row.state in ("Passing", "Failed"):
            continue

        # This very pass would have started it.
        others = [operation for operation in ctx.decision.operations if operation.id != job.id]
        if len(others) < len(ctx.decision.operations):
            ctx.decision.operations = others
            continue

        stop = Undo(kind="Stop", stage="verify", subject=job.subject, state="Pending", key=job.key)
        ctx.run.rollback.undo = [stop, *ctx.run.rollback.undo]
        ctx.perform(Operation(job.key, "stop", job.subject), "", "")


def _overwritten_lines(ctx: Context) -> list[Undo]:
    """Return the lines in whose place others have put something else, since it was returned."""
    # What was looked at before this phase was not returned yet.
    before = ctx.view.run
    if before is None or before.phase != "Verifying":
        return []

    different = {subject for subject, standing in ctx.seen.standings.items() if standing.difference}
    overwritten = [line for line in restores_done(ctx.body, ctx.run) if line.subject in different]

    for subject, compensations in compensated_alone(ctx.body, ctx.run).items():
        if subject in different:
            overwritten += [line for line in compensations if line not in overwritten]
    return overwritten


def _return_overwritten(ctx: Context, lines: list[Undo]) -> None:
    """Return it once more, before anybody calls the rollback failed.

    Whoever has overwritten it may not have known of the rollback.
    """
    run = ctx.run
    assert run.rollback is not None
    _stop_verification_jobs(ctx)
    states.move(run, "RollingBack")
    run.rollback.attempt += 1

    for line in lines:
        reset_line(line)
        line.again = True
    give_keys(ctx, lines)
    repeat_compensations(ctx, lines, before=True)
    reset_verification(run.rollback)

    differences = "; ".join(
        standing.difference for standing in ctx.seen.standings.values() if standing.difference
    )
    message = f"{run.version}: {differences}; it is returned once more"
    ctx.record_event("RollbackHindered", message[:1000], warning=True)
    ctx.write_now()


def _return_problem(ctx: Context) -> str | None:
    """Return what is not as it was returned.

    Empty where everything is; None where nobody has looked yet.
    """
    run, before = ctx.run, ctx.view.run
    subjects = [
        *(line.subject for line in restores_done(ctx.body, run)),
        *compensated_alone(ctx.body, run),
    ]
    # What was seen before this phase was seen before it was returned.
    if subjects and (before is None or before.phase != "Verifying"):
        return None

    for subject in subjects:
        standing = ctx.seen.standings.get(subject)
        if standing is None:
            return None
        problem = _problem_of_standing(ctx, subject, standing)
        if problem:
            return problem
    return ""


def _problem_of_standing(ctx: Context, subject: str, standing: Standing) -> str:
    """Return why a subject does not count as returned, if it does not; it is looked at again."""
    if standing.difference:
        return standing.difference
    if standing.unknown:
        return f"nobody can tell what {subject} is now: {standing.unknown}"

    # What has crashed may only look as if it ran.
    if standing.troubled_at is not None and ctx.now - standing.troubled_at < SETTLE_TIME:
        ctx.requeue_times.append(ctx.now + TROUBLE_RECHECK_INTERVAL)
        return f"{subject}: {standing.trouble}"

    # What crashes as it starts is ready for a moment, too.
    ready = standing.rolled_out
    if ready is not None and CLOCK_SKEW < ctx.now - ready < FRESH_TIME:
        ctx.requeue_times.append(ready + FRESH_TIME)
        return f"{subject} has only just rolled out"

    return ""
