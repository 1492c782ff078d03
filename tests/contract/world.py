"""What contract tests stand on: a server that does everything wrong, a real PostgreSQL, a real
Prometheus, and links to them.

Each is a process or thread of this machine, on a free port of 127.0.0.1, and gone with the test
session.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from gatewright.api.base import SecretKeyRef, SecretSource
from gatewright.api.checks import Check
from gatewright.api.connection import HttpAccess, PostgresAccess
from gatewright.core.checks.judge import sample_of
from gatewright.core.fingerprints import short_fingerprint
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import GATES
from tests.cluster.processes import free_port

TOKEN = "tok-5eCr3t-b34rer-0123456789"
HEADER = "hdr-5eCr3t-header-987654"
PASSWORD = "pa/ss:5eCr3t@word%42"
"""Seeded as secrets; they must not turn up in anything that is said. The password needs escaping in
a URL."""
TOKENS = (TOKEN, "app-5eCr3t-second-2468013579", "sig-5eCr3t-third-1357924680")
"""What stands in the Secrets of a Connection with several, field by field."""
PASSWORD_QUOTED = "pa%2Fss%3A5eCr3t%40word%2542"
TIMEOUT = 1.0


def missing(reason: str) -> None:
    """Skip with a plain reason; in CI nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (in CI nothing may be skipped)")
    pytest.skip(reason)


@contextmanager
def stored(content: bytes) -> Iterator[str]:
    """The path of a file with this content, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="gatewright-") as directory:
        path = Path(directory, "content")
        path.write_bytes(content)
        yield str(path)


# --- links and verdicts


def http_link(url: str, timeout: float = TIMEOUT, namespace: str = "") -> OpenConnection:
    """A Connection to an HTTP system, with a bearer token and a header from Secrets."""
    token = SecretSource(secretRef=SecretKeyRef(name="access", key="token"))
    header = SecretSource(secretRef=SecretKeyRef(name="access", key="header"))
    config = HttpAccess(url=url, bearerToken=token, headers={"X-Scope-OrgID": header})
    secrets = {("access", "token"): f"{TOKEN}\n", ("access", "header"): HEADER}
    return OpenConnection(
        "system", short_fingerprint(["http", url, namespace]), config, timeout, secrets, namespace
    )


def sql_link(
    url: str, timeout: float = TIMEOUT, superuser: Literal["Refused", "Allowed"] = "Refused"
) -> OpenConnection:
    """A Connection to a PostgreSQL database."""
    config = PostgresAccess(
        url=SecretSource(secretRef=SecretKeyRef(name="db", key="url")), superuser=superuser
    )
    return OpenConnection(
        "database",
        short_fingerprint(["postgres", url, superuser]),
        config,
        timeout,
        {("db", "url"): url},
    )


async def verdict(
    provider: str, config: Mapping[str, Any], link: OpenConnection, limits: Mapping[str, str]
) -> tuple[str, str]:
    """What an operator would make of one question: a sample's kind or an error's, and its
    message."""
    gate = GATES[provider]
    check = Check.model_validate({"name": "check", provider: dict(config), **limits})
    try:
        answer = await gate.measure(gate.config.model_validate(config), link)
    except (Retryable, Permanent) as error:
        assert_silent(error)
        return type(error).__name__, str(error)
    sample = sample_of(check, 0.0, answer.value, answer.message)
    assert_silent(answer)
    return sample.kind, sample.message


def assert_silent(*things: object) -> None:
    """No seeded secret in what was said, nor in any error it came from."""
    for thing in things:
        seen: object = thing
        while seen is not None:
            text = f"{seen!s} {seen!r} {getattr(seen, 'args', '')} {getattr(seen, '__notes__', '')}"
            for value in (*TOKENS, HEADER, PASSWORD, PASSWORD_QUOTED):
                assert value not in text, f"a secret in: {text}"
            seen = getattr(seen, "__cause__", None) or getattr(seen, "__context__", None)


# --- the server that does everything wrong

Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(
    body: str | bytes | Callable[[], str],
    status: str = "200 OK",
    kind: str = "application/json",
    head: str = "",
) -> Respond:
    """An answer in one piece. A function is asked each time: what carries a time must not grow old
    before it is sent."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = body() if callable(body) else body
        data = text.encode() if isinstance(text, str) else text
        writer.write(
            (
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: "
                f"{len(data)}\r\n{head}\r\n"
            ).encode()
            + data
        )

    return respond


