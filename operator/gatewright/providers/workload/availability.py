"""Whether what was deployed runs: the target's own availability, a guard that nobody has to write.

    none of the wanted replicas is available                        trouble, now
    a pod of the current template crashes, or cannot start          trouble, now
    one has restarted, and runs for less than the window            trouble, when it started
    one that was ready is not ready for longer than half a window   trouble, now
    no pod is wanted any more, though some were                     trouble, now
    fresh pods are starting or wait for room, others are available  none: an autoscaler at work

The last is no trouble only until the time that a rollout has for its progress is over.

Pods are listed only where there may be something to see. The cheap hint is the object's
resourceVersion: a pod that crashes, or is not ready for a moment, makes its controller count anew
and write the status. So an object whose counters are good, and which has not been written since its
pods were last seen to be good (or its rollout to be complete), has had no crash that anybody
noticed; it costs no request. One that was written again is looked at once, even if its counters are
good already: a restarted container tells for itself when it ended. Where an end hangs on it, a
promotion or a rollback that is called done, pods are looked at all the same: a crash between two
looks of their controller leaves no trace in it. What is kept of that here can be lost at any moment
(a restart): it costs one request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gatewright.core.fair_memory import FairMemory
from gatewright.ports import Cluster
from gatewright.providers.common.context import ContextPart
from gatewright.providers.workload import owned, pods, rollout
from gatewright.providers.workload.pods import Pod
from gatewright.providers.workload.template import CONTAINER_GROUPS

LOOK_INTERVAL_S = 3.0
"""Seconds for which what pods have said is believed while something is wrong and nothing has been
written."""
CLOSE_LOOK_INTERVAL_S = 1.0
"""The same, where an end hangs on it."""
DEFAULT_PROGRESS_DEADLINE_S = 600
"""Seconds that a rollout has for its progress where it says nothing else; a StatefulSet never
does."""
MAX_AILMENTS_IN_MESSAGE = 2
"""Pods that a message names; of more only the number."""
CLOCK_TOLERANCE = timedelta(seconds=2)
"""A pod that was never ready has not been ready since its very beginning, within the precision of
these times."""
_MAX_PODS_REMEMBERED = 8192
"""Looks that are kept, and the pods that they are about, together; no namespace drives out those of
another."""
_MAX_SPEAKING_PODS = 50
"""Pods that are kept of those that have something to say: of more, those that are not ready."""
_MAX_MESSAGE_LENGTH = 700
_MAX_DETAIL_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Ailment:
    """What is wrong with a pod."""

    words: str
    since: datetime
    """When it began, as far as that is known."""
    ended: datetime | None = None
    """When it was over; None while it lasts."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a workload runs: what is wrong, since when, and when it was so last."""

    trouble: str = ""
    since: datetime | None = None
    at: datetime | None = None
    stray: str = ""
    """A pod that others have made run something else, and what."""
    ready_at: datetime | None = None
    """When the last pod became ready, where pods were asked."""
    ready_since: datetime | None = None
    """The same of the first one: since when anybody has been there all the time."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What the pods of one state of an object said, and when."""

    version: str
    speaking: tuple[Pod, ...]
    """Pods that have something to say."""
    stray: str
    ready: tuple[datetime, datetime] | None
    """When the first and the last of those that are ready became so."""
    at: float


_looks = ContextPart(lambda: FairMemory[str, _Look](_MAX_PODS_REMEMBERED))
"""By UID."""


async def check_health(
    cluster: Cluster,
    namespace: str,
    workload: Mapping[str, Any],
    window: float,
    now: datetime,
    differs: Callable[[Pod], str] = lambda _: "",
    closely: bool = False,
) -> Health:
    """Return whether a workload of which pods are wanted runs.

    `differs` says what a pod has instead of what is wanted. Raises Retryable, Permanent.
    """
    replicas, serving = workload["spec"].get("replicas", 1), rollout.available_replicas(workload)
    look = await _look_at_pods(cluster, namespace, workload, serving < replicas, differs, closely)

    ailments: list[Ailment] = []
    for pod in look.speaking:
        ailments += _ailments_of(pod, workload, timedelta(seconds=window), now, serving)
    if serving == 0:
        since = _unavailable_since(workload, look.speaking) or now
        ailments.insert(0, Ailment(f"none of {replicas} replicas is available", since))

    first_ready, last_ready = look.ready or (None, None)
    if not ailments:
        return Health(stray=look.stray, ready_at=last_ready, ready_since=first_ready)

    message = f"{rollout.title_of(workload)}: {_describe_ailments(ailments)}"
    return Health(
        message[:_MAX_MESSAGE_LENGTH],
        min(ailment.since for ailment in ailments),
        _last_troubled_at(ailments, now),
        look.stray,
        last_ready,
        first_ready,
    )


def _describe_ailments(ailments: Sequence[Ailment]) -> str:
    named = "; ".join(ailment.words for ailment in ailments[:MAX_AILMENTS_IN_MESSAGE])
    more = len(ailments) - MAX_AILMENTS_IN_MESSAGE
    return f"{named}; and {more} more" if more > 0 else named


