"""sql gates against a server that sends without an end, in every part of the protocol: it is cut
off, and costs little.

Below the driver, so what is tested is the memory of the process: libpq reads a message whole, and
makes room for what the message says of itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewright.ports import OpenConnection
from gatewright.providers.common.context import current
from gatewright.providers.postgres import connection as postgres
from tests.contract import world
from tests.fakes.postgres_server import FLOODS, SCRIPT, hostile

MIB = 1024 * 1024
QUESTION = {"query": "select 1"}
PARTS = {"login": 0, "role": 1, "cursor": 2, "rows": 3}
"""Where a flood begins, as the number of parts that are honest."""
ENDINGS = (
    "sent more than 64 KiB for one answer and was cut off",
    "cannot connect to the database",
    "the connection to the database broke off",
    "it does not keep to the protocol",
    "there is no such table (42P01)",  # that is what the flood of errors says
)


@contextlib.contextmanager
def growth(most: int) -> Iterator[None]:
    """The process needs no more memory than this at any time, besides what it had."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    yield
    grown = _memory("VmHWM") - before
    assert grown <= most, f"{grown / MIB:.1f} MiB"


def _memory(name: str) -> int:
    """VmRSS is what there is, VmHWM the most there was since `clear_refs`; in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def link(port: int, query: str = "", timeout: float = 2.0) -> OpenConnection:
    """A Connection to a port of this machine."""
    return world.sql_link(
        f"postgresql://reader:{world.PASSWORD_QUOTED}@127.0.0.1:{port}/shop{query}", timeout
    )


async def test_the_server_is_honest_until_it_floods() -> None:
    """Otherwise every flood would be one of the login."""
    with hostile("settings", after=len(SCRIPT)) as port:
        assert (await world.verdict("sql", QUESTION, link(port), {"max": "1"}))[0] == "Good"


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("part", PARTS)
async def test_a_flood_is_cut_off(part: str, flood: str) -> None:
    with hostile(flood, PARTS[part]) as port:
        async with world.logs() as lines:
            with growth(8 * MIB):
                kind, message = await world.verdict("sql", QUESTION, link(port), {"max": "1"})
                await current().close()
    assert any(words in message for words in ENDINGS), f"{kind}: {message}"
    world.assert_silent(*lines)


@pytest.mark.parametrize(
    "query", ["?sslmode=require", "?sslmode=prefer", "?sslmode=require&sslnegotiation=direct"]
)
@pytest.mark.parametrize("flood", ["an error", "nonsense", "errors", "settings"])
async def test_a_flood_in_place_of_tls_is_cut_off(flood: str, query: str) -> None:
    with hostile(flood, after=0, tls=True) as port, growth(8 * MIB):
        kind, message = await world.verdict("sql", QUESTION, link(port, query), {"max": "1"})
        await current().close()
    assert any(words in message for words in ENDINGS), f"{kind}: {message}"


@pytest.mark.parametrize("flood", ["a row", "notices", "settings"])
async def test_a_flood_while_nobody_asks_is_cut_off(flood: str) -> None:
    with hostile(flood, after=len(SCRIPT)) as port, growth(8 * MIB):
        for _ in range(3):
            assert (await world.verdict("sql", QUESTION, link(port), {"max": "1"}))[0] == "Good"
            await asyncio.sleep(0.3)
        await current().close()


@pytest.mark.parametrize(
    "question", [{"rls": {}}, {"connections": {}}, {"slowQueries": {"over": "1s"}}, {"blocked": {}}]
)
async def test_a_flood_in_place_of_catalogs_is_cut_off(question: dict[str, object]) -> None:
    with hostile("a row", PARTS["rows"]) as port, growth(8 * MIB):
        kind, message = await world.verdict("sql", question, link(port), {"max": "0"})
        await current().close()
    # its column is a number and no JSON
    assert (kind, "of type int8" in message) == ("Permanent", True), message


@pytest.mark.parametrize("flood", ["a row", "an error", "settings", "descriptions"])
async def test_sixteen_floods_at_once(flood: str) -> None:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(hostile(flood, PARTS["rows"])) for _ in range(16)]
        with growth(24 * MIB):
            found = await asyncio.gather(
                *(
                    world.verdict("sql", QUESTION, link(port, timeout=10.0), {"max": "1"})
                    for port in ports
                )
            )
            await current().close()
    assert all(any(words in message for words in ENDINGS) for _, message in found), found


async def test_a_text_of_two_hundred_megabytes_is_never_sent(database: world.Postgres) -> None:
    """Its type is asked first; and where it hides in a number, the number is cut off."""
    connection = world.sql_link(database.url(), timeout=20.0)
    await world.verdict("sql", QUESTION, connection, {"max": "1"})
    for statement, words in (
        ("select repeat('x', 200000000)", "of type text"),
        ("select repeat('9', 130000)::numeric", ENDINGS[0]),
        (
            "select (select array_agg(repeat('x', 1000)) from generate_series(1, 50000))",
            "of type text[]",
        ),
    ):
        with growth(4 * MIB):
            kind, message = await world.verdict(
                "sql", {"query": statement}, connection, {"max": "1"}
            )
        assert (kind, words in message) == ("Permanent", True), message


async def test_a_connection_ends_after_what_a_driver_may_remember(database: world.Postgres) -> None:
    """What is kept of a server is bounded over the connection's life, and not only for each
    question."""
    connection = world.sql_link(database.url(), timeout=10.0)
    question = {"query": "select pg_backend_pid() + ('0.' || repeat('0', 16000))::numeric"}
    fits = postgres.MAX_SESSION_BYTES // 17_000
    found = [
        (await world.verdict("sql", question, connection, {"max": "1"}))[1] for _ in range(2 * fits)
    ]
    assert found[1:fits] == found[: fits - 1], "it is kept"
    assert len(set(found)) == 2, "and not for ever"
