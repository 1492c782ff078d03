"""Releases that name a Runbook, and who may have one run: on a real API server, with the shipped
roles and policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gatewright.codegen import runbook_policies
from gatewright.runtime.admission_trials import RUNBOOK_RIGHTS_VERSION, RUNBOOK_USES_VERSION
from tests.apiserver.people import People
from tests.harness.api import Api, ApiError
from tests.harness.lab import INTERVENTIONS, RELEASES, RUNBOOKS, Lab, Site
from tests.harness.scenarios import TARGET, deploy, gate, job, query

pytestmark = pytest.mark.apiserver
ACT = {"apiVersion": "gatewright.dev/v1alpha1", "kind": "Intervention"}
FIVE_LINES = {"version": "2.0.0", "runbookRef": {"name": "web"}, "vars": {"commit": "8f3c2e1"}}


def body(namespace: str, **changes: Any) -> dict[str, Any]:
    errors = gate("errors", query("errors", namespace))
    stages = [
        {"name": "ship", "steps": [deploy()], "gates": [{"name": "errors", "use": "errors"}]},
        {"name": "tell", "steps": [{"name": "tell", "wait": "$(vars.pause)"}]},
    ]
    return {
        "owner": "platform",
        "vars": [
            {"name": "commit", "type": "Word"},
            {"name": "pause", "type": "Duration", "default": "10ms"},
        ],
        "checks": [errors],
        "targets": [TARGET],
        "stages": stages,
        **changes,
    }


def runbook(spec: dict[str, Any], name: str = "web") -> dict[str, Any]:
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": name},
        "spec": spec,
    }


def give(site: Site, **changes: Any) -> None:
    site.lab.api.create(RUNBOOKS.format(site.name), runbook(body(site.name, **changes)))


def edit(site: Site, patch: dict[str, Any]) -> None:
    site.lab.api.merge(f"{RUNBOOKS.format(site.name)}/web", {"spec": patch})


def state_is(*states: str) -> Callable[[Any], Any]:
    """a Release in one of some states"""
    return lambda status: status.get("state") in states


def test_a_release_of_five_lines_walks_the_stages_of_its_runbook(site: Site) -> None:
    give(site)
    site.apply(FIVE_LINES)
    status = site.ended("Promoted")
    assert [stage["name"] for stage in status["run"]["stages"]] == ["ship", "tell"]
    assert status["run"]["runbook"]["name"] == "web" and status["run"]["runbook"]["generation"] == 1
    assert site.image() == "shop/web:2.0.0"
    # The Release says no more than it was given.
    assert set(site.release()["spec"]) <= {*FIVE_LINES, "adopt", "mode", "supersede"}
    site.clean()


def test_a_release_that_came_before_its_runbook_starts_when_that_is_there(site: Site) -> None:
    site.apply(FIVE_LINES)
    status = site.until(state_is("Invalid"))
    assert "there is no Runbook web in this namespace" in status["message"]
    give(site)
    site.ended("Promoted")


def test_an_edited_runbook_counts_from_the_next_version(site: Site) -> None:
    give(site, vars=[{"name": "commit"}, {"name": "pause", "type": "Duration", "default": "3s"}])
    site.apply(FIVE_LINES)
    site.until(lambda status: status.get("stage") == "2/2 tell")
    stages = body(site.name)["stages"]
    edit(site, {"stages": [*stages, {"name": "more", "steps": [{"name": "more", "wait": "10ms"}]}]})
    status = site.ended("Promoted")
    assert [stage["name"] for stage in status["run"]["stages"]] == ["ship", "tell"]
    status = site.until(lambda status: "the spec was edited" in (status.get("message") or ""))

    site.change({"version": "3.0.0"})
    status = site.ended("Promoted", run=2)
    assert [stage["name"] for stage in status["run"]["stages"]] == ["ship", "tell", "more"]
    assert status["run"]["runbook"]["generation"] == 2
    site.clean()


def test_a_retry_takes_the_mended_runbook(site: Site) -> None:
    wrong = [
        {"name": "ship", "onFailure": "Pause", "steps": [job("fail", FAKE_EXIT="1"), deploy()]}
    ]
    give(site, stages=wrong)
    site.apply(FIVE_LINES)
    site.until(state_is("Paused"), 40)
    mended = [{"name": "ship", "onFailure": "Pause", "steps": [job("fail"), deploy()]}]
    edit(site, {"stages": mended})
    site.until(lambda status: "the spec was edited" in (status.get("message") or ""))

    retry = {"release": "shop", "action": "Retry", "by": "gatewright-admin"}
    path = INTERVENTIONS.format(site.name)
    site.lab.api.create(path, {**ACT, "metadata": {"name": "again"}, "spec": retry})
    status = site.ended("Promoted")
    assert status["run"]["id"] == 1 and status["run"]["runbook"]["generation"] == 2
    assert any("step fail of stage ship" in line for line in status["run"]["edits"])
    site.clean()


def test_a_runbook_that_is_deleted_is_missed_and_may_come_back(site: Site) -> None:
    give(site)
    site.apply(FIVE_LINES)
    site.ended("Promoted")
    site.lab.api.delete(f"{RUNBOOKS.format(site.name)}/web")
    site.until(state_is("Invalid"))
    give(site)
    site.until(state_is("Promoted"))


def test_a_run_goes_back_without_its_runbook(site: Site) -> None:
    give(site, vars=[{"name": "commit"}, {"name": "pause", "type": "Duration", "default": "1h"}])
    site.apply(FIVE_LINES)
    site.until(lambda status: status.get("stage") == "2/2 tell")
    site.lab.api.delete(f"{RUNBOOKS.format(site.name)}/web")
    site.until(lambda status: "there is no Runbook web" in (status.get("message") or ""))
    back = {"release": "shop", "action": "Rollback", "by": "gatewright-admin"}
    path = INTERVENTIONS.format(site.name)
    site.lab.api.create(path, {**ACT, "metadata": {"name": "back"}, "spec": back})
    site.ended("RolledBack")
    assert site.image() == "shop/web:1.0.0"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"version": "1", "runbookRef": {"name": "web"}, "guardFor": "1h"}, "leave out runbookRef"),
        ({"version": "1"}, "needs stages, or the Runbook that has them"),
        ({"version": "1", "runbookRef": {}}, "spec.runbookRef.name: Required value"),
    ],
)
def test_one_place_says_what_a_run_does(site: Site, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words):
        site.apply(spec)


# --- who may have one run


@pytest.fixture(scope="module")
def people(laboratory: Lab) -> Iterator[People]:
    namespace = laboratory.namespace().name
    found = People(laboratory, namespace, RELEASES, runbook_policies.RIGHTS_POLICY_NAME)
    stages = [{"name": "ship", "steps": [deploy(), job("tests")]}]
    laboratory.api.create(RUNBOOKS.format(namespace), runbook(body(namespace, stages=stages)))
    yield found
    found.close()


def release(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "shop"},
        "spec": {**FIVE_LINES, "suspend": True, **changes},
    }


USE = ("use", "gatewright.dev", "runbooks", "web")
JOBS = ("create", "batch", "jobs", "")
PATCH = ("patch", "apps", "deployments", "web")
CONNECTION = ("use", "gatewright.dev", "connections", "")


def test_who_may_do_all_that_it_does_may_name_it(people: People) -> None:
    people.passes(people.with_rights(USE, JOBS, PATCH, CONNECTION), release())


def test_use_of_it_is_asked_by_its_name(people: People) -> None:
    nobody = people.with_rights(JOBS, PATCH, CONNECTION)
    said = people.tells(nobody, release(), "may not use runbooks.gatewright.dev/web")
    assert "spec.runbookRef: " in said
    # Also where it is not there yet.
    other = release(runbookRef={"name": "later"})
    people.tells(nobody, other, "may not use runbooks.gatewright.dev/later")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (JOBS, "Runbook web: spec.stages[ship].steps[tests].job: {} may not create jobs.batch"),
        (PATCH, "Runbook web: spec.targets[web].workload: {} may not patch deployments.apps/web"),
        (CONNECTION, "Runbook web: spec.checks[errors].prometheus: {} may not use connections"),
    ],
    ids=["jobs", "patch", "connection"],
)
def test_what_it_does_is_asked_of_who_names_it(
    people: People, missing: tuple[str, str, str, str], words: str
) -> None:
    rights = [right for right in (USE, JOBS, PATCH, CONNECTION) if right != missing]
    user = people.with_rights(*rights)
    people.tells(user, release(), words.format(people.name_of(user)))
    # A change that names it is asked as well, and one that names another is not.
    people.tells(user, release(version="3.0.0"), words.format(people.name_of(user)))


def test_who_writes_one_is_asked_the_same(people: People) -> None:
    namespace = people.lab.namespace().name
    writers = People(people.lab, namespace, RUNBOOKS, "gatewright-releases")
    try:
        spec = body(namespace, stages=[{"name": "ship", "steps": [job("tests")]}])
        other = runbook(spec | {"targets": []}, "other")
        may_write = writers.with_rights(PATCH, CONNECTION, also=("runbooks",))
        words = f"spec.stages[ship].steps[tests].job: {writers.name_of(may_write)} may not create"
        writers.tells(may_write, other, words)
        writers.passes(writers.with_rights(JOBS, CONNECTION, also=("runbooks",)), other)
    finally:
        writers.close()


@pytest.mark.parametrize("version", [RUNBOOK_RIGHTS_VERSION, RUNBOOK_USES_VERSION])
def test_a_reserved_version_is_refused_to_everybody(people: People, version: str) -> None:
    admin: Api = people.lab.api
    people.tells(admin, release(version=version), f"the version {version} is reserved")
