"""The same cluster by kind, where a Docker engine answers: one node in a container, images through
`docker build`."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tests.cluster import assets, audit, certs, images
from tests.cluster.apiserver import audit_policy
from tests.cluster.cluster import FLAVOR_VARIABLE, Cluster
from tests.cluster.paths import cache_dir, locked

_ETC = "/etc/gatewright"  # in the node: the audit policy, mounted from the cluster's directory
_LOG = "/var/log/gatewright"  # in the node: the audit log


class KindCluster(Cluster):
    flavor: ClassVar[str] = "kind"

    @classmethod
    def refusal(cls) -> str | None:
        if os.environ.get(FLAVOR_VARIABLE, cls.flavor) != cls.flavor:
            return f"{FLAVOR_VARIABLE} asks for another"
        return _docker_refusal()

    # ----------------------------------------------------------------------------------------------
    # Where things are

    @property
    def directory(self) -> Path:
        return cache_dir() / "kind" / f"{self.name}-{self.id}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def machine_address(self) -> str:
        ranges = json.loads(
            _docker("network", "inspect", "kind", "--format", "{{json .IPAM.Config}}")
        )
        return next(str(one["Gateway"]) for one in ranges if "." in one.get("Gateway", ""))

    @property
    def _kind_name(self) -> str:
        return f"gatewright-{self.id}"

    @property
    def _node(self) -> str:
        return f"{self._kind_name}-control-plane"

    @property
    def _record_path(self) -> Path:
        return self.directory / "record.json"

    @property
    def _loaded_path(self) -> Path:
        return self.directory / "loaded.json"

    # ----------------------------------------------------------------------------------------------
    # Life

    def is_running(self) -> bool:
        return bool(self._running_node()) and self._record().get("node") == self._running_node()

    def is_current(self) -> bool:
        return self.is_running() and self._record().get("fingerprint") == _fingerprint()

    def create(self) -> None:
        (self.directory / "etc").mkdir(parents=True)
        (self.directory / "etc" / "audit-policy.yaml").write_text(
            yaml.safe_dump(audit_policy("Metadata"))
        )
        config = self.directory / "kind.yaml"
        config.write_text(yaml.safe_dump(_config(self.directory / "etc")))
        try:
            self._kind(
                "create",
                "cluster",
                f"--config={config}",
                f"--kubeconfig={self.kubeconfig}",
                "--wait=180s",
            )
            self.kubeconfig.chmod(0o600)
            record = {"fingerprint": _fingerprint(), "node": self._running_node()}
            self._record_path.write_text(json.dumps(record))
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        # kind is asked also where nothing is recorded: an interrupted creation leaves a container
        # without a record.
        if self.directory.exists() or self._node_exists():
            self._kind("delete", "cluster", f"--kubeconfig={self.kubeconfig}")
            shutil.rmtree(self.directory, ignore_errors=True)

    def kubectl_program(self) -> str:
        return str(assets.ensure(["kubectl"])["kubectl"])

    def _record(self) -> dict[str, str]:
        try:
            record: dict[str, str] = json.loads(self._record_path.read_text())
        except (OSError, ValueError):
            return {}
        return record

    def _running_node(self) -> str:
        """Identifier of the node's container while it runs; empty otherwise."""
        format_ = "{{if .State.Running}}{{.Id}}{{end}}"
        done = _try_docker("container", "inspect", "--format", format_, self._node)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _node_exists(self) -> bool:
        return _try_docker("container", "inspect", self._node).returncode == 0

    def _kind(self, *arguments: str) -> None:
        program = str(assets.ensure(["kind"])["kind"])
        _checked(subprocess.run([program, *arguments, f"--name={self._kind_name}"], **_CAPTURED))

    # ----------------------------------------------------------------------------------------------
    # Images

    def make_base(self, packages: Sequence[str] = ()) -> None:
        self.base_image(packages)

    def base_image(self, packages: Sequence[str] = ()) -> str:
        wanted = sorted({*images.BASE_PACKAGES, *packages})
        tag = f"gatewright-base:{images.base_name(packages)}"
        with locked("images"):
            if _try_docker("image", "inspect", tag).returncode:
                _docker("build", "--tag", tag, "-", stdin=_base_dockerfile(wanted))
        return tag

    def build_image(
        self,
        tag: str,
        dockerfile: Path,
        context: Path,
        *,
        base: str | None = None,
        build_args: Mapping[str, str] | None = None,
    ) -> str:
        name = images.content_hash(dockerfile, context, base, build_args)
        with locked(f"load-{self.id}"):
            loaded = json.loads(self._loaded_path.read_text()) if self._loaded_path.exists() else {}
            if loaded.get(tag) != name:
                arguments = {**({"BASE": base} if base else {}), **(build_args or {})}
                flags = [f"--build-arg={key}={value}" for key, value in arguments.items()]
                _docker(
                    "build",
                    "--quiet",
                    "--tag",
                    tag,
                    "--file",
                    str(dockerfile),
                    *flags,
                    str(context),
                )
                self._load_built(tag)
                self._loaded_path.write_text(json.dumps(loaded | {tag: name}))
        return name

    def load_archive(self, archive: Path) -> None:
        self._kind("load", "image-archive", str(archive))

    def _load_built(self, tag: str) -> None:
        with tempfile.TemporaryDirectory(prefix="gatewright-image-") as scratch:
            archive = Path(scratch) / "image.tar"
            _docker("save", "--output", str(archive), tag)
            self.load_archive(archive)

    # ----------------------------------------------------------------------------------------------
    # The rest

    def audit_events(self) -> Iterator[dict[str, Any]]:
        # The log belongs to root in the node; reading it there works for every user of the Docker
        # engine.
        return audit.parsed(
            _docker("exec", self._node, "cat", f"{_LOG}/audit.log").splitlines(keepends=True)
        )

    def authority(self) -> certs.Authority:
        with tempfile.TemporaryDirectory(prefix="gatewright-ca-") as name:
            for file in ("ca.crt", "ca.key"):
                content = _docker("exec", self._node, "cat", f"/etc/kubernetes/pki/{file}")
                certs.write_private(Path(name, file), content.encode())
            return certs.Authority.load(Path(name))


