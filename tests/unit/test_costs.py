"""What a namespace's passes and specs cost is its own: it is charged for them, and an edit is read
at most once a pass."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.ports import Retryable
from gatewright.runtime import costs, parse, reconcile
from gatewright.runtime.controller import Controller
from gatewright.runtime.reconcile import Reconciler
from gatewright.runtime.settings import Settings
from gatewright.runtime.tracked import TrackedRelease

SETTINGS = Settings(
    frozenset({"shop"}), lease_namespace="default", identity="one", port=0, allow=""
)
RELEASES = "/apis/gatewright.dev/v1alpha1/namespaces/shop/releases"
SPEC = {"version": "1", "stages": [{"name": "a", "steps": [{"name": "wait", "wait": "1h"}]}]}


def release(version: int) -> dict[str, Any]:
    """An edition of a Release; each is an edit of its spec."""
    meta = {
        "namespace": "shop",
        "name": "web",
        "uid": "u",
        "resourceVersion": str(version),
        "generation": version,
    }
    return {"metadata": meta, "spec": SPEC | {"version": str(version)}, "status": {}}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions of the specs that were read into models."""
    found: list[str] = []
    spec_of = parse.spec_of

    def noted(raw: dict[str, Any]) -> tuple[ReleaseSpec | None, tuple[str, ...]]:
        found.append(raw["version"])
        return spec_of(raw)

    monkeypatch.setattr(parse, "spec_of", noted)
    return found


def reconciler() -> Controller:
    leader = MagicMock(namespace="gatewright", unwatched=0.0)
    return Controller(cast(Any, MagicMock()), cast(Any, leader), SETTINGS)


async def test_edits_between_two_passes_only_mark_a_release(reads: list[str]) -> None:
    found = reconciler()
    for version in range(1, 101):
        found.intake.event(f"{RELEASES}/web", "MODIFIED", release(version))
    assert len(found.runtime.queue) == 1 and reads == []
    found.runtime.releases["shop", "web"].view()
    assert reads == ["100"]
    await found.stop()


async def test_edits_within_a_pass_are_for_the_next_one(
    reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = TrackedRelease.of(release(1))
    versions = itertools.count(2)
    rounds: list[int] = []

    async def carry_out(self: Reconciler, entry: TrackedRelease, *_: Any) -> bool:
        rounds.append(entry.generation)
        if len(rounds) > 2:
            entry.take_newer(release(next(versions)))
        return True

    async def nothing(*_: Any) -> Any:
        return MagicMock(), MagicMock(requeue_at=None)

    monkeypatch.setattr(Reconciler, "_carry_out", carry_out)
    monkeypatch.setattr(Reconciler, "_requeue_later", nothing)
    for name in ("recall_followups", "recall_live_state", "observe"):
        monkeypatch.setattr(reconcile, name, nothing)
    monkeypatch.setattr(
        reconcile,
        "find_needs",
        lambda *_: MagicMock(connections=False, author=False, holdings=(), procedure=None),
    )
    monkeypatch.setattr(reconcile, "decide", lambda *_: MagicMock())
    runtime = MagicMock()
    runtime.interventions.pending.return_value = ()
    runtime.claims.is_procedure_at_work.return_value = False
    await Reconciler(runtime, MagicMock()).reconcile(entry)
    assert rounds == [1, 1, 1], "others have their turn before the edit is read"
    assert reads == ["1"]
    runtime.queue.add.assert_called_once_with(("shop", "web"))


async def test_what_passes_and_events_cost_is_charged_to_their_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(costs, "_cpu", lambda: float(next(ticks)))
    charged: list[tuple[Any, float]] = []
    found = reconciler()
    monkeypatch.setattr(
        found.runtime.queue, "charge", lambda key, seconds: charged.append((key, seconds))
    )
    found.intake.event(f"{RELEASES}/web", "ADDED", release(1))
    assert charged == [(("shop", "web"), 1.0)]
    charged.clear()

    class Failing:
        async def reconcile(self, entry: TrackedRelease) -> None:
            await asyncio.sleep(0)
            raise Retryable("away")

    async def get(where: str) -> dict[str, Any]:
        return release(1)

    found.workers.reconciler = cast(Any, Failing())
    found.runtime.kube.get = get  # type: ignore[method-assign, assignment]
    worker = asyncio.create_task(found.workers.run(False))
    for _ in range(20):
        await asyncio.sleep(0)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert charged == [(("shop", "web"), 1.0)] * 2, "before and after it has waited"
    await found.stop()
