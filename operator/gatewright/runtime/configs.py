"""ConfigMaps and Secrets that a Release changes or captures: read, set, brought back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api import KEY
from gatewright.core.model import Operation, Progress, Sight, View, digest
from gatewright.ports import Cluster, NotFound
from gatewright.runtime.children import meta, ours
from gatewright.runtime.kube import path

PLURALS = {"configmap": "configmaps", "secret": "secrets"}


def config_path(namespace: str, subject: str) -> str:
    """API path of a subject `configmap/NAME` or `secret/NAME`."""
    kind, _, name = subject.partition("/")
    return path("v1", PLURALS[kind], namespace, name)


async def look_config(cluster: Cluster, view: View, subject: str) -> tuple[Sight, dict[str, Any] | None]:
    """A ConfigMap's snapshot; of a Secret only a hash, and the copy that has to be made beside it."""
    kind, _, name = subject.partition("/")
    try:
        found = await cluster.get(config_path(view.namespace, subject))
    except NotFound:
        return Sight(None, problem=f"there is no such {kind} in namespace {view.namespace}"), None
    if kind == "configmap":
        return Sight({"data": found.get("data", {}), "binaryData": found.get("binaryData", {})}), None
    data = found.get("data", {})
    copied = f"{view.name[:40]}-{name[:100]}-{digest([view.uid, data])}"
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta(view, copied),
        "type": "Opaque",
        "immutable": True,
        "data": data,
    }
    return Sight({"copy": copied, "hash": digest(data)}), body


async def set_config(cluster: Cluster, namespace: str, operation: Operation) -> Progress:
    """Set keys of a ConfigMap. Raises Retryable, Permanent."""
    found = await cluster.get(config_path(namespace, operation.subject))
    mark = {"annotations": {KEY: operation.key}, "resourceVersion": found["metadata"]["resourceVersion"]}
    body = {"metadata": mark, "data": dict(operation.config["set"])}
    await cluster.patch(config_path(namespace, operation.subject), body, "merge")
    return Progress("Succeeded")


async def restore_config(
    cluster: Cluster, view: View, operation: Operation, snapshot: Mapping[str, Any] | None
) -> Progress:
    """Bring a ConfigMap or Secret back to its snapshot, keys that came later removed. Raises Retryable, Permanent."""
    if snapshot is None:
        return Progress("Failed", f"there is no snapshot of {operation.subject}")
    wanted = dict(snapshot)
    if "copy" in snapshot:
        kept = await cluster.get(path("v1", "secrets", view.namespace, snapshot["copy"]))
        if not ours(view, kept) or digest(kept.get("data", {})) != snapshot["hash"]:
            return Progress("Failed", f"the copy {snapshot['copy']} of {operation.subject} is not what was kept")
        wanted = {"data": kept.get("data", {})}
    target = config_path(view.namespace, operation.subject)
    now = await cluster.get(target)
    fields = [name for name in ("data", "binaryData") if name in wanted]
    body: list[dict[str, Any]] = [{"op": "add", "path": f"/{name}", "value": wanted[name]} for name in fields]
    marks = {**now["metadata"].get("annotations", {}), KEY: operation.key}
    body.append({"op": "add", "path": "/metadata/annotations", "value": marks})
    body.append({"op": "replace", "path": "/metadata/resourceVersion", "value": now["metadata"]["resourceVersion"]})
    await cluster.patch(target, body, "json")
    return Progress("Succeeded")


async def follow_config(cluster: Cluster, namespace: str, operation: Operation) -> Progress:
    """Whether a ConfigMap or Secret carries an operation's key."""
    try:
        found = await cluster.get(config_path(namespace, operation.subject))
    except NotFound:
        return Progress("Failed", f"{operation.subject} is gone")
    done = found["metadata"].get("annotations", {}).get(KEY) == operation.key
    return Progress("Succeeded") if done else Progress("Absent")
