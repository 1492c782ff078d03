"""A guard that has failed asks for a procedure (`action: Run`)."""

from __future__ import annotations

from collections.abc import Iterator

from gatewright.api.checks import Guard
from gatewright.api.status import GateStatus
from gatewright.core.checks import judge
from gatewright.core.run.context import Context
from gatewright.core.run.procedures import add_row, procedure_under_way


def ask_by_guards(ctx: Context) -> None:
    """Ask for the procedures of guards that have just failed, one at a time."""
    if ctx.view.deleting or (ctx.status.run is not None and ctx.status.run.observe):
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
    spec = ctx.view.spec
    guards = {guard.name: guard for guard in spec.guards} if spec is not None else {}
    for row, old in (*_rows_of_run(ctx), *_rows_at_rest(ctx)):
        guard = guards.get(row.name)
        if guard is None or guard.action != "Run" or row.state != "Failed" or row.early:
            continue
        # What failed before has asked then; one that counts only now asks now.
        if old is None or old.state != "Failed" or old.early:
            yield guard, row


def _rows_of_run(ctx: Context) -> Iterator[tuple[GateStatus, GateStatus | None]]:
    run, before = ctx.status.run, ctx.view.status.run
    if run is None or run.outcome is not None:
        return
    is_same = before is not None and before.id == run.id
    old = {row.name: row for row in before.guards} if before is not None and is_same else {}
    yield from ((row, old.get(row.name)) for row in run.guards)


def _rows_at_rest(ctx: Context) -> Iterator[tuple[GateStatus, GateStatus | None]]:
    old = {(row.run, row.name): row for row in ctx.view.status.atRest}
    for row in ctx.status.atRest:
        yield row, old.get((row.run, row.name))
