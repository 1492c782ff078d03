"""Nobody acts under another's name: Interventions made and forged by several users on a real API
server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.codegen import admission, crds, rbac
from tests.cluster import ApiServer, Unavailable
from tests.cluster.paths import CHECKOUT
from tests.harness.api import Api, ApiError
from tests.harness.loop import Background

pytestmark = pytest.mark.apiserver

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = f"/apis/{admission.API_VERSION}"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MADE = "/apis/gatewright.dev/v1alpha1/namespaces/{}/interventions"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    started = ApiServer()
    try:
        started.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        yield started
    finally:
        started.stop()


class People:
    """Users of one API server, each with a certificate of their own."""

    def __init__(self, server: ApiServer, background: Background) -> None:
        self._server, self._background = server, background
        self._open: dict[tuple[str, tuple[str, ...]], Api] = {}
        self.admin = Api(background, server.kubeconfig, "admin")

    def api(self, user: str, *groups: str) -> Api:
        if (user, groups) not in self._open:
            config = self._server.kubeconfig_for(user, groups)
            self._open[user, groups] = Api(self._background, config, user)
        return self._open[user, groups]

    def close(self) -> None:
        for api in (self.admin, *self._open.values()):
            api.close()


@pytest.fixture(scope="module")
def people(server: ApiServer) -> Iterator[People]:
    """ana releases in shop, ben approves there, cem may only press stop on web, dan may make
    Interventions and no more."""
    with Background() as background:
        found = People(server, background)
        try:
            _install(found.admin)
            yield found
        finally:
            found.close()


def _documents(folder: str) -> Iterator[dict[str, Any]]:
    for path in sorted((CHECKOUT / folder).glob("*.yaml")):
        yield from (
            item
            for item in yaml.safe_load_all(path.read_text())
            if isinstance(item, dict) and "rules" in item
        )


def _install(api: Api) -> None:
    for path in sorted((CHECKOUT / "crds").glob("gatewright.dev_*.yaml")):
        api.create(DEFINITIONS, yaml.safe_load(path.read_text()))
    for role in _documents("manifests/rbac/common"):
        if role["kind"] == "ClusterRole":
            api.create(f"{RBAC}/clusterroles", role)
    for namespace in ("shop", "blog"):
        api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    make = {
        "apiGroups": ["gatewright.dev"],
        "resources": ["interventions"],
        "verbs": ["create", "get", "update"],
    }
    stop = {
        "apiGroups": ["gatewright.dev"],
        "resources": ["releases"],
        "verbs": ["abort"],
        "resourceNames": ["web"],
    }
    for name, rules in (("makes", [make]), ("stops-web", [stop])):
        api.create(f"{RBAC}/namespaces/shop/roles", {"metadata": {"name": name}, "rules": rules})
    for user, kind, role in (
        ("ana", "ClusterRole", rbac.RELEASER_ROLE),
        ("ben", "ClusterRole", rbac.APPROVER_ROLE),
        ("cem", "Role", "makes"),
        ("cem", "Role", "stops-web"),
        ("dan", "Role", "makes"),
        ("ana", "Role", "makes"),
    ):
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"}
        body = {"metadata": {"name": f"{user}-{role}"}, "subjects": [subject], "roleRef": reference}
        api.create(f"{RBAC}/namespaces/shop/rolebindings", body)
    for file, plural in (("policy", "policies"), ("binding", "policybindings")):
        document = yaml.safe_load((CHECKOUT / f"manifests/admission/{file}.yaml").read_text())
        api.create(f"{ADMISSION}/validatingadmission{plural}", document)
    _eventually(lambda: _enforced(api))


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the policy is not enforced"
        time.sleep(0.1)


def _enforced(api: Api) -> bool:
    """A policy counts a moment after it was made: until then a forged act comes through (as a dry
    run)."""
    try:
        api.create(MADE.format("shop") + "?dryRun=All", act("nobody", "Abort"))
    except ApiError as error:
        return error.status in (403, 422) and "nobody acts under another name" in str(error)
    return False


_numbers = itertools.count(1)


def act(by: str, action: str, release: str = "web", **more: Any) -> dict[str, Any]:
    name = f"{release}-{action.lower()}-{next(_numbers)}"
    # A Hotfix says why, and a Run what.
    reason = {"reason": "P0"} if action == "Hotfix" else {}
    if action == "Run":
        reason = {"procedure": "clear-cache"}
    spec = {"release": release, "action": action, "by": by, **reason, **more}
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Intervention",
        "metadata": {"name": name},
        "spec": spec,
    }


def refused(api: Api, body: dict[str, Any], namespace: str = "shop") -> str:
    with pytest.raises(ApiError) as caught:
        api.create(MADE.format(namespace), body)
    assert caught.value.status in (403, 422), caught.value
    return str(caught.value)


def test_the_policy_compiles_and_its_types_are_right(people: People) -> None:
    def checked() -> bool:
        found = people.admin.get(f"{ADMISSION}/validatingadmissionpolicies/{admission.POLICY_NAME}")
        return "observedGeneration" in found.get("status", {})

    found = people.admin.get(f"{ADMISSION}/validatingadmissionpolicies/{admission.POLICY_NAME}")
    # The check of types is the controller manager's; without one there is no status, and creation
    # compiled it.
    assert (
        not checked() or found["status"].get("typeChecking", {}).get("expressionWarnings", []) == []
    )
    assert found["spec"]["failurePolicy"] == "Fail"


def test_who_releases_may_do_everything_in_the_own_namespace(people: People) -> None:
    for verb in admission.VERBS:
        made = people.api("ana").create(MADE.format("shop"), act("ana", verb.capitalize()))
        assert made["spec"]["by"] == "ana"


def test_who_approves_may_say_yes_and_no_and_nothing_else(people: People) -> None:
    for verb in admission.VERBS:
        body = act("ben", verb.capitalize())
        if verb in ("approve", "reject", "confirm"):
            people.api("ben").create(MADE.format("shop"), body)
        else:
            assert f"ben may not {verb} release web" in refused(people.api("ben"), body)


def test_nobody_acts_under_another_name(people: People) -> None:
    words = refused(people.api("ben"), act("ana", "Rollback"))
    assert "nobody acts under another name" in words
    assert '"ana" is not who asks ("ben")' in words


def test_not_even_the_administrator(people: People) -> None:
    assert "nobody acts under another name" in refused(people.admin, act("ana", "Rollback"))
    assert people.admin.create(MADE.format("shop"), act("gatewright-admin", "Rollback"))


def test_a_verb_for_one_release_is_for_that_release_alone(people: People) -> None:
    people.api("cem").create(MADE.format("shop"), act("cem", "Abort", "web"))
    assert "may not abort release api" in refused(people.api("cem"), act("cem", "Abort", "api"))
    assert "may not pause release web" in refused(people.api("cem"), act("cem", "Pause", "web"))


def test_who_may_only_make_interventions_can_do_nothing_with_them(people: People) -> None:
    for verb in admission.VERBS:
        assert "RBAC does not allow that verb" in refused(
            people.api("dan"), act("dan", verb.capitalize())
        )


def test_a_right_in_one_namespace_is_none_in_another(people: People) -> None:
    assert "forbidden" in refused(people.api("ana"), act("ana", "Approve"), "blog").lower()
    # Even who may make Interventions there needs the verb there.
    role = {"apiGroups": ["gatewright.dev"], "resources": ["interventions"], "verbs": ["create"]}
    people.admin.create(
        f"{RBAC}/namespaces/blog/roles", {"metadata": {"name": "makes"}, "rules": [role]}
    )
    subject = {"kind": "User", "name": "ana", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "makes", "apiGroup": "rbac.authorization.k8s.io"}
    body = {"metadata": {"name": "ana"}, "subjects": [subject], "roleRef": reference}
    people.admin.create(f"{RBAC}/namespaces/blog/rolebindings", body)
    _eventually(
        lambda: "may not approve" in refused(people.api("ana"), act("ana", "Approve"), "blog")
    )


def test_groups_are_shown_only_by_their_members(people: People) -> None:
    member = people.api("ana", "release-managers")
    assert member.create(MADE.format("shop"), act("ana", "Approve", groups=["release-managers"]))
    assert "not in all of these groups: release-managers" in refused(
        people.api("ana"), act("ana", "Approve", groups=["release-managers"])
    )
    assert "not in all of these groups" in refused(
        member, act("ana", "Approve", groups=["release-managers", "owners"])
    )


def test_who_is_impersonated_is_who_acts(people: People, server: ApiServer) -> None:
    """Impersonation is a right of its own; what it gives is judged as the other's."""

    async def posted(body: dict[str, Any]) -> int:
        headers = {"Impersonate-User": "ben", "Content-Type": "application/json"}
        url = people.admin.url + MADE.format("shop")
        async with people.admin._session.post(url, json=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    run = people.admin._background.run
    assert run(posted(act("ben", "Approve"))) == 201
    assert run(posted(act("ben", "Rollback"))) in (403, 422)
    assert run(posted(act("gatewright-admin", "Rollback"))) in (403, 422)


def test_an_intervention_cannot_be_changed(people: People) -> None:
    made = people.api("ana").create(MADE.format("shop"), act("ana", "Pause", reason="lunch"))
    path = f"{MADE.format('shop')}/{made['metadata']['name']}"
    for api in (people.api("ana"), people.admin):
        for change in ({"action": "Rollback"}, {"by": "ben"}, {"reason": "dinner"}, {"run": 3}):
            body = made | {"spec": made["spec"] | change}
            with pytest.raises(ApiError, match="cannot be changed"):
                api.request("PUT", path, body)
    assert people.admin.get(path)["spec"] == made["spec"]


def test_its_status_is_not_the_makers_to_write(people: People) -> None:
    body = act("ana", "Pause") | {"status": {"result": "Accepted", "message": "forged"}}
    made = people.api("ana").create(MADE.format("shop"), body)
    assert "status" not in made
    with pytest.raises(ApiError) as caught:
        people.api("ana").merge(
            f"{MADE.format('shop')}/{made['metadata']['name']}/status", {"status": body["status"]}
        )
    assert caught.value.status == 403


def test_the_shipped_roles_cannot_delete_the_log(people: People) -> None:
    made = people.api("ana").create(MADE.format("shop"), act("ana", "Pause"))
    with pytest.raises(ApiError) as caught:
        people.api("ana").delete(f"{MADE.format('shop')}/{made['metadata']['name']}")
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"action": "Pause", "stage": "a"}, "stage goes with"),
        ({"action": "Retry", "step": "a"}, "step goes with"),
        ({"action": "Confirm", "gate": "a"}, "gate goes with"),
        ({"action": "Abort", "specHash": "0" * 32}, "specHash goes with"),
        ({"action": "Approve", "specHash": "0" * 31}, "spec.specHash"),
        (
            {"action": "Confirm", "followUp": "a", "specHash": "0" * 32},
            "leave out stage, step, gate and specHash",
        ),
        ({"action": "Destroy"}, "spec.action"),
        ({"action": "Abort", "run": 0}, "spec.run"),
        ({"action": "Abort", "reason": "x" * 1025}, "spec.reason"),
        ({"action": "Abort", "groups": ["a"] * 65}, "spec.groups"),
    ],
)
def test_what_it_cannot_say_is_refused(people: People, spec: dict[str, Any], says: str) -> None:
    body = act("ana", "Pause")
    body["spec"] = {"release": "web", "by": "ana"} | spec
    assert says in refused(people.api("ana"), body)


def test_the_table_has_the_columns_of_an_audit_log() -> None:
    document = yaml.safe_load(Path(CHECKOUT / "crds/gatewright.dev_interventions.yaml").read_text())
    columns = document["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == [
        "Release", "Action", "By", "Run", "Result", "Age",
    ]  # fmt: skip
    assert crds.INTERVENTION.short == "itv"
