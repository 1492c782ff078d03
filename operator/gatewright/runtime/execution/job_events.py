"""What Events say of a Job that gets no pod, or of a pod that does not start.

It is the one place where Kubernetes says it.

Events are words for people: they come late, are merged and forgotten. So none of them decides
anything, and one that something newer has overtaken is not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.core.text import masking
from gatewright.ports import Cluster, Permanent, Trouble
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution import job_pods
from gatewright.runtime.execution.job_pods import Pod

MAX_MESSAGE_LENGTH = 400
"""Characters of an Event that are repeated."""
USED_FIELDS = ("reason", "type", "series", "lastTimestamp", "eventTime")
"""Fields of an Event that are kept, besides its message."""
_PROGRESS_REASONS = ("Pulling",)
"""Reasons that tell what a pod waits for although nothing is wrong."""
_ENDING_REASONS = ("DeadlineExceeded", "BackoffLimitExceeded")
"""Reasons that only repeat the Job's own condition."""
Event = Mapping[str, Any]


async def find_hindrance(
    cluster: Cluster, job: Mapping[str, Any], all_pods: Sequence[Pod]
) -> Trouble | None:
    """Return why a Job has no pod that runs, as far as Events tell. Raises Retryable."""
    # A Job without a pod is told by its own Events, one with a pod by the pod's.
    running = job_pods.active_pods(all_pods)
    if not running:
        return await _explain_no_pod(cluster, job, all_pods)

    waiting = next((pod for pod in running if _is_waiting(pod)), None)
    if waiting is None:
        return None

    try:
        last = _last_event(await _list_events(cluster, "Pod", waiting))
    except Permanent:
        # Events only explain: nothing is held up by them.
        return None

    if last is None:
        return None
    if last.get("type") != "Warning" and last.get("reason") not in _PROGRESS_REASONS:
        return None

    return Trouble(f"pod {waiting['metadata']['name']} has not started yet: {_message_of(last)}")


async def find_refusal(cluster: Cluster, job: Mapping[str, Any]) -> Trouble | None:
    """Return why a Job gets no pod, if its newest Event says that. Raises Retryable, Permanent."""
    events = await _list_events(cluster, "Job", job)
    last = _last_event([event for event in events if event.get("reason") not in _ENDING_REASONS])
    if last is None or last.get("type") != "Warning":
        return None
    return Trouble(f"job {job['metadata']['name']} gets no pod: {_message_of(last)}")


async def _explain_no_pod(
    cluster: Cluster, job: Mapping[str, Any], all_pods: Sequence[Pod]
) -> Trouble | None:
    name = job["metadata"]["name"]

    try:
        refused = await find_refusal(cluster, job)
    except Permanent as error:
        return Trouble(f"job {name} has no pod that runs, and why cannot be read: {error}")

    if refused is not None or all_pods:
        return refused

    return Trouble(f"job {name} has no pod yet, and no Event says why")


async def _list_events(cluster: Cluster, kind: str, obj: Mapping[str, Any]) -> list[Event]:
    meta = obj["metadata"]
    fields = f"involvedObject.kind={kind},involvedObject.name={meta['name']}"

    def about(event: dict[str, Any]) -> dict[str, Any] | None:
        if event.get("involvedObject", {}).get("uid") != meta.get("uid"):
            return None
        kept = {name: event[name] for name in USED_FIELDS if name in event}
        return kept | {"message": str(event.get("message") or "")[: masking.MOST_TEXT_CHARS]}

    path = api_path("v1", "events", meta["namespace"])
    return list(await cluster.list(path, fields=fields, keep=about))


def _last_event(events: Sequence[Event]) -> Event | None:
    """Return the newest Event; of those of the same second the one of the highest rank."""
    return max(events, key=_second_and_rank, default=None)


def _second_and_rank(event: Event) -> tuple[str, int]:
    return _time_of(event)[:19], _rank_of(event)


def _rank_of(event: Event) -> int:
    """Return a warning's rank, which is the highest, or how late in a pod's life an Event comes."""
    first = ("Scheduled", *_PROGRESS_REASONS)
    if event.get("type") == "Warning":
        return len(first) + 1
    return first.index(event["reason"]) if event.get("reason") in first else len(first)


def _time_of(event: Event) -> str:
    """Return when it happened last, RFC 3339 in UTC."""
    times = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
    )
    return next((str(time) for time in times if time), "")


def _message_of(event: Event) -> str:
    message = str(event.get("message") or event.get("reason") or "")
    line = masking.join_lines(message[: masking.MOST_TEXT_CHARS].splitlines())
    return masking.keep_beginning(masking.mask_credentials(line), MAX_MESSAGE_LENGTH)


def _is_waiting(pod: Pod) -> bool:
    """Return whether a pod has a node, and no container of it has begun."""
    status = pod.get("status", {})
    containers = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    begun = any("waiting" not in (container.get("state") or {}) for container in containers)
    return status.get("phase") == "Pending" and bool(pod["spec"].get("nodeName")) and not begun
