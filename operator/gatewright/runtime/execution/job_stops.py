"""Stopping a Job: it is suspended, and has stopped when no pod of it runs any more."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gatewright.api import KEY, RESULT
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.core.subject import name_of_subject
from gatewright.ports import Cluster, Conflict, NotFound, Permanent
from gatewright.runtime.cluster.children import child_metadata, is_ours
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution import job_pods
from gatewright.runtime.execution.job_state import (
    JOB_NAME_LABEL,
    is_deleted,
    is_ending,
    job_path,
    true_condition,
)
from gatewright.runtime.execution.jobs import release_job


async def stop_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Suspend a running Job: its pods end, its record stays.

    Where there is none, its name is taken by a suspended one: a request to create it that is still
    on its way must not arrive after the rollback. One that has ended, or is about to, only has to
    lose its pods. Raises Retryable, Permanent.
    """
    path = job_path(view.namespace, operation.subject)
    try:
        job = await cluster.get(path)
        # There is nothing to suspend: another's Job is not ours to stop, and one that has ended
        # starts no pod.
        if not is_ours(view, job) or true_condition(job, "Complete", "Failed"):
            return await _follow_pods_gone(cluster, view, operation, job)

        if is_deleted(job):
            # Nobody acts on a Job that is being deleted, and its pods end only when it is gone; its
            # step has failed already.
            await release_job(cluster, job)
            return Progress("Running", f"job {job['metadata']['name']} is being deleted")

        if not is_ending(job):
            await cluster.patch(path, {"spec": {"suspend": True}}, "merge")
    except NotFound:
        return await _take_name(cluster, view, operation)

    return Progress("Running")


async def _take_name(cluster: Cluster, view: View, operation: Operation) -> Progress:
    pod = {"restartPolicy": "Never", "containers": [{"name": "never-runs", "image": "none"}]}
    name = name_of_subject(operation.subject)
    spec = {"suspend": True, "template": {"spec": pod}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(view, name, operation.key),
        "spec": spec,
    }
    try:
        await cluster.create(api_path("batch/v1", "jobs", view.namespace), body)
    except Conflict:
        # It has arrived meanwhile: stop it after all.
        return Progress("Absent")
    except Permanent:
        # A Job of this name cannot be made here, by nobody's request.
        return Progress("Succeeded")

    return Progress("Running")


async def follow_stop(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Return whether nothing of a Job runs any more, nor will. Raises Retryable, Permanent."""
    try:
        job = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        gone = await _follow_pods_gone(cluster, view, operation, None)
        # Its name has to be taken: a request to create it may still be on its way.
        return Progress("Absent") if gone.state == "Succeeded" else gone

    ended = not is_ours(view, job) or true_condition(job, "Complete", "Failed") is not None
    if not ended and is_deleted(job):
        return _progress_of_deleted(job)
    # It runs: nobody has stopped it yet, or somebody lets it go on.
    if not ended and not job["spec"].get("suspend") and not is_ending(job):
        return Progress("Absent")

    gone = await _follow_pods_gone(cluster, view, operation, job)
    # Its controller may be about to make one more.
    is_settled = ended or (_is_idle(job) and not is_ending(job))
    if gone.state == "Succeeded" and not is_settled:
        message = f"job {job['metadata']['name']} has no pod; its controller has not said so yet"
        return Progress("Running", message)

    return gone


async def _follow_pods_gone(
    cluster: Cluster, view: View, operation: Operation, job: Mapping[str, Any] | None
) -> Progress:
    """Return whether no pod of an operation runs any more, whichever Job of its name made it."""
    name = name_of_subject(operation.subject)

    # The name is another's now, and so are most pods of that name.
    others = job is not None and not is_ours(view, job)

    def runs(pod: dict[str, Any]) -> dict[str, Any] | None:
        foreign = others and (pod["metadata"].get("annotations") or {}).get(KEY) != operation.key
        return None if foreign or not job_pods.active_pods([pod]) else job_pods.kept_part(pod)

    path = api_path("v1", "pods", view.namespace)
    left = await cluster.list(path, f"{JOB_NAME_LABEL}={name}", keep=runs)
    now = datetime.now(UTC)
    trouble = job_pods.find_ending_trouble(left, now)
    if trouble is None:
        return Progress("Succeeded")

    message = f"job {name} is stopped, but {trouble.message}"
    return Progress("Running", message, stuck=job_pods.is_late(left, now))


def _progress_of_deleted(job: Mapping[str, Any]) -> Progress:
    """Return how far a Job is that is being deleted.

    We let it go; nobody can go on before others have done so too.
    """
    name, finalizers = job["metadata"]["name"], job["metadata"].get("finalizers") or []
    # Our own finalizer keeps it: to begin the stop takes that away.
    if RESULT in finalizers:
        return Progress("Absent", f"job {name} is being deleted")

    message = f"job {name} is being deleted"
    if finalizers:
        message += f", and waits for its finalizers {', '.join(map(str, finalizers))[:200]}"
    return Progress("Running", message)


def _is_idle(job: Mapping[str, Any]) -> bool:
    """Return whether the controller of a suspended Job has seen that, and says that nothing runs.

    Or the Job never ran at all.
    """
    # It was made suspended.
    if job["metadata"].get("generation") == 1:
        return True

    status = job.get("status", {})
    has_pods = status.get("active") or status.get("terminating")
    return not has_pods and true_condition(job, "Suspended") is not None
