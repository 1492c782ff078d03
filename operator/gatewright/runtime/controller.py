"""All Releases of this process: the watches that tell of them, and the workers that make passes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from gatewright.api import API_VERSION, RELEASE
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.leader import Leader
from gatewright.runtime.cluster.watch import Watch, make_watches
from gatewright.runtime.intake import Intake
from gatewright.runtime.missed import MissedEvents
from gatewright.runtime.reconcile import Reconciler
from gatewright.runtime.relist import Relist
from gatewright.runtime.runtime import URGENT_WORKER_COUNT, WORKER_COUNT, build_runtime
from gatewright.runtime.settings import Settings
from gatewright.runtime.tracking import Tracking
from gatewright.runtime.workers import Workers

EVENT_SENDER_COUNT = 4
WATCH_START_TIMEOUT_S = 3.0
OWN_KINDS = tuple(
    (API_VERSION, plural, "")
    for plural in ("releases", "runbooks", "connections", "interventions", "freezes")
)
FOLLOWED_KINDS = (
    ("apps/v1", "deployments", ""),
    ("apps/v1", "statefulsets", ""),
    ("batch/v1", "jobs", RELEASE),
)
"""What Releases work on: API, plural, label selector."""

log = logging.getLogger("gatewright.controller")


class Controller:
    """The life of one instance: it takes over, acts, and stops."""

    def __init__(self, kube: Kube, leader: Leader, settings: Settings) -> None:
        self.runtime = build_runtime(kube, leader, settings)
        self.missed = MissedEvents()
        self.tracking = Tracking(self.runtime, self.missed)
        self.intake = Intake(self.runtime, self.tracking)
        self.relist = Relist(self.runtime, self.tracking, self.intake, self.missed)
        self.workers = Workers(self.runtime, self.tracking, Reconciler(self.runtime, self.tracking))
        self._tasks: list[asyncio.Task[None]] = []
        self._watches: list[Watch] = []

    async def start(self) -> None:
        """Take over: list everything, then act. Raises Retryable, Permanent."""
        runtime = self.runtime
        await self._start_watches()

        await self.relist.take_over()
        self.tracking.acting = True
        runtime.connections.look_at_all()  # some were edited or mended while no instance acted
        self.tracking.release_orphans()

        asked = sorted(runtime.settings.namespaces) or [runtime.leader.namespace]
        runtime.background.begin(runtime.interventions.announce_doubt(asked))

        for key in runtime.interventions.waiting():
            self.tracking.wake(key)

        for number in range(WORKER_COUNT + URGENT_WORKER_COUNT):
            self._begin(self.workers.run(number >= WORKER_COUNT), f"worker {number}")
        for number in range(EVENT_SENDER_COUNT):
            self._begin(runtime.events.run(), f"sender of Events {number}")
        self._begin(self.relist.run(), "the list once a minute")

        for task in self._tasks:
            task.add_done_callback(_log_task_error)

    async def stop(self) -> None:
        """Stop acting; what is under way is abandoned where it stands, as in a crash."""
        self.tracking.acting = False
        for task in self._tasks:
            task.cancel()

        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.runtime.close()

    def dead(self) -> str | None:
        """Return what does not go on, or was not told in time, if anything: a reason to restart."""
        configs, changes = self.runtime.configs, self.runtime.config_changes
        ended = self._first_ended_task() or configs.ended() or changes.ended()
        if ended:
            return f"{ended} has ended"

        late = self.missed.first_late
        silent = self._first_silent_watch() or configs.dead() or changes.dead()
        untold = silent or late(self._watches)
        return f"the watch has not told of {untold}" if untold else None

    async def _start_watches(self) -> None:
        """Begin to watch, and wait until the watches have begun.

        What is read before may have changed unseen. An API server that refuses is not waited for.
        """
        kube, namespaces = self.runtime.kube, self.runtime.settings.namespaces
        objects = self.runtime.objects
        own = make_watches(kube, namespaces, OWN_KINDS, self.intake.event, self.relist.on_watch_gap)
        followed = make_watches(
            kube, namespaces, FOLLOWED_KINDS, objects.event, objects.on_watch_gap
        )
        self._watches = own + followed
        self._tasks = []
        for watch in self._watches:
            self._begin(watch.run(), f"the watch of {watch.collection}")

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_START_TIMEOUT_S):
                await asyncio.gather(*(watch.ready.wait() for watch in self._watches))

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    def _first_ended_task(self) -> str | None:
        return next((task.get_name() for task in self._tasks if task.done()), None)

    def _first_silent_watch(self) -> str | None:
        return next(filter(None, map(Watch.dead, self._watches)), None)


def _log_task_error(task: asyncio.Task[None]) -> None:
    """Log that a task has ended that is to go on for ever."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("%s has ended", task.get_name(), exc_info=error)
