"""Start the operations of a decision, and note what became of each."""

from __future__ import annotations

import time
from collections.abc import Callable

from gatewright.core.model import Operation, Progress
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.tracked import TrackedRelease


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
    elif undoing and not is_final(entry, result):
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
        return isinstance(error, Permanent) and (not undoing or is_final(entry, error))

    return final


def is_final(entry: TrackedRelease, error: Exception) -> bool:
    """Whether a refusal on the way back is the last word: a Release that is deleted with its
    namespace waits for nothing."""
    entry.terminating = entry.terminating or "being terminated" in str(error)
    deleting = "deletionTimestamp" in entry.obj["metadata"]
    return deleting and (isinstance(error, NotFound) or entry.terminating)
