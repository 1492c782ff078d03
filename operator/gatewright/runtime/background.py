"""What goes on beside the passes, and what of it is bounded.

Anybody may delete, or ask, as often as he likes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gatewright.ports import Permanent, Retryable
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.execution import jobs
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling import metrics
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import Key, TrackedReleases

UNKNOWN_RELEASES_AT_ONCE = 2
"""Releases of a namespace that are looked for at a time, because somebody asks something of them
and nobody knows them."""

log = logging.getLogger("gatewright.background")


def log_passed_over(kind: str, key: Key) -> None:
    """Log that nothing can be made of an object, where the exception is handled.

    The others are still served.
    """
    metrics.pass_errors.inc()
    log.exception("%s %s/%s is passed over: it cannot be taken in", kind, *key, extra=about(*key))


class BackgroundTasks:
    """Tasks that nobody waits for; one that fails says so."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Go on with it beside everything else, until it ends or this process stops acting."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    async def close(self) -> None:
        """End all of it."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            metrics.pass_errors.inc()
            log.error("work beside the passes has failed", exc_info=error)


class OrphanedJobs:
    """Jobs of Releases that are gone.

    One list lets them go, however many Releases a namespace has lost meanwhile.
    """

    def __init__(self, kube: Kube, entries: TrackedReleases, aside: BackgroundTasks) -> None:
        self._kube, self._entries, self._aside = kube, entries, aside
        self._wanted: dict[str, bool] = {}
        """Namespaces whose Jobs are being listed, and whether they have to be once more."""

    def look(self, namespace: str) -> None:
        """Let the Jobs of a namespace go in the background; no namespace: in all of them."""
        begun = namespace in self._wanted
        self._wanted[namespace] = True
        if not begun:
            self._aside.begin(self._release_jobs(namespace))

    async def _release_jobs(self, namespace: str) -> None:
        try:
            # Once more for the Releases that went while the Jobs were being listed.
            while self._wanted[namespace]:
                self._wanted[namespace] = False
                entries = self._entries.of(namespace) if namespace else self._entries.values()
                uids = {entry.obj["metadata"]["uid"] for entry in entries}
                await jobs.release_orphans(self._kube, namespace, uids)
        except (Retryable, Permanent) as error:
            log.warning(
                "Jobs of deleted Releases are held for now: %s", error, extra=about(namespace)
            )
        finally:
            del self._wanted[namespace]


class UnknownReleases:
    """Releases that somebody asks something of and nobody was told of.

    Each is looked for once at a time, and few of a namespace at once.
    """

    def __init__(self, look: Callable[[Key], Awaitable[None]], aside: BackgroundTasks) -> None:
        self._look, self._aside = look, aside
        self._keys: set[Key] = set()
        self._shares = NamespaceLimits(UNKNOWN_RELEASES_AT_ONCE)

    def look_for(self, key: Key) -> None:
        """Look in the background."""
        if key not in self._keys:
            self._keys.add(key)
            self._aside.begin(self._look_once(key))

    async def _look_once(self, key: Key) -> None:
        try:
            async with self._shares.of(key[0]):
                await self._look(key)
        finally:
            self._keys.discard(key)
