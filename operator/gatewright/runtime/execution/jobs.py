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
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.core.run.clocks import parse_time
from gatewright.ports import Cluster, Conflict, NotFound, Permanent, Retryable, Trouble
from gatewright.runtime.cluster.children import child_metadata, is_ours
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
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
JOB_METADATA = ("name", "namespace", "finalizers")
"""What is kept of a Job that is to be let go."""
NO_POD_LEFT_MESSAGE = "no pod of it is left, and the end of its log is gone with it"


def job_path(namespace: str, subject: str) -> str:
    """Return the API path of the Job of a subject `job/NAME`."""
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
        if not is_ours(view, job) or RESULT not in meta.get("finalizers", []):
            return None
        return {"metadata": {name: meta[name] for name in JOB_METADATA if name in meta}}

    path = api_path("batch/v1", "jobs", view.namespace)
    for job in await cluster.list(path, f"{RELEASE}={view.name[:63]}", keep=held):
        await _release_job(cluster, job)


async def release_orphans(kube: Kube, namespace: str, uids: Container[str]) -> None:
    """Let go of Jobs whose Release is gone, however that came about.

    Raises Retryable, Permanent.
    """
    path = api_path("batch/v1", "jobs", namespace)
    async for job in kube.each(path, RELEASE, accept=METADATA_ONLY):
        owners = job["metadata"].get("ownerReferences", [])
        if not any(owner.get("uid") in uids for owner in owners):
            await _release_job(kube, job)


async def _release_job(cluster: Cluster, job: Mapping[str, Any]) -> None:
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
    stranger = _explain_foreign_job(view, operation, job)
    if stranger:
        return Progress("Failed", stranger)
    if not _is_over(job):
        return Progress("Running")

    pods = await _list_pods(cluster, job)

    if _true_condition(job, "Complete"):
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
        name = operation.subject.partition("/")[2]
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

    quiet = _is_quiet(operation)

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
    reason, hung, quiet = _explain_failure(operation, job), _is_hung(job), _is_quiet(operation)
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
    if report is not None and not _is_deleted(job):
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

    if _explain_foreign_job(view, operation, job):
        return None

    if _is_over(job):
        progress = await follow_job(cluster, view, operation)
        return Trouble(progress.message, progress.hopeless) if progress.stuck else None

    name, uid = job["metadata"]["name"], str(job["metadata"].get("uid"))

    if job["spec"].get("suspend"):
        return _trouble_of_suspended(view.namespace, name)

    pods = await _list_pods(cluster, job)
    if _is_quiet(operation):
        pods = [job_pods.silence_pod(pod) for pod in pods]

    trouble = job_pods.find_hindrance(pods, datetime.now(UTC))
    if trouble is None:
        trouble = await job_events.find_hindrance(cluster, job, pods)

    if trouble is not None:
        job_endings.LAST_WORDS.keep(job, f"{job_endings.HELD_PREFIX}{trouble.message}")
        return trouble

    job_endings.LAST_WORDS.forget_trouble(uid)

    # Kubernetes takes the pods away when its time is over: what they have said is read before.
    if _is_nearly_over(job, datetime.now(UTC)):
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


async def stop_job(cluster: Cluster, view: View, operation: Operation) -> Progress:
    """Suspend a running Job: its pods end, its record stays.

    Where there is none, its name is taken by a suspended one: a request to create it that is still
    on its way must not arrive after the rollback. One that has ended, or is about to, only has to
    lose its pods. Raises Retryable, Permanent.
    """
    path = job_path(view.namespace, operation.subject)
    try:
        job = await cluster.get(path)
        if not is_ours(view, job) or _true_condition(job, "Complete", "Failed"):
            return await _follow_pods_gone(cluster, view, operation, job)

        if _is_deleted(job):
            # Nobody acts on a Job that is being deleted, and its pods end only when it is gone; its
            # step has failed already.
            await _release_job(cluster, job)
            return Progress("Running", f"job {job['metadata']['name']} is being deleted")

        if not _is_ending(job):
            await cluster.patch(path, {"spec": {"suspend": True}}, "merge")
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

    ended = not is_ours(view, job) or _true_condition(job, "Complete", "Failed") is not None
    if not ended and _is_deleted(job):
        return _progress_of_deleted(job)
    if not ended and not job["spec"].get("suspend") and not _is_ending(job):
        return Progress("Absent")

    gone = await _follow_pods_gone(cluster, view, operation, job)
    # Its controller may be about to make one more.
    is_settled = ended or (_is_idle(job) and not _is_ending(job))
    if gone.state == "Succeeded" and not is_settled:
        message = f"job {job['metadata']['name']} has no pod; its controller has not said so yet"
        return Progress("Running", message)

    return gone


