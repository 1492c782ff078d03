"""A Freeze: while it is in force no run starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gatewright.api.freeze import LabelSelector


@dataclass(frozen=True, slots=True)
class Freeze:
    """A Freeze of the Release's namespace."""

    name: str
    reason: str
    until: datetime | None
    """When it ends; None where that cannot be read, so that somebody has to look."""
    by: str | None = None
    """Who freezes, proved by admission."""
    selector: LabelSelector = field(default_factory=LabelSelector)
    exceptions: frozenset[str] = frozenset()
