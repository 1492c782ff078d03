"""Jobs and their reports on a real API server, which reads the log from the pod's node: with the
shipped rights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.walking import SEED
from tests.harness.api import ApiError
from tests.harness.lab import Lab, Site
from tests.harness.scenarios import TARGET, deploy, job, query

pytestmark = pytest.mark.apiserver
SAMPLES = Path(__file__).resolve().parents[1] / "contract" / "reports"
FIRST = "login.spec.ts › login › locks the account after five failures [slow]"


def sample(name: str) -> str:
    """A real report in the middle of what else a container prints, the seed among it."""
    (path,) = SAMPLES.glob(f"{name}.*")
    return f"{SEED}\n> shop@2.0.0 test\n{path.read_text()}\nnpm notice {SEED}\n"


@pytest.fixture
def site(lab: Lab) -> Site:
    made = lab.namespace()
    made.deployment()
    lab.standin.number(query("errors", made.name), 0.001)
    return made


def release(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "2.0.0",
        "targets": [TARGET],
        "stages": [{"name": "ship", "steps": list(steps)}],
        **more,
    }


def check(name: str, report: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "job": {"image": "shop/e2e:1", "command": [name], "report": report}}


def prints(site: Site, word: str, text: str) -> None:
    site.lab.world.prints[site.name, word] = text


def test_a_step_publishes_the_numbers_of_its_report(site: Site) -> None:
    prints(site, "smoke", sample("playwright-passed"))
    smoke = job("smoke", report={"playwright": {}}, FAKE_OUTPUT='{"id": "run-7"}')
    tell = job("tell", ["tell", "$(steps.smoke.outputs.passed)/$(steps.smoke.outputs.total)",
                        "$(steps.smoke.outputs.id)"])  # fmt: skip
    site.apply(release(smoke, tell, deploy()))
    site.ended("Promoted")
    assert [one.command for one in site.lab.world.runs(site.name, "tell")] == [
        ("tell", "2/2", "run-7")
    ]
    assert site.lab.world.logs.asked.count(site.name) == 1, "the log is read once"
    site.clean()


def test_a_report_of_failure_fails_a_step_that_ended_with_0(site: Site) -> None:
    prints(site, "smoke", sample("playwright-failed"))
    site.apply(release(job("smoke", report={"playwright": {}}), deploy()))
    status = site.ended("RolledBack")
    assert f"1 of 10 tests failed, first: {FIRST}; the exit code was 0" in status["message"]
    assert site.image() == "shop/web:1.0.0"
    assert not [
        one
        for one in site.writes()
        if one.user == "gatewright-operator" and one.resource == "deployments"
    ]
    site.clean()


def test_a_failed_job_names_the_first_test(site: Site) -> None:
    prints(site, "smoke", sample("junit-pytest-failed"))
    site.apply(release(job("smoke", report={"junit": {}}, FAKE_EXIT="1"), deploy()))
    status = site.ended("RolledBack")
    assert "2 of 5 tests failed, first: test_shop › test_total_is_right" in status["message"]
    assert "exit code 1" in status["message"]
    site.clean()


def test_a_report_that_is_not_there_fails_the_step(site: Site) -> None:
    prints(site, "load", "nothing to see\n")
    site.apply(release(job("load", report={"k6": {}}), deploy()))
    status = site.ended("RolledBack")
    assert (
        "its k6 summary is missing: there is none in the termination message or the last 1 MiB"
        in status["message"]
    )
    site.clean()


def test_only_the_end_of_a_long_log_is_read(site: Site) -> None:
    noise = f"{'x' * 1023}\n" * 3072
    prints(site, "load", noise + sample("k6-export-held"))
    prints(site, "smoke", sample("junit-pytest-passed") + noise)
    load = job("load", report={"k6": {"thresholds": ["http_req_duration"]}})
    site.apply(release(load, job("smoke", report={"junit": {}}), deploy()))
    status = site.ended("RolledBack")
    steps = status["run"]["stages"][0]["steps"]
    assert steps[0]["state"] == "Succeeded"
    assert steps[0]["outputs"]["p95"] == "46.298ms"
    assert "step smoke: its JUnit report is missing" in status["message"]
    site.clean()


def test_checks_before_the_change_at_the_gates_and_after_the_rollback(site: Site) -> None:
    for name, text in (
        ("audit", "npm-audit-low"),
        ("pages", "lighthouse-failed"),
        ("verify", "k6-handle-held"),
    ):
        prints(site, name, sample(text))
    spec = release(deploy(), preflight=[check("audit", {"npmAudit": {"level": "high"}})])
    spec["stages"][0]["gates"] = [check("pages", {"lighthouse": {}})]
    spec["rollback"] = {"verify": [check("verify", {"k6": {}, "from": "Log"})], "within": "60s"}
    site.apply(spec)
    status = site.ended("RolledBack", 40)
    (audit,) = status["run"]["preflight"]
    assert (audit["state"], audit["message"]) == (
        "Passing",
        (
            "npm audit report: no vulnerability of severity high or worse in 3 dependencies, 1 "
            "of lesser severity"
        ),
    )
    (pages,) = status["run"]["stages"][0]["gates"]
    assert pages["state"] == "Failed"
    assert "first: largest-contentful-paint 2543.25, wanted <= 2000, at /cart" in pages["message"]
    (verify,) = status["run"]["rollback"]["verify"]
    assert (verify["state"], verify["message"]) == ("Passing", "k6 summary: 3 thresholds held")
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_an_audit_that_could_not_run_stops_the_run_before_the_first_change(site: Site) -> None:
    prints(site, "audit", sample("npm-audit-unreachable"))
    spec = release(deploy(), preflight=[check("audit", {"npmAudit": {}})])
    site.apply(spec)
    status = site.ended("Aborted")
    assert "npm audit could not run: what it printed has no auditReportVersion" in status["message"]
    assert site.image() == "shop/web:1.0.0"
    site.clean()


def test_a_node_that_does_not_answer_at_first_is_asked_again(site: Site) -> None:
    prints(site, "smoke", sample("junit-pytest-passed"))
    site.lab.world.logs.refusals = 2
    site.apply(release(job("smoke", report={"junit": {}}), deploy()))
    site.ended("Promoted", 40)
    assert site.lab.world.logs.refusals == 0
    assert site.lab.world.logs.asked.count(site.name) == 3
    site.clean()


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({}, "exactly one of playwright, k6, lighthouse, npmAudit, junit"),
        ({"junit": {}, "k6": {}}, "exactly one of"),
        ({"junit": {"minTests": 0}}, "minTests"),
        ({"npmAudit": {"level": "awful"}}, "level"),
        ({"junit": {}, "from": "Mail"}, "from"),
    ],
)
def test_a_mistake_is_told_at_kubectl_apply(site: Site, report: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        site.apply(release(job("smoke", report=report)))
    assert caught.value.status == 422
