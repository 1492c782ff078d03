"""ControllerRevisions: what a run has pinned, and what was live before and after it."""

from __future__ import annotations

from typing import Any

from gatewright.core.model import Revision, View
from gatewright.ports import Cluster, Conflict, Permanent
from gatewright.runtime.children import meta, ours
from gatewright.runtime.kube import path


async def keep_revision(cluster: Cluster, view: View, revision: Revision) -> None:
    """Create a ControllerRevision; one of the same name and owner has the same content. Raises Retryable, Permanent."""
    body = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": meta(view, revision.name),
        "data": dict(revision.data),
        "revision": 1,
    }
    try:
        await cluster.create(path("apps/v1", "controllerrevisions", view.namespace), body)
    except Conflict:
        await read_revision(cluster, view, revision.name)


async def read_revision(cluster: Cluster, view: View, name: str) -> dict[str, Any]:
    """The content of a ControllerRevision of this Release. Raises Retryable, Permanent."""
    found = await cluster.get(path("apps/v1", "controllerrevisions", view.namespace, name))
    if not ours(view, found):
        raise Permanent(f"ControllerRevision {name} belongs to another owner; it cannot be used")
    data: dict[str, Any] = found["data"]
    return data
