"""Releases walked on a real API server: what must happen, what users then see, and the oracle's
word on each.

The operator is a real process with the shipped rights; Deployments and Jobs are acted on by the
real controllers, pods by the harness' kubelet, gates are answered by a scripted stand-in. Every
test has a namespace of its own and ends with the oracle.
"""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
import yaml

from tests.apiserver.walking import errors, message_has, retry, stage_is, staged, state_is
from tests.harness.lab import Site
from tests.harness.scenarios import (
    deploy,
    five,
    gate,
    job,
    query,
    simple,
)

pytestmark = pytest.mark.apiserver


def test_five_stages_end_promoted(site: Site) -> None:
    site.apply(five(site.name))
    status = site.ended("Promoted", 40)
    assert [stage["state"] for stage in status["run"]["stages"]] == ["Passed"] * 5
    assert (site.image(), site.data("web-flags")) == (
        "shop/web:2.0.0",
        {"VOICE": "true", "KEPT": "yes"},
    )
    assert [one.command for one in site.lab.world.runs(site.name)] == [
        ("backup",),
        ("migrate", "2.0.0", "b-1"),  # the backup's id, from its termination message
        ("smoke",),
    ]
    assert status["live"]["version"] == status["lastGood"]["version"] == "2.0.0"
    assert [(past["version"], past["outcome"]) for past in status["history"]] == [
        ("2.0.0", "Promoted")
    ]
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
    assert sorted(item["reason"] for item in ours) == [
        "Promoted",
        "StagePassed",
        "StagePassed",
        "StagePassed",
        "StagePassed",
        "StagePassed",
        "Started",
    ]


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
    assert "run" not in status, f"walked, not adopted:\n{yaml.safe_dump(dict(status))}"
    assert status["lastGood"]["version"] == status["live"]["version"] == "1.0.0"
    assert site.condition("Ready")["status"] == "True"
    report = site.clean()
    assert "I5" in report.checked
    assert not [
        one
        for one in site.writes()
        if one.user == "gatewright-operator" and one.resource == "deployments"
    ]


def test_a_deployment_without_replicas_passes(site: Site) -> None:
    site.lab.api.merge(
        f"/apis/apps/v1/namespaces/{site.name}/deployments/web", {"spec": {"replicas": 0}}
    )
    site.apply(simple(site.name))
    site.ended("Promoted")
    site.clean()


# --------------------------------------------------------------------------------------------------
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
        spans.append(
            (runs[0].rv, next(one.rv for one in runs if one.body["status"]["run"].get("outcome")))
        )
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
    assert not [
        one
        for one in site.writes()
        if one.user == "gatewright-operator" and one.resource in effects
    ]
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
    retry(site)
    site.until(
        lambda status: (
            status["run"]["stages"][0].get("attempt") == 2 and status["state"] == "Paused"
        )
    )
    assert len(site.lab.world.runs(site.name, "smoke")) == 2
    site.clean(ended=False)


def test_a_failed_stage_may_be_passed_over(site: Site) -> None:
    spec = staged(site, job("smoke", FAKE_EXIT="1"), onFailure="Continue")
    spec["stages"].append({"name": "next", "steps": [deploy()]})
    site.apply(spec)
    status = site.ended("Promoted")
    assert [stage["state"] for stage in status["run"]["stages"]] == ["Failed", "Passed"]
    site.clean()
