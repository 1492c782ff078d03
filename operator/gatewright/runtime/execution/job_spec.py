"""The spec of a Job: what its author wrote, or what a CronJob has, with the bounds that every Job
of a Release gets."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from gatewright.api import KEY, RELEASE
from gatewright.api.base import seconds
from gatewright.api.jobs import Job
from gatewright.core.model import View
from gatewright.ports import Cluster, NotFound, Permanent
from gatewright.runtime.cluster.kube import api_path
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
    if job.fromCronJob:
        try:
            cron = await cluster.get(
                api_path("batch/v1", "cronjobs", view.namespace, job.fromCronJob)
            )
        except NotFound:
            raise Permanent(
                f'there is no CronJob "{job.fromCronJob}" in namespace {view.namespace}'
            ) from None
        spec: dict[str, Any] = copy.deepcopy(cron["spec"]["jobTemplate"]["spec"])
    else:
        spec = {
            "template": copy.deepcopy(job.template)
            if job.template is not None
            else {"spec": _pod_template(job)}
        }

    spec["template"] = _mark_template(spec.get("template") or {}, view, key)
    spec["backoffLimit"] = job.retries
    spec["activeDeadlineSeconds"] = max(1, int(seconds(job.timeout)))
    spec["podReplacementPolicy"] = "Failed"
    # Counts, but the finalizer stands until the run has ended.
    spec["ttlSecondsAfterFinished"] = JOB_TTL_S

    return spec


def _mark_template(template: Mapping[str, Any], view: View, key: str) -> dict[str, Any]:
    """A pod template with our label and key.

    It also tells which container is the main one, whatever is injected later.
    """
    meta, pod = (
        _object_at(template, "metadata", "template"),
        _object_at(template, "spec", "template"),
    )
    labels = _object_at(meta, "labels", "template.metadata") | {RELEASE: view.name[:63]}
    containers = pod.get("containers")
    first = containers[0] if isinstance(containers, list) and containers else None
    named = (
        {DEFAULT_CONTAINER: str(first["name"])}
        if isinstance(first, Mapping) and first.get("name")
        else {}
    )
    annotations = named | _object_at(meta, "annotations", "template.metadata") | {KEY: key}
    pod.setdefault("restartPolicy", "Never")

    return {
        **template,
        "metadata": {**meta, "labels": labels, "annotations": annotations},
        "spec": pod,
    }


def _object_at(parent: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    found = parent.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise Permanent(f"job.{where}.{name} is not an object")
    return dict(found or {})


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
