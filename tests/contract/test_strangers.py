"""Systems at a URL of a tenant's choice: what they answer is shown as numbers and short words,
whatever they are."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import replies, rest
from gatewright.providers.common.vendor_hosts import is_vendor_host
from gatewright.providers.registry import CONNECTIONS, GATES
from tests.contract import world
from tests.contract.cases import OPENED, PLAIN, WIRED, secret_values
from tests.contract.listed import assert_all_listed
from tests.fakes.serving import always, linked, serving

TOLD = "db-1.internal: user 'root', balance 4711 of account DE89"
"""What an internal service tells."""
ACCESS = {**OPENED, **{name: ({}, ("bearerToken",)) for name in PLAIN}}
BODIES: list[Any] = [
    {"error": {"message": TOLD, "code": TOLD}},
    {"error": TOLD, "errorType": TOLD, "status": "error", "data": TOLD},
    {"error": TOLD, "errorType": "bad_data", "status": "error"},
    {"status": "success", "data": {"resultType": TOLD, "result": [TOLD]}, "warnings": [TOLD]},
    {"message": TOLD, "errors": [TOLD], "status": "invalid event"},
    {"detail": TOLD, "key": "f", "value": TOLD, "reason": TOLD},
    {"errorCode": TOLD, "key": "f"},
    {"ok": False, "error": TOLD, "needed": TOLD},
    [{"name": TOLD, "status": TOLD, "id": TOLD, "shortId": TOLD}],
    {
        "lints": [{"name": TOLD, "level": TOLD, "metadata": {"schema": TOLD, "name": TOLD}}],
        "status": TOLD,
        "value": TOLD,
        "version": TOLD,
    },
    {"timeSeries": [{"meta": {"interval": TOLD}, "values": []}]},
    {"backups": [{"status": TOLD}], "pitr_enabled": False},
    {"message": f"ERROR: 42P01: {TOLD} LINE 1: {TOLD}"},
]
CHECKS: list[tuple[str, dict[str, Any]]] = [
    ("http", {"path": "/", "jsonPath": "$.value", "equals": "x"}),
    ("http", {"path": "/", "jsonPath": "$.version"}),
    ("http", {"path": "/"}),
    ("prometheus", {"query": "up"}),
    ("ofrep", {"flag": "f", "users": ["a"]}),
    ("github", {"repository": "a/b", "openIssues": {"labels": ["P0"]}}),
    ("github", {"repository": "a/b", "commit": "main", "checks": ["a"]}),
    ("sentry", {"release": "a", "errors": {}}),
    ("sentry", {"release": "a", "newIssues": {}}),
    ("supabase", {"project": "a" * 20, "advisors": {}}),
    ("supabase", {"project": "a" * 20, "backups": {"maxAge": "1h"}}),
    ("supabase", {"project": "a" * 20, "health": {}}),
    ("supabase", {"project": "a" * 20, "query": {"sql": "select 1"}}),
    ("launchdarkly", {"project": "a", "environment": "b", "flag": "f"}),
    ("unleash", {"project": "a", "environment": "b", "flag": "f"}),
    ("vercel", {"project": "a", "env": ["A"]}),
    ("openai", {}),
    ("upstash", {"memory": {}}),
]


@pytest.fixture(autouse=True)
def vendors_own() -> None:
    """Here nobody is taken for a vendor."""


@pytest.fixture(autouse=True)
def _as_the_vendors_describe_it() -> None:
    """Nothing here is sent to a vendor."""


def assert_silent(message: str) -> None:
    assert not any(word in message for word in ("internal:", "root", "4711", "DE89", "db-1")), (
        message
    )


def test_every_connection_over_http_is_tried() -> None:
    assert_all_listed(
        ACCESS,
        CONNECTIONS.keys() - set(WIRED),
        "OPENED in tests/contract/cases.py",
        "its other fields, and the fields of its secrets",
    )
    assert_all_listed(
        {kind for kind, _ in CHECKS},
        {key for key, gate in GATES.items() if gate.connection not in WIRED},
        "CHECKS in tests/contract/test_strangers.py",
        "a check for each way in which the gate asks",
    )


@pytest.mark.parametrize("status", [200, 400, 403, 404, 422, 500])
async def test_no_sentence_of_an_answer_is_shown(status: int) -> None:
    for body in BODIES:
        async with serving(always(body, status)) as url:
            for message in await messages(url):
                assert_silent(message)


HEADERS = {
    "Location": "https://4711:DE89@login.example.com:8443/root/internal:7/?db-1=4711#DE89",
    "Retry-After": TOLD,
    "WWW-Authenticate": f'Bearer realm="{TOLD}"',
    "X-RateLimit-Reset": TOLD,
    "X-Error": TOLD,
    "Content-Disposition": TOLD,
    "ETag": TOLD,
}
"""What a stranger's headers tell."""


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 308, 401, 403, 429, 503])
async def test_no_header_of_an_answer_is_shown(status: int) -> None:
    async with serving(always({}, status, HEADERS)) as url:
        shown = await messages(url)
    assert shown
    for message in shown:
        assert_silent(message)
    if status in (301, 302, 307, 308):
        assert any("a redirect to https://login.example.com:8443;" in message for message in shown)


