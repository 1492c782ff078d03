"""A watch goes on where it was cut, and says where it may have missed something."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster import watch
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.watch import Watch
from gatewright.runtime.execution.config_watch import ConfigWatches


def line(kind: str, version: int, **more: Any) -> bytes:
    meta = {
        "name": "web",
        "namespace": "shop",
        "resourceVersion": str(version),
        "managedFields": ["much"],
    }
    return json.dumps({"type": kind, "object": {"metadata": meta, **more}}).encode() + b"\n"


class Server:
    """Answers a list with a version, and each watch with the next of its streams."""

    def __init__(self, *streams: Sequence[bytes | Exception]) -> None:
        self.streams = list(streams)
        self.asked: list[str] = []
        self.told: list[tuple[str, str, str]] = []
        self.gaps = 0
        self.over = asyncio.Event()

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append("list")
        return {"metadata": {"resourceVersion": "100"}}

    async def stream(
        self, path: str, silence: float, opened: Callable[[], None], accept: str = ""
    ) -> AsyncIterator[bytes]:
        version = path.partition("resourceVersion=")[2].partition("&")[0]
        self.asked.append(version)
        if not self.streams:
            self.over.set()
            await asyncio.Event().wait()
        opened()
        for part in self.streams.pop(0):
            if isinstance(part, Exception):
                raise part
            yield part

    def take(self, path: str, kind: str, body: dict[str, Any]) -> None:
        assert "managedFields" not in body["metadata"]
        self.told.append((path, kind, body["metadata"]["resourceVersion"]))

    def gap(self, part: str) -> None:
        assert part == "/deployments/"
        self.gaps += 1

    async def run(self) -> None:
        found = Watch(self, "apps/v1", "deployments", "", "", self.take, self.gap)  # type: ignore[arg-type]
        task = asyncio.create_task(found.run())
        await asyncio.wait_for(self.over.wait(), 10)
        task.cancel()


WEB = "/apis/apps/v1/namespaces/shop/deployments/web"


async def test_a_stream_that_ends_or_breaks_goes_on_from_the_last_version_without_a_gap() -> None:
    server = Server(
        [line("ADDED", 101), line("MODIFIED", 103)],
        [line("BOOKMARK", 150)],
        [Retryable("cut")],
        [line("DELETED", 151)],
    )
    await server.run()
    assert server.asked == ["list", "100", "103", "150", "150", "151"]
    assert server.told == [(WEB, "ADDED", "101"), (WEB, "MODIFIED", "103"), (WEB, "DELETED", "151")]
    assert server.gaps == 1, "at the start nothing is known"


async def test_lines_that_come_in_pieces_are_put_together() -> None:
    whole = line("ADDED", 101) + line("MODIFIED", 102)
    await (server := Server([whole[:7], whole[7:60], whole[60:]])).run()
    assert [version for _, _, version in server.told] == ["101", "102"]


async def test_a_forgotten_version_is_a_gap() -> None:
    gone = (
        json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old"}}).encode()
        + b"\n"
    )
    await (server := Server([line("ADDED", 101)], [gone], [line("MODIFIED", 102)])).run()
    assert server.asked == ["list", "100", "101", "list", "100", "102"]
    assert server.gaps == 2


async def test_a_refusal_is_a_gap_as_well() -> None:
    await (
        server := Server([line("ADDED", 101)], [Permanent("410 Gone")], [line("MODIFIED", 102)])
    ).run()
    assert server.asked == ["list", "100", "101", "list", "100", "102"]
    assert server.gaps == 2


async def test_a_watch_that_hangs_is_dead_and_one_that_tries_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "DEAD_AFTER_S", 0.3)
    found = Watch(Server(), "apps/v1", "deployments", "", "", print, print)  # type: ignore[arg-type]
    assert found.dead() is None
    await asyncio.sleep(0.4)
    assert found.dead() == "/apis/apps/v1/deployments"
    away = Server(*[[Retryable("the API server is away")] for _ in range(50)])
    trying = Watch(away, "apps/v1", "deployments", "", "", print, away.gap)  # type: ignore[arg-type]
    monkeypatch.setattr(watch, "RETRY_DELAYS_S", (0.05,))
    task = asyncio.create_task(trying.run())
    for _ in range(8):
        await asyncio.sleep(0.1)
        assert trying.dead() is None
    task.cancel()


@pytest.mark.parametrize("how", ["get", "patch"])
async def test_an_answer_from_before_a_gap_is_not_kept(how: str) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()
    versions = iter(["101", "105"])

    class Slow:
        async def get(self, path: str) -> dict[str, Any]:
            asked.set()
            await answered.wait()
            return {"metadata": {"resourceVersion": next(versions)}}

        async def patch(self, path: str, body: Any, kind: str) -> dict[str, Any]:
            return await self.get(path)

    lens = CachedCluster(Slow())  # type: ignore[arg-type]
    lens.follow(("shop", "web"), {WEB})
    look = asyncio.create_task(lens.get(WEB) if how == "get" else lens.patch(WEB, {}, "merge"))
    await asked.wait()
    assert lens.doubt("/deployments/") == {("shop", "web")}
    answered.set()
    assert (await look)["metadata"]["resourceVersion"] == "101"
    assert (await lens.get(WEB))["metadata"]["resourceVersion"] == "105", "what was missed is read"


# --------------------------------------------------------------------------------------------------
# ConfigMaps: watched only where and while somebody needs it


class Namespaces:
    """Watches that stay open; what is open by now, and what each was told."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.lists: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.gaps: list[str] = []
        self.events: dict[str, asyncio.Queue[bytes]] = {}

    async def get(self, path: str) -> dict[str, Any]:
        self.lists.append(path.partition("?")[0])
        return {"metadata": {"resourceVersion": "100"}}

    async def stream(
        self, path: str, silence: float, opened: Callable[[], None], accept: str = ""
    ) -> AsyncIterator[bytes]:
        where = path.partition("?")[0]
        self.open.append(where)
        queue = self.events.setdefault(where, asyncio.Queue())
        try:
            while True:
                yield await queue.get()
        finally:
            self.open.remove(where)

    def take(self, path: str, kind: str, body: dict[str, Any]) -> None:
        self.told.append((path, kind))

    def watches(self, linger: float = 0.1) -> ConfigWatches:
        return ConfigWatches(self, self.take, self.gaps.append, linger)  # type: ignore[arg-type]


