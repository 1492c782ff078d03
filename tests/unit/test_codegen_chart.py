"""The Helm chart and the kustomization install the same, object by object, in both modes."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.codegen import crds, files, rbac
from tests.cluster import Unavailable, assets

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "gatewright"
NAMESPACE = "gatewright-system"
generated = functools.cache(files.generated_files)
Key = tuple[str, str, str]


@functools.cache
def _program(name: str) -> str:
    try:
        return str(assets.ensure([name])[name])
    except Unavailable as reason:
        pytest.skip(f"no {name} here: {reason}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def _template(*settings: str) -> subprocess.CompletedProcess[str]:
    program = _program("helm")
    return _run(program, "template", "gatewright", str(CHART), "--namespace", NAMESPACE, *settings)


def _helm(**values: Any) -> dict[Key, dict[str, Any]]:
    done = _template(
        *(
            part
            for name, value in values.items()
            for part in ("--set-json", f"{name}={json.dumps(value)}")
        )
    )
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


def _kustomize(folder: str) -> dict[Key, dict[str, Any]]:
    done = _run(_program("kubectl"), "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


def _objects(text: str) -> dict[Key, dict[str, Any]]:
    found = [item for item in yaml.safe_load_all(text) if item]
    keys = [
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for item in found
    ]
    assert len(set(keys)) == len(keys), "an object twice"
    return dict(zip(keys, found, strict=True))


# Helm's own marks; they change nothing that runs.
MARKS = (
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "helm.sh/resource-policy",
)
IDENTITY = ("app.kubernetes.io/name", "app.kubernetes.io/instance")


def _bare(item: dict[str, Any]) -> dict[str, Any]:
    """An object without Helm's marks on it; the labels that selectors use stay where selectors
    look: in the pod template."""
    found = copy.deepcopy(item)
    for kind in ("labels", "annotations"):
        marks = found["metadata"].get(kind, {})
        kept = {key: value for key, value in marks.items() if key not in (*MARKS, *IDENTITY)}
        found["metadata"].pop(kind, None)
        found["metadata"] |= {kind: kept} if kept else {}
    return found


OUT = {"create": True, "apiServer": ["192.0.2.1/32"]}


SHOP: dict[str, Any] = {"clusterWide": False, "watchNamespaces": ["shop"]}


@pytest.mark.parametrize(
    ("folder", "components", "captured", "values"),
    [
        ("manifests", [], [], {}),
        ("manifests/overlay", [], [], SHOP),
        ("manifests", ["capture/cluster"], [], {"captureSecrets": True}),
        ("manifests/namespaced", [], ["capture/namespaced"], {**SHOP, "captureSecrets": True}),
        ("manifests", ["egress"], [], {"networkPolicy": {"egress": OUT}}),
    ],
    ids=["cluster-wide", "namespaced", "capturing", "namespaced-capturing", "egress"],
)
def test_chart_and_kustomization_install_the_same(
    folder: str, components: list[str], captured: list[str], values: dict[str, Any], tmp_path: Path
) -> None:
    overlay = _overlay(tmp_path, folder, components)
    if captured:
        overlay = _overlay(tmp_path, folder, [], serves="shop", there=captured)
    chart, manifests = _helm(**values), {**_kustomize("manifests/setup"), **_kustomize(overlay)}
    # Helm makes the namespace itself (--create-namespace), and it is the installer's to label.
    assert (
        manifests.pop(("Namespace", "", NAMESPACE))["metadata"]["labels"][
            "pod-security.kubernetes.io/enforce"
        ]
        == "restricted"
    )
    assert set(chart) == set(manifests)
    for key in manifests:
        assert _bare(chart[key]) == _bare(manifests[key]), key


def _overlay(
    directory: Path,
    folder: str,
    components: list[str],
    *,
    serves: str = "",
    there: list[str] | None = None,
    **more: Any,
) -> str:
    """What a user writes who adds components, or names the namespace that is served (with
    components `there`)."""
    if not (components or serves or more):
        return folder
    base = Path(os.path.relpath(ROOT, directory.resolve()))
    content: dict[str, Any] = {"resources": [str(base / folder)], **more}
    content["components"] = [str(base / "manifests" / name) for name in components]

    if serves:
        argument = {
            "op": "add",
            "path": "/spec/template/spec/containers/0/args/1",
            "value": f"--namespace={serves}",
        }
        patch = {
            "target": {"kind": "Deployment", "name": "gatewright"},
            "patch": yaml.safe_dump([argument]),
        }
        content |= {"resources": [*content["resources"], serves], "patches": [patch]}
        parts = [str(".." / base / "manifests" / name) for name in there or ()]
        role = {
            "namespace": serves,
            "resources": [str(".." / base / "manifests/rbac/namespaced")],
            "components": parts,
        }
        (directory / serves).mkdir()
        (directory / serves / "kustomization.yaml").write_text(yaml.safe_dump(role))

    (directory / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return str(directory)


FORMS = ["manifests", "manifests/namespaced", "manifests/overlay"]


@pytest.mark.parametrize("folder", FORMS)
def test_no_form_holds_what_deleting_it_must_not_delete(folder: str, tmp_path: Path) -> None:
    """An overlay's `namespace:` renames a Namespace: to a tenant's, whose labels it sets, and which
    it deletes."""
    for found in (
        _kustomize(folder),
        _kustomize(_overlay(tmp_path, folder, [], namespace="team-a")),
    ):
        assert not {key[0] for key in found} & {"Namespace", "CustomResourceDefinition"}
    assert {key[0] for key in _kustomize("manifests/setup")} == {
        "Namespace",
        "CustomResourceDefinition",
    }


def test_a_namespace_that_is_served_holds_nothing_but_a_role() -> None:
    """Whoever may edit there may impersonate each ServiceAccount that is there, and run pods under
    it."""
    for found in (_kustomize("manifests/overlay"), _helm(**SHOP)):
        assert {key[0] for key in found if key[1] == "shop"} == {"Role", "RoleBinding"}
        assert [key[1] for key in found if key[0] in ("ServiceAccount", "Deployment")] == [
            NAMESPACE
        ] * 2
        (subject,) = found["RoleBinding", "shop", "gatewright"]["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": "gatewright", "namespace": NAMESPACE}


def test_the_form_for_some_namespaces_serves_none_by_itself() -> None:
    from gatewright.__main__ import _parser

    with pytest.raises(SystemExit):
        _parser().parse_args(_arguments(_kustomize("manifests/namespaced")))


def test_where_the_api_server_is_can_be_read_wherever_the_operator_is(tmp_path: Path) -> None:
    found = _kustomize(_overlay(tmp_path, "manifests", [], namespace="team-a"))
    (binding,) = (
        item
        for key, item in found.items()
        if key[0] == "ClusterRoleBinding" and key[2].endswith("-server")
    )
    assert found["ClusterRole", "", binding["roleRef"]["name"]]["rules"] == rbac.rule_objects(
        rbac.api_server_access()
    )
    assert binding["subjects"][0]["namespace"] == "team-a"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"clusterWide": False}, "name the namespaces"),
        (
            {"clusterWide": False, "watchNamespaces": ["shop", NAMESPACE]},
            f"{NAMESPACE} is the operator's own namespace",
        ),
    ],
)
def test_the_chart_does_not_serve_its_own_namespace(values: dict[str, Any], says: str) -> None:
    settings = [
        part
        for name, value in values.items()
        for part in ("--set-json", f"{name}={json.dumps(value)}")
    ]
    done = _template(*settings)
    assert done.returncode != 0
    assert says in done.stderr
    found = _helm(**values, serveOwnNamespace=True)
    assert "--serve-own-namespace" in _arguments(found)
    assert ("Role", NAMESPACE, "gatewright") in found


def _rules(found: dict[Key, dict[str, Any]]) -> list[dict[str, Any]]:
    """Everything that the operator itself may do."""
    bound = {
        (item["roleRef"]["kind"], item["roleRef"]["name"])
        for key, item in found.items()
        if key[0].endswith("RoleBinding")
    }
    return [
        rule for key, item in found.items() if (key[0], key[2]) in bound for rule in item["rules"]
    ]


@pytest.mark.parametrize("wide", [True, False])
def test_secrets_are_written_only_where_they_are_captured(wide: bool) -> None:
    def verbs(**values: Any) -> set[str]:
        rules = _rules(_helm(clusterWide=wide, watchNamespaces=["shop"], **values))
        own = {"resourceNames": ["gatewright-hash-key"]}.items()
        asked = [rule for rule in rules if "secrets" in rule["resources"]]
        assert [rule["verbs"] for rule in asked if own <= rule.items()] == [["get", "patch"]]
        return {verb for rule in asked if not own <= rule.items() for verb in rule["verbs"]}

    assert verbs() == {"get"}
    assert verbs(captureSecrets=True) == {"get", "create", "patch", "delete"}


def test_a_namespace_of_secrets_is_captured_by_a_role_in_each() -> None:
    found = _helm(clusterWide=False, watchNamespaces=["shop", "blog"], captureSecrets=True)
    assert {key[1] for key in found if key[0] == "Role" and key[2] == "gatewright-capture"} == {
        "shop",
        "blog",
    }
    assert {
        key[1] for key in found if key[0] == "RoleBinding" and key[2] == "gatewright-capture"
    } == {"shop", "blog"}


def test_only_one_lease_is_the_operators() -> None:
    rules = [rule for rule in _rules(_helm()) if "leases" in rule["resources"]]
    named = [rule for rule in rules if rule["verbs"] != ["create"]]
    assert len(rules) == 2 and [rule["resourceNames"] for rule in named] == [["gatewright"]]


def test_nothing_goes_out_but_where_it_may() -> None:
    key = ("NetworkPolicy", NAMESPACE, "gatewright-egress")
    assert key not in _helm()
    more = {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443}]}
    found = _helm(networkPolicy={"egress": {**OUT, "apiServerPorts": [6443], "allow": [more]}})[
        key
    ]["spec"]
    assert found["policyTypes"] == ["Egress"]
    dns, server, last = found["egress"]
    assert [item["port"] for item in dns["ports"]] == [53, 53]
    assert server == {
        "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
        "ports": [{"port": 6443, "protocol": "TCP"}],
    }
    assert last == more


def test_an_egress_policy_needs_to_know_the_api_server() -> None:
    done = _template("--set", "networkPolicy.egress.create=true")
    assert done.returncode != 0
    assert "name the addresses of the API server" in done.stderr


def test_who_the_operator_runs_as_is_a_number_that_can_be_left_out() -> None:
    def context(**values: Any) -> dict[str, Any]:
        found = _helm(**values)["Deployment", NAMESPACE, "gatewright"]["spec"]["template"]["spec"][
            "securityContext"
        ]
        return dict(found)

    fixed = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert user is not None
    numbers = {"runAsUser": int(user[1]), "runAsGroup": int(user[2]), "fsGroup": int(user[2])}
    assert context() == fixed | numbers
    assert context(podSecurityContext=dict.fromkeys(numbers)) == fixed


def test_crds_survive_the_removal_of_the_chart() -> None:
    found = [item for key, item in _helm().items() if key[0] == "CustomResourceDefinition"]
    assert [item["metadata"]["annotations"]["helm.sh/resource-policy"] for item in found] == [
        "keep"
    ] * len(crds.KINDS)


def test_namespaces_are_watched_by_a_role_in_each() -> None:
    found = _helm(clusterWide=False, watchNamespaces=["shop", "blog"])
    roles = {key[1] for key in found if key[0] == "Role" and key[2] == "gatewright"}
    bindings = [
        item for key, item in found.items() if key[0] == "RoleBinding" and key[2] == "gatewright"
    ]
    assert roles == {"shop", "blog"}
    assert {item["subjects"][0]["namespace"] for item in bindings} == {NAMESPACE}
    assert [key[2] for key in found if key[0] == "ClusterRoleBinding"] == [
        f"gatewright-{NAMESPACE}-server"
    ]
    assert _arguments(found)[1:3] == ["--namespace=shop", "--namespace=blog"]


def _arguments(found: dict[Key, dict[str, Any]]) -> list[str]:
    return list(_container(found)["args"])


def _container(found: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    (container,) = found["Deployment", NAMESPACE, "gatewright"]["spec"]["template"]["spec"][
        "containers"
    ]
    return dict(container)


def test_every_argument_is_one_that_the_operator_takes() -> None:
    from gatewright.__main__ import _parser

    found = _helm(
        allowAddresses=["localhost", "10.0.0.0/8"],
        refuseAddresses=["shop=10.2.0.0/16"],
        logLevel="DEBUG",
        logFormat="text",
        port=9000,
    )
    options = _parser().parse_args(_arguments(found))
    assert (options.command, options.all_namespaces, options.port) == ("run", True, 9000)
    assert (options.log_level, options.log_format, options.allow_address) == (
        "DEBUG",
        "text",
        "localhost,10.0.0.0/8",
    )
    assert options.refuse_address == "shop=10.2.0.0/16"
    assert not options.trust_interventions, "people are believed where nothing proves who they are"
    trusting = _helm(admission={"create": False, "trustWithout": True})
    assert _parser().parse_args(_arguments(trusting)).trust_interventions
    assert not options.trust_authors
    assert _parser().parse_args(_arguments(_helm(admission={"trustAuthors": True}))).trust_authors
    assert not options.serve_own_namespace
    for folder in ("manifests", "manifests/overlay"):
        shipped = _parser().parse_args(_arguments(_kustomize(folder)))
        assert not shipped.trust_interventions and not shipped.trust_authors


def test_the_ports_are_the_same_everywhere() -> None:
    from gatewright.__main__ import _parser

    found = _helm(port=9000, healthPort=9001)
    ports = {item["name"]: item["containerPort"] for item in _container(found)["ports"]}
    assert ports == {"metrics": 9000, "health": 9001}
    assert found["Service", NAMESPACE, "gatewright-metrics"]["spec"]["ports"][0]["port"] == 9000
    options = _parser().parse_args(_arguments(found))
    assert (options.port, options.health_port) == (9000, 9001)
    done = _template("--set", "port=8081")
    assert done.returncode != 0 and "health needs a port of its own" in done.stderr


@pytest.mark.parametrize("install", ["chart", "manifests", "manifests/namespaced"])
def test_probes_have_a_port_that_is_open_to_no_pod(install: str) -> None:
    found = _helm() if install == "chart" else _kustomize(install)
    container = _container(found)
    probed = {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")}
    policies = [item["spec"] for key, item in found.items() if key[0] == "NetworkPolicy"]
    opened = {
        port["port"]
        for spec in policies
        for rule in spec.get("ingress", ())
        for port in rule["ports"]
    }
    served = {
        port["targetPort"]
        for key, item in found.items()
        if key[0] == "Service"
        for port in item["spec"]["ports"]
    }
    assert (probed, opened, served) == ({"health"}, {"metrics"}, {"metrics"})


def test_metrics_may_be_kept_from_all_but_some() -> None:
    key = ("NetworkPolicy", NAMESPACE, "gatewright")
    assert "from" not in _helm()[key]["spec"]["ingress"][0]
    some = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert _helm(networkPolicy={"metricsFrom": some})[key]["spec"]["ingress"][0]["from"] == some


def test_an_image_by_digest_wins_over_its_tag() -> None:
    digest = "sha256:" + "0" * 64
    assert (
        _container(_helm(image={"repository": "a/b", "digest": digest, "tag": "1"}))["image"]
        == f"a/b@{digest}"
    )
    assert _container(_helm(image={"repository": "a/b", "tag": "1"}))["image"] == "a/b:1"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("watchNamespace=shop", "additional properties 'watchNamespace' not allowed"),
        ("clusterWide=maybe", "/clusterWide"),
        ("logLevel=LOUD", "/logLevel"),
        ("replicas=-1", "/replicas"),
        ("imagePullPolicy=Sometimes", "/imagePullPolicy"),
        ("image.digest=latest", "/image/digest"),
        ("port=80", "/port"),
        ("healthPort=80", "/healthPort"),
    ],
)
def test_a_wrong_value_is_refused(setting: str, says: str) -> None:
    done = _template("--set", setting)
    assert done.returncode != 0
    assert says in done.stderr, done.stderr


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    properties = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert set(values) == set(properties) - {"global"}
    for name, value in values.items():
        if "properties" in properties[name]:
            assert set(value) == set(properties[name]["properties"]), name


def test_parts_can_be_left_out() -> None:
    found = _helm(
        crds={"install": False},
        rbac={"create": False, "aggregateToUserRoles": False, "peopleRoles": False},
        admission={"create": False},
        networkPolicy={"create": False},
    )
    assert {key[0] for key in found} == {"ServiceAccount", "Secret", "Service", "Deployment"}


def test_helm_finds_nothing_to_complain_about() -> None:
    done = _run(_program("helm"), "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_the_charts_crds_are_the_crds() -> None:
    for path, text in generated().items():
        if path.startswith("charts/gatewright/files/crds/"):
            ours = yaml.safe_load(text)
            del ours["metadata"]["annotations"]
            assert ours == yaml.safe_load(
                generated()[path.removeprefix("charts/gatewright/files/")]
            )


def test_installations_in_two_namespaces_are_in_nobodys_way() -> None:
    """What lies outside of an installation's namespace is named after it: Helm refuses what another
    release has made."""
    one = {
        **SHOP,
        "admission.create": False,
        "rbac.aggregateToUserRoles": False,
        "rbac.peopleRoles": False,
    }
    there = {
        key for key in _helm(**one, **{"crds.install": False}) if key[1] not in (NAMESPACE, "shop")
    }
    assert there and all(NAMESPACE in name for _, _, name in there), there
