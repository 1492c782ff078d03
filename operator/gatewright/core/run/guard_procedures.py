"""A guard that has failed asks for a procedure (`action: Run`)."""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.checks import Guard
from gatewright.api.status import GateStatus
from gatewright.core.checks import judge
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.run.context import Context
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.core.run.procedures import add_row

_Watched = tuple[GateStatus, GateStatus | None, PinnedSpec | None]
"""A guard as it is now, as it was before this pass, and what says what it does."""


def ask_by_guards(ctx: Context) -> None:
    """Ask for the procedures of guards that have just failed, one at a time."""
    if ctx.view.deleting or (ctx.status.run is not None and ctx.status.run.observe):
        return
    spec = ctx.view.spec
    if spec is not None and spec.mode == "Observe":
        return
    for guard, row in _failed_guards(ctx):
        other = procedure_under_way(ctx.status)
        by = f"guard {row.name}"
        if other is None:
            add_row(ctx, guard.procedure or "", by, judge.describe(row))
            continue
        ctx.record_event(
            "ProcedureRefused",
            f"{by} asks for procedure {guard.procedure}; {other.name} by {other.by} is under way",
            warning=True,
        )


def _failed_guards(ctx: Context) -> Iterator[tuple[Guard, GateStatus]]:
    """Yield guards that have failed in this very pass and run a procedure."""
    for row, old, body in (*_rows_of_run(ctx), *_rows_at_rest(ctx)):
        # What a guard does is pinned, as what it measures is.
        guards = body.spec.guards if body is not None else []
        guard = next((one for one in guards if one.name == row.name), None)
        if guard is None or guard.action != "Run" or row.state != "Failed" or row.early:
            continue
        # What failed before has asked then; one that counts only now asks now.
        if old is None or old.state != "Failed" or old.early:
            yield guard, row


def _rows_of_run(ctx: Context) -> Iterator[_Watched]:
    run, before = ctx.status.run, ctx.view.status.run
    if run is None or run.outcome is not None:
        return
    is_same = before is not None and before.id == run.id
    old = {row.name: row for row in before.guards} if before is not None and is_same else {}
    yield from ((row, old.get(row.name), ctx.body_if_read) for row in run.guards)


def _rows_at_rest(ctx: Context) -> Iterator[_Watched]:
    old = {(row.run, row.name): row for row in ctx.view.status.atRest}
    for row in ctx.status.atRest:
        yield row, old.get((row.run, row.name)), ctx.seen.kept.get(row.revision)
