"""A restore is as wide as the change, keeps its order, is tried again, and says what it could not
do."""

from __future__ import annotations

from typing import Any

from gatewright.core.model.operation import Progress
from gatewright.core.run import rollback_end
from tests.unit.sim import World, spec


def conditions(world: World) -> dict[str, str]:
    return {item.type: item.status for item in world.status.conditions}


def two_compensations(**first: Any) -> dict[str, Any]:
    """Two stages with a compensation each, that reach back from everywhere."""
    found = spec()
    job = {"image": "tools", **first}
    found["stages"][0]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "restore", "job": job}],
    }
    found["stages"][1]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "purge", "job": {"image": "tools"}}],
    }
    return found


def lines(world: World) -> dict[str, str]:
    return {line.subject: line.state for line in world.rollback.undo}


def test_a_line_has_its_own_time_and_the_budget_only_pages() -> None:
    careful = two_compensations() | {"rollback": {"within": "10m"}}
    world = World(spec=careful, slow={"purge"}, gates={"errors": "Failed"}).settle()
    world.jump(720)
    assert world.outcome() is None and lines(world)["step/restore"] == "Pending"
    assert "RollbackOverdue" in [note.reason for note in world.notes]
    world.slow.clear()
    world.settle()
    assert world.outcome() == "RolledBack"


def test_a_compensation_that_does_not_end_is_stopped_and_keeps_all_others_if_it_cannot_be() -> None:
    world = World(spec=two_compensations(), slow={"purge"}, gates={"errors": "Failed"}).settle()
    world.unstoppable = True
    world.jump(1861)
    assert "stop job/purge" in world.done("stop") and world.outcome() is None
    world.later(130)
    run = world.run
    assert run.outcome == "RollbackFailed" and lines(world)["step/restore"] == "Skipped"
    assert "job job/restore" not in world.done() and "could not be stopped" in world.message
    world.ask("3.0")  # the very same edit a queued version would be
    world.unverified.generation = world.generation
    world.settle()
    assert world.status.runs == 1, "nothing starts beside what may still be going on"


def test_a_compensation_that_was_stopped_lets_the_others_go_on() -> None:
    world = World(spec=two_compensations(), slow={"purge"}, gates={"errors": "Failed"}).settle()
    world.jump(1870)
    assert world.outcome() == "RollbackFailed" and lines(world)["step/restore"] == "Succeeded"
    assert "it was stopped" in world.message


def test_a_refused_restore_is_tried_again_and_told_at_once() -> None:
    world = World(gates={"errors": "Failed"})
    world.refused = {"target/web": "403 quota exceeded"}
    world.settle().later(5)
    assert world.outcome() is None and "tried again: 403 quota" in world.waiting_for.message
    assert [note.reason for note in world.notes].count("RollbackHindered") == 1
    world.refused.clear()
    world.later(60)
    assert world.outcome() == "RolledBack" and world.live == "1.0"


def test_what_is_refused_until_its_time_is_over_has_failed_and_nothing_starts_on_it() -> None:
    world = World(gates={"errors": "Failed"})
    world.refused = {"target/web": "403 quota exceeded"}
    world.jump(700).later(10)
    assert world.outcome() == "RollbackFailed" and "403 quota exceeded" in world.message
    world.later(60)
    assert world.status.runs == 1
    assert (
        conditions(world)["Stalled"] == "True"
        and "kubectl release rollback web" in world.waiting_for.message
    )


def failed_rollback(version: str | None = None) -> World:
    world = World(gates={"errors": "Failed"})
    world.refused = {"target/web": "403 quota exceeded"}
    world.settle()
    if version:
        world.ask(version)
    world.jump(700).later(10)
    assert world.outcome() == "RollbackFailed"
    world.refused.clear()
    return world


def test_a_person_repeats_what_was_not_undone() -> None:
    world = failed_rollback()
    assert "undone once more" in world.answer("Rollback").message
    world.later(12)
    assert (
        world.outcome() == "RolledBack" and world.live == "1.0" and world.status.unverified is None
    )
    assert [past.outcome for past in world.status.history] == ["RolledBack"], "one run, one line"


def test_a_queued_version_does_not_start_on_what_is_not_verified() -> None:
    world = failed_rollback("3.0")
    world.later(60)
    assert world.status.runs == 1 and "3.0 is not started on it" in world.message
    assert conditions(world)["Ready"] == "False"


