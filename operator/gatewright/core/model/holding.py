"""What was changed: what it is to be, and what it is now beside that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gatewright.core.model.operation import Operation


@dataclass(frozen=True, slots=True)
class Standing:
    """What a holding is now."""

    difference: str = ""
    """What it has instead of what it is to have, and who made it so (field manager, time).

    Empty where it has that."""
    unknown: str = ""
    """Why nobody can tell (no answer). Then nothing is said of it, and nothing promoted on it."""
    version: str | None = None
    """The version it has, where that can be told."""
    trouble: str = ""
    """Why what was deployed does not run, in words.

    Pods that crash, none that is available, none that is wanted."""
    troubled_since: datetime | None = None
    """When the trouble began, as far as it can be told."""
    troubled_at: datetime | None = None
    """When there was trouble last: now, or the last crash.

    None where there has been none within the window."""
    remark: str = ""
    """What people should know although nothing is wrong: no pod is wanted, so nobody runs it."""
    rolled_out: datetime | None = None
    """When the last of what was restored became ready, where that was a moment ago."""
    stays: bool = False
    """Somebody has changed it during the run, and the rollback has left it so."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Something that was changed, and what it is to be.

    That is the operations on it, in order; a `restore` stands for its snapshot.
    """

    subject: str
    config: Any
    """What finds it."""
    operations: tuple[Operation, ...]
    window: float | None = None
    """Seconds for which a crash counts as trouble: the `for` of its built-in guard.

    None where nobody watches that."""
    missing: str = ""
    """Why nobody can tell what it is to be: its deploy never began, and names what is not known."""
    unproved: bool = False
    """Its last deploy failed or was skipped.

    Nobody has seen it roll out, so that is looked at, too."""
    closely: bool = False
    """What is seen now decides an end, so that counters alone are not believed."""
