"""What keeps a run from starting although everything else is ready: a Freeze, or no open window.

Only a start is kept: a run that is under way goes on, and the way back is always open. A person
starts one all the same by a Hotfix.
"""

from __future__ import annotations

from datetime import datetime

from gatewright.api.release import Window
from gatewright.core.model.freeze import Freeze
from gatewright.core.model.observation import Observation
from gatewright.core.model.view import View
from gatewright.core.run.context import Context
from gatewright.core.run.rest_checks import is_hotfix_next
from gatewright.core.spec import freezes, windows

CLOSED = ("Frozen", "OutsideWindow")
"""Situations in which a run could start, and may not yet."""


def is_frozen(view: View, seen: Observation) -> bool:
    """Return whether a Freeze that means the Release is in force."""
    return not is_hotfix_next(view) and bool(_freezes_in_force(view, seen))


def is_outside_windows(view: View, seen: Observation) -> bool:
    """Return whether the Release has windows, and none of them is open."""
    return not is_hotfix_next(view) and not _is_window_open(view, seen)


def request_look(ctx: Context) -> None:
    """Have the Release looked at when a run may start."""
    closing = _freezes_in_force(ctx.view, ctx.seen)
    ends = [freeze.until for freeze in closing if freeze.until is not None]
    opening = _next_opening(ctx)
    # A Freeze that nobody can read ends by an edit, of which the watch tells.
    ctx.requeue_times += ends
    if opening is not None and not closing:
        ctx.requeue_times.append(opening[0])


def describe(ctx: Context, situation: str) -> str:
    """Return what a start waits for in one of these situations."""
    if situation == "Frozen":
        return f"the end of {describe_freeze(ctx)}"
    return describe_opening(ctx)


def describe_hotfix(ctx: Context) -> str:
    """Return how a person starts the run all the same."""
    return f"or a hotfix ({hotfix_command(ctx.view.name)})"


def hotfix_command(release: str) -> str:
    """Return what a person types to start a run in spite of what is closed."""
    return f"kubectl release hotfix {release} --reason WHY"


def describe_passed(ctx: Context) -> str:
    """Return what a run that starts now passes by, for a Hotfix; empty where nothing is closed."""
    passed = []
    if _freezes_in_force(ctx.view, ctx.seen):
        passed.append(describe_freeze(ctx))
    if not _is_window_open(ctx.view, ctx.seen):
        passed.append("spec.windows, none of which is open")
    return " and ".join(passed)


def describe_freeze(ctx: Context) -> str:
    """Return which Freeze is in force, who froze, until when and why: the one that ends last."""
    closing = _freezes_in_force(ctx.view, ctx.seen)
    return freezes.describe_freeze(freezes.last_to_end(closing), more=len(closing) - 1)


def describe_opening(ctx: Context) -> str:
    """Return which window is waited for, and until when."""
    spec = ctx.view.spec
    return windows.describe_next_opening(spec.windows if spec is not None else (), ctx.now)


def _is_window_open(view: View, seen: Observation) -> bool:
    return view.spec is None or windows.is_open(view.spec.windows, seen.now)


def _freezes_in_force(view: View, seen: Observation) -> list[Freeze]:
    return freezes.in_force(seen.freezes, view.name, view.labels, seen.now)


def _next_opening(ctx: Context) -> tuple[datetime, Window] | None:
    spec = ctx.view.spec
    return windows.next_opening(spec.windows, ctx.now) if spec is not None else None
