"""The Jobs of a Release: created once, followed, stopped, and let go when their run has ended.

A Job carries a finalizer while its run is under way: one that vanished unread would look like one
that was never made, and would be made a second time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gatewright.api import KEY, RELEASE, RESULT
from gatewright.api.jobs import Job
from gatewright.core.model import Operation, Progress, View
from gatewright.core.run.clocks import parse_time
from gatewright.ports import Cluster, Conflict, NotFound, Permanent, Retryable, Trouble
from gatewright.runtime.cluster.children import child_metadata, is_ours
from gatewright.runtime.cluster.kube import Kube, api_path
from gatewright.runtime.cluster.wire import METADATA_ONLY
from gatewright.runtime.execution import job_endings, job_events, job_pods, job_reports
from gatewright.runtime.execution.job_pods import Pod
from gatewright.runtime.execution.job_spec import job_spec

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
"""Label of the pods of a Job."""
MAX_CLOCK_SKEW = timedelta(seconds=60)
"""How far the clocks of the operator and of the API server may be apart."""
NEARLY_OVER_S = 35.0
"""Seconds before its time is over from which on a Job is listened to; a look at what does not end
comes once in 30 s."""


def job_path(namespace: str, subject: str) -> str:
    """API path of the Job of a subject `job/NAME`."""
    return api_path("batch/v1", "jobs", namespace, subject.partition("/")[2])


async def create_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Create the Job of an operation, or adopt the one that an earlier try has made.

    Raises Retryable, Permanent.
    """
    job: Job = operation.config
    name = operation.subject.partition("/")[2]
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

    stranger = _explain_foreign_job(view, operation, made)
    return Progress("Failed", stranger) if stranger else Progress("Running")


async def release_jobs(cluster: Cluster, view: View) -> None:
    """Let go of the Jobs of a run that has ended: whoever deletes one now loses nothing.

    Raises Retryable, Permanent.
    """

    def held(job: dict[str, Any]) -> dict[str, Any] | None:
        meta = job["metadata"]
        names = {name: meta[name] for name in ("name", "namespace", "finalizers") if name in meta}
        return (
            {"metadata": names}
            if is_ours(view, job) and RESULT in meta.get("finalizers", [])
            else None
        )

    for found in await cluster.list(
        api_path("batch/v1", "jobs", view.namespace), f"{RELEASE}={view.name[:63]}", keep=held
    ):
        await _release_job(cluster, found)


async def release_orphans(kube: Kube, namespace: str, uids: Container[str]) -> None:
    """Let go of Jobs whose Release is gone, however that came about. Raises Retryable, Permanent."""
    async for found in kube.each(
        api_path("batch/v1", "jobs", namespace), RELEASE, accept=METADATA_ONLY
    ):
        if not any(
            owner.get("uid") in uids for owner in found["metadata"].get("ownerReferences", [])
        ):
            await _release_job(kube, found)


async def _release_job(cluster: Cluster, found: Mapping[str, Any]) -> None:
    meta = found["metadata"]
    finalizers = meta.get("finalizers", [])
    if RESULT in finalizers:
        body = {"metadata": {"finalizers": [item for item in finalizers if item != RESULT]}}
        with contextlib.suppress(NotFound):
            await cluster.patch(
                api_path("batch/v1", "jobs", meta["namespace"], meta["name"]), body, "merge"
            )


