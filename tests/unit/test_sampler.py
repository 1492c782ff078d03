"""Measuring: whose answer a gate takes, what an edit does to its window, and how late an answer may
be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Literal, cast

import pytest
from pydantic import BaseModel

from gatewright.api.base import Model
from gatewright.api.checks import Check
from gatewright.core.checks.window import mark_late
from gatewright.core.model.needs import Measure
from gatewright.core.run.check_operations import measure_at
from gatewright.core.run.clocks import format_time
from gatewright.ports import Answer, OpenConnection, Permanent, Retryable
from gatewright.providers.common import meter
from gatewright.providers.registry import GATES
from gatewright.runtime import asking, sampler
from gatewright.runtime.budget import MeasurementBudget
from gatewright.runtime.connections import Connections
from gatewright.runtime.measurements import Key
from gatewright.runtime.pins import NO_PINS, Pin, Pins
from gatewright.runtime.sampler import Sampler

FOR: dict[str, Any] = {"for": "5m"}
ONE, TWO = ("shop", "one"), ("shop", "two")


class Config(Model):
    connection: str | None = None
    query: str = "up"


class Asked:
    """A gate that notes what it is asked, and of whom."""

    config: ClassVar[type[BaseModel]] = Config
    connection: ClassVar[str] = "fake"
    limits: ClassVar[Literal["required", "optional"]] = "required"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.takes = 0.0
        self.value = 0.0
        self.size = 0
        self.remembers: list[tuple[float, float]] = []
        """What its history tells: seconds ago, and the value then."""
        self.histories: list[float] = []
        """From when on its history was asked for, in seconds ago."""
        self.forgetful: Exception | None = None
        """What its history fails with."""
        self.error: Exception | None = None

    def unit(self, config: Config) -> None:
        """Nobody can tell."""

    async def measure(self, config: Config, link: OpenConnection) -> Answer:
        self.asked.append((link.name, config.query))
        meter.add_received(self.size)
        await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        return Answer(self.value)

    async def history(
        self, config: Any, link: OpenConnection, start: float, end: float, step: float
    ) -> list[Any]:
        now = time.time()
        self.histories.append(now - start)
        if self.forgetful is not None:
            raise self.forgetful
        return [(now - ago, Answer(value)) for ago, value in self.remembers]


class Links:
    """Opens the pinned Connection, the named one, or the only one."""

    def __init__(self) -> None:
        self.only = "main"
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.error: Exception | None = None

    async def open(
        self, namespace: str, kind: str, name: str | None, pinned: Pins = NO_PINS
    ) -> OpenConnection:
        await self.may_open.wait()
        if self.error is not None:
            raise self.error
        own = pinned[kind, name or ""][0] if (kind, name or "") in pinned else name or self.only
        return OpenConnection(own, own, None, 5.0)

    def used(self, namespace: str, name: str, error: Exception | None) -> None:
        """Nothing is judged here."""


class Room:
    """A sampler and what it is told to measure."""

    def __init__(self, fastest: float = 0.0) -> None:
        self.links = Links()
        self.told: list[Key] = []
        self.pins: dict[Key, Pins] = {}
        self.sampler = Sampler(
            cast(Connections, self.links),
            lambda key, urgent: self.told.append(key),
            lambda key: self.pins.get(key, {}),
            fastest,
        )

    def state(self, key: Key) -> str:
        (found,) = self.sampler.verdicts(key).values()
        return found.state

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


def passes(room: Room, key: Key) -> bool:
    return room.state(key) == "Passing"


def asked(config: dict[str, Any] | None = None, **check: Any) -> Measure:
    fields = {"name": "g", "max": "1", "interval": "1h", "fake": config or {}, **check}
    return measure_at("1/guards/g/0", Check.model_validate(fields), None, {})


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setitem(GATES, "fake", found)
    return found


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    found = Room()
    yield found
    await found.sampler.close()


async def test_releases_that_pinned_different_connections_do_not_share_an_answer(
    gate: Asked, room: Room
) -> None:
    room.pins = {ONE: {("fake", ""): Pin("main", "u1")}, TWO: {("fake", ""): Pin("other", "u2")}}
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
    room.pins = {ONE: {("fake", ""): Pin("main", "u1")}, TWO: {("fake", "main"): Pin("main", "u1")}}
    room.sampler.watch(ONE, [asked()])
    room.sampler.watch(TWO, [asked({"connection": "main"})])
    await room.until(lambda: room.state(ONE) == room.state(TWO) == "Passing")
    assert gate.asked == [("main", "up")]
    for key, config in ((ONE, {}), (TWO, {"connection": "main"})):
        room.sampler.watch(key, [asked(config)])
        assert room.state(key) == "Passing", "the same measure goes on"


async def test_an_implied_connection_stays_the_pinned_one(gate: Asked, room: Room) -> None:
    room.pins[ONE] = {("fake", ""): Pin("main", "u1")}
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
        asked(**FOR),
        asked(failureThreshold=2),
        asked(holdFor="1m"),
        asked(onError="Fail"),
    ],
    ids=["query", "max", "for", "failureThreshold", "holdFor", "onError"],
)
async def test_a_changed_measure_begins_a_new_window(
    gate: Asked, room: Room, edited: Measure
) -> None:
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


def breaching(ago: float) -> Measure:
    """Return a check that was in breach for so many seconds when the process was restarted."""
    since = format_time(datetime.now(UTC) - timedelta(seconds=ago))
    return replace(asked(interval="60s", **FOR), breaching_since=since)


async def test_a_breach_is_read_back_however_long_its_connection_takes_to_open(
    gate: Asked, room: Room
) -> None:
    gate.value, gate.remembers = 5.0, [(ago, 5.0) for ago in (240.0, 180.0, 120.0, 60.0)]
    room.links.may_open.clear()
    room.sampler.watch(ONE, [breaching(240.0)], rebuild=True)
    await asyncio.sleep(0.01)
    # Its line said Unknown by then: the second round knows of no breach.
    room.sampler.watch(ONE, [replace(breaching(240.0), breaching_since=None)])
    room.links.may_open.set()
    await room.until(lambda: room.state(ONE) == "Breaching")
    assert gate.histories == [pytest.approx(240.0, abs=5.0)]
    (found,) = room.sampler.verdicts(ONE).values()
    assert time.monotonic() - found.since == pytest.approx(240.0, abs=5.0)


async def test_a_breach_is_read_back_after_its_connection_could_not_be_opened(
    gate: Asked, room: Room
) -> None:
    gate.value, gate.remembers = 5.0, [(ago, 5.0) for ago in (240.0, 180.0, 120.0, 60.0)]
    room.links.error = Retryable("its Secret cannot be read")
    room.sampler.watch(ONE, [breaching(240.0)], rebuild=True)
    await room.until(lambda: room.state(ONE) == "Holding")
    room.sampler.watch(ONE, [replace(breaching(240.0), breaching_since=None)])
    room.links.error = None
    (track,) = room.sampler._tracks[ONE].values()
    room.sampler._ask_question(track, time.monotonic())
    await room.until(lambda: room.state(ONE) == "Breaching")
    assert gate.histories == [pytest.approx(240.0, abs=5.0)]
    (found,) = room.sampler.verdicts(ONE).values()
    assert time.monotonic() - found.since == pytest.approx(240.0, abs=5.0)


async def ask_now(gate: Asked, room: Room) -> None:
    """Ask once more, without waiting for the interval."""
    before = len(gate.asked)
    (track,) = room.sampler._tracks[ONE].values()
    room.sampler._ask_question(track, time.monotonic())
    await room.until(lambda: len(gate.asked) > before and track.question.task is None)


async def test_a_breach_is_read_back_after_the_past_could_not_be_told(
    gate: Asked, room: Room
) -> None:
    """Also where the system has answered nothing for long: nothing of the row is lost by that."""
    gate.value, gate.remembers = 5.0, [(ago, 5.0) for ago in (240.0, 180.0, 120.0, 60.0)]
    gate.forgetful = gate.error = Retryable("503")
    room.sampler.watch(ONE, [breaching(240.0)], rebuild=True)
    await room.until(lambda: room.state(ONE) == "Holding")
    for _ in range(asking.MAX_REBUILD_TRIES):
        await ask_now(gate, room)
    # Its line says Holding by then.
    room.sampler.watch(ONE, [replace(breaching(240.0), breaching_since=None)])
    gate.forgetful = gate.error = None
    await ask_now(gate, room)
    (found,) = room.sampler.verdicts(ONE).values()
    assert found.state == "Breaching"
    assert time.monotonic() - found.since == pytest.approx(240.0, abs=5.0)
    await ask_now(gate, room)
    assert len(gate.histories) == asking.MAX_REBUILD_TRIES + 2, "it was told once, and is enough"


@pytest.mark.parametrize(
    "error, most", [(Retryable("503"), asking.MAX_REBUILD_TRIES), (Permanent("400"), 1)]
)
async def test_who_tells_the_present_alone_is_not_asked_for_the_past_again_and_again(
    gate: Asked, room: Room, error: Exception, most: int
) -> None:
    gate.value, gate.forgetful = 5.0, error
    room.sampler.watch(ONE, [breaching(240.0)], rebuild=True)
    await room.until(lambda: room.state(ONE) == "Breaching")
    for _ in range(asking.MAX_REBUILD_TRIES + 2):
        await ask_now(gate, room)
    assert len(gate.histories) == most
    (found,) = room.sampler.verdicts(ONE).values()
    assert time.monotonic() - found.since < 60.0, "never too early"


async def test_another_connection_begins_a_new_window(gate: Asked, room: Room) -> None:
    room.pins[ONE] = {("fake", ""): Pin("main", "u1")}
    room.sampler.watch(ONE, [asked()])
    await room.until(lambda: room.state(ONE) == "Passing")
    room.pins[ONE] = {("fake", ""): Pin("other", "u2")}
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


# --- the share of a namespace


def test_a_namespace_within_its_rate_waits_for_nothing() -> None:
    budget = MeasurementBudget(10.0)
    budget.wants("shop", 0.0, 9.0)
    assert budget.stretch("shop") == 1.0 and budget.over() == []
    assert [budget.turn("shop", 100.0 + number / 10) for number in range(50)] == [0.0] * 50


def test_what_is_more_is_spread_and_nobody_else_waits() -> None:
    budget = MeasurementBudget(10.0)
    turns = [budget.turn("noisy", 100.0) for _ in range(120)]
    assert turns[:20] == [0.0] * 20, "a burst after a quiet time"
    assert turns[-1] == pytest.approx(119 / 10 - 2.0)
    assert budget.turn("shop", 100.0) == 0.0
    budget.rest(200.0)
    assert budget.turn("noisy", 200.0) == 0.0


def test_long_answers_take_turns_as_well() -> None:
    budget = MeasurementBudget(10.0)
    for _ in range(10):
        budget.spend("noisy", 100.0, 16)
    assert budget.turn("noisy", 100.0) == pytest.approx(14.0)


def test_intervals_of_a_namespace_that_asks_too_much_grow_and_shrink_together() -> None:
    budget = MeasurementBudget(10.0)
    for _ in range(1000):
        budget.wants("noisy", 0.0, 1 / 3)
    assert budget.stretch("noisy") == pytest.approx(1000 / 3 / 10, rel=1e-5)
    assert budget.stretch("shop") == 1.0
    for _ in range(1000):
        budget.wants("noisy", 1 / 3, 0.0)
    assert budget.stretch("noisy") == 1.0 and not budget._wanted


async def test_too_many_checks_are_measured_less_often_and_none_of_them_is_taken_for_silent(
    gate: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room()
    room.sampler = Sampler(
        cast(Connections, room.links), lambda key, urgent: room.told.append(key), rate=100.0
    )
    noisy = [
        measure_at(
            f"1/guards/g{number}/0",
            Check.model_validate(
                {
                    "name": f"g{number}",
                    "max": "1",
                    "interval": "1s",
                    "fake": {"query": f"q{number}"},
                }
            ),
            None,
            {},
        )
        for number in range(400)
    ]
    room.sampler.watch(("noisy", "one"), noisy)
    room.sampler.watch(("shop", "one"), [asked({"query": "shop"}, interval="1s")])
    await room.until(
        lambda: (
            {found.state for found in room.sampler.verdicts(("noisy", "one")).values()}
            == {"Passing"}
        )
    )
    before = len(gate.asked)
    held = set()
    began = time.monotonic()
    while time.monotonic() - began < 3.0:
        held |= {found.state for found in room.sampler.verdicts(("noisy", "one")).values()}
        held |= {found.state for found in room.sampler.verdicts(("shop", "one")).values()}
        await asyncio.sleep(0.1)
    took = time.monotonic() - began
    assert held == {"Passing"}
    assert len(gate.asked) - before <= 100 * took + 30, (
        "no more than its rate, and a check of the other one each second"
    )
    assert sum(query == "shop" for _, query in gate.asked) >= 3
    await room.sampler.close()


async def test_a_long_answer_counts_for_as_many_measurements_as_it_costs(
    gate: Asked, room: Room
) -> None:
    room.sampler._budget.rate = 10.0
    gate.size = 1024 * 1024
    room.sampler.watch(ONE, [asked(interval="1s")])
    await room.until(lambda: room.state(ONE) == "Passing")
    (track,) = room.sampler._tracks[ONE].values()
    assert track.stretch == pytest.approx(1.7, rel=0.01), "seventeen a second are more than ten"
    gate.size = 0
    await room.until(lambda: len(gate.asked) >= 2 and track.stretch == 1.0)


async def test_one_namespace_measures_so_many_at_a_time(gate: Asked) -> None:
    room = Room()
    gate.takes = 60.0
    many = [
        measure_at(
            f"1/guards/g{number}/0",
            Check.model_validate(
                {
                    "name": f"g{number}",
                    "max": "1",
                    "interval": "1h",
                    "fake": {"query": f"q{number}", "connection": f"c{number}"},
                }
            ),
            None,
            {},
        )
        for number in range(60)
    ]
    room.sampler.watch(("noisy", "one"), many)
    await room.until(lambda: len(gate.asked) >= sampler.MAX_PER_NAMESPACE)
    room.sampler.watch(("shop", "one"), [asked()])
    await room.until(lambda: len(gate.asked) == sampler.MAX_PER_NAMESPACE + 1)
    await asyncio.sleep(0.05)
    assert len(gate.asked) == sampler.MAX_PER_NAMESPACE + 1
    await room.sampler.close()


async def test_an_answer_that_nobody_can_make_anything_of_is_not_the_last_one(
    gate: Asked, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:

    def fails_once(*arguments: Any) -> Any:
        monkeypatch.setattr(sampler, "mark_late", mark_late)
        raise ZeroDivisionError

    monkeypatch.setattr(sampler, "mark_late", fails_once)
    room.sampler.watch(ONE, [asked(interval="1s")])
    room.sampler.watch(TWO, [asked(interval="1s")])
    await room.until(lambda: room.state(ONE) == room.state(TWO) == "Passing")
    assert len(gate.asked) >= 2


async def test_checks_of_releases_that_are_gone_are_not_remembered(gate: Asked, room: Room) -> None:
    # Due before all the others, which therefore never come to the top of the heap.
    room.sampler.watch(ONE, [asked()])
    await room.until(lambda: room.state(ONE) == "Passing")
    for number in range(400):
        key = ("noisy", str(number))
        room.sampler.watch(key, [asked({"connection": f"made-up-{number}"})])
        await room.until(partial(passes, room, key))
        room.sampler.watch(key, ())
    assert len(room.sampler) == 1
    assert len(room.sampler._heap) < 100, "each is due in an hour"
    assert len(room.sampler._slots) < 100


async def test_how_many_are_watched_is_known_without_counting(gate: Asked, room: Room) -> None:
    room.sampler.watch(ONE, [asked()])
    room.sampler.watch(TWO, [asked()])
    room.sampler.watch(ONE, [asked(max="2")])
    assert len(room.sampler) == sum(map(len, room.sampler._tracks.values())) == 2
    room.sampler.watch(ONE, ())
    assert len(room.sampler) == sum(map(len, room.sampler._tracks.values())) == 1
