"""What stands against a procedure, and what a procedure under way stands against.

A procedure and a run never change the same side by side: effects on one subject would have no
order. A procedure is refused while the run under way has what it changes. A run that begins while a
procedure has something of its own waits for the end of that. Only the way back waits for nobody: it
ends the procedure first.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatewright.api.status import ProcedureStatus
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.run.context import Context
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.core.steps import changed_by


def find_obstacle(ctx: Context) -> str:
    """Return why no procedure may begin now, whichever it is; empty where one may."""
    spec = ctx.view.spec
    if ctx.view.deleting:
        return "the Release is being deleted"
    if spec is None or ctx.view.problems:
        return "its spec is invalid, so nobody knows its procedures; correct it first"
    if spec.mode == "Observe":
        return "mode: Observe acts on nothing; set spec.mode to Enforce first"
    return ctx.seen.doubt


def changed_by_procedure(body: PinnedSpec) -> set[str]:
    """Return the subjects that a procedure changes."""
    stage = body.spec.stages[0]
    return {subject for step in stage.steps for subject in changed_by(stage, step)}


def procedure_in_way(ctx: Context, subjects: Iterable[str]) -> ProcedureStatus | None:
    """Return the procedure under way where it is at work on one of these, or may be."""
    row = procedure_under_way(ctx.status)
    # One that is only asked for has done nothing, and will find the run in its way.
    if row is None or row.state == "Asked":
        return None

    body = ctx.begun_procedure or ctx.seen.kept.get(row.revision or "")
    is_shared = body is None or bool(changed_by_procedure(body) & {*subjects})
    return row if is_shared or ctx.seen.procedure_at_work else None
