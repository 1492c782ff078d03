"""State in, state out: the decisions of the core in a simulated world."""

from __future__ import annotations

import pytest

from gatewright.api.status import dump
from gatewright.core.model.operation import Progress
from gatewright.core.run import states
from tests.unit.sim import CheckState, World, spec


def promoted() -> World:
    world = World().settle().later(12)
    assert world.status.state == "Promoted", world.status
    return world


def outcome(world: World) -> str | None:
    assert world.status.run is not None
    return world.status.run.outcome


def conditions(world: World) -> dict[str, str]:
    return {item.type: item.status for item in world.status.conditions}


def test_stages_run_in_order_and_the_version_becomes_last_good() -> None:
    world = promoted()
    assert world.done() == ["job job/backup", "job job/migrate", "apply target/web"]
    assert world.last_good.version == "2.0" and world.served.version == "2.0"
    assert conditions(world) == {"Ready": "True", "Succeeded": "True"}
    assert not world.finalized
    assert [past.outcome for past in world.status.history] == ["Promoted"]


def test_what_was_live_before_the_first_run_is_the_first_last_good() -> None:
    world = World().settle()
    assert world.last_good.version == "1.0" and world.served.version == "1.0"
    assert world.finalized


def test_the_bake_lasts_as_long_as_it_says() -> None:
    world = World().settle()
    assert world.status.state == "Baking"
    world.later(9)
    assert world.status.state == "Baking"
    assert world.later(2).status.state == "Promoted"


def test_nothing_changes_while_nothing_happens() -> None:
    world = World(slow={"web"}).settle()
    before = dump(world.status)
    world.later(20)
    assert dump(world.status) == before


def test_a_failed_gate_brings_the_targets_back_and_rejects_the_version() -> None:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert world.done("restore") == ["restore target/web"] and world.live == "1.0"
    assert outcome(world) == "RolledBack" and world.served.version == "1.0"
    assert world.status.rejected[0].version == "2.0" and world.status.rejected[0].gate == "errors"
    assert "serving 1.0; 2.0 rejected by" in world.message and "5% > 1%" in world.message
    assert conditions(world) == {
        "Ready": "False",
        "Stalled": "True",
        "Succeeded": "False",
        "RolledBack": "True",
    }
    assert not world.finalized


def test_a_passed_stage_is_not_compensated_unless_it_reaches_the_release() -> None:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert "job job/restore" not in world.done()
    wide = spec()
    wide["stages"][0]["rollback"]["reach"] = "Release"
    world = World(spec=wide).settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert world.done()[-2:] == ["restore target/web", "job job/restore"]


def test_a_failed_migration_is_compensated_with_the_outputs_of_the_backup() -> None:
    world = World(jobs={"migrate": Progress("Failed", "constraint violated")}).settle()
    assert outcome(world) == "RolledBack"
    assert world.done() == [
        "job job/backup",
        "job job/migrate",
        "stop job/migrate",
        "job job/restore",
    ]
    assert world.performed[-1].config.args == ["backup-1"]
    assert "constraint violated" in world.message


def test_of_a_job_that_is_not_to_be_repeated_only_the_outputs_that_something_names_are_kept() -> (
    None
):
    for logs, more in (("OnFailure", {"note": "said"}), ("Never", {})):
        quiet = spec()
        quiet["stages"][0]["steps"][0]["job"]["logs"] = logs
        quiet["stages"][0]["rollback"]["steps"][0]["job"]["logs"] = logs
        told = Progress("Succeeded", outputs={"id": "backup-1", "note": "said"})
        world = World(
            spec=quiet, jobs={"backup": told, "restore": told, "migrate": Progress("Failed", "no")}
        ).settle()
        assert outcome(world) == "RolledBack"
        assert world.performed[-1].config.args == ["backup-1"]
        text = world.status.model_dump_json()
        assert ('"id":"backup-1"' in text, '"note":"said"' in text) == (True, bool(more)), text


