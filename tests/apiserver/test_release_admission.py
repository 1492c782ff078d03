"""Nobody does by a Release what they may not do: Releases of several users on a real API server,
with the shipped policy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml

from gatewright.codegen import authors, crds, schema
from tests.apiserver.people import People, Right, spoken, told
from tests.cluster.paths import CHECKOUT
from tests.harness.api import Api, ApiError
from tests.harness.lab import ADMISSION, Lab
from tests.harness.oracle import OPERATOR
from tests.harness.scenarios import TARGET, deploy, job

pytestmark = pytest.mark.apiserver

NODES = dict(schema.walk_schema(crds.schemas_of(crds.RELEASE)[0], "spec"))
JOBS = [path for path, node in NODES.items() if node.get(schema.MODEL_NOTE) == "Job"]
FLAGS = [path for path, node in NODES.items() if node.get(schema.MODEL_NOTE) == "FlagsStep"]

MAKE: Right = ("create", "batch", "jobs", "")
WEB: Right = ("patch", "apps", "deployments", "web")
DATABASE: Right = ("patch", "apps", "statefulsets", "db")
PODS: Right = ("delete", "", "pods", "")
SETTINGS: Right = ("patch", "", "configmaps", "settings")
SWITCHES: Right = ("patch", "", "configmaps", "switches")
KEYS: Right = ("patch", "", "secrets", "keys")
DEPLOYER: Right = ("impersonate", "", "serviceaccounts", "deployer")
EVERYTHING = (MAKE, WEB, DATABASE, PODS, SETTINGS, SWITCHES, KEYS, DEPLOYER)

WHERE: dict[Right, str] = {
    MAKE: "spec.preflight[smoke].job, spec.stages[ship].steps[migrate].job",
    WEB: "spec.targets[web].workload",
    DATABASE: "spec.targets[db].workload",
    PODS: "spec.targets[db].workload",
    SETTINGS: "spec.targets[web].workload.config",
    KEYS: "spec.targets[web].workload.config",
    SWITCHES: "spec.stages[ship].steps[switch].flags",
    DEPLOYER: "spec.stages[ship].steps[migrate].job",
}


def full() -> dict[str, Any]:
    """A Release that needs each of these rights."""
    database = {"kind": "StatefulSet", "name": "db", "images": {"db": "shop/db:$(version)"}}
    captured = [{"configMap": "settings"}, {"secret": "keys"}]
    return release(
        targets=[
            {
                "name": "web",
                "workload": {
                    "name": "web",
                    "images": {"app": "shop/web:$(version)"},
                    "config": captured,
                },
            },
            {"name": "db", "workload": database},
        ],
        preflight=[{"name": "smoke", "job": {"image": "smoke"}}],
        stages=[
            {
                "name": "ship",
                "steps": [
                    {
                        "name": "migrate",
                        "job": {"image": "migrate", "serviceAccountName": "deployer"},
                    },
                    {"name": "switch", "flags": {"configMap": "switches", "set": {"NEW": "on"}}},
                    {
                        "name": "env",
                        "flags": {"target": "web", "container": "app", "set": {"NEW": "on"}},
                    },
                ],
            }
        ],
    )


def release(name: str = "shop", **spec: Any) -> dict[str, Any]:
    waits = {"name": "ship", "steps": [{"name": "wait", "wait": "1s"}]}
    body = {"version": "2.0.0", "suspend": True, "stages": [waits], **spec}
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": name},
        "spec": body,
    }


def holding(path: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A Release with this at a path of the language, and nothing else."""
    body = release()
    *lists, leaf = path.removeprefix("spec.").split("[].")
    node = body["spec"]
    for part in lists:
        *outer, last = part.split(".")
        for name in outer:
            node = node.setdefault(name, {})
        found = node.setdefault(last, [])
        if last == "procedures":
            found.append({"name": "run", "steps": [{"name": "wait", "wait": "1s"}]})
        if part is lists[-1]:
            found.append({"name": "here"})
        node = found[-1]
    node[leaf] = dict(value)
    return body


