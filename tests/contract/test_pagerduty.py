"""pagerduty: what pages somebody, what does not, and that no repetition pages twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from aiohttp import web

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.contract.telling import LINES, STARTED, TEST, UID, message, outcome, told, tried
from tests.fakes.pagerduty import Pagerduty
from tests.fakes.serving import linked, serving

THREAD = f"release/shop/orders/{UID}/3"


def link(url: str, key: str = world.TOKEN, timeout: float = 2.0) -> OpenConnection:
    """A Connection with a routing key."""
    return linked("pagerduty", {"url": url}, {"routingKey": key}, timeout)


def service() -> Pagerduty:
    """A service that knows the key."""
    return Pagerduty(world.TOKEN)


async def test_a_fault_opens_one_alert_however_often_it_is_told() -> None:
    there = service()
    failed = message("RollbackFailed", "critical", text="target web: no such image", over=True)
    async with serving(there.app()) as url:
        connection = link(url)
        handle = await told("pagerduty", {}, connection, failed)
        again = await told("pagerduty", {}, connection, replace(failed, again=True), handle)
    assert handle == again == "RollbackFailed"
    [alert] = there.alerts
    assert (
        alert["open"] and alert["times"] == 2 and alert["dedup_key"] == f"{THREAD}/RollbackFailed"
    )
    assert (
        alert["severity"] == "critical"
        and alert["source"] == "shop/orders"
        and alert["timestamp"] == failed.at
    )
    assert alert["summary"] == "orders 2.4.0 RollbackFailed: target web: no such image"
    assert alert["custom_details"]["stages"] == list(LINES)


async def test_what_is_no_fault_is_a_change_event_and_pages_nobody() -> None:
    there = service()
    async with serving(there.app()) as url:
        assert await told("pagerduty", {"severity": "critical"}, link(url), STARTED) is None
    assert there.alerts == [] and [item["summary"].partition(":")[0] for item in there.changes] == [
        STARTED.title
    ]


async def test_a_test_pages_nobody_whatever_severity_is_configured() -> None:
    there = service()
    async with serving(there.app()) as url:
        said = await tried("pagerduty", {"severity": "critical"}, link(url))
        with pytest.raises(Permanent, match="PagerDuty refuses the event"):
            await tried("pagerduty", {}, link(url, "another-key-of-32-characters-----"))
    assert "pages nobody" in said and there.alerts == []
    [change] = there.changes
    assert change["summary"] == f"{TEST.title}: {TEST.text}"


async def test_the_configured_severity_goes_before_the_events_own() -> None:
    there = service()
    async with serving(there.app()) as url:
        await told("pagerduty", {"severity": "warning"}, link(url), message("StageFailed", "error"))
    assert [alert["severity"] for alert in there.alerts] == ["warning"]


async def test_a_good_end_resolves_what_the_run_has_opened() -> None:
    there = service()
    async with serving(there.app()) as url:
        connection, handle = link(url), None
        for event in ("StageFailed", "RollingBack"):
            handle = await told("pagerduty", {}, connection, message(event, "error"), handle)
        assert handle == "StageFailed,RollingBack" and len(there.open()) == 2
        handle = await told(
            "pagerduty", {}, connection, message("RolledBack", "warning", over=True), handle
        )
    assert handle is None and there.open() == [] and len(there.alerts) == 2
    assert len(there.changes) == 1


async def test_each_check_has_a_page_of_its_own_and_its_recovery_resolves_that_alone() -> None:
    there = service()
    async with serving(there.app()) as url:
        connection, handle = link(url), None
        for check in ("uptime", "p95"):
            failed = message("GuardFailed", "critical", check=check)
            handle = await told("pagerduty", {}, connection, failed, handle)
        silent = message("Hindered", "critical", check="p95")
        handle = await told("pagerduty", {}, connection, silent, handle)
        assert handle == "check/uptime,check/p95"
        assert there.open() == [f"{THREAD}/check/uptime", f"{THREAD}/check/p95"]

        good = message("GuardRecovered", check="uptime")
        handle = await told("pagerduty", {}, connection, good, handle)
        assert handle == "check/p95" and there.open() == [f"{THREAD}/check/p95"]
        ended = message("Promoted", over=True)
        assert await told("pagerduty", {}, connection, ended, handle) is None
    assert there.open() == [] and len(there.alerts) == 2


async def test_a_recovery_resolves_its_page_although_the_handle_was_lost() -> None:
    there = service()
    async with serving(there.app()) as url:
        connection = link(url)
        await told("pagerduty", {}, connection, message("GuardFailed", "error", check="uptime"))
        good = message("GuardRecovered", check="uptime")
        assert await told("pagerduty", {}, connection, good, None) is None
    assert there.open() == []


async def test_what_goes_on_failing_at_rest_stays_open_when_the_run_has_ended_well() -> None:
    there = service()
    async with serving(there.app()) as url:
        connection, handle = link(url), None
        for check in ("uptime", "p95"):
            failed = message("GuardFailed", "critical", check=check)
            handle = await told("pagerduty", {}, connection, failed, handle)
        ended = message("Promoted", over=True, failing=("uptime",))
        assert await told("pagerduty", {}, connection, ended, handle) == "check/uptime"
    assert there.open() == [f"{THREAD}/check/uptime"]


async def test_the_severity_of_a_guard_is_handed_on_as_it_is_written() -> None:
    there = service()
    async with serving(there.app()) as url:
        for severity in ("critical", "error", "warning"):
            failed = message("GuardFailed", severity, check=severity)
            await told("pagerduty", {}, link(url), failed)
    assert [alert["severity"] for alert in there.alerts] == ["critical", "error", "warning"]


async def test_an_end_that_nothing_led_to_is_an_alert_of_its_own() -> None:
    there = service()
    async with serving(there.app()) as url:
        handle = await told("pagerduty", {}, link(url), message("RolledBack", "warning", over=True))
    assert handle == "RolledBack" and there.open() == [f"{THREAD}/RolledBack"]


async def test_a_rollback_that_failed_stays_open() -> None:
    there = service()
    async with serving(there.app()) as url:
        connection = link(url)
        handle = await told("pagerduty", {}, connection, message("RollingBack", "error"))
        handle = await told(
            "pagerduty", {}, connection, message("RollbackFailed", "critical", over=True), handle
        )
    assert handle == "RollingBack,RollbackFailed" and len(there.open()) == 2


async def test_a_downtime_ends_by_its_own_end_alone() -> None:
    there = service()
    async with serving(there.app()) as url:
        connection = link(url)
        handle = await told("pagerduty", {}, connection, message("Downtime", "critical"))
        handle = await told(
            "pagerduty", {}, connection, message("RolledBack", "warning", over=True), handle
        )
        assert f"{THREAD}/Downtime" in there.open()
        handle = await told("pagerduty", {}, connection, message("Restored"), handle)
    assert there.open() == [f"{THREAD}/RolledBack"] and handle == "RolledBack"


async def test_what_is_too_long_is_cut() -> None:
    there = service()
    long = message(
        "StageFailed", "error", text="x" * 5000, thread=f"{'n' * 63}/{'r' * 253}/{UID}/3"
    )
    async with serving(there.app()) as url:
        await told("pagerduty", {}, link(url), long)
    [alert] = there.alerts
    assert len(alert["summary"]) == 1024 and len(alert["dedup_key"]) == 255
    assert alert["dedup_key"].endswith("/3/StageFailed"), "what makes it unique stays"


async def test_a_refused_key_is_said_and_not_shown() -> None:
    there = Pagerduty("somebody else's key")
    async with serving(there.app()) as url:
        kind, text, _ = await outcome("pagerduty", {}, link(url))
    assert kind == "Permanent" and "Invalid routing key: ***" in text


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    for wanted in (STARTED, message("StageFailed", "error")):
        kind, text, _ = await outcome(
            "pagerduty", {}, link(server.url(fault), timeout=world.patience(fault)), wanted
        )
        assert kind == VERDICTS[fault], text


@pytest.mark.parametrize("header, after", [({"Retry-After": "7"}, 7.0), ({}, 30.0)])
async def test_a_limit_says_when_to_come_back(header: dict[str, str], after: float) -> None:
    async def limited(request: web.Request) -> web.Response:
        return web.Response(status=429, headers=header)

    app = web.Application()
    app.router.add_post("/v2/enqueue", limited)
    async with serving(app) as url:
        kind, _, wait = await outcome("pagerduty", {}, link(url), message("StageFailed", "error"))
    assert (kind, wait) == ("Retryable", after)


async def test_credential_check_opens_nothing() -> None:
    there = service()
    async with serving(there.app()) as url:
        await CONNECTIONS["pagerduty"].check(link(url))
        with pytest.raises(Permanent, match="Invalid routing key") as caught:
            await CONNECTIONS["pagerduty"].check(link(url, f"{world.HEADER}-of-somebody-else"))
    world.assert_silent(caught.value)
    assert there.requests == 2 and there.alerts == [] and there.changes == []


@pytest.mark.parametrize(
    "fault, wanted", [("500", Retryable), ("html", Permanent), ("ok", Permanent)]
)
async def test_credential_check_of_something_else(
    server: world.Server, fault: str, wanted: type[Exception]
) -> None:
    with pytest.raises(wanted):
        await CONNECTIONS["pagerduty"].check(link(server.url(fault)))


async def test_the_answer_is_pagerdutys_word_for_taken() -> None:
    async def odd(request: web.Request) -> web.Response:
        return web.json_response({"status": "odd"}, status=202)

    app = web.Application()
    app.router.add_post("/v2/change/enqueue", odd)
    async with serving(app) as url:
        kind, text, _ = await outcome("pagerduty", {}, link(url))
    assert kind == "Permanent" and "not PagerDuty's" in text, json.dumps(text)
