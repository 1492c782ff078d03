"""What pods say about why they do not run, or how they ended.

What keeps a pod from getting on is waiting (for room, a pull, a back-off) or hopeless: an image
name that is not valid, an image that the registry does not have, a key that is not there. Only the
latter cannot heal by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gatewright.ports import Trouble

Pod = Mapping[str, Any]

STUCK_REASONS = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "ErrImageNeverPull": "the image is not on the node and may not be pulled",
    "InvalidImageName": "the image name is not valid",
    "CreateContainerConfigError": "the container cannot be configured",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
    "CrashLoopBackOff": "the container crashes again and again",
}
HOPELESS_REASONS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
PULLING_REASONS = ("ErrImagePull", "ImagePullBackOff")
_MISSING = re.compile(
    r"manifest unknown|name unknown|code = NotFound|: not found|does not exist(?! or may require)"
)
"""How container runtimes repeat a registry that does not have an image; one that does not let us in
says `may require`."""
_MAX_MESSAGE_LENGTH = 400
_MAX_DETAIL_LENGTH = 300
SLOW_START = timedelta(seconds=30)
"""A pod that is not ready for longer is named."""


def describe_hindrance(pods: Sequence[Pod]) -> str | None:
    """Say what keeps a pod of the newest template from running."""
    hindrance = find_hindrance(pods)
    return hindrance.message if hindrance is not None else None


def find_hindrance(pods: Sequence[Pod]) -> Trouble | None:
    """Find what keeps a pod of the newest template from running, with the image and the kubelet's
    own words.

    Pods that are going away, and those of the version that is being replaced, keep nothing from
    getting on.
    """
    return find_hindrance_of(newest_pods(pods))


def find_hindrance_of(pods: Sequence[Pod]) -> Trouble | None:
    """Find what keeps one of these pods from running: what is hopeless goes first, what only waits
    for room last."""
    stuck: list[Trouble] = []
    for pod in pods:
        stuck += _stuck_troubles(pod)

    first_hopeless = next((trouble for trouble in stuck if trouble.hopeless), None)
    if first_hopeless is not None:
        return first_hopeless

    return next(iter((*stuck, *_unscheduled_troubles(pods))), None)


def newest_pods(pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods of the newest template that are not going away."""
    staying = [pod for pod in pods if not is_leaving(pod)]
    latest = max(map(created_at, staying), default="")

    # Several: their times are whole seconds.
    newest_hashes = {hash_of(pod) for pod in staying if created_at(pod) == latest}
    return [pod for pod in staying if hash_of(pod) in newest_hashes]


def _stuck_troubles(pod: Pod) -> Iterator[Trouble]:
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason not in STUCK_REASONS:
            continue

        said_by_kubelet = waiting.get("message") or ""
        last = (status.get("lastState") or {}).get("terminated")
        # How long the kubelet waits is no reason; how the container ended may be one.
        if reason == "CrashLoopBackOff" and last:
            said_by_kubelet = _describe_last_end(last)

        never_there = _MISSING.search(said_by_kubelet) is not None
        hopeless = reason in HOPELESS_REASONS or (reason in PULLING_REASONS and never_there)
        title = f"container {status['name']}, image {status.get('image', '')}"
        detail = f": {said_by_kubelet}"[:_MAX_DETAIL_LENGTH] if said_by_kubelet else ""
        yield Trouble(f"{title}: {STUCK_REASONS[reason]} ({reason}){detail}", hopeless)


def _describe_last_end(terminated: Mapping[str, Any]) -> str:
    words = f"it last {describe_end(terminated)}"
    # Only this message is the runtime's own; any other is what the program wrote.
    if terminated.get("reason") == "StartError" and terminated.get("message"):
        return f"{words}: {terminated['message']}"
    return words


def _unscheduled_troubles(pods: Sequence[Pod]) -> Iterator[Trouble]:
    for pod in pods:
        condition = condition_of(pod, "PodScheduled")
        if condition.get("reason") == "Unschedulable":
            reason = condition.get("message", "")
            message = f"pod {pod['metadata']['name']} cannot be scheduled: {reason}"
            yield Trouble(message[:_MAX_MESSAGE_LENGTH])


