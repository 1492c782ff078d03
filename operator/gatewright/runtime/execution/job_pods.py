"""The pods of a Job: who speaks for it, how it ended, what keeps it from starting or ending.

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
from gatewright.providers.workload import pods
from gatewright.runtime.cluster.children import is_controlled_by
from gatewright.runtime.cluster.paths import api_path
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
    """Return whether this very Job has made a pod.

    Another one may have had its name, and anybody its label.
    """
    made = str(job["metadata"].get("creationTimestamp", ""))
    controlled = is_controlled_by("batch", "Job", job["metadata"].get("uid"), pod)
    return controlled and str(pod["metadata"].get("creationTimestamp", made)) >= made


def kept_part(pod: Pod) -> dict[str, Any]:
    """Return of a pod what anybody asks about here: whoever writes its Job may put much into it."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    notes = meta.get("annotations") or {}
    kept_meta = {name: meta[name] for name in KEPT_METADATA if name in meta}
    kept_meta["annotations"] = {
        name: notes[name] for name in (KEY, DEFAULT_CONTAINER) if name in notes
    }

    kept_spec = {name: spec[name] for name in ("nodeName", "restartPolicy") if name in spec}

    for group in ("initContainers", "containers"):
        if group in spec:
            kept_spec[group] = [_kept_container(container) for container in spec[group]]

    return {"metadata": kept_meta, "spec": kept_spec, "status": pod.get("status") or {}}


def _kept_container(container: Mapping[str, Any]) -> dict[str, Any]:
    return {name: container[name] for name in ("name", "restartPolicy") if name in container}


def silence_pod(pod: Pod) -> Pod:
    """Return a pod without what its containers have said; its log is not to be read."""
    status = dict(pod.get("status") or {})
    for kind in ("initContainerStatuses", "containerStatuses"):
        status[kind] = [_without_words(container) for container in status.get(kind) or []]
    return {**pod, "status": status, SILENCED_ANNOTATION: True}


def is_silenced(pod: Pod) -> bool:
    """Return whether nothing of what a pod says may be repeated."""
    return SILENCED_ANNOTATION in pod


def _without_words(container: Status) -> Status:
    silent = dict(container)
    for place in ("state", "lastState"):
        ended = (silent.get(place) or {}).get("terminated")
        if ended:
            rest = {name: value for name, value in ended.items() if name != "message"}
            silent[place] = {"terminated": rest}
    return silent


def main_container(pod: Pod) -> SpeakingContainer:
    """Return the main container."""
    containers = pod["spec"]["containers"]
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    names = [container["name"] for container in containers]
    name = str(annotated if annotated in names else names[0])
    status = _statuses_by_name(pod, "containerStatuses").get(name, {})
    return SpeakingContainer(name, "", _ended_state(status))


def speaking_container(pod: Pod) -> SpeakingContainer:
    """Return the container that tells how the Job goes.

    That is the main one, or the one that has kept it from running, or has failed where the main one
    has not.
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
    """Return the path of a container's log."""
    meta = pod["metadata"]
    path = api_path("v1", "pods", meta["namespace"], meta["name"], "log")
    return f"{path}?{urlencode({'container': container})}"


def newest_first(all_pods: Sequence[Pod]) -> list[Pod]:
    """Return pods by the time at which they were made."""
    return sorted(all_pods, key=_creation_time, reverse=True)


def newest_message(all_pods: Sequence[Pod]) -> str:
    """Return what the main container of the newest pod says that says anything."""
    messages = (main_container(pod).message for pod in newest_first(all_pods))
    return next(filter(None, messages), "")


