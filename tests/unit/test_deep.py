"""Whatever somebody has put into an object, others are still read, told and worked on."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import orjson
import pytest

from gatewright.core.report import size
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.runtime.background import UNKNOWN_RELEASES_AT_ONCE
from gatewright.runtime.cluster import wire
from gatewright.runtime.cluster.outline import Unreadable
from gatewright.runtime.controller import Controller
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.settings import Settings
from gatewright.runtime.telling.events import EventSender
from gatewright.runtime.tracked import TrackedRelease
from tests.unit.test_entries import SPEC, release
from tests.unit.test_processes import SETTINGS, _Leader
from tests.unit.test_watch import Server, line

DEPTHS = (size.MOST_LEVELS, 300, 2000, 9000)
GARBAGE = b'{"metadata": {"name": "b"'


def nested(levels: int, how: str = "map") -> Any:
    found: Any = "x"
    for _ in range(levels):
        found = {"a": found} if how == "map" else [found]
    return found


def text(value: Any, levels: int, how: str = "map") -> bytes:
    """JSON with "DEEP" as a value so deep: json.dumps itself does not write that."""
    begin, end = ('{"a":', "}") if how == "map" else ("[", "]")
    deep = begin * levels + "1" + end * levels
    return json.dumps(value).replace('"DEEP"', deep).encode()


# What is read


@pytest.mark.parametrize("how", ["map", "list"])
@pytest.mark.parametrize("levels", DEPTHS)
def test_a_spec_that_is_nested_too_deeply_says_so_with_its_path(levels: int, how: str) -> None:
    steps = [{"name": "run", "job": {"template": nested(levels, how)}}]
    entry = TrackedRelease.of(
        release(spec={"version": "1", "stages": [{"name": "a", "steps": steps}]})
    )
    (problem,) = entry.view().problems
    assert problem.startswith(
        "spec.stages[0].steps[0].job.template" + (".a.a" if how == "map" else "[0][0]")
    )
    assert "more than 64 levels deep" in problem and "ConfigMap" in problem and len(problem) < 500
    assert entry.view().spec is None
    assert entry.take_newer(release(2, generation=2)) and entry.view().problems == ()
    assert entry.take_newer(release(3, generation=3, spec={"version": nested(levels)}))
    assert entry.view().spec is None


def test_a_spec_at_the_limit_is_read() -> None:
    assert size.measure_shape(nested(size.MOST_LEVELS - 2))[1] == size.MOST_LEVELS - 1
    entry = TrackedRelease.of(release(spec=SPEC | {"more": nested(size.MOST_LEVELS - 2)}))
    assert "levels" not in "".join(entry.view().problems)
    entry = TrackedRelease.of(release(spec=SPEC | {"more": nested(size.MOST_LEVELS - 1)}))
    assert "levels" in "".join(entry.view().problems)


def test_a_deep_and_wide_spec_costs_no_path_for_each_value() -> None:
    deep = nested(50)
    here = deep
    while isinstance(here["a"], dict):
        here["n" * 1000] = 1
        here = here["a"]
    here["a"] = [[] for _ in range(100_000)] + [nested(30)]
    assert "more than 64 levels" in size.too_deep(deep)


@pytest.mark.parametrize("levels", DEPTHS[1:])
def test_a_status_that_is_nested_too_deeply_is_not_kept(levels: int) -> None:
    entry = TrackedRelease.of(release() | {"status": {"message": nested(levels)}})
    entry.view()
    assert entry.tampered
    assert entry.take_newer(release(2)) and entry.take_newer(
        release(3) | {"status": {"message": nested(levels)}}
    )
    entry.view()
    assert entry.tampered


@pytest.mark.parametrize("how", ["map", "list"])
@pytest.mark.parametrize("levels", [1100, 9000])
def test_of_what_comes_together_only_what_is_too_deep_is_cut(levels: int, how: str) -> None:
    page = {
        "items": [
            {"name": "a"},
            {"name": "b", "spec": "DEEP", "more": '[[{"\\'},
            {"name": "c", "spec": nested(9)},
        ]
    }
    whole = text(page, levels, how)
    with pytest.raises(ValueError, match="depth"):
        orjson.loads(whole)
    found = wire.decode_json(whole)
    assert found["items"][0] == page["items"][0] and found["items"][2] == page["items"][2]
    assert (found["items"][1]["name"], found["items"][1]["more"]) == ("b", '[[{"\\')
    assert size.measure_shape(found)[1] == wire.MAX_JSON_LEVELS + 1


def test_what_is_not_deep_is_not_cut() -> None:
    chance = random.Random(7)

    def some(depth: int) -> Any:
        kind = chance.randrange(4) if depth else 3
        if kind < 2:
            return {f'"{{{n}\\': some(depth - 1) for n in range(chance.randrange(3))}
        return (
            [some(depth - 1) for _ in range(chance.randrange(4))]
            if kind == 2
            else chance.choice(['}"]\\', "é", 1, None])
        )

    for _ in range(200):
        whole = orjson.dumps(some(9))
        assert wire.cut_below_levels(whole) == whole
        assert orjson.loads(wire.cut_below_levels(whole)) == orjson.loads(whole)


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        (b'"\\ud800"', "?"),
        (b"9" * 400, None),
        (b"1e999", None),
        (b'"\xff"', "�"),
        (b"9" * 5000, None),
        (b"NaN", None),
    ],
)
def test_what_a_strict_reader_refuses_is_replaced(odd: bytes, read: Any) -> None:
    found = wire.decode_json(b'{"items": [{"name": "a"}, {"name": "b", "odd": ' + odd + b"}]}")
    assert found == {"items": [{"name": "a"}, {"name": "b", "odd": read}]}
    orjson.dumps(found)


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        wire.decode_json(GARBAGE)


def test_of_an_object_of_another_kind_nothing_is_made_if_it_is_cut() -> None:
    other = {
        "apiVersion": "a.io/v1",
        "kind": "Odd",
        "metadata": {"name": "b", "managedFields": "DEEP"},
        "spec": {"a": 1},
    }
    assert wire.decode_object(text(other, 2000))["spec"] == {"a": 1}, (
        "who wrote its fields is not what it is"
    )
    with pytest.raises(Permanent, match="Odd b is nested more than 300 levels"):
        wire.decode_object(text(other | {"spec": "DEEP"}, 2000))
    own = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "b"},
        "spec": "DEEP",
    }
    assert wire.decode_object(text(own, 2000))["metadata"]["name"] == "b", (
        "its spec is refused for that"
    )


# A watch


def deep_line(version: int, place: str) -> bytes:
    meta: dict[str, Any] = {"name": "odd", "namespace": "shop", "resourceVersion": str(version)}
    found = (
        {"metadata": meta, place: "DEEP"}
        if place == "spec"
        else {"metadata": meta | {place: "DEEP"}}
    )
    return text({"type": "ADDED", "object": found}, 2000) + b"\n"


@pytest.mark.parametrize(
    "odd",
    [
        deep_line(102, "spec"),
        deep_line(102, "managedFields"),
        b'{"type": "ADDED", "object"\n',
        b'{"type": "ADDED"}\n',
        b"[]\n",
        b'{"type": "ADDED", "object": {"metadata": {}}}\n',
    ],
)
async def test_no_event_ends_a_watch(odd: bytes) -> None:
    later: list[bytes | Exception] = [line("ADDED", 103)]
    server = Server([line("ADDED", 101), odd, *later], later, [line("MODIFIED", 104)])
    await server.run()
    assert {"101", "103", "104"} <= {version for _, _, version in server.told}


async def test_whoever_cannot_take_an_event_in_misses_that_one_alone() -> None:
    class Picky(Server):
        def take(self, path: str, kind: str, body: dict[str, Any]) -> None:
            if body["metadata"]["resourceVersion"] == "102":
                raise RecursionError("too deep")
            super().take(path, kind, body)

    await (server := Picky([line("ADDED", 101), line("ADDED", 102), line("ADDED", 103)])).run()
    assert [version for _, _, version in server.told] == ["101", "103"]
    assert server.asked == ["list", "100", "103"], "the stream goes on"


# The start, the lists, the workers


class There:
    """Lists these Releases and streams nothing; what else is asked is not there."""

    def __init__(self, *releases: dict[str, Any]) -> None:
        self.releases = {item["metadata"]["name"]: item for item in releases}
        self.lists: list[str] = []
        self.reads: list[str] = []
        self.most = self.now = 0
        self.refusal: Exception = NotFound("not there")

    async def each(self, path: str, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        self.lists.append(path)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        if "/releases" in path:
            for item in self.releases.values():
                yield item

    async def get(self, path: str) -> dict[str, Any]:
        self.reads.append(path)
        if "?limit=1" in path:
            return {"metadata": {"resourceVersion": "1"}}
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        name = path.rpartition("/")[2]
        if name not in self.releases:
            raise self.refusal
        return self.releases[name]

    async def stream(
        self, path: str, silence: float, opened: Callable[[], None], accept: str = ""
    ) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


def reconciler(there: There, settings: Settings = SETTINGS) -> Controller:
    return Controller(cast(Any, there), cast(Any, _Leader()), settings)


class Passes:
    """Counts the passes over each Release; those over some of them fail in a way of their own."""

    def __init__(self, **faults: Exception) -> None:
        self.made: list[str] = []
        self.faults = faults

    async def reconcile(self, entry: TrackedRelease) -> None:
        self.made.append(entry.key[1])
        if entry.key[1] in self.faults:
            raise self.faults[entry.key[1]]


def of(name: str, **more: Any) -> dict[str, Any]:
    return release(name=name, **more)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


ODD: dict[str, dict[str, Any]] = {
    "deep": of("odd", spec=SPEC | {"more": nested(2000)}),
    "surrogate": of("odd", spec=SPEC | {"more": "\ud800"}),
    "huge": of("odd", spec=SPEC | {"more": 10**30}),
    "version": of("odd", generation="many"),
    "status": of("odd") | {"status": ["none"]},
    "notices": of("odd") | {"status": {"notices": [{"id": nested(2000)}], "run": {"id": 1}}},
}


@pytest.mark.parametrize("kind", ODD)
async def test_no_object_ends_the_start_or_a_list(kind: str) -> None:
    there = There(of("a"), ODD[kind], of("z"))
    found = reconciler(there)
    found.workers.reconciler = cast(Any, passes := Passes())
    await found.start()
    await until(lambda: {"a", "z"} <= set(passes.made))
    assert found.dead() is None
    there.releases["a"] = of("a", version=5)
    await found.relist.compare()
    assert found.runtime.releases["shop", "a"].version == 5
    there.releases["odd"] = ODD[kind] | {
        "metadata": ODD[kind]["metadata"] | {"resourceVersion": "9"}
    }
    await found.relist.compare()
    assert found.dead() is None and all(not task.done() for task in found._tasks)
    await found.stop()


async def test_what_cannot_be_taken_in_is_no_dead_watch() -> None:
    there = There(of("a"), ODD["version"])
    found = reconciler(there)
    await found.relist.compare()
    assert len(found.missed) == 1 and ("shop", "a") in found.missed
    assert set(found.runtime.releases) == {("shop", "a")}
    there.releases["far"] = of("far")
    there.get = _unreadable  # type: ignore[method-assign]
    await found.relist.compare()
    assert ("shop", "far") not in found.missed


async def _unreadable(path: str) -> dict[str, Any]:
    raise Unreadable("cut off")


async def test_no_release_ends_a_worker() -> None:
    there = There(*(of(f"odd-{number}") for number in range(40)), of("z"))
    found = reconciler(there)
    faults: list[Exception] = [
        Retryable("away"),
        Permanent("no"),
        ValueError("bug"),
        RecursionError("deep"),
    ]
    found.workers.reconciler = cast(
        Any, passes := Passes(**{f"odd-{number}": faults[number % 4] for number in range(40)})
    )

    async def broken(key: tuple[str, str]) -> None:
        raise TypeError("Recursion limit reached")

    found.tracking.reread = broken  # type: ignore[method-assign]
    await found.start()
    await until(lambda: len(set(passes.made)) == 41)
    found.tracking.event("ADDED", of("later"))
    await until(lambda: "later" in passes.made)
    assert found.dead() is None and all(not task.done() for task in found._tasks)
    await found.stop()


@pytest.mark.parametrize(
    "which", ["worker 3", "the list once a minute", "sender of Events 0", "the watch of"]
)
async def test_whatever_has_ended_is_said_to_the_liveness_probe(which: str) -> None:
    found = reconciler(There())
    await found.start()
    assert found.dead() is None
    task = next(task for task in found._tasks if task.get_name().startswith(which))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert found.dead() == f"{task.get_name()} has ended"
    await found.stop()


async def test_an_event_that_cannot_be_sent_ends_no_sender() -> None:
    sent: list[Any] = []

    class Sends:
        async def create_for_metadata(self, path: str, body: Any) -> None:
            sent.append(body)
            if len(sent) == 1:
                raise TypeError("str is not valid UTF-8")

    outbox = EventSender(cast(Any, Sends()), "one")
    outbox._put_event({"metadata": {"namespace": "shop"}})
    outbox._put_event({"metadata": {"namespace": "shop"}})
    task = asyncio.create_task(outbox.run())
    await until(lambda: len(sent) == 2)
    task.cancel()


# What is done once


@pytest.mark.parametrize("how", ["reread", "event", "vanished"])
async def test_of_a_release_that_was_replaced_or_went_unseen_nothing_runs_on(how: str) -> None:
    there = There(of("web", uid="new", version=7))
    found = reconciler(there)
    found.tracking.acting = True
    old = found.runtime.releases["shop", "web"] = TrackedRelease.of(of("web"))
    poller = asyncio.create_task(asyncio.Event().wait())
    known = old.operations["1"] = OperationState(cast(Any, None))
    known.poller, known.subject = cast(Any, poller), "action/a"
    refused: list[tuple[Any, str]] = []
    found.runtime.interventions.refuse = lambda key, message: refused.append((key, message))  # type: ignore[method-assign]
    if how == "reread":
        await found.tracking.reread(("shop", "web"))
    elif how == "event":
        found.tracking.event("ADDED", there.releases["web"])
    else:
        there.releases.clear()
        await found.relist.compare()
    await asyncio.wait([poller, *found.runtime.background.tasks], timeout=5)
    assert poller.cancelled() and not old.operations
    assert refused == [(("shop", "web"), "the Release was deleted")]
    assert any("/jobs" in path for path in there.lists), "its Jobs are let go"
    assert [entry.obj["metadata"]["uid"] for entry in found.runtime.releases.values()] == (
        [] if how == "vanished" else ["new"]
    )


async def test_jobs_of_many_deleted_releases_are_let_go_by_two_lists_of_a_namespace() -> None:
    names = [f"r-{number}" for number in range(50)]
    there = There()
    found = reconciler(there)
    found.tracking.acting = True
    for name in names:
        found.runtime.releases["shop", name] = TrackedRelease.of(of(name))
    for name in names[:25]:
        found.tracking.event("DELETED", of(name))
    await asyncio.sleep(0.001)  # the first list is under way
    for name in names[25:]:
        found.tracking.event("DELETED", of(name))
    await asyncio.gather(*found.runtime.background.tasks)
    assert len(there.lists) == 2 and there.most == 1
    found.tracking._orphans.look("shop")
    await asyncio.gather(*found.runtime.background.tasks)
    assert len(there.lists) == 3, "later ones are let go too"


async def test_releases_that_nobody_knows_are_looked_for_few_at_a_time() -> None:
    there = There()
    found = reconciler(there)
    found.tracking.acting = True
    for _ in range(3):
        for number in range(20):
            found.tracking.wake(("shop", f"no-{number}"))
    await asyncio.gather(*found.runtime.background.tasks)
    assert there.most == UNKNOWN_RELEASES_AT_ONCE and len(there.reads) == 20