def named(path: str) -> str:
    """The path as messages say it."""
    head, _, tail = path.rpartition("[].")
    return (
        head.replace("stages[]", "stages[ship]").replace("procedures[]", "procedures[run]")
        + f"[here].{tail}"
    )


@pytest.fixture(scope="module")
def people(laboratory: Lab) -> Iterator[People]:
    found = People(laboratory, laboratory.namespace().name)
    try:
        nobody = found.with_rights()
        laboratory.wait(
            lambda: "may not create jobs.batch" in found.said(nobody, full()),
            30,
            "the policy to be in force",
        )
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def author(people: People) -> Api:
    """Somebody who may do all that `full` does, and no more."""
    found = people.with_rights(*EVERYTHING)
    people.passes(found, full())
    return found


@pytest.fixture(scope="module")
def nobody(people: People) -> Api:
    """Somebody who may write Releases, their status included, and nothing else."""
    return people.with_rights(also=("releases/status",))


# --------------------------------------------------------------------------------------------------
# Each right


def test_the_policy_compiles_and_its_types_are_right(people: People) -> None:
    found = people.lab.api.get(f"{ADMISSION}policies/{authors.POLICY_NAME}")
    assert found["spec"]["failurePolicy"] == "Fail"
    assert found.get("status", {}).get("typeChecking", {}).get("expressionWarnings", []) == []


def test_who_may_do_it_by_themselves_may_write_it(people: People, author: Api) -> None:
    people.passes(author, full())
    people.passes(people.lab.api, full())


@pytest.mark.parametrize("right", EVERYTHING, ids=spoken)
def test_each_right_is_asked_for(people: People, right: Right) -> None:
    lacking = people.with_rights(*(item for item in EVERYTHING if item != right))
    people.refuses(lacking, full(), right, WHERE[right])


@pytest.mark.parametrize("right", [right for right in EVERYTHING if right[3]], ids=spoken)
def test_a_right_to_another_object_is_none(people: People, right: Right) -> None:
    other = (*right[:3], "other")
    people.refuses(
        people.with_rights(*({*EVERYTHING} - {right}), other), full(), right, WHERE[right]
    )


@pytest.mark.parametrize("right", [right for right in EVERYTHING if right[3]], ids=spoken)
def test_a_right_without_a_name_is_one_to_all(people: People, right: Right) -> None:
    people.passes(people.with_rights(*({*EVERYTHING} - {right}), (*right[:3], "")), full())


def test_kubernetes_own_role_edit_is_enough(people: People) -> None:
    """Its rules, and ours that are added to it: what aggregates them in a cluster does not run
    here."""
    user = f"{people.namespace}-editor"
    for role in ("system:aggregate-to-edit", "gatewright-edit"):
        people.bind(user, "ClusterRole", role)
    people.passes(people.user(user), full())


def test_a_right_in_one_namespace_is_none_in_another(people: People, author: Api) -> None:
    elsewhere = People(people.lab, people.lab.namespace().name)
    user = people.name_of(author)
    rule = {"apiGroups": ["gatewright.dev"], "resources": ["releases"], "verbs": ["create"]}
    elsewhere.bind(user, "Role", "writes", [rule])
    try:
        elsewhere.refuses(elsewhere.user(user), full(), MAKE, WHERE[MAKE])
    finally:
        elsewhere.close()


