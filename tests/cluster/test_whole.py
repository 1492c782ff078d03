"""The whole throwaway cluster, on whichever flavour this machine has: what the end-to-end tests
rely on, and its end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import signal
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import Cluster, Unavailable
from tests.cluster.audit import user_of
from tests.cluster.native import NativeCluster
from tests.cluster.paths import CHECKOUT
from tests.cluster.processes import wait_until

pytestmark = pytest.mark.e2e

NAME = "selftest"
IMAGE = "registry.example/selftest:1"
_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
ARG WORD
COPY page /srv/page
RUN echo "$WORD" >>/srv/page
USER 65532:65532
WORKDIR /srv
"""
# What a Job does inside: each line is printed only when the step before it worked.
_INSIDE = """
import json, pathlib, socket, ssl, time, urllib.error, urllib.request
print("dns", socket.gethostbyname("kubernetes.default.svc"), socket.gethostbyname("kubernetes.default.svc.cluster.local"))
for left in reversed(range(60)):
    try:
        print("service", urllib.request.urlopen("http://web/page", timeout=10).read().decode().split())
        break
    except OSError:  # kube-proxy learns by a watch of its own that the pod is ready: no rule is there before
        if not left:
            raise
        time.sleep(1)
try:
    socket.gethostbyname("nowhere.example")
except socket.gaierror as error:
    print("unknown name", error.errno == socket.EAI_NONAME)
home = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
context = ssl.create_default_context(cafile=str(home / "ca.crt"))
def ask(path, body=None):
    request = urllib.request.Request("https://kubernetes.default.svc" + path, body)
    request.add_header("Authorization", "Bearer " + (home / "token").read_text())
    request.add_header("Content-Type", "application/json")
    return json.load(urllib.request.urlopen(request, context=context, timeout=10))
review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
told = ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", json.dumps(review).encode())
print("token", told["status"]["userInfo"]["username"])
try:
    ask("/api/v1/namespaces/default/secrets")
except urllib.error.HTTPError as error:
    print("rbac", error.code)
pathlib.Path("/scratch/file").write_text("x")
print("config", pathlib.Path("/config/key").read_text())
pathlib.Path("/dev/termination-log").write_text(json.dumps({"ok": True}))
"""


def node_namespace(cluster: Cluster) -> str | None:
    """The process namespace of a native node; None on kind."""
    if not isinstance(cluster, NativeCluster):
        return None
    record = cluster._record()
    assert record is not None
    assert record.first is not None
    return os.readlink(f"/proc/{record.first.pid}/ns/pid")


def identity(cluster: Cluster) -> str:
    """What no two clusters share."""
    return cluster.kubectl("get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")


