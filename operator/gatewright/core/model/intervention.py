"""What a person asks of a Release."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.api.intervention import Action
from gatewright.core.text.lines import one_line

URGENT_ACTIONS = ("Rollback", "Abort")
"""What overtakes everything else that people ask for: the way back waits for no queue."""


@dataclass(frozen=True, slots=True)
class Intervention:
    """An Intervention as admission let it in.

    Who asks, and the groups it shows, are proved, unless there is a doubt.
    """

    uid: str
    name: str
    action: Action
    by: str
    run: int | None = None
    stage: str | None = None
    step: str | None = None
    gate: str | None = None
    follow_up: str | None = None
    spec_hash: str | None = None
    """The spec that was looked at; None: whichever is there."""
    to: str | None = None
    """The promoted version that a Rollback at rest returns to."""
    to_run: int | None = None
    """The same by the number of its run."""
    with_database: bool = False
    """Whether a Rollback at rest runs compensations."""
    procedure: str | None = None
    """The procedure to run, or the one under way."""
    undo: bool = False
    """Whether a Run takes the procedure back."""
    confirmed: str | None = None
    """What the procedure asks to be repeated."""
    groups: frozenset[str] = frozenset()
    reason: str = ""
    doubt: str = ""
    """Why nobody can know whose act it is."""
    made: tuple[str, int] = ("", 0)
    """When it was made (RFC 3339), and the resourceVersion that orders those of one second."""

    @property
    def urgent(self) -> bool:
        """Return whether it overtakes those that were asked before it."""
        return self.action in URGENT_ACTIONS

    @property
    def attribution(self) -> str:
        """Who, and why if it is said.

        It is one line, so that nobody can write a line of the log in another's name.
        """
        reason = one_line(self.reason)
        return f"{self.by}: {reason}" if reason else self.by
