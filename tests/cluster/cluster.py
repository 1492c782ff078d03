"""A whole throwaway cluster, whichever way it is made: what tests and the demonstration may rely
on.

    cluster = Cluster.ensure()                       # a healthy, current one: reused, or made
    cluster.build_image("gatewright:dev", ...)       # built and loaded, skipped when nothing changed
    cluster.kubectl("apply", "-f", "-", stdin=text)
    with cluster.forward("default", "web", 80) as port: ...
    cluster.down()                                   # nothing stays

A cluster belongs to one checkout and has a name in it, so two checkouts, or two names, do not meet.
kind is used where a Docker engine answers, else a native cluster where the user is root on Linux.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from tests.cluster import assets, certs
from tests.cluster.paths import CHECKOUT, Unavailable, locked
from tests.cluster.processes import Watchdog, free_port, spawn, stop, tail

NAME_VARIABLE = "GATEWRIGHT_CLUSTER"
FLAVOR_VARIABLE = "GATEWRIGHT_CLUSTER_FLAVOR"  # kind or native, to insist on one


def default_name() -> str:
    """Name of the cluster that is meant when none is given."""
    return os.environ.get(NAME_VARIABLE) or "default"


class Cluster(ABC):
    """One throwaway cluster. Make one by `Cluster.ensure` or `Cluster.choose`, never directly."""

    flavor: ClassVar[str]

    def __init__(self, name: str) -> None:
        if not name.replace("-", "").isalnum() or len(name) > 20:
            raise ValueError(
                f"a cluster's name is at most 20 letters, digits and dashes, not {name!r}"
            )
        self.name = name
        self.id = hashlib.sha256(f"{CHECKOUT}\n{name}".encode()).hexdigest()[:8]

    @staticmethod
    def choose(name: str | None = None) -> Cluster:
        """The cluster of this name as this machine can have it, running or not; Unavailable where
        it cannot."""
        from tests.cluster.kind import KindCluster
        from tests.cluster.native import NativeCluster

        wanted = name or default_name()
        reasons = []
        flavors: tuple[type[Cluster], ...] = (KindCluster, NativeCluster)
        for flavor in flavors:
            if (reason := flavor.refusal()) is None:
                return flavor(wanted)
            reasons.append(f"{flavor.flavor}: {reason}")
        raise Unavailable("no cluster is possible here; " + "; ".join(reasons))

    @staticmethod
    def ensure(name: str | None = None) -> Cluster:
        """The running cluster of this name where it is healthy and current, else a new one."""
        cluster = Cluster.choose(name)
        with locked(f"cluster-{cluster.id}"):
            if not cluster.is_current() or not cluster.is_healthy():
                cluster.remove()
                started = time.monotonic()
                cluster.create()
                assets.say(
                    f"cluster {cluster.name} ({cluster.flavor}) is up after "
                    f"{time.monotonic() - started:.1f}s"
                )
        return cluster

    def down(self) -> None:
        """Remove the cluster and all it made on this machine; right also where there is none."""
        with locked(f"cluster-{self.id}"):
            self.remove()

    # ----------------------------------------------------------------------------------------------
    # What each flavour does its own way

    @classmethod
    @abstractmethod
    def refusal(cls) -> str | None:
        """Why this machine cannot have such a cluster; None where it can."""

    @abstractmethod
    def create(self) -> None:
        """Make the cluster; returns when its node is ready. Nothing of an earlier one is there."""

    @abstractmethod
    def remove(self) -> None:
        """Remove all traces, also of a cluster that crashed, or that was running when the machine
        stopped."""

    @abstractmethod
    def is_running(self) -> bool:
        """Whether the cluster's node is there, made by whichever version of this code."""

    @abstractmethod
    def is_current(self) -> bool:
        """Whether it is running and was made by this very version of the code."""

    @property
    @abstractmethod
    def directory(self) -> Path:
        """Directory of the cluster's files."""

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """Kubeconfig of an administrator, for programs on this machine."""

    @property
    @abstractmethod
    def machine_address(self) -> str:
        """This machine as pods see it: where a test's own server is reached from inside."""

    @abstractmethod
    def audit_events(self) -> Iterator[dict[str, Any]]:
        """The API server's audit log so far (Metadata level, every request, without
        RequestReceived)."""

    @abstractmethod
    def load_archive(self, archive: Path) -> None:
        """Give the node the images of a docker-archive file."""

    @abstractmethod
    def base_image(self, packages: Sequence[str] = ()) -> str:
        """Tag of a Debian 12 image with these packages, for `ARG BASE`; made where it is not there
        yet."""

    @abstractmethod
    def make_base(self, packages: Sequence[str] = ()) -> None:
        """The part of `base_image` that needs no cluster, so that it can go beside the making of
        one."""

    @abstractmethod
    def build_image(
        self,
        tag: str,
        dockerfile: Path,
        context: Path,
        *,
        base: str | None = None,
        build_args: Mapping[str, str] | None = None,
    ) -> str:
        """Build an image and load it; returns its content hash. Skipped where that very content is
        loaded."""

    @abstractmethod
    def authority(self) -> certs.Authority:
        """The authority that client certificates are issued by."""

    # ----------------------------------------------------------------------------------------------
    # What is the same for all

    def is_healthy(self) -> bool:
        """Whether the API answers and the node is ready, now."""
        try:
            text = self.kubectl("get", "nodes", "--output=json", "--request-timeout=5s")
        except (OSError, RuntimeError):
            return False
        nodes = json.loads(text)["items"]
        return bool(nodes) and all(_ready(node) for node in nodes)

    def status(self) -> str:
        """One line for a person."""
        if not self.is_running():
            return f"cluster {self.name} ({self.flavor}): not running"
        health = "healthy" if self.is_healthy() else "not healthy"
        age = "" if self.is_current() else ", made by another version of this code"
        return (
            f"cluster {self.name} ({self.flavor}): running, {health}{age}, kubeconfig "
            f"{self.kubeconfig}"
        )

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Standard output of one kubectl command; RuntimeError with what it said where it fails."""
        done = subprocess.run(
            [self.kubectl_program(), *args],
            input=stdin if stdin is not None else "",
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"kubectl {' '.join(args)} ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout

    def kubectl_program(self) -> str:
        return str(assets.ensure(["kubectl"], own=True)["kubectl"])

    def helm_program(self) -> str:
        """A real Helm of the pinned version, built on first use."""
        return str(assets.ensure(["helm"], own=True)["helm"])

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Kubeconfig with a client certificate for this user in these groups; what it may do, RBAC
        says."""
        digest = hashlib.sha256(json.dumps([user, sorted(groups)]).encode()).hexdigest()[:12]
        path = self.directory / f"kubeconfig-{digest}"
        if not path.exists():
            authority = self.authority()
            server = self.kubectl(
                "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"
            )
            pair = authority.issue(user, groups)
            certs.write_kubeconfig(
                path, certs.kubeconfig(server, authority.certificate, user, pair)
            )
        return path

    def forward(self, namespace: str, service: str, port: int) -> Forward:
        """A port of 127.0.0.1 that leads to a Service (or `pod/name`) until closed; use it in a
        `with`."""
        target = service if "/" in service else f"service/{service}"
        command = [
            self.kubectl_program(),
            f"--kubeconfig={self.kubeconfig}",
            f"--namespace={namespace}",
        ]
        return Forward([*command, "port-forward", "--address=127.0.0.1", target], port)


