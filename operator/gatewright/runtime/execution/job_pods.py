"""The pods of a Job: which container speaks for it, how it ended, and what keeps its pods from
starting or ending.

A Job has one main container: the one that the annotation `kubectl.kubernetes.io/default-container`
names, else the first. Only what the main container says is the Job's word. Another container is
heard where it is the reason why the main one did not run or did not count, and it is then named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from gatewright.api import KEY
from gatewright.ports import Trouble
from gatewright.providers.targets import pods
from gatewright.runtime.cluster.children import is_controlled_by
from gatewright.runtime.cluster.kube import api_path
from gatewright.runtime.execution.job_outputs import MAX_TERMINATION_MESSAGE_BYTES

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
OVERDUE_AFTER = timedelta(seconds=15)
"""A node has so long, beyond the grace period, to say that a pod has ended."""
_ABSENT_IMAGE_WORDS = ("code = notfound", "manifest unknown", "repository does not exist")
"""What registries say of an image that is not there, whatever the runtime makes of it."""
_PASSING_WORDS = ("failed to sync", "timed out")
"""A configuration that the kubelet has not seen yet is not one that is missing."""
KEPT_METADATA = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
)
SILENCED_ANNOTATION = "gatewright.dev/silenced"
"""Marks a pod, in memory alone, whose Job has `logs: Never`."""
Pod = Mapping[str, Any]
Status = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpeakingContainer:
    """The container of a pod that tells how the Job goes."""

    container: str
    title: str = ""
    """How messages name it; empty for the main container."""
    ended: Mapping[str, Any] = field(default_factory=dict)
    """How it ended, as the kubelet says; empty where it has not."""

    @property
    def message(self) -> str:
        """Its termination message; the kubelet keeps the end of one that is too long."""
        return str(self.ended.get("message") or "")[-MAX_TERMINATION_MESSAGE_BYTES:]


def is_of(job: Mapping[str, Any], pod: Pod) -> bool:
    """Return whether this very Job has made a pod: another one may have had its name, and anybody
    its label."""
    made = str(job["metadata"].get("creationTimestamp", ""))
    controlled = is_controlled_by(job["metadata"].get("uid"), pod)
    return controlled and str(pod["metadata"].get("creationTimestamp", made)) >= made


def kept_part(pod: Pod) -> dict[str, Any]:
    """Of a pod what anybody asks about here: whoever writes its Job may put much into it."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    notes = meta.get("annotations") or {}
    found = {name: meta[name] for name in KEPT_METADATA if name in meta}
    found["annotations"] = {name: notes[name] for name in (KEY, DEFAULT_CONTAINER) if name in notes}
    kept = {name: spec[name] for name in ("nodeName", "restartPolicy") if name in spec}

    for group in ("initContainers", "containers"):
        if group in spec:
            kept[group] = [
                {name: item[name] for name in ("name", "restartPolicy") if name in item}
                for item in spec[group]
            ]

    return {"metadata": found, "spec": kept, "status": pod.get("status") or {}}


def silence_pod(pod: Pod) -> Pod:
    """A pod without what its containers have said; its log is not to be read."""
    status = dict(pod.get("status") or {})
    for kind in ("initContainerStatuses", "containerStatuses"):
        status[kind] = [_without_words(item) for item in status.get(kind) or []]
    return {**pod, "status": status, SILENCED_ANNOTATION: True}


def is_silenced(pod: Pod) -> bool:
    """Return whether nothing of what a pod says may be repeated."""
    return SILENCED_ANNOTATION in pod


def _without_words(container: Status) -> Status:
    found = dict(container)
    for place in ("state", "lastState"):
        ended = (found.get(place) or {}).get("terminated")
        if ended:
            found[place] = {
                "terminated": {name: value for name, value in ended.items() if name != "message"}
            }
    return found