def test_who_is_impersonated_is_who_is_asked_about(people: People, nobody: Api) -> None:
    headers = {"Impersonate-User": people.name_of(nobody), "Content-Type": "application/json"}

    async def posted(body: dict[str, Any]) -> int:
        url = f"{people.lab.api.url}{people.path}?dryRun=All"
        async with people.lab.api._session.post(url, json=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    assert people.lab.background.run(posted(full())) == 403
    assert people.lab.background.run(posted(release())) == 201


# --------------------------------------------------------------------------------------------------
# Each place


def test_the_language_has_places_for_jobs_and_flags() -> None:
    assert len(JOBS) >= 5
    assert len(FLAGS) >= 2


@pytest.fixture(scope="module")
def maker(people: People) -> Api:
    """Somebody who may create Jobs."""
    found = people.with_rights(MAKE)
    people.passes(found, holding(JOBS[0], {"image": "tools"}))
    return found


@pytest.mark.parametrize("path", JOBS)
def test_a_job_is_asked_for_wherever_it_stands(
    people: People, maker: Api, nobody: Api, path: str
) -> None:
    for body in (
        {"image": "tools"},
        {"fromCronJob": "nightly"},
        {"template": {"spec": {"containers": []}}},
    ):
        people.refuses(nobody, holding(path, body), MAKE, named(path))
        people.passes(maker, holding(path, body))


TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"image": "tools", "serviceAccountName": "deployer"}, "deployer"),
    "template": ({"template": {"spec": {"serviceAccountName": "deployer"}}}, "deployer"),
    "old-name": ({"template": {"spec": {"serviceAccount": "deployer"}}}, "deployer"),
    "known-later": ({"template": {"spec": {"serviceAccountName": "$(vars.account)"}}}, ""),
    "automounted": ({"template": {"spec": {"automountServiceAccountToken": True}}}, "default"),
    "projected": (
        {
            "template": {
                "spec": {"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}
            }
        },
        "default",
    ),
}


@pytest.mark.parametrize("path", JOBS)
@pytest.mark.parametrize("kind", TOKENS)
def test_another_service_account_is_asked_for_wherever_it_stands(
    people: People, maker: Api, path: str, kind: str
) -> None:
    value, account = TOKENS[kind]
    people.refuses(
        maker, holding(path, value), ("impersonate", "", "serviceaccounts", account), named(path)
    )


def test_whoever_may_impersonate_it_may_name_it(people: People) -> None:
    users = {
        name: people.with_rights(MAKE, ("impersonate", "", "serviceaccounts", name))
        for name in {account for _, account in TOKENS.values()}
    }
    for value, account in TOKENS.values():
        people.passes(users[account], holding(JOBS[0], value))


@pytest.mark.parametrize(
    "body",
    [
        {"image": "tools", "serviceAccountName": "default"},
        {"template": {"spec": {"serviceAccountName": "default", "serviceAccount": "default"}}},
        {
            "template": {
                "spec": {"automountServiceAccountToken": False, "volumes": [{"emptyDir": {}}]}
            }
        },
        {"template": {"spec": {"serviceAccountName": "", "volumes": []}}},
        {
            "template": {
                "spec": {"serviceAccountName": None, "serviceAccount": None, "volumes": None}
            }
        },
        {
            "template": {
                "spec": {"volumes": [{"projected": {"sources": [{"configMap": {"name": "a"}}]}}]}
            }
        },
        {"template": {"metadata": {"labels": {"a": "b"}}}},
    ],
    ids=json.dumps,
)
def test_what_every_pod_has_needs_no_more_than_the_job(
    people: People, maker: Api, body: dict[str, Any]
) -> None:
    people.passes(maker, holding(JOBS[0], body))


@pytest.mark.parametrize("path", FLAGS)
def test_flags_are_asked_for_wherever_they_stand(people: People, nobody: Api, path: str) -> None:
    flags = {"configMap": "switches", "set": {"NEW": "on"}}
    people.refuses(nobody, holding(path, flags), SWITCHES, named(path))


def test_what_changes_nothing_in_the_cluster_needs_no_right(people: People, nobody: Api) -> None:
    people.passes(nobody, release())
    people.passes(nobody, release(preflight=[{"name": "go", "approval": {}}]))


# --------------------------------------------------------------------------------------------------
# Names


def workload(name: str, **more: Any) -> dict[str, Any]:
    target = {"name": "web", "workload": {"name": name, "images": {"app": "a:$(version)"}, **more}}
    return release(vars={"app": "web"}, targets=[target])


@pytest.mark.parametrize(
    "name", ["$(vars.app)", "web-$(version)", "$(vars.app)\npatch,,secrets,x, y"]
)
def test_a_name_that_is_known_only_later_may_be_any(people: People, author: Api, name: str) -> None:
    people.refuses(
        author, workload(name), ("patch", "apps", "deployments", ""), "spec.targets[web].workload"
    )
    people.passes(people.with_rights(("patch", "apps", "deployments", "")), workload(name))


