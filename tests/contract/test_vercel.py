"""vercel gates and the Connection's check: required variables, numbers from observability, and
everything that goes wrong."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import rest
from gatewright.providers.registry import CONNECTIONS, GATES
from tests.cluster.processes import free_port
from tests.contract import world
from tests.fakes import vercel
from tests.fakes.serving import linked, serving

ENV = {"project": "foco", "env": ["OPENAI_API_KEY", "SUPABASE_SERVICE_ROLE_KEY"]}
RATIO = {"project": "foco", "errorRatio": {"window": "5m"}}
P95 = {"project": "foco", "duration": {"aggregation": "p95"}}
LCP = {"project": "prj_foco", "lcp": {"aggregation": "p95", "window": "1h"}}
COUNT = "vercel.request.count"
DURATION, INVOCATIONS = (
    "vercel.function_invocation.function_duration_ms",
    "vercel.function_invocation.count",
)
PAINT, VIEWS = "vercel.speed_insights.lcp_ms", "vercel.speed_insights.lcp_count"


@pytest.fixture
async def fake() -> AsyncIterator[tuple[vercel.Vercel, OpenConnection]]:
    """A project with a production deployment, and a Connection to it."""
    running = vercel.Vercel(token=world.TOKEN)
    running.metrics = {
        (COUNT, "sum"): 20_000,
        (COUNT, "sum|http_status ge 500"): 100,
        (DURATION, "p95"): 420.5,
        (INVOCATIONS, "sum"): 900,
        (PAINT, "p95"): 1800,
        (VIEWS, "sum"): 44,
    }
    async with serving(running.app()) as url:
        await running.add("2.3.1")
        yield running, linked("vercel", {"url": url, "teamId": "team_foco"}, {"token": world.TOKEN})


TABLE = [
    # metrics that are other                              config  limit          verdict      words
    ({}, RATIO, {"max": "1%"}, "Good", "100 of 20000 requests"),
    ({}, RATIO, {"max": "0.1%"}, "Breach", "0.5% > 0.1%"),
    (
        {(COUNT, "sum|http_status ge 500"): None},
        RATIO,
        {"max": "1%"},
        "Good",
        "0 of 20000 requests",
    ),
    ({(COUNT, "sum"): 0}, RATIO, {"max": "1%"}, "NoData", "no requests over 5m"),
    ({(COUNT, "sum"): None}, RATIO, {"max": "1%"}, "NoData", "no requests over 5m"),
    ({(COUNT, "sum"): "many"}, RATIO, {"max": "1%"}, "Permanent", "is no number"),
    ({(COUNT, "sum"): True}, RATIO, {"max": "1%"}, "Permanent", "is no number"),
    ({(COUNT, "sum"): -5}, RATIO, {"max": "1%"}, "Permanent", "is -5"),
    ({(COUNT, "sum"): 1e999}, RATIO, {"max": "1%"}, "Permanent", "is inf"),
    ({}, P95, {"max": "1s"}, "Good", "p95 of 900 function invocations"),
    ({}, P95, {"max": "400ms"}, "Breach", "420.5ms > 400ms"),
    ({(INVOCATIONS, "sum"): 0}, P95, {"max": "1s"}, "NoData", "no function invocations"),
    ({(DURATION, "p95"): None}, P95, {"max": "1s"}, "NoData", "no value over 5m"),
    ({}, LCP, {"max": "2s"}, "Good", "p95 of 44 page views"),
    ({(PAINT, "p95"): 2500}, LCP, {"max": "2s"}, "Breach", "2.5s > 2s"),
    ({(VIEWS, "sum"): None}, LCP, {"max": "2s"}, "NoData", "no page views over 1h"),
]


@pytest.mark.parametrize("row", TABLE, ids=range(len(TABLE)))
async def test_numbers(fake: tuple[vercel.Vercel, OpenConnection], row: tuple[Any, ...]) -> None:
    running, link = fake
    running.metrics |= row[0]
    kind, message = await world.verdict("vercel", row[1], link, row[2])
    assert kind == row[3], f"{kind}: {message}"
    assert row[4] in message or kind == "Good", message
    assert row[4] in str(await _answer(row[1], link)) or kind != "Good"


async def _answer(config: dict[str, Any], link: OpenConnection) -> Any:
    gate = GATES["vercel"]
    try:
        return await gate.measure(gate.config.model_validate(config), link)
    except Permanent as error:
        return error


async def test_few_samples_are_no_data(fake: tuple[vercel.Vercel, OpenConnection]) -> None:
    _, link = fake
    config = {"project": "foco", "errorRatio": {"minSamples": 20_001}}
    kind, message = await world.verdict("vercel", config, link, {"max": "1%"})
    assert (kind, "only 20000 requests over 5m; 20001 are needed" in message) == ("NoData", True), (
        message
    )


async def test_what_is_asked_for(fake: tuple[vercel.Vercel, OpenConnection]) -> None:
    running, link = fake
    before = time.time()
    config = {"project": "foco", "errorRatio": {"window": "10m", "filter": "route eq '/api/tasks'"}}
    await world.verdict("vercel", config, link, {"max": "1%"})
    bodies = [body for _, path, body in running.bodies if path == "/v2/observability/query"]
    assert {body["filter"] for body in bodies} == {
        "(environment eq 'production') and (route eq '/api/tasks')",
        "(environment eq 'production') and (route eq '/api/tasks') and (http_status ge 500)",
    }
    for body in bodies:
        assert body["scope"] == {
            "type": "project",
            "ownerId": "team_foco",
            "projectIds": ["prj_foco"],
        }
        assert (body["metric"], body["aggregation"]) == (COUNT, "sum")
        start, end = (_seconds(body[name]) for name in ("startTime", "endTime"))
        assert (end - start, end % 60, end <= time.time(), before - end < 120) == (
            600,
            0,
            True,
            True,
        )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_an_answer_of_another_shape_is_refused(
    fake: tuple[vercel.Vercel, OpenConnection],
) -> None:
    running, link = fake
    shapes: list[tuple[Any, str]] = [
        ({}, "has no summary"),
        ([], "has no summary"),
        (
            {
                "summary": [
                    {"vercel_request_count_sum": 1, "route": "/a"},
                    {"vercel_request_count_sum": 2},
                ]
            },
            "not one value",
        ),
        ({"summary": [{"count": 5}]}, "not one value of vercel_request_count_sum"),
    ]
    for shape, words in shapes:

        async def other(request: web.Request, shape: Any = shape) -> web.Response:
            return web.json_response(shape)

        running.faults = [("POST", "/v2/observability/query", other)]
        kind, message = await world.verdict("vercel", RATIO, link, {"max": "1%"})
        assert (kind, words in message) == ("Permanent", True), f"{shape}: {kind}: {message}"


# --- variables


async def test_required_variables(fake: tuple[vercel.Vercel, OpenConnection]) -> None:
    running, link = fake
    running.set("OPENAI_API_KEY", "sk-5eCr3t-openai-key-123456", "sensitive")
    kind, message = await world.verdict("vercel", ENV, link, {})
    assert (kind, message) == ("Breach", "production has no SUPABASE_SERVICE_ROLE_KEY")
    running.set("SUPABASE_SERVICE_ROLE_KEY", "5eCr3t-service-role", "encrypted", target=["preview"])
    assert (await world.verdict("vercel", ENV, link, {}))[0] == "Breach", (
        "preview has it, production has not"
    )
    assert (await world.verdict("vercel", {**ENV, "target": "preview"}, link, {}))[0] == "Breach"
    running.set(
        "SUPABASE_SERVICE_ROLE_KEY", "5eCr3t-service-role", "encrypted", gitBranch="develop"
    )
    assert (await world.verdict("vercel", ENV, link, {}))[0] == "Breach", "one branch has it"
    running.set(
        "SUPABASE_SERVICE_ROLE_KEY",
        "5eCr3t-service-role",
        "encrypted",
        target=["production", "preview"],
    )
    assert (await world.verdict("vercel", ENV, link, {}))[0] == "Good"
    assert not any("decrypt" in path for path in running.asked)
    assert all("teamId=team_foco" in path for path in running.asked)


async def test_a_shared_variable_of_the_team_counts(
    fake: tuple[vercel.Vercel, OpenConnection],
) -> None:
    running, link = fake
    running.set("OPENAI_API_KEY", "x", "sensitive")
    running.shared = [
        {
            "id": "env_s",
            "key": "SUPABASE_SERVICE_ROLE_KEY",
            "target": ["production"],
            "updatedAt": 1,
        }
    ]
    assert (await world.verdict("vercel", ENV, link, {}))[0] == "Good"


async def test_a_rotation_that_has_not_happened_is_seen(
    fake: tuple[vercel.Vercel, OpenConnection],
) -> None:
    running, link = fake
    rotated = {**ENV, "newerThan": "1h"}
    for key in ENV["env"]:
        running.set(key, "5eCr3t-old", "sensitive", age=7_200_000)
    kind, message = await world.verdict("vercel", rotated, link, {})
    assert kind == "Breach" and "OPENAI_API_KEY was changed " in message, message
    running.set("OPENAI_API_KEY", "5eCr3t-new", "sensitive", age=60_000)
    kind, message = await world.verdict("vercel", rotated, link, {})
    assert (
        kind == "Breach"
        and "OPENAI_API_KEY" not in message
        and "SUPABASE_SERVICE_ROLE_KEY" in message
    ), message
    item = running.set("SUPABASE_SERVICE_ROLE_KEY", "5eCr3t-new", "sensitive", age=60_000)
    assert (await world.verdict("vercel", rotated, link, {}))[0] == "Good"
    item["updatedAt"] = None
    kind, message = await world.verdict("vercel", rotated, link, {})
    assert (kind, message) == ("NoData", "when SUPABASE_SERVICE_ROLE_KEY was changed is not told")


async def test_a_variable_of_the_project_goes_before_the_teams(
    fake: tuple[vercel.Vercel, OpenConnection],
) -> None:
    running, link = fake
    asked = {"project": "foco", "env": ["OPENAI_API_KEY"], "newerThan": "1h"}
    running.shared = [
        {
            "id": "env_s",
            "key": "OPENAI_API_KEY",
            "target": ["production"],
            "updatedAt": running.now(),
        }
    ]
    assert (await world.verdict("vercel", asked, link, {}))[0] == "Good"
    running.set("OPENAI_API_KEY", "5eCr3t-old", "sensitive", age=7_200_000)
    assert (await world.verdict("vercel", asked, link, {}))[0] == "Breach"


async def test_what_a_token_cannot_see_is_unknown(
    fake: tuple[vercel.Vercel, OpenConnection],
) -> None:
    running, link = fake
    running.hidden = 3
    kind, message = await world.verdict("vercel", ENV, link, {})
    assert (kind, "3 variables of production are hidden" in message) == ("NoData", True), message


# --- what may be written


@pytest.mark.parametrize(
    "config, words",
    [
        ({"project": "foco"}, "exactly one of env"),
        ({**ENV, **RATIO}, "exactly one of env"),
        ({**RATIO, "project": "../foco"}, "project"),
        ({"project": "foco", "duration": {"aggregation": "median"}}, "aggregation"),
        ({"project": "foco", "env": []}, "env"),
        ({"project": "foco", "env": ["A B"]}, "env"),
        ({**RATIO, "newerThan": "1h"}, "newerThan belongs to env"),
    ],
)
def test_what_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GATES["vercel"].config.model_validate(config)


def test_limits_belong_to_numbers() -> None:
    model = GATES["vercel"].config
    assert model.model_validate(ENV).limits == "useless"  # type: ignore[attr-defined]
    assert {model.model_validate(config).limits for config in (RATIO, P95, LCP)} == {"required"}  # type: ignore[attr-defined]


# --- everything that goes wrong

FAULTS = [
    # fault             verdict        words of the message
    ("400",             "Permanent",   "answered (400)"),
    ("401",             "Permanent",   "credentials are refused (401)"),
    ("403",             "Permanent",   "may not do this (403)"),
    ("404",             "Permanent",   "no such path (404)"),
    ("422",             "Permanent",   "answered (422)"),
    ("429",             "Retryable",   "too many requests (429)"),
    ("500",             "Retryable",   "answered 500"),
    ("502-html",        "Retryable",   "answered 502"),
    ("503",             "Retryable",   "answered 503"),
    ("200-error",       "Permanent",   "not Vercel's API"),
    ("ok",              "Permanent",   "not Vercel's API"),
    ("empty",           "Permanent",   "not Vercel's API"),
    ("null",            "Permanent",   "not Vercel's API"),
    ("time-out",        "Retryable",   "no answer within 0.5s"),
    ("drip",            "Retryable",   "no answer within 0.5s"),
    ("html",            "Permanent",   "HTML where JSON is expected"),
    ("not-json",        "Permanent",   "is not JSON"),
    ("no-body",         "Permanent",   "is empty"),
    ("other-json",      "Permanent",   "not Vercel's API"),
    ("deep",            "Permanent",   "nested too deeply"),
    ("oversized",       "Permanent",   "larger than 1 MiB"),
    ("redirect",        "Permanent",   "redirect to https://login.example.com;"),
    ("broken",          "Retryable",   "broke off"),
    ("garbage",         "Retryable",   "not HTTP"),
    ("echo",            "Permanent",   "not Vercel's API"),
    ("no-content",      "Permanent",   "is empty"),
]  # fmt: skip


@pytest.mark.parametrize("row", FAULTS, ids=[row[0] for row in FAULTS])
async def test_faults(server: world.Server, row: tuple[str, str, str]) -> None:
    link = linked(
        "vercel",
        {"url": server.url(row[0]), "teamId": "team_foco"},
        {"token": world.TOKEN},
        timeout=world.patience(row[0]),
    )
    limits: list[tuple[dict[str, Any], dict[str, str]]] = [
        (ENV, {}),
        (RATIO, {"max": "1%"}),
        (LCP, {"max": "2s"}),
    ]
    async with world.logs() as lines:
        found = [
            await world.verdict("vercel", config, _fresh(link), limit) for config, limit in limits
        ]
        with pytest.raises((Retryable, Permanent)) as caught:
            await CONNECTIONS["vercel"].check(_fresh(link))
    assert {kind for kind, _ in found} == {row[1]}, found
    assert all(row[2] in message for _, message in found), found
    assert type(caught.value).__name__ == row[1], caught.value
    world.assert_silent(*lines, caught.value)


def _fresh(link: OpenConnection) -> OpenConnection:
    """The same Connection without the limits it has met."""
    return dataclasses.replace(link, identity=f"{link.identity}-{time.monotonic_ns()}")


async def test_nobody_listens() -> None:
    link = linked("vercel", {"url": f"http://127.0.0.1:{free_port()}"}, {"token": world.TOKEN})
    kind, message = await world.verdict("vercel", RATIO, link, {"max": "1%"})
    assert (kind, "refused" in message) == ("Retryable", True), message


LIMITED = [
    # header                                 body                                   seconds until
    # asked again
    ({"Retry-After": "17"}, {}, (17, 17)),
    ({"X-RateLimit-Reset": "+42"}, {}, (40, 43)),
    ({}, {"limit": {"reset": "+30"}}, (28, 31)),
    ({"Retry-After": "5"}, {"limit": {"reset": "+900"}}, (5, 5)),
    ({}, {}, (60, 60)),
    ({"X-RateLimit-Reset": "soon"}, {"limit": {"reset": None}}, (60, 60)),
    ({"Retry-After": "1e300"}, {}, (60, 60)),
]


@pytest.mark.parametrize("row", LIMITED, ids=range(len(LIMITED)))
async def test_a_limit_is_kept_for_its_endpoint_only(
    fake: tuple[vercel.Vercel, OpenConnection], row: tuple[Any, ...]
) -> None:
    running, link = fake
    headers, body, (least, most) = row

    async def limited(request: web.Request) -> web.Response:
        error = {"code": "rate_limited", "message": "Rate limit exceeded", **_times(body)}
        return web.json_response({"error": error}, status=429, headers=_times(headers))

    running.faults = [("POST", "/v2/observability/query", limited)]
    gate = GATES["vercel"]
    with pytest.raises(Retryable) as caught:
        await gate.measure(gate.config.model_validate(RATIO), link)
    assert least <= caught.value.after <= most + 1, caught.value.after
    running.faults = []
    with pytest.raises(Retryable, match="its rate limit is met"):
        await gate.measure(gate.config.model_validate(RATIO), link)
    await gate.measure(gate.config.model_validate(ENV), link)
    await CONNECTIONS["vercel"].check(link)
    rest.require_open(link)


def _times(value: Any) -> Any:
    """`+30` as the point in time 30 seconds from now."""
    if isinstance(value, dict):
        return {name: _times(item) for name, item in value.items()}
    if isinstance(value, str) and value.startswith("+"):
        return str(int(time.time()) + int(value[1:])) if value != "+30" else int(time.time()) + 30
    return value


# --- the Connection


async def test_credentials(fake: tuple[vercel.Vercel, OpenConnection]) -> None:
    running, link = fake
    await CONNECTIONS["vercel"].check(link)
    slug = linked("vercel", {"url": link.config.url, "slug": "foco-inc"}, {"token": world.TOKEN})
    await CONNECTIONS["vercel"].check(slug)
    wrong = linked("vercel", {"url": link.config.url}, {"token": world.HEADER})
    with pytest.raises(
        Permanent, match=r"the token is not valid, or has expired \(403\)"
    ) as caught:
        await CONNECTIONS["vercel"].check(wrong)
    world.assert_silent(caught.value)
    running.team, running.slug = "team_other", "other"
    with pytest.raises(Permanent, match="token"):
        await CONNECTIONS["vercel"].check(link)


def test_one_team() -> None:
    token = {"secretRef": {"name": "vercel", "key": "token"}}
    model = CONNECTIONS["vercel"].config
    assert model.model_validate({"token": token}).url == "https://api.vercel.com"  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="both teamId and slug"):
        model.model_validate({"token": token, "teamId": "team_1", "slug": "foco"})
