"""What a failed guard does: the whole release, one stage, a person, or only words."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest

from gatewright.api.intervention import Action
from gatewright.api.notify import Event
from gatewright.api.release import ReleaseSpec
from gatewright.core.model.operation import Progress
from tests.unit.sim import World, spec


def guard(name: str = "rate", **more: Any) -> dict[str, Any]:
    return {"name": name, "prometheus": {"query": name}, "max": "1%", **more}


def reasons(world: World) -> list[str]:
    return [note.reason for note in world.notes]


# --- Pause


def pausing(**changes: Any) -> World:
    return World(spec=spec(guards=[guard(action="Pause")], **changes))


def test_a_person_decides_about_a_guard_that_says_pause() -> None:
    world = pausing().settle()
    world.gates["rate"] = "Failed"
    world.later(60)
    run = world.run
    assert world.status.state == "Suspended" and run.outcome is None and run.rollback is None
    assert run.paused == "guard rate: 5% > 1%" and "kubectl release resume" in str(
        world.status.waitingFor
    )
    assert reasons(world).count("PausedByGuard") == reasons(world).count("GuardFailed") == 1


def test_after_a_resume_the_run_goes_on_although_the_guard_fails_and_says_so() -> None:
    world = pausing().settle()
    world.gates["rate"] = "Failed"
    world.later(5)
    world.act("Resume")
    world.later(60)
    run = world.run
    assert run.outcome == "Promoted" and reasons(world).count("PausedByGuard") == 1
    assert "a person has let it pass" in (world.last_good.caveat or "")


def test_a_guard_that_was_good_again_stops_the_walk_once_more() -> None:
    world = pausing(guardFor="1h").settle()
    world.gates["rate"] = "Failed"
    world.later(5)
    world.act("Resume")
    world.gates["rate"] = "Passing"
    world.later(5)
    assert world.run.paused is None
    world.gates["rate"] = "Failed"
    world.later(5)
    assert world.run.paused and reasons(world).count("PausedByGuard") == 2


def test_whoever_lets_a_silence_pass_does_not_let_a_breach_pass() -> None:
    guards = [guard(action="Pause", onHoldExpired="Pause")]
    world = World(spec=spec(guards=guards, guardFor="1h")).settle()
    world.gates["rate"] = "Silent"
    world.later(2)
    world.act("Resume")
    world.gates["rate"] = "Failed"
    world.later(2)
    assert "5% > 1%" in (world.run.paused or "")


def test_a_silence_that_was_let_pass_does_not_keep_a_breach_from_undoing_the_run() -> None:
    world = World(spec=spec(guards=[guard(onHoldExpired="Pause")], guardFor="1h")).settle()
    world.gates["rate"] = "Silent"
    world.later(2)
    world.act("Resume")
    world.gates["rate"] = "Failed"
    world.later(2)
    assert world.run.outcome == "RolledBack"


def test_nothing_passes_while_a_guard_that_would_pause_breaches() -> None:
    world = pausing().settle()
    world.gates["rate"] = "Breaching"
    world.later(60)
    assert world.run.outcome is None and world.run.paused is None
    world.gates["rate"] = "Passing"
    world.later(15)
    assert world.run.outcome == "Promoted"


def test_a_guard_that_breached_before_the_first_change_stops_nobody() -> None:
    world = pausing(preflight=[{"name": "go", "approval": {}}])
    world.gates["rate"] = "Failed"
    world.settle().later(5)
    assert world.run.paused is None and world.run.guards[0].early


# --- RollbackStage


def staged(**changes: Any) -> dict[str, Any]:
    """Three stages: a deploy, flags on top of it, and one that comes after."""
    flags = {"name": "flags", "flags": {"configMap": "flags", "set": {"beta": "on"}}}
    raw = spec(guards=[guard(action="RollbackStage")], guardFor="1h")
    raw["stages"] = [
        {"name": "deploy", "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}]},
        {
            "name": "beta",
            "steps": [{"name": "prepare", "job": {"image": "tools"}}, flags],
            "gates": [{"name": "errors", "prometheus": {"query": "errors"}, "max": "1%"}],
            "bake": "10s",
            "rollback": {"steps": [{"name": "tidy", "job": {"image": "tools"}}]},
        },
        {"name": "last", "steps": [{"name": "docs", "job": {"image": "tools"}}]},
    ]
    return raw | changes


def states(world: World) -> dict[str, str]:
    return {stage.name: stage.state for stage in world.run.stages}


def baking(**changes: Any) -> World:
    world = World(spec=staged(**changes)).settle()
    assert states(world)["beta"] == "Baking"
    world.performed.clear()
    return world


def test_the_stage_under_way_is_undone_alone_and_the_run_goes_on() -> None:
    world = baking()
    world.gates["rate#0"] = "Failed"
    world.later(5)
    run = world.run
    assert states(world) == {"deploy": "Passed", "beta": "RolledBack", "last": "Passed"}
    assert world.done() == ["restore configmap/flags", "job job/tidy", "job job/docs"]
    assert world.live == "2.0" and run.phase == "Guarding" and run.rollback is None
    assert world.status.state == "Guarding" and "without stage beta" in world.message

    world.jump(3600).later(2)
    assert run.id == world.run.id and world.run.outcome == "Promoted"
    past = world.status.history[0]
    assert past.rolledBack == ["beta"] and "undone alone: beta" in (past.reason or "")
    assert "without stage beta" in (world.last_good.caveat or "")
    assert world.status.rejected == [] and world.live == "2.0"


def test_while_guarding_the_last_stage_is_undone_and_guarding_begins_anew() -> None:
    world = World(spec=staged()).settle().later(15)
    assert world.run.phase == "Guarding"
    due = world.run.timers["guard"].due
    world.jump(600)
    world.performed.clear()
    world.gates["rate#0"] = "Failed"
    world.later(5)
    assert states(world) == {"deploy": "Passed", "beta": "Passed", "last": "RolledBack"}
    anew = world.run.timers["guard"].due
    assert world.run.phase == "Guarding" and due is not None and anew is not None and anew > due


def test_the_intents_stand_before_the_first_effect() -> None:
    world = baking()
    writes = world.writes
    world.gates["rate#0"] = "Failed"
    world.tick()
    assert world.writes == writes + 1 and world.run.phase == "RollingBack"
    first, last = world.rollback.undo
    assert first.state == "Running" and first.key is not None
    assert first.key.startswith("1.rollback-stage.beta.flags.0-")
    assert last.state == "Pending" and last.subject == "step/tidy"
    assert world.done() == ["restore configmap/flags"] and world.finalized


def test_a_guard_that_undoes_the_run_does_so_also_while_a_stage_is_undone() -> None:
    guards = [guard(action="RollbackStage"), guard("health")]
    world = baking(guards=guards)
    world.slow = {"tidy"}
    world.gates["rate#0"] = "Failed"
    world.later(5)
    assert world.run.stage_undone == "beta"
    world.gates["health"] = "Failed"
    world.later(2)
    assert world.run.is_returning and world.run.outcome is None
    world.slow = set()
    world.later(5)
    assert world.run.outcome == "RolledBack" and world.live == "1.0"
    assert world.done("job") == ["job job/tidy"], "a compensation that has begun runs once"


@pytest.mark.parametrize(("action", "outcome"), [("Rollback", "RolledBack"), ("Abort", "Aborted")])
def test_a_person_may_undo_the_run_while_a_stage_is_undone(action: Action, outcome: str) -> None:
    world = baking()
    world.slow = {"tidy"}
    world.gates["rate#0"] = "Failed"
    world.later(5)
    answer = world.act(action)
    assert answer is not None and answer.result == "Accepted", answer
    world.slow = set()
    world.later(5)
    assert world.run.outcome == outcome and world.live == "1.0"
    assert world.done("job") == ["job job/tidy"]


def test_a_stage_that_cannot_be_undone_alone_takes_the_run_with_it() -> None:
    world = baking()
    world.jobs["tidy"] = Progress("Failed", "exit code 1")
    world.gates["rate#0"] = "Failed"
    world.later(5)
    run = world.run
    assert run.outcome == "RollbackFailed" and world.live == "1.0"
    assert "could not be undone alone: step/tidy: exit code 1" in (world.rollback.reason or "")
    keys = [item.key for item in world.performed if item.kind == "job"]
    assert len({*keys}) == 2, "it is tried once more, under another key"


def test_a_stage_that_alone_brings_the_version_takes_the_run_with_it() -> None:
    world = World(spec=spec(guards=[guard(action="RollbackStage")], guardFor="1h")).settle()
    world.gates["rate#0"] = "Failed"
    world.later(5)
    run = world.run
    assert run.outcome == "RolledBack" and world.live == "1.0"
    assert "stage deploy alone brings target web to the version" in (world.rollback.reason or "")


def test_what_an_earlier_stage_has_deployed_stays() -> None:
    """Each stage ships a build of its own: the last one alone goes back, to the one before it."""
    raw = staged()
    early = {"name": "deploy", "deploy": {"targets": ["web"], "version": "2.0-early"}}
    raw["stages"][0]["steps"] = [early]
    raw["stages"][1]["steps"] = [{"name": "deploy", "deploy": {"targets": ["web"]}}]
    world = World(spec=raw).settle()
    assert world.live == "2.0"
    world.performed.clear()
    world.gates["rate#0"] = "Failed"
    world.later(5)
    assert world.live == "2.0-early" and states(world)["beta"] == "RolledBack"
    world.jump(3600).later(2)
    assert world.outcome() == "Promoted" and world.live == "2.0-early"

    world.act("Rollback")
    world.later(5)
    assert world.outcome() == "RolledBack" and world.live == "1.0"


def test_a_run_that_is_undone_later_leaves_alone_what_was_undone() -> None:
    world = baking(guards=[guard(action="RollbackStage"), guard("health")])
    world.gates["rate#0"] = "Failed"
    world.later(5)
    assert states(world)["beta"] == "RolledBack"
    world.performed.clear()
    world.gates["health"] = "Failed"
    world.later(5)
    assert world.run.outcome == "RolledBack"
    assert world.done() == ["restore target/web"]


def test_where_it_was_not_that_stage_a_person_decides() -> None:
    world = World(spec=staged(stages=staged()["stages"][:2])).settle()
    world.gates["rate"] = "Failed"
    world.later(60)
    run = world.run
    assert states(world) == {"deploy": "Passed", "beta": "RolledBack"}
    assert run.outcome is None and run.paused == "guard rate: 5% > 1%" and run.rollback is None
    world.act("Resume")
    world.jump(3700).later(2)
    assert world.run.outcome == "Promoted"


def test_a_job_of_the_stage_is_stopped_first() -> None:
    world = World(spec=staged())
    world.slow = {"prepare"}
    world.settle().gates["rate#0"] = "Failed"
    world.performed.clear()
    world.later(5)
    assert world.done()[:2] == ["stop job/prepare", "job job/tidy"]
    assert states(world)["beta"] == "RolledBack"


def test_a_run_that_was_undone_in_part_can_be_undone_at_rest() -> None:
    world = baking()
    world.gates["rate#0"] = "Failed"
    world.later(5).jump(3700).later(2)
    assert world.run.outcome == "Promoted"
    world.performed.clear()
    world.act("Rollback")
    world.later(5)
    assert world.done() == ["restore target/web"] and world.live == "1.0"


def test_what_is_told_of_a_stage_that_is_undone() -> None:
    notify = [{"events": list(get_args(Event)), "slack": {"channel": "#x"}}]
    world = baking(notify=notify)
    world.status.notices.clear()
    world.gates["rate#0"] = "Failed"
    world.later(5)
    assert Counter(notice.event for notice in world.status.notices) == Counter(
        [
            "StageFailed",
            "GuardFailed",
            "StageRolledBack",
            "GuardRecovered",
            "StageStarted",
            "StagePassed",
            "Completed",
        ]
    )


@pytest.mark.parametrize("action", ["Rollback", "RollbackStage", "Pause", "Notify"])
def test_each_action_is_known(action: str) -> None:
    assert ReleaseSpec.model_validate(spec(guards=[guard(action=action)]))
