"""Nobody but the operator makes a Job that counts as a Release's: several users on a real API
server, with the shipped policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gatewright.api import API_VERSION, KEY, RELEASE, RESULT
from gatewright.codegen import job_owners
from gatewright.core.fingerprints import short_fingerprint
from tests.apiserver.people import People, Right
from tests.apiserver.walking import intervene
from tests.harness.api import Api, ApiError
from tests.harness.lab import Lab, Site
from tests.harness.scenarios import job

pytestmark = pytest.mark.apiserver
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
RIGHTS: tuple[Right, ...] = tuple(
    (verb, "batch", "jobs", "") for verb in ("create", "update", "patch", "get", "delete")
)
REFUSED = "the Jobs of a Release are made by the operator alone"
OWNER = {
    "apiVersion": API_VERSION,
    "kind": "Release",
    "name": "shop",
    "uid": "0f-1",
    "controller": True,
}


def owned(name: str = "forged", *owners: dict[str, Any], **annotations: str) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "shop/web:1"}]}
    meta = {
        "name": name,
        "ownerReferences": list(owners),
        "annotations": {KEY: "1.ship.migrate.1", **annotations},
    }
    spec = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


@pytest.fixture(scope="module")
def people(laboratory: Lab) -> Iterator[People]:
    """Who makes Jobs of their own."""
    site = laboratory.namespace()
    wait = {"name": "ship", "steps": [{"name": "wait", "wait": "1s"}]}
    site.apply({"version": "2.0.0", "suspend": True, "stages": [wait]})
    # What an owner has that is not there, Kubernetes takes away.
    OWNER["uid"] = site.release()["metadata"]["uid"]
    found = People(laboratory, site.name, JOBS, job_owners.POLICY_NAME)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def editor(people: People) -> Api:
    """Somebody who may do anything with Jobs, and nothing that the operator may."""
    found = people.with_rights(*RIGHTS)
    people.passes(found, owned("own"))
    return found


def _without(owner: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in owner.items() if key != field}


@pytest.mark.parametrize(
    "owners",
    [
        [OWNER],
        [OWNER | {"apiVersion": "gatewright.dev/v1"}],
        [OWNER | {"apiVersion": "gatewright.dev"}],
        [OWNER | {"apiVersion": "Gatewright.dev/v1alpha1"}],
        [OWNER | {"kind": "Intervention"}],
        [_without(OWNER, "controller") | {"uid": "0f-2"}, OWNER],
    ],
    ids=[
        "as-ours",
        "a-later-version",
        "without-one",
        "in-capitals",
        "another-kind",
        "the-second-owner",
    ],
)
def test_a_job_that_claims_a_release_is_refused(
    people: People, editor: Api, owners: list[dict[str, Any]]
) -> None:
    words = (
        f"{REFUSED}: {people.name_of(editor)} may not operate releases in namespace "
        f"{people.namespace}"
    )
    assert people.policy in people.tells(editor, owned("forged", *owners), words)


def test_a_job_of_their_own_cannot_become_one(people: People, editor: Api) -> None:
    editor.create(people.path, owned("later"))
    assert REFUSED in people.changes(editor, "later", {"metadata": {"ownerReferences": [OWNER]}})
    only_owner = _without(OWNER, "controller")
    assert people.changes(editor, "later", {"metadata": {"ownerReferences": [only_owner]}}) == ""
    assert REFUSED in people.changes(editor, "later", {"metadata": {"annotations": {KEY: ""}}})


def test_one_of_the_operators_keeps_the_label_by_which_it_is_let_go(
    people: People, editor: Api
) -> None:
    """Without it the finalizer would stay for ever, and with it the Job and its namespace."""
    body = owned("followed", OWNER)
    body["metadata"] |= {"finalizers": [RESULT], "labels": {RELEASE: "shop"}}
    people.lab.api.create(people.path, body)
    words = people.changes(editor, "followed", {"metadata": {"labels": {RELEASE: None}}})
    assert REFUSED in words and f"keeps its label {RELEASE}" in words
    lost = {"metadata": {"ownerReferences": None}}
    assert people.changes(editor, "followed", lost) == "", "a garbage collector may do that"
    both = {"metadata": {"ownerReferences": None, "labels": None}}
    assert REFUSED in people.changes(editor, "followed", both)
    assert people.changes(editor, "followed", {"metadata": {"labels": {"team": "shop"}}}) == ""
    people.lab.api.merge(f"{people.path}/followed", {"metadata": {"finalizers": None}})
    assert people.changes(editor, "followed", both) == "", "it is let go"


def test_neither_owner_nor_key_comes_by_the_status(people: People) -> None:
    """Whoever may write `jobs/status` may write metadata through it."""
    custom = people.with_rights(*RIGHTS, ("patch", "batch", "jobs/status", ""))
    people.passes(custom, owned("own"))
    custom.create(people.path, owned("by-status"))
    claim = {"metadata": {"ownerReferences": [OWNER]}}
    assert REFUSED in people.changes(custom, "by-status", claim, "/status")
    started = {"status": {"startTime": "2026-01-01T00:00:00Z"}}
    assert people.changes(custom, "by-status", started, "/status") == ""


def test_one_of_the_operators_keeps_its_key(people: People, editor: Api) -> None:
    """Whoever may change Jobs may suspend, label and delete it; it does not become that of another
    step."""
    people.lab.api.create(people.path, owned("ours", OWNER))
    assert REFUSED in people.changes(
        editor, "ours", {"metadata": {"annotations": {KEY: "1.ship.other.1"}}}
    )
    assert REFUSED in people.changes(
        editor, "ours", {"metadata": {"ownerReferences": [OWNER | {"uid": "0f-3"}]}}
    )
    assert people.changes(editor, "ours", {"metadata": {"labels": {"team": "shop"}}}) == ""
    assert people.changes(editor, "ours", {"spec": {"suspend": False}}) == ""
    assert (
        people.changes(editor, "ours", {"metadata": {"ownerReferences": None, "annotations": None}})
        == ""
    )


def test_jobs_that_claim_nothing_are_not_asked_about(people: People, editor: Api) -> None:
    people.passes(editor, owned("own"))
    people.passes(editor, owned("own", _without(OWNER, "controller")))
    people.passes(editor, owned("own", OWNER | {"apiVersion": "batch/v1", "kind": "CronJob"}))
    bare = owned("own")
    del bare["metadata"]["annotations"], bare["metadata"]["ownerReferences"]
    people.passes(editor, bare)


def test_a_service_account_has_to_show_its_pod(people: People) -> None:
    """The operator's own, too: who impersonates it, or made a token of it, shows none."""
    user = f"system:serviceaccount:{people.namespace}:operator"
    rules = [{"apiGroups": ["gatewright.dev"], "resources": ["releases"], "verbs": ["operate"]}]
    rules.append({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]})
    people.bind(user, "Role", "operator", rules)
    people.tells(
        people.user(user), owned("forged", OWNER), f"{REFUSED}: {user} shows no pod that it runs in"
    )


