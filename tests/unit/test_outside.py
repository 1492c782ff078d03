"""What runs outside the cluster: how the core asks for it, and how it is followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, cast

import pytest
from pydantic import BaseModel

from gatewright.api.base import Model
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.connections import Connections
from gatewright.runtime.execution import chosen
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.external_claims import claimed_lines
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.pins import NO_PINS, Pin, Pins
from gatewright.runtime.telling import metrics
from tests.unit.sim import World, spec

UNLEASH = {"unleash": {"project": "shop", "environment": "production", "set": {"voice": "on"}}}
SENTRY = {
    "sentry": {"organization": "foco", "release": {"version": "$(version)", "projects": ["web"]}}
}


def staged(*steps: dict[str, Any], **stage: Any) -> dict[str, Any]:
    return spec(stages=[{"name": "beta", "steps": list(steps), **stage}])


# --- the core


def test_flags_of_a_provider_are_set_and_returned_to_what_they_were() -> None:
    world = World(
        staged({"name": "flags", "flags": UNLEASH}, {"name": "smoke", "job": {"image": "smoke"}})
    )
    world.jobs["smoke"] = Progress("Failed", "it is broken")
    world.settle()
    kinds = [(operation.kind, operation.subject) for operation in world.performed]
    assert ("set", "flags/beta.flags") in kinds
    assert kinds.index(("restore", "flags/beta.flags")) > kinds.index(("set", "flags/beta.flags"))
    assert world.status.run is not None and world.status.run.outcome == "RolledBack"


def test_an_action_runs_once_and_is_not_undone_by_itself() -> None:
    world = World(staged({"name": "mark", **SENTRY}, {"name": "smoke", "job": {"image": "smoke"}}))
    world.jobs["smoke"] = Progress("Failed", "it is broken")
    world.settle()
    acts = [operation for operation in world.performed if operation.subject == "action/mark"]
    assert [operation.kind for operation in acts] == ["act"]
    assert acts[0].config == {
        "sentry": {"organization": "foco", "release": {"version": "2.0", "projects": ["web"]}}
    }
    assert [line.kind for line in world.rollback.undo] == ["Stop"]


def test_an_action_that_does_not_end_fails_its_step() -> None:
    world = World(staged({"name": "mark", **SENTRY, "timeout": "5s"}))
    world.slow.add("mark")
    world.settle().later(6)
    assert world.status.run is not None and world.status.run.outcome == "RolledBack"
    assert "not done in 5s" in str(world.status.run.reason)


def test_an_action_may_compensate() -> None:
    undo = {"supabase": {"undo": {"name": "before"}}}
    world = World(
        staged(
            {"name": "smoke", "job": {"image": "smoke"}},
            rollback={"steps": [{"name": "undo", **undo}]},
        )
    )
    world.jobs["smoke"] = Progress("Failed", "it is broken")
    world.settle()
    assert "action/undo" in [operation.subject for operation in world.performed]


# --- the runtime


class Config(Model):
    connection: str | None = None
    own: str = "site"


class Provider:
    """Answers with what a test has put there; the last answer repeats."""

    config: ClassVar[type[BaseModel]] = Config
    connection: ClassVar[str] = "fake"
    interval: ClassVar[float] = 0.01

    def __init__(self, *answers: Progress | Exception) -> None:
        self.answers = list(answers)
        self.looks = 0
        self.why: str | None = None

    def identity(self, config: Config) -> str:
        return config.own

    async def look(self, config: Config, link: OpenConnection) -> LiveState:
        return LiveState({"was": "off"}, version="1.0")

    async def perform(
        self, config: Config, link: OpenConnection, operation: Operation, snapshot: Any
    ) -> Progress:
        return Progress("Running")

    async def follow(
        self,
        config: Config,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def trouble(
        self, config: Config, link: OpenConnection, operation: Operation
    ) -> str | None:
        return self.why


class Links:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.pins: list[dict[tuple[str, str], Pin]] = []
        self.secrets: dict[tuple[str, str], str] = {}

    async def open(
        self, namespace: str, kind: str, name: str | None, pinned: Pins = NO_PINS
    ) -> OpenConnection:
        self.pins.append(dict(pinned))
        return OpenConnection(
            name or kind, "1", SimpleNamespace(url="http://fake"), 1.0, self.secrets
        )

    def used(self, namespace: str, name: str, error: Exception | None) -> None:
        self.said.append("ok" if error is None else type(error).__name__)


class Site:
    """One operation of one Release, followed."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        provider: Provider,
        kind: Literal["act", "restore"] = "act",
    ) -> None:
        monkeypatch.setitem(chosen.EXTERNALS_BY_KIND, "action", {"fake": provider})
        chosen._checked_once.clear()
        self.links = Links()
        self.woken = asyncio.Event()
        self.outside = Externals(
            cast(Connections, self.links), lambda: None, lambda key: self.woken.set()
        )
        self.entry: Any = SimpleNamespace(
            key=("shop", "web"), operations={}, leaving={}, glances={}, phase="Progressing", turn=1
        )
        self.view: Any = SimpleNamespace(namespace="shop", name="web")
        self.operation = Operation("1.a.b.1-x", kind, "action/mark", {"fake": {}})
        self.read = 0

    def follow(self) -> Progress:
        async def snapshot() -> Mapping[str, Any]:
            self.read += 1
            return {"was": "off"}

        self.outside.follow(self.entry, self.view, self.operation, snapshot)
        found: Progress = self.entry.operations[self.operation.id].progress
        return found

    async def news(self) -> Progress:
        await asyncio.wait_for(self.woken.wait(), 5)
        self.woken.clear()
        return self.follow()