def processes_in(namespace: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns" / "pid") == namespace:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def machine() -> dict[str, list[str]]:
    """What a cluster could leave behind, but for what other clusters on this machine come and go
    with."""

    def lines(*command: str) -> list[str]:
        return subprocess.run(
            command, capture_output=True, text=True, check=False
        ).stdout.splitlines()

    own = NativeCluster(NAME).id
    return {
        "mounts": sorted(
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ),
        "links": [line for line in lines("ip", "-oneline", "link") if own in line or "cni" in line],
        "tables": lines("nft", "list", "tables"),
        "directories": sorted(
            str(path)
            for top in (
                "/var/lib",
                "/var/lib/gatewright",
                "/var/log",
                "/opt",
                "/run/netns",
                "/var/lib/cni",
            )
            if Path(top).is_dir()
            for path in Path(top).iterdir()
            if path.parent.name != "gatewright" or own in path.name
            if path.name != "gatewright"
        ),
        "control groups": sorted(str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{own}*")),
        "settings": [
            Path("/proc/sys", name).read_text()
            for name in (
                "vm/overcommit_memory",
                "kernel/panic",
                "kernel/panic_on_oops",
                "net/ipv4/ip_forward",
            )
            if Path("/proc/sys", name).exists()
        ],
    }


BEFORE: dict[str, list[str]] = {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        Cluster.choose(NAME).down()
        BEFORE.update(machine())
        made = Cluster.ensure(NAME)
    except Unavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    context = tmp_path_factory.mktemp("context")
    (context / "page").write_text("hello\n")
    dockerfile = tmp_path_factory.mktemp("dockerfile") / "Dockerfile"
    dockerfile.write_text(_DOCKERFILE)
    arguments = {"base": cluster.base_image(), "build_args": {"WORD": "there"}}
    first = cluster.build_image(IMAGE, dockerfile, context, **arguments)  # type: ignore[arg-type]
    assert cluster.build_image(IMAGE, dockerfile, context, **arguments) == first  # type: ignore[arg-type]
    return IMAGE


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(objects))


@pytest.fixture(scope="module")
def web(cluster: Cluster, image: str) -> str:
    """A Deployment with a Service of the same name."""
    container = {
        "name": "web",
        "image": image,
        "command": ["python3", "-m", "http.server", "8080"],
        "readinessProbe": {"httpGet": {"path": "/page", "port": 8080}, "periodSeconds": 1},
    }
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    ports = [{"port": 80, "targetPort": 8080}]
    apply(
        cluster,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": ports},
        },
    )
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    return "web"


def test_a_job_finds_names_services_its_token_and_its_volumes(
    cluster: Cluster, image: str, web: str
) -> None:
    container = {
        "name": "inside",
        "image": image,
        "command": ["python3", "-c", _INSIDE],
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "config", "mountPath": "/config"},
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "config", "configMap": {"name": "inside"}},
        ],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "inside"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    apply(
        cluster,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "inside"},
            "data": {"key": "value"},
        },
        job,
    )

    def finished() -> bool:
        status = json.loads(cluster.kubectl("get", "job", "inside", "--output=json"))["status"]
        return bool(status.get("succeeded") or status.get("failed"))

    assert wait_until(finished, 120)
    address = cluster.kubectl("get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}")
    assert cluster.kubectl("logs", "job/inside").splitlines() == [
        f"dns {address} {address}",
        "service ['hello', 'there']",
        "unknown name True",
        "token system:serviceaccount:default:default",
        "rbac 403",
        "config value",
    ]
    (pod_status,) = json.loads(
        cluster.kubectl("get", "pods", "--selector=job-name=inside", "--output=json")
    )["items"]
    ended = pod_status["status"]["containerStatuses"][0]["state"]["terminated"]
    assert json.loads(ended["message"]) == {"ok": True}


def test_exec_and_a_forwarded_port_that_survives_its_pod(cluster: Cluster, web: str) -> None:
    assert cluster.kubectl("exec", f"deployment/{web}", "--", "id", "-u").strip() == "65532"
    with cluster.forward("default", web, 80) as port:

        def page() -> str | None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError:
                return None

        assert page() == "hello\nthere\n"
        cluster.kubectl("delete", "pod", "--selector=app=web", "--grace-period=0", "--force")
        cluster.kubectl("rollout", "status", f"deployment/{web}", "--timeout=60s")
        assert wait_until(lambda: page() == "hello\nthere\n", 30)


def test_another_user_is_known_and_audited_under_their_name(cluster: Cluster) -> None:
    jane = cluster.kubeconfig_for("jane", ["release-managers"])
    told = cluster.kubectl("auth", "whoami", "--output=json", f"--kubeconfig={jane}")
    who = json.loads(told)["status"]["userInfo"]
    assert who["username"] == "jane"
    assert "release-managers" in who["groups"]
    assert wait_until(lambda: any(user_of(e) == "jane" for e in cluster.audit_events()), 10)
    assert {event["stage"] for event in cluster.audit_events()} <= {
        "ResponseComplete",
        "ResponseStarted",
        "Panic",
    }


