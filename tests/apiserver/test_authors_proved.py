"""Where the API server does not ask RBAC about authors, nothing of theirs begins: with real
policies that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gatewright.codegen import admission, statuses
from tests.apiserver.walking import retry
from tests.harness.api import ApiError
from tests.harness.lab import ADMISSION, CONNECTIONS, INTERVENTIONS, Lab, Site, require
from tests.harness.oracle import OPERATOR
from tests.harness.scenarios import INTERVAL, TARGET, deploy, gate, query

pytestmark = pytest.mark.apiserver
STAGE = {"name": "ship", "steps": [deploy()]}
CONFIRM = {"name": "keys", "confirm": {"instructions": "Rotate the keys."}}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require()
    with Lab(policy=False) as started:
        yield started
        assert not started.background.failures


def made(lab: Lab) -> Site:
    """A namespace with a deployment and a Connection that has a Secret."""
    if not lab.operator.alive:
        lab.operator.start()
    site = lab.namespace()
    site.deployment()
    site.secret("token", {"token": "of-no-use"})
    opens = {
        "url": lab.standin.url,
        "bearerToken": {"secretRef": {"name": "token", "key": "token"}},
    }
    site.connection("api", {"http": opens})
    lab.standin.number(query("errors", site.name), 0.001)
    return site


@pytest.fixture
def bare(lab: Lab) -> Site:
    """There, without the policies."""
    lab.withdraw()
    return made(lab)


@pytest.fixture
def guarded(lab: Lab) -> Site:
    """There, with the policies."""
    lab.admit()
    return made(lab)


def release(**more: Any) -> dict[str, Any]:
    return {"version": "2.0.0", "targets": [TARGET], "stages": [STAGE], **more}


def _site_answers() -> dict[str, Any]:
    return {"name": "api", "http": {"connection": "api", "path": "/ok"}, "interval": INTERVAL}


def waits(status: Any) -> bool:
    """a Release that waits for the policies"""
    return any(item["reason"] == "PolicyNotInForce" for item in status.get("conditions", ()))


def connection(site: Site, name: str = "api") -> Any:
    status = site.lab.api.get(f"{CONNECTIONS.format(site.name)}/{name}").get("status") or {}
    return next(iter(status.get("conditions", ())), {})


def reads(site: Site, secret: str = "token") -> int:
    """How often the operator has read a Secret."""
    return sum(
        event["objectRef"].get("name") == secret
        and event["objectRef"].get("namespace") == site.name
        for event in site.lab.server.audit_events()
        if event["user"]["username"] == OPERATOR
        and event.get("objectRef", {}).get("resource") == "secrets"
    )


def tried(site: Site) -> list[str]:
    """The operator's dry runs."""
    site.writes()
    trials = [
        one for one in site.lab.audit.trials if one.user == OPERATOR and one.namespace == site.name
    ]
    return sorted(f"{one.verb} {one.resource}" for one in trials)


def of_releases(site: Site) -> list[str]:
    """The same without those for Connections, which are looked at whenever a process begins."""
    return [one for one in tried(site) if "connections" not in one]


def test_nothing_begins_without_the_policies_and_all_of_it_with_them(bare: Site) -> None:
    lab = bare.lab
    lab.standin.page("/ok")
    bare.apply(release(preflight=[_site_answers()]))
    message = bare.until(waits)["message"]
    assert f"not in force in namespace {bare.name}" in message
    assert all(
        name in message
        for name in (
            "gatewright-releases",
            "gatewright-uses",
            "gatewright-requesters",
            "gatewright-status",
            "gatewright-jobs",
        )
    )
    assert "manifests/admission" in message and "--trust-authors" in message
    assert "run" not in bare.status() and bare.image() == "shop/web:1.0.0"
    assert bare.condition("Ready")["status"] == "False"

    found = lab.wait(lambda: connection(bare), 10, "a word about the Connection")
    assert found["status"] == "False" and "gatewright-connections" in found["message"]
    assert reads(bare) == 0
    assert "no run begins in namespace" in lab.operator.log.read_text()

    lab.admit()
    bare.ended("Promoted", 60)
    assert reads(bare) > 0
    lab.wait(lambda: connection(bare)["status"] == "True", 10, "the Connection to be ready")
    bare.clean()


def test_a_namespace_is_tried_once(guarded: Site) -> None:
    guarded.apply(release(preflight=[_site_answers()]))
    guarded.lab.standin.page("/ok")
    guarded.ended("Promoted")
    first = tried(guarded)
    assert first == [
        "create connections", "create jobs",
        "create releases", "create releases", "create releases", "patch connections",
        "patch releases", "patch releases", "patch releases", "patch releases/status",
    ]  # fmt: skip
    guarded.change({"version": "3.0.0"})
    guarded.ended("Promoted", run=2)
    guarded.apply(
        {"version": "1", "stages": [{"name": "ship", "steps": [{"name": "w", "wait": "100ms"}]}]},
        "other",
    )
    guarded.ended("Promoted", name="other")
    assert tried(guarded) == first
    guarded.clean()


