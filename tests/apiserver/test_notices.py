"""People are told, on a real API server: at least once, under the same id, at most once more for
each crash, and never instead of a rollback."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.walking import SEED
from tests.harness.lab import Lab, Late, Site
from tests.harness.receiver import Receiver
from tests.harness.scenarios import TARGET, deploy, five, gate, query, simple

pytestmark = pytest.mark.apiserver
EVENTS = [
    "Started",
    "StageStarted",
    "StagePassed",
    "StageFailed",
    "RollingBack",
    "RolledBack",
    "RollbackFailed",
    "Completed",
    "Promoted",
    "Aborted",
    "Superseded",
]


@pytest.fixture
def receiver(lab: Lab) -> Iterator[Receiver]:
    made = Receiver(lab.background)
    yield made
    made.close()


@pytest.fixture
def site(lab: Lab, receiver: Receiver) -> Site:
    """A namespace with a deployment, good answers, and somebody who is told."""
    made = lab.namespace()
    made.deployment()
    made.configmap("web-flags", {"VOICE": "off", "KEPT": "yes"})
    made.secret("hooks", {"key": SEED})
    access = {
        "url": f"{receiver.url}/{made.name}",
        "secret": {"secretRef": {"name": "hooks", "key": "key"}},
    }
    made.connection("hooks", {"timeout": "2s", "webhook": access})
    lab.standin.number(query("errors", made.name), 0.001)
    lab.standin.number(query("latency", made.name), 0.05)
    return made


def telling(spec: dict[str, Any], *events: str) -> dict[str, Any]:
    return spec | {
        "notify": [{"events": list(events) or EVENTS, "webhook": {"connection": "hooks"}}]
    }


def told(status: Any) -> Any:
    """everybody to have been told"""
    return (status.get("run") or {}).get("outcome") and not status.get("notices")


def test_five_stages_are_told_once_each_in_order(site: Site, receiver: Receiver) -> None:
    site.apply(telling(five(site.name)))
    site.ended("Promoted", 40)
    site.until(told, 20)
    assert receiver.events(site) == [
        "Started",
        *["StageStarted", "StagePassed"] * 5,
        "Completed",
        "Promoted",
    ]
    assert len(set(receiver.ids(site))) == len(receiver.ids(site))
    assert receiver.bodies[-1]["data"]["stages"][0].startswith("✓ 1 migration  Passed")
    report = site.clean()
    assert report.noops == [] and site.quiet(2) == []


def test_who_tells_nobody_pays_nothing(site: Site, receiver: Receiver) -> None:
    """The same run, once with nobody to be told and once with one message at its end: the message
    costs one write."""

    def writes(name: str) -> int:
        return sum(
            one.name == name
            for one in site.writes()
            if one.resource == "releases/status" and one.done
        )

    site.apply(simple(site.name), name="quiet")
    site.ended("Promoted", name="quiet")
    site.examine()
    silent = writes("quiet")
    assert not site.status("quiet").keys() & {"notices", "threads", "downtime"}
    site.change({"version": "2.1.0", **telling({}, "Promoted")}, name="quiet")
    site.ended("Promoted", name="quiet", run=2)
    site.until(told, 20, name="quiet")
    site.examine()
    assert receiver.events(site) == ["Promoted"] and writes("quiet") - silent <= silent + 1


def test_a_crash_after_a_delivery_repeats_it_under_the_same_id(
    site: Site, receiver: Receiver
) -> None:
    lab, crashes = site.lab, 0

    def crash(path: str, event: str) -> None:
        nonlocal crashes
        if event in ("StagePassed", "RollingBack") and crashes < 3:
            crashes += 1
            lab.operator.kill()

    receiver.on_event = crash
    errors = query("errors", site.name)
    stages = [
        {"name": "one", "steps": [deploy()], "gates": [gate("errors", errors)]},
        {"name": "two", "steps": [deploy()], "gates": [gate("errors", errors)], "bake": "60s"},
    ]
    site.apply(telling({"version": "2.0.0", "targets": [TARGET], "stages": stages}))
    deadline = time.monotonic() + 120
    failing = False
    while not told(site.status()):
        if not lab.operator.alive:
            lab.operator.reap()
            lab.operator.start()
        if not failing and site.run().get("stages", [{}, {}])[1].get("state") == "Baking":
            lab.standin.number(errors, 0.5)
            failing = True
        if time.monotonic() > deadline:
            raise Late(f"not told: {receiver.events(site)} {site.status()} {lab.operator.tail()}")
        time.sleep(0.01)
    counts = Counter(receiver.ids(site))
    assert crashes >= 2, receiver.events(site)
    wanted = [
        "Started",
        "StageStarted",
        "StagePassed",
        "StageStarted",
        "StageFailed",
        "RollingBack",
        "RolledBack",
    ]
    assert list(dict.fromkeys(receiver.ids(site))) == sorted(counts, key=receiver.ids(site).index)
    assert [identity.split("_")[2] for identity in dict.fromkeys(receiver.ids(site))] == wanted
    assert (
        max(counts.values()) <= 1 + crashes
        and sum(counts.values()) - len(counts) <= len(counts) * crashes
    )
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_a_receiver_that_hangs_delays_no_rollback(site: Site, receiver: Receiver) -> None:
    """Everybody is told when it is there again; what was not told stands in the status until
    then."""
    receiver.hanging = {f"/{site.name}"}
    errors = query("errors", site.name)
    stage = {"name": "one", "steps": [deploy()], "gates": [gate("errors", errors)], "bake": "60s"}
    site.apply(telling({"version": "2.0.0", "targets": [TARGET], "stages": [stage]}))
    site.until(
        lambda status: (status.get("run") or {}).get("stages", [{}])[0].get("state") == "Baking", 20
    )
    site.lab.standin.number(errors, 0.5)
    status = site.ended("RolledBack", 20)
    assert site.image() == "shop/web:1.0.0" and receiver.ids(site) == []
    assert [item["id"].split(".")[1] for item in status["notices"]][:1] == ["Started"]
    receiver.hanging = set()
    site.until(told, 60)
    assert list(dict.fromkeys(receiver.events(site))) == [
        "Started",
        "StageStarted",
        "StageFailed",
        "RollingBack",
        "RolledBack",
    ]
    site.clean()


def test_a_receiver_that_is_not_there_is_said_before_the_run_and_in_an_event_later(
    site: Site, receiver: Receiver
) -> None:
    site.apply(
        telling(simple(site.name), "Started")
        | {"notify": [{"events": ["Started"], "webhook": {"connection": "gone"}}]}
    )
    status = site.until(lambda status: status.get("state") == "Waiting")
    assert 'spec.notify[0].webhook: there is no webhook Connection "gone"' in status["message"]
    site.change({"notify": [{"events": ["Started"], "webhook": {"connection": "hooks"}}]})
    site.until(lambda status: bool(status.get("run")))
    site.change({"notify": [{"events": ["Promoted"], "webhook": {"connection": "gone"}}]})
    site.ended("Promoted")
    found = site.lab.wait(
        lambda: [item for item in site.events() if item["reason"] == "NotificationFailed"],
        20,
        "the event",
    )
    assert len(found) == 1 and 'no webhook Connection "gone"' in json.dumps(
        found[0]["note"]
    ).replace('\\"', '"')
    site.clean()
