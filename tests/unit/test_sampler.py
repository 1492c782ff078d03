"""Measuring: whose answer a gate takes, what an edit does to its window, and how late an answer may be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from gatewright.api.base import Model
from gatewright.api.release import Check
from gatewright.core.model import Measure
from gatewright.core.operations import measure_at
from gatewright.ports import Answer, Link
from gatewright.runtime import sampler
from gatewright.runtime.links import UNPINNED, Pins
from gatewright.runtime.sampler import Key, Sampler

ONE, TWO = ("shop", "one"), ("shop", "two")


class Config(Model):
    connection: str | None = None
    query: str = "up"


class Asked:
    """A gate that notes what it is asked, and of whom."""

    config: ClassVar[type[BaseModel]] = Config
    connection: ClassVar[str] = "fake"
    limits: ClassVar[str] = "required"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.takes = 0.0
        self.value = 0.0

    async def measure(self, config: Config, link: Link) -> Answer:
        self.asked.append((link.name, config.query))
        await asyncio.sleep(self.takes)
        return Answer(self.value)

    async def history(self, config: Any, link: Link, start: float, end: float, step: float) -> list[Any]:
        return []


class Links:
    """Opens the pinned Connection, the named one, or the only one."""

    def __init__(self) -> None:
        self.only = "main"

    async def open(self, namespace: str, kind: str, name: str | None, pinned: Pins = UNPINNED) -> Link:
        own = pinned[kind, name or ""][0] if (kind, name or "") in pinned else name or self.only
        return Link(own, own, None, 5.0)

    def used(self, namespace: str, name: str, error: Exception | None) -> None:
        """Nothing is judged here."""


class Room:
    """A sampler and what it is told to measure."""

    def __init__(self, fastest: float = 0.0) -> None:
        self.links = Links()
        self.told: list[Key] = []
        self.pins: dict[Key, Pins] = {}
        self.sampler = Sampler(
            self.links, lambda key, urgent: self.told.append(key), lambda key: self.pins.get(key, {}), fastest
        )  # type: ignore[arg-type]

    def state(self, key: Key) -> str:
        (found,) = self.sampler.verdicts(key).values()
        return found.state

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


def asked(config: dict[str, Any] | None = None, **check: Any) -> Measure:
    fields = {"name": "g", "max": "1", "interval": "1h", "fake": config or {}, **check}
    return measure_at("1/guards/g/0", Check.model_validate(fields), None, {})


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setitem(sampler.GATES, "fake", found)  # type: ignore[arg-type]
    return found


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    found = Room()
    yield found
    await found.sampler.close()


async def test_releases_that_pinned_different_connections_do_not_share_an_answer(gate: Asked, room: Room) -> None:
    room.pins = {ONE: {("fake", ""): ("main", "u1")}, TWO: {("fake", ""): ("other", "u2")}}
    for key in (ONE, TWO):
        room.sampler.watch(key, [asked()])
    await room.until(lambda: room.state(ONE) == room.state(TWO) == "Passing")
    assert sorted(gate.asked) == [("main", "up"), ("other", "up")]


async def test_nobody_asks_more_often_than_the_operator_lets_them(gate: Asked) -> None:
    room = Room(fastest=60.0)
    room.sampler.watch(ONE, [asked()])
    await room.until(lambda: room.state(ONE) == "Passing")
    await asyncio.sleep(0.05)
    assert len(gate.asked) == 1, "its own interval is over many times"
    assert room.sampler._tracks[ONE][asked().path].due - time.monotonic() > 50
    room.sampler.watch(ONE, [asked()])
    assert room.state(ONE) == "Passing", "the same measure goes on"
    await room.sampler.close()


async def test_one_connection_is_asked_once_however_it_is_written(gate: Asked, room: Room) -> None:
    gate.takes = 0.05
    room.pins = {ONE: {("fake", ""): ("main", "u1")}, TWO: {("fake", "main"): ("main", "u1")}}
    room.sampler.watch(ONE, [asked()])
    room.sampler.watch(TWO, [asked({"connection": "main"})])
    await room.until(lambda: room.state(ONE) == room.state(TWO) == "Passing")
    assert gate.asked == [("main", "up")]
    for key, config in ((ONE, {}), (TWO, {"connection": "main"})):
        room.sampler.watch(key, [asked(config)])
        assert room.state(key) == "Passing", "the same measure goes on"


async def test_an_implied_connection_stays_the_pinned_one(gate: Asked, room: Room) -> None:
    room.pins[ONE] = {("fake", ""): ("main", "u1")}
    room.links.only = "added-later"
    room.sampler.watch(ONE, [asked()])
    room.sampler.watch(TWO, [asked()])
    await room.until(lambda: len(gate.asked) == 2)
    assert sorted(name for name, _ in gate.asked) == ["added-later", "main"]


@pytest.mark.parametrize(
    "edited",
    [
        asked({"query": "new"}),
        asked(max="2"),
        asked(**{"for": "5m"}),
        asked(failureThreshold=2),
        asked(holdFor="1m"),
        asked(onError="Fail"),
    ],
    ids=["query", "max", "for", "failureThreshold", "holdFor", "onError"],
)
async def test_a_changed_measure_begins_a_new_window(gate: Asked, room: Room, edited: Measure) -> None:
    gate.value = 5.0
    room.sampler.watch(ONE, [asked()])
    await room.until(lambda: room.state(ONE) == "Failed")
    gate.value = 0.0
    room.sampler.watch(ONE, [edited])
    assert room.state(ONE) == "Unknown", "answers to the old question say nothing"
    await room.until(lambda: room.state(ONE) == "Passing")
    assert gate.asked[-1] == ("main", edited.config.get("query", "up"))


async def test_a_measure_that_means_the_same_goes_on(gate: Asked, room: Room) -> None:
    room.sampler.watch(ONE, [asked()])
    await room.until(lambda: room.state(ONE) == "Passing")
    room.sampler.watch(ONE, [asked(onHoldExpired="Notify")])
    room.sampler.watch(ONE, [replace(asked(), breaching_since="2026-01-01T00:00:00Z")])
    assert room.state(ONE) == "Passing" and len(gate.asked) == 1


async def test_another_connection_begins_a_new_window(gate: Asked, room: Room) -> None:
    room.pins[ONE] = {("fake", ""): ("main", "u1")}
    room.sampler.watch(ONE, [asked()])
    await room.until(lambda: room.state(ONE) == "Passing")
    room.pins[ONE] = {("fake", ""): ("other", "u2")}
    room.sampler.watch(ONE, [asked()])
    assert room.state(ONE) == "Unknown"
    await room.until(lambda: room.state(ONE) == "Passing")
    assert [name for name, _ in gate.asked] == ["main", "other"]


async def test_answers_that_are_always_late_are_a_hold_that_ends(gate: Asked, room: Room) -> None:
    gate.takes = 0.1
    room.sampler.watch(ONE, [asked(interval="20ms", holdFor="400ms")])
    began = time.monotonic()
    await room.until(lambda: room.state(ONE) == "Holding")
    await room.until(lambda: room.state(ONE) == "Failed")
    assert time.monotonic() - began < 1.0
    (found,) = room.sampler.verdicts(ONE).values()
    assert found.reason == "Error" and found.sample is not None
    assert "longer than three intervals" in found.sample.message
    assert len(gate.asked) >= 2 and ONE in room.told


async def test_questions_that_nobody_asks_any_more_are_forgotten(gate: Asked, room: Room) -> None:
    room.sampler.watch(ONE, [asked()])
    room.sampler.watch(TWO, [asked()])
    await room.until(lambda: room.state(ONE) == room.state(TWO) == "Passing")
    room.sampler.watch(ONE, [])
    assert len(room.sampler._questions) == 1
    room.sampler.watch(TWO, [asked({"query": "new"})])
    await room.until(lambda: room.state(TWO) == "Passing")
    room.sampler.watch(TWO, [])
    assert not room.sampler._questions
