"""The spec of a Job: what its author wrote, or what a CronJob has, with bounds.

Every Job of a Release gets these.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from gatewright.api import KEY, RELEASE
from gatewright.api.base import seconds
from gatewright.api.jobs import Job
from gatewright.core.model.view import View
from gatewright.ports import Cluster, NotFound, Permanent
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution.job_pods import DEFAULT_CONTAINER

JOB_TTL_S = 7 * 24 * 3600
"""Seconds for which a finished Job stays, for those who want to read its log."""
HARDENED_SECURITY_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


async def job_spec(cluster: Cluster, view: View, job: Job, key: str) -> dict[str, Any]:
    """Return what is created for a `job:`. Raises Retryable, Permanent."""
    spec = await _written_spec(cluster, view, job)

    spec["template"] = _mark_template(spec.get("template") or {}, view, key)
    spec["backoffLimit"] = job.retries
    spec["activeDeadlineSeconds"] = max(1, int(seconds(job.timeout)))
    spec["podReplacementPolicy"] = "Failed"

    # Counts, but the finalizer stands until the run has ended.
    spec["ttlSecondsAfterFinished"] = JOB_TTL_S

    return spec


async def _written_spec(cluster: Cluster, view: View, job: Job) -> dict[str, Any]:
    if not job.fromCronJob:
        template = job.template if job.template is not None else {"spec": _pod_template(job)}
        return {"template": copy.deepcopy(template)}

    try:
        path = api_path("batch/v1", "cronjobs", view.namespace, job.fromCronJob)
        cron = await cluster.get(path)
    except NotFound:
        raise Permanent(
            f'there is no CronJob "{job.fromCronJob}" in namespace {view.namespace}'
        ) from None

    spec: dict[str, Any] = copy.deepcopy(cron["spec"]["jobTemplate"]["spec"])
    return spec


def _mark_template(template: Mapping[str, Any], view: View, key: str) -> dict[str, Any]:
    """Return a pod template with our label and key.

    It also tells which container is the main one, whatever is injected later.
    """
    meta = _object_at(template, "metadata", "template")
    pod = _object_at(template, "spec", "template")
    labels = _object_at(meta, "labels", "template.metadata") | {RELEASE: view.name[:63]}
    own = _object_at(meta, "annotations", "template.metadata")
    annotations = _main_container_of(pod) | own | {KEY: key}
    pod.setdefault("restartPolicy", "Never")

    return {
        **template,
        "metadata": {**meta, "labels": labels, "annotations": annotations},
        "spec": pod,
    }


def _main_container_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotation that names the first container, if it has a name."""
    containers = pod.get("containers")
    first = containers[0] if isinstance(containers, list) and containers else None
    if not isinstance(first, Mapping) or not first.get("name"):
        return {}
    return {DEFAULT_CONTAINER: str(first["name"])}


def _object_at(parent: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    value = parent.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise Permanent(f"job.{where}.{name} is not an object")
    return dict(value or {})


def _pod_template(job: Job) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "job",
        "image": job.image,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": HARDENED_SECURITY_CONTEXT,
    }
    for name in ("command", "args"):
        if getattr(job, name):
            container[name] = list(getattr(job, name))

    if job.env:
        container["env"] = [variable.model_dump(exclude_none=True) for variable in job.env]
    if job.envFrom:
        container["envFrom"] = [source.model_dump(exclude_none=True) for source in job.envFrom]
    if job.resources:
        container["resources"] = job.resources

    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}

    if job.serviceAccountName:
        pod["serviceAccountName"] = job.serviceAccountName
    else:
        pod["automountServiceAccountToken"] = False

    return pod
