"""The parts of the throwaway cluster that need no cluster: addresses, images as files, builds,
processes, kind's commands."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.cluster import assets, audit, certs, deps, images, kind, network
from tests.cluster.oci import Layout
from tests.cluster.paths import CHECKOUT, Unavailable, cache_dir
from tests.cluster.processes import Process, Watchdog, free_ports, spawn, stop, wait_until


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here reads or writes the real cache."""
    monkeypatch.setenv("GATEWRIGHT_CACHE", str(tmp_path / "cache"))


def program(directory: Path, name: str, script: str) -> Path:
    """A program on a PATH of the test's own."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return path


# -- addresses
# --------------------------------------------------------------------------------------------------
def test_a_block_avoids_what_is_routed_and_its_parts_do_not_overlap() -> None:
    block = network.choose(
        [IPv4Network("10.213.0.0/20"), IPv4Network("10.213.17.4/32"), IPv4Network("192.168.0.0/16")]
    )
    assert block.network == IPv4Network("10.213.32.0/20")
    parts = [block.pods, block.services, block.link]
    assert all(part.subnet_of(block.network) for part in parts)
    assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)
    assert block.machine != block.node
    assert {block.machine, block.node} < set(block.link)


def test_when_every_block_is_taken_it_says_so() -> None:
    with pytest.raises(Unavailable, match=r"no free block of addresses in 10\.213\.0\.0/16"):
        network.choose([IPv4Network("10.0.0.0/8")])


# -- images as files
# --------------------------------------------------------------------------------------------
def layer(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_an_archive_has_its_tag_and_leaves_out_what_the_node_has(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "oci")
    layout.add("one", layer(tmp_path / "a.tar", a="first"), {"Cmd": ["a"]})
    layout.add("two", layer(tmp_path / "b.tar", b="second"), {"Cmd": ["b"]})
    assert layout.names() == {"one", "two"}

    def members(has: Any) -> dict[str, bytes]:
        target = io.BytesIO()
        layout.write_archive("two", "docker.io/library/two:1", target, has)
        target.seek(0)
        with tarfile.open(fileobj=target) as archive:
            return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]

    whole = members(lambda _: False)
    (manifest,) = json.loads(whole["index.json"])["manifests"]
    assert manifest["annotations"]["io.containerd.image.name"] == "docker.io/library/two:1"
    digests = json.loads(whole["blobs/sha256/" + manifest["digest"][7:]])["layers"]
    blob = "blobs/sha256/" + digests[0]["digest"][7:]
    assert b"second" in whole[blob]

    thin = members(lambda digest: digest == digests[0]["digest"])
    assert set(whole) - set(thin) == {blob}


def test_tidying_keeps_the_blobs_of_what_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "oci")
    layout.add("one", layer(tmp_path / "a.tar", a="first"), {})
    before = {path.name for path in (tmp_path / "oci" / "blobs" / "sha256").iterdir()}
    layout.add("two", layer(tmp_path / "b.tar", b="second"), {})
    layout.keep_only(["one"])
    assert layout.names() == {"one"}
    assert {path.name for path in (tmp_path / "oci" / "blobs" / "sha256").iterdir()} == before


@pytest.mark.parametrize(
    ("tag", "full"),
    [
        ("gatewright:dev", "docker.io/library/gatewright:dev"),
        ("some/image:1", "docker.io/some/image:1"),
        ("registry.foco.mx/web:2.4.0", "registry.foco.mx/web:2.4.0"),
        ("localhost/base:1", "localhost/base:1"),
        ("registry:5000/web", "registry:5000/web"),
    ],
)
def test_short_tags_get_the_name_that_the_runtime_gives_them(tag: str, full: str) -> None:
    assert images.qualified(tag) == full


def test_the_hash_of_a_build_follows_everything_that_goes_in_and_nothing_else(
    tmp_path: Path,
) -> None:
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "sub" / "script").write_text("echo")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch")

    def now(base: str = "b", **arguments: str) -> str:
        return images.content_hash(dockerfile, context, base, arguments)

    seen = [now(), now("other"), now(VERSION="1"), now(VERSION="2")]
    (context / "sub" / "__pycache__").mkdir()
    (context / "sub" / "__pycache__" / "x.pyc").write_text("x")
    os.utime(context / "sub" / "script", (1, 1))
    assert now() == seen[0]
    (context / "sub" / "script").chmod(0o755)
    seen.append(now())
    (context / "sub" / "script").rename(context / "sub" / "renamed")
    seen.append(now())
    (context / "sub" / "renamed").write_text("other")
    seen.append(now())
    dockerfile.write_text("FROM scratch\nUSER 1")
    seen.append(now())
    assert len(set(seen)) == len(seen)


def test_a_base_is_named_by_its_packages_whatever_their_order() -> None:
    assert images.base_name(["a", "b"]) == images.base_name(["b", "a", "python3"])
    assert images.base_name(["a"]) != images.base_name(["b"])


# -- builds
# -----------------------------------------------------------------------------------------------------
_FAKE_GO = """
import os, pathlib, sys
if sys.argv[1] == "version":
    print("go version go1.30.0 linux/amd64")
    sys.exit()
