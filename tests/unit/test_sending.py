"""Sending: in order, each Connection by itself, again and again, and never for a pass to wait for.

Nothing here sleeps for a fixed time: a test waits for what it expects to happen, and time between
tries is set to nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from gatewright.api.base import Model, Name
from gatewright.api.status import Notification, Thread, dump
from gatewright.core.model.observation import Delivery
from gatewright.core.report.notifications import channel_of, channels_of
from gatewright.core.report.notify_test import TEST_EVENT
from gatewright.core.run.clocks import format_time
from gatewright.ports import Message, OpenConnection, Permanent, Retryable
from gatewright.runtime.parse import spec_of, written_spec_of
from gatewright.runtime.telling import notifications
from gatewright.runtime.telling.channels import ChannelQueue
from gatewright.runtime.telling.notifications import Notifications
from gatewright.runtime.tracked import Key, TrackedRelease
from tests.unit.sim import World, spec


class Config(Model):
    """Scripted."""

    connection: Name | None = None
    """Which."""
    to: str = ""
    """Whom."""


@dataclass
class Scripted:
    """A notifier that does what it is told to do."""

    config: ClassVar[type[Model]] = Config
    connection: ClassVar[str] = "webhook"
    sent: list[tuple[str, Message, str | None]] = field(default_factory=list)
    answers: dict[str, list[Exception | str | None]] = field(default_factory=dict)
    """By connection: errors and handles, the first first; delivered without a handle where there
    are none left."""
    hanging: set[str] = field(default_factory=set)
    tested: list[Message] = field(default_factory=list)

    async def send(
        self, config: Any, link: OpenConnection, message: Message, handle: str | None
    ) -> str | None:
        self.sent.append((link.name, message, handle))
        if link.name in self.hanging:
            await asyncio.Event().wait()
        answers = self.answers.get(link.name) or [None]
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def test(self, config: Any, link: OpenConnection, message: Message) -> str:
        self.tested.append(message)
        answers = self.answers.get(link.name) or [None]
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return "tried"

    def events(self, name: str = "") -> list[str]:
        return [message.event for connection, message, _ in self.sent if name in ("", connection)]


class Connections:
    """Every Connection is there."""

    def __init__(self) -> None:
        self.uses: list[tuple[str, bool]] = []

    async def open(self, namespace: str, kind: str, name: str | None) -> OpenConnection:
        if name == "missing":
            raise Permanent('there is no webhook Connection "missing"')
        return OpenConnection(name or "only", name or "only", None, 0.2)

    def used(self, namespace: str, name: str, error: Exception | None) -> None:
        self.uses.append((name, error is None))


class Telling(Notifications):
    """Keeps what became of each message, whether or not its Release is there still."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.told: list[tuple[str, str, str | None, str]] = []

    def _note_delivery(self, lane: ChannelQueue, notice: str, delivery: Delivery) -> None:
        self.told.append((notice, lane.channel, delivery.handle, delivery.failed))
        super()._note_delivery(lane, notice, delivery)


class Room:
    """A Release with notices, their sender, and what it reports."""

    def __init__(self) -> None:
        self.notifier, self.links = Scripted(), Connections()
        self.entries: dict[Key, TrackedRelease] = {}
        self.woken: list[Key] = []
        self.notices = Telling(self.links, self.entries, self.woken.append)
        self.told = self.notices.told

    def release(
        self,
        *events: str,
        name: str = "web",
        to: tuple[str, ...] = ("",),
        at: datetime | None = None,
        **changes: Any,
    ) -> TrackedRelease:
        """A Release as the API server holds it, with these notices for these Connections."""
        asked = [event for event in events if event != TEST_EVENT]
        raw = spec(
            notify=[
                {"events": asked or ["Started"], "webhook": {"connection": c} if c else {}}
                for c in to
            ]
        )
        parsed, problems = spec_of(raw)
        assert parsed is not None and not problems, problems
        world = World(spec=raw).settle()
        status = world.status
        now = format_time(at or datetime.now(UTC))
        who = [channel_of(entry) for entry in parsed.notify]
        status.notices = [Notification(id=f"1.{event}", at=now, to=who) for event in events]
        status.threads = (
            [Thread(run=1, to=who[0], handle=changes["handle"])] if "handle" in changes else []
        )
        obj = {
            "metadata": {
                "namespace": "shop",
                "name": name,
                "uid": f"uid-{name}",
                "generation": 1,
                "resourceVersion": "1",
            },
            "spec": raw,
            "status": dump(status),
        }
        entry = TrackedRelease.of(obj)
        self.entries[entry.key] = entry
        assert len(channels_of(parsed)) == len(to)
        return entry

    def written(self, entry: TrackedRelease) -> None:
        """The next write: what was delivered is out of the status."""
        status = dict(entry.persisted)
        left = [
            {
                **item,
                "to": [
                    channel
                    for channel in item["to"]
                    if (item["id"], channel) not in entry.deliveries
                ],
            }
            for item in status.pop("notices", [])
        ]
        held = [item for item in left if item["to"]]
        entry.status.replace(status | ({"notices": held} if held else {}))
        self.notices.take(entry)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.005)


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    found = Room()
    monkeypatch.setattr(notifications, "NOTIFIERS", {"webhook": found.notifier})
    monkeypatch.setattr(notifications, "RETRY_DELAYS_S", (0.0,))
    yield found
    await found.notices.close()


