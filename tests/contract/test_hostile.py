"""A vendor that is hostile: whatever it answers, a provider says so in few words, keeps little, and
asks few times.

Every provider goes its whole way against the stand-in of its vendor, while somebody in between puts
something hostile at some place of some of the answers. What comes of it is a result that can be
kept, or an error of ours.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import Answer, OpenConnection, Permanent, Retryable
from gatewright.providers import registry
from gatewright.providers.common import rest, vendor_hosts
from gatewright.providers.statuspage import connection as statuspage
from tests.contract import cases, test_launchdarkly, test_ofrep, test_openai, test_vercel, world
from tests.contract.listed import assert_all_listed
from tests.contract.telling import told
from tests.fakes.github import Github
from tests.fakes.pagerduty import Pagerduty
from tests.fakes.sentry import Sentry
from tests.fakes.serving import serving
from tests.fakes.statuspage import Statuspage
from tests.fakes.supabase import Supabase
from tests.fakes.vercel import Vercel

SEEDS = range(6)
MOST_REQUESTS = 120
"""Requests that one call of a provider makes at most, however many pages there are."""
LONGEST_MESSAGE = 4_000
"""Characters of a message before the runtime cuts it."""
LONGEST_OUTPUT = 400
LONGEST_HANDLE = 320
MOST_KEPT = 128 * 1024
"""Bytes of a snapshot as it is kept."""
ESCAPE = "../../../v1/teams/other?canary=1#"
"""An id that would lead a request elsewhere."""
HOSTILE: tuple[Any, ...] = (
    "x" * 200_000,
    ESCAPE,
    "a,incident=b",
    "\x00\r\n\u2028",
    "\ud800",
    "",
    True,
    -7,
    10**400,
    1e308,
    math.nan,
    math.inf,
    None,
    [],
    {},
    [[]],
    "9999-99-99T99:99:99Z",
    ["y" * 50] * 3000,
    {f"k{number}": number for number in range(3000)},
    json.loads("[" * 60 + "]" * 60),
    "prj_of_somebody_else",
    2**63,
)


@pytest.fixture(autouse=True)
def vendors_own() -> None:
    """Here nobody is taken for a vendor, unless a test says so."""


@pytest.fixture(autouse=True)
def _as_the_vendors_describe_it() -> None:
    """Whoever answers what no vendor answers is asked what no vendor is asked."""


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuspage, "REQUEST_SPACING_S", 0.0)


@dataclass
class Between:
    """Bends answers; notes what is asked."""

    chance: random.Random
    often: float = 0.0
    endless: bool = False
    instead: tuple[str, Any] | None = None
    """A field of each deployment, and what stands there."""
    asked: int = 0
    paths: list[str] = field(default_factory=list)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked += 1
        self.paths.append(request.raw_path)
        try:
            reply: web.StreamResponse = await handler(request)
        except web.HTTPException:
            raise
        except Exception:
            # the stand-in was asked by an id that it did not give out itself
            reply = web.json_response({}, status=404)
        if not isinstance(reply, web.Response) or reply.content_type != "application/json":
            return reply
        body = json.loads(reply.text or "null")
        headers = {"Link": reply.headers["Link"]} if "Link" in reply.headers else {}
        if self.endless:
            body = _endless(body)
            headers["Link"] = '<https://elsewhere>; rel="next"; results="true"; cursor="0:100:0"'
        if self.instead is not None and "/v13/deployments/" in request.path:
            body[self.instead[0]] = self.instead[1]
        if self.chance.random() < self.often:
            body = _bent(body, self.chance)
        return web.Response(
            text=json.dumps(body),
            status=reply.status,
            headers=headers,
            content_type="application/json",
        )


def _endless(body: Any) -> Any:
    """The same page, and another one after it."""
    if isinstance(body, list):
        return (body * 100)[:100] or [{}] * 100
    if isinstance(body, dict):
        more = {"pagination": {"next": 1234}, "response_metadata": {"next_cursor": "more"}}
        return {
            **body,
            **more,
            **{name: _endless(value) for name, value in body.items() if isinstance(value, list)},
        }
    return body


def _bent(body: Any, chance: random.Random) -> Any:
    """Something hostile at one place, the deeper the likelier."""
    if isinstance(body, dict) and body and chance.random() < 0.9:
        key = chance.choice(list(body))
        return {**body, key: _bent(body[key], chance)}
    if isinstance(body, list) and body and chance.random() < 0.9:
        index = chance.randrange(len(body))
        return [*body[:index], _bent(body[index], chance), *body[index + 1 :]]
    return chance.choice(HOSTILE)


# --------------------------------------------------------------------------------------------------
# Who is asked


async def _vercel() -> Vercel:
    fake = Vercel(token=world.TOKEN)
    fake.metrics = {
        (test_vercel.COUNT, "sum"): 20_000,
        (test_vercel.COUNT, "sum|http_status ge 500"): 1,
    }
    await fake.add("2.3.1")
    return fake


async def _sentry() -> Sentry:
    fake = Sentry(world.TOKEN)
    fake.releases["1.0.0"] = {
        "version": "1.0.0",
        "projects": [{"slug": "web"}],
        "dateReleased": None,
    }
    return fake


async def _of(make: Callable[[], Any]) -> Any:
    return make()


@dataclass
class _App:
    made: web.Application

    def app(self) -> web.Application:
        return self.made


FAKES: Mapping[str, Callable[[], Awaitable[Any]]] = {
    "github": lambda: _of(lambda: Github(world.TOKEN)),
    "sentry": _sentry,
    "supabase": lambda: _of(lambda: Supabase(world.TOKEN)),
    "vercel": _vercel,
    "unleash": lambda: _of(lambda: _App(cases._unleash())),
    "launchdarkly": lambda: _of(test_launchdarkly.fake),
    "openai": lambda: _of(lambda: _App(test_openai.app(200, test_openai.MODELS))),
    "ofrep": lambda: _of(test_ofrep.flags),
    "statuspage": lambda: _of(lambda: Statuspage(world.TOKEN, page="page1")),
    "pagerduty": lambda: _of(lambda: Pagerduty(world.TOKEN)),
    "upstash": lambda: _of(lambda: _App(_upstash())),
    "slack": lambda: _of(lambda: _App(_slack())),
    "prometheus": lambda: _of(lambda: _App(_prometheus())),
}
PREFIX = {"statuspage": "/v1", "openai": "/v1"}
ELSEWHERE = {"http", "webhook", "redis", "postgres"}
"""Asked by other tests: they read no JSON of a vendor's, or speak no HTTP."""


