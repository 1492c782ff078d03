"""Which Releases this process knows: taken in, read anew, and forgotten when they are gone."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from gatewright.api import API_VERSION
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.runtime.background import OrphanedJobs, UnknownReleases, log_passed_over
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.lookups import HoldingWatch, Inspection
from gatewright.runtime.missed import MissedEvents
from gatewright.runtime.runtime import Runtime
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import Key, TrackedRelease

UNKNOWN_RETRY_DELAYS_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between tries to read a Release that nobody has told of."""

log = logging.getLogger("gatewright.tracking")


class Tracking:
    """Keeps `runtime.releases` as the API server has them."""

    def __init__(self, runtime: Runtime, missed: MissedEvents) -> None:
        self._runtime = runtime
        self._missed = missed
        self._orphans = OrphanedJobs(runtime.kube, runtime.releases, runtime.background)
        self._unknown = UnknownReleases(self._read_unknown, runtime.background)
        self._states: dict[Key, str] = {}
        self.acting = False
        """Whether this instance acts; the controller says so."""

    def event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event of a Release."""
        releases, queue = self._runtime.releases, self._runtime.queue
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        entry = releases.get(key)
        self._missed.forget(key)

        if kind == "DELETED":
            if entry is not None and entry.obj["metadata"]["uid"] == body["metadata"]["uid"]:
                self.on_deleted(entry)
            return

        # Deleted and made anew, and the watch has told of the new one alone.
        if entry is not None and entry.obj["metadata"]["uid"] != body["metadata"]["uid"]:
            self.on_deleted(entry)
            entry = None

        if entry is None:
            releases[key] = TrackedRelease.of(body)
            queue.add(key)
        elif _is_news(entry, body):
            queue.add(key)

    def take_over(self, key: Key, body: dict[str, Any]) -> None:
        """Take in a Release that was there before this instance acted."""
        runtime = self._runtime
        entry = TrackedRelease.of(body, listed=True, unwatched=runtime.leader.unwatched)
        runtime.releases[key] = entry
        runtime.queue.add(key)
        runtime.notifications.resume(body)
        self.count_state(key, entry.working.get("state"))

    def wake(self, key: Key) -> None:
        """Have a Release looked at; one that nobody knows is looked for.

        Its watch may be later than that of Interventions.
        """
        if key in self._runtime.releases:
            self._runtime.queue.add(key)
        else:
            self._unknown.look_for(key)

    async def reread(self, key: Key) -> None:
        """Take the object as it is now, if it is there and can be read."""
        releases = self._runtime.releases
        try:
            obj = await self._runtime.kube.get(api_path(API_VERSION, "releases", *key))
        except NotFound:
            if key in releases:
                self.on_deleted(releases[key])
            return
        except (Retryable, Permanent) as error:
            log.warning("%s/%s cannot be read: %s", *key, error, extra=about(*key))
            return

        try:
            entry = releases.get(key)
            # The name is the same, the Release is another one.
            if entry is not None and entry.obj["metadata"]["uid"] != obj["metadata"]["uid"]:
                self.on_deleted(entry)
                entry = None
            if entry is None:
                releases[key] = TrackedRelease.of(obj)
            else:
                entry.take_newer(obj)
        except Exception:
            log_passed_over("Release", key)

    def on_deleted(self, entry: TrackedRelease) -> None:
        """Forget a Release that was deleted, whether or not another one has its name by now."""
        self.forget(entry)
        if self.acting:
            self._orphans.look(entry.key[0])
        self._runtime.interventions.refuse(entry.key, "the Release was deleted")

    def forget(self, entry: TrackedRelease) -> None:
        """Stop everything that goes on for a Release."""
        runtime, key = self._runtime, entry.key

        # A new object of the same name may have taken its place: that one stays.
        if runtime.releases.get(key) is entry:
            del runtime.releases[key]

        runtime.sampler.watch(key, ())
        runtime.cached.follow(key, set())
        runtime.configs.follow(key, key[0], False)
        runtime.config_changes.follow(key, set())

        lookups: list[HoldingWatch | Inspection] = [
            *entry.lookers.values(),
            *entry.glances.values(),
        ]
        for lookup in lookups:
            if lookup.task is not None:
                lookup.task.cancel()

        for operation in entry.operations.values():
            runtime.externals.leave_operation(entry, operation)

        entry.operations.clear()
        runtime.queue.forget(key)
        self.count_state(key, None)
        runtime.claims.wake_blocked(key)
        runtime.run_memory.forget(key)

    def release_orphans(self) -> None:
        """Let the Jobs of Releases go that vanished while nobody acted; never waits."""
        for namespace in self._runtime.settings.namespaces or {""}:
            self._orphans.look(namespace)

    def count_state(self, key: Key, state: str | None) -> None:
        """Count a Release in its state; None: in none any more."""
        old = self._states.pop(key, None)
        if old is not None:
            metrics.releases.labels(old).dec()
        if state is not None:
            self._states[key] = state
            metrics.releases.labels(state).inc()

    async def _read_unknown(self, key: Key) -> None:
        """Look for a Release that was not told of: its watch may be late, or there is none."""
        runtime = self._runtime
        for delay in UNKNOWN_RETRY_DELAYS_S:
            try:
                await runtime.kube.get(api_path(API_VERSION, "releases", *key))
            except NotFound:
                reason = f"there is no Release {key[1]} in namespace {key[0]}"
                runtime.interventions.refuse(key, reason)
                return
            except (Retryable, Permanent) as error:
                log.warning("%s/%s cannot be read: %s", *key, error, extra=about(*key))
                await asyncio.sleep(delay)
                continue

            await self.reread(key)
            runtime.queue.add(key)

            return


def _is_news(entry: TrackedRelease, body: dict[str, Any]) -> bool:
    """Return whether an event tells more than the echo of our own write."""
    before = _foreign_part(entry.obj), entry.persisted
    return entry.take_newer(body) and (_foreign_part(entry.obj), entry.persisted) != before


def _foreign_part(obj: dict[str, Any]) -> tuple[Any, ...]:
    """Return what others may change about a Release."""
    meta = obj["metadata"]
    names = ("generation", "deletionTimestamp", "finalizers", "labels")
    return tuple(meta.get(name) for name in names)