def test_a_newer_spec_starts_with_the_snapshots_of_before() -> None:
    world = failed_rollback()
    world.gates.clear()
    world.ask("3.0").settle()
    assert world.run.id == 2 and world.kept["target/web"]["of"] == "1.0"
    assert world.status.unverified is not None, "until it is promoted"
    world.gates["errors"] = "Failed"
    world.settle()
    assert world.live == "1.0", "not what the failed run had left"


def test_a_run_that_ends_in_preflight_does_not_forget_the_failure() -> None:
    world = failed_rollback()
    world.gates = {"p0": "Breaching"}
    world.ask("3.0", preflight=[{"name": "p0", "prometheus": {"query": "p0"}, "max": "0"}]).settle()
    world.act("Abort")
    assert world.outcome() == "Aborted" and world.status.unverified is not None
    assert world.status.state == "RollbackFailed" and conditions(world)["Ready"] == "False"
    assert "3.0 was started on it and aborted" in world.message
    assert "target/web" in world.message and "confirm" in world.waiting_for.message
    answer = world.answer("Rollback")
    assert (
        answer.result == "Refused"
        and "run 1, whose rollback failed, was followed by run 2" in answer.message
    )
    world.gates.clear()
    world.later(60)
    assert world.status.runs == 2


def test_a_later_run_that_does_not_know_what_was_left_does_not_end_it() -> None:
    world = failed_rollback()
    other = [
        {
            "name": "site",
            "workload": {
                "kind": "Deployment",
                "name": "site",
                "images": {"app": "shop/site:$(version)"},
            },
        }
    ]
    gates = [{"name": "errors", "prometheus": {"query": "errors"}, "max": "1"}]
    stages = [
        {
            "name": "ship",
            "steps": [{"name": "deploy", "deploy": {"targets": ["site"]}}],
            "gates": gates,
        }
    ]
    world.ask("3.0", targets=other, stages=stages).settle()
    run, left = world.run, world.status.unverified
    assert run.id == 2 and run.outcome == "RolledBack"
    assert left is not None and left.run == 1 and left.subjects == ["target/web"]
    assert world.status.live is None and conditions(world)["Stalled"] == "True"
    world.later(60)
    assert world.status.runs == 2


def test_a_compensation_that_failed_is_not_made_good_by_the_rollback_of_a_later_run() -> None:
    world = World(spec=two_compensations(), slow={"purge"}, gates={"errors": "Failed"}).settle()
    world.jump(1870)
    assert "run 1: step/purge" in world.unverified.subjects
    world.slow.clear()
    world.ask("3.0", stages=spec()["stages"]).settle()
    run = world.run
    assert run.id == 2 and run.outcome == "RolledBack" and lines(world)["target/web"] == "Succeeded"
    assert world.unverified.subjects == ["run 1: step/purge"]
    assert world.served.caveat == "not verified: web was last seen as 1.0"
    assert world.message.startswith("rollback of 2.0 failed")


def test_a_verification_that_passes_does_not_return_what_was_left() -> None:
    world = failed_rollback()
    gates = [{"name": "errors", "prometheus": {"query": "errors"}, "max": "1"}]
    asks = [
        {
            "name": "ask",
            "steps": [{"name": "ok", "confirm": {"instructions": "say so"}}],
            "gates": gates,
        }
    ]
    world.ask(
        "3.0",
        stages=asks,
        rollback={"verify": [{"name": "up", "prometheus": {"query": "up"}, "max": "1"}]},
    )
    world.settle()
    world.act("Abort")
    world.later(12)
    run, left = world.run, world.status.unverified
    assert run.id == 2 and world.rollback.undo == [] and world.rollback.verify[0].state == "Passing"
    assert (
        left is not None
        and "target/web" in left.subjects
        and world.status.state == "RollbackFailed"
    )


def test_what_nobody_has_called_good_is_not_called_last_good() -> None:
    world = failed_rollback()
    world.act("Confirm")
    world.ask("3.0").settle()
    assert world.run.id == 2 and world.outcome() == "RolledBack"
    assert world.live == "2.0" and world.served.version == "2.0", (
        "what was found is what has returned"
    )
    assert "was not promoted" in world.message


def test_a_later_run_that_returns_all_that_was_left_ends_it() -> None:
    world = failed_rollback()
    world.ask("3.0").settle()
    assert world.run.id == 2 and world.outcome() == "RolledBack"
    assert world.status.unverified is None and world.served.version == "1.0"


def test_a_person_says_that_it_is_good_now() -> None:
    world = failed_rollback("3.0")
    world.gates.clear()
    assert "said to be good" in world.answer("Confirm").message
    world.later(12)
    assert world.status.unverified is None and world.served.version == "3.0"
    assert "nothing to confirm" in world.answer("Confirm").message


