"""The pods of a workload, and which of them have the template that it has now.

A selector may match pods of others too (a Job whose pods have the same label), so that the owner decides. A StatefulSet
says which revision is the current one. A Deployment does not: its pods have the current template where everything of it is
theirs; what webhooks have added to a pod does no harm. Where nothing fits (a webhook has rewritten images) the newest do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewright.ports import Cluster, Trouble
from gatewright.providers.targets import pods
from gatewright.providers.targets.pods import Pod
from gatewright.providers.targets.template import GROUPS

CREATED = ("FailedCreate", "SuccessfulCreate", "SuccessfulDelete")
"""Reasons of Events by which a controller tells how it fares with its pods; the newest one counts."""
MOUNTING = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume")
"""Reasons of Events that tell what keeps a kubelet from starting containers."""
_SYMBOLS = {"In": "in", "NotIn": "notin"}
_LONGEST = 500


async def pods_of(cluster: Cluster, namespace: str, found: Mapping[str, Any]) -> list[Pod]:
    """The pods of a workload, those of every version. Raises Retryable, Permanent."""
    selector = selector_of(found)
    if not selector:
        return []
    listed = await cluster.list(f"/api/v1/namespaces/{namespace}/pods", selector)
    return [pod for pod in listed if _is_of(pod, found)]


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


def current(found: Mapping[str, Any], listed: Sequence[Pod]) -> list[Pod]:
    """Those of the template that the workload has now, without those that are going away."""
    there = [pod for pod in listed if not pods.leaving(pod)]
    if found.get("kind") == "StatefulSet":
        revision = (found.get("status") or {}).get("updateRevision")
        return [pod for pod in there if revision is None or pods.hash_of(pod) == revision]
    fitting = {pods.hash_of(pod) for pod in there if _fits(pod, found["spec"]["template"])}
    return pods.newest([pod for pod in there if pods.hash_of(pod) in fitting] or there)


async def creation_trouble(cluster: Cluster, namespace: str, found: Mapping[str, Any]) -> Trouble | None:
    """Why a controller creates no pods, from its Events; a StatefulSet has no condition that says so.
    Raises Retryable, Permanent."""
    events = await _events(cluster, namespace, found, str(found.get("kind", "")))
    newest = max((event for event in events if event.get("reason") in CREATED), key=_when, default=None)
    if newest is None or newest["reason"] != "FailedCreate":
        return None
    words = f"{found.get('kind')} {found['metadata']['name']} cannot create pods: {newest.get('message', '')}"
    return Trouble(words[:_LONGEST])


async def mount_trouble(cluster: Cluster, namespace: str, listed: Iterable[Pod]) -> Trouble | None:
    """What keeps the first pod whose containers are still being created from starting, from its Events.
    Raises Retryable, Permanent."""
    for pod in listed:
        if any(((item.get("state") or {}).get("waiting") or {}).get("reason") in _CREATING for item in _main(pod)):
            events = await _events(cluster, namespace, pod, "Pod")
            newest = max((event for event in events if event.get("reason") in MOUNTING), key=_when, default=None)
            if newest is None:
                return None
            words = f"pod {pod['metadata']['name']} cannot start ({newest['reason']}): {newest.get('message', '')}"
            return Trouble(words[:_LONGEST])
    return None


_CREATING = ("ContainerCreating", "PodInitializing")


def _main(pod: Pod) -> Sequence[Mapping[str, Any]]:
    return (pod.get("status") or {}).get("containerStatuses") or []


async def _events(cluster: Cluster, namespace: str, found: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    name, uid = found["metadata"]["name"], found["metadata"].get("uid")
    fields = f"involvedObject.name={name},involvedObject.kind={kind}"
    listed = await cluster.list(f"/api/v1/namespaces/{namespace}/events", fields=fields)
    return [event for event in listed if (event.get("involvedObject") or {}).get("uid") in (uid, None)]


def _when(event: Mapping[str, Any]) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")


def _is_of(pod: Pod, found: Mapping[str, Any]) -> bool:
    """Whether a pod's controller is the workload, or one of its ReplicaSets."""
    owner = next((item for item in pod["metadata"].get("ownerReferences") or [] if item.get("controller")), None)
    if owner is None:
        return False
    if found.get("kind") == "StatefulSet":
        return bool(owner.get("uid") == found["metadata"]["uid"])
    name = f"{found['metadata']['name']}-{pods.hash_of(pod)}"
    return bool(owner.get("kind") == "ReplicaSet" and owner.get("name") == name)


def _fits(pod: Pod, template: Mapping[str, Any]) -> bool:
    """Whether everything of a template is a pod's, as far as versions can differ."""
    metadata, own = template.get("metadata") or {}, pod["metadata"]
    marks = all((own.get(key) or {}).items() >= (metadata.get(key) or {}).items() for key in ("labels", "annotations"))
    return marks and all(_has(pod.get("spec") or {}, group, item) for group, item in _items(template))


def _items(template: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for group in GROUPS:
        yield from ((group, item) for item in template["spec"].get(group) or [])


def _has(spec: Mapping[str, Any], group: str, wanted: Mapping[str, Any]) -> bool:
    for item in spec.get(group) or []:
        if item["name"] == wanted["name"]:
            env = item.get("env") or []
            return item.get("image") == wanted.get("image") and all(one in env for one in wanted.get("env") or [])
    return False
