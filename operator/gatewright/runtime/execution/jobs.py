"""The Jobs of a Release: created once, followed, and let go when their run has ended.

A Job carries a finalizer while its run is under way: one that vanished unread would look like one
that was never made, and would be made a second time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any

from gatewright.api import RELEASE, RESULT
from gatewright.api.jobs import Job
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.core.subject import name_of_subject
from gatewright.ports import Cluster, Conflict, NotFound, Permanent, Retryable, Trouble
from gatewright.runtime.cluster.children import child_metadata, is_ours
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.wire import METADATA_ONLY
from gatewright.runtime.execution import job_endings, job_events, job_pods, job_reports
from gatewright.runtime.execution.job_pods import Pod
from gatewright.runtime.execution.job_spec import job_spec
from gatewright.runtime.execution.job_state import (
    JOB_NAME_LABEL,
    explain_failure,
    explain_foreign_job,
    is_deleted,
    is_hung,
    is_nearly_over,
    is_over,
    is_quiet,
    job_path,
    true_condition,
)

JOB_METADATA = ("name", "namespace", "finalizers")
"""What is kept of a Job that is to be let go."""
NO_POD_LEFT_MESSAGE = "no pod of it is left, and the end of its log is gone with it"


async def create_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Create the Job of an operation, or adopt the one that an earlier try has made.

    Raises Retryable, Permanent.
    """
    job: Job = operation.config
    name = name_of_subject(operation.subject)
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(view, name, operation.key) | {"finalizers": [RESULT]},
        "spec": await job_spec(cluster, view, job, operation.key),
    }
    try:
        made = await cluster.create(api_path("batch/v1", "jobs", view.namespace), body)
    except Conflict:
        return await follow_job(cluster, view, operation)

    stranger = explain_foreign_job(view, operation, made)
    return Progress("Failed", stranger) if stranger else Progress("Running")


async def release_jobs(cluster: Cluster, view: View) -> None:
    """Let go of the Jobs of a run that has ended: whoever deletes one now loses nothing.

    Raises Retryable, Permanent.
    """

    def held(job: dict[str, Any]) -> dict[str, Any] | None:
        meta = job["metadata"]
        if not is_ours(view, job) or RESULT not in meta.get("finalizers", []):
            return None
        return {"metadata": {name: meta[name] for name in JOB_METADATA if name in meta}}

    path = api_path("batch/v1", "jobs", view.namespace)
    for job in await cluster.list(path, f"{RELEASE}={view.name[:63]}", keep=held):
        await release_job(cluster, job)


async def release_orphans(kube: Kube, namespace: str, uids: Container[str]) -> None:
    """Let go of Jobs whose Release is gone, however that came about.

    Raises Retryable, Permanent.
    """
    path = api_path("batch/v1", "jobs", namespace)
    async for job in kube.each(path, RELEASE, accept=METADATA_ONLY):
        owners = job["metadata"].get("ownerReferences", [])
        if not any(owner.get("uid") in uids for owner in owners):
            await release_job(kube, job)


async def release_job(cluster: Cluster, job: Mapping[str, Any]) -> None:
    meta = job["metadata"]
    finalizers = meta.get("finalizers", [])
    if RESULT not in finalizers:
        return

    body = {"metadata": {"finalizers": [name for name in finalizers if name != RESULT]}}
    path = api_path("batch/v1", "jobs", meta["namespace"], meta["name"])

    with contextlib.suppress(NotFound):
        await cluster.patch(path, body, "merge")


async def follow_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Return how far a Job is; it has ended only when all its pods have.

    Raises Retryable, Permanent.

    One that has failed, or will (its pods were told to end), or was deleted, is hopeless as long as
    a pod of it may run.
    """
    try:
        job = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        return Progress("Absent")
    return await _progress_of_job(cluster, view, operation, job)


async def _progress_of_job(
    cluster: Cluster, view: View, operation: Operation, job: dict[str, Any]
) -> Progress:
    stranger = explain_foreign_job(view, operation, job)
    if stranger:
        return Progress("Failed", stranger)
    if not is_over(job):
        return Progress("Running")

    pods = await _list_pods(cluster, job)

    if true_condition(job, "Complete"):
        return await _progress_of_completed(cluster, operation, job, pods)

    return await _progress_of_failed(cluster, operation, job, pods)


async def judge_vanished(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Say what became of a Job that was followed and is not seen any more. Raises Retryable,
    Permanent.

    `cluster` asks the API server. A Job that is there has lost the label by which it is followed:
    it gets that again, or nobody would ever let it go.
    """
    path = job_path(view.namespace, operation.subject)
    try:
        job = await cluster.get(path)
    except NotFound:
        name = name_of_subject(operation.subject)
        return Progress("Failed", f"the Job {name} was deleted before its result was read")

    if is_ours(view, job) and RELEASE not in (job["metadata"].get("labels") or {}):
        labels = {"metadata": {"labels": {RELEASE: view.name[:63]}}}
        with contextlib.suppress(NotFound):
            await cluster.patch(path, labels, "merge")
    return await _progress_of_job(cluster, view, operation, job)


