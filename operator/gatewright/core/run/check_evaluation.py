"""Bring the status lines of checks up to what was observed."""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.api.checks import Check
from gatewright.api.status import GateStatus
from gatewright.core.checks import judge
from gatewright.core.checks.active import CheckSet
from gatewright.core.checks.window import Verdict
from gatewright.core.run import clocks
from gatewright.core.run.check_operations import operation_of_check, path_of, window_of
from gatewright.core.run.context import Context
from gatewright.core.spec.expand import UnknownReference


def fresh_statuses(checks: Sequence[Check]) -> list[GateStatus]:
    """Return a status line for each check, nothing known yet."""
    return [GateStatus(name=check.name, state="Unknown") for check in checks]


def evaluate_checks(ctx: Context, checks: CheckSet[Check]) -> None:
    """Bring the status lines of checks up to what was observed; start jobs that are due."""
    for check, row in checks.pairs():
        try:
            _evaluate_check(ctx, checks.place, check, row, checks.stage)
        except UnknownReference as error:
            # What it names is not there, and never will be in this run.
            row.state, row.message = "Failed", str(error)[:1000]
            row.since = clocks.format_time(ctx.now)


def _evaluate_check(
    ctx: Context, place: str, check: Check, row: GateStatus, stage: int | None
) -> None:
    operation = operation_of_check(ctx.view, ctx.body, ctx.run, place, check, stage)
    if operation is None:
        _evaluate_measured(ctx, place, check, row, stage)
        return
    # A Job and people answer once.
    if row.state in ("Passing", "Failed"):
        return

    # Nothing is acted on, and a Job is an act.
    if ctx.run.observe:
        row.state, row.message = "Passing", f"would run {operation.subject}"[:1000]
        row.since = clocks.format_time(ctx.now)
        return

    progress = ctx.progress(operation)
    if progress.state == "Absent":
        stage_name = ctx.run.stages[stage].name if stage is not None else ""
        ctx.perform(operation, stage_name, f"gates/{check.name}")

    # People answer those, not operations.
    if operation.kind != "ask":
        judge.update_from_progress(row, progress, ctx.now)


def _evaluate_measured(
    ctx: Context, place: str, check: Check, row: GateStatus, stage: int | None
) -> None:
    path = path_of(ctx.run, place, check, window_of(ctx.run, row, stage))
    verdict = ctx.seen.verdicts.get(path) or Verdict("Unknown", 0.0)

    # A guard that falls silent does not fail by itself, unless the spec says so.
    on_expiry = check.onHoldExpired or ("Guarding" if place == "guards" else "Fail")
    judge.update_status(check, row, verdict, ctx.now, silence_fails=on_expiry == "Fail")
