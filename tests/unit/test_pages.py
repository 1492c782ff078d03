"""Lists come in pages that stay small, whatever is in them, and each object without what nobody
asks about."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client as kubernetes_client

from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster import pages, refusals
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.pages import FIRST_PAGE_ITEMS, MAX_PAGE_BYTES
from gatewright.runtime.cluster.wire import LAST_APPLIED_ANNOTATION

WHERE = "/apis/gatewright.dev/v1alpha1/releases"


class Server:
    """An API server that keeps so many objects of so many bytes, and forgets its lists at some
    places."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.forgets: dict[int, str] = {}
        """At which object a list is forgotten, once; and the token to go on with."""
        self.limits: list[int] = []
        self.queries: list[dict[str, str]] = []
        self.odd: dict[int, bytes] = {}
        """What comes as the spec of some objects, in place of text."""

    async def answer(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        begin, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        self.limits.append(limit)
        if begin in self.forgets:
            status = {"message": "too old", "metadata": {"continue": self.forgets.pop(begin)}}
            return web.json_response(status, status=410)
        end = min(begin + limit, len(self.sizes))
        items = [_object(number, self.sizes[number]) for number in range(begin, end)]
        for number, item in zip(range(begin, end), items, strict=True):
            if number in self.odd:
                item["spec"] = f"odd-{number}"
        following = str(end) if end < len(self.sizes) else ""
        page = json.dumps({"items": items, "metadata": {"continue": following}})
        if "PartialObjectMetadata" in request.headers["Accept"]:
            return web.Response(text=page, content_type="application/json")
        for number in range(begin, end):
            if number in self.odd:
                page = page.replace(f'"odd-{number}"', self.odd[number].decode())
        return web.Response(text=page, content_type="application/json")


def _object(number: int, size: int) -> dict[str, Any]:
    annotations = {LAST_APPLIED_ANNOTATION: "all of it once more", "own": "kept"}
    meta = {
        "name": f"r-{number}",
        "namespace": "shop",
        "managedFields": ["much"],
        "annotations": annotations,
    }
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
    configuration = kubernetes_client.Configuration(
        host=f"http://127.0.0.1:{runner.addresses[0][1]}"
    )
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
        {"name": f"r-{number}", "namespace": "shop", "annotations": {"own": "kept"}}
        for number in range(3)
    ]
    assert server.queries == [
        {"limit": str(FIRST_PAGE_ITEMS), "labelSelector": "a=b", "fieldSelector": "c=d"}
    ]


async def test_small_objects_come_in_larger_pages_and_the_next_list_begins_with_them(
    server: Server, kube: Kube
) -> None:
    server.sizes = [700] * 400
    assert len(await _names(kube)) == 400
    assert server.limits == [FIRST_PAGE_ITEMS, 500]
    assert len(await _names(kube)) == 400
    assert server.limits == [FIRST_PAGE_ITEMS, 500, 500], "a list of a fleet is one request"


async def test_huge_objects_come_in_pages_of_a_few(server: Server, kube: Kube) -> None:
    server.sizes = [2**20] * 30
    assert await _names(kube) == [f"r-{number}" for number in range(30)]
    assert max(server.limits[1:]) <= FIRST_PAGE_ITEMS // 4, server.limits


async def test_a_page_that_turns_out_too_large_is_asked_for_with_fewer_objects(
    server: Server, kube: Kube
) -> None:
    server.sizes = [10] * 100 + [2**20] * 40
    assert await _names(kube) == [f"r-{number}" for number in range(140)]
    assert (
        server.limits[:5] == [FIRST_PAGE_ITEMS, 500, 125, 31, 62] and max(server.limits[10:]) <= 8
    ), server.limits


async def test_one_object_alone_may_have_any_size(server: Server, kube: Kube) -> None:
    server.sizes = [2 * MAX_PAGE_BYTES, 10]
    assert await _names(kube) == ["r-0", "r-1"]


