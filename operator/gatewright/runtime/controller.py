"""All Releases of this process: what the watches tell, and the workers that make passes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import Any, NamedTuple

from gatewright.api import API_VERSION, RELEASE
from gatewright.core.model import Delivery
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.runtime import costs
from gatewright.runtime.admission_probe import AdmissionProbe
from gatewright.runtime.background import (
    BackgroundTasks,
    OrphanedJobs,
    UnknownReleases,
    log_passed_over,
)
from gatewright.runtime.claims import Claims
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.leader import Leader
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.watch import Watch, make_watches
from gatewright.runtime.cluster.wire import METADATA_ONLY
from gatewright.runtime.connections import Connections
from gatewright.runtime.execution.config_watch import ConfigWatches
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.interventions import Interventions
from gatewright.runtime.lookups import HoldingWatch, Inspection
from gatewright.runtime.pinned import pins_of
from gatewright.runtime.pins import Pins
from gatewright.runtime.queue import WorkQueue
from gatewright.runtime.reading import Reading
from gatewright.runtime.reconcile import Reconciler
from gatewright.runtime.rescue import Rescue
from gatewright.runtime.run_memory import RunMemory
from gatewright.runtime.sampler import Sampler
from gatewright.runtime.settings import Settings
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.events import EventSender
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.telling.notifications import Notifications
from gatewright.runtime.tracked import Key, TrackedRelease, TrackedReleases
from gatewright.runtime.workers import RETRY_DELAYS_S, Workers

WORKER_COUNT = 16
"""Passes at a time; no namespace has more than half of them."""
URGENT_WORKER_COUNT = 4
"""Passes besides, over runs that are being undone."""
EVENT_SENDER_COUNT = 4
RELIST_INTERVAL_S = 60.0
MISSED_EVENT_TIMEOUT_S = 45.0
WATCH_START_TIMEOUT_S = 3.0
OWN_KINDS = tuple(
    (API_VERSION, plural, "") for plural in ("releases", "connections", "interventions")
)
FOLLOWED_KINDS = (
    ("apps/v1", "deployments", ""),
    ("apps/v1", "statefulsets", ""),
    ("batch/v1", "jobs", RELEASE),
)
"""What Releases work on: API, plural, label selector."""

log = logging.getLogger("gatewright.controller")


class _Missed(NamedTuple):
    """A change that a list has shown before its watch has told of it."""

    since: float
    version: int


class Controller:
    """All Releases of this process."""

    def __init__(self, kube: Kube, leader: Leader, settings: Settings) -> None:
        self.kube = kube
        self.leader = leader
        self.entries = TrackedReleases()
        self.queue: WorkQueue[Key] = WorkQueue(
            _namespace_of, self._is_rolling_back, WORKER_COUNT, URGENT_WORKER_COUNT
        )

        self.lens = CachedCluster(kube)
        self.probe = AdmissionProbe(kube, settings.trust_authors, settings.own_namespace)
        self.links = Connections(kube, self.probe.connections)
        self.outbox = EventSender(kube, settings.identity)
        self.notices = Notifications(self.links, self._on_delivered, leader.fence)
        self.people = Interventions(kube, self.queue.add, settings.trust)
        self.sampler = Sampler(
            self.links, self.queue.add, self._pins_of, settings.fastest, settings.rate
        )
        self.outside = Externals(
            self.links, leader.fence, self.queue.add, self._pins_of, settings.fastest
        )

        self.claims = Claims(self.entries, self.queue.add, self.links, self._pins_of)
        self.run_memory = RunMemory(settings.specs_of_runs, self.queue.add)
        self.run_beside = BackgroundTasks()
        self.orphans = OrphanedJobs(kube, self.entries, self.run_beside)
        self.reading = Reading()
        self.strangers = UnknownReleases(self._read_unknown, self.run_beside)
        self.configs = ConfigWatches(kube, self.object_event, self._on_watch_gap)

        self.passes = Reconciler(
            kube,
            self.lens,
            self.links,
            self.outside,
            self.sampler,
            self.people,
            self.outbox,
            self.claims,
            self.run_memory,
            self.configs,
            self.probe,
            self.queue,
            forget=self._forget_release,
            count=self._count_state,
            rescue=Rescue(kube, self.outbox),
        )
        self.workers = Workers(
            self.entries,
            self.queue,
            self.passes,
            self.people,
            self.notices,
            self.reading,
            is_urgent=self._is_rolling_back,
            reread=self._reread_release,
        )

        self._namespaces = settings.namespaces
        self._tasks: list[asyncio.Task[None]] = []
        self._watches: list[Watch] = []
        self._acting = False
        self._missed: dict[Key, _Missed] = {}
        self._states: dict[Key, str] = {}

    # What the watches tell

    def release_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of a Release."""
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        entry = self.entries.get(key)
        self._missed.pop(key, None)

        if kind == "DELETED":
            if entry is not None and entry.obj["metadata"]["uid"] == body["metadata"]["uid"]:
                self._on_deleted(entry)
            return

        # Deleted and made anew, and the watch has told of the new one alone.
        if entry is not None and entry.obj["metadata"]["uid"] != body["metadata"]["uid"]:
            self._on_deleted(entry)
            entry = None

        if entry is None:
            self.entries[key] = TrackedRelease.of(body)
            self.queue.add(key)
        elif self._is_news(entry, body):
            self.queue.add(key)

    def connection_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of a Connection; check a new one at once."""
        place = body["metadata"]["namespace"], body["metadata"]["name"]
        before = self.links.said_of(place)
        new = self.links.event(kind, body)

        # Before the take-over nobody acts: `start` looks at all Connections when they are listed.
        if not self._acting:
            return

        if new:
            self.links.look(*place)

        # Annotations, or who wrote which field: nothing that a waiting Release could go on by.
        if self.links.said_of(place) == before:
            return

        for entry in self.entries.of(body["metadata"]["namespace"]):
            if entry.working.get("state") == "Waiting":
                self.queue.add(entry.key)

    def _pins_of(self, key: Key) -> Pins:
        return pins_of(self.links, self.entries.get(key))

    def intervention_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of an Intervention: somebody asks something, or was answered."""
        key = self.people.event(kind, body)
        if key is not None and self._acting:
            self._enqueue_or_find(key)

    def _enqueue_or_find(self, key: Key) -> None:
        # Its watch may be later than that of Interventions.
        if key in self.entries:
            self.queue.add(key)
        else:
            self.strangers.look_for(key)

    async def _read_unknown(self, key: Key) -> None:
        """Look for a Release that was not told of: its watch may be late, or there is none."""
        for delay in RETRY_DELAYS_S:
            try:
                await self.kube.get(api_path(API_VERSION, "releases", *key))
            except NotFound:
                self.people.refuse(key, f"there is no Release {key[1]} in namespace {key[0]}")
                return
            except (Retryable, Permanent) as error:
                log.warning("%s/%s cannot be read: %s", *key, error, extra=about(*key))
                await asyncio.sleep(delay)
                continue

            await self._reread_release(key)
            self.queue.add(key)

            return

    def object_event(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        """Take in a watch event of a workload or Job, and wake the Releases that wait for it."""
        for key in self.lens.event(api_path, kind, body):
            entry = self.entries.get(key)
            if entry is not None and entry.is_concerned_by(api_path, kind, body):
                self.queue.add(key)

    def _own_object_event(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        meta = body["metadata"]
        with costs.spent(partial(self.queue.charge, (meta["namespace"], meta["name"]))):
            self._take_in(api_path, kind, body)

    def _take_in(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        if "/connections/" in api_path:
            self.connection_event(kind, body)
        elif "/interventions/" in api_path:
            self.intervention_event(kind, body)
        else:
            self.release_event(kind, body)

    def _on_own_watch_gap(self, part: str) -> None:
        """List anew after a gap in a watch of what people write.

        What has vanished or changed meanwhile is told by nobody else.
        """
        if self._acting:
            self.run_beside.begin(
                self._relist_safely(gap=True, connections=part == "/connections/")
            )

    def _on_watch_gap(self, part: str) -> None:
        for key in self.lens.doubt(part):
            self.queue.add(key)

    def _is_news(self, entry: TrackedRelease, body: dict[str, Any]) -> bool:
        """Return whether an event tells more than the echo of our own write."""
        before = _foreign_part(entry.obj), entry.persisted
        return entry.take_newer(body) and (_foreign_part(entry.obj), entry.persisted) != before

    # Life

    async def start(self) -> None:
        """Take over: list everything, then act.

        The list comes first, so that no two runs can claim one target.
        """
        loop = asyncio.get_running_loop()
        own = make_watches(
            self.kube, self._namespaces, OWN_KINDS, self._own_object_event, self._on_own_watch_gap
        )
        self._watches = own + make_watches(
            self.kube, self._namespaces, FOLLOWED_KINDS, self.object_event, self._on_watch_gap
        )
        self._tasks = [
            loop.create_task(watch.run(), name=f"the watch of {watch.collection}")
            for watch in self._watches
        ]

        # What is read before a watch has begun may have changed unseen. An API server that refuses
        # is not waited for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_START_TIMEOUT_S):
                await asyncio.gather(*(watch.ready.wait() for watch in self._watches))

        await self.relist(first=True)
        self._acting = True
        self.links.look_at_all()  # some were edited or mended while no instance acted

        for namespace in self._namespaces or {""}:
            self.orphans.look(namespace)

        self.run_beside.begin(
            self.people.announce_doubt(sorted(self._namespaces) or [self.leader.namespace])
        )

        for key in self.people.waiting():
            self._enqueue_or_find(key)

        self._tasks += [
            loop.create_task(self.workers.run(number >= WORKER_COUNT), name=f"worker {number}")
            for number in range(WORKER_COUNT + URGENT_WORKER_COUNT)
        ]
        self._tasks += [
            loop.create_task(self.outbox.run(), name=f"sender of Events {number}")
            for number in range(EVENT_SENDER_COUNT)
        ]
        self._tasks.append(loop.create_task(self._relist_forever(), name="the list once a minute"))

        for task in self._tasks:
            task.add_done_callback(_log_task_error)

    async def stop(self) -> None:
        """Stop acting; what is under way is abandoned where it stands, as in a crash."""
        self._acting = False
        for task in self._tasks:
            task.cancel()

        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.run_beside.close()
        await self.sampler.close()
        await self.outside.close()
        await self.configs.close()
        await self.links.close()
        await self.notices.close()
        await self.people.close()
        await self.probe.close()
        self.entries.clear()

    def dead(self) -> str | None:
        """Return what does not go on, or was not told in time, if anything: a reason to restart."""
        ended = self._first_ended_task() or self.configs.ended()
        if ended:
            return f"{ended} has ended"

        untold = self._first_silent_watch() or self.configs.dead() or self._first_late_release()
        return f"the watch has not told of {untold}" if untold else None

    def _first_ended_task(self) -> str | None:
        return next((task.get_name() for task in self._tasks if task.done()), None)

    def _first_silent_watch(self) -> str | None:
        return next(filter(None, map(Watch.dead, self._watches)), None)

    def _first_late_release(self) -> str | None:
        now = time.monotonic()
        for key, missed in self._missed.items():
            if self._is_late(key, missed, now):
                return f"{key[0]}/{key[1]}"
        return None

    def _is_late(self, key: Key, missed: _Missed, now: float) -> bool:
        """Return whether a watch has not told of a change for too long.

        One that has begun anew since never will.
        """
        collections = [api_path(API_VERSION, "releases", namespace) for namespace in ("", key[0])]
        skipped = any(
            watch.collection in collections and watch.has_skipped(missed.version)
            for watch in self._watches
        )
        return now - missed.since > MISSED_EVENT_TIMEOUT_S and not skipped

    async def relist(self, first: bool = False, gap: bool = False) -> None:
        """Find what the watch did not tell: vanished Releases, and unseen changes.

        `first`: take over all of them, as they are; else metadata alone are compared. `gap`: the
        watch has begun anew, and will never tell of what happened meanwhile; else it must, and
        soon.
        """
        accept = "application/json" if first else METADATA_ONLY

        if first:
            self.entries.clear()
            await self._list_connections()
            await self._list_interventions()

        # One that is made while the list is read is not in it.
        before = set(self.entries)

        listed: set[Key] = set()

        for namespace in self._namespaces or {""}:
            collection = api_path(API_VERSION, "releases", namespace)
            async for item in self.kube.each(collection, accept=accept):
                key = (item["metadata"]["namespace"], item["metadata"]["name"])
                listed.add(key)
                try:
                    if first:
                        self._take_over(key, item)
                    else:
                        await self._compare_listed(key, item, gap)
                except Exception:
                    log_passed_over("Release", key)

        for key in (before - listed) & set(self.entries):
            self._on_deleted(self.entries[key])

        # They are gone: nobody will ever tell of what they were before.
        for key in self._missed.keys() - listed:
            del self._missed[key]

    async def _list_interventions(self) -> None:
        try:
            await self.people.relist(self._namespaces or {""}, first=True)
        except (Retryable, Permanent):
            raise
        except Exception:
            # What was not read to the end is told by its watch, or found by the next list.
            metrics.pass_errors.inc()
            log.exception("not all Interventions were taken in")

    def _take_over(self, key: Key, item: dict[str, Any]) -> None:
        entry = self.entries[key] = TrackedRelease.of(item)
        entry.listed = True
        self.queue.add(key)
        # The clocks of a run that was under way leave out the time in which nobody acted.
        entry.unwatched = self.leader.unwatched if entry.claims is None else 0.0
        self.notices.resume(item)
        self._count_state(key, entry.working.get("state"))

    async def _compare_listed(self, key: Key, item: dict[str, Any], gap: bool) -> None:
        entry = self.entries.get(key)
        version = int(item["metadata"]["resourceVersion"])

        if gap:
            self._missed.pop(key, None)

        # The watch was faster than the list.
        if entry is not None and entry.version >= version:
            return

        if not gap:
            self._missed.setdefault(key, _Missed(time.monotonic(), version))

        await self._reread_release(key)

        entry = self.entries.get(key)
        # Nobody knows that it is there still, or nothing can be made of it.
        if entry is None or entry.version < version:
            self._missed.pop(key, None)

        self.queue.add(key)

    async def _list_connections(self) -> None:
        """Take in all Connections, before the first measurement.

        A Connection that was not told of yet would look like one that is not there.
        """
        listed: set[Key] = set()

        for namespace in self._namespaces or {""}:
            async for item in self.kube.each(api_path(API_VERSION, "connections", namespace)):
                key = (item["metadata"]["namespace"], item["metadata"]["name"])
                listed.add(key)
                try:
                    self.connection_event(None, item)
                except Exception:
                    log_passed_over("Connection", key)

        self.links.forget_vanished(listed)

    async def _relist_forever(self) -> None:
        while True:
            await asyncio.sleep(RELIST_INTERVAL_S)
            self.reading.forget_full(time.monotonic())
            await self._relist_safely(connections=self.links.left_out)

    async def _relist_safely(self, gap: bool = False, connections: bool = False) -> None:
        try:
            if connections:
                await self._list_connections()
            await self.relist(gap=gap)
            for key in await self.people.relist(self._namespaces or {""}):
                self._enqueue_or_find(key)
        except (Retryable, Permanent) as error:
            log.warning("the list of Releases could not be read: %s", error)
        except Exception:
            metrics.pass_errors.inc()
            log.exception(
                "what the watches have not told was not found out; the next list finds it"
            )

    def _on_deleted(self, entry: TrackedRelease) -> None:
        """Forget a Release that was deleted, whether or not another one has its name by now."""
        self._forget_release(entry)
        if self._acting:
            self.orphans.look(entry.key[0])
        self.people.refuse(entry.key, "the Release was deleted")

    def _forget_release(self, entry: TrackedRelease) -> None:
        key = entry.key

        # A new object of the same name may have taken its place: that one stays.
        if self.entries.get(key) is entry:
            del self.entries[key]

        self.sampler.watch(key, ())
        self.lens.follow(key, set())
        self.configs.follow(key, key[0], False)

        lookups: list[HoldingWatch | Inspection] = [
            *entry.lookers.values(),
            *entry.glances.values(),
        ]
        for lookup in lookups:
            if lookup.task is not None:
                lookup.task.cancel()

        for operation in entry.operations.values():
            self.outside.leave_operation(entry, operation)

        entry.operations.clear()
        self.queue.forget(key)
        self._count_state(key, None)
        self.claims.wake_blocked(key)
        self.run_memory.forget(key)

    # What the workers ask

    def _is_rolling_back(self, key: Key) -> bool:
        """Return whether a run is being undone, or is asked to be: nothing goes before it."""
        entry = self.entries.get(key)
        return entry is not None and (
            entry.phase in ("RollingBack", "Verifying") or self.people.wants_back(key)
        )

    def _on_delivered(
        self, key: Key, uid: str, notice: tuple[str, str], delivery: Delivery
    ) -> None:
        """Note that a notification was delivered, or given up; the next status write says so."""
        entry = self.entries.get(key)
        if entry is not None and entry.obj["metadata"]["uid"] == uid:
            entry.deliveries[notice] = delivery
            self.queue.add(key)

    async def _reread_release(self, key: Key) -> None:
        """Take the object as it is now, if it is there and can be read."""
        try:
            obj = await self.kube.get(api_path(API_VERSION, "releases", *key))
        except NotFound:
            if key in self.entries:
                self._on_deleted(self.entries[key])
            return
        except (Retryable, Permanent) as error:
            log.warning("%s/%s cannot be read: %s", *key, error, extra=about(*key))
            return

        try:
            entry = self.entries.get(key)
            # The name is the same, the Release is another one.
            if entry is not None and entry.obj["metadata"]["uid"] != obj["metadata"]["uid"]:
                self._on_deleted(entry)
                entry = None
            if entry is None:
                self.entries[key] = TrackedRelease.of(obj)
            else:
                entry.take_newer(obj)
        except Exception:
            log_passed_over("Release", key)

    def _count_state(self, key: Key, state: str | None) -> None:
        old = self._states.pop(key, None)
        if old is not None:
            metrics.releases.labels(old).dec()
        if state is not None:
            self._states[key] = state
            metrics.releases.labels(state).inc()


def _log_task_error(task: asyncio.Task[None]) -> None:
    """Log that a task has ended that is to go on for ever."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("%s has ended", task.get_name(), exc_info=error)


def _namespace_of(key: Key) -> str:
    return key[0]


def _foreign_part(obj: dict[str, Any]) -> tuple[Any, ...]:
    """Return what others may change about a Release."""
    meta = obj["metadata"]
    return meta.get("generation"), meta.get("deletionTimestamp"), meta.get("finalizers")
