"""Connections: which object a name stands for, what a run has pinned, and what is said of their
readiness."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from aiohttp import web

from gatewright.ports import NotFound, OpenConnection, Permanent, Retryable
from gatewright.providers.common import client
from gatewright.providers.common.address_rules import AddressRules
from gatewright.providers.common.context import current
from gatewright.providers.registry import CONNECTIONS
from gatewright.runtime.connections import Connections
from gatewright.runtime.pins import Pin
from gatewright.runtime.shares import TIDY_ABOVE, NamespacePace
from gatewright.runtime.telling import readiness, readiness_writes
from tests.fakes.serving import serving

KEY = base64.b64encode(b"a-signing-key-of-16+").decode()
RECEIVER = {"url": "https://hooks.shop.example"}

pytestmark = pytest.mark.usefixtures("receiver")


class ApiServer:
    """Secrets, and the status of Connections as it was written."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, str]] = {"hook": {"key": KEY, "other": KEY}}
        self.type = "Opaque"
        self.version = "1"
        self.written: list[tuple[str, dict[str, Any]]] = []
        self.reads = 0
        self.away = False
        self.down = False

    async def get(self, path: str) -> dict[str, Any]:
        self.reads += 1
        if self.away:
            raise Retryable("the API server does not answer")
        name = path.rpartition("/")[2]
        if name not in self.secrets:
            raise NotFound(name)
        return {
            "type": self.type,
            "data": self.secrets[name],
            "metadata": {"resourceVersion": self.version},
        }

    async def patch(self, path: str, body: Mapping[str, Any], kind: str) -> dict[str, Any]:
        if self.down:
            raise Retryable("the API server does not answer")
        assert path.endswith("/status") and kind == "merge"
        self.written.append((path.split("/")[-2], dict(body["status"])))
        return {}

    def said(self) -> list[tuple[str, int]]:
        """Reason and generation of every write."""
        return [
            (status["conditions"][0]["reason"], status["observedGeneration"])
            for _, status in self.written
        ]


def connection(
    name: str, kind: str = "webhook", uid: str = "", generation: int = 1, **spec: Any
) -> dict[str, Any]:
    access: dict[str, Any] = dict(RECEIVER)
    if kind == "webhook":
        access["secret"] = {"secretRef": {"name": "hook", "key": "key"}}
    meta = {
        "namespace": "shop",
        "name": name,
        "uid": uid or f"uid-{name}",
        "generation": generation,
    }
    return {"metadata": meta, "spec": {kind: access | spec}}


