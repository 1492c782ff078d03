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

from gatewright.core.model import Operation, Progress

CLOCK_TOLERANCE = timedelta(seconds=1)
"""The API server's times are whole seconds."""


def progress_of_rollout(found: Mapping[str, Any], operation: Operation, drain: float) -> Progress:
    """How far a rollout is; `drain` is for how many seconds old pods that are ending are waited
    for."""
    spec, status = found["spec"], found.get("status") or {}
    wanted = spec.get("replicas", 1)
    if wanted == 0:
        return Progress("Succeeded")  # no pod is wanted, so there is nothing to wait for
    if is_unseen(found):
        return Progress("Running", "the change has not been seen yet")
    counted = (
        _progress_of_stateful(wanted, found)
        if found.get("kind") == "StatefulSet"
        else _progress_of_deployment(wanted, status, drain)
    )
    if counted.state == "Succeeded" or counted.stuck:
        return counted
    if spec.get("paused"):
        return Progress(
            "Running", f"{title_of(found)} is paused (kubectl rollout resume)", stuck=True
        )
    refused = explain_refusal(found)
    if refused:
        return Progress("Running", refused, stuck=True)
    late = _find_condition(status, "Progressing", "ProgressDeadlineExceeded")
    if late is None or not _is_since(late, operation.since):
        return counted
    words = f"{title_of(found)}: {late.get('message', 'progress deadline exceeded')}"
    return Progress("Running", words, stuck=True)


def is_unseen(found: Mapping[str, Any]) -> bool:
    """Whether its controller has not seen the last change of a workload yet, so that its counters
    speak of an older one."""
    return bool(
        (found.get("status") or {}).get("observedGeneration", 0)
        < found["metadata"].get("generation", 0)
    )


def is_mixed(found: Mapping[str, Any]) -> bool:
    """Whether there are pods of another template than the one that a workload has now."""
    status = found.get("status") or {}
    return bool(status.get("replicas", 0) > status.get("updatedReplicas", 0))


def explain_refusal(found: Mapping[str, Any]) -> str:
    """Why the controller cannot create pods, in the API server's own words; empty where it can, or
    does not say."""
    status = found.get("status") or {}
    for kind, reason in (("ReplicaFailure", ""), ("Progressing", "ReplicaSetCreateError")):
        condition = _find_condition(status, kind, reason)
        if condition is not None and condition.get("status") == (
            "True" if kind == "ReplicaFailure" else "False"
        ):
            said = condition.get("message") or condition.get("reason", kind)
            return f"{title_of(found)} cannot create pods: {said}"[:500]
    return ""


def title_of(found: Mapping[str, Any]) -> str:
    """`Deployment web`."""
    return f"{found.get('kind', 'object')} {found['metadata']['name']}"


def available_replicas(found: Mapping[str, Any]) -> int:
    """How many replicas serve."""
    status = found.get("status") or {}
    return int(
        status.get(
            "availableReplicas", status.get("readyReplicas", 0) if _is_stateful(found) else 0
        )
    )


def _is_stateful(found: Mapping[str, Any]) -> bool:
    return found.get("kind") == "StatefulSet"


def _find_condition(
    status: Mapping[str, Any], kind: str, reason: str = ""
) -> Mapping[str, Any] | None:
    for item in status.get("conditions") or []:
        if item["type"] == kind and (not reason or item.get("reason") == reason):
            return dict(item)
    return None


def _is_since(condition: Mapping[str, Any], since: str | None) -> bool:
    """Whether a condition is news of an operation that began then."""
    if since is None:
        return True
    said = condition.get("lastUpdateTime") or condition.get("lastTransitionTime")
    return (
        said is not None
        and datetime.fromisoformat(said) > datetime.fromisoformat(since) + CLOCK_TOLERANCE
    )


def _progress_of_deployment(wanted: int, status: Mapping[str, Any], drain: float) -> Progress:
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    if updated < wanted:
        return Progress("Running", f"{updated} of {wanted} replicas updated")
    if total > updated:
        return Progress("Running", f"{total - updated} old replicas are still there")
    if status.get("availableReplicas", 0) < wanted:
        return Progress(
            "Running", f"{status.get('availableReplicas', 0)} of {wanted} replicas available"
        )
    if _is_draining(status, drain):
        return Progress("Running", f"{status['terminatingReplicas']} old replicas are still ending")
    return Progress("Succeeded")


def _is_draining(status: Mapping[str, Any], drain: float) -> bool:
    """Whether pods that are going away may still answer: what is asked next must not meet the old
    version."""
    if not status.get("terminatingReplicas"):
        return False
    complete = completed_at(status)
    return complete is not None and datetime.now(UTC) - complete < timedelta(seconds=drain)


def completed_at(status: Mapping[str, Any]) -> datetime | None:
    """When the last rollout of a Deployment was complete; None where it does not say so, as a
    StatefulSet never does."""
    complete = _find_condition(status, "Progressing", "NewReplicaSetAvailable")
    return datetime.fromisoformat(complete["lastUpdateTime"]) if complete is not None else None


def explain_held_back(found: Mapping[str, Any]) -> str:
    """Why pods of a StatefulSet would never get a new version by themselves; empty where they
    do."""
    if not _is_stateful(found):
        return ""
    if (found["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return (
            f"{title_of(found)} has updateStrategy OnDelete: its pods keep their version until "
            "somebody deletes them"
        )
    partition = _partition_of(found)
    if partition > 0:
        return (
            f"{title_of(found)} has updateStrategy.rollingUpdate.partition {partition}: "
            f"its pods below ordinal {partition} never get the version"
        )
    return ""


def _progress_of_stateful(wanted: int, found: Mapping[str, Any]) -> Progress:
    """Counters go first: what keeps pods from following is in nobody's way where all have the
    template already."""
    status = found.get("status") or {}
    updated, ready, held = (
        status.get("updatedReplicas", 0),
        status.get("readyReplicas", 0),
        explain_held_back(found),
    )
    if updated < wanted and held:
        return Progress("Running", held, stuck=True)
    if updated < wanted:
        return Progress("Running", f"{updated} of {wanted} replicas updated")
    if ready < wanted:
        return Progress("Running", f"{ready} of {wanted} replicas ready")
    # Nobody counts on for those.
    if status.get("updateRevision") != status.get("currentRevision") and not held:
        return Progress("Running", "the last replicas are becoming ready")
    return Progress("Succeeded")


def first_updated(found: Mapping[str, Any]) -> int:
    """The lowest ordinal of a StatefulSet whose pod is made anew with the template that it has
    now."""
    return int((found["spec"].get("ordinals") or {}).get("start", 0)) + _partition_of(found)


def _partition_of(found: Mapping[str, Any]) -> int:
    strategy = found["spec"].get("updateStrategy") or {}
    return int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