def vector(*values: str, age: float = 0.0, extra: str = "") -> Respond:
    """An instant vector as Prometheus has it."""

    def body() -> str:
        now = time.time() - age
        result = [
            {"metric": {"pod": str(index)}, "value": [now, text]}
            for index, text in enumerate(values)
        ]
        data = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})
        return data[:-1] + (f", {extra}" if extra else "") + "}"

    return reply(body)


def scalar(value: str) -> Respond:
    """A scalar as Prometheus has it."""
    return reply(
        lambda: json.dumps(
            {"status": "success", "data": {"resultType": "scalar", "result": [time.time(), value]}}
        )
    )


def fault(kind: str, text: str, status: str) -> Respond:
    """An error as Prometheus has it."""
    return reply(json.dumps({"status": "error", "errorType": kind, "error": text}), status)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: no single read ever times out."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    for _ in range(100):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same with headers."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for index in range(100):
        writer.write(f"X-{index}: 1\r\n".encode())
        await writer.drain()
        await asyncio.sleep(0.1)


async def oversized(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """More than anybody wants, without saying how much."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    for _ in range(200):
        writer.write(b" " * 65536)
        await writer.drain()


async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends in the middle."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
        b'1000\r\n\r\n{"value": 0'
    )
    await writer.drain()
    writer.close()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks something else."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()
    writer.close()


def patience(fault: str) -> float:
    """Seconds to wait for an answer: few only where none will come, so that a busy machine is no
    fault."""
    return (
        0.5
        if any(word in fault for word in ("time-out", "timeout", "drip", "silent", "hang"))
        else 10.0
    )


HTML = "<!doctype html><title>Sign in</title>"
FAULTS: Mapping[str, tuple[Respond, Respond]] = {
    # name: what it answers as a Prometheus, what it answers as a service
    "ok": (vector("0.005"), reply('{"value": 0.005, "ready": true, "version": "2.4.0"}')),
    "breach": (vector("0.5"), reply('{"value": 0.5, "ready": false, "version": "2.3.1"}')),
    "limit": (vector("0.01"), reply('{"value": 0.01}')),
    "empty": (vector(), reply("{}")),
    "null": (reply('{"status": "success", "data": null}'), reply('{"value": null}')),
    "nan": (vector("NaN"), reply('{"value": NaN}')),
    "inf": (vector("+Inf"), reply('{"value": Infinity}')),
    "minus-inf": (vector("-Inf"), reply('{"value": -Infinity}')),
    "huge": (vector("1e999"), reply('{"value": 1e999}')),
    "many": (vector("0.1", "0.2", "0.3"), reply('{"value": [0.001, 0.002]}')),
    "stale": (vector("0.005", age=900), reply('{"stale": 1}')),
    "future": (vector("0.005", age=-900), reply('{"other": 1}')),
    "warnings": (
        vector("0.005", extra='"warnings": ["store 10.0.0.7 is away"]'),
        reply('{"warnings": []}'),
    ),
    "string": (
        reply('{"status": "success", "data": {"resultType": "string", "result": [1, "up"]}}'),
        reply('{"value": "up"}'),
    ),
    "word": (vector("fast"), reply('{"value": "0.005"}')),
    "histogram": (
        reply(
            '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": '
            '{}, "histogram": [1, {}]}]}}'
        ),
        reply('{"value": {}}'),
    ),
    "scalar": (
        scalar("0.005"),
        reply("0.005"),
    ),
    "400": (
        fault("bad_data", "parse error: unclosed left parenthesis", "400 Bad Request"),
        reply("no", "400 Bad Request"),
    ),
    "401": (reply("no", "401 Unauthorized"), reply("no", "401 Unauthorized")),
    "403": (reply("no", "403 Forbidden"), reply("no", "403 Forbidden")),
    "404": (reply("no", "404 Not Found"), reply("no", "404 Not Found")),
    "422": (
        fault("execution", "too many samples", "422 Unprocessable"),
        reply("no", "422 Unprocessable"),
    ),
    "429": (reply("no", "429 Too Many"), reply("no", "429 Too Many")),
    "500": (reply("no", "500 Oops"), reply("no", "500 Oops")),
    "502-html": (
        reply(HTML, "502 Bad Gateway", "text/html"),
        reply(HTML, "502 Bad Gateway", "text/html"),
    ),
    "503": (fault("timeout", "query timed out", "503 Unavailable"), reply("no", "503 Unavailable")),
    "200-error": (fault("internal", "odd", "200 OK"), reply('{"error": "odd"}')),
    "time-out": (silent, silent),
    "drip": (drip, drip),
    "drip-head": (drip_head, drip_head),
    "html": (
        reply(HTML, kind="text/html; charset=utf-8"),
        reply(HTML, kind="text/html; charset=utf-8"),
    ),
    "not-json": (reply("pong", kind="text/plain"), reply("pong", kind="text/plain")),
    "no-body": (reply(""), reply("")),
    "other-json": (reply('["pong"]'), reply('["pong"]')),
    "deep": (reply("[" * 50_000), reply("[" * 50_000)),
    "oversized": (oversized, oversized),
    "compressed": (
        reply(b"\x1f\x8b" + b"\0" * 30, head="Content-Encoding: gzip\r\n"),
        reply(b"\x1f\x8b" + b"\0" * 30, head="Content-Encoding: gzip\r\n"),
    ),
    "redirect": (
        reply(
            "",
            "302 Found",
            head=f"Location: https://login.example.com/in/{TOKEN}?token={TOKEN}\r\n",
        ),
        reply(
            "",
            "302 Found",
            head=f"Location: https://login.example.com/in/{TOKEN}?token={TOKEN}\r\n",
        ),
    ),
    "redirect-loop": (
        reply("", "301 Moved", head="Location: /\r\n"),
        reply("", "308 Moved", head="Location: /\r\n"),
    ),
    "broken": (broken, broken),
    "garbage": (garbage, garbage),
    "echo": (
        fault("bad_data", f"no tenant {HEADER} for {TOKEN}", "400 Bad"),
        reply(f'{{"value": "{TOKEN}"}}'),
    ),
    "no-content": (reply("", "204 No Content"), reply("", "204 No Content")),
}


@dataclass
class Server:
    """The first part of a path chooses what goes wrong: `/429/...`."""

    port: int
    requests: list[tuple[str, dict[str, str]]]
    connections: list[int]

    def url(self, name: str) -> str:
        """Base URL of a Connection that gets this fault."""
        return f"http://127.0.0.1:{self.port}/{name}"


@contextmanager
def faulty(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """The server, on a loop of its own in a thread."""
    loop = asyncio.new_event_loop()
    server = Server(0, [], [])
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections.append(1)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                await _one(server, reader, writer)
        with suppress(OSError, RuntimeError):
            writer.close()
        tasks.discard(task)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    async def stop(listening: asyncio.Server) -> None:
        listening.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=loop.run_forever, name="faulty", daemon=True)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(start(), loop).result(5)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(stop(listening), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _one(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    opening = await reader.readexactly(1)
    if opening == b"\x16":
        # the hello of TLS, which is not spoken here
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()
        return
    head = (opening + await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.splitlines()
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
    }
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    server.requests.append((first, headers))
    target = first.split()[1]
    name = target.split("/")[1]
    as_prometheus, as_service = FAULTS[name]
    await (as_prometheus if "/api/v1/" in target else as_service)(reader, writer)
    await writer.drain()
    if name in ("time-out", "drip", "drip-head", "oversized", "broken", "garbage"):
        writer.close()


# --- PostgreSQL


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL of its own, with a role that may read a little."""

    port: int

    def url(
        self,
        user: str = "reader",
        password: str = PASSWORD_QUOTED,
        database: str = "shop",
        query: str = "",
    ) -> str:
        """A libpq URL."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}{query}"

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A superuser's connection."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """Meanwhile the role `crowd` has no connection left."""
        with psycopg.connect(self.url("crowd"), autocommit=True):
            yield


@contextmanager
def postgres(*more: str) -> Iterator[Postgres]:
    """Start PostgreSQL in a directory of its own, as its own user where we are root (it refuses to
    run as root).

    `more` are further settings, as `shared_preload_libraries=pg_stat_statements`.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(program) for program in [shutil.which("initdb")] if program
    ]
    if not found:
        missing("PostgreSQL is not installed: apt-get install postgresql")
    binaries = found[-1].parent
    as_user = (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.geteuid() == 0
        else []
    )
    with tempfile.TemporaryDirectory(
        prefix="gatewright-pg-", ignore_cleanup_errors=True
    ) as directory:
        if as_user:
            shutil.chown(directory, "postgres", "postgres")
        secret = Path(directory, "password")
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data, port = f"{directory}/data", free_port()
        initdb = [
            f"{binaries}/initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "--pwfile",
            str(secret),
        ]
        subprocess.run(
            [*as_user, *initdb, "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
        )
        settings = (
            f"port={port} listen_addresses=127.0.0.1 unix_socket_directories= fsync=off "
            "max_connections=20"
        )
        flags = [part for setting in (*settings.split(), *more) for part in ("-c", setting)]
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen(
                [*as_user, f"{binaries}/postgres", "-D", data, *flags], stdout=log, stderr=log
            )
        try:
            server = Postgres(port)
            _until("PostgreSQL", process, Path(directory, "log"), lambda: server.admin().close())
            _fill(server)
            yield server
        finally:
            _end(process, signal.SIGINT)


def _fill(server: Postgres) -> None:
    with server.admin() as admin:
        admin.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
        admin.execute(f"CREATE ROLE crowd LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 1")
        admin.execute("CREATE DATABASE shop")
    with server.admin("shop") as admin:
        admin.execute("CREATE TABLE tasks (id int primary key, done boolean, cost numeric)")
        admin.execute("INSERT INTO tasks SELECT n, n % 2 = 0, n FROM generate_series(1, 100) AS n")
        admin.execute("CREATE TABLE salaries (id int)")
        admin.execute("GRANT SELECT, INSERT ON tasks TO reader")
        admin.execute("CREATE SEQUENCE counter")
        admin.execute("GRANT USAGE ON SEQUENCE counter TO reader")
        # words and codes of an error may be data, whatever they look like
        admin.execute(
            "CREATE FUNCTION leak(code text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION USING"
            " ERRCODE = code, MESSAGE = 'secret-of-row', HINT = 'secret-of-row', TABLE = "
            "'secret-of-row'; END $$"
        )


# --- Prometheus


@contextmanager
def prometheus(exporter: str) -> Iterator[str]:
    """Start Prometheus, scraping `exporter` (host:port) each second; its base URL."""
    program = shutil.which("prometheus")
    if program is None:
        missing("Prometheus is not installed: apt-get install prometheus")
    assert program is not None
    with tempfile.TemporaryDirectory(
        prefix="gatewright-prom-", ignore_cleanup_errors=True
    ) as directory:
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
            "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": [exporter]}]}],
        }
        Path(directory, "config.yml").write_text(json.dumps(config))
        port, log = free_port(), Path(directory, "log")
        arguments = [
            f"--config.file={directory}/config.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with log.open("wb") as out:
            process = subprocess.Popen([program, *arguments], stdout=out, stderr=out)
        url = f"http://127.0.0.1:{port}"
        try:
            _until("Prometheus", process, log, lambda: _scraped(url))
            yield url
        finally:
            _end(process, signal.SIGTERM)


def _scraped(url: str) -> None:
    with urllib.request.urlopen(
        f"{url}/api/v1/query?query=count_over_time(requests_total[1m])>3", timeout=1
    ) as answer:
        if not json.load(answer)["data"]["result"]:
            raise OSError("not scraped yet")


def _end(process: subprocess.Popen[bytes], politely: signal.Signals) -> None:
    process.send_signal(politely)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _until(
    name: str, process: subprocess.Popen[bytes], log: Path, ready: Callable[[], object]
) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            ready()
            return
        except (OSError, urllib.error.URLError, psycopg.Error) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} did not start: {error}\n{text}") from error
        time.sleep(0.1)


@asynccontextmanager
async def logs() -> AsyncIterator[list[str]]:
    """Everything that is logged meanwhile, at every level."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {record.exc_text or ''}")

    root, handler = logging.getLogger(), Keep(0)
    level = root.level
    root.addHandler(handler)
    root.setLevel(0)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
