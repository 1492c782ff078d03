"""What only the operator can refuse, and what goes wrong on the way."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.apiserver.walking import SEED, errors, message_has, stage_is, staged, state_is
from tests.harness.lab import Site
from tests.harness.proxy import Fault
from tests.harness.scenarios import (
    BAKE,
    TARGET,
    deploy,
    gate,
    job,
    query,
    simple,
)

pytestmark = pytest.mark.apiserver


def test_an_unknown_variable_is_refused_before_anything_runs(site: Site) -> None:
    spec = simple(site.name)
    spec["stages"][0]["steps"].insert(0, job("migrate", ["migrate", "$(vars.comit)"]))
    site.apply(spec | {"vars": {"commit": "abc"}})
    site.until(state_is("Invalid"))
    message = site.condition("Ready")["message"]
    assert site.condition("Ready")["reason"] == "InvalidSpec"
    for words in ("spec.stages[0].steps[0].job.command[1]", "$(vars.comit)", "vars.commit"):
        assert words in message
    assert site.jobs() == []
    assert "run" not in site.status()
    site.clean()


def test_a_missing_target_is_waited_for(site: Site) -> None:
    spec = simple(site.name)
    spec["targets"] = [
        {"name": "web", "workload": {"name": "wbe", "images": {"app": "shop/web:$(version)"}}}
    ]
    site.apply(spec)
    site.until(message_has("there is no Deployment wbe"))
    assert (site.condition("Ready")["reason"], site.condition("Reconciling")["status"]) == (
        "TargetNotFound",
        "True",
    )
    site.change({"targets": [TARGET]})
    site.ended("Promoted")
    site.clean()


def test_a_missing_container_is_named(site: Site) -> None:
    spec = simple(site.name)
    spec["targets"] = [
        {"name": "web", "workload": {"name": "web", "images": {"ap": "shop/web:$(version)"}}}
    ]
    site.apply(spec)
    site.until(message_has("has no container ap (it has: app)"))
    site.clean()


def test_a_missing_captured_secret_is_named(site: Site) -> None:
    workload = TARGET["workload"] | {"config": [{"secret": "web-secret"}]}  # type: ignore[operator]
    site.apply(simple(site.name) | {"targets": [{"name": "web", "workload": workload}]})
    site.until(message_has("secret/web-secret"))
    assert "run" not in site.status()
    site.secret("web-secret", {"token": SEED})
    site.change({"vars": {"look": "again"}})
    site.ended("Promoted", 45)
    site.clean()


def test_a_gate_whose_secret_is_missing_holds_and_then_goes_on(site: Site) -> None:
    access = {
        "url": site.lab.standin.url,
        "bearerToken": {"secretRef": {"name": "prom", "key": "token"}},
    }
    site.connection("guarded", {"prometheus": access})
    asked = gate("errors", query("errors", site.name))
    asked["prometheus"]["connection"] = "guarded"
    site.apply(staged(site, deploy(), gates=[asked], bake=BAKE))
    site.until(message_has("there is no Secret prom"))
    assert stage_is(0, "Gating", "Baking")(site.status())
    site.secret("prom", {"token": SEED})
    site.ended("Promoted", 60)
    site.clean()


def test_an_image_that_cannot_be_pulled(site: Site) -> None:
    site.lab.world.broken.add("9.9.9")
    site.apply(
        simple(site.name, "9.9.9") | {"stages": [{"name": "ship", "steps": [deploy(timeout="8s")]}]}
    )
    site.until(message_has("the image cannot be pulled"))
    status = site.ended("RolledBack", 30)
    assert "shop/web:9.9.9" in status["message"]
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_a_job_whose_image_cannot_be_pulled(site: Site) -> None:
    site.apply(
        staged(site, job("migrate", FAKE_WAITING="ImagePullBackOff", timeout="6s"), deploy())
    )
    site.until(message_has("the image cannot be pulled"))
    status = site.ended("RolledBack", 60)
    assert "migrate" in status["message"]
    assert len(site.jobs("migrate")) == 1
    site.clean()


def test_a_job_whose_secret_is_missing(site: Site) -> None:
    migrate = job("migrate", timeout="6s", FAKE_WAITING="CreateContainerConfigError")
    site.apply(staged(site, migrate, deploy()))
    site.until(message_has("the container cannot be configured"))
    site.ended("RolledBack", 60)
    site.clean()


def test_a_job_that_never_ends(site: Site) -> None:
    site.apply(staged(site, job("migrate", FAKE_HANG="1", timeout="3s"), deploy()))
    status = site.ended("RolledBack", 60)
    assert "DeadlineExceeded" in status["message"]
    assert len(site.lab.world.runs(site.name, "migrate")) == 1
    site.clean()


def test_a_running_job_is_stopped_when_its_run_is_undone(site: Site) -> None:
    guard = gate("errors", query("errors", site.name), "5%")
    site.apply(staged(site, job("migrate", FAKE_HANG="1"), deploy()) | {"guards": [guard]})
    site.lab.wait(lambda: site.lab.world.runs(site.name, "migrate"), 20, "the migration to start")
    errors(site, 0.3)
    site.ended("RolledBack", 30)
    (made,) = site.jobs("migrate")
    assert made["spec"]["suspend"] is True
    assert made.get("status", {}).get("active", 0) == 0
    site.clean()


def test_a_job_that_was_deleted_before_its_result_was_read_is_not_made_again(site: Site) -> None:
    site.apply(staged(site, job("migrate", FAKE_SECONDS="60"), deploy()))
    site.lab.wait(lambda: site.lab.world.runs(site.name, "migrate"), 20, "the migration to start")
    (made,) = site.jobs("migrate")
    site.lab.api.delete(
        f"/apis/batch/v1/namespaces/{site.name}/jobs/{made['metadata']['name']}?propagationPolicy=Background"
    )
    status = site.ended("RolledBack", 30)
    assert "deleted" in status["message"]
    site.lab.wait(lambda: not site.jobs("migrate"), 10, "the Job to vanish")
    assert len(site.lab.world.runs(site.name, "migrate")) == 1
    site.clean()


def test_a_job_that_was_deleted_while_nobody_watched_is_not_made_again(site: Site) -> None:
    site.apply(staged(site, job("migrate", FAKE_SECONDS="60"), deploy()))
    site.lab.wait(lambda: site.lab.world.runs(site.name, "migrate"), 20, "the migration to start")
    time.sleep(1)
    site.lab.operator.kill()
    site.lab.operator.reap()
    (made,) = site.jobs("migrate")
    site.lab.api.delete(
        f"/apis/batch/v1/namespaces/{site.name}/jobs/{made['metadata']['name']}?propagationPolicy=Background"
    )
    site.lab.wait(
        lambda: all("deletionTimestamp" in made["metadata"] for made in site.jobs("migrate")),
        10,
        "the Job to go",
    )
    site.lab.operator.start()
    status = site.ended("RolledBack", 30)
    assert "deleted" in status["message"]
    site.lab.wait(lambda: not site.jobs("migrate"), 10, "the Job to vanish")
    assert len(site.lab.world.runs(site.name, "migrate")) == 1
    site.clean()


def test_late_writes_of_a_lost_connection_do_not_undo_a_rollback(site: Site) -> None:
    """A patch and a Job that hang on the way until the rollback is done must not take effect any
    more."""
    lab, other = site.lab, site.lab.namespace()
    other.deployment()
    lab.standin.number(query("errors", other.name), 0.001)
    held: dict[str, int] = {}

    def first(call: Any) -> bool:
        changes = (call.method, call.resource) == ("PATCH", "deployments")
        wanted = changes or call.makes_job
        where = call.path.split("/namespaces/")[-1].split("/")[0]
        if wanted and where in (site.name, other.name) and where not in held:
            held[where] = call.serial
            return True
        return False

    guard = gate("errors", query("errors", other.name), "5%")
    with lab.proxy.fault(Fault(first, "delay", seconds=25, times=2)):
        site.apply(staged(site, deploy(timeout="3s")))
        other.apply(
            staged(other, {"name": "moment", "wait": "500ms"}, job("migrate")) | {"guards": [guard]}
        )
        lab.wait(lambda: other.name in held, 10, "the Job to be on its way")
        errors(other, 0.3)
        site.ended("RolledBack", 40)
        other.ended("RolledBack", 40)
        assert site.image() == "shop/web:1.0.0"
        lab.wait(
            lambda: all(lab.proxy.calls[serial - 1].code for serial in held.values()),
            40,
            "the late writes",
        )
    time.sleep(1)
    assert site.image() == "shop/web:1.0.0"
    assert lab.world.runs(other.name) == []
    site.clean()
    other.clean()


def test_prometheus_away_in_the_middle_of_a_bake_stops_the_clock(site: Site) -> None:
    site.apply(simple(site.name, bake="2s"))
    site.until(stage_is(0, "Baking"))
    site.lab.standin.go_away()
    try:
        site.until(state_is("Holding"))
        assert "clocks stand still" in site.status()["waitingFor"]["message"]
        time.sleep(2.5)
        assert stage_is(0, "Baking")(site.status()), "it was passed while nobody answered"
    finally:
        site.lab.standin.come_back()
    site.ended("Promoted", 30)
    site.clean()


@pytest.mark.parametrize("kind", ["empty", "nan", "error", "hang"])
def test_a_gate_without_data_holds_and_then_fails(site: Site, kind: str) -> None:
    asked = query("errors", site.name)
    getattr(site.lab.standin, kind)(asked)
    site.apply(staged(site, deploy(), gates=[gate("errors", asked, holdFor="3s")], bake=BAKE))
    site.until(state_is("Holding"))
    status = site.ended("RolledBack", 30)
    words = {"empty": "no data", "nan": "NaN", "error": "no answer", "hang": "no answer"}[kind]
    assert words in status["message"], status["message"]
    assert "longer than 3s" in status["message"]
    site.clean()


def test_a_hold_says_what_holds_it_now_and_not_with_every_answer(site: Site) -> None:
    """First nobody answers with a number, then the provider is refused: people must mend the
    second. Words that alternate are told once, and not again for a minute."""
    asked, standin = query("errors", site.name), site.lab.standin
    standin.empty(asked)
    site.apply(staged(site, deploy(), gates=[gate("errors", asked)], bake=BAKE))
    status = site.until(state_is("Holding"))
    assert "no data" in status["waitingFor"]["message"]
    since, count = status["run"]["stages"][0]["gates"][0]["since"], len(_written(site))
    standin.error(asked, 403)
    status = site.until(lambda status: "403" in (status.get("waitingFor") or {}).get("message", ""))
    assert status["state"] == "Holding" and status["run"]["stages"][0]["gates"][0]["since"] == since
    for _ in range(5):
        for code in (500, 403):
            standin.error(asked, code)
            before = standin.asked(asked)
            site.lab.wait(
                lambda before=before: standin.asked(asked) > before + 1, 10, "two more answers"
            )
    assert len(_written(site)) == count + 1
    errors(site, 0.001)
    site.ended("Promoted")
    site.clean()


def _written(site: Site) -> list[Any]:
    """Status writes up to what the Release is now; the API server's log may be a moment late."""
    version = int((site.release() or {})["metadata"]["resourceVersion"])

    def found() -> list[Any]:
        return [one for one in site.writes() if one.resource == "releases/status" and one.done]

    site.lab.wait(
        lambda: any(one.rv >= version for one in found()), 10, "the log of the last write"
    )
    return found()


