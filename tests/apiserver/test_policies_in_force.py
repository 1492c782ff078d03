"""Each policy is broken in each of these ways, and each time the operator finds out: on a real API
server.

There is a namespace for each way, and a copy of each policy that is bound to it and broken: the API
server takes a moment for any change of a policy, and so it takes one for all of them.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client, config

from gatewright.api import API_VERSION
from gatewright.codegen import admission, authors, job_owners, openers, requesters, statuses, uses
from gatewright.runtime import admission_probe
from gatewright.runtime.admission_trials import (
    ALL_TRIALS,
    INTERVENTION_TRIAL,
    RUNBOOK_TRIALS,
    Trial,
)
from gatewright.runtime.cluster.kube import Kube
from tests.cluster.paths import CHECKOUT
from tests.harness.lab import CONNECTIONS, PLURALS, RELEASES, RUNBOOKS, Lab, require
from tests.harness.oracle import OPERATOR

pytestmark = pytest.mark.apiserver
Spec = dict[str, Any]
Break = Callable[[Spec, Spec], None]
"""Changes the specs of a policy and of its binding."""
FOLDER = CHECKOUT / "manifests" / "admission"


def _nothing_matches(policy: Spec, binding: Spec) -> None:
    policy["matchConditions"] = [{"name": "never", "expression": "false"}]


def _rule(**changes: Any) -> Break:
    def change(policy: Spec, binding: Spec) -> None:
        policy["matchConstraints"]["resourceRules"][0] |= changes

    return change


def _other_version(policy: Spec, binding: Spec) -> None:
    policy["matchConstraints"]["matchPolicy"] = "Exact"
    policy["matchConstraints"]["resourceRules"][0]["apiVersions"] = ["v9"]


def _excluded(policy: Spec, binding: Spec) -> None:
    rule = policy["matchConstraints"]["resourceRules"][0]
    binding["matchResources"]["excludeResourceRules"] = [rule]


def _binding(**changes: Any) -> Break:
    return lambda policy, binding: binding.update(changes)


def _bound_to(**changes: Any) -> Break:
    return lambda policy, binding: binding["matchResources"].update(changes)


def _policy_selects(key: str) -> Break:
    return lambda policy, binding: policy["matchConstraints"].update(
        {key: {"matchLabels": {"nobody": "has-this"}}}
    )


def _no_parameter(policy: Spec, binding: Spec) -> None:
    policy["paramKind"] = {"apiVersion": "v1", "kind": "ConfigMap"}
    where = {"name": "gone", "namespace": "default", "parameterNotFoundAction": "Allow"}
    binding["paramRef"] = where


def _all(expression: str, failure: str = "Fail") -> Break:
    def change(policy: Spec, binding: Spec) -> None:
        policy["failurePolicy"] = failure
        for item in policy["validations"]:
            item["expression"] = expression

    return change


SHIPPED = "as-shipped"
WAYS: dict[str, Break] = {
    "warns": _binding(validationActions=["Warn"]),
    "audits": _binding(validationActions=["Audit"]),
    "another-namespace": _bound_to(
        namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    ),
    "some-objects": _bound_to(objectSelector={"matchLabels": {"nobody": "has-this"}}),
    "named-objects": _rule(resourceNames=["only-this"]),
    "policy-for-some-namespaces": _policy_selects("namespaceSelector"),
    "policy-for-some-objects": _policy_selects("objectSelector"),
    "excluded": _excluded,
    "never-matches": _nothing_matches,
    "no-parameter": _no_parameter,
    "allows-all": _all("true"),
    "broken-and-ignored": _all("dyn(object).nothing.is.here == 1", "Ignore"),
    "broken": _all("dyn(object).nothing.is.here == 1"),
    "another-group": _rule(apiGroups=["example.com"]),
    "another-resource": _rule(resources=["widgets"]),
    "another-version": _other_version,
    "cluster-scope": _rule(scope="Cluster"),
    "without-CREATE": _rule(operations=["UPDATE"]),
    "without-UPDATE": _rule(operations=["CREATE"]),
    "without-policy": lambda policy, binding: policy.clear(),
    "without-binding": lambda policy, binding: binding.clear(),
    # The last one: where it is in force, the API server knows of the others.
    SHIPPED: lambda policy, binding: None,
}
READ = ("without-CREATE", "without-UPDATE", SHIPPED)
"""Ways in which the text of a policy is read; in the others one that refuses all stands for it, and
is never asked."""
HARMLESS = {
    ("without-CREATE", statuses.POLICY_NAME): "what is created has no status",
    (
        "without-UPDATE",
        admission.POLICY_NAME,
    ): "the CRD itself refuses every change of an Intervention",
}
"""Ways in which a policy goes on proving all that it has to."""
UNTRIED = {
    (
        "without-UPDATE",
        job_owners.POLICY_NAME,
    ): "there may be no Job in the namespace whose change could be tried",
}
"""Ways that the operator does not find out; docs/security.md says so."""


TRIALS = (*ALL_TRIALS, *RUNBOOK_TRIALS)
POLICIES = tuple(dict.fromkeys(trial.policy for trial in TRIALS))


def called(trial: Trial) -> str:
    return f"{trial.policy} ({trial.plural})"


class Bench:
    """The broken policies, and what the operator finds of them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        shipped = {(item["kind"], item["metadata"]["name"]): item for item in _shipped()}
        for way in WAYS:
            self._prepare(way)
            for name in POLICIES:
                policy, binding = (
                    shipped[f"ValidatingAdmissionPolicy{part}", name] for part in ("", "Binding")
                )
                self._break(way, copy.deepcopy(policy), copy.deepcopy(binding))
        self.kube = lab.background.run(connected(lab.server.kubeconfig_for(OPERATOR, [])))

    def _prepare(self, way: str) -> None:
        site = self.lab.namespace(way.lower())
        stages = [{"name": "ship", "steps": [{"name": "wait", "wait": "1s"}]}]
        site.apply({"version": "2.0.0", "suspend": True, "stages": stages})
        body = {"apiVersion": API_VERSION, "kind": "Runbook", "metadata": {"name": "web"}}
        self.lab.api.create(RUNBOOKS.format(site.name), body | {"spec": {"stages": stages}})

    def _break(self, way: str, policy: Spec, binding: Spec) -> None:
        base = policy["metadata"]["name"]
        name = f"{base}-{way.lower()}"
        policy["metadata"]["name"] = binding["metadata"]["name"] = name
        here = {"matchLabels": {"kubernetes.io/metadata.name": way.lower()}}
        binding["spec"] |= {"policyName": name, "matchResources": {"namespaceSelector": here}}
        unchanged = copy.deepcopy(policy)
        WAYS[way](policy["spec"], binding["spec"])
        if (
            way != SHIPPED and policy == unchanged
        ):  # one that is there already, and costs the API server seconds to read
            binding["spec"] |= {"policyName": f"{base}-{SHIPPED}"} if binding["spec"] else {}
            policy["spec"] = {}
        elif policy["spec"] and way not in READ:
            told = policy["spec"]["validations"][0]["expression"]
            text = told if "broken" in way or told == "true" else "false"
            policy["spec"] |= {"variables": [], "validations": [{"expression": text}]}
        for body in (policy, binding):
            if body["spec"]:
                self.lab.api.create(PLURALS[body["kind"]], body)

    def close(self) -> None:
        self.lab.background.run(self.kube.close())

    def doubts(self, way: str) -> dict[str, str]:
        """What the operator finds, by the policy and the kind that it is tried with."""

        async def ask() -> list[str]:
            return await asyncio.gather(
                *(doubt_of(self.kube, way.lower(), trial) for trial in TRIALS)
            )

        found = self.lab.background.run(ask())
        return {called(trial): doubt for trial, doubt in zip(TRIALS, found, strict=True)}


