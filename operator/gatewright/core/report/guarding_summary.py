"""What is to be said while guards watch a version whose stages have all passed."""

from __future__ import annotations

from gatewright.api.status import GateStatus, Run
from gatewright.core.checks import judge
from gatewright.core.interventions import commands
from gatewright.core.report.holding_summary import (
    first_by_gravity,
    summarize_difference,
    summarize_suspended,
)
from gatewright.core.report.summary import Summary, describe_idle, first_target_problem, to_seconds
from gatewright.core.run import clocks, observed
from gatewright.core.run.context import Context
from gatewright.core.run.holds import is_suspended
from gatewright.core.run.promotion import describe_undeployed
from gatewright.core.run.stage_rollback import describe_undone

GRAVITY = ("Expired", "Holding", "Breaching")
"""States of guards that people should know of, the gravest first."""


def summarize_guarding(ctx: Context, run: Run) -> Summary:
    """Return what is to be said while guards watch; Ready is True where what is live was seen."""
    place = f"{run.version}: all stages are done"
    if is_suspended(ctx) and (run.paused or "").startswith("guard "):
        return summarize_suspended(ctx, place)
    if run.differences:
        return summarize_difference(ctx, run, place)

    unobserved = observed.unobserved_reason(ctx) if not run.observe else None
    due = clocks.due(run, "guard")
    until = f" until {to_seconds(due)}" if due is not None else ""
    waiting = _describe_wait(ctx, run, until, unobserved)

    # Nothing is ready that was not seen to be live, or does not run.
    if unobserved:
        message = f"{place}; {unobserved}"
        return Summary("Guarding", "Unknown", "Guarding", message, waiting, working=True)
    if run.availability:
        message = f"{place}; {run.availability[0].message}"
        return Summary("Guarding", "Unknown", "Unavailable", message, waiting, working=True)
    if run.observe:  # nothing was deployed
        message = f"{run.version} is only observed"
        return Summary("Guarding", "Unknown", "Guarding", message, waiting, working=True)

    remarks = (describe_idle(ctx), describe_undone(run), describe_undeployed(ctx))
    remark = "; ".join(filter(None, remarks))
    idle = f" ({remark})" if remark else ""
    message = f"serving {run.version}{idle}; guards watch{until}"
    return Summary("Guarding", "True", "Guarding", message, waiting)


def _describe_wait(ctx: Context, run: Run, until: str, unobserved: str | None) -> str:
    """Return what the end of guarding waits for, the strongest reason alone."""
    problem = first_target_problem(ctx)
    obstacle = ": ".join(problem) if problem is not None else ctx.seen.looking or unobserved
    if obstacle:
        return f"cannot be made last good: {obstacle}"

    if is_suspended(ctx):
        why, then = commands.describe_standstill(ctx)
        return f"{why}; waits for {then}"

    counting_guards = [row for row in run.guards if not row.early]
    row = first_by_gravity([*run.availability, *counting_guards], GRAVITY)
    if row is None:
        return f"guards watch{until}, then {run.version} is last good"
    if row.state == "Expired":
        return _describe_expired(ctx, row)
    if row in run.availability:
        return f"{row.message}; nothing is promoted until it runs"
    return f"guard {judge.describe(row)}"


def _describe_expired(ctx: Context, row: GateStatus) -> str:
    undo = f"kubectl release rollback {ctx.view.name} undoes it; a new version does not wait"
    return (
        f"an answer of guard {judge.describe(row)}; "
        f"until then nothing is promoted and nothing undone ({undo})"
    )
