"""What this process remembers of a Release between two passes.

All of it can be lost at any moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from gatewright.api import FINALIZER
from gatewright.api.release import ReleaseSpec
from gatewright.api.status import ReleaseStatus, dump
from gatewright.core.model.observation import Delivery
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.spec.selectors import known_labels
from gatewright.providers.workload import rollout
from gatewright.runtime.cluster.outline import MAX_FINALIZERS, MAX_STATUS_BYTES
from gatewright.runtime.lookups import HoldingWatch, Inspection, RestingConfig
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.parse import (
    FindRunbook,
    WrittenSpec,
    status_of,
    view_of,
    written_spec_of,
)
from gatewright.runtime.recalled import LeftState, Recalled
from gatewright.runtime.records import Claim, PassRecord, WorkRecord
from gatewright.runtime.runbooks import Runbooks
from gatewright.runtime.status_record import StatusRecord

Key = tuple[str, str]
KEPT_METADATA = ("namespace", "name", "uid", "resourceVersion", "generation", "deletionTimestamp")

REPLICA_COUNTS = (
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
)


@dataclass(slots=True, eq=False)
class TrackedRelease:
    """One Release: the newest object, the status as it stands there, and the status we work on."""

    key: Key
    obj: dict[str, Any]
    status: StatusRecord
    recalled: Recalled = field(default_factory=Recalled)
    claim: Claim = field(default_factory=Claim)
    passes: PassRecord = field(default_factory=PassRecord)
    work: WorkRecord = field(default_factory=WorkRecord)
    operations: dict[str, OperationState] = field(default_factory=dict)
    """By id. Each is begun by `runtime.starting` or `execution.externals`, and followed by
    `runtime.progress` or the same."""
    deliveries: dict[tuple[str, str], Delivery] = field(default_factory=dict)
    """What became of notices, by id and channel, until the status says so
    (`telling.notifications`)."""
    kept: dict[str, PinnedSpec | None] = field(default_factory=dict)
    """What follow-ups of earlier runs measure, by ControllerRevision; None for one that is gone
    (`runtime.followups`)."""
    prints: dict[str, Any] = field(default_factory=dict)
    """What was known of each object that is held when it was compared: its news matter only if that
    changes (`execution.standings`)."""
    resting_configs: dict[str, RestingConfig] = field(default_factory=dict)
    """By path: captured ConfigMaps, at rest (`execution.resting_configs`, `runtime.runtime`)."""
    lookers: dict[str, HoldingWatch] = field(default_factory=dict)
    """By subject outside the cluster (`execution.standings`)."""
    glances: dict[str, Inspection] = field(default_factory=dict)
    """By subject outside the cluster: looks before a run, a first change, a promotion
    (`execution.live_states`)."""
    leaving: dict[str, list[asyncio.Task[None]]] = field(default_factory=dict)
    """By subject outside the cluster: requests of operations that are not wanted any more, and have
    not ended yet (`execution.externals`)."""
    terminating: bool = False
    """Its namespace is being deleted: nothing can be made there any more (`runtime.starting`)."""
    tampered: bool = False
    """Its status cannot be read."""
    many_finalizers: bool = False
    """There are more finalizers than are remembered; `obj` says only whether ours is among them."""
    find_runbook: FindRunbook = lambda name: None
    """Returns a Runbook of its namespace by its name."""
    _spec: WrittenSpec = field(default_factory=WrittenSpec)
    _paced: tuple[Any, ...] = ()
    _parsed: tuple[int, ReleaseSpec | None, tuple[str, ...]] | None = None
    _read: tuple[dict[str, Any], ReleaseStatus] | None = None
    """A status, and the model of it."""

    @classmethod
    def of(
        cls, obj: dict[str, Any], listed: bool = False, unwatched: float = 0.0
    ) -> TrackedRelease:
        """From an object that was read for the first time.

        `listed`: it was there when this process took over, after `unwatched` seconds in which
        nobody acted.
        """
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        status = _status_of(obj)
        entry = cls(key, {}, StatusRecord.of(status), work=WorkRecord(listed=listed))
        entry._keep_object(obj["metadata"], status)
        entry._spec = written_spec_of(obj)

        run = status.get("run")
        if isinstance(run, dict) and not run.get("outcome"):
            # The clocks of a run that was under way leave out the time in which nobody acted.
            entry.passes = PassRecord(resumed=True, unwatched=unwatched)
            entry.claim = Claim(targets=None)

        return entry

    @property
    def persisted(self) -> dict[str, Any]:
        """The status that the API server holds."""
        return self.status.persisted

    @property
    def working(self) -> dict[str, Any]:
        """The status that was decided, written or not."""
        return self.status.working

    @property
    def body(self) -> PinnedSpec | None:
        """The spec that the run under way, or the last one, has pinned."""
        return self.recalled.body

    @property
    def connections(self) -> Mapping[str, Any]:
        """Which Connections the run under way has pinned."""
        return self.recalled.connections

    @property
    def left(self) -> LeftState | None:
        """At rest: what a promotion or a rollback has left."""
        return self.recalled.left

    @property
    def turn(self) -> int:
        """Number of the pass under way."""
        return self.passes.turn

    @property
    def version(self) -> int:
        """The object's resourceVersion as a number."""
        return int(self.obj["metadata"]["resourceVersion"])

    @property
    def generation(self) -> int:
        """Of the spec that the next view is made of."""
        return self._spec.generation

    @property
    def phase(self) -> str:
        """Of the run under way, or of the last one; empty where there was none."""
        return str((self.working.get("run") or {}).get("phase") or "")

    @property
    def is_waiting(self) -> bool:
        """Whether an operation is under way, so that news of an object may matter."""
        return any(
            operation.progress.state not in ("Succeeded", "Failed")
            for operation in self.operations.values()
        )

    def is_concerned_by(self, path: str, kind: str, obj: Mapping[str, Any]) -> bool:
        """Return whether news of an object may matter.

        They do while an operation is under way, and when what is held has changed.
        """
        # While an operation is under way, any news may be what it waits for.
        if self.is_waiting:
            return True
        return path in self.prints and self.prints[path] != fingerprint_parts(
            obj if kind != "DELETED" else None, self.body is None
        )

    def take_newer(self, obj: dict[str, Any]) -> bool:
        """Take over a newer object; return False if it is not newer.

        A status that somebody else wrote replaces ours.
        """
        # A watch and a read may tell of one object in either order.
        if int(obj["metadata"]["resourceVersion"]) <= self.version:
            return False

        status = obj.get("status") or {}

        # What it was decided upon, and what was read for it, belongs to the status that is gone.
        if not self.status.is_known(status):
            status = _status_of(obj)
            self.status.replace(status)
            self.recalled.take_body(None)

        # An echo of our own write shares its memory with what is kept already.
        self._keep_object(obj["metadata"], self.persisted if status == self.persisted else status)

        if self._spec.generation != obj["metadata"].get("generation", 0):
            self._spec = written_spec_of(obj)

        return True

    def record_write(self, metadata: dict[str, Any], status: dict[str, Any] | None = None) -> None:
        """Take over the answer to our own write; a watch may have told of a later one already."""
        self.status.record_write(metadata["resourceVersion"], status)
        if int(metadata["resourceVersion"]) >= self.version:
            self._keep_object(metadata, self.persisted)

    def _keep_object(self, metadata: Mapping[str, Any], status: dict[str, Any]) -> None:
        """Keep what passes need of an object, and no more.

        There may be thousands, and whoever writes one may have put anything there.
        """
        meta = {name: metadata[name] for name in KEPT_METADATA if name in metadata}
        finalizers = metadata.get("finalizers") or []
        self.many_finalizers = len(finalizers) > MAX_FINALIZERS

        if finalizers:
            meta["finalizers"] = [
                name for name in finalizers if not self.many_finalizers or name == FINALIZER
            ]

        if "labels" in metadata:
            meta["labels"] = known_labels(metadata["labels"])

        self.obj = {"metadata": meta, "status": status}

    @property
    def unchecked(self) -> bool:
        """Whether nobody has read its spec yet."""
        return self._spec.problems is None

    def parsed(self) -> tuple[int, ReleaseSpec | None, tuple[str, ...]]:
        """Return its generation, spec and problems.

        It is checked once a generation, and the model is kept while it is used.
        """
        generation = self._spec.generation
        if self._parsed is None or self._parsed[0] != generation:
            self._parsed = (generation, *self._spec.read(self.find_runbook))
        return self._parsed

    def names_runbook(self, name: str) -> bool:
        """Return whether its spec has its body from that Runbook."""
        return self._spec.runbook == name

    def forget_check(self) -> None:
        """Have its spec checked anew, since its Runbook is another one."""
        self._spec.forget_check()
        self._parsed = None

    def view(self) -> View:
        """Return the Release as the core sees it."""
        _, spec, problems = self.parsed()
        self.status.decide_upon(self.obj["metadata"]["resourceVersion"])
        if self._read is None or self._read[0] is not self.working:
            status = status_of(self.working)
            self.tampered = status is None
            self._read = (self.working, status or ReleaseStatus())
        return view_of(self.obj, spec, problems, self._read[1], self._spec.used)

    def rest(self) -> None:
        """Drop the models of a Release at rest, after a pass.

        They take ten times the memory of what they were read from.
        """
        run = self.working.get("run") or {}
        is_over = not run or bool(run.get("outcome"))
        if not self.status.is_unwritten and is_over and self.working.get("state") != "Waiting":
            self._parsed = self._read = None

    def pace(self) -> float:
        """Return the seconds before the next pass that only time asks for.

        A Release that stands still is looked at once a second.
        """
        now = (self.status.basis, self.status.flush_at)
        changed = self._paced != now
        self._paced = now
        return 0.001 if changed else 1.0

    def take_decided(self, status: ReleaseStatus) -> bool:
        """Take over a decided status; True if it differs from the one before."""
        new = dump(status)
        if not self.status.take_decided(new):
            return False
        self._read, self.tampered = (new, status), False
        return True

    def begin_run(self, data: Mapping[str, Any]) -> None:
        """Begin a run with what its revision keeps."""
        self.recalled.begin_run(data, self._parsed[1] if self._parsed is not None else None)


