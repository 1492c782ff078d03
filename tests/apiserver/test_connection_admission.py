"""Nobody opens, uses or says by Gatewright what they may not: Connections, Releases that use them,
and statuses, written by several users on a real API server, with the shipped policies."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gatewright.codegen import crds, openers, schema, statuses, uses
from gatewright.providers import registry
from gatewright.runtime.admission_trials import RESERVED_NAME
from tests.apiserver.people import People, Right
from tests.cluster.paths import CHECKOUT
from tests.harness.api import Api
from tests.harness.lab import ADMISSION, CONNECTIONS, INTERVENTIONS, RELEASES, Lab

pytestmark = pytest.mark.apiserver

SECRET = "mine"
READ: Right = ("get", "", "secrets", SECRET)
NODES = dict(schema.walk_schema(crds.schemas_of(crds.RELEASE)[0], "spec"))
PLACES = {
    path: model for model, paths in uses.models_with_connection(NODES).items() for path in paths
}


def use(name: str) -> Right:
    return ("use", "gatewright.dev", "connections", name)


@pytest.fixture(scope="module")
def writers(laboratory: Lab) -> Iterator[People]:
    """Who writes Connections."""
    found = People(laboratory, laboratory.namespace().name, CONNECTIONS, openers.POLICY_NAME)
    try:
        nobody = found.with_rights()
        body = connection(openers.secret_places()[0], SECRET)
        laboratory.wait(
            lambda: "may not get secrets" in found.said(nobody, body),
            30,
            "the policy to be in force",
        )
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def nobody(writers: People) -> Api:
    return writers.with_rights()


@pytest.fixture(scope="module")
def reader(writers: People) -> Api:
    found = writers.with_rights(READ)
    writers.passes(found, connection(openers.secret_places()[0], SECRET))
    return found


# --------------------------------------------------------------------------------------------------
# What a Connection opens


def connection(place: str, secret: str, name: str = "c") -> dict[str, Any]:
    """A Connection that names a Secret at a place, and `mine` wherever its provider asks for
    one."""
    key = place.split(".")[1]
    config: dict[str, Any] = {}
    for field, info in registry.CONNECTIONS[key].config.model_fields.items():
        if info.is_required():
            of_secret = "SecretSource" in str(info.annotation)
            config[field] = (
                source(SECRET)
                if of_secret
                else "acme"
                if field == "organization"
                else "https://a.example"
            )
    field = place.split(".")[2]
    config[field.removesuffix("{}")] = (
        {"X-Key": source(secret)} if field.endswith("{}") else source(secret)
    )
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": name},
        "spec": {key: config},
    }


def source(secret: str) -> dict[str, Any]:
    return {"secretRef": {"name": secret, "key": "k"}}


def at(place: str) -> str:
    return place.replace("{}", ".X-Key")


@pytest.mark.parametrize("policy", [openers.POLICY_NAME, uses.POLICY_NAME, statuses.POLICY_NAME])
def test_the_policies_compile_and_their_types_are_right(laboratory: Lab, policy: str) -> None:
    found = laboratory.api.get(f"{ADMISSION}policies/{policy}")
    assert found["spec"]["failurePolicy"] == "Fail"
    assert found.get("status", {}).get("typeChecking", {}).get("expressionWarnings", []) == []


def test_every_provider_that_opens_something_is_asked_about() -> None:
    assert {place.split(".")[1] for place in openers.secret_places()} == set(registry.CONNECTIONS)


@pytest.mark.parametrize("place", openers.secret_places())
def test_a_secret_is_asked_for_wherever_it_stands(
    writers: People, nobody: Api, reader: Api, place: str
) -> None:
    writers.passes(reader, connection(place, SECRET))
    writers.refuses(
        reader, connection(place, "theirs"), ("get", "", "secrets", "theirs"), at(place)
    )
    writers.refuses(nobody, connection(place, SECRET), READ, at(place))
    assert "what Helm keeps of its releases" in writers.said(
        writers.lab.api, connection(place, "sh.helm.release.v1.db.v1")
    )


def test_a_right_without_a_name_is_one_to_all(writers: People) -> None:
    writers.passes(
        writers.with_rights(("get", "", "secrets", "")),
        connection("spec.http.bearerToken", "theirs"),
    )


def test_each_of_many_headers_is_asked_for(writers: People) -> None:
    names = [f"s{number}" for number in range(10)]
    body = connection("spec.http.bearerToken", SECRET)
    body["spec"]["http"]["headers"] = {f"X-{name}": source(name) for name in names}
    rights: list[Right] = [READ, *(("get", "", "secrets", name) for name in names)]
    writers.passes(writers.with_rights(*rights), body)
    for name in (names[0], names[-1]):
        lacking = writers.with_rights(*(right for right in rights if right[3] != name))
        writers.refuses(lacking, body, ("get", "", "secrets", name), f"spec.http.headers.X-{name}")


def test_a_connection_without_a_secret_needs_no_right(writers: People, nobody: Api) -> None:
    body = connection("spec.http.bearerToken", SECRET)
    del body["spec"]["http"]["bearerToken"]
    writers.passes(nobody, body)


def test_only_a_change_of_the_spec_is_asked_about(writers: People, nobody: Api) -> None:
    writers.lab.api.create(writers.path, connection("spec.http.bearerToken", SECRET, "kept"))
    assert writers.changes(nobody, "kept", {"metadata": {"labels": {"team": "shop"}}}) == ""
    elsewhere = {"spec": {"http": {"url": "https://attacker.example"}}}
    assert f"may not get secrets/{SECRET}" in writers.changes(nobody, "kept", elsewhere)
    assert "may not get secrets/theirs" in writers.changes(
        nobody, "kept", {"spec": {"http": {"bearerToken": source("theirs")}}}
    )


# --------------------------------------------------------------------------------------------------
# Who may use a Connection


@pytest.fixture(scope="module")
def authors_(laboratory: Lab, writers: People) -> Iterator[People]:
    """Who writes Releases."""
    found = People(laboratory, laboratory.namespace().name, RELEASES, uses.POLICY_NAME)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def user(authors_: People) -> Api:
    found = authors_.with_rights(use("db"))
    authors_.passes(found, asking({"query": "select 1", "connection": "db"}))
    return found


def asking(config: dict[str, Any], place: str = "spec.guards", **more: Any) -> dict[str, Any]:
    """A Release with one `sql` check at a place."""
    check = {"name": "here", "sql": config, "max": "1"}
    waits: dict[str, Any] = {"name": "ship", "steps": [{"name": "wait", "wait": "1s"}]}
    spec: dict[str, Any] = {"version": "2.0.0", "suspend": True, "stages": [waits], **more}
    if place == "spec.stages[].gates":
        waits["gates"] = [check]
    elif place == "spec.rollback.verify":
        spec["rollback"] = {"verify": [check]}
    elif place == "spec.followUps":
        spec["followUps"] = [check | {"within": "1h"}]
    else:
        spec[place.removeprefix("spec.")] = [check]
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "shop"},
        "spec": spec,
    }


CHECKED = (
    "spec.preflight",
    "spec.guards",
    "spec.stages[].gates",
    "spec.rollback.verify",
    "spec.followUps",
)


def test_every_provider_that_goes_through_a_connection_is_asked_about() -> None:
    tables = (
        registry.EXTERNAL_TARGETS,
        registry.GATES,
        registry.ACTIONS,
        registry.FLAGS,
        registry.NOTIFIERS,
    )
    wanted = {part.config.__name__ for table in tables for part in table.values()}  # type: ignore[attr-defined]
    assert wanted == set(PLACES.values())
    assert {f"{place}[].sql" for place in CHECKED} == {
        path for path, model in PLACES.items() if model == "SqlCheck"
    }


SAMPLES = [
    item
    for path in sorted((CHECKOUT / "manifests" / "samples").glob("*.yaml"))
    for item in yaml.safe_load_all(path.read_text())
    if item["kind"] == "Release"
]


def standing(body: Any, path: str) -> list[dict[str, Any]]:
    """The configurations that stand at a path of the language."""
    found = [body]
    for part in path.split("."):
        name = part.removesuffix("[]")
        found = [node[name] for node in found if name in node]
        found = [item for node in found for item in node] if part.endswith("[]") else found
    return found


def through_one(sample: dict[str, Any], model: str, name: str) -> dict[str, Any] | None:
    """A sample all of whose systems are behind the Connection `db`, but for one of this model."""
    body = copy.deepcopy(sample)
    body["metadata"] = {"name": "shop"}
    # Whoever applies it is somebody else.
    body["spec"].pop("requestedBy", None)
    for path in PLACES:
        for node in standing(body, path):
            node["connection"] = "db"
    here = [
        node for path, found in PLACES.items() if found == model for node in standing(body, path)
    ]
    if not here:
        return None
    here[0]["connection"] = name
    return body


@pytest.fixture(scope="module")
def worker(authors_: People) -> Api:
    """Somebody who may do all that the samples do, through one Connection."""
    others: list[Right] = [
        ("create", "batch", "jobs", ""),
        ("patch", "", "configmaps", ""),
        ("patch", "", "secrets", ""),
        ("patch", "apps", "deployments", ""),
        ("patch", "apps", "statefulsets", ""),
        ("delete", "", "pods", ""),
        ("impersonate", "", "serviceaccounts", ""),
    ]
    return authors_.with_rights(*others, use("db"))


@pytest.mark.parametrize("model", sorted(set(PLACES.values())))
def test_each_provider_is_forged_in_vain(authors_: People, worker: Api, model: str) -> None:
    """From the models: a provider that comes later is here, and needs a sample."""
    sample = next((item for item in SAMPLES if through_one(item, model, "db")), None)
    assert sample is not None, f"no sample has a {model}"
    authors_.passes(worker, through_one(sample, model, "db") or {})
    said = authors_.tells(
        worker, through_one(sample, model, "forged") or {}, "may not use connections"
    )
    assert "may not use connections.gatewright.dev/forged" in said and uses.POLICY_NAME in said


@pytest.mark.parametrize("place", CHECKED)
def test_a_connection_is_asked_for_wherever_it_is_used(
    authors_: People, user: Api, place: str
) -> None:
    where = place.replace("stages[]", "stages[ship]") + "[here].sql"
    authors_.passes(user, asking({"query": "select 1", "connection": "db"}, place))
    authors_.refuses(
        user, asking({"query": "select 1", "connection": "prod"}, place), use("prod"), where
    )
    authors_.refuses(user, asking({"query": "select 1"}, place), use(""), where)
    authors_.refuses(
        user,
        asking({"query": "select 1", "connection": "$(vars.db)"}, place, vars={"db": "db"}),
        use(""),
        where,
    )


def test_a_refusal_says_what_would_help(authors_: People, user: Api) -> None:
    query = {"query": "select 1"}
    assert "or name the Connection by connection:" in authors_.tells(
        user, asking(query), "of any name"
    )
    assert "name the Connection" not in authors_.tells(
        user, asking({**query, "connection": "prod"}), "connections"
    )

    said = authors_.tells(
        authors_.lab.api, asking({**query, "connection": RESERVED_NAME}), RESERVED_NAME
    )
    assert f"the name {RESERVED_NAME} is reserved" in said and "RBAC must allow" not in said


def test_who_may_use_all_may_leave_the_name_out(authors_: People) -> None:
    authors_.passes(authors_.with_rights(use("")), asking({"query": "select 1"}))


def test_the_runbook_asks_for_each_of_its_connections(authors_: People) -> None:
    """The flagship sample: hosts, gates, actions, flags and notices."""
    documents = list(
        yaml.safe_load_all((CHECKOUT / "manifests/samples/foco-vercel.yaml").read_text())
    )
    body = next(item for item in documents if item["kind"] == "Release")
    body["metadata"] = {"name": "foco"}
    others: list[Right] = [
        ("create", "batch", "jobs", ""),
        ("patch", "", "configmaps", ""),
        ("patch", "", "secrets", ""),
        ("patch", "apps", "deployments", ""),
        ("impersonate", "", "serviceaccounts", ""),
    ]
    limited = authors_.with_rights(*others)
    said = authors_.tells(limited, body, "may not use connections.gatewright.dev")
    assert uses.POLICY_NAME in said
    authors_.passes(authors_.with_rights(*others, use("")), body)


def test_the_largest_release_is_answered(authors_: People, user: Api) -> None:
    checks = [
        {
            "name": f"g{n}".ljust(40, "x"),
            "sql": {"query": "select 1", "connection": "db"},
            "max": "1",
        }
        for n in range(20)
    ]
    steps = [
        {"name": f"s{n}".ljust(40, "x"), "redis": {"flush": {"prefix": "a:"}, "connection": "db"}}
        for n in range(20)
    ]
    approve = {"name": "ask", "approval": {}}
    stages = [
        {"name": f"st{n}".ljust(40, "x"), "steps": [approve, *steps[:19]], "gates": checks}
        for n in range(12)
    ]
    body = asking(
        {"query": "select 1", "connection": "db"}, guards=checks, preflight=checks, stages=stages
    )
    authors_.passes(user, body)
    stages[11]["gates"] = [
        *checks[:19],
        checks[19] | {"sql": {"query": "select 1", "connection": "prod"}},
    ]
    assert "may not use connections.gatewright.dev/prod" in authors_.tells(
        user, body, "may not use"
    )


# --------------------------------------------------------------------------------------------------
# Whose word a status is


@pytest.mark.parametrize(
    "path", [RELEASES, CONNECTIONS, INTERVENTIONS], ids=("releases", "connections", "interventions")
)
def test_a_status_is_written_by_the_operator_alone(laboratory: Lab, path: str) -> None:
    plural = path.rpartition("/")[2]
    people = People(laboratory, laboratory.namespace().name, path, statuses.POLICY_NAME)
    try:
        made = {
            "releases": asking({"query": "select 1", "connection": "db"}),
            "connections": connection("spec.http.bearerToken", SECRET, "shop"),
            "interventions": {
                "apiVersion": "gatewright.dev/v1alpha1",
                "kind": "Intervention",
                "metadata": {"name": "shop"},
                "spec": {
                    "release": "shop",
                    "action": "Abort",
                    "by": "gatewright-admin",
                    "reason": "x",
                },
            },
        }[plural]
        tenant = people.with_rights(also=(f"{plural}/status", "interventions"))
        operator = people.with_rights(
            (statuses.OPERATE_VERB, "gatewright.dev", plural, ""),
            also=(f"{plural}/status", "interventions"),
        )
        laboratory.api.create(people.path, made)
        status = {
            "status": {"message": "hello"} if plural != "connections" else {"observedGeneration": 7}
        }
        said = f"may not operate {plural} in namespace {people.namespace}"
        laboratory.wait(
            lambda: said in people.changes(tenant, "shop", status, "/status"), 10, "the policy"
        )
        laboratory.wait(
            lambda: people.changes(operator, "shop", status, "/status") == "",
            10,
            "the right to be known",
        )
    finally:
        people.close()
