"""Which notices a decision leaves in the status, what becomes of them, and the words they are told
in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, get_args

import pytest

from gatewright.api.notify import Event
from gatewright.api.status import dump
from gatewright.core.model.needs import Needs
from gatewright.core.model.observation import Delivery, Observation
from gatewright.core.model.operation import Progress
from gatewright.core.report.notifications import MOST_NOTIFICATIONS
from gatewright.core.report.severities import SEVERITY_BY_EVENT
from gatewright.ports import Message
from gatewright.runtime.telling import messages
from tests.unit.sim import START, World, spec

EVERYTHING: list[Event] = list(get_args(Event))
SLACK = {"slack": {"channel": "#deployments"}}
WEBHOOK: dict[str, Any] = {"webhook": {}}
VERIFY = [{"name": "up", "job": {"image": "check:1"}}]
HEALTH = [{"name": "health", "http": {"path": "/health"}}]


@dataclass
class Told(World):
    """The simulated world, and people who are told."""

    delivered: dict[tuple[str, str], Delivery] = field(default_factory=dict)

    def observe(self, wants: Needs) -> Observation:
        return replace(super().observe(wants), delivered=dict(self.delivered))

    def pending(self) -> list[tuple[str, str]]:
        return [(notice.id, channel) for notice in self.status.notices for channel in notice.to]

    def events(self, provider: str = "") -> list[str]:
        return [
            identity.split(".")[1]
            for identity, channel in self.pending()
            if channel.startswith(provider)
        ]

    def deliver(self, handle: str | None = None, failed: str = "") -> list[str]:
        """Everything that waits is delivered; the events, in order."""
        found = self.events()
        self.delivered = {pair: Delivery(handle, failed) for pair in self.pending()}
        self.settle()
        self.delivered = {}
        return found

    def messages(self) -> list[Message]:
        return [
            messages.message_of(self.view(), notice, self.now) for notice in self.status.notices
        ]


def told(*events: str, to: dict[str, Any] = SLACK, **changes: Any) -> Told:
    return Told(spec=spec(notify=[{"events": list(events) or EVERYTHING, **to}], **changes))


def test_a_run_that_passes_tells_each_transition_once_in_order() -> None:
    world = told().settle().later(12)
    assert world.events() == [
        "Started",
        "StageStarted",
        "StagePassed",
        "StageStarted",
        "StagePassed",
        "Completed",
        "Promoted",
    ]
    assert len({notice.id for notice in world.status.notices}) == len(world.status.notices)
    world.later(60)
    assert len(world.events()) == 7


def test_only_what_is_asked_for_is_told() -> None:
    world = told("Started", "Promoted").settle().later(12)
    assert world.events() == ["Started", "Promoted"]


def test_a_release_without_notify_has_not_a_byte_of_it() -> None:
    world = World().settle().later(12)
    assert not dump(world.status).keys() & {"notices", "threads", "downtime"}


def test_a_notice_stands_in_the_write_of_its_transition() -> None:
    world = told("Started")
    for _ in range(20):
        world.tick()
        assert (world.status.run is None) == (not world.status.notices)


def test_what_was_delivered_leaves_the_status_and_what_was_opened_stays() -> None:
    world = told("Started", "StagePassed").settle()
    assert world.deliver(handle="C1/17.5")[:1] == ["Started"]
    assert world.pending() == [] and [(item.run, item.handle) for item in world.status.threads] == [
        (1, "C1/17.5")
    ]
    before = dump(world.status)
    world.later(3)
    assert dump(world.status) == before


def test_whoever_was_told_of_a_run_is_told_of_its_end() -> None:
    world = told("Started").settle()
    world.deliver(handle="C1/17.5")
    world.later(12)
    assert world.events() == ["Promoted"] and world.messages()[0].over
    world.deliver()
    assert world.status.threads == []


def test_an_end_closes_also_what_is_still_on_its_way() -> None:
    world = told("Started").settle().later(12)
    assert world.events() == ["Started", "Promoted"]


def test_who_keeps_nothing_open_is_not_told_of_an_end_unasked() -> None:
    world = told("Started", to=WEBHOOK).settle()
    world.deliver(handle=None)
    world.later(12)
    assert world.events() == []


def test_a_rollback_tells_why() -> None:
    world = told().settle()
    world.deliver()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert world.events() == ["StageFailed", "RollingBack", "RolledBack"]
    failed, rolling, back = world.messages()
    assert "5% > 1%" in failed.text and failed.severity == "error"
    assert "errors" in rolling.text and back.over and back.severity == "warning"
    assert any("✗ 2 deploy" in line for line in back.lines)


def test_a_rollback_that_is_undone_and_not_verified_yet_says_so_once() -> None:
    world = told(rollback={"within": "1h", "verify": HEALTH}).settle()
    world.deliver()
    world.gates |= {"errors": "Failed", "health": "Holding"}
    world.later(5)
    assert world.events() == ["StageFailed", "RollingBack", "Verifying"]
    assert world.messages()[-1].returning == "Verifying" and world.messages()[-1].severity == "info"
    world.gates["health"] = "Passing"
    world.later(2)
    assert world.events()[2:] == ["Verifying", "RolledBack"]
    assert world.messages()[-1].returning == ""


def test_a_rollback_that_fails_is_critical() -> None:
    world = told("RollbackFailed").settle()
    world.gates["errors"] = "Failed"
    world.jobs["web"] = Progress("Failed", "no such image")
    world.later(1)
    [message] = world.messages()
    assert (
        message.event == "RollbackFailed"
        and message.severity == "critical"
        and "no such image" in message.text
    )


def test_a_person_is_asked_once_for_each_question() -> None:
    stages = spec()["stages"]
    stages[0]["steps"].insert(0, {"name": "keys", "confirm": {"instructions": "Rotate the keys."}})
    world = told("ApprovalNeeded", stages=stages).settle().later(30)
    assert world.events() == ["ApprovalNeeded"]
    assert "Rotate the keys." in world.messages()[0].text


def test_a_paused_stage_asks_for_a_person() -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Pause"
    world = told("ApprovalNeeded", "StageFailed", stages=stages).settle()
    world.gates["errors"] = "Failed"
    world.later(5)
    assert world.events() == ["StageFailed", "ApprovalNeeded"]


def test_an_approval_before_the_first_stage_is_asked_for() -> None:
    checks = [{"name": "go", "approval": {}}]
    world = told("ApprovalNeeded", preflight=checks).settle().later(5)
    assert [notice.id for notice in world.status.notices] == ["1.ApprovalNeeded.preflight.go"]


def test_a_retried_stage_tells_again_under_another_name() -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Pause"
    world = told("StageFailed", "StageStarted", stages=stages).settle()
    world.deliver()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert world.deliver() == ["StageFailed"]
    world.act("Retry")
    world.later(1)
    assert [notice.id for notice in world.status.notices] == [
        "1.StageStarted.deploy.2",
        "1.StageFailed.deploy.2",
    ]


def test_an_overdue_stage_is_told_once() -> None:
    stages = spec()["stages"]
    stages[1]["expectedDuration"] = "2s"
    world = told("StageOverdue", stages=stages)
    world.slow = {"web"}
    world.settle().later(20)
    assert world.events() == ["StageOverdue"]


def test_a_guard_that_only_notifies_does_so() -> None:
    guards = [{"name": "connections", "sql": {"query": "select 1"}, "max": "1", "action": "Notify"}]
    world = told("GuardFailed", guards=guards).settle()
    world.gates["connections"] = "Failed"
    world.later(3)
    assert world.events() == ["GuardFailed"] and "connections" in world.messages()[0].text


@pytest.mark.parametrize("severity", ["critical", "error", "warning", "info"])
def test_a_guard_is_told_as_gravely_as_it_says(severity: str) -> None:
    world = told("GuardFailed", guards=[_guard("p95", action="Notify", severity=severity)])
    world.settle().gates["p95"] = "Failed"
    world.later(3)
    (message,) = world.messages()
    assert message.severity == severity and "p95" in message.text


def test_a_guard_is_an_error_where_it_says_nothing() -> None:
    world = told("GuardFailed", guards=[_guard("p95", action="Notify")]).settle()
    world.gates["p95"] = "Failed"
    world.later(3)
    assert [message.severity for message in world.messages()] == ["error"]


def test_a_guard_that_undoes_the_run_is_told_beside_the_rollback() -> None:
    guard = _guard("uptime", severity="critical")
    world = told("GuardFailed", "RollingBack", guards=[guard]).settle()
    world.gates["uptime"] = "Failed"
    world.later(1)
    assert [(message.event, message.severity) for message in world.messages()][:2] == [
        ("GuardFailed", "critical"),
        ("RollingBack", "critical"),
    ]


def test_a_warning_that_undoes_the_run_is_an_error_by_then() -> None:
    world = told("RollingBack", guards=[_guard("rate", severity="warning")]).settle()
    world.gates["rate"] = "Failed"
    world.later(1)
    assert world.messages()[0].severity == "error"


def test_a_silent_guard_is_as_grave_as_it_says() -> None:
    guards = [_guard("uptime", severity="critical", onHoldExpired="Pause")]
    world = told("Hindered", guards=guards).settle()
    world.gates["uptime"] = "Silent"
    world.later(1)
    assert [message.severity for message in world.messages()] == ["critical"]


def test_a_guard_that_is_good_again_is_told_to_whoever_heard_of_its_fault() -> None:
    world = told("GuardFailed", guards=[_guard("p95", action="Notify")], guardFor="1h").settle()
    for _ in range(2):
        world.gates["p95"] = "Failed"
        world.later(2)
        world.gates["p95"] = "Breaching"
        world.later(2)
        world.gates["p95"] = "Passing"
        world.later(2)
    assert world.events() == ["GuardFailed", "GuardRecovered"] * 2
    recovered = world.messages()[1]
    assert (recovered.severity, recovered.check) == ("info", "p95")
    assert len({notice.id for notice in world.status.notices}) == 4


def test_a_guard_that_answers_again_after_a_silence_is_told() -> None:
    guards = [_guard("p95", action="Notify")]
    world = told("Hindered", "GuardRecovered", guards=guards, guardFor="1h").settle()
    world.gates["p95"] = "Silent"
    world.later(2)
    world.gates["p95"] = "Passing"
    world.later(2)
    assert world.events() == ["Hindered", "GuardRecovered"]
    assert {message.check for message in world.messages()} == {"p95"}


def test_who_asks_for_a_severity_is_told_of_nothing_else() -> None:
    guards = [
        _guard("uptime", action="Notify", severity="critical"),
        _guard("p95", action="Notify", severity="warning"),
    ]
    notify = [{"events": EVERYTHING, "severities": ["critical"], **SLACK}]
    world = Told(spec=spec(guards=guards, notify=notify, guardFor="1h")).settle()
    world.gates |= {"uptime": "Failed", "p95": "Failed"}
    world.later(2)
    world.gates |= {"uptime": "Passing", "p95": "Passing"}
    world.later(2)
    assert [(message.event, message.check) for message in world.messages()] == [
        ("GuardFailed", "uptime"),
        ("GuardRecovered", "uptime"),
    ]


def test_who_asks_for_a_check_is_told_of_nothing_else() -> None:
    guards = [_guard("uptime"), _guard("p95", action="Notify")]
    notify = [{"events": EVERYTHING, "checks": ["uptime"], **SLACK}]
    world = Told(spec=spec(guards=guards, notify=notify)).settle()
    world.gates |= {"p95": "Failed"}
    world.later(2)
    world.gates |= {"uptime": "Failed"}
    world.later(2)
    assert world.events() == ["GuardFailed", "RollingBack", "RolledBack"]


def test_what_is_chosen_by_severity_and_check_keeps_no_end_from_being_told() -> None:
    guards = [_guard("p95", action="Notify", severity="critical")]
    notify = [{"events": ["GuardFailed"], "severities": ["critical"], **SLACK}]
    world = Told(spec=spec(guards=guards, notify=notify)).settle()
    world.gates["p95"] = "Failed"
    world.later(2)
    assert world.deliver(handle="C1/1") == ["GuardFailed"]
    world.later(15)
    assert world.events() == ["Promoted"]


def _guard(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "prometheus": {"query": name}, "max": "1%", **more}


def test_observing_tells_only_how_it_ended() -> None:
    world = told(mode="Observe").settle().later(12)
    assert world.events() == ["Observed"]


def test_a_notice_nobody_wants_any_more_is_dropped() -> None:
    world = told("Started").settle()
    world.ask(notify=[])
    world.settle()
    assert world.pending() == []


def test_an_edit_of_notify_counts_at_once_and_starts_nothing() -> None:
    world = told("Started", preflight=[{"name": "go", "approval": {}}]).settle()
    world.ask(notify=[{"events": ["Started", "Aborted"], "webhook": {}}])
    world.settle()
    assert (
        world.status.run is not None and world.status.run.outcome is None and world.status.runs == 1
    )
    world.deleting = True
    world.settle()
    assert world.events("webhook") == ["Aborted"]


def test_entries_of_one_channel_are_one() -> None:
    both = [{"events": ["Started"], **SLACK}, {"events": ["Promoted", "Started"], **SLACK}]
    world = Told(spec=spec(notify=both)).settle().later(12)
    assert world.events() == ["Started", "Promoted"]


def test_what_cannot_be_delivered_is_said_in_an_event() -> None:
    world = told("Started").settle()
    world.deliver(failed="Slack refuses chat.postMessage: channel_not_found")
    assert [note.reason for note in world.notes].count("NotificationFailed") == 1
    assert (
        "channel_not_found"
        in next(note for note in world.notes if note.reason == "NotificationFailed").message
    )
    assert world.pending() == []


def test_notices_that_nobody_takes_do_not_fill_the_status() -> None:
    stages = [{"name": f"s{n}", "steps": [{"name": "w", "wait": "1s"}]} for n in range(20)]
    world = told(stages=stages)
    for version in range(4):
        world.ask(f"2.{version}").settle().later(25)
        assert world.status.state == "Promoted"
    assert len(world.status.notices) <= MOST_NOTIFICATIONS
    assert len(dump(world.status)["notices"]) and len(str(dump(world.status)["notices"])) < 20_000
    assert world.events().count("Promoted") == 4, "endings stay"


def test_the_same_decision_made_again_has_the_same_keys() -> None:
    """A write that was lost leads to the same transition, and to notices that a receiver knows
    again."""
    world = told().settle()
    lost = replace(
        world, status=world.status.model_copy(deep=True), notes=[], performed=list(world.performed)
    )
    for each in (world, lost):
        each.gates["errors"] = "Failed"
        each.later(1)
    assert [m.key for m in world.messages()] == [m.key for m in lost.messages()]


# --- downtime


def down(after: str = "5m", **changes: Any) -> Told:
    entry = {"events": ["Downtime"], "after": after, **SLACK}
    # the rollback hangs: what is told must not wait for it
    world = Told(
        spec=spec(
            notify=[entry], guards=HEALTH, rollback={"within": "1h", "verify": HEALTH}, **changes
        )
    )
    return world.settle()


def test_users_are_told_when_they_have_not_been_served_for_too_long_and_when_they_are_again() -> (
    None
):
    world = down(after="20s")
    world.slow = {"web"}
    world.gates["health"] = "Failed"
    world.later(19)
    assert world.events() == [] and world.status.downtime is not None
    assert world.tick().requeue_at == START + timedelta(seconds=21), "its breach began at second 1"
    world.later(2)
    assert world.events() == ["Downtime"]
    [message] = world.messages()
    assert message.severity == "critical" and message.downtime == 20
    assert message.returning == "RollingBack", "the rollback has begun before customers are told"
    world.deliver(handle="incident=1")
    world.slow.clear()
    world.gates.clear()
    world.later(2)
    assert world.status.downtime is None and world.status.run.outcome == "RolledBack"
    assert sorted(world.events()) == ["Restored", "RolledBack"]


def test_a_short_downtime_is_nobodys_business() -> None:
    world = down()
    world.gates["health"] = "Failed"
    world.later(3)
    assert world.phase() == "Verifying" and world.status.downtime is not None
    world.gates.clear()
    world.later(3)
    assert world.outcome() == "RolledBack"
    assert world.events() == [] and world.status.downtime is None


def test_no_answer_is_no_downtime_and_no_end_of_one() -> None:
    world = down(after="5s")
    world.gates["health"] = "Holding"
    world.later(30)
    assert world.status.downtime is None
    world.gates["health"] = "Failed"
    world.later(6)
    assert world.events() == ["Downtime"]
    world.gates["health"] = "Holding"
    world.later(30)
    assert world.status.downtime is not None


def test_a_downtime_outlives_a_rollback_that_failed_and_ends_with_the_next_version() -> None:
    world = down(after="5s")
    world.gates["health"] = "Failed"
    world.jobs["web"] = Progress("Failed", "no such image")
    world.later(10)
    assert world.outcome() == "RollbackFailed" and "Downtime" in world.events()
    world.deliver(handle="incident=1")
    world.later(60)
    assert world.status.downtime is not None and [item.run for item in world.status.threads] == [1]
    world.jobs.clear()
    world.gates.clear()
    world.ask("2.1").settle().later(20)
    assert world.outcome() == "Promoted"
    restored = next(notice for notice in world.status.notices if notice.event == "Restored")
    assert restored.run == 1, "told in the thread of the run that was told of the downtime"


def test_only_checks_of_health_are_downtime() -> None:
    gates = [{"name": "p95", "http": {"path": "/", "measure": "Latency"}, "max": "1s"}]
    world = Told(
        spec=spec(notify=[{"events": ["Downtime"], "after": "1s", **SLACK}], guards=gates)
    ).settle()
    world.gates["p95"] = "Breaching"
    world.later(10)
    assert world.status.downtime is None
    named = [{"events": ["Downtime"], "after": "1s", "health": ["p95"], **SLACK}]
    world = Told(spec=spec(notify=named, guards=gates)).settle()
    world.gates["p95"] = "Breaching"
    world.later(10)
    assert world.events() == ["Downtime"]


def test_who_does_not_ask_for_downtime_has_none_in_the_status() -> None:
    world = Told(spec=spec(notify=[{"events": ["Started"], **SLACK}], guards=HEALTH)).settle()
    world.gates["health"] = "Breaching"
    world.later(5)
    assert world.status.downtime is None


# --- words


def test_a_message_says_what_why_and_what_is_waited_for() -> None:
    world = told("StageStarted").settle()
    message = world.messages()[-1]
    assert message.title == "web 2.0 a stage has started"
    assert (
        message.thread == "shop/web/uid-1/1"
        and message.key == f"uid-1/{world.status.notices[-1].id}"
    )
    assert message.text.startswith("stage 2/2 deploy") and "Waiting for" in message.text
    assert message.lines[0].startswith("✓ 1 migrate  Passed in 0s")


def test_every_event_has_its_words() -> None:
    assert messages._WORDS_BY_EVENT.keys() == SEVERITY_BY_EVENT.keys() == set(EVERYTHING)


def test_a_message_of_an_earlier_run_knows_its_version_and_not_another_runs_stages() -> None:
    world = told("Started").settle().later(12)
    world.ask("3.0").settle()
    first = world.messages()[0]
    assert first.title == "web 2.0 has started" and first.lines == ()


def test_long_texts_are_cut() -> None:
    world = told("StageFailed").settle()
    notice = world.status.notices[0] if world.status.notices else None
    world.gates["errors"] = "Failed"
    world.later(1)
    notice = world.status.notices[0].model_copy(update={"text": "x" * 5000})
    assert (
        len(messages.message_of(world.view(), notice, world.now).text) == messages.MAX_TEXT_LENGTH
    )
    assert all(len(line) <= messages.MAX_LINE_LENGTH for line in world.messages()[0].lines)


def test_what_a_repeated_rollback_has_met_is_told_anew() -> None:
    """Seen: it had the same id as what the first had met, and was taken for told already."""
    world = told("RollbackFailed", "Verifying", rollback={"verify": VERIFY})
    world.jobs["up"] = Progress("Failed", "exit code 1")
    world.gates["errors"] = "Failed"
    world.settle().later(20)
    assert world.run.outcome == "RollbackFailed"
    first = {notice.id: notice.text for notice in world.status.notices}

    world.jobs["up"] = Progress("Failed", "exit code 7")
    world.act("Rollback")
    world.later(20)
    assert world.run.outcome == "RollbackFailed"
    second = {notice.id: notice.text for notice in world.status.notices} | {}
    new = {name: text for name, text in second.items() if name not in first}
    assert sorted(name.split(".")[1] for name in new) == ["RollbackFailed", "Verifying"]
    (text,) = [text for name, text in new.items() if "RollbackFailed" in name]
    assert "exit code 7" in text
    keys = [message.key for message in world.messages()]
    assert len(set(keys)) == len(keys) == 4
