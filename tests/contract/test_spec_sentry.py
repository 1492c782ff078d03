"""Every request to Sentry, and every answer of the stand-in, against Sentry's own description of
its API."""

from __future__ import annotations

import pytest

from gatewright.providers.registry import CONNECTIONS
from tests.contract import specs, world
from tests.contract.test_sentry import (
    ERRORS,
    FAILURES,
    MARK,
    NEW,
    P95,
    VERSION,
    do,
    follow,
    link,
    look,
)
from tests.fakes.sentry import Sentry
from tests.fakes.serving import serving

SCOPE = {"projects": ["web", "api"], "environment": "production"}


async def _everything() -> tuple[list[specs.Call], str]:
    fake = Sentry(world.TOKEN)
    with specs.recorded() as calls:
        async with serving(fake.app()) as url:
            connection = link(url)
            await CONNECTIONS["sentry"].check(connection)
            fake.scopes.remove("org:read")
            await CONNECTIONS["sentry"].check(connection)
            fake.scopes.add("org:read")
            mark = {
                "release": {**MARK["release"], "url": "https://shop.example.com/notes"},
                "deploy": {**MARK["deploy"], "url": "https://shop.example.com"},
            }
            assert (await look(mark, connection)).problem is None
            assert (await do(mark, connection)).state == "Succeeded"
            fake.deploys[VERSION] += [
                {**fake.deploys[VERSION][0], "id": str(n), "name": "ci"} for n in range(30)
            ]
            assert (await follow(mark, connection)).state == "Succeeded"
            for question in (ERRORS, FAILURES, P95, NEW):
                found = await world.verdict(
                    "sentry", {**question, **SCOPE}, connection, {"max": "10"}
                )
                assert found[0] == "Good", found
            fake.no_failure_rate = True
            assert (await world.verdict("sentry", FAILURES, connection, {"max": "10"}))[0] == "Good"
            for _ in range(40):
                fake.issue(VERSION)
            assert (await world.verdict("sentry", NEW, connection, {"max": "10"}))[0] == "Breach"
    return calls, url


async def test_every_request_is_one_of_sentrys() -> None:
    calls, base = await _everything()
    specs.load("sentry").require(calls, base)
    assert len({(call.request.method, call.request.url.path) for call in calls}) >= 11


async def test_the_stand_in_answers_as_sentry_does() -> None:
    """Where we read the answer: releases, organizations and issues have fields that nobody here
    looks at."""
    calls, base = await _everything()
    read = [
        call
        for call in calls
        if call.request.url.path.endswith(("/deploys/", "/events/", "/events-timeseries/"))
    ]
    read = [call for call in read if call.reply is not None and call.reply.status != 500]
    specs.load("sentry").require(read, base, replies=True)


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("GET", "/api/0/organizations/acme/event/?dataset=errors&field=count()", None),
        ("GET", "/api/0/organizations/acme/events/?dataset=mistakes&field=count()", None),
        ("GET", "/api/0/organizations/acme/events/?dataset=errors&fields=count()", None),
        ("POST", "/api/0/organizations/acme/releases/1/deploys/", {"name": "x"}),
        (
            "POST",
            "/api/0/organizations/acme/releases/1/deploys/",
            {"environment": "x", "name": "x" * 65},
        ),
        (
            "POST",
            "/api/0/organizations/acme/releases/1/deploys/",
            {"environment": "x", "project": ["web"]},
        ),
        ("PUT", "/api/0/organizations/acme/releases/1/", {"dateReleased": 5}),
    ],
)
async def test_a_request_that_is_not_sentrys_is_noticed(
    method: str, path: str, body: object
) -> None:
    base = "http://127.0.0.1:1/behind"
    request = specs.request(method, base + path, json=body, headers={"Authorization": "Bearer t"})
    assert specs.load("sentry").problems(specs.Call(request, None), base)
