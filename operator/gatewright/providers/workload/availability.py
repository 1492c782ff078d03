"""Whether what was deployed runs: the target's own availability, a guard that nobody has to write.

    none of the wanted replicas is available                         trouble, now
    a pod of the current template crashes, or cannot start           trouble, now
    one has restarted, and runs for less than the window             trouble, when it started
    one that was ready is not ready for longer than half a window    trouble, now
    no pod is wanted any more, though some were                      trouble, now
    fresh pods that are starting or wait for room, while others      none: that is an autoscaler at work; until the
    are available                                                    time that a rollout has for its progress is over

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
_PODS = 50
"""Pods that are kept of those that have something to say: of more, those that are not ready."""


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
    found: tuple[Pod, ...]
    stray: str
    ready: tuple[datetime, datetime] | None
    """When the first and the last of those that are ready became so."""
    at: float


_looks: FairMemory[str, _Look] = FairMemory(_MAX_PODS_REMEMBERED)
"""By UID."""


async def check_health(
    cluster: Cluster,
    namespace: str,
    found: Mapping[str, Any],
    window: float,
    now: datetime,
    differs: Callable[[Pod], str] = lambda _: "",
    closely: bool = False,
) -> Health:
    """Whether a workload of which pods are wanted runs; `differs` says what a pod has instead of
    what is wanted. Raises Retryable, Permanent."""
    wanted, serving = found["spec"].get("replicas", 1), rollout.available_replicas(found)
    look = await _look_at_pods(cluster, namespace, found, serving < wanted, differs, closely)
    looked = look.found
    ailments = [
        item
        for pod in looked
        for item in _ailments_of(pod, found, timedelta(seconds=window), now, serving)
    ]
    if serving == 0:
        words = f"none of {wanted} replicas is available"
        ailments.insert(0, Ailment(words, _unavailable_since(found, looked) or now))
    first, last_ready = look.ready or (None, None)
    if not ailments:
        return Health(stray=look.stray, ready_at=last_ready, ready_since=first)
    ends = [item.ended for item in ailments]
    last = now if None in ends else max(end for end in ends if end is not None)
    said = [item.words for item in ailments]
    more = len(said) - MAX_AILMENTS_IN_MESSAGE
    text = "; ".join(said[:MAX_AILMENTS_IN_MESSAGE]) + (f"; and {more} more" if more > 0 else "")
    return Health(
        f"{rollout.title_of(found)}: {text}"[:700],
        min(item.since for item in ailments),
        last,
        look.stray,
        last_ready,
        first,
    )


def record_complete(found: Mapping[str, Any]) -> None:
    """A rollout was seen to be complete: all its pods are available, as this state of the object
    says."""
    _keep_look(found, _Look(_version_of(found), (), "", None, -math.inf))


async def _look_at_pods(
    cluster: Cluster,
    namespace: str,
    found: Mapping[str, Any],
    unusual: bool,
    differs: Callable[[Pod], str],
    closely: bool,
) -> _Look:
    """The pods that have something to say, as far as they have to be asked. Raises Retryable,
    Permanent."""
    known = _looks.get(str(found["metadata"]["uid"]))
    if known is not None and known.version == _version_of(found):
        age = time.monotonic() - known.at
        if age < (CLOSE_LOOK_INTERVAL_S if closely else LOOK_INTERVAL_S) or not (
            unusual or closely
        ):
            return known
    every = await owned.list_pods(cluster, namespace, found)
    edited = (pod for pod in every if _may_be_edited(pod) and not pods.is_leaving(pod))
    stray = next(
        (f"pod {pod['metadata']['name']} {words}" for pod in edited if (words := differs(pod))), ""
    )
    listed = owned.current_pods(found, every)
    times = [
        at for pod in listed if pods.is_ready(pod) and (at := pods.ready_since(pod)) is not None
    ]
    ready = (min(times), max(times)) if times else None
    speaking = sorted((pod for pod in listed if _says_something(pod)), key=pods.is_ready)
    seen = tuple(_kept_part(pod) for pod in speaking[:_PODS])
    return _keep_look(found, _Look(_version_of(found), seen, stray, ready, time.monotonic()))


def _keep_look(found: Mapping[str, Any], look: _Look) -> _Look:
    uid = str(found["metadata"]["uid"])
    _looks.put(str(found["metadata"].get("namespace", "")), uid, look, 1 + len(look.found))
    return look


def _version_of(found: Mapping[str, Any]) -> str:
    return str(found["metadata"].get("resourceVersion"))


def _says_something(pod: Pod) -> bool:
    return not pods.is_ready(pod) or any(
        (item.get("lastState") or {}).get("terminated") for item in pods.container_statuses(pod)
    )


def _may_be_edited(pod: Pod) -> bool:
    """Whether others may have changed an image in place: somebody has set one since the pod was
    made, or a container was started anew for it. What a webhook makes of a pod is so from its first
    generation on; a resize or an ephemeral container sets no image."""
    if pod["metadata"].get("generation", 1) <= 1:
        return False
    return _is_image_set_later(pod) or any(
        item.get("restartCount") for item in pods.container_statuses(pod)
    )


def _is_image_set_later(pod: Pod) -> bool:
    """What managed fields tell, at once: the kubelet takes seconds to start a container anew."""
    made = str(pod["metadata"].get("creationTimestamp", ""))
    for entry in pod["metadata"].get("managedFields") or ():
        spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        groups = (spec.get(f"f:{group}") or {} for group in CONTAINER_GROUPS)
        if (
            any("f:image" in item for group in groups for item in group.values())
            and str(entry.get("time", "")) > made
        ):
            return True
    return False


def _kept_part(pod: Pod) -> Pod:
    """There may be thousands."""
    return {"metadata": {"name": pod["metadata"]["name"]}, "status": pod.get("status") or {}}


# --------------------------------------------------------------------------------------------------
# What a pod says


def _ailments_of(
    pod: Pod, found: Mapping[str, Any], window: timedelta, now: datetime, serving: int
) -> Iterator[Ailment]:
    """What is wrong with a pod, if anything: one thing, what its containers say first."""
    said = [
        *_container_ailments(pod, "initContainerStatuses", window, now),
        *_container_ailments(pod, "containerStatuses", window, now),
    ]
    said = sorted(said, key=lambda item: item.ended is not None)  # what lasts goes first
    yield from said[:1] or _unready_ailments(pod, found, window, now, serving)


def _container_ailments(
    pod: Pod, group: str, window: timedelta, now: datetime
) -> Iterator[Ailment]:
    # It was replaced by another.
    over = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    for status in (pod.get("status") or {}).get(group) or []:
        state, name = (
            status.get("state") or {},
            f"container {status['name']} of pod {pod['metadata']['name']}",
        )
        last = (status.get("lastState") or {}).get("terminated")
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        done = ended is not None and group == "initContainerStatuses" and not ended.get("exitCode")
        if waiting.get("reason") in pods.STUCK_REASONS:
            words = f"{name}: {pods.STUCK_REASONS[waiting['reason']]} ({waiting['reason']})"
            detail = (
                _describe_restarts(status, last)
                if last
                else str(waiting.get("message") or "")[:200]
            )
            since = min(
                (
                    moment
                    for moment in (_ended_at(last), pods.ready_since(pod))
                    if moment is not None
                ),
                default=now,
            )
            yield Ailment(f"{words}, {detail}" if detail else words, since)
        elif ended is not None and not done and (not over or _is_recent(ended, window, now)):
            yield Ailment(
                f"{name} {_describe_end(ended)}",
                _ended_at(ended) or now,
                (_ended_at(ended) or now) if over else None,
            )
        elif last and not done:
            # The kubelet waits ever longer before it starts it again: what counts is for how long
            # it has run since.
            again = (
                pods.parse_time((state.get("running") or {}).get("startedAt"))
                or _ended_at(last)
                or now
            )
            if now - again <= window:
                yield Ailment(
                    f"{name} {_describe_restarts(status, last)}", _ended_at(last) or now, again
                )


def _unready_ailments(
    pod: Pod, found: Mapping[str, Any], window: timedelta, now: datetime, serving: int
) -> Iterator[Ailment]:
    """A pod that runs and is not ready, or waits for room while nobody else serves."""
    status = pod.get("status") or {}
    name = f"pod {pod['metadata']['name']}"
    if status.get("phase") == "Pending" and serving == 0:
        said = pods.find_hindrance_of([pod])
        if said is not None:
            yield Ailment(said.message, pods.ready_since(pod) or now)
    since = pods.ready_since(pod)
    if status.get("phase") != "Running" or pods.is_ready(pod) or since is None:
        return
    deadline = timedelta(
        seconds=found["spec"].get("progressDeadlineSeconds", DEFAULT_PROGRESS_DEADLINE_S)
    )
    if now - since > (window / 2 if _was_ready(pod) else deadline):
        yield Ailment(f"{name} is not ready since {_time_text(since)}", since)


def _was_ready(pod: Pod) -> bool:
    """Whether a pod that is not ready was so before: its condition has changed since it began."""
    since, began = (
        pods.ready_since(pod),
        pods.parse_time((pod.get("status") or {}).get("startTime")),
    )
    return since is not None and began is not None and since - began > CLOCK_TOLERANCE


def _unavailable_since(found: Mapping[str, Any], looked: Sequence[Pod]) -> datetime | None:
    """When the last replica stopped being available, as far as that is known."""
    conditions = (found.get("status") or {}).get("conditions") or []
    known = [
        pods.parse_time(item.get("lastTransitionTime"))
        for item in conditions
        if item["type"] == "Available" and item.get("status") == "False"
    ]
    known += [pods.ready_since(pod) for pod in looked if _was_ready(pod)]
    return max((moment for moment in known if moment is not None), default=None)


def _is_recent(ended: Mapping[str, Any], window: timedelta, now: datetime) -> bool:
    moment = _ended_at(ended)
    return moment is None or now - moment <= window


def _ended_at(ended: Mapping[str, Any] | None) -> datetime | None:
    return pods.parse_time(ended.get("finishedAt")) if ended else None


def _describe_restarts(status: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    count = int(status.get("restartCount", 1)) or 1
    return f"restarted {count} time{'s' if count > 1 else ''}; it last {_describe_end(last)}"


def _describe_end(ended: Mapping[str, Any]) -> str:
    """How a container ended: `ended with exit code 137 (OOMKilled) at 2026-01-01T10:00:00Z`."""
    moment = _ended_at(ended)
    return pods.describe_end(ended) + (f" at {_time_text(moment)}" if moment else "")


def _time_text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
