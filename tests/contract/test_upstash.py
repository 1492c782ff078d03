"""upstash gates and flushes against Upstash's REST API as it stands over a real Redis."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import upstash_redis.asyncio
from upstash_redis.errors import UpstashError

from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.redis import flushing, gate
from gatewright.providers.registry import ACTIONS, CONNECTIONS
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.fakes.redis_server import RedisServer
from tests.fakes.serving import linked, serving
from tests.fakes.upstash import Upstash

TOKEN = world.TOKEN
NEVER = {"max": "101%", "min": "0%"}


def link(url: str, token: str = TOKEN, timeout: float = 2.0) -> OpenConnection:
    """A Connection with a token."""
    return linked("upstash", {"url": url}, {"token": token}, timeout)


@pytest.fixture
def fake(cache: RedisServer) -> Upstash:
    """A database with some keys."""
    with cache.session() as session:
        session.do("FLUSHALL")
        session.do(
            "MSET",
            *(part for number in range(1200) for part in (f"foco:{number}", "1")),
            "other",
            "1",
        )
    return Upstash(cache, TOKEN)


def operation(kind: Any = "act") -> Operation:
    """An operation of a run."""
    return Operation("7.mitigate.flush.1-abc123", kind, "step/flush")


def config(prefix: str = "foco:") -> Any:
    """What a step says."""
    return ACTIONS["upstash"].config.model_validate({"flush": {"prefix": prefix}})


async def test_upstashs_own_client_takes_the_stand_in_for_the_real_thing(fake: Upstash) -> None:
    """What the stand-in answers is what Upstash's client understands: text, nothing, lists, numbers
    and errors."""
    async with (
        serving(fake.app()) as url,
        upstash_redis.asyncio.Redis(
            url=url, token=TOKEN, allow_telemetry=False, rest_retries=0
        ) as theirs,
        upstash_redis.asyncio.Redis(
            url=url, token="wrong", allow_telemetry=False, rest_retries=0
        ) as stranger,
    ):
        assert (await theirs.ping(), await theirs.set("a", "é", ex=50), await theirs.get("a")) == (
            "PONG",
            True,
            "é",
        )
        assert await theirs.get("nothing") is None
        cursor, seen = 0, set()
        while True:
            cursor, keys = await theirs.scan(cursor, match="foco:*", count=500)
            seen |= set(keys)
            if not cursor:
                break
        assert len(seen) == 1200
        assert await theirs.unlink(*seen) == 1200
        with pytest.raises(UpstashError, match="ERR unknown command"):
            await theirs.execute(["NOPE"])
        with pytest.raises(UpstashError, match="WRONGPASS"):
            await stranger.ping()


async def test_memory(fake: Upstash) -> None:
    async with serving(fake.app()) as url:
        found = await world.verdict("upstash", {"memory": {}}, link(url), {"max": "90%"})
        assert found[0] == "Good", found
        assert (await world.verdict("upstash", {"memory": {}}, link(url), {"max": "0.1%"}))[
            0
        ] == "Breach"
    assert fake.commands == [["INFO"], ["INFO"]]


async def test_hit_ratio(fake: Upstash, monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(1000.0, 6.0)
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: next(now)))
    question = {"hitRatio": {"over": "5s"}}
    async with serving(fake.app()) as url:
        connection = link(url)
        assert (await world.verdict("upstash", question, connection, {"min": "80%"}))[0] == "NoData"
        idle = await world.verdict("upstash", question, connection, {"min": "80%"})
        assert (idle[0], "0 reads" in idle[1]) == ("NoData", True), idle
        for index in range(4):
            fake.redis.do("GET", f"foco:{index}" if index else "nowhere")
        busy = await world.verdict("upstash", question, connection, {"min": "80%"})
    assert (busy[0], "75% < 80%" in busy[1]) == ("Breach", True), busy


INFOS: list[tuple[Any, str, str]] = [
    # body                                                verdict      words
    ({"result": "# Stats\r\n"}, "Permanent", "something else"),
    ({"result": "# Memory\r\nused_memory:10\r\n"}, "NoData", "says nothing of"),
    ({"result": None}, "Permanent", "something else"),
    ({"result": 5}, "Permanent", "something else"),
    ({"result": ["a:b"]}, "Permanent", "something else"),
    ({"value": "used_memory:1"}, "Permanent", "not the REST API of Upstash"),
    ({"error": "ERR max daily request limit exceeded"}, "Retryable", "limit of its plan"),
    ({"error": f"NOPERM {TOKEN}"}, "Permanent", "may not run"),
    ({"error": f"{TOKEN}"}, "Retryable", "without a code"),
    ({"error": {"message": "no"}}, "Permanent", "not the REST API of Upstash"),
]


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("row", INFOS, ids=[str(row[0])[:40] for row in INFOS])
async def test_answers(fake: Upstash, status: int, row: tuple[Any, str, str]) -> None:
    fake.answers["INFO"] = (status, row[0])
    expected = (
        row[1:]
        if status == 200 or "error" in row[0]
        else ("Permanent", "not the REST API of Upstash")
    )
    async with serving(fake.app()) as url, world.logs() as lines:
        kind, message = await world.verdict("upstash", {"memory": {}}, link(url), NEVER)
    assert (kind, expected[1] in message) == (expected[0], True), f"{kind}: {message}"
    world.assert_silent(*lines)


async def test_credentials(fake: Upstash) -> None:
    async with serving(fake.app()) as url, world.logs() as lines:
        await CONNECTIONS["upstash"].check(link(url))
        # the answer repeats the token
        wrong = linked("upstash", {"url": url}, {"token": world.HEADER})
        with pytest.raises(Permanent, match="credentials are refused") as caught:
            await CONNECTIONS["upstash"].check(wrong)
        assert "WRONGPASS" not in str(caught.value), "what the server says is not repeated"
        assert (await world.verdict("upstash", {"memory": {}}, wrong, NEVER))[0] == "Permanent"
        fake.answers["PING"] = (200, {"result": "OK"})
        with pytest.raises(Permanent, match="not the REST API"):
            await CONNECTIONS["upstash"].check(link(url))
    world.assert_silent(caught.value, *lines)


async def test_a_flush_removes_a_prefix_and_nothing_else(fake: Upstash) -> None:
    flush = ACTIONS["upstash"]
    async with serving(fake.app()) as url:
        connection = link(url)
        assert (await flush.look(config(), connection)).problem is None
        assert (await flush.follow(config(), connection, operation(), None)).state == "Absent"
        done = await flush.perform(config(), connection, operation(), None)
        assert (done.state, done.outputs) == ("Succeeded", {"removed": "1200"})
        assert fake.redis.do("EXISTS", "other") == 1
        fake.redis.do("SET", "foco:new", "1")
        assert (await flush.perform(config(), connection, operation(), None)).outputs == {
            "removed": "1200"
        }
        assert (await flush.follow(config(), connection, operation(), None)).state == "Succeeded"
        with pytest.raises(Permanent, match="cannot be undone"):
            await flush.perform(config(), connection, operation("restore"), None)
        assert await flush.trouble(config(), connection, operation()) is None
    assert {command[0] for command in fake.commands} == {"PING", "GET", "SCAN", "UNLINK", "SET"}
    assert fake.redis.do("EXISTS", "foco:new") == 1


async def test_a_flush_goes_on_from_its_mark(
    fake: Upstash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "SLICE_BUDGET_S", 0.0)
    flush, looks = ACTIONS["upstash"], 0
    async with serving(fake.app()) as url:
        found = await flush.perform(config(), link(url), operation(), None)
        while found.state == "Running" and looks < 50:
            found = await flush.follow(config(), link(url), operation(), None)
            looks += 1
    assert (found.state, found.outputs, looks > 1) == ("Succeeded", {"removed": "1200"}, True)


async def test_names_that_are_no_text_are_not_said_to_be_gone(fake: Upstash) -> None:
    fake.redis.do("SET", b"foco:\xff\xfe", "1")
    async with serving(fake.app()) as url:
        found = await ACTIONS["upstash"].perform(config(), link(url), operation(), None)
    assert (found.state, found.outputs) == ("Failed", {"removed": "1200"})
    assert "the names of 1 are no UTF-8" in found.message
    assert fake.redis.do("EXISTS", b"foco:\xff\xfe") == 1


async def test_a_server_that_takes_patterns_otherwise_loses_nothing_else(fake: Upstash) -> None:
    fake.answers["SCAN"] = (200, {"result": ["0", ["foco:1", "other", "xfoco:1"]]})
    async with serving(fake.app()) as url:
        found = await ACTIONS["upstash"].perform(config(), link(url), operation(), None)
    assert (found.state, found.outputs) == ("Succeeded", {"removed": "1"})
    assert [command for command in fake.commands if command[0] == "UNLINK"] == [
        ["UNLINK", "foco:1"]
    ]


@pytest.mark.parametrize(
    "command, body, outcome",
    [
        ("SCAN", {"result": "OK"}, Permanent),
        ("SCAN", {"result": ["a", []]}, Permanent),
        ("SCAN", {"result": ["0", [1]]}, Permanent),
        ("UNLINK", {"result": "2"}, Permanent),
        (
            "UNLINK",
            {"error": "NOPERM this user has no permissions to run the 'unlink' command"},
            Permanent,
        ),
        ("UNLINK", {"error": "ERR max daily request limit exceeded"}, Retryable),
        ("GET", {"error": "ERR max requests limit exceeded"}, Retryable),
    ],
)
async def test_a_flush_that_is_refused(
    fake: Upstash, command: str, body: Any, outcome: type[Exception]
) -> None:
    fake.answers[command] = (400 if "error" in body else 200, body)
    async with serving(fake.app()) as url:
        with pytest.raises(outcome):
            await ACTIONS["upstash"].perform(config(), link(url), operation(), None)
        fake.answers.clear()
        done = await ACTIONS["upstash"].perform(config(), link(url), operation(), None)
    assert (done.state, done.outputs) == ("Succeeded", {"removed": "1200"})


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    special = {"200-error": "Retryable"}
    expected = (VERDICTS | special)[fault]
    connection, flush = link(server.url(fault), timeout=world.patience(fault)), ACTIONS["upstash"]
    async with world.logs() as lines:
        kind, message = await world.verdict("upstash", {"memory": {}}, connection, NEVER)
        assert kind == expected, message
        for ask in (
            lambda: CONNECTIONS["upstash"].check(
                link(server.url(fault), timeout=world.patience(fault))
            ),
            lambda: flush.look(config(), connection),
            lambda: flush.perform(config(), connection, operation(), None),
            lambda: flush.follow(config(), connection, operation(), None),
        ):
            with pytest.raises(Retryable if expected == "Retryable" else Permanent) as caught:
                await ask()
            world.assert_silent(caught.value)
    world.assert_silent(*lines)
