"""Releases walked on a real API server: what must happen, what users then see, and the oracle's word on each.

The operator is a real process with the shipped rights; Deployments and Jobs are acted on by the real controllers, pods
by the harness' kubelet, gates are answered by a scripted stand-in. Every test has a namespace of its own and ends with
the oracle.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.harness.lab import Lab, Site, require
from tests.harness.proxy import Fault, WatchAct, WatchFault
from tests.harness.scenarios import (
    BAKE,
    TARGET,
    crash_rollback,
    deploy,
    env,
    five,
    gate,
    job,
    query,
    simple,
)

pytestmark = pytest.mark.apiserver
SEED = "canary-7f3a9e51-token"
RETRY = "gatewright.dev/retry"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require()
    with Lab(seeds=[SEED], arguments=["--log-level", "DEBUG"]) as started:
        started.operator.start()
        yield started
        assert not started.background.failures
        assert started.operator.lives == 1 or started.operator.alive


@pytest.fixture
def site(lab: Lab) -> Site:
    """A namespace with the deployment of version 1.0.0, its flags, and good answers."""
    if not lab.operator.alive:
        lab.operator.start()
    made = lab.namespace()
    made.deployment()
    made.configmap("web-flags", {"VOICE": "off", "KEPT": "yes"})
    lab.standin.number(query("errors", made.name), 0.001)
    lab.standin.number(query("latency", made.name), 0.05)
    return made


def errors(site: Site, value: float) -> None:
    site.lab.standin.number(query("errors", site.name), value)


def stage_is(index: int, *states: str) -> Callable[[Any], Any]:
    """A stage in one of some states."""
    return lambda status: ((status.get("run") or {}).get("stages") or [{}] * 9)[index].get("state") in states


def state_is(*states: str) -> Callable[[Any], Any]:
    """A Release in one of some states."""
    return lambda status: status.get("state") in states


def message_has(words: str) -> Callable[[Any], Any]:
    """Words in what users read."""
    return lambda status: (
        words in status.get("message", "") or words in (status.get("waitingFor") or {}).get("message", "")
    )


def staged(site: Site, *steps: dict[str, Any], **stage: Any) -> dict[str, Any]:
    """A Release with one stage of these steps."""
    return {"version": "2.0.0", "targets": [TARGET], "stages": [{"name": "ship", "steps": list(steps), **stage}]}


# ---------------------------------------------------------------------------------------------------------------
# The way forward


def test_five_stages_end_promoted(site: Site) -> None:
    site.apply(five(site.name))
    status = site.ended("Promoted", 40)
    assert [stage["state"] for stage in status["run"]["stages"]] == ["Passed"] * 5
    assert (site.image(), site.data("web-flags")) == ("shop/web:2.0.0", {"VOICE": "true", "KEPT": "yes"})
    assert [one.command for one in site.lab.world.runs(site.name)] == [
        ("backup",),
        ("migrate", "2.0.0", "b-1"),  # the backup's id, from its termination message
        ("smoke",),
    ]
    assert status["live"]["version"] == status["lastGood"]["version"] == "2.0.0"
    assert [(past["version"], past["outcome"]) for past in status["history"]] == [("2.0.0", "Promoted")]
    assert site.condition("Ready")["status"] == site.condition("Succeeded")["status"] == "True"
    assert not site.condition("Reconciling")
    assert not site.condition("Stalled")
    report = site.clean()
    assert report.noops == []
    assert site.quiet(2) == []


def test_each_transition_has_one_event(site: Site) -> None:
    site.apply(five(site.name))
    site.ended("Promoted", 40)
    time.sleep(1)
    ours = [item for item in site.events() if item["reportingController"].startswith("gatewright")]
    assert sorted(item["reason"] for item in ours) == ["Promoted", "StagePassed", "StagePassed", "StagePassed",
                                                      "StagePassed", "StagePassed", "Started"]  # fmt: skip


def test_the_second_version_starts_where_the_first_ended(site: Site) -> None:
    site.apply(simple(site.name))
    site.ended("Promoted")
    site.change({"version": "2.1.0"})
    status = site.ended("Promoted", run=2)
    assert site.image() == "shop/web:2.1.0"
    assert [past["version"] for past in status["history"]] == ["2.1.0", "2.0.0"]
    site.clean()


def test_what_is_live_already_is_adopted_without_a_run(site: Site) -> None:
    site.apply(simple(site.name, "1.0.0"))
    status = site.until(state_is("Promoted"))
    assert "run" not in status
    assert status["lastGood"]["version"] == status["live"]["version"] == "1.0.0"
    assert site.condition("Ready")["status"] == "True"
    report = site.clean()
    assert "I5" in report.checked
    assert not [one for one in site.writes() if one.user == "gatewright-operator" and one.resource == "deployments"]


def test_a_deployment_without_replicas_passes(site: Site) -> None:
    site.lab.api.merge(f"/apis/apps/v1/namespaces/{site.name}/deployments/web", {"spec": {"replicas": 0}})
    site.apply(simple(site.name))
    site.ended("Promoted")
    site.clean()


# ---------------------------------------------------------------------------------------------------------------
# The way back


def test_a_gate_in_breach_rolls_back_from_the_third_stage(site: Site) -> None:
    site.lab.standin.number(query("broken", site.name), 0.2)
    site.apply(crash_rollback(site.name))
    status = site.ended("RolledBack", 40)
    assert (site.image(), site.data("web-flags")) == ("shop/web:1.0.0", {"VOICE": "off", "KEPT": "yes"})
    assert [one.command[0] for one in site.lab.world.runs(site.name)] == ["backup", "migrate", "restore", "smoke"]
    assert [stage["state"] for stage in status["run"]["stages"]] == [
        "RolledBack",
        "RolledBack",
        "Failed",
        "Pending",
        "Pending",
    ]
    assert status["lastGood"]["version"] == status["live"]["version"] == "1.0.0"
    (rejected,) = status["rejected"]
    assert (rejected["version"], rejected["gate"]) == ("2.0.0", "broken")
    assert "20% > 1%" in rejected["reason"]
    ready = site.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RolledBack")
    assert ready["message"].startswith("serving 1.0.0 normally; 2.0.0 rejected by")
    assert site.condition("RolledBack")["status"] == "True"
    site.clean()
    assert site.quiet(2) == []


def test_a_failing_migration_is_compensated_and_nothing_is_deployed(site: Site) -> None:
    spec = five(site.name)
    spec["stages"][0]["steps"][1] = job("migrate", ["migrate"], requires=["backup"], FAKE_EXIT="3",
                                        FAKE_OUTPUT='{"failed": "relation users exists"}')  # fmt: skip
    spec["stages"][0]["rollback"]["reach"] = "Stage"
    site.apply(spec)
    status = site.ended("RolledBack", 40)
    assert [one.command[0] for one in site.lab.world.runs(site.name)] == ["backup", "migrate", "restore"]
    assert site.lab.world.runs(site.name, "restore")[0].command == ("restore", "b-1")
    for words in ("migrate", "exit code 3", "relation users exists"):
        assert words in status["message"]
    assert site.image() == "shop/web:1.0.0"
    assert not [one for one in site.writes() if one.user == "gatewright-operator" and one.resource == "deployments"]
    site.clean()


def test_a_compensation_that_only_its_own_stage_needs_is_left_out(site: Site) -> None:
    site.lab.standin.number(query("broken", site.name), 0.2)
    spec = crash_rollback(site.name)
    spec["stages"][0]["rollback"]["reach"] = "Stage"
    site.apply(spec)
    site.ended("RolledBack", 40)
    assert [one.command[0] for one in site.lab.world.runs(site.name)] == ["backup", "migrate", "smoke"]
    site.clean()


def test_guards_are_asked_while_the_first_change_hangs(site: Site) -> None:
    """What is not measured cannot be seen to break: guards begin with the first change, not after its answer."""

    def first(call: Any) -> bool:
        return (call.method, call.resource) == ("PATCH", "deployments") and f"/{site.name}/" in call.path

    guard, held = query("errors", site.name), Fault(first, "delay", seconds=5)
    with site.lab.proxy.fault(held):
        site.apply(simple(site.name, guards=[gate("errors", guard, "5%")]))
        site.lab.wait(lambda: held.used, 10, "the change to be on its way")
        site.lab.wait(lambda: site.lab.standin.asked(guard), 3, "the guard's first question")
        assert site.image() == "shop/web:1.0.0", "the change has been answered: nothing was shown"
    site.ended("Promoted", 30)
    site.clean()


def test_a_guard_in_breach_while_guarding_rolls_everything_back(site: Site) -> None:
    guard = gate("errors", query("errors", site.name), "5%", failureThreshold=2)
    site.apply(simple(site.name, guards=[guard], guardFor="60s"))
    site.until(state_is("Guarding"))
    assert site.condition("Ready")["status"] == "True"
    assert site.image() == "shop/web:2.0.0"
    errors(site, 0.3)
    status = site.ended("RolledBack")
    assert site.image() == "shop/web:1.0.0"
    assert "30% > 5%" in status["message"]
    assert status["lastGood"]["version"] == "1.0.0"
    site.clean()


def test_a_guard_that_only_notifies_changes_nothing(site: Site) -> None:
    errors(site, 0.3)
    watched = gate("errors", query("errors", site.name), "5%") | {"action": "Notify"}
    site.apply(staged(site, deploy(), bake=BAKE) | {"guards": [watched], "guardFor": "500ms"})
    site.ended("Promoted")
    site.clean()


def test_a_rollback_whose_verification_fails_calls_somebody(site: Site) -> None:
    site.lab.standin.number(query("broken", site.name), 0.2)
    spec = crash_rollback(site.name)
    spec["rollback"]["verify"] = [{"name": "smoke", "job": {"image": "shop/smoke:1", "command": ["smoke"],
                                                            "env": env(FAKE_EXIT="1")}}]  # fmt: skip
    site.apply(spec)
    status = site.ended("RollbackFailed", 40)
    assert "smoke" in status["message"]
    stalled = site.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RollbackFailed")
    assert site.condition("RolledBack")["status"] == "False"
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_a_rejected_version_runs_again_only_when_asked(site: Site) -> None:
    errors(site, 0.3)
    site.apply(simple(site.name))
    site.ended("RolledBack")
    errors(site, 0.001)
    site.change({"vars": {"note": "GitOps applies it again"}})
    assert site.quiet(1.5) == []
    assert site.status()["run"]["id"] == 1
    site.annotate(RETRY, "please-1")
    status = site.ended("Promoted", run=2)
    assert status["retry"] == "please-1"
    assert "rejected" not in status
    assert status["run"]["attempt"] == 2
    site.annotate("example.com/other", "x")
    assert site.quiet(1.5) == []
    site.clean()


# ---------------------------------------------------------------------------------------------------------------
# People and other Releases


def test_a_suspended_release_does_not_start(site: Site) -> None:
    site.apply(simple(site.name, suspend=True))
    site.until(state_is("Suspended"))
    assert site.condition("Paused")["status"] == "True"
    assert site.image() == "shop/web:1.0.0"
    site.change({"suspend": False})
    site.ended("Promoted")
    site.clean()


def test_suspension_stops_the_bake_and_guards_go_on(site: Site) -> None:
    guard = gate("errors", query("errors", site.name), "5%")
    site.apply(simple(site.name, bake="1s", guards=[guard], guardFor="1s"))
    site.until(stage_is(0, "Gating", "Baking"))
    site.change({"suspend": True})
    site.until(state_is("Suspended"))
    time.sleep(1.5)
    assert stage_is(0, "Gating", "Baking")(site.status()), "the bake went on while suspended"
    errors(site, 0.3)
    site.ended("RolledBack")
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_suspension_lifted_goes_on_where_it_stood(site: Site) -> None:
    site.apply(simple(site.name, bake="1s"))
    site.until(stage_is(0, "Gating", "Baking"))
    site.change({"suspend": True})
    site.until(state_is("Suspended"))
    time.sleep(1)
    site.change({"suspend": False})
    site.ended("Promoted")
    site.clean()


def test_deleting_in_the_middle_of_a_run_undoes_it_first(site: Site) -> None:
    site.apply(simple(site.name, bake="30s"))
    site.until(stage_is(0, "Baking"))
    assert site.image() == "shop/web:2.0.0"
    site.delete()
    site.lab.wait(lambda: site.release() is None, 20, "the Release to vanish")
    assert site.image() == "shop/web:1.0.0"
    history = site.lab.recording.of("releases", site.name)["shop"]
    assert history[-1].body["status"]["run"]["outcome"] == "Aborted"
    site.clean()


def test_deleting_at_rest_is_immediate(site: Site) -> None:
    site.apply(simple(site.name))
    site.ended("Promoted")
    site.delete()
    site.lab.wait(lambda: site.release() is None, 5, "the Release to vanish")
    assert site.image() == "shop/web:2.0.0"
    site.clean()


def test_a_release_of_the_same_name_begins_anew(site: Site) -> None:
    site.apply(staged(site, job("migrate"), deploy()))
    site.ended("Promoted")
    site.delete()
    site.lab.wait(lambda: site.release() is None, 5, "the Release to vanish")
    site.apply(staged(site, job("migrate"), deploy()) | {"version": "2.1.0"})
    site.ended("Promoted")
    assert len(site.lab.world.runs(site.name, "migrate")) == 2
    assert site.image() == "shop/web:2.1.0"


def test_two_releases_of_one_target_exclude_each_other(site: Site) -> None:
    site.apply(simple(site.name, bake="4s"), "first")
    site.until(stage_is(0, "Gating", "Baking"), name="first")
    site.apply(simple(site.name, "3.0.0"), "second")
    site.until(message_has("waits for release first"), name="second")
    assert site.image() == "shop/web:2.0.0"
    site.ended("Promoted", name="first")
    site.ended("Promoted", name="second")
    assert site.image() == "shop/web:3.0.0"
    site.clean()


def test_two_releases_made_at_once_exclude_each_other(site: Site) -> None:
    for number in range(4):
        site.apply(simple(site.name, f"{number + 2}.0.0"), f"r{number}")
    for number in range(4):
        site.ended("Promoted", 40, f"r{number}")
    spans = []
    for versions in site.lab.recording.of("releases", site.name).values():
        runs = [one for one in versions if (one.body.get("status") or {}).get("run")]
        spans.append((runs[0].rv, next(one.rv for one in runs if one.body["status"]["run"].get("outcome"))))
    spans.sort()
    assert all(old[1] < new[0] for old, new in pairwise(spans)), f"runs overlapped: {spans}"
    site.clean()


def test_a_new_version_waits_in_the_queue(site: Site) -> None:
    site.apply(simple(site.name, bake="1s"))
    site.until(stage_is(0, "Gating", "Baking"))
    site.change({"version": "3.0.0"})
    site.until(message_has("3.0.0 waits"))
    status = site.ended("Promoted", run=2)
    assert [(past["version"], past["outcome"]) for past in status["history"]] == [
        ("3.0.0", "Promoted"),
        ("2.0.0", "Promoted"),
    ]
    site.clean()


def test_a_new_version_replaces_the_run(site: Site) -> None:
    site.apply(simple(site.name, bake="60s", supersede="Replace"))
    site.until(stage_is(0, "Gating", "Baking"))
    site.change({"version": "3.0.0", "stages": simple(site.name)["stages"]})
    status = site.ended("Promoted", run=2)
    assert [(past["version"], past["outcome"]) for past in status["history"]] == [
        ("3.0.0", "Promoted"),
        ("2.0.0", "Superseded"),
    ]
    assert "rejected" not in status
    assert site.image() == "shop/web:3.0.0"
    site.clean()


def test_a_new_version_is_ignored_where_that_is_wanted(site: Site) -> None:
    site.apply(simple(site.name, bake="1s", supersede="Reject"))
    site.until(stage_is(0, "Gating", "Baking"))
    site.change({"version": "3.0.0"})
    site.until(message_has("3.0.0 is ignored"))
    site.ended("Promoted", run=1)
    assert site.quiet(1.5) == []
    assert site.status()["run"]["id"] == 1
    assert site.image() == "shop/web:2.0.0"
    site.clean()


def test_edited_stages_count_from_the_next_run(site: Site) -> None:
    site.apply(simple(site.name, bake="1s"))
    site.until(stage_is(0, "Gating", "Baking"))
    site.change({"stages": [{"name": "other", "steps": [job("surprise")]}]})
    status = site.ended("Promoted")
    assert [stage["name"] for stage in status["run"]["stages"]] == ["ship"]
    assert site.jobs("surprise") == []
    site.clean()


def test_observing_acts_on_nothing(site: Site) -> None:
    site.apply(five(site.name) | {"mode": "Observe"})
    site.ended("Observed", 40)
    assert site.image() == "shop/web:1.0.0"
    assert site.data("web-flags")["VOICE"] == "off"
    assert site.jobs() == []
    effects = {"deployments", "configmaps", "jobs"}
    assert not [one for one in site.writes() if one.user == "gatewright-operator" and one.resource in effects]
    site.clean()


def test_observing_says_what_it_would_have_undone(site: Site) -> None:
    errors(site, 0.3)
    site.apply(simple(site.name, mode="Observe"))
    status = site.ended("Observed")
    assert "would roll back" in status["message"]
    assert "30% > 1%" in status["message"]
    site.clean()


def test_a_failed_stage_may_wait_for_a_person(site: Site) -> None:
    site.apply(staged(site, job("smoke", FAKE_EXIT="1"), deploy(), onFailure="Pause"))
    site.until(state_is("Paused"))
    assert site.condition("Stalled")["status"] == "True"
    assert "exit code 1" in site.status()["message"]
    site.annotate(RETRY, "again")
    site.until(lambda status: status["run"]["stages"][0].get("attempt") == 2 and status["state"] == "Paused")
    assert len(site.lab.world.runs(site.name, "smoke")) == 2
    site.clean(ended=False)


def test_a_failed_stage_may_be_passed_over(site: Site) -> None:
    spec = staged(site, job("smoke", FAKE_EXIT="1"), onFailure="Continue")
    spec["stages"].append({"name": "next", "steps": [deploy()]})
    site.apply(spec)
    status = site.ended("Promoted")
    assert [stage["state"] for stage in status["run"]["stages"]] == ["Failed", "Passed"]
    site.clean()


# ---------------------------------------------------------------------------------------------------------------
# What only the operator can refuse, and what goes wrong on the way


def test_an_unknown_variable_is_refused_before_anything_runs(site: Site) -> None:
    spec = simple(site.name)
    spec["stages"][0]["steps"].insert(0, job("migrate", ["migrate", "$(vars.comit)"]))
    site.apply(spec | {"vars": {"commit": "abc"}})
    site.until(state_is("Invalid"))
    message = site.condition("Ready")["message"]
    assert site.condition("Ready")["reason"] == "InvalidSpec"
    for words in ("spec.stages[0].steps[0].job.command[1]", "$(vars.comit)", "vars.commit"):
        assert words in message
    assert site.jobs() == []
    assert "run" not in site.status()
    site.clean()


def test_a_missing_target_is_waited_for(site: Site) -> None:
    spec = simple(site.name)
    spec["targets"] = [{"name": "web", "workload": {"name": "wbe", "images": {"app": "shop/web:$(version)"}}}]
    site.apply(spec)
    site.until(message_has("there is no Deployment wbe"))
    assert (site.condition("Ready")["reason"], site.condition("Stalled")["status"]) == ("TargetNotFound", "True")
    site.change({"targets": [TARGET]})
    site.ended("Promoted")
    site.clean()


def test_a_missing_container_is_named(site: Site) -> None:
    spec = simple(site.name)
    spec["targets"] = [{"name": "web", "workload": {"name": "web", "images": {"ap": "shop/web:$(version)"}}}]
    site.apply(spec)
    site.until(message_has("has no container ap (it has: app)"))
    site.clean()


def test_a_missing_captured_secret_is_named(site: Site) -> None:
    workload = TARGET["workload"] | {"config": [{"secret": "web-secret"}]}  # type: ignore[operator]
    site.apply(simple(site.name) | {"targets": [{"name": "web", "workload": workload}]})
    site.until(message_has("secret/web-secret"))
    assert "run" not in site.status()
    site.secret("web-secret", {"token": SEED})
    site.annotate("example.com/look", "again")
    site.ended("Promoted", 45)
    site.clean()


def test_a_gate_whose_secret_is_missing_holds_and_then_goes_on(site: Site) -> None:
    access = {"url": site.lab.standin.url, "bearerToken": {"secretRef": {"name": "prom", "key": "token"}}}
    site.connection("guarded", {"prometheus": access})
    asked = gate("errors", query("errors", site.name))
    asked["prometheus"]["connection"] = "guarded"
    site.apply(staged(site, deploy(), gates=[asked], bake=BAKE))
    site.until(message_has("there is no Secret prom"))
    assert stage_is(0, "Gating", "Baking")(site.status())
    site.secret("prom", {"token": SEED})
    site.ended("Promoted", 60)
    site.clean()


def test_an_image_that_cannot_be_pulled(site: Site) -> None:
    site.lab.world.broken.add("9.9.9")
    site.apply(simple(site.name, "9.9.9") | {"stages": [{"name": "ship", "steps": [deploy(timeout="8s")]}]})
    site.until(message_has("the image cannot be pulled"))
    status = site.ended("RolledBack", 30)
    assert "shop/web:9.9.9" in status["message"]
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_a_job_whose_image_cannot_be_pulled(site: Site) -> None:
    site.apply(staged(site, job("migrate", FAKE_WAITING="ImagePullBackOff", timeout="6s"), deploy()))
    site.until(message_has("the image cannot be pulled"))
    status = site.ended("RolledBack", 60)
    assert "migrate" in status["message"]
    assert len(site.jobs("migrate")) == 1
    site.clean()


def test_a_job_whose_secret_is_missing(site: Site) -> None:
    migrate = job("migrate", timeout="6s", FAKE_WAITING="CreateContainerConfigError")
    site.apply(staged(site, migrate, deploy()))
    site.until(message_has("the container cannot be configured"))
    site.ended("RolledBack", 60)
    site.clean()


def test_a_job_that_never_ends(site: Site) -> None:
    site.apply(staged(site, job("migrate", FAKE_HANG="1", timeout="3s"), deploy()))
    status = site.ended("RolledBack", 60)
    assert "DeadlineExceeded" in status["message"]
    assert len(site.lab.world.runs(site.name, "migrate")) == 1
    site.clean()


def test_a_running_job_is_stopped_when_its_run_is_undone(site: Site) -> None:
    guard = gate("errors", query("errors", site.name), "5%")
    site.apply(staged(site, job("migrate", FAKE_HANG="1"), deploy()) | {"guards": [guard]})
    site.lab.wait(lambda: site.lab.world.runs(site.name, "migrate"), 20, "the migration to start")
    errors(site, 0.3)
    site.ended("RolledBack", 30)
    (made,) = site.jobs("migrate")
    assert made["spec"]["suspend"] is True
    assert made.get("status", {}).get("active", 0) == 0
    site.clean()


def test_a_job_that_was_deleted_before_its_result_was_read_is_not_made_again(site: Site) -> None:
    site.apply(staged(site, job("migrate", FAKE_SECONDS="60"), deploy()))
    site.lab.wait(lambda: site.lab.world.runs(site.name, "migrate"), 20, "the migration to start")
    (made,) = site.jobs("migrate")
    site.lab.api.delete(
        f"/apis/batch/v1/namespaces/{site.name}/jobs/{made['metadata']['name']}?propagationPolicy=Background"
    )
    status = site.ended("RolledBack", 30)
    assert "deleted" in status["message"]
    site.lab.wait(lambda: not site.jobs("migrate"), 10, "the Job to vanish")
    assert len(site.lab.world.runs(site.name, "migrate")) == 1
    site.clean()


def test_a_job_that_was_deleted_while_nobody_watched_is_not_made_again(site: Site) -> None:
    site.apply(staged(site, job("migrate", FAKE_SECONDS="60"), deploy()))
    site.lab.wait(lambda: site.lab.world.runs(site.name, "migrate"), 20, "the migration to start")
    time.sleep(1)
    site.lab.operator.kill()
    site.lab.operator.reap()
    (made,) = site.jobs("migrate")
    site.lab.api.delete(
        f"/apis/batch/v1/namespaces/{site.name}/jobs/{made['metadata']['name']}?propagationPolicy=Background"
    )
    site.lab.wait(
        lambda: all("deletionTimestamp" in made["metadata"] for made in site.jobs("migrate")), 10, "the Job to go"
    )
    site.lab.operator.start()
    status = site.ended("RolledBack", 30)
    assert "deleted" in status["message"]
    site.lab.wait(lambda: not site.jobs("migrate"), 10, "the Job to vanish")
    assert len(site.lab.world.runs(site.name, "migrate")) == 1
    site.clean()


def test_late_writes_of_a_lost_connection_do_not_undo_a_rollback(site: Site) -> None:
    """A patch and a Job that hang on the way until the rollback is done must not take effect any more."""
    lab, other = site.lab, site.lab.namespace()
    other.deployment()
    lab.standin.number(query("errors", other.name), 0.001)
    held: dict[str, int] = {}

    def first(call: Any) -> bool:
        wanted = (call.method, call.resource) in (("PATCH", "deployments"), ("POST", "jobs"))
        where = call.path.split("/namespaces/")[-1].split("/")[0]
        if wanted and where in (site.name, other.name) and where not in held:
            held[where] = call.serial
            return True
        return False

    guard = gate("errors", query("errors", other.name), "5%")
    with lab.proxy.fault(Fault(first, "delay", seconds=25, times=2)):
        site.apply(staged(site, deploy(timeout="3s")))
        other.apply(staged(other, {"name": "moment", "wait": "500ms"}, job("migrate")) | {"guards": [guard]})
        lab.wait(lambda: other.name in held, 10, "the Job to be on its way")
        errors(other, 0.3)
        site.ended("RolledBack", 40)
        other.ended("RolledBack", 40)
        assert site.image() == "shop/web:1.0.0"
        lab.wait(lambda: all(lab.proxy.calls[serial - 1].code for serial in held.values()), 40, "the late writes")
    time.sleep(1)
    assert site.image() == "shop/web:1.0.0"
    assert lab.world.runs(other.name) == []
    site.clean()
    other.clean()


def test_prometheus_away_in_the_middle_of_a_bake_stops_the_clock(site: Site) -> None:
    site.apply(simple(site.name, bake="2s"))
    site.until(stage_is(0, "Baking"))
    site.lab.standin.go_away()
    try:
        site.until(state_is("Holding"))
        assert "clocks stand still" in site.status()["waitingFor"]["message"]
        time.sleep(2.5)
        assert stage_is(0, "Baking")(site.status()), "it was passed while nobody answered"
    finally:
        site.lab.standin.come_back()
    site.ended("Promoted", 30)
    site.clean()


@pytest.mark.parametrize("kind", ["empty", "nan", "error", "hang"])
def test_a_gate_without_data_holds_and_then_fails(site: Site, kind: str) -> None:
    asked = query("errors", site.name)
    getattr(site.lab.standin, kind)(asked)
    site.apply(staged(site, deploy(), gates=[gate("errors", asked, holdFor="3s")], bake=BAKE))
    site.until(state_is("Holding"))
    status = site.ended("RolledBack", 30)
    words = {"empty": "no data", "nan": "NaN", "error": "no answer", "hang": "no answer"}[kind]
    assert words in status["message"], status["message"]
    assert "longer than 3s" in status["message"]
    site.clean()


def test_a_hold_says_what_holds_it_now_and_not_with_every_answer(site: Site) -> None:
    """First nobody answers with a number, then the provider is refused: people must mend the second. Words that alternate
    are told once, and not again for a minute."""
    asked, standin = query("errors", site.name), site.lab.standin
    standin.empty(asked)
    site.apply(staged(site, deploy(), gates=[gate("errors", asked)], bake=BAKE))
    status = site.until(state_is("Holding"))
    assert "no data" in status["waitingFor"]["message"]
    since, count = status["run"]["stages"][0]["gates"][0]["since"], len(_written(site))
    standin.error(asked, 403)
    status = site.until(lambda status: "403" in (status.get("waitingFor") or {}).get("message", ""))
    assert status["state"] == "Holding" and status["run"]["stages"][0]["gates"][0]["since"] == since
    for _ in range(5):
        for code in (500, 403):
            standin.error(asked, code)
            before = standin.asked(asked)
            site.lab.wait(lambda before=before: standin.asked(asked) > before + 1, 10, "two more answers")
    assert len(_written(site)) == count + 1
    errors(site, 0.001)
    site.ended("Promoted")
    site.clean()


def _written(site: Site) -> list[Any]:
    return [one for one in site.writes() if one.resource == "releases/status" and one.done]


def test_an_empty_answer_that_fills_up_goes_on(site: Site) -> None:
    asked = query("errors", site.name)
    site.lab.standin.empty(asked)
    site.apply(staged(site, deploy(), gates=[gate("errors", asked)], bake=BAKE))
    site.until(state_is("Holding"))
    errors(site, 0.001)
    site.ended("Promoted")
    site.clean()


def test_a_breach_must_last_where_for_says_so(site: Site) -> None:
    asked = query("errors", site.name)
    lasting = gate("errors", asked) | {"for": "2s"}
    site.apply(staged(site, deploy(), gates=[lasting], bake="4s"))
    site.until(stage_is(0, "Baking"))
    errors(site, 0.3)
    site.until(state_is("Breaching"))
    time.sleep(0.6)
    errors(site, 0.001)
    site.until(state_is("Baking"))
    since = time.monotonic()
    errors(site, 0.3)
    status = site.ended("RolledBack")
    assert time.monotonic() - since >= 2.0
    assert "30% > 1% for 2s" in status["message"]
    site.clean()


def test_a_secret_shows_up_nowhere(site: Site) -> None:
    """In DEBUG logs, statuses, Events, Jobs, messages: the oracle looks for the seed in the audit log and our log."""
    site.secret("prom", {"token": SEED})
    access = {"url": site.lab.standin.url, "bearerToken": {"secretRef": {"name": "prom", "key": "token"}}}
    site.connection("guarded", {"prometheus": access})
    asked = query("echo", site.name)
    site.lab.standin.error(asked, 500, f'{{"status":"error","errorType":"internal","error":"token {SEED} refused"}}')
    echo = gate("errors", asked, holdFor="2s")
    echo["prometheus"]["connection"] = "guarded"
    migrate = job("migrate")
    secret = {"secretKeyRef": {"name": "prom", "key": "token"}}
    migrate["job"]["env"] = [{"name": "TOKEN", "valueFrom": secret}]
    site.apply(staged(site, migrate, deploy(), gates=[echo], bake=BAKE))
    site.ended("RolledBack", 30)
    report = site.clean()
    assert "I9" in report.checked


# ---------------------------------------------------------------------------------------------------------------
# A disturbed API server


def test_a_conflict_is_decided_anew(site: Site) -> None:
    """Somebody else writes between our read and our write, at every status write in turn."""
    touched: list[int] = []

    def touch(call: Any) -> None:
        if (
            call.method == "PATCH"
            and call.resource == "releases/status"
            and f"/{site.name}/" in call.path
            and len(touched) < 40
        ):
            touched.append(call.serial)

    with site.lab.proxy.fault(_conflicts(site)):
        site.lab.proxy.on_call = touch
        site.apply(five(site.name))
        site.ended("Promoted", 60)
    site.lab.proxy.on_call = None
    site.clean()


def _conflicts(site: Site) -> Fault:
    """Every second write in the namespace is answered 409."""
    count = iter(range(10_000))

    def second(call: Any) -> bool:
        ours = call.writes and f"/namespaces/{site.name}/" in call.path and call.resource not in ("leases", "events")
        return ours and call.method == "PATCH" and next(count) % 2 == 0

    return Fault(second, "answer", code=409, times=1000)


@pytest.mark.parametrize("code", [429, 503])
def test_an_api_server_that_refuses_requests_at_random(site: Site, code: int) -> None:
    dice = random.Random(code)
    lifted = time.monotonic() + 8

    def unlucky(call: Any) -> bool:
        return f"/namespaces/{site.name}/" in call.path and dice.random() < 0.3 and time.monotonic() < lifted

    site.lab.standin.number(query("broken", site.name), 0.2)
    with site.lab.proxy.fault(Fault(unlucky, "answer", code=code, times=10_000, retry_after="1")):
        site.apply(crash_rollback(site.name))
        site.ended("RolledBack", 30)
    site.clean()
    asked = [call for call in site.lab.proxy.calls if f"/namespaces/{site.name}/" in call.path]
    assert len(asked) < 200, f"{len(asked)} requests: it does not back off"


def test_an_object_that_cannot_be_read_is_asked_for_less_and_less_often(site: Site) -> None:
    fault = Fault(lambda call: call.resource == "configmaps" and f"/{site.name}/" in call.path, "answer", times=10_000)
    with site.lab.proxy.fault(fault):
        site.apply(five(site.name))
        time.sleep(4)
    # six passes, later and later, each of which asks three times
    assert fault.used <= 18, f"asked {fault.used} times in 4 s"
    site.ended("Promoted", 60)
    site.clean()


def test_answers_that_are_lost_after_the_write(site: Site) -> None:
    """Every second write succeeds, and the operator never hears of it."""
    count = iter(range(10_000))

    def second(call: Any) -> bool:
        return (
            call.writes
            and call.resource != "events"
            and f"/namespaces/{site.name}/" in call.path
            and next(count) % 2 == 0
        )

    site.lab.standin.number(query("broken", site.name), 0.2)
    with site.lab.proxy.fault(Fault(second, "drop", "committed", times=10_000)):
        site.apply(crash_rollback(site.name))
        site.ended("RolledBack", 120)
    site.clean()


@pytest.mark.parametrize("act", ["drop", "duplicate"])
def test_watch_events_that_never_come_or_come_twice(site: Site, act: WatchAct) -> None:
    """Nothing is told of Deployments and Jobs any more, or everything twice: looking again must be enough."""

    def here(resource: str, event: dict[str, Any]) -> bool:
        return resource in ("deployments", "jobs") and event["object"]["metadata"].get("namespace") == site.name

    with site.lab.proxy.fault(WatchFault(here, act, nth=0)):
        site.apply(staged(site, job("migrate"), deploy()))
        site.ended("Promoted", 40)
    site.clean()


def test_watches_that_are_cut_again_and_again(site: Site) -> None:
    site.apply(five(site.name))
    deadline = time.monotonic() + 40
    while not site.run().get("outcome") and time.monotonic() < deadline:
        site.lab.proxy.cut_watches()
        time.sleep(0.4)
    site.ended("Promoted", 40)
    site.clean()
