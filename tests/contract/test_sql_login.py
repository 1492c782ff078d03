"""The login of sql gates: TLS, certificates, passwords, and servers that ask for more than a login
may cost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gatewright.ports import OpenConnection
from gatewright.providers.common import meter, tls
from gatewright.providers.common.context import current
from gatewright.providers.postgres import login as postgres_login
from gatewright.providers.postgres import url as postgres_url
from gatewright.providers.postgres.relay import Relay, RelayRoute
from tests.cluster.certs import Authority
from tests.contract import world
from tests.fakes.postgres_logins import Talk, password_of, scram, serve_one, server, wants
from tests.fakes.postgres_server import LOGGED_IN, POWERLESS, message

QUESTION = {"query": "select 1"}


def link(
    port: int, query: str = "", password: str = world.PASSWORD_QUOTED, timeout: float = 5.0
) -> OpenConnection:
    """A Connection to a port of this machine."""
    credentials = f"reader:{password}" if password else "reader"
    return world.sql_link(f"postgresql://{credentials}@127.0.0.1:{port}/shop{query}", timeout)


async def ask(port: int, query: str = "?sslmode=disable", **options: str) -> tuple[str, str]:
    """What becomes of a question to it."""
    found = await world.verdict("sql", QUESTION, link(port, query, **options), {"max": "1"})  # type: ignore[arg-type]
    await current().close()
    return found


# --------------------------------------------------------------------------------------------------
# Iterations


@pytest.mark.parametrize(
    "iterations, words",
    [
        (postgres_login.MOST_ITERATIONS + 1, "200,001 iterations"),
        (5_000_000, "5,000,000 iterations"),
        (2_000_000_000, "cannot be used"),
        (10**400, "cannot be used"),
        (1, "cannot be used"),
        (0, "cannot be used"),
        (-4096, "cannot be used"),
    ],
)
async def test_iterations_have_a_limit(
    iterations: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is derived for no more of them than a login may cost: none is, here."""
    derived: list[int] = []
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *arguments: derived.append(arguments[3]))
    async with server(scram(iterations)) as port:
        kind, text = await ask(port)
    assert (kind, words in text) == ("Permanent", True), text
    assert derived == []


