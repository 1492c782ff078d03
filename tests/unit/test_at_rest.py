"""Guards that go on being watched when no run is under way."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from gatewright.api.checks import Guard
from gatewright.api.notify import Event
from gatewright.api.status import dump
from tests.unit.sim import World, spec

EVERYTHING: list[Event] = list(get_args(Event))


def guard(name: str = "uptime", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "prometheus": {"query": name},
        "max": "1%",
        "atRest": True,
        "rollbackFor": "1h",
        "severity": "critical",
        **more,
    }


def notifying(name: str = "uptime") -> dict[str, Any]:
    return guard(name, action="Notify", rollbackFor=None)


def resting(*guards: dict[str, Any], **changes: Any) -> World:
    """A Release whose version was promoted, with guards at rest."""
    notify = [{"events": EVERYTHING, "slack": {"channel": "#x"}}]
    raw = spec(guards=list(guards) or [guard()], notify=notify) | changes
    world = World(spec=raw).settle().later(15)
    assert world.run.outcome == "Promoted", world.run.reason
    world.settle()
    world.status.notices.clear()
    world.performed.clear()
    world.notes.clear()
    return world


def told(world: World) -> list[str]:
    return [notice.event for notice in world.status.notices]


def reasons(world: World) -> list[str]:
    return [note.reason for note in world.notes]


def test_it_is_asked_at_rest_and_nothing_is_written_while_nothing_changes() -> None:
    world = resting(guard(), {**guard("p95"), "atRest": False, "rollbackFor": None})
    (row,) = world.status.atRest
    assert (row.name, row.state, row.run, row.severity) == ("uptime", "Passing", 1, "critical")
    (measure,) = world.wants(world.view()).measures
    assert measure.path == "1/atRest/uptime/0"
    before = dump(world.status)
    world.jump(100_000)
    assert dump(world.status) == before and world.run.id == 1


def test_a_failure_undoes_nothing_while_another_release_has_a_target() -> None:
    world = resting()
    world.rival = "other"
    world.gates["uptime"] = "Failed"
    world.jump(1800).later(10)
    assert world.status.runs == 1 and world.status.atRest[0].state == "Failed"
    world.rival = None
    world.later(10)
    assert (world.run.kind, world.run.outcome, world.live) == ("Undo", "RolledBack", "1.0")


def test_a_guard_stands_by_while_a_failed_way_back_is_repeated() -> None:
    world = resting(notifying())
    world.refused["target/web"] = "quota exceeded"
    assert world.act("Rollback", reason="P0") is not None
    world.later(3600)
    assert world.outcome() == "RollbackFailed"
    world.later(30)
    states = {row.state for row in world.status.atRest}
    world.refused.clear()
    world.slow.add("web")
    assert world.act("Rollback", reason="again") is not None
    assert world.run.outcome is None, world.run.outcome
    assert {row.state for row in world.status.atRest} == {"Unknown"}, states


def test_a_failure_in_its_time_undoes_the_promotion() -> None:
    world = resting()
    writes = world.writes
    world.gates["uptime"] = "Failed"
    world.jump(1800).later(10)
    run = world.run
    assert (run.kind, run.undoes, run.outcome, world.live) == ("Undo", [1], "RolledBack", "1.0")
    assert world.rollback.cause == "Guard" and world.rollback.gate == "uptime"
    rejected = world.status.rejected[0]
    assert (rejected.version, rejected.gate) == ("2.0", "uptime")
    assert world.done() == ["restore target/web"] and world.writes > writes
    assert told(world)[:2] == ["GuardFailed", "Started"] and "RolledBack" in told(world)
    world.gates.clear()
    world.jump(7200)
    assert world.run.id == 2 and world.status.runs == 2


def test_the_failure_and_the_plan_are_one_write() -> None:
    world = resting()
    writes = world.writes
    world.gates["uptime"] = "Failed"
    world.tick()
    assert world.writes == writes and world.run.id == 1, "the record is read first"
    world.tick()
    assert world.writes == writes + 1 and world.run.phase == "RollingBack"
    (line,) = world.rollback.undo
    assert line.state == "Running"
    assert line.key is not None and line.key.startswith("1.undo2.rollback.")


def test_after_its_time_a_failure_is_only_told() -> None:
    world = resting()
    world.jump(3601)
    world.gates["uptime"] = "Failed"
    world.later(10)
    assert world.run.id == 1 and world.live == "2.0"
    assert told(world) == ["GuardFailed"] and reasons(world) == ["GuardFailed"]
    assert "; guard uptime: 5% > 1%" in world.message
    assert world.status.conditions[0].status == "True"
    world.gates["uptime"] = "Passing"
    world.later(10)
    assert told(world) == ["GuardFailed", "GuardRecovered"]
    assert "uptime" not in world.message


def test_one_that_only_tells_undoes_nothing() -> None:
    world = resting(notifying())
    world.gates["uptime"] = "Failed"
    world.later(10)
    assert world.run.id == 1 and told(world) == ["GuardFailed"]


def test_silence_is_told_and_undoes_nothing() -> None:
    world = resting(guard(onHoldExpired="Fail"))
    world.gates["uptime"] = "Silent"
    world.later(10)
    assert world.run.id == 1 and world.status.atRest[0].state == "Expired"
    assert told(world) == ["Hindered"] and reasons(world) == ["GuardSilent"]
    world.gates["uptime"] = "Passing"
    world.later(2)
    assert told(world) == ["Hindered", "GuardRecovered"]


def test_after_a_restart_nothing_is_known_before_it_answers() -> None:
    world = resting()
    world.gates["uptime"] = "Unknown"
    world.settle()
    assert world.status.atRest[0].state == "Unknown" and world.run.id == 1


def test_a_failure_from_before_a_restart_is_measured_again_before_anything_is_undone() -> None:
    world = resting()
    world.gates["uptime"] = "Failed"
    world.tick()
    assert world.status.atRest[0].state == "Failed" and world.run.id == 1
    world.gates["uptime"] = "Unknown"
    world.settle()
    assert world.run.id == 1
    world.gates["uptime"] = "Passing"
    world.settle()
    assert world.run.id == 1 and [row.state for row in world.status.atRest] == ["Passing"]


def test_the_run_itself_is_guarded_by_it_as_by_any_other() -> None:
    world = World(spec=spec(guards=[guard()])).settle()
    world.gates["uptime"] = "Failed"
    world.later(2)
    assert world.run.outcome == "RolledBack" and world.status.atRest == []


def test_it_watches_on_while_the_next_version_waits_before_its_first_stage() -> None:
    world = resting(preflight=[])
    world.ask("3.0", preflight=[{"name": "go", "approval": {}}]).settle()
    assert world.run.phase == "Preflight"
    world.gates["uptime"] = "Failed"
    world.later(5)
    assert "GuardFailed" in told(world) and world.run.version == "3.0"
    assert world.run.rollback is None, "nothing was touched that could be undone"


def test_it_stands_by_while_a_run_changes_something_and_only_tells_afterwards() -> None:
    world = resting()
    world.slow = {"web"}
    world.ask("3.0").settle()
    assert world.run.phase == "Progressing" and world.status.atRest[0].state == "Unknown"
    paths = [measure.path for measure in world.wants(world.view()).measures]
    assert paths == ["2/guards/uptime/0"]
    world.act("Rollback")
    world.slow = set()
    world.later(5)
    assert world.run.outcome == "RolledBack" and world.live == "2.0"
    assert [row.state for row in world.status.atRest] == ["Passing"]
    world.gates["uptime"] = "Failed"
    world.later(5)
    assert world.run.id == 2 and world.live == "2.0" and "GuardFailed" in told(world)


def test_the_next_promotion_has_guards_of_its_own() -> None:
    world = resting()
    world.ask("3.0", guards=[notifying("errors-high")]).settle().later(15)
    assert [(row.name, row.run) for row in world.status.atRest] == [("errors-high", 2)]
    assert world.status.kept[0].atRest == ["critical errors-high"]


def test_what_is_served_again_is_watched_and_only_told_of() -> None:
    world = resting()
    world.ask("3.0").settle().later(15)
    world.gates["uptime"] = "Failed"
    world.later(2)
    assert world.live == "2.0" and world.run.undoes == [2]
    world.gates["uptime"] = "Passing"
    world.later(2)
    (row,) = world.status.atRest
    assert (row.run, row.state, row.rollbackUntil) == (1, "Passing", None)
    world.gates["uptime"] = "Failed"
    world.later(5)
    assert world.live == "2.0" and world.status.runs == 3, "nobody goes a second version back"


def test_a_fault_that_outlives_its_run_is_one_fault() -> None:
    world = World(
        spec=spec(
            guards=[notifying()],
            guardFor="1m",
            notify=[{"events": EVERYTHING, "slack": {"channel": "#x"}}],
        )
    ).settle()
    world.gates["uptime"] = "Failed"
    world.later(80)
    assert world.run.outcome == "Promoted" and told(world).count("GuardFailed") == 1
    assert world.status.atRest[0].faultSince is not None
    world.gates["uptime"] = "Passing"
    world.later(2)
    assert told(world)[-1] == "GuardRecovered"


def test_a_failed_rollback_is_a_persons_to_decide_about() -> None:
    world = resting()
    world.ask("3.0").settle().later(15)
    world.refused = {"target/web": "403"}
    world.act("Rollback")
    for _ in range(6):
        world.jump(700)
    assert world.status.unverified is not None
    runs = world.status.runs
    world.gates["uptime"] = "Failed"
    world.later(5)
    assert world.status.runs == runs


def test_mode_observe_acts_on_nothing_at_rest_either() -> None:
    world = resting()
    world.ask(mode="Observe").settle()
    world.gates["uptime"] = "Failed"
    world.later(5)
    assert world.run.id == 1 and told(world) == ["GuardFailed"]


def test_a_record_that_cannot_be_read_is_told_once() -> None:
    world = resting()
    del world.data[world.status.kept[0].record]
    world.served.snapshot = None
    world.gates["uptime"] = "Failed"
    world.later(5)
    assert world.run.id == 1 and reasons(world).count("RollbackRefused") == 1
    assert "Hindered" in told(world)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"action": "Rollback"}, "give rollbackFor, or action: Notify"),
        ({"action": "Pause"}, "there is no run to pause"),
        ({"action": "RollbackStage"}, "no stage is under way"),
        ({"atRest": False, "rollbackFor": "1h"}, "add atRest: true"),
        ({"action": "Notify", "rollbackFor": "1h"}, "rollbackFor is for action: Rollback"),
    ],
)
def test_what_means_nothing_at_rest_is_refused_with_the_remedy(
    given: dict[str, Any], remedy: str
) -> None:
    raw = {"name": "uptime", "prometheus": {"query": "q"}, "atRest": True, **given}
    with pytest.raises(ValueError, match=remedy):
        Guard.model_validate(raw)
