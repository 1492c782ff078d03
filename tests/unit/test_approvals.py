"""Approvals: asked last, for a while, and not of whoever asks for the version."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.core.spec.problems import find_problems
from tests.unit.sim import START, World, spec

GREEN: dict[str, Any] = {"name": "ci", "prometheus": {"query": "ci"}, "max": "1%"}
SLACK = {"events": ["ApprovalNeeded"], "slack": {"channel": "#deploys"}}


def asking(approval: dict[str, Any], **changes: Any) -> World:
    """A run that asks before its first stage, beside a check that is measured."""
    checks = [{"name": "go", "approval": approval}, GREEN]
    return World(spec=spec(preflight=checks, notify=[SLACK], **changes))


def asking_in_stage(approval: dict[str, Any], **changes: Any) -> World:
    body = spec(**changes)
    body["stages"][0]["steps"].insert(0, {"name": "go", "approval": approval})
    return World(spec=body).settle()


def told(world: World) -> list[str]:
    return [notice.id for notice in world.status.notices]


def waits(world: World) -> str:
    assert world.status.waitingFor is not None
    return world.status.waitingFor.message


# --- last


def test_people_are_asked_when_all_other_checks_pass() -> None:
    world = asking({})
    world.gates["ci"] = "Breaching"
    world.settle().later(30)
    assert world.status.state == "Preflight" and told(world) == []
    assert waits(world).startswith("preflight ci: 5% > 1%; then go is asked of a person")

    world.gates["ci"] = "Passing"
    world.later(1)
    assert world.status.state == "WaitingForPerson"
    assert told(world) == ["1.ApprovalNeeded.preflight.go"]
    assert "preflight go waits for a person" in waits(world)


def test_an_answer_that_comes_before_the_question_is_refused() -> None:
    world = asking({})
    world.gates["ci"] = "Breaching"
    world.settle()
    for action in ("Approve", "Reject"):
        said = world.act(action)
        assert said is not None and said.result == "Refused"
        assert "preflight go is asked when all other checks pass" in said.message
        assert "ci: 5% > 1%" in said.message
    assert world.status.run is not None and world.status.run.preflight[0].approvedBy == []


# --- for a while


def test_an_approval_expires_before_the_run_has_left_preflight() -> None:
    world = asking({"expires": "4h"}).settle()
    world.ask(suspend=True).settle()
    assert world.act("Approve", by="ben").result == "Accepted"  # type: ignore[union-attr]
    assert world.tick().requeue_at == START + timedelta(hours=4)

    world.jump(4 * 3600)
    assert world.status.state == "WaitingForPerson"
    assert "the approval by ben has expired after 4h" in waits(world)
    assert [note.reason for note in world.notes].count("ApprovalExpired") == 1
    assert "1.ApprovalNeeded.preflight.go.1" in told(world), "it is another question"

    world.act("Approve", by="ben")
    world.ask(suspend=False).settle().later(12)
    assert world.status.run is not None and world.status.run.outcome == "Promoted"


def test_only_the_approval_that_is_too_old_goes() -> None:
    world = asking({"expires": "4h", "count": 2}).settle()
    world.act("Approve", by="ana")
    world.jump(3 * 3600)
    world.ask(suspend=True).settle()
    world.act("Approve", by="ben")
    world.jump(3600)
    row = world.status.run.preflight[0]  # type: ignore[union-attr]
    assert row.approvedBy == ["ben"] and len(row.approvedAt) == 1
    assert "1 of 2: ben" in waits(world)


def test_an_approval_that_counts_leads_on_whenever_the_run_ends() -> None:
    world = asking({"expires": "4h"}).settle()
    world.act("Approve", by="ben")
    world.jump(5 * 3600).later(12)
    assert world.status.run is not None and world.status.run.outcome == "Promoted"


def test_an_approval_in_a_stage_expires_before_the_next_step_has_begun() -> None:
    world = asking_in_stage({"expires": "1h"})
    world.spec = world.spec | {"suspend": True}
    world.generation += 1
    world.act("Approve", by="ben")
    assert world.done() == ["ask approval/go"], "nothing begins while it stands still"
    world.jump(3600)
    world.ask(suspend=False).settle().later(30)
    assert world.status.state == "WaitingForPerson" and world.done("job") == []
    assert [note.reason for note in world.notes].count("ApprovalExpired") == 1
    world.act("Approve", by="eve")
    assert world.later(12).status.run.outcome == "Promoted"  # type: ignore[union-attr]


def test_an_approval_in_a_stage_that_has_led_on_stays() -> None:
    world = asking_in_stage({"expires": "1h"})
    world.slow = {"migrate"}
    world.act("Approve", by="ben")
    world.later(120)
    world.now += timedelta(hours=2)
    world.slow = set()
    world.later(12)
    assert [note.reason for note in world.notes].count("ApprovalExpired") == 0


@pytest.mark.parametrize("where", ["preflight", "stage"])
def test_an_approval_counts_for_a_minute_at_least(where: str) -> None:
    body = spec()
    approval = {"name": "go", "approval": {"expires": "59s"}}
    if where == "preflight":
        body["preflight"] = [approval]
    else:
        body["stages"][1]["steps"].append(approval)
    path = {"preflight": "spec.preflight[0]", "stage": "spec.stages[1].steps[1]"}[where]
    (problem,) = find_problems(ReleaseSpec.model_validate(body))
    assert problem.startswith(f'{path}.approval.expires: "59s" is over before anything can begin')


# --- not of whoever asks


def test_whoever_asks_for_the_version_does_not_approve_it() -> None:
    world = asking({"notBy": "Requester"}, requestedBy="ana").settle()
    assert "(not by ana, who has asked for it)" in waits(world)
    said = world.act("Approve", by="ana")
    assert said is not None and said.result == "Refused"
    assert "ana has asked for 2.0 (spec.requestedBy)" in said.message
    world.act("Approve", by="ben")
    assert world.later(12).status.run.outcome == "Promoted"  # type: ignore[union-attr]


def test_whoever_asks_for_the_version_skips_no_such_approval() -> None:
    world = asking_in_stage({"notBy": "Requester"}, requestedBy="ana")
    said = world.act("Skip", by="ana")
    assert said is not None and "spec.requestedBy" in said.message
    assert world.act("Skip", by="ben").result == "Accepted"  # type: ignore[union-attr]


@pytest.mark.parametrize("where", ["preflight", "stage"])
def test_nobody_is_kept_out_where_nobody_knows_who_asks(where: str) -> None:
    body = spec()
    approval = {"name": "go", "approval": {"notBy": "Requester"}}
    if where == "preflight":
        body["preflight"] = [approval]
    else:
        body["stages"][1]["steps"].append(approval)

    path = {"preflight": "spec.preflight[0]", "stage": "spec.stages[1].steps[1]"}[where]
    (problem,) = find_problems(ReleaseSpec.model_validate(body))
    assert problem.startswith(f"{path}.approval.notBy: nobody knows who asks for the version; set")
    assert [*find_problems(ReleaseSpec.model_validate(body | {"requestedBy": "ana"}))] == []


def test_another_one_who_asks_makes_another_body() -> None:
    world = asking({"notBy": "Requester"}, requestedBy="ana").settle()
    world.ask(requestedBy="ben").settle()
    assert world.status.runs == 2 and "(not by ben, who has asked for it)" in waits(world)


# --- what is at stake


def test_the_question_names_risk_plan_and_what_has_changed() -> None:
    body = spec()
    body["stages"][0]["risk"] = "High"
    world = World(spec=body).settle().later(12)
    assert world.status.lastGood.version == "2.0"  # type: ignore[union-attr]

    stages = deepcopy(body["stages"])
    stages[0]["steps"][1]["job"]["image"] = "other"
    checks = [{"name": "go", "approval": {}}]
    world.ask("3.0", stages=stages, preflight=checks, requestedBy="ana").settle()
    assert "risk High (migrate); a rollback would restore target/web, run job restore" in waits(
        world
    )
    changes = "step migrate of stage migrate changed, preflight check go added"
    assert f"changed since 2.0: {changes}" in waits(world)
    assert world.status.run.changes == changes.split(", ")  # type: ignore[union-attr]


def test_what_is_not_known_of_the_version_before_is_said_to_be_so() -> None:
    world = asking({}).settle()
    assert "what the spec has changed since 1.0 is not known" in waits(world)


def test_a_version_that_changes_nothing_else_is_said_to_be_so() -> None:
    world = World(spec=spec(preflight=[{"name": "go", "approval": {}}])).settle()
    world.act("Approve")
    world.later(12)
    world.ask("3.0").settle()
    assert "changed since 2.0: nothing but the version" in waits(world)


def test_nobody_reads_the_version_before_where_nobody_is_asked() -> None:
    world = World().settle().later(12)
    world.ask("3.0")
    assert world.wants(world.view()).records == ()