def known(*items: Mapping[str, Any]) -> tuple[Connections, ApiServer]:
    server = ApiServer()
    links = Connections(server)  # type: ignore[arg-type]
    for item in items:
        links.event("ADDED", item)
    return links, server


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The URL of a receiver that answers credential checks, and takes every key."""
    current().rules = AddressRules.of("127.0.0.1")

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=405)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serving(app) as url:
        monkeypatch.setitem(RECEIVER, "url", url)
        yield url
    await current().close()


def judged(links: Connections) -> str:
    """What was said of the Connection `a`."""
    said = links._readiness._states["shop", "a"].judged
    assert said is not None
    return said.reason


def retry_of(links: Connections) -> tuple[asyncio.TimerHandle, int]:
    """When the Connection `a` is asked again, and in how many seconds that is."""
    retry = links._readiness._states["shop", "a"].retry
    assert retry is not None
    return retry, round(retry.when() - asyncio.get_running_loop().time())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def rest(links: Connections) -> None:
    """Whatever is asked or written has been asked and written."""
    states = links._readiness._states.values()
    await until(
        lambda: all(state.asking is None and state.written.writing is None for state in states)
    )


# --- which one


def test_a_connection_is_resolved_to_its_name_and_uid() -> None:
    links, _ = known(connection("a"), connection("b", "http"))
    assert links.resolve("shop", "webhook", None) == ("a", "uid-a")
    assert links.resolve("shop", "webhook", "a") == ("a", "uid-a")
    assert links.resolve("shop", "http", None) == ("b", "uid-b")


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (
            "webhook",
            "c",
            (
                'there is no webhook Connection "c" in namespace shop (there: a, b); make it, '
                "or name another"
            ),
        ),
        (
            "webhook",
            "site",
            'there is no webhook Connection "site" in namespace shop (there: a, b)',
        ),
        (
            "webhook",
            None,
            (
                "namespace shop has 2 webhook Connections (a, b), and none is named; say which "
                "by connection:"
            ),
        ),
        ("vercel", None, "there is no vercel Connection in namespace shop; make one"),
        ("http", "site", 'http Connection "site" cannot be used: spec.http: unknown field "uri"'),
    ],
)
def test_what_cannot_be_resolved_says_what_to_do(kind: str, name: str | None, words: str) -> None:
    links, _ = known(connection("a"), connection("b"), connection("site", "http", uri="x"))
    with pytest.raises(Permanent) as caught:
        links.resolve("shop", kind, name)
    assert words in str(caught.value)


async def test_what_a_run_has_pinned_is_meant_although_a_second_one_was_added() -> None:
    links, _ = known(connection("a"))
    pins = {("webhook", ""): Pin(*links.resolve("shop", "webhook", None))}
    links.event("ADDED", connection("unrelated"))
    assert (await links.open("shop", "webhook", None, pins)).name == "a"
    with pytest.raises(Permanent, match="none is named"):
        await links.open("shop", "webhook", None)


async def test_another_object_of_the_same_name_is_not_what_was_pinned() -> None:
    links, _ = known(connection("a"))
    pins = {("webhook", "a"): Pin(*links.resolve("shop", "webhook", "a"))}
    links.event("DELETED", connection("a"))
    with pytest.raises(Permanent, match='webhook Connection "a", which this run uses, was deleted'):
        await links.open("shop", "webhook", "a", pins)
    links.event("ADDED", connection("a", uid="other"))
    with pytest.raises(Permanent, match='"a" was deleted and made again since this run began'):
        await links.open("shop", "webhook", "a", pins)
    assert (await links.open("shop", "webhook", "a")).name == "a"


async def test_a_pinned_connection_that_was_edited_is_used_as_it_is_now() -> None:
    links, _ = known(connection("a"))
    pins = {("webhook", ""): Pin("a", "uid-a")}
    first: OpenConnection = await links.open("shop", "webhook", None, pins)
    links.event("MODIFIED", connection("a", generation=2, url="https://elsewhere.example"))
    second = await links.open("shop", "webhook", None, pins)
    assert second.config.url == "https://elsewhere.example" and second.identity != first.identity
    links.event("MODIFIED", connection("a", "http", generation=3))
    with pytest.raises(
        Permanent, match='"a", which this run uses, is no webhook Connection any more'
    ):
        await links.open("shop", "webhook", None, pins)


class Policies:
    """Whether the policy on authors of Connections is in force."""

    def __init__(self, doubt: str) -> None:
        self.doubt = doubt
        self.asked = 0

    async def prove(self, namespace: str, name: str) -> str:
        self.asked += 1
        return self.doubt


def guarded(policies: Policies, *items: Mapping[str, Any]) -> tuple[Connections, ApiServer]:
    server = ApiServer()
    links = Connections(server, policies.prove)  # type: ignore[arg-type]
    for item in items:
        links.event("ADDED", item)
    return links, server


async def test_no_secret_is_read_of_a_connection_whose_author_nobody_has_asked() -> None:
    policies = Policies("not in force")
    links, server = guarded(policies, connection("a"))
    with pytest.raises(Permanent, match="Connection a is not opened: not in force"):
        await links.open("shop", "webhook", "a", {("webhook", "a"): Pin("a", "uid-a")})
    await rest(links)
    assert server.reads == 0
    await links.close()


async def test_a_run_on_its_way_back_opens_what_it_has_used() -> None:
    """Nothing is tried on that way: it may not wait."""
    policies = Policies("not in force")
    links, _ = guarded(policies, connection("a"))
    pins = {("webhook", "a"): Pin("a", "uid-a", returning=True)}
    assert (await links.open("shop", "webhook", "a", pins)).name == "a"
    assert policies.asked == 0


async def test_each_edition_of_a_connection_is_proved_once() -> None:
    policies = Policies("")
    links, _ = guarded(policies, connection("a"))
    for _ in range(3):
        await links.open("shop", "webhook", "a")
    assert policies.asked == 1
    policies.doubt = "not in force"
    assert (await links.open("shop", "webhook", "a")).name == "a"
    links.event("MODIFIED", connection("a", generation=2))
    with pytest.raises(Permanent, match="not in force"):
        await links.open("shop", "webhook", "a")
    await links.close()


async def test_a_missing_key_is_named_and_no_other() -> None:
    links, server = known(connection("a", secret={"secretRef": {"name": "hook", "key": "typo"}}))
    with pytest.raises(Permanent) as caught:
        await links.open("shop", "webhook", "a")
    assert str(caught.value) == "Secret hook does not have the key that the Connection names"
    await until(lambda: server.written)
    assert (
        server.written[0][1]["conditions"][0]["message"]
        == "Secret hook does not have the key that the Connection names"
    )
    await links.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://app.unleash.example", "https://APP.unleash.example/", True),
        ("https://app.unleash.example", "http://app.unleash.example:80", True),
        ("https://app.unleash.example/a", "https://app.unleash.example/b", False),
        ("https://app.unleash.example:8443", "https://app.unleash.example", False),
    ],
)
def test_two_connections_to_one_address_are_one_system(one: str, other: str, same: bool) -> None:
    links, _ = known(
        connection("a", url=one), connection("b", url=other), connection("c", "http", url=one)
    )
    assert (links.system("shop", "webhook", "a") == links.system("shop", "webhook", "b")) is same
    assert links.system("shop", "webhook", "a") != links.system("shop", "http", "c")
    assert links.system("shop", "webhook", None) is None, "nobody can say which is meant"
    assert links.system("shop", "webhook", None, {("webhook", ""): Pin("a", "uid-a")}) is not None


# --- readiness


async def test_each_edit_is_judged() -> None:
    links, server = known(connection("a"))
    links.used("shop", "a", None)
    await until(lambda: server.said() == [("Ready", 1)])
    assert links.event("MODIFIED", connection("a", generation=2))
    links.used("shop", "a", None)
    await until(lambda: server.said()[1:] == [("Ready", 2)])
    wrong = connection("a", generation=3, uri="x")
    assert links.event("MODIFIED", wrong)
    links.used("shop", "a", None)
    await until(lambda: server.said()[2:] == [("InvalidSpec", 3)])
    links.event("MODIFIED", connection("a", generation=4))
    links.used("shop", "a", None)
    await until(lambda: server.said()[3:] == [("Ready", 4)])
    await links.close()


async def test_an_object_that_was_made_again_is_new_although_its_generation_is_not() -> None:
    links, server = known(connection("a"))
    await links.check("shop", "a")
    assert links.event("MODIFIED", connection("a", uid="other")), "the deletion was never told of"
    links.used("shop", "a", None)
    await until(lambda: len(server.written) == 2)
    await links.close()


async def test_deliveries_that_fail_make_a_connection_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness_writes, "WRITE_GAP_S", 0.0)
    links, server = known(connection("a"))
    await links.check("shop", "a")
    for _ in range(5):
        links.used("shop", "a", Retryable("https://hooks.shop.example: answered 503"))
        await rest(links)
    assert server.said() == [("Ready", 1), ("NotReady", 1)]
    assert (
        server.written[-1][1]["conditions"][0]["message"]
        == "https://hooks.shop.example: answered 503"
    )
    links.used("shop", "a", None)
    await rest(links)
    assert server.said()[2:] == [("Ready", 1)]
    await links.close()


async def test_a_single_failure_is_not_yet_one_of_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness_writes, "WRITE_GAP_S", 0.0)
    links, server = known(connection("a"))
    await links.check("shop", "a")
    for error in (
        Retryable("503"),
        Retryable("503"),
        None,
        Permanent("no such channel"),
        None,
        Retryable("503"),
    ):
        links.used("shop", "a", error)
        await rest(links)
    assert server.said() == [("Ready", 1)]
    await links.close()


async def test_a_secret_that_is_gone_is_seen_by_who_wants_to_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness_writes, "WRITE_GAP_S", 0.0)
    monkeypatch.setattr("gatewright.runtime.connection_secrets.SECRET_MAX_AGE_S", 0.0)
    links, server = known(connection("a"))
    await links.check("shop", "a")
    server.secrets.clear()
    with pytest.raises(Permanent, match="there is no Secret hook"):
        await links.open("shop", "webhook", None)
    await rest(links)
    assert server.said() == [("Ready", 1), ("NotReady", 1)]
    await links.close()


async def test_nothing_is_written_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_writes, "WRITE_GAP_S", 0.0)
    monkeypatch.setattr(readiness_writes, "SAME_VERDICT_WRITE_GAP_S", 0.0)
    links, server = known(connection("a"))
    for _ in range(20):
        links.used("shop", "a", None)
        await rest(links)
    assert server.said() == [("Ready", 1)]
    for seconds in range(20):
        links.used("shop", "a", Retryable(f"asked again in {seconds}s"))
        await rest(links)
    assert server.said() == [("Ready", 1), ("NotReady", 1)]
    await links.close()


async def test_what_the_api_server_holds_is_not_written_again() -> None:
    links, server = known(connection("a"))
    await links.check("shop", "a")
    status = server.written[0][1]
    again, fresh = known(connection("a") | {"status": status})
    again.look_at_all()
    await rest(again)
    assert fresh.reads == 0, "nobody is asked what is known"
    again.used("shop", "a", None)
    await again.check("shop", "a")
    assert fresh.written == []
    again.event("MODIFIED", connection("a", generation=2) | {"status": status})
    again.look_at_all()
    await until(lambda: fresh.said() == [("Ready", 2)])
    await links.close()
    await again.close()


async def test_a_provider_that_comes_and_goes_is_written_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness_writes, "WRITE_GAP_S", 0.05)
    links, server = known(connection("a"))
    began = time.monotonic()
    await links.check("shop", "a")
    for _ in range(100):
        for error in (Retryable("503"), Retryable("503"), Retryable("503"), None):
            links.used("shop", "a", error)
            await asyncio.sleep(0.001)
    gaps = math.log2(1 + (time.monotonic() - began) / 0.05)
    assert len(server.written) <= 2 + gaps, "each gap is twice the one before"
    for _ in range(3):
        links.used("shop", "a", Retryable("503"))
    await until(lambda: server.said()[-1] == ("NotReady", 1))
    await links.close()


@pytest.mark.parametrize(
    "kind",
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"],
)
async def test_what_is_kubernetes_own_opens_no_connection(kind: str) -> None:
    links, server = known(connection("a"))
    server.type = kind
    with pytest.raises(Permanent, match=f"is of type {kind}, which opens no Connection"):
        await links.open("shop", "webhook", "a")
    await links.check("shop", "a")
    assert server.said() == [("NotReady", 1)]
    await links.close()


async def test_an_edit_does_not_wait_for_the_gap() -> None:
    links, server = known(connection("a"))
    for generation in range(1, 6):
        links.event("MODIFIED", connection("a", generation=generation))
        await links.check("shop", "a")
    assert server.said() == [("Ready", generation) for generation in range(1, 6)]
    await links.close()


async def test_a_write_that_is_refused_is_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_writes, "WRITE_GAP_S", 0.02)
    links, server = known(connection("a"))
    server.down = True
    await links.check("shop", "a")
    assert not server.written
    server.down = False
    await until(lambda: server.said() == [("Ready", 1)])
    await links.close()


async def test_an_api_server_that_is_away_says_nothing_of_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness_writes, "WRITE_GAP_S", 0.02)
    links, server = known(connection("a"))
    server.away = True
    await links.check("shop", "a")
    assert not server.written
    server.away = False
    await until(lambda: server.said() == [("Ready", 1)])
    await links.close()


async def test_what_happened_before_an_edit_does_not_count_after_it() -> None:
    links, server = known(connection("a"))
    await links.check("shop", "a")
    for _ in range(2):
        links.used("shop", "a", Retryable("503"))
        await rest(links)
    links.event("MODIFIED", connection("a", generation=2))
    await links.check("shop", "a")
    links.used("shop", "a", Retryable("503"))
    await rest(links)
    assert server.said() == [("Ready", 1), ("Ready", 2)]
    await links.close()


# --- what was mended


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is NotReady is asked again soon; nothing else hurries."""
    monkeypatch.setattr(readiness, "PROBE_RETRY_S", 0.01)
    monkeypatch.setattr(readiness, "RETRY_PACE_S", 0.0)
    monkeypatch.setattr("gatewright.runtime.connections.PROBED_SECRET_MAX_AGE_S", 0.0)


