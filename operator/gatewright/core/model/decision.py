"""What comes out: the new status, and what is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gatewright.api.status import ReleaseStatus
from gatewright.core.fingerprints import content_fingerprint
from gatewright.core.model.operation import Operation
from gatewright.core.model.view import View


@dataclass(frozen=True, slots=True)
class Revision:
    """A ControllerRevision to be made.

    Its name holds the hash of its content, so that nobody can put another one there.
    """

    name: str
    data: Mapping[str, Any]

    @classmethod
    def named(cls, view: View, kind: str, data: Mapping[str, Any]) -> Revision:
        """Return the revision of a Release that keeps this content: `NAME-KIND-HASH`."""
        return cls(f"{view.name}-{kind}-{content_fingerprint(view.uid, data)}", data)


@dataclass(frozen=True, slots=True)
class KubernetesEvent:
    """An Event: one a transition."""

    reason: str
    message: str
    warning: bool = False
    guard: str = ""
    """The guard that it tells of."""


@dataclass(slots=True)
class Decision:
    """What is to be done.

    It is done in this order: prepare (finalizer, revision), one status write, effects, cleanup.
    """

    status: ReleaseStatus
    add_finalizer: bool = False
    revision: Revision | None = None
    procedure_revision: Revision | None = None
    """The same for a procedure that begins beside a run, or while there is none."""
    begins: bool = False
    """A run begins, or goes on that had ended: its targets are claimed."""
    taken_up: Revision | None = None
    """A revision that is there already, and that the run goes on with."""
    add_finalizer_beside: bool = False
    """Add the finalizer beside the effects: on the way back nothing waits for it."""
    operations: list[Operation] = field(default_factory=list)
    remove_finalizer: bool = False
    """Take the finalizer away, after the write."""
    prune_revisions: bool = False
    """ControllerRevisions that nothing in the status needs any more may go."""
    events: list[KubernetesEvent] = field(default_factory=list)
    requeue_at: datetime | None = None
    rolls_back: bool = False
    """Decided on the way back: how long its write took to come is measured."""
    deferrable: bool = True
    """Nothing depends on this write: it may wait a moment for the next transition."""

    @property
    def run_revision(self) -> Revision | None:
        """Return the revision that is made now, else the one that is taken up."""
        return self.revision or self.taken_up
