"""decide: one look at a Release and everything observed about it, one decision.

`classify_situation` names the situation, `interventions` answers whoever has asked for something,
one function acts, `conditions` says it in words. The decision holds the whole new status. What it
asks to be done is done after that status stands in the API server, never before; only finalizer and
revision, which keep what is there, come first.

The state diagram is at the top of `core.run.states`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from gatewright.api.status import ReleaseStatus
from gatewright.core.checks import at_rest, followups
from gatewright.core.interventions import answer
from gatewright.core.model.decision import Decision
from gatewright.core.model.observation import Observation
from gatewright.core.model.view import View
from gatewright.core.report import conditions, size
from gatewright.core.run import clocks, closures, phases, procedures, start, undo, verification
from gatewright.core.run.adoption import adopt_version
from gatewright.core.run.context import Context
from gatewright.core.run.guard_procedures import ask_by_guards
from gatewright.core.run.next_look import next_look
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.core.run.situations import Situation, classify_situation
from gatewright.core.run.unresolved import fail_unresolved
from gatewright.core.spec.expand import UnknownReference

UNREAD_SITUATIONS: tuple[Situation, ...] = ("BodyNotLoaded", "TargetsNotRead", "Unobserved")
"""Nobody can tell yet what would be acted on."""
RECHECK_INTERVAL = timedelta(seconds=30)


def decide(view: View, seen: Observation) -> Decision:
    """Return what is to be done now. Pure: the same arguments, the same decision."""
    situation = classify_situation(view, seen)
    # A copy: what has happened is told by comparing it with the view (`report.run_events`).
    status = ReleaseStatus.model_validate(view.status.model_dump())
    ctx = Context(view, seen, Decision(status), seen.body)

    # Clocks count only the time in which somebody watched.
    if view.run is not None and seen.body is not None and seen.unwatched > 0:
        clocks.shift(ctx.run, timedelta(seconds=seen.unwatched))
        ctx.write_now()
    procedure = procedure_under_way(status)
    if procedure is not None and seen.unwatched > 0:
        clocks.shift_timers(procedure.timers, timedelta(seconds=seen.unwatched))
        ctx.write_now()

    at_rest.update_rows(ctx)
    situation = _answer_and_act(ctx, situation)
    follow_up_due = followups.update_rows(ctx)
    ask_by_guards(ctx)
    procedure_due = procedures.advance_procedure(ctx)

    # What nobody has seen yet is not summarized: the conditions stay as they were.
    looked = situation != "TargetsNotRead" or bool(seen.looking)
    if situation != "BodyNotLoaded" and looked:
        conditions.summarize(ctx, situation)

    ctx.decision.requeue_at = next_look(ctx, follow_up_due, procedure_due)
    # Last, since everything that was said has to fit.
    size.fit(ctx.status)
    return ctx.decision


def _answer_and_act(ctx: Context, situation: Situation) -> Situation:
    """Answer whoever has asked for something, then act; return the situation that is summarized."""
    try:
        to_act = answer.answer_next(ctx, situation)
        # A person goes first, and may have begun just that.
        if situation not in UNREAD_SITUATIONS and undo.roll_back_by_guard(ctx):
            to_act = _phase_under_way(ctx)
        if to_act is not None:
            _settle(ctx, to_act)
        elif situation == "ReadyToStart" and ctx.status.runs == ctx.view.status.runs:
            # Who asked for the start was refused: without that Intervention it stands otherwise.
            return classify_situation(replace(ctx.view, open_interventions=()), ctx.seen)
    except UnknownReference as error:
        before = _phase_under_way(ctx)
        fail_unresolved(ctx, error)
        after = _phase_under_way(ctx)
        _settle(ctx, after if after != before else None)

    # What has begun and ended in this very pass is no longer as it was met.
    is_over = ctx.status.run is not None and ctx.status.run.outcome is not None
    return "RunEnded" if is_over and ctx.status.runs > ctx.view.status.runs else situation


def _settle(ctx: Context, situation: Situation | None) -> None:
    """Act, and act again for as long as that leads to another phase.

    A phase records where it leads and calls no other. Raises UnknownReference.
    """
    acted: Situation | None = None
    while situation is not None and situation != acted:
        ACTIONS[situation](ctx)
        acted = situation
        # Without its body nothing can be said of a run; at rest only a start leads into one.
        if situation in PHASES or situation == "ReadyToStart":
            situation = _phase_under_way(ctx)


def _phase_under_way(ctx: Context) -> Situation | None:
    """Return the phase to be acted on; none where the run has ended, or a person decides."""
    run = ctx.status.run
    if run is None or run.outcome is not None or run.phase == "Paused":
        return None
    return PHASES[run.phase]


def _do_nothing(ctx: Context) -> None:
    """Do nothing: something has to change outside first."""


def _remove_finalizer_now(ctx: Context) -> None:
    """Keep no finalizer at rest."""
    ctx.decision.remove_finalizer = ctx.view.finalized
    ctx.decision.deferrable = not ctx.view.finalized


def _remove_finalizer(ctx: Context) -> None:
    ctx.decision.remove_finalizer = ctx.view.finalized


def _await_start(ctx: Context) -> None:
    """Look again when a run may start; until then nothing is asked and nothing is read."""
    _remove_finalizer(ctx)
    closures.request_look(ctx)


ACTIONS: Mapping[Situation, Callable[[Context], None]] = {
    "BodyNotLoaded": _do_nothing,
    "TargetsNotRead": _do_nothing,
    "Unobserved": _do_nothing,
    "Preflight": phases.run_preflight,
    "Progressing": phases.run_stages,
    "Paused": phases.stay_paused,
    "Guarding": phases.run_guarding,
    "RollingBack": phases.go_back,
    "Verifying": verification.verify_rollback,
    "Deleting": _remove_finalizer,
    "Invalid": _remove_finalizer,
    "Unverified": _remove_finalizer_now,
    "Drifted": _remove_finalizer_now,
    "UpToDate": _remove_finalizer_now,
    "Rejected": _remove_finalizer_now,
    "RunEnded": _remove_finalizer_now,
    "TargetMissing": _remove_finalizer,
    "Unconnected": _remove_finalizer,
    "Unresolved": _remove_finalizer,
    "Settling": _remove_finalizer,
    "Adopted": adopt_version,
    "Suspended": _remove_finalizer,
    "Frozen": _await_start,
    "OutsideWindow": _await_start,
    "Unadmitted": _remove_finalizer,
    "Blocked": _remove_finalizer,
    "NoRoom": _remove_finalizer,
    "ReadyToStart": start.start_run,
}


PHASES: Mapping[str, Situation] = {
    "Preflight": "Preflight",
    "Progressing": "Progressing",
    "Paused": "Paused",
    "Guarding": "Guarding",
    "RollingBack": "RollingBack",
    "Verifying": "Verifying",
}
"""The phases of a run under way, as situations."""
