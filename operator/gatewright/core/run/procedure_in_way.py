"""The way back waits for no procedure: one that is at work on what is to be returned is ended."""

from __future__ import annotations

from collections.abc import Iterable

from gatewright.core.model.intervention import Intervention
from gatewright.core.run.context import Context, NotYet, Refused
from gatewright.core.run.procedure_obstacles import procedure_in_way
from gatewright.core.run.procedures import stop_procedure


def end_procedure_in_way(ctx: Context, act: Intervention, subjects: Iterable[str]) -> None:
    """End the procedure that is at work on what is to be returned.

    Raises NotYet until it has ended, and Refused where nobody can end it.
    """
    row = procedure_in_way(ctx, subjects)
    if row is None:
        return

    stop_procedure(ctx, row, f"Rollback by {act.attribution}; what it changes is returned")
    if row.state == "Running":
        raise Refused(
            f"procedure {row.name} by {row.by} is at work on what is to be returned, and what it "
            "has pinned cannot be read; wait for its end"
        )
    raise NotYet
