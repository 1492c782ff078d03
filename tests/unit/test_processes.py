"""What a process holds to: its own clock, what a gap of a watch means, and that unknown is an
error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from gatewright.core.model.operation import Operation
from gatewright.core.model.view import View
from gatewright.ports import Cluster, Permanent
from gatewright.runtime import clock
from gatewright.runtime.controller import Controller
from gatewright.runtime.execution import handlers
from gatewright.runtime.missed import MissedEvents
from gatewright.runtime.settings import Settings
from gatewright.runtime.tracked import TrackedRelease


def test_a_wall_clock_that_is_set_changes_nothing_within_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Set(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2030, 1, 1, tzinfo=tz)

    before = clock.now()
    monkeypatch.setattr(clock, "datetime", Set)
    assert timedelta(0) <= clock.now() - before < timedelta(minutes=10)


def release(version: str, **labels: str) -> dict[str, Any]:
    meta = {
        "namespace": "shop",
        "name": "web",
        "uid": "u",
        "resourceVersion": version,
        "generation": 1,
        "labels": labels,
    }
    return {"metadata": meta, "spec": {}, "status": {}}


SETTINGS = Settings(
    frozenset({"shop"}), lease_namespace="default", identity="one", port=0, allow=""
)


class _Kube:
    """Lists and reads one Release that somebody has labelled."""

    async def each(self, path: str, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        if "/releases" in path:
            yield release("7", team="blue")

    async def get(self, path: str) -> dict[str, Any]:
        return release("7", team="blue")


class _Leader:
    namespace, unwatched = "gatewright", 0.0

    def fence(self) -> None:
        """It acts."""


@pytest.mark.parametrize("gap", [True, False])
def test_what_was_missed_in_a_gap_of_the_watch_is_no_dead_watch(gap: bool) -> None:
    async def missed() -> MissedEvents:
        reconciler = Controller(cast(Any, _Kube()), cast(Any, _Leader()), SETTINGS)
        reconciler.runtime.releases["shop", "web"] = TrackedRelease.of(release("3"))
        await reconciler.relist.compare(gap=gap)
        assert reconciler.runtime.releases["shop", "web"].version == 7
        return reconciler.missed

    assert bool(asyncio.run(missed())) is not gap, (
        "only what a watch should have told, and has not, is told of it"
    )


def test_a_connection_that_came_or_went_in_a_gap_is_found() -> None:
    def connection(name: str) -> dict[str, Any]:
        meta = {
            "namespace": "shop",
            "name": name,
            "uid": name,
            "generation": 1,
            "resourceVersion": "1",
        }
        return {"metadata": meta, "spec": {"http": {"url": "https://shop.example"}}}

    class There(_Kube):
        async def each(self, path: str, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
            if "/connections" in path:
                yield connection("new")

    async def found() -> list[bool]:
        reconciler = Controller(cast(Any, There()), cast(Any, _Leader()), SETTINGS)
        where = "/apis/gatewright.dev/v1alpha1/namespaces/shop/connections"
        reconciler.intake.event(f"{where}/old", "ADDED", connection("old"))
        assert reconciler.runtime.connections.uid("shop", "old") == "old"
        reconciler.tracking.acting = True
        reconciler.relist.on_watch_gap("/connections/")
        await asyncio.gather(*reconciler.runtime.background.tasks)
        known = [
            reconciler.runtime.connections.uid("shop", name) is not None for name in ("old", "new")
        ]
        await reconciler.stop()
        return known

    assert asyncio.run(found()) == [False, True]


@pytest.mark.parametrize("act", [handlers.perform_operation, handlers.follow_operation])
def test_an_operation_that_nobody_handles_is_an_error(act: Any) -> None:
    for subject, words in (
        ("mesh/web", "unknown kind of subject 'mesh/web'"),
        ("job/web", "nobody knows how to traffic job/web"),
        ("configmap/web", "nobody knows how to traffic configmap/web"),
        ("flags/web", "nobody knows how to traffic flags/web"),
    ):
        operation = Operation("1.x", cast(Any, "traffic"), subject)
        with pytest.raises(Permanent, match=words):
            asyncio.run(act(cast(Cluster, None), cast(View, None), operation, None))
