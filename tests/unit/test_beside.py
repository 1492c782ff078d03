"""Foreign systems are asked beside the passes: whoever says nothing keeps no pass from going on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gatewright.api.status import dump
from gatewright.core.model.needs import Needs
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import Permanent, Retryable
from gatewright.providers.common import permit
from gatewright.runtime import operation_state
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.execution import externals, live_states, provider_requests
from tests.unit.plain import Cluster
from tests.unit.sim import World, spec
from tests.unit.test_outside import Provider, Site

NEVER = Retryable("not to be said")


class Slow(Provider):
    """Answers when a test lets it."""

    def __init__(self, *answers: Progress | Exception) -> None:
        super().__init__(*answers)
        self.gate = asyncio.Event()
        self.asked: list[str] = []
        self.at_once = self.most = 0
        self.said: list[LiveState | Exception] = [LiveState({"was": "off"}, version="1.0")]
        self.done: list[Progress | Exception] = [Progress("Running")]

    async def _wait(self, what: str) -> None:
        self.asked.append(what)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1

    async def look(self, config: Any, link: Any) -> LiveState:
        await self._wait("look")
        found = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def perform(
        self, config: Any, link: Any, operation: Operation, snapshot: Any
    ) -> Progress:
        await self._wait(f"perform {operation.kind}")
        found = self.done.pop(0) if len(self.done) > 1 else self.done[0]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_state, "REFUSED_RETRY_DELAYS_S", (0.01,))
    monkeypatch.setattr(live_states, "SLOW_AFTER_S", 0.05)


def begin(site: Site, operation: Operation | None = None, final: bool = True) -> None:
    async def snapshot() -> Any:
        return {"was": "off"}

    wanted = operation or site.operation
    site.outside.begin(
        site.entry,
        site.view,
        wanted,
        snapshot,
        lambda error: final and isinstance(error, Permanent),
    )


def state(site: Site) -> Progress:
    found: Progress = site.entry.operations[site.operation.id].progress
    return found


async def settle(until: Callable[[], object]) -> None:
    for _ in range(500):
        if until():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


async def crowd(site: Site, provider: Slow) -> None:
    """As many operations under way as one namespace may have."""
    for number in range(provider_requests.MAX_REQUESTS_PER_NAMESPACE):
        begin(
            site, Operation(f"1.a.b.{number}", "act", f"action/mark{number}", site.operation.config)
        )
    await settle(lambda: len(provider.asked) == provider_requests.MAX_REQUESTS_PER_NAMESPACE)


# --- beginning


async def test_a_vendor_that_says_nothing_keeps_no_pass_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Succeeded"))
    site = Site(monkeypatch, provider)
    begin(site)  # returns at once
    await settle(lambda: provider.asked)
    assert state(site) == Progress("Unknown")
    begin(site)  # whoever decides the same again begins nothing twice
    await asyncio.sleep(0.02)
    assert provider.asked == ["perform act"]
    provider.gate.set()
    await settle(lambda: state(site).state == "Succeeded")
    await site.outside.close()


async def test_what_is_refused_for_good_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Slow(Progress("Absent"))
    provider.done = [Permanent("no such project")]
    provider.gate.set()
    site = Site(monkeypatch, provider)
    begin(site)
    await settle(lambda: state(site) == Progress("Failed", "no such project"))
    assert provider.looks == 0
    await site.outside.close()


async def test_silence_is_said_and_looked_at_before_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Absent"))
    provider.done = [Retryable("no answer within 10s"), Progress("Succeeded")]
    provider.gate.set()
    site = Site(monkeypatch, provider)
    begin(site)
    await settle(lambda: state(site) == Progress("Unknown", "no answer within 10s"))
    await settle(lambda: state(site) == Progress("Absent", "no answer within 10s"))
    assert provider.looks >= 1 and provider.asked == ["perform act"]
    begin(site)
    await settle(lambda: state(site).state == "Succeeded")
    await site.outside.close()


async def test_what_has_arrived_after_all_is_not_done_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Running"), Progress("Succeeded"))
    provider.done = [Retryable("the connection broke")]
    provider.gate.set()
    site = Site(monkeypatch, provider)
    begin(site)
    await settle(lambda: state(site).state == "Succeeded")
    assert provider.asked == ["perform act"]
    await site.outside.close()


async def test_on_the_way_back_a_refusal_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Slow(Progress("Absent"))
    provider.done = [Permanent("403"), Permanent("403"), Progress("Succeeded")]
    provider.gate.set()
    site = Site(monkeypatch, provider, "restore")
    site.entry.phase = "RollingBack"
    seen = set()
    for _ in range(3):
        begin(site, final=False)
        await settle(lambda: state(site).state in ("Absent", "Succeeded"))
        seen.add((state(site).state, state(site).message))
    assert seen == {("Absent", ""), ("Absent", "403"), ("Succeeded", "")}
    await site.outside.close()


async def test_a_fault_of_ours_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Slow(Progress("Absent"))
    provider.done = [KeyError("x"), Progress("Succeeded")]
    provider.gate.set()
    site = Site(monkeypatch, provider)
    begin(site)
    await settle(lambda: "fault of the operator (KeyError)" in state(site).message)
    await site.outside.close()


async def test_a_request_under_way_ends_before_its_opposite_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Running"))
    site = Site(monkeypatch, provider)
    begin(site)
    await settle(lambda: provider.asked == ["perform act"])
    known = site.entry.operations.pop(site.operation.id)
    site.outside.leave_operation(site.entry, known)
    back = Operation("1.undo.0-x", "restore", site.operation.subject, site.operation.config)
    begin(site, back)
    await asyncio.sleep(0.05)
    assert provider.asked == ["perform act"], (
        "nobody could know which of the two the vendor does last"
    )
    provider.gate.set()
    await settle(lambda: provider.asked == ["perform act", "perform restore"])
    looks = provider.looks
    await asyncio.sleep(0.05)
    assert known.poller is not None and known.poller.done() and known.progress.state != "Succeeded"
    assert provider.looks >= looks
    await site.outside.close()


async def test_a_request_that_never_ends_is_waited_for_so_long_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(externals, "LEAVING_TIMEOUT_S", 0.05)
    provider = Slow(Progress("Running"))
    site = Site(monkeypatch, provider)
    begin(site)
    await settle(lambda: provider.asked)
    site.outside.leave_operation(site.entry, site.entry.operations.pop(site.operation.id))
    begin(site, Operation("1.undo.0-x", "restore", site.operation.subject, site.operation.config))
    await settle(lambda: provider.asked == ["perform act", "perform restore"])
    await site.outside.close()


async def test_one_namespace_has_so_many_requests_at_a_time_and_the_way_back_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Running"))
    site = Site(monkeypatch, provider)
    for number in range(3 * provider_requests.MAX_REQUESTS_PER_NAMESPACE):
        begin(
            site, Operation(f"1.a.b.{number}", "act", f"action/mark{number}", site.operation.config)
        )
    await settle(lambda: len(provider.asked) >= provider_requests.MAX_REQUESTS_PER_NAMESPACE)
    await asyncio.sleep(0.05)
    assert provider.most == provider_requests.MAX_REQUESTS_PER_NAMESPACE
    begin(site, Operation("1.undo.0-x", "restore", "action/other", site.operation.config))
    await settle(lambda: "perform restore" in provider.asked)
    await site.outside.close()


@pytest.mark.parametrize(
    "answer", [Progress("Running", "the token s3cr3t-of-shop"), Permanent("no s3cr3t-of-shop")]
)
async def test_no_provider_tells_a_secret_of_its_connection(
    monkeypatch: pytest.MonkeyPatch, answer: Progress | Exception
) -> None:
    provider = Slow(Progress("Running", "s3cr3t-of-shop again"))
    provider.done = [answer]
    provider.gate.set()
    site = Site(monkeypatch, provider)
    site.links.secrets = {("token", "token"): "s3cr3t-of-shop"}
    begin(site)
    await settle(lambda: state(site).state in ("Running", "Failed"))
    assert "***" in state(site).message and "s3cr3t" not in state(site).message
    await site.outside.close()


async def test_what_waits_for_its_turn_is_not_sent_once_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Running"))
    site = Site(monkeypatch, provider)
    await crowd(site, provider)
    late = Operation("1.late.0-x", "act", "action/late", site.operation.config)
    begin(site, late)
    await asyncio.sleep(0.02)
    site.outside.leave_operation(site.entry, site.entry.operations.pop(late.id))
    provider.gate.set()
    await settle(lambda: provider.at_once == 0)
    await asyncio.sleep(0.05)
    assert len(provider.asked) == provider_requests.MAX_REQUESTS_PER_NAMESPACE
    await site.outside.close()


async def test_what_waits_for_its_turn_is_not_sent_by_a_process_that_has_lost_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Running"))
    site = Site(monkeypatch, provider)
    await crowd(site, provider)
    begin(site, Operation("1.late.0-x", "act", "action/late", site.operation.config))
    await asyncio.sleep(0.02)

    def lost() -> None:
        raise LeaseLost("the Lease is somebody else's")

    site.outside.requests.fence = lost
    provider.gate.set()
    await settle(lambda: provider.at_once == 0)
    await asyncio.sleep(0.05)
    assert len(provider.asked) == provider_requests.MAX_REQUESTS_PER_NAMESPACE
    await site.outside.close()


async def test_every_request_of_an_operation_asks_whether_it_may_still_be_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Twice(Slow):
        async def perform(
            self, config: Any, link: Any, operation: Operation, snapshot: Any
        ) -> Progress:
            permit.require_permit()
            found = await super().perform(config, link, operation, snapshot)
            permit.require_permit()
            self.asked.append("second")
            return found

    ours = asyncio.Event()
    ours.set()

    def fence() -> None:
        if not ours.is_set():
            raise LeaseLost("the Lease is somebody else's")

    provider = Twice(Progress("Running"))
    site = Site(monkeypatch, provider)
    site.outside.requests.fence = fence
    begin(site)
    await settle(lambda: provider.asked)
    ours.clear()
    provider.gate.set()
    await settle(lambda: not site.entry.operations[site.operation.id].begins)
    assert provider.asked == ["perform act"] and state(site).state == "Unknown"
    await site.outside.close()


async def test_who_leaves_while_it_waits_for_another_one_leaves_that_to_be_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow(Progress("Running"))
    site = Site(monkeypatch, provider)
    begin(site)
    await settle(lambda: provider.asked == ["perform act"])
    site.outside.leave_operation(site.entry, site.entry.operations.pop(site.operation.id))
    for number in range(2):
        back = Operation(
            f"1.undo.{number}-x", "restore", site.operation.subject, site.operation.config
        )
        begin(site, back)
        await asyncio.sleep(0.02)
        if number == 0:
            site.outside.leave_operation(site.entry, site.entry.operations.pop(back.id))
    await asyncio.sleep(0.05)
    assert provider.asked == ["perform act"]
    provider.gate.set()
    await settle(lambda: provider.asked == ["perform act", "perform restore"])
    await site.outside.close()


# --- looking


async def looked(site: Site, turn: int, config: Any = None) -> live_states.LiveStates:
    site.entry.turn = turn
    wanted = {site.operation.subject: config or site.operation.config}
    return await live_states.inspect_subjects(
        Cluster(), site.outside, site.entry, site.view, Needs(live_states=wanted)
    )


async def test_a_look_is_made_beside_the_pass_and_used_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow()
    site = Site(monkeypatch, provider)
    assert (await looked(site, 1)).live_states == {}
    assert (await looked(site, 2)).live_states == {}
    assert (await looked(site, 2)).looking == "", "a moment is not worth a word"
    provider.gate.set()
    await asyncio.wait_for(site.woken.wait(), 5)
    assert provider.asked == ["look"]
    assert (await looked(site, 3)).live_states["action/mark"].version == "1.0"
    assert (await looked(site, 3)).live_states, "a pass may ask twice"
    assert (await looked(site, 4)).live_states == {}, "the next one looks anew"
    assert (await looked(site, 4)).looking == ""
    await settle(lambda: provider.asked == ["look", "look"])
    await site.outside.close()


async def test_a_look_that_takes_its_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, Slow())
    first = await looked(site, 1)
    assert first.wake is not None and first.looking == ""
    await asyncio.sleep(first.wake + 0.01)
    assert (await looked(site, 2)).looking == "action/mark, which has not answered yet"
    await site.outside.close()


async def test_a_look_that_fails_says_why_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow()
    provider.said = [Retryable("no answer within 10s"), LiveState(None, version="2.0")]
    site = Site(monkeypatch, provider)
    await looked(site, 1)
    provider.gate.set()
    await settle(lambda: site.entry.glances["action/mark"].problem)
    assert (await looked(site, 2)).looking == "action/mark: no answer within 10s"
    await settle(lambda: site.entry.glances["action/mark"].sight)
    assert (await looked(site, 3)).live_states["action/mark"].version == "2.0"
    await site.outside.close()


async def test_what_is_refused_for_good_is_a_problem_of_its_sight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Slow()
    provider.said = [Permanent("no such project")]
    provider.gate.set()
    site = Site(monkeypatch, provider)
    await looked(site, 1)
    await settle(lambda: site.entry.glances["action/mark"].sight)
    assert (await looked(site, 2)).live_states["action/mark"].problem == "no such project"
    await site.outside.close()


async def test_a_look_at_something_else_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Slow()
    site = Site(monkeypatch, provider)
    await looked(site, 1)
    await settle(lambda: len(provider.asked) == 1)
    provider.gate.set()
    assert (await looked(site, 2, {"fake": {"own": "other"}})).live_states == {}
    await settle(lambda: len(provider.asked) == 2)
    await settle(lambda: site.entry.glances["action/mark"].sight)
    await site.outside.close()


async def test_what_is_captured_is_read_until_it_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    async def look(cluster: Any, view: Any, subject: str, config: Any) -> Any:
        read.append(subject)
        return LiveState({"data": {"a": "x" * 2**20}}), None

    monkeypatch.setattr("gatewright.runtime.execution.handlers.inspect_subject", look)
    site = Site(monkeypatch, Slow())
    wanted = {f"configmap/c{number}": {"captured": True} for number in range(200)}
    seen = await live_states.inspect_subjects(
        Cluster(), site.outside, site.entry, site.view, Needs(live_states=wanted)
    )
    assert len(read) <= 5 and len(seen.live_states) == 200
    assert "capture fewer" in str(seen.live_states["configmap/c199"].problem)


# --- the core, while something is being looked at


def test_nothing_begins_on_what_nobody_has_seen_and_after_a_while_that_is_said() -> None:
    world = World(looking="").settle()
    assert world.status.run is None and dump(world.status) == {}, "a moment is no news"
    world.looking = "target/web: no answer within 10s"
    world.settle()
    assert world.status.run is None and world.status.state == "Pending"
    assert "target/web: no answer within 10s" in str(world.status.message)
    assert "target/web: no answer within 10s" in str(world.status.waitingFor)
    before = dump(world.status)
    assert dump(world.later(300).status) == before
    world.looking = None
    assert world.settle().status.run is not None


def test_who_asks_waits_for_the_look_and_is_not_refused() -> None:
    world = World(gates={"errors": "Failed"}).settle().later(20)
    assert world.status.run is not None and world.status.run.outcome == "RolledBack"
    world.gates.clear()
    world.looking = ""
    world.act("Retry")
    assert world.status.interventions == []
    world.looking = None
    world.settle()
    assert world.status.run.id == 2


def test_a_change_waits_for_its_first_look_and_the_way_back_does_not() -> None:
    world = World(
        spec(
            stages=[
                {
                    "name": "a",
                    "steps": [
                        {"name": "wait", "wait": "5s"},
                        {"name": "web", "deploy": {"targets": ["web"]}},
                    ],
                }
            ]
        )
    )
    world.settle()
    world.looking = "target/web: no answer within 10s"
    world.later(6)
    assert "apply target/web" not in world.done()
    assert "a look at target/web: no answer within 10s" in str(world.status.waitingFor)
    world.act("Rollback")
    world.settle()
    assert world.status.run is not None and world.status.run.outcome == "RolledBack"


def test_nothing_is_promoted_that_is_not_seen() -> None:
    world = World().settle()
    world.looking = ""
    world.later(60)
    assert world.status.run is not None and world.status.run.phase == "Guarding"
    world.looking = "target/web: no answer within 10s"
    world.later(60)
    assert "cannot be made last good: target/web: no answer within 10s" in str(
        world.status.waitingFor
    )
    world.looking = None
    assert world.later(5).status.state == "Promoted"