async def test_what_the_status_holds_is_sent_once_and_in_order(room: Room) -> None:
    entry = room.release("Started", "StagePassed", "Completed")
    for _ in range(3):
        room.notices.take(entry)
    await room.until(lambda: len(room.told) == 3)
    assert room.woken == [entry.key] * 3, "each is written by the next pass"
    for _ in range(3):
        room.notices.take(entry)
    room.written(entry)
    await room.until(lambda: len(room.notices) == 0)
    assert room.notifier.events() == ["Started", "StagePassed", "Completed"]
    assert entry.deliveries == {}


async def test_taking_up_never_waits_and_never_raises(room: Room) -> None:
    room.notifier.hanging = {"only"}
    entry = room.release("Started")
    before = time.monotonic()
    room.notices.take(entry)
    entry.status.replace(entry.persisted | {"notices": [{"nonsense": True}]})
    room.notices.take(entry)
    assert time.monotonic() - before < 5


async def test_each_message_gets_the_handle_of_the_one_before(room: Room) -> None:
    room.notifier.answers = {"only": ["C1/1", "C1/2", None]}
    room.notices.take(room.release("Started", "StagePassed", "Completed"))
    await room.until(lambda: len(room.told) == 3)
    assert [handle for _, _, handle in room.notifier.sent] == [None, "C1/1", "C1/2"]
    assert [handle for _, _, handle, _ in room.told] == ["C1/1", "C1/2", None]


async def test_the_first_message_of_a_process_gets_the_handle_of_the_status(room: Room) -> None:
    room.notices.take(room.release("Completed", handle="C1/7"))
    await room.until(lambda: len(room.told) == 1)
    assert room.notifier.sent[0][2] == "C1/7"


async def test_what_could_not_be_sent_is_sent_again_with_the_same_key(room: Room) -> None:
    lost = Retryable("no answer")
    half = Retryable("the thread failed")
    half.handle = "C1/1"
    room.notifier.answers = {"only": [lost, half, "C1/1"]}
    room.notices.take(room.release("Started"))
    await room.until(lambda: len(room.told) == 1)
    assert len({message.key for _, message, _ in room.notifier.sent}) == 1
    assert [(message.again, handle) for _, message, handle in room.notifier.sent] == [
        (False, None), (True, None), (True, "C1/1"),
    ]  # fmt: skip
    assert room.links.uses == [("only", False), ("only", False), ("only", True)]


async def test_a_message_goes_before_the_next_one_of_its_release_whatever_happens_to_it(
    room: Room,
) -> None:
    room.notifier.answers = {"only": [Retryable("no"), Retryable("no")]}
    room.notices.take(room.release("Started", "Completed"))
    await room.until(lambda: len(room.told) == 2)
    assert room.notifier.events() == ["Started", "Started", "Started", "Completed"]


async def test_whoever_refused_says_when_to_come_back(room: Room) -> None:
    limited = Retryable("too many requests")
    limited.after = 3600.0
    room.notifier.answers = {"only": [limited]}
    room.notices.take(room.release("Started"))
    room.notices.take(room.release("Started", name="other"))
    await room.until(lambda: len(room.told) == 1)
    assert (
        room.told[0][0] == "1.Started" and len(room.notifier.sent) == 2 and len(room.notices) == 1
    )
    assert {message.thread.split("/")[1] for _, message, _ in room.notifier.sent} == {
        "web",
        "other",
    }


async def test_a_release_that_waits_does_not_hold_up_another_on_the_same_connection(
    room: Room,
) -> None:
    again = Retryable("no")
    again.after = 3600.0
    room.notifier.answers = {"only": [again]}
    room.notices.take(room.release("Started"))
    await room.until(lambda: len(room.notifier.sent) == 1)
    room.notices.take(room.release("Started", "Completed", name="other"))
    await room.until(lambda: len(room.told) == 2)
    assert [message.thread.split("/")[1] for _, message, _ in room.notifier.sent] == [
        "web",
        "other",
        "other",
    ]


async def test_a_receiver_that_hangs_holds_up_its_own_connection_alone(room: Room) -> None:
    room.notifier.hanging = {"slow"}
    room.notices.take(room.release("Started", "Completed", to=("slow", "fast")))
    await room.until(lambda: len(room.told) == 2)
    assert room.notifier.events("fast") == ["Started", "Completed"] and room.notifier.events(
        "slow"
    ) == ["Started"]


