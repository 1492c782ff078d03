"""A real kube-apiserver with its etcd, for tests of the API: seconds to start, no root, no nodes.

    with ApiServer() as server:
        kubeconfig = server.kubeconfig                      # admin
        limited = server.kubeconfig_for("jane", ["dev"])    # whoever RBAC says jane is
        server.add_controller_manager("job,garbagecollector")
        ...
        for event in server.audit_events(): ...

Everything lives in one temporary directory and listens on 127.0.0.1 alone. Authorization is RBAC;
the audit log has every request, Leases included, at Metadata level without the RequestReceived
stage, and a line is in the file when, or a moment after, the answer is with the client. No node
runs anything: Pods stay Pending, and without the controller manager nothing acts on Jobs or
Deployments either.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import yaml

from tests.cluster import assets, audit, certs
from tests.cluster.client import Client
from tests.cluster.processes import Process, Watchdog, free_port, free_ports, spawn, stop, tail

AuditLevel = Literal["Metadata", "Request", "RequestResponse"]

_ADMIN = "gatewright-admin"
_START_SECONDS = 60.0
_ATTEMPTS = 3  # a free port can be taken by another program before ours listens on it
_SERVICE_CIDR, _SERVICE_IP = "10.0.0.0/24", "10.0.0.1"


class StartFailed(RuntimeError):
    """A program of the cluster ended or did not answer in time; the message ends with its log."""


class ApiServer:
    """etcd + kube-apiserver, started by `start()` or `with`, gone with this process at the latest.

    `audit_level` is the level of the whole audit log. `extra_args` go to kube-apiserver as they are
    and win over ours. `service_account_admission` needs a controller manager that makes the
    ServiceAccounts; without one, every Pod would be refused, hence off.
    """

    def __init__(
        self,
        *,
        audit_level: AuditLevel = "Metadata",
        extra_args: Sequence[str] = (),
        service_account_admission: bool = False,
    ) -> None:
        self._audit_level = audit_level
        self._extra_args = list(extra_args)
        self._service_account_admission = service_account_admission
        self._directory: Path | None = None
        self._running: dict[str, tuple[subprocess.Popen[bytes], Process]] = {}
        self._watchdog: Watchdog | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # ----------------------------------------------------------------------------------------------
    # What tests use

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def directory(self) -> Path:
        """The temporary directory with certificates, logs and data; it vanishes with `stop()`."""
        if self._directory is None:
            raise RuntimeError("the API server is not started")
        return self._directory

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of an administrator (group system:masters: RBAC does not apply)."""
        return self.directory / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """The audit log, one JSON object a line, never rotated."""
        return self.directory / "audit.log"

    @property
    def pids(self) -> dict[str, int]:
        """Pid by program name, for tests that measure."""
        return {name: recorded.pid for name, (_, recorded) in self._running.items()}

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Kubeconfig with a client certificate for this user in these groups; what it may do, RBAC
        says."""
        digest = hashlib.sha256(json.dumps([user, sorted(groups)]).encode()).hexdigest()[:12]
        path = self.directory / f"kubeconfig-{digest}"
        if not path.exists():
            self._write_kubeconfig(path, user, groups)
        return path

    def audit_events(self) -> Iterator[dict[str, Any]]:
        """The audit log so far; a last line still being written is left out."""
        return audit.events(self.audit_log)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request as the administrator, parsed from JSON; for tests that want no client
        library."""
        return self._client().request(method, path, body)

    # ----------------------------------------------------------------------------------------------
    # Life

    def start(self) -> None:
        """Build what is missing, start etcd and kube-apiserver, return when the API is ready."""
        if self._directory is not None:
            raise RuntimeError("the API server is already started")
        programs = {name: str(path) for name, path in assets.ensure_tier("api").items()}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start(programs)
                return
            except BaseException as error:
                taken = isinstance(error, StartFailed) and "address already in use" in str(error)
                self.stop()
                if attempt == _ATTEMPTS or not taken:
                    raise

    def stop(self) -> None:
        """Stop everything and remove the directory; safe to call twice."""
        # The API server first: without its etcd it would spend its last seconds on retries.
        for name in reversed(list(self._running)):
            self._stop_program(name)
        if self._watchdog is not None:
            self._watchdog.release()
        self._watchdog, self._directory, self._port = None, None, 0

    def add_controller_manager(self, controllers: str | Sequence[str] = "*") -> None:
        """Run kube-controller-manager too: all controllers, or the named ones (as in its flag
        --controllers)."""
        listed = controllers if isinstance(controllers, str) else ",".join(controllers)
        program = str(assets.ensure(["kube-controller-manager"])["kube-controller-manager"])
        port = free_port()
        self._spawn(
            "kube-controller-manager",
            [
                program,
                f"--kubeconfig={self.kubeconfig}",
                f"--controllers={listed}",
                "--leader-elect=false",  # no Lease traffic in a test that counts requests
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={self.directory}",
                f"--root-ca-file={self.directory}/ca.crt",
                f"--service-account-private-key-file={self.directory}/sa.key",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            ],
        )
        self._wait_for("kube-controller-manager", lambda: _unchecked_ok(port, "/healthz"))

    def stop_controller_manager(self) -> None:
        """Stop it again, for a test in which nothing but the operator may act."""
        self._stop_program("kube-controller-manager")

    def _start(self, programs: dict[str, str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="gatewright-api-"))
        self._watchdog = Watchdog(self._directory)
        self._port, etcd_port = free_ports(2)
        self.etcd = f"http://127.0.0.1:{etcd_port}"
        self._write_files()
        self._spawn("etcd", self._etcd_command(programs["etcd"], etcd_port))
        self._spawn(
            "kube-apiserver", self._apiserver_command(programs["kube-apiserver"], etcd_port)
        )
        client = self._client()
        self._wait_for("kube-apiserver", lambda: client.ok("/readyz"))
        # Ready does not mean that the namespace everybody begins with is there yet.
        self._wait_for("kube-apiserver", lambda: client.ok("/api/v1/namespaces/default"))

    def _write_files(self) -> None:
        directory = self.directory
        authority = certs.Authority.create()
        authority.write(directory)
        hosts = ["127.0.0.1", "localhost", _SERVICE_IP, "kubernetes.default.svc"]
        authority.issue("kube-apiserver", hosts=hosts).write(directory, "apiserver")
        private, public = certs.service_account_key()
        certs.write_private(directory / "sa.key", private)
        (directory / "sa.pub").write_bytes(public)
        (directory / "audit-policy.yaml").write_text(
            yaml.safe_dump(audit_policy(self._audit_level))
        )
        self.audit_log.touch()
        admin = authority.issue(_ADMIN, [certs.ADMIN_GROUP])
        admin.write(directory, "admin")
        certs.write_kubeconfig(
            self.kubeconfig, certs.kubeconfig(self.url, authority.certificate, _ADMIN, admin)
        )

    def _write_kubeconfig(self, path: Path, user: str, groups: Sequence[str]) -> None:
        authority = certs.Authority.load(self.directory)
        pair = authority.issue(user, groups)
        certs.write_kubeconfig(path, certs.kubeconfig(self.url, authority.certificate, user, pair))

    def _client(self) -> Client:
        return Client(self.url, self.directory)

    def _etcd_command(self, program: str, port: int) -> list[str]:
        return [
            program,
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{port}",
            f"--advertise-client-urls=http://127.0.0.1:{port}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver_command(self, program: str, etcd_port: int) -> list[str]:
        directory = self.directory
        command = [
            program,
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # An endpoint on the loopback address would be refused, again and again.
            "--endpoint-reconciler-type=none",
            f"--secure-port={self._port}",
            f"--tls-cert-file={directory}/apiserver.crt",
            f"--tls-private-key-file={directory}/apiserver.key",
            f"--client-ca-file={directory}/ca.crt",
            f"--cert-dir={directory}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={_SERVICE_CIDR}",
            *service_account_flags(directory),
            *audit_flags(directory),
        ]
        if not self._service_account_admission:
            command.append("--disable-admission-plugins=ServiceAccount")
        return command + self._extra_args

    # ----------------------------------------------------------------------------------------------
    # Programs

    def _spawn(self, name: str, command: list[str]) -> None:
        if name in self._running:
            raise RuntimeError(f"{name} is already running")
        assert self._watchdog is not None
        child = spawn(command, self.directory / f"{name}.log")
        self._running[name] = (child, self._watchdog.watch(child.pid))

    def _stop_program(self, name: str) -> None:
        if name in self._running:
            child, recorded = self._running.pop(name)
            stop([recorded], grace=3.0)
            child.wait()

    def _wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            for other, (child, _) in self._running.items():
                if child.poll() is not None:
                    raise StartFailed(f"{other} ended with {child.returncode}:\n{self._log(other)}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{name} was not ready after {_START_SECONDS:.0f}s:\n{self._log(name)}"
                )
            time.sleep(0.05)

    def _log(self, name: str) -> str:
        return tail(self.directory / f"{name}.log")


def _unchecked_ok(port: int, path: str) -> bool:
    """Whether a program of ours answers 200 on its own health port, whose certificate is
    self-signed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --------------------------------------------------------------------------------------------------
# Settings that a whole cluster shares


def audit_policy(level: AuditLevel) -> dict[str, Any]:
    """Every request of everybody at one level, once, when it is answered (a watch: also when it
    begins)."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [{"level": level}],
    }


def audit_flags(directory: Path) -> list[str]:
    return [
        f"--audit-policy-file={directory}/audit-policy.yaml",
        f"--audit-log-path={directory}/audit.log",
        "--audit-log-maxsize=10000",  # megabytes: never rotated, so a reader never loses its place
    ]


def service_account_flags(directory: Path) -> list[str]:
    return [
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={directory}/sa.pub",
        f"--service-account-signing-key-file={directory}/sa.key",
    ]
