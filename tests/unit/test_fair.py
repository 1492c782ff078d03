"""What is kept for all namespaces together: none of them drives out what another needs, however
much it puts in."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from gatewright.core.fair_memory import FairMemory
from gatewright.core.model.decision import KubernetesEvent
from gatewright.core.model.view import View
from gatewright.ports import OpenConnection
from gatewright.providers.common import rest
from gatewright.providers.common.client_pool import ClientPool
from gatewright.providers.github import workflows as github_workflows
from gatewright.providers.redis import gate as redis_gate
from gatewright.providers.statuspage import connection as statuspage
from gatewright.providers.supabase import action as supabase_action
from gatewright.providers.workload import availability
from gatewright.runtime.controller import EVENT_SENDER_COUNT
from gatewright.runtime.execution import job_endings, job_reports
from gatewright.runtime.telling import events
from gatewright.runtime.telling.events import EventSender
from tests.unit.test_reports import VIEW

LOUD = 20_000
"""Entries of the namespace that puts in too many: more than any of these keeps."""


def test_the_namespace_that_holds_the_most_loses_what_it_used_longest_ago() -> None:
    memory: FairMemory[str, int] = FairMemory(4)
    memory.put("quiet", "q", 0)
    for name in "abc":
        memory.put("loud", name, 1)
    assert memory.get("a") == 1, "it counts as used now"
    memory.put("other", "o", 2)
    assert sorted(memory) == ["a", "c", "o", "q"]
    memory.put("loud", "d", 3)
    assert sorted(memory) == ["c", "d", "o", "q"] or sorted(memory) == ["a", "d", "o", "q"]
    assert (memory.used, len(memory)) == (4, 4)


def test_what_is_large_drives_out_that_of_its_own_namespace() -> None:
    memory: FairMemory[str, int] = FairMemory(100)
    memory.put("quiet", "q", 0, 10)
    for number in range(20):
        memory.put("loud", f"l{number}", 0, 45)
    assert sorted(memory) == ["l18", "l19", "q"]
    memory.put("loud", "whole", 0, 101)
    assert sorted(memory) == ["q"], "it has no room at all"


@pytest.mark.parametrize("seed", range(20))
def test_the_sums_are_those_of_what_is_there_whatever_was_done(seed: int) -> None:
    """Against the plainest count; and a namespace within its share has lost nothing."""
    chance = random.Random(seed)
    memory: FairMemory[int, int] = FairMemory(50)
    sizes: dict[int, tuple[str, int]] = {}
    for _ in range(2000):
        key, namespace = chance.randrange(40), f"n{chance.randrange(4)}"
        match chance.randrange(4):
            case 0:
                memory.pop(key)
            case 1:
                memory.get(key)
            case _:
                size = chance.randrange(1, 12)
                memory.put(namespace, key, size, size)
                sizes[key] = namespace, size
        there = {key: sizes[key] for key in memory}
        assert memory.used == sum(size for _, size in there.values()) <= 50
        assert sorted(key for number in range(4) for key in memory.of(f"n{number}")) == sorted(
            there
        )
        assert all(
            sizes[key][0] == f"n{number}" for number in range(4) for key in memory.of(f"n{number}")
        )


# --------------------------------------------------------------------------------------------------
# Everything that is kept so


def _link(namespace: str, number: int) -> OpenConnection:
    return OpenConnection("system", f"{namespace}-{number}", None, 1.0, {}, namespace)


def _job(namespace: str, number: int) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "uid": f"{namespace}-{number}"}}


def _workload(namespace: str, number: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "uid": f"{namespace}-{number}", "resourceVersion": "1"}
    }


KEPT: dict[str, tuple[Callable[[str, int], Any], Callable[[], Any], Callable[[str], Any]]] = {
    "last words of Jobs": (
        lambda namespace, number: job_endings.LAST_WORDS.keep(_job(namespace, number), "disk full"),
        lambda: job_endings.LAST_WORDS._heard,
        lambda namespace: f"{namespace}-0",
    ),
    "looks at pods": (
        lambda namespace, number: availability.record_complete(_workload(namespace, number)),
        lambda: availability._looks(),
        lambda namespace: f"{namespace}-0",
    ),
    "restores that were asked for": (
        lambda namespace, number: supabase_action._remember_request(
            _link(namespace, number), namespace, f"M{number}", "Asked"
        ),
        lambda: supabase_action._asked(),
        lambda namespace: (namespace, "M0"),
    ),
    "workflows that were started": (
        lambda namespace, number: github_workflows._begun_runs().put(
            namespace, (f"{namespace}-{number}", "1.build"), number
        ),
        lambda: github_workflows._begun_runs(),
        lambda namespace: (f"{namespace}-0", "1.build"),
    ),
    "samples of caches": (
        lambda namespace, number: redis_gate._samples_of(_link(namespace, number), "1m"),
        lambda: redis_gate._kept_samples(),
        lambda namespace: (f"{namespace}-0", "1m"),
    ),
    "limits that were met": (
        lambda namespace, number: rest._close_until(_link(namespace, number), 3000.0),
        lambda: rest._closed_until(),
        lambda namespace: f"{namespace}-0",
    ),
    "turns of Statuspage": (
        lambda namespace, number: statuspage._next_turn().put(
            namespace, f"{namespace}-{number}", 1.0
        ),
        lambda: statuspage._next_turn(),
        lambda namespace: f"{namespace}-0",
    ),
}


@pytest.mark.parametrize("what", KEPT)
def test_one_namespace_drives_out_nothing_of_another(what: str) -> None:
    put, kept, key = KEPT[what]
    kept().clear()
    put("quiet", 0)
    rounds = min(LOUD, 2 * kept().room) if what == "limits that were met" else LOUD
    for number in range(rounds):
        put("loud", number)
    assert key("quiet") in kept() and key("loud") not in kept()
    assert len(kept()) <= kept().room < LOUD
    kept().clear()


class _Client:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


def _same(client: _Client) -> _Client:
    return client


async def test_many_connections_of_one_namespace_close_no_client_of_another() -> None:
    shelf: ClientPool[_Client] = ClientPool(most=3)
    quiet, loud = _Client(), [_Client() for _ in range(10)]
    async with shelf.lend_client("quiet", lambda: quiet, "quiet"):
        pass
    for number, one in enumerate(loud):
        async with shelf.lend_client(str(number), partial(_same, one), "loud"):
            pass
    await asyncio.sleep(0)
    assert not quiet.closed and [one.closed for one in loud] == [True] * 8 + [False] * 2
    await shelf.aclose()


async def test_a_client_that_is_slow_to_close_keeps_no_other_open() -> None:
    never = asyncio.Event()

    class Slow(_Client):
        async def aclose(self) -> None:
            await never.wait()

    shelf: ClientPool[_Client] = ClientPool(idle=0.05)
    slow, plain = Slow(), _Client()
    async with shelf.lend_client("slow", lambda: slow), shelf.lend_client("plain", lambda: plain):
        pass
    for _ in range(200):
        await asyncio.sleep(0.02)
        if plain.closed:
            break
    assert plain.closed
    await shelf.aclose()


# --------------------------------------------------------------------------------------------------
# Events


class _Events:
    """Takes Events one at a time."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def create_for_metadata(self, path: str, body: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.sent.append((body["metadata"]["namespace"], body["note"]))


