"""Start the operations of a decision, and note what became of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.execution import handlers
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.recall import snapshot_of, snapshots_of
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.tracked import TrackedRelease


async def start_operations(
    runtime: Runtime, entry: TrackedRelease, view: View, operations: list[Operation]
) -> bool:
    """Start operations; return whether the next decision may be another one at once."""
    if not operations:
        return False
    if entry.status.is_unwritten:
        raise Retryable("an effect was decided whose intent is not written; the pass is repeated")

    undoing = entry.phase == "RollingBack"

    in_cluster = []

    for operation in operations:
        if is_external(operation.subject, operation.config):
            snapshot = snapshot_of(runtime.kube, entry, view, operation)
            final = _finality_of(entry, undoing)
            runtime.externals.begin(entry, view, operation, snapshot, final)
        else:
            in_cluster.append(operation)

    # What is outside the cluster goes on by itself, and wakes the Release when it has news.
    if not in_cluster:
        return False

    results = await _perform_operations(runtime, entry, view, in_cluster)
    for operation, result in zip(in_cluster, results, strict=True):
        _record_result(entry, operation, result, undoing)

    for result in results:
        _raise_if_pass_ends(result, undoing)

    return True


async def _perform_operations(
    runtime: Runtime, entry: TrackedRelease, view: View, operations: list[Operation]
) -> list[Progress | BaseException]:
    """Perform operations in the cluster, all at once; return what became of each."""
    snapshots: Mapping[str, Any] = {}

    if any(operation.kind == "restore" for operation in operations):
        snapshots = await snapshots_of(runtime.kube, entry, view)

    for operation in operations:
        config = handlers.config_of(operation)
        paths = handlers.paths_or_none(view.namespace, operation.subject, config)
        runtime.cached.follow_too(entry.key, paths)

    return await asyncio.gather(
        *(
            handlers.perform_operation(
                runtime.cached, view, operation, snapshots.get(operation.snapshot_name)
            )
            for operation in operations
        ),
        return_exceptions=True,
    )


def _record_result(
    entry: TrackedRelease, operation: Operation, result: Progress | BaseException, undoing: bool
) -> None:
    """Remember what became of an operation that was begun in the cluster."""
    before = entry.operations.get(operation.id)

    if isinstance(result, Progress):
        overwritten = before.overwritten if before is not None else 0
        entry.operations[operation.id] = OperationState(
            result, time.monotonic(), overwritten=overwritten
        )
    elif isinstance(result, LeaseLost | Conflict) or not isinstance(result, Permanent | Retryable):
        # Nobody knows: the next pass looks before it tries again.
        entry.operations.pop(operation.id, None)
    elif undoing and not _is_final(entry, result):
        # A rollback goes on trying: a refusal may be gone in a moment.
        refusals = before.refusals if before is not None else 0
        state = OperationState(Progress("Unknown"), refusals=refusals)
        entry.operations[operation.id] = state
        state.refused(str(result))
    elif isinstance(result, Permanent):
        entry.operations[operation.id] = OperationState(
            Progress("Failed", str(result)), time.monotonic()
        )
    else:
        entry.operations.pop(operation.id, None)


def _raise_if_pass_ends(result: Progress | BaseException, undoing: bool) -> None:
    """Raise an error that ends the pass: one that is neither final nor tried again by itself."""
    if isinstance(result, Progress | Permanent):
        return
    if undoing and isinstance(result, Retryable) and not isinstance(result, LeaseLost | Conflict):
        return
    raise result


def _finality_of(entry: TrackedRelease, undoing: bool) -> Callable[[Exception], bool]:
    """Return how to know whether a refusal outside the cluster ends an operation.

    On the way back it does not, as long as there is a way.
    """

    def final(error: Exception) -> bool:
        return isinstance(error, Permanent) and (not undoing or _is_final(entry, error))

    return final


def _is_final(entry: TrackedRelease, error: Exception) -> bool:
    """Return whether a refusal on the way back is the last word.

    A Release that is deleted with its namespace waits for nothing.
    """
    entry.terminating = entry.terminating or "being terminated" in str(error)
    deleting = "deletionTimestamp" in entry.obj["metadata"]
    return deleting and (isinstance(error, NotFound) or entry.terminating)
