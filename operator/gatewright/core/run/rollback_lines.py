"""The lines of a rollback in their order: which of them wait, and for what."""

from __future__ import annotations

from gatewright.api.status import Undo
from gatewright.core.run import states
from gatewright.core.run.context import Context
from gatewright.core.run.rollback_plan import FINISHED_LINE_STATES
from gatewright.core.run.undo_lines import (
    KEPT_BACK_PREFIX,
    advance_line,
    is_kept_back,
    unmet_requirements,
)


def describe_broken(undo: list[Undo]) -> str:
    """Return which lines have not undone what they stand for; empty where all have."""
    broken = [line for line in undo if line.state == "Failed" or is_kept_back(line)]
    return "; ".join(f"{line.subject}: {line.message}" for line in broken)


def advance_lines(ctx: Context, undo: list[Undo]) -> None:
    """Take each line one transition further, up to the first compensation that has to wait."""
    waiting, unended = False, ""
    for line in undo:
        compensates = line.kind == "Compensate"
        if compensates and line.state == "Pending" and unended:
            _keep_back(line, f"{unended} may still be going on")

        # A compensation waits until everything before it has ended.
        if compensates and line.state not in FINISHED_LINE_STATES and waiting:
            break

        unmet = unmet_requirements(ctx, line) if compensates and line.state == "Pending" else []
        if unmet:
            _keep_back(line, f"nothing has produced {', '.join(unmet)}")

        if line.state not in FINISHED_LINE_STATES:
            advance_line(ctx, line)
        if line.unended and not unended:
            unended = line.subject
        if line.state in FINISHED_LINE_STATES:
            continue

        # Restores do not wait for each other; a compensation may be at work on the same thing.
        waiting = True
        if compensates:
            break


def _keep_back(line: Undo, reason: str) -> None:
    states.move(line, "Skipped")
    line.message = f"{KEPT_BACK_PREFIX}: {reason}"
