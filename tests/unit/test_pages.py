"""Lists come in pages that stay small, whatever is in them, and each object without what nobody asks about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client as kubernetes_client

from gatewright.ports import Permanent, Retryable
from gatewright.runtime import kube as kube_module
from gatewright.runtime.kube import PAGE, PAGE_BYTES, Kube
from gatewright.runtime.wire import APPLIED

WHERE = "/apis/gatewright.dev/v1alpha1/releases"


class Server:
    """An API server that keeps so many objects of so many bytes, and forgets its lists at some places."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.forgets: dict[int, str] = {}
        """At which object a list is forgotten, once; and the token to go on with."""
        self.limits: list[int] = []
        self.queries: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        begin, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        self.limits.append(limit)
        if begin in self.forgets:
            status = {"message": "too old", "metadata": {"continue": self.forgets.pop(begin)}}
            return web.json_response(status, status=410)
        end = min(begin + limit, len(self.sizes))
        items = [_object(number, self.sizes[number]) for number in range(begin, end)]
        following = str(end) if end < len(self.sizes) else ""
        return web.json_response({"items": items, "metadata": {"continue": following}})


def _object(number: int, size: int) -> dict[str, Any]:
    annotations = {APPLIED: "all of it once more", "own": "kept"}
    meta = {"name": f"r-{number}", "namespace": "shop", "managedFields": ["much"], "annotations": annotations}
    return {"metadata": meta, "spec": "x" * size}


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def kube(server: Server) -> AsyncIterator[Kube]:
    app = web.Application()
    app.router.add_get(WHERE, server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = kubernetes_client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    found = Kube(kubernetes_client.ApiClient(configuration))
    yield found
    await found.close()
    await runner.cleanup()


async def _names(kube: Kube) -> list[str]:
    return [item["metadata"]["name"] async for item in kube.each(WHERE)]


async def test_objects_come_one_by_one_and_lean(server: Server, kube: Kube) -> None:
    server.sizes = [10] * 3
    found = [item async for item in kube.each(WHERE, "a=b", "c=d")]
    assert [item["metadata"] for item in found] == [
        {"name": f"r-{number}", "namespace": "shop", "annotations": {"own": "kept"}} for number in range(3)
    ]
    assert server.queries == [{"limit": str(PAGE), "labelSelector": "a=b", "fieldSelector": "c=d"}]


async def test_small_objects_come_in_larger_pages_and_the_next_list_begins_with_them(
    server: Server, kube: Kube
) -> None:
    server.sizes = [1000] * 400
    assert len(await _names(kube)) == 400
    assert server.limits == [PAGE, 500]
    assert len(await _names(kube)) == 400
    assert server.limits == [PAGE, 500, 500], "a list of a fleet is one request"


async def test_huge_objects_come_in_pages_of_a_few(server: Server, kube: Kube) -> None:
    server.sizes = [2**20] * 30
    assert await _names(kube) == [f"r-{number}" for number in range(30)]
    assert max(server.limits[1:]) <= PAGE // 4, server.limits


async def test_a_page_that_turns_out_too_large_is_asked_for_with_fewer_objects(server: Server, kube: Kube) -> None:
    server.sizes = [10] * 100 + [2**20] * 40
    assert await _names(kube) == [f"r-{number}" for number in range(140)]
    assert server.limits[:5] == [PAGE, 500, 125, 31, 62] and max(server.limits[10:]) <= 8, server.limits


async def test_one_object_alone_may_have_any_size(server: Server, kube: Kube) -> None:
    server.sizes = [2 * PAGE_BYTES, 10]
    assert await _names(kube) == ["r-0", "r-1"]


async def test_a_list_that_takes_too_long_is_asked_for_with_fewer_objects(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.sizes = [10] * 3
    answer = kube._answer

    async def slow(method: str, path: str, *more: Any, **named: Any) -> bytes:
        if f"limit={PAGE}" in path:
            raise kube_module.TimedOut("no answer in 8s")
        return await answer(method, path, *more, **named)

    monkeypatch.setattr(kube, "_answer", slow)
    assert len(await _names(kube)) == 3
    assert server.limits == [PAGE // 4]


@pytest.mark.parametrize("token", ["20", ""])
async def test_a_list_that_is_forgotten_on_the_way_goes_on(server: Server, kube: Kube, token: str) -> None:
    server.sizes = [PAGE_BYTES // 80] * 60
    server.forgets = {20: token}
    names = await _names(kube)
    assert set(names) == {f"r-{number}" for number in range(60)}
    assert len(names) == (60 if token else 80), "without a token it begins anew"


async def test_a_list_that_is_forgotten_again_and_again_is_given_up_for_now(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Always(dict[int, str]):
        def __contains__(self, key: object) -> bool:
            return key == 20

        def pop(self, key: int, *_: Any) -> str:
            return "20"

    server.sizes = [PAGE_BYTES // 80] * 60
    server.forgets = Always()
    with pytest.raises(Retryable, match="410 too old"):
        await _names(kube)
    assert len(server.limits) == 2 + kube_module.RESTARTS


async def test_all_at_once_has_each_object_once(server: Server, kube: Kube) -> None:
    server.sizes = [PAGE_BYTES // 80] * 60
    server.forgets = {20: ""}
    assert len(await kube.list(WHERE)) == 60


async def test_what_is_refused_for_good_is_said(kube: Kube) -> None:
    with pytest.raises(Permanent):
        await kube.list("/apis/nothing")