@pytest.mark.usefixtures("soon")
async def test_a_secret_that_was_made_later_is_found_although_nobody_uses_the_connection() -> None:
    links, server = known(connection("a"))
    kept = server.secrets.pop("hook")
    links.look("shop", "a")
    await until(lambda: server.said() == [("NotReady", 1)])
    server.secrets["hook"] = kept
    await until(lambda: server.said() == [("NotReady", 1), ("Ready", 1)])
    await links.close()


@pytest.mark.usefixtures("soon")
async def test_a_secret_that_was_mended_is_read_anew_although_it_is_kept() -> None:
    links, server = known(connection("a"))
    good = server.secrets["hook"]
    server.secrets["hook"] = {"key": base64.b64encode(b"short").decode()}
    links.look("shop", "a")
    await until(lambda: server.said() == [("NotReady", 1)])
    server.secrets["hook"], server.version = good, "2"
    await until(lambda: server.said()[1:] == [("Ready", 1)])
    assert (await links.open("shop", "webhook", "a")).secrets[
        ("hook", "key")
    ] == "a-signing-key-of-16+"
    await links.close()


@pytest.mark.usefixtures("soon")
async def test_requests_that_failed_with_another_secret_do_not_count() -> None:
    links, server = known(connection("a"))
    await links.check("shop", "a")
    for _ in range(readiness.MAX_FAILURES):
        links.used("shop", "a", Permanent("the credentials are refused (401)"))
    await until(lambda: links._readiness._states["shop", "a"].tries > 3)
    assert judged(links) == "NotReady", "credentials that work do not outweigh them"
    server.version = "2"
    await until(lambda: judged(links) == "Ready")
    await until(lambda: server.said()[-1] == ("Ready", 1))
    await links.close()


