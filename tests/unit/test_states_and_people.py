"""Edits, people, silence and deletions in states where they used to do harm."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gatewright.api.intervention import Action
from gatewright.api.status import ReleaseStatus, dump
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.operation import Progress
from gatewright.core.run import rescue
from gatewright.core.run.decide import decide
from gatewright.runtime.parse import status_of
from tests.unit.sim import World, spec

GUARD = {"name": "rate", "prometheus": {"query": "rate"}, "max": "1%", "for": "5m"}


def conditions(world: World) -> dict[str, str]:
    return {item.type: item.status for item in world.status.conditions}


def guarded(**changes: Any) -> World:
    return World(spec=spec(guards=[GUARD | changes], guardFor="1h"))


def notes(world: World) -> list[str]:
    return [note.reason for note in world.notes]


# --- the stage that paused


def paused_behind_a_failed_one() -> World:
    lax = spec()
    lax["stages"][0] |= {"onFailure": "Continue"}
    lax["stages"][1] |= {"onFailure": "Pause"}
    world = World(
        spec=lax, jobs={"migrate": Progress("Failed", "exit code 1")}, gates={"errors": "Failed"}
    ).settle()
    assert world.status.state == "Paused"
    return world


@pytest.mark.parametrize("action", ["Retry", "Skip"])
def test_people_act_on_the_stage_that_paused(action: Action) -> None:
    world = paused_behind_a_failed_one()
    world.gates.clear()
    assert "stage deploy" in world.answer(action).message
    world.later(12)
    stages = {stage.name: stage.state for stage in world.run.stages}
    assert stages["migrate"] == "Failed" and stages["deploy"] in ("Passed", "Skipped")


# --- silence


def test_a_night_without_traffic_undoes_nothing() -> None:
    world = guarded().settle()
    world.later(12)
    world.gates["rate"] = "Silent"
    world.jump(3600 * 6)
    assert world.phase() == "Guarding" and world.live == "2.0"
    assert "nothing is promoted and nothing undone" in world.waiting_for.message
    assert notes(world).count("GuardSilent") == 1
    world.gates.clear()
    world.jump(3700)
    assert world.outcome() == "Promoted" and world.last_good.caveat is None


def test_a_silent_guard_does_not_keep_the_next_version_away() -> None:
    world = guarded().settle().later(12)
    world.gates["rate"] = "Silent"
    world.later(10)
    world.ask("3.0").settle()
    past = world.status.history[0]
    assert past.outcome == "Promoted" and "not watched to its end: guard rate: no data" in str(
        past.reason
    )
    assert "not watched to its end" in str(world.last_good.caveat) and world.run.version == "3.0"


def test_a_silent_guard_pauses_the_stages_and_a_person_lets_them_go_on() -> None:
    world = guarded().settle()
    world.gates["rate"] = "Silent"
    world.later(10)
    assert conditions(world)["Paused"] == "True" and conditions(world)["Stalled"] == "True"
    assert "a Resume" in world.waiting_for.message
    world.act("Resume")
    world.later(60)
    assert world.run.paused is None and world.outcome() is None, "but on silence nothing passes"
    world.gates.clear()
    world.later(12)
    assert world.phase() == "Guarding"


@pytest.mark.parametrize(("policy", "ends"), [("Fail", "RolledBack"), ("Notify", None)])
def test_what_silence_does_can_be_said_on_the_guard(policy: str, ends: str | None) -> None:
    world = guarded(onHoldExpired=policy).settle()
    world.gates["rate"] = "Silent"
    world.later(60)
    assert world.outcome() == ends


@pytest.mark.parametrize(
    ("policy", "state"), [("Fail", "RolledBack"), ("Pause", "Paused"), ("Notify", "Holding")]
)
def test_what_silence_of_a_gate_does(policy: str, state: str) -> None:
    stages = spec()["stages"]
    stages[1]["gates"][0]["onHoldExpired"] = policy
    world = World(spec=spec(stages=stages), gates={"errors": "Silent"}).settle()
    world.later(5)
    assert world.status.state == state


def test_a_guard_that_breached_before_counts_from_the_first_deploy_on() -> None:
    world = guarded()
    world.gates |= {"rate#0": "Failed", "rate#1": "Breaching"}
    world.spec["preflight"] = [{"name": "go", "approval": {}}]
    world.settle()
    assert "already now: guard rate" in world.waiting_for.message
    world.act("Approve")
    assert world.live == "2.0", "the hotfix is rolled out because something breaches"
    assert world.outcome() is None and world.run.guards[0].window == 1
    world.later(20)
    assert world.outcome() is None
    world.gates["rate#1"] = "Failed"
    world.settle()
    assert world.outcome() == "RolledBack"


# --- edits


def test_an_invalid_edit_changes_nothing() -> None:
    world = World().settle()
    world.ask("3.0", supersede="Replace", targets=[*spec()["targets"], *spec()["targets"]]).later(
        12
    )
    assert (
        world.status.history[0].outcome == "Promoted" and world.status.history[0].version == "2.0"
    )


def test_the_last_good_version_in_the_middle_of_a_run_is_a_rollback() -> None:
    world = World().settle()
    world.ask("1.0").settle()
    assert world.live == "1.0" and world.status.runs == 1 and world.outcome() == "Superseded"
    world.later(30)
    assert (
        world.status.runs == 1
        and conditions(world)["Ready"] == "True"
        and not world.status.rejected
    )


@pytest.mark.parametrize(
    "change", [{"suspend": True}, {"supersede": "Replace"}, {"adopt": "Never"}]
)
def test_what_counts_at_once_does_not_begin_the_preflight_anew(change: dict[str, Any]) -> None:
    approvals = {"name": "go", "approval": {"count": 2}}
    world = World(spec=spec(preflight=[approvals])).settle()
    world.act("Approve", by="ana")
    world.ask(**change).settle()
    assert world.status.runs == 1 and world.run.preflight[0].approvedBy == ["ana"]


def test_a_retry_with_an_edit_that_forgets_what_was_changed_does_not_count() -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Pause"
    world = World(spec=spec(stages=stages), gates={"errors": "Failed"}).settle()
    target = {"kind": "Deployment", "name": "web", "images": {"app": "shop/web:$(version)"}}
    edited = spec(stages=stages)["stages"]
    edited[1]["steps"][0]["deploy"]["targets"] = ["site"]
    world.ask(targets=[{"name": "site", "workload": target}], stages=edited).settle()
    assert "does not know target/web any more" in world.answer("Retry").message
    world.act("Rollback")
    assert world.live == "1.0" and world.outcome() == "RolledBack"


def edited_target(image: str) -> list[dict[str, Any]]:
    return [
        {"name": "web", "workload": {"kind": "Deployment", "name": "web", "images": {"app": image}}}
    ]


def test_an_edit_of_what_the_failed_stage_has_deployed_is_deployed_by_its_retry() -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Pause"
    world = World(spec=spec(stages=stages), gates={"errors": "Failed"}).settle()
    world.ask(targets=edited_target("shop/web:$(version)-fixed")).settle()
    world.gates.clear()
    assert world.answer("Retry").result == "Accepted"
    world.later(12)
    assert world.live == "2.0-fixed" and world.outcome() == "Promoted"


def test_an_edit_of_what_a_stage_that_is_over_has_deployed_does_not_count() -> None:
    stages = spec()["stages"]
    stages.append(
        {
            "name": "after",
            "steps": [{"name": "announce", "job": {"image": "tools"}}],
            "onFailure": "Pause",
        }
    )
    world = (
        World(spec=spec(stages=stages), jobs={"announce": Progress("Failed", "exit code 1")})
        .settle()
        .later(12)
    )
    world.ask(targets=edited_target("shop/web:$(version)-fixed")).settle()
    world.jobs.clear()
    said = world.answer("Retry")
    assert "it changes what step deploy of stage deploy has set already" in said.message
    world.later(3)
    assert world.live == "2.0" and world.outcome() == "Promoted"


def test_an_edit_that_captures_more_with_what_was_deployed_does_not_count() -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Pause"
    world = World(spec=spec(stages=stages), gates={"errors": "Failed"}).settle()
    edited = edited_target("shop/web:$(version)")
    edited[0]["workload"]["config"] = [{"secret": "keys"}]
    world.ask(targets=edited).settle()
    assert "it captures other configuration with target web" in world.answer("Retry").message
    world.act("Rollback")
    assert world.live == "1.0" and world.outcome() == "RolledBack"


def test_a_spec_that_cannot_be_read_stops_the_walk() -> None:
    world = World().settle()
    world.unreadable = True
    world.generation += 1
    world.later(60)
    assert world.outcome() is None and world.run.holdReason == "suspended"
    world.unreadable = False
    world.later(12)
    assert world.outcome() == "Promoted"


def test_a_reference_that_nobody_can_know_is_refused_before_the_start() -> None:
    guard = {"name": "rate", "prometheus": {"query": "rate$(lastGood.version)"}, "max": "1%"}
    world = World(spec=spec(guards=[guard]), live="")
    world.settle()
    assert (
        world.status.runs == 0
        and "spec.guards[0].prometheus.query: $(lastGood.version) is not known" in world.message
    )
    assert World(spec=spec(guards=[guard])).settle().status.runs == 1


def test_a_missing_output_honours_on_failure() -> None:
    careful = spec()
    careful["stages"][1]["onFailure"] = "Pause"
    careful["stages"][1]["steps"].insert(
        0, {"name": "check", "job": {"image": "x", "args": ["$(steps.backup.outputs.size)"]}}
    )
    world = World(spec=careful).settle()
    assert (
        world.status.state == "Paused"
        and "$(steps.backup.outputs.size) is not known" in world.message
    )


def test_a_missing_output_in_a_gate_does_not_stop_the_world() -> None:
    careful = spec()
    careful["stages"][1]["gates"].append(
        {"name": "smoke", "job": {"image": "x", "args": ["$(steps.backup.outputs.size)"]}}
    )
    world = World(spec=careful).settle()
    assert world.outcome() == "RolledBack" and "not known" in world.message


# --- clocks, statuses, passes


def test_a_clock_that_has_run_out_wakes_nobody_while_something_else_keeps_the_run() -> None:
    world = World().settle()
    world.gates["errors"] = "Breaching"
    world.later(30)
    decision = world.tick()
    assert decision.requeue_at is None or decision.requeue_at > world.now


def test_what_a_newer_operator_wrote_stays_and_what_cannot_be_read_is_never_empty() -> None:
    raw = dump(World().settle().status)
    raw["rejected"] = [
        {"version": "9", "reason": "x", "at": "2026-01-01T00:00:00.000Z", "novelty": {"a": 1}}
    ]
    raw["run"]["stages"][0]["mood"] = "calm"
    status = status_of(raw)
    assert status is not None and dump(status) == raw
    assert status_of(raw | {"run": {"id": "many"}}) is None


def test_passes_that_fail_are_said_and_people_can_end_the_run() -> None:
    world = World().settle()
    view = world.view()
    decision = rescue.decide_stuck(view, "ControllerRevision web-1 is gone", world.now)
    status = decision.status
    assert "ControllerRevision web-1 is gone" in str(status.message) and {
        c.type for c in status.conditions
    } == {
        "Ready",
        "Stalled",
    }
    world.status = status
    assert (
        rescue.decide_stuck(
            world.view(), "ControllerRevision web-1 is gone", world.now + timedelta(hours=1)
        ).status
        == status
    )
    world.deleting = True
    assert rescue.decide_stuck(world.view(), "x", world.now).remove_finalizer


def test_a_queued_version_is_not_ready() -> None:
    world = guarded().settle().later(12)
    assert conditions(world)["Ready"] == "True"
    world.ask("3.0").settle()
    assert conditions(world)["Ready"] == "Unknown" and conditions(world)["Reconciling"] == "True"
    world = guarded().settle().later(12)
    world.ask("3.0", supersede="Reject").settle()
    assert conditions(world)["Ready"] == "False"


def test_an_edit_that_waits_is_said_with_what_makes_it_count() -> None:
    world = World().settle()
    world.ask(
        stages=[*spec()["stages"], {"name": "more", "steps": [{"name": "nap", "wait": "1s"}]}]
    ).settle()
    assert "the edit counts from the next run, or from a Retry" in world.message


def test_decide_never_needs_a_standing_to_be_there() -> None:
    world = World().settle()
    seen = world.observe(world.wants(world.view()))
    assert isinstance(decide(world.view(), seen).status, ReleaseStatus)


def test_a_rollback_also_undoes_what_a_body_did_that_a_retry_has_replaced() -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Pause"
    world = World(spec=spec(stages=stages), gates={"errors": "Failed"}).settle()
    target = {
        "kind": "Deployment",
        "name": "web",
        "images": {"app": "shop/web:$(version)", "extra": "x:1"},
    }
    world.ask(targets=[{"name": "web", "workload": target}]).settle()
    world.act("Retry")
    world.act("Rollback")
    restore = next(operation for operation in world.performed if operation.kind == "restore")
    images = [set(change.config["workload"]["images"]) for change in restore.changes]
    assert {"app"} in images and {"app", "extra"} in images
    assert world.body is not None and world.body.earlier and world.outcome() == "RolledBack"


def test_a_message_of_any_length_fits_the_status() -> None:
    world = World(slow={"web"})
    world.jobs["web"] = Progress("Running", "x" * 5000, stuck=True)
    world.slow = set()
    world.settle()
    message = world.run.stages[1].steps[0].message
    assert message is not None and len(message) <= 1000


def test_observing_runs_no_job_of_a_gate() -> None:
    stages = spec()["stages"]
    stages[1]["gates"].append({"name": "smoke", "job": {"image": "x"}})
    world = World(spec=spec(stages=stages, mode="Observe")).settle().later(12)
    assert world.performed == [] and world.outcome() == "Observed"


def test_a_skipped_stage_has_the_job_of_its_gate_stopped_first() -> None:
    stages = spec()["stages"]
    stages[0]["gates"] = [{"name": "smoke", "job": {"image": "x"}}]
    world = World(spec=spec(stages=stages), slow={"smoke"}).settle()
    world.unstoppable = True
    world.act("Skip", stage="migrate")
    world.later(5)
    assert "stop job/smoke" in world.done("stop") and world.live == "1.0"
    world.unstoppable = False
    world.later(2)
    assert world.live == "2.0"


def test_an_invalid_edit_is_not_ready_and_says_so() -> None:
    world = guarded().settle().later(12)
    world.ask(targets=[*spec()["targets"], *spec()["targets"]]).settle()
    assert conditions(world)["Ready"] == "False" and "names are unique" in world.message
    assert world.phase() == "Guarding"


def test_silence_that_a_person_decides_about_is_not_passed_over() -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Continue"
    stages[1]["gates"][0]["onHoldExpired"] = "Pause"
    world = World(spec=spec(stages=stages), gates={"errors": "Silent"}).settle().later(3)
    assert world.status.state == "Paused"


def test_a_resume_counts_through_a_restart() -> None:
    world = guarded().settle()
    world.gates["rate"] = "Silent"
    world.later(3)
    world.act("Resume")
    world.gates["rate"] = "Unknown"
    world.later(2)
    world.gates["rate"] = "Silent"
    world.later(3)
    assert world.run.paused is None
    assert "rate: no data" in world.waiting_for.message


def test_a_run_does_not_change_anything_before_its_guards_have_answered_once() -> None:
    world = guarded()
    world.gates["rate"] = "Unknown"
    world.later(5)
    assert world.live == "1.0" and world.performed == []
    world.gates |= {"rate#0": "Failed", "rate#1": "Breaching"}
    world.later(5)
    assert world.live == "2.0" and world.outcome() is None, (
        "a hotfix is rolled out because something breaches"
    )


def test_a_retry_that_is_refused_at_rest_leaves_the_state_as_it_is() -> None:
    world = World().settle().later(12)
    world.live = "1.0"
    world.settle()
    assert world.status.state == "Drifted"
    world.open_interventions.append(
        Intervention("itv-1", "web-retry-1", "Retry", "ana", stage="migrate")
    )
    for _ in range(3):
        world.tick()
        assert (world.status.state, conditions(world)["Ready"]) == ("Drifted", "False")
    assert world.status.interventions[0].result == "Refused"
