"""Connections to the API server: streams, the Lease and requests are not in each other's way, nor
are namespaces."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from kubernetes.aio import client as kubernetes_client

from gatewright.ports import Retryable
from gatewright.runtime.cluster import transport
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.cluster.paths import api_path, whose
from gatewright.runtime.cluster.transport import REQUESTS
from gatewright.runtime.cluster.turnstile import (
    ESTIMATE_S,
    LONGEST_PAUSE_S,
    RECENT_S,
    TIME_BURST_S,
    TIME_SHARE,
    Turnstile,
)
from gatewright.runtime.cluster.watch import Watch

MANY = REQUESTS + 6
LEASE = api_path("coordination.k8s.io/v1", "leases", "gatewright", "gatewright")


class Server:
    """Watches never end, and so does no request of a namespace that is stuck."""

    def __init__(self) -> None:
        self.streams = 0
        self.under_way: Counter[str] = Counter()
        self.let_go = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query or request.path.endswith("/log"):
            found = web.StreamResponse()
            await found.prepare(request)
            self.streams += 1
            await self.let_go.wait()
            return found
        namespace = whose(request.path, None)
        if namespace.startswith("stuck"):
            self.under_way[namespace] += 1
            await self.let_go.wait()
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def kube(server: Server) -> AsyncIterator[Kube]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = kubernetes_client.Configuration(
        host=f"http://127.0.0.1:{runner.addresses[0][1]}"
    )
    configuration.connection_pool_maxsize = REQUESTS
    found = Kube(kubernetes_client.ApiClient(configuration))
    yield found
    server.let_go.set()
    await found.close()
    await runner.cleanup()


async def _reaches(count: int, what: str, server: Server) -> int:
    """What a count is once it has come to what is wanted, or after a while."""
    for _ in range(300):
        now = server.streams if what == "streams" else server.under_way[what]
        if now >= count:
            return now
        await asyncio.sleep(0.01)
    return server.streams if what == "streams" else server.under_way[what]


async def test_watches_take_no_connection_of_requests_and_of_the_lease(
    server: Server, kube: Kube
) -> None:
    watches = [
        Watch(kube, "v1", "configmaps", f"n{number}", "", _told, _gap) for number in range(MANY)
    ]
    tasks = [asyncio.create_task(watch.run()) for watch in watches]
    try:
        assert await _reaches(MANY, "streams", server) == MANY
        assert (await asyncio.wait_for(kube.get(LEASE), 5))["metadata"]
        assert await asyncio.wait_for(kube.list(api_path("v1", "configmaps", "shop")), 5) == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_namespace_whose_requests_are_stuck_leaves_connections_to_others(
    server: Server, kube: Kube
) -> None:
    stuck = [
        asyncio.create_task(kube.get(api_path("v1", "secrets", "stuck", str(number))))
        for number in range(2 * MANY)
    ]
    try:
        await _reaches(REQUESTS // 2, "stuck", server)
        assert (await asyncio.wait_for(kube.get(api_path("v1", "secrets", "shop", "a")), 5))[
            "metadata"
        ]
        assert (await asyncio.wait_for(kube.get(LEASE), 5))["metadata"]
        assert server.under_way["stuck"] == REQUESTS // 2
        server.let_go.set()
        assert len(await asyncio.gather(*stuck)) == 2 * MANY, "those that waited had their turn"
    finally:
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_who_waits_too_long_for_its_own_namespace_is_told_so(
    server: Server, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = api_path("v1", "secrets", "stuck", "a")
    stuck = [asyncio.create_task(kube.get(where)) for _ in range(REQUESTS // 2)]
    await _reaches(REQUESTS // 2, "stuck", server)
    monkeypatch.setattr(transport, "TURN_TIMEOUT_S", 0.01)
    with pytest.raises(Retryable, match="namespace stuck has too many requests under way"):
        await kube.get(where)
    server.let_go.set()
    await asyncio.gather(*stuck)


async def test_only_a_lease_passes_the_fence(kube: Kube) -> None:
    def closed() -> None:
        raise LeaseLost("not ours")

    kube.set_fence(closed)
    await kube.replace(LEASE, {})
    for where in (
        api_path("v1", "configmaps", "shop", "leases"),
        api_path("v1", "secrets", "shop", "leases-of-flats"),
    ):
        with pytest.raises(LeaseLost):
            await kube.replace(where, {})


REVIEW = {"spec": {"resourceAttributes": {"namespace": "shop"}}}


@pytest.mark.parametrize(
    ("where", "body", "namespace"),
    [
        (api_path("v1", "secrets", "shop", "a"), None, "shop"),
        (api_path("apps/v1", "deployments", "shop") + "?limit=1", None, "shop"),
        (api_path("apps/v1", "deployments"), None, ""),
        (api_path("authorization.k8s.io/v1", "selfsubjectaccessreviews"), REVIEW, "shop"),
        (
            api_path("v1", "secrets", "shop", "a"),
            {"spec": {"resourceAttributes": {"namespace": "other"}}},
            "shop",
        ),
    ],
)
def test_whose_a_request_is(where: str, body: object, namespace: str) -> None:
    assert whose(where, body) == namespace


# The turnstile itself


async def _inside(turns: Turnstile, share: str, count: int) -> list[asyncio.Task[None]]:
    async def stay() -> None:
        async with turns.turn(share):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(stay()) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_share_alone_has_half_and_the_next_half_of_the_rest() -> None:
    turns = Turnstile(16)
    tasks = []
    for share in "abcde":
        tasks += await _inside(turns, share, 20)
    assert [turns.inside[share] for share in "abcde"] == [8, 4, 2, 1, 1]
    await _end(*tasks)
    assert not turns.inside and turns.free == 16, "whoever was broken off gave back what he had"


async def test_who_comes_out_lets_the_share_in_that_has_waited_for_the_longest() -> None:
    turns = Turnstile(2)
    [one] = await _inside(turns, "noisy", 1)
    [two] = await _inside(turns, "other", 1)
    waiting = await _inside(turns, "noisy", 5) + await _inside(turns, "shop", 1)
    await _end(one)
    await asyncio.sleep(0)
    await _end(two)
    await asyncio.sleep(0)
    assert dict(turns.inside) == {"noisy": 1, "shop": 1}
    await _end(*waiting)


async def test_a_turn_that_comes_while_its_owner_is_broken_off_is_not_lost() -> None:
    turns = Turnstile(1)
    [one] = await _inside(turns, "a", 1)
    [two] = await _inside(turns, "b", 1)
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    two.cancel()
    await asyncio.gather(two, return_exceptions=True)
    assert turns.free == 1
    async with asyncio.timeout(1), turns.turn("c"):
        assert turns.inside["c"] == 1


class Clock:
    """Time that a test makes pass: a busy API server takes as long as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def _ask(turns: Turnstile, clock: Clock, share: str, seconds: float) -> bool:
    """One request that takes so long; whether it had its turn at once."""
    try:
        async with asyncio.timeout(0), turns.turn(share):
            clock.now += seconds
    except TimeoutError:
        return False
    return True


