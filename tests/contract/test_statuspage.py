"""statuspage: what customers read, that nothing is opened twice, and one request a second."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS
from gatewright.providers.statuspage import connection as connection_module
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.contract.telling import STARTED, UID, message, outcome, told, tried
from tests.fakes.serving import linked, serving
from tests.fakes.statuspage import Statuspage

PAGE = Statuspage.page
CONFIG: dict[str, Any] = {"page": PAGE, "components": ["c1", "c2"], "maintenance": {"lasts": "90m"}}
DOWN = message(
    "Downtime",
    "critical",
    text="health: GET http://10.0.0.7/api/health: answered 500",
    downtime=300.0,
)
ROLLING = message("RollingBack", "error", text="guard health")
RESTORED = message("Restored")
ENDED = message("Promoted", over=True)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Most tests are not about the time between requests."""
    if "spaced" not in request.fixturenames:
        monkeypatch.setattr(connection_module, "REQUEST_SPACING_S", 0.0)
    yield


@pytest.fixture
def spaced() -> None:
    """For tests that are about it."""


def link(url: str, key: str = world.TOKEN, timeout: float = 2.0) -> OpenConnection:
    """A Connection with an API key."""
    return linked("statuspage", {"url": url}, {"apiKey": key}, timeout)


async def test_a_maintenance_goes_with_the_run() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        handle = await told("statuspage", CONFIG, connection, STARTED)
        [begun] = there.of("in_progress")
        assert handle == f"maintenance={begun['id']}" and there.components == dict.fromkeys(
            ["c1", "c2"], "under_maintenance"
        )
        assert (
            begun["scheduled_for"] == "2026-01-13T10:00:00+00:00"
            and begun["scheduled_until"] == "2026-01-13T11:30:00+00:00"
        )
        assert (
            await told("statuspage", CONFIG, connection, message("StagePassed"), handle) == handle
        )
        assert await told("statuspage", CONFIG, connection, ENDED, handle) is None
    assert [item["id"] for item in there.of("completed")] == [begun["id"]] and len(
        there.incidents
    ) == 1
    assert set(there.components.values()) == {"operational"} and there.told == [], (
        "subscribers are not woken for it"
    )


async def test_a_test_posts_nothing_that_customers_would_read() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        said = await tried("statuspage", CONFIG, link(f"{url}/v1"))
        with pytest.raises(Permanent):
            await tried("statuspage", {"page": "elsewhere"}, link(f"{url}/v1"))
        with pytest.raises(Permanent):
            await tried("statuspage", CONFIG, link(f"{url}/v1", "another-key"))
    assert there.incidents == {} and there.components == {}
    assert said.startswith("nothing was posted") and "was not tried" in said


async def test_without_maintenance_a_run_is_nobodys_business() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        assert await told("statuspage", {"page": PAGE}, connection, STARTED) is None
        assert await told("statuspage", {"page": PAGE}, connection, ENDED) is None
    assert there.asked == []


async def test_a_downtime_is_an_incident_until_users_are_served_again() -> None:
    there = Statuspage(world.TOKEN)
    config = {"page": PAGE, "components": ["c1"], "incident": {"impact": "critical"}}
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        handle = await told("statuspage", config, connection, DOWN)
        [opened] = there.of("investigating")
        assert opened["impact"] == "critical" and there.components == {"c1": "major_outage"}
        handle = await told("statuspage", config, connection, ROLLING, handle)
        assert there.of("identified") == [opened]
        handle = await told("statuspage", config, connection, message("Verifying"), handle)
        assert there.of("monitoring") == [opened]
        handle = await told(
            "statuspage", config, connection, message("RolledBack", "warning", over=True), handle
        )
        assert handle == f"incident={opened['id']},said=monitoring", (
            "the end of the run is not the end of the downtime"
        )
        assert await told("statuspage", config, connection, RESTORED, handle) is None
    assert (
        there.of("resolved") == [opened]
        and there.components == {"c1": "operational"}
        and len(there.told) == 4
    )


async def test_customers_are_not_told_the_same_twice_nor_backwards() -> None:
    there, config = Statuspage(world.TOKEN), {"page": PAGE}
    late = [
        replace(DOWN, returning="RollingBack"),
        replace(ROLLING, returning="RollingBack"),
        replace(ROLLING, returning="Verifying"),
        message("Verifying", returning="Verifying"),
        RESTORED,
    ]
    async with serving(there.app()) as url:
        handle = None
        for wanted in late:
            handle = await told("statuspage", config, link(f"{url}/v1"), wanted, handle)
    [incident] = there.of("resolved")
    assert [update["status"] for update in incident["updates"]] == [
        "identified",
        "monitoring",
        "resolved",
    ]
    assert handle is None


@pytest.mark.parametrize(
    ("returning", "status", "text"),
    [
        ("", "investigating", "We are investigating."),
        ("RollingBack", "identified", "We are going back to the previous version."),
        ("Verifying", "monitoring", "are watching it."),
    ],
)
async def test_a_downtime_that_outlasts_the_beginning_of_a_rollback_says_how_far_that_is(
    returning: Any, status: str, text: str
) -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        await told(
            "statuspage", {"page": PAGE}, link(f"{url}/v1"), replace(DOWN, returning=returning)
        )
    [opened] = there.of(status)
    assert opened["updates"][0]["body"].endswith(text)


