"""The parts of one instance, built once, and passed around as one.

Who knows whom is said here, and nowhere else. A part gets what it needs of the others when it is
made; what works with many of them (`reconcile`, `observe`, `tracking`) gets the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.runtime.admission_probe import AdmissionProbe
from gatewright.runtime.background import BackgroundTasks
from gatewright.runtime.claims import Claims
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.leader import Leader
from gatewright.runtime.connections import Connections
from gatewright.runtime.execution.config_watch import ConfigWatches
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.execution.resting_configs import ConfigChanges
from gatewright.runtime.followed_objects import FollowedObjects
from gatewright.runtime.freezes import Freezes
from gatewright.runtime.interventions import Interventions
from gatewright.runtime.pinned import pins_of
from gatewright.runtime.pins import Pins
from gatewright.runtime.queue import WorkQueue
from gatewright.runtime.reading import Reading
from gatewright.runtime.rescue import Rescue
from gatewright.runtime.run_memory import RunMemory
from gatewright.runtime.runbooks import Runbooks
from gatewright.runtime.sampler import Sampler
from gatewright.runtime.settings import Settings
from gatewright.runtime.telling.events import EventSender
from gatewright.runtime.telling.notifications import Notifications
from gatewright.runtime.tracked import Key, TrackedReleases

WORKER_COUNT = 16
"""Passes at a time; no namespace has more than half of them."""
URGENT_WORKER_COUNT = 4
"""Passes besides, over runs that are being undone."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of one instance."""

    kube: Kube
    leader: Leader
    settings: Settings
    releases: TrackedReleases
    queue: WorkQueue[Key]
    cached: CachedCluster
    objects: FollowedObjects
    configs: ConfigWatches
    config_changes: ConfigChanges
    probe: AdmissionProbe
    connections: Connections
    freezes: Freezes
    runbooks: Runbooks
    externals: Externals
    sampler: Sampler
    claims: Claims
    run_memory: RunMemory
    reading: Reading
    interventions: Interventions
    notifications: Notifications
    events: EventSender
    rescue: Rescue
    background: BackgroundTasks

    def is_rolling_back(self, key: Key) -> bool:
        """Return whether a run is being undone, or is asked to be: nothing goes before it."""
        return _is_rolling_back(key, self.releases, self.interventions)

    async def close(self) -> None:
        """Abandon what is under way, where it stands, as in a crash."""
        await self.background.close()
        await self.sampler.close()
        await self.externals.close()
        await self.configs.close()
        await self.config_changes.close()
        await self.connections.close()
        await self.notifications.close()
        await self.interventions.close()
        await self.probe.close()
        self.releases.clear()


def build_runtime(kube: Kube, leader: Leader, settings: Settings) -> Runtime:
    """Make all parts; none of them begins anything by that."""
    runbooks = Runbooks()
    releases = TrackedReleases(runbooks)

    def is_urgent(key: Key) -> bool:
        return _is_rolling_back(key, releases, interventions)

    def pins(key: Key) -> Pins:
        return pins_of(connections, releases.get(key))

    def config_changed(key: Key, path: str) -> None:
        entry = releases.get(key)
        if entry is not None:
            entry.resting_configs.pop(path, None)
            queue.add(key)

    queue: WorkQueue[Key] = WorkQueue(_namespace_of, is_urgent, WORKER_COUNT, URGENT_WORKER_COUNT)
    cached = CachedCluster(kube)
    objects = FollowedObjects(cached, releases, queue.add)
    probe = AdmissionProbe(kube, settings.trust_authors, settings.own_namespace)
    connections = Connections(kube, probe.connections)
    interventions = Interventions(kube, queue.add, settings.trust)
    events = EventSender(kube, settings.identity)

    return Runtime(
        kube=kube,
        leader=leader,
        settings=settings,
        releases=releases,
        queue=queue,
        cached=cached,
        objects=objects,
        configs=ConfigWatches(kube, objects.event, objects.on_watch_gap),
        config_changes=ConfigChanges(kube, settings.namespaces, config_changed),
        probe=probe,
        connections=connections,
        freezes=Freezes(),
        runbooks=runbooks,
        externals=Externals(connections, leader.fence, queue.add, pins, settings.fastest),
        sampler=Sampler(connections, queue.add, pins, settings.fastest, settings.rate),
        claims=Claims(releases, queue.add, connections, pins),
        run_memory=RunMemory(settings.specs_of_runs, queue.add),
        reading=Reading(),
        interventions=interventions,
        notifications=Notifications(connections, releases, queue.add, leader.fence),
        events=events,
        rescue=Rescue(kube, events),
        background=BackgroundTasks(),
    )


def _is_rolling_back(key: Key, releases: TrackedReleases, interventions: Interventions) -> bool:
    entry = releases.get(key)
    return entry is not None and (
        entry.phase in ("RollingBack", "Verifying") or interventions.wants_back(key)
    )


def _namespace_of(key: Key) -> str:
    return key[0]
