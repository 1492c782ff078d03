"""Restores that were not ready in time, looked at once more."""

from __future__ import annotations

from datetime import timedelta

from gatewright.api.status import Undo
from gatewright.core.run import clocks, states
from gatewright.core.run.context import Context
from gatewright.core.run.operations import compensations_around, has_compensated
from gatewright.core.run.undo_lines import limit_of_line
from gatewright.core.subject import traits_of

LAST_CHECK_S = 5.0
"""Seconds that a restore gets when it is looked at once more and nothing was compensated since."""


def recheck_late_restores(ctx: Context) -> bool:
    """Look once more at restores that were not ready in time, when everything else is done.

    Compensations may have mended what they need. Return whether there are any.
    """
    run = ctx.run
    assert run.rollback is not None
    undo = run.rollback.undo

    late = [(place, line) for place, line in enumerate(undo) if _is_late_restore(line)]
    for place, line in late:
        # It has rolled out with that; verification compares both.
        if compensations_around(ctx.body, run, line)[1]:
            states.move(line, "Running")
            states.move(line, "Succeeded")
            line.message = None
            continue

        # Old pods may need the database that was restored since: then they get their whole time.
        rolls_out = traits_of(line.subject).rolls_out
        mended = rolls_out and any(map(has_compensated, undo[place:]))
        limit = limit_of_line(ctx, line) if mended else LAST_CHECK_S
        states.move(line, "Running")
        line.again = True
        line.startedAt = clocks.format_time(ctx.now)
        line.due = clocks.format_time(ctx.now + timedelta(seconds=limit))

    if late:
        ctx.write_now()
    return bool(late)


def _is_late_restore(line: Undo) -> bool:
    return line.kind == "Restore" and line.state == "Failed" and not line.again