def _upstash() -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        command = str((await request.json())[0]).upper()
        results = {"SCAN": ["0", ["Zm9jbzph"]], "INFO": cases.INFO["ok"], "GET": None}
        return web.json_response({"result": results.get(command, "OK")})

    app = web.Application()
    app.router.add_post("/{tail:.*}", answer)
    return app


def _slack() -> web.Application:
    posted = {
        "ok": True,
        "channel": "C012",
        "ts": "1700000000.000100",
        "messages": [],
        "channels": [],
    }

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({**posted, "response_metadata": {"next_cursor": ""}})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    return app


def _prometheus() -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        value = {"metric": {}, "value": [1700000000.0, "0.5"]}
        return web.json_response(
            {"status": "success", "data": {"resultType": "vector", "result": [value]}}
        )

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    return app


@asynccontextmanager
async def hostile(kind: str, seed: int) -> AsyncIterator[tuple[Between, OpenConnection]]:
    """A Connection to a stand-in, and whoever stands in between; at first he leaves everything as
    it is."""
    fake, between = await FAKES[kind](), Between(random.Random(seed))
    app = fake.app()
    app.middlewares.insert(0, between.middleware)
    async with serving(app) as url:
        yield between, cases.link(kind, f"{url}{PREFIX.get(kind, '')}", 2.0)


def test_every_provider_is_tried() -> None:
    connections = {provider.connection for provider, _ in cases.EXTERNALS.values()}
    connections |= {gate.connection for gate in registry.GATES.values()}
    connections |= {notifier.connection for notifier in registry.NOTIFIERS.values()}
    assert_all_listed(
        FAKES.keys() | ELSEWHERE,
        connections,
        "FAKES in tests/contract/test_hostile.py",
        "how its stand-in is started; to ELSEWHERE what no vendor's JSON is read of",
    )


# --------------------------------------------------------------------------------------------------
# What is demanded