def test_old_pods_that_are_healthy_only_after_the_database_is_restored() -> None:
    mended = spec()
    mended["stages"][1]["rollback"] = {"steps": [{"name": "restore-db", "job": {"image": "tools"}}]}
    world = World(spec=mended, gates={"errors": "Failed"}, slow={"web"})
    world.slow = set()
    world.unready_until = "job/restore-db"
    world.settle().jump(700)
    assert world.outcome() == "RolledBack" and "job job/restore-db" in world.done()


def test_a_stage_without_a_trace_in_the_journal_is_compensated_too() -> None:
    manual = spec()
    manual["stages"].insert(0, {
        "name": "keys",
        "steps": [{"name": "rotate", "confirm": {"instructions": "Rotate the keys."}}],
        "rollback": {"reach": "Release", "steps": [{"name": "revoke", "job": {"image": "tools"}}]},
    })  # fmt: skip
    world = World(spec=manual, gates={"errors": "Failed"}).settle()
    world.act("Confirm")
    world.later(12)
    assert "job job/revoke" in world.done() and world.outcome() == "RolledBack"


def test_every_stage_that_failed_is_compensated() -> None:
    lax = spec()
    lax["stages"][0] |= {"onFailure": "Continue"}
    lax["stages"][1] |= {
        "onFailure": "Pause",
        "rollback": {"steps": [{"name": "purge", "job": {"image": "tools"}}]},
    }
    world = World(
        spec=lax, jobs={"migrate": Progress("Failed", "exit code 1")}, gates={"errors": "Failed"}
    ).settle()
    assert world.run.pausedStage == "deploy"
    world.act("Rollback")
    assert {"job job/purge", "job job/restore"} <= set(world.done())


def test_a_retry_stops_the_first_job_before_it_starts_a_second() -> None:
    careful = spec()
    careful["stages"][0]["onFailure"] = "Pause"
    careful["stages"][0]["steps"][1]["job"]["timeout"] = "20s"
    world = World(spec=careful, slow={"migrate"}).settle()
    world.unstoppable = True
    world.jump(81)
    assert world.status.state == "Paused" and "stop job/migrate" in world.done("stop")
    world.act("Retry")
    world.later(10)
    assert world.done("job").count("job job/migrate") == 1, "the first one still runs"
    world.unstoppable = False
    world.slow.clear()
    world.later(1)
    assert world.done("job").count("job job/migrate") == 2


def test_a_stage_that_is_passed_over_has_its_job_stopped_first() -> None:
    lax = spec()
    lax["stages"][0] |= {"onFailure": "Continue"}
    lax["stages"][0]["steps"][1]["job"]["timeout"] = "20s"
    world = World(spec=lax, slow={"migrate"}).settle()
    world.unstoppable = True
    world.later(120)
    assert "apply target/web" not in world.done() and "nothing else starts" in world.message
    world.unstoppable = False
    world.later(12)
    assert world.outcome() == "Promoted"
    assert "failed and passed over: migrate" in str(world.status.history[0].reason)
    assert world.status.history[0].passedOver == ["migrate"]


def test_what_a_person_repeats_is_every_restore() -> None:
    world = failed_rollback()
    world.act("Rollback")
    assert [operation.kind for operation in world.performed if operation.kind == "restore"] == [
        "restore"
    ]
    assert {line.state for line in world.rollback.undo if line.kind == "Restore"} == {"Succeeded"}


def test_what_may_still_be_going_on_is_stopped_before_it_is_repeated() -> None:
    world = World(spec=two_compensations(), slow={"purge"}, gates={"errors": "Failed"}).settle()
    world.unstoppable = True
    world.jump(1861)
    world.later(130)
    assert world.outcome() == "RollbackFailed"
    world.act("Rollback")
    begun = len(world.done("job"))
    world.later(5)
    assert len(world.done("job")) == begun, "the first one still runs"
    assert world.waiting_for.message.startswith("job web-purge")
    world.unstoppable = False
    world.slow.clear()
    world.later(5)
    assert len(world.done("job")) == begun + 2, "both compensations"
    assert world.outcome() == "RolledBack"