async def test_a_key_is_derived_beside_the_loop_one_at_a_time_for_a_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what it costs is counted as if it had been read."""
    under_way = most = 0
    really = postgres_login.ScramClient.get_client_final
    loop = asyncio.get_running_loop()

    async def count(change: int) -> None:
        nonlocal under_way, most
        under_way += change
        most = max(most, under_way)

    def derive(client: object) -> str:
        # were this the loop's own thread, it could not wait for the loop
        asyncio.run_coroutine_threadsafe(count(1), loop).result(20)
        try:
            return str(really(client))
        finally:
            asyncio.run_coroutine_threadsafe(count(-1), loop).result(20)

    monkeypatch.setattr(postgres_login.ScramClient, "get_client_final", derive)
    async with server(scram(100_000)) as port:
        with meter.count_received() as received:
            found = await asyncio.gather(
                *(
                    world.verdict(
                        "sql",
                        QUESTION,
                        link(port, f"?sslmode=disable&application_name=a{n}"),
                        {"max": "1"},
                    )
                    for n in range(4)
                )
            )
        await current().close()
    assert {kind for kind, _ in found} == {"Permanent"}, found
    assert most == 1
    assert received.size >= 4 * 100_000 * postgres_login.BYTES_PER_ITERATION


# --------------------------------------------------------------------------------------------------
# Who lets the role in


@pytest.mark.parametrize(
    "final", [b"v=" + b"A" * 43 + b"=", b"e=other-error", b"e=\xff", b"", b"v=", None], ids=repr
)
async def test_a_server_that_does_not_know_the_password(final: bytes | None) -> None:
    """It would have let anybody in; what it answers says nothing about the database."""
    async with server(scram(4096, final=final)) as port:
        kind, text = await ask(port)
    words = "cannot be used" if final is not None else "without having shown"
    assert (kind, words in text) == ("Permanent", True), text


@pytest.mark.parametrize("salt", ["", "%%%", "AAAA", "A" * 20_000], ids=len)
async def test_salts_of_strangers(salt: str) -> None:
    async with server(scram(4096, salt=salt)) as port:
        kind, text = await ask(port)
    assert (kind, "cannot be used" in text) == ("Permanent", True), text


async def test_a_password_in_the_clear_and_one_by_md5() -> None:
    """As old servers and some poolers want it."""
    seen: list[bytes] = []

    def old(request: bytes) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(request)
            seen.append(await password_of(reader))
            await serve_one(reader, writer)

        return talk

    for request in (wants(3), wants(5, b"salt")):
        async with server(old(request)) as port:
            assert (await ask(port))[0] == "Good"
    inner = hashlib.md5(f"{world.PASSWORD}reader".encode()).hexdigest()
    assert seen == [
        world.PASSWORD.encode() + b"\0",
        b"md5" + hashlib.md5(inner.encode() + b"salt").hexdigest().encode() + b"\0",
    ]


async def test_a_server_that_wants_no_password() -> None:
    async with server(serve_one) as port:
        assert (await ask(port))[0] == "Good"
        assert (await ask(port, password=""))[0] == "Good"


@pytest.mark.parametrize(
    "said, expected, words",
    [
        (wants(7), "Permanent", "a login of kind 7"),
        (wants(2**31 - 1), "Permanent", "a login of kind"),
        (wants(10, b"OAUTHBEARER\0\0"), "Permanent", "offers no login by SCRAM"),
        (wants(10, b"SCRAM-SHA-256-PLUS\0\0"), "Permanent", "offers no login by SCRAM"),
        (wants(11, b"r=x"), "Retryable", "protocol"),
        (wants(12, b"v=x"), "Retryable", "protocol"),
        (wants(5, b"sal"), "Retryable", "protocol"),
        (message(b"R", b"\0"), "Retryable", "protocol"),
        (message(b"Z", b"I"), "Retryable", "protocol"),
        (wants(0) + message(b"D", b""), "Retryable", "protocol"),
        (wants(0) + message(b"E", b"SFATAL\0C3D000\0Mx\0\0"), "Permanent", "no such database"),
        (message(b"E", b"SFATAL\0C53300\0Mx\0\0"), "Retryable", "no connection left"),
        (message(b"E", b"SFATAL\0C28000\0Mx\0\0"), "Permanent", "pg_hba.conf"),
        (message(b"E", b"SFATAL\0CZZZZZ\0Mx\0\0"), "Retryable", "not PostgreSQL's own"),
        (message(b"E", b"C\xff\xff"), "Retryable", "not PostgreSQL's own"),
        (message(b"E", b""), "Retryable", "not PostgreSQL's own"),
        (message(b"E", b"", length=-5), "Retryable", "protocol"),
        (message(b"N", b"SNOTICE\0") * 3 + wants(0) + b"", "Retryable", "cannot connect"),
    ],
)
async def test_what_servers_say(said: bytes, expected: str, words: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with server(talk) as port:
        kind, text = await ask(port)
    assert (kind, words in text) == (expected, True), text


async def test_a_password_is_needed_and_there_is_none() -> None:
    for request in (wants(3), wants(5, b"salt"), wants(10, b"SCRAM-SHA-256\0\0")):

        async def talk(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = request
        ) -> None:
            writer.write(said)
            await reader.read(1)

        async with server(talk) as port:
            kind, text = await ask(port, password="")
        assert (kind, text) == ("Permanent", "a password is needed, and the URL has none")


async def test_a_role_whose_password_scram_does_not_take() -> None:
    async with server(scram(4096)) as port:
        kind, text = await ask(port, password="%F0%9F%8E%89")
    assert (kind, "characters that SCRAM does not take" in text) == ("Permanent", True), text


async def test_nobody_else_gets_in_by_the_loopback_port() -> None:
    """The relay's login is the role's: whoever finds its port before the driver does is sent away,
    and hears nothing."""
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await serve_one(reader, writer)

    def startup(user: bytes, protocol: int = 3 << 16) -> bytes:
        body = struct.pack("!i", protocol) + b"user\0" + user + b"\0database\0shop\0\0"
        return struct.pack("!i", len(body) + 4) + body

    login = postgres_login.Login(
        "reader", "x", "disable", False, "prefer", "shop", lambda size: None
    )
    for said in (
        startup(b"reader"),
        startup(b""),
        startup(login.token.encode(), protocol=80877102),
        struct.pack("!i", 2**31 - 1) + b"x" * 64,
        struct.pack("!i", 4),
        struct.pack("!i", 8) + b"\0\3\0\0",
        b"",
    ):
        async with server(talk) as port:
            relay = Relay(1 << 20)
            host, leads = await relay.lead_to(
                RelayRoute("127.0.0.1", port, 0.5, lambda d, s: login.open("x", d, s))
            )
            reader, writer = await asyncio.open_connection(host, leads)
            writer.write(said)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            relay.close()
            relay.abort()
    assert asked == 0


# --------------------------------------------------------------------------------------------------
# TLS


@pytest.mark.parametrize(
    "query, words",
    [
        ("?sslmode=maybe", "sslmode to disable or allow or prefer"),
        ("?sslrootcert=/etc/passwd", "sslrootcert to system only"),
        ("?gssencmode=require", "gssencmode to disable or prefer only"),
        ("?channel_binding=always", "channel_binding to"),
        ("?sslnegotiation=direct", "sslmode of require or more"),
        ("?sslnegotiation=direct&sslmode=prefer", "sslmode of require or more"),
        ("?sslmode=disable&channel_binding=require", "cannot be bound"),
    ],
)
async def test_settings(query: str, words: str) -> None:
    async with server(scram(4096)) as port:
        kind, text = await ask(port, query)
    assert (kind, words in text) == ("Permanent", True), text


@contextlib.contextmanager
def tls_database(*hosts: str) -> Iterator[tuple[world.Postgres, str]]:
    """A PostgreSQL with a certificate for these hosts; and the path of the certificate that vouches
    for it."""
    authority = Authority.create()
    pair = authority.issue("postgres", hosts=list(hosts))
    with tempfile.TemporaryDirectory(prefix="gatewright-tls-") as directory:
        Path(directory).chmod(0o755)
        for name, content in (
            ("cert", pair.certificate),
            ("key", pair.key),
            ("ca", authority.certificate),
        ):
            path = Path(directory, name)
            path.write_bytes(content)
            path.chmod(0o600 if name == "key" else 0o644)
            if name == "key":
                with contextlib.suppress(PermissionError, LookupError):
                    shutil.chown(path, "postgres", "postgres")
        with world.postgres(
            "ssl=on", f"ssl_cert_file={directory}/cert", f"ssl_key_file={directory}/key"
        ) as running:
            yield running, f"{directory}/ca"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is this machine."""

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(current().resolver, "find", lookup)


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Trust who is named there, and nobody else."""

    def only(authority: str) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", authority)
        monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
        tls.client_context.cache_clear()

    yield only
    monkeypatch.undo()
    tls.client_context.cache_clear()


async def secured(port: int, host: str, query: str) -> tuple[str, str]:
    """What becomes of the question whether it goes by TLS."""
    url = f"postgresql://reader:{world.PASSWORD_QUOTED}@{host}:{port}/shop{query}"
    question = {"query": "select ssl from pg_stat_ssl where pid = pg_backend_pid()"}
    found = await world.verdict("sql", question, world.sql_link(url, timeout=5.0), {})
    await current().close()
    return found


async def test_certificates_are_checked_by_the_name_of_the_url(
    names: None, trust: Callable[[str], None]
) -> None:
    table = [
        # who is trusted, host, settings, what comes of it
        ("ca", "db.example.com", "?sslmode=verify-full&channel_binding=require", "Good"),
        ("ca", "db.example.com", "?sslrootcert=system", "Good"),
        ("ca", "db.example.com", "?sslmode=verify-ca", "Good"),
        ("ca", "other.example.com", "?sslmode=verify-ca", "Good"),
        ("ca", "other.example.com", "?sslmode=verify-full", "for another host"),
        ("ca", "other.example.com", "?sslrootcert=system", "for another host"),
        ("ca", "127.0.0.1", "?sslmode=verify-full", "for another host"),
        ("ca", "127.0.0.1", "?sslmode=require", "Good"),
        ("nobody", "db.example.com", "?sslmode=verify-full", "not trusted"),
        ("nobody", "db.example.com", "?sslmode=verify-ca", "not trusted"),
        ("nobody", "db.example.com", "?sslmode=require&channel_binding=require", "Good"),
        ("nobody", "db.example.com", "?channel_binding=disable", "Good"),
        ("nobody", "db.example.com", "", "Good"),
        ("nobody", "db.example.com", "?sslmode=allow", "Good"),
        ("nobody", "db.example.com", "?sslmode=disable", "Breach"),
    ]
    with tls_database("db.example.com") as (running, authority):
        Path(authority).with_name("nobody").write_bytes(Authority.create().certificate)
        for trusted, host, query, expected in table:
            trust(str(Path(authority).with_name(trusted)))
            kind, text = await secured(running.port, host, query)
            assert expected == kind or (kind == "Permanent" and expected in text), (
                trusted,
                host,
                query,
                kind,
                text,
            )


@contextlib.asynccontextmanager
async def middle(port: int, directory: Path) -> AsyncIterator[int]:
    """Somebody in between, who speaks TLS with each side by a certificate of their own."""
    pair = Authority.create().issue("middle", hosts=["db.example.com"])
    (directory / "cert").write_bytes(pair.certificate)
    (directory / "key").write_bytes(pair.key)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(directory / "cert", directory / "key")
    ours.set_alpn_protocols(["postgresql"])
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    request = struct.pack("!ii", 8, 80877103)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == request
            writer.write(b"S")
            await writer.start_tls(ours)
            here.write(request)
            assert await there.readexactly(1) == b"S"
            await here.start_tls(theirs)
            await asyncio.gather(pipe(reader, here), pipe(there, writer))
        here.close()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_a_login_is_bound_to_the_certificate(names: None, tmp_path: Path) -> None:
    """So that nobody in between gets in, also where certificates are not checked."""
    with tls_database("db.example.com") as (running, _):
        async with middle(running.port, tmp_path) as port:
            found = await secured(
                port, "db.example.com", "?sslmode=require&channel_binding=disable"
            )
            assert found[0] == "Good", "the one in between passes everything on"
            kind, text = await secured(port, "db.example.com", "?sslmode=require")
    assert (kind, "cannot connect" in text) == ("Permanent", True), text


async def test_what_is_said_before_tls_is_not_heard() -> None:
    """Somebody in between could have put an answer there, which would pass for one that came by
    TLS."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"S" + LOGGED_IN + POWERLESS)
        await reader.read()

    async with server(talk) as port:
        kind, text = await ask(port, "?sslmode=require")
    assert (kind, "cannot connect" in text) == ("Retryable", True), text


