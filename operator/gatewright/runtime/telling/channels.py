"""What a Release has to say to a channel, message after message."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gatewright.api.status import Notification
from gatewright.core.model.view import View
from gatewright.core.report.notify_test import TEST_EVENT
from gatewright.core.spec.expand import UnknownReference, expand_references
from gatewright.core.spec.pinned_spec import variable_names
from gatewright.ports import Message
from gatewright.runtime.telling.messages import version_of
from gatewright.runtime.tracked import Key

MAX_HANDLES = 8
"""Runs of a Release whose handles are remembered here; those of earlier ones stand in the status,
where they count."""

Place = tuple[str, str, str]
"""Namespace, kind and name of a Connection; no name: the only one."""

ChannelKey = tuple[str, str]
"""UID of a Release, and a lane of a channel."""


@dataclass(slots=True)
class QueuedMessage:
    """One notice for one channel."""

    notice: str
    run: int
    event: str
    at: float
    provider: str
    config: Any
    message: Message
    handle: str | None

    @property
    def is_test(self) -> bool:
        return self.event == TEST_EVENT


def lane_of(channel: str, event: str) -> str:
    """Return in which lane of a channel a message waits.

    A test waits for no message that is tried again, and no message waits for a test.
    """
    return f"{channel}/test" if event == TEST_EVENT else channel


@dataclass(slots=True)
class ChannelQueue:
    """What one Release has to say to one channel, in order; tests by themselves."""

    key: Key
    uid: str
    channel: str
    items: deque[QueuedMessage] = field(default_factory=deque)
    due: float = 0.0
    tries: int = 0
    handles: dict[int, str | None] = field(default_factory=dict)
    """What this process has got, by run: newer than what the status holds."""

    def remember(self, run: int, handle: str | None) -> None:
        """Keep what the system knows the messages of a run by."""
        self.handles[run] = handle
        while len(self.handles) > MAX_HANDLES:
            del self.handles[next(iter(self.handles))]


@dataclass(slots=True)
class Sender:
    """One Connection."""

    lanes: dict[ChannelKey, ChannelQueue] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    sending: ChannelQueue | None = None


def handle_in_status(view: View, notice: Notification, channel: str) -> str | None:
    """Return what the channel's system knows the messages of a run by, as the status has it."""
    for thread in view.status.threads:
        if (thread.run, thread.to) == (notice.run, channel):
            return thread.handle
    return None


def expand_config(view: View, notice: Notification, raw: Any) -> Any:
    """Return the configuration with its references put in.

    As it is where one names what is not known.
    """
    last = view.status.lastGood
    names = {
        "version": version_of(view, notice),
        "run": str(notice.run),
        "lastGood.version": last.version if last else "",
    }
    names |= variable_names(view.spec) if view.spec is not None else {}

    try:
        return expand_references(raw, names)
    except UnknownReference:
        return raw
