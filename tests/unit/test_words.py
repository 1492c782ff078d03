"""Why a Job without a report failed: its own words, or the masked end of its log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatewright.api.jobs import Job
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.text import masking
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.runtime.execution import job_endings, job_reports
from gatewright.runtime.execution.jobs import job_trouble
from tests.unit.test_reports import FAILED, PASSED, SECRET, VIEW, Cluster, follow

LOG = f"connecting to postgres://app:{SECRET}@db/shop\napplying 0042\nrelation users exists\n"
END = "its log ends: connecting to postgres://db/shop / applying 0042 / relation users exists"


def wanted(**job: Any) -> Operation:
    return Operation(
        "1.smoke.test.1-abc",
        "job",
        "job/foco-smoke",
        Job.model_validate({"image": "shop/smoke:1", **job}),
    )


async def ended(cluster: Cluster, **job: Any) -> Progress:
    return await follow(cluster, wanted(**job))


@pytest.mark.parametrize(
    "log, message, told, read",
    [
        (LOG, "", END, True),
        ("", LOG, END, False),  # the kubelet has put the end of the log into the message
        (LOG, "disk full", "exit code 1; disk full", False),
        (LOG, f"disk full, password={SECRET}", "exit code 1; disk full, password=***", False),
        (
            LOG,
            json.dumps({"failed": "migrate", "error": "0042 is not there"}),
            "; migrate: 0042 is not there",
            False,
        ),
        (LOG, json.dumps({"reason": f"token={SECRET} expired"}), "; token=*** expired", False),
        (LOG, json.dumps({"id": "b-1"}), '; {"id": "b-1"}', False),
        ("", "", "exit code 1", True),
        (NotFound("no such pod"), "", "exit code 1", True),
        (Permanent("forbidden"), "", "exit code 1", True),
        (Retryable("no answer"), "", "exit code 1", True),
    ],
)
async def test_why_it_failed(log: str | Exception, message: str, told: str, read: bool) -> None:
    cluster = Cluster(complete=False).pod(log, message, code=1)
    found = await ended(cluster)
    assert (found.state, found.message.endswith(told)) == ("Failed", True), found.message
    assert "BackoffLimitExceeded" in found.message and SECRET not in found.message
    assert bool(cluster.read) == read
    assert all("container=job&tailLines=20" in path for path in cluster.read)


async def test_the_end_of_a_long_log_is_what_is_told() -> None:
    found = await ended(
        Cluster(complete=False).pod("\n".join(f"line {n}" for n in range(9000)), code=1)
    )
    assert found.message.endswith("line 8998 / line 8999")
    assert len(found.message) < masking.MOST_LOG_CHARS + 150


async def test_the_newest_pod_that_failed_is_asked() -> None:
    cluster = Cluster(complete=False).pod("old\nold", code=1, age=60).pod("new\nnew", code=1)
    assert (await ended(cluster)).message.endswith("its log ends: new / new")


async def test_a_log_that_hangs_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_reports, "READ_TIMEOUT_S", 0.05)
    cluster = Cluster(complete=False).pod("late\nlate", code=1)
    cluster.slow = 30.0
    assert (await ended(cluster)).message.endswith("exit code 1")


# --------------------------------------------------------------------------------------------------
# logs: Never

SHOWN = "canary-said"
"""Stands in everything that the container says."""
REPORTED = FAILED.replace("login", SHOWN)


def telling(complete: bool, message: str, log: str = f"{SHOWN}\n{SHOWN}", code: int = 1) -> Cluster:
    cluster = Cluster(complete).pod(log, message, code)
    [status] = cluster.pods[0]["status"]["containerStatuses"]
    status["lastState"] = {"terminated": {"exitCode": 1, "message": SHOWN}}
    return cluster


def hung(cluster: Cluster) -> Cluster:
    cluster.job["status"]["conditions"] = [
        {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    ]
    cluster.pods[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return cluster


def running(cluster: Cluster) -> Cluster:
    cluster.job["status"]["conditions"] = []
    cluster.job["status"]["startTime"] = "2026-01-01T00:00:00Z"
    cluster.pods[0]["status"]["phase"] = "Running"
    return cluster


@pytest.mark.parametrize(
    "message", ["", SHOWN, json.dumps({"error": SHOWN}), json.dumps({SHOWN: SHOWN * 200})]
)
@pytest.mark.parametrize("state", ["failed", "hung", "ending", "complete"])
async def test_of_a_job_that_is_not_to_be_repeated_nothing_is(state: str, message: str) -> None:
    cluster = telling(state == "complete", message, code=0 if state == "complete" else 1)
    if state == "hung":
        hung(cluster)
    if state == "ending":
        cluster.job["status"]["conditions"] = [
            {"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy"}
        ]
        cluster.pod(SHOWN).pods[-1]["status"] = {"phase": "Running"}
    found = await ended(cluster, logs="Never")
    assert SHOWN not in f"{found.message}{found.unread}"
    assert cluster.read == []
    assert ("(logs: Never)" in found.message) == (state != "complete" or len(message) > 2000)


async def test_nor_what_one_that_runs_says_now() -> None:
    cluster = running(telling(False, SHOWN))
    for _ in range(2):
        trouble = await job_trouble(cluster, VIEW, wanted(logs="Never"))
        assert trouble is None or SHOWN not in trouble.message
    assert cluster.read == []
    assert job_endings.LAST_WORDS.said(cluster.job["metadata"]["uid"]) == job_endings.SILENT_MESSAGE


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("text", [REPORTED, PASSED.replace("login", SHOWN)])
async def test_of_its_report_the_numbers_are_told(complete: bool, text: str) -> None:
    cluster = telling(
        complete,
        "" if complete else json.dumps({"error": SHOWN}),
        log=text,
        code=0 if complete else 1,
    )
    found = await ended(cluster, logs="Never", report={"playwright": {}, "from": "Log"})
    assert SHOWN not in found.message and "passed" in found.message, found.message
    assert "(logs: Never)" in found.message


async def test_what_it_publishes_is_still_read() -> None:
    found = await ended(telling(True, json.dumps({"id": "b-1"}), code=0), logs="Never")
    assert found.outputs == {"id": "b-1"}


async def test_a_report_s_words_and_a_given_reason_are_masked() -> None:
    cluster = Cluster(complete=False).pod(
        FAILED.replace("login.spec.ts", f"token={SECRET}"),
        json.dumps({"error": f"password={SECRET}"}),
        1,
    )
    found = await ended(cluster, report={"playwright": {}, "from": "Log"})
    assert SECRET not in found.message and found.message.count("***") == 2, found.message