def test_what_a_compensation_sets_is_no_change_by_others() -> None:
    careful = spec()
    flags = {"configMap": "flags", "set": {"beta": "on"}}
    careful["stages"][1]["steps"].append({"name": "beta", "flags": flags})
    off = {"name": "off", "flags": {"configMap": "flags", "set": {"beta": "off"}}}
    careful["stages"][1]["rollback"] = {"reach": "Release", "steps": [off]}
    world, held = World(spec=careful, gates={"errors": "Failed"}), []
    while world.status.run is None or world.status.run.outcome is None:
        wants = world.wants(world.view())
        phase = world.status.run.phase if world.status.run else ""
        held += [
            (phase, item.subject, *(one.kind for one in item.operations)) for item in wants.holdings
        ]
        world.tick()
    assert world.status.run.outcome == "RolledBack"
    assert {
        ("Verifying", "target/web", "restore"),
        ("Verifying", "configmap/flags", "restore", "set"),
    } <= set(held)


def verified() -> dict[str, Any]:
    """A Release whose rollback is verified by a measurement and a Job."""
    health = {"name": "health", "prometheus": {"query": "health"}, "max": "1%"}
    return spec() | {"rollback": {"verify": [health, {"name": "smoke", "job": {"image": "tools"}}]}}


def verifying(careful: dict[str, Any] | None = None) -> World:
    """A rollback that has returned everything, and whose verification has no answer yet."""
    world = World(spec=careful or verified()).settle()
    world.gates = {"errors": "Failed", "health": "Holding"}
    world.later(3)
    assert world.phase() == "Verifying"
    return world


def others_change(world: World, subject: str, words: str) -> None:
    """Once, while it is verified; then all goes well."""
    world.changed = {subject: words}
    world.settle()
    world.changed.clear()
    world.gates["health"] = "Passing"
    world.later(10)


def restores(world: World) -> list[str]:
    return [operation.key for operation in world.performed if operation.kind == "restore"]


def test_what_others_overwrite_while_it_is_restored_is_restored_once_more() -> None:
    world = World().settle()
    world.gates["errors"], world.slow = "Failed", {"web"}
    world.settle()
    world.live = "2.0"
    world.later(5)
    assert world.live == "1.0" and len(set(restores(world))) == 1, (
        "the same operation, not another one"
    )
    world.slow.clear()
    world.later(5)
    assert world.outcome() == "RolledBack"


def test_what_others_overwrite_before_it_is_verified_is_returned_once_and_verified_anew() -> None:
    world = verifying()
    assert len(restores(world)) == 1
    world.live = "2.0"
    world.later(3)
    assert world.live == "1.0" and len(restores(world)) == 2
    assert len([done for done in world.done("job") if "smoke" in done]) == 2
    assert [note.reason for note in world.notes].count("RollbackHindered") == 1
    world.gates["health"] = "Passing"
    world.later(3)
    assert world.outcome() == "RolledBack"


def test_what_others_overwrite_again_and_again_fails_the_rollback_with_what_they_did() -> None:
    world = verifying()
    for _ in range(2):
        world.live = "2.0"
        world.later(3)
    assert world.live == "2.0" and len(restores(world)) == 2, "nobody is fought"
    world.jump(3600)
    assert world.outcome() == "RollbackFailed"


def test_a_rollback_that_is_repeated_is_verified_anew() -> None:
    world = World(spec=verified(), jobs={"smoke": Progress("Failed", "exit code 1")})
    world.gates["errors"] = "Failed"
    world.settle()
    assert world.outcome() == "RollbackFailed"
    world.jobs.clear()
    world.act("Rollback")
    world.later(3)
    assert world.outcome() == "RolledBack", world.status.message
    assert len([done for done in world.done("job") if "smoke" in done]) == 2


def test_a_compensation_that_had_nothing_to_undo_is_not_run_by_a_repeat() -> None:
    careful = spec() | {
        "rollback": {"verify": [{"name": "health", "prometheus": {"query": "health"}, "max": "1%"}]}
    }
    world = World(spec=careful, jobs={"backup": Progress("Failed", "exit code 1")})
    world.gates["health"] = "Failed"
    world.settle()
    world.jump(3600)
    assert world.outcome() == "RollbackFailed" and lines(world)["step/restore"] == "Skipped"
    world.gates.clear()
    world.act("Rollback")
    world.later(3)
    assert world.outcome() == "RolledBack" and "job restore" not in world.done("job")


def test_the_budget_of_a_stage_counts_when_a_later_one_has_failed() -> None:
    careful = two_compensations()
    careful["stages"][0]["rollback"]["within"] = "3s"
    world = World(spec=careful, slow={"restore"}, gates={"errors": "Failed"}).settle()
    world.later(2)
    assert "RollbackOverdue" not in [note.reason for note in world.notes]
    world.later(10)
    (told,) = [note.message for note in world.notes if note.reason == "RollbackOverdue"]
    assert "undoing stage migrate exceeds its budget" in told
    world.slow.clear()
    world.later(2)
    assert world.outcome() == "RolledBack" and not world.run.timers


