"""What people are told of operations in which nothing is wrong: which way back is taken, what is
waited for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gatewright.api.status import dump
from gatewright.core.model.operation import Progress
from gatewright.core.run.rollback_plan import restore_hints
from gatewright.plugin import explain
from tests.unit.sim import World

AGAIN = (
    "redeploying 1.0 (dpl_1) with the current variables, because since it was built: "
    "OPENAI_API_KEY changed"
)
QUEUED = "the promotion of dpl_2 is queued behind a rolling release"


def undo(world: World) -> str | None:
    run = world.status.run
    assert run is not None and run.rollback is not None
    [line] = [line for line in run.rollback.undo if line.subject == "target/web"]
    return line.message


def step(world: World) -> str | None:
    run = world.status.run
    assert run is not None
    [found] = [step for stage in run.stages for step in stage.steps if step.name == "deploy"]
    return found.message


@pytest.mark.parametrize("notable", [True, False])
def test_which_way_back_is_taken_is_told_on_the_way_and_after_it(notable: bool) -> None:
    world = World().settle()
    world.gates["errors"], world.jobs["web"] = "Failed", Progress("Running", AGAIN, notable=notable)
    world.settle()
    assert undo(world) == (AGAIN if notable else None)
    world.jobs["web"] = Progress("Succeeded", f"{AGAIN}: dpl_3 is production", notable=notable)
    world.settle()
    assert world.status.state == "RolledBack"
    assert undo(world) == (f"{AGAIN}: dpl_3 is production" if notable else None)
    release = {
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": world.spec,
        "status": dump(world.status),
    }
    lines = explain.explain_lines(release, datetime(2026, 1, 1, tzinfo=UTC))
    assert any(AGAIN in line for line in lines) == notable


def test_what_a_step_waits_for_is_told_until_it_is_over() -> None:
    world = World(jobs={"web": Progress("Running", QUEUED, notable=True)}).settle()
    assert step(world) == QUEUED
    writes = world.writes
    world.later(60)
    assert world.writes == writes, "saying the same again is no write"
    world.jobs["web"] = Progress("Succeeded")
    assert step(world.settle()) is None


def test_how_a_target_would_be_returned_is_told_before_anything_has_changed() -> None:
    world = World(restore_hint="instantly to dpl_1; else built again", slow={"migrate"}).settle()
    run = world.status.run
    assert run is not None
    assert [line for line in run.plan if "web" in line] == [
        "restore target/web: instantly to dpl_1; else built again"
    ]
    assert restore_hints(run.plan) == {"target/web": "instantly to dpl_1; else built again"}
    assert restore_hints(["restore target/web", "run job restore of database: x"]) == {}
