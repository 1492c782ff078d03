"""One side effect, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Operation:
    """One side effect.

    Doing it twice is prevented by `key`, which what it makes or changes carries.
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
    beside: tuple[str, ...] = ()
    """For `restore`: the older runs that are undone together with this one (`run` of theirs).

    What they have marked elsewhere goes back as well."""
    restart: bool = False
    """For `apply` and `restore`: what is deployed starts anew, even if it has not changed."""
    snapshot: str = ""
    """For `restore`: under which name its snapshot is kept; empty: that of the subject."""

    @property
    def snapshot_name(self) -> str:
        """Name of the snapshot that a `restore` returns to."""
        return self.snapshot or self.subject

    @property
    def id(self) -> str:
        """Kind, key and subject: unique within the Release."""
        return f"{self.kind}:{self.key}:{self.subject}"

    @property
    def run(self) -> str:
        """The run that it belongs to, unlike any other run of any Release: `NUMBER-NONCE`."""
        return f"{self.key.partition('.')[0]}-{self.key.rpartition('-')[2]}"

    @property
    def runs(self) -> frozenset[str]:
        """The runs that go back by it: its own, and those that are undone together with that."""
        return frozenset((self.run, *self.beside))


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