def test_what_a_compensation_published_is_kept_for_people() -> None:
    world = World(spec=two_compensations(), gates={"errors": "Failed"}).settle()
    world.later(3)
    (line,) = [line for line in world.rollback.undo if line.subject == "step/purge"]
    assert line.outputs == {"id": "purge-1"}


def test_what_is_live_is_told_again_by_the_run_after_a_failed_rollback() -> None:
    world = failed_rollback()
    world.live = "1.0"
    world.act("Confirm")
    assert world.status.live is None
    world.jobs["backup"] = Progress("Failed", "exit code 1")
    world.act("Retry")
    world.later(3)
    assert world.outcome() == "RolledBack" and world.served.version == "1.0"
    assert world.message.startswith("serving 1.0;")


def test_an_edit_of_the_same_version_does_not_start_on_what_is_not_verified() -> None:
    world = failed_rollback()
    world.ask(guardFor="5s").settle()
    assert "not verified" in world.message and "a person has said" not in world.message
    assert "kubectl release rollback web" in world.waiting_for.message and world.status.runs == 1


def test_where_the_snapshots_of_a_failed_rollback_are_lost_a_person_says_what_is_good() -> None:
    world = failed_rollback()
    world.lost = "there is no ControllerRevision web-1"
    world.gates.clear()
    world.ask("3.0").later(3)
    assert world.status.runs == 1 and "what was there before it is lost" in world.message
    assert "bring it back by hand" in world.answer("Retry").message and world.status.runs == 1
    assert "said to be good" in world.answer("Confirm").message
    world.later(12)
    assert world.served.version == "3.0"


def test_the_first_version_is_not_promoted_by_being_called_as_what_was_there() -> None:
    world = World(spec=spec("1.0", adopt="Never"), gates={"errors": "Failed"}).settle()
    world.later(3)
    assert world.outcome() == "RolledBack"
    assert world.status.state == "RolledBack" and conditions(world)["Ready"] == "False"
    world.gates.clear()
    assert "starts again" in world.answer("Retry").message
    world.later(12)
    assert world.outcome() == "Promoted" and conditions(world)["Ready"] == "True"


def test_what_others_do_while_compensations_run_on_the_same_target_is_seen() -> None:
    careful = spec()
    mode = {"target": "web", "container": "app", "set": {"MODE": "safe"}}
    careful["stages"][1]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "off", "flags": mode}],
    }
    careful["stages"][0]["rollback"]["reach"] = "Release"
    world = World(spec=careful | {"rollback": {"within": "2m"}}, gates={"errors": "Failed"})
    world.slow.add("restore")
    world.settle()
    assert lines(world)["step/off"] == "Succeeded"
    world.live = "3.0"
    world.slow.clear()
    world.later(30)
    assert world.outcome() == "RolledBack" and world.live == "1.0"
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "restore", "set", "restore", "set"]


def test_pods_start_anew_when_their_configuration_could_only_be_returned_later() -> None:
    careful = spec()
    careful["targets"][0]["workload"]["config"] = [{"configMap": "settings"}]
    world = World(spec=careful, gates={"errors": "Failed"})
    world.refused = {"configmap/settings": "403 policy"}
    world.settle().later(5)
    assert (
        lines(world)["target/web"] == "Succeeded"
        and lines(world)["configmap/settings"] == "Running"
    )
    world.refused.clear()
    world.later(60)
    assert world.outcome() == "RolledBack"
    first, second = [
        item for item in world.performed if item.kind == "restore" and item.subject == "target/web"
    ]
    assert not first.restart and second.restart and first.key != second.key


def test_what_a_compensation_has_set_stays_when_the_rollback_is_repeated() -> None:
    careful = spec()
    mode = {"target": "web", "container": "app", "set": {"MODE": "safe"}}
    careful["stages"][1]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "off", "flags": mode}],
    }
    careful["stages"][0]["rollback"]["reach"] = "Release"
    world = World(
        spec=careful,
        gates={"errors": "Failed"},
        jobs={"restore": Progress("Failed", "exit code 1")},
    )
    world.settle().later(3)
    assert world.outcome() == "RollbackFailed"
    world.jobs.clear()
    world.act("Rollback")
    world.later(3)
    assert world.outcome() == "RolledBack"
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "restore", "set", "restore", "set"], (
        "what the compensation has set is set again"
    )


