"""What the shell and the providers promise each other.

A provider is one file: its configuration model, the RBAC it needs, and one coroutine. It gets what
it needs as arguments, and says how things went by an Answer, a LiveState or a Progress; what goes
wrong is Retryable (nobody knows: a time-out, 429, 5xx) or Permanent (asking again cannot help: 401,
404, a bad query). Neither is ever a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel

from gatewright.core.hash_key import HashKey
from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.permissions import AuthorPermission


class Retryable(Exception):
    """Nobody knows how it went, or it did not go now; asking again may help. The message holds no
    secret.

    `after` is the number of seconds that whoever refused wants us to wait.
    """

    after: float = 0.0
    handle: str | None = None
    """What a notifier has opened before it failed."""


class Permanent(Exception):
    """Asking again cannot help; the message says what would be right, and holds no secret."""


class NotFound(Permanent):
    """The object is not there."""


class Conflict(Retryable):
    """The object has changed since it was read, or exists already."""


@dataclass(frozen=True, slots=True)
class Access:
    """One RBAC rule that a part needs in the namespaces of Releases; no wildcards."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    """The only objects that it is needed for; none: all of them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A measured value: a number in base units (seconds, a ratio), or a plain yes or no; None where
    there is no data."""

    value: float | bool | None
    message: str = ""


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A Connection, ready to be used: its checked configuration, and the Secret values it refers
    to.

    `identity` changes when the Connection or one of its Secrets does; clients are kept by it.
    """

    name: str
    identity: str
    config: Any
    timeout: float
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)
    namespace: str = ""
    """Whose it is: address rules and shares are those of a namespace."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps something from getting on, in the words of whoever says so."""

    message: str
    hopeless: bool = False
    """It cannot heal by itself: an invalid image name, a key that is not there. Waiting for room or
    for a pull can."""


class Connector(Protocol):
    """A kind of Connection: the model of its configuration, and a cheap credential check."""

    config: ClassVar[type[BaseModel]]

    async def check(self, link: OpenConnection) -> None:
        """Whether the system answers and the credentials work. Raises Retryable, Permanent."""
        ...


