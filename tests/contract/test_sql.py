"""sql gates against a real PostgreSQL: what each answer means, and that nothing is ever changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewright.ports import Permanent, Retryable
from gatewright.providers.connections import addresses, postgres
from gatewright.providers.registry import CONNECTIONS
from tests.contract import world

TABLE = [
    # statement                                                       limits             verdict      words
    ("select count(*) from tasks where done",                         {"max": "60"},     "Good",      ""),
    ("select count(*) from tasks where done",                         {"max": "10"},     "Breach",    "50 > 10"),
    ("select avg(cost) from tasks",                                   {"min": "60"},     "Breach",    "50.5 < 60"),
    ("select 0.05::float8",                                           {"max": "1%"},     "Breach",    "5% > 1%"),
    ("select interval '90 seconds'",                                  {"max": "1m"},     "Breach",    "90s > 1m"),
    ("select count(*) = 100 from tasks;",                             {},                "Good",      ""),
    ("select count(*) = 99 from tasks",                               {},                "Breach",    ""),
    ("show server_version_num",                                       {},                "Permanent", "type str"),
    ("select 5",                                                      {},                "Error",     "without limits"),
    ("select null",                                                   {"max": "1"},      "NoData",    "NULL"),
    ("select null::boolean",                                          {},                "NoData",    "NULL"),
    ("select id from tasks where id = 0",                             {"max": "1"},      "NoData",    "no row"),
    ("select 'NaN'::float8",                                          {"max": "1"},      "NoData",    "nan"),
    ("select 'NaN'::numeric",                                         {"max": "1"},      "NoData",    "nan"),
    ("select '-Infinity'::float8",                                    {"max": "1"},      "NoData",    "inf"),
    ("select 'Infinity'::numeric",                                    {"min": "1"},      "NoData",    "inf"),
    ("select 10::numeric ^ 400",                                      {"min": "1"},      "NoData",    "inf"),
    ("select id from tasks",                                          {"max": "1"},      "Permanent", "several rows"),
    ("select generate_series(1, 50000000)",                           {"max": "1"},      "Permanent", "several rows"),
    ("select 1, 2",                                                   {"max": "1"},      "Permanent", "2 columns"),
    ("select 1, 2 from tasks where false",                            {"max": "1"},      "NoData",    "no row"),
    ("select from tasks where id = 1",                                {"max": "1"},      "Permanent", "0 columns"),
    ("select '5'",                                                    {"max": "9"},      "Permanent", "type str"),
    ("select now()",                                                  {"max": "9"},      "Permanent", "type datetime"),
    ("select 1; select 2",                                            {"max": "9"},      "Permanent", "one statement only"),
    ("select 1; drop table tasks",                                    {"max": "9"},      "Permanent", "one statement only"),
    ("commit; insert into tasks values (999)",                        {"max": "9"},      "Permanent", "one statement only"),
    ("commit",                                                        {"max": "9"},      "Permanent", "no result"),
    ("set transaction read write",                                    {"max": "9"},      "Permanent", "no result"),
    ("-- nothing",                                                    {"max": "9"},      "Permanent", "no result"),
    ("copy tasks to stdout",                                          {"max": "9"},      "Permanent", "no result"),
    ("insert into tasks values (999) returning id",                   {"max": "9"},      "Permanent", "read-only"),
    ("create table mine (id int)",                                    {"max": "9"},      "Permanent", "read-only"),
    ("select id from salaries",                                       {"max": "9"},      "Permanent", "for table salaries"),
    ("select pg_read_file('/etc/passwd')",                            {"max": "9"},      "Permanent", "42501"),
    ("select id from nowhere",                                        {"max": "9"},      "Permanent", '"nowhere" does not exist'),
    ("select nothing from tasks",                                     {"max": "9"},      "Permanent", '"nothing" does not exist'),
    ("selct 1",                                                       {"max": "9"},      "Permanent", 'at or near "selct"'),
    ("select $1::int",                                                {"max": "9"},      "Permanent", "does not fill"),
    ("select id / 0 from tasks",                                      {"max": "9"},      "Retryable", "division by zero"),
    ("select (id || 'secret-of-row')::int from tasks",                {"max": "9"},      "Retryable", "22P02"),
    ("select pg_sleep(9)",                                            {"max": "9"},      "Retryable", "too long"),
    ("select count(pg_sleep(0.2)) from tasks",                        {"max": "9"},      "Retryable", "too long"),
    ("select pg_terminate_backend(pg_backend_pid())",                 {"max": "9"},      "Retryable", "57P01"),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
async def test_statements(database: world.Postgres, row: tuple[str, dict[str, str], str, str]) -> None:
    statement, limits, expected, words = row
    link = world.sql_link(database.url(), timeout=1.5)
    async with world.logs() as lines:
        kind, message = await world.verdict("sql", {"query": statement}, link, limits)
        # the kept connection is as good as new
        after = await world.verdict("sql", {"query": "select count(*) from tasks"}, link, {"max": "100"})
    assert (kind, words in message) == (expected, True), f"{kind}: {message}"
    assert after[0] == "Good", after
    assert "secret-of-row" not in message
    world.assert_silent(*lines)


async def test_parameters_are_values_and_never_sql(database: world.Postgres) -> None:
    link = world.sql_link(database.url())
    statement = "select count(*) from tasks where id = any (string_to_array($1, ',')::int[]) and $2 = '''; drop--'"
    config = {"query": statement, "parameters": ["1,2,3", "'; drop--"]}
    assert (await world.verdict("sql", config, link, {"max": "3", "min": "3"}))[0] == "Good"
    percent = {"query": "select 'a%b' like 'a%' and 100 % 7 = 2"}
    assert (await world.verdict("sql", percent, link, {}))[0] == "Good"


async def test_a_gigantic_result_is_not_fetched(database: world.Postgres) -> None:
    started = time.monotonic()
    link = world.sql_link(database.url(), timeout=5.0)
    nine_gigabytes = "select repeat('x', 1000) from generate_series(1, 3000) a, generate_series(1, 3000) b"
    kind, message = await world.verdict("sql", {"query": nine_gigabytes}, link, {})
    assert (kind, "several rows" in message) == ("Permanent", True), message
    assert time.monotonic() - started < 4.0


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
    assert (await world.verdict("sql", {"query": "select count(*) = 100 from tasks"}, link, {}))[0] == "Good"


async def test_connections_are_kept_and_few(database: world.Postgres) -> None:
    link = world.sql_link(database.url(), timeout=5.0)
    found = await asyncio.gather(
        *(world.verdict("sql", {"query": "select pg_backend_pid() + 0 * sum(length(pg_sleep(0.02)::text))"}, link, {"max": "1"})
          for _ in range(20))
    )  # fmt: skip
    assert len({message for _, message in found}) <= postgres.SESSIONS
    with database.admin() as admin:
        count = admin.execute("select count(*) from pg_stat_activity where application_name = 'gatewright'").fetchone()
    assert count is not None and count[0] <= postgres.SESSIONS
    await CONNECTIONS["postgres"].close()
    await asyncio.sleep(0.2)
    with database.admin() as admin:
        left = admin.execute("select count(*) from pg_stat_activity where application_name = 'gatewright'").fetchone()
    assert left == (0,)


async def test_a_connection_that_broke_while_idle_is_no_error(database: world.Postgres) -> None:
    link = world.sql_link(database.url())
    question = {"query": "select count(*) = 100 from tasks"}
    assert (await world.verdict("sql", question, link, {}))[0] == "Good"
    with database.admin() as admin:
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gatewright'")
    assert (await world.verdict("sql", question, link, {}))[0] == "Good"


@pytest.mark.parametrize(
    "change, expected, words",
    [
        ({"password": "wrong"}, "Permanent", "password is refused"),
        ({"user": "nobody"}, "Permanent", "password is refused"),
        ({"database": "nowhere"}, "Permanent", "no such database"),
        ({"query": "?sslmode=require"}, "Permanent", "does not speak TLS"),
        ({"query": "?options=-c%20statement_timeout%3D0"}, "Permanent", "may not set options"),
        ({"query": "?sslkey=/etc/shadow&passfile=/etc/shadow"}, "Permanent", "may not set passfile, sslkey"),
        ({"query": "?service=x"}, "Permanent", "may not set service"),
        ({"query": "?hostaddr=127.0.0.1"}, "Permanent", "may not set hostaddr"),
        ({"query": "?host=/var/run/postgresql"}, "Permanent", "is not a host name"),
        ({"query": "?sslmode=disable&connect_timeout=3"}, "Permanent", "may not set connect_timeout"),
        ({"query": "?nonsense=1"}, "Permanent", "cannot be read"),
    ],
)
async def test_logins(database: world.Postgres, change: dict[str, str], expected: str, words: str) -> None:
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
        ("postgresql://reader@127.0.0.1:1,127.0.0.1:2,127.0.0.1/shop?port=1,2", "Permanent", "one port"),
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
    kind, message = await world.verdict("sql", {"query": "select 1"}, world.sql_link(url, timeout=5.0), {"max": "1"})
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


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["http", "closes", "silent"])
async def test_what_is_no_database(answer: bytes | None) -> None:
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        found: list[Any] = []

        async def ask() -> None:
            async with _server(answer) as port:
                link = world.sql_link(f"postgresql://reader:{world.PASSWORD_QUOTED}@127.0.0.1:{port}/shop", timeout=0.5)
                found.extend(await world.verdict("sql", {"query": "select 1"}, link, {"max": "1"}))
                await CONNECTIONS["postgres"].close()

        task = group.create_task(ask())
        await asyncio.wait({task}, timeout=5)
        task.cancel()
    assert found[0] == "Retryable", found
    assert time.monotonic() - started < 3.0


async def test_no_connection_left(database: world.Postgres) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Exception):
            for _ in range(40):
                stack.enter_context(contextlib.closing(database.admin()))
        kind, message = await world.verdict("sql", {"query": "select 1"}, world.sql_link(database.url()), {"max": "1"})
    assert (kind, "cannot connect" in message) == ("Retryable", True), message


async def test_a_server_that_stops_answering_does_not_hold_us(database: world.Postgres) -> None:
    """In the middle of a statement nothing comes any more: the question ends in its time, and is cleaned up behind."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if b"pg_sleep" in data:
                    await asyncio.sleep(1.2)
                writer.write(data)
                await writer.drain()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", database.port)
        await asyncio.gather(pipe(reader, here), pipe(there, writer))
        here.close()
        writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        url = database.url().replace(f":{database.port}", f":{listening.sockets[0].getsockname()[1]}")
        link = world.sql_link(url, timeout=0.5)
        assert (await world.verdict("sql", {"query": "select true"}, link, {}))[0] == "Good"
        started = time.monotonic()
        kind, message = await world.verdict("sql", {"query": "select true or length(pg_sleep(0)::text) > 0"}, link, {})
        assert (kind, "no answer within 0.5s" in message) == ("Retryable", True), message
        assert time.monotonic() - started < 0.9
        await asyncio.sleep(1.2)
        await CONNECTIONS["postgres"].close()


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

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(addresses, "_lookup", lookup)
    url = database.url().replace("127.0.0.1", "db.example.com")
    assert (await world.verdict("sql", {"query": "select true"}, world.sql_link(url), {}))[0] == "Good"
    await CONNECTIONS["postgres"].close()
    addresses.allow(addresses.Allowed())
    kind, message = await world.verdict("sql", {"query": "select true"}, world.sql_link(url), {})
    assert (kind, "db.example.com (127.0.0.1) is loopback" in message) == ("Permanent", True), message
    assert asked == ["db.example.com", "db.example.com"]