async def messages(url: str) -> list[str]:
    """What every credential check and every gate says of a system there."""
    shown: list[str] = []
    for kind, (fields, secrets) in ACCESS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gatewright.providers.statuspage.connection.REQUEST_SPACING_S", 0.0)
            try:
                await CONNECTIONS[kind].check(
                    linked(kind, {"url": url, **fields}, secret_values(secrets))
                )
            except (Permanent, Retryable) as error:
                shown.append(str(error))
    for kind, config in CHECKS:
        fields, secrets = ACCESS[kind]
        gate = GATES[kind]
        try:
            answer = await gate.measure(
                gate.config.model_validate(config),
                linked(kind, {"url": url, **fields}, secret_values(secrets)),
            )
        except (Permanent, Retryable) as error:
            shown.append(str(error))
        else:
            shown.append(answer.message)
    return shown


async def test_a_code_of_a_stranger_is_shown() -> None:
    async with serving(always({"error": {"code": "not_ready"}}, 400)) as url:
        with pytest.raises(Permanent, match=r"answered \(400\): not_ready"):
            await rest.call(linked("github", {"url": url}, {"token": world.TOKEN}), "GET", "/")


@pytest.mark.parametrize(
    "url, own",
    [
        ("https://api.github.com", True),
        ("https://us.sentry.io", True),
        ("https://app.eu.launchdarkly.com", True),
        ("https://slack.com/api", True),
        ("http://api.github.com", False),
        ("https://api.github.com.evil.example.com", False),
        ("https://evilsentry.io", False),
        ("https://github.acme.internal/api/v3", False),
        ("https://10.0.0.7", False),
    ],
)
def test_who_is_a_vendor(url: str, own: bool, request: pytest.FixtureRequest) -> None:
    config = CONNECTIONS["github"].config.model_validate(
        {"url": url, "token": {"secretRef": {"name": "a", "key": "b"}}}
    )
    assert is_vendor_host(OpenConnection("n", "i", config, 1.0)) is own


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("", "nowhere"),
        ("https://login.example.com/in/4711", "https://login.example.com"),
        ("HTTP://Login.Example.com:8080/in/4711?a=4711#4711", "http://login.example.com:8080"),
        ("https://root:4711@login.example.com", "https://login.example.com"),
        ("//login.example.com/4711", "//login.example.com"),
        ("https://[fd00::1]:8443/4711", "https://[fd00::1]:8443"),
        ("/in/4711", "another path of the same host"),
        ("in/4711", "another path of the same host"),
        ("?4711", "another path of the same host"),
        ("https://q7Zk2Xb9Lm4Tc8Vw1Nd5Rf3Gs6.example.com/", "a host that is not shown"),
        (f"https://{'4711' * 80}/", "a host that is not shown"),
        ("https://root 4711/", "a host that is not shown"),
        ("https://login.example.com:4711DE89/", "a host that is not shown"),
        ("https://[4711/", "a host that is not shown"),
        (r"https:\\4711\in", "a host that is not shown"),
        ("javascript:4711", "a host that is not shown"),
        ("mailto:root@4711.example.com", "a host that is not shown"),
    ],
)
def test_of_a_redirect_its_host_is_shown(location: str, shown: str) -> None:
    assert replies.target_of(location) == shown
