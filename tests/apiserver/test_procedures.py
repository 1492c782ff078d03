"""Procedures on a real API server: run at rest and beside a run, killed at each of their writes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.apiserver.walking import intervene
from tests.harness.lab import Lab, Site
from tests.harness.proxy import POSITIONS, Position, kill_at
from tests.harness.scenarios import TARGET, deploy, job

pytestmark = pytest.mark.apiserver
FLAGS = {"VOICE": "on", "KEPT": "yes"}
SCALE = {
    "name": "scale",
    "steps": [
        job("first", ["backup"], FAKE_OUTPUT='{"id": "b-1"}'),
        {"name": "off", "flags": {"configMap": "voice-flags", "set": {"VOICE": "off"}}},
        {
            "name": "second",
            "job": {"image": "tools:1", "command": ["verify", "$(steps.first.outputs.id)"]},
        },
    ],
    "undo": [{"name": "on", "flags": {"configMap": "voice-flags", "set": {"VOICE": "on"}}}],
}
ASKED = {"name": "asked", "approval": {}, "steps": [SCALE["steps"][0]]}


def applied(site: Site, version: str, *procedures: dict[str, Any]) -> None:
    site.configmap("voice-flags", FLAGS)
    site.apply(
        {
            "version": version,
            "targets": [TARGET],
            "stages": [{"name": "ship", "steps": [deploy()]}],
            "procedures": list(procedures),
        }
    )


def promoted(site: Site, *procedures: dict[str, Any]) -> None:
    """A Release that is at rest, with procedures."""
    applied(site, "2.0.0", *procedures)
    site.ended("Promoted", 40)


def adopted(site: Site, *procedures: dict[str, Any]) -> None:
    """The same without a run: its version was there before."""
    applied(site, "1.0.0", *procedures)
    site.until(lambda status: (status.get("live") or {}).get("version") == "1.0.0", 20)


def run(site: Site, name: str = "scale", **more: Any) -> None:
    intervene(site, "Run", procedure=name, **{"reason": "pages are slow"} | more)


def row(site: Site) -> dict[str, Any]:
    rows: list[dict[str, Any]] = site.status().get("procedures") or [{}]
    return rows[0]


def over(site: Site, state: str = "Succeeded", number: int = 1, seconds: float = 30) -> None:
    def ended(status: Any) -> bool:
        latest = (status.get("procedures") or [{}])[0]
        return bool(latest.get("id") == number and latest.get("finishedAt"))

    site.until(ended, seconds)
    # Its Jobs are let go, and so is the Release.
    site.lab.wait(lambda: not _finalizers(site), 15, "nothing that keeps the Release")
    assert row(site)["state"] == state, row(site)


def _finalizers(site: Site) -> list[str]:
    found: list[str] = (site.release() or {})["metadata"].get("finalizers") or []
    return found


def commands(site: Site) -> list[str]:
    return [one.command[0] for one in site.lab.world.runs(site.name)]


def at_rest(site: Site) -> None:
    assert not _finalizers(site), "nothing keeps it at rest"


def test_it_runs_while_nothing_is_released_and_is_taken_back(site: Site) -> None:
    promoted(site, SCALE)
    run(site)
    over(site)
    assert site.data("voice-flags") == FLAGS | {"VOICE": "off"}
    assert site.lab.world.runs(site.name, "verify")[0].command == ("verify", "b-1")
    assert row(site)["by"] and row(site)["reason"] == "pages are slow"
    assert site.image() == "shop/web:2.0.0" and site.status()["runs"] == 1

    run(site, undo=True)
    over(site, number=2)
    assert site.data("voice-flags") == FLAGS
    assert site.quiet(2) == []
    site.clean()


def test_what_cannot_be_run_is_refused_and_nothing_is_done(site: Site) -> None:
    promoted(site, SCALE)
    before = len(commands(site))
    run(site, "other")
    found = site.lab.wait(lambda: _answers(site), 10, "an answer")
    assert found == ["there is no procedure other (known: scale)"]
    assert len(commands(site)) == before and "procedures" not in site.status()
    at_rest(site)
    site.clean()


def _answers(site: Site) -> list[str]:
    from tests.harness.lab import INTERVENTIONS

    items = site.lab.api.get(INTERVENTIONS.format(site.name))["items"]
    return [item["status"]["message"] for item in items if "status" in item]


def test_people_approve_it_while_the_operator_was_away(site: Site) -> None:
    promoted(site, ASKED)
    before = len(commands(site))
    run(site, "asked")
    site.until(lambda status: "waits for a person" in row(site).get("message", ""), 10)
    operator = site.lab.operator
    operator.kill()
    try:
        intervene(site, "Approve", procedure="asked")
        time.sleep(0.2)
        assert len(commands(site)) == before
    finally:
        operator.start()
    over(site)
    assert len(commands(site)) == before + 1
    site.clean()


def test_killed_at_any_write_each_step_is_done_once(lab: Lab) -> None:
    """The position goes round with the number of the write."""
    writes = _walk(lab, 0, None)
    for number in range(1, writes + 1):
        _walk(lab, number, POSITIONS[number % len(POSITIONS)])


def _walk(lab: Lab, number: int, position: Position | None) -> int:
    """Run a procedure, killed at one of its writes; return how many it has."""
    if not lab.operator.alive:
        lab.operator.start()
    site = lab.namespace()
    site.deployment()
    lab.proxy.number("no-namespace-yet")
    adopted(site, SCALE)

    lab.proxy.number(site.name)
    fault = [kill_at(number, position)] if position is not None else []
    with lab.proxy.fault(*fault):
        run(site)
        if fault and _killed_or_over(lab, site):
            lab.operator.reap()
            lab.operator.start(wait=False)
        over(site)

    where = f"killed {position} write {number}"
    assert commands(site) == ["backup", "verify"], where
    assert site.data("voice-flags")["VOICE"] == "off", where
    assert len(site.status()["procedures"]) == 1, where
    site.clean()
    return len(lab.proxy.writes(site.name))


def _killed_or_over(lab: Lab, site: Site) -> bool:
    """Wait for the kill, or for the end where its write never comes."""
    for _ in range(1500):
        if lab.proxy.killed.wait(0.02):
            return True
        if row(site).get("finishedAt") and not _finalizers(site):
            return bool(lab.proxy.killed.wait(0.2))
    return False
