"""What a status tells of procedures that were run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gatewright.api.run import JournalEntry, Message, Model, Short, StepStatus, Time, Timer

ProcedureState = Literal["Asked", "Running", "Stopping", "Succeeded", "Failed", "Aborted"]
OPEN_PROCEDURES: tuple[ProcedureState, ...] = ("Asked", "Running", "Stopping")
"""Under way: no other one begins."""


class ProcedureStatus(Model):
    """One time that a procedure was run: under way, or over."""

    id: int
    """Counts the procedures of this Release that were run."""
    name: Short
    """Name of the procedure."""
    undo: bool = False
    """It runs what takes the procedure back."""
    state: ProcedureState
    """How far it is."""
    by: Short
    """Who runs it: a person, or `guard NAME`."""
    reason: Message | None = None
    """Why, in the words of who runs it."""
    intervention: Short | None = None
    """Name of the Intervention that asked for it; a guard asks without one."""
    startedAt: Time
    """When it began."""
    finishedAt: Time | None = None
    """When it ended."""
    failure: Message | None = None
    """Why it has failed, or who has ended it."""
    aborted: bool = False
    """A person, or the end of the Release, has ended it."""
    message: Message | None = None
    """What came of it, or what it waits for."""
    revision: Short | None = None
    """ControllerRevision with what it pinned, while it is under way."""
    steps: Annotated[list[StepStatus], Field(max_length=11)] = []
    """Its steps, in order; the approval is the first."""
    timers: Annotated[dict[str, Timer], Field(max_length=4)] = {}
    """Its clocks, by what they are for."""
    stopping: Annotated[list[JournalEntry], Field(max_length=11)] = []
    """Jobs that may still run although it has failed: it ends when they have stopped."""