async def _follow_pods_gone(
    cluster: Cluster, view: View, operation: Operation, job: Mapping[str, Any] | None
) -> Progress:
    """Return whether no pod of an operation runs any more, whichever Job of its name made it."""
    name = operation.subject.partition("/")[2]

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
    return not has_pods and _true_condition(job, "Suspended") is not None


async def _list_pods(cluster: Cluster, job: Mapping[str, Any]) -> list[Pod]:
    meta = job["metadata"]

    def own_part(pod: dict[str, Any]) -> dict[str, Any] | None:
        return job_pods.kept_part(pod) if job_pods.is_of(job, pod) else None

    path = api_path("v1", "pods", meta["namespace"])
    return list(await cluster.list(path, f"{JOB_NAME_LABEL}={meta['name']}", keep=own_part))


def _explain_foreign_job(view: View, operation: Operation, job: Mapping[str, Any]) -> str:
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


def _explain_failure(operation: Operation, job: Mapping[str, Any]) -> str:
    """Return why a Job has failed, or will."""
    name, condition = job["metadata"]["name"], _true_condition(job, "Failed", "FailureTarget")
    if condition is None:
        return f"the Job {name} was deleted before its result was read"

    reason = condition.get("reason", "Failed")

    if not _is_hung(job):
        return f"job {name}: {reason}: {condition.get('message', '')}".rstrip(": ")

    remedy = "look for what it waits for, or give it a longer timeout"
    return f"job {name} did not end within {_limit_of(operation, job)} ({reason}); {remedy}"


def _limit_of(operation: Operation, job: Mapping[str, Any]) -> str:
    """Return the time that a Job has, as its author wrote it where that is known."""
    if isinstance(operation.config, Job):
        return str(operation.config.timeout)
    return f"{job['spec']['activeDeadlineSeconds']}s"


def _true_condition(job: Mapping[str, Any], *kinds: str) -> dict[str, Any] | None:
    """Return the first condition of these kinds that is true."""
    conditions: list[dict[str, Any]] = job.get("status", {}).get("conditions") or []
    for kind in kinds:
        for condition in conditions:
            if condition["type"] == kind and condition["status"] == "True":
                return condition
    return None


def _is_quiet(operation: Operation) -> bool:
    """Return whether nothing that the Job says may be repeated."""
    return isinstance(operation.config, Job) and operation.config.is_quiet


def _is_over(job: Mapping[str, Any]) -> bool:
    """Return whether it is decided how a Job ends, though its pods may still run."""
    return (
        _is_deleted(job) or _true_condition(job, "Complete", "Failed", "FailureTarget") is not None
    )


def _is_ending(job: Mapping[str, Any]) -> bool:
    """Return whether Kubernetes is about to end a Job by itself, and makes no more pods for it."""
    return _true_condition(job, "FailureTarget", "SuccessCriteriaMet") is not None


def _is_hung(job: Mapping[str, Any]) -> bool:
    """Return whether a Job's time ran out."""
    condition = _true_condition(job, "Failed", "FailureTarget")
    return condition is not None and condition.get("reason") == "DeadlineExceeded"


def _is_deleted(job: Mapping[str, Any]) -> bool:
    return bool(job["metadata"].get("deletionTimestamp"))


def _is_nearly_over(job: Mapping[str, Any], now: datetime) -> bool:
    since = job.get("status", {}).get("startTime")
    limit = job["spec"].get("activeDeadlineSeconds")
    if not since or not limit:
        return False
    return now > datetime.fromisoformat(since) + timedelta(seconds=limit - NEARLY_OVER_S)
