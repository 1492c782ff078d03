"""What was found out before a decision: how the world is now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gatewright.core.checks.window import Verdict
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
class Delivery:
    """A notice was delivered to a channel, or never will be."""

    handle: str | None = None
    """What is to be known when the next one of the same run is sent there."""
    failed: str = ""
    """Why it will not be delivered."""


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
    kept: Mapping[str, PinnedSpec | None] = field(default_factory=dict)
    """What ControllerRevisions keep that follow-ups of earlier runs need, by name.

    None for one that is gone."""
    looking: str = ""
    """What was to be looked at and is not seen yet, where that takes its time, and why."""
