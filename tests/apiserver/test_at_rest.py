"""Guards that go on being watched when no run is under way, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.killing import AT_REST, killed_at_every_write
from tests.harness.lab import Lab, Site
from tests.harness.scenarios import gate, query, simple

pytestmark = pytest.mark.apiserver


def uptime(site: Site, **more: Any) -> dict[str, Any]:
    """A guard that is watched at rest, with a question of its own."""
    asked = query("uptime", site.name)
    guard = gate("uptime", asked, severity="critical", atRest=True, failureThreshold=2)
    return guard | ({"rollbackFor": "1h"} if "action" not in more else {}) | more


def promoted(site: Site, guard: dict[str, Any]) -> Any:
    """A version that was promoted, whose guard at rest has answered."""
    site.lab.standin.number(query("uptime", site.name), 0.001)
    site.apply(simple(site.name, guards=[guard]))
    site.ended("Promoted", 40)
    return site.until(passes, 20)


def passes(status: Any) -> Any:
    """the guard at rest to pass"""
    return [row["state"] for row in status.get("atRest", ())] == ["Passing"]


def fails(status: Any) -> Any:
    """the guard at rest to fail"""
    return [row["state"] for row in status.get("atRest", ())] == ["Failed"]


def test_a_guard_at_rest_asks_and_writes_nothing(site: Site) -> None:
    promoted(site, uptime(site, action="Notify"))
    asked = site.lab.standin.asked(query("uptime", site.name))
    assert site.quiet(3) == []
    assert site.lab.standin.asked(query("uptime", site.name)) > asked + 2
    site.clean()


def test_a_failure_in_its_time_undoes_the_promotion_within_two_writes(site: Site) -> None:
    promoted(site, uptime(site))
    before = len(site.writes())
    site.lab.standin.number(query("uptime", site.name), 0.5)
    site.until(lambda status: status["run"].get("kind") == "Undo", 20)
    status = site.ended("RolledBack", 30, run=2)
    assert site.image() == "shop/web:1.0.0" and status["rejected"][0]["gate"] == "uptime"
    assert status["run"]["rollback"]["cause"] == "Guard"

    # Events go by a queue of their own, and the finalizer beside the restore.
    mine = [
        one
        for one in site.writes()[before:]
        if one.user == "gatewright-operator" and one.resource not in ("events", "releases")
    ]
    assert [one.resource for one in mine[:2]] == ["releases/status", "deployments"], [
        str(one) for one in mine
    ]
    site.clean()


def test_a_failure_is_told_and_so_is_its_end(site: Site) -> None:
    promoted(site, uptime(site, action="Notify"))
    site.lab.standin.number(query("uptime", site.name), 0.5)
    status = site.until(fails, 20)
    assert "guard uptime" in status["message"] and status["run"]["outcome"] == "Promoted"
    site.lab.standin.number(query("uptime", site.name), 0.001)
    status = site.until(passes, 20)
    assert "guard uptime" not in status["message"]
    reasons = [event["reason"] for event in site.events()]
    assert {"GuardFailed", "GuardRecovered"} <= {*reasons}
    site.clean()


def test_after_a_restart_it_is_watched_again(site: Site) -> None:
    promoted(site, uptime(site))
    site.lab.operator.kill()
    site.lab.operator.reap()
    site.lab.operator.start()
    site.until(passes, 20)
    site.lab.standin.number(query("uptime", site.name), 0.5)
    site.ended("RolledBack", 30, run=2)
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_killed_at_any_write_a_guard_at_rest_undoes_the_same(lanes: list[Lab], capsys: Any) -> None:
    killed_at_every_write(lanes, AT_REST, capsys)
