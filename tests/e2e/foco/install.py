"""Puts the stand-in on a cluster, and asks and disturbs it there.

Everything goes through `kubectl`, and to pods and Services through the API server's proxy, so it is
the same on kind and on the native cluster and needs no route to pod addresses. Passwords are made
here, at random, once a namespace; they go to the API server through kubectl's standard input and
are printed nowhere.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

HERE = Path(__file__).parent
MANIFESTS = HERE / "manifests"
VERSIONS = ("2.3.1", "2.4.0", "2.5.0", "2.6.0")
WORKLOADS = (
    "statefulset/postgres",
    "deployment/backups",
    "deployment/web",
    "deployment/prometheus",
    "deployment/loadgen",
)
ROLES = ("owner", "app", "monitor")


class Cluster(Protocol):
    """What this module needs of a cluster."""

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Standard output of one kubectl command; raises if it fails."""

    def base_image(self, packages: Sequence[str] = ()) -> str:
        """Tag of a Debian image with these packages."""

    def build_image(
        self,
        tag: str,
        dockerfile: Path,
        context: Path,
        *,
        base: str | None = None,
        build_args: Mapping[str, str] | None = None,
    ) -> str:
        """Build an image and load it into the cluster."""


def packages() -> list[str]:
    """Debian packages of the base image."""
    lines = (line.strip() for line in (HERE / "packages.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


# -- images
# ----------------------------------------------------------------------------------------------------
def images(cluster: Cluster, versions: Sequence[str] = VERSIONS) -> None:
    """Build and load `foco:<version>`; all share their layers, so only the first takes time."""
    base = cluster.base_image(packages())
    for version in versions:
        cluster.build_image(
            f"foco:{version}",
            HERE / "Dockerfile",
            HERE / "app",
            base=base,
            build_args={"APP_VERSION": version},
        )


# -- installing
# ------------------------------------------------------------------------------------------------
def install(cluster: Cluster, namespace: str = "production", timeout: str = "180s") -> None:
    """Apply everything and wait until it serves. Applying again puts `web` back to 2.3.1; passwords
    stay."""
    apply(cluster, _manifest("namespace.yaml", namespace))
    # Secrets first: pods that wait for one are tried again only after a while.
    apply(cluster, *_secrets(cluster, namespace))
    for name in ("postgres.yaml", "backups.yaml", "web.yaml", "prometheus.yaml", "loadgen.yaml"):
        apply(cluster, *_manifests(name, namespace))
    for workload in WORKLOADS:
        cluster.kubectl(
            "rollout", "status", workload, "--namespace", namespace, "--timeout", timeout
        )


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    """Server-side apply of these objects; they pass through standard input and show up in no
    argument list."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)


def _manifests(name: str, namespace: str) -> list[dict[str, Any]]:
    found = [m for m in yaml.safe_load_all((MANIFESTS / name).read_text()) if m]
    for manifest in found:
        if manifest["kind"] == "Namespace":
            manifest["metadata"]["name"] = namespace
        else:
            manifest["metadata"]["namespace"] = namespace
    return found


def _manifest(name: str, namespace: str) -> dict[str, Any]:
    (only,) = _manifests(name, namespace)
    return only


def _secrets(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """The Secrets; those that exist keep their passwords, because the database has them."""
    kept = _existing(cluster, "foco-passwords", namespace)
    names = ("POSTGRES_PASSWORD", *(f"FOCO_{role.upper()}_PASSWORD" for role in ROLES))
    passwords = {name: kept.get(name) or secrets.token_urlsafe(24) for name in names}
    token = _existing(cluster, "backup-store", namespace).get(
        "BACKUP_STORE_TOKEN"
    ) or secrets.token_urlsafe(24)

    def secret(name: str, **data: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}

    urls = {
        role: f"postgresql://foco_{role}:{passwords[f'FOCO_{role.upper()}_PASSWORD']}@postgres:5432/foco"
        for role in ROLES
    }
    # The monitor's URL is for whoever asks from outside of the namespace, too.
    urls["monitor"] = urls["monitor"].replace("@postgres:", f"@postgres.{namespace}.svc:")
    return [
        secret("foco-passwords", **passwords),
        *(secret(f"foco-database-{role}", DATABASE_URL=urls[role]) for role in ROLES),
        secret("backup-store", BACKUP_STORE_URL="http://backups:8080", BACKUP_STORE_TOKEN=token),
    ]


def _existing(cluster: Cluster, name: str, namespace: str) -> dict[str, str]:
    text = cluster.kubectl(
        "get", "secret", name, "--namespace", namespace, "--ignore-not-found", "--output", "json"
    )
    data = json.loads(text).get("data", {}) if text.strip() else {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def uninstall(cluster: Cluster, namespace: str = "production") -> None:
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=true")


# -- asking
# ----------------------------------------------------------------------------------------------------
def get(cluster: Cluster, service: str, path: str, namespace: str = "production") -> str:
    """A GET through the API server's proxy; raises for anything but 2xx."""
    return cluster.kubectl(
        "get", "--raw", f"/api/v1/namespaces/{namespace}/services/{service}:http/proxy{path}"
    )


def served_versions(cluster: Cluster, namespace: str = "production", asks: int = 8) -> set[str]:
    """The versions that answer behind the Service; two while a rollout is under way."""
    return {json.loads(get(cluster, "web", "/", namespace))["version"] for _ in range(asks)}


def served_version(cluster: Cluster, namespace: str = "production", seconds: float = 20) -> str:
    """The one version that is served; waits a little while pods of another one are still going."""
    deadline = time.monotonic() + seconds
    while True:
        versions = served_versions(cluster, namespace)
        if len(versions) == 1:
            return versions.pop()
        if time.monotonic() > deadline:
            raise AssertionError(
                f"after {seconds:.0f}s still several versions are served: {sorted(versions)}"
            )
        time.sleep(0.5)


def flags(cluster: Cluster, namespace: str = "production") -> dict[str, bool]:
    """The feature flags as one pod sees them."""
    answer: dict[str, bool] = json.loads(get(cluster, "web", "/api/features", namespace))["flags"]
    return answer


def promql(cluster: Cluster, query: str, namespace: str = "production") -> float | None:
    """The value of an instant query; None for an empty vector."""
    text = get(cluster, "prometheus", f"/api/v1/query?query={urllib.parse.quote(query)}", namespace)
    result = json.loads(text)["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def sql(cluster: Cluster, query: str, namespace: str = "production", role: str = "monitor") -> str:
    """Unaligned output of one query, inside of the database's pod; the password never leaves it."""
    password = f"$FOCO_{role.upper()}_PASSWORD"
    script = (
        f'PGPASSWORD="{password}" exec psql -h 127.0.0.1 -U foco_{role} -d foco -X -A -t -v '
        "ON_ERROR_STOP=1 -f -"
    )
    return cluster.kubectl(
        "exec",
        "--stdin",
        "--namespace",
        namespace,
        "postgres-0",
        "--",
        "sh",
        "-c",
        script,
        stdin=query,
    ).strip()


def traffic(cluster: Cluster, namespace: str = "production") -> list[dict[str, Any]]:
    """What users saw so far, ten seconds a line: requests, failures, slowestMs, answers."""
    text = cluster.kubectl("logs", "deployment/loadgen", "--namespace", namespace)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


# -- disturbing
# ------------------------------------------------------------------------------------------------
def set_fault(cluster: Cluster, version: str, namespace: str = "production", **fault: Any) -> None:
    """Make a version bad, at once and for pods to come; without keywords it is good again.

    The ConfigMap is for pods that start later: the kubelet writes it into running ones only after
    up to a minute or so, so those are told through their admin port.
    """
    held = json.loads(
        cluster.kubectl(
            "get", "configmap", "web-faults", "--namespace", namespace, "--output", "json"
        )
    )
    faults = json.loads(held["data"]["faults.json"])
    faults.pop(version, None)
    if fault:
        faults[version] = fault
    patch = json.dumps({"data": {"faults.json": json.dumps(faults)}})
    cluster.kubectl(
        "patch",
        "configmap",
        "web-faults",
        "--namespace",
        namespace,
        "--type=merge",
        "--patch",
        patch,
    )
    for pod in _pods(cluster, namespace):
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}:8081/proxy/faults"
        cluster.kubectl("replace", "--raw", path, "--filename", "-", stdin=json.dumps(faults))


def _pods(cluster: Cluster, namespace: str) -> list[str]:
    text = cluster.kubectl(
        "get", "pods", "--namespace", namespace, "--selector", "app=web", "--output", "json"
    )
    return [
        pod["metadata"]["name"]
        for pod in json.loads(text)["items"]
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]
