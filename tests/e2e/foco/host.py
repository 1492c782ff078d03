"""The stand-in without a cluster: the same programs as plain processes on 127.0.0.1.

For tests of the parts themselves, and for work on them. PostgreSQL refuses to run as root: as root,
the server alone runs as the user `postgres`, and the rest as we do, under the interpreter that runs
the tests.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.cluster.processes import free_port

APP = Path(__file__).parent / "app"
POSTGRES = Path("/usr/lib/postgresql/15/bin/postgres")


def server_user() -> str:
    """Whom PostgreSQL runs as; "" is whoever we are."""
    return "postgres" if os.geteuid() == 0 else ""


def missing() -> str | None:
    """Why this machine cannot run the stand-in; None if it can."""
    if not POSTGRES.exists():
        return "the Debian package postgresql-15 is not installed"
    return None if shutil.which("prometheus") else "the Debian package prometheus is not installed"


def call(
    url: str, method: str = "GET", body: Any = None, workspace: str = "acme"
) -> tuple[int, Any]:
    """One request; the answer's status and its JSON (or text)."""
    data = (
        body.encode()
        if isinstance(body, str)
        else None
        if body is None
        else json.dumps(body).encode()
    )
    request = urllib.request.Request(
        url, data=data, method=method, headers={"X-Workspace": workspace}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


@dataclass
class Ran:
    """How a Job's command ended, and what it published."""

    code: int
    outputs: dict[str, Any]
    text: str


@dataclass
class Host:
    """One stand-in in one temporary directory; `stop` ends all of it."""

    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="foco-")))
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _pristine: str = field(default="", repr=False)
    passwords: dict[str, str] = field(
        repr=False,  # a failing test prints its fixtures
        default_factory=lambda: {
            role: secrets.token_urlsafe(18) for role in ("postgres", "owner", "app", "monitor")
        },
    )

    def __post_init__(self) -> None:
        self.directory.chmod(0o755)
        for name in ("backups", "flags", "logs", "prometheus"):
            (self.directory / name).mkdir()
        (self.directory / "server").mkdir()
        if server_user():
            shutil.chown(self.directory / "server", server_user())
        self.database_port = free_port()
        self.token = secrets.token_urlsafe(18)

    # -- processes
    # ------------------------------------------------------------------------------------------------
    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(APP), "PYTHON": sys.executable}
        return (
            own
            | {"PYTHONDONTWRITEBYTECODE": "1", "HOST": "127.0.0.1", "HOME": str(self.directory)}
            | dict(extra)
        )

    def start(
        self, name: str, command: list[str], env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self.directory / "logs" / name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment(env),
                cwd=APP,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.directory / "logs" / name).read_text()

    def answering(
        self, name: str, url: str, process: subprocess.Popen[bytes], seconds: float = 20
    ) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {self.log(name)}")
            try:
                if call(url)[0] == 200:
                    return url
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{name} does not answer: {self.log(name)}")

    def end(self, process: subprocess.Popen[bytes], seconds: float = 10) -> None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.processes.remove(process)

    def stop(self) -> None:
        for process in reversed(list(self.processes)):
            self.end(process)
        shutil.rmtree(self.directory)

    # -- parts
    # -----------------------------------------------------------------------------------------------------
    def url(self, role: str) -> str:
        return (
            f"postgresql://foco_{role}:{self.passwords[role]}@127.0.0.1:{self.database_port}/foco"
        )

    def start_postgres(self, seconds: float = 60) -> None:
        env = {
            f"FOCO_{role.upper()}_PASSWORD": self.passwords[role]
            for role in ("owner", "app", "monitor")
        } | {
            "POSTGRES_PASSWORD": self.passwords["postgres"],
            "PGDATA": str(self.directory / "server/data"),
            "SOCKETS": str(self.directory / "server"),
            "RUN_AS": server_user(),
            "PORT": str(self.database_port),
            "LISTEN": "127.0.0.1",
        }
        process = self.start("postgres", [str(APP / "scripts/postgres.sh")], env)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"postgres ended: {self.log('postgres')}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.database_port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"postgres does not answer: {self.log('postgres')}")

    def start_store(self) -> None:
        port = free_port()
        env = {
            "PORT": str(port),
            "BACKUP_DIRECTORY": str(self.directory / "backups"),
            "BACKUP_STORE_TOKEN": self.token,
        }
        process = self.start("store", [sys.executable, "-m", "focomx.store"], env)
        self.answering("store", f"http://127.0.0.1:{port}/livez", process)
        self.store_url = f"http://127.0.0.1:{port}"

    def sql(self, query: str, role: str = "owner") -> list[tuple[Any, ...]]:
        """Rows of one query (or nothing), as a role."""
        with psycopg.connect(self.url(role), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def reset_database(self) -> None:
        """Back to 2.3.1 with its seed rows, without the means that are under test."""
        self.sql("DROP SCHEMA IF EXISTS foco CASCADE")
        if self._pristine:
            self.sql(self._pristine)
            return
        assert self.orchestrate("migrate", "2.3.1").code == 0
        self.sql((APP / "sql/seed.sql").read_text().replace("\\set ON_ERROR_STOP on", ""))
        dump = [
            "pg_dump",
            "--schema=foco",
            "--inserts",
            "--rows-per-insert=100",
            "--no-owner",
            self.url("owner"),
        ]
        text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
        self._pristine = "\n".join(line for line in text.splitlines() if not line.startswith("\\"))

    def start_service(self, version: str, env: Mapping[str, str] | None = None) -> Service:
        port, admin = free_port(), free_port()
        settings = {
            "APP_VERSION": version,
            "DATABASE_URL": self.url("app"),
            "PORT": str(port),
            "ADMIN_PORT": str(admin),
            "FLAGS_DIR": str(self.directory / "flags"),
            "FAULTS_FILE": str(self.directory / "faults.json"),
            "DRAIN_SECONDS": "0",
        } | dict(env or {})
        process = self.start(f"web-{version}", [sys.executable, "-m", "focomx.service"], settings)
        self.answering(f"web-{version}", f"http://127.0.0.1:{port}/readyz", process)
        return Service(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", process)

    def start_prometheus(self, config: Mapping[str, Any], services: list[Service]) -> str:
        """Prometheus with the manifest's configuration, but for how it finds the service; its
        URL."""
        targets = {
            "static_configs": [{"targets": [s.url.removeprefix("http://") for s in services]}]
        }
        scrape = [
            {k: v for k, v in c.items() if k != "dns_sd_configs"} | targets
            for c in config["scrape_configs"]
        ]
        file = self.directory / "prometheus.yml"
        file.write_text(json.dumps({**config, "scrape_configs": scrape}))  # JSON is YAML
        port = free_port()
        command = [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={self.directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        url = f"http://127.0.0.1:{port}"
        self.answering("prometheus", f"{url}/-/ready", self.start("prometheus", command, {}))
        return url

    def start_traffic(self, service: Service, rate: float = 20) -> subprocess.Popen[bytes]:
        env = {"BASE_URL": service.url, "RATE": str(rate)}
        return self.start("loadgen", [sys.executable, "-m", "focomx.loadgen"], env)

    # -- Jobs
    # ------------------------------------------------------------------------------------------------------
    def job(self, command: list[str], env: Mapping[str, str]) -> Ran:
        message = self.directory / f"termination-{secrets.token_hex(4)}"
        done = subprocess.run(
            command,
            env=self.environment({"TERMINATION_LOG": str(message)} | dict(env)),
            cwd=APP,
            capture_output=True,
            text=True,
            check=False,
        )
        outputs = json.loads(message.read_text()) if message.exists() else {}
        return Ran(done.returncode, outputs, done.stdout + done.stderr)

    def orchestrate(self, command: str, version: str, **env: str) -> Ran:
        base = {"APP_VERSION": version, "DATABASE_URL": self.url("owner")}
        if hasattr(self, "store_url"):
            base |= {"BACKUP_STORE_URL": self.store_url, "BACKUP_STORE_TOKEN": self.token}
        return self.job(["./scripts/database-migration-orchestrator.sh", command], base | env)

    def smoke(self, service: Service, **env: str) -> Ran:
        return self.job(["./scripts/smoke.sh"], {"BASE_URL": service.url, **env})


@dataclass
class Service:
    url: str
    admin: str
    process: subprocess.Popen[bytes]
