"""The Helm chart and the kustomization install the same, object by object, in both modes."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.codegen import crds, files
from tests.cluster import Unavailable, assets

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "gatewright"
NAMESPACE = "gatewright-system"
generated = functools.cache(files.generated)
Key = tuple[str, str, str]


@functools.cache
def _program(name: str) -> str:
    try:
        return str(assets.ensure([name])[name])
    except Unavailable as reason:
        pytest.skip(f"no {name} here: {reason}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def _template(*settings: str) -> subprocess.CompletedProcess[str]:
    program = _program("helm")
    return _run(program, "template", "gatewright", str(CHART), "--namespace", NAMESPACE, *settings)


def _helm(**values: Any) -> dict[Key, dict[str, Any]]:
    done = _template(
        *(part for name, value in values.items() for part in ("--set-json", f"{name}={json.dumps(value)}"))
    )
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


def _kustomize(folder: str) -> dict[Key, dict[str, Any]]:
    done = _run(_program("kubectl"), "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


def _objects(text: str) -> dict[Key, dict[str, Any]]:
    found = [item for item in yaml.safe_load_all(text) if item]
    keys = [(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in found]
    assert len(set(keys)) == len(keys), "an object twice"
    return dict(zip(keys, found, strict=True))


# Helm's own marks; they change nothing that runs.
MARKS = ("app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart", "helm.sh/resource-policy")
IDENTITY = ("app.kubernetes.io/name", "app.kubernetes.io/instance")


def _bare(item: dict[str, Any]) -> dict[str, Any]:
    """An object without Helm's marks on it; the labels that selectors use stay where selectors look: in the pod template."""
    found = copy.deepcopy(item)
    for kind in ("labels", "annotations"):
        marks = found["metadata"].get(kind, {})
        kept = {key: value for key, value in marks.items() if key not in (*MARKS, *IDENTITY)}
        found["metadata"].pop(kind, None)
        found["metadata"] |= {kind: kept} if kept else {}
    return found


@pytest.mark.parametrize(
    ("folder", "values"),
    [("manifests", {}), ("manifests/namespaced", {"clusterWide": False})],
    ids=["cluster-wide", "namespaced"],
)
def test_chart_and_kustomization_install_the_same(folder: str, values: dict[str, Any]) -> None:
    chart, manifests = _helm(**values), _kustomize(folder)
    # Helm makes the namespace itself (--create-namespace), and it is the installer's to label.
    assert (
        manifests.pop(("Namespace", "", NAMESPACE))["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )
    assert set(chart) == set(manifests)
    for key in manifests:
        assert _bare(chart[key]) == _bare(manifests[key]), key


def test_crds_survive_the_removal_of_the_chart() -> None:
    found = [item for key, item in _helm().items() if key[0] == "CustomResourceDefinition"]
    assert [item["metadata"]["annotations"]["helm.sh/resource-policy"] for item in found] == ["keep"] * len(crds.KINDS)


def test_namespaces_are_watched_by_a_role_in_each() -> None:
    found = _helm(clusterWide=False, watchNamespaces=["shop", "blog"])
    roles = {key[1] for key in found if key[0] == "Role" and key[2] == "gatewright"}
    bindings = [item for key, item in found.items() if key[0] == "RoleBinding" and key[2] == "gatewright"]
    assert roles == {"shop", "blog"}
    assert {item["subjects"][0]["namespace"] for item in bindings} == {NAMESPACE}
    assert not [key for key in found if key[0] == "ClusterRoleBinding"]
    assert _arguments(found)[1:3] == ["--namespace=shop", "--namespace=blog"]


def _arguments(found: dict[Key, dict[str, Any]]) -> list[str]:
    return list(_container(found)["args"])


def _container(found: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    (container,) = found["Deployment", NAMESPACE, "gatewright"]["spec"]["template"]["spec"]["containers"]
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
    assert (options.log_level, options.log_format, options.allow_address) == ("DEBUG", "text", "localhost,10.0.0.0/8")
    assert options.refuse_address == "shop=10.2.0.0/16"
    assert not options.trust_interventions, "people are believed where nothing proves who they are"
    trusting = _helm(admission={"create": False, "trustWithout": True})
    assert _parser().parse_args(_arguments(trusting)).trust_interventions
    for folder in ("manifests", "manifests/namespaced"):
        assert not _parser().parse_args(_arguments(_kustomize(folder))).trust_interventions


def test_the_port_is_the_same_everywhere() -> None:
    found = _helm(port=9000)
    assert _container(found)["ports"][0]["containerPort"] == 9000
    assert found["Service", NAMESPACE, "gatewright-metrics"]["spec"]["ports"][0]["port"] == 9000


def test_an_image_by_digest_wins_over_its_tag() -> None:
    digest = "sha256:" + "0" * 64
    assert _container(_helm(image={"repository": "a/b", "digest": digest, "tag": "1"}))["image"] == f"a/b@{digest}"
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
    assert {key[0] for key in found} == {"ServiceAccount", "Service", "Deployment"}


def test_helm_finds_nothing_to_complain_about() -> None:
    done = _run(_program("helm"), "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_the_charts_crds_are_the_crds() -> None:
    for path, text in generated().items():
        if path.startswith("charts/gatewright/files/crds/"):
            ours = yaml.safe_load(text)
            del ours["metadata"]["annotations"]
            assert ours == yaml.safe_load(generated()[path.removeprefix("charts/gatewright/files/")])
