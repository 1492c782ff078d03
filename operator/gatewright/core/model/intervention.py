"""What a person asks of a Release."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.api.intervention import Action


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
    groups: frozenset[str] = frozenset()
    reason: str = ""
    doubt: str = ""
    """Why nobody can know whose act it is."""

    @property
    def attribution(self) -> str:
        """Who, and why if it is said.

        It is one line, so that nobody can write a line of the log in another's name.
        """
        printable = "".join(char if char.isprintable() else " " for char in self.reason)
        reason = " ".join(printable.split())
        return f"{self.by}: {reason}" if reason else self.by