async def _progress_of_completed(
    cluster: Cluster, operation: Operation, job: Mapping[str, Any], pods: list[Pod]
) -> Progress:
    now = datetime.now(UTC)
    left = job_pods.find_ending_trouble(pods, now)
    if left is not None:
        message = f"job {job['metadata']['name']} is complete, but {left.message}"
        return Progress("Running", message, stuck=job_pods.is_late(pods, now))

    quiet = is_quiet(operation)

    report = operation.config.report if isinstance(operation.config, Job) else None
    if report is None:
        succeeded = Progress("Succeeded")
        return await job_endings.progress_of_end(cluster, job, pods, succeeded, quiet)

    try:
        return await job_reports.progress_of_completed(cluster, report, job, pods, quiet)
    except Retryable as error:
        return Progress("Running", f"its report cannot be read yet: {error}", stuck=True)


async def _progress_of_failed(
    cluster: Cluster, operation: Operation, job: Mapping[str, Any], all_pods: list[Pod]
) -> Progress:
    reason, hung, quiet = explain_failure(operation, job), is_hung(job), is_quiet(operation)
    pods = [job_pods.silence_pod(pod) for pod in all_pods] if quiet else all_pods

    left = job_pods.find_ending_trouble(pods, datetime.now(UTC))
    if left is not None:
        # The log of a pod goes with the pod: now is the time to read it.
        words = await _read_log_now(cluster, job, pods, hung)
        message = "; ".join(filter(None, (reason, left.message, words)))
        return Progress("Running", message, stuck=True, hopeless=True)

    # One that hung is not told by a pod that failed before the one that hung.
    if hung:
        all_pods, pods = _only_deleted(all_pods), _only_deleted(pods)

    last = job_pods.newest_failed_pod(pods)
    if hung or last is None:
        words = await job_endings.describe_hung_job(cluster, job, last, quiet)
        words = words or await _explain_refusal(cluster, job)
        reason = f"{reason}; {words or NO_POD_LEFT_MESSAGE}"

    report = operation.config.report if isinstance(operation.config, Job) else None
    if report is not None and not is_deleted(job):
        return await job_reports.progress_of_failed(cluster, report, reason, all_pods, quiet)

    failed = Progress("Failed", reason)
    return failed if hung else await job_endings.progress_of_end(cluster, job, pods, failed)


async def _read_log_now(
    cluster: Cluster, job: Mapping[str, Any], pods: list[Pod], hung: bool
) -> str:
    """Return what the pods of a Job that has failed say, while some of them still end."""
    broken = None if hung else job_pods.newest_failed_pod(pods)
    if broken:
        return await job_endings.describe_failed_pod(cluster, broken)
    return await job_endings.read_newest_log(cluster, job, pods)


def _only_deleted(pods: list[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]


async def _explain_refusal(cluster: Cluster, job: Mapping[str, Any]) -> str:
    """Return why a Job got no pod, as far as Events still tell."""
    # A failure is never held up by them.
    with contextlib.suppress(Retryable, Permanent):
        refused = await job_events.find_refusal(cluster, job)
        return refused.message if refused is not None else ""
    return ""


async def job_trouble(cluster: Cluster, view: View, operation: Operation) -> Trouble | None:
    """Return why the pods of a Job do not start or do not end, or its report cannot be read.

    Raises Retryable, Permanent.
    """
    try:
        job = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        return None

    # Of another's Job nothing is said here: following it says that it is in the way.
    if explain_foreign_job(view, operation, job):
        return None

    # What keeps it is then its pods that end, or its report.
    if is_over(job):
        progress = await follow_job(cluster, view, operation)
        return Trouble(progress.message, progress.hopeless) if progress.stuck else None

    name, uid = job["metadata"]["name"], str(job["metadata"].get("uid"))

    if job["spec"].get("suspend"):
        return _trouble_of_suspended(view.namespace, name)

    pods = await _list_pods(cluster, job)
    if is_quiet(operation):
        pods = [job_pods.silence_pod(pod) for pod in pods]

    trouble = job_pods.find_hindrance(pods, datetime.now(UTC))
    if trouble is None:
        trouble = await job_events.find_hindrance(cluster, job, pods)

    if trouble is not None:
        job_endings.LAST_WORDS.keep(job, f"{job_endings.HELD_PREFIX}{trouble.message}")
        return trouble

    job_endings.LAST_WORDS.forget_trouble(uid)

    # Kubernetes takes the pods away when its time is over: what they have said is read before.
    if is_nearly_over(job, datetime.now(UTC)):
        await job_endings.read_newest_log(cluster, job, pods)

    return None


def _trouble_of_suspended(namespace: str, name: str) -> Trouble:
    resume = (
        f"kubectl patch job {name} --namespace {namespace} --patch "
        f'\'{{"spec":{{"suspend":false}}}}\''
    )
    return Trouble(
        f"job {name} is suspended, so it has no pod; whoever suspended it lets it go on, or: "
        f"{resume}"
    )


async def _list_pods(cluster: Cluster, job: Mapping[str, Any]) -> list[Pod]:
    meta = job["metadata"]

    def own_part(pod: dict[str, Any]) -> dict[str, Any] | None:
        return job_pods.kept_part(pod) if job_pods.is_of(job, pod) else None

    path = api_path("v1", "pods", meta["namespace"])
    return list(await cluster.list(path, f"{JOB_NAME_LABEL}={meta['name']}", keep=own_part))
