"""What people do to a run: each act once, in order, Refused in words where it cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from gatewright.api.intervention import OF_START, Action, InterventionSpec
from gatewright.api.status import Answered, ReleaseStatus, dump
from gatewright.core.interventions import answer
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.operation import Progress
from gatewright.core.model.view import MOST_UNREPORTED_ANSWERS
from tests.unit.sim import CheckState, World, spec

GUARD = {"name": "health", "prometheus": {"query": "h"}, "max": "1"}


def asking(step: dict[str, Any], **changes: Any) -> World:
    """A run whose first stage ends with a step that waits for people."""
    found = spec(**changes)
    found["stages"][0]["steps"].append(step)
    return World(spec=found).settle()


def manual() -> World:
    return asking({"name": "keys", "confirm": {"instructions": "Rotate the keys."}})


def preflight(*approvals: dict[str, Any], **changes: Any) -> World:
    checks = [
        {"name": f"go{n or ''}", "approval": approval} for n, approval in enumerate(approvals)
    ]
    return World(spec=spec(preflight=checks, **changes)).settle()


def paused(**changes: Any) -> World:
    """The migration has failed, and a person decides."""
    found = spec(**changes)
    found["stages"][0]["onFailure"] = "Pause"
    world = World(spec=found, jobs={"migrate": Progress("Failed", "constraint violated")}).settle()
    assert world.status.state == "Paused"
    return world


def rolled_back() -> World:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.gates.clear()
    return world


def guarding() -> World:
    return World(spec=spec(guards=[GUARD], guardFor="1h")).settle().later(12)


def accepted(said: Answered | None) -> str:
    assert said is not None and said.result == "Accepted", said
    return said.message


def refused(world: World, said: Answered | None) -> str:
    """Refused in words, and nothing else changed."""
    assert said is not None and said.result == "Refused", said
    assert said.name not in str(world.status.run), "a refusal leaves no trace in the run"
    return said.message


def outcome(world: World) -> str | None:
    assert world.status.run is not None
    return world.status.run.outcome


def step(world: World, name: str) -> Any:
    assert world.status.run is not None
    return next(
        item for stage in world.status.run.stages for item in stage.steps if item.name == name
    )


# --------------------------------------------------------------------------------------------------
# Confirm, Approve, Reject


def test_a_manual_step_is_done_when_somebody_confirms_it() -> None:
    world = manual()
    assert world.status.state == "WaitingForPerson"
    assert "kubectl release confirm web" in world.waiting_for.message
    accepted(world.act("Confirm", reason="both rotated"))
    assert step(world, "keys").message == "confirmed by ana: both rotated"
    world.later(12)
    assert outcome(world) == "Promoted"
    assert world.status.history[0].people == [
        "Confirm by ana: both rotated (step keys of stage migrate is confirmed)"
    ]
    assert [note.reason for note in world.notes].count("Confirmed") == 1


def test_clocks_stand_still_while_a_person_is_waited_for() -> None:
    slow = spec()
    slow["stages"][0]["expectedDuration"] = "30s"
    world = World(spec=slow)
    world.spec["stages"][0]["steps"].append(
        {"name": "keys", "confirm": {"instructions": "Rotate."}}
    )
    world.settle().later(120)
    assert not [note for note in world.notes if note.reason == "Overdue"]


def test_a_rejected_step_fails_its_stage() -> None:
    world = manual()
    accepted(world.act("Reject", reason="the vault is down"))
    assert outcome(world) == "RolledBack"
    assert "step keys: rejected by ana: the vault is down" in world.status.rejected[0].reason
    assert "Reject by ana" in world.run.people[0]


def test_an_approval_counts_different_people() -> None:
    world = asking({"name": "go", "approval": {"count": 2}})
    assert "1 of 2: approved by ana" in accepted(world.act("Approve"))
    assert step(world, "go").state == "Running" and "(1 of 2: ana)" in world.waiting_for.message
    assert "has approved" in refused(world, world.act("Approve"))
    assert step(world, "go").approvedBy == ["ana"]
    accepted(world.act("Approve", by="ben"))
    assert (
        step(world, "go").state == "Succeeded"
        and step(world, "go").message == "approved by ana, ben"
    )


def test_an_approval_asks_for_groups_that_admission_has_proved() -> None:
    world = preflight({"groups": ["release-managers", "owners"]})
    assert "release-managers or owners" in refused(world, world.act("Approve"))
    assert "shows dev" in refused(world, world.act("Approve", groups=frozenset({"dev"})))
    assert world.performed == [] or world.done() == ["ask approval/go"]
    accepted(world.act("Approve", groups=frozenset({"dev", "owners"})))
    assert world.phase() == "Progressing"
    assert world.run.preflight[0].message == "approved by ana"


def test_nothing_is_touched_before_everybody_has_approved() -> None:
    world = preflight({}, {})
    assert "could mean" in refused(world, world.act("Approve")) and world.phase() == "Preflight"
    accepted(world.act("Approve", gate="go"))
    assert world.phase() == "Preflight" and world.done("job") == []
    assert "does not wait" in refused(world, world.act("Approve", gate="go"))
    accepted(world.act("Approve", gate="go1"))
    assert world.phase() == "Progressing"


def test_a_rejected_preflight_ends_the_run_and_touches_nothing() -> None:
    world = preflight({})
    accepted(world.act("Reject", reason="not tonight"))
    assert outcome(world) == "Aborted" and world.done("job") == []
    assert "check go is rejected" in world.run.people[0]
    assert "rejected by ana: not tonight" in world.message
    assert world.status.rejected == []


def test_a_check_that_still_measures_goes_first() -> None:
    check = {"name": "calm", "prometheus": {"query": "errors"}, "max": "1%"}
    go = {"name": "go", "approval": {}}
    world = World(spec=spec(preflight=[go, check]), gates={"calm": "Breaching"}).settle()
    assert world.status.state == "Preflight" and "calm" in world.waiting_for.message
    assert "go is asked when all other checks pass" in refused(world, world.act("Approve"))
    world.gates.clear()
    world.later(1)
    accepted(world.act("Approve"))
    assert world.run.phase == "Progressing"


@pytest.mark.parametrize(
    ("action", "more", "says"),
    [
        ("Approve", {}, "answered by Confirm or Reject, not by Approve"),
        (
            "Confirm",
            {"step": "other"},
            "does not wait for a person; step keys of stage migrate does",
        ),
        ("Confirm", {"stage": "deploy"}, "does not wait for a person"),
        ("Reject", {"gate": "keys"}, "does not wait for a person"),
        ("Confirm", {"run": 2}, "meant for run 2; the latest is run 1"),
        (
            "Retry",
            {},
            (
                "Retry is for a run that is Paused; run 1 is Progressing, stage migrate is "
                "Running, step keys is"
            ),
        ),
        ("Promote", {}, "clocks stand still"),
        ("Resume", {}, "not paused by an Intervention"),
        ("Skip", {"step": "migrate"}, "neither under way nor failed"),
        ("Skip", {"stage": "deploy"}, "stage deploy is not the one under way"),
    ],
)
def test_what_cannot_be_done_at_a_manual_step_is_refused(
    action: Action, more: dict[str, Any], says: str
) -> None:
    world = manual()
    before = dump(world.status)["run"]
    assert says in refused(world, world.act(action, **more))
    assert dump(world.status)["run"] == before
    world.later(30)
    assert dump(world.status)["run"] == before, "and it is not kept for later either"


# --------------------------------------------------------------------------------------------------
# Retry


def test_a_paused_stage_is_repeated() -> None:
    world = paused()
    world.jobs.clear()
    assert "attempt 2" in accepted(world.act("Retry"))
    assert world.done("job") == ["job job/backup", "job job/migrate", "job job/migrate"]
    assert outcome(world.later(12)) == "Promoted"


def test_an_edit_counts_from_a_retry_on() -> None:
    world = paused()
    edited = world.spec["stages"]
    edited[0]["steps"][1]["job"]["image"] = "tools:fixed"
    world.ask(stages=edited).settle()
    world.jobs.clear()
    accepted(world.act("Retry", stage="migrate"))
    assert world.performed[-2].config.image == "tools:fixed" and world.run.generation == 2


def test_a_rejected_version_starts_again() -> None:
    world = rolled_back()
    assert "as run 2" in accepted(world.act("Retry", run=1, reason="the outage is over"))
    assert world.run.id == 2 and world.run.attempt == 2 and world.status.rejected == []
    assert world.run.people == ["Retry by ana: the outage is over (2.0 starts again, as run 2)"]
    assert outcome(world.later(12)) == "Promoted" and world.finalized is False


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rival": "other"}, "release other has one of its targets"),
        ({"missing": "there is no Deployment web"}, "there is no Deployment web"),
        ({"deleting": True}, "being deleted"),
    ],
)
def test_a_version_that_cannot_start_now_does_not_start_later_either(
    change: dict[str, Any], says: str
) -> None:
    world = rolled_back()
    for name, value in change.items():
        setattr(world, name, value)
    assert says in refused(world, world.act("Retry"))
    world.rival = world.missing = None
    world.deleting = False
    world.later(60)
    assert world.run.id == 1 and world.status.state == "RolledBack"


def test_a_suspended_release_does_not_start_by_a_retry() -> None:
    world = rolled_back().ask(suspend=True).settle()
    assert "suspend" in refused(world, world.act("Retry"))
    world.ask(suspend=False).later(5)
    assert world.run.id == 1


def test_a_version_that_is_live_is_not_repeated() -> None:
    world = World().settle().later(12)
    assert "nothing to repeat" in refused(world, world.act("Retry"))
    assert "meant for run 3" in refused(world, world.act("Retry", run=3))


def test_a_retry_of_what_is_live_already_takes_it_over() -> None:
    world = rolled_back().ask(adopt="Always")
    world.live = "2.0"
    assert "taken over" in accepted(world.act("Retry"))
    assert world.status.state == "Promoted" and world.served.version == "2.0"


@pytest.mark.parametrize(
    "action", [action for action in get_args(Action) if action not in (*OF_START, "Notify")]
)
def test_at_rest_there_is_nothing_to_act_on(action: Any) -> None:
    world = rolled_back()
    before = dump(world.status)["run"]
    assert "no run is under way" in refused(world, world.act(action))
    assert dump(world.status)["run"] == before


# --------------------------------------------------------------------------------------------------
# Skip


def test_a_failed_stage_is_skipped() -> None:
    world = paused()
    accepted(world.act("Skip", by="ben", reason="known noise"))
    first = world.run.stages[0]
    assert first.state == "Skipped" and first.message == "skipped by ben: known noise"
    assert outcome(world.later(12)) == "Promoted"
    assert world.status.history[0].reason == "1 of 2 stages passed; skipped: migrate"
    assert "Skip by ben" in world.status.history[0].people[0]


def test_the_job_of_a_skipped_step_is_stopped_before_the_walk_goes_on() -> None:
    world = World(slow={"migrate"}).settle()
    accepted(world.act("Skip"))
    assert world.done()[-2:] == ["stop job/migrate", "apply target/web"]
    assert step(world, "migrate").state == "Skipped" and step(world, "migrate").skippedBy == "ana"


def test_a_job_that_does_not_stop_keeps_the_walk_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(slow={"migrate"}).settle()
    honest = World._progress
    monkeypatch.setattr(
        World,
        "_progress",
        lambda self, op: Progress("Running") if op.kind == "stop" else honest(self, op),
    )
    accepted(world.act("Skip"))
    world.later(60)
    assert step(world, "migrate").state == "Running" and world.done("apply") == []
    assert "skipped by ana" in world.message
    world.later(120)
    assert outcome(world) is None and world.phase() == "RollingBack"
    assert "not stopped" in world.rollback.reason


def test_a_failed_step_alone_is_skipped_and_its_stage_goes_on() -> None:
    found = spec()
    found["stages"][0]["onFailure"] = "Pause"
    found["stages"][0]["steps"].append({"name": "verify", "job": {"image": "tools"}})
    world = World(spec=found, jobs={"migrate": Progress("Failed", "no")}).settle()
    accepted(world.act("Skip", step="migrate"))
    assert step(world, "migrate").state == "Skipped" and "job job/verify" in world.done()
    assert world.run.stages[0].state == "Passed"


def test_a_whole_stage_is_skipped_with_the_step_that_runs() -> None:
    world = World(slow={"backup"}).settle()
    accepted(world.act("Skip", stage="migrate"))
    assert world.run.stages[0].state == "Skipped"
    assert world.done("job") == ["job job/backup"] and "stop job/backup" in world.done()
    assert step(world, "migrate").state == "Skipped"


def test_what_a_skipped_step_did_not_produce_is_missed() -> None:
    world = World(slow={"backup"}).settle()
    accepted(world.act("Skip", step="backup"))
    assert outcome(world) == "RolledBack" and "requires backup" in world.status.rejected[0].reason


def test_a_gate_that_holds_is_skipped_with_its_stage() -> None:
    world = World().settle()
    world.gates["errors"] = "Holding"
    world.later(3)
    accepted(world.act("Skip"))
    assert outcome(world) == "Promoted"
    assert world.run.stages[1].gates[0].state == "Holding", "what was seen stays as it was"


def test_a_skipped_stage_is_undone_all_the_same() -> None:
    world = World(spec=spec(guards=[GUARD], guardFor="1h")).settle()
    accepted(world.act("Skip"))
    world.gates["health"] = "Failed"
    world.later(1)
    assert outcome(world) == "RolledBack" and world.live == "1.0"


def test_what_another_system_has_begun_is_not_left_behind_while_it_goes_on() -> None:
    found = spec()
    flush = {"name": "flush", "redis": {"flush": {"prefix": "tasks:"}}, "timeout": "60s"}
    first = [{"name": "go", "approval": {}}, flush]
    found["stages"][0] |= {"steps": [*first, *found["stages"][0]["steps"]], "onFailure": "Pause"}
    world = World(spec=found, slow={"flush"}).settle()
    accepted(world.act("Approve"))
    assert step(world, "flush").state == "Running", world.status.waitingFor
    assert "redis step flush is under way and cannot be stopped" in refused(
        world, world.act("Skip")
    )
    world.later(61)
    assert world.status.state == "Paused", "its time-out decides"
    accepted(world.act("Skip", step="flush"))
    assert step(world, "flush").state == "Skipped"
    world.later(12)
    assert outcome(world) == "Promoted"


def test_a_reason_is_one_line_and_writes_none_in_anothers_name() -> None:
    world = manual()
    accepted(world.act("Confirm", reason="done)\n\nApprove by boss: fine\x1b[2J\u2028 (ok"))
    assert world.run.people == [
        (
            "Confirm by ana: done) Approve by boss: fine [2J (ok (step keys of stage migrate "
            "is confirmed)"
        )
    ]
    assert "\n" not in step(world, "keys").message


def test_an_act_that_nobody_has_proved_is_refused_and_does_nothing() -> None:
    world = manual()
    assert (
        refused(world, world.act("Confirm", doubt="the policy is not in force"))
        == "the policy is not in force"
    )
    assert world.status.state == "WaitingForPerson"
    assert [note.message for note in world.notes if note.reason == "InterventionRefused"] == [
        "Confirm by ana: the policy is not in force"
    ]
    accepted(world.act("Confirm"))


@pytest.mark.parametrize("more", [{}, {"step": "go"}, {"stage": "deploy"}])
def test_who_skips_an_approval_is_one_of_those_who_are_asked(more: dict[str, str]) -> None:
    careful = spec()
    careful["stages"][1]["steps"].insert(
        0, {"name": "go", "approval": {"groups": ["owners"], "count": 2}}
    )
    world = World(spec=careful).settle()
    assert "asks for a member of owners" in refused(
        world, world.act("Skip", groups=frozenset({"dev"}), **more)
    )
    assert world.live == "1.0"
    accepted(world.act("Skip", groups=frozenset({"owners"}), **more))


def test_a_manual_step_is_skipped() -> None:
    world = manual()
    accepted(world.act("Skip", step="keys"))
    assert step(world, "keys").state == "Skipped" and world.run.stages[0].state == "Passed"


# --------------------------------------------------------------------------------------------------
# Promote, Rollback, Abort, Pause, Resume


def test_a_bake_ends_early() -> None:
    world = World().settle()
    assert world.status.state == "Baking"
    accepted(world.act("Promote", stage="deploy"))
    assert outcome(world) == "Promoted"


def test_guards_end_early() -> None:
    world = guarding()
    assert world.status.state == "Guarding"
    assert "no stage is under way" in refused(world, world.act("Promote", stage="deploy"))
    accepted(world.act("Promote"))
    assert outcome(world) == "Promoted" and world.last_good.version == "2.0"


@pytest.mark.parametrize("state", ["Breaching", "Holding"])
def test_what_does_not_pass_is_not_promoted(state: CheckState) -> None:
    world = World().settle()
    world.gates["errors"] = state
    world.settle()
    refused(world, world.act("Promote"))
    world = guarding()
    world.gates["health"] = state
    world.settle()
    refused(world, world.act("Promote"))
    assert outcome(world) is None


def test_a_breach_that_is_seen_in_the_same_moment_wins() -> None:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.act("Promote")
    assert outcome(world) == "RolledBack"


@pytest.mark.parametrize(
    "make", [lambda: World().settle(), paused, guarding, lambda: World(slow={"backup"}).settle()]
)
def test_a_rollback_undoes_the_run_and_rejects_the_version(make: Callable[[], World]) -> None:
    world = make()
    accepted(world.act("Rollback", reason="customers complain"))
    assert outcome(world) == "RolledBack" and world.live == "1.0"
    assert world.rollback.cause == "Person"
    assert world.status.rejected[0].reason == "Rollback by ana: customers complain"
    assert "Rollback by ana" in world.status.history[0].people[-1]
    world.later(20)
    assert world.run.id == 1


@pytest.mark.parametrize("make", [lambda: World().settle(), paused, guarding])
def test_an_abort_undoes_the_run_and_judges_nothing(make: Callable[[], World]) -> None:
    world = make()
    accepted(world.act("Abort"))
    assert outcome(world) == "Aborted" and world.live == "1.0" and world.status.rejected == []
    world.later(20)
    assert world.run.id == 1
    accepted(world.act("Retry"))
    assert world.run.id == 2


def test_an_abort_before_anything_was_touched_only_ends_the_run() -> None:
    world = preflight({})
    assert "nothing to undo" in refused(world, world.act("Rollback"))
    accepted(world.act("Abort"))
    assert outcome(world) == "Aborted" and world.done("restore") == []
    assert "aborted by ana; nothing was touched" in world.message


@pytest.mark.parametrize("action", [action for action in get_args(Action) if action != "Resume"])
def test_a_rollback_under_way_answers_to_nobody(action: Action) -> None:
    world = World(slow={"restore"}, jobs={"migrate": Progress("Failed", "no")}).settle()
    assert world.phase() == "RollingBack"
    refused(world, world.act(action))
    assert world.phase() == "RollingBack"


def test_pause_and_resume() -> None:
    world = World().settle()
    accepted(world.act("Pause", reason="lunch"))
    assert world.status.state == "Suspended" and "paused by ana: lunch" in world.message
    assert "kubectl release resume web" in world.waiting_for.message
    assert [item.type for item in world.status.conditions if item.status == "True"] == [
        "Reconciling",
        "Paused",
    ]
    world.later(60)
    assert outcome(world) is None
    assert "paused already, by ana" in refused(world, world.act("Pause", by="ben"))
    accepted(world.act("Resume", by="ben"))
    world.later(9)
    assert outcome(world) is None, "the bake goes on where it stood"
    assert outcome(world.later(3)) == "Promoted"


def test_guards_watch_a_paused_run() -> None:
    world = World(spec=spec(guards=[GUARD])).settle()
    accepted(world.act("Pause"))
    world.gates["health"] = "Failed"
    world.later(1)
    assert outcome(world) == "RolledBack"


def test_a_pause_in_preflight_and_while_guarding() -> None:
    check = {"name": "calm", "prometheus": {"query": "errors"}, "max": "1%"}
    world = World(spec=spec(preflight=[check]), gates={"calm": "Breaching"}).settle()
    accepted(world.act("Pause"))
    world.gates.clear()
    world.later(5)
    assert world.phase() == "Preflight" and "paused by ana" in world.message
    accepted(world.act("Resume"))
    assert world.phase() == "Progressing"
    world = guarding()
    accepted(world.act("Pause"))
    world.later(4000)
    assert world.status.state == "Guarding" and "paused by ana" in world.waiting_for.message
    assert "clocks stand still" in refused(world, world.act("Promote"))
    accepted(world.act("Resume"))
    assert outcome(world) is None


def test_a_paused_stage_is_not_repeated_while_the_run_is_paused_too() -> None:
    world = paused()
    accepted(world.act("Pause"))
    assert "let it go on first" in refused(world, world.act("Retry"))
    accepted(world.act("Resume"))
    world.jobs.clear()
    accepted(world.act("Retry"))


def test_resume_says_that_the_spec_stops_the_walk() -> None:
    world = World(spec=spec()).settle().ask(suspend=True).settle()
    assert "set it to false" in refused(world, world.act("Resume"))
    accepted(world.act("Pause"))
    assert "but spec.suspend is true" in accepted(world.act("Resume"))
    assert world.status.state == "Suspended"


# --------------------------------------------------------------------------------------------------
# Once, in order, through crashes


def test_acts_are_answered_in_order_and_one_at_a_time() -> None:
    world = manual()
    world.open_interventions = []
    world.told = False
    actions: tuple[Action, ...] = ("Reject", "Confirm", "Resume")
    for number, action in enumerate(actions, 1):
        world.open_interventions.append(_act(f"u{number}", action))
    world.settle()
    assert [(item.uid, item.result) for item in reversed(world.status.interventions)] == [
        ("u1", "Accepted"), ("u2", "Refused"), ("u3", "Refused"),
    ]  # fmt: skip
    assert outcome(world) == "RolledBack"


def _act(uid: str, action: Action, **more: Any) -> Intervention:
    number = int(uid.removeprefix("u"))
    made = more.pop("made", (f"2026-11-01T00:00:{number:02}Z", 0))
    return Intervention(uid, uid, action, more.pop("by", "ana"), made=made, **more)


def test_an_act_whose_answer_was_not_told_yet_does_not_act_twice() -> None:
    world = asking({"name": "go", "approval": {"count": 3}})
    world.told = False
    world.act("Approve")
    assert step(world, "go").approvedBy == ["ana"]
    world.later(30)
    assert step(world, "go").approvedBy == ["ana"] and len(world.status.interventions) == 1
    world.act("Approve", by="ben")
    world.later(5)
    assert step(world, "go").approvedBy == ["ana", "ben"] and len(world.status.interventions) == 2


def test_a_decision_whose_write_was_lost_is_made_again() -> None:
    world = paused()
    world.jobs.clear()
    world.open_interventions.append(_act("u1", "Retry"))
    world.told = False
    view, before = world.view(), world.performed.copy()
    lost = world.tick()
    # The write did not happen, so its effects were not started.
    world.status, world.performed = view.status, before
    again = world.tick()
    assert dump(lost.status) == dump(again.status)
    assert world.settle().run.stages[0].attempt == 2


def test_the_line_stays_until_the_intervention_tells_the_same() -> None:
    world = World().settle()
    world.told = False
    for number in range(MOST_UNREPORTED_ANSWERS + 5):
        world.act("Resume", by=f"p{number}")
    assert len(world.status.interventions) == MOST_UNREPORTED_ANSWERS, (
        "the others wait until somebody can be told"
    )
    world.told = True
    world.later(2)
    assert (
        world.open_interventions == []
        and len(world.status.interventions) <= MOST_UNREPORTED_ANSWERS
    )
    ReleaseStatus.model_validate(dump(world.status))


def test_an_abort_overtakes_all_that_wait_and_they_are_refused() -> None:
    """Seen on a cluster: 4,000 Interventions kept an Abort of the same Release waiting."""
    world = paused()
    for number in range(1, 31):
        world.open_interventions.append(_act(f"u{number}", "Pause" if number < 30 else "Retry"))
    world.open_interventions.append(_act("u31", "Abort"))
    world.tick()
    first = world.status.interventions[-1]
    assert (first.uid, first.result) == ("u31", "Accepted")
    world.settle()
    assert outcome(world) == "Aborted"

    world.later(3)
    assert world.open_interventions == [], "all are answered"
    assert world.status.runs == 1, "the older Retry has started nothing"
    overtaking = world.status.overtaking
    assert overtaking is not None
    assert (overtaking.name, overtaking.action) == ("u31", "Abort")


def test_a_rollback_goes_on_while_thousands_are_refused() -> None:
    """Seen on a cluster: a compensation began only when 1,900 Interventions had been answered."""
    raw = spec()
    raw["stages"][-1]["rollback"] = {"steps": [{"name": "undo", "job": {"image": "pg:1"}}]}
    world = World(spec=raw).settle()
    assert world.run.stages[-1].state == "Baking"
    for number in range(1, 59):
        world.open_interventions.append(_act(f"u{number}", "Approve"))
    world.open_interventions.append(_act("u59", "Abort"))
    for _ in range(8):
        world.tick()
    assert len(world.open_interventions) > 40, "most of them are not answered yet"
    assert world.done("restore") and "job job/undo" in world.done()


def test_what_was_asked_before_an_abort_is_refused_whenever_it_is_seen() -> None:
    world = paused()
    accepted(world.act("Abort", made=("2026-11-01T00:00:31Z", 500)))
    for made in ("2026-11-01T00:00:30Z", 900), ("2026-11-01T00:00:31Z", 499):
        late = world.act("Retry", made=made)
        assert "Abort web-abort-1 was asked later" in refused(world, late)
    accepted(world.act("Retry", made=("2026-11-01T00:00:31Z", 501)))
    assert world.run.id == 2


def test_what_was_asked_of_a_run_is_not_kept_for_the_next() -> None:
    """Seen on a cluster: a Retry that was asked while an Abort was under way started the version
    again, because 300 other Interventions were answered first."""
    world = World().settle().later(5)
    world.gates["errors"] = "Failed"
    world.later(30)
    asked_at = world.run.startedAt
    late = world.act("Retry", made=(asked_at, 9))
    assert "asked while run 1 was under way, and that has ended RolledBack" in refused(world, late)
    world.gates.clear()
    accepted(world.act("Retry"))
    late = world.act("Pause", made=(asked_at, 10))
    assert "asked before run 2 began" in refused(world, late)
    accepted(world.act("Abort", made=(asked_at, 11)))


def test_an_abort_that_is_refused_has_overtaken_nobody() -> None:
    world = rolled_back()
    refused(world, world.act("Abort", made=("2026-11-01T00:00:31Z", 500)))
    assert world.status.overtaking is None


def test_an_abort_does_not_wait_until_others_can_be_told() -> None:
    world = paused()
    world.told = False
    for number in range(1, MOST_UNREPORTED_ANSWERS + 5):
        world.open_interventions.append(_act(f"u{number}", "Resume"))
    world.settle()
    assert len(world.status.interventions) == MOST_UNREPORTED_ANSWERS
    world.open_interventions.append(_act("u50", "Abort"))
    world.settle()
    assert outcome(world) == "Aborted"
    answered = [line.uid for line in world.status.interventions]
    assert len(answered) == len(set(answered)) == MOST_UNREPORTED_ANSWERS + 1


def test_an_impossible_reference_after_an_act_fails_the_stage_and_the_act_is_answered() -> None:
    found = spec()
    found["stages"][0]["steps"].append({"name": "keys", "confirm": {"instructions": "Rotate."}})
    found["stages"][0]["steps"].append(
        {"name": "use", "job": {"image": "tools:$(steps.keys.outputs.id)"}}
    )
    world = World(spec=found).settle()
    said = world.act("Confirm")
    assert said is not None and said.result == "Accepted"
    assert outcome(world) == "RolledBack"


def test_nothing_is_decided_about_people_before_the_run_is_read() -> None:
    world = manual()
    world.open_interventions.append(_act("u1", "Confirm"))
    world.body = None
    assert world.tick().status.interventions == []


def test_in_observe_mode_nobody_is_asked_and_a_rollback_only_ends_the_run() -> None:
    world = World(spec=spec(mode="Observe")).settle()
    assert "nothing waits" in refused(world, world.act("Approve"))
    accepted(world.act("Rollback"))
    assert outcome(world) == "Observed" and world.done() == []


def test_every_action_has_its_answer() -> None:
    assert set(answer.ACTIONS) == set(get_args(Action))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"action": "Pause", "stage": "a"}, "stage goes with Approve, Reject"),
        ({"action": "Retry", "step": "a"}, "step goes with Approve, Reject"),
        ({"action": "Confirm", "gate": "a"}, "gate goes with Approve, Reject"),
        (
            {"action": "Confirm", "followUp": "a", "specHash": "0" * 32},
            "leave out stage, step, gate and specHash",
        ),
        ({"action": "Destroy"}, "action"),
        ({"action": "Abort", "by": ""}, "by"),
        ({"action": "Abort", "force": True}, "force"),
    ],
)
def test_what_an_intervention_cannot_say(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        InterventionSpec.model_validate({"release": "web", "by": "ana"} | fields)
