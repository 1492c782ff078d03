"""ControllerRevisions: what a run has pinned, and what was live before and after it.

Beside them stand the copies of Secrets.

Each carries its run as a label, and the copies that its snapshots refer to as an annotation, so
that old ones can be found by metadata alone. A copy goes with the last revision that names it;
Secrets are never listed.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gatewright.api import GROUP, RELEASE
from gatewright.core.fingerprints import as_stored, content_fingerprint
from gatewright.core.model.decision import Revision
from gatewright.core.model.view import View
from gatewright.core.subject import traits_of
from gatewright.ports import Cluster, Conflict, NotFound, Permanent
from gatewright.runtime.cluster.children import child_metadata, is_ours
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.wire import METADATA_ONLY, as_json

RUN_LABEL = f"{GROUP}/run"
"""Label on a ControllerRevision: the number of the run that made it."""
COPIES_ANNOTATION = f"{GROUP}/copies"
"""Annotation on a ControllerRevision: names of the Secret copies that its snapshots refer to, with
commas between them."""
MAX_REVISION_BYTES = 2**20
"""Bytes of JSON that one ControllerRevision may keep; etcd takes 1.5 MiB in a request, metadata
included."""

MOST_REVISIONS = 1000
"""ControllerRevisions of one Release that are looked through."""
MOST_METADATA = 8 * 2**20
"""Bytes of their metadata."""
MOST_PRUNED = 50
"""ControllerRevisions that are deleted at a time: a pass waits for it."""
MOST_COPIES = 200
"""Secret copies that one of them may name."""

_KIB = 1024


async def keep_revision(cluster: Cluster, view: View, revision: Revision, run: int) -> None:
    """Create a ControllerRevision; one that is there already must have its content.

    Raises Retryable, Permanent.
    """
    problem = explain_too_large(revision.data)
    if problem is not None:
        raise Permanent(problem)

    metadata = child_metadata(view, revision.name)
    metadata["labels"][RUN_LABEL] = str(run)

    copies = copies_in(revision.data)
    if copies:
        metadata["annotations"] = {COPIES_ANNOTATION: ",".join(sorted(copies))}

    # Content as the API server writes it itself: it compares bytes, and takes other ones for a
    # forbidden change when somebody only edits metadata (the garbage collector of `kubectl delete
    # --cascade=orphan`).
    body = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": as_stored(orjson.loads(orjson.dumps(revision.data, option=orjson.OPT_SORT_KEYS))),
        "revision": 1,
    }
    try:
        await cluster.create(_collection_path(view), body)
    # A pass may come here twice: an answer was lost, or this process was restarted in between.
    except Conflict:
        await read_revision(cluster, view, revision.name)


async def read_revision(cluster: Cluster, view: View, name: str) -> dict[str, Any]:
    """Return the content of a ControllerRevision of this Release, as it was written.

    Raises Retryable, Permanent.
    """
    data = await _read_content(cluster, view, name)
    if not isinstance(data, dict) or not name.endswith(f"-{content_fingerprint(view.uid, data)}"):
        raise Permanent(
            f"ControllerRevision {name} does not hold what its name stands for: somebody "
            "else has written it"
        )
    return data


async def _read_content(cluster: Cluster, view: View, name: str) -> Any:
    revision = await cluster.get(api_path("apps/v1", "controllerrevisions", view.namespace, name))
    if not is_ours(view, revision):
        raise Permanent(f"ControllerRevision {name} belongs to another owner; it cannot be used")
    return revision.get("data")


def explain_too_large(data: Mapping[str, Any]) -> str | None:
    """Return why what a run has to keep does not fit into one object, and what would help.

    None where it fits.
    """
    size = _json_bytes(data)
    if size <= MAX_REVISION_BYTES:
        return None

    snapshots = data.get("snapshots") or {}
    parts = {subject: _json_bytes(snapshot) for subject, snapshot in snapshots.items()}

    if "body" in data:
        parts["the pinned spec"] = _json_bytes(data["body"])

    largest = max(parts, key=lambda name: parts[name], default="the record")
    return (
        f"what this run has to keep for its rollback is {_in_kib(size)}, and one object takes "
        f"{_in_kib(MAX_REVISION_BYTES)}; the largest part is {largest} "
        f"({_in_kib(parts.get(largest, size))}): {_remedy_for(largest)}"
    )


def copies_in(data: Mapping[str, Any]) -> set[str]:
    """Return the names of the Secret copies that snapshots refer to."""
    snapshots = data.get("snapshots") or {}
    return {
        snapshot["copy"]
        for subject, snapshot in snapshots.items()
        if traits_of(subject).copied and isinstance(snapshot, Mapping) and "copy" in snapshot
    }


# What nobody needs any more


@dataclass(frozen=True, slots=True)
class _Kept:
    """A ControllerRevision of this Release, by its metadata alone."""

    name: str
    uid: str
    run: str
    copies: frozenset[str]


async def prune_revisions(
    kube: Kube, view: View, keep: Collection[str], history: Collection[int]
) -> None:
    """Delete revisions that are neither in `keep` (names) nor of a run in `history`.

    The Secret copies that only those named go with them; `MOST_PRUNED` revisions at a time. Raises
    Retryable; Permanent after all that could be deleted is.

    Anybody may put the label of a Release, and its UID, on revisions of his own. So contents are
    read only of what the status itself names, and the rest is bounded.
    """
    runs = {str(run) for run in history}
    there = await _listed(kube, view)
    old = [revision for revision in there if revision.name not in keep and revision.run not in runs]
    if not old:
        return

    staying = [revision for revision in there if revision not in old]
    needed = set().union(*(revision.copies for revision in staying))

    # Somebody has taken its labels away: what it names stands in its content alone.
    for name in sorted(set(keep) - {revision.name for revision in staying}):
        needed |= await _copies_in_content(kube, view, name)

    refusals = [
        refusal async for refusal in _delete_revisions(kube, view, old[:MOST_PRUNED], needed)
    ]
    if refusals:
        raise refusals[0]


async def _listed(kube: Kube, view: View) -> list[_Kept]:
    """Return all that carry a run; nothing is known of what is needed unless all of them are.

    Raises Permanent, Retryable.
    """
    count = itertools.count(1)

    def own(obj: dict[str, Any]) -> dict[str, Any] | None:
        if not is_ours(view, obj):
            return None
        if next(count) > MOST_REVISIONS:
            raise Permanent(
                f"there are more than {MOST_REVISIONS} ControllerRevisions of {view.name}; "
                "delete some"
            )
        return obj

    selector = f"{RELEASE}={view.name[:63]},{RUN_LABEL}"
    listed = await kube.list(
        _collection_path(view), selector, accept=METADATA_ONLY, keep=own, most=MOST_METADATA
    )
    return [_kept(obj["metadata"]) for obj in listed]


def _kept(metadata: Mapping[str, Any]) -> _Kept:
    named = (metadata.get("annotations") or {}).get(COPIES_ANNOTATION, "")
    return _Kept(
        metadata["name"],
        metadata["uid"],
        metadata["labels"][RUN_LABEL],
        frozenset(named.split(",")) - {""},
    )


async def _delete_revisions(
    kube: Kube, view: View, old: Collection[_Kept], needed: Collection[str]
) -> AsyncIterator[Permanent]:
    """Delete each revision after its copies; yield the refusals.

    One that is interrupted is found again by its revision.
    """
    for revision in old:
        try:
            # Anybody may put the annotation on a revision of his own.
            if len(revision.copies) > MOST_COPIES:
                raise Permanent(
                    f"ControllerRevision {revision.name} names more than {MOST_COPIES} copies; "
                    "it stays"
                )

            for copy in sorted(revision.copies - set(needed)):
                await _delete_copy(kube, view, copy)

            path = api_path("apps/v1", "controllerrevisions", view.namespace, revision.name)
            await kube.delete(path, uid=revision.uid)
        except Permanent as error:
            yield error


async def _copies_in_content(kube: Kube, view: View, name: str) -> set[str]:
    try:
        return copies_in(await _read_content(kube, view, name) or {})
    except NotFound:
        return set()


async def _delete_copy(kube: Kube, view: View, name: str) -> None:
    """Delete a Secret of that name only if it is this Release's own."""
    path = api_path("v1", "secrets", view.namespace, name)
    try:
        secret = await kube.get(path)
    except NotFound:
        return
    if is_ours(view, secret):
        await kube.delete(path, uid=secret["metadata"]["uid"])


def _collection_path(view: View) -> str:
    return api_path("apps/v1", "controllerrevisions", view.namespace)


def _json_bytes(value: Any) -> int:
    return len(as_json(value))


def _in_kib(size: int) -> str:
    return f"{-(-size // _KIB)} KiB"


def _remedy_for(part: str) -> str:
    if traits_of(part).is_content:
        return "split it, or leave it out of the target's config"
    return "make it smaller"