def test_nothing_is_restored_from_a_backup_that_was_not_made() -> None:
    world = World(jobs={"backup": Progress("Failed", "disk full")}).settle()
    assert outcome(world) == "RolledBack" and world.done("job") == ["job job/backup"]


def test_a_job_that_still_runs_is_stopped_before_its_stage_is_compensated() -> None:
    guarded = spec(guards=[{"name": "health", "prometheus": {"query": "h"}, "max": "1"}])
    world = World(spec=guarded, slow={"migrate"}).settle()
    world.gates["health"] = "Failed"
    world.later(1)
    assert [item.partition(" ")[0] for item in world.done()] == ["job", "job", "stop", "job"]


def test_an_output_that_was_never_published_fails_its_line_and_nothing_hangs() -> None:
    careless = spec()
    careless["stages"][0]["rollback"]["steps"][0] |= {
        "job": {"image": "tools", "args": ["$(steps.migrate.outputs.id)"]}
    }
    world = World(spec=careless, jobs={"migrate": Progress("Failed", "half way")}).settle()
    assert (
        outcome(world) == "RollbackFailed"
        and "$(steps.migrate.outputs.id) is not known" in world.message
    )


def test_a_gate_that_needs_an_output_that_was_never_published_fails_its_stage() -> None:
    careless = spec()
    careless["stages"][1]["gates"][0]["prometheus"] = {"query": "$(steps.deploy.outputs.url)"}
    world = World(spec=careless).settle()
    assert (
        outcome(world) == "RolledBack"
        and "$(steps.deploy.outputs.url) is not known" in world.message
    )


def test_a_failed_undo_ends_rollback_failed_but_the_others_are_undone() -> None:
    wide = spec()
    wide["stages"][0]["rollback"]["reach"] = "Release"
    world = World(spec=wide, jobs={"restore": Progress("Failed", "no space")}).settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert outcome(world) == "RollbackFailed" and world.live == "1.0"
    assert world.served.caveat == "not verified: web was last seen as 1.0"
    assert "no space" in world.message
    assert conditions(world)["Stalled"] == "True" and conditions(world)["RolledBack"] == "False"


def test_after_a_failed_rollback_matching_targets_are_not_adopted() -> None:
    wide = spec()
    wide["stages"][0]["rollback"]["reach"] = "Release"
    world = World(spec=wide, jobs={"restore": Progress("Failed", "no space")}).settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.gates.clear()
    world.ask("1.0").settle()
    assert world.run.version == "1.0" and world.status.state == "Baking"


def test_rollback_waits_for_its_verification_and_fails_without_it() -> None:
    checked = spec(
        rollback={
            "verify": [{"name": "health", "prometheus": {"query": "h"}, "max": "1"}],
            "within": "5s",
        }
    )
    world = World(spec=checked, gates={"errors": "Passing"}).settle()
    world.gates |= {"errors": "Failed", "health": "Unknown"}
    world.later(1)
    assert world.phase() == "Verifying"
    world.later(10)
    assert outcome(world) == "RollbackFailed" and "health" in world.message


@pytest.mark.parametrize("state", ["Holding", "Breaching", "Unknown"])
def test_nothing_is_promoted_while_a_gate_does_not_pass(state: CheckState) -> None:
    world = World(gates={"errors": state}).settle().later(60)
    assert outcome(world) is None and world.run.stages[1].state == "Gating"


def test_the_bake_clock_stands_still_on_hold() -> None:
    world = World().settle().later(5)
    world.gates["errors"] = "Holding"
    world.later(30)
    assert world.status.state == "Holding" and "no data" in world.waiting_for.message
    world.gates.clear()
    world.later(3)
    assert world.status.state == "Baking"
    assert world.later(4).status.state == "Promoted"


def test_clocks_are_set_forward_by_the_time_nobody_watched() -> None:
    world = World().settle().later(5)
    world.now += __import__("datetime").timedelta(seconds=100)
    world.unwatched = 100.0
    world.settle()
    assert world.status.state == "Baking"
    assert world.later(6).status.state == "Promoted"