@pytest.mark.usefixtures("soon")
async def test_what_was_not_ready_when_another_instance_acted_is_asked_again() -> None:
    links, server = known(connection("a"))
    kept = server.secrets.pop("hook")
    await links.check("shop", "a")
    status = server.written[0][1]
    await links.close()
    again, fresh = known(connection("a") | {"status": status})
    fresh.secrets.pop("hook")
    again.look_at_all()
    await until(lambda: fresh.reads > 3)
    assert fresh.written == [], "it is as it was"
    fresh.secrets["hook"] = kept
    await until(lambda: fresh.said() == [("Ready", 1)])
    await again.close()


class Slow:
    """A credential check that does not end for some Connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *slow: str) -> None:
        self.slow = set(slow)
        self.asked: list[str] = []
        self.under_way = self.most = 0
        monkeypatch.setattr(CONNECTIONS["webhook"], "check", self.check)

    async def check(self, link: OpenConnection) -> None:
        self.asked.append(link.name)
        if link.config.url.endswith("/refused"):
            raise Permanent("refused")
        if link.name in self.slow:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                await asyncio.Event().wait()
            finally:
                self.under_way -= 1


async def test_an_edit_does_not_wait_for_what_is_asked_about_the_edition_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Slow(monkeypatch, "a")
    links, server = known(connection("a"))
    links.look("shop", "a")
    await until(lambda: slow.under_way == 1)
    slow.slow.clear()
    assert links.event("MODIFIED", connection("a", generation=2))
    links.look("shop", "a")
    await until(lambda: server.said() == [("Ready", 2)])
    assert slow.under_way == 0
    await links.close()


@pytest.mark.usefixtures("soon")
async def test_an_edit_does_not_wait_for_those_that_are_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"c{number}" for number in range(3 * readiness.PROBES_AT_ONCE)]
    slow = Slow(monkeypatch)
    refused = [connection(name, url="https://hooks.shop.example/refused") for name in names]
    links, server = known(*refused, connection("a"))
    slow.slow.update(names)
    links.look_at_all()
    await until(lambda: len(server.written) == len(names) + 1)
    for item in refused:  # from now on they do not answer
        item["spec"]["webhook"]["url"] = "https://hooks.shop.example"
        links._specs._by_place.clear()
    links._objects._all["shop"].update({item["metadata"]["name"]: item for item in refused})
    await until(lambda: slow.under_way == readiness.RETRIES_AT_ONCE)
    links.event("MODIFIED", connection("a", generation=2))
    links.look("shop", "a")
    await until(lambda: ("Ready", 2) in server.said())
    assert slow.most == readiness.RETRIES_AT_ONCE
    await links.close()


async def test_each_time_it_is_asked_again_after_twice_as_long() -> None:
    links, server = known(connection("a"))
    server.secrets.clear()
    links.look("shop", "a")
    await rest(links)
    state, delays = links._readiness._states["shop", "a"], []
    for _ in range(8):
        retry, delay = retry_of(links)
        delays.append(delay)
        retry.cancel()
        links._readiness._on_turn(("shop", "a"), state)
        await rest(links)
    assert delays == [2, 4, 8, 16, 32, 60, 60, 60]
    links.event("MODIFIED", connection("a", generation=2))
    assert state.retry is None, "the edit is asked about at once"
    links.look("shop", "a")
    await rest(links)
    assert retry_of(links)[1] == 2, "and then from the beginning"
    await links.close()


async def test_what_is_not_known_is_not_called_ready() -> None:
    """A Connection that this instance sees for the first time, of which another one has said that
    it is not."""
    links, server = known(connection("a"))
    server.secrets.clear()
    await links.check("shop", "a")
    again, fresh = known(connection("a") | {"status": server.written[0][1]})
    fresh.secrets.clear()
    again.look("shop", "a")
    await rest(again)
    assert fresh.written == []
    await links.close()
    await again.close()


def test_one_namespace_is_asked_again_at_a_pace_of_its_own() -> None:
    pace = NamespacePace(0.2)
    assert [pace.turn("shop", 10.0) for _ in range(3)] == pytest.approx([10.0, 10.2, 10.4])
    assert pace.turn("other", 10.0) == 10.0
    assert pace.turn("shop", 20.0) == 20.0
    for number in range(3 * TIDY_ABOVE):
        pace.turn(f"n{number}", 30.0 + number)
    assert len(pace._last) <= TIDY_ABOVE, "namespaces come and go"


# --------------------------------------------------------------------------------------------------
# What is kept


def test_of_a_connection_only_what_is_asked_about_is_kept() -> None:
    huge = {f"l{number}": "x" * 60 for number in range(4000)}
    body = connection("hook") | {
        "status": {
            "conditions": [{"type": kind, "reason": "x" * 60} for kind in ("Other", "Ready")]
        }
    }
    body["metadata"] |= {"labels": huge, "annotations": huge, "finalizers": list(huge)}
    links, _ = known(body)
    (kept,) = (item for here in links._objects._all.values() for item in here.values())
    assert len(json.dumps(kept)) < 1000
    assert kept["status"]["conditions"] == [{"type": "Ready", "reason": "x" * 60}]
    assert links.resolve("shop", "webhook", "hook")[0] == "hook"


def test_a_connection_that_was_deleted_while_nobody_watched_is_gone() -> None:
    links, _ = known(connection("hook"), connection("other"))
    links.forget_vanished({("shop", "hook")})
    assert links.uid("shop", "hook") is not None and links.uid("shop", "other") is None


async def test_secrets_that_nobody_uses_any_more_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    links, server = known(connection("hook"))
    server.secrets["next"] = {"key": KEY}
    await links.secrets.read("shop", "hook", "key", 30.0)
    monkeypatch.setattr("gatewright.runtime.connection_secrets.SECRET_MAX_AGE_S", 0.0)
    await links.secrets.read("shop", "next", "key", 30.0)
    assert ("shop", "hook") not in links.secrets.kept


async def test_secrets_of_many_connections_drive_out_none_of_another_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gatewright.runtime.connection_secrets.SECRETS_MAX_BYTES", 900)
    names = [f"c{number}" for number in range(6)]
    links, server = known(
        *(connection(name, secret={"secretRef": {"name": name, "key": "key"}}) for name in names)
    )
    server.secrets |= {name: {"key": KEY} for name in names}
    await links.secrets.read("quiet", "hook", "key", 30.0)
    for name in names:
        await links.open("shop", "webhook", name)
    assert list(links.secrets.kept) == [("quiet", "hook"), ("shop", "c4"), ("shop", "c5")]


def test_of_a_namespace_with_too_many_connections_the_first_are_used_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gatewright.runtime.connection_objects.MAX_PER_NAMESPACE", 3)
    links, _ = known(*(connection(f"c{number}") for number in range(6)))
    assert len(links._objects.places_in("shop")) == 3 and links.left_out
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert links.resolve("shop", "webhook", "c1")[0] == "c1"
    with pytest.raises(
        Permanent, match="more than 3 Connections, and only 3 are used; c4 is not among them"
    ):
        links.resolve("shop", "webhook", "c4")
    with pytest.raises(Permanent, match="only 3 are used; name one"):
        links.resolve("shop", "webhook", None)
    assert links.event(None, connection("c1", generation=2)), "those that are used go on"

    links.event("DELETED", connection("c0"))
    listed = {("shop", f"c{number}") for number in range(1, 4)}
    assert links.event(None, connection("c3"))
    links.forget_vanished(listed)
    assert not links.left_out and links.resolve("shop", "webhook", "c3")[0] == "c3"


def test_a_message_names_few_of_many_connections() -> None:
    links, _ = known(*(connection(f"{number:03}" + "x" * 200) for number in range(100)))
    for name in (None, "none"):
        with pytest.raises(Permanent) as error:
            links.resolve("shop", "webhook", name)
        assert len(str(error.value)) < 3000 and "and 90 more" in str(error.value)


# --- whose it is


async def test_a_link_knows_its_namespace_and_is_judged_by_the_rules_for_it(receiver: str) -> None:
    links, _ = known(connection("a"))
    link = await links.open("shop", "webhook", "a")
    assert link.namespace == "shop"
    current().rules = AddressRules.of("127.0.0.1", refuse="shop=127.0.0.0/8,blog=10.0.0.0/8")
    with pytest.raises(Permanent, match="is closed to Connections of namespace shop"):
        await client.ask(link, "HEAD", "")
    with pytest.raises(Permanent, match="--refuse-address shop=127"):
        links.resolve("shop", "webhook", "a")


async def test_a_connection_is_parsed_once_an_edition() -> None:
    links, _ = known(connection("a"))
    first, second = [await links.open("shop", "webhook", "a") for _ in range(2)]
    assert first.config is second.config
    links.event("MODIFIED", connection("a", generation=2, url="https://other.shop.example"))
    third = await links.open("shop", "webhook", "a")
    assert third.config.url == "https://other.shop.example" and third.identity != second.identity
    links.event("DELETED", connection("a", generation=2))
    assert len(links._specs) == 0


# --------------------------------------------------------------------------------------------------
# What is kept of Secrets


@pytest.mark.parametrize("size", [8 * 1024 + 1, 60_000])
async def test_a_large_value_of_a_secret_is_refused_before_it_is_looked_for(size: int) -> None:
    links, server = known(connection("hook"))
    server.secrets["hook"]["key"] = base64.b64encode(b"k" * size).decode()
    with pytest.raises(Permanent, match=r"the key|bytes") as error:
        await links.open("shop", "webhook", None)
    assert f"{size} bytes" in str(error.value) and "at most 8192" in str(error.value)
    server.secrets["hook"]["key"] = base64.b64encode(b"k" * 8 * 1024).decode()
    assert await links.open("shop", "webhook", None)


async def test_of_a_secret_only_the_keys_that_are_named_are_kept_and_one_request_reads_them_for_all() -> (
    None
):
    other = connection("other", secret={"secretRef": {"name": "hook", "key": "other"}})
    links, server = known(connection("hook"), other)
    server.secrets["hook"]["backup"] = base64.b64encode(b"x" * 500_000).decode()
    for name in ("hook", "other"):
        await links.open("shop", "webhook", name)
    reads = server.reads
    links.secrets.kept.clear()
    for name in ("hook", "other", "hook"):
        await links.open("shop", "webhook", name)
    assert server.reads == reads + 1
    kept = links.secrets.kept.get(("shop", "hook"))
    assert kept is not None and set(kept.values) == {"key", "other"}


async def test_secrets_are_forgotten_by_age_also_where_nobody_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gatewright.runtime.connection_secrets.SECRET_MAX_AGE_S", 0.01)
    links, _ = known(connection("hook"))
    await links.open("shop", "webhook", None)
    assert links.secrets.kept
    async with asyncio.timeout(5):
        while links.secrets.kept:
            await asyncio.sleep(0.01)


async def test_secrets_are_kept_within_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewright.runtime.connection_secrets.SECRETS_MAX_BYTES", 600)
    names = [f"c{number}" for number in range(6)]
    links, server = known(
        *(connection(name, secret={"secretRef": {"name": name, "key": "key"}}) for name in names)
    )
    server.secrets |= {name: {"key": KEY} for name in names}
    for name in names:
        await links.open("shop", "webhook", name)
    assert [name for _, name in links.secrets.kept] == ["c4", "c5"]
