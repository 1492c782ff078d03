"""What ends or stops the walk from outside: people, guards, what others have changed, holds."""

from __future__ import annotations

from gatewright.api.status import Difference, GateStatus, Rejected
from gatewright.core.checks import guards, judge
from gatewright.core.checks.active import WATCHED_STAGE_STATES, active_checks
from gatewright.core.interventions import approvals
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import MOST_REJECTED, Context, evaluate_checks
from gatewright.core.run.position import current_stage_index, spec_step
from gatewright.core.run.rollback import begin_rollback
from gatewright.core.run.stage_end import DECIDING_HOLD, fail_current
from gatewright.core.steps import kind_of

SUSPENDED_HOLD = "suspended"
PERSON_HOLD_ENDING = "waits for a person"
"""How the reason of a hold ends where a question is open."""


def handle_interruptions(ctx: Context) -> bool:
    """Let what stands outside of the walk end or stop it; return whether it did.

    People come first, then guards, what others have changed, suspension and holds.
    """
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

    # An observed run has changed nothing that others could change.
    if not run.observe:
        observed.update_rows(ctx)
    if _roll_back_on_failure(ctx):
        return True

    _ignore_other_version(ctx)
    _update_hold(ctx)
    _announce_overdue(ctx)

    # A failed stage that is passed over (`onFailure: Continue`) stops nothing.
    if run.phase == "Walking" and _fail_on_lasting_difference(ctx):
        return run.phase != "Walking"

    return run.held == SUSPENDED_HOLD


def _roll_back_if_replaced(ctx: Context) -> bool:
    """Roll back for a new version that does not wait for this run; return whether one did not.

    It does not by `supersede: Replace`, or because it is what was live before.
    """
    run, spec, good = ctx.run, ctx.view.spec, ctx.status.lastGood
    if spec is None or ctx.view.problems or spec.version == run.version:
        return False

    # To ask for the last good version is to ask for the way back, whatever `supersede` says.
    if good is not None and good.version == spec.version:
        reason = f"spec.version is {spec.version} again, the last good version"
        begin_rollback(ctx, "Superseded", reason, then="Superseded")
        return True

    if spec.supersede == "Replace":
        reason = f"{spec.version} replaces {run.version}"
        begin_rollback(ctx, "Superseded", reason, then="Superseded")
        return True

    return False


def _roll_back_on_failure(ctx: Context) -> bool:
    """Roll back where a guard has failed, a built-in one included; return whether one has.

    Once all stages have passed, what others have changed for too long does the same.
    """
    failed = guards.failed_guard(ctx)
    if failed is not None:
        begin_rollback(ctx, "Guard", f"guard {judge.describe(failed)}", gate=failed.name)
        return True

    if _roll_back_if_unavailable(ctx):
        return True

    # While a stage is under way its own `onFailure` decides about that.
    lasting = observed.expired_difference(ctx)
    if lasting is None or ctx.run.phase != "Guarding":
        return False

    begin_rollback(ctx, "Difference", _describe_lasting(ctx, lasting))
    return True


def _roll_back_if_unavailable(ctx: Context) -> bool:
    """Do what the built-in guard of a target says that has not run for too long."""
    failed = observed.failed_target(ctx)
    if failed is None:
        return False

    row, availability = failed
    if availability.action != "Rollback":
        guards.notify_or_pause(ctx, row, availability.action)
        return False

    reason = f"{row.message} for {availability.for_}"
    begin_rollback(ctx, "Guard", reason, gate=f"availability/{row.name}")
    return True


def _fail_on_lasting_difference(ctx: Context) -> bool:
    """Fail the stage under way where what others have changed was not put back in time."""
    lasting = observed.expired_difference(ctx)
    if lasting is None:
        return False

    fail_current(ctx, "Difference", _describe_lasting(ctx, lasting))
    return True


def _describe_lasting(ctx: Context, lasting: Difference) -> str:
    limit = clocks.format_duration(observed.hold_for(ctx, lasting.subject))
    return f"{lasting.message}, longer than {limit}"


