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
_CREATING_REASONS = ("ContainerCreating", "PodInitializing")
_SYMBOLS = {"In": "in", "NotIn": "notin"}
_MAX_MESSAGE_LENGTH = 500
_MAX_HASHES = 10
"""Versions whose pods are compared with a template, the latest: more are hardly ever there at
once."""
_MAX_PODS_OF_A_HASH = 5
"""Pods of one version that are compared: they are made alike."""


async def list_pods(cluster: Cluster, namespace: str, workload: Mapping[str, Any]) -> list[Pod]:
    """List the pods of a workload, those of every version. Raises Retryable, Permanent."""
    selector = selector_of(workload)
    if not selector:
        return []

    def keep_own(pod: dict[str, Any]) -> dict[str, Any] | None:
        # All of it is kept: its whole spec is compared.
        return pod if _is_of(pod, workload) else None

    path = f"/api/v1/namespaces/{namespace}/pods"
    return list(await cluster.list(path, selector, keep=keep_own))


def selector_of(workload: Mapping[str, Any]) -> str:
    """Return a workload's selector as a label selector."""
    selector = workload["spec"].get("selector") or {}
    parts = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]

    for expression in selector.get("matchExpressions") or []:
        key, kind = expression["key"], expression["operator"]
        values = ",".join(expression.get("values") or [])
        if kind in _SYMBOLS:
            parts.append(f"{key} {_SYMBOLS[kind]} ({values})")
        else:
            parts.append(key if kind == "Exists" else f"!{key}")

    return ",".join(parts)


def current_pods(workload: Mapping[str, Any], listed: Sequence[Pod]) -> list[Pod]:
    """Return those of the template that the workload has now, without those that are going away."""
    staying = [pod for pod in listed if not pods.is_leaving(pod)]
    if workload.get("kind") == "StatefulSet":
        revision = (workload.get("status") or {}).get("updateRevision")
        return [pod for pod in staying if revision is None or pods.hash_of(pod) == revision]

    fitting_hashes = _fitting_hashes(workload["spec"]["template"], staying)
    fitting = [pod for pod in staying if pods.hash_of(pod) in fitting_hashes]
    # Where nothing fits, a webhook has rewritten images.
    return pods.newest_pods(fitting or staying)


async def find_creation_trouble(
    cluster: Cluster, namespace: str, workload: Mapping[str, Any]
) -> Trouble | None:
    """Say why a controller creates no pods, from its Events; a StatefulSet has no condition that
    says so. Raises Retryable, Permanent."""
    events = await _list_events(cluster, namespace, workload, str(workload.get("kind", "")))
    newest = _newest_event(events, CREATION_REASONS)
    # A pod that was created since says that it can again.
    if newest is None or newest["reason"] != "FailedCreate":
        return None

    title = f"{workload.get('kind')} {workload['metadata']['name']}"
    message = f"{title} cannot create pods: {newest.get('message', '')}"
    return Trouble(message[:_MAX_MESSAGE_LENGTH])


async def find_mount_trouble(
    cluster: Cluster, namespace: str, listed: Iterable[Pod]
) -> Trouble | None:
    """Say what keeps the first pod whose containers are still being created from starting, from its
    Events. Raises Retryable, Permanent."""
    creating = next((pod for pod in listed if _is_creating(pod)), None)
    if creating is None:
        return None

    events = await _list_events(cluster, namespace, creating, "Pod")
    newest = _newest_event(events, MOUNT_REASONS)
    if newest is None:
        return None

    title = f"pod {creating['metadata']['name']}"
    message = f"{title} cannot start ({newest['reason']}): {newest.get('message', '')}"
    return Trouble(message[:_MAX_MESSAGE_LENGTH])


def _is_creating(pod: Pod) -> bool:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _CREATING_REASONS:
            return True
    return False


def _newest_event(
    events: Sequence[dict[str, Any]], reasons: Sequence[str]
) -> dict[str, Any] | None:
    telling = (event for event in events if event.get("reason") in reasons)
    return max(telling, key=_time_of, default=None)


