"""webhook: what is posted, how it is signed, and what an answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS
from gatewright.providers.webhook.connection import signing_keys
from gatewright.providers.webhook.notifier import sign_headers
from tests.cluster.processes import free_port
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.contract.telling import STARTED, TEST, UID, message, outcome, told, tried
from tests.fakes import npm
from tests.fakes.serving import linked, serving

SECRET = "whsec_" + base64.b64encode(world.TOKEN.encode()).decode()


def link(url: str, secret: str = SECRET, timeout: float = 2.0, **more: str) -> OpenConnection:
    """A Connection with a signing key."""
    return linked("webhook", {"url": url}, {"secret": secret, **more}, timeout)


def receiver(
    received: list[tuple[dict[str, str], bytes]], status: int = 200, kind: str = ""
) -> web.Application:
    """Keeps what it gets."""

    async def receive(request: web.Request) -> web.Response:
        received.append(
            ({name.lower(): value for name, value in request.headers.items()}, await request.read())
        )
        return web.Response(status=status, content_type=kind or "application/octet-stream")

    found = web.Application()
    found.router.add_post("/hooks/deployments", receive)
    return found


def verified(headers: dict[str, str], body: bytes, key: bytes) -> bool:
    """As the standard tells receivers to do it."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return any(
        hmac.compare_digest(wanted, part.partition(",")[2])
        for part in headers["webhook-signature"].split(" ")
        if part.startswith("v1,")
    )


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    """The example that their documentation gives."""
    key = base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")
    body = b'{"event_type":"ping","data":{"success":true}}'
    found = sign_headers([key], "msg_loFOjxBNrRLzqYUf", 1731705121, body)
    assert found["webhook-signature"] == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


VERIFY = """
const { Webhook } = require("standardwebhooks");
const { secret, headers, body } = JSON.parse(require("fs").readFileSync(0, "utf8"));
try { console.log(JSON.stringify(new Webhook(secret).verify(body, headers))); }
catch (error) { console.log(`refused: ${error.message}`); }
"""


def by_the_library(headers: dict[str, str], body: bytes, secret: str) -> str:
    """What the standard's own library makes of a message: the body, or why it refuses it."""
    modules = npm.installed("standardwebhooks@1.1.1")
    said = json.dumps({"secret": secret, "headers": headers, "body": body.decode()})
    environment = {"PATH": os.environ["PATH"], "NODE_PATH": str(modules)}
    command = ["node", "--eval", VERIFY]
    done = subprocess.run(
        command, input=said, capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    return done.stdout.strip()


async def test_the_standards_own_library_takes_what_is_posted_and_nothing_else() -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    async with serving(receiver(received)) as url:
        connection = link(f"{url}/hooks/deployments", "whsec_" + "bmV3" * 8, previousSecret=SECRET)
        await told("webhook", {}, connection, replace(STARTED, text="a test failed › “älter”"))
    [(headers, body)] = received
    for secret in (SECRET, "whsec_" + "bmV3" * 8):
        assert json.loads(by_the_library(headers, body, secret)) == json.loads(body)
    assert "refused: No matching signature found" in by_the_library(headers, body + b" ", SECRET)
    late = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 3600)}
    assert "refused: Message timestamp too old" in by_the_library(late, body, SECRET)


async def test_a_message_is_posted_once_signed_and_complete() -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    async with serving(receiver(received)) as url:
        assert await told("webhook", {}, link(f"{url}/hooks/deployments"), STARTED) is None
    [(headers, body)] = received
    assert headers["content-type"] == "application/json"
    assert verified(headers, body, world.TOKEN.encode())
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 30
    assert json.loads(body) == {
        "type": "release.Started",
        "timestamp": STARTED.at,
        "data": {
            "release": {"namespace": "shop", "name": "orders", "uid": UID},
            "run": 3,
            "event": "Started",
            "severity": "info",
            "title": STARTED.title,
            "text": STARTED.text,
            "stages": list(STARTED.lines),
            "over": False,
            "downtimeSeconds": 0,
        },
    }


async def test_a_test_is_posted_as_one() -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    async with serving(receiver(received)) as url:
        said = await tried("webhook", {}, link(f"{url}/hooks/deployments"))
    [(headers, body)] = received
    assert verified(headers, body, world.TOKEN.encode())
    posted = json.loads(body)
    assert posted["type"] == "release.Test" and posted["data"]["title"] == TEST.title
    assert posted["data"]["run"] == 0 and said == "posted, signed, and received (200)"


async def test_a_test_that_is_not_taken_says_so() -> None:
    async with serving(receiver([], status=404)) as url:
        with pytest.raises(Permanent, match="404"):
            await tried("webhook", {}, link(f"{url}/hooks/deployments"))