def test_ten_targets_are_asked_for_by_name(people: People) -> None:
    names = [f"web{number}" for number in range(10)]
    body = release(
        targets=[
            {"name": name, "workload": workload(name)["spec"]["targets"][0]["workload"]}
            for name in names
        ]
    )
    rights: list[Right] = [("patch", "apps", "deployments", name) for name in names]
    people.passes(people.with_rights(*rights), body)
    people.refuses(
        people.with_rights(*rights[:-1]), body, rights[-1], "spec.targets[web9].workload"
    )


def test_with_more_names_than_can_be_asked_for_the_others_are_asked_for_together(
    people: People,
) -> None:
    names = [f"part{number}" for number in range(authors.MAX_NAMES_ASKED + 3)]
    flags = [{"name": name, "flags": {"configMap": name, "set": {"NEW": "on"}}} for name in names]
    few = release(stages=[{"name": "ship", "steps": flags[: authors.MAX_NAMES_ASKED]}])
    many = release(stages=[{"name": "ship", "steps": flags}])
    rights: list[Right] = [("patch", "", "configmaps", name) for name in names]
    limited = people.with_rights(*rights)
    people.passes(limited, few)
    where = (
        f"spec.stages[ship].steps[part{authors.MAX_NAMES_ASKED}].flags, after "
        f"{authors.MAX_NAMES_ASKED} other names"
    )
    people.refuses(limited, many, ("patch", "", "configmaps", ""), where)
    people.passes(people.with_rights(("patch", "", "configmaps", "")), many)


def test_an_object_that_is_named_often_is_one(people: People) -> None:
    flags = [
        {"name": f"n{number}", "flags": {"configMap": "switches", "set": {"A": str(number)}}}
        for number in range(20)
    ]
    stages = [{"name": f"s{number}", "steps": flags} for number in range(20)]
    body = release(stages=stages)
    people.passes(people.with_rights(SWITCHES), body)
    said = "spec.stages[s0].steps[n0].flags and 399 more"
    people.refuses(people.with_rights(SETTINGS), body, SWITCHES, said)


# --------------------------------------------------------------------------------------------------
# What is not a change of the spec


@pytest.fixture
def made(people: People) -> str:
    """A Release that somebody with every right has written."""
    name = f"made{next(people._numbers)}"
    people.lab.api.create(people.path, full() | {"metadata": {"name": name}})
    return name


def test_labels_annotations_and_finalizers_are_nobodys_business(
    people: People, nobody: Api, made: str
) -> None:
    for metadata in (
        {"labels": {"team": "shop"}},
        {"annotations": {"a": "b"}},
        {"finalizers": ["example.com/a"]},
    ):
        assert people.changes(nobody, made, {"metadata": metadata}) == ""


def test_an_unchanged_apply_passes(people: People, nobody: Api, made: str) -> None:
    body = full() | {"metadata": {"name": made, "labels": {"by": "gitops"}}}
    path = f"{people.path}/{made}?dryRun=All&fieldManager=gitops&force=true"
    kind = "application/apply-patch+yaml"
    assert told(lambda: nobody.request("PATCH", path, body, kind)) == ""
    body["spec"]["version"] = "2.0.1"
    assert "may not create jobs.batch" in told(lambda: nobody.request("PATCH", path, body, kind))


def test_a_replaced_object_passes_with_the_same_spec_alone(
    people: People, nobody: Api, made: str
) -> None:
    def replaced(**spec: Any) -> str:
        """The operator may write its status between the two requests; then once more."""
        while True:
            found = people.lab.api.get(f"{people.path}/{made}")
            try:
                nobody.request(
                    "PUT",
                    f"{people.path}/{made}?dryRun=All",
                    found | {"spec": found["spec"] | spec},
                )
            except ApiError as error:
                if error.status != 409:
                    return str(error)
            else:
                return ""

    assert replaced() == ""
    assert "may not create jobs.batch" in replaced(guardFor="1m")