def _shipped() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.yaml")):
        yield from (
            item for item in yaml.safe_load_all(path.read_text()) if item["kind"] in PLURALS
        )


async def connected(kubeconfig: Path) -> Kube:
    configuration = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    return Kube(client.ApiClient(configuration))


async def doubt_of(kube: Kube, namespace: str, trial: Trial) -> str:
    if trial is INTERVENTION_TRIAL:
        return await admission_probe.probe_interventions(kube, namespace)
    names = {"connections": "prometheus", "releases": "shop", "runbooks": "web", "jobs": "none"}
    return await admission_probe.probe_author(kube, namespace, names, (trial,))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    require()
    with Lab(policy=False, audit_level="Metadata") as lab:
        found = Bench(lab)
        try:
            lab.wait(
                lambda: not any(found.doubts(SHIPPED).values()), 30, "the policies to be in force"
            )
            yield found
        finally:
            found.close()


@pytest.mark.parametrize("trial", TRIALS, ids=called)
@pytest.mark.parametrize("way", [way for way in WAYS if way != SHIPPED])
def test_a_policy_that_is_broken_is_found_out(bench: Bench, way: str, trial: Trial) -> None:
    found = bench.doubts(way)[called(trial)]
    if (way, trial.policy) in HARMLESS | UNTRIED:
        return
    assert (
        trial.policy in found
        and ("cannot be found out" if way == "broken" else "not in force") in found
    )
    assert "manifests/admission" in found and "--trust-" in found


def test_every_policy_is_tried() -> None:
    assert [trial.policy for trial in ALL_TRIALS] == [
        part.POLICY_NAME
        for part in (admission, authors, uses, requesters, statuses, job_owners, openers)
    ]  # fmt: skip
    assert set(POLICIES) == {item["metadata"]["name"] for item in _shipped()}


def test_what_a_policy_allows_is_not_changed_by_the_trials(bench: Bench) -> None:
    """They are dry runs, and leave nothing."""
    assert not any(bench.doubts(SHIPPED).values())
    for path in (RELEASES, CONNECTIONS, RUNBOOKS):
        names = [
            item["metadata"]["name"] for item in bench.lab.api.get(path.format(SHIPPED))["items"]
        ]
        assert names in (["shop"], ["prometheus"], ["web"])
    assert "status" not in bench.lab.api.get(f"{RELEASES.format(SHIPPED)}/shop")


def test_the_reserved_name_is_refused_to_who_may_do_everything(bench: Bench) -> None:
    """Also an operator that runs as an administrator can tell."""

    async def ask() -> list[str]:
        kube = await connected(bench.lab.server.kubeconfig)
        try:
            return [await doubt_of(kube, SHIPPED, trial) for trial in TRIALS]
        finally:
            await kube.close()

    assert bench.lab.background.run(ask()) == [""] * len(TRIALS)