def test_a_run_goes_back_whatever_became_of_the_policies(guarded: Site) -> None:
    """Also by another process, which has never seen them in force; and what verifies it is
    asked."""
    lab = guarded.lab
    lab.standin.page("/ok")
    stage = {
        "name": "ship",
        "steps": [deploy(), CONFIRM],
        "gates": [gate("errors", query("errors", guarded.name))],
    }
    guarded.apply(release(stages=[stage], rollback={"verify": [_site_answers()]}))
    guarded.until(lambda status: status.get("state") == "WaitingForPerson")
    lab.operator.stop()
    lab.withdraw()
    lab.operator.start()
    tries = of_releases(guarded)
    guarded.change({"version": "1.0.0"})
    guarded.ended("Superseded", 30, run=1)
    assert guarded.image() == "shop/web:1.0.0"
    assert guarded.run()["rollback"]["verify"][0]["state"] == "Passing"
    assert of_releases(guarded) == tries
    assert reads(guarded) > 0


def test_an_edit_does_not_count_by_a_retry_without_the_policies(guarded: Site) -> None:
    lab = guarded.lab
    lab.standin.number(query("errors", guarded.name), 0.5)
    stage = {
        "name": "ship",
        "steps": [deploy()],
        "gates": [gate("errors", query("errors", guarded.name))],
        "onFailure": "Pause",
    }
    guarded.apply(release(stages=[stage]))
    guarded.until(lambda status: status.get("state") == "Paused")
    lab.operator.stop()
    lab.withdraw(keep=admission.POLICY_NAME)
    lab.operator.start()
    later = {"name": "later", "steps": [{"name": "w", "wait": "1s"}]}
    guarded.change({"stages": [stage, later]})
    retry(guarded)
    asked = INTERVENTIONS.format(guarded.name)
    answered = lab.wait(
        lambda: [one["status"] for one in lab.api.get(asked)["items"] if one.get("status")],
        20,
        "an answer to the Retry",
    )
    assert (
        "the edit does not count" in answered[0]["message"]
        and "not in force" in answered[0]["message"]
    )
    assert [item["name"] for item in guarded.run()["stages"]] == ["ship"]


def test_who_trusts_authors_says_so(bare: Site) -> None:
    lab = bare.lab
    lab.operator.stop()
    before = tried(bare)
    lab.operator._arguments.append("--trust-authors")
    try:
        lab.operator.start()
        bare.apply(release())
        bare.ended("Promoted")
        assert tried(bare) == before
        assert "(--trust-authors)" in lab.operator.log.read_text()
    finally:
        lab.operator._arguments.remove("--trust-authors")
        lab.operator.stop()


def test_an_operator_that_may_not_try_knows_nothing(guarded: Site) -> None:
    """Unknown is an error: its role is older than the trials."""
    lab = guarded.lab
    role = lab.api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/gatewright")
    less = [
        rule
        for rule in role["rules"]
        if rule["verbs"] != ["create"] or rule["apiGroups"] != ["gatewright.dev"]
    ]
    assert len(less) == len(role["rules"]) - 1
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/gatewright"
    lab.api.merge(path, {"rules": less})
    try:
        guarded.apply(release())
        message = guarded.until(waits)["message"]
        assert "cannot be found out" in message and "cannot create resource" in message
    finally:
        lab.api.merge(path, {"rules": role["rules"]})
    guarded.ended("Promoted", 60)


def test_one_missing_policy_is_named_alone(guarded: Site) -> None:
    lab = guarded.lab
    lab.operator.stop()
    guarded.apply({"version": "1", "suspend": True, "stages": [STAGE], "targets": [TARGET]}, "idle")
    lab.api.delete(f"{ADMISSION}policybindings/{statuses.POLICY_NAME}")
    lab.wait(lambda: _says(guarded, -1), 20, "the policy to be gone")
    lab.operator.start()
    try:
        guarded.apply(release())
        message = guarded.until(waits)["message"]
        assert (
            statuses.POLICY_NAME in message
            and "gatewright-uses" not in message
            and admission.POLICY_NAME not in message
        )
    finally:
        lab.admit()
    guarded.ended("Promoted", 60)


def test_a_release_that_captures_a_secret_says_where_that_is_switched_on(guarded: Site) -> None:
    """The role is the switch: with it the run begins by itself."""
    lab = guarded.lab
    binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatewright-capture"
    kept = lab.api.get(binding)
    lab.api.delete(binding)
    target = {**TARGET, "workload": {**TARGET["workload"], "config": [{"secret": "token"}]}}
    guarded.apply(release(targets=[target]))
    message = guarded.until(lambda status: status.get("state") == "Waiting")["message"]
    assert "secret/token: the operator may not write Secrets" in message
    assert "manifests/capture" in message and "captureSecrets" in message
    assert guarded.condition("Ready")["reason"] == "TargetUnfit"
    body = {name: kept[name] for name in ("apiVersion", "kind", "roleRef", "subjects")}
    lab.api.create(binding.rpartition("/")[0], body | {"metadata": {"name": "gatewright-capture"}})
    lab.operator.stop()  # it would look again in half a minute
    lab.operator.start()
    guarded.ended("Promoted")
    guarded.clean()


def _says(site: Site, generation: int) -> bool:
    """Whether a status is admitted that is nobody's."""
    try:
        site.lab.api.merge(
            f"{site.path('idle')}/status?dryRun=All", {"status": {"observedGeneration": generation}}
        )
    except ApiError:
        return False
    return True
