"""The same table for every provider that is registered: what can go wrong, and that none of it is a
pass.

    ok, breach, no data                     gates, each against its own stand-in
    401 403 404 429 500 time-out HTML oversized redirect    every provider, by every way it has of asking

When a provider that met a limit asks again is in `test_limits.py`; the tables of single providers
say more, and in what words.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers import registry
from gatewright.providers.statuspage import connection as statuspage
from tests.contract import cases, world
from tests.contract.listed import assert_all_listed
from tests.contract.refusals import VERDICTS
from tests.contract.telling import outcome
from tests.contract.test_limits import ways
from tests.contract.test_redis import Talk, says, silence, talking
from tests.contract.test_redis import link as redis_link
from tests.fakes.serving import always, serving

ROWS = ("401", "403", "404", "429", "500", "time-out", "html", "oversized", "redirect")
ANSWERS: Mapping[str, Mapping[str, str]] = {
    # what an answer means to a gate that looks at it itself
    "http": dict.fromkeys(("401", "403", "404", "429", "500"), "Breach"),
    "openai": {"401": "Breach", "403": "NoData", "429": "NoData"},
}
REACHED: Mapping[str, Mapping[str, str]] = {
    # what a check of credentials takes for an answer: neither asks for anything in particular
    "http": dict.fromkeys(("404", "429", "500", "html", "redirect"), "Good"),
    "webhook": dict.fromkeys(("404", "html", "oversized"), "Good"),  # by HEAD, which has no body
    "openai": {"429": "Permanent"},  # not as OpenAI says it: something else answers there
}
UNSEEN: Mapping[tuple[str, str, str], set[str]] = {
    # a token that may mark releases and see nothing else is a good one for that
    ("actions/sentry", "look", "403"): {"a Sight"},
}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(statuspage, "REQUEST_SPACING_S", 0.0)
    yield


def test_every_provider_has_its_case() -> None:
    for name in ("GATES", "EXTERNAL_TARGETS", "FLAGS", "ACTIONS", "NOTIFIERS"):
        assert_all_listed(
            getattr(cases, name),
            getattr(registry, name),
            f"{name} in tests/contract/cases.py",
            "its case",
        )
    assert_all_listed(
        {*cases.PLAIN, *cases.OPENED, *cases.WIRED},
        registry.CONNECTIONS,
        "OPENED in tests/contract/cases.py",
        "its other fields, and the fields of its secrets; to WIRED if it speaks no HTTP",
    )


# --- ok, breach, no data


@pytest.fixture
def servers(server: world.Server, request: pytest.FixtureRequest) -> cases.Servers:
    """What a gate may need."""
    return cases.Servers(
        server,
        lambda: request.getfixturevalue("database"),
        lambda: request.getfixturevalue("cache"),
    )


@pytest.mark.parametrize("row", ["ok", "breach", "no data"])
@pytest.mark.parametrize("key", registry.GATES)
async def test_what_a_gate_says(servers: cases.Servers, key: str, row: str) -> None:
    case = cases.GATES[key]
    async with case.stands(row, servers) as (link, other):
        kind, message = await world.verdict(key, {**case.config, **other}, link, case.limits)
    assert kind == {"ok": "Good", "breach": "Breach", "no data": case.absent}[row], message


# --- what is no answer


async def _come_of(ask: Callable[[], Awaitable[Any]]) -> str:
    """Which error it was; else what was said, where that may be said without an answer."""
    try:
        found = await ask()
    except (Retryable, Permanent) as error:
        world.assert_silent(error)
        return "Retryable" if isinstance(error, Retryable) else "Permanent"
    world.assert_silent(found)
    match found:
        case LiveState():
            return "Permanent" if found.problem else "a Sight"
        case Progress():
            return found.state
    return "Good"


def _links(server: world.Server, connection: str) -> Iterator[tuple[str, OpenConnection]]:
    for row in ROWS:
        yield row, cases.link(connection, server.url(row), world.patience(row))


def _gates(*connections: str) -> list[str]:
    return [
        key
        for key, gate in registry.GATES.items()
        if gate.connection not in cases.WIRED and key not in connections
    ]


@pytest.mark.parametrize("key", _gates())
async def test_no_failure_is_a_value(server: world.Server, key: str) -> None:
    case = cases.GATES[key]
    expected = {row: ({**VERDICTS, **ANSWERS.get(key, {})})[row] for row in ROWS}

    async def ask(link: OpenConnection) -> str:
        kind, _ = await world.verdict(key, case.config, link, case.limits)
        return "Permanent" if kind == "NotFound" else kind

    links = dict(_links(server, registry.GATES[key].connection))
    async with world.logs() as lines:
        found = dict(zip(links, await asyncio.gather(*map(ask, links.values())), strict=True))
    assert found == expected
    assert "Good" not in found.values()
    world.assert_silent(*lines)


@pytest.mark.parametrize("method", ["look", "perform", "follow"])
@pytest.mark.parametrize(
    "name", [name for name, (it, _) in cases.EXTERNALS.items() if it.connection not in cases.WIRED]
)
async def test_no_failure_is_progress(server: world.Server, name: str, method: str) -> None:
    provider, raw = cases.EXTERNALS[name]
    config = provider.config.model_validate(raw)
    more = () if method == "look" else (cases.operation(name), None)
    for row, link in _links(server, provider.connection):
        come = await _come_of(partial(getattr(provider, method), config, link, *more))
        # what is not there has not begun
        wanted = {VERDICTS[row]} | ({"Absent"} if row == "404" and method == "follow" else set())
        wanted |= UNSEEN.get((name, method, row), set())
        assert come in wanted, f"{row}: {come}"


@pytest.mark.parametrize("key", registry.NOTIFIERS)
async def test_no_failure_is_delivery(server: world.Server, key: str) -> None:
    config, wanted = cases.NOTIFIERS[key]
    found = {
        row: (await outcome(key, dict(config), link, wanted))[0]
        for row, link in _links(server, key)
    }
    assert found == {row: VERDICTS[row] for row in ROWS}


@pytest.mark.parametrize("key", [key for key in registry.CONNECTIONS if key not in cases.WIRED])
async def test_no_failure_is_a_good_credential(server: world.Server, key: str) -> None:
    connector = registry.CONNECTIONS[key]
    links = dict(_links(server, key))
    asked = [_come_of(partial(connector.check, link)) for link in links.values()]
    found = dict(zip(links, await asyncio.gather(*asked), strict=True))
    assert found == {row: ({**VERDICTS, **REACHED.get(key, {})})[row] for row in ROWS}


@pytest.mark.parametrize("status", [200, 400, 403])
@pytest.mark.parametrize("key", cases.OPENED)
async def test_no_secret_that_an_answer_repeats_is_said(key: str, status: int) -> None:
    """Each field of a Secret has a value of its own, so none is hidden by chance of another."""
    words = " ".join(cases.secret_values(cases.OPENED[key][1]).values())
    body = {"error": {"message": words, "code": words}, "message": words, "status": words}
    async with serving(always(body, status)) as url:
        asked = [partial(registry.CONNECTIONS[key].check, cases.link(key, url, 5.0))]
        asked += [partial(ask, cases.link(key, url, 5.0)) for ask in ways(key)]
        for ask in asked:
            await _come_of(ask)


def test_every_value_of_a_secret_is_looked_for() -> None:
    fields = ("apiKey", "appKey", "token")
    values = cases.secret_values(fields)
    assert tuple(values) == fields and len(set(values.values())) == len(fields)
    for value in values.values():
        with pytest.raises(AssertionError, match="a secret in"):
            world.assert_silent(f"refused: {value}")


# --- the same of what speaks no HTTP

TALKS: list[tuple[str, Talk, str]] = [
    ("401",       says(b"-WRONGPASS invalid username-password pair\r\n"),           "Permanent"),
    ("403",       says(b"-NOPERM this user has no permissions\r\n"),                "Permanent"),
    ("404",       says(b"-ERR unknown command 'INFO'\r\n"),                         "Permanent"),
    ("429",       says(b"-ERR max requests limit exceeded. Limit: 10000\r\n"),      "Retryable"),
    ("500",       says(b"-LOADING Redis is loading the dataset in memory\r\n"),     "Retryable"),
    ("time-out",  silence,                                                          "Retryable"),
    ("html",      says(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", close=True),      "Permanent"),
    ("oversized", says(b"$104857600\r\n"),                                          "Permanent"),
    ("redirect",  says(b"-MOVED 3999 127.0.0.1:6381\r\n"),                          "Permanent"),
]  # fmt: skip


@pytest.mark.parametrize("row", TALKS, ids=[row[0] for row in TALKS])
async def test_redis(row: tuple[str, Talk, str]) -> None:
    name, talk, expected = row
    provider, raw = cases.EXTERNALS["actions/redis"]
    config, operation = (
        provider.config.model_validate(raw),
        Operation("7.deploy.act.1-3f2a1c", "act", "step/redis"),
    )
    async with talking(talk) as url:
        link = redis_link(url, world.patience(name))
        asked: list[Callable[[], Awaitable[Any]]] = [
            lambda: provider.look(config, link),
            lambda: provider.perform(config, link, operation, None),
            lambda: provider.follow(config, link, operation, None),
            lambda: registry.CONNECTIONS["redis"].check(link),
        ]
        kind, message = await world.verdict(
            "redis", cases.GATES["redis"].config, link, {"max": "90%"}
        )
        assert kind == expected, message
        assert {await _come_of(ask) for ask in asked} == {expected}


STATEMENTS = [
    # row         what of the URL is other           statement
    # verdict
    ("401", {"password": "wrong"}, "select 1", "Permanent"),
    ("403", {}, "select id from salaries", "Permanent"),
    ("404", {"database": "nowhere"}, "select 1", "Permanent"),
    ("429", {"user": "crowd"}, "select 1", "Retryable"),
    ("500", {}, "select pg_terminate_backend(pg_backend_pid())", "Retryable"),
    ("time-out", {}, "select length(pg_sleep(9)::text)", "Retryable"),
    ("oversized", {}, "select generate_series(1, 50000000)", "Permanent"),
]


def test_every_row_is_there_for_what_speaks_no_http() -> None:
    assert {row[0] for row in TALKS} == set(ROWS)
    # PostgreSQL sends nobody elsewhere
    assert {row[0] for row in STATEMENTS} | {"html", "redirect"} == set(ROWS)


@pytest.mark.parametrize("row", STATEMENTS, ids=[row[0] for row in STATEMENTS])
async def test_postgres(
    database: world.Postgres, row: tuple[str, dict[str, str], str, str]
) -> None:
    name, change, statement, expected = row
    async with world.logs() as lines:
        link = world.sql_link(database.url(**change), world.patience(name))
        with database.crowded() if name == "429" else nullcontext():
            kind, message = await world.verdict("sql", {"query": statement}, link, {"max": "9"})
            patient = dataclasses.replace(link, timeout=30.0)
            checked = await _come_of(lambda: registry.CONNECTIONS["postgres"].check(patient))
    assert kind == expected, message
    assert checked == (expected if name in ("401", "404", "429") else "Good")
    world.assert_silent(*lines)


async def test_postgres_that_is_a_web_server() -> None:
    async with talking(says(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", close=True)) as url:
        port = url.rpartition(":")[2]
        link = world.sql_link(
            f"postgresql://reader:{world.PASSWORD_QUOTED}@127.0.0.1:{port}/shop", 5.0
        )
        kind, message = await world.verdict("sql", {"query": "select 1"}, link, {"max": "9"})
    assert kind == "Retryable", message
