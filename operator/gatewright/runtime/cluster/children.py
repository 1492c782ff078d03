"""What all objects that belong to a Release have in common.

Names are deterministic and labels tell the owner, but neither is proof: before an existing object
is taken for ours, the UID of its owner is compared with that of the Release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api import API_VERSION, KEY, RELEASE
from gatewright.core.model import View


def child_metadata(view: View, name: str, key: str | None = None) -> dict[str, Any]:
    """Return the metadata of a child: owner, label, key."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Release",
        "name": view.name,
        "uid": view.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": view.namespace,
        "labels": {RELEASE: view.name[:63]},
        "ownerReferences": [owner],
    }

    if key:
        metadata["annotations"] = {KEY: key}

    return metadata


def is_ours(view: View, obj: Mapping[str, Any]) -> bool:
    """Return whether an object belongs to this very Release."""
    return is_controlled_by(view.uid, obj)


def is_controlled_by(uid: Any, obj: Mapping[str, Any]) -> bool:
    """Return whether the object with this UID is the controller of another.

    There is one at most.
    """
    owners = obj["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") is True and owner.get("uid") == uid for owner in owners)