@pytest.mark.parametrize(
    "spec", [{"version": "3.0.0"}, {"suspend": False}, {"vars": {"a": "b"}}], ids=json.dumps
)
def test_any_change_of_the_spec_is_asked_for_as_a_whole(
    people: People, author: Api, nobody: Api, made: str, spec: dict[str, Any]
) -> None:
    assert "may not create jobs.batch" in people.changes(nobody, made, {"spec": spec})
    assert people.changes(author, made, {"spec": spec}) == ""


def test_deleting_is_not_touched(people: People, nobody: Api, made: str) -> None:
    nobody.delete(f"{people.path}/{made}")
    people.lab.wait(
        lambda: people.lab.api.find(f"{people.path}/{made}") is None, 10, "it to be gone"
    )


# --------------------------------------------------------------------------------------------------
# The operator


def test_the_operator_does_its_work_under_the_policy(laboratory: Lab, people: People) -> None:
    """With the shipped rights: Jobs, a workload, flags, captured objects, and all of it back
    again."""
    lab = laboratory
    if not lab.operator.alive:
        lab.operator.start()
    site = lab.namespace()
    site.deployment()
    site.configmap("settings", {"A": "1"})
    site.configmap("switches", {"NEW": "off"})
    site.secret("keys", {"token": "of-no-use"})
    target = {
        **TARGET,
        "workload": {
            **TARGET["workload"],
            "config": [{"configMap": "settings"}, {"secret": "keys"}],
        },
    }
    switch = {"name": "switch", "flags": {"configMap": "switches", "set": {"NEW": "on"}}}
    stage = {"name": "ship", "steps": [job("migrate"), switch, deploy()]}
    spec = {"version": "2.0.0", "targets": [target], "stages": [stage]}
    users = People(lab, site.name)
    rights = (MAKE, WEB, SETTINGS, SWITCHES, KEYS)
    try:
        writer = users.with_rights(*rights)
        users.passes(writer, release(**spec))
        writer.create(site.path(), release(**spec | {"suspend": False}))
        site.ended("Promoted")
        broken = {"name": "broken", "steps": [job("fails", FAKE_EXIT="1")]}
        writer.merge(site.path("shop"), {"spec": {"version": "3.0.0", "stages": [stage, broken]}})
        site.ended("RolledBack", run=2)
        assert site.data("switches") == {"NEW": "on"}
        assert site.image() == "shop/web:2.0.0"
        site.clean()
    finally:
        users.close()


@pytest.mark.parametrize("scope", ["cluster", "namespaced"])
def test_the_operators_own_rights_write_finalizers_and_status_only(
    people: People, made: str, scope: str
) -> None:
    user = OPERATOR
    if scope == "namespaced":
        user = f"{people.namespace}-operator"
        parts = [
            CHECKOUT / "manifests" / part / "namespaced/role.yaml" for part in ("rbac", "capture")
        ]
        found = [item for path in parts for item in yaml.safe_load_all(path.read_text())]
        people.bind(user, "Role", user, [rule for item in found for rule in item.get("rules", ())])
    api = people.user(user)
    finalizers = {"metadata": {"finalizers": ["gatewright.dev/run"], "annotations": {"a": "b"}}}
    people.lab.wait(lambda: not people.changes(api, made, finalizers), 10, "its rights to be known")
    assert people.changes(api, made, {"status": {"message": "hello"}}, "/status") == ""
    # Its spec is not its own to change: the operator has these rights, but who takes its token over
    # may not impersonate.
    assert "may not impersonate" in people.changes(api, made, {"spec": {"version": "3.0.0"}})


# --------------------------------------------------------------------------------------------------
# Limits


