"""What each part of the shell notes about a Release: one record each, written by that part alone.

    record      written by          read by
    Claim       `runtime.claims`    `runtime.observe`, `runtime.tracking`
    PassRecord  `runtime.reconcile` whoever has to know one pass from another
    WorkRecord  `runtime.workers`   nobody else

What is known when a Release is met for the first time is given when its records are made.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Claim:
    """The targets that a run has to itself."""

    targets: frozenset[str] | None = frozenset()
    """Their API paths; None while they are not known (after a restart)."""
    procedure: frozenset[str] = frozenset()
    """What the procedure under way changes, in the same form."""
    blocked: str = ""
    """The Release that has one of its targets."""


@dataclass(slots=True, eq=False)
class PassRecord:
    """The passes over a Release."""

    turn: int = 0
    """Number of the pass under way."""
    tried: tuple[str, ...] = ()
    """UIDs of what people had asked when the last pass began: only that is answered where passes
    fail."""
    resumed: bool = False
    """The run was under way when this process took over: its windows are rebuilt where a provider
    remembers."""
    unwatched: float = 0.0
    """Seconds in which nobody acted before this process took over, until a pass has counted
    them."""


@dataclass(slots=True, eq=False)
class WorkRecord:
    """How passes over a Release go."""

    failures: int = 0
    """Passes in a row that have failed."""
    hopeless: int = 0
    """Passes in a row that have failed by what does not go away by itself."""
    restless: int = 0
    """Passes in a row after which the next one had to go on at once."""
    listed: bool = False
    """It was there when this process took over: its spec is read without waiting for a turn."""
    put_off: float | None = None
    """Since when its new spec has been waiting to be read (monotonic)."""
