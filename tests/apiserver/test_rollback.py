"""The way back, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.walking import errors, retry, staged, state_is
from tests.harness.lab import Site
from tests.harness.proxy import Fault
from tests.harness.scenarios import (
    BAKE,
    crash_rollback,
    deploy,
    env,
    five,
    gate,
    job,
    query,
    simple,
)

pytestmark = pytest.mark.apiserver


def test_a_gate_in_breach_rolls_back_from_the_third_stage(site: Site) -> None:
    site.lab.standin.number(query("broken", site.name), 0.2)
    site.apply(crash_rollback(site.name))
    status = site.ended("RolledBack", 40)
    assert (site.image(), site.data("web-flags")) == (
        "shop/web:1.0.0",
        {"VOICE": "off", "KEPT": "yes"},
    )
    assert [one.command[0] for one in site.lab.world.runs(site.name)] == [
        "backup",
        "migrate",
        "restore",
        "smoke",
    ]
    assert [stage["state"] for stage in status["run"]["stages"]] == [
        "RolledBack",
        "RolledBack",
        "Failed",
        "Pending",
        "Pending",
    ]
    assert status["lastGood"]["version"] == status["live"]["version"] == "1.0.0"
    (rejected,) = status["rejected"]
    assert (rejected["version"], rejected["gate"]) == ("2.0.0", "broken")
    assert "20% > 1%" in rejected["reason"]
    ready = site.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RolledBack")
    assert ready["message"].startswith("serving 1.0.0 normally; 2.0.0 rejected by")
    assert site.condition("RolledBack")["status"] == "True"
    site.clean()
    assert site.quiet(2) == []


def test_a_failing_migration_is_compensated_and_nothing_is_deployed(site: Site) -> None:
    spec = five(site.name)
    spec["stages"][0]["steps"][1] = job(
        "migrate",
        ["migrate"],
        requires=["backup"],
        FAKE_EXIT="3",
        FAKE_OUTPUT='{"failed": "relation users exists"}',
    )
    spec["stages"][0]["rollback"]["reach"] = "Stage"
    site.apply(spec)
    status = site.ended("RolledBack", 40)
    assert [one.command[0] for one in site.lab.world.runs(site.name)] == [
        "backup",
        "migrate",
        "restore",
    ]
    assert site.lab.world.runs(site.name, "restore")[0].command == ("restore", "b-1")
    for words in ("migrate", "exit code 3", "relation users exists"):
        assert words in status["message"]
    assert site.image() == "shop/web:1.0.0"
    assert not [
        one
        for one in site.writes()
        if one.user == "gatewright-operator" and one.resource == "deployments"
    ]
    site.clean()


def test_a_compensation_that_only_its_own_stage_needs_is_left_out(site: Site) -> None:
    site.lab.standin.number(query("broken", site.name), 0.2)
    spec = crash_rollback(site.name)
    spec["stages"][0]["rollback"]["reach"] = "Stage"
    site.apply(spec)
    site.ended("RolledBack", 40)
    assert [one.command[0] for one in site.lab.world.runs(site.name)] == [
        "backup",
        "migrate",
        "smoke",
    ]
    site.clean()


def test_guards_are_asked_while_the_first_change_hangs(site: Site) -> None:
    """What is not measured cannot be seen to break: guards begin with the first change, not after
    its answer."""

    def first(call: Any) -> bool:
        return (call.method, call.resource) == (
            "PATCH",
            "deployments",
        ) and f"/{site.name}/" in call.path

    guard, held = query("errors", site.name), Fault(first, "delay", seconds=5)
    with site.lab.proxy.fault(held):
        site.apply(simple(site.name, guards=[gate("errors", guard, "5%")]))
        site.lab.wait(lambda: held.used, 10, "the change to be on its way")
        site.lab.wait(lambda: site.lab.standin.asked(guard), 3, "the guard's first question")
        assert site.image() == "shop/web:1.0.0", "the change has been answered: nothing was shown"
    site.ended("Promoted", 30)
    site.clean()


def test_a_guard_in_breach_while_guarding_rolls_everything_back(site: Site) -> None:
    guard = gate("errors", query("errors", site.name), "5%", failureThreshold=2)
    site.apply(simple(site.name, guards=[guard], guardFor="60s"))
    site.until(state_is("Guarding"))
    assert site.condition("Ready")["status"] == "True"
    assert site.image() == "shop/web:2.0.0"
    errors(site, 0.3)
    status = site.ended("RolledBack")
    assert site.image() == "shop/web:1.0.0"
    assert "30% > 5%" in status["message"]
    assert status["lastGood"]["version"] == "1.0.0"
    site.clean()


def test_a_breach_goes_on_where_a_restart_interrupted_it(site: Site) -> None:
    """The time that it has lasted is in Prometheus; it does not begin anew with every operator."""
    guard, operator = query("errors", site.name), site.lab.operator
    site.apply(
        simple(
            site.name,
            guards=[gate("errors", guard, "5%") | {"for": "12s", "interval": "1s"}],
            guardFor="90s",
        )
    )
    site.until(state_is("Guarding"))
    errors(site, 0.3)
    site.lab.wait(
        lambda: sum((one.value or 0) > 0.2 for one in site.lab.standin.of(guard)) >= 9,
        30,
        "most of the time",
    )
    operator.kill()
    operator.reap()
    before = site.lab.standin.asked(guard)
    operator.start()
    site.ended("RolledBack", 40)
    assert guard in site.lab.standin.ranged
    assert site.lab.standin.asked(guard) - before < 9, "the time began anew"
    site.clean()


def test_a_guard_that_only_notifies_changes_nothing(site: Site) -> None:
    errors(site, 0.3)
    watched = gate("errors", query("errors", site.name), "5%") | {"action": "Notify"}
    site.apply(staged(site, deploy(), bake=BAKE) | {"guards": [watched], "guardFor": "500ms"})
    site.ended("Promoted")
    site.clean()


def test_a_rollback_whose_verification_fails_calls_somebody(site: Site) -> None:
    site.lab.standin.number(query("broken", site.name), 0.2)
    spec = crash_rollback(site.name)
    spec["rollback"]["verify"] = [
        {
            "name": "smoke",
            "job": {"image": "shop/smoke:1", "command": ["smoke"], "env": env(FAKE_EXIT="1")},
        }
    ]
    site.apply(spec)
    status = site.ended("RollbackFailed", 40)
    assert "smoke" in status["message"]
    stalled = site.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RollbackFailed")
    assert site.condition("RolledBack")["status"] == "False"
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_a_rejected_version_runs_again_only_when_asked(site: Site) -> None:
    errors(site, 0.3)
    site.apply(simple(site.name))
    site.ended("RolledBack")
    errors(site, 0.001)
    site.change({"vars": {"note": "GitOps applies it again"}})
    assert site.quiet(1.5) == []
    site.annotate("gatewright.dev/retry", "whoever may patch it asks, without a verb and a name")
    assert site.quiet(1.5) == []
    assert site.status()["run"]["id"] == 1
    retry(site)
    status = site.ended("Promoted", run=2)
    assert "rejected" not in status
    assert status["run"]["attempt"] == 2
    site.annotate("example.com/other", "x")
    assert site.quiet(1.5) == []
    site.clean()


def test_an_edit_that_a_retry_takes_up_keeps_the_way_back(site: Site) -> None:
    errors(site, 0.3)
    spec = simple(site.name)
    spec["stages"][0]["onFailure"] = "Pause"
    site.apply(spec)
    site.until(state_is("Paused"))
    edited = dict(spec["stages"][0], expectedDuration="9m")
    site.change({"stages": [edited, *spec["stages"][1:]]})
    retry(site)
    site.until(
        lambda status: (
            status["run"]["stages"][0].get("attempt") == 2 and status["state"] == "Paused"
        )
    )
    site.change({"version": "1.0.0"})
    site.ended("Superseded")
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_whoever_edits_metadata_leaves_the_content_of_a_revision_as_it_is(site: Site) -> None:
    """`kubectl delete --cascade=orphan` takes the owner away from it: a patch of its metadata, and
    no other."""
    errors(site, 0.001)
    site.apply(simple(site.name) | {"vars": {"zeta": "<a> & <b>", "alpha": "\u00fc\u2028"}})
    status = site.ended("Promoted")
    for name in {status["run"]["revision"], status["lastGood"]["snapshot"]}:
        where = f"/apis/apps/v1/namespaces/{site.name}/controllerrevisions/{name}"
        before = site.lab.api.get(where)["data"]
        site.lab.api.merge(where, {"metadata": {"ownerReferences": None}})
        assert site.lab.api.get(where)["data"] == before
