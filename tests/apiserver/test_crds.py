"""The generated CRDs, the samples and the install, on a real API server."""

from __future__ import annotations

import copy
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gatewright.codegen import crds, rbac
from gatewright.plugin.files import read_documents, runbooks_in
from gatewright.plugin.lint import find_problems
from tests.cluster import ApiServer, Unavailable, assets
from tests.cluster.processes import wait_until
from tests.golden import endings

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "crds").glob("gatewright.dev_*.yaml"))
SAMPLES = sorted(
    [
        *(ROOT / "manifests/samples").glob("*.yaml"),
        *(ROOT / "tests/e2e/foco/releases").glob("*.yaml"),
    ]
)
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
FORM = ("manifests/setup", "manifests")
ADMIN = "gatewright-admin"
ACCOUNT = "system:serviceaccount:gatewright-system:gatewright"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """An API server on which `kubectl apply -k` was run for manifests/setup/ and manifests/."""
    started = ApiServer()
    try:
        started.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        for folder in FORM:
            applied = kubectl(started, "apply", "-k", str(ROOT / folder))
            assert applied.returncode == 0, applied.stderr
        started.request("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
        assert wait_until(
            lambda: all(_established(started, kind.plural) for kind in crds.KINDS), 20
        )
        assert wait_until(lambda: _served(started), 20)
        yield started
    finally:
        started.stop()


def kubectl(server: ApiServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(assets.ensure(["kubectl"])["kubectl"])
    environment = os.environ | {"KUBECONFIG": str(server.kubeconfig)}
    return subprocess.run(
        [program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _established(server: ApiServer, plural: str) -> bool:
    conditions = (
        server.request("GET", f"{DEFINITIONS}/{plural}.gatewright.dev")["status"].get("conditions")
        or []
    )
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def _served(server: ApiServer) -> bool:
    try:
        server.request("GET", "/apis/gatewright.dev/v1alpha1/releases")
    except RuntimeError:
        return False
    return True


def _documents(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(path.read_text()) if item]


def _collection(item: dict[str, Any]) -> str:
    return f"/apis/gatewright.dev/v1alpha1/namespaces/{item['metadata']['namespace']}/{item['kind'].lower()}s"


# --------------------------------------------------------------------------------------------------
# CRDs


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_crd_is_small_enough_for_plain_kubectl_apply(path: Path) -> None:
    # kubectl apply keeps the whole object as JSON in an annotation, without spaces; annotations end
    # at 256 KiB. How the file is written does not count.
    assert len(json.dumps(yaml.safe_load(path.read_text()), separators=(",", ":"))) < 250_000


def test_crds_are_established_and_structural(server: ApiServer) -> None:
    for kind in crds.KINDS:
        found = server.request("GET", f"{DEFINITIONS}/{kind.plural}.gatewright.dev")
        conditions = {item["type"]: item["status"] for item in found["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}, conditions
        parts = found["spec"]["versions"][0].get("subresources", {})
        assert parts == ({"status": {}} if kind.status else {})


def test_applying_everything_again_changes_nothing(server: ApiServer) -> None:
    for folder in FORM:
        again = kubectl(server, "apply", "-k", str(ROOT / folder))
        assert again.returncode == 0, again.stderr
        assert [line for line in again.stdout.splitlines() if not line.endswith("unchanged")] == []


def test_kubectl_explains_every_field_of_the_spec(server: ApiServer) -> None:
    found = kubectl(server, "explain", "release.spec.stages.gates.for")
    assert "Fail only when every sample over this time breached" in " ".join(
        found.stdout.split()
    ), found.stderr
    found = kubectl(server, "explain", "release.spec", "--recursive")
    assert found.returncode == 0
    assert "failureThreshold" in found.stdout


def test_kubectl_get_has_the_columns_of_the_design(
    server: ApiServer, minimal: dict[str, Any]
) -> None:
    _create_ending(server, minimal, "rolled_back")
    try:
        table = kubectl(server, "get", "rls", "-n", "shop").stdout.splitlines()
        assert table[0].split() == [
            "NAME", "VERSION", "LIVE", "LAST-GOOD", "STAGE", "STATE", "WAITING-FOR", "AGE",
        ]  # fmt: skip
        assert table[1].split()[:6] == ["columns", "2.0", "1.0", "1.0", "2/2", "deploy"]
        wide = kubectl(server, "get", "releases", "-n", "shop", "-o", "wide").stdout
        assert wide.split("\n")[0].split()[-4:] == ["AGE", "STARTED", "DURATION", "MESSAGE"]
        assert "serving 1.0; 2.0 rejected by" in wide
        assert "columns" in kubectl(server, "get", "gatewright", "-n", "shop").stdout
    finally:
        server.request("DELETE", "/apis/gatewright.dev/v1alpha1/namespaces/shop/releases/columns")


def _create_ending(server: ApiServer, minimal: dict[str, Any], name: str) -> None:
    """A Release with the status of a golden ending."""
    found = copy.deepcopy(minimal)
    golden = endings.kept(name)
    found["metadata"]["name"] = "columns"
    found["spec"]["version"] = golden["spec"]["version"]
    made = server.request("POST", _collection(found), found)
    made["status"] = golden["status"]
    server.request("PUT", f"{_collection(found)}/columns/status", made)


@pytest.fixture
def minimal() -> dict[str, Any]:
    (found,) = _documents(ROOT / "manifests" / "samples" / "release-minimal.yaml")
    return found


@pytest.mark.parametrize("name", endings.ENDINGS)
def test_what_the_core_writes_fits_the_status_schema_and_nothing_is_pruned(
    server: ApiServer, minimal: dict[str, Any], name: str
) -> None:
    golden = endings.kept(name)
    found = copy.deepcopy(minimal) | {"status": golden["status"]}
    found["metadata"]["name"] = f"ending-{name.replace('_', '-')}"
    made = server.request("POST", _collection(found), found)
    made["status"] = golden["status"]
    path = f"{_collection(found)}/{made['metadata']['name']}"
    answer = server.request("PUT", f"{path}/status?fieldValidation=Strict", made)
    server.request("DELETE", path)
    assert answer["status"] == golden["status"], (
        "an echo is exactly what was written: no defaults, nothing pruned"
    )


# --------------------------------------------------------------------------------------------------
# Samples


@pytest.mark.parametrize(
    ("path", "index"),
    [(path, index) for path in SAMPLES for index, _ in enumerate(_documents(path))],
    ids=lambda value: value.name if isinstance(value, Path) else str(value),
)
def test_a_sample_is_accepted(server: ApiServer, path: Path, index: int) -> None:
    item = _documents(path)[index]
    item["metadata"]["namespace"] = "shop"
    # Whoever applies a sample writes their own name there.
    item["spec"] |= {name: ADMIN for name in ("requestedBy", "by") if name in item["spec"]}
    server.request("POST", f"{_collection(item)}?dryRun=All&fieldValidation=Strict", item)
    assert _wrong_in(path, index) == [], (
        "the operator sees more than the API server, and finds nothing"
    )


def _wrong_in(path: Path, index: int) -> list[str]:
    documents = [*read_documents([str(path)])]
    return [*find_problems(documents[index], runbooks_in(documents))]


def test_the_readmes_release_is_thirty_lines_at_most() -> None:
    assert len((ROOT / "manifests/samples/release-minimal.yaml").read_text().splitlines()) <= 30


# --------------------------------------------------------------------------------------------------
# What the operator may do


def _may(
    server: ApiServer, verb: str, group: str, resource: str, namespace: str, name: str = ""
) -> bool:
    plural, _, sub = resource.partition("/")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": sub,
        "namespace": namespace,
        "name": name,
    }
    groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:gatewright-system",
        "system:authenticated",
    ]
    review = {"spec": {"user": ACCOUNT, "groups": groups, "resourceAttributes": attributes}}
    answer = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def test_the_operator_may_do_what_it_declares_everywhere(server: ApiServer) -> None:
    for item in rbac.release_access():
        for resource in item.resources:
            for verb in item.verbs:
                assert _may(server, verb, item.group, resource, "shop"), (verb, resource)


@pytest.mark.parametrize(
    ("verb", "group", "resource", "namespace"),
    [
        ("list", "", "secrets", "shop"),
        ("watch", "", "secrets", "shop"),
        ("list", "", "secrets", "gatewright-system"),
        ("deletecollection", "", "pods", "shop"),
        ("create", "", "pods/exec", "shop"),
        ("create", "apps", "deployments", "shop"),
        ("delete", "apps", "deployments", "shop"),
        ("update", "gatewright.dev", "releases", "shop"),
        ("delete", "gatewright.dev", "releases", "shop"),
        ("update", "gatewright.dev", "connections", "shop"),
        ("delete", "gatewright.dev", "connections", "shop"),
        ("create", "", "secrets", "shop"),
        ("patch", "", "secrets", "shop"),
        ("delete", "", "secrets", "shop"),
        ("get", "coordination.k8s.io", "leases", "gatewright-system"),
        ("update", "coordination.k8s.io", "leases", "gatewright-system"),
        ("create", "coordination.k8s.io", "leases", "shop"),
        ("list", "", "namespaces", ""),
        ("list", "apiextensions.k8s.io", "customresourcedefinitions", ""),
        ("create", "rbac.authorization.k8s.io", "roles", "shop"),
        ("impersonate", "", "serviceaccounts", "shop"),
    ],
)
def test_the_operator_may_not(
    server: ApiServer, verb: str, group: str, resource: str, namespace: str
) -> None:
    assert not _may(server, verb, group, resource, namespace)


def test_the_lease_is_the_operators_in_its_own_namespace(server: ApiServer) -> None:
    for verb in ("get", "create", "update"):
        assert _may(
            server, verb, "coordination.k8s.io", "leases", "gatewright-system", "gatewright"
        )


def test_where_the_api_server_is_may_be_read_and_nothing_else_of_that_kind(
    server: ApiServer,
) -> None:
    kind = ("discovery.k8s.io", "endpointslices")
    assert _may(server, "get", *kind, "default", "kubernetes")
    assert not _may(server, "get", *kind, "default", "other")
    assert not _may(server, "list", *kind, "default")


def test_the_operators_pod_fits_pod_security_restricted(server: ApiServer) -> None:
    deployment = server.request(
        "GET", "/apis/apps/v1/namespaces/gatewright-system/deployments/gatewright"
    )
    template = deployment["spec"]["template"]
    pod = {
        "metadata": {"name": "probe", "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    }
    server.request("POST", "/api/v1/namespaces/gatewright-system/pods?dryRun=All", pod)
    pod["spec"] = {**pod["spec"], "securityContext": {}}
    with pytest.raises(RuntimeError, match=r'violates PodSecurity \\"restricted'):
        server.request("POST", "/api/v1/namespaces/gatewright-system/pods?dryRun=All", pod)


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({}, False),
        ({"Impersonate-Extra-authentication.kubernetes.io%2Fpod-name": "gatewright-0"}, True),
    ],
    ids=["no pod", "a pod"],
)
def test_the_operators_account_writes_a_status_from_its_pod_alone(
    server: ApiServer, headers: dict[str, str], admitted: bool
) -> None:
    """Who impersonates it may not say which pod it is in, unless they may impersonate that, too."""
    name = f"by-{'pod' if admitted else 'nobody'}"
    stages = [{"name": "ship", "steps": [{"name": "wait", "wait": "1s"}]}]
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": name, "namespace": "shop"},
    }
    server.request(
        "POST",
        _collection(body),
        {**body, "spec": {"version": "1", "suspend": True, "stages": stages}},
    )

    path = f"{_collection(body)}/{name}/status"
    wanted = "" if admitted else "shows no pod that it runs in"

    def answered() -> bool:
        said = _as_the_operator(
            server, path, {"status": {"message": "promoted by somebody"}}, headers
        )
        return said == "" if admitted else wanted in said

    assert wait_until(answered, 20)


def _as_the_operator(server: ApiServer, path: str, patch: Any, headers: dict[str, str]) -> str:
    """What the API server says to who impersonates the operator's ServiceAccount; nothing where it
    admits the patch."""
    context = ssl.create_default_context(cafile=str(server.directory / "ca.crt"))
    context.load_cert_chain(server.directory / "admin.crt", server.directory / "admin.key")
    address = urlsplit(server.url)
    connection = http.client.HTTPSConnection(
        str(address.hostname), address.port, timeout=10, context=context
    )
    kind = {"Content-Type": "application/merge-patch+json", "Impersonate-User": ACCOUNT}
    try:
        connection.request("PATCH", path, json.dumps(patch), kind | headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        return "" if answer.status == 200 else text
    finally:
        connection.close()


def test_the_namespaced_install_is_accepted_too(server: ApiServer) -> None:
    found = kubectl(server, "apply", "--dry-run=server", "-k", str(ROOT / "manifests" / "overlay"))
    assert found.returncode == 0, found.stderr
    assert "role.rbac.authorization.k8s.io/gatewright created" in found.stdout


@pytest.mark.parametrize(
    ("install", "component", "made"),
    [
        (
            "manifests",
            "capture/cluster",
            "clusterrole.rbac.authorization.k8s.io/gatewright-capture",
        ),
        (
            "manifests/rbac/namespaced",
            "capture/namespaced",
            "role.rbac.authorization.k8s.io/gatewright-capture",
        ),
        ("manifests", "egress", "networkpolicy.networking.k8s.io/gatewright-egress"),
    ],
)
def test_what_can_be_switched_on_is_accepted_too(
    server: ApiServer, tmp_path: Path, install: str, component: str, made: str
) -> None:
    base = os.path.relpath(ROOT, tmp_path.resolve())
    overlay = {"resources": [f"{base}/{install}"], "components": [f"{base}/manifests/{component}"]}
    overlay |= {"namespace": "shop"} if component.endswith("namespaced") else {}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    found = kubectl(server, "apply", "--dry-run=server", "-k", str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert f"{made} created" in found.stdout


def test_editors_of_a_namespace_may_write_releases_once_the_roles_are_aggregated(
    server: ApiServer,
) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    # No controller manager runs here that would aggregate; the labels are what it goes by.
    assert server.request("GET", f"{roles}/gatewright-edit")["metadata"]["labels"] == {
        "rbac.authorization.k8s.io/aggregate-to-edit": "true",
        "rbac.authorization.k8s.io/aggregate-to-admin": "true",
    }
    view = server.request("GET", f"{roles}/gatewright-view")
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
