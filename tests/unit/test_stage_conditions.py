"""Stages that have nothing to do are skipped, and say why; what is not known skips nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.core.spec.problems import find_problems
from gatewright.core.spec.stage_conditions import matches
from tests.unit.sim import World, spec


def conditional(when: dict[str, Any], stage: int = 0, **changes: Any) -> World:
    body = spec(**changes)
    body["stages"][stage]["when"] = when
    return World(spec=body)


def stages(world: World) -> list[str]:
    return [stage.state for stage in world.status.run.stages]  # type: ignore[union-attr]


NO_MIGRATION = {"var": "migrations", "notEquals": "none"}


def test_a_stage_whose_variable_says_so_is_skipped_with_the_reason() -> None:
    world = conditional(NO_MIGRATION, vars={"migrations": "none"}).settle().later(12)
    run = world.status.run
    assert run is not None and run.outcome == "Promoted" and stages(world) == ["Skipped", "Passed"]
    stage = run.stages[0]
    assert stage.unmet == "variable migrations is what `when` rules out"
    assert stage.message == f"skipped: {stage.unmet}" and stage.startedAt is None
    assert [step.state for step in stage.steps] == ["Skipped", "Skipped"]
    assert world.done("job") == []
    (note,) = [note for note in world.notes if note.reason == "StageSkipped"]
    assert note.message == f"2.0: stage 1/2 migrate is skipped: {stage.unmet}"
    assert run.reason == "1 of 2 stages passed; skipped: migrate"


@pytest.mark.parametrize(
    ("when", "runs"),
    [
        ({"var": "db", "equals": "yes"}, True),
        ({"var": "db", "equals": "no"}, False),
        ({"var": "db", "notEquals": "yes"}, False),
        ({"var": "db", "notEquals": "no"}, True),
        ({"var": "db", "equals": "$(vars.same)"}, True),
    ],
)
def test_a_variable_decides(when: dict[str, Any], runs: bool) -> None:
    world = conditional(when, vars={"db": "yes", "same": "yes"}).settle().later(12)
    assert stages(world) == ["Passed" if runs else "Skipped", "Passed"]


@pytest.mark.parametrize(
    ("changed", "runs"),
    [(["db/schema.sql"], True), (["web/index.html"], False), ([], False), (None, True)],
)
def test_changed_paths_decide_and_what_is_not_known_skips_nothing(
    changed: list[str] | None, runs: bool
) -> None:
    more: dict[str, Any] = {} if changed is None else {"changedPaths": changed}
    world = conditional({"changed": ["db/**", "*.sql"]}, **more).settle().later(12)
    assert stages(world) == ["Passed" if runs else "Skipped", "Passed"]
    notes = [note.reason for note in world.notes]
    assert notes.count("StageConditionUnknown") == int(changed is None)
    if changed is None:
        message = world.status.run.stages[0].message  # type: ignore[union-attr]
        assert message is not None and message.startswith("it runs, as nobody knows whether db/**")


def test_nothing_of_a_skipped_stage_is_undone() -> None:
    world = conditional(NO_MIGRATION, vars={"migrations": "none"})
    world.spec["stages"][0]["rollback"]["reach"] = "Release"
    world.gates["errors"] = "Failed"
    world.settle().later(2)
    assert world.status.run.outcome == "RolledBack" and world.live == "1.0"  # type: ignore[union-attr]
    assert world.done("job") == [] and world.done("restore") == ["restore target/web"]


def test_the_plan_leaves_out_what_will_not_be_done() -> None:
    world = conditional(NO_MIGRATION, vars={"migrations": "none"}).settle()
    assert world.status.run.plan == ["restore target/web"]  # type: ignore[union-attr]
    world = conditional(NO_MIGRATION, vars={"migrations": "some"}).settle()
    assert len(world.status.run.plan) == 2  # type: ignore[union-attr]


def test_a_target_whose_stage_has_nothing_to_do_stays_as_it_is() -> None:
    """It was not to be deployed: that it has the old version is no difference."""
    world = conditional({"changed": ["web/**"]}, stage=1, changedPaths=["db/a"]).settle()
    world.later(12)
    run = world.status.run
    assert run is not None and run.outcome == "Promoted" and world.live == "1.0"
    assert stages(world) == ["Passed", "Skipped"] and run.differences == []


def test_an_approval_of_a_skipped_stage_is_asked_of_nobody() -> None:
    world = conditional(NO_MIGRATION, vars={"migrations": "none"})
    world.spec["stages"][0]["steps"].insert(0, {"name": "go", "approval": {}})
    assert world.settle().later(12).status.run.outcome == "Promoted"  # type: ignore[union-attr]


def test_what_a_skipped_stage_would_have_made_is_missed_loudly() -> None:
    world = conditional(NO_MIGRATION, vars={"migrations": "none"})
    world.spec["stages"][1]["steps"].insert(
        0, {"name": "needs", "job": {"image": "a"}, "requires": ["backup"]}
    )
    run = world.settle().later(2).status.run
    assert run is not None and run.outcome == "RolledBack"
    assert "requires backup, which no earlier step" in (run.stages[1].message or "")


# --- an edit


def failed_after_a_skip(**changes: Any) -> World:
    """A person decides about the second stage; the first has had nothing to do."""
    world = conditional({"changed": ["db/**"]}, changedPaths=["web/a"], **changes)
    world.spec["stages"][0]["steps"].insert(0, {"name": "go", "approval": {}})
    world.spec["stages"][1]["onFailure"] = "Pause"
    world.gates["errors"] = "Failed"
    world.settle().later(1)
    world.gates.clear()
    assert world.status.state == "Paused"
    return world


def test_an_edit_asks_nothing_of_a_stage_that_has_had_nothing_to_do() -> None:
    world = failed_after_a_skip()
    world.ask(vars={"a": "b"}).settle()
    said = world.act("Retry")
    assert said is not None and "its edit counts now" in said.message
    assert world.later(12).status.run.outcome == "Promoted"  # type: ignore[union-attr]


def test_an_edit_by_which_a_skipped_stage_would_have_run_does_not_count() -> None:
    world = failed_after_a_skip()
    world.ask(changedPaths=["db/a"]).settle()
    said = world.act("Retry")
    words = "stage migrate was skipped, and by the edit it would have had something to do"
    assert said is not None and words in said.message
    assert world.later(12).status.run.outcome == "Promoted"  # type: ignore[union-attr]
    assert world.done("job") == []


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("db/schema.sql", "db/schema.sql", True),
        ("db/schema.sql", "db/schema.sql2", False),
        ("db/*", "db/schema.sql", True),
        ("db/*", "db/a/b", False),
        ("db/**", "db/a/b", True),
        ("db/**", "dbx/a", False),
        ("**", "anything/at/all", True),
        ("**/migrations/*.sql", "a/b/migrations/1.sql", True),
        ("**/migrations/*.sql", "migrations/1.sql", True),
        ("**/migrations/*.sql", "migrations/1.txt", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "z", False),
        ("v*-final", "v-final", True),
        ("v*-final", "v-fina", False),
        ("aba*aba", "aba", False),
    ],
)
def test_a_pattern_means_paths(pattern: str, path: str, meant: bool) -> None:
    assert matches(pattern, path) is meant


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"when": {"var": "x", "equals": "1"}}, 'spec.stages[0].when.var: "x" is not in spec.vars'),
        ({"when": {"changed": ["a*b*"]}}, "spec.stages[0].when.changed[0]: "),
        ({"when": {"changed": ["**/a/**"]}}, "has too many *"),
        ({"when": {"changed": ["/db/**"]}}, "write it as git does, without a leading /"),
        ({"when": {"changed": ["db/[ab]"]}}, "may hold only * and **"),
        ({"changedPaths": ["./db/a"]}, 'spec.changedPaths[0]: "./db/a" is no path'),
        ({"changedPaths": ["db/a", "db//a"]}, "spec.changedPaths[1]: "),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_path(
    changes: dict[str, Any], words: str
) -> None:
    body = spec(**{name: value for name, value in changes.items() if name != "when"})
    body["stages"][0] |= {"when": changes["when"]} if "when" in changes else {}
    (problem,) = find_problems(ReleaseSpec.model_validate(body))
    assert words in problem


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({}, "needs exactly one of equals, notEquals, changed"),
        ({"var": "a"}, "needs exactly one of"),
        ({"equals": "a"}, "var goes with equals or notEquals"),
        ({"var": "a", "changed": ["b"]}, "var goes with equals or notEquals"),
        ({"var": "a", "equals": "b", "notEquals": "c"}, "needs exactly one of"),
    ],
)
def test_a_condition_asks_one_thing(when: dict[str, Any], words: str) -> None:
    body = spec()
    body["stages"][0]["when"] = when
    with pytest.raises(ValueError, match=words):
        ReleaseSpec.model_validate(body)


def test_the_largest_list_of_paths_is_compared_at_once() -> None:
    paths = [f"{'a/' * 140}{number}" for number in range(1000)]
    patterns = ["a/**/a*b"] * 16
    world = conditional({"changed": patterns}, changedPaths=paths)
    began = time.process_time()
    world.settle()
    # Measured: a fraction of a second, many decisions included.
    assert time.process_time() - began < 10 and stages(world)[0] == "Skipped"


def test_what_is_promoted_says_which_target_kept_its_version() -> None:
    body = spec()
    body["stages"][1]["when"] = {"changed": ["web/**"]}
    world = World(spec={**body, "changedPaths": ["db/schema.sql"]}).settle().later(12)
    assert world.status.state == "Promoted" and world.status.lastGood is not None
    kept = "target web was not deployed: stage deploy had nothing to do"
    assert world.status.lastGood.caveat == kept
    assert world.status.message == f"serving 2.0 ({kept})"
    assert (world.status.history[0].reason or "").endswith(f"; {kept}")


def test_guards_do_not_say_that_a_version_serves_which_was_not_deployed() -> None:
    guard = {"name": "errors", "prometheus": {"query": "errors"}, "max": "1%"}
    body = spec(guards=[guard], guardFor="10m")
    body["stages"][1]["when"] = {"changed": ["web/**"]}
    world = World(spec={**body, "changedPaths": ["db/schema.sql"]}).settle().later(12)
    assert world.status.state == "Guarding"
    kept = "(target web was not deployed: stage deploy had nothing to do)"
    assert kept in (world.status.message or "")


def test_a_run_in_which_no_stage_had_anything_to_do_says_so() -> None:
    body = spec()
    for stage in body["stages"]:
        stage["when"] = {"changed": ["web/**"]}
    world = World(spec={**body, "changedPaths": ["docs/a.md"]}).settle()
    assert stages(world) == ["Skipped", "Skipped"]
    assert world.status.message == "serving 2.0 (nothing was changed: no stage had anything to do)"


def test_a_target_that_another_stage_deploys_is_not_said_to_be_left() -> None:
    body = spec()
    body["stages"].insert(
        0,
        {
            "name": "early",
            "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}],
            "when": {"changed": ["web/**"]},
        },
    )
    world = World(spec={**body, "changedPaths": ["db/schema.sql"]}).settle().later(12)
    assert world.status.message == "serving 2.0"
