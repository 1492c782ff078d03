"""Looking names up, at a real name server: what is shared, what is not, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pycares
import pytest

from gatewright.ports import Retryable
from gatewright.providers.common import client, names
from gatewright.providers.common.context import current
from gatewright.providers.common.names import LOOKUPS_AT_ONCE, NameResolver
from tests.cluster.processes import free_port
from tests.contract import world
from tests.fakes.names import AAAA, A, Zone, serving


@pytest.fixture
async def zone() -> AsyncIterator[Zone]:
    found = Zone(
        addresses={"good.test": ["192.0.2.1"], "local.test": ["127.0.0.1"], "empty.test": []},
        silent=lambda name: name.startswith("silent"),
    )
    async with serving(found):
        yield found


@pytest.fixture
def asking(zone: Zone) -> NameResolver:
    return NameResolver(servers=[zone.server])


async def _soon(condition: Any) -> None:
    """Wait until something is true; a test that waits for what never comes fails by the limit."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def _all(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("many", [16, 200])
async def test_silent_names_of_one_namespace_hold_nobody_else(
    zone: Zone, asking: NameResolver, many: int
) -> None:
    slow = [asyncio.create_task(asking.find(f"silent{number}.test", "a")) for number in range(many)]
    await _soon(lambda: len(set(zone.names())) == LOOKUPS_AT_ONCE)
    assert await asking.find("good.test", "b") == ["192.0.2.1"]
    assert not any(task.done() for task in slow), "the good name waited for a silent one"
    assert len(set(zone.names()) - {"good.test"}) == LOOKUPS_AT_ONCE, (
        "more look-ups are under way than a namespace may have"
    )
    assert zone.names().count("good.test") == 2, "A and AAAA, once each"
    asking.close()
    assert all(isinstance(error, Retryable) for error in await _all(slow[:LOOKUPS_AT_ONCE]))
    for task in slow:
        task.cancel()
    await _all(slow)


