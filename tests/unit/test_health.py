"""Health fails for what does not go on, for nothing else, and the log says why."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from kubernetes.aio import client as kubernetes_client

from gatewright.ports import Permanent, Retryable
from gatewright.runtime import missed
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.watch import make_watches
from gatewright.runtime.controller import OWN_KINDS, Controller
from gatewright.runtime.operator import Operator, ProbeLog
from tests.unit.test_deep import There, of, reconciler
from tests.unit.test_processes import SETTINGS


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not told is late at once."""
    monkeypatch.setattr(missed, "MISSED_EVENT_TIMEOUT_S", -1.0)


class Refusing(There):
    """Lists Releases; answers no question about one of them."""

    async def get(self, path: str) -> dict[str, Any]:
        raise Retryable(f"GET {path}: 429 too many requests")


async def lagging() -> tuple[Controller, There]:
    """A list has shown a change that the watch has not told of."""
    found = reconciler(there := There(of("web")))
    await found.relist.take_over()
    there.releases["web"] = of("web", version=5)
    await found.relist.compare()
    assert found.dead() == "the watch has not told of shop/web"
    return found, there


async def test_a_change_that_the_watch_does_not_tell_of_is_said_until_it_does() -> None:
    found, there = await lagging()
    await found.relist.compare()
    assert found.dead() == "the watch has not told of shop/web"
    found.tracking.event("MODIFIED", there.releases["web"])
    assert found.dead() is None


async def test_deleting_many_releases_while_the_api_server_refuses_is_no_dead_watch() -> None:
    """The list is read page by page, as it was when it began: it goes on showing what the watch has
    told the end of."""
    there = Refusing(*(of(f"web-{number}") for number in range(300)))
    found = reconciler(there)
    await found.relist.take_over()
    for release in list(there.releases.values()):
        found.tracking.event("DELETED", release)
    await found.relist.compare()
    assert found.dead() is None


async def test_what_was_late_when_it_was_deleted_is_late_no_more() -> None:
    found, there = await lagging()
    found.tracking.event("DELETED", there.releases["web"])
    assert found.dead() is None


async def test_what_was_late_when_it_vanished_unseen_is_late_no_more() -> None:
    found, there = await lagging()
    del there.releases["web"]
    await found.relist.compare()
    assert found.dead() is None


async def test_what_was_late_before_a_gap_is_late_no_more() -> None:
    found, _ = await lagging()
    await found.relist.compare(gap=True)
    assert found.dead() is None


@pytest.mark.parametrize(("began", "late"), [("4", True), ("5", False), ("9", False)])
async def test_a_watch_that_has_begun_since_is_not_waited_for(began: str, late: bool) -> None:
    found, there = await lagging()
    found._watches = make_watches(
        cast(Any, there), (), OWN_KINDS, found.intake.event, found.relist.on_watch_gap
    )
    for watch in found._watches:
        watch._began = watch._version = began
    assert bool(found.dead()) is late


# After the end


async def test_who_asks_when_all_is_closed_gets_an_error_of_ours() -> None:
    configuration = kubernetes_client.Configuration()
    configuration.host = "http://127.0.0.1:9"
    kube = Kube(kubernetes_client.ApiClient(configuration))
    where = api_path("v1", "secrets", "shop", "a")
    with pytest.raises(Retryable, match="ClientConnectorError"):
        await kube.create(where, {})
    await kube.close()
    with pytest.raises(Retryable, match="this instance has stopped"):
        await kube.create(where, {})
    with pytest.raises(Retryable, match="this instance has stopped"):
        async for _ in kube.stream(where, 1.0, lambda: None):
            raise AssertionError("nothing may come")


async def test_what_goes_on_beside_the_passes_ends_with_them() -> None:
    found = reconciler(There())
    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("beside")

    await found.start()
    found.runtime.background.begin(long())
    await asyncio.sleep(0)
    await found.stop()
    assert ended == ["beside"] and not found.runtime.background.tasks


async def test_a_task_that_ends_says_why(caplog: pytest.LogCaptureFixture) -> None:
    found = reconciler(There())
    await found.start()

    async def taken(reserved: bool = False) -> Any:
        raise RuntimeError("Session is closed")

    found.runtime.queue.take = taken  # type: ignore[method-assign]
    found.runtime.queue.add(("shop", "web"))
    for _ in range(100):
        await asyncio.sleep(0.01)
        if found.dead():
            break
    assert str(found.dead()).startswith("worker ") and str(found.dead()).endswith(" has ended")
    [said, *_] = [record for record in caplog.records if record.getMessage().endswith("has ended")]
    assert said.exc_info and said.exc_info[0] is RuntimeError
    await found.stop()


# What the log says


def test_a_turn_is_said_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers: list[str | None] = [
        None,
        "worker 3 has ended",
        "the watch has not told of a/b",
        None,
        None,
        "the Lease was lost",
    ]
    turn = ProbeLog("not healthy", "healthy again", lambda: answers.pop(0))
    told = [turn() for _ in range(6)]
    assert told == [
        None,
        "worker 3 has ended",
        "the watch has not told of a/b",
        None,
        None,
        "the Lease was lost",
    ]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "not healthy: worker 3 has ended"),
        ("INFO", "healthy again"),
        ("ERROR", "not healthy: the Lease was lost"),
    ]


async def test_an_operator_that_is_stopped_is_well_until_it_ends() -> None:
    operator = Operator(SETTINGS)
    operator.controller = found = reconciler(There())
    await found.start()
    seen: list[tuple[str | None, str | None]] = []

    async def ending() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # others have ended by now
            seen.append((operator._is_unhealthy(), operator._is_unready()))

    found._tasks.append(asyncio.create_task(ending()))
    await asyncio.sleep(0)
    found._tasks[0].cancel()
    await asyncio.gather(found._tasks[0], return_exceptions=True)
    assert operator._is_unhealthy() is not None
    await operator.stop()
    assert seen == [(None, "stopping")]


async def test_why_it_cannot_act_is_the_answer_of_both_probes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Servers:
        async def start(self) -> None:
            raise Permanent("no rights")

    operator = Operator(SETTINGS)
    operator.controller = reconciler(There())
    operator._servers, operator._leader = cast(Any, Servers()), cast(Any, object())
    await operator._lead_once()
    assert operator._is_unhealthy() == operator._is_unready() == "cannot act: no rights"
