"""Copies of captured Secrets, and how the content of one is known again.

The values of a Secret are kept in a Secret alone: an immutable copy beside it, owned by its
Release. The snapshot, which more people may read, names the copy and holds a keyed hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.core.hash_key import HashKey
from gatewright.core.model.view import View
from gatewright.core.subject import is_of_kind
from gatewright.ports import Cluster, NotFound, Permanent
from gatewright.runtime.cluster.children import child_metadata, is_ours
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution.contents import hash_configmap

CAPTURE_OFF_MESSAGE = (
    "the operator may not write Secrets in namespace {}, so none can be captured; switch it on "
    "(component manifests/capture/cluster, or manifests/capture/namespaced beside the Role of that "
    "namespace; chart: captureSecrets), or leave the Secret out of the target's config"
)

Snapshot = Mapping[str, Any]


async def may_capture(cluster: Cluster, namespace: str) -> bool:
    """Return whether the operator has the role that captures Secrets: that is the switch."""
    attributes = {"namespace": namespace, "verb": "create", "resource": "secrets"}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = api_path("authorization.k8s.io/v1", "selfsubjectaccessreviews")
    answer = await cluster.create(path, body)

    return bool(answer["status"].get("allowed"))


def copy_of(key: HashKey, view: View, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the immutable copy of a Secret, under a name that its content gives it."""
    prefix = f"{view.name[:40].rstrip('-.')}-{name[:100].rstrip('-.')}"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": child_metadata(view, f"{prefix}-{key.digest([view.uid, name, data])}"),
        "type": "Opaque",
        "immutable": True,
        "data": data,
    }


async def read_copy(
    cluster: Cluster, view: View, subject: str, snapshot: Snapshot, record: Record
) -> dict[str, Any]:
    """Return the copy that was kept of a Secret. Raises Permanent where it is not there, or not
    what was kept."""
    copy = await _read_own_copy(cluster, view, subject, snapshot)
    if not record.is_kept(copy):
        raise _error_of_forged(subject, snapshot)
    return copy


async def _read_own_copy(
    cluster: Cluster, view: View, subject: str, snapshot: Snapshot
) -> dict[str, Any]:
    path = api_path("v1", "secrets", view.namespace, snapshot["copy"])
    try:
        copy = await cluster.get(path)
    except NotFound:
        raise Permanent(
            f"the copy {snapshot['copy']} of {subject} is gone: somebody has deleted it; "
            f"bring {subject} back by hand"
        ) from None

    if not (is_ours(view, copy) and copy.get("immutable")):
        raise _error_of_forged(subject, snapshot)
    return copy


def _error_of_forged(subject: str, snapshot: Snapshot) -> Permanent:
    return Permanent(
        f"the copy {snapshot['copy']} of {subject} is not what was kept; bring {subject} back by "
        "hand"
    )


@dataclass(frozen=True, slots=True)
class Record:
    """What a snapshot says of a content, so that it is known again."""

    kept: str
    """Hash of what is to be returned to."""
    found: str | None
    """Hash of what was there when the run began; None where its key is lost."""
    found_version: str = ""
    """The resourceVersion of that."""
    key: HashKey | None = None
    """None: of a ConfigMap, which everybody may read who may read the snapshot."""
    scope: tuple[str, ...] = ()
    """Whose the hashes are."""
    proved: bool = True
    """Whether the copy can be told from a forged one: not where the key of its hash is lost."""

    def is_kept(self, holder: Mapping[str, Any]) -> bool:
        """Return whether an object holds what is to be returned to."""
        return self._matches(self.kept, holder)

    def is_found(self, holder: Mapping[str, Any]) -> bool:
        """Return whether an object holds what was there when the run began."""
        if self.found is None:
            # Nobody has written it since.
            return bool(holder["metadata"].get("resourceVersion") == self.found_version)
        return self._matches(self.found, holder)

    def _matches(self, kept: str, holder: Mapping[str, Any]) -> bool:
        if self.key is None:
            return hash_configmap(holder) == kept
        return self.key.matches(kept, self.scope, holder.get("data") or {})


async def record_of(cluster: Cluster, view: View, subject: str, snapshot: Snapshot) -> Record:
    """Return what a snapshot says of a content. Raises Retryable, Permanent."""
    if is_of_kind(subject, "configmap"):
        return configmap_record(snapshot)

    kept, found = snapshot["hash"], snapshot.get("found") or snapshot["hash"]
    version = str(snapshot.get("foundVersion") or snapshot.get("version") or "")
    key, scope = await _key_or_new(cluster), scope_of(view, subject)

    proved = key.knows(kept)
    if not proved:
        # The key that this hash was made with is lost. The copy itself still tells what was kept.
        copy = await _read_own_copy(cluster, view, subject, snapshot)
        kept = key.hash(scope, copy.get("data") or {})
    return Record(kept, found if key.knows(found) else None, version, key, scope, proved)


def scope_of(view: View, subject: str) -> tuple[str, ...]:
    """Return whose the hash of a Secret is."""
    return view.uid, subject


def configmap_record(snapshot: Snapshot) -> Record:
    """Return what the snapshot of a ConfigMap says of its content."""
    # One that was taken by an older operator does not tell its hash.
    kept = str(snapshot.get("hash") or hash_configmap(snapshot))
    return Record(kept, str(snapshot.get("found") or kept))


async def _key_or_new(cluster: Cluster) -> HashKey:
    """Return the key of the hashes, or one that nobody has used: the way back does not depend on
    it. Raises Retryable."""
    try:
        return await cluster.hash_key()
    except Permanent:
        return HashKey.random()
