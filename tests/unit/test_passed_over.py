"""What is promoted is what runs, also where nobody has deployed it; what a Retry pins keeps the way
back."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.operation import Progress
from gatewright.core.spec.problems import find_problems
from tests.unit.sim import World, spec


def lax(failure: str = "Continue") -> dict[str, Any]:
    """A stage that deploys after a Job, and one that only waits."""
    found = spec(guards=[])
    first = {"name": "check", "job": {"image": "tools"}}
    found["stages"] = [
        {
            "name": "a",
            "onFailure": failure,
            "steps": [first, {"name": "d", "deploy": {"targets": ["web"]}}],
        },
        {"name": "b", "steps": [{"name": "w", "wait": "3s"}]},
    ]
    found["targets"][0]["holdFor"] = "20s"
    return found


def ready(world: World) -> str:
    return next(item.status for item in world.status.conditions if item.type == "Ready")


def test_a_deploy_that_never_began_is_not_promoted() -> None:
    world = World(spec=lax(), jobs={"check": Progress("Failed", "exit code 1")}).settle().later(10)
    run = world.run
    assert run.outcome is None and "apply target/web" not in world.done() and ready(world) != "True"
    assert [row.subject for row in run.differences] == ["target/web"]
    assert "Deployment web runs 1.0 instead of 2.0" in world.waiting_for.message
    world.later(25)
    assert world.outcome() == "RolledBack" and world.served.version == "1.0"


def test_who_deploys_it_by_hand_lets_it_go_on() -> None:
    world = World(spec=lax(), jobs={"check": Progress("Failed", "exit code 1")}).settle().later(2)
    world.live = "2.0"
    world.later(12)
    assert world.outcome() == "Promoted" and world.run.differences == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_person_who_passes_over_a_deploy_promotes_nothing_that_does_not_run(number: int) -> None:
    wanted = lax("Pause")
    if number:
        wanted["stages"][0]["steps"][0] = {"name": "check", "confirm": {"instructions": "look"}}
    world = World(spec=wanted, jobs={"check": Progress("Failed", "exit code 1")}).settle()
    assert world.answer("Skip", stage="a").result == "Accepted"
    world.later(10)
    assert world.outcome() is None and ready(world) != "True"
    assert world.answer("Rollback").result == "Accepted"
    assert world.outcome() == "RolledBack"


def test_what_a_later_stage_deploys_is_waited_for() -> None:
    wanted = lax()
    wanted["stages"][1]["steps"] = [{"name": "d", "deploy": {"targets": ["web"]}}]
    world = World(spec=wanted, jobs={"check": Progress("Failed", "exit code 1")}).settle().later(5)
    assert world.outcome() == "Promoted" and world.live == "2.0"


def test_a_deploy_that_names_what_was_never_published_is_said() -> None:
    wanted = lax()
    wanted["stages"][0]["steps"][1]["deploy"]["version"] = "$(steps.check.outputs.tag)"
    world = World(spec=wanted, jobs={"check": Progress("Failed", "exit code 1")}).settle().later(10)
    assert world.outcome() is None
    assert (
        "was not deployed: stage a was passed over before step d began" in world.waiting_for.message
    )


def test_an_edit_that_a_retry_takes_up_keeps_the_way_back() -> None:
    wanted = spec()
    wanted["stages"][1]["onFailure"] = "Pause"
    world = World(spec=wanted, gates={"errors": "Failed"}).settle()
    before = world.data[world.run.revision]["snapshots"]
    edited = [dict(stage) for stage in wanted["stages"]]
    edited[1] = {**edited[1], "bake": "11s"}
    world.ask(stages=edited)
    assert world.answer("Retry").result == "Accepted"
    after = world.data[world.run.revision]
    assert after["body"]["spec"]["stages"][1]["bake"] == "11s"
    assert after["snapshots"] == before and before["target/web"] == {"of": "1.0"}
    world.act("Rollback")
    assert world.outcome() == "RolledBack" and world.live == "1.0"


def test_a_skipped_rollout_is_not_ready_before_it_was_looked_at() -> None:
    wanted = lax()
    wanted["stages"] = [{"name": "a", "steps": [{"name": "d", "deploy": {"targets": ["web"]}}]}]
    world = World(spec=wanted, slow={"web"}, unproved="1 old replicas are still there").settle()
    assert world.run.stages[0].steps[0].state == "Running"
    world.open_interventions.append(Intervention("itv-1", "web-skip-1", "Skip", "ana", step="d"))
    said = []
    for _ in range(5):
        world.tick()
        said.append((ready(world), world.served.version))
    assert {state for state, _ in said} == {"Unknown"} and {version for _, version in said} == {
        "1.0"
    }
    world.unproved = ""
    world.later(3)
    assert world.outcome() == "Promoted" and world.served.version == "2.0"


def test_after_a_failed_rollback_a_run_returns_to_what_was_before_that_and_says_so() -> None:
    world = (
        World(spec=spec(), gates={"errors": "Failed"}, refused={"target/web": "quota exceeded"})
        .settle()
        .later(700)
    )
    assert world.outcome() == "RollbackFailed" and world.live == "2.0"
    world.refused.clear()
    world.ask("3.0").settle().later(5)
    run = world.run
    assert run.outcome == "RolledBack" and world.live == "1.0"
    assert world.served.version == "1.0" and "serving 1.0" in world.message


def test_in_a_release_without_a_deploy_an_early_guard_counts_from_the_first_change() -> None:
    guard = {"name": "rate", "prometheus": {"query": "rate"}, "max": "1%"}
    wanted = spec(guards=[guard])
    wanted["stages"] = [
        {"name": "ask", "steps": [{"name": "go", "confirm": {"instructions": "sure?"}}]},
        {
            "name": "f",
            "steps": [{"name": "off", "flags": {"configMap": "flags", "set": {"voice": "off"}}}],
            "bake": "10s",
        },
    ]
    world = World(spec=wanted, gates={"rate": "Failed"}).settle()
    assert world.run.guards[0].early
    world.gates["rate#1"] = "Breaching"
    world.act("Confirm")
    run = world.run
    assert run.outcome is None and run.deployed and not run.guards[0].early, (
        "its samples begin anew"
    )
    world.gates.clear()
    assert world.later(15).outcome() == "Promoted"


def test_a_silence_that_a_person_has_let_go_on_keeps_nothing_back() -> None:
    guard = {"name": "rate", "prometheus": {"query": "rate"}, "max": "1%", "holdFor": "20s"}
    wanted = spec(guards=[guard], guardFor="5s")
    world = World(spec=wanted, gates={"rate": "Silent"}).settle().later(30)
    assert (world.run.paused or "").startswith("guard rate")
    assert world.answer("Resume").result == "Accepted"
    world.later(15)
    run = world.run
    assert run.phase == "Guarding", "every stage has passed"
    assert run.outcome is None, "a silent guard promotes nothing"
    world.gates.clear()
    assert world.later(10).outcome() == "Promoted"


def test_the_history_names_a_step_that_was_skipped() -> None:
    wanted = lax("Pause")
    world = World(spec=wanted, jobs={"check": Progress("Failed", "exit code 1")}).settle()
    assert world.answer("Skip", step="check").result == "Accepted"
    world.later(6)
    assert world.status.history[0].reason == "2 of 2 stages passed; skipped steps: check of a"


def test_a_workload_is_a_target_once() -> None:
    twin = {
        "name": "again",
        "workload": {"kind": "Deployment", "name": "web", "env": {"app": {"V": "$(version)"}}},
    }
    wanted = spec()
    wanted["targets"].append(twin)
    found = list(find_problems(ReleaseSpec.model_validate(wanted)))
    assert found == [
        "spec.targets[1].workload: Deployment web is spec.targets[0] already; "
        "name a workload once, with all its images and variables"
    ]
