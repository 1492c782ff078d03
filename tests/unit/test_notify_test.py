"""`notify --test`: a person has each entry of `spec.notify` tried, and is told what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from gatewright.api.notify import Event
from gatewright.api.notify_test import NotifyTestRow
from gatewright.api.status import Answered, Notification, NotifyTest, dump
from gatewright.core.model.observation import Delivery
from gatewright.core.model.operation import Progress
from gatewright.core.report.notifications import MOST_NOTIFICATIONS
from gatewright.core.report.notify_test import TEST_EVENT
from gatewright.core.run.clocks import format_time
from gatewright.plugin import acts
from gatewright.plugin.__main__ import main
from gatewright.ports import Permanent, Retryable
from gatewright.runtime.telling import notifications
from tests.unit.sim import World, spec
from tests.unit.test_notices import Told
from tests.unit.test_plugin_commands import RELEASES, Server, of
from tests.unit.test_sending import Room

DEPLOYMENTS = {"slack": {"channel": "#deployments"}}
PAGES: dict[str, Any] = {"pagerduty": {}}


def team(**changes: Any) -> Told:
    """A world with two receivers, one of them named by two entries."""
    notify = [
        {"events": ["Started"], **DEPLOYMENTS},
        {"events": ["RollbackFailed"], **PAGES},
        {"events": ["Promoted"], **DEPLOYMENTS},
    ]
    return Told(spec=spec(notify=notify, **changes))


def rows(world: World) -> list[NotifyTestRow]:
    assert world.status.notifyTest is not None, "nothing is tested"
    return world.status.notifyTest.rows


def waiting_tests(world: World) -> list[Notification]:
    return [notice for notice in world.status.notices if notice.event == TEST_EVENT]


def refusal(said: Answered | None) -> str:
    assert said is not None and said.result == "Refused", said
    return said.message


# --- what the core makes of it


def test_everybody_is_told_once_whatever_events_they_ask_for() -> None:
    world = team().settle().later(12)
    world.deliver()
    run = dump(world.status)["run"]
    said = world.answer("Notify", reason="we have moved")
    assert said.result == "Accepted"
    assert "slack (spec.notify[0], spec.notify[2]); pagerduty (spec.notify[1])" in said.message
    [notice] = waiting_tests(world)
    assert len(notice.to) == 2 and notice.severity == "info"
    assert "asked for by ana: we have moved. Nothing has happened; do nothing." in notice.text
    assert [row.state for row in rows(world)] == ["Pending", "Pending"]
    assert dump(world.status)["run"] == run, "it is of no run"


def test_what_came_of_each_message_is_kept_and_told() -> None:
    world = team().settle().later(12)
    world.deliver()
    world.answer("Notify")
    [notice] = waiting_tests(world)
    slack, pagerduty = notice.to
    world.delivered = {
        (notice.id, slack): Delivery(said="posted in #deployments"),
        (notice.id, pagerduty): Delivery(failed="the routing key is refused"),
    }
    world.settle()
    assert [(row.to, row.state, row.message) for row in rows(world)] == [
        (slack, "Sent", "posted in #deployments"),
        (pagerduty, "Failed", "the routing key is refused"),
    ]
    assert waiting_tests(world) == [] and world.status.threads == []
    told = [(note.reason, note.message) for note in world.notes if "test of" in note.message]
    assert told == [
        (
            "NotificationTested",
            "test of slack (spec.notify[0], spec.notify[2]): posted in #deployments",
        ),
        ("NotificationFailed", "test of pagerduty (spec.notify[1]): the routing key is refused"),
    ]


def test_what_was_opened_for_a_run_is_left_alone() -> None:
    world = team().settle()
    world.deliver(handle="C1/17.5")
    threads = list(world.status.threads)
    world.answer("Notify")
    world.deliver()
    assert world.status.threads == threads and threads


def test_a_message_is_marked_so_that_nobody_takes_it_for_one_of_a_run() -> None:
    world = team().settle()
    world.deliver()
    world.answer("Notify", reason="we have moved\nCALL 555")
    [message] = world.messages()
    assert message.title == "TEST, nothing has happened: shop/web"
    assert (message.event, message.severity, message.over) == ("Test", "info", False)
    assert message.thread == "shop/web/uid-1/0" and message.lines == ()
    assert "\n" not in message.text
    assert TEST_EVENT not in get_args(Event)


def test_it_is_answered_when_nothing_has_run_yet() -> None:
    world = team(suspend=True).settle()
    assert world.status.run is None
    assert world.answer("Notify").result == "Accepted"
    assert len(waiting_tests(world)) == 1


def test_nothing_is_tested_where_nobody_is_named() -> None:
    assert "names nobody" in refusal(World().settle().act("Notify"))


def test_it_is_never_on_the_way_of_a_rollback() -> None:
    world = team()
    world.slow, world.jobs = {"restore"}, {"migrate": Progress("Failed", "no")}
    world.settle()
    assert world.phase() == "RollingBack"
    assert "a rollback is under way" in refusal(world.act("Notify"))
    assert waiting_tests(world) == []


def test_one_test_at_a_time() -> None:
    world = team().settle()
    world.deliver()
    world.answer("Notify")
    assert "a test is under way" in refusal(world.act("Notify"))
    assert len(waiting_tests(world)) == 1
    world.deliver()
    assert world.answer("Notify").result == "Accepted"


def test_what_was_asked_for_long_ago_surprises_nobody() -> None:
    world = team().settle()
    old = format_time(world.now - timedelta(minutes=11))
    assert "nobody expects it now" in refusal(world.act("Notify", made=(old, 1)))


def test_it_takes_no_place_of_what_waits_to_be_told() -> None:
    world = team().settle()
    notice = world.status.notices[0]
    world.status.notices = [
        notice.model_copy(update={"id": f"1.Started.n{number}"})
        for number in range(MOST_NOTIFICATIONS)
    ]
    assert "too many messages wait" in refusal(world.act("Notify"))


def test_for_another_run_it_does_nothing() -> None:
    world = team().settle()
    assert "it is meant for run 7" in refusal(world.act("Notify", run=7))
    assert waiting_tests(world) == []


def test_whoever_is_taken_out_of_the_spec_is_not_waited_for() -> None:
    world = team().settle()
    world.deliver()
    world.answer("Notify")
    world.ask(notify=[{"events": ["Started"], **DEPLOYMENTS}]).settle()
    assert [row.state for row in rows(world)] == ["Pending", "Failed"]
    assert rows(world)[1].message == "it was not sent: spec.notify was edited, or too many wait"
    world.ask(notify=[]).settle()
    assert [row.state for row in rows(world)] == ["Failed", "Failed"]


# --- sending


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    found = Room()
    monkeypatch.setattr(notifications, "NOTIFIERS", {"webhook": found.notifier})
    monkeypatch.setattr(notifications, "RETRY_DELAYS_S", (0.0,))
    yield found
    await found.notices.close()


async def test_a_test_is_sent_by_its_own_way_and_says_what_was_done(room: Room) -> None:
    entry = room.release("Test")
    room.notices.take(entry)
    await room.until(lambda: len(room.told) == 1)
    assert room.notifier.sent == [] and [message.event for message in room.notifier.tested] == [
        "Test"
    ]
    [delivery] = entry.deliveries.values()
    assert (delivery.said, delivery.failed, delivery.handle) == ("tried", "", None)


async def test_a_test_is_tried_once(room: Room) -> None:
    room.notifier.answers = {"only": [Retryable("no answer")]}
    room.notices.take(room.release("Test"))
    await room.until(lambda: len(room.told) == 1)
    assert room.told[0][3] == "no answer" and len(room.notifier.tested) == 1
    assert room.links.uses == [("only", False)]


async def test_what_cannot_be_sent_holds_up_no_test_and_is_held_up_by_none(room: Room) -> None:
    later = Retryable("too many requests")
    later.after = 3600.0
    room.notifier.answers = {"only": [later]}
    entry = room.release("Started", "Test")
    room.notices.take(entry)
    await room.until(lambda: len(room.told) == 1)
    assert room.told[0][0] == "1.Test" and room.told[0][3] == ""
    assert room.notifier.events() == ["Started"] and len(room.notices) == 1
    # It is taken up once, and what is out of the status is let go.
    room.notices.take(entry)
    room.written(entry)
    assert len(room.notices) == 1 and len(room.notifier.tested) == 1


async def test_a_refused_test_does_not_cost_a_run_its_thread(room: Room) -> None:
    room.notifier.answers = {"only": ["C1/1", Permanent("channel_not_found"), "C1/1"]}
    room.notices.take(room.release("Started", "Test", "Completed"))
    await room.until(lambda: len(room.told) == 3)
    assert [handle for _, _, handle in room.notifier.sent] == [None, "C1/1"]


async def test_who_takes_over_does_not_send_a_test_again(room: Room) -> None:
    entry = room.release("Test")
    room.notices.resume(entry.obj)
    room.notices.take(entry)
    await room.until(lambda: len(room.told) == 1)
    assert room.notifier.tested == [] and room.links.uses == [], "no fault of the Connection"
    assert "nobody knows whether it was sent; ask again" in room.told[0][3]


# --- the command


class Operated(Server):
    """An API server with an operator behind it: what is created is answered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.created: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"result": "Accepted", "message": "a test is sent"}
        self.release = of("promoted")
        self.answers[f"{RELEASES}/web"] = self.release

    def take(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a POST."""
        if path.endswith("selfsubjectreviews"):
            return {"status": {"userInfo": {"username": "ana", "groups": []}}}
        self.created.append(body["spec"])
        self.answers[f"{path.partition('?')[0]}/web-notify-1"] = {"status": self.answer}
        if self.answer["result"] == "Accepted":
            self.release["status"]["notifyTest"] = {
                "intervention": "web-notify-1",
                "by": "ana",
                "at": format_time(datetime.now(UTC)),
                "rows": self.rows,
            }
        return body | {"metadata": {"name": "web-notify-1"}}


@pytest.fixture
def operated(tmp_path: Path) -> Any:
    made = Operated(tmp_path)
    yield made
    made.close()


SENT = {
    "to": "slack-1a2b3c",
    "entries": [0, 2],
    "state": "Sent",
    "message": "posted in #deployments",
}


def test_the_command_asks_in_ones_own_name_and_shows_what_came_of_it(
    operated: Operated, capsys: pytest.CaptureFixture[str]
) -> None:
    operated.rows = [SENT]
    assert operated.run("notify", "web", "--test", "--reason", "moved") == 0
    assert operated.created == [
        {"release": "web", "action": "Notify", "by": "ana", "reason": "moved"}
    ]
    assert capsys.readouterr().out == (
        "ENTRY                            TO      STATE   MESSAGE\n"
        "spec.notify[0], spec.notify[2]   slack   Sent    posted in #deployments\n"
    )


def test_one_that_has_not_arrived_is_exit_code_1(
    operated: Operated, capsys: pytest.CaptureFixture[str]
) -> None:
    operated.rows = [SENT, SENT | {"to": "pagerduty-1", "state": "Failed", "message": "no"}]
    assert operated.run("notify", "web", "--test") == 1
    assert "pagerduty   Failed   no" in capsys.readouterr().out


def test_one_that_is_not_over_in_time_is_exit_code_3(
    operated: Operated, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acts, "POLL_DELAYS_S", (0.01,))
    # The API server holds no defaults: a row without a state is Pending.
    operated.rows = [{"to": "webhook-1", "entries": [0]}]
    assert operated.run("notify", "web", "--test", "--timeout", "50ms") == 3
    printed = capsys.readouterr()
    assert "webhook   Pending" in printed.out and "not over yet" in printed.err


def test_a_refusal_is_said(operated: Operated, capsys: pytest.CaptureFixture[str]) -> None:
    operated.answer = {"result": "Refused", "message": "spec.notify names nobody"}
    assert operated.run("notify", "web", "--test") == 1
    assert "notify refused: spec.notify names nobody" in capsys.readouterr().err


def test_without_test_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "web"]) == 2
    assert "say --test" in capsys.readouterr().err


def test_the_status_reads_what_it_has_written() -> None:
    test = NotifyTest(
        intervention="a", by="ana", at="now", rows=[NotifyTestRow(to="slack-1", entries=[0])]
    )
    world = World()
    world.status.notifyTest = test
    again = type(world.status).model_validate(dump(world.status))
    assert again.notifyTest == test
