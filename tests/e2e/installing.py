"""The operator on a cluster, as users install it: from its own image, with the shipped RBAC and ServiceAccount."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster import Cluster, operator_image

ROOT = Path(__file__).parents[2]
NAMESPACE = "gatewright-system"
TAG = "gatewright:0.1.0"


def image(cluster: Cluster) -> str:
    """Build the shipped Dockerfile and load it."""
    return operator_image.build(cluster, TAG)


def by_kustomize(cluster: Cluster) -> None:
    """`kubectl apply -k manifests/`, and pods of the image that was just built."""
    cluster.kubectl("apply", "--server-side", "--kustomize", str(ROOT / "manifests"))
    cluster.kubectl("rollout", "restart", "deployment/gatewright", "--namespace", NAMESPACE)
    cluster.kubectl("rollout", "status", "deployment/gatewright", "--namespace", NAMESPACE, "--timeout", "180s")


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
