"""What a failed guard does: the whole release, one stage, a person, or only words."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from tests.unit.sim import World, spec


def guard(name: str = "rate", **more: Any) -> dict[str, Any]:
    return {"name": name, "prometheus": {"query": name}, "max": "1%", **more}


def reasons(world: World) -> list[str]:
    return [note.reason for note in world.notes]


# --- Pause


def pausing(**changes: Any) -> World:
    return World(spec=spec(guards=[guard(action="Pause")], **changes))


def test_a_person_decides_about_a_guard_that_says_pause():
    world = pausing().settle()
    world.gates["rate"] = "Failed"
    world.later(60)
    run = world.status.run
    assert world.status.state == "Suspended" and run.outcome is None and run.rollback is None
    assert run.paused == "guard rate: 5% > 1%" and "kubectl release resume" in str(
        world.status.waitingFor
    )
    assert reasons(world).count("PausedByGuard") == reasons(world).count("GuardFailed") == 1


def test_after_a_resume_the_run_goes_on_although_the_guard_fails_and_says_so():
    world = pausing().settle()
    world.gates["rate"] = "Failed"
    world.later(5)
    world.act("Resume")
    world.later(60)
    run = world.status.run
    assert run.outcome == "Promoted" and reasons(world).count("PausedByGuard") == 1
    assert "a person has let it pass" in (world.status.lastGood.caveat or "")


def test_a_guard_that_was_good_again_stops_the_walk_once_more():
    world = pausing(guardFor="1h").settle()
    world.gates["rate"] = "Failed"
    world.later(5)
    world.act("Resume")
    world.gates["rate"] = "Passing"
    world.later(5)
    assert world.status.run.paused is None
    world.gates["rate"] = "Failed"
    world.later(5)
    assert world.status.run.paused and reasons(world).count("PausedByGuard") == 2


def test_whoever_lets_a_silence_pass_does_not_let_a_breach_pass():
    guards = [guard(action="Pause", onHoldExpired="Pause")]
    world = World(spec=spec(guards=guards, guardFor="1h")).settle()
    world.gates["rate"] = "Silent"
    world.later(2)
    world.act("Resume")
    world.gates["rate"] = "Failed"
    world.later(2)
    assert "5% > 1%" in (world.status.run.paused or "")


def test_a_silence_that_was_let_pass_does_not_keep_a_breach_from_undoing_the_run():
    world = World(spec=spec(guards=[guard(onHoldExpired="Pause")], guardFor="1h")).settle()
    world.gates["rate"] = "Silent"
    world.later(2)
    world.act("Resume")
    world.gates["rate"] = "Failed"
    world.later(2)
    assert world.status.run.outcome == "RolledBack"


def test_nothing_passes_while_a_guard_that_would_pause_breaches():
    world = pausing().settle()
    world.gates["rate"] = "Breaching"
    world.later(60)
    assert world.status.run.outcome is None and world.status.run.paused is None
    world.gates["rate"] = "Passing"
    world.later(15)
    assert world.status.run.outcome == "Promoted"


def test_a_run_that_only_observes_says_that_it_would_pause():
    world = pausing(mode="Observe", guardFor="1h").settle()
    world.gates["rate"] = "Failed"
    world.later(5)
    run = world.status.run
    assert (run.outcome, run.reason) == ("Observed", "would pause: guard rate: 5% > 1%")


def test_a_guard_that_breached_before_the_first_change_stops_nobody():
    world = pausing(preflight=[{"name": "go", "approval": {}}])
    world.gates["rate"] = "Failed"
    world.settle().later(5)
    assert world.status.run.paused is None and world.status.run.guards[0].early


@pytest.mark.parametrize("action", ["Rollback", "Pause", "Notify"])
def test_each_action_is_known(action: str):
    assert ReleaseSpec.model_validate(spec(guards=[guard(action=action)]))
