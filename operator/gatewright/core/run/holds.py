"""What holds a run: its clocks stand still while people or answers are waited for."""

from __future__ import annotations

from gatewright.api.status import GateStatus
from gatewright.core.checks import guards, judge
from gatewright.core.checks.active import WATCHED_STAGE_STATES
from gatewright.core.interventions import approvals
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import Context
from gatewright.core.run.position import current_stage_index, spec_step
from gatewright.core.run.stage_end import DECIDING_HOLD
from gatewright.core.steps import kind_of

SUSPENDED_HOLD = "suspended"
PERSON_HOLD_ENDING = "waits for a person"
"""How the reason of a hold ends where a question is open."""


def update_hold(ctx: Context) -> None:
    """Stop the clocks of a run that is held, and let those of one that is not tick again."""
    run = ctx.run
    reason = _hold_reason(ctx)
    if reason is not None and run.holdReason != reason:
        clocks.hold(run, reason, ctx.now)
    elif reason is None and run.holdReason is not None:
        clocks.resume(run, ctx.now)

    # People take their time, and it is not counted.
    if _waits_for_people(run.holdReason):
        clocks.stop(run, clocks.DIFFERENCE_CLOCK)


def _waits_for_people(reason: str | None) -> bool:
    if reason is None:
        return False
    return reason in (SUSPENDED_HOLD, DECIDING_HOLD) or reason.endswith(PERSON_HOLD_ENDING)


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
    # Past the last stage no step asks anybody.
    if index is None:
        return None

    steps = run.stages[index].steps
    running = next((step for step in steps if step.state == "Running"), None)
    if running is not None and kind_of(spec_step(ctx, index, running.name)).answered_by:
        return f"step {running.name} {PERSON_HOLD_ENDING}"

    return None


def _watched_rows(ctx: Context) -> list[GateStatus]:
    """Return the lines whose silence holds the run: guards that would undo it, and gates."""
    run, rows = ctx.run, guards.counting_rows(ctx)
    index = current_stage_index(run)
    if index is not None and run.stages[index].state in WATCHED_STAGE_STATES:
        rows += run.stages[index].gates
    return rows


def is_suspended(ctx: Context) -> bool:
    """Return whether the walk stands still.

    It does by `spec.suspend`, because somebody paused the run, or because nobody can tell.
    """
    return ctx.run.paused is not None or ctx.view.spec is None or ctx.view.spec.suspend


def are_guards_calm(ctx: Context) -> bool:
    """Return whether nothing that is watched keeps the run from going on.

    A guard that breaches or holds does, and one that has not answered yet; so does something that
    is not as wanted, does not run, or cannot be looked at. A guard that breached before the run
    changed anything counts later.
    """
    if not judge.all_passing(guards.counting_rows(ctx)):
        return False

    # An observed run has changed nothing that others could change.
    return ctx.run.observe or observed.all_as_wanted(ctx)