def main_container(pod: Pod) -> SpeakingContainer:
    """Return the main container."""
    containers = pod["spec"]["containers"]
    wanted = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    name = str(
        wanted if any(item["name"] == wanted for item in containers) else containers[0]["name"]
    )
    return SpeakingContainer(
        name, "", _ended_state(_statuses_by_name(pod, "containerStatuses").get(name, {}))
    )


def speaking_container(pod: Pod) -> SpeakingContainer:
    """Return the main container.

    Or the one that has kept it from running, or has failed where the main one has not.
    """
    inits = _statuses_by_name(pod, "initContainerStatuses")

    for name in _init_containers(pod, sidecars=False):
        state, ended = inits.get(name, {}).get("state", {}), _ended_state(inits.get(name, {}))
        if "running" in state or ended.get("exitCode"):
            return SpeakingContainer(name, f"init container {name}", ended)

    first = main_container(pod)
    if first.ended and not first.ended.get("exitCode"):
        for name, status in _statuses_by_name(pod, "containerStatuses").items():
            if _ended_state(status).get("exitCode"):
                return SpeakingContainer(name, f"container {name}", _ended_state(status))

    return first


def log_path(pod: Pod, container: str) -> str:
    """Path of a container's log."""
    meta = pod["metadata"]
    return f"{api_path('v1', 'pods', meta['namespace'], meta['name'], 'log')}?{urlencode({'container': container})}"


def newest_first(found: Sequence[Pod]) -> list[Pod]:
    """Pods by the time at which they were made."""
    return sorted(
        found, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True
    )


def succeeded_pods(found: Sequence[Pod]) -> list[Pod]:
    """Return the pods that have succeeded, the newest first."""
    return [pod for pod in newest_first(found) if pod.get("status", {}).get("phase") == "Succeeded"]


def active_pods(found: Sequence[Pod]) -> list[Pod]:
    """Return the pods of which nobody has said that they have ended."""
    return [
        pod for pod in found if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]


def has_failed(pod: Pod) -> bool:
    """Return whether a pod has ended and failed."""
    return bool(pod.get("status", {}).get("phase") == "Failed")


def newest_failed_pod(found: Sequence[Pod]) -> Pod | None:
    """Return the newest pod that failed."""
    return next((pod for pod in newest_first(found) if has_failed(pod)), None)


def describe_exit(pod: Pod) -> str:
    """Return how a pod that failed has ended: its exit code, OOMKilled, Evicted.

    Empty where it does not say.
    """
    status, meta = pod.get("status", {}), pod["metadata"]
    if status.get("reason"):
        return f"pod {meta['name']}: {status['reason']}: {status.get('message', '')}"[:300].rstrip(
            ": "
        )

    speaker = speaking_container(pod)
    code, reason = speaker.ended.get("exitCode"), speaker.ended.get("reason", "Error")
    words = f"exit code {code}" if reason == "Error" else f"{reason}, exit code {code}"
    words = f"{speaker.title}: {words}" if speaker.title else words

    moved = [item for item in status.get("conditions", []) if item["type"] == "DisruptionTarget"]
    if moved and moved[0]["status"] == "True":
        taken = (
            f"Kubernetes ended pod {meta['name']}: "
            f"{moved[0].get('message') or moved[0].get('reason', '')}"
        )[:300]
        return f"{taken}; {words}" if code else taken

    return words if code else ""


def find_ending_trouble(found: Sequence[Pod], now: datetime) -> Trouble | None:
    """Return which pods have not ended yet, with node and time.

    Stuck (not hopeless) where a node does not answer for its pod.

    None where all have ended.
    """
    left = active_pods(found)
    if not left:
        return None

    late = [pod for pod in left if _is_overdue(pod, now)]
    pod = (late or left)[0]
    meta, node = pod["metadata"], pod["spec"].get("nodeName")
    words = f"pod {meta['name']}{f' on node {node}' if node else ''}"
    words = f"{words} and {len(left) - 1} more" if len(left) > 1 else words

    if not meta.get("deletionTimestamp"):
        return Trouble(f"its {words} has not ended yet")
    if not late:
        return Trouble(
            f"its {words} is still ending, and has time until {meta['deletionTimestamp']}"
        )

    remedy = f"kubectl delete pod {meta['name']} --namespace {meta['namespace']} --force"
    where = (
        f"look at the node; if it is gone for good: {remedy}"
        if node
        else f"if nothing of it runs: {remedy}"
    )

    return Trouble(
        f"its {words} should have ended by {meta['deletionTimestamp']} and nobody says "
        f"that it has; {where}"
    )


