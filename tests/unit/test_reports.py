"""What a report makes of a Job's end: where it is looked for, and that it can make nothing
better."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

import pytest
import yaml
from pydantic import ValidationError

from gatewright.api import KEY
from gatewright.api.jobs import REPORT_FORMATS, Job, JobReport
from gatewright.api.status import ReleaseStatus
from gatewright.codegen import rbac
from gatewright.core.hash_key import HashKey
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.ports import Conflict, Keep, NotFound, Permanent, Retryable, keep_whole_object
from gatewright.providers.registry import REPORTS
from gatewright.providers.reports.finding import plain_line
from gatewright.runtime import progress
from gatewright.runtime.cluster.cached import CachedCluster, UncachedReader
from gatewright.runtime.cluster.children import child_metadata
from gatewright.runtime.execution import job_pods, job_reports
from gatewright.runtime.execution.jobs import create_job, follow_job, job_trouble
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.tracked import TrackedRelease

SAMPLES = Path(__file__).resolve().parents[1] / "contract" / "reports"
PASSED = (SAMPLES / "playwright-passed.json").read_text()
FAILED = (SAMPLES / "playwright-failed.json").read_text()
FIRST = (
    "1 of 10 tests failed, first: login.spec.ts › login › locks the account after five "
    "failures [slow]"
)
VIEW = View("shop", "foco", "uid-1", 1, None, ReleaseStatus())
SECRET = "canary-e41b-password"
UIDS = itertools.count()
BACKOFF = {
    "reason": "BackoffLimitExceeded",
    "message": "Job has reached the specified backoff limit",
}


def operation(report: Mapping[str, Any] | None = None, **job: Any) -> Operation:
    config = Job.model_validate(
        {"image": "shop/smoke:1", "report": report or {"playwright": {}}, **job}
    )
    return Operation("1.smoke.test.1-abc", "job", "job/foco-smoke", config)


class Cluster:
    """One Job, its pods, their logs and the Events about them; a log that is an exception is
    raised."""

    def __init__(self, complete: bool = True, succeeded: int = 1) -> None:
        condition = {"type": "Complete" if complete else "Failed", "status": "True"} | (
            {} if complete else BACKOFF
        )
        metadata = child_metadata(VIEW, "foco-smoke", operation().key) | {
            "resourceVersion": "1",
            "uid": f"job-{next(UIDS)}",
        }
        self.job: dict[str, Any] = {
            "metadata": metadata,
            "spec": {"activeDeadlineSeconds": 20},
            "status": {"conditions": [condition], **({"succeeded": succeeded} if complete else {})},
        }
        self.pods: list[dict[str, Any]] = []
        self.logs: dict[str, str | Exception] = {}
        self.events: list[dict[str, Any]] = []
        self.read: list[str] = []
        self.slow = 0.0

    def pod(
        self, log: str | Exception = "", message: str = "", code: int = 0, age: int = 0, **spec: Any
    ) -> Self:
        name = f"foco-smoke-{len(self.pods)}"
        ended = {"exitCode": code, "reason": "Error" if code else "Completed"} | (
            {"message": message} if message else {}
        )
        made = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=age)
        metadata = {
            "name": name,
            "namespace": "shop",
            "creationTimestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "uid": self.job["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        self.pods.append(
            {
                "metadata": {**metadata, **spec.pop("metadata", {})},
                "spec": {"containers": [{"name": "job"}], **spec},
                "status": {
                    "phase": "Failed" if code else "Succeeded",
                    "containerStatuses": [{"name": "job", "state": {"terminated": ended}}],
                },
            }
        )
        self.logs[name] = log
        return self

    async def get(self, path: str) -> dict[str, Any]:
        assert path.endswith("/jobs/foco-smoke")
        return self.job

    async def list(
        self, path: str, selector: str = "", fields: str = "", *, keep: Keep = keep_whole_object
    ) -> list[dict[str, Any]]:
        if path == "/api/v1/namespaces/shop/events":
            kind, name = (part.partition("=")[2] for part in fields.split(","))
            about = [(event, event["involvedObject"]) for event in self.events]
            there = [event for event, one in about if (one["kind"], one["name"]) == (kind, name)]
            return [kept for event in there if (kept := keep(event)) is not None]
        assert (path, fields) == ("/api/v1/namespaces/shop/pods", "")
        assert selector == "batch.kubernetes.io/job-name=foco-smoke"
        return [kept for pod in self.pods if (kept := keep(pod)) is not None]

    async def tail(self, path: str, limit: int) -> str:
        self.read.append(path)
        await asyncio.sleep(self.slow)
        found = self.logs[path.partition("?")[0].split("/")[-2]]
        if isinstance(found, Exception):
            raise found
        return found[-limit:]

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        raise Conflict("it exists")

    async def managed(self, path: str) -> dict[str, Any]:
        raise AssertionError(path)

    async def patch(
        self, path: str, body: Any, kind: Literal["json", "merge", "strategic"]
    ) -> dict[str, Any]:
        raise AssertionError(path)

    async def delete(self, path: str, selector: str = "", uid: str = "") -> None:
        raise AssertionError(path)

    async def hash_key(self) -> HashKey:
        raise AssertionError("no Secret is captured here")


async def follow(cluster: Cluster, wanted: Operation | None = None) -> Progress:
    return await follow_job(cluster, VIEW, wanted or operation())


# --------------------------------------------------------------------------------------------------
# The language


@pytest.mark.parametrize(
    "report", [{}, {"playwright": {}, "junit": {}}, {"tap": {}}, {"from": "Log"}]
)
def test_exactly_one_format(report: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobReport.model_validate(report)


def test_the_registry_has_every_format_of_the_language() -> None:
    assert (
        tuple(REPORTS)
        == REPORT_FORMATS
        == tuple(name for name in JobReport.model_fields if name != "from_")
    )


def test_it_survives_being_pinned_and_expanded() -> None:
    raw = {"image": "x", "report": {"junit": {}, "from": "Log"}}
    job = Job.model_validate(raw)
    pinned = job.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    assert pinned == raw
    assert (
        Job.model_validate(job.model_dump(mode="json", exclude_none=True))
        == Job.model_validate(pinned)
        == job
    )


def test_logs_may_be_read_and_nothing_else_of_a_pod() -> None:
    text = yaml.safe_load(rbac.rules_text(rbac.release_access()))
    verbs = {verb for rule in text if "pods/log" in rule["resources"] for verb in rule["verbs"]}
    assert verbs == {"get"}


# --------------------------------------------------------------------------------------------------
# A Job that completed


async def test_a_good_report_publishes_its_numbers() -> None:
    found = await follow(Cluster().pod(f"> npx playwright\n{PASSED}"))
    assert (found.state, found.message) == ("Succeeded", "Playwright report: 2 tests passed")
    assert found.outputs == {
        "passed": "2",
        "failed": "0",
        "flaky": "0",
        "skipped": "0",
        "total": "2",
    }


async def test_a_bad_report_fails_although_the_exit_code_was_0() -> None:
    found = await follow(Cluster().pod(FAILED))
    assert found.state == "Failed"
    assert found.message == f"Playwright report: {FIRST}; the exit code was 0"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "",
            (
                "is missing: there is none in the termination message or the last 1 MiB of the "
                "log of container job"
            ),
        ),
        ("all good\n", "is missing"),
        (PASSED[:700], "is missing"),
        (PASSED.replace('"stats"', '"stat"'), "is not understood: stats is not an object"),
        (f"{PASSED}{'x' * 2**20}", "is missing"),
        (
            Permanent("GET /log: 403 pods is forbidden"),
            "cannot be read: GET /log: 403 pods is forbidden",
        ),
        (NotFound("GET /log: 404 not found"), "cannot be read: GET /log: 404 not found"),
    ],
    ids=["empty", "other", "cut", "changed", "too-far-above", "forbidden", "gone"],
)
async def test_a_report_that_is_not_there_or_not_readable_fails_it(
    log: str | Exception, words: str
) -> None:
    found = await follow(Cluster().pod(log))
    assert found.state == "Failed"
    assert f"its Playwright report {words}" in found.message


async def test_from_says_the_only_place() -> None:
    cluster = Cluster().pod(PASSED, message=FAILED)
    assert (
        await follow(cluster, operation({"playwright": {}, "from": "Log"}))
    ).state == "Succeeded"
    cluster = Cluster().pod(PASSED, message="{}")
    found = await follow(cluster, operation({"playwright": {}, "from": "TerminationMessage"}))
    assert "there is none in the termination message of container job" in found.message
    assert cluster.read == []


async def test_a_termination_message_that_holds_it_spares_the_log() -> None:
    cluster = Cluster().pod("", message=PASSED)
    assert (await follow(cluster)).state == "Succeeded"
    assert cluster.read == []


async def test_a_termination_message_that_was_cut_is_no_report() -> None:
    xml = (SAMPLES / "junit-pytest-failed.xml").read_text()
    found = await follow(Cluster().pod(xml, message=xml[:400]), operation({"junit": {}}))
    assert found.message.startswith("JUnit report: 2 of 5 tests failed")
    found = await follow(Cluster().pod("", message=xml[:400]), operation({"junit": {}}))
    assert "its JUnit report is not understood: it is cut off" in found.message


async def test_outputs_of_the_container_stay_but_cannot_replace_those_of_the_report() -> None:
    said = json.dumps({"id": "b-1", "rows": 3, "failed": "none", "passed": "999"})
    found = await follow(Cluster().pod(PASSED, message=said))
    assert (found.outputs["id"], found.outputs["rows"], found.outputs["passed"]) == (
        "b-1",
        "3",
        "2",
    )


async def test_the_container_that_a_person_would_mean() -> None:
    both = [{"name": "proxy"}, {"name": "tests"}]
    cluster = Cluster().pod(
        PASSED, containers=both, metadata={"annotations": {job_pods.DEFAULT_CONTAINER: "tests"}}
    )
    assert (await follow(cluster)).state == "Succeeded"
    assert cluster.read == ["/api/v1/namespaces/shop/pods/foco-smoke-0/log?container=tests"]


async def test_all_pods_of_a_test_run_that_was_split_count() -> None:
    assert (await follow(Cluster(succeeded=2).pod(PASSED).pod(PASSED))).outputs["passed"] == "4"
    assert (await follow(Cluster(succeeded=2).pod(PASSED).pod(FAILED))).state == "Failed"
    half = await follow(Cluster(succeeded=2).pod(PASSED))
    assert half.message == "its Playwright report is missing: of 2 pods that succeeded 1 are left"
    many = Cluster(succeeded=9)
    for _ in range(9):
        many.pod(PASSED)
    assert "more than 8 pods" in (await follow(many)).message


async def test_a_pod_that_failed_before_another_succeeded_is_not_read() -> None:
    """With `retries`, the attempt that made the Job complete is the one that counts."""
    cluster = Cluster().pod(FAILED, code=1, age=60).pod(PASSED)
    assert (await follow(cluster)).state == "Succeeded"
    assert len(cluster.read) == 1


async def test_without_a_pod_there_is_no_report() -> None:
    assert (await follow(Cluster())).state == "Failed"


async def test_a_job_that_exists_already_is_judged_by_its_report_too() -> None:
    found = await create_job(Cluster().pod(FAILED), VIEW, operation())
    assert found.state == "Failed"


async def test_without_a_report_nothing_has_changed() -> None:
    cluster = Cluster().pod(FAILED, message='{"id": "b-1"}')
    wanted = operation()
    plain = Operation(wanted.key, "job", wanted.subject, Job(image="x"))
    assert await follow(cluster, plain) == Progress("Succeeded", outputs={"id": "b-1"})
    assert cluster.read == []


# --------------------------------------------------------------------------------------------------
# A Job that failed


async def test_a_failed_job_names_the_first_test_and_how_many() -> None:
    found = await follow(Cluster(complete=False).pod(FAILED, message=FAILED[-2000:], code=1))
    assert found.state == "Failed"
    assert found.message.startswith(
        f"Playwright report: {FIRST}; job foco-smoke: BackoffLimitExceeded"
    )
    assert found.message.endswith("exit code 1")


async def test_the_log_of_a_failed_job_knows_more_than_its_message() -> None:
    """The kubelet put the end of the log there: only the second report, which is good."""
    found = await follow(Cluster(complete=False).pod(f"{FAILED}\n{PASSED}", message=PASSED, code=1))
    assert found.message.startswith("Playwright report: 1 of 12 tests failed")


async def test_a_failed_job_stays_failed_whatever_its_report_says() -> None:
    found = await follow(Cluster(complete=False).pod(PASSED, code=1))
    assert found.state == "Failed"
    assert found.message.endswith(
        "exit code 1; its Playwright report is good all the same: 2 tests passed"
    )


async def test_the_exit_code_of_k6_is_explained() -> None:
    found = await follow(Cluster(complete=False).pod("", code=99), operation({"k6": {}}))
    assert "exit code 99 (thresholds were crossed); its k6 summary is missing" in found.message


async def test_the_newest_pod_tells_why() -> None:
    cluster = Cluster(complete=False).pod(FAILED, code=1).pod("nothing yet", code=1, age=60)
    assert FIRST in (await follow(cluster)).message
    assert len(cluster.read) == 1


async def test_the_output_of_tests_is_not_repeated() -> None:
    log = f"{SECRET}\n{FAILED}\n{SECRET}"
    for text in (log, SECRET):
        found = await follow(Cluster(complete=False).pod(text, message=text[-2000:], code=1))
        assert SECRET not in found.message


async def test_a_reason_given_on_purpose_is_told() -> None:
    cluster = Cluster(complete=False).pod(
        "", message='{"failed": "no\\nbrowser", "error": {"a": 1}}', code=3
    )
    assert "; no browser; its Playwright report is missing" in (await follow(cluster)).message


@pytest.mark.parametrize(
    "problem", [Retryable("GET /log: 500 no route to host"), Permanent("GET /log: 400 gone")]
)
async def test_a_failure_does_not_wait_for_a_log(problem: Exception) -> None:
    found = await follow(Cluster(complete=False).pod(problem, code=1))
    assert found.state == "Failed"
    assert str(problem) in found.message


async def test_a_failure_does_not_wait_for_a_slow_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_reports, "READ_TIMEOUT_S", 0.01)
    cluster = Cluster(complete=False).pod(FAILED, code=1)
    cluster.slow = 30
    found = await follow(cluster)
    assert (found.state, "could not be read: time-out" in found.message) == ("Failed", True)


async def test_a_job_of_somebody_else_is_not_read() -> None:
    cluster = Cluster().pod(PASSED)
    cluster.job["metadata"]["annotations"][KEY] = "another"
    found = await follow(cluster)
    assert (found.state, cluster.read) == ("Failed", [])


async def test_a_deadline_leaves_no_pod() -> None:
    found = await follow(Cluster(complete=False))
    assert found.message.endswith(
        "its Playwright report is missing: no pod is left whose container has run to its end"
    )


# --------------------------------------------------------------------------------------------------
# A log that cannot be read now


async def test_a_log_that_cannot_be_read_now_is_asked_for_again() -> None:
    cluster = Cluster().pod(Retryable("GET /log: 500 no route to host"))
    found = await follow(cluster)
    assert (found.state, found.stuck) == ("Running", True)
    assert "its report cannot be read yet" in found.message
    cluster.logs["foco-smoke-0"] = PASSED
    assert (await follow(cluster)).state == "Succeeded"


async def test_a_log_that_can_never_be_read_fails_it_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the clock of everything that is stuck: looked at again and again, then failed."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    cluster = Cluster().pod(Retryable("GET /log: 500 no route to host"))
    lens, wanted = CachedCluster(cluster), operation()
    found = await job_trouble(UncachedReader(lens), VIEW, wanted)
    assert found is not None and "cannot be read yet" in found.message and not found.hopeless
    entry = TrackedRelease.__new__(TrackedRelease)
    entry.operations = {wanted.id: OperationState(Progress("Running"), clock[0])}
    for _ in range(130):
        clock[0] += 5
        await progress._refresh_progress(lens, lens, entry, VIEW, wanted)
    reached = entry.operations[wanted.id].progress
    assert reached.state == "Failed"
    assert "GET /log: 500 no route to host" in reached.message
    assert len(cluster.read) < 60


def test_words_of_a_report_are_text() -> None:
    """JSON may write half of a surrogate pair, which no status can hold."""
    said = plain_line("high in a\ud800b")
    assert said == "high in a b" and said.encode()