def test_a_verification_that_has_not_ended_is_stopped_before_it_is_made_once_more() -> None:
    world = World(spec=verified(), slow={"smoke"}, gates={"errors": "Failed"}).settle()
    world.jump(3600)
    assert world.outcome() == "RollbackFailed" and "smoke has not ended" in world.message
    assert "stop job/smoke" in world.done("stop"), "nobody waits for it any more"
    world.slow.clear()
    world.act("Rollback")
    world.later(3)
    assert world.outcome() == "RolledBack"
    kinds = [
        item.kind for item in world.performed if "smoke" in item.subject or item.kind == "stop"
    ]
    assert kinds == ["job", "stop", "stop", "job"]


def test_what_was_returned_and_does_not_run_is_not_called_done() -> None:
    world = verifying()
    world.ails = "container app of pod web-1 crashes again and again (CrashLoopBackOff)"
    world.gates["health"] = "Passing"
    world.later(20)
    assert world.outcome() is None and "CrashLoopBackOff" in world.waiting_for.message
    world.ails, world.troubled = "", world.now
    world.later(20)
    assert world.outcome() is None, "it is up for a moment, as what crashes again and again is"
    world.later(12)
    assert world.outcome() == "RolledBack"


def test_what_a_compensation_has_set_is_set_again_when_pods_start_anew() -> None:
    careful = spec()
    careful["targets"][0]["workload"]["config"] = [{"configMap": "settings"}]
    mode = {"target": "web", "container": "app", "set": {"MODE": "safe"}}
    careful["stages"][1]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "off", "flags": mode}],
    }
    world = World(spec=careful, gates={"errors": "Failed"})
    world.refused = {"configmap/settings": "403 policy"}
    world.settle().later(5)
    world.refused.clear()
    world.later(60)
    assert world.outcome() == "RolledBack"
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "restore", "restore", "set"], "it waits for the configuration"


def test_what_a_compensation_has_set_in_a_target_is_what_it_is_to_be_at_rest() -> None:
    careful = spec()
    mode = {"target": "web", "container": "app", "set": {"MODE": "safe"}}
    careful["stages"][1]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "off", "flags": mode}],
    }
    world = World(spec=careful, gates={"errors": "Failed"}).settle().later(5)
    assert world.outcome() == "RolledBack"
    held = world.wants(world.view()).holdings
    assert [(item.subject, [one.kind for one in item.operations]) for item in held] == [
        ("target/web", ["restore", "set"])
    ]
    assert held[0].operations[1].config["set"] == {"MODE": "safe"}
    assert world.served.snapshot is not None
    assert world.data[world.served.snapshot]["snapshots"] == {"target/web": {"of": "1.0"}}


def test_pods_start_anew_when_others_have_changed_their_configuration_meanwhile() -> None:
    careful = verified()
    careful["targets"][0]["workload"]["config"] = [{"configMap": "settings"}]
    world = verifying(careful)
    others_change(world, "configmap/settings", "configmap/settings: MODE is evil")
    assert world.outcome() == "RolledBack"
    starts = [
        item.restart
        for item in world.performed
        if item.kind == "restore" and item.subject == "target/web"
    ]
    assert starts == [False, True], "they may have read what was there"


def test_a_verification_that_is_made_anew_stops_the_one_before_it() -> None:
    world = World(spec=verified(), slow={"smoke"}, gates={"errors": "Failed"}).settle().later(3)
    assert world.phase() == "Verifying"
    world.live = "2.0"
    world.later(3)
    jobs = [item.kind for item in world.performed if item.subject.startswith("job/")]
    assert jobs[-2:] == ["stop", "job"]
    world.slow.clear()
    world.later(3)
    assert world.outcome() == "RolledBack"


def test_what_others_do_to_what_only_a_compensation_has_set_is_seen() -> None:
    careful = verified()
    flags = {"configMap": "extra", "set": {"beta": "off"}}
    careful["stages"][0]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "off", "flags": flags}],
    }
    world = verifying(careful)
    others_change(world, "configmap/extra", "configmap/extra: beta is on")
    assert world.outcome() == "RolledBack"
    assert world.done("set") == ["set configmap/extra", "set configmap/extra"]


def test_what_has_only_just_rolled_out_is_watched_for_a_moment() -> None:
    world = verifying()
    world.rolled_out, world.gates["health"] = world.now, "Passing"
    world.later(3)
    assert world.phase() == "Verifying"
    world.ails = "container app of pod web-1 restarted 1 time"
    world.later(30)
    assert world.outcome() is None
    world.ails, world.troubled = "", None
    world.later(1)
    assert world.outcome() == "RolledBack"


