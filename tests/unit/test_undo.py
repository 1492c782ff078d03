"""The way back at rest: what promoted runs have changed is returned, and nothing else is run."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.api.status import Answered, ReleaseStatus, dump
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.operation import Progress
from gatewright.core.run.clocks import format_time
from gatewright.plugin import acts, way_back
from gatewright.plugin.acts import InterventionRequest
from gatewright.plugin.cluster import RequestFailed
from tests.unit.sim import World, spec


def promoted(*versions: str, world: World | None = None, **changes: Any) -> World:
    """A Release that has promoted these versions, one after another."""
    world = world or World(spec=spec(**changes))
    for version in versions:
        world.ask(version).settle().later(30)
        while world.outcome() is None:
            world.later(60)
        assert world.outcome() == "Promoted", world.run.reason
    world.performed.clear()
    return world


def with_database(**rollback: Any) -> dict[str, Any]:
    """A stage whose compensation is run whenever the release is unwound past it."""
    raw = spec()
    raw["stages"].insert(
        0,
        {
            "name": "db",
            "steps": [
                {"name": "backup", "job": {"image": "pg:1"}, "produces": "backup"},
                {"name": "change", "job": {"image": "pg:2"}},
            ],
            "rollback": {
                "reach": "Release",
                "steps": [{"name": "restore", "requires": ["backup"], "job": {"image": "pg:1"}}],
            },
        },
    )
    return raw


def accepted(answer: Answered | None) -> str:
    assert answer is not None and answer.result == "Accepted", answer
    return answer.message


def refused(answer: Answered | None) -> str:
    assert answer is not None and answer.result == "Refused", answer
    return answer.message


def test_what_was_promoted_is_undone_although_no_run_is_under_way() -> None:
    world = promoted("2.0")
    assert world.live == "2.0" and not world.finalized
    assert "2.0 is undone; 1.0 is returned to" in accepted(world.act("Rollback", reason="P0"))
    world.later(10)

    run = world.run
    assert (run.kind, run.undoes, run.outcome) == ("Undo", [1], "RolledBack")
    assert world.live == world.served.version == world.last_good.version == "1.0"
    assert world.done() == ["restore target/web"], "no preflight, no stage, no compensation"
    assert [item.version for item in world.status.rejected] == ["2.0"]
    assert world.status.rejected[0].reason == "Rollback by ana: P0"
    assert [(past.id, past.outcome, past.undoes) for past in world.status.history] == [
        (2, "RolledBack", [1]),
        (1, "Promoted", []),
    ]
    assert not world.finalized

    world.later(600)
    assert world.status.runs == 2, "GitOps may go on asking for it"
    world.ask("1.0").settle().later(30)
    assert world.status.state == "Promoted" and world.status.runs == 2


def test_one_write_holds_the_plan_as_intents() -> None:
    world = promoted("2.0")
    writes = world.writes
    world.open_interventions.append(_rollback())
    world.tick()
    assert world.writes == writes + 1 and world.phase() == "RollingBack"
    (line,) = world.rollback.undo
    assert line.state == "Running" and line.key and line.key.startswith("1.undo2.rollback.")
    world.tick()
    assert world.done() == ["restore target/web"] and world.writes == writes + 1


def _rollback(**more: Any) -> Any:
    from gatewright.core.model.intervention import Intervention

    made = ("2026-11-30T00:00:00Z", 1)
    return Intervention("u1", "back", "Rollback", "ana", made=made, **more)


@pytest.mark.parametrize(
    ("more", "version", "undone"),
    [
        ({}, "3.0", [3]),
        ({"to": "3.0"}, "3.0", [3]),
        ({"to": "2.0"}, "2.0", [3, 2]),
        ({"to_run": 1}, "2.0", [3, 2]),
        ({"to": "1.0"}, "1.0", [3, 2, 1]),
    ],
)
def test_each_kept_version_can_be_returned_to(
    more: dict[str, Any], version: str, undone: list[int]
) -> None:
    world = promoted("2.0", "3.0", "4.0")
    accepted(world.act("Rollback", **more))
    world.later(10)
    assert world.run.undoes == undone and world.outcome() == "RolledBack"
    assert world.live == world.served.version == world.last_good.version == version
    assert world.done() == ["restore target/web"], "once, and to nothing between"
    # None of them starts again by itself, and each says why.
    rejected = world.status.rejected
    assert [item.version for item in rejected] == [f"{number + 1}.0" for number in undone]
    assert {item.reason for item in rejected} == {"Rollback by ana"}


def test_an_undone_version_that_is_returned_to_under_its_name_is_not_rejected() -> None:
    world = promoted("2.0", "3.0", "2.0", "4.0", rollback={"keep": 5})
    accepted(world.act("Rollback", to="2.0"))
    world.later(10)
    assert world.run.undoes == [4] and world.live == "2.0"
    accepted(world.act("Rollback", to_run=1))
    world.later(10)
    assert world.run.undoes == [3, 2] and world.live == "2.0"
    assert [item.version for item in world.status.rejected] == ["2.0", "3.0", "4.0"]

    world = promoted("2.0", "3.0", "2.0", "4.0", rollback={"keep": 5})
    accepted(world.act("Rollback", to_run=1))
    world.later(10)
    assert world.run.undoes == [4, 3, 2] and world.live == "2.0"
    assert [item.version for item in world.status.rejected] == ["4.0", "3.0"]
    world.ask("2.0").settle()
    assert world.status.state == "Promoted", "it is what was asked for"


def test_one_can_go_further_back_later() -> None:
    world = promoted("2.0", "3.0")
    for more in {}, {"to": "1.0"}:
        message = accepted(world.act("Rollback", **more))
        world.later(10)
        assert world.live == world.last_good.version == message.split("; ")[1].split()[0]
    assert world.live == "1.0"
    message = refused(world.act("Rollback"))
    assert "no promoted version is kept" in message


def test_nobody_goes_a_second_version_back_without_naming_it() -> None:
    """Seen on a cluster: the second of two people in a hurry undid one version more."""
    world = promoted("2.0", "3.0")
    accepted(world.act("Rollback"))
    world.later(10)
    message = refused(world.act("Rollback"))
    assert "run 3 has undone 3.0 already" in message and "--to 1.0" in message
    assert world.live == "2.0"


def test_the_loss_is_counted_from_when_the_backup_says_it_was_made() -> None:
    raw = with_database()
    raw["stages"][0]["rollback"]["steps"][0]["job"]["args"] = ["$(steps.backup.outputs.createdAt)"]
    world = World(spec=raw)
    made = {"createdAt": "2025-12-31T18:00:00Z"}
    world.jobs["backup"] = Progress("Succeeded", outputs=made)
    assert promoted("2.0", world=world).status.kept[0].backupAt == "2025-12-31T18:00:00.000Z"
    world = promoted("2.0", world=World(spec=with_database()))
    began = world.run.stages[0].steps[0].startedAt
    assert world.status.kept[0].backupAt == began


def test_so_many_are_kept_as_the_release_says() -> None:
    world = promoted("2.0", "3.0", "4.0", "5.0")
    assert [kept.version for kept in world.status.kept] == ["5.0", "4.0", "3.0"]
    message = refused(world.act("Rollback", to="1.0"))
    assert "1.0 is not kept; a Rollback can return to 4.0, 3.0, 2.0" in message
    assert "promoted last" in refused(world.act("Rollback", to="5.0"))

    world = promoted("2.0", rollback={"keep": 0})
    assert world.status.kept == []
    refused(world.act("Rollback"))


def test_what_would_be_done_stands_in_the_status_before_anybody_asks() -> None:
    world = promoted("2.0", world=World(spec=with_database()))
    (kept,) = world.status.kept
    assert kept.plan == ["restore target/web"]
    assert kept.compensations == ["run restore of db"]
    assert kept.before.version == "1.0"


def test_the_database_stays_unless_somebody_asks_for_it() -> None:
    world = promoted("2.0", world=World(spec=with_database()))
    accepted(world.act("Rollback"))
    world.later(10)
    assert world.done("restore") == ["restore target/web"]


def test_the_database_goes_back_with_a_reason() -> None:
    world = promoted("2.0", world=World(spec=with_database()))
    assert "say why" in refused(world.act("Rollback", with_database=True))
    message = accepted(world.act("Rollback", with_database=True, reason="data is broken"))
    assert "the database included (run restore of db; what was written since 2026" in message
    world.later(10)
    assert world.done() == ["restore target/web", "job job/restore"]
    assert world.outcome() == "RolledBack" and world.run.database


def test_the_database_goes_back_one_version_at_a_time() -> None:
    world = promoted("2.0", "3.0", world=World(spec=with_database()))
    answer = world.act("Rollback", to="1.0", with_database=True, reason="broken")
    assert "one version at a time" in refused(answer)


@pytest.mark.parametrize("how", ["unreadable", "suspended", "deployed elsewhere", "looking"])
def test_it_works_in_any_state(how: str) -> None:
    world = promoted("2.0")
    if how == "unreadable":
        world.unreadable = True
        world.generation += 1
    elif how == "suspended":
        world.ask(suspend=True)
    elif how == "deployed elsewhere":
        world.live = "hotfix"
    elif how == "looking":
        world.looking = "nobody answers"
    world.settle()
    accepted(world.act("Rollback"))
    world.later(20)
    assert world.outcome() == "RolledBack" and world.live == "1.0"


def overdue(world: World) -> list[str]:
    return [note.message for note in world.notes if note.reason == "RollbackOverdue"]


def test_the_budgets_of_a_way_back_page() -> None:
    raw = with_database()
    raw["stages"][0]["rollback"]["within"] = "5m"
    raw["stages"][2]["rollback"] = {"within": "2m"}
    raw["rollback"] = {"within": "8m"}
    raw["notify"] = [{"events": ["RollbackOverdue"], "pagerduty": {"severity": "critical"}}]
    world = promoted("2.0", world=World(spec=raw))
    world.slow |= {"web", "restore"}
    accepted(world.act("Rollback", with_database=True, reason="data is broken"))
    world.jump(119)
    assert overdue(world) == []
    world.jump(2)
    assert overdue(world) == ["2.0: undoing stage deploy exceeds its budget"]

    world.slow.remove("web")
    world.jump(1)
    world.jump(298)
    assert len(overdue(world)) == 1, "the database has its own time, from its first line on"
    world.jump(2)
    assert overdue(world)[1] == "2.0: undoing stage db exceeds its budget"
    world.jump(60)
    assert overdue(world)[2:] == ["2.0: the rollback exceeds its budget"]
    assert len(world.status.notices) == 3, "each of them pages"

    world.slow.clear()
    world.later(2)
    assert world.run.outcome == "RolledBack" and len(overdue(world)) == 3


def test_the_budgets_of_a_way_back_that_is_repeated_page_as_well() -> None:
    raw = with_database()
    raw["stages"][0]["rollback"]["steps"].append({"name": "check", "job": {"image": "pg:1"}})
    raw["stages"][0]["rollback"]["within"] = "20s"
    raw["rollback"] = {"within": "40s"}
    world = promoted("2.0", world=World(spec=raw))
    world.jobs["check"] = Progress("Failed", "exit code 1")
    accepted(world.act("Rollback", with_database=True, reason="data is broken"))
    world.later(5)
    assert world.run.outcome == "RollbackFailed" and overdue(world) == []

    world.slow.add("2")  # the second try of the same Job
    world.jobs.clear()
    accepted(world.act("Rollback"))
    world.later(50)
    assert overdue(world) == [
        "2.0: undoing stage db exceeds its budget",
        "2.0: the rollback exceeds its budget",
    ]


def conditions(world: World) -> dict[str, tuple[str, str]]:
    return {item.type: (item.status, item.reason) for item in world.status.conditions}


def test_a_broken_spec_does_not_hide_a_good_way_back() -> None:
    """Seen: the state was Invalid, as if nothing had been done."""
    world = promoted("2.0")
    world.unreadable = True
    world.generation += 1
    accepted(world.act("Rollback", reason="P0"))
    world.later(20)
    assert world.status.state == "RolledBack"
    expected = "serving 1.0; 2.0 rejected by Rollback by ana: P0; spec: cannot be read"
    assert world.status.message == expected
    assert conditions(world) == {
        "Ready": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
        "Succeeded": ("False", "RolledBack"),
        "RolledBack": ("True", "RolledBack"),
    }
    assert world.waiting_for.message == "a corrected spec"


def test_a_broken_spec_does_not_hide_a_way_back_that_has_failed() -> None:
    world = promoted("2.0", rollback={"verify": [{"name": "up", "job": {"image": "check:1"}}]})
    world.jobs["up"] = Progress("Failed", "exit code 1")
    world.unreadable = True
    world.generation += 1
    accepted(world.act("Rollback"))
    world.later(20)
    assert world.status.state == "RollbackFailed"
    assert world.message.startswith("rollback of 2.0 failed: verification failed: up")
    assert world.message.endswith("; spec: cannot be read")
    assert "and a corrected spec" in world.waiting_for.message
    assert "starts" not in world.waiting_for.message, "nothing can be started"


def test_another_version_that_was_rejected_does_not_hide_a_good_way_back() -> None:
    """Seen: the state was Rejected, of a version that nobody had asked to be undone."""
    world = promoted("2.0")
    world.gates["errors"] = "Failed"
    world.ask("3.0").settle().later(60)
    accepted(world.act("Rollback"))
    world.later(10)
    assert world.status.state == "RolledBack" and conditions(world)["RolledBack"][0] == "True"
    parts = world.message.split("; ")
    assert parts[:2] == ["serving 1.0", "2.0 rejected by Rollback by ana"]
    assert parts[2] == "3.0 rejected by stage deploy: gate errors: 5% > 1%"


def test_a_version_that_was_rejected_before_another_was_promoted_is_still_rejected() -> None:
    world = World(spec=spec())
    world.gates["errors"] = "Failed"
    world.settle().later(60)
    world.gates.clear()
    promoted("3.0", world=world)
    world.ask("2.0").settle()
    assert world.status.state == "Rejected" and "RolledBack" not in conditions(world)


def test_after_a_version_that_was_rolled_back_the_one_before_is_undone() -> None:
    world = promoted("2.0")
    world.gates["errors"] = "Failed"
    world.ask("3.0").settle().later(60)
    assert world.outcome() == "RolledBack" and world.live == "2.0"
    world.performed.clear()
    accepted(world.act("Rollback"))
    world.later(10)
    assert world.live == "1.0" and world.run.undoes == [1]


def test_one_that_fails_says_so_and_is_repeated() -> None:
    world = promoted("2.0", rollback={"verify": [{"name": "up", "job": {"image": "check:1"}}]})
    world.jobs["up"] = Progress("Failed", "exit code 1")
    accepted(world.act("Rollback"))
    world.later(10)
    assert world.run.outcome == "RollbackFailed"
    assert world.unverified.run == 2 and world.served.version == "1.0"
    assert "repeats that first" in refused(world.act("Rollback", to="1.0"))

    world.jobs.clear()
    accepted(world.act("Rollback"))
    world.later(10)
    assert world.run.id == 2 and world.outcome() == "RolledBack"
    assert world.served.version == "1.0" and world.status.unverified is None


def flagged(*names: str) -> dict[str, Any]:
    """A Release whose only stage sets these flags at a provider."""
    flags = {"vercel": {"project": "shop", "set": dict.fromkeys(names, "on")}}
    return spec(stages=[{"name": "beta", "steps": [{"name": "flags", "flags": flags}]}])


def test_each_flag_goes_back_to_what_was_recorded_of_it_first() -> None:
    """Runs may have set other flags in the same step, and elsewhere each has marked its own."""
    world = promoted("2.0", world=World(spec=flagged("VOICE", "CRICO")))
    promoted("3.0", world=world.ask(stages=flagged("VOICE", "BETA")["stages"]))
    older, newer = (world.data[kept.revision]["snapshots"] for kept in reversed(world.status.kept))
    production = {"production": {"deployment": "dpl_1"}}
    older["flags/beta.flags"] = {"flags": {"VOICE": "off", "CRICO": None}, **production}
    newer["flags/beta.flags"] = {"flags": {"VOICE": "on", "BETA": "off"}}

    accepted(world.act("Rollback", to="1.0"))
    recorded = world.data[world.run.revision]["snapshots"]["flags/beta.flags"]
    assert recorded == {"flags": {"VOICE": "off", "CRICO": None, "BETA": "off"}, **production}

    (restore,) = [done for done in world.performed if done.subject == "flags/beta.flags"]
    first, second = (change.run for change in restore.changes)
    assert first.startswith("1-") and second.startswith("2-")
    assert (restore.run, restore.beside) == (second, (first,))


def ended(world: World, outcome: str) -> None:
    """Let hours pass until the run has ended so."""
    for _ in range(8):
        if world.run.outcome is None:
            world.jump(600)
    assert world.run.outcome == outcome, world.status.message


def reasons(world: World) -> tuple[str, str, str]:
    """Why the rollback failed: as its run, what it has left, and the status say it."""
    assert world.run.reason is not None, "the run says nothing"
    return world.run.reason, world.unverified.reason, world.message


def test_a_repeat_says_what_it_has_met_itself() -> None:
    world = failed_way_back()
    world.jobs["up"] = Progress("Failed", "exit code 7")
    world.refused["target/web"] = "403 policy"
    world.live = "hotfix"
    accepted(world.act("Rollback"))
    ended(world, "RollbackFailed")
    told = reasons(world)
    assert all("403 policy" in words and "exit code" not in words for words in told), told
    world.refused.clear()
    accepted(world.act("Rollback"))
    world.later(10)
    told = reasons(world)
    assert all("exit code 7" in words and "403" not in words for words in told), told


def failed_way_back(**seen: Any) -> World:
    """A way back whose verification fails, with this as the world is then."""
    world = promoted("2.0", rollback={"verify": [{"name": "up", "job": {"image": "check:1"}}]})
    world.slow.add("up")
    accepted(world.act("Rollback"))
    world.later(5)
    assert world.run.phase == "Verifying"
    for name, value in seen.items():
        setattr(world, name, value)
    world.slow.clear()
    world.jobs["up"] = Progress("Failed", "exit code 1")
    world.later(5)
    assert world.run.outcome == "RollbackFailed"
    return world


def test_after_a_failed_way_back_what_was_last_seen_is_said() -> None:
    world = failed_way_back()
    live, caveat = world.served, "not verified: web was last seen as 1.0"
    assert (live.version, live.caveat, live.snapshot) == ("1.0", caveat, None)
    assert f"; what is served is {caveat}" in world.message


def test_what_was_last_seen_is_no_guess() -> None:
    world = failed_way_back(unknown="nobody answers")
    assert world.status.live is None
    unknown = "what is served is not verified, and not known: nobody has seen its targets"
    assert unknown in world.message


def test_what_was_last_seen_is_never_taken_for_what_was_promoted() -> None:
    world = failed_way_back()
    world.ask("1.0").settle()
    assert world.run.id == 3 and world.status.state == "Baking", "it walks its stages"

    world = failed_way_back()
    accepted(world.act("Confirm"))
    assert world.served.caveat == "not verified: ana says that it is good"
    world.ask("1.0").settle()
    assert world.run.id == 3 and world.status.state == "Baking"
    world.later(60)
    assert world.status.state == "Promoted" and world.served.caveat is None


def test_what_was_live_before_a_run_that_touched_no_target_is_said() -> None:
    raw = spec()
    raw["stages"][0]["rollback"]["reach"] = "Release"
    world = World(spec=raw, jobs={"migrate": Progress("Failed", "exit code 1")})
    world.jobs["restore"] = Progress("Failed", "no space")
    world.settle().later(5)
    assert world.run.outcome == "RollbackFailed"
    live, caveat = world.served, "not verified: 1.0 was live before, and no target was touched"
    assert (live.version, live.caveat) == ("1.0", caveat)
    assert f"what is served is {caveat}" in world.message


def test_what_was_returned_before_something_else_failed_was_seen() -> None:
    world = promoted("2.0", world=World(spec=with_database()))
    world.jobs["restore"] = Progress("Failed", "no space")
    accepted(world.act("Rollback", with_database=True, reason="broken"))
    world.later(10)
    assert world.run.outcome == "RollbackFailed"
    assert world.served.version == "1.0"
    world.refused["target/web"] = "403 policy"
    accepted(world.act("Rollback"))
    ended(world, "RollbackFailed")
    assert world.status.live is None


def test_another_release_that_has_the_targets_is_named() -> None:
    world = promoted("2.0")
    world.rival = "other"
    assert "release other has one of its targets" in refused(world.act("Rollback"))


def test_a_record_that_is_gone_is_said() -> None:
    world = promoted("2.0")
    world.status.kept[0].record = "web-1-good-gone"
    assert "run 1 cannot be undone: it is gone" in refused(world.act("Rollback"))
    world = promoted("2.0")
    del world.data[world.status.kept[0].record]["run"]["id"]
    assert "its record cannot be read (ValidationError)" in refused(world.act("Rollback"))


def test_in_a_run_only_that_run_is_undone() -> None:
    world = promoted("2.0")
    world.slow.add("deploy")
    world.ask("3.0").settle()
    for more in {"to": "1.0"}, {"to_run": 1}, {"with_database": True, "reason": "x"}:
        assert "a run is under way" in refused(world.act("Rollback", **more))
    accepted(world.act("Rollback", to="2.0"))


def test_what_was_taken_over_since_is_not_undone_blindly() -> None:
    world = promoted("2.0", adopt="Always")
    world.live = "3.0"
    world.ask("3.0").settle().later(5)
    assert world.last_good.version == "3.0" and world.status.kept == []


def test_the_status_stays_readable_and_small() -> None:
    world = promoted("2.0", "3.0", "4.0", "5.0")
    raw = dump(world.status)
    assert ReleaseStatus.model_validate(raw) == world.status
    assert len(str(raw["kept"])) < 2500


# What the plugin says of it


def _release(world: World) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "status": dump(world.status)}


def _lines(world: World, **more: Any) -> list[str]:
    request = InterventionRequest("web", "Rollback", **more)
    return way_back.plan_lines(_release(world), request, world.now)


def test_a_dry_run_says_what_would_be_done() -> None:
    world = promoted("2.0", "3.0", world=World(spec=with_database()))
    assert _lines(world)[:2] == [
        "This would undo 3.0 (run 2), and return to 2.0:",
        "  restore target/web",
    ]
    assert _lines(world)[2] == "  the database stays; --with-database would also:"
    (line,) = _lines(world, with_database=True)[2:]
    assert line.startswith("  run restore of db; what was written in the last ")
    head = "This would undo 3.0 (run 2), 2.0 (run 1), and return to 1.0:"
    assert _lines(world, to="1.0")[0] == head
    for more in {"to": "0"}, {"to": "nonsense"}, {"to": "1.0", "with_database": True}:
        with pytest.raises(RequestFailed, match=r"refused: .*(is not kept|one version at a time)"):
            _lines(world, **more)
    assert _lines(world, to="1")[0].endswith("and return to 2.0:"), "what run 1 has promoted"


def test_explain_names_the_commands_that_lead_back() -> None:
    world = promoted("2.0", "3.0")
    lines = way_back.kept_lines(_release(world), world.now)
    assert lines[:2] == [
        "  kubectl release rollback web: back to 2.0, which undoes 3.0 (run 2)",
        "  kubectl release rollback web --to 1.0: back to 1.0, which undoes 3.0 (run 2), 2.0 (run 1)",
    ]
    world.ask("4.0").settle()
    assert way_back.kept_lines(_release(world), world.now) == [], "in a run its own plan counts"


@pytest.mark.parametrize(
    ("to", "spec"),
    [
        (None, {}),
        ("1.0", {"to": "1.0"}),
        ("7", {"toRun": 7}),
        ("2", {"to": "2"}),
    ],
)
def test_a_version_goes_before_the_number_of_a_run(to: str | None, spec: dict[str, Any]) -> None:
    status = {"kept": [{"run": 3, "before": {"version": "2"}}]}
    request = InterventionRequest("web", "Rollback", to=to)
    assert acts.destination(request, status) == spec


# An approval of the database


def asked(**approval: Any) -> World:
    """A Release whose database goes back only with an approval."""
    raw = with_database()
    raw["rollback"] = {"database": {"approval": {"groups": ["dba"]} | approval}}
    return promoted("2.0", world=World(spec=raw))


def test_the_database_waits_for_those_who_are_asked() -> None:
    world = asked()
    kept = world.status.kept
    said = accepted(world.act("Rollback", with_database=True, reason="data is broken"))
    assert "waits for an approval of the database" in said
    run = world.run
    assert (run.kind, run.phase, world.live) == ("Undo", "Preflight", "2.0")
    assert world.status.kept == kept and world.last_good.version == "2.0"
    assert "approval by dba" in world.waiting_for.message
    world.later(60)
    assert world.phase() == "Preflight" and not world.done("restore")

    assert "asks for a member of dba" in refused(world.act("Approve", by="eve"))
    accepted(world.act("Approve", by="bo", groups=frozenset({"dba"})))
    world.later(20)
    run = world.run
    assert (run.outcome, world.live, world.last_good.version) == ("RolledBack", "1.0", "1.0")
    assert "job job/restore" in world.done() and not world.status.kept
    assert world.status.rejected[0].reason == "Rollback by ana: data is broken"


def test_a_no_leaves_everything_as_it_was() -> None:
    world = asked()
    kept = world.status.kept
    accepted(world.act("Rollback", with_database=True, reason="data is broken"))
    accepted(world.act("Reject", by="bo", reason="the data is fine"))
    run = world.run
    assert run.outcome == "Aborted" and "the data is fine" in str(run.reason)
    assert world.live == world.last_good.version == "2.0" and not world.done("restore")
    assert world.status.kept == kept and not world.status.rejected and not world.finalized

    accepted(world.act("Rollback", reason="without the database then"))
    world.later(10)
    assert world.live == "1.0" and world.done("restore") == ["restore target/web"]


def test_without_the_database_nobody_is_asked() -> None:
    world = asked()
    accepted(world.act("Rollback", reason="P0"))
    world.later(10)
    assert world.outcome() == "RolledBack" and world.live == "1.0"


def test_who_waits_may_abort_and_go_back_at_once() -> None:
    world = asked()
    accepted(world.act("Rollback", with_database=True, reason="data is broken"))
    assert "Abort it" in refused(world.act("Rollback"))
    accepted(world.act("Abort"))
    accepted(world.act("Rollback", reason="P0"))
    world.later(10)
    assert world.live == "1.0"


def test_a_wait_for_the_approval_is_no_wait_for_an_edited_or_suspended_release() -> None:
    world = asked()
    accepted(world.act("Rollback", with_database=True, reason="data is broken"))
    world.ask("3.0", suspend=True).settle()
    assert world.phase() == "Preflight"
    accepted(world.act("Approve", by="bo", groups=frozenset({"dba"})))
    world.later(20)
    assert world.outcome() == "RolledBack" and world.live == "1.0"


@pytest.mark.parametrize("more", [{}, {"to": "1.0"}])
def test_a_way_back_of_flags_alone_says_which_version_is_live(more: dict[str, Any]) -> None:
    flags = {"name": "flags", "flags": {"configMap": "web-flags", "set": {"VOICE": "$(version)"}}}
    stages = [{"name": "ship", "steps": [flags]}]
    world = promoted("1.0", "2.0", "3.0", world=World(spec=spec(targets=[], stages=stages)))
    accepted(world.act("Rollback", reason="P0", **more))
    world.later(60)
    wanted = more.get("to", "2.0")
    assert world.status.live is not None and world.status.live.version == wanted
    assert world.status.lastGood is not None and world.status.lastGood.version == wanted
    assert (world.status.message or "").startswith(f"serving {wanted}")


def test_a_way_back_with_nothing_to_return_never_says_that_the_undone_version_is_ready() -> None:
    """It begins and ends in one pass, and what was said was of the moment before."""
    stages = [{"name": "check", "gates": [{"name": "smoke", "job": {"image": "k6"}}]}]
    world = promoted("1.0", "2.0", world=World(spec=spec(targets=[], stages=stages)))
    asked = Intervention(
        "itv-1", "web-back", "Rollback", "ana", reason="P0", made=(format_time(world.now), 1)
    )
    world.open_interventions.append(asked)
    while world.outcome() != "RolledBack":
        world.tick()
    ready = next(item for item in world.status.conditions if item.type == "Ready")
    assert (world.status.state, ready.status) == ("RolledBack", "False")


# What a person had ended before


@pytest.mark.parametrize("more", [{}, {"to": "1.0"}])
def test_a_version_that_a_person_had_aborted_does_not_start_by_a_way_back(
    more: dict[str, Any],
) -> None:
    """Seen on a cluster: the Undo became the last run, and nobody remembered the Abort."""
    world = aborted(promoted("2.0"))
    accepted(world.act("Rollback", reason="P0", **more))
    world.later(120)
    assert (world.live, world.status.runs) == ("1.0", 3), "nobody has asked for 3.0 again"
    assert world.status.state == "RolledBack"
    message = world.status.message or ""
    assert message.startswith("serving 1.0") and "2.0 rejected by Rollback" in message
    assert "; 3.0 aborted: " in message
    accepted(world.act("Retry"))
    world.later(120)
    assert world.live == "3.0"


def aborted(world: World) -> World:
    """A Release that serves 2.0, and of which somebody has aborted 3.0."""
    world.slow.add("deploy")
    world.ask("3.0").settle()
    accepted(world.act("Abort"))
    world.later(20)
    assert world.outcome() == "Aborted" and world.live == "2.0"
    world.slow.clear()
    return world


@pytest.mark.parametrize("times", [1, 12])
def test_an_aborted_version_does_not_start_by_a_way_back_that_is_rejected(times: int) -> None:
    """Also after more of them than the history keeps."""
    world = aborted(asked())
    for _ in range(times):
        accepted(world.act("Rollback", with_database=True, reason="data is broken"))
        accepted(world.act("Reject", by="bo", reason="the data is fine"))
    world.later(60)
    runs = world.status.runs
    assert (world.live, runs) == ("2.0", 2 + times), "nobody has asked for 3.0 again"

    accepted(world.act("Rollback", reason="without the database then"))
    world.later(60)
    assert (world.live, world.status.runs) == ("1.0", runs + 1)
    assert [past.version for past in world.status.history if not past.undoes][:1] == ["3.0"]
    assert len(world.status.history) <= 10


def test_an_aborted_version_does_not_start_by_a_confirmed_way_back_that_has_failed() -> None:
    world = aborted(asked())
    world.refused["target/web"] = "quota exceeded"
    accepted(world.act("Rollback", reason="P0"))
    world.later(3600)
    assert world.outcome() == "RollbackFailed"
    runs = world.status.runs
    accepted(world.act("Confirm"))
    world.later(60)
    assert world.status.runs == runs, "nobody has asked for 3.0 again"


def test_a_run_without_anything_to_do_keeps_what_it_has_pinned() -> None:
    """It began and was promoted in one pass, and only the promotion was written."""
    world = promoted("2.0")
    stage = {"name": "db", "when": {"changed": ["db/**"]}, "steps": [{"name": "a", "wait": "0s"}]}
    world.ask("3.0", changedPaths=["web/a"], stages=[stage]).settle()
    run = world.run
    assert (run.id, run.outcome) == (2, "Promoted")
    assert run.revision in world.data
    assert all(kept.revision in world.data for kept in world.status.kept)