assert os.environ["CGO_ENABLED"] == "0"
pathlib.Path(os.environ["CALLS"]).open("a").write(" ".join(sys.argv[1:]) + chr(10))
if os.environ.get("FAIL"):
    print("no such module", file=sys.stderr)
    sys.exit(1)
target = sys.argv[sys.argv.index("-o") + 1]
packages = sys.argv[sys.argv.index("-o") + 2:]
for package in packages:
    path = pathlib.Path(target, package.rpartition("/")[2]) if target.endswith("/") else pathlib.Path(target)
    path.write_text("built")
"""


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `go` that writes down what it was asked, and files instead of binaries."""
    program(tmp_path / "bin", "go", _FAKE_GO)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    assets._go.cache_clear()
    yield tmp_path / "calls"
    assets._go.cache_clear()


def test_programs_are_built_once_together_and_with_a_version(fake_go: Path) -> None:
    first = assets.ensure(["kubelet", "kube-proxy"], own=True)
    assert {name: path.read_text() for name, path in first.items()} == {
        "kubelet": "built",
        "kube-proxy": "built",
    }
    assert assets.ensure(["kubelet", "kube-proxy"], own=True) == first
    (call,) = fake_go.read_text().splitlines()
    assert f"gitVersion={assets.KUBERNETES}" in call
    assert call.endswith("k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-proxy")


def test_a_failed_build_says_why_and_leaves_nothing_that_looks_finished(
    fake_go: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(Unavailable, match="no such module"):
        assets.ensure(["etcd"], own=True)
    assert [path.name for path in cache_dir().iterdir()] == ["locks"]
    monkeypatch.delenv("FAIL")
    assert assets.ensure(["etcd"], own=True)["etcd"].exists()


def test_the_users_own_server_is_used_when_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, used in (("v1.36.0", True), ("v1.30.2", True), ("v1.29.9", False)):
        directory = tmp_path / version
        own = program(directory, "kube-apiserver", f"print('Kubernetes {version}')")
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(directory))
        assets.users_own.cache_clear()
        assert (assets.users_own("kube-apiserver") == own) is used
    assets.users_own.cache_clear()


def test_every_program_belongs_to_a_pinned_module() -> None:
    for tool in assets.TOOLS_BY_NAME.values():
        text = (assets.TOOLS / tool.module / "go.mod").read_text()
        assert tool.package in text
        assert tool.version in text
        assert (assets.TOOLS / tool.module / "go.sum").exists()


# -- the system's programs
# --------------------------------------------------------------------------------------
def test_missing_programs_are_named_by_their_package_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        deps, "which", lambda program: None if program in ("unshare", "nsenter", "runc") else "/x"
    )
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert deps.missing() == ["runc", "util-linux"]


def test_without_root_the_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deps, "missing", lambda: ["runc", "buildah"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match=r"not root.*runc buildah"):
        deps.ensure()


# -- processes
# --------------------------------------------------------------------------------------------------
def test_stop_kills_what_ignores_the_polite_signal(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', "
        "flush=True); time.sleep(60)"
    )
    child = spawn([sys.executable, "-c", script], tmp_path / "log")
    try:
        process = Process.of(child.pid)
        assert wait_until(lambda: "up" in (tmp_path / "log").read_text(), 10)
        stop([process], grace=0.2)
        assert not process.alive()
    finally:
        child.kill()
        assert child.wait() == -signal.SIGKILL


