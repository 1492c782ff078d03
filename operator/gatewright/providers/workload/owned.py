"""The pods of a workload, and which of them have the template that it has now.

A selector may match pods of others too (a Job whose pods have the same label), so that the owner
decides. A StatefulSet says which revision is the current one. A Deployment does not: its pods have
the current template where everything of it is theirs; what webhooks have added to a pod does no
harm. Where nothing fits (a webhook has rewritten images) the newest do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gatewright.ports import Cluster, Trouble
from gatewright.providers.workload import pods
from gatewright.providers.workload.pods import Pod
from gatewright.providers.workload.template import (
    CONTAINER_GROUPS,
    MAX_VARIABLES,
    explain_too_large,
)

CREATION_REASONS = ("FailedCreate", "SuccessfulCreate", "SuccessfulDelete")
"""Reasons of Events by which a controller tells how it fares with its pods; the newest one
counts."""
MOUNT_REASONS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume")
"""Reasons of Events that tell what keeps a kubelet from starting containers."""
USED_FIELDS = ("reason", "message", "series", "lastTimestamp", "eventTime")
"""Fields of an Event that are kept."""
_SYMBOLS = {"In": "in", "NotIn": "notin"}
_MAX_MESSAGE_LENGTH = 500
_MAX_HASHES = 10
"""Versions whose pods are compared with a template, the latest: more are hardly ever there at
once."""
_OF_A_HASH = 5
"""Pods of one version that are compared: they are made alike."""


async def list_pods(cluster: Cluster, namespace: str, found: Mapping[str, Any]) -> list[Pod]:
    """The pods of a workload, those of every version. Raises Retryable, Permanent."""
    selector = selector_of(found)
    if not selector:
        return []

    def own(pod: dict[str, Any]) -> dict[str, Any] | None:
        return pod if _is_of(pod, found) else None  # its whole spec is compared

    return list(await cluster.list(f"/api/v1/namespaces/{namespace}/pods", selector, keep=own))


def selector_of(found: Mapping[str, Any]) -> str:
    """A workload's selector as a label selector."""
    selector = found["spec"].get("selector") or {}
    parts = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]
    for item in selector.get("matchExpressions") or []:
        key, kind, values = item["key"], item["operator"], ",".join(item.get("values") or [])
        if kind in _SYMBOLS:
            parts.append(f"{key} {_SYMBOLS[kind]} ({values})")
        else:
            parts.append(key if kind == "Exists" else f"!{key}")
    return ",".join(parts)


def current_pods(found: Mapping[str, Any], listed: Sequence[Pod]) -> list[Pod]:
    """Those of the template that the workload has now, without those that are going away."""
    there = [pod for pod in listed if not pods.is_leaving(pod)]
    if found.get("kind") == "StatefulSet":
        revision = (found.get("status") or {}).get("updateRevision")
        return [pod for pod in there if revision is None or pods.hash_of(pod) == revision]
    fitting = _fitting_hashes(found["spec"]["template"], there)
    return pods.newest_pods([pod for pod in there if pods.hash_of(pod) in fitting] or there)


async def find_creation_trouble(
    cluster: Cluster, namespace: str, found: Mapping[str, Any]
) -> Trouble | None:
    """Why a controller creates no pods, from its Events; a StatefulSet has no condition that says
    so. Raises Retryable, Permanent."""
    events = await _list_events(cluster, namespace, found, str(found.get("kind", "")))
    newest = max(
        (event for event in events if event.get("reason") in CREATION_REASONS),
        key=_time_of,
        default=None,
    )
    if newest is None or newest["reason"] != "FailedCreate":
        return None
    words = (
        f"{found.get('kind')} {found['metadata']['name']} cannot create pods: "
        f"{newest.get('message', '')}"
    )
    return Trouble(words[:_MAX_MESSAGE_LENGTH])


async def find_mount_trouble(
    cluster: Cluster, namespace: str, listed: Iterable[Pod]
) -> Trouble | None:
    """What keeps the first pod whose containers are still being created from starting, from its
    Events. Raises Retryable, Permanent."""
    for pod in listed:
        if any(
            ((item.get("state") or {}).get("waiting") or {}).get("reason") in _CREATING
            for item in _main_statuses(pod)
        ):
            events = await _list_events(cluster, namespace, pod, "Pod")
            newest = max(
                (event for event in events if event.get("reason") in MOUNT_REASONS),
                key=_time_of,
                default=None,
            )
            if newest is None:
                return None
            words = (
                f"pod {pod['metadata']['name']} cannot start ({newest['reason']}): "
                f"{newest.get('message', '')}"
            )
            return Trouble(words[:_MAX_MESSAGE_LENGTH])
    return None


