"""What keeps a run from starting, and who may start one all the same: Freezes, windows and Hotfixes
on a real API server, with the shipped roles and policies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatewright.codegen import rbac, requesters
from tests.apiserver.people import People
from tests.harness.api import Api
from tests.harness.lab import INTERVENTIONS, Lab, Site
from tests.harness.scenarios import TARGET, deploy, simple

pytestmark = pytest.mark.apiserver
FREEZES = "/apis/gatewright.dev/v1alpha1/namespaces/{}/freezes"
CLOSED = {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "timeZone": "UTC", "duration": "1m"}
_numbers = itertools.count(1)


def state_is(*states: str) -> Callable[[Any], Any]:
    """a Release in one of some states"""
    return lambda status: status.get("state") in states


def freeze(name: str = "audit", hours: float = 1.0, **more: Any) -> dict[str, Any]:
    until = (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
    spec = {"reason": "the auditors are here", "until": until, **more}
    meta = {"name": name}
    return {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Freeze",
        "metadata": meta,
        "spec": spec,
    }


def shipping(**more: Any) -> dict[str, Any]:
    stages = [{"name": "ship", "steps": [deploy()]}]
    return {"version": "2.0.0", "targets": [TARGET], "stages": stages, **more}


@pytest.fixture
def people(site: Site) -> Iterator[People]:
    found = People(site.lab, site.name, FREEZES, requesters.POLICY_NAME)
    yield found
    found.close()


def bound(people: People, role: str, user: str) -> Api:
    name = f"{people.namespace}-{user}"
    people.bind(name, "ClusterRole", role)
    return people.user(name)


def acts(people: People, api: Api, action: str, **more: Any) -> dict[str, Any]:
    """Make an Intervention; what came of it."""
    name, lab = f"act-{next(_numbers)}", people.lab
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Intervention",
        "metadata": {"name": name},
        "spec": {"release": "shop", "action": action, "by": people.name_of(api), **more},
    }
    path = INTERVENTIONS.format(people.namespace)
    people.path = path
    people.passes(api, body)
    api.create(path, body)
    found = lab.wait(lambda: lab.api.get(f"{path}/{name}").get("status"), 10, f"answer to {name}")
    return dict(found)


def test_no_run_starts_while_a_freeze_is_there(lab: Lab, site: Site) -> None:
    path = FREEZES.format(site.name)
    lab.api.create(path, freeze())
    site.apply(shipping())
    status = site.until(state_is("Frozen"))
    assert "runs" not in status and site.image() == "shop/web:1.0.0"
    assert "Freeze audit, until" in status["waitingFor"]["message"]
    assert "the auditors are here" in status["waitingFor"]["message"]

    lab.api.delete(f"{path}/audit")
    site.ended("Promoted")
    site.clean()


def test_an_exception_and_another_label_start(lab: Lab, site: Site) -> None:
    path = FREEZES.format(site.name)
    lab.api.create(path, freeze("others", selector={"matchLabels": {"area": "finance"}}))
    lab.api.create(path, freeze("all-but-shop", exceptions=["shop"]))
    site.apply(shipping())
    site.ended("Promoted")
    lab.api.merge(site.path("shop"), {"metadata": {"labels": {"area": "finance"}}})
    site.change({"version": "3.0.0"})
    site.until(state_is("Frozen"))
    lab.api.merge(site.path("shop"), {"metadata": {"labels": {"area": None}}})
    site.ended("Promoted", run=2)
    site.clean()


def test_a_freeze_ends_by_itself(lab: Lab, site: Site) -> None:
    lab.api.create(FREEZES.format(site.name), freeze(hours=3 / 3600))
    site.apply(shipping())
    site.until(state_is("Frozen"))
    site.ended("Promoted", 30)


def test_the_way_back_waits_for_no_freeze(lab: Lab, site: Site) -> None:
    site.apply(simple(site.name, bake="60s"))
    site.until(state_is("Baking"))
    lab.api.create(FREEZES.format(site.name), freeze())
    site.change({"version": "1.0.0"})
    site.ended("Superseded", run=1)
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_a_restart_knows_of_freezes_before_it_starts_anything(lab: Lab, site: Site) -> None:
    lab.operator.stop()
    lab.api.create(FREEZES.format(site.name), freeze())
    site.apply(shipping())
    lab.operator.start()
    site.until(state_is("Frozen"))
    assert site.writes() == [] or site.image() == "shop/web:1.0.0"


def test_a_hotfix_has_a_verb_of_its_own(lab: Lab, site: Site, people: People) -> None:
    lab.api.create(FREEZES.format(site.name), freeze())
    site.apply(shipping(windows=[CLOSED]))
    site.until(state_is("Frozen"))

    retries = ("retry", "gatewright.dev", "releases", "")
    may_retry = people.with_rights(retries, also=("interventions",))
    refused = acts(people, may_retry, "Retry")
    assert refused["result"] == "Refused" and "waits for the end of Freeze" in refused["message"]
    hotfix = {"release": "shop", "action": "Hotfix", "by": people.name_of(may_retry)}
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Intervention",
        "metadata": {"generateName": "hotfix-"},
    }
    assert "may not hotfix release shop" in people.said(
        may_retry, body | {"spec": {**hotfix, "reason": "P0"}}
    )
    assert "give the reason" in people.said(lab.api, body | {"spec": hotfix})

    ana = bound(people, rbac.RELEASER_ROLE, "ana")
    done = acts(people, ana, "Hotfix", reason="nobody can log in")
    assert done["result"] == "Accepted" and "in spite of Freeze audit" in done["message"]
    status = site.ended("Promoted")
    assert "nobody can log in" in status["history"][0]["people"][0]
    site.clean()


def test_a_window_holds_up_the_start_alone(site: Site) -> None:
    site.apply(shipping(windows=[CLOSED]))
    status = site.until(state_is("OutsideWindow"))
    assert "the next window to open at" in status["waitingFor"]["message"]
    assert "-02-29T00:00:00Z" in status["waitingFor"]["message"]
    site.change({"windows": []})
    site.ended("Promoted")
    site.clean()


def test_who_freezes_says_so_under_their_own_name(people: People) -> None:
    ana, ben = (bound(people, rbac.RELEASER_ROLE, user) for user in ("ana", "ben"))
    own = people.name_of(ana)
    people.passes(ana, freeze(by=own))
    words = f'spec.by: "{own}" is not who asks ("{people.name_of(ben)}")'
    people.tells(ben, freeze(by=own), words)
    people.passes(ben, freeze())
    ana.create(people.path, freeze(by=own))
    later = {"spec": {"until": "2099-01-01T00:00:00Z"}}
    assert "nobody acts under another name" in people.changes(ben, "audit", later)
    assert people.changes(ana, "audit", later) == ""
    assert people.changes(ben, "audit", {"metadata": {"labels": {"a": "b"}}}) == ""


def test_edit_alone_writes_no_freeze(people: People) -> None:
    cem = bound(people, "edit", "cem")
    assert "forbidden" in people.tells(cem, freeze(), "cannot create resource").lower()


@pytest.mark.parametrize("until", ["soon", "2026-13-01T00:00:00Z"])
def test_its_end_is_a_point_in_time(people: People, until: str) -> None:
    people.tells(people.lab.api, freeze() | {"spec": {"reason": "a", "until": until}}, "until")