def _creation_time(pod: Pod) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def succeeded_pods(all_pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods that have succeeded, the newest first."""
    return [pod for pod in newest_first(all_pods) if _phase_of(pod) == "Succeeded"]


def active_pods(all_pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods of which nobody has said that they have ended."""
    return [pod for pod in all_pods if _phase_of(pod) not in ("Succeeded", "Failed")]


def has_failed(pod: Pod) -> bool:
    """Return whether a pod has ended and failed."""
    return bool(_phase_of(pod) == "Failed")


def _phase_of(pod: Pod) -> Any:
    return pod.get("status", {}).get("phase")


def newest_failed_pod(all_pods: Sequence[Pod]) -> Pod | None:
    """Return the newest pod that failed."""
    return next((pod for pod in newest_first(all_pods) if has_failed(pod)), None)


def describe_exit(pod: Pod) -> str:
    """Return how a pod that failed has ended: its exit code, OOMKilled, Evicted.

    Empty where it does not say.
    """
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    # What befell the whole pod (an eviction) tells more than how a container ended.
    if status.get("reason"):
        message = f"pod {name}: {status['reason']}: {status.get('message', '')}"
        return message[:300].rstrip(": ")

    speaker = speaking_container(pod)
    code, reason = speaker.ended.get("exitCode"), speaker.ended.get("reason", "Error")
    words = f"exit code {code}" if reason == "Error" else f"{reason}, exit code {code}"
    if speaker.title:
        words = f"{speaker.title}: {words}"

    conditions = status.get("conditions", [])
    moved = [condition for condition in conditions if condition["type"] == "DisruptionTarget"]
    if moved and moved[0]["status"] == "True":
        cause = moved[0].get("message") or moved[0].get("reason", "")
        taken = f"Kubernetes ended pod {name}: {cause}"[:300]
        return f"{taken}; {words}" if code else taken

    return words if code else ""


def find_ending_trouble(all_pods: Sequence[Pod], now: datetime) -> Trouble | None:
    """Return which pods have not ended yet, with node and time.

    Stuck (not hopeless) where a node does not answer for its pod. None where all have ended.
    """
    left = active_pods(all_pods)
    if not left:
        return None

    # One that is overdue is named first: people have to look at its node.
    late = [pod for pod in left if _is_overdue(pod, now)]
    pod = (late or left)[0]
    meta, node = pod["metadata"], pod["spec"].get("nodeName")
    words = f"pod {meta['name']}{f' on node {node}' if node else ''}"
    if len(left) > 1:
        words += f" and {len(left) - 1} more"

    # Nobody has told it to end: it has all the time that it wants.
    if not meta.get("deletionTimestamp"):
        return Trouble(f"its {words} has not ended yet")
    if not late:
        return Trouble(
            f"its {words} is still ending, and has time until {meta['deletionTimestamp']}"
        )

    remedy = f"if nothing of it runs: {_force_command(meta)}"
    if node:
        remedy = f"look at the node; if it is gone for good: {_force_command(meta)}"

    return Trouble(
        f"its {words} should have ended by {meta['deletionTimestamp']} and nobody says that it "
        f"has; {remedy}"
    )


def _force_command(meta: Mapping[str, Any]) -> str:
    return f"kubectl delete pod {meta['name']} --namespace {meta['namespace']} --force"


def is_late(all_pods: Sequence[Pod], now: datetime) -> bool:
    """Return whether a pod is long past its time, so that people must look."""
    return any(_is_overdue(pod, now) for pod in active_pods(all_pods))


def find_hindrance(all_pods: Sequence[Pod], now: datetime) -> Trouble | None:
    """Return what keeps the pods of a Job from starting or from ending.

    First what cannot heal by itself.
    """
    there = [pod for pod in active_pods(all_pods) if not pod["metadata"].get("deletionTimestamp")]
    hopeless = pods.describe_hindrance([_only_hopeless(pod) for pod in there])
    if hopeless:
        return Trouble(hopeless, hopeless=True)

    words = pods.describe_hindrance(there) or _first_sidecar(there)
    if words:
        return Trouble(words)

    return find_ending_trouble(all_pods, now) if is_late(all_pods, now) else None


def _first_sidecar(there: Sequence[Pod]) -> str:
    return next(filter(None, map(_explain_sidecar, there)), "")


def _explain_sidecar(pod: Pod) -> str:
    """Return that the main container has ended, and another one keeps the pod from ending."""
    first = main_container(pod)
    # One that is started again keeps its pod by itself.
    if not first.ended or pod["spec"].get("restartPolicy") not in (None, "Never"):
        return ""

    running = _running_containers(_statuses_by_name(pod, "containerStatuses"))
    sidecars = _running_containers(_statuses_by_name(pod, "initContainerStatuses"))
    waited = [name for name in _init_containers(pod, sidecars=True) if name in sidecars]
    ended = f"container {first.container} has ended (exit code {first.ended.get('exitCode')})"

    if running:
        remedy = "let it end by itself, or make it an init container with restartPolicy Always"
        return (
            f"{ended}, but container {running[0]} still runs, so pod {pod['metadata']['name']} "
            f"does not end; {remedy}"
        )

    return f"{ended}, and sidecar {waited[0]} is still ending" if waited else ""


def _running_containers(statuses: Mapping[str, Status]) -> list[str]:
    return [name for name, status in statuses.items() if "running" in status.get("state", {})]


def _only_hopeless(pod: Pod) -> dict[str, Any]:
    """Return a pod with those of its containers alone that can never start as they are."""
    status = pod.get("status", {})
    hopeless = {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        hopeless[kind] = [entry for entry in status.get(kind, []) if _is_hopeless(entry)]
    return {**pod, "status": hopeless}


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
    for container in pod["spec"].get("initContainers", []):
        if (container.get("restartPolicy") == "Always") == sidecars:
            yield container["name"]


def _statuses_by_name(pod: Pod, kind: str) -> dict[str, Status]:
    return {status["name"]: status for status in pod.get("status", {}).get(kind) or []}


def _ended_state(status: Status) -> Mapping[str, Any]:
    """Return how a container ended; where it was started again, how it ended before."""
    for place in ("state", "lastState"):
        ended: Mapping[str, Any] = status.get(place, {}).get("terminated", {})
        if ended:
            return ended
    return {}
