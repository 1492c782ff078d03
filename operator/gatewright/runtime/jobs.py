"""The Jobs of a Release: created once, followed, stopped, and let go when their run has ended.

A Job carries a finalizer while its run is under way: one that vanished unread would look like one that was never made, and
would be made a second time.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Container, Mapping
from typing import Any

from gatewright.api import KEY, RELEASE, RESULT
from gatewright.api.base import seconds
from gatewright.api.jobs import Job
from gatewright.core.model import Operation, Progress, View
from gatewright.ports import Cluster, Conflict, NotFound, Permanent, Retryable
from gatewright.providers.targets import pods
from gatewright.runtime import reports, words
from gatewright.runtime.children import meta, ours
from gatewright.runtime.kube import path

KEPT = 7 * 24 * 3600
"""Seconds for which a finished Job stays, for those who want to read its log."""
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def job_path(namespace: str, subject: str) -> str:
    """API path of the Job of a subject `job/NAME`."""
    return path("batch/v1", "jobs", namespace, subject.partition("/")[2])


async def create_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Create the Job of an operation, or adopt the one that an earlier try has made. Raises Retryable, Permanent."""
    job: Job = operation.config
    name = operation.subject.partition("/")[2]
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(view, name, operation.key) | {"finalizers": [RESULT]},
        "spec": await _job_spec(cluster, view, job, operation.key),
    }
    try:
        made = await cluster.create(path("batch/v1", "jobs", view.namespace), body)
    except Conflict:
        return await follow_job(cluster, view, operation)
    return _job_state(view, operation, made) or Progress("Running")


async def release_jobs(cluster: Cluster, view: View) -> None:
    """Let go of the Jobs of a run that has ended: whoever deletes one now loses nothing. Raises Retryable, Permanent."""
    for found in await cluster.list(path("batch/v1", "jobs", view.namespace), f"{RELEASE}={view.name[:63]}"):
        if ours(view, found):
            await _let_go(cluster, found)


async def release_orphans(cluster: Cluster, namespace: str, uids: Container[str]) -> None:
    """Let go of Jobs whose Release is gone, however that came about. Raises Retryable, Permanent."""
    for found in await cluster.list(path("batch/v1", "jobs", namespace), RELEASE):
        if not any(owner.get("uid") in uids for owner in found["metadata"].get("ownerReferences", [])):
            await _let_go(cluster, found)


async def _let_go(cluster: Cluster, found: Mapping[str, Any]) -> None:
    meta = found["metadata"]
    finalizers = meta.get("finalizers", [])
    if RESULT in finalizers:
        body = {"metadata": {"finalizers": [item for item in finalizers if item != RESULT]}}
        with contextlib.suppress(NotFound):
            await cluster.patch(path("batch/v1", "jobs", meta["namespace"], meta["name"]), body, "merge")


async def follow_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """How far a Job is. Raises Retryable, Permanent."""
    try:
        found = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        return Progress("Absent")
    state = _job_state(view, operation, found)
    if state is None:
        return Progress("Running")
    if state.state in ("Succeeded", "Failed"):
        return await _ended(cluster, view, operation, found, state)
    return state


async def stop_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Suspend a running Job: its pods end, its record stays.

    Where there is none, its name is taken by a suspended one: a request to create it that is still on its way must not
    arrive after the rollback.
    """
    try:
        found = await cluster.get(job_path(view.namespace, operation.subject))
        if not ours(view, found) or _condition(found) is not None:
            return Progress("Succeeded")
        if found["metadata"].get("deletionTimestamp"):
            # Nobody acts on a Job that is being deleted, and its pods end only when it is gone; its step has failed already.
            await _let_go(cluster, found)
            return Progress("Running", "its pods are still ending")
        await cluster.patch(job_path(view.namespace, operation.subject), {"spec": {"suspend": True}}, "merge")
    except NotFound:
        return await _take_name(cluster, view, operation)
    return Progress("Running")


async def _take_name(cluster: Cluster, view: View, operation: Operation) -> Progress:
    pod = {"restartPolicy": "Never", "containers": [{"name": "never-runs", "image": "none"}]}
    name = operation.subject.partition("/")[2]
    spec = {"suspend": True, "template": {"spec": pod}}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta(view, name, operation.key), "spec": spec}
    try:
        await cluster.create(path("batch/v1", "jobs", view.namespace), body)
    except Conflict:
        return Progress("Absent")  # it has arrived meanwhile: stop it after all
    except Permanent:
        return Progress("Succeeded")  # a Job of this name cannot be made here, by nobody's request
    return Progress("Running")


async def follow_stop(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Whether the pods of a suspended Job are gone."""
    try:
        found = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        if not await _pods_ended(cluster, view, operation):
            return Progress("Running", "its pods are still ending")
        return Progress("Absent")  # its name has to be taken: a request to create it may still be on its way
    if not ours(view, found) or _condition(found) is not None:
        return Progress("Succeeded")
    if found["metadata"].get("deletionTimestamp"):
        return Progress(
            "Absent" if RESULT in found["metadata"].get("finalizers", []) else "Running", "it is being deleted"
        )
    if not found["spec"].get("suspend"):
        return Progress("Absent")
    status = found.get("status", {})
    idle = not status.get("active") and not status.get("terminating")
    suspended = any(item["type"] == "Suspended" and item["status"] == "True" for item in status.get("conditions", []))
    if not idle or not (suspended or not status) or not await _pods_ended(cluster, view, operation):
        return Progress("Running", "its pods are still ending")
    return Progress("Succeeded")


