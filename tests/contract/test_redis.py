"""redis gates and flushes against a real redis-server, and against what only answers on its
port."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import tls
from gatewright.providers.common.context import current
from gatewright.providers.redis import connection as redis
from gatewright.providers.redis import flushing, gate
from gatewright.providers.redis.gate import HitRatio, hit_ratio_of
from gatewright.providers.registry import ACTIONS, CONNECTIONS, GATES
from tests.cluster.processes import free_port
from tests.contract import world
from tests.fakes.redis_server import MEMORY, RedisServer, fields_of
from tests.fakes.serving import linked

NEVER = {"max": "101%", "min": "0%"}
"""Limits that every ratio keeps: what is not good is no ratio."""


def link(url: str, timeout: float = 10.0) -> OpenConnection:
    """A Connection with a URL."""
    return linked("redis", {}, {"url": url}, timeout)


# --------------------------------------------------------------------------------------------------
# Memory, and the way in


async def test_memory_is_a_ratio_of_maxmemory(cache: RedisServer) -> None:
    found = await world.verdict("redis", {"memory": {}}, link(cache.url()), {"max": "90%"})
    assert found[0] == "Good", found
    assert (await world.verdict("redis", {"memory": {}}, link(cache.url()), {"max": "0.1%"}))[
        0
    ] == "Breach"
    info = redis.info_of(await redis.run_command(link(cache.url()), "INFO"))
    assert info["maxmemory"] == str(MEMORY)


async def test_without_maxmemory_there_is_nothing_to_compare_with(cache: RedisServer) -> None:
    cache.do("CONFIG", "SET", "maxmemory", "0")
    try:
        found = await world.verdict("redis", {"memory": {}}, link(cache.url()), NEVER)
    finally:
        cache.do("CONFIG", "SET", "maxmemory", str(MEMORY))
    assert (found[0], "maxmemory is 0" in found[1]) == ("NoData", True), found


WAYS: list[tuple[dict[str, Any], str, str]] = [
    # URL                                                verdict      words
    ({},                                                 "Good",      ""),
    ({"user": "default"},                                "Good",      ""),
    ({"user": "reader"},                                 "Good",      ""),
    ({"database": "/3"},                                 "Good",      ""),
    ({"database": "/0"},                                 "Good",      ""),
    ({"database": "/99"},                                "Permanent", "no database of that number"),
    ({"database": "/a"},                                 "Permanent", "cannot be read"),
    ({"database": "?db=1"},                              "Permanent", "cannot be read"),
    ({"database": "/0#a"},                               "Permanent", "cannot be read"),
    ({"password": ""},                                   "Permanent", "asks for a password"),
    ({"password": "wrong"},                              "Permanent", "credentials are refused"),
    ({"user": "nobody"},                                 "Permanent", "credentials are refused"),
    ({"user": "blind"},                                  "Permanent", "may not run the command"),
    ({"tls": True},                                      "Permanent", "certificate is not trusted"),
]  # fmt: skip


@pytest.mark.parametrize("row", WAYS, ids=[str(row[0]) for row in WAYS])
async def test_ways_in(cache: RedisServer, row: tuple[dict[str, Any], str, str]) -> None:
    async with world.logs() as lines:
        kind, message = await world.verdict(
            "redis", {"memory": {}}, link(cache.url(**row[0])), NEVER
        )
    assert (kind, row[2] in message) == (row[1], True), f"{kind}: {message}"
    world.assert_silent(*lines)


async def test_credential_check(cache: RedisServer) -> None:
    await CONNECTIONS["redis"].check(link(cache.url()))
    await CONNECTIONS["redis"].check(link(cache.url(user="blind")))
    for change in ({"password": "wrong"}, {"password": ""}, {"database": "/99"}):
        with pytest.raises(Permanent) as caught:
            await CONNECTIONS["redis"].check(link(cache.url(**change)))
        world.assert_silent(caught.value)


async def test_tls_with_a_certificate_that_is_trusted(
    cache: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(cafile=cache.authority)
    monkeypatch.setattr(tls, "client_context", lambda: context)
    await CONNECTIONS["redis"].check(link(cache.url(tls=True)))


@pytest.mark.parametrize(
    "url, words",
    [
        ("https://cache.example.com", "holds no URL of a Redis"),
        (f"redis://default:{world.PASSWORD}@127.0.0.1:6379/0", "cannot be read"),
        (f"redis://{world.PASSWORD}", "cannot be read"),
        ("redis://u:%0d%0aFLUSHALL%0d%0a@127.0.0.1:6379/0", "no control characters"),
        ("redis://u%00:p@127.0.0.1:6379/0", "no control characters"),
        ("redis://127.0.0.1:%C2%B2/0", "cannot be read"),
        ("redis://", "names no host"),
        ("redis://:secret@/0", "names no host"),
        ("redis://127.0.0.1:99999/0", "cannot be read"),
        ("redis://[::1]:6379", "loopback"),
        ("redis://169.254.169.254:6379", "link-local"),
        ("redis://localhost:6379", "loopback"),
        ("redis://kubernetes.default.svc:6379", "the API server"),
        ("redis://0x7f.1:6379", "not a host name"),
    ],
)
async def test_urls_that_are_none(url: str, words: str) -> None:
    with pytest.raises(Permanent, match=words) as caught:
        await CONNECTIONS["redis"].check(link(url))
    world.assert_silent(caught.value)


async def test_a_name_is_judged_by_what_it_is_connected_to(
    cache: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads to this machine is refused at the moment of connecting, and is never looked
    up twice."""
    asked: list[str] = []

    async def lookup(host: str, namespace: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) > 1 else ["169.254.169.254"]

    monkeypatch.setattr(current().resolver, "find", lookup)
    url = cache.url().replace("127.0.0.1", "cache.example.com")
    with pytest.raises(Permanent, match="link-local"):
        await CONNECTIONS["redis"].check(link(url))
    assert asked == ["cache.example.com"]
    await CONNECTIONS["redis"].check(link(url))


