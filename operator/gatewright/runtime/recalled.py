"""What is remembered of the ControllerRevisions of one Release (`runtime.recall` reads them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gatewright.api.release import ReleaseSpec
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.run import resting
from gatewright.core.spec.pinned_spec import unpin_spec


class LeftState(NamedTuple):
    """What a promotion or a rollback has left, as its ControllerRevision says."""

    name: str
    """Of the ControllerRevision; empty where there is none."""
    known: Mapping[str, Any]
    """What targets are to be."""
    stayed: frozenset[str] = frozenset()
    """What a rollback has left as somebody had changed it during its run."""


def left_state_of(name: str, data: Mapping[str, Any]) -> LeftState:
    """Return what a revision says was left.

    Raises pydantic.ValidationError, KeyError, TypeError where it cannot be read.
    """
    return LeftState(name, resting.left_subjects(data), frozenset(data.get("stayed", ())))


@dataclass(slots=True, eq=False)
class Recalled:
    """What this process remembers; all of it can be read once more.

    Others read the properties; what changes is changed by the methods.
    """

    _body: PinnedSpec | None = None
    _snapshots: Mapping[str, Any] | None = None
    _connections: Mapping[str, Any] = field(default_factory=dict)
    _left: LeftState | None = None
    _promoted: tuple[str, Mapping[str, Any]] | None = None

    @property
    def body(self) -> PinnedSpec | None:
        """The spec that the run under way, or the last one, has pinned."""
        return self._body

    @property
    def snapshots(self) -> Mapping[str, Any] | None:
        """The state of everything from before the first change; None where it was not read yet."""
        return self._snapshots

    @property
    def connections(self) -> Mapping[str, Any]:
        """Which Connections the run under way has pinned."""
        return self._connections

    @property
    def left(self) -> LeftState | None:
        """At rest: what a ControllerRevision says; None where it was not read yet."""
        return self._left

    @property
    def promoted(self) -> tuple[str, Mapping[str, Any]] | None:
        """The name of the last promotion's ControllerRevision, and its snapshots."""
        return self._promoted

    def begin_run(self, data: Mapping[str, Any], spec: ReleaseSpec | None) -> None:
        """Begin a run with what its revision keeps.

        The body shares the spec that was parsed, where it is the same.
        """
        self._body = unpin_spec(data["body"])
        self.take_run(data)
        if spec is not None and self._body.spec == spec:
            self._body = PinnedSpec(spec, self._body.names, self._body.earlier)

    def take_run(self, data: Mapping[str, Any]) -> None:
        """Remember what the revision of a run has recorded beside its body."""
        self._snapshots, self._connections = data["snapshots"], data.get("connections", {})

    def take_body(self, body: PinnedSpec | None) -> None:
        """Remember the body of the run under way; None: it has to be read anew."""
        self._body = body

    def take_left(self, left: LeftState | None) -> None:
        """Remember what was left; None: a run is under way, which may change it."""
        self._left = left

    def take_promoted(self, name: str, snapshots: Mapping[str, Any]) -> None:
        """Remember the snapshots of the last promotion."""
        self._promoted = (name, snapshots)

    def take_promotion(self, name: str, data: Mapping[str, Any]) -> None:
        """Remember a promotion: what it kept is what targets are to be from now on."""
        self._left = left_state_of(name, data)
        self.take_promoted(name, data["snapshots"])