class Forward:
    """`kubectl port-forward`, started again whenever it ends: it ends with the pod that it was led
    to."""

    def __init__(self, command: list[str], port: int, seconds: float = 30.0) -> None:
        self.port = free_port()
        self._command = [*command, f"{self.port}:{port}"]
        self._closed = threading.Event()
        self._directory = Path(tempfile.mkdtemp(prefix="gatewright-forward-"))
        self._watchdog = Watchdog(self._directory)
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + seconds
        while not self._answers():
            if time.monotonic() > deadline:
                said = tail(self._directory / "log")
                self.close()
                raise RuntimeError(
                    f"{' '.join(self._command)} did not listen within {seconds:.0f}s: {said}"
                )
            time.sleep(0.05)

    def __enter__(self) -> int:
        return self.port

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop forwarding; safe to call twice."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join()
            self._watchdog.release()  # which removes the directory too

    def _keep(self) -> None:
        while not self._closed.is_set():
            child = spawn(self._command, self._directory / "log")
            recorded = self._watchdog.watch(child.pid)
            while child.poll() is None and not self._closed.wait(0.05):
                pass
            stop([recorded], grace=1)
            child.wait()
            self._closed.wait(0.2)

    def _answers(self) -> bool:
        return "Forwarding from" in tail(self._directory / "log")


def _ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