def _view(namespace: str) -> View:
    return replace(VIEW, namespace=namespace)


async def _delivered(put: Callable[[EventSender], None]) -> list[tuple[str, str]]:
    events = _Events()
    box = EventSender(cast(Any, events), "one")
    put(box)
    waiting = sum(map(len, box._waiting.values()))
    task = asyncio.create_task(box.run())
    while len(events.sent) < waiting:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return events.sent


async def test_events_of_a_namespace_do_not_wait_behind_those_of_another() -> None:
    def put(box: EventSender) -> None:
        for number in range(50):
            box.put(_view("loud"), KubernetesEvent("Held", f"{number}"))
        box.put(_view("quiet"), KubernetesEvent("Promoted", "done"))

    sent = await _delivered(put)
    assert sent.index(("quiet", "done")) == 1
    assert [note for namespace, note in sent if namespace == "loud"] == [
        str(number) for number in range(50)
    ]


@pytest.mark.parametrize(
    ("message", "note"),
    [
        ("é" * 512, "é" * 512),
        ("é" * 513, "é" * 510 + "…"),
        ("x" + "é" * 600, "x" + "é" * 510 + "…"),
        ("🚀" * 300, "🚀" * 255 + "…"),
        ("x" * 1025, "x" * 1021 + "…"),
        ("x" * 1000 + "\ud800", "x" * 1000 + "\ud800"),
    ],
)
async def test_a_note_has_no_more_bytes_than_the_api_server_takes(message: str, note: str) -> None:
    """Seen: a note of 1,000 characters of another script was refused, and nobody was told."""
    sent = await _delivered(lambda box: box.put(_view("shop"), KubernetesEvent("Held", message)))
    assert sent == [("shop", note)]
    assert len(note.encode(errors="surrogatepass")) <= 1024