# --------------------------------------------------------------------------------------------------
# Hosts


async def test_few_hosts_and_addresses_are_tried_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name may stand for thousands of addresses, and a URL name hundreds of hosts: no port is
    opened for each."""
    tried = open_now = most = 0
    really = Relay.lead_to

    async def lead_to(relay: Relay, way: RelayRoute) -> tuple[str, int]:
        nonlocal tried, open_now, most
        tried, open_now = tried + 1, open_now + 1
        most = max(most, open_now)
        return await really(relay, way)

    def close(relay: Relay, shut: Callable[[Relay], None] = Relay.close) -> None:
        nonlocal open_now
        open_now -= 1
        shut(relay)

    async def many(host: str, namespace: str) -> list[str]:
        return ["127.0.0.1"] * 6000

    monkeypatch.setattr(Relay, "lead_to", lead_to)
    monkeypatch.setattr(Relay, "close", close)
    monkeypatch.setattr(current().resolver, "find", many)
    assert (await secured(1, "db.example.com", ""))[0] == "Retryable"
    assert (tried, most) == (postgres_url.MOST_PLACES, 1)
    kind, text = await secured(1, ",".join(f"db{number}.example.com" for number in range(9)), "")
    assert (kind, "9 hosts; 8 are tried at most" in text) == ("Permanent", True), text
    assert tried == postgres_url.MOST_PLACES


# --------------------------------------------------------------------------------------------------
# What a handshake may cost


def hello(context: ssl.SSLContext) -> bytes:
    """What a client says first."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(there, back, server_hostname="db.example.com").do_handshake()
    return back.read()


@pytest.mark.parametrize("checks", ["certificate and name", "certificate", "nothing"])
def test_no_server_chooses_numbers_that_are_dear(checks: tls.Checks) -> None:
    """Neither a prime of its own (TLS 1.2) nor one of the large groups (TLS 1.3), nor a handshake
    once more."""
    context = tls.client_context("postgresql", checks=checks)
    groups = bytes.fromhex("000a 0004 0002 0017")  # supported_groups: P-256 and nothing else
    assert groups in hello(context)
    assert not [
        cipher["name"] for cipher in context.get_ciphers() if cipher["name"].startswith("DHE")
    ]
    assert context.options & ssl.OP_NO_RENEGOTIATION
