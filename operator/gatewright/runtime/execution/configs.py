"""ConfigMaps and Secrets that a Release changes or captures: read, set, brought back, compared.

    subject             a run                       goes back
    captured ConfigMap  may set keys of it (flags)  all of it, to its snapshot
    other ConfigMap     sets keys of it (flags)     those keys; what others changed stays, and is
                                                    named
    captured Secret     never changes it            all of it, unless somebody changed it during the
                                                    run: a key that was rotated must not come back
                                                    (`restore: Always` says it must)

One that is gone is made again. Every write names the version that it was made for, and what is
already as it should be is only marked with the operation's key. Of a Secret the snapshot holds a
hash, and the name of an immutable copy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gatewright.api import KEY
from gatewright.core.model import LiveState, Operation, Progress, Standing, View, fingerprint
from gatewright.ports import Cluster, Conflict, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.children import child_metadata, is_ours
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution.contents import (
    Content,
    WantedContent,
    content_hash,
    content_of,
    describe_difference,
    describe_managers,
    fields_of,
    fold_operations,
    is_whole,
    keys_set,
    list_names,
)

PLURALS = {"configmap": "configmaps", "secret": "secrets"}
CAPTURE_OFF_MESSAGE = (
    "the operator may not write Secrets in namespace {}, so none can be captured; switch it on "
    "(component manifests/capture/cluster, or manifests/capture/namespaced beside the Role of that "
    "namespace; chart: captureSecrets), or leave the Secret out of the target's config"
)
KIND_NAMES = {"configmap": "ConfigMap", "secret": "Secret"}

Snapshot = Mapping[str, Any]


class SnapshotOutdated(Conflict):
    """The content is not what its snapshot holds any more: the snapshot has to be taken anew."""


def config_path(namespace: str, subject: str) -> str:
    """Return the API path of a subject `configmap/NAME` or `secret/NAME`."""
    kind, _, name = subject.partition("/")
    return api_path("v1", PLURALS[kind], namespace, name)


# Look


async def inspect_config(
    cluster: Cluster, view: View, subject: str
) -> tuple[LiveState, dict[str, Any] | None]:
    """Return a ConfigMap's snapshot; of a Secret a hash, and the copy to be made beside it."""
    kind, _, name = subject.partition("/")
    if kind == "secret" and not await _may_capture(cluster, view.namespace):
        return LiveState(None, problem=CAPTURE_OFF_MESSAGE.format(view.namespace)), None

    config = await _read_or_none(cluster, config_path(view.namespace, subject))
    if config is None:
        problem = f"there is no such {kind} in namespace {view.namespace}"
        return LiveState(None, problem=problem), None

    kept: dict[str, Any] = {"hash": content_hash(kind, config)}

    if config.get("immutable"):
        kept["immutable"] = True

    data = config.get("data") or {}

    if kind == "configmap":
        snapshot = {"data": data, "binaryData": config.get("binaryData") or {}, **kept}
        return LiveState(snapshot), None

    # The values of a Secret are kept in a Secret alone.
    copy = _copy_of(view, name, data)
    kept = {"copy": copy["metadata"]["name"], "type": config.get("type", "Opaque"), **kept}
    return LiveState(kept), copy


