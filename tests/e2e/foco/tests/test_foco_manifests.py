"""The manifests: pods that Pod Security `restricted` admits, one image, and nothing secret in a
file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import ApiServer
from tests.e2e.foco import install

FOCO = Path(__file__).parents[1]
FILES = ("postgres.yaml", "backups.yaml", "web.yaml", "prometheus.yaml", "loadgen.yaml")


def objects() -> list[dict[str, Any]]:
    return [
        m
        for name in ("namespace.yaml", *FILES)
        for m in yaml.safe_load_all((FOCO / "manifests" / name).read_text())
    ]


def templates() -> dict[str, dict[str, Any]]:
    return {
        m["metadata"]["name"]: m["spec"]["template"]
        for m in objects()
        if "template" in m.get("spec", {})
    }


def test_every_file_is_installed() -> None:
    listed = yaml.safe_load((FOCO / "manifests/kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        p.name for p in (FOCO / "manifests").glob("*.yaml") if p.name != "kustomization.yaml"
    )
    assert sorted(listed) == sorted(("namespace.yaml", *FILES))
    assert {w.split("/")[1] for w in install.WORKLOADS} == set(templates())


def test_no_secret_is_committed() -> None:
    assert all(m["kind"] != "Secret" for m in objects())
    assert "password" not in "".join(
        (FOCO / "manifests" / name).read_text().lower() for name in FILES if name != "postgres.yaml"
    )


def test_secrets_are_random_and_stay() -> None:
    class Fake:
        """A cluster that has the Secrets which were applied before."""

        held: dict[str, dict[str, str]]

        def __init__(self) -> None:
            self.held = {}

        def kubectl(self, *args: str, stdin: str | None = None) -> str:
            data = self.held.get(args[2], {})
            return (
                json.dumps(
                    {"data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}}
                )
                if data
                else ""
            )

    cluster, other = Fake(), Fake()
    first = install._secrets(cluster, "production")
    cluster.held = {s["metadata"]["name"]: s["stringData"] for s in first}
    assert install._secrets(cluster, "production") == first
    assert install._secrets(other, "production") != first


@pytest.mark.apiserver
def test_pod_security_restricted_admits_every_pod() -> None:
    with ApiServer() as server:
        (namespace,) = [m for m in objects() if m["kind"] == "Namespace"]
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        server.request("POST", "/api/v1/namespaces", namespace)
        path = "/api/v1/namespaces/production/pods?dryRun=All"
        for name, template in templates().items():
            pod = {"apiVersion": "v1", "kind": "Pod", **template}
            server.request("POST", path, pod | {"metadata": {**template["metadata"], "name": name}})
        # The admission is really there.
        with pytest.raises(RuntimeError, match="violates PodSecurity"):
            bad = {"containers": [{"name": "x", "image": "x"}]}
            server.request(
                "POST",
                path,
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": bad},
            )
        for manifest in (m for m in objects() if m["kind"] != "Namespace"):
            group = "/apis/apps/v1" if "/" in manifest["apiVersion"] else "/api/v1"
            plural = manifest["kind"].lower() + "s"
            server.request(
                "POST",
                f"{group}/namespaces/production/{plural}?dryRun=All&fieldValidation=Strict",
                manifest,
            )
