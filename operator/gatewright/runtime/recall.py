"""What ControllerRevisions keep of a Release: read where this process does not remember it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gatewright.core.model import (
    Needs,
    Operation,
    PinnedSpec,
    View,
)
from gatewright.core.spec.pinned_spec import pin_spec, unpin_spec
from gatewright.ports import Cluster, Permanent
from gatewright.runtime.cluster import revisions
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.externals import ReadSnapshot
from gatewright.runtime.tracked import LeftState, TrackedRelease, left_state_of


async def read_body(cluster: Cluster, entry: TrackedRelease, view: View) -> PinnedSpec:
    """The pinned body of the run under way. Raises Retryable, Permanent."""
    run = view.run
    assert run is not None
    same = _body_from_spec(view)
    try:
        data = await _read_run_revision(cluster, entry, view)
    except Permanent:
        if same is None:
            raise
        return same  # what was there before the first change is lost; where the run goes to is not
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
    """The pinned body where it is what the spec says: the spec that was parsed is shared."""
    run = view.run
    assert run is not None
    # A Retry may have pinned more than the spec says.
    repeated = any(stage.attempt > 1 for stage in run.stages)
    if view.spec is None or view.generation != run.generation or repeated:
        return None
    body = pin_spec(view.spec, run.id, _last_good_version(view))
    return body if body.hash() == run.bodyHash else None


async def _read_run_revision(
    cluster: Cluster, entry: TrackedRelease, view: View
) -> Mapping[str, Any]:
    """What the run has pinned and recorded. Raises Retryable, Permanent."""
    run = view.status.run
    assert run is not None
    data = await revisions.read_revision(cluster, view, run.revision)
    entry.snapshots, entry.connections = data["snapshots"], data.get("connections", {})
    return data


def _last_good_version(view: View) -> str | None:
    return view.status.lastGood.version if view.status.lastGood is not None else None


async def recall_live_state(cluster: Cluster, entry: TrackedRelease, view: View) -> None:
    """At rest: what was promoted, or what a rollback has left; read once a process. Raises
    Retryable."""
    live = view.status.live
    name = live.snapshot if live is not None else None
    if view.run is not None or view.deleting:
        entry.left = None
        return
    if name is None:
        entry.left = LeftState("", {})
    elif entry.left is None or entry.left.name != name:
        entry.left = await _read_left(cluster, entry, view, name)


async def _read_left(cluster: Cluster, entry: TrackedRelease, view: View, name: str) -> LeftState:
    last = view.status.run
    if (
        entry.body is not None
        and entry.snapshots is not None
        and last is not None
        and last.revision == name
    ):
        data: Mapping[str, Any] = {"body": entry.body.pinned(), "snapshots": entry.snapshots}
    else:
        try:
            data = await revisions.read_revision(cluster, view, name)
        except Permanent as error:
            return LeftState(name, {f"ControllerRevision {name}": {"lost": str(error)}})
    try:
        left = left_state_of(name, data)
    except (ValidationError, KeyError, TypeError) as error:
        return LeftState(
            name,
            {f"ControllerRevision {name}": {"lost": f"it cannot be read ({type(error).__name__})"}},
        )
    # Nothing outside the cluster is looked at while nothing is being released: no watch tells of
    # it.
    inside = {
        subject: item
        for subject, item in left.known.items()
        if not is_external(subject, item["config"])
    }
    return left._replace(known=inside)


def lost_targets(entry: TrackedRelease) -> list[tuple[str, Any]]:
    """What was promoted, where nobody can read any more what that was."""
    return [
        (name, item)
        for name, item in (entry.left.known if entry.left is not None else {}).items()
        if "lost" in item
    ]


async def promoted_snapshots(
    cluster: Cluster, entry: TrackedRelease, view: View, needs: Needs
) -> Mapping[str, Any]:
    """The last promotion's snapshots, where configuration that was captured returns to them. Raises
    Retryable."""
    captured = any(
        isinstance(config, Mapping) and config.get("captured")
        for config in needs.live_states.values()
    )
    good = view.status.lastGood
    if not captured or good is None or good.snapshot is None:
        return {}
    if entry.promoted is None or entry.promoted[0] != good.snapshot:
        try:
            data = await revisions.read_revision(cluster, view, good.snapshot)
        except Permanent:
            return {}
        entry.promoted = (good.snapshot, data["snapshots"])
    return entry.promoted[1]


async def snapshots_of_holdings(
    cluster: Cluster, entry: TrackedRelease, view: View, needs: Needs
) -> Mapping[str, Any]:
    """The snapshots that restores among the holdings stand for. Raises Retryable."""
    if view.run is None:
        return {
            name: item.get("snapshot")
            for name, item in (entry.left.known if entry.left is not None else {}).items()
        }
    restores = any(
        item.kind == "restore" for holding in needs.holdings for item in holding.operations
    )
    watched = any(holding.window is not None for holding in needs.holdings)
    return await snapshots_of(cluster, entry, view) if restores or watched else {}


def snapshot_of(
    cluster: Cluster, entry: TrackedRelease, view: View, operation: Operation
) -> ReadSnapshot:
    """How the state of an operation's subject from before the first change is read, when it is
    needed."""

    async def read() -> Any:
        return (await snapshots_of(cluster, entry, view)).get(operation.subject)

    return read


async def snapshots_of(cluster: Cluster, entry: TrackedRelease, view: View) -> Any:
    """The state of everything from before the first change. Raises Retryable, Permanent."""
    if entry.snapshots is None:
        await _read_run_revision(cluster, entry, view)
    return entry.snapshots
