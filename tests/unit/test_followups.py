"""What is left to do after a run: it is watched until its time is over, and never by the run that
comes next."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.api.status import FollowUpStatus, GateStatus, dump
from gatewright.core.checks.followups import MOST_FOLLOW_UPS
from gatewright.core.checks.window import Verdict
from gatewright.core.model.needs import Needs
from gatewright.core.model.observation import Observation
from gatewright.core.model.operation import Progress
from gatewright.core.run import clocks
from gatewright.core.spec import problems
from gatewright.providers import validate
from gatewright.runtime.telling import messages
from tests.unit.sim import CheckState, World, replace, spec

LOG = {
    "name": "deployment-log",
    "within": "1h",
    "confirm": {"instructions": "Write down $(version)."},
}
RATE = {
    "name": "error-rate-24h",
    "within": "24h",
    "prometheus": {"query": "rate of $(version)"},
    "max": "0.1%",
}
POST_MORTEM = {
    "name": "post-mortem",
    "within": "48h",
    "when": "RolledBack",
    "confirm": {"instructions": "Hold it."},
}
NOTIFY = [{"events": ["FollowUpDue", "FollowUpFailed"], "slack": {"channel": "#deployments"}}]


def promoted(*items: dict[str, Any], **changes: Any) -> World:
    world = World(spec=spec(followUps=list(items), notify=NOTIFY, **changes)).settle().later(12)
    assert world.status.run is not None and world.status.run.outcome == "Promoted"
    return world


def rolled_back(*items: dict[str, Any]) -> World:
    world = World(spec=spec(followUps=list(items))).settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.gates.clear()
    return world


def row(world: World, name: str, run: int = 1) -> FollowUpStatus:
    return next(item for item in world.status.followUps if (item.name, item.run) == (name, run))


def gate(world: World) -> GateStatus:
    """What the follow-up that is measured says."""
    found = row(world, "error-rate-24h").gate
    assert found is not None
    return found


def states(world: World) -> dict[str, str]:
    return {f"{item.run}/{item.name}": item.state for item in world.status.followUps}


def after(world: World, **length: float) -> World:
    """Let time pass at once; nothing is looked at meanwhile."""
    world.now += timedelta(**length)
    return world.settle()


def told(world: World) -> list[str]:
    return [notice.id for notice in world.status.notices]


def reasons(world: World) -> list[str]:
    return [note.reason for note in world.notes if note.reason.startswith("FollowUp")]


# --- when they begin


def test_they_stand_in_the_write_that_ends_the_run() -> None:
    world = World(spec=spec(followUps=[LOG])).settle()
    while world.outcome() is None:
        world.now += timedelta(seconds=1)
        assert world.status.followUps == []
        world.tick()
    found = row(world, "deployment-log")
    assert (found.state, found.version, found.message) == ("Pending", "2.0", "Write down 2.0.")
    ended = world.run.finishedAt
    assert ended is not None
    assert clocks.parse_time(found.dueAt) - clocks.parse_time(ended) == timedelta(hours=1)


ALL = [{**LOG, "name": when.lower(), "when": when} for when in ("Promoted", "RolledBack", "Always")]


def failed_rollback() -> World:
    jobs = {
        "migrate": Progress("Failed", "exit code 1"),
        "restore": Progress("Failed", "the backup is gone"),
    }
    return World(spec=spec(followUps=ALL), jobs=jobs).settle()


def aborted(when: str) -> World:
    check = {"name": "calm", "prometheus": {"query": "errors"}, "max": "1%"}
    held: dict[str, CheckState] = {"calm": "Breaching"} if when == "preflight" else {}
    world = World(spec=spec(followUps=ALL, preflight=[check]), gates=held).settle()
    world.act("Abort")
    return world.settle()


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: promoted(*ALL), {"promoted", "always"}),
        (lambda: rolled_back(*ALL), {"rolledback", "always"}),
        (failed_rollback, {"rolledback", "always"}),
        (lambda: aborted("progressing"), {"always"}),
        (lambda: aborted("preflight"), set()),
        (lambda: World(spec=spec(followUps=ALL, mode="Observe")).settle().later(12), set()),
    ],
)
def test_each_end_has_its_own(make: Callable[[], World], wanted: set[str]) -> None:
    world = make()
    assert world.outcome() is not None
    assert {item.name for item in world.status.followUps} == wanted


def test_a_release_that_is_deleted_leaves_nothing_to_do() -> None:
    world = World(spec=spec(followUps=ALL)).settle()
    world.deleting = True
    world.settle()
    assert world.outcome() == "Aborted" and world.status.followUps == [] and not world.finalized


def test_a_release_without_them_has_not_a_byte_of_it() -> None:
    world = World().settle().later(12)
    assert "followUps" not in dump(world.status)


def test_they_hold_no_finalizer_and_nothing_is_written_until_one_is_due() -> None:
    world = promoted(LOG, RATE)
    assert not world.finalized
    before, writes = dump(world.status), world.writes
    decision = world.tick()
    assert decision.requeue_at == clocks.parse_time(row(world, "deployment-log").dueAt)
    after(world, minutes=59)
    assert (dump(world.status), world.writes) == (before, writes)


# --- what people confirm


def test_a_person_confirms_and_it_is_done() -> None:
    world = promoted(LOG)
    said = world.answer("Confirm", follow_up="deployment-log", run=1, reason="in the wiki")
    assert said.result == "Accepted" and said.run == 1
    found = row(world, "deployment-log")
    assert (found.state, found.by, found.message) == (
        "Done",
        "ana",
        "confirmed by ana: in the wiki",
    )
    assert after(world, days=2).status.notices == [] and reasons(world) == ["FollowUpDone"]


def test_due_without_being_done_is_told_once_and_ready_is_untouched() -> None:
    world = promoted(LOG)
    ready = world.status.conditions[0]
    after(world, hours=1)
    assert states(world) == {"1/deployment-log": "Overdue"}
    assert told(world) == ["1.FollowUpDue.deployment-log"] and reasons(world) == ["FollowUpDue"]
    [message] = [
        messages.message_of(world.view(), notice, world.now) for notice in world.status.notices
    ]
    assert message.title == "web 2.0 a follow-up is overdue" and "Write down 2.0." in message.text
    now = world.status.conditions[0]
    assert (now.type, now.status, now.reason) == (ready.type, "True", ready.reason)
    assert now.lastTransitionTime == ready.lastTransitionTime
    assert now.message == "serving 2.0; follow-up deployment-log of run 1 is overdue"
    after(world, days=3)
    assert len(told(world)) == 1 and reasons(world) == ["FollowUpDue"]


def test_what_is_overdue_can_still_be_done_and_is_not_mentioned_any_more() -> None:
    world = after(promoted(LOG), hours=2)
    world.act("Confirm", follow_up="deployment-log", by="ben")
    assert states(world) == {"1/deployment-log": "Done"} and world.status.message == "serving 2.0"
    assert len(told(world)) == 1


def test_a_reject_fails_it_for_good_and_people_are_told() -> None:
    world = promoted(LOG)
    world.act("Reject", follow_up="deployment-log", reason="nobody may write there")
    assert row(world, "deployment-log").state == "Failed" and told(world) == [
        "1.FollowUpFailed.deployment-log"
    ]
    said = world.answer("Confirm", follow_up="deployment-log")
    assert (
        said.result == "Refused"
        and "is failed already: rejected by ana: nobody may write there" in said.message
    )
    assert after(world, hours=2) and states(world) == {"1/deployment-log": "Failed"}


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (
            {"follow_up": "deploy-log"},
            "there is no follow-up deploy-log; open are: follow-up deployment-log of run 1",
        ),
        (
            {"follow_up": "deployment-log", "run": 2},
            "there is no follow-up deployment-log of run 2; open are",
        ),
        (
            {"follow_up": "error-rate-24h"},
            "follow-up error-rate-24h of run 1 is measured until 2026-01-02T",
        ),
    ],
)
def test_what_cannot_be_confirmed_is_refused_in_words(wish: dict[str, Any], words: str) -> None:
    world = promoted(LOG, RATE)
    before = states(world)
    said = world.answer("Confirm", **wish)
    assert said.result == "Refused" and words in said.message and states(world) == before


# --- what is measured


def test_what_passes_when_its_time_is_over_is_done() -> None:
    world = after(promoted(RATE), hours=23)
    assert states(world) == {"1/error-rate-24h": "Pending"}
    after(world, hours=1)
    found = row(world, "error-rate-24h")
    assert (
        found.state == "Done"
        and "passed when its time was over: 0.1%" in str(found.message)
        and found.by is None
    )
    assert found.revision is None and asked(world) == {}, "nobody asks any more"
    assert told(world) == [] and reasons(world) == ["FollowUpDone"]


def test_what_fails_has_failed_at_once_and_is_told() -> None:
    world = promoted(RATE)
    world.gates["error-rate-24h"] = "Failed"
    after(world, hours=1)
    assert row(world, "error-rate-24h").state == "Failed" and told(world) == [
        "1.FollowUpFailed.error-rate-24h"
    ]
    assert world.outcome() == "Promoted" and world.run.rollback is None
    world.gates.clear()
    assert states(after(world, days=2)) == {"1/error-rate-24h": "Failed"}


@pytest.mark.parametrize("state", ["Holding", "Breaching"])
def test_what_does_not_pass_when_its_time_is_over_is_overdue(state: CheckState) -> None:
    world = promoted(RATE)
    world.gates["error-rate-24h"] = state
    after(world, hours=1)
    assert states(world) == {"1/error-rate-24h": "Pending"} and gate(world).state == state
    after(world, hours=24)
    found = row(world, "error-rate-24h")
    assert found.state == "Overdue" and str(found.message).startswith(
        f"{state} when its time was over"
    )
    assert told(world) == ["1.FollowUpDue.error-rate-24h"]
    world.act("Confirm", follow_up="error-rate-24h", reason="the dashboard says 0.05%")
    assert row(world, "error-rate-24h").state == "Done"


class Silent(World):
    """After a restart nothing was heard yet."""

    def observe(self, wants: Needs) -> Observation:
        silent = {measure.path: Verdict("Unknown", 0.0) for measure in wants.measures}
        return replace(super().observe(wants), verdicts=silent)


def silent(world: World) -> Silent:
    return Silent(**{name: getattr(world, name) for name in World.__dataclass_fields__})


def test_without_an_answer_nothing_is_done_and_nothing_is_overdue_before_there_is_one() -> None:
    world = silent(promoted(RATE))
    after(world, hours=25)
    assert states(world) == {"1/error-rate-24h": "Pending"}
    assert world.tick().requeue_at == world.now + timedelta(minutes=1)
    world.__class__ = World  # type: ignore[assignment]  # the first answer has come
    assert states(world.settle()) == {"1/error-rate-24h": "Done"}


def test_a_restart_forgets_no_breach() -> None:
    world = promoted({**RATE, "for": "30m"})
    world.gates["error-rate-24h"] = "Breaching"
    after(world, hours=1)
    since = gate(world).since
    restarted = silent(world)
    restarted.settle()
    assert gate(restarted).state == "Breaching"
    [measure] = restarted.wants(restarted.view()).measures
    assert (measure.breaching_since, measure.rule.lasting, measure.rule.interval) == (
        since,
        1800.0,
        300.0,
    )


def test_what_cannot_be_told_any_more_is_overdue_never_done() -> None:
    world = promoted(RATE)
    world.revisions.clear()
    after(world, hours=23)
    assert states(world) == {"1/error-rate-24h": "Pending"}
    after(world, hours=1)
    assert "cannot be told any more" in str(row(world, "error-rate-24h").message)
    assert states(world) == {"1/error-rate-24h": "Overdue"}


# --- the next run


def asked(world: World) -> dict[str, Any]:
    return {measure.path: measure.config for measure in world.wants(world.view()).measures}


def test_edits_do_not_change_what_was_pinned() -> None:
    world = promoted(RATE)
    world.ask(
        followUps=[{**RATE, "prometheus": {"query": "something else"}, "max": "90%"}]
    ).settle()
    assert asked(world) == {"1/followUps/error-rate-24h": {"query": "rate of 2.0"}}
    world.ask(followUps=[]).settle()
    assert states(after(world, hours=24)) == {"1/error-rate-24h": "Done"}


def test_the_next_run_goes_its_way_and_what_is_open_stays() -> None:
    world = promoted(LOG, RATE)
    world.ask("3.0", followUps=[LOG]).settle()
    assert world.run.id == 2 and world.outcome() is None
    assert len(world.revisions) == 2, "what is measured, and what history tells of, stays pinned"
    assert asked(world).keys() == {"1/followUps/error-rate-24h", "2/stages/deploy/errors/1"}
    stages = dump(world.status)["run"]
    assert world.answer("Confirm", follow_up="deployment-log", by="ben").result == "Accepted"
    assert dump(world.status)["run"] == stages
    world.gates["error-rate-24h"] = "Failed"
    world.later(12)
    assert world.outcome() == "Promoted", "a follow-up that fails undoes nothing"
    assert states(world) == {"2/deployment-log": "Pending"}, "what is closed goes with the next end"
    for number in range(4, 14):
        world.ask(f"{number}.0").later(12)
    assert len(world.revisions) == 11, (
        "ten runs of history and the last one; what nothing needs is let go"
    )


def test_the_latest_that_is_open_is_meant() -> None:
    world = promoted(LOG)
    world.ask("3.0").settle().later(12)
    assert states(world) == {"2/deployment-log": "Pending", "1/deployment-log": "Pending"}
    assert world.answer("Confirm", follow_up="deployment-log").run == 2
    assert world.answer("Confirm", follow_up="deployment-log").run == 1


def test_the_list_is_bounded_and_says_what_it_drops() -> None:
    many = [{**LOG, "name": f"task-{n}"} for n in range(MOST_FOLLOW_UPS)]
    world = promoted(*many[:5])
    world.ask("3.0", followUps=many).settle().later(12)
    assert len(world.status.followUps) == MOST_FOLLOW_UPS and {
        item.run for item in world.status.followUps
    } == {2}
    [note] = [note for note in world.notes if note.reason == "FollowUpsDropped"]
    assert "follow-up task-4 of run 1" in note.message and note.warning


def test_a_large_release_with_all_of_them_stays_under_100_kib() -> None:
    gates = [
        {"name": f"gate-{n}", "prometheus": {"query": "q" * 200}, "max": "1%"} for n in range(20)
    ]
    steps = [{"name": f"step-{n}", "deploy": {"targets": ["web"]}} for n in range(5)]
    stages = [{"name": f"stage-{n}", "steps": steps, "gates": gates} for n in range(20)]
    tasks = [
        {**LOG, "name": f"t{n:02}" + "x" * 37, "confirm": {"instructions": "w" * 8000}}
        for n in range(MOST_FOLLOW_UPS)
    ]
    world = World(spec=spec(stages=stages, followUps=tasks)).settle()
    for task in tasks:
        world.act("Reject", by="b" * 320, follow_up=task["name"], reason="r" * 1000)
    assert set(states(world).values()) == {"Failed"}
    assert len(json.dumps(dump(world.status), separators=(",", ":"))) < 100 * 1024


# --- what is wrong with a spec


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        (
            [LOG, LOG],
            (
                'spec.followUps[1].name: "deployment-log" is already the name of '
                "spec.followUps[0]; names are unique"
            ),
        ),
        ([{"name": "a", "within": "1h"}], "spec.followUps[0]: needs exactly one of confirm, "),
        (
            [{**RATE, "confirm": {"instructions": "x"}}],
            "spec.followUps[0]: has confirm and prometheus; keep exactly one",
        ),
        (
            [{**LOG, "max": "1%"}],
            "spec.followUps[0].max: means nothing beside confirm, which is not measured",
        ),
        (
            [{"name": "a", "within": "1h", "job": {"image": "x"}}],
            "spec.followUps[0].job: is no follow-up: ",
        ),
        (
            [{"name": "a", "within": "1h", "deploy": {"targets": ["web"]}}],
            "make it a step of a stage",
        ),
        (
            [{"name": "a", "within": "1h", "approval": {}}],
            "spec.followUps[0].approval: is no follow-up: ",
        ),
        (
            [{"name": "a", "within": "1h", "promtheus": {"query": "x"}}],
            'unknown provider "promtheus"',
        ),
        ([{"name": "a", "within": "1h", "prometheus": {"query": "x"}}], "add max or min"),
        (
            [{**RATE, "prometheus": {"query": "$(steps.backup.outputs.id)"}}],
            "$(steps.backup.outputs.id) names the step",
        ),
    ],
)
def test_a_mistake_is_told_with_its_path_and_its_remedy(
    items: list[dict[str, Any]], wanted: str
) -> None:
    parsed = ReleaseSpec.model_validate(spec(followUps=items))
    found = [*validate.spec_problems(parsed), *problems.find_problems(parsed)]
    assert len(found) == 1 and wanted in found[0], found


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ({"name": "a", "confirm": {"instructions": "x"}}, "spec.followUps[0].within: is missing"),
        ({**LOG, "within": "2 hours"}, 'spec.followUps[0].within: "2 hours" is not a duration'),
        ({**LOG, "when": "Never"}, "spec.followUps[0].when: "),
    ],
)
def test_a_mistake_of_shape_is_told_likewise(item: dict[str, Any], wanted: str) -> None:
    from gatewright.runtime.parse import spec_of

    parsed, found = spec_of(spec(followUps=[item]))
    assert parsed is None and wanted in found[0], found
