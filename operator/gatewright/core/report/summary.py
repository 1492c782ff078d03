"""What is to be said of a Release, and the phrases that runs and Releases at rest share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gatewright.core.run import clocks
from gatewright.core.run.context import Context


@dataclass(slots=True)
class Summary:
    """What is to be said, before it is written as conditions."""

    state: str
    """In a word."""
    ready: str
    """Value of Ready: True, False or Unknown."""
    reason: str
    message: str
    waiting: str | None = None
    """What is waited for."""
    stalled: bool = False
    working: bool = False
    paused: bool = False


def first_and_count(problems: Sequence[str]) -> str:
    """Return the first problem, and how many more there are."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"


def first_target_problem(ctx: Context) -> tuple[str, str] | None:
    """Return the first target that is missing or unfit, and its problem."""
    for name, live_state in ctx.seen.live_states.items():
        if live_state.problem:
            return name, live_state.problem
    return None


def describe_idle(ctx: Context) -> str:
    """Return what people should know although nothing is different: nobody runs it."""
    return "; ".join(
        standing.remark
        for standing in ctx.seen.standings.values()
        if standing.remark.startswith("nobody")
    )


def to_seconds(at: datetime) -> str:
    """Return a time as messages and conditions have it: to the second, in UTC."""
    return f"{clocks.format_time(at)[:19]}Z"