async def _bounded(between: Between, ask: Awaitable[Any]) -> Any:
    """What comes of it, if it keeps within all bounds; anything but an error of ours fails the
    test."""
    before = between.asked
    found: Any = None
    try:
        found = await ask
    except (Retryable, Permanent) as error:
        assert len(str(error)) <= LONGEST_MESSAGE, f"{len(str(error))}: {str(error)[:200]}"
        assert len(getattr(error, "handle", None) or "") <= LONGEST_HANDLE
    rest._closed_until().clear()
    assert between.asked - before <= MOST_REQUESTS
    for path in between.paths[before:]:
        assert "/../" not in path and "canary=1" not in path, path
        assert len(path) < 8_000
    _check(found)
    return found


def _check(found: Any) -> None:
    match found:
        case Progress():
            assert len(found.message) <= LONGEST_MESSAGE
            assert all(
                len(name) + len(value) <= LONGEST_OUTPUT for name, value in found.outputs.items()
            ), found.outputs
        case LiveState():
            assert (
                len(found.problem or "") + len(found.unready or "") + len(found.restore_hint or "")
                <= LONGEST_MESSAGE
            )
            assert len(found.version or "") <= LONGEST_OUTPUT
            if found.snapshot is not None:
                assert len(json.dumps(found.snapshot, allow_nan=False)) <= MOST_KEPT
        case Standing():
            texts = (found.difference, found.unknown, found.trouble, found.remark)
            assert all(len(text or "") <= LONGEST_MESSAGE for text in texts)
        case Answer():
            assert len(found.message) <= LONGEST_MESSAGE
            assert not (isinstance(found.value, float) and not math.isfinite(found.value))
        case str():
            assert len(found) <= LONGEST_MESSAGE
        case _:
            assert found is None


async def _whole_way(name: str, between: Between, link: OpenConnection, often: float) -> None:
    """Look, act, follow, compare, find out what is wrong, and go back."""
    provider, raw = cases.EXTERNALS[name]
    config: Any = provider.config.model_validate(raw)
    operation = cases.operation(name)
    restore = Operation("7.deploy.act.back-3f2a1c", "restore", operation.subject, operation.config)
    honest = await _bounded(between, provider.look(config, link))
    snapshot = honest.snapshot if isinstance(honest, LiveState) else None

    between.often = often
    seen = await _bounded(between, provider.look(config, link))
    for kept in (snapshot, seen.snapshot if isinstance(seen, LiveState) else None):
        await _bounded(between, provider.perform(config, link, operation, kept))
        for _ in range(4):
            await _bounded(between, provider.follow(config, link, operation, kept))
        await _bounded(between, provider.compare(config, link, [operation], kept))
        await _bounded(between, provider.trouble(config, link, operation))
        await _bounded(between, provider.perform(config, link, restore, kept))
        for _ in range(2):
            await _bounded(between, provider.follow(config, link, restore, kept))


def _asked(key: str) -> Any:
    """The configuration of a gate, for its stand-in."""
    own = {"flag": "voice"} if key == "ofrep" else {}
    return registry.GATES[key].config.model_validate({**cases.GATES[key].config, **own})


OVER_HTTP = [
    name for name, (provider, _) in cases.EXTERNALS.items() if provider.connection not in ELSEWHERE
]


@pytest.mark.parametrize("own", [False, True], ids=["a stranger", "the vendor"])
@pytest.mark.parametrize("name", OVER_HTTP)
async def test_no_answer_breaks_an_external(
    name: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_hosts, "is_vendor_host", lambda link: own)
    for seed in SEEDS:
        async with hostile(cases.EXTERNALS[name][0].connection, seed) as (between, link):
            await _whole_way(
                name,
                between,
                replace(link, identity=f"{name}-{own}-{seed}"),
                (0.1, 0.3, 0.6)[seed % 3],
            )


@pytest.mark.parametrize("name", OVER_HTTP)
async def test_what_is_left_as_it_is_is_no_error(name: str) -> None:
    """Else nothing is tried here: what is bent is the way that goes well."""
    async with hostile(cases.EXTERNALS[name][0].connection, 0) as (_, link):
        provider, raw = cases.EXTERNALS[name]
        config: Any = provider.config.model_validate(raw)
        assert (await provider.look(config, link)).problem in (None, "")
        begun = await provider.perform(config, link, cases.operation(name), None)
        assert begun.state in ("Running", "Succeeded"), begun