# --------------------------------------------------------------------------------------------------
# Settings


def _config(etc: Path) -> dict[str, Any]:
    """kind's configuration: the audit log on, and mounted ConfigMaps followed as fast as on the
    native cluster."""
    # Without an apiVersion and with extraArgs as a map, kind fits the patch to whichever kubeadm
    # the node has.
    api_server = {
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": {
                "audit-policy-file": f"{_ETC}/audit-policy.yaml",
                "audit-log-path": f"{_LOG}/audit.log",
                "audit-log-maxsize": "10000",
            },
            "extraVolumes": [
                {
                    "name": "audit-policy",
                    "hostPath": _ETC,
                    "mountPath": _ETC,
                    "readOnly": True,
                    "pathType": "Directory",
                },
                {
                    "name": "audit-log",
                    "hostPath": _LOG,
                    "mountPath": _LOG,
                    "pathType": "DirectoryOrCreate",
                },
            ],
        },
    }
    kubelet = {"kind": "KubeletConfiguration", "syncFrequency": "10s"}
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [
            {
                "role": "control-plane",
                "extraMounts": [{"hostPath": str(etc), "containerPath": _ETC, "readOnly": True}],
                "kubeadmConfigPatches": [yaml.safe_dump(api_server), yaml.safe_dump(kubelet)],
            }
        ],
    }


def _base_dockerfile(packages: Sequence[str]) -> str:
    return f"""\
FROM docker.io/library/debian:{images.SUITE}-slim
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends {" ".join(packages)} \\
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
"""


def _fingerprint() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


# --------------------------------------------------------------------------------------------------
# Docker

_CAPTURED: dict[str, Any] = {"capture_output": True, "text": True, "check": False}


@functools.cache
def _docker_refusal() -> str | None:
    """Why there is no Docker engine to use; None where one answers."""
    if shutil.which("docker") is None:
        return "no docker on PATH"
    try:
        done = _try_docker("info", "--format", "{{.ServerVersion}}", timeout=20)
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    # Some versions end with 0 where only the client could be asked.
    return None if done.returncode == 0 and done.stdout.strip() else "no Docker engine answers"


def _docker(*arguments: str, stdin: str | None = None) -> str:
    return _checked(_try_docker(*arguments, stdin=stdin)).stdout


def _try_docker(
    *arguments: str, stdin: str | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], input=stdin or "", timeout=timeout, **_CAPTURED)


def _checked(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if done.returncode:
        said = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-20:])
        raise RuntimeError(f"{' '.join(done.args[:3])} ended with {done.returncode}: {said}")
    return done