def test_an_empty_answer_that_fills_up_goes_on(site: Site) -> None:
    asked = query("errors", site.name)
    site.lab.standin.empty(asked)
    site.apply(staged(site, deploy(), gates=[gate("errors", asked)], bake=BAKE))
    site.until(state_is("Holding"))
    errors(site, 0.001)
    site.ended("Promoted")
    site.clean()


def test_a_breach_must_last_where_for_says_so(site: Site) -> None:
    asked = query("errors", site.name)
    lasting = gate("errors", asked) | {"for": "2s"}
    site.apply(staged(site, deploy(), gates=[lasting], bake="4s"))
    site.until(stage_is(0, "Baking"))
    errors(site, 0.3)
    site.until(state_is("Breaching"))
    time.sleep(0.6)
    errors(site, 0.001)
    site.until(state_is("Baking"))
    since = time.monotonic()
    errors(site, 0.3)
    status = site.ended("RolledBack")
    assert time.monotonic() - since >= 2.0
    assert "30% > 1% for 2s" in status["message"]
    site.clean()


def test_a_secret_shows_up_nowhere(site: Site) -> None:
    """In DEBUG logs, statuses, Events, Jobs, messages: the oracle looks for the seed in the audit
    log and our log."""
    site.secret("prom", {"token": SEED})
    access = {
        "url": site.lab.standin.url,
        "bearerToken": {"secretRef": {"name": "prom", "key": "token"}},
    }
    site.connection("guarded", {"prometheus": access})
    asked = query("echo", site.name)
    site.lab.standin.error(
        asked, 500, f'{{"status":"error","errorType":"internal","error":"token {SEED} refused"}}'
    )
    echo = gate("errors", asked, holdFor="2s")
    echo["prometheus"]["connection"] = "guarded"
    migrate = job("migrate")
    secret = {"secretKeyRef": {"name": "prom", "key": "token"}}
    migrate["job"]["env"] = [{"name": "TOKEN", "valueFrom": secret}]
    site.apply(staged(site, migrate, deploy(), gates=[echo], bake=BAKE))
    site.ended("RolledBack", 30)
    report = site.clean()
    assert "I9" in report.checked