async def _list_events(
    cluster: Cluster, namespace: str, involved: Mapping[str, Any], kind: str
) -> list[dict[str, Any]]:
    name, uid = involved["metadata"]["name"], involved["metadata"].get("uid")
    fields = f"involvedObject.name={name},involvedObject.kind={kind}"

    def keep_part(event: dict[str, Any]) -> dict[str, Any] | None:
        # Another object had the same name before.
        if (event.get("involvedObject") or {}).get("uid") not in (uid, None):
            return None
        return {name: event[name] for name in USED_FIELDS if name in event}

    path = f"/api/v1/namespaces/{namespace}/events"
    return await cluster.list(path, fields=fields, keep=keep_part)


def _time_of(event: Mapping[str, Any]) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")


def _is_of(pod: Pod, workload: Mapping[str, Any]) -> bool:
    """Return whether a pod's controller is the workload, or one of its ReplicaSets."""
    owners = pod["metadata"].get("ownerReferences") or []
    controller = next((owner for owner in owners if owner.get("controller")), None)
    if controller is None:
        return False
    if workload.get("kind") == "StatefulSet":
        return bool(controller.get("uid") == workload["metadata"]["uid"])

    name = f"{workload['metadata']['name']}-{pods.hash_of(pod)}"
    return bool(controller.get("kind") == "ReplicaSet" and controller.get("name") == name)


def _fitting_hashes(template: Mapping[str, Any], listed: Sequence[Pod]) -> set[str | None]:
    """Return the hashes of the pods that have everything of a template, as far as versions can
    differ.

    A pod is large, and there are thousands: few of each hash are compared, and those of the hashes
    that came last. Of a template that is not deployed for its size none are.
    """
    if explain_too_large(template):
        return set()

    by_hash: dict[str | None, list[Pod]] = {}
    for pod in listed:
        by_hash.setdefault(pods.hash_of(pod), []).append(pod)

    def last_created(name: str | None) -> str:
        return max(pods.created_at(pod) for pod in by_hash[name])

    wanted_pod = _WantedPod.of(template)
    latest = sorted(by_hash, key=last_created, reverse=True)[:_MAX_HASHES]
    return {
        name
        for name in latest
        if any(wanted_pod.fits(pod) for pod in by_hash[name][:_MAX_PODS_OF_A_HASH])
    }


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
        metadata = template.get("metadata") or {}
        containers = _containers_by_place(template["spec"])
        return _WantedPod(
            {key: metadata.get(key) or {} for key in ("labels", "annotations")},
            containers,
            {
                place: _variable_texts(container.get("env"))
                for place, container in containers.items()
            },
        )

    def fits(self, pod: Pod) -> bool:
        """Return whether all of it is a pod's."""
        metadata = pod["metadata"]
        for key, marks in self.marks.items():
            if not (metadata.get(key) or {}).items() >= marks.items():
                return False

        containers = _containers_by_place(pod.get("spec") or {})
        return all(
            place in containers and self._has_container(place, containers[place])
            for place in self.containers
        )

    def _has_container(self, place: tuple[str, str], container: Mapping[str, Any]) -> bool:
        wanted_container, env = self.containers[place], container.get("env") or []
        if container.get("image") != wanted_container.get("image"):
            return False
        if env == (wanted_container.get("env") or []):
            return True

        # What webhooks add to a container is no more than a template may have.
        return len(env) <= 2 * MAX_VARIABLES and self.variables[place] <= _variable_texts(env)


def _containers_by_place(spec: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    by_place: dict[tuple[str, str], Mapping[str, Any]] = {}
    for group in CONTAINER_GROUPS:
        for container in spec.get(group) or []:
            by_place[group, container["name"]] = container
    return by_place


def _variable_texts(env: Iterable[Mapping[str, Any]] | None) -> frozenset[bytes]:
    return frozenset(orjson.dumps(variable, option=orjson.OPT_SORT_KEYS) for variable in env or ())