async def test_a_namespace_that_tells_too_much_loses_its_own_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "MAX_QUEUED_EVENTS", 10)

    def put(box: EventSender) -> None:
        box.put(_view("quiet"), KubernetesEvent("Promoted", "done"))
        for number in range(50):
            box.put(_view("loud"), KubernetesEvent("Held", f"{number}"))

    sent = await _delivered(put)
    assert len(sent) == 10 and ("quiet", "done") in sent
    assert sent[-1] == ("loud", "49"), "the oldest go"


async def test_events_that_hang_hold_no_sender_that_another_namespace_needs() -> None:
    class Hangs(_Events):
        begun = 0

        async def create_for_metadata(self, path: str, body: dict[str, Any]) -> None:
            if body["metadata"]["namespace"] == "stuck":
                self.begun += 1
                await asyncio.Event().wait()
            await super().create_for_metadata(path, body)

    hanging = Hangs()
    box = EventSender(cast(Any, hanging), "one")
    tasks = [asyncio.create_task(box.run()) for _ in range(EVENT_SENDER_COUNT)]
    for number in range(50):
        box.put(_view("stuck"), KubernetesEvent("Held", f"{number}"))
    for _ in range(50):
        await asyncio.sleep(0)
    for number in range(3):
        box.put(_view("quiet"), KubernetesEvent("Promoted", f"{number}"))
    for _ in range(50):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert hanging.sent == [("quiet", "0"), ("quiet", "1"), ("quiet", "2")]
    assert hanging.begun == events.AT_ONCE < EVENT_SENDER_COUNT


# --------------------------------------------------------------------------------------------------
# Threads


async def test_reports_of_one_namespace_take_one_thread_at_a_time() -> None:
    """Threads are few; a parser that takes its time holds one of them, and the others are there for
    everybody else."""
    held, ended, at_once = asyncio.Event(), threading.Event(), Counter[str]()
    most: Counter[str] = Counter()
    loop = asyncio.get_running_loop()

    def parse(namespace: str) -> str:
        at_once[namespace] += 1
        most[namespace] = max(most[namespace], at_once[namespace])
        if namespace == "loud":
            loop.call_soon_threadsafe(held.set)
            assert ended.wait(60)
        at_once[namespace] -= 1
        return namespace

    loud = [
        asyncio.create_task(job_reports._threads.run("loud", partial(parse, "loud")))
        for _ in range(100)
    ]
    await held.wait()
    assert await job_reports._threads.run("quiet", partial(parse, "quiet")) == "quiet"
    ended.set()
    assert await asyncio.gather(*loud) == ["loud"] * 100
    assert most == {"loud": 1, "quiet": 1}
    assert len(job_reports._threads) == 0
