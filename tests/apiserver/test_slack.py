"""What people read of a run in Slack, through restarts in the middle of a message; and receivers
that hang.

The operator is a real process on a real API server; Slack is emulate's.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.cluster import assets
from tests.contract import world
from tests.fakes.slack import CHANNEL, Between, emulated
from tests.harness.lab import Lab, Site, everything
from tests.harness.scenarios import TARGET, deploy, gate, job, query

pytestmark = pytest.mark.apiserver
FIRST = "login.spec.ts › login › locks the account after five failures [slow]"
REPORT = Path(__file__).resolve().parents[1] / "contract/reports/playwright-failed.json"
EVENTS = ["Started", "StageFailed", "RollingBack", "RolledBack"]
LONG = 30
"""Seconds that a Connection of somebody who hangs may take."""


@dataclass
class Door(Between):
    """The way to the workspace; somebody may be told of each message that was carried, before the
    answer is."""

    carried: Callable[[int], None] = lambda count: None

    async def _carry(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._carry(request)
        if request.match_info["method"].startswith("chat."):
            self.carried(sum(method.startswith("chat.") for method in self.methods()))
        return answer


@dataclass
class Silent:
    """Takes every request and answers none."""

    open: Counter[str] = field(default_factory=Counter)
    """How many requests wait for an answer, by the first part of their path."""

    def app(self) -> web.Application:
        found = web.Application()
        found.router.add_route("*", "/{who}{rest:.*}", self._wait)
        return found

    async def _wait(self, request: web.Request) -> web.StreamResponse:
        who = request.match_info["who"].partition("/")[0]
        self.open[who] += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.open[who] -= 1
        raise AssertionError


@pytest.fixture(scope="module")
def workspace() -> Iterator[str]:
    with emulated() as url:
        yield url


@pytest.fixture
def site(lab: Lab) -> Site:
    made = lab.namespace()
    made.deployment()
    made.secret("keys", {"key": world.TOKEN, "routing": "0" * 32})
    lab.standin.number(query("errors", made.name), 0.001)
    return made


def key(name: str = "key") -> dict[str, Any]:
    return {"secretRef": {"name": "keys", "key": name}}


def failing(site: Site, **more: Any) -> dict[str, Any]:
    """Tests that fail before anything was deployed, though their program ends with 0."""
    site.lab.world.prints[site.name, "smoke"] = REPORT.read_text()
    smoke = job("smoke", report={"playwright": {}})
    stages = [{"name": "ship", "steps": [deploy(), smoke]}]
    return {"version": "2.0.0", "targets": [TARGET], "stages": stages, **more}


def telling(site: Site, door: str) -> dict[str, Any]:
    site.connection("slack", {"timeout": "2s", "slack": {"url": f"{door}/api", "token": key()}})
    return {"notify": [{"events": EVENTS, "slack": {"channel": f"#{CHANNEL}"}}]}


def read(workspace: str, method: str, **options: str) -> list[dict[str, Any]]:
    """Messages of the channel, or of a thread, the oldest first."""
    headers = {"Authorization": f"Bearer {world.TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{workspace}/api/{method}", json.dumps(options).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        found = json.load(answer)
    assert found["ok"], found
    return sorted(found["messages"], key=lambda item: str(item["ts"]))


def thread(site: Site, workspace: str) -> tuple[dict[str, Any], list[str]]:
    """The one message of the Release's run, and the replies below it."""
    [channel] = {
        call["channel"] for call in read_channels(workspace) if call["name"] == CHANNEL
    }  # emulate's own id of the channel
    uid = site.release()["metadata"]["uid"]
    shown = read(workspace, "conversations.history", channel=channel, limit="1000")
    [main] = [
        item for item in shown if item["metadata"]["event_payload"]["thread"].endswith(f"/{uid}/1")
    ]
    below = read(workspace, "conversations.replies", channel=channel, ts=main["ts"], limit="1000")
    return main, [item["text"] for item in below[1:]]