def test_what_was_refused_all_the_time_keeps_no_other_compensation() -> None:
    world = World(spec=two_compensations(), gates={"errors": "Failed"})
    world.refused_jobs = {"purge": "403 policy"}
    world.settle().jump(1900)
    run = world.run
    assert run.outcome == "RollbackFailed" and "step/purge" in str(run.reason)
    assert lines(world)["step/restore"] == "Succeeded", "what was never begun cannot be going on"


def test_a_stop_that_is_refused_all_the_time_keeps_the_others() -> None:
    world = World(spec=two_compensations(), slow={"purge"}, gates={"errors": "Failed"}).settle()
    world.refused_stops = True
    world.jump(1861)
    world.later(130)
    assert world.outcome() == "RollbackFailed" and lines(world)["step/restore"] == "Skipped"


def test_what_a_compensation_has_set_in_a_target_that_the_run_has_not_touched_is_what_it_is_to_be() -> (
    None
):
    careful = spec()
    mode = {"target": "web", "container": "app", "set": {"MODE": "safe"}}
    careful["stages"][0]["rollback"] = {"reach": "Stage", "steps": [{"name": "off", "flags": mode}]}
    world = (
        World(spec=careful, jobs={"migrate": Progress("Failed", "exit code 1")}).settle().later(5)
    )
    assert world.outcome() == "RolledBack" and world.done("apply") == []
    held = world.wants(world.view()).holdings
    assert [[one.kind for one in item.operations] for item in held] == [["restore", "set"]]


def chained(**jobs: Progress) -> World:
    """A compensation that requires what the one before it produces."""
    careful = spec()
    steps = [
        {"name": "stop", "job": {"image": "tools"}, "produces": "stopped"},
        {"name": "restore", "job": {"image": "tools"}, "requires": ["backup", "stopped"]},
    ]
    careful["stages"][0]["rollback"] = {"reach": "Release", "steps": steps}
    return World(spec=careful, gates={"errors": "Failed"}, jobs=dict(jobs)).settle().later(5)


def test_a_compensation_may_require_what_the_one_before_it_produces() -> None:
    world = chained()
    assert world.outcome() == "RolledBack" and lines(world)["step/restore"] == "Succeeded"


def test_what_a_compensation_requires_and_does_not_get_is_undone_by_a_repeat() -> None:
    world = chained(stop=Progress("Failed", "exit code 1"))
    assert world.outcome() == "RollbackFailed" and lines(world)["step/restore"] == "Skipped"
    assert "step/restore: not started: nothing has produced stopped" in str(world.run.reason)
    world.jobs.clear()
    world.act("Rollback")
    world.later(5)
    assert world.outcome() == "RolledBack" and lines(world)["step/restore"] == "Succeeded"


def of_a_later_stage(**more: Any) -> dict[str, Any]:
    """The compensation of a later stage sets what an earlier one has changed, which returns after
    it."""
    careful = spec() | more
    mode = {"target": "web", "container": "app", "set": {"MODE": "safe"}}
    careful["stages"].append(
        {
            "name": "beta",
            "steps": [{"name": "ask", "confirm": {"instructions": "look"}}],
            "rollback": {
                "reach": "Release",
                "steps": [
                    {"name": "off", "flags": mode},
                    {"name": "purge", "job": {"image": "tools"}},
                ],
            },
        }
    )
    return careful


def test_what_returns_after_a_compensation_has_the_last_word() -> None:
    world = World(spec=of_a_later_stage()).settle().later(12)
    assert world.status.state == "WaitingForPerson"
    world.slow.add("purge")
    world.act("Rollback")
    world.later(30)
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "set"], "it is set once, while another compensation runs"
    world.slow.clear()
    held = []
    while world.outcome() is None:
        world.tick()
        wants = world.wants(world.view())
        held += [
            tuple(one.kind for one in item.operations)
            for item in wants.holdings
            if item.subject == "target/web"
        ]
    assert world.outcome() == "RolledBack"
    assert ("set", "restore") in held, "the compensation came before: the restore has the last word"
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "set", "restore"]


def test_what_is_ready_only_with_what_a_compensation_sets_is_not_taken_back_to_before_it() -> None:
    careful = spec()
    mode = {"target": "web", "container": "app", "set": {"MODE": "safe"}}
    careful["stages"][1]["rollback"] = {
        "reach": "Release",
        "steps": [{"name": "off", "flags": mode}],
    }
    world = World(spec=careful, gates={"errors": "Failed"}, unready_until="set target/web").settle()
    world.jump(1861)
    assert world.outcome() == "RolledBack" and lines(world)["target/web"] == "Succeeded"
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "restore", "set"]


