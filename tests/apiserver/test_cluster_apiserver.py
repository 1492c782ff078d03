"""The throwaway API server itself: what every other test of the API relies on."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import ApiServer
from tests.cluster.paths import CHECKOUT
from tests.cluster.processes import Process, wait_until

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ApiServer() as started:
        yield started


def _ask(kubeconfig: Path, path: str, tmp_path: Path) -> tuple[int, Any]:
    """GET as the user of a kubeconfig, from the file alone, as any client would."""
    content = yaml.safe_load(kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    files = {}
    for name, encoded in (
        ("ca", cluster["certificate-authority-data"]),
        ("crt", user["client-certificate-data"]),
        ("key", user["client-key-data"]),
    ):
        files[name] = tmp_path / name
        files[name].write_bytes(base64.b64decode(encoded))
    context = ssl.create_default_context(cafile=str(files["ca"]))
    context.load_cert_chain(files["crt"], files["key"])
    try:
        with urllib.request.urlopen(
            cluster["server"] + path, context=context, timeout=10
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_says_its_version_and_has_the_default_namespace(server: ApiServer) -> None:
    version = server.request("GET", "/version")
    assert (version["major"], int(version["minor"].rstrip("+")) >= 30) == ("1", True)
    assert server.request("GET", "/api/v1/namespaces/default")["metadata"]["name"] == "default"


def test_the_admin_kubeconfig_is_enough_by_itself(server: ApiServer, tmp_path: Path) -> None:
    status, body = _ask(server.kubeconfig, "/api/v1/namespaces", tmp_path)
    assert status == 200
    assert "kube-system" in {item["metadata"]["name"] for item in body["items"]}
    assert server.kubeconfig.stat().st_mode & 0o077 == 0


def test_another_user_may_do_what_rbac_says_and_no_more(server: ApiServer, tmp_path: Path) -> None:
    jane = server.kubeconfig_for("jane", ["readers"])
    path = "/api/v1/namespaces/default/configmaps"
    assert _ask(jane, path, tmp_path)[0] == 403

    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    server.request("POST", f"{rbac}/roles", {"metadata": {"name": "readers"}, "rules": rules})
    group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "readers"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "readers"}
    binding = {"metadata": {"name": "readers"}, "subjects": [group], "roleRef": role}
    server.request("POST", f"{rbac}/rolebindings", binding)

    assert wait_until(lambda: _ask(jane, path, tmp_path)[0] == 200, 5)
    assert _ask(jane, "/api/v1/namespaces/default/secrets", tmp_path)[0] == 403


def test_the_audit_log_has_each_request_once_leases_included(server: ApiServer) -> None:
    lease = {"metadata": {"name": "audited"}, "spec": {"holderIdentity": "somebody"}}
    server.request("POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", lease)

    def seen() -> list[dict[str, Any]]:
        return [
            e
            for e in server.audit_events()
            if e["verb"] == "create"
            and e["objectRef"]["resource"] == "leases"
            and e["objectRef"].get("namespace") == "default"
        ]

    assert wait_until(lambda: len(seen()) == 1, 5)
    (event,) = seen()
    assert event["level"] == "Metadata"
    assert event["stage"] == "ResponseComplete"
    assert event["user"]["username"] == "gatewright-admin"
    assert "requestObject" not in event


def test_validating_admission_policies_are_on(server: ApiServer) -> None:
    names = {
        resource["name"]
        for resource in server.request("GET", "/apis/admissionregistration.k8s.io/v1")["resources"]
    }
    assert "validatingadmissionpolicies" in names


def test_request_bodies_can_be_audited_and_the_controller_manager_makes_pods_of_jobs() -> None:
    with ApiServer(audit_level="RequestResponse") as server:
        server.add_controller_manager("job")
        pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}
        job = {"metadata": {"name": "one"}, "spec": {"template": {"spec": pod}}}
        server.request("POST", "/apis/batch/v1/namespaces/default/jobs", job)

        def pods() -> list[Any]:
            return list(server.request("GET", "/api/v1/namespaces/default/pods")["items"])

        assert wait_until(lambda: len(pods()) == 1, 20)
        created = [
            e
            for e in server.audit_events()
            if e["verb"] == "create" and e["objectRef"]["resource"] == "jobs"
        ]
        assert [event["requestObject"]["metadata"]["name"] for event in created] == ["one"]
        assert set(server.pids) == {"etcd", "kube-apiserver", "kube-controller-manager"}


def test_stop_leaves_nothing_and_two_run_side_by_side() -> None:
    with ApiServer() as first, ApiServer() as second:
        assert first.url != second.url
        directories = [first.directory, second.directory]
        processes = [Process.of(pid) for one in (first, second) for pid in one.pids.values()]
        assert all(process.alive() for process in processes)
    assert not any(process.alive() for process in processes)
    assert not any(directory.exists() for directory in directories)


_CHILD = """
import json, time
from tests.cluster import ApiServer
server = ApiServer()
server.start()
print(json.dumps([str(server.directory), list(server.pids.values())]), flush=True)
time.sleep(600)
"""


def test_when_the_test_process_is_killed_nothing_stays() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        directory, pids = json.loads(child.stdout.readline())
        processes = [Process.of(pid) for pid in pids]
        assert len(processes) == 2
        assert all(process.alive() for process in processes)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
    assert wait_until(lambda: not any(process.alive() for process in processes), 15)
    assert wait_until(lambda: not Path(directory).exists(), 15)


def test_it_starts_within_seconds() -> None:
    started = time.monotonic()
    with ApiServer():
        took = time.monotonic() - started
    # Generous for a busy machine; on an idle one it is about four seconds.
    assert took < 45, f"{took:.1f}s"
