"""Why a Job without a report failed: its own words, or the masked end of its log."""

from __future__ import annotations

import json

import pytest

from gatewright.api.jobs import Job
from gatewright.core import masking
from gatewright.core.model import Operation, Progress
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.runtime import reports
from tests.unit.test_reports import SECRET, Cluster, follow

LOG = f"connecting to postgres://app:{SECRET}@db/shop\napplying 0042\nrelation users exists\n"
END = "its log ends: connecting to postgres://db/shop / applying 0042 / relation users exists"


async def ended(cluster: Cluster) -> Progress:
    wanted = Operation("1.smoke.test.1-abc", "job", "job/foco-smoke", Job.model_validate({"image": "shop/smoke:1"}))
    return await follow(cluster, wanted)


@pytest.mark.parametrize(
    "log, message, words, read",
    [
        (LOG, "", END, True),
        ("", LOG, END, False),  # the kubelet has put the end of the log into the message
        (LOG, "disk full", "exit code 1; disk full", False),
        (LOG, f"disk full, password={SECRET}", "exit code 1; disk full, password=***", False),
        (LOG, json.dumps({"failed": "migrate", "error": "0042 is not there"}), "; migrate: 0042 is not there", False),
        (LOG, json.dumps({"reason": f"token={SECRET} expired"}), "; token=*** expired", False),
        (LOG, json.dumps({"id": "b-1"}), '; {"id": "b-1"}', False),
        ("", "", "exit code 1", True),
        (NotFound("no such pod"), "", "exit code 1", True),
        (Permanent("forbidden"), "", "exit code 1", True),
        (Retryable("no answer"), "", "exit code 1", True),
    ],
)
async def test_why_it_failed(log: str | Exception, message: str, words: str, read: bool) -> None:
    cluster = Cluster(complete=False).pod(log, message, code=1)
    found = await ended(cluster)
    assert (found.state, found.message.endswith(words)) == ("Failed", True), found.message
    assert "BackoffLimitExceeded" in found.message and SECRET not in found.message
    assert bool(cluster.read) == read
    assert all("container=job&tailLines=20" in path for path in cluster.read)


async def test_the_end_of_a_long_log_is_what_is_told() -> None:
    found = await ended(Cluster(complete=False).pod("\n".join(f"line {n}" for n in range(9000)), code=1))
    assert found.message.endswith("line 8998 / line 8999")
    assert len(found.message) < masking.LONGEST + 150


async def test_the_newest_pod_that_failed_is_asked() -> None:
    cluster = Cluster(complete=False).pod("old\nold", code=1, age=60).pod("new\nnew", code=1)
    assert (await ended(cluster)).message.endswith("its log ends: new / new")


async def test_a_log_that_hangs_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "BRIEF", 0.05)
    cluster = Cluster(complete=False).pod("late\nlate", code=1)
    cluster.slow = 30.0
    assert (await ended(cluster)).message.endswith("exit code 1")
