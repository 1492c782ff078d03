"""ConfigMaps captured with targets, at rest: what is remembered of them, and what costs a
request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from gatewright.api.status import ReleaseStatus
from gatewright.core.model.holding import Holding
from gatewright.core.model.view import View
from gatewright.core.run import resting
from gatewright.ports import NotFound, Retryable
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.wire import JUST_METADATA
from gatewright.runtime.execution.contents import hash_configmap
from gatewright.runtime.execution.resting_configs import (
    ConfigChanges,
    compare_resting,
    resting_paths,
)
from gatewright.runtime.lookups import RestingConfig

VIEW = View("shop", "web", "u1", 1, None, ReleaseStatus())
FLAGS = "/api/v1/namespaces/shop/configmaps/flags"
CAPTURED = {"captured": True, "restore": None}
ON = {"metadata": {"name": "flags"}, "data": {"VOICE": "on"}}


def left(snapshot: dict[str, Any], config: Any = CAPTURED, name: str = "configmap/flags") -> Any:
    data = {
        "subjects": {name: {"config": config, "changes": []}},
        "snapshots": {name: snapshot},
    }
    return resting.left_subjects(data)


def test_of_a_captured_configmap_only_the_hash_is_remembered() -> None:
    found = left({"data": {"VOICE": "on"}, "binaryData": {}, "hash": "h1"})
    assert found["configmap/flags"]["snapshot"] == {"hash": "h1"}
    (holding,) = resting.holdings(found)
    assert (holding.subject, [item.kind for item in holding.operations]) == (
        "configmap/flags",
        ["restore"],
    )


@pytest.mark.parametrize(
    ("snapshot", "config", "name"),
    [
        ({"hash": "h1"}, {"captured": False}, "configmap/flags"),
        ({"hash": "h1"}, CAPTURED, "secret/keys"),
        ({"hash": "h1"}, {"unleash": {}}, "flags/beta.flags"),
        # Somebody had changed it before the run that was rolled back.
        ({"hash": "h1", "found": "h2"}, CAPTURED, "configmap/flags"),
        # Of an operator that kept no hash.
        ({"data": {}}, CAPTURED, "configmap/flags"),
    ],
)
def test_what_is_not_compared(snapshot: dict[str, Any], config: Any, name: str) -> None:
    assert left(snapshot, config, name) == {}


def test_one_that_was_as_it_had_been_promoted_is_compared_after_a_rollback() -> None:
    found = left({"data": {}, "hash": "h1", "found": "h1"})
    assert found["configmap/flags"]["snapshot"] == {"hash": "h1"}


class Reads:
    """A cluster that counts what it is asked for."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), 0

    async def get(self, path: str) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    managed = get


HOLDING = Holding("configmap/flags", CAPTURED, ())


async def compared(reads: Reads, known: dict[str, RestingConfig], wanted: str) -> str:
    cluster = CachedCluster(cast(Any, reads))
    standing = await compare_resting(cluster, known, VIEW, HOLDING, {"hash": wanted})
    return standing.difference


async def test_what_has_not_changed_is_read_once() -> None:
    reads = Reads(ON)
    known: dict[str, Any] = {}
    for _ in range(5):
        assert await compared(reads, known, hash_configmap(ON)) == ""
    assert reads.asked == 1


async def test_what_differs_is_read_once_more_for_who_it_was() -> None:
    reads = Reads(ON)
    known: dict[str, Any] = {}
    for _ in range(5):
        difference = await compared(reads, known, "other")
        assert "does not hold what it did at the end of the last run" in difference
    assert reads.asked == 2
    # Whoever is told of a change takes it out.
    known.clear()
    reads.answers = [NotFound("gone")]
    assert await compared(reads, known, "other") == (
        "configmap/flags is gone: somebody has deleted it"
    )


async def test_what_cannot_be_read_is_not_taken_for_gone() -> None:
    reads = Reads(Retryable("away"), ON)
    known: dict[str, Any] = {}
    with pytest.raises(Retryable):
        await compared(reads, known, hash_configmap(ON))
    assert await compared(reads, known, hash_configmap(ON)) == ""


class Streams:
    """An API server whose watches stay open."""

    def __init__(self) -> None:
        self.lists: list[str] = []
        self.open: list[tuple[str, str]] = []
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def get(self, path: str) -> dict[str, Any]:
        self.lists.append(path.partition("?")[0])
        return {"metadata": {"resourceVersion": "100"}}

    async def stream(
        self, path: str, silence: float, opened: Callable[[], None], accept: str = ""
    ) -> AsyncIterator[bytes]:
        self.open.append((path.partition("?")[0], accept))
        opened()
        while True:
            yield await self.lines.get()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


async def test_one_watch_of_metadata_serves_all_and_tells_of_what_is_followed() -> None:
    there = Streams()
    told: list[tuple[Any, Any]] = []
    changes = ConfigChanges(cast(Any, there), (), lambda key, path: told.append((key, path)))
    await asyncio.sleep(0.01)
    assert (there.lists, there.open) == ([], []), "nobody has captured anything"

    a, b = ("shop", "a"), ("shop", "b")
    changes.follow(a, {FLAGS})
    await until(lambda: len(there.open) == 1)
    assert there.open == [("/api/v1/configmaps", JUST_METADATA)]
    assert told == [(a, FLAGS)], "what was read before it began may have changed"

    changes.follow(b, {FLAGS})
    for name in ("flags", "others"):
        there.lines.put_nowait(
            b'{"type":"MODIFIED","object":{"metadata":{"namespace":"shop","name":"%s",'
            b'"resourceVersion":"101"}}}\n' % name.encode()
        )
    await until(lambda: len(told) == 3)
    assert set(told[1:]) == {(a, FLAGS), (b, FLAGS)} and len(there.open) == 1

    changes.follow(a, set())
    changes.follow(b, set())
    assert changes._followers == {} and changes._paths == {}
    assert changes.ended() is None and changes.dead() is None
    await changes.close()


async def test_within_namespaces_there_is_one_for_each() -> None:
    there = Streams()
    changes = ConfigChanges(cast(Any, there), ("shop", "bank"), lambda key, path: None)
    changes.follow(("shop", "a"), {FLAGS})
    await until(lambda: len(there.open) == 2)
    assert {where for where, _ in there.open} == {
        "/api/v1/namespaces/bank/configmaps",
        "/api/v1/namespaces/shop/configmaps",
    }
    await changes.close()


def test_within_a_run_the_watch_of_what_they_hold_tells() -> None:
    assert resting_paths(VIEW, [HOLDING]) == {FLAGS}