async def test_what_is_under_way_is_looked_at_until_it_ends_and_wakes_only_by_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Progress("Running")
    provider = Provider(running, running, running, Progress("Succeeded", outputs={"id": "7"}))
    site = Site(monkeypatch, provider)
    assert site.follow().state == "Unknown"
    assert (await site.news()).state == "Running"
    assert (await site.news()).outputs == {"id": "7"}
    assert provider.looks == 4
    await asyncio.sleep(0.05)
    assert provider.looks == 4, "what has ended is not looked at again"
    await site.outside.close()


async def test_a_vendor_that_refuses_for_now_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(
        monkeypatch,
        Provider(Progress("Running"), Retryable("429"), Retryable("503"), Progress("Succeeded")),
    )
    site.follow()
    assert (await site.news()).state == "Running"
    assert (await site.news()).state == "Succeeded"
    assert site.links.said == ["ok", "Retryable", "Retryable", "ok"]
    await site.outside.close()


async def test_a_refusal_for_good_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, Provider(Permanent("the credentials are refused (401)")))
    site.follow()
    assert await site.news() == Progress("Failed", "the credentials are refused (401)")
    await site.outside.close()


async def test_a_failure_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(Progress("Failed", "the build failed"))
    provider.why = "TS2304: Cannot find name 'foo'"
    site = Site(monkeypatch, provider)
    site.follow()
    assert (await site.news()).message == "the build failed; TS2304: Cannot find name 'foo'"
    await site.outside.close()


async def test_what_was_just_made_may_not_be_listed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(
        monkeypatch, Provider(Progress("Running"), Progress("Absent"), Progress("Succeeded"))
    )
    site.follow()
    assert (await site.news()).state == "Running"
    assert (await site.news()).state == "Succeeded"
    await site.outside.close()


async def test_an_operation_that_was_never_started_is_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(monkeypatch, Provider(Progress("Absent")))
    site.follow()
    assert (await site.news()).state == "Absent"
    await site.outside.close()


