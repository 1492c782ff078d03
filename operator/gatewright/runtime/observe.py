"""From needs to an observation: reads what is needed; failures become values, nothing raises but a
lost API server."""

from __future__ import annotations

from gatewright.core.model import (
    Needs,
    Observation,
    Standing,
    View,
)
from gatewright.core.run.situations import has_unverified
from gatewright.ports import Cluster, Permanent
from gatewright.runtime import clock
from gatewright.runtime.cluster import revisions
from gatewright.runtime.cluster.cached import CachedCluster, UncachedReader
from gatewright.runtime.execution import handlers, live_states, standings
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.progress import progress_by_operation
from gatewright.runtime.recall import (
    lost_targets,
    promoted_snapshots,
    snapshots_of,
    snapshots_of_holdings,
)
from gatewright.runtime.sampler import Sampler
from gatewright.runtime.tracked import TrackedRelease


async def observe(
    cluster: Cluster,
    lens: CachedCluster,
    outside: Externals,
    sampler: Sampler,
    entry: TrackedRelease,
    view: View,
    needs: Needs,
    rival: str | None,
) -> tuple[Observation, live_states.LiveStates]:
    """Everything the core asked for, and what was looked at. Raises Retryable where the API server
    does not answer."""
    lens.follow(entry.key, _paths_of_interest(entry, view, needs))
    # Before a run and before a promotion everything is read afresh; else the watch has told of what
    # is about to be changed.
    fresh = view.run is None or view.run.phase == "Guarding"
    looked = await live_states.inspect_subjects(
        UncachedReader(lens) if fresh else lens, outside, entry, view, needs
    )
    progress = await progress_by_operation(cluster, lens, outside, entry, view, needs)
    snapshots = await snapshots_of_holdings(cluster, entry, view, needs)
    starts = bool(looked.live_states) and view.run is None
    inherited, lost = None, ""
    if starts and has_unverified(view.status) and view.status.run is not None:
        try:
            inherited = (await revisions.read_revision(cluster, view, view.status.run.revision))[
                "snapshots"
            ]
        except Permanent as error:
            lost = str(error)
    compared = await standings.compare_holdings(lens, outside, entry, view, needs, snapshots)
    compared |= {name: Standing(unknown=item["lost"]) for name, item in lost_targets(entry)}
    seen = Observation(
        now=clock.now(),
        body=entry.body if view.run is not None else None,
        live_states=looked.live_states,
        looking=looked.looking,
        progress=progress,
        verdicts=sampler.verdicts(entry.key),
        standings=compared,
        resting=entry.left.known if entry.left is not None else None,
        snapshots=await snapshots_of(cluster, entry, view) if needs.snapshots else None,
        promoted=await promoted_snapshots(cluster, entry, view, needs),
        stayed=entry.left.stayed if entry.left is not None else (),
        connections=entry.connections if view.run is not None else {},
        rival=rival,
        unwatched=entry.unwatched if view.run is not None else 0.0,
        delivered=entry.deliveries,
        inherited=inherited,
        lost=lost,
        kept=entry.kept,
    )
    return seen, looked


def _paths_of_interest(entry: TrackedRelease, view: View, needs: Needs) -> set[str]:
    """Paths to follow: what operations work on, what is looked at or held, and the targets while
    the run has them."""
    found = {path for path in entry.claims or () if path.startswith("/")}
    for operation in needs.operations:
        found |= handlers.paths_or_none(
            view.namespace, operation.subject, handlers.config_of(operation)
        )
    for subject, config in needs.live_states.items():
        found |= handlers.paths_or_none(view.namespace, subject, config)
    for holding in needs.holdings:
        found |= handlers.held_paths(view.namespace, holding.subject, holding.config)
    return found