async def _pods_ended(cluster: Cluster, view: View, operation: Operation) -> bool:
    """Whether no pod of a Job's name runs any more, whichever Job of that name made it."""
    left = await _pods(cluster, view, operation)
    return all(pod.get("status", {}).get("phase") in ("Succeeded", "Failed") for pod in left)


async def job_trouble(cluster: Cluster, view: View, operation: Operation) -> str | None:
    """Why the pods of a Job do not start, if they do not, or its report cannot be read. Raises Retryable, Permanent."""
    found = pods.trouble(await _pods(cluster, view, operation))
    if found is None and isinstance(operation.config, Job) and operation.config.report:
        progress = await follow_job(cluster, view, operation)
        return progress.message if progress.stuck else None
    return found


async def _pods(cluster: Cluster, view: View, operation: Operation) -> list[dict[str, Any]]:
    name = operation.subject.partition("/")[2]
    return await cluster.list(path("v1", "pods", view.namespace), f"batch.kubernetes.io/job-name={name}")


def _job_state(view: View, operation: Operation, found: Mapping[str, Any]) -> Progress | None:
    name = found["metadata"]["name"]
    if not ours(view, found):
        return Progress("Failed", f"a Job {name} of another owner is in the way; delete or rename it")
    if found["metadata"].get("annotations", {}).get(KEY) != operation.key:
        return Progress("Failed", f"the Job {name} belongs to another operation; delete it")
    condition = _condition(found)
    if condition is None and found["metadata"].get("deletionTimestamp"):
        return Progress("Failed", f"the Job {name} was deleted before its result was read")
    if condition is None:
        return None
    if condition["type"] == "Complete":
        return Progress("Succeeded")
    return Progress(
        "Failed", f"job {name}: {condition.get('reason', 'Failed')}: {condition.get('message', '')}".rstrip(": ")
    )


def _condition(found: Mapping[str, Any]) -> dict[str, Any] | None:
    conditions = found.get("status", {}).get("conditions", [])
    return next(
        (item for item in conditions if item["type"] in ("Complete", "Failed") and item["status"] == "True"), None
    )


async def _ended(
    cluster: Cluster, view: View, operation: Operation, job: Mapping[str, Any], state: Progress
) -> Progress:
    """The end of a Job that is ours, with what its report or its termination message says."""
    found = await _pods(cluster, view, operation)
    report = operation.config.report if isinstance(operation.config, Job) else None
    marked = job["metadata"].get("annotations", {}).get(KEY) == operation.key
    if report is None or _condition(job) is None or not (marked and ours(view, job)):
        return await words.of_end(cluster, view.namespace, found, state)
    if state.state == "Failed":
        return await reports.failed(cluster, view.namespace, report, state.message, found)
    try:
        return await reports.completed(cluster, view.namespace, report, job, found)
    except Retryable as error:
        return Progress("Running", f"its report cannot be read yet: {error}", stuck=True)


async def _job_spec(cluster: Cluster, view: View, job: Job, key: str) -> dict[str, Any]:
    if job.fromCronJob:
        try:
            cron = await cluster.get(path("batch/v1", "cronjobs", view.namespace, job.fromCronJob))
        except NotFound:
            raise Permanent(f'there is no CronJob "{job.fromCronJob}" in namespace {view.namespace}') from None
        spec: dict[str, Any] = copy.deepcopy(cron["spec"]["jobTemplate"]["spec"])
    else:
        spec = {"template": copy.deepcopy(job.template) if job.template else {"spec": _pod(job)}}
    template = spec.setdefault("template", {})
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels[RELEASE] = view.name[:63]
    template["metadata"].setdefault("annotations", {})[KEY] = key
    template.setdefault("spec", {}).setdefault("restartPolicy", "Never")
    spec["backoffLimit"] = job.retries
    spec["activeDeadlineSeconds"] = max(1, int(seconds(job.timeout)))
    spec["podReplacementPolicy"] = "Failed"
    spec["ttlSecondsAfterFinished"] = KEPT  # counts, but the finalizer stands until the run has ended
    return spec


def _pod(job: Job) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "job",
        "image": job.image,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": HARDENED,
    }
    for name in ("command", "args"):
        if getattr(job, name):
            container[name] = list(getattr(job, name))
    if job.env:
        container["env"] = [item.model_dump(exclude_none=True) for item in job.env]
    if job.envFrom:
        container["envFrom"] = [item.model_dump(exclude_none=True) for item in job.envFrom]
    if job.resources:
        container["resources"] = job.resources
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if job.serviceAccountName:
        pod["serviceAccountName"] = job.serviceAccountName
    else:
        pod["automountServiceAccountToken"] = False
    return pod