class TrackedReleases(MutableMapping[Key, TrackedRelease]):
    """All Releases of this process, by namespace: what happens in one costs no look at another."""

    def __init__(self, runbooks: Runbooks | None = None) -> None:
        self._runbooks = runbooks or Runbooks()
        self._all: dict[Key, TrackedRelease] = {}
        self._here: dict[str, dict[Key, TrackedRelease]] = {}

    def of(self, namespace: str) -> list[TrackedRelease]:
        """Return those of one namespace."""
        return list(self._here.get(namespace, {}).values())

    def __getitem__(self, key: Key) -> TrackedRelease:
        return self._all[key]

    def __setitem__(self, key: Key, entry: TrackedRelease) -> None:
        self._all[key] = entry
        entry.find_runbook = partial(self._runbooks.find, key[0])
        self._here.setdefault(key[0], {})[key] = entry

    def __delitem__(self, key: Key) -> None:
        del self._all[key]
        here = self._here[key[0]]
        del here[key]
        if not here:
            del self._here[key[0]]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


def fingerprint_parts(obj: Mapping[str, Any] | None, at_rest: bool) -> Any:
    """Return what of a workload matters to whoever holds it.

    That is what it is to be, whether all its pods are that, and within a run how many of them
    serve.
    """
    if obj is None:
        return None

    meta, status = obj["metadata"], obj.get("status", {})
    same = (meta.get("uid"), meta.get("generation") or meta.get("resourceVersion"))

    if at_rest:
        return same, rollout.is_unseen(obj), rollout.is_mixed(obj)

    return same, status.get("observedGeneration"), [status.get(name) for name in REPLICA_COUNTS]


def _status_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status; of one that the operator cannot have written, only what says so.

    What is left in its place cannot be read as a status.
    """
    status = obj.get("status") or {}
    try:
        used = len(orjson.dumps(status))
    except TypeError:
        # Nested deeper than can be written.
        return {"runs": "a status that cannot be written"}

    if used <= MAX_STATUS_BYTES:
        return dict(status)

    unreadable = {"runs": f"a status of {used} bytes"}

    # Whoever mends it should find the conditions that stood there.
    outline = unreadable | {"conditions": status.get("conditions")}
    return outline if len(orjson.dumps(outline)) <= MAX_STATUS_BYTES // 16 else unreadable
