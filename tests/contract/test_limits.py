"""429, and when to come back: the vendors' headers tell it in different units, and every provider
keeps to it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import External, OpenConnection, Retryable
from gatewright.providers import registry
from gatewright.providers.common import replies, rest
from gatewright.providers.statuspage import connection as statuspage
from tests.contract import cases
from tests.contract.listed import assert_all_listed
from tests.contract.telling import told
from tests.fakes.serving import serving

LATER = 40


def _epoch() -> str:
    return str(int(time.time()) + LATER)


LIMITED: Mapping[str, Callable[[], dict[str, str]]] = {
    "github": lambda: {"x-ratelimit-reset": _epoch(), "x-ratelimit-remaining": "0"},
    "launchdarkly": lambda: {"X-Ratelimit-Reset": f"{_epoch()}000"},
    "ofrep": lambda: {
        "Retry-After": format_datetime(
            datetime.fromtimestamp(time.time() + LATER, UTC), usegmt=True
        )
    },
    "pagerduty": lambda: {"Retry-After": str(LATER)},
    "sentry": lambda: {"X-Sentry-Rate-Limit-Reset": _epoch()},
    "slack": lambda: {"Retry-After": str(LATER)},
    "statuspage": lambda: {"Retry-After": str(LATER)},
    "supabase": lambda: {"X-RateLimit-Reset": str(LATER)},
    "unleash": lambda: {"Retry-After": str(LATER)},
    "upstash": lambda: {"Retry-After": str(LATER)},
    "vercel": lambda: {"X-RateLimit-Reset": _epoch()},
    "webhook": lambda: {"Retry-After": str(LATER)},
    # these are answers, and nobody is kept back by them
    "http": dict,
    "openai": dict,
    # a user's own server, which names no time
    "prometheus": dict,
}


def test_every_connection_has_its_header() -> None:
    assert_all_listed(
        LIMITED,
        registry.CONNECTIONS.keys() - set(cases.WIRED),
        "LIMITED in tests/contract/test_limits.py",
        "the headers of its 429 (`dict` where it has none that names a time)",
    )


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuspage, "REQUEST_SPACING_S", 0.0)


@pytest.mark.parametrize("key", [key for key, header in LIMITED.items() if header is not dict])
async def test_a_limit_is_kept(key: str) -> None:
    asked = 0

    async def limited(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response(
            {"error": {"message": "slow down"}}, status=429, headers=LIMITED[key]()
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", limited)
    async with serving(app) as url:
        for ask in ways(key):
            link = cases.link(key, url, 5.0)
            with pytest.raises(Retryable) as caught:
                await ask(link)
            assert LATER - 5 <= caught.value.after <= LATER + 1, caught.value
            before = asked
            with pytest.raises(Retryable):
                await ask(link)
            assert asked == before > 0, "nothing is sent before the limit is over"


@pytest.mark.parametrize(
    "said",
    [
        "Mon, 32 Jan 2020 00:00:00 GMT",
        "Wed, 01 Jan 2020 25:61:61 GMT",
        "Wed, 01 Jan 2020 00:00:00 +9999",
        "+9999",
        "Wed, 01 Jan 0001 00:00:00",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "soon",
        "1e300",
    ],
)
async def test_a_time_that_is_none_is_as_if_nothing_were_said(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = cases.link("pagerduty", "http://127.0.0.1", 5.0)
    headers = CIMultiDictProxy(CIMultiDict({"Retry-After": said}))
    limits = rest.RateLimits(pause=30.0)
    reply = replies.Reply("http://127.0.0.1", 429, headers, "", b"", 0.0)
    after = rest._wait_seconds(reply, limits)
    assert after == 30.0 or after < 0 or after > rest.MAX_WAIT_S
    assert rest._error_of_limit(link, reply, limits).after in (1.0, 30.0, rest.MAX_WAIT_S)


async def test_limits_that_are_remembered_are_few_and_nobody_drives_out_those_of_others() -> None:
    """A Connection whose Secret is rotated has another identity each time, and is never asked for
    by the old one."""
    link = cases.link("pagerduty", "http://127.0.0.1", 5.0)
    headers = CIMultiDictProxy(CIMultiDict({"Retry-After": "3000"}))
    reply = replies.Reply("http://127.0.0.1", 429, headers, "", b"", 0.0)
    other = replace(link, identity="other", namespace="other")
    rest._error_of_limit(other, reply, rest.RateLimits())
    for number in range(rest.MAX_LIMITS_REMEMBERED + 10):
        rest._error_of_limit(replace(link, identity=f"i{number}"), reply, rest.RateLimits())
    assert len(rest._closed_until()) == rest.MAX_LIMITS_REMEMBERED
    assert (
        "i0" not in rest._closed_until()
        and f"i{rest.MAX_LIMITS_REMEMBERED + 9}" in rest._closed_until()
    )
    with pytest.raises(Retryable):
        rest.require_open(other)


def ways(connection: str) -> Iterator[Callable[[OpenConnection], Awaitable[Any]]]:
    """Every way in which a provider uses a kind of Connection."""
    for key, gate in registry.GATES.items():
        if gate.connection == connection:
            yield partial(gate.measure, gate.config.model_validate(cases.GATES[key].config))
    for name, (it, raw) in cases.EXTERNALS.items():
        if it.connection == connection:
            yield partial(_begin, it, it.config.model_validate(raw), cases.operation(name))
    for key, notifier in registry.NOTIFIERS.items():
        if notifier.connection == connection:
            yield partial(_tell, key)


async def _begin(
    provider: External, config: Any, operation: Operation, link: OpenConnection
) -> Progress:
    return await provider.perform(config, link, operation, None)


async def _tell(key: str, link: OpenConnection) -> str | None:
    config, wanted = cases.NOTIFIERS[key]
    return await told(key, dict(config), link, wanted)
