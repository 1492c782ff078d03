"""The operator on a cluster, as users install it: from its own image, with the shipped RBAC and
ServiceAccount."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.cluster import Cluster, operator_image

ROOT = Path(__file__).parents[2]
NAMESPACE = "gatewright-system"
TAG = "gatewright:0.1.0"


def image(cluster: Cluster) -> str:
    """Build the shipped Dockerfile and load it."""
    return operator_image.build(cluster, TAG)


def by_kustomize(cluster: Cluster, arguments: Sequence[str] = ()) -> None:
    """`kubectl apply -k manifests/setup/`, then `manifests/`, and pods of the image that was just
    built, where Releases may capture Secrets; further arguments by an overlay."""
    cluster.kubectl("apply", "--server-side", "--kustomize", str(ROOT / "manifests/setup"))
    with tempfile.TemporaryDirectory(prefix="gatewright-overlay-") as directory:
        base = os.path.relpath(ROOT / "manifests", Path(directory).resolve())
        Path(directory, "kustomization.yaml").write_text(yaml.safe_dump(_overlay(base, arguments)))
        cluster.kubectl("apply", "--server-side", "--kustomize", directory)
    cluster.kubectl("rollout", "restart", "deployment/gatewright", "--namespace", NAMESPACE)
    cluster.kubectl(
        "rollout", "status", "deployment/gatewright", "--namespace", NAMESPACE, "--timeout", "180s"
    )


def _overlay(base: str, arguments: Sequence[str]) -> dict[str, object]:
    added = [
        {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": item}
        for item in arguments
    ]
    patch = {"target": {"kind": "Deployment", "name": "gatewright"}, "patch": yaml.safe_dump(added)}
    return {
        "resources": [base],
        "components": [f"{base}/capture/cluster"],
        **({"patches": [patch]} if added else {}),
    }


def remove(cluster: Cluster) -> None:
    """Take the operator away; CRDs and Releases stay."""
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")


def logs(cluster: Cluster) -> str:
    """What the operator has said so far."""
    return cluster.kubectl("logs", "deployment/gatewright", "--namespace", NAMESPACE)


def pods(cluster: Cluster) -> list[str]:
    """Names of the operator's pods."""
    text = cluster.kubectl("get", "pods", "--namespace", NAMESPACE, "--output", "json")
    return [pod["metadata"]["name"] for pod in json.loads(text)["items"]]
