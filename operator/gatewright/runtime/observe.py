"""From needs to an observation: read what the next decision needs.

Failures become values; nothing raises but a lost API server.
"""

from __future__ import annotations

from gatewright.core.model.holding import Standing
from gatewright.core.model.needs import Needs
from gatewright.core.model.observation import Observation
from gatewright.core.model.view import View
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.runtime import clock
from gatewright.runtime.cluster.cached import UncachedReader
from gatewright.runtime.execution import handlers, live_states, standings
from gatewright.runtime.execution.resting_configs import resting_paths
from gatewright.runtime.progress import progress_by_operation
from gatewright.runtime.recall import (
    inherited_snapshots,
    lost_targets,
    promoted_snapshots,
    read_records,
    snapshots_of,
    snapshots_of_holdings,
)
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.tracked import TrackedRelease


async def observe(
    runtime: Runtime, entry: TrackedRelease, view: View, needs: Needs, rival: str | None
) -> tuple[Observation, live_states.LiveStates]:
    """Return everything that the core has asked for, and what was looked at.

    Raises Retryable where the API server does not answer.
    """
    kube, cached, externals = runtime.kube, runtime.cached, runtime.externals
    cached.follow(entry.key, _paths_of_interest(entry, view, needs))

    # Before a run and before a promotion everything is read afresh; else the watch has told of what
    # is about to be changed.
    fresh = view.run is None or view.run.phase == "Guarding"
    reader = UncachedReader(cached) if fresh else cached
    looked = await live_states.inspect_subjects(reader, externals, entry, view, needs)
    progress = await progress_by_operation(runtime, entry, view, needs)

    snapshots = await snapshots_of_holdings(kube, entry, view, needs)
    starts = bool(looked.live_states) and view.run is None
    inherited, lost = await inherited_snapshots(kube, view) if starts else (None, "")

    compared = await standings.compare_holdings(cached, externals, entry, view, needs, snapshots)
    compared |= {name: Standing(unknown=item["lost"]) for name, item in lost_targets(entry)}

    # Clocks tick in runs and in procedures.
    is_under_way = view.run is not None or procedure_under_way(view.status) is not None
    seen = Observation(
        now=clock.now(),
        body=entry.body if view.run is not None else None,
        live_states=looked.live_states,
        looking=looked.looking,
        progress=progress,
        verdicts=runtime.sampler.verdicts(entry.key),
        standings=compared,
        resting=entry.left.known if entry.left is not None else None,
        snapshots=await snapshots_of(kube, entry, view) if needs.snapshots else None,
        promoted=await promoted_snapshots(kube, entry, view, needs),
        stayed=entry.left.stayed if entry.left is not None else (),
        connections=entry.connections if view.run is not None else {},
        rival=rival,
        unwatched=entry.passes.unwatched if is_under_way else 0.0,
        delivered=entry.deliveries,
        inherited=inherited,
        lost=lost,
        kept=entry.kept,
        freezes=runtime.freezes.of(view.namespace) if view.run is None else (),
        records=await read_records(kube, view, needs.records),
    )

    return seen, looked


def _paths_of_interest(entry: TrackedRelease, view: View, needs: Needs) -> set[str]:
    """Return the paths to follow.

    They are those of what operations work on, of what is looked at or held, and of the targets
    while the run has them.
    """
    paths = {path for path in entry.claim.targets or () if path.startswith("/")}

    for operation in needs.operations:
        paths |= handlers.paths_or_none(
            view.namespace, operation.subject, handlers.config_of(operation)
        )
    for subject, config in needs.live_states.items():
        paths |= handlers.paths_or_none(view.namespace, subject, config)
    for holding in needs.holdings:
        paths |= handlers.held_paths(view.namespace, holding.subject, holding.config)
    # At rest only that they change is told, and nothing of what they hold is kept.
    return paths - resting_paths(view, needs.holdings)
