"""Live is what is observed: what others change is seen, held, said, never promoted; at rest it is
Drifted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gatewright.core.model.needs import Needs
from gatewright.core.model.observation import Observation
from gatewright.core.model.operation import Progress
from tests.unit.sim import World, spec


def baking(**changes: Any) -> World:
    world = World(spec=spec(**changes)).settle()
    assert world.status.state == "Baking" and world.live == "2.0"
    return world


def promoted(**changes: Any) -> World:
    world = baking(**changes).later(12)
    assert world.status.run and world.status.run.outcome == "Promoted"
    return world


def conditions(world: World) -> dict[str, str]:
    return {item.type: item.status for item in world.status.conditions}


def reason(world: World, kind: str = "Ready") -> str:
    return next((item.reason for item in world.status.conditions if item.type == kind), "")


def test_what_others_put_back_in_the_bake_is_said_and_never_promoted() -> None:
    world = baking()
    world.live = "1.0"
    world.later(30)
    assert (
        world.status.state == "Holding"
        and "Deployment web runs 1.0 instead of 2.0" in world.message
    )
    assert (
        "make it so again" in world.waiting_for.message
        and "the stage fails at" in world.waiting_for.message
    )
    assert conditions(world)["Ready"] == "Unknown" and conditions(world)["Drifted"] == "True"
    world.jump(600)
    run = world.run
    assert run.outcome == "RolledBack" and "longer than 10m0s" in str(run.reason)
    assert "2.0" in [item.version for item in world.status.rejected]


def test_what_is_put_right_again_goes_on_where_it_stood() -> None:
    world = baking()
    world.later(4)
    world.live = "1.0"
    world.later(300)
    world.live = "2.0"
    world.later(4)
    assert world.status.state == "Baking", "the clock of the bake stood still"
    world.later(4)
    assert world.outcome() == "Promoted" and "Drifted" not in conditions(world)


def test_a_difference_while_guarding_undoes_the_release_after_its_time() -> None:
    guard = {"name": "rate", "prometheus": {"query": "rate"}, "max": "1%"}
    world = World(spec=spec(guards=[guard], guardFor="1h")).settle().later(12)
    assert world.status.state == "Guarding" and conditions(world)["Ready"] == "True"
    world.live = "1.0"
    world.settle()
    assert conditions(world)["Ready"] == "Unknown" and "runs 1.0" in world.message
    world.jump(601)
    assert world.outcome() == "RolledBack"


def test_hold_for_of_a_target_says_how_long_a_difference_may_last() -> None:
    target = {"kind": "Deployment", "name": "web", "images": {"app": "shop/web:$(version)"}}
    world = baking(targets=[{"name": "web", "workload": target, "holdFor": "20s"}])
    world.live = "1.0"
    world.later(19)
    assert world.outcome() is None
    world.later(2)
    assert world.outcome() == "RolledBack"


@pytest.mark.parametrize("failure", ["Pause", "Continue"])
def test_a_stage_that_others_have_undone_fails_as_its_on_failure_says(failure: str) -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = failure
    world = baking(stages=stages)
    world.live = "1.0"
    world.jump(601)
    if failure == "Pause":
        assert world.status.state == "Paused" and world.run.pausedStage == "deploy"
        world.act("Retry")
        assert world.live == "2.0", "what others have changed is done once more"
        world.later(12)
        assert world.outcome() == "Promoted"
    else:
        assert world.phase() == "Guarding" and world.outcome() is None
        world.jump(700)
        assert world.outcome() == "RolledBack", "passed over, but what does not run is not promoted"


class Pinned(World):
    """Its images do not name the version."""

    def observe(self, wants: Needs) -> Observation:
        seen = super().observe(wants)
        return replace(
            seen,
            live_states={
                name: replace(item, version="3.0") for name, item in seen.live_states.items()
            },
        )


def test_what_is_last_good_is_not_called_by_its_image() -> None:
    world = Pinned(spec=spec("x", adopt="Always"), live="x").settle()
    assert world.served.version == "x" and world.status.runs == 0
    world.ask("y")
    world.gates["errors"] = "Failed"
    world.settle()
    world.later(3)
    assert world.outcome() == "RolledBack" and world.run.found is None
    assert world.served.version == "x" and "was not promoted" not in world.message


@pytest.mark.parametrize("still", ["Pause", "suspend"])
def test_what_is_live_is_told_also_while_the_run_stands_still(still: str) -> None:
    stages = spec()["stages"]
    stages[1]["onFailure"] = "Continue"
    world = baking(stages=stages, guardFor="1h")
    world.live = "1.0"
    world.jump(601)
    assert world.phase() == "Guarding" and world.served.version == "1.0"
    world.act("Pause") if still == "Pause" else world.ask(suspend=True)
    world.live = "2.0"
    world.settle()
    assert conditions(world)["Ready"] == "True" and world.served.version == "2.0", (
        world.status.message
    )


def test_nothing_new_begins_on_top_of_what_others_have_changed() -> None:
    stages = spec()["stages"]
    stages.append({"name": "after", "steps": [{"name": "announce", "job": {"image": "tools"}}]})
    stages[1]["steps"].append({"name": "nap", "wait": "5s"})
    world = World(spec=spec(stages=stages)).settle()
    world.live = "1.0"
    world.later(30)
    assert "job job/announce" not in world.done() and world.status.state == "Holding"


def test_what_nobody_can_look_at_is_not_promoted_and_not_undone() -> None:
    world = baking()
    world.unknown = "Vercel does not answer"
    world.jump(3000)
    assert world.outcome() is None and world.live == "2.0"
    world.unknown = ""
    world.later(2)
    assert world.outcome() == "Promoted"


def test_a_rollback_that_others_undo_is_not_called_done() -> None:
    world = baking(
        rollback={"verify": [{"name": "health", "prometheus": {"query": "health"}, "min": "1"}]}
    )
    world.gates |= {"errors": "Failed", "health": "Breaching"}
    world.settle()
    assert world.phase() == "Verifying" and world.live == "1.0"
    world.live = "2.0"
    assert world.settle().live == "1.0", "once it is returned"
    world.live = "2.0"
    world.gates["health"] = "Passing"
    world.later(30)
    assert world.outcome() is None and "runs 2.0 instead of 1.0" in world.waiting_for.message
    world.jump(600)
    assert world.outcome() == "RollbackFailed" and world.unverified.version == "2.0"


def test_at_rest_a_change_is_drifted_and_its_end_is_said() -> None:
    world = promoted()
    world.live = "1.0"
    world.settle()
    assert (world.status.state, conditions(world)["Ready"], reason(world)) == (
        "Drifted",
        "False",
        "Drifted",
    )
    assert conditions(world)["Stalled"] == "True" and "runs 1.0 instead of 2.0" in world.message
    world.live = "2.0"
    world.settle()
    assert conditions(world) == {"Ready": "True", "Succeeded": "True"}


def test_a_retry_at_rest_brings_back_what_was_promoted() -> None:
    world = promoted()
    assert "nothing to repeat" in world.answer("Retry").message
    world.live = "1.0"
    world.settle()
    assert "starts again" in world.answer("Retry").message
    world.later(12)
    assert world.live == "2.0" and world.run.id == 2 and world.outcome() == "Promoted"


def test_what_was_found_is_what_is_restored_and_said() -> None:
    world = promoted()
    world.live = "hotfix"
    world.settle()
    world.ask(
        "3.0",
        rollback={"verify": [{"name": "health", "prometheus": {"query": "health"}, "min": "1"}]},
    ).settle()
    assert world.run.found == "hotfix" and world.live == "3.0"
    world.gates["errors"] = "Failed"
    world.settle()
    assert world.live == "hotfix" and world.served.version == "hotfix"
    assert (
        "serving hotfix (it was live before run 2, and was not promoted; 2.0 is last good)"
        in world.message
    )
    world.gates.clear()
    world.ask("2.0").settle()
    assert world.run.id == 3, (
        "2.0 is written again, and is not what runs: it is rolled out, not taken for live"
    )
    world.later(12)
    assert world.served.version == "2.0" == world.live and conditions(world)["Ready"] == "True"


def test_normally_is_said_only_where_a_verification_has_passed() -> None:
    for verify, words in (
        ([], "serving 1.0;"),
        ([{"name": "ok", "prometheus": {"query": "x"}, "min": "1"}], "1.0 normally"),
    ):
        world = baking(rollback={"verify": verify})
        world.gates["errors"] = "Failed"
        world.settle()
        assert words in world.message


def test_pods_that_crash_all_through_the_bake_fail_the_built_in_guard() -> None:
    world = baking()
    world.trouble = "container app restarted 3 times: exit code 1"
    world.later(61)
    run = world.run
    assert (
        run.outcome == "RolledBack"
        and "restarted 3 times" in str(run.reason)
        and world.rollback.gate == "availability/web"
    )


def test_one_crash_keeps_the_bake_for_its_window_and_no_longer() -> None:
    world = baking()
    world.trouble = "container app restarted once"
    world.later(2)
    world.trouble, world.troubled = "", world.now
    world.later(30)
    assert world.outcome() is None and world.status.state == "Breaching"
    world.troubled = None
    world.later(12)
    assert world.outcome() == "Promoted"


@pytest.mark.parametrize("action", ["Notify", "Pause"])
def test_what_the_built_in_guard_does_is_said_on_the_target(action: str) -> None:
    target = {"kind": "Deployment", "name": "web", "images": {"app": "shop/web:$(version)"}}
    world = baking(
        targets=[
            {"name": "web", "workload": target, "availability": {"for": "30s", "action": action}}
        ]
    )
    world.trouble = "no pod is available"
    world.later(120)
    assert world.outcome() is None and world.live == "2.0"
    assert (world.run.paused is not None) == (action == "Pause")
    world.trouble = ""
    if action == "Pause":
        assert conditions(world)["Stalled"] == "True" and conditions(world)["Paused"] == "True"
        world.act("Resume")
    world.later(12)
    assert world.outcome() == "Promoted"


def test_a_snapshot_is_what_was_there_right_before_the_first_change() -> None:
    gate = {"name": "go", "approval": {}}
    world = World(spec=spec(preflight=[gate])).settle()
    world.jump(3600)
    world.live = "1.1"
    world.act("Approve")
    assert world.live == "2.0"
    world.gates["errors"] = "Failed"
    world.settle()
    assert world.live == "1.1", "not what was there hours before"


@pytest.mark.parametrize("adopt", ["First", "Always", "Never"])
def test_who_adopts_what_is_live_already(adopt: str) -> None:
    world = World(spec=spec(adopt=adopt), live="2.0").settle()
    assert (world.status.runs == 0) == (adopt != "Never")
    world = promoted(adopt=adopt)
    world.live = "3.0"
    world.ask("3.0").settle()
    assert (world.status.runs == 1) == (adopt == "Always"), (
        "a version with the same artefact walks its runbook"
    )


def test_an_adopted_version_is_watched_at_rest_too() -> None:
    world = World(live="2.0").settle()
    assert world.status.runs == 0 and conditions(world)["Ready"] == "True"
    world.live = "1.0"
    world.settle()
    assert reason(world) == "Drifted"


def test_a_step_is_not_failed_by_its_time_when_it_has_just_succeeded() -> None:
    world = World(slow={"migrate"}).settle()
    world.now += timedelta(seconds=5000)
    world.slow.clear()
    world.later(12)
    assert world.outcome() == "Promoted"


def test_outputs_that_nobody_can_read_are_unknown_where_they_are_named() -> None:
    world = World(
        jobs={"backup": Progress("Succeeded", unread="the pod of job backup is gone")}
    ).settle()
    assert (
        world.outcome() == "RolledBack"
        and "the pod of job backup is gone; id is needed" in world.message
    )


@pytest.mark.parametrize("skip", [True, False])
def test_a_deploy_that_was_passed_over_is_not_promoted_before_it_has_rolled_out(skip: bool) -> None:
    stages = spec()["stages"]
    stages[1] |= {"onFailure": "Pause" if skip else "Continue", "gates": [], "bake": "0s"}
    target = {"kind": "Deployment", "name": "web", "images": {"app": "shop/web:$(version)"}}
    targets = [{"name": "web", "workload": target, "holdFor": "20s"}]
    world = World(
        spec=spec(stages=stages, targets=targets),
        jobs={"web": Progress("Failed", "timed out progressing")},
    )
    world.unproved = "1 old replicas are still there"
    world.settle()
    if skip:
        world.act("Skip")
    world.later(10)
    world.jobs.clear()
    assert world.outcome() is None and "has not rolled out" in world.message
    world.later(15)
    assert world.outcome() == "RolledBack" and world.live == "1.0"


def test_a_deploy_that_rolls_out_after_it_was_passed_over_is_promoted() -> None:
    stages = spec()["stages"]
    stages[1] |= {"onFailure": "Continue", "gates": [], "bake": "0s"}
    world = World(
        spec=spec(stages=stages), jobs={"web": Progress("Failed", "timed out progressing")}
    )
    world.unproved = "1 old replicas are still there"
    world.later(10)
    world.unproved = ""
    world.later(2)
    assert world.outcome() == "Promoted" and world.status.history[0].passedOver == ["deploy"]


def test_what_does_not_run_yet_is_not_taken_over() -> None:
    world = World(live="2.0", unready="Deployment web is paused (kubectl rollout resume)")
    world.later(60)
    assert world.status.lastGood is None and "is paused" in world.waiting_for.message
    world.unready = ""
    world.settle()
    assert world.last_good.version == "2.0" and world.status.runs == 0


def test_guard_for_counts_without_guards_too() -> None:
    world = World(spec=spec(guardFor="1m")).settle().later(12)
    assert world.phase() == "Guarding"
    world.trouble = "none of 1 replicas is available"
    world.later(3)
    assert conditions(world)["Ready"] == "Unknown"
    world.later(70)
    assert world.outcome() == "RolledBack"


def test_nobody_runs_it_is_said_at_rest_and_after_a_rollback() -> None:
    world = promoted()
    world.remark = "nobody runs it: Deployment web wants no pods"
    world.settle()
    assert world.status.message == "serving 2.0 (nobody runs it: Deployment web wants no pods)"
    world.ask(
        "3.0", rollback={"verify": [{"name": "ok", "prometheus": {"query": "x"}, "min": "1"}]}
    ).settle()
    world.gates["errors"] = "Failed"
    world.later(2)
    assert "nobody runs it" in world.status.message


def test_what_was_captured_and_is_gone_at_the_end_is_no_hold_for_ever() -> None:
    guard = {"name": "rate", "prometheus": {"query": "rate"}, "max": "1%"}
    target = {"kind": "Deployment", "name": "web", "images": {"app": "shop/web:$(version)"}}
    world = World(
        spec=spec(
            guards=[guard],
            guardFor="5s",
            targets=[{"name": "web", "workload": target, "holdFor": "20s"}],
        )
    )
    world.settle().later(10)
    assert world.phase() == "Guarding"
    world.missing = "there is no such configmap in namespace shop"
    world.later(10)
    assert world.outcome() is None and conditions(world)["Ready"] == "Unknown"
    world.later(25)
    assert world.run.rollback is not None and "there is no such configmap" in world.rollback.reason


def test_an_edit_at_rest_is_said_and_a_retry_walks_it() -> None:
    world = promoted()
    world.spec["targets"][0]["workload"]["env"] = {"app": {"MODE": "new"}}
    world.ask().settle()
    assert "the spec was edited" in world.message and conditions(world)["Ready"] == "True"
    assert "starts again" in world.answer("Retry").message
    world.later(12)
    assert world.run.id == 2 and world.outcome() == "Promoted"
    assert "edited" not in world.message


def test_a_look_that_fails_at_rest_does_not_end_a_drift() -> None:
    world = promoted()
    world.live = "1.0"
    world.settle()
    world.live, world.unknown = "2.0", "its controller has not seen the last change yet"
    world.settle()
    assert conditions(world)["Drifted"] == "True"
    world.unknown = ""
    world.settle()
    assert conditions(world) == {"Ready": "True", "Succeeded": "True"}
    assert [note.reason for note in world.notes].count("Drifted") == 1


def _captured() -> dict[str, Any]:
    raw = spec()
    raw["targets"][0]["workload"]["config"] = [{"configMap": "web-flags"}]
    return raw


def test_at_rest_captured_configuration_is_compared_and_is_no_other_version() -> None:
    """GitOps may apply it before the version that it belongs to."""
    world = World(spec=_captured()).settle().later(60)
    assert world.status.state == "Promoted"
    world.changed["configmap/web-flags"] = "configmap/web-flags does not hold what it did"
    world.settle()
    assert world.status.state == "Drifted" and "configmap/web-flags" in world.message

    world.gates["errors"] = "Failed"
    world.ask("3.0").settle()
    assert world.run.version == "3.0" and world.run.found is None
    world.changed.clear()
    world.later(60)
    assert world.run.outcome == "RolledBack"
    live = world.served
    assert (live.version, live.caveat) == ("2.0", None)


def test_what_a_compensation_has_set_in_captured_configuration_is_no_difference_at_rest() -> None:
    raw = _captured()
    off = {"name": "off", "flags": {"configMap": "web-flags", "set": {"VOICE": "off"}}}
    raw["stages"][1]["rollback"] = {"steps": [off]}
    world = World(spec=raw, gates={"errors": "Failed"}).settle().later(60)
    assert world.run.outcome == "RolledBack"
    assert list(world.left()) == ["target/web"]
    world = World(spec=_captured(), gates={"errors": "Failed"}).settle().later(60)
    assert sorted(world.left()) == ["configmap/web-flags", "target/web"]