async def _answered(
    turns: Turnstile, clock: Clock, share: str, seconds: float, beside: str = ""
) -> int:
    """How many of 100 requests, one each tenth of a second, had their turn at once while another
    share asks now and then."""
    answered = 0
    for _ in range(100):
        clock.now += 0.1
        answered += await _ask(turns, clock, share, seconds)
        if beside:
            assert await _ask(turns, clock, beside, 0.0), "who asks little never waits"
    return answered


async def test_a_share_alone_is_held_to_no_time() -> None:
    clock = Clock()
    turns = Turnstile(16, clock)
    assert await _answered(turns, clock, "noisy", 1.0) == 100
    assert await _ask(turns, clock, "shop", 0.0)
    assert await _ask(turns, clock, "noisy", 0.0), "and owes nothing for it"


async def test_a_share_that_others_wait_behind_has_half_a_request_at_a_time() -> None:
    clock = Clock()
    turns = Turnstile(16, clock)
    began = clock.now
    answered = await _answered(turns, clock, "noisy", 0.2, beside="shop")
    share = answered * 0.2 / (clock.now - began)
    assert 0.4 < share < 0.5 + TIME_BURST_S * TIME_SHARE / (clock.now - began)
    clock.now += RECENT_S + 1  # the other one asks no more
    assert await _answered(turns, clock, "noisy", 0.2) == 100


async def test_one_slow_answer_shuts_nobody_out() -> None:
    clock = Clock()
    turns = Turnstile(16, clock)
    for _ in range(5):
        await _ask(turns, clock, "noisy", 0.0)
        await _ask(turns, clock, "shop", 0.0)
        turns._charge("noisy", 8.0)
    assert not await _ask(turns, clock, "noisy", 0.0)
    clock.now += LONGEST_PAUSE_S + ESTIMATE_S / TIME_SHARE
    assert await _ask(turns, clock, "shop", 0.0)
    assert await _ask(turns, clock, "noisy", 0.0)


async def test_who_waits_for_time_alone_is_let_in_when_it_has_come() -> None:
    turns = Turnstile(16)
    for _ in range(2):
        async with turns.turn("shop"):
            pass
        async with turns.turn("noisy"):
            turns._charge("noisy", 20.0)
    async with asyncio.timeout(10), turns.turn("noisy"):
        assert turns.inside["noisy"] == 1


async def test_the_operator_itself_is_held_to_nothing_and_holds_nobody() -> None:
    clock = Clock()
    turns = Turnstile(16, clock)
    assert await _answered(turns, clock, "", 1.0, beside="shop") == 100
    assert await _answered(turns, clock, "shop", 1.0, beside="") == 100


def _told(where: str, kind: str, body: dict[str, object]) -> None:
    """Nobody listens."""


def _gap(part: str) -> None:
    """Nobody listens."""
