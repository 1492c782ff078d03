"""Where the API server does not prove whose act an Intervention is, nobody acts: with a real policy
that comes and goes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from gatewright.codegen import admission
from tests.harness.api import Api, ApiError
from tests.harness.lab import ADMISSION, INTERVENTIONS, Lab, Site, require
from tests.harness.oracle import OPERATOR
from tests.harness.scenarios import TARGET, deploy

pytestmark = pytest.mark.apiserver
CONFIRM = {"name": "keys", "confirm": {"instructions": "Rotate the keys."}}
BINDING = f"{ADMISSION}policybindings/{admission.POLICY_NAME}"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require()
    with Lab(policy=False, arguments=["--trust-authors"]) as started:
        started.operator.start()
        yield started
        assert not started.background.failures


@pytest.fixture
def site(lab: Lab) -> Site:
    """A Release that waits for a person, in a namespace of its own."""
    if not lab.operator.alive:
        lab.operator.start()
    made = lab.namespace()
    made.deployment()
    made.apply(
        {
            "version": "2.0.0",
            "targets": [TARGET],
            "stages": [{"name": "ship", "steps": [CONFIRM, deploy()]}],
        }
    )
    made.until(lambda status: status.get("state") == "WaitingForPerson")
    return made


def made(site: Site, by: str) -> str:
    """Somebody, who is the administrator, makes an Intervention under this name."""
    name = f"confirm-{next(_numbers)}"
    spec = {"release": "shop", "action": "Confirm", "by": by}
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Intervention",
        "metadata": {"name": name},
        "spec": spec,
    }
    site.lab.api.create(INTERVENTIONS.format(site.name), body)
    return name


def answer(site: Site, name: str) -> dict[str, Any]:
    path = f"{INTERVENTIONS.format(site.name)}/{name}"
    found = site.lab.wait(
        lambda: site.lab.api.get(path).get("status") or {}, 15, f"an answer to {name}"
    )
    return dict(found)


def test_without_the_policy_nobody_acts_and_with_it_who_asks(site: Site) -> None:
    lab = site.lab
    assert not lab.admits(site.name), "this laboratory begins without the policy"
    lab.wait(
        lambda: "Interventions are refused: the admission policy" in lab.operator.tail(200),
        10,
        "a word at start",
    )
    said = answer(site, made(site, "ana"))
    assert said["result"] == "Refused"
    assert f"gatewright-interventions is not in force in namespace {site.name}" in said["message"]
    assert "manifests/admission" in said["message"] and "--trust-interventions" in said["message"]
    assert site.status()["state"] == "WaitingForPerson" and "people" not in site.run()
    refused = lab.wait(
        lambda: [item for item in site.events() if item["reason"] == "InterventionRefused"],
        10,
        "an Event",
    )
    assert "is not in force" in refused[0]["note"] and refused[0]["type"] == "Warning"

    lab.admit()
    assert answer(site, made(site, "gatewright-admin"))["result"] == "Accepted"
    status = site.ended("Promoted")
    assert [line.partition(" (")[0] for line in status["run"]["people"]] == [
        "Confirm by gatewright-admin"
    ]
    site.clean()


@pytest.mark.parametrize(
    "weaker",
    [
        {"validationActions": ["Warn", "Audit"]},
        {"matchResources": {"namespaceSelector": {"matchLabels": {"nobody": "has-this"}}}},
    ],
    ids=["only-warns", "leaves-namespaces-out"],
)
def test_a_policy_that_is_there_and_refuses_nobody_proves_nothing(
    site: Site, weaker: dict[str, Any]
) -> None:
    lab = site.lab
    if lab.api.find(BINDING, (404,)) is None:
        lab.admit()
    before = lab.api.get(BINDING)["spec"]
    lab.api.merge(BINDING, {"spec": weaker})
    lab.wait(lambda: not lab.admits(site.name), 20, "the policy to be weaker")
    try:
        assert "is not in force" in answer(site, made(site, "ana"))["message"]
        assert site.status()["state"] == "WaitingForPerson"
    finally:
        lab.api.merge(BINDING, {"spec": {"matchResources": None, **before}})
        lab.wait(lambda: lab.admits(site.name), 20, "the policy to be in force again")
    assert answer(site, made(site, "gatewright-admin"))["result"] == "Accepted"
    site.ended("Promoted")


def test_what_was_made_while_nobody_acted_is_judged_by_how_it_is_found(site: Site) -> None:
    """The policy went away with the operator, and somebody made use of it."""
    lab = site.lab
    if lab.api.find(BINDING, (404,)) is None:
        lab.admit()
    lab.operator.stop()
    lab.api.delete(BINDING)
    lab.wait(lambda: not lab.admits(site.name), 20, "the policy to be gone")
    name = made(site, "ana")
    lab.operator.start()
    assert answer(site, name)["result"] == "Refused"
    assert site.status()["state"] == "WaitingForPerson"
    lab.api.delete(f"{ADMISSION}policies/{admission.POLICY_NAME}")
    lab.admit()


def test_what_the_operator_may_make_for_the_trial_it_may_not_act_by(site: Site) -> None:
    """It has `create` on Interventions, and no verb on Releases: who takes its token over still
    cannot act as a person."""
    lab = site.lab
    if not lab.admits(site.name):
        lab.admit()
    api = Api(lab.background, lab.server.kubeconfig_for(OPERATOR, []), OPERATOR)
    try:
        for by, words in (
            (OPERATOR, "may not confirm release shop"),
            ("ana", "nobody acts under another name"),
        ):
            spec = {"release": "shop", "action": "Confirm", "by": by}
            body = {
                "apiVersion": "gatewright.dev/v1alpha1",
                "kind": "Intervention",
                "metadata": {"name": "taken-over"},
                "spec": spec,
            }
            with pytest.raises(ApiError, match=words) as caught:
                api.create(INTERVENTIONS.format(site.name), body)
            assert caught.value.status == 403
    finally:
        api.close()


def test_who_wants_to_trust_everybody_says_so(lab: Lab, site: Site) -> None:
    if lab.api.find(BINDING, (404,)) is not None:
        lab.api.delete(BINDING)
        lab.api.delete(f"{ADMISSION}policies/{admission.POLICY_NAME}")
    lab.wait(lambda: not lab.admits(site.name), 20, "the policy to be gone")
    lab.operator.stop()
    lab.operator._arguments.append("--trust-interventions")
    try:
        lab.operator.start()
        assert answer(site, made(site, "ana"))["result"] == "Accepted"
        site.ended("Promoted")
        assert "taken at their word" in lab.operator.log.read_text()
    finally:
        lab.operator._arguments.remove("--trust-interventions")
        lab.operator.stop()


def test_an_intervention_cannot_be_changed_even_without_the_policy(site: Site) -> None:
    lab = site.lab
    if lab.api.find(BINDING, (404,)) is not None:
        lab.api.delete(BINDING)
        lab.wait(lambda: not lab.admits(site.name), 20, "the policy to be gone")
    path = f"{INTERVENTIONS.format(site.name)}/{made(site, 'ana')}"
    with pytest.raises(ApiError, match="an Intervention cannot be changed"):
        lab.api.merge(path, {"spec": {"by": "ben"}})
    lab.api.merge(path, {"metadata": {"labels": {"team": "shop"}}})
    assert lab.api.get(path)["spec"]["by"] == "ana"