def _last_troubled_at(ailments: Sequence[Ailment], now: datetime) -> datetime:
    """Return when the last of these was over; now, while one lasts."""
    last = ailments[0].ended or now
    for ailment in ailments:
        if ailment.ended is None:
            return now
        last = max(last, ailment.ended)
    return last


def record_complete(workload: Mapping[str, Any]) -> None:
    """Record that a rollout was seen to be complete: all its pods are available, as this state of
    the object says."""
    _keep_look(workload, _Look(_version_of(workload), (), "", None, -math.inf))


async def _look_at_pods(
    cluster: Cluster,
    namespace: str,
    workload: Mapping[str, Any],
    unusual: bool,
    differs: Callable[[Pod], str],
    closely: bool,
) -> _Look:
    """Return the pods that have something to say, as far as they have to be asked.

    Raises Retryable, Permanent.
    """
    version = _version_of(workload)
    remembered = _looks().get(str(workload["metadata"]["uid"]))
    if remembered is not None and remembered.version == version:
        age = time.monotonic() - remembered.at
        is_fresh = age < (CLOSE_LOOK_INTERVAL_S if closely else LOOK_INTERVAL_S)
        # A pod that crashes makes its controller write the status: nothing was written.
        if is_fresh or not (unusual or closely):
            return remembered

    every = await owned.list_pods(cluster, namespace, workload)
    current = owned.current_pods(workload, every)
    speaking = sorted((pod for pod in current if _says_something(pod)), key=pods.is_ready)
    kept_parts = tuple(_kept_part(pod) for pod in speaking[:_MAX_SPEAKING_PODS])

    look = _Look(
        version, kept_parts, _first_stray(every, differs), _ready_span(current), time.monotonic()
    )
    return _keep_look(workload, look)


def _first_stray(every: Sequence[Pod], differs: Callable[[Pod], str]) -> str:
    """Name the first pod that others have made run something else; empty where there is none."""
    for pod in every:
        # Only such pods are compared: there may be thousands.
        if not _may_be_edited(pod) or pods.is_leaving(pod):
            continue
        instead = differs(pod)
        if instead:
            return f"pod {pod['metadata']['name']} {instead}"
    return ""


def _ready_span(current: Sequence[Pod]) -> tuple[datetime, datetime] | None:
    """Return when the first and the last of the pods that are ready became so."""
    moments = [pods.ready_since(pod) for pod in current if pods.is_ready(pod)]
    told = [moment for moment in moments if moment is not None]
    return (min(told), max(told)) if told else None


def _keep_look(workload: Mapping[str, Any], look: _Look) -> _Look:
    metadata = workload["metadata"]
    size = 1 + len(look.speaking)
    _looks().put(str(metadata.get("namespace", "")), str(metadata["uid"]), look, size)
    return look


def _version_of(workload: Mapping[str, Any]) -> str:
    return str(workload["metadata"].get("resourceVersion"))


def _says_something(pod: Pod) -> bool:
    return not pods.is_ready(pod) or any(
        (status.get("lastState") or {}).get("terminated") for status in pods.container_statuses(pod)
    )


def _may_be_edited(pod: Pod) -> bool:
    """Return whether others may have changed an image in place.

    Somebody has set one since the pod was made, or a container was started anew for it. What a
    webhook makes of a pod is so from its first generation on; a resize or an ephemeral container
    sets no image.
    """
    if pod["metadata"].get("generation", 1) <= 1:
        return False
    return _is_image_set_later(pod) or any(
        status.get("restartCount") for status in pods.container_statuses(pod)
    )


def _is_image_set_later(pod: Pod) -> bool:
    """Return what managed fields tell, at once: the kubelet takes seconds to start a container
    anew."""
    made = str(pod["metadata"].get("creationTimestamp", ""))
    for entry in pod["metadata"].get("managedFields") or ():
        if str(entry.get("time", "")) > made and _has_set_image(entry):
            return True
    return False


def _has_set_image(entry: Mapping[str, Any]) -> bool:
    spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    for group in CONTAINER_GROUPS:
        containers = spec.get(f"f:{group}") or {}
        if any("f:image" in fields for fields in containers.values()):
            return True
    return False


def _kept_part(pod: Pod) -> Pod:
    """Return what is kept of a pod; there may be thousands."""
    return {"metadata": {"name": pod["metadata"]["name"]}, "status": pod.get("status") or {}}


# --------------------------------------------------------------------------------------------------
# What a pod says


def _ailments_of(
    pod: Pod, workload: Mapping[str, Any], window: timedelta, now: datetime, serving: int
) -> Iterator[Ailment]:
    """Yield what is wrong with a pod, if anything: one thing, what its containers say first."""
    ailments = [
        *_container_ailments(pod, "initContainerStatuses", window, now),
        *_container_ailments(pod, "containerStatuses", window, now),
    ]
    # What lasts goes first.
    ailments.sort(key=lambda ailment: ailment.ended is not None)
    yield from ailments[:1] or _unready_ailments(pod, workload, window, now, serving)


