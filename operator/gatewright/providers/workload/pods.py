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
SLOW_START = timedelta(seconds=30)
"""A pod that is not ready for longer is named."""


def describe_hindrance(found: Sequence[Pod]) -> str | None:
    """What keeps a pod of the newest template from running, in words."""
    said = find_hindrance(found)
    return said.message if said is not None else None


def find_hindrance(found: Sequence[Pod]) -> Trouble | None:
    """What keeps a pod of the newest template from running, with the image and the kubelet's own
    words.

    Pods that are going away, and those of the version that is being replaced, keep nothing from
    getting on.
    """
    return find_hindrance_of(newest_pods(found))


def find_hindrance_of(found: Sequence[Pod]) -> Trouble | None:
    """What keeps one of these pods from running: what is hopeless goes first, what only waits for
    room last."""
    stuck = [said for pod in found for said in _stuck_troubles(pod)]
    waits = iter((*stuck, *_unscheduled_troubles(found)))
    return next((said for said in stuck if said.hopeless), None) or next(waits, None)


def newest_pods(found: Sequence[Pod]) -> list[Pod]:
    """Pods of the newest template that are not going away."""
    there = [pod for pod in found if not is_leaving(pod)]
    latest = max(map(created_at, there), default="")
    # Several: their times are whole seconds.
    wanted = {hash_of(pod) for pod in there if created_at(pod) == latest}
    return [pod for pod in there if hash_of(pod) in wanted]


def _stuck_troubles(pod: Pod) -> Iterator[Trouble]:
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason"), waiting.get("message") or ""
        last = (status.get("lastState") or {}).get("terminated")
        if reason == "CrashLoopBackOff" and last:  # how long the kubelet waits is no reason
            said = f"it last {describe_end(last)}"
            said += (
                f": {last['message']}"
                if last.get("reason") == "StartError" and last.get("message")
                else ""
            )
        if reason in STUCK_REASONS:
            message = f": {said}"[:300] if said else ""
            words = f"{STUCK_REASONS[reason]} ({reason}){message}"
            hopeless = reason in HOPELESS_REASONS or (
                reason in PULLING_REASONS and _MISSING.search(said) is not None
            )
            yield Trouble(
                f"container {status['name']}, image {status.get('image', '')}: {words}", hopeless
            )


def _unscheduled_troubles(found: Sequence[Pod]) -> Iterator[Trouble]:
    for pod in found:
        condition = condition_of(pod, "PodScheduled")
        if condition.get("reason") == "Unschedulable":
            words = (
                f"pod {pod['metadata']['name']} cannot be scheduled: {condition.get('message', '')}"
            )
            yield Trouble(words[:_MAX_MESSAGE_LENGTH])


def find_unready(found: Sequence[Pod], now: datetime) -> Trouble | None:
    """A pod all of whose containers run, and which is not ready for longer than most need to
    start."""
    for pod in found:
        condition, since = condition_of(pod, "Ready"), ready_since(pod)
        late = since is not None and now - since > SLOW_START
        if (
            late
            and condition.get("status") == "False"
            and (pod.get("status") or {}).get("phase") == "Running"
        ):
            words = (
                f"pod {pod['metadata']['name']} is not ready since "
                f"{condition['lastTransitionTime']}"
            )
            said = condition.get("message")
            return Trouble(f"{words}: {said}"[:_MAX_MESSAGE_LENGTH] if said else words)
    return None


def termination_message(pods: Sequence[Pod]) -> str:
    """The termination message of the newest pod that has one."""
    for pod in sorted(pods, key=created_at, reverse=True):
        for status in container_statuses(pod):
            message = status.get("state", {}).get("terminated", {}).get("message")
            if message:
                return str(message)
    return ""


def newest_failed(pods: Sequence[Pod]) -> Pod | None:
    """The newest pod that failed, if it ran at all."""
    for pod in sorted(pods, key=created_at, reverse=True):
        if pod.get("status", {}).get("phase") == "Failed" and any(
            "terminated" in s.get("state", {}) for s in container_statuses(pod)
        ):
            return pod
    return None


def exit_reason(pods: Sequence[Pod]) -> str | None:
    """How the newest failed container ended: exit code, OOMKilled, Evicted."""
    for pod in sorted(pods, key=created_at, reverse=True):
        if pod.get("status", {}).get("reason"):
            return f"pod {pod['status']['reason']}: {pod['status'].get('message', '')}"[
                :300
            ].rstrip(": ")
        for status in container_statuses(pod):
            ended = status.get("state", {}).get("terminated", {})
            if ended.get("exitCode"):
                reason = ended.get("reason", "Error")
                return (
                    f"{reason}, exit code {ended['exitCode']}"
                    if reason != "Error"
                    else f"exit code {ended['exitCode']}"
                )
    return None


def condition_of(pod: Pod, kind: str) -> Mapping[str, Any]:
    """A condition of a pod; empty where it has none of that type."""
    for item in (pod.get("status") or {}).get("conditions") or []:
        if item["type"] == kind:
            return dict(item)
    return {}


def is_ready(pod: Pod) -> bool:
    """Whether a pod serves."""
    return condition_of(pod, "Ready").get("status") == "True"


def ready_since(pod: Pod) -> datetime | None:
    """Since when a pod is ready, or is not."""
    return parse_time(condition_of(pod, "Ready").get("lastTransitionTime"))


def describe_end(terminated: Mapping[str, Any]) -> str:
    """How a container ended: `ended with exit code 137 (OOMKilled)`."""
    reason = f" ({terminated['reason']})" if terminated.get("reason") else ""
    return f"ended with exit code {terminated.get('exitCode', 0)}{reason}"


def is_leaving(pod: Pod) -> bool:
    """Whether a pod is going away."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def hash_of(pod: Pod) -> str | None:
    """The hash of the template that a pod was made from; None for a Job's."""
    labels = pod["metadata"].get("labels") or {}
    found = labels.get("pod-template-hash") or labels.get("controller-revision-hash")
    return str(found) if found else None


def ordinal_of(pod: Pod) -> int:
    """The number of a StatefulSet's pod, the end of its name; -1 where it has none."""
    number = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def container_statuses(pod: Pod) -> Iterator[Mapping[str, Any]]:
    """What the kubelet says of each container, init containers first."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def parse_time(text: str | None) -> datetime | None:
    """A time as the API server writes it."""
    return datetime.fromisoformat(text) if text else None


def created_at(pod: Pod) -> str:
    """When a pod was made, as the API server writes it; empty where it does not tell."""
    return str(pod["metadata"].get("creationTimestamp", ""))