def test_a_forged_job_is_not_there_when_its_step_begins(site: Site) -> None:
    """Its name and key can be computed from the status while people are asked: what counts is the
    result of the operator's."""
    sure = {"name": "sure", "confirm": {"instructions": "Look at it."}}
    stages = [
        {"name": "ask", "steps": [sure]},
        {"name": "ship", "steps": [job("migrate", FAKE_EXIT="3")]},
    ]
    site.apply({"version": "2.0.0", "stages": stages})
    run = site.until(lambda status: status.get("state") == "WaitingForPerson")["run"]
    uid = site.release()["metadata"]["uid"]
    key = f"{run['id']}.ship.migrate.1-{short_fingerprint([uid, run['id'], run['startedAt']])[:6]}"
    name = f"shop-migrate-{short_fingerprint([uid, key])}"
    crowd = People(site.lab, site.name, JOBS, job_owners.POLICY_NAME)
    try:
        editor = crowd.with_rights(*RIGHTS)
        crowd.passes(editor, owned("own"))
        with pytest.raises(ApiError, match=REFUSED):
            editor.create(crowd.path, owned(name, OWNER | {"uid": uid}, **{KEY: key}))
    finally:
        crowd.close()

    intervene(site, "Confirm", stage="ask", step="sure")
    assert "migrate" in site.ended("RolledBack")["run"]["reason"]
    (made,) = site.jobs("migrate")
    assert (made["metadata"]["name"], made["metadata"]["annotations"][KEY]) == (name, key)


@pytest.mark.parametrize(
    "owner",
    [{"apiVersion": "example.com/v1", "kind": "Anything"}, {"kind": "Intervention"}],
    ids=["another-group", "another-kind"],
)
def test_a_job_under_the_uid_of_a_release_is_not_its_job(site: Site, owner: dict[str, Any]) -> None:
    """The API server keeps any UID under any kind: whose kind it is counts as well. The policy has
    nothing to say of other groups, so whoever owns the cluster stands for whoever gets past it."""
    sure = {"name": "sure", "confirm": {"instructions": "Look at it."}}
    migrate = job("migrate", FAKE_EXIT="3")
    stages = [{"name": "ask", "steps": [sure]}, {"name": "ship", "steps": [migrate]}]
    site.apply({"version": "2.0.0", "stages": stages})
    run = site.until(lambda status: status.get("state") == "WaitingForPerson")["run"]
    uid = site.release()["metadata"]["uid"]
    key = f"{run['id']}.ship.migrate.1-{short_fingerprint([uid, run['id'], run['startedAt']])[:6]}"
    name = f"shop-migrate-{short_fingerprint([uid, key])}"
    body = owned(name, OWNER | owner | {"uid": uid}, **{KEY: key})
    del body["spec"]["suspend"]
    site.lab.api.create(JOBS.format(site.name), body)

    intervene(site, "Confirm", stage="ask", step="sure")
    run = site.until(lambda status: (status.get("run") or {}).get("outcome"))["run"]
    # It is in the way; or Kubernetes has taken it away, and the operator's own has failed.
    assert run["outcome"] == "RolledBack"
    assert any(words in run["reason"] for words in ("of another owner", "deleted", "exit code 3"))


def test_a_job_that_loses_its_label_is_followed_all_the_same(site: Site) -> None:
    """Whoever may do anything may also do this: it gets the label again, and ends as it would
    have."""
    stages = [{"name": "ship", "steps": [job("migrate", FAKE_SECONDS="3")]}]
    site.apply({"version": "2.0.0", "stages": stages})
    (made,) = site.lab.wait(lambda: site.jobs("migrate"), 20, "the Job")
    path = f"{JOBS.format(site.name)}/{made['metadata']['name']}"
    site.lab.wait(lambda: site.lab.api.get(path).get("status", {}).get("active"), 20, "it to run")
    site.lab.api.merge(path, {"metadata": {"labels": {"team": "blue"}}})
    site.lab.api.merge(path, {"metadata": {"labels": {RELEASE: None}}})
    site.ended("Promoted")
    again = site.lab.api.get(path)["metadata"]
    assert again["labels"][RELEASE] == "shop" and RESULT not in again.get("finalizers", [])
