"""What was found out before a decision: how the world is now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gatewright.core.checks.window import Verdict
from gatewright.core.model.freeze import Freeze
from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Progress
from gatewright.core.model.pinned_spec import PinnedSpec


@dataclass(frozen=True, slots=True)
class LiveState:
    """A subject as it is now.

    Its snapshot, whether it has the wanted version, and which version it has.
    """

    snapshot: Mapping[str, Any] | None
    matches: bool = False
    version: str | None = None
    problem: str | None = None
    unready: str = ""
    """It has the wanted version, but does not run it yet, and why.

    It is not taken over before it does."""
    restore_hint: str = ""
    """How a rollback would return it, where its snapshot alone does not say that."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice was delivered to a channel, or never will be."""

    handle: str | None = None
    """What is to be known when the next one of the same run is sent there."""
    failed: str = ""
    """Why it will not be delivered."""
    said: str = ""
    """What was done, where it was a test."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was found.

    A failure is a value too: a Progress, a Verdict or a LiveState that says so.
    """

    now: datetime
    body: PinnedSpec | None = None
    live_states: Mapping[str, LiveState] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """By subject; one that is missing was not looked at yet."""
    resting: Mapping[str, Any] | None = None
    """At rest: what was promoted or left, by subject; None while nobody has read it yet."""
    snapshots: Mapping[str, Any] | None = None
    """What the run under way has recorded so far, by subject; None where nobody has asked."""
    promoted: Mapping[str, Any] = field(default_factory=dict)
    """Snapshots of the last promotion, by subject: what captured configuration returns to."""
    stayed: Collection[str] = ()
    """What a rollback has left as somebody had changed it, since that promotion.

    It does not return to what it was there."""
    unconnected: tuple[str, ...] = ()
    """What is wrong with the Connections that a run would use, each with path and remedy."""
    connections: Mapping[str, Any] = field(default_factory=dict)
    """The Connections that a run would use, as its ControllerRevision keeps them."""
    no_room: str = ""
    """Why the operator has no memory for another run of the namespace."""
    procedure_rival: str | None = None
    """Whose run or procedure has what the procedure that somebody asks for changes."""
    procedure_at_work: bool = False
    """Whether the procedure under way has something that a run of the spec as it is now would have
    to itself."""
    freezes: Sequence[Freeze] = ()
    """At rest: the Freezes of the namespace."""
    rival: str | None = None
    """Another Release whose run has one of our targets."""
    doubt: str = ""
    """Why nobody can know whether authors are asked for the rights they use, and what to do."""
    unwatched: float = 0.0
    """Seconds in which no operator watched, not yet accounted for."""
    inherited: Mapping[str, Any] | None = None
    """Snapshots of an earlier run whose rollback failed.

    What is live now is not to be returned to."""
    lost: str = ""
    """Why these cannot be read any more; empty where they can, or are not needed."""
    delivered: Mapping[tuple[str, str], Delivery] = field(default_factory=dict)
    """What became of notices, by id and channel, and does not stand in the status yet."""
    records: Mapping[str, Mapping[str, Any] | str] = field(default_factory=dict)
    """Contents of ControllerRevisions of promoted runs that are to be undone, by name; where one
    cannot be read, why."""
    kept: Mapping[str, PinnedSpec | None] = field(default_factory=dict)
    """What ControllerRevisions keep that follow-ups of earlier runs need, by name.

    None for one that is gone."""
    looking: str = ""
    """What was to be looked at and is not seen yet, where that takes its time, and why."""
