"""What keeps a run from starting although everything else is ready: no window is open.

Only a start is kept: a run that is under way goes on, and the way back is always open.
"""

from __future__ import annotations

from datetime import datetime

from gatewright.api.release import Window
from gatewright.core.model.observation import Observation
from gatewright.core.model.view import View
from gatewright.core.run.context import Context
from gatewright.core.spec import windows

CLOSED = ("OutsideWindow",)
"""Situations in which a run could start, and may not yet."""


def is_outside_windows(view: View, seen: Observation) -> bool:
    """Return whether the Release has windows, and none of them is open."""
    return view.spec is not None and not windows.is_open(view.spec.windows, seen.now)


def request_look(ctx: Context) -> None:
    """Have the Release looked at when a run may start."""
    opening = _next_opening(ctx)
    if opening is not None:
        ctx.requeue_times.append(opening[0])


def describe_opening(ctx: Context) -> str:
    """Return which window is waited for, and until when."""
    opening = _next_opening(ctx)
    if opening is None:
        return "a window to open, and none does within five years; edit spec.windows"
    return f"the next window to open at {windows.describe_opening(*opening)}"


def describe(ctx: Context, situation: str) -> str:
    """Return what a start waits for in one of these situations."""
    return describe_opening(ctx)


def _next_opening(ctx: Context) -> tuple[datetime, Window] | None:
    spec = ctx.view.spec
    return windows.next_opening(spec.windows, ctx.now) if spec is not None else None
