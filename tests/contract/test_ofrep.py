"""ofrep gates against a flag system: whom a flag is given to."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS, GATES
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.fakes.flags import Ofrep
from tests.fakes.serving import linked, serving


def flags() -> Ofrep:
    """A flag for a beta list, and what else a flag can be."""
    return Ofrep(
        world.TOKEN,
        {
            "voice": {"ada": True, "grace": True, "*": False},
            "everyone": {"*": True},
            "nobody": {"*": False},
            "theme": {"ada": "dark", "*": "light"},
            "percent": {"ada": 20, "grace": 20.0, "*": 0.5},
            "settings": {"*": {"value": {"a": 1}, "reason": "STATIC"}},
            "code-default": {"ada": True, "*": {"reason": "DEFAULT"}},
            "broken": {"*": {"value": True, "reason": "ERROR"}},
            "stale": {"ada": True, "*": {"value": False, "reason": "STALE"}},
            "half": {"ada": True, "*": web.json_response({"errorDetails": "oops"}, status=500)},
            "invalid": {
                "*": web.json_response(
                    {"key": "invalid", "errorCode": "INVALID_CONTEXT"}, status=400
                )
            },
            "starting": {
                "*": web.json_response({"key": "a", "errorCode": "PROVIDER_NOT_READY"}, status=400)
            },
            "strange": {"*": web.json_response({"flag": "strange", "enabled": True})},
            "both": {"*": {"value": True, "errorCode": "GENERAL"}},
            "limited": {"*": web.json_response({}, status=429, headers={"Retry-After": "40"})},
            "until": {
                "*": web.json_response(
                    {}, status=429, headers={"Retry-After": "2024-02-07T12:00:00Z"}
                )
            },
        },
    )


ADA: dict[str, Any] = {"users": ["ada"]}
LIST: dict[str, Any] = {"users": ["ada", "grace"], "others": ["alan", "tim"]}
TABLE = [
    # flag            fields                                          verdict      words
    ("voice", LIST, "Good", "2 users get it, 2 others do not"),
    ("voice", {"users": ["ada", "alan"]}, "Breach", "1 do not get it (alan)"),
    ("voice", {"others": ["ada", "alan"]}, "Breach", "1 get it and must not (ada)"),
    ("voice", {"others": ["alan"]}, "Good", ""),
    ("everyone", LIST, "Breach", "2 get it and must not (alan, tim)"),
    ("nobody", LIST, "Breach", "2 do not get it (ada, grace)"),
    ("everyone", {"others": list("abcde")}, "Breach", "(a, b, c and 2 more)"),
    ("theme", {"value": "dark", "users": ["ada"], "others": ["alan"]}, "Good", "theme = dark"),
    ("theme", ADA, "Breach", "ada"),
    ("percent", {"value": "20", "users": ["ada", "grace"]}, "Good", ""),
    ("percent", {"value": "0.5", "users": ["alan"]}, "Good", ""),
    ("settings", ADA, "Permanent", "is an object"),
    ("code-default", LIST, "NoData", "DEFAULT"),
    ("code-default", ADA, "Good", ""),
    ("broken", ADA, "NoData", "ERROR"),
    ("stale", {"users": ["ada"], "others": ["alan"]}, "NoData", "STALE"),
    ("missing", ADA, "NotFound", "there is no flag missing"),
    ("half", LIST, "Retryable", "answered 500"),
    ("invalid", ADA, "Permanent", "INVALID_CONTEXT"),
    ("starting", ADA, "Retryable", "PROVIDER_NOT_READY"),
    ("strange", ADA, "Permanent", "not OFREP"),
    ("both", ADA, "Permanent", "not OFREP"),
    ("limited", ADA, "Retryable", "asked again in 40s"),
    ("until", ADA, "Retryable", "asked again in"),
]


def link(
    url: str, token: str = world.TOKEN, field: str = "bearerToken", timeout: float = 2.0
) -> OpenConnection:
    """A Connection with a token."""
    return linked("ofrep", {"url": url}, {field: token}, timeout)


@pytest.mark.parametrize("row", TABLE, ids=[f"{row[0]} {row[2]} {row[3]}" for row in TABLE])
async def test_flags(row: tuple[str, dict[str, Any], str, str]) -> None:
    async with serving(flags().app()) as url, world.logs() as lines:
        kind, message = await world.verdict("ofrep", {"flag": row[0], **row[1]}, link(url), {})
    assert (kind, row[3] in message) == (row[2], True), f"{kind}: {message}"
    world.assert_silent(*lines)


async def test_the_context_is_the_users_and_the_keys_are_escaped() -> None:
    fake = flags()
    fake.flags["beta/voice?"] = {"*": True}
    async with serving(fake.app()) as url:
        config = {
            "flag": "beta/voice?",
            "users": ["ada"],
            "context": {"country": "MX", "plan": "pro"},
        }
        assert (await world.verdict("ofrep", config, link(url), {}))[0] == "Good"
    assert fake.contexts == [{"targetingKey": "ada", "country": "MX", "plan": "pro"}]


@pytest.mark.parametrize("field", ["bearerToken", "apiKey"])
async def test_credentials(field: str) -> None:
    async with serving(flags().app()) as url:
        await CONNECTIONS["ofrep"].check(link(url, field=field))
        with pytest.raises(Permanent, match="credentials are refused"):
            await CONNECTIONS["ofrep"].check(link(url, "wrong", field))
        with pytest.raises(Permanent, match="not as OFREP does"):
            await CONNECTIONS["ofrep"].check(link(f"{url}/elsewhere", field=field))
        assert (
            await world.verdict("ofrep", {"flag": "voice", **ADA}, link(url, "wrong", field), {})
        )[0] == "Permanent"


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    connection = link(server.url(fault), timeout=world.patience(fault))
    async with world.logs() as lines:
        kind, message = await world.verdict("ofrep", {"flag": "voice", **LIST}, connection, {})
    assert kind == VERDICTS[fault], message
    world.assert_silent(*lines)
    error = Retryable if VERDICTS[fault] == "Retryable" else Permanent
    with pytest.raises(error):
        await CONNECTIONS["ofrep"].check(link(server.url(fault), timeout=world.patience(fault)))


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, "needs users or others"),
        ({"users": ["ada"], "others": ["ada"]}, "names ada in users and in others"),
        ({"users": [""]}, "at least 1"),
        ({"users": ["a"] * 21}, "at most 20"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GATES["ofrep"].config.model_validate({"flag": "voice", **fields})


def test_two_ways_in_are_one_too_many() -> None:
    ref = {"secretRef": {"name": "a", "key": "b"}}
    with pytest.raises(ValueError, match="keep one"):
        CONNECTIONS["ofrep"].config.model_validate(
            {"url": "http://flagd:8016", "bearerToken": ref, "apiKey": ref}
        )