def test_a_reused_pid_is_not_the_process_that_was_recorded(tmp_path: Path) -> None:
    child = spawn(["sleep", "60"], tmp_path / "log")
    try:
        stranger = Process(child.pid, Process.of(child.pid).started - 1)
        assert not stranger.alive()
        stop([stranger])
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_the_watchdog_acts_when_told_even_while_a_fork_holds_its_pipe(tmp_path: Path) -> None:
    directory = tmp_path / "scratch"
    directory.mkdir()
    watchdog = Watchdog(directory)
    child = spawn(["sleep", "60"], directory / "log")
    watchdog.watch(child.pid)
    pipe = watchdog._process.stdin
    assert pipe is not None
    held = os.dup(pipe.fileno())
    try:
        started = time.monotonic()
        watchdog.release()
        assert time.monotonic() - started < 20
        assert child.wait() == -signal.SIGTERM
        assert not directory.exists()
    finally:
        os.close(held)


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(20))) == 20


# -- kind
# -------------------------------------------------------------------------------------------------------
_FAKE_DOCKER = """
import json, os, pathlib, sys
state = pathlib.Path(os.environ["STATE"])
arguments = sys.argv[1:]
(state / "docker").open("a").write(json.dumps([arguments, sys.stdin.read()]) + chr(10))
node = state / "node"
if arguments[0] == "info":
    print("28.0.0")
elif arguments[:2] == ["container", "inspect"]:
    if not node.exists():
        sys.exit(1)
    print("abc123" if "--format" in arguments else "[]")
elif arguments[:2] == ["network", "inspect"]:
    print(json.dumps([{"Gateway": "fc00::1"}, {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]))
elif arguments[0] == "image":
    sys.exit(1)
elif arguments[0] == "exec":
    print((state / pathlib.Path(arguments[-1]).name).read_text(), end="")
elif arguments[0] == "save":
    pathlib.Path(arguments[2]).write_text("archive of " + arguments[3])
"""
_FAKE_KIND = """
import os, pathlib, sys
state = pathlib.Path(os.environ["STATE"])
arguments = sys.argv[1:]
if arguments == ["version"]:
    print("kind v0.33.0 go1.26.0 linux/amd64")
    sys.exit()
(state / "kind").open("a").write(" ".join(arguments) + chr(10))
options = dict(a.lstrip("-").split("=", 1) for a in arguments if a.startswith("--"))
if arguments[:2] == ["create", "cluster"]:
    if os.environ.get("FAIL"):
        (state / "node").touch()
        sys.exit("no space left on device")
    pathlib.Path(options["kubeconfig"]).write_text("apiVersion: v1")
    (state / "node").touch()
elif arguments[:2] == ["delete", "cluster"]:
    (state / "node").unlink(missing_ok=True)
elif arguments[:2] == ["load", "image-archive"]:
    (state / "loaded").open("a").write(pathlib.Path(arguments[2]).read_text() + chr(10))
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Docker engine and kind that remember what they were asked."""
    state = tmp_path / "state"
    state.mkdir()
    program(tmp_path / "bin", "docker", _FAKE_DOCKER)
    program(tmp_path / "bin", "kind", _FAKE_KIND)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(state))
    monkeypatch.delenv("GATEWRIGHT_CLUSTER_FLAVOR", raising=False)
    for cached in (kind._docker_refusal, assets.users_own):
        cached.cache_clear()
    yield state
    for cached in (kind._docker_refusal, assets.users_own):
        cached.cache_clear()