def test_a_guard_breach_after_the_last_stage_still_rolls_everything_back() -> None:
    guarded = spec(
        guards=[{"name": "health", "prometheus": {"query": "h"}, "max": "1"}], guardFor="60s"
    )
    world = World(spec=guarded).settle().later(15)
    assert world.status.state == "Guarding" and conditions(world)["Ready"] == "True"
    assert world.last_good.version == "1.0"
    world.gates["health"] = "Failed"
    world.later(1)
    assert outcome(world) == "RolledBack" and world.live == "1.0"
    assert world.last_good.version == "1.0"


def test_a_guard_with_notify_only_says_so() -> None:
    guard = {"name": "connections", "prometheus": {"query": "h"}, "max": "1", "action": "Notify"}
    world = World(spec=spec(guards=[guard])).settle()
    world.gates["connections"] = "Failed"
    world.later(15)
    assert outcome(world) == "Promoted"
    assert [note.reason for note in world.notes].count("GuardFailed") == 1


def test_a_rejected_version_stays_rejected_until_retry_or_another_version() -> None:
    world = World().settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    world.gates.clear()
    count = len(world.performed)
    world.ask(vars={"a": "b"}).later(5)
    assert len(world.performed) == count and world.status.state == "RolledBack"
    world.act("Retry")
    world.later(12)
    assert outcome(world) == "Promoted" and world.run.attempt == 2
    assert world.status.rejected == []
    world.later(5)
    assert world.status.runs == 2


def test_the_old_version_after_a_rollback_is_live_without_a_run() -> None:
    world = promoted()
    world.ask("3.0").settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert world.status.state == "RolledBack" and world.served.version == "2.0"
    runs = world.status.runs
    world.ask("2.0").settle()
    assert world.status.state == "Promoted" and world.status.runs == runs


def test_a_version_that_every_target_has_is_adopted() -> None:
    world = World(live="2.0").settle()
    assert world.status.state == "Promoted" and world.status.run is None and world.performed == []
    assert world.last_good.version == "2.0"


def paused() -> World:
    careful = spec()
    careful["stages"][0]["onFailure"] = "Pause"
    world = World(spec=careful, jobs={"migrate": Progress("Failed", "lock timeout")}).settle()
    assert world.status.state == "Paused" and conditions(world)["Stalled"] == "True"
    assert "Reconciling" not in conditions(world)
    return world


def test_a_paused_stage_goes_on_at_the_failed_step_after_retry() -> None:
    world = paused()
    world.later(5)
    world.jobs.clear()
    world.act("Retry")
    world.later(12)
    assert outcome(world) == "Promoted"
    assert world.done("job") == ["job job/backup", "job job/migrate", "job job/migrate"]
    assert len({item.key for item in world.performed}) == 4


def test_an_edit_counts_from_a_retry_on() -> None:
    world = paused()
    edited = world.spec["stages"]
    edited[0]["steps"][1]["job"]["image"] = "tools:fixed"
    world.ask(stages=edited).settle()
    assert world.status.state == "Paused"
    world.jobs.clear()
    world.act("Retry")
    assert world.performed[-2].config.image == "tools:fixed" and world.run.generation == 2


def test_an_edit_that_renames_what_has_run_does_not_count_from_a_retry() -> None:
    world = paused()
    edited = world.spec["stages"]
    edited[0]["name"] = "renamed"
    world.ask(stages=edited).settle()
    world.jobs.clear()
    world.act("Retry")
    world.later(12)
    assert world.run.stages[0].name == "migrate" and "EditIgnored" in [
        note.reason for note in world.notes
    ]


def test_continue_goes_on_past_a_failed_stage() -> None:
    lax = spec()
    lax["stages"][0]["onFailure"] = "Continue"
    world = World(spec=lax, jobs={"migrate": Progress("Failed", "lock timeout")}).settle().later(12)
    assert outcome(world) == "Promoted" and world.run.stages[0].state == "Failed"