async def test_a_list_that_takes_too_long_is_asked_for_with_fewer_objects(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.sizes = [10] * 3
    answer = kube._transport.request

    async def slow(method: str, path: str, *more: Any, **named: Any) -> bytes:
        if f"limit={FIRST_PAGE_ITEMS}" in path:
            raise refusals.TimedOut("no answer in 8s")
        return await answer(method, path, *more, **named)

    monkeypatch.setattr(kube._transport, "request", slow)
    assert len(await _names(kube)) == 3
    assert server.limits == [FIRST_PAGE_ITEMS // 4]


@pytest.mark.parametrize("token", ["20", ""])
async def test_a_list_that_is_forgotten_on_the_way_goes_on(
    server: Server, kube: Kube, token: str
) -> None:
    server.sizes = [MAX_PAGE_BYTES // 80] * 60
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

    server.sizes = [MAX_PAGE_BYTES // 80] * 60
    server.forgets = Always()
    with pytest.raises(Retryable, match="410 too old"):
        await _names(kube)
    assert len(server.limits) == 2 + pages.MAX_LIST_RESTARTS


async def test_all_at_once_has_each_object_once(server: Server, kube: Kube) -> None:
    server.sizes = [MAX_PAGE_BYTES // 80] * 60
    server.forgets = {20: ""}
    assert len(await kube.list(WHERE)) == 60


async def test_what_is_refused_for_good_is_said(kube: Kube) -> None:
    with pytest.raises(Permanent):
        await kube.list("/apis/nothing")


# What is odd, and what is much


@pytest.mark.parametrize("levels", [300, 2000, 9000])
async def test_an_object_that_is_nested_deeply_comes_with_all_others(
    server: Server, kube: Kube, levels: int
) -> None:
    server.sizes = [10] * 50
    server.odd = {7: b"[" * levels + b"]" * levels, 30: b'{"a":' * levels + b"1" + b"}" * levels}
    assert await _names(kube) == [f"r-{number}" for number in range(50)]
    assert len(server.limits) == 2, "it costs no more requests"


@pytest.mark.parametrize("number", [0, 7, 19, 30, 49])
async def test_an_object_that_cannot_be_read_at_all_is_named_and_passed_over(
    server: Server, kube: Kube, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.sizes = [10] * 50
    server.odd = {number: b"{{"}
    with caplog.at_level(logging.ERROR):
        assert await _names(kube) == [f"r-{other}" for other in range(50) if other != number]
    (said,) = caplog.messages
    assert f"shop/r-{number} is passed over" in said
    assert len(server.queries) < 60


def _own(item: dict[str, Any]) -> dict[str, Any] | None:
    return (
        {"name": item["metadata"]["name"]} if item["metadata"]["name"] in ("r-3", "r-79") else None
    )


async def test_what_others_have_labelled_is_dropped_as_it_comes(server: Server, kube: Kube) -> None:
    server.sizes = [2**20] * 80
    assert await kube.list(WHERE, "a=b", keep=_own) == [{"name": "r-3"}, {"name": "r-79"}]


async def test_what_is_kept_at_once_is_bounded_in_bytes(server: Server, kube: Kube) -> None:
    server.sizes = [2**20] * 80
    with pytest.raises(Permanent, match=r"too many objects carry a=b .* MiB\); delete those"):
        await kube.list(WHERE, "a=b")
    assert sum(server.limits) < 60, "no more is read than is needed to know that"


async def test_what_is_kept_at_once_is_bounded_in_number(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_LIST_ITEMS", 100)
    server.sizes = [1] * 100
    assert len(await kube.list(WHERE, "a=b")) == 100
    server.sizes = [1] * 101
    with pytest.raises(Permanent, match="too many objects carry a=b"):
        await kube.list(WHERE, "a=b")


async def test_what_is_read_to_find_a_few_is_bounded(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_LIST_READ_BYTES", 8 * 2**20)
    server.sizes = [2**20] * 80
    with pytest.raises(Permanent, match=r"too many objects carry a=b .more than 8 MiB"):
        await kube.list(WHERE, "a=b", keep=_own)
    assert len(await _names(kube)) == 80, "a list that is not kept is not bounded"


async def test_what_is_nested_too_deeply_to_be_measured_is_too_much(
    server: Server, kube: Kube
) -> None:
    server.sizes, server.odd = [10] * 2, {1: b"[" * 290 + b"]" * 290}
    with pytest.raises(Permanent, match="too many"):
        await kube.list(WHERE)


@pytest.mark.parametrize("odd", ["\ud800", 10**30, "deep"])
async def test_what_cannot_be_written_is_refused_before_it_is_sent(kube: Kube, odd: Any) -> None:
    for _ in range(400 if odd == "deep" else 0):
        odd = [odd]
    with pytest.raises(Permanent, match="cannot be written as JSON"):
        await kube.patch(WHERE, {"data": odd}, "merge")
