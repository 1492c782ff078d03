"""http gates: what a body means, and which configurations mean anything."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from pydantic import ValidationError

from gatewright.providers.common import client, replies
from gatewright.providers.common.jsonpath import compile_path
from gatewright.providers.http.gate import HttpCheck
from gatewright.providers.registry import GATES
from tests.contract import world

BODY = {
    "status": "ok",
    "version": "2.4.0",
    "ready": True,
    "failing": False,
    "none": None,
    "count": 100,
    "rate": 0.25,
    "round": 2.0,
    "big": 12345678901234567890123,
    "text": "100",
    "yes": "true",
    "long": "x" * 500,
    "empty": "",
    "checks": [
        {"name": "db", "status": "up", "ms": 12},
        {"name": "redis", "status": "down", "ms": 3},
    ],
    "half": "a\ud800",
    "nested": {"a": {"b": 7}},
    "sp ace": 1,
    "digits": 10**400,
}
EQUALS = [
    # jsonPath                              equals      verdict      words
    ("$.status", "ok", "Good", ""),
    ("$.status", "OK", "Breach", '$.status is "ok", expected "OK"'),
    ("$.version", "2.4.0", "Good", ""),
    ("$.version", "2.4", "Breach", 'is "2.4.0"'),
    ("$.ready", "true", "Good", ""),
    ("$.ready", "True", "Breach", 'is "true"'),
    ("$.ready", "1", "Breach", 'is "true"'),
    ("$.failing", "false", "Good", ""),
    ("$.yes", "true", "Good", ""),
    ("$.none", "null", "Good", ""),
    ("$.none", "", "Breach", 'is "null"'),
    ("$.empty", "", "Good", ""),
    ("$.count", "100", "Good", ""),
    ("$.count", "100.0", "Good", ""),
    ("$.count", "1e2", "Good", ""),
    ("$.count", "0100", "Breach", 'is "100"'),
    ("$.count", "101", "Breach", 'is "100"'),
    ("$.round", "2", "Good", ""),
    ("$.big", "12345678901234567890123", "Good", ""),
    ("$.text", "100", "Good", ""),
    ("$.text", "100.0", "Breach", 'is "100"'),
    ("$.long", "x", "Breach", "$.long is a text that is not shown, expected"),
    ("$.checks[0].status", "up", "Good", ""),
    ("$.checks[-1].status", "up", "Breach", 'is "down"'),
    ("$.checks[?@.name=='redis'].status", "up", "Breach", 'is "down"'),
    ("$.checks[?@.name=='a,b..?'].status", "up", "NoData", "is not in the body"),
    ("$['sp ace']", "1", "Good", ""),
    ("$..b", "7", "Good", ""),
    ("$.half", "ok", "Breach", '$.half is a text that is not shown, expected "ok"'),
    ("$.missing", "ok", "NoData", "$.missing is not in the body"),
    ("$.status.deeper", "ok", "NoData", "is not in the body"),
    ("$.checks[9]", "ok", "NoData", "is not in the body"),
    ("$.checks[*].status", "up", "Permanent", "several values"),
    ("$..status", "up", "Permanent", "several values"),
    ("$.checks", "[]", "Permanent", "an object or a list"),
    ("$", "{}", "Permanent", "an object or a list"),
]
VALUES = [
    ("$.count", {"max": "100"}, "Good", ""),
    ("$.count", {"max": "99"}, "Breach", "100 > 99"),
    ("$.rate", {"max": "20%"}, "Breach", "25% > 20%"),
    ("$.rate", {"min": "20%"}, "Good", ""),
    ("$.big", {"min": "1"}, "Good", ""),
    ("$.digits", {"min": "1"}, "NoData", "inf"),
    ("$.ready", {}, "Good", "is true"),
    ("$.failing", {}, "Breach", "is false"),
    (
        "$.ready",
        {"max": "10"},
        "Error",
        "$.ready is true, which is no number, and the limit is <= 10",
    ),
    ("$.failing", {"max": "10"}, "Breach", "is false"),
    ("$.none", {"max": "1"}, "NoData", "is null"),
    ("$.missing", {"max": "1"}, "NoData", "is not in the body"),
    ("$.count", {}, "Error", "without limits"),
    ("$.text", {"max": "1000"}, "Permanent", "neither a number nor a boolean"),
    ("$.nested", {"max": "1"}, "Permanent", "neither a number nor a boolean"),
]


@pytest.fixture
def body(monkeypatch: pytest.MonkeyPatch, server: world.Server) -> world.Server:
    """A server whose answer is BODY."""
    answer = world.reply(json.dumps(BODY))
    monkeypatch.setitem(world.FAULTS, "ok", (answer, answer))
    return server


@pytest.mark.parametrize("row", EQUALS, ids=[f"{row[0]} {row[1]}" for row in EQUALS])
async def test_equals(body: world.Server, row: tuple[str, str, str, str]) -> None:
    config = {"path": "/", "jsonPath": row[0], "equals": row[1]}
    kind, message = await world.verdict("http", config, world.http_link(body.url("ok")), {})
    assert (kind, row[3] in message) == (row[2], True), f"{kind}: {message}"


@pytest.mark.parametrize("row", VALUES, ids=[f"{row[0]} {row[1]}" for row in VALUES])
async def test_values(body: world.Server, row: tuple[str, dict[str, str], str, str]) -> None:
    config = {"path": "/", "jsonPath": row[0]}
    kind, message = await world.verdict("http", config, world.http_link(body.url("ok")), row[1])
    assert (kind, row[3] in message) == (row[2], True), f"{kind}: {message}"


@pytest.mark.parametrize(
    "name, config, expected, words",
    [
        ("503", {}, "Breach", "answered 503, expected 200"),
        ("503", {"status": [200, 503]}, "Good", "answered 503"),
        ("401", {"status": [401, 403]}, "Good", "answered 401"),
        ("404", {"status": [401, 403]}, "Breach", "answered 404, expected 401 or 403"),
        ("redirect", {"status": [302]}, "Good", "answered 302"),
        ("redirect", {"status": [301]}, "Permanent", "a redirect to"),
        ("ok", {"status": [204]}, "Breach", "answered 200, expected 204"),
        ("503", {"jsonPath": "$.value", "equals": "0.005"}, "Breach", "answered 503"),
        ("401", {"status": [401], "jsonPath": "$.value"}, "Permanent", "is not JSON"),
    ],
)
async def test_statuses(
    server: world.Server, name: str, config: dict[str, Any], expected: str, words: str
) -> None:
    found = await world.verdict(
        "http", {"path": "/", **config}, world.http_link(server.url(name)), {}
    )
    assert (found[0], words in found[1]) == (expected, True), found


async def test_a_large_body_is_looked_through_aside(
    monkeypatch: pytest.MonkeyPatch, server: world.Server
) -> None:
    large = world.reply(json.dumps({"value": 0.005, "filling": ["x" * 100] * 5000}))
    monkeypatch.setitem(world.FAULTS, "ok", (large, large))
    threads: list[str] = []
    original = replies.json_of

    def note(reply: replies.Reply) -> Any:
        threads.append(threading.current_thread().name)
        return original(reply)

    monkeypatch.setattr(replies, "json_of", note)
    config = {"path": "/", "jsonPath": "$.value"}
    assert (
        await world.verdict("http", config, world.http_link(server.url("ok"), 5.0), {"max": "1%"})
    )[0] == "Good"
    assert threads[0] != threading.main_thread().name


async def test_head_asks_for_no_body(server: world.Server) -> None:
    server.requests.clear()
    kind, _ = await world.verdict(
        "http", {"path": "/", "method": "HEAD"}, world.http_link(server.url("no-body")), {}
    )
    assert kind == "Good"
    assert server.requests[-1][0].startswith("HEAD /no-body/ ")


async def test_a_slow_answer_breaches_its_limit(
    monkeypatch: pytest.MonkeyPatch, server: world.Server
) -> None:
    link = world.http_link(server.url("ok"))
    latency = {"path": "/", "measure": "Latency"}
    assert (await world.verdict("http", latency, link, {"max": "900ms"}))[0] == "Good"
    kind, message = await world.verdict("http", latency, link, {"max": "0ms"})
    assert (kind, message.endswith("> 0ms")) == ("Breach", True), message


async def test_the_body_is_asked_for_as_json_where_it_is_read(server: world.Server) -> None:
    link = world.http_link(server.url("ok"))
    for config, accept in (
        ({"path": "/"}, "*/*"),
        ({"path": "/", "jsonPath": "$.value"}, "application/json"),
    ):
        await world.verdict("http", config, link, {"max": "1"})
        assert server.requests[-1][1]["accept"] == accept


GOOD_PATHS = [
    "/",
    "/api/health",
    "/a?b=c&d=..",
    "/a/..b/c..",
    "/%20",
    "/a:b@c;d=e,f",
    "/$(x)",
    "/a/.../b",
]
BAD_PATHS = [
    "",
    "health",
    "http://evil.example/",
    "//evil.example/",
    "/../admin",
    "/a/..",
    "/a/../../b",
    "/%2e%2e/a",
    "/.%2E/a",
    "/a%2f..%2fb",
    "/a%5c..%5cb",
    "/a\r\nX: y",
    "/a b",
    "/a\\b",
    "/a#b",
    "/é",
    "/\x00",
    "/<x>",
    '/"',
    "file:///etc",
]


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_good_paths(path: str) -> None:
    assert HttpCheck(path=path).path == path


@pytest.mark.parametrize("path", BAD_PATHS)
def test_bad_paths(path: str) -> None:
    with pytest.raises(ValidationError):
        HttpCheck(path=path)


@pytest.mark.parametrize("path", GOOD_PATHS)
async def test_a_path_stays_below_the_url(server: world.Server, path: str) -> None:
    await client.ask(world.http_link(server.url("ok")), "GET", path)
    assert server.requests[-1][0].split()[1].startswith("/ok/")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "status",
        ".status",
        "{.status}",
        "$.a[",
        "$.a b",
        "$[?@.a",
        "$['a','b']",
        "$..a..b",
        "$..a[?@.b]",
        "$[?@.a == $[?@.b].c]",
        "$[*,*]",
        "$[?match(@.a, 'x')]",
        "$[?search(@.a, '(a+)+$')]",
        "$[?nothing(@.a)]",
        "$[?$[*].a]",
        "$[?count($[0:9]) == 1]",
        "$[?length($) == 1]",
        "$[?@[0][0] == $[0][0]]",
        "$.a[?$.a == $.b]",
        "$." + "a" * 300,
        "$[9999999999999999999]",
        "$" + "[" * 5000,
    ],
)
def test_bad_json_paths(path: str) -> None:
    with pytest.raises(ValidationError):
        HttpCheck(path="/", jsonPath=path)


def test_the_worst_json_path_is_fast() -> None:
    """Linear in the body, whatever its shape; a query that is not would take hours."""
    wide = json.loads("[" + ",".join(["[]"] * 60_000) + "]")
    deep = json.loads("[" * 90 + "]" * 90)
    flat = json.loads("{" + ",".join(f'"a{index}":{index}' for index in range(30_000)) + "}")
    for path in (
        "$..a",
        "$[?@.a == 1]",
        "$[*][*][*]",
        "$[?length(@) == 1]",
        "$[?@[0][0] == @[0][1]]",
    ):
        for document in (wide, deep, flat):
            started = time.process_time()
            for _, node in zip(range(2), compile_path(path).finditer(document), strict=False):
                assert node
            assert time.process_time() - started < 3.0, path


@pytest.mark.parametrize(
    "config, words",
    [
        ({"equals": "ok"}, "equals needs jsonPath"),
        ({"measure": "Latency", "jsonPath": "$.a"}, "two questions"),
        ({"method": "HEAD", "jsonPath": "$.a"}, "which HEAD does not have"),
        ({"method": "POST"}, "'GET' or 'HEAD'"),
        ({"status": []}, "at least 1 item"),
        ({"status": [99]}, "greater than or equal to 100"),
        ({"status": list(range(200, 211))}, "at most 10 items"),
        ({"timeout": "5s"}, "Extra inputs"),
    ],
)
def test_configurations_that_mean_nothing(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        HttpCheck.model_validate({"path": "/", **config})


def test_the_configuration_is_the_one_of_the_registry() -> None:
    assert GATES["http"].config is HttpCheck
