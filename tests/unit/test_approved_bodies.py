"""What people have said belongs to the body that they saw: an edit that a Retry takes up asks them
again."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypedDict

import pytest
from pydantic import ValidationError

from gatewright.api.intervention import Action, InterventionSpec
from gatewright.api.release import ReleaseSpec
from gatewright.api.status import dump
from gatewright.core.model.operation import Progress
from gatewright.core.model.pinned_spec import hash_spec
from gatewright.core.spec import edits
from tests.unit.sim import World, spec

GO: dict[str, Any] = {"name": "go", "approval": {"groups": ["managers"]}}
GUARD = {"name": "health", "prometheus": {"query": "h"}, "max": "1"}


class Groups(TypedDict):
    """What the plugin says of a person."""

    groups: frozenset[str]


MANAGER: Groups = {"groups": frozenset({"managers"})}


def asking_before(**changes: Any) -> World:
    """Approved in preflight; then the migration has failed, and a person decides."""
    return _failed(spec(preflight=[deepcopy(GO)], **changes))


def asking_in_the_stage(step: dict[str, Any] | None = None) -> World:
    """Approved by a step of the stage that has failed since."""
    found = spec()
    found["stages"][0]["steps"].insert(1, deepcopy(step or GO))
    return _failed(found)


def asking_in_a_stage_before() -> World:
    """Approved in a stage of its own, which is over."""
    found = spec()
    found["stages"].insert(0, {"name": "ask", "steps": [deepcopy(GO)]})
    return _failed(found)


def _failed(found: dict[str, Any], answer: str = "Approve") -> World:
    next(stage for stage in found["stages"] if stage["name"] == "migrate")["onFailure"] = "Pause"
    world = World(spec=found, jobs={"migrate": Progress("Failed", "constraint violated")}).settle()
    while world.status.state == "WaitingForPerson":
        _yes(world)
    assert world.status.state == "Paused", world.status.message
    world.jobs.clear()
    return world


def _yes(world: World, by: str = "ana") -> None:
    action: Action = "Confirm" if "confirm" in world.waiting_for.message else "Approve"
    said = world.act(action, by, **MANAGER)
    assert said is not None and said.result == "Accepted", said


def edit(world: World, **changes: Any) -> None:
    """Somebody gives the migration another image, in its place."""
    stages = deepcopy(world.spec["stages"])
    stage = next(stage for stage in stages if stage["name"] == "migrate")
    next(step for step in stage["steps"] if step["name"] == "migrate")["job"]["image"] = "evil:1"
    world.ask(**({"stages": stages} | changes)).settle()


def images(world: World) -> list[str]:
    return [item.config.image for item in world.performed if item.kind == "job"]


ASKING = (asking_before, asking_in_the_stage, asking_in_a_stage_before)


@pytest.mark.parametrize("asking", ASKING)
def test_what_was_approved_is_asked_again_for_an_edited_body(asking: Callable[[], World]) -> None:
    world = asking()
    edit(world)
    said = world.answer("Retry", by="mallory")
    assert (
        said.result == "Accepted"
        and "its edit counts now: step migrate of stage migrate changed" in said.message
    )
    world.later(30)
    assert "evil:1" not in images(world), (
        "nothing of the edit runs under what was said to another body"
    )
    assert world.status.state == "WaitingForPerson"
    waits = world.waiting_for.message
    assert "go" in waits and "approval by managers" in waits
    assert "after an edit (step migrate of stage migrate changed)" in waits
    assert world.answer("Approve", by="mallory").result == "Refused"
    _yes(world, "bo")
    assert "evil:1" in images(world)
    assert world.later(12).outcome() == "Promoted"
    lines = [line.partition(" (")[0] for line in world.run.people]
    assert lines == ["Approve by ana", "Retry by mallory", "Approve by bo"]


@pytest.mark.parametrize("asking", ASKING)
def test_a_retry_of_the_same_body_asks_nobody_again(asking: Callable[[], World]) -> None:
    world = asking()
    world.ask(suspend=False, notify=[{"events": ["Started"], "slack": {"channel": "#x"}}]).settle()
    world.act("Retry")
    assert world.later(12).outcome() == "Promoted"
    assert world.run.edits == [] and len(world.run.people) == 2


@pytest.mark.parametrize("asking", ASKING)
def test_an_edit_cannot_take_away_or_alter_what_people_were_asked_for(
    asking: Callable[[], World],
) -> None:
    fresh: dict[str, Any]
    for fresh in (
        {"wait": "0s"},
        {"approval": {"groups": ["everybody"]}},
        {"approval": {"groups": ["managers"], "count": 2}},
    ):
        world = asking()
        edited = deepcopy(world.spec)
        places: list[list[dict[str, Any]]] = [
            edited.get("preflight", []),
            *(stage["steps"] for stage in edited["stages"]),
        ]
        for items in places:
            for number, item in enumerate(items):
                if item["name"] == "go" and "wait" in fresh and items is edited.get("preflight"):
                    items[number] = {"name": "go", "prometheus": {"query": "errors"}, "max": "1%"}
                elif item["name"] == "go":
                    items[number] = {"name": "go", **fresh}
        world.spec = edited
        edit(world)
        said = world.answer("Retry")
        assert (
            "the edit does not count before the next run: it changes" in said.message
            and "go" in said.message
        )
        assert "evil:1" not in images(world.later(12)) and world.outcome() == "Promoted"


def test_an_approval_that_is_gone_from_preflight_keeps_the_edit_from_counting() -> None:
    world = asking_before()
    edit(world, preflight=[])
    assert "it changes preflight approval go" in world.answer("Retry").message
    assert "evil:1" not in images(world.later(12))


def test_an_approval_that_the_edit_adds_is_asked_for_too() -> None:
    world = asking_before()
    edit(world, preflight=[GO, {"name": "security", "approval": {}}])
    world.act("Retry")
    assert world.answer("Approve", gate="go", **MANAGER).result == "Accepted"
    world.later(5)
    assert "evil:1" not in images(world) and "preflight security" in world.waiting_for.message
    world.act("Approve", gate="security")
    assert "evil:1" in images(world)


def test_a_step_that_was_done_and_becomes_an_approval_is_asked_for() -> None:
    found = spec()
    found["stages"].insert(0, {"name": "ask", "steps": [{"name": "go", "wait": "0s"}]})
    world = _failed(found)
    stages = deepcopy(world.spec["stages"])
    stages[0]["steps"] = [deepcopy(GO)]
    world.ask(stages=stages).settle()
    world.act("Retry")
    assert world.later(5).status.state == "WaitingForPerson"


def test_what_was_done_by_hand_in_the_stage_is_asked_again() -> None:
    world = asking_in_the_stage({"name": "keys", "confirm": {"instructions": "Rotate the keys."}})
    edit(world)
    world.act("Retry")
    waits = world.waiting_for.message
    assert "step keys" in waits and "after an edit" in waits and "Rotate the keys." in waits
    assert "evil:1" not in images(world)
    _yes(world)
    assert world.later(12).outcome() == "Promoted"


def test_what_was_done_by_hand_in_a_stage_that_is_over_stays_done() -> None:
    found = spec()
    found["stages"].insert(
        0, {"name": "keys", "steps": [{"name": "keys", "confirm": {"instructions": "Rotate."}}]}
    )
    world = _failed(found)
    edit(world)
    world.act("Retry")
    assert world.later(12).outcome() == "Promoted"


@pytest.mark.parametrize("asking", ASKING[1:])
def test_an_approval_that_was_skipped_is_asked_again(asking: Callable[[], World]) -> None:
    found = deepcopy(asking().spec)
    world = World(spec=found, jobs={"migrate": Progress("Failed", "constraint violated")}).settle()
    assert world.answer("Skip", by="boss", step="go", **MANAGER).result == "Accepted"
    assert world.status.state == "Paused"
    edit(world)
    world.jobs.clear()
    world.act("Retry")
    assert world.later(5).status.state == "WaitingForPerson" and "evil:1" not in images(world)


@pytest.mark.parametrize("asking", ASKING)
def test_who_is_asked_again_may_say_no(asking: Callable[[], World]) -> None:
    world = asking()
    edit(world)
    world.act("Retry")
    assert world.answer("Reject", by="bo", reason="who wrote this?").result == "Accepted"
    assert world.status.state == "Paused" and "rejected by bo: who wrote this?" in world.message
    world.later(30)
    world.act("Retry")
    assert world.later(30).status.state == "WaitingForPerson", (
        "no is no, also to a Retry without an edit"
    )
    assert "evil:1" not in images(world)
    _yes(world)
    assert world.later(12).outcome() == "Promoted"


@pytest.mark.parametrize("asking", ASKING)
def test_going_past_the_stage_is_not_going_past_the_question(asking: Callable[[], World]) -> None:
    world = asking()
    edit(world)
    world.act("Retry")
    assert world.answer("Skip", stage="migrate", **MANAGER).result == "Accepted"
    world.later(30)
    # Whoever skips the stage has to be asked in the approval's place.
    if asking is asking_in_the_stage:
        assert world.run.stages[0].steps[1].skippedBy == "ana"
        return
    assert world.status.state == "WaitingForPerson" and world.done("apply") == []
    _yes(world)
    assert world.later(12).done("apply") == ["apply target/web"]


def test_past_the_last_stage_the_question_stays() -> None:
    found = spec()
    found["stages"] = [{"name": "ask", "steps": [deepcopy(GO)]}, found["stages"][0]]
    world = _failed(found)
    edit(world)
    world.act("Retry")
    world.act("Skip", stage="migrate")
    assert world.later(30).status.state == "WaitingForPerson", (
        "nothing is promoted that nobody has approved"
    )
    assert "all stages passed" in world.message
    world.act("Reject")
    assert world.settle().outcome() == "RolledBack"


def test_a_run_that_asks_again_is_rolled_back_as_any_other() -> None:
    world = asking_in_a_stage_before()
    edit(world)
    world.act("Retry")
    assert world.answer("Rollback").result == "Accepted"
    assert world.settle().outcome() == "RolledBack"


def test_all_changes_of_the_run_are_told_until_it_ends() -> None:
    world = asking_before(guards=[GUARD])
    edit(world)
    world.act("Retry")
    world.act("Reject")
    edit(world, guards=[])
    world.act("Retry")
    assert world.run.edits == [
        "guard health removed",
        "step migrate of stage migrate changed",
    ]
    assert "guard health removed" in world.waiting_for.message


def test_a_guard_that_is_gone_is_a_change_to_ask_for() -> None:
    world = asking_before(guards=[GUARD])
    world.ask(guards=[]).settle()
    world.act("Retry")
    assert "after an edit (guard health removed)" in world.waiting_for.message


def test_nobody_is_asked_where_nobody_was() -> None:
    world = _failed(spec())
    edit(world)
    world.act("Retry")
    assert world.later(12).outcome() == "Promoted" and "evil:1" in images(world)


def test_questions_that_are_open_keep_the_clocks_still_and_nothing_is_written() -> None:
    world = asking_in_a_stage_before()
    edit(world)
    world.act("Retry")
    writes, before = world.writes, dump(world.status)
    world.later(600)
    assert (
        world.writes == writes and dump(world.status) == before and world.run.holdReason is not None
    )


def test_two_questions_are_told_one_after_the_other() -> None:
    found = spec(
        preflight=[deepcopy(GO)],
        notify=[{"events": ["ApprovalNeeded"], "slack": {"channel": "#x"}}],
    )
    found["stages"].insert(0, {"name": "ask", "steps": [deepcopy(GO)]})
    world = _failed(found)
    known = {notice.id for notice in world.status.notices}
    edit(world)
    world.act("Retry")
    assert world.answer("Approve", **MANAGER).result == "Refused", "it could mean either"
    assert world.answer("Approve", gate="go", **MANAGER).result == "Accepted"
    assert world.answer("Approve", stage="ask", **MANAGER).result == "Accepted"
    told = [notice.id for notice in world.status.notices if notice.id not in known]
    assert told == [
        "1.ApprovalNeeded.again.check-go.4",
        "1.ApprovalNeeded.again.step-go-of-stage-ask.4",
    ]


# --------------------------------------------------------------------------------------------------
# What somebody has looked at


def looked_at(world: World) -> str:
    """Hash of the spec as it is now."""
    return hash_spec(ReleaseSpec.model_validate(world.spec))


def test_an_approval_counts_for_the_spec_that_was_looked_at_and_no_other() -> None:
    world = World(spec=spec(preflight=[deepcopy(GO)])).settle()
    said = world.answer("Approve", spec_hash="0" * 32, **MANAGER)
    assert said.result == "Refused"
    assert (
        "the Release was edited since it was looked at: what run 1 has pinned has specHash"
        in said.message
    )
    assert "look again (kubectl release explain web)" in said.message and said.specHash is None
    assert world.phase() == "Preflight"
    said = world.answer("Approve", spec_hash=world.run.specHash, **MANAGER)
    assert said.result == "Accepted" and said.specHash == looked_at(world) == world.run.specHash


def test_who_looked_at_an_edit_that_the_run_has_not_pinned_is_told() -> None:
    """A bad body is pinned, and a good one put in its place for those who are asked."""
    found = spec()
    found["stages"][0]["steps"].insert(0, deepcopy(GO))
    world = World(spec=found).settle()
    edit(world)
    said = world.answer("Approve", spec_hash=looked_at(world), **MANAGER)
    assert said.result == "Refused" and "what run 1 has pinned" in said.message


def test_an_approval_of_before_the_retry_does_not_count_after_it() -> None:
    world = asking_before()
    before = world.run.specHash
    edit(world)
    world.act("Retry")
    assert world.answer("Approve", spec_hash=before, **MANAGER).result == "Refused"
    assert "evil:1" not in images(world)
    assert world.answer("Approve", spec_hash=looked_at(world), **MANAGER).result == "Accepted"


def test_a_retry_takes_up_the_spec_that_was_looked_at_and_no_other() -> None:
    world = asking_before()
    before = looked_at(world)
    edit(world)
    said = world.answer("Retry", spec_hash=before)
    assert (
        said.result == "Refused"
        and "its spec has specHash" in said.message
        and world.status.state == "Paused"
    )
    said = world.answer("Retry", spec_hash=looked_at(world))
    assert said.result == "Accepted" and said.specHash == looked_at(world) != before


def test_a_retry_at_rest_starts_the_spec_that_was_looked_at() -> None:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.gates.clear()
    assert world.outcome() == "RolledBack"
    before = looked_at(world)
    edit(world)
    assert world.answer("Retry", spec_hash=before).result == "Refused" and world.status.runs == 1
    said = world.answer("Retry", spec_hash=looked_at(world))
    assert (
        said.result == "Accepted" and world.status.runs == 2 and said.specHash == looked_at(world)
    )


def test_a_run_of_before_that_did_not_keep_its_hash_is_compared_all_the_same() -> None:
    world = World(spec=spec(preflight=[deepcopy(GO)])).settle()
    world.run.specHash = None
    assert world.answer("Approve", spec_hash="0" * 32, **MANAGER).result == "Refused"
    assert world.answer("Approve", spec_hash=looked_at(world), **MANAGER).result == "Accepted"


def test_what_counts_at_once_is_no_part_of_what_is_looked_at() -> None:
    world = World(spec=spec(preflight=[deepcopy(GO)])).settle()
    known = world.run.specHash
    world.ask(suspend=True, supersede="Reject").settle()
    assert looked_at(world) == known
    assert world.answer("Approve", spec_hash=known, **MANAGER).result == "Accepted"


@pytest.mark.parametrize("action", ["Rollback", "Abort", "Pause", "Resume"])
def test_what_undoes_or_stops_is_not_kept_back_by_an_edit(action: Action) -> None:
    with pytest.raises(ValidationError, match="specHash goes with Approve"):
        InterventionSpec(release="web", action=action, by="ana", specHash="0" * 32)


@pytest.mark.parametrize("value", ["", "0" * 31, "0" * 33, "A" * 32])
def test_a_hash_is_a_hash(value: str) -> None:
    with pytest.raises(ValidationError, match="specHash"):
        InterventionSpec(release="web", action="Approve", by="ana", specHash=value)


# --------------------------------------------------------------------------------------------------
# What has changed, in words


def changed(**changes: Any) -> list[str]:
    before = spec(guards=[GUARD])
    return edits.describe_edits(
        ReleaseSpec.model_validate(before), ReleaseSpec.model_validate(deepcopy(before) | changes)
    )


def stages(**changes: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec()["stages"]
    found[1] |= changes
    return found


BOTH = ("bake", "onFailure")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, []),
        ({"suspend": True, "supersede": "Replace", "adopt": "Never"}, []),
        ({"guards": []}, ["guard health removed"]),
        ({"guards": [GUARD | {"max": "2"}]}, ["guard health changed"]),
        ({"guards": [GUARD, GUARD | {"name": "other"}]}, ["guard other added"]),
        ({"stages": stages(gates=[])}, ["gate errors of stage deploy removed"]),
        (
            {"stages": stages(bake="1s", onFailure="Pause")},
            [f"{name} of stage deploy changed" for name in BOTH],
        ),
        (
            {"stages": stages(steps=[{"name": "deploy", "wait": "1s"}])},
            ["step deploy of stage deploy changed"],
        ),
        ({"stages": stages()[:1]}, ["stage deploy removed"]),
        (
            {"stages": [*stages(), {"name": "x", "steps": [{"name": "y", "wait": "1s"}]}]},
            ["stage x added"],
        ),
        ({"stages": stages()[::-1]}, ["order of stages changed"]),
        (
            {"stages": stages(rollback={"within": "1m"})},
            ["rollback.within of stage deploy changed"],
        ),
        ({"rollback": {"verify": [GUARD]}}, ["verification health added"]),
        ({"vars": {"commit": "a"}, "guardFor": "9m"}, ["vars.commit changed", "guardFor changed"]),
        ({"preflight": [GO], "targets": []}, ["preflight check go added", "target web removed"]),
    ],
)
def test_an_edit_is_told_in_names(changes: dict[str, Any], says: list[str]) -> None:
    assert changed(**changes) == says


def test_many_changes_are_bounded_and_said_to_be_more() -> None:
    many = [f"step s{number} changed" for number in range(50)]
    kept = edits.merge_edits(["guard g removed"], many)
    assert len(kept) == edits.MOST_EDITS and kept[-1] == edits.AND_MORE
    assert edits.merge_edits(kept, ["vars.a changed"])[-1] == edits.AND_MORE
    assert (
        edits.summarize_edits(kept).endswith(", and more")
        and edits.summarize_edits(kept).count("changed") == edits.MOST_EDITS_TOLD
    )
    assert edits.summarize_edits(many[:2]) == "step s0 changed, step s1 changed"
