"""Flags in a whole run, on a real API server: set by a stage, back with it, and switched off as a
stage's rollback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.contract import world
from tests.fakes.flags import LaunchDarkly
from tests.harness.lab import Lab, Site
from tests.harness.scenarios import TARGET, deploy, gate, query

pytestmark = pytest.mark.apiserver


@pytest.fixture
def site(lab: Lab) -> Site:
    made = lab.namespace()
    made.deployment()
    made.configmap("web-flags", {"VOICE": "on", "CRICO": "off", "KEPT": "yes"})
    lab.standin.number(query("errors", made.name), 0.001)
    return made


def beta(site: Site, flags: dict[str, Any], kill: dict[str, Any] | None = None) -> dict[str, Any]:
    """A deployment, and then a stage of flags whose gate is watched."""
    stage: dict[str, Any] = {
        "name": "beta",
        "steps": [{"name": "flags", "flags": flags}],
        "gates": [gate("errors", query("errors", site.name))],
        "bake": "1h",
    }
    if kill is not None:
        stage["rollback"] = {"steps": [{"name": "kill", "flags": kill}]}
    stages = [{"name": "ship", "steps": [deploy()]}, stage]
    return {"version": "2.0.0", "targets": [TARGET], "stages": stages}


def fails(site: Site) -> None:
    site.until(lambda status: status.get("state") == "Baking")
    site.lab.standin.number(query("errors", site.name), 0.5)


def env(site: Site) -> dict[str, str]:
    found = site.lab.api.get(f"/apis/apps/v1/namespaces/{site.name}/deployments/web")
    container = found["spec"]["template"]["spec"]["containers"][0]
    return {item["name"]: item["value"] for item in container.get("env", ())}


def test_variables_of_a_workload_are_set_rolled_out_and_taken_back(site: Site) -> None:
    site.apply(beta(site, {"target": "web", "container": "app", "set": {"VOICE": "on"}}))
    site.until(lambda status: status.get("state") == "Baking")
    assert env(site) == {"VOICE": "on"} and site.image() == "shop/web:2.0.0"
    fails(site)
    site.ended("RolledBack")
    assert env(site) == {} and site.image() == "shop/web:1.0.0"
    site.clean()


def test_the_kill_switch_of_a_stage_outlasts_what_the_rollback_returns(site: Site) -> None:
    """What was on before the run is off after it, because the stage's rollback says so; the rest is
    as it was."""
    set_, kill = (
        {"configMap": "web-flags", "set": {name: value}}
        for name, value in (("CRICO", "on"), ("VOICE", "off"))
    )
    site.apply(beta(site, set_, kill))
    site.until(lambda status: status.get("state") == "Baking")
    assert site.data("web-flags") == {"VOICE": "on", "CRICO": "on", "KEPT": "yes"}
    fails(site)
    status = site.ended("RolledBack")
    assert site.data("web-flags") == {"VOICE": "off", "CRICO": "off", "KEPT": "yes"}
    undone = [
        (line["kind"], line["subject"], line["state"]) for line in status["run"]["rollback"]["undo"]
    ]
    assert undone == [
        ("Restore", "configmap/web-flags", "Succeeded"),
        ("Compensate", "step/kill", "Succeeded"),
        ("Restore", "target/web", "Succeeded"),
    ], undone


def test_a_vendors_kill_switch_is_thrown_and_its_flags_go_back(
    site: Site, served: Callable[[web.Application], str]
) -> None:
    there = LaunchDarkly(
        world.TOKEN, flags={name: {"production": name == "voice"} for name in ("voice", "crico")}
    )
    site.secret("keys", {"token": world.TOKEN})
    access = {"url": served(there.app()), "token": {"secretRef": {"name": "keys", "key": "token"}}}
    site.connection("launchdarkly", {"timeout": "2s", "launchdarkly": access})
    place = {"project": "shop", "environment": "production"}
    site.apply(
        beta(
            site,
            {"launchdarkly": {**place, "set": {"crico": "on"}}},
            {"launchdarkly": {**place, "set": {"voice": "off"}}},
        )
    )
    site.until(lambda status: status.get("state") == "Baking")
    assert there.flags == {"voice": {"production": True}, "crico": {"production": True}}
    fails(site)
    site.ended("RolledBack")
    assert there.flags == {"voice": {"production": False}, "crico": {"production": False}}
    assert len(there.patches) == 3, "each flag is switched once"
    site.clean()