class Gate(Protocol):
    """A kind of measurement."""

    config: ClassVar[type[BaseModel]]
    connection: ClassVar[str]
    """Provider key of the Connection it asks; `config.connection` names one, else the namespace's
    only one is implied."""
    limits: ClassVar[Literal["required", "optional"]]
    """Whether a check of this kind means anything without max or min."""

    def unit(self, config: Any) -> Literal["seconds", "ratio", "number", "boolean"] | None:
        """What the measured value is, so that a limit in another unit can be refused; None where
        nobody can tell."""
        ...

    async def measure(self, config: Any, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        ...

    async def history(
        self, config: Any, link: OpenConnection, start: float, end: float, step: float
    ) -> Sequence[tuple[float, Answer]]:
        """Answers of the past (Unix time), to rebuild a window after a restart; empty where there
        is no such thing."""
        ...


Keep = Callable[[dict[str, Any]], "dict[str, Any] | None"]


def keep_whole_object(obj: dict[str, Any]) -> dict[str, Any]:
    """Nothing of an object is left out."""
    return obj


class Cluster(Protocol):
    """The API server, in plain dicts. Paths are relative to the server:
    `/apis/apps/v1/namespaces/a/deployments/b`."""

    async def get(self, path: str) -> dict[str, Any]:
        """Read. Raises NotFound, Retryable, Permanent."""
        ...

    async def managed(self, path: str) -> dict[str, Any]:
        """Read afresh, `metadata.managedFields` included: who set what, and when. Raises NotFound,
        Retryable, Permanent."""
        ...

    async def list(
        self, path: str, selector: str = "", fields: str = "", *, keep: Keep = keep_whole_object
    ) -> list[dict[str, Any]]:
        """Read many, by label selector and field selector: of each what `keep` makes of it; None is
        left out.

        Anybody may give his objects a label, and make them large: `keep` has to choose by the
        owner. Raises Retryable, Permanent, also where what is kept is too much.
        """
        ...

    async def tail(self, path: str, limit: int) -> str:
        """The last `limit` bytes of a text, such as a pod's log. Raises NotFound, Retryable,
        Permanent."""
        ...

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create. Raises Conflict where it exists already, Retryable, Permanent."""
        ...

    async def patch(
        self, path: str, body: Any, kind: Literal["json", "merge", "strategic"]
    ) -> dict[str, Any]:
        """Change. Raises NotFound, Conflict, Retryable, Permanent."""
        ...

    async def delete(self, path: str, selector: str = "", uid: str = "") -> None:
        """Delete one object (only that of `uid`, where given), or by selector a collection;
        background propagation. Gone already is fine. Raises Conflict where another object has its
        name, Retryable, Permanent."""
        ...

    async def hash_key(self) -> HashKey:
        """The key of the hashes by which captured Secrets are known again. Raises Retryable;
        Permanent where it can neither be read nor made."""
        ...


class Target(Protocol):
    """A kind of thing that has a version."""

    config: ClassVar[type[BaseModel]]
    access: ClassVar[Sequence[Access]]
    author: ClassVar[Sequence[AuthorPermission]]
    """What is asked of a Release's author: whatever `access` writes that is not the operator's own
    record."""

    def paths(self, namespace: str, config: Any) -> Sequence[str]:
        """API paths of the objects whose changes tell how far it is; the shell watches them."""
        ...

    async def look(self, cluster: Cluster, namespace: str, config: Any) -> LiveState:
        """Its snapshot, and whether it has what `config` wants. A target that is not there is a
        LiveState with a problem."""
        ...

    async def perform(
        self,
        cluster: Cluster,
        namespace: str,
        config: Any,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Start `apply`, `set` or `restore`, marked with the operation's key. Raises Retryable,
        Permanent.

        `restore` is as wide as `operation.changes`: what others changed meanwhile stays, and is
        named in the Progress.
        """
        ...

    async def follow(
        self,
        cluster: Cluster,
        namespace: str,
        config: Any,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """How far it is. Succeeded only where the object has what the operation wants, and runs;
        Absent where it does not carry the operation's key. Conditions older than `operation.since`
        decide nothing. Raises Retryable, Permanent."""
        ...

    async def compare(
        self,
        cluster: Cluster,
        namespace: str,
        config: Any,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
        window: float | None,
        closely: bool = False,
    ) -> Standing:
        """What it is now, beside what the operations want of it, taken together in their order; a
        `restore` among them stands for the snapshot. With `window`, also whether it runs: crashes
        within so many seconds are trouble. Answers from what is known; asks more only where
        something is wrong, or `closely`, where an end hangs on it. Raises Retryable, Permanent."""
        ...

    async def trouble(self, cluster: Cluster, namespace: str, config: Any) -> Trouble | None:
        """What keeps it from getting on, where that can be seen; asked seldom, and only while it
        does not end."""
        ...


class External(Protocol):
    """Something outside the cluster that a step changes: a hosted target, flags, a mark, a restore.

    Nothing outside the cluster can be watched, so it is looked at every `interval` seconds while an
    operation is under way. Every method may be called again after a crash at any point: `perform`
    first looks for what an earlier try with the same `operation.key` began, wherever the vendor has
    a place for the key (meta, comment, idempotency header).
    """

    config: ClassVar[type[BaseModel]]
    connection: ClassVar[str]
    """Provider key of the Connection it works through; `config.connection` names one, else the
    namespace's only one."""
    interval: ClassVar[float]
    """Seconds between two looks while an operation is under way."""

    def identity(self, config: Any) -> str:
        """What it owns over there, a line each, within its Connection: two runs that own the same
        line exclude each other."""
        ...

    async def look(self, config: Any, link: OpenConnection) -> LiveState:
        """Its state now, for the snapshot that `restore` returns to; a Sight without one where
        nothing can be restored.

        What keeps the configured thing from being used (no such project) is the Sight's problem.
        Raises Retryable, Permanent.
        """
        ...

    async def perform(
        self,
        config: Any,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Start `apply` (a target), `set` (flags), `act` (anything else) or `restore`. Raises
        Retryable, Permanent."""
        ...

    async def follow(
        self,
        config: Any,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """How far it is; Absent where there is no trace of the operation's key. Raises Retryable,
        Permanent."""
        ...

    async def compare(
        self,
        config: Any,
        link: OpenConnection,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
    ) -> Standing:
        """What it is now, beside what the operations want of it, taken together in their order; a
        `restore` among them stands for the snapshot. Asked at the guards' interval. Raises
        Retryable, Permanent."""
        ...

    async def trouble(self, config: Any, link: OpenConnection, operation: Operation) -> str | None:
        """Why it failed or does not get on (the tail of a build log), where that can be seen.
        Raises Retryable, Permanent."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told about a run."""

    key: str
    """The same for every repetition of this message, so that a receiver can drop the second one."""
    thread: str
    """The same for all messages of a run: `NAMESPACE/NAME/UID/RUN`."""
    event: str
    """What happened: Started, StagePassed, StageFailed, ApprovalNeeded, RollingBack, RolledBack,
    RollbackFailed, Completed ..."""
    severity: Literal["critical", "error", "warning", "info"]
    title: str
    """One line: release, version, state."""
    text: str
    """Why, and what is waited for."""
    lines: tuple[str, ...] = ()
    """The stage table, a line a stage."""
    over: bool = False
    """The run has ended: what was opened for it is closed."""
    downtime: float = 0.0
    """Seconds for which a guard or gate on health has been failing; 0 while users are served."""
    returning: Literal["", "RollingBack", "Verifying"] = ""
    """How far a rollback of the run is by now."""
    check: str = ""
    """The check that it is about, where it is about one."""
    failing: tuple[str, ...] = ()
    """Checks that go on failing although the run is over."""
    at: str = ""
    """When it happened, RFC 3339."""
    again: bool = False
    """It may have arrived already: an earlier try was not answered, or a crash came between."""


class Notifier(Protocol):
    """A way to tell people."""

    config: ClassVar[type[BaseModel]]
    connection: ClassVar[str]
    """Provider key of the Connection it sends through."""

    async def send(
        self, config: Any, link: OpenConnection, message: Message, handle: str | None
    ) -> str | None:
        """Tell, once more if need be. `handle` is what the last message of the same thread returned
        (a Slack message to edit, an incident to update); it is kept for the next one. Raises
        Retryable, Permanent."""
        ...

    async def test(self, config: Any, link: OpenConnection, message: Message) -> str:
        """Send a message that says that it is a test, once, and open nothing; return what was done,
        in words. Where a message would alarm somebody, or customers would read it, only try what
        can be tried without one. Raises Retryable, Permanent."""
        ...