async def test_a_repetition_has_the_same_id_and_another_message_has_not() -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    async with serving(receiver(received)) as url:
        connection = link(f"{url}/hooks/deployments")
        for wanted in (STARTED, replace(STARTED, again=True), message("StagePassed")):
            await told("webhook", {}, connection, wanted)
    ids = [headers["webhook-id"] for headers, _ in received]
    assert ids[0] == ids[1] != ids[2]
    assert not any("." in identity for identity in ids), (
        "the full stop parts id, time and body in what is signed"
    )


async def test_changing_a_byte_breaks_the_signature() -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    async with serving(receiver(received)) as url:
        await told("webhook", {}, link(f"{url}/hooks/deployments"), STARTED)
    [(headers, body)] = received
    assert not verified(headers, body.replace(b"Started", b"Stopped"), world.TOKEN.encode())
    assert not verified({**headers, "webhook-timestamp": "1"}, body, world.TOKEN.encode())
    assert not verified(headers, body, b"another key of some length")


async def test_a_rotation_signs_with_both_keys() -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    async with serving(receiver(received)) as url:
        connection = link(
            f"{url}/hooks/deployments", "a new key in plain text", previousSecret=SECRET
        )
        await told("webhook", {}, connection, STARTED)
    [(headers, body)] = received
    assert verified(headers, body, b"a new key in plain text") and verified(
        headers, body, world.TOKEN.encode()
    )


@pytest.mark.parametrize(
    "secret, words",
    [
        ("whsec_no base64!", "is not base64"),
        ("tiny-key", "shorter than 16 bytes"),
        ("whsec_c2hvcnQ=", "shorter"),
    ],
)
async def test_a_key_that_is_none_signs_nothing(secret: str, words: str) -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    async with serving(receiver(received)) as url:
        connection = link(f"{url}/hooks/deployments", secret)
        found = await outcome("webhook", {}, connection)
        with pytest.raises(Permanent, match=words):
            await CONNECTIONS["webhook"].check(connection)
        with pytest.raises(Permanent):
            list(signing_keys(connection))
    assert found[0] == "Permanent" and words in found[1] and secret not in found[1]
    assert received == []


RECEIVED = {
    "ok",
    "empty",
    "null",
    "other-json",
    "200-error",
    "deep",
    "not-json",
    "no-body",
    "no-content",
    "echo",
}
"""Any 2xx is the standard's word for received, whatever it says."""
TABLE = {**VERDICTS, **dict.fromkeys(RECEIVED, "Delivered")}


@pytest.mark.parametrize("fault", TABLE)
async def test_faults(server: world.Server, fault: str) -> None:
    found = await outcome(
        "webhook", {}, link(server.url(fault), world.TOKEN, timeout=world.patience(fault))
    )
    assert found[0] == TABLE[fault], found


@pytest.mark.parametrize(
    "header, after",
    [({"Retry-After": "7"}, 7.0), ({}, 10.0), ({"Retry-After": "99999999"}, 3600.0)],
)
async def test_a_limit_says_when_to_come_back(header: dict[str, str], after: float) -> None:
    asked: list[str] = []

    async def limited(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=429, headers=header)

    app = web.Application()
    app.router.add_post("/", limited)
    async with serving(app) as url:
        connection = link(url)
        kind, _, wait = await outcome("webhook", {}, connection)
        assert (kind, wait) == ("Retryable", after)
        kind, text, wait = await outcome("webhook", {}, connection)
        assert kind == "Retryable" and wait > after - 5 and "rate limit" in text
    assert len(asked) == 1, "nothing is sent before the limit is over"


async def test_nobody_listens() -> None:
    found = await outcome("webhook", {}, link(f"http://127.0.0.1:{free_port()}"))
    assert found[0] == "Retryable" and "refused" in found[1]


CHECKS: list[tuple[int, type[Exception] | None]] = [
    (200, None), (204, None), (404, None), (405, None), (501, None),
    (302, Permanent), (401, Permanent), (403, Permanent), (410, Permanent), (429, Retryable),
    (500, Retryable), (503, Retryable),
]  # fmt: skip


@pytest.mark.parametrize("status, wanted", CHECKS)
async def test_credential_check(status: int, wanted: type[Exception] | None) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.Response(
            status=status,
            headers={"Location": "https://login.example.com"} if status == 302 else {},
        )

    app = web.Application()
    app.router.add_route("*", "/hooks", answer)
    async with serving(app) as url:
        connection: Any = link(f"{url}/hooks")
        if wanted is None:
            await CONNECTIONS["webhook"].check(connection)
        else:
            with pytest.raises(wanted) as caught:
                await CONNECTIONS["webhook"].check(connection)
            world.assert_silent(caught.value)
    assert asked == ["HEAD"], "a check posts nothing"
