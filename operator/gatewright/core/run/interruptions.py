"""What ends or stops the walk from outside: people, guards, what others have changed, holds."""

from __future__ import annotations

from gatewright.api.release import Step
from gatewright.api.status import GateStatus, Rejected
from gatewright.core.checks import guards, judge
from gatewright.core.checks.active import (
    WATCHED_STAGE_STATES,
    active_checks,
)
from gatewright.core.interventions import approvals
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import (
    MOST_REJECTED,
    Context,
    evaluate_checks,
)
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.stage_end import current_stage_index, fail_current
from gatewright.core.steps import kind_of

SUSPENDED_HOLD = "suspended"


def handle_interruptions(ctx: Context) -> bool:
    """What ends or stops the walk from outside: people, guards, what others have changed,
    suspension, holds."""
    run = ctx.run
    if ctx.view.deleting:
        begin_rollback(ctx, "Aborted", "the Release was deleted", then="Aborted")
        return True
    if _roll_back_if_replaced(ctx):
        return True
    for checks in active_checks(ctx.body, run, current_stage_index(run)):
        evaluate_checks(ctx, checks)
        if checks.place == "guards":
            guards.update_guards(ctx)
    if not run.observe:
        observed.update_rows(ctx)
    if _roll_back_on_failure(ctx):
        return True
    _ignore_other_version(ctx)
    _update_hold(ctx)
    _announce_overdue(ctx)
    if run.phase == "Walking" and _fail_on_lasting_difference(ctx):
        return run.phase != "Walking"
    return run.held == SUSPENDED_HOLD


def _roll_back_if_replaced(ctx: Context) -> bool:
    """A new version that does not wait for this run: by `supersede: Replace`, or because it is what
    was live before."""
    run, spec, good = ctx.run, ctx.view.spec, ctx.status.lastGood
    if spec is None or ctx.view.problems or spec.version == run.version:
        return False
    if good is not None and good.version == spec.version:
        begin_rollback(
            ctx,
            "Superseded",
            f"spec.version is {spec.version} again, the last good version",
            then="Superseded",
        )
        return True
    if spec.supersede == "Replace":
        begin_rollback(
            ctx, "Superseded", f"{spec.version} replaces {run.version}", then="Superseded"
        )
        return True
    return False


def _roll_back_on_failure(ctx: Context) -> bool:
    """Guards that undo the run, the built-in ones included; and, once all stages have passed, what
    others have changed."""
    run = ctx.run
    failed = guards.failed_guard(ctx)
    if failed is not None:
        begin_rollback(ctx, "Guard", f"guard {judge.describe(failed)}", gate=failed.name)
        return True
    target = observed.failed_target(ctx)
    if target is not None:
        row, availability = target
        if availability.action == "Rollback":
            begin_rollback(
                ctx,
                "Guard",
                f"{row.message} for {availability.for_}",
                gate=f"availability/{row.name}",
            )
            return True
        guards.notify_or_pause(ctx, row, availability.action)
    lasting = observed.expired_difference(ctx)
    if lasting is not None and run.phase == "Guarding":
        begin_rollback(
            ctx,
            "Difference",
            (
                f"{lasting.message}, longer than "
                f"{clocks.format_duration(observed.hold_for(ctx, lasting.subject))}"
            ),
        )
        return True
    return False


def _fail_on_lasting_difference(ctx: Context) -> bool:
    """What others have changed was not put back in time: the stage under way has failed."""
    lasting = observed.expired_difference(ctx)
    if lasting is None:
        return False
    words = (
        f"{lasting.message}, longer than "
        f"{clocks.format_duration(observed.hold_for(ctx, lasting.subject))}"
    )
    fail_current(ctx, "Difference", words)
    return True


def _ignore_other_version(ctx: Context) -> None:
    """supersede: Reject. What was asked for during a run does not start after it either, but by a
    Retry."""
    run, spec = ctx.run, ctx.view.spec
    if (
        spec is None
        or ctx.view.problems
        or spec.version == run.version
        or spec.supersede != "Reject"
    ):
        return
    if any(item.version == spec.version for item in ctx.status.rejected):
        return
    reason = f"supersede: Reject, because run {run.id} of {run.version} was under way"
    ignored = Rejected(version=spec.version, reason=reason, at=clocks.format_time(ctx.now))
    ctx.status.rejected = [ignored, *ctx.status.rejected][:MOST_REJECTED]
    ctx.record_event("Ignored", f"{spec.version}: {reason}", warning=True)


def _update_hold(ctx: Context) -> None:
    run = ctx.run
    why = _hold_reason(ctx)
    if why is not None and run.held != why:
        clocks.hold(run, why, ctx.now)
    elif why is None and run.held is not None:
        clocks.resume(run, ctx.now)
    if run.held in (SUSPENDED_HOLD, DECIDING_HOLD) or (run.held or "").endswith(PERSON_HOLD_ENDING):
        clocks.stop(run, clocks.DIFFERENCE_CLOCK)  # people take their time, and it is not counted


DECIDING_HOLD = "a person decides"
PERSON_HOLD_ENDING = "waits for a person"


def _hold_reason(ctx: Context) -> str | None:
    run = ctx.run
    if is_suspended(ctx):
        return SUSPENDED_HOLD
    if run.phase == "Paused":
        return DECIDING_HOLD
    watched: list[GateStatus] = [
        row
        for row, guard in zip(run.guards, ctx.body.spec.guards, strict=True)
        if guard.action == "Rollback" and not row.early and not guards.is_waived(ctx, guard, row)
    ]
    index = current_stage_index(run)
    again = next(approvals.awaited_answers(run, index), None)
    if again is not None:
        return f"{again[0]} {PERSON_HOLD_ENDING}"
    if index is not None:
        stage = run.stages[index]
        if stage.state in WATCHED_STAGE_STATES:
            watched += stage.gates
        asked = next((step for step in stage.steps if step.state == "Running"), None)
        if asked is not None and kind_of(spec_step(ctx, index, asked.name)).answered_by:
            return f"step {asked.name} {PERSON_HOLD_ENDING}"
    if run.differences:
        return f"{run.differences[0].subject} is not as the run wants it"
    holding = judge.first_in_state(watched, "Expired") or judge.first_in_state(watched, "Holding")
    return f"{holding.name} holds" if holding is not None else None


def is_suspended(ctx: Context) -> bool:
    """Whether the walk stands still: by `spec.suspend`, because somebody paused the run, or because
    nobody can tell."""
    return ctx.run.paused is not None or ctx.view.spec is None or ctx.view.spec.suspend


def _announce_overdue(ctx: Context) -> None:
    index = current_stage_index(ctx.run)
    if index is not None and clocks.expired(ctx.run, "overdue", ctx.now):
        clocks.stop(ctx.run, "overdue")
        stage, expected = ctx.run.stages[index], ctx.body.spec.stages[index].expectedDuration
        stage.message = f"overdue: expected to take {expected}"
        ctx.record_event(
            "Overdue", f"stage {stage.name} is taking longer than {expected}", warning=True
        )


def spec_step(ctx: Context, index: int, name: str) -> Step:
    return next(step for step in ctx.body.spec.stages[index].steps if step.name == name)
