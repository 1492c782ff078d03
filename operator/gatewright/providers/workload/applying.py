"""How an operation changes a workload: the new template, and the patch that brings it.

Pods that would be in its way are deleted here, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Set
from typing import Any

from gatewright.api import KEY
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import Cluster, Conflict, Permanent
from gatewright.providers.workload import captured, owned, pods, rollout, template
from gatewright.providers.workload.config import WorkloadConfig
from gatewright.providers.workload.wanted import config_of, named_fields, wanted_fields


async def template_for(
    cluster: Cluster,
    namespace: str,
    workload: Mapping[str, Any],
    config: WorkloadConfig,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
) -> Mapping[str, Any]:
    """Return the template that an operation stands for. Raises Retryable, Permanent."""
    now: Mapping[str, Any] = workload["spec"]["template"]
    try:
        if operation.kind == "restore":
            result = _restored_template(now, config, operation, snapshot)
        else:
            result = _changed_template(now, config, operation, snapshot)
    except Permanent as error:
        raise Permanent(f"{rollout.title_of(workload)}: {error}") from None

    # Only what deploys or restores a version starts pods anew.
    if operation.restart and operation.kind in ("apply", "restore"):
        template.put_annotation(result, template.RESTART_ANNOTATION, operation.key)
    if operation.kind == "apply":
        await _mark_config(cluster, namespace, now, result, config_of(operation, config))

    return result


def _restored_template(
    now: Mapping[str, Any],
    config: WorkloadConfig,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the template that a restore stands for. Raises Permanent."""
    wanted = wanted_fields(config, [operation], snapshot)
    assert snapshot is not None
    if wanted.whole is not None:
        return dict(wanted.whole)

    named = named_fields(operation, config)
    return template.restore_template(now, snapshot["template"], named)


def _changed_template(
    now: Mapping[str, Any],
    config: WorkloadConfig,
    operation: Operation,
    snapshot: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the template with what an operation sets. Raises Permanent."""
    large = template.explain_too_large(now)
    if large:
        raise Permanent(large)

    return template.change_template(now, wanted_fields(config, [operation], snapshot))


async def _mark_config(
    cluster: Cluster,
    namespace: str,
    now: Mapping[str, Any],
    result: dict[str, Any],
    config: WorkloadConfig,
) -> None:
    """Say on the template what captured configuration its pods start with.

    A mark that was never there is no change of it, and restarts nothing by itself. Raises
    Retryable, Permanent.
    """
    before = template.read_annotation(now, template.CONFIG_ANNOTATION)
    # Where nothing else changes, a first mark would restart pods for nothing.
    if not config.config or (before is None and result == now):
        return

    references = [
        ("configmaps", reference.configMap)
        if reference.configMap
        else ("secrets", reference.secret or "")
        for reference in config.config
    ]
    mark = await captured.captured_hash(cluster, namespace, references)
    template.put_annotation(result, template.CONFIG_ANNOTATION, mark)


def patch_for(
    workload: Mapping[str, Any], new_template: Mapping[str, Any], operation: Operation
) -> list[dict[str, Any]]:
    """Return a JSON patch: the template, the operation's key, and the version that both were made
    for.

    A patch that was delayed on its way must not arrive after a later one. A strategic merge patch
    could not do it: it refuses a value where there is a `valueFrom`.
    """
    metadata = workload["metadata"]
    version = metadata["resourceVersion"]

    # What others have noted there is not known in full, and stays.
    path = f"/metadata/annotations/{KEY.replace('/', '~1')}"
    mark: dict[str, Any] = {"op": "add", "path": path, "value": operation.key}
    if metadata.get("annotations") is None:
        mark = {"op": "add", "path": "/metadata/annotations", "value": {KEY: operation.key}}

    patch = [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}, mark]
    if new_template != workload["spec"]["template"]:
        patch.append({"op": "replace", "path": "/spec/template", "value": new_template})
    return patch


async def unblock_pods(
    cluster: Cluster,
    namespace: str,
    workload: Mapping[str, Any],
    operation: Operation,
    progress: Progress,
) -> Progress:
    """Delete pods that keep a StatefulSet from coming home.

    Its controller waits for each pod to be ready, also for one whose version is withdrawn and never
    will be. Raises Retryable, Permanent.
    """
    status = workload.get("status") or {}
    living = {status.get("updateRevision")}
    # A restore withdraws the version before it.
    if operation.kind != "restore":
        living.add(status.get("currentRevision"))

    # While its revisions are not told, nobody knows which pods are withdrawn.
    if rollout.is_unseen(workload) or None in living or progress.state != "Running":
        return progress

    listed = await owned.list_pods(cluster, namespace, workload)
    lowest = rollout.first_updated(workload)
    broken = [pod["metadata"] for pod in listed if _is_withdrawn(pod, living, lowest)]
    if not broken:
        return progress

    for metadata in broken:
        path = f"/api/v1/namespaces/{namespace}/pods/{metadata['name']}"
        # Its successor may have the name already.
        with contextlib.suppress(Conflict):
            await cluster.delete(path, uid=metadata["uid"])

    names = ", ".join(sorted(metadata["name"] for metadata in broken))
    message = f"deleted pods of a withdrawn version that were not ready: {names}"
    return Progress("Running", message, notable=True)


def _is_withdrawn(pod: pods.Pod, living: Set[str | None], lowest: int) -> bool:
    """Return whether a pod is broken, of none of the living versions, and would be made anew."""
    if pods.is_leaving(pod) or pods.is_ready(pod):
        return False
    if pods.hash_of(pod) in {None, *living}:
        return False

    # One below the lowest would come back as it is.
    return pods.ordinal_of(pod) >= lowest