def _copy_of(view: View, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the immutable copy of a Secret, under a name that its content gives it."""
    prefix = f"{view.name[:40].rstrip('-.')}-{name[:100].rstrip('-.')}"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": child_metadata(view, f"{prefix}-{fingerprint([view.uid, data])}"),
        "type": "Opaque",
        "immutable": True,
        "data": data,
    }


async def _may_capture(cluster: Cluster, namespace: str) -> bool:
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


# Change


async def set_config(
    cluster: Cluster, namespace: str, operation: Operation, snapshot: Snapshot | None = None
) -> Progress:
    """Set keys of a ConfigMap.

    With a snapshot this is the run's first change of it: nothing but what the snapshot was taken of
    is changed. Raises SnapshotOutdated, Retryable, Permanent.
    """
    if not operation.subject.startswith("configmap/"):
        raise Permanent(f"{operation.subject}: keys are set in ConfigMaps alone")
    return await _retry_conflicts(lambda: _set_once(cluster, namespace, operation, snapshot))


async def _set_once(
    cluster: Cluster, namespace: str, operation: Operation, snapshot: Snapshot | None
) -> Progress:
    now = await _read_or_none(cluster, config_path(namespace, operation.subject))
    if now is None:
        raise NotFound(
            f"there is no {operation.subject} in namespace {namespace}; create it, then try again"
        )

    # What carries our key is this very change, made by an earlier try.
    if snapshot is not None and not _has_key(now, operation):
        expected = snapshot.get("found") or _kept_hash(operation.subject, snapshot)
        if content_hash("configmap", now) != expected:
            raise SnapshotOutdated(f"{operation.subject} has changed since its snapshot was taken")

    content = fold_operations([operation], snapshot)
    await _write_config(cluster, namespace, operation, now, content)

    return Progress("Succeeded")


async def restore_config(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
) -> Progress:
    """Bring a ConfigMap or Secret back: all of it where it is captured, else what the run changed.

    What stays as others left it, and what was made again, is said in the Progress. Raises
    Retryable, Permanent.
    """
    if snapshot is None:
        return Progress("Failed", f"there is no snapshot of {operation.subject}")
    return await _retry_conflicts(lambda: _restore_once(cluster, view, operation, snapshot))


async def _restore_once(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot
) -> Progress:
    subject, path = operation.subject, config_path(view.namespace, operation.subject)
    now = await _read_or_none(cluster, path)
    if now is None:
        await _recreate_config(cluster, view, operation, snapshot)
        message = f"{subject} was gone; it was made again from its snapshot"
        return Progress("Succeeded", message, notable=True)

    if _is_left_alone(operation, snapshot, now):
        return _progress_left_alone(operation)

    content = await _content_to_restore(cluster, view, operation, snapshot, now)
    changed = await _write_config(cluster, view.namespace, operation, now, content)
    taken = _keys_of_others(operation, changed, content_of(now))
    remarks = []

    if taken:
        names = list_names(taken)
        remarks.append(f"{subject}: {names}, changed meanwhile, returned to the snapshot")

    remarks.append(await _describe_left_alone(cluster, path, operation, snapshot, now))
    message = "; ".join(filter(None, remarks))
    return Progress("Succeeded", message, notable=bool(message))


async def _content_to_restore(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot, now: Mapping[str, Any]
) -> WantedContent:
    if operation.subject.startswith("configmap/"):
        return fold_operations([operation], snapshot)

    # The copy is not asked for where nothing has to be taken from it.
    if content_hash("secret", now) == snapshot["hash"]:
        return WantedContent(dict(content_of(now)), whole=True)

    copy = await _read_copy(cluster, view, operation.subject, snapshot)
    return WantedContent(dict(content_of(copy)), whole=True)


async def _read_copy(
    cluster: Cluster, view: View, subject: str, snapshot: Snapshot
) -> dict[str, Any]:
    """Return the copy that was kept of a Secret.

    Raises Permanent where it is not there, or not what was kept.
    """
    path = api_path("v1", "secrets", view.namespace, snapshot["copy"])
    copy = await _read_or_none(cluster, path)
    if copy is None:
        raise Permanent(
            f"the copy {snapshot['copy']} of {subject} is gone: somebody has deleted it; "
            f"bring {subject} back by hand"
        )
    if not is_ours(view, copy) or content_hash("secret", copy) != snapshot["hash"]:
        raise Permanent(
            f"the copy {snapshot['copy']} of {subject} is not what was kept; bring "
            f"{subject} back by hand"
        )

    return copy


async def _recreate_config(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot
) -> None:
    """Make a ConfigMap or Secret again from its snapshot.

    Labels and owners are not in it: whoever made it before adds them as before.
    """
    kind, _, name = operation.subject.partition("/")
    source = snapshot
    if kind == "secret":
        source = await _read_copy(cluster, view, operation.subject, snapshot)

    metadata = {
        "name": name,
        "namespace": view.namespace,
        "annotations": {KEY: operation.key},
    }
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": KIND_NAMES[kind],
        "metadata": metadata,
        **fields_of(content_of(source)),
    }

    if kind == "secret":
        body["type"] = snapshot.get("type", "Opaque")
    if snapshot.get("immutable"):
        body["immutable"] = True

    await cluster.create(api_path("v1", PLURALS[kind], view.namespace), body)


async def _write_config(
    cluster: Cluster,
    namespace: str,
    operation: Operation,
    now: Mapping[str, Any],
    content: WantedContent,
) -> list[str]:
    """Write what is wanted, marked, if it is not there yet; return the keys that were changed.

    Raises Conflict, Retryable, Permanent.
    """
    differing = content.differing_keys(content_of(now))
    if differing and now.get("immutable"):
        remedy = "and create it as mutable"
        if operation.kind == "restore":
            remedy = "and it is made again from its snapshot"
        raise Permanent(
            f"{operation.subject} is immutable, and {list_names(differing)} would have to change; "
            f"delete it, {remedy}"
        )

    # The mark tells a later look that no write of this operation can still be on its way.
    needs_mark = not (_is_never_set(operation) or _has_key(now, operation))
    if differing or needs_mark:
        version = now["metadata"]["resourceVersion"]
        mark = {"annotations": {KEY: operation.key}, "resourceVersion": version}
        body = {"metadata": mark, **content.change(content_of(now))}
        await cluster.patch(config_path(namespace, operation.subject), body, "merge")

    return differing


async def _retry_conflicts(act: Callable[[], Awaitable[Progress]]) -> Progress:
    """Act again after a refusal, upon what is read anew.

    Others may write at the same time, and what is known of an object may be old.
    """
    for last in (False, False, True):
        try:
            return await act()
        except SnapshotOutdated:
            # Nothing was changed: the snapshot has to be taken anew first.
            raise
        except Conflict:
            if last:
                raise

    raise AssertionError("unreachable")


# Follow, compare


async def follow_config(
    cluster: Cluster, namespace: str, operation: Operation, snapshot: Snapshot | None
) -> Progress:
    """Return whether a ConfigMap or Secret has what an operation wants, and carries its key.

    Raises Retryable, Permanent.
    """
    path = config_path(namespace, operation.subject)
    now = await _read_or_none(cluster, path)
    if now is None and operation.kind == "restore":
        return Progress("Absent")

    if now is None:
        gone = f"{_gone_message(operation.subject)}; create it again"
        return Progress("Failed", gone, missing=True)

    if operation.kind == "restore" and snapshot is None:
        return Progress("Failed", f"there is no snapshot of {operation.subject}")
    if snapshot is not None and _is_left_alone(operation, snapshot, now):
        return _progress_left_alone(operation)

    is_captured = snapshot is not None and _is_only_captured(operation, snapshot, now)
    if not _has_key(now, operation) and not is_captured:
        return Progress("Absent")

    instead = await _describe_difference(cluster, path, [operation], snapshot, now)
    if instead:
        return Progress("Running", instead, stuck=True, overwritten=True)

    left = await _describe_left_alone(cluster, path, operation, snapshot, now)
    return Progress("Succeeded", left, notable=bool(left))


async def compare_config(
    cluster: Cluster, view: View, operations: Sequence[Operation], snapshot: Snapshot | None
) -> Standing:
    """Return what a ConfigMap or Secret holds, beside what the operations want.

    Without any there is nothing to compare: it is captured, and nobody has changed it yet. Raises
    Retryable, Permanent.
    """
    if not operations:
        return Standing()

    last = operations[-1]
    path = config_path(view.namespace, last.subject)
    now = await _read_or_none(cluster, path)
    if now is None:
        return Standing(difference=_gone_message(last.subject))
    if snapshot is not None and _is_left_alone(last, snapshot, now):
        return Standing(remark=_progress_left_alone(last).message, stays=True)

    difference = await _describe_difference(cluster, path, operations, snapshot, now)
    return Standing(difference=difference)


async def _describe_difference(
    cluster: Cluster,
    path: str,
    operations: Sequence[Operation],
    snapshot: Snapshot | None,
    now: Mapping[str, Any],
) -> str:
    """Return what it holds instead.

    A difference is said of a fresh answer alone: what is known of it may be a moment old.
    """
    subject = operations[-1].subject
    if subject.startswith("configmap/"):
        content = fold_operations(operations, snapshot)
        if not content.differing_keys(content_of(now)):
            return ""
        fresh = await _read_managed_or_none(cluster, path)
        if fresh is None:
            return _gone_message(subject)
        return describe_difference(subject, content, fresh)

    if snapshot is None:
        raise Permanent(f"there is no snapshot of {subject}")
    if content_hash("secret", now) == snapshot["hash"]:
        return ""

    fresh = await _read_managed_or_none(cluster, path)
    if fresh is None:
        return _gone_message(subject)

    if content_hash("secret", fresh) == snapshot["hash"]:
        return ""

    return f"{subject} does not hold what its snapshot does{describe_managers(fresh)}"


async def _describe_left_alone(
    cluster: Cluster,
    path: str,
    operation: Operation,
    snapshot: Snapshot | None,
    now: Mapping[str, Any],
) -> str:
    """Return what others changed and a restore of single keys has left alone; empty: nothing."""
    if operation.kind != "restore" or snapshot is None or is_whole(operation):
        return ""

    before, own = WantedContent(dict(content_of(snapshot)), whole=True), keys_set(operation.changes)
    left = [name for name in before.differing_keys(content_of(now)) if name not in own]
    if not left:
        return ""

    try:
        author = describe_managers(await cluster.managed(path), left)
    except (Retryable, Permanent):
        # The restore is done; who it was is not worth a failure.
        author = ""

    verb = "stays as it is" if len(left) == 1 else "stay as they are"
    return f"{operation.subject}: {list_names(left)} {verb}, changed since the snapshot{author}"


def _keys_of_others(operation: Operation, changed: Sequence[str], have: Content) -> list[str]:
    """Return those of the changed keys that did not hold what the run had set."""
    sets = [change for change in operation.changes if change.kind == "set"]
    own = fold_operations(sets, None).keys
    return [name for name in changed if name not in own or have.get(name) != own[name]]


def _is_left_alone(operation: Operation, snapshot: Snapshot, now: Mapping[str, Any]) -> bool:
    """Return whether a Secret was changed by somebody during the run: then it is left alone."""
    if operation.kind != "restore" or not operation.subject.startswith("secret/"):
        return False
    if (operation.config or {}).get("restore") == "Always":
        return False
    found_hash = snapshot.get("found") or snapshot["hash"]
    return content_hash("secret", now) not in (found_hash, snapshot["hash"])


def _is_only_captured(operation: Operation, snapshot: Snapshot, now: Mapping[str, Any]) -> bool:
    """Return whether it holds what it is to return to, and was never set.

    Then nothing has to be written.
    """
    kind = operation.subject.partition("/")[0]
    kept_hash = _kept_hash(operation.subject, snapshot)
    return _is_never_set(operation) and content_hash(kind, now) == kept_hash


def _is_never_set(operation: Operation) -> bool:
    """Return whether it only returns.

    No write of the run that sets it can still arrive, so that no mark has to be later.
    """
    return operation.kind == "restore" and not operation.changes


def _progress_left_alone(operation: Operation) -> Progress:
    message = (
        f"{operation.subject} was changed during the run and stays as it is (restore: Always "
        "would return it)"
    )
    return Progress("Succeeded", message, notable=True)


def _gone_message(subject: str) -> str:
    return f"{subject} is gone: somebody has deleted it"


def _has_key(now: Mapping[str, Any], operation: Operation) -> bool:
    return bool((now["metadata"].get("annotations") or {}).get(KEY) == operation.key)


def _kept_hash(subject: str, snapshot: Snapshot) -> str:
    """Return the hash of what a snapshot holds.

    One that was taken by an older operator does not say it.
    """
    return str(snapshot.get("hash") or content_hash(subject.partition("/")[0], snapshot))


async def _read_or_none(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return await cluster.get(path)
    except NotFound:
        return None


async def _read_managed_or_none(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return await cluster.managed(path)
    except NotFound:
        return None