SHOP, BANK = "/api/v1/namespaces/shop/configmaps", "/api/v1/namespaces/bank/configmaps"
A, B, C = ("shop", "a"), ("shop", "b"), ("bank", "c")


async def settle(seconds: float = 0.02) -> None:
    await asyncio.sleep(seconds)


async def test_a_namespace_is_watched_from_the_first_who_asks_until_a_while_after_the_last() -> (
    None
):
    found = (there := Namespaces()).watches()
    await settle()
    assert there.open == there.lists == [], "at rest nothing is watched"
    for key in (A, B, A):
        found.follow(key, "shop", True)
    await settle()
    assert there.open == [SHOP] and there.lists == [SHOP] and there.gaps == ["/configmaps/"]
    found.follow(C, "bank", True)
    found.follow(A, "shop", False)
    await settle(0.2)
    assert there.open == [SHOP, BANK], "one still needs it"
    found.follow(B, "shop", False)
    await settle(0.05)
    assert there.open == [SHOP, BANK], "the next run may begin soon"
    await settle(0.15)
    assert there.open == [BANK]
    found.follow(A, "shop", True)
    await settle()
    assert there.open == [BANK, SHOP] and there.gaps == ["/configmaps/"] * 3, (
        "what was not watched is read anew"
    )
    await found.close()
    assert there.open == []


async def test_a_busy_namespace_keeps_its_watch_from_one_run_to_the_next() -> None:
    found = (there := Namespaces()).watches()
    for key in (A, B, A, B):
        found.follow(key, "shop", True)
        await settle(0.05)
        found.follow(key, "shop", False)
        found.follow(key, "shop", False)  # as each pass says
        await settle(0.05)
    assert there.lists == [SHOP] and there.open == [SHOP]
    await settle(0.2)
    assert there.open == []
    await found.close()


async def test_whoever_has_asked_for_nothing_lets_go_of_nothing() -> None:
    found = (there := Namespaces()).watches()
    found.follow(B, "shop", False)
    found.follow(A, "shop", True)
    found.follow(B, "shop", False)
    await settle(0.2)
    assert there.open == [SHOP]
    await found.close()


async def test_what_changes_is_told_as_of_workloads() -> None:
    found = (there := Namespaces()).watches()
    found.follow(A, "shop", True)
    await settle()
    there.events[SHOP].put_nowait(line("MODIFIED", 101))
    await settle()
    assert there.told == [(f"{SHOP}/web", "MODIFIED")]
    await found.close()


async def test_a_watch_of_configmaps_that_hangs_is_said_until_it_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "DEAD_AFTER_S", 0.1)
    found = (there := Namespaces()).watches(linger=0.1)
    assert found.dead() is None
    found.follow(A, "shop", True)
    await settle()
    assert found.dead() is None
    await settle(0.15)
    assert found.dead() == SHOP
    found.follow(A, "shop", False)
    await settle(0.15)
    assert found.dead() is None and there.open == []
    await found.close()
