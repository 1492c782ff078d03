"""A real redis-server in a directory of its own, with a password, TLS beside plain TCP, and users
that may do little."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.cluster.certs import Authority
from tests.cluster.processes import free_port
from tests.contract.world import PASSWORD, missing

MEMORY = 64 * 1024 * 1024


@dataclass(frozen=True)
class RedisServer:
    """Where it listens."""

    port: int
    tls_port: int
    authority: str
    """Path of the certificate that vouches for its own."""

    def url(
        self, user: str = "", password: str = PASSWORD, database: str = "", tls: bool = False
    ) -> str:
        """A URL with credentials."""
        scheme, port = ("rediss", self.tls_port) if tls else ("redis", self.port)
        return f"{scheme}://{user}:{quote(password, safe='')}@127.0.0.1:{port}{database}"

    def do(self, *command: str | bytes) -> Any:
        """Run one command as the administrator; text comes back as bytes, an error as
        `RuntimeError`."""
        with self.session() as session:
            return session.do(*command)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A connection of the administrator."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            session = Session(connection)
            session.do("AUTH", PASSWORD)
            yield session


class Session:
    """RESP2 in a few lines, written apart from the code that is tested."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")

    def do(self, *command: str | bytes) -> Any:
        """One command, one answer."""
        parts = [part.encode() if isinstance(part, str) else part for part in command]
        self._connection.sendall(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        )
        return self._read()

    def _read(self) -> Any:
        line = self._file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        return rest


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Start it."""
    program = shutil.which("redis-server")
    if program is None:
        missing("Redis is not installed: apt-get install redis-server")
    assert program is not None
    with tempfile.TemporaryDirectory(
        prefix="gatewright-redis-", ignore_cleanup_errors=True
    ) as directory:
        authority = Authority.create()
        pair = authority.issue("redis", hosts=["127.0.0.1"])
        for name, content in (
            ("cert", pair.certificate),
            ("key", pair.key),
            ("ca", authority.certificate),
        ):
            Path(directory, name).write_bytes(content)
        port, tls_port = free_port(), free_port()
        settings = {
            "port": port,
            "tls-port": tls_port,
            "bind": "127.0.0.1",
            "save": '""',
            "appendonly": "no",
            "dir": directory,
            "requirepass": f'"{PASSWORD}"',
            "maxmemory": MEMORY,
            "tls-cert-file": f"{directory}/cert",
            "tls-key-file": f"{directory}/key",
            "tls-ca-cert-file": f"{directory}/ca",
            "tls-auth-clients": "no",
        }
        Path(directory, "redis.conf").write_text(
            "".join(f"{name} {value}\n" for name, value in settings.items())
        )
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen([program, f"{directory}/redis.conf"], stdout=log, stderr=log)
        try:
            server = RedisServer(port, tls_port, f"{directory}/ca")
            _until_ready(server, process, Path(directory, "log"))
            server.do("ACL", "SETUSER", "blind", "on", f">{PASSWORD}", "~*", "-@all", "+ping")
            server.do(
                "ACL",
                "SETUSER",
                "reader",
                "on",
                f">{PASSWORD}",
                "~*",
                "-@all",
                "+ping",
                "+info",
                "+get",
                "+scan",
            )
            yield server
        finally:
            process.terminate()
            process.wait(10)


def fields_of(info: bytes) -> dict[str, str]:
    """The fields of an INFO."""
    return dict(re.findall(r"^(\w+):(.*?)\r?$", info.decode(), re.MULTILINE))


def _until_ready(server: RedisServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            server.do("PING")
            return
        except (OSError, RuntimeError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"Redis did not start: {error}\n{log.read_text(errors='replace')[-2000:]}"
                ) from error
        time.sleep(0.05)