def test_suspension_stops_the_walk_and_its_clocks_but_not_the_guards() -> None:
    guarded = spec(guards=[{"name": "health", "prometheus": {"query": "h"}, "max": "1"}])
    world = World(spec=guarded).settle().later(5)
    world.ask(suspend=True).later(60)
    assert world.status.state == "Suspended" and conditions(world)["Paused"] == "True"
    world.gates["health"] = "Failed"
    world.later(1)
    assert outcome(world) == "RolledBack"


def test_a_suspended_release_does_not_start() -> None:
    world = World(spec=spec(suspend=True)).settle().later(5)
    assert world.performed == [] and world.status.state == "Suspended"
    assert world.ask(suspend=False).settle().later(12).status.state == "Promoted"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("Queue", ["Promoted", "Promoted"]),
        ("Replace", ["Promoted", "Superseded"]),
        ("Reject", ["Promoted"]),
    ],
)
def test_a_new_version_during_a_run(policy: str, expected: list[str]) -> None:
    world = World(spec=spec(supersede=policy)).settle()
    world.ask("3.0").settle()
    if policy == "Reject":
        assert "3.0 is ignored" in world.message
    if policy == "Replace":
        assert world.done("restore") == ["restore target/web"]
    world.later(40)
    if policy == "Reject":
        assert world.status.state == "Rejected" and world.status.runs == 1 and world.live == "2.0"
    assert [past.outcome for past in world.status.history][
        : len(expected)
    ] == expected or policy == "Reject"


def test_deletion_undoes_what_ran_and_then_lets_go() -> None:
    world = World().settle()
    world.deleting = True
    world.settle()
    assert outcome(world) == "Aborted" and world.live == "1.0" and not world.finalized
    assert world.status.rejected == []


def test_preflight_touches_nothing_until_all_checks_pass() -> None:
    careful = spec(preflight=[{"name": "p0", "prometheus": {"query": "p0"}, "max": "0"}])
    world = World(spec=careful, gates={"p0": "Failed"}).settle().later(30)
    assert world.performed == [] and world.status.state == "Preflight"
    assert "nothing was touched" in world.waiting_for.message
    world.gates.clear()
    assert world.later(12).status.state == "Promoted"


def test_an_edit_during_preflight_counts_at_once() -> None:
    careful = spec(preflight=[{"name": "p0", "prometheus": {"query": "p0"}, "max": "0"}])
    world = World(spec=careful, gates={"p0": "Failed"}).settle()
    world.ask(preflight=[]).settle()
    assert world.status.runs == 2 and world.status.state == "Baking"


def test_an_edit_during_the_run_counts_from_the_next_run() -> None:
    world = World().settle()
    world.ask(stages=[{"name": "other", "steps": [{"name": "nap", "wait": "1s"}]}]).later(12)
    assert outcome(world) == "Promoted" and world.run.stages[1].name == "deploy"
    assert world.status.runs == 1


def test_people_are_waited_for_without_a_clock() -> None:
    manual = spec()
    manual["stages"][1]["steps"].insert(
        0, {"name": "rotate", "confirm": {"instructions": "Rotate the key"}}
    )
    manual["stages"][1]["expectedDuration"] = "5s"
    world = World(spec=manual).settle().later(60)
    assert (
        world.status.state == "WaitingForPerson" and "Rotate the key" in world.waiting_for.message
    )
    assert conditions(world)["Reconciling"] == "True" and "Stalled" not in conditions(world)
    assert not [note for note in world.notes if note.reason == "Overdue"]


def test_overdue_is_said_once_and_fails_nothing() -> None:
    slow = spec()
    slow["stages"][1]["expectedDuration"] = "5s"
    world = World(spec=slow, slow={"web"}).settle().later(30)
    assert [note.reason for note in world.notes].count("Overdue") == 1
    assert outcome(world) is None


