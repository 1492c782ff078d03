"""One case of every provider in the registry, for the table in `test_table.py`.

A gate's says how its system looks where all is well, where it is not, and where it has nothing to
say; the others name a configuration. Who adds a provider adds its case here; `test_table.py` fails
until then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection
from gatewright.providers import registry
from tests.contract import (
    test_github,
    test_launchdarkly,
    test_ofrep,
    test_openai,
    test_redis,
    test_sentry,
    test_supabase,
    test_unleash,
    test_vercel,
    world,
)
from tests.contract.telling import message
from tests.contract.test_vercel_flags import CONFIG as VARIABLES
from tests.contract.test_vercel_target import CONFIG as TARGET
from tests.fakes.github import Github
from tests.fakes.redis_server import RedisServer
from tests.fakes.serving import linked, serving
from tests.fakes.supabase import PROJECT, Supabase
from tests.fakes.upstash import Upstash
from tests.fakes.vercel import Vercel

Config = Mapping[str, Any]
PLAIN = ("prometheus", "http")
OPENED: Mapping[str, tuple[dict[str, str], tuple[str, ...]]] = {
    # Connection: its other fields, the fields of its secrets
    "github": ({}, ("token",)),
    "launchdarkly": ({}, ("token",)),
    "ofrep": ({}, ("bearerToken",)),
    "openai": ({}, ("apiKey",)),
    "pagerduty": ({}, ("routingKey",)),
    "sentry": ({"organization": "acme"}, ("token",)),
    "slack": ({}, ("token",)),
    "statuspage": ({}, ("apiKey",)),
    "supabase": ({}, ("token",)),
    "unleash": ({}, ("token",)),
    "upstash": ({}, ("token",)),
    "vercel": ({"teamId": "team_foco"}, ("token",)),
    "webhook": ({}, ("secret",)),
}
"""Every Connection that goes over HTTP, but for `PLAIN`."""
WIRED = ("postgres", "redis")
"""Connections that speak a protocol of their own."""


def link(connection: str, url: str, timeout: float) -> OpenConnection:
    """A Connection of a kind to this URL."""
    if connection in PLAIN:
        return world.http_link(url, timeout)
    fields, secrets = OPENED[connection]
    return linked(connection, {"url": url, **fields}, secret_values(secrets), timeout)


def secret_values(fields: tuple[str, ...]) -> dict[str, str]:
    """What stands in the Secrets of a Connection, another value in each of these fields."""
    assert len(fields) <= len(world.TOKENS), "add a value to TOKENS in tests/contract/world.py"
    return dict(zip(fields, world.TOKENS, strict=False))


# --- gates


@dataclass(frozen=True)
class GateCase:
    """What a gate is asked where all is `ok`, in `breach`, or where there is `no data`."""

    config: Config
    stands: Callable[[str, Servers], AbstractAsyncContextManager[tuple[OpenConnection, Config]]]
    """The system in one of these states: a way to it, and what the question has to say
    otherwise."""
    limits: Mapping[str, str] = field(default_factory=dict)
    absent: str = "NoData"
    """What comes of `no data`."""


@dataclass(frozen=True)
class Servers:
    """What the tests have started."""

    faulty: world.Server
    database: Callable[[], world.Postgres]
    cache: Callable[[], RedisServer]


@asynccontextmanager
async def _plain(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    yield world.http_link(servers.faulty.url({"no data": "empty"}.get(row, row)), 5.0), {}


@asynccontextmanager
async def _sql(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    wanted = {"ok": "done", "breach": "true", "no data": "false"}[row]
    yield (
        world.sql_link(servers.database().url(), 5.0),
        {"query": f"select max(id)::int from tasks where {wanted}" if row == "no data" else
                  f"select count(*) from tasks where {wanted}"},
    )  # fmt: skip


@asynccontextmanager
async def _github(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    fake = Github(world.TOKEN)
    {
        "ok": test_github.green,
        "breach": test_github.lint("failure"),
        "no data": test_github.nothing,
    }[row](fake)
    async with serving(fake.app()) as url:
        yield link("github", url, 5.0), {}


@asynccontextmanager
async def _sentry(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    states: dict[str, dict[str, Any]] = {
        "ok": {},
        "breach": {"errors": lambda ago: 3},
        "no data": {"transactions": 0},
    }
    async with test_sentry.sentry(**states[row]) as (_, connection):
        yield connection, {}


@asynccontextmanager
async def _supabase(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    backups = [test_supabase.backup({"ok": 1.0, "breach": 31.0, "no data": None}[row])]
    async with serving(Supabase(world.TOKEN, backups=backups).app()) as url:
        yield link("supabase", url, 5.0), {}


INFO = {
    "ok": "used_memory:10\r\nmaxmemory:100\r\n",
    "breach": "used_memory:95\r\nmaxmemory:100\r\n",
    "no data": "a:b\r\n",
}


@asynccontextmanager
async def _redis(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    text = INFO[row].encode()
    async with test_redis.talking(test_redis.says(b"$%d\r\n%s\r\n" % (len(text), text))) as url:
        yield test_redis.link(url, 5.0), {}


@asynccontextmanager
async def _upstash(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    async with serving(
        Upstash(servers.cache(), world.TOKEN, answers={"INFO": (200, {"result": INFO[row]})}).app()
    ) as url:
        yield link("upstash", url, 5.0), {}


@asynccontextmanager
async def _openai(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    none = {"object": "list", "data": []}
    answers: dict[str, tuple[int, Any]] = {
        "ok": (200, test_openai.MODELS),
        "breach": (401, test_openai.error("invalid_api_key")),
        "no data": (200, none),
    }
    async with serving(test_openai.app(*answers[row])) as url:
        yield link("openai", f"{url}/v1", 5.0), {}


@asynccontextmanager
async def _ofrep(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    async with serving(test_ofrep.flags().app()) as url:
        flag = {"ok": "voice", "breach": "everyone", "no data": "code-default"}[row]
        yield link("ofrep", url, 5.0), {"flag": flag}


@asynccontextmanager
async def _switch(kind: str, app: Any, row: str) -> AsyncIterator[tuple[OpenConnection, Config]]:
    async with serving(app) as url:
        flag = {"ok": "voice", "breach": "crico", "no data": "missing"}[row]
        yield link(kind, url, 5.0), {"flag": flag}


@asynccontextmanager
async def _vercel(row: str, servers: Servers) -> AsyncIterator[tuple[OpenConnection, Config]]:
    fake, failed = Vercel(token=world.TOKEN), (test_vercel.COUNT, "sum|http_status ge 500")
    fake.metrics = {
        (test_vercel.COUNT, "sum"): None if row == "no data" else 20_000,
        failed: 900 if row == "breach" else 1,
    }
    async with serving(fake.app()) as url:
        await fake.add("2.3.1")
        yield link("vercel", url, 5.0), {}


GATES: Mapping[str, GateCase] = {
    "prometheus": GateCase({"query": "errors / requests"}, _plain, {"max": "1%"}),
    "http": GateCase({"path": "/stats", "jsonPath": "$.value"}, _plain, {"max": "1%"}),
    "sql": GateCase({"query": "select count(*) from tasks"}, _sql, {"max": "60"}),
    "github": GateCase(test_github.CHECKS, _github),
    "sentry": GateCase(test_sentry.ERRORS, _sentry, {"max": "10"}),
    "supabase": GateCase({"project": PROJECT, "backups": {"maxAge": "26h"}}, _supabase),
    "redis": GateCase({"memory": {}}, _redis, {"max": "90%"}),
    "upstash": GateCase({"memory": {}}, _upstash, {"max": "90%"}),
    "openai": GateCase({}, _openai),
    "ofrep": GateCase({"flag": "voice", **test_ofrep.LIST}, _ofrep),
    "unleash": GateCase(
        test_unleash.TABLE[0][0],
        lambda row, _: _switch("unleash", _unleash(), row),
        absent="NotFound",
    ),
    "launchdarkly": GateCase(
        test_launchdarkly.TABLE[0][0],
        lambda row, _: _switch("launchdarkly", test_launchdarkly.fake().app(), row),
        absent="NotFound",
    ),
    "vercel": GateCase(test_vercel.RATIO, _vercel, {"max": "1%"}),
}


def _unleash() -> Any:
    fake = test_unleash.fake()
    fake.token = world.TOKEN
    return fake.app()


# --- everything else

EXTERNAL_TARGETS: Mapping[str, Config] = {"vercel": TARGET}
FLAGS: Mapping[str, Config] = {
    "unleash": {"environment": "production", "set": {"voice": "on"}},
    "launchdarkly": {"project": "shop", "environment": "production", "set": {"voice": "on"}},
    "vercel": VARIABLES,
}
ACTIONS: Mapping[str, Config] = {
    "github": test_github.DEPLOYMENT,
    "sentry": test_sentry.MARK,
    "supabase": {"project": PROJECT, "restorePoint": {"name": "before"}},
    "redis": {"flush": {"prefix": "foco:"}},
    "upstash": {"flush": {"prefix": "foco:"}},
}
NOTIFIERS: Mapping[str, tuple[Config, Any]] = {
    # what is configured, and a message that it has to deliver
    "slack": ({"channel": "#deployments"}, message("StageFailed", "error")),
    "pagerduty": ({}, message("StageFailed", "error")),
    "statuspage": ({"page": "page1"}, message("Downtime", "critical", downtime=400.0)),
    "webhook": ({}, message("StageFailed", "error")),
}
EXTERNALS = {
    **{
        f"targets/{key}": (registry.EXTERNAL_TARGETS[key], config)
        for key, config in EXTERNAL_TARGETS.items()
    },
    **{f"flags/{key}": (registry.FLAGS[key], config) for key, config in FLAGS.items()},
    **{f"actions/{key}": (registry.ACTIONS[key], config) for key, config in ACTIONS.items()},
}
KINDS: Mapping[str, Any] = {"targets": "apply", "flags": "set", "actions": "act"}


def operation(name: str) -> Operation:
    """An operation of an external: `targets/vercel`."""
    return Operation("7.deploy.act.1-3f2a1c", KINDS[name.partition("/")[0]], f"step/{name}")
