"""What pods say about why they do not run, or how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

STUCK = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "ErrImageNeverPull": "the image is not on the node and may not be pulled",
    "InvalidImageName": "the image name is not valid",
    "CreateContainerConfigError": "the container cannot be configured",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
    "CrashLoopBackOff": "the container crashes again and again",
}


def trouble(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """The first reason that keeps a pod of the newest template from running, with the image and the kubelet's own words.

    Pods that are going away, and those of the version that is being replaced, keep nothing from getting on.
    """
    there = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    newest = max(map(_age, there), default="")
    wanted = {_template(pod) for pod in there if _age(pod) == newest}  # several: their times are whole seconds
    for pod in [pod for pod in there if _template(pod) in wanted]:
        for status in _containers(pod):
            waiting = status.get("state", {}).get("waiting", {})
            if waiting.get("reason") in STUCK:
                words = f"{STUCK[waiting['reason']]} ({waiting['reason']})"
                message = f": {waiting['message']}"[:300] if waiting.get("message") else ""
                return f"container {status['name']}, image {status.get('image', '')}: {words}{message}"
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
                return f"pod {pod['metadata']['name']} cannot be scheduled: {condition.get('message', '')}"[:400]
    return None


def termination_message(pods: Sequence[Mapping[str, Any]]) -> str:
    """The termination message of the newest pod that has one."""
    for pod in sorted(pods, key=_age, reverse=True):
        for status in _containers(pod):
            message = status.get("state", {}).get("terminated", {}).get("message")
            if message:
                return str(message)
    return ""


def newest_failed(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest pod that failed, if it ran at all."""
    for pod in sorted(pods, key=_age, reverse=True):
        if pod.get("status", {}).get("phase") == "Failed" and any(
            "terminated" in s.get("state", {}) for s in _containers(pod)
        ):
            return pod
    return None


def exit_reason(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """How the newest failed container ended: exit code, OOMKilled, Evicted."""
    for pod in sorted(pods, key=_age, reverse=True):
        if pod.get("status", {}).get("reason"):
            return f"pod {pod['status']['reason']}: {pod['status'].get('message', '')}"[:300].rstrip(": ")
        for status in _containers(pod):
            ended = status.get("state", {}).get("terminated", {})
            if ended.get("exitCode"):
                reason = ended.get("reason", "Error")
                return (
                    f"{reason}, exit code {ended['exitCode']}"
                    if reason != "Error"
                    else f"exit code {ended['exitCode']}"
                )
    return None


def _template(pod: Mapping[str, Any]) -> str | None:
    """The hash of the template that a pod was made from; None for a Job's."""
    labels = pod["metadata"].get("labels", {})
    found = labels.get("pod-template-hash") or labels.get("controller-revision-hash")
    return str(found) if found else None


def _age(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", [])
    yield from status.get("containerStatuses", [])
