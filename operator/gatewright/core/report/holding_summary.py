"""What is to be said of a run that stands still: somebody has stopped it, or changed what it made.

While stages pass, and while guards watch after the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.api.status import GateStatus, Run
from gatewright.core.checks import judge
from gatewright.core.interventions import commands
from gatewright.core.report.summary import Summary, first_and_count, to_seconds
from gatewright.core.run import clocks
from gatewright.core.run.context import Context


def first_by_gravity(rows: Sequence[GateStatus], states: Sequence[str]) -> GateStatus | None:
    """Return the first row in the gravest of these states that any row is in."""
    for state in states:
        row = judge.first_in_state(rows, state)
        if row is not None:
            return row
    return None


def summarize_suspended(ctx: Context, place: str) -> Summary:
    """Say that somebody, or a guard, has stopped the walk."""
    why, then = commands.describe_standstill(ctx)
    message = f"{place} is {why}{describe_meanwhile(ctx.run)}"

    # What a person has stopped has a known next step; what a guard has stopped failed.
    by_guard = (ctx.run.paused or "").startswith("guard ")
    return Summary(
        "Suspended",
        "Unknown",
        "Suspended",
        message,
        then,
        working=not by_guard,
        stalled=by_guard,
        paused=True,
    )


def describe_meanwhile(run: Run) -> str:
    """Return what runs instead while nothing goes on anyway."""
    if not run.differences:
        return ""
    return f"; {first_and_count([row.message for row in run.differences])}"


def summarize_difference(ctx: Context, run: Run, place: str) -> Summary:
    """Say what runs instead, since when, what unblocks it, and what happens if nothing does."""
    row = run.differences[0]
    more = f" (and {len(run.differences) - 1} more)" if len(run.differences) > 1 else ""

    due = clocks.due(run, clocks.DIFFERENCE_CLOCK)
    then = "the release is rolled back" if run.phase == "Guarding" else "the stage fails"
    deadline = f"; {then} at {to_seconds(due)}" if due is not None else ""

    remedy = f"make it so again, or roll back (kubectl release rollback {ctx.view.name})"
    waiting = f"{row.message}{more}, since {row.since[:19]}Z; {remedy}"
    waiting += f"; clocks stand still{deadline}"
    message = f"{place}: {row.message}{more}"
    return Summary("Holding", "Unknown", "Holding", message, waiting, working=True)