async def test_one_connection_is_kept_and_shared(cache: RedisServer) -> None:
    connection = link(cache.url())
    before = int(fields_of(cache.do("INFO", "stats"))["total_connections_received"])
    found = await asyncio.gather(
        *(world.verdict("redis", {"memory": {}}, connection, NEVER) for _ in range(10))
    )
    assert {kind for kind, _ in found} == {"Good"}
    after = int(fields_of(cache.do("INFO", "stats"))["total_connections_received"])
    assert after - before == 2, "one of ours, and one of the administrator's"
    await current().close()
    assert (await world.verdict("redis", {"memory": {}}, connection, NEVER))[0] == "Good"


async def test_a_connection_that_broke_while_idle_is_no_error(cache: RedisServer) -> None:
    connection = link(cache.url())
    await CONNECTIONS["redis"].check(connection)
    cache.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert (await world.verdict("redis", {"memory": {}}, connection, NEVER))[0] == "Good"


async def test_a_server_that_hangs_for_a_while(cache: RedisServer) -> None:
    patient = link(cache.url(), timeout=30.0)
    connection = dataclasses.replace(patient, timeout=0.3)
    await CONNECTIONS["redis"].check(patient)
    cache.do("CLIENT", "PAUSE", "1000", "ALL")
    found = await world.verdict("redis", {"memory": {}}, connection, NEVER)
    assert (found[0], "no answer within 0.3s" in found[1]) == ("Retryable", True), found
    # what comes late belongs to nobody
    assert await redis.run_command(link(cache.url(), timeout=30.0), "PING") == b"PONG"
    assert await redis.run_command(patient, "PING") == b"PONG"


# --------------------------------------------------------------------------------------------------
# What is no Redis, or has an answer of its own

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def says(text: bytes, close: bool = False) -> Talk:
    """Answers whatever is asked with this."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(text)
            await writer.drain()
            if close:
                writer.close()
                return

    return talk


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await reader.read(-1)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then."""
    await reader.read(10)
    writer.write(b"$100000\r\n")
    for _ in range(100):
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A list without an end."""
    await reader.read(10)
    writer.write(b"*200000\r\n")
    with contextlib.suppress(OSError):
        while True:
            writer.write(b"$1000\r\n" + b"a" * 1000 + b"\r\n")
            await writer.drain()


@contextlib.asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """A port on which somebody talks; a URL without a password."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


