"""The way back when no run is under way, on a real API server."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.apiserver.killing import UNDO, killed_at_every_write
from tests.apiserver.walking import errors, intervene, retry
from tests.harness.lab import Lab, Site
from tests.harness.scenarios import TARGET, deploy, five, simple

pytestmark = pytest.mark.apiserver
FLAGS = {"VOICE": "off", "KEPT": "yes"}


def promoted(site: Site, spec: dict[str, Any]) -> None:
    errors(site, 0.001)
    site.lab.standin.number(f'latency{{namespace="{site.name}"}}', 0.1)
    site.apply(spec)
    site.ended("Promoted", 40)


def undone(site: Site, seconds: float = 20) -> Any:
    """Wait for the end of the last run, which is an Undo."""
    site.until(lambda status: status["run"].get("kind") == "Undo", seconds)
    return site.ended("RolledBack", seconds, run=site.run()["id"])


def test_what_was_promoted_comes_back_within_two_writes(site: Site) -> None:
    promoted(site, five(site.name))
    assert site.image() == "shop/web:2.0.0" and site.data("web-flags")["VOICE"] == "true"
    before = len(site.writes())
    jobs = len(site.lab.world.runs(site.name))

    intervene(site, "Rollback", reason="P0: nobody can log in")
    status = undone(site)
    assert (site.image(), site.data("web-flags")) == ("shop/web:1.0.0", FLAGS)
    assert len(site.lab.world.runs(site.name)) == jobs, "no Job: the database stays"
    assert status["live"]["version"] == status["lastGood"]["version"] == "1.0.0"
    assert status["rejected"][0]["reason"].endswith("P0: nobody can log in")
    assert status["message"].startswith("serving 1.0.0; 2.0.0 rejected by Rollback by")

    mine = [one for one in site.writes()[before:] if one.user == "gatewright-operator"]
    # Two in a row until the first restore: the plan as intents, and the restore itself. Restores
    # and the finalizer go side by side.
    assert mine[0].resource == "releases/status", [str(one) for one in mine]
    restores = [one for one in mine if one.resource in ("deployments", "configmaps")]
    between = mine[1 : mine.index(restores[0])]
    assert all(_is_finalizer(one) for one in between), between
    assert len(restores) == 2, "each once"
    site.clean()


def _is_finalizer(one: Any) -> bool:
    return bool(one.resource in ("releases", "interventions/status", "events"))


def test_the_database_goes_back_only_where_somebody_asks_for_it(site: Site) -> None:
    promoted(site, five(site.name))
    (kept,) = site.status()["kept"]
    assert kept["compensations"] == ["run restore of migration"] and kept["backupAt"]
    intervene(site, "Rollback", withDatabase=True, reason="the migration lost names")
    undone(site)
    assert site.lab.world.runs(site.name, "restore")[0].command == ("restore", "b-1")
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_two_versions_back_at_once_and_what_only_the_older_one_had(site: Site) -> None:
    site.deployment("worker")
    both = [
        TARGET,
        {
            "name": "worker",
            "workload": {"name": "worker", "images": {"app": "shop/worker:$(version)"}},
        },
    ]
    older = simple(site.name) | {"targets": both}
    older["stages"][0]["steps"] = [{"name": "deploy", "deploy": {"targets": ["web", "worker"]}}]
    promoted(site, older)
    assert site.image("worker") == "shop/worker:2.0.0"

    site.change(simple(site.name, version="3.0.0"))
    site.until(lambda status: status["lastGood"]["version"] == "3.0.0", 30)
    intervene(site, "Rollback", to="1.0.0")
    status = undone(site)
    assert status["run"]["undoes"] == [2, 1]
    assert (site.image(), site.image("worker")) == ("shop/web:1.0.0", "shop/worker:1.0.0")
    assert status["live"]["version"] == "1.0.0"
    site.clean()


def test_somebody_asks_while_no_operator_is_there_and_the_spec_is_broken(site: Site) -> None:
    operator = site.lab.operator
    promoted(site, simple(site.name))
    operator.kill()
    try:
        intervene(site, "Rollback")
        broken = [{"name": "ship", "steps": [deploy(version="$(nothing)")]}]
        site.change({"stages": broken})
        time.sleep(0.2)
    finally:
        operator.start()
    undone(site)
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_the_version_that_was_left_starts_again_by_a_retry_alone(site: Site) -> None:
    promoted(site, simple(site.name))
    intervene(site, "Rollback")
    undone(site)
    site.annotate("argocd/refresh", "now")
    assert site.quiet(2) == []
    retry(site)
    site.until(lambda status: status["lastGood"]["version"] == "2.0.0", 30)
    assert site.image() == "shop/web:2.0.0" and "rejected" not in site.status()
    site.clean()


def test_killed_at_any_write_an_undo_ends_the_same(lanes: list[Lab], capsys: Any) -> None:
    killed_at_every_write(lanes, UNDO, capsys)
