"""How far an operation on a ConfigMap or Secret is, and what it holds beside what is wanted.

Looks only; `configs` changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.api import KEY
from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.core.subject import is_of_kind
from gatewright.ports import Cluster, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.execution.contents import (
    WantedContent,
    content_of,
    describe_difference,
    describe_managers,
    fold_operations,
    is_whole,
    keys_set,
    list_names,
)
from gatewright.runtime.execution.secret_copies import Record, Snapshot, record_of

PLURALS = {"configmap": "configmaps", "secret": "secrets"}


def config_path(namespace: str, subject: str) -> str:
    """Return the API path of a subject `configmap/NAME` or `secret/NAME`."""
    kind, _, name = subject.partition("/")
    return api_path("v1", PLURALS[kind], namespace, name)


async def follow_config(
    cluster: Cluster, view: View, operation: Operation, snapshot: Snapshot | None
) -> Progress:
    """Return whether a ConfigMap or Secret has what an operation wants, and carries its key.

    Raises Retryable, Permanent.
    """
    path = config_path(view.namespace, operation.subject)
    now = await read_or_none(cluster, path)
    # A restore makes it again.
    if now is None and operation.kind == "restore":
        return Progress("Absent")

    if now is None:
        gone = f"{_gone_message(operation.subject)}; create it again"
        return Progress("Failed", gone, missing=True)

    if operation.kind == "restore" and snapshot is None:
        return Progress("Failed", f"there is no snapshot of {operation.subject}")

    record = (
        None if snapshot is None else await record_of(cluster, view, operation.subject, snapshot)
    )
    # What somebody has rotated during the run must not come back.
    if record is not None and is_left_alone(operation, record, now):
        return progress_left_alone(operation, record)

    is_captured = record is not None and is_never_set(operation) and record.is_kept(now)
    # A write that is not marked may be anybody's: ours may still arrive.
    if not has_key(now, operation) and not is_captured:
        return Progress("Absent")

    instead = await _describe_difference(cluster, path, [operation], snapshot, record, now)
    if instead:
        return Progress("Running", instead, stuck=True, overwritten=True)

    left = await describe_left_alone(cluster, path, operation, snapshot, now)
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
    now = await read_or_none(cluster, path)
    if now is None:
        return Standing(difference=_gone_message(last.subject))

    record = await record_of(cluster, view, last.subject, snapshot) if snapshot else None
    if record is not None and is_left_alone(last, record, now):
        return Standing(remark=progress_left_alone(last, record).message, stays=True)

    difference = await _describe_difference(cluster, path, operations, snapshot, record, now)
    return Standing(difference=difference)


async def _describe_difference(
    cluster: Cluster,
    path: str,
    operations: Sequence[Operation],
    snapshot: Snapshot | None,
    record: Record | None,
    now: Mapping[str, Any],
) -> str:
    """Return what it holds instead.

    A difference is said of a fresh answer alone: what is known of it may be a moment old.
    """
    subject = operations[-1].subject
    if is_of_kind(subject, "configmap"):
        content = fold_operations(operations, snapshot)
        if not content.differing_keys(content_of(now)):
            return ""
        fresh = await _read_managed_or_none(cluster, path)
        if fresh is None:
            return _gone_message(subject)
        return describe_difference(subject, content, fresh)

    if record is None:
        raise Permanent(f"there is no snapshot of {subject}")
    if record.is_kept(now):
        return ""

    fresh = await _read_managed_or_none(cluster, path)
    if fresh is None:
        return _gone_message(subject)

    if record.is_kept(fresh):
        return ""

    return f"{subject} does not hold what its snapshot does{describe_managers(fresh)}"


async def describe_left_alone(
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


def is_left_alone(operation: Operation, record: Record, now: Mapping[str, Any]) -> bool:
    """Return whether a Secret was changed by somebody during the run: then it is left alone."""
    if operation.kind != "restore" or not is_of_kind(operation.subject, "secret"):
        return False
    # Its author wants the old value back, whoever has rotated it.
    if (operation.config or {}).get("restore") == "Always":
        return False
    return not (record.is_kept(now) or record.is_found(now))


def is_never_set(operation: Operation) -> bool:
    """Return whether it only returns.

    No write of the run that sets it can still arrive, so that no mark has to be later.
    """
    return operation.kind == "restore" and not operation.changes


def progress_left_alone(operation: Operation, record: Record) -> Progress:
    """Return that somebody has changed a Secret during the run, or that nobody can tell."""
    why = "was changed during the run and stays as it is"
    if record.found is None:
        why = (
            "stays as it is: somebody has written it, and nobody can tell whether that was during "
            "the run, because the key of its hash is lost"
        )
    message = f"{operation.subject} {why} (restore: Always would return it)"
    return Progress("Succeeded", message, notable=True)


def _gone_message(subject: str) -> str:
    return f"{subject} is gone: somebody has deleted it"


def has_key(now: Mapping[str, Any], operation: Operation) -> bool:
    return bool((now["metadata"].get("annotations") or {}).get(KEY) == operation.key)


async def read_or_none(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return await cluster.get(path)
    except NotFound:
        return None


async def _read_managed_or_none(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return await cluster.managed(path)
    except NotFound:
        return None