def read_channels(workspace: str) -> list[dict[str, str]]:
    headers = {"Authorization": f"Bearer {world.TOKEN}"}
    request = urllib.request.Request(f"{workspace}/api/conversations.list", b"", headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return [
            {"channel": item["id"], "name": item["name"]} for item in json.load(answer)["channels"]
        ]


def told(status: Any) -> Any:
    """everybody to have been told"""
    return (status.get("run") or {}).get("outcome") and not status.get("notices")


def test_the_test_that_failed_is_named_wherever_people_look(
    site: Site, workspace: str, served: Callable[[web.Application], str]
) -> None:
    site.apply(failing(site) | telling(site, served(Door(workspace).app())))
    status = site.ended("RolledBack")
    assert FIRST in status["message"] and FIRST in site.condition("Ready")["message"]
    kubectl = str(assets.ensure(["kubectl"])["kubectl"])
    command = [kubectl, "get", "releases", "-n", site.name, "-o", "wide"]
    shown = subprocess.run(
        [*command, "--kubeconfig", str(site.lab.server.kubeconfig)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert FIRST in shown.stdout, shown.stdout
    assert any(FIRST in item["note"] for item in site.events() if item["reason"] == "RollingBack")
    site.until(told, 30)
    main, replies = thread(site, workspace)
    assert FIRST in next(text for text in replies if "*StageFailed*" in text)
    assert (
        "✗ 1 ship" in json.dumps(main["blocks"], ensure_ascii=False)
        and "rolled back" in main["text"]
    )
    site.clean()


CALLS = range(1, 9)
"""A message and its first reply, then three times an edit and a reply."""


@pytest.mark.parametrize("number", CALLS if everything() else (1, 2, 3, 6))
def test_killed_in_the_middle_of_a_message_everything_is_said_once(
    site: Site, workspace: str, served: Callable[[web.Application], str], number: int
) -> None:
    """Slack has done what it was asked, and whoever asked is gone before the answer."""
    lab, kills = site.lab, 0

    def carried(count: int) -> None:
        nonlocal kills
        if count == number and not kills:
            kills += 1
            lab.operator.kill()

    door = Door(workspace, carried=carried)
    site.apply(failing(site) | telling(site, served(door.app())))
    deadline = time.monotonic() + 90
    while not told(site.status()):
        if not lab.operator.alive:
            lab.operator.reap()
            lab.operator.start()
        assert time.monotonic() < deadline, (door.methods(), site.status(), lab.operator.tail())
        time.sleep(0.02)
    assert kills == 1, door.methods()
    _, replies = thread(site, workspace)
    assert [text.split("*")[1] for text in replies] == EVENTS
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_receivers_that_hang_hold_up_no_rollback(
    site: Site, served: Callable[[web.Application], str]
) -> None:
    """All four kinds take a request and never answer: what was changed is back while every one of
    them still waits."""
    silent = Silent()
    url = served(silent.app())
    providers: dict[str, Any] = {
        "slack": {"url": f"{url}/slack", "token": key()},
        "pagerduty": {"url": f"{url}/pagerduty", "routingKey": key("routing")},
        "statuspage": {"url": f"{url}/statuspage", "apiKey": key()},
        "webhook": {"url": f"{url}/webhook", "secret": key()},
    }
    for name, access in providers.items():
        site.connection(name, {"timeout": f"{LONG}s", name: access})
    events = {"events": [*EVENTS, "RollbackFailed"]}
    notify = [
        {**events, "slack": {"channel": "#any"}}, {**events, "pagerduty": {}},
        {**events, "statuspage": {"page": "abc", "maintenance": {}}}, {**events, "webhook": {}},
    ]  # fmt: skip
    errors = query("errors", site.name)
    stage = {"name": "ship", "steps": [deploy()], "gates": [gate("errors", errors)], "bake": "1h"}
    site.apply({"version": "2.0.0", "targets": [TARGET], "stages": [stage], "notify": notify})
    site.until(lambda status: status.get("state") == "Baking")
    waiting = dict.fromkeys(providers, 0)
    site.lab.wait(
        lambda: silent.open.keys() >= waiting.keys() and all(silent.open.values()),
        20,
        "all to be asked",
    )
    began = time.time()
    site.lab.standin.number(errors, 0.5)
    site.until(lambda status: (status.get("run") or {}).get("outcome") == "RolledBack", LONG - 5)
    assert all(silent.open[name] for name in providers), (
        "one of them was given up meanwhile, or answered"
    )
    assert site.image() == "shop/web:1.0.0"
    site._settle()
    restored = [
        one
        for one in site.writes()
        if one.resource == "deployments" and one.done and one.received > began
    ]
    took = restored[0].received - began
    print(
        "from the first bad answer to the write that restores, with four receivers that "
        f"hang: {took:.2f}s"
    )
    assert took < LONG / 2
    assert len(site.status()["notices"]) >= len(EVENTS) - 1, "who was not told stands in the status"
    site.clean()