async def test_a_gate_of_another_tenant_does_not_notice(
    zone: Zone, asking: NameResolver, server: world.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    current().resolver = asking
    slow = [
        asyncio.create_task(
            client.ask(world.http_link(f"http://silent{number}.test", 30.0, "a"), "GET", "/")
        )
        for number in range(16)
    ]
    await _soon(lambda: len(set(zone.names())) == LOOKUPS_AT_ONCE)
    for _ in range(2):
        link = world.http_link(f"http://local.test:{server.port}/ok", 30.0, "b")
        assert (await client.ask(link, "GET", "/")).status == 200
    assert not any(task.done() for task in slow)
    assert zone.names().count("local.test") == 2, "one look-up for the one connection that was made"
    for task in slow:
        task.cancel()
    await _all(slow)


async def test_one_look_up_a_name_whoever_asks(zone: Zone, asking: NameResolver) -> None:
    tasks = [
        asyncio.create_task(asking.find("good.test", f"n{number % 7}")) for number in range(50)
    ]
    await asyncio.sleep(0)
    for task in tasks[:10]:
        task.cancel()
    found = await _all(tasks)
    assert [item for item in found if item == ["192.0.2.1"]] == [["192.0.2.1"]] * 40
    assert sorted(zone.asked) == [("good.test", A, "udp"), ("good.test", AAAA, "udp")]


async def test_who_leaves_takes_nobodys_answer_along(zone: Zone, asking: NameResolver) -> None:
    answers = asyncio.Event()
    zone.silent = lambda name: not answers.is_set()
    first = asyncio.create_task(asking.find("good.test", "a"))
    await _soon(lambda: len(zone.asked) == 2)
    second = asyncio.create_task(asking.find("good.test", "b"))
    await asyncio.sleep(0)
    first.cancel()
    answers.set()
    assert await second == ["192.0.2.1"]
    assert first.cancelled()


async def test_a_look_up_ends_and_makes_room(
    zone: Zone, asking: NameResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it any more, and it still counts until it ends: leaving early buys no
    further look-up."""
    monkeypatch.setattr(names, "LOOKUP_TIMEOUT_S", 0.5)
    slow = [
        asyncio.create_task(asking.find(f"silent{number}.test", "a"))
        for number in range(LOOKUPS_AT_ONCE)
    ]
    await _soon(lambda: len(set(zone.names())) == LOOKUPS_AT_ONCE)
    for task in slow:
        task.cancel()
    await _all(slow)
    waiting = asyncio.create_task(asking.find("good.test", "a"))
    await asyncio.sleep(0.1)
    assert "good.test" not in zone.names()
    assert await waiting == ["192.0.2.1"]


async def test_waiting_is_bounded_by_who_waits(
    zone: Zone, asking: NameResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    current().resolver = asking
    with pytest.raises(Retryable, match=r"no answer within 0\.2s"):
        await client.ask(world.http_link("http://silent.test", 0.2), "GET", "/")


async def test_a_look_up_that_cannot_begin_takes_nothing_along(
    zone: Zone, asking: NameResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it fails with: its place is given back once, and the name is not left as if it were
    being asked."""

    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(pycares.Channel, "getaddrinfo", broken)
        for number in range(LOOKUPS_AT_ONCE + 1):
            with pytest.raises(MemoryError):
                await asking.find(f"other{number}.test", "a")
        with pytest.raises(MemoryError):
            await asking.find("good.test", "a")
    await asyncio.sleep(0.01)
    with pytest.raises(Retryable, match=r"good\.test: .*the resolver cannot ask for it"):
        await asking.find("good.test", "a")
    slow = [
        asyncio.create_task(asking.find(f"silent{number}.test", "a"))
        for number in range(2 * LOOKUPS_AT_ONCE)
    ]
    await _soon(lambda: len(set(zone.names())) == LOOKUPS_AT_ONCE)
    await asyncio.sleep(0.05)
    assert len(set(zone.names())) == LOOKUPS_AT_ONCE, (
        "more look-ups are under way than a namespace may have"
    )
    for task in slow:
        task.cancel()
    await _all(slow)


async def test_a_failure_is_remembered_and_forgotten(
    zone: Zone, asking: NameResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "FAILURE_MAX_AGE_S", 0.3)
    for namespace in ("a", "a", "b"):
        with pytest.raises(
            Retryable, match=r"^new\.test: the name cannot be resolved \(there is no such name\)$"
        ):
            await asking.find("new.test", namespace)
    assert zone.names().count("new.test") == 2, "asked again although it had just failed"
    zone.addresses["new.test"] = ["192.0.2.9"]
    await asyncio.sleep(0.35)
    assert await asking.find("new.test", "a") == ["192.0.2.9"]


async def test_a_name_that_moves_is_followed_at_once(zone: Zone, asking: NameResolver) -> None:
    """Its record says that it may be kept for an hour; where it led has failed by now."""
    assert await asking.find("good.test", "a") == ["192.0.2.1"]
    zone.addresses["good.test"] = ["192.0.2.2"]
    assert await asking.find("good.test", "a") == ["192.0.2.2"]


async def test_what_is_remembered_is_bounded(
    zone: Zone, asking: NameResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking._failed, "room", 5)
    tasks = [
        asyncio.create_task(asking.find(f"no{number}.test", f"n{number}")) for number in range(40)
    ]
    assert all(isinstance(error, Retryable) for error in await _all(tasks))
    assert len(asking._failed) <= 5
    assert len(asking._shares) == len(asking._flights) == 0


@pytest.mark.parametrize(
    "host, found",
    [
        ("six.test", ["2001:db8::6"]),
        ("both.test", ["192.0.2.4", "2001:db8::4"]),
        ("alias.test", ["192.0.2.4", "2001:db8::4"]),
        ("long.test", [f"192.0.2.{number}" for number in range(1, 100)]),
    ],
)
async def test_kinds_of_answers(
    zone: Zone, asking: NameResolver, host: str, found: list[str]
) -> None:
    zone.addresses |= {"six.test": ["2001:db8::6"], "both.test": ["192.0.2.4", "2001:db8::4"]}
    zone.addresses["long.test"] = [f"192.0.2.{number}" for number in range(1, 100)]
    zone.aliases = {"alias.test": "second.test", "second.test": "both.test"}
    zone.cut = {"long.test"}
    assert sorted(await asking.find(host, "a")) == sorted(found)
    assert ("long.test", A, "tcp") in zone.asked or host != "long.test"


@pytest.mark.parametrize(
    "host, words",
    [
        ("empty.test", "it has no address"),
        ("gone.test", "there is no such name"),
        ("broken.test", "the name server failed"),
    ],
)
async def test_why_a_name_has_no_address(
    zone: Zone, asking: NameResolver, host: str, words: str
) -> None:
    zone.failing = {"broken.test"}
    with pytest.raises(Retryable, match=words):
        await asking.find(host, "a")


async def test_a_name_server_that_is_away() -> None:
    asking = NameResolver(servers=[f"127.0.0.1:{free_port()}"])
    with pytest.raises(Retryable, match="no name server is there"):
        await asking.find("good.test", "a")


async def test_search_domains_and_ndots_count(zone: Zone) -> None:
    """As resolv.conf of a pod has both."""
    zone.addresses["prometheus.monitoring.svc.cluster.test"] = ["10.96.0.9"]
    zone.addresses["web.shop.svc.cluster.test"] = ["10.96.0.8"]
    domains = ["shop.svc.cluster.test", "svc.cluster.test", "cluster.test"]
    asking = NameResolver(servers=[zone.server], domains=domains, ndots=5)
    assert await asking.find("prometheus.monitoring.svc", "a") == ["10.96.0.9"]
    assert await asking.find("web", "a") == ["10.96.0.8"]
    assert await asking.find("good.test", "a") == ["192.0.2.1"], "a name in full"


async def test_the_hosts_file_comes_first(zone: Zone, asking: NameResolver) -> None:
    """What `hostAliases` of a pod writes; here, what this machine calls itself."""
    lines = (line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines())
    known = {name.lower(): words[0] for words in lines for name in words[1:] if ":" not in words[0]}
    for name, address in known.items():
        assert address in await asking.find(name, "a")
    assert known and zone.asked == []


def test_the_name_servers_are_those_of_the_machine() -> None:
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    servers = [words[1] for words in lines if words[:1] == ["nameserver"] and ":" not in words[1]]
    assert [
        server.removesuffix(":53") for server in pycares.Channel().servers if "[" not in server
    ] == servers


def test_another_loop_starts_afresh() -> None:
    async def once() -> list[str]:
        zone = Zone(addresses={"good.test": ["192.0.2.1"]})
        async with serving(zone):
            asking._options["servers"] = [zone.server]
            return await asking.find("good.test", "a")

    asking = NameResolver()
    assert asyncio.run(once()) == asyncio.run(once()) == ["192.0.2.1"]
