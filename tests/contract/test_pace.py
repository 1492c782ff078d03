"""What long answers cost the loop is paid by the namespace that has chosen who gives them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp import web

from gatewright.ports import Retryable
from gatewright.providers.common import client, pace
from gatewright.providers.common.context import current
from gatewright.providers.common.pace import BytePace
from gatewright.providers.registry import CONNECTIONS
from tests.cluster.processes import free_port
from tests.contract import world
from tests.fakes.postgres_server import hostile
from tests.fakes.serving import linked, serving

MIB = 1024 * 1024


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def paced(clock: Clock, rate: float = MIB, burst: float = 2 * MIB) -> BytePace:
    return BytePace(rate, burst, clock, clock.sleep)


async def test_what_came_in_is_paid_for_before_the_next_request() -> None:
    clock = Clock()
    pacing = paced(clock)
    for _ in range(100):
        await pacing.ready("loud")
        pacing.spend("loud", MIB)
    assert clock.now == pytest.approx(100.0 + 97.0), (
        "a hundred mebibytes, a burst of two before, one still to be paid"
    )


async def test_nobody_else_waits_and_no_way_back_does() -> None:
    clock = Clock()
    pacing = paced(clock)
    pacing.spend("loud", 50 * MIB)
    await pacing.ready("quiet")
    with pace.returning(True):
        await pacing.ready("loud")
        pacing.spend("loud", 5 * MIB)
    assert clock.slept == []
    await pacing.ready("loud")
    assert clock.slept == [pytest.approx(48.0)]


async def test_a_quiet_time_saves_no_more_than_a_burst() -> None:
    clock = Clock()
    pacing = paced(clock)
    pacing.spend("a", 1)
    clock.now += 3600
    pacing.spend("a", 3 * MIB)
    await pacing.ready("a")
    assert clock.slept == [pytest.approx(1.0)]


async def test_namespaces_that_owe_nothing_are_forgotten() -> None:
    clock = Clock()
    pacing = paced(clock)
    for number in range(5000):
        pacing.spend(f"n{number}", 1)
        clock.now += 1
    assert len(pacing._debts) <= 256


async def test_the_size_of_answers_is_what_requests_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever asks, and whether or not the answer is of use."""
    clock = Clock()
    current().pace = paced(clock, 100_000.0, 0.0)
    asked: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(clock.now)
        return web.Response(body=b"x" * 200_000, status=500)

    async def ask(namespace: str) -> None:
        await client.ask(world.http_link(url, namespace=namespace), "GET", "/")

    app = web.Application()
    app.router.add_get("/", answer)
    async with serving(app) as url:
        for _ in range(3):
            await ask("loud")
        await ask("quiet")
        await current().close()
    # heads are paid for as well
    assert asked == [pytest.approx(at, abs=0.1) for at in (100.0, 102.0, 104.0, 104.0)]


async def test_what_a_postgresql_sends_is_waited_for_as_well() -> None:
    clock = Clock()
    current().pace = paced(clock, 65_536.0, 0.0)
    with hostile("a row", after=3) as port:
        url = f"postgresql://reader:{world.PASSWORD_QUOTED}@127.0.0.1:{port}/shop"
        link = world.sql_link(url, timeout=60.0)
        ended: list[float] = []
        for namespace in ("loud", "loud", "loud", "quiet"):
            asking = replace(link, identity=namespace, namespace=namespace)
            found = await world.verdict("sql", {"query": "select 1"}, asking, {"max": "1"})
            assert "was cut off" in found[1]
            ended.append(clock.now)
        await current().close()
    # 64 KiB at least came in each time, and a second pays for them
    assert ended[0] == 100.0 and ended[1] >= 101.0 and ended[2] >= ended[1] + 1.0
    assert ended[3] == ended[2], "nobody else waits"


async def test_of_many_that_have_waited_one_goes_at_a_time() -> None:
    """What the first brings in is known before the next is sent."""
    clock = Clock()
    pacing = paced(clock, pace.ADVANCE, 0)
    pacing.spend("loud", pace.ADVANCE)
    sent: list[float] = []
    for _ in range(3):
        with await pacing.admit("loud") as account:
            sent.append(clock.now)
            with await pacing.admit("loud"):
                sent.append(clock.now)
            account.spend(3 * pace.ADVANCE)
    assert sent == [101.0, 102.0, 104.0, 105.0, 107.0, 108.0]


async def test_what_an_advance_was_not_needed_for_is_given_back() -> None:
    clock = Clock()
    pacing = paced(clock, pace.ADVANCE, 0)
    for _ in range(50):
        with await pacing.admit("quiet") as account:
            account.spend(1)
    assert clock.now == pytest.approx(100.0, abs=0.1)


async def test_an_account_is_that_of_whoever_opened_it() -> None:
    """Bytes are noted where a connection is read, which knows neither namespaces nor ways back."""
    clock = Clock()
    pacing = paced(clock, MIB, 0)
    with pace.returning(True), await pacing.admit("loud") as account:
        pass
    account.spend(10 * MIB)
    await pacing.ready("loud")
    assert clock.slept == []
    with pace.returning(True):
        await pacing.ready("quiet")
        assert clock.slept == [], "one tenant's way back is in nobody else's way"
        await pacing.ready("loud")
    assert clock.slept == [pytest.approx(10.0)]


@pytest.mark.parametrize("provider", ["http", "redis"])
async def test_every_way_out_waits_until_it_is_paid_for(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    current().pace = paced(clock, 1000.0, 0)
    current().pace.spend("", 5_000)
    nowhere = f"127.0.0.1:{free_port()}"
    link = (
        world.http_link(f"http://{nowhere}")
        if provider == "http"
        else linked("redis", {}, {"url": f"redis://{nowhere}"})
    )
    with pytest.raises(Retryable):
        await CONNECTIONS[provider].check(link)
    assert clock.slept[0] == pytest.approx(5.0)


def test_measurements_within_their_budget_never_wait() -> None:
    """50 a second of 64 KiB each."""
    assert pace.BYTES_PER_S >= 50 * 64 * 1024