async def test_customers_read_what_was_written_for_them() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection, handle = link(f"{url}/v1"), None
        for wanted in (STARTED, DOWN, ROLLING, RESTORED, ENDED):
            handle = await told("statuspage", CONFIG, connection, wanted, handle)
    text = json.dumps([{**item, "metadata": None} for item in there.incidents.values()])
    for own in ("orders", "10.0.0.7", "health", "guard", "database-migration", "2.4.0"):
        assert own not in text
    assert all(
        item["metadata"]["gatewright"]["release"] == UID for item in there.incidents.values()
    )


async def test_what_was_opened_by_a_try_whose_answer_was_lost_is_found_again() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        for wanted, kind in ((STARTED, "maintenance"), (DOWN, "incident")):
            there.fail_next_reply = True
            assert (await outcome("statuspage", CONFIG, connection, wanted))[0] == "Retryable"
            handle = await told("statuspage", CONFIG, connection, replace(wanted, again=True))
            assert handle is not None and handle.startswith(f"{kind}=")
    assert len(there.incidents) == 2


async def test_it_is_found_among_many_and_others_are_let_be() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        handle = await told("statuspage", CONFIG, connection, DOWN)
        for number in range(150):
            marks = (
                {"jira": {"issue": str(number)}}
                if number % 2
                else {"gatewright": {"release": "other", "kind": "incident"}}
            )
            other = {
                "id": f"x{number}",
                "name": "x",
                "status": "investigating",
                "scheduled_for": None,
                "metadata": marks,
            }
            there.incidents[f"x{number}"] = {**other, "updates": [], "impact": "minor"}
        assert await told("statuspage", CONFIG, connection, DOWN) == handle
        assert await told("statuspage", CONFIG, connection, RESTORED) is None
    assert [item["id"] for item in there.of("resolved")] == [str(handle).partition("=")[2]]
    assert len(there.incidents) == 151


async def test_another_run_has_a_maintenance_of_its_own_and_the_same_incident() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        for run in (3, 4):
            thread = f"shop/orders/{UID}/{run}"
            for wanted in (STARTED, DOWN):
                await told("statuspage", CONFIG, connection, replace(wanted, thread=thread))
    assert len(there.of("in_progress")) == 2 and len(there.of("investigating")) == 1


async def test_what_somebody_has_deleted_is_let_be() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        handle = await told("statuspage", CONFIG, connection, DOWN)
        there.incidents.clear()
        assert await told("statuspage", CONFIG, connection, RESTORED, handle) is None


async def test_observing_tells_customers_nothing() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        assert (
            await told(
                "statuspage", {"page": PAGE}, link(f"{url}/v1"), message("Observed", over=True)
            )
            is None
        )
    assert there.asked == []


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    wanted = dict(VERDICTS)
    for told_, handle in ((DOWN, None), (RESTORED, "incident=inc1")):
        if handle is not None:
            # an incident that is not there has nothing to be closed; an object is what an update
            # answers
            wanted |= {
                "404": "Delivered",
                "ok": "Delivered",
                "empty": "Delivered",
                "null": "Delivered",
            }
            wanted |= {"200-error": "Delivered", "echo": "Delivered"}
        kind, text, _ = await outcome(
            "statuspage",
            {"page": PAGE},
            link(server.url(fault), timeout=world.patience(fault)),
            told_,
            handle,
        )
        assert kind == wanted[fault], text


@pytest.mark.parametrize("status", [420, 429])
@pytest.mark.parametrize("header, after", [({"Retry-After": "7"}, 7.0), ({}, 60.0)])
async def test_both_words_for_a_limit(status: int, header: dict[str, str], after: float) -> None:
    async def limited(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=header)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", limited)
    async with serving(app) as url:
        connection = link(url)
        kind, _, wait = await outcome("statuspage", CONFIG, connection, DOWN)
        assert (kind, wait) == ("Retryable", after)
        kind, text, _ = await outcome("statuspage", CONFIG, connection, DOWN)
    assert kind == "Retryable" and "rate limit" in text


async def test_requests_of_a_key_are_a_second_apart(spaced: None) -> None:
    there, begun = Statuspage(world.TOKEN), time.monotonic()
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        handle = await told("statuspage", {"page": PAGE}, connection, DOWN)
        await told("statuspage", {"page": PAGE}, connection, ROLLING, handle)
    assert len(there.asked) == 3
    assert all(at - begun >= number for number, (at, _) in enumerate(there.asked)), (
        "never sooner, however slow we are"
    )


async def test_who_would_have_to_wait_too_long_comes_back_later(
    spaced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REQUEST_SPACING_S", 20.0)
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        connection = link(f"{url}/v1")
        await CONNECTIONS["statuspage"].check(connection)
        with pytest.raises(Retryable, match="wait for their turn") as caught:
            await CONNECTIONS["statuspage"].check(connection)
    assert 15 < caught.value.after <= 20 and len(there.asked) == 1


async def test_credential_check(server: world.Server) -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        await CONNECTIONS["statuspage"].check(link(f"{url}/v1"))
        with pytest.raises(Permanent, match="credentials are refused") as caught:
            await CONNECTIONS["statuspage"].check(link(f"{url}/v1", world.HEADER))
    world.assert_silent(caught.value)
    for fault, wanted in (("500", Retryable), ("html", Permanent), ("ok", Permanent)):
        with pytest.raises(wanted):
            await CONNECTIONS["statuspage"].check(link(server.url(fault)))


async def test_a_page_that_is_not_there_is_said() -> None:
    there = Statuspage(world.TOKEN)
    async with serving(there.app()) as url:
        kind, text, _ = await outcome("statuspage", {"page": "other"}, link(f"{url}/v1"), DOWN)
    assert kind == "Permanent" and "404" in text
