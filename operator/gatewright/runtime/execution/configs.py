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
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.core.subject import is_of_kind
from gatewright.ports import Cluster, Conflict, NotFound, Permanent
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution.config_standings import (
    PLURALS,
    config_path,
    describe_left_alone,
    has_key,
    is_left_alone,
    is_never_set,
    progress_left_alone,
    read_or_none,
)
from gatewright.runtime.execution.contents import (
    Content,
    WantedContent,
    content_of,
    fields_of,
    fold_operations,
    hash_configmap,
    list_names,
)
from gatewright.runtime.execution.secret_copies import (
    CAPTURE_OFF_MESSAGE,
    Record,
    Snapshot,
    configmap_record,
    copy_of,
    may_capture,
    read_copy,
    record_of,
    scope_of,
)

KIND_NAMES = {"configmap": "ConfigMap", "secret": "Secret"}

UNPROVED_REMARK = (
    "it was returned from a copy that cannot be verified, because the key of its hash is lost"
)


class SnapshotOutdated(Conflict):
    """The content is not what its snapshot holds any more: the snapshot has to be taken anew."""


# Look


async def inspect_config(
    cluster: Cluster, view: View, subject: str
) -> tuple[LiveState, dict[str, Any] | None]:
    """Return a ConfigMap's snapshot; of a Secret a hash, and the copy to be made beside it."""
    kind, _, name = subject.partition("/")
    if kind == "secret" and not await may_capture(cluster, view.namespace):
        return LiveState(None, problem=CAPTURE_OFF_MESSAGE.format(view.namespace)), None

    config = await read_or_none(cluster, config_path(view.namespace, subject))
    if config is None:
        problem = f"there is no such {kind} in namespace {view.namespace}"
        return LiveState(None, problem=problem), None

    kept = {"immutable": True} if config.get("immutable") else {}
    data = config.get("data") or {}

    if kind == "configmap":
        snapshot = {"data": data, "binaryData": config.get("binaryData") or {}}
        return LiveState({**snapshot, "hash": hash_configmap(config), **kept}), None

    try:
        key = await cluster.hash_key()
    except Permanent as error:
        return LiveState(None, problem=str(error)), None

    # The values of a Secret are kept in a Secret alone.
    copy = copy_of(key, view, name, data)
    snapshot = {
        "copy": copy["metadata"]["name"],
        "type": config.get("type", "Opaque"),
        "hash": key.hash(scope_of(view, subject), data),
        "version": config["metadata"].get("resourceVersion", ""),
    }
    return LiveState({**snapshot, **kept}), copy


# Change


async def set_config(
    cluster: Cluster, namespace: str, operation: Operation, snapshot: Snapshot | None = None
) -> Progress:
    """Set keys of a ConfigMap.

    With a snapshot this is the run's first change of it: nothing but what the snapshot was taken of
    is changed. Raises SnapshotOutdated, Retryable, Permanent.
    """
    if not is_of_kind(operation.subject, "configmap"):
        raise Permanent(f"{operation.subject}: keys are set in ConfigMaps alone")
    return await _retry_conflicts(lambda: _set_once(cluster, namespace, operation, snapshot))


async def _set_once(
    cluster: Cluster, namespace: str, operation: Operation, snapshot: Snapshot | None
) -> Progress:
    now = await read_or_none(cluster, config_path(namespace, operation.subject))
    if now is None:
        raise NotFound(
            f"there is no {operation.subject} in namespace {namespace}; create it, then try again"
        )

    # What carries our key is this very change, made by an earlier try.
    if snapshot is not None and not has_key(now, operation):
        if not configmap_record(snapshot).is_found(now):
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
    now = await read_or_none(cluster, path)
    record = await record_of(cluster, view, subject, snapshot)
    doubt = "" if record.proved else f"{subject}: {UNPROVED_REMARK}"
    if now is None:
        await _recreate_config(cluster, view, operation, snapshot, record)
        message = f"{subject} was gone; it was made again from its snapshot"
        return Progress("Succeeded", "; ".join(filter(None, [message, doubt])), notable=True)

    if is_left_alone(operation, record, now):
        return progress_left_alone(operation, record)

    content = await _content_to_restore(cluster, view, operation, snapshot, record, now)
    changed = await _write_config(cluster, view.namespace, operation, now, content)
    taken = _keys_of_others(operation, changed, content_of(now))
    remarks = []

    if taken:
        names = list_names(taken)
        remarks.append(f"{subject}: {names}, changed meanwhile, returned to the snapshot")

    if changed:
        remarks.append(doubt)

    remarks.append(await describe_left_alone(cluster, path, operation, snapshot, now))
    message = "; ".join(filter(None, remarks))
    return Progress("Succeeded", message, notable=bool(message))


async def _content_to_restore(
    cluster: Cluster,
    view: View,
    operation: Operation,
    snapshot: Snapshot,
    record: Record,
    now: Mapping[str, Any],
) -> WantedContent:
    if is_of_kind(operation.subject, "configmap"):
        return fold_operations([operation], snapshot)

    # The copy is not asked for where nothing has to be taken from it.
    if record.is_kept(now):
        return WantedContent(dict(content_of(now)), whole=True)

    copy = await read_copy(cluster, view, operation.subject, snapshot, record)
    return WantedContent(dict(content_of(copy)), whole=True)


async def _recreate_config(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot, record: Record
) -> None:
    """Make a ConfigMap or Secret again from its snapshot.

    Labels and owners are not in it: whoever made it before adds them as before.
    """
    kind, _, name = operation.subject.partition("/")
    source = snapshot
    if kind == "secret":
        source = await read_copy(cluster, view, operation.subject, snapshot, record)

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
    needs_mark = not (is_never_set(operation) or has_key(now, operation))
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


def _keys_of_others(operation: Operation, changed: Sequence[str], have: Content) -> list[str]:
    """Return those of the changed keys that did not hold what the run had set."""
    sets = [change for change in operation.changes if change.kind == "set"]
    own = fold_operations(sets, None).keys
    return [name for name in changed if name not in own or have.get(name) != own[name]]