_CREATING = ("ContainerCreating", "PodInitializing")


def _main_statuses(pod: Pod) -> Sequence[Mapping[str, Any]]:
    return (pod.get("status") or {}).get("containerStatuses") or []


async def _list_events(
    cluster: Cluster, namespace: str, found: Mapping[str, Any], kind: str
) -> list[dict[str, Any]]:
    name, uid = found["metadata"]["name"], found["metadata"].get("uid")
    fields = f"involvedObject.name={name},involvedObject.kind={kind}"

    def about(event: dict[str, Any]) -> dict[str, Any] | None:
        if (event.get("involvedObject") or {}).get("uid") not in (uid, None):
            return None
        return {name: event[name] for name in USED_FIELDS if name in event}

    return await cluster.list(f"/api/v1/namespaces/{namespace}/events", fields=fields, keep=about)


def _time_of(event: Mapping[str, Any]) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")


def _is_of(pod: Pod, found: Mapping[str, Any]) -> bool:
    """Whether a pod's controller is the workload, or one of its ReplicaSets."""
    owner = next(
        (item for item in pod["metadata"].get("ownerReferences") or [] if item.get("controller")),
        None,
    )
    if owner is None:
        return False
    if found.get("kind") == "StatefulSet":
        return bool(owner.get("uid") == found["metadata"]["uid"])
    name = f"{found['metadata']['name']}-{pods.hash_of(pod)}"
    return bool(owner.get("kind") == "ReplicaSet" and owner.get("name") == name)


def _fitting_hashes(template: Mapping[str, Any], there: Sequence[Pod]) -> set[str | None]:
    """Hashes of the pods that have everything of a template, as far as versions can differ. A pod
    is large, and there are thousands: few of each hash are compared, and those of the hashes that
    came last. Of a template that is not deployed for its size none are."""
    if explain_too_large(template):
        return set()
    wanted = _WantedPod.of(template)
    by_hash: dict[str | None, list[Pod]] = {}
    for pod in there:
        by_hash.setdefault(pods.hash_of(pod), []).append(pod)
    latest = sorted(
        by_hash, key=lambda name: max(pods.created_at(pod) for pod in by_hash[name]), reverse=True
    )[:_MAX_HASHES]
    return {name for name in latest if any(wanted.fits(pod) for pod in by_hash[name][:_OF_A_HASH])}


@dataclass(frozen=True, slots=True)
class _WantedPod:
    """What a pod of a template has at least."""

    marks: Mapping[str, Mapping[str, str]]
    """Labels and annotations."""
    containers: Mapping[tuple[str, str], Mapping[str, Any]]
    """By group and name."""
    variables: Mapping[tuple[str, str], frozenset[bytes]]
    """By group and name: each as one text."""

    @staticmethod
    def of(template: Mapping[str, Any]) -> _WantedPod:
        metadata, containers = (
            template.get("metadata") or {},
            _containers_by_place(template["spec"]),
        )
        variables = {place: _variable_texts(item.get("env")) for place, item in containers.items()}
        return _WantedPod(
            {key: metadata.get(key) or {} for key in ("labels", "annotations")},
            containers,
            variables,
        )

    def fits(self, pod: Pod) -> bool:
        """Whether all of it is a pod's."""
        own = pod["metadata"]
        if not all(
            (own.get(key) or {}).items() >= marks.items() for key, marks in self.marks.items()
        ):
            return False
        have = _containers_by_place(pod.get("spec") or {})
        return all(
            place in have and self._has_container(place, have[place]) for place in self.containers
        )

    def _has_container(self, place: tuple[str, str], item: Mapping[str, Any]) -> bool:
        wanted, env = self.containers[place], item.get("env") or []
        if item.get("image") != wanted.get("image"):
            return False
        if env == (wanted.get("env") or []):
            return True
        # what webhooks add to a container is no more than a template may have
        return len(env) <= 2 * MAX_VARIABLES and self.variables[place] <= _variable_texts(env)


def _containers_by_place(spec: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {
        (group, item["name"]): item for group in CONTAINER_GROUPS for item in spec.get(group) or []
    }


def _variable_texts(env: Iterable[Mapping[str, Any]] | None) -> frozenset[bytes]:
    return frozenset(orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in env or ())
