"""A backup is proved by what its Job publishes, and nothing that needs it begins without."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.api.steps import Proof
from gatewright.core.checks.proof import find_missing_proof
from gatewright.core.model.operation import Progress
from gatewright.core.run.clocks import format_time
from gatewright.core.spec.problems import find_problems
from tests.unit.sim import START, World, spec

LIMITS = Proof(minBytes=1000, maxAge="1h", contains=["public.tasks", "users"])
GOOD = {
    "bytes": "73400320",
    "createdAt": format_time(START - timedelta(minutes=5)),
    "tables": '["public.tasks", "public.users"]',
}

TABLE: list[tuple[dict[str, str | None], str | None]] = [
    # outputs that differ                                what is lacking
    ({}, None),
    ({"bytes": "1000"}, None),
    ({"bytes": "999"}, "it is too small: 999 bytes, at least 1000 are expected"),
    ({"bytes": "0"}, "it is too small: 0 bytes"),
    ({"bytes": "-5000"}, 'size is not told as a number (output "bytes": "-5000")'),
    ({"bytes": "many"}, "not told as a number"),
    ({"bytes": "1e9"}, "not told as a number"),
    ({"bytes": "9" * 30}, "not told as a number"),
    ({"bytes": ""}, "not told as a number"),
    ({"bytes": None}, 'size is not told as a number (output "bytes": none)'),
    ({"createdAt": format_time(START - timedelta(minutes=60))}, None),
    (
        {"createdAt": format_time(START - timedelta(minutes=61))},
        "it is too old: made 1h1m0s ago, at most 1h is expected",
    ),
    ({"createdAt": format_time(START + timedelta(minutes=4))}, None),
    ({"createdAt": format_time(START + timedelta(minutes=6))}, "it was made in the future"),
    ({"createdAt": "2025-12-31T23:58:00"}, None),
    ({"createdAt": "2026-01-01T01:58:00+02:00"}, None),
    ({"createdAt": "yesterday"}, 'not told as a time (output "createdAt": "yesterday")'),
    ({"createdAt": None}, "not told as a time"),
    ({"tables": "tasks, users"}, None),
    ({"tables": "public.users\npublic.tasks auth.x"}, None),
    ({"tables": '["auth.users", "tasks"]'}, "it does not contain users"),
    ({"tables": "[]"}, "its tables are not told"),
    ({"tables": '{"public.tasks": 1, "users": 1}'}, "its tables are not told"),
    ({"tables": "[1, 2]"}, "its tables are not told"),
    ({"tables": ""}, "its tables are not told"),
    ({"tables": None}, 'its tables are not told (output "tables": none)'),
    (
        {"bytes": "1", "tables": "users"},
        "at least 1000 are expected; it does not contain public.tasks",
    ),
]


@pytest.mark.parametrize("changes, words", TABLE)
def test_what_is_lacking(changes: dict[str, str | None], words: str | None) -> None:
    outputs = {name: value for name, value in (GOOD | changes).items() if value is not None}
    found = find_missing_proof(LIMITS, outputs, START)
    assert found is None if words is None else words in (found or "")


def test_nothing_published_proves_nothing() -> None:
    found = find_missing_proof(Proof(), {}, START)
    assert found is not None
    assert "size" in found
    assert "when it was made" in found
    assert "tables" not in found


def test_many_missing_tables_are_not_all_named() -> None:
    found = find_missing_proof(Proof(contains=[f"t{n}" for n in range(9)]), GOOD, START)
    assert found == "it does not contain t0, t1, t2 and 6 more"


def proved(**changes: Any) -> dict[str, Any]:
    """The simulated Release, whose backup must be proved."""
    found = spec(**changes)
    found["stages"][0]["steps"][0]["proof"] = {"minBytes": 1000, "contains": ["public.tasks"]}
    return found


def backup(**changes: str) -> dict[str, Progress]:
    return {"backup": Progress("Succeeded", outputs={"id": "b-1"} | GOOD | changes)}


def test_a_proved_backup_lets_the_migration_begin() -> None:
    world = World(spec=proved(), jobs=backup()).settle()
    assert world.done("job") == ["job job/backup", "job job/migrate"]
    assert world.status.run is not None
    assert world.status.run.stages[0].steps[0].outputs["id"] == "b-1"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"bytes": "0"}, "it is too small: 0 bytes"),
        ({"createdAt": format_time(START - timedelta(days=1))}, "it is too old: made 24h0m0s ago"),
        ({"tables": "public.users"}, "it does not contain public.tasks"),
    ],
)
def test_no_migration_begins_on_a_backup_that_is_not_proved(
    changes: dict[str, str], words: str
) -> None:
    """And none is restored from it."""
    world = World(spec=proved(), jobs=backup(**changes)).settle()
    assert world.done("job") == ["job job/backup"]
    assert world.status.run is not None
    assert world.status.run.outcome == "RolledBack"
    step = world.status.run.stages[0].steps[0]
    assert (step.state, step.outputs) == ("Failed", {})
    assert (step.message or "").startswith(f"no proof: {words}")
    assert words in (world.status.message or "")


def test_a_retry_makes_another_backup() -> None:
    paused = proved()
    paused["stages"][0]["onFailure"] = "Pause"
    world = World(spec=paused, jobs=backup(bytes="0")).settle()
    assert world.status.state == "Paused"
    world.jobs = backup()
    world.act("Retry", by="ana")
    assert world.done("job") == ["job job/backup", "job job/backup", "job job/migrate"]


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {"name": "b", "wait": "1s", "proof": {}},
            ".steps[0].proof: wait publishes nothing that could be proved",
        ),
        ({"name": "b", "confirm": {"instructions": "x"}, "proof": {}}, "confirm publishes nothing"),
        ({"name": "b", "job": {"image": "tools"}, "proof": {}}, None),
    ],
)
def test_where_a_proof_can_stand(change: dict[str, Any], words: str | None) -> None:
    raw = {"version": "2.0", "stages": [{"name": "a", "steps": [change]}]}
    found = list(find_problems(ReleaseSpec.model_validate(raw)))
    assert found == [] if words is None else any(words in problem for problem in found)


def test_a_compensation_is_not_proved() -> None:
    raw = spec()
    raw["stages"][0]["rollback"]["steps"][0]["proof"] = {}
    found = list(find_problems(ReleaseSpec.model_validate(raw)))
    assert any(
        ".rollback.steps[0].proof: a compensation is not proved" in problem for problem in found
    )