def test_kind_is_chosen_where_an_engine_answers_and_made_with_the_audit_log_on(
    engine: Path,
) -> None:
    cluster = kind.KindCluster.choose("parts")
    assert isinstance(cluster, kind.KindCluster)
    assert not cluster.is_current()
    cluster.create()
    assert cluster.is_current()
    assert cluster.machine_address == "172.18.0.1"

    config = yaml.safe_load((cluster.directory / "kind.yaml").read_text())
    (node,) = config["nodes"]
    patch = yaml.safe_load(node["kubeadmConfigPatches"][0])
    arguments = patch["apiServer"]["extraArgs"]
    mounted = {volume["mountPath"] for volume in patch["apiServer"]["extraVolumes"]}
    assert {
        str(Path(arguments[key]).parent) for key in ("audit-policy-file", "audit-log-path")
    } == mounted
    assert (Path(node["extraMounts"][0]["hostPath"]) / "audit-policy.yaml").exists()

    (engine / "audit.log").write_text('{"verb": "get"}\n{"verb": "lis')
    assert list(cluster.audit_events()) == [{"verb": "get"}]
    assert audit.user_of({"user": {}}) == "", "given up before anybody was told who it was"

    cluster.down()
    assert not (engine / "node").exists()
    assert not cluster.directory.exists()
    assert not cluster.is_current()


def test_kind_that_fails_half_way_is_removed_and_its_words_are_passed_on(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    cluster = kind.KindCluster("parts")
    with pytest.raises(RuntimeError, match="no space left on device"):
        cluster.create()
    assert not (engine / "node").exists()
    assert not cluster.directory.exists()


def test_images_are_built_by_docker_and_loaded_once(engine: Path, tmp_path: Path) -> None:
    cluster = kind.KindCluster("parts")
    cluster.create()
    (tmp_path / "Dockerfile").write_text("ARG BASE")
    (tmp_path / "context").mkdir()

    base = cluster.base_image(["postgresql"])
    for _ in range(2):
        cluster.build_image(
            "foco:1",
            tmp_path / "Dockerfile",
            tmp_path / "context",
            base=base,
            build_args={"V": "1"},
        )
    calls = [json.loads(line) for line in (engine / "docker").read_text().splitlines()]
    builds = [call for call in calls if call[0][0] == "build"]
    assert [call[0][call[0].index("--tag") + 1] for call in builds] == [base, "foco:1"]
    assert "postgresql python3 python3-venv" in builds[0][1]
    assert {f"--build-arg=BASE={base}", "--build-arg=V=1"} < set(builds[1][0])
    assert (engine / "loaded").read_text().splitlines() == ["archive of foco:1"]


def test_client_certificates_are_issued_by_an_authority_as_kubeadm_makes_it(engine: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    own = certs.Authority.create()
    certificate = x509.load_pem_x509_certificate(own.certificate)
    # The certificate of another key will do: what is tested is that such a key signs.
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (engine / "ca.key").write_bytes(pem)
    (engine / "ca.crt").write_bytes(own.certificate)
    pair = kind.KindCluster("parts").authority().issue("jane", ["dev"])
    issued = x509.load_pem_x509_certificate(pair.certificate)
    assert issued.subject.rfc4514_string() == "CN=jane,O=dev"
    assert issued.issuer == certificate.subject
    assert issued.signature_hash_algorithm is not None
    key.public_key().verify(
        issued.signature,
        issued.tbs_certificate_bytes,
        padding.PKCS1v15(),
        issued.signature_hash_algorithm,
    )


def test_without_an_engine_kind_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(
        tmp_path / "bin", "docker", "import sys; sys.exit('Cannot connect to the Docker daemon')"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    kind._docker_refusal.cache_clear()
    try:
        assert kind.KindCluster.refusal() == "no Docker engine answers"
    finally:
        kind._docker_refusal.cache_clear()


def test_cluster_names_are_checked() -> None:
    with pytest.raises(ValueError, match="at most 20 letters"):
        kind.KindCluster("../elsewhere")


def test_the_command_line_explains_itself_and_fails_in_words() -> None:
    command = [sys.executable, "-m", "tests.cluster"]
    helped = subprocess.run(
        [*command, "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for word in (
        "up",
        "down",
        "status",
        "kubeconfig",
        "load-image",
        "kubectl",
        "image-operator",
        "deps",
        "assets",
    ):
        assert f"    {word}" in helped.stdout
    refused = subprocess.run(
        [*command, "status"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GATEWRIGHT_CLUSTER_FLAVOR": "none"},
    )
    assert refused.returncode == 1
    assert "no cluster is possible here" in refused.stderr