async def follow_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Return how far a Job is; it has ended only when all its pods have.

    Raises Retryable, Permanent.

    One that has failed, or will (its pods were told to end), or was deleted, is hopeless as long as
    a pod of it may run.
    """
    try:
        found = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        return Progress("Absent")

    stranger = _explain_foreign_job(view, operation, found)
    if stranger:
        return Progress("Failed", stranger)
    if not _is_over(found):
        return Progress("Running")

    pods = await _list_pods(cluster, found)

    if _true_condition(found, "Complete"):
        return await _progress_of_completed(cluster, operation, found, pods)

    return await _progress_of_failed(cluster, operation, found, pods)


async def _progress_of_completed(
    cluster: Cluster, operation: Operation, job: Mapping[str, Any], pods: list[Pod]
) -> Progress:
    now = datetime.now(UTC)
    left = job_pods.find_ending_trouble(pods, now)
    if left is not None:
        name = job["metadata"]["name"]
        return Progress(
            "Running",
            f"job {name} is complete, but {left.message}",
            stuck=job_pods.is_late(pods, now),
        )

    report = operation.config.report if isinstance(operation.config, Job) else None
    if report is None:
        return await job_endings.progress_of_end(
            cluster, job, pods, Progress("Succeeded"), _is_quiet(operation)
        )

    try:
        return await job_reports.progress_of_completed(
            cluster, report, job, pods, _is_quiet(operation)
        )
    except Retryable as error:
        return Progress("Running", f"its report cannot be read yet: {error}", stuck=True)


async def _progress_of_failed(
    cluster: Cluster, operation: Operation, job: Mapping[str, Any], pods: list[Pod]
) -> Progress:
    why, hung, quiet = _explain_failure(operation, job), _is_hung(job), _is_quiet(operation)
    found, pods = pods, [job_pods.silence_pod(pod) for pod in pods] if quiet else pods
    left = job_pods.find_ending_trouble(pods, datetime.now(UTC))
    if left is not None:
        broken = None if hung else job_pods.newest_failed_pod(pods)
        # The log of a pod goes with the pod: now is the time to read it.
        said = (
            await job_endings.describe_failed_pod(cluster, broken)
            if broken
            else await job_endings.read_newest_log(cluster, job, pods)
        )

        return Progress(
            "Running", "; ".join(filter(None, (why, left.message, said))), stuck=True, hopeless=True
        )

    if hung:  # it is not told by a pod that failed before the one that hung
        found, pods = (
            [pod for pod in some if pod["metadata"].get("deletionTimestamp")]
            for some in (found, pods)
        )

    last = job_pods.newest_failed_pod(pods)
    if hung or last is None:
        said = await job_endings.describe_hung_job(
            cluster, job, last, quiet
        ) or await _explain_refusal(cluster, job)
        why = f"{why}; {said or 'no pod of it is left, and the end of its log is gone with it'}"

    report = operation.config.report if isinstance(operation.config, Job) else None
    if report is not None and not _is_deleted(job):
        return await job_reports.progress_of_failed(cluster, report, why, found, quiet)

    return (
        Progress("Failed", why)
        if hung
        else await job_endings.progress_of_end(cluster, job, pods, Progress("Failed", why))
    )


async def _explain_refusal(cluster: Cluster, job: Mapping[str, Any]) -> str:
    """Return why a Job got no pod, as far as Events still tell; a failure is never held up by them."""
    with contextlib.suppress(Retryable, Permanent):
        refused = await job_events.find_refusal(cluster, job)
        return refused.message if refused is not None else ""
    return ""


async def job_trouble(cluster: Cluster, view: View, operation: Operation) -> Trouble | None:
    """Return why the pods of a Job do not start or do not end, or its report cannot be read.

    Raises Retryable, Permanent.
    """
    try:
        found = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        return None

    if _explain_foreign_job(view, operation, found):
        return None

    if _is_over(found):
        progress = await follow_job(cluster, view, operation)
        return Trouble(progress.message, progress.hopeless) if progress.stuck else None

    name, uid = found["metadata"]["name"], str(found["metadata"].get("uid"))

    if found["spec"].get("suspend"):
        resume = (
            f"kubectl patch job {name} --namespace {view.namespace} --patch "
            f'\'{{"spec":{{"suspend":false}}}}\''
        )
        return Trouble(
            f"job {name} is suspended, so it has no pod; whoever suspended it lets it go "
            f"on, or: {resume}"
        )

    pods = await _list_pods(cluster, found)
    if _is_quiet(operation):
        pods = [job_pods.silence_pod(pod) for pod in pods]

    trouble = job_pods.find_hindrance(pods, datetime.now(UTC)) or await job_events.find_hindrance(
        cluster, found, pods
    )
    if trouble is not None:
        job_endings.LAST_WORDS.keep(found, f"{job_endings.HELD_PREFIX}{trouble.message}")
        return trouble

    job_endings.LAST_WORDS.forget_trouble(uid)

    if _is_nearly_over(found, datetime.now(UTC)):
        await job_endings.read_newest_log(cluster, found, pods)

    return None


async def stop_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Suspend a running Job: its pods end, its record stays.

    Where there is none, its name is taken by a suspended one: a request to create it that is still
    on its way must not arrive after the rollback. One that has ended, or is about to, only has to
    lose its pods. Raises Retryable, Permanent.
    """
    try:
        found = await cluster.get(job_path(view.namespace, operation.subject))
        if not is_ours(view, found) or _true_condition(found, "Complete", "Failed"):
            return await _follow_pods_gone(cluster, view, operation, found)

        if _is_deleted(found):
            # Nobody acts on a Job that is being deleted, and its pods end only when it is gone; its
            # step has failed already.
            await _release_job(cluster, found)
            return Progress("Running", f"job {found['metadata']['name']} is being deleted")

        if not _is_ending(found):
            await cluster.patch(
                job_path(view.namespace, operation.subject), {"spec": {"suspend": True}}, "merge"
            )
    except NotFound:
        return await _take_name(cluster, view, operation)

    return Progress("Running")