def largest(account: Callable[[int], str], configmap: Callable[[int], str]) -> dict[str, Any]:
    """As much as the language takes, each Job with an account of its own; names as long as they may
    be."""
    numbers = itertools.count()

    def long(text: str) -> str:
        return text.ljust(40, "n")

    def run() -> dict[str, Any]:
        pod = {
            "serviceAccountName": account(next(numbers)),
            "volumes": [{"name": "a", "emptyDir": {}}],
        }
        return {"template": {"spec": pod}}

    def steps(kind: str, count: int) -> list[dict[str, Any]]:
        return [{"name": long(f"{kind}{number}"), "job": run()} for number in range(count)]

    def captured(target: int) -> list[dict[str, str]]:
        return [
            {("configMap", "secret")[item % 2]: configmap(20 * target + item)} for item in range(20)
        ]

    def target(number: int) -> dict[str, Any]:
        name = f"web{number}-".ljust(253, "w")
        config = {
            "kind": ("Deployment", "StatefulSet")[number % 2],
            "name": name,
            "images": {"app": "a:1"},
        }
        return {"name": long(f"t{number}"), "workload": {**config, "config": captured(number)}}

    def stage(number: int) -> dict[str, Any]:
        back = {"steps": steps("r", 10)}
        return {
            "name": long(f"s{number}"),
            "steps": steps("a", 20),
            "gates": steps("g", 20),
            "rollback": back,
        }

    by_hand = {"within": "1h", "confirm": {"instructions": "Look."}}
    return release(
        targets=[target(number) for number in range(10)],
        preflight=steps("p", 20),
        stages=[stage(number) for number in range(10)],
        rollback={"verify": steps("v", 20)},
        followUps=[{"name": long(f"f{number}"), **by_hand} for number in range(20)],
    )


LARGEST: dict[str, dict[str, Any]] = {
    "one-of-each": largest(lambda _: "deployer", lambda _: "settings"),
    "all-different": largest(
        lambda number: f"a{number}-".ljust(240, "x"), lambda number: f"c{number}".ljust(253, "x")
    ),
}


EVERY = [(*right[:3], "") for right in EVERYTHING]
PADDED = "gatewright-releases-padded"
IN_FORCE = "the padded policy is in force"


@pytest.fixture
def padded(people: People) -> Iterator[None]:
    """Beside the policy another one, which asks as much as that one may."""
    api, namespace = people.lab.api, people.namespace
    spec = authors.policy_spec()
    asked = [rule for rule in spec["validations"] if "authorizer" in rule["expression"]]
    more = "authorizer.group('x').resource('y{}').namespace(request.namespace).check('get')"
    spec["validations"] += [
        {"expression": f"{more.format(number)}.allowed() || true"}
        for number in range(authors.MAX_QUESTIONS - len(asked))
    ]
    mark = {"expression": "object.metadata.name != 'padded'", "message": IN_FORCE}
    spec["validations"].insert(0, mark)
    names = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding = {
        "policyName": PADDED,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": names},
    }
    kinds = (("policies", "Policy", spec), ("policybindings", "PolicyBinding", binding))
    for plural, kind, content in kinds:
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"ValidatingAdmission{kind}",
            "metadata": {"name": PADDED},
            "spec": content,
        }
        api.create(f"{ADMISSION}{plural}", body)
    try:
        yield
    finally:
        for plural, *_ in reversed(kinds):
            api.delete(f"{ADMISSION}{plural}/{PADDED}")


@pytest.mark.usefixtures("padded")
@pytest.mark.parametrize("size", LARGEST)
def test_as_many_questions_as_there_may_be_leave_room_for_the_variables(
    people: People, size: str
) -> None:
    able = people.with_rights(*EVERY)
    people.tells(able, release("padded"), IN_FORCE)
    people.passes(able, LARGEST[size])


@pytest.mark.parametrize("size", LARGEST)
def test_the_largest_release_is_answered(people: People, nobody: Api, size: str) -> None:
    """CEL's budget ends at run time: an answer that says so instead would lock out everybody."""
    people.tells(
        nobody, LARGEST[size], f"{people.name_of(nobody)} may not create jobs.batch in namespace"
    )
    people.passes(people.with_rights(*EVERY), LARGEST[size])


@pytest.mark.parametrize("right", sorted({*EVERY} - {EVERY[0]}), ids=spoken)
def test_no_right_is_lost_in_the_largest_release(people: People, right: Right) -> None:
    lacking = people.with_rights(*({*EVERY} - {right}))
    people.tells(
        lacking, LARGEST["one-of-each"], f"{people.name_of(lacking)} may not {right[0]} {right[2]}"
    )
