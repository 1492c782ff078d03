"""When a Release cannot be decided upon: say so, let people end the run, let a deletion go on.

A pass that fails again and again (a pinned body that is gone, a fault of ours) would otherwise say
nothing, answer nobody and keep its namespace from ending. Nothing is acted on here, and nothing is
taken for good: a run that a person ends this way has failed to roll back, and what it has left is
not verified.
"""

from __future__ import annotations

from datetime import datetime

from gatewright.api.status import ReleaseStatus
from gatewright.core.interventions.answer import record_answer, record_overtaking
from gatewright.core.model.decision import Decision
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.observation import Observation
from gatewright.core.model.view import View
from gatewright.core.report import conditions
from gatewright.core.run.context import Context
from gatewright.core.run.rollback_end import set_unverified
from gatewright.core.run.run_end import finish_run


def decide_stuck(view: View, why: str, now: datetime) -> Decision:
    """Return what is said of a Release whose passes fail; people may end its run all the same."""
    status = ReleaseStatus.model_validate(view.status.model_dump())
    ctx = Context(view, Observation(now), Decision(status), None)

    # A namespace that is being deleted must not wait for a fault of ours.
    if view.deleting:
        ctx.decision.remove_finalizer = view.finalized
        message = f"it is being deleted, and could not be undone: {why}"
        ctx.record_event("LetGo", message, warning=True)
        return ctx.decision

    if view.next_intervention is not None:
        _answer_intervention(ctx, view.next_intervention, why)
    message = f"nothing can be decided: {why}"
    conditions.write_stalled(ctx, "CannotProceed", message, _describe_remedy(ctx))
    return ctx.decision


def _answer_intervention(ctx: Context, intervention: Intervention, why: str) -> None:
    """Answer what somebody asks for: a run can only be ended."""
    answer = record_answer(ctx, intervention)
    run = ctx.status.run
    ends = intervention.urgent and not intervention.doubt
    if not ends or run is None or run.outcome is not None:
        refusal = intervention.doubt or f"nothing can be decided: {why}; Abort ends the run"
        answer.result, answer.message = "Refused", refusal[:1000]
        return

    lines = run.rollback.undo if run.rollback is not None else []
    begun = any(line.state not in ("Pending", "Skipped") for line in lines)
    undone = "its rollback was not ended" if begun else "nothing was undone"
    reason = f"ended by {intervention.attribution}; {undone}: {why}"
    answer.message = f"run {run.id} has ended, and {undone}"
    record_overtaking(ctx, intervention)

    # Nothing was touched yet.
    if run.phase == "Preflight":
        finish_run(ctx, "Aborted", reason)
        return

    set_unverified(ctx, reason)
    ctx.status.live = None
    finish_run(ctx, "RollbackFailed", reason)


def _describe_remedy(ctx: Context) -> str:
    remedy = "a person to mend what the message names"
    run = ctx.status.run
    if run is None or run.outcome is not None:
        return remedy
    return f"{remedy}, or to end the run (kubectl release abort {ctx.view.name})"
