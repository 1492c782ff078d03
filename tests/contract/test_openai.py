"""openai gates against a stand-in for OpenAI: what each answer says of a key, and that nothing of
the key is ever said."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.fakes.serving import linked, serving

KEY = world.TOKEN
PART = f"sk-...{KEY[-6:]}"
"""What error texts show of a key."""
MODELS = {
    "object": "list",
    "data": [{"id": "gpt-5", "object": "model", "created": 1, "owned_by": "openai"}],
}


def error(
    code: str | None, text: str = f"Incorrect API key provided: {PART} ({KEY})"
) -> dict[str, object]:
    """An error as OpenAI has it."""
    return {
        "error": {"message": text, "type": "invalid_request_error", "param": None, "code": code}
    }


TABLE = [
    # status  body                                                    Valid        Revoked
    # words
    (200, MODELS, "Good", "Breach", "is valid"),
    (200, {"object": "list", "data": []}, "NoData", "NoData", "no model"),
    (200, {"data": []}, "Permanent", "Permanent", "not the OpenAI API"),
    (401, error("invalid_api_key"), "Breach", "Good", "knows no such key (401)"),
    (401, error(None), "Breach", "NoData", "refused (401)"),
    (401, error("ip_not_authorized"), "Breach", "NoData", "where the request comes from"),
    (401, {"detail": "who are you?"}, "Breach", "NoData", "not as OpenAI does"),
    (403, error("missing_scope"), "Good", "Breach", "may not list models (403)"),
    (
        403,
        error("unsupported_country_region_territory"),
        "NoData",
        "NoData",
        "where the request comes from",
    ),
    (403, {"title": "Access denied"}, "NoData", "NoData", "not as OpenAI does"),
    (404, error("not_found"), "Permanent", "Permanent", "no such path (404)"),
    (429, error("insufficient_quota"), "Good", "Breach", "quota is used up (429)"),
    (429, error("rate_limit_exceeded"), "Good", "Breach", "rate limit (429)"),
    (429, {"detail": "slow down"}, "NoData", "NoData", "not as OpenAI does"),
    (500, error("server_error"), "Retryable", "Retryable", "answered 500"),
    (503, error(None), "Retryable", "Retryable", "answered 503"),
]


def link(url: str, timeout: float = 2.0) -> OpenConnection:
    """A Connection with a key."""
    return linked("openai", {"url": url}, {"apiKey": KEY}, timeout)


def app(status: int, body: object) -> web.Application:
    """Answers one thing, to a request with the key."""

    async def models(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        return web.json_response(body, status=status)

    found = web.Application()
    found.router.add_get("/v1/models", models)
    return found


@pytest.mark.parametrize("row", TABLE, ids=[f"{row[0]} {row[4]}" for row in TABLE])
async def test_what_an_answer_says_of_a_key(
    row: tuple[int, dict[str, object], str, str, str],
) -> None:
    async with serving(app(row[0], row[1])) as url, world.logs() as lines:
        connection = link(f"{url}/v1")
        valid = await world.verdict("openai", {}, connection, {})
        revoked = await world.verdict("openai", {"expect": "Revoked"}, connection, {})
    assert ((valid[0], revoked[0]), row[4] in valid[1]) == ((row[2], row[3]), True), (
        valid,
        revoked,
    )
    said = "\n".join([valid[1], revoked[1], *lines])
    world.assert_silent(said)
    assert PART not in said and KEY[-6:] not in said


@pytest.mark.parametrize("row", TABLE, ids=[f"{row[0]} {row[4]}" for row in TABLE])
async def test_credential_check(row: tuple[int, dict[str, object], str, str, str]) -> None:
    async with serving(app(row[0], row[1])) as url:
        if row[2] == "Good":
            await CONNECTIONS["openai"].check(link(f"{url}/v1"))
            return
        with pytest.raises(Retryable if row[2] == "Retryable" else Permanent) as caught:
            await CONNECTIONS["openai"].check(link(f"{url}/v1"))
    world.assert_silent(caught.value)
    assert KEY[-6:] not in str(caught.value)


async def test_a_limit_that_is_an_answer_keeps_nobody_back() -> None:
    async with serving(app(429, error("insufficient_quota"))) as url:
        connection = link(f"{url}/v1")
        found = [await world.verdict("openai", {}, connection, {}) for _ in range(2)]
    assert [kind for kind, _ in found] == ["Good", "Good"], found


SPECIAL = {"401": "Breach", "403": "NoData", "429": "NoData"}


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    expected = (VERDICTS | SPECIAL)[fault]
    connection = link(server.url(fault), timeout=world.patience(fault))
    async with world.logs() as lines:
        valid = await world.verdict("openai", {}, connection, {})
        revoked = await world.verdict("openai", {"expect": "Revoked"}, connection, {})
    assert (valid[0], revoked[0]) == (expected, "NoData" if expected == "Breach" else expected), (
        valid,
        revoked,
    )
    world.assert_silent(*lines)


async def test_the_default_is_openais_own_address() -> None:
    config = CONNECTIONS["openai"].config.model_validate(
        {"apiKey": {"secretRef": {"name": "a", "key": "b"}}}
    )
    assert json.loads(config.model_dump_json())["url"] == "https://api.openai.com/v1"