def is_late(found: Sequence[Pod], now: datetime) -> bool:
    """Return whether a pod is long past its time, so that people must look."""
    return any(_is_overdue(pod, now) for pod in active_pods(found))


def find_hindrance(found: Sequence[Pod], now: datetime) -> Trouble | None:
    """Return what keeps the pods of a Job from starting or from ending.

    First what cannot heal by itself.
    """
    there = [pod for pod in active_pods(found) if not pod["metadata"].get("deletionTimestamp")]
    hopeless = pods.describe_hindrance([_only_hopeless(pod) for pod in there])
    if hopeless:
        return Trouble(hopeless, hopeless=True)

    words = pods.describe_hindrance(there) or next(
        (said for pod in there if (said := _explain_sidecar(pod))), None
    )
    if words:
        return Trouble(words)

    return find_ending_trouble(found, now) if is_late(found, now) else None


def _explain_sidecar(pod: Pod) -> str:
    """Return the main container has ended, and another one keeps the pod from ending."""
    first = main_container(pod)
    if not first.ended or pod["spec"].get("restartPolicy") not in (None, "Never"):
        return ""

    running = [
        name
        for name, item in _statuses_by_name(pod, "containerStatuses").items()
        if "running" in item.get("state", {})
    ]
    sidecars = _statuses_by_name(pod, "initContainerStatuses")
    waited = [
        name
        for name in _init_containers(pod, sidecars=True)
        if "running" in sidecars.get(name, {}).get("state", {})
    ]
    ended = f"container {first.container} has ended (exit code {first.ended.get('exitCode')})"

    if running:
        remedy = "let it end by itself, or make it an init container with restartPolicy Always"
        return (
            f"{ended}, but container {running[0]} still runs, so pod {pod['metadata']['name']} "
            f"does not end; {remedy}"
        )

    return f"{ended}, and sidecar {waited[0]} is still ending" if waited else ""


def _only_hopeless(pod: Pod) -> dict[str, Any]:
    """A pod with those of its containers alone that can never start as they are."""
    status = pod.get("status", {})
    kinds = ("initContainerStatuses", "containerStatuses")
    return {
        **pod,
        "status": {
            kind: [item for item in status.get(kind, []) if _is_hopeless(item)] for kind in kinds
        },
    }


def _is_hopeless(status: Status) -> bool:
    waiting = status.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason"), str(waiting.get("message", ""))[:1000].lower()
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        return any(words in message for words in _ABSENT_IMAGE_WORDS)
    if reason == "CreateContainerConfigError":
        return not any(words in message for words in _PASSING_WORDS)
    return reason in ("InvalidImageName", "ErrImageNeverPull")


def _is_overdue(pod: Pod, now: datetime) -> bool:
    until = pod["metadata"].get("deletionTimestamp")
    return bool(until) and now > datetime.fromisoformat(str(until)).astimezone(UTC) + OVERDUE_AFTER


def _init_containers(pod: Pod, sidecars: bool) -> Iterator[str]:
    for item in pod["spec"].get("initContainers", []):
        if (item.get("restartPolicy") == "Always") == sidecars:
            yield item["name"]


def _statuses_by_name(pod: Pod, kind: str) -> dict[str, Status]:
    return {item["name"]: item for item in pod.get("status", {}).get(kind) or []}


def _ended_state(status: Status) -> Mapping[str, Any]:
    """Return how a container ended; where it was started again, how it ended before."""
    for place in ("state", "lastState"):
        ended: Mapping[str, Any] = status.get(place, {}).get("terminated", {})
        if ended:
            return ended
    return {}