def find_unready(pods: Sequence[Pod], now: datetime) -> Trouble | None:
    """Find a pod all of whose containers run, and which is not ready for longer than most need to
    start."""
    for pod in pods:
        condition, since = condition_of(pod, "Ready"), ready_since(pod)
        is_late = since is not None and now - since > SLOW_START
        is_running = (pod.get("status") or {}).get("phase") == "Running"
        if not (is_late and is_running and condition.get("status") == "False"):
            continue

        name = pod["metadata"]["name"]
        message = f"pod {name} is not ready since {condition['lastTransitionTime']}"
        reason = condition.get("message")
        return Trouble(f"{message}: {reason}"[:_MAX_MESSAGE_LENGTH] if reason else message)

    return None


def termination_message(pods: Sequence[Pod]) -> str:
    """Return the termination message of the newest pod that has one."""
    for pod in sorted(pods, key=created_at, reverse=True):
        for status in container_statuses(pod):
            message = status.get("state", {}).get("terminated", {}).get("message")
            if message:
                return str(message)
    return ""


def newest_failed(pods: Sequence[Pod]) -> Pod | None:
    """Return the newest pod that failed, if it ran at all."""
    for pod in sorted(pods, key=created_at, reverse=True):
        has_ended = any(
            "terminated" in status.get("state", {}) for status in container_statuses(pod)
        )
        if pod.get("status", {}).get("phase") == "Failed" and has_ended:
            return pod
    return None


def exit_reason(pods: Sequence[Pod]) -> str | None:
    """Say how the newest failed container ended: exit code, OOMKilled, Evicted."""
    for pod in sorted(pods, key=created_at, reverse=True):
        status = pod.get("status", {})
        if status.get("reason"):
            reason = f"pod {status['reason']}: {status.get('message', '')}"
            return reason[:_MAX_DETAIL_LENGTH].rstrip(": ")

        for container_status in container_statuses(pod):
            ended = container_status.get("state", {}).get("terminated", {})
            if ended.get("exitCode"):
                return _describe_exit(ended)

    return None


def _describe_exit(ended: Mapping[str, Any]) -> str:
    exit_code = f"exit code {ended['exitCode']}"
    reason = ended.get("reason", "Error")
    # `Error` says no more than that there is an exit code.
    return exit_code if reason == "Error" else f"{reason}, {exit_code}"


def condition_of(pod: Pod, kind: str) -> Mapping[str, Any]:
    """Return a condition of a pod; empty where it has none of that type."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == kind:
            return dict(condition)
    return {}


def is_ready(pod: Pod) -> bool:
    """Return whether a pod serves."""
    return condition_of(pod, "Ready").get("status") == "True"


def ready_since(pod: Pod) -> datetime | None:
    """Return since when a pod is ready, or is not."""
    return parse_time(condition_of(pod, "Ready").get("lastTransitionTime"))


def describe_end(terminated: Mapping[str, Any]) -> str:
    """Say how a container ended: `ended with exit code 137 (OOMKilled)`."""
    reason = f" ({terminated['reason']})" if terminated.get("reason") else ""
    return f"ended with exit code {terminated.get('exitCode', 0)}{reason}"


def is_leaving(pod: Pod) -> bool:
    """Return whether a pod is going away."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def hash_of(pod: Pod) -> str | None:
    """Return the hash of the template that a pod was made from; None for a Job's."""
    labels = pod["metadata"].get("labels") or {}
    template_hash = labels.get("pod-template-hash") or labels.get("controller-revision-hash")
    return str(template_hash) if template_hash else None


def ordinal_of(pod: Pod) -> int:
    """Return the number of a StatefulSet's pod, the end of its name; -1 where it has none."""
    number = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def container_statuses(pod: Pod) -> Iterator[Mapping[str, Any]]:
    """Yield what the kubelet says of each container, init containers first."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def parse_time(written: str | None) -> datetime | None:
    """Parse a time as the API server writes it."""
    return datetime.fromisoformat(written) if written else None


def created_at(pod: Pod) -> str:
    """Return when a pod was made, as the API server writes it; empty where it does not tell."""
    return str(pod["metadata"].get("creationTimestamp", ""))