def test_a_step_that_does_not_end_fails_at_its_timeout() -> None:
    short = spec()
    short["stages"][1]["steps"][0]["deploy"]["timeout"] = "20s"
    world = World(spec=short, slow={"web"}).settle()
    world.slow.clear()
    world = World(spec=short, slow={"web"}).settle().later(21)
    assert world.run.rollback is not None and "not done in 20s" in world.rollback.reason


def test_observe_acts_on_nothing() -> None:
    world = World(spec=spec(mode="Observe")).settle().later(15)
    assert (
        world.performed == []
        and outcome(world) == "Observed"
        and "would have passed" in world.message
    )
    assert world.last_good.version == "1.0"
    assert world.ask(mode="Enforce").settle().later(12).status.state == "Promoted"


def test_observe_says_what_it_would_have_rolled_back() -> None:
    world = World(spec=spec(mode="Observe")).settle()
    world.gates["errors"] = "Failed"
    world.later(1)
    assert (
        outcome(world) == "Observed"
        and "would roll back" in world.message
        and world.performed == []
    )


def test_a_release_waits_for_another_that_has_its_target() -> None:
    world = World(rival="other").settle()
    assert world.status.state == "Waiting" and "other" in world.waiting_for.message
    world.rival = None
    assert world.settle().later(12).status.state == "Promoted"


def test_a_release_waits_for_memory_of_the_operator() -> None:
    world = World(no_room="the runs of namespace shop hold 9 KiB of specs").settle()
    assert world.status.state == "Waiting" and "hold 9 KiB of specs" in world.message
    assert world.status.run is None and not world.finalized and world.performed == []
    world.no_room = ""
    assert world.settle().later(12).status.state == "Promoted"


def test_a_missing_target_keeps_the_run_from_starting() -> None:
    world = World(missing="there is no Deployment web").settle()
    assert world.performed == [] and "there is no Deployment web" in world.message
    assert world.status.run is None and not world.finalized


def test_reconciling_and_stalled_never_stand_together() -> None:
    world = World()
    for _ in range(40):
        world.tick()
        found = conditions(world)
        assert not {"Reconciling", "Stalled"} <= set(found)
        world.later(1)


def test_forbidden_transitions_raise() -> None:
    world = promoted()
    with pytest.raises(states.Forbidden):
        states.move(world.run, "Progressing")


def test_the_plan_stands_before_the_first_change() -> None:
    world = World()
    world.tick()
    assert world.run.plan == [
        "restore target/web",
        "run job restore of migrate (only when this stage fails)",
    ]


def test_the_status_of_a_large_release_stays_under_100_kib() -> None:
    import json

    gates = [
        {"name": f"gate-{n}", "prometheus": {"query": "q" * 200}, "max": "1%"} for n in range(20)
    ]
    steps = [{"name": f"step-{n}", "deploy": {"targets": ["web"]}} for n in range(5)]
    stages = [{"name": f"stage-{n}", "steps": steps, "gates": gates} for n in range(20)]
    world = World(spec=spec(stages=stages)).settle()
    assert outcome(world) == "Promoted"
    assert len(json.dumps(dump(world.status), separators=(",", ":"))) < 100 * 1024


def test_flags_return_to_what_they_were_although_the_release_has_no_target() -> None:
    steps = [{"name": "flags", "flags": {"configMap": "web-flags", "set": {"VOICE": "true"}}}]
    gates = [{"name": "errors", "prometheus": {"query": "errors"}, "max": "1%"}]
    world = World(
        spec=spec(
            targets=[], stages=[{"name": "beta", "steps": steps, "gates": gates, "bake": "10s"}]
        )
    ).settle()
    assert world.run.plan == ["restore configmap/web-flags"]
    assert world.kept["configmap/web-flags"] is not None, "what it returns to was not recorded"
    world.gates["errors"] = "Failed"
    world.later(1)
    assert outcome(world) == "RolledBack" and world.done("restore") == [
        "restore configmap/web-flags"
    ]