async def test_a_receiver_that_hangs_is_given_up_for_now_after_its_time(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "SEND_GRACE_S", 0.0)
    room.notifier.hanging = {"only"}
    room.notices.take(room.release("Started"))
    await room.until(lambda: len(room.notifier.sent) == 2)
    assert [message.again for _, message, _ in room.notifier.sent] == [
        False,
        True,
    ] and room.told == []


@pytest.mark.parametrize(
    "name, words", [("only", "channel_not_found"), ("missing", "no webhook Connection")]
)
async def test_what_asking_again_cannot_help_is_given_up_and_said(
    room: Room, name: str, words: str
) -> None:
    room.notifier.answers = {name: [Permanent("channel_not_found")]}
    room.notices.take(room.release("Started", "Completed", to=(name,)))
    await room.until(lambda: len(room.told) == 2)
    assert words in room.told[0][3] and len(room.notifier.sent) <= 2


async def test_after_a_day_nobody_is_told(room: Room) -> None:
    room.notifier.answers = {"only": [Retryable("no answer"), None]}
    room.notices.take(room.release("Started", at=datetime.now(UTC) - timedelta(hours=25)))
    await room.until(lambda: len(room.told) == 1)
    assert room.told[0][3] == "not within a day: no answer" and len(room.notifier.sent) == 1


async def test_an_error_of_ours_stops_nobody(room: Room) -> None:
    room.notifier.answers = {"only": [ZeroDivisionError("a secret in it"), None]}
    room.notices.take(room.release("Started"))
    await room.until(lambda: len(room.told) == 1)
    assert room.told[0][3] == "" and len(room.notifier.sent) == 2


async def test_who_takes_over_says_that_it_may_be_a_repetition(room: Room) -> None:
    entry = room.release("Started")
    room.notices.resume(entry.obj)
    room.notices.take(entry)
    await room.until(lambda: len(room.told) == 1)
    assert [message.again for _, message, _ in room.notifier.sent] == [True]


async def test_a_crash_between_a_delivery_and_its_record_leads_to_one_more(room: Room) -> None:
    entry = room.release("Started")
    room.notices.take(entry)
    await room.until(lambda: len(room.told) == 1)
    # The status has not been written: whoever comes next reads it as it was.
    await room.notices.close()
    entry.deliveries.clear()
    room.notices.resume(entry.obj)
    room.notices.take(entry)
    await room.until(lambda: len(room.told) == 2)
    room.written(entry)
    room.notices.take(entry)
    assert [(message.key, message.again) for _, message, _ in room.notifier.sent] == [
        ("uid-web/1.Started", False), ("uid-web/1.Started", True),
    ]  # fmt: skip


async def test_what_was_withdrawn_is_not_sent(room: Room) -> None:
    room.notifier.hanging = {"only"}
    entry = room.release("Started", "Completed")
    room.notices.take(entry)
    await room.until(lambda: len(room.notifier.sent) == 1)
    entry.status.replace({**entry.persisted, "notices": entry.persisted["notices"][:1]})
    room.notices.take(entry)
    assert len(room.notices) == 1


async def test_the_notices_of_a_release_that_is_deleted_go_out_all_the_same(room: Room) -> None:
    room.notifier.answers = {"only": [Retryable("no answer"), None]}
    room.notices.take(room.release("Aborted"))
    room.entries.clear()
    await room.until(lambda: len(room.told) == 1)
    assert room.notifier.events() == ["Aborted", "Aborted"]


async def test_a_sender_that_has_nothing_to_say_is_gone(room: Room) -> None:
    entry = room.release("Started")
    room.notices.take(entry)
    await room.until(lambda: not room.notices._senders)
    assert room.notices._lanes == {}
    room.written(entry)
    room.notices.take(room.release("Completed"))
    await room.until(lambda: len(room.told) == 2)


async def test_references_are_put_in(room: Room) -> None:
    entry = room.release("Started")
    raw = json.loads(entry._spec.text)
    raw["vars"] = {"team": "blue"}
    raw["notify"] = [{"events": ["Started"], "webhook": {"connection": "$(vars.team)"}}]
    entry._spec, entry._parsed = (
        written_spec_of({"metadata": entry.obj["metadata"], "spec": raw}),
        None,
    )
    parsed, _ = spec_of(raw)
    assert parsed is not None
    entry.persisted["notices"][0]["to"] = [channel_of(parsed.notify[0])]
    room.notices.take(entry)
    await room.until(lambda: len(room.told) == 1)
    assert room.notifier.sent[0][0] == "blue"


async def test_a_release_without_notices_costs_nothing(room: Room) -> None:
    entry = room.release()
    entry.status.replace(
        {name: value for name, value in entry.persisted.items() if name != "notices"}
    )
    room.notices.resume(entry.obj)
    room.notices.take(entry)
    assert not room.notices._senders and not room.notices._resumed and entry._parsed is None
