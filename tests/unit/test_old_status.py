"""A status that an older operator left is read in the words of today."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.api.status import ReleaseStatus, dump
from gatewright.runtime.parse import status_of
from gatewright.runtime.tracked import TrackedRelease
from tests.golden import endings
from tests.unit.sim import World

OLD_FIELDS = {"holdReason": "held", "duration": "took"}


def aged(status: dict[str, Any]) -> dict[str, Any]:
    """The same status as an older operator wrote it."""
    run = status.get("run")
    if run is None:
        return status
    old = {OLD_FIELDS.get(name, name): value for name, value in run.items()}
    if old["phase"] == "Progressing":
        old["phase"] = "Walking"
    return status | {"run": old}


def read(raw: Any) -> ReleaseStatus:
    status = status_of(raw)
    assert status is not None, "it can be read"
    return status


def holding() -> World:
    return World(gates={"errors": "Holding"}).settle()


@pytest.mark.parametrize("name", endings.ENDINGS)
def test_what_an_older_operator_wrote_means_the_same(name: str) -> None:
    status = endings.kept(name)["status"]
    assert dump(read(aged(status))) == dump(read(status)) == status


def test_it_is_not_unreadable_and_is_written_anew() -> None:
    obj = endings.kept("holding")
    obj["metadata"] |= {"resourceVersion": "7", "uid": "u"}
    obj["status"] = aged(obj["status"])

    entry = TrackedRelease.of(obj)
    status = entry.view().status

    assert not entry.tampered and status.run is not None and status.run.phase == "Progressing"
    assert entry.take_decided(status) and entry.status.is_unwritten
    assert {"held", "took"}.isdisjoint(entry.working["run"])


def test_a_run_that_was_held_goes_on() -> None:
    world = holding()
    world.status = read(aged(dump(world.status)))
    assert world.status.run is not None and world.status.run.holdReason == "errors holds"

    world.gates.clear()
    assert world.settle().run.holdReason is None
    world.later(60)
    assert world.status.run.outcome == "Promoted"


@pytest.mark.parametrize("still", [True, False])
def test_clocks_go_on_although_the_api_server_has_dropped_why_they_stood(still: bool) -> None:
    world = holding()
    old = aged(dump(world.status))
    del old["run"]["held"]
    world.status = read(old)

    if not still:
        world.gates.clear()
    run = world.settle().status.run
    assert run is not None and run.holdReason == ("errors holds" if still else None)

    world.later(60)
    assert (world.outcome() == "Promoted") is not still


@pytest.mark.parametrize(
    "run",
    [
        7,
        [],
        {"phase": ["Walking"]},
        {"phase": {}},
        {"timers": 3},
        {"timers": {"bake": 3}},
        {"phase": "Walking", "held": {}, "took": []},
        {"phase": "Strolling"},
    ],
)
def test_nonsense_is_still_unreadable(run: Any) -> None:
    assert status_of({"run": run}) is None
    assert status_of([run]) is None