ANSWERS = [
    # name               talk                                                              verdict
    # words
    ("time-out", silence, "Retryable", "no answer within 0.5s"),
    ("drip", drip, "Retryable", "no answer within 0.5s"),
    ("closes", says(b"", close=True), "Retryable", "broke off"),
    ("ends in between", says(b"$100\r\nused_mem", close=True), "Retryable", "broke off"),
    (
        "HTML",
        says(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", close=True),
        "Permanent",
        "not a Redis",
    ),
    ("SSH", says(b"SSH-2.0-OpenSSH_9.2\r\n"), "Permanent", "not a Redis"),
    ("long line", says(b"+" + b"a" * 200_000), "Permanent", "not a Redis"),
    ("oversized", says(b"$104857600\r\n"), "Permanent", "larger than 1 MiB"),
    ("many elements", says(b"*1000000000\r\n"), "Permanent", "larger than 1 MiB"),
    ("small elements", says(b"*20000\r\n" + b":1\r\n" * 20_000), "Permanent", "larger than 1 MiB"),
    (
        "lists of lists",
        says(b"*200\r\n" + (b"*200\r\n" + b"*0\r\n" * 200) * 200),
        "Permanent",
        "larger than 1 MiB",
    ),
    (
        "long INFO",
        says(b"$70000\r\n" + b"a:b\r\n" * 14_000 + b"\r\n"),
        "Permanent",
        "longer than 64 KiB",
    ),
    ("flood", flood, "Permanent", "larger than 1 MiB"),
    ("deep", says(b"*1\r\n" * 1000), "Permanent", "not a Redis"),
    ("no number", says(b"$12a\r\n"), "Permanent", "not a Redis"),
    ("nothing", says(b"$-1\r\n"), "Permanent", "something else"),
    ("a number", says(b":5\r\n"), "Permanent", "something else"),
    ("empty", says(b"$0\r\n\r\n"), "Permanent", "something else"),
    ("other fields", says(b"$5\r\na:b\r\n\r\n"), "NoData", "says nothing of"),
    ("no numbers", says(b"$26\r\nused_memory:x\nmaxmemory:-1\r\n"), "NoData", "says nothing of"),
    ("a cluster", says(b"$17\r\ncluster_enabled:1\r\n"), "Permanent", "Redis Cluster"),
    (
        "loading",
        says(b"-LOADING Redis is loading the dataset in memory\r\n"),
        "Retryable",
        "data (LOADING)",
    ),
    ("busy", says(b"-BUSY Redis is busy running a script\r\n"), "Retryable", "(BUSY)"),
    (
        "too many",
        says(b"-ERR max number of clients reached\r\n", close=True),
        "Retryable",
        "too many clients",
    ),
    (
        "plan",
        says(b"-ERR max requests limit exceeded. Limit: 10000\r\n"),
        "Retryable",
        "limit of its plan",
    ),
    (
        "protected",
        says(b"-DENIED Redis is running in protected mode\r\n"),
        "Permanent",
        "protected mode",
    ),
    (
        "unknown command",
        says(b"-ERR unknown command 'INFO', with args " + world.PASSWORD.encode() + b"\r\n"),
        "Permanent",
        "not know the command",
    ),
    (
        "other error",
        says(b"-ERR " + world.PASSWORD.encode() + b"\r\n"),
        "Permanent",
        "the command is refused",
    ),
    (
        "new error",
        says(b"-WHATEVER " + world.PASSWORD.encode() + b"\r\n"),
        "Retryable",
        "(WHATEVER)",
    ),
    ("no code", says(b"-" + world.PASSWORD.encode() + b"\r\n"), "Retryable", "without a code"),
]


@pytest.mark.parametrize("row", ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_answers(row: tuple[str, Talk, str, str]) -> None:
    async with talking(row[1]) as url, world.logs() as lines:
        connection = link(url, timeout=world.patience(row[0]))
        kind, message = await world.verdict("redis", {"memory": {}}, connection, NEVER)
        assert (kind, row[3] in message) == (row[2], True), f"{kind}: {message}"
        with pytest.raises((Retryable, Permanent)) as caught:
            await CONNECTIONS["redis"].check(connection)
    world.assert_silent(caught.value, *lines)


async def test_nobody_listens() -> None:
    found = await world.verdict(
        "redis", {"memory": {}}, link(f"redis://127.0.0.1:{free_port()}"), NEVER
    )
    assert (found[0], "refused" in found[1]) == ("Retryable", True), found


async def test_plain_redis_where_tls_is_spoken(cache: RedisServer) -> None:
    url = cache.url(tls=True).replace(str(cache.tls_port), str(cache.port))
    found = await world.verdict("redis", {"memory": {}}, link(url, 1.0), NEVER)
    assert found[0] == "Retryable", found


# --------------------------------------------------------------------------------------------------
# Hit ratio

_links = (
    OpenConnection("cache", f"cache-{number}", None, 1.0, {}, "shop")
    for number in itertools.count()
)


def sample(hits: int, misses: int, uptime: int, run_id: str = "a") -> dict[str, str]:
    """The part of an INFO that counts."""
    counts = {"keyspace_hits": hits, "keyspace_misses": misses, "uptime_in_seconds": uptime}
    return {name: str(value) for name, value in counts.items()} | (
        {"run_id": run_id} if run_id else {}
    )


Step = tuple[float, dict[str, str], float | None, str]
AGES: list[tuple[str, HitRatio, list[Step]]] = [
    # each step: time, INFO, ratio, words
    (
        "two samples",
        HitRatio(over="1m"),
        [
            (0.0, sample(1000, 0, 500), None, "watched for 0s of 1m"),
            (60.0, sample(1080, 20, 560), 0.8, "80 hits, 20 misses in 60s"),
        ],
    ),
    (
        "growth and not the total",
        HitRatio(over="1m"),
        [
            (0.0, sample(1_000_000, 0, 500), None, ""),
            (60.0, sample(1_000_000, 50, 560), 0.0, "0 hits, 50 misses"),
        ],
    ),
    (
        "the window moves on",
        HitRatio(over="1m"),
        [
            (0.0, sample(0, 0, 500), None, ""),
            (30.0, sample(0, 100, 530), None, "watched for 30s of 1m"),
            (60.0, sample(100, 100, 560), 0.5, ""),
            (90.0, sample(200, 100, 590), 1.0, "200 hits, 0 misses in 60s"),
        ],
    ),
    (
        "no traffic is not a good cache",
        HitRatio(over="1m"),
        [
            (0.0, sample(900, 100, 500), None, ""),
            (60.0, sample(900, 100, 560), None, "0 reads in 60s"),
        ],
    ),
    (
        "too little traffic",
        HitRatio(over="1m", minReads=100),
        [
            (0.0, sample(900, 100, 500), None, ""),
            (60.0, sample(999, 100, 560), None, "99 reads in 60s (at least 100"),
            (120.0, sample(1099, 100, 620), 1.0, ""),
        ],
    ),
    (
        "a restart",
        HitRatio(over="1m"),
        [
            (0.0, sample(100, 100, 500), None, ""),
            (60.0, sample(500, 100, 30, "b"), None, "restarted"),
            (90.0, sample(600, 100, 60, "b"), None, "watched for 30s"),
            (120.0, sample(700, 100, 90, "b"), 1.0, ""),
        ],
    ),
    (
        "a restart that is told by the uptime alone",
        HitRatio(over="1m"),
        [
            (0.0, sample(100, 100, 20, ""), None, ""),
            (60.0, sample(500, 100, 30, ""), None, "restarted"),
        ],
    ),
    (
        "counters reset",
        HitRatio(over="1m"),
        [
            (0.0, sample(100, 100, 500), None, ""),
            (60.0, sample(50, 200, 560), None, "counters reset"),
            (120.0, sample(60, 150, 620), None, "counters reset"),
            (180.0, sample(60, 200, 680), 0.0, ""),
        ],
    ),
    (
        "a gap",
        HitRatio(over="1m"),
        [
            (0.0, sample(0, 0, 500), None, ""),
            (
                300.0,
                sample(500, 0, 800),
                None,
                "the sample before is 300s old; ask at least once in 1m",
            ),
            (360.0, sample(500, 100, 860), 0.0, ""),
        ],
    ),
    (
        "asked seldom, but often enough",
        HitRatio(over="1m"),
        [
            (0.0, sample(0, 0, 500), None, ""),
            (45.0, sample(50, 50, 545), None, ""),
            (90.0, sample(150, 50, 590), 0.75, "in 90s"),
        ],
    ),
    (
        "fields that are missing",
        HitRatio(over="1m"),
        [
            (
                0.0,
                {"keyspace_hits": "1", "uptime_in_seconds": "1"},
                None,
                "INFO says nothing of keyspace_hits",
            ),
            (60.0, sample(1, 0, 61) | {"keyspace_misses": "-5"}, None, "INFO says nothing"),
            (120.0, sample(1, 0, 121) | {"keyspace_hits": "1e9"}, None, "INFO says nothing"),
        ],
    ),
]


@pytest.mark.parametrize("name, config, steps", AGES, ids=[row[0] for row in AGES])
def test_hit_ratio(name: str, config: HitRatio, steps: list[Step]) -> None:
    link = next(_links)
    for at, info, expected, words in steps:
        found = hit_ratio_of(info, config, link, 1e6 + at)
        assert found.value == (expected if expected is None else pytest.approx(expected)), found
        assert words in found.message


def test_samples_are_few_however_often_is_asked() -> None:
    """An hour of questions, one a second: the ratio is that of the window, and little is kept."""
    link, config = next(_links), HitRatio(over="1h")
    for at in range(3 * 3600):
        found = hit_ratio_of(sample(at // 3600 * 100 + at, at, 500 + at), config, link, 1e6 + at)
    kept = gate._kept_samples().get((link.identity, "1h"))
    assert kept is not None and len(kept) <= gate._MAX_SAMPLES + 3
    assert found.value == pytest.approx(0.507, abs=0.005)
    assert "in 36" in found.message


def test_samples_of_different_connections_and_windows_do_not_mix() -> None:
    one, other = next(_links), next(_links)
    config = HitRatio(over="1m")
    hit_ratio_of(sample(0, 0, 500), config, one, 0.0)
    assert hit_ratio_of(sample(50, 50, 560), config, other, 60.0).value is None
    assert hit_ratio_of(sample(50, 50, 560), HitRatio(over="30s"), one, 60.0).value is None
    assert hit_ratio_of(sample(50, 50, 560), config, one, 60.0).value == 0.5


async def test_hit_ratio_of_a_real_cache(
    cache: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = itertools.count(1000.0, 6.0)
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: next(now)))
    connection, config = link(cache.url()), {"hitRatio": {"over": "5s"}}
    cache.do("SET", "here", "1")
    first = await world.verdict("redis", config, connection, {"min": "80%"})
    assert first[0] == "NoData", first
    idle = await world.verdict("redis", config, connection, {"min": "80%"})
    assert (idle[0], "0 reads" in idle[1]) == ("NoData", True), idle
    with cache.session() as session:
        for index in range(10):
            session.do("GET", "here" if index else "nowhere")
    busy = await world.verdict("redis", config, connection, {"min": "80%"})
    assert busy == ("Good", busy[1]) and "9 hits, 1 misses" in busy[1]
    cache.do("CONFIG", "RESETSTAT")
    reset = await world.verdict("redis", config, connection, {"min": "80%"})
    assert (reset[0], "counters reset" in reset[1]) == ("NoData", True), reset


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, "exactly one of hitRatio, memory"),
        ({"hitRatio": {}, "memory": {}}, "exactly one of hitRatio, memory"),
        ({"hitRatio": {"over": "2h"}}, "is not a window"),
        ({"hitRatio": {"over": "0s"}}, "is not a window"),
        ({"hitRatio": {"minReads": 0}}, "greater than or equal to 1"),
    ],
)
@pytest.mark.parametrize("kind", ["redis", "upstash"])
def test_what_cannot_be_asked(kind: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GATES[kind].config.model_validate(fields)


# --------------------------------------------------------------------------------------------------
# Flush


def operation(key: str = "7.mitigate.flush.1-abc123", kind: Any = "act") -> Operation:
    """An operation of a run."""
    return Operation(key, kind, "step/flush")


def config(prefix: str) -> Any:
    """What a step says."""
    return ACTIONS["redis"].config.model_validate({"flush": {"prefix": prefix}})


@pytest.fixture
def filled(cache: RedisServer) -> RedisServer:
    """2,500 keys to go, some that look like them, and some whose names are no text."""
    with cache.session() as session:
        session.do("FLUSHALL")
        for index in range(0, 2500, 500):
            session.do(
                "MSET",
                *(part for number in range(index, index + 500) for part in (f"a*c:{number}", "1")),
            )
        session.do(
            "MSET", "abc:1", "1", "a*", "1", "xa*c:1", "1", "A*C:1", "1", b"a*c:\xff\xfe", "1"
        )
        session.do("RPUSH", "a*c:list", *map(str, range(1000)))
    return cache


def keys(server: RedisServer) -> set[bytes]:
    """What is left, but for marks."""
    return {key for key in server.do("KEYS", "*") if not key.startswith(b"gatewright:")}


LEFT = {b"abc:1", b"a*", b"xa*c:1", b"A*C:1"}


async def test_a_flush_removes_a_prefix_and_nothing_else(filled: RedisServer) -> None:
    flush, connection = ACTIONS["redis"], link(filled.url())
    assert (await flush.look(config("a*c:"), connection)).problem is None
    assert (await flush.follow(config("a*c:"), connection, operation(), None)).state == "Absent"
    done = await flush.perform(config("a*c:"), connection, operation(), None)
    assert (done.state, done.message, done.outputs) == (
        "Succeeded",
        "2502 keys removed",
        {"removed": "2502"},
    )
    assert keys(filled) == LEFT
    assert (await flush.follow(config("a*c:"), connection, operation(), None)).outputs == {
        "removed": "2502"
    }
    assert 0 < filled.do("TTL", filled.do("KEYS", "gatewright:flush:*")[0]) <= 86_400


@pytest.mark.parametrize(
    "prefix", ["a[b]:", "a?b:", "a\\b:", "a^b:", "[^a]:", "a-b:", "ñ:", "a b:", "a\r\nb:"]
)
async def test_a_prefix_is_taken_literally(cache: RedisServer, prefix: str) -> None:
    cache.do("FLUSHALL")
    cache.do(
        "MSET",
        f"{prefix}1",
        "1",
        f"{prefix}*",
        "1",
        "ab:1",
        "1",
        "axb:1",
        "1",
        "b:1",
        "1",
        "axxb:1",
        "1",
    )
    done = await ACTIONS["redis"].perform(config(prefix), link(cache.url()), operation(), None)
    assert (done.state, done.outputs) == ("Succeeded", {"removed": "2"})
    assert keys(cache) == {b"ab:1", b"axb:1", b"b:1", b"axxb:1"}


async def test_done_is_done(filled: RedisServer) -> None:
    flush, connection = ACTIONS["redis"], link(filled.url())
    await flush.perform(config("a*c:"), connection, operation(), None)
    filled.do("SET", "a*c:new", "1")
    again = await flush.perform(config("a*c:"), connection, operation(), None)
    assert (again.state, again.outputs) == ("Succeeded", {"removed": "2502"})
    assert b"a*c:new" in keys(filled), "what was cached since is not thrown away by a repetition"
    other = await flush.perform(
        config("a*c:"), connection, operation("8.mitigate.flush.1-abc123"), None
    )
    assert other.outputs == {"removed": "1"}, "another operation is another flush"


async def test_a_flush_goes_on_from_its_mark(
    filled: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look does a bounded piece of work; a new process goes on where the old one was
    killed."""
    monkeypatch.setattr(flushing, "SLICE_BUDGET_S", 0.0)
    flush = ACTIONS["redis"]
    first = await flush.perform(config("a*c:"), link(filled.url()), operation(), None)
    assert first.state == "Running" and "keys removed so far" in first.message
    looks = 1
    while True:
        left = len(keys(filled))
        found = await flush.follow(config("a*c:"), link(filled.url()), operation(), None)
        looks += 1
        assert left - len(keys(filled)) <= 2 * flushing.SCAN_COUNT
        if found.state != "Running":
            break
        assert looks < 50
    assert (found.state, found.outputs, keys(filled)) == ("Succeeded", {"removed": "2502"}, LEFT)
    assert looks >= 4


async def test_a_lost_mark_begins_again(
    filled: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "SLICE_BUDGET_S", 0.0)
    flush, connection = ACTIONS["redis"], link(filled.url())
    await flush.perform(config("a*c:"), connection, operation(), None)
    mark = filled.do("KEYS", "gatewright:flush:*")[0]
    for lost in (None, "not JSON", '{"cursor": "0"', '{"other": 1}'):
        filled.do("DEL", mark) if lost is None else filled.do("SET", mark, lost)
        assert (await flush.follow(config("a*c:"), connection, operation(), None)).state == "Absent"
    monkeypatch.setattr(flushing, "SLICE_BUDGET_S", 5.0)
    assert (await flush.perform(config("a*c:"), connection, operation(), None)).state == "Succeeded"
    assert keys(filled) == LEFT


async def test_a_flush_leaves_marks_alone(filled: RedisServer) -> None:
    flush, connection = ACTIONS["redis"], link(filled.url())
    filled.do("SET", "gatewright:flush:of-somebody-else", "{}")
    done = await flush.perform(config("gatewright:"), connection, operation(), None)
    assert (done.state, done.outputs) == ("Succeeded", {"removed": "0"})
    assert filled.do("EXISTS", "gatewright:flush:of-somebody-else") == 1


async def test_a_server_that_is_full_can_be_flushed(filled: RedisServer) -> None:
    filled.do("CONFIG", "SET", "maxmemory", "1000000")
    try:
        with pytest.raises(RuntimeError, match="OOM"):
            filled.do("SET", "more", "1")
        done = await ACTIONS["redis"].perform(config("a*c:"), link(filled.url()), operation(), None)
    finally:
        filled.do("CONFIG", "SET", "maxmemory", str(MEMORY))
    assert (done.state, keys(filled)) == ("Succeeded", LEFT)


async def test_only_what_a_flush_needs_is_sent(filled: RedisServer) -> None:
    filled.do("CONFIG", "RESETSTAT")
    await ACTIONS["redis"].perform(config("a*c:"), link(filled.url()), operation(), None)
    sent = set(fields_of(filled.do("INFO", "commandstats")))
    assert sent <= {
        f"cmdstat_{name}" for name in ("auth", "info", "get", "set", "scan", "unlink")
    } | {"cmdstat_config|resetstat"}


async def test_who_may_not_remove_removes_nothing(filled: RedisServer) -> None:
    for user in ("reader", "blind"):
        with pytest.raises(Permanent, match="may not run the command") as caught:
            await ACTIONS["redis"].perform(
                config("a*c:"), link(filled.url(user=user)), operation(), None
            )
        world.assert_silent(caught.value)
    assert len(keys(filled)) == 2502 + len(LEFT)


async def test_there_is_no_way_back(filled: RedisServer) -> None:
    flush, connection = ACTIONS["redis"], link(filled.url())
    sight = await flush.look(config("a*c:"), connection)
    assert (sight.snapshot, sight.problem) == (None, None)
    for kind in ("restore", "set", "apply"):
        with pytest.raises(Permanent, match="cannot be undone"):
            await flush.perform(config("a*c:"), connection, operation(kind=kind), {})
    assert len(keys(filled)) == 2502 + len(LEFT)
    assert flush.identity(config("a*c:")) == ""
    assert await flush.trouble(config("a*c:"), connection, operation()) is None


@pytest.mark.parametrize("kind", ["redis", "upstash"])
def test_everything_is_no_prefix(kind: str) -> None:
    for flush in ({"prefix": ""}, {}, {"prefix": "a", "all": True}):
        with pytest.raises(ValueError, match=r"prefix|all"):
            ACTIONS[kind].config.model_validate({"flush": flush})
    with pytest.raises(ValueError, match="flush"):
        ACTIONS[kind].config.model_validate({})


@pytest.mark.parametrize("row", ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_answers_to_a_flush(row: tuple[str, Talk, str, str]) -> None:
    """Nothing that goes wrong on the way is a flush that succeeded."""
    flush = ACTIONS["redis"]
    async with talking(row[1]) as url, world.logs() as lines:
        for ask in (flush.perform, flush.follow):
            outcome = ""
            try:
                patience = world.patience(row[0])
                outcome = (await ask(config("a"), link(url, patience), operation(), None)).state
            except (Retryable, Permanent) as error:
                world.assert_silent(error)
            assert outcome in ("", "Absent"), outcome
    world.assert_silent(*lines)