def test_a_server_of_the_test_is_reached_from_a_pod(cluster: Cluster, web: str) -> None:
    script = (
        "import http.server as h; server = h.HTTPServer(('', 0), h.SimpleHTTPRequestHandler);"
        "print(server.server_port, flush=True); server.serve_forever()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        address = f"http://{cluster.machine_address}:{server.stdout.readline().strip()}/"
        ask = f"import urllib.request as u; print(u.urlopen('{address}', timeout=10).status)"
        assert (
            cluster.kubectl("exec", f"deployment/{web}", "--", "python3", "-c", ask).strip()
            == "200"
        )
    finally:
        server.kill()
        server.communicate()


def test_an_image_that_is_nowhere_fails_and_does_not_hang(cluster: Cluster) -> None:
    cluster.kubectl("run", "nowhere", "--image=registry.invalid/nothing:1", "--restart=Never")

    def reason() -> str:
        path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
        return cluster.kubectl("get", "pod", "nowhere", f"--output={path}")

    assert wait_until(lambda: reason() in ("ErrImagePull", "ImagePullBackOff"), 60)
    cluster.kubectl("delete", "pod", "nowhere", "--wait=false")


def docker_archive(path: Path, tag: str) -> Path:
    """An archive as `docker save` writes it: one layer with one text file."""

    def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        add(archive, "note", b"nothing to run")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    machines = {"x86_64": "amd64", "aarch64": "arm64"}
    config = {
        "os": "linux",
        "architecture": machines.get(platform.machine(), platform.machine()),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    with tarfile.open(path, "w") as archive:
        add(archive, "config.json", json.dumps(config).encode())
        add(archive, "layer.tar", layer.getvalue())
        manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
        add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def test_an_archive_of_docker_is_loaded(cluster: Cluster, tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "image.tar", "registry.invalid/archived:1")
    command = [sys.executable, "-m", "tests.cluster", "load-image", "--name", NAME, str(archive)]
    subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True)
    for name in ("archived", "absent"):
        image = f"--image=registry.invalid/{name}:1"
        cluster.kubectl(
            "run",
            name,
            image,
            "--image-pull-policy=Never",
            "--restart=Never",
            "--command",
            "--",
            "/absent",
        )

    def reason(name: str) -> str:
        state = "jsonpath={.status.containerStatuses[0].state.*.reason}"
        return cluster.kubectl("get", "pod", name, f"--output={state}")

    # The one is there and has nothing that could be started; the other is not there.
    assert wait_until(lambda: reason("archived") == "StartError", 60)
    assert wait_until(lambda: reason("absent") == "ErrImageNeverPull", 60)
    cluster.kubectl("delete", "pod", "archived", "absent", "--wait=false")


def test_ensure_keeps_a_healthy_cluster_and_the_command_line_sees_it(cluster: Cluster) -> None:
    before = identity(cluster)
    assert identity(Cluster.ensure(NAME)) == before
    command = [sys.executable, "-m", "tests.cluster"]
    told = subprocess.run(
        [*command, "status", "--name", NAME],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "running, healthy" in told.stdout
    told = subprocess.run(
        [*command, "kubeconfig", "--name", NAME],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(cluster.kubeconfig)


def test_a_node_that_was_killed_is_cleared_away_and_made_again(cluster: Cluster) -> None:
    if not isinstance(cluster, NativeCluster):
        pytest.skip("kind's own affair")
    record = cluster._record()
    assert record is not None
    assert record.first is not None
    namespace = node_namespace(cluster)
    assert namespace is not None
    before = identity(cluster)
    os.kill(record.first.pid, signal.SIGKILL)
    assert wait_until(lambda: not processes_in(namespace), 20)
    assert not cluster.is_current()
    again = Cluster.ensure(NAME)
    assert again.is_healthy()
    assert identity(again) != before


def test_down_leaves_nothing_behind(cluster: Cluster) -> None:
    namespace = node_namespace(cluster)
    assert namespace is None or len(processes_in(namespace)) >= 8
    cluster.down()
    assert namespace is None or processes_in(namespace) == []
    assert not cluster.directory.exists()
    assert not cluster.is_current()
    if isinstance(cluster, NativeCluster):
        assert cluster.traces() == []
        assert machine() == BEFORE
    cluster.down()  # again, where there is nothing
