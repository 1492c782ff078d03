"""Releases walked while the API server refuses, forgets, and loses what it was told."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.apiserver.walking import staged
from tests.harness.lab import Site
from tests.harness.proxy import Fault, WatchAct, WatchFault
from tests.harness.scenarios import (
    crash_rollback,
    deploy,
    five,
    job,
    query,
)

pytestmark = pytest.mark.apiserver


def test_a_conflict_is_decided_anew(site: Site) -> None:
    """Somebody else writes between our read and our write, at every status write in turn."""
    touched: list[int] = []

    def touch(call: Any) -> None:
        if (
            call.method == "PATCH"
            and call.resource == "releases/status"
            and f"/{site.name}/" in call.path
            and len(touched) < 40
        ):
            touched.append(call.serial)

    with site.lab.proxy.fault(_conflicts(site)):
        site.lab.proxy.on_call = touch
        site.apply(five(site.name))
        site.ended("Promoted", 60)
    site.lab.proxy.on_call = None
    site.clean()


def _conflicts(site: Site) -> Fault:
    """Every second write in the namespace is answered 409."""
    count = iter(range(10_000))

    def second(call: Any) -> bool:
        ours = (
            call.writes
            and f"/namespaces/{site.name}/" in call.path
            and call.resource not in ("leases", "events")
        )
        return ours and call.method == "PATCH" and next(count) % 2 == 0

    return Fault(second, "answer", code=409, times=1000)


@pytest.mark.parametrize("code", [429, 503])
def test_an_api_server_that_refuses_requests_at_random(site: Site, code: int) -> None:
    dice = random.Random(code)
    lifted = time.monotonic() + 8

    def unlucky(call: Any) -> bool:
        return (
            f"/namespaces/{site.name}/" in call.path
            and dice.random() < 0.3
            and time.monotonic() < lifted
        )

    site.lab.standin.number(query("broken", site.name), 0.2)
    with site.lab.proxy.fault(Fault(unlucky, "answer", code=code, times=10_000, retry_after="1")):
        site.apply(crash_rollback(site.name))
        site.ended("RolledBack", 30)
    site.clean()
    asked = [call for call in site.lab.proxy.calls if f"/namespaces/{site.name}/" in call.path]
    assert len(asked) < 200, f"{len(asked)} requests: it does not back off"


def test_an_object_that_cannot_be_read_is_asked_for_less_and_less_often(site: Site) -> None:
    fault = Fault(
        lambda call: call.resource == "configmaps" and f"/{site.name}/" in call.path,
        "answer",
        times=10_000,
    )
    with site.lab.proxy.fault(fault):
        site.apply(five(site.name))
        time.sleep(4)
    # six passes, later and later, each of which asks three times
    assert fault.used <= 18, f"asked {fault.used} times in 4 s"
    site.ended("Promoted", 60)
    site.clean()


def test_answers_that_are_lost_after_the_write(site: Site) -> None:
    """Every second write succeeds, and the operator never hears of it."""
    count = iter(range(10_000))

    def second(call: Any) -> bool:
        return (
            call.writes
            and call.resource != "events"
            and f"/namespaces/{site.name}/" in call.path
            and next(count) % 2 == 0
        )

    site.lab.standin.number(query("broken", site.name), 0.2)
    with site.lab.proxy.fault(Fault(second, "drop", "committed", times=10_000)):
        site.apply(crash_rollback(site.name))
        site.ended("RolledBack", 120)
    site.clean()


@pytest.mark.parametrize("act", ["drop", "duplicate"])
def test_watch_events_that_never_come_or_come_twice(site: Site, act: WatchAct) -> None:
    """Nothing is told of Deployments and Jobs any more, or everything twice: looking again must be
    enough."""

    def here(resource: str, event: dict[str, Any]) -> bool:
        return (
            resource in ("deployments", "jobs")
            and event["object"]["metadata"].get("namespace") == site.name
        )

    with site.lab.proxy.fault(WatchFault(here, act, nth=0)):
        site.apply(staged(site, job("migrate"), deploy()))
        site.ended("Promoted", 40)
    site.clean()


def test_watches_that_are_cut_again_and_again(site: Site) -> None:
    site.apply(five(site.name))
    deadline = time.monotonic() + 40
    while not site.run().get("outcome") and time.monotonic() < deadline:
        site.lab.proxy.cut_watches()
        time.sleep(0.4)
    site.ended("Promoted", 40)
    site.clean()