async def _take_name(cluster: Cluster, view: View, operation: Operation) -> Progress:
    pod = {"restartPolicy": "Never", "containers": [{"name": "never-runs", "image": "none"}]}
    name = operation.subject.partition("/")[2]
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
        return Progress("Absent")  # it has arrived meanwhile: stop it after all
    except Permanent:
        return Progress("Succeeded")  # a Job of this name cannot be made here, by nobody's request

    return Progress("Running")


async def follow_stop(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Return whether nothing of a Job runs any more, nor will. Raises Retryable, Permanent."""
    try:
        found = await cluster.get(job_path(view.namespace, operation.subject))
    except NotFound:
        gone = await _follow_pods_gone(cluster, view, operation, None)
        # its name has to be taken: a request to create it may still be on its way
        return Progress("Absent") if gone.state == "Succeeded" else gone

    ended = not is_ours(view, found) or _true_condition(found, "Complete", "Failed") is not None
    if not ended and _is_deleted(found):
        return _progress_of_deleted(found)
    if not ended and not found["spec"].get("suspend") and not _is_ending(found):
        return Progress("Absent")

    gone = await _follow_pods_gone(cluster, view, operation, found)
    if gone.state == "Succeeded" and not ended and (_is_ending(found) or not _is_idle(found)):
        return Progress(
            "Running",
            f"job {found['metadata']['name']} has no pod; its controller has not said so yet",
        )

    return gone


async def _follow_pods_gone(
    cluster: Cluster, view: View, operation: Operation, job: Mapping[str, Any] | None
) -> Progress:
    """Succeeded where no pod of an operation runs any more, whichever Job of its name has made it."""
    name = operation.subject.partition("/")[2]

    # The name is another's now, and so are most pods of that name.
    others = job is not None and not is_ours(view, job)

    def runs(pod: dict[str, Any]) -> dict[str, Any] | None:
        foreign = others and (pod["metadata"].get("annotations") or {}).get(KEY) != operation.key
        return None if foreign or not job_pods.active_pods([pod]) else job_pods.kept_part(pod)

    left = await cluster.list(
        api_path("v1", "pods", view.namespace), f"{JOB_NAME_LABEL}={name}", keep=runs
    )
    now = datetime.now(UTC)
    trouble = job_pods.find_ending_trouble(left, now)
    if trouble is None:
        return Progress("Succeeded")

    return Progress(
        "Running",
        f"job {name} is stopped, but {trouble.message}",
        stuck=job_pods.is_late(left, now),
    )


def _progress_of_deleted(found: Mapping[str, Any]) -> Progress:
    """A Job that is being deleted: we let it go; nobody can go on before others have done so too."""
    name, finalizers = found["metadata"]["name"], found["metadata"].get("finalizers") or []
    if RESULT in finalizers:
        return Progress("Absent", f"job {name} is being deleted")

    waits = (
        f", and waits for its finalizers {', '.join(map(str, finalizers))[:200]}"
        if finalizers
        else ""
    )

    return Progress("Running", f"job {name} is being deleted{waits}")


def _is_idle(found: Mapping[str, Any]) -> bool:
    """Return whether the controller of a suspended Job has seen that, and says that nothing runs.

    Or the Job never ran at all.
    """
    if found["metadata"].get("generation") == 1:  # it was made suspended
        return True
    status = found.get("status", {})
    return (
        not status.get("active")
        and not status.get("terminating")
        and _true_condition(found, "Suspended") is not None
    )


async def _list_pods(cluster: Cluster, job: Mapping[str, Any]) -> list[Pod]:
    meta = job["metadata"]
    return list(
        await cluster.list(
            api_path("v1", "pods", meta["namespace"]),
            f"{JOB_NAME_LABEL}={meta['name']}",
            keep=lambda pod: job_pods.kept_part(pod) if job_pods.is_of(job, pod) else None,
        )
    )


def _explain_foreign_job(view: View, operation: Operation, found: Mapping[str, Any]) -> str:
    """Return why a Job of the wanted name is not that of the operation; empty where it is."""
    name = found["metadata"]["name"]

    if not is_ours(view, found):
        return f"a Job {name} of another owner is in the way; delete or rename it"
    if (found["metadata"].get("annotations") or {}).get(KEY) != operation.key:
        return f"the Job {name} belongs to another operation; delete it"

    made = found["metadata"].get("creationTimestamp")
    if made and operation.since and parse_time(made) < parse_time(operation.since) - MAX_CLOCK_SKEW:
        return (
            f"the Job {name} is older than the step that would run it: somebody else has made "
            "it; delete it"
        )

    return ""


def _explain_failure(operation: Operation, found: Mapping[str, Any]) -> str:
    """Return why a Job has failed, or will."""
    name, condition = found["metadata"]["name"], _true_condition(found, "Failed", "FailureTarget")
    if condition is None:
        return f"the Job {name} was deleted before its result was read"

    reason = condition.get("reason", "Failed")

    if not _is_hung(found):
        return f"job {name}: {reason}: {condition.get('message', '')}".rstrip(": ")

    limit = (
        operation.config.timeout
        if isinstance(operation.config, Job)
        else f"{found['spec']['activeDeadlineSeconds']}s"
    )
    remedy = "look for what it waits for, or give it a longer timeout"
    return f"job {name} did not end within {limit} ({reason}); {remedy}"


def _true_condition(found: Mapping[str, Any], *kinds: str) -> dict[str, Any] | None:
    """Return the first condition of these kinds that is true."""
    conditions = found.get("status", {}).get("conditions") or []
    return next(
        (
            item
            for kind in kinds
            for item in conditions
            if item["type"] == kind and item["status"] == "True"
        ),
        None,
    )


def _is_quiet(operation: Operation) -> bool:
    """Return whether nothing that the Job says may be repeated."""
    return isinstance(operation.config, Job) and operation.config.is_quiet


def _is_over(found: Mapping[str, Any]) -> bool:
    """Return whether it is decided how a Job ends, though its pods may still run."""
    return _true_condition(found, "Complete", "Failed", "FailureTarget") is not None or _is_deleted(
        found
    )


def _is_ending(found: Mapping[str, Any]) -> bool:
    """Return whether Kubernetes is about to end a Job by itself, and makes no more pods for it."""
    return _true_condition(found, "FailureTarget", "SuccessCriteriaMet") is not None


def _is_hung(found: Mapping[str, Any]) -> bool:
    """Return whether a Job's time ran out."""
    condition = _true_condition(found, "Failed", "FailureTarget")
    return condition is not None and condition.get("reason") == "DeadlineExceeded"


def _is_deleted(found: Mapping[str, Any]) -> bool:
    return bool(found["metadata"].get("deletionTimestamp"))


def _is_nearly_over(found: Mapping[str, Any], now: datetime) -> bool:
    since, limit = (
        found.get("status", {}).get("startTime"),
        found["spec"].get("activeDeadlineSeconds"),
    )
    if not since or not limit:
        return False
    return now > datetime.fromisoformat(since) + timedelta(seconds=limit - NEARLY_OVER_S)
