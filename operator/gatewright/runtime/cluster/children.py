"""What all objects that belong to a Release have in common.

Names are deterministic and labels tell the owner, but neither is proof: before an existing object
is taken for ours, the whole of its controller is compared with the Release: UID, kind and group.
The API server keeps whatever UID somebody writes, under any kind; the admission policy on Jobs and
the garbage collector both go by the kind (`codegen.job_owners`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewright.api import API_VERSION, GROUP, KEY, RELEASE
from gatewright.core.model.view import View


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
    return is_controlled_by(GROUP, "Release", view.uid, obj)


def is_controlled_by(group: str, kind: str, uid: Any, obj: Mapping[str, Any]) -> bool:
    """Return whether the object of this group, kind and UID is the controller of another.

    There is one at most.
    """
    owners = obj["metadata"].get("ownerReferences") or []
    return any(
        owner.get("controller") is True
        and owner.get("uid") == uid
        and owner.get("kind") == kind
        and str(owner.get("apiVersion")).startswith(f"{group}/")
        for owner in owners
    )