def test_a_repeated_rollback_keeps_the_order_of_what_is_set_and_returned() -> None:
    careful = of_a_later_stage(rollback={"verify": [{"name": "smoke", "job": {"image": "tools"}}]})
    world = (
        World(spec=careful, jobs={"smoke": Progress("Failed", "exit code 1")}).settle().later(12)
    )
    world.act("Rollback")
    world.later(3)
    assert world.outcome() == "RollbackFailed"
    world.jobs.clear()
    world.act("Rollback")
    world.later(3)
    assert world.outcome() == "RolledBack"
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "set", "restore", "set", "restore"]
    held = world.wants(world.view()).holdings
    assert [[one.kind for one in item.operations] for item in held] == [["set", "restore"]], (
        "at rest, too"
    )


def test_what_others_take_away_that_a_compensation_has_set_before_a_restore_is_set_again() -> None:
    careful = of_a_later_stage(rollback=verified()["rollback"])
    world = World(spec=careful).settle().later(12)
    world.gates["health"] = "Holding"
    world.act("Rollback")
    world.later(3)
    assert world.phase() == "Verifying"
    world.live = "3.0"
    world.later(3)
    kinds = [item.kind for item in world.performed if item.subject == "target/web"]
    assert kinds == ["apply", "set", "restore", "set", "restore"]


def test_a_retry_may_pin_an_edit_with_more_stages() -> None:
    careful = spec()
    careful["stages"][1]["onFailure"] = "Pause"
    careful["notify"] = [{"events": ["StagePassed"], "slack": {"channel": "#deployments"}}]
    world = World(spec=careful, gates={"errors": "Failed"}).settle()
    assert world.phase() == "Paused"
    world.gates.clear()
    world.ask(
        stages=[*careful["stages"], {"name": "after", "steps": [{"name": "nap", "wait": "1s"}]}]
    )
    world.act("Retry")
    world.later(20)
    assert world.outcome() == "Promoted"
    assert [stage.name for stage in world.run.stages] == ["migrate", "deploy", "after"]


def test_what_a_compensation_has_set_before_a_restore_returns_with_it() -> None:
    world = World(spec=of_a_later_stage()).settle().later(12)
    world.act("Rollback")
    world.later(30)
    assert world.outcome() == "RolledBack"
    (restored,) = [
        item for item in world.performed if item.kind == "restore" and item.subject == "target/web"
    ]
    assert [one.kind for one in restored.changes] == ["apply", "set"], (
        "as wide as what was done to it, all of it"
    )
    (held,) = world.wants(world.view()).holdings
    assert [one.kind for one in held.operations[-1].changes] == ["set"], "at rest, too"


def test_nobody_runs_it_is_said_for_as_long_as_nobody_does() -> None:
    world = (
        World(remark="nobody runs it: Deployment web wants no pods", gates={"errors": "Failed"})
        .settle()
        .later(12)
    )
    assert world.outcome() == "RolledBack" and "nobody runs it" in world.message
    world.remark = ""
    world.later(12)
    assert "nobody runs it" not in world.message and not world.served.caveat


def test_a_difference_is_said_while_a_person_is_asked_what_to_do() -> None:
    careful = spec()
    careful["stages"][1]["onFailure"] = "Pause"
    world = World(spec=careful, gates={"errors": "Failed"}).settle()
    assert world.status.state == "Paused"
    world.live = "hotfix"
    world.later(3)
    assert world.status.state == "Paused" and "hotfix" in world.message


def test_what_is_too_much_to_keep_is_ended_by_its_own_run_or_a_person() -> None:
    world = failed_rollback()
    run = world.run
    many = [f"configmap/{number:04}" for number in range(1000)]
    assert rollback_end._bound_subjects(run, ["target/old"], ["target/web"]) == [
        "target/old",
        "target/web",
    ]
    assert rollback_end._bound_subjects(run, ["target/old"], many) == [
        "target/old",
        f"run {run.id}: {rollback_end.TOO_MANY_SUBJECTS}",
    ]
    assert rollback_end._bound_subjects(run, many, ["target/web"]) == [
        rollback_end.TOO_MANY_SUBJECTS,
        f"run {run.id}: {rollback_end.TOO_MANY_SUBJECTS}",
    ]
    world.unverified.subjects = [
        "target/old",
        f"run {run.id}: {rollback_end.TOO_MANY_SUBJECTS}",
    ]
    world.act("Rollback")
    world.later(12)
    assert world.outcome() == "RolledBack" and world.unverified.subjects == ["target/old"]
