"""One namespace's edits take a share of the time: what is more waits, and nobody else does."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from gatewright.runtime.parse import FindRunbook, WrittenSpec
from gatewright.runtime.reading import BURST, SHARE, URGENT_WAIT, Reading
from gatewright.runtime.tracked import TrackedRelease
from tests.unit.test_deep import Passes, There, of, reconciler, until
from tests.unit.test_links import connection


def test_a_namespace_takes_its_share_after_a_burst_and_no_more() -> None:
    reading, now, done = Reading(), 1000.0, 0
    while now < 1000.0 + 2 * BURST:
        wait = reading.wait("shop", now)
        assert reading.wait("bank", now) == 0.0
        if wait:
            now += wait
            continue
        reading.spend("shop", now, 0.1)
        done += 1
        now += 0.1
    share = SHARE * 2 * BURST + SHARE * BURST
    assert share - 1 <= done * 0.1 <= share + 1
    reading.spend("shop", now, 0.1)
    reading.forget_full(now)
    assert reading.wait("shop", now) > 0
    reading.forget_full(now + 3 * BURST)
    assert len(reading) == 0


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each spec takes a second of CPU to be read; the versions that were."""
    clock, seen = [0.0], []
    read = WrittenSpec.read

    def slow(self: WrittenSpec, find: FindRunbook) -> Any:
        if self.problems is None:
            clock[0] += 1.0
            seen.append(self.text.decode())
        return read(self, find)

    monkeypatch.setattr(WrittenSpec, "read", slow)
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    return seen


async def test_edits_of_one_namespace_wait_and_those_of_others_do_not(costly: list[str]) -> None:
    found = reconciler(There())
    found.workers.reconciler = cast(Any, passes := Passes())
    await found.start()
    for number in range(40):
        found.tracking.event("ADDED", of(f"r-{number}"))
    affordable = round(BURST * SHARE)
    await until(lambda: len(passes.made) >= affordable)
    await asyncio.sleep(0.05)
    assert affordable <= len(costly) <= affordable + 1
    other = of("other")
    other["metadata"]["namespace"] = "bank"
    found.tracking.event("ADDED", other)
    await until(lambda: "other" in passes.made)
    await found.stop()


async def test_what_waits_is_read_in_its_latest_edition(costly: list[str]) -> None:
    found = reconciler(There(of("web")))
    found.workers.reconciler = cast(Any, Passes())
    await found.start()
    await until(lambda: len(costly) == 1)
    found.runtime.reading.spend("shop", time.monotonic(), SHARE * (BURST + 0.1))
    for version in range(2, 30):
        body = of("web", version=version)
        body["metadata"]["generation"] = version
        body["spec"] = {"version": f"v{version}"}
        found.tracking.event("MODIFIED", body)
        await asyncio.sleep(0)
    await until(lambda: len(costly) == 2)
    assert "v29" in costly[1]
    await found.stop()


def test_what_was_there_at_the_start_waits_for_nobody(costly: list[str]) -> None:
    found = reconciler(There())
    for number in range(40):
        entry = found.runtime.releases["shop", f"r-{number}"] = TrackedRelease.of(of(f"r-{number}"))
        entry.work.listed = True
        assert not found.workers._put_off(entry)
        found.workers._read_spec(entry)
    assert len(costly) == 40 and found.runtime.reading.wait("shop", time.monotonic()) == 0.0


async def test_a_run_that_is_being_undone_waits_little() -> None:
    found = reconciler(There())
    entry = found.runtime.releases["shop", "web"] = TrackedRelease.of(of("web"))
    found.runtime.reading.spend("shop", time.monotonic(), 1000.0)
    assert (
        found.workers._put_off(entry)
        and found.runtime.queue._due["shop", "web"] > asyncio.get_running_loop().time() + 60
    )
    entry.status.replace({"run": {"phase": "RollingBack"}})
    entry.work.put_off = None
    assert found.workers._put_off(entry)
    assert (
        found.runtime.queue._due["shop", "web"] <= asyncio.get_running_loop().time() + URGENT_WAIT
    )
    entry.work.put_off = time.monotonic() - URGENT_WAIT
    assert not found.workers._put_off(entry)


async def test_who_waits_for_a_connection_is_not_woken_by_its_annotations() -> None:
    found = reconciler(There())
    found.tracking.acting = True
    entry = found.runtime.releases["shop", "web"] = TrackedRelease.of(
        of("web") | {"status": {"state": "Waiting"}}
    )
    added: list[Any] = []
    found.runtime.queue.add = lambda key, urgent=False: added.append(key)  # type: ignore[method-assign]
    found.runtime.connections.used = lambda *place: None  # type: ignore[method-assign]
    body = connection("hook")
    found.intake.connection_event("ADDED", body)
    assert added == [entry.key]
    for _ in range(20):
        found.intake.connection_event("MODIFIED", connection("hook") | {"more": "annotations"})
    assert added == [entry.key]
    found.intake.connection_event(
        "MODIFIED", body | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    )
    assert len(added) == 2
    found.intake.connection_event("MODIFIED", connection("hook", generation=2))
    assert len(added) == 3
    found.intake.connection_event("DELETED", connection("hook", generation=2))
    assert len(added) == 4