def _container_ailments(
    pod: Pod, group: str, window: timedelta, now: datetime
) -> Iterator[Ailment]:
    # It was replaced by another.
    is_over = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    for status in (pod.get("status") or {}).get(group) or []:
        name = f"container {status['name']} of pod {pod['metadata']['name']}"
        state = status.get("state") or {}
        last = (status.get("lastState") or {}).get("terminated")
        waiting, ended = state.get("waiting") or {}, state.get("terminated")

        # An init container that has ended well has done what it is for.
        is_init = group == "initContainerStatuses"
        is_done = ended is not None and is_init and not ended.get("exitCode")

        if waiting.get("reason") in pods.STUCK_REASONS:
            yield _stuck_ailment(name, pod, status, now)
        elif ended is not None and not is_done and (not is_over or _is_recent(ended, window, now)):
            at = _ended_at(ended) or now
            yield Ailment(f"{name} {_describe_end(ended)}", at, at if is_over else None)
        elif last and not is_done:
            # The kubelet waits ever longer before it starts it again: what counts is for how long
            # it has run since.
            started = pods.parse_time((state.get("running") or {}).get("startedAt"))
            again = started or _ended_at(last) or now
            if now - again <= window:
                words = f"{name} {_describe_restarts(status, last)}"
                yield Ailment(words, _ended_at(last) or now, again)


def _stuck_ailment(name: str, pod: Pod, status: Mapping[str, Any], now: datetime) -> Ailment:
    """Return what is wrong with a container that waits and does not start."""
    waiting = status["state"]["waiting"]
    last = (status.get("lastState") or {}).get("terminated")
    detail = str(waiting.get("message") or "")[:_MAX_DETAIL_LENGTH]
    # How it ended says more than for how long the kubelet waits.
    if last:
        detail = _describe_restarts(status, last)

    moments = (_ended_at(last), pods.ready_since(pod))
    since = min((moment for moment in moments if moment is not None), default=now)

    words = f"{name}: {pods.STUCK_REASONS[waiting['reason']]} ({waiting['reason']})"
    return Ailment(f"{words}, {detail}" if detail else words, since)


def _unready_ailments(
    pod: Pod, workload: Mapping[str, Any], window: timedelta, now: datetime, serving: int
) -> Iterator[Ailment]:
    """Yield what is wrong with a pod that runs and is not ready, or waits for room while nobody
    else serves."""
    status = pod.get("status") or {}
    if status.get("phase") == "Pending" and serving == 0:
        hindrance = pods.find_hindrance_of([pod])
        if hindrance is not None:
            yield Ailment(hindrance.message, pods.ready_since(pod) or now)

    since = pods.ready_since(pod)
    if status.get("phase") != "Running" or pods.is_ready(pod) or since is None:
        return

    # A pod that was never ready may still be starting: it has the time of a rollout.
    deadline_s = workload["spec"].get("progressDeadlineSeconds", DEFAULT_PROGRESS_DEADLINE_S)
    patience = window / 2 if _was_ready(pod) else timedelta(seconds=deadline_s)
    if now - since > patience:
        name = pod["metadata"]["name"]
        yield Ailment(f"pod {name} is not ready since {_time_text(since)}", since)


def _was_ready(pod: Pod) -> bool:
    """Return whether a pod that is not ready was so before: its condition has changed since it
    began."""
    since = pods.ready_since(pod)
    began = pods.parse_time((pod.get("status") or {}).get("startTime"))
    return since is not None and began is not None and since - began > CLOCK_TOLERANCE


def _unavailable_since(workload: Mapping[str, Any], listed: Sequence[Pod]) -> datetime | None:
    """Return when the last replica stopped being available, as far as that is known."""
    conditions = (workload.get("status") or {}).get("conditions") or []
    moments = [
        pods.parse_time(condition.get("lastTransitionTime"))
        for condition in conditions
        if condition["type"] == "Available" and condition.get("status") == "False"
    ]
    moments += [pods.ready_since(pod) for pod in listed if _was_ready(pod)]
    return max((moment for moment in moments if moment is not None), default=None)


def _is_recent(ended: Mapping[str, Any], window: timedelta, now: datetime) -> bool:
    moment = _ended_at(ended)
    return moment is None or now - moment <= window


def _ended_at(ended: Mapping[str, Any] | None) -> datetime | None:
    return pods.parse_time(ended.get("finishedAt")) if ended else None


def _describe_restarts(status: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    count = int(status.get("restartCount", 1)) or 1
    return f"restarted {count} time{'s' if count > 1 else ''}; it last {_describe_end(last)}"


def _describe_end(ended: Mapping[str, Any]) -> str:
    """Say how a container ended: `ended with exit code 137 (OOMKilled) at 2026-01-01T10:00:00Z`."""
    moment = _ended_at(ended)
    return pods.describe_end(ended) + (f" at {_time_text(moment)}" if moment else "")


def _time_text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
