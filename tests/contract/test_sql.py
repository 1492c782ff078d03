"""sql gates against a real PostgreSQL: what each answer means, and that nothing is ever changed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gatewright.api.steps import Proof
from gatewright.core.checks.proof import find_missing_proof
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common.address_rules import AddressRules
from gatewright.providers.common.context import current
from gatewright.providers.postgres import catalogs
from gatewright.providers.postgres import connection as postgres
from gatewright.providers.registry import CONNECTIONS, GATES
from tests.contract import world

TABLE = [
    # statement, limits, verdict, words
    ("select count(*) from tasks where done", {"max": "60"}, "Good", ""),
    ("select count(*) from tasks where done", {"max": "10"}, "Breach", "50 > 10"),
    ("select avg(cost) from tasks", {"min": "60"}, "Breach", "50.5 < 60"),
    ("values (3)", {"max": "3"}, "Good", ""),
    ("table pg_catalog.pg_class", {"max": "3"}, "Permanent", " columns"),
    ("with a as (select 5 as b) select b from a -- or so", {"min": "5"}, "Good", ""),
    ("select 0.05::float8", {"max": "1%"}, "Breach", "5% > 1%"),
    ("select (-2)::int2", {"max": "-3"}, "Breach", "-2 > -3"),
    ("select 16::oid", {"max": "9"}, "Breach", "16 > 9"),
    ("select 2.5::real", {"max": "1"}, "Breach", "2.5 > 1"),
    ("select interval '90 seconds'", {"max": "1m"}, "Breach", "90s > 1m"),
    ("select interval '-1 day 2 hours'", {"max": "-80000"}, "Breach", "-79200 > -80000"),
    ("select interval '1 year 1 month'", {"max": "395d", "min": "395d"}, "Good", ""),
    ("select count(*) = 100 from tasks;", {}, "Good", ""),
    ("select count(*) = 99 from tasks", {}, "Breach", ""),
    ("select 5", {}, "Error", "without limits"),
    ("select null::int", {"max": "1"}, "NoData", "NULL"),
    ("select null::boolean", {}, "NoData", "NULL"),
    ("select id from tasks where id = 0", {"max": "1"}, "NoData", "no row"),
    ("select 'NaN'::float8", {"max": "1"}, "NoData", "nan"),
    ("select 'NaN'::numeric", {"max": "1"}, "NoData", "nan"),
    ("select '-Infinity'::float8", {"max": "1"}, "NoData", "inf"),
    ("select 'Infinity'::numeric", {"min": "1"}, "NoData", "inf"),
    ("select 10::numeric ^ 400", {"min": "1"}, "NoData", "inf"),
    ("select 10::numeric ^ 20000", {"min": "1"}, "NoData", "inf"),
    ("select 10::numeric ^ 100000", {"min": "1"}, "Permanent", "more than 64 KiB"),
    ("select id from tasks", {"max": "1"}, "Permanent", "several rows"),
    ("select generate_series(1, 50000000)", {"max": "1"}, "Permanent", "several rows"),
    ("select 1, 2", {"max": "1"}, "Permanent", "2 columns"),
    ("select 1, 2 from tasks where false", {"max": "1"}, "Permanent", "2 columns"),
    ("select from tasks where id = 1", {"max": "1"}, "Permanent", "0 columns"),
    ("select '5'", {"max": "9"}, "Permanent", "of type text"),
    ("select null", {"max": "1"}, "Permanent", "of type text"),
    ("select repeat('x', 200000000 + id) from tasks", {"max": "1"}, "Permanent", "of type text"),
    ("select array_agg(id) from tasks", {"max": "9"}, "Permanent", "of type int4[]"),
    ("select now()", {"max": "9"}, "Permanent", "of type timestamptz"),
    ("select pg_sleep(9)", {"max": "9"}, "Permanent", "of type void"),
    ("select row(1)", {"max": "9"}, "Permanent", "of type record"),
    ("show server_version_num", {"max": "9"}, "Permanent", "(42601) at character 1: show"),
    ("explain select 1", {"max": "9"}, "Permanent", "(42601) at character 1: explain"),
    ("select 1; select 2", {"max": "9"}, "Permanent", "one statement only"),
    ("select 1; drop table tasks", {"max": "9"}, "Permanent", "one statement only"),
    (
        "commit; insert into tasks values (999)",
        {"max": "9"},
        "Permanent",
        "(42601) at character 1: commit",
    ),
    ("commit", {"max": "9"}, "Permanent", "(42601)"),
    ("set transaction read write", {"max": "9"}, "Permanent", "(42601)"),
    ("-- nothing", {"max": "9"}, "Permanent", "(42601)"),
    ("copy tasks to stdout", {"max": "9"}, "Permanent", "(42601) at character 1: copy"),
    (
        "copy (select 1) to program 'true'",
        {"max": "9"},
        "Permanent",
        "(42601) at character 1: copy",
    ),
    ("do $x$ begin end $x$", {"max": "9"}, "Permanent", "(42601) at character 1: do"),
    (
        "insert into tasks values (999) returning id",
        {"max": "9"},
        "Permanent",
        "(42601) at character 1: insert",
    ),
    (
        "with a as (insert into tasks values (999) returning id) select id from a",
        {"max": "9"},
        "Permanent",
        "only reads (0A000)",
    ),
    ("select id into mine from tasks", {"max": "9"}, "Permanent", "(42601)"),
    ("select id from tasks for update", {"max": "9"}, "Permanent", "(25006)"),
    ("create table mine (id int)", {"max": "9"}, "Permanent", "(42601) at character 1: create"),
    (
        "select set_config('transaction_read_only', 'off', true) = 'off'",
        {"max": "9"},
        "Permanent",
        "(25001)",
    ),
    (
        "select nextval('counter')",
        {"max": "9"},
        "Permanent",
        "writes; checks run in a read-only transaction (25006)",
    ),
    ("select id from salaries", {"max": "9"}, "Permanent", "may not read or call"),
    ("select pg_read_file('/etc/passwd') = ''", {"max": "9"}, "Permanent", "42501"),
    (
        "select id from nowhere",
        {"max": "9"},
        "Permanent",
        "no such table (42P01) at character 16: nowhere",
    ),
    (
        "select nothing from tasks",
        {"max": "9"},
        "Permanent",
        "no such column (42703) at character 8: nothing",
    ),
    ('select "No Such" from tasks', {"max": "9"}, "Permanent", 'at character 8: "No Such"'),
    ("select 'ñ' = 'ñ' and nothing", {"max": "9"}, "Permanent", "at character 22: nothing"),
    ("select nothing() from tasks", {"max": "9"}, "Permanent", "(42883) at character 8: nothing"),
    ("select done + 1 from tasks", {"max": "9"}, "Permanent", "(42883) at character 13: +"),
    ("selct 1", {"max": "9"}, "Permanent", "(42601) at character 1: selct"),
    ("select $1::int", {"max": "9"}, "Permanent", "does not fill"),
    ("select id / 0 from tasks", {"max": "9"}, "Retryable", "division by zero"),
    (
        "select (id || 'secret-of-row')::int from tasks",
        {"max": "9"},
        "Retryable",
        "cast to (22P02)",
    ),
    ("select 'x'::int", {"max": "9"}, "Retryable", "(22P02) at character 8: 'x'"),
    ("select leak('P0001')", {"max": "9"}, "Retryable", "raises an error (P0001)"),
    ("select leak('42P01')", {"max": "9"}, "Permanent", "no such table (42P01)"),
    ("select leak('R0W13')", {"max": "9"}, "Retryable", "not PostgreSQL's own"),
    ("select length(pg_sleep(9)::text)", {"max": "9"}, "Retryable", "too long"),
    ("select count(pg_sleep(0.2)) from tasks", {"max": "9"}, "Retryable", "too long"),
    ("select pg_terminate_backend(pg_backend_pid())", {"max": "9"}, "Retryable", "57P01"),
]


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
async def test_statements(
    database: world.Postgres, row: tuple[str, dict[str, str], str, str]
) -> None:
    statement, limits, expected, words = row
    patient = world.sql_link(database.url(), timeout=30.0)
    # Only what must take too long has little time, and it finds a connection that is open.
    link = dataclasses.replace(patient, timeout=1.5) if "pg_sleep" in statement else patient
    async with world.logs() as lines:
        await world.verdict("sql", {"query": "select true"}, patient, {})
        kind, message = await world.verdict("sql", {"query": statement}, link, limits)
        # the kept connection is as good as new
        after = await world.verdict(
            "sql", {"query": "select count(*) from tasks"}, patient, {"max": "100"}
        )
    # On a busy machine our own patience may end before the database's.
    said = words in message or ("pg_sleep" in statement and "no answer within" in message)
    assert (kind, said) == (expected, True), f"{kind}: {message}"
    assert after[0] == "Good", after
    assert "secret-of-row" not in message and "R0W13" not in message
    world.assert_silent(*lines)


async def test_parameters_are_values_and_never_sql(database: world.Postgres) -> None:
    link = world.sql_link(database.url())
    statement = (
        "select count(*) from tasks where id = any (string_to_array($1, ',')::int[]) and "
        "$2 = '''; drop--'"
    )
    config = {"query": statement, "parameters": ["1,2,3", "'; drop--"]}
    assert (await world.verdict("sql", config, link, {"max": "3", "min": "3"}))[0] == "Good"
    percent = {"query": "select 'a%b' like 'a%' and 100 % 7 = 2"}
    assert (await world.verdict("sql", percent, link, {}))[0] == "Good"


async def test_a_gigantic_result_is_not_fetched(database: world.Postgres) -> None:
    link = world.sql_link(database.url(), timeout=5.0)
    nine_million = "select a from generate_series(1, 3000) a, generate_series(1, 3000) b"
    kind, message = await world.verdict("sql", {"query": nine_million}, link, {"max": "1"})
    assert (kind, "several rows" in message) == ("Permanent", True), message


POWERS = [
    # attributes and memberships                                          words
    ("superuser", "is a superuser or may become one"),
    ("in role root noinherit", "is a superuser or may become one"),
    ("replication", "may replicate"),
    ("in role pg_execute_server_program", "may use files or programs of the server"),
    ("in role pg_read_server_files noinherit", "may use files or programs of the server"),
    ("in role pg_write_server_files", "may use files or programs of the server"),
    ("in role pg_signal_backend", "may end the sessions of others"),
]


@pytest.mark.parametrize("row", POWERS, ids=[row[0] for row in POWERS])
async def test_a_role_that_may_do_more_than_read_is_refused(
    database: world.Postgres, row: tuple[str, str]
) -> None:
    """A function that a query calls does what the role may do, and no rollback undoes it."""
    with role(database, row[0]) as url:
        question = {"query": "select count(*) = 0 from tasks where false"}
        kind, message = await world.verdict("sql", question, world.sql_link(url), {})
        assert (kind, row[1] in message) == ("Permanent", True), message
        assert "superuser: Allowed" in message
        with pytest.raises(Permanent, match=row[1]):
            await CONNECTIONS["postgres"].check(world.sql_link(url))


async def test_a_program_runs_only_where_the_connection_says_so(database: world.Postgres) -> None:
    mark = Path(tempfile.gettempdir(), f"gatewright-{uuid.uuid4().hex}")
    with role(database, "superuser") as url, database.admin("shop") as admin:
        program = f"copy (select 1) to program ''touch {mark}''"
        body = f"begin execute '{program}'; return 1; end"
        admin.execute(
            f"create function run() returns int language plpgsql as $x$ {body} $x$".encode()
        )
        try:
            question = {"query": "select run()"}
            assert (await world.verdict("sql", question, world.sql_link(url), {"max": "1"}))[
                0
            ] == "Permanent"
            assert not mark.exists()
            trusted = world.sql_link(url, superuser="Allowed")
            assert (await world.verdict("sql", question, trusted, {"max": "1"}))[0] == "Good"
            assert mark.exists()
        finally:
            mark.unlink(missing_ok=True)
            admin.execute("drop function run()")


@pytest.mark.parametrize(
    "held", ["nocreaterole", "createrole createdb bypassrls", "in role pg_monitor"]
)
async def test_a_role_that_a_rollback_undoes_is_good(database: world.Postgres, held: str) -> None:
    with role(database, held) as url:
        assert (await world.verdict("sql", {"query": "select true"}, world.sql_link(url), {}))[
            0
        ] == "Good"


@contextlib.contextmanager
def role(database: world.Postgres, held: str) -> Iterator[str]:
    """A role with these attributes, and one that is as strong as any, for as long as it is needed;
    its URL."""
    with database.admin() as admin:
        admin.execute("create role root superuser")
        admin.execute(f"create role guest login password '{world.PASSWORD}' {held}".encode())
        admin.execute("grant select on all tables in schema public to guest")
        try:
            yield database.url("guest")
        finally:
            admin.execute("drop owned by guest cascade")
            admin.execute("drop role guest")
            admin.execute("drop role root")


async def test_the_first_of_several_hosts_that_answers(database: world.Postgres) -> None:
    def link(password: str) -> OpenConnection:
        hosts = ",".join(f"127.0.0.1:{port}" for port in (1, database.port, 2))
        return world.sql_link(f"postgresql://reader:{password}@{hosts}/shop")

    assert (await world.verdict("sql", {"query": "select true"}, link(world.PASSWORD_QUOTED), {}))[
        0
    ] == "Good"
    found = await world.verdict("sql", {"query": "select true"}, link("wrong"), {})
    assert found == ("Permanent", "cannot connect to the database: the password is refused (28P01)")


async def test_a_question_costs_two_round_trips(database: world.Postgres) -> None:
    """And what a new connection asks of its role is not asked again."""
    turns = 0
    last = ""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        nonlocal turns, last
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                turns += way == "there" and last == "back"
                last = way
                writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", database.port)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(pipe(reader, there, "there"), pipe(back, writer, "back"))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        url = database.url().replace(
            f":{database.port}", f":{listening.sockets[0].getsockname()[1]}"
        )
        link = world.sql_link(url)
        question = {"query": "select count(*) = $1::int from tasks", "parameters": ["100"]}
        for most in (8, 2, 2):
            before = turns
            assert (await world.verdict("sql", question, link, {}))[0] == "Good"
            assert turns - before <= most
        await current().close()


async def test_nothing_of_a_session_outlives_its_question(database: world.Postgres) -> None:
    link = world.sql_link(database.url())
    for statement in (
        "select pg_advisory_lock(42)::text = ''",
        "select set_config('search_path', 'nowhere', false) = 'nowhere'",
        "select set_config('statement_timeout', '0', false) = '0'",
    ):
        assert (await world.verdict("sql", {"query": statement}, link, {}))[0] == "Good", statement
    with database.admin("shop") as admin:
        held = admin.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()
    assert held == (0,)
    assert (await world.verdict("sql", {"query": "select count(*) = 100 from tasks"}, link, {}))[
        0
    ] == "Good"


async def test_connections_are_kept_and_few(database: world.Postgres) -> None:
    link = world.sql_link(database.url(), timeout=5.0)
    found = await asyncio.gather(
        *(
            world.verdict(
                "sql",
                {"query": "select pg_backend_pid() + 0 * sum(length(pg_sleep(0.02)::text))"},
                link,
                {"max": "1"},
            )
            for _ in range(20)
        )
    )
    assert len({message for _, message in found}) <= postgres.MAX_SESSIONS
    with database.admin() as admin:
        count = admin.execute(
            "select count(*) from pg_stat_activity where application_name = 'gatewright'"
        ).fetchone()
    assert count is not None and count[0] <= postgres.MAX_SESSIONS
    await current().close()
    await asyncio.sleep(0.2)
    with database.admin() as admin:
        left = admin.execute(
            "select count(*) from pg_stat_activity where application_name = 'gatewright'"
        ).fetchone()
    assert left == (0,)


async def test_a_connection_that_broke_while_idle_is_no_error(database: world.Postgres) -> None:
    link = world.sql_link(database.url())
    question = {"query": "select count(*) = 100 from tasks"}
    assert (await world.verdict("sql", question, link, {}))[0] == "Good"
    with database.admin() as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name "
            "= 'gatewright'"
        )
    assert (await world.verdict("sql", question, link, {}))[0] == "Good"


@pytest.mark.parametrize(
    "change, expected, words",
    [
        ({"password": "wrong"}, "Permanent", "password is refused"),
        ({"user": "nobody"}, "Permanent", "password is refused"),
        ({"database": "nowhere"}, "Permanent", "no such database"),
        ({"query": "?sslmode=require"}, "Permanent", "does not speak TLS"),
        ({"query": "?options=-c%20statement_timeout%3D0"}, "Permanent", "may not set options"),
        (
            {"query": "?sslkey=/etc/shadow&passfile=/etc/shadow"},
            "Permanent",
            "may not set passfile, sslkey",
        ),
        ({"query": "?service=x"}, "Permanent", "may not set service"),
        ({"query": "?hostaddr=127.0.0.1"}, "Permanent", "may not set hostaddr"),
        ({"query": "?host=/var/run/postgresql"}, "Permanent", "is not a host name"),
        (
            {"query": "?sslmode=disable&connect_timeout=3"},
            "Permanent",
            "may not set connect_timeout",
        ),
        ({"query": "?nonsense=1"}, "Permanent", "cannot be read"),
        ({"query": "?application_name=a%0d%0ab"}, "Permanent", "no control characters"),
    ],
)
async def test_logins(
    database: world.Postgres, change: dict[str, str], expected: str, words: str
) -> None:
    link = world.sql_link(database.url(**change), timeout=3.0)
    async with world.logs() as lines:
        kind, message = await world.verdict("sql", {"query": "select 1"}, link, {"max": "1"})
    assert (kind, words in message) == (expected, True), f"{kind}: {message}"
    world.assert_silent(*lines)


@pytest.mark.parametrize(
    "url, expected, words",
    [
        ("", "Permanent", "is empty"),
        ("secret-in-the-wrong-place", "Permanent", "holds no URL"),
        ("host=127.0.0.1 user=reader", "Permanent", "holds no URL"),
        ("postgresql:///shop", "Permanent", "names no host"),
        ("postgresql://127.0.0.1/shop", "Permanent", "names no user"),
        ("postgresql://reader@127.0.0.1,/shop", "Permanent", "names no host"),
        (
            "postgresql://reader@127.0.0.1:1,127.0.0.1:2,127.0.0.1/shop?port=1,2",
            "Permanent",
            "one port",
        ),
        ("postgresql://reader@localhost/shop", "Permanent", "loopback"),
        ("postgresql://reader@169.254.169.254/shop", "Permanent", "link-local"),
        ("postgresql://reader@[::1]:5432/shop", "Permanent", "loopback"),
        ("postgresql://reader@kubernetes.default.svc/shop", "Permanent", "API server"),
        ("postgresql://reader@0x7f000001/shop", "Permanent", "not a host name"),
        ("postgresql://reader@nowhere.invalid/shop", "Retryable", "cannot be resolved"),
        (f"postgresql://reader:{world.PASSWORD_QUOTED}@127.0.0.1:1/shop", "Retryable", "refused"),
    ],
)
async def test_urls(url: str, expected: str, words: str) -> None:
    kind, message = await world.verdict(
        "sql", {"query": "select 1"}, world.sql_link(url, timeout=5.0), {"max": "1"}
    )
    assert (kind, words in message) == (expected, True), f"{kind}: {message}"


@contextlib.asynccontextmanager
async def _server(answer: bytes | None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            writer.close()
        else:
            await asyncio.sleep(30)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
        for client in getattr(listening, "_clients", ()):
            client.abort()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["http", "closes", "silent"]
)
async def test_what_is_no_database(answer: bytes | None) -> None:
    async with asyncio.TaskGroup() as group:
        found: list[Any] = []

        async def ask() -> None:
            async with _server(answer) as port:
                link = world.sql_link(
                    f"postgresql://reader:{world.PASSWORD_QUOTED}@127.0.0.1:{port}/shop",
                    timeout=0.5,
                )
                found.extend(await world.verdict("sql", {"query": "select 1"}, link, {"max": "1"}))
                await current().close()

        task = group.create_task(ask())
        await asyncio.wait({task}, timeout=10)
        task.cancel()
    assert found[:1] == ["Retryable"], found


async def test_no_connection_left(database: world.Postgres) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Exception):
            for _ in range(40):
                stack.enter_context(contextlib.closing(database.admin()))
        kind, message = await world.verdict(
            "sql", {"query": "select 1"}, world.sql_link(database.url()), {"max": "1"}
        )
    assert (kind, "cannot connect" in message) == ("Retryable", True), message


async def test_a_server_that_stops_answering_does_not_hold_us(database: world.Postgres) -> None:
    """In the middle of a statement nothing comes any more: the question ends in its time, and is
    cleaned up behind."""
    goes_on = asyncio.Event()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if b"pg_sleep" in data:
                    await goes_on.wait()
                writer.write(data)
                await writer.drain()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", database.port)
        await asyncio.gather(pipe(reader, here), pipe(there, writer))
        here.close()
        writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        url = database.url().replace(
            f":{database.port}", f":{listening.sockets[0].getsockname()[1]}"
        )
        patient = world.sql_link(url, timeout=30.0)
        assert (await world.verdict("sql", {"query": "select true"}, patient, {}))[0] == "Good"
        link = dataclasses.replace(patient, timeout=0.5)
        asked = world.verdict(
            "sql", {"query": "select true or length(pg_sleep(0)::text) > 0"}, link, {}
        )
        kind, message = await asyncio.wait_for(asked, 20)
        assert (kind, "no answer within 0.5s" in message) == ("Retryable", True), message
        goes_on.set()
        await current().close()


async def test_credential_check(database: world.Postgres) -> None:
    await CONNECTIONS["postgres"].check(world.sql_link(database.url()))
    with pytest.raises(Permanent) as caught:
        await CONNECTIONS["postgres"].check(world.sql_link(database.url(password="wrong")))
    world.assert_silent(caught.value)
    with pytest.raises(Retryable):
        await CONNECTIONS["postgres"].check(world.sql_link("postgresql://reader@127.0.0.1:1/shop"))


async def test_the_address_is_checked_when_connecting(
    database: world.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may have become another address since its URL was checked."""
    asked: list[str] = []

    async def lookup(host: str, namespace: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(current().resolver, "find", lookup)
    url = database.url().replace("127.0.0.1", "db.example.com")
    assert (await world.verdict("sql", {"query": "select true"}, world.sql_link(url), {}))[
        0
    ] == "Good"
    await current().close()
    current().rules = AddressRules()
    kind, message = await world.verdict("sql", {"query": "select true"}, world.sql_link(url), {})
    assert (kind, "db.example.com (127.0.0.1) is loopback" in message) == ("Permanent", True), (
        message
    )
    assert asked == ["db.example.com", "db.example.com"]


# --------------------------------------------------------------------------------------------------
# Named questions


@pytest.fixture(scope="module")
def counted() -> Iterator[world.Postgres]:
    """A PostgreSQL with pg_stat_statements, and a role that may see all of it."""
    with world.postgres(
        "shared_preload_libraries=pg_stat_statements", "pg_stat_statements.max=100"
    ) as running:
        with running.admin("shop") as admin:
            admin.execute("create schema extensions")
            admin.execute("create extension pg_stat_statements schema extensions")
            admin.execute("grant usage on schema extensions to reader")
            admin.execute("grant pg_read_all_stats to reader")
        yield running


@pytest.fixture(autouse=True)
def _no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test has to wait between two looks."""
    monkeypatch.setattr(catalogs, "MIN_LOOK_AGE_S", 0.0)


@contextlib.contextmanager
def schema(database: world.Postgres, *statements: str) -> Iterator[None]:
    """A schema `app` with these statements run in it, for as long as it is needed."""
    with database.admin("shop") as admin:
        admin.execute("create schema app")
        try:
            admin.execute("set search_path = app")
            for statement in statements:
                admin.execute(statement)
            yield
        finally:
            admin.execute("drop schema app cascade")


SECURED = [
    "alter table {0} enable row level security",
    'create policy "read {0}" on {0} using (true)',
]
GOOD = ["create table notes (id int)", *(text.format("notes") for text in SECURED)]
MANY = [f"create table t{n} (id int)" for n in range(5)]
PARTS = [
    "create table logs (id int) partition by range (id)",
    "create table logs_1 partition of logs for values from (0) to (9)",
    *(text.format("logs") for text in SECURED),
]
RLS: list[tuple[list[str], dict[str, Any], str, str]] = [
    (GOOD, {}, "Good", "1 tables, each"),
    (
        [*GOOD, "create view v as select 1", "create materialized view m as select 1"],
        {},
        "Good",
        "1 tables, each",
    ),
    (
        [*GOOD, "create table bare (id int)"],
        {},
        "Breach",
        "1 > 0 (1 without row level security: app.bare)",
    ),
    ([*GOOD, 'create table "Odd Name" (id int)'], {}, "Breach", "app.Odd Name"),
    (MANY, {}, "Breach", "5 > 0 (5 without row level security: app.t0, app.t1, app.t2 and 2 more)"),
    (
        [*GOOD, "create table lone (id int)", "alter table lone enable row level security"],
        {},
        "Breach",
        "secured without any policy: app.lone",
    ),
    (
        ["create table notes (id int)", "create policy p on notes using (true)"],
        {},
        "Breach",
        "without row level security: app.notes",
    ),
    (PARTS, {}, "Breach", "without row level security: app.logs_1"),
    (PARTS, {"exempt": ["app.logs_1"]}, "Good", ""),
    (GOOD, {"policies": [{"table": "app.notes", "name": "read notes"}]}, "Good", ""),
    (
        GOOD,
        {"policies": [{"table": "app.notes", "name": "write notes"}]},
        "Breach",
        "1 missing policies: write notes on app.notes",
    ),
    (
        GOOD,
        {"policies": [{"table": "app.gone", "name": "x"}]},
        "Breach",
        "missing policies: x on app.gone",
    ),
    (
        GOOD,
        {"policies": [{"table": "tasks", "name": "x"}]},
        "Breach",
        "2 > 0 (1 without row level security: public.tasks; 1 missing policies: x on public.tasks)",
    ),
    (GOOD, {"exempt": ["app.notes"]}, "NoData", "every table is exempt"),
    ([], {}, "NoData", "no table in the schema app"),
    (GOOD, {"schemas": ["app", "typo"]}, "NoData", "no table in the schema typo"),
]


@pytest.mark.parametrize("statements, question, expected, words", RLS)
async def test_row_level_security(
    database: world.Postgres,
    statements: list[str],
    question: dict[str, Any],
    expected: str,
    words: str,
) -> None:
    """A role that may read nothing of the tables sees all of it."""
    with schema(database, *statements):
        link = world.sql_link(database.url())
        kind, message = await world.verdict(
            "sql", {"rls": {"schemas": ["app"], **question}}, link, {"max": "0"}
        )
    assert (kind, words in message) == (expected, True), f"{kind}: {message}"


async def test_a_database_of_many_tables_is_told_in_few_words(database: world.Postgres) -> None:
    """Their names alone would be more than is read."""
    create = "execute format('create table %s%s (id int)', repeat('t', 55), n)"
    with schema(database, f"do $x$ begin for n in 1..1200 loop {create}; end loop; end $x$"):
        link = world.sql_link(database.url(), timeout=10.0)
        kind, message = await world.verdict(
            "sql", {"rls": {"schemas": ["app"]}}, link, {"max": "0"}
        )
    assert (kind, "1200 > 0 (1200 without" in message, "and 1197 more" in message) == (
        "Breach",
        True,
        True,
    ), message


async def test_connections_of_others_must_be_seen(
    database: world.Postgres, counted: world.Postgres
) -> None:
    """Without the right to see them, sessions of other roles are counted by nobody: a full server
    would look idle."""
    with contextlib.ExitStack() as stack:
        for server in (database, counted):
            for _ in range(9):
                stack.enter_context(contextlib.closing(server.admin()))
        blind = await world.verdict(
            "sql", {"connections": {}}, world.sql_link(database.url()), {"max": "80%"}
        )
        link = world.sql_link(counted.url())
        seeing = await world.verdict("sql", {"connections": {}}, link, {"max": "80%"})
        strict = await world.verdict("sql", {"connections": {}}, link, {"max": "50%"})
    assert (blind[0], "may not see" in blind[1], "pg_read_all_stats" in blind[1]) == (
        "NoData",
        True,
        True,
    ), blind
    # 20, less 3 for superusers; 9 of them, and our own
    assert seeing == ("Good", "10 of 17 connections")
    assert strict == ("Breach", "58.82% > 50% (10 of 17 connections)")


async def test_blocked_sessions(database: world.Postgres) -> None:
    link = world.sql_link(database.url())
    assert await world.verdict("sql", {"blocked": {}}, link, {"max": "0"}) == (
        "Good",
        "nobody waits for a lock",
    )
    with contextlib.closing(database.admin("shop")) as holder, ThreadPoolExecutor(2) as pool:
        holder.execute("begin; lock table tasks in access exclusive mode")
        waiting = [pool.submit(_lock, database) for _ in range(2)]
        try:
            await _until(lambda: _waiting(database) == 2)
            kind, message = await world.verdict("sql", {"blocked": {}}, link, {"max": "0"})
            pid = holder.info.backend_pid
            late = await world.verdict("sql", {"blocked": {"over": "1h"}}, link, {"max": "0"})
            allowed = await world.verdict("sql", {"blocked": {}}, link, {"max": "2"})
        finally:
            holder.execute("rollback")
        for task in waiting:
            task.result(10)
    assert (kind, message.startswith("2 > 0 (the longest wait is ")) == ("Breach", True), message
    assert f"behind {pid})" in message
    assert late[0] == "Good"
    assert allowed[0] == "Good"


def _lock(database: world.Postgres) -> None:
    with database.admin("shop") as admin:
        admin.execute("delete from tasks where id < 0")


def _waiting(database: world.Postgres) -> int:
    with database.admin() as admin:
        found = admin.execute(
            "select count(distinct pid) from pg_locks where not granted"
        ).fetchone()
    return found[0] if found else 0


async def _until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(ready):
            await asyncio.sleep(0.02)


SLOW = {"slowQueries": {"over": "100ms"}}


async def _slow(
    database: world.Postgres, question: dict[str, Any] = SLOW, **limits: str
) -> tuple[str, str]:
    return await world.verdict(
        "sql", question, world.sql_link(database.url(), timeout=3.0), limits or {"max": "0"}
    )


def _run(database: world.Postgres, *statements: str) -> None:
    with database.admin("shop") as admin:
        for statement in statements:
            admin.execute(statement)


async def test_slow_queries_are_those_since_the_last_look(counted: world.Postgres) -> None:
    _run(counted, "select pg_sleep(0.15)")
    assert await _slow(counted) == ("NoData", "the first look; the next one can tell")
    _run(counted, "select count(*) from tasks")
    assert (await _slow(counted))[0] == "Good", "what was slow before the first look is over"
    _run(counted, "select pg_sleep(0.15)", "select count(*) from tasks")
    kind, message = await _slow(counted)
    assert (kind, message.startswith("1 > 0 (in ")) == ("Breach", True), message
    with counted.admin("shop") as admin:
        found = admin.execute(
            "select queryid from extensions.pg_stat_statements where query like '%pg_sleep($1)%'"
        ).fetchone()
    assert found is not None
    assert f"queryid {found[0]} took " in message
    _run(counted, "select count(*) from tasks")
    assert (await _slow(counted))[0] == "Good"
    _run(counted, "select pg_sleep(0.15)")
    assert (await _slow(counted, max="1"))[0] == "Good"


async def test_a_mean_over_the_window_and_not_over_all_time(counted: world.Postgres) -> None:
    """Hundreds of quick calls in the past do not hide that the statement is slow now."""
    _run(counted, *["select pg_sleep(0.0001)"] * 300)
    await _slow(counted)
    _run(counted, "select pg_sleep(0.15)")
    assert (await _slow(counted))[0] == "Breach"


async def test_nothing_ran_since_the_last_look(counted: world.Postgres) -> None:
    """Looking must not be the traffic that is found."""
    await _slow(counted)
    for _ in range(2):
        assert await _slow(counted) == (
            "NoData",
            "no statement of another role has ended since the last look",
        )


@pytest.mark.parametrize(
    "statement",
    [
        "select extensions.pg_stat_statements_reset()",
        "select extensions.pg_stat_statements_reset(queryid => {0})",
    ],
)
async def test_counters_that_began_anew(counted: world.Postgres, statement: str) -> None:
    _run(counted, "select count(*) from tasks")
    await _slow(counted)
    with counted.admin("shop") as admin:
        found = admin.execute(
            "select queryid from extensions.pg_stat_statements where query = 'select "
            "count(*) from tasks'"
        ).fetchone()
    assert found is not None
    _run(counted, statement.format(found[0]), "select count(*) from tasks", "select pg_sleep(0.15)")
    assert await _slow(counted) == ("NoData", "the counters began anew since the last look")


async def test_statements_that_were_dropped(counted: world.Postgres) -> None:
    """What was dropped may have been the slow one."""
    await _slow(counted)
    _run(counted, *("select " + ", ".join(["1"] * n) for n in range(1, 150)))
    kind, message = await _slow(counted)
    assert (kind, "pg_stat_statements.max" in message) == ("NoData", True), message


async def test_a_look_long_ago_is_none(
    counted: world.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _slow(counted)
    monkeypatch.setattr(catalogs, "MAX_LOOK_AGE_S", -1.0)
    assert await _slow(counted) == ("NoData", "the first look; the next one can tell")


async def test_looks_in_quick_succession_are_compared_with_the_one_before(
    counted: world.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _slow(counted)
    _run(counted, "select pg_sleep(0.15)")
    monkeypatch.setattr(catalogs, "MIN_LOOK_AGE_S", 60.0)
    assert (await _slow(counted))[0] == "NoData"
    monkeypatch.setattr(catalogs, "MIN_LOOK_AGE_S", 0.0)
    assert (await _slow(counted))[0] == "Breach"
    monkeypatch.setattr(catalogs, "MIN_LOOK_AGE_S", 60.0)
    assert (await _slow(counted))[0] == "Breach", "seen from the look before, it is still there"


async def test_too_many_statements_to_compare(
    counted: world.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "_STATEMENTS", catalogs._STATEMENTS.replace("10000", "1"))
    monkeypatch.setattr(catalogs, "MAX_STATEMENTS", 1)
    _run(counted, "select count(*) from tasks", "select 1, 2, 3")
    kind, message = await _slow(counted)
    assert (kind, "too many to compare; lower pg_stat_statements.max" in message) == (
        "NoData",
        True,
    ), message


def test_what_is_kept_of_looks_is_bounded_and_no_namespace_drives_out_another() -> None:
    """However many questions there are; the one that asked last is kept, and so is that of another
    namespace."""
    counters = {f"1/{number}": (1, 1.0) for number in range(catalogs.MAX_STATEMENTS)}
    look = catalogs._Look(0.0, (0.0, 0.0), 0, counters)
    catalogs._previous_look(_linked("quiet", "quiet"), "1s", look)
    for number in range(50):
        catalogs._previous_look(_linked(str(number), "loud"), "1s", replace(look, at=float(number)))
        assert catalogs._looks().used <= 10 * catalogs.MAX_STATEMENTS
    assert ("49", "1s") in catalogs._looks() and ("quiet", "1s") in catalogs._looks()


def _linked(identity: str, namespace: str) -> OpenConnection:
    return OpenConnection("db", identity, None, 1.0, {}, namespace)


async def test_slow_queries_without_what_they_need(
    database: world.Postgres, counted: world.Postgres
) -> None:
    assert await _slow(database) == (
        "NoData",
        "pg_stat_statements is not there; create extension pg_stat_statements",
    )
    with database.admin("shop") as admin:
        admin.execute("create extension pg_stat_statements")
        try:
            kind, message = await _slow(database)
            assert (kind, "shared_preload_libraries" in message) == ("Retryable", True), message
            admin.execute("drop extension pg_stat_statements")
            admin.execute("create extension pg_stat_statements version '1.8'")
            assert (await _slow(database))[1].startswith("pg_stat_statements is too old")
        finally:
            admin.execute("drop extension pg_stat_statements")
    with counted.admin("shop") as admin:
        admin.execute("revoke pg_read_all_stats from reader")
        try:
            kind, message = await _slow(counted)
        finally:
            admin.execute("grant pg_read_all_stats to reader")
    assert (kind, "may not see" in message, "grant it" in message) == ("NoData", True, True), (
        message
    )


@pytest.mark.parametrize(
    "question",
    [{"rls": {}}, {"connections": {}}, SLOW, {"blocked": {}}],
    ids=lambda q: next(iter(q)),
)
async def test_named_questions_say_no_secret_and_never_pass_where_nothing_answers(
    question: dict[str, Any],
) -> None:
    url = f"postgresql://reader:{world.PASSWORD_QUOTED}@127.0.0.1:1/shop"
    kind, message = await world.verdict("sql", question, world.sql_link(url), {"max": "0"})
    assert (kind, "refused" in message) == ("Retryable", True), message


@pytest.mark.parametrize(
    "raw, words",
    [
        ({}, "needs exactly one of query, rls, connections, slowQueries, blocked"),
        ({"query": "select 1", "rls": {}}, "needs exactly one"),
        ({"rls": {}, "parameters": ["1"]}, "parameters belong to query"),
        ({"rls": {"schemas": []}}, "at least 1"),
        ({"slowQueries": {}}, "required"),
        ({"slowQueries": {"over": "fast"}}, "is not a duration"),
        ({"connections": {"max": 1}}, "not permitted"),
    ],
)
def test_questions_that_are_none(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GATES["sql"].config.model_validate(raw)


@pytest.mark.parametrize("name", ["rls", "connections", "blocked", "slowQueries"])
def test_a_named_question_means_nothing_without_a_limit(name: str) -> None:
    raw = {name: {"over": "1s"} if name == "slowQueries" else {}}
    assert GATES["sql"].config.model_validate(raw).limits == "required"
    assert GATES["sql"].config.model_validate({"query": "select 1"}).limits == "optional"


# --------------------------------------------------------------------------------------------------
# The backup script of the documentation


def _backup(database: world.Postgres, name: str, folder: Path) -> dict[str, str]:
    """What the script publishes of a database, as outputs."""
    text = (Path(__file__).parents[2] / "docs" / "supabase.md").read_text()
    script = text.partition("```sh\n# backup.sh\n")[2].partition("```")[0]
    assert "pg_dump" in script
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))
    environment = {
        "DATABASE_URL": database.url("postgres", database=name),
        "BACKUP_DIR": str(folder),
        "TERMINATION_LOG": str(folder / "message"),
        "PATH": f"{programs[-1].parent}:{os.environ['PATH']}" if programs else os.environ["PATH"],
    }
    subprocess.run(
        ["sh", "-c", script], env=environment, check=True, capture_output=True, timeout=60
    )
    message = (folder / "message").read_text()
    assert len(message) < 4096
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in json.loads(message).items()
    }


def test_the_backup_script_proves_a_backup(database: world.Postgres, tmp_path: Path) -> None:
    outputs = _backup(database, "shop", tmp_path)
    proof = Proof(minBytes=1000, contains=["public.tasks", "salaries"])
    now = datetime.now(UTC)
    assert find_missing_proof(proof, outputs, now) is None
    assert Path(outputs["id"]).stat().st_size == int(outputs["bytes"])
    assert find_missing_proof(proof, outputs, now + timedelta(hours=2)) is not None
    missing = find_missing_proof(Proof(contains=["public.orders"]), outputs, now)
    assert missing == "it does not contain public.orders"


def test_the_backup_script_does_not_prove_a_backup_of_the_wrong_database(
    database: world.Postgres, tmp_path: Path
) -> None:
    outputs = _backup(database, "postgres", tmp_path)
    found = find_missing_proof(Proof(contains=["public.tasks"]), outputs, datetime.now(UTC))
    assert found is not None
    assert "its tables are not told" in found


def test_the_backup_script_fails_where_there_is_no_database(
    database: world.Postgres, tmp_path: Path
) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        _backup(database, "nowhere", tmp_path)
    assert not (tmp_path / "message").exists()
