"""What ControllerRevisions keep of a Release: read where this process does not remember it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from gatewright.core.model.needs import Needs
from gatewright.core.model.operation import Operation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.rest_checks import has_unverified
from gatewright.core.spec.pinned_spec import pin_spec, unpin_spec
from gatewright.ports import Cluster, Permanent
from gatewright.runtime.cluster import revisions
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.external_looks import ReadSnapshot
from gatewright.runtime.recalled import LeftState, left_state_of
from gatewright.runtime.tracked import TrackedRelease


async def recall_body(cluster: Cluster, entry: TrackedRelease, view: View) -> None:
    """Recall what the run under way has pinned. Raises Retryable, Permanent."""
    entry.recalled.take_body(await _read_body(cluster, entry, view))


async def recall_live_state(cluster: Cluster, entry: TrackedRelease, view: View) -> None:
    """Recall at rest what was promoted, or what a rollback has left; read once a process.

    Raises Retryable.
    """
    live = view.status.live
    name = live.snapshot if live is not None else None

    if view.run is not None or view.deleting:
        entry.recalled.take_left(None)
    elif name is None:
        entry.recalled.take_left(LeftState("", {}))
    elif entry.left is None or entry.left.name != name:
        entry.recalled.take_left(await _read_left(cluster, entry, view, name))


def lost_targets(entry: TrackedRelease) -> list[tuple[str, Any]]:
    """Return what was promoted, where nobody can read any more what that was."""
    return [(name, item) for name, item in _left_subjects(entry).items() if "lost" in item]


async def snapshots_of(cluster: Cluster, entry: TrackedRelease, view: View) -> Any:
    """Return the state of everything from before the first change. Raises Retryable, Permanent."""
    if entry.recalled.snapshots is None:
        await _read_run_revision(cluster, entry, view)
    return entry.recalled.snapshots


def snapshot_of(
    cluster: Cluster, entry: TrackedRelease, view: View, operation: Operation
) -> ReadSnapshot:
    """Return how the state of a subject from before the first change is read, when it is needed."""

    async def read() -> Any:
        return (await snapshots_of(cluster, entry, view)).get(operation.snapshot_name)

    return read


async def snapshots_of_holdings(
    cluster: Cluster, entry: TrackedRelease, view: View, needs: Needs
) -> Mapping[str, Any]:
    """Return the snapshots that restores among the holdings stand for. Raises Retryable."""
    if view.run is None:
        return {name: item.get("snapshot") for name, item in _left_subjects(entry).items()}

    restores = any(
        operation.kind == "restore"
        for holding in needs.holdings
        for operation in holding.operations
    )
    watched = any(holding.window is not None for holding in needs.holdings)

    return await snapshots_of(cluster, entry, view) if restores or watched else {}


async def promoted_snapshots(
    cluster: Cluster, entry: TrackedRelease, view: View, needs: Needs
) -> Mapping[str, Any]:
    """Return the last promotion's snapshots, where captured configuration returns to them.

    Raises Retryable.
    """
    captured = any(
        isinstance(config, Mapping) and config.get("captured")
        for config in needs.live_states.values()
    )
    good = view.status.lastGood
    if not captured or good is None or good.snapshot is None:
        return {}

    promoted = entry.recalled.promoted
    if promoted is not None and promoted[0] == good.snapshot:
        return promoted[1]

    try:
        data = await revisions.read_revision(cluster, view, good.snapshot)
    except Permanent:
        return {}

    snapshots: Mapping[str, Any] = data["snapshots"]
    entry.recalled.take_promoted(good.snapshot, snapshots)
    return snapshots


async def read_records(
    cluster: Cluster, view: View, names: Iterable[str]
) -> dict[str, Mapping[str, Any] | str]:
    """Return the contents of ControllerRevisions; where one cannot be read, why.

    Raises Retryable.
    """
    records: dict[str, Mapping[str, Any] | str] = {}
    for name in names:
        try:
            records[name] = await revisions.read_revision(cluster, view, name)
        except Permanent as error:
            records[name] = str(error)
    return records


async def inherited_snapshots(cluster: Cluster, view: View) -> tuple[Any, str]:
    """Return the snapshots that a failed rollback has left to the next run, and why there are none.

    None where nothing is inherited. Raises Retryable.
    """
    run = view.status.run
    if run is None or not has_unverified(view.status):
        return None, ""

    try:
        return (await revisions.read_revision(cluster, view, run.revision))["snapshots"], ""
    except Permanent as error:
        return None, str(error)


async def _read_body(cluster: Cluster, entry: TrackedRelease, view: View) -> PinnedSpec:
    run = view.run
    assert run is not None
    same = _body_from_spec(view)

    try:
        data = await _read_run_revision(cluster, entry, view)
    except Permanent:
        if same is None:
            raise
        # What was there before the first change is lost; where the run goes to is not.
        return same

    if same is not None:
        return same

    try:
        body = unpin_spec(data["body"])
    except (ValidationError, KeyError) as error:
        raise Permanent(
            f"what run {run.id} has pinned cannot be read: {type(error).__name__}"
        ) from None

    if body.hash() != run.bodyHash:
        raise Permanent(
            f"what run {run.id} has pinned is not what its status stands for; somebody "
            "else has written one of them"
        )

    return body


def _body_from_spec(view: View) -> PinnedSpec | None:
    """Return the pinned body where it is what the spec says: the spec that was parsed is shared."""
    run = view.run
    assert run is not None

    # A Retry may have pinned more than the spec says.
    repeated = any(stage.attempt > 1 for stage in run.stages)
    if view.spec is None or view.is_edited_since(run) or repeated:
        return None

    last = view.status.lastGood
    body = pin_spec(view.spec, run.id, last.version if last is not None else None)
    return body if body.hash() == run.bodyHash else None


async def _read_run_revision(
    cluster: Cluster, entry: TrackedRelease, view: View
) -> Mapping[str, Any]:
    """Return what the run has pinned and recorded. Raises Retryable, Permanent."""
    run = view.status.run
    assert run is not None
    data = await revisions.read_revision(cluster, view, run.revision)
    entry.recalled.take_run(data)
    return data


async def _read_left(cluster: Cluster, entry: TrackedRelease, view: View, name: str) -> LeftState:
    """Return what a revision says was left; one that cannot be read is said to be lost."""
    try:
        left = left_state_of(name, await _revision_data(cluster, entry, view, name))
    except Permanent as error:
        return _lost(name, str(error))
    except (ValidationError, KeyError, TypeError) as error:
        return _lost(name, f"it cannot be read ({type(error).__name__})")

    # Nothing outside the cluster is looked at while nothing is being released: no watch tells of
    # it.
    inside = {
        subject: item
        for subject, item in left.known.items()
        if not is_external(subject, item["config"])
    }
    return left._replace(known=inside)


async def _revision_data(
    cluster: Cluster, entry: TrackedRelease, view: View, name: str
) -> Mapping[str, Any]:
    """Return what a revision keeps, from memory where the last run wrote it."""
    body, snapshots, last = entry.body, entry.recalled.snapshots, view.status.run
    if body is not None and snapshots is not None and last is not None and last.revision == name:
        return {"body": body.pinned(), "snapshots": snapshots}
    return await revisions.read_revision(cluster, view, name)


def _lost(name: str, reason: str) -> LeftState:
    return LeftState(name, {f"ControllerRevision {name}": {"lost": reason}})


def _left_subjects(entry: TrackedRelease) -> Mapping[str, Any]:
    return entry.left.known if entry.left is not None else {}