@pytest.mark.parametrize(
    "key", [key for key in registry.GATES if registry.GATES[key].connection not in ELSEWHERE]
)
async def test_what_is_left_as_it_is_is_an_answer(key: str) -> None:
    async with hostile(registry.GATES[key].connection, 0) as (_, link):
        assert isinstance(await registry.GATES[key].measure(_asked(key), link), Answer)


@pytest.mark.parametrize(
    "key", [key for key in registry.NOTIFIERS if registry.NOTIFIERS[key].connection in FAKES]
)
async def test_what_is_left_as_it_is_is_told(key: str) -> None:
    config, wanted = cases.NOTIFIERS[key]
    async with hostile(key, 0) as (_, link):
        assert await told(key, dict(config), link, wanted)


@pytest.mark.parametrize(
    "value", ["x" * 129, ESCAPE, "a,incident=b", "", True, None, 1.5, ["a"], 2**63]
)
def test_what_is_no_id_is_not_kept(value: Any) -> None:
    with pytest.raises(Permanent, match="an id that is none"):
        rest.require_identifier(value, "http://127.0.0.1")
    assert [rest.require_identifier(known, "") for known in ("p1", 7, "1700000000.000100")] == [
        "p1",
        "7",
        "1700000000.000100",
    ]


@pytest.mark.parametrize("value", ["x" * 1025, "a\nb", True, ["a"], {"next": 1}, 10**400])
def test_what_is_no_place_in_a_list_is_not_sent_back(value: Any) -> None:
    with pytest.raises(Permanent, match="where its next page begins"):
        rest.require_cursor(value, "http://127.0.0.1")
    assert [rest.require_cursor(known, "") for known in ("dXNlcjpV", 1234, None, "", False)] == [
        "dXNlcjpV",
        "1234",
        "",
        "",
        "",
    ]


async def test_a_deployment_of_another_project_is_not_touched() -> None:
    """It carries the mark of our operation, as somebody has copied it; nothing is promoted, and
    nothing said to be done."""
    provider, raw = cases.EXTERNALS["targets/vercel"]
    config: Any = provider.config.model_validate(raw)
    for field_, value, words in (
        ("projectId", "prj_other", "another project"),
        ("id", "dpl_other", "another deployment"),
    ):
        async with hostile("vercel", 0) as (between, link):
            await provider.perform(config, link, cases.operation("targets/vercel"), None)
            between.instead = field_, value
            asked = len(between.paths)
            for ask in (provider.follow, provider.perform):
                with pytest.raises(Permanent, match=words):
                    await ask(config, link, cases.operation("targets/vercel"), None)
            assert not any("/promote/" in path for path in between.paths[asked:])


@pytest.mark.parametrize("name", OVER_HTTP)
async def test_no_list_without_an_end_is_read_without_an_end(name: str) -> None:
    async with hostile(cases.EXTERNALS[name][0].connection, 0) as (between, link):
        between.endless = True
        await _whole_way(name, between, link, 0.0)


@pytest.mark.parametrize(
    "key", [key for key in registry.GATES if registry.GATES[key].connection not in ELSEWHERE]
)
async def test_no_answer_breaks_a_gate(key: str) -> None:
    gate = registry.GATES[key]
    config = _asked(key)
    for seed in range(16):
        async with hostile(gate.connection, seed) as (between, link):
            between.often, between.endless = (0.3, 0.6, 1.0)[seed % 3], seed % 4 == 0
            await _bounded(between, gate.measure(config, link))


@pytest.mark.parametrize(
    "key",
    [key for key in registry.NOTIFIERS if registry.NOTIFIERS[key].connection not in ELSEWHERE],
)
async def test_no_answer_breaks_a_notifier(key: str) -> None:
    config, wanted = cases.NOTIFIERS[key]
    for seed in range(16):
        async with hostile(key, seed) as (between, link):
            between.often, between.endless = (0.3, 0.6, 1.0)[seed % 3], seed % 4 == 0
            handle = None
            for again in (False, True, True):
                sent = told(key, dict(config), link, replace(wanted, again=again), handle)
                handle = await _bounded(between, sent)
                assert len(handle or "") <= LONGEST_HANDLE
