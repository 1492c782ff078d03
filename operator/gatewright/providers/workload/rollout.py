"""How far a rollout is, as `kubectl rollout status` tells it, from the status of a Deployment or
StatefulSet.

Success goes first: what is complete has succeeded, whatever conditions say. Waiting is not failing:
pods that cannot be created (a quota, a webhook) are said in the API server's own words, and the
step's own time ends them. A missed progress deadline is said too, unless the condition is older
than the operation: it then speaks of the version before, and the controller takes it away only when
a pod gets on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gatewright.core.model.operation import Operation, Progress

CLOCK_TOLERANCE = timedelta(seconds=1)
"""The API server's times are whole seconds."""
_REFUSALS = (("ReplicaFailure", "", "True"), ("Progressing", "ReplicaSetCreateError", "False"))
"""Type, reason and status of the conditions that say that pods cannot be created."""


def progress_of_rollout(
    workload: Mapping[str, Any], operation: Operation, drain: float
) -> Progress:
    """Return how far a rollout is.

    `drain`: seconds for which old pods that are ending are waited for.
    """
    spec, status = workload["spec"], workload.get("status") or {}
    replicas = spec.get("replicas", 1)
    # No pod is wanted, so there is nothing to wait for.
    if replicas == 0:
        return Progress("Succeeded")
    if is_unseen(workload):
        return Progress("Running", "the change has not been seen yet")

    if _is_stateful(workload):
        counted = _progress_of_stateful(replicas, workload)
    else:
        counted = _progress_of_deployment(replicas, status, drain)
    # What is complete has succeeded, whatever conditions say.
    if counted.state == "Succeeded" or counted.stuck:
        return counted

    if spec.get("paused"):
        paused = f"{title_of(workload)} is paused (kubectl rollout resume)"
        return Progress("Running", paused, stuck=True)
    refused = explain_refusal(workload)
    if refused:
        return Progress("Running", refused, stuck=True)

    # A condition that is older than the operation speaks of the version before.
    late = _find_condition(status, "Progressing", "ProgressDeadlineExceeded")
    if late is None or not _is_since(late, operation.since):
        return counted

    reason = late.get("message", "progress deadline exceeded")
    return Progress("Running", f"{title_of(workload)}: {reason}", stuck=True)


def is_unseen(workload: Mapping[str, Any]) -> bool:
    """Return whether the controller of a workload has not seen its last change yet, so that its
    counters speak of an older one."""
    observed = (workload.get("status") or {}).get("observedGeneration", 0)
    return bool(observed < workload["metadata"].get("generation", 0))


def is_mixed(workload: Mapping[str, Any]) -> bool:
    """Return whether there are pods of another template than the one that a workload has now."""
    status = workload.get("status") or {}
    return bool(status.get("replicas", 0) > status.get("updatedReplicas", 0))


def explain_refusal(workload: Mapping[str, Any]) -> str:
    """Say why the controller cannot create pods, in the API server's own words; empty where it can,
    or does not say."""
    status = workload.get("status") or {}
    for kind, reason, refused in _REFUSALS:
        condition = _find_condition(status, kind, reason)
        if condition is not None and condition.get("status") == refused:
            message = condition.get("message") or condition.get("reason", kind)
            return f"{title_of(workload)} cannot create pods: {message}"[:500]

    return ""


def title_of(workload: Mapping[str, Any]) -> str:
    """Return `Deployment web`."""
    return f"{workload.get('kind', 'object')} {workload['metadata']['name']}"


def available_replicas(workload: Mapping[str, Any]) -> int:
    """Return how many replicas serve."""
    status = workload.get("status") or {}
    # A StatefulSet may tell only how many are ready.
    ready = status.get("readyReplicas", 0) if _is_stateful(workload) else 0
    return int(status.get("availableReplicas", ready))


def _is_stateful(workload: Mapping[str, Any]) -> bool:
    return workload.get("kind") == "StatefulSet"


def _find_condition(
    status: Mapping[str, Any], kind: str, reason: str = ""
) -> Mapping[str, Any] | None:
    for condition in status.get("conditions") or []:
        if condition["type"] == kind and (not reason or condition.get("reason") == reason):
            return dict(condition)
    return None


def _is_since(condition: Mapping[str, Any], since: str | None) -> bool:
    """Return whether a condition is news of an operation that began then."""
    if since is None:
        return True
    changed_at = condition.get("lastUpdateTime") or condition.get("lastTransitionTime")
    if changed_at is None:
        return False

    began = datetime.fromisoformat(since)
    return datetime.fromisoformat(changed_at) > began + CLOCK_TOLERANCE


def _progress_of_deployment(replicas: int, status: Mapping[str, Any], drain: float) -> Progress:
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)

    if updated < replicas:
        return Progress("Running", f"{updated} of {replicas} replicas updated")
    if total > updated:
        return Progress("Running", f"{total - updated} old replicas are still there")
    if available < replicas:
        return Progress("Running", f"{available} of {replicas} replicas available")
    if _is_draining(status, drain):
        return Progress("Running", f"{status['terminatingReplicas']} old replicas are still ending")

    return Progress("Succeeded")


def _is_draining(status: Mapping[str, Any], drain: float) -> bool:
    """Return whether pods that are going away may still answer: what is asked next must not meet
    the old version."""
    if not status.get("terminatingReplicas"):
        return False
    complete = completed_at(status)
    return complete is not None and datetime.now(UTC) - complete < timedelta(seconds=drain)


def completed_at(status: Mapping[str, Any]) -> datetime | None:
    """Return when the last rollout of a Deployment was complete; None where it does not say so, as
    a StatefulSet never does."""
    complete = _find_condition(status, "Progressing", "NewReplicaSetAvailable")
    return datetime.fromisoformat(complete["lastUpdateTime"]) if complete is not None else None


def explain_held_back(workload: Mapping[str, Any]) -> str:
    """Say why pods of a StatefulSet would never get a new version by themselves; empty where they
    do."""
    if not _is_stateful(workload):
        return ""

    title = title_of(workload)
    if (workload["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        consequence = "its pods keep their version until somebody deletes them"
        return f"{title} has updateStrategy OnDelete: {consequence}"

    partition = _partition_of(workload)
    if partition > 0:
        consequence = f"its pods below ordinal {partition} never get the version"
        return f"{title} has updateStrategy.rollingUpdate.partition {partition}: {consequence}"

    return ""


def _progress_of_stateful(replicas: int, workload: Mapping[str, Any]) -> Progress:
    """Return how far the pods of a StatefulSet are.

    Counters go first: what keeps pods from following is in nobody's way where all have the template
    already.
    """
    status = workload.get("status") or {}
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    held = explain_held_back(workload)

    if updated < replicas and held:
        return Progress("Running", held, stuck=True)
    if updated < replicas:
        return Progress("Running", f"{updated} of {replicas} replicas updated")
    if ready < replicas:
        return Progress("Running", f"{ready} of {replicas} replicas ready")
    # Nobody counts on for pods that are held back.
    if status.get("updateRevision") != status.get("currentRevision") and not held:
        return Progress("Running", "the last replicas are becoming ready")

    return Progress("Succeeded")


def first_updated(workload: Mapping[str, Any]) -> int:
    """Return the lowest ordinal of a StatefulSet whose pod is made anew with the template that it
    has now."""
    start = int((workload["spec"].get("ordinals") or {}).get("start", 0))
    return start + _partition_of(workload)


def _partition_of(workload: Mapping[str, Any]) -> int:
    strategy = workload["spec"].get("updateStrategy") or {}
    return int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