async def test_a_forgotten_operation_is_not_looked_at_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Provider(Progress("Running"))
    site = Site(monkeypatch, provider)
    site.follow()
    await site.news()
    site.entry.operations.clear()
    await asyncio.sleep(0.05)
    looks = provider.looks
    await asyncio.sleep(0.05)
    assert provider.looks == looks
    await site.outside.close()


async def test_an_instance_that_has_lost_its_lease_follows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost() -> None:
        raise LeaseLost("the Lease is somebody else's")

    provider = Provider(Progress("Succeeded"))
    site = Site(monkeypatch, provider)
    site.outside.requests.fence = lost
    site.follow()
    await asyncio.sleep(0.05)
    assert provider.looks == 0 and not site.outside._aside.tasks
    await site.outside.close()


async def test_only_a_restore_reads_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: dict[Literal["act", "restore"], int] = {"act": 0, "restore": 1}
    for kind, read in kinds.items():
        site = Site(monkeypatch, Provider(Progress("Succeeded")), kind)
        site.follow()
        await site.news()
        assert site.read == read
        await site.outside.close()


def test_claims_name_provider_connection_and_what_is_owned(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch, Provider(Progress("Running")))
    assert is_external("action/mark", {"fake": {}}) and not is_external("job/x", {"fake": {}})
    assert claimed_lines("action/mark", {"fake": {"connection": "a"}}) == {"fake:a:site"}
    assert claimed_lines("action/mark", {"fake": {"own": "voice\ncrico"}}) == {
        "fake::voice",
        "fake::crico",
    }
    assert claimed_lines("action/mark", {"fake": {"own": ""}}) == set()


def test_claims_name_what_the_connection_leads_to_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch, Provider(Progress("Running")))
    named = claimed_lines(
        "action/mark", {"fake": {"connection": "a"}}, lambda kind, name: f"{kind}:api.fake"
    )
    implied = claimed_lines("action/mark", {"fake": {}}, lambda kind, name: f"{kind}:api.fake")
    assert named & implied == {"fake:api.fake:site"}


async def test_an_operation_goes_through_the_connection_that_its_run_has_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(monkeypatch, Provider(Progress("Succeeded")))
    pins = {("fake", ""): Pin("main", "uid")}
    site.outside = Externals(
        cast(Connections, site.links),
        lambda: None,
        lambda key: site.woken.set(),
        lambda key: pins if key == ("shop", "web") else {},
    )
    site.follow()
    await site.news()
    assert site.links.pins == [pins]
    await site.outside.close()


async def test_a_restore_that_is_refused_is_looked_at_again_until_it_can_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = Permanent("the credentials are refused (403)")
    site = Site(
        monkeypatch,
        Provider(refusal, refusal, Progress("Absent"), Progress("Succeeded")),
        "restore",
    )
    site.follow()
    assert await site.news() == Progress("Refused", "the credentials are refused (403)")
    assert await site.news() == Progress("Absent", "the credentials are refused (403)"), (
        "it can be made now"
    )
    await site.outside.close()


async def test_what_was_refused_when_it_was_made_is_looked_at_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Provider(Progress("Absent"))
    site = Site(monkeypatch, provider, "restore")
    later = time.monotonic() + 0.2
    site.entry.operations[site.operation.id] = OperationState(
        Progress("Refused", "403"), 0.0, refusals=2, retry_at=later
    )
    assert site.follow().state == "Refused"
    assert (await site.news()).state == "Absent" and time.monotonic() >= later
    assert provider.looks == 1
    await site.outside.close()


async def test_what_goes_on_beside_the_passes_and_fails_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever kind of work it is: nobody waits for it, so nobody else would hear of it."""

    async def fails() -> None:
        raise KeyError("there is no such thing")

    site = Site(monkeypatch, Provider())
    before = metrics.pass_errors._value.get()
    await asyncio.wait([site.outside.run_beside(fails())])
    await asyncio.sleep(0)
    assert metrics.pass_errors._value.get() == before + 1
    assert "work beside the passes has failed" in caplog.text
    await site.outside.close()
