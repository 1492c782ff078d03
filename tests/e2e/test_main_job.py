"""The main job, as `make demo` runs it, judged from outside; and the same operator installed by
Helm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e import installing, main_job
from tests.e2e.watching import Screen, follow

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ready(cluster: Cluster) -> Cluster:
    main_job.set_up(cluster, print)
    return cluster


def test_the_good_the_bad_and_the_half_release(ready: Cluster):
    endings = main_job.play(ready, Screen())
    assert [(ending.version, ending.outcome, ending.wrong) for ending in endings] == [
        ("2.4.0", "Promoted", []),
        ("2.5.0", "RolledBack", []),
        ("2.6.0", "RolledBack", []),
    ]
    assert "error-rate" in endings[1].reason and "step migrate" in endings[2].reason
    _nothing_secret(ready)
    _connections_are_ready(ready)


def _nothing_secret(cluster: Cluster) -> None:
    """The passwords that foco was installed with stand in no log, status, Event or revision."""
    import base64

    found = json.loads(
        cluster.kubectl("get", "secrets", "--namespace", main_job.NAMESPACE, "--output", "json")
    )
    secrets = [
        base64.b64decode(value).decode()
        for item in found["items"]
        for key, value in item.get("data", {}).items()
        if "PASSWORD" in key or "TOKEN" in key
    ]
    assert len(secrets) >= 4
    texts = [
        installing.logs(cluster),
        cluster.kubectl(
            "get",
            "releases,connections,events,controllerrevisions,jobs",
            "--namespace",
            main_job.NAMESPACE,
            "--output",
            "yaml",
        ),
    ]
    assert [secret[:4] for secret in secrets for text in texts if secret in text] == []


def _connections_are_ready(cluster: Cluster) -> None:
    text = cluster.kubectl(
        "get", "connections", "--namespace", main_job.NAMESPACE, "--output", "json"
    )
    states = {
        item["metadata"]["name"]: [
            c["status"]
            for c in item.get("status", {}).get("conditions", [])
            if c["type"] == "Ready"
        ]
        for item in json.loads(text)["items"]
    }
    assert states == {"database": ["True"], "prometheus": ["True"], "site": ["True"]}


def test_helm_installs_what_kustomize_does(ready: Cluster, tmp_path: Path):
    """Installed by the real Helm, for one namespace and without rights on others, the operator runs
    a small release."""
    installing.remove(ready)
    namespace, own = "helm-shop", "helm-system"
    for name in (namespace, own):
        ready.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true")
        ready.kubectl("create", "namespace", name)
    helm = [ready.helm_program(), "--kubeconfig", str(ready.kubeconfig), "--namespace", own]
    values = [
        "--set",
        "clusterWide=false,crds.install=false,rbac.aggregateToUserRoles=false,rbac.peopleRoles=false,admission.create=false",
        "--set",
        f"watchNamespaces={{{namespace}}}",
    ]
    chart = [str(ROOT / "charts" / "gatewright"), *values, "--wait", "--timeout", "180s"]
    done = subprocess.run(
        [*helm, "install", "gatewright", *chart], capture_output=True, text=True, timeout=240
    )
    try:
        assert done.returncode == 0, done.stderr
        deployment = json.dumps(_deployment(namespace))
        ready.kubectl("apply", "--filename", "-", stdin=deployment)
        ready.kubectl("apply", "--filename", "-", stdin=json.dumps(_release(namespace)))
        found = follow(
            ready,
            namespace,
            "web",
            lambda item: bool(item.get("status", {}).get("run", {}).get("outcome")),
            Screen(),
            120,
        )
        assert found["status"]["run"]["outcome"] == "Promoted"
    finally:
        subprocess.run(
            [*helm, "uninstall", "gatewright", "--wait"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        for name in (namespace, own):
            ready.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true")


def _deployment(namespace: str) -> dict[str, object]:
    pod = {"containers": [{"name": "app", "image": "shop/web:1.0"}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": spec,
    }


def _release(namespace: str) -> dict[str, object]:
    workload = {"name": "web", "images": {"app": "shop/web:$(version)"}}
    stage = {"name": "deploy", "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}]}
    spec = {"version": "2.0", "targets": [{"name": "web", "workload": workload}], "stages": [stage]}
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": spec,
    }