def _ignore_other_version(ctx: Context) -> None:
    """Reject what is asked for during a run, by `supersede: Reject`.

    It does not start after the run either, but by a Retry.
    """
    run, spec = ctx.run, ctx.view.spec
    if spec is None or ctx.view.problems or spec.version == run.version:
        return
    # It was said already: an Event is one a transition.
    if spec.supersede != "Reject" or any(
        rejected.version == spec.version for rejected in ctx.status.rejected
    ):
        return

    reason = f"supersede: Reject, because run {run.id} of {run.version} was under way"
    ignored = Rejected(version=spec.version, reason=reason, at=clocks.format_time(ctx.now))
    ctx.status.rejected = [ignored, *ctx.status.rejected][:MOST_REJECTED]
    ctx.record_event("Ignored", f"{spec.version}: {reason}", warning=True)


def _update_hold(ctx: Context) -> None:
    """Stop the clocks of a run that is held, and let those of one that is not tick again."""
    run = ctx.run
    reason = _hold_reason(ctx)
    if reason is not None and run.held != reason:
        clocks.hold(run, reason, ctx.now)
    elif reason is None and run.held is not None:
        clocks.resume(run, ctx.now)

    # People take their time, and it is not counted.
    if _waits_for_people(run.held):
        clocks.stop(run, clocks.DIFFERENCE_CLOCK)


def _waits_for_people(held: str | None) -> bool:
    if held is None:
        return False
    return held in (SUSPENDED_HOLD, DECIDING_HOLD) or held.endswith(PERSON_HOLD_ENDING)


def _hold_reason(ctx: Context) -> str | None:
    """Return why clocks are to stand still, the most lasting reason first; None where they tick."""
    run = ctx.run
    if is_suspended(ctx):
        return SUSPENDED_HOLD
    if run.phase == "Paused":
        return DECIDING_HOLD

    person = _person_waited_for(ctx)
    if person is not None:
        return person
    if run.differences:
        return f"{run.differences[0].subject} is not as the run wants it"

    # What nobody can measure any more goes before what still may be measured.
    watched = _watched_rows(ctx)
    holding = judge.first_in_state(watched, "Expired") or judge.first_in_state(watched, "Holding")
    return f"{holding.name} holds" if holding is not None else None


def _person_waited_for(ctx: Context) -> str | None:
    """Return what waits for a person, in words; None where nothing does."""
    run = ctx.run
    index = current_stage_index(run)
    again = next(approvals.awaited_answers(run, index), None)
    if again is not None:
        return f"{again[0]} {PERSON_HOLD_ENDING}"
    if index is None:
        return None

    steps = run.stages[index].steps
    running = next((step for step in steps if step.state == "Running"), None)
    if running is not None and kind_of(spec_step(ctx, index, running.name)).answered_by:
        return f"step {running.name} {PERSON_HOLD_ENDING}"

    return None


def _watched_rows(ctx: Context) -> list[GateStatus]:
    """Return the lines whose silence holds the run: guards that would undo it, and gates."""
    run = ctx.run
    rows = [
        row
        for row, guard in zip(run.guards, ctx.body.spec.guards, strict=True)
        if guard.action == "Rollback" and not row.early and not guards.is_waived(ctx, guard, row)
    ]

    index = current_stage_index(run)
    if index is not None and run.stages[index].state in WATCHED_STAGE_STATES:
        rows += run.stages[index].gates
    return rows


def is_suspended(ctx: Context) -> bool:
    """Return whether the walk stands still.

    It does by `spec.suspend`, because somebody paused the run, or because nobody can tell.
    """
    return ctx.run.paused is not None or ctx.view.spec is None or ctx.view.spec.suspend


def _announce_overdue(ctx: Context) -> None:
    """Say once that the stage under way takes longer than expected; nothing else follows."""
    index = current_stage_index(ctx.run)
    if index is None or not clocks.expired(ctx.run, "overdue", ctx.now):
        return

    clocks.stop(ctx.run, "overdue")
    stage, expected = ctx.run.stages[index], ctx.body.spec.stages[index].expectedDuration
    stage.message = f"overdue: expected to take {expected}"
    message = f"stage {stage.name} is taking longer than {expected}"
    ctx.record_event("Overdue", message, warning=True)
