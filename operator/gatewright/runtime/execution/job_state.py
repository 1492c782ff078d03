"""What a Job says of itself: whose it is, whether it is over, and why it has failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gatewright.api import KEY
from gatewright.api.jobs import Job
from gatewright.core.model.operation import Operation
from gatewright.core.model.view import View
from gatewright.core.run.clocks import parse_time
from gatewright.core.subject import name_of_subject
from gatewright.runtime.cluster.children import is_ours
from gatewright.runtime.cluster.paths import api_path

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
"""Label of the pods of a Job."""
MAX_CLOCK_SKEW = timedelta(seconds=60)
"""How far the clocks of the operator and of the API server may be apart."""
NEARLY_OVER_S = 35.0
"""Seconds before its time is over from which on a Job is listened to; a look at what does not end
comes once in 30 s."""


def job_path(namespace: str, subject: str) -> str:
    """Return the API path of the Job of a subject `job/NAME`."""
    return api_path("batch/v1", "jobs", namespace, name_of_subject(subject))


def explain_foreign_job(view: View, operation: Operation, job: Mapping[str, Any]) -> str:
    """Return why a Job of the wanted name is not that of the operation; empty where it is."""
    name = job["metadata"]["name"]

    if not is_ours(view, job):
        return f"a Job {name} of another owner is in the way; delete or rename it"
    if (job["metadata"].get("annotations") or {}).get(KEY) != operation.key:
        return f"the Job {name} belongs to another operation; delete it"

    made = job["metadata"].get("creationTimestamp")
    if made and operation.since and parse_time(made) < parse_time(operation.since) - MAX_CLOCK_SKEW:
        return (
            f"the Job {name} is older than the step that would run it: somebody else has made "
            "it; delete it"
        )

    return ""


def explain_failure(operation: Operation, job: Mapping[str, Any]) -> str:
    """Return why a Job has failed, or will."""
    name, condition = job["metadata"]["name"], true_condition(job, "Failed", "FailureTarget")
    if condition is None:
        return f"the Job {name} was deleted before its result was read"

    reason = condition.get("reason", "Failed")

    if not is_hung(job):
        return f"job {name}: {reason}: {condition.get('message', '')}".rstrip(": ")

    remedy = "look for what it waits for, or give it a longer timeout"
    return f"job {name} did not end within {_limit_of(operation, job)} ({reason}); {remedy}"


def _limit_of(operation: Operation, job: Mapping[str, Any]) -> str:
    """Return the time that a Job has, as its author wrote it where that is known."""
    if isinstance(operation.config, Job):
        return str(operation.config.timeout)
    return f"{job['spec']['activeDeadlineSeconds']}s"


def true_condition(job: Mapping[str, Any], *kinds: str) -> dict[str, Any] | None:
    """Return the first condition of these kinds that is true."""
    conditions: list[dict[str, Any]] = job.get("status", {}).get("conditions") or []
    for kind in kinds:
        for condition in conditions:
            if condition["type"] == kind and condition["status"] == "True":
                return condition
    return None


def is_quiet(operation: Operation) -> bool:
    """Return whether nothing that the Job says may be repeated."""
    return isinstance(operation.config, Job) and operation.config.is_quiet


def is_over(job: Mapping[str, Any]) -> bool:
    """Return whether it is decided how a Job ends, though its pods may still run."""
    return is_deleted(job) or true_condition(job, "Complete", "Failed", "FailureTarget") is not None


def is_ending(job: Mapping[str, Any]) -> bool:
    """Return whether Kubernetes is about to end a Job by itself, and makes no more pods for it."""
    return true_condition(job, "FailureTarget", "SuccessCriteriaMet") is not None


def is_hung(job: Mapping[str, Any]) -> bool:
    """Return whether a Job's time ran out."""
    condition = true_condition(job, "Failed", "FailureTarget")
    return condition is not None and condition.get("reason") == "DeadlineExceeded"


def is_deleted(job: Mapping[str, Any]) -> bool:
    return bool(job["metadata"].get("deletionTimestamp"))


def is_nearly_over(job: Mapping[str, Any], now: datetime) -> bool:
    since = job.get("status", {}).get("startTime")
    limit = job["spec"].get("activeDeadlineSeconds")
    if not since or not limit:
        return False
    return now > datetime.fromisoformat(since) + timedelta(seconds=limit - NEARLY_OVER_S)
