"""When a Release cannot be decided upon: say so, let people end the run, let go of what is being
deleted.

A pass that fails again and again (a pinned body that is gone, a fault of ours) would otherwise say
nothing, answer nobody and keep its namespace from ending. Nothing is acted on here, and nothing is
taken for good: a run that a person ends this way has failed to roll back, and what it has left is
not verified.
"""

from __future__ import annotations

from datetime import datetime

from gatewright.api.status import ReleaseStatus
from gatewright.core.interventions.answer import record_answer
from gatewright.core.model import Decision, Intervention, Observation, View
from gatewright.core.report import conditions
from gatewright.core.run.context import Context, finish_run
from gatewright.core.run.rollback_end import set_unverified

ENDING_ACTIONS = ("Abort", "Rollback")


def decide_stuck(view: View, why: str, now: datetime) -> Decision:
    """What is said of a Release whose passes fail, and what people may do to it all the same."""
    status = ReleaseStatus.model_validate(view.status.model_dump())
    p = Context(view, Observation(now), Decision(status), None)

    if view.deleting:
        p.decision.remove_finalizer = view.finalized
        p.record_event(
            "LetGo", f"it is being deleted, and could not be undone: {why}", warning=True
        )
        return p.decision

    if view.next_intervention is not None:
        _answer_intervention(p, view.next_intervention, why)

    conditions.write_stalled(
        p, "CannotProceed", f"nothing can be decided: {why}", _describe_remedy(p)
    )
    return p.decision


def _answer_intervention(ctx: Context, act: Intervention, why: str) -> None:
    said = record_answer(ctx, act)
    run = ctx.status.run
    if act.doubt or act.action not in ENDING_ACTIONS or run is None or run.outcome is not None:
        said.result, said.message = (
            "Refused",
            (act.doubt or f"nothing can be decided: {why}; Abort ends the run")[:1000],
        )
        return

    lines = run.rollback.undo if run.rollback is not None else []
    begun = any(line.state not in ("Pending", "Skipped") for line in lines)
    undone = "its rollback was not ended" if begun else "nothing was undone"
    reason = f"ended by {act.attribution}; {undone}: {why}"
    said.message = f"run {run.id} has ended, and {undone}"

    if run.phase == "Preflight":
        finish_run(ctx, "Aborted", reason)
        return

    set_unverified(ctx, reason)
    ctx.status.live = None
    finish_run(ctx, "RollbackFailed", reason)


def _describe_remedy(ctx: Context) -> str:
    run = ctx.status.run
    if run is None or run.outcome is not None:
        return "a person to mend what the message names"
    return (
        "a person to mend what the message names, or to end the run (kubectl release abort "
        f"{ctx.view.name})"
    )
