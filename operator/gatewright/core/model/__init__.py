"""What decisions are made of: the Release as it is, what was observed, and what is to be done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gatewright.api.release import Check, ReleaseSpec
from gatewright.api.status import ReleaseStatus
from gatewright.core.checks.window import Rule, Verdict
from gatewright.core.model.view import View

UNPINNED_FIELDS = ("notify", "suspend", "supersede", "adopt")
"""Fields of the spec that count at once, also within a run: they are no part of what it pins."""


@dataclass(frozen=True, slots=True)
class PinnedSpec:
    """What a run pinned: the spec as written, and the names its references stand for."""

    spec: ReleaseSpec
    names: Mapping[str, str]
    earlier: tuple[Operation, ...] = ()
    """What the run had done by an earlier body, before a Retry pinned this one.

    A rollback undoes that, too."""
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Operations that were derived from it, by key: every pass asks for all of them again."""

    def pinned(self) -> dict[str, Any]:
        """Return the body as a ControllerRevision keeps it."""
        body: dict[str, Any] = {"spec": _dump_spec(self.spec), "names": dict(self.names)}
        if self.earlier:
            body["earlier"] = [
                {
                    "key": operation.key,
                    "kind": operation.kind,
                    "subject": operation.subject,
                    "config": operation.config,
                }
                for operation in self.earlier
            ]
        return body

    def hash(self) -> str:
        """Return 128 bits over the pinned body, without what counts at once."""
        return fingerprint({"spec": pinned_fields_of(self.spec), "names": dict(self.names)})


def hash_spec(spec: ReleaseSpec) -> str:
    """Return 128 bits over what a run would pin of a spec."""
    return fingerprint(pinned_fields_of(spec))


def pinned_fields_of(spec: ReleaseSpec) -> dict[str, Any]:
    """Return what a run pins of a spec, as JSON."""
    fields = _dump_spec(spec)
    for name in UNPINNED_FIELDS:
        fields.pop(name, None)
    return fields


def _dump_spec(spec: ReleaseSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


@dataclass(frozen=True, slots=True)
class Operation:
    """One side effect.

    Doing it twice is prevented by `id`, which what it makes or changes carries.
    """

    key: str
    kind: Literal["apply", "set", "restore", "act", "job", "stop", "ask"]
    subject: str
    config: Any = None
    since: str | None = None
    """When its step or line began, RFC 3339.

    What the world said before that decides nothing about it."""
    changes: tuple[Operation, ...] = ()
    """For `restore`: what the run did to the subject (`apply`, `set`), in order.

    Only that goes back."""
    restart: bool = False
    """For `apply` and `restore`: what is deployed starts anew, even if it has not changed."""

    @property
    def id(self) -> str:
        """Kind, key and subject: unique within the Release."""
        return f"{self.kind}:{self.key}:{self.subject}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is.

    Unknown: not looked yet. Absent: looked, and it was never started. Refused: the last try was
    refused, and will be made again after a while.
    """

    state: Literal["Unknown", "Absent", "Running", "Succeeded", "Failed", "Refused"]
    message: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    stuck: bool = False
    """It runs, but the message says what keeps it from ending (an image that cannot be pulled)."""
    hopeless: bool = False
    """What keeps it from ending cannot heal by itself (an invalid image name).

    It may fail before its time is over."""
    unread: str = ""
    """It has succeeded, but what it published cannot be known, and why (its pod is gone)."""
    notable: bool = False
    """The message is for people although nothing is wrong.

    It says which way back is taken and why, or what is different now."""
    overwritten: bool = False
    """It was done, and others have changed that since.

    A restore is made once more after a while."""
    missing: bool = False
    """It has failed because what it works on is not there.

    On the way back it is tried again, as others may make it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A check that is to be asked at its interval."""

    path: str
    check: Check
    provider: str
    config: Any
    rule: Rule
    breaching_since: str | None = None
    """Since when its status line says Breaching; to rebuild its window after a restart."""


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
class Needs:
    """What must be known before the next decision.

    Subjects map to the configuration that finds them.
    """

    body: bool = False
    live_states: Mapping[str, Any] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()
    measures: tuple[Measure, ...] = ()
    holdings: tuple[Holding, ...] = ()
    snapshots: bool = False
    """Whether what the run has recorded may be recorded anew.

    It is with another snapshot, or with an edited body."""
    connections: bool = False
    """Whether a run may begin now, so that its Connections have to be found."""
    author: bool = False
    """Whether the spec may begin to count now.

    Its author must have been asked for the rights it uses."""


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


@dataclass(slots=True)
class Decision:
    """What is to be done.

    It is done in this order: prepare (finalizer, revision), one status write, effects, cleanup.
    """

    status: ReleaseStatus
    add_finalizer: bool = False
    revision: Revision | None = None
    operations: list[Operation] = field(default_factory=list)
    remove_finalizer: bool = False
    """Take the finalizer away, after the write."""
    prune_revisions: bool = False
    """ControllerRevisions that nothing in the status needs any more may go."""
    events: list[KubernetesEvent] = field(default_factory=list)
    requeue_at: datetime | None = None
    urgent: bool = False
    """A rollback: goes before everything else."""
    deferrable: bool = True
    """Nothing depends on this write: it may wait a moment for the next transition."""


def short_fingerprint(value: Any) -> str:
    """Return ten hex digits over a JSON value, whatever the order of its keys.

    They are enough for a name, not where equality decides.
    """
    return fingerprint(value)[:10]


def fingerprint(value: Any) -> str:
    """Return 128 bits (32 hex digits) over a JSON value, whatever the order of its keys.

    Nobody makes two values with the same.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def content_fingerprint(uid: str, data: Mapping[str, Any]) -> str:
    """Return what the name of a ControllerRevision ends with.

    It stands for its Release and its content, before and after storage.
    """
    return fingerprint([uid, as_stored(dict(data))])


def as_stored(value: Any) -> Any:
    """Return a JSON value as the API server writes it: a whole number has no fraction."""
    if isinstance(value, Mapping):
        return {key: as_stored(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_stored(entry) for entry in value]

    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value
