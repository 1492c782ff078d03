"""Finalizers of a Release that others have put there.

A write of ours must not take them away, however many there are.
"""

from __future__ import annotations

from gatewright.api import API_VERSION, FINALIZER
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.tracked import TrackedRelease


async def foreign_finalizers(kube: Kube, entry: TrackedRelease) -> list[str]:
    """Return all but ours; read anew where there are too many to be remembered.

    Whoever writes them names the version that was decided on, so that a list which has changed
    meanwhile is refused. Raises Retryable, Permanent.
    """
    names = entry.obj["metadata"].get("finalizers", [])
    if entry.many_finalizers:
        meta = await kube.metadata(api_path(API_VERSION, "releases", *entry.key))
        names = meta.get("finalizers", [])
    return [name for name in names if name != FINALIZER]
