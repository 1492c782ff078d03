"""After a rollback: everything that was returned is there, and all checks pass, before it is called done."""

from __future__ import annotations

from datetime import timedelta

from gatewright.api.status import Rollback, Undo
from gatewright.core.checks import judge
from gatewright.core.checks.active import verification_set
from gatewright.core.model import Operation
from gatewright.core.run import clocks, states
from gatewright.core.run.check_operations import operation_of_check
from gatewright.core.run.context import (
    Context,
    evaluate_checks,
)
from gatewright.core.run.observed import TROUBLE_RECHECK_INTERVAL
from gatewright.core.run.operations import compensated_alone, restores_done
from gatewright.core.run.rollback_end import fail_rollback, finish_rollback
from gatewright.core.run.undo_lines import give_keys, repeat_compensations, reset_line

SETTLE_TIME = timedelta(seconds=30)
"""What has crashed runs again once it has done so for this long, or for as long as its target's
`availability` says."""
FRESH_TIME = timedelta(seconds=5)
"""What was restored has to have run for this long: what crashes as it starts is ready for a moment,
too."""
CLOCK_SKEW = timedelta(seconds=-2)
"""How far the API server's clock may be ahead of ours, its times being whole seconds."""


def reset_verification(rollback: Rollback) -> None:
    """What passed or failed was asked of something else: each check begins with nothing."""
    fresh = {"state": "Unknown", "message": None, "since": None, "value": None}
    rollback.verify = [
        row.model_copy(update={**fresh, "window": row.window + 1}) for row in rollback.verify
    ]


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
        finish_rollback(ctx)
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
        reset_line(line)
        line.again = True
    give_keys(ctx, taken)
    repeat_compensations(ctx, taken, before=True)
    reset_verification(run.rollback)
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
