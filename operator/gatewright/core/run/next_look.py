"""When a Release has to be looked at again, though nothing has changed outside."""

from __future__ import annotations

from datetime import datetime

from gatewright.core.report import notifications
from gatewright.core.run import clocks
from gatewright.core.run.context import Context


def _next_clock(ctx: Context) -> datetime | None:
    """Return when the next clock of the run under way runs out."""
    run = ctx.status.run
    # A run that has ended has no clock.
    if run is None or run.outcome is not None:
        return None
    return clocks.next_due(run, ctx.now)


def next_look(ctx: Context, *due: datetime | None) -> datetime | None:
    """Return when the Release has to be looked at again, though nothing has changed outside."""
    clock_due = _next_clock(ctx)
    notification_due = notifications.update_notifications(ctx)
    times = [clock_due, notification_due, *due, *ctx.requeue_times]
    return min((time for time in times if time is not None), default=None)
